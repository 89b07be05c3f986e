"""Changes of a session, with the checks of their arguments: what `Sandbox`, the control API and the console share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import uuid4

from veriff_async._protocol.option_names import check_names
from veriff_async.models.attempt import UserDefinedStatus
from veriff_async.models.enums import Status
from veriff_async.models.record import PepSanctionMatch
from veriff_async.models.registry import CurpResult, IneCurpResult, IneResult, TransportationResult
from veriff_async.models.watchlist import CheckType, MatchStatus, MonitorStatus, WatchlistScreening
from veriff_async.sandbox import _session_data
from veriff_async.sandbox._arguments import check_model, check_text
from veriff_async.sandbox._decision_spec import DecisionFields, build_decision_spec
from veriff_async.sandbox._records import WebhookKind

if TYPE_CHECKING:
    from veriff_async.sandbox._records import RegistryResult
    from veriff_async.sandbox._service import SandboxService

__all__ = ("SessionChanges",)

_NO_MATCH: Final = WatchlistScreening(
    match_status=MatchStatus.NO_MATCH, check_type=CheckType.INITIAL_RESULT, monitor_status=MonitorStatus.ENABLED
)


class SessionChanges:
    """Changes sessions; each method is documented at the method of `Sandbox` with its name."""

    def __init__(self, service: SandboxService) -> None:
        """Change the sessions of a service."""
        self._service = service

    def decide(self, session_id: str, status: Status | str, fields: DecisionFields) -> None:
        """Decide a session."""
        check_names("decide()", fields, ("session_id", "status", *DecisionFields.__annotations__))
        spec = build_decision_spec(Status(check_text("status", status)), fields)
        self._service.change(session_id, lambda scenario, session, now: scenario.decide(session, spec, now=now))

    def start_attempt(self, session_id: str) -> None:
        """Start the attempt."""
        self._service.change(session_id, lambda scenario, session, now: scenario.start(session, now=now))

    def submit_attempt(self, session_id: str) -> None:
        """Submit the attempt."""
        self._service.change(session_id, lambda scenario, session, now: scenario.submit_attempt(session, now=now))

    def complete_watchlist_screening(self, session_id: str, screening: WatchlistScreening | None) -> None:
        """Complete the watchlist screening."""
        result = _NO_MATCH if screening is None else check_model("screening", screening, WatchlistScreening)
        self._service.change(
            session_id,
            lambda _, session, now: _session_data.complete_watchlist_screening(session, result, now=now),
        )

    def set_pep_matches(self, session_id: str, matches: tuple[PepSanctionMatch, ...]) -> None:
        """Set the matches in lists of politically exposed persons and sanctions."""
        for match in matches:
            check_model("match", match, PepSanctionMatch)
        self._service.change(session_id, lambda _, session, __: _session_data.set_pep_matches(session, matches))

    def set_user_status(self, session_id: str, status: UserDefinedStatus) -> None:
        """Give the attempt a status."""
        check_model("status", status, UserDefinedStatus)
        self._service.change(
            session_id, lambda _, session, now: _session_data.set_user_status(session, status, now=now)
        )

    def complete_registry_check(self, session_id: str, result: RegistryResult) -> None:
        """Set the result of a registry."""
        for kind in (CurpResult, IneCurpResult, TransportationResult):
            if isinstance(result, kind):
                check_model("result", result, kind)
                break
        else:
            check_model("result", result, IneResult)
        self._service.change(
            session_id, lambda _, session, now: _session_data.complete_registry_check(session, result, now=now)
        )

    def issue_certificate(self, session_id: str) -> str:
        """Issue a certificate, and return its id."""
        certificate_id = str(uuid4())
        document_ids = iter(lambda: str(uuid4()), None)
        self._service.change(
            session_id,
            lambda _, session, now: _session_data.issue_certificate(session, certificate_id, document_ids, now=now),
        )
        return certificate_id

    def submit_address(self, session_id: str) -> str:
        """Submit an older proof of address, and return its id."""
        address_id = str(uuid4())
        self._service.change(session_id, lambda _, session, __: _session_data.submit_address(session, address_id))
        return address_id

    def resend(self, session_id: str, kind: WebhookKind | str) -> str:
        """Post the last webhook of a kind again, and return the id of the new one."""
        return self._service.resend(session_id, WebhookKind(check_text("kind", kind)))
