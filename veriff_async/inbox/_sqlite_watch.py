"""The two connections of an inbox in SQLite: one writes, one reads and looks for commits of other processes."""

from __future__ import annotations

import sqlite3
import time
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Final

from veriff_async._storage.sqlite_lock import retry_busy
from veriff_async._storage.sqlite_log import try_empty_log
from veriff_async.inbox._sqlite_retention import IDLE_PORTION
from veriff_async.inbox._sqlite_schema import BUSY_TIMEOUT, ERRORS
from veriff_async.inbox._sqlite_store import SqliteEventStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from veriff_async._storage.encrypted_text import TextCodec
    from veriff_async.config import Retention
    from veriff_async.inbox._pubsub import Broadcaster

__all__ = ("ChangePublisher", "EventReader", "EventWriter")

# Seconds without a job after which the write-ahead log is emptied of deleted content. That waits for the disk three
# times, so no record should wait for it.
_PURGE_PAUSE: Final = 0.1

# Seconds after which it is emptied although jobs come without such a pause, or again after a failed attempt.
_PURGE_INTERVAL: Final = 1.0

# Seconds between two portions that an idle writer deletes; other processes write in between.
_RETENTION_PAUSE: Final = 0.02

# Looks without a change after which the reader looks half as often, until something changes.
_IDLE_LOOKS: Final = 100


class ChangePublisher:
    """Publishes the sessions whose states changed, each change once; shared by the writer and the reader of an inbox.

    The writer reports after its commits, the reader when another connection has committed. Both publish "everything
    after the last number", so the reader does not have to know which changes the writer has published already.
    """

    def __init__(self, broadcaster: Broadcaster) -> None:
        """Take the subscribers."""
        self.broadcaster = broadcaster
        self._lock = Lock()
        self._last_number: int | None = None

    def start(self, store: SqliteEventStore) -> None:
        """Start with later changes; the first subscriber reads all states after this, earlier changes included."""
        with self._lock:
            self._last_number = store.last_change()

    def stop(self) -> None:
        """Publish nothing until the next start: without subscribers, the changes in between are of no use."""
        with self._lock:
            self._last_number = None

    def publish(self, store: SqliteEventStore) -> None:
        """Publish what has changed since the last call, unless the reader has not started the watch yet."""
        with self._lock:
            changes = [] if self._last_number is None else store.changes_after(self._last_number)
            if changes:
                self._last_number = changes[-1][0]
                self.broadcaster.publish(session_id for _, session_id in changes)


class EventWriter(SqliteEventStore):
    """The connection that writes."""

    def __init__(
        self,
        path: Path,
        retention: Retention,
        now: Callable[[], float],
        codec: TextCodec,
        *,
        publisher: ChangePublisher,
    ) -> None:
        """Open the file, and take who publishes changes."""
        super().__init__(path, retention, now, codec)
        self._publisher = publisher
        self._purge_at: float | None = None  # when to empty the log even if jobs come all the time
        self._purge_pause = _PURGE_PAUSE

    @property
    def idle_seconds(self) -> float | None:
        """When to delete more sessions, or to empty the log, if there is something to do."""
        if self._retention.has_more:
            return _RETENTION_PAUSE
        return self._purge_pause if self._retention.is_stale else None

    def begin(self, *, writes: bool) -> None:
        """Begin a transaction at the time of the clock."""
        super().begin(writes=writes)
        self._retention.begin()

    def commit(self) -> None:
        """Delete what is too old, and commit."""
        # Inside the transaction, so that retention needs no timer and no lock of its own.
        self._retention.delete_old()
        super().commit()

    def after_commit(self) -> None:
        """Wake the subscribers, and keep the log small, and deleted content out of it."""
        if self._publisher.broadcaster.count:
            try:
                retry_busy(lambda: self._publisher.publish(self), BUSY_TIMEOUT)
            except sqlite3.Error as error:  # the events are recorded all the same
                self._publisher.broadcaster.end(ERRORS.from_exception(error))
        super().after_commit()
        if not self._retention.is_stale:
            return
        now = time.monotonic()
        if self._purge_at is None:
            self._purge_at = now + _PURGE_INTERVAL
        elif now >= self._purge_at:
            self._empty_log()

    def on_idle(self) -> None:
        """Delete more of what is too old, or empty the log."""
        if not self._retention.has_more:
            self._empty_log()
            return
        try:
            # A record must not wait behind this for the lock of another process.
            if not self.try_begin():
                return
            self._retention.begin()
            self._retention.delete_old(IDLE_PORTION)
            super().commit()
        except sqlite3.Error:  # for example, the disk is full: the next record fails too, or tries again
            self.rollback()
            self._retention.has_more = False
        else:
            self.after_commit()

    def close(self) -> None:
        """Empty the log, and close the file."""
        if self._retention.is_stale:
            self._empty_log()
        super().close()

    def _empty_log(self) -> None:
        """Empty the write-ahead log, which has the pages as they were before something was deleted."""
        with suppress(sqlite3.Error):
            self._retention.is_stale = not try_empty_log(self._db, timeout=0)
        is_stale = self._retention.is_stale
        self._purge_at = time.monotonic() + _PURGE_INTERVAL if is_stale else None
        self._purge_pause = _PURGE_INTERVAL if is_stale else _PURGE_PAUSE


class EventReader(SqliteEventStore):
    """The connection that reads, and that looks for commits of other processes while there are subscribers."""

    has_transactions = False

    def __init__(  # noqa: PLR0913  the options of the inbox
        self,
        path: Path,
        retention: Retention,
        now: Callable[[], float],
        codec: TextCodec,
        *,
        publisher: ChangePublisher,
        watch: float,
    ) -> None:
        """Open the file, and take who publishes changes and the seconds between two looks."""
        super().__init__(path, retention, now, codec)
        self._publisher = publisher
        self._watch = watch
        self._data_version: int | None = None
        self._idle_looks = 0

    @property
    def idle_seconds(self) -> float | None:
        """When to look again, if anyone subscribes."""
        if not self._publisher.broadcaster.count:
            return None
        return self._watch if self._idle_looks < _IDLE_LOOKS else 2 * self._watch

    def begin(self, *, writes: bool) -> None:  # noqa: ARG002  it never writes
        """Look for changes, without a transaction: each query has a snapshot of its own.

        A new subscriber relies on the watch as soon as its (empty) job is done, so the look comes before that job.
        """
        self.check_file()
        self._look()

    def commit(self) -> None:
        """Do nothing: `begin` has not begun a transaction."""

    def rollback(self) -> None:
        """Do nothing: `begin` has not begun a transaction."""

    def on_idle(self) -> None:
        """Look for changes."""
        self._idle_looks += 1
        self.check_file()
        self._look()

    def _look(self) -> None:
        if not self._publisher.broadcaster.count:
            self._data_version = None
            self._publisher.stop()
            return
        try:
            # It is another number after each commit of another connection, in any process, and cheap to ask for.
            version: int = self._db.execute("PRAGMA data_version").fetchone()[0]
            if version == self._data_version:
                return
            if self._data_version is None:
                self._publisher.start(self)
            else:
                self._publisher.publish(self)
            self._data_version = version
            self._idle_looks = 0
        except Exception as error:  # noqa: BLE001  others may have written anything into the file
            self._data_version = None
            self._publisher.broadcaster.end(ERRORS.from_exception(error))
