"""Erasure of sessions at Veriff and in stores: steps, quota, crashes, problems, and receipts without personal data."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final

import pytest

from tests.conditions import needs_posix
from veriff_async import (
    ConfigurationError,
    ErasureError,
    InboxError,
    InvalidArgumentError,
    PermissionDeniedError,
    VeriffClient,
)
from veriff_async.batch import JobRecord, MediaRecord, SqliteJournal
from veriff_async.cli.batch.results import open_results
from veriff_async.erasure import (
    ErasureQueue,
    ResultsFile,
    SessionFiles,
    VeriffErasure,
    _time_limit,
    files,
    forget,
    resume_erasures,
)
from veriff_async.erasure._queue_file import QueuedDeletion
from veriff_async.erasure.forget import forget_each
from veriff_async.inbox import MemoryInbox, SessionPage, SessionSearch
from veriff_async.sandbox import Fault, Sandbox, SandboxOptions, VirtualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from veriff_async.erasure import ErasableStore

pytestmark = pytest.mark.anyio

CANARY: Final = "Zyxwvut"
HOUR: Final = 3601.0


class Store:
    """A store of the user: it remembers what it was asked to erase, and fails as often as it was given errors."""

    def __init__(self, *errors: Exception) -> None:
        """Take the errors to raise first."""
        self.erased: list[tuple[str, ...]] = []
        self.errors = list(errors)

    async def erase(self, session_ids: Collection[str]) -> int:
        """Raise the next error, or remember the call."""
        if self.errors:
            raise self.errors.pop(0)
        self.erased.append(tuple(session_ids))
        return len(session_ids)


class Veriff:
    """A sandbox with its client and a queue, which share a clock."""

    def __init__(self, sandbox: Sandbox, clock: VirtualClock, client: VeriffClient, path: Path) -> None:
        """Take the path of the queue."""
        self.sandbox, self.clock, self.client, self.path = sandbox, clock, client, path

    def queue(self) -> ErasureQueue:
        """Return another handle on the queue."""
        return ErasureQueue(self.path, now=lambda: self.clock.now().timestamp())

    async def sessions(self, count: int) -> list[str]:
        """Create sessions."""
        return [(await self.client.create_session(vendor_data=CANARY)).id for _ in range(count)]

    def deleted(self) -> int:
        """Return how many sessions Veriff has deleted."""
        return sum(session.deleted for session in self.sandbox.sessions)


@asynccontextmanager
async def open_veriff(path: Path, *, allow_deletion: bool = True) -> AsyncIterator[Veriff]:
    """Run a sandbox."""
    clock, options = VirtualClock(), SandboxOptions(allow_deletion=allow_deletion)
    async with Sandbox(clock=clock, options=options) as sandbox, VeriffClient.from_env(sandbox.environ) as client:
        yield Veriff(sandbox, clock, client, path)


@pytest.fixture
async def veriff(tmp_path: Path) -> AsyncIterator[Veriff]:
    """Return a sandbox that permits deletions."""
    async with open_veriff(tmp_path / "erasures.db") as opened:
        yield opened


async def test_session_is_erased_everywhere(veriff: Veriff) -> None:
    """One call erases a session at Veriff and in every store, and returns a complete receipt."""
    (session_id,), inbox, journal = await veriff.sessions(1), Store(), Store()
    async with veriff.queue() as queue:
        receipt = await forget(
            session_id, queue=queue, client=veriff.client, stores={"inbox": inbox, "journal": journal}
        )

    assert receipt.is_complete
    assert receipt.covers(session_id)
    assert not receipt.covers("another")
    assert receipt.veriff == {VeriffErasure.DELETED: 1}
    assert not receipt.problems
    assert receipt.next_attempt_at is None
    assert veriff.deleted() == 1
    assert set(inbox.erased) == set(journal.erased) == {(session_id,)}


async def test_stores_erase_again_after_veriff(veriff: Veriff) -> None:
    """Stores erase before Veriff is asked, and again afterwards, because webhooks may have arrived in between."""
    (session_id,) = await veriff.sessions(1)
    deleted_before: list[int] = []

    class Watching(Store):
        """A store that looks at Veriff."""

        async def erase(self, session_ids: Collection[str]) -> int:
            """Remember how many sessions Veriff had deleted."""
            deleted_before.append(veriff.deleted())
            return await super().erase(session_ids)

    async with veriff.queue() as queue:
        await forget(session_id, queue=queue, client=veriff.client, stores=[Watching()])

    assert deleted_before == [0, 1]


async def test_quota_spreads_erasures_over_hours(veriff: Veriff) -> None:
    """Five sessions an hour are deleted at Veriff, which never refuses one; the receipt says when to resume."""
    sessions = await veriff.sessions(7)
    async with veriff.queue() as queue:
        receipts = [await forget(session, queue=queue, client=veriff.client) for session in sessions]
        assert [receipt.is_complete for receipt in receipts] == [True] * 5 + [False] * 2
        assert veriff.deleted() == 5
        first_sent = receipts[0].completed_at
        assert first_sent is not None
        next_attempt = receipts[-1].next_attempt_at
        assert next_attempt is not None
        assert (next_attempt - first_sent).total_seconds() == pytest.approx(3600, abs=60)

        assert [receipt.is_complete for receipt in await resume_erasures(queue, client=veriff.client)] == [False] * 2
        veriff.sandbox.advance(HOUR)
        assert [receipt.is_complete for receipt in await resume_erasures(queue, client=veriff.client)] == [True] * 2
        assert await resume_erasures(queue, client=veriff.client) == []
    assert veriff.deleted() == 7
    assert not [request for request in veriff.sandbox.requests if request.status == 429]


async def test_quota_of_a_day_is_shared_by_processes(veriff: Veriff) -> None:
    """Queues over one file share the quota of ten a day, also after they were closed and opened again."""
    sessions = await veriff.sessions(12)
    for session in sessions[:10]:
        async with veriff.queue() as queue:
            await forget(session, queue=queue, client=veriff.client)
            if not (await queue.get_receipts())[-1].is_complete:
                veriff.sandbox.advance(HOUR)
                await resume_erasures(queue, client=veriff.client)
    assert veriff.deleted() == 10
    async with veriff.queue() as first, veriff.queue() as second:
        await asyncio.gather(
            forget(sessions[10], queue=first, client=veriff.client),
            forget(sessions[11], queue=second, client=veriff.client),
        )
        veriff.sandbox.advance(HOUR)
        await asyncio.gather(*(resume_erasures(queue, client=veriff.client) for queue in (first, second)))
        assert veriff.deleted() == 10
        veriff.sandbox.advance(24 * HOUR)
        await asyncio.gather(*(resume_erasures(queue, client=veriff.client) for queue in (first, second)))
        assert [receipt.is_complete for receipt in await first.get_receipts()] == [True] * 12
    assert veriff.deleted() == 12
    assert not [request for request in veriff.sandbox.requests if request.status == 429]


async def test_quota_that_others_used_pauses_the_queue(veriff: Veriff) -> None:
    """When Veriff refuses because another program has used the quota, the queue waits an hour."""
    for session_id in await veriff.sessions(5):
        await veriff.client.session(session_id).delete()
    (session_id,) = await veriff.sessions(1)
    async with veriff.queue() as queue:
        receipt = await forget(session_id, queue=queue, client=veriff.client)
        assert receipt.veriff == {VeriffErasure.WAITING: 1}
        asked = len(veriff.sandbox.requests)
        await resume_erasures(queue, client=veriff.client)
        assert len(veriff.sandbox.requests) == asked
        veriff.sandbox.advance(HOUR)
        (receipt,) = await resume_erasures(queue, client=veriff.client)
    assert receipt.is_complete


async def test_session_that_is_not_decided_waits(veriff: Veriff) -> None:
    """Veriff deletes no session before its decision, so the erasure tries again every hour."""
    (session_id,) = await veriff.sessions(1)
    await veriff.client.session(session_id).submit()
    async with veriff.queue() as queue:
        receipt = await forget(session_id, queue=queue, client=veriff.client)
        assert receipt.veriff == {VeriffErasure.WAITING: 1}
        assert not receipt.problems
        veriff.sandbox.decide(session_id, "declined")
        veriff.sandbox.advance(HOUR)
        (receipt,) = await resume_erasures(queue, client=veriff.client)
    assert receipt.veriff == {VeriffErasure.DELETED: 1}
    assert receipt.is_complete


async def test_unknown_session_is_complete(veriff: Veriff) -> None:
    """A session that Veriff does not know, or that was deleted before, needs no further step."""
    (session_id,) = await veriff.sessions(1)
    await veriff.client.session(session_id).delete()
    async with veriff.queue() as queue:
        receipt = await forget(session_id, queue=queue, client=veriff.client)
    assert receipt.is_complete
    assert receipt.veriff == {VeriffErasure.UNKNOWN: 1}


async def test_deletion_that_is_not_enabled_is_a_problem(tmp_path: Path) -> None:
    """The receipt says that Veriff must enable deletion; the stores are erased, and nothing is lost."""
    async with open_veriff(tmp_path / "erasures.db", allow_deletion=False) as veriff:
        (session_id,), store = await veriff.sessions(1), Store()
        async with veriff.queue() as queue:
            receipt = await forget(session_id, queue=queue, client=veriff.client, stores=[store], wait=True)
    assert PermissionDeniedError.__name__ in receipt.problems["veriff"]
    assert not receipt.is_complete
    assert store.erased == [(session_id,)]


async def test_store_that_fails_is_tried_again(veriff: Veriff) -> None:
    """A store that fails keeps its erasure open, names the error without its text, and does not stop the others."""
    (session_id,), good = await veriff.sessions(1), Store()
    bad = Store(ValueError(CANARY), InboxError("The inbox is full."))
    stores = {"bad": bad, "good": good}
    async with veriff.queue() as queue:
        receipt = await forget(session_id, queue=queue, client=veriff.client, stores=stores)
        assert receipt.problems == {"bad": "InboxError: The inbox is full."}
        assert not receipt.is_complete
        assert good.erased
        (receipt,) = await resume_erasures(queue, client=veriff.client, stores=stores)
        assert receipt.is_complete
        assert not receipt.problems
    assert CANARY not in str(receipt)


async def test_store_that_fails_after_veriff_keeps_the_erasure_open(veriff: Veriff) -> None:
    """An erasure ends only when each store has erased after Veriff: webhooks may have arrived in between."""
    (session_id,) = await veriff.sessions(1)

    class FailsSecondTime(Store):
        """A store that is away when it is asked again."""

        async def erase(self, session_ids: Collection[str]) -> int:
            """Raise an error from the second call on."""
            if self.erased:
                msg = "The inbox is away."
                raise InboxError(msg)
            return await super().erase(session_ids)

    async with veriff.queue() as queue:
        receipt = await forget(session_id, queue=queue, client=veriff.client, stores={"inbox": FailsSecondTime()})
        assert not receipt.is_complete
        assert receipt.problems == {"inbox": "InboxError: The inbox is away."}
        (receipt,) = await resume_erasures(queue, client=veriff.client)
        assert "not passed" in receipt.problems["inbox"]
        (receipt,) = await resume_erasures(queue, client=veriff.client, stores={"inbox": Store()})
    assert receipt.is_complete


@pytest.mark.parametrize("result", [None, "Ada", True, -1, 2**70, 0.5, asyncio.CancelledError()])
async def test_store_that_returns_no_number_is_a_problem(veriff: Veriff, result: object) -> None:
    """A store's own mistake is named in the receipt, without a value, and ends neither the call nor the queue."""

    class Wrong:
        """A store with a mistake."""

        async def erase(self, session_ids: Collection[str]) -> int:
            """Return or raise something else."""
            assert session_ids
            if isinstance(result, BaseException):
                raise result
            return result  # type: ignore[return-value]

    async with veriff.queue() as queue:
        receipt = await forget("a", queue=queue, stores={"wrong": Wrong()})
        assert not receipt.is_complete
        assert set(receipt.problems) == {"wrong"}
        assert "Ada" not in str(receipt)
        (receipt,) = await resume_erasures(queue, stores={"wrong": Store()})
    assert receipt.is_complete


