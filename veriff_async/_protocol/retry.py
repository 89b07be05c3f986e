"""Whether a request may be sent again after a try that did not succeed. Pure; how long to wait is in `backoff`.

Veriff has no idempotency key. A request whose repetition could do something twice (`Request.repeatable` is false) is
therefore repeated only if the first try certainly did nothing:

    connection never established, or a proxy refused it     nothing was sent
    429                                                     refused before any work
    503 with a valid signature of Veriff                    Veriff itself refused it

Everything else is open: a proxy that loses its upstream after the request was passed on answers 502, 503 or 504, and
each 5xx of the server itself may come after the work was done.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from veriff_async._protocol.error_classifier import is_repeated
from veriff_async.errors import ApiError, ConfigurationError, ConnectError, InvalidArgumentError

if TYPE_CHECKING:
    from veriff_async.errors import VeriffError

__all__ = ("Failure", "Verdict", "asks_to_slow_down", "judge", "leaves_unsubmitted", "may_have_acted")

_TOO_MANY: Final = 429
_UNAVAILABLE: Final = 503
_SERVER_ERROR: Final = 500
# RFC 9110, 15.4.4: the work is done, and its result is elsewhere.
_SEE_OTHER: Final = 303
# A server or proxy gave up on the request without a statement about its outcome: 408 timeout, 425 too early (RFC 8470),
# 460 of AWS load balancers and 499 of nginx for a client that went away.
_GAVE_UP: Final = frozenset({408, 425, 460, 499})
_CONFLICT: Final = 409
_WRONG_TRANSITION: Final = "1304"


class Failure(Enum):
    """How a try ended without an answer."""

    NOT_SENT = auto()
    """No byte of the request was sent."""
    LOST = auto()
    """The connection broke, or time ran out, after bytes were sent: the server may have acted."""


class Verdict(Enum):
    """What to do after a try."""

    FINAL = auto()
    """The answer is a success or a lasting refusal."""
    RETRY = auto()
    """The failure may pass, and a repetition is safe."""
    UNKNOWN = auto()
    """The server may have acted, and a repetition could do it twice."""


def judge(outcome: int | Failure, *, repeatable: bool, quota: bool = False, signed: bool = False) -> Verdict:
    """Return what to do after a try.

    Args:
        outcome: HTTP status of the answer, or how the try failed.
        repeatable: Whether doing it twice is harmless.
        quota: Whether a 429 means a quota that no retry outlives.
        signed: Whether the answer carries a valid signature of Veriff.
    """
    if outcome == _TOO_MANY:
        return Verdict.FINAL if quota else Verdict.RETRY
    if not repeatable and may_have_acted(outcome, signed=signed):
        return Verdict.UNKNOWN
    if isinstance(outcome, Failure):
        return Verdict.RETRY
    # Of the refusals that prove that nothing was done, only a 503 of Veriff's own passes in seconds.
    passes = is_repeated(outcome) if repeatable else outcome == _UNAVAILABLE
    return Verdict.RETRY if passes else Verdict.FINAL


def may_have_acted(outcome: int | Failure, *, signed: bool = False) -> bool:
    """Return whether the server may have done the work of a try that did not succeed.

    Args:
        outcome: HTTP status of the answer, or how the try failed.
        signed: Whether the answer carries a valid signature of Veriff.
    """
    if isinstance(outcome, Failure):
        return outcome is Failure.LOST
    if outcome == _UNAVAILABLE:
        return not signed
    return outcome >= _SERVER_ERROR or outcome == _SEE_OTHER or outcome in _GAVE_UP


def asks_to_slow_down(outcome: int | Failure) -> bool:
    """Return whether the answer asks the whole client, not only this call, to slow down."""
    return outcome in {_TOO_MANY, _UNAVAILABLE}


def leaves_unsubmitted(error: VeriffError) -> bool:
    """Return whether a submission that failed with an error was certainly not carried out, by any of its tries.

    Code 1304 and 409 say that the session cannot be submitted from where it is, which is so after a submission.
    """
    if error.repeated:
        return False
    if isinstance(error, ApiError):
        is_submitted = error.status == _CONFLICT or error.code == _WRONG_TRANSITION
        return not is_submitted and not may_have_acted(error.status)
    return isinstance(error, ConnectError | InvalidArgumentError | ConfigurationError)
