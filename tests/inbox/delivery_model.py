"""A simple model of the deliveries of an inbox, to compare every inbox with."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from attrs import define, field, frozen
from hypothesis import strategies as st

from veriff_async._protocol.webhook import event_from
from veriff_async.inbox import DeliveryOutcome, DeliveryStatus, ErasableInbox, IgnoredReason, SearchableInbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from veriff_async import WebhookEvent
    from veriff_async.inbox import Delivery, DeliveryInbox

__all__ = ("History", "Step", "check_history", "histories")

START: Final = 1_800_000_000.0
# Times that are sums of the others never differ by exactly these, so no rounding of a store decides what is due.
LEASES: Final = (30.5, 90.5)
DELAYS: Final = (0.0, 45.5)
STEPS: Final = (1.0, 40.0, 100.0, -5.0, -4000.0)
REFUSED_FOR: Final = (0.0, 70.5)
PENDING: Final = {DeliveryStatus.QUEUED, DeliveryStatus.LEASED}


@define(eq=False)
class EventModel:
    """A stored event, and how far the handlers are with it."""

    session_id: str | None
    number: int
    status: DeliveryStatus | None = None
    position: int = 0
    attempts: int = 0
    due_at: float = 0.0
    span: float = 0.0
    lease: str | None = None
    handled_by: frozenset[str] = frozenset()
    error: str | None = None

    @property
    def event(self) -> WebhookEvent:
        """The event itself."""
        return make_event(self.session_id, self.number)

    def describe(self, now: float) -> tuple[object, ...]:
        """Return what `get_deliveries` shows of it, with whole seconds."""
        due = round(self.due_at - now) if self.status in PENDING else None
        key = self.event.dedup_key
        return self.session_id, key, self.status, self.attempts, due, self.error, self.handled_by


@define
class Model:
    """The contents of an inbox.

    Attributes:
        now: The time.
        events: The events in the order of recording.
        refused: The times until which sessions are refused.
        forgotten: Sessions whose time had passed before the clock was set back.
        attempts: All attempts so far.
        positions: The number of events that were queued.
        was_set_back: Whether the clock was set back: then "the latest" is a matter of opinion.
    """

    now: float = START
    events: list[EventModel] = field(factory=list[EventModel])
    refused: dict[str, float] = field(factory=dict[str, float])
    attempts: list[Delivery[WebhookEvent]] = field(factory=list["Delivery[WebhookEvent]"])
    forgotten: set[str] = field(factory=set[str])
    positions: int = 0
    was_set_back: bool = False

    def find(self, session_id: str | None, number: int) -> EventModel | None:
        """Return a stored event."""
        return next((each for each in self.events if (each.session_id, each.number) == (session_id, number)), None)

    def queue(self, event: EventModel) -> None:
        """Put an event behind all others."""
        self.positions += 1
        event.status, event.position, event.attempts = DeliveryStatus.QUEUED, self.positions, 0
        event.due_at, event.span, event.handled_by, event.error = self.now, 0.0, frozenset(), None

    def find_due(self) -> list[EventModel]:
        """Return the events that can be leased, in their order."""
        pending = sorted((each for each in self.events if each.status in PENDING), key=lambda each: each.position)
        first: dict[object, EventModel] = {}
        for each in pending:
            first.setdefault(each.session_id or each.position, each)
        return [each for each in first.values() if each.due_at <= self.now or each.due_at - self.now > 2 * each.span]

    def latest(self, count: int) -> list[Delivery[WebhookEvent]]:
        """Return the latest attempts, which may have lost their leases."""
        return self.attempts[len(self.attempts) - min(count, len(self.attempts)) :]


class Step(Protocol):
    """A step of a history."""

    async def take(self, model: Model, inbox: DeliveryInbox) -> None:
        """Take the step with the inbox and with the model, and compare the results."""
        ...


@frozen
class Record:
    """Record one of a few events of a session."""

    session_id: str | None
    number: int
    deliver: bool

    async def take(self, model: Model, inbox: DeliveryInbox) -> None:
        """Take the step."""
        result = await inbox.record(make_event(self.session_id, self.number), deliver=self.deliver)
        if self.session_id is not None and model.refused.get(self.session_id, 0.0) > model.now:
            # A store may have forgotten an erasure whose time has passed when the clock is set back.
            assert result.ignored is IgnoredReason.ERASED or self.session_id in model.forgotten
            if result.ignored is IgnoredReason.ERASED:
                return
        found = model.find(self.session_id, self.number)
        assert result.is_duplicate == (found is not None)
        if found is None:
            found = EventModel(self.session_id, self.number)
            model.events.append(found)
        if self.deliver and found.status is None:
            model.queue(found)


@frozen
class Lease:
    """Lease events."""

    limit: int
    seconds: float

    async def take(self, model: Model, inbox: DeliveryInbox) -> None:
        """Take the step."""
        leased = await inbox.lease(self.limit, seconds=self.seconds)
        expected = model.find_due()[: self.limit]
        for event in expected:
            event.status, event.attempts = DeliveryStatus.LEASED, event.attempts + 1
            event.due_at, event.span = model.now + self.seconds, self.seconds
        found = [(each.event.dedup_key, each.attempt, each.handled_by) for each in leased]
        assert found == [(each.event.dedup_key, each.attempts, each.handled_by) for each in expected]
        for event, delivery in zip(expected, leased, strict=True):
            assert delivery.lease not in {each.lease for each in model.attempts}
            event.lease = delivery.lease
        model.attempts += leased


@frozen
class Settle:
    """Settle one of the latest attempts, which may have lost its lease."""

    back: int
    outcome: DeliveryOutcome

    async def take(self, model: Model, inbox: DeliveryInbox) -> None:
        """Take the step."""
        for delivery in model.latest(self.back + 1)[:1]:
            event = next((each for each in model.events if each.lease == delivery.lease), None)
            if event is not None:
                self.settle(event, model.now)
            assert await inbox.settle(delivery, self.outcome) == (event is not None)

    def settle(self, event: EventModel, now: float) -> None:
        """Settle an attempt of the model."""
        event.handled_by = self.outcome.handled_by
        if self.outcome.status is not DeliveryStatus.LEASED:
            event.status, event.error, event.lease = self.outcome.status, self.outcome.error, None
            event.attempts -= not self.outcome.counts
            event.due_at, event.span = now + self.outcome.delay, self.outcome.delay


@frozen
class Extend:
    """Extend the leases of the latest attempts."""

    count: int
    seconds: float

    async def take(self, model: Model, inbox: DeliveryInbox) -> None:
        """Take the step."""
        latest = model.latest(self.count)
        leases = {delivery.lease for delivery in latest}
        held = [event for event in model.events if event.lease in leases]
        for event in held:
            event.due_at, event.span = model.now + self.seconds, self.seconds
        assert await inbox.extend_leases(latest, seconds=self.seconds) == {event.lease for event in held}


@frozen
class Requeue:
    """Queue an event again."""

    session_id: str | None
    number: int

    async def take(self, model: Model, inbox: DeliveryInbox) -> None:
        """Take the step."""
        found = model.find(self.session_id, self.number)
        is_queued = found is not None and found.status not in PENDING
        if found is not None and is_queued:
            model.queue(found)
        key = make_event(self.session_id, self.number).dedup_key
        assert await inbox.requeue(self.session_id, key) == is_queued


@frozen
class Pass:
    """Set the clock to a later or an earlier time."""

    seconds: float

    async def take(self, model: Model, inbox: DeliveryInbox) -> None:
        """Take the step."""
        model.now += self.seconds
        model.was_set_back |= self.seconds < 0
        model.forgotten |= {session_id for session_id, until in model.refused.items() if until <= model.now}


@frozen
class Erase:
    """Erase a session."""

    session_id: str
    refuse_for: float

    async def take(self, model: Model, inbox: DeliveryInbox) -> None:
        """Take the step, unless the inbox cannot erase."""
        if not isinstance(inbox, ErasableInbox):
            return
        is_stored = any(each.session_id == self.session_id for each in model.events)
        model.events = [each for each in model.events if each.session_id != self.session_id]
        until = model.now + self.refuse_for
        if self.refuse_for > 0:
            model.forgotten.discard(self.session_id)
        else:  # a clock that is set back then may show a time before the erasure
            model.forgotten.add(self.session_id)
        model.refused[self.session_id] = max(until, model.refused.get(self.session_id, until))
        assert await inbox.erase([self.session_id], refuse_for=self.refuse_for) == is_stored


@frozen
class Reopen:
    """Close every handle, and open others."""

    async def take(self, model: Model, inbox: DeliveryInbox) -> None:
        """Do nothing: `check_history` does it."""


History: TypeAlias = list[tuple[int, Step]]


def histories(max_size: int = 40) -> st.SearchStrategy[History]:
    """Return a strategy for histories: steps, each with the handle that takes it."""
    sessions, numbers = st.sampled_from(["a", "b", None]), st.integers(0, 2)
    outcomes = st.builds(
        DeliveryOutcome,
        status=st.sampled_from(DeliveryStatus),
        handled_by=st.frozensets(st.sampled_from(["mail", "ledger"])),
        delay=st.sampled_from(DELAYS),
        error=st.sampled_from([None, "ValueError"]),
        counts=st.sampled_from([True, True, True, False]),
    )
    records = st.builds(Record, sessions, numbers, st.sampled_from([True, True, False]))
    leases = st.builds(Lease, st.integers(1, 4), st.sampled_from(LEASES))
    step = st.one_of(
        records,
        records,
        leases,
        leases,
        st.builds(Settle, st.integers(0, 2), outcomes),
        st.builds(Settle, st.integers(0, 2), outcomes),
        st.builds(Extend, st.integers(0, 3), st.sampled_from(LEASES)),
        st.builds(Requeue, sessions, numbers),
        st.builds(Pass, st.sampled_from(STEPS)),
        st.builds(Erase, st.sampled_from(["a", "b"]), st.sampled_from(REFUSED_FOR)),
        st.just(Reopen()),
    )
    return st.lists(st.tuples(st.integers(0, 1), step), max_size=max_size)


def make_event(session_id: str | None, number: int) -> WebhookEvent:
    """Return one of a few events; the fields of all keys of a session are the same."""
    return event_from({"number": number} if session_id is None else {"sessionId": session_id, "number": number})


async def check_history(
    open_inbox: Callable[[Callable[[], float]], Awaitable[DeliveryInbox]], history: History, *, survives: bool = True
) -> None:
    """Take the steps of a history with two handles on an empty inbox, and compare the inbox with the model.

    Args:
        open_inbox: Returns another handle on the store; its argument is the clock.
        history: The steps.
        survives: Whether the contents survive the closing of all handles.
    """
    model = Model()
    handles = [await open_inbox(lambda: model.now) for _ in range(2)]
    try:
        for place, step in history:
            if isinstance(step, Reopen):
                if survives:
                    await asyncio.gather(*(inbox.aclose() for inbox in handles))
                    handles = [await open_inbox(lambda: model.now) for _ in range(2)]
            else:
                await step.take(model, handles[place])
            await compare(model, handles[1 - place])
    finally:
        for inbox in handles:
            await inbox.aclose()


async def compare(model: Model, inbox: DeliveryInbox) -> None:
    """Compare everything that can be read."""
    records = await inbox.get_deliveries()
    found = [
        (
            each.session_id,
            each.dedup_key,
            each.status,
            each.attempts,
            None if each.due_at is None else round(each.due_at - model.now),
            each.error,
            each.handled_by,
        )
        for each in records
    ]
    expected = [each.describe(model.now) for each in reversed(model.events)]
    if model.was_set_back:
        assert len(found) == len(expected)
        assert set(found) == set(expected)
    else:
        assert found == expected
    for session_id in ("a", "b", None):
        stored = [each.event for each in model.events if each.session_id == session_id]
        assert list(await inbox.get_events(session_id)) == stored
    if isinstance(inbox, SearchableInbox):
        statistics = await inbox.statistics()
        counts = [sum(each.status == status for each in model.events) for status in ("queued", "leased", "dead")]
        assert [statistics.events, statistics.queued, statistics.leased, statistics.dead] == [
            len(model.events),
            *counts,
        ]
