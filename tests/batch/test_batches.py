"""Batches: each job ends once, also if steps fail and processes are killed."""

from __future__ import annotations

import asyncio
import gc
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import anyio
import pytest

from tests.conditions import run_loop
from tests.loops import every_loop
from veriff_async import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    BatchError,
    ClientClosedError,
    ConfigurationError,
    ConflictError,
    Credentials,
    DecisionTimeoutError,
    InvalidArgumentError,
    JobChangedError,
    JobClaimedError,
    JobFailedError,
    JournalError,
    Media,
    MediaError,
    OutcomeUnknownError,
    Person,
    PollPolicy,
    RateLimitedError,
    RetryPolicy,
    ServerError,
    Status,
    TransportError,
    VeriffClient,
)
from veriff_async.batch import (
    BatchProgress,
    Job,
    JobRecord,
    JobResult,
    JobState,
    MemoryJournal,
    RateLimits,
    collect_many,
    plan_many,
    resolve_unknown,
    submit_many,
    verify_many,
    verify_one,
)
from veriff_async.sandbox import Fault, Sandbox, SandboxOptions, VirtualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from veriff_async.client import ClientOptions
    from veriff_async.sandbox import ReceivedRequest

pytestmark = pytest.mark.anyio

PICTURE: Final = b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(1000) + b"\xff\xd9"
QUICK: Final = RateLimits(initial=1000.0)
CONTEXTS: Final = ("document-front", "document-back", "face")


class SimulatedCrash(Exception):  # noqa: N818  a death, not an error
    """The end of a process."""


class CrashingJournal(MemoryJournal):
    """A journal whose process crashes at one of its writes, before or after the record is saved."""

    def __init__(self, records: dict[str, JobRecord], *, at: int, safe: bool) -> None:
        """Start with the records of earlier processes; crash at the write number `at`."""
        super().__init__()
        self._records = records
        self.writes = 0
        self._at = at
        self._safe = safe

    async def write(self, record: JobRecord) -> None:
        """Write, or crash."""
        self.writes += 1
        if self.writes != self._at or self._safe:
            await super().write(record)
        if self.writes == self._at:
            raise SimulatedCrash


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Run a sandbox that decides immediately."""
    async with Sandbox(decide_after=0) as sandbox:
        yield sandbox


@pytest.fixture
def client_options() -> ClientOptions:
    """Disable retries, and poll often."""
    return {
        "retry": RetryPolicy(max_attempts=1),
        "poll": PollPolicy(interval=0.01, max_interval=0.01, backoff_factor=1, max_rate=1000),
    }


@pytest.fixture
async def journal() -> AsyncIterator[MemoryJournal]:
    """Open a journal in memory."""
    async with MemoryJournal() as journal:
        yield journal


def job(name: str, *, timeout: float | None = 900.0) -> Job:
    """Return a job of three pictures."""
    return Job(name, [Media(PICTURE + context.encode(), context) for context in CONTEXTS], timeout=timeout)


def jobs(count: int) -> list[Job]:
    """Return some jobs."""
    return [job(f"user-{number}") for number in range(count)]


async def results(stream: AsyncIterator[JobResult]) -> dict[str, JobResult]:
    """Return all results of a run by job."""
    return {result.job_id: result async for result in stream}


def count_creations(sandbox: Sandbox) -> int:
    """Return how many creations the sandbox received."""
    return sum(seen.path == "/v1/sessions" for seen in sandbox.requests)


def assert_once(sandbox: Sandbox, names: set[str]) -> None:
    """Check in the sandbox that each job has one session, each picture once, and a decision."""
    assert sorted(names) == sorted(session.vendor_data or "" for session in sandbox.sessions)
    for session in sandbox.sessions:
        assert sorted(CONTEXTS) == sorted(media.context for media in session.media)
        assert Status.APPROVED == session.status


async def test_each_job_has_a_result(sandbox: Sandbox, veriff: VeriffClient, journal: MemoryJournal) -> None:
    """Each job of an iterator is decided once, and its id is the session's vendor_data."""

    async def iter_jobs() -> AsyncIterator[Job]:
        for one in jobs(12):
            yield one

    found = await results(verify_many(veriff, iter_jobs(), journal=journal, concurrency=4, rate_limits=QUICK))

    assert {one.id for one in jobs(12)} == set(found)
    assert all(result.decision is not None and result.decision.is_approved for result in found.values())
    assert {JobState.DECIDED: 12} == dict(await journal.count_by_state())
    assert_once(sandbox, set(found))


