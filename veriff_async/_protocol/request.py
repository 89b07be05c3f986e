"""A signed request: its parts, and checks of the members that a caller adds to its body."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from attrs import field

from veriff_async._records import record
from veriff_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from veriff_async._protocol.base_url import Host
    from veriff_async.credentials import Credentials

__all__ = ("Method", "Request", "without_nulls")

Method: TypeAlias = Literal["GET", "POST", "PATCH", "DELETE"]


@record(kw_only=True)
class Request:
    """One signed request, apart from a body that is streamed.

    Attributes:
        operation: Name of the function in `veriff_async._protocol.endpoints` that describes the call.
        method: HTTP method.
        path_template: The path with the names of its ids instead of the ids, without the query. Logs, traces and
            metrics have this one, because an id in a path would make each path unique.
        path: Path below the host, including ``/v1`` and the query.
        session_id: The session in the path, if it names one.
        headers: Veriff's headers.
        body: The body, or ``None`` if there is none or it is streamed.
        repeatable: Whether sending it twice does no harm.
        creates_session: Whether it creates a session.
        quota: Whether a 429 to it means a quota of hours: no retry outlives it, and no other call should wait for it.
        host: The host of Veriff's that it is for.
        credentials: The credentials that signed it; Veriff signs the response with the same secret.
    """

    operation: str
    method: Method
    path_template: str
    path: str
    session_id: str | None = None
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    repeatable: bool = True
    creates_session: bool = False
    quota: bool = False
    host: Host = "api"
    credentials: Credentials = field(repr=False)


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
