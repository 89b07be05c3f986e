"""The requests, options and reports of a check."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

import pytest
import trustme

from tests.receiver_check.conftest import CREDENTIALS
from veriff_async import ConfigurationError, DecisionEvent
from veriff_async.inbox import MemoryInbox
from veriff_async.testing import RECEIVER_CASES, CaseGroup, CaseOutcome, CaseSeverity, Effects, check_receiver
from veriff_async.testing.receiver_check._cases import ALL_CASES
from veriff_async.testing.receiver_check._context import CheckContext
from veriff_async.testing.receiver_check._http_client import Endpoint
from veriff_async.webhooks import WebhookReceiver, asgi_app

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping
    from pathlib import Path

    from veriff_async.testing import CaseResult, ReceiverReport
    from veriff_async.testing.receiver_check._context import CheckOptions

pytestmark = pytest.mark.anyio

SESSIONS: Final = ("8f0d1ab6-1b47-47fc-a4fc-f72b6d3584a7", "8f0d1ab6-1b47-47fc-a4fc-f72b6d3584a8")


async def accept(scope: Mapping[str, object], _receive: object, send: Callable[..., Awaitable[None]]) -> None:
    """Answer 200 to everything, without a lifespan."""
    assert "http" == scope["type"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


def test_cases_are_complete() -> None:
    """Each case has a unique name, a source and a remedy; each group has cases, and documented rules."""
    assert len(RECEIVER_CASES) == len({case.name for case in RECEIVER_CASES})
    assert set(CaseGroup) == {case.group for case in RECEIVER_CASES}
    for case in RECEIVER_CASES:
        assert all((case.sends, case.expects, case.why, case.source, case.fix.text)), case.name
        assert case.is_documented == ("veriff.com" in case.source or "rfc-editor" in case.source), case.name


async def test_results_come_while_the_check_runs() -> None:
    """`on_result` gets each result of the report, in order."""
    seen: list[CaseResult] = []

    report = await check_receiver(accept, CREDENTIALS, only=["events"], on_result=seen.append)

    assert tuple(seen) == report.results
    assert report.is_ok
    assert {"passed": len(seen), "error": 0, "warning": 0, "note": 0, "not_checked": 0} == report.counts()


async def test_names_and_groups_select_cases() -> None:
    """`only` and `skip` take names and groups; a name in `only` wins over its group in `skip`."""
    report = await check_receiver(
        accept, CREDENTIALS, only=["events", "body-array"], skip=["decision-approved", "bodies"]
    )

    names = [result.case.name for result in report.results]
    assert ("decision-declined", "body-array") == (names[0], names[-1])


async def test_unknown_name_is_refused() -> None:
    """A misspelt case would otherwise never run."""
    with pytest.raises(ConfigurationError, match="No case has the name"):
        await check_receiver(accept, CREDENTIALS, only=["signature"])


@pytest.mark.parametrize(
    ("receiver", "words"),
    [
        ("https://shop.example/webhooks", "another host"),
        ("http://10.0.0.7/", "another host"),
        ("http://localhost.evil.example/", "another host"),
        ("ftp://localhost/", "not a URL"),
        ("http://[::1", "not a URL"),
        ("http://user:secret@localhost/", "name or password"),
    ],
)
async def test_url_is_checked(receiver: str, words: str) -> None:
    """Another host needs an agreement: the webhooks would reach a real system."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        await check_receiver(receiver, CREDENTIALS)
    assert "secret@" not in str(caught.value)


def wsgi_app(_environ: object, _start_response: object) -> list[bytes]:
    """Stand for an application of another kind."""
    return []


@pytest.mark.parametrize("receiver", [7, wsgi_app, MemoryInbox])
async def test_wrong_receiver_is_refused(receiver: object) -> None:
    """Something that is neither a URL nor an ASGI application would fail every case."""
    with pytest.raises(ConfigurationError, match="receiver must be a URL or an ASGI application, not"):
        await check_receiver(cast("str", receiver), CREDENTIALS)


