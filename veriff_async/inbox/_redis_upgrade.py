"""The search keys and counts of sessions that an earlier version of `RedisInbox` has stored.

A record of such a session adds them. All others are read once, before the first search for a person or a status, or the
first count.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, cast

from veriff_async._storage.redis import transaction
from veriff_async.errors import DecodeError, InboxError
from veriff_async.inbox._redis_layout import session_of, split_search

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator, Sequence

    from redis.asyncio import Redis

    from veriff_async.inbox._redis_codec import RedisCodec
    from veriff_async.inbox._redis_layout import RedisLayout

__all__ = ("RedisUpgrade",)

# While sessions of an earlier version are as young as this, its processes may still run and add more. Seconds.
_DEPLOYMENT: Final = 3600.0

_READ_SCRIPT: Final = """
local found = {}
for index, key in ipairs(KEYS) do
    local is_stored = redis.call('TYPE', key).ok == 'hash'
    local values = is_stored and redis.call('HMGET', key, 'search', 'first', 'after', 'state') or {}
    local first, after = tonumber(values[2]) or 0, tonumber(values[3]) or 0
    if not values[1] and after > first then
        local entries = {}
        for number = first, after - 1 do
            local entry = redis.call('HGET', key, 'event:' .. number)
            if entry then entries[#entries + 1] = entry end
        end
        found[#found + 1] = {index - 1, values[4], entries}
    end
end
return found
"""

# A record in between has stored the keys of all events of its session.
_WRITE_SCRIPT: Final = """
for index = 3, #KEYS do
    local key, at = KEYS[index], index * 2 - 5
    local member, search = ARGV[at], ARGV[at + 1]
    local values = redis.call('HMGET', key, 'touched', 'first', 'after')
    local touched, first, after = tonumber(values[1]), tonumber(values[2]), tonumber(values[3])
    if after and redis.call('HSETNX', key, 'search', search) == 1 then
        for start = 1, #search, 17 do
            redis.call('ZADD', KEYS[1], 0, string.sub(search, start, start + 16) .. member)
        end
        if touched and first then
            local hour = string.format('%.0f', math.floor(touched / 3600))
            redis.call('HINCRBY', KEYS[2], 'events:' .. hour, after - first)
            redis.call('HINCRBY', KEYS[2], 'sessions:' .. hour, 1)
        end
    end
end
for index = 1, 2 do redis.call('PEXPIRE', KEYS[index], ARGV[#ARGV]) end
"""


class RedisUpgrade:
    """The upgrade of one inbox."""

    def __init__(self, layout: RedisLayout, codec: RedisCodec) -> None:
        """Take the names of the keys, and what encodes texts."""
        self._layout = layout
        self._codec = codec

    async def is_done(self, client: Redis) -> bool:
        """Return whether all sessions have search keys; that they have is remembered for as long as searches come."""
        expiry = self._layout.expiry
        return await cast("Awaitable[bytes | None]", client.getex(self._layout.indexed, px=expiry)) is not None

    async def index(self, client: Redis, members: Sequence[bytes]) -> list[bytes]:
        """Store the search keys of those sessions that have none, and return these sessions."""
        layout = self._layout
        hashes = [layout.hash_of(member.decode("utf-8", "surrogatepass")) for member in members]
        response = client.eval(_READ_SCRIPT, len(hashes), *hashes)
        keys, arguments, found = [layout.search, layout.counts], list[bytes](), list[bytes]()
        for index, state, entries in await cast("Awaitable[list[tuple[int, bytes | None, list[bytes]]]]", response):
            keys.append(hashes[index])
            found.append(members[index])
            known, session_id = set[bytes](), session_of(members[index])
            if session_id is not None:
                for entry in entries:
                    with self._pass_over_damage(entry):
                        known |= self._codec.search_entries(self._codec.load_entry(entry, session_id))
            if state and session_id is not None:
                with self._pass_over_damage(None, state):
                    known.add(self._codec.status_entry(self._codec.load_state(state, session_id)))
            arguments += [members[index], b"".join(sorted(known))]
        if found:
            written = client.eval(_WRITE_SCRIPT, len(keys), *keys, *arguments, str(layout.expiry))
            await cast("Awaitable[None]", written)
        return found

    @contextmanager
    def _pass_over_damage(self, entry: bytes | None, *stored: bytes) -> Generator[None]:
        """Ignore that a text cannot be read, which then has no search keys, unless a key is missing."""
        try:
            yield
        except (DecodeError, InboxError):
            if self._codec.lacks_key(entry, *stored):
                raise

    async def finish(self, client: Redis, latest: float | None) -> None:
        """Remember that all sessions have search keys, unless an earlier version has stored one lately."""
        now = self._layout.time(*await client.time())  # pyright: ignore[reportUnknownMemberType]  as redis-py has it
        if latest is None or latest < now - _DEPLOYMENT:
            await client.set(self._layout.indexed, 1, px=self._layout.expiry)

    async def reencrypt(self, client: Redis, member: bytes) -> int:
        """Write the texts of a session as they are written now; return how many were not."""
        layout, session_id = self._layout, session_of(member)
        key = layout.hash_of(member.decode("utf-8", "surrogatepass"))
        while True:  # until no other client has changed the session in between
            async with transaction(client) as pipe:
                await pipe.watch(key)
                fields = await cast("Awaitable[dict[bytes, bytes]]", pipe.hgetall(key))
                changes: dict[bytes, bytes] = {}
                for name, value in fields.items():
                    renewed = self._codec.renew(name.decode("utf-8", "surrogatepass"), value, session_id)
                    if renewed is not None:
                        changes[name] = renewed
                count, known = len(changes), split_search(fields.get(b"search", b""))
                # Events with keys of another secret may have been deleted since.
                if not changes and not self._codec.has_other_secret(known):
                    return 0
                wanted = self._compute_search_keys(fields, session_id) if b"search" in fields else known
                pipe.multi()  # type: ignore[no-untyped-call]
                if wanted != known:
                    changes[b"search"] = b"".join(sorted(wanted))
                    if known - wanted:
                        pipe.zrem(layout.search, *(entry + member for entry in known - wanted))
                    if wanted - known:
                        pipe.zadd(layout.search, dict.fromkeys((entry + member for entry in wanted - known), 0))
                pipe.hset(key, mapping=changes)  # type: ignore[arg-type]
                await pipe.execute()
                return count

    def _compute_search_keys(self, fields: dict[bytes, bytes], session_id: str | None) -> set[bytes]:
        """Return the search keys of the stored events and of the state."""
        if session_id is None:
            return set()
        entries = [value for name, value in fields.items() if name.startswith(b"event:")]
        found = set[bytes]().union(
            *(self._codec.search_entries(self._codec.load_entry(entry, session_id)) for entry in entries)
        )
        state = fields.get(b"state")
        if state is not None:
            found.add(self._codec.status_entry(self._codec.load_state(state, session_id)))
        return found
