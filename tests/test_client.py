"""The client and its sessions: the flow of the README, and the arguments that are refused before a request."""

from __future__ import annotations

import asyncio
import hashlib
import json
import traceback
import uuid
import warnings
from inspect import signature
from typing import TYPE_CHECKING

import aiohttp
import pytest

from veriff_async import (
    ConfigurationError,
    ConnectError,
    Credentials,
    DeprecatedHostWarning,
    Document,
    DocumentType,
    InvalidArgumentError,
    Media,
    NotFoundError,
    Person,
    RetryPolicy,
    Status,
    VeriffClient,
    open_session,
)
from veriff_async.client import ClientOptions
from veriff_async.models import Gender
from veriff_async.sandbox import Sandbox

if TYPE_CHECKING:
    from pathlib import Path

    from veriff_async import UploadProgress

pytestmark = pytest.mark.anyio

JPEG = b"\xff\xd8\xff\xe0"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return a folder with two pictures."""
    for name in ("front.jpg", "selfie.jpg"):
        tmp_path.joinpath(name).write_bytes(JPEG + name.encode())
    return tmp_path


async def test_readme_example(sandbox: Sandbox, veriff: VeriffClient, pictures: Path) -> None:
    """Create, upload from disk, submit and wait: the ten lines of the README."""
    session = await veriff.create_session(person=Person(first_name="Ada"), vendor_data="user-42")
    await session.upload(Media(pictures / "front.jpg", "document-front"), Media(pictures / "selfie.jpg", "face"))
    await session.submit()
    sandbox.decide(session.id, "approved")
    decision = await session.wait_for_decision(timeout=900)

    assert (session.id, Status.APPROVED, "user-42") == (decision.session_id, decision.status, decision.vendor_data)
    assert "Ada" == decision.person.first_name
    assert Status.APPROVED == session.status
    received = {media.context: media.sha256 for media in sandbox.session(session.id).media}
    sent = {"document-front": JPEG + b"front.jpg", "face": JPEG + b"selfie.jpg"}
    assert {context: hashlib.sha256(picture).hexdigest() for context, picture in sent.items()} == received


async def test_verify_runs_all_steps(veriff: VeriffClient) -> None:
    """`verify` runs all four steps, and the first name chooses the outcome as in a test integration."""
    seen: list[UploadProgress] = []

    decision = await veriff.verify(
        media=[Media(JPEG, "document-front")], person=Person(first_name="Decline"), progress=seen.append
    )

    assert Status.DECLINED == decision.status
    assert seen[-1].bytes_sent == seen[-1].total_bytes


async def test_open_session_creates_its_own_client(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """`open_session` creates its own client, from arguments or from the environment."""
    async with open_session(
        sandbox.credentials, base_url=sandbox.base_url, vendor_data="user-1", max_uploads=2
    ) as session:
        assert ("user-1", Status.CREATED) == (session.vendor_data, session.status)
    for name, value in sandbox.environ.items():
        monkeypatch.setenv(name, value)
    async with open_session(vendor_data="user-2") as session:
        await session.submit()

    assert ["user-1", "user-2"] == [created.vendor_data for created in sandbox.sessions]


async def test_session_by_id_sends_no_request(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """A session of another process needs only its id."""
    created = await veriff.create_session()
    sandbox.decide(created.id, "approved")
    requests = len(sandbox.requests)
    attached = veriff.session(created.id)

    assert (created.id, None, None, None) == (attached.id, attached.url, attached.status, attached.vendor_data)
    assert requests == len(sandbox.requests)
    assert (await attached.wait_for_decision(timeout=900)).is_approved


async def test_each_option_is_sent(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """Each option arrives in Veriff's words; what is absent is left out, never null."""
    end_user = uuid.uuid4()
    await veriff.create_session(
        person=Person(first_name="Ada", gender=Gender.FEMALE, date_of_birth="1815-12-10"),
        document=Document(type=DocumentType.PASSPORT, country="GB", number="A1"),
        vendor_data="user-42",
        end_user_id=end_user,
        callback="https://example.com/done",
        extra={"lang": "en", "consents": [{"type": "ine", "approved": True, "note": None}], "nothing": None},
    )
    (seen,) = sandbox.sessions

    assert {"firstName": "Ada", "gender": "F", "dateOfBirth": "1815-12-10"} == seen.person
    assert {"type": "PASSPORT", "country": "GB", "number": "A1"} == seen.document
    assert ("user-42", str(end_user)) == (seen.vendor_data, seen.end_user_id)


