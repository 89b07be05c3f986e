"""How `RedisInbox` finds sessions, lists deliveries, and counts what is stored.

A search begins with the smallest index that has all its results: one session, the sessions of a person, or those that
wait for handlers. If none is small, it walks through all sessions, the latest first, in parts of some hundreds, and
stops when it has found enough. A search with a rare status may therefore read all sessions; scripts compare their
statuses on the server, and no event leaves it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from attrs import frozen

from veriff_async._protocol.inbox_arguments import unknown_page_error
from veriff_async._storage.redis import ResponseError
from veriff_async.inbox._redis_layout import (
    NO_SESSION,
    DeliveryEntry,
    EventMark,
    member_of,
    search_prefix,
    session_of,
)
from veriff_async.models.delivery import DeliveryRecord, DeliveryStatus
from veriff_async.models.enums import Status
from veriff_async.models.inbox_search import InboxStatistics, SessionPage, SessionSearch, SessionSummary

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Iterable, Sequence

    from redis.asyncio import Redis

    from veriff_async.inbox._redis_layout import RedisLayout

__all__ = ("Position", "RedisSearch", "load_page")

# A session and when it was touched, as in the sorted set.
_Member: TypeAlias = tuple[bytes, float]

_EVERYTHING: Final = SessionSearch()

# Sessions of an index that are read at once, to sort them by time. With more, all sessions are walked through.
_SMALL: Final = 10_000

# Sessions for which a script runs once: about two milliseconds, in which the server does nothing else.
_BATCH: Final = 500

# Scores of sessions may be later by this than the time of their last event, so that no two are the same.
_ORDERED_SECONDS: Final = 1.0

_FUNCTIONS: Final = """
-- `load_state` reads the status that is found here: it is the second member of what `dump_state` writes.
local function get_status(state)
    return state and string.match(state, '"status":%s*"([^"]*)"') or ''
end
"""

_SUMMARY_SCRIPT: Final = (
    _FUNCTIONS
    + """
local cutoff, since, till = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local status, delivery = ARGV[4], ARGV[5]
local found = {}

local function has_delivery(key, first, after, open, dead)
    if delivery == 'd' then return dead ~= '' end
    if delivery ~= 'h' and not open then return false end
    for number = first, after - 1 do
        local entry = redis.call('HGET', key, 'delivery:' .. number)
        if entry and string.sub(entry, 1, 1) == delivery then return true end
    end
    return false
end