async def test_clock_that_was_set_back_delays_deletions_by_an_hour(veriff: Veriff) -> None:
    """Times of the future count as now, once: the quota is kept, and nothing waits until they come."""
    sessions = await veriff.sessions(7)
    years = [3e8]
    async with ErasureQueue(veriff.path, now=lambda: veriff.clock.now().timestamp() + years[0]) as queue:
        receipts = [await forget(each, queue=queue, client=veriff.client) for each in sessions[:5]]
        assert all(receipt.is_complete for receipt in receipts)
        await veriff.client.session(sessions[6]).submit()
        years[0] = 0.0
        for each in sessions[5:]:
            assert not (await forget(each, queue=queue, client=veriff.client)).is_complete
        veriff.sandbox.advance(HOUR)
        await resume_erasures(queue, client=veriff.client)
        years[0] = -3e8  # the session that is not decided waits for a time of the future
        await resume_erasures(queue, client=veriff.client)
        veriff.sandbox.decide(sessions[6], "declined")
        veriff.sandbox.advance(2 * HOUR)
        await resume_erasures(queue, client=veriff.client)
        assert all(receipt.is_complete for receipt in await queue.get_receipts())


async def test_wait_ends_when_only_refused_deletions_are_left(veriff: Veriff) -> None:
    """An error that time does not change ends the wait; the receipt names it."""
    (session_id,) = await veriff.sessions(1)
    veriff.sandbox.inject(Fault.status(400, code="1999"), method="DELETE")
    async with veriff.queue() as queue:
        async with asyncio.timeout(60):
            receipt = await forget(session_id, queue=queue, client=veriff.client, wait=True)
        assert receipt.problems["veriff"].startswith("BadRequestError")
        await veriff.client.aclose()
        veriff.sandbox.advance(HOUR)
        async with asyncio.timeout(60):
            (receipt,) = await resume_erasures(queue, client=veriff.client, wait=True)
    assert receipt.problems["veriff"].startswith("ClientClosedError")


