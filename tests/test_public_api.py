"""The public names: pinned, importable and documented."""

from __future__ import annotations

import inspect
import pydoc
import re
from typing import TYPE_CHECKING

import pytest

import veriff_async
from veriff_async import batch, blocking, erasure, inbox, models, sandbox, webhooks

if TYPE_CHECKING:
    from types import ModuleType


def get_names(module: ModuleType) -> tuple[str, ...]:
    """Return ``__all__``, which type checkers do not see on modules that import their names lazily."""
    names: tuple[str, ...] = vars(module)["__all__"]
    return names


MODULES = {
    "veriff_async": veriff_async,
    "models": models,
    "sandbox": sandbox,
    "inbox": inbox,
    "webhooks": webhooks,
    "batch": batch,
    "blocking": blocking,
    "erasure": erasure,
}
NAMES = [(package, name) for package, module in MODULES.items() for name in get_names(module) if name != "__version__"]
PINNED = """
Address AddressEvent ApiError AuthenticationError BadRequestError BatchError Browser CallNext CallOptions
CallRequest CallResponse CheckName CheckOutcome CheckReport CheckResult ClientClosedError ClientOptions
ClientStatistics CollectedData ConfigurationError ConflictError ConnectError ConnectTimeoutError Consent ConsentType
Credentials CurpEvent Decision DecisionEvent DecisionSource DecisionTimeoutError DecodeError Delivery DeliveryPolicy
DeprecatedHostWarning Device Document DocumentType DownloadProgress DownloadedMedia EndUserIdWarning ErasureError
FaceBox FaceImage FraudReport FullAutoEvent ImageSizeWarning InboxError IneCurpEvent IneEvent InspectionThresholds
Integration Integrations InvalidArgumentError JobChangedError JobClaimedError JobFailedError JournalError KeyRing
LeaseLostError Media MediaChangedError MediaContext MediaEmptyError MediaError MediaExistsError MediaInspection
MediaNotSavedError MediaQualityError MediaQualityWarning MediaSourceError MediaStream MediaTooLargeError
MediaUnsupportedError Middleware Network NfcData NotFoundError OutcomeUnknownError PayloadTooLargeError
PermissionDeniedError Person PictureCheck PictureThresholds PollPolicy ProblemDetails ProofOfAddress
RateLimitedError ReconcileResult RequestTimeoutError ResponseError RetryPolicy ServerError SessionEvent
SessionLimitError SessionWatch SignatureError Status Timeouts TransportError UnknownEvent UploadProgress
UploadedMedia UserStatusEvent VeriffClient VeriffError VerificationSession WatchlistEvent WebhookError WebhookEvent
WebhookPayloadError WebhookReceiver __version__ check_media converter dump_json end_waits_on_signals
explain_signature from_json inspect_media open_session parse_webhook problem_details reconcile to_json
verify_webhook
"""
PINNED_MODELS = """
AdditionalVerifiedData Address AddressEvent AddressFieldObject AddressFraud Attempt BiometricAuthentication
BiometricDetails Browser Certificate CheckName CheckType CheckVerdict CollectedData CollectedReceipt Confidence
Consent ConsentType CpfValidation CurpEvent CurpResult CurpStatus Decision DecisionEvent DecisionSource Device
Document DocumentType DownloadProgress DownloadedMedia FaceBox FaceDetector FaceImage FaceImportReceipt FacePicture
FieldObject FieldSource FieldValue FraudCategory FraudCategoryInfo FraudReport FraudReportDetails FraudReportLookup
FraudReportReceipt FullAutoDecision FullAutoDocument FullAutoEvent FullAutoPerson Gender IneBiometricValidation
IneCurpEvent IneCurpResult IneEvent IneRecord IneResult Insight InsightCategory InsightResult LegalStatus Listing
Listings LookupStatus MatchStatus Media MediaContext MediaFile MediaInspection MediaList MediaReference MediaSource
Model MonitorStatus Monitoring Network NfcData ParsedAddress PepAlias PepAsset PepAssociate PepEntity PepField PepHit
PepMedia PepSanctionMatch Person PersonRecord PictureCheck ProofOfAddress REASONS Reason ReasonFamily
RegistryValidation ReportStatus RiskCategory RiskLabel RiskLevel SearchTerm SessionEvent SourceDocument Specimen
Status Timestamp TimestampHash TransportationResult UnknownEvent UploadProgress UploadedMedia UserDefinedStatus
UserStatusEvent ValidationResult WatchlistEvent WatchlistHit WatchlistScreening WebhookEvent YesNo
"""
PINNED_SANDBOX = """
AttemptView ChaosProfile Clock Delay Delivery Fault FaultEntry GapEntry ImportedFace Outage RealClock
ReceivedRequest Recorder Replay RequestChaos RequestEntry Sandbox SandboxOptions SandboxRules SessionEntry SessionPage
SessionView SettingEntry SignatureVerdict StoredMedia TLSFiles Timeline TimelineEntry TimelineKind VirtualClock
WaitingFault WebhookChaos WebhookEntry WebhookKind WebhookState WebhookView
"""
PINNED_INBOX = """
Delivery DeliveryInbox DeliveryOutcome DeliveryRecord DeliveryStatus ErasableInbox IgnoredReason Inbox InboxStatistics
MemoryInbox PostgresInbox RecordResult RedisInbox ReplayedEvent Retention SearchableInbox SessionPage SessionSearch
SessionState SessionSummary SqliteInbox StoredEvent SubmissionInbox TransactionalInbox apply_event dump_event
dump_state export_events iter_events iter_sessions load_event load_state replay_events requeue_events retry_dead
"""
PINNED_BATCH = """
BatchPlan BatchProgress ErasableJournal FileFingerprint InvalidRow Job JobFailure JobRecord JobResult JobState Journal
ManifestRow MediaRecord MemoryJournal OnUnknown PostgresJournal RateLimits RedisJournal SessionLimits SessionUsage
SqliteJournal collect_many dump_record load_record plan_many read_manifest resolve_unknown submit_many verify_many
verify_one
"""
PINNED_ERASURE = """
ErasableStore ErasureQueue ErasureReceipt ResultsFile RetentionItem SessionFiles VeriffErasure forget plan_retention
resume_erasures
"""
PINNED_BLOCKING = "BlockingClient BlockingMediaStream BlockingSession open_client open_session"
PINNED_WEBHOOKS = """
AsgiWebhooks IntegrationReceiver IntegrationStatistics Receiver ReceiverOptions ReceiverStatistics SignatureCause
SignatureExplanation UnrecoverableError WebhookReceiver WebhookResponse WebhookVerification aiohttp_app aiohttp_handler
asgi_app
"""


