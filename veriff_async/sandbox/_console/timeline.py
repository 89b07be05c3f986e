"""The timeline: entries become rows, and the handler of their page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import frozen

from veriff_async.sandbox._console.display import describe_time, label, tone
from veriff_async.sandbox._console.links import TIMELINE_PATH, link, webhook_path
from veriff_async.sandbox._timeline_entries import (
    FaultEntry,
    GapEntry,
    RequestEntry,
    SessionEntry,
    SettingEntry,
    TimelineKind,
    WebhookEntry,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from aiohttp import web

    from veriff_async.sandbox._console.display import Moment
    from veriff_async.sandbox._console.frame import Frame
    from veriff_async.sandbox._timeline_entries import TimelineEntry

__all__ = (
    "TimelineHandlers",
    "describe_entries",
    "describe_timeline",
)

_KINDS: Final = {
    TimelineKind.REQUEST: "Requests",
    TimelineKind.SESSION: "Sessions",
    TimelineKind.WEBHOOK: "Webhooks",
    TimelineKind.FAULT: "Faults",
    TimelineKind.SETTING: "Settings",
}
_WEBHOOK_TONES: Final = {"delivered": "good", "failed": "bad", "dropped": "bad", "refused": "warn", "held": "warn"}
# A status of 400 and above is the mistake of a client, which the page explains; one of 500 and above is a fault.
_CLIENT_ERROR: Final = 400
_SERVER_ERROR: Final = 500


@frozen
class KindFilter:
    """A link to the entries of one kind."""

    label: str
    path: str
    is_current: bool


@frozen
class Note:
    """A remark below an entry."""

    tone: str
    title: str
    text: str = ""


@frozen
class EntryRow:
    """One row of the timeline."""

    number: int
    moment: Moment
    tone: str
    badge: str
    title: str
    is_code: bool = False
    notes: tuple[Note, ...] = ()
    aside: str = ""
    session_id: str | None = None
    path: str = ""
    is_signed: bool = False


def describe_timeline(
    entries: Sequence[TimelineEntry], *, kind: str, before: str, limit: int, now: datetime
) -> dict[str, object]:
    """Return the values of the page.

    Args:
        entries: The entries, oldest first.
        kind: The kind that is shown; empty for all.
        before: The number before which they end; empty for the newest ones.
        limit: Number of entries on a page.
        now: The present time.
    """
    # Numbers start at 1 and have no gaps; a page that is not full has reached the oldest entry that is kept.
    has_more = len(entries) == limit and entries[0].number > 1
    return {
        "filters": tuple(_filters(kind)),
        "entries": describe_entries(entries, now),
        "has_filter": bool(kind or before),
        "first": link(TIMELINE_PATH, kind=kind) if before else "",
        "next": link(TIMELINE_PATH, kind=kind, before=str(entries[0].number)) if has_more else "",
        "here": link(TIMELINE_PATH, kind=kind, before=before),
    }


def _filters(kind: str) -> Iterator[KindFilter]:
    yield KindFilter("All", link(TIMELINE_PATH), not kind)
    for each, words in _KINDS.items():
        yield KindFilter(words, link(TIMELINE_PATH, kind=each), each == kind)


def describe_entries(entries: Sequence[TimelineEntry], now: datetime) -> tuple[EntryRow, ...]:
    """Return the rows of entries, newest first."""
    return tuple(_row(entry, describe_time(entry.time, now)) for entry in reversed(entries))


def _row(entry: TimelineEntry, moment: Moment) -> EntryRow:
    if isinstance(entry, RequestEntry):
        return _request(entry, moment)
    if isinstance(entry, WebhookEntry):
        return _webhook(entry, moment)
    number, session_id = entry.number, entry.session_id
    if isinstance(entry, SessionEntry):
        attempt = f", attempt {entry.attempt}" if entry.attempt > 1 else ""
        title = f"{entry.change[:1].upper()}{entry.change[1:].replace('_', ' ')}{attempt}"
        return EntryRow(number, moment, tone(entry.status), label(entry.status), title, session_id=session_id)
    if isinstance(entry, FaultEntry):
        return EntryRow(number, moment, "warn", "fault", entry.summary[:1].upper() + entry.summary[1:])
    if isinstance(entry, SettingEntry):
        return EntryRow(number, moment, "", entry.setting, entry.change[:1].upper() + entry.change[1:])
    colour = "warn" if isinstance(entry, GapEntry) else ""
    return EntryRow(number, moment, colour, entry.kind, entry.summary, session_id=session_id)


def _request(entry: RequestEntry, moment: Moment) -> EntryRow:
    colour = "good"
    if entry.status is None or entry.status >= _SERVER_ERROR:
        colour = "bad"
    elif entry.status >= _CLIENT_ERROR:
        colour = "warn"
    notes: list[Note] = []
    verdict = entry.signature
    if verdict is not None and verdict.cause is not None:
        notes.append(Note("bad", f"Signature {verdict.result}: {verdict.cause.value}.", verdict.advice))
    if entry.code is not None:
        notes.append(Note("", f"Code {entry.code}"))
    if entry.cause:
        notes.append(Note("warn", entry.cause[:1].upper() + entry.cause[1:]))
    return EntryRow(
        number=entry.number,
        moment=moment,
        tone=colour,
        badge="none" if entry.status is None else str(entry.status),
        title=f"{entry.method} {entry.path}",
        is_code=True,
        notes=tuple(notes),
        aside=f"{entry.duration * 1000:.0f} ms",
        session_id=entry.session_id,
        is_signed=verdict is not None and verdict.cause is None,
    )


def _webhook(entry: WebhookEntry, moment: Moment) -> EntryRow:
    attempt = f", attempt {entry.attempt}" if entry.attempt > 1 else ""
    return EntryRow(
        number=entry.number,
        moment=moment,
        tone=_WEBHOOK_TONES.get(entry.change, "info"),
        badge=str(entry.status or "webhook") if entry.attempt else "webhook",
        title=f"Webhook {entry.webhook} {entry.change}{attempt}",
        notes=(Note("warn", entry.cause[:1].upper() + entry.cause[1:]),) if entry.cause else (),
        aside=f"{entry.duration * 1000:.0f} ms" if entry.attempt else "",
        session_id=entry.session_id,
        path=webhook_path(entry.webhook_id),
    )


_LIMIT: Final = 100


class TimelineHandlers:
    """The handlers of the timeline."""

    def __init__(self, frame: Frame) -> None:
        """Show the timeline of a service."""
        self._frame = frame
        self._service = frame.service

    def add_routes(self, routes: web.UrlDispatcher) -> None:
        """Add the routes."""
        routes.add_get(TIMELINE_PATH, self._show)

    async def _show(self, request: web.Request) -> web.Response:
        kind, before = request.query.get("kind", ""), request.query.get("before", "")
        # Wrong words of an address are ignored: each page has links to all of its filters.
        kind = kind if TimelineKind(kind).known else ""
        before = before if before.isascii() and before.isdecimal() and len(before) < 10 else ""  # noqa: PLR2004
        entries = self._service.timeline.entries(
            kind=kind or None, before=int(before) if before else None, limit=_LIMIT
        )
        values = describe_timeline(entries, kind=kind, before=before, limit=_LIMIT, now=self._service.clock.now())
        return await self._frame.respond(request, "timeline", values, page=TIMELINE_PATH)
