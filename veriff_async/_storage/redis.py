"""How a store of ours asks a Redis or Valkey server; with the stores, what knows redis-py, which is an extra."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any, Final, TypeVar

from veriff_async._event_loop import require_asyncio
from veriff_async.errors import ConfigurationError, DecodeError

try:
    from redis.asyncio import BlockingConnectionPool, Redis
    from redis.asyncio.connection import AbstractConnection, parse_url
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import ConnectionError as BrokenError, RedisError, ResponseError, WatchError
except ImportError:
    msg = 'RedisInbox and RedisJournal need redis-py, an extra of this package: pip install "veriff-async[redis]".'
    raise ConfigurationError(msg) from None

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine

    from redis.asyncio.client import Pipeline

    from veriff_async.errors import InboxError, JournalError

__all__ = ("Connections", "ResponseError", "watching")

_T = TypeVar("_T")

_REMEDIES: Final = {
    "TimeoutError": "it did not answer in time; see whether it is stopped, overloaded or far away",
    "AuthenticationError": "it refuses the login; mend the user and password",
    "NoPermissionError": "its user may not do this; allow it the keys under the prefix, and their commands",
    "ReadOnlyError": "it is a replica; give the address of the primary",
    "OutOfMemoryError": "its memory is full; raise maxmemory, or keep less",
    "ResponseError": "it refuses a command; see its log, and that it is Redis 6.2, Valkey or newer",
    "DecodeError": "what it keeps under the prefix cannot be read; look for a newer veriff-async",
    "Exception": "it cannot be reached or understood; see whether it runs where it is looked for",
}


def _settings(server: str | Redis, store: str, timeout: float) -> dict[str, Any]:
    """Return how connections are made: as was asked for, but for what the stores rely on."""
    given: object = server
    if not isinstance(given, str | Redis):
        msg = f"{store} needs a url, or a client of redis.asyncio, got {type(given).__name__}."
        raise ConfigurationError(msg)
    with suppress(RedisError, TypeError, ValueError):
        if isinstance(server, str):
            asked = {**parse_url(server)}
        else:
            pool = server.connection_pool
            # Newer versions of redis-py have options of the third protocol, and for that alone.
            asked = {name: value for name, value in pool.connection_kwargs.items() if "maint" not in name}
            asked["connection_class"] = pool.connection_class
        # Newer versions would read what they tell the server of themselves from the disk, for each connection.
        untold: dict[str, object] = {"lib_name": None, "lib_version": None}
        if "driver_info" in signature(AbstractConnection).parameters:
            untold = {"driver_info": import_module("redis.driver_info").DriverInfo(name="", lib_version="")}
        answers = {"protocol": 2, "decode_responses": False, "encoding": "utf-8", "encoding_errors": "surrogatepass"}
        # One deadline bounds all that is asked, so no single answer has one.
        bounds = {"socket_timeout": None, "socket_connect_timeout": timeout, "health_check_interval": 0}
        settings = {**asked, **untold, **answers, **bounds, "retry_on_timeout": False, "timeout": None}
        _opened(settings, 1, retries=0).connection_pool.make_connection()  # type: ignore[no-untyped-call]
        return settings
    msg = f"The url of {store} cannot be read: give one like redis://user:password@host:6379/0, rediss:// or unix://."
    raise ConfigurationError(msg)


def _opened(settings: dict[str, Any], most: int, *, retries: int) -> Redis:
    """Return a client, whose connections open when they are first needed."""
    again = {"retry": Retry(NoBackoff(), retries), "retry_on_error": [BrokenError] * retries}
    options: dict[str, Any] = {**settings, **again, "max_connections": most}
    return Redis.from_pool(BlockingConnectionPool(**options))


@asynccontextmanager
async def watching(client: Redis) -> AsyncGenerator[Pipeline]:
    """Give a pipeline for a transaction; nothing comes of it, nor an error, when somebody else was quicker."""
    async with client.pipeline() as pipe:
        try:
            yield pipe
        except WatchError:
            pass
        except asyncio.CancelledError:
            pipe.watching = False  # Its connection was closed with it, and redis-py would open another to unwatch.
            raise


async def _close(client: Redis) -> None:
    with suppress(RedisError, OSError):
        await client.aclose()


class Connections:
    """The connections of one store to its server, in the one event loop that uses it.

    Attributes:
        place: Where the server is, nothing secret.
        closed: Whether the store was closed.
        timeout: Seconds for a question, after which it fails.
    """

    def __init__(
        self, server: str | Redis, timeout: float, *, store: str, error: type[InboxError | JournalError]
    ) -> None:
        """Check how connections are to be made, for a store of some name and its error; nothing is opened yet."""
        self.timeout = timeout
        self.closed: bool = False
        self._server = server  # A client of Sentinel's is asked where the primary is, as long as it is there.
        self._settings = _settings(server, store, timeout)
        url = server if isinstance(server, str) else "//a client of redis-py"
        self.place: str = url.partition("?")[0].rpartition("@")[2].rpartition("//")[2]
        self._store = store
        self._word = store.removeprefix("Redis").lower()
        self._error = error
        self._client: Redis | None = None
        self._apart: set[Redis] = set()
        self._closing: set[asyncio.Future[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def here(self) -> Redis:
        """Return the client that is shared by all who ask a question.

        Raises:
            ConfigurationError: Another loop uses the store.
            InboxError: Or `JournalError`: it is closed.
        """
        require_asyncio()
        if self.closed:
            msg = f"The {self._word} is closed: open another."
            raise self._error(msg)
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None and not self._loop.is_closed():
                msg = f"{self._store} is used by another event loop: make one for each."
                raise ConfigurationError(msg)
            self._loop, self._client = loop, None
            self._apart.clear()
        self._client = self._client or _opened(self._settings, 16, retries=1)
        return self._client

    @asynccontextmanager
    async def apart(self) -> AsyncGenerator[Redis]:
        """Give a client with one connection of its own, whose end is noticed."""
        self.here()
        client = _opened(self._settings, 1, retries=0)
        self._apart.add(client)
        try:
            yield client
        finally:
            self._apart.discard(client)
            with suppress(RedisError, OSError):
                await client.aclose()

    async def asked(self, client: Redis, work: Coroutine[None, None, _T], seconds: float | None = None) -> _T:
        """Ask the server, within the timeout; what goes wrong is told in our words: errors may hold what was sent."""
        seconds = seconds or self.timeout
        try:
            # The longer one ends redis-py's way out of a transaction that was cut off, which asks the server again.
            async with asyncio.timeout(seconds + 0.2), asyncio.timeout(seconds):
                return await work
        # From Python 3.12 on, asyncio says TypeError when a connection was closed before somebody writes.
        except (RedisError, OSError, DecodeError, ValueError, KeyError, TypeError) as error:
            why = next(_REMEDIES[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in _REMEDIES)
            if client is self._client:  # Its connections may lead to a server that died or is no longer the primary.
                self._client = None
        finally:
            if client is not self._client and client not in self._apart:
                await client.connection_pool.disconnect(inuse_connections=False)
        msg = f"Redis has failed the {self._word}: {why}."
        if self.closed:
            msg = f"The {self._word} was closed while somebody used it."
        raise self._error(msg)

    def reopen(self) -> None:
        """Allow connections again after `aclose`; they are made in the loop that asks first."""
        if self.closed:
            self.closed, self._loop = False, None

    async def aclose(self) -> None:
        """Close the connections, in the loop that uses them; a second call does nothing."""
        require_asyncio()
        self.closed = True
        clients = [*self._apart, *filter(None, [self._client])]
        self._client, self._apart = None, set()
        if self._loop is not asyncio.get_running_loop():
            return
        tasks = [asyncio.ensure_future(_close(client)) for client in clients]
        for task in tasks:
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        await asyncio.shield(asyncio.gather(*tasks))  # it goes on when this call is cancelled