def test_names_are_pinned() -> None:
    """A name is added or removed only together with an edit of these lists."""
    assert PINNED.split() == list(get_names(veriff_async))
    assert PINNED_MODELS.split() == list(get_names(models))
    assert PINNED_SANDBOX.split() == list(get_names(sandbox))
    assert PINNED_INBOX.split() == list(get_names(inbox))
    assert PINNED_WEBHOOKS.split() == list(get_names(webhooks))
    assert PINNED_BLOCKING.split() == list(get_names(blocking))
    assert PINNED_BATCH.split() == list(get_names(batch))
    assert PINNED_ERASURE.split() == list(get_names(erasure))


def test_names_can_be_imported() -> None:
    """Every public name can be imported and is listed by dir(), and an unknown name raises `AttributeError`."""
    for name in get_names(veriff_async):
        assert getattr(veriff_async, name) is not None
    assert sorted(get_names(veriff_async)) == dir(veriff_async)
    with pytest.raises(AttributeError, match="no attribute 'Veriff'"):
        veriff_async.Veriff  # type: ignore[attr-defined]  # noqa: B018


def test_help_fits_on_a_few_screens() -> None:
    """`help(veriff_async)` is a short overview of existing names, without every method of every class."""
    text = pydoc.plain(pydoc.render_doc(veriff_async))

    assert len(text.splitlines()) < 120
    assert "wait_for_decision" in text
    names = re.findall(r"\b[A-Z][a-z]+[A-Z]\w+|\b\w+_\w+(?= {2,})", text[: text.index("PACKAGE CONTENTS")])
    unknown = {name for name in names if name not in get_names(veriff_async) and not hasattr(veriff_async, name)}
    assert set() == unknown - set(get_names(models)) - {"VERIFF_API_KEY", "VERIFF_SHARED_SECRET"}
    assert sorted(get_names(veriff_async)) == dir(veriff_async)


@pytest.mark.parametrize(("package", "name"), NAMES)
def test_names_are_documented(package: str, name: str) -> None:
    """Every public class and function, and every public method of a class, has a docstring."""
    member = getattr(MODULES[package], name)
    # Values and type aliases have their docstring below the assignment, which cannot be read at run time.
    assert inspect.getdoc(member) or not (inspect.isclass(member) or inspect.isroutine(member))
    if inspect.isclass(member) and not issubclass(member, Exception):
        for attribute, value in vars(member).items():
            if not attribute.startswith("_") and (inspect.isroutine(value) or isinstance(value, property)):
                assert inspect.getdoc(value), f"{name}.{attribute}"


@pytest.mark.parametrize(
    "call",
    [
        veriff_async.VeriffClient.create_session,
        veriff_async.VeriffClient.verify,
        veriff_async.VerificationSession.upload,
        veriff_async.VerificationSession.submit,
        veriff_async.VerificationSession.decision,
        veriff_async.VerificationSession.wait_for_decision,
        veriff_async.VerificationSession.watch,
        veriff_async.VerificationSession.delete,
        veriff_async.VerificationSession.download_all,
        veriff_async.VerificationSession.send_collected_data,
        veriff_async.VerificationSession.upload_nfc,
        veriff_async.VeriffClient.download_media,
        veriff_async.VeriffClient.report_fraud,
        veriff_async.VeriffClient.validate_registry,
        veriff_async.inspect_media,
        veriff_async.from_json,
        veriff_async.to_json,
        veriff_async.dump_json,
        veriff_async.parse_webhook,
        veriff_async.verify_webhook,
        veriff_async.reconcile,
        veriff_async.WebhookReceiver.receive,
        inbox.Inbox.record,
        inbox.Inbox.get_states,
        inbox.Inbox.subscribe,
        inbox.Inbox.get_events,
        batch.verify_many,
        batch.submit_many,
        batch.collect_many,
        batch.verify_one,
        batch.read_manifest,
        batch.resolve_unknown,
    ],
)
def test_calls_document_their_errors(call: object) -> None:
    """The docstring of every call of the API has a section "Raises"."""
    words = inspect.getdoc(call) or ""

    assert "Raises:" in words
