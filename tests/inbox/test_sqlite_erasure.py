"""Erased sessions leave nothing in the file of an inbox, its log or the free parts of its pages.

``VERIFF_KILLS=200`` kills an erasure at as many steps; without it at a few.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final

import pytest
from attrs import evolve

from tests.conditions import needs_posix
from tests.inbox.test_survival import DYING, KILLS, run, start_process
from veriff_async import DecisionEvent, InboxError
from veriff_async.inbox import DeliveryOutcome, DeliveryStatus, IgnoredReason, SessionSearch, SqliteInbox
from veriff_async.testing import decision_event, session_event

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from veriff_async import WebhookEvent

DEAD: Final = DeliveryOutcome(status=DeliveryStatus.DEAD, error="ValueError in send_mail")

SESSIONS: Final = 250


def name_of(session_id: str) -> str:
    """Return the name of the person of a session."""
    return f"Ada-{session_id}-Lovelace"


def events_of(session_id: str, *, size: int = 0) -> list[WebhookEvent]:
    """Return the events of a session; each says whose it is, and the last one has some bytes more."""
    decision = decision_event(session_id, "approved", minute=1)
    assert isinstance(decision, DecisionEvent)
    person = {"firstName": name_of(session_id), "lastName": "x" * size}
    name = name_of(session_id)
    raw = {
        "verification": {
            "id": session_id,
            "status": "approved",
            "code": 9001,
            "attemptId": "first",
            "vendorData": name,
            "person": person,
        }
    }
    full = evolve(decision, decision=evolve(decision.decision, vendor_data=name, raw=raw), raw=raw)
    return [session_event(session_id, "started"), session_event(session_id, "submitted"), full]


async def fill(inbox: SqliteInbox, sessions: Sequence[str]) -> None:
    """Record the events of sessions in an order in which rows grow, move and split pages."""
    rng = random.Random(1)  # noqa: S311  the same file in each run
    waiting = {session_id: events_of(session_id, size=rng.randrange(3_000)) for session_id in sessions}
    order = [session_id for session_id in sessions for _ in range(3)]
    rng.shuffle(order)
    for start in range(0, len(order), 150):
        part = order[start : start + 150]
        await asyncio.gather(
            *(inbox.record(waiting[session_id].pop(0), deliver=session_id[-1] in "05") for session_id in part)
        )


def find(folder: Path, sessions: Sequence[str]) -> list[str]:
    """Return the sessions of which something is in the files of a folder: the id or the name."""
    content = b"".join(file.read_bytes() for file in sorted(folder.iterdir()))
    return [session_id for session_id in sessions if session_id.encode() in content]


def check_integrity(path: Path) -> None:
    """Check that SQLite finds no fault in a file."""
    with closing(sqlite3.connect(path)) as db:
        assert [("ok",)] == db.execute("PRAGMA integrity_check").fetchall()


def names(prefix: str, count: int) -> list[str]:
    """Return ids of sessions, none of which is a part of another one."""
    return [f"{prefix}-{number:05}" for number in range(count)]


@pytest.mark.anyio
async def test_erased_sessions_are_gone_from_the_disk(tmp_path: Path) -> None:
    """Nothing is left while other inboxes have the file open, nor when these write with what they have read before."""
    path = tmp_path / "inbox.db"
    sessions = names("session", SESSIONS)
    erased, kept = sessions[::9], [session_id for number, session_id in enumerate(sessions) if number % 9]
    async with SqliteInbox(path) as inbox, SqliteInbox(path) as other:
        await fill(inbox, sessions)
        deliveries = await inbox.lease(20, seconds=60)
        for delivery in deliveries[::2]:
            await inbox.settle(delivery, DEAD)
        assert SESSIONS == len(await other.get_states(sessions))
        await other.record(session_event(kept[0], "started", attempt_id="second"))
        assert len(erased) == await inbox.erase([*erased, "not stored"])
        assert [] == await asyncio.to_thread(find, tmp_path, erased)

        for session_id in kept[::5]:
            await other.record(session_event(session_id, "started", attempt_id="third"))
            await inbox.record(session_event(session_id, "submitted", attempt_id="third"))
        await inbox.record(session_event("new", "started"))
        assert [] == await asyncio.to_thread(find, tmp_path, erased)
        assert IgnoredReason.ERASED is (await other.record(events_of(erased[0])[0], deliver=True)).ignored
        assert [] == list((await other.find_sessions(SessionSearch(vendor_data=name_of(erased[1])))).sessions)
        assert set(kept) == set(await other.get_states(sessions))
    assert [] == await asyncio.to_thread(find, tmp_path, erased)
    assert len(kept) == len(await asyncio.to_thread(find, tmp_path, kept))
    await asyncio.to_thread(check_integrity, path)


@pytest.mark.anyio
async def test_erasure_waits_for_others_and_they_for_it(tmp_path: Path) -> None:
    """Records and reads of another inbox during erasures succeed, and lose nothing."""
    path = tmp_path / "inbox.db"
    sessions, later = names("session", 60), names("later", 60)
    async with SqliteInbox(path) as inbox, SqliteInbox(path) as other:
        await fill(inbox, sessions)

        async def work() -> None:
            for session_id in later:
                for event in events_of(session_id):
                    await other.record(event)
                await other.get_events(session_id)

        working = asyncio.create_task(work())
        for number in range(0, 60, 20):
            assert 10 == await inbox.erase(sessions[number : number + 10])
        await working
        await inbox.erase(sessions[::2])
        erased = [session_id for number, session_id in enumerate(sessions) if number % 20 < 10 or not number % 2]
        assert [] == await asyncio.to_thread(find, tmp_path, erased)
        assert set(later) == set(await inbox.get_states(later))
    await asyncio.to_thread(check_integrity, path)


@pytest.mark.anyio
async def test_reader_that_stays_fails_an_erasure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another program reads an old state of the file, the erasure fails; it is finished by the next call."""
    monkeypatch.setattr("veriff_async._storage.sqlite_scrub._TIMEOUT", 0.05)
    path = tmp_path / "inbox.db"
    async with SqliteInbox(path) as inbox:
        await fill(inbox, ["one", "two"])

        def read(db: sqlite3.Connection) -> None:
            db.execute("BEGIN")
            db.execute("SELECT count(*) FROM event").fetchone()

        db = await asyncio.to_thread(sqlite3.connect, path, check_same_thread=False)
        await asyncio.to_thread(read, db)
        with pytest.raises(InboxError, match="end long transactions of other programs, such as a copy"):
            await inbox.erase(["one"])
        await asyncio.to_thread(db.close)
        assert 0 == await inbox.erase(["one"])
        assert [] == await asyncio.to_thread(find, tmp_path, [name_of("one")])


