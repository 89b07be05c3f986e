"""How `PostgresJournal` writes records, encrypted if it has a ring of keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from veriff_async._storage.encrypted_text import TextCodec
from veriff_async._storage.postgres import execute, fetch_all
from veriff_async.batch._leases import BATCH_SIZE
from veriff_async.batch._records import dump_record, load_record
from veriff_async.errors import JournalError

if TYPE_CHECKING:
    from veriff_async._storage.postgres import Connection
    from veriff_async.batch._records import JobRecord

__all__ = ("RecordCodec",)

# Locked in the order of their numbers, so that two processes that do this never wait for each other.
_READ: Final = """
SELECT number, job_id, record FROM veriff_journal_records
WHERE batch = %(batch)s AND number > %(last)s ORDER BY number LIMIT %(limit)s FOR UPDATE
"""

_WRITE: Final = """
UPDATE veriff_journal_records AS old SET record = renewed.record
FROM unnest(%(numbers)s::bigint[], %(records)s::bytea[]) AS renewed (number, record)
WHERE old.batch = %(batch)s AND old.number = renewed.number
"""


class RecordCodec:
    """The records of one batch; methods take the ids of jobs as their column has them, where long ones are digests.

    Args:
        encryption: The ring of keys, or ``None``.
        batch: The name of the batch, as its column has it.
    """

    def __init__(self, encryption: object, batch: bytes) -> None:
        """Check the ring."""
        self._texts = TextCodec(encryption, error=JournalError, owner="journal")
        self._batch = batch

    def dump(self, record: JobRecord, job: bytes) -> bytes:
        """Return a record as it is stored."""
        return self._texts.encode(dump_record(record), *self._place(job))

    def load(self, stored: bytes, job: bytes) -> JobRecord:
        """Return a stored record.

        Raises:
            JournalError: It is damaged, its key is missing, or it was changed or moved.
        """
        return load_record(self._texts.decode(stored, *self._place(job)))

    async def renew(self, connection: Connection, last: int) -> tuple[int, int | None]:
        """Write some records again that are not stored as they would be stored now.

        Args:
            connection: In a transaction.
            last: The last number of the part before.

        Returns:
            How many were written, and the last number, or ``None`` after the last part.
        """
        values = {"batch": self._batch, "last": last, "limit": BATCH_SIZE}
        rows = await fetch_all(connection, _READ, values)
        renewed = {
            number: self._texts.encode(self._texts.decode(stored, *self._place(job)), *self._place(job))
            for number, job, stored in rows
            if not self._texts.is_current(stored)
        }
        if renewed:
            await execute(connection, _WRITE, {**values, "numbers": list(renewed), "records": list(renewed.values())})
        return len(renewed), rows[-1][0] if len(rows) == BATCH_SIZE else None

    def _place(self, job: bytes) -> tuple[str, str, str]:
        return "record", self._batch.decode("latin-1"), job.decode("latin-1")
