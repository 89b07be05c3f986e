"""Connections to Redis, without the client of redis-py: several questions in one round trip, and nothing left open."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, cast
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from attrs import Factory, define, frozen

from veriff_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

__all__ = ("Command", "Connection", "Driver", "Lines", "ask", "remedy", "shown")

Command: TypeAlias = "tuple[bytes | str | float, ...]"

_MOST: Final = 16
"""Connections of one loop that record and look; every feed has one more."""


_REMEDIES: Final = {
    "TimeoutError": "it did not answer in time; see whether it is stopped, overloaded or far away",
    "AuthenticationError": "it refuses the login; mend the user and password of the url",
    "NoPermissionError": "its user may not do this; allow it the keys under the prefix, and their commands",
    "ReadOnlyError": "it is a replica; give the url of the primary",
    "OutOfMemoryError": "its memory is full; raise maxmemory, or keep less by Retention",
    "ConnectionError": "it cannot be reached; see whether it runs where the url says",
    "ResponseError": "it refuses a command; see its log, and that it is Redis 6.2, Valkey or newer",
    "OSError": "it cannot be reached; see whether it runs where the url says",
    "UnreadableError": "what it keeps under the prefix cannot be read; look for a newer veriff-async",
}


_OURS: Final = frozenset({"max_connections", "timeout", "decode_responses", "encoding", "encoding_errors"}) | {
    "health_check_interval",
    "retry_on_timeout",
}
"""Options of a url for parts of redis-py that are not used, or that would change what answers are."""


class Connection(Protocol):
    """What is used of redis-py's connection; it connects by itself when it is first written to."""

    @property
    def is_connected(self) -> bool:
        """Whether it is open, as far as this side knows."""
        ...

    def pack_commands(self, commands: Sequence[Command]) -> list[bytes]:
        """Write commands as bytes."""
        ...

    async def send_packed_command(self, command: list[bytes]) -> None:
        """Send those bytes."""
        ...

    async def read_response(self) -> object:
        """Return the next answer."""
        ...

    async def disconnect(self, nowait: bool = False) -> None:  # noqa: FBT001, FBT002  as redis-py has it
        """Close, and wait for that unless told otherwise."""
        ...


def _untold(kind: Callable[..., Connection]) -> dict[str, None]:
    """Return the options with which a connection tells the server nothing of the client.

    Newer versions of redis-py would read that from the disk for each connection, and Redis 6.2 refuses it.
    """
    with suppress(TypeError):
        kind(driver_info=None)
        return {"driver_info": None}
    return {"lib_name": None, "lib_version": None}


@frozen
class Driver:
    """What is used of redis-py.

    Attributes:
        parse: Reads a url.
        connection: The kind of connection that is meant unless a url says otherwise.
        errors: What connections fail with.
    """

    parse: Callable[[str], dict[str, object]]
    connection: Callable[..., Connection]
    errors: tuple[type[Exception], ...]

    def maker(self, url: str, timeout: float) -> Callable[[], Connection]:
        """Return what makes connections, each open when it is first used.

        Raises:
            ConfigurationError: The url cannot be read.
        """
        failures: tuple[type[Exception], ...] = (*self.errors, TypeError, ValueError)
        with suppress(*failures):
            options = {name: value for name, value in self.parse(url).items() if name not in _OURS}
            options |= {"socket_connect_timeout": timeout, "socket_timeout": None, "protocol": 2}
            kind = cast("Callable[..., Connection]", options.pop("connection_class", self.connection))
            made = partial(kind, **options, **_untold(kind))
            made()
            return made
        msg = "The url of RedisInbox cannot be read: give one like redis://user:password@host:6379/0, rediss:// or unix://."
        raise ConfigurationError(msg)


def shown(url: str) -> str:
    """Return a url without what may be secret in it: user, password and options."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def remedy(error: Exception) -> str:
    """Say what has gone wrong and what helps, without the error's own text, which may hold what was sent."""
    names = (kind.__name__ for kind in type(error).__mro__)
    return next((_REMEDIES[name] for name in names if name in _REMEDIES), "see its log")


