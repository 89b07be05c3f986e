"""Searches in the sessions that `MemoryInbox` keeps."""

from __future__ import annotations

from heapq import nlargest
from typing import TYPE_CHECKING

from veriff_async._protocol.inbox_arguments import unknown_page_error
from veriff_async.models.delivery import DeliveryStatus
from veriff_async.models.inbox_search import SessionPage, SessionSummary

if TYPE_CHECKING:
    from collections.abc import Iterable

    from veriff_async.inbox._memory_log import SessionLog
    from veriff_async.models.inbox_search import SessionSearch

__all__ = ("find_page",)


def find_page(logs: Iterable[SessionLog], search: SessionSearch, limit: int, page: str | None) -> SessionPage:
    """Return a part of the sessions that a search finds. A page is the number of the last record of the previous part.

    Raises:
        InvalidArgumentError: The page is not from this inbox.
    """
    before = None if page is None else _read_page(page)
    found = (log for log in logs if (before is None or log.number < before) and _matches(log, search))
    # One more than wanted shows whether another part follows.
    newest = nlargest(limit + 1, found, key=lambda log: log.number)
    next_page = str(newest[limit - 1].number) if len(newest) > limit else None
    return SessionPage(sessions=tuple(map(_summarize, newest[:limit])), next_page=next_page)


def _read_page(page: str) -> int:
    # int() accepts more than this, such as spaces.
    if not (page.isascii() and page.isdecimal()):
        raise unknown_page_error()
    try:
        return int(page)
    except ValueError:  # thousands of digits
        raise unknown_page_error() from None


def _matches(log: SessionLog, search: SessionSearch) -> bool:
    # A session of which only a submission was saved has no event.
    if not log.events or log.recorded_at is None:
        return False
    status = None if log.state is None else log.state[1]
    return (
        search.session_id in {None, log.session_id}
        and search.status in {None, status}
        and (search.since is None or log.recorded_at >= search.since)
        and (search.until is None or log.recorded_at < search.until)
        and (search.vendor_data is None or ("vendor_data", search.vendor_data) in log.person)
        and (search.end_user_id is None or ("end_user_id", search.end_user_id) in log.person)
        and (search.delivery is None or _count(log, search.delivery) > 0)
    )


def _summarize(log: SessionLog) -> SessionSummary:
    return SessionSummary(
        session_id=log.session_id,
        status=None if log.state is None else log.state[1],
        events=len(log.events),
        queued=_count(log, DeliveryStatus.QUEUED, DeliveryStatus.LEASED),
        dead=_count(log, DeliveryStatus.DEAD),
        recorded_at=log.recorded_at or 0.0,
    )


def _count(log: SessionLog, *statuses: DeliveryStatus) -> int:
    return 0 if log.queue is None else sum(queued.status in statuses for queued in log.queue.events.values())
