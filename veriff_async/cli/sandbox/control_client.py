"""The HTTP client of the commands that control a running sandbox: requests, the stream of events, and errors."""

from __future__ import annotations

import re
from typing import IO, TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

import aiohttp
from anyio import to_thread
from attrs import evolve, field, frozen

from veriff_async import ConfigurationError, ConnectError, NotFoundError, ResponseError, TransportError
from veriff_async._http.ca_bundle import ca_bundle_from, create_context
from veriff_async._protocol.error_codes import class_of
from veriff_async._protocol.json.decode import dump, load_object
from veriff_async._protocol.validation import is_id
from veriff_async.cli._http import describe_error
from veriff_async.cli._output import printable
from veriff_async.cli._runtime import current_command
from veriff_async.errors import DecodeError
from veriff_async.models.json import EMPTY, as_object
from veriff_async.sandbox._control.access import API_PREFIX, TOKEN_VARIABLE
from veriff_async.sandbox._control.fields import Field, Members, Text
from veriff_async.sandbox._control.operations import OPERATIONS
from veriff_async.version import __version__

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from veriff_async.models.json import JsonObject
    from veriff_async.sandbox._control.operation import Operation

__all__ = (
    "DEFAULT_URL",
    "URL_VARIABLE",
    "ControlClient",
    "ControlSettings",
    "call_operation",
    "find_operation",
    "path_fields",
)

URL_VARIABLE: Final = "VERIFF_SANDBOX_URL"
DEFAULT_URL: Final = "http://127.0.0.1:8800"
"""Where `veriff-async sandbox` listens without options."""

# Time limit of a response, from the request to its first byte and between two pieces of it.
_SECONDS: Final = 60.0

_CONNECT_SECONDS: Final = 10.0

# A line of the stream is one event, whose webhook may have a long body.
_LINE_BYTES: Final = 4 * 1024 * 1024

_PIECE_BYTES: Final = 256 * 1024

_UNAUTHORIZED: Final = 401
_SUCCESS: Final = range(200, 300)


@frozen(kw_only=True)
class ControlSettings:
    """Where a sandbox is, and how to be let in."""

    url: str
    token: str | None = field(default=None, repr=False)
    ca_bundle: str | None = None

    @classmethod
    def load(cls, environ: Mapping[str, str], *, url: str | None, token: str | None, ca_bundle: str | None) -> Self:
        """Complete options with variables.

        Raises:
            ConfigurationError: The address or token of a variable cannot be used; the message does not contain it.
        """
        url = url or environ.get(URL_VARIABLE, "").strip() or DEFAULT_URL
        token = token or environ.get(TOKEN_VARIABLE, "").strip() or None
        try:
            parts = urlsplit(url)
            usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0 and url.isprintable()
        except ValueError:
            usable = False
        if not usable:
            msg = f"{URL_VARIABLE} is not a URL: set it to http://... or https://..., for example {DEFAULT_URL}."
            raise ConfigurationError(msg)
        # A header cannot carry other characters, and aiohttp's error would show the token.
        if token is not None and not (token.isascii() and token.isprintable()):
            msg = f"The token has a character that no token has: check {TOKEN_VARIABLE} or --control-token-file."
            raise ConfigurationError(msg)
        # The address of the console is as good as that of the sandbox.
        root = url.partition("?")[0].rstrip("/").removesuffix("/_sandbox")
        return cls(url=root, token=token, ca_bundle=ca_bundle or ca_bundle_from(environ))


