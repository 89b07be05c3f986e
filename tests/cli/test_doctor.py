"""`veriff-async doctor`: each check against a real cause of its failure."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import anyio
import pytest
import trustme
from aiohttp import web

from tests.conditions import needs_posix
from veriff_async import Credentials, SignatureError, verify_webhook
from veriff_async._protocol.health import MAX_SKEW, check_clock, measure_clock_skew
from veriff_async.cli.doctor.checks import (
    CHECKS,
    check_receiver,
    check_variables,
    check_versions,
)
from veriff_async.cli.doctor.command import diagnose
from veriff_async.health import CheckOutcome, CheckResult
from veriff_async.sandbox import Fault, Sandbox, SandboxOptions

if TYPE_CHECKING:
    import subprocess
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from pathlib import Path

    from tests.cli.conftest import Receiver

    Run = Callable[..., subprocess.CompletedProcess[str]]
    Serve = Callable[..., Awaitable[str]]

KEY: Final = "6f1b1b52-8d2c-4e0e-9b6f-0a5a3f0e8a11"
SECRET: Final = "0f0e0d0c-0b0a-4908-8706-050403020100"
OTHER: Final = "11111111-2222-4333-8444-555555555555"
VARIABLES: Final = {"VERIFF_API_KEY": KEY, "VERIFF_SHARED_SECRET": SECRET}
CREDENTIALS: Final = Credentials(KEY, SECRET)


async def run_checks(environ: Mapping[str, str], webhook_url: str | None = None) -> dict[str, CheckResult]:
    """Run all checks; each one has a result, in the documented order."""
    results = [result async for result in diagnose(environ, webhook_url=webhook_url)]
    assert [result.name for result in results][: len(CHECKS)] == list(CHECKS)
    message = " ".join(result.message for result in results)
    for secret in (*environ.get("VERIFF_SHARED_SECRET", "").split(","), environ.get("VERIFF_API_KEY", "")):
        assert len(secret) < 8 or secret not in message
    return {result.name: result for result in results}


def failed_checks(results: Mapping[str, CheckResult]) -> list[str]:
    """Return the names of the checks that failed."""
    return [name for name, result in results.items() if result.outcome is CheckOutcome.FAILED]


def skipped_checks(results: Mapping[str, CheckResult]) -> list[str]:
    """Return the names of the checks that were skipped."""
    return [name for name, result in results.items() if result.outcome is CheckOutcome.SKIPPED]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Return a function that starts a server with the same response to every request."""
    runners: list[web.AppRunner] = []

    async def call(
        answer: Callable[[web.Request], web.Response],
        certificate: ssl.SSLContext | None = None,
        name: str = "127.0.0.1",
    ) -> str:
        async def handle(request: web.Request) -> web.Response:
            return answer(request)

        app = web.Application()
        app.router.add_route("*", "/{any:.*}", handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield call
    for runner in runners:
        await runner.cleanup()


def not_found(_request: web.Request) -> web.Response:
    """Answer as Veriff does for an unknown session, but without a signature."""
    return web.json_response({"status": "fail", "message": "Session not found"}, status=404)


def create_tls_context(authority: trustme.CA, *names: str, until: datetime | None = None) -> ssl.SSLContext:
    """Create the TLS context of a server."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names, not_after=until).configure_cert(context)
    return context


def test_doctor_reports_no_failure_for_a_correct_setup(
    run_in_terminal: Callable[..., tuple[int, str]], receiver: Receiver
) -> None:
    """With a working Veriff and receiver no check fails, no session is created, and no secret is shown."""
    receiver.answer = lambda headers, body: 200 if is_signed(headers, body) else 401
    with Sandbox() as sandbox:
        code, shown = run_in_terminal("doctor", "--webhook-url", receiver.url, **sandbox.environ)
        secret, sessions = sandbox.credentials.shared_secret, sandbox.sessions

    lines = [re.sub(r"\x1b\[[\d;]*m", "", line).split() for line in shown.splitlines()]
    assert code == 0
    assert [line[0] for line in lines if line[:1] == ["failed"]] == []
    assert "request with a wrong signature is refused (HTTP 401, code 1818)" in " ".join(
        word for line in lines for word in line
    )
    assert "The receiver answers 200 to a signed sample." in shown
    assert secret not in shown
    assert sessions == ()


def is_signed(headers: dict[str, str], body: bytes, credentials: Credentials | None = None) -> bool:
    """Return whether the signature of a sample is valid; without credentials, whether it is there and not forged."""
    if credentials is None:
        forger = Credentials(headers["x-auth-client"], "00000000-0000-4000-8000-000000000000")
        signature = headers.get("x-hmac-signature", "")
        return bool(signature) and forger.verify(body, signature) is None
    try:
        verify_webhook(headers, body, credentials)
    except SignatureError:
        return False
    return True


def test_long_messages_wrap_between_words(run_in_terminal: Callable[..., tuple[int, str]]) -> None:
    """On a terminal the further lines of a message are indented to its beginning."""
    code, shown = run_in_terminal("doctor")
    lines = [line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", shown).splitlines()]
    text = " ".join(line.strip() for line in lines)

    assert code == 1
    assert "VERIFF_BASE_URL is not set: copy the base URL of the integration from the integration's API Keys" in text
    assert {line[:27] for line in lines if line.startswith(" ")} == {" " * 27}


@needs_posix
def test_json_has_one_failed_result_for_a_wrong_secret(run: Run, tmp_path: Path) -> None:
    """A wrong secret in a file is exit code 1 and fails only one check."""
    file = tmp_path / "settings"
    with Sandbox() as sandbox:
        lines = [f"{name}={value}" for name, value in {**sandbox.environ, "VERIFF_SHARED_SECRET": OTHER}.items()]
        file.write_text("\n".join(lines))
        file.chmod(0o600)
        result = run("doctor", "--json", "--env-file", str(file))

    document = json.loads(result.stdout)
    rows = {row["name"]: row for row in document["results"]}
    assert result.returncode == 1
    assert document["ok"] is False
    assert list(rows) == list(CHECKS)
    assert [name for name, row in rows.items() if row["outcome"] == "failed"] == ["credentials"]
    assert "code 1818" in rows["credentials"]["message"]
    assert "VERIFF_SHARED_SECRET" in rows["credentials"]["message"]
    assert result.stderr == ""


def test_trusted_certificate_passes_with_its_tls_version(run: Run, tmp_path: Path) -> None:
    """A server that accepts every signature proves nothing about the secret, so that check is a warning."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    tls_context = create_tls_context(authority, "localhost")

    async def run_against_server() -> subprocess.CompletedProcess[str]:
        app = web.Application()

        async def handle(request: web.Request) -> web.Response:
            return not_found(request)

        app.router.add_route("*", "/{any:.*}", handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls_context).start()
        url = f"https://localhost:{runner.addresses[0][1]}/v1/"
        trust = {"SSL_CERT_FILE": str(tmp_path / "authority.pem"), "VERIFF_BASE_URL": url}
        try:
            return await anyio.to_thread.run_sync(lambda: run("doctor", "--json", **VARIABLES, **trust))
        finally:
            await runner.cleanup()

    result = anyio.run(run_against_server)

    rows = {row["name"]: row for row in json.loads(result.stdout)["results"]}
    assert result.returncode == 0
    assert rows["tls"]["outcome"] == "ok"
    assert rows["tls"]["message"].startswith("TLSv1.3")
    assert rows["credentials"]["outcome"] == "warning"
    assert "Veriff did not check the signature" in rows["credentials"]["message"]
    assert rows["response signature"]["outcome"] == "skipped"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("variable", "value", "name", "words"),
    [
        ("VERIFF_API_KEY", "", "api key", "is not set"),
        ("VERIFF_API_KEY", "not-a-uuid", "api key", "1802"),
        ("VERIFF_SHARED_SECRET", " , ", "shared secret", "is not set"),
        ("VERIFF_SHARED_SECRET", KEY, "shared secret", "is the API key"),
        ("VERIFF_SHARED_SECRET", ",".join(str(uuid4()) for _ in range(6)), "shared secret", "more than 5"),
        ("VERIFF_INTEGRATION_ID", "mine", "integration id", "is not a UUID"),
    ],
)
async def test_invalid_variable_is_named(variable: str, value: str, name: str, words: str) -> None:
    """A missing or invalid variable fails its own check, and the checks that need it are skipped."""
    results = await run_checks({**VARIABLES, "VERIFF_BASE_URL": "http://127.0.0.1:9", variable: value})

    assert failed_checks(results) == [name, "connection"]
    assert words in results[name].message
    assert {"response", "credentials", "clock", "tls"} <= set(skipped_checks(results))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("url", "words"), [("", "is not set"), ("http://veriff.example", "not https"), ("stationapi", "not an absolute")]
)
async def test_invalid_base_url_is_named(url: str, words: str) -> None:
    """Without a valid base URL nothing is requested, and the checks that need it are skipped."""
    results = await run_checks({**VARIABLES, "VERIFF_BASE_URL": url})

    assert failed_checks(results) == ["base url"]
    assert words in results["base url"].message
    assert len(skipped_checks(results)) == len(CHECKS) - CHECKS.index("name")


