"""The queue in front of the transactions in which `PostgresInbox` records events.

Theory of operation
    A commit waits for the disk, and each statement costs a round trip and the time of the server. So the events that
    wait share one transaction (group commit). It begins as soon as one event waits and none is under way; those that
    come until it is committed share the next one. Nothing waits for a timer, so one event alone is recorded at once.

Locks
    A transaction locks many sessions, and must not wait for one of them: a process that stands still would hold up
    everything. So it tries the locks. The events of a session that another process writes are recorded in a transaction
    of their own, which waits for that lock alone. Two transactions therefore never wait for each other.

Errors
    An event that cannot be stored, such as one whose session holds a damaged state, must not fail the others. If a
    statement fails, the transaction is rolled back, and its events are recorded in halves, until one that fails is
    alone. If the server cannot be reached, all events fail, and their calls continue as `_unconfirmed` describes.

Callers that leave
    A caller that is cancelled, or whose time is over, leaves. Its event is recorded if its transaction has begun, since
    the others need it. Only when the last caller of a transaction leaves, it is cancelled. A call that may be stored
    is remembered until Veriff sends the webhook again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from copy import copy
from typing import TYPE_CHECKING, Final

from anyio import CancelScope
from attrs import define, field

from veriff_async._event_loop import forget_error
from veriff_async._storage.postgres import FirstStatement, is_refusal
from veriff_async.errors import VeriffError
from veriff_async.inbox._postgres_events import lock_of, lock_statement
from veriff_async.inbox._postgres_records import record_events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from veriff_async._storage.postgres import Connection, PostgresConnections
    from veriff_async.inbox._postgres_events import EventTables
    from veriff_async.inbox._postgres_records import Recorded, RecordRequest

__all__ = ("PostgresRecorder",)

# Events that share a transaction, and bytes of their bodies, unless one alone is larger. More would hardly save time,
# and small events would wait longer for large ones.
_BATCH_SIZE: Final = 128
_BATCH_BYTES: Final = 2**20

# Seconds after which a transaction is slow, perhaps because its connection is dead, and another one may begin.
_SLOW_SECONDS: Final = 0.1

# Transactions of one process at the same time, and how many of them may wait for a lock.
_MAX_TRANSACTIONS: Final = 8
_MAX_WAITING: Final = 4


class _RefusedError(Exception):
    """The server, or the code of a model, has refused one of several events."""


@define(eq=False)
class _Entry:
    """One event that waits for its transaction.

    Attributes:
        request: The event.
        future: Its result; cancelled when its caller has left.
        batch: Its transaction, once that has begun.
    """

    request: RecordRequest
    future: asyncio.Future[Recorded]
    batch: _RecordBatch | None = None


@define(eq=False)
class _RecordBatch:
    """The events of one transaction.

    Attributes:
        entries: The events.
        session: The session for whose lock it waits, if it waits.
        task: What records them.
        is_slow: Whether others may begin although it has not ended.
    """

    entries: list[_Entry] = field(factory=list["_Entry"])
    session: bytes | None = None
    task: asyncio.Task[None] | None = None
    is_slow: bool = False

    @property
    def present(self) -> list[_Entry]:
        """Return the events that have no result yet, and whose callers have not left."""
        return [entry for entry in self.entries if entry.batch is self and not entry.future.done()]

    def add(self, entries: Iterable[_Entry]) -> None:
        """Add events."""
        for entry in entries:
            entry.batch = self
            self.entries.append(entry)


class PostgresRecorder:
    """Records the events of one inbox, many in one transaction.

    Args:
        server: The connections.
        tables: The statements.
        on_change: Is called after a commit that may have changed a state.
    """

    def __init__(
        self,
        server: PostgresConnections,
        tables: EventTables,
        on_change: Callable[[], object],
    ) -> None:
        """Keep the arguments."""
        self._server = server
        self._tables = tables
        self._on_change = on_change
        self._reset(None)

    def _reset(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Forget the events of a loop that has ended."""
        self._loop = loop
        self._waiting: deque[_Entry] = deque()
        self._contended: dict[bytes, deque[_Entry]] = {}
        self._batches: set[_RecordBatch] = set()

    async def record(self, request: RecordRequest) -> Recorded:
        """Record an event, in a transaction with others that wait.

        Raises:
            InboxError: It failed, or took too long; ``request.call.sent`` shows whether it may be stored.
            ConfigurationError: See `PostgresConnections.run`.
        """
        await self._server.prepare()  # a migration may take longer than a record, and must not be cancelled with it
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._reset(loop)
        entry = _Entry(request, loop.create_future())
        self._waiting.append(entry)
        self._begin()
        try:
            async with asyncio.timeout(self._server.timeout):
                return await entry.future
        except TimeoutError:
            raise self._server.error_for(TimeoutError()) from None
        finally:
            if entry.future.cancelled():
                await self._leave(entry)
            elif entry.future.done():
                forget_error(entry.future)  # of a caller that was cancelled at the same moment

    async def aclose(self) -> None:
        """Fail the events that wait, after the connections were closed, in the loop that uses them."""
        if self._loop is not asyncio.get_running_loop():
            return
        for entry in (*self._waiting, *(entry for entries in self._contended.values() for entry in entries)):
            _fail(entry, self._server.error_for(TimeoutError()))
        self._waiting.clear()
        self._contended.clear()
        tasks = {batch.task for batch in self._batches if batch.task is not None}
        if tasks:
            await asyncio.wait(tasks)

    async def _leave(self, entry: _Entry) -> None:
        """Leave an event to its transaction, or cancel that if no other caller waits for it."""
        batch = entry.batch
        if batch is None or batch.task is None:  # it will be skipped
            return
        if batch.present:
            entry.request.call.is_left = True
            return
        batch.task.cancel()
        with CancelScope(shield=True):
            await asyncio.wait({batch.task})

    def _begin(self) -> None:
        """Begin transactions for what waits, as far as others permit."""
        locking = {batch.session for batch in self._batches if batch.session is not None}
        for session in [session for session in self._contended if session not in locking]:
            if len(locking) == _MAX_WAITING:
                break
            entries = _take(self._contended[session])
            if not self._contended[session]:
                del self._contended[session]
            if entries:
                locking.add(session)
                self._start(_RecordBatch(session=session), entries)
        while (
            self._waiting
            and len(self._batches) < _MAX_TRANSACTIONS
            and all(batch.is_slow or batch.session is not None for batch in self._batches)
        ):
            if entries := _take(self._waiting):
                self._start(_RecordBatch(), entries)

    def _start(self, batch: _RecordBatch, entries: Sequence[_Entry]) -> None:
        batch.add(entries)
        self._batches.add(batch)
        batch.task = asyncio.create_task(self._run(batch), name="veriff-async inbox recorder")
        batch.task.add_done_callback(lambda _: self._end(batch))

    def _end(self, batch: _RecordBatch) -> None:
        """Let the next transaction begin."""
        for entry in batch.present:  # the task was cancelled, perhaps before it began, as when the loop ends
            _fail(entry, self._server.error_for(TimeoutError()))
        self._batches.discard(batch)
        self._begin()

    async def _run(self, batch: _RecordBatch) -> None:
        """Record the events of a batch, and give each caller its result."""

        def allow_others() -> None:
            batch.is_slow = True
            self._begin()

        if batch.session is None:  # those that came before this task got its turn
            batch.add(_take(self._waiting, batch.entries))
        timer = asyncio.get_running_loop().call_later(_SLOW_SECONDS, allow_others)
        try:
            try:
                await self._record(batch, batch.present)
            except _RefusedError:
                await self._record_parts(batch)
        except Exception as error:  # noqa: BLE001  the callers get it
            for entry in batch.present:  # each one its own, since raising an error changes it
                _fail(entry, copy(error) if isinstance(error, VeriffError) else error)
        finally:
            timer.cancel()

    async def _record_parts(self, batch: _RecordBatch) -> None:
        """Record the events of a batch in ever smaller parts, so that only those that cannot be stored fail."""
        parts = _halves(batch.present)
        while parts:
            part = [entry for entry in parts.pop() if not entry.future.done()]
            try:
                if part:
                    await self._record(batch, part)
            except _RefusedError:
                parts += _halves(part)
            except Exception as error:
                if len(part) > 1:
                    raise
                _fail(part[0], error)

    async def _record(self, batch: _RecordBatch, entries: Sequence[_Entry]) -> None:
        """Record events in one transaction.

        Raises:
            InboxError: The server failed.
            _RefusedError: One of several events cannot be stored.
        """
        sessions = {entry.request.session for entry in entries}
        locks = FirstStatement(lock_statement(sessions, waits=batch.session is not None))
        written: list[tuple[_Entry, Recorded]] = []

        async def insert(connection: Connection) -> None:
            held: list[int] = locks.row[0] or [] if locks.row else []  # by other processes
            present = (entry for entry in entries if not entry.future.done())
            free = [entry for entry in present if lock_of(entry.request.session) not in held]
            written[:] = zip(free, await self._insert(connection, free), strict=True)

        def before_commit() -> None:
            for entry, recorded in written:
                if recorded.token is not None:
                    entry.request.call.token, entry.request.call.sent = recorded.token, recorded.result

        await self._server.run(insert, before_commit=before_commit, first=locks)
        for entry, recorded in written:
            if not entry.future.done():
                entry.future.set_result(recorded)
        if any(not recorded.result.is_duplicate and recorded.result.state is not None for _, recorded in written):
            self._on_change()
        for entry in entries:
            if not entry.future.done():  # its session is locked
                entry.batch = None
                self._contended.setdefault(entry.request.session, deque()).append(entry)

    async def _insert(self, connection: Connection, entries: Sequence[_Entry]) -> Sequence[Recorded]:
        if not entries:
            return ()
        try:
            return await record_events(connection, self._tables, [entry.request for entry in entries])
        except Exception as error:
            if len(entries) > 1 and is_refusal(error):
                raise _RefusedError from None
            raise


def _take(waiting: deque[_Entry], others: Sequence[_Entry] = ()) -> list[_Entry]:
    """Remove the first events of a queue that fit into a transaction, without those whose callers have left."""
    taken: list[_Entry] = []
    count, size = len(others), sum(len(entry.request.call.body) for entry in others)
    while waiting and count < _BATCH_SIZE:
        if not waiting[0].future.done():
            size += len(waiting[0].request.call.body)
            if count and size > _BATCH_BYTES:
                break
            count += 1
            taken.append(waiting[0])
        waiting.popleft()
    return taken


def _halves(entries: Sequence[_Entry]) -> list[Sequence[_Entry]]:
    """Return both halves of some events, the first one last."""
    middle = (len(entries) + 1) // 2
    return [entries[middle:], entries[:middle]]


def _fail(entry: _Entry, error: BaseException) -> None:
    if not entry.future.done():
        entry.future.set_exception(error)
