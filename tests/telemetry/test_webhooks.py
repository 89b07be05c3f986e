"""The span and the metrics of a webhook, and of the calls of its handlers."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from tests.conditions import until
from tests.webhooks.conftest import CREDENTIALS, OwnInbox, message, sign_headers
from veriff_async import DeliveryPolicy, InboxError, SignatureError, WebhookReceiver
from veriff_async.inbox import MemoryInbox
from veriff_async.testing import decision_event
from veriff_async.webhooks import asgi_app

if TYPE_CHECKING:
    from tests.telemetry.conftest import Exported
    from veriff_async.models.delivery import Delivery
    from veriff_async.models.events import WebhookEvent

pytestmark = pytest.mark.anyio

SPAN = "process veriff.webhooks"
ONCE = DeliveryPolicy(max_attempts=1)


async def test_webhook_is_a_consumer_span_below_that_of_the_server(exported: Exported) -> None:
    """The span is a child of the server's, of kind CONSUMER, and describes the event by its kind and result."""
    body = message()
    async with WebhookReceiver(CREDENTIALS, MemoryInbox(), telemetry=exported.telemetry) as receiver:
        with exported.tracer.start_as_current_span("POST /webhooks", kind=SpanKind.SERVER):
            for _ in range(2):
                assert 200 == (await receiver.handle("POST", sign_headers(body), body)).status

    first, second = exported.named(SPAN)
    assert (SpanKind.CONSUMER, "POST /webhooks") == (first.kind, exported.parent_of(first))
    assert {
        "messaging.system": "veriff",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.message.body.size": len(body),
        "veriff.event.kind": "event",
        "veriff.session.id": "8f0d1ab6",
        "veriff.webhook.result": "recorded",
    } == dict(first.attributes or {})
    assert "duplicate" == (second.attributes or {})["veriff.webhook.result"]
    for result in ("recorded", "duplicate"):
        assert 1 == exported.value("messaging.process.duration", {"veriff.webhook.result": result})


async def test_refused_requests_are_counted_by_reason(exported: Exported) -> None:
    """A request that is not a webhook is counted; one with a wrong signature also has a span with its error."""
    async with WebhookReceiver(CREDENTIALS, MemoryInbox(), telemetry=exported.telemetry) as receiver:
        body = message()
        for method, headers in (("GET", sign_headers(body)), ("POST", sign_headers(body, secret="wrong"))):
            await receiver.handle(method, headers, body)
        with pytest.raises(SignatureError):
            await receiver.receive(sign_headers(body, x_hmac_signature=None), body)

    for reason in ("not_post", "mismatch", "missing"):
        assert 1 == exported.value("veriff.webhook.refused", {"veriff.webhook.refusal": reason})
    assert ["SignatureError"] * 2 == [(span.attributes or {})["error.type"] for span in exported.named(SPAN)]
    assert not exported.value("messaging.process.duration")


async def test_webhook_that_is_not_recorded_has_its_error(exported: Exported) -> None:
    """A failure of the inbox is the error of the span, without its message, and the result `failed`."""
    inbox, body = OwnInbox(InboxError("canary")), message()
    async with WebhookReceiver(CREDENTIALS, inbox, telemetry=exported.telemetry) as receiver:
        assert 503 == (await receiver.handle("POST", sign_headers(body), body)).status

    span = exported.one(SPAN)
    assert (StatusCode.ERROR, "InboxError") == (span.status.status_code, (span.attributes or {})["error.type"])
    assert "canary" not in span.to_json()
    failed = {"veriff.webhook.result": "failed", "error.type": "InboxError"}
    assert 1 == exported.value("messaging.process.duration", failed)


async def test_record_that_outlives_its_request_is_measured(exported: Exported) -> None:
    """A request that the server cancels ends its span; the record goes on, and its event is measured."""
    inbox, event = OwnInbox(waits=True), decision_event("8f0d1ab6", "approved", minute=1)
    body = json.dumps(event.raw).encode()
    async with WebhookReceiver(CREDENTIALS, inbox, telemetry=exported.telemetry) as receiver:
        request = asyncio.create_task(receiver.handle("POST", sign_headers(body), body))
        await inbox.kept.wait()
        request.cancel()
        await asyncio.wait([request])
        assert "CancelledError" == (exported.one(SPAN).attributes or {})["error.type"]
        inbox.may_end.set()
    assert 1 == exported.value("veriff.webhook.age", {"veriff.event.kind": "decision"})


