"""The search keys and counts of sessions that an earlier version of `RedisInbox` has stored.

A record of such a session adds them. All others are read once, before the first search for a person or a status, or the
first count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from veriff_async._protocol.session_state import load_state
from veriff_async.inbox._redis_layout import load_entry, search_entries, search_prefix, session_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from redis.asyncio import Redis

    from veriff_async.inbox._redis_layout import RedisLayout

__all__ = ("RedisUpgrade",)

# While sessions of an earlier version are as young as this, its processes may still run and add more. Seconds.
_DEPLOYMENT: Final = 3600.0

_READ_SCRIPT: Final = """
local found = {}
for index, key in ipairs(KEYS) do
    local values = redis.call('HMGET', key, 'search', 'first', 'after', 'state')
    local first, after = tonumber(values[2] or 0), tonumber(values[3] or 0)
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
    if values[3] and redis.call('HSETNX', key, 'search', search) == 1 then
        for start = 1, #search, 17 do
            redis.call('ZADD', KEYS[1], 0, string.sub(search, start, start + 16) .. member)
        end
        local hour = string.format('%.0f', math.floor(tonumber(values[1]) / 3600))
        redis.call('HINCRBY', KEYS[2], 'events:' .. hour, tonumber(values[3]) - tonumber(values[2]))
        redis.call('HINCRBY', KEYS[2], 'sessions:' .. hour, 1)
    end
end
for index = 1, 2 do redis.call('PEXPIRE', KEYS[index], ARGV[#ARGV]) end
"""


class RedisUpgrade:
    """The upgrade of one inbox."""

    def __init__(self, layout: RedisLayout) -> None:
        """Take the names of the keys."""
        self._layout = layout

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
            known = set[bytes]()
            if session_of(members[index]) is not None:
                known = known.union(*(search_entries(load_entry(entry)) for entry in entries))
            if state:
                known.add(search_prefix("status", load_state(state).status))
            arguments += [members[index], b"".join(sorted(known))]
        if found:
            written = client.eval(_WRITE_SCRIPT, len(keys), *keys, *arguments, str(layout.expiry))
            await cast("Awaitable[None]", written)
        return found

    async def finish(self, client: Redis, latest: float | None) -> None:
        """Remember that all sessions have search keys, unless an earlier version has stored one lately."""
        now = self._layout.time(*await client.time())  # pyright: ignore[reportUnknownMemberType]  as redis-py has it
        if latest is None or latest < now - _DEPLOYMENT:
            await client.set(self._layout.indexed, 1, px=self._layout.expiry)
