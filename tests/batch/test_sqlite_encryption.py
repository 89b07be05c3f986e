"""A journal in a SQLite file with encrypted records."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final

import pytest
from attrs import evolve

from veriff_async import JournalError
from veriff_async.batch import JobRecord, JobState, SqliteJournal
from veriff_async.encryption import KeyRing

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

OLD: Final = KeyRing.generate_key()
NEW: Final = KeyRing.generate_key()
RECORDS: Final = [
    JobRecord(
        job_id=f"job {number}", state=JobState.CREATED, options_digest="Ada-Lovelace", media=(), session_id=f"s{number}"
    )
    for number in range(20)
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the journal, in a folder of its own."""
    return tmp_path / "batch.db"


async def write_all(journal: SqliteJournal) -> None:
    """Write all records."""
    for record in RECORDS:
        await journal.claim(record.job_id)
        await journal.write(record)
        await journal.release(record.job_id)


async def read_all(journal: SqliteJournal) -> list[JobRecord]:
    """Return all records."""
    return [record async for record in journal.iter_records()]


def content(path: Path) -> bytes:
    """Return the bytes of all files of the journal."""
    return b"".join(file.read_bytes() for file in path.parent.iterdir())


async def test_no_record_is_readable_in_an_encrypted_file(path: Path) -> None:
    """The files show nothing of a record, which is found by its job and its session."""
    async with SqliteJournal(path, encryption=KeyRing([OLD])) as journal:
        await write_all(journal)
        assert b"Ada" not in await asyncio.to_thread(content, path)
        assert RECORDS == await read_all(journal)
        assert RECORDS[3] == await journal.read("job 3")
        assert 1 == await journal.erase(["s3"])
        assert await journal.read("job 3") is None
        changed = evolve(RECORDS[4], state=JobState.SUBMITTED)
        assert RECORDS[4] == await journal.claim("job 4")
        await journal.write(changed)
        assert changed == await journal.read("job 4")


async def test_keys_of_a_journal_are_replaced(path: Path) -> None:
    """Readable records, and those of an old key, are written again with the first key, and are the same."""
    async with SqliteJournal(path) as journal:
        await write_all(journal)
    for ring, written in ((KeyRing([OLD]), 20), (KeyRing([NEW, OLD]), 20), (KeyRing([NEW]), 0)):
        async with SqliteJournal(path, encryption=ring) as journal:
            assert RECORDS == await read_all(journal)
            assert written == await journal.reencrypt()
            assert RECORDS == await read_all(journal)
            assert b"Ada" not in await asyncio.to_thread(content, path)


@pytest.mark.parametrize("ring", [None, KeyRing([NEW])])
async def test_record_without_its_key_is_an_error(path: Path, ring: KeyRing | None) -> None:
    """A record whose key is missing is not taken for a new job."""
    async with SqliteJournal(path, encryption=KeyRing([OLD])) as journal:
        await write_all(journal)
    async with SqliteJournal(path, encryption=ring) as journal:
        for call in (journal.read("job 1"), journal.claim("job 1"), journal.reencrypt(), journal.erase(["s1"])):
            with pytest.raises(JournalError, match="cannot be decrypted"):
                await call


async def test_record_of_another_job_is_refused(path: Path) -> None:
    """A record that another program has moved to another job cannot be read."""
    async with SqliteJournal(path, encryption=KeyRing([OLD])) as journal:
        await write_all(journal)

        def move() -> None:
            with closing(sqlite3.connect(path)) as db, db:
                db.execute("UPDATE job SET record = (SELECT record FROM job WHERE id = 'job 1') WHERE id = 'job 2'")

        await asyncio.to_thread(move)
        with pytest.raises(JournalError, match="cannot be decrypted"):
            await journal.read("job 2")
        assert RECORDS[1] == await journal.read("job 1")


async def test_reencryption_that_fails_changes_nothing_and_can_be_repeated(path: Path) -> None:
    """A refused write undoes its portion; the journal stays usable, and a later call writes every record again."""

    def alter(statement: str) -> None:
        with closing(sqlite3.connect(path)) as db, db:
            db.execute(statement)

    async with SqliteJournal(path) as journal:
        for record in RECORDS[:3]:
            await journal.claim(record.job_id)
            await journal.write(record)
    async with SqliteJournal(path, encryption=KeyRing([OLD])) as journal:
        trigger = "CREATE TRIGGER full BEFORE UPDATE ON job WHEN OLD.id = 'job 2' BEGIN SELECT raise(ABORT, 'no'); END"
        await asyncio.to_thread(alter, trigger)
        with pytest.raises(JournalError, match="SQLITE_CONSTRAINT_TRIGGER"):
            await journal.reencrypt()
        assert RECORDS[:3] == await read_all(journal)
        await asyncio.to_thread(alter, "DROP TRIGGER full")
        assert 3 == await journal.reencrypt()
        assert RECORDS[:3] == await read_all(journal)
