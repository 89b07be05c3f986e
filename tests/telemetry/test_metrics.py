"""The table of metrics is what is exported, as the SDK and as Prometheus see it, and nothing leaks."""

from __future__ import annotations

import asyncio
import gc
import re
import weakref
from typing import TYPE_CHECKING, Final

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, generate_latest

from tests.conditions import until
from tests.telemetry.conftest import RESOURCE
from tests.webhooks.conftest import CREDENTIALS, message, sign_headers
from veriff_async import DeliveryPolicy, Media, PollPolicy, RetryPolicy, VeriffClient, WebhookReceiver
from veriff_async._telemetry.instrumentation import Instrumentation
from veriff_async._telemetry.metrics import METRICS
from veriff_async.batch import Job, MemoryJournal, verify_many
from veriff_async.inbox import MemoryInbox
from veriff_async.sandbox import Fault
from veriff_async.telemetry import Telemetry
from veriff_async.webhooks import asgi_app

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.telemetry.conftest import Exported
    from veriff_async.sandbox import Sandbox

pytestmark = pytest.mark.anyio

ONCE: Final = DeliveryPolicy(max_attempts=1)
JPEG: Final = b"\xff\xd8\xff\xe0" + bytes(2000)
OFTEN: Final = PollPolicy(initial_delay=0.001, interval=0.001)


async def use_everything(sandbox: Sandbox, telemetry: Telemetry, during: Callable[[], object]) -> None:
    """Do all that is measured; call `during` while a batch runs."""
    inbox, retry = MemoryInbox(), RetryPolicy(initial_backoff=0.001)
    may_end = asyncio.Event()

    async def on_event(_delivery: object) -> None:
        await may_end.wait()
        raise ValueError

    receiver = WebhookReceiver(
        sandbox.credentials, inbox, on_event=on_event, max_running=1, delivery=ONCE, telemetry=telemetry
    )
    sandbox.set_webhook_app(asgi_app(receiver))
    client = VeriffClient.from_env(sandbox.environ, inbox=inbox, telemetry=telemetry, retry=retry, poll=OFTEN)
    async with receiver, client as veriff:
        sandbox.inject(Fault.status(429, retry_after=0), path="/v1/sessions/*/media")
        session = await veriff.submit(media=[Media(JPEG, "face")])
        waiting = asyncio.create_task(session.wait_for_decision())
        await until(lambda: veriff.statistics().polls)
        sandbox.hold_webhooks()
        sandbox.decide(session.id, "approved")
        await waiting
        sandbox.release_webhooks()
        await sandbox.wait_idle()
        await receiver.handle("GET", {}, b"")
        jobs, during_done = [Job("user-42", [Media(JPEG, "face")])], list[bool]()
        async for _ in verify_many(veriff, jobs, journal=MemoryJournal(), progress=lambda _: decide(sandbox)):
            during()
            during_done.append(True)
        assert during_done
        await sandbox.wait_idle()
        may_end.set()
        await until(lambda: receiver.statistics().dead_letters)


def decide(sandbox: Sandbox) -> None:
    """Decide every session that is submitted."""
    for session in sandbox.sessions:
        if session.status == "submitted":
            sandbox.decide(session.id, "approved")


async def test_table_lists_every_metric_with_its_attributes(sandbox: Sandbox, exported: Exported) -> None:
    """All metrics of the table are exported, no other, each with attributes of the table only, and with few values."""
    seen: dict[str, set[str]] = {}
    values: dict[str, set[object]] = {}

    def collect() -> None:
        for name, points in exported.points.items():
            for point in points:
                seen.setdefault(name, set()).update(point.attributes or {})
                for key, value in (point.attributes or {}).items():
                    values.setdefault(key, set()).add(value)

    await use_everything(sandbox, exported.telemetry, collect)
    collect()

    assert set(METRICS) == set(seen)
    assert not [(name, key) for name, found in seen.items() for key in found - set(METRICS[name].attributes)]
    ids = [session.id for session in sandbox.sessions]
    assert not [value for found in values.values() for value in found if any(session in str(value) for session in ids)]
    assert max(map(len, values.values())) < 10


