"""Spans and metrics of one run of a batch.

Each job begins a trace of its own, linked to the span of the run: a trace of a hundred thousand jobs could be neither
stored nor shown.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from attrs import define
from opentelemetry.context import Context
from opentelemetry.trace import Link, get_current_span

from veriff_async._telemetry.instrumentation import SESSION_ID, describe_span, error_type

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from opentelemetry.util.types import AttributeValue

    from veriff_async._telemetry.instrumentation import Instrumentation

__all__ = ("BatchTelemetry", "JobReport")

_STATE: Final = "veriff.batch.job.state"
_PRESENT: Final = ("running", "waiting")


@define
class JobReport:
    """One job of a run.

    Attributes:
        state: The state in which it ended; ``None`` if an earlier run had finished it.
        session_id: Its session, if it has one.
    """

    state: str | None = None
    session_id: str | None = None


class BatchTelemetry:
    """One run of a batch."""

    def __init__(self, instrumentation: Instrumentation) -> None:
        """Export nothing yet."""
        self._instrumentation = instrumentation
        self._instruments = instrumentation.instruments

    @contextmanager
    def run(self, observe: Callable[[], Mapping[str, float]]) -> Generator[None]:
        """Run a batch in a span, and export its load, which `observe` returns."""
        self._instruments.add_source(observe)
        try:
            with self._instrumentation.span("veriff.batch"):
                yield
        finally:
            self._instruments.remove_source(observe)

    @contextmanager
    def job(self) -> Generator[JobReport]:
        """Run a job in a span, and record how long it took."""
        started, report = time.monotonic(), JobReport()
        attributes: dict[str, AttributeValue] = {}
        links = (Link(get_current_span().get_span_context()),)
        with self._instrumentation.span("veriff.batch.job", links=links, parent=Context()) as span:
            try:
                yield report
            except BaseException as error:
                attributes["error.type"] = error_type(error)
                raise
            finally:
                if report.state is not None:
                    attributes[_STATE] = report.state
                    self._instruments.record("veriff.batch.job.duration", time.monotonic() - started, attributes)
                session = {} if report.session_id is None else {SESSION_ID: report.session_id}
                describe_span(span, {**attributes, **session})

    def on_change(self, changes: Mapping[str, int]) -> None:
        """Count jobs in progress."""
        for state in _PRESENT:
            if state in changes:
                self._instruments.add("veriff.batch.jobs", changes[state], {_STATE: state})
