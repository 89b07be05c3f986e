"""The decorator `WebhookReceiver.on`, whose types depend on the classes of events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, TypeVar, overload

from veriff_async.models.events import WebhookEvent
from veriff_async.webhooks._handlers import check_event_types

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from veriff_async.models.delivery import Delivery

__all__ = ("HandlerRegistration",)

EventT = TypeVar("EventT", bound=WebhookEvent)
OtherT = TypeVar("OtherT", bound=WebhookEvent)
ReturnT = TypeVar("ReturnT")
ConnectionT = TypeVar("ConnectionT")
FunctionT = TypeVar("FunctionT")


class HandlerDecorator(Protocol[EventT]):
    """Registers a function of a delivery, and returns it."""

    def __call__(self, function: Callable[[Delivery[EventT]], ReturnT], /) -> Callable[[Delivery[EventT]], ReturnT]:
        """Register a function."""
        ...


class TransactionDecorator(Protocol[EventT]):
    """Registers a coroutine function of a delivery and a connection, and returns it."""

    def __call__(
        self, function: Callable[[Delivery[EventT], ConnectionT], Awaitable[ReturnT]], /
    ) -> Callable[[Delivery[EventT], ConnectionT], Awaitable[ReturnT]]:
        """Register a function."""
        ...


class HandlerRegistration:
    """Has handlers of events."""

    @overload
    def on(
        self, event_type: type[EventT], /, *, name: str | None = None, transaction: Literal[False] = False
    ) -> HandlerDecorator[EventT]: ...
    @overload
    def on(
        self,
        event_type: type[EventT],
        other: type[OtherT],
        /,
        *,
        name: str | None = None,
        transaction: Literal[False] = False,
    ) -> HandlerDecorator[EventT | OtherT]: ...
    @overload
    def on(
        self, *event_types: type[WebhookEvent], name: str | None = None, transaction: Literal[False] = False
    ) -> HandlerDecorator[WebhookEvent]: ...
    @overload
    def on(
        self, event_type: type[EventT], /, *, name: str | None = None, transaction: Literal[True]
    ) -> TransactionDecorator[EventT]: ...
    @overload
    def on(
        self, *event_types: type[WebhookEvent], name: str | None = None, transaction: Literal[True]
    ) -> TransactionDecorator[WebhookEvent]: ...
    def on(self, *event_types: type, name: str | None = None, transaction: bool = False) -> object:
        """Register a handler of events, as a decorator.

        The handler gets one `Delivery`: the event, the state of its session, and the number of the attempt. A coroutine
        function is called on the event loop, any other callable in a thread; the result is ignored. It is called at
        least once for each event. An error is logged by class, file and line only, since its text may hold personal
        data, and the event is handled again later: see `DeliveryPolicy`. After the last attempt, or an
        `UnrecoverableError`, it becomes a dead letter, which stays in the inbox.

        An effect that must happen once needs a key: ``delivery.event.dedup_key`` is the same in each attempt.

        Events are queued when they are recorded. Those that were recorded without a handler are not handled later.
        Register handlers before the first webhook, and the same ones in all processes that share the inbox.

        Args:
            event_types: The classes of the events that it gets; without any, it gets all events.
            name: The name under which the inbox remembers that it has finished. By default module and qualified name.
                If you rename the function, give the old name, or events that are retried then are handled again by it.
            transaction: Whether the handler, a coroutine function, also gets the connection of a transaction, in which
                the inbox stores that it has finished. Its effect in that database happens exactly once. It needs a
                `TransactionalInbox`, such as `PostgresInbox`.

        Raises:
            ConfigurationError: The function cannot be called with a `Delivery`, its name is taken, or the inbox is not
                a `DeliveryInbox`, or not a `TransactionalInbox` with `transaction`.

        Example:
            >>> @receiver.on(DecisionEvent)
            ... async def store_decision(delivery: Delivery[DecisionEvent]) -> None:
            ...     await database.store(delivery.event.dedup_key, delivery.event.decision)
        """
        check_event_types(event_types)

        def register(function: FunctionT) -> FunctionT:
            self._add_handler(function, event_types, name, is_transactional=transaction)
            return function

        return register

    def _add_handler(
        self, function: object, event_types: Sequence[type], name: str | None, *, is_transactional: bool
    ) -> None:
        raise NotImplementedError
