"""SQLite files that are deleted, replaced or inherited by a fork, and their content after deletion."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import aclosing, closing
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from tests.conditions import needs_posix, until, without_slow_steps
from veriff_async import ConfigurationError, InboxError, JournalError
from veriff_async._storage.encrypted_text import TextCodec
from veriff_async.batch import JobRecord, JobState, SqliteJournal
from veriff_async.inbox import Retention, SqliteInbox
from veriff_async.inbox._pubsub import Broadcaster
from veriff_async.inbox._sqlite_watch import ChangePublisher, EventWriter
from veriff_async.models.decision_source import DecisionSource
from veriff_async.testing import decision_event, session_event, watchlist_event

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio


def delete(path: Path) -> None:
    """Remove the file and what belongs to it."""
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink(missing_ok=True)  # a thread that lost the file may be closing it


def delete_alone(path: Path) -> None:
    """Remove the file, and leave its log."""
    path.unlink()


def delete_log(path: Path) -> None:
    """Remove the write-ahead log, as in a cleanup of the folder."""
    path.with_name(f"{path.name}-wal").unlink()


def delete_index(path: Path) -> None:
    """Remove the index of the log."""
    path.with_name(f"{path.name}-shm").unlink()


def replace(path: Path) -> None:
    """Replace the file, as when a backup is restored."""
    copy = path.with_name("copy")
    shutil.copyfile(path, copy)
    copy.replace(path)


def move_folder(path: Path) -> None:
    """Move the folder away, and make an empty one."""
    path.parent.rename(path.parent.with_name("moved"))
    path.parent.mkdir()


def shorten(path: Path) -> None:
    """Empty the file where it is, as ``cp`` does before it copies over it."""
    os.truncate(path, 0)


HARMS: Final = (delete, delete_alone, delete_log, delete_index, replace, move_folder, shorten)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the file."""
    folder = tmp_path / "data"
    folder.mkdir()
    return folder / "file.db"


@pytest.mark.parametrize("harm", HARMS)
async def test_record_into_a_lost_file_fails(path: Path, harm: Callable[[Path], None]) -> None:
    """The next record fails instead of being lost; the following one is in the new file."""
    async with SqliteInbox(path) as inbox:
        await inbox.record(session_event("before", "started"))
        await asyncio.to_thread(harm, path)
        with pytest.raises(InboxError, match="was deleted or replaced while it was open"):
            await inbox.record(session_event("lost", "started"))
        if harm in {delete_log, delete_alone}:
            await asyncio.to_thread(delete, path)  # what is left of it belongs to no file
        await inbox.record(session_event("after", "started"))
    async with SqliteInbox(path) as inbox:
        assert "after" in await inbox.get_states(["before", "lost", "after"])


@pytest.mark.parametrize("mode", ["NONE", "FULL"])
async def test_file_that_sqlite_makes_shorter_is_not_lost(path: Path, mode: str) -> None:
    """`VACUUM` in another process, or a commit with `auto_vacuum`, does not make an inbox fail."""

    def vacuum() -> None:
        with closing(sqlite3.connect(path)) as db:
            db.execute(f"PRAGMA auto_vacuum = {mode}")
            db.execute("VACUUM")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    await asyncio.to_thread(vacuum)
    sessions = [f"session-{number}" for number in range(40)]
    async with SqliteInbox(path) as inbox, SqliteInbox(path) as other:
        await asyncio.gather(*(inbox.record(decision_event(session, "approved")) for session in sessions))
        await inbox.erase(sessions[:1])
        for each in (inbox, other):  # they notice how large the file is
            await each.record(session_event("before", "started"))
        await inbox.erase([*sessions, "before"])
        await asyncio.to_thread(vacuum)
        for each in (inbox, other):
            await each.record(session_event("after", "started"))
            assert {"after"} == set(await each.get_states([*sessions, "after"]))


