"""An acknowledged event is handled at least once, whenever the processes that record and handle it are killed.

``VERIFF_KILLS=200`` kills as often as that; without it a few times.
"""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import time
from collections import defaultdict
from contextlib import closing
from typing import TYPE_CHECKING, Final

import pytest

from tests.conditions import needs_posix
from tests.inbox.test_survival import DYING, KILLS, moments, start_process
from veriff_async.inbox import DeliveryOutcome, DeliveryStatus, SqliteInbox

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from veriff_async import WebhookEvent
    from veriff_async.inbox import Delivery

pytestmark = pytest.mark.usefixtures("without_coverage")  # a killed process writes no coverage data

HANDLED: Final = DeliveryOutcome(status=DeliveryStatus.HANDLED)
WRITING: Final = "INSERT INTO effect (session, key) VALUES (?, ?)"

# Records events, and handles them in the same process. The effect of an event is a row in a database of its own.
HANDLING: Final = (
    DYING
    + """
import sqlite3
from veriff_async.inbox import DeliveryOutcome, DeliveryStatus, SqliteInbox
from veriff_async.testing import decision_event, session_event

HANDLED = DeliveryOutcome(status=DeliveryStatus.HANDLED)
RETRY = DeliveryOutcome(status=DeliveryStatus.QUEUED)


async def record(inbox, session):
    for event in (
        session_event(session, "started"),
        session_event(session, "submitted"),
        decision_event(session, "approved", minute=2),
    ):
        await inbox.record(event, deliver=True)
        os.write(1, f"{event.dedup_key}\\n".encode())


async def handle(inbox, effects, delivery):
    if delivery.attempt == 1 and hash(delivery.event.dedup_key) % 4 == 0:
        await inbox.settle(delivery, RETRY)
        return
    effects.execute(sys.argv[5], (delivery.event.session_id, delivery.event.dedup_key))
    await inbox.settle(delivery, HANDLED)


async def main():
    begin()
    effects = sqlite3.connect(sys.argv[4], isolation_level=None)
    inbox = SqliteInbox(place)
    for number in itertools.count():
        await asyncio.gather(*(record(inbox, f"{name}-{number}-{part}") for part in range(3)))
        while deliveries := await inbox.lease(4, seconds=30):
            await asyncio.gather(*(handle(inbox, effects, delivery) for delivery in deliveries))


asyncio.run(main())
"""
)


def run_until_killed(path: Path, effects: Path, moment: tuple[str, int, int, int]) -> list[str]:
    """Let a process record and handle events until it is dead, and return the keys that it acknowledged."""
    name, step, lines, spins = moment
    with start_process(HANDLING, str(path), name, str(step), str(effects), WRITING) as (process, output):
        text = "".join(output.readline() for _ in range(lines + 1)) if not step else ""
        if not step:
            for _ in range(spins):
                pass
            process.kill()
        text += output.read()
    assert -signal.SIGKILL == process.returncode
    return [line.strip() for line in text.splitlines(keepends=True)[1:] if line.endswith("\n")]


async def drain(path: Path, effects: sqlite3.Connection) -> list[str]:
    """Handle what is left, an hour later, when all leases have ended; return the keys of all events that are stored."""
    async with SqliteInbox(path, now=lambda: time.time() + 3600) as inbox:
        while deliveries := await inbox.lease(50, seconds=60):
            await asyncio.to_thread(write_effects, effects, deliveries)
            for delivery in deliveries:
                assert await inbox.settle(delivery, HANDLED)
        counts = await inbox.statistics()
        assert (0, 0, 0) == (counts.queued, counts.leased, counts.dead)
        records = await inbox.get_deliveries(limit=100_000)
        assert {DeliveryStatus.HANDLED} == {record.status for record in records}
        return [record.dedup_key for record in reversed(records)]


def write_effects(effects: sqlite3.Connection, deliveries: Sequence[Delivery[WebhookEvent]]) -> None:
    """Write the effects of deliveries."""
    rows = [(delivery.event.session_id, delivery.event.dedup_key) for delivery in deliveries]
    effects.executemany(WRITING, rows)


@needs_posix
@pytest.mark.timeout(60 + 5 * KILLS)
def test_acknowledged_events_are_handled_at_least_once(tmp_path: Path) -> None:
    """No kill loses an event, keeps one from being handled, or changes the order of the events of a session."""
    path, effects = tmp_path / "inbox.db", tmp_path / "effects.db"
    with closing(sqlite3.connect(effects, isolation_level=None, check_same_thread=False)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE effect (number INTEGER PRIMARY KEY, session TEXT, key TEXT)")
        acknowledged: list[str] = []
        for moment in moments("deliveries", 6_000):
            acknowledged += run_until_killed(path, effects, moment)
            with closing(sqlite3.connect(path)) as raw:
                assert [("ok",)] == raw.execute("PRAGMA integrity_check").fetchall()
                # One event of each session at most is the first one.
                query = "SELECT count(*) FROM delivery WHERE stage < 2 GROUP BY session HAVING count(*) > 1"
                assert [] == raw.execute(query).fetchall()
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            stored = runner.run(drain(path, db))
        assert acknowledged
        assert set(acknowledged) <= set(stored)
        handled = db.execute("SELECT session, key FROM effect ORDER BY number").fetchall()
    assert set(stored) == {key for _, key in handled}
    sessions: dict[str, list[str]] = defaultdict(list)
    for session, key in handled:
        if key not in sessions[session]:
            sessions[session].append(key)
    for keys in sessions.values():
        assert sorted(keys, key=stored.index) == keys
