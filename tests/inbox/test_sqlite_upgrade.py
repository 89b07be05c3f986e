"""Files of inboxes that earlier versions have written."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final

import pytest
from attrs import evolve

from veriff_async import DecisionEvent, Status, WebhookEvent
from veriff_async._protocol.session_state import apply_event, dump_state
from veriff_async._protocol.webhook import dump_event
from veriff_async.inbox import DeliveryOutcome, DeliveryStatus, Retention, SessionSearch, SqliteInbox
from veriff_async.testing import decision_event, session_event

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from veriff_async.inbox import SessionState

pytestmark = pytest.mark.anyio

VERSION_3: Final = """
CREATE TABLE session (
    id BLOB NOT NULL UNIQUE,
    state BLOB,
    changed INTEGER NOT NULL,
    events INTEGER NOT NULL,
    touched REAL NOT NULL
);
CREATE INDEX session_changed ON session (changed);
CREATE INDEX session_touched ON session (touched);
CREATE TABLE event (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    session BLOB NOT NULL,
    key BLOB NOT NULL,
    kind TEXT NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (session, key)
);
CREATE INDEX event_order ON event (session, number);
CREATE TABLE clock (id INTEGER PRIMARY KEY CHECK (id = 1), trusted REAL NOT NULL, suspect REAL);
CREATE TABLE submission (session BLOB PRIMARY KEY, text BLOB NOT NULL) WITHOUT ROWID;
PRAGMA user_version = 3;
"""

START: Final = 1_800_000_000.0


def write_version_3(path: Path, events: Sequence[WebhookEvent], *, version: int = 3) -> None:
    """Write a file as version 3 did; version 2 had no submissions."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(VERSION_3)
        db.execute("INSERT INTO clock VALUES (1, ?, NULL)", (START,))
        states: dict[bytes, tuple[SessionState | None, int, int]] = {}
        for number, event in enumerate(events, 1):
            session = (event.session_id or "").encode()
            before, count, _ = states.get(session, (None, 0, 0))
            state, _ = apply_event(before, event)
            states[session] = state, count + 1, number
            row = (number, session, event.dedup_key.encode(), event.kind, dump_event(event))
            db.execute("INSERT INTO event VALUES (?, ?, ?, ?, ?)", row)
        for session, (state, count, number) in states.items():
            text = None if state is None else dump_state(state)
            db.execute("INSERT INTO session VALUES (?, ?, ?, ?, ?)", (session, text, number, count, START))
            db.execute("INSERT INTO submission VALUES (?, ?)", (session, b"submitted " + session))
        if version < 3:
            db.execute("DROP TABLE submission")
            db.execute(f"PRAGMA user_version = {version}")


def of_customer(session_id: str, customer: str) -> WebhookEvent:
    """Return a decision with vendor data."""
    event = decision_event(session_id, "approved", minute=1)
    assert isinstance(event, DecisionEvent)
    return evolve(event, decision=evolve(event.decision, vendor_data=customer), raw={})


