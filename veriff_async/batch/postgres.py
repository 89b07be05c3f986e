"""A journal for the workers of many machines, in PostgreSQL; the tables are in ``_storage/sql/journal-1.sql``.

A claim is a row with a token and an end. Each write locks that row and checks the token, in the transaction that
writes the record, so a process that has lost its lease cannot overwrite its successor. All times are the server's.
Locks of sessions, which would end with the process by themselves, do not work behind PgBouncer in transaction mode.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from hashlib import sha256
from math import inf
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from veriff_async._event_loop import require_asyncio
from veriff_async._protocol.arguments import check_flag, check_number, check_text
from veriff_async._protocol.inbox_arguments import check_session_ids
from veriff_async._storage.postgres import PostgresConnections, execute, fetch_all, fetch_one
from veriff_async.batch._leases import BATCH_SIZE, Claim, Leases, batches_of, lost_claim_error
from veriff_async.batch._postgres_codec import RecordCodec
from veriff_async.batch._records import JobState, UnreadRecords
from veriff_async.batch._session_limits import HOUR, SessionLimits, SessionUsage
from veriff_async.batch.memory import claimed_error
from veriff_async.errors import ConfigurationError, JournalError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
    from types import TracebackType

    from psycopg_pool import AsyncConnectionPool

    from veriff_async._storage.postgres import Connection, Row
    from veriff_async.batch._records import JobRecord
    from veriff_async.encryption import KeyRing

__all__ = ("PostgresJournal",)

_T = TypeVar("_T")

# Seconds: the longest lease, a hundred years.
_MAX_LEASE: Final = 3_155_760_000

# Bytes of a name in an index; of a longer one its digest.
_MAX_KEY: Final = 1_000

# A lease that has our own token is ours: a request is repeated whose response was lost.
_CLAIM: Final = """
INSERT INTO veriff_journal_claims AS claim (batch, job_id, token, expires_at)
VALUES (%(batch)s, %(job)s, %(token)s, clock_timestamp() + %(lease)s * interval '1 second')
ON CONFLICT (batch, job_id) DO UPDATE SET token = excluded.token, expires_at = excluded.expires_at
WHERE claim.expires_at <= clock_timestamp() OR claim.token = excluded.token
RETURNING true
"""

_RENEW: Final = """
UPDATE veriff_journal_claims AS claim SET expires_at = clock_timestamp() + %(lease)s * interval '1 second'
FROM unnest(%(jobs)s::bytea[], %(tokens)s::bytea[]) AS mine (job_id, token)
WHERE claim.batch = %(batch)s AND claim.job_id = mine.job_id AND claim.token = mine.token
RETURNING claim.job_id
"""

_RELEASE: Final = """
DELETE FROM veriff_journal_claims AS claim
USING unnest(%(jobs)s::bytea[], %(tokens)s::bytea[]) AS mine (job_id, token)
WHERE claim.batch = %(batch)s AND claim.job_id = mine.job_id AND claim.token = mine.token
"""

# The lock keeps another process from taking the claim over until the record is written.
_CHECK_CLAIM: Final = """
SELECT coalesce(record.creations, 0)
FROM veriff_journal_claims AS claim
LEFT JOIN veriff_journal_records AS record USING (batch, job_id)
WHERE claim.batch = %(batch)s AND claim.job_id = %(job)s AND claim.token = %(token)s
FOR UPDATE OF claim
"""

_WRITE: Final = """
INSERT INTO veriff_journal_records (batch, job_id, state, creations, session_id, record)
VALUES (%(batch)s, %(job)s, %(state)s, %(creations)s, %(session)s, %(record)s)
ON CONFLICT (batch, job_id) DO UPDATE SET
    state = excluded.state, creations = excluded.creations, session_id = excluded.session_id, record = excluded.record
"""

# Both in one round trip, for a record with as many creations as before. It writes nothing for another one, or without
# the claim.
_WRITE_IF_CLAIMED: Final = """
WITH held AS (
    SELECT true FROM veriff_journal_claims
    WHERE batch = %(batch)s AND job_id = %(job)s AND token = %(token)s FOR UPDATE
)
INSERT INTO veriff_journal_records AS old (batch, job_id, state, creations, session_id, record)
SELECT %(batch)s, %(job)s, %(state)s, %(creations)s, %(session)s, %(record)s FROM held
WHERE %(creations)s = 0
    OR EXISTS (SELECT FROM veriff_journal_records WHERE batch = %(batch)s AND job_id = %(job)s)
