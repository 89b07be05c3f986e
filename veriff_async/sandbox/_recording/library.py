"""Which recording serves a request, and which webhooks are due. Pure.

Order
    A recording of a request that changes something serves once; several of the same request serve in the recorded
    order. A read (GET) may be repeated, because programs poll as often as they like. It gets the recordings that came
    after the last change or webhook of its session that was replayed, one after the other, and then the last one again.

Webhooks
    A webhook is due when all requests that changed its session before it have been replayed, and all earlier webhooks
    of the session were sent.

Recordings that the client ended itself have no response. They serve when no other recording matches.
"""

from __future__ import annotations

from collections import ChainMap, defaultdict, deque
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Final

from attrs import define, field

from veriff_async.models.json import EMPTY, as_object
from veriff_async.sandbox._recording.allow_list import path_words
from veriff_async.sandbox._recording.unification import PATH_DIFFERS, compare, split_path, values_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from veriff_async.sandbox._recording.cassette import Cassette, Entry
    from veriff_async.sandbox._recording.unification import Bindings, Comparison, Request, Value

__all__ = ("Library", "Mismatch", "shown_path")

_READS: Final = frozenset({"GET", "HEAD"})
# Between two paths that are about as similar, the one with the same method is the nearer.
_METHOD_BONUS: Final = 0.25
# Recordings that are compared before the best one is taken.
_ENOUGH: Final = 100
_GAVE_UP: Final = frozenset({"client", "recorder"})


@define
class Mismatch:
    """Why no recording serves a request."""

    message: str
    nearest: Entry | None = None
    difference: str = ""


@define(eq=False)
class _Recording:
    """An exchange or webhook, and whether it was replayed."""

    entry: Entry
    session: _Session
    is_used: bool = False

    @property
    def is_read(self) -> bool:
        return self.entry.request.method in _READS

    @property
    def is_optional(self) -> bool:
        return self.entry.ending in _GAVE_UP


@define(eq=False)
class _Session:
    """The recordings of one session, and what was replayed of it."""

    # Exchanges that change something, and webhooks, in the order in which they began.
    changes: list[_Recording] = field(factory=list["_Recording"])
    webhooks: deque[_Recording] = field(factory=deque["_Recording"])
    bindings: Bindings = field(factory=dict["Value", "Value"])
    # Number of the last change or webhook that was replayed.
    position: int = -1
    # All changes before this index were replayed.
    replayed: int = 0
    # When the last webhook was recorded to have ended.
    webhook_end: float = 0.0
    has_exchanges: bool = False

    def take_webhook(self, changes: _Session) -> tuple[Entry, float] | None:
        """Return the next webhook if it is due, and the recorded seconds since the moment at which it became due.

        Args:
            changes: The session whose changes come before: this one, or all, if none is known for this one.
        """
        while changes.replayed < len(changes.changes) and changes.changes[changes.replayed].is_used:
            changes.replayed += 1
        if not self.webhooks:
            return None
        entry = self.webhooks[0].entry
        rest = changes.changes[changes.replayed :][:1]
        if rest and rest[0].entry.number < entry.number:
            return None
        self.webhooks.popleft().is_used = True
        before = (each.entry for each in changes.changes if each.entry.number < entry.number)
        ready_at = max([self.webhook_end, *(each.at + each.seconds for each in before)])
        self.webhook_end = entry.at + entry.seconds
        return entry, max(0.0, entry.at - ready_at)


