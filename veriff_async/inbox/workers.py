"""The two threads of an inbox in SQLite: one that writes, in batches, and one that reads and keeps watch."""

from __future__ import annotations

import sqlite3
from collections import deque
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING, Final

from attrs import frozen

from veriff_async.errors import InboxError

if TYPE_CHECKING:
    from collections.abc import Callable

    from veriff_async.inbox.feeds import Feeds
    from veriff_async.inbox.shelves import Shelves

__all__ = ("Reader", "Worker", "Writer")

_IN_ONE_COMMIT: Final = 256
"""Events that share a transaction; more would keep other processes from writing for too long."""

_QUIET: Final = 100
"""Looks that found nothing new, after which the reader looks half as often, until something is new again."""


@frozen
class _Job:
    """Something to do, and who is told what came of it: a result, or an error."""

    do: Callable[[Shelves], object]
    answer: Callable[[object, Exception | None], None]


class Worker(Thread):
    """A thread that does jobs in their order, until it is stopped.

    It is a daemon, so a program that forgets to close its inbox ends all the same: to the file that is as any crash is.
    """

    def __init__(self, shelves: Shelves, name: str) -> None:
        """Take the connection, which is closed at the end."""
        super().__init__(name=f"veriff-async inbox {name}", daemon=True)
        self._shelves = shelves
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._stopped = False
        self._lock = Lock()

    def put(self, do: Callable[[Shelves], object], answer: Callable[[object, Exception | None], None]) -> None:
        """Have something done.

        Raises:
            InboxError: It was stopped.
        """
        with self._lock:
            if self._stopped:
                msg = "The inbox was closed meanwhile: make another one."
                raise InboxError(msg)
            self._jobs.put(_Job(do, answer))

    def stop(self) -> None:
        """End when everything that was put has been done."""
        with self._lock:
            self._stopped = True
            self._jobs.put(None)

    def _close(self) -> None:
        self._shelves.close()


class Writer(Worker):
    """Writes; jobs that wait share one transaction, and are told of their results when it is on the disk."""

    def __init__(self, shelves: Shelves, told: Callable[[list[tuple[int, str]]], None]) -> None:
        """Take the connection, and whom to tell of changes."""
        super().__init__(shelves, "writer")
        self._told = told

    def run(self) -> None:
        """Write until stopped."""
        try:
            while (batch := self._next()) is not None:
                self._write(batch)
        finally:
            self._close()

    def _next(self) -> list[_Job] | None:
        first = self._jobs.get()
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
        answers: list[tuple[object, Exception | None]] = []
        try:
            self._shelves.begin()
            answers = [_done(job, self._shelves) for job in batch]
            self._shelves.commit()
        except sqlite3.Error as problem:
            self._shelves.rollback()
            answers = [(None, _failed(problem))] * len(batch)
        else:
            self._told(list(self._shelves.changed))
        for job, (result, error) in zip(batch, answers, strict=True):
            job.answer(result, error)


class Reader(Worker):
    """Reads, and looks now and then for what other processes have committed, while somebody follows."""

    def __init__(self, shelves: Shelves, feeds: Feeds, watch: float) -> None:
        """Take the connection, whom to tell of changes, and the seconds between two looks."""
        super().__init__(shelves, "reader")
        self._feeds = feeds
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

    def run(self) -> None:
        """Read and watch until stopped."""
        try:
            while True:
                try:
                    job = self._jobs.get(timeout=self._pause if self._feeds.count else None)
                except Empty:
                    self._in_vain += 1
                    self._look()
                    continue
                if job is None:
                    return
                # First: a feed says that nothing is missed once its job is done, so the watch must be set by then.
                self._look()
                self._read(job)
        finally:
            self._close()

    @property
    def _pause(self) -> float:
        return self._watch if self._in_vain < _QUIET else 2 * self._watch

    def _read(self, job: _Job) -> None:
        try:
            result, error = _done(job, self._shelves)
        except sqlite3.Error as problem:
            result, error = None, _failed(problem)
        job.answer(result, error)

    def _look(self) -> None:
        if not self._feeds.count:
            self._version = None
            return
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
        except sqlite3.Error as error:
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


def _failed(error: sqlite3.Error) -> InboxError:
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return InboxError(f"The inbox's file cannot be used ({name}): look at its disk, its owner and who else holds it.")