async def test_request_body_has_no_null() -> None:
    """The body has only the given fields, and no null at any depth."""
    bodies: list[object] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0])
        bodies.append(json.loads(await reader.readexactly(length)))
        reply = b'{"status":"success","verification":{"id":"' + b"a" * 36 + b'"}}'
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(reply), reply))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/"
        async with VeriffClient(Credentials("key", "secret", integration_id="one"), base_url=url) as veriff:
            session = await veriff.create_session(
                person=Person(first_name="Ada"), extra={"lang": None, "consents": [{"type": "ine", "note": None}]}
            )
            await veriff.create_session()

    assert [
        {"verification": {"consents": [{"type": "ine"}], "person": {"firstName": "Ada"}}},
        {"verification": {}},
    ] == bodies
    assert None is session.status


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"vendor_data": "x" * 1001}, "vendor_data .* 1001 characters"),
        ({"vendor_data": 42}, "vendor_data"),
        ({"end_user_id": "a\nb"}, "end_user_id"),
        ({"callback": "http://example.com"}, "callback"),
        ({"callback": "myapp://done"}, "callback"),
        ({"callback": "https://"}, "callback"),
        ({"person": Person(date_of_birth="10.12.1815")}, "person.date_of_birth"),
        ({"person": Person(date_of_birth="1815-02-30")}, "person.date_of_birth"),
        ({"person": Person(gender=Gender("X"))}, "person.gender"),
        ({"document": Document(type=DocumentType("passport"))}, "document.type"),
        ({"document": Document(type=DocumentType.OTHER)}, "document.type"),
        ({"document": Document(country="Estonia")}, "document.country"),
        ({"document": Document(number="AB-12")}, "document.number"),
        ({"document": Document(id_card_type="C1")}, "document.id_card_type"),
        ({"document": Document(first_issue="2020")}, "document.first_issue"),
        ({"extra": {"tags": {1, 2}}}, "extra"),
        ({"extra": {1: "x"}}, "extra"),
    ],
)
async def test_invalid_options_are_not_sent(
    sandbox: Sandbox, veriff: VeriffClient, options: dict[str, object], named: str
) -> None:
    """The error names the field, shows no value, and no request leaves."""
    with pytest.raises(InvalidArgumentError, match=named):
        await veriff.create_session(**options)  # type: ignore[arg-type]

    assert () == sandbox.requests


@pytest.mark.parametrize("session_id", ["", "../sessions", "a b", "a/b", "ä", None])
async def test_invalid_id_is_refused(veriff: VeriffClient, session_id: str) -> None:
    """An id that would change the path is never put into one."""
    with pytest.raises(InvalidArgumentError, match="session_id"):
        veriff.session(session_id)


async def test_calls_on_an_unknown_session_raise_not_found(veriff: VeriffClient) -> None:
    """Each call on a session that does not exist raises `NotFoundError`."""
    session = veriff.session(str(uuid.uuid4()))
    with pytest.raises(NotFoundError, match="knows no such session"):
        await session.decision()
    with pytest.raises(NotFoundError):
        await session.submit()
    with pytest.raises(NotFoundError):
        await session.upload(Media(JPEG, "face"))
    with pytest.raises(NotFoundError):
        await session.wait_for_decision(timeout=900)


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "stationapi.veriff.com",
        "ftp://example.com",
        "https://",
        "https://exa mple.com",
        "https://example.com:port",
        "https://a%40b.example",
    ],
)
def test_base_url_must_be_an_https_url(base_url: str) -> None:
    """Anything but an https address is refused when it is passed."""
    with pytest.raises(ConfigurationError, match="base_url is not an absolute"):
        VeriffClient(Credentials("key", "secret"), base_url=base_url)


def test_plain_http_is_only_allowed_for_this_machine() -> None:
    """Plain http to another machine would expose the key and the pictures."""
    for url in ("http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1"):
        VeriffClient(Credentials("key", "secret"), base_url=url)
    with pytest.raises(ConfigurationError, match="not https"):
        VeriffClient(Credentials("key", "secret"), base_url="http://stationapi.veriff.com")


