"""Operations on sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from veriff_async._protocol.arguments import LARGEST
from veriff_async._protocol.status_transitions import DECIDED
from veriff_async.models.attempt import UserDefinedStatus
from veriff_async.models.decision import RiskLabel
from veriff_async.models.enums import Status
from veriff_async.models.insight import Insight
from veriff_async.models.record import PepSanctionMatch
from veriff_async.models.registry import CurpResult, IneCurpResult, IneResult, TransportationResult
from veriff_async.models.verified import AdditionalVerifiedData, BiometricAuthentication
from veriff_async.models.watchlist import WatchlistScreening
from veriff_async.sandbox._control.errors import ControlError
from veriff_async.sandbox._control.fields import AFTER, TIMEOUT, Field, Json, ListOf, Number, Text, Word, limit_field
from veriff_async.sandbox._control.models import Model
from veriff_async.sandbox._control.operation import FILE, Operation
from veriff_async.sandbox._decision_polls import wait_for_poll
from veriff_async.sandbox._errors import HTTPError, UnknownRecordError
from veriff_async.sandbox._records import SessionPage, SessionView, WebhookKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from veriff_async.sandbox._control.operation import Arguments, Context
    from veriff_async.sandbox._decision_spec import DecisionFields
    from veriff_async.sandbox._records import StoredMedia

__all__ = ("SESSION_OPERATIONS",)

_SESSION: Final = "/sessions/{session_id}"

_DECISION: Final = (
    Field("status", Word(tuple(sorted(DECIDED))), "The decision.", is_required=True),
    Field("reason", Text(), "A sentence; that of the code by default.", is_nullable=True),
    Field(
        "reason_code",
        Number(lowest=-LARGEST, whole=True),
        "Veriff's code, for example 106; a decline and a resubmission have one by default.",
        is_nullable=True,
    ),
    Field(
        "person",
        Json("The person's data as in Veriff's decision, for example firstName; they replace those of creation."),
        "",
        is_nullable=True,
    ),
    Field(
        "document",
        Json("The document's data as in Veriff's decision, for example number; they replace those of creation."),
        "",
        is_nullable=True,
    ),
    Field("risk_score", Number(lowest=-LARGEST), "The risk score, for example 0.9.", is_nullable=True),
    Field("risk_labels", ListOf(Model(RiskLabel)), "The risk labels."),
    Field("insights", ListOf(Model(Insight)), "The insights."),
    Field("additional_verified_data", Model(AdditionalVerifiedData), "Data of registries and of further checks."),
    Field(
        "biometric_authentication",
        Model(BiometricAuthentication),
        "The result of a biometric authentication.",
        is_nullable=True,
    ),
)

_REGISTRIES: Final = (
    Field("ine", Model(IneResult), "The result of the INE registry."),
    Field("curp", Model(CurpResult), "The result of the CURP registry."),
    Field("ine_curp", Model(IneCurpResult), "The combined result of both."),
    Field("transportation", Model(TransportationResult), "The result of the registry of driving licences."),
)


def _session(context: Context, values: Arguments) -> SessionView:
    return context.service.session(values["session_id"])


def _then_show(change: Callable[[Context, Arguments], None]) -> Callable[[Context, Arguments], SessionView]:
    """Return the function that changes a session, and returns its new state."""

    def call(context: Context, values: Arguments) -> SessionView:
        change(context, values)
        return _session(context, values)

    return call


def _media(context: Context, values: Arguments) -> StoredMedia:
    media_id: str = values["media_id"]
    try:
        return context.service.read(lambda scenario: scenario.sessions.find_media(media_id))
    except HTTPError:
        pass
    msg = "The sandbox has no such media: send an id that a session shows."
    raise UnknownRecordError(msg)


def _decide(context: Context, values: Arguments) -> SessionView:
    fields = {name: value for name, value in values.items() if name not in {"session_id", "status"}}
    context.changes.decide(values["session_id"], values["status"], cast("DecisionFields", fields))
    return _session(context, values)


def _complete_registry_check(context: Context, values: Arguments) -> SessionView:
    given = [each.name for each in _REGISTRIES if each.name in values]
    if len(given) != 1:
        names = ", ".join(each.name for each in _REGISTRIES)
        raise ControlError(422, f"The input must have the result of one registry: send one of {names}.")
    context.changes.complete_registry_check(values["session_id"], values[given[0]])
    return _session(context, values)


async def _wait_until_waiting(context: Context, values: Arguments) -> object:
    try:
        await wait_for_poll(context.service.expect_poll(values["session_id"]), values.get("timeout", 10))
    except TimeoutError:
        return {"is_waiting": False}
    return {"is_waiting": True}


SESSION_OPERATIONS: Final = (
    Operation(
        "find_sessions",
        "GET",
        "/sessions",
        "List sessions, newest first.",
        lambda context, values: context.service.find_sessions(**values),
        SessionPage,
        query=(
            Field("status", Word(tuple(Status)), "Only sessions in this status."),
            Field("search", Text(max_length=1000), "Only sessions with these words in names, vendor data or ids."),
            AFTER,
            limit_field(default=50, highest=1000),
        ),
        python=("find_sessions", "sessions"),
    ),
    Operation(
        "count_sessions",
        "GET",
        "/sessions/counts",
        "Count the sessions in each status.",
        lambda context, _: {"counts": context.service.count_sessions()},
        {"counts": dict[str, int]},
        python=(),
    ),
    Operation(
        "get_session",
        "GET",
        _SESSION,
        "Show a session with its attempts and pictures.",
        _session,
        SessionView,
        python=("session",),
    ),
    Operation(
        "download_media",
        "GET",
        "/media/{media_id}",
        "Download a picture or another file of a session.",
        _media,
        FILE,
        python=(),
    ),
    Operation(
        "decide",
        "POST",
        _SESSION + "/decide",
        "Decide a session, submitted or not, and post the webhook.",
        _decide,
        SessionView,
        body=_DECISION,
        is_change=True,
    ),
    Operation(
        "start_attempt",
        "POST",
        _SESSION + "/start",
        "Start the attempt, as an end-user does by opening Veriff's page (event 7001).",
        _then_show(lambda context, values: context.changes.start_attempt(values["session_id"])),
        SessionView,
        is_change=True,
    ),
    Operation(
        "open_attempt",
        "POST",
        _SESSION + "/open-attempt",
        "Start another attempt, as an end-user does who opens Veriff's page again (event 7001).",
        lambda context, values: {"attempt_id": context.service.open_attempt(values["session_id"])},
        {"attempt_id": str},
        is_change=True,
    ),
    Operation(
        "submit_attempt",
        "POST",
        _SESSION + "/submit",
        "Submit the attempt, as an end-user does on Veriff's page (event 7002).",
        _then_show(lambda context, values: context.changes.submit_attempt(values["session_id"])),
        SessionView,
        is_change=True,
    ),
    Operation(
        "set_user_status",
        "POST",
        _SESSION + "/user-status",
        "Give the attempt a status, as a user of the Customer Portal can, and post its webhook.",
        _then_show(lambda context, values: context.changes.set_user_status(values["session_id"], values["status"])),
        SessionView,
        body=(Field("status", Model(UserDefinedStatus), "The status.", is_required=True),),
    ),
    Operation(
        "complete_watchlist_screening",
        "POST",
        _SESSION + "/watchlist-screening",
        "Complete the watchlist screening, and post its webhook.",
        _then_show(
            lambda context, values: context.changes.complete_watchlist_screening(
                values["session_id"], values.get("screening")
            )
        ),
        SessionView,
        body=(
            Field(
                "screening",
                Model(WatchlistScreening),
                "The result; no match by default. The sandbox fills in session, person and time.",
            ),
        ),
    ),
    Operation(
        "set_pep_matches",
        "PUT",
        _SESSION + "/pep-matches",
        "Set the matches in lists of politically exposed persons and sanctions.",
        _then_show(lambda context, values: context.changes.set_pep_matches(values["session_id"], values["matches"])),
        SessionView,
        body=(Field("matches", ListOf(Model(PepSanctionMatch)), "The matches.", is_required=True),),
    ),
    Operation(
        "complete_registry_check",
        "POST",
        _SESSION + "/registry-check",
        "Set the result of one registry, and post its webhook.",
        _complete_registry_check,
        SessionView,
        body=_REGISTRIES,
    ),
    Operation(
        "issue_certificate",
        "POST",
        _SESSION + "/certificates",
        "Issue a preservation certificate for the PDFs of a session (NOM-151).",
        lambda context, values: {"certificate_id": context.changes.issue_certificate(values["session_id"])},
        {"certificate_id": str},
        is_change=True,
    ),
    Operation(
        "submit_address",
        "POST",
        _SESSION + "/address",
        "Submit an older proof of address, as an end-user does, and post its webhook.",
        lambda context, values: {"address_id": context.changes.submit_address(values["session_id"])},
        {"address_id": str},
        is_change=True,
    ),
    Operation(
        "resend",
        "POST",
        _SESSION + "/resend",
        "Post the last webhook of a kind again, as a user of the Customer Portal can.",
        lambda context, values: {
            "webhook_id": context.changes.resend(values["session_id"], values.get("kind", "decision"))
        },
        {"webhook_id": str},
        body=(Field("kind", Word(tuple(WebhookKind)), "The kind; `decision` by default."),),
        is_change=True,
    ),
    Operation(
        "wait_until_waiting",
        "POST",
        _SESSION + "/wait-until-waiting",
        "Wait until a client waits for the decision of a session; `is_waiting` is false if time ran out.",
        _wait_until_waiting,
        {"is_waiting": bool},
        body=(TIMEOUT,),
        is_change=True,
        python=("wait_until_waiting", "wait_until_waiting_sync"),
    ),
)
