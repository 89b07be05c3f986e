"""The rules of inboxes that pass events to handlers, continued: outcomes, retries, dead letters, and retention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from veriff_async._protocol.webhook import event_from
from veriff_async.config import Retention
from veriff_async.models.delivery import DeliveryOutcome, DeliveryStatus
from veriff_async.testing._delivery_harness import (
    DEAD,
    HANDLED,
    LEASE,
    NOTHING,
    find_record,
    lease_keys,
    lease_one,
    open_two_delivering,
    retry_after,
)
from veriff_async.testing._harness import ContractCase, InboxHandles, check_equal, check_true, get_keys, get_state, rule
from veriff_async.testing.factories import decision_event, session_event, watchlist_event

if TYPE_CHECKING:
    from veriff_async.inbox._protocol import DeliveryInbox

__all__ = ("SettlementContract",)

_STARTED: Final = session_event("s", "started")
_SUBMITTED: Final = session_event("s", "submitted")


class SettlementContract(ContractCase):
    """The rules of outcomes. An inbox without the methods of `DeliveryInbox` skips them."""

    @rule
    async def test_handled_event_is_not_leased_again(self, store: InboxHandles) -> None:
        """A handled event is never due again, and its record has its attempts and handlers."""
        mine, other = await open_two_delivering(store)
        await mine.record(_STARTED, deliver=True)
        outcome = DeliveryOutcome(status=DeliveryStatus.HANDLED, handled_by=frozenset({"mail", "ledger"}))
        check_true(await other.settle(await lease_one(mine), outcome), "the lease was held")
        store.time += 2 * LEASE

        check_equal(await lease_keys(mine), [], "leases of a handled event")
        record = await find_record(other, _STARTED)
        check_equal((record.status, record.attempts), (DeliveryStatus.HANDLED, 1), "the record of a handled event")
        check_equal((record.due_at, record.error), (None, None), "its due time and error")
        check_equal(record.handled_by, outcome.handled_by, "its handlers")

    @rule
    async def test_failed_event_is_retried_after_its_delay(self, store: InboxHandles) -> None:
        """An event that is queued again is due after its delay, with the next attempt and what was done before."""
        mine, other = await open_two_delivering(store)
        await mine.record(_STARTED, deliver=True)
        await mine.record(_SUBMITTED, deliver=True)
        await mine.settle(await lease_one(mine), retry_after(30, handled_by=frozenset({"mail"})))

        record = await find_record(other, _STARTED)
        check_equal((record.status, record.attempts), (DeliveryStatus.QUEUED, 1), "the record of a failed event")
        check_equal((record.error, record.handled_by), ("TimeoutError", {"mail"}), "its error and its handlers")
        store.time += 29
        check_equal(await lease_keys(other), [], "leases before the end of the delay")
        store.time += 2
        again = await lease_one(other)
        check_equal((again.event, again.attempt, again.handled_by), (_STARTED, 2, {"mail"}), "the second attempt")

        await other.settle(again, retry_after(0))
        third = await lease_one(mine)
        check_equal((third.event, third.attempt, third.handled_by), (_STARTED, 3, NOTHING), "without a delay")
        await mine.settle(third, HANDLED)
        check_equal((await find_record(other, _STARTED)).error, None, "the error of an event that was handled then")
        check_equal((await lease_one(other)).event, _SUBMITTED, "the event that waited")

    @rule
    async def test_dead_event_lets_later_ones_through(self, store: InboxHandles) -> None:
        """A dead event is not due again, keeps its error, and later events of its session are leased."""
        mine, other = await open_two_delivering(store)
        await mine.record(_STARTED, deliver=True)
        await mine.record(_SUBMITTED, deliver=True)
        delivery = await lease_one(mine)
        outcome = DeliveryOutcome(
            status=DeliveryStatus.DEAD, error="ValueError at handlers.py:7", handled_by=frozenset({"mail"})
        )
        check_true(await mine.settle(delivery, outcome), "the lease was held")

        check_equal((await lease_one(other)).event, _SUBMITTED, "the event after a dead one")
        store.time += 10 * LEASE
        check_equal(await lease_keys(other), [_SUBMITTED.dedup_key], "events that are due later")
        record = await find_record(other, _STARTED)
        check_equal((record.status, record.attempts, record.due_at), (DeliveryStatus.DEAD, 1, None), "a dead event")
        check_equal((record.error, record.handled_by), (outcome.error, outcome.handled_by), "its error and handlers")

    @rule
    async def test_finished_handlers_are_stored_during_an_attempt(self, store: InboxHandles) -> None:
        """The outcome ``leased`` stores the handlers that have finished and keeps the lease, for the next attempt."""
        mine, other = await open_two_delivering(store)
        await mine.record(_STARTED, deliver=True)
        delivery = await lease_one(mine)
        before = await find_record(mine, _STARTED)

        for names in ({"mail"}, {"mail", "ledger"}):
            outcome = DeliveryOutcome(status=DeliveryStatus.LEASED, handled_by=frozenset(names))
            check_true(await mine.settle(delivery, outcome), "the lease was held")
        record = await find_record(other, _STARTED)
        check_equal((record.status, record.attempts), (DeliveryStatus.LEASED, 1), "the record during the attempt")
        check_equal((record.due_at, record.handled_by), (before.due_at, {"mail", "ledger"}), "lease end and handlers")
        check_equal(await lease_keys(other), [], "leases during the attempt")

        store.time += LEASE + 1  # the process has died
        again = await lease_one(other)
        check_equal((again.attempt, again.handled_by), (2, {"mail", "ledger"}), "the second attempt")

    @rule
    async def test_interrupted_attempt_does_not_count(self, store: InboxHandles) -> None:
        """An attempt that a process gives back when it stops does not count; one during which it died does."""
        mine, other = await open_two_delivering(store)
        await mine.record(_STARTED, deliver=True)
        for _ in range(3):
            delivery = await lease_one(mine)
            check_equal(delivery.attempt, 1, "the attempt after those that did not count")
            await mine.settle(delivery, retry_after(0, counts=False))
        check_equal((await find_record(other, _STARTED)).attempts, 0, "attempts that counted")
        await lease_one(other)
        store.time += LEASE + 1

        check_equal((await lease_one(mine)).attempt, 2, "the attempt after a process died")

    @rule
    async def test_requeued_event_starts_over(self, store: InboxHandles) -> None:
        """A dead, a handled, and an event that was never queued can be queued, with all handlers still to call."""
        mine, other = await open_two_delivering(store)
        events = {"handled": HANDLED, "dead": DEAD, "never": None}
        for session_id, outcome in events.items():
            event = session_event(session_id, "started")
            await mine.record(event, deliver=outcome is not None)
            if outcome is not None:
                names = frozenset({"mail"})
                delivery = await lease_one(mine)
                await mine.settle(delivery, retry_after(0))
                delivery = await lease_one(mine)
                await mine.settle(
                    delivery, DeliveryOutcome(status=outcome.status, handled_by=names, error=outcome.error)
                )

        for session_id in events:
            event = session_event(session_id, "started")
            check_true(await other.requeue(session_id, event.dedup_key), "the event was queued")
            check_true(not await other.requeue(session_id, event.dedup_key), "a queued event is not queued twice")
            record = await find_record(mine, event)
            check_equal((record.status, record.attempts), (DeliveryStatus.QUEUED, 0), "a queued event")
            check_equal((record.error, record.handled_by), (None, NOTHING), "its error and its handlers")
        leased = await mine.lease(10, seconds=LEASE)
        check_equal([each.event.session_id for each in leased], list(events), "the sessions that are handled again")
        check_equal({(each.attempt, each.handled_by) for each in leased}, {(1, NOTHING)}, "their attempts")
        for event in (session_event("dead", "started"), session_event("dead", "submitted")):
            check_true(not await mine.requeue("dead", event.dedup_key), "a leased or an unknown event is not queued")
        check_true(
            not await mine.requeue("unknown", _STARTED.dedup_key), "an event of an unknown session is not queued"
        )

    @rule
    async def test_requeued_event_is_behind_the_others(self, store: InboxHandles) -> None:
        """An event that is queued again comes after the events of its session that wait; others keep their order."""
        mine, other = await open_two_delivering(store)
        events = [event_from({"sessionId": "s", "number": number}) for number in range(4)]
        for event in events:
            await mine.record(event, deliver=True)
        await mine.settle(await lease_one(mine), DEAD)
        await mine.requeue("s", events[0].dedup_key)
        await other.settle(await lease_one(other), retry_after(0))

        found = await _handle_all(mine)
        expected = [events[index].dedup_key for index in (1, 2, 3, 0)]
        check_equal(found, expected, "the order of handling")

    @rule
    async def test_event_without_a_session_is_requeued(self, store: InboxHandles) -> None:
        """An event without a session can be queued again."""
        mine, other = await open_two_delivering(store)
        event = watchlist_event(None)
        await mine.record(event, deliver=True)
        await mine.settle(await lease_one(mine), DEAD)

        check_true(await other.requeue(None, event.dedup_key), "the event was queued")
        check_equal((await lease_one(other)).event, event, "the leased event")

    @rule
    async def test_records_of_deliveries_are_found(self, store: InboxHandles) -> None:
        """`get_deliveries` returns stored events, the latest first, by session and status, up to a limit."""
        mine, other = await open_two_delivering(store)
        steps = (("a", HANDLED), ("b", DEAD), ("c", retry_after(600)), ("d", None))
        for session_id, outcome in steps:
            store.time += 1
            await mine.record(decision_event(session_id, "approved"), deliver=True)
            delivery = await lease_one(mine)
            if outcome is not None:
                await mine.settle(delivery, outcome)
        store.time += 1
        await mine.record(decision_event("e", "approved"), deliver=True)
        store.time += 1
        await mine.record(watchlist_event("a"))

        records = await other.get_deliveries()
        check_equal([record.session_id for record in records], ["a", "e", "d", "c", "b", "a"], "sessions of records")
        statuses = [None, *map(DeliveryStatus, ("queued", "leased", "queued", "dead", "handled"))]
        check_equal([record.status for record in records], statuses, "their statuses")
        check_equal([record.kind for record in records], ["watchlist", *["decision"] * 5], "their kinds")
        check_equal([record.attempts for record in records], [0, 0, 1, 1, 1, 1], "their attempts")
        check_equal([record.due_at is not None for record in records], [False, True, True, True, False, False], "due")
        ages = [round(store.time - record.recorded_at) for record in records]
        check_equal(ages, [0, 1, 2, 3, 4, 5], "seconds since they were recorded")
        check_equal(round((records[2].due_at or 0) - store.time), round(LEASE) - 2, "seconds until the lease ends")
        check_equal(round((records[3].due_at or 0) - store.time), 597, "seconds until the next attempt")

        check_equal(list(await other.get_deliveries(limit=2)), list(records[:2]), "the latest two")
        check_equal(list(await other.get_deliveries(session_id="a")), [records[0], records[5]], "those of a session")
        for status in DeliveryStatus:
            expected = [record for record in records if record.status is status]
            check_equal(list(await other.get_deliveries(status=status)), expected, f"those that are {status}")
        queued = await other.get_deliveries(status=DeliveryStatus.QUEUED, session_id="c", limit=1)
        check_equal(list(queued), [records[3]], "those of a session that are queued")
        check_equal(list(await other.get_deliveries(session_id="unknown")), [], "those of an unknown session")
        check_true("Ada" not in repr(records), "records do not have the name of a person")

    @rule
    async def test_old_session_stays_until_its_events_are_handled(self, store: InboxHandles) -> None:
        """A session is not deleted for its age while an event of it is queued or leased; afterwards it is."""
        store.retention = Retention(max_age=60.0)
        mine, other = await open_two_delivering(store)
        event = decision_event("s", "approved")
        await mine.record(event, deliver=True)
        await mine.record(session_event("plain", "started"))
        store.time += 61
        await other.record(session_event("new", "started"))

        check_equal(set(await other.get_states(["s", "plain", "new"])), {"s", "new"}, "sessions that are stored")
        check_equal(await get_keys(mine), [event.dedup_key], "events of a session that waits for handlers")
        check_equal((await find_record(mine, event)).status, DeliveryStatus.QUEUED, "the status of its event")
        delivery = await lease_one(mine)
        check_equal(delivery.state, await get_state(other), "the state that handlers get")
        store.time += 5
        await other.record(session_event("new", "submitted"))
        check_equal(await get_keys(mine), [event.dedup_key], "events of a session that is handled")

        await mine.settle(delivery, HANDLED)
        await other.record(session_event("newer", "started"))
        check_equal(set(await other.get_states(["s", "new", "newer"])), {"new", "newer"}, "stored sessions afterwards")
        check_equal([*await get_keys(mine), *await mine.get_deliveries(session_id="s")], [], "stored events")

    @rule
    async def test_repeated_event_of_an_old_session_is_a_duplicate(self, store: InboxHandles) -> None:
        """While an event of an old session waits for handlers, the session has its state and knows its events."""
        store.retention = Retention(max_age=60.0)
        mine, other = await open_two_delivering(store)
        await mine.record(decision_event("s", "approved"), deliver=True)
        store.time += 61

        check_true(
            (await other.record(decision_event("s", "approved"), deliver=True)).is_duplicate, "the event is a duplicate"
        )
        late = await mine.record(_STARTED, deliver=True)
        check_equal(late.state and late.state.status, "approved", "the state after a late event")
        check_equal(len(await _handle_all(other)), 2, "events that are handled")

    @rule
    async def test_limits_delete_no_queued_event(self, store: InboxHandles) -> None:
        """Neither the number of sessions nor that of events deletes what waits for handlers; afterwards they do."""
        store.retention = Retention(max_sessions=2, max_events_per_session=2)
        mine, other = await open_two_delivering(store)
        sessions = ("a", "b", "c", "d")
        events = {each: [event_from({"sessionId": each, "number": number}) for number in range(4)] for each in sessions}
        for session_id in sessions:
            for event in events[session_id]:
                store.time += 1
                await mine.record(event, deliver=True)

        for session_id in sessions:
            check_equal(len(await get_keys(other, session_id)), 4, "stored events of a session that waits for handlers")
        found = await _handle_all(other)
        expected = {event.dedup_key for each in events.values() for event in each}
        check_equal((len(found), set(found)), (16, expected), "events that are handled")

        for number in (5, 6, 7):
            store.time += 1
            await mine.record(event_from({"sessionId": "d", "number": number}))
        await mine.record(session_event("e", "started"))
        counts = [len(await get_keys(other, session_id)) for session_id in (*sessions, "e")]
        check_equal(counts, [0, 0, 0, 2, 1], "stored events when all were handled")


async def _handle_all(inbox: DeliveryInbox) -> list[str]:
    """Lease and settle all events that are due, and return their keys in this order."""
    found: list[str] = []
    while leased := await inbox.lease(3, seconds=LEASE):
        for delivery in leased:
            found.append(delivery.event.dedup_key)
            check_true(await inbox.settle(delivery, HANDLED), "the lease was held")
    return found