ON CONFLICT (batch, job_id) DO UPDATE
SET state = excluded.state, session_id = excluded.session_id, record = excluded.record
WHERE old.creations = excluded.creations
RETURNING true
"""

# Creations of one batch wait for each other here, so that two processes cannot both use the last permitted one.
_LOCK_BATCH: Final = """
INSERT INTO veriff_journal_batches (batch, sessions) VALUES (%(batch)s, 0)
ON CONFLICT (batch) DO UPDATE SET sessions = veriff_journal_batches.sessions
"""

# A creation of the future happened by now: the clock was set back, and its hour ends in an hour at most.
_FOLLOW_CLOCK: Final = """
UPDATE veriff_journal_creations SET created_at = clock_timestamp()
WHERE batch = %(batch)s AND created_at > clock_timestamp()
"""

# The last value is when the creation that fills the hour leaves it.
_USAGE: Final = """
WITH hour AS (
    SELECT created_at FROM veriff_journal_creations
    WHERE batch = %(batch)s AND created_at > clock_timestamp() - %(hour)s * interval '1 second'
)
SELECT
    coalesce((SELECT sessions FROM veriff_journal_batches WHERE batch = %(batch)s), 0),
    (SELECT count(*) FROM hour),
    %(hour)s - extract(epoch FROM clock_timestamp() - (
        SELECT created_at FROM hour ORDER BY created_at DESC OFFSET %(hourly)s LIMIT 1
    ))::float8
