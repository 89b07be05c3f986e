"""Everything the sandbox knows, behind one lock: asked by the HTTP side and by tests, from any thread.

The lock is held for a few steps of pure code, never while anything waits.
"""

from __future__ import annotations

import heapq
import logging
from collections import deque
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from threading import Lock
from typing import TYPE_CHECKING, Final, TypeVar

from veriff_async._protocol.json.encode import dump_json
from veriff_async.errors import InvalidArgumentError
from veriff_async.sandbox import _session_data, _validation
from veriff_async.sandbox._errors import Refusal
from veriff_async.sandbox._face_import import FaceDesk
from veriff_async.sandbox._faults import Faults
from veriff_async.sandbox._fraud import FraudDesk
from veriff_async.sandbox._rate_limit import Turnstile
from veriff_async.sandbox._records import view
from veriff_async.sandbox._scenario import Due, Post, Scenario
from veriff_async.sandbox._webhooks import Parcel, delivered, packed

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from datetime import datetime

    from veriff_async.credentials import Credentials
    from veriff_async.models.json import JsonObject
    from veriff_async.sandbox._clock import Clock
    from veriff_async.sandbox._face_import import ImportedFace
    from veriff_async.sandbox._faults import Fault
    from veriff_async.sandbox._options import SandboxOptions
    from veriff_async.sandbox._records import Delivery, ReceivedRequest, Session, SessionView, StoredMedia, WebhookKind
    from veriff_async.sandbox._scenario import Effect

__all__ = ("Desk",)

_T = TypeVar("_T")

_log: Final = logging.getLogger(__name__)

_REMEMBERED: Final = 10_000
"""Requests and deliveries that are kept for tests to look at."""


