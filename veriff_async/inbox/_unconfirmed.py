"""Records whose responses were lost: they are repeated until it is known whether they were stored.

A connection can break after the server got a transaction and before its response arrives. Each call of `record` stores
a token with its event, by which a repetition recognises what the call itself has stored. If the server stays away, the
caller gets an error and Veriff sends the webhook again; the call is then continued, so that the event counts as new.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from veriff_async._event_loop import require_asyncio
from veriff_async.errors import InboxError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Generator

    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.state import RecordResult

__all__ = ("UnconfirmedCall", "UnconfirmedCalls", "repeat_until_known")

# Seconds before it is asked again whether an event was stored.
_PAUSES: Final = (0.05, 0.25, 1.0)

# Seconds in which that is asked.
_CONFIRM_SECONDS: Final = 30.0

# Calls that are remembered until Veriff sends their webhooks again.
_MAX_CALLS: Final = 1_000


class UnconfirmedCall(Protocol):
    """One call of `record`.

    Attributes:
        sent: The result of the call if its last transaction was applied; ``None`` before one was sent.
        is_left: Whether its caller has left a transaction that may still be sent.
    """

    sent: RecordResult | None
    is_left: bool


_Call = TypeVar("_Call", bound=UnconfirmedCall)
_Result = TypeVar("_Result")


class UnconfirmedCalls(Generic[_Call]):
    """The calls that have failed although their transactions may be applied, by the keys of their events."""

    def __init__(self) -> None:
        """Start without calls."""
        self._calls: OrderedDict[str, tuple[str | None, _Call]] = OrderedDict()

    @contextmanager
    def track(self, event: WebhookEvent, make: Callable[[], _Call]) -> Generator[_Call]:
        """Continue the earlier call for an event, or make one; remember it if the block fails and it may be stored."""
        _, call = self._calls.pop(event.dedup_key, (None, None))
        call = call or make()
        try:
            yield call
        except BaseException:
            if call.sent is not None or call.is_left:
                self._calls[event.dedup_key] = (event.session_id, call)
                if len(self._calls) > _MAX_CALLS:
                    self._calls.popitem(last=False)
            raise

    def erase(self, session_ids: Collection[str]) -> None:
        """Remove the calls for events of sessions, which hold these events."""
        erased = frozenset(session_ids)
        for key, (session_id, _) in tuple(self._calls.items()):
            if session_id in erased:
                del self._calls[key]


async def repeat_until_known(
    call: UnconfirmedCall, record: Callable[[], Awaitable[_Result]], is_closed: Callable[[], bool]
) -> _Result:
    """Record an event; repeat as long as it is unknown whether it was stored.

    Raises:
        InboxError: It was not stored, or the server has not answered for 30 seconds, or the inbox was closed.
    """
    require_asyncio()
    loop = asyncio.get_running_loop()
    pauses, deadline = iter(_PAUSES), loop.time() + _CONFIRM_SECONDS
    while True:
        try:
            return await record()
        except InboxError:
            if call.sent is None or is_closed() or loop.time() > deadline:
                raise
        await asyncio.sleep(next(pauses, _PAUSES[-1]))
