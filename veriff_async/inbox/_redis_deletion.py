"""How `RedisInbox` deletes sessions: those that are too many or too old, and those of people who are erased."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

from attrs import frozen

from veriff_async._storage.redis import transaction
from veriff_async.inbox._redis_layout import BATCH_SIZE, SEARCH_KEY_SIZE, hour_of, member_of
from veriff_async.inbox._redis_sessions import remove_from_indexes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline

    from veriff_async.inbox._redis_layout import RedisLayout

__all__ = ("RedisDeletion",)

# Entries of an index that are looked at for sessions that Redis has deleted by itself.
_SAMPLE_SIZE: Final = 20

_OLDEST_SCRIPT: Final = """
local now, start, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if now == '' then
    local time = redis.call('TIME')
    now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local old = redis.call('ZCOUNT', KEYS[1], '-inf', string.format('%.6f', tonumber(now) - tonumber(ARGV[5])))
local surplus = math.max(redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[4]), old) - start
if surplus <= 0 then return {} end
return redis.call('ZRANGE', KEYS[1], start, start + math.min(limit, surplus) - 1)
"""

# One round trip for many sessions, all of whose keys are declared, as clusters demand. What another program has written
# under the name of a session is deleted like it.
_READ_MANY_SCRIPT: Final = """
local found = {}
for index, key in ipairs(KEYS) do
    local values = {false, false, false, false, false, false, false}
    if redis.call('TYPE', key).ok == 'hash' then
        values = redis.call('HMGET', key, 'open', 'search', 'dead', 'touched', 'first', 'after', 'gone')
    end
    local first = string.match(values[1] or '', '^%d+')
    values[8] = string.sub(first and redis.call('HGET', key, 'delivery:' .. first) or '', 1, 1)
    found[index] = values
end
return found
"""

# Redis itself deletes the hash of a session that no record has deleted in time, and with it the list of search keys.
_SWEEP_SCRIPT: Final = """
local function sweep(index, get_session)
    for _, member in ipairs(redis.call('ZRANDMEMBER', index, ARGV[1])) do
        if not redis.call('ZSCORE', KEYS[1], get_session(member)) then redis.call('ZREM', index, member) end
    end
