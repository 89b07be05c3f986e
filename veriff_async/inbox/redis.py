"""The inbox of many machines, on Redis or Valkey.

`_redis_layout` describes the keys and fields, `_redis_sessions` how a record is made of one transaction.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from veriff_async._event_loop import forget_error, require_asyncio
from veriff_async._protocol.arguments import check_number, check_text
from veriff_async._protocol.inbox_arguments import (
    check_delivery_query,
    check_erasure,
    check_extension,
    check_lease,
    check_record,
    check_requeue,
    check_search,
    check_session_id,
    check_session_ids,
    check_settlement,
    check_submission,
)
from veriff_async._storage.encrypted_text import TextCodec
from veriff_async._storage.redis import RedisConnections
from veriff_async.config import Retention, check_clock, check_retention
from veriff_async.errors import ConfigurationError, InboxError
from veriff_async.inbox._redis_changes import BLOCK_SECONDS, RedisChanges
from veriff_async.inbox._redis_codec import RedisCodec
from veriff_async.inbox._redis_deletion import RedisDeletion
from veriff_async.inbox._redis_deliveries import RedisDeliveries
from veriff_async.inbox._redis_layout import BATCH_SIZE, RedisLayout
from veriff_async.inbox._redis_search import RedisSearch, load_page
from veriff_async.inbox._redis_sessions import RedisRecordCall, RedisSessions
from veriff_async.inbox._redis_upgrade import RedisUpgrade
from veriff_async.inbox._unconfirmed import UnconfirmedCalls, repeat_until_known
from veriff_async.models.decision_source import DecisionSource
from veriff_async.models.inbox_search import SessionSearch

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Iterator, Mapping, Sequence
    from types import TracebackType

    from redis.asyncio import Redis

    from veriff_async.encryption import KeyRing
    from veriff_async.inbox._redis_deliveries import Attempt
    from veriff_async.models.delivery import Delivery, DeliveryOutcome, DeliveryRecord, DeliveryStatus
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.inbox_search import InboxStatistics, SessionPage
    from veriff_async.models.state import RecordResult, SessionState

__all__ = ("RedisInbox",)

_T = TypeVar("_T")

# Seconds before a subscription whose connection broke tries again; after the last one it fails.
_RETRY_PAUSES: Final = (0.05, 0.25, 1.0)

# Seconds for a search or a count that visits all sessions.
_VISIT_SECONDS: Final = 60.0


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
        encryption: The keys with which events, states and submissions are encrypted; by default they are stored as
            they are.

    Raises:
        ConfigurationError: An argument cannot work, or the extra is not installed; from any method, that another loop
            uses the inbox.

    Example:
        >>> async with RedisInbox("redis://localhost:6379/0") as inbox, VeriffClient.from_env(inbox=inbox) as veriff:
        ...     decision = await veriff.session(session_id).wait_for_decision(timeout=900)

    See https://redis.io/docs/latest/operate/oss_and_stack/management/persistence.
    """

    def __init__(  # noqa: PLR0913  every option has a default
        self,
        server: str | Redis,
        *,
        prefix: str = "{veriff}",
        retention: Retention | None = None,
        timeout: float = 4.0,
        now: Callable[[], float] | None = None,
        encryption: KeyRing | None = None,
    ) -> None:
        """Check the arguments; nothing is opened yet."""
        check_number("timeout", timeout, above=True, remedy="give seconds above zero")
        if not check_text("prefix", prefix):
            msg = "prefix is empty: omit it, or pass a str that other programs do not use."
            raise ConfigurationError(msg)
        self._server = RedisConnections(server, timeout, store="RedisInbox", error=InboxError)
        self._prefix = prefix
        limits = Retention() if retention is None else check_retention(retention)
        texts = TextCodec(encryption, error=InboxError, owner="inbox")
        layout = RedisLayout(prefix, limits, None if now is None else check_clock(now), texts.search_secrets)
        codec = RedisCodec(texts)
        self._entered = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._unconfirmed: UnconfirmedCalls[RedisRecordCall] = UnconfirmedCalls()
        self._sessions = RedisSessions(layout, codec)
        self._changes = RedisChanges(layout)
        self._deletion = RedisDeletion(layout)
        self._deliveries = RedisDeliveries(layout, codec)
        self._search = RedisSearch(layout, codec)
        self._upgrade = RedisUpgrade(layout, codec)

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
        require_asyncio()
        loop = asyncio.get_running_loop()
        try:
            if tasks := [task for task in self._tasks if task.get_loop() is loop]:
                await asyncio.wait(tasks)
        finally:
            await self._server.aclose()

    async def record(
        self, event: WebhookEvent, *, source: DecisionSource = DecisionSource.WEBHOOK, deliver: bool = False
    ) -> RecordResult:
        """Record an event; see `DeliveryInbox.record`.

        If the connection breaks after the transaction was sent, the server is asked for up to 30 seconds whether it was
        applied, so that the event counts as new exactly once.
        """
        check_record(event, source, deliver)
        with self._unconfirmed.track(event, RedisRecordCall) as call:

            async def record() -> tuple[RecordResult, int]:
                client = self._server.get_client()
                recording = self._sessions.record(client, event, source, call, deliver=deliver)
                return await self._server.execute(client, recording)

            result, surplus = await repeat_until_known(call, record, lambda: self._server.is_closed)
            if surplus > 0:  # in the same block: a caller that is cancelled here does not get the result either
                with suppress(InboxError):  # the event is stored all the same, and the next record deletes more
                    client = self._server.get_client()
                    deleting = self._deletion.delete_surplus(client, surplus)
                    await self._server.execute(client, deleting, min(1.0, self._server.timeout))
        return result

    async def get_states(self, session_ids: Collection[str]) -> Mapping[str, SessionState]:
        """Return the states of sessions; see `Inbox.get_states`."""
        wanted = list(dict.fromkeys(check_session_ids(session_ids)))
        client = self._server.get_client()
        return await self._server.execute(client, self._sessions.states(client, wanted))

    async def get_events(self, session_id: str | None) -> Sequence[WebhookEvent]:
        """Return the events of a session; see `Inbox.get_events`."""
        check_session_id(session_id)
        client = self._server.get_client()
        return await self._server.execute(client, self._sessions.events(client, session_id))

    async def save_submission(self, session_id: str, submission: str) -> None:
        """Store a text for a session; see `SubmissionInbox.save_submission`."""
        check_submission(session_id, submission)
        client = self._server.get_client()
        await self._server.execute(client, self._sessions.save_submission(client, session_id, submission))

    async def lease(self, limit: int, *, seconds: float) -> Sequence[Delivery[WebhookEvent]]:
        """Lease events that are due; see `DeliveryInbox.lease`."""
        check_lease(limit, seconds)
        client = self._server.get_client()
        attempts: list[Attempt] = []
        leasing = self._start(self._server.execute(client, self._deliveries.lease(client, limit, seconds, attempts)))
        try:
            # Not ended by a cancellation: what the server has leased would be unknown.
            await asyncio.wait([leasing])
        except asyncio.CancelledError:
            self._start(self._give_back(leasing, attempts))
            raise
        try:
            return leasing.result()
        except InboxError:
            await self._give_back(leasing, attempts)
            raise

    async def _give_back(
        self, leasing: asyncio.Task[Sequence[Delivery[WebhookEvent]]], attempts: list[Attempt]
    ) -> None:
        """End what a call has leased whose caller does not get it, so that no lease has to end by itself."""
        await asyncio.wait([leasing])
        forget_error(leasing)
        if attempts:
            with suppress(InboxError):
                client = self._server.get_client()
                giving_back = self._deliveries.give_back(client, attempts)
                await self._server.execute(client, giving_back, min(1.0, self._server.timeout))

    def _start(self, work: Coroutine[None, None, _T]) -> asyncio.Task[_T]:
        """Do some work in a task that `aclose` waits for."""
        task = asyncio.get_running_loop().create_task(work, name="veriff-async inbox")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def extend_leases(self, deliveries: Collection[Delivery[WebhookEvent]], *, seconds: float) -> frozenset[str]:
        """Let leases end later; see `DeliveryInbox.extend_leases`."""
        wanted = check_extension(deliveries, seconds)
        client = self._server.get_client()
        return await self._server.execute(client, self._deliveries.extend(client, wanted, seconds))

    async def settle(self, delivery: Delivery[WebhookEvent], outcome: DeliveryOutcome) -> bool:
        """Store the outcome of an attempt; see `DeliveryInbox.settle`.

        After an error, call it again with the same delivery: it then returns whether the first call was applied.
        """
        check_settlement(delivery, outcome)
        client = self._server.get_client()
        return await self._server.execute(client, self._deliveries.settle(client, delivery, outcome))

    async def get_deliveries(
        self, *, session_id: str | None = None, status: DeliveryStatus | None = None, limit: int = 100
    ) -> Sequence[DeliveryRecord]:
        """Return how far the handlers are; see `DeliveryInbox.get_deliveries`."""
        check_delivery_query(session_id, status, limit)
        client = self._server.get_client()
        finding = self._search.find_deliveries(client, session_id, status, limit)
        return await self._server.execute(client, finding, _VISIT_SECONDS)

    async def requeue(self, session_id: str | None, dedup_key: str) -> bool:
        """Queue a stored event again; see `DeliveryInbox.requeue`."""
        check_requeue(session_id, dedup_key)
        client = self._server.get_client()
        return await self._server.execute(client, self._deliveries.requeue(client, session_id, dedup_key))

    async def find_sessions(self, search: SessionSearch, *, limit: int = 100, page: str | None = None) -> SessionPage:
        """Find sessions; see `SearchableInbox.find_sessions`.

        The first search for a person or a status reads the sessions that an earlier version of this library has stored,
        which takes minutes for a million of them. Update all processes before: what an older one records later is found
        only after the next event of its session.
        """
        check_search(search, limit, page)
        position = load_page(page)
        if not (search.vendor_data is search.end_user_id is search.status is None):
            await self._index_old_sessions()
        client = self._server.get_client()
        finding = self._search.find_sessions(client, search, limit, position)
        return await self._server.execute(client, finding, _VISIT_SECONDS)

    async def statistics(self) -> InboxStatistics:
        """Count what is stored and what waits; see `SearchableInbox.statistics`.

        ``bytes`` is the memory that the whole server uses. The first call reads the sessions that an earlier version of
        this library has stored, as the first search does.
        """
        await self._index_old_sessions()
        client = self._server.get_client()
        return await self._server.execute(client, self._search.statistics(client), _VISIT_SECONDS)

    async def erase(self, session_ids: Collection[str], *, refuse_for: float = 30 * 86_400.0) -> int:
        """Delete everything about sessions; see `ErasableInbox.erase`.

        The server forgets them at once, but not its files: until it writes them again, an append-only file and a
        snapshot have the events. Run ``BGREWRITEAOF`` and ``BGSAVE`` afterwards, or let your provider do it.
        """
        wanted = check_erasure(session_ids, refuse_for)
        erased = 0
        for start in range(0, len(wanted), BATCH_SIZE):
            part = wanted[start : start + BATCH_SIZE]
            client = self._server.get_client()
            await self._server.execute(client, self._deletion.refuse(client, part, refuse_for))
            erased += await self._server.execute(client, self._deletion.erase(client, part))
        # Events whose responses were lost are in the memory of this process too.
        self._unconfirmed.erase(wanted)
        if wanted:
            client = self._server.get_client()
            await self._server.execute(client, self._changes.delete(client, wanted))
        return erased

    async def reencrypt(self) -> int:
        """Write everything again that is not encrypted with the first key of the ring; return how many texts were not.

        Other processes may use the inbox at the same time. After an error, call it again.

        Raises:
            InboxError: Not everything may have been written, or a key is missing.
        """
        client, count = self._server.get_client(), 0
        async with aclosing(self._search.walk(client, SessionSearch(), None, BATCH_SIZE)) as parts:
            while members := await self._server.execute(client, anext(parts, None)):
                for member, _ in members:
                    count += await self._server.execute(client, self._upgrade.reencrypt(client, member))
        return count

    async def subscribe(self) -> AsyncGenerator[str | None]:
        """Yield the sessions that change; see `Inbox.subscribe`."""
        position: bytes | None = None
        pauses: Iterator[float] | None = None
        async with self._server.open_dedicated() as client:  # a lost connection must be noticed, to yield None
            while True:
                try:
                    if position is None:
                        position = await self._server.execute(client, self._changes.newest(client))
                        changed, pauses = list[str | None]((None,)), pauses or iter(_RETRY_PAUSES)
                    else:
                        timeout = BLOCK_SECONDS + self._server.timeout
                        position, changed = await self._server.execute(
                            client, self._changes.next(client, position), timeout
                        )
                        pauses = iter(_RETRY_PAUSES)
                except InboxError:
                    # A new subscription fails at once. A running one survives a restart or failover of the server.
                    pause = None if self._server.is_ended(client) or pauses is None else next(pauses, None)
                    if pause is None:
                        raise
                    position, changed = None, []
                    await asyncio.sleep(pause)
                for session_id in changed:
                    yield session_id

    async def _index_old_sessions(self) -> None:
        """Make sessions that an earlier version has stored findable, however long it takes."""
        client = self._server.get_client()
        if await self._server.execute(client, self._upgrade.is_done(client)):
            return
        latest: float | None = None
        async with aclosing(self._search.walk(client, SessionSearch(), None, BATCH_SIZE)) as parts:
            while members := await self._server.execute(client, anext(parts, None)):
                found = await self._server.execute(client, self._upgrade.index(client, [each for each, _ in members]))
                if found and latest is None:
                    latest = dict(members)[found[0]]
        await self._server.execute(client, self._upgrade.finish(client, latest))
