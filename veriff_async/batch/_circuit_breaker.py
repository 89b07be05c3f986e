"""A circuit breaker: an outage pauses the jobs of a client instead of failing them.

    closed      requests are sent. `THRESHOLD` consecutive failures, or one creation with an unknown outcome, open it.
    open        no request is sent. One of the waiting jobs sends a probe, at growing intervals, until one succeeds.
    half open   requests are sent again, but only one creation at a time. A success closes it, a failure opens it.
                Before the first success, creations are also sent one at a time.

A probe asks for a decision, so it changes nothing at Veriff. Any response counts that is not itself part of the outage,
404 included. Creations have a rule of their own because a failed one can leave a session whose existence is unknown,
whereas every other request can be repeated.

All runs of one client share its breaker, so a task queue's worker learns of an outage once and not once per message.
"""

from __future__ import annotations

import asyncio
from logging import getLogger
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import uuid4
from weakref import WeakKeyDictionary, ref

from attrs import define, field

from veriff_async._logging import log_fields
from veriff_async._protocol.error_classifier import ErrorKind, classify_error, is_outage
from veriff_async.errors import VeriffError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from veriff_async.client import VeriffClient

__all__ = ("CircuitBreaker", "Schedule", "breaker_of")

_T = TypeVar("_T")

_LOGGER: Final = getLogger("veriff_async.batch")

THRESHOLD: Final = 3
"""Consecutive failures, each after all retries of its call, that count as an outage."""

_INITIAL_PAUSE: Final = 1.0
_MAX_PAUSE: Final = 30.0
# Seconds after an outage in which a failure still counts as part of it: many outages end in fits and starts.
_UNSTABLE: Final = 30.0

# Seconds that an outage may last before the first success: then a wrong base URL is more likely than an outage.
_MAX_OUTAGE_AT_START: Final = 30.0


@define
class Schedule:
    """The state of the breaker. Pure: times are arguments.

    Attributes:
        failures: Consecutive failures.
        opened_at: When it opened, or `None` while it is closed or half open.
        probes: Probes that failed since it last closed.
        next_probe: When the next probe is due.
        has_succeeded: Whether any request has ever succeeded.
        is_half_open: Whether the last probe succeeded, and no request since.
        unstable_until: A failure before this time counts as part of the last outage.
    """

    failures: int = 0
    opened_at: float | None = None
    probes: int = 0
    next_probe: float = 0.0
    has_succeeded: bool = False
    is_half_open: bool = False
    unstable_until: float = 0.0

    @property
    def is_open(self) -> bool:
        """Whether no request may be sent."""
        return self.opened_at is not None

    @property
    def is_outage(self) -> bool:
        """Whether it is open for more than a first suspicion."""
        return self.is_open and (self.failures >= THRESHOLD or self.probes > 0)

    def is_trial(self) -> bool:
        """Return whether a request has yet to show that Veriff works: after an outage, or before the first success."""
        return self.is_half_open or not self.has_succeeded

    def on_success(self) -> None:
        """Close, unless it is open: then the success belongs to a request that was sent before."""
        self.has_succeeded = True
        if not self.is_open:
            self.failures = self.probes = 0
            self.is_half_open = False

    def on_failure(self, now: float, *, is_unknown: bool) -> None:
        """Count a failure, and open if that is enough; `is_unknown` is for a creation whose outcome is unknown."""
        self.failures += 1
        if self.is_open or not (is_unknown or self.is_half_open or self.failures >= THRESHOLD):
            return
        self.opened_at = now
        # The first probe follows at once: a single failure is rarely an outage. After a failed trial it waits longer.
        self.next_probe = now + (self._pause() if self.is_half_open else 0.0)
        self.probes += self.is_half_open
        self.is_half_open = False

    def on_probe(self, now: float, *, has_failed: bool) -> None:
        """Note the result of a probe."""
        if has_failed:
            self.opened_at = now if self.opened_at is None else self.opened_at
            self.next_probe = now + self._pause()
            self.probes += 1
            self.is_half_open = False
        elif self.is_open:
            if self.is_outage:
                self.unstable_until = now + _UNSTABLE
            self.opened_at = None
            self.is_half_open = True
            self.failures = 0

    def limit_outage(self, max_outage: float | None) -> float | None:
        """Return how many seconds an outage may last now, given what the caller allows."""
        if self.has_succeeded or max_outage is None:
            return max_outage
        return min(max_outage, _MAX_OUTAGE_AT_START)

    def _pause(self) -> float:
        # The exponent is bounded because 2.0 ** 1024 raises OverflowError, and an outage may last for any time.
        return min(_MAX_PAUSE, _INITIAL_PAUSE * 2.0 ** min(self.probes, 60))


