"""The tables of an inbox in SQLite, and how texts are stored in them.

A session is a row with its state; its events are rows of another table. Each event has a number, and a session has the
number of the event that changed its state last, so "the sessions that changed after number N" is one query. Numbers are
taken inside write transactions, of which SQLite allows one at a time in all processes. So a reader that sees a number
sees every lower one too, and subscribers miss nothing.

Version 4 added deliveries, the keys by which sessions of a person are found, and erased sessions.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from math import isfinite
from typing import TYPE_CHECKING, Final

from veriff_async._protocol.session_state import load_state
from veriff_async._protocol.webhook import load_event
from veriff_async._storage.sqlite_file import Schema
from veriff_async._storage.sqlite_worker import StoreErrors
from veriff_async.encryption import is_encrypted
from veriff_async.errors import DecodeError, InboxError

if TYPE_CHECKING:
    from veriff_async._storage.encrypted_text import TextCodec
    from veriff_async.errors import VeriffError
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.state import SessionState

__all__ = ("BUSY_TIMEOUT", "CHANGE", "ERRORS", "SCHEMA", "RowCodec", "decode", "encode", "split_keys", "to_number")

BUSY_TIMEOUT: Final = 3.0
"""Seconds to wait for another process that writes; below the five in which Veriff wants an answer to a webhook."""

# Bytes of a key in the table `search`.
_KEY_SIZE: Final = 16

SCHEMA: Final = Schema(
    owner="inbox",
    application_id=0,
    version=4,
    upgrade="""
ALTER TABLE session ADD COLUMN queued INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN status TEXT;
ALTER TABLE session ADD COLUMN keys BLOB;
ALTER TABLE event ADD COLUMN recorded REAL;
ALTER TABLE event ADD COLUMN ignored TEXT;
DROP INDEX IF EXISTS session_touched;
CREATE TABLE unindexed ( -- events of earlier versions whose values are not in `search` yet
    id INTEGER PRIMARY KEY CHECK (id = 1),
    next INTEGER NOT NULL,
    last INTEGER NOT NULL
);
INSERT INTO unindexed (id, next, last) SELECT 1, min(number), max(number) FROM event HAVING count(*) > 0;
""",
    script="""