end
sweep(KEYS[2], function(member) return string.sub(member, ARGV[2] + 1) end)
sweep(KEYS[3], function(member) return string.match(member, '^%d+:(.*)$') end)
"""


@frozen
class _Stored:
    """The fields of a session that is deleted, and how far the handlers are with its first open event."""

    member: bytes
    open: bytes | None
    search: bytes | None
    dead: bytes | None
    touched: bytes | None
    first: bytes | None
    after: bytes | None
    gone: bytes | None
    first_status: bytes | None


class RedisDeletion:
    """The deletion of sessions of one inbox."""

    def __init__(self, layout: RedisLayout) -> None:
        """Take the names of the keys."""
        self._layout = layout
        # Sessions at the old end that wait for handlers, and must be passed over to find those that can be deleted.
        self._skipped = 0

    async def delete_surplus(self, client: Redis, surplus: int) -> None:
        """Delete sessions that are too many or too old, unless they get another event or wait for handlers."""
        limit, start = min(surplus, BATCH_SIZE), self._skipped
        candidates = await self._find_oldest(client, start, limit)
        if start and not candidates:  # all behind them were deleted, and some of them may be handled by now
            start = 0
            candidates = await self._find_oldest(client, start, limit)
        self._skipped = 0
        if not candidates:
            return
        async with transaction(client) as pipe:
            await pipe.watch(*map(self._hash_of, candidates))
            # Again, as they may have got an event before they were watched.
            again = frozenset(await self._find_oldest(pipe, start, limit))
            stored = await self._read(pipe, [member for member in candidates if member in again])
            deleted = [each for each in stored if not each.open]
            self._skipped = start + len(stored) - len(deleted)
            pipe.multi()  # type: ignore[no-untyped-call]
            for each in deleted:
                self._delete(pipe, each)
            await pipe.execute()
        keys = (self._layout.touched, self._layout.search, self._layout.dead)
        await cast(
            "Awaitable[None]", client.eval(_SWEEP_SCRIPT, len(keys), *keys, str(_SAMPLE_SIZE), str(SEARCH_KEY_SIZE))
        )

    async def erase(self, client: Redis, session_ids: Sequence[str]) -> int:
        """Delete sessions; return how many were stored. `refuse` must have been called before."""
        erased = 0
        members = [member_of(session_id).encode("utf-8", "surrogatepass") for session_id in session_ids]
        while members:
            async with transaction(client) as pipe:
                await pipe.watch(*(self._layout.hash_of(member_of(session_id)) for session_id in session_ids))
                stored = await self._read(pipe, members)
                exist = await pipe.zmscore(self._layout.touched, cast("list[str]", members))
                pipe.multi()  # type: ignore[no-untyped-call]
                for each in stored:
                    self._delete(pipe, each)
                await pipe.execute()
                erased = sum(touched is not None for touched in exist)
                members = []
        return erased

    async def refuse(self, client: Redis, session_ids: Sequence[str], seconds: float) -> None:
        """Store nothing of these sessions any more, for some time, also not of records that have begun."""
        now = self._layout.time(*await client.time())  # pyright: ignore[reportUnknownMemberType]  as redis-py has it
        async with client.pipeline() as pipe:
            for session_id in session_ids:
                # The value counts, and Redis deletes the key some time later.
                expiry = int(seconds * 1000) + 60_000
                pipe.set(self._layout.erased_keys(session_id)[0], now + seconds, px=expiry)
            await pipe.execute()

    async def _find_oldest(self, client: Redis, start: int, limit: int) -> list[bytes]:
        """Return sessions that are too many or too old, the oldest first, without the first ones."""
        retention, now = self._layout.retention, self._layout.given_time
        arguments = (now, str(start), str(limit), str(retention.max_sessions), str(retention.max_age))
        response = client.eval(_OLDEST_SCRIPT, 1, self._layout.touched, *arguments)
        return await cast("Awaitable[list[bytes]]", response)

    async def _read(self, client: Redis, members: Sequence[bytes]) -> list[_Stored]:
        """Return what must be known of sessions to remove them from all indexes and counts."""
        keys = [*map(self._hash_of, members)]
        if not keys:
            return []
        response = client.eval(_READ_MANY_SCRIPT, len(keys), *keys)
        values = await cast("Awaitable[list[list[bytes | None]]]", response)
        return [_Stored(member, *fields) for member, fields in zip(members, values, strict=True)]

    def _hash_of(self, member: bytes) -> str:
        return self._layout.hash_of(member.decode("utf-8", "surrogatepass"))

    def _delete(self, pipe: Pipeline, stored: _Stored) -> None:
        layout, member = self._layout, stored.member
        pipe.unlink(self._hash_of(member))
        pipe.zrem(layout.touched, member)
        remove_from_indexes(pipe, layout, member, stored.search or b"", stored.dead or b"")
        with suppress(ValueError):  # another program has damaged the session, which must be deleted all the same
            events = int(stored.after or 0) - int(stored.first or 0) - int(stored.gone or 0)
            if events and stored.search is not None and stored.touched is not None:
                hour = hour_of(float(stored.touched))
                pipe.hincrby(layout.counts, f"events:{hour}", -events)
                pipe.hincrby(layout.counts, f"sessions:{hour}", -1)
        if stored.open:  # never of events without a session: they are not erased, and open ones are not deleted
            numbers = stored.open.split()
            pipe.hincrby(layout.counts, "open", -len(numbers))
            pipe.hincrby(layout.counts, "leased", -(stored.first_status == b"l"))
            pipe.zrem(layout.requeued, *(number + b":" + member for number in numbers))
            for queue in (layout.open, layout.ready, layout.waiting, layout.latest):
                pipe.zrem(queue, member)
