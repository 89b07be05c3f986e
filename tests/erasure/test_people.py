"""Erasure of persons by what the application knows of them, in real inboxes, and plans of retention."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import pytest
from attrs import evolve

from veriff_async import InvalidArgumentError, UnknownEvent
from veriff_async.batch import JobRecord, MediaRecord, MemoryJournal, SqliteJournal
from veriff_async.erasure import ErasureQueue, RetentionItem, SessionFiles, forget, plan_retention, resume_erasures
from veriff_async.inbox import IgnoredReason, MemoryInbox, SqliteInbox
from veriff_async.inbox._operations import PAGE_SIZE
from veriff_async.testing import decision_event
from veriff_async.testing.factories import decision_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection
    from pathlib import Path

    from veriff_async.erasure import ErasableStore
    from veriff_async.inbox import SessionPage, SessionSearch

pytestmark = pytest.mark.anyio

CANARY: Final = "Zyxwvut"
NOW: Final = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.fixture
async def queue(tmp_path: Path) -> AsyncIterator[ErasureQueue]:
    """Return an empty queue."""
    async with ErasureQueue(tmp_path / "erasures.db") as opened:
        yield opened


def event_of(session_id: str, vendor_data: str) -> UnknownEvent:
    """Return an event of a session with the vendor data of its person."""
    return UnknownEvent(raw={"sessionId": session_id, "vendorData": vendor_data, "name": CANARY})


async def test_all_sessions_of_a_person_are_erased(queue: ErasureQueue, tmp_path: Path) -> None:
    """The inboxes know the sessions by vendor data; every store erases them, and those of others stay."""
    journal = MemoryJournal()
    async with MemoryInbox() as first, SqliteInbox(tmp_path / "inbox.db") as second:
        for session_id, vendor_data in (("a1", "ann"), ("a2", "ann"), ("b1", "bob")):
            await first.record(event_of(session_id, vendor_data))
            await journal.claim(session_id)
            record = JobRecord(job_id=session_id, options_digest="ab", media=(MediaRecord(context="face"),))
            await journal.write(record.with_session(session_id))
            await journal.release(session_id)
        await second.record(event_of("a3", "ann"))

        stores: dict[str, ErasableStore] = {"first": first, "second": second, "journal": journal}
        receipt = await forget(queue=queue, vendor_data="ann", stores=stores)

        assert receipt.is_complete
        assert receipt.erased == {"first": 2, "journal": 2, "second": 1}
        assert all(map(receipt.covers, ("a1", "a2", "a3")))
        assert "ann" not in str(receipt)
        assert await first.get_events("a1") == ()
        assert len(await first.get_events("b1")) == 1
        assert [record.job_id async for record in journal.iter_records()] == ["b1"]
        repeated = await first.record(event_of("a2", "ann"))
        assert repeated.ignored is IgnoredReason.ERASED
        assert await first.get_events("a2") == ()


class BusyInbox(MemoryInbox):
    """An inbox that records an event of the oldest session each time a page has been read."""

    async def find_sessions(self, search: SessionSearch, *, limit: int = 100, page: str | None = None) -> SessionPage:
        """Find sessions, and then move the oldest one to the front."""
        found = await super().find_sessions(search, limit=limit, page=page)
        if found.next_page is not None:
            await self.record(UnknownEvent(raw={"sessionId": "0", "vendorData": "ann", "page": page}))
        return found


async def test_session_that_gets_an_event_during_the_search_is_erased(queue: ErasureQueue) -> None:
    """A session that moves to a page that was read already is found all the same."""
    async with BusyInbox() as inbox:
        for number in range(PAGE_SIZE + 1):
            await inbox.record(event_of(str(number), "ann"))
        receipt = await forget(queue=queue, vendor_data="ann", stores=[inbox])
        assert receipt.is_complete
        assert receipt.covers("0")
        assert await inbox.get_events("0") == ()


async def test_person_without_sessions_is_complete(queue: ErasureQueue) -> None:
    """For a person who is not known, the receipt is complete and covers no session."""
    async with MemoryInbox() as inbox:
        receipt = await forget(queue=queue, end_user_id="unknown", stores=[inbox])
    assert receipt.is_complete
    assert receipt.sessions == ()


ERASING: Final = """
import asyncio, os, signal, sys
from veriff_async.erasure import ErasureQueue, SessionFiles, forget
from veriff_async.inbox import SqliteInbox

class Killed:
    async def erase(self, session_ids):
        os.kill(os.getpid(), signal.SIGKILL)

