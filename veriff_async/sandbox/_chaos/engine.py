"""Applies a chaos profile to requests and webhooks. Pure: the time is an argument, and nothing waits here.

The state is one count for each endpoint and kind of webhook, and the bucket of each rate limit. `SandboxService` holds
its lock around every call.
"""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, Self

from attrs import evolve, frozen

from veriff_async.sandbox._chaos.rules import RequestChaos
from veriff_async.sandbox._faults import TokenBucket

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from veriff_async.sandbox._chaos.profile import ChaosProfile
    from veriff_async.sandbox._chaos.rules import WebhookChaos
    from veriff_async.sandbox._faults import Fault

__all__ = (
    "NORMAL_REQUEST",
    "NORMAL_WEBHOOK",
    "ChaosEngine",
    "ChaosState",
    "RequestPlan",
    "WebhookPlan",
    "draw",
    "draws_of",
)


@frozen
class RequestPlan:
    """The fault and the latency of one request.

    Attributes:
        fault: How it fails; ``None`` for a request that succeeds.
        latency: Seconds to wait before the response.
        cause: The rule behind it, for the timeline.
    """

    fault: Fault | None = None
    latency: float = 0.0
    cause: str = ""


@frozen
class WebhookPlan:
    """The times at which one webhook is posted.

    Attributes:
        delays: Seconds from now to each post; empty for a webhook that is lost.
        cause: The rule behind it, for the timeline; empty for a webhook that is posted once and immediately.
    """

    delays: tuple[float, ...] = (0.0,)
    cause: str = ""


@frozen(kw_only=True)
class ChaosState:
    """A profile and its counts at one time."""

    profile: ChaosProfile
    started_at: datetime
    counts: dict[str, int]
    buckets: tuple[TokenBucket, ...]


NORMAL_REQUEST: Final = RequestPlan()
NORMAL_WEBHOOK: Final = WebhookPlan()
_NO_RULE: Final = RequestChaos()


class ChaosEngine:
    """A profile, and the counts since its start."""

    def __init__(self, profile: ChaosProfile, *, now: datetime) -> None:
        """Start the profile."""
        self.profile = profile
        self.restart(now)

    def restart(self, now: datetime) -> None:
        """Start the profile again: outages count from now, and the first request of each endpoint is its first."""
        self._started_at = now
        self._counts: Counter[str] = Counter()
        self._buckets = [TokenBucket(rule.requests_per_second, rule.retry_after) for rule in self.profile.requests]

    @property
    def state(self) -> ChaosState:
        """The present state."""
        return ChaosState(
            profile=self.profile,
            started_at=self._started_at,
            counts=dict(self._counts),
            buckets=tuple(evolve(bucket) for bucket in self._buckets),
        )

    @classmethod
    def from_state(cls, state: ChaosState) -> Self:
        """Continue where another engine was."""
        engine = cls(state.profile, now=state.started_at)
        engine._counts.update(state.counts)
        engine._buckets = [evolve(bucket) for bucket in state.buckets]
        return engine

    def plan_request(self, method: str, path: str, endpoint: str, *, now: datetime) -> RequestPlan:
        """Count a request, and return its plan.

        Args:
            method: HTTP method.
            path: Path.
            endpoint: Method and path with the names of ids instead of ids: requests with the same one are counted
                together.
            now: The time.
        """
        # Every request counts, also one that fails for another reason: an outage must not shift later faults.
        count = self._count(f"request {endpoint}")
        elapsed = self._elapsed(now)
        found = ((index, rule) for index, rule in enumerate(self.profile.requests) if rule.matches(method, path))
        index, rule = next(found, (0, _NO_RULE))
        draw = draws_of(self.profile.seed, endpoint, count)
        latency = 0.0 if rule.latency is None else rule.latency.seconds(draw)
        for number, outage in enumerate(self.profile.outages):
            if outage.matches(method, path) and outage.seconds_left(elapsed) is not None:
                return RequestPlan(outage.fault, latency, self._cause(f"outages[{number}]"))
        if rule is _NO_RULE:
            return NORMAL_REQUEST
        fault = self._buckets[index].take(now.timestamp()) or _choose(rule.faults, draw("fault"))
        is_normal = fault is None and not latency
        return NORMAL_REQUEST if is_normal else RequestPlan(fault, latency, self._cause(f"requests[{index}]"))

    def plan_webhook(self, kind: str, *, now: datetime) -> WebhookPlan:
        """Count a webhook, and return its plan."""
        count = self._count(f"webhook {kind}")
        plan = NORMAL_WEBHOOK
        for index, rule in enumerate(self.profile.webhooks):
            if rule.matches(kind):
                cause = self._cause(f"webhooks[{index}]")
                plan = _plan_webhook(rule, self.profile.seed, kind, count, cause)
                break
        return self._after_outages(plan, now)

    def _after_outages(self, plan: WebhookPlan, now: datetime) -> WebhookPlan:
        delays, cause, elapsed = plan.delays, plan.cause, self._elapsed(now)
        for index, outage in enumerate(self.profile.outages):
            if not outage.webhooks:
                continue
            held = tuple(delay + (outage.seconds_left(elapsed + delay) or 0.0) for delay in delays)
            if held != delays:
                delays = held
                reason = f"outages[{index}] holds it"
                cause = f"{cause}; {reason}" if cause else self._cause(reason)
        return WebhookPlan(delays, cause)

    def _count(self, what: str) -> int:
        self._counts[what] += 1
        return self._counts[what]

    def _elapsed(self, now: datetime) -> float:
        return (now - self._started_at).total_seconds()

    def _cause(self, rule: str) -> str:
        return f"chaos profile {self.profile.name}: {rule}" if self.profile.name else f"chaos profile: {rule}"


