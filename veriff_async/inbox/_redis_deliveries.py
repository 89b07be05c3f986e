"""How `RedisInbox` passes events to handlers: scripts that lease, extend and settle, each one step for the server.

A lease takes two steps. The first moves sessions from ``ready`` to ``waiting``, in O(log n) for each, so that no two
processes work on the same ones. The second begins an attempt of the first event of each session. If a process dies in
between, its sessions become ready again when the leases would have ended, and no attempt is counted. A single script
would have to compute the names of the hashes, which clusters do not allow: every key of a script must be declared
(https://redis.io/docs/latest/develop/programmability/eval-intro/).

Each step can be repeated when its response was lost: the hash remembers the token of the call that began the attempt,
and that of the call that settled the last one. A settlement that failed for its caller keeps its token for the next
call with the same lease, which then returns whether one of them was applied.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, cast

from attrs import evolve

from veriff_async._protocol.delivery_schedule import UNREADABLE
from veriff_async._protocol.json.decode import decode_error
from veriff_async.errors import DecodeError, InboxError
from veriff_async.inbox._redis_layout import (
    BATCH_SIZE,
    NO_SESSION,
    DeliveryEntry,
    EventMark,
    dump_outcome,
    member_of,
    new_token,
    session_of,
    split_entry,
)
from veriff_async.models.delivery import Delivery, DeliveryOutcome, DeliveryStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection, Sequence

    from redis.asyncio import Redis

    from veriff_async.inbox._redis_codec import RedisCodec
    from veriff_async.inbox._redis_layout import RedisLayout
    from veriff_async.models.events import WebhookEvent

__all__ = ("RedisDeliveries",)

# Waiting members that a lease makes ready at most; more are made ready by the next one.
_MOVED: Final = 500

# Settlements without a response whose tokens are remembered.
_MAX_FAILED_SETTLEMENTS: Final = 1_000

_FUNCTIONS: Final = """
local function get_time(given)
    if given ~= '' then return tonumber(given) end
    local time = redis.call('TIME')
    return tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local function format(seconds) return string.format('%.6f', seconds) end

