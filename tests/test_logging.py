"""The log: one line for each attempt, every value as a field, and never a secret, a body or a person's data."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from base64 import b64encode
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, NoReturn

import pytest
import structlog
from aiohttp import ClientSession, web
from anyio import to_thread
from pythonjsonlogger.json import JsonFormatter

from tests.conditions import until
from tests.loops import every_loop
from veriff_async import (
    CallNext,
    CallRequest,
    CallResponse,
    Media,
    NotFoundError,
    Person,
    RetryPolicy,
    VeriffClient,
    VeriffError,
    WebhookReceiver,
)
from veriff_async._http.call_log import CallLog
from veriff_async._logging import LOG_VARIABLE, PREFIX, LogFields, _Applied, log_level_from, show_log
from veriff_async.client import runtime_of
from veriff_async.credentials import Credentials
from veriff_async.inbox import Delivery, MemoryInbox, RedisInbox, SqliteInbox
from veriff_async.sandbox import Fault, Sandbox
from veriff_async.webhooks import IntegrationReceiver, aiohttp_app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from veriff_async._protocol.request import Request
    from veriff_async.inbox import Inbox
    from veriff_async.models.events import WebhookEvent

pytestmark = pytest.mark.anyio

QUICK: Final = RetryPolicy(initial_backoff=0.001, max_backoff=0.002)
MEDIA: Final = "/v1/sessions/*/media"
PERSON: Final = Person(first_name="Canary-First", last_name="Canary-Last", id_number="CANARY-4711")
PICTURE: Final = b"\xff\xd8\xff\xe0" + b"canary-picture" * 2000
UNKNOWN: Final = "8f0d1ab6-0000-4000-8000-000000000001"
FIELDS: Final = frozenset(f"{PREFIX}{name}" for name in LogFields.__annotations__)
STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """Return the fields of a record, without their prefix."""
    return {name.removeprefix(PREFIX): value for name, value in vars(record).items() if name not in STANDARD}


@every_loop
async def test_attempts_retries_and_pauses_are_logged(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """Each attempt is one DEBUG line with its values as fields; a retry and a pause of the client are INFO."""
    caplog.set_level(logging.DEBUG, "veriff_async")
    async with VeriffClient.from_env(sandbox.environ, retry=QUICK) as veriff:
        session = await veriff.create_session()
        caplog.clear()
        sandbox.inject(Fault.status(503, retry_after=0), path=MEDIA)
        await session.upload(Media(PICTURE, "document-front"))

    first, pause, retry, second = [record for record in caplog.records if record.name == "veriff_async.http"]
    assert ["DEBUG", "INFO", "INFO", "DEBUG"] == [record.levelname for record in (first, pause, retry, second)]
    request = {
        "operation": "upload_media",
        "method": "POST",
        "path_template": "/v1/sessions/{session_id}/media",
        "session_id": session.id,
    }
    assert {**request, "attempt": 1, "status": 503}.items() <= fields_of(first).items()
    assert {**request, "attempt": 2, "status": 200}.items() <= fields_of(second).items()
    assert fields_of(second).keys() == request.keys() | {
        "attempt",
        "status",
        "duration",
        "bytes_sent",
        "bytes_received",
    }
    sent = fields_of(second)["bytes_sent"]
    assert isinstance(sent, int)
    assert sent > len(b64encode(PICTURE))
    assert {**request, "attempt": 1, "cause": "HTTP 503"}.items() <= fields_of(retry).items()
    assert {"operation": "upload_media", "status": 503}.items() <= fields_of(pause).items()
    assert re.fullmatch(
        r"POST /v1/sessions/\{session_id\}/media: HTTP 200 in \d+\.\d{3} s "
        r"\(attempt 2; \d+ bytes sent, \d+ received; request id unknown\)",
        second.getMessage(),
    )


async def test_failures_are_logged_by_their_cause(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """An attempt without a response is logged with the cause, one that breaks in its body with status and cause."""
    caplog.set_level(logging.DEBUG, "veriff_async")
    async with VeriffClient.from_env(sandbox.environ, retry=QUICK) as veriff:
        session = await veriff.create_session()
        sandbox.inject(Fault.drop(), method="GET")
        sandbox.inject(Fault.truncate_response(after=5), method="GET")
        await session.media()
        sandbox.inject(Fault.hang(), method="GET")
        task = asyncio.create_task(session.media())
        await until(lambda: not sandbox.faults)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    attempts = [fields_of(record) for record in caplog.records if "duration" in fields_of(record)][1:]
    causes = [(attempt.get("status"), attempt.get("cause")) for attempt in attempts]
    assert [None, 200, 200, None] == [status for status, _ in causes]
    assert [True, True, False, True] == [cause is not None for _, cause in causes]
    assert "CancelledError" == causes[-1][1]


async def test_request_id_of_the_server_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The id from the response is a field, in the line, and of the error; one with a line break is not."""
    ids = ["r-1", "r-2 forged"]

    async def answer(request: web.Request) -> web.Response:
        return web.json_response({}, status=404, headers={"X-Request-ID": ids.pop(0)})

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    caplog.set_level(logging.DEBUG, "veriff_async")
    async with VeriffClient(
        Credentials("key", "secret"), base_url=f"http://127.0.0.1:{runner.addresses[0][1]}"
    ) as veriff:
        found = []
        for _ in range(2):
            with pytest.raises(NotFoundError) as caught:
                await veriff.fraud_categories()
            found.append(caught.value.request_id)
    await runner.cleanup()

    assert ["r-1", None] == found
    assert ["r-1", None] == [
        fields_of(record).get("request_id") for record in caplog.records if "attempt" in fields_of(record)
    ]
    assert "request id r-1)" in caplog.text


