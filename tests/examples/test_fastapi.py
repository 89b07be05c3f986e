"""The FastAPI application over real sockets, with the sandbox: uploads, live status, and what must be refused."""

from __future__ import annotations

import asyncio
import importlib
import io
import logging
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientSession, CookieJar, FormData
from anyio import to_thread
from PIL import Image

from tests.conditions import needs_posix
from tests.examples.conftest import EXAMPLES, SECONDS, free_port, wait_for_port
from tests.examples.web import check_webhooks
from tests.webhooks.conftest import under_uvicorn
from veriff_async import Credentials
from veriff_async.sandbox import Fault, Sandbox
from veriff_async.sandbox._specimens import SPECIMENS, specimen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from aiohttp import ClientResponse

    Start = Callable[[], AbstractAsyncContextManager[str]]

pytestmark = pytest.mark.anyio

SECRET_KEY: Final = "a key of more than thirty-two characters"
CREDENTIALS: Final = Credentials("3f2504e0-4f89-11d3-9a0c-0305e82c3301", "a secret of the tests")
NAMES: Final = {"first_name": "Ada", "last_name": "Byron"}
REQUIRED: Final = ("document-front", "face")


def read_specimen(name: str) -> bytes:
    """Return a specimen picture."""
    with specimen(f"{name}.webp") as path:
        return path.read_bytes()


def draw_dark() -> bytes:
    """Return a picture that fails the quality checks."""
    file = io.BytesIO()
    Image.new("RGB", (1600, 1200), (9, 9, 9)).save(file, "JPEG")
    return file.getvalue()


PICTURES: Final = {name.removesuffix(".webp"): read_specimen(name.removesuffix(".webp")) for name in SPECIMENS}
DARK: Final = draw_dark()


class Browser:
    """A browser: it has a cookie jar, and says where its requests come from."""

    def __init__(self, url: str) -> None:
        """Open no connection yet."""
        parts = urlsplit(url)
        headers = {"Origin": f"{parts.scheme}://{parts.netloc}", "Accept": "application/json"}
        self.http = ClientSession(url, headers=headers, cookie_jar=CookieJar(unsafe=True))

    async def __aenter__(self) -> Self:
        """Open the page, which sets the cookie."""
        assert 200 == await self.call("GET", "/")
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Close the connections."""
        await self.http.close()

    async def call(self, method: str, path: str, **options: object) -> int:
        """Send a request, and return the status of the response."""
        async with self.http.request(method, path, **options) as response:  # type: ignore[arg-type]
            await response.read()
            return response.status

    async def put(self, context: str, picture: bytes | AsyncIterator[bytes], query: str = "") -> tuple[int, str]:
        """Send a picture, and return the status and the message of the response."""
        async with self.http.put(f"/pictures/{context}{query}", data=picture) as response:
            return response.status, "" if response.status == 204 else (await response.json(content_type=None))["detail"]

    async def send_all(self, **names: str) -> None:
        """Do what the script of the page does."""
        assert 204 == await self.call("POST", "/verification", data=NAMES | names)
        for context in REQUIRED:
            assert (204, "") == await self.put(context, PICTURES[context])
        assert 204 == await self.call("POST", "/submission")

    async def page(self) -> str:
        """Return the page as text."""
        async with self.http.get("/") as response:
            assert 200 == response.status
            return await response.text()

    @asynccontextmanager
    async def follow(self) -> AsyncIterator[ClientResponse]:
        """Open the stream of events."""
        async with self.http.get("/events") as response:
            assert "text/event-stream" in response.headers["Content-Type"]
            yield response


async def next_status(events: ClientResponse) -> str:
    """Return the data of the next event, or nothing at the end of the stream."""
    async for line in events.content:
        if line.startswith(b"data: "):
            return line.removeprefix(b"data: ").decode().strip()
    return ""


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Run a sandbox with credentials that are known before it runs."""
    async with Sandbox(credentials=CREDENTIALS) as sandbox:
        yield sandbox


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[], object]:
    """Return the function that creates the application, imported outside of the event loop, which imports block."""
    monkeypatch.syspath_prepend(EXAMPLES / "fastapi")
    create_app: Callable[[], object] = importlib.import_module("identity.app").create_app
    return create_app


