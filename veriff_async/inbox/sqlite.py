"""The inbox of one machine: a SQLite file that all its processes share. No server is needed.

One thread writes and one reads, each with a connection of its own. What waits to be written goes into one transaction,
so that many webhooks share one `fsync`. The reader looks now and then whether another process has committed, and
only while somebody follows the changes.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
import warnings
from contextlib import ExitStack, aclosing, closing, suppress
from threading import Lock
from typing import TYPE_CHECKING, Final, Self, TypeVar, cast

from anyio import to_thread

from veriff_async._event_loop import require_asyncio
from veriff_async._protocol.arguments import check_number
from veriff_async._storage.sqlite_file import FileGuard, database_path, real_path
from veriff_async._storage.sqlite_worker import Reader, Writer
from veriff_async.config import Retention, check_clock, check_retention
from veriff_async.errors import ConfigurationError, InboxError
from veriff_async.inbox._pubsub import Feeds
from veriff_async.inbox._sqlite_store import Shelves, opened
from veriff_async.models.decision import DecisionSource

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
    from types import TracebackType

    from veriff_async._storage.sqlite_worker import Worker
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.state import RecordResult, SessionState

__all__ = ("SqliteInbox",)

_T = TypeVar("_T")
_WATCH: Final = 0.01
"""Seconds between two looks for commits of other processes. Waking up for one takes 50 to 200 microseconds of processor
time: some one per cent of one core, and half of that after a second in which nothing came."""


class SqliteInbox:
    """Keep events in a file that all processes of this machine may share.

    What is recorded is on the disk before `record` returns (SQLite's write-ahead log, ``synchronous=FULL``), and wakes
    waits in every process. The file is made for its owner alone; it holds personal data, as every inbox does. It
    must lie on a disk of this machine, not on a network's.

    It is opened when first used, so it may be made before a server forks its workers (gunicorn's ``--preload``), but
    not used before that: a process refuses a file that it inherited open. It belongs to no event loop. When the file is
    deleted or replaced while it is open, records fail with an `InboxError` rather than being lost, and the next use
    opens the file that is there then.

    Args:
        path: The file; it is made when it is missing, its folder is not.
        retention: How much is kept; a million sessions for 30 days when left out.
        watch: Seconds between two looks for what other processes have recorded; twice as long when nothing has come for
            a while.
        now: The time in seconds since 1970, for tests in which days pass. A clock that is more than a day away from the
            last record is believed when it has gone on for a day: until then nothing is forgotten by it.

    Raises:
        ConfigurationError: The path names no file, or `watch` is not above zero.

    Example:
        >>> async with SqliteInbox("veriff.db") as inbox, VeriffClient.from_env(inbox=inbox) as veriff:
        ...     decision = await veriff.session(session_id).wait_for_decision()

    See https://sqlite.org/wal.html.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        retention: Retention | None = None,
        watch: float = _WATCH,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Check the options; nothing is opened yet."""
        self._path = database_path(path, owner="inbox", memory="MemoryInbox")
        self._retention = Retention() if retention is None else check_retention(retention)
        self._watch = check_number("watch", watch, above=True, remedy="give seconds above zero")
        self._now = check_clock(now)
        self._feeds = Feeds()
        self._lock = Lock()
        self._workers: tuple[Writer, Reader] | None = None
        self._process = 0
        self._closed = False
        self._entered = 0

    def __repr__(self) -> str:
        """Show whether it is open; a path may hold the name of a person."""
        return f"<SqliteInbox {'open' if self._workers else 'not open'}>"

    def __del__(self) -> None:
        """Warn when it was left open, and end its threads."""
        workers = getattr(self, "_workers", None)
        if workers is not None and self._process == os.getpid():
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            _stop(workers)

    async def __aenter__(self) -> Self:
        """Open the file, also after it was closed: a framework may start and stop an application many times.

        Raises:
            ConfigurationError: It is no inbox, or of a newer version.
            InboxError: It cannot be opened.
        """
        require_asyncio()
        entered: list[bool] = []
        try:
            await to_thread.run_sync(self._enter, entered)
        except asyncio.CancelledError:
            if entered:  # the thread has opened it all the same, and there is no block to leave
                await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the file, unless another ``async with`` block uses this inbox."""
        with self._lock:
            self._entered = max(0, self._entered - 1)
            is_used = self._entered > 0
        if not is_used:
            await self.aclose()

    async def record(self, event: WebhookEvent, *, source: DecisionSource = DecisionSource.WEBHOOK) -> RecordResult:
        """Keep an event; see `Inbox.record`."""
        writer, _ = await self._ready()
        return await _done_by(writer, lambda shelves: shelves.keep(event, source))

    async def get_states(self, session_ids: Collection[str]) -> Mapping[str, SessionState]:
        """Return what is known of sessions; see `Inbox.get_states`."""
        _, reader = await self._ready()
        wanted = tuple(session_ids)
        return await _done_by(reader, lambda shelves: shelves.states(wanted))

    async def subscribe(self) -> AsyncGenerator[str | None]:
        """Yield the sessions that change in any process; see `Inbox.subscribe`."""
        _, reader = await self._ready()
        async with aclosing(self._feeds.follow()) as feed:
            await anext(feed)
            await _done_by(reader, lambda _: None)  # wakes the reader, which keeps watch from now on
            yield None
            async for session_id in feed:
                yield session_id

    async def get_events(self, session_id: str | None) -> Sequence[WebhookEvent]:
        """Return the events of a session; see `Inbox.get_events`."""
        _, reader = await self._ready()
        return await _done_by(reader, lambda shelves: shelves.events(session_id))

    async def aclose(self) -> None:
        """Write what is under way, and close the file; a second call does nothing, ``async with`` opens it again."""
        require_asyncio()
        with self._lock:
            workers, self._workers, self._closed, self._entered = self._workers, None, True, 0
        if workers is None or self._process != os.getpid():
            return
        try:
            await to_thread.run_sync(_stop(workers))
        finally:  # also when it is cancelled: nothing else ends the threads and the feeds
            self._feeds.end(_closed())

    async def _ready(self) -> tuple[Writer, Reader]:
        require_asyncio()
        workers = self._workers
        if workers is None or any(worker.failed for worker in workers):
            return await to_thread.run_sync(self._opened)
        self._check_process()
        return workers

    def _check_process(self) -> None:
        # SQLite's locks do not survive a fork, not even for another connection (https://sqlite.org/howtocorrupt.html).
        if self._workers is not None and self._process != os.getpid():
            msg = "The inbox was open before the process forked: make one in each process, or open it after the fork."
            raise ConfigurationError(msg)

    def _enter(self, entered: list[bool]) -> None:
        self._opened(reopen=True)
        entered.append(True)

    def _opened(self, *, reopen: bool = False) -> tuple[Writer, Reader]:
        self._check_process()  # before the lock, which another thread may have held when this process was forked
        with self._lock:
            if self._closed and not reopen:
                raise _closed()
            if self._workers is not None and any(worker.failed for worker in self._workers):
                for worker in self._workers:
                    worker.stop()
                self._workers = None
            if self._workers is None:
                self._workers = self._open()
                self._process = os.getpid()
            self._closed = False
            self._entered += reopen
            return self._workers

    def _open(self) -> tuple[Writer, Reader]:
        try:
            self._path = self._path.absolute()  # what it is opened as again, wherever the process goes in between
            real_path(self._path, owner="inbox")  # refuses names through which other processes are not seen
            with ExitStack() as begun:
                shelves = [begun.enter_context(closing(self._shelves())) for _ in range(2)]
                reader = Reader(shelves[0], self._feeds, self._watch)
                writer = Writer(shelves[1], self._feeds, reader.seen)
                writer.partner, reader.partner = reader, writer
                for worker in (writer, reader):
                    begun.callback(worker.stop)
                    worker.start()
                begun.pop_all()
                return writer, reader
        except sqlite3.Error as error:
            problem = getattr(error, "sqlite_errorname", type(error).__name__)
        except OSError as error:
            problem = error.strerror or type(error).__name__
        except RuntimeError:
            problem = "no thread can be started"
        msg = f"The inbox's file cannot be opened ({problem}): check its folder, its owner and the disk."
        raise InboxError(msg)

    def _shelves(self) -> Shelves:
        connection = opened(self._path)
        return Shelves(connection, FileGuard(self._path), self._retention, self._now)


def _stop(workers: tuple[Writer, Reader]) -> Callable[[], None]:
    """Stop both threads at once, and return a function that waits for their end.

    The reader ends after the writer: of two connections that close at once, none knows that it is the last, which takes
    the write-ahead log along.
    """
    writer, reader = workers
    writer.stop(then=reader)
    return reader.join


async def _done_by(worker: Worker, job: Callable[[Shelves], _T]) -> _T:
    """Have a job done in a worker's thread; cancelling leaves it to be done there, and forgets it here."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def answer(result: object, error: Exception | None) -> None:
        with suppress(RuntimeError):  # the loop was closed, so nobody waits in it; it can be closed at any moment
            loop.call_soon_threadsafe(_resolve, future, result, error)

    worker.put(job, answer)
    return await future


def _resolve(future: asyncio.Future[_T], result: object, error: Exception | None) -> None:
    if future.done():
        return
    if isinstance(error, StopIteration):  # of `now`; a future refuses it
        future.set_exception(RuntimeError("StopIteration"))
    elif error is not None:
        future.set_exception(error)
    else:
        future.set_result(cast("_T", result))


def _closed() -> InboxError:
    return InboxError("The inbox was closed: open it again with `async with`, or make another one.")