async def add_token(request: CallRequest, call_next: CallNext) -> CallResponse:
    """Add a header with a secret of the application."""
    request.headers["X-Gateway-Token"] = "canary-token"
    return await call_next(request)


async def fail(delivery: Delivery[WebhookEvent]) -> NoReturn:
    """Fail with a text that holds personal data."""
    raise ValueError(f"{delivery!r} Canary-First")


class BrokenInbox(MemoryInbox):
    """An inbox whose errors hold personal data."""

    async def get_states(self, session_ids: object) -> NoReturn:
        """Fail."""
        raise LookupError("Canary-First")


async def use_everything(sandbox: Sandbox, tmp_path: Path) -> list[str]:
    """Use every feature once, with failures, and return the secrets that were involved."""
    broken: list[Inbox] = [BrokenInbox(), RedisInbox("redis://user:canary-password@127.0.0.1:9/0")]
    damaged = tmp_path / "damaged.db"
    await to_thread.run_sync(damaged.write_bytes, b"no database" * 1000)
    inbox = SqliteInbox(tmp_path / "inbox.db")
    receiver = WebhookReceiver(sandbox.credentials, inbox, on_event=fail)
    runner = web.AppRunner(aiohttp_app(receiver, "/veriff"))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/veriff"
    sandbox.webhook_url = url
    secrets: list[str] = []
    async with VeriffClient.from_env(sandbox.environ, retry=QUICK, inbox=inbox, middleware=[add_token]) as veriff:
        session = await veriff.create_session(person=PERSON, vendor_data="canary-vendor", extra={"x": "canary-extra"})
        assert session.url is not None
        secrets += [session.url, session.url.rpartition("/")[2]]
        for fault in (Fault.status(503), Fault.drop(), Fault.lose_response()):
            sandbox.inject(fault, path=MEDIA)
            await session.upload(Media(PICTURE, "document-front"))
        receipts = await session.upload(Media(PICTURE, "face"))
        await session.submit()
        waiting = asyncio.create_task(session.wait_for_decision(timeout=30))
        sandbox.decide(session.id, "approved")
        await waiting
        await veriff.download_media(receipts[0].id, tmp_path / "canary-file.jpg")
        async with veriff.stream_media(receipts[0].id) as stream:
            assert [piece async for piece in stream]
        with suppress(NotFoundError):
            await veriff.session(UNKNOWN).person()
        sandbox.inject(Fault.forge_signature(), method="GET")
        sandbox.inject(Fault.lose_response(), path="/v1/sessions")
        for call in (session.attempts, lambda: veriff.create_session(person=PERSON)):
            with suppress(VeriffError):
                await call()
    async with ClientSession() as http:
        body = b'{"person": "Canary-First"}'
        await http.post(url, data=body, headers={"Content-Type": "application/json", "X-HMAC-SIGNATURE": "0" * 64})
    await runner.cleanup()
    await receiver.aclose()
    await inbox.aclose()
    for other in (*broken, SqliteInbox(damaged)):
        async with VeriffClient.from_env(sandbox.environ, retry=QUICK, inbox=other) as veriff:
            session = await veriff.create_session(person=PERSON)
            await session.submit()
            sandbox.decide(session.id, "approved")
            await session.wait_for_decision(timeout=30)
        if isinstance(other, SqliteInbox | RedisInbox):
            await other.aclose()
    return secrets


