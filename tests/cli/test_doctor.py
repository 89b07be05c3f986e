"""`veriff-async doctor`: each thing that can be wrong, for real."""

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

from veriff_async import Credentials, SignatureError, verify_webhook
from veriff_async.cli.doctor.checks import (
    CHECKS,
    CheckOutcome,
    CheckResult,
    check_clock,
    check_receiver,
    check_variables,
    check_versions,
)
from veriff_async.cli.doctor.command import diagnose
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


async def found(environ: Mapping[str, str], webhook_url: str | None = None) -> dict[str, CheckResult]:
    """Make all checks; each of them has a result, in the order that is documented."""
    results = [result async for result in diagnose(environ, webhook_url=webhook_url)]
    assert [result.name for result in results][: len(CHECKS)] == list(CHECKS)
    message = " ".join(result.message for result in results)
    for secret in (*environ.get("VERIFF_SHARED_SECRET", "").split(","), environ.get("VERIFF_API_KEY", "")):
        assert len(secret) < 8 or secret not in message
    return {result.name: result for result in results}


def failed(results: Mapping[str, CheckResult]) -> list[str]:
    """Return the names of the checks that failed."""
    return [name for name, result in results.items() if result.outcome is CheckOutcome.FAILED]


def skipped(results: Mapping[str, CheckResult]) -> list[str]:
    """Return the names of the checks that were skipped."""
    return [name for name, result in results.items() if result.outcome is CheckOutcome.SKIPPED]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Give a way to run a server that says the same to everybody."""
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
    """Answer as Veriff does to a session that nobody has, unsigned."""
    return web.json_response({"status": "fail", "message": "Session not found"}, status=404)


def certificate(authority: trustme.CA, *names: str, until: datetime | None = None) -> ssl.SSLContext:
    """Make what a server needs for TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names, not_after=until).configure_cert(context)
    return context


def test_all_is_well_in_a_terminal(run_in_terminal: Callable[..., tuple[int, str]], receiver: Receiver) -> None:
    """With a Veriff and a receiver that are right, nothing fails, and nothing was created nor is a secret shown."""
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
    """Tell whether a sample is signed by somebody else than nobody: the secret of the sandbox is not known here."""
    if credentials is None:
        nobody = Credentials(headers["x-auth-client"], "00000000-0000-4000-8000-000000000000")
        signature = headers.get("x-hmac-signature", "")
        return bool(signature) and nobody.verify(body, signature) is None
    try:
        verify_webhook(headers, body, credentials)
    except SignatureError:
        return False
    return True


