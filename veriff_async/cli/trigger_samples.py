"""Sample webhooks of every kind, written by the sandbox: a session lives there in no time, and what it posts is taken.

Pure: ids and the time are arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import NAMESPACE_URL, uuid5

from attrs import frozen

from veriff_async._protocol.decision_order import DECIDED
from veriff_async.models.attempt import UserDefinedStatus
from veriff_async.models.enums import Status
from veriff_async.models.registry import CurpResult, CurpStatus, IneCurpResult, IneRecord, IneResult
from veriff_async.models.watchlist import CheckType, MatchStatus, WatchlistScreening
from veriff_async.sandbox import SandboxOptions, WebhookKind, _session_data
from veriff_async.sandbox._decision_spec import DecisionSpec
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
    WebhookKind.USER_STATUS: "somebody gave an attempt a status in the Customer Portal",
    WebhookKind.INE: "Mexico's INE registry has answered",
    WebhookKind.CURP: "Mexico's CURP registry has answered",
    WebhookKind.INE_CURP: "both registries have answered in one message",
    WebhookKind.ADDRESS: "a proof of address was submitted, for integrations of an older make",
}
"""What each kind tells, in the order in which a session may live through them."""

_DECISIONS: Final = tuple(sorted(DECIDED))
STATUSES: Final[dict[WebhookKind, tuple[str, ...]]] = {
    WebhookKind.EVENT: (Status.STARTED, Status.SUBMITTED),
    WebhookKind.DECISION: _DECISIONS,
    WebhookKind.FULL_AUTO: _DECISIONS,
    WebhookKind.WATCHLIST: (MatchStatus.NO_MATCH, MatchStatus.POSSIBLE_MATCH),
}
"""Which statuses the samples of a kind may have; the others have one."""

_CREATION: Final[JsonObject] = {
    "verification": {
        "person": {"firstName": "Ada", "lastName": "Specimen", "dateOfBirth": "1990-12-10", "nationality": "EE"},
        "document": {"type": "ID_CARD", "country": "EE", "number": "AA0000000"},
        "vendorData": "veriff-async trigger",
    }
}


@frozen
class Sample:
    """One webhook to be sent.

    Attributes:
        kind: Its kind.
        status: The word that tells it from others of its kind, where it has one.
        body: The JSON.
    """

    kind: WebhookKind
    status: str | None
    body: JsonObject


def samples(kind: WebhookKind, *, session_id: str, status: str | None, now: datetime) -> list[Sample]:
    """Return the webhooks of one kind: two for an attempt that was started and submitted, else one.

    Args:
        kind: The kind.
        session_id: Whom they are about; all kinds tell of the same attempt.
        status: One of `STATUSES` of this kind, or `None` for what is told most.
        now: When it happens.
    """
    scenario = _scenario(session_id, full_auto=kind == WebhookKind.FULL_AUTO)
    scenario.create(_CREATION, now=now, host="")
    session = scenario.get(session_id)
    if kind == WebhookKind.EVENT:
        words = (Status.STARTED, Status.SUBMITTED)
        posts = [*scenario.start(session), *scenario.submit_attempt(session, now=now)]
        told = [Sample(kind, word, _body(post)) for word, post in zip(words, posts, strict=True)]
        return [sample for sample in told if status in {None, sample.status}]
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
    return [Sample(kind, None, post.body) for post in _told_elsewhere(kind, session, now)]


def _scenario(session_id: str, *, full_auto: bool) -> Scenario:
    made = iter((session_id, *(str(uuid5(NAMESPACE_URL, f"{session_id}/attempts/{place}")) for place in range(2))))
    return Scenario(SandboxOptions(full_auto=full_auto), new_id=lambda: next(made), decide_after=None)


def _told_elsewhere(kind: WebhookKind, session: Session, now: datetime) -> list[Post]:
    """Return what is told of a session beside its life."""
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
    assert isinstance(effect, Post), "nothing of a sample is due later"  # noqa: S101
    return effect.body