async def test_each_step_is_saved_before_and_after(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """One record before a creation, before the uploads, before and after the submission, and after the decision."""
    seen: list[tuple[JobState, int]] = []
    missing: list[int] = []

    class RecordingJournal(MemoryJournal):
        async def write(self, record: JobRecord) -> None:
            await super().write(record)
            missing.append(len(record.missing_indexes))
            seen.append((record.state, len(sandbox.requests)))

    await results(verify_many(veriff, [job("user-42")], journal=RecordingJournal(), rate_limits=QUICK))

    assert [3, 3, 0, 0, 0] == missing
    assert [
        (JobState.CREATING, 0),
        (JobState.UPLOADING, 1),
        (JobState.SUBMITTING, 4),
        (JobState.SUBMITTED, 5),
        (JobState.DECIDED, 6),
    ] == seen


@asynccontextmanager
async def uploading_one_by_one(on_upload: Callable[[Sandbox], object]) -> AsyncIterator[VeriffClient]:
    """Open a client that uploads one media at a time, and call a function when the first one has arrived."""
    uploads: list[ReceivedRequest] = []

    def on_request(request: ReceivedRequest) -> None:
        if request.path.endswith("/media"):
            uploads.append(request)
            if len(uploads) == 1:
                on_upload(running)

    running = Sandbox(on_request=on_request)
    async with running:
        options: ClientOptions = {"max_uploads": 1, "retry": RetryPolicy(max_attempts=1)}
        async with VeriffClient.from_env(running.environ, **options) as veriff:
            yield veriff


class MissingUploads(MemoryJournal):
    """A journal that notes how many uploads are missing in each record."""

    def __init__(self) -> None:
        """Start empty."""
        super().__init__()
        self.missing: list[int] = []

    async def write(self, record: JobRecord) -> None:
        """Write, and count."""
        await super().write(record)
        self.missing.append(len(record.missing_indexes))


async def test_receipts_are_saved_when_an_upload_fails() -> None:
    """If one upload of a job fails, the record has the receipts of the complete ones."""
    journal = MissingUploads()
    async with uploading_one_by_one(lambda sandbox: sandbox.inject(Fault.status(500), method="POST")) as veriff:
        stopped = await verify_one(veriff, job("user-42"), journal=journal, wait=False)

    assert isinstance(stopped.error, ServerError)
    assert [3, 3, 2] == journal.missing


async def test_receipts_are_saved_when_a_run_is_cancelled() -> None:
    """A run that is cancelled during the uploads of a job saves the receipts of the complete ones."""
    journal = MissingUploads()
    async with uploading_one_by_one(lambda sandbox: sandbox.inject(Fault.hang(), method="POST")) as veriff:
        run = asyncio.ensure_future(verify_one(veriff, job("user-42"), journal=journal, wait=False))
        while veriff.statistics().requests < 3:  # noqa: ASYNC110  a creation, an upload, and one that hangs
            await asyncio.sleep(0)
        run.cancel()
        await asyncio.wait([run])

    assert [3, 3, 2] == journal.missing


async def test_receipts_of_long_uploads_are_saved_at_once(advance_time: Callable[[float], None]) -> None:
    """When the uploads of a job have run for a second, each receipt is saved when it arrives."""
    journal = MissingUploads()
    async with uploading_one_by_one(lambda _: advance_time(1.5)) as veriff:
        await verify_one(veriff, job("user-42"), journal=journal, wait=False)

    assert [3, 3, 2, 1, 0, 0] == journal.missing


async def test_finished_jobs_come_from_the_journal(
    sandbox: Sandbox, veriff: VeriffClient, journal: MemoryJournal
) -> None:
    """A second run with the same journal sends no request and yields the same decisions."""
    first = await results(verify_many(veriff, jobs(3), journal=journal, rate_limits=QUICK))
    asked = len(sandbox.requests)

    again = await results(verify_many(veriff, jobs(3), journal=journal, rate_limits=QUICK))

    assert asked == len(sandbox.requests)
    assert [one.decision for one in first.values()] == [again[name].decision for name in first]
    assert all(result.from_journal for result in again.values())
    assert not any(result.from_journal for result in first.values())


@pytest.mark.parametrize("safe", [True, False], ids=["written", "not written"])
async def test_crash_at_any_write_loses_nothing(sandbox: Sandbox, veriff: VeriffClient, safe: bool) -> None:  # noqa: FBT001
    """After a crash at any write, later runs give each job one session, each picture once, and its decision."""
    names = set[str]()
    for at in range(1, 12):
        one, records = job(f"user-{at}"), dict[str, JobRecord]()
        with suppress(SimulatedCrash):  # some crashes would come after the last write
            await results(
                verify_many(veriff, [one], journal=CrashingJournal(records, at=at, safe=safe), rate_limits=QUICK)
            )
        again = MemoryJournal()
        again._records = records
        result = await verify_one(veriff, one, journal=again)
        if isinstance(result.error, OutcomeUnknownError):
            # As a person does who looks for the session in the portal.
            held = [session.id for session in sandbox.sessions if session.vendor_data == one.id]
            await resolve_unknown(again, one.id, session_id=held[0] if held else None)
            result = await verify_one(veriff, one, journal=again)
        assert result.decision is not None, result.error
        names.add(one.id)
    assert_once(sandbox, names)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/sessions"), ("POST", "/v1/sessions/*/media"), ("PATCH", None), ("GET", "*/decision")],
)
async def test_lost_response_loses_nothing(
    sandbox: Sandbox, veriff: VeriffClient, journal: MemoryJournal, method: str, path: str | None
) -> None:
    """If Veriff carried out a request and its response was lost, the next run notices that."""
    sandbox.inject(Fault.lose_response(), method=method, path=path)
    first = await verify_one(veriff, job("user-42"), journal=journal)
    if isinstance(first.error, OutcomeUnknownError):
        await resolve_unknown(journal, "user-42", session_id=sandbox.sessions[0].id)

    second = await verify_one(veriff, job("user-42"), journal=journal)

    assert second.decision is not None, second.error
    assert_once(sandbox, {"user-42"})


