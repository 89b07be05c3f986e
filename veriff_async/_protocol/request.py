"""A call of the API, and the signed request that it becomes: which text is signed, under which headers, for which host.

The raw body is signed if there is one. Otherwise the id in the path is signed, or the whole path if it has no id; the
query never is (https://devdocs.veriff.com/apidocs/veriff-public-api-guides). The feedback API has its own headers, and
signs the path before the body (https://devdocs.veriff.com/apidocs/report-fraud).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Generic, Literal, TypeAlias, TypeVar, cast

from attrs import field, frozen

from veriff_async._protocol import headers
from veriff_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable

    from veriff_async._protocol.base_url import Host
    from veriff_async._protocol.response import Response
    from veriff_async.credentials import Credentials

__all__ = ("Call", "Method", "Request", "without_nulls")

_Result = TypeVar("_Result")

Method: TypeAlias = Literal["GET", "POST", "PATCH", "DELETE"]


@frozen(kw_only=True)
class Request:
    """One signed request, apart from a body that is streamed.

    Attributes:
        method: HTTP method.
        path: Path below the host, including ``/v1`` and the query.
        headers: Veriff's headers.
        body: The body, or ``None`` if there is none or it is streamed.
        repeatable: Whether sending it twice does no harm.
        creates_session: Whether it creates a session.
        quota: Whether a 429 to it means a quota of hours: no retry outlives it, and no other call should wait for it.
        host: The host of Veriff's that it is for.
        credentials: The credentials that signed it; Veriff signs the response with the same secret.
    """

    method: Method
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    repeatable: bool = True
    creates_session: bool = False
    quota: bool = False
    host: Host = "api"
    credentials: Credentials = field(repr=False)


@frozen(kw_only=True)
class Call(Generic[_Result]):
    """One call of an endpoint: a request that is not signed yet, and the function that parses its response.

    Attributes:
        method: See `Request`, also for `path`, `body`, `repeatable`, `creates_session`, `quota` and `host`.
        parse: Returns the result of a response, or raises: `ApiError` if Veriff refused, `ResponseError` or
            `OutcomeUnknownError` if a success cannot be parsed.
        signed_id: The id that is signed if the request has no body.
        is_streamed: Whether the body is streamed and was signed before.
        accept: The media type to accept instead of JSON.
    """

    method: Method
    path: str
    parse: Callable[[Response], _Result] = field(repr=False)
    signed_id: str = ""
    body: bytes | None = field(default=None, repr=False)
    is_streamed: bool = False
    accept: str | None = None
    repeatable: bool = True
    creates_session: bool = False
    quota: bool = False
    host: Host = "api"

    def sign(self, credentials: Credentials, *, signature: str | None = None) -> Request:
        """Return the signed request.

        Args:
            credentials: The credentials that sign it.
            signature: The signature of a streamed body.
        """
        if signature is None:
            signature = credentials.sign(self._signed_text())
        if self.host == "feedback":
            signed = {headers.VRF_AUTH_CLIENT: credentials.api_key, headers.VRF_HMAC_SIGNATURE: signature}
        else:
            signed = {headers.AUTH_CLIENT: credentials.api_key, headers.HMAC_SIGNATURE: signature}
            if credentials.integration_id is not None:
                signed[headers.INTEGRATION_ID] = credentials.integration_id
        if self.host == "sync":
            # Documented as required there, in addition to the usual pair.
            signed[headers.API_KEY] = credentials.api_key
        if self.body is not None or self.is_streamed:
            signed["Content-Type"] = "application/json"
        if self.accept is not None:
            signed["Accept"] = self.accept
        return Request(
            method=self.method,
            path=self.path,
            headers=signed,
            body=self.body,
            repeatable=self.repeatable,
            creates_session=self.creates_session,
            quota=self.quota,
            host=self.host,
            credentials=credentials,
        )

    def _signed_text(self) -> bytes:
        if self.host == "feedback":
            return self.path.encode() if self.body is None else self.path.encode() + b"\n" + self.body
        return self.signed_id.encode() if self.body is None else self.body


def without_nulls(members: Mapping[str, object], name: str = "extra") -> dict[str, object]:
    """Drop null members: the API was seen to treat a null property unlike an absent one.

    Raises:
        InvalidArgumentError: A member holds a value that JSON cannot; the message says `name`.
    """
    try:
        return {_check_key(key, name): _to_json(value, name) for key, value in members.items() if value is not None}
    except RecursionError:
        msg = f"{name} cannot be sent: it is nested too deeply, or contains itself."
    raise InvalidArgumentError(msg)


def _to_json(value: object, name: str) -> object:
    if isinstance(value, Mapping):
        return without_nulls(cast("Mapping[str, object]", value), name)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_to_json(item, name) for item in cast("Sequence[object]", value)]
    if value is None or isinstance(value, str) or (isinstance(value, int | float) and _is_finite(value)):
        return value
    msg = f"{name} cannot be sent: give values that JSON can hold, which are texts, finite numbers, lists and mappings."
    raise InvalidArgumentError(msg)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an int that no float holds, so no JSON parser in another language either
        return False


def _check_key(key: object, name: str) -> str:
    if isinstance(key, str):
        return key
    msg = f"{name} cannot be sent: every key must be a text."
    raise InvalidArgumentError(msg)
