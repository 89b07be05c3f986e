"""The rules of inboxes in which people and programs search (`veriff_async.inbox.SearchableInbox`)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from veriff_async._protocol.webhook import event_from
from veriff_async.config import Retention
from veriff_async.models.delivery import DeliveryStatus
from veriff_async.models.enums import Status
from veriff_async.models.inbox_search import SessionSearch, SessionSummary
from veriff_async.testing._delivery_harness import DEAD, HANDLED, LEASE, lease_one
from veriff_async.testing._harness import ContractCase, InboxHandles, check_equal, check_true, rule
from veriff_async.testing._requirements import require_deliveries, require_durable, require_search
from veriff_async.testing.factories import decision_event, session_event, watchlist_event

if TYPE_CHECKING:
    from veriff_async.inbox._protocol import SearchableInbox
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.json import JsonObject

__all__ = ("SearchContract",)

# Times of some databases have fewer digits than a float.
_PRECISION: Final = 0.01


def _event_of(session_id: str, action: str, **members: object) -> WebhookEvent:
    raw: JsonObject = {"id": session_id, "attemptId": "first", "code": 7001, "action": action, **members}
    return event_from(raw)


class SearchContract(ContractCase):
    """The rules of searches and statistics. An inbox without these methods skips them."""

    @rule
    async def test_search_without_conditions_finds_every_session(self, store: InboxHandles) -> None:
        """Each session is summarized once, the one with the latest event first."""
        mine, other = require_search(await store.open()), require_search(await store.open())
        times: dict[str | None, float] = {}
        for session_id in ("a", "b", "c"):
            await mine.record(session_event(session_id, "started"))
        for event in (watchlist_event(None), decision_event("a", "approved"), watchlist_event("d")):
            store.time += 1
            times[event.session_id] = store.time
            await mine.record(event)

        page = await other.find_sessions(SessionSearch())
        found = {summary.session_id: summary for summary in page.sessions}
        check_equal([summary.session_id for summary in page.sessions[:3]], ["d", "a", None], "the latest sessions")
        check_equal((set(found), page.next_page), ({"a", "b", "c", "d", None}, None), "all sessions on one page")
        check_equal(
            [found[each].status for each in ("a", "b", "d", None)], ["approved", "started", None, None], "statuses"
        )
        check_equal([found[each].events for each in ("a", "b", "d", None)], [2, 1, 1, 1], "numbers of events")
        for known, time in times.items():
            check_true(abs(found[known].recorded_at - time) < _PRECISION, "recorded_at is the time of the last event")
        check_equal((found["a"].queued, found["a"].dead), (0, 0), "events for handlers")

    @rule
    async def test_pages_contain_each_session_once(self, store: InboxHandles) -> None:
        """Pages of any size contain each session once, in one order, also sessions of the same moment."""
        mine, other = require_search(await store.open()), require_search(await store.open())
        for _ in range(3):  # each time, nine sessions get an event at the same moment
            store.time += 1
            recorded = [session_event(f"s-{store.time}-{number}", "started") for number in range(9)]
            await asyncio.gather(*(mine.record(event) for event in recorded))
        everything = await _find_all(mine, SessionSearch(), limit=1000)
        check_equal(len(set(everything)), 27, "sessions on one page")
        check_equal(
            [each.recorded_at for each in everything],
            sorted((each.recorded_at for each in everything), reverse=True),
            "times",
        )

        for limit in (1, 4, 9, 27):
            check_equal(await _find_all(other, SessionSearch(), limit=limit), everything, f"pages of {limit}")
        first = await other.find_sessions(SessionSearch(), limit=10)
        await mine.record(session_event("new", "started"))
        second = await other.find_sessions(SessionSearch(), limit=100, page=first.next_page)
        check_equal([*first.sessions, *second.sessions], everything, "pages between which another session came")

    @rule
    async def test_pages_of_a_search_with_conditions(self, store: InboxHandles) -> None:
        """Pages of a search are as long as the limit while more sessions follow."""
        mine, other = require_search(await store.open()), require_search(await store.open())
        for number in range(20):
            store.time += 1
            await mine.record(decision_event(f"s-{number}", "approved" if number % 5 == 0 else "declined"))

        search = SessionSearch(status=Status.APPROVED)
        first = await other.find_sessions(search, limit=3)
        second = await other.find_sessions(search, limit=3, page=first.next_page)
        check_equal([each.session_id for each in first.sessions], ["s-15", "s-10", "s-5"], "the first page")
        check_equal([each.session_id for each in second.sessions], ["s-0"], "the second page")
        check_equal(second.next_page, None, "the page after the last one")

    @rule
    async def test_session_is_found_by_its_person(self, store: InboxHandles) -> None:
        """Sessions are found by the exact values of ``vendor_data`` and ``end_user_id`` of any of their events."""
        mine, other = require_search(await store.open()), require_search(await store.open())
        odd = "Łukasz 🛂 'x'; -- %_*\\"
        for event in (
            _event_of("a", "started", vendorData="customer-1", endUserId="user-1"),
            _event_of("b", "started", vendorData="customer-1", endUserId="user-2"),
            _event_of("c", "started", vendorData="customer-11", endUserId=None),
            _event_of("d", "started", vendorData="user-1", endUserId=odd),
            _event_of("a", "submitted", vendorData="customer-2"),
            event_from({"status": "success", "verification": {"id": "e", "status": "approved", "vendorData": odd}}),
            watchlist_event("a"),
            event_from(
                {"checkType": "initial_result", "matchStatus": "no_match", "sessionId": "f", "vendorData": "list"}
            ),
            event_from({"eventType": "newer.kind", "sessionId": "g", "vendorData": "newer", "endUserId": "user-9"}),
            event_from({"sessionId": "h", "vendorData": {"not": "text"}, "endUserId": 5}),
        ):
            store.time += 1
            await mine.record(event)

        expected: dict[SessionSearch, list[str]] = {
            SessionSearch(vendor_data="customer-1"): ["a", "b"],
            SessionSearch(vendor_data="customer-2"): ["a"],
            SessionSearch(vendor_data="CUSTOMER-1"): [],
            SessionSearch(vendor_data="customer"): [],
            SessionSearch(vendor_data="customer-%"): [],
            SessionSearch(vendor_data=odd): ["e"],
            SessionSearch(vendor_data="list"): ["f"],
            SessionSearch(vendor_data="newer"): ["g"],
            SessionSearch(end_user_id="user-1"): ["a"],
            SessionSearch(end_user_id="user-9"): ["g"],
            SessionSearch(end_user_id=odd): ["d"],
            SessionSearch(vendor_data="customer-1", end_user_id="user-2"): ["b"],
            SessionSearch(vendor_data="customer-2", end_user_id="user-2"): [],
            SessionSearch(vendor_data="customer-1", session_id="b"): ["b"],
        }
        for search, sessions in expected.items():
            found = await _find_all(other, search, limit=1)
            check_equal(sorted(str(each.session_id) for each in found), sessions, "sessions of a person")

    @rule
    async def test_session_is_found_by_its_status_and_time(self, store: InboxHandles) -> None:
        """Sessions are found by id, present status and the time of their last event; all conditions must hold."""
        mine, other = require_search(await store.open()), require_search(await store.open())
        # A whole number, as times of some databases have fewer digits than a float.
        start = float(round(store.time))
        for number, session_id in enumerate(("a", "b", "c", "d")):
            store.time = start + 10 * number
            await mine.record(session_event(session_id, "started"))
        store.time = start + 40
        await mine.record(decision_event("a", "approved"))

        expected: dict[SessionSearch, list[str]] = {
            SessionSearch(session_id="b"): ["b"],
            SessionSearch(session_id="unknown"): [],
            SessionSearch(status=Status.STARTED): ["d", "c", "b"],
            SessionSearch(status=Status.APPROVED): ["a"],
            SessionSearch(status=Status.DECLINED): [],
            SessionSearch(since=start + 20): ["a", "d", "c"],
            SessionSearch(until=start + 20): ["b"],
            SessionSearch(since=start + 15, until=start + 35): ["d", "c"],
            SessionSearch(since=start + 20, status=Status.STARTED): ["d", "c"],
            SessionSearch(session_id="a", status=Status.STARTED): [],
            SessionSearch(session_id="a", status=Status.APPROVED, since=start + 40): ["a"],
            SessionSearch(since=start + 1000): [],
            SessionSearch(until=start - 1000): [],
        }
        for search, sessions in expected.items():
            for limit in (1, 100):
                found = await _find_all(other, search, limit=limit)
                check_equal([each.session_id for each in found], sessions, f"sessions that {search} finds")

    @rule
    async def test_session_is_found_by_its_deliveries(self, store: InboxHandles) -> None:
        """Sessions are found by the delivery status of an event, and summaries count what waits and what is dead."""
        mine, other = require_search(await store.open()), require_search(await store.open())
        delivering = require_deliveries(mine)
        for session_id, outcome in (("dead", DEAD), ("handled", HANDLED), ("leased", None)):
            await delivering.record(session_event(session_id, "started"), deliver=True)
            delivery = await lease_one(delivering)
            if outcome is not None:
                await delivering.settle(delivery, outcome)
            await delivering.record(session_event(session_id, "submitted"), deliver=session_id == "leased")
        await delivering.record(session_event("queued", "started"), deliver=True)
        await delivering.record(session_event("never", "started"))

        expected = {"dead": ["dead"], "handled": ["handled"], "leased": ["leased"], "queued": ["leased", "queued"]}
        for status, sessions in expected.items():
            found = await _find_all(other, SessionSearch(delivery=DeliveryStatus(status)), limit=1)
            check_equal(sorted(str(each.session_id) for each in found), sessions, f"sessions with {status} events")
        counts = {
            each.session_id: (each.queued, each.dead) for each in await _find_all(other, SessionSearch(), limit=9)
        }
        expected_counts = {"dead": (0, 1), "handled": (0, 0), "leased": (2, 0), "queued": (1, 0), "never": (0, 0)}
        check_equal(counts, expected_counts, "events that wait and that are dead")

    @rule
    async def test_search_finds_no_deleted_session(self, store: InboxHandles) -> None:
        """A session that the retention has deleted is found by no search, and is not counted."""
        store.retention = Retention(max_age=60.0)
        mine = require_search(await store.open())
        await mine.record(_event_of("old", "started", vendorData="customer-1"))
        store.time += 61
        await mine.record(_event_of("new", "started", vendorData="customer-1"))

        for search in (SessionSearch(), SessionSearch(vendor_data="customer-1"), SessionSearch(status=Status.STARTED)):
            found = await _find_all(mine, search, limit=10)
            check_equal([each.session_id for each in found], ["new"], "sessions that are found")
        statistics = await mine.statistics()
        check_equal((statistics.sessions, statistics.events), (1, 1), "sessions and events that are counted")

    @rule
    async def test_searches_show_no_person(self, store: InboxHandles) -> None:
        """Neither a search, nor what it finds, nor its pages contain a value of a person in their reprs."""
        mine = require_search(await store.open())
        for session_id in ("a", "b"):
            await mine.record(_event_of(session_id, "started", vendorData="Ada Løvelace", endUserId="ada@example.com"))

        search = SessionSearch(vendor_data="Ada Løvelace", end_user_id="ada@example.com")
        page = await mine.find_sessions(search, limit=1)
        check_equal((len(page.sessions), page.next_page is not None), (1, True), "sessions on the first page")
        text = f"{search!r} {page!r} {await mine.statistics()!r} {mine!r}".lower()
        check_true("ada" not in text, "the reprs contain no value of a person")

    @rule
    async def test_statistics_count_what_is_stored(self, store: InboxHandles) -> None:
        """Statistics count sessions, events and deliveries, and have the age of the oldest."""
        mine, other = require_search(await store.open()), require_search(await store.open())
        empty = await mine.statistics()
        counts = (empty.sessions, empty.events, empty.queued, empty.leased, empty.dead)
        check_equal((counts, empty.oldest_queued_age, empty.oldest_session_age), ((0,) * 5, None, None), "empty inbox")
        await mine.record(session_event("a", "started"))
        store.time += 100
        for session_id in ("b", "c"):
            await mine.record(session_event(session_id, "started"))
            await mine.record(session_event(session_id, "submitted"))
        store.time += 20

        found = await other.statistics()
        check_equal((found.sessions, found.events), (3, 5), "sessions and events")
        check_equal((found.queued, found.leased, found.dead), (0, 0, 0), "deliveries")
        check_equal(round(found.oldest_session_age or 0), 120, "seconds since the last event of the oldest session")
        check_equal(found.oldest_queued_age, None, "seconds since the oldest queued event")
        check_true(found.bytes is None or found.bytes > 0, "bytes are None or a size")

    @rule
    async def test_statistics_count_deliveries(self, store: InboxHandles) -> None:
        """Statistics count queued, leased and dead events; the oldest one is queued or leased."""
        mine, other = require_search(await store.open()), require_search(await store.open())
        delivering = require_deliveries(mine)
        for session_id in ("dead", "handled", "leased"):
            store.time += 10
            await delivering.record(session_event(session_id, "started"), deliver=True)
            await delivering.record(session_event(session_id, "submitted"))
        dead, handled, leased = await delivering.lease(3, seconds=LEASE)
        store.time += 10
        await delivering.record(session_event("leased", "submitted"), deliver=True)
        await delivering.record(session_event("queued", "started"), deliver=True)

        before = await other.statistics()
        check_equal((before.queued, before.leased, before.dead), (2, 3, 0), "deliveries before they are settled")
        check_equal(round(before.oldest_queued_age or 0), 30, "seconds since the oldest leased event")
        await delivering.settle(dead, DEAD)
        await delivering.settle(handled, HANDLED)
        after = await other.statistics()
        check_equal((after.queued, after.leased, after.dead), (2, 1, 1), "deliveries after they were settled")
        check_equal(round(after.oldest_queued_age or 0), 10, "seconds since the oldest leased event")

        await delivering.requeue("dead", dead.event.dedup_key)
        await delivering.settle(leased, HANDLED)
        last = await other.statistics()
        check_equal((last.queued, last.leased, last.dead), (3, 0, 0), "deliveries after a dead event was queued")
        check_equal(round(last.oldest_queued_age or 0), 30, "seconds since the oldest queued event")

    @rule
    async def test_search_survives_closing(self, store: InboxHandles) -> None:
        """Sessions are found by their values after all handles were closed."""
        require_durable(self)
        mine = require_search(await store.open())
        await mine.record(_event_of("a", "started", vendorData="customer-1", endUserId="user-1"))
        before = await mine.find_sessions(SessionSearch(vendor_data="customer-1"))
        await store.close()

        after = require_search(await store.open())
        check_equal(await after.find_sessions(SessionSearch(vendor_data="customer-1")), before, "what is found")
        check_equal(await after.find_sessions(SessionSearch(end_user_id="user-1")), before, "what is found")


async def _find_all(inbox: SearchableInbox, search: SessionSearch, *, limit: int) -> list[SessionSummary]:
    """Return what all pages of a search contain."""
    page = await inbox.find_sessions(search, limit=limit)
    found = list(page.sessions)
    while page.next_page is not None:
        check_equal(len(page.sessions), limit, "sessions on a page before the last one")
        page = await inbox.find_sessions(search, limit=limit, page=page.next_page)
        check_true(page.sessions, "a next page has sessions")
        found += page.sessions
    return found
