"""Fault injection: requests that fail as a test has asked. Pure."""

from __future__ import annotations

from enum import Enum, auto
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, Self

from attrs import define, field, frozen
from attrs.validators import optional

from veriff_async._protocol.arguments import check_instance
from veriff_async.errors import InvalidArgumentError
from veriff_async.sandbox._arguments import (
    LONGEST,
    check_header,
    check_mapping,
    check_number,
    check_text,
    flag,
    number,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attrs import Attribute

__all__ = ("Fault", "FaultKind", "Faults")


_REMEDY: Final = "call a method of Fault, for example Fault.drop()"


class FaultKind(Enum):
    """Ways in which a request can fail."""

    STATUS = auto()
    DROP = auto()
    HANG = auto()
    LOSE_RESPONSE = auto()
    TRUNCATE_RESPONSE = auto()
    STALL_RESPONSE = auto()
    CORRUPT_RESPONSE = auto()
    FORGE_SIGNATURE = auto()


def _check_kind(_fault: object, _attribute: Attribute[FaultKind], value: object) -> None:
    check_instance("kind", value, FaultKind, remedy=_REMEDY, error=InvalidArgumentError)


def _check_headers(_fault: object, _attribute: object, value: object) -> None:
    for name, text in check_mapping("headers", value, remedy="pass header names and their values").items():
        check_header(name, text)


def _check_text(_fault: object, attribute: Attribute[str], value: object) -> None:
    check_text(attribute.name, value)


_OPTIONAL_TEXT: Final = optional(_check_text)


@frozen(kw_only=True)
class Fault:
    """One way in which a request fails; made by the class methods, used with `Sandbox.inject`.

    Raises:
        InvalidArgumentError: A value has the wrong type, or cannot be part of a response.
    """

    kind: FaultKind = field(validator=_check_kind)
    http_status: int = field(default=500, validator=number(lowest=200, highest=599, whole=True))
    headers: Mapping[str, str] = field(factory=dict[str, str], validator=_check_headers, hash=False)
    code: str | None = field(default=None, validator=_OPTIONAL_TEXT)
    message: str = field(default="Injected fault", validator=_check_text)
    before_body: bool = field(default=False, validator=flag)
    after: int = field(default=0, validator=number(whole=True))

    @classmethod
    def status(
        cls,
        status: int,
        *,
        retry_after: float | str | None = None,
        code: str | None = None,
        message: str = "Injected fault",
        before_body: bool = False,
    ) -> Self:
        """Respond with an HTTP status, without carrying out the request.

        Args:
            status: The HTTP status.
            retry_after: Value of a ``Retry-After`` header: seconds, or an HTTP date.
            code: Veriff's code in the body.
            message: Veriff's message in the body.
            before_body: Whether to respond before the body of the request was read.

        Raises:
            InvalidArgumentError: The status is not from 200 to 599, `retry_after` is not finite, or a text has line
                ends.
        """
        if retry_after is not None and not isinstance(retry_after, str):
            check_number("retry_after", retry_after, lowest=-LONGEST)
        headers = {} if retry_after is None else {"Retry-After": f"{retry_after}"}
        return cls(
            kind=FaultKind.STATUS,
            http_status=status,
            headers=headers,
            code=code,
            message=message,
            before_body=before_body,
        )

    @classmethod
    def drop(cls, *, after: int = 0) -> Self:
        """Close the connection after so many bytes of the request's body, without a response."""
        return cls(kind=FaultKind.DROP, after=after)

    @classmethod
    def hang(cls, *, after: int = 0) -> Self:
        """Stop reading after so many bytes of the request's body, and never respond."""
        return cls(kind=FaultKind.HANG, after=after)

    @classmethod
    def lose_response(cls) -> Self:
        """Carry out the request, and close the connection instead of responding."""
        return cls(kind=FaultKind.LOSE_RESPONSE)

    @classmethod
    def truncate_response(cls, *, after: int = 0) -> Self:
        """Carry out the request, and close the connection after so many bytes of the response's body."""
        return cls(kind=FaultKind.TRUNCATE_RESPONSE, after=after)

    @classmethod
    def stall_response(cls, *, after: int = 0) -> Self:
        """Carry out the request, and send nothing more after so many bytes of the response's body."""
        return cls(kind=FaultKind.STALL_RESPONSE, after=after)

    @classmethod
    def corrupt_response(cls, *, offset: int = 0) -> Self:
        """Carry out the request, and change one byte of the response's body after it was signed."""
        return cls(kind=FaultKind.CORRUPT_RESPONSE, after=offset)

    @classmethod
    def forge_signature(cls) -> Self:
        """Carry out the request, and sign the response with a secret that the client does not have."""
        return cls(kind=FaultKind.FORGE_SIGNATURE)


@define
class _PendingFault:
    fault: Fault
    method: str | None
    path: str | None
    times: int


class Faults:
    """The faults that are yet to happen, in the order in which they were injected."""

    def __init__(self) -> None:
        """Start without faults."""
        self._pending: list[_PendingFault] = []

    def inject(self, fault: Fault, *, method: str | None, path: str | None, times: int) -> None:
        """Let the next requests that match fail.

        Raises:
            InvalidArgumentError: `times` is below 1, or a value is of another type.
        """
        check_instance("fault", fault, Fault, remedy=_REMEDY, error=InvalidArgumentError)
        check_number("times", times, lowest=1, whole=True)
        for name, value in (("method", method), ("path", path)):
            if value is not None:
                check_text(name, value)
        self._pending.append(_PendingFault(fault, None if method is None else method.upper(), path, times))

    def clear(self) -> None:
        """Remove all faults."""
        self._pending.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """Return the first fault that matches a request, and count it."""
        # The first match wins, so faults for the same requests happen in the order of their injection.
        for pending in self._pending:
            if pending.method in {None, method} and (pending.path is None or fnmatchcase(path, pending.path)):
                pending.times -= 1
                if pending.times == 0:
                    self._pending.remove(pending)
                return pending.fault
        return None
