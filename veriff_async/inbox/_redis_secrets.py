"""Whether a process has all secrets with which an encrypted inbox in Redis has made the search keys of its sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from veriff_async.inbox._redis_layout import SEARCH_KEY_SIZE

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from redis.asyncio import Redis

    from veriff_async.inbox._redis_codec import RedisCodec
    from veriff_async.inbox._redis_layout import RedisLayout

__all__ = ("check_secrets",)

# Entries of the index that one script looks at.
_BATCH: Final = 500

# Redis may have deleted a session by itself, and an index still has it.
_OTHER_SECRETS_SCRIPT: Final = """
local limit, is_complete = tonumber(ARGV[1]), 1
for index = 3, #ARGV, 2 do
    local found = redis.call('ZRANGEBYLEX', KEYS[2], ARGV[index], ARGV[index + 1], 'LIMIT', 0, limit)
    for _, entry in ipairs(found) do
        if redis.call('ZSCORE', KEYS[1], string.sub(entry, ARGV[2] + 1)) then return 'other' end
        redis.call('ZREM', KEYS[2], entry)
    end
    if #found == limit then is_complete = 0 end
end
return is_complete == 1 and 'none' or 'more'
"""


async def check_secrets(client: Redis, layout: RedisLayout, codec: RedisCodec) -> None:
    """Check that the search keys of all sessions were made with secrets that this process has.

    Raises:
        InboxError: A search for a value would be incomplete.
    """
    keys = (layout.touched, layout.search)
    ends = [part for low, high in codec.other_secret_ranges() for part in (b"(" + low, b"(" + high)]
    answer = b"more"
    while answer == b"more":
        response = client.eval(_OTHER_SECRETS_SCRIPT, len(keys), *keys, str(_BATCH), str(SEARCH_KEY_SIZE), *ends)
        answer = await cast("Awaitable[bytes]", response)
    if answer != b"none":
        raise codec.incomplete_search_error()
