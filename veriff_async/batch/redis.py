"""The journal of many machines, on Redis or Valkey: a claim is a lease that ends by itself with its process."""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast

from attrs import field, frozen

from veriff_async._event_loop import require_asyncio
from veriff_async._protocol.arguments import check_number, check_text
from veriff_async._storage.redis import RedisConnections
from veriff_async.batch._records import JobState, dump_record, load_record
from veriff_async.batch.memory import claimed_error
from veriff_async.errors import ConfigurationError, JobClaimedError, JournalError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Coroutine, Mapping
    from types import TracebackType

    from redis.asyncio import Redis

    from veriff_async.batch._records import JobRecord

__all__ = ("RedisJournal",)

_LOG: Final = logging.getLogger("veriff_async.batch")

_T = TypeVar("_T")

_AT_ONCE: Final = 100
"""Records in one page of a long reading, and leases in one question."""

_LONGEST: Final = 2**53
"""Milliseconds that a server takes for a lease, and a number that it keeps whole."""

# A script is one atomic step. The first commands that may write hand on their error as it is, a full server's or
# a replica's; Redis 6.2 writes before it where it came from.
_REFUSED: Final = """
local function refused(done)
    return {err = (string.gsub(string.gsub(done.err, '^@user_script.- %-', ''), '%s+$', ''))}
end
"""

_TAKE: Final = (
    _REFUSED
    + """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return {0} end
local done = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if done.err then return refused(done) end
return {1, redis.call('HGET', KEYS[2], ARGV[3])}
"""
)

_WRITE: Final = (
    _REFUSED
    + """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local number = redis.call('ZSCORE', KEYS[3], ARGV[2])
if not number then
    number = redis.pcall('INCR', KEYS[4])
    if type(number) == 'table' then return refused(number) end
    redis.call('ZADD', KEYS[3], number, ARGV[2])
end
local done = redis.pcall('HSET', KEYS[2], ARGV[2], ARGV[3])
if type(done) == 'table' then return refused(done) end
if redis.call('ZADD', KEYS[5], number, ARGV[2]) == 1 then
    for place = 6, #KEYS do redis.call('ZREM', KEYS[place], ARGV[2]) end
end
return 1
"""
)

_RENEW: Final = """
local lost = {}
for place, key in ipairs(KEYS) do
    if redis.call('GET', key) == ARGV[place] then redis.call('PEXPIRE', key, ARGV[#ARGV])
    else lost[#lost + 1] = place end
end
return lost
"""

_RELEASE: Final = """
for place, key in ipairs(KEYS) do
    if redis.call('GET', key) == ARGV[place] then redis.call('DEL', key) end
end
return 1
"""


@frozen(eq=False)
class _Claim:
    """A job of this journal: what stands in its lease, and the order of its writes."""

    token: str = field(factory=partial(secrets.token_hex, 16), repr=False)
    turn: asyncio.Lock = field(factory=asyncio.Lock)


