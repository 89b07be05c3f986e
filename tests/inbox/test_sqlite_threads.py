"""Threads of SQLite stores: none ends silently, and none is left behind."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

import pytest

from veriff_async import ConfigurationError, InboxError, JournalError
from veriff_async.batch import JobRecord, SqliteJournal
from veriff_async.inbox import IgnoredReason, SqliteInbox
from veriff_async.testing import decision_event, session_event

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class ClosingLoop(asyncio.SelectorEventLoop):
    """An event loop that is closed between the question whether it is and the next call."""

    ends = False

    def is_closed(self) -> bool:
        """Return what was true a moment ago."""
        return False if self.ends else super().is_closed()

    def call_soon_threadsafe(self, *args: object, **options: object) -> asyncio.Handle:
        """Refuse as a closed loop does."""
        if self.ends:
            msg = "Event loop is closed"
            raise RuntimeError(msg)
        return super().call_soon_threadsafe(*args, **options)  # type: ignore[arg-type]


def threads() -> set[threading.Thread]:
    """Return the threads of this library that run."""
    return {thread for thread in threading.enumerate() if "veriff-async" in thread.name}


@pytest.mark.parametrize("kind", ["inbox", "journal"])
def test_closing_loop_does_not_end_the_thread(tmp_path: Path, kind: str) -> None:
    """A result for a loop that is just being closed is dropped, and the next loop is served."""
    inbox, journal = SqliteInbox(tmp_path / "inbox.db"), SqliteJournal(tmp_path / "batch.db")

    async def use() -> None:
        if kind == "inbox":
            await inbox.record(session_event("s", "started"))
            await inbox.get_states(["s"])
        else:
            await journal.read("a")

    async def leave() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ClosingLoop)
        tasks = [loop.create_task(use())]
        await asyncio.sleep(0)
        loop.ends = True
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    asyncio.run(use())
    before = threads()
    loop = ClosingLoop()
    loop.run_until_complete(leave())
    loop.ends = False
    loop.close()
    asyncio.run(use())

    assert before == threads()
    asyncio.run(inbox.aclose())
    asyncio.run(journal.aclose())


def end_thread(*_: object) -> None:
    """Fail as nothing that is caught does."""
    raise SystemExit


@pytest.mark.anyio
@pytest.mark.parametrize("place", [0, 1])
async def test_failed_thread_is_replaced(tmp_path: Path, place: int, caplog: pytest.LogCaptureFixture) -> None:
    """A failed thread fails its subscriptions, the inbox starts another one, and the log says it once."""
    async with SqliteInbox(tmp_path / "inbox.db") as inbox:
        await inbox.record(session_event("s", "started"))
        async with aclosing(inbox.subscribe()) as feed:
            await anext(feed)
            assert inbox._group.workers
            inbox._group.workers[place].submit(end_thread, writes=False).cancel()
            with pytest.raises(InboxError, match="thread of the inbox failed with SystemExit"):
                await anext(feed)

        assert (await inbox.record(decision_event("s", "approved"))).ignored is None
        assert (await inbox.record(session_event("s", "started"))).ignored is IgnoredReason.DUPLICATE
        assert {"s"} == set(await inbox.get_states(["s"]))
    assert 1 == sum(record.levelno == logging.ERROR for record in caplog.records)


@pytest.mark.anyio
async def test_failed_thread_fails_its_waiting_jobs(tmp_path: Path) -> None:
    """No record and no read waits forever for a failed thread."""
    async with SqliteInbox(tmp_path / "inbox.db") as inbox:
        await inbox.get_states([])
        assert inbox._group.workers
        for worker in inbox._group.workers:
            with suppress(InboxError):  # the end of the first one may have stopped the second
                worker.submit(end_thread, writes=False).cancel()
        waiting = [inbox.record(session_event("s", "started")), inbox.get_states(["s"]), inbox.get_events("s")]
        results = await asyncio.gather(*waiting, return_exceptions=True)

        assert all(isinstance(result, InboxError) or not isinstance(result, Exception) for result in results)
        assert (await inbox.record(decision_event("s", "approved"))).state is not None


@pytest.mark.anyio
async def test_failing_clock_fails_one_record(tmp_path: Path) -> None:
    """An error of the clock fails the record, and does not end the thread."""
    times: list[float] = [1.0]

    def now() -> float:
        return times[0]

    async with SqliteInbox(tmp_path / "inbox.db", now=now) as inbox:
        await inbox.record(session_event("s", "started"))
        running = threads()
        times.clear()
        with pytest.raises(InboxError, match="IndexError"):
            await inbox.record(session_event("s", "submitted"))
        times.append(2.0)
        assert (await inbox.record(session_event("s", "submitted"))).ignored is None
        assert running == threads()


@pytest.mark.anyio
async def test_journal_with_a_failed_thread_stays_failed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its claims ended with the thread, so it is not restarted: every call fails, and the log says it once."""
    async with SqliteJournal(tmp_path / "batch.db") as journal:
        await journal.claim("a")
        with pytest.raises(JournalError, match="thread of the journal failed with SystemExit"):
            await journal._group.run(end_thread)
        record = JobRecord(job_id="a", options_digest="", media=())
        for asked in (journal.read("a"), journal.write(record), journal.claim("b"), journal.count_by_state()):
            with pytest.raises(
                JournalError, match="thread of the journal failed with SystemExit: continue with another journal"
            ):
                await asked
    async with SqliteJournal(tmp_path / "batch.db") as journal:
        assert await journal.claim("a") is None
    assert 1 == len(caplog.records)


