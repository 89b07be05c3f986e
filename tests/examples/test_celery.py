"""The example for Celery, with a real worker and broker: each job has one session, and each decision is saved once."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest
from anyio import to_thread
from redis import Redis

from tests.conditions import until_in_thread
from tests.examples.conftest import EXAMPLES, SECONDS, free_port, wait_for_port
from tests.examples.web import JPEG, UVICORN, WEBHOOKS
from veriff_async.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from pathlib import Path

    from tests.servers import RedisServer

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(150), pytest.mark.usefixtures("without_coverage")]

CELERY: Final = ("-m", "celery", "-A", "celery_app", "worker", "--concurrency=2", "--loglevel=info")
OPTIONS: Final = ("--without-gossip", "--without-mingle", "--without-heartbeat")


@pytest.fixture
def environ(sandbox: Sandbox, single_redis_server: RedisServer, tmp_path: Path) -> Mapping[str, str]:
    """Return the settings of the example, with pictures of three people."""
    for job_id in ("user-1", "user-2", "user-3"):
        (tmp_path / job_id).mkdir()
        for name in ("front.jpg", "face.jpg"):
            (tmp_path / job_id / name).write_bytes(JPEG)
    single_redis_server.flush()
    return {
        **os.environ,
        **sandbox.environ,
        "REDIS_URL": single_redis_server.url,
        "PICTURES": str(tmp_path),
        "PYTHONDONTWRITEBYTECODE": "",
    }


@pytest.fixture
def store(single_redis_server: RedisServer) -> Iterator[Redis]:
    """Return a client of the server, for threads, with a connection: opening one reads files."""
    with Redis.from_url(single_redis_server.url, decode_responses=True) as store:
        store.ping()
        yield store


@asynccontextmanager
async def run(environ: Mapping[str, str], *arguments: str) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Run a program of Python; end it with SIGTERM if it still runs, which it must survive until its work is done."""
    process = await to_thread.run_sync(
        lambda: subprocess.Popen([sys.executable, *arguments], cwd=EXAMPLES, env=environ)  # noqa: S603
    )
    try:
        yield process
        process.terminate()
        assert await to_thread.run_sync(process.wait, SECONDS) in {0, -15}
    finally:
        process.kill()
        process.wait()


async def until(is_reached: Callable[[], bool]) -> None:
    """Return when a state is reached that other processes bring about; called in a thread."""
    await to_thread.run_sync(until_in_thread, is_reached, SECONDS)


async def send_jobs(environ: Mapping[str, str], *job_ids: str) -> None:
    """Send tasks, as the program that has the pictures does."""
    async with run(environ, "celery_app.py", *job_ids) as process:
        assert 0 == await to_thread.run_sync(process.wait, SECONDS)


async def test_jobs_are_submitted_and_decisions_saved_once(
    sandbox: Sandbox, environ: Mapping[str, str], store: Redis
) -> None:
    """A repeated message creates no second session, an unknown creation is not repeated, and decisions are saved once.

    A worker that is stopped completes its tasks first, and one that is started later saves the decisions.
    """

    def count_creations() -> int:
        return sum((seen.method, seen.path) == ("POST", "/v1/sessions") for seen in sandbox.requests)

    def are_submitted() -> bool:
        return 2 == sum(str(session.status) == "submitted" for session in sandbox.sessions)

    sandbox.inject(Fault.lose_response(), method="POST", path="/v1/sessions")  # of user-1: created, but unanswered
    async with run(environ, *CELERY, *OPTIONS):
        await send_jobs(environ, "user-1")
        await until(lambda: count_creations() == 1)
        await send_jobs(environ, "user-2", "user-1", "user-3", "user-2", "missing")
        await until(are_submitted)
    assert 3 == count_creations()
    assert ["user-1", "user-2", "user-3"] == sorted(str(session.vendor_data) for session in sandbox.sessions)

    port = free_port()
    web = [part.format(port=port) for part in UVICORN]
    async with run(environ, *web, "--factory", "celery_app:create_webhooks") as server:
        await wait_for_port(port, server)
        sandbox.webhook_url = f"http://127.0.0.1:{port}{WEBHOOKS}"
        submitted = [session.id for session in sandbox.sessions if session.vendor_data != "user-1"]
        for session_id in submitted:
            sandbox.decide(session_id, "approved")
            sandbox.resend(session_id)  # Veriff repeats webhooks
        await sandbox.wait_idle()
        async with run(environ, *CELERY, *OPTIONS):  # the tasks have waited for it in the broker
            await until(lambda: store.hlen("decisions") == 2)
        decisions = await to_thread.run_sync(store.hgetall, "decisions")
    assert sorted(submitted) == sorted(str(key).split("/")[0] for key in decisions)
    assert {"approved"} == set(decisions.values())
