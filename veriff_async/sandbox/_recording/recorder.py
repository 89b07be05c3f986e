"""The public class `Recorder`: a reverse proxy that writes a cassette.

Tasks and threads
    Each request has a handler of its own in the server's loop (see `proxy`). When it ends, however it ends, it puts the
    exchange in a queue. One task takes exchanges from there, and redacts and writes each in a thread, so neither
    hashing nor a slow disk delays traffic. A stop ends the handlers first, then the task, so nothing is lost.

A cassette that cannot be written
    The proxy continues without it: a full disk must not end the tests of others. The file then ends with the last whole
    line, `Recorder.problem` and a log record say why, and the end of the block raises an error.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from posixpath import normpath
from threading import Lock
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import unquote, urlsplit

import aiohttp
from aiohttp import web
from anyio import CapacityLimiter, to_thread

from veriff_async._event_loop import require_asyncio
from veriff_async._http.ca_bundle import create_context
from veriff_async._protocol.arguments import check_flag, check_function, check_path
from veriff_async._protocol.base_url import LOCAL_SYNC, hosts_of, insecure_hosts
from veriff_async._protocol.option_names import explain_options
from veriff_async.errors import ConfigurationError
from veriff_async.sandbox._address import build_url_variables
from veriff_async.sandbox._arguments import check_host, check_url
from veriff_async.sandbox._parts import Parts
from veriff_async.sandbox._recording.body_capture import BodyCapture
from veriff_async.sandbox._recording.cassette import CassetteFile, head_line, write_entry
from veriff_async.sandbox._recording.fakes import Fakes
from veriff_async.sandbox._recording.listener import check_port, serve
from veriff_async.sandbox._recording.proxy import Exchange, Proxy
from veriff_async.sandbox._recording.redaction import Redactor
from veriff_async.sandbox._records import ReceivedRequest
from veriff_async.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from os import PathLike
    from types import TracebackType

    from veriff_async.sandbox._recording.cassette import EntryKind

__all__ = ("Recorder",)

_log: Final = logging.getLogger(__name__)

_KEY_BYTES: Final = 32
_CONNECT_SECONDS: Final = 30.0
# Other paths of a sandbox control it. Its checks of the host, which the proxy replaces, would let them through.
_API: Final = ("/v1/", f"{LOCAL_SYNC}/v1/")
_WEBHOOKS: Final = "/_recorder/webhooks"
_NOT_FOUND: Final = 404

_RECORDS_ONCE: Final = "A recorder records once: create another Recorder with another file."


class Recorder:
    """A proxy between any client and Veriff that writes what it sees to a cassette.

    ``async with Recorder("https://...", "flow.jsonl") as recorder:`` serves in the running loop. Clients use
    `Recorder.base_url` instead of the address of Veriff, with the credentials that they have: the recorder needs none.
    Bodies pass through while they arrive, so an upload of any size takes constant memory, and signatures stay valid.
    Cancellations, time limits and broken connections of one side reach the other side.

    The cassette is redacted: pictures become sizes and digests, and personal data, ids, keys and signatures become
    stable fakes. Only known fields stay, for example statuses, codes, document types and countries. Equal values have
    equal fakes in one cassette, and no one can find a value by trying. `Sandbox.replay` serves a cassette.

    A request to Veriff's feedback or synchronous host passes through the same address: ``/v1/feedback/...`` and
    ``/sync/v1/...``, as with a sandbox.

    Args:
        upstream: Address of Veriff's API, or of a sandbox.
        cassette: The file to write; it must not exist.
        host: Address to listen on.
        port: Port to listen on; 0 selects a free one.
        webhooks_to: URL of the receiver of your webhooks. Veriff must then post them to `webhook_url`, from where the
            recorder passes them on; ``None`` records none.
        redact: Whether to replace personal data. Keys, signatures and pictures are never written.
        ca_bundle: PEM file with certificate authorities to trust in addition to those of the system.
        allow_insecure_hosts: Host names of other machines that plain http is allowed for, as for `VeriffClient`.
        on_request: Called in the loop after each exchange.

    Attributes:
        problem: Why the cassette could not be written; empty as long as it can.

    Raises:
        ConfigurationError: An option cannot work, the file exists, or the recorder cannot listen on the address; or, at
            the end of the block, the cassette could not be written.

    Example:
        >>> async with Recorder("https://stationapi.veriff.com", "flow.jsonl") as recorder:
        ...     async with VeriffClient(credentials, base_url=recorder.base_url) as veriff:
        ...         await veriff.create_session(vendor_data="user-42")
    """

    @explain_options("Recorder", 'Pass the address and the file, for example Recorder("https://...", "flow.jsonl").')
    def __init__(  # noqa: PLR0913  every other option has a default
        self,
        upstream: str,
        cassette: str | PathLike[str],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        webhooks_to: str | None = None,
        redact: bool = True,
        ca_bundle: str | PathLike[str] | None = None,
        allow_insecure_hosts: Collection[str] = (),
        on_request: Callable[[ReceivedRequest], None] | None = None,
    ) -> None:
        """Check the options; nothing is opened yet."""
        insecure = insecure_hosts(allow_insecure_hosts)
        self._roots = hosts_of(upstream, feedback_url=None, sync_url=None, allow_insecure=insecure)
        self._path = Path(check_path("cassette", cassette))
        self._host = check_host(host)
        self._port = check_port(port)
        self._webhooks_to = None if webhooks_to is None else check_url("webhooks_to", webhooks_to)
        check_flag("redact", redact)
        self._is_redacted = redact
        self._ca_bundle = None if ca_bundle is None else check_path("ca_bundle", ca_bundle)
        check_function("on_request", on_request)
        self._on_request = on_request
        self.problem: str = ""
        self._base_url = ""
        self._started_at = 0.0
        self._count = 0
        self._is_stopping = False
        self._queue: asyncio.Queue[tuple[int, EntryKind, Exchange, float] | None] = asyncio.Queue()
        self._in_use = Lock()
        self._parts = Parts()

    def __repr__(self) -> str:
        """Show where it listens."""
        return f"<Recorder {self._base_url or 'not running'}>"

    @property
    def base_url(self) -> str:
        """The address for clients.

        Raises:
            ConfigurationError: The recorder is not running.
        """
        if not self._base_url:
            msg = "The recorder is not running: use it in an async with block."
            raise ConfigurationError(msg)
        return self._base_url

    @property
    def environ(self) -> dict[str, str]:
        """The environment variables with addresses that `VeriffClient.from_env` reads; credentials are yours."""
        return build_url_variables(self.base_url)

    @property
    def webhook_url(self) -> str:
        """The address that Veriff must post webhooks to, with `webhooks_to`."""
        return self.base_url + _WEBHOOKS

    @property
    def cassette(self) -> Path:
        """The file of the cassette."""
        return self._path

    async def __aenter__(self) -> Self:
        """Create the file, and listen."""
        require_asyncio()
        if self._base_url or self._count:
            raise ConfigurationError(_RECORDS_ONCE)
        async with Parts() as parts:
            parts.claim(self._in_use, _RECORDS_ONCE)
            tls = await to_thread.run_sync(create_context, self._ca_bundle)
            http = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=tls, limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
            await parts.enter_async_context(http)
            file = await to_thread.run_sync(CassetteFile, self._path)
            parts.push_async_exit(partial(_close, file))
            head = head_line(
                recorder=f"veriff-async {__version__}",
                recorded_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
                is_redacted=self._is_redacted,
            )
            await self._append(file, head)
            loop = asyncio.get_running_loop()
            writer = loop.create_task(self._write(file), name="veriff recorder")
            parts.push_async_callback(self._finish, writer)
            self._proxy = Proxy(http)
            self._started_at = loop.time()
            base_url = await serve(parts, self._handle, self._host, self._port, name="recorder")
            self._refuse_loop(base_url)
            self._base_url = base_url
            self._parts = parts.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop, and write what is left."""
        self._is_stopping = True
        self._base_url = ""
        await self._parts.aclose()
        # An error of the block is more important.
        if self.problem and error is None:
            raise ConfigurationError(self.problem)

    def _refuse_loop(self, base_url: str) -> None:
        """Refuse to pass requests on to this recorder, which would pass them on without end."""
        own = urlsplit(base_url)
        for name, url in (("upstream", self._roots["api"]), ("webhooks_to", self._webhooks_to or "")):
            parts = urlsplit(url)
            if parts.port == own.port and parts.hostname in {own.hostname, "localhost", self._host}:
                msg = f"{name} is the address of the recorder itself: give the address of another server."
                raise ConfigurationError(msg)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path
        kind: EntryKind = "exchange"
        if path.partition("?")[0] == _WEBHOOKS and self._webhooks_to is not None:
            kind, url = "webhook", self._webhooks_to
        elif _is_api(path):
            url = self._url_of(path)
        else:
            return web.Response(status=_NOT_FOUND, text="The recorder passes on requests to the API of Veriff only.\n")
        number, self._count = self._count, self._count + 1
        exchange = Exchange(
            method=request.method,
            path=path,
            at=self._now(),
            request_headers=[(name, value) for name, value in request.headers.items()],
            sent=BodyCapture(request.headers.get("Content-Encoding", "")),
        )
        try:
            return await self._proxy.forward(request, url, exchange)
        finally:
            # Also when the handler is cancelled, so nothing may wait here.
            if exchange.ending == "client" and self._is_stopping:
                exchange.ending = "recorder"
            self._queue.put_nowait((number, kind, exchange, self._now() - exchange.at))
            self._report(exchange)

    def _url_of(self, path: str) -> str:
        if path.startswith(f"{LOCAL_SYNC}/"):
            return self._roots["sync"] + path.removeprefix(LOCAL_SYNC)
        host = self._roots["feedback" if path.startswith("/v1/feedback/") else "api"]
        return host + path

    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self._started_at

    def _report(self, exchange: Exchange) -> None:
        if self._on_request is None:
            return
        cause = "" if exchange.ending == "complete" else f"ended by the {exchange.ending}"
        path = exchange.path.partition("?")[0]
        try:
            self._on_request(ReceivedRequest(method=exchange.method, path=path, status=exchange.status, cause=cause))
        except Exception:  # noqa: BLE001  an error in a function of the caller must not end the request
            _log.exception("The on_request function of the recorder has failed.")

    async def _write(self, file: CassetteFile) -> None:
        redactor = Redactor(Fakes(secrets.token_bytes(_KEY_BYTES)), roots=self._roots.values(), is_on=self._is_redacted)
        # One thread at a time, and not one of those that other work in this loop waits for.
        limiter = CapacityLimiter(1)
        while (item := await self._queue.get()) is not None:
            line = await to_thread.run_sync(_to_line, redactor, *item, limiter=limiter)
            await self._append(file, line)

    async def _append(self, file: CassetteFile, line: bytes) -> None:
        if self.problem:
            return
        try:
            await to_thread.run_sync(file.append, line)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            self.problem = (
                f"The cassette could not be written ({reason}), and ends before that: make room, and record again."
            )
            _log.error("%s Requests are still passed on.", self.problem)

    async def _finish(self, writer: asyncio.Task[None]) -> None:
        self._queue.put_nowait(None)
        await writer


