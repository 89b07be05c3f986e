"""The state of the sandbox behind one lock, and what each endpoint does with it.

Threads
    HTTP handlers and the scheduler run in the server's event loop. Methods of `Sandbox` are called from any thread: a
    test that uses ``with Sandbox()`` runs in another thread than the server. Both sides call this class, and nothing
    else is shared between them. `SandboxService._lock` is the only lock for this state. It is held for a few steps of
    pure code, never while anything waits for the network, a disk or an event loop. It is not reentrant, so no method
    that takes it calls another one that does; `on_request` and `on_delivery` are called after it was released, because
    these functions may call the sandbox.

Time
    The agenda is a heap of (time, order, item). An item is a `Due`, something that happens to a session, or a
    `PendingWebhook`. `_at_present` runs every item that is due, each at its own time, before anything else reads or
    changes the state. So no observer can see that the scheduler was late, and `Sandbox.advance` over a week gives the
    same result as a week of real time. The order number makes items of the same time run first in, first out.

Transactions
    `_at_present` wraps each change in `Scenario.transaction`: an exception restores every session that the change has
    touched. `_schedule` does everything that can fail before it changes the agenda.

Webhooks
    A webhook that is due moves from the agenda to `_outbox`. The scheduler takes the outbox (`take_webhooks`), which
    moves it to `_in_flight`, and reports each attempt (`record_delivery`), which puts a webhook that failed back on the
    agenda. Webhooks start in the order of their events. They are posted side by side, as Veriff does, so a slow
    receiver may see them in another order. A webhook is always in one of agenda, outbox and in-flight list; therefore
    a stop loses none, and `resume` posts again what was in flight.
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

from attrs import field, frozen

from veriff_async._protocol.json.encode import dump_json
from veriff_async.errors import InvalidArgumentError
from veriff_async.models.json import EMPTY, JsonObject
from veriff_async.models.registry import CurpResult, IneCurpResult, IneResult, TransportationResult
from veriff_async.sandbox import _session_data, _validation
from veriff_async.sandbox._errors import HTTPError
from veriff_async.sandbox._face_import import FaceCollection
from veriff_async.sandbox._faults import Faults
from veriff_async.sandbox._fraud import FraudReports
from veriff_async.sandbox._rate_limit import TokenBucket
from veriff_async.sandbox._records import view
from veriff_async.sandbox._scenario import Due, Post, Scenario
from veriff_async.sandbox._webhooks import PendingWebhook, build_webhook, is_delivered

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from datetime import datetime

    from veriff_async.credentials import Credentials
    from veriff_async.sandbox._clock import Clock
    from veriff_async.sandbox._face_import import ImportedFace
    from veriff_async.sandbox._faults import Fault
    from veriff_async.sandbox._options import SandboxOptions
    from veriff_async.sandbox._records import (
        Delivery,
        ReceivedRequest,
        RegistryResult,
        Session,
        SessionView,
        StoredMedia,
        WebhookKind,
    )
    from veriff_async.sandbox._scenario import Effect

__all__ = ("ApiRequest", "SandboxService")

_T = TypeVar("_T")

_log: Final = logging.getLogger(__name__)

# Number of requests and deliveries that are kept for tests. It bounds the memory of a sandbox that runs for weeks.
_MAX_RECORDS: Final = 10_000


@frozen(kw_only=True)
class ApiRequest:
    """A request whose API key and signature are valid.

    Attributes:
        ids: The ids in the path, by the names in the pattern of the route.
        query: The query parameters.
        body: The body; empty for requests without one.
        media: The file of an upload, already on disk.
    """

    ids: Mapping[str, str] = field(factory=dict[str, str])
    query: Mapping[str, str] = field(factory=dict[str, str])
    body: JsonObject = EMPTY
    media: tuple[StoredMedia, ...] = ()

    @property
    def id(self) -> str:
        """The id that the path names first, which is the signed one."""
        return self.ids["id"]


class SandboxService:
    """All sessions of a sandbox, and the agenda of future events."""

    def __init__(
        self,
        *,
        options: SandboxOptions,
        credentials: Credentials,
        clock: Clock,
        scenario: Scenario,
        wake: Callable[[], None],
    ) -> None:
        """Start with an empty agenda.

        Args:
            options: The behaviour that can be chosen.
            credentials: The credentials that requests must be signed with.
            clock: The time.
            scenario: The sessions.
            wake: Called, from any thread and while the lock is held, when something may be due.
        """
        self.options = options
        self.credentials = credentials
        self.clock = clock
        self.host = ""
        self.webhook_urls: dict[WebhookKind, str] = {}
        self.on_request: Callable[[ReceivedRequest], None] | None = None
        self.on_delivery: Callable[[Delivery], None] | None = None
        self._scenario = scenario
        self._frauds = FraudReports(self._find_reported, new_id=scenario.new_id)
        self._faces = FaceCollection(options.face_quota)
        self._wake_scheduler = wake
        self._lock = Lock()
        self._faults = Faults()
        self._bucket = TokenBucket(options.requests_per_second)
        self._requests: deque[ReceivedRequest] = deque(maxlen=_MAX_RECORDS)
        self._deliveries: deque[Delivery] = deque(maxlen=_MAX_RECORDS)
        self._agenda: list[tuple[datetime, int, Due | PendingWebhook]] = []
        self._order = count()
        self._outbox: list[PendingWebhook] = []
        self._in_flight: list[PendingWebhook] = []

    # Endpoints: `ROUTES` names the method and the path of each.

    def create_session(self, request: ApiRequest) -> JsonObject:
        """Create a session."""
        return self._apply(lambda now: self._scenario.create(request.body, now=now, host=self.host))

    def submit_session(self, request: ApiRequest) -> JsonObject:
        """Submit the attempt of a session."""
        return self._apply(lambda now: self._scenario.submit(request.id, request.body, now=now, host=self.host))

    def delete_session(self, request: ApiRequest) -> JsonObject:
        """Delete a session."""
        return self._apply(lambda now: self._scenario.delete(request.id, now=now))

    def upload_media(self, request: ApiRequest) -> JsonObject:
        """Add an uploaded file to the attempt of a session."""
        (stored,) = request.media
        return self._apply(lambda _: self._scenario.add_media(request.id, stored, host=self.host))

    def validate_registry(self, request: ApiRequest) -> JsonObject:
        """Create a session that is submitted immediately; its decision comes by webhook."""
        return self._apply(lambda now: self._scenario.validate_registry(request.body, now=now, host=self.host))

    def validate_registry_sync(self, request: ApiRequest) -> JsonObject:
        """Create a session and respond with its decision."""
        with self._at_present() as now:
            return self._scenario.validate_registry_sync(request.body, now=now)

    def decision(self, request: ApiRequest) -> JsonObject:
        """Return the decision of a session."""
        with self._at_present():
            return self._scenario.decision(request.id)

    def full_auto_decision(self, request: ApiRequest) -> JsonObject:
        """Return the decision of an integration that decides without a human."""
        with self._at_present():
            return self._scenario.full_auto_decision(request.id)

    def session_media(self, request: ApiRequest) -> JsonObject:
        """List the media of the newest attempt that has any."""
        return self.read_session(
            request.id, lambda session: _session_data.media(session.shown, session, self.host, with_chips=True)
        )

    def attempt_media(self, request: ApiRequest) -> JsonObject:
        """List the media of an attempt."""
        with self._at_present():
            _validation.check_id(request.id)
            # A linear search: a sandbox holds few sessions, and an index would have to follow transactions.
            for session in self._scenario.sessions:
                for attempt in session.attempts:
                    if attempt.id == request.id.lower() and not session.deleted:
                        return _session_data.media(attempt, session, self.host, with_chips=False)
        raise HTTPError(404, None, "Attempt not found")

    def download_media(self, request: ApiRequest) -> StoredMedia:
        """Find a file by the id of its media."""
        with self._at_present():
            _validation.check_id(request.id)
            for session in self._scenario.sessions:
                for stored in view(session).media:
                    if stored.id == request.id.lower() and not session.deleted:
                        return stored
        raise HTTPError(404, None, "Media not found")

    def certificates(self, request: ApiRequest) -> JsonObject:
        """List the certificates of a session."""
        return self.read_session(request.id, lambda session: _session_data.certificates(session, self.host))

    def download_certificate_file(self, request: ApiRequest) -> StoredMedia:
        """Find a file that a certificate is about."""
        certificate_id, file_id = request.ids["certificate_id"], request.ids["file_id"]
        return self.read_session(
            request.id, lambda session: _session_data.certificate_file(session, certificate_id, file_id)
        )

    def attempts(self, request: ApiRequest) -> JsonObject:
        """List the attempts of a session."""
        return self.read_session(request.id, _session_data.attempts)

    def person(self, request: ApiRequest) -> JsonObject:
        """Return the person of a session."""
        return self.read_session(request.id, _session_data.person)

    def timestamps(self, request: ApiRequest) -> JsonObject:
        """Return the timestamps of a session's media."""
        return self.read_session(request.id, _session_data.timestamps)

    def watchlist_screening(self, request: ApiRequest) -> JsonObject:
        """Return the watchlist screening of a session."""
        return self.read_session(request.id, _session_data.watchlist_screening)

    def stop_monitoring(self, request: ApiRequest) -> JsonObject:
        """Stop the monitoring of a person."""
        return self.read_session(request.id, lambda session: _session_data.stop_monitoring(session, request.body))

    def send_collected_data(self, request: ApiRequest) -> JsonObject:
        """Store data of the end-user's device."""
        return self.read_session(request.id, lambda session: _session_data.collect(session, request.body))

    def ine_registry(self, request: ApiRequest) -> JsonObject:
        """Return the result of the INE registry."""
        return self._read_registry(request, IneResult)

    def curp_registry(self, request: ApiRequest) -> JsonObject:
        """Return the result of the CURP registry."""
        return self._read_registry(request, CurpResult)

    def ine_curp_registry(self, request: ApiRequest) -> JsonObject:
        """Return the combined result of both registries."""
        return self._read_registry(request, IneCurpResult)

    def transportation_registry(self, request: ApiRequest) -> JsonObject:
        """Return the result of the registry of driving licences."""
        return self._read_registry(request, TransportationResult)

    def address(self, request: ApiRequest) -> JsonObject:
        """Return an older proof of address."""
        return self._read_address(request, _session_data.address)

    def address_media(self, request: ApiRequest) -> JsonObject:
        """List the media of an older proof of address."""
        return self._read_address(
            request, lambda session: _session_data.media(session.shown, session, self.host, with_chips=False)
        )

    def import_faces(self, request: ApiRequest) -> JsonObject:
        """Import faces for comparison."""
        with self._at_present() as now:
            return self._faces.import_faces(request.body, now=now)

    def fraud_categories(self, _: ApiRequest) -> JsonObject:
        """List the categories of fraud."""
        return self._answer_feedback(lambda frauds, _: frauds.categories())

    def report_fraud(self, request: ApiRequest) -> JsonObject:
        """Report sessions as fraud."""
        return self._answer_feedback(lambda frauds, now: frauds.report(request.body, now=now))

    def fraud_reports(self, request: ApiRequest) -> JsonObject:
        """Return earlier reports of fraud."""
        return self._answer_feedback(lambda frauds, _: frauds.retrieve(request.body))

    def read_session(self, session_id: str, question: Callable[[Session], _T]) -> _T:
        """Answer a question about the session that a request names."""
        with self._at_present():
            return question(self._scenario.find(session_id))

    # What HTTP handlers and faults need besides.

    def check_upload(self, session_id: str) -> None:
        """Refuse an upload to a session that accepts none."""
        with self._at_present():
            self._scenario.check_upload(session_id)

    def next_fault(self, method: str, path: str) -> Fault | None:
        """Return how a request is to fail: by a fault that a test has injected, or by the rate limit."""
        with self._lock:
            # An injected fault has priority, and takes no token of the rate limit.
            return self._faults.take(method, path) or self._bucket.take(self.clock.now().timestamp())

    def record_request(self, request: ReceivedRequest) -> None:
        """Record a request that was answered."""
        with self._lock:
            self._requests.append(request)
        _call(self.on_request, request)

    # What tests read and change, by `Sandbox`.

    def view(self, session_id: str) -> SessionView:
        """Show a session."""
        with self._at_present():
            return view(self._scenario.get(session_id))

    def views(self) -> tuple[SessionView, ...]:
        """Show all sessions."""
        with self._at_present():
            return tuple(view(session) for session in self._scenario.sessions)

    @property
    def requests(self) -> tuple[ReceivedRequest, ...]:
        """The last requests."""
        with self._lock:
            return tuple(self._requests)

    @property
    def deliveries(self) -> tuple[Delivery, ...]:
        """The last attempts to deliver webhooks."""
        with self._lock:
            return tuple(self._deliveries)

    @property
    def imported_faces(self) -> tuple[ImportedFace, ...]:
        """The imported faces."""
        with self._lock:
            return tuple(self._faces.faces)

    def change(self, session_id: str, change: Callable[[Scenario, Session, datetime], Sequence[Effect]]) -> None:
        """Change a session.

        Raises:
            InvalidArgumentError: The session does not exist, or this change is not possible.
        """
        with self._at_present() as now:
            self._schedule(change(self._scenario, self._scenario.get(session_id), now), now)

    def resend(self, session_id: str, kind: WebhookKind) -> None:
        """Post the last webhook of a kind again.

        Raises:
            InvalidArgumentError: The session does not exist, or it has had no webhook of this kind.
        """
        with self._at_present() as now:
            body = self._scenario.get(session_id).posted.get(kind)
            if body is None:
                msg = f"The session has had no webhook of kind {kind}, so none can be posted again."
                raise InvalidArgumentError(msg)
            self._schedule([Post(session_id, kind, body)], now)

    def inject(self, fault: Fault, *, method: str | None, path: str | None, times: int) -> None:
        """Add a fault."""
        with self._lock:
            self._faults.inject(fault, method=method, path=path, times=times)

    def clear_faults(self) -> None:
        """Remove the faults that have not happened yet."""
        with self._lock:
            self._faults.clear()

    # What the scheduler and the server call.

    def catch_up(self) -> None:
        """Run what has become due since the clock was moved."""
        with self._at_present():
            self._wake_scheduler()

    def take_webhooks(self) -> list[PendingWebhook]:
        """Run what is due, and return the webhooks to be posted now."""
        with self._at_present():
            webhooks, self._outbox = self._outbox, []
            self._in_flight += webhooks
        return webhooks

    def record_delivery(self, webhook: PendingWebhook, delivery: Delivery) -> None:
        """Record an attempt to deliver, and schedule the next one if the receiver did not accept the webhook."""
        with self._lock:
            # Compared by identity: two webhooks with equal content are two deliveries.
            self._in_flight = [other for other in self._in_flight if other is not webhook]
            self._deliveries.append(delivery)
            retry_at = self.clock.now() + timedelta(seconds=self.options.webhook_retry_seconds)
            if not is_delivered(delivery) and retry_at <= webhook.expires_at:
                self._push(retry_at, webhook)
        _call(self.on_delivery, delivery)

    def next_due(self) -> datetime | None:
        """Return the time of the next item; ``None`` if the agenda is empty."""
        with self._lock:
            if self._outbox:
                return self.clock.now()
            return self._agenda[0][0] if self._agenda else None

    def resume(self, file_exists: Callable[[StoredMedia], bool]) -> None:
        """Prepare for another start: post interrupted webhooks again, and forget media whose files are gone."""
        with self._lock:
            # Those in flight come first, because they are older.
            self._outbox = self._in_flight + self._outbox
            self._in_flight = []
            self._scenario.forget_media(file_exists)

    @contextmanager
    def _at_present(self) -> Generator[datetime]:
        """Hold the lock, run everything that is due, and open a transaction; yield the time."""
        with self._lock:
            now = self.clock.now()
            # An item may schedule another one that is due as well, so the heap is read again each time.
            while self._agenda and self._agenda[0][0] <= now:
                due_at, _, item = heapq.heappop(self._agenda)
                if isinstance(item, PendingWebhook):
                    self._outbox.append(item)
                else:
                    with self._scenario.transaction():
                        self._schedule(self._scenario.run_due(item, now=due_at), due_at)
            with self._scenario.transaction():
                yield now

    def _apply(self, step: Callable[[datetime], tuple[JsonObject, Sequence[Effect]]]) -> JsonObject:
        """Run a request that changes sessions, schedule its effects, and return its response."""
        with self._at_present() as now:
            response, effects = step(now)
            self._schedule(effects, now)
        return response

    def _read_registry(self, request: ApiRequest, kind: type[RegistryResult]) -> JsonObject:
        version = request.query.get("version")
        return self.read_session(request.id, lambda session: _session_data.registry(session, kind, version))

    def _read_address(self, request: ApiRequest, question: Callable[[Session], JsonObject]) -> JsonObject:
        with self._at_present():
            for session in self._scenario.sessions:
                if session.address_id == request.id and not session.deleted:
                    return question(session)
        raise HTTPError(404, None, "Address not found")

    def _answer_feedback(self, question: Callable[[FraudReports, datetime], JsonObject]) -> JsonObject:
        with self._at_present() as now:
            self._frauds.count_request(now)
            return question(self._frauds, now)

    def _find_reported(self, session_id: str) -> Session | None:
        try:
            return self._scenario.find(session_id)
        except HTTPError:
            return None

    def _schedule(self, effects: Sequence[Effect], now: datetime) -> None:
        # Everything that can fail comes before the first change of the agenda, which no transaction restores.
        items = [item for effect in effects for item in self._to_agenda(effect, now)]
        for due_at, item in items:
            self._push(due_at, item)
        if effects:
            self._wake_scheduler()

    def _to_agenda(self, effect: Effect, now: datetime) -> list[tuple[datetime, Due | PendingWebhook]]:
        if isinstance(effect, Due):
            if effect.post is not None:
                dump_json(effect.post.body)
            return [(effect.at, effect)]
        # Serialised even if no URL is set, so that a value without JSON fails now: GET requests return the same body.
        dump_json(effect.body)
        self._scenario.get(effect.session_id).posted[effect.kind] = effect.body
        url = self.webhook_urls.get(effect.kind)
        if url is None:
            return []
        return [(now, build_webhook(url, effect.body, credentials=self.credentials, options=self.options, now=now))]

    def _push(self, due_at: datetime, item: Due | PendingWebhook) -> None:
        heapq.heappush(self._agenda, (due_at, next(self._order), item))


def _call(function: Callable[[_T], None] | None, argument: _T) -> None:
    if function is None:
        return
    try:
        function(argument)
    except Exception:  # noqa: BLE001  an error in a test's own function must not change what the sandbox does
        _log.exception("The on_request or on_delivery function of the sandbox has failed.")