"""

_ADD_CREATIONS: Final = """
WITH forgotten AS (
    DELETE FROM veriff_journal_creations
    WHERE batch = %(batch)s AND created_at <= clock_timestamp() - %(hour)s * interval '1 second'
)
INSERT INTO veriff_journal_creations (batch, job_id, number, created_at)
SELECT %(batch)s, %(job)s, number, clock_timestamp() FROM generate_series(%(before)s + 1, %(creations)s) AS number
ON CONFLICT (batch, job_id, number) DO NOTHING
"""

_TAKE_CREATIONS_BACK: Final = """
DELETE FROM veriff_journal_creations
WHERE batch = %(batch)s AND job_id = %(job)s AND number > %(creations)s
"""

_COUNT_CREATIONS: Final = """
UPDATE veriff_journal_batches SET sessions = sessions + %(creations)s - %(before)s WHERE batch = %(batch)s
"""

_READ: Final = "SELECT record FROM veriff_journal_records WHERE batch = %(batch)s AND job_id = %(job)s"

_READ_PAGE: Final = """
SELECT number, job_id, record FROM veriff_journal_records
WHERE batch = %(batch)s AND number > %(last)s ORDER BY number LIMIT %(limit)s
"""

_READ_PAGE_OF_STATES: Final = """
SELECT number, job_id, record FROM veriff_journal_records
WHERE batch = %(batch)s AND number > %(last)s AND state = ANY(%(states)s) ORDER BY number LIMIT %(limit)s
"""

_FIND_JOBS: Final = """
SELECT job_id, record FROM veriff_journal_records
WHERE batch = %(batch)s AND session_id = ANY(%(sessions)s) ORDER BY job_id
"""

_DELETE: Final = """
DELETE FROM veriff_journal_records
WHERE batch = %(batch)s AND job_id = %(job)s AND session_id = ANY(%(sessions)s)
"""

_RENAME_CREATIONS: Final = """
UPDATE veriff_journal_creations SET job_id = %(token)s WHERE batch = %(batch)s AND job_id = %(job)s
"""

_COUNT: Final = "SELECT state, count(*) FROM veriff_journal_records WHERE batch = %(batch)s GROUP BY state"


class PostgresJournal:
    """Keeps records in PostgreSQL (14 or newer), for the workers of many machines.

    A claim is a lease. While the process lives, one task renews all leases of the journal; when it dies, its jobs are
    free after `lease` seconds. Each write checks in its transaction that the claim is still held, so a process that has
    lost it, because its machine stood still for longer, writes nothing.

    A record that was written survives a crash of the server, unless ``synchronous_commit`` or ``fsync`` is off.
    Records contain decisions, which are personal data, until you delete the rows of the batch. The journal works behind
    PgBouncer in every mode.

    Use it in one event loop, and close it there with ``async with`` or `aclose`. After that loop has ended, another one
    may use it.

    Args:
        server: A URL with ``postgresql://``, or other options of libpq, as psycopg reads them; or an
            ``AsyncConnectionPool`` of psycopg_pool that you open and close.
        batch: The name of the batch: batches in the same tables do not see each other.
        lease: Seconds after which the jobs of a process that died are free. Choose it longer than any pause of a
            process: requests that it has sent to Veriff cannot be taken back.
        timeout: Seconds for each request to the server.
        migrate: Whether the first use creates the tables, or upgrades them. If not, run
            ``veriff-async postgres migrate`` before, as a user who may create tables.
        encryption: The keys with which records are encrypted; by default they are stored as they are. The ids of jobs
            and sessions and the states of jobs always are. See `reencrypt`.

    Raises:
        ConfigurationError: An argument is invalid, or the extra ``postgres`` is not installed; from any method, another
            event loop uses the journal, it was in use before the process was forked, or the tables have another
            version.

    Example:
        >>> async with PostgresJournal("postgresql://batch@localhost/app", batch="spring") as journal:
        ...     result = await verify_one(veriff, job, journal=journal)

    See https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING.
    """

    def __init__(  # noqa: PLR0913  every option has a default
        self,
        server: str | AsyncConnectionPool[Any],
        *,
        batch: str = "default",
        lease: float = 30.0,
        timeout: float = 4.0,
        migrate: bool = True,
        encryption: KeyRing | None = None,
    ) -> None:
        """Check the arguments; nothing is opened yet."""
        check_number("timeout", timeout, above=True, remedy="give seconds above zero")
        check_number("lease", lease, above=True, remedy="give seconds above zero")
        check_flag("migrate", migrate)
        if not lease < _MAX_LEASE or not check_text("batch", batch):
            msg = "PostgresJournal needs a batch, and a timeout and a lease above zero: omit them for the defaults."
            raise ConfigurationError(msg)
        self._server = PostgresConnections(
            server, timeout, store="PostgresJournal", error=JournalError, component="journal", migrate=migrate
        )
        self._codec = RecordCodec(encryption, _key(batch))
        self._batch = batch
        self._lease = lease
        self._leases = Leases(lease, self._renew)
        self._is_closing = False

    def __repr__(self) -> str:
        """Show server and batch, but no user and no password."""
        return f"<PostgresJournal {self._server.address} {self._batch}{' closed' if self._server.is_closed else ''}>"

    async def __aenter__(self) -> Self:
        """Return the journal itself."""
        require_asyncio()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self.aclose()

    async def claim(self, job_id: str) -> JobRecord | None:
        """Claim a job; see `Journal.claim`."""
        self._check_loop()

        async def request(claim: Claim) -> tuple[bool, JobRecord | None]:
            values = {**self._values(job_id, claim), "lease": self._lease}

            async def insert(connection: Connection) -> tuple[bool, Row | None]:
                is_claimed = await fetch_one(connection, _CLAIM, values) is not None
                return is_claimed, await fetch_one(connection, _READ, values) if is_claimed else None

            is_claimed, row = await self._run(insert)
            try:
                return is_claimed, None if row is None else self._codec.load(row[0], _key(job_id))
            except JournalError:
                await self._release({job_id: claim})
                raise

        return await self._leases.claim(job_id, request, self.release)

    async def release(self, job_id: str) -> None:
        """Release a claim; see `Journal.release`. Without the server it ends with its lease."""
        require_asyncio()
        claim = self._leases.claims.get(job_id)
        if claim is None or self._is_closing:
            return
        self._leases.drop(job_id, claim)
        self._check_loop()
        with suppress(JournalError):
            await self._leases.finish(self._release({job_id: claim}))

    async def write(self, record: JobRecord) -> None:
        """Save a record; see `Journal.write`."""
        await self.reserve(record, SessionLimits())

    async def reserve(self, record: JobRecord, limits: SessionLimits) -> SessionUsage:
        """Save a record if the limits permit it; see `Journal.reserve`."""
        self._check_loop()
        job_id = record.job_id
        claim = self._leases.claims.get(job_id)
        if claim is None:
            raise claimed_error(job_id)
        creations = record.creations
        values = {
            **self._values(job_id, claim),
            "state": str(record.state),
            "creations": creations,
            "session": None if record.session_id is None else _key(record.session_id),
            "record": self._codec.dump(record, _key(job_id)),
        }
        async with claim.write_lock:  # several connections keep no order, and an older record must not win
            usage = await self._leases.finish(self._write(values, claim, creations, limits))
        if usage is None:
            self._leases.drop(job_id, claim)
            raise lost_claim_error(job_id)
        return usage

    async def session_usage(self, limits: SessionLimits) -> SessionUsage:
        """Count sessions; see `Journal.session_usage`."""
        self._check_loop()
        return await self._run(partial(_usage, values=self._values(), limits=limits))

    async def read(self, job_id: str) -> JobRecord | None:
        """Return a job's record; see `Journal.read`."""
        self._check_loop()
        row = await self._run(lambda connection: fetch_one(connection, _READ, self._values(job_id)))
        return None if row is None else self._codec.load(row[0], _key(job_id))

    async def iter_records(self, *states: JobState) -> AsyncGenerator[JobRecord]:
        """Yield records; see `Journal.iter_records`."""
        query, unread = _READ_PAGE_OF_STATES if states else _READ_PAGE, UnreadRecords()
        values = {**self._values(), "last": 0, "limit": BATCH_SIZE, "states": [str(state) for state in states]}
        while True:
            self._check_loop()
            page = await self._run(lambda connection: fetch_all(connection, query, values))
            for _, job, stored in page:
                if (record := unread.load(partial(self._codec.load, stored, job))) is not None:
                    yield record
            if len(page) < BATCH_SIZE:
                unread.check()
                return
            values["last"] = page[-1][0]

    async def count_by_state(self) -> Mapping[JobState, int]:
        """Count jobs by state; see `Journal.count_by_state`."""
        self._check_loop()
        rows = await self._run(lambda connection: fetch_all(connection, _COUNT, self._values()))
        return {JobState(state): count for state, count in rows}

    async def erase(self, session_ids: Collection[str]) -> int:
        """Delete the records of sessions; see `ErasableJournal.erase`.

        The files of the server lose them later: the tables with a vacuum and the writes that follow it, or at once with
        ``VACUUM FULL``, and the write-ahead log when its files are used again.
        """
        wanted = check_session_ids(session_ids)
        self._check_loop()
        values = {**self._values(), "sessions": [_key(session_id) for session_id in wanted]}
        jobs = await self._run(partial(fetch_all, sql=_FIND_JOBS, parameters=values))
        erased = 0
        for job_id, record in jobs:
            claim = Claim()
            work = partial(_erase, values={**values, **self._values("", claim), "job": job_id, "lease": self._lease})
            is_free, count = await self._leases.finish(self._run(work, autocommit=False))
            if not is_free:
                raise claimed_error(self._codec.load(record, job_id).job_id)
            erased += count
        return erased

    async def reencrypt(self) -> int:
        """Write every record again that is not encrypted with the first key of the ring; return how many were not.

        Call it after a key was added, and before an old one is removed. Runs may use the journal at the same time, if
        all have the new key. Replaced texts leave the files of the server later, as `erase` describes.

        Raises:
            JournalError: Some may not have been written, or a key is missing; call it again.
        """
        self._check_loop()
        total = 0
        last: int | None = 0
        while last is not None:
            written, last = await self._run(partial(self._codec.renew, last=last), autocommit=False)
            total += written
        return total

    async def aclose(self) -> None:
        """Release all claims and close the connections; see `Journal.aclose`."""
        require_asyncio()
        if self._is_closing or not self._leases.belongs_to_loop():
            self._is_closing = True
            await self._server.aclose()
            return
        # Before anything is awaited, so that no other task sends a request from now on.
        self._is_closing = True
        try:
            claims = await self._leases.stop()
            with suppress(JournalError):
                await self._release(claims)
        finally:
            await self._server.aclose()

    def _check_loop(self) -> None:
        """Check the event loop; claims end with the loop that made them."""
        if self._is_closing:
            msg = "The journal is closed: make another one."
            raise JournalError(msg)
        self._server.check_loop()
        self._leases.use_loop()

    async def _run(self, work: Callable[[Connection], Awaitable[_T]], *, autocommit: bool = True) -> _T:
        """Do some work, again if it is unknown whether it was stored: with the token, that is safe."""
        return await self._server.run(work, is_idempotent=True, autocommit=autocommit)

    async def _write(
        self, values: Mapping[str, object], claim: Claim, creations: int, limits: SessionLimits
    ) -> SessionUsage | None:
        """Write a record if the claim is held and the limits permit it; return ``None`` without the claim."""
        if creations == claim.creations:
            row = await self._run(partial(fetch_one, sql=_WRITE_IF_CLAIMED, parameters=values))
            if row is not None:
                return SessionUsage(total=0, last_hour=0)
        usage = await self._run(partial(_reserve, values=values, creations=creations, limits=limits), autocommit=False)
        if usage is not None and not usage.retry_after:
            claim.creations = creations
        return usage

    async def _renew(self, claims: Mapping[str, Claim]) -> list[str]:
        self._check_loop()
        values = {**self._values_of(claims), "lease": self._lease}
        rows = await self._run(lambda connection: fetch_all(connection, _RENEW, values))
        renewed = {row[0] for row in rows}
        return [job_id for job_id in claims if _key(job_id) not in renewed]

    async def _release(self, claims: Mapping[str, Claim]) -> None:
        for batch in batches_of(claims.items()):
            await self._run(partial(execute, sql=_RELEASE, parameters=self._values_of(batch)))

    def _values(self, job_id: str = "", claim: Claim | None = None) -> dict[str, object]:
        token = b"" if claim is None else claim.token.encode()
        return {"batch": _key(self._batch), "job": _key(job_id), "token": token}

    def _values_of(self, claims: Mapping[str, Claim]) -> dict[str, object]:
        return {
            "batch": _key(self._batch),
            "jobs": [_key(job_id) for job_id in claims],
            "tokens": [claim.token.encode() for claim in claims.values()],
        }


