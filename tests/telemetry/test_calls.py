"""The span and the metrics of a call: all its attempts, and nothing that identifies a person."""

from __future__ import annotations

import asyncio
import logging
from io import BytesIO
from typing import TYPE_CHECKING, Final

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from tests.conditions import until
from tests.loops import every_loop
from veriff_async import Media, NotFoundError, RetryPolicy, ServerError, TransportError, VeriffClient
from veriff_async.sandbox import Fault
from veriff_async.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.telemetry.conftest import Exported
    from veriff_async.sandbox import Sandbox

pytestmark = [pytest.mark.anyio, every_loop]

JPEG: Final = b"\xff\xd8\xff\xe0" + bytes(2000)
MEDIA: Final = "POST /v1/sessions/{session_id}/media"
DECISION: Final = "GET /v1/sessions/{session_id}/decision"


async def test_call_is_a_client_span_with_its_route(veriff: VeriffClient, exported: Exported) -> None:
    """A span has the method and the template of the path; the id of the session is an attribute of its own."""
    with exported.tracer.start_as_current_span("request"):
        session = await veriff.create_session(vendor_data="user-42")
        await session.decision()

    created, asked = exported.one("POST /v1/sessions"), exported.one(DECISION)
    assert {SpanKind.CLIENT} == {created.kind, asked.kind}
    assert ["request"] * 2 == [exported.parent_of(created), exported.parent_of(asked)]
    for span in (created, asked):
        attributes = dict(span.attributes or {})
        assert session.id == attributes["veriff.session.id"]
        assert "127.0.0.1" == attributes["server.address"]
        assert "http.request.resend_count" not in attributes
        assert not [name for name in attributes if name.startswith(("url.full", "url.path"))]
    assert StatusCode.UNSET is asked.status.status_code


async def test_retry_is_an_event_of_the_one_span(sandbox: Sandbox, exported: Exported) -> None:
    """A repeated attempt adds an event with its reason, counts as a resend, and is a value of its own."""
    sandbox.inject(Fault.status(500), path="/v1/sessions/*/decision", times=2)
    retry = RetryPolicy(initial_backoff=0.001)
    async with VeriffClient.from_env(sandbox.environ, telemetry=exported.telemetry, retry=retry) as veriff:
        session = await veriff.create_session()
        await session.decision()

    span = exported.one(DECISION)
    assert 2 == (span.attributes or {})["http.request.resend_count"]
    assert ["veriff.attempt.failed", "veriff.retry"] * 2 == [event.name for event in span.events]
    assert {"500"} == {(event.attributes or {})["error.type"] for event in span.events}
    assert StatusCode.UNSET is span.status.status_code
    assert 2 == exported.value("veriff.call.retries", {"veriff.operation": "decision", "error.type": "500"})
    assert 2 == exported.value("http.client.request.duration", {"http.response.status_code": 500})
    assert 1 == exported.value("veriff.call.duration", {"veriff.operation": "decision"})


async def test_slow_down_is_measured(sandbox: Sandbox, exported: Exported) -> None:
    """A 429 that pauses the client is an event and a value."""
    sandbox.inject(Fault.status(429, retry_after=0), path="/v1/sessions/*/decision")
    retry = RetryPolicy(initial_backoff=0.001)
    async with VeriffClient.from_env(sandbox.environ, telemetry=exported.telemetry, retry=retry) as veriff:
        await (await veriff.create_session()).decision()

    assert "veriff.rate_limit.pause" in {event.name for event in exported.one(DECISION).events}
    assert 1 == exported.value("veriff.rate_limit.pause.duration", {"veriff.operation": "decision"})


async def test_failed_call_has_the_type_of_its_error(sandbox: Sandbox, exported: Exported) -> None:
    """A refusal has its status as error type, another error its class; no message of an error is exported."""
    retry = RetryPolicy(max_attempts=1)
    async with VeriffClient.from_env(sandbox.environ, telemetry=exported.telemetry, retry=retry) as veriff:
        session = await veriff.create_session()
        for fault, error in (
            (Fault.status(503), ServerError),
            (Fault.status(404, code="1002"), NotFoundError),
            (Fault.drop(), TransportError),
        ):
            sandbox.inject(fault, path="/v1/sessions/*/person")
            with pytest.raises(error):
                await session.person()

    spans = exported.named("GET /v1/sessions/{session_id}/person")
    assert ["503", "404", "TransportError"] == [(span.attributes or {})["error.type"] for span in spans]
    assert {StatusCode.ERROR} == {span.status.status_code for span in spans}
    assert {None} == {span.status.description for span in spans}
    assert not [event for span in spans for event in span.events if event.name == "exception"]


