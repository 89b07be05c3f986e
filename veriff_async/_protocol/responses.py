"""One pure function for each endpoint, named as its request: the answer in, a model out, or the right error.

Every one of them raises `ApiError` when Veriff refused, and `ResponseError` for a success that cannot be read. Models
that few programs use are imported where they are read: making their classes takes a tenth of aiohttp's time to load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import evolve

from veriff_async._protocol.response import is_refusal, model_in, models_from, models_in, refusal, success, unreadable
from veriff_async._protocol.validation import is_id
from veriff_async.models.decision import Decision
from veriff_async.models.json import EMPTY, as_object
from veriff_async.models.media import MediaList, Timestamp, UploadedMedia
from veriff_async.models.session import SessionInfo

if TYPE_CHECKING:
    from veriff_async._protocol.response import Answer
    from veriff_async.models.attempt import Attempt
    from veriff_async.models.certificate import Certificate
    from veriff_async.models.collected import CollectedReceipt
    from veriff_async.models.faces import FaceImportReceipt
    from veriff_async.models.feedback import FraudCategoryInfo, FraudReportLookup, FraudReportReceipt
    from veriff_async.models.fullauto import FullAutoDecision
    from veriff_async.models.json import JsonObject
    from veriff_async.models.record import PersonRecord
    from veriff_async.models.registry import CurpResult, IneCurpResult, IneResult, TransportationResult
    from veriff_async.models.watchlist import Monitoring, WatchlistScreening

__all__ = (
    "address",
    "address_media",
    "attempt_media",
    "attempts",
    "certificates",
    "create_session",
    "curp_registry",
    "decision",
    "delete_session",
    "fraud_categories",
    "fraud_reports",
    "full_auto_decision",
    "import_faces",
    "ine_curp_registry",
    "ine_registry",
    "person",
    "report_fraud",
    "send_collected_data",
    "session_media",
    "stop_monitoring",
    "submit_session",
    "timestamps",
    "transportation_registry",
    "upload_media",
    "upload_nfc",
    "validate_registry",
    "validate_registry_sync",
    "watchlist_screening",
)

_WRONG_TRANSITION: Final = "1304"
_NOT_FOUND: Final = 404
_TAKEN: Final = ("success", "submitted")


def create_session(answer: Answer) -> SessionInfo:
    """Read the answer to ``POST /v1/sessions``."""
    info = model_in(answer, SessionInfo, success(answer).get("verification"), "$.verification")
    if not is_id(info.id):
        raise unreadable(answer, ("expected an id @ $.verification.id",))
    return info


def submit_session(answer: Answer) -> SessionInfo | None:
    """Read the answer to ``PATCH /v1/sessions/{id}``.

    Returns:
        The session; or ``None`` when the answer reports success without describing it, or when Veriff says that it
        cannot be submitted from where it is, and an earlier try of this very call may be why: then it is submitted.
    """
    if answer.repeated and is_refusal(answer) and refusal(answer).code == _WRONG_TRANSITION:
        return None
    root = success(answer)
    described = as_object(root.get("verification")) or EMPTY
    # The reference shows the whole session; servers that stand in for Veriff were seen to answer with less.
    is_taken = described.get("status", root.get("status")) in _TAKEN
    if "id" not in described and is_taken:
        return None
    return create_session(answer)


def delete_session(answer: Answer) -> None:
    """Read the answer to ``DELETE /v1/sessions/{id}``: a session that an earlier try has deleted is not found."""
    if not (answer.repeated and answer.status == _NOT_FOUND):
        success(answer)


def upload_media(answer: Answer) -> UploadedMedia:
    """Read the answer to ``POST /v1/sessions/{id}/media``."""
    return _uploaded(answer, "image")


def upload_nfc(answer: Answer) -> UploadedMedia:
    """Read the answer to an upload of what was read from a chip; the name of its member is a guess."""
    return _uploaded(answer, "nfcDocument")


def session_media(answer: Answer) -> MediaList:
    """Read the answer to ``GET /v1/sessions/{id}/media``."""
    return model_in(answer, MediaList, success(answer))


attempt_media = session_media
"""Read the answer to ``GET /v1/attempts/{id}/media``, which has the same form."""


def certificates(answer: Answer) -> tuple[Certificate, ...]:
    """Read the answer to ``GET /v1/sessions/{id}/certificates``; that the list is in ``certificates`` is a guess."""
    from veriff_async.models.certificate import Certificate

    root = success(answer)
    inner = root.get("data", root)
    described = as_object(inner)
    found = inner if described is None else described.get("certificates")
    return models_from(answer, Certificate, found, "certificates")


def import_faces(answer: Answer) -> FaceImportReceipt:
    """Read the answer to ``POST /v1/faces/import``; whether it has a ``data`` member is a guess."""
    from veriff_async.models.faces import FaceImportReceipt

    root = success(answer)
    return model_in(answer, FaceImportReceipt, root if "availableQuota" in root else _inner(root))


def send_collected_data(answer: Answer) -> CollectedReceipt:
    """Read the answer to ``POST /v1/sessions/{id}/collected-data``; whether it has a ``data`` member is a guess."""
    from veriff_async.models.collected import CollectedReceipt

    return model_in(answer, CollectedReceipt, _inner(success(answer)))


def attempts(answer: Answer) -> tuple[Attempt, ...]:
    """Read the answer to ``GET /v1/sessions/{id}/attempts``, newest first; its list is named ``verifications``."""
    from veriff_async.models.attempt import Attempt

    return models_in(answer, Attempt, "verifications")


def decision(answer: Answer) -> Decision | None:
    """Read the answer to ``GET /v1/sessions/{id}/decision``: ``None`` while there is no decision."""
    root = success(answer)
    return None if root.get("verification") is None else model_in(answer, Decision, root)


def full_auto_decision(answer: Answer) -> FullAutoDecision | None:
    """Read the answer to ``GET /v1/sessions/{id}/decision/fullauto``: ``None`` while there is no decision.

    That an undecided session is not found, and that the answer is flat where the webhook is not, was seen in other
    clients; both forms are read.
    """
    if answer.status == _NOT_FOUND:
        return None
    root = success(answer)
    from veriff_async.models.fullauto import FullAutoDecision

    return model_in(answer, FullAutoDecision, as_object(_inner(root).get("verification")) or root)


def ine_registry(answer: Answer) -> IneResult:
    """Read the answer to ``GET /v1/sessions/{id}/decision/ine-registry``; its root is a guess."""
    from veriff_async.models.registry import IneResult

    return model_in(answer, IneResult, _inner(success(answer)))


def curp_registry(answer: Answer) -> CurpResult:
    """Read the answer to ``GET /v1/sessions/{id}/decision/curp-registry``."""
    from veriff_async.models.registry import CurpResult

    return model_in(answer, CurpResult, success(answer))


def ine_curp_registry(answer: Answer) -> IneCurpResult:
    """Read the answer to ``GET /v1/sessions/{id}/decision/combined-ine-curp-registry``."""
    from veriff_async.models.registry import IneCurpResult

    return model_in(answer, IneCurpResult, success(answer))


def person(answer: Answer) -> PersonRecord:
    """Read the answer to ``GET /v1/sessions/{id}/person``."""
    from veriff_async.models.record import PersonRecord

    return model_in(answer, PersonRecord, success(answer).get("person"), "$.person")


def watchlist_screening(answer: Answer) -> WatchlistScreening:
    """Read the answer to ``GET /v1/sessions/{id}/watchlist-screening``."""
    from veriff_async.models.watchlist import WatchlistScreening

    return model_in(answer, WatchlistScreening, success(answer).get("data"), "$.data")


def stop_monitoring(answer: Answer) -> Monitoring:
    """Read the answer to ``PATCH /v1/sessions/{id}/watchlist-screening``."""
    from veriff_async.models.watchlist import Monitoring

    return model_in(answer, Monitoring, success(answer).get("data"), "$.data")


validate_registry = create_session
"""Read the answer to ``POST /v1/validate-registry``, which has the form of a new session."""


def validate_registry_sync(answer: Answer) -> Decision:
    """Read the answer to ``POST /v1/validate-registry`` of the synchronous host; that it is a decision is a guess."""
    return model_in(answer, Decision, success(answer))


def fraud_categories(answer: Answer) -> tuple[FraudCategoryInfo, ...]:
    """Read the answer to ``GET /v1/feedback/fraud-categories``."""
    from veriff_async.models.feedback import FraudCategoryInfo

    return models_in(answer, FraudCategoryInfo, "categories")


def report_fraud(answer: Answer) -> tuple[FraudReportReceipt, ...]:
    """Read the answer to ``POST /v1/feedback/fraud-reports``: one receipt for each report."""
    from veriff_async.models.feedback import FraudReportReceipt

    return models_in(answer, FraudReportReceipt, "reports")


def fraud_reports(answer: Answer) -> tuple[FraudReportLookup, ...]:
    """Read the answer to ``POST /v1/feedback/fraud-reports/retrieve``."""
    from veriff_async.models.feedback import FraudReportLookup

    return models_in(answer, FraudReportLookup, "reports")


def timestamps(answer: Answer) -> tuple[Timestamp, ...]:
    """Read the answer to ``GET /v1/sessions/{id}/timestamps``; seen in an older client."""
    return models_in(answer, Timestamp, "timestamps")


def transportation_registry(answer: Answer) -> TransportationResult:
    """Read the answer to ``GET /v1/transportation-registry/{id}``; its form is a guess."""
    from veriff_async.models.registry import TransportationResult

    return model_in(answer, TransportationResult, _inner(success(answer)))


address = decision
"""Read the answer to ``GET /v1/address/{id}``; that it is a decision is a guess."""

address_media = session_media
"""Read the answer to ``GET /v1/address/{id}/media``; that it is a list of media is a guess."""


def _uploaded(answer: Answer, member: str) -> UploadedMedia:
    uploaded = model_in(answer, UploadedMedia, success(answer).get(member), f"$.{member}")
    return evolve(uploaded, repeated=True) if answer.repeated else uploaded


def _inner(root: JsonObject) -> JsonObject:
    """Return what an answer is about, whether it stands at its root or in ``data``."""
    return as_object(root.get("data", root)) or EMPTY
