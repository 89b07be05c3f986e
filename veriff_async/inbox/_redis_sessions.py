"""How `RedisInbox` records events and reads sessions.

A record is an optimistic transaction: watch the session, read it, apply the event, and write everything in one
``MULTI``; if another process has changed the session in between, start again. The records of one session in one
process wait for each other, since of n transactions that watch one key all but one start again, which costs n² of them.

When the connection breaks after ``EXEC`` was sent, nothing shows whether the transaction was applied. So each call of
`record` writes a random token with its event, and asks for it afterwards: an event that has the token was stored by
this very call, and counts as new.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final, cast
from weakref import WeakValueDictionary

from attrs import define, evolve, field

from veriff_async._protocol.session_state import apply_event
from veriff_async._protocol.webhook import dump_event
from veriff_async._storage.redis import ResponseError, transaction
from veriff_async.inbox._redis_codec import STATUS_LETTER
from veriff_async.inbox._redis_layout import (
    STREAM_LENGTH,
    DeliveryEntry,
    EventMark,
    hour_of,
    member_of,
    new_token,
    split_entry,
    split_search,
)
from veriff_async.models.state import IgnoredReason, RecordResult

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline
    from redis.typing import EncodableT, FieldT

    from veriff_async.inbox._redis_codec import RedisCodec
    from veriff_async.inbox._redis_layout import RedisLayout
    from veriff_async.models.decision_source import DecisionSource
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.state import SessionState

__all__ = ("RedisRecordCall", "RedisSessions", "remove_from_indexes")


# Numbers of events among which a record looks for the oldest ones that it may delete.
_MAX_WINDOW: Final = 1_000

# Seconds by which an earlier record may seem to be later than this one, before the clock counts as set back.
_ORDERED_SECONDS: Final = 1.0

_READ_SCRIPT: Final = """
local latest, erased = 0, 0
for index = 2, ARGV[1] + 1 do erased = math.max(erased, tonumber(redis.call('GET', KEYS[index]) or 0)) end
for index = ARGV[1] + 2, #KEYS do
    local last = redis.call('ZREVRANGE', KEYS[index], 0, 0, 'WITHSCORES')[2]
    latest = math.max(latest, tonumber(last or 0))