for index, key in ipairs(KEYS) do
    local values = redis.call('HMGET', key, 'touched', 'first', 'after', 'gone', 'open', 'dead', 'state')
    local touched, open, dead = tonumber(values[1] or 0), values[5], values[6] or ''
    local first, after = tonumber(values[2] or 0), tonumber(values[3] or 0)
    local events = after - first - tonumber(values[4] or 0)
    local actual = get_status(values[7])
    if events > 0 and (touched > cutoff or open) and touched >= since and touched < till
        and (status == '' or status == actual)
        and (delivery == '' or has_delivery(key, first, after, open, dead))
    then
        found[#found + 1] = {index - 1, values[1], actual, events, open or '', dead}
    end
end
return found
"""
)

_RECORDS_SCRIPT: Final = """
local cutoff, status, limit = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local found = {}
for index, key in ipairs(KEYS) do
    local values = redis.call('HMGET', key, 'touched', 'first', 'after', 'open')
    local count = 0
    if values[1] and (tonumber(values[1]) > cutoff or values[4]) then
        for number = tonumber(values[3] or 0) - 1, tonumber(values[2] or 0), -1 do
            local delivery = redis.call('HGET', key, 'delivery:' .. number) or ''
            local event = (status == '' or status == string.sub(delivery, 1, 1))
                and redis.call('HGET', key, 'event:' .. number)
            if event then
                local dedup_key, kind = string.match(event, '^(.*)\\n([^\\n]*)\\n[^\\n]*$')
                local mark = redis.call('HGET', key, 'key:' .. dedup_key) or ''
                found[#found + 1] = {index - 1, number, dedup_key, kind, mark, delivery, values[1]}
                count = count + 1
                if count == limit then break end
            end
        end
    end
end
return found
"""

_COUNT_SCRIPT: Final = """
local cutoff = tonumber(ARGV[1])
local sessions, events, open_events, leased, dead = 0, 0, 0, 0, 0
local oldest, oldest_queued = false, false

-- The numbers of events are in the order of recording, the numbers of those that wait in the order of handling.
local function visit_queue(key, open, touched)
    local lowest
    for number in string.gmatch(open, '%d+') do
        open_events = open_events + 1
        lowest = math.min(lowest or tonumber(number), tonumber(number))
    end
    local first = redis.call('HGET', key, 'delivery:' .. string.match(open, '^%d+')) or ''
    if string.sub(first, 1, 1) == 'l' then leased = leased + 1 end
    local event = redis.call('HGET', key, 'event:' .. lowest) or ''
    local mark = redis.call('HGET', key, 'key:' .. (string.match(event, '^(.*)\\n[^\\n]*\\n[^\\n]*$') or '')) or ''
    local recorded = string.match(mark, '^%S+ %d+ ([%d.]+)') or touched
    if not oldest_queued or tonumber(recorded) < tonumber(oldest_queued) then oldest_queued = recorded end
end

for index, key in ipairs(KEYS) do
    local values = redis.call('HMGET', key, 'touched', 'first', 'after', 'gone', 'open', 'dead')
    local count = tonumber(values[3] or 0) - tonumber(values[2] or 0) - tonumber(values[4] or 0)
    if count > 0 and (tonumber(values[1]) > cutoff or values[5]) then
        sessions, events = sessions + 1, events + count
        if not oldest or tonumber(values[1]) < tonumber(oldest) then oldest = values[1] end
        for _ in string.gmatch(values[6] or '', '%d+') do dead = dead + 1 end
        if values[5] and key ~= ARGV[2] then visit_queue(key, values[5], values[1]) end
    end
end
return {sessions, events, open_events, leased, dead, oldest or '', oldest_queued or ''}
"""

_COUNT_WITHOUT_SESSION_SCRIPT: Final = """
local open_events, leased, oldest_queued = 0, 0, ''
for number = tonumber(ARGV[1]), tonumber(ARGV[2]) - 1 do
    local status = string.sub(redis.call('HGET', KEYS[1], 'delivery:' .. number) or '', 1, 1)
    if status == 'q' or status == 'l' then
        open_events = open_events + 1
        if status == 'l' then leased = leased + 1 end
        if oldest_queued == '' then
            local event = redis.call('HGET', KEYS[1], 'event:' .. number) or ''
            local dedup_key = string.match(event, '^(.*)\\n[^\\n]*\\n[^\\n]*$') or ''
            local mark = redis.call('HGET', KEYS[1], 'key:' .. dedup_key) or ''
            oldest_queued = string.match(mark, '^%S+ %d+ ([%d.]+)') or ''
        end
    end
end
return {open_events, leased, oldest_queued}
"""


@frozen
class Position:
    """Where a page begins: after a session."""

    touched: float
    member: bytes

    def dump(self) -> str:
        """Return it as the text of `SessionPage.next_page`."""
        return json.dumps([self.touched, str(self.member, "utf-8", "surrogatepass")])


def load_page(page: str | None) -> Position | None:
    """Return where a page begins.

    Raises:
        InvalidArgumentError: It is not from this kind of inbox.
    """
    if page is None:
        return None
    try:
        touched, member = cast("list[object]", json.loads(page))
        return Position(float(cast("float", touched)), cast("str", member).encode("utf-8", "surrogatepass"))
    except (ValueError, TypeError, AttributeError, RecursionError):
        error = unknown_page_error()
    raise error


class RedisSearch:
    """The searches in one inbox."""

    def __init__(self, layout: RedisLayout) -> None:
        """Take the names of the keys."""
        self._layout = layout

    async def find_sessions(
        self, client: Redis, search: SessionSearch, limit: int, position: Position | None
    ) -> SessionPage:
        """Return a part of the sessions that a search finds."""
        cutoff, found = await self._cutoff(client), list[tuple[SessionSummary, Position]]()
        batch = _BATCH if search.status or search.delivery or search.vendor_data or search.end_user_id else limit + 1
        async for members in self._candidates(client, search, position, min(batch, _BATCH)):
            wanted = await self._with_values(client, search, members)
            found += await self._summaries(client, search, wanted, cutoff)
            if len(found) > limit:
                break
        # One more than wanted shows whether another part follows.
        next_page = found[limit - 1][1].dump() if len(found) > limit else None
        return SessionPage(sessions=tuple(summary for summary, _ in found[:limit]), next_page=next_page)

    async def find_deliveries(
        self, client: Redis, session_id: str | None, status: DeliveryStatus | None, limit: int
    ) -> Sequence[DeliveryRecord]:
        """Return how far the handlers are with events, the latest first."""
        cutoff = await self._cutoff(client)
        found: list[tuple[float, int, DeliveryRecord]] = []
        async for members in self._delivery_candidates(client, session_id, status):
            # All events of the sessions that follow are older than the last event of the first of them.
            if len(found) == limit and members[0][1] < found[-1][0]:
                break
            found += await self._records(client, [member for member, _ in members], status, limit, cutoff)
            found = sorted(found, key=lambda item: item[:2], reverse=True)[:limit]
        return [record for *_, record in found]

    async def statistics(self, client: Redis) -> InboxStatistics:
        """Count what is stored, by visiting every session on the server."""
        layout, now = self._layout, await self._time(client)
        cutoff, key = now - layout.retention.max_age, layout.hash_of(NO_SESSION)
        totals, oldest, oldest_queued = [0] * 5, list[float](), list[float]()
        async for members in self.walk(client, _EVERYTHING, None, _BATCH):
            keys = [self._hash_of(member) for member, _ in members]
            response = client.eval(_COUNT_SCRIPT, len(keys), *keys, f"{cutoff:.6f}", key)
            *counts, touched, queued_at = await cast("Awaitable[list[int | bytes]]", response)
            totals = [total + int(count) for total, count in zip(totals, counts, strict=True)]
            oldest += [float(touched)] if touched else []
            oldest_queued += [float(queued_at)] if queued_at else []
        first, after = await cast("Awaitable[list[bytes | None]]", client.hmget(key, ["first", "after"]))
        for start in range(int(first or 0), int(after or 0), _BATCH):
            end = min(start + _BATCH, int(after or 0))
            response = client.eval(_COUNT_WITHOUT_SESSION_SCRIPT, 1, key, str(start), str(end))
            open_events, leased, queued_at = await cast("Awaitable[list[int | bytes]]", response)
            totals[2], totals[3] = totals[2] + int(open_events), totals[3] + int(leased)
            oldest_queued += [float(queued_at)] if queued_at else []
        return InboxStatistics(
            sessions=totals[0],
            events=totals[1],
            queued=max(0, totals[2] - totals[3]),
            leased=totals[3],
            dead=totals[4],
            oldest_queued_age=max(0.0, now - min(oldest_queued)) if oldest_queued else None,
            oldest_session_age=max(0.0, now - min(oldest)) if oldest else None,
            bytes=await self._used_memory(client),
        )

    async def _time(self, client: Redis) -> float:
        return self._layout.time(*await client.time())  # pyright: ignore[reportUnknownMemberType]  as redis-py has it

    async def _cutoff(self, client: Redis) -> float:
        """Return the time before which sessions are too old to be shown."""
        return await self._time(client) - self._layout.retention.max_age

    def _hash_of(self, member: bytes) -> str:
        return self._layout.hash_of(member.decode("utf-8", "surrogatepass"))

    async def _candidates(
        self, client: Redis, search: SessionSearch, position: Position | None, batch: int
    ) -> AsyncGenerator[list[_Member]]:
        """Yield all sessions that a search may find, and others, the latest first."""
        members = await self._indexed_members(client, search)
        if members is None:
            async for part in self.walk(client, search, position, batch):
                yield part
            return
        found = await self._sorted(client, members)
        after = [each for each in found if position is None or _order(each) < (position.touched, position.member)]
        for start in range(0, len(after), _BATCH):
            yield after[start : start + _BATCH]

    async def _indexed_members(self, client: Redis, search: SessionSearch) -> Iterable[bytes] | None:
        """Return the sessions of a small index that has all results, if there is one."""
        layout = self._layout
        if search.session_id is not None:
            return [member_of(search.session_id).encode("utf-8", "surrogatepass")]
        for prefix in _prefixes(search):
            bounds = b"[" + prefix, b"(" + prefix + b"\xff"
            if await client.zlexcount(layout.search, *bounds) <= _SMALL:
                found = cast("list[bytes]", await client.zrangebylex(layout.search, *bounds))  # pyright: ignore[reportUnknownMemberType]
                return [member[len(prefix) :] for member in found]
        if search.delivery is DeliveryStatus.DEAD:
            return await self._small(client, layout.dead)
        if search.delivery in {DeliveryStatus.QUEUED, DeliveryStatus.LEASED}:
            return await self._small(client, layout.open)
        return None

    async def _small(self, client: Redis, index: str) -> set[bytes] | None:
        """Return the sessions of the queue or of the dead events, if these are few."""
        if await client.zcard(index) > _SMALL:
            return None
        members = cast("list[bytes]", await client.zrange(index, 0, -1))  # pyright: ignore[reportUnknownMemberType]  as it has it
        if index == self._layout.dead:
            return {member.partition(b":")[2] for member in members}
        none = NO_SESSION.encode()
        return {none if member.startswith(none + b":") else member for member in members}

    async def _sorted(self, client: Redis, members: Iterable[bytes]) -> list[_Member]:
        """Return sessions with their times, the latest first."""
        ordered, found = list(members), list[_Member]()
        for start in range(0, len(ordered), _BATCH):
            part = ordered[start : start + _BATCH]
            times = await client.zmscore(self._layout.touched, cast("list[str]", part))
            found += [(member, time) for member, time in zip(part, times, strict=True) if time is not None]
        return sorted(found, key=_order, reverse=True)

    async def walk(
        self, client: Redis, search: SessionSearch, position: Position | None, batch: int
    ) -> AsyncGenerator[list[_Member]]:
        """Yield all sessions of some time, the latest first."""
        lowest: float | str = "-inf" if search.since is None else search.since
        highest: float | str = "+inf" if search.until is None else search.until + _ORDERED_SECONDS
        if position is not None and (search.until is None or position.touched < float(highest)):
            highest = position.touched
        passed = 0  # sessions with exactly the highest time that were yielded
        while True:
            response = await client.zrevrangebyscore(  # pyright: ignore[reportUnknownMemberType]  as it has it
                self._layout.touched, highest, lowest, start=passed, num=batch, withscores=True
            )
            members = cast("list[_Member]", response)
            if not members:
                return
            last = members[-1][1]
            passed = sum(time == last for _, time in members) + (passed if last == highest else 0)
            highest = last
            if after := [
                each for each in members if position is None or _order(each) < (position.touched, position.member)
            ]:
                yield after

    async def _with_values(self, client: Redis, search: SessionSearch, members: list[_Member]) -> list[_Member]:
        """Return those sessions whose events have the values of a search."""
        for prefix in _prefixes(search):
            names = [prefix + member for member, _ in members]
            scores = await client.zmscore(self._layout.search, cast("list[str]", names))
            members = [member for member, score in zip(members, scores, strict=True) if score is not None]
            if not members:
                break
        return members

    async def _summaries(
        self, client: Redis, search: SessionSearch, members: list[_Member], cutoff: float
    ) -> list[tuple[SessionSummary, Position]]:
        """Return what is shown of those sessions that match."""
        keys = [self._hash_of(member) for member, _ in members]
        if not keys:
            return []
        since = "-1e300" if search.since is None else f"{search.since:.6f}"
        until = "1e300" if search.until is None else f"{search.until:.6f}"
        conditions = (since, until, search.status or "", search.delivery.value[0] if search.delivery else "")
        response = client.eval(_SUMMARY_SCRIPT, len(keys), *keys, f"{cutoff:.6f}", *conditions)
        found = list[tuple[SessionSummary, Position]]()
        for index, touched, status, events, open_events, dead in await cast("Awaitable[list[list[bytes]]]", response):
            member, score = members[int(index)]
            session_id = session_of(member)
            summary = SessionSummary(
                session_id=session_id,
                status=Status(status.decode()) if status else None,
                events=int(events),
                queued=int(open_events or 0) if session_id is None else len(open_events.split()),
                dead=len(dead.split()),
                recorded_at=float(touched),
            )
            found.append((summary, Position(score, member)))
        return found

    async def _delivery_candidates(
        self, client: Redis, session_id: str | None, status: DeliveryStatus | None
    ) -> AsyncGenerator[list[_Member]]:
        """Yield the sessions whose events may be in a status, the latest first."""
        members: Iterable[bytes] | None = None
        if session_id is not None:
            members = [member_of(session_id).encode("utf-8", "surrogatepass")]
        elif status is DeliveryStatus.DEAD:
            members = await self._small(client, self._layout.dead)
        elif status in {DeliveryStatus.QUEUED, DeliveryStatus.LEASED}:
            members = await self._small(client, self._layout.open)
        if members is None:
            async for part in self.walk(client, _EVERYTHING, None, _BATCH):
                yield part
            return
        found = await self._sorted(client, members)
        for start in range(0, len(found), _BATCH):
            yield found[start : start + _BATCH]

    async def _records(
        self, client: Redis, members: Sequence[bytes], status: DeliveryStatus | None, limit: int, cutoff: float
    ) -> list[tuple[float, int, DeliveryRecord]]:
        """Return the records of sessions, each with what it is sorted by."""
        keys = [*map(self._hash_of, members)]
        arguments = (f"{cutoff:.6f}", status.value[0] if status else "", str(limit))
        response = client.eval(_RECORDS_SCRIPT, len(keys), *keys, *arguments)
        found = list[tuple[float, int, DeliveryRecord]]()
        for index, number, *row in await cast("Awaitable[list[list[bytes]]]", response):
            record = _load_record(session_of(members[int(index)]), row)
            found.append((record.recorded_at, int(number), record))
        return found

    async def _used_memory(self, client: Redis) -> int | None:
        try:
            return int(cast("dict[str, int]", await client.info("memory"))["used_memory"])  # pyright: ignore[reportUnknownMemberType]
        except ResponseError:  # the user of the connection may not ask
            return None


def _prefixes(search: SessionSearch) -> list[bytes]:
    values = {"vendor_data": search.vendor_data, "end_user_id": search.end_user_id}
    return [search_prefix(name, value) for name, value in values.items() if value is not None]


def _order(member: _Member) -> tuple[float, bytes]:
    return member[1], member[0]


def _load_record(session_id: str | None, row: Sequence[bytes]) -> DeliveryRecord:
    dedup_key, kind, mark, delivery, touched = row
    recorded_at = EventMark.load(mark).recorded_at
    entry = DeliveryEntry.load(delivery) if delivery else None
    is_open = entry is not None and entry.status in {DeliveryStatus.QUEUED, DeliveryStatus.LEASED}
    return DeliveryRecord(
        session_id=session_id,
        dedup_key=str(dedup_key, "utf-8", "surrogatepass"),
        kind=kind.decode(),
        status=entry.status if entry else None,
        attempts=entry.attempts if entry else 0,
        recorded_at=float(touched) if recorded_at is None else recorded_at,
        due_at=entry.due_at if entry and is_open else None,
        error=entry.error if entry else None,
        handled_by=entry.handled_by if entry else frozenset(),
    )