def live_events() -> list[WebhookEvent]:
    """Return the events of 300 sessions."""
    return [
        event
        for number in range(300)
        for event in (session_event(f"s{number}", "started"), of_customer(f"s{number}", f"customer {number % 3}"))
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the inbox."""
    return tmp_path / "inbox.db"


@pytest.mark.parametrize("version", [2, 3])
async def test_file_of_an_earlier_version_keeps_everything(path: Path, version: int) -> None:
    """Its states, events and submissions are there; its events were never queued, and a repetition queues one."""
    events = live_events()
    await asyncio.to_thread(write_version_3, path, events, version=version)
    async with SqliteInbox(path, now=lambda: START + 60) as inbox:
        states = await inbox.get_states([f"s{number}" for number in range(300)])
        assert {"approved"} == {state.status for state in states.values()}
        assert (300, "submitted s7" if version == 3 else None) == (len(states), states["s7"].submission)
        assert events[14:16] == list(await inbox.get_events("s7"))
        assert [] == await inbox.lease(10, seconds=60)
        record = (await inbox.get_deliveries(limit=1))[0]
        assert (None, 0, START) == (record.status, record.attempts, record.recorded_at)

        assert (await inbox.record(events[15], deliver=True)).is_duplicate
        assert await inbox.requeue("s8", events[16].dedup_key)
        found = await inbox.lease(10, seconds=60)
        assert [(events[15], None), (events[16], None)] == [(each.event, each.ignored) for each in found]
        assert [True, True] == [
            await inbox.settle(each, DeliveryOutcome(status=DeliveryStatus.HANDLED)) for each in found
        ]
        assert (300, 600) == ((counts := await inbox.statistics()).sessions, counts.events)


async def test_events_of_an_earlier_version_are_found_by_value(path: Path) -> None:
    """The first search for a value finds sessions that an earlier version has stored, and so do those after it."""
    await asyncio.to_thread(write_version_3, path, live_events())
    async with SqliteInbox(path, now=lambda: START + 60) as inbox:
        await inbox.record(of_customer("new", "customer 1"))
        for _ in range(2):
            page = await inbox.find_sessions(SessionSearch(vendor_data="customer 1"), limit=1_000)
            expected = {"new", *(f"s{number}" for number in range(1, 300, 3))}
            assert expected == {session.session_id for session in page.sessions}
            assert {"approved"} == {session.status for session in page.sessions}
        await inbox.erase(["s1"])
        page = await inbox.find_sessions(SessionSearch(vendor_data="customer 1"), limit=1_000)
        assert 100 == len(page.sessions)


async def test_sessions_of_an_earlier_version_are_found_by_status(path: Path) -> None:
    """Their status is read from the state, where it was; a state that cannot be read has none."""
    events = [session_event("a", "started"), of_customer("b", "x"), of_customer("c", "x")]
    await asyncio.to_thread(write_version_3, path, events)

    def damage() -> None:
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE session SET state = x'7b' WHERE id = x'63'")

    await asyncio.to_thread(damage)
    async with SqliteInbox(path, now=lambda: START + 60) as inbox:
        found = (await inbox.find_sessions(SessionSearch())).sessions
        statuses = {session.session_id: session.status for session in found}
        assert ("approved", None) == (statuses["b"], statuses["c"])
        for status, expected in ((Status.APPROVED, ["b"]), (Status.DECLINED, [])):
            page = await inbox.find_sessions(SessionSearch(status=status))
            assert expected == [session.session_id for session in page.sessions]


async def test_two_inboxes_upgrade_a_file_at_the_same_time(path: Path) -> None:
    """Both open the file, and one of them upgrades it."""
    await asyncio.to_thread(write_version_3, path, live_events())
    inboxes = [SqliteInbox(path, now=lambda: START + 60) for _ in range(3)]
    try:
        found = await asyncio.gather(*(inbox.get_states(["s1"]) for inbox in inboxes))
        assert [{"s1"}] * 3 == [set(states) for states in found]
    finally:
        for inbox in inboxes:
            await inbox.aclose()


async def test_upgraded_sessions_are_deleted_by_the_retention(path: Path) -> None:
    """Sessions of an earlier version are deleted when they are too old, those of queued events after these."""
    now = START
    await asyncio.to_thread(write_version_3, path, live_events()[:20])
    async with SqliteInbox(path, retention=Retention(max_age=100), now=lambda: now) as inbox:
        await inbox.requeue("s3", (await inbox.get_events("s3"))[0].dedup_key)
        now += 101
        await inbox.record(session_event("new", "started"))
        assert (2, 3) == ((counts := await inbox.statistics()).sessions, counts.events)
        (delivery,) = await inbox.lease(5, seconds=60)
        await inbox.settle(delivery, DeliveryOutcome(status=DeliveryStatus.HANDLED))
        await inbox.record(session_event("newer", "started"))
        assert {"new", "newer"} == set(await inbox.get_states(["s3", "new", "newer"]))