def test_long_findings_are_wrapped_between_words(run_in_terminal: Callable[..., tuple[int, str]]) -> None:
    """On a terminal a sentence is wrapped between words, and its further lines stand below its beginning."""
    code, shown = run_in_terminal("doctor")
    lines = [line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", shown).splitlines()]
    text = " ".join(line.strip() for line in lines)

    assert code == 1
    assert "VERIFF_BASE_URL is not set: copy the base URL of the integration from the integration's API Keys" in text
    assert {line[:27] for line in lines if line.startswith(" ")} == {" " * 27}


def test_what_is_wrong_is_told_to_programs(run: Run, tmp_path: Path) -> None:
    """A wrong secret from a file is exit code 1 and one result, beside which the others stand as they are."""
    file = tmp_path / "settings"
    with Sandbox() as sandbox:
        lines = [f"{name}={value}" for name, value in {**sandbox.environ, "VERIFF_SHARED_SECRET": OTHER}.items()]
        file.write_text("\n".join(lines))
        file.chmod(0o600)
        done = run("doctor", "--json", "--env-file", str(file))

    document = json.loads(done.stdout)
    rows = {row["name"]: row for row in document["results"]}
    assert done.returncode == 1
    assert document["ok"] is False
    assert list(rows) == list(CHECKS)
    assert [name for name, row in rows.items() if row["outcome"] == "failed"] == ["credentials"]
    assert "code 1818" in rows["credentials"]["message"]
    assert "VERIFF_SHARED_SECRET" in rows["credentials"]["message"]
    assert done.stderr == ""


def test_a_trusted_certificate_is_seen(run: Run, tmp_path: Path) -> None:
    """TLS is told with its version; a server that takes every signature leaves the secret unproven."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    served = certificate(authority, "localhost")

    async def both() -> subprocess.CompletedProcess[str]:
        app = web.Application()

        async def handle(request: web.Request) -> web.Response:
            return not_found(request)

        app.router.add_route("*", "/{any:.*}", handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=served).start()
        url = f"https://localhost:{runner.addresses[0][1]}/v1/"
        trust = {"SSL_CERT_FILE": str(tmp_path / "authority.pem"), "VERIFF_BASE_URL": url}
        try:
            return await anyio.to_thread.run_sync(lambda: run("doctor", "--json", **VARIABLES, **trust))
        finally:
            await runner.cleanup()

    done = anyio.run(both)

    rows = {row["name"]: row for row in json.loads(done.stdout)["results"]}
    assert done.returncode == 0
    assert rows["tls"]["outcome"] == "ok"
    assert rows["tls"]["message"].startswith("TLSv1.3")
    assert rows["credentials"]["outcome"] == "warning"
    assert "Veriff did not check the signature" in rows["credentials"]["message"]
    assert rows["answer signature"]["outcome"] == "skipped"


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
async def test_variables_are_named(variable: str, value: str, name: str, words: str) -> None:
    """A variable that is missing or cannot be right is named, and what needs it is skipped, not failed."""
    results = await found({**VARIABLES, "VERIFF_BASE_URL": "http://127.0.0.1:9", variable: value})

    assert failed(results) == [name, "connection"]
    assert words in results[name].message
    assert {"answer", "credentials", "clock", "tls"} <= set(skipped(results))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("url", "words"), [("", "is not set"), ("http://veriff.example", "not https"), ("stationapi", "not an absolute")]
)
async def test_an_address_that_cannot_be_is_named(url: str, words: str) -> None:
    """Without an address nothing is reached, and everything that needs it is skipped."""
    results = await found({**VARIABLES, "VERIFF_BASE_URL": url})

    assert failed(results) == ["base url"]
    assert words in results["base url"].message
    assert len(skipped(results)) == len(CHECKS) - CHECKS.index("name")


@pytest.mark.anyio
async def test_a_name_that_nobody_has() -> None:
    """A host that does not resolve fails as that, and nothing else does."""
    results = await found({**VARIABLES, "VERIFF_BASE_URL": "https://nobody.invalid"})

    assert failed(results) == ["name"]
    assert "nobody.invalid" in results["name"].message


@pytest.mark.anyio
async def test_a_port_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection fails as that, with a proxy that would be the way out named without its password."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("HTTPS_PROXY", "http://ada:lovelace@proxy:3128")

    results = await found({**VARIABLES, "VERIFF_BASE_URL": f"http://127.0.0.1:{port}"})

    assert failed(results) == ["connection"]
    assert "Connection refused" in results["connection"].message
    assert results["proxies"].outcome is CheckOutcome.WARNING
    assert "HTTPS_PROXY" in results["proxies"].message
    assert "lovelace" not in results["proxies"].message


@pytest.fixture(params=["authority", "another host name", "expired"])
def untrusted(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> tuple[ssl.SSLContext, str]:
    """Give a server's certificate that is not to be trusted, and the words that say why."""
    words: str = request.param
    authority = trustme.CA()
    if words != "authority":
        authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    name = "veriff.example" if words == "another host name" else "localhost"
    until = datetime.now(UTC) + timedelta(days=-1 if words == "expired" else 1)
    return certificate(authority, name, until=until), words


@pytest.mark.anyio
async def test_a_certificate_that_nobody_trusts(receiver: Receiver, untrusted: tuple[ssl.SSLContext, str]) -> None:
    """An unknown authority, another host and an expired certificate are told apart, and nothing is sent to them."""
    served, words = untrusted
    receiver.socket = served.wrap_socket(receiver.socket, server_side=True)

    results = await found({**VARIABLES, "VERIFF_BASE_URL": f"https://localhost:{receiver.server_port}"})

    assert failed(results) == ["tls"]
    assert words in results["tls"].message
    assert receiver.posted == []


@pytest.mark.anyio
async def test_a_server_without_tls(serve: Serve) -> None:
    """Plain http where https was meant is told as that."""
    url = await serve(not_found)

    results = await found({**VARIABLES, "VERIFF_BASE_URL": url.replace("http:", "https:")})

    assert failed(results) == ["tls"]
    assert "https" in results["tls"].message


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("speaks", "words"), [(True, "closed during the TLS handshake"), (False, "took more than 5 seconds")]
)
async def test_a_handshake_that_does_not_end(
    advance_time: Callable[[float], None], words: str, *, speaks: bool
) -> None:
    """Who closes the connection, and who says nothing, does not hold the doctor up."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = await reader.read(1)
        if hello and not speaks:
            advance_time(6)
            await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        results = await found({**VARIABLES, "VERIFF_BASE_URL": f"https://127.0.0.1:{port}"})

    assert failed(results) == ["tls"]
    assert words in results["tls"].message


@pytest.mark.anyio
@pytest.mark.parametrize("seconds", [7200, -7200])
async def test_a_clock_that_is_wrong(serve: Serve, seconds: int) -> None:
    """Hours between the clocks are a failure, which says who is ahead."""

    def answer(request: web.Request) -> web.Response:
        late = not_found(request)
        late.headers["Date"] = format_datetime(datetime.now(UTC) - timedelta(seconds=seconds), usegmt=True)
        return late

    results = await found({**VARIABLES, "VERIFF_BASE_URL": await serve(answer)})

    assert failed(results) == ["clock"]
    assert ("ahead of" if seconds > 0 else "behind") in results["clock"].message


def test_a_clock_is_judged_by_seconds() -> None:
    """Some seconds are the way of the answer, half a minute is a warning, and no date is no failure."""
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)

    def judged(off: float) -> CheckOutcome:
        return check_clock(format_datetime(now - timedelta(seconds=off), usegmt=True), now=now, seconds=1).outcome

    assert [judged(off) for off in (0, 20, -20, 60, -60, 200, -200)] == [
        CheckOutcome.OK,
        CheckOutcome.OK,
        CheckOutcome.OK,
        CheckOutcome.WARNING,
        CheckOutcome.WARNING,
        CheckOutcome.FAILED,
        CheckOutcome.FAILED,
    ]
    assert check_clock(None, now=now, seconds=1).outcome is CheckOutcome.SKIPPED
    assert check_clock("yesterday", now=now, seconds=1).outcome is CheckOutcome.SKIPPED


@pytest.mark.anyio
async def test_a_wrong_key_is_told_from_a_wrong_secret(sandbox: Sandbox) -> None:
    """Code 1803 is the key and 1818 the secret, and each is named by its variable alone."""
    key = (await found({**sandbox.environ, "VERIFF_API_KEY": OTHER}))["credentials"]
    secret = (await found({**sandbox.environ, "VERIFF_SHARED_SECRET": OTHER}))["credentials"]

    assert (key.outcome, secret.outcome) == (CheckOutcome.FAILED, CheckOutcome.FAILED)
    assert "1803" in key.message
    assert "VERIFF_API_KEY" in key.message
    assert "VERIFF_SHARED_SECRET" not in key.message
    assert "1818" in secret.message
    assert "VERIFF_API_KEY" not in secret.message
    assert sandbox.sessions == ()


@pytest.mark.anyio
async def test_each_secret_is_tried(sandbox: Sandbox) -> None:
    """A further secret that is refused is named by its place, and one that would be accepted is told too."""
    good = sandbox.credentials.shared_secret

    old = await found({**sandbox.environ, "VERIFF_SHARED_SECRET": f"{good},{OTHER}"})
    turned = await found({**sandbox.environ, "VERIFF_SHARED_SECRET": f"{OTHER},{good}"})
    sandbox.credentials = sandbox.credentials.with_rotated_secret(OTHER)
    both = await found({**sandbox.environ})

    assert failed(old) == []
    assert old["other secrets"].outcome is CheckOutcome.WARNING
    assert "number 2 is refused" in old["other secrets"].message
    assert failed(turned) == ["credentials"]
    assert "put one of them first" in turned["other secrets"].message
    assert both["other secrets"].outcome is CheckOutcome.OK


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fault", "name", "words"),
    [
        (Fault.forge_signature(), "answer signature", "signature does not match"),
        (Fault.status(503), "credentials", "HTTP 503"),
        (Fault.status(301), "credentials", "redirects"),
        (Fault.status(401), "credentials", "HTTP 401"),
        (Fault.drop(), "answer", "closed before a response"),
    ],
)
async def test_an_answer_that_is_wrong(sandbox: Sandbox, fault: Fault, name: str, words: str) -> None:
    """Whatever comes instead of an answer is told for what it is, and fails alone."""
    # What was cut off unanswered is asked a second time.
    sandbox.inject(fault, times=2 if name == "answer" else 1)

    results = await found(sandbox.environ)

    assert failed(results) == [name]
    assert words in results[name].message


@pytest.mark.anyio
async def test_what_is_neither_accepted_nor_refused(sandbox: Sandbox) -> None:
    """Too many requests say nothing about the credentials, so they are a warning."""
    sandbox.inject(Fault.status(429))

    results = await found(sandbox.environ)

    assert failed(results) == []
    assert results["credentials"].outcome is CheckOutcome.WARNING


@pytest.mark.anyio
async def test_a_server_that_is_not_veriff(serve: Serve) -> None:
    """A web server that says 404 to everybody has accepted nothing."""
    url = await serve(lambda _request: web.Response(text="<h1>Not found</h1>", status=404))

    results = await found({**VARIABLES, "VERIFF_BASE_URL": url})

    assert failed(results) == ["credentials"]
    assert "VERIFF_BASE_URL" in results["credentials"].message


@pytest.mark.anyio
async def test_unsigned_refusals_are_no_fault() -> None:
    """Whether Veriff signs its refusals is not documented, so that an unsigned one is skipped."""
    async with Sandbox(options=SandboxOptions(sign_errors=False)) as sandbox:
        results = await found(sandbox.environ)

    assert failed(results) == []
    assert results["credentials"].outcome is CheckOutcome.OK
    assert results["answer signature"].outcome is CheckOutcome.SKIPPED


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
async def test_a_receiver_is_tried(
    sandbox: Sandbox, receiver: Receiver, signed: int, others: int, wrong: list[str]
) -> None:
    """It must answer 200 to a signed sample, and refuse both an unsigned and a forged one."""
    receiver.answer = lambda headers, body: signed if is_signed(headers, body, sandbox.credentials) else others

    results = await found(sandbox.environ, receiver.url)

    assert failed(results) == wrong
    assert len(receiver.posted) == 3
    assert "x-hmac-signature" not in receiver.posted[1][0]
    assert results["webhook address"].outcome is CheckOutcome.WARNING


@pytest.mark.anyio
async def test_a_receiver_that_is_not_there() -> None:
    """Its failure is one, and what cannot be tried is skipped; without credentials nothing is."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"

    results = await found(VARIABLES, url)
    without = await found({}, "https://veriff.invalid/hook")

    assert failed(results) == ["base url", "webhook signed"]
    assert {"webhook unsigned", "webhook forged"} <= set(skipped(results))
    assert {"webhook signed", "webhook unsigned", "webhook forged"} <= set(skipped(without))
    assert without["webhook address"].outcome is CheckOutcome.OK


