"""A discrete-event model of coroutines that wait for decisions: who is polled when, and who learns of a decision how.

The model follows `veriff_async/_waiting/poller.py`: a heap of due polls, one rate and a limited number of concurrent
polls for the client, and webhooks that end a wait without a poll. The rules themselves (`poll_delay`, `next_slot`) are
the library's functions. `tests/benchmarks/test_simulate.py` compares the model with the real poller.

The model leaves out: failed polls, resubmissions, timeouts of waits, and webhooks that announce a decision without
containing it. Everything is a pure function of its arguments; chance comes from the given `random.Random`.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Final

from attrs import Factory, define, frozen

from veriff_async._protocol.poll_interval import MAX_CONCURRENT_POLLS, next_slot, poll_delay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from random import Random

    from veriff_async import PollPolicy

__all__ = (
    "Cases",
    "Outcome",
    "Wait",
    "Webhooks",
    "open_waits",
    "run_alone",
    "simulate",
    "start_waits",
)

_NEVER: Final = math.inf

# Veriff sets a session without a decision to `expired` or `abandoned` after seven days, and sends a webhook for that.
_EXPIRY: Final = 7 * 86_400.0

# Sessions that `open_waits` draws durations from; each may be chosen more than once, with another age.
_MOST_DRAWN: Final = 200_000


@frozen(kw_only=True)
class Cases:
    """How long sessions take from the start of the wait to the decision: log-normal, with a share that never ends.

    Attributes:
        name: The name in tables.
        median: Median of the seconds until a decision.
        spread: Standard deviation of the logarithm; above 1, a few sessions take very long.
        unfinished: Share of the sessions that their user leaves unfinished; Veriff ends them after seven days.
    """

    name: str
    median: float
    spread: float
    unfinished: float = 0.0

    def draw(self, chance: Random) -> float:
        """Return the seconds until the decision on a new session."""
        if chance.random() < self.unfinished:
            return _EXPIRY
        return min(self.median * math.exp(chance.gauss(0.0, self.spread)), _EXPIRY)


@frozen(kw_only=True)
class Webhooks:
    """When the webhook of a decision is recorded.

    Attributes:
        loss: Probability that an attempt to deliver it fails; each attempt is independent. At 1 none arrives.
        delay: Seconds from the decision until an attempt that succeeds is recorded.
        repeat: Seconds between two attempts of Veriff.
    """

    loss: float
    delay: float = 0.5
    repeat: float = 3_600.0

    def draw(self, chance: Random) -> float:
        """Return the seconds from a decision to its record, or infinity."""
        failures = 0
        while failures * self.repeat <= _EXPIRY:
            if chance.random() >= self.loss:
                return failures * self.repeat + self.delay
            if self.loss >= 1:
                break
            failures += 1
        return _NEVER


@define(eq=False)
class Wait:
    """One coroutine that waits. Times are seconds on the clock of the simulation.

    Attributes:
        decided_at: When Veriff decides.
        webhook_at: When the webhook is recorded; infinite if it never is.
        due: When the next poll is due.
        polls: Polls so far.
        woken_at: When the coroutine continues; infinite while it waits.
    """

    decided_at: float
    webhook_at: float
    due: float
    polls: int = 0
    woken_at: float = _NEVER


@define
class Outcome:
    """The result of a simulation.

    Attributes:
        requests: Polls that were sent.
        woken: The waits that ended, in this order.
        by_poll: How many of them a poll ended.
    """

    requests: int = 0
    woken: list[Wait] = Factory(list[Wait])
    by_poll: int = 0

    def delay(self, share: float) -> float:
        """Return a quantile of the seconds from a decision to its awakened coroutine."""
        delays = sorted(wait.woken_at - wait.decided_at for wait in self.woken)
        return delays[min(int(share * len(delays)), len(delays) - 1)] if delays else math.nan


def start_waits(
    cases: Cases, webhooks: Webhooks, policy: PollPolicy, starts: Iterable[float], chance: Random
) -> list[Wait]:
    """Return new waits that start at the given times."""
    first = poll_delay(policy, polls=0)
    waits = []
    for start in starts:
        decided_at = start + cases.draw(chance)
        waits.append(Wait(decided_at, decided_at + webhooks.draw(chance), start + first))
    return waits


def open_waits(  # noqa: PLR0913  the parts of a configuration
    cases: Cases, webhooks: Webhooks, policy: PollPolicy, number: int, chance: Random, *, latency: float
) -> list[Wait]:
    """Return the waits that are open at a random moment, at time 0, of a system that has run for long.

    A session that stays open twice as long is twice as likely to be open (length-biased sampling), and its age is
    uniform within its duration. The ages are exact while `PollPolicy.max_rate` is not reached.
    """
    drawn = start_waits(cases, webhooks, policy, (0.0 for _ in range(min(number, _MOST_DRAWN))), chance)
    durations = [wait.woken_at for wait in run_alone(drawn, policy, latency=latency).woken]
    offsets = poll_offsets(policy, max(durations), latency=latency)
    waits = []
    for index in chance.choices(range(len(drawn)), weights=durations, k=number):
        age, drawn_wait = chance.random() * durations[index], drawn[index]
        polls = bisect_left(offsets, age)
        decided_at, webhook_at = drawn_wait.decided_at - age, drawn_wait.webhook_at - age
        waits.append(Wait(decided_at, webhook_at, offsets[polls] - age, polls))
    return waits


def simulate(  # noqa: C901  one loop over polls and webhooks, as fast as Python allows
    waits: Iterable[Wait],
    policy: PollPolicy,
    *,
    latency: float = 0.0,
    end: float = _NEVER,
    replace: Callable[[float], Wait] | None = None,
) -> Outcome:
    """Poll the waits as the library does, until the end.

    Args:
        waits: The waits.
        policy: How often each is polled, and all together.
        latency: Seconds that a poll takes. Its response contains a decision that was made before it started.
        end: When the simulation ends; by default when all waits have ended, or none ends any more.
        replace: Returns a new wait that starts at a given time, which replaces one that ended.
    """
    outcome, numbers = Outcome(), count()
    delays: list[float] = []
    due = [(wait.due, next(numbers), wait) for wait in waits]
    webhooks = [(wait.webhook_at, number, wait) for _, number, wait in due if wait.webhook_at <= end]
    heapq.heapify(due)
    heapq.heapify(webhooks)
    in_flight = deque([0.0] * MAX_CONCURRENT_POLLS, MAX_CONCURRENT_POLLS)
    slot, spacing = 0.0, 1 / policy.max_rate

    def wake(wait: Wait, at: float) -> None:
        wait.woken_at = at
        outcome.woken.append(wait)
        if replace is not None and at <= end:
            successor, number = replace(at), next(numbers)
            heapq.heappush(due, (successor.due, number, successor))
            if successor.webhook_at <= end:
                heapq.heappush(webhooks, (successor.webhook_at, number, successor))

    while due or webhooks:
        poll_at = max(due[0][0], slot, in_flight[0]) if due else _NEVER
        if webhooks and webhooks[0][0] <= poll_at:
            at, _, wait = heapq.heappop(webhooks)
            if at < wait.woken_at:
                wake(wait, at)
            continue
        if poll_at > end:
            break
        wait = heapq.heappop(due)[2]
        if wait.woken_at <= poll_at:
            continue
        outcome.requests += 1
        wait.polls += 1
        slot = next_slot(slot, now=poll_at, spacing=spacing)
        in_flight.append(poll_at + latency)
        if wait.decided_at > poll_at:
            while len(delays) <= wait.polls:
                delays.append(poll_delay(policy, polls=len(delays)))
            wait.due = poll_at + latency + delays[wait.polls]
            heapq.heappush(due, (wait.due, next(numbers), wait))
        elif wait.webhook_at > poll_at + latency:  # otherwise the webhook is first
            outcome.by_poll += 1
            wake(wait, poll_at + latency)
    return outcome


def poll_offsets(policy: PollPolicy, until: float, *, latency: float) -> Sequence[float]:
    """Return when a session is polled, in seconds after the start of its wait; the last poll is after `until`."""
    offsets = [poll_delay(policy, polls=0)]
    while offsets[-1] <= until:
        offsets.append(offsets[-1] + latency + poll_delay(policy, polls=len(offsets)))
    return offsets


def run_alone(waits: Sequence[Wait], policy: PollPolicy, *, latency: float = 0.0) -> Outcome:
    """Return the outcome of waits that start at 0 and do not compete for the rate, in the order of the waits.

    This equals `simulate` with an unlimited rate, but takes the same time for a wait of a week as for one of a second.
    """
    outcome = Outcome()
    offsets = poll_offsets(policy, max(wait.decided_at for wait in waits), latency=latency)
    for wait in waits:
        found = bisect_left(offsets, wait.decided_at)
        polled_at = offsets[found] + latency
        is_polled = polled_at < wait.webhook_at
        wait.woken_at = polled_at if is_polled else wait.webhook_at
        wait.polls = found + 1 if is_polled else bisect_left(offsets, wait.webhook_at)
        outcome.requests += wait.polls
        outcome.by_poll += is_polled
        outcome.woken.append(wait)
    return outcome
