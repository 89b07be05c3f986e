"""Who may use the console, the control API and the hosted page, over real sockets."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientSession, CookieJar
from anyio import connect_tcp, to_thread
from multidict import CIMultiDict

from veriff_async import ConfigurationError
from veriff_async.sandbox import Sandbox, VirtualClock
from veriff_async.sandbox._control.access import Access

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.sandbox.conftest import Caller, StartSandbox

pytestmark = pytest.mark.anyio

TOKEN: Final = "a-token-for-tests"
BEARER: Final = {"Authorization": f"Bearer {TOKEN}"}
API: Final = "/_sandbox/api/nothing"
HOSTED: Final = "/v/nothing"


def other_host(sandbox: Sandbox, path: str, host: str) -> int:
    """Request a path under a name that resolves to this machine, as in an attack by DNS rebinding."""
    parts = urlsplit(sandbox.base_url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=20)
    try:
        connection.request("GET", path, headers={"Host": host})
        with connection.getresponse() as response:
            return response.status
    finally:
        connection.close()


async def status(caller: Caller, path: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> int:
    """Return the status of a response."""
    return (await caller.send(method, path, headers=headers)).status


async def test_loopback_needs_no_token(caller: Caller) -> None:
    """On a loopback address, programs of this machine use the control API without a token."""
    assert 404 == await status(caller, API)
    assert caller.sandbox.control_token is None
    assert caller.sandbox.control_url == caller.sandbox.base_url + "/_sandbox/api"
    assert caller.sandbox.console_url == caller.sandbox.base_url + "/_sandbox/"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
    ],
)
async def test_pages_of_other_origins_cannot_use_the_api(caller: Caller, headers: dict[str, str]) -> None:
    """A page of another site, another port or an opaque origin is refused, and reads no response."""
    for method in ("GET", "POST", "DELETE"):
        reply = await caller.send(method, API, headers=headers)
        assert (403, "forbidden") == (reply.status, reply.json["error"]["code"])
        assert "Access-Control-Allow-Origin" not in reply.headers
    preflight = {**headers, "Access-Control-Request-Method": "POST"}
    assert 403 == await status(caller, API, preflight, "OPTIONS")


@pytest.mark.parametrize("name", ["Origin", "Sec-Fetch-Site"])
async def test_a_repeated_header_hides_no_other_origin(caller: Caller, name: str) -> None:
    """Each of several headers counts."""
    own = caller.sandbox.base_url if name == "Origin" else "same-origin"
    for values in ((own, "https://evil.example"), ("https://evil.example", own)):
        reply = await caller.send("POST", API, headers=CIMultiDict([(name, value) for value in values]))
        assert 403 == reply.status


async def test_own_pages_and_links_to_the_console_are_accepted(caller: Caller) -> None:
    """The console's own requests are accepted; so is a link to the console on a page of another site."""
    origin = {"Origin": caller.sandbox.base_url}
    assert 404 == await status(caller, API, origin, "POST")
    assert 404 == await status(caller, API, {"Sec-Fetch-Site": "same-origin", **origin}, "POST")
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert 403 != await status(caller, "/_sandbox/x", link)
    assert 403 == await status(caller, "/_sandbox/x", {**link, "Sec-Fetch-Dest": "iframe"})
    assert 403 == await status(caller, "/_sandbox/x", link, "POST")


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "localhost.evil.example", "evil.example:80", "127.0.0.1.x", "[", ""),
        # Malformed: no browser sends them, and readers disagree about the name.
        *("evil.example@localhost", "localhost:80:80", "localhost?.evil", "localhost/", "localhost, evil.example"),
    ],
)
@pytest.mark.parametrize("path", [API, "/_sandbox/", HOSTED])
def test_other_names_of_the_host_are_refused(host: str, path: str) -> None:
    """A page that points its own name at 127.0.0.1 is refused, also by the hosted page."""
    with Sandbox() as sandbox:
        assert 403 == other_host(sandbox, path, host)


@pytest.mark.parametrize("host", ["localhost:1", "LOCALHOST", "my.localhost", "127.0.0.2", "[::1]:80", "box.test"])
def test_names_of_this_machine_are_accepted(host: str) -> None:
    """Names of loopback and those of `tls_names` are accepted, with any port: containers map ports."""
    with Sandbox(tls_names=["Box.test"]) as sandbox:
        assert 404 == other_host(sandbox, API, host)
        assert 404 == other_host(sandbox, HOSTED, host)


async def test_a_public_name_needs_a_token(start_sandbox: StartSandbox) -> None:
    """Behind a proxy others reach the sandbox too, although their requests come from this machine."""
    async with start_sandbox(public_url="https://veriff.example.com") as caller:
        assert 401 == await status(caller, API)
        assert 404 == await status(caller, API, {"Authorization": f"Bearer {caller.sandbox.control_token}"})
        caller.sandbox.public_url = "http://localhost:32768"
        assert 404 == await status(caller, API)
        assert caller.sandbox.control_token is None


