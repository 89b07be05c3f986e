"""The rules of inboxes that can erase sessions (`veriff_async.inbox.ErasableInbox`)."""

from __future__ import annotations

import asyncio
from typing import Final

from veriff_async._protocol.webhook import event_from
from veriff_async.config import Retention
from veriff_async.inbox._protocol import DeliveryInbox, SearchableInbox, SubmissionInbox
from veriff_async.models.decision_source import DecisionSource
from veriff_async.models.inbox_search import SessionSearch
from veriff_async.models.state import IgnoredReason
from veriff_async.testing._delivery_harness import DEAD, HANDLED, LEASE, lease_keys, lease_one
from veriff_async.testing._harness import ContractCase, InboxHandles, check_equal, check_true, get_keys, get_state, rule
from veriff_async.testing._requirements import require_deliveries, require_durable, require_erasure, require_search
from veriff_async.testing.factories import decision_event, session_event, watchlist_event

__all__ = ("ErasureContract",)

_DAY: Final = 86_400.0


class ErasureContract(ContractCase):
    """The rules of erasure. An inbox without `erase` skips them."""

    @rule
    async def test_erased_session_is_gone(self, store: InboxHandles) -> None:
        """No method of any handle returns anything of an erased session; other sessions stay."""
        mine, other = require_erasure(await store.open()), require_erasure(await store.open())
        for session_id in ("s", "kept"):
            await mine.record(session_event(session_id, "started"))
            await mine.record(decision_event(session_id, "approved"))
        await mine.record(watchlist_event(None))
        if isinstance(mine, SubmissionInbox):
            await mine.save_submission("s", "text")

        check_equal(await mine.erase(["s"]), 1, "erased sessions")

        for inbox in (mine, other):
            check_equal(set(await inbox.get_states(["s", "kept"])), {"kept"}, "sessions with a state")
            check_equal(await get_keys(inbox), [], "events of the erased session")
            counts = len(await get_keys(inbox, "kept")), len(await get_keys(inbox, None))
            check_equal(counts, (2, 1), "events of other sessions, and without a session")
            if isinstance(inbox, SearchableInbox):
                page = await inbox.find_sessions(SessionSearch())
                check_true("s" not in {each.session_id for each in page.sessions}, "no search finds it")
                check_equal((await inbox.find_sessions(SessionSearch(session_id="s"))).sessions, (), "sessions found")
            if isinstance(inbox, DeliveryInbox):
                check_equal(list(await inbox.get_deliveries(session_id="s")), [], "records of its events")

    @rule
    async def test_events_of_an_erased_session_are_ignored(self, store: InboxHandles) -> None:
        """Events of an erased session, repeated or new, are acknowledged as ``erased`` and not stored."""
        mine, other = require_erasure(await store.open()), require_erasure(await store.open())
        await mine.record(decision_event("s", "approved"))
        await mine.erase(["s"])

        for event in (decision_event("s", "approved"), session_event("s", "submitted"), watchlist_event("s")):
            for source in (DecisionSource.WEBHOOK, DecisionSource.POLL):
                result = await other.record(event, source=source)
                check_equal((result.event, result.state, result.ignored), (event, None, IgnoredReason.ERASED), "result")
                check_true(not result.is_duplicate, "an event of an erased session is no duplicate")
            if isinstance(mine, DeliveryInbox):
                check_equal((await mine.record(event, deliver=True)).ignored, IgnoredReason.ERASED, "result")
                check_equal(await lease_keys(mine), [], "leased events")
        if isinstance(other, SubmissionInbox):
            await other.save_submission("s", "text")
        check_equal([*await get_keys(mine), *await mine.get_states(["s"])], [], "stored events and states")
        check_equal((await mine.record(session_event("another", "started"))).ignored, None, "another session")

    @rule
    async def test_erased_session_may_return_after_its_time(self, store: InboxHandles) -> None:
        """When the time has passed for which they are refused, events of the session are new."""
        mine, other = require_erasure(await store.open()), require_erasure(await store.open())
        if isinstance(mine, SubmissionInbox):
            await mine.save_submission("s", "text")
        await mine.record(decision_event("s", "approved"))
        await mine.erase(["s"], refuse_for=3600)
        store.time += 3599
        check_equal((await other.record(session_event("s", "started"))).ignored, IgnoredReason.ERASED, "before its end")
        store.time += 2

        result = await other.record(session_event("s", "started"))
        check_equal((result.ignored, result.state and result.state.status), (None, "started"), "a new event")
        check_equal(result.state and result.state.submission, None, "the submission of the erased session")
        check_equal(len(await get_keys(mine)), 1, "stored events")

    @rule
    async def test_erasing_without_refusing(self, store: InboxHandles) -> None:
        """With ``refuse_for=0``, the session may be recorded again at once."""
        mine, other = require_erasure(await store.open()), require_erasure(await store.open())
        await mine.record(decision_event("s", "approved"))

        check_equal(await mine.erase(["s"], refuse_for=0), 1, "erased sessions")
        check_equal((await other.record(session_event("s", "started"))).ignored, None, "an event")
        check_equal((await get_state(mine)).status, "started", "the state")

    @rule
    async def test_unknown_sessions_are_refused_too(self, store: InboxHandles) -> None:
        """Sessions that are not stored count as not erased, and their later events are refused all the same."""
        mine, other = require_erasure(await store.open()), require_erasure(await store.open())
        await mine.record(session_event("s", "started"))

        check_equal(await mine.erase(["unknown", "s", "s", "never"]), 1, "erased sessions")
        check_equal(await other.erase({"s", "unknown"}), 0, "sessions that are erased again")
        check_equal(await other.erase([]), 0, "sessions of an empty collection")
        for session_id in ("s", "unknown", "never"):
            result = await other.record(session_event(session_id, "started"))
            check_equal(result.ignored, IgnoredReason.ERASED, "an event of an erased session")

    @rule
    async def test_many_sessions_are_erased_in_one_call(self, store: InboxHandles) -> None:
        """Hundreds of sessions are erased in one call, with ids of any characters."""
        mine, other = require_erasure(await store.open()), require_erasure(await store.open())
        odd = (" ", "ÜŁ日本🛂", 'it\'s "quoted"; DROP TABLE events;--', "a:b:*?[c]{d}%_\\", "n" * 4_000)
        stored = [*odd, *(f"s-{number}" for number in range(40))]
        await asyncio.gather(*(mine.record(session_event(each, "started")) for each in [*stored, "kept"]))

        erased = await other.erase([*stored, *(f"unknown-{number}" for number in range(500))])
        check_equal(erased, len(stored), "erased sessions")
        check_equal(set(await mine.get_states([*stored, "kept"])), {"kept"}, "sessions that are stored")
        results = [await mine.record(session_event(each, "started")) for each in (*odd, "unknown-499")]
        check_equal({result.ignored for result in results}, {IgnoredReason.ERASED}, "why their events are ignored")

    @rule
    async def test_queued_events_of_an_erased_session_are_gone(self, store: InboxHandles) -> None:
        """Queued, leased and dead events are erased; a handler that works on one finds its lease lost."""
        mine, other = require_erasure(await store.open()), require_erasure(await store.open())
        delivering = require_deliveries(mine)
        for session_id, outcome in (("dead", DEAD), ("leased", None)):
            await delivering.record(session_event(session_id, "started"), deliver=True)
            delivery = await lease_one(delivering)
            if outcome is not None:
                await delivering.settle(delivery, outcome)
        leased = delivery  # the last one
        for session_id in ("leased", "queued", "kept"):
            await delivering.record(session_event(session_id, "submitted"), deliver=True)

        check_equal(await other.erase(["dead", "leased", "queued"]), 3, "erased sessions")

        check_true(not await delivering.settle(leased, HANDLED), "the lease of an erased event is lost")
        check_equal(await delivering.extend_leases([leased], seconds=LEASE), frozenset[str](), "extended leases")
        for session_id in ("dead", "leased", "queued"):
            for event in (session_event(session_id, "started"), session_event(session_id, "submitted")):
                check_true(not await delivering.requeue(session_id, event.dedup_key), "erased events are not queued")
        store.time += 2 * LEASE
        check_equal(await lease_keys(delivering), [session_event("kept", "submitted").dedup_key], "leased events")
        check_equal([each.session_id for each in await delivering.get_deliveries()], ["kept"], "records")

    @rule
    async def test_values_of_an_erased_session_are_not_found(self, store: InboxHandles) -> None:
        """No search by a value of the person finds an erased session, and it is not counted."""
        mine, other = require_erasure(await store.open()), require_search(await store.open())
        for session_id in ("s", "kept"):
            members = {"id": session_id, "action": "started", "code": 7001, "vendorData": "ada", "endUserId": "user"}
            await mine.record(event_from(members))
        await mine.erase(["s"])

        for search in (SessionSearch(vendor_data="ada"), SessionSearch(end_user_id="user"), SessionSearch()):
            page = await other.find_sessions(search)
            check_equal([each.session_id for each in page.sessions], ["kept"], "sessions that are found")
        statistics = await other.statistics()
        check_equal((statistics.sessions, statistics.events), (1, 1), "sessions and events that are counted")

    @rule
    async def test_retention_keeps_erasures(self, store: InboxHandles) -> None:
        """Events of an erased session are refused although many other sessions came and expired since."""
        store.retention = Retention(max_age=60.0, max_sessions=3)
        mine, other = require_erasure(await store.open()), require_erasure(await store.open())
        await mine.record(session_event("s", "started"))
        await mine.erase(["s", "unknown"], refuse_for=_DAY)
        for number in range(10):
            store.time += 20
            await other.record(session_event(f"s-{number}", "started"))

        for session_id in ("s", "unknown"):
            result = await mine.record(session_event(session_id, "started"))
            check_equal(result.ignored, IgnoredReason.ERASED, "an event of an erased session")

    @rule
    async def test_erasure_survives_closing(self, store: InboxHandles) -> None:
        """An erased session stays erased and refused after all handles were closed."""
        require_durable(self)
        mine = require_erasure(await store.open())
        await mine.record(session_event("s", "started"))
        await mine.erase(["s"])
        await store.close()

        after = await store.open()
        check_equal((await after.record(session_event("s", "started"))).ignored, IgnoredReason.ERASED, "an event")
        check_equal([*await get_keys(after), *await after.get_states(["s"])], [], "stored events and states")

    @rule
    async def test_record_during_erasure_is_whole_or_refused(self, store: InboxHandles) -> None:
        """Events that are recorded while their session is erased are either erased or refused."""
        handles = [require_erasure(await store.open()), require_erasure(await store.open())]
        for number in range(5):
            session_id = f"s-{number}"
            events = [event_from({"sessionId": session_id, "number": each}) for each in range(6)]
            records = [handles[index % 2].record(event) for index, event in enumerate(events)]
            await asyncio.gather(*records[:3], handles[1].erase([session_id]), *records[3:])

            check_equal(await get_keys(handles[0], session_id), [], "events of an erased session")

    @rule
    async def test_cancelled_erasure_can_be_repeated(self, store: InboxHandles) -> None:
        """Whenever `erase` is cancelled, a second call erases everything that is left."""
        inbox = require_erasure(await store.open())
        for iterations in range(6):
            session_id = f"s-{iterations}"
            await inbox.record(session_event(session_id, "started"))
            task = asyncio.create_task(inbox.erase([session_id]))
            for _ in range(iterations):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await inbox.erase([session_id])

            check_equal(await get_keys(inbox, session_id), [], "events of an erased session")
            result = await inbox.record(session_event(session_id, "started"))
            check_equal(result.ignored, IgnoredReason.ERASED, "an event of an erased session")
