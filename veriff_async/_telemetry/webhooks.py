"""Spans and metrics of a webhook receiver, by the conventions for messaging.

A webhook is a message that Veriff pushes, so its span is a CONSUMER span, not a SERVER span: the framework of an
application, if it is instrumented, has a SERVER span already, and this one is its child. Veriff sends no trace, so the
trace of the submission is a link (https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/).
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, cast

from attrs import define
from opentelemetry.context import Context, get_current
from opentelemetry.trace import SpanKind

from veriff_async._protocol.validation import is_id
from veriff_async._telemetry.instrumentation import (
    NO_EXEMPLAR,
    SESSION_ID,
    describe_span,
    error_type,
    is_recording,
    status_label,
)
from veriff_async._telemetry.submission import links_to
from veriff_async._telemetry.waits import record_decision
from veriff_async.models.decision_source import DecisionSource
from veriff_async.models.events import DecisionEvent, FullAutoEvent

if TYPE_CHECKING:
    from collections.abc import Generator

    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

    from veriff_async._telemetry.instrumentation import Instrumentation
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.state import RecordResult

__all__ = ("Context", "Receipt", "ReceiverTelemetry")

_SYSTEM: Final[dict[str, AttributeValue]] = {"messaging.system": "veriff", "messaging.operation.name": "process"}
_KIND: Final = "veriff.event.kind"
_RESULT: Final = "veriff.webhook.result"


@define(eq=False)
class Receipt:
    """One webhook that is being received.

    Attributes:
        event: The event, once it is verified.
        result: The result of its record.
    """

    event: WebhookEvent | None = None
    result: RecordResult | None = None


class ReceiverTelemetry:
    """The webhooks of one receiver."""

    def __init__(self, instrumentation: Instrumentation) -> None:
        """Export nothing yet."""
        self.instrumentation = instrumentation
        self._instruments = instrumentation.instruments

    @property
    def is_live(self) -> bool:
        """Whether spans or metrics go anywhere."""
        return self.instrumentation.is_live

    @contextmanager
    def receive(self, size: int) -> Generator[Receipt]:
        """Receive a webhook of `size` bytes in a span."""
        started, receipt = time.perf_counter(), Receipt()
        attributes: dict[str, AttributeValue] = {
            **_SYSTEM,
            "messaging.operation.type": "process",
            "messaging.message.body.size": size,
        }
        with self.instrumentation.span("process veriff.webhooks", attributes, kind=SpanKind.CONSUMER) as span:
            measured = dict(_SYSTEM)
            try:
                yield receipt
            except BaseException as error:
                measured["error.type"] = error_type(error)
                raise
            finally:
                event, result = receipt.event, receipt.result
                if event is not None:
                    measured |= {_KIND: event.kind, _RESULT: _result_of(result)}
                    self._instruments.record("messaging.process.duration", time.perf_counter() - started, measured)
                    if is_recording(span):
                        _describe(span, event, result)

    def on_record(self, event: WebhookEvent, result: RecordResult, age: float | None) -> None:
        """Measure an event when it was recorded, even if its request has ended before."""
        if age is not None and not result.is_duplicate:
            self._instruments.record("veriff.webhook.age", max(0.0, age), {_KIND: event.kind}, NO_EXEMPLAR)
        if result.ignored is None and result.state is not None and isinstance(event, DecisionEvent | FullAutoEvent):
            submission = result.state.submission
            record_decision(self._instruments, status_label(event.decision.status), DecisionSource.WEBHOOK, submission)

    def on_refusal(self, reason: str) -> None:
        """Count a request that was refused."""
        self._instruments.add("veriff.webhook.refused", 1, {"veriff.webhook.refusal": reason})

    def on_dropped(self, count: int) -> None:
        """Count calls of ``on_event`` that are not made."""
        self._instruments.add("veriff.webhook.callbacks.dropped", count, {})

    def capture(self) -> Context:
        """Return the context of the webhook that is received now, for `callback`."""
        return get_current()

    @contextmanager
    def callback(self, result: RecordResult, parent: Context | None) -> Generator[None]:
        """Run a call of ``on_event`` in a span below that of its webhook, which has ended before."""
        started, measured = time.perf_counter(), cast("dict[str, AttributeValue]", {_KIND: result.event.kind})
        links = links_to(_submission_of(result))
        try:
            attributes = _event_attributes(result.event)
            with self.instrumentation.span("veriff.on_event", attributes, links=links, parent=parent):
                yield
        except BaseException as error:
            measured["error.type"] = error_type(error)
            raise
        finally:
            self._instruments.record("veriff.webhook.callback.duration", time.perf_counter() - started, measured)


def _describe(span: Span, event: WebhookEvent, result: RecordResult | None) -> None:
    links = () if result is None else links_to(_submission_of(result))
    describe_span(span, {**_event_attributes(event), _RESULT: _result_of(result)}, links)


def _event_attributes(event: WebhookEvent) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {_KIND: event.kind}
    session_id = event.session_id
    if session_id is not None and is_id(session_id):  # that of an unknown event may be anything
        attributes[SESSION_ID] = session_id
    if isinstance(event, DecisionEvent | FullAutoEvent):
        attributes["veriff.decision.status"] = status_label(event.decision.status)
    return attributes


def _result_of(result: RecordResult | None) -> str:
    if result is None:
        return "failed"
    return "recorded" if result.ignored is None else str(result.ignored)


def _submission_of(result: RecordResult) -> str | None:
    return None if result.state is None else result.state.submission
