"""Batches over taskiq: a worker that dies takes no job with it, and a message is gone when its job is done."""

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
]  # its workers are killed, and tell nothing

JOBS: Final = int(os.environ.get("VERIFF_JOBS", "48"))
ROOT: Final = Path(__file__).parent.parent.parent


@asynccontextmanager
async def working(url: str, sandbox: Sandbox) -> AsyncGenerator[None]:
    """Run three workers, each a process of its own, and the process that would start another for one that died."""
    command = (sys.executable, "-m", "taskiq", "worker", "tests.batch.worker:broker", "--workers=3")
    options = ("--max-async-tasks=4", "--log-level=ERROR")
    env = {**os.environ, **sandbox.environ, URL: url, "PYTHONPATH": str(ROOT)}

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen((*command, *options), cwd=ROOT, env=env, start_new_session=True)  # noqa: S603  our own

    process = await to_thread.run_sync(start)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # redis-py may swallow that taskiq cancels its reading, which hangs then
        await to_thread.run_sync(process.wait)


class Run:
    """One run: the broker and its stream, the journal, and the books of the sandbox."""

    def __init__(self, broker: RedisStreamBroker, tasks: BatchTasks, journal: RedisJournal, sandbox: Sandbox) -> None:
        """Take what the run is made of."""
        self.tasks = tasks
        self.journal = journal
        self.sandbox = sandbox
        self.server: Redis = Redis(connection_pool=broker.connection_pool)
        self.names = [f"user-{number}" for number in range(JOBS)]

    async def give(self, names: list[str]) -> None:
        """Give jobs to the workers."""
        for name in names:
            await self.tasks.verify.kiq(name)

    async def busy(self) -> list[int]:
        """Return the processes that have messages which are not acknowledged."""
        workers = await self.server.xinfo_consumers("taskiq", "taskiq")
        return [int(worker["name"]) for worker in workers if worker["pending"]]

    async def until(self, *states: JobState) -> None:
        """Wait until no message is left and all jobs stand at some steps; each question moves the broker, too.

        It looks for what a worker that died has left only after a message that is new.
        """
        while True:
            collecting = await self.tasks.collect.kiq()
            await collecting.wait_result(check_interval=0.02)
            counts = await self.journal.count_by_state()
            if sum(counts.get(state, 0) for state in states) == JOBS and not await self.busy():
                return


@pytest.mark.timeout(60 + JOBS)
async def test_a_worker_that_is_killed_loses_nothing(single_redis_server: RedisServer) -> None:
    """Of three workers one is killed amid its jobs: each job is decided once, and no session is without a job."""
    amid, seen = asyncio.Event(), Counter[str]()

    def count(request: ReceivedRequest) -> None:
        seen[request.method] += 1
        if seen["PATCH"] > JOBS // 4:
            amid.set()

    broker, tasks = tasks_of(single_redis_server.url)
    async with Sandbox(decide_after=0.05, on_request=count) as sandbox, journal_of(single_redis_server.url) as journal:
        await broker.startup()
        run = Run(broker, tasks, journal, sandbox)
        async with working(single_redis_server.url, sandbox):
            await run.give(run.names)
            await amid.wait()
            os.kill((await run.busy())[0], signal.SIGKILL)
            await run.until(JobState.DECIDED, JobState.UNKNOWN)
            doubtful = [record.job_id async for record in journal.iter_records(JobState.UNKNOWN)]
            for name in doubtful:  # as a person would who looks into the portal
                held = {session.vendor_data: session.id for session in sandbox.sessions}
                await resolve_unknown(journal, name, session_id=held.get(name))
            await run.give(doubtful)
            await run.until(JobState.DECIDED)
        heard = await run.server.smembers("heard")
        await run.server.aclose()
        await broker.shutdown()

    sessions = sandbox.sessions
    print(f"{JOBS} jobs, {len(doubtful)} creations in doubt, {len(sandbox.requests)} requests")  # noqa: T201
    assert dict.fromkeys(run.names, 1) == Counter(session.vendor_data for session in sessions)
    assert {(Status.APPROVED, 1)} == {(session.status, len(session.attempts)) for session in sessions}
    submitted = Counter(
        request.path for request in sandbox.requests if request.method == "PATCH" and request.status == 200
    )
    assert {1} == set(submitted.values())
    assert {name.encode() for name in run.names} == heard


