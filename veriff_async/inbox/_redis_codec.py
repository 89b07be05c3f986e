"""How `RedisInbox` writes events, states and submissions, encrypted if it has a ring of keys, and their search keys."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

from veriff_async._protocol.json.decode import decode_error
from veriff_async._protocol.search_keys import event_search_keys, other_secret_ranges, search_key, secret_key
from veriff_async._protocol.session_state import dump_state, load_state
from veriff_async._protocol.webhook import load_event
from veriff_async.inbox._redis_layout import SEARCH_KEY_SIZE, split_entry

if TYPE_CHECKING:
    from collections.abc import Collection

    from veriff_async._storage.encrypted_text import TextCodec
    from veriff_async.errors import VeriffError
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.state import SessionState

__all__ = ("STATUS_LETTER", "RedisCodec")

STATUS_LETTER: Final = b"s"

_SECRET_LETTER: Final = b"k"

_LETTERS: Final = {"vendor_data": b"v", "end_user_id": b"e", "status": STATUS_LETTER}

# Bodies are JSON objects or base64: scripts split an event at its newlines.
_BEGINNING_OF_JSON: Final = b"{"


class RedisCodec:
    """The texts of one inbox.

    Args:
        texts: Encrypts and decrypts them.
    """

    def __init__(self, texts: TextCodec) -> None:
        """Take what encrypts."""
        self._texts = texts

    def encode_body(self, body: bytes, session_id: str | None) -> bytes:
        """Return the body of an event as it is stored."""
        stored = self._texts.encode(body, "event", session_id or "")
        return stored if stored is body else base64.b64encode(stored)

    def decode_body(self, stored: bytes, session_id: str | None) -> bytes:
        """Return the body of a stored event.

        Raises:
            InboxError: Its key is missing, or it was changed or moved.
        """
        return self._texts.decode(_decode_base64(stored), "event", session_id or "")

    def load_entry(self, entry: bytes, session_id: str | None) -> WebhookEvent:
        """Decode a stored event.

        Raises:
            DecodeError: It is not an event.
            InboxError: Its key is missing, or it was changed or moved.
        """
        try:
            _, kind, body = split_entry(entry)
            name = kind.decode()
        except ValueError:
            problem = "expected an event @ $"
        else:
            return load_event(name, self.decode_body(body, session_id))
        raise decode_error(problem)

    def lacks_key(self, entry: bytes | None, *stored: bytes | None) -> bool:
        """Return whether an event, or another text, can be read by another process only, which has its key."""
        body = _decode_base64((entry or b"").rpartition(b"\n")[2])
        return any(text is not None and self._texts.lacks_key(text) for text in (body, *stored))

    def encode_state(self, state: SessionState) -> bytes:
        """Return a state as it is stored."""
        return self._texts.encode(dump_state(state), "state", state.session_id)

    def load_state(self, stored: bytes, session_id: str) -> SessionState:
        """Decode a stored state.

        Raises:
            DecodeError: It is not a state.
            InboxError: Its key is missing, or it was changed or moved.
        """
        return load_state(self._texts.decode(stored, "state", session_id))

    def encode_submission(self, text: str, session_id: str) -> bytes:
        """Return the text of a submission as it is stored."""
        return self._texts.encode(text.encode("utf-8", "surrogatepass"), "submission", session_id)

    def decode_submission(self, stored: bytes | None, session_id: str) -> str | None:
        """Return the stored text of a submission, if there is one.

        Raises:
            InboxError: Its key is missing, or it was changed or moved.
        """
        if stored is None:
            return None
        return str(self._texts.decode(stored, "submission", session_id), "utf-8", "surrogatepass")

    def search_entries(self, event: WebhookEvent) -> set[bytes]:
        """Return the search keys of an event and of the secret, each after a letter for its field."""
        secret = self._texts.search_secrets[0]
        return self._secret_entries() | {_LETTERS[name] + key for name, key in event_search_keys(event, secret=secret)}

    def has_other_secret(self, entries: Collection[bytes]) -> bool:
        """Return whether search keys have one of another secret than the first."""
        found = {entry for entry in entries if entry.startswith(_SECRET_LETTER)}
        return not found <= self._secret_entries()

    def _secret_entries(self) -> set[bytes]:
        key = secret_key(self._texts.search_secrets[0])
        return set() if key is None else {_SECRET_LETTER + key}

    def other_secret_ranges(self) -> list[tuple[bytes, bytes]]:
        """Return ranges, without their ends, of the index entries with all secrets that this process lacks."""
        ranges = other_secret_ranges(self._texts.search_secrets)
        # A session follows each search key, and no session begins with this byte.
        return [
            ((_SECRET_LETTER + low).ljust(SEARCH_KEY_SIZE, b"\0") + b"\xff", _SECRET_LETTER + high)
            for low, high in ranges
        ]

    def incomplete_search_error(self) -> VeriffError:
        """Return the error of a search that cannot find everything."""
        return self._texts.incomplete_search_error()

    def status_entry(self, state: SessionState) -> bytes:
        """Return the search key of a status."""
        return self.find_entries("status", state.status)[0]

    def find_entries(self, name: str, value: str) -> list[bytes]:
        """Return the search keys that sessions with a value may have; the first one is for new ones."""
        return [_LETTERS[name] + search_key(name, value, secret=secret) for secret in self._texts.search_secrets]

    def renew(self, field: str, stored: bytes, session_id: str | None) -> bytes | None:
        """Return the value of a field of a session as it is stored now, if that differs.

        Raises:
            InboxError: Its key is missing, or it was changed or moved.
        """
        if field.startswith("event:"):
            dedup_key, kind, body = split_entry(stored)
            if self._texts.is_current(_decode_base64(body)):
                return None
            return b"\n".join((dedup_key, kind, self.encode_body(self.decode_body(body, session_id), session_id)))
        if field not in {"state", "submission"} or session_id is None or self._texts.is_current(stored):
            return None
        return self._texts.encode(self._texts.decode(stored, field, session_id), field, session_id)


def _decode_base64(stored: bytes) -> bytes:
    if stored.startswith(_BEGINNING_OF_JSON):
        return stored
    try:
        return base64.b64decode(stored, validate=True)
    except ValueError:  # foreign data, which `load_event` refuses
        return stored