async def _close(file: CassetteFile, kind: object, _error: object, _traceback: object) -> None:
    """Close the file, and remove it after a start that has failed: the next one must find no file."""
    await to_thread.run_sync(file.close if kind is None else file.discard)


def _is_api(path: str) -> bool:
    """Return whether a path is one of the API, also after the server has decoded it."""
    decoded = normpath(unquote(path.partition("?")[0])) + "/"
    return path.startswith(_API) and decoded.startswith(_API)


def _to_line(redactor: Redactor, number: int, kind: EntryKind, exchange: Exchange, seconds: float) -> bytes:
    """Return the line of an exchange. In a thread: a body has up to a megabyte of JSON."""
    response: dict[str, object] | None = None
    if exchange.status is not None:
        response = {
            "status": exchange.status,
            "headers": redactor.headers(exchange.response_headers),
            "body": redactor.body(exchange.received.finish()),
        }
    request = {
        "method": exchange.method,
        # The path of the receiver may be secret, and a replay posts to another one.
        "path": "/" if kind == "webhook" else redactor.path(exchange.path),
        "headers": redactor.headers(exchange.request_headers),
        "body": redactor.body(exchange.sent.finish()),
    }
    entry = {"kind": kind, "number": number, "at": round(exchange.at, 3), "seconds": round(seconds, 3)}
    return write_entry({**entry, "ending": exchange.ending, "request": request, "response": response})