class Desk:
    """The sandbox's memory, and its list of what is to happen when."""

    def __init__(
        self,
        *,
        options: SandboxOptions,
        credentials: Credentials,
        clock: Clock,
        scenario: Scenario,
        nudge: Callable[[], None],
    ) -> None:
        """Take what it is made of; `nudge` is called when something may have become due."""
        self.options = options
        self.credentials = credentials
        self.clock = clock
        self.host = ""
        self.webhook_urls: dict[WebhookKind, str] = {}
        self.on_request: Callable[[ReceivedRequest], None] | None = None
        self.on_delivery: Callable[[Delivery], None] | None = None
        self._scenario = scenario
        self._frauds = FraudDesk(self._reported, new_id=scenario.new_id)
        self._faces = FaceDesk(options.face_quota)
        self._nudge = nudge
        self._lock = Lock()
        self._faults = Faults()
        self._turnstile = Turnstile(options.requests_per_second)
        self._requests: deque[ReceivedRequest] = deque(maxlen=_REMEMBERED)
        self._deliveries: deque[Delivery] = deque(maxlen=_REMEMBERED)
        self._agenda: list[tuple[datetime, int, Due | Parcel]] = []
        self._order = count()
        self._outbox: list[Parcel] = []
        self._under_way: list[Parcel] = []

    def create(self, body: JsonObject) -> JsonObject:
        """Answer ``POST /v1/sessions``."""
        return self._done(lambda now: self._scenario.create(body, now=now, host=self.host))

    def validate_registry(self, body: JsonObject) -> JsonObject:
        """Answer ``POST /v1/validate-registry``."""
        return self._done(lambda now: self._scenario.validate_registry(body, now=now, host=self.host))

    def validate_registry_sync(self, body: JsonObject) -> JsonObject:
        """Answer ``POST /v1/validate-registry`` of the synchronous host."""
        with self._present() as now:
            return self._scenario.validate_registry_sync(body, now=now)

    def check_upload(self, session_id: str) -> None:
        """Refuse an upload to a session that takes none."""
        with self._present():
            self._scenario.check_upload(session_id)

    def add_media(self, session_id: str, stored: StoredMedia) -> JsonObject:
        """Answer ``POST /v1/sessions/{id}/media``."""
        return self._done(lambda _: self._scenario.add_media(session_id, stored, host=self.host))

    def submit(self, session_id: str, body: JsonObject) -> JsonObject:
        """Answer ``PATCH /v1/sessions/{id}``."""
        return self._done(lambda now: self._scenario.submit(session_id, body, now=now, host=self.host))

    def delete(self, session_id: str) -> JsonObject:
        """Answer ``DELETE /v1/sessions/{id}``."""
        return self._done(lambda now: self._scenario.delete(session_id, now=now))

    def decision(self, session_id: str) -> JsonObject:
        """Answer ``GET /v1/sessions/{id}/decision``."""
        with self._present():
            return self._scenario.decision(session_id)

    def full_auto_decision(self, session_id: str) -> JsonObject:
        """Answer ``GET /v1/sessions/{id}/decision/fullauto``."""
        with self._present():
            return self._scenario.full_auto_decision(session_id)

    def ask(self, session_id: str, question: Callable[[Session], _T]) -> _T:
        """Answer a request about one session."""
        with self._present():
            return question(self._scenario.find(session_id))

    def ask_address(self, address_id: str, question: Callable[[Session], _T]) -> _T:
        """Answer a request about an older proof of address."""
        with self._present():
            for session in self._scenario.sessions:
                if session.address_id == address_id and not session.deleted:
                    return question(session)
        raise Refusal(404, None, "Address not found")

    def session_media(self, session_id: str) -> JsonObject:
        """Answer ``GET /v1/sessions/{id}/media``: the newest attempt that anything was uploaded to."""
        with self._present():
            session = self._scenario.find(session_id)
            return _session_data.media(session.shown, session, self.host, with_chips=True)

    def attempt_media(self, attempt_id: str) -> JsonObject:
        """Answer ``GET /v1/attempts/{id}/media``."""
        with self._present():
            _validation.check_id(attempt_id)
            for session in self._scenario.sessions:
                for attempt in session.attempts:
                    if attempt.id == attempt_id.lower() and not session.deleted:
                        return _session_data.media(attempt, session, self.host, with_chips=False)
        raise Refusal(404, None, "Attempt not found")

    def address_media(self, address_id: str) -> JsonObject:
        """Answer ``GET /v1/address/{id}/media``."""
        return self.ask_address(
            address_id, lambda session: _session_data.media(session.shown, session, self.host, with_chips=False)
        )

    def stored_media(self, media_id: str) -> StoredMedia:
        """Find a file for ``GET /v1/media/{id}``."""
        with self._present():
            _validation.check_id(media_id)
            for session in self._scenario.sessions:
                for stored in view(session).media:
                    if stored.id == media_id.lower() and not session.deleted:
                        return stored
        raise Refusal(404, None, "Media not found")

    def feedback(self, question: Callable[[FraudDesk, datetime], JsonObject]) -> JsonObject:
        """Answer a request to the feedback API."""
        with self._present() as now:
            self._frauds.count(now)
            return question(self._frauds, now)

    def import_faces(self, body: JsonObject) -> JsonObject:
        """Answer ``POST /v1/faces/import``."""
        with self._present() as now:
            return self._faces.import_faces(body, now=now)

    @property
    def imported_faces(self) -> tuple[ImportedFace, ...]:
        """The faces that were imported."""
        with self._lock:
            return tuple(self._faces.faces)

    def change(self, session_id: str, change: Callable[[Scenario, Session, datetime], Sequence[Effect]]) -> None:
        """Let a test change something about a session.

        Raises:
            InvalidArgumentError: There is no such session, or it cannot be changed like that.
        """
        with self._present() as now:
            self._note(change(self._scenario, self._scenario.known(session_id), now), now)

    def resend(self, session_id: str, kind: WebhookKind) -> None:
        """Post a webhook again, as somebody can in the Customer Portal.

        Raises:
            InvalidArgumentError: There is no such session, or nothing of that kind was posted about it.
        """
        with self._present() as now:
            body = self._scenario.known(session_id).posted.get(kind)
            if body is None:
                msg = f"Nothing of the kind {kind} was posted about this session, so nothing can be posted again."
                raise InvalidArgumentError(msg)
            self._note([Post(session_id, kind, body)], now)

    def view(self, session_id: str) -> SessionView:
        """Show a session."""
        with self._present():
            return view(self._scenario.known(session_id))

    def views(self) -> tuple[SessionView, ...]:
        """Show all sessions."""
        with self._present():
            return tuple(view(session) for session in self._scenario.sessions)

    def arm(self, fault: Fault, *, method: str | None, path: str | None, times: int) -> None:
        """Let something go wrong."""
        with self._lock:
            self._faults.arm(fault, method=method, path=path, times=times)

    def take_fault(self, method: str, path: str) -> Fault | None:
        """Return what goes wrong with a request."""
        with self._lock:
            return self._faults.take(method, path) or self._turnstile.refusal(self.clock.now().timestamp())

    def saw(self, request: ReceivedRequest) -> None:
        """Remember a request."""
        with self._lock:
            self._requests.append(request)
        _tell(self.on_request, request)

    @property
    def requests(self) -> tuple[ReceivedRequest, ...]:
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
            self._under_way = [other for other in self._under_way if other is not parcel]
            self._deliveries.append(delivery)
            again = self.clock.now() + timedelta(seconds=self.options.webhook_retry_seconds)
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
            self._under_way += parcels
        return parcels

    def resume(self, is_there: Callable[[StoredMedia], bool]) -> None:
        """Begin to serve again: what a stop has interrupted is delivered at once, and lost files are forgotten."""
        with self._lock:
            self._outbox = self._under_way + self._outbox
            self._under_way = []
            self._scenario.forget_media(is_there)

    def next_due(self) -> datetime | None:
        """Return when something is due next."""
        with self._lock:
            if self._outbox:
                return self.clock.now()
            return self._agenda[0][0] if self._agenda else None

    @contextmanager
    def _present(self) -> Generator[datetime]:
        """Hold the lock at a moment up to which everything has happened, each thing at its own time.

        The block changes the sessions completely, or not at all if it raises.
        """
        with self._lock:
            now = self.clock.now()
            while self._agenda and self._agenda[0][0] <= now:
                at, _, item = heapq.heappop(self._agenda)
                if isinstance(item, Parcel):
                    self._outbox.append(item)
                else:
                    with self._scenario.transaction():
                        self._note(self._scenario.come(item, now=at), at)
            with self._scenario.transaction():
                yield now

    def _done(self, step: Callable[[datetime], tuple[JsonObject, Sequence[Effect]]]) -> JsonObject:
        with self._present() as now:
            answer, effects = step(now)
            self._note(effects, now)
        return answer

    def _reported(self, session_id: str) -> Session | None:
        try:
            return self._scenario.find(session_id)
        except Refusal:
            return None

    def _note(self, effects: Sequence[Effect], now: datetime) -> None:
        # Everything that can fail comes before the first change of the agenda.
        planned = [item for effect in effects for item in self._planned(effect, now)]
        for at, item in planned:
            self._plan(at, item)
        if effects:
            self._nudge()

    def _planned(self, effect: Effect, now: datetime) -> list[tuple[datetime, Due | Parcel]]:
        if isinstance(effect, Due):
            if effect.post is not None:
                dump_json(effect.post.body)
            return [(effect.at, effect)]
        # Written even if nothing is posted: the same body answers requests.
        dump_json(effect.body)
        self._scenario.known(effect.session_id).posted[effect.kind] = effect.body
        url = self.webhook_urls.get(effect.kind)
        if url is None:
            return []
        return [(now, packed(url, effect.body, credentials=self.credentials, options=self.options, now=now))]

    def _plan(self, at: datetime, item: Due | Parcel) -> None:
        heapq.heappush(self._agenda, (at, next(self._order), item))


def _tell(follower: Callable[[_T], None] | None, news: _T) -> None:
    if follower is None:
        return
    try:
        follower(news)
    except Exception:  # noqa: BLE001  a mistake in a test's own function; Veriff would go on, and so must the sandbox
        _log.exception("A function that follows the sandbox has failed.")
