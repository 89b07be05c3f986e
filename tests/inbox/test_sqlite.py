"""The inbox in a SQLite file: its permissions, its failures and its durability."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import aclosing, closing
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.conditions import PAUSE, needs_posix, without_slow_steps
from veriff_async import ConfigurationError, InboxError
from veriff_async.inbox import IgnoredReason, Retention, SqliteInbox
from veriff_async.testing.factories import decision_event, session_event, watchlist_event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the inbox."""
    return tmp_path / "inbox.db"


@pytest.fixture
async def inbox(path: Path) -> AsyncIterator[SqliteInbox]:
    """Yield an open inbox."""
    async with SqliteInbox(path) as inbox:
        yield inbox


def other_program(path: Path, *statements: str) -> None:
    """Change the file as another program could."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


async def alter(path: Path, *statements: str) -> None:
    """Change the file outside of the event loop."""
    await asyncio.to_thread(other_program, path, *statements)


async def test_file_is_readable_for_its_owner_only(inbox: SqliteInbox, path: Path) -> None:
    """Neither the file nor its log is readable for others, and the repr shows no path."""
    await inbox.record(decision_event("s", "approved"))
    files = [path.with_name(name) for name in ("inbox.db", "inbox.db-wal", "inbox.db-shm")]
    assert [0o600] * 3 == await asyncio.to_thread(lambda: [stat.S_IMODE(file.stat().st_mode) for file in files])
    assert "<SqliteInbox open>" == repr(inbox)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SqliteInbox(""), "give one, or use MemoryInbox"),
        (lambda: SqliteInbox(":memory:"), "give one, or use MemoryInbox"),
        (lambda: SqliteInbox("inbox.db", watch=0), "watch is 0: give seconds above zero"),
    ],
)
async def test_invalid_options_are_refused(make: Callable[[], SqliteInbox], words: str) -> None:
    """Options are checked when the inbox is made."""
    with pytest.raises(ConfigurationError, match=words):
        make()


async def test_missing_folder_is_reported(tmp_path: Path) -> None:
    """The folder is not created, and the error names the cause, not the path."""
    with pytest.raises(InboxError, match=r"cannot be used \(No such file or directory\)") as caught:
        await SqliteInbox(tmp_path / "none" / "inbox.db").record(decision_event("s", "approved"))
    assert str(tmp_path) not in str(caught.value)


async def test_foreign_file_is_refused_and_unchanged(path: Path) -> None:
    """A text file, another program's database and a newer version's file are refused."""
    await asyncio.to_thread(path.write_text, "Dear diary, " * 100)
    with pytest.raises(InboxError, match="SQLITE_NOTADB"):
        await SqliteInbox(path).get_states(["s"])
    await asyncio.to_thread(path.unlink)
    await alter(path, "CREATE TABLE mine (a)")
    with pytest.raises(ConfigurationError, match="another program's file, or one of a newer veriff-async"):
        await SqliteInbox(path).get_states(["s"])
    await alter(path, "DROP TABLE mine", "PRAGMA user_version = 99")
    with pytest.raises(ConfigurationError, match="another program's file, or one of a newer veriff-async"):
        await SqliteInbox(path).get_states(["s"])


async def test_closed_inbox_stays_closed(inbox: SqliteInbox) -> None:
    """A closed inbox refuses every call, and does not reopen by itself."""
    await inbox.record(decision_event("s", "approved"))
    feed = inbox.subscribe()
    assert await anext(feed) is None
    await inbox.aclose()
    await inbox.aclose()
    with pytest.raises(InboxError, match="was closed"):
        await anext(feed)
    with pytest.raises(InboxError, match="was closed"):
        await inbox.record(decision_event("s", "approved"))
    with pytest.raises(InboxError, match="was closed"):
        await inbox.get_states(["s"])
    await SqliteInbox("never-opened.db").aclose()


async def test_unclosed_inbox_warns(path: Path) -> None:
    """An inbox that is dropped without closing warns, and its threads end."""
    inbox = SqliteInbox(path)
    await inbox.record(decision_event("s", "approved"))
    threads = inbox._group.workers
    with pytest.warns(ResourceWarning, match="unclosed <SqliteInbox open>"):
        del inbox
    for thread in threads:
        await asyncio.to_thread(thread.join)


async def test_cancelled_record_is_written(inbox: SqliteInbox) -> None:
    """Cancelling a record does not undo it."""
    recording = asyncio.create_task(inbox.record(decision_event("s", "approved")))
    await asyncio.sleep(0)
    recording.cancel()
    with pytest.raises(asyncio.CancelledError):
        await recording
    again = await inbox.record(decision_event("s", "approved"))

    assert IgnoredReason.DUPLICATE is again.ignored


async def test_failed_write_is_reported_and_undone(inbox: SqliteInbox, path: Path) -> None:
    """When SQLite refuses a write, no record of the batch succeeds; later records work."""
    await inbox.record(session_event("s", "started"))
    await alter(path, "CREATE TRIGGER full BEFORE UPDATE ON session BEGIN SELECT raise(ABORT, 'no more'); END")
    found = await asyncio.gather(
        *(inbox.record(decision_event("s", "approved", minute=minute)) for minute in range(5)), return_exceptions=True
    )
    assert {InboxError} == {type(error) for error in found}
    assert all("SQLITE_CONSTRAINT" in str(error) and "no more" not in str(error) for error in found)
    await alter(path, "DROP TRIGGER full")
    assert 1 == len(await inbox.get_events("s"))

    assert (await inbox.record(decision_event("s", "approved"))).ignored is None


@pytest.mark.parametrize("damage", ["x'7b'", "'{'", "7"])
async def test_unreadable_data_is_reported(inbox: SqliteInbox, path: Path, damage: str) -> None:
    """Damage to one session fails its readers, and no others."""
    for session in ("s", "other"):
        await inbox.record(decision_event(session, "approved"))
    await alter(path, f"UPDATE session SET state = {damage} WHERE id = x'73'")  # noqa: S608  a test's own
    await alter(path, f"UPDATE event SET body = {damage} WHERE number = 1")  # noqa: S608  a test's own
    for question in (inbox.get_states(["s"]), inbox.get_events("s"), inbox.record(session_event("s", "started"))):
        with pytest.raises(InboxError, match="cannot be read: check whether another program"):
            await question

    assert {"other"} == set(await inbox.get_states(["other"]))
    assert 1 == len(await inbox.get_events("other"))


async def test_damaged_file_ends_the_subscription(inbox: SqliteInbox, path: Path) -> None:
    """A subscription whose changes cannot be read fails instead of sleeping forever."""
    async with aclosing(inbox.subscribe()) as feed:
        assert await anext(feed) is None
        await alter(path, "DROP TABLE session")
        with pytest.raises(InboxError, match="file cannot be used"):
            await anext(feed)
    with pytest.raises(InboxError, match="file cannot be used"):
        await inbox.get_states(["s"])


async def test_newest_events_are_kept(path: Path) -> None:
    """The number of events is limited for each session, and for events without one; the state stays."""
    async with SqliteInbox(path, retention=Retention(max_events_per_session=3)) as inbox:
        for minute in range(6):
            await inbox.record(decision_event("s", "review", minute=minute))
            await inbox.record(watchlist_event(f"name {minute}"))
        await inbox.record(decision_event("s", "approved", minute=9))

        assert 3 == len(await inbox.get_events("s"))
        assert (await inbox.get_states(["s"]))["s"].effective_decision is not None


async def test_old_sessions_are_deleted_in_portions(path: Path) -> None:
    """Expired sessions are deleted in small transactions, until none is left, also when no further record follows."""
    time = 0.0
    async with SqliteInbox(path, retention=Retention(max_age=100), now=lambda: time) as inbox:
        await asyncio.gather(*(inbox.record(decision_event(f"s{number}", "approved")) for number in range(1200)))
        time = 101.0
        await inbox.record(decision_event("new", "approved"))
        assert await asyncio.to_thread(_rows, path) != [1, 1]
        while await asyncio.to_thread(_rows, path) != [1, 1]:  # noqa: ASYNC110  another thread deletes them
            await asyncio.sleep(PAUSE)


def _rows(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as connection:
        both = connection.execute("SELECT count(*) FROM session UNION ALL SELECT count(*) FROM event")
        return [number for (number,) in both]


HOLDING = """
import asyncio, sys
from veriff_async.inbox import SqliteInbox
from veriff_async.testing.factories import decision_event