@pytest.mark.parametrize(
    "options", [{"deadline": 0}, {"timeout": float("nan")}, {"settle_seconds": -1}, {"count_effects": 7}], ids=str
)
async def test_wrong_option_is_refused(options: dict[str, object]) -> None:
    """An option that cannot work is named before anything is sent."""
    call = cast("Callable[..., Awaitable[object]]", check_receiver)
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        await call(accept, CREDENTIALS, **options)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://shop.example/", "The URL begins with http://."),
        ("https://shop.example:8443/", "The port is 8443."),
        ("https://192.0.2.1/", "The host is an IP address."),
        ("https://[2001:db8::1]/", "The host is an IP address."),
    ],
)
async def test_address_must_be_one_that_veriff_accepts(url: str, found: str) -> None:
    """Veriff requires https, port 443 and a host name; that shows without a connection."""
    (case,) = [case for case in ALL_CASES if case.name == "tls"]
    options = cast("CheckOptions", None)

    finding = await case.run(CheckContext(Endpoint(url, None, 1.0), CREDENTIALS, options))

    assert (CaseOutcome.FAILED, found) == (finding.outcome, finding.message)


class Handler(BaseHTTPRequestHandler):
    """Answers 200 to each webhook."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Read the webhook and accept it."""
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Log nothing."""


class TLSServer(ThreadingHTTPServer):
    """A server that says nothing about refused handshakes."""

    daemon_threads = True

    def handle_error(self, *_arguments: object) -> None:
        """Do nothing."""


@pytest.fixture
def tls_server() -> Iterator[tuple[str, ssl.SSLContext]]:
    """Serve with a certificate in a thread; return the URL, and the context of a client that trusts it."""
    authority = trustme.CA()
    server_tls, client_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("localhost", "webhooks.example").configure_cert(server_tls)
    authority.configure_trust(client_tls)
    with TLSServer(("127.0.0.1", 0), Handler) as server:
        server.socket = server_tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"https://localhost:{server.server_port}/", client_tls
        server.shutdown()
        thread.join()


async def test_certificate_is_checked(tls_server: tuple[str, ssl.SSLContext]) -> None:
    """An endpoint with TLS is checked with the given authorities, and not at all without them."""
    url, client_tls = tls_server

    trusted = await check_receiver(url, CREDENTIALS, only=["decision-approved", "keep-alive"], tls=client_tls)
    foreign = await check_receiver(url, CREDENTIALS, only=["decision-approved"])

    assert [CaseOutcome.PASSED] * 2 == [result.outcome for result in trusted.results]
    assert ("its certificate is not trusted", ()) == (foreign.problem, foreign.results)


@pytest.fixture
def authorities(tls_server: tuple[str, ssl.SSLContext], tmp_path: Path) -> str:
    """Return the path of a file with the authority of the server."""
    path = tmp_path / "authorities.pem"
    path.write_text("".join(map(ssl.DER_cert_to_PEM_cert, tls_server[1].get_ca_certs(binary_form=True))))
    return str(path)


@pytest.mark.parametrize(
    ("state", "found"),
    [
        ("trusted", "and a trusted certificate."),
        ("foreign", "The certificate is not trusted (OpenSSL reason "),
        ("unknown", "No connection with TLS (gaierror)."),
    ],
)
async def test_certificate_must_be_trusted_by_the_system(
    tls_server: tuple[str, ssl.SSLContext], authorities: str, monkeypatch: pytest.MonkeyPatch, state: str, found: str
) -> None:
    """The case about TLS ignores the authorities that the check was given: Veriff has those of the system only."""
    url, client_tls = tls_server
    lookups: list[object] = []

    def look_up(host: object, *_arguments: object, **_options: object) -> list[object]:
        lookups.append(host)
        if len(lookups) > 1 and state == "unknown":
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", urlsplit(url).port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    if state != "foreign":
        monkeypatch.setenv("SSL_CERT_FILE", authorities)

    report = await check_receiver(
        "https://webhooks.example/", CREDENTIALS, only=["tls"], tls=client_tls, allow_remote=True, deadline=30.0
    )

    assert "" == report.problem
    assert found in report.results[0].message


async def test_application_that_does_not_start_is_refused() -> None:
    """An application that answers the startup with a failure is not checked."""

    async def app(scope: Mapping[str, object], receive: object, send: Callable[..., Awaitable[None]]) -> None:
        assert "lifespan" == scope["type"]
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(ConfigurationError, match="does not start"):
        await check_receiver(app, CREDENTIALS)


async def test_exception_of_an_application_is_named_by_type_and_line() -> None:
    """The message names the exception; its text may hold anything, so it is left out."""

    async def app(scope: Mapping[str, object], receive: object, send: object) -> None:
        raise KeyError("a person")

    report = await check_receiver(app, CREDENTIALS, only=["decision-approved"])

    (result,) = report.results
    assert "KeyError at test_check_receiver.py:" in result.message
    assert "a person" not in result.message


async def test_lifespan_of_an_application_runs() -> None:
    """The application is started before the first webhook and stopped at the end."""
    inbox = MemoryInbox()
    receiver = WebhookReceiver(CREDENTIALS, inbox)

    report = await check_receiver(asgi_app(receiver, path="/hooks"), CREDENTIALS, path="/hooks", only=["event-started"])

    assert report.is_ok
    assert "closed" in repr(receiver)
    assert 1 == len(await inbox.get_events(report.session_ids[0]))


async def test_other_success_is_reported_once() -> None:
    """An endpoint that answers 201 to every webhook gets one warning, and the other cases are checked nevertheless."""

    async def created(scope: Mapping[str, object], _receive: object, send: Callable[..., Awaitable[None]]) -> None:
        assert "http" == scope["type"]
        await send({"type": "http.response.start", "status": 201, "headers": []})
        await send({"type": "http.response.body"})

    report = await check_receiver(
        created, CREDENTIALS, only=["events", "duplicates"], count_effects=lambda _session: 2, settle_seconds=0.0
    )

    assert ["duplicates", "decision-approved"] == [result.case.name for result in report.failed]
    assert "2 effects, where one is expected." == report.failed[0].message
    assert "HTTP 201." == report.results[1].message


async def test_sessions_and_vendor_data_are_the_users() -> None:
    """An endpoint that refuses unknown sessions or users gets those that it knows, until they are used."""
    inbox = MemoryInbox()
    app = asgi_app(WebhookReceiver(CREDENTIALS, inbox))

    report = await check_receiver(
        app,
        CREDENTIALS,
        only=["decision-approved", "decision-declined", "event-started"],
        session_ids=SESSIONS,
        vendor_data="user-42",
    )

    assert SESSIONS == report.session_ids
    assert "All given session ids are used: give more." == report.results[2].message
    (event,) = await inbox.get_events(SESSIONS[0])
    assert isinstance(event, DecisionEvent)
    assert "user-42" == event.decision.vendor_data


async def test_wrong_session_id_is_refused() -> None:
    """Ids of sessions are UUIDs; another text is a mistake, and is not sent."""
    with pytest.raises(ConfigurationError, match="give UUIDs"):
        await check_receiver(accept, CREDENTIALS, only=["event-started"], session_ids=["user-42"])


async def test_report_is_json_without_secrets() -> None:
    """The document has every result with its reason and remedy, the sessions, and no secret."""
    report = await check_receiver(accept, CREDENTIALS, only=["signatures", "tls"])

    text = json.dumps(report.to_dict())
    document = json.loads(text)
    assert (False, None) == (document["ok"], document["problem"])
    assert len(document["results"]) == len(report.results) == sum(document["counts"].values())
    assert {"sends", "expects", "why", "source", "fix", "frameworks", "message"} <= set(document["results"][0])
    assert set(document["session_ids"]) == set(report.session_ids)
    for secret in CREDENTIALS.secrets:
        assert secret not in text + repr(report) + report.to_junit()


async def test_junit_has_failures_and_skipped_cases() -> None:
    """Errors are failures, warnings are output, and cases that were not checked are skipped."""
    report = await check_receiver(accept, CREDENTIALS, only=["signature-missing", "api-key-other", "tls"])

    suite = ET.fromstring(report.to_junit())[0]  # noqa: S314  our own document
    assert ("3", "1", "1") == (suite.get("tests"), suite.get("failures"), suite.get("skipped"))
    assert [["failure"], ["system-out"], ["skipped"]] == [[child.tag for child in case] for case in suite]
    assert "api-key-other" == suite[1].get("name")


async def test_failed_cases_come_by_severity() -> None:
    """Errors come first, then warnings, then notes."""
    report = await check_receiver(accept, CREDENTIALS, only=["signatures"])

    severities = [result.severity for result in report.failed]
    assert severities == sorted(severities, key=list(CaseSeverity).index)
    assert set(CaseSeverity) == set(severities)


@pytest.mark.parametrize("found", [True, "1", None])
async def test_wrong_result_of_a_function_for_effects_is_a_failure(found: object) -> None:
    """A function that returns whether there is an effect cannot show a second one."""
    report = await check_receiver(
        accept, CREDENTIALS, only=["effect-once"], count_effects=lambda _session: cast("int", found)
    )

    (result,) = report.results
    assert CaseOutcome.FAILED is result.outcome
    assert "must return a number or Effects" in result.message


async def test_missing_effect_is_a_failure() -> None:
    """An event that was answered 200 and has no effect is lost."""
    report = await check_receiver(
        accept,
        CREDENTIALS,
        only=["effect-once", "failing-handler"],
        count_effects=lambda _session: Effects(0),
        set_failing=lambda _is_failing: None,
        effect_seconds=0.05,
        settle_seconds=0.0,
    )

    assert [
        "0 effects, where one is expected.",
        "HTTP 200 during the failure, and no effect after it: the event is lost.",
    ] == [result.message for result in report.results]


async def test_effects_without_status_leave_order_unchecked() -> None:
    """The order of events shows in a status only, and the message says so."""
    report = await check_receiver(
        accept, CREDENTIALS, only=["late-events"], count_effects=lambda _session: 1, settle_seconds=0.0
    )

    (result,) = report.results
    assert CaseOutcome.NOT_CHECKED is result.outcome
    assert "return Effects(count, status)" in result.message


async def test_application_that_does_not_stop_keeps_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """An application that ignores the end of its lifespan does not lose the results of the check."""
    monkeypatch.setattr("veriff_async.testing.receiver_check._asgi_server._SHUTDOWN_TIMEOUT", 0.01)

    async def app(scope: Mapping[str, object], receive: object, send: Callable[..., Awaitable[None]]) -> None:
        if scope["type"] == "lifespan":
            await send({"type": "lifespan.startup.complete"})
            await asyncio.Event().wait()
        await accept(scope, receive, send)

    report = await check_receiver(app, CREDENTIALS, only=["decision-approved"])

    assert report.is_ok


async def test_application_that_exits_is_a_failure() -> None:
    """An application that ends its process does not end the check, whose exit code would look like a success."""

    async def app(scope: Mapping[str, object], _receive: object, _send: object) -> None:
        raise SystemExit(0 if scope["type"] == "http" else 3)

    report = await check_receiver(app, CREDENTIALS, only=["decision-approved"])

    assert "SystemExit" in report.results[0].message
    assert not report.is_ok


async def test_failure_is_ended_when_its_switch_fails() -> None:
    """A function that makes the work fail may raise an error after that: the work is recovered all the same."""
    calls: list[bool] = []

    async def set_failing(is_failing: bool) -> None:  # noqa: FBT001  as the option is called
        calls.append(is_failing)
        if is_failing:
            msg = "It is stuck."
            raise ConfigurationError(msg)

    report = await check_receiver(
        accept, CREDENTIALS, only=["failing-handler"], count_effects=lambda _: 1, set_failing=set_failing
    )

    assert [True, False] == calls
    assert "It is stuck" in report.results[0].message


async def test_junit_is_xml_with_any_text() -> None:
    """Texts of a user's function, such as names of files, may contain characters that XML does not allow."""
    text = "a\x00\x1b[31m\ud800\ufffe\U0001f600]]>&<\"'é"

    async def count_effects(_session_id: str) -> int:
        raise ConfigurationError(text)

    report = await check_receiver(accept, CREDENTIALS, only=["effect-once"], count_effects=count_effects)

    failure = ET.fromstring(report.to_junit().encode()).find(".//failure")  # noqa: S314  it is ours
    assert failure is not None
    assert "a��[31m��\U0001f600]]>&<\"'é" in failure.attrib["message"]