@pytest.mark.parametrize("answered", [True, False])
async def test_unknown_creation_is_held(
    sandbox: Sandbox,
    veriff: VeriffClient,
    journal: MemoryJournal,
    answered: bool,  # noqa: FBT001
) -> None:
    """Nothing is created again before `resolve_unknown` says whether there is a session."""
    sandbox.inject(Fault.lose_response() if answered else Fault.drop(after=10), method="POST", path="/v1/sessions")

    for _ in range(2):
        found = await verify_one(veriff, job("user-42"), journal=journal)
        assert isinstance(found.error, OutcomeUnknownError)
        assert JobState.UNKNOWN is found.state
    assert 1 == count_creations(sandbox)
    await resolve_unknown(journal, "user-42", session_id=sandbox.sessions[0].id if answered else None)
    found = await verify_one(veriff, job("user-42"), journal=journal)

    assert found.decision is not None
    assert_once(sandbox, {"user-42"})
    with pytest.raises(InvalidArgumentError, match="Job user-42 is in state decided, so there is nothing to resolve"):
        await resolve_unknown(journal, "user-42", session_id=None)


@pytest.mark.parametrize("wrong", ["mistyped", "11111111-2222-4333-8444-555555555555"])
@pytest.mark.parametrize("answered", [True, False])
async def test_wrong_session_can_be_corrected(
    sandbox: Sandbox,
    veriff: VeriffClient,
    journal: MemoryJournal,
    wrong: str,
    answered: bool,  # noqa: FBT001
) -> None:
    """A job that failed because `resolve_unknown` was given an unknown session can be corrected by a second call."""
    sandbox.inject(Fault.lose_response() if answered else Fault.drop(after=10), method="POST", path="/v1/sessions")
    await verify_one(veriff, job("user-42"), journal=journal)
    await resolve_unknown(journal, "user-42", session_id=wrong)
    assert JobState.FAILED is (await verify_one(veriff, job("user-42"), journal=journal)).state

    await resolve_unknown(journal, "user-42", session_id=sandbox.sessions[0].id if answered else None)
    found = await verify_one(veriff, job("user-42"), journal=journal)

    assert found.decision is not None, found.error
    assert_once(sandbox, {"user-42"})


async def test_resolving_a_missing_job_names_it(journal: MemoryJournal) -> None:
    """The id of a job that the journal does not have is refused with an error that names it."""
    with pytest.raises(InvalidArgumentError, match="The journal has no job user-43"):
        await resolve_unknown(journal, "user-43", session_id=None)


async def test_unknown_creation_can_be_recreated_or_failed(
    sandbox: Sandbox, veriff: VeriffClient, journal: MemoryJournal
) -> None:
    """``recreate`` makes another session, ``fail`` ends the job until `retry_failed` is set."""
    sandbox.inject(Fault.lose_response(), method="POST", path="/v1/sessions")
    failed = await verify_one(veriff, job("user-42"), journal=journal, on_unknown="fail")
    assert isinstance(failed.error, OutcomeUnknownError)
    assert JobState.FAILED is failed.state

    known = await verify_one(veriff, job("user-42"), journal=journal)
    assert isinstance(known.error, JobFailedError)
    assert "OutcomeUnknownError" == known.error.error_type
    again = await verify_one(veriff, job("user-42"), journal=journal, on_unknown="recreate", retry_failed=True)
    assert again.decision is not None
    assert 2 == count_creations(sandbox)

    sandbox.inject(Fault.lose_response(), method="POST", path="/v1/sessions")
    at_once = await verify_one(veriff, job("user-43"), journal=journal, on_unknown="recreate")
    assert at_once.decision is not None
    assert 4 == count_creations(sandbox)


async def test_failed_job_does_not_stop_the_others(
    sandbox: Sandbox, veriff: VeriffClient, journal: MemoryJournal, tmp_path: Path
) -> None:
    """A bad picture and a refused session become results with errors; no session is created for a bad picture."""
    bad = Job("bad", [Media(tmp_path / "missing.jpg", "face")])
    refused = job("refused")
    sandbox.inject(Fault.status(400, code="1104"), method="PATCH")
    first = await results(verify_many(veriff, [refused], journal=journal, rate_limits=QUICK))
    found = first | await results(verify_many(veriff, [bad, *jobs(3)], journal=journal, rate_limits=QUICK))

    assert isinstance(found["bad"].error, MediaError)
    assert JobState.FAILED is found["bad"].state
    assert isinstance(found["refused"].error, BadRequestError)
    assert {JobState.FAILED: 2, JobState.DECIDED: 3} == dict(await journal.count_by_state())
    assert 4 == count_creations(sandbox)
    known = await results(verify_many(veriff, [bad, refused], journal=journal, rate_limits=QUICK))
    assert isinstance(known["refused"].error, JobFailedError)
    assert known["refused"].from_journal
    # The file exists now, so the input has changed, which is allowed before a session was requested.
    await anyio.Path(tmp_path / "missing.jpg").write_bytes(PICTURE)
    retried = await results(verify_many(veriff, [bad, refused], journal=journal, retry_failed=True, rate_limits=QUICK))
    assert all(result.decision is not None for result in retried.values())