async def test_prometheus_shows_every_metric(sandbox: Sandbox) -> None:
    """The exporter of Prometheus accepts all names and units, and writes them as the dashboard queries them."""
    registry, reader = CollectorRegistry(), PrometheusMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False, resource=RESOURCE)
    registry.register(reader._collector)
    found: set[str] = set()

    def collect() -> None:
        found.update(re.findall(r"^# TYPE (\w+)", generate_latest(registry).decode(), re.MULTILINE))

    await use_everything(sandbox, Telemetry(meter_provider=provider), collect)
    collect()
    provider.shutdown()
    assert len(METRICS) == len(found - {"target_info"})
    assert {
        "http_client_request_duration_seconds",
        "veriff_call_retries_total",
        "veriff_batch_rate_per_second",
    } <= found


async def test_gauges_keep_no_client_alive(sandbox: Sandbox, exported: Exported) -> None:
    """The load of a client is exported until it is closed, and a client or receiver that is dropped is collected."""
    async with VeriffClient.from_env(sandbox.environ, telemetry=exported.telemetry) as veriff:
        session = await veriff.create_session()
        waiting = asyncio.create_task(session.wait_for_decision())
        await until(lambda: veriff.statistics().waiters)
        assert 1 == exported.value("veriff.waiters")
        waiting.cancel()
        await asyncio.wait([waiting])
    assert None is exported.value("veriff.waiters")

    clients = [VeriffClient.from_env(sandbox.environ, telemetry=exported.telemetry) for _ in range(3)]
    receivers = [WebhookReceiver(CREDENTIALS, MemoryInbox(), telemetry=exported.telemetry) for _ in range(3)]
    references = [weakref.ref(each) for each in (*clients, *receivers)]
    assert (0, 0) == (exported.value("veriff.waiters"), exported.value("veriff.inbox.records.active"))
    del clients, receivers
    gc.collect()
    assert {None} == {reference() for reference in references}
    assert (None, None) == (exported.value("veriff.waiters"), exported.value("veriff.inbox.records.active"))


async def test_reopened_client_exports_again(sandbox: Sandbox, exported: Exported) -> None:
    """A client that is opened again exports its load again, once."""
    veriff = VeriffClient.from_env(sandbox.environ, telemetry=exported.telemetry)
    for _ in range(2):
        async with veriff:
            await veriff.create_session()
            assert 0 == exported.value("veriff.uploads.active")
        assert None is exported.value("veriff.uploads.active")
    assert 2 == len(exported.named("POST /v1/sessions"))


async def test_webhooks_of_several_receivers_add_up(exported: Exported) -> None:
    """Receivers of one process share the instruments, so their values add up."""
    body = message()
    for _ in range(2):
        async with WebhookReceiver(CREDENTIALS, MemoryInbox(), telemetry=exported.telemetry) as receiver:
            await receiver.receive(sign_headers(body), body)
    assert 2 == exported.value("messaging.process.duration")


async def test_values_reach_the_sdk_without_a_collection(exported: Exported) -> None:
    """Values wait for the next collection, and at most a hundred or so of them."""
    instruments = Instrumentation(exported.telemetry).instruments
    for _ in range(1000):
        instruments.record("veriff.call.duration", 0.1, {"veriff.operation": "decision"})
        assert len(instruments._pending) < 128
    assert 1000 == exported.value("veriff.call.duration")
    assert not instruments._pending


async def test_only_the_duration_of_a_call_has_an_exemplar(sandbox: Sandbox, exported: Exported) -> None:
    """A duration that waited for the collection keeps the span of its call; values of attempts have no exemplar."""
    async with VeriffClient.from_env(sandbox.environ, telemetry=exported.telemetry) as veriff:
        with exported.tracer.start_as_current_span("request"):
            await veriff.create_session()
    points = exported.points
    (call,), (attempt,) = points["veriff.call.duration"], points["http.client.request.duration"]
    span = exported.one("POST /v1/sessions").context
    assert span is not None
    assert [(span.trace_id, span.span_id)] == [(each.trace_id, each.span_id) for each in call.exemplars]
    assert [] == list(attempt.exemplars)
