"""The state of the sandbox behind one lock.

Threads
    HTTP handlers and the scheduler run in the server's event loop. Methods of `Sandbox` are called from any thread: a
    test that uses ``with Sandbox()`` runs in another thread than the server. Both sides call one service, and nothing
    else is shared between them. `ServiceCore._lock` is the only lock for this state. It is held for a few steps of
    pure code, never while anything waits for the network, a disk or an event loop. It is not reentrant, so no method
    that takes it calls another one that does; `on_request` and `on_delivery` are called after it was released, because
    these functions may call the sandbox.

Time
    The agenda is a heap of (time, order, item). An item is a `Due`, something that happens to a session. `_at_present`
    runs every item that is due, each at its own time, before anything else reads or changes the state. So no observer
    can see that the scheduler was late, and `Sandbox.advance` over a week gives the same result as a week of real time.
    The order number makes items of the same time run first in, first out.

Transactions
    `_at_present` wraps each change in `SessionStore.transaction`: an exception restores every session that the change
    has touched. `_schedule` does everything that can fail before it changes the agenda or the queue of webhooks.

Webhooks
    `WebhookQueue` holds every webhook as a record with a state. The scheduler takes those that are due
    (`take_webhooks`) and reports each attempt (`record_delivery`), which plans the next attempt of a webhook that
    failed. Webhooks start in the order of their events. They are posted side by side, as Veriff does, so a slow
    receiver may see them in another order. A stop loses none: `interrupt_deliveries` plans again what was in flight.
"""

from __future__ import annotations

import heapq
import logging
from collections import deque
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from itertools import count
from threading import Lock
from typing import TYPE_CHECKING, Final, TypeVar

from attrs import evolve

from veriff_async._protocol.json.encode import dump_json
from veriff_async.errors import ConfigurationError
from veriff_async.sandbox._auth import webhook_headers
from veriff_async.sandbox._chaos.engine import NORMAL_WEBHOOK, ChaosEngine
from veriff_async.sandbox._clock import VirtualClock
from veriff_async.sandbox._decision_polls import DecisionPolls
from veriff_async.sandbox._errors import HTTPError
from veriff_async.sandbox._face_import import FaceCollection
from veriff_async.sandbox._faults import Faults, TokenBucket
from veriff_async.sandbox._fraud import FraudReports
from veriff_async.sandbox._scenario import Due, Post, Scenario
from veriff_async.sandbox._state import StateChanges
from veriff_async.sandbox._timeline import TimelineRecorder
from veriff_async.sandbox._timeline_entries import SettingEntry, describe_changes
from veriff_async.sandbox._webhook_control import WebhookControl
from veriff_async.sandbox._webhook_queue import WebhookQueue
from veriff_async.sandbox._webhook_records import FINISHED, WebhookRecord, WebhookState, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from veriff_async.credentials import Credentials
    from veriff_async.sandbox._clock import Clock
    from veriff_async.sandbox._records import (
        Delivery,
        ReceivedRequest,
        Session,
        StoredMedia,
        WebhookKind,
    )
    from veriff_async.sandbox._rules import SandboxOptions, SandboxRules
    from veriff_async.sandbox._scenario import Effect
    from veriff_async.sandbox._session_store import SessionChange
    from veriff_async.sandbox._state import State
    from veriff_async.sandbox._timeline_entries import EntryBuilder
    from veriff_async.sandbox._webhook_records import PendingWebhook

__all__ = ("ServiceCore", "call_safely")

_T = TypeVar("_T")

_log: Final = logging.getLogger(__name__)

# Number of requests and deliveries that are kept for tests. It bounds the memory of a sandbox that runs for weeks.
_MAX_RECORDS: Final = 10_000


