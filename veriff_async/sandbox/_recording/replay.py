"""The public class `Replay`: a server that responds as a cassette says.

One handler for each request reads the body in chunks (as the recorder does), checks its signature, lets `Library` find
the recording, and sends the response. After the response was sent, webhooks that have become due are posted, each in a
task of its own. Everything runs in one loop, so nothing needs a lock.
"""

from __future__ import annotations

import asyncio
import logging
from importlib.resources import files
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final, Literal, Self, TypeAlias, TypedDict
from uuid import uuid4

import aiohttp
from aiohttp import web
from anyio import to_thread

from veriff_async._event_loop import require_asyncio
from veriff_async._protocol.arguments import check_flag, check_path, describe_value
from veriff_async._protocol.json.decode import stringify
from veriff_async._protocol.request_arguments import check_credentials
from veriff_async._protocol.signing import Signer
from veriff_async.credentials import Credentials
from veriff_async.errors import ConfigurationError
from veriff_async.models.json import EMPTY, as_object
from veriff_async.sandbox._address import build_environ
from veriff_async.sandbox._arguments import LONGEST, check_host, check_number, check_url
from veriff_async.sandbox._auth import signature_headers
from veriff_async.sandbox._errors import HTTPError
from veriff_async.sandbox._parts import Parts
from veriff_async.sandbox._recording.body_capture import BodyCapture
from veriff_async.sandbox._recording.cassette import read_cassette
from veriff_async.sandbox._recording.fakes import fill
from veriff_async.sandbox._recording.library import Library, Mismatch, shown_path
from veriff_async.sandbox._recording.listener import allow_body, check_port, serve
from veriff_async.sandbox._recording.request_check import RequestCheck
from veriff_async.sandbox._recording.unification import Request, replace
from veriff_async.sandbox._records import ReceivedRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from os import PathLike
    from types import TracebackType

    from veriff_async.models.json import JsonObject
    from veriff_async.sandbox._recording.cassette import Entry, Message

__all__ = ("Replay", "ReplayOptions")

Timing: TypeAlias = 'Literal["none", "original"] | float'

_log: Final = logging.getLogger(__name__)

_WEBHOOK_SECONDS: Final = 5.0
# Clients neither repeat a request after this status, nor take the outcome of a creation for unknown.
_NOT_RECORDED: Final = 422
_BAD_REQUEST: Final = 400
_WITHOUT_BODY: Final = frozenset({204, 304})
_SUCCESS: Final = range(200, 300)
# The body is sent unpacked, in one piece, and signed again.
_NOT_REPLAYED: Final = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class ReplayOptions(TypedDict, total=False):
    """The options of `Sandbox.replay`."""

    timing: Timing
    strict: bool
    credentials: Credentials | None
    webhook_url: str | None
    host: str
    port: int
    on_request: Callable[[ReceivedRequest], None] | None