async def test_progress_is_reported(veriff: Veriff) -> None:
    """The callback gets the receipt after each deletion at Veriff, and when the erasure is complete."""
    (session_id,), progress = await veriff.sessions(1), list[bool]()
    await veriff.client.session(session_id).submit()
    async with veriff.queue() as queue:
        await forget(session_id, queue=queue, client=veriff.client)
        veriff.sandbox.decide(session_id, "declined")
        veriff.sandbox.advance(HOUR)
        await resume_erasures(
            queue, client=veriff.client, on_progress=lambda receipt: progress.append(receipt.is_complete)
        )
    assert progress == [False, True]


async def test_error_of_veriff_is_a_problem_until_the_next_hour(veriff: Veriff) -> None:
    """When Veriff fails, the receipt names the error, and the deletion is sent again after a pause."""
    (session_id,) = await veriff.sessions(1)
    veriff.sandbox.inject(Fault.status(501), method="DELETE")
    async with veriff.queue() as queue:
        receipt = await forget(session_id, queue=queue, client=veriff.client)
        assert receipt.problems["veriff"].startswith("ServerError")
        assert receipt.next_attempt_at is not None
        veriff.sandbox.advance(HOUR)
        (receipt,) = await resume_erasures(queue, client=veriff.client)
        assert receipt.is_complete
        with pytest.raises(ErasureError, match="no erasure with this id"):
            await queue.get_receipt("another")


