"""Checks of the parts of an HTTP message that a program passes: headers, body and credentials.

A wrong type is a mistake in the caller's code, so the error names the type and the remedy. No message contains a value
of a header or body.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Final, cast

from veriff_async._protocol.arguments import type_name
from veriff_async.credentials import Credentials
from veriff_async.errors import ConfigurationError, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from typing_extensions import Buffer

__all__ = (
    "as_bytes",
    "check_credentials",
    "header_items",
    "header_text",
)

_HEADERS: Final = "headers must be a mapping of names to values, both str"


def as_bytes(body: object, name: str = "body") -> bytes:
    """Return a body as bytes.

    Args:
        body: The argument: bytes, bytearray or memoryview.
        name: The name of the argument in the error.

    Raises:
        InvalidArgumentError: It is of another type; the message names the likely mistake.
    """
    if isinstance(body, bytes):
        return body
    copied = _copy(body)
    if copied is not None:
        return copied
    msg = f"{name} must be bytes, not {type_name(body)}: {_body_remedy(body)}."
    raise InvalidArgumentError(msg)


def _copy(body: object) -> bytes | None:
    if not isinstance(body, bytearray | memoryview):
        return None
    try:
        # A copy, because the caller may change a bytearray while it is verified.
        return bytes(cast("Buffer", body))
    except ValueError:  # the view was released
        return None


def header_items(headers: object, names: Container[str]) -> list[tuple[str, object]]:
    """Return the headers that a caller needs, each with its name in lower case, in their order.

    Any object with ``items()`` is accepted: frameworks have their own classes, which are not always mappings. Values
    may have any type; `header_text` checks them.

    Raises:
        InvalidArgumentError: The value is not a mapping, or a name is not a str; the message names the likely mistake.
    """
    # A class such as `dict` has `items` too, but without an instance to call it on.
    pairs: Callable[[], Iterable[tuple[str, object]]] | None
    pairs = None if isinstance(headers, type) else getattr(headers, "items", None)
    if not callable(pairs):
        msg = f"{_HEADERS}, not {type_name(headers)}: {_headers_remedy(headers)}."
        raise InvalidArgumentError(msg)
    lower = str.lower  # not the method of a name, which would accept bytes
    try:
        return [(lowered, value) for name, value in pairs() if (lowered := lower(name)) in names]
    except (TypeError, ValueError):
        problem = InvalidArgumentError(_describe_pairs(headers, pairs))
    raise problem


def _describe_pairs(headers: object, pairs: Callable[[], Iterable[object]]) -> str:
    try:
        for pair in pairs():
            name, _ = cast("tuple[object, object]", pair)
            if not isinstance(name, str):
                remedy = (
                    "decode names and values as latin-1" if isinstance(name, bytes) else "pass the request's headers"
                )
                return f"{_HEADERS}, but a name is of type {type_name(name)}: {remedy}."
    except (TypeError, ValueError):
        pass
    return f"{_HEADERS}, but items() of {type_name(headers)} returns no pairs: pass the headers of the request."


def header_text(name: str, value: object) -> str:
    """Return the value of a relevant header.

    Raises:
        InvalidArgumentError: The value is not a str; the message names the likely mistake.
    """
    if isinstance(value, str):
        return value
    kind = type_name(value)
    if isinstance(value, list | tuple):
        remedy = "pass `headers` of the event, not `multiValueHeaders`, or the first of the values"
    elif isinstance(value, bytes):
        remedy = "decode names and values as latin-1"
    else:
        remedy = "leave out headers that have no value"
    msg = f"{_HEADERS}, but the value of {name} is of type {kind}: {remedy}."
    raise InvalidArgumentError(msg)


def check_credentials(credentials: object) -> Credentials:
    """Return credentials.

    Raises:
        ConfigurationError: They are of another type.
    """
    if isinstance(credentials, Credentials):
        return credentials
    msg = (
        f"credentials must be a Credentials instance, not {type_name(credentials)}: "
        "pass Credentials(api_key, shared_secret) or Credentials.from_env()."
    )
    raise ConfigurationError(msg)


def _body_remedy(body: object) -> str:
    raw = "pass the raw bytes of the request body"
    if isinstance(body, str):
        return f"{raw}, as they were before they were decoded; a body in base64 has to be decoded first"
    if isinstance(body, Mapping | list):
        return f"{raw}, as they were before they were parsed"
    if isinstance(body, Coroutine):
        body.close()  # otherwise Python warns that it was never awaited
        return f"await it, and {raw}"
    if callable(body):
        return f"call it, and {raw}"
    if hasattr(body, "read") or hasattr(body, "__aiter__") or hasattr(body, "__iter__"):
        return f"read it to its end, and {raw}"
    return raw


def _headers_remedy(headers: object) -> str:
    if isinstance(headers, list | tuple):
        return "make a dict of the pairs, with names and values decoded as latin-1"
    if isinstance(headers, bytes | str):
        return "pass the request's headers, not their text"
    return "pass the headers of the request"
