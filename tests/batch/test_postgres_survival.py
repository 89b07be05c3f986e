"""A batch on PostgreSQL resumes after kills of its process and of the server: each job has one session.

``VERIFF_JOBS=500 VERIFF_KILLS=20`` make a long test of it; the default is a few jobs and kills.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections import Counter
from typing import TYPE_CHECKING, Final

import anyio
import pytest

from tests.batch.test_survival import REQUESTS, RequestCounter
from tests.fork_server import start_python
from veriff_async import Status, VeriffClient
from veriff_async.batch import JobState, PostgresJournal, resolve_unknown
from veriff_async.sandbox import Sandbox

if TYPE_CHECKING:
    from pathlib import Path

    from tests.postgres_server import PostgresDatabase

JOBS: Final = int(os.environ.get("VERIFF_JOBS", "6"))
KILLS: Final = int(os.environ.get("VERIFF_KILLS", "1"))
SECONDS: Final = 50.0 + JOBS
PROGRAM: Final = """
import asyncio, pathlib, sys
from veriff_async import Media, PollPolicy, VeriffClient
from veriff_async.batch import Job, PostgresJournal, RateLimits, verify_many

folder, count, url = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
CONTEXTS = ("document-front", "document-back", "face")


def jobs():
    for number in range(count):
        yield Job(f"user-{number}", [Media(folder / f"{context}.jpg", context) for context in CONTEXTS])


async def main():
    poll = PollPolicy(interval=0.02, max_interval=0.5, backoff_factor=1.5, max_rate=500)
    async with PostgresJournal(url, timeout=30) as journal, VeriffClient.from_env(poll=poll) as veriff:
        async for result in verify_many(veriff, jobs(), journal=journal, rate_limits=RateLimits(initial=300)):
            assert result.decision is not None, result


asyncio.run(main())
"""


async def resolve_unknown_jobs(url: str, sandbox: Sandbox) -> int:
    """Resolve creations without a response, as a person does who looks in the portal; return how many."""
    async with VeriffClient.from_env(sandbox.environ) as veriff:
        for _ in range(3):  # the sandbox handles the requests of the killed process before these
            await veriff.fraud_categories()
    held = {session.vendor_data: session.id for session in sandbox.sessions}
    async with PostgresJournal(url, timeout=SECONDS) as journal:
        names = [record.job_id async for record in journal.iter_records(JobState.CREATING, JobState.UNKNOWN)]
        for name in names:
            await resolve_unknown(journal, name, session_id=held.get(name))
    return len(names)


async def count_by_state(url: str) -> dict[JobState, int]:
    """Return how many jobs of the journal are in each state."""
    async with PostgresJournal(url, timeout=SECONDS) as journal:
        return dict(await journal.count_by_state())


def start_batch(folder: Path, sandbox: Sandbox, url: str) -> subprocess.Popen[bytes]:
    """Start the batch in a process of its own; a run whose server is killed may say so."""
    environ = {**os.environ, **sandbox.environ}
    return start_python("-c", PROGRAM, str(folder), str(JOBS), url, environ=environ, stderr=subprocess.DEVNULL)


@pytest.mark.usefixtures("without_coverage")
@pytest.mark.timeout(120 + 3 * JOBS + 10 * KILLS)
def test_killed_batch_and_server_resume_until_every_job_is_decided(
    tmp_path: Path, durable_postgres: PostgresDatabase
) -> None:
    """After kills of batch and server in turn, each job has one session, each picture once, and a decision."""
    for context in ("document-front", "document-back", "face"):
        (tmp_path / f"{context}.jpg").write_bytes(b"\xff\xd8\xff\xda" + os.urandom(20_000) + b"\xff\xd9")
    rng, counter, unknown = random.Random(KILLS), RequestCounter(), 0  # noqa: S311  the same moments in every run
    url = durable_postgres.url
    with Sandbox(decide_after=0, on_request=counter.on_request) as sandbox:
        for number in range(KILLS):
            counter.wait_for(rng.randrange(1, max(2, 2 * REQUESTS * JOBS // (KILLS + 1))))
            with start_batch(tmp_path, sandbox, url) as process:
                # The process may end earlier, when few requests are left.
                while not counter.reached.wait(0.05) and process.poll() is None:
                    pass
                if number % 2 == 0:
                    durable_postgres.server.restart()
                process.kill()
            # The leases of the dead process have run out.
            durable_postgres.execute("UPDATE veriff_journal_claims SET expires_at = clock_timestamp()")
            unknown += anyio.run(resolve_unknown_jobs, url, sandbox)
        with start_batch(tmp_path, sandbox, url) as process:
            assert 0 == process.wait(SECONDS)
        sessions = sandbox.sessions

    assert {f"user-{number}": 1 for number in range(JOBS)} == Counter(session.vendor_data for session in sessions)
    for session in sessions:
        assert Status.APPROVED == session.status
        assert 1 == len(session.attempts)
        assert ["document-back", "document-front", "face"] == sorted(media.context for media in session.media)
    assert [1] * JOBS == list(counter.submitted.values())
    assert anyio.run(count_by_state, url) == {JobState.DECIDED: JOBS}
    print(f"{JOBS} jobs, {KILLS} kills, {unknown} unknown creations, {counter.requests} requests")  # noqa: T201