async def test_transient_error_keeps_the_state(sandbox: Sandbox, veriff: VeriffClient, journal: MemoryJournal) -> None:
    """A job that stopped with a transient error keeps its state, and resumes."""
    sandbox.inject(Fault.status(500), method="POST", path="/v1/sessions/*/media")
    stopped = await verify_one(veriff, job("user-42"), journal=journal)
    assert isinstance(stopped.error, ServerError)
    assert JobState.UPLOADING is stopped.state

    sandbox.inject(Fault.drop(), method="PATCH")
    stopped = await verify_one(veriff, job("user-42"), journal=journal)
    assert isinstance(stopped.error, TransportError)
    assert JobState.SUBMITTING is stopped.state

    assert (await verify_one(veriff, job("user-42"), journal=journal)).decision is not None
    assert_once(sandbox, {"user-42"})


@pytest.mark.parametrize(
    ("fault", "error", "state"),
    [
        (Fault.status(500), OutcomeUnknownError, JobState.UNKNOWN),
        (Fault.status(502), OutcomeUnknownError, JobState.UNKNOWN),
        (Fault.corrupt_response(), OutcomeUnknownError, JobState.UNKNOWN),
        (Fault.status(503), ServerError, JobState.NEW),
        (Fault.status(429), RateLimitedError, JobState.NEW),
        (Fault.status(400, code="1102"), BadRequestError, JobState.FAILED),
    ],
    ids=lambda value: str(getattr(value, "http_status", "")),
)
async def test_outcome_of_a_failed_creation(  # noqa: PLR0913, PLR0917  fixtures, and three parameters
    sandbox: Sandbox,
    veriff: VeriffClient,
    journal: MemoryJournal,
    fault: Fault,
    error: type[Exception],
    state: JobState,
) -> None:
    """Only a response that proves it means that no session was created, and only a refusal fails the job."""
    sandbox.inject(fault, method="POST", path="/v1/sessions")
    found = await verify_one(veriff, job("user-42"), journal=journal)

    assert isinstance(found.error, error)
    assert state is found.state
    record = await journal.read("user-42")
    assert record is not None
    assert (state, int(state is JobState.UNKNOWN)) == (record.state, record.creations)


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_fatal_error_ends_the_run(
    sandbox: Sandbox, veriff: VeriffClient, journal: MemoryJournal, status: int
) -> None:
    """A creation that every job would be refused, or a closed client, leaves all jobs in their state."""
    sandbox.inject(Fault.status(status), method="POST", path="/v1/sessions")
    with pytest.raises(ApiError):
        await results(verify_many(veriff, jobs(3), journal=journal, concurrency=1, rate_limits=QUICK))
    await veriff.aclose()
    with pytest.raises(ClientClosedError):
        await results(verify_many(veriff, jobs(3), journal=journal, concurrency=1, rate_limits=QUICK))

    assert {JobState.NEW: 1} == dict(await journal.count_by_state())


@pytest.mark.parametrize(
    ("earlier_submissions", "code", "is_submitted"), [(0, "1304", 0), (1, "1304", 1), (1, "1302", 0)]
)
async def test_error_1304_counts_only_after_an_earlier_submission(  # noqa: PLR0913, PLR0917  fixtures and parameters
    sandbox: Sandbox,
    veriff: VeriffClient,
    journal: MemoryJournal,
    earlier_submissions: int,
    code: str,
    is_submitted: int,
) -> None:
    """Error 1304 counts as a success only if an earlier run may have submitted the session."""
    for _ in range(earlier_submissions):
        sandbox.inject(Fault.drop(), method="PATCH")
        await verify_one(veriff, job("user-42"), journal=journal)
    sandbox.inject(Fault.status(400, code=code), method="PATCH")
    found = await verify_one(veriff, job("user-42"), journal=journal, wait=False)

    assert (JobState.SUBMITTED if is_submitted else JobState.FAILED) is found.state


@pytest.mark.parametrize("status", [400, 403, 404, 409])
async def test_refused_media_list_repeats_the_uploads(
    sandbox: Sandbox, veriff: VeriffClient, journal: MemoryJournal, status: int
) -> None:
    """Veriff may refuse to list media before the submission: then they are uploaded again."""
    sandbox.inject(Fault.lose_response(), path="/v1/sessions/*/media")
    await verify_one(veriff, job("user-42"), journal=journal)
    sandbox.inject(Fault.status(status), method="GET", path="/v1/sessions/*/media")

    assert (await verify_one(veriff, job("user-42"), journal=journal)).decision is not None


async def test_error_of_a_stream_stops_only_its_job(
    sandbox: Sandbox, veriff: VeriffClient, journal: MemoryJournal
) -> None:
    """A stream that raises stops only its job, which resumes when it is passed again with a new stream."""

    async def broken() -> AsyncIterator[bytes]:
        yield PICTURE
        msg = "Ada Lovelace"
        raise OSError(msg)

    def stream() -> AsyncIterator[bytes]:
        async def whole() -> AsyncIterator[bytes]:
            yield PICTURE

        return whole()

    found = await results(
        verify_many(veriff, [Job("broken", [Media(broken(), "face")]), *jobs(2)], journal=journal, rate_limits=QUICK)
    )
    assert isinstance(found["broken"].error, BatchError)
    assert "OSError" in str(found["broken"].error)
    assert "Ada" not in repr(found["broken"].error) + repr(found["broken"].error.__context__)
    assert 2 == sum(result.decision is not None for result in found.values())
    again = await verify_one(veriff, Job("broken", [Media(stream(), "face")]), journal=journal)
    assert again.decision is not None


