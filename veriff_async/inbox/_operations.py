"""Work on a whole inbox: reading all sessions and events, exporting them, and passing events to the handlers again.

The inbox returns sessions in pages and the events of one session at once, so these functions hold one page of summaries
and the events of some sessions in memory, however large the inbox is. They work on some sessions at the same time: a
store waits for a disk or a network in each call, and commits concurrent changes together.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeVar

from attrs import frozen

from veriff_async._logging import log_fields
from veriff_async._protocol.arguments import check_instance, type_name
from veriff_async._protocol.validation import safe_id
from veriff_async._protocol.webhook import dump_event
from veriff_async.errors import ConfigurationError, InboxError
from veriff_async.inbox._protocol import DeliveryInbox, SearchableInbox
from veriff_async.models.delivery import DeliveryStatus
from veriff_async.models.events import SessionEvent
from veriff_async.models.inbox_search import SessionSearch

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence

    from veriff_async.inbox._protocol import Inbox
    from veriff_async.models.delivery import DeliveryRecord
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.inbox_search import SessionSummary

__all__ = ("PAGE_SIZE", "StoredEvent", "export_events", "iter_events", "iter_sessions", "requeue_events", "retry_dead")

_LOG: Final = logging.getLogger("veriff_async.inbox")

_T = TypeVar("_T")

PAGE_SIZE: Final = 500
"""Sessions that are found at once."""

_CONCURRENCY: Final = 32
"""Sessions whose events are read or queued at the same time."""

# More than an inbox keeps of one session.
_ALL_OF_ONE_SESSION: Final = 1_000_000


@frozen(kw_only=True)
class StoredEvent:
    """An event in an inbox.

    Attributes:
        event: The event.
        delivery: How far the handlers are with it. ``None`` if the inbox keeps no deliveries, and for an event without
            a session.
    """

    event: WebhookEvent
    delivery: DeliveryRecord | None = None

    def to_json_line(self) -> str:
        """Return the event as one line of JSON, with all personal data that it contains.

        Its members are ``session_id``, ``kind``, ``dedup_key``, ``recorded_at`` (ISO 8601), ``delivery`` (the status),
        ``attempts``, ``error``, and ``event``, the JSON that Veriff sent.
        """
        event, delivery = self.event, self.delivery
        recorded_at = None if delivery is None else datetime.fromtimestamp(delivery.recorded_at, UTC)
        head = json.dumps(
            {
                "session_id": event.session_id,
                "kind": event.kind,
                "dedup_key": event.dedup_key,
                "recorded_at": None if recorded_at is None else recorded_at.isoformat(timespec="milliseconds"),
                "delivery": None if delivery is None or delivery.status is None else str(delivery.status),
                "attempts": 0 if delivery is None else delivery.attempts,
                "error": None if delivery is None else delivery.error,
            }
        )
        # The body is JSON already; parsing and encoding it again would take most of the time of an export.
        return f'{head[:-1]}, "event": {dump_event(event).decode()}}}'


async def iter_sessions(inbox: SearchableInbox, search: SessionSearch | None = None) -> AsyncGenerator[SessionSummary]:
    """Yield the sessions that a search finds, the one with the latest event first.

    A session that gets an event in that time may be yielded twice or not at all; all others are yielded once.

    Args:
        inbox: The inbox.
        search: Which sessions; by default all.

    Raises:
        ConfigurationError: The inbox cannot be searched, or `search` is not a `SessionSearch`.
        InboxError: It cannot be read.

    Example:
        >>> async for session in iter_sessions(inbox, SessionSearch(delivery=DeliveryStatus.DEAD)):
        ...     print(session.session_id, session.dead)
    """
    _check_searchable(inbox)
    search = _check_search(search)
    page = None
    while True:
        found = await inbox.find_sessions(search, limit=PAGE_SIZE, page=page)
        for session in found.sessions:
            yield session
        if (page := found.next_page) is None:
            return


async def iter_events(inbox: SearchableInbox, search: SessionSearch | None = None) -> AsyncGenerator[StoredEvent]:
    """Yield the stored events of the sessions that a search finds, those of one session in the order of recording.

    Args:
        inbox: The inbox.
        search: Which sessions; by default all.

    Raises:
        ConfigurationError: The inbox cannot be searched, or `search` is not a `SessionSearch`.
        InboxError: It cannot be read. If this holds for some sessions alone, it is raised after the events of all
            others.
    """
    failures = FailedSessions()
    async with aclosing(_iter_groups(inbox, search)) as groups:
        async for session_ids in groups:
            for events in await failures.gather([(each, events_of(inbox, each)) for each in session_ids]):
                for stored in events:
                    yield stored
    failures.check()


async def _iter_groups(inbox: SearchableInbox, search: SessionSearch | None) -> AsyncGenerator[list[str | None]]:
    """Yield the ids of sessions, some at once."""
    group: list[str | None] = []
    async with aclosing(iter_sessions(inbox, search)) as sessions:
        async for session in sessions:
            group.append(session.session_id)
            if len(group) == _CONCURRENCY:
                yield group
                group = []
    if group:
        yield group


class FailedSessions:
    """The sessions for which a call failed, for example since another program has damaged them.

    They must not keep the others from being read, and the caller must learn that they are missing.
    """

    def __init__(self) -> None:
        """Start without any."""
        self._count = self._in_a_row = 0
        self._first: InboxError | None = None
        self._has_succeeded = False

    async def gather(self, calls: Sequence[tuple[str | None, Coroutine[object, object, _T]]]) -> list[_T]:
        """Return the results of those calls, one for each session, that succeed; and remember the others.

        Raises:
            InboxError: Too many calls have failed one after the other.
        """
        results = await _gather([_catch(call) for _, call in calls])
        found: list[_T] = []
        for (session_id, _), result in zip(calls, results, strict=True):
            if isinstance(result, InboxError):
                self._add(session_id, result)
            else:
                self._in_a_row, self._has_succeeded = 0, True
                found.extend(result)
        return found

    def check(self) -> None:
        """Raise an error if a call has failed.

        Raises:
            InboxError: See above.
        """
        if self._first is None:
            return
        if not self._has_succeeded:
            raise self._first
        verb = "was" if self._count == 1 else "were"
        msg = (
            f"{self._count} of the sessions could not be read, and {verb} left out. The first error was: {self._first}"
        )
        raise InboxError(msg) from self._first

    def _add(self, session_id: str | None, error: InboxError) -> None:
        self._count, self._in_a_row, self._first = self._count + 1, self._in_a_row + 1, self._first or error
        # The inbox cannot be reached, or its keys are missing.
        if self._in_a_row >= _CONCURRENCY:
            raise error
        fields = log_fields(session_id=safe_id(session_id), error=type(error).__name__)
        _LOG.warning("A stored session could not be read: %s", fields["veriff_error"], extra=fields)


async def _catch(call: Coroutine[object, object, _T]) -> list[_T] | InboxError:
    """Return the result of a call in a list, or its error."""
    try:
        return [await call]
    except InboxError as error:
        return error


async def _gather(calls: Sequence[Coroutine[object, object, _T]]) -> list[_T]:
    """Return the results of all calls; none runs any more when this returns or raises."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def events_of(inbox: Inbox, session_id: str | None) -> list[StoredEvent]:
    """Return the stored events of a session, or those without one, in the order of recording."""
    events = await inbox.get_events(session_id)
    records: dict[str, DeliveryRecord] = {}
    # Without a session, `get_deliveries` would return the events of all sessions.
    if session_id is not None and isinstance(inbox, DeliveryInbox):
        found = await inbox.get_deliveries(session_id=session_id, limit=_ALL_OF_ONE_SESSION)
        records = {record.dedup_key: record for record in found}
    return [StoredEvent(event=event, delivery=records.get(event.dedup_key)) for event in events]


