"""Records that another program has damaged on a server: they hide no others, and are reported at the end."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from tests.inbox.test_redis import client_of
from veriff_async import JournalError
from veriff_async.batch import JobRecord, JobState, PostgresJournal, RedisJournal

if TYPE_CHECKING:
    from tests.postgres_server import PostgresDatabase
    from tests.servers import RedisServer

pytestmark = pytest.mark.anyio


async def fill(journal: RedisJournal | PostgresJournal) -> None:
    """Write two records."""
    for job_id in ("damaged", "good"):
        await journal.claim(job_id)
        await journal.write(JobRecord(job_id=job_id, state=JobState.NEW, options_digest="ab", media=()))
        await journal.release(job_id)


async def check(journal: RedisJournal | PostgresJournal) -> None:
    """Check that an iteration yields one record, and then reports that the other was left out."""
    async with aclosing(journal.iter_records()) as records:
        assert "good" == (await anext(records)).job_id
        with pytest.raises(JournalError, match="1 of the records could not be read"):
            await anext(records)
    with pytest.raises(JournalError, match="look for a newer"):
        await journal.read("damaged")


async def test_damaged_record_in_redis_hides_no_other(redis_server: RedisServer) -> None:
    """An iteration on Redis and Valkey yields all records that can be read, and fails at the end."""
    async with RedisJournal(redis_server.url) as journal, client_of(redis_server) as admin:
        await fill(journal)
        await admin.hset("{veriff-batch}:records", "damaged", "theirs")
        await check(journal)


async def test_damaged_record_in_postgresql_hides_no_other(postgres: PostgresDatabase) -> None:
    """The same on PostgreSQL."""
    async with PostgresJournal(postgres.url) as journal:
        await fill(journal)
        statement = "UPDATE veriff_journal_records SET record = 'theirs' WHERE job_id = 'damaged'"
        await asyncio.to_thread(postgres.execute, statement)
        await check(journal)
