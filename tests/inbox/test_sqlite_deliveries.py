"""Deliveries in a SQLite file: which rows their queries read, several processes, and failures of the disk."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Final

import pytest
from attrs import evolve

from tests.conditions import without_slow_steps
from veriff_async import InboxError
from veriff_async.inbox import DeliveryOutcome, DeliveryStatus, Retention, SessionSearch, SqliteInbox
from veriff_async.testing import decision_event, session_event, watchlist_event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio

HANDLED: Final = DeliveryOutcome(status=DeliveryStatus.HANDLED, handled_by=frozenset({"mail"}))
RETRY: Final = DeliveryOutcome(status=DeliveryStatus.QUEUED, delay=600)

# Tables of one row, and walks along an index that a LIMIT ends.
SHORT_SCANS: Final = (
    "SCAN clock",
    "SCAN sqlite_sequence",
    "SCAN erased USING COVERING INDEX erased_until",
    "SCAN delivery USING INDEX delivery_ready",
    "SCAN delivery USING COVERING INDEX delivery_ready",
    "SCAN CONSTANT ROW",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the inbox."""
    return tmp_path / "inbox.db"


@pytest.fixture
async def inbox(path: Path) -> AsyncIterator[SqliteInbox]:
    """Yield an open inbox in which each session keeps two events, and others are deleted after an hour."""
    async with SqliteInbox(path, retention=Retention(max_events_per_session=2, max_age=3600)) as inbox:
        yield inbox


async def trace(inbox: SqliteInbox) -> set[str]:
    """Return a set to which the statements of both connections are added from now on."""
    statements: set[str] = set()
    for worker in range(2):
        await inbox._group.run(lambda store: store._db.set_trace_callback(statements.add), worker=worker)
    return statements


def read_plans(path: Path, statements: set[str]) -> list[tuple[str, str]]:
    """Return the steps of query plans that read more than some rows, or sort them."""
    found: list[tuple[str, str]] = []
    with closing(sqlite3.connect(path)) as db:
        for statement in sorted(statements):
            if not statement.lstrip().startswith(("SELECT", "INSERT", "UPDATE", "DELETE")):
                continue
            for *_, step in db.execute(f"EXPLAIN QUERY PLAN {statement}"):
                if step.startswith(("SCAN", "USE TEMP B-TREE")) and step not in SHORT_SCANS:
                    found.append((step, statement))
    return found


async def test_no_query_of_a_receiver_reads_a_whole_table(inbox: SqliteInbox, path: Path) -> None:
    """Recording, leasing, settling and retention find their rows by an index, and sort none."""
    statements = await trace(inbox)
    for number in range(4):
        await inbox.record(session_event("s", "started", attempt_id=f"{number}"), deliver=True)
        await inbox.record(decision_event(f"t{number}", "approved"), deliver=True)
        await inbox.record(watchlist_event(f"name {number}"), deliver=True)
        await inbox.record(session_event("u", "started", attempt_id=f"{number}"))
    for outcome in (RETRY, HANDLED, HANDLED):
        deliveries = await inbox.lease(5, seconds=60)
        await inbox.extend_leases(deliveries, seconds=90)
        for delivery in deliveries:
            await inbox.settle(delivery, outcome)
    record = (await inbox.get_deliveries(session_id="t0"))[0]
    await inbox.requeue(record.session_id, record.dedup_key)
    await inbox.get_states(["s", "t0"])
    await inbox.get_events("s")

    assert any("UPDATE delivery" in statement for statement in statements)
    counting = "SELECT count(*) FROM session"  # once, and again after a hundredth of `max_sessions` further sessions
    plans = await asyncio.to_thread(read_plans, path, statements)
    assert [] == [plan for plan in plans if plan[1] != counting]


async def test_queued_events_stay_beyond_the_limit_of_a_session(inbox: SqliteInbox) -> None:
    """A session may have more events than its limit while handlers wait for them, and shrinks again afterwards."""
    events = [session_event("s", "started", attempt_id=f"{number}") for number in range(12)]
    for event in events[:8]:
        await inbox.record(event, deliver=True)
    assert events[:8] == list(await inbox.get_events("s"))
    for event in events[:8]:
        (delivery,) = await inbox.lease(5, seconds=60)
        assert event == delivery.event
        await inbox.settle(delivery, HANDLED)
    for event in events[8:]:
        await inbox.record(event)
    assert events[-2:] == list(await inbox.get_events("s"))
    assert (2, 2) == ((await inbox.statistics()).events, len(await inbox.get_deliveries()))