async def test_a_chosen_token_is_required(start_sandbox: StartSandbox) -> None:
    """With a token, the API and the console need it; the hosted page and health checks do not."""
    async with start_sandbox(control_token=TOKEN) as caller:
        reply = await caller.send("GET", API)
        assert (401, "unauthorized") == (reply.status, reply.json["error"]["code"])
        assert reply.headers["WWW-Authenticate"].startswith("Bearer")
        for wrong in ("Bearer wrong", f"Basic {TOKEN}", "Bearer \udcff", TOKEN, "Bearer", ""):
            assert 401 == await status(caller, API, {"Authorization": wrong})
        assert 401 == await status(caller, "/_sandbox/")
        assert 404 == await status(caller, API, BEARER)
        assert 404 == await status(caller, API, {"Authorization": f"bearer   {TOKEN} "})
        assert 404 == await status(caller, HOSTED)
        assert 200 == await status(caller, "/healthz")
        # The token itself proves more than origin and name.
        assert 404 == await status(caller, API, {**BEARER, "Origin": "https://tests.example"})
        assert TOKEN == caller.sandbox.control_token
        assert caller.sandbox.console_url.endswith(f"/_sandbox/?token={TOKEN}")


async def test_browser_without_the_token_gets_a_page_that_asks_for_it(start_sandbox: StartSandbox) -> None:
    """A person gets a page with a field for the token, a program one sentence."""
    async with start_sandbox(control_token=TOKEN) as caller:
        browser = {"Accept": "text/html,*/*;q=0.8"}
        pages = [await caller.send("GET", f"/_sandbox/{query}", headers=browser) for query in ("", "?token=wrong")]
        assert [401, 401] == [page.status for page in pages]
        assert all(b'name="token"' in page.body for page in pages)
        assert [False, True] == [b"This is not the token" in page.body for page in pages]
        assert (await caller.send("GET", "/_sandbox/")).headers["Content-Type"].startswith("text/plain")


async def test_the_console_exchanges_the_token_for_a_cookie(start_sandbox: StartSandbox) -> None:
    """`/_sandbox/?token=` sets a cookie that scripts cannot read, and removes the token from the address."""
    async with start_sandbox(control_token=TOKEN) as caller:
        for wrong in ("wrong", "", "%ff"):
            assert 401 == await status(caller, f"/_sandbox/?token={wrong}")
        for path in ("/_sandbox", "/_sandbox/"):
            reply = await caller.send("GET", f"{path}?token={TOKEN}&next=1")
            assert (303, "/_sandbox/?next=1") == (reply.status, reply.headers["Location"])
        cookie = reply.headers["Set-Cookie"]
        assert TOKEN not in cookie
        assert {"HttpOnly", "SameSite=Strict", "Path=/_sandbox"} <= set(cookie.split("; "))
        pair = {"Cookie": cookie.partition(";")[0]}
        assert 404 == await status(caller, API, pair)
        # Another port of this machine is the same site, and its pages send the cookie.
        assert 403 == await status(caller, API, {**pair, "Origin": "http://127.0.0.1:1"}, "POST")
        assert 401 == await status(caller, API, {"Cookie": pair["Cookie"] + "0"})


async def test_a_link_on_another_site_opens_the_console(start_sandbox: StartSandbox) -> None:
    """Browsers send no strict cookie along a redirect that another site begins, so a page leads on instead."""
    async with start_sandbox(control_token=TOKEN) as caller:
        link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        reply = await caller.send("GET", f"/_sandbox/?token={TOKEN}&a=%22%3Cb%3E", headers=link)
        assert (200, "text/html") == (reply.status, reply.headers["Content-Type"].partition(";")[0])
        assert b'content="0;url=/_sandbox/?a=%22%3Cb%3E"' in reply.body
        assert "SameSite=Strict" in reply.headers["Set-Cookie"]
        assert TOKEN.encode() not in reply.body


async def test_cookies_of_two_sandboxes_do_not_replace_each_other(start_sandbox: StartSandbox) -> None:
    """A browser that has opened two consoles can use both."""
    async with (
        start_sandbox(control_token=TOKEN) as one,
        start_sandbox(control_token=TOKEN + "2") as two,
        ClientSession(cookie_jar=CookieJar(unsafe=True)) as browser,
    ):
        for caller in (one, two):
            async with browser.get(caller.sandbox.console_url, allow_redirects=False) as answer:
                assert 303 == answer.status
        for caller in (one, two):
            async with browser.get(caller.sandbox.base_url + API) as answer:
                assert 404 == answer.status