@pytest.fixture
def start(load: Callable[[], Callable[..., object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Return a function that serves the application, in this process, and gives the sandbox its address."""
    monkeypatch.setenv("SECRET_KEY", SECRET_KEY)
    monkeypatch.setenv("PUBLIC_URL", "http://localhost")
    monkeypatch.setenv("INBOX", str(tmp_path / "inbox.db"))
    monkeypatch.setenv("DATABASE", str(tmp_path / "identity.db"))

    @asynccontextmanager
    async def serve() -> AsyncIterator[str]:
        app = await to_thread.run_sync(load)  # before the loop runs, in production
        async with under_uvicorn(app) as server:
            yield f"http://127.0.0.1:{server.port}"

    return serve


@pytest.fixture
async def app(start: Start, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """Serve the application, and return its URL."""
    use_sandbox(sandbox, monkeypatch)
    async with start() as url:
        sandbox.webhook_url = f"{url}/webhooks/veriff"
        yield url


def use_sandbox(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configure the application for a sandbox."""
    for name, value in sandbox.environ.items():
        monkeypatch.setenv(name, value)


async def test_decision_arrives_in_the_stream(app: str, sandbox: Sandbox) -> None:
    """The stream shows the state at once, then the decision, and ends."""
    async with Browser(app) as browser:
        assert "Verify your identity" in await browser.page()
        await browser.send_all()
        assert "We are checking" in await browser.page()
        async with browser.follow() as events:
            assert "submitted" == await next_status(events)
            (session,) = sandbox.sessions
            assert set(REQUIRED) == {media.context for media in session.media}
            sandbox.decide(session.id, "approved")
            assert "approved" == await next_status(events)
            assert "" == await next_status(events)
        assert "You are verified" in await browser.page()


async def test_endpoint_of_webhooks_passes_every_check(
    start: Start, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Webhooks of every kind and form are accepted, and those of strangers refused."""
    use_sandbox(sandbox, monkeypatch)
    async with start() as url:  # its end waits for the handlers of the last webhooks
        await check_webhooks(url, sandbox.credentials)


async def test_better_pictures_are_for_the_same_session(app: str, sandbox: Sandbox) -> None:
    """A request for better pictures is explained to the user, and another round leads to a decision."""
    async with Browser(app) as browser:
        await browser.send_all()
        (session,) = sandbox.sessions
        sandbox.decide(session.id, "resubmission_requested", reason_code=204, reason="Suspected copy")
        await sandbox.wait_idle()
        page = await browser.page()
        assert "sharp, in good light, without glare" in page
        assert "Suspected" not in page

        await browser.send_all()
        assert "We are checking" in await browser.page()
        sandbox.decide(session.id, "approved")
        await sandbox.wait_idle()
        assert "You are verified" in await browser.page()
        assert [session.id] == [session.id for session in sandbox.sessions]


@pytest.mark.parametrize(("status", "words"), [("declined", "We could not verify you"), ("expired", "has expired")])
async def test_user_may_start_again(app: str, sandbox: Sandbox, status: str, words: str) -> None:
    """After a verification that failed the user may begin another one."""
    async with Browser(app) as browser:
        await browser.send_all()
        sandbox.decide(sandbox.sessions[0].id, status)
        await sandbox.wait_idle()
        assert words in await browser.page()
        assert 200 == await browser.call("POST", "/restart")  # after the redirect
        assert "Verify your identity" in await browser.page()
        await browser.send_all()
        assert 2 == len(sandbox.sessions)


async def test_approved_user_cannot_start_again(app: str, sandbox: Sandbox) -> None:
    """A final success stays."""
    async with Browser(app) as browser:
        await browser.send_all()
        sandbox.decide(sandbox.sessions[0].id, "approved")
        await sandbox.wait_idle()
        await browser.call("POST", "/restart")
        assert "You are verified" in await browser.page()


async def test_form_works_without_script(app: str, sandbox: Sandbox) -> None:
    """A browser without JavaScript sends everything in one form, and gets the page with the hint or with the status."""

    def fill(front: bytes, **fields: str) -> FormData:
        form = FormData(NAMES | fields)
        form.add_field("document-front", front, filename="front.jpg", content_type="image/jpeg")
        form.add_field("document-back", b"", filename="", content_type="application/octet-stream")
        form.add_field("face", PICTURES["face"], filename="face.jpg", content_type="image/jpeg")
        return form

    async with Browser(app) as browser:
        browser.http.headers.pop("Accept")
        async with browser.http.post("/", data=fill(DARK)) as response:
            assert 422 == response.status
            page = await response.text()
            assert "The picture is too dark" in page
            assert "Send this picture anyway" in page
        async with browser.http.post("/", data=fill(DARK, anyway="on")) as response:
            assert 200 == response.status
            assert "We are checking" in await response.text()
            assert [303] == [answer.status for answer in response.history]
        async with browser.http.post("/", data=fill(PICTURES["document-front"])) as response:
            assert 409 == response.status
            assert "We are checking" in await response.text()
        assert 1 == len(sandbox.sessions)


async def test_other_browser_sees_nothing(app: str, sandbox: Sandbox) -> None:
    """Only the browser that began a verification sees it; a forged or changed cookie is worth nothing."""
    async with Browser(app) as mine, Browser(app) as other:
        await mine.send_all()
        assert "Verify your identity" in await other.page()
        assert 204 == await other.call("GET", "/events")
        assert 410 == (await other.put("face", PICTURES["face"]))[0]
        assert 400 == await other.call("POST", "/submission")

        (cookie,) = mine.http.cookie_jar
        assert cookie["httponly"]
        assert "lax" == cookie["samesite"]
        for value in (cookie.value[:-1], "x" + cookie.value, cookie.value.split(".", 1)[0], "null"):
            other.http.cookie_jar.clear()
            headers = {"Cookie": f"{cookie.key}={value}"}
            assert 204 == await other.call("GET", "/events", headers=headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
    ],
)
async def test_request_of_other_website_is_refused(app: str, sandbox: Sandbox, headers: dict[str, str]) -> None:
    """A request that changes something must come from the page itself."""
    async with Browser(app) as browser:
        for method, path in [("POST", "/"), ("POST", "/verification"), ("POST", "/submission"), ("POST", "/restart")]:
            assert 403 == await browser.call(method, path, data=NAMES, headers=headers)
        assert 403 == await browser.call("PUT", "/pictures/face", data=b"x", headers=headers)
        assert () == sandbox.sessions


async def chunks(picture: bytes) -> AsyncIterator[bytes]:
    """Yield a picture without a length."""
    yield picture


async def test_simultaneous_requests_share_one_session(
    start: Start, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First requests of one browser at the same time, to two workers, create one session, and lose no picture."""
    use_sandbox(sandbox, monkeypatch)
    async with start() as first, start() as second, Browser(first) as browser:
        begin = [
            browser.call("POST", f"{url}/verification", data=NAMES, headers={"Origin": url})
            for url in (first, second) * 3
        ]
        assert [204] * 6 == await asyncio.gather(*begin)
        assert 1 == len(sandbox.sessions)

        assert [(204, "")] * 2 == await asyncio.gather(*(browser.put(name, PICTURES[name]) for name in REQUIRED))
        assert (
            {204} <= set(await asyncio.gather(*(browser.call("POST", "/submission") for _ in range(3)))) <= {204, 409}
        )
        assert "We are checking" in await browser.page()


async def test_failed_creation_can_be_repeated(app: str, sandbox: Sandbox) -> None:
    """When Veriff refuses the creation, the next request creates the session at once."""
    async with Browser(app) as browser:
        sandbox.inject(Fault.status(400))
        assert 422 == await browser.call("POST", "/verification", data=NAMES)
        assert 204 == await browser.call("POST", "/verification", data=NAMES)
        assert 1 == len(sandbox.sessions)


async def test_browser_without_cookies_gets_an_explanation(app: str, sandbox: Sandbox) -> None:
    """A browser that refuses cookies creates no session."""
    async with Browser(app) as browser:
        browser.http.cookie_jar.clear()
        async with browser.http.post("/verification", data=NAMES) as response:
            assert (400, "Allow cookies") == (response.status, (await response.json(content_type=None))["detail"][:13])
    assert not sandbox.sessions


async def test_session_needs_names(app: str, sandbox: Sandbox) -> None:
    """A request without names creates no session, with or without the page's form."""
    async with Browser(app) as browser:
        assert await browser.call("POST", "/verification", data={"first_name": " ", "last_name": "Byron"}) == 400
        assert await browser.call("POST", "/verification", data=b"a text") == 400
    assert not sandbox.sessions


async def test_unsuitable_upload_is_refused(app: str) -> None:
    """Each unsuitable file gets its status and words for the user, and the next picture is accepted."""
    async with Browser(app) as browser:
        assert 204 == await browser.call("POST", "/verification", data=NAMES)
        unsuitable: list[tuple[tuple[int, str], bytes | AsyncIterator[bytes]]] = [
            ((415, "This file cannot be used"), b"a text, and no picture"),
            ((422, "The file is empty"), b""),
            ((415, "This file cannot be used"), b"\xff\xd8\xff\xe0 cut"),
            ((422, "The picture is too dark"), DARK),
            ((411, "The length"), chunks(PICTURES["face"])),
        ]
        for expected, picture in unsuitable:
            status, message = await browser.put("face", picture)
            assert expected == (status, message[: len(expected[1])])
        assert (204, "") == await browser.put("face", DARK, "?anyway=true")
        assert 422 == await browser.call("PUT", "/pictures/holiday", data=b"x")
        assert 400 == await browser.call("POST", "/submission")
        assert (204, "") == await browser.put("document-front", PICTURES["document-front"])
        assert 204 == await browser.call("POST", "/submission")
        assert 409 == await browser.call("POST", "/submission")
        assert 409 == (await browser.put("face", PICTURES["face"]))[0]


async def send_head(browser: Browser, url: str, length: int, body: bytes = b"") -> bytes:
    """Announce a picture, send a part of it at most, and return the first line of the response, if one comes."""
    (cookie,) = browser.http.cookie_jar
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
    head = f"PUT /pictures/face HTTP/1.1\r\nHost: x\r\nOrigin: http://x\r\nContent-Length: {length}\r\n"
    writer.write(f"{head}Cookie: {cookie.key}={cookie.value}\r\n\r\n".encode() + body)
    await writer.drain()
    line = b"" if body else await reader.readline()
    writer.close()
    return line


async def test_file_that_is_too_large_is_refused_unread(app: str) -> None:
    """The length alone is enough to refuse a file, and the next request is served."""
    async with Browser(app) as browser:
        assert 204 == await browser.call("POST", "/verification", data=NAMES)
        assert b" 413 " in await send_head(browser, app, 50_000_000)
        assert (204, "") == await browser.put("face", PICTURES["face"])


async def test_upload_that_breaks_off_is_not_sent(app: str, sandbox: Sandbox) -> None:
    """A connection that breaks in a picture leaves nothing at Veriff, and the picture can be sent again."""
    async with Browser(app) as browser:
        assert 204 == await browser.call("POST", "/verification", data=NAMES)
        await send_head(browser, app, 900_000, PICTURES["face"])
        for context in REQUIRED:
            assert (204, "") == await browser.put(context, PICTURES[context])
        assert 204 == await browser.call("POST", "/submission")
        assert sorted(REQUIRED) == sorted(media.context for media in sandbox.sessions[0].media)


async def test_webhook_to_another_worker_wakes_the_stream(
    start: Start, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers share the inbox: one records the webhook, and the stream of the other shows the decision."""
    use_sandbox(sandbox, monkeypatch)
    async with start() as first, start() as second, Browser(first) as browser:
        sandbox.webhook_url = f"{second}/webhooks/veriff"
        await browser.send_all()
        async with browser.follow() as events:
            assert "submitted" == await next_status(events)
            sandbox.decide(sandbox.sessions[0].id, "declined")
            assert "declined" == await next_status(events)
        assert not [request for request in sandbox.requests if request.path.endswith("/decision")]


async def test_restart_of_the_server_loses_nothing(
    start: Start, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A browser that comes back after a restart sees its verification, and gets the decision."""
    use_sandbox(sandbox, monkeypatch)
    async with start() as url, Browser(url) as browser:
        await browser.send_all()
        cookies = {cookie.key: cookie.value for cookie in browser.http.cookie_jar}
    async with start() as url, Browser(url) as browser:
        sandbox.webhook_url = f"{url}/webhooks/veriff"
        browser.http.cookie_jar.clear()
        browser.http.cookie_jar.update_cookies(cookies)
        async with browser.follow() as events:
            assert "submitted" == await next_status(events)
            sandbox.decide(sandbox.sessions[0].id, "approved")
            assert "approved" == await next_status(events)


async def test_session_that_veriff_lost_is_forgotten(app: str, sandbox: Sandbox) -> None:
    """A session that Veriff does not know any more is forgotten, so that the user can begin another one."""
    async with Browser(app) as browser:
        assert 204 == await browser.call("POST", "/verification", data=NAMES)
        sandbox.inject(Fault.status(404))
        assert 404 == (await browser.put("face", PICTURES["face"]))[0]
        await browser.send_all()
        assert 2 == len(sandbox.sessions)


async def test_submission_whose_response_was_lost_can_be_repeated(app: str, sandbox: Sandbox) -> None:
    """A submission that arrived although its response was lost counts when the user sends the form again."""
    async with Browser(app) as browser:
        assert 204 == await browser.call("POST", "/verification", data=NAMES)
        for context in REQUIRED:
            assert (204, "") == await browser.put(context, PICTURES[context])
        sandbox.submit_attempt(sandbox.sessions[0].id)
        assert 204 == await browser.call("POST", "/submission")
        assert "We are checking" in await browser.page()


async def test_https_hardens_cookie_and_headers(
    start: Start, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages may load nothing from elsewhere and are not stored; behind HTTPS the cookie is bound to host and scheme."""
    use_sandbox(sandbox, monkeypatch)
    monkeypatch.setenv("PUBLIC_URL", "https://identity.example")
    async with start() as url, Browser(url) as browser:
        async with browser.http.get("/") as response:
            policy = response.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "http" not in policy
            assert "no-store" == response.headers["Cache-Control"]
            assert "max-age" in response.headers["Strict-Transport-Security"]
            cookie = response.headers["Set-Cookie"]
            assert cookie.startswith("__Host-identity=")
            assert "secure" in cookie
            assert "path=/;" in cookie
        async with browser.http.get("/static/page.js") as response:
            assert "nosniff" == response.headers["X-Content-Type-Options"]
            assert "Cache-Control" not in response.headers
        for path in ("/docs", "/openapi.json", "/sessions"):
            assert 404 == await browser.call("GET", path)


async def test_readiness_follows_veriff_and_hides_the_cause(
    app: str, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """While Veriff fails, the readiness probe is answered 503 and the liveness probe 200; the cause is in the log."""
    sandbox.inject(Fault.status(500))
    async with ClientSession(app) as http:
        async with http.get("/readyz") as response:
            assert (503, "failed") == (response.status, (await response.json())["credentials"])
        async with http.get("/health") as response:
            assert 200 == response.status
    assert "HTTP 500" in caplog.text


async def test_logs_hold_no_personal_data(app: str, sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """Names, cookies and pictures are in no record, after successes and errors."""
    caplog.set_level(logging.DEBUG, "identity")
    async with Browser(app) as browser:
        await browser.send_all(first_name="Zaphod", last_name="Beeblebrox")
        await browser.put("face", DARK)
        await browser.call("POST", "/verification", data={"first_name": "x" * 2000})
        sandbox.decide(sandbox.sessions[0].id, "approved")
        await sandbox.wait_idle()
        (cookie,) = browser.http.cookie_jar
    assert "submitted" in caplog.text
    for secret in ("Zaphod", "Beeblebrox", cookie.value, SECRET_KEY, "127.0.0.1"):
        assert secret not in caplog.text


def test_secret_key_is_required(load: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application does not start with a key that can be guessed."""
    settings = importlib.import_module("identity.settings").Settings
    for environ in ({}, {"SECRET_KEY": "short"}):
        with pytest.raises(ValueError, match="SECRET_KEY needs 32"):
            settings.from_env(environ)
    assert SECRET_KEY not in repr(settings.from_env({"SECRET_KEY": SECRET_KEY}))


@needs_posix
async def test_stop_ends_streams(tmp_path: Path, without_coverage: None) -> None:
    """SIGTERM ends an open stream, and the server with its local Veriff stops without an error."""
    port = free_port()
    files = {"INBOX": str(tmp_path / "inbox.db"), "DATABASE": str(tmp_path / "identity.db")}
    settings = {"PORT": str(port), "SECRET_KEY": SECRET_KEY, **files}
    command = [sys.executable, "-W", "error", "-m", "identity", "--sandbox"]
    process = await to_thread.run_sync(
        lambda: subprocess.Popen(  # noqa: S603  our own example
            command, cwd=EXAMPLES / "fastapi", env={**os.environ, **settings}, stderr=subprocess.PIPE
        )
    )
    try:
        await wait_for_port(port, process)
        async with Browser(f"http://127.0.0.1:{port}") as browser:
            assert 200 == await browser.call("GET", "/health")
            await browser.send_all()
            async with browser.follow() as events:
                assert "submitted" == await next_status(events)
                process.send_signal(signal.SIGTERM)
                # The local Veriff may have decided before the signal.
                assert await next_status(events) in {"", "approved"}
        _, log = await to_thread.run_sync(lambda: process.communicate(timeout=SECONDS))
    finally:
        process.kill()
    assert 0 == process.returncode, log.decode()
    assert b"Traceback" not in log
    left = await to_thread.run_sync(lambda: {path.name for path in tmp_path.iterdir()})
    assert {"identity.db", "inbox.db"} == left