async def main():
    async with SqliteInbox(sys.argv[1]) as inbox:
        await inbox.record(decision_event("early", "approved"))
        async with SqliteInbox(sys.argv[1]) as second:
            assert await second.get_states(["early"])
        print("open", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await inbox.record(decision_event("late", "approved"))
        print("recorded", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_closing_other_inboxes_loses_nothing(path: Path) -> None:
    """Records after other inboxes have closed the file, in this process and in another, survive a kill."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", HOLDING, str(path)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdin is not None
    assert b"open\n" == await child.stdout.readline()
    async with SqliteInbox(path) as inbox:
        assert {"early"} == set(await inbox.get_states(["early", "late"]))
    child.stdin.write(b"\n")
    assert b"recorded\n" == await child.stdout.readline()
    child.kill()
    await child.wait()
    async with SqliteInbox(path) as inbox:
        assert {"early", "late"} == set(await inbox.get_states(["early", "late"]))


async def test_recorded_events_are_on_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each connection waits for the disk, so that an event survives a loss of power (``synchronous=FULL``)."""
    found: list[int] = []

    class Watched(sqlite3.Connection):
        def close(self) -> None:
            found.append(self.execute("PRAGMA synchronous").fetchone()[0])
            super().close()

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Watched))
    async with SqliteInbox(path) as inbox:
        await inbox.record(decision_event("s", "approved"))
    assert [2, 2] == found


FORKED = """
import asyncio, os, sys, warnings
from veriff_async import ConfigurationError
from veriff_async.inbox import SqliteInbox
from veriff_async.testing.factories import decision_event

warnings.simplefilter("ignore", DeprecationWarning)  # a program with threads that forks is warned by CPython
inbox = SqliteInbox(sys.argv[1])

async def use(session):
    await inbox.record(decision_event(session, "approved"))

asyncio.run(use("parent"))
if child := os.fork():
    failed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    asyncio.run(use("later"))
    asyncio.run(inbox.aclose())
    raise SystemExit(failed)
try:
    asyncio.run(use("child"))
except ConfigurationError as error:
    asyncio.run(inbox.aclose())
    raise SystemExit(0 if "make one in each process" in str(error) else 1)
raise SystemExit(2)
"""


@needs_posix
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
async def test_forked_process_needs_its_own_inbox(path: Path) -> None:
    """A child process refuses an inbox that was open at the fork; the parent's still works."""
    command = [sys.executable, "-W", "error", "-c", FORKED, str(path)]
    done = await asyncio.to_thread(subprocess.run, command, check=False, capture_output=True, text=True)
    assert (0, "") == (done.returncode, without_slow_steps(done.stderr))
    async with SqliteInbox(path) as inbox:
        assert {"parent", "later"} == set(await inbox.get_states(["parent", "child", "later"]))