class Library:
    """The recordings of a cassette, and what was replayed of them."""

    def __init__(self, cassette: Cassette) -> None:
        """Prepare the recordings."""
        self._chosen = _chosen_by_veriff(cassette.entries)
        self._recordings: dict[int, _Recording] = {}
        # Most ids in paths are Veriff's, so the whole path finds the few recordings that may match. For other ids the
        # form of the path does.
        self._by_path: defaultdict[tuple[str, str], list[_Recording]] = defaultdict(list)
        self._by_form: defaultdict[tuple[str, str], list[_Recording]] = defaultdict(list)
        self._sessions: defaultdict[str | None, _Session] = defaultdict(_Session)
        # Of all sessions, for webhooks and requests that belong to none.
        self._all = _Session()
        finder = _SessionFinder(cassette.entries)
        for entry in cassette.entries:
            self._add(entry, self._sessions[finder.find(entry)])
        # Sessions whose next webhook may have become due.
        self._changed = {session for session in self._sessions.values() if session.webhooks}

    def _add(self, entry: Entry, session: _Session) -> None:
        recording = self._recordings[entry.number] = _Recording(entry, session)
        if entry.kind == "webhook":
            session.webhooks.append(recording)
            return
        session.has_exchanges = True
        request = entry.request
        self._by_path[request.method, request.path.lower().rstrip("/")].append(recording)
        self._by_form[request.method, shown_path(request.path)].append(recording)
        if not recording.is_read and not recording.is_optional:
            session.changes.append(recording)
            self._all.changes.append(recording)

    def find(self, request: Request, *, is_refused: bool = False) -> Entry | Mismatch:
        """Return the recording that serves a request, and mark it as replayed.

        Args:
            request: The request.
            is_refused: Whether its signature is wrong; only a recorded refusal serves it then.
        """
        matches: list[tuple[_Recording, Comparison]] = []
        differences: list[tuple[_Recording, Comparison]] = []
        for each in self._candidates(request):
            if is_refused and _status(each.entry) != 401:  # noqa: PLR2004  Unauthorized
                continue
            found = compare(each.entry.request, request, self.bindings(each.entry), self._chosen)
            (differences if found.difference else matches).append((each, found))
            # A cassette of thousands of sessions: the first ones are as good as the others.
            if len(matches) >= _ENOUGH and not each.is_read:
                break
        choice = self._choose(matches)
        if choice is None:
            return self._explain(request, matches, differences)
        recording, comparison = choice
        self._use(recording, comparison)
        return recording.entry

    def _candidates(self, request: Request) -> list[_Recording]:
        path = self._by_path.get((request.method, request.path.lower().rstrip("/")))
        found = path or self._by_form.get((request.method, shown_path(request.path)), [])
        # Those that were replayed already only explain why none is left, or serve a read once more.
        unused = [each for each in found if not each.is_used]
        return found if request.method in _READS or not unused else unused

    def _use(self, recording: _Recording, comparison: Comparison) -> None:
        recording.is_used = True
        session = recording.session
        session.bindings |= comparison.bindings
        self._all.bindings |= comparison.bindings
        if not recording.is_read:
            session.position = max(session.position, recording.entry.number)
            self._changed.add(session)

    def bindings(self, entry: Entry) -> Mapping[Value, Value]:
        """Return the values that fakes stand for, for the session of an entry."""
        own = self._recordings[entry.number].session.bindings
        return ChainMap(own, self._all.bindings)

    def take_webhooks(self) -> list[tuple[Entry, float]]:
        """Return the webhooks that have become due, each with the recorded seconds since that moment.

        The next webhook of a session is due after `finish_webhook` of this one.
        """
        due: list[tuple[Entry, float]] = []
        waiting = {session for session in self._changed if session.webhooks}
        self._changed = {session for session in waiting if not session.has_exchanges}
        for session in sorted(waiting, key=lambda each: each.webhooks[0].entry.number):
            found = session.take_webhook(session if session.has_exchanges else self._all)
            if found is not None:
                self._changed.discard(session)
                due.append(found)
        return due

    def finish_webhook(self, entry: Entry) -> None:
        """Note that a webhook was sent: reads get what came after it."""
        session = self._recordings[entry.number].session
        session.position = max(session.position, entry.number)
        self._changed.add(session)

    @property
    def unused(self) -> tuple[Entry, ...]:
        """The recordings that were not replayed. A read counts as replayed with any recording of the same request."""
        read = {each.entry.request.path for each in self._recordings.values() if each.is_read and each.is_used}
        return tuple(
            each.entry
            for each in self._recordings.values()
            if not each.is_used and not each.is_optional and not (each.is_read and each.entry.request.path in read)
        )

    def _choose(self, matches: Sequence[tuple[_Recording, Comparison]]) -> tuple[_Recording, Comparison] | None:
        unused = [match for match in matches if not match[0].is_used and not match[0].is_optional]
        if matches and matches[0][0].is_read:
            # In the recorded order: the bindings of a read are those of its path, and thus the same for all.
            later = [match for match in unused if match[0].entry.number > match[0].session.position]
            served = [match for match in matches if not match[0].is_optional]
            return later[0] if later else served[-1] if served else matches[0]
        if unused:
            return min(unused, key=lambda match: (match[1].conflicts, -match[1].equal, match[0].entry.number))
        return next((match for match in matches if match[0].is_optional and not match[0].is_used), None)

    def _explain(
        self,
        request: Request,
        matches: Sequence[tuple[_Recording, Comparison]],
        differences: Sequence[tuple[_Recording, Comparison]],
    ) -> Mismatch:
        called = f"{request.method} {shown_path(request.path)}"
        if matches:
            count = len(matches)
            times = "once" if count == 1 else f"{count} times"
            message = f"{called} is recorded {times}, and was replayed as often: record the program again."
            return Mismatch(message, matches[-1][0].entry, "was replayed already")
        if differences:
            nearest, found = max(differences, key=lambda each: (each[1].difference != PATH_DIFFERS, each[1].equal))
            difference = found.difference
        else:
            form = _nearest_form(request, self._by_form)
            if form is None:
                return Mismatch(
                    f"{called} is not recorded, and the cassette has no requests: record the program again."
                )
            nearest, difference = (
                self._by_form[form][0],
                PATH_DIFFERS if form[0] == request.method else "the method differs",
            )
        line, recorded = nearest.entry.line, nearest.entry.request
        message = (
            f"{called} is not recorded. Line {line} of the cassette is the nearest, {recorded.method} "
            f"{shown_path(recorded.path)}, but {difference}: record the program again, or correct that line."
        )
        return Mismatch(message, nearest.entry, difference)