async def export_events(inbox: SearchableInbox, search: SessionSearch | None = None) -> AsyncGenerator[str]:
    """Yield the stored events of the sessions that a search finds, each as a line of JSON; see `StoredEvent`.

    The lines contain personal data. Each is read back by ``load_event(line["kind"], json.dumps(line["event"]))``.

    Args:
        inbox: The inbox.
        search: Which sessions; by default all.

    Raises:
        ConfigurationError: The inbox cannot be searched, or `search` is not a `SessionSearch`.
        InboxError: It cannot be read. If this holds for some sessions alone, it is raised after the events of all
            others.

    Example:
        >>> async for line in export_events(inbox, SessionSearch(vendor_data="user-42")):
        ...     print(line, file=file)
    """
    async with aclosing(iter_events(inbox, search)) as events:
        async for stored in events:
            yield stored.to_json_line()


async def requeue_events(
    inbox: Inbox, search: SessionSearch | None = None, *, on_progress: Callable[[int], object] | None = None
) -> int:
    """Queue the stored events of the sessions that a search finds again, so that all handlers are called for them.

    The workers of the application take them. Events that are queued or leased already stay as they are. Those that a
    client recorded itself, when it submitted a session again, are not queued.

    Args:
        inbox: The inbox, a `SearchableInbox` and a `DeliveryInbox`.
        search: Which sessions; by default all.
        on_progress: Called after some sessions each, with the number of events that were queued so far.

    Returns:
        The number of events that were queued.

    Raises:
        ConfigurationError: The inbox has not these methods, or `search` is not a `SessionSearch`.
        InboxError: Some may not have been queued; call it again. Sessions that cannot be read keep no others from being
            queued.
    """
    deliveries, searchable = _check_deliveries(inbox), _check_searchable(inbox)
    count, failures = 0, FailedSessions()
    async with aclosing(_iter_groups(searchable, search)) as groups:
        async for session_ids in groups:
            calls = [(each, _requeue_session(inbox, deliveries, each)) for each in session_ids]
            count += sum(await failures.gather(calls))
            if on_progress is not None:
                on_progress(count)
    failures.check()
    return count


