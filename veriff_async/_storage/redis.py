"""RedisConnections to Redis or Valkey, shared by RedisInbox and RedisJournal; needs the ``redis`` extra.

redis-py has several retries and deadlines of its own. They are switched off: each question has one deadline, and what
may be repeated is decided by the store, which knows whether a repetition could count an event twice.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from urllib.parse import urlsplit

from veriff_async._event_loop import require_asyncio
from veriff_async.errors import ConfigurationError, DecodeError

try:
    from redis.asyncio import BlockingConnectionPool, Redis
    from redis.asyncio.connection import AbstractConnection, parse_url
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import ConnectionError as RedisConnectionError, RedisError, ResponseError, WatchError
except ImportError:
    msg = 'RedisInbox and RedisJournal need redis-py, an extra of this package: pip install "veriff-async[redis]".'
    raise ConfigurationError(msg) from None

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine

    from redis.asyncio.client import Pipeline

    from veriff_async.errors import InboxError, JournalError

__all__ = ("RedisConnections", "ResponseError", "transaction")

_T = TypeVar("_T")

_DAMAGED: Final = "its data under the prefix cannot be read; look for a newer veriff-async"

_REMEDIES: Final = {
    "TimeoutError": "it did not answer in time; check whether it is stopped, overloaded or far away",
    "AuthenticationError": "it refuses the login; correct the user and password",
    "NoPermissionError": "its user may not do this; allow it the keys under the prefix, and their commands",
    "ReadOnlyError": "it is a replica; give the address of the primary",
    "OutOfMemoryError": "its memory is full; raise maxmemory, or keep less in it",
    "ResponseError": "it refuses a command; check its log, and that it is Redis 6.2, Valkey or newer",
    "DecodeError": _DAMAGED,
    "ValueError": _DAMAGED,
    "KeyError": _DAMAGED,
    "Exception": "it cannot be reached or understood; check its address and whether it runs",
}


def _connection_settings(server: str | Redis, store: str, timeout: float) -> dict[str, Any]:
    """Return the options of connections: those of the user, except for those that the stores rely on."""
    given: object = server
    if not isinstance(given, str | Redis):
        msg = f"{store} needs a url, or a client of redis.asyncio, not {type(given).__name__}."
        raise ConfigurationError(msg)
    with suppress(RedisError, TypeError, ValueError):
        if isinstance(server, str):
            requested = {**parse_url(server)}
            _check_password(server)
        else:
            pool = server.connection_pool
            # Newer versions of redis-py have options of the third protocol, and for that alone.
            requested = {name: value for name, value in pool.connection_kwargs.items() if "maint" not in name}
            requested["connection_class"] = pool.connection_class
        # Newer versions of redis-py report their version to the server, and read it from the disk for each connection.
        anonymous: dict[str, object] = {"lib_name": None, "lib_version": None}
        if "driver_info" in signature(AbstractConnection).parameters:
            anonymous = {"driver_info": import_module("redis.driver_info").DriverInfo(name="", lib_version="")}
        decoding = {"protocol": 2, "decode_responses": False, "encoding": "utf-8", "encoding_errors": "surrogatepass"}
        # `execute` has one deadline for everything, so a single response has none.
        deadlines = {"socket_timeout": None, "socket_connect_timeout": timeout, "health_check_interval": 0}
        settings = {**requested, **anonymous, **decoding, **deadlines, "retry_on_timeout": False, "timeout": None}
        _new_client(settings, 1, retries=0).connection_pool.make_connection()  # type: ignore[no-untyped-call]
        return settings
    msg = f"The url of {store} cannot be read: give one like redis://user:password@host:6379/0, rediss:// or unix://."
    raise ConfigurationError(msg)


def _check_password(url: str) -> None:
    """Refuse a password in which ``?`` or ``#`` is not encoded: they end the address, and errors would show the rest.

    Raises:
        ValueError: The URL has such a password.
    """
    parts = urlsplit(url)
    if "@" in parts.fragment or ("@" in parts.query and "=" not in parts.query):
        raise ValueError


def _new_client(settings: dict[str, Any], max_connections: int, *, retries: int) -> Redis:
    """Return a client whose connections open when they are first needed."""
    retry = {"retry": Retry(NoBackoff(), retries), "retry_on_error": [RedisConnectionError] * retries}
    options: dict[str, Any] = {**settings, **retry, "max_connections": max_connections}
    return Redis.from_pool(_ConnectionPool(options))


class _ConnectionPool(BlockingConnectionPool):
    """A pool whose connections are closed even if the task that closes them is cancelled.

    redis-py closes each connection in a task of its own. If the caller is cancelled before these tasks have begun, the
    connections stay open.

    Attributes:
        is_ended: Whether the store was closed, so that no connection may be opened any more.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        """Start without connections."""
        super().__init__(**options)  # pyright: ignore[reportUnknownMemberType]  as redis-py has it
        self.is_ended = False
        self._made: list[AbstractConnection] = []

    def make_connection(self) -> AbstractConnection:
        """Return a connection that is not open yet."""
        connection: AbstractConnection = super().make_connection()  # type: ignore[no-untyped-call]
        self._made.append(connection)
        return connection

    async def get_connection(self, *args: object, **options: object) -> AbstractConnection:
        """Return an open connection; a subscription may ask for one after the store was closed."""
        if self.is_ended:
            raise RedisConnectionError
        connection: AbstractConnection = await super().get_connection(*args, **options)  # type: ignore[no-untyped-call]
        return connection

    async def close_now(self) -> None:
        """Close all connections in one step, which no cancellation interrupts."""
        for connection in self._made:
            await connection.disconnect(nowait=True)


