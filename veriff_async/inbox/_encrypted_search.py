"""Searches for a value in an inbox that may be encrypted: its index has keyed digests of the values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from veriff_async.models.inbox_search import SessionSearch

if TYPE_CHECKING:
    from veriff_async.inbox._protocol import SearchableInbox
    from veriff_async.models.inbox_search import SessionPage

__all__ = ("check_empty_page",)


async def check_empty_page(inbox: SearchableInbox, search: SessionSearch, page: SessionPage) -> None:
    """Read one session if a search for a value found none.

    Without the key of the index, no value is ever found, and an erasure of a person would find nothing to erase and
    report success. The latest session shows whether the inbox has the keys that other processes encrypt with.

    Raises:
        InboxError: The inbox is encrypted, and its keys are missing.
    """
    if page.sessions or (search.vendor_data is None and search.end_user_id is None):
        return
    latest = await inbox.find_sessions(SessionSearch(), limit=1)
    for session in latest.sessions:
        await inbox.get_events(session.session_id)
