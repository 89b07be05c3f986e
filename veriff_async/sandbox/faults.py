"""Trouble on demand: what a test wants to go wrong, and when."""

from __future__ import annotations

from enum import Enum, auto
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, Self

from attrs import define, frozen

from veriff_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("Fault", "FaultKind", "Faults")


_STATUSES: Final = range(200, 600)


class FaultKind(Enum):
    """Ways in which a request can go wrong."""

    STATUS = auto()
    DROP = auto()
    HANG = auto()
    LOSE_ANSWER = auto()
    CUT_ANSWER = auto()
    STALL_ANSWER = auto()
    CORRUPT = auto()
    FORGE = auto()


@frozen(kw_only=True)
class Fault:
    """One way in which a request goes wrong; made by the class methods, used with `Sandbox.inject`."""

    kind: FaultKind
    http_status: int = 500
    headers: Mapping[str, str] = {}
    code: str | None = None
    message: str = "Injected fault"
    before_body: bool = False
    after: int = 0

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
        """Answer with an HTTP status, without doing what was asked.

        Args:
            status: The HTTP status.
            retry_after: Value of a ``Retry-After`` header: seconds, or an HTTP date.
            code: Veriff's code in the body.
            message: Veriff's message in the body.
            before_body: Whether to answer before the body of the request was read.

        Raises:
            ConfigurationError: There is no such HTTP status for an answer.
        """
        if status not in _STATUSES:
            msg = f"{status} is no status of an answer: give one from 200 to 599."
            raise ConfigurationError(msg)
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
        """Break the connection off after so many bytes of the body, without an answer."""
        return cls(kind=FaultKind.DROP, after=_checked(after))

    @classmethod
    def hang(cls, *, after: int = 0) -> Self:
        """Stop reading after so many bytes of the body, and never answer."""
        return cls(kind=FaultKind.HANG, after=_checked(after))

    @classmethod
    def lose_answer(cls) -> Self:
        """Do what was asked, and break the connection off instead of answering."""
        return cls(kind=FaultKind.LOSE_ANSWER)

    @classmethod
    def cut_answer(cls, *, after: int = 0) -> Self:
        """Do what was asked, and break the connection off after so many bytes of the answer's body."""
        return cls(kind=FaultKind.CUT_ANSWER, after=_checked(after))

    @classmethod
    def stall_answer(cls, *, after: int = 0) -> Self:
        """Do what was asked, and send nothing more after so many bytes of the answer's body."""
        return cls(kind=FaultKind.STALL_ANSWER, after=_checked(after))

    @classmethod
    def corrupt(cls, *, at: int = 0) -> Self:
        """Do what was asked, and change one byte of the answer's body after it was signed."""
        return cls(kind=FaultKind.CORRUPT, after=_checked(at))

    @classmethod
    def forge(cls) -> Self:
        """Do what was asked, and sign the answer with a secret that nobody has."""
        return cls(kind=FaultKind.FORGE)


def _checked(after: int) -> int:
    if after < 0:
        msg = f"after is {after}: give zero or more bytes."
        raise ConfigurationError(msg)
    return after


@define
class _Armed:
    fault: Fault
    method: str | None
    path: str | None
    times: int


class Faults:
    """The faults that are yet to happen, in the order in which they were asked for."""

    def __init__(self) -> None:
        """Begin without any."""
        self._armed: list[_Armed] = []

    def arm(self, fault: Fault, *, method: str | None, path: str | None, times: int) -> None:
        """Let a fault happen to the next requests that match.

        Raises:
            ConfigurationError: `times` is below 1.
        """
        if times < 1:
            msg = "A fault happens once or more often: give times=1 or more."
            raise ConfigurationError(msg)
        self._armed.append(_Armed(fault, None if method is None else method.upper(), path, times))

    def take(self, method: str, path: str) -> Fault | None:
        """Return what happens to a request, and count it off."""
        for armed in self._armed:
            if armed.method in {None, method} and (armed.path is None or fnmatchcase(path, armed.path)):
                armed.times -= 1
                if armed.times == 0:
                    self._armed.remove(armed)
                return armed.fault
        return None