async def test_cancelled_call_ends_its_span(sandbox: Sandbox, veriff: VeriffClient, exported: Exported) -> None:
    """A cancellation ends the span with its type, and is not an error of Veriff's."""
    session = await veriff.create_session()
    sandbox.inject(Fault.hang())
    call = asyncio.create_task(session.person())
    await until(lambda: not sandbox.faults)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    span = exported.one("GET /v1/sessions/{session_id}/person")
    assert ("CancelledError", StatusCode.UNSET) == ((span.attributes or {})["error.type"], span.status.status_code)
    assert not trace.get_current_span().get_span_context().is_valid


async def test_span_is_current_during_the_call(
    veriff: VeriffClient, exported: Exported, caplog: pytest.LogCaptureFixture
) -> None:
    """Records of the log, and a source that is read while it is sent, belong to the trace of the call."""
    caplog.set_level(logging.DEBUG, "veriff_async")
    seen: list[int] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(trace.get_current_span().get_span_context().span_id)

    logger, handler = logging.getLogger("veriff_async.http"), Handler()
    logger.addHandler(handler)
    try:
        await veriff.create_session()
    finally:
        logger.removeHandler(handler)
    assert {exported.one("POST /v1/sessions").context.span_id} == set(seen)


async def test_uploads_are_children_of_one_span(veriff: VeriffClient, exported: Exported) -> None:
    """The calls of all media of an upload are children of its span, through tasks, and sources see it in threads."""
    seen: list[int] = []

    async def pieces() -> AsyncIterator[bytes]:
        seen.append(trace.get_current_span().get_span_context().span_id)
        yield JPEG

    class File(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            seen.append(trace.get_current_span().get_span_context().span_id)
            return super().read(size)

    session = await veriff.create_session()
    with exported.tracer.start_as_current_span("request"):
        await session.upload(Media(File(JPEG), "face"), Media(pieces(), "document-front"))

    upload = exported.one("veriff.upload")
    assert "request" == exported.parent_of(upload)
    assert ["veriff.upload"] * 2 == [exported.parent_of(span) for span in exported.named(MEDIA)]
    attributes = dict(upload.attributes or {})
    assert (2, session.id) == (attributes["veriff.media.count"], attributes["veriff.session.id"])
    assert {upload.context.span_id} == set(seen)


async def test_streamed_download_ends_its_span_in_any_task(veriff: VeriffClient, exported: Exported) -> None:
    """The span of a stream ends when the stream is closed, and is not current in the code that reads it."""
    session = await veriff.create_session()
    await session.upload(Media(JPEG, "face"))
    (file,) = (await session.media()).images
    name = "GET /v1/media/{media_id}"
    with exported.tracer.start_as_current_span("request") as request:
        stream = veriff.stream_media(file)
        opened = await stream.__aenter__()
        assert request is trace.get_current_span()
        assert not exported.named(name)
        body = b"".join([piece async for piece in opened])
        await asyncio.create_task(stream.__aexit__(None, None, None))

    assert JPEG == body
    assert "request" == exported.parent_of(exported.one(name))


async def test_spans_hold_no_secret_and_no_personal_data(
    sandbox: Sandbox, veriff: VeriffClient, exported: Exported
) -> None:
    """Neither values of the end-user, nor URLs of sessions, keys, signatures or errors of Veriff are exported."""
    canaries = {"Canaryson", "canary-data", "canary-end", "https://canary.example", "CANARY-1", "canary message"}
    session = await veriff.create_session(
        person={"first_name": "Canaryson", "id_number": "CANARY-1"},
        vendor_data="canary-data",
        callback="https://canary.example",
    )
    await session.upload(Media(JPEG, "face"))
    sandbox.inject(Fault.status(400, code="1001", message="canary message"))
    with pytest.raises(Exception, match="1001"):
        await session.person()
    await session.submit()
    sandbox.decide(session.id, "declined", reason="canary message")
    await session.wait_for_decision(timeout=0)

    assert session.url is not None
    canaries |= {session.url, sandbox.credentials.api_key, sandbox.credentials.shared_secret}
    text = "".join(span.to_json() for span in exported.spans)
    assert [] == [canary for canary in canaries if canary in text]
    measured = repr(exported.points)
    assert [] == [canary for canary in {*canaries, session.id} if canary in measured]


async def test_telemetry_can_be_switched_off(sandbox: Sandbox, exported: Exported) -> None:
    """With `telemetry=False` nothing observes the calls, and a `Telemetry` without a provider uses the global one."""
    async with VeriffClient.from_env(sandbox.environ, telemetry=False) as veriff:
        await veriff.create_session()
        assert [] == [each for each in veriff._runtime.transport.observers if "telemetry" in type(each).__module__]
    async with VeriffClient.from_env(sandbox.environ, telemetry=Telemetry()) as veriff:
        await veriff.create_session()
    assert () == exported.spans