class ServiceCore:
    """The sessions, the agenda of future events and the webhooks behind one lock, and what happens at which time."""

    def __init__(
        self,
        *,
        credentials: Credentials,
        clock: Clock,
        scenario: Scenario,
        wake: Callable[[], None],
    ) -> None:
        """Start with an empty agenda.

        Args:
            credentials: The credentials that requests must be signed with.
            clock: The time.
            scenario: The sessions, and the rules.
            wake: Called, from any thread and while the lock is held, when something may be due.
        """
        self.credentials = credentials
        self.clock = clock
        self.host = ""
        self.public_url: str | None = None
        # Set while the sandbox runs.
        self.media_folder: Path | None = None
        self.on_request: Callable[[ReceivedRequest], None] | None = None
        self.on_delivery: Callable[[Delivery], None] | None = None
        self._scenario = scenario
        self._frauds = FraudReports(self._find_reported, new_id=scenario.new_id)
        self._faces = FaceCollection(self.options.face_quota)
        self._wake_scheduler = wake
        self._lock = Lock()
        self._faults = Faults()
        self._chaos: ChaosEngine | None = None
        self._bucket = TokenBucket(self.options.requests_per_second)
        self._discarded: set[Path] = set()
        # Number of resets and restores.
        self._epoch: int = 0
        self._seeds_running: int = 0
        self._requests: deque[ReceivedRequest] = deque(maxlen=_MAX_RECORDS)
        self._deliveries: deque[Delivery] = deque(maxlen=_MAX_RECORDS)
        self._agenda: list[tuple[datetime, int, Due]] = []
        self._order = count()
        self._polls = DecisionPolls()
        self._changes = StateChanges()
        self._written: tuple[State, ...] = ()
        self._queue = WebhookQueue(on_change=self._changes.add_webhook)
        self.webhooks = WebhookControl(
            queue=self._queue,
            at_present=self._at_present,
            wake=wake,
            build=self._build_webhook,
            check_session=scenario.sessions.get,
        )
        self.timeline = TimelineRecorder()

    @property
    def rules(self) -> SandboxRules:
        """The present rules."""
        return self._scenario.rules

    @property
    def options(self) -> SandboxOptions:
        """The present options of the rules."""
        return self._scenario.rules.options

    @property
    def webhook_urls(self) -> Mapping[WebhookKind, str]:
        """The present URLs of the rules."""
        return self._scenario.rules.webhook_urls

    def record(self, build: EntryBuilder) -> None:
        """Add an entry to the timeline."""
        self.timeline.add(self.clock.now(), build)

    def advance(self, seconds: float) -> None:
        """Move a virtual clock forward, and run everything that becomes due.

        Raises:
            ConfigurationError: The clock is not virtual.
        """
        if not isinstance(self.clock, VirtualClock):
            msg = "The clock is real: start the sandbox with clock=VirtualClock() or --virtual-clock to advance it."
            raise ConfigurationError(msg)
        # Due events run before this method returns, or a test would have to wait.
        self.clock.advance(seconds)
        # Recorded first, because the entries of what becomes due follow from it.
        self.record(partial(SettingEntry, setting="clock", change=f"advanced by {seconds:g} s"))
        with self._at_present():
            self._wake_scheduler()

    def take_webhooks(self, limit: int) -> list[PendingWebhook]:
        """Run what is due, and return the first webhooks to be posted now."""
        with self._at_present() as now:
            return self._queue.take(now, limit=limit)

    def take_discarded(self) -> set[Path]:
        """Return the files that a reset has discarded; the caller removes them, which takes too long for the lock."""
        with self._lock:
            paths, self._discarded = self._discarded, set()
        return paths

    def record_delivery(self, webhook: PendingWebhook, delivery: Delivery) -> None:
        """Record an attempt to deliver, and schedule the next one if the receiver did not accept the webhook."""
        with self._lock:
            now = self.clock.now()
            retry_at = now + timedelta(seconds=self.options.webhook_retry_seconds)
            if not self._queue.finish(webhook, delivery, retry_at=retry_at):
                # A reset has removed the webhook since then: nothing of it comes back.
                return
            self._deliveries.append(delivery)
            self._record_changes((), now)
        call_safely(self.on_delivery, delivery)

    def next_due(self, *, with_webhooks: bool) -> datetime | None:
        """Return the time of the next item, or of the next attempt as well; ``None`` if nothing is planned."""
        with self._lock:
            event_at = self._agenda[0][0] if self._agenda else None
            attempt_at = self._queue.next_due() if with_webhooks else None
            return min((time for time in (event_at, attempt_at) if time is not None), default=None)

    def interrupt_deliveries(self) -> None:
        """Plan the attempts again that a stop has interrupted, for the next start."""
        with self._lock:
            self._queue.resume()
            self._record_changes((), self.clock.now())

    def resume(self, file_exists: Callable[[StoredMedia], bool]) -> None:
        """Prepare for another start: forget media whose files are gone."""
        with self._lock:
            self._scenario.sessions.forget_media(file_exists)

    @contextmanager
    def _at_present(self) -> Generator[datetime]:
        """Hold the lock, run everything that is due, and open a transaction; yield the time."""
        with self._lock:
            now = self._run_due()
            changes: list[SessionChange] = []
            try:
                with self._scenario.sessions.transaction(changes):
                    yield now
            finally:
                self._record_changes(changes, now)

    @contextmanager
    def _to_read(self) -> Generator[None]:
        """Hold the lock, and run everything that is due. Without a transaction, which copies each session."""
        with self._lock:
            self._run_due()
            yield

    def _run_due(self) -> datetime:
        """Run everything that is due, while the lock is held, and return the time."""
        now = self.clock.now()
        # An item may schedule another one that is due as well, so the heap is read again each time.
        while self._agenda and self._agenda[0][0] <= now:
            due_at, number, item = heapq.heappop(self._agenda)
            self._changes.add_due(number, None)
            changes: list[SessionChange] = []
            with self._scenario.sessions.transaction(changes):
                self._schedule(self._scenario.run_due(item, now=due_at), due_at)
            self._record_changes(changes, due_at)
        return now

    def _record_changes(self, changes: Iterable[SessionChange], now: datetime) -> None:
        """Record changes of sessions, and then those of webhooks, which follow from them.

        An error has undone the changes of sessions, but not those of webhooks.
        """
        entries: list[EntryBuilder] = []
        for before, after in changes:
            entries += describe_changes(before, after)
            if self._changes.is_tracked and before != after:
                self._changes.add_session(after.id)
        for entry in (*entries, *self._queue.take_notes()):
            self.timeline.add(now, entry)

    def _restart_chaos(self) -> None:
        if self._chaos is not None:
            self._chaos.restart(self.clock.now())

    def _find_reported(self, session_id: str) -> Session | None:
        try:
            return self._scenario.sessions.find(session_id)
        except HTTPError:
            return None

    def _schedule(self, effects: Sequence[Effect], now: datetime) -> list[WebhookRecord]:
        # Everything that can fail comes before the first change of agenda and queue, which no transaction restores.
        webhooks: list[WebhookRecord] = []
        for effect in effects:
            if isinstance(effect, Post):
                webhooks += self._plan_webhook(effect, now)
            elif effect.post is not None:
                dump_json(effect.post.body)
        for effect in effects:
            if isinstance(effect, Due):
                self._plan(effect)
        for webhook in webhooks:
            self._queue.add(webhook)
        if effects:
            self._wake_scheduler()
        return webhooks

    def _plan(self, due: Due) -> None:
        number = next(self._order)
        self._changes.add_due(number, due)
        heapq.heappush(self._agenda, (due.at, number, due))

    def _plan_webhook(self, post: Post, now: datetime) -> list[WebhookRecord]:
        """Build a webhook, and the copies of it that chaos wants; the first one is the original."""
        webhook = self._build_webhook(post.session_id, post.kind, dump_json(post.body), now)
        self._scenario.sessions.get(post.session_id).posted[post.kind] = post.body
        # Chaos counts only webhooks that are posted, so a kind without a URL does not shift what it does to others.
        plan = self._chaos.plan_webhook(post.kind, now=now) if self._chaos and webhook.url else NORMAL_WEBHOOK
        return spread(webhook, plan, new_id=self._scenario.new_id)

    def _readdress(self, record: WebhookRecord) -> WebhookRecord:
        """Return a webhook of another sandbox as this one would post it."""
        if record.state in FINISHED:
            return record
        url = self.webhook_urls.get(record.kind, record.url)
        return evolve(record, url=url, headers=webhook_headers(self.credentials, record.body))

    def _build_webhook(self, session_id: str, kind: WebhookKind, body: bytes, now: datetime) -> WebhookRecord:
        """Build a webhook with the present URL and credentials."""
        url = self.webhook_urls.get(kind)
        return WebhookRecord(
            id=self._scenario.new_id(),
            session_id=session_id,
            kind=kind,
            body=body,
            url=url,
            headers=webhook_headers(self.credentials, body),
            created_at=now,
            expires_at=now + timedelta(days=self.options.webhook_retry_days),
            due_at=now,
            state=WebhookState.NO_URL if url is None else WebhookState.PENDING,
        )


def call_safely(function: Callable[[_T], None] | None, argument: _T) -> None:
    """Call a function of a test, if there is one; an error in it is logged."""
    if function is None:
        return
    try:
        function(argument)
    except Exception:  # noqa: BLE001  an error in a test's own function must not change what the sandbox does
        _log.exception("The on_request or on_delivery function of the sandbox has failed.")