async def answer(send: Callable[..., Awaitable[None]], status: int, body: bytes = b"") -> None:
    """Send a whole response."""
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def check_one(app: Callable[..., Awaitable[None]], name: str, **options: object) -> CaseResult:
    """Check an application with one case, and return its result."""
    check = cast("Callable[..., Awaitable[ReceiverReport]]", check_receiver)
    report = await check(app, CREDENTIALS, only=[name], deadline=30.0, settle_seconds=0.0, **options)
    (result,) = report.results
    return result


@pytest.mark.parametrize(
    ("status", "outcome", "message"),
    [
        (200, CaseOutcome.FAILED, "HTTP 200, although the last byte was never sent."),
        (408, CaseOutcome.PASSED, "HTTP 408."),
    ],
)
async def test_answer_to_a_stalled_body_is_judged(status: int, outcome: CaseOutcome, message: str) -> None:
    """A request without its end must be refused: an endpoint that accepts it has not read the body."""

    async def app(scope: Mapping[str, object], _receive: object, send: Callable[..., Awaitable[None]]) -> None:
        assert "http" == scope["type"]
        await answer(send, status)

    result = await check_one(app, "stalled-body", stall_seconds=30.0)

    assert (outcome, message) == (result.outcome, result.message)


async def test_endpoint_that_waits_for_a_stalled_body_learns_of_its_end() -> None:
    """An endpoint that waits without a limit fails the case; when the check gives up, it gets the disconnection."""
    is_disconnected = asyncio.Event()

    async def app(
        scope: Mapping[str, object],
        receive: Callable[[], Awaitable[Mapping[str, object]]],
        send: Callable[..., Awaitable[None]],
    ) -> None:
        assert "http" == scope["type"]
        if scope["method"] == "GET":
            await is_disconnected.wait()
        else:
            while (await receive())["type"] != "http.disconnect":
                pass
            is_disconnected.set()
        await answer(send, 200)

    report = await check_receiver(
        app, CREDENTIALS, only=["stalled-body", "method-get"], deadline=30.0, stall_seconds=0.1
    )

    assert ["The endpoint waited for 0.1 s or longer.", "HTTP 200."] == [result.message for result in report.results]


