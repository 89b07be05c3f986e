"""The rules of `veriff_async.batch.ErasableJournal`, which `JournalContract` applies to a journal with its method."""

from __future__ import annotations

import unittest
from typing import TYPE_CHECKING

from attrs import evolve

from veriff_async.batch._records import JobState
from veriff_async.batch._session_limits import SessionLimits
from veriff_async.batch.journal import ErasableJournal
from veriff_async.errors import InvalidArgumentError
from veriff_async.testing._harness import check_equal
from veriff_async.testing._journal_cases import (
    JournalHandles,
    check_refused,
    count_jobs,
    new_record,
    read_record,
    rule,
    write_record,
)

if TYPE_CHECKING:
    from veriff_async.batch.journal import Journal

__all__ = ("JournalErasureContract",)


def _erasable(journal: Journal) -> ErasableJournal:
    """Return the journal, or skip the rule if it cannot erase."""
    if not isinstance(journal, ErasableJournal):
        msg = "The journal has no method erase, which is optional."
        raise unittest.SkipTest(msg)
    return journal


class JournalErasureContract:
    """The rules of `ErasableJournal`, one test each."""

    async def make(self) -> Journal:
        """Return a new handle; see `JournalContract.make`."""
        raise NotImplementedError

    @rule
    async def test_erase_deletes_the_records_of_sessions(self, store: JournalHandles) -> None:
        """`erase` deletes the records of these sessions in every state, and no others."""
        journal = _erasable(await store.open())
        for number, state in enumerate(JobState):
            await write_record(journal, evolve(new_record(f"job {number}"), state=state, session_id=f"s{number}"))
        await write_record(journal, evolve(new_record("the same session"), session_id="s1"))
        await write_record(journal, new_record("without a session"))

        check_equal(await journal.erase(["s1", "s2", "unknown"]), 3, "the records that were erased")
        left = {f"job {number}" for number in range(len(JobState))} - {"job 1", "job 2"} | {"without a session"}
        check_equal({record.job_id async for record in journal.iter_records()}, left, "the jobs that are left")
        check_equal(await journal.read("job 1"), None, "the record of an erased job")
        check_equal(sum((await count_jobs(journal)).values()), len(left), "the number of jobs")
        check_equal(await journal.erase(["s1"]), 0, "the records of a session that was erased before")

    @rule
    async def test_erased_job_can_be_claimed_as_new(self, store: JournalHandles) -> None:
        """After `erase`, the job has no record, and can get another one."""
        journal = _erasable(await store.open())
        await write_record(journal, evolve(new_record("a"), session_id="s1"))
        await journal.erase(["s1"])

        check_equal(await journal.claim("a"), None, "the record of an erased job")
        await journal.write(new_record("a"))
        check_equal(await read_record(journal, "a"), new_record("a"), "its new record")

    @rule
    async def test_claimed_jobs_are_not_erased(self, store: JournalHandles) -> None:
        """`erase` refuses a job that is claimed: its run would write the record again."""
        journal = _erasable(await store.open())
        await journal.claim("a")
        await journal.write(evolve(new_record("a"), session_id="s1"))

        await check_refused(journal.erase(["s1"]), "the erasure of a job that is claimed")
        check_equal((await read_record(journal, "a")).session_id, "s1", "its session")
        await journal.release("a")
        check_equal(await journal.erase(["s1"]), 1, "the records that were erased")

    @rule
    async def test_creations_of_erased_jobs_stay_counted(self, store: JournalHandles) -> None:
        """A limit of sessions counts the creations of erased jobs, and of a new job with the same id."""
        journal, limits = _erasable(await store.open()), SessionLimits(max_sessions=10, max_per_hour=10)
        for count in (1, 2):
            await journal.claim("a")
            usage = await journal.reserve(new_record("a").with_creation(), limits)
            check_equal((usage.total, usage.last_hour), (count, count), "the creations after the next one")
            await journal.write(new_record("a").with_creation().with_session("s1"))
            await journal.release("a")
            check_equal(await journal.erase(["s1"]), 1, "the records that were erased")

        usage = await journal.session_usage(limits)
        check_equal((usage.total, usage.last_hour), (2, 2), "the creations that are counted")

    @rule
    async def test_erase_refuses_a_single_text(self, store: JournalHandles) -> None:
        """A text instead of a collection of ids is a mistake, which would erase the sessions of its letters."""
        journal = _erasable(await store.open())
        try:
            await journal.erase("s1")
        except InvalidArgumentError:
            return
        check_equal("nothing", "InvalidArgumentError", "the error of a text instead of a collection")
