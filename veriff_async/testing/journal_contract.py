"""The contract of journals: tests for any implementation of `veriff_async.batch.Journal`."""

from __future__ import annotations

import asyncio
import unittest
from math import inf
from typing import TYPE_CHECKING, ClassVar, Final

from attrs import evolve

from veriff_async.batch._records import FileFingerprint, JobState, MediaRecord
from veriff_async.batch._session_limits import HOUR, SessionLimits, SessionUsage
from veriff_async.errors import JobClaimedError, JournalError
from veriff_async.models.decision_source import DecisionSource
from veriff_async.testing._harness import check_equal
from veriff_async.testing._journal_cases import (
    JournalHandles,
    all_records,
    cancel_after,
    check_refused,
    count_jobs,
    decision_with_unknown_members,
    new_record,
    read_record,
    rule,
    write_record,
)
from veriff_async.testing._journal_erasure_rules import JournalErasureContract

if TYPE_CHECKING:
    from veriff_async.batch.journal import Journal

__all__ = ("JournalContract",)

# More jobs than a store is likely to read at once, so that paging is tested.
_MANY: Final = 260

_ODD: Final = (" ", "ÜŁ日本🛂", 'it\'s "quoted"; DROP TABLE job;--', "a:b:*?[c]{d}%_\\", "number", "order", "n" * 1_000)