async def test_expired_session_gets_its_decision(journal: MemoryJournal) -> None:
    """If Veriff refuses a request because the session has expired, the job gets the decision that says so."""
    async with (
        Sandbox(clock=VirtualClock()) as sandbox,
        VeriffClient.from_env(sandbox.environ, retry=RetryPolicy(max_attempts=1)) as veriff,
    ):
        sandbox.inject(Fault.drop(), method="POST", path="/v1/sessions/*/media", times=3)
        stopped = await verify_one(veriff, job("user-42"), journal=journal)
        assert JobState.UPLOADING is stopped.state
        sandbox.advance(8 * 86_400)
        ended = await verify_one(veriff, job("user-42"), journal=journal)

    assert ended.decision is not None, ended.error
    assert ended.decision.status in {Status.EXPIRED, Status.ABANDONED}


async def test_first_refusal_is_the_failure_of_the_job(
    sandbox: Sandbox, veriff: VeriffClient, journal: MemoryJournal
) -> None:
    """If the request for the decision of a refused session also fails, the job keeps the first error."""
    sandbox.inject(Fault.status(409), method="PATCH")
    sandbox.inject(Fault.status(404), method="GET", path="*/decision")
    found = await verify_one(veriff, job("user-42"), journal=journal)

    assert isinstance(found.error, ConflictError)
    record = await journal.read("user-42")
    assert record is not None
    assert record.failure is not None
    assert ("ConflictError", JobState.SUBMITTING) == (record.failure.error_type, record.failure.state)


async def test_review_is_not_final(journal: MemoryJournal) -> None:
    """A collected job in review stays submitted until its final decision."""
    async with Sandbox() as sandbox, VeriffClient.from_env(sandbox.environ) as veriff:
        await submit_many(veriff, jobs(1), journal=journal, rate_limits=QUICK)
        sandbox.decide(sandbox.sessions[0].id, "review")
        [once] = (await results(collect_many(veriff, journal=journal, timeout=0))).values()
        assert (None, JobState.SUBMITTED) == (once.decision, once.state)
        sandbox.decide(sandbox.sessions[0].id, "approved")
        [late] = (await results(collect_many(veriff, journal=journal, timeout=0))).values()
        assert late.decision is not None


async def test_every_request_waits_for_the_rate(
    sandbox: Sandbox, veriff: VeriffClient, journal: MemoryJournal, advance_time: Callable[[float], None]
) -> None:
    """At one request per second, ten requests of two jobs take nine seconds, and two for decisions one more."""
    slow = RateLimits(initial=1.0, minimum=1.0, maximum=1.0)
    loop = asyncio.get_running_loop()

    async def in_time(work: Awaitable[object]) -> float:
        began, task = loop.time(), asyncio.ensure_future(work)
        while not task.done():
            advance_time(0.02)
            await asyncio.sleep(0)
        await task
        return loop.time() - began

    assert await in_time(submit_many(veriff, jobs(2), journal=journal, rate_limits=slow)) >= 9
    assert await in_time(results(collect_many(veriff, journal=journal, timeout=0, rate_limits=slow))) >= 1


