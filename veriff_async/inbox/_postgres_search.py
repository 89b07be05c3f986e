"""The searches of `PostgresInbox` in its tables; each function runs inside a transaction of the caller."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Final, LiteralString, cast

from veriff_async._protocol.inbox_arguments import unknown_page_error
from veriff_async._storage.postgres import execute, fetch_all, fetch_one
from veriff_async.inbox._postgres_codec import clean_text, decode, digest_of
from veriff_async.inbox._postgres_events import IS_VISIBLE, NOW
from veriff_async.models.enums import Status
from veriff_async.models.inbox_search import InboxStatistics, SessionPage, SessionSummary

if TYPE_CHECKING:
    from veriff_async._storage.postgres import Connection
    from veriff_async.inbox._postgres_events import EventTables
    from veriff_async.models.inbox_search import SessionSearch

__all__ = ("count_rows", "find_sessions")

# Numbers of rows are bigints.
_LARGEST_ID: Final = 2**63

# The server would take longer to compile these statements than to run them.
_WITHOUT_JIT: Final = "SET LOCAL jit = off"

_FIND: Final = """
SELECT session.id, session.status, session.events, session.touched, session.number,
    (SELECT count(*) FROM veriff_inbox_delivery AS delivery
     WHERE delivery.session = session.number AND delivery.status IN ('queued', 'leased')),
    (SELECT count(*) FROM veriff_inbox_delivery AS delivery
     WHERE delivery.session = session.number AND delivery.status = 'dead')
FROM veriff_inbox_session AS session
WHERE session.events > 0 AND {conditions}
ORDER BY session.touched DESC, session.number DESC LIMIT %(limit)s
"""

_HAS_KEY: Final = """session.number IN (
    SELECT search_key.session FROM veriff_inbox_search_key AS search_key
    WHERE search_key.field = '{field}' AND search_key.key = ANY (%({field})s::bytea[]))"""

_CONDITIONS: Final[dict[str, LiteralString]] = {
    "session_id": "session.digest = %(session_id)s",
    "vendor_data": _HAS_KEY.format(field="vendor_data"),
    "end_user_id": _HAS_KEY.format(field="end_user_id"),
    "status": "session.status = %(status)s",
    "delivery": "session.number IN (SELECT session FROM veriff_inbox_delivery WHERE status = %(delivery)s)",
    "since": "session.touched >= %(since)s",
    "until": "session.touched < %(until)s",
}

# In the order of the index, so that it is used even if the server misjudges the number of keys.
_HAS_OTHER_SECRETS: Final = """
SELECT EXISTS (
    SELECT FROM unnest(%(lows)s::bytea[], %(highs)s::bytea[]) AS ends (low, high), LATERAL (
        SELECT FROM veriff_inbox_search_key AS search_key
        WHERE search_key.field = 'secret' AND search_key.key > ends.low AND search_key.key < ends.high
        ORDER BY search_key.field, search_key.key LIMIT 1) AS other)
"""

_COUNT: Final = f"""
SELECT sessions.count, sessions.events, queue.queued, queue.leased,
    (SELECT count(*) FROM veriff_inbox_delivery WHERE status = 'dead'),
    {NOW} - (SELECT recorded_at FROM veriff_inbox_event WHERE number = queue.oldest), {NOW} - sessions.oldest,
    (SELECT sum(pg_total_relation_size(name::regclass)) FROM unnest(ARRAY[
        'veriff_inbox_session', 'veriff_inbox_event', 'veriff_inbox_delivery', 'veriff_inbox_search_key',
        'veriff_inbox_erased']) AS names (name))::bigint
FROM (
    SELECT count(*) AS count, coalesce(sum(events), 0)::bigint AS events, min(touched) AS oldest
    FROM veriff_inbox_session AS session WHERE session.events > 0 AND {IS_VISIBLE}
) AS sessions, (
    SELECT count(*) FILTER (WHERE delivery.status = 'queued') AS queued,
        count(*) FILTER (WHERE delivery.status = 'leased') AS leased, min(delivery.event) AS oldest
    FROM veriff_inbox_delivery AS delivery WHERE delivery.status IN ('queued', 'leased')
) AS queue
"""


async def find_sessions(
    connection: Connection, tables: EventTables, search: SessionSearch, limit: int, page: str | None
) -> SessionPage:
    """Return a part of the sessions that a search finds, the one with the latest event first."""
    texts = {name: getattr(search, name) for name in ("vendor_data", "end_user_id")}
    values: dict[str, object] = {
        **{name: None if text is None else tables.codec.find_keys(name, text) for name, text in texts.items()},
        "session_id": None if search.session_id is None else digest_of(search.session_id),
        "status": search.status and clean_text(search.status.value),
        "delivery": search.delivery and search.delivery.value,
        "since": search.since,
        "until": search.until,
    }
    conditions: list[LiteralString] = [IS_VISIBLE]
    conditions.extend(_CONDITIONS[name] for name, value in values.items() if value is not None)
    if page is not None:
        conditions.append("(session.touched, session.number) < (%(touched)s, %(number)s)")
        values["touched"], values["number"] = _load_page(page)
    statement = _FIND.format(conditions=" AND ".join(conditions))
    await execute(connection, _WITHOUT_JIT)
    rows = await fetch_all(connection, statement, tables.parameters(**values, limit=limit + 1))
    if search.vendor_data is not None or search.end_user_id is not None:
        await _check_secrets(connection, tables)
    sessions = tuple(
        SessionSummary(
            session_id=decode(session) or None,
            status=None if status is None else Status(status),
            events=events,
            queued=queued,
            dead=dead,
            recorded_at=touched,
        )
        for session, status, events, touched, _, queued, dead in rows[:limit]
    )
    next_page = json.dumps([rows[limit - 1][3], rows[limit - 1][4]]) if len(rows) > limit else None
    return SessionPage(sessions=sessions, next_page=next_page)


async def _check_secrets(connection: Connection, tables: EventTables) -> None:
    """Check that the keys of all sessions were made with secrets that this process has.

    It comes after a search, since another process may have written sessions again in the meantime.

    Raises:
        InboxError: A search for a value would be incomplete.
    """
    lows, highs = zip(*tables.codec.other_secret_ranges(), strict=True)
    values = {"lows": list(lows), "highs": list(highs)}
    if await fetch_one(connection, _HAS_OTHER_SECRETS, values) != (False,):
        raise tables.codec.incomplete_search_error()


async def count_rows(connection: Connection, tables: EventTables) -> InboxStatistics:
    """Return how much is stored and how much waits."""
    await execute(connection, _WITHOUT_JIT)
    row = await fetch_one(connection, _COUNT, tables.parameters())
    sessions, events, queued, leased, dead, queued_age, session_age, size = row or (0, 0, 0, 0, 0, None, None, None)
    return InboxStatistics(
        sessions=sessions,
        events=events,
        queued=queued,
        leased=leased,
        dead=dead,
        oldest_queued_age=None if queued_age is None else max(0.0, queued_age),
        oldest_session_age=None if session_age is None else max(0.0, session_age),
        bytes=size,
    )


def _load_page(page: str) -> tuple[float, int]:
    """Return the position of a page.

    Raises:
        InvalidArgumentError: It is not from this inbox.
    """
    with suppress(ValueError, TypeError, RecursionError):
        touched, number = cast("list[object]", json.loads(page))
        if isinstance(touched, float) and isinstance(number, int) and abs(number) < _LARGEST_ID:
            return touched, number
    raise unknown_page_error()