@pytest.mark.anyio
async def test_unknown_host_fails_only_the_name_check() -> None:
    """A host name that does not resolve fails only the check of the name."""
    results = await run_checks({**VARIABLES, "VERIFF_BASE_URL": "https://unknown.invalid"})

    assert failed_checks(results) == ["name"]
    assert "unknown.invalid" in results["name"].message


@pytest.mark.anyio
async def test_closed_port_fails_only_the_connection_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that could reach the server is named without its password."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("HTTPS_PROXY", "http://ada:lovelace@proxy:3128")

    results = await run_checks({**VARIABLES, "VERIFF_BASE_URL": f"http://127.0.0.1:{port}"})

    assert failed_checks(results) == ["connection"]
    assert "Connection refused" in results["connection"].message
    assert results["proxies"].outcome is CheckOutcome.WARNING
    assert "HTTPS_PROXY" in results["proxies"].message
    assert "lovelace" not in results["proxies"].message


@pytest.fixture(params=["authority", "another host name", "expired"])
def untrusted(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> tuple[ssl.SSLContext, str]:
    """Return the TLS context of a server that is not to be trusted, and the words that say why."""
    words: str = request.param
    authority = trustme.CA()
    if words != "authority":
        authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    name = "veriff.example" if words == "another host name" else "localhost"
    until = datetime.now(UTC) + timedelta(days=-1 if words == "expired" else 1)
    return create_tls_context(authority, name, until=until), words


@pytest.mark.anyio
async def test_untrusted_certificate_is_named_with_its_reason(
    receiver: Receiver, untrusted: tuple[ssl.SSLContext, str]
) -> None:
    """An unknown authority, another host and an expired certificate have different messages; no request is sent."""
    tls_context, words = untrusted
    receiver.socket = tls_context.wrap_socket(receiver.socket, server_side=True)

    results = await run_checks({**VARIABLES, "VERIFF_BASE_URL": f"https://localhost:{receiver.server_port}"})

    assert failed_checks(results) == ["tls"]
    assert words in results["tls"].message
    assert receiver.received == []


@pytest.mark.anyio
async def test_server_without_tls_fails_only_the_tls_check(serve: Serve) -> None:
    """Plain http behind an https URL has its own message."""
    url = await serve(not_found)

    results = await run_checks({**VARIABLES, "VERIFF_BASE_URL": url.replace("http:", "https:")})

    assert failed_checks(results) == ["tls"]
    assert "https" in results["tls"].message


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("speaks", "words"), [(True, "closed during the TLS handshake"), (False, "took more than 5 seconds")]
)
async def test_tls_handshake_that_never_ends_does_not_block_the_doctor(
    advance_time: Callable[[float], None], words: str, *, speaks: bool
) -> None:
    """A server that closes the connection, or sends nothing, fails the check of TLS."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = await reader.read(1)
        if hello and not speaks:
            advance_time(6)
            await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        results = await run_checks({**VARIABLES, "VERIFF_BASE_URL": f"https://127.0.0.1:{port}"})

    assert failed_checks(results) == ["tls"]
    assert words in results["tls"].message


@pytest.mark.anyio
@pytest.mark.parametrize("seconds", [7200, -7200])
async def test_clock_that_differs_by_hours_is_a_failure(serve: Serve, seconds: int) -> None:
    """The message says which clock is ahead."""

    def answer(request: web.Request) -> web.Response:
        response = not_found(request)
        response.headers["Date"] = format_datetime(datetime.now(UTC) - timedelta(seconds=seconds), usegmt=True)
        return response

    results = await run_checks({**VARIABLES, "VERIFF_BASE_URL": await serve(answer)})

    assert failed_checks(results) == ["clock"]
    assert ("ahead of" if seconds > 0 else "behind") in results["clock"].message


def test_clock_difference_decides_the_outcome() -> None:
    """20 seconds are accepted, 60 are a warning and 200 a failure; without a valid date the check is skipped."""
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)

    def check(off: float) -> CheckOutcome:
        date = format_datetime(now - timedelta(seconds=off), usegmt=True)
        return check_clock(measure_clock_skew(date, now=now, seconds=1), MAX_SKEW).outcome

    assert [check(off) for off in (0, 20, -20, 60, -60, 200, -200)] == [
        CheckOutcome.OK,
        CheckOutcome.OK,
        CheckOutcome.OK,
        CheckOutcome.WARNING,
        CheckOutcome.WARNING,
        CheckOutcome.FAILED,
        CheckOutcome.FAILED,
    ]
    for date in (None, "yesterday"):
        assert check_clock(measure_clock_skew(date, now=now, seconds=1), MAX_SKEW).outcome is CheckOutcome.SKIPPED


@pytest.mark.anyio
async def test_wrong_key_and_wrong_secret_name_their_variables(sandbox: Sandbox) -> None:
    """Code 1803 names only the variable of the key, and code 1818 only that of the secret."""
    key = (await run_checks({**sandbox.environ, "VERIFF_API_KEY": OTHER}))["credentials"]
    secret = (await run_checks({**sandbox.environ, "VERIFF_SHARED_SECRET": OTHER}))["credentials"]

    assert (key.outcome, secret.outcome) == (CheckOutcome.FAILED, CheckOutcome.FAILED)
    assert "1803" in key.message
    assert "VERIFF_API_KEY" in key.message
    assert "VERIFF_SHARED_SECRET" not in key.message
    assert "1818" in secret.message
    assert "VERIFF_API_KEY" not in secret.message
    assert sandbox.sessions == ()


@pytest.mark.anyio
async def test_each_secret_is_checked(sandbox: Sandbox) -> None:
    """A refused further secret is named by its position; a refused first secret names a further one that works."""
    good = sandbox.credentials.shared_secret

    bad_second = await run_checks({**sandbox.environ, "VERIFF_SHARED_SECRET": f"{good},{OTHER}"})
    bad_first = await run_checks({**sandbox.environ, "VERIFF_SHARED_SECRET": f"{OTHER},{good}"})
    sandbox.credentials = sandbox.credentials.with_rotated_secret(OTHER)
    both = await run_checks({**sandbox.environ})

    assert failed_checks(bad_second) == []
    assert bad_second["other secrets"].outcome is CheckOutcome.WARNING
    assert "number 2 is refused" in bad_second["other secrets"].message
    assert failed_checks(bad_first) == ["credentials"]
    assert "put one of them first" in bad_first["other secrets"].message
    assert both["other secrets"].outcome is CheckOutcome.OK


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fault", "name", "words"),
    [
        (Fault.forge_signature(), "response signature", "signature does not match"),
        (Fault.status(503), "credentials", "HTTP 503"),
        (Fault.status(301), "credentials", "redirects"),
        (Fault.status(401), "credentials", "HTTP 401"),
        (Fault.drop(), "response", "closed before a response"),
    ],
)
async def test_each_wrong_response_has_its_message(sandbox: Sandbox, fault: Fault, name: str, words: str) -> None:
    """Each wrong response fails only one check."""
    # The client repeats a request whose connection closed before a response.
    sandbox.inject(fault, times=2 if name == "response" else 1)

    results = await run_checks(sandbox.environ)

    assert failed_checks(results) == [name]
    assert words in results[name].message


@pytest.mark.anyio
async def test_rate_limit_is_a_warning(sandbox: Sandbox) -> None:
    """HTTP 429 proves nothing about the credentials."""
    sandbox.inject(Fault.status(429))

    results = await run_checks(sandbox.environ)

    assert failed_checks(results) == []
    assert results["credentials"].outcome is CheckOutcome.WARNING


@pytest.mark.anyio
async def test_server_other_than_veriff_fails_the_credentials_check(serve: Serve) -> None:
    """A web server that answers every request with 404 has not accepted the credentials."""
    url = await serve(lambda _request: web.Response(text="<h1>Not found</h1>", status=404))

    results = await run_checks({**VARIABLES, "VERIFF_BASE_URL": url})

    assert failed_checks(results) == ["credentials"]
    assert "VERIFF_BASE_URL" in results["credentials"].message


@pytest.mark.anyio
async def test_unsigned_error_response_is_skipped() -> None:
    """Veriff does not document whether it signs error responses."""
    async with Sandbox(options=SandboxOptions(sign_errors=False)) as sandbox:
        results = await run_checks(sandbox.environ)

    assert failed_checks(results) == []
    assert results["credentials"].outcome is CheckOutcome.OK
    assert results["response signature"].outcome is CheckOutcome.SKIPPED


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("signed", "others", "wrong"),
    [
        (200, 401, []),
        (200, 200, ["webhook unsigned", "webhook forged"]),
        (401, 401, ["webhook signed"]),
        (308, 401, ["webhook signed"]),
        (204, 403, ["webhook signed"]),
    ],
)
async def test_receiver_is_checked_with_three_samples(
    sandbox: Sandbox, receiver: Receiver, signed: int, others: int, wrong: list[str]
) -> None:
    """The receiver must answer 200 to a signed sample, and refuse an unsigned and a forged one."""
    receiver.answer = lambda headers, body: signed if is_signed(headers, body, sandbox.credentials) else others

    results = await run_checks(sandbox.environ, receiver.url)

    assert failed_checks(results) == wrong
    assert len(receiver.received) == 3
    assert "x-hmac-signature" not in receiver.received[1][0]
    assert results["webhook address"].outcome is CheckOutcome.WARNING


@pytest.mark.anyio
async def test_missing_receiver_is_one_failure() -> None:
    """The checks that need the receiver are skipped; without credentials the signed sample is skipped too."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"

    results = await run_checks(VARIABLES, url)
    without = await run_checks({}, "https://veriff.invalid/hook")

    assert failed_checks(results) == ["base url", "webhook signed"]
    assert {"webhook unsigned", "webhook forged"} <= set(skipped_checks(results))
    assert {"webhook signed", "webhook unsigned", "webhook forged"} <= set(skipped_checks(without))
    assert without["webhook address"].outcome is CheckOutcome.OK


