"""Batches on taskiq: a worker that dies loses no job, and a message is acknowledged after its job has ended."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from anyio import to_thread
from redis.asyncio import Redis
from taskiq import InMemoryBroker
from taskiq.acks import AckableMessage

from tests.batch.worker import URL, journal_of, load, tasks_of
from tests.conditions import needs_posix
from veriff_async import (
    BadRequestError,
    ClientClosedError,
    ConfigurationError,
    JobClaimedError,
    JobFailedError,
    MediaError,
    NotFoundError,
    Status,
    VeriffClient,
)
from veriff_async.batch import JobState, MemoryJournal, resolve_unknown
from veriff_async.batch.taskiq import BatchTasks
from veriff_async.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from taskiq.message import BrokerMessage
    from taskiq_redis import RedisStreamBroker

    from tests.servers import RedisServer
    from veriff_async.batch import Job, JobResult, RedisJournal
    from veriff_async.sandbox import ReceivedRequest

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.usefixtures("without_coverage"),
]  # killed workers report no coverage

JOBS: Final = int(os.environ.get("VERIFF_JOBS", "48"))
ROOT: Final = Path(__file__).parent.parent.parent


@asynccontextmanager
async def run_workers(url: str, sandbox: Sandbox) -> AsyncGenerator[None]:
    """Run three worker processes, and the process that replaces one that died."""
    command = (sys.executable, "-m", "taskiq", "worker", "tests.batch.worker:broker", "--workers=3")
    options = ("--max-async-tasks=4", "--log-level=ERROR")
    env = {**os.environ, **sandbox.environ, URL: url, "PYTHONPATH": str(ROOT)}

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen((*command, *options), cwd=ROOT, env=env, start_new_session=True)  # noqa: S603  our own

    process = await to_thread.run_sync(start)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # redis-py may swallow the cancellation by taskiq, which then hangs
        await to_thread.run_sync(process.wait)


class Run:
    """One run: the broker and its stream, the journal, and the sandbox."""

    def __init__(self, broker: RedisStreamBroker, tasks: BatchTasks, journal: RedisJournal, sandbox: Sandbox) -> None:
        """Keep the parts of the run."""
        self.tasks = tasks
        self.journal = journal
        self.sandbox = sandbox
        self.server: Redis = Redis(connection_pool=broker.connection_pool)
        self.names = [f"user-{number}" for number in range(JOBS)]

    async def send(self, names: list[str]) -> None:
        """Send jobs to the workers."""
        for name in names:
            await self.tasks.verify.kiq(name)

    async def busy_workers(self) -> list[int]:
        """Return the processes that have unacknowledged messages."""
        workers = await self.server.xinfo_consumers("taskiq", "taskiq")
        return [int(worker["name"]) for worker in workers if worker["pending"]]

    async def wait_until(self, *states: JobState) -> None:
        """Wait until all messages are acknowledged and all jobs are in these states.

        Each `collect` is also the new message after which the broker looks for messages of a worker that died.
        """
        while True:
            collecting = await self.tasks.collect.kiq()
            await collecting.wait_result(check_interval=0.02)
            counts = await self.journal.count_by_state()
            if sum(counts.get(state, 0) for state in states) == JOBS and not await self.busy_workers():
                return


@needs_posix
@pytest.mark.timeout(60 + JOBS)
async def test_killed_worker_loses_no_job(single_redis_server: RedisServer) -> None:
    """Of three workers one is killed during its jobs: each job is decided once, with one session."""
    is_midway, seen = asyncio.Event(), Counter[str]()

    def count(request: ReceivedRequest) -> None:
        seen[request.method] += 1
        if seen["PATCH"] > JOBS // 4:
            is_midway.set()

    broker, tasks = tasks_of(single_redis_server.url)
    async with Sandbox(decide_after=0.05, on_request=count) as sandbox, journal_of(single_redis_server.url) as journal:
        await broker.startup()
        run = Run(broker, tasks, journal, sandbox)
        async with run_workers(single_redis_server.url, sandbox):
            await run.send(run.names)
            await is_midway.wait()
            os.kill((await run.busy_workers())[0], signal.SIGKILL)
            await run.wait_until(JobState.DECIDED, JobState.UNKNOWN)
            unknown = [record.job_id async for record in journal.iter_records(JobState.UNKNOWN)]
            for name in unknown:  # as a person does who looks in the portal
                held = {session.vendor_data: session.id for session in sandbox.sessions}
                await resolve_unknown(journal, name, session_id=held.get(name))
            await run.send(unknown)
            await run.wait_until(JobState.DECIDED)
        reported = await run.server.smembers("heard")
        await run.server.aclose()
        await broker.shutdown()

    sessions = sandbox.sessions
    print(f"{JOBS} jobs, {len(unknown)} unknown creations, {len(sandbox.requests)} requests")  # noqa: T201
    assert dict.fromkeys(run.names, 1) == Counter(session.vendor_data for session in sessions)
    assert {(Status.APPROVED, 1)} == {(session.status, len(session.attempts)) for session in sessions}
    submitted = Counter(
        request.path for request in sandbox.requests if request.method == "PATCH" and request.status == 200
    )
    assert {1} == set(submitted.values())
    assert {name.encode() for name in run.names} == reported


class InProcessWorker(InMemoryBroker):
    """A broker with one worker in this process, which counts acknowledgements."""

    def __init__(self, sandbox: Sandbox, *, acknowledges: bool = True, max_sessions: int | None = None) -> None:
        """Register the tasks as a program does."""
        super().__init__(await_inplace=True)
        self.acknowledged = 0
        self.journal = MemoryJournal()
        self.clients: list[VeriffClient] = []
        self.results: list[JobResult] = []
        self.error: Exception | None = None
        self._acknowledges = acknowledges
        self._sandbox = sandbox
        self.tasks = BatchTasks(
            self,
            client=self._client,
            journal=lambda: self.journal,
            load=self._load,
            on_result=self._on_result,
            max_sessions=max_sessions,
        )

    def _client(self) -> VeriffClient:
        self.clients.append(VeriffClient.from_env(self._sandbox.environ))
        return self.clients[-1]

    async def _load(self, job_id: str) -> Job:
        if self.error is not None:
            raise self.error
        return await load(job_id)

    async def _on_result(self, result: JobResult) -> None:
        self.results.append(result)

    async def kick(self, message: BrokerMessage) -> None:
        """Run the task of a message immediately."""
        if self._acknowledges:
            await self.receiver.callback(AckableMessage(data=message.message, ack=self._acknowledge))
        else:
            await super().kick(message)

    async def _acknowledge(self) -> None:
        self.acknowledged += 1

    async def run_job(self, job_id: str, *, submitted: bool = False) -> object:
        """Return the result or error of a job, or ``None`` if its message was not acknowledged."""
        task = await (self.tasks.submit if submitted else self.tasks.verify).kiq(job_id)
        if not await task.is_ready():
            return None
        result = await task.get_result()
        return result.error or result.return_value

    async def collect(self) -> dict[str, int]:
        """Return the result of `collect`."""
        return (await (await self.tasks.collect.kiq()).get_result()).return_value


@pytest.fixture
async def worker(sandbox: Sandbox) -> AsyncGenerator[InProcessWorker]:
    """Start a worker that uses the sandbox."""
    worker = InProcessWorker(sandbox)
    await worker.startup()
    yield worker
    await worker.shutdown()


async def test_message_is_acknowledged_after_its_job(worker: InProcessWorker, sandbox: Sandbox) -> None:
    """Each task returns the state of its job without personal data, and acknowledges its message."""
    submitted = await worker.run_job("a", submitted=True)
    session = sandbox.sessions[0]
    summary: dict[str, str | None] = {"job_id": "a", "session_id": session.id, "state": "submitted"}
    assert {**summary, "status": None, "error": None} == submitted
    assert {"submitted": 1} == await worker.collect()
    await worker.journal.claim("a")
    assert {"claimed": 1} == await worker.collect()
    await worker.journal.release("a")
    sandbox.decide(session.id, "approved")

    assert {"decided": 1} == await worker.collect()
    assert {} == await worker.collect()
    assert {**summary, "state": "decided", "status": "approved", "error": None} == await worker.run_job("a")
    assert 6 == worker.acknowledged
    assert [None, "approved", "approved"] == [one.decision and one.decision.status for one in worker.results]
    assert 1 == len(sandbox.sessions)


async def test_transient_error_leaves_the_message(worker: InProcessWorker, sandbox: Sandbox) -> None:
    """After a claim of another worker, a refused key or an error of `load` the message stays."""
    await worker.journal.claim("a")
    assert await worker.run_job("a", submitted=True) is None
    await worker.journal.release("a")
    sandbox.inject(Fault.status(401), path="/v1/sessions")
    assert await worker.run_job("a", submitted=True) is None
    worker.error = ConnectionResetError("the database is away")
    assert isinstance(await worker.run_job("a"), ConnectionResetError)
    assert 0 == worker.acknowledged
    worker.error = None

    assert "submitted" == as_summary(await worker.run_job("a", submitted=True))["state"]
    assert 1 == worker.acknowledged


async def test_spent_budget_leaves_the_message(sandbox: Sandbox) -> None:
    """A job without a session stays with the broker; one that has a session is delivered again and continues."""
    worker = InProcessWorker(sandbox, max_sessions=1)
    await worker.startup()
    await worker.run_job("a", submitted=True)
    left = await worker.run_job("b", submitted=True)
    again = as_summary(await worker.run_job("a", submitted=True))
    await worker.shutdown()

    assert (left, again["state"], worker.acknowledged, len(sandbox.sessions)) == (None, "submitted", 2, 1)


async def test_job_that_needs_a_person_has_a_result(worker: InProcessWorker, sandbox: Sandbox) -> None:
    """The result of a job that cannot be loaded, or whose creation is unknown, names the error class."""
    worker.error = ConfigurationError("no such job")
    refused = as_summary(await worker.run_job("a"))
    worker.error = None
    sandbox.inject(Fault.lose_response(), path="/v1/sessions")
    unknown = as_summary(await worker.run_job("a"))

    assert ("ConfigurationError", "failed") == (refused["error"], refused["state"])
    assert ("OutcomeUnknownError", "unknown") == (unknown["error"], unknown["state"])
    assert 2 == worker.acknowledged


@pytest.mark.parametrize(
    "error",
    [
        NotFoundError("of an API of your own", status=404),
        BadRequestError("of an API of your own", status=400),
        MediaError("it is not there yet"),
        JobFailedError("in another batch", error_type="MediaError"),
        KeyError("user-42"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_error_of_load_leaves_the_message(worker: InProcessWorker, sandbox: Sandbox, error: Exception) -> None:
    """After any error of `load` except ConfigurationError the message stays, and its next delivery runs the job."""
    worker.error = error
    found = await worker.run_job("a", submitted=True)

    assert 0 == worker.acknowledged
    assert found is None or isinstance(found, KeyError)
    assert [] == worker.results
    worker.error = None
    assert "submitted" == as_summary(await worker.run_job("a", submitted=True))["state"]
    assert 1 == len(sandbox.sessions)


async def test_wrong_base_url_leaves_the_message(worker: InProcessWorker, sandbox: Sandbox) -> None:
    """401, 403 and 404 to a creation concern every job, so they leave the message."""
    for status in (404, 403, 401):
        sandbox.inject(Fault.status(status), method="POST", path="/v1/sessions")
        assert await worker.run_job("a", submitted=True) is None

    assert 0 == worker.acknowledged
    assert "submitted" == as_summary(await worker.run_job("a", submitted=True))["state"]


async def test_permanent_failure_is_saved_and_reported(
    worker: InProcessWorker, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """A job that cannot be loaded, or whose session was deleted, is in the journal, in a result and in the log."""
    worker.error = ConfigurationError("no such job")
    await worker.run_job("a")
    worker.error = None
    await worker.run_job("b", submitted=True)
    sandbox.inject(Fault.status(404), method="GET")
    assert {"failed": 1} == await worker.collect()

    found = {
        record.job_id: record.failure.error_type
        async for record in worker.journal.iter_records(JobState.FAILED)
        if record.failure
    }
    assert {"a": "ConfigurationError", "b": "NotFoundError"} == found
    reported = [(one.job_id, type(one.error).__name__) for one in worker.results if one.state is JobState.FAILED]
    assert [("a", "ConfigurationError"), ("b", "NotFoundError")] == reported
    assert "Job a ends as failed: ConfigurationError." in caplog.messages
    # It has no session, so it may start again.
    assert "submitted" == as_summary(await worker.run_job("a", submitted=True))["state"]


async def test_error_is_raised_without_acknowledgements(sandbox: Sandbox) -> None:
    """With a broker without acknowledgements the error is raised, for retry middlewares."""
    worker = InProcessWorker(sandbox, acknowledges=False)
    with pytest.raises(ConfigurationError, match="not started"):
        await worker.tasks.verify("a")
    await worker.startup()
    assert "started" in repr(worker.tasks)
    await worker.journal.claim("a")
    assert isinstance(await worker.run_job("a"), JobClaimedError)
    await worker.journal.release("a")
    assert "submitted" == as_summary(await worker.run_job("a", submitted=True))["state"]
    await worker.shutdown()

    with pytest.raises(ClientClosedError):
        await worker.clients[0].create_session()
    assert "not started" in repr(worker.tasks)


class FailingWorker(InProcessWorker):
    """A worker whose `on_result` fails once for some jobs."""

    def __init__(self, sandbox: Sandbox, *failing: str) -> None:
        """Fail once for each of these jobs."""
        super().__init__(sandbox)
        self._failing = set(failing)

    async def _on_result(self, result: JobResult) -> None:
        if result.job_id in self._failing and result.decision is not None:
            self._failing.remove(result.job_id)
            raise ConnectionResetError
        await super()._on_result(result)


async def test_failed_on_result_is_called_again(sandbox: Sandbox) -> None:
    """If `on_result` fails while collecting, it is called again, and the other jobs continue."""
    worker = FailingWorker(sandbox, "a", "c")
    await worker.startup()
    for job_id in "abcd":
        await worker.run_job(job_id, submitted=True)
    for session in sandbox.sessions:
        sandbox.decide(session.id, "approved")
    worker.results.clear()

    assert {"decided": 4} == await worker.collect()
    assert Counter("abcd") == Counter(result.job_id for result in worker.results)
    assert all(result.decision is not None for result in worker.results)
    assert {} == await worker.collect()
    await worker.shutdown()


async def test_job_with_another_id_is_refused(
    worker: InProcessWorker, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If `load` returns a job with another id, the requested job fails, and no session is created."""

    async def another(_job_id: str) -> Job:
        return await load("another")

    monkeypatch.setattr(worker.tasks, "_load", another)
    summary = as_summary(await worker.run_job("a"))

    assert ("a", "failed", "InvalidArgumentError") == (summary["job_id"], summary["state"], summary["error"])
    assert [] == list(sandbox.sessions)
    assert await worker.journal.read("another") is None


def as_summary(found: object) -> dict[str, str | None]:
    """Check that a result is a summary, and return it."""
    assert isinstance(found, dict), found
    return found


def test_missing_taskiq_names_the_extra() -> None:
    """Without taskiq, the error names the extra to install."""
    code = "import sys; sys.modules['taskiq'] = None; import veriff_async.batch.taskiq"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)  # noqa: S603  our own

    assert 'pip install "veriff-async[taskiq]"' in done.stderr