@pytest.mark.parametrize("harm", [delete, replace, move_folder])
async def test_reader_notices_a_lost_file(path: Path, harm: Callable[[Path], None]) -> None:
    """A process that only waits notices that its file was replaced: its subscription fails, and a new one works."""
    async with SqliteInbox(path) as reading:
        async with aclosing(reading.subscribe()) as feed:
            await anext(feed)
            await asyncio.to_thread(harm, path)
            with pytest.raises(InboxError, match="was deleted or replaced"):
                await anext(feed)
        async with SqliteInbox(path) as writing, aclosing(reading.subscribe()) as feed:
            await anext(feed)
            await writing.record(session_event("s", "started"))
            assert "s" == await anext(feed)


async def test_restored_backup_of_an_inbox_is_not_overwritten(path: Path) -> None:
    """The log of a file that was replaced is written into that file, and not into the one that has taken its name."""
    backup, old = path.with_name("backup.db"), path.with_name("old.db")
    async with SqliteInbox(backup) as inbox:
        await inbox.record(session_event("backup", "started"))
    async with SqliteInbox(path) as inbox, SqliteInbox(path) as other:
        await other.get_states(["before"])
        await inbox.record(session_event("before", "started"))
        await asyncio.to_thread(os.link, path, old)
        await asyncio.to_thread(os.replace, backup, path)
        with pytest.raises(InboxError, match="was deleted or replaced"):
            await inbox.record(session_event("again", "started"))
        await inbox.record(session_event("again", "started"))
        with pytest.raises(InboxError, match="was deleted or replaced"):
            await other.get_states(["before"])
        for each in (inbox, other):
            assert {"backup", "again"} == set(await each.get_states(["backup", "before", "again"]))
    async with SqliteInbox(old) as inbox:
        assert "before" in await inbox.get_states(["before"])


async def test_lost_file_is_closed_before_it_is_opened_again(path: Path) -> None:
    """A file is opened again after the threads that lost it have closed it: SQLite deletes a log by its name."""
    async with SqliteInbox(path) as inbox:
        await inbox.record(session_event("before", "started"))
        old = [thread for thread in threading.enumerate() if "inbox" in thread.name]
        await asyncio.to_thread(delete, path)
        with pytest.raises(InboxError, match="was deleted or replaced"):
            await inbox.record(session_event("lost", "started"))
        await inbox.record(session_event("after", "started"))
        assert old
        assert not any(thread.is_alive() for thread in old)


async def test_restored_backup_of_a_journal_is_not_overwritten(path: Path) -> None:
    """The same holds for a journal: the next run continues with the restored file."""
    backup = path.with_name("backup.db")
    for place, name in ((backup, "kept"), (path, "other")):
        async with SqliteJournal(place) as journal:
            await journal.claim(name)
            await journal.write(JobRecord(job_id=name, options_digest="", media=()))
            if place is path:
                await asyncio.to_thread(os.replace, backup, path)
                with pytest.raises(JournalError, match="was deleted or replaced"):
                    await journal.write(JobRecord(job_id=name, state=JobState.CREATED, options_digest="", media=()))
    async with SqliteJournal(path) as journal:
        assert ["kept"] == [record.job_id async for record in journal.iter_records()]


@pytest.mark.parametrize("make", [SqliteInbox, SqliteJournal])
@pytest.mark.parametrize("given", ["", ":memory:", "a\0b", b"inbox.db", 5, None])
def test_path_that_names_no_file_is_refused(make: Callable[[object], object], given: object) -> None:
    """A path that cannot name a file is refused immediately, with an error of this library."""
    with pytest.raises(ConfigurationError, match=r"^The path of the (inbox|journal)"):
        make(given)


