"""What a test lets happen at Veriff's side: end-users, decisions, screenings, registries, the Customer Portal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypedDict, TypeVar, Unpack, cast
from uuid import uuid4

from veriff_async._protocol.arguments import LARGEST
from veriff_async._protocol.json.encode import render
from veriff_async._protocol.option_names import check_names
from veriff_async._protocol.session_request import as_model
from veriff_async.errors import InvalidArgumentError
from veriff_async.models.attempt import UserDefinedStatus
from veriff_async.models.decision import RiskLabel
from veriff_async.models.document import Document
from veriff_async.models.enums import Status
from veriff_async.models.insight import Insight
from veriff_async.models.json import EMPTY
from veriff_async.models.person import Person
from veriff_async.models.record import PepSanctionMatch
from veriff_async.models.registry import CurpResult, IneCurpResult, IneResult, TransportationResult
from veriff_async.models.verified import AdditionalVerifiedData, BiometricAuthentication
from veriff_async.models.watchlist import CheckType, MatchStatus, MonitorStatus, WatchlistScreening
from veriff_async.sandbox import _session_data
from veriff_async.sandbox._arguments import (
    check_members,
    check_model,
    check_number,
    check_text,
)
from veriff_async.sandbox._payloads import Verdict
from veriff_async.sandbox._records import WebhookKind

if TYPE_CHECKING:
    from attrs import AttrsInstance

    from veriff_async.sandbox._service import Desk

__all__ = ("Details", "Stage")

_Model = TypeVar("_Model", bound="AttrsInstance")


class Details(TypedDict, total=False):
    """What a decision may say beside its status."""

    reason: str | None
    reason_code: int | None
    person: Person | Mapping[str, object] | None
    document: Document | Mapping[str, object] | None
    additional_verified_data: AdditionalVerifiedData
    biometric_authentication: BiometricAuthentication | None
    risk_score: float | None
    risk_labels: tuple[RiskLabel, ...]
    insights: tuple[Insight, ...]


class Stage:
    """What can happen to the sessions of a sandbox, from any thread and any loop."""

    _desk: Desk

    def decide(self, session_id: str, status: Status | str, **details: Unpack[Details]) -> None:
        """Decide about a session, submitted or not, and post the webhook.

        Args:
            session_id: The session.
            status: ``approved``, ``declined``, ``resubmission_requested``, ``review``, ``expired`` or ``abandoned``.
            **details: ``reason`` and ``reason_code`` (a decline and a resubmission have one by default), ``person``
                and ``document`` (what is read from the document, over what was given at creation; models, or Veriff's
                own words), ``additional_verified_data``, ``biometric_authentication``, ``risk_score``,
                ``risk_labels`` and ``insights``.

        Raises:
            InvalidArgumentError: There is no such session, it cannot be decided like that, or a value has no JSON; the
                session is as before.
            TypeError: An option is unknown; the message suggests the right name.
        """
        check_names("decide()", details, ("session_id", "status", *Details.__annotations__))
        verdict = _verdict(Status(check_text("status", status)), details)
        self._desk.change(session_id, lambda scenario, session, now: scenario.decide(session, verdict, now=now))

    def start_attempt(self, session_id: str) -> None:
        """Let the end-user open Veriff's page, which starts the attempt (event 7001).

        Raises:
            InvalidArgumentError: There is no such session, or its attempt was started before.
        """
        self._desk.change(session_id, lambda scenario, session, _: scenario.start(session))

    def submit_attempt(self, session_id: str) -> None:
        """Let the end-user submit the attempt on Veriff's page (event 7002).

        Raises:
            InvalidArgumentError: There is no such session, or nothing to submit.
        """
        self._desk.change(session_id, lambda scenario, session, now: scenario.hand_in(session, now=now))

    def complete_watchlist_screening(self, session_id: str, screening: WatchlistScreening | None = None) -> None:
        """Let a screening against lists end, and post its webhook.

        Args:
            session_id: The session.
            screening: What was found; nothing by default. Whose it is and when is filled in.

        Raises:
            InvalidArgumentError: There is no such session.
        """
        found = WatchlistScreening(
            match_status=MatchStatus.NO_MATCH,
            check_type=CheckType.INITIAL_RESULT,
            monitor_status=MonitorStatus.ENABLED,
        )
        if screening is not None:
            found = check_model("screening", screening, WatchlistScreening)
        self._desk.change(session_id, lambda _, session, now: _session_data.screen(session, found, now=now))

    def set_pep_matches(self, session_id: str, *matches: PepSanctionMatch) -> None:
        """Let searches in lists of politically exposed persons and sanctions end; they are told with the person.

        Raises:
            InvalidArgumentError: There is no such session.
        """
        for each in matches:
            check_model("match", each, PepSanctionMatch)
        self._desk.change(session_id, lambda _, session, __: _session_data.match(session, matches))

    def set_user_status(self, session_id: str, status: UserDefinedStatus) -> None:
        """Let somebody give the attempt a status in the Customer Portal, and post its webhook.

        Raises:
            InvalidArgumentError: There is no such session.
        """
        check_model("status", status, UserDefinedStatus)
        self._desk.change(session_id, lambda _, session, now: _session_data.set_user_status(session, status, now=now))

    def complete_registry_check(
        self, session_id: str, result: IneResult | CurpResult | IneCurpResult | TransportationResult
    ) -> None:
        """Let a registry answer, and post its webhook.

        Raises:
            InvalidArgumentError: There is no such session.
        """
        for kind in (CurpResult, IneCurpResult, TransportationResult):
            if isinstance(result, kind):
                check_model("result", result, kind)
                break
        else:
            check_model("result", result, IneResult)
        self._desk.change(
            session_id, lambda _, session, now: _session_data.complete_registry_check(session, result, now=now)
        )

    def issue_certificate(self, session_id: str) -> str:
        """Let a preservation certificate be issued for the PDFs of a session (NOM-151).

        Returns:
            The id of the certificate.

        Raises:
            InvalidArgumentError: There is no such session, or it has no PDF.
        """
        certificate_id = str(uuid4())
        document_ids = iter(lambda: str(uuid4()), None)
        self._desk.change(
            session_id,
            lambda _, session, now: _session_data.issue_certificate(session, certificate_id, document_ids, now=now),
        )
        return certificate_id

    def submit_address(self, session_id: str) -> str:
        """Let the end-user submit an older proof of address, and post its webhook.

        Returns:
            The id of the address.

        Raises:
            InvalidArgumentError: There is no such session, or one was submitted before.
        """
        address_id = str(uuid4())
        self._desk.change(session_id, lambda _, session, __: _session_data.submit_address(session, address_id))
        return address_id

    def resend(self, session_id: str, kind: WebhookKind | str = "decision") -> None:
        """Post the last webhook of a kind again, as somebody can in the Customer Portal.

        Raises:
            InvalidArgumentError: There is no such session, or nothing of that kind was posted about it.
        """
        self._desk.resend(session_id, WebhookKind(check_text("kind", kind)))


def _verdict(status: Status, details: Details) -> Verdict:
    for name in ("reason", "reason_code", "risk_score", "biometric_authentication"):
        value = details.get(name)
        if value is None:
            continue
        if name == "reason":
            check_text(name, value)
        elif name == "biometric_authentication":
            check_model(name, value, BiometricAuthentication)
        else:
            check_number(name, value, lowest=-LARGEST, highest=LARGEST, whole=name == "reason_code")
    additional = details.get("additional_verified_data", AdditionalVerifiedData())
    return Verdict(
        status=status,
        reason=details.get("reason"),
        reason_code=details.get("reason_code"),
        person=_described("person", Person, details.get("person")),
        document=_described("document", Document, details.get("document")),
        additional_verified_data=check_model("additional_verified_data", additional, AdditionalVerifiedData),
        biometric_authentication=details.get("biometric_authentication"),
        risk_score=details.get("risk_score"),
        risk_labels=_models("risk_labels", details.get("risk_labels", ()), RiskLabel),
        insights=_models("insights", details.get("insights", ()), Insight),
    )


def _models(name: str, values: object, kind: type[_Model]) -> tuple[_Model, ...]:
    if isinstance(values, Iterable):
        return tuple(check_model(name, item, kind) for item in cast("Iterable[object]", values))
    msg = f"{name} must be a sequence of {kind.__name__}, not {type(values).__name__}."
    raise InvalidArgumentError(msg)


def _described(
    name: str, kind: type[Person | Document], given: Person | Document | Mapping[str, object] | None
) -> Mapping[str, object]:
    if given is None:
        return EMPTY
    return check_members(name, given if isinstance(given, Mapping) else render(as_model(name, kind, given)))