ERASING: Final = (
    DYING
    + """
from veriff_async.inbox import SqliteInbox


async def main():
    async with SqliteInbox(place) as inbox:
        await inbox.get_states(["s"])
        begin()
        await inbox.erase(name.split(","))
        sys.setprofile(None)
        threading.setprofile(None)
        os.write(1, b"%d\\n" % next(steps))


asyncio.run(main())
"""
)


def erase_until_killed(path: Path, sessions: Sequence[str], step: int) -> int:
    """Let a process erase sessions, and kill itself at a step; return how many steps it has taken if it survived."""
    with start_process(ERASING, str(path), ",".join(sessions), str(step)) as (process, output):
        lines = output.read().splitlines()
    assert process.returncode in {0, -signal.SIGKILL}
    return int(lines[1]) if len(lines) > 1 else 0


@needs_posix
@pytest.mark.usefixtures("without_coverage")
@pytest.mark.timeout(60 + 5 * KILLS)
def test_killed_erasure_is_finished_by_the_next_call(tmp_path: Path) -> None:
    """Wherever an erasure is killed, the same call afterwards leaves nothing of the sessions, and all of the others."""
    path = tmp_path / "inbox.db"
    groups = [names(f"group{number}", 8) for number in range(KILLS + 1)]
    kept = names("kept", 60)

    async def prepare() -> None:
        async with SqliteInbox(path) as inbox:
            await fill(inbox, [session_id for group in groups for session_id in group] + kept)

    async def finish(sessions: Sequence[str]) -> None:
        async with SqliteInbox(path) as inbox:
            await inbox.erase(sessions)
            assert [] == await asyncio.to_thread(find, tmp_path, sessions)
            assert set(kept) == set(await inbox.get_states([*kept, *sessions]))

    run(prepare)
    total = erase_until_killed(path, groups[0], 1_000_000_000)
    assert total
    for number, group in enumerate(groups[1:], 1):
        erase_until_killed(path, group, total * number // (KILLS + 1))
        run(lambda: finish(group))  # noqa: B023  called within this turn
        check_integrity(path)
