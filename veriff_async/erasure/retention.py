"""The plan of a retention: which sessions each store holds, and when they must be erased."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from anyio import to_thread
from attrs import frozen

from veriff_async._event_loop import require_asyncio
from veriff_async._protocol.arguments import check_instance, check_number
from veriff_async.erasure._stores import check_stores
from veriff_async.erasure.files import SessionFiles
from veriff_async.errors import InvalidArgumentError
from veriff_async.inbox._operations import iter_sessions
from veriff_async.inbox._protocol import SearchableInbox

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
    from pathlib import Path

    from veriff_async.batch._records import JobRecord
    from veriff_async.erasure._stores import ErasableStore

__all__ = ("RetentionItem", "plan_retention")


@frozen(kw_only=True)
class RetentionItem:
    """The data that one store has about one session.

    Attributes:
        store: The name of the store.
        session_id: The session.
        last_used_at: When the store last got something about the session: the last event of an inbox, the decision of a
            journal's job, the last change of a file. ``None`` if the store does not know; erase the session with
            the others of its age.
        due_at: When it must be erased; ``None`` if that is not known.
        is_overdue: Whether that time has come.
    """

    store: str
    session_id: str
    last_used_at: datetime | None
    due_at: datetime | None
    is_overdue: bool


async def plan_retention(
    stores: Mapping[str, ErasableStore] | Iterable[ErasableStore],
    *,
    max_age: timedelta,
    now: datetime | None = None,
) -> AsyncGenerator[RetentionItem]:
    """Yield what the stores hold of each session, and when it must be erased. Nothing is erased.

    Pass the overdue sessions to `forget`, or ask `SearchableInbox.find_sessions` for those of a person.

    Args:
        stores: Inboxes that can search, journals, and `SessionFiles`; see `forget`. Others are left out.
        max_age: How long data of a session may be kept after its last use.
        now: The present time; by default, that of this machine.

    Raises:
        InvalidArgumentError: `max_age` is not above zero, `now` has no time zone, or a store cannot erase.
        VeriffError: A store cannot be read.

    Example:
        >>> async for item in plan_retention({"inbox": inbox}, max_age=timedelta(days=90)):
        ...     if item.is_overdue:
        ...         await forget(item.session_id, queue=queue, client=veriff, stores={"inbox": inbox})
    """
    require_asyncio()
    remedy = "pass for example timedelta(days=90)"
    check_instance("max_age", max_age, timedelta, remedy=remedy, error=InvalidArgumentError)
    check_number("max_age", max_age.total_seconds(), above=True, remedy=remedy, error=InvalidArgumentError)
    moment = datetime.now(UTC) if now is None else now
    if moment.tzinfo is None:
        msg = "now has no time zone: pass for example datetime.now(UTC)."
        raise InvalidArgumentError(msg)
    for name, store in check_stores(stores).items():
        async for session_id, used_at in _list_sessions(store):
            due_at = None if used_at is None else _add(used_at, max_age)
            yield RetentionItem(
                store=name,
                session_id=session_id,
                last_used_at=used_at,
                due_at=due_at,
                is_overdue=due_at is not None and due_at <= moment,
            )


def _add(moment: datetime, duration: timedelta) -> datetime:
    """Return a later time, at most the last one that Python knows."""
    try:
        return moment + duration
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def _list_sessions(store: ErasableStore) -> AsyncGenerator[tuple[str, datetime | None]]:
    """Yield the sessions of a store, and when each was last used."""
    if isinstance(store, SearchableInbox):
        return _list_inbox(store)
    if isinstance(store, SessionFiles):
        return _list_files(store)
    return _list_jobs(getattr(store, "iter_records", None))


async def _list_inbox(inbox: SearchableInbox) -> AsyncGenerator[tuple[str, datetime | None]]:
    async for session in iter_sessions(inbox):
        if session.session_id is not None:
            yield session.session_id, datetime.fromtimestamp(session.recorded_at, UTC)


async def _list_files(files: SessionFiles) -> AsyncGenerator[tuple[str, datetime | None]]:
    for session_id, path in await to_thread.run_sync(lambda: list(files.find_all())):
        yield session_id, await to_thread.run_sync(_last_change, path)


async def _list_jobs(
    iter_records: Callable[[], AsyncIterator[JobRecord]] | None,
) -> AsyncGenerator[tuple[str, datetime | None]]:
    if iter_records is None:
        return
    async for record in iter_records():
        if record.session_id is not None:
            decided = None if record.decision is None else record.decision.decision_time
            yield record.session_id, decided if decided is None or decided.tzinfo else decided.replace(tzinfo=UTC)


def _last_change(path: Path) -> datetime | None:
    """Return when the newest file of a session was changed. Blocking."""
    try:
        # A link may lead to any folder, which is not the session's.
        times = [file.lstat().st_mtime for file in (path, *(() if path.is_symlink() else path.rglob("*")))]
    except OSError:  # deleted in the meantime
        return None
    return datetime.fromtimestamp(max(times), UTC)
