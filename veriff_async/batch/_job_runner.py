"""One job on its way: each step is written down before it is taken, and again when it is done."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, Literal

from anyio import to_thread
from attrs import define, evolve, frozen

from veriff_async._media.prepare import check_media
from veriff_async._media.source import reusable_source
from veriff_async._media.source_kinds import seeks_async
from veriff_async._protocol.error_classifier import ErrorKind, classify_error, is_outage, is_repeated
from veriff_async.batch._fingerprint import described, options_of, same, undescribed
from veriff_async.batch._records import JobRecord, JobState
from veriff_async.errors import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    DecisionTimeoutError,
    JobChangedError,
    OutcomeUnknownError,
    VeriffError,
)
from veriff_async.models.enums import Status

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine

    from veriff_async.batch._circuit_breaker import CircuitBreaker
    from veriff_async.batch._rate_limit import RateLimiter
    from veriff_async.batch.job import Job
    from veriff_async.batch.journal import Journal
    from veriff_async.client import VeriffClient
    from veriff_async.models.decision import Decision
    from veriff_async.models.media import Media, UploadedMedia
    from veriff_async.session import VerificationSession

__all__ = ("Course", "OnUnknown", "Run", "ends_run")

OnUnknown = Literal["hold", "recreate", "fail"]
"""How to treat a job whose session may have been created although no response arrived: leave it for `resolve_unknown`,
create another session, or fail the job."""

_WRONG_STATE: Final = "1304"
"""Veriff's code for a session that is past the step (https://devdocs.veriff.com/docs/some-troubleshooting-codes-table)."""

_TRANSIENT: Final = ErrorKind.TRANSIENT

_PATIENCE: Final = 10.0
"""Seconds that a run which is stopped gives to creations under way, whose sessions would else be unknown."""

_ON_THE_WAY: Final = frozenset(
    {JobState.NEW, JobState.CREATING, JobState.UNKNOWN, JobState.CREATED, JobState.UPLOADING, JobState.SUBMITTING}
)


@frozen(kw_only=True)
class Run:
    """What all jobs of one run share.

    Attributes:
        client: The client.
        journal: Where steps are written.
        throttle: The pace of requests.
        breaker: Pauses the run during an outage.
        creating: Bounds how many creations are in doubt when an outage begins.
        on_unknown: See `verify_many`.
        retry_failed: See `verify_many`.
        patience: Seconds that an outage may last.
        retries: Whether the run repeats what may pass; a queue delivers its messages again instead.
    """

    client: VeriffClient
    journal: Journal
    throttle: RateLimiter
    breaker: CircuitBreaker
    creating: asyncio.Semaphore
    on_unknown: OnUnknown = "hold"
    retry_failed: bool = False
    patience: float | None = None
    retries: bool = True

    @asynccontextmanager
    async def request(self, *, creates: bool = False, count: int = 1) -> AsyncGenerator[None]:
        """Send requests inside of the block: at the run's pace, and not during an outage."""
        for _ in range(count):
            await self.throttle.turn()
        async with self.breaker.request(self.patience, creates=creates):
            yield


