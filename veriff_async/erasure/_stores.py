"""Stores that an erasure visits, and the search for the sessions of a person in them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

from attrs import evolve

from veriff_async._event_loop import is_being_cancelled
from veriff_async._protocol.arguments import type_name
from veriff_async.erasure._time_limit import StoreTimeout, call_store
from veriff_async.errors import InboxError, InvalidArgumentError
from veriff_async.inbox._operations import PAGE_SIZE, iter_sessions
from veriff_async.inbox._protocol import SearchableInbox

if TYPE_CHECKING:
    from collections.abc import Collection

    from veriff_async.models.inbox_search import SessionSearch

__all__ = ("ErasableStore", "check_stores", "find_session_ids")


@runtime_checkable
class ErasableStore(Protocol):
    """A place with data of sessions: an inbox, a journal, `SessionFiles`, `ResultsFile`, or a class of your own.

    A call that takes longer than `store_timeout` is cancelled, and the erasure continues without waiting for a thread
    that cannot be cancelled.
    """

    async def erase(self, session_ids: Collection[str]) -> int:
        """Erase everything about sessions, and return how many items there were. It may be called again.

        Raises:
            VeriffError: Some may not have been erased; its message holds no personal data.
        """
        ...


def check_stores(stores: object) -> dict[str, ErasableStore]:
    """Return stores by their names, which are those of their classes unless the caller gave others.

    Raises:
        InvalidArgumentError: One of them cannot erase, or two have the same name.
    """
    if isinstance(stores, Mapping):
        named = list(cast("Mapping[object, object]", stores).items())
    elif isinstance(stores, Iterable) and not isinstance(stores, str | bytes):
        named = [(type(store).__name__, store) for store in cast("Iterable[object]", stores)]
    else:
        msg = f"stores must be a mapping or a list of stores, not {type_name(stores)}: pass for example [inbox]."
        raise InvalidArgumentError(msg)
    checked: dict[str, ErasableStore] = {}
    for name, store in named:
        if not isinstance(name, str) or not name.isprintable() or name in {"", "veriff"}:
            msg = 'The name of a store must be a printable text, and not "veriff": pass for example {"inbox": inbox}.'
            raise InvalidArgumentError(msg)
        if isinstance(store, type) or not isinstance(store, ErasableStore):
            msg = f"The store {name} cannot erase: give it the method `erase(session_ids)`."
            raise InvalidArgumentError(msg)
        if name in checked:
            msg = f"Two stores have the name {name}: pass a mapping with a name for each."
            raise InvalidArgumentError(msg)
        checked[name] = store
    return checked


async def find_session_ids(
    stores: Mapping[str, ErasableStore], search: SessionSearch, *, store_timeout: float
) -> list[str]:
    """Return the sessions that match a search, in all inboxes among the stores.

    Raises:
        InvalidArgumentError: None of the stores can search.
        InboxError: An inbox cannot be read, not within `store_timeout` seconds, or it raises `CancelledError` itself.
    """
    inboxes = {name: store for name, store in stores.items() if isinstance(store, SearchableInbox)}
    if not inboxes:
        msg = "Only an inbox can find the sessions of a person: pass one among the stores, or pass session_id."
        raise InvalidArgumentError(msg)
    found = set[str]()
    for name, inbox in inboxes.items():
        try:
            found |= await call_store(_find_in_inbox(inbox, search), store_timeout)
        except asyncio.CancelledError:
            if is_being_cancelled():
                raise
            msg = f"The store {name} has cancelled the search, and nothing was begun: correct its find_sessions()."
        except StoreTimeout:
            msg = (
                f"The store {name} was not searched within {store_timeout:g} seconds, and nothing was begun: check "
                "whether it can be reached, or give it more time with store_timeout."
            )
        else:
            continue
        raise InboxError(msg)
    return sorted(found)


async def _find_in_inbox(inbox: SearchableInbox, search: SessionSearch) -> set[str]:
    """Return the sessions that a search finds, with those that got an event during the search.

    Such a session moves to the first page, which `iter_sessions` has read before. One page is read at one moment, so
    the search is complete when all that got an event since it began are on one page.
    """
    found = set[str]()
    while True:
        count, newest = 0, search.since
        async with aclosing(iter_sessions(inbox, search)) as sessions:
            async for session in sessions:
                count += 1
                newest = session.recorded_at if newest is None else max(newest, session.recorded_at)
                if session.session_id:
                    found.add(session.session_id)
        if count < PAGE_SIZE or newest == search.since:
            return found
        search = evolve(search, since=newest)
