"""The threads that work on the SQLite files of inboxes and journals.

SQLite blocks, so a store hands its work to threads. Each `Worker` owns one connection (a `Database`) and runs the jobs
of one queue in their order. `WorkerGroup` starts, replaces and stops the workers of one store: a journal has one, an
inbox has a writer and a reader.

    event loop                             worker thread
    group.run(job) ─ submit ──► queue ──► take all waiting jobs (256 at most)
                                          begin, run each job, commit
    await future ◄── one callback a loop ─┘

Group commit
    A commit waits for the disk, so all jobs that wait share one transaction. A database may ask for a pause between
    commits while records come concurrently (`Database.commit_interval`), so that more jobs wait. A job's result is
    delivered after the commit only: a record that was acknowledged is on the disk. An error of one job (a damaged row,
    a job that another run has claimed) is that job's own. An error of SQLite concerns the file as a whole, so it undoes
    the transaction and is delivered to every job.

Futures
    A result goes back through `call_soon_threadsafe`, once for each loop and batch. A cancelled caller leaves its job
    in the queue: the job runs, and its result is dropped. A loop may be closed at any moment, so the RuntimeError
    that this causes is ignored.

Lifetime
    * The file is opened before a thread is started, in a helper thread, so a failed open leaves no thread.
    * `stop` refuses later jobs and puts None behind the earlier ones. The thread ends there, so nothing that was
      accepted is lost.
    * A thread that fails, or whose file was replaced, gives its error to every job that waits. It is logged once for
      the group. An inbox starts new workers at its next use. A journal does not: its claims ended with the connection.
    * Workers stop one after the other. Of two connections that close at the same time neither knows that it is the
      last one, and the last one removes the write-ahead log.
    * Threads are daemons: a program that forgets to close its store still ends, and the file is as after a crash.

Garbage collection
    A store that is dropped without closing warns and stops its threads in `__del__`. So no thread may hold a reference
    to the store: jobs capture their arguments only, and each turn of the thread is a call of its own, whose local
    variables end with it. Otherwise a thread that waits would keep its last job alive.

Fork
    A child process has neither the threads nor SQLite's locks. It refuses a store that its parent had open, before it
    takes any lock: another thread may have held that lock at the fork.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
import warnings
from contextlib import ExitStack, closing, suppress
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar

from anyio import to_thread
from attrs import frozen

from veriff_async._event_loop import require_asyncio
from veriff_async._logging import log_fields
from veriff_async._storage.sqlite_file import Database
from veriff_async._storage.sqlite_guard import FileReplacedError
from veriff_async._storage.sqlite_lock import is_busy
from veriff_async.errors import ConfigurationError, VeriffError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from logging import Logger
    from pathlib import Path

__all__ = ("StoreErrors", "Worker", "WorkerGroup")

_T = TypeVar("_T")
_DatabaseT = TypeVar("_DatabaseT", bound=Database)
_Outcome: TypeAlias = "tuple[Any, Exception | None]"

# Jobs that share a transaction; more would keep other processes from writing for too long.
_BATCH_SIZE: Final = 256

# Seconds after a transaction of several records in which more of them are expected.
_CONCURRENT_SECONDS: Final = 1.0


@frozen
class StoreErrors:
    """The errors of one kind of store.

    Attributes:
        owner: The store, such as ``inbox``.
        error: The class of its errors.
        reopen: The remedy after it was closed.
        after_loss: The remedy after its file was deleted or replaced.
        after_failure: The remedy after one of its threads failed.
        log: Where a failed thread is logged.
    """

    owner: str
    error: Callable[[str], VeriffError]
    reopen: str
    after_loss: str
    after_failure: str
    log: Logger

    def closing_error(self) -> VeriffError:
        """Return the error for a store that was closed."""
        return self.error(f"The {self.owner} was closed: {self.reopen}.")

    def lost_file_error(self) -> VeriffError:
        """Return the error for a file that was deleted or replaced."""
        return self.error(f"The {self.owner}'s file was deleted or replaced while it was open: {self.after_loss}.")

    def thread_error(self, error: BaseException) -> VeriffError:
        """Return the error for a thread that ended by itself."""
        return self.error(f"A thread of the {self.owner} failed with {type(error).__name__}: {self.after_failure}.")

    def from_exception(self, error: Exception) -> VeriffError:
        """Return the error for what went wrong in the file; the original message may hold data, its name does not."""
        if isinstance(error, VeriffError):
            return error
        if isinstance(error, sqlite3.Error) and is_busy(error):
            return self.error(
                f"Another process keeps the {self.owner}'s file locked (SQLITE_BUSY): end long transactions of other "
                "programs, such as a copy, VACUUM or an open database shell, or use the file in fewer processes."
            )
        problem = getattr(error, "sqlite_errorname", None) or getattr(error, "strerror", None) or type(error).__name__
        return self.error(
            f"The {self.owner}'s file cannot be used ({problem}): check its folder, its owner, the disk, and other "
            "programs that use it."
        )


@frozen(eq=False)
class _QueuedJob:
    """One function to run with the database, and the future of its result."""

    run: Callable[[Any], Any]
    writes: bool
    future: asyncio.Future[Any]


class _Health:
    """The first failure of the workers of one group; shared by them, since they must not refer to the group."""

    def __init__(self, errors: StoreErrors, on_end: Callable[[Exception], None]) -> None:
        self.error: VeriffError | None = None
        self._errors = errors
        self._on_end = on_end
        self._lock = Lock()

    def fail(self, error: VeriffError) -> None:
        """Log a failure and report it to subscribers, unless the other worker of the group has done so."""
        with self._lock:
            is_first, self.error = self.error is None, self.error or error
        if is_first:
            fields = log_fields(error=type(error).__name__, cause=str(error))
            self._errors.log.error("A thread of the %s has ended: %s", self._errors.owner, error, extra=fields)
            self._on_end(error)


class Worker(Thread, Generic[_DatabaseT]):
    """A thread that owns one connection, and runs jobs on it until it is stopped or fails.

    Args:
        database: The open file, which the thread closes at its end.
        errors: The errors of the store.
        health: Shared by the workers of one store.
        name: The thread's name, such as ``inbox writer``.
        successor: The worker to stop when this one has closed its connection.
    """

    def __init__(
        self,
        database: _DatabaseT,
        errors: StoreErrors,
        health: _Health,
        *,
        name: str,
        successor: Worker[_DatabaseT] | None,
    ) -> None:
        """Start nothing yet."""
        super().__init__(name=f"veriff-async {name}", daemon=True)
        self._database = database
        self._errors = errors
        self._health = health
        self._successor = successor
        self._jobs: SimpleQueue[_QueuedJob | None] = SimpleQueue()
        self._batch: list[_QueuedJob] = []
        self._next_commit = 0.0
        self._shared_at = -_CONCURRENT_SECONDS
        self._lock = Lock()  # a job is either queued before the end of the thread, or refused
        self._refusal: VeriffError | None = None

    def submit(self, job: Callable[[_DatabaseT], _T], *, writes: bool) -> asyncio.Future[_T]:
        """Queue a job, and return a future of the running loop for its result.

        Raises:
            VeriffError: The worker was stopped, or has failed.
        """
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._refusal is not None:
                raise self._errors.error(str(self._refusal))
            self._jobs.put(_QueuedJob(job, writes, future))
        return future

    def stop(self, error: VeriffError | None = None) -> None:
        """End after everything that was submitted; later jobs are refused with an error, or because of the closing."""
        with self._lock:
            self._refusal = self._refusal or error or self._errors.closing_error()
            self._jobs.put(None)

    def run(self) -> None:
        """Run jobs until stopped."""
        error = self._errors.closing_error()
        try:
            while self._take_turn():
                pass
        except FileReplacedError:
            error = self._errors.lost_file_error()
            self._database.detach()  # before anyone learns of it, and opens the file that is there now
            self._health.fail(error)
        except BaseException as problem:  # noqa: BLE001  nothing else sees what ends a thread
            error = self._errors.thread_error(problem)
            self._health.fail(error)
        finally:
            self._end(error)

    def _take_turn(self) -> bool:
        """Wait for a job and run all that wait; return whether to continue. Nothing is held during the next wait."""
        batch = self._batch = list[_QueuedJob]()
        try:
            job = self._jobs.get(timeout=self._database.idle_seconds)
        except Empty:
            self._database.on_idle()
            return True
        if job is not None and (pause := self._next_commit - time.monotonic()) > 0:
            time.sleep(pause)
        while job is not None:
            batch.append(job)
            if len(batch) == _BATCH_SIZE or self._jobs.empty():
                break
            job = self._jobs.get()  # does not block: this thread is the only one that takes jobs
        if batch:
            _deliver(batch, self._run_batch(batch))
            self._schedule_commit(sum(job.writes for job in batch))
        return job is not None

    def _schedule_commit(self, records: int) -> None:
        """Delay the next commit while records come concurrently; one record after the other never waits."""
        now = time.monotonic()
        if records > 1:
            self._shared_at = now
        if records and now - self._shared_at < _CONCURRENT_SECONDS:
            self._next_commit = now + self._database.commit_interval

    def _run_batch(self, batch: Sequence[_QueuedJob]) -> list[_Outcome]:
        """Run jobs in one transaction."""
        database = self._database
        try:
            try:
                database.begin(writes=any(job.writes for job in batch))
                outcomes = [self._run_job(job) for job in batch]
                database.commit()
            except BaseException:
                database.rollback()
                raise
            database.after_commit()
        except FileReplacedError:
            raise
        except Exception as error:  # noqa: BLE001  every error must reach those who wait for the jobs
            return [(None, self._errors.from_exception(error))] * len(batch)
        return outcomes

    def _run_job(self, job: _QueuedJob) -> _Outcome:
        """Run one job; an error of SQLite is not its own, it ends the transaction."""
        try:
            return job.run(self._database), None
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001  every error must reach the one who waits for the job
            return None, self._errors.from_exception(error)

    def _end(self, error: VeriffError) -> None:
        """Refuse later jobs, fail those that wait, and close the connection."""
        with self._lock:
            self._refusal = error
        waiting = [*self._batch]  # some may have their results already, and keep them
        with suppress(Empty):
            while True:
                waiting += filter(None, [self._jobs.get_nowait()])
        _deliver(waiting, [(None, error)] * len(waiting))
        self._database.close()
        if self._successor is not None:
            self._successor.stop(error)


def _deliver(batch: Sequence[_QueuedJob], outcomes: Sequence[_Outcome]) -> None:
    """Resolve the futures of each event loop in one callback."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], _Outcome]]] = {}
    for job, outcome in zip(batch, outcomes, strict=True):
        by_loop.setdefault(job.future.get_loop(), []).append((job.future, outcome))
    for loop, results in by_loop.items():
        with suppress(RuntimeError):  # the loop was closed, so no task waits in it; it can be closed at any moment
            loop.call_soon_threadsafe(_resolve, results)


