"""One try of a transaction: how it begins, is committed and ends."""

from __future__ import annotations

import asyncio
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from anyio import CancelScope
from attrs import define

from veriff_async._event_loop import forget_error
from veriff_async._storage.postgres_problems import is_connection_problem, is_repeatable
from veriff_async._storage.postgres_queries import (
    ConnectionFailure,
    DataError,
    InFailedSqlTransaction,
    InvalidTransactionTermination,
    PsycopgError,
    execute,
    fetch_last,
    has_cancel_safe,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from veriff_async._storage.postgres_pool import BorrowedConnection
    from veriff_async._storage.postgres_queries import AsyncTransaction, Connection, Row

__all__ = (
    "Commit",
    "FirstStatement",
    "abandon",
    "begin_statement",
    "do_work",
    "end_block",
    "is_refusal",
)

_T = TypeVar("_T")

# Seconds that a cancelled statement has to end, before its connection is shut down.
_CANCEL_SECONDS: Final = 0.5

# Milliseconds: the largest value of the settings of PostgreSQL.
_MAX_SETTING: Final = 2**31 - 1

# By the state of the transaction when the code of the user has ended without an error.
_FAILURES: Final[Mapping[str, type[PsycopgError]]] = MappingProxyType(
    {"INERROR": InFailedSqlTransaction, "UNKNOWN": ConnectionFailure, "IDLE": InvalidTransactionTermination}
)


def begin_statement(seconds: float) -> bytes:
    """Return the statements that begin a transaction; the server ends it if it takes a second longer than permitted."""
    milliseconds = min(int(seconds * 1000) + 1000, _MAX_SETTING)
    return (
        "BEGIN ISOLATION LEVEL READ COMMITTED; "
        f"SET LOCAL statement_timeout = {milliseconds}; "
        f"SET LOCAL idle_in_transaction_session_timeout = {milliseconds}"
    ).encode()


@define
class FirstStatement:
    """A statement that is sent together with the beginning of a transaction, which saves a round trip.

    Attributes:
        sql: It has no parameters, and returns a row.
        row: That row in the transaction that was begun last.
    """

    sql: bytes
    row: Row | None = None


@define
class Commit:
    """The commit of one try.

    Attributes:
        before: Is called before it is sent.
        is_idempotent: Whether the work may be done again although it is unknown whether it was stored.
        is_sent: Whether it was sent.
    """

    before: Callable[[], object] | None
    is_idempotent: bool
    is_sent: bool = False

    def announce(self) -> None:
        """Call the function of the caller; the commit is sent next."""
        if self.before is not None:
            self.before()
        self.is_sent = True

    def may_repeat(self, error: PsycopgError, borrowed: BorrowedConnection) -> bool:
        """Return whether another try may succeed, and cannot do the work twice."""
        if self.is_sent:
            return self.is_idempotent and (is_repeatable(error) or is_connection_problem(error))
        # A connection that was opened for this try did not die before: the server is the problem.
        return is_repeatable(error) or (is_connection_problem(error) and not borrowed.is_fresh)


async def do_work(
    connection: Connection,
    work: Callable[[Connection], Awaitable[_T]],
    begin: bytes | None,
    commit: Commit,
    first: FirstStatement | None = None,
) -> _T:
    """Do some work in a transaction; without `begin`, each of its statements commits by itself.

    The connection can be used again, unless psycopg raises or the call is cancelled.
    """
    if begin is None:
        commit.announce()
        return await work(connection)
    if first is None:
        await execute(connection, begin)
    else:
        first.row = await fetch_last(connection, b"; ".join((begin, first.sql)))
    try:
        result = await work(connection)
    except PsycopgError:
        raise
    except Exception:
        await execute(connection, "ROLLBACK")
        raise
    commit.announce()
    await execute(connection, "COMMIT")
    return result


def is_refusal(error: Exception) -> bool:
    """Return whether the data of a transaction cannot be stored, while other data may be."""
    if isinstance(error, DataError):  # psycopg raises it also for texts with NUL, without a SQLSTATE
        return True
    if isinstance(error, PsycopgError):
        # With a full disk or memory, no data can be stored.
        return not (is_connection_problem(error) or is_repeatable(error) or (error.sqlstate or "").startswith("53"))
    return not isinstance(error, OSError)


async def end_block(block: AsyncTransaction, error: BaseException | None) -> None:
    """Commit a transaction of psycopg, or roll it back because of an error.

    psycopg takes each of the following for a success, so that an effect would count as done and be lost.

    Raises:
        InFailedSqlTransaction: A statement had failed, and the code of the user did not raise its error. The server
            answers the commit with a rollback then.
        ConnectionFailure: The connection broke or was closed, and the code of the user did not raise its error. The
            server rolls the transaction back then.
        InvalidTransactionTermination: The code of the user sent COMMIT or ROLLBACK itself.
    """
    failure: PsycopgError | None = None
    if error is None and (failed := _FAILURES.get(block.connection.info.transaction_status.name)) is not None:
        failure = failed()
    ended_by = error or failure
    await block.__aexit__(None if ended_by is None else type(ended_by), ended_by, None)
    if failure is not None:
        raise failure


async def abandon(task: asyncio.Task[Any], borrowed: BorrowedConnection) -> None:
    """End a task, at the latest by the end of its connection."""
    task.add_done_callback(forget_error)
    borrowed.is_abandoned = True
    with CancelScope(shield=True):
        if has_cancel_safe():
            task.cancel()  # psycopg cancels the statement in the server, and waits for it
            await asyncio.wait({task}, timeout=_CANCEL_SECONDS)
        if not task.done():
            # Without libpq 17, a cancellation would block the process for as long as the server stands still.
            # PostgreSQL ends a statement whose client is gone at the limit of its transaction.
            borrowed.shut_down()
            await asyncio.wait({task}, timeout=_CANCEL_SECONDS)
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_CANCEL_SECONDS)
