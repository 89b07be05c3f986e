"""The connections of one store to PostgreSQL in one event loop: a few of its own, or those of a pool that a user has.

psycopg_pool is not needed for the former: it waits until its time limit when the server refuses connections, and needs
background tasks.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final, cast

from attrs import define

from veriff_async._protocol.arguments import type_name
from veriff_async._storage.postgres_queries import (
    AsyncConnection,
    Connection,
    PsycopgError,
    conninfo_to_dict,
    make_conninfo,
)
from veriff_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from psycopg_pool import AsyncConnectionPool

__all__ = ("BorrowedConnection", "ConnectionSource")

# Seconds after which a connection that was not used is replaced: firewalls forget connections without a sign.
_MAX_IDLE_SECONDS: Final = 60.0


@define(eq=False)
class BorrowedConnection:
    """A connection while a transaction, or a subscription, uses it.

    Attributes:
        connection: ``None`` until it is open.
        is_fresh: Whether it was opened for this use, so that it did not die before.
        autocommit: The setting of a user's connection, to be restored.
        is_abandoned: Whether the call was cancelled or took too long, so that nothing may be repeated.
    """

    connection: Connection | None = None
    is_fresh: bool = False
    autocommit: bool = True
    is_abandoned: bool = False

    def shut_down(self) -> None:
        """End every wait for the server at once: psycopg finds the connection lost."""
        connection = self.connection
        if connection is not None and not connection.closed:
            # A copy of the descriptor, since a socket closes its own.
            with suppress(OSError), socket.socket(fileno=os.dup(connection.pgconn.socket)) as copy:
                copy.shutdown(socket.SHUT_RDWR)


class ConnectionSource:
    """Opens connections, and keeps those that are not in use.

    Attributes:
        address: Of the server, without user and password.
    """

    def __init__(
        self, server: str | AsyncConnectionPool[Any], timeout: float, *, store: str, max_connections: int
    ) -> None:
        """Check the arguments; nothing is opened yet."""
        given: object = server
        self._pool: AsyncConnectionPool[Any] | None = None
        self._timeout = timeout
        self._max_connections = max_connections
        self._conninfo = ""
        self.address = "a pool of psycopg_pool"
        if isinstance(given, str):
            self._conninfo, self.address = _read_conninfo(given, store, timeout)
        elif not isinstance(server, str) and iscoroutinefunction(getattr(given, "getconn", None)):
            self._pool = server
        else:
            msg = (
                f"{store} needs the URL of PostgreSQL, or an AsyncConnectionPool of psycopg_pool, not "
                f"{type_name(given)}."
            )
            raise ConfigurationError(msg)
        self.reset()

    def reset(self) -> None:
        """Forget the connections, which belong to an event loop that has ended."""
        for connection, _ in getattr(self, "_idle", ()):
            connection.pgconn.finish()
        self._idle: list[tuple[Connection, float]] = []
        self._slots = asyncio.Semaphore(self._max_connections)

    async def acquire(self, borrowed: BorrowedConnection) -> Connection:
        """Borrow a connection for a transaction."""
        borrowed.is_fresh = True  # an error to open one is not the error of an old one
        if self._pool is not None:
            connection: Connection = await self._pool.getconn(self._timeout)
            borrowed.is_fresh = False
            borrowed.connection, borrowed.autocommit = connection, connection.autocommit
            await connection.set_autocommit(True)
            return connection
        await self._slots.acquire()
        try:
            now = asyncio.get_running_loop().time()
            while self._idle:
                connection, since = self._idle.pop()
                if not connection.closed and now - since < _MAX_IDLE_SECONDS:
                    borrowed.is_fresh = False
                    break
                await connection.close()
            else:
                connection = await self.connect()
        except BaseException:
            self._slots.release()
            raise
        borrowed.connection = connection
        return connection

    async def release(self, borrowed: BorrowedConnection, *, is_usable: bool) -> None:
        """Return a connection, which is not in a transaction if it is usable."""
        connection, borrowed.connection = borrowed.connection, None
        if connection is None:
            return
        try:
            if not is_usable:
                await connection.close()
        finally:
            if self._pool is None:
                self._slots.release()
                if is_usable:
                    self._idle.append((connection, asyncio.get_running_loop().time()))
            else:
                if is_usable:
                    await connection.set_autocommit(borrowed.autocommit)
                await self._pool.putconn(connection)

    async def connect(self) -> Connection:
        """Open a connection in autocommit mode."""
        if self._pool is None:
            return await AsyncConnection.connect(self._conninfo, autocommit=True, prepare_threshold=None)
        conninfo = cast("str", await _resolve(self._pool.conninfo))
        options: dict[str, Any] = dict(cast("dict[str, Any]", await _resolve(self._pool.kwargs) or {}))
        options["autocommit"] = True
        kind: type[Connection] = self._pool.connection_class
        return await kind.connect(conninfo or "", **options)

    async def close_idle(self) -> None:
        """Close the connections that are not in use, since the server was restarted, or is a replica by now."""
        idle, self._idle = self._idle, []
        for connection, _ in idle:
            await connection.close()


async def _resolve(setting: object) -> object:
    """Return a setting of a pool, which may be a function, also an asynchronous one."""
    value: object = cast("Callable[[], object]", setting)() if callable(setting) else setting
    return await cast("Awaitable[object]", value) if hasattr(value, "__await__") else value


def _read_conninfo(server: str, store: str, timeout: float) -> tuple[str, str]:
    """Return the options of libpq, with those that the store needs, and the address.

    Raises:
        ConfigurationError: libpq cannot read them, or misreads them. Its message is left out, since it may quote the
            password.
    """
    try:
        options: dict[str, Any] = conninfo_to_dict(server)
    except PsycopgError:
        options = {"port": "unknown"}
    ports = str(options.get("port") or "").split(",")
    hosts = str(options.get("host") or options.get("hostaddr") or "").split(",")
    # A password in which @ or / is not encoded ends early for libpq. Its rest becomes the host, the port, or the name
    # of the database, which errors and logs show. A host that begins with @ is a socket of Linux without a file.
    is_misread = server.startswith(("postgresql://", "postgres://")) and "@" in str(options.get("dbname"))
    if (
        is_misread
        or any("@" in host[1:] for host in hosts)
        or not all(port == "" or (port.isascii() and port.isdigit()) for port in ports)
    ):
        msg = (
            f"The URL of {store} cannot be read: give one like postgresql://user:password@host:5432/database, with "
            "special characters of the password encoded as %2F, or options of libpq."
        )
        raise ConfigurationError(msg)
    count = len(hosts)
    # Time for each host, so that the second one is tried before the time limit; psycopg waits two seconds at least.
    options.setdefault("connect_timeout", max(2, int(timeout / count)))
    if count > 1:
        # https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-TARGET-SESSION-ATTRS
        options.setdefault("target_session_attrs", "read-write")
    options.setdefault("fallback_application_name", "veriff-async")
    options["client_encoding"] = "utf8"
    # One port is that of all hosts.
    ports = ports * count if len(ports) == 1 else ports
    addresses = [f"{host or 'localhost'}:{port}".rstrip(":") for host, port in zip(hosts, ports, strict=False)]
    return make_conninfo("", **options), f"{','.join(addresses)}/{options.get('dbname') or ''}"