@pytest.mark.parametrize(("max_connections", "max_uploads"), [(8, 8), (8, 0), (1, 1)])
def test_uploads_must_leave_connections_for_other_calls(max_connections: int, max_uploads: int) -> None:
    """Polls never queue behind pictures, so uploads may not take the whole pool."""
    with pytest.raises(ConfigurationError, match="max_uploads"):
        VeriffClient(
            Credentials("key", "secret"),
            base_url="https://example.com",
            max_connections=max_connections,
            max_uploads=max_uploads,
        )


async def test_uploads_must_leave_connections_of_a_borrowed_pool() -> None:
    """The limit of a session of the caller's counts in place of our own."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=4)) as http:
        with pytest.raises(ConfigurationError, match="fewer than the 4 connections"):
            VeriffClient(Credentials("key", "secret"), base_url="https://example.com", http_session=http)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        VeriffClient(Credentials("key", "secret"), base_url="https://example.com", http_session=http)


@pytest.mark.parametrize("limit", [0, 4, 100])
@pytest.mark.parametrize("option", ["max_uploads", "max_downloads"])
async def test_limit_per_host_of_a_borrowed_pool_applies(limit: int, option: str) -> None:
    """The smaller of the two limits of the caller's aiohttp session applies; zero means unlimited."""
    options: dict[str, int] = {"max_uploads": 3, "max_downloads": 3}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=limit, limit_per_host=4)) as http:

        def make(**chosen: int) -> None:
            VeriffClient(
                Credentials("key", "secret"),
                base_url="https://example.com",
                http_session=http,
                max_uploads=chosen["max_uploads"],
                max_downloads=chosen["max_downloads"],
            )

        make(**options)
        with pytest.raises(ConfigurationError, match=f"{option} is 4: .* fewer than the 4 connections"):
            make(**{**options, option: 4})


def test_environment_must_have_the_base_url() -> None:
    """Without its base URL an integration cannot be reached, and none is guessed."""
    with pytest.raises(ConfigurationError, match="VERIFF_BASE_URL is not set"):
        VeriffClient.from_env({"VERIFF_API_KEY": "key", "VERIFF_SHARED_SECRET": "secret"})


