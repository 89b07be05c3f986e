"""Formats the output of the inbox commands: rows for people, JSON objects for programs. Pure.

Neither contains personal data; vendor data and bodies are shown by ``show --raw`` and ``export`` alone.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from math import isfinite
from typing import TYPE_CHECKING, Final

from attrs import asdict

from veriff_async import Status
from veriff_async._protocol.counts import format_count
from veriff_async.cli.listen.display import status_and_code
from veriff_async.models.delivery import DeliveryStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from veriff_async.inbox import StoredEvent
    from veriff_async.models.delivery import DeliveryRecord
    from veriff_async.models.inbox_search import InboxStatistics, SessionSummary
    from veriff_async.models.state import SessionState

__all__ = (
    "DEAD_COLUMNS",
    "EVENT_COLUMNS",
    "SESSION_COLUMNS",
    "age",
    "dead_document",
    "dead_line",
    "dead_rows",
    "errors_of",
    "event_document",
    "event_row",
    "iso_time",
    "local_time",
    "session_document",
    "session_line",
    "session_row",
    "state_document",
    "statistics_fields",
)

SESSION_COLUMNS: Final = ("session", "status", "queued", "dead", "last")
EVENT_COLUMNS: Final = ("recorded", "kind", "content", "handlers")
DEAD_COLUMNS: Final = ("session", "kind", "attempts", "age", "error")

# Shorter on a terminal: a row of 80 columns has the whole id of a session.
_SHORT_STATUSES: Final = {Status.RESUBMISSION_REQUESTED: "resubmission", Status.INFLOW_COMPLETED: "inflow"}

NO_SESSION: Final = "(no session)"
_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def age(seconds: float) -> str:
    """Format a duration by its largest unit, for example 3h."""
    if not isfinite(seconds):  # another program has damaged a time
        return "?"
    whole = max(0, int(seconds))
    size, unit = next((entry for entry in _UNITS if whole >= entry[0]), (1, "s"))
    return f"{whole // size}{unit}"


def local_time(moment: float) -> str:
    """Format a time in the zone of the machine."""
    time = _to_datetime(moment)
    return "?" if time is None else f"{time.astimezone():%Y-%m-%d %H:%M:%S}"


def iso_time(moment: float | None) -> str | None:
    """Format a time for programs."""
    time = None if moment is None else _to_datetime(moment)
    return None if time is None else time.isoformat(timespec="milliseconds")


def _to_datetime(moment: float) -> datetime | None:
    """Return a time of an inbox, or ``None`` if another program has stored one that no calendar has."""
    try:
        return datetime.fromtimestamp(moment, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def session_row(session: SessionSummary, now: float) -> tuple[str, ...]:
    """Return the cells of a session on a terminal."""
    status = "" if session.status is None else _SHORT_STATUSES.get(session.status, str(session.status))
    queued, dead = (str(count or "") for count in (session.queued, session.dead))
    return session.session_id or NO_SESSION, status, queued, dead, age(now - session.recorded_at)


def session_line(session: SessionSummary) -> tuple[str, ...]:
    """Return the cells of a session in a pipe: whole words and times."""
    return tuple("" if value is None else str(value) for value in session_document(session).values())


def session_document(session: SessionSummary) -> dict[str, object]:
    """Return a session as JSON."""
    return {
        "session_id": session.session_id,
        "status": None if session.status is None else str(session.status),
        "events": session.events,
        "queued": session.queued,
        "dead": session.dead,
        "recorded_at": iso_time(session.recorded_at),
    }


def state_document(session_id: str, state: SessionState | None) -> dict[str, object]:
    """Return the state of a session as JSON, without the decision's data about the person."""
    decision = None if state is None else state.decision
    return {
        "session_id": session_id,
        "status": None if state is None else str(state.status),
        "attempts": 0 if state is None else len(state.attempts),
        "decision": None if decision is None else {"status": str(decision.status), "code": decision.code},
    }


def _content(stored: StoredEvent) -> str:
    status, code = status_and_code(stored.event)
    return " ".join(str(part) for part in (status, code) if part is not None)


def _handlers(record: DeliveryRecord | None) -> str:
    if record is None or record.status is None:
        return ""
    if record.status is DeliveryStatus.DEAD or record.attempts > 1:
        return f"{record.status}, attempt {record.attempts}"
    return str(record.status)


def event_row(stored: StoredEvent) -> tuple[str, ...]:
    """Return the cells of an event."""
    record = stored.delivery
    recorded = "" if record is None else local_time(record.recorded_at)
    return recorded, stored.event.kind, _content(stored), _handlers(record)


def event_document(stored: StoredEvent) -> dict[str, object]:
    """Return an event as JSON, without its body."""
    status, code = status_and_code(stored.event)
    record = stored.delivery
    return {
        "kind": stored.event.kind,
        "status": None if status is None else str(status),
        "code": code,
        "dedup_key": stored.event.dedup_key,
        **({} if record is None else _record_members(record)),
    }


def _record_members(record: DeliveryRecord) -> dict[str, object]:
    return {
        "recorded_at": iso_time(record.recorded_at),
        "delivery": None if record.status is None else str(record.status),
        "attempts": record.attempts,
        "due_at": iso_time(record.due_at),
        "error": record.error,
        "handled_by": sorted(record.handled_by),
    }


def dead_rows(records: Sequence[DeliveryRecord], now: float) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return the cells of dead events on a terminal, and a line for each error, which the cells refer to by number."""
    counts = Counter(record.error or "unknown" for record in records)
    numbers = {error: number for number, error in enumerate(counts, 1)}
    rows: list[tuple[str, ...]] = [
        (
            record.session_id or NO_SESSION,
            record.kind,
            str(record.attempts),
            age(now - record.recorded_at),
            str(numbers[record.error or "unknown"]),
        )
        for record in records
    ]
    return rows, [
        f"Error {numbers[error]} ({format_count(count, 'event')}): {error}" for error, count in counts.items()
    ]


def dead_line(record: DeliveryRecord) -> tuple[str, ...]:
    """Return the cells of a dead event in a pipe: whole values."""
    recorded = iso_time(record.recorded_at) or ""
    return record.session_id or NO_SESSION, record.kind, str(record.attempts), recorded, record.error or ""


def dead_document(record: DeliveryRecord) -> dict[str, object]:
    """Return a dead event as JSON."""
    return {
        "session_id": record.session_id,
        "kind": record.kind,
        "dedup_key": record.dedup_key,
        **_record_members(record),
    }


def statistics_fields(statistics: InboxStatistics) -> dict[str, str | int | None]:
    """Return the counters for people; those that are unknown are ``None``."""
    found: dict[str, str | int | None] = asdict(statistics)
    for name in ("oldest_queued_age", "oldest_session_age"):
        seconds: float | None = getattr(statistics, name)
        found[name] = None if seconds is None else age(seconds)
    found["size"] = None if statistics.bytes is None else f"{statistics.bytes / 1_000_000:.2f} MB"
    del found["bytes"]
    return found


def errors_of(events: Sequence[StoredEvent]) -> list[str]:
    """Return a sentence for each event whose last attempt has failed."""
    return [
        f"Event {number}: {stored.delivery.error}"
        for number, stored in enumerate(events, 1)
        if stored.delivery is not None and stored.delivery.error is not None
    ]