async def test_late_outcome_does_not_open_a_complete_erasure(veriff: Veriff) -> None:
    """A process that took long stores its outcome after another one has completed the erasure: it changes nothing."""
    async with veriff.queue() as queue:
        steps = queue.steps
        erasure_id = await steps.add(["a"], [], integration="shop")
        late = await steps.reserve_deletion("shop")
        assert isinstance(late, QueuedDeletion)
        await steps.save_deletion(late, VeriffErasure.DELETED)
        assert await steps.complete(erasure_id)
        await steps.save_deletion(late, VeriffErasure.WAITING)
        await steps.save_problem(erasure_id, "veriff", "RequestTimeoutError")
        assert await steps.reserve_deletion("shop") is None
        receipt = await queue.get_receipt(erasure_id)
    assert receipt.is_complete
    assert not receipt.problems
    assert receipt.veriff == {VeriffErasure.DELETED: 1}


async def test_store_that_is_not_passed_again_is_a_problem(veriff: Veriff) -> None:
    """An erasure is complete only when every store with which it was started has erased."""
    (session_id,) = await veriff.sessions(1)
    async with veriff.queue() as queue:
        await forget(session_id, queue=queue, client=veriff.client, stores={"inbox": Store(OSError(), OSError())})
        (receipt,) = await resume_erasures(queue, client=veriff.client)
        assert "not passed" in receipt.problems["inbox"]
        (receipt,) = await resume_erasures(queue, client=veriff.client, stores={"inbox": Store()})
    assert receipt.is_complete


class HangingStore:
    """A store that does not end; until the event `released` is set, some even refuse to be cancelled."""

    def __init__(self, *, refuses_to_end: bool = False) -> None:
        """Begin without calls."""
        self.calls = self.running = 0
        self.begun, self.ended, self.released = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.refuses_to_end = refuses_to_end

    async def erase(self, session_ids: Collection[str]) -> int:
        """Wait for ever."""
        self.calls += 1
        self.running += 1
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            if self.refuses_to_end:
                await self.released.wait()
            self.running -= 1
            if not self.running:
                self.ended.set()
        return len(session_ids)


async def test_store_that_hangs_fails_after_its_timeout(veriff: Veriff) -> None:
    """The other stores and Veriff erase, the receipt names the store and the remedy, and the erasure is resumed."""
    (session_id,), hanging, good = await veriff.sessions(1), HangingStore(), Store()
    stores: dict[str, ErasableStore] = {"inbox": hanging, "good": good}
    async with veriff.queue() as queue:
        receipt = await forget(session_id, queue=queue, client=veriff.client, stores=stores, store_timeout=0.01)
        assert 0 == hanging.running
        assert not receipt.is_complete
        assert receipt.problems == {
            "inbox": "ErasureError: The store inbox has not erased within 0.01 seconds: check whether it can be "
            "reached, or give it more time with store_timeout, and resume the erasure."
        }
        assert good.erased
        assert veriff.deleted() == 1
        (receipt,) = await resume_erasures(queue, client=veriff.client, stores=stores | {"inbox": Store()})
    assert receipt.is_complete
    assert not receipt.problems