class JournalContract(JournalErasureContract):
    """The rules of `veriff_async.batch.Journal`, one test each, for journals that you write.

    Create a subclass in a module of your tests, with a method `make` that returns your journal. The tests are
    synchronous methods, for pytest and, together with ``unittest.TestCase``, for unittest; each runs its own event
    loop. The store must be empty at the start of each test: create one in an autouse fixture, or in ``setUp``.

    Attributes:
        durable: Whether records survive the closing of all handles; otherwise rules about that are skipped.
        shared: Whether several processes can use the journal at the same time; otherwise rules about that are skipped.

    Example:
        >>> class TestMyJournal(JournalContract):
        ...     @pytest.fixture(autouse=True)
        ...     def fresh(self, tmp_path: Path) -> None:
        ...         self.path = tmp_path / "journal.db"
        ...
        ...     async def make(self) -> Journal:
        ...         return MyJournal(self.path)
    """

    durable: ClassVar[bool] = True
    shared: ClassVar[bool] = True

    async def make(self) -> Journal:
        """Return a new handle on the store of this test, as another process would have; called one or more times.

        For a journal that only one process can use, create it at the first call and return it at the others.
        """
        raise NotImplementedError

    @rule
    async def test_claim_returns_the_last_record(self, store: JournalHandles) -> None:
        """A new job has no record; later its last record comes back unchanged, with any content."""
        journal = await store.open()
        for record in all_records():
            check_equal(await journal.claim(record.job_id), None, "the record of a new job")
            await journal.write(new_record(record.job_id))
            await journal.write(record)
            await journal.release(record.job_id)
            check_equal(await journal.claim(record.job_id), record, "the record that a claim gives")

    @rule
    async def test_decisions_are_stored_completely(self, store: JournalHandles) -> None:
        """A decision comes back as the same model, with its unknown members and its source."""
        journal = await store.open()
        record = new_record("a").with_decision(decision_with_unknown_members(source=DecisionSource.POLL))
        await write_record(journal, record)

        stored = await read_record(journal, "a")
        decision = stored.decision
        check_equal(decision, record.decision, "the decision")
        check_equal(decision and decision.source, DecisionSource.POLL, "its source")
        check_equal(decision and dict(decision.raw), dict(record.decision.raw) if record.decision else None, "its JSON")

    @rule
    async def test_job_is_claimed_once(self, store: JournalHandles) -> None:
        """A second claim is refused while the first is held, other jobs stay free, and `release` frees the job."""
        journal = await store.open()
        await journal.claim("a")
        await check_refused(journal.claim("a"), "a claim on a job that is claimed")
        await journal.claim("b")
        await journal.release("a")
        await check_refused(journal.claim("b"), "a claim on another job that is claimed")
        check_equal(await journal.claim("a"), None, "the record of a job that was freed")

    @rule
    async def test_concurrent_claims_succeed_once(self, store: JournalHandles) -> None:
        """Of many claims on one job at the same time exactly one succeeds; the others are refused."""
        journal = await store.open()
        outcomes = await asyncio.gather(*(journal.claim("a") for _ in range(20)), return_exceptions=True)

        check_equal(sum(isinstance(item, JobClaimedError) for item in outcomes), 19, "claims that were refused")
        check_equal(outcomes.count(None), 1, "claims that succeeded")

    @rule
    async def test_release_without_a_claim_does_nothing(self, store: JournalHandles) -> None:
        """Releasing a job that is unknown, free, or claimed elsewhere changes nothing."""
        journal, other = await store.open(), await store.open()
        await journal.release("unknown")
        await journal.claim("a")
        await journal.release("a")
        await journal.release("a")
        # A journal for one process returns the same handle twice.
        if other is not journal:
            await journal.claim("a")
            await other.release("a")
            await check_refused(journal.claim("a"), "a claim on a job that another handle would have released")

    @rule
    async def test_write_needs_a_claim(self, store: JournalHandles) -> None:
        """A record is refused, and nothing written, before the job was claimed and after it was released."""
        journal = await store.open()
        await check_refused(journal.write(new_record("a")), "a record of a job that was not claimed")
        check_equal(await journal.read("a"), None, "its record")
        await write_record(journal, new_record("a"))
        await check_refused(journal.write(new_record("a").with_session("s")), "a record of a job that was released")
        check_equal(await journal.read("a"), new_record("a"), "its record")
        check_equal(dict(await count_jobs(journal)), {JobState.NEW: 1}, "jobs in each state")

    @rule
    async def test_read_needs_no_claim(self, store: JournalHandles) -> None:
        """Every handle reads the last record, also while another handle holds the job."""
        journal, other = await store.open(), await store.open()
        check_equal(await journal.read("a"), None, "the record of an unknown job")
        await journal.claim("a")
        for record in (
            new_record("a"),
            new_record("a").with_session("s"),
            new_record("a").with_session("s").with_uploads_started(),
        ):
            await journal.write(record)
            check_equal(
                [await journal.read("a"), await other.read("a")], [record, record], "what is read of a claimed job"
            )

    @rule
    async def test_records_are_ordered_by_their_first_write(self, store: JournalHandles) -> None:
        """`iter_records` yields each job once, ordered by its first write, however late it was written again."""
        journal = await store.open()
        # Multiplied by a prime, so that the order of the ids differs from the order of writing.
        ids = [f"{number * 7919 % _MANY}" for number in range(_MANY)]
        for job_id in ids:
            await write_record(journal, new_record(job_id))
        for job_id in sorted(ids)[::5]:
            await write_record(journal, new_record(job_id).with_session(job_id))

        records = [record async for record in journal.iter_records()]
        check_equal([record.job_id for record in records], ids, "jobs in their order")
        check_equal(
            sum(record.state is JobState.CREATED for record in records),
            len(ids[::5]),
            "records that were written again",
        )

    @rule
    async def test_iter_records_filters_by_state(self, store: JournalHandles) -> None:
        """`iter_records` yields only jobs in the given states, in the same order."""
        journal, states = await store.open(), tuple(JobState)
        for number in range(_MANY):
            await write_record(journal, new_record(str(number)).with_state(states[number % len(states)]))

        for wanted in ((JobState.SUBMITTED,), (JobState.FAILED, JobState.NEW, JobState.DECIDED), states):
            ids = [str(number) for number in range(_MANY) if states[number % len(states)] in wanted]
            check_equal(
                [record.job_id async for record in journal.iter_records(*wanted)], ids, f"jobs at {', '.join(wanted)}"
            )

    @rule
    async def test_unchanged_records_come_once_while_others_change(self, store: JournalHandles) -> None:
        """While other jobs start and change, each unchanged job is yielded exactly once, and no job twice."""
        journal = await store.open()
        for number in range(_MANY):
            await write_record(journal, new_record(str(number)))
        seen: list[str] = []

        async for record in journal.iter_records(JobState.NEW, JobState.CREATED):
            seen.append(record.job_id)
            # Changes jobs that were yielded and jobs that were not, odd ones only; even ones must come exactly once.
            changed = _MANY - len(seen) if len(seen) % 2 else len(seen)
            if changed % 2 and len(seen) % 3 == 0:
                await write_record(journal, new_record(str(changed)).with_session("s"))
            if len(seen) < _MANY and len(seen) % 5 == 0:
                await write_record(journal, new_record(f"late-{len(seen)}"))

        still = [job_id for job_id in seen if not job_id.startswith("late") and int(job_id) % 2 == 0]
        check_equal(still, [str(number) for number in range(0, _MANY, 2)], "jobs that did not change")
        check_equal(len(seen), len(set(seen)), "records that came")

    @rule
    async def test_iteration_may_end_early(self, store: JournalHandles) -> None:
        """An iteration that ends early leaves nothing behind, and others continue."""
        journal = await store.open()
        for number in range(3):
            await write_record(journal, new_record(str(number)))
        # The iterator is dropped unfinished, as by a `break`.
        first = await anext(aiter(journal.iter_records()))
        check_equal(first.job_id, "0", "the first record")
        check_equal(len([record async for record in journal.iter_records()]), 3, "records of another iteration")

    @rule
    async def test_count_by_state_counts_each_job_once(self, store: JournalHandles) -> None:
        """`count_by_state` counts each job once, in its present state."""
        journal = await store.open()
        check_equal(dict(await count_jobs(journal)), {}, "jobs of a new journal")
        for number in range(4):
            await write_record(journal, new_record(str(number)))
        await write_record(journal, new_record("0").with_session("s"))
        await write_record(journal, new_record("1").with_session("s").with_state(JobState.SUBMITTED))
        await write_record(journal, new_record("0").with_decision(decision_with_unknown_members()))

        check_equal(
            await count_jobs(journal),
            {JobState.NEW: 2, JobState.SUBMITTED: 1, JobState.DECIDED: 1},
            "jobs in each state",
        )

    @rule
    async def test_creations_are_counted(self, store: JournalHandles) -> None:
        """`session_usage` has the sum of `JobRecord.creations`; a record with fewer of them takes the rest back."""
        journal = await store.open()
        await write_record(journal, evolve(new_record("a"), creations=2))
        for creations, total in ((1, 3), (1, 3), (3, 5), (0, 2)):
            await write_record(journal, evolve(new_record("b"), creations=creations))
            check_equal(
                await journal.session_usage(SessionLimits()), SessionUsage(total=total, last_hour=total), "usage"
            )

    @rule
    async def test_reserve_obeys_the_limits(self, store: JournalHandles) -> None:
        """`reserve` writes a record only if the limits permit its creation, and returns how long to wait."""
        journal = await store.open()
        for job_id in "ab":
            await journal.claim(job_id)
        check_equal(
            await journal.reserve(new_record("a").with_creation(), SessionLimits(max_sessions=1, max_per_hour=1)),
            SessionUsage(total=1, last_hour=1),
            "usage after the first session",
        )
        for limits, is_forever in ((SessionLimits(max_sessions=1), True), (SessionLimits(max_per_hour=1), False)):
            refused = await journal.reserve(new_record("b").with_creation(), limits)
            check_equal(refused.retry_after == inf, is_forever, "whether the limit is for ever")
            check_equal(is_forever or HOUR / 2 < refused.retry_after <= HOUR, True, "whether the wait is an hour")  # noqa: FBT003
            check_equal(evolve(refused, retry_after=0.0), SessionUsage(total=1, last_hour=1), "usage when refused")
        check_equal(await journal.read("b"), None, "the record that was refused")
        await journal.write(new_record("a").with_creation().without_creation())
        used = await journal.reserve(new_record("b").with_creation(), SessionLimits(max_sessions=1, max_per_hour=1))
        check_equal(used, SessionUsage(total=1, last_hour=1), "usage after a session was given back")
        check_equal(await journal.read("b"), new_record("b").with_creation(), "the record that was permitted")

    @rule
    async def test_reserve_needs_a_claim(self, store: JournalHandles) -> None:
        """A record of a job that is not claimed is refused, and counts nothing."""
        journal, limits = await store.open(), SessionLimits(max_sessions=9)
        await check_refused(journal.reserve(new_record("a").with_creation(), limits), "a record of a free job")
        check_equal((await journal.session_usage(limits)).total, 0, "sessions")

    @rule
    async def test_ids_may_be_any_printable_text(self, store: JournalHandles) -> None:
        """Ids that are long, or made of characters with a special meaning elsewhere, are ordinary ids."""
        journal = await store.open()
        for odd in _ODD:
            await journal.claim(odd)
            await check_refused(journal.claim(odd), "a claim on an odd id that is claimed")
            await journal.write(new_record(odd).with_session(odd))

        check_equal(
            [record.job_id async for record in journal.iter_records(JobState.CREATED)], list(_ODD), "jobs with odd ids"
        )
        for odd in _ODD:
            check_equal((await read_record(journal, odd)).session_id, odd, "the record of a job with an odd id")
            await journal.release(odd)
            await journal.claim(odd)

    @rule
    async def test_records_may_be_large(self, store: JournalHandles) -> None:
        """A job with thousands of media and a decision of a million letters is stored like any other."""
        journal = await store.open()
        media = MediaRecord(
            context="document-front",
            fingerprint=FileFingerprint(size=1, sha256="d" * 64),
            upload_started=True,
            media_id="m" * 36,
        )
        record = evolve(new_record("a"), media=(media,) * 5_000).with_decision(
            decision_with_unknown_members(value="é" * 1_000_000)
        )
        await write_record(journal, record)

        check_equal(await read_record(journal, "a") == record, True, "whether a large record is unchanged")  # noqa: FBT003  it is

    @rule
    async def test_concurrent_jobs_end_correctly(self, store: JournalHandles) -> None:
        """Hundreds of jobs that are claimed, written and released at the same time end in the right state."""
        journal = await store.open()

        async def run_job(number: int) -> None:
            record = new_record(str(number))
            await journal.claim(record.job_id)
            for state in (JobState.CREATING, JobState.CREATED, JobState.SUBMITTED):
                await journal.write(record.with_state(state))
            await journal.release(record.job_id)

        await asyncio.gather(*map(run_job, range(_MANY)))

        check_equal(await count_jobs(journal), {JobState.SUBMITTED: _MANY}, "jobs in each state")

    @rule
    async def test_concurrent_writes_keep_their_order(self, store: JournalHandles) -> None:
        """Of writes that run at the same time, the last one started wins."""
        journal = await store.open()
        records = [new_record("a").with_session(str(number)) for number in range(50)]
        await journal.claim("a")
        await asyncio.gather(*map(journal.write, records))
        check_equal(await journal.read("a"), records[-1], "the record that stays")

        for number in range(20):
            # A cancelled write may still run in a thread; it must not overwrite the later one.
            early = asyncio.ensure_future(journal.write(new_record("a").with_session(f"early {number}")))
            for _ in range(number):
                await asyncio.sleep(0)
            early.cancel()
            await asyncio.wait([early])
            await journal.write(records[number])
            check_equal(await journal.read("a"), records[number], "the record after one whose write was cancelled")

    @rule
    async def test_cancelled_call_is_done_or_undone(self, store: JournalHandles) -> None:
        """A cancelled claim or write is done or undone; the job is free, or still held by the caller."""
        journal = await store.open()
        for iterations in range(12):
            job_id = str(iterations)
            if await cancel_after(journal.claim(job_id), iterations):
                check_equal(await journal.claim(job_id), None, "a claim after one that was cancelled")
            await cancel_after(journal.write(new_record(job_id)), iterations)
            check_equal(await journal.read(job_id) in {None, new_record(job_id)}, True, "whether a record is whole")  # noqa: FBT003
            await journal.write(new_record(job_id).with_session("s"))
            await journal.release(job_id)
            check_equal(await journal.claim(job_id), new_record(job_id).with_session("s"), "the record after all")

    @rule
    async def test_closed_journal_raises_journal_error(self, store: JournalHandles) -> None:
        """After closing, which may be done twice, every call but `release` raises a `JournalError`."""
        journal, unused = await store.open(), await store.open()
        await write_record(journal, new_record("a"))
        await journal.claim("a")
        for handle in (journal, journal, unused, unused):
            await handle.aclose()

        # `release` runs in the cleanup of callers, so it must not raise.
        await journal.release("a")
        calls = (journal.claim("b"), journal.read("a"), journal.count_by_state(), anext(aiter(journal.iter_records())))
        for call in (*calls, journal.session_usage(SessionLimits()), unused.claim("a")):
            await check_refused(call, "a call of a closed journal", JournalError)
        await check_refused(
            journal.write(new_record("a")), "a record for a closed journal", JournalError, JobClaimedError
        )

    @rule
    async def test_records_survive_closing(self, store: JournalHandles) -> None:
        """After every handle was closed, the records are there, in their order, and their jobs are free."""
        self._needs(self.durable, "durable")
        journal = await store.open()
        records = all_records()
        for record in records:
            await journal.claim(record.job_id)
            await journal.write(record)
        await store.close()

        journal = await store.open()
        check_equal([record async for record in journal.iter_records()], list(records), "records after closing")
        await write_record(journal, new_record("later"))
        check_equal([record.job_id async for record in journal.iter_records()][-1], "later", "the last new job")
        check_equal(await journal.claim(records[0].job_id), records[0], "the record that a claim gives after closing")

    @rule
    async def test_creations_survive_closing(self, store: JournalHandles) -> None:
        """After every handle was closed, creations are still counted, also those of the last hour."""
        self._needs(self.durable, "durable")
        journal, limits = await store.open(), SessionLimits(max_sessions=2, max_per_hour=2)
        await journal.claim("a")
        await journal.reserve(new_record("a").with_creation(), limits)
        await store.close()

        journal = await store.open()
        await write_record(journal, new_record("b").with_creation())
        usage = await journal.session_usage(limits)
        check_equal((usage.total, usage.last_hour, usage.retry_after), (2, 2, inf), "usage after closing")

    @rule
    async def test_concurrent_reservations_never_exceed_a_limit(self, store: JournalHandles) -> None:
        """Of reservations that all handles make at the same time, exactly as many succeed as the limits permit."""
        handles = [await store.open() for _ in range(4)] if self.shared else [await store.open()]
        for limits in (SessionLimits(max_sessions=7), SessionLimits(max_per_hour=12)):
            jobs = [(handles[number % len(handles)], f"{limits}-{number}") for number in range(20)]
            await asyncio.gather(*(handle.claim(job_id) for handle, job_id in jobs))

            usages = await asyncio.gather(
                *(handle.reserve(new_record(job_id).with_creation(), limits) for handle, job_id in jobs)
            )

            total = limits.max_sessions or limits.max_per_hour
            check_equal((await handles[0].session_usage(limits)).total, total, "sessions")
            check_equal(sum(not usage.retry_after for usage in usages), 7 if limits.max_sessions else 5, "reservations")

    @rule
    async def test_claim_holds_in_every_handle(self, store: JournalHandles) -> None:
        """A job that one process holds cannot be claimed, written or released by another until it is released."""
        self._needs(self.shared, "shared")
        mine, other = await store.open(), await store.open()
        await mine.claim("a")
        await mine.write(new_record("a"))
        await check_refused(other.claim("a"), "a claim on a job of another handle")
        await check_refused(other.write(new_record("a").with_session("s")), "a record of a job of another handle")
        await other.claim("b")
        await mine.release("a")
        check_equal(await other.claim("a"), new_record("a"), "the record that another handle gets")
        await check_refused(
            mine.write(new_record("a").with_session("s")), "a record of a job that another handle has now"
        )
        check_equal(await mine.read("a"), new_record("a"), "its record")
        await other.aclose()
        check_equal(
            [await mine.claim("a"), await mine.claim("b")], [new_record("a"), None], "jobs of a handle that was closed"
        )

    @rule
    async def test_concurrent_claims_of_many_handles_succeed_once(self, store: JournalHandles) -> None:
        """Of claims of several processes on the same jobs at the same time, one succeeds for each job."""
        self._needs(self.shared, "shared")
        handles = [await store.open() for _ in range(4)]
        # 20 jobs times 4 handles: each job is claimed once, and refused three times.
        claims = (handle.claim(str(number)) for number in range(20) for handle in handles)

        outcomes = await asyncio.gather(*claims, return_exceptions=True)

        check_equal(outcomes.count(None), 20, "claims that succeeded")
        check_equal(sum(isinstance(item, JobClaimedError) for item in outcomes), 60, "claims that were refused")

    @staticmethod
    def _needs(has: bool, what: str) -> None:  # noqa: FBT001  an attribute of the class
        if not has:
            msg = f"this journal is not {what}"
            raise unittest.SkipTest(msg)