def test_receiver_that_fails_on_an_unsigned_sample_is_a_warning() -> None:
    """HTTP 500 does not accept the sample, but it is not a refusal either."""
    assert check_receiver("webhook unsigned", 500, "", is_signed=False).outcome is CheckOutcome.WARNING
    assert check_receiver("webhook unsigned", None, "gone", is_signed=False).outcome is CheckOutcome.FAILED


def test_versions_are_compared_as_numbers() -> None:
    """A package below the required version is named with both versions; extras are not checked."""
    required = ("aiohttp>=3.14.5", "attrs>=24.2", "click>=8.1; extra == 'cli'")
    versions = {"veriff-async": "1", "aiohttp": "3.9.0", "attrs": "24.10", "click": "7"}

    old = check_versions("3.11.0", versions, required)

    assert old.outcome is CheckOutcome.FAILED
    assert "aiohttp 3.9.0, at least 3.14.5" in old.message
    assert "attrs" not in old.message
    assert check_versions("3.11.0", {**versions, "aiohttp": "3.14.5"}, required).outcome is CheckOutcome.OK
    assert check_versions("3.11.0", {"veriff-async": "1"}, ()).outcome is CheckOutcome.OK


def test_secret_that_is_not_a_uuid_is_a_warning() -> None:
    """Veriff's secrets look like UUIDs, but that is not documented."""
    results = anyio.run(run_checks, {**VARIABLES, "VERIFF_SHARED_SECRET": f"{SECRET},short"})

    assert results["shared secret"].outcome is CheckOutcome.WARNING
    assert "secret 2 is not a UUID" in results["shared secret"].message
    assert os.environ.get("VERIFF_SHARED_SECRET") is None


def test_old_api_host_is_a_warning_with_its_date() -> None:
    """The warning names the host, the date of its replacement, and the page with the new one."""
    results, _, root = check_variables({**VARIABLES, "VERIFF_BASE_URL": "https://stationapi.veriff.com/v1"})

    assert "https://stationapi.veriff.com" == root
    assert results[-1].outcome is CheckOutcome.WARNING
    for words in ("stationapi.veriff.com", "9 December 2026", "API Keys page"):
        assert words in results[-1].message


def test_doctor_allows_insecure_hosts_of_the_environment() -> None:
    """The variable that allows plain http to a named host applies to the doctor as to the client."""
    environ = {**VARIABLES, "VERIFF_BASE_URL": "http://veriff-sandbox:8080"}

    assert check_variables(environ)[2] is None
    assert (
        check_variables({**environ, "VERIFF_ALLOW_INSECURE_HOSTS": "veriff-sandbox"})[2] == environ["VERIFF_BASE_URL"]
    )
