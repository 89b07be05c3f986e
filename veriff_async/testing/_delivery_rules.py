"""The rules of inboxes that pass events to handlers (`veriff_async.inbox.DeliveryInbox`): queueing, order, leases."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from attrs import evolve

from veriff_async._protocol.webhook import event_from, event_from_decision
from veriff_async.errors import InboxError
from veriff_async.models.decision_source import DecisionSource
from veriff_async.models.delivery import DeliveryStatus
from veriff_async.models.events import DecisionEvent
from veriff_async.models.state import IgnoredReason
from veriff_async.testing._delivery_harness import (
    DEAD,
    HANDLED,
    LEASE,
    NOTHING,
    find_record,
    lease_keys,
    lease_one,
    open_delivering,
    open_two_delivering,
    retry_after,
)
from veriff_async.testing._harness import ContractCase, InboxHandles, check_equal, check_true, get_keys, get_state, rule
from veriff_async.testing._requirements import require_durable
from veriff_async.testing.factories import decision_event, decision_of, session_event, watchlist_event

if TYPE_CHECKING:
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.json import JsonObject

__all__ = ("DeliveryContract",)

# Times of some databases have fewer digits than a float.
_PRECISION: Final = 0.01


def _make_numbered(session_id: str | None, count: int) -> list[WebhookEvent]:
    """Return different events of a session, all with the same fields of their keys."""
    members: JsonObject = {} if session_id is None else {"sessionId": session_id}
    return [event_from({**members, "number": number}) for number in range(count)]


class DeliveryContract(ContractCase):
    """The rules of queueing and leasing. An inbox without the methods of `DeliveryInbox` skips them."""

    @rule
    async def test_recorded_event_is_queued_in_the_same_step(self, store: InboxHandles) -> None:
        """An event that is recorded with ``deliver`` is due in every handle as soon as `record` returns."""
        mine, other = await open_two_delivering(store)
        event = decision_event("s", "approved", minute=1)
        result = await mine.record(event, deliver=True)
        await mine.record(session_event("another", "started"))

        leased = await other.lease(10, seconds=LEASE)

        check_equal([delivery.event for delivery in leased], [event], "the leased events")
        delivery = leased[0]
        check_equal(dict(delivery.event.raw), dict(event.raw), "the JSON of the leased event")
        check_equal((delivery.attempt, delivery.handled_by), (1, NOTHING), "the first attempt")
        check_equal((delivery.state, delivery.ignored), (result.state, None), "the state of the session")
        check_true(abs(delivery.recorded_at - store.time) < _PRECISION, "recorded_at is the time of the record")
        check_true(delivery.lease not in repr(delivery), "the repr of a delivery does not contain its lease")

    @rule
    async def test_failed_record_queues_nothing(self, store: InboxHandles) -> None:
        """An error during `record` queues nothing, and the event can be recorded and handled afterwards."""
        mine, other = await open_two_delivering(store)
        event = decision_event("s", "approved", minute=1)
        unwritable: JsonObject = {"verification": object()}
        broken = DecisionEvent(decision=evolve(decision_of(event), raw=unwritable), raw=event.raw)

        results = await asyncio.gather(mine.record(broken, deliver=True), return_exceptions=True)

        check_equal([isinstance(result, Exception) for result in results], [True], "whether the record failed")
        check_equal(await lease_keys(other), [], "leased events after a record that failed")
        await mine.record(event, deliver=True)
        check_equal(await lease_keys(other), [event.dedup_key], "leased events after the repetition")

    @rule
    async def test_duplicate_is_never_queued_again(self, store: InboxHandles) -> None:
        """An event that is recorded many times is queued once: not while it waits, nor when it is handled or dead."""
        handles = await open_two_delivering(store)
        events = [decision_event(session_id, "approved") for session_id in ("handled", "dead")]
        for event, outcome in zip(events, (HANDLED, DEAD), strict=True):
            await asyncio.gather(*(inbox.record(event, deliver=True) for inbox in handles * 5))
            delivery = await lease_one(handles[0])
            check_equal(await lease_keys(handles[1]), [], "other leases of an event that was recorded ten times")
            for _ in range(2):
                check_true(
                    (await handles[1].record(event, deliver=True)).is_duplicate, "a repeated event is a duplicate"
                )
                check_equal(await lease_keys(handles[1]), [], "leases of an event that was recorded again")
                await handles[0].settle(delivery, outcome)
            check_equal((await find_record(handles[1], event)).status, outcome.status, "the status afterwards")

    @rule
    async def test_event_recorded_without_delivery_is_queued_later(self, store: InboxHandles) -> None:
        """A duplicate is queued if it was never queued before, as after polling or before handlers were registered."""
        mine, other = await open_two_delivering(store)
        webhook = decision_event("polled", "approved", minute=1)
        await mine.record(event_from_decision(decision_of(webhook)), source=DecisionSource.POLL)
        await mine.record(session_event("s", "started"))
        check_equal(await lease_keys(other), [], "leases of events that were recorded without deliver")

        again = await other.record(session_event("s", "started"), deliver=True)
        await other.record(webhook, deliver=True)

        check_equal(again.ignored, IgnoredReason.DUPLICATE, "an event that was recorded again")
        expected = [session_event("s", "started").dedup_key, webhook.dedup_key]
        check_equal(await lease_keys(mine), expected, "leases of events that were recorded again with deliver")

    @rule
    async def test_ignored_event_is_delivered_with_its_reason(self, store: InboxHandles) -> None:
        """Events that do not count are delivered too, with the reason and the present state of the session."""
        mine, other = await open_two_delivering(store)
        await mine.record(decision_event("s", "approved", minute=2))
        expected = [
            (session_event("s", "started"), IgnoredReason.FINAL),
            (watchlist_event("s"), IgnoredReason.IRRELEVANT),
            (decision_event("s", "declined", minute=9), None),
        ]
        for event, _ in expected:
            await mine.record(event, deliver=True)
        state = await get_state(mine)

        for event, reason in expected:
            delivery = await lease_one(other)
            check_equal((delivery.event, delivery.ignored), (event, reason), "an event that may not count")
            check_equal(delivery.state, state, "the state when the attempt began")
            await other.settle(delivery, HANDLED)

    @rule
    async def test_session_has_one_lease_at_a_time(self, store: InboxHandles) -> None:
        """Events of a session are leased one after the other, in the order of recording."""
        handles = await open_two_delivering(store)
        events = [session_event("s", "started"), *_make_numbered("s", 8), decision_event("s", "approved")]
        for index, event in enumerate(events):
            await handles[index % 2].record(event, deliver=True)

        found: list[WebhookEvent] = []
        for index in range(len(events)):
            mine, other = handles[index % 2], handles[1 - index % 2]
            leased = await mine.lease(100, seconds=LEASE)
            check_equal(len(leased), 1, "leased events of a session")
            check_equal([*await lease_keys(mine), *await lease_keys(other)], [], "leases next to the one of a session")
            found.append(leased[0].event)
            check_true(await other.settle(leased[0], HANDLED), "the lease was held")

        check_equal([each.dedup_key for each in found], [each.dedup_key for each in events], "the order of handling")
        check_equal(await lease_keys(handles[0]), [], "leases when all events are handled")

    @rule
    async def test_sessions_do_not_wait_for_each_other(self, store: InboxHandles) -> None:
        """One event of each session is leased, in the order of recording and up to the limit."""
        mine, other = await open_two_delivering(store)
        sessions = ("c", "a", "b", "e", "d")
        for action in ("started", "submitted"):
            for session_id in sessions:
                await mine.record(session_event(session_id, action), deliver=True)

        first, second = await mine.lease(3, seconds=LEASE), await other.lease(10, seconds=LEASE)

        check_equal([each.event.session_id for each in first], ["c", "a", "b"], "the sessions of three leases")
        check_equal([each.event.session_id for each in second], ["e", "d"], "the sessions of the other leases")
        await other.settle(first[1], HANDLED)
        check_equal(await lease_keys(mine), [session_event("a", "submitted").dedup_key], "the next event of a session")

    @rule
    async def test_events_without_a_session_do_not_wait(self, store: InboxHandles) -> None:
        """Events without a session are leased at the same time; one that fails delays no other."""
        mine, other = await open_two_delivering(store)
        events = [*_make_numbered(None, 3), watchlist_event(None)]
        for event in events[:3]:
            await mine.record(event, deliver=True)

        leased = await mine.lease(10, seconds=LEASE)
        check_equal([each.event for each in leased], events[:3], "leased events without a session")
        check_equal([each.state for each in leased], [None] * 3, "their states")
        await other.settle(leased[0], retry_after(600))
        await other.settle(leased[1], HANDLED)
        await mine.record(events[3], deliver=True)

        check_equal(await lease_keys(other), [events[3].dedup_key], "an event after those that are not handled")
        store.time += 601
        expected = [events[0].dedup_key, events[2].dedup_key, events[3].dedup_key]
        check_equal(await lease_keys(other), expected, "those that are due again")

    @rule
    async def test_waiting_sessions_block_no_other(self, store: InboxHandles) -> None:
        """However many sessions wait for their next attempt, an event of another session is leased at once."""
        mine, other = await open_two_delivering(store)
        await asyncio.gather(*(mine.record(session_event(f"s-{n}", "started"), deliver=True) for n in range(30)))
        await asyncio.gather(*(mine.record(session_event(f"s-{n}", "submitted"), deliver=True) for n in range(30)))
        failed = await mine.lease(30, seconds=LEASE)
        await asyncio.gather(*(mine.settle(each, retry_after(600)) for each in failed[:15]))
        await mine.record(session_event("another", "started"), deliver=True)

        check_equal((await lease_one(other)).event.session_id, "another", "the session of the only event that is due")

    @rule
    async def test_concurrent_leases_are_of_different_events(self, store: InboxHandles) -> None:
        """Tasks of two handles that lease at the same time never get the same event, nor two of a session."""
        handles = await open_two_delivering(store)
        events = {session_id: _make_numbered(session_id, 3) for session_id in map(str, range(12))}
        for index in range(3):
            await asyncio.gather(*(handles[index % 2].record(each[index], deliver=True) for each in events.values()))

        found: dict[str | None, list[str]] = {}
        for _ in range(60):  # far more rounds than necessary
            results = await asyncio.gather(*(inbox.lease(2, seconds=LEASE) for inbox in handles * 4))
            leased = [delivery for result in results for delivery in result]
            sessions = [delivery.event.session_id for delivery in leased]
            check_equal(len(set(sessions)), len(sessions), "sessions of which one event was leased")
            check_equal(len({delivery.lease for delivery in leased}), len(leased), "different leases")
            for delivery in leased:
                found.setdefault(delivery.event.session_id, []).append(delivery.event.dedup_key)
            held = await asyncio.gather(*(handles[0].settle(delivery, HANDLED) for delivery in leased))
            check_true(all(held), "all leases were held")
            if sum(map(len, found.values())) >= 36:  # noqa: PLR2004  all events
                break
        expected = {session_id: [each.dedup_key for each in events[session_id]] for session_id in events}
        check_equal(found, expected, "the events of each session, in the order of handling")

    @rule
    async def test_ended_lease_begins_another_attempt(self, store: InboxHandles) -> None:
        """When a lease ends, the event is leased again, with the next number and another token."""
        mine, other = await open_two_delivering(store)
        await mine.record(session_event("s", "started"), deliver=True)
        await mine.record(session_event("s", "submitted"), deliver=True)
        first = await lease_one(mine)
        store.time += LEASE - 1
        check_equal(await lease_keys(other), [], "leases before the end of the first one")
        store.time += 2

        second = await lease_one(other)

        check_equal((second.event, second.attempt), (first.event, 2), "the second attempt")
        check_true(second.lease != first.lease, "the second attempt has another token")

    @rule
    async def test_lost_lease_stores_nothing(self, store: InboxHandles) -> None:
        """A process that comes back after another attempt has begun changes neither the event nor that attempt."""
        mine, other = await open_two_delivering(store)
        event = session_event("s", "started")
        await mine.record(event, deliver=True)
        lost = await lease_one(mine)
        store.time += LEASE + 1
        current = await lease_one(other)
        before = await find_record(other, event)

        outcomes = (HANDLED, DEAD, retry_after(0), evolve(HANDLED, status=DeliveryStatus.LEASED))
        for outcome in outcomes:
            check_true(
                not await mine.settle(lost, evolve(outcome, handled_by=frozenset({"a"}))), "a lost lease is not held"
            )
        check_equal(await mine.extend_leases([lost], seconds=3600), NOTHING, "extended leases of a lost one")

        check_equal(await find_record(mine, event), before, "the record of the event")
        check_equal(await lease_keys(mine), [], "leases while another attempt runs")
        check_true(await other.settle(current, HANDLED), "the other lease is held")
        check_true(not await other.settle(current, HANDLED), "a settled lease is not held")

    @rule
    async def test_late_outcome_counts_until_another_attempt_begins(self, store: InboxHandles) -> None:
        """A lease that has ended is lost only when another attempt begins, so work that was done counts."""
        mine, other = await open_two_delivering(store)
        for session_id in ("settled", "extended"):
            await mine.record(session_event(session_id, "started"), deliver=True)
        settled, extended = await mine.lease(2, seconds=LEASE)
        store.time += LEASE + 1

        check_true(await other.settle(settled, HANDLED), "an outcome after the end counts")
        held = await mine.extend_leases([settled, extended], seconds=LEASE)
        check_equal(held, frozenset({extended.lease}), "the leases that were extended")
        check_equal(await lease_keys(other), [], "leases afterwards")

    @rule
    async def test_extended_lease_ends_later(self, store: InboxHandles) -> None:
        """An extension counts from now, and may be shorter than the time that is left."""
        mine, other = await open_two_delivering(store)
        sessions = ("a", "b", "c")
        for session_id in sessions:
            await mine.record(session_event(session_id, "started"), deliver=True)
        longer, shorter, plain = await mine.lease(3, seconds=LEASE)

        store.time += 30
        held = await mine.extend_leases([longer], seconds=LEASE)
        held |= await mine.extend_leases([shorter], seconds=10)
        check_equal(held, frozenset({longer.lease, shorter.lease}), "the leases that were extended")
        check_equal(await mine.extend_leases([], seconds=LEASE), NOTHING, "extensions of no lease")

        found: list[str | None] = []
        for seconds in (11, 20, 30):  # 41, 61 and 91 seconds after the start
            store.time += seconds
            found += [each.event.session_id for each in await other.lease(3, seconds=3600)]
        check_equal(found, ["b", "c", "a"], "the order in which the leases end")
        check_true(not await mine.settle(plain, HANDLED), "the lease is lost")

    @rule
    async def test_backlog_is_leased_in_order(self, store: InboxHandles) -> None:
        """Three hundred queued events are leased in the order of recording, some at a time."""
        mine, other = await open_two_delivering(store)
        events = [session_event(f"s-{number}", "started") for number in range(300)]
        await asyncio.gather(*(mine.record(event, deliver=True) for event in events))
        recorded = [record.session_id for record in await other.get_deliveries(limit=1000)]

        found: list[str | None] = []
        for limit in (1, 99, 150, 100):
            leased = await other.lease(limit, seconds=LEASE)
            found += [delivery.event.session_id for delivery in leased]
            held = await asyncio.gather(*(mine.settle(delivery, HANDLED) for delivery in leased))
            check_true(all(held), "all leases were held")
        check_equal(len(found), 300, "leased events")
        check_equal(found, list(reversed(recorded)), "the order of handling")

    @rule
    async def test_advanced_clock_ends_leases(self, store: InboxHandles) -> None:
        """A clock that is set to a later time ends leases and delays early, and nothing else."""
        mine, other = await open_two_delivering(store)
        for session_id in ("leased", "delayed"):
            await mine.record(session_event(session_id, "started"), deliver=True)
        leased, delayed = await mine.lease(2, seconds=LEASE)
        await mine.settle(delayed, retry_after(600))
        store.time += 3 * 3600

        again = await other.lease(10, seconds=LEASE)
        expected = [("leased", 2), ("delayed", 2)]
        check_equal([(each.event.session_id, each.attempt) for each in again], expected, "events that are due")
        check_true(not await mine.settle(leased, HANDLED), "the lease is lost")

    @rule
    async def test_clock_set_back_blocks_nothing(self, store: InboxHandles) -> None:
        """A clock that is set back by hours makes waiting events due; by seconds, it ends no lease early."""
        mine, other = await open_two_delivering(store)
        for session_id in ("leased", "delayed"):
            await mine.record(session_event(session_id, "started"), deliver=True)
        _, delayed = await mine.lease(2, seconds=LEASE)
        await mine.settle(delayed, retry_after(LEASE))
        # Clocks that are set by NTP are corrected by little at a time.
        store.time -= 5
        check_equal(await lease_keys(other), [], "leases after a small correction of the clock")
        store.time -= 3 * 3600

        again = await other.lease(10, seconds=LEASE)
        expected = [("leased", 2), ("delayed", 2)]
        check_equal([(each.event.session_id, each.attempt) for each in again], expected, "events that are due")
        await mine.record(session_event("new", "started"), deliver=True)
        check_equal((await lease_one(mine)).event.session_id, "new", "an event that was recorded afterwards")
        store.time += LEASE + 1
        check_equal(len(await lease_keys(mine)), 3, "events that are due when the leases of the new time have ended")

    @rule
    async def test_cancelled_calls_lose_nothing(self, store: InboxHandles) -> None:
        """Whenever `record`, `lease` or `settle` is cancelled, the event is handled in the end."""
        inbox = await open_delivering(store)
        # One iteration of the loop more each time cancels a call at another one of its awaits.
        for iterations in range(6):
            event = session_event(f"s-{iterations}", "started")
            await _cancel(asyncio.create_task(inbox.record(event, deliver=True)), iterations)
            await inbox.record(event, deliver=True)
            await _cancel(asyncio.create_task(inbox.lease(1, seconds=LEASE)), iterations)
            store.time += LEASE + 1
            found = await inbox.lease(1, seconds=LEASE)
            if not found:  # a store may finish the cancelled call later, in a thread for example
                store.time += LEASE + 1
            delivery = found[0] if found else await lease_one(inbox)
            check_equal(
                (delivery.event, delivery.attempt in {1, 2}), (event, True), "the attempt after a cancelled one"
            )
            await _cancel(asyncio.create_task(inbox.settle(delivery, HANDLED)), iterations)
            if not await inbox.settle(delivery, HANDLED):
                status = (await find_record(inbox, event)).status
                check_equal(status, DeliveryStatus.HANDLED, "the status after a cancelled call")
        store.time += LEASE + 1
        check_equal(await lease_keys(inbox), [], "events that are due in the end")

    @rule
    async def test_deliveries_survive_closing(self, store: InboxHandles) -> None:
        """The queue, leases, attempts and the handlers that have finished are there after all handles were closed."""
        require_durable(self)
        mine = await open_delivering(store)
        events = [session_event(each, "started") for each in ("leased", "retried", "dead", "handled", "queued")]
        for event in events[:4]:
            await mine.record(event, deliver=True)
        leased, retried, dead, handled = await mine.lease(4, seconds=LEASE)
        await mine.settle(retried, retry_after(600, handled_by=frozenset({"mail"})))
        await mine.settle(dead, DEAD)
        await mine.settle(handled, HANDLED)
        await mine.record(events[4], deliver=True)
        before = await mine.get_deliveries()
        await store.close()

        after = await open_delivering(store)
        check_equal(list(await after.get_deliveries()), list(before), "records after closing")
        check_equal(await lease_keys(after), [events[4].dedup_key], "events that are due")
        check_true(await after.settle(leased, HANDLED), "a lease from before the closing is held")
        store.time += 601
        again = await after.lease(1, seconds=LEASE)
        expected = [(events[1], 2, frozenset({"mail"}))]
        check_equal([(each.event, each.attempt, each.handled_by) for each in again], expected, "the second attempt")

    @rule
    async def test_deliveries_of_any_id(self, store: InboxHandles) -> None:
        """Ids of any characters are delivered; those that a store cannot hold raise an `InboxError`."""
        mine, other = await open_two_delivering(store)
        odd = (" ", "ÜŁ日本🛂", 'it\'s "quoted"; DROP TABLE events;--', "a:b:*?[c]{d}%_\\", "n" * 4_000)
        for session_id in (*odd, "nul\x00inside", "half \ud83d a sign"):
            event = decision_event(session_id, "approved", attempt_id=session_id)
            try:
                await mine.record(event, deliver=True)
            except InboxError:
                check_true(session_id not in odd, "an ordinary id can be stored")
                continue
            delivery = await lease_one(other)
            check_equal(delivery.event, event, "a leased event")
            check_true(await mine.settle(delivery, DEAD), "the lease was held")
            check_equal((await find_record(other, event)).status, DeliveryStatus.DEAD, "the status")
            check_true(await mine.requeue(session_id, event.dedup_key), "the event was queued again")
            check_true(await mine.settle(await lease_one(other), HANDLED), "the lease was held")
            check_equal(await get_keys(other, session_id), [event.dedup_key], "stored events")


async def _cancel(task: asyncio.Task[object], iterations: int) -> None:
    for _ in range(iterations):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
