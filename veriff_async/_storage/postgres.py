"""Transactions and notifications of PostgreSQL, for PostgresInbox and PostgresJournal; needs the ``postgres`` extra.

Each call has one time limit. A call that exceeds it, or that is cancelled, lets psycopg cancel its statement in the
server. A server that does not answer that either loses the connection: the library shuts the socket down. PostgreSQL
itself ends our statements and transactions that take longer, so a process that stands still holds no locks.
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from veriff_async._event_loop import forget_error, require_asyncio
from veriff_async._logging import log_fields
from veriff_async._storage.postgres_notifications import Notifications
from veriff_async._storage.postgres_pool import BorrowedConnection, ConnectionSource
from veriff_async._storage.postgres_preparation import Preparation
from veriff_async._storage.postgres_problems import describe_problem, is_connection_problem
from veriff_async._storage.postgres_queries import (
    AsyncTransaction,
    Connection,
    PsycopgError,
    Row,
    execute,
    execute_many,
    fetch_all,
    fetch_one,
    notify,
)
from veriff_async._storage.postgres_schema import check_version, installed_version, migrate
from veriff_async._storage.postgres_scripts import SCHEMA_VERSIONS
from veriff_async._storage.postgres_transaction import (
    Commit,
    FirstStatement,
    abandon,
    begin_statement,
    do_work,
    end_block,
    is_refusal,
)
from veriff_async.errors import ConfigurationError, DecodeError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterator

    from psycopg_pool import AsyncConnectionPool

    from veriff_async.errors import InboxError, JournalError

__all__ = (
    "Connection",
    "FirstStatement",
    "PostgresConnections",
    "Row",
    "execute",
    "execute_many",
    "fetch_all",
    "fetch_one",
    "is_refusal",
    "notify",
)

_LOG: Final = logging.getLogger("veriff_async.inbox")

_T = TypeVar("_T")

# Seconds that the tables may take to be created or upgraded at the first use.
_MIGRATION_SECONDS: Final = 60.0

# Tries of one transaction: after the server was restarted, each connection of a pool may be dead.
_MAX_TRIES: Final = 8

# Seconds before a subscription whose connection broke tries again; after the last one it fails.
_RETRY_PAUSES: Final = (0.05, 0.25, 1.0)

# Seconds without a notification after which a subscription checks that its connection still works.
_CHECK_SECONDS: Final = 5.0

# Seconds in which a subscription must get the notification with which it tests itself.
_TEST_SECONDS: Final = 2.0

# Seconds between two looks of a subscription that gets no notifications, and until it tries to get them again.
_POLL_SECONDS: Final = 1.0
_RETEST_SECONDS: Final = 300.0

# Errors of the server, of the system, and of data that cannot be read.
_STORE_ERRORS: Final = (PsycopgError, OSError, DecodeError)


class PostgresConnections:
    """The connections of one store to PostgreSQL, in the one event loop that uses it.

    Attributes:
        address: The address of the server, without user and password.
        is_closed: Whether the store was closed.
        timeout: Seconds after which a call fails.
        is_polling: Whether subscriptions get no notifications, as behind PgBouncer in transaction mode.
    """

    def __init__(  # noqa: PLR0913  the options of both stores, and what differs between them
        self,
        server: str | AsyncConnectionPool[Any],
        timeout: float,
        *,
        store: str,
        error: type[InboxError | JournalError],
        component: str,
        migrate: bool = True,
        max_connections: int = 10,
    ) -> None:
        """Check the arguments; nothing is opened yet.

        Args:
            server: A URL, options of libpq, or a pool, which the user closes.
            timeout: Seconds for a call.
            store: The name of the class, such as ``PostgresInbox``.
            error: The class of the error that the store raises when the server fails.
            component: The name of its tables, as in the names of the SQL files.
            migrate: Whether the first use creates and upgrades the tables.
            max_connections: How many connections are open at the same time, apart from those of subscriptions.
        """
        self.timeout = timeout
        self.is_closed: bool = False
        self.is_polling: bool = False
        self._source = ConnectionSource(server, timeout, store=store, max_connections=max_connections)
        self.address: str = self._source.address
        self._store = store
        self._noun = store.removeprefix("Postgres").lower()
        self._error = error
        self._component = component
        self._migrates = migrate
        self._preparation = Preparation()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._borrowed: set[BorrowedConnection] = set()
        self._polls_until = 0.0
        self._has_warned = False

    def check_loop(self) -> None:
        """Check that the running event loop may use the store.

        Raises:
            ConfigurationError: Another event loop uses it, or it was in use before this process was forked.
            InboxError: Or `JournalError`: the store is closed.
        """
        require_asyncio()
        if self.is_closed:
            msg = f"The {self._noun} is closed: open it again, or make another one."
            raise self._error(msg)
        loop = asyncio.get_running_loop()
        if self._loop is loop and self._process == os.getpid():
            return
        if self._loop is not None and self._process != os.getpid():
            # Two processes would write to one socket.
            msg = f"{self._store} was in use before this process was forked: make one in each process."
            raise ConfigurationError(msg)
        if self._loop is not None and not self._loop.is_closed():
            msg = f"{self._store} is used by another event loop: make one for each event loop."
            raise ConfigurationError(msg)
        if "ProactorEventLoop" in (kind.__name__ for kind in type(loop).__mro__):
            msg = (
                f"{self._store} cannot use the default event loop of Windows: pass loop_factory="
                "asyncio.SelectorEventLoop to asyncio.Runner."
            )
            raise ConfigurationError(msg)
        self._loop, self._process = loop, os.getpid()
        self._preparation = Preparation(self._preparation.is_done)
        self._tasks.clear()
        self._borrowed.clear()
        self._source.reset()

    async def run(  # noqa: PLR0913  what differs between transactions
        self,
        work: Callable[[Connection], Awaitable[_T]],
        *,
        seconds: float | None = None,
        before_commit: Callable[[], object] | None = None,
        is_idempotent: bool = False,
        autocommit: bool = False,
        first: FirstStatement | None = None,
    ) -> _T:
        """Do some work in one transaction, with the isolation level READ COMMITTED.

        Args:
            work: Is called again, with another connection, if the connection was dead, or if the server rolled the
                transaction back because of others. Nothing of the failed try is stored then.
            seconds: The time limit of everything; by default the timeout.
            before_commit: Is called right before the transaction is committed. An error after that leaves open whether
                it was stored, and is followed by another try only if the work is idempotent.
            is_idempotent: Whether it makes no difference if the transaction is committed twice.
            autocommit: Whether each statement is a transaction, which saves two round trips to the server.
            first: A statement that is sent together with the beginning of the transaction; the work finds its row
                there.

        Raises:
            InboxError: Or `JournalError`: it failed. The original message is left out, since it may quote what was
                sent.
            ConfigurationError: See `check_loop`; or the tables are of another version.
        """
        await self.prepare()
        return await self._transact(
            work,
            seconds or self.timeout,
            before_commit,
            is_idempotent=is_idempotent,
            autocommit=autocommit,
            first=first,
        )

    async def run_outside_transaction(
        self, work: Callable[[Connection], Awaitable[_T]], *, seconds: float | None = None
    ) -> _T:
        """Do some work on a connection of its own that is in no transaction, as ``VACUUM`` needs it.

        Raises:
            InboxError: Or `JournalError`: see `run`; the work is not repeated.
        """
        await self.prepare()

        async def finish(borrowed: BorrowedConnection) -> _T:
            borrowed.connection = await self._source.connect()
            return await work(borrowed.connection)

        with self._borrow() as borrowed:
            try:
                return await self._limit(finish(borrowed), seconds or self.timeout, borrowed)
            finally:
                await _close(borrowed)

    @asynccontextmanager
    async def open_transaction(self) -> AsyncGenerator[Connection]:
        """Yield a connection in a transaction, which is committed at the end, for code of the user.

        Getting the connection and the commit have the time limit, and raise the errors of the store. The body has no
        limit. Its errors pass unchanged, and roll the transaction back.

        Raises:
            InboxError: Or `JournalError`: see `run`; after the body, it is unknown whether the transaction is stored.
        """
        await self.prepare()
        is_usable = False
        with self._borrow() as borrowed:
            try:
                connection, block = await self._limit(self._begin(borrowed), self.timeout, borrowed)
                try:
                    yield connection
                except BaseException as error:
                    with suppress(self._error):
                        await self._limit(end_block(block, error), self.timeout, borrowed)
                        is_usable = isinstance(error, Exception)
                    raise
                await self._limit(end_block(block, None), self.timeout, borrowed)
                is_usable = True
            finally:
                release = self._source.release(borrowed, is_usable=is_usable and not self.is_closed)
                await self._limit(release, self.timeout, borrowed)

    async def limit(self, connection: Connection, work: Awaitable[_T], seconds: float | None = None) -> _T:
        """Await a statement of the library in an `open_transaction`, with the limit and the errors of `run`."""

        async def finish() -> _T:
            return await work

        with self._borrow() as borrowed:
            borrowed.connection = connection
            return await self._limit(finish(), seconds or self.timeout, borrowed)

    async def listen(
        self, channel: str, *, tick: float = _CHECK_SECONDS, poll: float = _POLL_SECONDS
    ) -> AsyncGenerator[str | None]:
        """Yield the payloads of notifications; ``None`` means that some may have been missed.

        The first value is ``None``. If the connection breaks, another one is opened, and ``None`` is yielded. A pooler
        such as PgBouncer in transaction mode passes no notifications on; so the subscription notifies itself, through
        another connection. If that does not arrive in time, it logs a warning, yields empty texts at intervals, and
        tries again after some minutes.

        Args:
            channel: The channel.
            tick: Seconds without a notification after which an empty text is yielded.
            poll: Seconds between two empty texts while notifications do not arrive.

        Raises:
            InboxError: Or `JournalError`: the server cannot be reached; for a subscription that has worked before, only
                after some tries.
        """
        notifications: Notifications | None = None
        pauses: Iterator[float] | None = None
        self.check_loop()
        with self._borrow() as borrowed:
            try:
                while True:
                    payloads: list[str | None] = [None]
                    try:
                        self.check_loop()
                        if asyncio.get_running_loop().time() < self._polls_until:
                            if pauses is not None:
                                await asyncio.sleep(poll)
                                payloads = [""]
                        elif notifications is None:
                            await self.prepare()
                            notifications = await self._subscribe(borrowed, channel)
                        else:
                            payloads = [*await self._next(borrowed, notifications, tick)] or [""]
                        pauses = iter(_RETRY_PAUSES)
                    except self._error:
                        # A new subscription fails at once. A running one survives a restart or failover of the server.
                        pause = None if self.is_closed or pauses is None else next(pauses, None)
                        if pause is None:
                            raise
                        await _close(borrowed)
                        notifications, payloads = None, []
                        await asyncio.sleep(pause)
                    for payload in payloads:
                        yield payload
            finally:
                await _close(borrowed)

    def error_for(self, problem: BaseException) -> InboxError | JournalError:
        """Return the error of the store for a problem of the server, which may be that it did not answer in time."""
        msg = f"PostgreSQL has failed the {self._noun}: {describe_problem(problem)}."
        if self.is_closed:
            msg = f"The {self._noun} was closed while it was in use."
        return self._error(msg)

    def reopen(self) -> None:
        """Allow connections again after `aclose`, in the event loop that uses them first."""
        if self.is_closed:
            self.is_closed, self._loop, self._preparation = False, None, Preparation()

    async def aclose(self) -> None:
        """Close the connections, in the loop that uses them; a second call does nothing.

        Transactions and subscriptions in progress fail. A pool of the user stays open.
        """
        require_asyncio()
        self.is_closed = True
        if self._loop is not asyncio.get_running_loop() or self._process != os.getpid():
            return
        for borrowed in tuple(self._borrowed):
            borrowed.shut_down()
        try:
            if self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            await self._source.close_idle()

    async def prepare(self) -> None:
        """Check the version of the tables, and create or upgrade them, before the first use.

        Raises:
            InboxError: Or `JournalError`: the server failed.
            ConfigurationError: See `check_loop`; or the tables are of another version.
        """
        self.check_loop()
        if not self._preparation.is_done:
            await self._preparation.run(self._check_tables)

    async def _check_tables(self) -> None:
        version = await self._transact(lambda connection: installed_version(connection, self._component), self.timeout)
        if version < SCHEMA_VERSIONS[self._component] and self._migrates:
            await self._transact(lambda connection: migrate(connection, self._component), _MIGRATION_SECONDS)
        else:
            check_version(self._component, version, store=self._store)

    async def _transact(  # noqa: PLR0913  see `run`
        self,
        work: Callable[[Connection], Awaitable[_T]],
        seconds: float,
        before_commit: Callable[[], object] | None = None,
        *,
        is_idempotent: bool = False,
        autocommit: bool = False,
        first: FirstStatement | None = None,
    ) -> _T:
        begin = None if autocommit else begin_statement(seconds)

        async def do_tries() -> _T:
            tries = 0
            while True:
                tries += 1
                commit = Commit(before_commit, is_idempotent)
                try:
                    do = partial(do_work, work=work, begin=begin, commit=commit, first=first)
                    return await self._try_work(borrowed, do)
                except PsycopgError as error:
                    if is_connection_problem(error):
                        await self._source.close_idle()
                    is_over = tries == _MAX_TRIES or borrowed.is_abandoned or self.is_closed
                    if is_over or not commit.may_repeat(error, borrowed):
                        raise

        with self._borrow() as borrowed:
            return await self._limit(do_tries(), seconds, borrowed)

    async def _try_work(self, borrowed: BorrowedConnection, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        is_usable = False
        try:
            connection = await self._source.acquire(borrowed)
            self.check_loop()
            result = await work(connection)
            is_usable = True
        except Exception as error:
            is_usable = not isinstance(error, PsycopgError)
            raise
        finally:
            await self._source.release(borrowed, is_usable=is_usable and not self.is_closed)
        return result

    async def _begin(self, borrowed: BorrowedConnection) -> tuple[Connection, AsyncTransaction]:
        """Begin a transaction that the code of the user cannot commit; try again if the connection is dead."""
        tries = 0
        while True:
            tries += 1
            connection = await self._source.acquire(borrowed)
            # psycopg refuses `commit` and `rollback` within its own block of a transaction.
            block = AsyncTransaction(connection)
            try:
                self.check_loop()
                await block.__aenter__()
            except PsycopgError as error:
                await self._source.release(borrowed, is_usable=False)
                await self._source.close_idle()
                if borrowed.is_fresh or tries == _MAX_TRIES or not is_connection_problem(error):
                    raise
            else:
                return connection, block

    async def _subscribe(self, borrowed: BorrowedConnection, channel: str) -> Notifications | None:
        """Open a subscription; return ``None`` if its notifications do not arrive."""

        async def start() -> Notifications:
            borrowed.connection = await self._source.connect()
            notifications = Notifications(borrowed.connection, channel)
            await notifications.start()
            return notifications

        notifications = await self._limit(start(), self.timeout, borrowed)
        await self._transact(lambda connection: notify(connection, notifications.test_channel, ""), self.timeout)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _TEST_SECONDS
        while not notifications.is_tested and (left := deadline - loop.time()) > 0:
            await self._limit(notifications.wait(left), left + self.timeout, borrowed)
        self.is_polling = not notifications.is_tested
        if notifications.is_tested:
            return notifications
        await _close(borrowed)
        self._polls_until = loop.time() + _RETEST_SECONDS
        if not self._has_warned:
            self._has_warned = True
            cause = "notifications of PostgreSQL do not arrive"
            _LOG.warning(
                "%s polls: %s, as behind PgBouncer in transaction mode. Connect it without, or in session mode.",
                self._store,
                cause,
                extra=log_fields(task=self._store, cause=cause),
            )
        return None

    async def _next(self, borrowed: BorrowedConnection, notifications: Notifications, seconds: float) -> list[str]:
        """Wait for notifications, for some seconds."""
        payloads = await self._limit(notifications.wait(seconds), seconds + self.timeout, borrowed)
        if not payloads:  # a connection that a firewall forgot looks like one without notifications
            await self._limit(execute(notifications.connection, "SELECT 1"), self.timeout, borrowed)
        return payloads

    @contextmanager
    def _borrow(self) -> Generator[BorrowedConnection]:
        """Yield a place for a connection, which `aclose` shuts down if it is in use."""
        borrowed = BorrowedConnection()
        self._borrowed.add(borrowed)
        try:
            yield borrowed
        finally:
            self._borrowed.discard(borrowed)

    async def _limit(self, work: Coroutine[Any, Any, _T], seconds: float, borrowed: BorrowedConnection) -> _T:
        """Await work that uses a connection, within some seconds.

        Raises:
            InboxError: Or `JournalError`: it failed.
        """
        task = asyncio.get_running_loop().create_task(work, name=f"veriff-async {self._noun}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        error: BaseException | None = None
        try:
            await asyncio.wait({task}, timeout=seconds)
        finally:
            if task.done():
                forget_error(task)  # of a call that was cancelled at the same moment
            else:
                error = TimeoutError()
                await abandon(task, borrowed)
        if task.done() and not task.cancelled():
            problem = task.exception()
            if problem is None:
                return task.result()
            if not isinstance(problem, _STORE_ERRORS):
                raise problem
            error = error or problem
        raise self.error_for(error or TimeoutError())


async def _close(borrowed: BorrowedConnection) -> None:
    """Close the connection of a subscription."""
    connection, borrowed.connection = borrowed.connection, None
    if connection is not None:
        await connection.close()
