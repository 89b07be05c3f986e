"""The stream of changed sessions, by which `RedisInbox` wakes the subscribers of all processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from veriff_async.inbox._redis_layout import BATCH_SIZE, STREAM_LENGTH

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection

    from redis.asyncio import Redis

    from veriff_async.inbox._redis_layout import RedisLayout

__all__ = ("BLOCK_SECONDS", "RedisChanges")

# Seconds for which a subscription blocks in the server, before it checks that its position in the stream exists.
BLOCK_SECONDS: Final = 5.0

# Entries of the stream that one run of the script visits: about a millisecond.
_PAGE_LENGTH: Final = 1_000

_DELETE_SCRIPT: Final = """
local wanted = {}
for index = 3, #ARGV do wanted[ARGV[index]] = true end
local entries = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])
for _, entry in ipairs(entries) do
    if entry[2][1] == 'session' and wanted[entry[2][2]] then redis.call('XDEL', KEYS[1], entry[1]) end
end
return #entries == tonumber(ARGV[2]) and entries[#entries][1] or ''
"""


class RedisChanges:
    """The changes of one inbox."""

    def __init__(self, layout: RedisLayout) -> None:
        """Take the names of the keys."""
        self._layout = layout

    async def newest(self, client: Redis) -> bytes:
        """Return the position of the newest change; a subscriber that knows it misses no later change."""
        newest = cast("list[tuple[bytes, object]]", await client.xrevrange(self._layout.changes, count=1))
        if newest:
            return newest[0][0]
        # An entry to refer to: as long as it is in the stream, no change was missed.
        async with client.pipeline() as pipe:
            pipe.xadd(self._layout.changes, {"begun": 1}, maxlen=STREAM_LENGTH)
            pipe.pexpire(self._layout.changes, self._layout.expiry)
            return cast("bytes", (await pipe.execute())[0])

    async def next(self, client: Redis, position: bytes) -> tuple[bytes | None, list[str | None]]:
        """Wait for changes, for some seconds; return the new position, or none if the old one has left the stream.

        It leaves the stream when that is trimmed beyond it, emptied, or replaced by another server's, and when its
        session is erased.
        """
        changes = self._layout.changes
        async with client.pipeline(transaction=False) as pipe:
            # The position is read after XREAD returns, so a trim during the wait is noticed too.
            pipe.xread({changes: position}, count=BATCH_SIZE, block=int(BLOCK_SECONDS * 1000))
            pipe.xrange(changes, position, position)
            response, own_entry = await pipe.execute()
        if not own_entry or not response:
            return position if own_entry else None, []
        entries: list[tuple[bytes, dict[bytes, bytes]]] = response[0][1]
        return entries[-1][0], [
            str(fields[b"session"], "utf-8", "surrogatepass") for _, fields in entries if b"session" in fields
        ]

    async def delete(self, client: Redis, session_ids: Collection[str]) -> None:
        """Delete the entries that name one of these sessions. Subscribers are at most asked to read all states."""
        start: str | bytes = "-"
        while True:
            arguments = (start, str(_PAGE_LENGTH), *session_ids)
            response = client.eval(_DELETE_SCRIPT, 1, self._layout.changes, *arguments)
            last = await cast("Awaitable[bytes]", response)
            if not last:
                return
            start = b"(" + last