def _nearest_form(request: Request, forms: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    """Return the method and form of the path that are most similar to a request."""
    path = shown_path(request.path)
    return max(
        forms,
        key=lambda form: SequenceMatcher(None, form[1], path).ratio() + (form[0] == request.method) * _METHOD_BONUS,
        default=None,
    )


class _SessionFinder:
    """Finds the session that an entry belongs to, by ids that earlier bodies connect with it."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._session_of: dict[str, str] = {}
        for entry in entries:
            session = self.find(entry)
            if session is not None and entry.response is not None:
                for value in values_in(entry.response.content):
                    if isinstance(value, str) and value:
                        self._session_of.setdefault(value, session)

    def find(self, entry: Entry) -> str | None:
        parts = split_path(entry.request.path)[0]
        words = path_words()
        for part in parts:
            if part and part not in words:
                return self._session_of.get(part, part)
        message = entry.request if entry.kind == "webhook" else entry.response
        return None if message is None else _session_in(message.content)


def _session_in(content: object) -> str | None:
    body = as_object(content) or EMPTY
    verification = as_object(body.get("verification")) or EMPTY
    candidates = (verification.get("id"), body.get("sessionId"), body.get("id"))
    return next((value for value in candidates if isinstance(value, str)), None)


def _chosen_by_veriff(entries: Iterable[Entry]) -> frozenset[Value]:
    """Return the values that a response or webhook contained before any request did."""
    sent: set[Value] = set()
    received: set[Value] = set()
    for entry in entries:
        from_veriff = [entry.request] if entry.kind == "webhook" else [entry.response]
        if entry.kind == "exchange":
            parts, query = split_path(entry.request.path)
            values = {*parts, *(value for _, value in query), *values_in(entry.request.content)}
            sent |= values - received
        for message in from_veriff:
            if message is not None:
                received |= set(values_in(message.content)) - sent
    return frozenset(received)


def shown_path(path: str) -> str:
    """Return a path for messages: its ids may be anything, and are left out."""
    return "/".join(part if not part or part in path_words() else "..." for part in split_path(path)[0])


def _status(entry: Entry) -> int | None:
    return None if entry.response is None else entry.response.status