@needs_posix
@pytest.mark.parametrize("make", [SqliteInbox, SqliteJournal])
@pytest.mark.parametrize("kind", ["folder", "device"])
async def test_folder_or_device_is_refused(
    tmp_path: Path, make: Callable[[Path], SqliteInbox | SqliteJournal], kind: str
) -> None:
    """A folder or a pipe is named in the error, and does not block."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ConfigurationError, match=f"path names a {kind}"):
        async with make(tmp_path if kind == "folder" else pipe):
            pass


async def test_relative_path_survives_a_change_of_folder(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path means the file that was opened, also after the process has changed its folder."""
    await asyncio.to_thread(monkeypatch.chdir, path.parent)
    async with SqliteInbox(path.name) as inbox, SqliteJournal("batch.db") as journal:
        await inbox.record(session_event("s", "started"))
        await journal.claim("a")
        await asyncio.to_thread(monkeypatch.chdir, "/")
        await inbox.record(session_event("s", "submitted"))
        await journal.write(JobRecord(job_id="a", options_digest="", media=()))


@pytest.mark.parametrize("harm", [delete, replace, move_folder])
async def test_job_record_into_a_lost_file_fails(path: Path, harm: Callable[[Path], None]) -> None:
    """Every further write of a journal fails, since what it wrote before is gone."""
    async with SqliteJournal(path) as journal:
        await journal.claim("a")
        await journal.write(JobRecord(job_id="a", options_digest="", media=()))
        await asyncio.to_thread(harm, path)
        for _ in range(2):
            with pytest.raises(JournalError, match="was deleted or replaced"):
                await journal.write(JobRecord(job_id="a", state=JobState.CREATED, options_digest="", media=()))


async def test_journal_without_its_lock_file_writes_nothing(path: Path) -> None:
    """Without its lock file, another run could claim the journal."""
    async with SqliteJournal(path) as journal:
        await journal.claim("a")
        await asyncio.to_thread(path.with_name("file.db-run").unlink)
        with pytest.raises(JournalError, match="was deleted or replaced"):
            await journal.write(JobRecord(job_id="a", options_digest="", media=()))


def content(path: Path) -> bytes:
    """Return all bytes of the file and of its log."""
    return b"".join(file.read_bytes() for file in sorted(path.parent.iterdir()))


class Careless(sqlite3.Connection):
    """A connection of a SQLite that was built without SECURE_DELETE."""

    def __init__(self, *args: object, **options: object) -> None:
        """Open it, and leave deleted content in the file, as the default of many builds is."""
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.execute("PRAGMA secure_delete = OFF")


@pytest.mark.parametrize("count", [1, 40, 400])
@pytest.mark.parametrize("others", ["none", "a reader"])
async def test_deleted_sessions_are_gone_from_the_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch, count: int, others: str
) -> None:
    """After retention no byte of a person is in the file or in its log, on any build of SQLite, while it is open."""
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Careless))
    now = [1_800_000_000.0]
    limits = Retention(max_age=3600)
    async with (
        SqliteInbox(path, retention=limits, now=lambda: now[0]) as inbox,
        SqliteInbox(path, retention=limits, now=lambda: now[0]) as other,
    ):
        if others == "a reader":
            await other.get_states(["s"])
        ids = [f"person-{number}" for number in range(count)]
        await asyncio.gather(*(inbox.record(decision_event(session_id, "approved", minute=1)) for session_id in ids))
        await asyncio.gather(*(inbox.record(watchlist_event(session_id)) for session_id in ids))
        assert b"person-0" in await asyncio.to_thread(content, path)
        now[0] += 3601
        await inbox.record(session_event("new", "started"))
        retention = inbox._group.workers[0]._database._retention
        await until(lambda: not (retention.has_more or retention.is_stale))

        left = await asyncio.to_thread(content, path)
        assert (0, 0) == (left.count(b"Ada"), left.count(b"person-"))


