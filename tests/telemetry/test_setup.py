"""OpenTelemetry is optional: without it, with an old one, or with a broken one, everything else works."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from contextvars import copy_context
from math import isfinite
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import example, given, strategies as st
from opentelemetry.baggage import set_baggage
from opentelemetry.context import attach, detach
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import INVALID_SPAN, INVALID_SPAN_CONTEXT, NonRecordingSpan, get_current_span

from tests.conditions import without_slow_steps
from veriff_async import ConfigurationError, Credentials, Media, VeriffClient, WebhookReceiver
from veriff_async._telemetry import instrumentation
from veriff_async._telemetry.setup import open_instrumentation
from veriff_async._telemetry.submission import dump_submission, links_to, submission_time
from veriff_async.inbox import MemoryInbox
from veriff_async.sandbox import Fault, Sandbox
from veriff_async.telemetry import Telemetry
from veriff_async.webhooks import asgi_app

if TYPE_CHECKING:
    from collections.abc import Iterator

VERIFY = """
import asyncio
from veriff_async import ConfigurationError, Media, PollPolicy, VeriffClient, WebhookReceiver
from veriff_async.inbox import MemoryInbox
from veriff_async.sandbox import Sandbox
from veriff_async.telemetry import Telemetry

async def main(telemetry):
    inbox = MemoryInbox()
    async with Sandbox() as sandbox, VeriffClient.from_env(
        sandbox.environ, inbox=inbox, poll=PollPolicy(initial_delay=0.001), telemetry=telemetry
    ) as veriff, WebhookReceiver(sandbox.credentials, inbox, telemetry=telemetry):
        session = await veriff.submit(media=[Media(b"\\xff\\xd8\\xff\\xe0" + bytes(2000), "face")])
        sandbox.decide(session.id, "approved")
        assert "approved" == (await session.wait_for_decision()).status
"""
BLOCK = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
"""
MISSING = """
try:
    VeriffClient.from_env({"VERIFF_BASE_URL": "http://localhost", "VERIFF_API_KEY": "k", "VERIFF_SHARED_SECRET": "s"},
                          telemetry=Telemetry())
except ConfigurationError as error:
    assert "veriff-async[otel]" in str(error) and error.__context__ is None, error
else:
    raise AssertionError
"""


def run(code: str) -> str:
    """Run code in a new process with warnings as errors, and return what it logged."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(  # noqa: S603  our own code
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False, env=environ
    )
    assert done.returncode == 0, done.stderr
    return without_slow_steps(done.stderr)


def test_everything_works_without_opentelemetry() -> None:
    """A verification runs where the API cannot be imported; `Telemetry(...)` is refused with the extra to install."""
    assert "" == run(BLOCK + VERIFY + "asyncio.run(main(None))\n" + MISSING)


def test_nothing_is_imported_before_a_client_is_created() -> None:
    """Importing the package and its classes imports no OpenTelemetry, and `telemetry=False` never does."""
    check = "import sys\nassert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    create = "VeriffClient(Credentials('key', 'secret'), base_url='http://127.0.0.1', telemetry=False)\n"
    run("from veriff_async import *\n" + check + create + check)


def test_client_that_is_open_at_the_end_of_the_process_prints_nothing() -> None:
    """A client that a module and a function hold until the interpreter ends causes no message of a weak reference."""
    code = """
from veriff_async import Credentials, VeriffClient

client = VeriffClient(Credentials("key", "secret"), base_url="https://veriff.example")
function = lambda: client
"""

    assert "" == run(code)


@pytest.mark.parametrize("problem", [TypeError, RuntimeError])
def test_unusable_api_is_logged(
    problem: type[Exception], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An API that is too old, or that fails, exports nothing and is logged; a client that asks for it is refused."""

    def get_meter(*_args: object) -> None:
        raise problem

    monkeypatch.setattr(instrumentation, "_global_instruments", None)
    monkeypatch.setattr("opentelemetry.metrics.get_meter", get_meter)
    assert open_instrumentation(None) is None
    assert [f"OpenTelemetry cannot be used ({problem.__name__}), so nothing is exported."] == caplog.messages
    with pytest.raises(ConfigurationError, match="cannot be used") as caught:
        open_instrumentation(Telemetry())
    assert caught.value.__context__ is None


@pytest.mark.parametrize("wrong", [True, 5, "on", object()], ids=["True", "5", "text", "object"])
def test_wrong_option_is_named(wrong: object) -> None:
    """The option is checked when a client or receiver is created."""
    credentials, telemetry = Credentials("key", "secret"), cast("Any", wrong)
    with pytest.raises(ConfigurationError, match="telemetry must be a Telemetry, False or None"):
        VeriffClient(credentials, base_url="http://127.0.0.1", telemetry=telemetry)
    with pytest.raises(ConfigurationError, match="telemetry must be a Telemetry, False or None"):
        WebhookReceiver(credentials, MemoryInbox(), telemetry=telemetry)


