"""The members of a blocking client that the asynchronous one lacks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from inspect import isawaitable, iscoroutine
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar, cast

from veriff_async._protocol.arguments import type_name
from veriff_async.blocking._adapter import Adapter, call_original, iterate
from veriff_async.errors import ConfigurationError, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from types import TracebackType

    from veriff_async.client import VeriffClient

__all__ = ("ClientBase",)

_P = ParamSpec("_P")
_T = TypeVar("_T")


class ClientBase(Adapter):
    """A `VeriffClient` for synchronous code: the same methods, each of which blocks its thread until it has ended.

    `open_client` returns it. Any number of threads can use it at the same time; they share its connections and limits.
    Its event loop runs in a thread, which the first call starts. A server may therefore fork after `open_client`, but
    not after the first call.

    Ctrl+C, or another exception in the waiting thread, cancels the call. Callbacks such as ``progress`` run in the
    event loop: they must neither block nor call the client. Those that the asynchronous client awaits, such as
    ``on_uploaded``, are plain functions here, and run in a thread. An exception of a callback ends its call.

    Each call raises the errors of the asynchronous method, and `ConfigurationError` in a thread that runs an event loop
    or in a process that was forked after the first call.
    """

    @property
    def async_client(self) -> VeriffClient:
        """The asynchronous client, for functions that `run` and `iterate` call."""
        return cast("VeriffClient", self._original)

    def run(self, function: Callable[_P, Awaitable[_T]], *args: _P.args, **options: _P.kwargs) -> _T:
        """Run a coroutine function in the event loop of the client, and return its result.

        Args:
            function: For example `reconcile`, or a method of a `WebhookReceiver`.
            *args: Its arguments; for a `VeriffClient`, `async_client`.
            **options: Its keyword arguments.

        Raises:
            InvalidArgumentError: It is not a coroutine function.

        Example:
            >>> response = veriff.run(receiver.handle, request.method, headers, body)
        """

        async def call() -> _T:
            result = call_original(function, args, options)
            if not isawaitable(result):
                msg = f"run() takes a coroutine function, and this one returned {type_name(result)}: call iterate()?"
                raise InvalidArgumentError(msg)
            return cast("_T", await result)

        return self._portal.call(call)

    def iterate(self, function: Callable[_P, AsyncIterator[_T]], *args: _P.args, **options: _P.kwargs) -> Iterator[_T]:
        """Call a function in the event loop of the client, and iterate over the async iterator that it returns.

        Args:
            function: For example `verify_many`.
            *args: Its arguments; for a `VeriffClient`, `async_client`.
            **options: Its keyword arguments.

        Raises:
            InvalidArgumentError: It does not return an async iterator.

        Example:
            >>> for result in veriff.iterate(verify_many, veriff.async_client, jobs, journal=journal):
            ...     print(result.job_id, result.state)
        """

        async def begin() -> AsyncIterator[_T]:
            iterator = call_original(function, args, options)
            if not isinstance(iterator, AsyncIterator):
                name = type_name(iterator)
                if iscoroutine(iterator):
                    iterator.close()  # it would warn that nothing has awaited it
                msg = f"iterate() takes a function that returns an async iterator, not {name}: call run()?"
                raise InvalidArgumentError(msg)
            return cast("AsyncIterator[_T]", iterator)

        return iterate(self._portal.call(begin), self._portal)

    def enter(self, resource: AbstractAsyncContextManager[_T]) -> _T:
        """Enter an async context manager in the event loop of the client; `close` leaves it, after the client.

        Args:
            resource: For example an inbox, or a `WebhookReceiver`. Several are left in reverse order.

        Returns:
            The result of entering it.

        Raises:
            InvalidArgumentError: It is not an async context manager.

        Example:
            >>> inbox = SqliteInbox("inbox.db")
            >>> veriff = blocking.open_client(inbox=inbox)
            >>> veriff.enter(inbox)
            >>> receiver = veriff.enter(WebhookReceiver(veriff.credentials, inbox))
        """
        given: object = resource
        if not isinstance(given, AbstractAsyncContextManager):
            msg = f"enter() takes an async context manager, not {type_name(given)}: pass for example an inbox."
            raise InvalidArgumentError(msg)
        return self._portal.enter(resource)

    def close(self) -> None:
        """End all waits and calls of all threads with `ClientClosedError`, close the connections and end the thread.

        A second call does nothing, nor does closing a view. A client that is still open at the end of the process is
        closed then. An exception of a resource that `enter` has entered is raised.
        """
        if self._original is self._portal.client:
            self._portal.close()

    def __enter__(self) -> Self:
        """Return the client.

        Raises:
            ClientClosedError: The client is closed.
            ConfigurationError: This is a view, which its client closes.
        """
        if self._original is not self._portal.client:
            msg = "A view of a client cannot be opened: use with on the client, and with_options() in the block."
            raise ConfigurationError(msg)
        self._portal.check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the client."""
        self.close()
