"""A batch that is killed at whatever moment is gone on with: each job is decided once, on Veriff's own books.

``VERIFF_JOBS=5000 VERIFF_KILLS=20`` does it at length; without them a few jobs and kills.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from threading import Event
from typing import TYPE_CHECKING, Final

import anyio
import pytest

from veriff_async import Status, VeriffClient
from veriff_async.batch import JobState, SqliteJournal, resolve_unknown
from veriff_async.sandbox import Sandbox

if TYPE_CHECKING:
    from pathlib import Path

    from veriff_async.sandbox import ReceivedRequest

JOBS: Final = int(os.environ.get("VERIFF_JOBS", "40"))
KILLS: Final = int(os.environ.get("VERIFF_KILLS", "4"))
REQUESTS: Final = 6
"""Requests of a job at least: one creation, three uploads, one submission, one question."""
SECONDS: Final = 50.0 + JOBS
RUNNING: Final = """
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


class Books:
    """Counts the requests and submissions of a sandbox, and says when there were so many requests."""

    def __init__(self) -> None:
        """Count nothing yet."""
        self.reached = Event()
        self.requests = 0
        self.submitted = Counter[str]()
        self._left = 0

    def wait_for(self, requests: int) -> None:
        """Say when so many more requests have come."""
        self.reached.clear()
        self._left = requests

    def seen(self, request: ReceivedRequest) -> None:
        """Count."""
        self.requests += 1
        if request.method == "PATCH" and request.status == 200:
            self.submitted[request.path] += 1
        self._left -= 1
        if self._left == 0:
            self.reached.set()


async def settle_what_is_in_doubt(path: Path, sandbox: Sandbox) -> int:
    """Settle creations whose answer was lost, as a person would who looks into the portal; return how many."""
    async with VeriffClient.from_env(sandbox.environ) as veriff:
        for _ in range(3):  # what the dead process had sent is read, and answered, before these are
            await veriff.fraud_categories()
    held = {session.vendor_data: session.id for session in sandbox.sessions}
    async with SqliteJournal(path) as journal:
        names = [record.job_id async for record in journal.iter_records(JobState.CREATING, JobState.UNKNOWN)]
        for name in names:
            await resolve_unknown(journal, name, session_id=held.get(name))
    return len(names)


@pytest.mark.usefixtures("without_coverage")
@pytest.mark.timeout(60 + 3 * JOBS)
def test_a_batch_survives_being_killed(tmp_path: Path) -> None:
    """However often it is killed, each job has one session, each picture once, a decision, and nothing is over."""
    for context in ("document-front", "document-back", "face"):
        (tmp_path / f"{context}.jpg").write_bytes(b"\xff\xd8\xff\xda" + os.urandom(20_000) + b"\xff\xd9")
    rng, books, killed, doubtful = random.Random(KILLS), Books(), 0, 0  # noqa: S311  the same moments in every run
    with Sandbox(decide_after=0, on_request=books.seen) as sandbox:
        for _ in range(KILLS):
            books.wait_for(rng.randrange(1, 2 * REQUESTS * JOBS // (KILLS + 1)))
            with started(tmp_path, sandbox) as process:
                # It may end before that, when there is little left to do.
                while not books.reached.wait(0.05) and process.poll() is None:
                    pass
                killed += process.poll() is None
                process.kill()
            doubtful += anyio.run(settle_what_is_in_doubt, tmp_path / "batch.db", sandbox)
        with started(tmp_path, sandbox) as process:
            assert 0 == process.wait(SECONDS)
        sessions = sandbox.sessions

    assert {f"user-{number}": 1 for number in range(JOBS)} == Counter(session.vendor_data for session in sessions)
    for session in sessions:
        assert Status.APPROVED == session.status
        assert 1 == len(session.attempts)
        assert ["document-back", "document-front", "face"] == sorted(media.context for media in session.media)
    assert [1] * JOBS == list(books.submitted.values())
    assert anyio.run(count_by_state, tmp_path / "batch.db") == {JobState.DECIDED: JOBS}
    print(f"{JOBS} jobs, {killed} kills, {doubtful} creations in doubt, {books.requests} requests")  # noqa: T201


async def count_by_state(path: Path) -> dict[JobState, int]:
    """Return what the journal counts."""
    async with SqliteJournal(path) as journal:
        return dict(await journal.count_by_state())


def started(folder: Path, sandbox: Sandbox) -> subprocess.Popen[bytes]:
    """Start the batch in a process of its own."""
    command = [sys.executable, "-c", RUNNING, str(folder), str(JOBS)]
    return subprocess.Popen(command, env={**os.environ, **sandbox.environ})  # noqa: S603  our own script
