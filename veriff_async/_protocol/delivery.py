"""Rules of deliveries: what happens with an event after an attempt to handle it."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

from attrs import frozen

from veriff_async.models.delivery import DeliveryOutcome, DeliveryStatus

if TYPE_CHECKING:
    from collections.abc import Collection

    from veriff_async.config import DeliveryPolicy

__all__ = ("HandlerFailure", "backoff_delay", "choose_outcome", "give_back", "is_abandoned", "load_names", "pass_on")

# Characters of the error of a dead letter: paths of files may be long, and several handlers may fail.
_LONGEST_ERROR: Final = 500

# Seconds for which an event waits for a process that has a handler for it. During a deploy, processes of the earlier
# version run next to those that registered the handler; after a deploy that removed it, none does.
_WAIT_FOR_HANDLER: Final = 600.0
_PASS_ON_DELAY: Final = 2.0


@frozen
class HandlerFailure:
    """A call of a handler that failed.

    Attributes:
        handler: The name of the handler.
        error: The class of the error and where it was raised, without personal data.
        is_unrecoverable: Whether the handler asked not to be called again.
        may_have_committed: Whether the transaction of the handler may have been committed all the same.
    """

    handler: str
    error: str
    is_unrecoverable: bool = False
    may_have_committed: bool = False

    @property
    def error_class(self) -> str:
        """The class of the error alone."""
        return self.error.partition(" ")[0]


def is_abandoned(attempt: int, policy: DeliveryPolicy) -> bool:
    """Return whether an attempt is one too many, because the process died during the last one.

    An inbox counts attempts when it leases. A handler that kills its process would otherwise do so forever.
    """
    return attempt > policy.max_attempts


def choose_outcome(
    attempt: int,
    handled_by: Collection[str],
    failures: Collection[HandlerFailure],
    policy: DeliveryPolicy,
    *,
    random_value: float,
) -> DeliveryOutcome:
    """Return what happens with an event after an attempt.

    Args:
        attempt: The number of the attempt, 1 for the first.
        handled_by: The names of all handlers that have finished so far.
        failures: The calls of this attempt that failed.
        policy: How many attempts there are, and the pauses between them.
        random_value: A random number from 0 to 1.
    """
    finished = frozenset(handled_by)
    if not failures:
        return DeliveryOutcome(status=DeliveryStatus.HANDLED, handled_by=finished)
    error = "; ".join(f"{failure.handler}: {failure.error}" for failure in failures)[:_LONGEST_ERROR]
    # If one handler can still succeed, the event is handled again; the others then fail as before.
    if attempt >= policy.max_attempts or all(failure.is_unrecoverable for failure in failures):
        return DeliveryOutcome(status=DeliveryStatus.DEAD, handled_by=finished, error=error)
    delay = backoff_delay(attempt, policy.initial_backoff, policy.max_backoff, random_value=random_value)
    return DeliveryOutcome(status=DeliveryStatus.QUEUED, handled_by=finished, delay=delay, error=error)


def give_back(handled_by: Collection[str], error: str | None = None) -> DeliveryOutcome:
    """Return the outcome of an attempt that the process ends before its handlers could finish."""
    return DeliveryOutcome(status=DeliveryStatus.QUEUED, handled_by=frozenset(handled_by), error=error, counts=False)


def pass_on(age: float) -> DeliveryOutcome:
    """Return the outcome for an event that no handler of this process gets: another process may have one.

    Args:
        age: Seconds since the event was recorded.
    """
    if age < _WAIT_FOR_HANDLER:
        return DeliveryOutcome(status=DeliveryStatus.QUEUED, delay=_PASS_ON_DELAY, counts=False)
    return DeliveryOutcome(status=DeliveryStatus.HANDLED)


def backoff_delay(attempt: int, initial: float, maximum: float, *, random_value: float) -> float:
    """Return the seconds after a failed attempt: between half of a bound, which doubles each time, and all of it.

    Equal and not full jitter: an attempt directly after the previous one would mostly fail as that one did
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """
    # 2.0 ** 60 is far beyond any maximum, and does not overflow.
    bound = min(maximum, initial * 2.0 ** min(attempt - 1, 60))
    return bound * (0.5 + random_value / 2)


def load_names(text: object) -> frozenset[str]:
    """Return names of handlers that are stored as JSON; another program may have written anything."""
    with suppress(ValueError):
        found: object = json.loads(text) if isinstance(text, str) else []
        if isinstance(found, list):
            return frozenset(name for name in cast("list[object]", found) if isinstance(name, str))
    return frozenset()