@pytest.mark.anyio
@pytest.mark.parametrize("make", [SqliteInbox, SqliteJournal])
async def test_failed_open_leaves_no_thread(
    tmp_path: Path, make: Callable[[Path], SqliteInbox | SqliteJournal]
) -> None:
    """A failed ``async with`` leaves no thread, and can be tried again."""
    path, before = tmp_path / "file.db", threads()
    await asyncio.to_thread(path.write_text, "Dear diary, " * 100)
    store = make(path)
    for _ in range(3):
        with pytest.raises((ConfigurationError, InboxError, JournalError)):
            async with store:
                pass
        assert before == threads()
    await asyncio.to_thread(path.unlink)
    async with store:
        pass
    assert before == threads()


@pytest.mark.anyio
async def test_first_call_that_cannot_open_leaves_no_thread(tmp_path: Path) -> None:
    """A call outside of ``async with`` that cannot open the file leaves no thread either."""
    path, before = tmp_path / "file.db", threads()
    await asyncio.to_thread(path.write_text, "Dear diary, " * 100)
    for call in (SqliteInbox(path).get_states(["s"]), SqliteJournal(path).read("a")):
        with pytest.raises((InboxError, JournalError), match="NOTADB"):
            await call
    assert before == threads()


@pytest.mark.anyio
async def test_inbox_and_journal_refuse_the_file_of_the_other(tmp_path: Path) -> None:
    """One file cannot be an inbox and a journal."""
    async with SqliteJournal(tmp_path / "batch.db"):
        pass
    with pytest.raises(ConfigurationError, match="another program's file"):
        await SqliteInbox(tmp_path / "batch.db").get_states(["s"])


@pytest.mark.anyio
@pytest.mark.parametrize("make", [SqliteInbox, SqliteJournal])
@pytest.mark.parametrize("turns", [0, 1, 3])
async def test_cancelled_open_leaves_no_thread(
    tmp_path: Path, make: Callable[[Path], SqliteInbox | SqliteJournal], turns: int
) -> None:
    """Cancelling an open leaves no thread."""
    before, store = threads(), make(tmp_path / "file.db")
    opening = asyncio.create_task(store.__aenter__())
    for _ in range(turns):
        await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait([opening])

    assert before == threads()


@pytest.mark.anyio
@pytest.mark.parametrize("make", [SqliteInbox, SqliteJournal])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
async def test_cancelled_close_leaves_no_thread(
    tmp_path: Path, make: Callable[[Path], SqliteInbox | SqliteJournal], turns: int
) -> None:
    """A cancelled close still closes the file: its threads end, and its log is removed."""
    before, store = threads(), make(tmp_path / "file.db")
    await store.__aenter__()
    left = threads() - before
    closing = asyncio.create_task(store.aclose())
    for _ in range(turns):
        await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    if turns == 0:  # it had not begun
        await store.aclose()
    for thread in left:
        await asyncio.to_thread(thread.join)

    assert not await asyncio.to_thread((tmp_path / "file.db-wal").exists)
