"""The two threads of an inbox in SQLite: one that writes, in batches, and one that reads and keeps watch."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections import deque
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING, Final

from attrs import frozen

from veriff_async._storage.sqlite_file import FileReplacedError
from veriff_async.errors import InboxError

if TYPE_CHECKING:
    from collections.abc import Callable

    from veriff_async.inbox._pubsub import Feeds
    from veriff_async.inbox._sqlite_store import Shelves

__all__ = ("Reader", "Worker", "Writer")

_LOG: Final = logging.getLogger("veriff_async.inbox")

_IN_ONE_COMMIT: Final = 256
"""Events that share a transaction; more would keep other processes from writing for too long."""

_PURGE: Final = 1.0
"""Seconds after which the write-ahead log is emptied of deleted content again, while there is no time to rest."""

_QUIET: Final = 100
"""Looks that found nothing new, after which the reader looks half as often, until something is new again."""


@frozen
class _Job:
    """Something to do, and who is told what came of it: a result, or an error."""

    do: Callable[[Shelves], object]
    answer: Callable[[object, Exception | None], None]


class Worker(Thread):
    """A thread that does jobs in their order, until it is stopped or fails.

    It is a daemon, so a program that forgets to close its inbox ends all the same: to the file that is as any crash is.
    A worker that fails answers every job that waits with an error, ends the feeds, and is replaced by its inbox.
    """

    def __init__(self, shelves: Shelves, feeds: Feeds, name: str) -> None:
        """Take the connection, which is closed at the end, and the feeds, which end when this fails."""
        super().__init__(name=f"veriff-async inbox {name}", daemon=True)
        self._shelves = shelves
        self._feeds = feeds
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._in_hand: list[_Job] = []
        self._stopped = False
        self._ended = False
        self._successor: Worker | None = None
        self._lock = Lock()
        self.failed: bool = False
        """Whether it ended by itself, so that another one is needed."""
        self.partner: Worker | None = None
        """The other thread of the inbox: what goes wrong for both is logged once."""

    def put(self, do: Callable[[Shelves], object], answer: Callable[[object, Exception | None], None]) -> None:
        """Have something done.

        Raises:
            InboxError: It was stopped, or has failed.
        """
        with self._lock:
            if self._stopped:
                raise _ended()
            self._jobs.put(_Job(do, answer))

    def stop(self, *, then: Worker | None = None) -> None:
        """End when everything that was put has been done, and stop another thread when the file is closed here."""
        with self._lock:
            self._stopped = True
            self._jobs.put(None)
            if not self._ended:
                self._successor = then
                return
        if then is not None:
            then.stop()

    def run(self) -> None:
        """Work until stopped; whatever ends the thread otherwise is logged, and answered to all who wait."""
        error = _ended()
        try:
            self._work()
        except FileReplacedError:
            self.failed, error = True, _replaced()
            self._shelves.let_go()
        except BaseException as problem:  # noqa: BLE001  nothing else sees what ends a thread
            self.failed, error = True, _broken(problem)
        finally:
            if self.failed and not (self.partner is not None and self.partner.failed):
                _LOG.error("a thread of the inbox has ended, and is replaced when it is next used: %s", error)
            self._end(error)

    def _work(self) -> None:
        raise NotImplementedError

    def _end(self, error: InboxError) -> None:
        with self._lock:
            self._stopped = True
        left: list[_Job | None] = [*self._in_hand]  # some may have their answer already, and keep it
        with suppress(Empty):
            while True:
                left.append(self._jobs.get_nowait())
        for job in filter(None, left):
            job.answer(None, error)
        if self.failed:
            self._feeds.end(error)
        self._shelves.close()
        with self._lock:
            self._ended = True
        if self._successor is not None:
            self._successor.stop()


class Writer(Worker):
    """Writes; jobs that wait share one transaction, and are told of their results when it is on the disk."""

    def __init__(self, shelves: Shelves, feeds: Feeds, told: Callable[[list[tuple[int, str]]], None]) -> None:
        """Take the connection, and whom to tell of changes."""
        super().__init__(shelves, feeds, "writer")
        self._told = told
        self._purged_at = -_PURGE

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            if batch:
                self._write(batch)
            else:
                self._purge()

    def _purge(self) -> None:
        """Empty the write-ahead log of what was deleted, at once unless others wait and it was done a moment ago."""
        if self._shelves.is_stale and (self._jobs.empty() or time.monotonic() - self._purged_at >= _PURGE):
            with suppress(sqlite3.Error):
                self._shelves.purge()
            self._purged_at = time.monotonic()

    def _next(self) -> list[_Job] | None:
        try:
            first = self._jobs.get(timeout=_PURGE if self._shelves.is_stale else None)
        except Empty:
            return []
        if first is None:
            return None
        batch = [first]
        while len(batch) < _IN_ONE_COMMIT:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                break
            if job is None:
                self._jobs.put(None)
                break
            batch.append(job)
        return batch

    def _write(self, batch: list[_Job]) -> None:
        self._in_hand = batch
        answers: list[tuple[object, Exception | None]] = []
        try:
            self._shelves.begin()
            answers = [_done(job, self._shelves) for job in batch]
            self._shelves.commit()
            self._told(list(self._shelves.changed))
            self._purge()
        except FileReplacedError:
            raise
        except Exception as problem:  # noqa: BLE001  whatever it is, it must reach who waits for the jobs
            self._shelves.rollback()
            answers = [(None, _failed(problem))] * len(batch)
        for job, (result, error) in zip(batch, answers, strict=True):
            job.answer(result, error)
        self._in_hand = []


class Reader(Worker):
    """Reads, and looks now and then for what other processes have committed, while somebody follows."""

    def __init__(self, shelves: Shelves, feeds: Feeds, watch: float) -> None:
        """Take the connection, whom to tell of changes, and the seconds between two looks."""
        super().__init__(shelves, feeds, "reader")
        self._watch = watch
        self._version: int | None = None
        self._last = 0
        self._own: deque[int] = deque()
        self._in_vain = 0

    def seen(self, changes: list[tuple[int, str]]) -> None:
        """Tell what this process has changed itself, at once; from the writer's thread."""
        if changes and self._feeds.count:
            self._own.extend(number for number, _ in changes)
            self._feeds.tell(session_id for _, session_id in changes)

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=self._pause if self._feeds.count else None)
            except Empty:
                self._in_vain += 1
                self._look()
                continue
            if job is None:
                return
            self._in_hand = [job]
            # First: a feed says that nothing is missed once its job is done, so the watch must be set by then.
            self._look()
            self._read(job)
            self._in_hand = []

    @property
    def _pause(self) -> float:
        return self._watch if self._in_vain < _QUIET else 2 * self._watch

    def _read(self, job: _Job) -> None:
        result: object = None
        error: Exception | None = None
        try:
            self._shelves.check()
            result, error = _done(job, self._shelves)
        except FileReplacedError:
            raise
        except Exception as problem:  # noqa: BLE001  whatever it is, it must reach who waits for the job
            error = _failed(problem)
        job.answer(result, error)

    def _look(self) -> None:
        if not self._feeds.count:
            self._version = None
            return
        self._shelves.check()
        try:
            version = self._shelves.version()
            if version == self._version:
                return
            if self._version is None:
                self._last = self._shelves.last_change()
            else:
                self._tell(self._shelves.changes_after(self._last))
            self._version = version
            self._in_vain = 0
        except Exception as error:  # noqa: BLE001  others may have written anything into the file
            self._version = None
            self._feeds.end(_failed(error))

    def _tell(self, changes: list[tuple[int, str]]) -> None:
        if changes:
            self._last = changes[-1][0]
            own = {self._own.popleft() for _ in range(len(self._own))}
            self._feeds.tell(session_id for number, session_id in changes if number not in own)


def _done(job: _Job, shelves: Shelves) -> tuple[object, Exception | None]:
    """Do a job; what is the matter with the file as a whole is not its own error."""
    try:
        return job.do(shelves), None
    except sqlite3.Error:
        raise
    except Exception as error:  # noqa: BLE001  whatever it is, it must reach whoever waits for the job
        return None, error


def _failed(error: Exception) -> InboxError:
    if isinstance(error, InboxError):
        return error
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return InboxError(f"The inbox's file cannot be used ({name}): look at its disk, its owner and who else holds it.")


def _replaced() -> InboxError:
    return InboxError("The inbox's file was deleted or replaced while it was open: see who does that, and try again.")


def _broken(error: BaseException) -> InboxError:
    return InboxError(f"A thread of the inbox failed with {type(error).__name__}: try again, it is started anew.")


def _ended() -> InboxError:
    return InboxError("The inbox was closed meanwhile: open it again with `async with`, or make another one.")
