"""Everything the sandbox knows, behind one lock: asked by the HTTP side and by tests, from any thread.

The lock is held for a few steps of pure code, never while anything waits.
"""

from __future__ import annotations

import heapq
from collections import deque
from itertools import count
from threading import Lock
from typing import TYPE_CHECKING, Final

from veriff_async.sandbox.couriers import Parcel, delivered, packed
from veriff_async.sandbox.faults import Faults
from veriff_async.sandbox.scenario import Due, Post, Scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from veriff_async.models.json import JsonObject
    from veriff_async.protocol.credentials import Credentials
    from veriff_async.sandbox.clock import Clock
    from veriff_async.sandbox.faults import Fault
    from veriff_async.sandbox.records import Delivery, SeenRequest, SessionView, StoredMedia
    from veriff_async.sandbox.rules import Rules
    from veriff_async.sandbox.scenario import Effect, Verdict

__all__ = ("Desk",)

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

    def create(self, body: JsonObject) -> JsonObject:
        """Answer ``POST /v1/sessions``."""
        with self._lock:
            answer, effects = self._scenario.create(body, now=self.clock.now(), host=self.host)
            self._note(effects)
        return answer

    def check_upload(self, session_id: str) -> None:
        """Refuse an upload to a session that takes none."""
        with self._lock:
            self._scenario.check_upload(session_id)

    def add_media(self, session_id: str, stored: StoredMedia) -> JsonObject:
        """Answer ``POST /v1/sessions/{id}/media``."""
        with self._lock:
            return self._scenario.add_media(session_id, stored, host=self.host)

    def submit(self, session_id: str, body: JsonObject) -> JsonObject:
        """Answer ``PATCH /v1/sessions/{id}``."""
        with self._lock:
            answer, effects = self._scenario.submit(session_id, body, now=self.clock.now(), host=self.host)
            self._note(effects)
        return answer

    def decision(self, session_id: str) -> JsonObject:
        """Answer ``GET /v1/sessions/{id}/decision``."""
        with self._lock:
            return self._scenario.decision(session_id)

    def decide(self, session_id: str, verdict: Verdict) -> None:
        """Decide about a session; see `Scenario.decide`."""
        with self._lock:
            self._note(self._scenario.decide(session_id, verdict, now=self.clock.now()))

    def view(self, session_id: str) -> SessionView:
        """Show a session."""
        with self._lock:
            return self._scenario.view(session_id)

    def views(self) -> tuple[SessionView, ...]:
        """Show all sessions."""
        with self._lock:
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
        if self.on_request is not None:
            self.on_request(request)

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
        if self.on_delivery is not None:
            self.on_delivery(delivery)

    def due(self) -> list[Parcel]:
        """Let happen what is due, and return the webhooks that are to be posted now."""
        parcels: list[Parcel] = []
        with self._lock:
            while self._agenda and self._agenda[0][0] <= self.clock.now():
                item = heapq.heappop(self._agenda)[2]
                if isinstance(item, Parcel):
                    parcels.append(item)
                else:
                    self._note(self._scenario.come(item, now=self.clock.now()))
        return parcels

    def next_due(self) -> datetime | None:
        """Return when something is due next."""
        with self._lock:
            return self._agenda[0][0] if self._agenda else None

    def _note(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Due):
                self._plan(effect.at, effect)
            elif self.webhook_url is not None:
                self._plan(self.clock.now(), self._packed(self.webhook_url, effect))
        if effects:
            self._nudge()

    def _packed(self, url: str, post: Post) -> Parcel:
        return packed(url, post.body, credentials=self.credentials, rules=self.rules, now=self.clock.now())

    def _plan(self, at: datetime, item: Due | Parcel) -> None:
        heapq.heappush(self._agenda, (at, next(self._order), item))
