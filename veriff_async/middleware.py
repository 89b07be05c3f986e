"""Middleware: async functions around each call of a client, which measure it or add headers to its requests.

    async def add_tenant(request: CallRequest, call_next: CallNext) -> CallResponse:
        request.headers["X-Tenant"] = "t1"
        return await call_next(request)

    client = VeriffClient.from_env(middleware=[add_tenant])

A middleware surrounds a call, not an attempt: retries happen inside `call_next`. It sees neither the API key nor
signatures, and it cannot change the outcome of a call that Veriff has answered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

from attrs import field, frozen

from veriff_async._protocol.added_headers import AddedHeaders

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

__all__ = ("CallNext", "CallRequest", "CallResponse", "Middleware")


@frozen(kw_only=True)
class CallRequest:
    """One call of the client, as middleware sees it.

    Attributes:
        operation: Name of the call, for example ``"create_session"`` or ``"upload_media"``.
        method: HTTP method.
        path_template: Path with names instead of ids, for example ``"/v1/sessions/{session_id}/media"``.
        session_id: The session in the path, or ``None``.
        is_streamed: Whether the body is streamed from a file or another source, as that of an upload.
        body_size: Bytes of the body; 0 if there is none.
        headers: The headers to add to each attempt, with names in any case; empty at first. Those of the library are
            not shown. Setting one raises `ConfigurationError` if the library sets the header itself (signatures, and
            those of the body or the connection), or if name or value cannot be sent.
    """

    operation: str
    method: str
    path_template: str
    session_id: str | None
    is_streamed: bool
    body_size: int
    headers: MutableMapping[str, str] = field(factory=AddedHeaders)
    _body: bytes | None = field(default=None, repr=False, alias="body")

    def read_body(self) -> bytes | None:
        """Return the JSON body, or ``None`` if there is none or it is streamed. It may hold a person's data."""
        return self._body


@frozen(kw_only=True)
class CallResponse:
    """How a call has succeeded. A call that fails raises its error from `call_next`, with the same attributes.

    Attributes:
        status: HTTP status of the last attempt.
        headers: Headers of the response that hold no credentials, cookies or unknown data, by name in lower case.
        request_id: The id that a header of the response gives to the request, or ``None``; see
            `VeriffError.request_id`.
        session_id: The session in the path, or the one that the call has created, or ``None``.
        attempts: Number of attempts.
        elapsed: Seconds that the call took, pauses included, without the time of middleware.
        bytes_sent: Bytes of the request bodies of all attempts.
        bytes_received: Bytes of the response bodies of all attempts; those of ``stream_media`` are not counted, because
            the call returns before they arrive.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    request_id: str | None
    session_id: str | None
    attempts: int
    elapsed: float
    bytes_sent: int
    bytes_received: int
    _body: bytes | None = field(default=None, repr=False, alias="body")

    def read_body(self) -> bytes | None:
        """Return the JSON body, or ``None`` if the response is a file. It may hold tokens and a person's data."""
        return self._body


CallNext: TypeAlias = Callable[[CallRequest], Awaitable[CallResponse]]
Middleware: TypeAlias = Callable[[CallRequest, CallNext], Awaitable[CallResponse]]