async def ask(connection: Connection, *commands: Command) -> list[object]:
    """Send commands and return their answers, in one round trip."""
    await connection.send_packed_command(connection.pack_commands(commands))
    answers = [await connection.read_response() for _ in commands]
    for answer in answers:
        if isinstance(answer, list):  # what a transaction came to may hold errors
            for part in cast("list[object]", answer):
                if isinstance(part, Exception):
                    raise part
    return answers


@define(eq=False)
class Lines:
    """The connections of one loop.

    Attributes:
        make: Makes a connection, which is open when it is first used.
        errors: What a connection fails with.
        free: Those that wait to be borrowed.
        open: All.
        slots: As many as may be borrowed at once.
        turns: Whose turn it is, for each key that somebody writes to.
        is_closed: Whether the loop is done with them.
    """

    make: Callable[[], Connection]
    errors: tuple[type[Exception], ...]
    free: list[Connection] = Factory(list[Connection])
    open: set[Connection] = Factory(set[Connection])
    slots: asyncio.Semaphore = Factory(lambda: asyncio.Semaphore(_MOST))
    turns: WeakValueDictionary[bytes, asyncio.Lock] = Factory(WeakValueDictionary[bytes, asyncio.Lock])
    is_closed: bool = False

    @asynccontextmanager
    async def borrowed(self) -> AsyncGenerator[Connection]:
        """Give a connection that is kept afterwards, unless something went wrong with it."""
        async with self.slots:
            connection = self._taken(self.free.pop() if self.free else self.make())
            try:
                yield connection
                if self.is_closed:
                    await self._drop(connection)
                else:
                    self.free.append(connection)
            except Exception:
                # The others may speak to a server that has died, or is no longer the primary.
                await self._drop(connection, *self.free)
                raise
            except BaseException:
                await self._drop(connection)
                raise

    @asynccontextmanager
    async def own(self) -> AsyncGenerator[Connection]:
        """Give a connection for as long as it is needed."""
        connection = self._taken(self.make())
        try:
            yield connection
        finally:
            await self._drop(connection)

    async def first(self, connection: Connection, *commands: Command) -> list[object]:
        """Ask what can be asked twice; so it is when a connection that was kept has broken since."""
        if connection.is_connected:
            with suppress(*self.errors):
                return await ask(connection, *commands)
            await connection.disconnect(nowait=True)
            if self.is_closed:
                raise ConnectionError
        return await ask(connection, *commands)

    @staticmethod
    async def again(connection: Connection, *commands: Command) -> list[object]:
        """Ask what relies on what was asked before: another connection would not watch what was read on this one."""
        if not connection.is_connected:
            raise ConnectionError
        return await ask(connection, *commands)

    @asynccontextmanager
    async def turn(self, key: bytes) -> AsyncGenerator[None]:
        """Let one at a time write to a key: side by side they would only undo each other's transactions."""
        lock = self.turns.setdefault(key, asyncio.Lock())
        async with lock:
            yield

    async def kept(self) -> AsyncGenerator[None]:
        """Close the connections with the loop: ``asyncio.run`` closes the generators that it leaves behind."""
        try:
            yield
        finally:
            self.is_closed = True
            for connection in tuple(self.open):
                with suppress(*self.errors):  # who reads from one is told by its end, so it is not waited for
                    await connection.disconnect(nowait=connection not in self.free)
            self.open.clear()
            self.free.clear()

    def _taken(self, connection: Connection) -> Connection:
        if self.is_closed:
            raise ConnectionError
        self.open.add(connection)
        return connection

    async def _drop(self, *connections: Connection) -> None:
        for connection in connections:
            self.open.discard(connection)
            if connection in self.free:
                self.free.remove(connection)
            await connection.disconnect(nowait=True)
