"""The entries of the timeline, and the one line of text that shows each.

An entry never contains a body, a secret, the query of a URL or a person's data, so a page, a log or a failed test can
show it.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from attrs import field, fields, frozen

from veriff_async.models.enums import OpenEnum, Status
from veriff_async.sandbox._signature_verdict import SignatureVerdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from veriff_async.models.json import JsonObject
    from veriff_async.sandbox._records import AttemptRecord, Session, WebhookKind

__all__ = (
    "EntryBuilder",
    "FaultEntry",
    "GapEntry",
    "RequestEntry",
    "SessionEntry",
    "SettingEntry",
    "TimelineEntry",
    "TimelineKind",
    "WebhookEntry",
    "describe_changes",
    "shorten_path",
)

_LONGEST_TEXT: Final = 200
_PLAIN_PATH: Final = re.compile(rf"[A-Za-z0-9._/*-]{{1,{_LONGEST_TEXT}}}", re.ASCII)
_PLAIN_SEGMENT: Final = re.compile(r"[A-Za-z0-9._*-]{0,64}", re.ASCII)


def _shorten(text: str) -> str:
    """Return a text that a user has chosen, such as the name of a profile, for one line of a terminal."""
    if text.isprintable() and len(text) <= _LONGEST_TEXT:
        return text
    cut = text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"
    return "".join(character if character.isprintable() else "?" for character in cut)


def _shorten_optional(text: str | None) -> str | None:
    return None if text is None else _shorten(text)


class TimelineKind(OpenEnum):
    """A kind of entry in the timeline."""

    REQUEST = "request"
    SESSION = "session"
    WEBHOOK = "webhook"
    FAULT = "fault"
    SETTING = "setting"
    GAP = "gap"


@frozen(kw_only=True)
class TimelineEntry:
    """An event in the sandbox; ``str(entry)`` is one line of text.

    Attributes:
        number: Its number. The first entry has number 1, and each later one the next number.
        time: The time by the sandbox's clock.
        session_id: The session that it is about, or ``None``.
    """

    kind: ClassVar[TimelineKind]

    number: int
    time: datetime
    session_id: str | None = None

    def __str__(self) -> str:
        """Return one line: number, time and summary."""
        return f"{self.number:>5}  {self.time:%Y-%m-%d %H:%M:%S}  {self.summary}"

    @property
    def summary(self) -> str:
        """The event as one line without number and time."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, object]:
        """Return the entry as JSON, with its kind and its summary."""
        members = {each.name: _to_json(getattr(self, each.name)) for each in fields(type(self))}
        return {"kind": str(self.kind), **members, "summary": self.summary}


@frozen(kw_only=True)
class RequestEntry(TimelineEntry):
    """A request to the API of Veriff.

    Attributes:
        method: HTTP method.
        path: Path without the query; parts of it that cannot be an id are shown as ``…``.
        endpoint: Method and path with the names of its ids, or ``"other"`` for a path that Veriff does not have.
        status: HTTP status of the response, or ``None`` without a response.
        code: Veriff's code in an error response, or ``None``.
        cause: Why the response failed or was slow, for example ``"injected fault"``; empty for an unchanged request.
        duration: Seconds from the request's headers to its response, in real time.
        signature: Whether the signature is right; ``None`` if it was not checked.
    """

    kind: ClassVar[TimelineKind] = TimelineKind.REQUEST

    method: str
    path: str
    endpoint: str
    status: int | None
    code: str | None = None
    cause: str = field(default="", converter=_shorten)
    duration: float = 0.0
    signature: SignatureVerdict | None = None

    @property
    def summary(self) -> str:
        """Status, method, path, duration, and what was wrong."""
        parts = [f"{self.status or '---'}  {self.method:<6} {self.path}  {self.duration * 1000:.0f} ms"]
        if self.code is not None:
            parts.append(f"code {self.code}")
        if self.cause:
            parts.append(f"[{self.cause}]")
        if self.signature is not None and self.signature.cause is not None:
            parts.append(f"signature {self.signature.result}: {self.signature.cause.value}. {self.signature.advice}")
        return "  ".join(parts)


@frozen(kw_only=True)
class SessionEntry(TimelineEntry):
    """A change of a session.

    Attributes:
        change: The change, for example ``"created"``, ``"submitted"``, ``"media uploaded"`` or ``"approved"``.
        status: The status of the session after the change.
        attempt: The number of its newest attempt, from 1.
    """

    kind: ClassVar[TimelineKind] = TimelineKind.SESSION

    change: str
    status: Status
    attempt: int = 1

    @property
    def summary(self) -> str:
        """The session and the change."""
        attempt = f", attempt {self.attempt}" if self.attempt > 1 else ""
        return f"session {self.session_id} {self.change}{attempt}"


@frozen(kw_only=True)
class WebhookEntry(TimelineEntry):
    """A step in the life of a webhook.

    Attributes:
        webhook_id: The id of the webhook.
        webhook: The kind of webhook.
        change: The step, for example ``"queued"``, ``"delivered"``, ``"failed"``, ``"held"`` or
            ``"dropped"``.
        attempt: The number of the attempt to deliver it, from 1; 0 before the first one.
        status: HTTP status of the receiver's response; ``None`` without a response.
        cause: Why it is late, doubled or lost, or why the attempt failed; empty if nothing is wrong.
        duration: Seconds that the attempt took, in real time.
    """

    kind: ClassVar[TimelineKind] = TimelineKind.WEBHOOK

    webhook_id: str
    webhook: WebhookKind
    change: str
    attempt: int = 0
    status: int | None = None
    cause: str = field(default="", converter=_shorten)
    duration: float = 0.0

    @property
    def summary(self) -> str:
        """The kind of webhook, the change, and the receiver's response."""
        parts = [f"webhook {self.webhook} {self.change}"]
        if self.attempt:
            parts.append(f"{self.status or '---'}, attempt {self.attempt}, {self.duration * 1000:.0f} ms")
        if self.cause:
            parts.append(f"[{self.cause}]")
        if self.session_id is not None:
            parts.append(f"session {self.session_id}")
        return "  ".join(parts)