async def test_deleted_events_are_gone_from_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So are the events that make room for newer ones, and the sessions that make room for others."""
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Careless))
    async with SqliteInbox(path, retention=Retention(max_events_per_session=2, max_sessions=3)) as inbox:
        for number in range(6):
            await inbox.record(decision_event("s", "review", minute=number, ip=f"secret-{number}"))
        for number in range(6):
            await inbox.record(session_event(f"session-{number}", "started"))
        retention = inbox._group.workers[0]._database._retention
        await until(lambda: not (retention.has_more or retention.is_stale))

        left = await asyncio.to_thread(content, path)
        assert [] == [number for number in range(4) if b"secret-%d" % number in left]
        assert [] == [number for number in range(3) if b"session-%d" % number in left]


def test_record_waits_for_a_few_deletions_only(path: Path) -> None:
    """A record deletes a few old sessions and leaves the log alone; the idle writer does the rest in small portions."""
    now = [1_800_000_000.0]
    codec = TextCodec(None, error=InboxError, owner="inbox")
    limits = Retention(max_age=3600)
    publisher = ChangePublisher(Broadcaster())
    with closing(EventWriter(path, limits, lambda: now[0], codec, publisher=publisher)) as writer:
        writer.begin(writes=True)
        for number in range(60):
            writer.insert_event(session_event(f"old-{number}", "started"), DecisionSource.WEBHOOK)
        writer.commit()
        writer.after_commit()
        now[0] += 3601
        log = path.with_name(f"{path.name}-wal")

        writer.begin(writes=True)
        writer.insert_event(session_event("new", "started"), DecisionSource.WEBHOOK)
        writer.commit()
        writer.after_commit()
        assert 50 < _count_sessions(path) < 61
        assert log.stat().st_size > 0

        turns = 0
        while writer.idle_seconds is not None:
            writer.on_idle()
            turns += 1
        assert 3 <= turns <= 6
        assert (1, 0) == (_count_sessions(path), log.stat().st_size)


def test_idle_writer_leaves_old_sessions_while_another_process_writes(path: Path) -> None:
    """Retention that cannot have the lock gives up without an error, and the next record continues it."""
    now = [1_800_000_000.0]
    codec = TextCodec(None, error=InboxError, owner="inbox")
    publisher = ChangePublisher(Broadcaster())
    with closing(EventWriter(path, Retention(max_age=3600), lambda: now[0], codec, publisher=publisher)) as writer:

        def record(*names: str) -> None:
            writer.begin(writes=True)
            for name in names:
                writer.insert_event(session_event(name, "started"), DecisionSource.WEBHOOK)
            writer.commit()
            writer.after_commit()

        record(*(f"old-{number}" for number in range(60)))
        now[0] += 3601
        record("new")
        before = _count_sessions(path)
        writer._db.execute("PRAGMA busy_timeout = 0")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            writer.on_idle()
            other.execute("ROLLBACK")
        assert before == _count_sessions(path)

        record("newer")
        while writer.idle_seconds is not None:
            writer.on_idle()
        assert 2 == _count_sessions(path)


def _count_sessions(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        count: int = db.execute("SELECT count(*) FROM session").fetchone()[0]
        return count


FORKED: Final = """
import asyncio, os, sys, warnings
from veriff_async import ConfigurationError
from veriff_async.batch import SqliteJournal
from veriff_async.inbox import SqliteInbox
from veriff_async.testing.factories import decision_event

warnings.simplefilter("ignore", DeprecationWarning)  # a program with threads that forks is warned by CPython
path, other, kind, moment = sys.argv[1:]


def make(name=path):
    return SqliteInbox(name) if kind == "inbox" else SqliteJournal(name)


async def use(store, name):
    if kind == "inbox":
        await store.record(decision_event(name, "approved"))
    else:
        await store.claim(name)


async def child():
    refused = 0
    for name in (path, os.path.relpath(path), other):
        store = make(name)
        try:
            await use(store, "child")
        except ConfigurationError as error:
            refused += "after the fork" in str(error)
        await store.aclose()
    if moment == "open":
        return refused == 3
    async with make() as mine:
        await use(mine, "child")
    return refused == 0