@define
class Course:
    """One job that a run has claimed.

    Attributes:
        run: The run.
        record: What is written of the job.
    """

    run: Run
    record: JobRecord

    async def begin(self, job: Job, known: JobRecord | None) -> None:
        """Look at a job, and where it stands.

        Raises:
            JobChangedError: It is not what it was.
            MediaError: A file that is still to be uploaded is missing, or nothing that Veriff takes.
            InvalidArgumentError: An option would be refused.
        """
        # Before anything was asked of Veriff, a job may be given in another way; it begins anew then.
        is_free = known is None or (known.session_id is None and known.retry().state is JobState.NEW)
        try:
            now = await to_thread.run_sync(described, job, known)
        except VeriffError as error:
            if is_free:
                await self._write(undescribed(job).with_failure(error))
            raise
        if known is not None and same(known, now):
            self.record = known.retry() if self.run.retry_failed else known
        elif is_free:
            self.record = now
        else:
            msg = f"Job {job.id} was begun with other input: give it as it was, or under a new id."
            raise JobChangedError(msg)

    @property
    def is_settled(self) -> bool:
        """Tell whether nothing is left to do."""
        return self.record.state in {JobState.DECIDED, JobState.FAILED}

    async def submit(self, job: Job) -> None:
        """Bring the job to its submission, from wherever it stands.

        Raises:
            OutcomeUnknownError: Its session may or may not exist, and is not to be created again.
            VeriffError: It stopped; what cannot be mended by trying again is written as failed.
        """
        if self.record.state not in _ON_THE_WAY:
            return
        if self.record.session_id is None:
            await self._check(job)
            await self._create(job)
        session = self._session
        try:
            await self._find(session)
            await self._upload(session, job.media)
            await self._hand_over(session)
        except VeriffError as error:
            if _is_lasting(error) and isinstance(error, BadRequestError | ConflictError):
                # It may have expired meanwhile, and is decided then.
                decision = None
                with suppress(VeriffError):
                    decision = await self._ask()
                await self._learn(decision)
                if self.is_settled:
                    return
            await self._fail_if_lasting(error)
            raise

    async def decide(self, timeout: float | None) -> None:  # noqa: ASYNC109  the timeout of the wait
        """Wait for the decision on a job that is submitted; a timeout of zero asks once.

        Raises:
            VeriffError: There is none yet, or Veriff does not tell.
        """
        try:
            decision = await (self._ask() if timeout == 0 else self._wait(timeout))
        except VeriffError as error:
            await self._fail_if_lasting(error)
            raise
        await self._learn(decision)

    async def _wait(self, timeout: float | None) -> Decision | None:  # noqa: ASYNC109  the timeout of the wait
        try:
            return await self._session.wait_for_decision(timeout=timeout)
        except DecisionTimeoutError:
            if not self.run.breaker.is_paused:
                raise
            # The outage has used up the time of this wait, so ask once when it is over.
            decision = await self._ask()
            if decision is None or decision.status == Status.REVIEW:
                raise
            return decision

    async def _ask(self) -> Decision | None:
        async with self.run.request():
            return await self._session.decision()

    async def _learn(self, decision: Decision | None) -> None:
        # A review announces another decision, as for whoever waits.
        if decision is not None and decision.status != Status.REVIEW:
            await self._write(self.record.with_decision(decision))

    async def _check(self, job: Job) -> None:
        """Check what `begin` did not, since a session cannot be taken back: decode pictures, read async files."""
        if not any(one.max_side is not None or seeks_async(one.source) for one in job.media):
            return
        try:
            await check_media(*job.media)
        except VeriffError as error:
            await self._fail_if_lasting(error)
            raise

    async def _create(self, job: Job) -> None:
        if self.record.state is not JobState.NEW and self.run.on_unknown != "recreate":
            raise await self._unsettled()
        try:
            await self._create_once(job)
        except OutcomeUnknownError:
            if self.run.on_unknown != "recreate":
                raise
            await self._create_once(job)

    async def _create_once(self, job: Job) -> None:
        async with self.run.creating, self.run.request(creates=True):
            # Only what has left is awaited when the run is cancelled, not the pause of an outage.
            await finished(self._ask_for_session(job), within=_PATIENCE)

    async def _ask_for_session(self, job: Job) -> None:
        await self._write(self.record.with_state(JobState.CREATING))
        try:
            session = await self.run.client.create_session(**options_of(job))
        except VeriffError as error:
            kind = classify_error(error, creates=True)
            if kind is ErrorKind.UNKNOWN:
                session_id = error.session_id if isinstance(error, OutcomeUnknownError) else None
                raise await self._unsettled(session_id) from None
            new = self.record.with_state(JobState.NEW)
            await self._write(new.with_failure(error) if kind is ErrorKind.JOB else new)
            raise
        self.run.breaker.session_id = session.id
        await self._write(self.record.with_session(session.id))

    async def _unsettled(self, session_id: str | None = None) -> OutcomeUnknownError:
        seen = "" if session_id is None else f" as {session_id}"
        msg = (
            f"The session of job {self.record.job_id} may have been created{seen}, but no answer proves it: look for "
            "it by its vendor_data and settle the job, or give it again with another on_unknown."
        )
        error = OutcomeUnknownError(msg, method="POST", path="/v1/sessions", session_id=session_id)
        unknown = self.record.with_state(JobState.UNKNOWN)
        await self._write(unknown.with_failure(error) if self.run.on_unknown == "fail" else unknown)
        return error

    async def _find(self, session: VerificationSession) -> None:
        """Look what is up of what a run that died had begun, so that nothing is uploaded a second time."""
        if not any(self.record.media[place].upload_started for place in self.record.missing_indexes):
            return
        try:
            async with self.run.request():
                held = await session.media()
        except ApiError as error:  # that Veriff tells of media before the submission is a guess
            if is_repeated(error.status) or isinstance(error, AuthenticationError):
                raise
            return
        await self._write(self.record.with_uploaded(held.all))

    async def _upload(self, session: VerificationSession, media: tuple[Media, ...]) -> None:
        if not self.record.missing_indexes:
            return
        places = self.record.missing_indexes
        await self._write(self.record.with_uploads_started())

        async def write(place: int, receipt: UploadedMedia) -> None:
            await self._write(self.record.with_media_id(places[place], receipt.id))

        try:
            async with self.run.request(count=len(places)):
                await session.upload(*(media[place] for place in places), on_uploaded=write)
        except VeriffError as error:
            if error.media is not None:  # counted among those that were missing
                error.media = evolve(error.media, index=places[error.media.index])
            raise

    async def _hand_over(self, session: VerificationSession) -> None:
        was_begun = self.record.state is JobState.SUBMITTING
        await self._write(self.record.with_state(JobState.SUBMITTING))
        try:
            async with self.run.request():
                await session.submit()
        except BadRequestError as error:
            # A run that died may have submitted it; the session is this job's alone.
            if not was_begun or error.code != _WRONG_STATE:
                raise
        await self._write(self.record.with_state(JobState.SUBMITTED))

    async def _write(self, record: JobRecord) -> None:
        self.record = record  # at once: uploads that end side by side each add to what the others have written
        await self.run.journal.write(record)

    def may_retry(self, error: VeriffError, job: Job | None) -> bool:
        """Return whether this run may try the last step again: the error is an outage's, and the media can be read."""
        if not is_outage(error) or classify_error(error, creates=self.record.session_id is None) is not _TRANSIENT:
            return False
        if job is None or self.record.session_id is None:
            return True
        return all(reusable_source(job.media[place].source) is not None for place in self.record.missing_indexes)

    async def _fail_if_lasting(self, error: VeriffError) -> None:
        if _is_lasting(error):
            await self._write(self.record.with_failure(error))

    @property
    def _session(self) -> VerificationSession:
        return self.run.client.session(self.record.session_id or "")


async def finished(work: Coroutine[None, None, None], *, within: float) -> None:
    """Do something, and when cancelled give it some seconds to end all the same."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        try:
            await asyncio.wait([task], timeout=within)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        raise


def ends_run(error: VeriffError, record: JobRecord) -> bool:
    """Return whether an error would meet every job alike, so that the run stops with it."""
    return classify_error(error, creates=record.session_id is None) is ErrorKind.FATAL


def _is_lasting(error: VeriffError) -> bool:
    """Return whether trying again is useless, so that the job has failed for good."""
    return classify_error(error) is ErrorKind.JOB