@frozen(kw_only=True)
class FaultEntry(TimelineEntry):
    """A fault that was injected or removed.

    Attributes:
        change: ``"injected"`` or ``"cleared"``. A fault that hits a request is the `cause` of that request.
        fault: The kind of fault, for example ``"drop"``, or ``"status 503"``.
        times: Number of requests that fail, or number of faults that were removed.
        method: Only requests with this method fail; ``None`` for all.
        path: Only requests with a path that matches fail; ``None`` for all.
    """

    kind: ClassVar[TimelineKind] = TimelineKind.FAULT

    change: str
    fault: str
    times: int
    method: str | None = field(default=None, converter=_shorten_optional)
    path: str | None = None

    @property
    def summary(self) -> str:
        """The change, and which requests it is for."""
        if self.change != "injected":
            return f"faults {self.change}: {self.times}"
        times = f"{self.times} time{'s' if self.times != 1 else ''}"
        return f"fault injected: {self.fault}, {times}, for {self.method or 'any method'}, {self.path or 'any path'}"


@frozen(kw_only=True)
class SettingEntry(TimelineEntry):
    """A change of the sandbox itself.

    Attributes:
        setting: The setting that changed: ``"clock"``, ``"chaos"``, ``"rules"``, ``"webhooks"`` or ``"state"``.
        change: The change, for example ``"advanced by 60 s"``, ``"mobile"`` or ``"reset"``.
    """

    kind: ClassVar[TimelineKind] = TimelineKind.SETTING

    setting: str
    change: str = field(converter=_shorten)

    @property
    def summary(self) -> str:
        """The setting and the change."""
        return f"{self.setting}: {self.change}"


@frozen(kw_only=True)
class GapEntry(TimelineEntry):
    """Entries that a subscriber has missed, because it reads more slowly than entries are added.

    Its number is that of the last missing entry.

    Attributes:
        missing: Number of missing entries.
    """

    kind: ClassVar[TimelineKind] = TimelineKind.GAP

    missing: int

    @property
    def summary(self) -> str:
        """The number of missing entries."""
        return f"{self.missing} entries are missing"


def shorten_path(path: str) -> str:
    """Return a path as an entry shows it: parts that cannot be an id, such as an address or a name, become ``…``."""
    if _PLAIN_PATH.fullmatch(path):
        return path
    shown = "/".join(part if _PLAIN_SEGMENT.fullmatch(part) else "…" for part in path[: 4 * _LONGEST_TEXT].split("/"))
    return shown if len(shown) <= _LONGEST_TEXT else shown[: _LONGEST_TEXT - 1] + "…"


def _to_json(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, SignatureVerdict):
        cause = value.cause
        verdict: JsonObject = {
            "result": value.result,
            "cause": None if cause is None else cause.name.lower(),
            "explanation": None if cause is None else cause.value,
            "advice": value.advice,
        }
        return verdict
    return str(value) if isinstance(value, OpenEnum) else value


class EntryBuilder(Protocol):
    """A `partial` of a class of entries that lacks number and time."""

    def __call__(self, *, number: int, time: datetime) -> TimelineEntry:
        """Return the entry."""
        ...


# Members of a session that change as a whole.
_PARTS: Final = {
    "collected": "device data received",
    "screening": "watchlist screening completed",
    "matches": "matches of lists set",
    "registries": "registry check completed",
    "address_id": "address submitted",
    "certificates": "certificate issued",
    "deleted": "deleted",
}


def describe_changes(before: Session | None, after: Session) -> Iterator[EntryBuilder]:
    """Yield an entry for each change that a transaction has made, in the order in which they can happen.

    Sessions are compared, so that each path that changes one is covered. A session that is new was ``None`` before.
    """
    old_attempts = () if before is None else before.attempts
    if before is None:
        yield _entry(after, "created", 1)
    for number, attempt in enumerate(after.attempts, 1):
        old = old_attempts[number - 1] if number <= len(old_attempts) else None
        if old is None and number > 1:
            yield _entry(after, "new attempt", number)
        for change in _describe_attempt(old, attempt):
            yield _entry(after, change, number)
    if before is not None:
        for name, change in _PARTS.items():
            if getattr(before, name) != getattr(after, name):
                yield _entry(after, change, len(after.attempts))


def _describe_attempt(before: AttemptRecord | None, after: AttemptRecord) -> Iterator[str]:
    # Compared by times rather than by status, because a transaction may start, submit and decide an attempt.
    if after.started_at is not None and (before is None or before.started_at != after.started_at):
        yield "started"
    uploads = len(after.media) - (0 if before is None else len(before.media))
    if uploads > 0:
        yield "media uploaded" if uploads == 1 else f"{uploads} media uploaded"
    if after.submitted_at is not None and (before is None or before.submitted_at != after.submitted_at):
        yield "submitted"
    if after.decided_at is not None and (before is None or _decision(before) != _decision(after)):
        yield str(after.status)
    if len(after.labels) > (0 if before is None else len(before.labels)):
        yield "user-defined status set"


def _decision(attempt: AttemptRecord) -> tuple[object, object]:
    return attempt.decided_at, attempt.status


def _entry(session: Session, change: str, attempt: int) -> EntryBuilder:
    return partial(SessionEntry, session_id=session.id, change=change, status=session.status, attempt=attempt)
