"""The actions of endpoints, tests and people in the sandbox: one method for each, which the control API calls as well.

ServiceCore      the sessions, the agenda and the webhooks behind one lock, and what happens at which time
  ServiceState     the state as a whole: rules, seed, reset, snapshots
    SandboxService   sessions, requests, faults and chaos
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from attrs import evolve

from veriff_async.models.enums import Status
from veriff_async.sandbox._arguments import check_number, check_text, check_word
from veriff_async.sandbox._chaos.engine import NORMAL_REQUEST, ChaosEngine
from veriff_async.sandbox._errors import ImpossibleChangeError
from veriff_async.sandbox._records import view
from veriff_async.sandbox._scenario import Post, Scenario
from veriff_async.sandbox._service_core import call_safely
from veriff_async.sandbox._service_state import ServiceState
from veriff_async.sandbox._timeline_entries import FaultEntry, SettingEntry, shorten_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from datetime import datetime

    from veriff_async.models.json import JsonObject
    from veriff_async.sandbox._chaos.engine import RequestPlan
    from veriff_async.sandbox._chaos.profile import ChaosProfile
    from veriff_async.sandbox._face_import import ImportedFace
    from veriff_async.sandbox._faults import Fault, WaitingFault
    from veriff_async.sandbox._fraud import FraudReports
    from veriff_async.sandbox._records import (
        Delivery,
        ReceivedRequest,
        Session,
        SessionPage,
        SessionView,
        WebhookKind,
    )
    from veriff_async.sandbox._scenario import Effect

__all__ = ("SandboxService",)

_T = TypeVar("_T")

# Sessions on one page, which are shown while the lock is held.
_MAX_PAGE: Final = 1000


class SandboxService(ServiceState):
    """The state of a sandbox, and everything that can be done with it."""

    # Called by endpoints and other HTTP handlers.

    def apply(self, step: Callable[[Scenario, datetime], tuple[JsonObject, Sequence[Effect]]]) -> JsonObject:
        """Carry out a request that changes sessions, schedule its effects, and return its response."""
        with self._at_present() as now:
            response, effects = step(self._scenario, now)
            self._schedule(effects, now)
        return response

    def read(self, question: Callable[[Scenario], _T]) -> _T:
        """Answer a question about the sessions; it must not change them."""
        with self._to_read():
            return question(self._scenario)

    def read_session(self, session_id: str, question: Callable[[Session], _T]) -> _T:
        """Answer a question about the session that a request names; it must not change the session."""
        with self._to_read():
            return question(self._scenario.sessions.find(session_id))

    def change_session(self, session_id: str, change: Callable[[Session], _T]) -> _T:
        """Change the session that a request names, without effects."""
        with self._at_present():
            return change(self._scenario.sessions.find(session_id))

    def record_poll(self, session_id: str) -> None:
        """Record that a client asks for the decision of the session that a request names."""
        # Without a transaction: clients wait after a 404 as well, which would undo it.
        with self._to_read():
            self._polls.record(self._scenario.sessions.find(session_id))

    def import_faces(self, body: JsonObject) -> JsonObject:
        """Answer an import of faces."""
        with self._at_present() as now:
            return self._faces.import_faces(body, now=now)

    def answer_feedback(self, question: Callable[[FraudReports, datetime], JsonObject]) -> JsonObject:
        """Answer a request to the feedback API."""
        with self._at_present() as now:
            self._frauds.count_request(now)
            return question(self._frauds, now)

    def owner_of(self, id_: str) -> str | None:
        """Return the id of the session that an id names, or one of its attempts, files and addresses."""
        with self._lock:
            return self._scenario.sessions.owner_of(id_)

    def check_upload(self, session_id: str) -> None:
        """Refuse an upload to a session that accepts none."""
        with self._to_read():
            self._scenario.check_upload(session_id)

    def plan_request(self, method: str, path: str, endpoint: str) -> RequestPlan:
        """Return how a request is to fail, and how long its response takes.

        Args:
            method: HTTP method.
            path: Path.
            endpoint: Method and path with the names of its ids, by which a chaos profile counts requests.
        """
        with self._lock:
            now = self.clock.now()
            plan = NORMAL_REQUEST
            if self._chaos is not None:
                plan = self._chaos.plan_request(method, path, endpoint, now=now)
            # An injected fault has priority, and takes no token of the rate limit.
            injected = self._faults.take(method, path)
            if injected is not None:
                return evolve(plan, fault=injected, cause="injected fault")
            limit = None if plan.fault is not None else self._bucket.take(now.timestamp())
            return plan if limit is None else evolve(plan, fault=limit, cause="requests_per_second")

    @property
    def chaos(self) -> ChaosProfile | None:
        """The chaos profile; setting one starts it now."""
        with self._lock:
            return None if self._chaos is None else self._chaos.profile

    @chaos.setter
    def chaos(self, profile: ChaosProfile | None) -> None:
        with self._lock:
            is_same = self._chaos is None and profile is None
            self._chaos = None if profile is None else ChaosEngine(profile, now=self.clock.now())
        if not is_same:
            self.record(partial(SettingEntry, setting="chaos", change="none" if profile is None else profile.name))

    def restart_chaos(self) -> None:
        """Start the chaos profile again, if there is one: outages and counts begin now."""
        with self._lock:
            self._restart_chaos()

    def record_request(self, request: ReceivedRequest) -> None:
        """Record a request that was answered."""
        with self._lock:
            self._requests.append(request)
        call_safely(self.on_request, request)

    # Read and changed by tests, through `Sandbox`.

    def session(self, session_id: str) -> SessionView:
        """Show a session.

        Raises:
            InvalidArgumentError: The session does not exist.
        """
        with self._to_read():
            return view(self._scenario.sessions.get(session_id))

    def sessions(self) -> tuple[SessionView, ...]:
        """Show all sessions, oldest first."""
        with self._to_read():
            return self._scenario.sessions.views()

    def find_sessions(
        self,
        *,
        status: Status | str | None = None,
        search: str = "",
        after: str | None = None,
        limit: int = 50,
    ) -> SessionPage:
        """Show one page of sessions; see `Sandbox.find_sessions`.

        Raises:
            InvalidArgumentError: An argument has the wrong type, is unknown or is out of range.
        """
        if status is not None:
            check_word("status", status, Status)
        check_text("search", search)
        check_number("limit", limit, lowest=1, highest=_MAX_PAGE, whole=True)
        if after is not None:
            check_text("after", after)
        with self._to_read():
            return self._scenario.sessions.page(
                status=None if status is None else Status(status), search=search, after=after, limit=limit
            )

    def count_sessions(self) -> dict[Status, int]:
        """Return the number of sessions in each status, also of statuses that no session has."""
        with self._to_read():
            return self._scenario.sessions.counts(tuple(Status))

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
        """Change a session."""
        with self._at_present() as now:
            self._schedule(change(self._scenario, self._scenario.sessions.get(session_id), now), now)

    def open_attempt(self, session_id: str) -> str:
        """Start another attempt of a session, and return its id."""
        with self._at_present() as now:
            session = self._scenario.sessions.get(session_id)
            self._schedule(self._scenario.open_attempt(session, now=now), now)
            return session.attempt.id

    def resend(self, session_id: str, kind: WebhookKind) -> str:
        """Post the last webhook of a kind again, and return the id of the new webhook.

        Raises:
            InvalidArgumentError: The session does not exist, or it has had no webhook of this kind.
        """
        with self._at_present() as now:
            body = self._scenario.sessions.get(session_id).posted.get(kind)
            if body is None:
                msg = f"The session has had no webhook of kind {kind}, so none can be posted again."
                raise ImpossibleChangeError(msg)
            return self._schedule([Post(session_id, kind, body)], now)[0].id

    def expect_poll(self, session_id: str) -> Future[None]:
        """Return a future that is done when a client waits for the decision; see `DecisionPolls.expect`."""
        with self._to_read():
            return self._polls.expect(self._scenario.sessions.get(session_id))

    def inject(self, fault: Fault, *, method: str | None = None, path: str | None = None, times: int = 1) -> int:
        """Add a fault, and return its id."""
        with self._lock:
            fault_id = self._faults.inject(fault, method=method, path=path, times=times)
        shown = None if path is None else shorten_path(path)
        self.record(partial(FaultEntry, change="injected", fault=fault.name, times=times, method=method, path=shown))
        return fault_id

    @property
    def faults(self) -> tuple[WaitingFault, ...]:
        """The faults that have not happened yet, in the order of their injection."""
        with self._lock:
            return self._faults.waiting

    def remove_fault(self, fault_id: int) -> None:
        """Remove one fault; see `Sandbox.remove_fault`."""
        with self._lock:
            self._faults.remove(fault_id)
        self.record(partial(FaultEntry, change="removed", fault="one", times=1))

    def clear_faults(self) -> None:
        """Remove the faults that have not happened yet."""
        with self._lock:
            count = self._faults.clear()
        self.record(partial(FaultEntry, change="cleared", fault="all", times=count))
