"""A journal for the workers of many machines, in Redis or Valkey.

Keys, all under the prefix: ``records`` (hash: job id to record), ``number`` and ``order`` (sorted set: job ids in the
order in which they were started), ``state:…`` (one sorted set per state, with the same numbers), ``creations`` (sorted
set: creations that limits of sessions count, by the server's time), and ``claim:…`` (one string per claimed job, which
expires). Every change is one Lua script, so that it is atomic, and every script that
writes a record checks the claim's token first: a process that has lost its lease cannot overwrite its successor.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from math import inf
from secrets import token_hex
from typing import TYPE_CHECKING, Final, Self, cast

from veriff_async._event_loop import require_asyncio
from veriff_async._protocol.arguments import check_number, check_text
from veriff_async._protocol.inbox_arguments import check_session_ids
from veriff_async._storage.encrypted_text import TextCodec
from veriff_async._storage.redis import RedisConnections
from veriff_async.batch._leases import BATCH_SIZE, Claim, Leases, batches_of, lost_claim_error
from veriff_async.batch._records import JobState, UnreadRecords, dump_record, load_record
from veriff_async.batch._session_limits import SessionLimits, SessionUsage
from veriff_async.batch.memory import claimed_error
from veriff_async.errors import ConfigurationError, JournalError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Collection, Container, Mapping
    from types import TracebackType

    from redis.asyncio import Redis

    from veriff_async.batch._records import JobRecord
    from veriff_async.encryption import KeyRing

__all__ = ("RedisJournal",)

# Milliseconds: the longest lease. Lua numbers are exact up to this.
_MAX_LEASE: Final = 2**53

# The first commands that write return their error unchanged (a full server, or a replica): redis-py chooses the class
# by its first word, and Redis 6.2 prefixes the place in the script.
_ERROR_FUNCTION: Final = """
local function to_error(reply)
    return {err = (string.gsub(string.gsub(reply.err, '^@user_script.- %-', ''), '%s+$', ''))}
end
"""

# A lease with our own token counts as claimed: redis-py repeats a request whose response was lost.
_CLAIM: Final = (
    _ERROR_FUNCTION
    + """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return {0} end
local reply = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if reply.err then return to_error(reply) end
return {1, redis.call('HGET', KEYS[2], ARGV[3])}
"""
)

# Of one clock, the server's, so that the machines of the workers need not agree; if it was set back, the hour of the
# creations of the future begins now. A negative limit is none.
_USAGE: Final = """
local function usage(key, most, hourly)
    local time = redis.call('TIME')
    local now = time[1] + time[2] / 1000000
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', key, string.format('(%.6f', now), '+inf')) do
        redis.call('ZADD', key, 'XX', string.format('%.6f', now), member)
    end
    local total = redis.call('ZCARD', key)
    local recent = redis.call('ZCOUNT', key, string.format('(%.6f', now - 3600), '+inf')
    local wait = 0
    if most >= 0 and total >= most then wait = -1
    elseif hourly > 0 and recent >= hourly then
        local oldest = redis.call('ZREVRANGE', key, hourly - 1, hourly - 1, 'WITHSCORES')
        wait = math.max(0.001, oldest[2] + 3600 - now)
    end
    return string.format('%.6f', now), {total, recent, string.format('%.6f', wait)}
end
"""
_COUNT_SESSIONS: Final = (
    _USAGE
    + """
local _, counts = usage(KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]))
return counts
"""
)

# The token is checked first, so a process whose lease ran out changes nothing. ZADD returns 1 only if the state
# changed; only then does the job have to leave the set of its previous state. A creation that is already there was
# permitted: redis-py repeats a request whose response was lost.
_WRITE: Final = (
    _ERROR_FUNCTION
    + _USAGE
    + """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {} end
local before, after = tonumber(ARGV[4]), tonumber(ARGV[5])
local most, hourly = tonumber(ARGV[6]), tonumber(ARGV[7])
local counts = {0, 0, '0'}
local now
if before ~= after then
    now, counts = usage(KEYS[6], most, hourly)
    local added = redis.call('ZSCORE', KEYS[6], after .. ':' .. ARGV[2])
    if after > before and counts[3] ~= '0.000000' and not added then return counts end
