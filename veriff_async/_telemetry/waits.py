"""Spans and metrics of the waits, polls and submissions of one client.

A wait may end in another process than the one that submitted the session, or after a restart. So each submission is
stored in the inbox as a text (see submission.py), and every wait links to the trace that it names. Without such an
inbox, the client remembers the submissions of its own sessions.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, cast

from attrs import define

from veriff_async._telemetry.instrumentation import SESSION_ID, describe_span, error_type, status_label
from veriff_async._telemetry.submission import dump_submission, links_to, submission_time
from veriff_async.models.decision_source import DecisionSource

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Generator

    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

    from veriff_async._telemetry.instrumentation import Instrumentation
    from veriff_async._telemetry.instruments import Instruments
    from veriff_async.models.decision import Decision
    from veriff_async.models.state import SessionState

__all__ = ("Wait", "WaitTelemetry", "record_decision")

_STATUS: Final = "veriff.decision.status"
_SOURCE: Final = "veriff.decision.source"

# Submissions remembered. A decision may take days; an entry takes about 500 bytes.
_MAX_SUBMISSIONS: Final = 20_000


@define(eq=False, weakref_slot=False)
class Wait:
    """One wait for a decision.

    Attributes:
        span: Its span.
        decision: Its result.
        submission: The submission of the session, once it is known.
        recorded_at: When the result was recorded, in seconds since 1970.
    """

    span: Span
    decision: Decision | None = None
    submission: str | None = None
    recorded_at: float | None = None


class WaitTelemetry:
    """The waits of one client."""

    def __init__(self, instrumentation: Instrumentation) -> None:
        """Start without submissions."""
        self._instrumentation = instrumentation
        self._instruments = instrumentation.instruments
        self._submissions: OrderedDict[str, str] = OrderedDict()

    @property
    def is_live(self) -> bool:
        """Whether spans or metrics go anywhere."""
        return self._instrumentation.is_live

    def background_context(self, wait: Wait | None = None) -> contextvars.Context:
        """Return the context of a background task; a poll is a child of a wait."""
        return self._instrumentation.background_context(None if wait is None else wait.span)

    def add_submission(self, session_id: str, *, is_submitted: bool) -> str:
        """Remember that a session is created or submitted in the current trace, and return the text for the inbox."""
        text = dump_submission(time.time() if is_submitted else None)
        self._submissions[session_id] = text
        self._submissions.move_to_end(session_id)
        if len(self._submissions) > _MAX_SUBMISSIONS:
            self._submissions.popitem(last=False)
        return text

    def submission_of(self, session_id: str) -> str | None:
        """Return the text of a submission by this process."""
        return self._submissions.get(session_id)

    @contextmanager
    def span(self, name: str, session_id: str) -> Generator[None]:
        """Run a block about a session in a span."""
        with self._instrumentation.span(name, {SESSION_ID: session_id}):
            yield

    @contextmanager
    def wait(self, session_id: str) -> Generator[Wait]:
        """Run a wait in a span, and record how long it took and how late it was awakened."""
        started, attributes = time.monotonic(), cast("dict[str, AttributeValue]", {})
        with self._instrumentation.span("veriff.wait_for_decision", {SESSION_ID: session_id}) as span:
            wait = Wait(span)
            try:
                yield wait
            except BaseException as error:
                attributes["error.type"] = error_type(error)
                raise
            else:
                attributes.update(self._end(wait))
            finally:
                describe_span(span, attributes, links_to(wait.submission or self.submission_of(session_id)))
                self._instruments.record("veriff.wait.duration", time.monotonic() - started, attributes)

    def _end(self, wait: Wait) -> dict[str, AttributeValue]:
        decision = wait.decision
        if decision is None:
            return {}
        source = str(decision.source)
        if wait.recorded_at is not None and decision.source is not DecisionSource.KNOWN:
            # Clocks of two machines may differ; a negative delay is their difference alone.
            delay = max(0.0, time.time() - wait.recorded_at)
            self._instruments.record("veriff.wait.wake_up.duration", delay, {_SOURCE: source})
        return {_STATUS: status_label(decision.status), _SOURCE: source}

    def on_poll(self, decision: Decision | None = None, error: Exception | None = None) -> None:
        """Count a poll on behalf of waits."""
        attributes: dict[str, AttributeValue] = {"veriff.poll.result": "pending" if decision is None else "decision"}
        if error is not None:
            attributes = {"veriff.poll.result": "error", "error.type": error_type(error)}
        self._instruments.add("veriff.polls", 1, attributes)

    def on_polled_decision(self, decision: Decision, state: SessionState | None, *, is_missed: bool) -> str | None:
        """Record a decision that a poll found first, and return the submission of its session.

        Args:
            decision: The decision.
            state: The state of the session after the decision was recorded in the inbox.
            is_missed: Whether the inbox works, so that a webhook should have come before the poll.
        """
        submission = None if state is None else state.submission
        submission = submission or self.submission_of(decision.session_id)
        record_decision(self._instruments, status_label(decision.status), DecisionSource.POLL, submission)
        if is_missed:
            self._instruments.add("veriff.webhooks.missed", 1, {_STATUS: status_label(decision.status)})
        return submission


def record_decision(instruments: Instruments, status: str, source: DecisionSource, submission: str | None) -> None:
    """Record how long a decision took, if it is known when the session was submitted."""
    since = submission_time(submission)
    if since is not None:
        attributes = {_STATUS: status, _SOURCE: str(source)}
        instruments.record("veriff.decision.duration", max(0.0, time.time() - since), attributes)
