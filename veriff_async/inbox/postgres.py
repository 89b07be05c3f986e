"""The inbox of many machines, on PostgreSQL.

A record is part of one transaction: lock the session, read it, apply the event, and write everything. Records that
wait at the same time share it, see `_postgres_recorder`. When the connection breaks while the transaction is being
committed, nothing shows whether it was. So it stores a random token with its events, for which each call of `record`
asks afterwards: an event that has the token was stored by this very call, and counts as new.

Subscribers are woken by ``NOTIFY``, but not in that transaction: the server lets only one transaction with a ``NOTIFY``
commit at a time, and the others wait while it waits for the disk. So a process notifies after its commits, and one
``NOTIFY`` stands for all that were made during the last one. It carries no data; a subscriber asks for what has
changed, and asks about once a second without a ``NOTIFY`` too, since a process may die between its commit and its
``NOTIFY``.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

from veriff_async._event_loop import require_asyncio
from veriff_async._protocol.arguments import check_number
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
from veriff_async._protocol.webhook import dump_event
from veriff_async._storage.encrypted_text import TextCodec
from veriff_async._storage.postgres import PostgresConnections, execute, fetch_one, notify
from veriff_async.config import Retention, check_clock, check_retention
from veriff_async.errors import InboxError, LeaseLostError
from veriff_async.inbox._postgres_codec import PostgresCodec
from veriff_async.inbox._postgres_deliveries import (
    extend_leases,
    find_deliveries,
    give_back_events,
    lease_events,
    requeue_event,
    settle_event,
)
from veriff_async.inbox._postgres_events import ChangePosition, EventTables
from veriff_async.inbox._postgres_recorder import PostgresRecorder
from veriff_async.inbox._postgres_records import RecordCall, RecordRequest
from veriff_async.inbox._postgres_retention import (
    BATCH_SIZE,
    clear_files,
    count_sessions,
    delete_expired,
    delete_oldest,
    erase_sessions,
)
from veriff_async.inbox._postgres_rotation import renew_events, renew_sessions
from veriff_async.inbox._postgres_search import count_rows, find_sessions
from veriff_async.inbox._unconfirmed import UnconfirmedCalls, repeat_until_known
from veriff_async.models.decision_source import DecisionSource

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
    from types import TracebackType

    from psycopg import AsyncConnection
    from psycopg_pool import AsyncConnectionPool

    from veriff_async.encryption import KeyRing
    from veriff_async.models.delivery import Delivery, DeliveryOutcome, DeliveryRecord, DeliveryStatus
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.inbox_search import InboxStatistics, SessionPage, SessionSearch
    from veriff_async.models.state import RecordResult, SessionState

__all__ = ("PostgresInbox",)

_LOG: Final = logging.getLogger("veriff_async.inbox")

# Seconds between two deletions of sessions that are too old, unless the last one left some.
_DELETE_INTERVAL: Final = 1.0

# A machine that vanishes closes no connection. Without these, its transaction would lock the event for two hours.
# https://www.postgresql.org/docs/current/runtime-config-connection.html#RUNTIME-CONFIG-CONNECTION-TCP-SETTINGS
_NOTICE_DEATH: Final = (
    "SET LOCAL tcp_keepalives_idle = 30; SET LOCAL tcp_keepalives_interval = 10; SET LOCAL tcp_keepalives_count = 3"
)

# Seconds without a notification after which a subscription looks for changes, and between two looks when it gets none.
_TICK_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.25

# Looks for changes of a subscription that may fail one after another, before the subscription fails.
_MAX_FAILED_LOOKS: Final = 3

# Seconds that counting or vacuuming a large inbox may take.
_SLOW_SECONDS: Final = 600.0


class PostgresInbox:
    """Keep events in PostgreSQL (14 or newer), for all processes of all machines.

    A record is part of one transaction: the event, the state after it and its place in the queue of the handlers are
    stored together or not at all, and are on the disk when `record` returns, also with ``synchronous_commit = off``.
    Records that wait at the same time share a transaction, which makes a burst several times faster. Where a
    standby may take over, let the server wait for it (``synchronous_standby_names``), or the last records may be lost.
    A subscription whose connection breaks yields ``None``, so that the subscriber reads all states again; no change
    is lost. Behind PgBouncer in transaction mode, where ``LISTEN`` does not work, subscriptions look for changes four
    times a second instead; `is_polling` says so, and one warning is logged.

    The tables (``veriff_inbox_*``) are created at the first use, in the first schema of the ``search_path``. Events
    hold personal data, which everyone who can read the database can read, unless the inbox has keys to encrypt it.

    Use it in one event loop, and close it there by ``async with`` or `aclose`; make one for each loop. When the loop
    has ended, another one may use it.

    Args:
        server: A URL or connection string of libpq, such as ``postgresql://user:password@host/database``; or an
            ``AsyncConnectionPool`` of psycopg_pool that your program opens and closes. Any settings of its connections
            work.
        retention: How much is kept; by default a million sessions for 30 days.
        timeout: Seconds after which a record or another call fails; Veriff waits about five for a response.
        migrate: Whether to create and upgrade the tables at the first use. Otherwise run
            ``veriff-async postgres migrate`` before a deployment.
        now: The time in seconds since 1970, for tests in which days pass; by default the server's time, so that a
            machine with a wrong clock deletes nothing.
        encryption: The keys with which events, states and submissions are encrypted; by default they are stored as they
            are. The ids of sessions, kinds, times and statuses always are. See `reencrypt`.

    Raises:
        ConfigurationError: An argument cannot work, or the extra is not installed; from any method, that another loop
            uses the inbox, or that the tables are missing or of a newer version.

    Example:
        >>> inbox = PostgresInbox("postgresql://localhost/app")
        >>> async with inbox, VeriffClient.from_env(inbox=inbox) as veriff:
        ...     decision = await veriff.session(session_id).wait_for_decision(timeout=900)
    """

    def __init__(  # noqa: PLR0913  every option has a default
        self,
        server: str | AsyncConnectionPool[Any],
        *,
        retention: Retention | None = None,
        timeout: float = 4.0,
        migrate: bool = True,
        now: Callable[[], float] | None = None,
        encryption: KeyRing | None = None,
    ) -> None:
        """Check the arguments; nothing is opened yet."""
        check_number("timeout", timeout, above=True, remedy="give seconds above zero")
        retention = Retention() if retention is None else check_retention(retention)
        self._server = PostgresConnections(
            server, timeout, store="PostgresInbox", error=InboxError, component="inbox", migrate=migrate
        )
        codec = PostgresCodec(TextCodec(encryption, error=InboxError, owner="inbox"))
        self._tables = EventTables(retention, None if now is None else check_clock(now), codec)
        self._entered = 0
        self._unconfirmed: UnconfirmedCalls[RecordCall] = UnconfirmedCalls()
        self._recorder = PostgresRecorder(self._server, self._tables, self._notify_subscribers)
        self._channel: str | None = None
        self._has_news = False
        self._notifier: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._leases_in_transactions: set[str] = set()
        self._next_deletion = 0.0
        self._next_count_at = 0
        self._surplus = 0
        self._is_deleting = False
        self._has_warned = False

    def __repr__(self) -> str:
        """Show the address of the server, and no secrets."""
        state = " closed" if self._server.is_closed else " polling" if self.is_polling else ""
        return f"<PostgresInbox {self._server.address}{state}>"

    @property
    def is_polling(self) -> bool:
        """Whether subscriptions look for changes at intervals, because ``LISTEN`` does not work behind PgBouncer."""
        return self._server.is_polling

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

        A pool that you passed stays open. A closed inbox refuses everything until ``async with`` opens it again.
        """
        self._entered = 0
        require_asyncio()
        tasks = [*self._tasks] if self._notifier is None else [*self._tasks, self._notifier]
        if tasks := [task for task in tasks if task.get_loop() is asyncio.get_running_loop()]:
            await asyncio.wait(tasks)
        self._notifier = None
        await self._server.aclose()
        await self._recorder.aclose()

    async def record(
        self, event: WebhookEvent, *, source: DecisionSource = DecisionSource.WEBHOOK, deliver: bool = False
    ) -> RecordResult:
        """Record an event; see `DeliveryInbox.record`.

        Events that are recorded at the same time share one transaction; one that cannot be stored fails alone. If the
        connection breaks while the transaction is being committed, the server is asked for up to 30 seconds whether it
        was, so that the event counts as new exactly once.
        """
        check_record(event, source, deliver)
        body = dump_event(event)  # first: the key is a digest of the same JSON, and its error would name nothing
        with self._unconfirmed.track(event, lambda: RecordCall(body)) as call:
            request = RecordRequest(event, source, deliver, call)
            recorded = await repeat_until_known(
                call, lambda: self._recorder.record(request), lambda: self._server.is_closed
            )
            with suppress(InboxError):  # the event is stored all the same, and a later record deletes more
                await self._delete_old(recorded.new_session)
        return recorded.result

    async def get_states(self, session_ids: Collection[str]) -> Mapping[str, SessionState]:
        """Return the states of sessions; see `Inbox.get_states`."""
        wanted = dict.fromkeys(check_session_ids(session_ids))
        return await self._server.run(lambda connection: self._tables.states(connection, wanted))

    async def get_events(self, session_id: str | None) -> Sequence[WebhookEvent]:
        """Return the events of a session; see `Inbox.get_events`."""
        check_session_id(session_id)
        return await self._server.run(lambda connection: self._tables.events(connection, session_id))

    async def save_submission(self, session_id: str, submission: str) -> None:
        """Store a text for a session; see `SubmissionInbox.save_submission`."""
        check_submission(session_id, submission)
        await self._server.run(lambda connection: self._tables.save_submission(connection, session_id, submission))

    async def subscribe(self) -> AsyncGenerator[str | None]:
        """Yield the sessions that change; see `Inbox.subscribe`."""
        channel = await self._get_channel()
        position: ChangePosition | None = None
        is_started, failures = False, 0
        async with aclosing(self._server.listen(channel, tick=_TICK_SECONDS, poll=_POLL_SECONDS)) as hints:
            async for hint in hints:
                after = position = None if hint is None else position
                try:
                    position, changed = await self._server.run(partial(self._tables.changes_after, position=after))
                except InboxError:
                    # The next hint comes within a second, and the next look then begins at the same position.
                    failures += 1
                    if not is_started or self._server.is_closed or failures > _MAX_FAILED_LOOKS:
                        raise
                    continue
                is_started, failures = True, 0
                for session_id in changed:
                    yield session_id

    async def lease(self, limit: int, *, seconds: float) -> Sequence[Delivery[WebhookEvent]]:
        """Lease events that are due; see `DeliveryInbox.lease`."""
        check_lease(limit, seconds)
        token = secrets.token_bytes(8)
        is_sent = asyncio.Event()
        lease = partial(lease_events, tables=self._tables, limit=limit, seconds=float(seconds), token=token)
        try:
            return await self._server.run(lease, before_commit=is_sent.set)
        except InboxError:
            if is_sent.is_set():
                await self._give_back(token)
            raise
        except asyncio.CancelledError:
            # The commit may have succeeded. Not awaited: the caller was cancelled. `aclose` waits for it.
            if is_sent.is_set():
                task = asyncio.create_task(self._give_back(token), name="veriff-async inbox")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            raise

    async def _give_back(self, token: bytes) -> None:
        """End what a call of `lease` has leased whose caller does not get it."""
        with suppress(InboxError):  # the leases end by themselves
            await self._server.run(
                lambda connection: give_back_events(connection, self._tables, token),
                seconds=min(1.0, self._server.timeout),
            )

    async def extend_leases(self, deliveries: Collection[Delivery[WebhookEvent]], *, seconds: float) -> frozenset[str]:
        """Let leases end later; see `DeliveryInbox.extend_leases`."""
        leases = frozenset(delivery.lease for delivery in check_extension(deliveries, seconds))
        # The rows of these are locked by transactions of this inbox, so other processes cannot lease them.
        held = leases & self._leases_in_transactions
        return held | await self._server.run(
            lambda connection: extend_leases(connection, self._tables, leases - held, float(seconds))
        )

    async def settle(self, delivery: Delivery[WebhookEvent], outcome: DeliveryOutcome) -> bool:
        """Store the outcome of an attempt; see `DeliveryInbox.settle`."""
        check_settlement(delivery, outcome)
        return await self._server.run(
            lambda connection: settle_event(connection, self._tables, delivery.lease, outcome)
        )

    @asynccontextmanager
    async def handle_in_transaction(
        self, delivery: Delivery[WebhookEvent], outcome: DeliveryOutcome
    ) -> AsyncGenerator[AsyncConnection[Any]]:
        """Yield a connection in a transaction with which the outcome commits; see `TransactionalInbox`."""
        check_settlement(delivery, outcome)
        async with self._server.open_transaction() as connection:
            await self._server.limit(connection, execute(connection, _NOTICE_DEATH))
            # Stored at the start: it locks the row, so that the lease cannot be lost before the end, and it is rolled
            # back with everything else.
            is_held = await self._server.limit(
                connection, settle_event(connection, self._tables, delivery.lease, outcome)
            )
            if not is_held:
                msg = "The lease of a delivery was lost before its transaction began: another attempt handles it."
                raise LeaseLostError(msg)
            self._leases_in_transactions.add(delivery.lease)
            try:
                yield connection
            finally:
                self._leases_in_transactions.discard(delivery.lease)

    async def get_deliveries(
        self, *, session_id: str | None = None, status: DeliveryStatus | None = None, limit: int = 100
    ) -> Sequence[DeliveryRecord]:
        """Return how far the handlers are; see `DeliveryInbox.get_deliveries`."""
        check_delivery_query(session_id, status, limit)
        return await self._server.run(
            lambda connection: find_deliveries(connection, self._tables, session_id, status, limit)
        )

    async def requeue(self, session_id: str | None, dedup_key: str) -> bool:
        """Queue a stored event again; see `DeliveryInbox.requeue`."""
        check_requeue(session_id, dedup_key)
        return await self._server.run(lambda connection: requeue_event(connection, self._tables, session_id, dedup_key))

    async def find_sessions(self, search: SessionSearch, *, limit: int = 100, page: str | None = None) -> SessionPage:
        """Find sessions; see `SearchableInbox.find_sessions`."""
        check_search(search, limit, page)
        return await self._server.run(lambda connection: find_sessions(connection, self._tables, search, limit, page))

    async def statistics(self) -> InboxStatistics:
        """Count what is stored and what waits; see `SearchableInbox.statistics`. It reads a row of each session."""
        return await self._server.run(lambda connection: count_rows(connection, self._tables), seconds=_SLOW_SECONDS)

    async def erase(self, session_ids: Collection[str], *, refuse_for: float = 30 * 86_400.0) -> int:
        """Delete everything about sessions; see `ErasableInbox.erase`.

        Tables of up to 64 MiB are then rewritten, so that their files hold nothing of these sessions. Rewriting larger
        ones would stop the records of webhooks for too long: they are vacuumed, and the deleted bytes stay in the free
        space of their files until PostgreSQL uses it again. The same holds for tables of another owner. One warning
        says so; run ``VACUUM FULL`` on the tables ``veriff_inbox_*`` at a quiet time, or keep them on an encrypted
        disk. The write-ahead log of the server, its replicas and its backups are outside the reach of this method.
        """
        wanted = check_erasure(session_ids, refuse_for)
        count = 0
        for start in range(0, len(wanted), BATCH_SIZE):
            batch = wanted[start : start + BATCH_SIZE]
            count += await self._server.run(
                partial(erase_sessions, tables=self._tables, session_ids=batch, refuse_for=float(refuse_for))
            )
        # Events whose responses were lost are in the memory of this process too.
        self._unconfirmed.erase(wanted)
        if wanted:
            await self._clear_files()
        return count

    async def reencrypt(self) -> int:
        """Write everything again that is not encrypted with the first key of the ring; return how many texts were not.

        Call it after a key was added, and before an old one is removed. Other processes may use the inbox at the same
        time, if all have the new key. Replaced texts leave the files of the tables as `erase` describes.

        Raises:
            InboxError: Not everything may have been written, or a key is missing; call it again.
        """
        count = 0
        for renew in (renew_events, renew_sessions):
            last: int | None = 0
            while last is not None:
                part = partial(renew, codec=self._tables.codec, last=last)
                written, last = await self._server.run(part)
                count += written
        if count:
            await self._clear_files()
        return count

    async def _clear_files(self) -> None:
        """Remove deleted rows from the files of the tables; try again if others use a table for long."""
        for is_last in (False, False, True):
            try:
                is_clear = await self._server.run_outside_transaction(clear_files, seconds=_SLOW_SECONDS)
            except InboxError:
                if is_last:
                    raise
                continue
            if not is_clear and not self._has_warned:
                self._has_warned = True
                _LOG.warning(
                    "The tables of the inbox belong to another user, or are too large to rewrite: erased or "
                    "replaced bytes stay in the free space of their files until you run VACUUM FULL."
                )
            return

    async def _get_channel(self) -> str:
        """Return the name under which the processes that use these tables notify each other."""
        if self._channel is None:
            # The number of the table: several inboxes may be in one database, each in a schema of its own.
            query = "SELECT 'veriff_inbox_' || 'veriff_inbox_session'::regclass::oid"
            row = await self._server.run(lambda connection: fetch_one(connection, query))
            self._channel = str(row[0]) if row else "veriff_inbox"
        return self._channel

    def _notify_subscribers(self) -> None:
        """Wake the subscribers of all processes soon; the caller does not wait for it."""
        self._has_news = True
        notifier = self._notifier
        if notifier is None or notifier.done() or notifier.get_loop() is not asyncio.get_running_loop():
            self._notifier = asyncio.create_task(self._notify())

    async def _notify(self) -> None:
        """Notify until nothing was committed during the last notification."""
        while self._has_news:
            self._has_news = False
            with suppress(InboxError):  # the subscribers look for changes once a second by themselves
                channel = await self._get_channel()
                work = partial(notify, channel=channel, payload="")
                await self._server.run(work, autocommit=True, is_idempotent=True)

    async def _delete_old(self, new_session: int | None) -> None:
        """Delete a batch of sessions that are too old or too many, if it is time to look for them."""
        if self._is_deleting:  # for another record: two would delete more than is too much
            return
        self._is_deleting = True
        try:
            await self._delete_batch(new_session)
        finally:
            self._is_deleting = False

    async def _delete_batch(self, new_session: int | None) -> None:
        most, seconds = self._tables.retention.max_sessions, min(1.0, self._server.timeout)
        if new_session is not None and new_session >= self._next_count_at:
            # Numbers only grow, so the last one bounds how many sessions were added since the last count. One per cent
            # more than needed is deleted, so that not every record has to count.
            self._next_count_at = new_session + max(1, most // 100)
            count = await self._server.run(count_sessions)
            self._surplus = count - most + most // 100 if count > most else 0
            self._next_count_at = max(self._next_count_at, new_session + most - count)
        if self._surplus > 0:
            delete = partial(delete_oldest, tables=self._tables, count=self._surplus)
            deleted = await self._server.run(delete, seconds=seconds)
            self._surplus = self._surplus - deleted if deleted else 0  # the others wait for handlers
        if time.monotonic() >= self._next_deletion:
            self._next_deletion = time.monotonic() + _DELETE_INTERVAL
            deleted = await self._server.run(partial(delete_expired, tables=self._tables), seconds=seconds)
            if deleted == BATCH_SIZE:
                self._next_deletion = 0.0
