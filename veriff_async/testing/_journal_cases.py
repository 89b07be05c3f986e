"""The cases of the contract of journals: records of every kind, and checks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from attrs import evolve

from veriff_async._protocol.webhook import event_from
from veriff_async.batch._records import FileFingerprint, JobFailure, JobRecord, JobState, MediaRecord
from veriff_async.errors import JobClaimedError, MediaEmptyError, VeriffError
from veriff_async.models.decision_source import DecisionSource
from veriff_async.testing._harness import Handles, as_test, check_equal
from veriff_async.testing.factories import decision_event, decision_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Protocol

    from veriff_async.batch.journal import Journal
    from veriff_async.models.decision import Decision

    class JournalCase(Protocol):
        """A contract whose journal can be made."""

        async def make(self) -> Journal:
            """Return a new handle."""
            ...


__all__ = (
    "JournalHandles",
    "all_records",
    "cancel_after",
    "check_refused",
    "count_jobs",
    "decision_with_unknown_members",
    "new_record",
    "read_record",
    "rule",
    "write_record",
)

_Case = TypeVar("_Case", bound="JournalCase")


class JournalHandles(Handles["Journal"]):
    """The handles on the journal of one test."""

    def __init__(self, case: JournalCase) -> None:
        """Start without handles."""
        super().__init__(case.make)


def rule(body: Callable[[_Case, JournalHandles], Awaitable[None]]) -> Callable[[_Case], None]:
    """Turn a rule of journals into a test for any runner."""
    return as_test(body, JournalHandles)


def new_record(job_id: str) -> JobRecord:
    """Return the record of a new job."""
    media = (
        MediaRecord(context="document-front", fingerprint=FileFingerprint(size=3, sha256="ab")),
        MediaRecord(context="face"),
    )
    return JobRecord(job_id=job_id, options_digest="cd", media=media)


def all_records() -> tuple[JobRecord, ...]:
    """Return a record of every kind."""
    # Every optional member is set in one record and missing in another one.
    without_hash = evolve(
        new_record("written"),
        media=(MediaRecord(context="é", fingerprint=FileFingerprint(size=0, mtime_ns=7, sha256="")),),
    )
    failure = JobFailure(error_type="MediaEmptyError", message='It is "empty": 日本.', state=JobState.UPLOADING)
    return (
        *(new_record(f"at {state}").with_state(state) for state in JobState),
        without_hash,
        new_record("created").with_session("s-1"),
        new_record("uploading").with_session("s-2").with_uploads_started(),
        new_record("uploaded").with_session("s-3").with_uploads_started().with_media_id(1, "m-1"),
        new_record("decided").with_session("s-4").with_decision(decision_with_unknown_members()),
        evolve(new_record("failure").with_state(JobState.FAILED), failure=failure),
        new_record("failed").with_state(JobState.UPLOADING).with_failure(MediaEmptyError("It is empty: give another.")),
    )


def decision_with_unknown_members(*, source: DecisionSource = DecisionSource.WEBHOOK, value: object = "é") -> Decision:
    """Return a decision with members that this version does not know."""
    event = decision_event("s", "approved", minute=1)
    event = event_from({**event.raw, "newer": [value, None, 1.5]})
    return evolve(decision_of(event), source=source)


async def write_record(journal: Journal, record: JobRecord) -> None:
    """Write the record of a job that is not claimed."""
    await journal.claim(record.job_id)
    await journal.write(record)
    await journal.release(record.job_id)


async def read_record(journal: Journal, job_id: str) -> JobRecord:
    """Return the record of a job, and fail if it has none."""
    record = await journal.read(job_id)
    if record is None:
        msg = "read() does not return a record that was written."
        raise AssertionError(msg)
    return record


async def count_jobs(journal: Journal) -> dict[JobState, int]:
    """Return the number of jobs in each state that has any."""
    return {state: count for state, count in (await journal.count_by_state()).items() if count}


async def check_refused(call: Awaitable[object], subject: str, *errors: type[VeriffError]) -> None:
    """Fail unless a call raises one of some errors; `JobClaimedError` by default."""
    expected = errors or (JobClaimedError,)
    try:
        outcome: object = await call
    except VeriffError as error:
        outcome = error
    check_equal(isinstance(outcome, expected), True, f"whether {subject} raises {expected[0].__name__}")  # noqa: FBT003


async def cancel_after(call: Awaitable[object], iterations: int) -> bool:
    """Cancel a call after some iterations of the loop, and return whether it was cancelled before its end."""
    task = asyncio.ensure_future(call)
    # One iteration more each time cancels the call at another one of its awaits.
    for _ in range(iterations):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    return task.cancelled()
