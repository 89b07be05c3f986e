"""The inbox of one process: its behaviour beyond the contract."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from threading import Thread
from typing import TYPE_CHECKING, Final, cast

import pytest

from veriff_async._protocol.webhook import event_from
from veriff_async.inbox import DeliveryOutcome, DeliveryStatus, Inbox, MemoryInbox, Retention, SessionSearch
from veriff_async.models.enums import Status
from veriff_async.models.events import DecisionEvent, SessionEvent
from veriff_async.testing import decision_event, session_event

if TYPE_CHECKING:
    from collections.abc import Coroutine

pytestmark = pytest.mark.anyio

HANDLED: Final = DeliveryOutcome(status=DeliveryStatus.HANDLED)


async def test_memory_inbox_is_an_inbox() -> None:
    """It implements the protocol, and its repr has the number of sessions, not their ids."""
    async with MemoryInbox() as inbox:
        await inbox.record(session_event("secret-id", "started"))

        assert isinstance(inbox, Inbox)
        assert "<MemoryInbox of 1 session>" == repr(inbox)


async def test_closing_deletes_everything() -> None:
    """Closing deletes everything."""
    async with MemoryInbox() as inbox:
        await inbox.record(session_event("s", "started"))

    assert {} == await inbox.get_states(["s"])


async def test_default_limit_is_a_hundred_thousand_sessions() -> None:
    """By default the number of sessions is limited to what fits in memory; a retention sets it."""
    inbox = MemoryInbox(retention=Retention(max_sessions=2))
    for number in range(4):
        await inbox.record(session_event(str(number), "started"))

    assert {"2", "3"} == set(await inbox.get_states([str(number) for number in range(4)]))
    assert 100_000 == MemoryInbox()._retention.max_sessions


async def test_sessions_expire_without_new_events() -> None:
    """An expired session is deleted when it is read, even if nothing was recorded since."""
    time = 0.0
    inbox = MemoryInbox(retention=Retention(max_age=10), now=lambda: time)
    await inbox.record(session_event("s", "started"))
    time = 9.0
    assert {"s"} == set(await inbox.get_states(["s"]))
    time = 10.0

    assert {} == await inbox.get_states(["s"])
    assert () == await inbox.get_events("s")


async def test_duplicates_are_found_by_their_key() -> None:
    """An event is a duplicate if its key was stored before, even if another event with the same content was."""
    first = decision_event("s", "approved")
    assert isinstance(first, DecisionEvent)
    turned = DecisionEvent(decision=first.decision, raw=dict(reversed(list(first.raw.items()))))
    fuller = DecisionEvent(decision=first.decision, raw={**first.raw, "more": 1})
    other = DecisionEvent(decision=first.decision, raw={**first.raw, "more": True})
    bare = SessionEvent(session_id="s", action=Status.STARTED)
    inbox = MemoryInbox(retention=Retention(max_events_per_session=5))
    known: set[str] = set()

    for event in (
        first,
        turned,
        first,
        bare,
        fuller,
        other,
        fuller,
        bare,
        turned,
        session_event("s", "started"),
        other,
    ):
        recorded = await inbox.record(event)

        assert recorded.is_duplicate == (event.dedup_key in known)
        known.add(event.dedup_key)
    assert len(known) == len(await inbox.get_events("s"))

    await inbox.record(session_event("s", "submitted"))
    assert not (await inbox.record(turned)).is_duplicate, "the oldest was forgotten"
    assert (await inbox.record(other)).is_duplicate


def test_threads_and_their_loops_share_an_inbox() -> None:
    """Simultaneous records of threads are all stored, and wake a subscriber in another thread's loop."""
    inbox = MemoryInbox()
    sessions = {f"{thread}-{number}" for thread in range(4) for number in range(50)}

    async def record(thread: int) -> None:
        for number in range(50):
            await inbox.record(decision_event(f"{thread}-{number}", "approved"))

    def live(thread: int) -> None:
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(record(thread))

    async def follow() -> set[str | None]:
        heard: set[str | None] = set()
        async with aclosing(inbox.subscribe()) as feed:
            assert await anext(feed) is None
            threads = [Thread(target=live, args=(thread,)) for thread in range(4)]
            for thread in threads:
                thread.start()
            while heard != sessions:
                heard.add(await anext(feed))
            for thread in threads:
                await asyncio.to_thread(thread.join)
        return heard

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        assert sessions == runner.run(follow())
        assert sessions == set(runner.run(_find_known(inbox, sessions)))


