"""The program of a worker in the tests: ``python -m taskiq worker tests.batch.worker:broker``."""

from __future__ import annotations

import os
from inspect import signature
from typing import TYPE_CHECKING, Any, Final

from redis.asyncio import Redis
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from veriff_async import Media, PollPolicy, VeriffClient
from veriff_async.batch import Job, RedisJournal
from veriff_async.batch.taskiq import BatchTasks

if TYPE_CHECKING:
    from taskiq import AsyncBroker

    from veriff_async.batch import JobResult

URL: Final = "VERIFF_TEST_REDIS"
IDLE: Final = 600
"""Milliseconds after which another worker gets the message of a worker that died."""

PICTURE: Final = b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(20_000)


def journal_of(url: str) -> RedisJournal:
    """Return a journal whose leases end soon."""
    return RedisJournal(url, lease=0.4)


async def load(job_id: str) -> Job:
    """Return a job, which needs nothing but its id."""
    media = [Media(PICTURE, context, filename=f"{context}.jpg") for context in ("document-front", "face")]
    return Job(job_id, media, timeout=30)


def tasks_of(url: str) -> tuple[RedisStreamBroker, BatchTasks]:
    """Return a broker on a server, and its tasks."""
    # Newer versions of redis-py would read their own version, which they send to the server, from the disk.
    options: dict[str, Any] = {"driver_info": None} if "driver_info" in signature(Redis).parameters else {}
    broker = RedisStreamBroker(
        url, consumer_name=str(os.getpid()), idle_timeout=IDLE, xread_block=100, xread_count=4, **options
    ).with_result_backend(RedisAsyncResultBackend(url, result_ex_time=600, **options))
    assert isinstance(broker, RedisStreamBroker)

    async def report(result: JobResult) -> None:
        async with Redis.from_url(url, **options) as server:
            await server.sadd("heard", result.job_id)

    poll = PollPolicy(interval=0.02, max_interval=0.2, backoff_factor=1.5, max_rate=500)
    tasks = BatchTasks(
        broker,
        client=lambda: VeriffClient.from_env(poll=poll),
        journal=lambda: journal_of(url),
        load=load,
        on_result=report,
    )
    return broker, tasks


def broker() -> AsyncBroker:
    """Return the broker of a worker."""
    return tasks_of(os.environ[URL])[0]