local function split(text)
    local parts = {}
    for part in string.gmatch(text .. '\\t', '([^\\t]*)\\t') do parts[#parts + 1] = part end
    return parts
end

-- The error of a full server or a replica, without what Redis 6.2 puts before it: redis-py chooses the class of an
-- error by its first word.
local function get_error(reply)
    if type(reply) ~= 'table' or not reply.err then return nil end
    return {err = (string.gsub(string.gsub(reply.err, '^@user_script.- %-', ''), '%s+$', ''))}
end

-- The clock was set back if the time is further away than twice the delay: see `is_due` of the other inboxes.
local function is_due(due, span, now) return due <= now or due - now > 2 * span end
"""

# Every script begins to write with a command whose error it returns, before anything is changed.
_CLAIM_SCRIPT: Final = (
    _FUNCTIONS
    + """
local ready, waiting, latest, open = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now, limit, seconds, most = get_time(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

local function make_ready(members)
    for _, member in ipairs(members) do
        local position = redis.call('ZSCORE', open, member)
        if position then
            local failure = get_error(redis.pcall('ZADD', ready, position, member))
            if failure then return failure end
        end
        redis.call('ZREM', waiting, member)
        redis.call('ZREM', latest, member)
    end
end

local full = make_ready(redis.call('ZRANGEBYSCORE', waiting, '-inf', format(now), 'LIMIT', 0, most))
    or make_ready(redis.call('ZRANGEBYSCORE', latest, '(' .. format(now), '+inf', 'LIMIT', 0, most))
if full then return full end
local members = redis.call('ZRANGE', ready, 0, limit - 1)
for _, member in ipairs(members) do
    local failure = get_error(redis.pcall('ZADD', waiting, format(now + seconds), member))
    if failure then return failure end
    redis.call('ZADD', latest, format(now - seconds), member)
    redis.call('ZREM', ready, member)
end
return members
"""
)

_LEASE_SCRIPT: Final = (
    _FUNCTIONS
    + """
local ready, waiting, latest, open, counts = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local now, seconds = get_time(ARGV[1]), tonumber(ARGV[2])
local leased = {}
for index = 6, #KEYS do
    local key, at = KEYS[index], 3 + (index - 6) * 3
    local member, number, token = ARGV[at], ARGV[at + 1], ARGV[at + 2]
    if number == '' then number = string.match(redis.call('HGET', key, 'open') or '', '^%d+') end
    local text = number and redis.call('HGET', key, 'delivery:' .. number)
    local entry = split(text or '')
    if entry[1] ~= 'q' and entry[1] ~= 'l' then
        -- The session was deleted, or evicted by a server with too little memory.
        redis.call('ZREM', waiting, member)
        redis.call('ZREM', latest, member)
        redis.call('ZREM', open, member)
    elseif entry[6] == token or is_due(tonumber(entry[4]), tonumber(entry[5]), now) then
        if entry[6] ~= token then
            local was_queued = entry[1] == 'q'
            entry[1], entry[2], entry[6] = 'l', tostring(tonumber(entry[2]) + 1), token
            entry[4], entry[5] = format(now + seconds), format(seconds)
            text = table.concat(entry, '\\t')
            local failure = get_error(redis.pcall('HSET', key, 'delivery:' .. number, text))
            if failure then return failure end
            if was_queued then redis.call('HINCRBY', counts, 'leased', 1) end
            redis.call('ZREM', ready, member)
            redis.call('ZADD', waiting, entry[4], member)
            redis.call('ZADD', latest, format(now - seconds), member)
        end
        local event = redis.call('HGET', key, 'event:' .. number)
        local dedup_key = string.match(event or '', '^(.*)\\n[^\\n]*\\n[^\\n]*$')
        -- Not nil, with which Lua would end the list: the event cannot be read, and becomes a dead letter.
        local mark = dedup_key and redis.call('HGET', key, 'key:' .. dedup_key) or false
        local session = redis.call('HMGET', key, 'touched', 'state', 'submission')
        leased[#leased + 1] = {index - 6, number, text, event, mark, session[1], session[2], session[3]}
    else
        redis.call('ZADD', waiting, entry[4], member)
        redis.call('ZADD', latest, format(tonumber(entry[4]) - 2 * tonumber(entry[5])), member)
    end
end
return leased
"""
)

_EXTEND_SCRIPT: Final = (
    _FUNCTIONS
    + """
local ready, waiting, latest = KEYS[1], KEYS[2], KEYS[3]
local now, seconds = get_time(ARGV[1]), tonumber(ARGV[2])
local held = {}
for index = 4, #KEYS do
    local key, at = KEYS[index], 3 + (index - 4) * 3
    local member, number, token = ARGV[at], ARGV[at + 1], ARGV[at + 2]
    local entry = split(redis.call('HGET', key, 'delivery:' .. number) or '')
    if entry[1] == 'l' and entry[6] == token then
        entry[4], entry[5] = format(now + seconds), format(seconds)
        local failure = get_error(redis.pcall('HSET', key, 'delivery:' .. number, table.concat(entry, '\\t')))
        if failure then return failure end
        redis.call('ZREM', ready, member)
        redis.call('ZADD', waiting, entry[4], member)
        redis.call('ZADD', latest, format(now - seconds), member)
        held[#held + 1] = index - 4
    end
end
return held
"""
)

_SETTLE_SCRIPT: Final = (
    _FUNCTIONS
    + """
local ready, waiting, latest, open, dead, key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local counts, requeued = KEYS[7], KEYS[8]
local now, member, number, token, status = get_time(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local handled_by, error, delay, is_counted = ARGV[6], ARGV[7], tonumber(ARGV[8]), ARGV[9]
local session, expiry, call = ARGV[10], tonumber(ARGV[11]), ARGV[12]
local field = 'delivery:' .. number
local entry = split(redis.call('HGET', key, field) or '')
if entry[7] == call then return 1 end
if entry[1] ~= 'l' or entry[6] ~= token then return 0 end
entry[8] = handled_by
if status ~= 'l' then
    entry[1], entry[6], entry[7], entry[9] = status, '', call, error
    entry[4], entry[5] = format(now + delay), format(delay)
    if is_counted == '0' then entry[2] = tostring(tonumber(entry[2]) - 1) end
end
local failure = get_error(redis.pcall('HSET', key, field, table.concat(entry, '\\t')))
if failure then return failure end
if status == 'l' then return 1 end
redis.call('HINCRBY', counts, 'leased', -1)
redis.call('ZREM', ready, member)
redis.call('ZREM', waiting, member)
redis.call('ZREM', latest, member)
if status == 'q' then
    if delay > 0 then
        redis.call('ZADD', waiting, entry[4], member)
        redis.call('ZADD', latest, format(now - delay), member)
    else
        redis.call('ZADD', ready, entry[3], member)
    end
    return 1
end
redis.call('HINCRBY', counts, 'open', -1)
redis.call('ZREM', requeued, number .. ':' .. session)
if status == 'd' then
    redis.call('ZADD', dead, entry[3], number .. ':' .. session)
    redis.call('PEXPIRE', dead, expiry)
    local numbers = redis.call('HGET', key, 'dead')
    redis.call('HSET', key, 'dead', (numbers and numbers ~= '') and numbers .. ' ' .. number or number)
end
local left = ''
if member == session then
    left = string.match(redis.call('HGET', key, 'open') or '', '^%d+ (.+)$') or ''
    local position = left ~= '' and split(redis.call('HGET', key, 'delivery:' .. string.match(left, '^%d+')))[3]
    if position then
        redis.call('ZADD', open, position, member)
        redis.call('ZADD', ready, position, member)
    else
        redis.call('ZREM', open, member)
    end
else
    local count = tonumber(redis.call('HGET', key, 'open') or 1) - 1
    if count > 0 then left = tostring(count) end
    redis.call('ZREM', open, member)
end
if left ~= '' then
    redis.call('HSET', key, 'open', left)
else
    redis.call('HDEL', key, 'open')
    local touched = tonumber(redis.call('HGET', key, 'touched') or now)
    redis.call('PEXPIRE', key, string.format('%.0f', math.max(60000, (touched - now) * 1000 + expiry)))
end
return 1
"""
)

_REQUEUE_SCRIPT: Final = (
    _FUNCTIONS
    + """
local ready, waiting, latest, open, dead, key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local counts, requeued = KEYS[7], KEYS[8]
local now, member, number, token, session = get_time(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local field = 'delivery:' .. number
local event = redis.call('HGET', key, 'event:' .. number)
if not event or string.match(event, '^(.*)\\n[^\\n]*\\n[^\\n]*$') ~= ARGV[6] then return 0 end
local entry = split(redis.call('HGET', key, field) or '')
if entry[1] == 'q' or entry[1] == 'l' then return entry[6] == token and entry[1] == 'q' and 1 or 0 end
local last = tonumber(redis.call('ZREVRANGE', ready, 0, 0, 'WITHSCORES')[2] or 0)
local position = now
if last >= now and last < now + 1 then position = last + 0.000001 end
position = format(position)
local text = table.concat({'q', '0', position, format(now), '0.000000', token, entry[7] or '', '', ''}, '\\t')
local failure = get_error(redis.pcall('HSET', key, field, text))
if failure then return failure end
redis.call('PERSIST', key)
redis.call('HINCRBY', counts, 'open', 1)
local mark = redis.call('HGET', key, 'key:' .. ARGV[6]) or ''
local recorded = string.match(mark, '^%S+ %d+ ([%d.]+)') or redis.call('HGET', key, 'touched')
redis.call('ZADD', requeued, recorded, number .. ':' .. session)
local left = {}
for other in string.gmatch(redis.call('HGET', key, 'dead') or '', '%d+') do
    if other ~= number then left[#left + 1] = other end
end
if #left > 0 then redis.call('HSET', key, 'dead', table.concat(left, ' ')) else redis.call('HDEL', key, 'dead') end
redis.call('ZREM', dead, number .. ':' .. session)
local numbers = redis.call('HGET', key, 'open') or ''
if member ~= session then
    redis.call('HSET', key, 'open', tostring(tonumber(numbers ~= '' and numbers or 0) + 1))
elseif numbers ~= '' then
    redis.call('HSET', key, 'open', numbers .. ' ' .. number)
    return 1
else
    redis.call('HSET', key, 'open', number)
end
redis.call('ZADD', open, position, member)
redis.call('ZADD', ready, position, member)
return 1
"""
)


class RedisDeliveries:
    """The queue of one inbox."""

    def __init__(self, layout: RedisLayout, codec: RedisCodec) -> None:
        """Take the names of the keys, and what decodes texts."""
        self._layout = layout
        self._codec = codec
        self._failed_settlements: OrderedDict[str, str] = OrderedDict()

    async def lease(self, client: Redis, limit: int, seconds: float) -> Sequence[Delivery[WebhookEvent]]:
        """Lease the first events of sessions that are due."""
        layout, found = self._layout, list[Delivery["WebhookEvent"]]()
        while len(found) < limit:
            wanted = min(limit - len(found), BATCH_SIZE)
            keys = (layout.ready, layout.waiting, layout.latest, layout.open)
            moved = max(wanted, _MOVED)
            response = client.eval(
                _CLAIM_SCRIPT, len(keys), *keys, self._layout.given_time, str(wanted), str(seconds), str(moved)
            )
            members = await cast("Awaitable[list[bytes]]", response)
            if not members:
                break
            found += await self._begin(client, members, seconds)
        return found

    async def extend(
        self, client: Redis, deliveries: Collection[Delivery[WebhookEvent]], seconds: float
    ) -> frozenset[str]:
        """Let leases end later; return those that are held."""
        layout, held, ordered = self._layout, set[str](), list(deliveries)
        for start in range(0, len(ordered), BATCH_SIZE):
            part = ordered[start : start + BATCH_SIZE]
            names = [_names_of(delivery) for delivery in part]
            hashes = [layout.hash_of(member) for member, _, _ in names]
            keys = [layout.ready, layout.waiting, layout.latest, *hashes]
            arguments = [self._layout.given_time, str(seconds), *(text for each in names for text in each)]
            response = client.eval(_EXTEND_SCRIPT, len(keys), *keys, *arguments)
            held |= {part[index].lease for index in await cast("Awaitable[list[int]]", response)}
        return frozenset(held)

    async def settle(self, client: Redis, delivery: Delivery[WebhookEvent], outcome: DeliveryOutcome) -> bool:
        """Store an outcome; return whether the lease was held."""
        session, names = member_of(delivery.event.session_id), _names_of(delivery)
        call = self._failed_settlements.pop(delivery.lease, None) or new_token()
        try:
            return await self._settle(client, session, names, outcome, call)
        except BaseException:
            # Only an attempt can end: after the outcome `leased`, a repetition must store the next outcome.
            if outcome.status is not DeliveryStatus.LEASED:
                self._failed_settlements[delivery.lease] = call
                if len(self._failed_settlements) > _MAX_FAILED_SETTLEMENTS:
                    self._failed_settlements.popitem(last=False)
            raise

    async def requeue(self, client: Redis, session_id: str | None, dedup_key: str) -> bool:
        """Queue a stored event again."""
        layout, session = self._layout, member_of(session_id)
        key, name = layout.hash_of(session), dedup_key.encode("utf-8", "surrogatepass")
        async with client.pipeline(transaction=False) as pipe:
            pipe.time()  # pyright: ignore[reportUnknownMemberType]  as redis-py has it
            pipe.hmget(key, [b"key:" + name, "touched", "open", "first", "after"])
            clock, values = await pipe.execute()
        mark, touched, open_events, first, after = cast("list[bytes | None]", values)
        if mark is None or layout.is_expired(touched, open_events, layout.time(*cast("tuple[int, int]", clock))):
            return False
        number = EventMark.load(mark).number
        if number is None:  # an earlier version stored it
            numbers = range(int(first or 0), int(after or 0))
            bodies = await client.hmget(key, [f"event:{number}" for number in numbers]) if numbers else []  # pyright: ignore[reportUnknownMemberType]  as it has it
            for candidate, body in zip(numbers, cast("list[bytes | None]", bodies), strict=True):
                if body is not None and split_entry(body)[0] == name:
                    number = candidate
        if number is None:
            return False
        queue = (layout.ready, layout.waiting, layout.latest, layout.open, layout.dead)
        keys = (*queue, key, layout.counts, layout.requeued)
        member = f"{session}:{number}" if session_id is None else session
        arguments = (self._layout.given_time, member, str(number), new_token(), session, name)
        response = client.eval(_REQUEUE_SCRIPT, len(keys), *keys, *arguments)
        return bool(await cast("Awaitable[int]", response))

    async def _begin(self, client: Redis, members: Sequence[bytes], seconds: float) -> Sequence[Delivery[WebhookEvent]]:
        """Begin an attempt of the first event of each session."""
        layout = self._layout
        names = [member.decode("utf-8", "surrogatepass") for member in members]
        queue = (layout.ready, layout.waiting, layout.latest, layout.open, layout.counts)
        keys = [*queue, *map(layout.hash_of, names)]
        tokens = [new_token() for _ in names]
        arguments = [self._layout.given_time, str(seconds)]
        for name, token in zip(names, tokens, strict=True):
            arguments += [name, name.partition(":")[2] if name.startswith(NO_SESSION) else "", token]
        response = client.eval(_LEASE_SCRIPT, len(keys), *keys, *arguments)
        found = list[Delivery["WebhookEvent"]]()
        for index, number, *row in await cast("Awaitable[list[list[bytes]]]", response):
            name, token = names[int(index)], tokens[int(index)]
            try:
                found.append(self._load(members[int(index)], f"{number.decode()}:{token}", row))
            except (DecodeError, InboxError) as error:
                if isinstance(error, InboxError) and self._codec.lacks_key(row[1], row[4], row[5]):
                    # Another process, or this one with the right ring, can handle it.
                    raise
                # It can never be handled, and an error here would keep the other events from being handled too.
                session_name = NO_SESSION if name.startswith(NO_SESSION) else name
                await self._settle(client, session_name, (name, number.decode(), token), UNREADABLE, token)
        return found

    def _load(self, member: bytes, lease: str, row: Sequence[bytes | None]) -> Delivery[WebhookEvent]:
        """Return what a script has leased.

        Raises:
            DecodeError: The event or the state cannot be read.
            InboxError: The key of one of them is missing.
        """
        text, body, mark, touched, state, submission = row
        if text is None or body is None or touched is None:
            problem = "expected an event @ $"
            raise decode_error(problem)
        session_id, entry = session_of(member), DeliveryEntry.load(text)
        stored = EventMark("") if mark is None else EventMark.load(mark)
        shown = None
        if state is not None and session_id is not None:
            saved = self._codec.decode_submission(submission, session_id)
            shown = evolve(self._codec.load_state(state, session_id), submission=saved, recorded_at=float(touched))
        return Delivery(
            event=self._codec.load_entry(body, session_id),
            attempt=entry.attempts,
            state=shown,
            ignored=stored.ignored,
            recorded_at=float(touched) if stored.recorded_at is None else stored.recorded_at,
            handled_by=entry.handled_by,
            lease=lease,
        )

    async def _settle(
        self, client: Redis, session: str, names: tuple[str, str, str], outcome: DeliveryOutcome, call: str
    ) -> bool:
        layout = self._layout
        queue = (layout.ready, layout.waiting, layout.latest, layout.open, layout.dead)
        keys = (*queue, layout.hash_of(session), layout.counts, layout.requeued)
        results = (*dump_outcome(outcome.handled_by, outcome.error), str(outcome.delay), str(int(outcome.counts)))
        arguments = (
            self._layout.given_time,
            *names,
            outcome.status.value[0],
            *results,
            session,
            str(layout.expiry),
            call,
        )
        response = client.eval(_SETTLE_SCRIPT, len(keys), *keys, *arguments)
        return bool(await cast("Awaitable[int]", response))


def _names_of(delivery: Delivery[WebhookEvent]) -> tuple[str, str, str]:
    """Return the member of the queue, the number of the event and the token of an attempt."""
    number, _, token = delivery.lease.partition(":")
    session_id = delivery.event.session_id
    return (f"{NO_SESSION}:{number}" if session_id is None else member_of(session_id)), number, token