def _choose(faults: Mapping[Fault, float], number: float) -> Fault | None:
    """Return the fault in whose part of the range from 0 to 1 a number is; the remainder is for successes."""
    reached = 0.0
    for fault, weight in faults.items():
        reached += weight
        if number < reached:
            return fault
    return None


def _plan_webhook(rule: WebhookChaos, seed: int, kind: str, count: int, cause: str) -> WebhookPlan:
    draw = draws_of(seed, "webhook", kind, count)
    if draw("loss") < rule.loss:
        return WebhookPlan((), f"{cause} loses it")
    copies = 1 + (rule.copies if draw("duplication") < rule.duplication else 0)
    later = rule.reorder_seconds if draw("reordering") < rule.reordering else 0.0
    delays = [0.0] * copies
    if rule.delay is not None:
        draws = [draws_of(seed, "webhook", kind, count, "delay", copy) for copy in range(copies)]
        delays = [rule.delay.seconds(each) for each in draws]
    # Only the original waits to be overtaken; a copy that waits as well would keep its place behind it.
    delays[0] += later
    effects = [
        text
        for text, happens in (
            (f"posts it {copies} times", copies > 1),
            ("delays it", any(delays) and not later),
            ("lets later ones overtake it", later > 0),
        )
        if happens
    ]
    return WebhookPlan(tuple(delays), f"{cause} {' and '.join(effects)}" if effects else "")


# A float holds 53 bits exactly, so the result is below 1 after rounding.
_BITS: Final = 53


def draw(seed: int, *names: str | int) -> float:
    """Return a number from 0 to below 1; the same arguments give the same number on every machine."""
    text = "\0".join(map(str, (seed, *names)))
    # The text may come from a request, whose path may hold surrogates.
    digest = blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest) >> (64 - _BITS)) / (1 << _BITS)


def draws_of(seed: int, *names: str | int) -> Callable[[str], float]:
    """Return a function that draws one number for each purpose."""
    return lambda purpose: draw(seed, *names, purpose)