async def test_canaries_appear_nowhere(sandbox: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At DEBUG, with every feature in use and failing, no record of any logger holds what must not be logged."""
    caplog.set_level(logging.DEBUG, "veriff_async")
    secrets = await use_everything(sandbox, tmp_path)

    logged = [record for record in caplog.records if record.name.startswith("veriff_async")]
    assert {"veriff_async.http", "veriff_async.waiting", "veriff_async.webhooks.receiver"} <= {
        record.name for record in logged
    }
    text = "\n".join(
        f"{record.getMessage()} {record.args!r} {fields_of(record)!r} {record.exc_text}" for record in logged
    )
    credentials = sandbox.credentials
    secrets += [credentials.api_key, credentials.shared_secret, b64encode(PICTURE)[:40].decode(), *sandbox_tokens(text)]
    assert not [secret for secret in secrets if secret in text]
    assert "canary" not in text.lower()
    # Neither a signature nor a path with an id.
    assert re.search(r"\b[0-9a-f]{64}\b", text) is None
    assert re.search(r"/v1/[a-z/-]*[0-9a-f]{8}-", text) is None
    assert not any(record.exc_info for record in logged)


def sandbox_tokens(text: str) -> list[str]:
    """Return the texts that look like a token of a session: three parts of base64, of which one begins with a brace."""
    return re.findall(r"eyJ[\w-]+\.[\w-]+\.[\w-]+", text)


async def test_fields_are_documented_and_can_be_written_as_json(
    sandbox: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each field of each record is in `LogFields`, has a JSON value, and cannot replace an attribute of a record."""
    caplog.set_level(logging.DEBUG, "veriff_async")
    await use_everything(sandbox, tmp_path)

    found = {f"{PREFIX}{name}" for record in caplog.records for name in fields_of(record)}
    assert found <= FIELDS
    assert not FIELDS & STANDARD
    assert json.dumps([fields_of(record) for record in caplog.records])


def log_with(formatter: logging.Formatter) -> tuple[logging.Handler, io.StringIO]:
    """Return a handler that writes records into memory."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(formatter)
    return handler, written


@pytest.mark.parametrize(
    "formatter",
    [
        JsonFormatter("{levelname}{message}", style="{"),
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        ),
    ],
    ids=["python-json-logger", "structlog"],
)
async def test_fields_reach_formatters(sandbox: Sandbox, formatter: logging.Formatter) -> None:
    """Structlog and python-json-logger write the fields as members of one object for each record."""
    handler, written = log_with(formatter)
    logger = logging.getLogger("veriff_async.http")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        async with VeriffClient.from_env(sandbox.environ) as veriff:
            await veriff.create_session()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)

    (line,) = written.getvalue().splitlines()
    found = json.loads(line)
    assert ("create_session", 201, 1) == (found["veriff_operation"], found["veriff_status"], found["veriff_attempt"])


async def test_broken_filter_does_not_break_a_call(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """An exception in the logging of the application does not reach the call."""

    def refuse(record: logging.LogRecord) -> bool:
        raise LookupError(record.name)

    caplog.set_level(logging.DEBUG, "veriff_async")
    logger = logging.getLogger("veriff_async.http")
    logger.addFilter(refuse)
    try:
        async with VeriffClient.from_env(sandbox.environ) as veriff:
            assert (await veriff.create_session()).id
    finally:
        logger.removeFilter(refuse)


@pytest.mark.parametrize(("level", "observes"), [("WARNING", False), ("INFO", True), ("DEBUG", True)])
def test_log_that_is_off_observes_nothing(level: str, observes: bool, caplog: pytest.LogCaptureFixture) -> None:  # noqa: FBT001
    """Without INFO, a call has no observer, so it makes no record and measures nothing."""
    from tests.endpoint_samples import sample_call  # noqa: PLC0415  imports all models

    caplog.set_level(level, "veriff_async.http")
    request = sample_call("create_session").sign(Credentials("key", "secret"))
    assert observes == (CallLog().start_call(request, "https://veriff.example") is not None)


@contextmanager
def bare_logging() -> Iterator[logging.Logger]:
    """Return the logger of the library as in a program that does not configure logging."""
    root, logger = logging.getLogger(), logging.getLogger("veriff_async")
    # Not in a fixture: pytest adds handlers after it has made the fixtures.
    before = list(root.handlers), list(logger.handlers), logger.level, _Applied.value
    root.handlers[:], _Applied.value = [], ""
    try:
        yield logger
    finally:
        root.handlers[:], logger.handlers[:], level, _Applied.value = before
        logger.setLevel(level)


@pytest.mark.parametrize("value", ["debug", " INFO "])
async def test_variable_shows_the_log(
    sandbox: Sandbox,
    value: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """``VERIFF_LOG`` writes the log to stderr as soon as a client exists, with the session of each line, once."""
    with bare_logging():
        monkeypatch.setenv(LOG_VARIABLE, value)
        for _ in range(2):
            async with VeriffClient.from_env(sandbox.environ, retry=QUICK) as veriff:
                session = await veriff.create_session()
        sandbox.inject(Fault.status(500), method="GET")
        async with VeriffClient.from_env(sandbox.environ, retry=QUICK) as veriff:
            await veriff.session(session.id).media()

        lines = capsys.readouterr().err.splitlines()
        assert [value == "debug"] == ["DEBUG veriff_async.http: POST /v1/sessions: HTTP 201" in line for line in lines][
            :1
        ]
        assert (5 if value == "debug" else 1) == len(lines)
        assert f"session={session.id}" in lines[-1]


def test_receiver_reads_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that only receives webhooks shows its log as well."""
    with bare_logging() as logger:
        monkeypatch.setenv(LOG_VARIABLE, "info")
        WebhookReceiver(Credentials("key", "secret"), MemoryInbox())

        assert logging.INFO == logger.level


async def test_variable_shows_the_integration(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``VERIFF_LOG`` names the integration whose receiver has refused a request."""
    with bare_logging():
        monkeypatch.setenv(LOG_VARIABLE, "info")
        shop = WebhookReceiver(Credentials("key", "secret"), MemoryInbox())
        async with IntegrationReceiver({"shop": shop}) as receiver:
            await receiver.handle("POST", {"x-auth-client": "key", "x-hmac-signature": "0" * 64}, b"{}")
        assert capsys.readouterr().err.rstrip().endswith(" integration=shop")


def test_handlers_of_the_program_replace_the_variables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A record is not shown twice, whether the program configures logging before or later."""
    with bare_logging() as logger:
        monkeypatch.setenv(LOG_VARIABLE, "debug")
        show_log()
        logger.debug("one")
        handler, written = log_with(logging.Formatter("%(message)s"))
        logging.getLogger().addHandler(handler)
        logger.debug("two")
        handler.setLevel(logging.ERROR)
        logger.debug("three")

        assert "two\n" == written.getvalue()
        assert ["one", "three"] == [line.rpartition(" ")[2] for line in capsys.readouterr().err.splitlines()]


def test_handlers_that_do_not_get_a_record_hide_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only handlers to which a record propagates replace the variable's: those of its own logger, too."""
    with bare_logging() as logger:
        monkeypatch.setenv(LOG_VARIABLE, "debug")
        show_log()
        child = logging.getLogger("veriff_async.http")
        handler, written = log_with(logging.Formatter("%(message)s"))
        child.addHandler(handler)
        child.debug("one")
        child.removeHandler(handler)
        logging.getLogger().addHandler(handler)
        logger.propagate = False
        child.debug("two")
        logger.propagate = True

        assert "one\n" == written.getvalue()
        assert ["two"] == [line.rpartition(" ")[2] for line in capsys.readouterr().err.splitlines()]


class Failing:
    """An observer that fails in every call."""

    def start_call(self, request: Request, root: str) -> NoReturn:
        """Fail with a text that may hold data."""
        msg = f"canary {request.path} {root}"
        raise LookupError(msg)


async def test_failing_observer_is_logged_once(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """A fault of an observer is one record with its place and not its text, however many calls it is in."""
    async with VeriffClient.from_env(sandbox.environ) as veriff:
        runtime_of(veriff).transport.observers.append(Failing())
        for _ in range(2):
            await veriff.create_session()

    (record,) = caplog.records
    assert re.fullmatch(r"An observer .* failed with LookupError at .*test_logging\.py:\d+; .*", record.getMessage())
    assert record.exc_info is None


def test_wrong_value_of_the_variable_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong value changes nothing, and the warning does not show it."""
    with bare_logging() as logger:
        logger.addHandler(caplog.handler)
        monkeypatch.setenv(LOG_VARIABLE, "canary")
        show_log()
        show_log()

        assert ["VERIFF_LOG has no effect: set it to debug, info, warning or error."] == caplog.messages
        assert logging.NOTSET == logger.level
        assert log_level_from({LOG_VARIABLE: ""}) is None


def test_level_can_change_while_a_program_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value takes effect once, so that a level that the program sets afterwards is kept."""
    with bare_logging() as logger:
        monkeypatch.setenv(LOG_VARIABLE, "debug")
        show_log()
        logger.setLevel(logging.ERROR)
        show_log()

        assert logging.ERROR == logger.level
