"""Whether a request may be sent again after a failed attempt, and when. Time and random values are arguments.

Veriff has no idempotency key. A request whose repetition could do something twice (`Request.repeatable` is false) is
therefore repeated only if the first attempt certainly did nothing:

    connection never established, or a proxy refused it     nothing was sent
    429                                                     refused before any work
    503 with a valid signature of Veriff                    Veriff itself refused it

Everything else is open: a proxy that loses its upstream after the request was passed on answers 502, 503 or 504, and
each 5xx of the server itself may come after the work was done.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from veriff_async._protocol.error_classifier import is_repeated
from veriff_async.errors import ApiError, ConfigurationError, ConnectError, InvalidArgumentError

if TYPE_CHECKING:
    from datetime import datetime

    from veriff_async.config import RetryPolicy, Timeouts
    from veriff_async.errors import VeriffError

__all__ = (
    "RetryDecision",
    "SendFailure",
    "asks_to_slow_down",
    "decide",
    "leaves_unsubmitted",
    "may_have_acted",
    "next_delay",
    "parse_retry_after",
    "progress_deadline",
)

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


class SendFailure(Enum):
    """How an attempt ended without a response."""

    NOT_SENT = auto()
    """No byte of the request was sent."""
    LOST = auto()
    """The connection broke, or time ran out, after bytes were sent: the server may have acted."""


class RetryDecision(Enum):
    """The next step after an attempt."""

    FINAL = auto()
    """The response is a success or a lasting refusal."""
    RETRY = auto()
    """The failure may pass, and a repetition is safe."""
    UNKNOWN = auto()
    """The server may have acted, and a repetition could do it twice."""


def decide(outcome: int | SendFailure, *, repeatable: bool, quota: bool = False, signed: bool = False) -> RetryDecision:
    """Return the next step after an attempt.

    Args:
        outcome: HTTP status of the response, or how the attempt failed.
        repeatable: Whether doing it twice is harmless.
        quota: Whether a 429 means a quota that no retry outlives.
        signed: Whether the response carries a valid signature of Veriff.
    """
    # Veriff refuses with 429 before any work, so every request may be repeated after it.
    if outcome == _TOO_MANY:
        return RetryDecision.FINAL if quota else RetryDecision.RETRY
    if not repeatable and may_have_acted(outcome, signed=signed):
        return RetryDecision.UNKNOWN
    # Nothing was sent, or the request may be repeated.
    if isinstance(outcome, SendFailure):
        return RetryDecision.RETRY
    # Of the refusals that prove that nothing was done, only a 503 that Veriff signed is expected to pass in seconds.
    passes = is_repeated(outcome) if repeatable else outcome == _UNAVAILABLE
    return RetryDecision.RETRY if passes else RetryDecision.FINAL


def may_have_acted(outcome: int | SendFailure, *, signed: bool = False) -> bool:
    """Return whether the server may have done the work of an attempt that did not succeed."""
    if isinstance(outcome, SendFailure):
        return outcome is SendFailure.LOST
    if outcome == _UNAVAILABLE:
        return not signed
    return outcome >= _SERVER_ERROR or outcome == _SEE_OTHER or outcome in _GAVE_UP


def asks_to_slow_down(outcome: int | SendFailure) -> bool:
    """Return whether the response asks the whole client, not only this call, to slow down."""
    return outcome in {_TOO_MANY, _UNAVAILABLE}


def leaves_unsubmitted(error: VeriffError) -> bool:
    """Return whether a submission that failed with an error was certainly not carried out, by any of its attempts.

    Code 1304 and 409 say that the session cannot be submitted from where it is, which is so after a submission.
    """
    # The error is that of the last attempt; an earlier one may have submitted the session.
    if error.repeated:
        return False
    if isinstance(error, ApiError):
        is_submitted = error.status == _CONFLICT or error.code == _WRONG_TRANSITION
        return not is_submitted and not may_have_acted(error.status)
    return isinstance(error, ConnectError | InvalidArgumentError | ConfigurationError)


def next_delay(
    policy: RetryPolicy, *, attempts: int, elapsed: float, retry_after: float | None, random_value: float
) -> float | None:
    """Return the seconds to wait before the next attempt, or ``None`` when the budget is spent.

    Without ``Retry-After`` the wait has full jitter. With it, the wait is never shorter than requested, and never
    shorter than half the bound of this attempt, because servers send zero and dates that are past on arrival. Jitter of
    a tenth, or of that half, separates clients that were refused at the same time.

    Args:
        policy: The budget.
        attempts: Tries made so far, at least 1.
        elapsed: Seconds since the call began.
        retry_after: The seconds of ``Retry-After``, if there was one.
        random_value: A random number from 0 to 1.
    """
    if attempts >= policy.max_attempts or (retry_after is not None and retry_after > policy.max_retry_after):
        return None
    # 2.0 ** 60 is far beyond any `max_backoff`, and does not overflow.
    bound = min(policy.max_backoff, policy.initial_backoff * 2.0 ** min(attempts - 1, 60))
    left = policy.max_elapsed - elapsed
    if retry_after is None:
        delay = random_value * bound
        return delay if delay <= left else None
    least, jitter = max(retry_after, bound / 2), max(retry_after / 10, bound / 2)
    # The least wait decides whether there is another try, so that jitter never costs one.
    return min(least + random_value * jitter, left) if least <= left else None


def parse_retry_after(header: str | None, date: str | None, now: datetime) -> float | None:
    """Read ``Retry-After``: seconds, or an HTTP date (RFC 9110, section 10.2.3).

    A date is read against the ``Date`` of the same response, since the clocks of both sides may differ.

    Args:
        header: Its value, if there is one.
        date: The value of ``Date`` of the same response, if there is one.
        now: The time here, for a response without a readable ``Date``.

    Returns:
        Seconds, never negative, or ``None`` when the header is missing or unreadable.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    moment = _moment(text)
    return None if moment is None else max(0.0, (moment - (_moment(date) or now)).total_seconds())


def _moment(text: str | None) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text or "")
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return None if moment.tzinfo is None else moment


def progress_deadline(timeouts: Timeouts, *, started: float, now: float, moved: int) -> float:
    """Return the time by which the next piece must arrive.

    A body must not pause for longer than `Timeouts.idle`, and its average rate must not fall below
    `Timeouts.min_bytes_per_second`.

    Args:
        timeouts: The limits.
        started: The time of the first piece.
        now: The time of the last piece.
        moved: Bytes so far.
    """
    return min(now + timeouts.idle, started + timeouts.idle + moved / timeouts.min_bytes_per_second)