CREATE TABLE IF NOT EXISTS session (
    id BLOB NOT NULL UNIQUE, -- as UTF-8; empty for events of no session
    state BLOB, -- NULL before the first event with a state
    changed INTEGER NOT NULL, -- number of the event that changed the state last
    events INTEGER NOT NULL,
    touched REAL NOT NULL,
    queued INTEGER NOT NULL DEFAULT 0, -- its deliveries with a stage of 0, 1 or 2
    status TEXT, -- that of the state; also NULL if an earlier version wrote the state
    keys BLOB -- its keys in `search`, one after the other
);
CREATE INDEX IF NOT EXISTS session_changed ON session (changed);
CREATE INDEX IF NOT EXISTS session_age ON session (
    (queued > 0), touched,
    events, queued -- so that counting the events reads only this index
);
CREATE TABLE IF NOT EXISTS event (
    number INTEGER PRIMARY KEY AUTOINCREMENT, -- never used twice, so that subscribers miss nothing
    session BLOB NOT NULL,
    key BLOB NOT NULL,
    kind TEXT NOT NULL,
    body BLOB NOT NULL,
    recorded REAL, -- NULL if an earlier version wrote it
    ignored TEXT,
    UNIQUE (session, key)
);
CREATE INDEX IF NOT EXISTS event_order ON event (session, number);
CREATE TABLE IF NOT EXISTS delivery (
    number INTEGER PRIMARY KEY, -- that of the event
    session BLOB NOT NULL,
    position INTEGER NOT NULL, -- order of queueing
    stage INTEGER NOT NULL, -- see veriff_async/inbox/_sqlite_deliveries.py
    due REAL NOT NULL,
    earliest REAL NOT NULL, -- a clock that shows less was set back, so that the delivery is due
    attempts INTEGER NOT NULL DEFAULT 0,
    lease TEXT,
    handled_by TEXT, -- names as a JSON array
    error TEXT
);
CREATE INDEX IF NOT EXISTS delivery_queue ON delivery (session, position) WHERE stage <= 2;
CREATE INDEX IF NOT EXISTS delivery_ready ON delivery (position) WHERE stage = 0;
CREATE INDEX IF NOT EXISTS delivery_due ON delivery (due) WHERE stage = 1;
CREATE INDEX IF NOT EXISTS delivery_earliest ON delivery (earliest) WHERE stage = 1;
CREATE INDEX IF NOT EXISTS delivery_dead ON delivery (session, number) WHERE stage = 4;
CREATE TABLE IF NOT EXISTS search (
    key BLOB NOT NULL, -- see veriff_async/_protocol/search_keys.py
    session BLOB NOT NULL,
    PRIMARY KEY (key, session)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS erased (
    key BLOB PRIMARY KEY,
    until REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS erased_until ON erased (until);
CREATE TABLE IF NOT EXISTS clock (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    trusted REAL NOT NULL, -- see veriff_async/_protocol/inbox_clock.py
    suspect REAL
);
CREATE TABLE IF NOT EXISTS submission (
    session BLOB PRIMARY KEY, -- a session with a row of its own
    text BLOB NOT NULL
) WITHOUT ROWID;
""",
)

# For `remove_remains`: it changes something each time, which makes other connections read their pages again. The key is
# that of no session.
CHANGE: Final = "INSERT OR REPLACE INTO erased (key, until) VALUES (x'', -random())"

ERRORS: Final = StoreErrors(
    owner="inbox",
    error=InboxError,
    reopen="open it again with `async with`, or make another one",
    after_loss="find out what does that, and try again",
    after_failure="try again, a new thread is started",
    log=logging.getLogger("veriff_async.inbox"),
)


def encode(text: str) -> bytes:
    """Return a text for storing."""
    # JSON can hold half a surrogate pair, SQLite's texts cannot.
    return text.encode("utf-8", "surrogatepass")


def decode(stored: object) -> str:
    """Return a stored text."""
    if not isinstance(stored, bytes):  # SQLite lets other programs put any kind of value into a column
        return str(stored)
    try:
        return stored.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:  # another program has written it
        return stored.decode("utf-8", "backslashreplace")


def to_number(stored: object) -> float | None:
    """Return a stored number, or ``None`` if another program has stored something else."""
    return float(stored) if isinstance(stored, int | float) and isfinite(stored) else None


def split_keys(stored: object) -> list[bytes]:
    """Return the keys that the column ``keys`` of a session lists."""
    keys = stored if isinstance(stored, bytes) else b""
    return [keys[start : start + _KEY_SIZE] for start in range(0, len(keys), _KEY_SIZE)]


class RowCodec:
    """Encodes and decodes the texts in the rows of an inbox, which may be encrypted.

    Args:
        codec: The codec of the inbox.
    """

    def __init__(self, codec: TextCodec) -> None:
        """Take the codec."""
        self._codec = codec
        self.search_secrets = codec.search_secrets
        self._is_plain = len(self.search_secrets) == 1  # without a ring; nothing else is done for each text then

    def encode(self, kind: str, text: bytes, session: bytes) -> bytes:
        """Return a text as it is stored.

        Args:
            kind: ``event``, ``state`` or ``submission``.
            text: The text.
            session: The id of its session as it is stored.
        """
        return text if self._is_plain else self._codec.encode(text, kind, decode(session))

    def decode(self, kind: str, data: bytes, session: bytes) -> bytes:
        """Return a stored text; see `encode`.

        Raises:
            InboxError: It cannot be decrypted.
        """
        return self._codec.decode(data, kind, decode(session)) if is_encrypted(data) else data

    def incomplete_search_error(self) -> VeriffError:
        """Return the error of a search that cannot find everything; see `TextCodec.incomplete_search_error`."""
        return self._codec.incomplete_search_error()

    def lacks_key(self, data: object) -> bool:
        """Return whether a stored text is encrypted with a key that this process does not have."""
        return isinstance(data, bytes) and self._codec.lacks_key(data)

    def renew(self, kind: str, data: object, session: bytes) -> bytes | None:
        """Return a stored text as it would be stored now, or ``None`` if it is stored like that."""
        if not isinstance(data, bytes) or self._codec.is_current(data):
            return None
        return self.encode(kind, self.decode(kind, data, session), session)

    def load_submission(self, stored: object, session: bytes) -> str | None:
        """Return a stored submission, or ``None`` for a value of another kind."""
        return decode(self.decode("submission", stored, session)) if isinstance(stored, bytes) else None

    def load_state(self, text: object, session: bytes) -> SessionState:
        """Return a stored state.

        Raises:
            InboxError: It cannot be read.
        """
        # SQLite lets other programs put any kind of value into a column.
        with suppress(DecodeError):
            if isinstance(text, bytes):
                return load_state(self.decode("state", text, session))
        raise _unreadable()

    def load_event(self, kind: object, body: object, session: bytes) -> WebhookEvent:
        """Return a stored event.

        Raises:
            InboxError: It cannot be read.
        """
        with suppress(DecodeError):
            if isinstance(kind, str) and isinstance(body, bytes):
                return load_event(kind, self.decode("event", body, session))
        raise _unreadable()


def _unreadable() -> InboxError:
    return InboxError(
        "A stored session or event cannot be read: check whether another program has written to the inbox's file."
    )