async def parent():
    store = make()
    if moment != "never opened":
        await use(store, "parent")
    if moment == "closed":
        await store.aclose()
    process = os.fork()
    if not process:  # as multiprocessing does it: in a loop of its own, and without an end of what is inherited
        os._exit(0 if asyncio.run(child()) else 1)
    failed = await asyncio.to_thread(lambda: os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
    if moment == "open":
        await use(store, "later")
    await store.aclose()
    return failed


raise SystemExit(asyncio.run(parent()))
"""


@needs_posix
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
@pytest.mark.parametrize("kind", ["inbox", "journal"])
@pytest.mark.parametrize("moment", ["open", "closed", "never opened"])
async def test_file_that_was_inherited_open_is_refused(path: Path, kind: str, moment: str) -> None:
    """A child process opens no file, by any name, that its parent had open at the fork; any other it may use."""
    other = path.with_name("link.db")
    await asyncio.to_thread(other.symlink_to, path)
    command = (sys.executable, "-W", "error", "-c", FORKED, str(path), str(other), kind, moment)
    done = await asyncio.to_thread(
        partial(subprocess.run, command, check=False, capture_output=True, text=True, cwd=path.parent)
    )
    assert (0, "") == (done.returncode, without_slow_steps(done.stderr))
    if kind == "inbox":
        expected = {"open": {"parent", "later"}, "closed": {"parent", "child"}, "never opened": {"child"}}
        async with SqliteInbox(path) as inbox:
            assert expected[moment] == set(await inbox.get_states(["parent", "child", "later"]))


SERVICE: Final = """
import asyncio, multiprocessing, sys
from veriff_async.inbox import SqliteInbox
from veriff_async.testing.factories import decision_event


def child(path, ready, go):
    async def work():
        async with SqliteInbox(path) as inbox:
            await inbox.record(decision_event("c-0", "approved"))
            ready.set()
            go.wait()
            for number in range(1, 21):
                await inbox.record(decision_event(f"c-{number}", "approved"))

    asyncio.run(work())


async def main(path):
    context = multiprocessing.get_context("spawn")
    ready, go = context.Event(), context.Event()
    async with SqliteInbox(path) as inbox:
        await inbox.record(decision_event("p", "approved"))
        process = context.Process(target=child, args=(path, ready, go))
        process.start()
        await asyncio.to_thread(ready.wait)
    go.set()
    await asyncio.to_thread(process.join)
    raise SystemExit(process.exitcode)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
"""


async def test_spawned_process_may_outlive_its_parent(path: Path) -> None:
    """Records of a spawned child survive, whether the child or the parent closes the file first."""
    program = path.with_name("service.py")
    await asyncio.to_thread(program.write_text, SERVICE)
    command = (sys.executable, str(program), str(path))
    done = await asyncio.to_thread(partial(subprocess.run, command, check=False, capture_output=True, text=True))
    assert (0, "") == (done.returncode, without_slow_steps(done.stderr))
    async with SqliteInbox(path) as inbox:
        assert 22 == len(await inbox.get_states(["p", *(f"c-{number}" for number in range(21))]))


@needs_posix
async def test_file_with_several_names_is_refused(path: Path) -> None:
    """Through a hard link SQLite finds neither the log nor the locks of others; a symbolic link leads to both."""
    async with SqliteInbox(path) as inbox:
        await inbox.record(session_event("s", "started"))
        await asyncio.to_thread(path.with_name("soft.db").symlink_to, path)
        async with SqliteInbox(path.with_name("soft.db")) as same:
            assert {"s"} == set(await same.get_states(["s"]))
        await asyncio.to_thread(path.with_name("hard.db").hardlink_to, path)
        with pytest.raises(ConfigurationError, match="2 hard links"):
            await SqliteInbox(path.with_name("hard.db")).get_states(["s"])
