"""The sessions of a sandbox, with transactions and an index.

Sessions are changed in place inside of `transaction`, which restores them after an error. It copies a session when it
is first looked up, so a transaction costs nothing for the sessions that it does not touch.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left, insort
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Final, TypeAlias

from attrs import frozen

from veriff_async.models.json import EMPTY, as_object
from veriff_async.sandbox import _validation
from veriff_async.sandbox._arguments import check_text
from veriff_async.sandbox._errors import HTTPError, UnknownRecordError
from veriff_async.sandbox._records import SessionPage, view

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from datetime import datetime

    from veriff_async.models.enums import Status
    from veriff_async.sandbox._records import AttemptRecord, Session, SessionView, StoredMedia


__all__ = (
    "IdPage",
    "SessionChange",
    "SessionIndex",
    "SessionStore",
)

SessionChange: TypeAlias = "tuple[Session | None, Session]"
"""A copy of a session from before a transaction, or ``None`` for one that it has created, and the session itself."""


class SessionStore:
    """All sessions of one integration, oldest first.

    Attributes:
        deletions: Times of the last deletions, which Veriff limits; a transaction restores them, too.
    """

    def __init__(self) -> None:
        """Start without sessions."""
        self.deletions: tuple[datetime, ...] = ()
        self._sessions: dict[str, Session] = {}
        self._index = SessionIndex()
        # Copies of the sessions that the open transaction has looked up, to restore them; None for one that it created.
        self._before: dict[str, Session | None] | None = None

    def __iter__(self) -> Iterator[Session]:
        """Iterate over the sessions; they must not be changed."""
        return iter(self._sessions.values())

    def __len__(self) -> int:
        """Return the number of sessions."""
        return len(self._sessions)

    @contextmanager
    def transaction(self, changes: list[SessionChange] | None = None) -> Generator[None]:
        """Keep all changes made in the block, or none if it raises."""
        deletions, self._before = self.deletions, {}
        try:
            yield
        except BaseException:
            self.deletions = deletions
            for session_id, session in self._before.items():
                if session is None:
                    del self._sessions[session_id]
                else:
                    self._sessions[session_id] = session
            raise
        else:
            for session_id, before in self._before.items():
                session = self._sessions[session_id]
                self._index.update(session)
                if changes is not None:
                    changes.append((before, session))
        finally:
            self._before = None

    def restore(self, sessions: Iterable[Session], deletions: tuple[datetime, ...]) -> None:
        """Replace all sessions, oldest first."""
        self.deletions = deletions
        self._sessions = {session.id: session for session in sessions}
        self._index = SessionIndex()
        for session in self._sessions.values():
            self._index.update(session)

    def copy(self, session_id: str) -> Session | None:
        """Return a copy of a session; ``None`` if it does not exist."""
        session = self._sessions.get(session_id)
        return None if session is None else session.copy()

    def add(self, session: Session) -> None:
        """Add a new session."""
        self._sessions[session.id] = session
        if self._before is not None:
            self._before[session.id] = None

    def find(self, session_id: str) -> Session:
        """Return the session that a request names (codes 1001, 1002)."""
        _validation.check_id(session_id)
        # UUIDs are case-insensitive, and the sandbox creates them in lower case.
        return self._require(session_id.lower(), "Session not found")

    def find_attempt(self, attempt_id: str) -> tuple[Session, AttemptRecord]:
        """Return the attempt that a request names, with its session."""
        _validation.check_id(attempt_id)
        attempt_id = attempt_id.lower()
        session = self._require(self._index.owner_of_attempt(attempt_id), "Attempt not found")
        return session, next(attempt for attempt in session.attempts if attempt.id == attempt_id)

    def find_media(self, media_id: str) -> StoredMedia:
        """Return the file that a request names."""
        _validation.check_id(media_id)
        media_id = media_id.lower()
        session = self._require(self._index.owner_of_media(media_id), "Media not found")
        return next(media for media in session.all_media if media.id == media_id)

    def find_by_address(self, address_id: str) -> Session:
        """Return the session of the proof of address that a request names."""
        return self._require(self._index.owner_of_address(address_id), "Address not found")

    def get(self, session_id: str) -> Session:
        """Return the session that a test names, deleted or not."""
        session = self._look_up(check_text("session_id", session_id))
        if session is None:
            msg = "The sandbox has no such session: pass the id of a session that it created."
            raise UnknownRecordError(msg)
        return session

    def owner_of(self, id_: str) -> str | None:
        """Return the id of the session that an id names, or one of its attempts, files and addresses."""
        id_ = id_.lower()
        index = self._index
        if id_ in self._sessions:
            return id_
        return index.owner_of_attempt(id_) or index.owner_of_media(id_) or index.owner_of_address(id_)

    def page(self, *, status: Status | None, search: str, after: str | None, limit: int) -> SessionPage:
        """Return one page of sessions; see `SessionIndex.page`."""
        if after is not None and after not in self._sessions:
            msg = "after is not the id of a session of the sandbox: pass the `next` of a page, or None for the first."
            raise UnknownRecordError(msg)
        page = self._index.page(status=status, search=search, after=after, limit=limit)
        views = tuple(view(self._sessions[session_id]) for session_id in page.ids)
        return SessionPage(sessions=views, next=page.next, total=page.total)

    def counts(self, statuses: tuple[Status, ...]) -> dict[Status, int]:
        """Return the number of sessions in each status."""
        return {status: self._index.count(status) for status in statuses}

    def views(self) -> tuple[SessionView, ...]:
        """Return views of all sessions."""
        return tuple(view(session) for session in self)

    def clear(self) -> None:
        """Remove all sessions, outside of a transaction."""
        self.deletions = ()
        self._sessions.clear()
        self._index = SessionIndex()

    def forget_media(self, file_exists: Callable[[StoredMedia], bool]) -> None:
        """Remove media whose files are gone, so that no file is listed that cannot be downloaded."""
        with self.transaction():
            for session_id in self._sessions:
                session = self.get(session_id)
                for attempt in session.attempts:
                    attempt.media = [media for media in attempt.media if file_exists(media)]
                session.certificates = [
                    issued
                    for issued in session.certificates
                    if all(file_exists(media) for media in issued.documents.values())
                ]

    def _require(self, session_id: str | None, message: str) -> Session:
        session = None if session_id is None else self._look_up(session_id)
        if session is None or session.deleted:
            raise HTTPError(404, None, message)
        return session

    def _look_up(self, session_id: str) -> Session | None:
        """Return a session, and copy it first if a transaction may change it."""
        session = self._sessions.get(session_id)
        if session is not None and self._before is not None and session_id not in self._before:
            self._before[session_id] = session.copy()
        return session


_NAMES: Final = ("firstName", "lastName", "fullName")
_ID_CHARACTERS: Final = frozenset("0123456789abcdef-")


@frozen
class IdPage:
    """Ids of one page of sessions.

    Attributes:
        ids: The ids, newest first.
        next: The id after which the next page starts; ``None`` at the end.
        total: Number of sessions on all pages.
    """

    ids: tuple[str, ...]
    next: str | None
    total: int


@frozen
class _Keys:
    """The values of a session by which it can be found."""

    status: Status
    text: str
    attempts: tuple[str, ...]
    media: tuple[str, ...]
    address: str | None


class SessionIndex:
    """The sessions by status, text, and the ids of their parts."""

    def __init__(self) -> None:
        """Start empty."""
        self._keys: dict[str, _Keys] = {}
        # The position of a session in the order of creation, and by position: its id, and the texts for searches.
        self._position: dict[str, int] = {}
        self._ids: list[str] = []
        self._texts: list[str] = []
        self._id_texts: list[str] = []
        # Sorted positions.
        self._by_status: dict[Status, list[int]] = {}
        self._by_attempt: dict[str, str] = {}
        self._by_media: dict[str, str] = {}
        self._by_address: dict[str, str] = {}

    def update(self, session: Session) -> None:
        """Add a session, or replace the keys that it had before."""
        keys, old = _keys_of(session), self._keys.get(session.id)
        if keys == old:
            return
        position = self._position.setdefault(session.id, len(self._ids))
        if old is None:
            self._ids.append(session.id)
            self._texts.append("")
            self._id_texts.append("")
        else:
            self._remove_keys(old, position)
        self._keys[session.id] = keys
        self._texts[position] = keys.text
        self._id_texts[position] = "\n".join(("", session.id, *keys.attempts))
        insort(self._by_status.setdefault(keys.status, []), position)
        self._by_attempt.update(dict.fromkeys(keys.attempts, session.id))
        self._by_media.update(dict.fromkeys(keys.media, session.id))
        if keys.address is not None:
            self._by_address[keys.address] = session.id

    def owner_of_attempt(self, attempt_id: str) -> str | None:
        """Return the id of the session that has an attempt."""
        return self._by_attempt.get(attempt_id)

    def owner_of_media(self, media_id: str) -> str | None:
        """Return the id of the session that has a file."""
        return self._by_media.get(media_id)

    def owner_of_address(self, address_id: str) -> str | None:
        """Return the id of the session that has a proof of address."""
        return self._by_address.get(address_id)

    def count(self, status: Status) -> int:
        """Return the number of sessions in a status."""
        return len(self._by_status.get(status, ()))

    def page(self, *, status: Status | None, search: str, after: str | None, limit: int) -> IdPage:
        """Return one page, newest first.

        Args:
            status: Only sessions in this status.
            search: Only sessions that have each of these words in a name, in the vendor data or in the id of the
                end-user, or whose own id, or that of an attempt, begins with it.
            after: The last session of the page before; it must be in the index.
            limit: Most sessions on the page.
        """
        matches: Sequence[int] = range(len(self._ids)) if status is None else self._by_status.get(status, [])
        for word in _fold(search).split():
            matches = self._search(matches, word)
        # Found by the position of `after` rather than by `after` itself, which may have left the status since.
        end = len(matches) if after is None else bisect_left(matches, self._position[after])
        start = max(0, end - limit)
        ids = tuple(self._ids[position] for position in reversed(matches[start:end]))
        return IdPage(ids, ids[-1] if start > 0 else None, len(matches))

    def _search(self, positions: Sequence[int], word: str) -> list[int]:
        texts, id_texts = self._texts, self._id_texts
        if not _ID_CHARACTERS.issuperset(word):
            return [position for position in positions if word in texts[position]]
        # Ids match from their start only: names such as Ada consist of digits that ids contain by chance.
        start = "\n" + word
        return [position for position in positions if word in texts[position] or start in id_texts[position]]

    def _remove_keys(self, keys: _Keys, position: int) -> None:
        positions = self._by_status[keys.status]
        del positions[bisect_left(positions, position)]
        for index, ids in ((self._by_attempt, keys.attempts), (self._by_media, keys.media)):
            for id_ in ids:
                del index[id_]
        if keys.address is not None:
            del self._by_address[keys.address]


def _keys_of(session: Session) -> _Keys:
    decided = session.decision or session.full_auto or EMPTY
    verification = as_object(decided.get("verification")) or decided
    people = (session.person, as_object(verification.get("person")) or EMPTY)
    names = (person.get(name) for person in people for name in _NAMES)
    texts = chain(names, (session.vendor_data, session.end_user_id))
    return _Keys(
        status=session.status,
        # Joined by a character that no word contains, so that no word matches across two texts.
        text=_fold("\n".join(dict.fromkeys(text for text in texts if isinstance(text, str)))),
        attempts=tuple(attempt.id for attempt in session.attempts),
        media=tuple(media.id for media in session.all_media),
        address=session.address_id,
    )


def _fold(text: str) -> str:
    """Return a text without differences of case and of Unicode's forms."""
    return unicodedata.normalize("NFKC", text).casefold()
