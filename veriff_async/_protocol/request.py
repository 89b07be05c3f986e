"""A signed request: which text is signed, under which headers, for which host.

The raw body is signed where there is one, else the id in the path, or the whole path where it has no id; a query never
is (https://devdocs.veriff.com/apidocs/veriff-public-api-guides). The feedback API has headers of its own,
and signs the path before the body (https://devdocs.veriff.com/apidocs/report-fraud).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast

from attrs import field, frozen

from veriff_async._protocol import headers
from veriff_async._protocol.json.decode import dump
from veriff_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from veriff_async._protocol.base_url import Host
    from veriff_async.credentials import Credentials

__all__ = ("Request", "feedback", "signed_id", "streamed", "with_body", "without_nulls")

Method: TypeAlias = Literal["GET", "POST", "PATCH", "DELETE"]

_JSON: Final = {"Content-Type": "application/json"}


@frozen(kw_only=True)
class Request:
    """One signed request, apart from a body that is streamed.

    Attributes:
        method: HTTP method.
        path: Path below the host, ``/v1`` included, with its query.
        headers: Veriff's headers.
        body: The body, or ``None`` when there is none or it is streamed.
        repeatable: Whether sending it twice does no harm.
        creates_session: Whether a session is created by it.
        quota: Whether a 429 to it means a quota of hours, which no retry outlives and no other call should wait for.
        host: Which of Veriff's hosts it is for.
        credentials: Who signed it; the answer is signed with the same secret.
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


def signed_id(credentials: Credentials, path: str, identity: str, *, method: Method = "GET") -> Request:
    """Build a request without a body; the id in its path is signed."""
    signed = _headers(credentials, credentials.sign(identity.encode()))
    return Request(method=method, path=path, headers=signed, credentials=credentials)


def with_body(  # noqa: PLR0913  what a request is made of
    credentials: Credentials,
    method: Method,
    path: str,
    body: Mapping[str, object],
    *,
    repeatable: bool = True,
    creates_session: bool = False,
    host: Host = "api",
) -> Request:
    """Build a request with a body, which is signed."""
    raw = dump(body)
    signed = {**_headers(credentials, credentials.sign(raw)), **_JSON}
    if host == "sync":
        # Required there, beside the usual pair.
        signed[headers.API_KEY] = credentials.api_key
    return Request(
        method=method,
        path=path,
        headers=signed,
        body=raw,
        repeatable=repeatable and not creates_session,
        creates_session=creates_session,
        host=host,
        credentials=credentials,
    )


def streamed(credentials: Credentials, path: str, signature: str) -> Request:
    """Build a request whose body is streamed and was signed before."""
    signed = {**_headers(credentials, signature), **_JSON}
    return Request(method="POST", path=path, headers=signed, credentials=credentials)


def feedback(
    credentials: Credentials, path: str, body: Mapping[str, object] | None = None, *, repeatable: bool = True
) -> Request:
    """Build a request to the feedback API: the path is signed, or path, newline and body."""
    raw = None if body is None else dump(body)
    text = path.encode() if raw is None else path.encode() + b"\n" + raw
    signed = {headers.VRF_AUTH_CLIENT: credentials.api_key, headers.VRF_HMAC_SIGNATURE: credentials.sign(text)}
    if raw is None:
        return Request(method="GET", path=path, headers=signed, host="feedback", credentials=credentials)
    signed |= _JSON
    return Request(
        method="POST",
        path=path,
        headers=signed,
        body=raw,
        repeatable=repeatable,
        host="feedback",
        credentials=credentials,
    )


def without_nulls(members: Mapping[str, object], name: str = "extra") -> dict[str, object]:
    """Drop null members: the API was seen to treat a null property unlike an absent one.

    Raises:
        InvalidArgumentError: It holds what JSON cannot; the message says `name`.
    """
    try:
        return {_key(key, name): _sendable(value, name) for key, value in members.items() if value is not None}
    except RecursionError:
        msg = f"{name} cannot be sent: it is nested too deeply, or contains itself."
    raise InvalidArgumentError(msg)


def _headers(credentials: Credentials, signature: str) -> dict[str, str]:
    signed = {headers.AUTH_CLIENT: credentials.api_key, headers.HMAC_SIGNATURE: signature}
    if credentials.integration_id is not None:
        signed[headers.INTEGRATION_ID] = credentials.integration_id
    return signed


def _sendable(value: object, name: str) -> object:
    if isinstance(value, Mapping):
        return without_nulls(cast("Mapping[str, object]", value), name)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_sendable(item, name) for item in cast("Sequence[object]", value)]
    if value is None or isinstance(value, str) or (isinstance(value, int | float) and _is_finite(value)):
        return value
    msg = f"{name} cannot be sent: give what JSON can hold, texts, finite numbers, lists and mappings."
    raise InvalidArgumentError(msg)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an int that no float holds, so no parser of JSON in another language either
        return False


def _key(key: object, name: str) -> str:
    if isinstance(key, str):
        return key
    msg = f"{name} cannot be sent: every key must be a text."
    raise InvalidArgumentError(msg)