class Desk(InMemoryBroker):
    """A broker with one worker in this process, which notes what is acknowledged, where anything is."""

    def __init__(self, sandbox: Sandbox, *, acknowledges: bool = True) -> None:
        """Make the tasks as a program does."""
        super().__init__(await_inplace=True)
        self.acknowledged = 0
        self.journal = MemoryJournal()
        self.clients: list[VeriffClient] = []
        self.heard: list[JobResult] = []
        self.error: Exception | None = None
        self._acknowledges = acknowledges
        self._sandbox = sandbox
        self.tasks = BatchTasks(
            self, client=self._client, journal=lambda: self.journal, load=self._load, on_result=self._hear
        )

    def _client(self) -> VeriffClient:
        self.clients.append(VeriffClient.from_env(self._sandbox.environ))
        return self.clients[-1]

    async def _load(self, job_id: str) -> Job:
        if self.error is not None:
            raise self.error
        return await load(job_id)

    async def _hear(self, result: JobResult) -> None:
        self.heard.append(result)

    async def kick(self, message: BrokerMessage) -> None:
        """Have a message done at once."""
        if self._acknowledges:
            await self.receiver.callback(AckableMessage(data=message.message, ack=self._acknowledge))
        else:
            await super().kick(message)

    async def _acknowledge(self) -> None:
        self.acknowledged += 1

    async def done(self, job_id: str, *, submitted: bool = False) -> object:
        """Return what a worker tells of a job: a result, an error, or nothing when it is left."""
        task = await (self.tasks.submit if submitted else self.tasks.verify).kiq(job_id)
        if not await task.is_ready():
            return None
        result = await task.get_result()
        return result.error or result.return_value

    async def collected(self) -> dict[str, int]:
        """Return what collecting tells."""
        return (await (await self.tasks.collect.kiq()).get_result()).return_value


@pytest.fixture
async def desk(sandbox: Sandbox) -> AsyncGenerator[Desk]:
    """Give a worker of the sandbox."""
    desk = Desk(sandbox)
    await desk.startup()
    yield desk
    await desk.shutdown()


async def test_a_message_is_acknowledged_when_its_job_is_done(desk: Desk, sandbox: Sandbox) -> None:
    """Submitting and collecting are done apart, each result says where the job stands, and nothing of the person."""
    submitted = await desk.done("a", submitted=True)
    session = sandbox.sessions[0]
    told: dict[str, str | None] = {"job_id": "a", "session_id": session.id, "state": "submitted"}
    assert {**told, "status": None, "error": None} == submitted
    assert {"submitted": 1} == await desk.collected()
    await desk.journal.claim("a")
    assert {"claimed": 1} == await desk.collected()
    await desk.journal.release("a")
    sandbox.decide(session.id, "approved")

    assert {"decided": 1} == await desk.collected()
    assert {} == await desk.collected()
    assert {**told, "state": "decided", "status": "approved", "error": None} == await desk.done("a")
    assert 6 == desk.acknowledged
    assert [None, "approved", "approved"] == [one.decision and one.decision.status for one in desk.heard]
    assert 1 == len(sandbox.sessions)


async def test_what_may_go_well_later_is_left_with_the_broker(desk: Desk, sandbox: Sandbox) -> None:
    """A claim of another worker, a refused key, or a database that is away leaves the message, without a result."""
    await desk.journal.claim("a")
    assert await desk.done("a", submitted=True) is None
    await desk.journal.release("a")
    sandbox.inject(Fault.status(401), path="/v1/sessions")
    assert await desk.done("a", submitted=True) is None
    desk.error = ConnectionResetError("the database is away")
    assert isinstance(await desk.done("a"), ConnectionResetError)
    assert 0 == desk.acknowledged
    desk.error = None

    assert "submitted" == as_told(await desk.done("a", submitted=True))["state"]
    assert 1 == desk.acknowledged


async def test_what_needs_a_person_is_told(desk: Desk, sandbox: Sandbox) -> None:
    """A job that cannot be read, or whose creation is in doubt, is a result with the error's class."""
    desk.error = ConfigurationError("no such job")
    refused = as_told(await desk.done("a"))
    desk.error = None
    sandbox.inject(Fault.lose_response(), path="/v1/sessions")
    doubtful = as_told(await desk.done("a"))

    assert ("ConfigurationError", "failed") == (refused["error"], refused["state"])
    assert ("OutcomeUnknownError", "unknown") == (doubtful["error"], doubtful["state"])
    assert 2 == desk.acknowledged


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
async def test_an_error_of_load_leaves_the_message(desk: Desk, sandbox: Sandbox, error: Exception) -> None:
    """Whatever `load` raises except ConfigurationError, the message stays and the job is done when it is delivered."""
    desk.error = error
    found = await desk.done("a", submitted=True)

    assert 0 == desk.acknowledged
    assert found is None or isinstance(found, KeyError)
    assert [] == desk.heard
    desk.error = None
    assert "submitted" == as_told(await desk.done("a", submitted=True))["state"]
    assert 1 == len(sandbox.sessions)


