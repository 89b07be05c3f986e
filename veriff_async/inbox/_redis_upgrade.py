"""The search keys of sessions that an earlier version of `RedisInbox` has stored.

A record of such a session adds them. All others are read once, before the first search for a person.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from veriff_async.inbox._redis_layout import load_entry, search_entries

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
    local values = redis.call('HMGET', key, 'search', 'first', 'after')
    local first, after = tonumber(values[2] or 0), tonumber(values[3] or 0)
    if not values[1] and after > first then
        local entries = {}
        for number = first, after - 1 do
            local entry = redis.call('HGET', key, 'event:' .. number)
            if entry then entries[#entries + 1] = entry end
        end
        found[#found + 1] = {index - 1, entries}
    end
end
return found
"""

# A record in between has stored the keys of all events of its session.
_WRITE_SCRIPT: Final = """
for index = 2, #KEYS do
    local at = index * 2 - 3
    local member, search = ARGV[at], ARGV[at + 1]
    local exists = redis.call('HEXISTS', KEYS[index], 'after') == 1
    if exists and redis.call('HSETNX', KEYS[index], 'search', search) == 1 then
        for start = 1, #search, 17 do
            redis.call('ZADD', KEYS[1], 0, string.sub(search, start, start + 16) .. member)
        end
    end
end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[#ARGV]) then redis.call('PEXPIRE', KEYS[1], ARGV[#ARGV]) end
"""


class RedisUpgrade:
    """The upgrade of one inbox."""

    def __init__(self, layout: RedisLayout) -> None:
        """Take the names of the keys."""
        self._layout = layout

    async def is_done(self, client: Redis) -> bool:
        """Return whether all sessions can be found; an answer that they can is kept for as long as searches come."""
        expiry = self._layout.expiry
        return await cast("Awaitable[bytes | None]", client.getex(self._layout.indexed, px=expiry)) is not None

    async def index(self, client: Redis, members: Sequence[bytes]) -> list[bytes]:
        """Store the search keys of those sessions that have none, and return these sessions."""
        layout = self._layout
        hashes = [layout.hash_of(member.decode("utf-8", "surrogatepass")) for member in members]
        response = client.eval(_READ_SCRIPT, len(hashes), *hashes)
        keys, arguments, found = [layout.search], list[bytes](), list[bytes]()
        for index, entries in await cast("Awaitable[list[tuple[int, list[bytes]]]]", response):
            keys.append(hashes[index])
            found.append(members[index])
            known = frozenset[bytes]().union(*(search_entries(load_entry(entry)) for entry in entries))
            arguments += [members[index], b"".join(sorted(known))]
        if found:
            written = client.eval(_WRITE_SCRIPT, len(keys), *keys, *arguments, str(layout.expiry))
            await cast("Awaitable[None]", written)
        return found

    async def finish(self, client: Redis, latest: float | None) -> None:
        """Remember that all sessions can be found, unless an earlier version has stored one lately."""
        now = self._layout.time(*await client.time())  # pyright: ignore[reportUnknownMemberType]  as redis-py has it
        if latest is None or latest < now - _DEPLOYMENT:
            await client.set(self._layout.indexed, 1, px=self._layout.expiry)
