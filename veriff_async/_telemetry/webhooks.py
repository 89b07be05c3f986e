"""Spans and metrics of a webhook receiver, by the conventions for messaging.

A webhook is a message that Veriff pushes, so its span is a CONSUMER span, not a SERVER span: the framework of an
application, if it is instrumented, has a SERVER span already, and this one is its child. Veriff sends no trace, so the
trace of the submission is a link (https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/).
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from attrs import define
from opentelemetry.context import Context, get_current
from opentelemetry.trace import SpanKind

from veriff_async._protocol.validation import safe_id
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
    from veriff_async.models.delivery import Delivery
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.state import RecordResult

__all__ = ("Receipt", "ReceiverTelemetry")

_SYSTEM: Final[dict[str, AttributeValue]] = {"messaging.system": "veriff", "messaging.operation.name": "process"}
_KIND: Final = "veriff.event.kind"
_RESULT: Final = "veriff.webhook.result"
_HANDLER: Final = "veriff.handler.name"
_ATTEMPT: Final = "veriff.delivery.attempt"

# Spans of webhooks whose handlers have not finished. Those beyond are forgotten: the calls begin traces of their own.
_MAX_CONTEXTS: Final = 10_000


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
        self._contexts: dict[tuple[str | None, str], Context] = {}

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

    def on_queued(self, event: WebhookEvent) -> None:
        """Remember the span of the webhook that is received now, for the calls of handlers in this process."""
        self._contexts[_key_of(event)] = get_current()
        if len(self._contexts) > _MAX_CONTEXTS:
            with suppress(RuntimeError):  # another loop has changed it
                self._contexts.pop(next(iter(self._contexts)), None)

    def on_attempt(self, delivery: Delivery[WebhookEvent]) -> None:
        """Measure how long an event waited for its first attempt."""
        if delivery.attempt == 1:
            delay = max(0.0, time.time() - delivery.recorded_at)
            self._instruments.record("veriff.delivery.delay", delay, {_KIND: delivery.event.kind}, NO_EXEMPLAR)

    def on_settled(self, event: WebhookEvent, *, is_dead: bool) -> None:
        """Count a dead letter, and forget the span of an event for which no attempt follows."""
        self._contexts.pop(_key_of(event), None)
        if is_dead:
            self._instruments.add("veriff.deliveries.dead", 1, {_KIND: event.kind})

    @contextmanager
    def handle(self, delivery: Delivery[WebhookEvent], handler: str) -> Generator[None]:
        """Run a call of a handler in a span below that of its webhook, which has ended before.

        Another process does not know that span. There a trace begins, with a link to that of the submission.
        """
        event, started = delivery.event, time.perf_counter()
        measured: dict[str, AttributeValue] = {_KIND: event.kind, _HANDLER: handler}
        links = links_to(None if delivery.state is None else delivery.state.submission)
        attributes = {**_SYSTEM, **_event_attributes(event), _HANDLER: handler, _ATTEMPT: delivery.attempt}
        parent = self._contexts.get(_key_of(event), Context())
        try:
            with self.instrumentation.span(
                f"process {handler}", attributes, kind=SpanKind.CONSUMER, links=links, parent=parent
            ):
                yield
        except BaseException as error:
            measured["error.type"] = error_type(error)
            raise
        finally:
            self._instruments.record("veriff.handler.duration", time.perf_counter() - started, measured)


def _key_of(event: WebhookEvent) -> tuple[str | None, str]:
    return event.session_id, event.dedup_key


def _describe(span: Span, event: WebhookEvent, result: RecordResult | None) -> None:
    links = () if result is None else links_to(_submission_of(result))
    describe_span(span, {**_event_attributes(event), _RESULT: _result_of(result)}, links)


def _event_attributes(event: WebhookEvent) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {_KIND: event.kind}
    if (session_id := safe_id(event.session_id)) is not None:
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