async def test_store_that_refuses_to_end_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store whose thread cannot be cancelled keeps neither the other stores nor a cancellation waiting."""
    monkeypatch.setattr(_time_limit, "_CANCEL_SECONDS", 0.01)
    hanging, good = HangingStore(refuses_to_end=True), Store()
    stores: dict[str, ErasableStore] = {"inbox": hanging, "good": good}
    async with ErasureQueue(tmp_path / "erasures.db") as queue:
        receipt = await forget("a", queue=queue, stores=stores, store_timeout=0.01)
        assert set(receipt.problems) == {"inbox"}
        assert good.erased
        hanging.begun.clear()
        call = asyncio.create_task(resume_erasures(queue, stores=stores))
        await hanging.begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert 2 == hanging.running
    hanging.released.set()
    await hanging.ended.wait()


async def test_result_that_comes_while_a_store_is_cancelled_counts(tmp_path: Path) -> None:
    """A store that erases all the same has erased."""

    class Late(Store):
        """A store that finishes its work when it is cancelled."""

        async def erase(self, session_ids: Collection[str]) -> int:
            """Wait until the call is cancelled, and erase then."""
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            return await super().erase(session_ids)

    async with ErasureQueue(tmp_path / "erasures.db") as queue:
        receipt = await forget("a", queue=queue, stores=[Late()], store_timeout=0.01)
    assert receipt.is_complete


async def test_store_that_hangs_is_asked_once_for_all_erasures(tmp_path: Path) -> None:
    """Many erasures do not wait for the same store one after the other."""
    async with ErasureQueue(tmp_path / "erasures.db") as queue:
        failing = Store(*(OSError() for _ in range(12)))  # each call visits all erasures, twice
        for session_id in ("a", "b", "c"):
            await forget(session_id, queue=queue, stores={"inbox": failing})
        hanging = HangingStore()
        receipts = await resume_erasures(queue, stores={"inbox": hanging}, store_timeout=0.01)
        assert 1 == hanging.calls
        assert ["has not erased within", "was not asked", "was not asked"] == [
            next(text for text in ("has not erased within", "was not asked") if text in receipt.problems["inbox"])
            for receipt in receipts
        ]
        assert all(receipt.is_complete for receipt in await resume_erasures(queue, stores={"inbox": Store()}))


async def test_store_that_hangs_is_asked_once_for_many_sessions(tmp_path: Path) -> None:
    """Sessions that are erased together do not wait for the same store one after the other."""
    async with ErasureQueue(tmp_path / "erasures.db") as queue:
        hanging, good = HangingStore(), Store()
        receipts = await forget_each(
            ["a", "b", "c"], queue=queue, client=None, stores={"inbox": hanging, "good": good}, store_timeout=0.01
        )
    assert 1 == hanging.calls
    assert [{"inbox"}] * 3 == [set(receipt.problems) for receipt in receipts]
    assert all(receipt.erased["good"] for receipt in receipts)


async def test_results_on_a_drive_that_hangs_keep_no_others_waiting(tmp_path: Path) -> None:
    """Other results are erased while a thread waits for the first ones."""
    path, other = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    for each in (path, other):
        await asyncio.to_thread(each.write_text, '{"session_id":"a"}\n')
    assert 1 == await ResultsFile(path).erase(["a"])
    with files.rewriting_locks[await asyncio.to_thread(path.resolve)]:  # as that thread does
        assert 1 == await ResultsFile(other).erase(["a"])


@needs_posix
async def test_results_that_are_a_pipe_are_an_error(tmp_path: Path) -> None:
    """No one may ever write to it, so it is not opened."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(ErasureError, match="they are not a file"):
        await ResultsFile(path).erase(["a"])


async def test_search_that_cancels_itself_is_an_error(tmp_path: Path) -> None:
    """Otherwise the task that called `forget` would seem to be cancelled, and end without an error."""

    class Cancelled(MemoryInbox):
        """An inbox whose search raises what only a cancelled task raises."""

        async def find_sessions(
            self, search: SessionSearch, *, limit: int = 100, page: str | None = None
        ) -> SessionPage:
            """Fail."""
            raise asyncio.CancelledError(CANARY)

    async with ErasureQueue(tmp_path / "erasures.db") as queue, Cancelled() as inbox:
        with pytest.raises(InboxError, match="store inbox has cancelled the search, and nothing was begun") as caught:
            await forget(queue=queue, vendor_data=CANARY, stores={"inbox": inbox})
        assert CANARY not in str(caught.value)
        assert await queue.get_receipts() == []