async def _close(*clients: Redis) -> None:
    """Close the connections of clients, also if this is cancelled; a later call of a client opens them again."""
    try:
        await asyncio.gather(*(client.aclose() for client in clients), return_exceptions=True)
    finally:
        for client in clients:
            await _pool_of(client).close_now()


def _pool_of(client: Redis) -> _ConnectionPool:
    return cast("_ConnectionPool", client.connection_pool)


@asynccontextmanager
async def transaction(client: Redis) -> AsyncGenerator[Pipeline]:
    """Yield a pipeline for a transaction, which does nothing, without an error, if another client was faster."""
    async with client.pipeline() as pipe:
        try:
            yield pipe
        except WatchError:
            pass
        except asyncio.CancelledError:
            pipe.watching = False  # its connection is closed by now, and redis-py would open another one to unwatch
            raise


class RedisConnections:
    """The connections of one store to its server, in the one event loop that uses it.

    Attributes:
        address: The address of the server, without user and password.
        is_closed: Whether the store was closed.
        timeout: Seconds after which a call fails.
    """

    def __init__(
        self, server: str | Redis, timeout: float, *, store: str, error: type[InboxError | JournalError]
    ) -> None:
        """Check the arguments; nothing is opened yet."""
        self.timeout = timeout
        self.is_closed: bool = False
        self._server = server  # keeps a client of Sentinel alive, which knows the primary
        self._settings = _connection_settings(server, store, timeout)
        url = server if isinstance(server, str) else "//a client of redis-py"
        self.address: str = url.partition("?")[0].rpartition("@")[2].rpartition("//")[2]
        self._store = store
        self._noun = store.removeprefix("Redis").lower()
        self._error = error
        self._client: Redis | None = None
        self._dedicated: set[Redis] = set()
        self._calls: dict[asyncio.Timeout, Redis] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def get_client(self) -> Redis:
        """Return the client that all short calls share.

        Raises:
            ConfigurationError: Another event loop uses the store.
            InboxError: Or `JournalError`: the store is closed.
        """
        require_asyncio()
        if self.is_closed:
            msg = f"The {self._noun} is closed: open it again, or make another one."
            raise self._error(msg)
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None and not self._loop.is_closed():
                msg = f"{self._store} is used by another event loop: make one for each event loop."
                raise ConfigurationError(msg)
            self._loop, self._client = loop, None
            self._dedicated.clear()
            self._calls.clear()
        self._client = self._client or _new_client(self._settings, 16, retries=1)
        return self._client

    @asynccontextmanager
    async def open_dedicated(self) -> AsyncGenerator[Redis]:
        """Yield a client with a connection of its own, whose end is noticed."""
        self.get_client()
        client = _new_client(self._settings, 1, retries=0)
        self._dedicated.add(client)
        try:
            yield client
        finally:
            self._dedicated.discard(client)
            await _close(client)

    async def execute(self, client: Redis, work: Coroutine[None, None, _T], seconds: float | None = None) -> _T:
        """Await work that uses a client, within some seconds, by default the timeout.

        Raises:
            InboxError: Or `JournalError`: it failed. The original message is left out, since it may hold what was sent.
        """
        seconds = seconds or self.timeout
        deadline = asyncio.timeout(seconds)
        try:
            # redis-py leaves a transaction that timed out with another call to the server; the longer limit ends that.
            async with asyncio.timeout(seconds + 0.2), deadline:
                self._calls[deadline] = client
                return await work
        # From Python 3.12 on, asyncio raises TypeError for a write to a connection that was closed before.
        except (RedisError, OSError, DecodeError, ValueError, KeyError, TypeError) as error:
            reason = next(_REMEDIES[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in _REMEDIES)
            if client is self._client:  # its connections may lead to a server that died or has lost the role of primary
                self._client = None
        finally:
            self._calls.pop(deadline, None)
            others = (self._client, *self._dedicated, *self._calls.values())
            if not any(client is other for other in others):
                await _close(client)
        msg = f"Redis has failed the {self._noun}: {reason}."
        if self.is_closed or self.is_ended(client):
            msg = f"The {self._noun} was closed while it was in use."
        raise self._error(msg)

    def is_ended(self, client: Redis) -> bool:
        """Return whether the store was closed since it made a client; it may be open again."""
        return _pool_of(client).is_ended

    def reopen(self) -> None:
        """Allow connections again after `aclose`, in the event loop that uses them first."""
        if self.is_closed:
            self.is_closed, self._loop = False, None

    async def aclose(self) -> None:
        """Close the connections, in the loop that uses them. Calls in progress fail; a second call does nothing."""
        require_asyncio()
        self.is_closed = True
        clients = {*self._dedicated, *self._calls.values(), *filter(None, [self._client])}
        self._client, self._dedicated = None, set()
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            return
        for client in clients:
            _pool_of(client).is_ended = True
        # A call may be opening a connection, which cannot be closed yet.
        for deadline in self._calls:
            if not deadline.expired():
                deadline.reschedule(loop.time())
        await _close(*clients)