end
local number = redis.call('ZSCORE', KEYS[3], ARGV[2])
if not number then
    number = redis.pcall('INCR', KEYS[4])
    if type(number) == 'table' then return to_error(number) end
    redis.call('ZADD', KEYS[3], number, ARGV[2])
end
local reply = redis.pcall('HSET', KEYS[2], ARGV[2], ARGV[3])
if type(reply) == 'table' then return to_error(reply) end
if redis.call('ZADD', KEYS[5], number, ARGV[2]) == 1 then
    for index = 7, #KEYS do redis.call('ZREM', KEYS[index], ARGV[2]) end
end
for number = before + 1, after do redis.call('ZADD', KEYS[6], 'NX', now, number .. ':' .. ARGV[2]) end
for number = after + 1, before do redis.call('ZREM', KEYS[6], number .. ':' .. ARGV[2]) end
if before ~= after then now, counts = usage(KEYS[6], most, hourly) end
counts[3] = '0'
return counts
"""
)

# Returns the indexes of the leases that are lost, so that the journal drops these claims and keeps renewing the others.
_RENEW: Final = """
local lost = {}
for index, key in ipairs(KEYS) do
    if redis.call('GET', key) == ARGV[index] then redis.call('PEXPIRE', key, ARGV[#ARGV])
    else lost[#lost + 1] = index end
end
return lost
"""

_IS_CLAIMED: Final = -1

# Nothing is erased while the job is claimed, or if its record has changed since it was read.
_ERASE: Final = """
if redis.call('EXISTS', KEYS[1]) == 1 then return -1 end
if redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
for index = 5, #KEYS do redis.call('ZREM', KEYS[index], ARGV[1]) end
for number = 1, tonumber(ARGV[4]) do
    local time = redis.call('ZSCORE', KEYS[4], number .. ':' .. ARGV[1])
    if time then
        redis.call('ZREM', KEYS[4], number .. ':' .. ARGV[1])
        redis.call('ZADD', KEYS[4], time, number .. ':' .. ARGV[3])
    end
end
return 1
"""

# Only with our own token: after a lease has run out, the job may be claimed by another process.
_RELEASE: Final = """
for index, key in ipairs(KEYS) do
    if redis.call('GET', key) == ARGV[index] then redis.call('DEL', key) end
end
return 1
"""


# A record that was written in between was written by a run that has the present keys.
_REPLACE: Final = """
local written = 0
for index = 1, #ARGV, 3 do
    if redis.call('HGET', KEYS[1], ARGV[index]) == ARGV[index + 1] then
        redis.call('HSET', KEYS[1], ARGV[index], ARGV[index + 2])
        written = written + 1
    end
end
return written
"""


class RedisJournal:
    """Keeps records in Redis (6.2 or newer) or Valkey, for the workers of many machines.

    A claim is a lease. While the process lives, one task renews all leases of the journal; when it dies, its jobs are
    free after `lease` seconds. Each write checks atomically that the claim is still held, so a process that has lost
    it, because its machine stood still for longer, writes nothing.

    A record that was written is as durable as the server makes it. With its default settings Redis may lose the last
    minutes in a crash: set ``appendonly yes`` with ``appendfsync always``, and ``maxmemory-policy noeviction``. Records
    contain decisions, which are personal data, until you delete the keys under the prefix. Apart from the leases there
    are a dozen keys, however many jobs there are.

    Use it in one event loop, and close it there with ``async with`` or `aclose`. After that loop has ended, another one
    may use it.

    Args:
        server: A URL with ``redis://``, ``rediss://`` (TLS) or ``unix://``, as redis-py reads it; or a redis-py client,
            for Sentinel or TLS settings of your own. The journal opens its own connections with the settings of that
            client, which you must keep as long as the journal.
        prefix: The beginning of all key names, one for each batch. The braces keep the keys on one node of a cluster.
        lease: Seconds after which the jobs of a process that died are free. Choose it longer than any pause of a
            process: requests that it has sent to Veriff cannot be taken back.
        timeout: Seconds for each request to the server.
        encryption: Keys with which the records are encrypted; without it they are readable. The ids and states of jobs
            are readable in either case.

    Raises:
        ConfigurationError: An argument is invalid, or the extra ``redis`` is not installed; from any method, another
            event loop uses the journal.

    Example:
        >>> async with RedisJournal("redis://localhost:6379/0", prefix="{spring}") as journal:
        ...     result = await verify_one(veriff, job, journal=journal)

    See https://redis.io/docs/latest/operate/oss_and_stack/management/persistence.
    """

    def __init__(
        self,
        server: str | Redis,
        *,
        prefix: str = "{veriff-batch}",
        lease: float = 30.0,
        timeout: float = 4.0,
        encryption: KeyRing | None = None,
    ) -> None:
        """Check the arguments; nothing is opened yet."""
        check_number("timeout", timeout, above=True, remedy="give seconds above zero")
        check_number("lease", lease, above=True, remedy="give seconds above zero")
        if not lease < _MAX_LEASE / 1000 or not check_text("prefix", prefix):
            msg = "RedisJournal needs a prefix, and a timeout and a lease above zero: omit them for the defaults."
            raise ConfigurationError(msg)
        self._server = RedisConnections(server, timeout, store="RedisJournal", error=JournalError)
        self._codec = TextCodec(encryption, error=JournalError, owner="journal")
        self._prefix = prefix
        self._lease = lease
        self._records = f"{prefix}:records"
        self._order = f"{prefix}:order"
        self._creations = f"{prefix}:creations"
        self._states = {state: f"{prefix}:state:{state}" for state in JobState}
        self._leases = Leases(lease, self._renew)

    def __repr__(self) -> str:
        """Show server and prefix, but no password."""
        return f"<RedisJournal {self._server.address} {self._prefix}{' closed' if self._server.is_closed else ''}>"

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
        client = self._get_client()
        return await self._leases.claim(
            job_id, lambda claim: self._server.execute(client, self._claim(client, job_id, claim)), self.release
        )

    async def release(self, job_id: str) -> None:
        """Release a claim; see `Journal.release`. Without the server it ends with its lease."""
        require_asyncio()
        claim = self._leases.claims.get(job_id)
        if claim is None or self._server.is_closed:
            return
        self._leases.drop(job_id, claim)
        client = self._get_client()
        with suppress(JournalError):
            await self._leases.finish(self._server.execute(client, self._release(client, {job_id: claim})))

    async def write(self, record: JobRecord) -> None:
        """Save a record; see `Journal.write`."""
        await self.reserve(record, SessionLimits())

    async def reserve(self, record: JobRecord, limits: SessionLimits) -> SessionUsage:
        """Save a record if the limits permit it; see `Journal.reserve`."""
        client, job_id = self._get_client(), record.job_id
        claim = self._leases.claims.get(job_id)
        if claim is None:
            raise claimed_error(job_id)
        others = (key for state, key in self._states.items() if state is not record.state)
        numbers = (self._order, f"{self._prefix}:number")
        keys = (self._key(job_id), self._records, *numbers, self._states[record.state], self._creations, *others)
        async with claim.write_lock:  # several connections keep no order, and an older record must not win
            before, claim.creations = claim.creations, record.creations  # also if this is cancelled, and done anyway
            counts = (before, record.creations, *_limit_arguments(limits))
            request = _eval(client, _WRITE, keys, (claim.token, job_id, self._dump(record), *counts))
            answer = cast("list[int | bytes]", await self._leases.finish(self._server.execute(client, request)))
            usage = _parse_usage(answer) if answer else None
            if usage is not None and usage.retry_after:
                claim.creations = before
        if usage is None:
            self._leases.drop(job_id, claim)
            raise lost_claim_error(job_id)
        return usage

    async def session_usage(self, limits: SessionLimits) -> SessionUsage:
        """Count sessions; see `Journal.session_usage`."""
        client = self._get_client()
        request = _eval(client, _COUNT_SESSIONS, (self._creations,), _limit_arguments(limits))
        return _parse_usage(cast("list[int | bytes]", await self._server.execute(client, request)))

    async def read(self, job_id: str) -> JobRecord | None:
        """Return a job's record; see `Journal.read`."""
        client = self._get_client()
        found = await self._server.execute(client, self._read(client, [job_id]))
        return self._load(*found[0]) if found else None

    async def iter_records(self, *states: JobState) -> AsyncGenerator[JobRecord]:
        """Yield records; see `Journal.iter_records`."""
        keys = [self._states[state] for state in states] or [self._order]
        last, unread = 0, UnreadRecords()
        while True:
            client = self._get_client()
            page = await self._server.execute(client, self._read_page(client, keys, last))
            if not page:
                unread.check()
                return
            for job_id, text in await self._server.execute(client, self._read(client, list(page))):
                record = unread.load(partial(self._load, job_id, text))
                if record is not None and (not states or record.state in states):
                    yield record
            last = max(page.values())

    async def count_by_state(self) -> Mapping[JobState, int]:
        """Count jobs by state; see `Journal.count_by_state`."""
        client = self._get_client()
        return await self._server.execute(client, self._count(client))

    async def erase(self, session_ids: Collection[str]) -> int:
        """Delete the records of sessions; see `ErasableJournal.erase`.

        The server's files lose them when the server rewrites them (``BGREWRITEAOF``, ``BGSAVE``).
        """
        wanted, erased = frozenset(check_session_ids(session_ids)), 0
        async for record in self.iter_records():
            if record.session_id in wanted:
                erased += await self._erase(self._get_client(), record, wanted)
        return erased

    async def reencrypt(self) -> int:
        """Write every record again that is not encrypted with the first key of the ring, or is although it has no ring.

        Call it after a key was added, and before an old one is removed. Runs may use the journal at the same time, if
        all have the same ring; it may be called again after an interruption.

        Returns:
            How many records were written again.

        Raises:
            JournalError: A record cannot be decrypted, or some may not have been written; call it again.
        """
        total, cursor = 0, 0
        while True:
            client = self._get_client()
            cursor, written = await self._server.execute(client, self._reencrypt_page(client, cursor))
            total += written
            if not cursor:
                return total

    async def aclose(self) -> None:
        """Release all claims and close the connections; see `Journal.aclose`."""
        require_asyncio()
        if self._server.is_closed or not self._leases.belongs_to_loop():
            await self._server.aclose()
            return
        client = self._get_client()
        # Before anything is awaited, so that no other task sends a request from now on.
        self._server.is_closed = True
        try:
            claims = await self._leases.stop()
            with suppress(JournalError):
                await self._server.execute(client, self._release(client, claims))
        finally:
            await self._server.aclose()

    def _get_client(self) -> Redis:
        """Return the client for this event loop; claims end with the loop that made them."""
        client = self._server.get_client()
        self._leases.use_loop()
        return client

    async def _claim(self, client: Redis, job_id: str, claim: Claim) -> tuple[bool, JobRecord | None]:
        answer = await _eval(client, _CLAIM, (self._key(job_id), self._records), (claim.token, self._lease_ms, job_id))
        is_claimed, text, *_ = (*cast("list[bytes | int | None]", answer), None)
        if not is_claimed:
            return False, None
        try:
            return True, self._load(job_id, text) if isinstance(text, bytes) else None
        except JournalError:
            await self._release(client, {job_id: claim})
            raise

    async def _erase(self, client: Redis, record: JobRecord | None, wanted: Container[str | None]) -> bool:
        """Delete a record, unless it has changed and has another session now."""
        while record is not None and record.session_id in wanted:
            erased = await self._leases.finish(
                self._server.execute(client, self._erase_unchanged(client, record.job_id, wanted))
            )
            if erased:
                return True
            record = await self.read(record.job_id)
        return False

    async def _erase_unchanged(self, client: Redis, job_id: str, wanted: Container[str | None]) -> bool:
        """Delete the record of a job that is free, if it is the one that was read."""
        text = cast("bytes | None", await client.hget(self._records, job_id))
        if text is None or (record := self._load(job_id, text)).session_id not in wanted:
            return False
        keys = (self._key(job_id), self._records, self._order, self._creations, *self._states.values())
        answer = await _eval(client, _ERASE, keys, (job_id, text, token_hex(8), record.creations))
        if answer == _IS_CLAIMED:
            raise claimed_error(job_id)
        return bool(answer)

    async def _renew(self, claims: Mapping[str, Claim]) -> list[str]:
        client = self._get_client()
        tokens = [claim.token for claim in claims.values()]
        request = _eval(client, _RENEW, tuple(map(self._key, claims)), (*tokens, self._lease_ms))
        lost = cast("list[int]", await self._server.execute(client, request))
        return [list(claims)[index - 1] for index in lost]  # Lua counts from 1

    async def _release(self, client: Redis, claims: Mapping[str, Claim]) -> None:
        for batch in batches_of(claims.items()):
            await _eval(client, _RELEASE, tuple(map(self._key, batch)), tuple(claim.token for claim in batch.values()))

    async def _read_page(self, client: Redis, keys: list[str], last: int) -> dict[str, int]:
        """Return the next jobs with their numbers, oldest first."""
        async with client.pipeline(transaction=False) as pipe:
            for key in keys:
                after = (key, f"({last}", "+inf", 0, BATCH_SIZE)
                pipe.zrangebyscore(*after, withscores=True)  # pyright: ignore[reportUnknownMemberType]  redis-py's own
            answers = cast("list[list[tuple[bytes, float]]]", await pipe.execute())
        jobs = sorted((int(number), job_id) for answer in answers for job_id, number in answer)
        # A job that changes its state between two commands may be in both answers.
        return {str(job_id, "utf-8", "surrogatepass"): number for number, job_id in jobs[:BATCH_SIZE]}

    async def _read(self, client: Redis, job_ids: list[str]) -> list[tuple[str, bytes]]:
        texts = cast("list[bytes | None]", await client.hmget(self._records, job_ids))
        return [(job_id, text) for job_id, text in zip(job_ids, texts, strict=True) if text is not None]

    def _dump(self, record: JobRecord) -> bytes:
        return self._codec.encode(dump_record(record), "record", record.job_id)

    def _load(self, job_id: str, text: bytes) -> JobRecord:
        return load_record(self._codec.decode(text, "record", job_id))

    async def _reencrypt_page(self, client: Redis, cursor: int) -> tuple[int, int]:
        """Write some records again that are not stored as they would be stored now; return the next cursor."""
        response = await client.hscan(self._records, cursor, count=BATCH_SIZE)
        cursor, page = cast("tuple[int, dict[bytes, bytes]]", response)
        texts = list[str | bytes]()
        for name, text in page.items():
            job_id = str(name, "utf-8", "surrogatepass")
            if not self._codec.is_current(text):
                plain = self._codec.decode(text, "record", job_id)
                texts += [job_id, text, self._codec.encode(plain, "record", job_id)]
        written = await _eval(client, _REPLACE, (self._records,), tuple(texts)) if texts else 0
        return cursor, int(cast("int", written))

    async def _count(self, client: Redis) -> dict[JobState, int]:
        async with client.pipeline() as pipe:
            for key in self._states.values():
                pipe.zcard(key)
            counts = cast("list[int]", await pipe.execute())
        return dict(zip(self._states, counts, strict=True))

    @property
    def _lease_ms(self) -> int:
        # Redis refuses an expiry of zero.
        return max(1, int(self._lease * 1000))

    def _key(self, job_id: str) -> str:
        return f"{self._prefix}:claim:{job_id}"


def _limit_arguments(limits: SessionLimits) -> tuple[int, int]:
    return (
        -1 if limits.max_sessions is None else limits.max_sessions,
        -1 if limits.max_per_hour is None else limits.max_per_hour,
    )


def _parse_usage(answer: list[int | bytes]) -> SessionUsage:
    total, recent, wait = answer
    seconds = float(wait)
    return SessionUsage(total=int(total), last_hour=int(recent), retry_after=inf if seconds < 0 else seconds)


async def _eval(client: Redis, script: str, keys: tuple[str, ...], arguments: tuple[str | bytes | int, ...]) -> object:
    """Run a script; it is sent each time, because a server that took over may not have it cached."""
    return await cast("Awaitable[object]", client.eval(script, len(keys), *keys, *arguments))
