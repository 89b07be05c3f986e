"""The inbox of many machines, on Redis or Valkey; the only room that knows redis-py, which is an extra.

All that is kept of a session is one hash, so that one ``WATCH`` guards it and one ``UNLINK`` forgets it. Beside the
sessions there are a sorted set of them by the time they were touched, and a short stream of those that have changed.
redis-py's connections are used without its client: two round trips make a record, and one deadline bounds it.
"""

from __future__ import annotations

import asyncio
import time
import warnings
from contextlib import suppress
from functools import cache
from importlib import import_module
from threading import Lock
from typing import TYPE_CHECKING, Final, Self, TypeVar, cast

from attrs import evolve, frozen

from veriff_async.errors import ConfigurationError, InboxError
from veriff_async.inbox.lines import Driver, Lines, ask, remedy, shown
from veriff_async.models.decision import DecisionSource
from veriff_async.models.state import Ignored, Recorded
from veriff_async.protocol.codec import UnreadableError
from veriff_async.protocol.events import dump_event, load_event
from veriff_async.protocol.ledger import advance, dump_state, load_state
from veriff_async.protocol.policies import Retention

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Iterator, Mapping, Sequence
    from types import TracebackType

    from veriff_async.inbox.lines import Command, Connection
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.state import SessionState

__all__ = ("RedisInbox",)

_T = TypeVar("_T")

_BLOCK: Final = 5.0
"""Seconds for which a feed sleeps in the server; then it asks whether its place in the stream is still there."""

_CHANGES: Final = 10_000
"""Changes, at least, that the stream keeps; who is further behind looks at everything."""

_AT_ONCE: Final = 200
"""Sessions that are read or forgotten in one round trip."""

_A_FEW: Final = 5
"""Sessions that a record forgets when they are too old: more than it adds."""

_PAUSES: Final = (0.05, 0.25, 1.0)
"""Seconds before a feed whose connection broke tries again; after the last it ends."""

_GRACE: Final = 60.0
"""Seconds by which Redis itself keeps longer than the clock of the inbox allows, which is the one that counts."""

_FORGETTING: Final = 1.0
"""Seconds that a record may spend on what is too old; the next one goes on with it."""

_TICK: Final = 1e-6
"""What two moments differ by, at least, so that of two sessions it is known which was touched first."""


@cache
def _redis_py() -> Driver:
    try:
        found = vars(import_module("redis.asyncio.connection"))
        errors = (vars(import_module("redis.exceptions"))["RedisError"], OSError)
    except ImportError:
        pass
    else:
        return Driver(found["parse_url"], found["Connection"], errors)
    msg = 'RedisInbox needs redis-py, an extra of this package: pip install "veriff-async[redis]".'
    raise ConfigurationError(msg)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(found: bytes) -> str:
    return found.decode("utf-8", "surrogatepass")


@frozen
class _Shelf:
    """What is kept of one session, as far as a record asks for it."""

    member: bytes
    is_over: bool = False
    is_repeated: bool = False
    state: SessionState | None = None
    first: int = 0
    after: int = 0
    gone: tuple[bytes, ...] = ()