@pytest.mark.parametrize("is_async", [True, False], ids=["coroutine", "thread"])
async def test_handler_is_a_span_below_that_of_its_webhook(exported: Exported, *, is_async: bool) -> None:
    """A handler runs in a span below that of its webhook, in a thread too, and its failure is that span's error."""
    seen: list[tuple[int, bool]] = []

    def note(result: Delivery[WebhookEvent]) -> None:
        assert result.event.session_id == "8f0d1ab6"
        span = trace.get_current_span().get_span_context().span_id
        seen.append((span, threading.current_thread() is threading.main_thread()))
        if len(seen) > 1:
            msg = "canary"
            raise ValueError(msg)

    async def note_in_loop(result: Delivery[WebhookEvent]) -> None:
        note(result)

    on_event = note_in_loop if is_async else note
    receiver = WebhookReceiver(CREDENTIALS, MemoryInbox(), delivery=ONCE, telemetry=exported.telemetry)
    receiver.on(name="note")(on_event)
    async with receiver:
        for action in ("started", "submitted"):
            body = message(action)
            await receiver.handle("POST", sign_headers(body), body)
        await until(lambda: len(exported.named("process note")) == 2)

    first, second = exported.named("process note")
    assert [(first.context.span_id, is_async), (second.context.span_id, is_async)] == seen
    assert [SPAN] * 2 == [exported.parent_of(first), exported.parent_of(second)]
    assert (StatusCode.ERROR, "ValueError") == (second.status.status_code, (second.attributes or {})["error.type"])
    assert "canary" not in second.to_json()
    assert 1 == exported.value("veriff.handler.duration", {"error.type": "ValueError"})
    assert 1 == exported.value("veriff.deliveries.dead", {"veriff.event.kind": "event"})
    assert 2 == exported.value("veriff.delivery.delay", {"veriff.event.kind": "event"})


async def test_handler_in_another_process_begins_a_trace_with_a_link(exported: Exported) -> None:
    """Another process does not know the span of the webhook, but the inbox has that of the submission."""
    inbox, event = MemoryInbox(), decision_event("s", "approved")
    trace_parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await inbox.save_submission("s", json.dumps({"submitted_at": 1.5, "traceparent": trace_parent}))
    await inbox.record(event, deliver=True)
    receiver = WebhookReceiver(CREDENTIALS, inbox, telemetry=exported.telemetry)
    receiver.on(name="note")(lambda _delivery: None)
    async with receiver:
        await receiver.handle_pending()

    span = exported.one("process note")
    assert span.parent is None
    assert 1 == (span.attributes or {})["veriff.delivery.attempt"]


async def test_unknown_statuses_share_a_value(exported: Exported) -> None:
    """The text of an unknown status may be anything, so that each would become a time series."""
    inbox = MemoryInbox()
    async with WebhookReceiver(CREDENTIALS, inbox, telemetry=exported.telemetry) as receiver:
        for status in ("canary-1", "canary-2"):
            event = decision_event(status, status)
            await inbox.save_submission(status, '{"submitted_at": 1.5}')
            body = json.dumps(event.raw).encode()
            await receiver.receive(sign_headers(body), body)
    labels = {"veriff.decision.status": "_OTHER", "veriff.decision.source": "webhook"}
    assert 2 == exported.value("veriff.decision.duration", labels)
    assert ["_OTHER"] * 2 == [(span.attributes or {})["veriff.decision.status"] for span in exported.named(SPAN)]


async def test_ids_of_unknown_events_are_not_exported(exported: Exported) -> None:
    """An event that this version does not know may have anything as its session, so only ids are exported."""
    body = json.dumps({"sessionId": "canary of a person", "status": "?"}).encode()
    async with WebhookReceiver(CREDENTIALS, MemoryInbox(), telemetry=exported.telemetry) as receiver:
        await receiver.receive(sign_headers(body), body)
    assert "canary" not in exported.one(SPAN).to_json()


async def test_asgi_application_passes_the_context_on(exported: Exported) -> None:
    """Behind the ASGI application, the span belongs to the trace of the request."""
    body, sent = message(), list[object]()
    headers = [(name.encode(), value.encode()) for name, value in sign_headers(body).items()]

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body}

    async def send(part: object) -> None:
        sent.append(part)

    async with WebhookReceiver(CREDENTIALS, MemoryInbox(), telemetry=exported.telemetry) as receiver:
        with exported.tracer.start_as_current_span("request"):
            await asgi_app(receiver)({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive, send)
    assert ("request", 2) == (exported.parent_of(exported.one(SPAN)), len(sent))