async def _requeue_session(inbox: Inbox, deliveries: DeliveryInbox, session_id: str | None) -> int:
    count = 0
    for event in filter(was_received, await inbox.get_events(session_id)):
        count += await deliveries.requeue(session_id, event.dedup_key)
    return count


async def retry_dead(
    inbox: DeliveryInbox,
    *,
    session_id: str | None = None,
    error: str | None = None,
    on_progress: Callable[[int], object] | None = None,
) -> int:
    """Queue dead events again, with their attempts set to zero. The oldest events of a session come first.

    Args:
        inbox: The inbox.
        session_id: Only events of this session.
        error: Only events whose last error contains this text, for example the name of its class.
        on_progress: Called after some sessions each, with the number of events that were queued so far.

    Returns:
        The number of events that were queued.

    Raises:
        ConfigurationError: The inbox keeps no deliveries.
        InboxError: Some may not have been queued; call it again. Sessions that cannot be read keep no others from being
            queued.

    Example:
        >>> await retry_dead(inbox, error="ConnectionRefusedError")
    """
    _check_deliveries(inbox)
    keys_by_session: dict[str | None, list[str]] = {}
    for record in reversed(await find_dead(inbox, session_id=session_id, error=error)):
        keys_by_session.setdefault(record.session_id, []).append(record.dedup_key)
    count, sessions, failures = 0, list(keys_by_session.items()), FailedSessions()
    for start in range(0, len(sessions), _CONCURRENCY):
        group = sessions[start : start + _CONCURRENCY]
        count += sum(await failures.gather([(each, _requeue_keys(inbox, each, keys)) for each, keys in group]))
        if on_progress is not None:
            on_progress(count)
    failures.check()
    return count


async def _requeue_keys(inbox: DeliveryInbox, session_id: str | None, keys: Sequence[str]) -> int:
    count = 0
    for key in keys:
        count += await inbox.requeue(session_id, key)
    return count


async def find_dead(
    inbox: DeliveryInbox, *, session_id: str | None = None, error: str | None = None, limit: int = _ALL_OF_ONE_SESSION
) -> list[DeliveryRecord]:
    """Return dead events, the latest first."""
    # Those with another error are dropped here, so all must be read to find `limit` of them.
    read = limit if error is None else _ALL_OF_ONE_SESSION
    found = await inbox.get_deliveries(session_id=session_id, status=DeliveryStatus.DEAD, limit=read)
    return [record for record in found if error is None or error in (record.error or "")][:limit]


def was_received(event: WebhookEvent) -> bool:
    """Return whether an event has the form that Veriff sends; a client also records that it submitted again."""
    return not (isinstance(event, SessionEvent) and event.answered_decision is not None)


def _check_search(search: SessionSearch | None) -> SessionSearch:
    if search is None:
        return SessionSearch()
    return check_instance("search", search, SessionSearch, remedy='pass for example SessionSearch(session_id="...")')


def _check_searchable(inbox: object) -> SearchableInbox:
    if isinstance(inbox, SearchableInbox) and not isinstance(inbox, type):
        return inbox
    raise _lacks_methods("SearchableInbox", inbox)


def _check_deliveries(inbox: object) -> DeliveryInbox:
    if isinstance(inbox, DeliveryInbox) and not isinstance(inbox, type):
        return inbox
    raise _lacks_methods("DeliveryInbox", inbox)


def _lacks_methods(protocol: str, inbox: object) -> ConfigurationError:
    remedy = "use SqliteInbox, RedisInbox, PostgresInbox or MemoryInbox"
    return ConfigurationError(f"The inbox must be a {protocol}, and {type_name(inbox)} lacks methods of it: {remedy}.")