def test_a_refusal_that_is_none() -> None:
    """A receiver that fails on what is not signed does not take it, but does not refuse it either."""
    assert check_receiver("webhook unsigned", 500, "", is_signed=False).outcome is CheckOutcome.WARNING
    assert check_receiver("webhook unsigned", None, "gone", is_signed=False).outcome is CheckOutcome.FAILED


def test_versions_are_compared_as_numbers() -> None:
    """A package below what is required is named with both numbers; extras are not looked at."""
    required = ("aiohttp>=3.14.5", "attrs>=24.2", "click>=8.1; extra == 'cli'")
    versions = {"veriff-async": "1", "aiohttp": "3.9.0", "attrs": "24.10", "click": "7"}

    old = check_versions("3.11.0", versions, required)

    assert old.outcome is CheckOutcome.FAILED
    assert "aiohttp 3.9.0, at least 3.14.5" in old.message
    assert "attrs" not in old.message
    assert check_versions("3.11.0", {**versions, "aiohttp": "3.14.5"}, required).outcome is CheckOutcome.OK
    assert check_versions("3.11.0", {"veriff-async": "1"}, ()).outcome is CheckOutcome.OK


def test_a_strange_secret_is_a_warning() -> None:
    """Veriff's secrets look like UUIDs, which is seen and not documented, so that another one is tried all the same."""
    results = anyio.run(found, {**VARIABLES, "VERIFF_SHARED_SECRET": f"{SECRET},short"})

    assert results["shared secret"].outcome is CheckOutcome.WARNING
    assert "secret 2 is not a UUID" in results["shared secret"].message
    assert os.environ.get("VERIFF_SHARED_SECRET") is None


def test_old_api_host_is_named_with_its_date() -> None:
    """A base URL that Veriff replaces is a warning that names the host, the day and where the new one is shown."""
    results, _, root = check_variables({**VARIABLES, "VERIFF_BASE_URL": "https://stationapi.veriff.com/v1"})

    assert "https://stationapi.veriff.com" == root
    assert results[-1].outcome is CheckOutcome.WARNING
    for words in ("stationapi.veriff.com", "9 December 2026", "API Keys page"):
        assert words in results[-1].message


def test_insecure_host_is_allowed_for_the_doctor_too() -> None:
    """The variable that allows plain http to a named host counts for the check of the address as for the client."""
    environ = {**VARIABLES, "VERIFF_BASE_URL": "http://veriff-sandbox:8080"}

    assert check_variables(environ)[2] is None
    assert (
        check_variables({**environ, "VERIFF_ALLOW_INSECURE_HOSTS": "veriff-sandbox"})[2] == environ["VERIFF_BASE_URL"]
    )
