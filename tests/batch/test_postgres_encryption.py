"""A journal in PostgreSQL with encrypted records."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest
from attrs import evolve

from tests.batch.test_sqlite_encryption import NEW, OLD, RECORDS
from veriff_async import JournalError
from veriff_async.batch import PostgresJournal
from veriff_async.encryption import KeyRing

if TYPE_CHECKING:
    from tests.postgres_server import PostgresDatabase
    from veriff_async.batch import JobRecord

pytestmark = pytest.mark.anyio

# The column of ids has a digest of the long one.
SOME: Final = [*RECORDS[:4], evolve(RECORDS[4], job_id="long" * 300)]


async def write_some(journal: PostgresJournal) -> None:
    """Write some records."""
    for record in SOME:
        await journal.claim(record.job_id)
        await journal.write(record)
        await journal.release(record.job_id)


async def read_all(journal: PostgresJournal) -> list[JobRecord]:
    """Return all records."""
    return [record async for record in journal.iter_records()]


def read_texts(postgres: PostgresDatabase) -> bytes:
    """Return all records as they are stored."""
    return b"".join(text for (text,) in postgres.execute("SELECT record FROM veriff_journal_records"))


async def test_keys_of_a_journal_are_replaced(postgres: PostgresDatabase) -> None:
    """Readable records, and those of an old key, are written again with the first key, and are the same."""
    async with PostgresJournal(postgres.url) as journal:
        await write_some(journal)
        assert b"Ada" in await asyncio.to_thread(read_texts, postgres)
    for ring, written in ((KeyRing([OLD]), 5), (KeyRing([NEW, OLD]), 5), (KeyRing([NEW]), 0)):
        async with PostgresJournal(postgres.url, encryption=ring) as journal:
            assert SOME == await read_all(journal)
            assert written == await journal.reencrypt()
            assert SOME == await read_all(journal)
            assert b"Ada" not in await asyncio.to_thread(read_texts, postgres)
    async with PostgresJournal(postgres.url, encryption=KeyRing([NEW])) as journal:
        assert 1 == await journal.erase(["s3"])
        assert SOME[2] == await journal.claim("job 2")


async def test_record_without_its_key_is_an_error(postgres: PostgresDatabase) -> None:
    """A record whose key is missing is not taken for a new job, and is not changed."""
    async with PostgresJournal(postgres.url, encryption=KeyRing([OLD])) as journal:
        await write_some(journal)
    for ring in (None, KeyRing([NEW])):
        async with PostgresJournal(postgres.url, encryption=ring) as journal:
            for call in (journal.read("job 1"), journal.claim("job 1"), journal.reencrypt()):
                with pytest.raises(JournalError, match="cannot be decrypted"):
                    await call
    async with PostgresJournal(postgres.url, encryption=KeyRing([OLD])) as journal:
        assert SOME == await read_all(journal)


async def test_record_of_another_job_or_batch_is_refused(postgres: PostgresDatabase) -> None:
    """A record that another program has moved to another job, or to another batch, cannot be read."""
    ring = KeyRing([OLD])
    async with (
        PostgresJournal(postgres.url, encryption=ring) as journal,
        PostgresJournal(postgres.url, encryption=ring, batch="other") as other,
    ):
        await write_some(journal)
        move = (
            "UPDATE veriff_journal_records SET job_id = 'job 9' WHERE job_id = 'job 1';"
            " UPDATE veriff_journal_records SET batch = 'other' WHERE job_id = 'job 2'"
        )
        await asyncio.to_thread(postgres.execute, move)
        for call in (journal.read("job 9"), other.read("job 2")):
            with pytest.raises(JournalError, match="cannot be decrypted"):
                await call
        assert SOME[3] == await journal.read("job 3")
