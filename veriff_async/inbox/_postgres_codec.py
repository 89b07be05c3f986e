"""How `PostgresInbox` writes events, states and submissions, encrypted if it has a ring, and their search keys."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING

from attrs import evolve

from veriff_async._protocol.search_keys import (
    ERASED,
    SECRET,
    event_search_keys,
    other_secret_ranges,
    search_key,
    secret_key,
)
from veriff_async._protocol.session_state import dump_state, load_state
from veriff_async._protocol.webhook import load_event
from veriff_async.errors import DecodeError, InboxError

if TYPE_CHECKING:
    from veriff_async._storage.encrypted_text import TextCodec
    from veriff_async.errors import VeriffError
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.state import SessionState

__all__ = ("PostgresCodec", "clean_text", "decode", "digest_of", "encode")


class PostgresCodec:
    """The texts of one inbox; methods take the ids of sessions as their column has them.

    Args:
        texts: Encrypts and decrypts them.
    """

    def __init__(self, texts: TextCodec) -> None:
        """Take what encrypts."""
        self._texts = texts
        self._secrets = texts.search_secrets

    def encode_body(self, body: bytes, session: bytes) -> bytes:
        """Return the body of an event as it is stored."""
        return self._texts.encode(body, "event", decode(session))

    def load_event(self, kind: str, body: bytes, session: bytes) -> WebhookEvent:
        """Return a stored event.

        Raises:
            InboxError: It cannot be read, its key is missing, or it was changed or moved.
        """
        text = self._texts.decode(body, "event", decode(session))
        with suppress(DecodeError):
            return load_event(kind, text)
        raise _unreadable()

    def encode_state(self, state: SessionState, session: bytes) -> bytes:
        """Return a state as it is stored."""
        return self._texts.encode(dump_state(state), "state", decode(session))

    def load_state(
        self, state: bytes, session: bytes, submission: bytes | None = None, recorded_at: float | None = None
    ) -> SessionState:
        """Return a stored state with the submission of its session.

        Raises:
            InboxError: It cannot be read, its key is missing, or it was changed or moved.
        """
        stored, text = self._texts.decode(state, "state", decode(session)), self.load_submission(submission, session)
        with suppress(DecodeError):
            return evolve(load_state(stored), submission=text, recorded_at=recorded_at)
        raise _unreadable()

    def encode_submission(self, submission: str, session: bytes) -> bytes:
        """Return the text of a submission as it is stored."""
        return self._texts.encode(encode(submission), "submission", decode(session))

    def load_submission(self, submission: bytes | None, session: bytes) -> str | None:
        """Return the text of a stored submission, if there is one.

        Raises:
            InboxError: Its key is missing, or it was changed or moved.
        """
        if submission is None:
            return None
        return decode(self._texts.decode(submission, "submission", decode(session)))

    def lacks_key(self, *stored: bytes | None) -> bool:
        """Return whether one of these texts can be read by another process only, which has its key."""
        return any(text is not None and self._texts.lacks_key(text) for text in stored)

    def renew(self, kind: str, stored: bytes | None, session: bytes) -> bytes | None:
        """Return an ``event``, ``state`` or ``submission`` as it is stored now, if that differs.

        Raises:
            InboxError: Its key is missing, or it was changed or moved.
        """
        if stored is None or self._texts.is_current(stored):
            return None
        place = (kind, decode(session))
        return self._texts.encode(self._texts.decode(stored, *place), *place)

    def new_search_keys(self, event: WebhookEvent) -> list[tuple[str, bytes]]:
        """Return the field and the key of each value by which the session of an event is found, and of the secret."""
        key = self.secret_key()
        return [*event_search_keys(event, secret=self._secrets[0]), *([] if key is None else [(SECRET, key)])]

    def old_search_keys(self, event: WebhookEvent) -> list[tuple[str, bytes]]:
        """Return the search keys that an event may have from other secrets than the first."""
        return [key for secret in self._secrets[1:] for key in event_search_keys(event, secret=secret)]

    def secret_key(self) -> bytes | None:
        """Return the search key of the secret for new ones."""
        return secret_key(self._secrets[0])

    def other_secret_ranges(self) -> list[tuple[bytes, bytes]]:
        """Return ranges, without their ends, that have the keys of all secrets that this process lacks."""
        return list(other_secret_ranges(self._secrets))

    def is_current(self, stored: bytes) -> bool:
        """Return whether a text, of which the first bytes suffice, is stored as it is now."""
        return self._texts.is_current(stored)

    def incomplete_search_error(self) -> VeriffError:
        """Return the error of a search that cannot find everything."""
        return self._texts.incomplete_search_error()

    def find_keys(self, field: str, value: str) -> list[bytes]:
        """Return the search keys that a value may have; the first one is for new ones."""
        return [search_key(field, value, secret=secret) for secret in self._secrets]

    def find_erased(self, session_id: str | None) -> list[bytes]:
        """Return the keys under which the inbox may remember that it has erased a session."""
        return self.find_keys(ERASED, session_id) if session_id else []


def digest_of(text: str) -> bytes:
    """Return the digest by which a session or an event is found."""
    return hashlib.sha256(encode(text)).digest()[:16]


def encode(text: str) -> bytes:
    """Return a text for a column of bytes."""
    return text.encode("utf-8", "surrogatepass")


def clean_text(text: str) -> str:
    """Return a text for a column of text, which holds neither NUL nor halves of surrogate pairs."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def decode(stored: bytes) -> str:
    """Return the text of a column of bytes."""
    try:
        return stored.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:  # another program has written it
        return stored.decode("utf-8", "backslashreplace")


def _unreadable() -> InboxError:
    return InboxError(
        "A stored session or event cannot be read: check whether another program has written to the inbox's tables,"
        " and for a newer veriff-async."
    )
