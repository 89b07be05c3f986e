"""Plans of batches: what a run would do and cost, without a request and without a change of the journal."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING

import pytest
from attrs import evolve

from tests.batch.test_batches import CONTEXTS, PICTURE, job, jobs
from veriff_async import InvalidArgumentError, Media, MediaEmptyError
from veriff_async.batch import (
    BatchPlan,
    Job,
    JobRecord,
    JobState,
    MemoryJournal,
    SqliteJournal,
    plan_many,
    read_manifest,
)
from veriff_async.batch._prepared_job import unprepared_record
from veriff_async.testing import decision_event
from veriff_async.testing.factories import decision_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio

SIZE = sum(len(PICTURE + context.encode()) for context in CONTEXTS)


async def save(journal: MemoryJournal | SqliteJournal, *records: JobRecord) -> None:
    """Write records."""
    for record in records:
        await journal.claim(record.job_id)
        await journal.write(record)
        await journal.release(record.job_id)


async def test_plan_counts_jobs_by_what_is_left_to_do() -> None:
    """New jobs need a session, started ones continue with the files that are missing, and others cost nothing."""
    all_jobs = [job(name) for name in ("new", "again", "created", "partly", "submitted", "decided", "failed", "lost")]
    again, created, partly, submitted, decided, failed, lost = map(unprepared_record, all_jobs[1:])
    async with MemoryJournal() as journal:
        await save(
            journal,
            again,
            created.with_creation().with_session("s-1"),
            partly.with_creation().with_session("s-2").with_uploads_started().with_media_id(1, "m"),
            submitted.with_creation().with_session("s-3").with_state(JobState.SUBMITTED),
            decided.with_creation().with_session("s-4").with_decision(decision_of(decision_event("s-4", "approved"))),
            failed.with_failure(MediaEmptyError("It is empty.")),
            lost.with_creation(),
        )
        before = [record async for record in journal.iter_records()]
        plan = await plan_many(all_jobs, journal=journal)
        others = await plan_many(all_jobs, journal=journal, retry_failed=True, on_unknown="recreate", max_sessions=7)
        after = [record async for record in journal.iter_records()]

    uploads = 3 * SIZE - len(PICTURE) - len(CONTEXTS[1])
    assert plan == BatchPlan(
        new=2, resumable=3, finished=2, unknown=1, files=2 * 3 + 3 + 2, bytes=SIZE + uploads, sessions=2
    )
    assert (others.new, others.finished, others.unknown, others.sessions, others.left) == (4, 1, 0, 2, 2)
    assert before == after


@pytest.mark.parametrize(
    ("hourly", "created", "seconds"), [(10, 0, 0), (4, 0, 7200), (3, 0, 10_800), (10, 2, 3600), (None, 2, None)]
)
async def test_plan_estimates_the_time_of_the_hourly_limit(
    hourly: int | None, created: int, seconds: float | None
) -> None:
    """The hourly limit makes later sessions wait for the next hours; sessions of the last hour count."""
    async with MemoryJournal() as journal:
        await save(journal, evolve(unprepared_record(job("earlier")), creations=created))
        plan = await plan_many(jobs(10), journal=journal, max_per_hour=hourly)

    assert (plan.sessions, plan.seconds) == (10, seconds)


async def test_plan_leaves_out_the_files_of_jobs_that_a_limit_leaves() -> None:
    """Only files that the run would upload are counted: those of the first jobs, as many as may get a session."""
    async with MemoryJournal() as journal:
        await save(journal, evolve(unprepared_record(job("earlier")), creations=1))
        plan = await plan_many(jobs(10), journal=journal, max_sessions=4)

    assert (plan.sessions, plan.left, plan.files, plan.bytes) == (3, 7, 3 * len(CONTEXTS), 3 * SIZE)


async def test_plan_of_a_manifest_reports_invalid_rows(tmp_path: Path) -> None:
    """Rows that cannot become a job, and jobs whose files Veriff would refuse, are reported with their lines."""
    await asyncio.to_thread((tmp_path / "front.jpg").write_bytes, PICTURE)
    lines = "id,document-front\ngood,front.jpg\nbad,missing.jpg\n,front.jpg\nstarted,gone.jpg\n"
    await asyncio.to_thread((tmp_path / "jobs.csv").write_text, lines)
    rows = await asyncio.to_thread(lambda: list(read_manifest(tmp_path / "jobs.csv", check_media=False)))
    async with SqliteJournal(tmp_path / "batch.db") as journal:
        started = unprepared_record(Job("started", [Media("gone.jpg", "document-front")]))
        await save(journal, started.with_creation().with_session("s"))
    content = await asyncio.to_thread((tmp_path / "batch.db").read_bytes)
    async with SqliteJournal(tmp_path / "batch.db") as journal:
        plan = await plan_many(rows, journal=journal, max_sessions=1)

    assert [(row.line, row.job_id) for row in plan.invalid] == [(3, "bad"), (4, None)]
    assert (plan.new, plan.resumable, plan.files, plan.bytes, plan.sessions) == (1, 1, 1, 0, 0)
    assert content == await asyncio.to_thread((tmp_path / "batch.db").read_bytes)


async def test_plan_counts_the_session_of_a_repeated_id_once() -> None:
    """A run creates one session for each id, so the plan does not promise another; a started job may be repeated."""
    async with MemoryJournal() as journal:
        await save(journal, unprepared_record(job("old")).with_creation().with_session("s-1"))

        plan = await plan_many([job("a"), job("old"), job("a"), job("old")], journal=journal)

    assert (plan.new, plan.sessions, plan.resumable) == (1, 1, 2)
    assert [(row.line, row.job_id) for row in plan.invalid] == [(3, "a")]


async def test_plan_takes_any_input_and_refuses_other_items() -> None:
    """Async iterators and streams are planned; a stream is not read, and its size is unknown."""

    async def generate() -> AsyncIterator[Job]:
        stream = io.BytesIO(PICTURE)
        yield Job("stream", [Media(stream, "face")])
        yield Job("broken", [Media(b"no picture", "face")])

    plan = await plan_many(generate())

    assert (plan.new, plan.files, plan.bytes) == (1, 1, len(PICTURE))
    assert [(row.line, row.job_id) for row in plan.invalid] == [(2, "broken")]
    assert await plan_many([]) == BatchPlan()
    for wrong in (3, ["job"]):
        with pytest.raises(InvalidArgumentError, match=r"must be (an iterable of|a) Job"):
            await plan_many(wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="max_sessions is -1"):
        await plan_many([], max_sessions=-1)