async def test_concurrent_uploads_are_all_saved(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """A slow journal still saves the receipt of every concurrent upload."""

    class SlowJournal(MemoryJournal):
        async def write(self, record: JobRecord) -> None:
            for _ in range(20):
                await asyncio.sleep(0)
            await super().write(record)

    journal = SlowJournal()
    await verify_one(veriff, job("user-42"), journal=journal)
    record = await journal.read("user-42")

    assert record is not None
    assert () == record.missing_indexes


async def test_changed_input_is_noticed(
    sandbox: Sandbox, veriff: VeriffClient, journal: MemoryJournal, tmp_path: Path
) -> None:
    """Another picture, option or context under the id of a started job is refused, and no request is sent."""
    path = anyio.Path(tmp_path / "face.jpg")
    await path.write_bytes(PICTURE)
    before = Job("user-42", [Media(path, "face")], person=Person(first_name="Ada"))
    await verify_one(veriff, before, journal=journal)
    asked = len(sandbox.requests)

    await path.write_bytes(PICTURE[:-2] + b"..")
    changed = [
        before,
        Job("user-42", [Media(PICTURE, "face")], person=Person(first_name="Alan")),
        Job("user-42", [Media(PICTURE, "document-front")], person=Person(first_name="Ada")),
        Job("user-42", [Media(PICTURE, "face")] * 2, person=Person(first_name="Ada")),
    ]
    for one in changed:
        assert isinstance((await verify_one(veriff, one, journal=journal)).error, JobChangedError)
    assert asked == len(sandbox.requests)

    same = Job("user-42", [Media(PICTURE, "face")], person=Person(first_name="Ada"))
    assert (await verify_one(veriff, same, journal=journal)).from_journal
    await path.unlink()
    assert (await verify_one(veriff, before, journal=journal)).from_journal, "files may be deleted after their upload"


async def test_job_that_is_passed_twice_runs_once(
    sandbox: Sandbox, veriff: VeriffClient, journal: MemoryJournal
) -> None:
    """If a job runs twice at the same time, the second one gets JobClaimedError."""
    found = [result async for result in verify_many(veriff, [job("user-42")] * 2, journal=journal, rate_limits=QUICK)]

    assert 1 == sum(isinstance(result.error, JobClaimedError) for result in found)
    done = next(result for result in found if result.error is None)
    await journal.claim("user-42")
    taken = await verify_one(veriff, job("user-42"), journal=journal)
    assert isinstance(taken.error, JobClaimedError)
    assert (done.session_id, JobState.DECIDED) == (taken.session_id, taken.state)
    assert_once(sandbox, {"user-42"})


async def test_refused_key_ends_the_run(sandbox: Sandbox, journal: MemoryJournal) -> None:
    """An error that every job would meet is raised without a group, and all jobs keep their state."""
    wrong = Credentials(sandbox.credentials.api_key, "another secret")
    async with VeriffClient(wrong, base_url=sandbox.base_url) as veriff:
        with pytest.raises(AuthenticationError):
            await results(verify_many(veriff, jobs(20), journal=journal, concurrency=4, rate_limits=QUICK))

    assert set(await journal.count_by_state()) <= {JobState.NEW, JobState.CREATING}
    async with VeriffClient.from_env(sandbox.environ) as veriff:
        await submit_many(veriff, jobs(20), journal=journal, on_unknown="recreate", rate_limits=QUICK)
    assert {f"user-{number}" for number in range(20)} == {session.vendor_data for session in sandbox.sessions}
    assert 20 == len(sandbox.sessions)


@every_loop
async def test_error_that_ends_a_run_at_once_leaves_no_coroutine_behind(veriff: VeriffClient) -> None:
    """A journal that fails without waiting ends the run with its error; no other job is left half started."""
    journal = MemoryJournal()
    await journal.aclose()

    with pytest.raises(JournalError, match="closed"):
        await results(verify_many(veriff, jobs(3), journal=journal, rate_limits=QUICK))
    gc.collect()


async def test_failing_journal_ends_the_run(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """No request is sent whose state cannot be saved."""

    class FullJournal(MemoryJournal):
        async def write(self, record: JobRecord) -> None:
            msg = "It is full."
            raise JournalError(msg)

    with pytest.raises(JournalError, match=r"It is full\."):
        await results(verify_many(veriff, jobs(3), journal=FullJournal(), rate_limits=QUICK))
    assert () == sandbox.requests


async def test_poll_rate_of_a_run_replaces_that_of_the_client(sandbox: Sandbox, journal: MemoryJournal) -> None:
    """A client that polls once an hour polls for a run as often as the run says."""
    poll = PollPolicy(interval=0.01, max_interval=0.01, backoff_factor=1, max_rate=1 / 3600)
    async with VeriffClient.from_env(sandbox.environ, poll=poll) as veriff:
        found = await results(verify_many(veriff, jobs(3), journal=journal, rate_limits=QUICK, poll_rate=1000))
        await submit_many(veriff, [job("later"), job("last")], journal=journal)
        collected = await results(collect_many(veriff, journal=journal, poll_rate=1000))

        for rate in (0, float("nan"), True):
            with pytest.raises(InvalidArgumentError, match="poll_rate"):
                await results(collect_many(veriff, journal=journal, poll_rate=rate))
    assert all(result.decision is not None for result in (*found.values(), *collected.values()))
    assert (len(found), len(collected)) == (3, 2)


async def test_concurrency_and_max_waiting_bound_active_jobs(
    sandbox: Sandbox, veriff: VeriffClient, journal: MemoryJournal
) -> None:
    """No more jobs are taken than the limits allow, and none is lost while the consumer pauses."""
    taken, seen = list[str](), list[tuple[int, int]]()

    def iter_jobs() -> Iterator[Job]:
        for one in jobs(30):
            taken.append(one.id)
            yield one

    def look(progress: BatchProgress) -> None:
        seen.append((progress.running, progress.waiting))

    run = verify_many(
        veriff, iter_jobs(), journal=journal, concurrency=3, max_waiting=2, rate_limits=QUICK, progress=look
    )
    async with aclosing(run) as stream:
        await anext(stream)
        counts = await journal.count_by_state()
        while counts.get(JobState.DECIDED, 0) < 3 or counts.get(JobState.SUBMITTED, 0) < 3:
            await asyncio.sleep(0)
            counts = await journal.count_by_state()
        assert len(taken) <= 1 + 3 + 2 + 1
        rest = await results(stream)

    assert 29 == len(rest)
    assert 3 == max(open_ for open_, _ in seen)
    assert 2 == max(waiting for _, waiting in seen)


async def test_progress_adds_up(sandbox: Sandbox, veriff: VeriffClient, journal: MemoryJournal) -> None:
    """At the end every accepted job is decided, failed, unknown or stopped, and none is running or waiting."""
    sandbox.inject(Fault.status(500), method="PATCH", times=1)
    last: list[BatchProgress] = []
    await results(verify_many(veriff, jobs(5), journal=journal, rate_limits=QUICK, progress=last.append))

    done = last[-1]
    assert (5, 4, 1, 0, 0) == (done.accepted, done.decided, done.stopped, done.running, done.waiting)
    assert (4, 0) == (done.submitted, done.resumed)
    assert done.rate > 0
    assert 0 == last[0].decided, "an earlier progress does not change"
    await results(verify_many(veriff, jobs(5), journal=journal, rate_limits=QUICK, progress=last.append))
    assert (5, 4, 1) == (last[-1].decided, last[-1].resumed, last[-1].submitted)


async def test_closing_early_loses_no_session(sandbox: Sandbox, veriff: VeriffClient, journal: MemoryJournal) -> None:
    """A run that is closed early awaits its creations, so that none is unknown, and the next run resumes."""
    async with aclosing(verify_many(veriff, jobs(20), journal=journal, concurrency=8, rate_limits=QUICK)) as run:
        await anext(run)
    assert set(await journal.count_by_state()) <= {
        JobState.NEW,
        JobState.CREATED,
        JobState.UPLOADING,
        JobState.SUBMITTING,
        JobState.SUBMITTED,
        JobState.DECIDED,
    }

    await results(verify_many(veriff, jobs(20), journal=journal, rate_limits=QUICK))
    assert_once(sandbox, {f"user-{number}" for number in range(20)})


async def test_cancelled_run_creates_no_more_sessions(
    sandbox: Sandbox, veriff: VeriffClient, journal: MemoryJournal
) -> None:
    """Jobs without a session when a run is cancelled create none."""
    pace = RateLimits(initial=1.0, minimum=1.0, maximum=1.0)
    run = asyncio.ensure_future(submit_many(veriff, jobs(8), journal=journal, rate_limits=pace))
    while not sandbox.sessions:  # noqa: ASYNC110  the session is created in the sandbox
        await asyncio.sleep(0)
    run.cancel()
    await asyncio.wait([run])

    assert 1 == count_creations(sandbox)
    assert {JobState.UPLOADING: 1} == dict(await journal.count_by_state())


async def test_cancelled_run_waits_ten_seconds_for_creations(
    sandbox: Sandbox, veriff: VeriffClient, journal: MemoryJournal, advance_time: Callable[[float], None]
) -> None:
    """A creation without a response within ten seconds after the cancellation is unknown."""
    sandbox.inject(Fault.hang(), method="POST", path="/v1/sessions")
    run = asyncio.ensure_future(verify_one(veriff, job("user-42"), journal=journal))
    while veriff.statistics().requests == 0:  # noqa: ASYNC110  the request has yet to be sent
        await asyncio.sleep(0)
    run.cancel()
    await run_loop()  # the ten seconds begin when the run handles its cancellation
    advance_time(9)
    await run_loop()
    assert not run.done()
    advance_time(2)
    await asyncio.wait([run])

    assert {JobState.CREATING: 1} == dict(await journal.count_by_state())
    found = await verify_one(veriff, job("user-42"), journal=journal)
    assert isinstance(found.error, OutcomeUnknownError)


async def test_cancelled_scope_does_not_wake_the_run_that_waits_for_its_jobs(
    sandbox: Sandbox, veriff: VeriffClient, journal: MemoryJournal, advance_time: Callable[[float], None]
) -> None:
    """A cancel scope of anyio cancels a run once, and not in each turn of the loop until its jobs have ended."""
    sandbox.inject(Fault.hang(), method="POST", path="/v1/sessions")

    async def submit() -> None:
        with scope:
            await submit_many(veriff, jobs(2), journal=journal)

    scope = anyio.CancelScope()
    run = asyncio.create_task(submit())
    while veriff.statistics().requests == 0:  # noqa: ASYNC110  the request has yet to be sent
        await asyncio.sleep(0)
    scope.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    before = run.cancelling()
    for _ in range(10):
        await asyncio.sleep(0)
    after = run.cancelling()
    advance_time(11)
    await run

    assert before == after


async def test_jobs_can_be_submitted_and_collected_separately(journal: MemoryJournal) -> None:
    """`submit_many` submits, and `collect_many` collects the decisions later."""
    async with Sandbox() as sandbox, VeriffClient.from_env(sandbox.environ, poll=PollPolicy(interval=0.01)) as veriff:
        assert [] == await submit_many(veriff, jobs(4), journal=journal, rate_limits=QUICK)
        assert {JobState.SUBMITTED: 4} == dict(await journal.count_by_state())

        once = await results(collect_many(veriff, journal=journal, timeout=0))
        assert [None] * 4 == [result.decision for result in once.values()]
        sandbox.decide(sandbox.sessions[0].id, "declined")
        once = await results(collect_many(veriff, journal=journal, timeout=0))
        assert 1 == sum(result.decision is not None for result in once.values())

        late = await results(collect_many(veriff, journal=journal, timeout=0.05))
        assert 3 == sum(isinstance(result.error, DecisionTimeoutError) for result in late.values())
        for session in sandbox.sessions[1:]:
            sandbox.decide(session.id, "approved")
        rest = await results(collect_many(veriff, journal=journal))
        assert 3 == sum(result.decision is not None for result in rest.values())
    assert {JobState.DECIDED: 4} == dict(await journal.count_by_state())


async def test_job_resumes_after_its_decision_timeout(journal: MemoryJournal) -> None:
    """After the timeout of a job its result has the error, and the job stays submitted."""
    async with Sandbox() as sandbox, VeriffClient.from_env(sandbox.environ) as veriff:
        found = await verify_one(veriff, job("user-42", timeout=0.01), journal=journal)
        assert isinstance(found.error, DecisionTimeoutError)
        assert JobState.SUBMITTED is found.state
        sandbox.decide(sandbox.sessions[0].id, "approved")
        assert (await verify_one(veriff, job("user-42"), journal=journal)).decision is not None


async def test_429_halves_the_rate_and_pauses(
    sandbox: Sandbox, veriff: VeriffClient, journal: MemoryJournal, advance_time: Callable[[float], None]
) -> None:
    """After a 429 the rate is halved, and no request is sent before ``Retry-After`` has passed."""
    sandbox.inject(Fault.status(429, retry_after=30), method="POST", path="/v1/sessions", times=1)
    rates: list[float] = []
    run = verify_many(
        veriff,
        jobs(3),
        journal=journal,
        concurrency=1,
        rate_limits=RateLimits(initial=50.0),
        progress=lambda now: rates.append(now.rate),
    )
    async with aclosing(run) as stream:
        refused = await anext(stream)
        assert refused.error is not None
        while len(rates) < 4:  # noqa: ASYNC110  until the next job runs
            await asyncio.sleep(0)
        asked = len(sandbox.requests)
        for _ in range(100):
            await asyncio.sleep(0)
        assert asked == len(sandbox.requests)
        advance_time(31)
        assert (await anext(stream)).decision is not None
    assert 20 < min(rates) < 50, "one 429 halves the rate once"


async def test_batch_finds_the_rate_that_veriff_accepts(journal: MemoryJournal) -> None:
    """If Veriff accepts 40 requests per second, all jobs are decided, and few requests are refused."""
    async with (
        Sandbox(decide_after=0, options=SandboxOptions(requests_per_second=40)) as sandbox,
        VeriffClient.from_env(
            sandbox.environ, poll=PollPolicy(interval=0.01, max_interval=0.01, backoff_factor=1)
        ) as veriff,
    ):
        found = await results(verify_many(veriff, jobs(12), journal=journal, rate_limits=RateLimits(initial=20.0)))
        refused = sum(seen.status == 429 for seen in sandbox.requests)

    assert all(result.decision is not None for result in found.values())
    assert refused < len(sandbox.requests) / 3


@pytest.mark.parametrize(
    "make",
    [
        lambda: Job("", [Media(PICTURE, "face")]),
        lambda: Job("a\nb", [Media(PICTURE, "face")]),
        lambda: Job("x" * 1001, [Media(PICTURE, "face")]),
        lambda: Job("user-42", []),
        lambda: Job("user-42", ["face.jpg"]),  # type: ignore[list-item]
        lambda: Job("user-42", [Media(PICTURE, "face")], timeout=0),
        lambda: RateLimits(initial=0),
        lambda: RateLimits(initial=1, minimum=2),
    ],
)
def test_invalid_jobs_and_limits_are_refused(make: Callable[[], object]) -> None:
    """An invalid job or limit is refused by its constructor."""
    with pytest.raises((ConfigurationError, InvalidArgumentError)):
        make()


@pytest.mark.parametrize("option", [{"concurrency": 0}, {"max_waiting": 0}, {"on_unknown": "guess"}])
async def test_invalid_options_are_refused(
    veriff: VeriffClient, journal: MemoryJournal, option: dict[str, int]
) -> None:
    """The error names the invalid option."""
    with pytest.raises(InvalidArgumentError, match=next(iter(option))):
        await results(verify_many(veriff, [], journal=journal, **option))  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="must be a Job"):
        await results(verify_many(veriff, ["user-42"], journal=journal))  # type: ignore[list-item]
    with pytest.raises(InvalidArgumentError, match="timeout"):
        await results(collect_many(veriff, journal=journal, timeout=-1))


async def test_path_is_no_journal(veriff: VeriffClient) -> None:
    """The path of a journal instead of the journal is refused, with the remedy."""
    with pytest.raises(InvalidArgumentError, match="journal must be a Journal, not str"):
        await results(verify_many(veriff, [], journal="batch.db"))  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="journal must be a Journal, not str"):
        await resolve_unknown("batch.db", "user-42", session_id=None)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="journal must be a Journal, not str"):
        await plan_many([], journal="batch.db")  # type: ignore[arg-type]


async def test_journal_without_a_method_is_refused(veriff: VeriffClient) -> None:
    """A journal of the user's that lacks a method is refused before the first job, with its name."""

    class OldJournal(MemoryJournal):
        reserve = None  # type: ignore[assignment]

    with pytest.raises(InvalidArgumentError, match="not OldJournal: give it the method reserve"):
        await results(verify_many(veriff, [], journal=OldJournal()))  # type: ignore[arg-type]
