"""The inbox of many machines, on Redis or Valkey.

All that is kept of a session is one hash, so that one ``WATCH`` guards it and one ``UNLINK`` forgets it. Beside the
sessions there are a sorted set of them by the time they were touched, and a short stream of those that have changed.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self, TypeAlias, cast

from attrs import define, field

from veriff_async._event_loop import require_asyncio
from veriff_async._protocol.arguments import check_number, check_text
from veriff_async._protocol.session_state import apply_event, dump_state, load_state
from veriff_async._protocol.webhook import dump_event, load_event
from veriff_async._storage.redis import Connections, ResponseError, watching
from veriff_async.config import Retention, check_clock, check_retention
from veriff_async.errors import ConfigurationError, InboxError
from veriff_async.models.decision import DecisionSource
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

_Added: TypeAlias = "tuple[dict[FieldT, EncodableT], list[bytes]]"

_BLOCK: Final = 5.0
"""Seconds for which a feed sleeps in the server; then it asks whether its place in the stream is still there."""

_CHANGES: Final = 10_000
"""Changes, at least, that the stream keeps; who is further behind looks at everything."""

_AT_ONCE: Final = 100
"""Changes that are read, and sessions that are forgotten, in one round trip."""

_PAUSES: Final = (0.05, 0.25, 1.0)
"""Seconds before a feed whose connection broke tries again; after the last it ends."""

_CONFIRM: Final = 30.0
"""Seconds in which a record whose answer was lost asks the server whether it was kept."""

_UNCONFIRMED: Final = 1_000
"""Records without an answer that are remembered for when Veriff sends their webhooks again."""

_READ: Final = """
local time = redis.call('TIME')
return {time[1], time[2], redis.call('HMGET', KEYS[1], unpack(ARGV))}
"""


@define
class _Attempt:
    """One call of `record`, whose transaction can be kept although its answer is lost.

    Attributes:
        token: What the transaction writes with its event: who finds it there knows that the event is from this call.
        sent: What the call returns if its last transaction was kept; ``None`` before one was sent.
    """

    token: bytes = field(factory=lambda: secrets.token_hex(8).encode(), repr=False)
    sent: RecordResult | None = None


def _member(session_id: str | None) -> str:
    return "none" if session_id is None else f"session:{session_id}"


class RedisInbox:
    """Keep events in Redis (6.2 or newer) or Valkey, for all processes of all machines.

    A record is one transaction: the event, the state after it and the word that wakes every process are there together
    or not at all. A feed whose connection breaks, whose server is replaced by another, or which falls too far behind
    says ``None``, so that its follower looks at everything again; no change is lost.

    What `record` has acknowledged is as durable as the server makes it. Redis on its own settings may lose the last
    minutes in a crash: set ``appendonly yes`` with ``appendfsync always``. Where a replica may take over, let the
    primary refuse what none has: ``min-replicas-to-write 1``, or a managed service that promises it.
    ``maxmemory-policy noeviction`` keeps Redis from dropping sessions by itself; the bound is `retention`. Events hold
    personal data: who may read the server may read them.

    Use it in one event loop, and close it there by ``async with`` or `aclose`; make one for each loop. When the loop
    has ended, another may begin to use it.

    Args:
        server: ``redis://``, ``rediss://`` (TLS) or ``unix://``, as redis-py reads it; or a client of redis-py's own,
            for Sentinel or TLS of your own. The inbox opens connections of its own as that client would; keep the
            client for as long.
        prefix: What the names of all keys begin with; the braces keep them on one node of a cluster.
        retention: How much is kept; a million sessions for 30 days when left out.
        timeout: Seconds for a record or another question, after which it fails; Veriff waits five for an answer.
        now: The time in seconds since 1970, for tests in which days pass; the server's when left out, so that a machine
            with a wrong clock forgets nothing.

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
            msg = "prefix is empty: leave it out, or give a text that other programs do not use."
            raise ConfigurationError(msg)
        self._server = Connections(server, timeout, store="RedisInbox", error=InboxError)
        self._prefix = prefix
        self._changes = f"{prefix}:changes"
        self._touched = f"{prefix}:touched"
        self._retention = Retention() if retention is None else check_retention(retention)
        # A minute more than by the clock of the inbox, which is the one that counts.
        self._expiry = int(min((self._retention.max_age + 60) * 1000, 2**53))
        self._now = None if now is None else check_clock(now)
        self._entered = 0
        self._unconfirmed: OrderedDict[str, _Attempt] = OrderedDict()

    def __repr__(self) -> str:
        """Show where it keeps, nothing secret."""
        return f"<RedisInbox {self._server.place} {self._prefix}{' closed' if self._server.closed else ''}>"

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
        """Close the connections and end the feeds; in the loop that uses the inbox.

        A closed inbox refuses everything until ``async with`` opens it again.
        """
        self._entered = 0
        await self._server.aclose()

    async def record(self, event: WebhookEvent, *, source: DecisionSource = DecisionSource.WEBHOOK) -> RecordResult:
        """Keep an event; see `Inbox.record`.

        If the connection breaks after the transaction was sent, the server is asked for up to 30 seconds whether it was
        kept, so that the event counts once: here, and not for whoever records it next.
        """
        attempt = self._unconfirmed.pop(event.dedup_key, None) or _Attempt()
        try:
            recorded, surplus = await self._keep_confirmed(event, source, attempt)
        except BaseException:
            if attempt.sent is not None:
                self._unconfirmed[event.dedup_key] = attempt
                if len(self._unconfirmed) > _UNCONFIRMED:
                    self._unconfirmed.popitem(last=False)
            raise
        if surplus > 0:
            with suppress(InboxError):  # The event is kept all the same, and the next record goes on with it.
                client = self._server.here()
                await self._server.asked(client, self._forget(client, surplus), min(1.0, self._server.timeout))
        return recorded

    async def _keep_confirmed(
        self, event: WebhookEvent, source: DecisionSource, attempt: _Attempt
    ) -> tuple[RecordResult, int]:
        """Record an event; as long as it is unknown whether that was done, try again."""
        require_asyncio()
        loop = asyncio.get_running_loop()
        pauses, given_up = iter(_PAUSES), loop.time() + _CONFIRM
        while True:
            client = self._server.here()
            try:
                return await self._server.asked(client, self._keep(client, event, source, attempt))
            except InboxError:
                if attempt.sent is None or self._server.closed or loop.time() > given_up:
                    raise
            await asyncio.sleep(next(pauses, _PAUSES[-1]))

    async def get_states(self, session_ids: Collection[str]) -> Mapping[str, SessionState]:
        """Return what is known of sessions; see `Inbox.get_states`."""
        client = self._server.here()
        return await self._server.asked(client, self._states(client, list(dict.fromkeys(session_ids))))

    async def get_events(self, session_id: str | None) -> Sequence[WebhookEvent]:
        """Return the events of a session; see `Inbox.get_events`."""
        client = self._server.here()
        return await self._server.asked(client, self._events(client, session_id))

    async def subscribe(self) -> AsyncGenerator[str | None]:
        """Yield the sessions that change; see `Inbox.subscribe`."""
        place: bytes | None = None
        pauses: Iterator[float] | None = None
        async with self._server.apart() as client:  # The end of its connection is to be noticed, to say None.
            while True:
                try:
                    if place is None:
                        place = await self._server.asked(client, self._begun(client))
                        changed, pauses = list[str | None]((None,)), pauses or iter(_PAUSES)
                    else:
                        awake = _BLOCK + self._server.timeout
                        place, changed = await self._server.asked(client, self._next(client, place), awake)
                        pauses = iter(_PAUSES)
                except InboxError:
                    # Whoever begins is told at once; later on, a server may restart or hand over unnoticed.
                    pause = None if self._server.closed or pauses is None else next(pauses, None)
                    if pause is None:
                        raise
                    place, changed = None, []
                    await asyncio.sleep(pause)
                for session_id in changed:
                    yield session_id

    async def _keep(
        self, client: Redis, event: WebhookEvent, source: DecisionSource, attempt: _Attempt
    ) -> tuple[RecordResult, int]:
        """Record an event; return what became of it, and how many sessions are too many or too old."""
        key, mark = self._key(_member(event.session_id)), f"key:{event.dedup_key}"
        while True:  # until nobody has changed the session in between
            async with watching(client) as pipe:
                await pipe.watch(key)
                now, found = await self._read(pipe, key, ["touched", "state", "first", "after", mark])
                touched, text, first, after, kept = found
                is_over = touched is not None and self._is_over(float(touched), now)
                if is_over:
                    text = first = after = kept = None
                if kept is not None and kept == attempt.token and attempt.sent is not None:
                    return attempt.sent, 0
                attempt.sent = None
                before = load_state(text) if text else None
                state, ignored = apply_event(before, event, source, is_duplicate=kept is not None, recorded_at=now)
                fields, gone = cast("_Added", ({}, []))
                if kept is None:
                    fields, gone = await self._added(pipe, key, event, int(first or 0), int(after or 0))
                recorded = RecordResult(event=event, state=state, ignored=ignored)
                if not recorded.is_duplicate:
                    fields[mark] = attempt.token
                pipe.multi()  # type: ignore[no-untyped-call]
                if is_over:
                    pipe.unlink(key)
                if gone:
                    pipe.hdel(key, *gone)
                if state is not None and state is not before:
                    fields["state"] = dump_state(state)
                    pipe.xadd(self._changes, {"session": state.session_id}, maxlen=_CHANGES)
                    pipe.pexpire(self._changes, self._expiry)
                self._touch(pipe, event.session_id, fields, now)
                attempt.sent = None if recorded.is_duplicate else recorded
                try:
                    *_, count, old = await pipe.execute()
                except ResponseError:  # the server answered: nothing was kept
                    attempt.sent = None
                    raise
                return recorded, max(count - self._retention.max_sessions, old)

    async def _read(self, client: Redis, key: str, names: list[str]) -> tuple[float, list[bytes | None]]:
        """Return the time, the server's unless another was given, and fields of a session, in one round trip."""
        asked = cast("Awaitable[tuple[bytes, bytes, list[bytes | None]]]", client.eval(_READ, 1, key, *names))
        seconds, microseconds, found = await asked
        return self._time(seconds, microseconds), found

    async def _added(self, pipe: Pipeline, key: str, event: WebhookEvent, first: int, after: int) -> _Added:
        """Return the fields of a new event, and those of the oldest that make room for it."""
        keep = max(first, after + 1 - self._retention.max_events_per_session)
        gone = [b"event:%d" % place for place in range(first, keep)]
        if gone:
            bodies = cast("list[bytes | None]", await pipe.hmget(key, gone))
            gone += [b"key:" + body.rsplit(b"\n", 2)[0] for body in bodies if body]
        body = b"\n".join((event.dedup_key.encode("utf-8", "surrogatepass"), event.kind.encode(), dump_event(event)))
        return {"first": keep, "after": after + 1, f"event:{after}": body}, gone

    def _touch(self, pipe: Pipeline, session_id: str | None, fields: dict[FieldT, EncodableT], now: float) -> None:
        """Write fields of a session, and when that was; then ask how many sessions there are, and are too old."""
        member = _member(session_id)
        key = self._key(member)
        pipe.hset(key, mapping={**fields, "touched": now})
        pipe.pexpire(key, self._expiry)
        pipe.zadd(self._touched, {member: now})
        pipe.pexpire(self._touched, self._expiry)
        pipe.zcard(self._touched)
        pipe.zcount(self._touched, "-inf", now - self._retention.max_age)

    async def _forget(self, client: Redis, surplus: int) -> None:
        """Forget sessions that are too many or too old, unless they are touched meanwhile."""
        most = min(surplus, _AT_ONCE)
        seen = await self._oldest(client, most)
        if not seen:
            return
        async with watching(client) as pipe:
            await pipe.watch(*map(self._key, seen))
            gone = [member for member in await self._oldest(pipe, most) if member in seen]
            if gone:
                pipe.multi()  # type: ignore[no-untyped-call]
                pipe.unlink(*map(self._key, gone))
                pipe.zrem(self._touched, *gone)
                await pipe.execute()

    async def _oldest(self, client: Redis, most: int) -> list[str]:
        """Return which of the sessions that were touched longest ago are to go."""
        # The order is read before the counts: whoever forgets in between makes fewer of them too many, never more.
        order = await client.zrange(self._touched, 0, most - 1)  # pyright: ignore[reportUnknownMemberType]  as it has it
        count = await client.zcard(self._touched)
        now = self._time(*await client.time())  # pyright: ignore[reportUnknownMemberType]  as redis-py has it
        old = await client.zcount(self._touched, "-inf", now - self._retention.max_age)
        return [
            str(member, "utf-8", "surrogatepass")
            for member in cast("list[bytes]", order)[: max(0, count - self._retention.max_sessions, old)]
        ]

    async def _states(self, client: Redis, session_ids: list[str]) -> dict[str, SessionState]:
        async with client.pipeline(transaction=False) as pipe:
            pipe.time()  # pyright: ignore[reportUnknownMemberType]  as redis-py has it
            for session_id in session_ids:
                pipe.hmget(self._key(_member(session_id)), ["touched", "state"])
            clock, *answers = await pipe.execute()
        now = self._time(*cast("tuple[int, int]", clock))
        return {
            session_id: load_state(state)
            for session_id, (touched, state) in zip(
                session_ids, cast("list[tuple[bytes | None, bytes | None]]", answers), strict=True
            )
            if touched and state and not self._is_over(float(touched), now)
        }

    async def _events(self, client: Redis, session_id: str | None) -> Sequence[WebhookEvent]:
        async with client.pipeline(transaction=False) as pipe:
            pipe.time()  # pyright: ignore[reportUnknownMemberType]  as redis-py has it
            pipe.hgetall(self._key(_member(session_id)))
            clock, found = cast("tuple[tuple[int, int], dict[bytes, bytes]]", await pipe.execute())
        if not found or self._is_over(float(found[b"touched"]), self._time(*clock)):
            return ()
        bodies = [found[b"event:%d" % place] for place in range(int(found[b"first"]), int(found[b"after"]))]
        parts = [body.rsplit(b"\n", 2) for body in bodies]
        return tuple(load_event(kind.decode(), body) for _, kind, body in parts)

    async def _begun(self, client: Redis) -> bytes:
        """Return the place of the newest change: a feed that has it misses nothing from then on."""
        newest = cast("list[tuple[bytes, object]]", await client.xrevrange(self._changes, count=1))
        if newest:
            return newest[0][0]
        # A place to hold on to: whether it is still there tells whether anything was missed.
        async with client.pipeline() as pipe:
            pipe.xadd(self._changes, {"begun": 1}, maxlen=_CHANGES)
            pipe.pexpire(self._changes, self._expiry)
            return cast("bytes", (await pipe.execute())[0])

    async def _next(self, client: Redis, place: bytes) -> tuple[bytes | None, list[str | None]]:
        """Sleep until something has changed, or for a while; return the new place, or none if this one is gone.

        It goes when the stream was trimmed beyond it, emptied, or is another server's; its number alone would not tell.
        """
        async with client.pipeline(transaction=False) as pipe:
            pipe.xread({self._changes: place}, count=_AT_ONCE, block=int(_BLOCK * 1000))
            pipe.xrange(self._changes, place, place)
            found, held = await pipe.execute()
        if not held or not found:
            return place if held else None, []
        entries: list[tuple[bytes, dict[bytes, bytes]]] = found[0][1]
        return entries[-1][0], [
            str(fields[b"session"], "utf-8", "surrogatepass") for _, fields in entries if b"session" in fields
        ]

    def _time(self, seconds: bytes | int, microseconds: bytes | int) -> float:
        return int(seconds) + int(microseconds) / 1e6 if self._now is None else self._now()

    def _is_over(self, touched: float, now: float) -> bool:
        return touched <= now - self._retention.max_age

    def _key(self, member: str) -> str:
        return f"{self._prefix}:{member}"
