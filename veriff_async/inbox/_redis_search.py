"""How `RedisInbox` finds sessions, lists deliveries, and counts what is stored.

A search begins with the smallest index that has all its results: one session, the sessions of a person, those in a
status, or those that wait for handlers. If none is small, it walks through all sessions, the latest first, in parts of
some hundreds, and stops when it has found enough, which is soon, as many sessions match. No event leaves the server.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from math import isnan
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from attrs import frozen

from veriff_async._protocol.delivery_schedule import UNREADABLE
from veriff_async._protocol.inbox_arguments import unknown_page_error
from veriff_async._storage.redis import ResponseError
from veriff_async.encryption import is_encrypted
from veriff_async.errors import DecodeError, InboxError
from veriff_async.inbox._redis_layout import (
    BATCH_SIZE,
    NO_SESSION,
    SEARCH_KEY_SIZE,
    SECONDS_PER_HOUR,
    STATUS_LETTERS,
    DeliveryEntry,
    EventMark,
    hour_of,
    member_of,
    session_of,
    split_search,
)
from veriff_async.inbox._redis_search_scripts import COUNT_SCRIPT, RECORDS_SCRIPT, SUMMARY_SCRIPT
from veriff_async.inbox._redis_secrets import check_secrets
from veriff_async.models.delivery import DeliveryRecord, DeliveryStatus
from veriff_async.models.enums import Status
from veriff_async.models.inbox_search import InboxStatistics, SessionPage, SessionSearch, SessionSummary

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Iterable, Sequence

    from redis.asyncio import Redis

    from veriff_async.inbox._redis_codec import RedisCodec
    from veriff_async.inbox._redis_layout import RedisLayout

__all__ = ("RedisPageStart", "RedisSearch", "load_page")

# A session and when it was touched, as in the sorted set.
_Member: TypeAlias = tuple[bytes, float]

_EVERYTHING: Final = SessionSearch()

# Sessions of an index that are read at once, to sort them by time. With more, all sessions are walked through.
_SMALL: Final = 10_000

# Sessions for which a script runs once: some milliseconds, in which the server does nothing else.
_BATCH: Final = 500

# Sessions among which the eldest one is looked for first.
_FEW: Final = 20

# The status that a script returns for a state without one.
_UNREADABLE_STATUS: Final = b"?"

# Scores of sessions may be later by this than the time of their last event, so that no two are the same.
_ORDERED_SECONDS: Final = 1.0


@frozen
class _Counts:
    """Sessions, their events, those of them that are dead, and when the first session was touched."""

    sessions: int
    events: int
    dead: int
    oldest: float | None


@frozen
class RedisPageStart:
    """Where a page begins: after a session."""

    touched: float
    member: bytes

    def dump(self) -> str:
        """Return it as the text of `SessionPage.next_page`."""
        return json.dumps([self.touched, str(self.member, "utf-8", "surrogatepass")])


def load_page(page: str | None) -> RedisPageStart | None:
    """Return where a page begins.

    Raises:
        InvalidArgumentError: It is not from this kind of inbox.
    """
    if page is None:
        return None
    with suppress(ValueError, TypeError, RecursionError):
        touched, member = cast("list[object]", json.loads(page))
        if isinstance(touched, float) and not isnan(touched) and isinstance(member, str):
            return RedisPageStart(touched, member.encode("utf-8", "surrogatepass"))
    raise unknown_page_error()


class RedisSearch:
    """The searches in one inbox."""

    def __init__(self, layout: RedisLayout, codec: RedisCodec) -> None:
        """Take the names of the keys, and what decodes texts."""
        self._layout = layout
        self._codec = codec

    async def find_sessions(
        self, client: Redis, search: SessionSearch, limit: int, position: RedisPageStart | None
    ) -> SessionPage:
        """Return a part of the sessions that a search finds."""
        cutoff, found = await self._cutoff(client), list[tuple[SessionSummary, RedisPageStart]]()
        batch = _BATCH if search.status or search.delivery or search.vendor_data or search.end_user_id else limit + 1
        async for members in self._candidates(client, search, position, min(batch, _BATCH)):
            wanted = await self._with_values(client, search, members)
            found += await self._summaries(client, search, wanted, cutoff)
            if len(found) > limit:
                break
        if self._conditions(search):
            # Afterwards: a process with other keys may have written sessions again in the meantime.
            await check_secrets(client, self._layout, self._codec)
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
            found += await self._records(client, members, status, limit, cutoff)
            found = sorted(found, key=lambda item: item[:2], reverse=True)[:limit]
        return [record for *_, record in found]

    async def statistics(self, client: Redis) -> InboxStatistics:
        """Count what is stored: by the counts of whole hours, and by visiting the sessions that are nearly too old."""
        layout, now = self._layout, await self._time(client)
        cutoff = now - layout.retention.max_age
        end = (hour_of(cutoff) + 1) * SECONDS_PER_HOUR
        counts = await self._read_counts(client, hour_of(cutoff))
        old = await self._count(client, self.walk(client, SessionSearch(until=end), None, _BATCH), cutoff, end)
        dead = await self._small(client, layout.dead, None)
        dead_members = self._parts([(member, now) for member in dead or ()])
        eldest = old.oldest
        # The first session is the eldest one, unless sessions without events or too old ones come before.
        for count in (_FEW, _BATCH):
            if eldest is None:
                response = await client.zrange(layout.touched, 0, count - 1, withscores=True)  # pyright: ignore[reportUnknownMemberType]  as it has it
                eldest = (await self._count(client, self._parts(cast("list[_Member]", response)), cutoff)).oldest
        queued_at = await self._find_oldest_queued(client)
        open_events, leased = counts.get("open", 0), counts.get("leased", 0)
        return InboxStatistics(
            sessions=old.sessions + counts.get("sessions", 0),
            events=old.events + counts.get("events", 0),
            queued=0 if queued_at is None else max(0, open_events - leased),
            leased=0 if queued_at is None else leased,
            dead=(await self._count(client, dead_members, cutoff)).dead,
            oldest_queued_age=None if queued_at is None else max(0.0, now - queued_at),
            oldest_session_age=None if eldest is None else max(0.0, now - eldest),
            bytes=await self._used_memory(client),
        )

    async def _read_counts(self, client: Redis, last_old_hour: int) -> Counter[str]:
        """Return the counts, those of hours after one as sums; delete those of hours before it."""
        key, sums, outdated = self._layout.counts, Counter[str](), list[bytes]()
        for name, count in (await cast("Awaitable[dict[bytes, bytes]]", client.hgetall(key))).items():
            kind, _, hour = name.decode().partition(":")
            if not hour or int(hour) > last_old_hour:
                sums[kind] += int(count)
            elif int(hour) < last_old_hour:
                outdated.append(name)
        if outdated:
            await client.hdel(key, *outdated)
        return sums

    async def _count(
        self, client: Redis, parts: AsyncGenerator[list[_Member]], cutoff: float, until: float = 1e300
    ) -> _Counts:
        """Return the counts of sessions that are visited."""
        totals, oldest = [0] * 3, list[float]()
        async for members in parts:
            keys = [self._hash_of(member) for member, _ in members]
            response = client.eval(
                COUNT_SCRIPT, len(keys), *keys, f"{cutoff:.6f}", f"{until:.6f}", *_format_times(members)
            )
            *counts, touched = await cast("Awaitable[list[int | bytes]]", response)
            totals = [total + int(count) for total, count in zip(totals, counts, strict=True)]
            oldest += [float(touched)] if touched else []
        return _Counts(totals[0], totals[1], totals[2], min(oldest, default=None))

    async def _parts(self, members: list[_Member]) -> AsyncGenerator[list[_Member]]:
        for start in range(0, len(members), _BATCH):
            yield members[start : start + _BATCH]

    async def _find_oldest_queued(self, client: Redis) -> float | None:
        """Return when the oldest event was recorded that is queued or leased."""
        queue = cast("list[_Member]", await client.zrange(self._layout.open, 0, 0, withscores=True))  # pyright: ignore[reportUnknownMemberType]  as it has it
        if not queue:
            return None
        requeued = cast("list[_Member]", await client.zrange(self._layout.requeued, 0, 0, withscores=True))  # pyright: ignore[reportUnknownMemberType]  as it has it
        return min(time for _, time in queue + requeued)

    async def _time(self, client: Redis) -> float:
        return self._layout.time(*await client.time())  # pyright: ignore[reportUnknownMemberType]  as redis-py has it

    async def _cutoff(self, client: Redis) -> float:
        """Return the time before which sessions are too old to be shown."""
        return await self._time(client) - self._layout.retention.max_age

    def _hash_of(self, member: bytes) -> str:
        return self._layout.hash_of(member.decode("utf-8", "surrogatepass"))

    async def _candidates(
        self, client: Redis, search: SessionSearch, position: RedisPageStart | None, batch: int
    ) -> AsyncGenerator[list[_Member]]:
        """Yield all sessions that a search may find, and others, the latest first."""
        members = await self._indexed_members(client, search)
        if members is None:
            async for part in self.walk(client, search, position, batch):
                yield part
            return
        found = await self._sort(client, members)
        after = [each for each in found if position is None or _order(each) < (position.touched, position.member)]
        for start in range(0, len(after), _BATCH):
            yield after[start : start + _BATCH]

    async def _indexed_members(self, client: Redis, search: SessionSearch) -> Iterable[bytes] | None:
        """Return the sessions of a small index that has all results, if there is one."""
        layout = self._layout
        if search.session_id is not None:
            return [member_of(search.session_id).encode("utf-8", "surrogatepass")]
        for prefixes in self._conditions(search):
            bounds = [(b"[" + prefix, b"(" + prefix + b"\xff") for prefix in prefixes]
            if sum([await client.zlexcount(layout.search, *each) for each in bounds]) <= _SMALL:
                found = [await client.zrangebylex(layout.search, *each) for each in bounds]  # pyright: ignore[reportUnknownMemberType]
                return {cast("bytes", member)[SEARCH_KEY_SIZE:] for members in found for member in members}
        if search.delivery is DeliveryStatus.DEAD:
            return await self._small(client, layout.dead)
        if search.delivery in {DeliveryStatus.QUEUED, DeliveryStatus.LEASED}:
            return await self._small(client, layout.open)
        return None

    async def _small(self, client: Redis, index: str, limit: int | None = _SMALL) -> set[bytes] | None:
        """Return the sessions of the queue or of the dead events, if these are few."""
        if limit is not None and await client.zcard(index) > limit:
            return None
        members = cast("list[bytes]", await client.zrange(index, 0, -1))  # pyright: ignore[reportUnknownMemberType]  as it has it
        if index == self._layout.dead:
            return {member.partition(b":")[2] for member in members}
        none = NO_SESSION.encode()
        return {none if member.startswith(none + b":") else member for member in members}

    async def _sort(self, client: Redis, members: Iterable[bytes]) -> list[_Member]:
        """Return sessions with their times, the latest first."""
        ordered, found = list(members), list[_Member]()
        for start in range(0, len(ordered), _BATCH):
            part = ordered[start : start + _BATCH]
            times = await client.zmscore(self._layout.touched, cast("list[str]", part))
            found += [(member, time) for member, time in zip(part, times, strict=True) if time is not None]
        return sorted(found, key=_order, reverse=True)

    async def walk(
        self, client: Redis, search: SessionSearch, position: RedisPageStart | None, batch: int
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
        for prefixes in self._conditions(search):
            found = set[bytes]()
            for prefix in prefixes:
                names = [prefix + member for member, _ in members]
                scores = await client.zmscore(self._layout.search, cast("list[str]", names)) if names else []
                found |= {member for (member, _), score in zip(members, scores, strict=True) if score is not None}
            members = [each for each in members if each[0] in found]
        return members

    def _conditions(self, search: SessionSearch) -> list[list[bytes]]:
        """Return for each condition the search keys of which a session has one."""
        values = {"vendor_data": search.vendor_data, "end_user_id": search.end_user_id, "status": search.status}
        return [self._codec.find_entries(name, value) for name, value in values.items() if value is not None]

    def _read_status(self, text: bytes, search: bytes, session_id: str | None) -> Status | None:
        """Return the status of a session: that of the index if its state cannot be read."""
        with suppress(DecodeError, InboxError, ValueError):
            if is_encrypted(text) and session_id is not None:
                return self._codec.load_state(text, session_id).status
            if text != _UNREADABLE_STATUS:
                return Status(text.decode()) if text else None
        known = split_search(search)
        return next((each for each in Status if not known.isdisjoint(self._codec.find_entries("status", each))), None)

    async def _summaries(
        self, client: Redis, search: SessionSearch, members: list[_Member], cutoff: float
    ) -> list[tuple[SessionSummary, RedisPageStart]]:
        """Return what is shown of those sessions that match."""
        keys = [self._hash_of(member) for member, _ in members]
        if not keys:
            return []
        since = "-1e300" if search.since is None else f"{search.since:.6f}"
        until = "1e300" if search.until is None else f"{search.until:.6f}"
        conditions = (since, until, search.status or "", search.delivery.value[0] if search.delivery else "")
        response = client.eval(SUMMARY_SCRIPT, len(keys), *keys, f"{cutoff:.6f}", *conditions, *_format_times(members))
        found = list[tuple[SessionSummary, RedisPageStart]]()
        for index, touched, status, events, *queue in await cast("Awaitable[list[list[bytes]]]", response):
            member, score = members[int(index)]
            session_id, (open_events, dead, keys_of_search) = session_of(member), queue
            shown = self._read_status(status, keys_of_search, session_id)
            if search.status not in {None, shown}:
                continue
            summary = SessionSummary(
                session_id=session_id,
                status=shown,
                events=int(events),
                queued=int(open_events or 0) if session_id is None else len(open_events.split()),
                dead=len(dead.split()),
                recorded_at=float(touched),
            )
            found.append((summary, RedisPageStart(score, member)))
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
            async for part in self.walk(client, _EVERYTHING, None, BATCH_SIZE):
                yield part
            return
        found = await self._sort(client, members)
        for start in range(0, len(found), BATCH_SIZE):
            yield found[start : start + BATCH_SIZE]

    async def _records(
        self, client: Redis, members: Sequence[_Member], status: DeliveryStatus | None, limit: int, cutoff: float
    ) -> list[tuple[float, int, DeliveryRecord]]:
        """Return the records of sessions, each with what it is sorted by."""
        keys = [self._hash_of(member) for member, _ in members]
        conditions = (f"{cutoff:.6f}", status.value[0] if status else "", str(limit))
        arguments = (*conditions, self._layout.hash_of(NO_SESSION), *_format_times(members))
        response = client.eval(RECORDS_SCRIPT, len(keys), *keys, *arguments)
        found = list[tuple[float, int, DeliveryRecord]]()
        for index, number, *row in await cast("Awaitable[list[list[bytes]]]", response):
            record = _load_record(session_of(members[int(index)][0]), row)
            found.append((record.recorded_at, int(number), record))
        return found

    async def _used_memory(self, client: Redis) -> int | None:
        try:
            return int(cast("dict[str, int]", await client.info("memory"))["used_memory"])  # pyright: ignore[reportUnknownMemberType]
        except ResponseError:  # the user of the connection may not ask
            return None


def _order(member: _Member) -> tuple[float, bytes]:
    return member[1], member[0]


def _format_times(members: Sequence[_Member]) -> list[str]:
    """Return the times of sessions, for those whose own time is damaged."""
    return [f"{time:.6f}" for _, time in members]


def _load_record(session_id: str | None, row: Sequence[bytes]) -> DeliveryRecord:
    """Return a record, with as much as can be read of it."""
    dedup_key, kind, mark, letter, delivery, touched, is_damaged = row
    entry = recorded_at = None
    with suppress(ValueError):
        recorded_at = EventMark.load(mark).recorded_at
    error = UNREADABLE.error if is_damaged else None
    if letter:
        try:
            entry = DeliveryEntry.load(delivery)
            error = entry.error or error
        except (ValueError, KeyError):
            error = UNREADABLE.error
    return DeliveryRecord(
        session_id=session_id,
        dedup_key=_to_text(dedup_key),
        kind=_to_text(kind),
        status=STATUS_LETTERS[letter.decode()] if letter else None,
        attempts=entry.attempts if entry else 0,
        recorded_at=float(touched) if recorded_at is None else recorded_at,
        due_at=entry.due_at if entry and letter in {b"q", b"l"} else None,
        error=error,
        handled_by=entry.handled_by if entry else frozenset(),
    )


def _to_text(stored: bytes) -> str:
    try:
        return stored.decode("utf-8", "surrogatepass")
    except ValueError:  # another program has written it
        return stored.decode("utf-8", "backslashreplace")
