"""Runs the steps of one job, and saves a record where a killed run needs it; `_runner` has the reasons.

Each step recovers in its own way, so the runner needs no table of states: a creation has an unknown outcome, uploads
are matched by size, and a submission trusts error 1304 only if an earlier submission may have been sent.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from anyio import to_thread
from attrs import define, evolve, field, frozen

from veriff_async._media.source import may_block, reusable_source, seeks_async
from veriff_async._protocol.error_classifier import ErrorKind, classify_error, is_outage, is_repeated
from veriff_async.batch._prepared_job import is_same_input, prepare_job, session_options, unprepared_record
from veriff_async.batch._records import FINISHED_STATES, JobRecord, JobState
from veriff_async.client import runtime_of
from veriff_async.errors import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    DecisionTimeoutError,
    JobChangedError,
    JournalError,
    OutcomeUnknownError,
    VeriffError,
)
from veriff_async.models.enums import Status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from veriff_async._media.prepare import PendingUpload
    from veriff_async.batch._circuit_breaker import CircuitBreaker
    from veriff_async.batch._prepared_job import PreparedJob
    from veriff_async.batch._rate_limit import RateLimiter
    from veriff_async.batch._session_budget import SessionBudget
    from veriff_async.batch.job import Job
    from veriff_async.batch.journal import Journal
    from veriff_async.client import VeriffClient
    from veriff_async.models.decision import Decision
    from veriff_async.models.media import UploadedMedia
    from veriff_async.session import VerificationSession

__all__ = ("BatchContext", "JobRunner", "OnUnknown", "ends_run", "finish_despite_cancellation")

_T = TypeVar("_T")

OnUnknown = Literal["hold", "recreate", "fail"]
"""How to treat a job whose session may have been created although no response arrived: leave it for `resolve_unknown`,
create another session, or fail the job."""

# Veriff's code for a session that is past the step (https://devdocs.veriff.com/docs/some-troubleshooting-codes-table).
_WRONG_STATE: Final = "1304"

# Seconds that a cancelled run gives to creations that were sent, whose sessions would otherwise be unknown.
_CREATION_GRACE: Final = 10.0

# Seconds after the beginning of a job's uploads from which on each receipt is saved when it arrives. A kill before that
# costs the uploads of one second, and only if Veriff does not list them.
_QUICK_UPLOADS: Final = 1.0

_BEFORE_SUBMISSION: Final = frozenset(
    {
        JobState.NEW,
        JobState.CREATING,
        JobState.UNKNOWN,
        JobState.CREATED,
        JobState.UPLOADING,
        JobState.SUBMITTING,
    }
)


class _LimitReachedError(Exception):
    """The limits of sessions forbid a creation. Not a `VeriffError`: it says nothing about whether Veriff works."""


@frozen(kw_only=True)
class BatchContext:
    """The parts of a run that its jobs share.

    Attributes:
        client: The client.
        journal: The journal.
        limiter: The rate of requests.
        breaker: Pauses the run during an outage.
        budget: The sessions that the run may still create, or `None` if nothing limits them.
        creations: Bounds concurrent creations, and so how many are unknown when an outage begins.
        on_unknown: See `verify_many`.
        retry_failed: See `verify_many`.
        max_outage: Seconds that an outage may last.
        poll_rate: Polls per second while the run waits, or `None` for those of the client.
        retries: Whether the run repeats steps that failed by an outage; a task queue delivers its messages again
            instead.
    """

    client: VeriffClient
    journal: Journal
    limiter: RateLimiter
    breaker: CircuitBreaker
    budget: SessionBudget | None
    creations: asyncio.Semaphore
    on_unknown: OnUnknown = "hold"
    retry_failed: bool = False
    max_outage: float | None = None
    poll_rate: float | None = None
    retries: bool = True

    async def send(self, request: Callable[[], Awaitable[_T]], *, creates: bool = False, count: int = 1) -> _T:
        """Call a function that sends `count` requests: at the run's rate, and not during an outage."""
        await self.limiter.acquire(count)
        return await self.breaker.send(request, self.max_outage, creates=creates)


