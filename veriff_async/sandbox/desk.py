"""Everything the sandbox knows, behind one lock: asked by the HTTP side and by tests, from any thread.

The lock is held for a few steps of pure code, never while anything waits.
"""

from __future__ import annotations

import heapq
import logging
from collections import deque
from contextlib import contextmanager
from itertools import count
from threading import Lock
from typing import TYPE_CHECKING, Final, TypeVar

from veriff_async.sandbox.couriers import Parcel, delivered, packed
from veriff_async.sandbox.faults import Faults
from veriff_async.sandbox.scenario import Due, Post, Scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from datetime import datetime

    from veriff_async.models.json import JsonObject
    from veriff_async.protocol.credentials import Credentials
    from veriff_async.sandbox.clock import Clock
    from veriff_async.sandbox.faults import Fault
    from veriff_async.sandbox.records import Delivery, SeenRequest, SessionView, StoredMedia
    from veriff_async.sandbox.rules import Rules
    from veriff_async.sandbox.scenario import Effect, Verdict

__all__ = ("Desk",)

_T = TypeVar("_T")

_log: Final = logging.getLogger(__name__)

_REMEMBERED: Final = 10_000
"""Requests and deliveries that are kept for tests to look at."""


class Desk:
    """The sandbox's memory, and its list of what is to happen when."""

    def __init__(
        self, *, rules: Rules, credentials: Credentials, clock: Clock, scenario: Scenario, nudge: Callable[[], None]
    ) -> None:
        """Take what it is made of; `nudge` is called when something may have become due."""
        self.rules = rules
        self.credentials = credentials
        self.clock = clock
        self.host = ""
        self.webhook_url: str | None = None
        self.on_request: Callable[[SeenRequest], None] | None = None
        self.on_delivery: Callable[[Delivery], None] | None = None
        self._scenario = scenario
        self._nudge = nudge
        self._lock = Lock()
        self._faults = Faults()
        self._requests: deque[SeenRequest] = deque(maxlen=_REMEMBERED)
        self._deliveries: deque[Delivery] = deque(maxlen=_REMEMBERED)
        self._agenda: list[tuple[datetime, int, Due | Parcel]] = []
        self._order = count()
        self._outbox: list[Parcel] = []

    def create(self, body: JsonObject) -> JsonObject:
        """Answer ``POST /v1/sessions``."""
        with self._present() as now:
            answer, effects = self._scenario.create(body, now=now, host=self.host)
            self._note(effects, now)
        return answer

    def check_upload(self, session_id: str) -> None:
        """Refuse an upload to a session that takes none."""
        with self._present():
            self._scenario.check_upload(session_id)

    def add_media(self, session_id: str, stored: StoredMedia) -> JsonObject:
        """Answer ``POST /v1/sessions/{id}/media``."""
        with self._present():
            return self._scenario.add_media(session_id, stored, host=self.host)

    def submit(self, session_id: str, body: JsonObject) -> JsonObject:
        """Answer ``PATCH /v1/sessions/{id}``."""
        with self._present() as now:
            answer, effects = self._scenario.submit(session_id, body, now=now, host=self.host)
            self._note(effects, now)
        return answer

    def decision(self, session_id: str) -> JsonObject:
        """Answer ``GET /v1/sessions/{id}/decision``."""
        with self._present():
            return self._scenario.decision(session_id)

    def decide(self, session_id: str, verdict: Verdict) -> None:
        """Decide about a session; see `Scenario.decide`."""
        with self._present() as now:
            self._note(self._scenario.decide(session_id, verdict, now=now), now)

    def view(self, session_id: str) -> SessionView:
        """Show a session."""
        with self._present():
            return self._scenario.view(session_id)

    def views(self) -> tuple[SessionView, ...]:
        """Show all sessions."""
        with self._present():
            return self._scenario.views()

    def arm(self, fault: Fault, *, method: str | None, path: str | None, times: int) -> None:
        """Let something go wrong."""
        with self._lock:
            self._faults.arm(fault, method=method, path=path, times=times)

    def take_fault(self, method: str, path: str) -> Fault | None:
        """Return what goes wrong with a request."""
        with self._lock:
            return self._faults.take(method, path)

    def saw(self, request: SeenRequest) -> None:
        """Remember a request."""
        with self._lock:
            self._requests.append(request)
        _tell(self.on_request, request)

    @property
    def requests(self) -> tuple[SeenRequest, ...]:
        """The last requests."""
        with self._lock:
            return tuple(self._requests)

    @property
    def deliveries(self) -> tuple[Delivery, ...]:
        """The last tries to deliver webhooks."""
        with self._lock:
            return tuple(self._deliveries)

    def came_back(self, parcel: Parcel, delivery: Delivery) -> None:
        """Remember a try to deliver, and plan the next one when the receiver did not take it."""
        with self._lock:
            self._deliveries.append(delivery)
            again = self.clock.now() + self.rules.between_tries
            if not delivered(delivery) and again <= parcel.until:
                self._plan(again, parcel)
        _tell(self.on_delivery, delivery)

    def catch_up(self) -> None:
        """Let happen what has become due since the time was moved."""
        with self._present():
            self._nudge()

    def due(self) -> list[Parcel]:
        """Let happen what is due, and return the webhooks that are to be posted now."""
        with self._present():
            parcels, self._outbox = self._outbox, []
        return parcels

    def next_due(self) -> datetime | None:
        """Return when something is due next."""
        with self._lock:
            if self._outbox:
                return self.clock.now()
            return self._agenda[0][0] if self._agenda else None

    @contextmanager
    def _present(self) -> Generator[datetime]:
        """Hold the lock at a moment up to which everything has happened, each thing at its own time."""
        with self._lock:
            now = self.clock.now()
            while self._agenda and self._agenda[0][0] <= now:
                at, _, item = heapq.heappop(self._agenda)
                if isinstance(item, Parcel):
                    self._outbox.append(item)
                else:
                    self._note(self._scenario.come(item, now=at), at)
            yield now

    def _note(self, effects: Sequence[Effect], now: datetime) -> None:
        for effect in effects:
            if isinstance(effect, Due):
                self._plan(effect.at, effect)
            elif self.webhook_url is not None:
                self._plan(now, self._packed(self.webhook_url, effect, now))
        if effects:
            self._nudge()

    def _packed(self, url: str, post: Post, now: datetime) -> Parcel:
        return packed(url, post.body, credentials=self.credentials, rules=self.rules, now=now)

    def _plan(self, at: datetime, item: Due | Parcel) -> None:
        heapq.heappush(self._agenda, (at, next(self._order), item))


def _tell(follower: Callable[[_T], None] | None, news: _T) -> None:
    if follower is None:
        return
    try:
        follower(news)
    except Exception:  # noqa: BLE001  a mistake in a test's own function; Veriff would go on, and so must the sandbox
        _log.exception("A function that follows the sandbox has failed.")