class ControlClient:
    """Calls the control API of a sandbox; use it with ``async with``."""

    def __init__(self, settings: ControlSettings) -> None:
        """Take the settings; nothing is opened yet."""
        self._settings = settings
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Create the HTTP session."""
        headers = {"User-Agent": f"veriff-async/{__version__}", "Accept": "application/json, text/event-stream"}
        if self._settings.token is not None:
            headers["Authorization"] = f"Bearer {self._settings.token}"
        # It reads files, which would block the loop.
        tls = (
            await to_thread.run_sync(create_context, self._settings.ca_bundle)
            if self._settings.url.startswith("https:")
            else True
        )
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls),
            cookie_jar=aiohttp.DummyCookieJar(),
            # The stream of events has a sign of life every fifteen seconds.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SECONDS),
            read_bufsize=_LINE_BYTES,
            headers=headers,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close all connections."""
        http, self._http = self._http, None
        if http is not None:
            await http.close()

    async def call(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: JsonObject | None = None
    ) -> JsonObject:
        """Carry out an operation, and return the JSON of its result.

        Raises:
            TransportError: The sandbox does not respond.
            ApiError: It refuses; the message is its own sentence.
            ResponseError: The response is not that of a control API.
        """
        data = None if body is None else dump(body)
        return await self.upload(method, path, data, "application/json", query=query)

    async def upload(
        self,
        method: str,
        path: str,
        data: bytes | IO[bytes] | None,
        media_type: str,
        *,
        query: Mapping[str, str] | None = None,
    ) -> JsonObject:
        """Send a body, and return the JSON of the result.

        Raises:
            VeriffError: See `call`.
        """
        headers = None if data is None else {"Content-Type": media_type}
        try:
            async with self._request(method, path, query, data, headers) as response:
                return await self._read(response)
        # TimeoutError is an OSError, and aiohttp's InvalidURL is a ValueError.
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failure = self._to_transport_error(error, method, path)
        raise failure

    async def download(self, path: str, media_type: str) -> AsyncGenerator[bytes]:
        """Yield the pieces of a file of this media type, which no page of another server has.

        Raises:
            VeriffError: See `call`.
        """
        try:
            async with self._request("GET", path) as response:
                if response.status not in _SUCCESS or response.content_type != media_type:
                    await self._read(response)
                    raise self._unexpected(response.status)
                async for piece in response.content.iter_chunked(_PIECE_BYTES):
                    yield piece
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failure = self._to_transport_error(error, "GET", path)
        else:
            return
        raise failure

    async def stream(self, path: str, query: Mapping[str, str]) -> AsyncGenerator[JsonObject]:
        """Yield the data of each server-sent event, without end.

        Raises:
            TransportError: The sandbox does not respond, or has stopped.
            ApiError: It refuses.
            ResponseError: The response is not a stream of events.
        """
        try:
            async with self._request("GET", path, query) as response:
                if response.content_type != "text/event-stream":
                    await self._read(response)
                    raise self._unexpected(response.status)
                data: list[str] = []
                # https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
                async for line in response.content:
                    name, _, value = line.decode(errors="replace").rstrip("\r\n").partition(":")
                    if name == "data":
                        data.append(value.removeprefix(" "))
                    elif not name and not value and data:
                        yield load_object("\n".join(data).encode())
                        data.clear()
        except DecodeError:
            failure: Exception = self._unexpected(200)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failure = self._to_transport_error(error, "GET", path)
        else:
            msg = f"The sandbox at {self._settings.url} has stopped: start it again."
            failure = TransportError(msg, method="GET", path=path)
        raise failure

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        data: bytes | IO[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        assert self._http is not None, "use it with async with"  # noqa: S101
        url = f"{self._settings.url}{API_PREFIX}{path}"
        # The token must not reach another server, so redirects are not followed.
        return self._http.request(method, url, params=query, data=data, headers=headers, allow_redirects=False)

    async def _read(self, response: aiohttp.ClientResponse) -> JsonObject:
        data = await response.read()
        try:
            document = load_object(data) if data else EMPTY
        except DecodeError:
            raise self._unexpected(response.status) from None
        if response.status in _SUCCESS:
            return document
        error = as_object(document.get("error"))
        # Any server answers with JSON of its own; a message of it could be misleading here.
        if error is None:
            raise self._unexpected(response.status)
        code, message = error.get("code"), error.get("message")
        if response.status == _UNAUTHORIZED:
            # The sandbox's own sentence is about headers.
            message = (
                f"The sandbox at {self._settings.url} needs its token, which it prints when it starts: set "
                f"{TOKEN_VARIABLE}, or give a file with --control-token-file."
            )
        raise class_of(response.status, None)(
            printable(str(message)), status=response.status, code=code if isinstance(code, str) else None
        )

    def _unexpected(self, status: int) -> ResponseError:
        return ResponseError(
            f"{self._settings.url} responded with HTTP {status}, but not as the control API of a sandbox does: check "
            f"--url or {URL_VARIABLE}."
        )

    def _to_transport_error(self, error: Exception, method: str, path: str) -> TransportError:
        kind = ConnectError if isinstance(error, aiohttp.ClientConnectorError) else TransportError
        return kind(
            f"No sandbox responds at {self._settings.url} ({describe_error(error, _SECONDS)}): start one with "
            f"veriff-async sandbox, or give its address with --url or {URL_VARIABLE}.",
            method=method,
            path=path,
        )


def find_operation(name: str) -> Operation:
    """Return the operation of a name."""
    return next(each for each in OPERATIONS if each.name == name)


def path_fields(operation: Operation) -> Iterator[Field]:
    """Yield the fields of the path."""
    # A path without one of its fields is that of another operation.
    known = {each.name: evolve(each, is_required=True) for each in operation.ids}
    for name in re.findall("{(\\w+)}", operation.path):
        yield (known.get(name) or Field(name, Text(), "", is_required=True))


async def call_operation(settings: ControlSettings, name: str, values: Mapping[str, object]) -> JsonObject:
    """Carry out an operation, and return the JSON of its result.

    Args:
        settings: Where the sandbox is.
        name: The name of the operation.
        values: Values of its fields; those of an object whose fields are known stand next to the others.

    Raises:
        ConfigurationError: An id cannot be part of a path.
        VeriffError: See `ControlClient.call`.
    """
    operation = find_operation(name)
    given = dict(values)
    path = operation.path.format(
        **{each.name: _check_segment(each.name, given.pop(each.name)) for each in path_fields(operation)}
    )
    query = {each.name: str(given.pop(each.name)) for each in operation.query if each.name in given}
    # Their fields are options of the command, next to the others.
    for each in operation.body:
        if isinstance(each.kind, Members):
            names = [below.name for below in each.kind.fields if below.name in given]
            given[each.name] = {name: given.pop(name) for name in names}
    try:
        async with ControlClient(settings) as client:
            return await client.call(operation.method, path, query=query, body=given if operation.takes_body else None)
    except NotFoundError:
        for record in ("session", "webhook"):
            if f"{{{record}_id}}" in operation.path:
                current_command().set_resume_hint(f"To list all: veriff-async sandbox {record}s")
        raise


def _check_segment(name: str, value: object) -> str:
    """Return an id, which stands in a path."""
    text = str(value)
    if is_id(text):
        return text
    msg = f"{name} is not an id: give it as the sandbox shows it, letters, digits and dashes only."
    raise ConfigurationError(msg)
