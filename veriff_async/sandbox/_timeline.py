"""The timeline: a bounded record of what happened in the sandbox, in one order.

Threads
    The lock of the timeline is the innermost one of the sandbox: its holder calls nothing that waits or takes another
    lock, so entries can be added while the lock of the service is held. Entries never change.

Memory
    Entries are kept by number, and by session for the page of one session. Both forget the oldest entry first. A
    subscriber has no queue of its own: it remembers the number of its last entry and reads the next one from the shared
    record. A slow subscriber therefore costs no memory; when entries that it has not read are forgotten, it gets a
    `GapEntry` and continues.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from secrets import token_hex
from threading import Lock
from typing import TYPE_CHECKING, Final, Self

from veriff_async.sandbox._arguments import check_number, check_text, check_word
from veriff_async.sandbox._timeline_entries import GapEntry, TimelineKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    from veriff_async.sandbox._timeline_entries import EntryBuilder, TimelineEntry

__all__ = ("Timeline", "TimelineRecorder")

# Twenty for each of a thousand sessions; about 10 MB.
_MAX_ENTRIES: Final = 20_000
# Entries that a subscriber reads before other tasks run: reading a long record must not block the server.
_ENTRIES_PER_TURN: Final = 50


class Timeline:
    """The events of a sandbox: requests, changes of sessions, webhooks, faults and settings, in one order.

    It keeps the last twenty thousand entries. Its methods may be called from any thread and any loop.

    Attributes:
        run: A random text that is another one for each `Sandbox`, whose timeline begins with number 1 again.

    Example:
        >>> print(sandbox.timeline.text(limit=20))
    """

    def __init__(self, *, capacity: int = _MAX_ENTRIES) -> None:
        """Start without entries.

        Args:
            capacity: Number of entries that are kept.
        """
        self.run: str = token_hex(4)
        self._capacity = capacity
        self._lock = Lock()
        # Numbers of the oldest entry that is kept, and of the newest one. The numbers between them have no gaps.
        self._first: int = 1
        self._last: int = 0
        # A ring: `_place` has the place of a number. A list costs less for each entry than a dict or a deque.
        self._ring: list[TimelineEntry] = []
        self._start: int = 1
        # Lists, because most sessions have few entries, and an empty deque takes more memory than ten of them.
        self._by_session: dict[str, list[TimelineEntry]] = {}
        self._waiting: dict[asyncio.Future[None], asyncio.AbstractEventLoop] = {}
        self._is_closed = False

    def __len__(self) -> int:
        """Return the number of entries that are kept."""
        return len(self._ring)

    def __repr__(self) -> str:
        """Show the number of entries."""
        return f"<Timeline with {len(self)} entries>"

    @property
    def last_number(self) -> int:
        """The number of the newest entry; 0 if nothing has happened yet."""
        return self._last

    def entries(
        self,
        *,
        after: int | None = None,
        before: int | None = None,
        session_id: str | None = None,
        kind: TimelineKind | str | None = None,
        limit: int = 100,
    ) -> tuple[TimelineEntry, ...]:
        """Return some entries, oldest first.

        Args:
            after: Only entries with a higher number; then these are the first `limit` of them, otherwise the last.
            before: Only entries with a lower number: pass the number of the first entry to get the page before it.
            session_id: Only entries about this session.
            kind: Only entries of this kind, for example ``"request"``.
            limit: Highest number of entries.

        Raises:
            InvalidArgumentError: A number is negative or not whole, `limit` is below 1, or the kind is unknown.
        """
        for name, number in (("after", after), ("before", before)):
            if number is not None:
                check_number(name, number, whole=True)
        check_number("limit", limit, lowest=1, whole=True)
        if session_id is not None:
            check_text("session_id", session_id)
        if kind is not None:
            check_word("kind", kind, TimelineKind)
        with self._lock:
            low = max(self._first, 0 if after is None else after + 1)
            high = min(self._last, self._last if before is None else before - 1)
            if session_id is not None:
                found = [*self._by_session.get(session_id, ())]
            elif kind is not None:
                found = self._between(low, high)
            elif after is None:
                found = self._between(max(low, high - limit + 1), high)
            else:
                found = self._between(low, min(high, low + limit - 1))
        # Compared without the lock, which the server needs for each request.
        found = [entry for entry in found if low <= entry.number <= high and kind in {None, entry.kind}]
        return tuple(found[-limit:] if after is None else found[:limit])

    def text(self, *, session_id: str | None = None, limit: int = 100) -> str:
        """Return the last entries as lines of text, oldest first.

        Args:
            session_id: Only entries about this session.
            limit: Highest number of lines.

        Raises:
            InvalidArgumentError: `limit` is below 1.
        """
        return "\n".join(map(str, self.entries(session_id=session_id, limit=limit)))

    def subscribe(self, after: int | None = None) -> AsyncIterator[TimelineEntry]:
        """Return an iterator over entries as they are added, in the running loop.

        It ends when the sandbox stops. A reader that is slower than the sandbox gets a `GapEntry` with the number of
        entries that it has missed, and continues with the oldest one that is kept. Cancelling a wait loses no entry,
        so the iterator can be used with ``asyncio.wait_for``.

        Args:
            after: Number of the last entry that is known; the iterator starts with the next one. ``None`` starts with
                the next entry that is added.

        Raises:
            InvalidArgumentError: `after` is negative or not whole.

        Example:
            >>> async for entry in sandbox.timeline.subscribe():
            ...     print(entry)
        """
        if after is not None:
            check_number("after", after, whole=True)
        # A number beyond the newest entry comes from another run of the sandbox; its entries are unknown here.
        start = self._last if after is None or after > self._last else after
        return _Subscription(self._read, self._stop_waiting, start)

    def _between(self, low: int, high: int) -> list[TimelineEntry]:
        """Return the entries with numbers from `low` to `high`, while the lock is held."""
        start, count = self._place(low), max(0, high - low + 1)
        found = self._ring[start : start + count]
        return found + self._ring[: count - len(found)]

    def _read(self, after: int) -> TimelineEntry | asyncio.Future[None] | None:
        """Return the entry that follows a number, for a subscription.

        Returns:
            The entry, or a `GapEntry` if that entry was forgotten; without an entry a future that is done when one is
            added, or ``None`` after the end.
        """
        with self._lock:
            if after < self._last:
                if after + 1 >= self._first:
                    return self._ring[self._place(after + 1)]
                oldest = self._ring[self._place(self._first)]
                return GapEntry(number=self._first - 1, time=oldest.time, missing=self._first - 1 - after)
            if self._is_closed:
                return None
            loop = asyncio.get_running_loop()
            future: asyncio.Future[None] = loop.create_future()
            self._waiting[future] = loop
            return future

    def _place(self, number: int) -> int:
        return (number - self._start) % self._capacity

    def _stop_waiting(self, future: asyncio.Future[None]) -> None:
        with self._lock:
            self._waiting.pop(future, None)


class TimelineRecorder(Timeline):
    """The timeline as the sandbox writes it."""

    def add(self, time: datetime, build: EntryBuilder) -> None:
        """Add an entry; from any thread."""
        with self._lock:
            self._append(time, build)

    def restart(self, time: datetime, build: EntryBuilder) -> None:
        """Replace all entries by one. Numbers continue, so that no number means two entries."""
        with self._lock:
            self._ring.clear()
            self._by_session.clear()
            self._first = self._start = self._last + 1
            self._append(time, build)

    def open(self) -> None:
        """Let subscribers wait for entries."""
        self._is_closed = False

    def close(self) -> None:
        """End all subscriptions, after the entries that exist."""
        with self._lock:
            self._is_closed = True
            self._wake()

    def _append(self, time: datetime, build: EntryBuilder) -> None:
        number = self._last + 1
        entry = build(number=number, time=time)
        self._last = number
        if len(self._ring) < self._capacity:
            self._ring.append(entry)
        else:
            place = self._place(number)
            self._forget(self._ring[place])
            self._ring[place] = entry
        if entry.session_id is not None:
            self._by_session.setdefault(entry.session_id, []).append(entry)
        if self._waiting:
            self._wake()

    def _forget(self, oldest: TimelineEntry) -> None:
        self._first += 1
        if oldest.session_id is None:
            return
        # The oldest entry of all is also the oldest one of its session.
        entries = self._by_session[oldest.session_id]
        del entries[0]
        if not entries:
            del self._by_session[oldest.session_id]

    def _wake(self) -> None:
        for future, loop in self._waiting.items():
            # A loop that was closed has no subscriber any more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_finish, future)
        self._waiting.clear()


class _Subscription:
    """An iterator that remembers the number of its last entry; a class, because a cancelled generator would end."""

    def __init__(
        self,
        read: Callable[[int], TimelineEntry | asyncio.Future[None] | None],
        stop_waiting: Callable[[asyncio.Future[None]], None],
        after: int,
    ) -> None:
        self._read = read
        self._stop_waiting = stop_waiting
        self._after = after
        self._turn = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TimelineEntry:
        self._turn += 1
        if self._turn % _ENTRIES_PER_TURN == 0:
            await asyncio.sleep(0)
        while True:
            found = self._read(self._after)
            if found is None:
                raise StopAsyncIteration
            if not isinstance(found, asyncio.Future):
                self._after = found.number
                return found
            try:
                await found
            finally:
                self._stop_waiting(found)


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