class RedisInbox:
    """Keep events in Redis (6.2 or newer) or Valkey, for all processes of all machines.

    A record is one transaction: the event, the state after it and the word that wakes every process are there together
    or not at all. A feed whose connection breaks, whose server is replaced by another, or which falls too far behind
    says ``None``, so that its follower looks at everything again; no change is lost.

    What `record` has acknowledged is as durable as the server makes it. Redis on its own settings may lose the last
    minutes in a crash: set ``appendonly yes`` with ``appendfsync always``, or run replicas and let a record wait for
    them by `wait_for_replicas`. ``maxmemory-policy noeviction`` keeps Redis from dropping sessions by itself; the bound
    is `retention`. Events hold personal data: who may read the server may read them.

    Every loop has connections of its own, which close with it or by `aclose`; threads may share the inbox.

    Args:
        url: ``redis://``, ``rediss://`` (TLS) or ``unix://``, as redis-py reads it.
        prefix: What the names of all keys begin with; the braces keep them on one node of a cluster.
        retention: How much is kept; a million sessions for 30 days when left out.
        timeout: Seconds for a record or another question, after which it fails; Veriff waits five for an answer.
        wait_for_replicas: How many replicas must have a record before it is acknowledged.
        now: The time in seconds, for tests in which days pass.

    Raises:
        ConfigurationError: An argument cannot work, or the extra is not installed.

    Example:
        >>> async with RedisInbox("redis://localhost:6379/0") as inbox, VeriffClient.from_env(inbox=inbox) as veriff:
        ...     decision = await veriff.session(session_id).wait_for_decision(timeout=900)

    See https://redis.io/docs/latest/operate/oss_and_stack/management/persistence.
    """

    def __init__(  # noqa: PLR0913  all but the first are options by name
        self,
        url: str,
        *,
        prefix: str = "{veriff}",
        retention: Retention | None = None,
        timeout: float = 4.0,
        wait_for_replicas: int = 0,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Check the arguments; nothing is opened yet."""
        self._loops: dict[asyncio.AbstractEventLoop, tuple[Lines, AsyncGenerator[None]]] = {}
        if not timeout > 0 or wait_for_replicas < 0 or not prefix:
            msg = (
                "RedisInbox needs a timeout above zero, replicas not below it, and a prefix: leave out what is unsure."
            )
            raise ConfigurationError(msg)
        self._make = _redis_py().maker(url, timeout)
        self._failures: tuple[type[Exception], ...] = (*_redis_py().errors, UnreadableError)
        self._shown = shown(url)
        self._prefix = prefix
        self._changes = f"{prefix}:changes"
        self._touched = f"{prefix}:touched"
        self._retention = retention or Retention()
        self._expiry = int(min((self._retention.seconds + _GRACE) * 1000, 2**53))
        self._timeout = timeout
        self._replicas = wait_for_replicas
        self._wait: list[Command] = [("WAIT", wait_for_replicas, int(timeout * 500))] if wait_for_replicas else []
        self._now = now
        self._latest = 0.0
        self._lock = Lock()
        self._closed = False

    def __repr__(self) -> str:
        """Show where it keeps, nothing secret."""
        return f"<RedisInbox {self._shown} {self._prefix}{' closed' if self._closed else ''}>"

    def __del__(self) -> None:
        """Warn when connections were left open."""
        if any(lines.open and not loop.is_closed() for loop, (lines, _) in getattr(self, "_loops", {}).items()):
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)

    async def __aenter__(self) -> Self:
        """Return the inbox itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections of this loop and end its feeds; those of another loop close with it."""
        self._closed = True
        with self._lock:
            _, keeper = self._loops.pop(asyncio.get_running_loop(), (None, None))
        if keeper is not None:
            await keeper.aclose()

    async def record(self, event: WebhookEvent, *, source: DecisionSource = DecisionSource.WEBHOOK) -> Recorded:
        """Keep an event; see `Inbox.record`."""
        lines = await self._here()
        recorded, count, oldest = await self._asked(self._keep(lines, event, source))
        if count > self._retention.sessions or self._is_over(oldest):
            with suppress(InboxError):  # The event is kept all the same, and the next record goes on with it.
                await self._asked(self._forget(lines, count), min(_FORGETTING, self._timeout))
        return recorded

    async def look(self, session_ids: Collection[str]) -> Mapping[str, SessionState]:
        """Return what is known of sessions; see `Inbox.look`."""
        lines = await self._here()
        wanted = list(dict.fromkeys(session_ids))
        found: dict[str, SessionState] = {}
        for start in range(0, len(wanted), _AT_ONCE):
            found.update(await self._asked(self._states(lines, wanted[start : start + _AT_ONCE])))
        return found

    async def history(self, session_id: str | None) -> Sequence[WebhookEvent]:
        """Return the events of a session; see `Inbox.history`."""
        lines = await self._here()
        return await self._asked(self._events(lines, session_id))

    async def changes(self) -> AsyncGenerator[str | None]:
        """Yield the sessions that change; see `Inbox.changes`."""
        lines = await self._here()
        place: bytes | None = None
        pauses: Iterator[float] | None = None
        async with lines.own() as connection:
            while True:
                try:
                    if place is None:
                        place, changed = await self._asked(self._begun(connection)), list[str | None]((None,))
                        pauses = pauses or iter(_PAUSES)
                    else:
                        place, changed = await self._asked(self._next(connection, place), _BLOCK + self._timeout)
                        pauses = iter(_PAUSES)
                except InboxError:
                    # Whoever begins is told at once; later on, a server may restart or hand over unnoticed.
                    pause = None if self._closed or pauses is None else next(pauses, None)
                    if pause is None:
                        raise
                    place, changed = None, []
                    await asyncio.sleep(pause)
                for session_id in changed:
                    yield session_id

    async def _here(self) -> Lines:
        """Return the connections of the running loop."""
        if self._closed:
            msg = "The inbox is closed: open another."
            raise InboxError(msg)
        loop = asyncio.get_running_loop()
        with self._lock:
            lines, keeper = self._loops.get(loop) or (None, None)
            if lines is None or keeper is None:
                for other in [other for other in self._loops if other.is_closed()]:
                    del self._loops[other]
                lines = Lines(self._make, _redis_py().errors)
                keeper = lines.kept()
                self._loops[loop] = lines, keeper
                await anext(keeper)  # at once, without a turn of the loop
        return lines

    async def _asked(self, work: Coroutine[None, None, _T], seconds: float | None = None) -> _T:
        """Do what asks the server, within the timeout, and say in our own words what goes wrong."""
        try:
            async with asyncio.timeout(seconds or self._timeout):
                return await work
        except self._failures as error:
            why = remedy(error)
        msg = "The inbox was closed while somebody used it." if self._closed else f"Redis has failed the inbox: {why}."
        raise InboxError(msg)

    async def _keep(self, lines: Lines, event: WebhookEvent, source: DecisionSource) -> tuple[Recorded, int, float]:
        """Record an event; return what became of it, how many sessions there are, and when the oldest was touched."""
        while True:  # until nobody has changed the session in between
            async with lines.turn(self._member(event.session_id)), lines.borrowed() as connection:
                shelf = await self._shelf(lines, connection, event)
                state, ignored = shelf.state, Ignored.REPEATED if shelf.is_repeated else None
                if not shelf.is_repeated:
                    state, ignored = advance(state, event, source)
                writes = self._writes(shelf, event, None if ignored else state)
                answers = await lines.again(connection, ("MULTI",), *writes, ("EXEC",), *self._wait)
            done, *replicas = answers[len(writes) + 1 :]
            if done is not None:
                break
        if replicas and cast("int", replicas[0]) < self._replicas:
            msg = f"Fewer than {self._replicas} replicas of Redis have the event: see whether they run and follow."
            raise InboxError(msg)
        *_, count, oldest = cast("tuple[int, list[bytes]]", done)
        return Recorded(event=event, state=state, ignored=ignored), count, float(oldest[1])

    async def _shelf(self, lines: Lines, connection: Connection, event: WebhookEvent) -> _Shelf:
        """Watch a session and read of it what a record needs to know."""
        member = self._member(event.session_id)
        key = self._key(member)
        wanted = ("HMGET", key, "touched", "state", "first", "after", b"key:" + _bytes(event.key))
        *_, found = await lines.first(connection, ("UNWATCH",), ("WATCH", key), wanted)
        touched, state, first, after, known = cast("list[bytes | None]", found)
        if touched is None or self._is_over(float(touched)):
            return _Shelf(member, is_over=touched is not None)
        shelf = _Shelf(member, state=load_state(state) if state else None, first=int(first or 0), after=int(after or 0))
        if known:
            return evolve(shelf, is_repeated=True)
        keep = shelf.after + 1 - self._retention.events
        if keep <= shelf.first:
            return shelf
        places = [b"event:%d" % place for place in range(shelf.first, keep)]
        (bodies,) = await lines.again(connection, ("HMGET", key, *places))
        keys = [b"key:" + body.rsplit(b"\n", 2)[0] for body in cast("list[bytes | None]", bodies) if body]
        return evolve(shelf, first=keep, gone=(*places, *keys))

    def _writes(self, shelf: _Shelf, event: WebhookEvent, changed: SessionState | None) -> list[Command]:
        """Return what is written of an event, if it is new, and of the state if that has changed."""
        key, self._latest = self._key(shelf.member), max(self._now(), self._latest + _TICK)
        fields: list[bytes | str | float] = ["touched", repr(self._latest)]
        writes: list[Command] = [("UNLINK", key)] if shelf.is_over else []
        if not shelf.is_repeated:
            name = _bytes(event.key)
            body = b"\n".join((name, event.kind.encode(), dump_event(event)))
            fields += ["first", shelf.first, "after", shelf.after + 1, b"key:" + name, 1, f"event:{shelf.after}", body]
        if shelf.gone:
            writes.append(("HDEL", key, *shelf.gone))
        if changed is not None:
            fields += ["state", dump_state(changed)]
            writes += [
                ("XADD", self._changes, "MAXLEN", "~", _CHANGES, "*", "session", _bytes(changed.session_id)),
                ("PEXPIRE", self._changes, self._expiry),
            ]
        return [
            *writes,
            ("HSET", key, *fields),
            ("PEXPIRE", key, self._expiry),
            ("ZADD", self._touched, repr(self._latest), shelf.member),
            ("PEXPIRE", self._touched, self._expiry),
            ("ZCARD", self._touched),
            ("ZRANGE", self._touched, 0, 0, "WITHSCORES"),
        ]

    async def _forget(self, lines: Lines, count: int) -> None:
        """Forget some of the sessions that are too many or too old, unless they are touched meanwhile."""
        some = min(_AT_ONCE, max(_A_FEW, count - self._retention.sessions))
        first = ("ZRANGE", self._touched, 0, some - 1, "WITHSCORES")
        order: tuple[Command, Command] = ("ZCARD", self._touched), first
        async with lines.borrowed() as connection:
            seen = self._too_much(await lines.first(connection, *order))
            if not seen:
                return
            keys = tuple(self._key(member) for member in seen)
            _, _, *found = await lines.first(connection, ("UNWATCH",), ("WATCH", *keys), *order)
            members = tuple(member for member in self._too_much(found) if member in seen)
            if members:
                gone = tuple(self._key(member) for member in members)
                await lines.again(
                    connection, ("MULTI",), ("UNLINK", *gone), ("ZREM", self._touched, *members), ("EXEC",)
                )

    def _too_much(self, found: list[object]) -> list[bytes]:
        """Return the members of the beginning of the order that are to go."""
        count, order = cast("tuple[int, list[bytes]]", found)
        pairs = zip(order[::2], order[1::2], strict=True)
        over = count - self._retention.sessions
        return [member for place, (member, score) in enumerate(pairs) if place < over or self._is_over(float(score))]

    async def _states(self, lines: Lines, session_ids: list[str]) -> dict[str, SessionState]:
        wanted = [("HMGET", self._key(self._member(session_id)), "touched", "state") for session_id in session_ids]
        async with lines.borrowed() as connection:
            answers = cast("list[list[bytes | None]]", await lines.first(connection, *wanted))
        return {
            session_id: load_state(state)
            for session_id, (touched, state) in zip(session_ids, answers, strict=True)
            if touched and state and not self._is_over(float(touched))
        }

    async def _events(self, lines: Lines, session_id: str | None) -> Sequence[WebhookEvent]:
        async with lines.borrowed() as connection:
            (answer,) = await lines.first(connection, ("HGETALL", self._key(self._member(session_id))))
        flat = cast("list[bytes]", answer)
        found = dict(zip(flat[::2], flat[1::2], strict=True))
        if not found or self._is_over(float(found[b"touched"])):
            return ()
        bodies = [found[b"event:%d" % place] for place in range(int(found[b"first"]), int(found[b"after"]))]
        parts = [body.rsplit(b"\n", 2) for body in bodies]
        return tuple(load_event(kind.decode(), body) for _, kind, body in parts)

    async def _begun(self, connection: Connection) -> bytes:
        """Return the place of the newest change: a feed that has it misses nothing from then on."""
        (newest,) = await ask(connection, ("XREVRANGE", self._changes, "+", "-", "COUNT", 1))
        if not newest:
            # A place to hold on to: whether it is still there tells whether anything was missed.
            add = ("XADD", self._changes, "MAXLEN", "~", _CHANGES, "*", "begun", 1)
            place, _ = await ask(connection, add, ("PEXPIRE", self._changes, self._expiry))
            return cast("bytes", place)
        return cast("list[list[bytes]]", newest)[0][0]

    async def _next(self, connection: Connection, place: bytes) -> tuple[bytes | None, list[str | None]]:
        """Sleep until something has changed, or for a while; return the new place, or none if this one is gone.

        It goes when the stream was trimmed beyond it, emptied, or is another server's; its number alone would not tell.
        """
        read = ("XREAD", "COUNT", _AT_ONCE, "BLOCK", int(_BLOCK * 1000), "STREAMS", self._changes, place)
        found, held = await ask(connection, read, ("XRANGE", self._changes, place, place))
        if not held:
            return None, []
        if found is None:
            return place, []
        entries = cast("list[tuple[bytes, list[tuple[bytes, list[bytes]]]]]", found)[0][1]
        return entries[-1][0], [_text(value) for _, (name, value) in entries if name == b"session"]

    def _is_over(self, touched: float) -> bool:
        return touched <= self._now() - self._retention.seconds

    def _key(self, member: bytes) -> bytes:
        return _bytes(f"{self._prefix}:") + member

    @staticmethod
    def _member(session_id: str | None) -> bytes:
        return b"none" if session_id is None else b"session:" + _bytes(session_id)