async def test_unreadable_event_becomes_dead(inbox: SqliteInbox, path: Path) -> None:
    """An event that another program has damaged is not leased again and again; later ones of its session are."""
    first, second = session_event("s", "started"), session_event("s", "submitted")
    await inbox.record(first, deliver=True)
    await inbox.record(second, deliver=True)

    def damage() -> None:
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE event SET body = '{' WHERE number = 1")

    await asyncio.to_thread(damage)
    assert [] == await inbox.lease(5, seconds=60)
    assert [second] == [delivery.event for delivery in await inbox.lease(5, seconds=60)]
    (dead,) = await inbox.get_deliveries(status=DeliveryStatus.DEAD)
    assert (1, "The stored event cannot be read.") == (dead.attempts, dead.error)


async def change(path: Path, statement: str) -> None:
    """Change the file as another program could."""

    def execute() -> None:
        with closing(sqlite3.connect(path)) as db, db:
            db.execute(statement)

    await asyncio.to_thread(execute)


async def test_delivery_of_a_deleted_event_is_dropped(inbox: SqliteInbox, path: Path) -> None:
    """An event that another program has deleted is not leased; other sessions and later events of its own are."""
    other, later = session_event("t", "started"), session_event("s", "submitted")
    await inbox.record(session_event("s", "started"), deliver=True)
    await inbox.record(other, deliver=True)
    await inbox.record(later, deliver=True)
    await change(path, "DELETE FROM event WHERE number = 1")
    leased = [*await inbox.lease(5, seconds=60), *await inbox.lease(5, seconds=60)]
    assert [other, later] == [delivery.event for delivery in leased]
    statistics = await inbox.statistics()
    assert (0, 2) == (statistics.queued, statistics.leased)
    for delivery in leased:
        assert await inbox.settle(delivery, HANDLED)
    (session,) = (await inbox.find_sessions(SessionSearch(session_id="s"))).sessions
    assert 0 == session.queued


@pytest.mark.parametrize(
    ("names", "handlers"),
    [("'{}'", ()), ("'{'", ()), ("7", ()), ("x'5b5d'", ()), ("'[\"mail\", 7, null]'", ("mail",))],
)
async def test_unreadable_names_of_handlers_are_ignored(
    inbox: SqliteInbox, path: Path, names: str, handlers: tuple[str, ...]
) -> None:
    """If another program has damaged the names of the handlers that finished, the others run once more."""
    await inbox.record(session_event("s", "started"), deliver=True)
    await change(path, f"UPDATE delivery SET handled_by = {names}")  # noqa: S608  a test's own
    (delivery,) = await inbox.lease(1, seconds=60)
    assert frozenset(handlers) == delivery.handled_by
    assert await inbox.settle(delivery, HANDLED)


async def test_foreign_lease_is_not_held(inbox: SqliteInbox) -> None:
    """A text that is no lease of this file settles nothing."""
    await inbox.record(session_event("s", "started"), deliver=True)
    (delivery,) = await inbox.lease(1, seconds=60)
    for lease in ("x", "1", "1-", "-1-0", "9" * 40 + "-0", "\u0661-0", delivery.lease + "0"):
        assert not await inbox.settle(evolve(delivery, lease=lease), HANDLED)
    assert await inbox.settle(delivery, HANDLED)


LEASING: Final = """
import asyncio, json, sys
from veriff_async.inbox import DeliveryOutcome, DeliveryStatus, SqliteInbox

HANDLED = DeliveryOutcome(status=DeliveryStatus.HANDLED)

async def main():
    found = []
    async with SqliteInbox(sys.argv[1]) as inbox:
        print("ready", flush=True)
        sys.stdin.readline()
        while deliveries := await inbox.lease(7, seconds=600):
            for delivery in deliveries:
                found.append((delivery.event.session_id, delivery.event.dedup_key, delivery.attempt))
                assert await inbox.settle(delivery, HANDLED)
    print(json.dumps(found))

asyncio.run(main())
"""


