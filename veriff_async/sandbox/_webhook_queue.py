"""The queue of webhooks: which are due, held, being posted or finished. Pure: the time is an argument.

The heap
    An entry is (time, ticket, record). A record that leaves its place gets another ticket, and the old entry is
    skipped when it comes to the top. So a hold of thousands of webhooks costs no search in the heap. Outdated entries
    are removed together when they are the majority.

No spinning
    `next_due` returns the time of the first webhook that can be posted. A held webhook, and one that waits for the
    webhook before it (`reorder`), have no entry in the heap. So the scheduler sleeps until something happens, and
    `Sandbox.wait_idle` does not wait for them.

In-flight attempts
    `take` gives each attempt the ticket of its record. `finish` ignores a report whose record has gone or has another
    ticket, so an attempt that outlives a reset changes nothing.
"""

from __future__ import annotations

import heapq
from collections import deque
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Final

from attrs import evolve

from veriff_async.sandbox._errors import ImpossibleChangeError, UnknownRecordError
from veriff_async.sandbox._timeline_entries import WebhookEntry
from veriff_async.sandbox._webhook_records import (
    FINISHED,
    Holds,
    PendingWebhook,
    Selection,
    WebhookPage,
    WebhookState,
    view_webhook,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from veriff_async.sandbox._records import Delivery
    from veriff_async.sandbox._timeline_entries import EntryBuilder
    from veriff_async.sandbox._webhook_records import HoldRule, WebhookRecord

__all__ = ("WebhookQueue",)

# Only this status counts (documented).
_OK: Final = 200
_MAX_FINISHED: Final = 5_000
_MIN_OUTDATED: Final = 64
# Words of the timeline for the first state of a webhook.
_ADDED: Final = {
    WebhookState.PENDING: "queued",
    WebhookState.HELD: "held",
    WebhookState.DROPPED: "dropped",
    WebhookState.NO_URL: "not posted: its kind has no URL",
}
_WAITING: Final = frozenset({WebhookState.PENDING, WebhookState.HELD})


class WebhookQueue:
    """All webhooks of a sandbox, oldest first."""

    def __init__(self, *, on_change: Callable[[str], None] = lambda _: None, max_finished: int = _MAX_FINISHED) -> None:
        """Start without webhooks.

        Args:
            on_change: Called with the id of each webhook that has changed or was removed.
            max_finished: Number of finished webhooks that are kept; the oldest ones are removed. It bounds the memory
                of a sandbox that runs for weeks.
        """
        self._on_change = on_change
        self._max_finished = max_finished
        self._records: dict[str, WebhookRecord] = {}
        self._of_session: dict[str, dict[str, WebhookRecord]] = {}
        self._heap: list[tuple[datetime, int, WebhookRecord]] = []
        self._outdated = 0
        self._tickets = count(1)
        self._finished: dict[str, None] = {}
        self._numbers = count(1)
        self._followers: dict[str, dict[str, WebhookRecord]] = {}
        self._holds = Holds()
        self._notes: list[EntryBuilder] = []

    def take_notes(self) -> list[EntryBuilder]:
        """Return what has happened to webhooks since the last call, for the timeline."""
        notes, self._notes = self._notes, []
        return notes

    # Due webhooks.

    def add(self, record: WebhookRecord) -> None:
        """Add a new webhook."""
        record.number = next(self._numbers)
        self._records[record.id] = record
        self._of_session.setdefault(record.session_id, {})[record.id] = record
        if record.state in FINISHED:
            self._end(record, record.state)
        else:
            self._plan(record)
        self._note(record, _ADDED[record.state])

    def take(self, now: datetime, *, limit: int) -> list[PendingWebhook]:
        """Return the first webhooks to be posted now, in the order of their times."""
        taken: list[PendingWebhook] = []
        while self._heap and self._heap[0][0] <= now and len(taken) < limit:
            _, ticket, record = heapq.heappop(self._heap)
            if ticket != record.ticket:
                self._outdated -= 1
            elif record.after is not None:
                record.is_blocked = True
            elif record.url is not None:
                record.state = WebhookState.DELIVERING
                taken.append(_attempt(record, record.url))
        return taken

    def next_due(self) -> datetime | None:
        """Return the time of the next attempt; ``None`` if none is planned."""
        while self._heap and self._heap[0][1] != self._heap[0][2].ticket:
            heapq.heappop(self._heap)
            self._outdated -= 1
        return self._heap[0][0] if self._heap else None

    def finish(self, attempt: PendingWebhook, delivery: Delivery, *, retry_at: datetime) -> bool:
        """Record the result of an attempt, and plan the next one if the receiver did not accept the webhook."""
        record = self._records.get(attempt.id)
        if record is None or record.ticket != attempt.ticket or record.state != WebhookState.DELIVERING:
            return False
        record.attempts.append(delivery)
        record.attempt_count += 1
        if delivery.status == _OK:
            self._end(record, WebhookState.DELIVERED)
        elif record.is_given_up:
            self._end(record, WebhookState.DROPPED)
        elif retry_at > record.expires_at:
            self._end(record, WebhookState.FAILED)
        else:
            record.due_at = retry_at
            self._plan(record)
            self._unblock(record)
        self._note_attempt(record, delivery)
        return True

    def resume(self) -> None:
        """Plan the attempts again that a stop has interrupted."""
        for record in self.records():
            if record.state == WebhookState.DELIVERING:
                if record.is_given_up:
                    self._end(record, WebhookState.DROPPED)
                else:
                    self._push(record)

    def clear(self) -> None:
        """Remove all webhooks and holds. Reports of attempts that are in flight are ignored then."""
        self._records.clear()
        self._of_session.clear()
        self._heap.clear()
        self._outdated = 0
        self._finished.clear()
        self._followers.clear()
        self._holds.clear()

    def restore(self, records: Sequence[WebhookRecord], holds: Sequence[HoldRule]) -> None:
        """Replace all webhooks, oldest first, and the rules that hold them."""
        self.clear()
        for rule in holds:
            self._holds.set(rule.selection, is_held=rule.is_held)
        for record in records:
            record.number = next(self._numbers)
            self._records[record.id] = record
            self._of_session.setdefault(record.session_id, {})[record.id] = record
            if record.state in FINISHED:
                record.after = None
                self._finished[record.id] = None
        # In the order of their places, in which those of the same time are posted.
        for record in sorted(records, key=lambda record: record.ticket):
            if record.after not in self._records:
                record.after = None
            if record.after is not None:
                self._followers.setdefault(record.after, {})[record.id] = record
            if record.state in {WebhookState.PENDING, WebhookState.DELIVERING}:
                # One that waits for another is pushed, too: `take` blocks it again at its time.
                self._push(record)

    # For tests that read.

    def get(self, webhook_id: str) -> WebhookRecord:
        """Return a webhook."""
        record = self._records.get(webhook_id)
        if record is None:
            msg = (
                "The sandbox has no such webhook: pass an id of Sandbox.webhooks, which keeps "
                f"the last {self._max_finished} finished ones."
            )
            raise UnknownRecordError(msg)
        return record

    def records(self, session_id: str | None = None) -> Sequence[WebhookRecord]:
        """Return all webhooks, or those of a session, oldest first."""
        records = self._records if session_id is None else self._of_session.get(session_id, {})
        return tuple(records.values())

    @property
    def holds(self) -> tuple[HoldRule, ...]:
        """The rules that hold webhooks, in the order in which they were made."""
        return self._holds.rules

    def copies(self) -> tuple[WebhookRecord, ...]:
        """Return copies of all webhooks, oldest first."""
        return tuple(map(_copy, self._records.values()))

    def copy(self, webhook_id: str) -> WebhookRecord | None:
        """Return a copy of a webhook; ``None`` if it does not exist."""
        record = self._records.get(webhook_id)
        return None if record is None else _copy(record)

    def page(self, selection: Selection, state: WebhookState | None, *, after: str | None, limit: int) -> WebhookPage:
        """Return a page of the list of webhooks, newest first."""
        found = [
            record
            for record in reversed(self.records(selection.session_id))
            if selection.includes(record) and state in {None, record.state}
        ]
        start = 0
        if after is not None:
            # A webhook that has changed its state since still marks a place, because numbers follow the creation.
            number = self.get(after).number
            start = next((index for index, each in enumerate(found) if each.number < number), len(found))
        shown = found[start : start + limit]
        more = start + limit < len(found)
        return WebhookPage(
            webhooks=tuple(map(view_webhook, shown)), next=shown[-1].id if more and shown else None, total=len(found)
        )

    # For tests that change.

    def hold(self, selection: Selection) -> int:
        """Hold webhooks, and those that come later; return how many were not held before."""
        self._holds.set(selection, is_held=True)
        held = [record for record in self._select(selection) if record.state == WebhookState.PENDING]
        for record in held:
            self._unplan(record)
            record.state = WebhookState.HELD
            self._note(record, "held")
        return len(held)

    def release(self, selection: Selection) -> int:
        """Let held webhooks go, and those that come later; return how many were held."""
        self._holds.set(selection, is_held=False)
        released = [record for record in self._select(selection) if record.state == WebhookState.HELD]
        for record in released:
            self._push(record)
            self._note(record, "released")
        return len(released)

    def deliver(self, record: WebhookRecord, *, now: datetime, url: str | None, headers: dict[str, str]) -> None:
        """Post a webhook now, whether it is held, failed or dropped."""
        if record.state == WebhookState.DELIVERED:
            msg = "The webhook was delivered already: duplicate it to post it again."
            raise ImpossibleChangeError(msg)
        self._refuse_in_flight(record)
        if url is None:
            msg = f"Webhooks of kind {record.kind} have no URL: set one in Sandbox.webhook_urls first."
            raise ImpossibleChangeError(msg)
        self._unplan(record)
        self._detach(record)
        record.url, record.headers, record.due_at = url, headers, now
        record.is_given_up = False
        self._push(record)
        self._note(record, "queued")

    def delay(self, record: WebhookRecord, due_at: datetime) -> None:
        """Post a webhook at a time instead of at its own; a hold does not apply to it any more."""
        self._require_waiting(record, "delayed")
        self._unplan(record)
        record.due_at = due_at
        self._push(record)
        self._note(record, "delayed")

    def drop(self, record: WebhookRecord) -> None:
        """Make no further attempt to deliver a webhook. An attempt that is in flight may still succeed."""
        if record.state in FINISHED:
            msg = f"The webhook is {record.state} already, and cannot be dropped."
            raise ImpossibleChangeError(msg)
        if record.state == WebhookState.DELIVERING:
            # Noted when this attempt has ended.
            record.is_given_up = True
            self._on_change(record.id)
        else:
            self._unplan(record)
            self._end(record, WebhookState.DROPPED)
            self._note(record, "dropped")

    def reorder(self, records: Sequence[WebhookRecord]) -> None:
        """Post webhooks one after another, in this order."""
        if len({record.id for record in records}) < len(records):
            msg = "reorder_webhooks() got the same webhook twice: name each one once, or duplicate it first."
            raise ImpossibleChangeError(msg)
        for record in records:
            self._require_waiting(record, "reordered")
        # The first one waits for none of the others. So each chain ends, and no two webhooks wait for each other.
        previous: WebhookRecord | None = None
        for record in records:
            self._follow(record, previous)
            self._note(record, "reordered")
            previous = record

    # Notes for the timeline.

    def _note(self, record: WebhookRecord, change: str) -> None:
        self._notes.append(
            partial(
                WebhookEntry,
                session_id=record.session_id,
                webhook_id=record.id,
                webhook=record.kind,
                change=change,
                cause=record.cause,
            )
        )

    def _note_attempt(self, record: WebhookRecord, delivery: Delivery) -> None:
        # A webhook that waits for its next attempt was refused; a final state is the change itself.
        change = str(record.state) if record.state in FINISHED else "refused"
        self._notes.append(
            partial(
                WebhookEntry,
                session_id=record.session_id,
                webhook_id=record.id,
                webhook=record.kind,
                change=change,
                attempt=record.attempt_count,
                status=delivery.status,
                cause=delivery.error,
                duration=delivery.duration,
            )
        )

    # Places in the queue.

    def _plan(self, record: WebhookRecord) -> None:
        self._on_change(record.id)
        if self._holds.match(record):
            record.state = WebhookState.HELD
            record.ticket = next(self._tickets)
        else:
            self._push(record)

    def _push(self, record: WebhookRecord) -> None:
        self._on_change(record.id)
        self._finished.pop(record.id, None)
        record.state, record.is_blocked = WebhookState.PENDING, False
        record.ticket = next(self._tickets)
        heapq.heappush(self._heap, (record.due_at, record.ticket, record))

    def _unplan(self, record: WebhookRecord) -> None:
        """Take a webhook out of the heap."""
        self._on_change(record.id)
        if record.state == WebhookState.PENDING and not record.is_blocked:
            self._outdated += 1
        record.is_blocked = False
        record.ticket = next(self._tickets)
        if self._outdated > max(_MIN_OUTDATED, len(self._heap) // 2):
            self._heap = [entry for entry in self._heap if entry[1] == entry[2].ticket]
            heapq.heapify(self._heap)
            self._outdated = 0

    def _end(self, record: WebhookRecord, state: WebhookState) -> None:
        self._on_change(record.id)
        record.state = state
        self._detach(record)
        self._finished[record.id] = None
        self._unblock(record)
        while len(self._finished) > self._max_finished:
            oldest = next(iter(self._finished))
            del self._finished[oldest]
            self._on_change(oldest)
            removed = self._records.pop(oldest)
            of_session = self._of_session[removed.session_id]
            del of_session[oldest]
            if not of_session:
                del self._of_session[removed.session_id]

    def _follow(self, record: WebhookRecord, previous: WebhookRecord | None) -> None:
        self._on_change(record.id)
        self._detach(record)
        if previous is not None:
            record.after = previous.id
            self._followers.setdefault(previous.id, {})[record.id] = record
        if record.is_blocked:
            # Pushed again, because the webhook that it waited for may be another one now, or none.
            self._push(record)

    def _detach(self, record: WebhookRecord) -> None:
        """Let a webhook wait for no other one."""
        if record.after is not None:
            self._followers.get(record.after, {}).pop(record.id, None)
            record.after = None

    def _unblock(self, record: WebhookRecord) -> None:
        """Let the webhooks go that wait for this one: it was posted, or it never will be."""
        for follower in self._followers.pop(record.id, {}).values():
            follower.after = None
            self._on_change(follower.id)
            if follower.is_blocked:
                self._push(follower)

    def _select(self, selection: Selection) -> Iterator[WebhookRecord]:
        return (record for record in self.records(selection.session_id) if selection.includes(record))

    def _require_waiting(self, record: WebhookRecord, change: str) -> None:
        self._refuse_in_flight(record)
        if record.state not in _WAITING:
            msg = f"The webhook is {record.state}, and only one that waits to be posted can be {change}."
            raise ImpossibleChangeError(msg)

    @staticmethod
    def _refuse_in_flight(record: WebhookRecord) -> None:
        if record.state == WebhookState.DELIVERING:
            msg = "The webhook is being posted: wait for the end of this attempt, for example with wait_idle()."
            raise ImpossibleChangeError(msg)


def _copy(record: WebhookRecord) -> WebhookRecord:
    return evolve(record, attempts=deque(record.attempts, record.attempts.maxlen))


def _attempt(record: WebhookRecord, url: str) -> PendingWebhook:
    return PendingWebhook(
        id=record.id,
        session_id=record.session_id,
        kind=record.kind,
        ticket=record.ticket,
        url=url,
        body=record.body,
        headers=record.headers,
    )