@define(eq=False)
class CircuitBreaker:
    """Holds the requests of one client back while Veriff cannot be reached.

    Attributes:
        probe: Sends a harmless request about a session, and raises what goes wrong.
        session_id: A session to ask about; it need not exist.
        on_change: Called when it opens or closes.
        last_error: The last error that counted as a failure.
    """

    probe: Callable[[str], Awaitable[object]]
    on_change: set[Callable[[], None]] = field(factory=set["Callable[[], None]"])
    session_id: str = field(factory=lambda: str(uuid4()))
    last_error: VeriffError | None = None
    _state: Schedule = field(factory=Schedule)
    _probing: asyncio.Lock = field(factory=asyncio.Lock)
    _creating: asyncio.Lock = field(factory=asyncio.Lock)
    _given_up: VeriffError | None = None
    _was_outage: bool = False

    @property
    def is_open(self) -> bool:
        """Whether no request may be sent now."""
        return self._state.is_open

    @property
    def is_paused(self) -> bool:
        """Whether there is an outage, so that no job proceeds."""
        return self._state.is_outage

    async def wait(self, max_outage: float | None) -> None:
        """Return when requests may be sent.

        Args:
            max_outage: Seconds that an outage may last; `None` for any time. With 0 a probe that is due is sent, but
                no later one is waited for.

        Raises:
            VeriffError: The outage lasts longer; it is the error of the last request.
        """
        loop = asyncio.get_running_loop()
        while self._state.is_open:
            # One waiter probes for all. If it is cancelled, the next one takes over.
            async with self._probing:
                opened_at, now = self._state.opened_at, loop.time()
                # Another waiter has sent the probe while this one waited for the lock, and the probe succeeded.
                if opened_at is None:
                    return
                limit = self._state.limit_outage(max_outage)
                if limit is not None and self._state.next_probe > max(now, opened_at + limit):
                    # The next probe would come too late, so the wait ends now and not when its time is up.
                    raise self._give_up()
                # With the lock held: the other waiters wait for this probe instead of sending their own.
                await asyncio.sleep(max(0.0, self._state.next_probe - now))
                await self._probe()

    async def outlast(self, max_outage: float | None) -> bool:
        """Return, after a failed request, whether an outage was the cause, once it is over.

        While the breaker is closed, a probe decides that.

        Raises:
            VeriffError: The outage lasts longer than `max_outage`; see `wait`.
        """
        async with self._probing:
            if not self._state.is_open:  # otherwise another job has sent a probe, or opened it by failing
                await self._probe()
        is_part = self._state.is_open or asyncio.get_running_loop().time() < self._state.unstable_until
        await self.wait(max_outage)
        return is_part

    async def send(
        self, request: Callable[[], Awaitable[_T]], max_outage: float | None, *, creates: bool = False
    ) -> _T:
        """Wait until a request may be sent, send it, and learn from its result; see `wait`.

        Creations are sent one at a time until one request shows that Veriff works.
        """
        await self.wait(max_outage)
        if creates and self._state.is_trial():
            async with self._creating:
                await self.wait(max_outage)  # the creation before this one may have failed
                if self._state.is_trial():
                    return await self._send(request, creates=creates)
            # The creation before this one has succeeded, so the next ones need not wait for each other.
        return await self._send(request, creates=creates)

    async def _send(self, request: Callable[[], Awaitable[_T]], *, creates: bool) -> _T:
        try:
            result = await request()
        except VeriffError as error:
            self._observe(error, creates=creates)
            raise
        self._observe(None)
        return result

    def _observe(self, error: VeriffError | None, *, creates: bool = False) -> None:
        if error is None or not is_outage(error):  # a refusal of one request shows that Veriff works
            self._state.on_success()
        else:
            self.last_error = error
            is_unknown = classify_error(error, creates=creates) is ErrorKind.UNKNOWN
            self._state.on_failure(asyncio.get_running_loop().time(), is_unknown=is_unknown)
        self._report()

    async def _probe(self) -> None:
        failed: VeriffError | None = None
        try:
            await self.probe(self.session_id)
        except VeriffError as error:
            # A refusal is a response too, for example 404 for the random session that the first probes ask about.
            if is_outage(error):
                failed = self.last_error = error
        self._state.on_probe(asyncio.get_running_loop().time(), has_failed=failed is not None)
        self._report()

    def is_given_up(self, error: VeriffError) -> bool:
        """Return whether `wait` raised this error, because the outage lasted too long."""
        return self._given_up is error

    def _give_up(self) -> VeriffError:
        assert self.last_error is not None, "an error opened it"  # noqa: S101
        self._given_up = self.last_error
        return self.last_error

    def _report(self) -> None:
        is_paused = self._state.is_outage
        if self._was_outage is is_paused:
            return
        self._was_outage = is_paused
        if is_paused:
            name = type(self.last_error).__name__
            _LOGGER.warning("Requests to Veriff fail (%s), so the batch pauses.", name, extra=log_fields(error=name))
        else:
            _LOGGER.info("Veriff works again, so the batch resumes.")
        for callback in tuple(self.on_change):
            callback()


# Weak, so that a client that is not used any more is freed together with its breaker.
_BREAKERS: Final[WeakKeyDictionary[VeriffClient, CircuitBreaker]] = WeakKeyDictionary()


def breaker_of(client: VeriffClient) -> CircuitBreaker:
    """Return the breaker that all runs of a client share."""
    breaker = _BREAKERS.get(client)
    if breaker is None:
        # The breaker is a value of the dictionary: a strong reference in it would keep the client, its key, alive.
        reference = ref(client)

        async def probe(session_id: str) -> None:
            target = reference()
            if target is not None:
                await target.session(session_id).decision()

        breaker = _BREAKERS[client] = CircuitBreaker(probe)
    return breaker
