"""Makes a class for synchronous code from one of the asynchronous classes: the same names, and calls that block."""

# The functions of this module are methods of `Adapter`.
# pyright: reportPrivateUsage=false
from __future__ import annotations

import re
from functools import partial, wraps
from inspect import get_annotations, getdoc, isawaitable, iscoroutinefunction, isfunction
from typing import TYPE_CHECKING, Final, TypeVar, cast

from anyio import CapacityLimiter, to_thread

from veriff_async.blocking._portal import Block, CallTask

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterable, Mapping
    from contextlib import AbstractAsyncContextManager
    from typing import Any

    from veriff_async.blocking._portal import Portal

__all__ = ("Adapter", "adapt", "call_original", "iterate", "translate", "wrap")

# Plain functions that neither wait nor touch the loop: they are called in the thread of the caller, also before the
# loop has started and after it has ended.
_DIRECT: Final = frozenset({"session", "statistics", "with_options"})
_OMITTED: Final = frozenset({"aclose", "from_env"})
_WORDS: Final = {
    "async with": "with",
    "async for": "for",
    "await ": "",
    "Awaited": "Called in a thread",
    "an async iterator": "an iterator",
    "An async iterator": "An iterator",
    "VeriffClient": "BlockingClient",
    "VerificationSession": "BlockingSession",
    "MediaStream": "BlockingMediaStream",
    "SessionWatch": "Generator[SessionState]",
    "AbstractAsyncContextManager": "AbstractContextManager",
    "AsyncIterator": "Iterator",
    "AsyncGenerator": "Generator",
}
_PATTERN: Final = re.compile(rf"\b(?:{'|'.join(_WORDS)})\b|\bAwaitable\[((?:\w|[ |.]|\[\w+\])+)\]")
_T = TypeVar("_T")
_adapters: Final = dict[type, "type[Adapter]"]()


def translate(text: str) -> str:
    """Return a docstring or signature of the asynchronous class in the words of the synchronous one."""
    return _PATTERN.sub(lambda match: match[1] or _WORDS[match[0]], text)


class Adapter:
    """An object of which synchronous threads call the methods. `adapt` makes subclasses."""

    def __init__(self, original: object, portal: Portal, task: CallTask | None = None) -> None:
        """Call the methods of an object in the loop of a portal, or in one task of it."""
        self._original = original
        self._portal = portal
        self._call = portal.call if task is None else task.call

    def __repr__(self) -> str:
        """Show the original."""
        return translate(repr(self._original))


def adapt(name: str, original: type, base: type[Adapter] = Adapter) -> type[Adapter]:
    """Return a subclass of `base` with the public members of an asynchronous class.

    Coroutine functions block until they have ended. `help` shows their docstrings; for type checkers and editors, a
    test writes docstrings and signatures to a file from the same source.
    """
    doc = translate(getdoc(original) or "") if base is Adapter else base.__doc__
    members: dict[str, object] = {"__doc__": doc, "__module__": "veriff_async.blocking"}
    for attribute in get_annotations(original):
        members[attribute] = _property(attribute, property())
    for attribute, member in vars(original).items():
        if attribute.startswith("_") or attribute in _OMITTED or hasattr(base, attribute):
            continue
        if isinstance(member, property):
            members[attribute] = _property(attribute, member)
        elif isfunction(member):
            members[attribute] = _method(member)
    if hasattr(original, "__anext__"):
        members |= {"__iter__": _itself, "__next__": _next}
    _adapters[original] = adapter = cast("type[Adapter]", type(name, (base,), members))
    return adapter


def _property(name: str, original: property) -> property:
    def read(self: Adapter) -> object:
        return getattr(self._original, name)

    def write(self: Adapter, value: object) -> None:
        setattr(self._original, name, value)

    doc = translate(original.__doc__ or "An attribute, see the class.")
    return property(read, None if original.fset is None else write, doc=doc)


def _method(function: Callable[..., Any]) -> Callable[..., object]:
    callbacks = {name for name, annotation in function.__annotations__.items() if "Awaitable[" in str(annotation)}
    is_direct = function.__name__ in _DIRECT
    is_plain = not iscoroutinefunction(function)

    @wraps(function)
    def method(self: Adapter, /, *args: object, **options: object) -> object:
        for name in callbacks & options.keys():
            options[name] = _callback(options[name], self._portal)
        call = partial(function, self._original, *args, **options)
        if is_direct:
            return wrap(call(), self._portal)
        return wrap(self._call(partial(_call_plain, call) if is_plain else call), self._portal)

    method.__doc__ = translate(getdoc(function) or "")
    return method


def call_original(function: Callable[..., object], args: Iterable[object], options: Mapping[str, object]) -> object:
    """Call an asynchronous function, with the asynchronous client or session in place of that for synchronous code."""
    return function(*map(_original, args), **{name: _original(value) for name, value in options.items()})


def _original(value: object) -> object:
    return value._original if isinstance(value, Adapter) else value  # noqa: SLF001


async def _call_plain(call: Callable[[], object]) -> object:
    return call()


def _itself(self: Adapter) -> Adapter:
    return self


def _next(self: Adapter) -> object:
    try:
        return self._call(cast("AsyncIterator[object]", self._original).__anext__)
    except StopAsyncIteration:
        raise StopIteration from None


def _callback(function: object, portal: Portal) -> object:
    """Return a coroutine function that calls a plain one in a thread, where it may block and use the client."""
    if not callable(function) or iscoroutinefunction(function):
        return function

    async def call(*args: object) -> object:
        # A limit of its own: a callback that makes a call with another callback would wait for the 40 shared threads.
        function_call = partial(function, *(wrap(value, portal) for value in args))
        result = await to_thread.run_sync(function_call, limiter=CapacityLimiter(1))
        return await result if isawaitable(result) else result

    return call


def wrap(value: object, portal: Portal, task: CallTask | None = None) -> object:
    """Return the result of a call as synchronous code can use it."""
    adapter = _adapters.get(type(value))
    if adapter is not None:
        return adapter(value, portal, task)
    if hasattr(value, "__aenter__"):
        return _WrappedBlock(cast("AbstractAsyncContextManager[object]", value), portal)
    if hasattr(value, "__anext__"):
        return (wrap(item, portal) for item in iterate(cast("AsyncIterator[object]", value), portal))
    return value


def iterate(iterator: AsyncIterator[_T], portal: Portal) -> Generator[_T]:
    """Iterate over an async iterator; one task of the loop continues it."""
    task = CallTask(portal)
    try:
        while True:
            try:
                value = task.call(iterator.__anext__)
            except StopAsyncIteration:
                break
            yield value
    finally:
        # Without waiting: a garbage collection may close this generator in the thread of the loop.
        task.end(getattr(iterator, "aclose", None))


class _WrappedBlock(Block[object]):
    """A block whose value synchronous code can use."""

    def __enter__(self) -> object:
        return wrap(super().__enter__(), self._portal, self.task)
