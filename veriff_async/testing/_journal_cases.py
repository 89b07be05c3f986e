"""What the rules of journals try a journal with: handles on its store, and records of every kind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from attrs import evolve

from veriff_async._protocol.webhook import event_from
from veriff_async.batch._records import FileFingerprint, JobFailure, JobRecord, JobState, MediaRecord
from veriff_async.errors import JobClaimedError, MediaEmptyError, VeriffError
from veriff_async.models.decision import DecisionSource
from veriff_async.models.events import DecisionEvent
from veriff_async.testing._harness import as_test, same
from veriff_async.testing.factories import decision_event

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Protocol

    from veriff_async.batch.journal import Journal
    from veriff_async.models.decision import Decision

    class Maker(Protocol):
        """What makes handles on the store of one test."""

        async def make(self) -> Journal:
            """Return a new handle."""
            ...


__all__ = (
    "Handles",
    "all_records",
    "cancelled",
    "counted",
    "decision_of",
    "kept",
    "put",
    "record_of",
    "refused",
    "rule",
)

_Contract = TypeVar("_Contract", bound="Maker")


class Handles:
    """The handles on the store of one test."""

    def __init__(self, contract: Maker) -> None:
        """Begin with none."""
        self._contract = contract
        self._handles: list[Journal] = []

    async def open(self) -> Journal:
        """Return a new handle on the store."""
        handle = await self._contract.make()
        self._handles.append(handle)
        return handle

    async def close(self) -> None:
        """Close every handle."""
        while self._handles:
            await self._handles.pop().aclose()


def rule(body: Callable[[_Contract, Handles], Awaitable[None]]) -> Callable[[_Contract], None]:
    """Make of a rule of journals a test for any runner."""
    return as_test(body, Handles)


def record_of(job_id: str) -> JobRecord:
    """Return the record of a job that is new."""
    media = (
        MediaRecord(context="document-front", fingerprint=FileFingerprint(size=3, sha256="ab")),
        MediaRecord(context="face"),
    )
    return JobRecord(job_id=job_id, options_digest="cd", media=media)


def all_records() -> tuple[JobRecord, ...]:
    """Return a record of each kind there is."""
    written = evolve(
        record_of("written"),
        media=(MediaRecord(context="é", fingerprint=FileFingerprint(size=0, mtime_ns=7, sha256="")),),
    )
    failure = JobFailure(error_type="MediaEmptyError", message='It is "empty": 日本.', state=JobState.UPLOADING)
    return (
        *(record_of(f"at {step}").with_state(step) for step in JobState),
        written,
        record_of("created").with_session("s-1"),
        record_of("uploading").with_session("s-2").with_uploads_started(),
        record_of("uploaded").with_session("s-3").with_uploads_started().with_media_id(1, "m-1"),
        record_of("decided").with_session("s-4").with_decision(decision_of()),
        evolve(record_of("failure").with_state(JobState.FAILED), failure=failure),
        record_of("failed").with_state(JobState.UPLOADING).with_failure(MediaEmptyError("It is empty: give another.")),
    )


def decision_of(*, source: DecisionSource = DecisionSource.WEBHOOK, more: object = "é") -> Decision:
    """Return a decision with more in it than this version knows."""
    event = decision_event("s", "approved", minute=1)
    event = event_from({**event.raw, "newer": [more, None, 1.5]})
    if not isinstance(event, DecisionEvent):
        msg = "a decision is told by no DecisionEvent"
        raise TypeError(msg)
    return evolve(event.decision, source=source)


async def put(journal: Journal, record: JobRecord) -> None:
    """Write a record of a job that is free."""
    await journal.claim(record.job_id)
    await journal.write(record)
    await journal.release(record.job_id)


async def kept(journal: Journal, job_id: str) -> JobRecord:
    """Return what is kept of a job, which must be known."""
    found = await journal.read(job_id)
    if found is None:
        msg = "A record that was written is not known to read()."
        raise AssertionError(msg)
    return found


async def counted(journal: Journal) -> dict[JobState, int]:
    """Return the count_by_state without steps at which no job stands."""
    return {step: count for step, count in (await journal.count_by_state()).items() if count}


async def refused(asked: Awaitable[object], what: str, *errors: type[VeriffError]) -> None:
    """Fail unless something is refused, as another's job when nothing else is said."""
    expected = errors or (JobClaimedError,)
    try:
        found: object = await asked
    except VeriffError as error:
        found = error
    same(isinstance(found, expected), True, f"whether {what} is refused as {expected[0].__name__}")  # noqa: FBT003


async def cancelled(asked: Awaitable[object], turns: int) -> bool:
    """Cancel something after some turns of the loop, and tell whether that was in time."""
    task = asyncio.ensure_future(asked)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    return task.cancelled()