async def test_inbox_that_hangs_ends_a_search_for_a_person(tmp_path: Path) -> None:
    """Nothing was begun, and the error names the store and the remedy."""

    class HangingInbox(MemoryInbox):
        """An inbox that never answers a search."""

        async def find_sessions(
            self, search: SessionSearch, *, limit: int = 100, page: str | None = None
        ) -> SessionPage:
            """Wait for ever."""
            await asyncio.Event().wait()
            return await super().find_sessions(search, limit=limit, page=page)

    async with ErasureQueue(tmp_path / "erasures.db") as queue, HangingInbox() as inbox:
        with pytest.raises(
            InboxError, match=r"store inbox was not searched within 0\.01 seconds, and nothing was begun"
        ):
            await forget(queue=queue, vendor_data=CANARY, stores={"inbox": inbox}, store_timeout=0.01)
        assert await queue.get_receipts() == []


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), True, None, "1"])
async def test_wrong_store_timeout_is_refused(tmp_path: Path, seconds: float) -> None:
    """Nothing is begun."""
    async with ErasureQueue(tmp_path / "erasures.db") as queue:
        with pytest.raises(InvalidArgumentError, match=r"store_timeout is .*: give seconds above zero"):
            await forget("a", queue=queue, store_timeout=seconds)
        with pytest.raises(InvalidArgumentError, match=r"store_timeout is .*: give seconds above zero"):
            await resume_erasures(queue, store_timeout=seconds)
        assert await queue.get_receipts() == []


async def test_erasure_continues_after_cancellation(veriff: Veriff) -> None:
    """A call that is cancelled at any step loses nothing: the queue has the erasure, and finishes it."""
    (session_id,), store, hanging = await veriff.sessions(1), Store(), HangingStore()
    stores: dict[str, ErasableStore] = {"a": store, "b": hanging}
    async with veriff.queue() as queue:
        call = asyncio.create_task(forget(session_id, queue=queue, client=veriff.client, stores=stores))
        await hanging.begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert 0 == hanging.running
        (receipt,) = await resume_erasures(queue, client=veriff.client, stores={"a": store, "b": Store()})
    assert receipt.is_complete
    assert veriff.deleted() == 1


async def test_erasure_without_a_client_leaves_veriff_out(veriff: Veriff) -> None:
    """Without a client only the stores erase, and the receipt says that Veriff was skipped."""
    (session_id,), store = await veriff.sessions(1), Store()
    async with veriff.queue() as queue:
        receipt = await forget(session_id, queue=queue, stores=[store])
    assert receipt.is_complete
    assert receipt.veriff == {VeriffErasure.SKIPPED: 1}
    assert veriff.deleted() == 0


async def test_receipt_and_queue_hold_no_id_at_the_end(veriff: Veriff) -> None:
    """A receipt has digests only; the queue's files lose the ids of sessions when the erasure is complete."""
    (session_id,) = await veriff.sessions(1)
    async with veriff.queue() as queue:
        receipt = await forget(session_id, queue=queue, client=veriff.client, stores={"inbox": Store()})
        assert await asyncio.to_thread(find_text, veriff.path.parent, session_id) == []
    text = json.dumps(receipt.to_dict())
    assert session_id not in text + repr(receipt)
    assert CANARY not in text


def write_files(folder: Path, session_ids: list[str]) -> list[str]:
    """Write downloads and results of sessions, and return the lines of the results."""
    for session_id in session_ids:
        downloads = folder / "downloads" / session_id
        downloads.mkdir(parents=True)
        (downloads / ".front.jpg.1.part").write_bytes(b"half")
        (downloads / "front.jpg").write_bytes(b"whole")
    lines = [f'{{"job_id":"j","session_id":"{session_id}","state":"decided"}}\n' for session_id in session_ids]
    (folder / "results.jsonl").write_text("".join(lines))
    return lines