@pytest.mark.parametrize("option", ["tracer_provider", "meter_provider"])
def test_wrong_provider_is_named(option: str) -> None:
    """A provider is checked when a client is created, and the error names the option."""
    telemetry = Telemetry(**{option: cast("Any", "canary")})
    with pytest.raises(ConfigurationError, match=f"^{option} must be a provider with get_"):
        VeriffClient(Credentials("key", "secret"), base_url="http://127.0.0.1", telemetry=telemetry)


def test_telemetry_shows_no_more_than_its_providers() -> None:
    """The option is a value, equal to another with the same providers."""
    assert Telemetry() == Telemetry(tracer_provider=None)


class _Broken(SpanProcessor):
    def on_start(self, span: object, parent_context: object = None) -> None:
        msg = "start"
        raise LookupError(msg)

    def on_end(self, span: object) -> None:
        raise LookupError


def test_failing_processor_fails_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A sampler or processor of the application that raises is logged, and what is observed goes on."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(_Broken())
    observed = instrumentation.Instrumentation(Telemetry(tracer_provider=provider))
    for _ in range(2):
        with observed.span("one"):
            pass
    found = re.findall(r"OpenTelemetry has failed with LookupError at .*test_setup\.py:\d+; the call", caplog.text)
    assert len(caplog.messages) == len(found) == 1


class _BrokenSpan(NonRecordingSpan):
    def __getattribute__(self, name: str) -> object:
        if name in {"is_recording", "set_attribute", "set_attributes", "set_status", "add_event", "add_link", "end"}:
            raise OverflowError("canary")
        return super().__getattribute__(name)


class _BrokenTracers:
    """A provider whose spans fail in every method; it is its own tracer."""

    def get_tracer(self, *_args: object) -> _BrokenTracers:
        return self

    def start_span(self, *_args: object) -> _BrokenSpan:
        return _BrokenSpan(INVALID_SPAN_CONTEXT)


@pytest.mark.anyio
async def test_failing_spans_fail_nothing(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """Spans of another SDK may fail in every method: each place is logged once, without the text of the error."""
    inbox, telemetry = MemoryInbox(), Telemetry(tracer_provider=cast("Any", _BrokenTracers()))
    async with VeriffClient.from_env(sandbox.environ, inbox=inbox, telemetry=telemetry) as veriff:
        sandbox.inject(Fault.status(503, retry_after=0), path="/v1/sessions/*/media")
        session = await veriff.submit(media=[Media(b"\xff\xd8\xff\xe0" + bytes(100), "face")])
        async with WebhookReceiver(sandbox.credentials, inbox, telemetry=telemetry) as receiver:
            sandbox.set_webhook_app(asgi_app(receiver))
            sandbox.decide(session.id, "approved")
            await sandbox.wait_idle()
        assert "approved" == (await session.wait_for_decision()).status

    assert INVALID_SPAN is get_current_span()
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert 1 <= len(warnings) == len(set(warnings)) <= 3
    assert "canary" not in caplog.text


def test_span_of_a_coroutine_that_is_garbage_ends(caplog: pytest.LogCaptureFixture) -> None:
    """A coroutine that is closed in another context than its own ends its span, without an error in the log."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    observed = instrumentation.Instrumentation(Telemetry(tracer_provider=provider))

    def work() -> Iterator[None]:
        with observed.span("one"):
            yield

    started = work()
    copy_context().run(next, started)
    cast("Any", started).close()
    assert ["one"] == [span.name for span in exporter.get_finished_spans()]
    assert [] == caplog.messages


@given(
    text=st.none()
    | st.text()
    | st.dictionaries(
        st.sampled_from(["traceparent", "tracestate", "submitted_at", "other"]),
        st.none() | st.text() | st.floats() | st.integers(-(10**400), 10**400) | st.lists(st.none()),
    ).map(json.dumps)
)
@example(text="[" * 100_000)
@example(text=cast("Any", 5))
def test_any_text_of_an_inbox_is_harmless(text: str | None) -> None:
    """An inbox may return anything as the submission: then there is no link and no time."""
    assert 0 == len(links_to(text)) or "traceparent" in str(text)
    moment = submission_time(text)
    assert moment is None or isfinite(moment)


def test_submission_holds_trace_and_time_only() -> None:
    """The text for the inbox has no baggage, and is read back."""
    provider = TracerProvider(shutdown_on_exit=False)
    with provider.get_tracer("application").start_as_current_span("request") as span:
        token = attach(set_baggage("person", "canary"))
        text = dump_submission(1.5)
        detach(token)
    assert "canary" not in text
    assert 1.5 == submission_time(text)
    assert [span.get_span_context().span_id] == [link.context.span_id for link in links_to(text)]
    assert None is submission_time(dump_submission(None))