def test_threads_lease_different_events() -> None:
    """Threads that lease and settle at the same time handle each event once, those of a session in their order."""
    inbox = MemoryInbox()
    sessions = [f"s-{number}" for number in range(40)]
    handled: list[tuple[str | None, int]] = []

    async def fill() -> None:
        for number in range(3):
            for session_id in sessions:
                await inbox.record(event_from({"sessionId": session_id, "number": number}), deliver=True)

    async def handle() -> None:
        while len(handled) < 120:
            for delivery in await inbox.lease(2, seconds=3600):
                handled.append((delivery.event.session_id, cast("int", delivery.event.raw["number"])))
                assert await inbox.settle(delivery, HANDLED)

    _run(fill())
    threads = [Thread(target=lambda: _run(handle())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 120 == len(handled)
    assert all([0, 1, 2] == _numbers_of(each, handled) for each in sessions)


async def test_settled_events_leave_the_heap_of_leases() -> None:
    """Leases that were settled early do not stay until their ends: their number is limited by those that are held."""
    inbox = MemoryInbox()
    for number in range(2_500):
        await inbox.record(session_event(str(number), "started"), deliver=True)
    leased = await inbox.lease(2_500, seconds=3600)
    for delivery in leased[:-10]:
        assert await inbox.settle(delivery, HANDLED)

    assert 1_000 >= len(inbox._queue._waiting)
    assert {delivery.lease for delivery in leased[-10:]} == await inbox.extend_leases(leased, seconds=60)


async def test_deliveries_of_sessions_without_handlers() -> None:
    """Events that were never queued have no status, and their sessions are looked at for no other status."""
    time = 0.0
    inbox = MemoryInbox(now=lambda: time)
    for action in ("started", "submitted"):
        await inbox.record(session_event("never", action))
        await inbox.record(session_event("queued", action), deliver=action == "started")

    assert [None, None, DeliveryStatus.QUEUED, None] == [each.status for each in await inbox.get_deliveries()]
    assert ["queued"] == [each.session_id for each in await inbox.get_deliveries(status=DeliveryStatus.QUEUED)]
    assert not await inbox.requeue("queued", "another key")
    assert not await inbox.requeue("unknown", "another key")
    assert await inbox.requeue("queued", session_event("queued", "submitted").dedup_key)


async def test_leases_of_a_clock_that_is_set_back() -> None:
    """After a clock was set back, events that were settled before are not due again."""
    time = 10_000.0
    inbox = MemoryInbox(now=lambda: time)
    for session_id in ("settled", "leased"):
        await inbox.record(session_event(session_id, "started"), deliver=True)
    settled, _ = await inbox.lease(2, seconds=60)
    await inbox.settle(settled, HANDLED)
    time = 1.0

    assert ["leased"] == [delivery.event.session_id for delivery in await inbox.lease(2, seconds=60)]


def _numbers_of(session_id: str, handled: list[tuple[str | None, int]]) -> list[int]:
    return [number for each, number in handled if each == session_id]


def _run(work: Coroutine[object, object, None]) -> None:
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(work)


async def _find_known(inbox: MemoryInbox, sessions: set[str]) -> list[str]:
    return list(await inbox.get_states(sessions))


async def test_session_without_events_is_not_found() -> None:
    """A session of which only a submission was saved appears in the search with its first event."""
    async with MemoryInbox() as inbox:
        await inbox.save_submission("s", "submitted")
        for search in (SessionSearch(), SessionSearch(session_id="s")):
            assert () == tuple((await inbox.find_sessions(search)).sessions)
        await inbox.record(session_event("s", "started"))
        assert ["s"] == [session.session_id for session in (await inbox.find_sessions(SessionSearch())).sessions]