def find_text(folder: Path, text: str) -> list[str]:
    """Return the files of a folder that have a text in their name or content."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if text in str(path) or text.encode() in path.read_bytes()]


async def write_record(journal: SqliteJournal, session_id: str) -> None:
    """Write the record of a job with a session."""
    media = (MediaRecord(context="face"),)
    await journal.claim(session_id)
    await journal.write(JobRecord(job_id=session_id, options_digest="ab", media=media).with_session(session_id))
    await journal.release(session_id)


async def test_journal_and_files_are_erased(veriff: Veriff, tmp_path: Path) -> None:
    """Records, downloads and lines of results of the session are gone, and those of others stay."""
    ids = await veriff.sessions(2)
    lines = await asyncio.to_thread(write_files, tmp_path, ids)
    async with SqliteJournal(tmp_path / "batch.db") as journal, veriff.queue() as queue:
        for session_id in ids:
            await write_record(journal, session_id)
        stores: dict[str, ErasableStore] = {
            "journal": journal,
            "downloads": SessionFiles(tmp_path / "downloads" / "{session_id}"),
            "results": ResultsFile(tmp_path / "results.jsonl"),
        }
        assert await asyncio.to_thread(find_text, tmp_path, ids[0])

        receipt = await forget(ids[0], queue=queue, client=veriff.client, stores=stores)

        assert receipt.is_complete, receipt.problems
        assert receipt.erased == {"journal": 1, "downloads": 1, "results": 1}
        assert await asyncio.to_thread(find_text, tmp_path, ids[0]) == []
        assert [record.job_id async for record in journal.iter_records()] == [ids[1]]
    assert len(await asyncio.to_thread(find_text, tmp_path / "downloads", ids[1])) == 2
    assert await asyncio.to_thread((tmp_path / "results.jsonl").read_text) == lines[1]


async def test_results_are_erased_by_calls_at_the_same_time(tmp_path: Path) -> None:
    """Each call removes the lines of its own session, and none brings back those of another."""
    path, link = tmp_path / "results.jsonl", tmp_path / "link.jsonl"
    lines = [json.dumps({"session_id": f"id-{number}", "filler": "x" * 5000}) for number in range(20)]
    kept = '{"session_id": ["id-1"]}\n{"job_id": "id-2"}\n'

    def write() -> None:
        path.write_text("\n".join([*lines, kept]) + '{"job_id":"j","session_id":"id-3","reason":"half a li')
        path.chmod(0o640)
        if os.name != "nt":  # where it needs a privilege
            link.symlink_to(path)

    await asyncio.to_thread(write)
    # Two objects with one file, as in two processes.
    names = (path, path if os.name == "nt" else link)
    calls = [ResultsFile(names[number % 2]).erase([f"id-{number}"]) for number in range(20)]
    assert await asyncio.gather(*calls) == [1, 1, 1, 2, *[1] * 16]
    assert await asyncio.to_thread(path.read_text) == kept
    if os.name != "nt":
        assert await asyncio.to_thread(link.is_symlink)
        assert stat.S_IMODE((await asyncio.to_thread(path.stat)).st_mode) == 0o640
    assert await asyncio.to_thread(lambda: list(tmp_path.glob(".*"))) == []


async def test_results_of_a_running_batch_are_not_rewritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch would write its other lines to the replaced file, where they are lost."""
    monkeypatch.setattr(files, "_LOCK_TIMEOUT", 0.0)
    path = tmp_path / "results.jsonl"
    line = '{"job_id":"j","session_id":"a","state":"decided"}\n'
    await asyncio.to_thread(path.write_text, line)
    opened = open_results(path, show_person=False)
    await asyncio.to_thread(opened.__enter__)
    with pytest.raises(ErasureError, match="another program writes to them"):
        await ResultsFile(path).erase(["a"])
    await asyncio.to_thread(opened.__exit__, None, None, None)
    assert await ResultsFile(path).erase(["a"]) == 1


