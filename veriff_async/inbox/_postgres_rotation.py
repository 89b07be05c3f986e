"""Writes again what `PostgresInbox` has encrypted with an earlier key, or not at all.

Each part is a small transaction, and locks its sessions as a record does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from veriff_async._storage.postgres import execute, fetch_all
from veriff_async.inbox._postgres_events import lock_sessions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from veriff_async._storage.postgres import Connection
    from veriff_async.inbox._postgres_codec import PostgresCodec

__all__ = ("renew_events", "renew_sessions")

_PART: Final = 100

_FIND_EVENTS: Final = """
SELECT event.number, session.digest FROM veriff_inbox_event AS event
JOIN veriff_inbox_session AS session ON session.number = event.session
WHERE event.number > %(last)s ORDER BY event.number LIMIT %(limit)s
"""

_READ_EVENTS: Final = """
SELECT event.number, event.kind, event.body, session.id, session.number FROM veriff_inbox_event AS event
JOIN veriff_inbox_session AS session ON session.number = event.session
WHERE event.number = ANY (%(numbers)s::bigint[])
"""

_WRITE_EVENTS: Final = """
UPDATE veriff_inbox_event AS event SET body = renewed.body
FROM unnest(%(numbers)s::bigint[], %(bodies)s::bytea[]) AS renewed (number, body)
WHERE event.number = renewed.number
"""

_DELETE_KEYS: Final = """
DELETE FROM veriff_inbox_search_key AS search_key
USING unnest(%(fields)s::text[], %(keys)s::bytea[], %(sessions)s::bigint[]) AS old (field, key, session)
WHERE search_key.field = old.field AND search_key.key = old.key AND search_key.session = old.session
"""

_INSERT_KEYS: Final = """
INSERT INTO veriff_inbox_search_key (field, key, session)
SELECT field, key, session
FROM unnest(%(fields)s::text[], %(keys)s::bytea[], %(sessions)s::bigint[]) AS new (field, key, session)
ON CONFLICT DO NOTHING
"""

_FIND_SESSIONS: Final = """
SELECT number, digest FROM veriff_inbox_session WHERE number > %(last)s ORDER BY number LIMIT %(limit)s
"""

_READ_SESSIONS: Final = """
SELECT number, id, state, submission FROM veriff_inbox_session WHERE number = ANY (%(numbers)s::bigint[])
"""

_WRITE_SESSIONS: Final = """
UPDATE veriff_inbox_session AS session
SET state = coalesce(renewed.state, session.state), submission = coalesce(renewed.submission, session.submission)
FROM unnest(%(numbers)s::bigint[], %(states)s::bytea[], %(submissions)s::bytea[])
    AS renewed (number, state, submission)
WHERE session.number = renewed.number
"""


_FIND_OTHER_SECRETS: Final = """
SELECT DISTINCT session FROM veriff_inbox_search_key
WHERE field = 'secret' AND key IS DISTINCT FROM %(key)s::bytea AND session = ANY (%(sessions)s::bigint[])
"""

# The first bytes of a body show with which key it is encrypted.
_READ_BEGINNINGS: Final = """
SELECT session, substring(body FOR 16) FROM veriff_inbox_event WHERE session = ANY (%(sessions)s::bigint[])
"""

_DELETE_OTHER_SECRETS: Final = """
DELETE FROM veriff_inbox_search_key
WHERE field = 'secret' AND key IS DISTINCT FROM %(key)s::bytea AND session = ANY (%(sessions)s::bigint[])
"""


async def renew_events(connection: Connection, codec: PostgresCodec, last: int) -> tuple[int, int | None]:
    """Write some events again that are not stored as they would be stored now, with their search keys.

    Args:
        connection: In a transaction.
        codec: Encrypts and decrypts.
        last: The last number of the part before.

    Returns:
        How many were written, and the last number, or ``None`` after the last part.
    """
    numbers, end = await _lock_part(connection, _FIND_EVENTS, last)
    rows = await fetch_all(connection, _READ_EVENTS, {"numbers": numbers})
    renewed: list[tuple[int, bytes]] = []
    old: list[tuple[str, bytes, int]] = []
    new: list[tuple[str, bytes, int]] = []
    for number, kind, stored, session_id, session in rows:
        body = codec.renew("event", stored, session_id)
        if body is None:
            continue
        renewed.append((number, body))
        event = codec.load_event(kind, body, session_id)
        old += [(field, key, session) for field, key in codec.old_search_keys(event)]
        new += [(field, key, session) for field, key in codec.new_search_keys(event)]
    if renewed:
        values = {"numbers": [number for number, _ in renewed], "bodies": [body for _, body in renewed]}
        await execute(connection, _WRITE_EVENTS, values)
        await execute(connection, _DELETE_KEYS, _columns_of(old))
        await execute(connection, _INSERT_KEYS, _columns_of(new))
    return len(renewed), end


async def renew_sessions(connection: Connection, codec: PostgresCodec, last: int) -> tuple[int, int | None]:
    """Write the states and submissions of some sessions again, after their events; see `renew_events`."""
    numbers, end = await _lock_part(connection, _FIND_SESSIONS, last)
    rows = await fetch_all(connection, _READ_SESSIONS, {"numbers": numbers})
    renewed: list[tuple[int, bytes | None, bytes | None]] = []
    for number, session_id, stored, submitted in rows:
        state, submission = codec.renew("state", stored, session_id), codec.renew("submission", submitted, session_id)
        if state is not None or submission is not None:
            renewed.append((number, state, submission))
    if renewed:
        written, states, submissions = map(list, zip(*renewed, strict=True))
        await execute(connection, _WRITE_SESSIONS, {"numbers": written, "states": states, "submissions": submissions})
    await _delete_other_secrets(connection, codec, numbers)
    return sum((state is not None) + (submission is not None) for _, state, submission in renewed), end


async def _delete_other_secrets(connection: Connection, codec: PostgresCodec, sessions: Sequence[int]) -> None:
    """Delete the search keys of secrets other than the first, if all events of a session were written again."""
    values = {"key": codec.secret_key(), "sessions": sessions}
    found = [session for (session,) in await fetch_all(connection, _FIND_OTHER_SECRETS, values)]
    if not found:
        return
    # A process whose first key is another one may have recorded an event since the events were written again.
    beginnings = await fetch_all(connection, _READ_BEGINNINGS, {"sessions": found})
    old = {session for session, beginning in beginnings if not codec.is_current(beginning)}
    done = [session for session in found if session not in old]
    await execute(connection, _DELETE_OTHER_SECRETS, {**values, "sessions": done})


def _columns_of(keys: Sequence[tuple[str, bytes, int]]) -> dict[str, object]:
    return {
        "fields": [field for field, _, _ in keys],
        "keys": [key for _, key, _ in keys],
        "sessions": [session for _, _, session in keys],
    }


async def _lock_part(connection: Connection, statement: str, last: int) -> tuple[list[int], int | None]:
    """Lock the sessions of the next rows; return the numbers of the rows, and the last one unless it is the end."""
    rows = await fetch_all(connection, statement.encode(), {"last": last, "limit": _PART})
    await lock_sessions(connection, {digest for _, digest in rows})
    return [number for number, _ in rows], rows[-1][0] if len(rows) == _PART else None