def _resolve(results: Sequence[tuple[asyncio.Future[Any], _Outcome]]) -> None:
    for future, (result, error) in results:
        if future.done():
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


class WorkerGroup(Generic[_DatabaseT]):
    """The workers of one store: started at its first use, stopped when it is closed.

    Args:
        path: The file.
        opens: Opens the database of each worker, by the worker's name. None of the functions may refer to the store.
        errors: The errors of the store.
        reopens: Whether the store can be opened again after it was closed, and works again after a thread failed.
        on_end: Called with the error when the workers fail or are closed, for subscribers.
    """

    def __init__(
        self,
        path: Path,
        opens: Mapping[str, Callable[[Path], _DatabaseT]],
        errors: StoreErrors,
        *,
        reopens: bool,
        on_end: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        """Start nothing yet."""
        self._path = path
        self._opens = opens
        self._errors = errors
        self._reopens = reopens
        self._on_end = on_end
        self._lock = Lock()
        self._health = _Health(errors, on_end)
        self._process = 0
        self._is_closed = False
        self._entered = 0
        self.workers: tuple[Worker[_DatabaseT], ...] = ()
        """The workers, in the order of `opens`; empty while the file is not open."""

    @property
    def is_open(self) -> bool:
        """Whether the file is open."""
        return bool(self.workers) and not self._is_closed and (self._reopens or self._health.error is None)

    async def run(self, job: Callable[[_DatabaseT], _T], *, worker: int = 0, writes: bool = False) -> _T:
        """Run a job in a worker's thread; if the caller is cancelled, the job runs all the same.

        Raises:
            VeriffError: The store is closed, cannot be opened, or the job failed.
        """
        self.check_open()
        workers = self.workers  # read once: another event loop may close the store at any moment
        if not workers or self._health.error is not None:
            workers = await to_thread.run_sync(self._open)
        return await workers[worker].submit(job, writes=writes)

    async def run_in_thread(self, work: Callable[[Path], _T]) -> _T:
        """Run a function with the path of the open file in a thread of its own; it opens a connection for itself.

        Raises:
            VeriffError: The store is closed, or the function failed.
        """
        self.check_open()
        try:
            return await to_thread.run_sync(work, self._path)
        except (OSError, sqlite3.Error) as problem:
            error = self._errors.from_exception(problem)
        raise error

    def check_open(self) -> None:
        """Check that the store can be used, although its file may not be open yet.

        Raises:
            VeriffError: It was closed.
            ConfigurationError: It was open before this process was forked, or no asyncio task is running.
        """
        require_asyncio()
        if self._is_closed:
            raise self._errors.closing_error()
        self._check_process()

    async def enter(self) -> None:
        """Open the file for an ``async with`` block, also after it was closed if the store allows that.

        Raises:
            VeriffError: It cannot be opened.
        """
        require_asyncio()
        self._check_process()
        # A thread cannot be cancelled: it opens the file all the same, but the block will not be left. So the lock is
        # taken by the end of the opening or by the cancellation, the first of the two; the other one leaves.
        first = Lock()
        try:
            await to_thread.run_sync(self._enter, first)
        except asyncio.CancelledError:
            if not first.acquire(blocking=False):
                await self.leave()
                self._is_closed = self._is_closed and self._reopens
            raise

    async def leave(self) -> None:
        """Close the file, unless another ``async with`` block uses the store."""
        await self._close(is_leaving=True)

    async def aclose(self) -> None:
        """Finish what was submitted, and close the file; later calls wait for the same end."""
        await self._close(is_leaving=False)

    async def _close(self, *, is_leaving: bool) -> None:
        require_asyncio()
        if self._is_inherited():  # before the lock, which another thread may have held when this process was forked
            self._is_closed, self.workers = True, ()
            return
        if self._lock.acquire(blocking=False):
            try:
                workers = self._stop(is_leaving=is_leaving)
            finally:
                self._lock.release()
        else:  # a thread opens the file, and may wait for another process that holds it; the event loop must not
            workers = await to_thread.run_sync(self._wait_and_stop, is_leaving)
        if not workers:
            return
        try:
            await to_thread.run_sync(self._join, workers)
        finally:  # also when it is cancelled: nothing else ends the subscriptions
            self._on_end(self._errors.closing_error())

    def warn_if_open(self, store: object) -> None:
        """Warn of a store that is dropped without closing, and stop its threads; for its ``__del__``."""
        if self.workers and not self._is_closed and not self._is_inherited():
            if self.is_open:
                warnings.warn(f"unclosed {store!r}", ResourceWarning, source=store, stacklevel=3)
            self.workers[0].stop()

    def _check_process(self) -> None:
        if self._is_inherited():
            # SQLite's locks do not survive a fork, not even for another connection (howtocorrupt.html, 2.6).
            msg = (
                f"The {self._errors.owner} was open before the process forked: make one in each process, or open it "
                "after the fork."
            )
            raise ConfigurationError(msg)

    def _is_inherited(self) -> bool:
        return bool(self.workers) and not self._is_closed and self._process != os.getpid()

    def _enter(self, first: Lock) -> None:
        self._open(reopen=self._reopens, entered=1)
        if not first.acquire(blocking=False):  # the caller was cancelled
            workers = self._wait_and_stop(is_leaving=True)
            self._join(workers)
            self._is_closed = self._is_closed and self._reopens  # a journal that was never entered can still be used
            if workers:
                self._on_end(self._errors.closing_error())

    def _open(self, *, reopen: bool = False, entered: int = 0) -> tuple[Worker[_DatabaseT], ...]:
        """Start the workers unless they run; several threads may call this at the same time."""
        with self._lock:
            if self._is_closed:
                if not reopen:
                    raise self._errors.closing_error()
                self.workers = ()  # they are being stopped
            elif self.workers and self._health.error is not None:
                if not self._reopens:
                    raise self._errors.error(str(self._health.error))
                self.workers[0].stop()
                for worker in self.workers:  # a lost file must be closed before its names are used again
                    worker.join()
                self.workers = ()
            if not self.workers:
                self._process = os.getpid()
                self.workers = self._start()
            self._is_closed = False
            self._entered += entered
            return self.workers

    def _wait_and_stop(self, is_leaving: bool) -> tuple[Worker[_DatabaseT], ...]:  # noqa: FBT001  for run_sync
        with self._lock:
            return self._stop(is_leaving=is_leaving)

    def _stop(self, *, is_leaving: bool) -> tuple[Worker[_DatabaseT], ...]:
        """Close the store, unless it is left and another block uses it; return the workers to wait for."""
        self._entered = max(0, self._entered - 1) if is_leaving else 0
        if self._entered > 0:
            return ()
        self._is_closed = True
        if self.workers:
            self.workers[0].stop()
        return self.workers

    def _join(self, workers: tuple[Worker[_DatabaseT], ...]) -> None:
        """Wait for the end of workers. Blocking."""
        for worker in workers:
            worker.join()
        with self._lock:
            self.workers = () if self.workers is workers else self.workers

    def _start(self) -> tuple[Worker[_DatabaseT], ...]:
        # The same file when it is opened again, even if the process has changed its folder.
        self._path = self._path.absolute()
        self._health = _Health(self._errors, self._on_end)
        workers: list[Worker[_DatabaseT]] = []
        try:
            with ExitStack() as on_failure:
                databases = {
                    name: on_failure.enter_context(closing(open_database(self._path)))
                    for name, open_database in self._opens.items()
                }
                for name, database in reversed(databases.items()):
                    successor = workers[0] if workers else None
                    worker = Worker(database, self._errors, self._health, name=name, successor=successor)
                    on_failure.callback(worker.stop)
                    worker.start()
                    workers.insert(0, worker)
                on_failure.pop_all()
                return tuple(workers)
        except Exception as problem:  # noqa: BLE001  raised below, without a context that may hold the path
            error = self._errors.from_exception(problem)
        raise error