def _key(text: str) -> bytes:
    """Return the bytes of a name, or a digest: an entry of an index has 2,700 bytes at most."""
    encoded = text.encode("utf-8", "surrogatepass")
    # No UTF-8 begins with 255, so the digest is no other name.
    return encoded if len(encoded) <= _MAX_KEY else b"\xff" + sha256(encoded).digest()


async def _reserve(
    connection: Connection, values: Mapping[str, object], creations: int, limits: SessionLimits
) -> SessionUsage | None:
    """Write a record if the claim is held and the limits permit it; return ``None`` without the claim."""
    row = await fetch_one(connection, _CHECK_CLAIM, values)
    if row is None:
        return None
    # By the record and not by this process, which may have had no response to a write that was done.
    before = int(row[0])
    usage = SessionUsage(total=0, last_hour=0)
    if creations != before:
        values = {**values, "before": before, "hour": HOUR}
        await execute(connection, _LOCK_BATCH, values)
        usage = await _usage(connection, values, limits)
        if creations > before and usage.retry_after:
            return usage
        await execute(connection, _ADD_CREATIONS if creations > before else _TAKE_CREATIONS_BACK, values)
        await execute(connection, _COUNT_CREATIONS, values)
        usage = await _usage(connection, values, SessionLimits())
    await execute(connection, _WRITE, values)
    return usage


async def _erase(connection: Connection, values: Mapping[str, object]) -> tuple[bool, int]:
    """Delete the record of a job that is free; return whether it was, and how many records it had."""
    # A claim of its own keeps others from claiming the job until the record is deleted.
    if await fetch_one(connection, _CLAIM, values) is None:
        return False, 0
    count = await execute(connection, _DELETE, values)
    if count:
        await execute(connection, _RENAME_CREATIONS, values)
    await execute(connection, _RELEASE, {**values, "jobs": [values["job"]], "tokens": [values["token"]]})
    return True, count


async def _usage(connection: Connection, values: Mapping[str, object], limits: SessionLimits) -> SessionUsage:
    hourly = limits.max_per_hour or 0
    values = {**values, "hour": HOUR, "hourly": max(0, hourly - 1)}
    await execute(connection, _FOLLOW_CLOCK, values)
    row = await fetch_one(connection, _USAGE, values)
    total, recent, wait = (0, 0, None) if row is None else row
    seconds = 0.0
    if limits.max_sessions is not None and total >= limits.max_sessions:
        seconds = inf
    elif hourly and recent >= hourly:
        seconds = max(0.001, float(wait or 0))
    return SessionUsage(total=int(total), last_hour=int(recent), retry_after=seconds)
