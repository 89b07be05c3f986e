"""The inbox of many machines, on Redis or Valkey.

Everything about a session is in one hash, so that one ``WATCH`` guards it and one ``UNLINK`` deletes it. Two more keys
hold a sorted set of the sessions by the time of their last event, and a short stream of the sessions that have changed.

A record is an optimistic transaction: watch the session, read it, apply the event, and write everything in one
``MULTI``; if another process has changed the session in between, start again. The records of one session in one
process wait for each other, since of n transactions that watch one key all but one start again, which costs n² of them.

When the connection breaks after ``EXEC`` was sent, nothing shows whether the transaction was applied. So each call of
`record` writes a random token with its event, and asks for it afterwards: an event that has the token was stored by
this very call, and counts as new.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self, TypeAlias, cast
from weakref import WeakValueDictionary

from attrs import define, evolve, field

from veriff_async._event_loop import require_asyncio
from veriff_async._protocol.arguments import check_number, check_text
from veriff_async._protocol.inbox_arguments import check_record, check_session_id, check_session_ids, check_submission
from veriff_async._protocol.session_state import apply_event, dump_state, load_state
from veriff_async._protocol.webhook import dump_event, load_event
from veriff_async._storage.redis import RedisConnections, ResponseError, transaction
from veriff_async.config import Retention, check_clock, check_retention
from veriff_async.errors import ConfigurationError, InboxError
from veriff_async.models.decision_source import DecisionSource
from veriff_async.models.state import RecordResult

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
    from types import TracebackType

    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline
    from redis.typing import EncodableT, FieldT

    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.state import SessionState

__all__ = ("RedisInbox",)

_NewFields: TypeAlias = "tuple[dict[FieldT, EncodableT], list[bytes]]"

# Seconds for which a subscription blocks in the server, before it checks that its position in the stream exists.
_BLOCK_SECONDS: Final = 5.0

# Changes, at least, that the stream keeps; a subscriber that is further behind reads all states again.
_STREAM_LENGTH: Final = 10_000

# Changes that are read, and sessions that are deleted, in one round trip.
_BATCH_SIZE: Final = 100

# Seconds before a subscription whose connection broke tries again; after the last one it fails.
_RETRY_PAUSES: Final = (0.05, 0.25, 1.0)

# Seconds in which a record whose response was lost asks the server whether it was stored.
_CONFIRM_SECONDS: Final = 30.0

# Records without a response that are remembered until Veriff sends their webhooks again.
_MAX_UNCONFIRMED: Final = 1_000

_READ_SCRIPT: Final = """
local time = redis.call('TIME')
return {time[1], time[2], redis.call('HMGET', KEYS[1], unpack(ARGV))}
"""


@define
class _RecordCall:
    """One call of `record`, whose transaction may be applied although its response is lost.

    Attributes:
        token: Written with the event, so that a later call knows that the event is from this call.
        sent: The result of the call if its last transaction was applied; ``None`` before one was sent.
    """

    token: bytes = field(factory=lambda: secrets.token_hex(8).encode(), repr=False)
    sent: RecordResult | None = None


def _member(session_id: str | None) -> str:
    return "none" if session_id is None else f"session:{session_id}"


def _with_submission(state: SessionState, submission: bytes | None, recorded_at: float | None = None) -> SessionState:
    text = None if submission is None else str(submission, "utf-8", "surrogatepass")
    return evolve(state, submission=text, recorded_at=recorded_at)


class RedisInbox:
    """Keep events in Redis (6.2 or newer) or Valkey, for all processes of all machines.

    A record is one transaction: the event, the state after it and the notification that wakes every process are stored
    together or not at all. A subscription whose connection breaks, whose server is replaced by another, or which falls
    too far behind yields ``None``, so that the subscriber reads all states again; no change is lost.

    A recorded event is as durable as the server makes it. Redis with its default settings may lose the last minutes in
    a crash: set ``appendonly yes`` with ``appendfsync always``. Where a replica may take over, let the primary refuse
    writes that no replica has: ``min-replicas-to-write 1``, or a managed service that guarantees it.
    ``maxmemory-policy noeviction`` keeps Redis from dropping sessions by itself; the limit is `retention`. Events hold
    personal data, which everyone who can read the server can read.

    Use it in one event loop, and close it there by ``async with`` or `aclose`; make one for each loop. When the loop
    has ended, another one may use it.

    Args:
        server: A URL with ``redis://``, ``rediss://`` (TLS) or ``unix://``, as redis-py reads it; or a client of
            redis-py, for Sentinel or your own TLS settings. The inbox opens its own connections as that client would;
            keep the client for as long.
        prefix: The beginning of all key names; the braces keep them on one node of a cluster.
        retention: How much is kept; by default a million sessions for 30 days.
        timeout: Seconds after which a record or another call fails; Veriff waits about five for a response.
        now: The time in seconds since 1970, for tests in which days pass; by default the server's time, so that a
            machine with a wrong clock deletes nothing.

    Raises:
        ConfigurationError: An argument cannot work, or the extra is not installed; from any method, that another loop
            uses the inbox.

    Example:
        >>> async with RedisInbox("redis://localhost:6379/0") as inbox, VeriffClient.from_env(inbox=inbox) as veriff:
        ...     decision = await veriff.session(session_id).wait_for_decision(timeout=900)

    See https://redis.io/docs/latest/operate/oss_and_stack/management/persistence.
    """

    def __init__(
        self,
        server: str | Redis,
        *,
        prefix: str = "{veriff}",
        retention: Retention | None = None,
        timeout: float = 4.0,
        now: Callable[[], float] | None = None,
    ) -> None:
        """Check the arguments; nothing is opened yet."""
        check_number("timeout", timeout, above=True, remedy="give seconds above zero")
        if not check_text("prefix", prefix):
            msg = "prefix is empty: omit it, or pass a str that other programs do not use."
            raise ConfigurationError(msg)
        self._server = RedisConnections(server, timeout, store="RedisInbox", error=InboxError)
        self._prefix = prefix
        self._changes = f"{prefix}:changes"
        self._touched = f"{prefix}:touched"
        self._retention = Retention() if retention is None else check_retention(retention)
        # A minute more than by the clock of the inbox, which is the one that counts.
        self._expiry = int(min((self._retention.max_age + 60) * 1000, 2**53))
        self._now = None if now is None else check_clock(now)
        self._entered = 0
        self._unconfirmed: OrderedDict[str, _RecordCall] = OrderedDict()
        # A lock is in it for as long as a record holds it or waits for it.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def __repr__(self) -> str:
        """Show the address of the server, and no secrets."""
        return f"<RedisInbox {self._server.address} {self._prefix}{' closed' if self._server.is_closed else ''}>"

    async def __aenter__(self) -> Self:
        """Return the inbox, ready for use also after it was closed: a framework may start and stop many times."""
        require_asyncio()
        self._server.reopen()
        self._entered += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections, unless another ``async with`` block uses this inbox."""
        self._entered = max(0, self._entered - 1)
        if not self._entered:
            await self.aclose()

    async def aclose(self) -> None:
        """Close the connections and end the subscriptions, in the loop that uses the inbox.

        A closed inbox refuses everything until ``async with`` opens it again.
        """
        self._entered = 0
        await self._server.aclose()

    async def record(self, event: WebhookEvent, *, source: DecisionSource = DecisionSource.WEBHOOK) -> RecordResult:
        """Record an event; see `Inbox.record`.

        If the connection breaks after the transaction was sent, the server is asked for up to 30 seconds whether it was
        applied, so that the event counts as new exactly once.
        """
        check_record(event, source)
        # Veriff sends a webhook again that was answered 503; the token of the first call recognises it as stored.
        call = self._unconfirmed.pop(event.dedup_key, None) or _RecordCall()
        try:
            result, surplus = await self._record_confirmed(event, source, call)
        except BaseException:
            if call.sent is not None:
                self._unconfirmed[event.dedup_key] = call
                if len(self._unconfirmed) > _MAX_UNCONFIRMED:
                    self._unconfirmed.popitem(last=False)
            raise
        if surplus > 0:
            with suppress(InboxError):  # the event is stored all the same, and the next record deletes more
                client = self._server.get_client()
                await self._server.execute(client, self._delete_oldest(client, surplus), min(1.0, self._server.timeout))
        return result

    async def _record_confirmed(
        self, event: WebhookEvent, source: DecisionSource, call: _RecordCall
    ) -> tuple[RecordResult, int]:
        """Record an event; repeat as long as it is unknown whether it was stored."""
        require_asyncio()
        loop = asyncio.get_running_loop()
        pauses, deadline = iter(_RETRY_PAUSES), loop.time() + _CONFIRM_SECONDS
        while True:
            client = self._server.get_client()
            try:
                return await self._server.execute(client, self._record(client, event, source, call))
            except InboxError:
                if call.sent is None or self._server.is_closed or loop.time() > deadline:
                    raise
            await asyncio.sleep(next(pauses, _RETRY_PAUSES[-1]))

    async def get_states(self, session_ids: Collection[str]) -> Mapping[str, SessionState]:
        """Return the states of sessions; see `Inbox.get_states`."""
        wanted = list(dict.fromkeys(check_session_ids(session_ids)))
        client = self._server.get_client()
        return await self._server.execute(client, self._states(client, wanted))

    async def get_events(self, session_id: str | None) -> Sequence[WebhookEvent]:
        """Return the events of a session; see `Inbox.get_events`."""
        check_session_id(session_id)
        client = self._server.get_client()
        return await self._server.execute(client, self._events(client, session_id))

    async def save_submission(self, session_id: str, submission: str) -> None:
        """Store a text for a session; see `SubmissionInbox.save_submission`."""
        check_submission(session_id, submission)
        client = self._server.get_client()
        await self._server.execute(client, self._save_submission(client, session_id, submission))

    async def subscribe(self) -> AsyncGenerator[str | None]:
        """Yield the sessions that change; see `Inbox.subscribe`."""
        position: bytes | None = None
        pauses: Iterator[float] | None = None
        async with self._server.open_dedicated() as client:  # a lost connection must be noticed, to yield None
            while True:
                try:
                    if position is None:
                        position = await self._server.execute(client, self._newest(client))
                        changed, pauses = list[str | None]((None,)), pauses or iter(_RETRY_PAUSES)
                    else:
                        timeout = _BLOCK_SECONDS + self._server.timeout
                        position, changed = await self._server.execute(client, self._next(client, position), timeout)
                        pauses = iter(_RETRY_PAUSES)
                except InboxError:
                    # A new subscription fails at once. A running one survives a restart or failover of the server.
                    pause = None if self._server.is_closed or pauses is None else next(pauses, None)
                    if pause is None:
                        raise
                    position, changed = None, []
                    await asyncio.sleep(pause)
                for session_id in changed:
                    yield session_id

    async def _record(
        self, client: Redis, event: WebhookEvent, source: DecisionSource, call: _RecordCall
    ) -> tuple[RecordResult, int]:
        """Record an event; return the result, and how many sessions are too many or too old."""
        body = dump_event(event)  # first: the key is a digest of the same JSON, and its error would name nothing
        entry = b"\n".join((event.dedup_key.encode("utf-8", "surrogatepass"), event.kind.encode(), body))
        key, mark = self._key(_member(event.session_id)), f"key:{event.dedup_key}"
        lock = self._locks.setdefault(key, asyncio.Lock())
        while True:  # until no other client has changed the session in between
            async with lock, transaction(client) as pipe:
                await pipe.watch(key)  # EXEC does nothing if the session changes from here on
                now, values = await self._read(pipe, key, ["touched", "state", "first", "after", mark, "submission"])
                touched, text, first, after, stored_token, submission = values
                is_expired = touched is not None and self._is_expired(float(touched), now)
                if is_expired:
                    text = first = after = stored_token = submission = None
                if stored_token is not None and stored_token == call.token and call.sent is not None:
                    return call.sent, 0
                call.sent = None
                before = load_state(text) if text else None
                state, ignored = apply_event(
                    before, event, source, is_duplicate=stored_token is not None, recorded_at=now
                )
                fields, removed = cast("_NewFields", ({}, []))
                if stored_token is None:
                    fields, removed = await self._new_fields(pipe, key, entry, int(first or 0), int(after or 0))
                shown = state if state is None or submission is None else _with_submission(state, submission)
                result = RecordResult(event=event, state=shown, ignored=ignored)
                if not result.is_duplicate:
                    fields[mark] = call.token
                pipe.multi()  # type: ignore[no-untyped-call]
                if is_expired:
                    # UNLINK frees the memory in another thread of the server; DEL would block it.
                    pipe.unlink(key)
                if removed:
                    pipe.hdel(key, *removed)
                if state is not None and state is not before:
                    fields["state"] = dump_state(state)
                    pipe.xadd(self._changes, {"session": state.session_id}, maxlen=_STREAM_LENGTH)
                    pipe.pexpire(self._changes, self._expiry)
                self._touch(pipe, event.session_id, fields, now)
                call.sent = None if result.is_duplicate else result
                try:
                    *_, count, old = await pipe.execute()
                except ResponseError:  # the server refused it: nothing was stored
                    call.sent = None
                    raise
                return result, max(count - self._retention.max_sessions, old)

    async def _save_submission(self, client: Redis, session_id: str, submission: str) -> None:
        key = self._key(_member(session_id))
        text = submission.encode("utf-8", "surrogatepass")
        while True:  # until no other client has changed the session in between
            async with transaction(client) as pipe:
                await pipe.watch(key)
                now, (touched,) = await self._read(pipe, key, ["touched"])
                pipe.multi()  # type: ignore[no-untyped-call]
                if touched is not None and self._is_expired(float(touched), now):
                    pipe.unlink(key)
                self._touch(pipe, session_id, {"submission": text}, now)
                await pipe.execute()
                return

    async def _read(self, client: Redis, key: str, names: list[str]) -> tuple[float, list[bytes | None]]:
        """Return the time and fields of a session, in one round trip."""
        response = cast("Awaitable[tuple[bytes, bytes, list[bytes | None]]]", client.eval(_READ_SCRIPT, 1, key, *names))
        seconds, microseconds, values = await response
        return self._time(seconds, microseconds), values

    async def _new_fields(self, pipe: Pipeline, key: str, entry: bytes, first: int, after: int) -> _NewFields:
        """Return the fields of a new event, and the names of those of old events that exceed the limit."""
        first_kept = max(first, after + 1 - self._retention.max_events_per_session)
        removed = [b"event:%d" % number for number in range(first, first_kept)]
        if removed:
            bodies = cast("list[bytes | None]", await pipe.hmget(key, removed))
            removed += [b"key:" + body.rsplit(b"\n", 2)[0] for body in bodies if body]
        return {"first": first_kept, "after": after + 1, f"event:{after}": entry}, removed

    def _touch(self, pipe: Pipeline, session_id: str | None, fields: dict[FieldT, EncodableT], now: float) -> None:
        """Write fields of a session and the time; then count the sessions, and those that are too old."""
        # The expiry of the keys is a safety net for prefixes that no process uses any more.
        member = _member(session_id)
        key = self._key(member)
        pipe.hset(key, mapping={**fields, "touched": now})
        pipe.pexpire(key, self._expiry)
        pipe.zadd(self._touched, {member: now})
        pipe.pexpire(self._touched, self._expiry)
        pipe.zcard(self._touched)
        pipe.zcount(self._touched, "-inf", now - self._retention.max_age)

    async def _delete_oldest(self, client: Redis, surplus: int) -> None:
        """Delete sessions that are too many or too old, unless they get another event in between."""
        limit = min(surplus, _BATCH_SIZE)
        candidates = await self._oldest(client, limit)
        if not candidates:
            return
        async with transaction(client) as pipe:
            await pipe.watch(*map(self._key, candidates))
            expired = [member for member in await self._oldest(pipe, limit) if member in candidates]
            if expired:
                pipe.multi()  # type: ignore[no-untyped-call]
                pipe.unlink(*map(self._key, expired))
                pipe.zrem(self._touched, *expired)
                await pipe.execute()

    async def _oldest(self, client: Redis, limit: int) -> list[str]:
        """Return the sessions that are too many or too old, the oldest first."""
        # The order is read before the counts: a client that deletes in between makes the counts smaller, never larger.
        order = await client.zrange(self._touched, 0, limit - 1)  # pyright: ignore[reportUnknownMemberType]  as it has it
        count = await client.zcard(self._touched)
        now = self._time(*await client.time())  # pyright: ignore[reportUnknownMemberType]  as redis-py has it
        old = await client.zcount(self._touched, "-inf", now - self._retention.max_age)
        return [
            str(member, "utf-8", "surrogatepass")
            for member in cast("list[bytes]", order)[: max(0, count - self._retention.max_sessions, old)]
        ]

    async def _states(self, client: Redis, session_ids: list[str]) -> dict[str, SessionState]:
        async with client.pipeline(transaction=False) as pipe:
            # The server's clock, since the machines of an application may disagree.
            pipe.time()  # pyright: ignore[reportUnknownMemberType]  as redis-py has it
            for session_id in session_ids:
                pipe.hmget(self._key(_member(session_id)), ["touched", "state", "submission"])
            clock, *responses = await pipe.execute()
        now = self._time(*cast("tuple[int, int]", clock))
        return {
            session_id: _with_submission(load_state(state), submission, float(touched))
            for session_id, (touched, state, submission) in zip(
                session_ids, cast("list[tuple[bytes | None, bytes | None, bytes | None]]", responses), strict=True
            )
            if touched and state and not self._is_expired(float(touched), now)
        }

    async def _events(self, client: Redis, session_id: str | None) -> Sequence[WebhookEvent]:
        async with client.pipeline(transaction=False) as pipe:
            pipe.time()  # pyright: ignore[reportUnknownMemberType]  as redis-py has it
            pipe.hgetall(self._key(_member(session_id)))
            clock, fields = cast("tuple[tuple[int, int], dict[bytes, bytes]]", await pipe.execute())
        if not fields or self._is_expired(float(fields[b"touched"]), self._time(*clock)):
            return ()
        # A session that was only submitted has no events.
        first, after = int(fields.get(b"first", 0)), int(fields.get(b"after", 0))
        bodies = [fields[b"event:%d" % number] for number in range(first, after)]
        parts = [body.rsplit(b"\n", 2) for body in bodies]
        return tuple(load_event(kind.decode(), body) for _, kind, body in parts)

    async def _newest(self, client: Redis) -> bytes:
        """Return the position of the newest change; a subscriber that knows it misses no later change."""
        newest = cast("list[tuple[bytes, object]]", await client.xrevrange(self._changes, count=1))
        if newest:
            return newest[0][0]
        # An entry to refer to: as long as it is in the stream, no change was missed.
        async with client.pipeline() as pipe:
            pipe.xadd(self._changes, {"begun": 1}, maxlen=_STREAM_LENGTH)
            pipe.pexpire(self._changes, self._expiry)
            return cast("bytes", (await pipe.execute())[0])

    async def _next(self, client: Redis, position: bytes) -> tuple[bytes | None, list[str | None]]:
        """Wait for changes, for some seconds; return the new position, or none if the old one has left the stream.

        It leaves the stream when that is trimmed beyond it, emptied, or replaced by another server's.
        """
        async with client.pipeline(transaction=False) as pipe:
            # The position is read after XREAD returns, so a trim during the wait is noticed too.
            pipe.xread({self._changes: position}, count=_BATCH_SIZE, block=int(_BLOCK_SECONDS * 1000))
            pipe.xrange(self._changes, position, position)
            response, own_entry = await pipe.execute()
        if not own_entry or not response:
            return position if own_entry else None, []
        entries: list[tuple[bytes, dict[bytes, bytes]]] = response[0][1]
        return entries[-1][0], [
            str(fields[b"session"], "utf-8", "surrogatepass") for _, fields in entries if b"session" in fields
        ]

    def _time(self, seconds: bytes | int, microseconds: bytes | int) -> float:
        return int(seconds) + int(microseconds) / 1e6 if self._now is None else self._now()

    def _is_expired(self, touched: float, now: float) -> bool:
        return touched <= now - self._retention.max_age

    def _key(self, member: str) -> str:
        return f"{self._prefix}:{member}"