async def main(folder, step):
    async with ErasureQueue(folder + "/erasures.db") as queue, SqliteInbox(folder + "/inbox.db") as inbox:
        stores = [("inbox", inbox), ("files", SessionFiles(folder + "/downloads/{session_id}"))]
        stores.insert(step, ("killed", Killed()))
        await forget(queue=queue, vendor_data="ann", stores=dict(stores))

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def find_canary(folder: Path) -> list[str]:
    """Return the files of a folder with the person's name in their bytes."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if CANARY.encode() in path.read_bytes()]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("step", [0, 1, 2])
async def test_erasure_that_was_killed_leaves_nothing_when_resumed(tmp_path: Path, step: int) -> None:
    """After SIGKILL between two steps, the resumed erasure leaves no byte of the person in any file."""
    async with SqliteInbox(tmp_path / "inbox.db") as inbox:
        for number in range(20):
            await inbox.record(event_of(f"a{number}", "ann"))
    photo = tmp_path / "downloads" / "a3" / "front.jpg"
    await asyncio.to_thread(photo.parent.mkdir, parents=True)
    await asyncio.to_thread(photo.write_text, CANARY)
    assert sorted(await asyncio.to_thread(find_canary, tmp_path)) == ["front.jpg", "inbox.db"]

    process = await asyncio.create_subprocess_exec(sys.executable, "-c", ERASING, str(tmp_path), str(step))
    assert await process.wait() == -9

    async with ErasureQueue(tmp_path / "erasures.db") as queue, SqliteInbox(tmp_path / "inbox.db") as inbox:
        (open_receipt,) = await queue.get_receipts()
        assert (False, 20) == (open_receipt.is_complete, len(open_receipt.sessions))
        files = SessionFiles(tmp_path / "downloads" / "{session_id}")
        stores: dict[str, ErasableStore] = {"inbox": inbox, "files": files, "killed": MemoryJournal()}
        (receipt,) = await resume_erasures(queue, stores=stores)
        assert receipt.is_complete, receipt.problems
        # While the stores are still open, so that no close tidies up after them.
        assert await asyncio.to_thread(find_canary, tmp_path) == []


async def test_journal_keeps_no_byte_of_an_erased_job(tmp_path: Path) -> None:
    """Records of various sizes leave nothing in the journal's file, its log or its free pages."""
    async with SqliteJournal(tmp_path / "batch.db") as journal:
        for number in range(300):
            job_id = f"job {number}"
            await journal.claim(job_id)
            media = tuple(MediaRecord(context=CANARY + "x" * (number % 70)) for _ in range(number % 9 + 1))
            session_id = "erased" if number % 3 else "kept"
            text = media if session_id == "erased" else (MediaRecord(context="face"),)
            await journal.write(JobRecord(job_id=job_id, options_digest="ab", media=text).with_session(session_id))
            await journal.release(job_id)
        assert await journal.erase(["erased"]) == 200
        assert await asyncio.to_thread(find_canary, tmp_path) == []
        assert len([record async for record in journal.iter_records()]) == 100


async def test_plan_lists_each_store(tmp_path: Path) -> None:
    """The plan has an item for each session of each store, and says which are overdue."""
    inbox = MemoryInbox(now=(NOW - timedelta(days=40)).timestamp)
    journal = MemoryJournal()
    await inbox.record(decision_event("s1", "approved"))
    decided = evolve(decision_of(decision_event("s1", "approved")), decision_time=NOW - timedelta(days=31), raw={})
    for job_id, decision in (("decided", decided), ("waiting", None)):
        record = JobRecord(job_id=job_id, options_digest="ab", media=()).with_session(job_id)
        await journal.claim(job_id)
        await journal.write(record if decision is None else record.with_decision(decision))
    photo = tmp_path / "downloads" / "s3" / "front.jpg"
    await asyncio.to_thread(photo.parent.mkdir, parents=True)
    await asyncio.to_thread(photo.write_bytes, b"picture")
    young = (NOW - timedelta(days=1)).timestamp()
    for path in (photo, photo.parent):
        await asyncio.to_thread(os.utime, path, (young, young))
    stores: dict[str, ErasableStore] = {
        "inbox": inbox,
        "journal": journal,
        "files": SessionFiles(tmp_path / "downloads" / "{session_id}"),
    }

    items = [item async for item in plan_retention(stores, max_age=timedelta(days=30), now=NOW)]

    assert {(item.store, item.session_id): item.is_overdue for item in items} == {
        ("inbox", "s1"): True,
        ("journal", "decided"): True,
        ("journal", "waiting"): False,
        ("files", "s3"): False,
    }
    by_store: dict[str, RetentionItem] = {item.session_id: item for item in items}
    assert by_store["waiting"].due_at is None
    assert by_store["s3"].due_at == NOW + timedelta(days=29)
    await inbox.aclose()