async def test_results_that_a_batch_releases_are_rewritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call waits a moment for a program that has locked the results, and then removes the lines."""
    path = tmp_path / "results.jsonl"
    await asyncio.to_thread(path.write_text, '{"job_id":"j","session_id":"a","state":"decided"}\n')
    opened = open_results(path, show_person=False)
    await asyncio.to_thread(opened.__enter__)

    def release(seconds: float) -> None:
        assert seconds > 0
        opened.__exit__(None, None, None)

    monkeypatch.setattr(files, "time", SimpleNamespace(monotonic=time.monotonic, sleep=release))
    assert await ResultsFile(path).erase(["a"]) == 1
    assert await asyncio.to_thread(path.read_text) == ""


@pytest.mark.parametrize("problem", ["disk", "growth"])
async def test_results_that_cannot_be_replaced_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    """A full disk, or a line that another program adds, ends the call, and leaves no line and no other file."""
    path, line = tmp_path / "results.jsonl", '{"session_id":"a"}\n'
    await asyncio.to_thread(path.write_text, line)
    synchronize = os.fsync

    def fail(descriptor: int) -> None:
        if problem == "disk":
            raise OSError(errno.ENOSPC, "No space left on device")
        with path.open("a") as file:
            file.write(line)
        synchronize(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ErasureError, match="No space left" if problem == "disk" else "another program writes"):
        await ResultsFile(path).erase(["a"])
    monkeypatch.undo()
    assert await asyncio.to_thread(os.listdir, tmp_path) == [path.name]
    assert await ResultsFile(path).erase(["a"]) == (1 if problem == "disk" else 2)


async def test_results_of_a_killed_call_are_completed(tmp_path: Path) -> None:
    """The next call deletes the copy that a killed one has left; results without a file have no lines."""
    path = tmp_path / "results.jsonl"
    assert await ResultsFile(path).erase(["a"]) == 0
    await asyncio.to_thread(path.write_text, '{"session_id":"b"}\n')
    await asyncio.to_thread((tmp_path / ".results.jsonl.0a0b0c0d.part").write_text, "a")
    assert await ResultsFile(path).erase(["a"]) == 0
    assert await asyncio.to_thread(os.listdir, tmp_path) == [path.name]
    with pytest.raises(ErasureError, match="cannot be rewritten"):
        await ResultsFile(tmp_path).erase(["a"])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs files that cannot be deleted")
async def test_files_that_cannot_be_deleted_are_an_error() -> None:
    """The error says why, and holds neither the path nor the id."""
    store = SessionFiles("/proc/self/{session_id}")
    with pytest.raises(ErasureError, match="cannot be deleted") as caught:
        await store.erase(["status"])
    assert "/proc" not in str(caught.value) + repr(store)


@pytest.mark.parametrize(
    "pattern", ["downloads", "a/**/{session_id}", "{session_id}/{name}", "", 3, None, b"{session_id}"]
)
def test_wrong_paths_of_files_are_refused(pattern: object) -> None:
    """A pattern without an id would name the files of all sessions; a path is a text or a `Path`."""
    with pytest.raises(ConfigurationError):
        SessionFiles(pattern)  # type: ignore[arg-type]
    if not isinstance(pattern, str) or not pattern:
        with pytest.raises(ConfigurationError):
            ResultsFile(pattern)  # type: ignore[arg-type]


def test_reprs_show_no_path(tmp_path: Path) -> None:
    """The path of a store may hold the name of a person, so its repr leaves the path out."""
    path = tmp_path / CANARY
    assert repr(ResultsFile(path)) == "<ResultsFile>"
    assert repr(SessionFiles(path / "{session_id}")) == "<SessionFiles>"
    assert repr(ErasureQueue(path)) == "<ErasureQueue not open>"


async def test_part_of_an_id_finds_no_files(tmp_path: Path) -> None:
    """With a star next to it, the beginning of an id would find the files of every session that begins with it."""
    session_id = "8f0d1ab6-0000-4000-8000-000000000001"
    path = tmp_path / f"{session_id}-front.jpg"
    await asyncio.to_thread(path.write_text, "x")
    store = SessionFiles(tmp_path / "{session_id}-*.jpg")
    assert await store.erase(["8", "8f0d1ab6", session_id[:-1]]) == 0
    assert await store.erase([session_id]) == 1


async def test_folder_is_deleted_by_calls_at_the_same_time(tmp_path: Path) -> None:
    """A call that finds a file deleted by another one deletes the rest: nothing is left when all have returned."""

    def write() -> None:
        folder = tmp_path / "a"
        folder.mkdir()
        for number in range(300):
            (folder / str(number)).touch()

    await asyncio.to_thread(write)
    store = SessionFiles(tmp_path / "{session_id}")
    await asyncio.gather(*(store.erase(["a"]) for _ in range(6)))
    assert not await asyncio.to_thread((tmp_path / "a").exists)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"session_id": "a", "vendor_data": "b"},
        {"session_id": ""},
        {"session_id": 3},
        {"vendor_data": "x", "stores": []},
        {"session_id": "a", "stores": "inbox"},
        {"session_id": "a", "stores": {"veriff": Store()}},
        {"session_id": "a", "stores": {"inbox": object()}},
        {"session_id": "a", "stores": {"inbox": Store}},
        {"session_id": "a", "stores": [Store(), Store()]},
        {"session_id": "a/b"},
        {"session_id": "\ud800", "client": None},
        {"session_id": "a", "stores": {"\ud800": Store()}},
    ],
)
async def test_wrong_arguments_begin_nothing(veriff: Veriff, arguments: dict[str, object]) -> None:
    """A wrong argument is an `InvalidArgumentError`, and the queue stays empty."""
    async with veriff.queue() as queue:
        with pytest.raises(InvalidArgumentError):
            await forget(**{"queue": queue, "client": veriff.client, **arguments})  # type: ignore[arg-type]
        assert await queue.get_receipts() == []


async def test_queue_that_cannot_be_opened_is_an_erasure_error(veriff: Veriff, tmp_path: Path) -> None:
    """A queue in a folder that does not exist raises `ErasureError`, and nothing is erased."""
    (session_id,), store = await veriff.sessions(1), Store()
    queue = ErasureQueue(tmp_path / "missing" / "erasures.db")
    with pytest.raises(ErasureError):
        await forget(session_id, queue=queue, client=veriff.client, stores=[store])
    await queue.aclose()
    assert not store.erased
    assert veriff.deleted() == 0
