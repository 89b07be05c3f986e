"""A journal in Redis with encrypted records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import pytest

from tests.batch.test_sqlite_encryption import NEW, OLD, RECORDS
from tests.inbox.test_redis import client_of
from veriff_async import JournalError
from veriff_async.batch import RedisJournal
from veriff_async.encryption import KeyRing

if TYPE_CHECKING:
    from tests.servers import RedisServer
    from veriff_async.batch import JobRecord

pytestmark = pytest.mark.anyio

SOME: Final = RECORDS[:5]


@pytest.fixture
def server(single_redis_server: RedisServer) -> RedisServer:
    """Return an empty server."""
    single_redis_server.flush()
    return single_redis_server


async def write_some(journal: RedisJournal) -> None:
    """Write some records."""
    for record in SOME:
        await journal.claim(record.job_id)
        await journal.write(record)
        await journal.release(record.job_id)


async def read_all(journal: RedisJournal) -> list[JobRecord]:
    """Return all records."""
    return [record async for record in journal.iter_records()]


async def read_texts(server: RedisServer) -> bytes:
    """Return all records as they are stored."""
    async with client_of(server, decode_responses=False) as admin:
        return b"".join(cast("list[bytes]", await admin.hvals("{veriff-batch}:records")))


async def test_keys_of_a_journal_are_replaced(server: RedisServer) -> None:
    """Readable records, and those of an old key, are written again with the first key, and are the same."""
    async with RedisJournal(server.url) as journal:
        await write_some(journal)
        assert b"Ada" in await read_texts(server)
    for ring, written in ((KeyRing([OLD]), 5), (KeyRing([NEW, OLD]), 5), (KeyRing([NEW]), 0)):
        async with RedisJournal(server.url, encryption=ring) as journal:
            assert SOME == await read_all(journal)
            assert written == await journal.reencrypt()
            assert SOME == await read_all(journal)
            assert b"Ada" not in await read_texts(server)
    async with RedisJournal(server.url, encryption=KeyRing([NEW])) as journal:
        assert 1 == await journal.erase(["s3"])
        assert SOME[2] == await journal.claim("job 2")


@pytest.mark.parametrize("ring", [None, KeyRing([NEW])])
async def test_record_without_its_key_is_an_error(server: RedisServer, ring: KeyRing | None) -> None:
    """A record whose key is missing is not taken for a new job."""
    async with RedisJournal(server.url, encryption=KeyRing([OLD])) as journal:
        await write_some(journal)
    async with RedisJournal(server.url, encryption=ring) as journal:
        for call in (journal.read("job 1"), journal.claim("job 1"), journal.reencrypt(), journal.erase(["s1"])):
            with pytest.raises(JournalError, match="cannot be decrypted"):
                await call


async def test_record_of_another_job_is_refused(server: RedisServer) -> None:
    """A record that another program has moved to another job cannot be read."""
    async with RedisJournal(server.url, encryption=KeyRing([OLD])) as journal:
        await write_some(journal)
        async with client_of(server, decode_responses=False) as admin:
            text = await admin.hget("{veriff-batch}:records", "job 1")
            assert text is not None
            await admin.hset("{veriff-batch}:records", "job 2", text)
        with pytest.raises(JournalError, match="cannot be decrypted"):
            await journal.read("job 2")
        assert SOME[1] == await journal.read("job 1")