async def test_plan_of_stores_that_know_little(tmp_path: Path) -> None:
    """Jobs without a session, stores without a list and foreign files are left out; a deleted file has no age."""
    journal, inbox = MemoryJournal(), MemoryInbox()
    await journal.claim("begun")
    await journal.write(JobRecord(job_id="begun", options_digest="ab", media=(MediaRecord(context="face"),)))
    await journal.release("begun")
    for number in range(501):  # more than a page
        await inbox.record(event_of(f"s{number}", CANARY))

    class Opaque:
        """A store that can only erase."""

        async def erase(self, session_ids: Collection[str]) -> int:
            """Erase nothing."""
            return 0 * len(session_ids)

    def write() -> None:
        for path in ("a/a.jpg", "b/b.jpg", "b/c.jpg"):
            file = tmp_path / path
            file.parent.mkdir(exist_ok=True)
            file.touch()

    await asyncio.to_thread(write)
    files = SessionFiles(tmp_path / "{session_id}/{session_id}.jpg")
    stores: dict[str, ErasableStore] = {"journal": journal, "opaque": Opaque(), "inbox": inbox}
    longest = [item async for item in plan_retention(stores, max_age=timedelta.max)]
    assert {item.store for item in longest} == {"inbox"}
    assert len({item.session_id for item in longest}) == 501
    assert {item.due_at for item in longest} == {datetime.max.replace(tzinfo=UTC)}

    plan = plan_retention({"files": files}, max_age=timedelta(days=1))
    first = await anext(plan)
    (second,) = {"a", "b"} - {first.session_id}
    await asyncio.to_thread((tmp_path / second / f"{second}.jpg").unlink)
    (item,) = [item async for item in plan]
    assert (item.session_id, item.last_used_at, item.due_at, item.is_overdue) == (second, None, None, False)
    await inbox.aclose()


async def test_person_with_many_sessions_is_erased(queue: ErasureQueue) -> None:
    """The search for the sessions of a person reads every page of an inbox."""
    async with MemoryInbox() as inbox:
        for number in range(501):
            await inbox.record(event_of(f"s{number}", "ada"))
        receipt = await forget(vendor_data="ada", queue=queue, stores={"inbox": inbox})
    assert receipt.is_complete
    assert len(receipt.sessions) == 501


@pytest.mark.parametrize(
    "options",
    [{"max_age": 30}, {"max_age": timedelta()}, {"now": NOW.replace(tzinfo=None)}, {"stores": "inbox"}],
)
async def test_wrong_plan_is_refused(options: dict[str, object]) -> None:
    """A wrong argument of `plan_retention` is an `InvalidArgumentError`."""
    arguments: dict[str, object] = {"stores": [], "max_age": timedelta(days=1), **options}
    with pytest.raises(InvalidArgumentError):
        _ = [item async for item in plan_retention(**arguments)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("downloads/{session_id}", ["downloads/{id}/front.jpg"]),
        ("downloads/{session_id}.jpg", ["downloads/{id}.jpg"]),
        ("d/{session_id}-*.jpg", ["d/{id}-front.jpg", "d/{id}-back.jpg"]),
        ("d/*/{session_id}/", ["d/x/{id}/a", "d/y/{id}/a"]),
        ("d/{session_id}/{session_id}.jpg", ["d/{id}/{id}.jpg"]),
        ("d[1]/{session_id}", ["d[1]/{id}"]),
    ],
)
async def test_files_are_found_by_pattern(tmp_path: Path, pattern: str, paths: list[str]) -> None:
    """A pattern finds the files of its session alone, and lists the sessions that have files."""
    ids = ["8f0d1ab6-0000-4000-8000-000000000001", "8f0d1ab6-0000-4000-8000-000000000002"]

    def write() -> None:
        for session_id in ids:
            for path in paths:
                file = tmp_path / path.format(id=session_id)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text("x")

    await asyncio.to_thread(write)
    files = SessionFiles(tmp_path / pattern if not pattern.endswith("/") else f"{tmp_path}/{pattern}")
    assert {each for each, _ in await asyncio.to_thread(lambda: list(files.find_all()))} == set(ids)

    await files.erase([ids[0], "../../etc", "*"])

    left = await asyncio.to_thread(lambda: [str(path) for path in tmp_path.rglob("*") if path.is_file()])
    assert sorted(left) == sorted(str(tmp_path / path.format(id=ids[1])) for path in paths)