async def test_a_base_url_of_another_server_leaves_the_message(desk: Desk, sandbox: Sandbox) -> None:
    """An error that every job would meet is not the job's: 404 and 403 to a creation leave the message."""
    for status in (404, 403, 401):
        sandbox.inject(Fault.status(status), method="POST", path="/v1/sessions")
        assert await desk.done("a", submitted=True) is None

    assert 0 == desk.acknowledged
    assert "submitted" == as_told(await desk.done("a", submitted=True))["state"]


async def test_what_ends_a_job_is_recorded_and_reported(
    desk: Desk, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """A job that cannot be made, or whose session was deleted, is in the journal, in a result and in the log."""
    desk.error = ConfigurationError("no such job")
    await desk.done("a")
    desk.error = None
    await desk.done("b", submitted=True)
    sandbox.inject(Fault.status(404), method="GET")
    assert {"failed": 1} == await desk.collected()

    found = {
        record.job_id: record.failure.error_type
        async for record in desk.journal.iter_records(JobState.FAILED)
        if record.failure
    }
    assert {"a": "ConfigurationError", "b": "NotFoundError"} == found
    reported = [(one.job_id, type(one.error).__name__) for one in desk.heard if one.state is JobState.FAILED]
    assert [("a", "ConfigurationError"), ("b", "NotFoundError")] == reported
    assert "Job a ends as failed: ConfigurationError." in caplog.messages
    # It was never begun, so it can be given again.
    assert "submitted" == as_told(await desk.done("a", submitted=True))["state"]


async def test_a_broker_without_acknowledgement_hears_the_error(sandbox: Sandbox) -> None:
    """Where nothing can be left with the broker, the error is raised, for middlewares that try again."""
    desk = Desk(sandbox, acknowledges=False)
    with pytest.raises(ConfigurationError, match="not started"):
        await desk.tasks.verify("a")
    await desk.startup()
    assert "started" in repr(desk.tasks)
    await desk.journal.claim("a")
    assert isinstance(await desk.done("a"), JobClaimedError)
    await desk.journal.release("a")
    assert "submitted" == as_told(await desk.done("a", submitted=True))["state"]
    await desk.shutdown()

    with pytest.raises(ClientClosedError):
        await desk.clients[0].create_session()
    assert "not started" in repr(desk.tasks)


class Failing(Desk):
    """A worker whose program cannot take some results for a time."""

    def __init__(self, sandbox: Sandbox, *failing: str) -> None:
        """Fail once for each of these jobs."""
        super().__init__(sandbox)
        self._failing = set(failing)

    async def _hear(self, result: JobResult) -> None:
        if result.job_id in self._failing and result.decision is not None:
            self._failing.remove(result.job_id)
            raise ConnectionResetError
        await super()._hear(result)


async def test_a_result_that_cannot_be_taken_is_given_again(sandbox: Sandbox) -> None:
    """A failure of `on_result` while collecting loses no decision, and holds up none of the other jobs."""
    desk = Failing(sandbox, "a", "c")
    await desk.startup()
    for job_id in "abcd":
        await desk.done(job_id, submitted=True)
    for session in sandbox.sessions:
        sandbox.decide(session.id, "approved")
    desk.heard.clear()

    assert {"decided": 4} == await desk.collected()
    assert Counter("abcd") == Counter(result.job_id for result in desk.heard)
    assert all(result.decision is not None for result in desk.heard)
    assert {} == await desk.collected()
    await desk.shutdown()


async def test_a_job_with_another_id_is_refused(desk: Desk, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in `load` is recorded for the job that was asked for, and no session is created for another."""

    async def another(_job_id: str) -> Job:
        return await load("another")

    monkeypatch.setattr(desk.tasks, "_load", another)
    told = as_told(await desk.done("a"))

    assert ("a", "failed", "InvalidArgumentError") == (told["job_id"], told["state"], told["error"])
    assert [] == list(sandbox.sessions)
    assert await desk.journal.read("another") is None


def as_told(found: object) -> dict[str, str | None]:
    """Return a result that is one."""
    assert isinstance(found, dict), found
    return found


def test_a_missing_package_is_named() -> None:
    """Without taskiq, one sentence says what to install."""
    code = "import sys; sys.modules['taskiq'] = None; import veriff_async.batch.taskiq"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)  # noqa: S603  our own

    assert 'pip install "veriff-async[taskiq]"' in done.stderr