async def test_processes_share_the_events(path: Path) -> None:
    """Of two processes that lease at the same time, one handles each event, and the events of a session in order."""
    events = [session_event(f"s{number % 20}", "started", attempt_id=f"{number}") for number in range(60)]
    async with SqliteInbox(path) as inbox:
        await asyncio.gather(*(inbox.record(event, deliver=True) for event in events))
    command = [sys.executable, "-W", "error", "-c", LEASING, str(path)]
    children = [
        await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    for child in children:
        assert child.stdout is not None
        assert b"ready\n" == await child.stdout.readline()
    outputs = await asyncio.gather(*(child.communicate(b"\n") for child in children))
    assert ["", ""] == [without_slow_steps(errors.decode()) for _, errors in outputs]
    handled = [json.loads(output) for output, _ in outputs]
    everything = [(key, attempt) for found in handled for _, key, attempt in found]
    assert sorted((event.dedup_key, 1) for event in events) == sorted(everything)
    order = {event.dedup_key: number for number, event in enumerate(events)}
    for found in handled:
        for session in {session for session, _, _ in found}:
            numbers = [order[key] for other, key, _ in found if other == session]
            assert sorted(numbers) == numbers


async def test_full_disk_loses_no_delivery(path: Path) -> None:
    """While the file cannot grow, each call fails without storing a part of it; afterwards all continue."""
    async with SqliteInbox(path) as inbox:
        for number in range(5):
            await inbox.record(session_event(f"s{number}", "started"), deliver=True)
        # SQLite itself refuses to make the file larger, as it does when the disk is full.
        await inbox._group.run(
            lambda store: store._db.execute(
                f"PRAGMA max_page_count = {store._db.execute('PRAGMA page_count').fetchone()[0]}"
            ).fetchone()
        )
        new = [session_event(f"s{number}", "started") for number in range(5, 300)]
        results = await asyncio.gather(*(inbox.record(event, deliver=True) for event in new), return_exceptions=True)
        errors = [result for result in results if isinstance(result, InboxError)]
        assert errors
        assert all("SQLITE_FULL" in str(error) for error in errors)
        failed = len(errors)
        await inbox._group.run(lambda store: store._db.execute("PRAGMA max_page_count = 1000000").fetchone())
        handled: set[str | None] = set()
        while deliveries := await inbox.lease(50, seconds=60):
            for delivery in deliveries:
                assert await inbox.settle(delivery, HANDLED)
                handled.add(delivery.event.session_id)
        assert (300 - failed, 300 - failed) == (len(handled), (await inbox.statistics()).events)


async def test_read_only_file_is_an_error(path: Path) -> None:
    """A file that cannot be written is an error of each call that writes, and nothing is lost."""
    async with SqliteInbox(path) as inbox:
        await inbox.record(session_event("s", "started"), deliver=True)
        await inbox._group.run(lambda store: store._db.execute("PRAGMA query_only = ON"))
        calls = (inbox.lease(1, seconds=60), inbox.requeue("s", "key"), inbox.erase(["s"]))
        for call in (inbox.record(session_event("s", "submitted"), deliver=True), *calls):
            with pytest.raises(InboxError, match="SQLITE_READONLY"):
                await call
        await inbox._group.run(lambda store: store._db.execute("PRAGMA query_only = OFF"))
        (delivery,) = await inbox.lease(1, seconds=60)
        assert (1, "started") == (delivery.attempt, delivery.state and delivery.state.status)


@pytest.mark.parametrize("steps", range(0, 80, 10))
async def test_cancelled_lease_leaves_nothing_leased(inbox: SqliteInbox, steps: int) -> None:
    """A lease that is cancelled while a thread works on it does not keep its events from the next one."""
    for session in ("first", "second"):
        await inbox.record(session_event(session, "started"), deliver=True)
    for deliver in (True, False):
        leasing = asyncio.create_task(inbox.lease(5, seconds=3600))
        for _ in range(steps):
            await asyncio.sleep(0)
        leasing.cancel()
        await asyncio.wait([leasing])
        if not leasing.cancelled():
            return
        # The writer's thread takes one job after the other.
        await inbox.record(session_event("third", "started" if deliver else "submitted"))
    assert [1, 1] == [delivery.attempt for delivery in await inbox.lease(5, seconds=60)]


async def test_cancelled_lease_keeps_what_handlers_have_finished(inbox: SqliteInbox) -> None:
    """The names of handlers that finished in an earlier attempt survive a cancellation in the middle of a lease."""
    await inbox.record(session_event("s", "started"), deliver=True)
    (delivery,) = await inbox.lease(1, seconds=60)
    await inbox.settle(delivery, evolve(HANDLED, status=DeliveryStatus.QUEUED))
    for number in range(0, 160, 10):
        leasing = asyncio.create_task(inbox.lease(1, seconds=3600))
        for _ in range(number):
            await asyncio.sleep(0)
        leasing.cancel()
        await asyncio.wait([leasing])
        if not leasing.cancelled():
            await inbox.settle(leasing.result()[0], evolve(HANDLED, status=DeliveryStatus.QUEUED, counts=False))
        await inbox.record(session_event("other", "started", attempt_id=str(number)))
    (delivery,) = await inbox.lease(1, seconds=60)
    assert (2, frozenset({"mail"})) == (delivery.attempt, delivery.handled_by)