@define
class JobRunner:
    """One job that a run has claimed."""

    context: BatchContext
    record: JobRecord
    _uploads: dict[int, PendingUpload] | None = field(default=None, init=False, repr=False)
    """Media that are prepared and not sent yet, by their index; ``None`` once an attempt has sent them."""
    _are_complete: bool = field(default=False, init=False, repr=False)

    async def take_turn(self, previous: JobRecord | None) -> None:
        """Wait until the limits of sessions permit another one, if the job probably needs one.

        Raises:
            SessionLimitError: They will not, or not soon enough for a run that does not wait.
        """
        budget = self.context.budget
        if budget is None or budget.has_turn(self.record.job_id):
            return
        if previous is not None:
            record = previous.retry() if self.context.retry_failed else previous
            creates = record.state is JobState.NEW or self.context.on_unknown == "recreate"
            if record.session_id is not None or record.state in FINISHED_STATES or not creates:
                return
            self.record = record  # a failed job that is left has not failed again
        await budget.take_turn(self.record.job_id)

    def _end_turn(self) -> None:
        if self.context.budget is not None:
            self.context.budget.end_turn(self.record.job_id)

    async def prepare(self, job: Job, previous: JobRecord | None) -> None:
        """Read a job's files and compare the job with its record.

        Raises:
            JobChangedError: The job has been started with other input.
            MediaError: A file that is still to be uploaded is missing, or Veriff does not accept it.
            InvalidArgumentError: Veriff would refuse an option.
        """
        # Before anything was requested from Veriff, a job may change freely; it starts again then.
        may_change = previous is None or (previous.session_id is None and previous.retry().state is JobState.NEW)
        try:
            prepared = await self._prepare(job, previous)
        except VeriffError as error:
            if may_change:
                failed = evolve(unprepared_record(job), creations=self.record.creations)
                await self._save(failed.with_failure(error))
            raise
        self._uploads = prepared.uploads
        if previous is not None and is_same_input(previous, prepared.record):
            self.record = previous.retry() if self.context.retry_failed else previous
        elif may_change:
            self.record = prepared.record
        else:
            msg = f"Job {job.id} was started with other input: pass the same input again, or use a new id."
            raise JobChangedError(msg)

    async def _prepare(self, job: Job, previous: JobRecord | None) -> PreparedJob:
        uploader = runtime_of(self.context.client).uploads
        work = partial(prepare_job, job, previous, uploader.credentials, uploader.opener)
        # An object of an unknown class may block for any time, and the client's uploads need its threads.
        if any(may_block(media.source) for media in job.media):
            return await to_thread.run_sync(work)
        # In a thread even for a few small files: a path may be on a slow disk or a network.
        return await uploader.workers.run(work)

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.record.state in FINISHED_STATES

    async def submit(self, job: Job) -> None:
        """Bring the job to its submission, from any earlier state.

        Raises:
            OutcomeUnknownError: Its session may exist, so that no other may be created.
            VeriffError: A step failed. If trying again is useless, the job has been saved as failed.
        """
        if self.record.state not in _BEFORE_SUBMISSION:
            return
        is_new = self.record.session_id is None
        if is_new:
            await self._complete_before_creation(job)
            await self._create_session(job)
            self._end_turn()
        session = self._session
        try:
            if not is_new:
                await self._find_uploads(session)
            await self._upload_missing(session, job)
            await self._submit_session(session)
        except VeriffError as error:
            if _is_permanent(error) and isinstance(error, BadRequestError | ConflictError):
                # The session may have expired since the job was started; then it has a decision that says so.
                decision = None
                with suppress(VeriffError):
                    decision = await self._fetch_decision()
                await self._save_decision(decision)
                if self.is_finished:
                    return
            await self._fail_if_permanent(error)
            raise

    async def wait_for_decision(self, timeout: float | None) -> None:  # noqa: ASYNC109  the timeout of the wait
        """Wait for the decision on a submitted job; a timeout of zero asks once.

        Raises:
            VeriffError: The session has no decision yet, or Veriff refuses the question.
        """
        try:
            decision = await (self._fetch_decision() if timeout == 0 else self._wait_for_decision(timeout))
        except VeriffError as error:
            await self._fail_if_permanent(error)
            raise
        await self._save_decision(decision)

    def close(self) -> None:
        """Delete the temporary files of media that were not sent, and make way for another job's session."""
        self._end_turn()
        self._close_uploads()

    def _close_uploads(self) -> None:
        for upload in (self._uploads or {}).values():
            upload.close()
        self._uploads = None

    def may_retry(self, error: VeriffError, job: Job | None) -> bool:
        """Return whether this run may repeat the step: the error is an outage's, and all media can be read again."""
        if not is_outage(error):
            return False
        if classify_error(error, creates=self.record.session_id is None) is not ErrorKind.TRANSIENT:
            return False
        if job is None or self.record.session_id is None:
            return True
        return all(reusable_source(job.media[index].source) is not None for index in self.record.missing_indexes)

    async def _wait_for_decision(self, timeout: float | None) -> Decision | None:  # noqa: ASYNC109
        try:
            return await self._session.wait_for_decision(timeout=timeout)
        except DecisionTimeoutError:
            if not self.context.breaker.is_paused:
                raise
            # The outage has used up the time of this wait, so ask once when it is over.
            decision = await self._fetch_decision()
            if decision is None or decision.status == Status.REVIEW:
                raise
            return decision

    async def _fetch_decision(self) -> Decision | None:
        return await self.context.send(self._session.decision)

    async def _save_decision(self, decision: Decision | None) -> None:
        # A review is not final: another decision follows, as in `wait_for_decision`.
        if decision is not None and decision.status != Status.REVIEW:
            await self._save(self.record.with_decision(decision))

    async def _complete_uploads(self, job: Job) -> list[PendingUpload]:
        """Return the missing media, with pictures converted and files spooled that only an event loop can read.

        A stream that can be read only once is left to the upload itself, which spools it while others are sent.
        """
        uploader = runtime_of(self.context.client).uploads
        if self._uploads is None:
            # An earlier attempt has sent them, at least in part.
            self._uploads = (await self._prepare(job, self.record)).uploads
            self._are_complete = False
        uploads = [self._uploads[index] for index in self.record.missing_indexes]
        if not self._are_complete:
            readable = [each for each in uploads if each.prepared is not None or seeks_async(each.media.source)]
            await uploader.complete(readable, stacklevel=1)
            self._are_complete = True
        return uploads

    async def _complete_before_creation(self, job: Job) -> None:
        # Before the session, which cannot be undone: a picture may not decode, and an async file may fail.
        try:
            await self._complete_uploads(job)
        except VeriffError as error:
            await self._fail_if_permanent(error)
            raise

    async def _create_session(self, job: Job) -> None:
        # Creating: a killed run may have sent the request. Unknown: a run sent it and got no response.
        if self.record.state is not JobState.NEW and self.context.on_unknown != "recreate":
            raise await self._save_unknown()
        try:
            await self._create_session_once(job)
        except OutcomeUnknownError:
            if self.context.on_unknown != "recreate":
                raise
            # Once only: if the second creation is unknown too, something is wrong that more sessions do not cure.
            await self._create_session_once(job)

    async def _create_session_once(self, job: Job) -> None:
        async def request() -> None:
            # Only a request that was sent delays the cancellation of a run; the pause of an outage does not.
            await finish_despite_cancellation(self._request_session(job), grace=_CREATION_GRACE)

        while True:
            try:
                # The semaphore first: an outage may begin while it is awaited, and only `send` notices that.
                async with self.context.creations:
                    return await self.context.send(request, creates=True)
            except _LimitReachedError:
                # Another run was faster. An hour may pass, so no file stays open or in memory.
                self._end_turn()
                self._close_uploads()
            await self.take_turn(None)
            await self._complete_before_creation(job)

    async def _request_session(self, job: Job) -> None:
        # Saved before the request: after a kill in between, the next run knows that the session may exist.
        record = self.record.with_creation()
        if self.context.budget is None:
            await self._save(record)
        elif await self.context.budget.reserve(record):
            self.record = record
        else:
            raise _LimitReachedError
        try:
            session = await self.context.client.create_session(**session_options(job))
        except VeriffError as error:
            kind = classify_error(error, creates=True)
            if kind is ErrorKind.UNKNOWN:
                # A response may contain an id and still prove nothing, for example if its signature is wrong.
                session_id = error.session_id if isinstance(error, OutcomeUnknownError) else None
                raise await self._save_unknown(session_id) from None
            new = self.record.without_creation()
            await self._save(new.with_failure(error) if kind is ErrorKind.JOB else new)
            raise
        self.context.breaker.session_id = session.id  # a probe of a session that exists is the most realistic one
        # The session and the beginning of its uploads in one write: every media is prepared, so they follow at once.
        await self._save(self.record.with_session(session.id).with_uploads_started())

    async def _save_unknown(self, session_id: str | None = None) -> OutcomeUnknownError:
        """Save that the session may exist, and return the error to raise."""
        hint = "" if session_id is None else f" as {session_id}"
        msg = (
            f"The session of job {self.record.job_id} may have been created{hint}, but no response proves it: look for "
            "it by its vendor_data and call resolve_unknown, or pass the job again with another on_unknown."
        )
        error = OutcomeUnknownError(msg, method="POST", path="/v1/sessions", session_id=session_id)
        unknown = self.record.with_state(JobState.UNKNOWN)
        await self._save(unknown.with_failure(error) if self.context.on_unknown == "fail" else unknown)
        return error

    async def _find_uploads(self, session: VerificationSession) -> None:
        """Ask which uploads of a killed run have arrived, so that nothing is uploaded a second time."""
        if not any(self.record.media[index].upload_started for index in self.record.missing_indexes):
            return
        try:
            uploaded = await self.context.send(session.media)
        except ApiError as error:
            # Veriff does not document that it lists media before the submission, so a refusal is ignored.
            if is_repeated(error.status) or isinstance(error, AuthenticationError):
                raise
            return
        # Not saved: until the next write, a killed run asks again.
        self.record = self.record.with_uploaded(uploaded.all)

    async def _upload_missing(self, session: VerificationSession, job: Job) -> None:
        missing = self.record.missing_indexes
        if not missing:
            return
        # Saved before the uploads: after a kill, only a started upload may be matched with the files that Veriff has.
        if not all(self.record.media[index].upload_started for index in missing):
            await self._save(self.record.with_uploads_started())
        uploads = await self._complete_uploads(job)
        # Each upload is a request of its own, so each needs its turn at the rate.
        await self.context.send(partial(self._send_uploads, session, uploads), count=len(uploads))

    async def _send_uploads(self, session: VerificationSession, uploads: list[PendingUpload]) -> None:
        """Send media; their receipts are saved with the next state, or sooner if the uploads last long or fail."""
        self._uploads = None  # `send` closes them, also when it fails
        time = asyncio.get_running_loop().time
        save_from = time() + _QUICK_UPLOADS

        async def keep(index: int, receipt: UploadedMedia) -> None:
            self.record = self.record.with_media_id(index, receipt.id)
            if time() >= save_from and self.record.missing_indexes:
                await self._save(self.record)

        try:
            await runtime_of(self.context.client).uploads.send(session.id, uploads, on_uploaded=keep)
        except VeriffError:
            await self._save(self.record)
            raise
        except asyncio.CancelledError:
            # The run is being stopped. An error of the journal must not replace the cancellation.
            with suppress(JournalError):
                await self._save(self.record)
            raise

    async def _submit_session(self, session: VerificationSession) -> None:
        # Read before the state is saved, which is the same for a first submission and for a repeated one.
        may_be_submitted = self.record.state is JobState.SUBMITTING
        await self._save(self.record.with_state(JobState.SUBMITTING))
        try:
            await self.context.send(session.submit)
        except BadRequestError as error:
            # A killed run may have submitted the session, which belongs to this job alone.
            if not may_be_submitted or error.code != _WRONG_STATE:
                raise
        await self._save(self.record.with_state(JobState.SUBMITTED))

    async def _save(self, record: JobRecord) -> None:
        # Assigned before the write: each of several concurrent uploads builds on the receipts of the others.
        self.record = record
        await self.context.journal.write(record)

    async def _fail_if_permanent(self, error: VeriffError) -> None:
        if _is_permanent(error):
            await self._save(self.record.with_failure(error))

    @property
    def _session(self) -> VerificationSession:
        return self.context.client.session(self.record.session_id or "")


def ends_run(error: VeriffError, record: JobRecord) -> bool:
    """Return whether an error would meet every job alike, so that the run stops with it."""
    return classify_error(error, creates=record.session_id is None) is ErrorKind.FATAL


def _is_permanent(error: VeriffError) -> bool:
    """Return whether trying again is useless, so that the job fails."""
    return classify_error(error) is ErrorKind.JOB


async def finish_despite_cancellation(work: Coroutine[None, None, None], *, grace: float) -> None:
    """Await work; on cancellation, wait up to `grace` seconds for it before cancelling it."""
    # A task of its own with a shield: the cancellation of the caller must not reach a request that was sent.
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        try:
            await asyncio.wait([task], timeout=grace)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        raise