end
local values = redis.call('HMGET', KEYS[1], unpack(ARGV, 2))
local number = string.match(values[#values] or '', '^%S+ (%d+)')
local delivery = number and redis.call('HGET', KEYS[1], 'delivery:' .. number) or false
return {redis.call('TIME'), string.format('%.6f', latest), string.format('%.17g', erased), values, delivery}
"""


# The end of every transaction that writes a session. The expiry of the keys is a safety net for prefixes that no
# process uses any more. In a store with a single session, no other one can lack its search keys.
_TOUCH_SCRIPT: Final = """
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
for index = 5, #ARGV, 2 do redis.call('HINCRBY', KEYS[2], ARGV[index], ARGV[index + 1]) end
local count = redis.call('ZCARD', KEYS[1])
if count == 1 then redis.call('SET', KEYS[3], 1) end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[3]) end
return {count, redis.call('ZCOUNT', KEYS[1], '-inf', ARGV[4])}
"""


@define
class RedisRecordCall:
    """One call of `record`, whose transaction may be applied although its response is lost.

    Attributes:
        token: Written with the event, so that a later call knows that the event is from this call.
        sent: The result of the call if its last transaction was applied; ``None`` before one was sent.
        is_left: False, since a caller leaves no transaction that may still be sent.
    """

    token: str = field(factory=new_token, repr=False)
    sent: RecordResult | None = None
    is_left: bool = False


_FIELDS: Final = ("touched", "state", "first", "after", "gone", "open", "dead", "search", "submission")


@define(kw_only=True)
class _SessionHash:
    """The parts of a session that a record needs, read while it is watched.

    Attributes:
        session_id: The session.
        key: The name of its hash.
        now: The time of the record.
        position: The time of the record, or some microseconds later, so that no two records have the same.
        is_erased: Whether the session was erased, so that nothing is stored.
        is_expired: Whether the stored hash is too old; `values` are then those of a new session.
        values: The fields of the session, those of `_FIELDS`.
        mark: The stored mark of the same event, if it was recorded before.
        delivery: How far the handlers are with the same event, if its number is known and it was queued.
        expired_search: The search keys of a session that is too old.
        expired_dead: The numbers of its dead events.
    """

    session_id: str | None
    key: str
    now: float
    position: float
    is_erased: bool = False
    is_expired: bool = False
    values: dict[str, bytes | None]
    mark: EventMark | None = None
    delivery: bytes | None = None
    expired_search: bytes = b""
    expired_dead: bytes = b""

    def number(self, name: str) -> int:
        """Return a field that is a number, by default zero."""
        return int(self.values[name] or 0)

    def count_events(self) -> int:
        """Return how many events are stored."""
        return self.number("after") - self.number("first") - self.number("gone")

    def numbers(self, name: str) -> list[bytes]:
        """Return a field that is a list of numbers."""
        return (self.values[name] or b"").split()


@define
class _Changes:
    """The fields that a transaction writes, except for the time of the last event.

    Attributes:
        fields: Fields of the session.
        removed: Names of fields that are deleted.
        is_open: Whether events of the session wait for handlers after it.
        ready: Members of the queue that can be leased now.
        added: Members of the index of search keys.
        left: Members of that index, which are deleted.
        requeued: Members of the index of events that were recorded before they were queued, with the times.
        dead: Members of the index of dead events, which are deleted.
    """

    fields: dict[FieldT, EncodableT] = field(factory=dict["FieldT", "EncodableT"])
    removed: list[bytes] = field(factory=list[bytes])
    is_open: bool = False
    ready: list[str] = field(factory=list[str])
    added: list[bytes] = field(factory=list[bytes])
    left: list[bytes] = field(factory=list[bytes])
    requeued: dict[str, float] = field(factory=dict[str, float])
    dead: list[bytes] = field(factory=list[bytes])


class RedisSessions:
    """The sessions of one inbox."""

    def __init__(self, layout: RedisLayout, codec: RedisCodec) -> None:
        """Take the names of the keys, and what encodes texts."""
        self._layout = layout
        self._codec = codec
        # A lock is in it for as long as a record holds it or waits for it.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def record(
        self, client: Redis, event: WebhookEvent, source: DecisionSource, call: RedisRecordCall, *, deliver: bool
    ) -> tuple[RecordResult, int]:
        """Record an event; return the result, and how many sessions are too many or too old."""
        session_id = event.session_id
        body = dump_event(event)  # first: the key is a digest of the same JSON, and its error would name nothing
        dedup_key = event.dedup_key.encode("utf-8", "surrogatepass")
        entry = b"\n".join((dedup_key, event.kind.encode(), self._codec.encode_body(body, session_id)))
        key = self._layout.hash_of(member_of(session_id))
        lock = self._locks.setdefault(key, asyncio.Lock())
        while True:  # until no other client has changed the session in between
            async with lock, transaction(client) as pipe:
                stored = await self._watch(pipe, event.session_id, dedup_key, deliver=deliver)
                if stored.is_erased:
                    return RecordResult(event=event, ignored=IgnoredReason.ERASED), 0
                mark = stored.mark
                if mark is not None and mark.token == call.token and call.sent is not None:
                    return call.sent, 0
                call.sent = None
                text, submission = stored.values["state"], stored.values["submission"]
                before = self._codec.load_state(text, session_id) if text and session_id is not None else None
                state, ignored = apply_event(
                    before, event, source, is_duplicate=mark is not None, recorded_at=stored.now
                )
                shown = state
                if state is not None and submission is not None:
                    shown = evolve(state, submission=self._codec.decode_submission(submission, state.session_id))
                result = RecordResult(event=event, state=shown, ignored=ignored)
                changes = await self._plan(pipe, stored, entry, result, token=call.token, deliver=deliver)
                if state is not None and state is not before:
                    changes.fields["state"] = self._codec.encode_state(state)
                pipe.multi()  # type: ignore[no-untyped-call]
                if state is not None and state is not before:
                    pipe.xadd(self._layout.changes, {"session": state.session_id}, maxlen=STREAM_LENGTH)
                    pipe.pexpire(self._layout.changes, self._layout.expiry)
                self._write(pipe, stored, changes)
                call.sent = None if result.is_duplicate else result
                try:
                    *_, (count, old) = await pipe.execute()
                except ResponseError:  # the server refused it: nothing was stored
                    call.sent = None
                    raise
                return result, max(count - self._layout.retention.max_sessions, old)

    async def save_submission(self, client: Redis, session_id: str, submission: str) -> None:
        """Store a text for a session, unless that was erased."""
        while True:  # until no other client has changed the session in between
            async with transaction(client) as pipe:
                stored = await self._watch(pipe, session_id, None, deliver=False)
                if stored.is_erased:
                    return
                changes = _Changes({"submission": self._codec.encode_submission(submission, session_id)})
                changes.is_open = bool(stored.values["open"])
                pipe.multi()  # type: ignore[no-untyped-call]
                self._write(pipe, stored, changes)
                await pipe.execute()
                return

    async def states(self, client: Redis, session_ids: list[str]) -> dict[str, SessionState]:
        """Return the states of those sessions that have one."""
        async with client.pipeline(transaction=False) as pipe:
            # The server's clock, since the machines of an application may disagree.
            pipe.time()  # pyright: ignore[reportUnknownMemberType]  as redis-py has it
            for session_id in session_ids:
                pipe.hmget(self._layout.hash_of(member_of(session_id)), ["touched", "state", "submission", "open"])
            clock, *responses = await pipe.execute()
        now = self._layout.time(*cast("tuple[int, int]", clock))
        return {
            session_id: self.load_state(session_id, state, submission, touched)
            for session_id, (touched, state, submission, open_events) in zip(
                session_ids, cast("list[tuple[bytes | None, ...]]", responses), strict=True
            )
            if touched and state and not self._layout.is_expired(touched, open_events, now)
        }

    async def events(self, client: Redis, session_id: str | None) -> Sequence[WebhookEvent]:
        """Return the events of a session."""
        fields, _ = await self.read_fields(client, session_id)
        # A session that was only submitted has no events.
        first, after = int(fields.get(b"first", 0)), int(fields.get(b"after", 0))
        entries = [fields.get(b"event:%d" % number) for number in range(first, after)]
        return tuple(self._codec.load_entry(entry, session_id) for entry in entries if entry is not None)

    def load_state(self, session_id: str, state: bytes, submission: bytes | None, touched: bytes) -> SessionState:
        """Return a stored state with the text of its submission."""
        text = self._codec.decode_submission(submission, session_id)
        return evolve(self._codec.load_state(state, session_id), submission=text, recorded_at=float(touched))

    async def read_fields(self, client: Redis, session_id: str | None) -> tuple[dict[bytes, bytes], float]:
        """Return all fields of a session, unless it is too old, and the time."""
        async with client.pipeline(transaction=False) as pipe:
            pipe.time()  # pyright: ignore[reportUnknownMemberType]  as redis-py has it
            pipe.hgetall(self._layout.hash_of(member_of(session_id)))
            clock, fields = cast("tuple[tuple[int, int], dict[bytes, bytes]]", await pipe.execute())
        now = self._layout.time(*clock)
        is_expired = self._layout.is_expired(fields.get(b"touched"), fields.get(b"open"), now)
        return ({} if is_expired else fields), now

    async def _watch(
        self, pipe: Pipeline, session_id: str | None, dedup_key: bytes | None, *, deliver: bool
    ) -> _SessionHash:
        """Watch a session, and read what a record needs of it in one round trip."""
        layout, key = self._layout, self._layout.hash_of(member_of(session_id))
        erased = layout.erased_keys(session_id)
        await pipe.watch(key, *erased)  # EXEC does nothing if the session changes from here on
        keys = [key, *erased, layout.touched, *([layout.ready] if deliver else [])]
        names: list[str | bytes] = [str(len(erased)), *_FIELDS, b"key:" + (dedup_key or b"")]
        response = cast("Awaitable[list[object]]", pipe.eval(_READ_SCRIPT, len(keys), *keys, *names))
        clock, latest, erased_until, values, delivery = await response
        now = layout.time(*cast("tuple[int, int]", clock))
        position = max(now, float(cast("bytes", latest)) + 1e-6)
        *fields, mark = cast("list[bytes | None]", values)
        found = _SessionHash(
            session_id=session_id,
            key=key,
            now=now,
            # After a step back of the clock, the order is that of the new time.
            position=position if position <= now + _ORDERED_SECONDS else now,
            is_erased=float(cast("bytes", erased_until)) > now,
            values=dict(zip(_FIELDS, fields, strict=True)),
            mark=EventMark.load(mark) if mark else None,
            delivery=cast("bytes | None", delivery),
        )
        if layout.is_expired(found.values["touched"], found.values["open"], now):
            found.is_expired = True
            found.expired_search, found.expired_dead = found.values["search"] or b"", found.values["dead"] or b""
            found.values, found.mark, found.delivery = dict.fromkeys(_FIELDS), None, None
        return found

    async def _plan(  # noqa: PLR0913  the parts of a record
        self, pipe: Pipeline, stored: _SessionHash, entry: bytes, result: RecordResult, *, token: str, deliver: bool
    ) -> _Changes:
        """Return what is written for an event: itself, its mark, its place in the queue, and its search keys."""
        changes = _Changes(is_open=bool(stored.values["open"]))
        number, delivery, mark = stored.number("after"), stored.delivery, stored.mark
        name = b"key:" + split_entry(entry)[0]
        if mark is None:
            await self._delete_old_events(pipe, stored, changes)
            changes.fields |= {f"event:{number}": entry, "after": number + 1}
            changes.fields[name] = EventMark(token, number, stored.position, result.ignored).dump()
        else:
            if mark.number is None and deliver:  # an earlier version stored it
                mark, delivery = await self._find_event(pipe, stored, entry, mark)
            number = -1 if mark.number is None else mark.number
            if not result.is_duplicate:
                changes.fields[name] = evolve(mark, token=token, ignored=result.ignored).dump()
        if deliver and delivery is None and number >= 0:
            _queue(number, stored, changes)
            if mark is not None:
                member = f"{number}:{member_of(stored.session_id)}"
                changes.requeued[member] = stored.now if mark.recorded_at is None else mark.recorded_at
        await self._index(pipe, stored, result, changes)
        return changes

    async def _index(self, pipe: Pipeline, stored: _SessionHash, result: RecordResult, changes: _Changes) -> None:
        """Add the search keys of an event and of the status, and of all events if an earlier version stored them."""
        text, entries = stored.values["search"], set[bytes]()
        known = set[bytes]() if text is None else split_search(text)
        wanted = {entry for entry in known if not entry.startswith(STATUS_LETTER)}
        if stored.session_id is not None:
            wanted |= self._codec.search_entries(result.event)
            if result.state is not None:
                wanted.add(self._codec.status_entry(result.state))
            if text is None and (numbers := range(stored.number("first"), stored.number("after"))):
                names = [f"event:{number}" for number in numbers]
                bodies = cast("list[bytes | None]", await pipe.hmget(stored.key, names))
                events = [self._codec.load_entry(body, stored.session_id) for body in bodies if body]
                wanted |= entries.union(*map(self._codec.search_entries, events))
        if text is None or wanted != known:
            changes.fields["search"] = b"".join(sorted(wanted))
            member = member_of(stored.session_id).encode("utf-8", "surrogatepass")
            changes.added += [entry + member for entry in wanted - known]
            changes.left += [entry + member for entry in known - wanted]

    async def _find_event(
        self, pipe: Pipeline, stored: _SessionHash, entry: bytes, mark: EventMark
    ) -> tuple[EventMark, bytes | None]:
        """Return the mark of a stored event with its number, and how far the handlers are with the event."""
        dedup_key = split_entry(entry)[0]
        numbers = range(stored.number("first"), stored.number("after"))
        names = [f"event:{number}" for number in numbers]
        entries = cast("list[bytes | None]", await pipe.hmget(stored.key, names)) if names else []
        for number, other in zip(numbers, entries, strict=True):
            if other is not None and split_entry(other)[0] == dedup_key:
                delivery = await cast("Awaitable[bytes | None]", pipe.hget(stored.key, f"delivery:{number}"))
                return evolve(mark, number=number), delivery
        return mark, None

    async def _delete_old_events(self, pipe: Pipeline, stored: _SessionHash, changes: _Changes) -> None:
        """Delete the oldest events beyond the limit, except for those that wait for handlers."""
        first, after, gone = stored.number("first"), stored.number("after"), stored.number("gone")
        changes.fields["first"] = first
        waiting = stored.number("open") if stored.session_id is None else len(stored.numbers("open"))
        events = stored.count_events()
        surplus = min(events + 1 - self._layout.retention.max_events_per_session, events - waiting)
        if surplus <= 0:
            return
        numbers = range(first, min(after, first + min(_MAX_WINDOW, surplus + gone + waiting)))
        names = [f"event:{number}" for number in numbers] + [f"delivery:{number}" for number in numbers]
        values = cast("list[bytes | None]", await pipe.hmget(stored.key, names))
        kept, deleted, dead = list[int](), 0, stored.numbers("dead")
        for number, entry, delivery in zip(numbers, values, values[len(numbers) :], strict=False):
            if entry is None:
                continue
            if deleted == surplus or (delivery is not None and delivery[:1] in b"ql"):
                kept.append(number)
                continue
            deleted += 1
            changes.removed += [b"event:%d" % number, b"key:" + split_entry(entry)[0]]
            if delivery is not None:
                changes.removed.append(b"delivery:%d" % number)
            if delivery is not None and delivery[:1] == b"d":
                dead.remove(b"%d" % number)
                changes.dead.append(b"%d:%s" % (number, member_of(stored.session_id).encode("utf-8", "surrogatepass")))
        changes.fields["first"] = first_kept = kept[0] if kept else numbers.stop
        gone += deleted - (first_kept - first)
        if gone or stored.number("gone"):
            changes.fields["gone"] = gone
        if changes.dead:
            changes.fields["dead"] = b" ".join(dead)

    def _write(self, pipe: Pipeline, stored: _SessionHash, changes: _Changes) -> None:
        """Write changes of a session and the time; then count the sessions, and those that are too old."""
        layout, key, member = self._layout, stored.key, member_of(stored.session_id)
        if stored.is_expired:
            # UNLINK frees the memory in another thread of the server; DEL would block it.
            pipe.unlink(key)
            raw = member.encode("utf-8", "surrogatepass")
            remove_from_indexes(pipe, layout, raw, stored.expired_search, stored.expired_dead)
        if changes.removed:
            pipe.hdel(key, *changes.removed)
        if changes.dead:
            pipe.zrem(layout.dead, *changes.dead)
        if changes.left:
            pipe.zrem(layout.search, *changes.left)
        if changes.added:
            pipe.zadd(layout.search, dict.fromkeys(changes.added, 0))
        if changes.requeued:
            pipe.zadd(layout.requeued, changes.requeued)
        for waiting in changes.ready:
            pipe.zadd(layout.open, {waiting: stored.position})
            pipe.zadd(layout.ready, {waiting: stored.position})
        pipe.hset(key, mapping={**changes.fields, "touched": stored.now})
        if changes.ready:
            pipe.persist(key)  # what waits for handlers does not expire
        elif not changes.is_open:
            pipe.pexpire(key, layout.expiry)
        keys = (
            layout.touched,
            layout.counts,
            layout.indexed,
            layout.search,
            *([layout.dead] if stored.values["dead"] else []),
        )
        cutoff = stored.now - layout.retention.max_age
        arguments = (member, f"{stored.position:.6f}", str(layout.expiry), f"{cutoff:.6f}", *_count(stored, changes))
        pipe.eval(_TOUCH_SCRIPT, len(keys), *keys, *arguments)


def _count(stored: _SessionHash, changes: _Changes) -> list[str]:
    """Return by how much which counts change."""
    deltas: Counter[str] = Counter(open=sum(str(name).startswith("delivery:") for name in changes.fields))
    if changes.fields.get("search", stored.values["search"]) is None:
        return []  # nothing but a submission is stored
    if stored.values["search"] is not None and stored.values["touched"] is not None:
        hour, events = hour_of(float(stored.values["touched"])), stored.count_events()
        deltas[f"events:{hour}"] -= events
        deltas[f"sessions:{hour}"] -= events > 0
    hour, bounds = hour_of(stored.now), {"first": 0, "after": 0, "gone": 0}
    for name in bounds:
        bounds[name] = int(cast("int", changes.fields.get(name, stored.number(name))))
    events = bounds["after"] - bounds["first"] - bounds["gone"]
    deltas[f"events:{hour}"] += events
    deltas[f"sessions:{hour}"] += events > 0
    return [text for name, delta in deltas.items() if delta for text in (name, str(delta))]


def remove_from_indexes(pipe: Pipeline, layout: RedisLayout, member: bytes, search: bytes, dead: bytes) -> None:
    """Remove a session from the indexes of search keys and of dead events, in a transaction."""
    found_by = [entry + member for entry in split_search(search)]
    if found_by:
        pipe.zrem(layout.search, *found_by)
    if numbers := dead.split():
        pipe.zrem(layout.dead, *(number + b":" + member for number in numbers))


def _queue(number: int, stored: _SessionHash, changes: _Changes) -> None:
    changes.fields[f"delivery:{number}"] = DeliveryEntry(position=stored.position, due_at=stored.now).dump()
    changes.is_open = True
    if stored.session_id is None:
        changes.fields["open"] = stored.number("open") + 1
        changes.ready.append(f"{member_of(None)}:{number}")
        return
    numbers = stored.numbers("open")
    changes.fields["open"] = b" ".join([*numbers, b"%d" % number])
    if not numbers:  # otherwise it becomes ready when the events before it are handled
        changes.ready.append(member_of(stored.session_id))