async def test_application_that_waits_for_the_disconnection_is_released_by_its_response() -> None:
    """An application that watches for the end of the connection next to its response gets it after the response."""
    messages: list[object] = []

    async def app(
        scope: Mapping[str, object],
        receive: Callable[[], Awaitable[Mapping[str, object]]],
        send: Callable[..., Awaitable[None]],
    ) -> None:
        assert "http" == scope["type"]
        while (await receive())["more_body"]:
            pass
        watching = asyncio.ensure_future(receive())
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-trace", b"1")]})
        await send({"type": "http.response.trailers"})
        await send({"type": "http.response.body", "body": b"o", "more_body": True})
        await send({"type": "http.response.body", "body": b"k"})
        messages.append((await watching)["type"])

    assert "HTTP 200." == (await check_one(app, "decision-approved")).message
    assert ["http.disconnect"] == messages


async def test_response_without_its_end_is_a_failure() -> None:
    """An application that returns in the middle of its response has not accepted the webhook."""

    async def app(scope: Mapping[str, object], _receive: object, send: Callable[..., Awaitable[None]]) -> None:
        assert "http" == scope["type"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    result = await check_one(app, "decision-approved")

    assert CaseOutcome.FAILED is result.outcome
    assert "the response broke off" in result.message


async def test_application_that_never_starts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An application that does not answer the startup is not checked, and the error says which event it ignores."""
    monkeypatch.setattr("veriff_async.testing.receiver_check._asgi_server._TIMEOUT", 0.01)

    async def app(_scope: object, _receive: object, _send: object) -> None:
        await asyncio.Event().wait()

    with pytest.raises(ConfigurationError, match="it has not answered the event lifespan"):
        await check_receiver(app, CREDENTIALS)


async def test_path_of_an_application_begins_with_a_slash() -> None:
    """A path without a slash would become a part of the port."""
    with pytest.raises(ConfigurationError, match="path must begin with a slash"):
        await check_receiver(accept, CREDENTIALS, path="hooks")


async def test_shared_secret_in_a_response_is_a_failure() -> None:
    """A debug page that shows the settings of the application gives the secret to everybody."""

    async def app(scope: Mapping[str, object], _receive: object, send: Callable[..., Awaitable[None]]) -> None:
        assert "http" == scope["type"]
        await answer(send, 500, b"SECRET = 'the-old'")

    result = await check_one(app, "response-details")

    assert "A response contains the shared secret." == result.message
    assert CaseSeverity.ERROR is result.severity


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [
        ("late-events", 0, "The status is missing, where approved is expected."),
        ("failing-handler", 2, "HTTP 200 during the failure, and 2 effects after it."),
    ],
)
async def test_wrong_effects_are_described(name: str, count: int, message: str) -> None:
    """The message says what the system did, and what it must do."""
    result = await check_one(
        accept,
        name,
        count_effects=lambda _session: Effects(count),
        set_failing=lambda _is_failing: None,
        effect_seconds=0.01,
    )

    assert (CaseOutcome.FAILED, message) == (result.outcome, result.message)


async def test_repetition_that_is_refused_after_a_failure_is_a_failure() -> None:
    """The endpoint refuses a webhook during the failure, and must accept it when Veriff repeats it."""
    is_broken = False

    async def app(scope: Mapping[str, object], _receive: object, send: Callable[..., Awaitable[None]]) -> None:
        assert "http" == scope["type"]
        await answer(send, 503 if is_broken else 200)

    def set_failing(is_failing: bool) -> None:  # noqa: FBT001  as the option is called
        nonlocal is_broken
        is_broken = is_broken or is_failing

    result = await check_one(app, "failing-handler", count_effects=lambda _session: 0, set_failing=set_failing)

    assert (CaseOutcome.FAILED, "The repetition after the failure got HTTP 503.") == (result.outcome, result.message)


async def test_refused_form_of_a_duplicate_is_not_counted() -> None:
    """An endpoint that refuses white space in JSON has another fault, which the message names."""

    async def app(
        scope: Mapping[str, object],
        receive: Callable[[], Awaitable[Mapping[str, object]]],
        send: Callable[..., Awaitable[None]],
    ) -> None:
        assert "http" == scope["type"]
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + cast("bytes", message["body"]), bool(message["more_body"])
        await answer(send, 400 if b'": ' in body else 200)

    result = await check_one(app, "duplicates-other-bytes", count_effects=lambda _session: 1)

    assert CaseOutcome.NOT_CHECKED is result.outcome
    assert "fix body-white-space first" in result.message


async def test_function_for_effects_that_never_ends_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function of the user that hangs fails its case, and does not stop the check."""
    monkeypatch.setattr("veriff_async.testing.receiver_check._context._HOOK_SECONDS", 0.01)

    async def count_effects(_session_id: str) -> int:
        await asyncio.Event().wait()
        return 1

    result = await check_one(accept, "effect-once", count_effects=count_effects)

    assert CaseOutcome.FAILED is result.outcome
    assert "the function for effects takes longer than 0.01 seconds" in result.message.lower()