class Replay:
    """A server that serves a cassette as Veriff; see `Sandbox.replay`, which creates it.

    Attributes:
        unmatched: One sentence for each request that no recording served, oldest first.
        posted: Number of webhooks that were posted.
    """

    def __init__(  # noqa: PLR0913  see `Sandbox.replay`
        self,
        cassette: str | PathLike[str],
        *,
        timing: Timing = "none",
        strict: bool = False,
        credentials: Credentials | None = None,
        webhook_url: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        on_request: Callable[[ReceivedRequest], None] | None = None,
    ) -> None:
        """Check the options; nothing is opened yet. See `Sandbox.replay`."""
        self._path = Path(check_path("cassette", cassette))
        self._factor = _check_timing(timing)
        check_flag("strict", strict)
        self._is_strict = strict
        own = Credentials(str(uuid4()), str(uuid4()), integration_id=str(uuid4()))
        self._credentials = own if credentials is None else check_credentials(credentials)
        self._webhook_url = None if webhook_url is None else check_url("webhook_url", webhook_url)
        self._host = check_host(host)
        self._port = check_port(port)
        self._on_request = on_request
        self.unmatched: tuple[str, ...] = ()
        self.posted: int = 0
        self._base_url = ""
        self._library: Library | None = None
        self._picture = b""
        self._posts: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()
        self._in_use = Lock()
        self._parts = Parts()

    def __repr__(self) -> str:
        """Show where it listens."""
        return f"<Replay {self._base_url or 'not running'}>"

    @property
    def base_url(self) -> str:
        """The address for clients.

        Raises:
            ConfigurationError: The replay is not running.
        """
        if not self._base_url:
            msg = "The replay is not running: use it in an async with block."
            raise ConfigurationError(msg)
        return self._base_url

    @property
    def credentials(self) -> Credentials:
        """The credentials that clients must use, and that sign responses and webhooks."""
        return self._credentials

    @property
    def environ(self) -> dict[str, str]:
        """The environment variables that `VeriffClient.from_env` reads."""
        return build_environ(self.base_url, self._credentials)

    @property
    def webhook_url(self) -> str | None:
        """The URL to which recorded webhooks are posted from now on; ``None`` leaves them out."""
        return self._webhook_url

    @webhook_url.setter
    def webhook_url(self, url: str | None) -> None:
        self._webhook_url = None if url is None else check_url("webhook_url", url)

    @property
    def unused(self) -> tuple[str, ...]:
        """The recordings that were not replayed, for example ``"line 4: PATCH /v1/sessions/..."``.

        A read counts as replayed if any recording of the same request was, because programs poll as often as they like.
        Without a `webhook_url` webhooks do not count.
        """
        unused = () if self._library is None else self._library.unused
        return tuple(_describe(entry) for entry in unused if entry.kind == "exchange" or self._webhook_url is not None)

    async def __aenter__(self) -> Self:
        """Read the cassette, and listen.

        Raises:
            ConfigurationError: The file cannot be read or is not a cassette, or the address cannot be used.
        """
        require_asyncio()
        async with Parts() as parts:
            parts.claim(self._in_use, "The replay is running already: create another one.")
            # A cassette of ten thousand sessions takes seconds to read.
            self._library, is_truncated = await to_thread.run_sync(_load, self._path)
            if is_truncated:
                _log.warning("The last line of the cassette is incomplete, and was left out: its recorder was stopped.")
            self._picture = await to_thread.run_sync(_read_picture)
            self._closing = asyncio.Event()
            self._http = await parts.enter_async_context(
                aiohttp.ClientSession(
                    timeout=aiohttp.ClientTimeout(total=_WEBHOOK_SECONDS), cookie_jar=aiohttp.DummyCookieJar()
                )
            )
            parts.push_async_callback(self._end_posts)
            self._base_url = await serve(parts, self._handle, self._host, self._port, name="replay")
            parts.callback(self._closing.set)
            self._parts = parts.pop_all()
        self._post_webhooks()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop; with `strict`, raise an error for requests and recordings without a counterpart."""
        self._base_url = ""
        await self._parts.aclose()
        problems = [*self.unmatched, *(f"Not replayed: {each}." for each in self.unused)]
        if self._is_strict and problems and error is None:
            msg = f"The program did not do what the cassette says: {' '.join(problems)}"
            raise ConfigurationError(msg)

    async def wait_idle(self) -> None:
        """Wait until no webhook is due or being posted."""
        while self._posts:
            await asyncio.wait(self._posts)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        assert self._library is not None  # noqa: S101  set before it listens
        path = request.raw_path.partition("?")[0]
        check = RequestCheck(request.method, path, request.headers, self._credentials)
        sent = BodyCapture(request.headers.get("Content-Encoding", ""))
        await allow_body(request)
        try:
            async for chunk in request.content.iter_any():
                check.feed(chunk)
                sent.feed(chunk)
        except web.RequestPayloadError:
            return _json_response(_BAD_REQUEST, {"status": "fail", "message": "The body of the request is malformed."})
        body = sent.finish()
        content = body.content if body.size else None
        found = Request(
            method=request.method, path=request.raw_path, size=body.size, has_json=body.is_json, content=content
        )
        try:
            secret, refusal = check.finish(), None
        except HTTPError as error:
            secret, refusal = self._credentials.shared_secret, error
        entry = self._library.find(found, is_refused=refusal is not None)
        response: web.StreamResponse | None
        if refusal is not None and isinstance(entry, Mismatch):
            response = _json_response(refusal.status, refusal.body(check.form))
        elif isinstance(entry, Mismatch):
            response = self._refuse(entry)
        else:
            response = await self._replay(request, entry, secret)
        self._report(request.method, path, response)
        if response is None:
            if request.transport is not None:
                request.transport.abort()
            # aiohttp wants a response; the connection is closed, so it is never sent.
            return web.Response()
        if not response.prepared:
            await response.prepare(request)
            await response.write_eof()
        # After the response, as from a real Veriff.
        self._post_webhooks()
        return response

    def _refuse(self, mismatch: Mismatch) -> web.Response:
        self.unmatched += (mismatch.message,)
        _log.warning("A request was not replayed: %s", mismatch.message)
        nearest: dict[str, object] | None = None
        if mismatch.nearest is not None:
            recorded = mismatch.nearest.request
            nearest = {"line": mismatch.nearest.line, "method": recorded.method, "path": recorded.path}
            nearest["difference"] = mismatch.difference
        message = mismatch.message
        body = {"status": "fail", "code": "not_recorded", "message": message, "nearest": nearest}
        return _json_response(_NOT_RECORDED, body)

    async def _replay(self, request: web.BaseRequest, entry: Entry, secret: str) -> web.StreamResponse | None:
        """Send the recorded response; ``None`` if the connection is to be closed."""
        assert self._library is not None  # noqa: S101  set before it listens
        await self._sleep(entry.seconds)
        if entry.response is None:
            return None
        bindings = self._library.bindings(entry)
        recorded = entry.response
        make_body: Callable[[], Iterator[bytes]]
        if recorded.has_json:
            text = stringify(replace(recorded.content, bindings, self._base_url))
            make_body, size = (lambda: iter((text,))), len(text)
        else:
            members = as_object(recorded.content) or EMPTY
            media_type, size = members.get("type"), recorded.size
            make_body = lambda: fill(media_type, size, self._picture)  # noqa: E731  see above
        response = web.StreamResponse(status=recorded.status, headers=self._headers(recorded, make_body, secret))
        response.content_length = size if entry.ending == "complete" else size + 1
        await response.prepare(request)
        if request.method != "HEAD" and recorded.status not in _WITHOUT_BODY:
            for chunk in make_body():
                await response.write(chunk)
        if entry.ending != "complete":
            return None
        await response.write_eof()
        return response

    def _headers(self, recorded: Message, make_body: Callable[[], Iterator[bytes]], secret: str) -> dict[str, str]:
        headers = {
            name: value
            for name, value in recorded.headers.items()
            if name not in _NOT_REPLAYED and not name.startswith(("vrf-", "x-auth", "x-hmac"))
        }
        if recorded.has_json:
            headers.setdefault("content-type", "application/json")
        if recorded.status in _SUCCESS or any("hmac" in name for name in recorded.headers):
            signer = Signer(secret)
            for chunk in make_body():
                signer.update(chunk)
            headers |= signature_headers(self._credentials, signer.hexdigest())
        return headers

    def _report(self, method: str, path: str, response: web.StreamResponse | None) -> None:
        if self._on_request is None:
            return
        status = None if response is None else response.status
        try:
            self._on_request(ReceivedRequest(method=method, path=path, status=status))
        except Exception:  # noqa: BLE001  an error in a function of the caller must not end the request
            _log.exception("The on_request function of the replay has failed.")

    def _post_webhooks(self) -> None:
        if self._library is None or self._closing.is_set():
            return
        for entry, seconds in self._library.take_webhooks():
            task = asyncio.get_running_loop().create_task(self._post(self._library, entry, seconds))
            self._posts.add(task)
            task.add_done_callback(self._posts.discard)

    async def _post(self, library: Library, entry: Entry, seconds: float) -> None:
        await self._sleep(seconds)
        url = self._webhook_url
        content = as_object(replace(entry.request.content, library.bindings(entry), self._base_url))
        if url is not None and content is not None:
            body = stringify(content)
            headers = {
                "content-type": "application/json",
                **signature_headers(self._credentials, self._credentials.sign(body)),
            }
            try:
                async with self._http.post(url, data=body, headers=headers, allow_redirects=False):
                    self.posted += 1
            except (aiohttp.ClientError, OSError, ValueError):
                _log.warning("A recorded webhook (line %d) could not be delivered to webhook_url.", entry.line)
        library.finish_webhook(entry)
        self._post_webhooks()

    async def _sleep(self, seconds: float) -> None:
        """Wait for a recorded time, or until the replay stops."""
        if self._factor and seconds:
            try:
                async with asyncio.timeout(seconds * self._factor):
                    await self._closing.wait()
            except TimeoutError:
                pass

    async def _end_posts(self) -> None:
        posts = tuple(self._posts)
        for task in posts:
            task.cancel()
        await asyncio.gather(*posts, return_exceptions=True)


def _check_timing(timing: object) -> float:
    """Return the factor by which recorded times are multiplied."""
    if timing == "none":
        return 0.0
    if timing == "original":
        return 1.0
    if isinstance(timing, str):
        msg = f'timing is {describe_value(timing)}: pass "none", "original", or a factor such as 0.5.'
        raise ConfigurationError(msg)
    return check_number("timing", timing, highest=LONGEST, error=ConfigurationError)


def _load(path: Path) -> tuple[Library, bool]:
    """Return the recordings of a file, and whether its last line is incomplete."""
    cassette = read_cassette(_read(path))
    return Library(cassette), cassette.is_truncated


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        problem = error.strerror or type(error).__name__
    except ValueError:
        problem = "no file can have this name"
    msg = f"The cassette cannot be read ({problem}): give the file that Recorder or veriff-async record has written."
    raise ConfigurationError(msg)


def _read_picture() -> bytes:
    return files("veriff_async.sandbox").joinpath("_specimens", "thumbnail.jpg").read_bytes()


def _json_response(status: int, body: JsonObject) -> web.Response:
    return web.Response(status=status, body=stringify(body), content_type="application/json")


def _describe(entry: Entry) -> str:
    if entry.kind == "webhook":
        return f"line {entry.line}: a webhook"
    return f"line {entry.line}: {entry.request.method} {shown_path(entry.request.path)}"