async def test_repr_of_client_and_session_shows_no_secret(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """The repr has the address and the state, but neither key nor secret nor the URL of the end user."""
    session = await veriff.create_session()

    assert f"<VeriffClient {sandbox.base_url}>" == repr(veriff)
    assert f"<VerificationSession {session.id} created>" == repr(session)
    assert session.url is not None
    assert f"<VerificationSession {session.id} of unknown status>" == repr(veriff.session(session.id))
    await veriff.aclose()
    assert f"<VeriffClient {sandbox.base_url} closed>" == repr(veriff)


async def test_statistics_count_requests_and_bytes(veriff: VeriffClient) -> None:
    """The snapshot counts requests, bytes, and what runs."""
    session = await veriff.create_session()
    await session.upload(Media(JPEG, "face"))
    statistics = veriff.statistics()

    assert (2, 0, 0, 0) == (statistics.requests, statistics.retries, statistics.active_uploads, statistics.waiters)
    assert statistics.bytes_sent > len(JPEG)


@pytest.mark.parametrize("base_url", ["https://stationapi.veriff.com/v1", "https://api.us.veriff.me"])
def test_old_api_host_warns_once_for_each_client(base_url: str) -> None:
    """A client of a host that Veriff replaces gives one `DeprecatedHostWarning`."""
    environ = {"VERIFF_API_KEY": "key", "VERIFF_SHARED_SECRET": "secret", "VERIFF_BASE_URL": base_url}

    with pytest.warns(DeprecatedHostWarning, match="9 December 2026") as caught:
        VeriffClient.from_env(environ)

    assert len(caught) == 1


def test_new_and_local_hosts_do_not_warn(caplog: pytest.LogCaptureFixture) -> None:
    """Clients of new hosts and of this machine are created without a warning and without a log line."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for base_url in ("https://api-saas.veriff.com", "http://127.0.0.1:1", "http://localhost:1"):
            VeriffClient(Credentials("key", "secret"), base_url=base_url)

    assert not caplog.records


def test_insecure_host_is_opt_in_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Plain http to a named host works by option or variable only, and each client logs it once."""
    environ = {
        "VERIFF_API_KEY": "key",
        "VERIFF_SHARED_SECRET": "secret",
        "VERIFF_BASE_URL": "http://veriff-sandbox:8080",
    }

    with pytest.raises(ConfigurationError, match=r"allow_insecure_hosts.*VERIFF_ALLOW_INSECURE_HOSTS"):
        VeriffClient.from_env(environ)
    VeriffClient.from_env({**environ, "VERIFF_ALLOW_INSECURE_HOSTS": "veriff-sandbox"})
    VeriffClient.from_env(environ, allow_insecure_hosts=["veriff-sandbox"])

    assert ["veriff-sandbox" in record.getMessage() for record in caplog.records] == [True, True]


async def test_trust_env_uses_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client uses the proxy that the environment names only with `trust_env`."""
    async with Sandbox() as proxy:
        monkeypatch.setenv("http_proxy", proxy.base_url)
        monkeypatch.setenv("no_proxy", "")
        credentials = proxy.credentials
        # Nothing listens on port 9: only the proxy can answer.
        async with VeriffClient(credentials, base_url="http://localhost:9", trust_env=True) as veriff:
            await veriff.create_session()
        async with VeriffClient(
            credentials, base_url="http://localhost:9", retry=RetryPolicy(max_attempts=1)
        ) as veriff:
            with pytest.raises(ConnectError):
                await veriff.create_session()


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "http_proxy", "ALL_PROXY"])
def test_unusable_proxy_is_refused_without_its_password(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """A proxy of the environment that cannot be used is refused by the name of its variable, never its value."""
    monkeypatch.setenv(variable, "http://ada:hunter2@proxy:port")

    with pytest.raises(ConfigurationError, match=variable.upper()) as raised:
        VeriffClient(Credentials("key", "secret"), base_url="https://example.com", trust_env=True)

    assert "hunter2" not in "".join(traceback.format_exception(raised.value))


async def test_trust_env_with_a_borrowed_session_is_refused() -> None:
    """`trust_env` would have no effect on the caller's aiohttp session."""
    async with aiohttp.ClientSession() as http:
        with pytest.raises(ConfigurationError, match="trust_env"):
            VeriffClient(
                Credentials("key", "secret"), base_url="https://example.com", http_session=http, trust_env=True
            )


@pytest.mark.parametrize(
    ("content", "words"), [(None, "cannot be read"), ("", "no usable certificate"), ("x", "no usable certificate")]
)
def test_unusable_ca_bundle_is_refused(tmp_path: Path, content: str | None, words: str) -> None:
    """A file of authorities that is missing or empty is refused when the client is created."""
    path = tmp_path / "bundle.pem"
    if content is not None:
        path.write_text(content)
    environ = {
        "VERIFF_API_KEY": "key",
        "VERIFF_SHARED_SECRET": "secret",
        "VERIFF_BASE_URL": "https://example.com",
        "VERIFF_CA_BUNDLE": str(path),
    }

    with pytest.raises(ConfigurationError, match="VERIFF_CA_BUNDLE") as raised:
        VeriffClient.from_env(environ)

    assert words in str(raised.value)


async def test_option_for_a_created_session_is_refused_with_a_borrowed_one(tmp_path: Path) -> None:
    """`ca_bundle` would have no effect on the caller's aiohttp session."""
    async with aiohttp.ClientSession() as http:
        with pytest.raises(ConfigurationError, match="ca_bundle"):
            VeriffClient(
                Credentials("key", "secret"), base_url="https://example.com", http_session=http, ca_bundle=tmp_path
            )


def test_options_have_the_same_types_in_all_constructors() -> None:
    """`from_env` and `open_session` accept the same types as the class for each option, including ``None``."""
    of_class = {name: parameter.annotation for name, parameter in signature(VeriffClient.__init__).parameters.items()}
    of_options = {
        name: str(getattr(kind, "__forward_arg__", kind)) for name, kind in ClientOptions.__annotations__.items()
    }

    assert of_options == {name: of_class[name] for name in of_options}
    assert set(of_class) - {"self", "credentials", "base_url"} == set(of_options)


async def test_option_none_selects_the_default(sandbox: Sandbox) -> None:
    """An option that is ``None`` has its default."""
    async with VeriffClient.from_env(sandbox.environ, poll=None, retry=None, timeouts=None, inbox=None) as veriff:
        assert (await veriff.create_session()).id
