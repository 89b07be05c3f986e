"""Searches in the sessions that `MemoryInbox` keeps."""

from __future__ import annotations

from heapq import nlargest
from typing import TYPE_CHECKING

from attrs import evolve

from veriff_async._protocol.inbox_arguments import unknown_page_error
from veriff_async._protocol.webhook import load_event
from veriff_async.models.delivery import DeliveryRecord, DeliveryStatus
from veriff_async.models.inbox_search import SessionPage, SessionSummary

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from veriff_async.inbox._memory_log import SessionLog, StoredEvent
    from veriff_async.models.inbox_search import SessionSearch

__all__ = ("find_page", "find_records", "load_records")


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


def find_records(
    logs: Iterable[SessionLog], status: DeliveryStatus | None, limit: int, offset: float
) -> Sequence[tuple[StoredEvent, DeliveryRecord]]:
    """Return the records of events without their keys, the latest first, for `load_records`.

    Args:
        logs: The sessions in which to look.
        status: How far the handlers are with the events, ``None`` for any.
        limit: How many to return.
        offset: Added to times of the queue, for the time of day.
    """
    newest = nlargest(limit, _find_events(logs, status), key=lambda found: found[2][2])
    return [(event, _read_record(log, key, event, offset)) for log, key, event in newest]


def load_records(records: Sequence[tuple[StoredEvent, DeliveryRecord]]) -> Sequence[DeliveryRecord]:
    """Return records with their keys. Each key takes as long as decoding its event."""
    return [evolve(record, dedup_key=load_event(event[0], event[1]).dedup_key) for event, record in records]


def _find_events(
    logs: Iterable[SessionLog], status: DeliveryStatus | None
) -> Iterator[tuple[SessionLog, object, StoredEvent]]:
    for log in logs:
        queue = log.queue
        if status is None:
            yield from ((log, key, event) for key, event in log.events.items())
        elif queue is not None:
            events = log.events.items()
            yield from ((log, key, event) for key, event in events if queue.find_status(key) is status)


def _read_record(log: SessionLog, key: object, event: StoredEvent, offset: float) -> DeliveryRecord:
    kind, _, _, recorded_at, _ = event
    record = DeliveryRecord(session_id=log.session_id, dedup_key="", kind=kind, status=None, recorded_at=recorded_at)
    queue = log.queue
    if queue is None:
        return record
    if key in queue.settled:
        status, attempts, handled_by, error = queue.settled[key]
        return evolve(
            record, status=DeliveryStatus(status), attempts=attempts, handled_by=frozenset(handled_by), error=error
        )
    queued = queue.pending.get(key)
    if queued is None:
        return record
    return evolve(
        record,
        status=queued.status,
        attempts=queued.attempts,
        due_at=queued.due_at + offset,
        error=queued.error,
        handled_by=queued.handled_by,
    )


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
        queued=0 if log.queue is None else len(log.queue.pending),
        dead=_count(log, DeliveryStatus.DEAD),
        recorded_at=log.recorded_at or 0.0,
    )


def _count(log: SessionLog, status: DeliveryStatus) -> int:
    return 0 if log.queue is None else log.queue.count(status)
