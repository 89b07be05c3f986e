"""Fault injection: requests that fail as a test has asked. Pure."""

from __future__ import annotations

from enum import Enum, auto
from fnmatch import fnmatchcase
from itertools import count
from typing import TYPE_CHECKING, Final, Self

from attrs import define, evolve, field, frozen
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
from veriff_async.sandbox._errors import UnknownRecordError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from attrs import Attribute

__all__ = (
    "Fault",
    "FaultKind",
    "Faults",
    "TokenBucket",
    "WaitingFault",
)


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

    @property
    def name(self) -> str:
        """The kind of fault in words, for example ``"drop"`` or ``"status 503"``."""
        words = self.kind.name.lower().replace("_", " ")
        return f"{words} {self.http_status}" if self.kind is FaultKind.STATUS else words

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


@frozen(kw_only=True)
class WaitingFault:
    """An injected fault that has not happened as often as asked.

    Attributes:
        id: Its id, for `Sandbox.remove_fault`.
        fault: How requests fail.
        method: The method of requests that fail; ``None`` for any.
        path: The pattern of their paths; ``None`` for any.
        times: Number of requests that are yet to fail.
    """

    id: int
    fault: Fault
    method: str | None
    path: str | None
    times: int


class Faults:
    """The faults that are yet to happen, in the order in which they were injected."""

    def __init__(self) -> None:
        """Start without faults."""
        self._waiting: dict[int, WaitingFault] = {}
        # Never used again, so that a late removal cannot hit another fault.
        self._ids = count(1)

    @property
    def waiting(self) -> tuple[WaitingFault, ...]:
        """All of them, in the order of their injection."""
        return tuple(self._waiting.values())

    def inject(self, fault: Fault, *, method: str | None, path: str | None, times: int) -> int:
        """Let the next requests that match fail, and return the id of the fault."""
        check_instance("fault", fault, Fault, remedy=_REMEDY, error=InvalidArgumentError)
        check_number("times", times, lowest=1, whole=True)
        for name, value in (("method", method), ("path", path)):
            if value is not None:
                check_text(name, value)
        method = None if method is None else method.upper()
        waiting = WaitingFault(id=next(self._ids), fault=fault, method=method, path=path, times=times)
        self._waiting[waiting.id] = waiting
        return waiting.id

    def restore(self, faults: Iterable[WaitingFault]) -> None:
        """Replace the faults."""
        self._waiting = {fault.id: fault for fault in faults}
        self._ids = count(max(self._waiting, default=0) + 1)

    def remove(self, fault_id: int) -> None:
        """Remove one fault."""
        check_number("fault_id", fault_id, whole=True)
        if self._waiting.pop(fault_id, None) is None:
            msg = "The sandbox has no such fault: it has happened already, or was removed."
            raise UnknownRecordError(msg)

    def clear(self) -> int:
        """Remove all faults, and return their number."""
        count = len(self._waiting)
        self._waiting.clear()
        return count

    def take(self, method: str, path: str) -> Fault | None:
        """Return the first fault that matches a request, and count it."""
        # The first match wins, so faults for the same requests happen in the order of their injection.
        for waiting in self._waiting.values():
            if waiting.method in {None, method} and (waiting.path is None or fnmatchcase(path, waiting.path)):
                if waiting.times == 1:
                    del self._waiting[waiting.id]
                else:
                    self._waiting[waiting.id] = evolve(waiting, times=waiting.times - 1)
                return waiting.fault
        return None


# Seconds. The bucket has refilled by then.
_RETRY_AFTER: Final = 1


@define
class TokenBucket:
    """A token bucket that holds the requests of one second.

    Attributes:
        rate: Requests a second; ``None`` disables the limit.
        retry_after: Seconds in the ``Retry-After`` of a 429.
    """

    rate: float | None
    retry_after: float = _RETRY_AFTER
    _tokens: float = 0.0
    _updated_at: float | None = None

    def take(self, now: float) -> Fault | None:
        """Take a token, at a time in seconds; return a 429 if there is none."""
        if self.rate is None:
            return None
        # Rates below one a second need a bucket of one token, or no request would ever pass.
        capacity = max(1.0, self.rate)
        refill = capacity if self._updated_at is None else max(0.0, now - self._updated_at) * self.rate
        self._updated_at = now
        self._tokens = min(capacity, self._tokens + refill)
        if self._tokens < 1:
            return Fault.status(429, retry_after=self.retry_after, message="Too many requests")
        self._tokens -= 1
        return None
