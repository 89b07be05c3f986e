"""The handlers of a receiver: which events they get, how they are called, and how their failures are described."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from traceback import walk_tb
from typing import TYPE_CHECKING, Final, TypeAlias, get_args

from attrs import frozen

from veriff_async._media import blocking_source
from veriff_async._protocol.arguments import accepts_arguments, check_instance, type_name
from veriff_async._protocol.delivery import HandlerFailure
from veriff_async.errors import ConfigurationError, InboxError
from veriff_async.inbox._protocol import DeliveryInbox, TransactionalInbox
from veriff_async.models.delivery import Delivery
from veriff_async.models.events import WebhookEvent

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

__all__ = (
    "AnyHandler",
    "ExitInThreadError",
    "Handler",
    "HandlerRegistry",
    "UnrecoverableError",
    "call_handler",
    "check_delivery_inbox",
    "check_event_types",
    "describe_failure",
    "make_handler",
)

AnyHandler: TypeAlias = Callable[[Delivery[WebhookEvent]], object]
"""A function or a coroutine function; its result is ignored."""

EVENT_TYPES: Final[tuple[type, ...]] = get_args(WebhookEvent)

# The library's own frames are above the user's function in a traceback.
_OUR_FILES: Final = (__file__.rpartition("_handlers.py")[0], blocking_source.__file__)


class UnrecoverableError(Exception):
    """Raise it in a handler that cannot succeed, to move the event to the dead letters without further attempts.

    The text is not logged, because it may hold personal data. `DeliveryInbox.requeue` queues the event again, for
    example after you have repaired the handler.

    Example:
        >>> @receiver.on(DecisionEvent)
        ... async def update_user(delivery: Delivery[DecisionEvent]) -> None:
        ...     if delivery.event.decision.vendor_data is None:
        ...         raise UnrecoverableError("the session has no user")
    """


class ExitInThreadError(Exception):
    """A function raised SystemExit, KeyboardInterrupt or GeneratorExit in its thread; the cause is that exception."""


@frozen(eq=False)
class Handler:
    """A function for events of some classes.

    Attributes:
        name: The name by which an inbox remembers that it has finished.
        function: The function.
        event_types: The classes of the events that it gets.
        is_transactional: Whether it also gets the connection of a transaction.
    """

    name: str
    function: Callable[..., object]
    event_types: tuple[type, ...]
    is_transactional: bool = False


class HandlerRegistry:
    """The handlers of a receiver, in the order of their registration."""

    def __init__(self) -> None:
        """Start without handlers."""
        self._handlers: tuple[Handler, ...] = ()
        self._event_types: tuple[type, ...] = ()

    def __bool__(self) -> bool:
        """Return whether a handler is registered."""
        return bool(self._handlers)

    def add(self, handler: Handler) -> None:
        """Register a handler.

        Raises:
            ConfigurationError: Another one has its name.
        """
        if any(handler.name == other.name for other in self._handlers):
            msg = f"Two handlers have the name {handler.name}: give one of them another `name`."
            raise ConfigurationError(msg)
        # New tuples: other threads and running attempts read them.
        self._handlers = (*self._handlers, handler)
        self._event_types = tuple({*self._event_types, *handler.event_types})

    def match(self, event: WebhookEvent) -> bool:
        """Return whether a handler gets this event."""
        return isinstance(event, self._event_types)

    def select(self, event: WebhookEvent, handled_by: Collection[str]) -> Sequence[Handler]:
        """Return the handlers that get an event and have not finished in earlier attempts."""
        return [
            handler
            for handler in self._handlers
            if isinstance(event, handler.event_types) and handler.name not in handled_by
        ]


def make_handler(
    function: object, event_types: Sequence[object], *, name: str | None, is_transactional: bool = False
) -> Handler:
    """Check a function and its options when it is registered, so that a mistake is not first noticed in production.

    Raises:
        ConfigurationError: It cannot be called with its arguments, or it is a generator function, which does nothing
            when it is called; an event type is not a class of events; or the name is not a text.
    """
    label = "on_event" if name is None and not event_types else "The handler"
    if not callable(function):
        msg = f"{label} must be a function, not {type_name(function)}: pass the function itself, without calling it."
        raise ConfigurationError(msg)
    # Calling a generator function runs nothing of it, so the mistake would never be noticed.
    if any(map(_is_generator, (function, getattr(function, "__call__", None)))):  # noqa: B004
        msg = f"{label} is a generator function, of which nothing runs: leave out its yield."
        raise ConfigurationError(msg)
    if is_transactional and not (is_async(function) and accepts_arguments(function, 2)):
        msg = f"{label} must be a coroutine function of two arguments: it is called with a Delivery and a connection."
        raise ConfigurationError(msg)
    if not is_transactional and not accepts_arguments(function, 1):
        msg = f"{label} must take one argument: it is called with a Delivery alone."
        raise ConfigurationError(msg)
    return Handler(
        name=_default_name(function) if name is None else _check_name(name),
        function=function,
        event_types=check_event_types(event_types) or EVENT_TYPES,
        is_transactional=is_transactional,
    )


def check_event_types(event_types: Sequence[object]) -> tuple[type, ...]:
    """Check the classes of events that a handler gets.

    Raises:
        ConfigurationError: One is not a class of events, for example because the decorator has no parentheses.
    """
    for event_type in event_types:
        if not isinstance(event_type, type) or not issubclass(event_type, EVENT_TYPES):
            problem = "a function" if inspect.isfunction(event_type) else f"of type {type_name(event_type)}"
            msg = f"An event type is {problem}: write for example @receiver.on(DecisionEvent)."
            raise ConfigurationError(msg)
    return tuple(event_type for event_type in event_types if isinstance(event_type, type))


def check_delivery_inbox(inbox: object, *, is_transactional: bool = False) -> None:
    """Check that an inbox can pass events to handlers.

    Raises:
        ConfigurationError: It lacks methods of `DeliveryInbox`, or of `TransactionalInbox`.
    """
    if is_transactional and not isinstance(inbox, TransactionalInbox):
        msg = (
            f"A handler with transaction=True needs an inbox in a database, which {type_name(inbox)} is not: pass a "
            "PostgresInbox, or leave the option out."
        )
        raise ConfigurationError(msg)
    if not isinstance(inbox, DeliveryInbox) or "deliver" not in inspect.signature(inbox.record).parameters:
        msg = (
            f"Handlers need an inbox that queues events for them, which {type_name(inbox)} does not: pass for example "
            "a SqliteInbox, or add the methods of DeliveryInbox."
        )
        raise ConfigurationError(msg)


def _check_name(name: object) -> str:
    text = check_instance("name", name, str, remedy="pass it as text")
    if not text or not text.isprintable():
        msg = "The name of a handler must be a printable text with at least one character."
        raise ConfigurationError(msg)
    return text


def _default_name(function: Callable[..., object]) -> str:
    """Return module and qualified name: the same in each process and after a deploy, as an inbox stores it."""
    named: object = function
    while isinstance(named, partial):
        named = named.func
    if not isinstance(getattr(named, "__qualname__", None), str):
        named = type(named)
    module: object = getattr(named, "__module__", None)
    qualname: object = getattr(named, "__qualname__", "")
    return f"{module}.{qualname}" if isinstance(module, str) else str(qualname)


def _is_generator(function: object) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


async def call_handler(handler: Handler, *arguments: object) -> None:
    """Call a handler: a coroutine function on the loop, any other callable in a thread."""
    if is_async(handler.function):
        returned = handler.function(*arguments)
    else:
        # In a daemon thread: one that hangs must not keep the process alive after the server has stopped.
        work = partial(_call_in_thread, handler.function, arguments)
        returned = await blocking_source.run_abandonable(work, name="veriff handler")
    if inspect.isawaitable(returned):
        await returned


def _call_in_thread(function: Callable[..., object], arguments: tuple[object, ...]) -> object:
    try:
        return function(*arguments)
    except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
        # They end a thread and nothing else. Raised on the event loop, they would end the server, or close the
        # coroutine that waits for the thread.
        raise ExitInThreadError from error


def is_async(function: Callable[..., object]) -> bool:
    """Return whether a function is called on the loop: a coroutine function, or an object with such a ``__call__``."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def describe_failure(handler: Handler, error: BaseException, timeout: float | None = None) -> HandlerFailure:
    """Describe a failed call by class, file and line. The error's text may hold personal data.

    Args:
        handler: The handler.
        error: The error.
        timeout: The seconds after which the call was ended, if it was too slow.
    """
    if timeout is not None:
        text = f"TimeoutError after {timeout:g} s"
        return HandlerFailure(handler.name, text, may_have_committed=handler.is_transactional)
    if isinstance(error, ExitInThreadError) and error.__cause__ is not None:
        error = error.__cause__
    text = f"{type(error).__name__}{_locations(error)}"
    return HandlerFailure(
        handler.name,
        text,
        is_unrecoverable=isinstance(error, UnrecoverableError),
        # A connection that breaks during a commit leaves its result open.
        may_have_committed=handler.is_transactional and isinstance(error, InboxError),
    )


def _locations(error: BaseException) -> str:
    """Return file and line where an error was raised, and the line of the user's function if that is another one."""
    frames = [(frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__)]
    user_frames = [frame for frame in frames if not frame[0].startswith(_OUR_FILES)]
    if not user_frames:
        return ""
    raised_at, called_at = (f"{file}:{line}" for file, line in (user_frames[-1], user_frames[0]))
    return f" at {raised_at}" if raised_at == called_at else f" at {raised_at}, called from {called_at}"