class RedisJournal:
    """Keep records in Redis (6.2 or newer) or Valkey, for the workers of many machines.

    A claim is a lease: while the process lives, one task renews all that the journal holds; when it dies, its jobs are
    free after `lease` seconds. Each write is one atomic step that looks whether the claim is still held, so whoever has
    lost it, since the machine stood still for longer, writes nothing more.

    What `write` has returned from is as durable as the server makes it. Redis on its own settings may lose the last
    minutes in a crash: set ``appendonly yes`` with ``appendfsync always``, and ``maxmemory-policy noeviction``. Records
    hold decisions, which are personal data, until somebody removes the keys under the prefix; leases apart, they are a
    dozen, however many jobs there are.

    Use it in one event loop, and close it there by ``async with`` or `aclose`. When the loop has ended, another may
    begin to use it.

    Args:
        server: ``redis://``, ``rediss://`` (TLS) or ``unix://``, as redis-py reads it; or a client of redis-py's own,
            for Sentinel or TLS of your own. The journal opens connections of its own as that client would; keep the
            client for as long.
        prefix: What the names of all keys begin with, one for each batch; the braces keep them on one node of a
            cluster.
        lease: Seconds after which the jobs of a process that died are free. Longer than a process of yours ever stands
            still: what is under way at Veriff cannot be called back.
        timeout: Seconds for a question, after which it fails.

    Raises:
        ConfigurationError: An argument cannot work, or the extra is not installed; from any method, that another loop
            uses the journal.

    Example:
        >>> async with RedisJournal("redis://localhost:6379/0", prefix="{spring}") as journal:
        ...     result = await verify_one(veriff, job, journal=journal)

    See https://redis.io/docs/latest/operate/oss_and_stack/management/persistence.
    """

    def __init__(
        self, server: str | Redis, *, prefix: str = "{veriff-batch}", lease: float = 30.0, timeout: float = 4.0
    ) -> None:
        """Check the arguments; nothing is opened yet."""
        check_number("timeout", timeout, above=True, remedy="give seconds above zero")
        check_number("lease", lease, above=True, remedy="give seconds above zero")
        if not lease < _LONGEST / 1000 or not check_text("prefix", prefix):
            msg = "RedisJournal needs a prefix, and a timeout and lease above zero: leave out what is unsure."
            raise ConfigurationError(msg)
        self._server = RedisConnections(server, timeout, store="RedisJournal", error=JournalError)
        self._prefix = prefix
        self._lease = lease
        self._records = f"{prefix}:records"
        self._order = f"{prefix}:order"
        self._states = {state: f"{prefix}:state:{state}" for state in JobState}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._claims: dict[str, _Claim] = {}
        self._taking: set[str] = set()
        self._under_way: set[asyncio.Task[Any]] = set()
        self._keeping: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        """Show where it keeps, nothing secret."""
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
        """Take a job; see `Journal.claim`."""
        client = self._here()
        if job_id in self._claims or job_id in self._taking:
            raise claimed_error(job_id)
        self._taking.add(job_id)
        try:
            is_mine, record = await self._answered(client, self._take(client, job_id))
        except asyncio.CancelledError:
            await self.release(job_id)
            raise
        finally:
            self._taking.discard(job_id)
        if not is_mine:
            raise claimed_error(job_id)
        return record

    async def release(self, job_id: str) -> None:
        """Give a claim back; see `Journal.release`. What the server does not hear of ends with its lease."""
        require_asyncio()
        claim = self._claims.get(job_id)
        if claim is None or self._server.is_closed:
            return
        self._drop(job_id, claim)
        client = self._here()
        with suppress(JournalError):
            await self._answered(client, self._give_back(client, {job_id: claim}))

    async def write(self, record: JobRecord) -> None:
        """Keep a record; see `Journal.write`."""
        client, job_id = self._here(), record.job_id
        claim = self._claims.get(job_id)
        if claim is None:
            raise claimed_error(job_id)
        others = (key for state, key in self._states.items() if state is not record.state)
        numbers = (self._order, f"{self._prefix}:number")
        keys = (self._key(job_id), self._records, *numbers, self._states[record.state], *others)
        async with claim.turn:  # Connections do not keep an order, and what was written first may not come last.
            asked = _run(client, _WRITE, keys, (claim.token, job_id, dump_record(record)))
            is_mine = await self._answered(client, asked)
        if not is_mine:
            self._drop(job_id, claim)
            msg = f"The claim on job {job_id} has run out before it was renewed: give it again, and a longer lease."
            raise JobClaimedError(msg)

    async def read(self, job_id: str) -> JobRecord | None:
        """Return what is kept of a job; see `Journal.read`."""
        client = self._here()
        found = await self._server.execute(client, self._found(client, [job_id]))
        return found[0] if found else None

    async def iter_records(self, *states: JobState) -> AsyncGenerator[JobRecord]:
        """Yield records; see `Journal.iter_records`."""
        keys = [self._states[state] for state in states] or [self._order]
        last = 0
        while True:
            client = self._here()
            page = await self._server.execute(client, self._page(client, keys, last))
            if not page:
                return
            for record in await self._server.execute(client, self._found(client, list(page))):
                if not states or record.state in states:
                    yield record
            last = max(page.values())

    async def count_by_state(self) -> Mapping[JobState, int]:
        """Count jobs by step; see `Journal.count_by_state`."""
        client = self._here()
        return await self._server.execute(client, self._counted(client))

    async def aclose(self) -> None:
        """Give all claims back, and close the connections; see `Journal.aclose`."""
        require_asyncio()
        if self._server.is_closed or self._loop is not asyncio.get_running_loop():
            await self._server.aclose()
            return
        client = self._here()
        self._server.is_closed = True
        try:
            self._rest()
            if self._under_way:
                await asyncio.wait(self._under_way)
            claims, self._claims = self._claims, {}
            with suppress(JournalError):
                await self._server.execute(client, self._give_back(client, claims))
        finally:
            await self._server.aclose()

    def _here(self) -> Redis:
        """Return the client; claims of a loop that has ended have ended with it."""
        client, loop = self._server.get_client(), asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._keeping = loop, None
            self._claims.clear()
            self._taking.clear()
            self._under_way.clear()
        return client

    async def _answered(self, client: Redis, work: Coroutine[None, None, _T]) -> _T:
        """Ask the server, and hear its answer also when cancelled: what has left cannot be called back."""
        asking = self._begun(self._server.execute(client, work))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            try:
                await asyncio.wait([asking])
            finally:
                asking.cancel()
            raise

    def _begun(self, work: Coroutine[None, None, _T]) -> asyncio.Task[_T]:
        task = asyncio.get_running_loop().create_task(work, name="veriff-async journal")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    async def _take(self, client: Redis, job_id: str) -> tuple[bool, JobRecord | None]:
        claim, key = _Claim(), self._key(job_id)
        answer = await _run(client, _TAKE, (key, self._records), (claim.token, self._milliseconds, job_id))
        is_mine, text, *_ = (*cast("list[bytes | int | None]", answer), None)
        if not is_mine:
            return False, None
        try:
            record = load_record(text) if isinstance(text, bytes) else None
        except JournalError:
            await self._give_back(client, {job_id: claim})
            raise
        self._claims[job_id] = claim
        self._start_keeping()
        return True, record

    def _start_keeping(self) -> None:
        if self._keeping is None and self._claims and not self._server.is_closed:
            self._keeping = self._begun(self._keep())
            self._keeping.add_done_callback(self._restart_keeping)

    def _restart_keeping(self, task: asyncio.Task[None]) -> None:
        """Renew again, when something else than this journal ended that: all its claims would run out unnoticed."""
        if self._keeping is not task:
            return
        self._keeping = None
        problem = "CancelledError" if task.cancelled() else type(task.exception()).__name__
        _LOG.error("the renewal of claims ended with %s; it is started again", problem)
        # Not at once: who cancels all tasks at the end of a loop would find another one.
        task.get_loop().call_later(self._lease / 16, self._start_keeping)

    async def _keep(self) -> None:
        """Renew what is claimed, for as long as anything is."""
        pause = self._lease / 4
        await asyncio.sleep(pause)
        while self._keeping is asyncio.current_task():  # redis-py may swallow that it was cancelled.
            try:
                await self._renew()
                pause = self._lease / 4
            except JournalError:  # If it is too late then, each write is told so by the server itself.
                pause = self._lease / 16
            await asyncio.sleep(pause)

    async def _renew(self) -> None:
        client = self._here()
        claims = iter(tuple(self._claims.items()))
        while some := dict(islice(claims, _AT_ONCE)):
            tokens = [claim.token for claim in some.values()]
            asked = _run(client, _RENEW, tuple(map(self._key, some)), (*tokens, self._milliseconds))
            for place in cast("list[int]", await self._server.execute(client, asked)):
                self._drop(*list(some.items())[place - 1])

    def _drop(self, job_id: str, claim: _Claim) -> None:
        if self._claims.get(job_id) is claim:
            del self._claims[job_id]
        if not self._claims:
            self._rest()

    def _rest(self) -> None:
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.cancel()

    async def _give_back(self, client: Redis, claims: Mapping[str, _Claim]) -> None:
        left = iter(claims.items())
        while some := dict(islice(left, _AT_ONCE)):
            await _run(client, _RELEASE, tuple(map(self._key, some)), tuple(claim.token for claim in some.values()))

    async def _page(self, client: Redis, keys: list[str], last: int) -> dict[str, int]:
        """Return the numbers of the next jobs, the first begun first."""
        async with client.pipeline(transaction=False) as pipe:
            for key in keys:
                after = (key, f"({last}", "+inf", 0, _AT_ONCE)
                pipe.zrangebyscore(*after, withscores=True)  # pyright: ignore[reportUnknownMemberType]  redis-py's own
            answers = cast("list[list[tuple[bytes, float]]]", await pipe.execute())
        found = sorted((int(number), job_id) for answer in answers for job_id, number in answer)
        # A job that goes from one step to another meanwhile may be at both.
        return {str(job_id, "utf-8", "surrogatepass"): number for number, job_id in found[:_AT_ONCE]}

    async def _found(self, client: Redis, job_ids: list[str]) -> list[JobRecord]:
        texts = cast("list[bytes | None]", await client.hmget(self._records, job_ids))
        return [load_record(text) for text in texts if text is not None]

    async def _counted(self, client: Redis) -> dict[JobState, int]:
        async with client.pipeline() as pipe:
            for key in self._states.values():
                pipe.zcard(key)
            counts = cast("list[int]", await pipe.execute())
        return dict(zip(self._states, counts, strict=True))

    @property
    def _milliseconds(self) -> int:
        return max(1, int(self._lease * 1000))

    def _key(self, job_id: str) -> str:
        return f"{self._prefix}:claim:{job_id}"


async def _run(client: Redis, script: str, keys: tuple[str, ...], arguments: tuple[str | bytes | int, ...]) -> object:
    """Run a script; it is sent each time, so that a server which took over knows it too."""
    return await cast("Awaitable[object]", client.eval(script, len(keys), *keys, *arguments))