async def test_other_addresses_always_have_a_token(start_sandbox: StartSandbox) -> None:
    """On an address that other machines reach, a random token is made; it stays the same after a restart."""
    sandbox = Sandbox(host="0.0.0.0")  # noqa: S104  what is tested
    async with sandbox:
        token = sandbox.control_token
        assert token is not None
        assert len(token) >= 32
        assert 401 == await to_thread.run_sync(other_host, sandbox, API, "box.test")
        # Other machines know this one by names that it does not know, so the hosted page accepts all.
        assert 404 == await to_thread.run_sync(other_host, sandbox, HOSTED, "box.test")
    async with sandbox:
        assert token == sandbox.control_token
    async with start_sandbox(host="0.0.0.0", control_token=TOKEN) as caller:  # noqa: S104
        assert 404 == await status(caller, API, BEARER)


async def test_the_environment_can_choose_the_token(
    start_sandbox: StartSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`VERIFF_SANDBOX_TOKEN` is the token, unless the program chooses another; an empty one counts as absent."""
    monkeypatch.setenv("VERIFF_SANDBOX_TOKEN", TOKEN)
    async with start_sandbox() as caller:
        assert 404 == await status(caller, API, BEARER)
        assert 401 == await status(caller, API)
    async with start_sandbox(control_token="another-token") as caller:
        assert 401 == await status(caller, API, BEARER)
    monkeypatch.setenv("VERIFF_SANDBOX_TOKEN", "short")
    with pytest.raises(ConfigurationError, match="VERIFF_SANDBOX_TOKEN must be 8 or more"):
        Sandbox()
    monkeypatch.setenv("VERIFF_SANDBOX_TOKEN", "")
    async with start_sandbox() as caller:
        assert caller.sandbox.control_token is None


@pytest.mark.parametrize(
    "token", ["", "short", "with a space", "line\nend-and-more", "ümläute-ümläute", 12345678, b"12345678"]
)
def test_a_token_that_no_header_can_carry_is_refused(token: str) -> None:
    """The message does not show the token."""
    with pytest.raises(ConfigurationError, match=r"^control_token must be 8 or more letters") as raised:
        Sandbox(control_token=token)
    assert not token or str(token) not in str(raised.value)


async def test_no_spelling_of_a_path_avoids_the_rules(start_sandbox: StartSandbox) -> None:
    """Percent-encoded letters, dots and repeated slashes reach neither the console nor the API without the token."""
    async with start_sandbox(control_token=TOKEN, clock=VirtualClock()) as caller:
        parts = urlsplit(caller.sandbox.base_url)
        for path in (
            "/%5fsandbox/api/nothing",
            "/_sandbox%2fapi/nothing",
            "/v/../_sandbox/api/nothing",
            "/v/%2e%2e/_sandbox/api",
            "//_sandbox/api/nothing",
            "/_sandbox//api/nothing",
            "/_sandbox/ca.pem/../api/nothing",
            "/v/static/../../_sandbox/api/nothing",
            f"http://{parts.netloc}/_sandbox/api/nothing",
        ):
            async with await connect_tcp(str(parts.hostname), parts.port or 0) as connection:
                await connection.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
                reply = b"".join([part async for part in connection])
            # 404 without the form of the control API: the request went elsewhere.
            assert b" 401 " in reply[:20] or b'"error"' not in reply, path


async def test_requests_to_the_sandbox_itself_are_not_recorded(caller: Caller) -> None:
    """Faults do not apply to them, `Sandbox.requests` does not list them, and `/_sandbox` leads to the console."""
    reply = await caller.send("GET", "/_sandbox?a=1")
    assert (303, "/_sandbox/?a=1") == (reply.status, reply.headers["Location"])
    # A decoded line end would split the header.
    reply = await caller.send("GET", "/_sandbox?a=%0d%0aSet-Cookie:b=c")
    assert (303, None) == (reply.status, reply.headers.get("Set-Cookie"))
    await caller.send("GET", API)
    assert caller.sandbox.requests == ()


async def test_malformed_requests_are_not_logged(caller: Caller, caplog: pytest.LogCaptureFixture) -> None:
    """A log has no bytes of requests that are not HTTP: they may be a secret, and strangers could fill it."""
    parts = urlsplit(caller.sandbox.base_url)
    head = b"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    for request in (
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        head + b"X-HMAC-SIGNATURE: secret\x00\r\n\r\n",
        head + b"Content-Length: secret\r\n\r\n",
        head + b"Transfer-Encoding: chunked\r\n\r\nsecret\r\n",
        head + b"Content-Encoding: gzip\r\nContent-Length: 6\r\n\r\nsecret",
    ):
        async with await connect_tcp(str(parts.hostname), parts.port or 0) as connection:
            await connection.send(request)
            assert b" 40" in b"".join([part async for part in connection])[:20]

    assert [] == caplog.records


def test_a_token_that_cannot_be_kept_is_a_clear_error(tmp_path: Path) -> None:
    """The token is kept in a file of the state folder; without the folder the error names the remedy, not the path."""
    with pytest.raises(ConfigurationError, match=r"cannot be kept in token .*: pass control_token") as caught:
        Access(None, ()).keep_token(tmp_path / "missing" / "token")
    assert str(tmp_path) not in str(caught.value)
