"""The journal in a SQLite file: one process runs jobs with it, any may read it, and failures are reported."""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import aclosing, asynccontextmanager, closing
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.conditions import needs_posix, run_loop, without_slow_steps
from veriff_async import ConfigurationError, JobClaimedError, JournalError
from veriff_async._storage import sqlite_worker
from veriff_async.batch import JobRecord, JobState, MediaRecord, SqliteJournal
from veriff_async.inbox import SqliteInbox
from veriff_async.testing import decision_event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio


def record_of(job_id: str, state: JobState = JobState.NEW) -> JobRecord:
    """Return a record."""
    return JobRecord(job_id=job_id, state=state, options_digest="ab", media=(MediaRecord(context="face"),))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the journal."""
    return tmp_path / "batch.db"


async def alter_file(path: Path, statement: str) -> None:
    """Change the file as another program could."""

    def alter() -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(statement)

    await asyncio.to_thread(alter)


async def files_in_folder(path: Path) -> list[str]:
    """Return the names of all files in the folder."""
    return await asyncio.to_thread(lambda: sorted(file.name for file in path.parent.iterdir()))


HOLDING: Final = """
import asyncio, sys
from veriff_async import JournalError
from veriff_async.batch import JobRecord, MediaRecord, SqliteJournal

async def main():
    async with SqliteJournal(sys.argv[1]) as journal:
        await journal.claim("a")
        await journal.write(JobRecord(job_id="a", options_digest="ab", media=(MediaRecord(context="face"),)))
        async with SqliteJournal(sys.argv[1]) as second:
            assert await second.read("a")
            try:
                await second.claim("b")
                print("claimed twice", flush=True)
            except JournalError:
                print("held", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await journal.claim("late")
        await journal.write(JobRecord(job_id="late", options_digest="ab", media=(MediaRecord(context="face"),)))
        print("written", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_one_process_at_a_time_runs_jobs(path: Path) -> None:
    """A process that has claims keeps the file, even if it opens and closes other journals; its death releases it."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", HOLDING, str(path)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdin is not None
    assert b"held\n" == await child.stdout.readline()
    async with SqliteJournal(path) as looking:
        assert record_of("a") == await looking.read("a")  # with its locks, the log was not deleted
    child.stdin.write(b"\n")
    assert b"written\n" == await child.stdout.readline()
    async with SqliteJournal(path) as journal:
        for _ in range(2):
            with pytest.raises(JournalError, match="Another run uses this journal: let it end"):
                await journal.claim("b")
        with pytest.raises(JobClaimedError):
            await journal.write(record_of("a", JobState.CREATED))
        assert {JobState.NEW: 2} == await journal.count_by_state()
        child.kill()
        await child.wait()

        assert record_of("a") == await journal.claim("a")
        await journal.write(record_of("a", JobState.CREATED))
        records = [record async for record in journal.iter_records()]
        assert [record_of("a", JobState.CREATED), record_of("late")] == records
    assert ["batch.db", "batch.db-run"] == await files_in_folder(path)


@asynccontextmanager
async def block_writers(path: Path) -> AsyncIterator[None]:
    """Block writers, as another program does that writes for a while."""
    connection = await asyncio.to_thread(sqlite3.connect, path, isolation_level=None, check_same_thread=False)
    try:
        await asyncio.to_thread(connection.execute, "BEGIN IMMEDIATE")
        yield
    finally:
        await asyncio.to_thread(connection.close)


async def test_closing_waits_for_writes(path: Path) -> None:
    """Each of several calls of `aclose` waits for the writes that were begun, and no thread is left."""
    journal = SqliteJournal(path)
    await asyncio.gather(*map(journal.claim, "abc"))
    async with block_writers(path):
        writes = asyncio.gather(*(journal.write(record_of(job_id)) for job_id in "abc"))
        await asyncio.sleep(0)
        ended = asyncio.gather(journal.aclose(), journal.aclose())
        await run_loop(50)
        assert (False, False) == (writes.done(), ended.done())
        for asked in (
            journal.claim("d"),
            journal.write(record_of("a")),
            journal.write(record_of("d")),
            journal.count_by_state(),
        ):
            with pytest.raises(JournalError, match="was closed: make another one"):
                await asked
    await ended
    await run_loop(50)
    assert [None] * 3 == await writes
    assert [] == [thread for thread in threading.enumerate() if "journal" in thread.name]
    assert ["batch.db", "batch.db-run"] == await files_in_folder(path)
    async with SqliteJournal(path) as journal:
        assert {JobState.NEW: 3} == await journal.count_by_state()


@pytest.mark.parametrize("then", ["goes on", "closes"])
async def test_cancelling_every_task_loses_no_write(path: Path, then: str) -> None:
    """Cancelling all tasks, as signal handlers do, damages neither the file nor later calls."""
    closes = then == "closes"
    journal = SqliteJournal(path)
    await asyncio.gather(*map(journal.claim, "abc"))
    others = asyncio.all_tasks()
    async with block_writers(path):
        begun = [asyncio.create_task(journal.write(record_of(job_id))) for job_id in "ab"]
        await run_loop(50)
        begun += [asyncio.create_task(journal.aclose())] if closes else []
        await asyncio.sleep(0)
        for task in asyncio.all_tasks() - others:
            task.cancel()
        await run_loop(50)
        if not closes:
            assert [True] * 2 == [task.cancelled() for task in begun]
            begun.append(asyncio.create_task(journal.write(record_of("c"))))
    await asyncio.gather(*begun, return_exceptions=True)
    await journal.aclose()
    async with SqliteJournal(path) as journal:
        assert {JobState.NEW: 2 if closes else 3} == await journal.count_by_state()


def test_loop_that_ends_early_does_not_block_the_next(path: Path) -> None:
    """A write of a loop that was closed is still done, and the next loop gets its results."""
    journal = SqliteJournal(path)
    asyncio.run(journal.claim("a"))
    loop = asyncio.new_event_loop()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        write = loop.create_task(journal.write(record_of("a")))
        loop.run_until_complete(asyncio.sleep(0))
        write.cancel()
        loop.run_until_complete(asyncio.wait([write]))
        loop.close()
    assert record_of("a") == asyncio.run(journal.read("a"))
    asyncio.run(journal.aclose())


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list of the statements that write records."""
    found: list[str] = []
    connect = sqlite3.connect

    def note(statement: str) -> None:
        if statement.startswith("INSERT"):
            found.append(statement)

    def trace_statements(name: Path, **options: Any) -> sqlite3.Connection:  # noqa: ANN401  as sqlite3 has it
        connection: sqlite3.Connection = connect(name, **options)
        connection.set_trace_callback(note)
        return connection

    monkeypatch.setattr(sqlite3, "connect", trace_statements)
    return found


async def test_waiting_writes_share_a_transaction(path: Path, writes: list[str]) -> None:
    """Writes that arrive during a transaction share the next one."""
    names = [str(number) for number in range(100)]
    async with SqliteJournal(path) as journal:
        await asyncio.gather(*map(journal.claim, names))
        async with block_writers(path):
            written = asyncio.gather(*(journal.write(record_of(name)) for name in names))
            await run_loop(50)
        await written
    assert len(writes) in {1, 2}


async def test_writes_shortly_after_a_commit_share_the_next_one(
    path: Path, writes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While records come concurrently, the thread pauses between two commits, and those of the pause share the next."""
    ended = threading.Event()
    ended.set()
    monkeypatch.setattr(sqlite_worker, "time", SimpleNamespace(monotonic=lambda: 1.0, sleep=lambda _: ended.wait()))
    async with SqliteJournal(path) as journal:
        for name in "abcdefghijklmnopqrst":
            await journal.claim(name)
        await asyncio.gather(*(journal.write(record_of(name)) for name in "abcdefghijklmnopqr"))
        ended.clear()
        before = len(writes)
        written = [asyncio.ensure_future(journal.write(record_of(name))) for name in "st"]
        await run_loop(50)
        ended.set()
        await asyncio.wait(written)
    assert before + 1 == len(writes)


async def test_single_records_do_not_wait_for_others(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that are written one after the other are put on the disk without a pause."""
    pauses: list[float] = []
    monkeypatch.setattr(sqlite_worker, "time", SimpleNamespace(monotonic=lambda: 1.0, sleep=pauses.append))
    async with SqliteJournal(path) as journal:
        for name in "abc":
            await journal.claim(name)
            await journal.write(record_of(name))
    assert [] == pauses


async def test_written_records_are_on_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each connection waits for the disk, so that a record survives a loss of power (``synchronous=FULL``)."""
    found: set[int] = set()

    class WatchedDatabase(sqlite3.Connection):
        def close(self) -> None:
            found.add(self.execute("PRAGMA synchronous").fetchone()[0])
            super().close()

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=WatchedDatabase))
    async with SqliteJournal(path) as journal:
        await journal.claim("a")
        await journal.write(record_of("a"))
    assert {2} == found


async def test_files_are_readable_for_their_owner_only(path: Path) -> None:
    """Decisions hold personal data, so the files ignore a permissive umask."""
    async with SqliteJournal(path) as journal:
        await journal.claim("a")
        await journal.write(record_of("a"))
        modes = await asyncio.to_thread(lambda: {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()})

    assert {0o600} == modes


@pytest.mark.parametrize("kind", ["an inbox", "a text", "newer", "another program's"])
async def test_foreign_file_is_refused_and_unchanged(path: Path, kind: str) -> None:
    """A file that is not a journal, or a newer one, is refused with a remedy, and stays unchanged."""
    if kind == "an inbox":
        async with SqliteInbox(path) as inbox:
            await inbox.record(decision_event("s", "approved"))
    elif kind == "a text":
        await asyncio.to_thread(path.write_text, "Dear diary, " * 100)
    elif kind == "newer":
        async with SqliteJournal(path):
            pass
        await alter_file(path, "PRAGMA user_version = 9")
    else:
        await alter_file(path, "CREATE TABLE job (id)")
    before = await asyncio.to_thread(path.read_bytes)

    for asked in (SqliteJournal(path).claim("a"), SqliteJournal(path).count_by_state()):
        with pytest.raises((ConfigurationError, JournalError), match=r"give another path|NOTADB"):
            await asked
    assert before == await asyncio.to_thread(path.read_bytes)
    if kind == "newer":
        await alter_file(path, "PRAGMA user_version = 1")
        async with SqliteJournal(path) as journal:
            assert {} == await journal.count_by_state()


async def test_failed_write_is_reported_and_undone(path: Path) -> None:
    """A refused write is an error with a remedy, nothing of its batch is written, and later records are."""
    async with SqliteJournal(path) as journal:
        for job_id in "abc":
            await journal.claim(job_id)
        await journal.write(record_of("a"))
        await alter_file(path, "CREATE TRIGGER full BEFORE UPDATE ON job BEGIN SELECT raise(ABORT, 'no more'); END")
        writes = (record_of("b"), record_of("a", JobState.CREATED), record_of("c"))
        found = await asyncio.gather(*map(journal.write, writes), return_exceptions=True)

        assert isinstance(found[1], JournalError)
        assert "SQLITE_CONSTRAINT_TRIGGER): check its folder, its owner, the disk, and other" in str(found[1])
        assert found[1].__cause__ is found[1].__context__ is None
        assert {job_id for job_id, each in zip("bac", found, strict=True) if each is None} == {
            record.job_id async for record in journal.iter_records() if record.job_id != "a"
        }
        assert record_of("a") == await journal.read("a")
        await alter_file(path, "DROP TRIGGER full")
        await asyncio.gather(*map(journal.write, writes))
        assert {JobState.NEW: 2, JobState.CREATED: 1} == await journal.count_by_state()


async def test_unreadable_record_is_reported(path: Path) -> None:
    """Damage to one record fails its readers, and no others."""
    async with SqliteJournal(path) as journal:
        for job_id in "ab":
            await journal.claim(job_id)
            await journal.write(record_of(job_id))
            await journal.release(job_id)
        for damage in ("'[]'", "x'5b5d'", "7"):
            await alter_file(path, f"UPDATE job SET record = {damage} WHERE id = 'a'")  # noqa: S608  a test's own
            for asked in (journal.claim("a"), journal.read("a")):
                with pytest.raises(JournalError, match="look for a newer veriff-async"):
                    await asked
            async with aclosing(journal.iter_records()) as records:
                assert "b" == (await anext(records)).job_id
                with pytest.raises(JournalError, match="1 of the records could not be read"):
                    await anext(records)
        assert record_of("b") == await journal.claim("b")
        await alter_file(path, "DROP TABLE job")
        with pytest.raises(JournalError, match="SQLITE_ERROR"):
            await journal.read("a")


async def test_invalid_paths_are_reported(tmp_path: Path) -> None:
    """A path that names no file is refused when the journal is made, a missing folder when it is opened."""
    for name in ("", ":memory:"):
        with pytest.raises(ConfigurationError, match="names no file"):
            SqliteJournal(name)
    journal = SqliteJournal(tmp_path / "Ada" / "batch.db")
    with pytest.raises(JournalError, match=r"\(No such file or directory\)") as caught:
        await journal.read("a")
    assert "Ada" not in f"{caught.value}{journal!r}"
    await journal.aclose()


async def test_unclosed_journal_warns(path: Path) -> None:
    """A journal that is dropped without closing warns, and its file is closed."""
    dropped = [SqliteJournal(path)]
    before = set(threading.enumerate())
    await dropped[0].claim("a")
    threads = [thread for thread in threading.enumerate() if thread not in before and "journal" in thread.name]
    assert 1 == len(threads)

    def drop() -> None:
        dropped.clear()
        gc.collect()

    with pytest.warns(ResourceWarning, match="unclosed <SqliteJournal open>"):
        drop()
    await asyncio.to_thread(threads[0].join)
    async with SqliteJournal(path) as journal:
        await journal.claim("a")


FORKED: Final = """
import asyncio, os, sys, warnings
from veriff_async import ConfigurationError
from veriff_async.batch import SqliteJournal

warnings.simplefilter("ignore", DeprecationWarning)  # a program with threads that forks is warned by CPython
journal = SqliteJournal(sys.argv[1])
asyncio.run(journal.claim("a"))
if child := os.fork():
    failed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    asyncio.run(journal.aclose())
    raise SystemExit(failed)
try:
    asyncio.run(journal.read("a"))
except ConfigurationError as error:
    asyncio.run(journal.aclose())
    os._exit(0 if "make one in each process" in str(error) else 1)  # as multiprocessing ends: it closes nothing
os._exit(2)
"""


@needs_posix
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
async def test_forked_process_needs_its_own_journal(path: Path) -> None:
    """A journal that was open before a fork is refused after it, and the parent closes its own."""
    command = [sys.executable, "-W", "error", "-c", FORKED, str(path)]
    done = await asyncio.to_thread(subprocess.run, command, check=False, capture_output=True, text=True)
    assert (0, "") == (done.returncode, without_slow_steps(done.stderr))


SPELLINGS: Final = ("link", "folder link", "link of a link", "dots", "relative", "through /proc")


async def spell_path(path: Path, how: str) -> Path:
    """Return another name of the same file."""

    def make() -> Path:
        away = path.parent / "away"
        away.mkdir()
        if how == "link":
            (away / "other.db").symlink_to(path)
            return away / "other.db"
        if how == "folder link":
            (away / "folder").symlink_to(path.parent, target_is_directory=True)
            return away / "folder" / path.name
        if how == "link of a link":
            (away / "first.db").symlink_to(path)
            (away / "second.db").symlink_to("first.db")
            return away / "second.db"
        if how == "relative":
            return type(path)(os.path.relpath(path))
        if how == "through /proc":
            return type(path)("/proc/self/root") / path.relative_to("/")
        return away / ".." / path.name

    return await asyncio.to_thread(make)


@needs_posix
@pytest.mark.parametrize("how", SPELLINGS)
@pytest.mark.parametrize("is_new", [True, False], ids=["new file", "old file"])
async def test_one_run_per_journal_through_any_path(path: Path, how: str, is_new: bool) -> None:  # noqa: FBT001
    """A second run through another path of the journal is refused, and leaves no files under that path."""
    if not is_new:
        async with SqliteJournal(path) as before, holding(before, "a"):
            await before.write(record_of("a"))
    other = await spell_path(path, how)
    async with SqliteJournal(other if is_new else path) as first:
        await first.claim("a")
        await first.write(record_of("a", JobState.CREATING))
        async with SqliteJournal(path if is_new else other) as second:
            assert record_of("a", JobState.CREATING) == await second.read("a")
            with pytest.raises(JournalError, match="Another run uses this journal"):
                await second.claim("b")

    assert {"batch.db", "batch.db-run", "away"} >= set(await files_in_folder(path))
    assert [] == [name for name in await files_in_folder(path.parent / "away" / "any") if "-" in name]


async def test_journal_with_hard_links_is_refused(path: Path) -> None:
    """SQLite cannot see that two names are one file, so neither name is used."""
    async with SqliteJournal(path) as journal:
        await journal.claim("a")
    other = path.with_name("other.db")
    await asyncio.to_thread(other.hardlink_to, path)
    for name in (path, other):
        with pytest.raises(ConfigurationError, match="2 hard links"):
            async with SqliteJournal(name):
                pass
    await asyncio.to_thread(other.unlink)
    async with SqliteJournal(path) as journal:
        await journal.claim("a")


async def test_file_that_is_a_mount_point_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that mounts the file itself has no lock in common with others; the folder must be mounted."""
    strange = path.with_name("my batch.db")
    table = f"36 35 98:0 / {str(strange).replace(' ', chr(92) + '040')} rw - ext4 /dev/root rw\n36\n"
    read_bytes = type(path).read_bytes

    def read(file: Path) -> bytes:
        return table.encode() if str(file) == "/proc/self/mountinfo" else read_bytes(file)

    async with SqliteJournal(strange):
        pass
    monkeypatch.setattr(type(path), "read_bytes", read)
    with pytest.raises(ConfigurationError, match="mount its folder"):
        async with SqliteJournal(strange):
            pass


@pytest.mark.parametrize("how", ["removed", "replaced"])
async def test_write_into_a_lost_file_fails(path: Path, how: str) -> None:
    """A write to a file without a name would be lost, so it is refused."""
    async with SqliteJournal(path) as journal:
        await journal.claim("a")
        await asyncio.to_thread(path.rename, path.with_name("old.db"))
        if how == "replaced":
            await asyncio.to_thread(path.write_bytes, b"")
        with pytest.raises(JournalError, match="deleted or replaced"):
            await journal.write(record_of("a"))


@asynccontextmanager
async def holding(journal: SqliteJournal, job_id: str) -> AsyncIterator[None]:
    """Hold a claim."""
    await journal.claim(job_id)
    yield
    await journal.release(job_id)
