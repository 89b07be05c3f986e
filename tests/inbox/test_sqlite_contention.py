"""Many writers and readers share the file of an inbox: each record gets its turn, or fails as a whole with a remedy."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, Self

import anyio
import pytest

from veriff_async import InboxError
from veriff_async._storage import sqlite_log
from veriff_async.batch import SqliteJournal
from veriff_async.inbox import SessionSearch, SqliteInbox, _sqlite_retention, _sqlite_store
from veriff_async.testing import session_event

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

DAY: Final = 86_400.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the file."""
    return tmp_path / "inbox.db"


async def test_writers_and_readers_of_one_file_never_find_it_locked(path: Path) -> None:
    """Four inboxes record without pause, another one erases and one searches: all succeed, and nothing is lost."""
    async with AsyncExitStack() as stack:
        inboxes = [await stack.enter_async_context(SqliteInbox(path)) for _ in range(5)]
        await asyncio.gather(*(inboxes[0].record(session_event(f"erased-{number}", "started")) for number in range(5)))

        async def record(writer: int) -> None:
            for number in range(25):
                await inboxes[writer].record(session_event(f"{writer}-{number}", "started"), deliver=True)

        async def erase() -> None:
            for number in range(5):
                assert 1 == await inboxes[4].erase([f"erased-{number}"])
                await inboxes[4].find_sessions(SessionSearch(), limit=10)

        await asyncio.gather(erase(), *(record(writer) for writer in range(4)))
        statistics = await inboxes[0].statistics()
    assert (100, 100, 100) == (statistics.sessions, statistics.events, statistics.queued)


@pytest.mark.parametrize("store", ["inbox", "journal"])
async def test_log_of_a_busy_file_does_not_grow_without_end(
    path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records empty a log above the limit, which SQLite itself never does while several processes write."""
    monkeypatch.setattr(sqlite_log, "_MAX_LOG", 0)
    monkeypatch.setattr(sqlite_log, "_LOG_INTERVAL", 0.0)
    log = anyio.Path(f"{path}-wal")
    sizes: list[int] = []
    if store == "inbox":
        async with SqliteInbox(path) as inbox:
            for number in range(4):
                await inbox.record(session_event(str(number), "started"))
                sizes.append((await log.stat()).st_size)
    else:
        async with SqliteJournal(path) as journal:
            for number in range(4):
                await journal.claim(str(number))
                sizes.append((await log.stat()).st_size)
    assert sizes[-1] == 0 or sizes[-2] == 0


class OtherProgram:
    """A connection of a program that knows nothing of inboxes; its statements run in threads."""

    def __init__(self, path: Path) -> None:
        """Open the file."""
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    async def execute(self, statement: str) -> list[tuple[int]]:
        """Run a statement and return its rows."""
        return await asyncio.to_thread(lambda: self._db.execute(statement).fetchall())

    async def __aenter__(self) -> Self:
        """Return the program."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the file, which ends the transaction."""
        await asyncio.to_thread(self._db.close)


async def test_records_continue_while_an_erasure_waits_for_a_copy_of_the_file(path: Path) -> None:
    """A program that reads an old snapshot for long delays the erasure, and no record."""
    async with SqliteInbox(path) as inbox, SqliteInbox(path) as other:
        await inbox.record(session_event("erased", "started"))
        async with OtherProgram(path) as copy:
            await copy.execute("BEGIN")
            await copy.execute("SELECT count(*) FROM event")
            erasing = asyncio.create_task(inbox.erase(["erased"]))
            for number in range(30):
                await other.record(session_event(f"session-{number}", "started"))
            assert not erasing.done()
        assert 1 == await erasing
        assert 30 == (await other.statistics()).sessions


async def test_record_that_finds_the_file_locked_to_the_end_fails_with_a_remedy(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its time limit nothing of it is stored, and the same record works when the other program has ended."""
    monkeypatch.setattr(_sqlite_store, "BUSY_TIMEOUT", 0.05)
    async with SqliteInbox(path) as inbox:
        await inbox.record(session_event("before", "started"))
        async with OtherProgram(path) as other:
            await other.execute("BEGIN IMMEDIATE")
            with pytest.raises(InboxError, match=r"locked \(SQLITE_BUSY\): end long transactions of other programs"):
                await inbox.record(session_event("s", "started"), deliver=True)
            assert {"before"} == set(await inbox.get_states(["before", "s"]))
        result = await inbox.record(session_event("s", "started"), deliver=True)
        assert result.ignored is None
        assert 1 == (await inbox.statistics()).queued


async def test_expired_marks_of_erased_sessions_are_deleted_in_portions(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record does not wait until very many of them are deleted."""
    monkeypatch.setattr(_sqlite_retention, "_MOST_EXPIRED", 50)
    now = [1_800_000_000.0]
    async with SqliteInbox(path, now=lambda: now[0]) as inbox, OtherProgram(path) as other:
        await inbox.record(session_event("before", "started"))
        await other.execute(
            f"WITH mark (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM mark LIMIT 60)"  # noqa: S608  a number
            f" INSERT INTO erased (key, until) SELECT n, {now[0]} FROM mark"
        )
        left: list[tuple[int]] = []
        for number in range(2):
            now[0] += DAY / 2
            await inbox.record(session_event(f"after-{number}", "started"))
            left += await other.execute("SELECT count(*) FROM erased")
    assert [(10,), (0,)] == left
