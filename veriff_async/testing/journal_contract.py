"""The rules that every journal keeps, as tests that a user runs for a journal over a database of their own."""

from __future__ import annotations

import asyncio
import unittest
from typing import TYPE_CHECKING, ClassVar, Final

from attrs import evolve

from veriff_async.batch._records import FileFingerprint, JobState, MediaRecord
from veriff_async.errors import JobClaimedError, JournalError
from veriff_async.models.decision import DecisionSource
from veriff_async.testing._harness import same
from veriff_async.testing._journal_cases import (
    Handles,
    all_records,
    cancelled,
    counted,
    decision_of,
    kept,
    put,
    record_of,
    refused,
    rule,
)

if TYPE_CHECKING:
    from veriff_async.batch.journal import Journal

__all__ = ("JournalContract",)

_MANY: Final = 260
"""Jobs that no store reads in one go, it may be supposed."""

_ODD: Final = (" ", "ÜŁ日本🛂", 'it\'s "quoted"; DROP TABLE job;--', "a:b:*?[c]{d}%_\\", "number", "order", "n" * 1_000)


class JournalContract:
    """Every rule that a journal must keep, one test each; `veriff_async.batch.Journal` says them in words.

    Make a subclass in a module of your tests, and say in `make` how your journal is made. The tests are plain
    synchronous methods, for pytest and, beside ``unittest.TestCase``, for unittest; each runs a loop of its own. The
    store must be fresh for each test: make one in an autouse fixture, or in ``setUp``.

    Attributes:
        durable: Whether what was written is there after all handles were closed, or rules about that are skipped.
        shared: Whether several processes may claim jobs at the same time, or rules about that are skipped.

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
        """Return a new handle on the store of this test, as another process would have; called once or more in a test.

        A journal that only one process can use is made at the first call, and returned at the others.
        """
        raise NotImplementedError

    @rule
    async def test_a_claim_gives_the_record_as_it_was_written(self, store: Handles) -> None:
        """A job that is new has no record; later its last one comes back whole, whatever stands in it."""
        journal = await store.open()
        for record in all_records():
            same(await journal.claim(record.job_id), None, "the record of a job that is new")
            await journal.write(record_of(record.job_id))
            await journal.write(record)
            await journal.release(record.job_id)
            same(await journal.claim(record.job_id), record, "the record that a claim gives")

    @rule
    async def test_decisions_are_kept_whole(self, store: Handles) -> None:
        """A decision comes back as the same model, with what this version does not know in it, and who told it."""
        journal = await store.open()
        record = record_of("a").with_decision(decision_of(source=DecisionSource.POLL))
        await put(journal, record)

        found = await kept(journal, "a")
        decision = found.decision
        same(decision, record.decision, "the decision")
        same(decision and decision.source, DecisionSource.POLL, "who told it")
        same(decision and dict(decision.raw), dict(record.decision.raw) if record.decision else None, "its JSON")

    @rule
    async def test_a_job_is_claimed_once(self, store: Handles) -> None:
        """A claim is refused while one is held, other jobs stay free, and `release` frees it."""
        journal = await store.open()
        await journal.claim("a")
        await refused(journal.claim("a"), "a claim on a job that is claimed")
        await journal.claim("b")
        await journal.release("a")
        await refused(journal.claim("b"), "a claim on another job that is claimed")
        same(await journal.claim("a"), None, "the record of a job that was freed")

    @rule
    async def test_of_many_claims_at_once_one_is_given(self, store: Handles) -> None:
        """Of many claims on one job at the same time exactly one is given, and the others are told so."""
        journal = await store.open()
        found = await asyncio.gather(*(journal.claim("a") for _ in range(20)), return_exceptions=True)

        same(sum(isinstance(each, JobClaimedError) for each in found), 19, "claims that were refused")
        same(found.count(None), 1, "claims that were given")

    @rule
    async def test_releasing_what_is_not_held_does_nothing(self, store: Handles) -> None:
        """Jobs that are unknown, free, or claimed elsewhere are left alone."""
        journal, other = await store.open(), await store.open()
        await journal.release("unknown")
        await journal.claim("a")
        await journal.release("a")
        await journal.release("a")
        if other is not journal:
            await journal.claim("a")
            await other.release("a")
            await refused(journal.claim("a"), "a claim on a job that another handle would have released")

    @rule
    async def test_writing_needs_a_claim(self, store: Handles) -> None:
        """A record is refused, and nothing written, before the job was claimed and after it was released."""
        journal = await store.open()
        await refused(journal.write(record_of("a")), "a record of a job that was not claimed")
        same(await journal.read("a"), None, "what is kept of it")
        await put(journal, record_of("a"))
        await refused(journal.write(record_of("a").with_session("s")), "a record of a job that was released")
        same(await journal.read("a"), record_of("a"), "what is kept of it")
        same(dict(await counted(journal)), {JobState.NEW: 1}, "jobs at each step")

    @rule
    async def test_reading_needs_no_claim(self, store: Handles) -> None:
        """Every handle reads what was last written, also while another has the job."""
        journal, other = await store.open(), await store.open()
        same(await journal.read("a"), None, "what is kept of a job that is unknown")
        await journal.claim("a")
        for record in (
            record_of("a"),
            record_of("a").with_session("s"),
            record_of("a").with_session("s").with_uploads_started(),
        ):
            await journal.write(record)
            same([await journal.read("a"), await other.read("a")], [record, record], "what is read of a claimed job")

    @rule
    async def test_records_come_in_the_order_of_their_beginning(self, store: Handles) -> None:
        """All records come once, those first that were written first, however late they were written again."""
        journal = await store.open()
        ids = [f"{number * 7919 % _MANY}" for number in range(_MANY)]
        for job_id in ids:
            await put(journal, record_of(job_id))
        for job_id in sorted(ids)[::5]:
            await put(journal, record_of(job_id).with_session(job_id))

        found = [record async for record in journal.iter_records()]
        same([record.job_id for record in found], ids, "jobs in their order")
        same(
            sum(record.state is JobState.CREATED for record in found), len(ids[::5]), "records that were written again"
        )

    @rule
    async def test_records_are_asked_for_by_step(self, store: Handles) -> None:
        """Only records at the steps that are asked for come, in the order of all."""
        journal, steps = await store.open(), tuple(JobState)
        for number in range(_MANY):
            await put(journal, record_of(str(number)).with_state(steps[number % len(steps)]))

        for wanted in ((JobState.SUBMITTED,), (JobState.FAILED, JobState.NEW, JobState.DECIDED), steps):
            ids = [str(number) for number in range(_MANY) if steps[number % len(steps)] in wanted]
            same([one.job_id async for one in journal.iter_records(*wanted)], ids, f"jobs at {', '.join(wanted)}")

    @rule
    async def test_records_that_do_not_change_come_once(self, store: Handles) -> None:
        """While other jobs begin and go on, each that does not change comes exactly once, and none twice."""
        journal = await store.open()
        for number in range(_MANY):
            await put(journal, record_of(str(number)))
        seen: list[str] = []

        async for record in journal.iter_records(JobState.NEW, JobState.CREATED):
            seen.append(record.job_id)
            changed = _MANY - len(seen) if len(seen) % 2 else len(seen)
            if changed % 2 and len(seen) % 3 == 0:
                await put(journal, record_of(str(changed)).with_session("s"))
            if len(seen) < _MANY and len(seen) % 5 == 0:
                await put(journal, record_of(f"late-{len(seen)}"))

        still = [job_id for job_id in seen if not job_id.startswith("late") and int(job_id) % 2 == 0]
        same(still, [str(number) for number in range(0, _MANY, 2)], "jobs that did not change")
        same(len(seen), len(set(seen)), "records that came")

    @rule
    async def test_a_reading_may_end_early(self, store: Handles) -> None:
        """Whoever has seen enough leaves nothing behind, and others go on."""
        journal = await store.open()
        for number in range(3):
            await put(journal, record_of(str(number)))
        first = await anext(aiter(journal.iter_records()))
        same(first.job_id, "0", "the first record")
        same(len([record async for record in journal.iter_records()]), 3, "records of another reading")

    @rule
    async def test_jobs_are_counted_by_step(self, store: Handles) -> None:
        """The count_by_state counts each job once, at the step where it stands."""
        journal = await store.open()
        same(dict(await counted(journal)), {}, "jobs of a journal that is new")
        for number in range(4):
            await put(journal, record_of(str(number)))
        await put(journal, record_of("0").with_session("s"))
        await put(journal, record_of("1").with_session("s").with_state(JobState.SUBMITTED))
        await put(journal, record_of("0").with_decision(decision_of()))

        same(await counted(journal), {JobState.NEW: 2, JobState.SUBMITTED: 1, JobState.DECIDED: 1}, "jobs at each step")

    @rule
    async def test_ids_are_any_printable_text(self, store: Handles) -> None:
        """Ids that are long, or made of signs that mean something elsewhere, are ids like any other."""
        journal = await store.open()
        for odd in _ODD:
            await journal.claim(odd)
            await refused(journal.claim(odd), "a claim on an odd id that is claimed")
            await journal.write(record_of(odd).with_session(odd))

        same(
            [record.job_id async for record in journal.iter_records(JobState.CREATED)], list(_ODD), "jobs with odd ids"
        )
        for odd in _ODD:
            same((await kept(journal, odd)).session_id, odd, "the record of a job with an odd id")
            await journal.release(odd)
            await journal.claim(odd)

    @rule
    async def test_records_may_be_big(self, store: Handles) -> None:
        """A job with thousands of media and a decision of a million letters is kept like any other."""
        journal = await store.open()
        one = MediaRecord(
            context="document-front",
            fingerprint=FileFingerprint(size=1, sha256="d" * 64),
            upload_started=True,
            media_id="m" * 36,
        )
        record = evolve(record_of("a"), media=(one,) * 5_000).with_decision(decision_of(more="é" * 1_000_000))
        await put(journal, record)

        same(await kept(journal, "a") == record, True, "whether a big record is as it was")  # noqa: FBT003  it is

    @rule
    async def test_many_jobs_at_once(self, store: Handles) -> None:
        """Hundreds of jobs that are claimed, written and released side by side each end as they must."""
        journal = await store.open()

        async def go(number: int) -> None:
            record = record_of(str(number))
            await journal.claim(record.job_id)
            for step in (JobState.CREATING, JobState.CREATED, JobState.SUBMITTED):
                await journal.write(record.with_state(step))
            await journal.release(record.job_id)

        await asyncio.gather(*map(go, range(_MANY)))

        same(await counted(journal), {JobState.SUBMITTED: _MANY}, "jobs at each step")

    @rule
    async def test_writes_keep_their_order(self, store: Handles) -> None:
        """Of writes that are begun side by side, the one that was begun last stays."""
        journal = await store.open()
        records = [record_of("a").with_session(str(number)) for number in range(50)]
        await journal.claim("a")
        await asyncio.gather(*map(journal.write, records))
        same(await journal.read("a"), records[-1], "the record that stays")

        for number in range(20):
            early = asyncio.ensure_future(journal.write(record_of("a").with_session(f"early {number}")))
            for _ in range(number):
                await asyncio.sleep(0)
            early.cancel()
            await asyncio.wait([early])
            await journal.write(records[number])
            same(await journal.read("a"), records[number], "the record after one whose write was cancelled")

    @rule
    async def test_a_cancelled_call_breaks_nothing(self, store: Handles) -> None:
        """Whenever a claim or a write is cancelled, it is whole or undone; the job is free, or still one's own."""
        journal = await store.open()
        for turns in range(12):
            job_id = str(turns)
            if await cancelled(journal.claim(job_id), turns):
                same(await journal.claim(job_id), None, "a claim after one that was cancelled")
            await cancelled(journal.write(record_of(job_id)), turns)
            same(await journal.read(job_id) in {None, record_of(job_id)}, True, "whether a record is whole")  # noqa: FBT003
            await journal.write(record_of(job_id).with_session("s"))
            await journal.release(job_id)
            same(await journal.claim(job_id), record_of(job_id).with_session("s"), "the record after all")

    @rule
    async def test_a_closed_journal_says_so(self, store: Handles) -> None:
        """After closing, which may be done twice, everything but giving back is a `JournalError`."""
        journal, unused = await store.open(), await store.open()
        await put(journal, record_of("a"))
        await journal.claim("a")
        for handle in (journal, journal, unused, unused):
            await handle.aclose()

        await journal.release("a")
        asked = (journal.claim("b"), journal.read("a"), journal.count_by_state(), anext(aiter(journal.iter_records())))
        for call in (*asked, unused.claim("a")):
            await refused(call, "a call of a closed journal", JournalError)
        await refused(journal.write(record_of("a")), "a record for a closed journal", JournalError, JobClaimedError)

    @rule
    async def test_what_was_written_survives(self, store: Handles) -> None:
        """Records are there after every handle was closed, in their order, and their jobs are free."""
        self._needs(self.durable, "durable")
        journal = await store.open()
        records = all_records()
        for record in records:
            await journal.claim(record.job_id)
            await journal.write(record)
        await store.close()

        journal = await store.open()
        same([record async for record in journal.iter_records()], list(records), "records after closing")
        await put(journal, record_of("later"))
        same([one.job_id async for one in journal.iter_records()][-1], "later", "the last that was begun")
        same(await journal.claim(records[0].job_id), records[0], "the record that a claim gives after closing")

    @rule
    async def test_a_claim_holds_for_every_handle(self, store: Handles) -> None:
        """What one process has claimed no other claims, writes or frees; when it gives it back, another goes on."""
        self._needs(self.shared, "shared")
        mine, other = await store.open(), await store.open()
        await mine.claim("a")
        await mine.write(record_of("a"))
        await refused(other.claim("a"), "a claim on a job of another handle")
        await refused(other.write(record_of("a").with_session("s")), "a record of a job of another handle")
        await other.claim("b")
        await mine.release("a")
        same(await other.claim("a"), record_of("a"), "the record that another handle goes on with")
        await refused(mine.write(record_of("a").with_session("s")), "a record of a job that another handle has now")
        same(await mine.read("a"), record_of("a"), "what is kept of it")
        await other.aclose()
        same([await mine.claim("a"), await mine.claim("b")], [record_of("a"), None], "jobs of a handle that was closed")

    @rule
    async def test_of_claims_of_many_handles_one_is_given(self, store: Handles) -> None:
        """Of claims of several processes on the same jobs at the same time, each job's is given once."""
        self._needs(self.shared, "shared")
        handles = [await store.open() for _ in range(4)]
        claims = (handle.claim(str(number)) for number in range(20) for handle in handles)

        found = await asyncio.gather(*claims, return_exceptions=True)

        same(found.count(None), 20, "claims that were given")
        same(sum(isinstance(each, JobClaimedError) for each in found), 60, "claims that were refused")

    @staticmethod
    def _needs(has: bool, what: str) -> None:  # noqa: FBT001  what the class says of itself
        if not has:
            msg = f"this journal is not {what}"
            raise unittest.SkipTest(msg)
