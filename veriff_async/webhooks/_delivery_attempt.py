"""One attempt to handle an event: its handlers are called one after another, and the outcome is stored.

When one handler has failed, the others are called all the same. The names of those that finished are stored after each,
so the next attempt calls only the others.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import nullcontext, suppress
from contextvars import ContextVar
from time import time
from typing import TYPE_CHECKING, Final, cast

from attrs import define, evolve, frozen

from veriff_async._event_loop import is_being_cancelled
from veriff_async._logging import log_fields
from veriff_async._protocol.delivery import HandlerFailure, choose_outcome, give_back, is_abandoned, pass_on
from veriff_async._protocol.validation import safe_id
from veriff_async._telemetry.setup import if_live
from veriff_async.errors import LeaseLostError
from veriff_async.models.delivery import DeliveryOutcome, DeliveryStatus
from veriff_async.webhooks._handlers import call_handler, describe_failure

if TYPE_CHECKING:
    from veriff_async._telemetry.webhooks import ReceiverTelemetry
    from veriff_async.config import DeliveryPolicy
    from veriff_async.inbox._protocol import DeliveryInbox, TransactionalInbox
    from veriff_async.models.delivery import Delivery
    from veriff_async.models.events import WebhookEvent
    from veriff_async.webhooks._delivery_queue import DeliveryQueue
    from veriff_async.webhooks._handlers import Handler, HandlerRegistry

__all__ = ("CURRENT_ATTEMPT", "AttemptContext", "DeliveryAttempt", "DeliveryCounters")

_LOG: Final = logging.getLogger("veriff_async.webhooks")

# Seconds between two tries to store an outcome.
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
# Seconds in which an attempt that is being cancelled may store its outcome; the process waits a second for it.
_CANCEL_SECONDS: Final = 0.9


CURRENT_ATTEMPT: Final = ContextVar["DeliveryAttempt | None"]("CURRENT_ATTEMPT", default=None)
"""The attempt whose handler is running, also in tasks that the handler has started."""


@define
class DeliveryCounters:
    """Totals over all event loops; see `ReceiverStatistics`."""

    handled: int = 0
    failed: int = 0
    dead: int = 0


@frozen
class AttemptContext:
    """Shared by all attempts of a receiver on one event loop."""

    inbox: DeliveryInbox
    queue: DeliveryQueue
    handlers: HandlerRegistry
    policy: DeliveryPolicy
    counters: DeliveryCounters
    telemetry: ReceiverTelemetry | None


class DeliveryAttempt:
    """One attempt, in a task of its own.

    Args:
        delivery: The event, which this process has leased.
        lease_ends: When the lease ends at the earliest, by the clock of the loop; the worker extends it.
        context: Shared by all attempts of the receiver.
    """

    def __init__(self, delivery: Delivery[WebhookEvent], lease_ends: float, context: AttemptContext) -> None:
        """Prepare the attempt."""
        self.delivery = delivery
        self.lease_ends: float = lease_ends
        self.task: asyncio.Task[object] | None = None
        self._context = context
        self._finished = set(delivery.handled_by)
        self._outcome: DeliveryOutcome | None = None
        # Whether a transaction runs that stores the name of its handler and keeps the lease.
        self._is_storing = False
        self.is_lost: bool = False
        self.has_begun: bool = False

    @property
    def needs_lease(self) -> bool:
        """Whether handlers still run, so that the attempt must end if it loses its lease."""
        return self._outcome is None and not self.is_lost

    def cancel_lost(self) -> None:
        """End the attempt without an outcome, because its lease was lost."""
        self._lose_lease()
        if self.task is not None:
            self.task.cancel()

    async def run(self) -> None:
        """Call the handlers, and store the outcome. When it is cancelled, it gives the attempt back to the inbox."""
        self.has_begun = True
        CURRENT_ATTEMPT.set(self)
        try:
            self._outcome = await self._handle()
            if self._outcome is not None:
                await self._settle(self._outcome)
        except asyncio.CancelledError:
            if not self.is_lost:
                await self.give_back()
            raise

    async def _handle(self) -> DeliveryOutcome | None:
        """Return the outcome; see `_call_handlers`."""
        delivery, context = self.delivery, self._context
        if not context.handlers.match(delivery.event):
            outcome = pass_on(time() - delivery.recorded_at)
            if outcome.status is DeliveryStatus.HANDLED:
                kind = type(delivery.event).__name__
                fields = log_fields(event=kind, session_id=safe_id(delivery.event.session_id))
                _LOG.warning("No process has a handler for a queued %s, so none is called.", kind, extra=fields)
            return evolve(outcome, handled_by=delivery.handled_by)
        if is_abandoned(delivery.attempt, context.policy):
            failure = HandlerFailure("veriff-async", "the process ended during the last attempt")
            return self._choose_outcome([failure])
        if (telemetry := if_live(context.telemetry)) is not None:
            telemetry.on_attempt(delivery)
        return await self._call_handlers()

    async def _call_handlers(self) -> DeliveryOutcome | None:
        """Return the outcome, or ``None`` if the lease was lost, or a transaction stores it."""
        delivery, context = self.delivery, self._context
        failures: list[HandlerFailure] = []
        handlers = context.handlers.select(delivery.event, delivery.handled_by)
        for left, handler in zip(reversed(range(len(handlers))), handlers, strict=True):
            names = frozenset({*self._finished, handler.name})
            is_complete = not left and not failures
            status = DeliveryStatus.HANDLED if is_complete else DeliveryStatus.LEASED
            progress = DeliveryOutcome(status=status, handled_by=names)
            failed = await self._call(handler, progress)
            if self.is_lost:
                return None
            if failed is not None:
                failures.append(failed)
                if failed.may_have_committed:
                    # Only the next attempt shows it.
                    if not is_complete:
                        await self._end_lease(self._choose_outcome(failures))
                        return None
                    break  # settled as failed, which stores nothing if the transaction was committed
                continue
            self._finished.add(handler.name)
            if handler.is_transactional:
                if is_complete:
                    self._count(progress)
                    return None
            elif left and not await self._store_progress(progress):
                return None
        return self._choose_outcome(failures)

    async def _call(self, handler: Handler, progress: DeliveryOutcome) -> HandlerFailure | None:
        """Call a handler, and return its failure."""
        telemetry, seconds = if_live(self._context.telemetry), self._context.policy.handler_timeout
        self._is_storing = False
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                with nullcontext() if telemetry is None else telemetry.handle(self.delivery, handler.name):
                    if handler.is_transactional:
                        inbox = cast("TransactionalInbox", self._context.inbox)  # checked at the registration
                        self._is_storing = progress.status is DeliveryStatus.LEASED
                        async with inbox.handle_in_transaction(self.delivery, progress) as connection:
                            await call_handler(handler, self.delivery, connection)
                        self._is_storing = False
                    else:
                        await call_handler(handler, self.delivery)
        except (SystemExit, KeyboardInterrupt):  # on the loop, a signal handler may raise them in any coroutine
            raise
        except LeaseLostError:
            self._lose_lease()
            return None
        # The function may also raise a CancelledError of its own, from a task that it awaited.
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
                raise
            return describe_failure(handler, error, seconds if limit.expired() else None)
        return None

    async def _store_progress(self, progress: DeliveryOutcome) -> bool:
        """Store which handlers have finished, and return whether the lease is still held."""
        try:
            is_held = await self._context.queue.settle(self.delivery, progress)
        except Exception:  # noqa: BLE001  logged; the outcome, which is stored later, has the same names
            return True
        if not is_held:
            self._lose_lease()
        return is_held

    async def _end_lease(self, outcome: DeliveryOutcome) -> None:
        """Let the lease end instead of settling, which would replace the names that a transaction may have stored."""
        self._count(evolve(outcome, status=DeliveryStatus.QUEUED))
        # If it fails, the lease ends later.
        with suppress(Exception):
            await self._context.queue.extend([self.delivery], seconds=max(outcome.delay, _FIRST_PAUSE))

    def _choose_outcome(self, failures: list[HandlerFailure]) -> DeliveryOutcome:
        random_value = random.random()  # noqa: S311  no secret
        attempt, policy = self.delivery.attempt, self._context.policy
        outcome = choose_outcome(attempt, self._finished, failures, policy, random_value=random_value)
        for failure in failures:
            self._log_failed(failure, outcome)
        return outcome

    async def _settle(self, outcome: DeliveryOutcome) -> None:
        """Store the outcome; try again while the inbox fails and the lease is held."""
        loop, pause = asyncio.get_running_loop(), _FIRST_PAUSE
        while True:
            try:
                is_held = await self._context.queue.settle(self.delivery, outcome)
                break
            except Exception:  # noqa: BLE001  logged by the queue
                if loop.time() + pause > self.lease_ends:
                    self._lose_lease()
                    return
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        if is_held:
            self._count(outcome)
        else:
            self._lose_lease()

    async def give_back(self) -> None:
        """Store the outcome if there is one, and else let another process begin the attempt again."""
        outcome = give_back(self._finished) if self._outcome is None else self._outcome
        # If it fails, the lease ends by itself.
        with suppress(Exception):
            async with asyncio.timeout(_CANCEL_SECONDS):
                if self._is_storing:
                    await self._context.queue.extend([self.delivery], seconds=_FIRST_PAUSE)
                elif await self._context.queue.settle(self.delivery, outcome):
                    self._count(outcome)

    def _count(self, outcome: DeliveryOutcome) -> None:
        counters, event = self._context.counters, self.delivery.event
        if outcome.status is DeliveryStatus.HANDLED:
            counters.handled += 1
        elif outcome.counts:
            counters.failed += 1
        is_dead = outcome.status is DeliveryStatus.DEAD
        if self._context.telemetry is not None and outcome.status is not DeliveryStatus.QUEUED:
            self._context.telemetry.on_settled(event, is_dead=is_dead)
        if is_dead:
            counters.dead += 1
            session_id = safe_id(event.session_id)
            fields = log_fields(
                event=type(event).__name__, session_id=session_id, attempt=self.delivery.attempt, cause=outcome.error
            )
            _LOG.error(
                "An event is in the dead letters after attempt %d: repair the handler, and queue it again. %s",
                self.delivery.attempt,
                outcome.error,
                extra=fields,
            )

    def _log_failed(self, failure: HandlerFailure, outcome: DeliveryOutcome) -> None:
        delivery = self.delivery
        fields = log_fields(
            handler=failure.handler,
            error=failure.error_class,
            cause=failure.error,
            event=type(delivery.event).__name__,
            session_id=safe_id(delivery.event.session_id),
            attempt=delivery.attempt,
            delay=outcome.delay,
        )
        if outcome.status is DeliveryStatus.QUEUED:
            _LOG.warning(
                "Handler %s failed with %s in attempt %d; the next one follows in %.1f s.",
                failure.handler,
                failure.error,
                delivery.attempt,
                outcome.delay,
                extra=fields,
            )
        else:
            _LOG.error(
                "Handler %s failed with %s in attempt %d, the last one.",
                failure.handler,
                failure.error,
                delivery.attempt,
                extra=fields,
            )

    def _lose_lease(self) -> None:
        self.is_lost = True
        event = self.delivery.event
        fields = log_fields(
            event=type(event).__name__, session_id=safe_id(event.session_id), attempt=self.delivery.attempt
        )
        _LOG.warning(
            "The lease of an event ended during attempt %d, so it is handled again: check inbox and event loop.",
            self.delivery.attempt,
            extra=fields,
        )
