"""A batch that is killed at any moment resumes: each job has one session, one submission and one decision.

``VERIFF_JOBS=5000 VERIFF_KILLS=20`` make a long test of it; the default is a few jobs and kills.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from threading import Event
from typing import TYPE_CHECKING, Final

import anyio
import pytest

from tests.fork_server import start_python
from veriff_async import Status, VeriffClient
from veriff_async.batch import JobState, SqliteJournal, resolve_unknown
from veriff_async.sandbox import Sandbox

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from veriff_async.sandbox import ReceivedRequest

JOBS: Final = int(os.environ.get("VERIFF_JOBS", "40"))
KILLS: Final = int(os.environ.get("VERIFF_KILLS", "4"))
REQUESTS: Final = 6
"""Minimum of requests of a job: one creation, three uploads, one submission, one for the decision."""
SECONDS: Final = 50.0 + JOBS
PROGRAM: Final = """
import asyncio, pathlib, sys
from veriff_async import Media, PollPolicy, VeriffClient
from veriff_async.batch import Job, RateLimits, SqliteJournal, verify_many

folder, count = pathlib.Path(sys.argv[1]), int(sys.argv[2])
CONTEXTS = ("document-front", "document-back", "face")


def jobs():
    for number in range(count):
        yield Job(f"user-{number}", [Media(folder / f"{context}.jpg", context) for context in CONTEXTS])


async def main():
    poll = PollPolicy(interval=0.02, max_interval=0.5, backoff_factor=1.5, max_rate=500)
    async with SqliteJournal(folder / "batch.db") as journal, VeriffClient.from_env(poll=poll) as veriff:
        async for result in verify_many(veriff, jobs(), journal=journal, rate_limits=RateLimits(initial=300)):
            assert result.decision is not None, result


asyncio.run(main())
"""


class RequestCounter:
    """Counts the requests and submissions of a sandbox, and sets an event after a number of requests."""

    def __init__(self) -> None:
        """Start at zero."""
        self.reached = Event()
        self.requests = 0
        self.submitted = Counter[str]()
        self._left = 0

    def wait_for(self, requests: int) -> None:
        """Set the event after this many more requests."""
        self.reached.clear()
        self._left = requests

    def on_request(self, request: ReceivedRequest) -> None:
        """Count a request."""
        self.requests += 1
        if request.method == "PATCH" and request.status == 200:
            self.submitted[request.path] += 1
        self._left -= 1
        if self._left == 0:
            self.reached.set()


async def resolve_unknown_jobs(path: Path, sandbox: Sandbox) -> int:
    """Resolve creations without a response, as a person does who looks in the portal; return how many."""
    async with VeriffClient.from_env(sandbox.environ) as veriff:
        for _ in range(3):  # the sandbox handles the requests of the killed process before these
            await veriff.fraud_categories()
    held = {session.vendor_data: session.id for session in sandbox.sessions}
    async with SqliteJournal(path) as journal:
        names = [record.job_id async for record in journal.iter_records(JobState.CREATING, JobState.UNKNOWN)]
        for name in names:
            await resolve_unknown(journal, name, session_id=held.get(name))
    return len(names)


@pytest.mark.usefixtures("without_coverage")
@pytest.mark.timeout(60 + 3 * JOBS)
def test_killed_batch_resumes_until_every_job_is_decided(tmp_path: Path) -> None:
    """After any number of kills, each job has one session, each picture once, and a decision."""
    for context in ("document-front", "document-back", "face"):
        (tmp_path / f"{context}.jpg").write_bytes(b"\xff\xd8\xff\xda" + os.urandom(20_000) + b"\xff\xd9")
    rng, counter, killed, unknown = random.Random(KILLS), RequestCounter(), 0, 0  # noqa: S311  the same moments in every run
    with Sandbox(decide_after=0, on_request=counter.on_request) as sandbox:
        for _ in range(KILLS):
            counter.wait_for(rng.randrange(1, max(2, 2 * REQUESTS * JOBS // (KILLS + 1))))
            with start_batch(tmp_path, sandbox) as process:
                # The process may end earlier, when few requests are left.
                while not counter.reached.wait(0.05) and process.poll() is None:
                    pass
                killed += process.poll() is None
                process.kill()
            unknown += anyio.run(resolve_unknown_jobs, tmp_path / "batch.db", sandbox)
        with start_batch(tmp_path, sandbox) as process:
            assert 0 == process.wait(SECONDS)
        sessions = sandbox.sessions

    assert {f"user-{number}": 1 for number in range(JOBS)} == Counter(session.vendor_data for session in sessions)
    for session in sessions:
        assert Status.APPROVED == session.status
        assert 1 == len(session.attempts)
        assert ["document-back", "document-front", "face"] == sorted(media.context for media in session.media)
    assert [1] * JOBS == list(counter.submitted.values())
    assert anyio.run(count_by_state, tmp_path / "batch.db") == {JobState.DECIDED: JOBS}
    print(f"{JOBS} jobs, {killed} kills, {unknown} unknown creations, {counter.requests} requests")  # noqa: T201


async def count_by_state(path: Path) -> dict[JobState, int]:
    """Return how many jobs of the journal are in each state."""
    async with SqliteJournal(path) as journal:
        return dict(await journal.count_by_state())


def start_batch(folder: Path, sandbox: Sandbox) -> subprocess.Popen[bytes]:
    """Start the batch in a process of its own."""
    return start_python("-c", PROGRAM, str(folder), str(JOBS), environ={**os.environ, **sandbox.environ})
