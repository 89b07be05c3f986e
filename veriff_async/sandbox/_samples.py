"""Sample webhooks of every kind.

A session runs through the scenario of the sandbox, and the webhooks that it would post are the samples. Pure: ids and
the time are arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import NAMESPACE_URL, uuid5

from attrs import frozen

from veriff_async._protocol.status_transitions import DECIDED
from veriff_async.models.attempt import UserDefinedStatus
from veriff_async.models.enums import Status
from veriff_async.models.registry import CurpResult, CurpStatus, IneCurpResult, IneRecord, IneResult
from veriff_async.models.watchlist import CheckType, MatchStatus, WatchlistScreening
from veriff_async.sandbox import _session_data
from veriff_async.sandbox._decision_spec import DecisionSpec
from veriff_async.sandbox._records import WebhookKind
from veriff_async.sandbox._rules import SandboxOptions, SandboxRules
from veriff_async.sandbox._scenario import Post, Scenario

if TYPE_CHECKING:
    from datetime import datetime

    from veriff_async.models.json import JsonObject
    from veriff_async.sandbox._records import RegistryResult, Session

__all__ = ("STATUSES", "SUBJECTS", "Sample", "samples")

SUBJECTS: Final = {
    WebhookKind.EVENT: "an attempt was started, and was submitted",
    WebhookKind.DECISION: "a session was decided",
    WebhookKind.FULL_AUTO: "a session was decided without a human",
    WebhookKind.WATCHLIST: "a person was looked up in lists",
    WebhookKind.USER_STATUS: "an attempt got a status in the Customer Portal",
    WebhookKind.INE: "Mexico's INE registry responded",
    WebhookKind.CURP: "Mexico's CURP registry responded",
    WebhookKind.INE_CURP: "both registries responded in one message",
    WebhookKind.ADDRESS: "a proof of address was submitted, for older integrations",
}
"""Description of each kind, in the order in which a session may reach them."""

_DECISIONS: Final = tuple(sorted(DECIDED))
STATUSES: Final[dict[WebhookKind, tuple[str, ...]]] = {
    WebhookKind.EVENT: (Status.STARTED, Status.SUBMITTED),
    WebhookKind.DECISION: _DECISIONS,
    WebhookKind.FULL_AUTO: _DECISIONS,
    WebhookKind.WATCHLIST: (MatchStatus.NO_MATCH, MatchStatus.POSSIBLE_MATCH),
}
"""The statuses to choose from; kinds that are missing here have a single one."""

_VERIFICATION: Final[JsonObject] = {
    "person": {"firstName": "Ada", "lastName": "Specimen", "dateOfBirth": "1990-12-10", "nationality": "EE"},
    "document": {"type": "ID_CARD", "country": "EE", "number": "AA0000000"},
}


@frozen
class Sample:
    """One webhook to send; `kind` is a `WebhookKind`, or that of the event for a body of the user's."""

    kind: str
    status: str | None
    body: JsonObject


def samples(
    kind: WebhookKind,
    *,
    session_id: str,
    status: str | None,
    now: datetime,
    vendor_data: str = "veriff-async trigger",
) -> list[Sample]:
    """Return the webhooks of one kind: two for `WebhookKind.EVENT` (started, submitted), else one.

    Args:
        kind: The kind.
        session_id: Session id in the webhooks; all kinds are about the same attempt.
        status: One of `STATUSES` of this kind, or `None` for the most common one.
        now: Time of the event.
        vendor_data: The ``vendorData`` in the webhooks.
    """
    scenario = _scenario(session_id, full_auto=kind == WebhookKind.FULL_AUTO)
    scenario.create({"verification": {**_VERIFICATION, "vendorData": vendor_data}}, now=now, host="")
    session = scenario.sessions.get(session_id)
    if kind == WebhookKind.EVENT:
        words = (Status.STARTED, Status.SUBMITTED)
        posts = [*scenario.start(session, now=now), *scenario.submit_attempt(session, now=now)]
        all_samples = [Sample(kind, word, _body(post)) for word, post in zip(words, posts, strict=True)]
        return [sample for sample in all_samples if status in {None, sample.status}]
    if kind in {WebhookKind.DECISION, WebhookKind.FULL_AUTO}:
        word = status or Status.APPROVED
        posts = scenario.decide(session, DecisionSpec(status=Status(word)), now=now)
        return [Sample(kind, word, _body(post)) for post in posts]
    if kind == WebhookKind.WATCHLIST:
        match = MatchStatus(status or MatchStatus.NO_MATCH)
        screening = WatchlistScreening(match_status=match, check_type=CheckType.INITIAL_RESULT)
        return [
            Sample(kind, match, post.body)
            for post in _session_data.complete_watchlist_screening(session, screening, now=now)
        ]
    return [Sample(kind, None, post.body) for post in _other_webhooks(kind, session, now)]


def _scenario(session_id: str, *, full_auto: bool) -> Scenario:
    # Derived instead of random: the same arguments give the same samples. A resubmission opens a second attempt.
    ids = iter((session_id, *(str(uuid5(NAMESPACE_URL, f"{session_id}/attempts/{index}")) for index in range(2))))
    return Scenario(SandboxRules(options=SandboxOptions(full_auto=full_auto)), new_id=lambda: next(ids))


def _other_webhooks(kind: WebhookKind, session: Session, now: datetime) -> list[Post]:
    """Return a webhook that does not belong to the lifecycle of a session."""
    if kind == WebhookKind.USER_STATUS:
        given = UserDefinedStatus(status="Sample", status_code="sample", reason="Sample reason", reason_code="sample")
        return _session_data.set_user_status(session, given, now=now)
    if kind == WebhookKind.ADDRESS:
        return _session_data.submit_address(session, str(uuid5(NAMESPACE_URL, f"{session.id}/address")))
    curp = CurpResult(status_curp=CurpStatus.AN)
    results: dict[WebhookKind, RegistryResult] = {
        WebhookKind.INE: IneResult(active=True),
        WebhookKind.CURP: curp,
        WebhookKind.INE_CURP: IneCurpResult(ine=IneRecord(active=True), curp=curp),
    }
    return _session_data.complete_registry_check(session, results[kind], now=now)


def _body(effect: object) -> JsonObject:
    assert isinstance(effect, Post), "samples have no delayed effects"  # noqa: S101
    return effect.body
