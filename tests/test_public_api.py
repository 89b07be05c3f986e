"""The public names are what they are on purpose, and each is documented."""

from __future__ import annotations

import inspect
import pydoc
import re
from typing import TYPE_CHECKING

import pytest

import veriff_async
from veriff_async import batch, inbox, models, sandbox, webhooks

if TYPE_CHECKING:
    from types import ModuleType


def names_of(module: ModuleType) -> tuple[str, ...]:
    """Return ``__all__``, which type checkers do not see on modules that load their names on first use."""
    names: tuple[str, ...] = vars(module)["__all__"]
    return names


ROOMS = {
    "veriff_async": veriff_async,
    "models": models,
    "sandbox": sandbox,
    "inbox": inbox,
    "webhooks": webhooks,
    "batch": batch,
}
NAMES = [(room, name) for room, module in ROOMS.items() for name in names_of(module) if name != "__version__"]
PINNED = """
Address AddressEvent ApiError AuthenticationError BadRequestError BatchError Browser ClientClosedError ClientOptions
ClientStatistics CollectedData ConfigurationError ConflictError ConnectError ConnectTimeoutError Consent ConsentType
Credentials CurpEvent Decision DecisionEvent DecisionSource DecisionTimeoutError DecodeError DeprecatedHostWarning
Device Document DocumentType DownloadProgress DownloadedMedia EndUserIdWarning FaceImage FraudReport FullAutoEvent
ImageSizeWarning InboxError IneCurpEvent IneEvent InvalidArgumentError JobChangedError JobClaimedError
JobFailedError JournalError Media MediaChangedError MediaContext MediaEmptyError MediaError MediaExistsError
MediaNotSavedError MediaSourceError MediaStream MediaTooLargeError MediaUnsupportedError Network NfcData
NotFoundError OutcomeUnknownError PayloadTooLargeError PermissionDeniedError Person PollPolicy ProofOfAddress
RateLimitedError ReconcileResult RequestTimeoutError ResponseError RetryPolicy ServerError SessionEvent
SignatureError Status Timeouts TransportError UnknownEvent UploadProgress UploadedMedia UserStatusEvent VeriffClient
VeriffError VerificationSession WatchlistEvent WebhookError WebhookEvent WebhookPayloadError WebhookReceiver
__version__ check_media dump_json end_waits_on_signals explain_signature from_json open_session parse_webhook
reconcile to_json verify_webhook
"""
PINNED_MODELS = """
AdditionalVerifiedData Address AddressEvent AddressFieldObject AddressFraud Attempt BiometricAuthentication
BiometricDetails Browser Certificate CheckType CollectedData CollectedReceipt Confidence Consent ConsentType
CpfValidation CurpEvent CurpResult CurpStatus Decision DecisionEvent DecisionSource Device Document DocumentType
DownloadProgress DownloadedMedia FaceImage FaceImportReceipt FieldObject FieldSource FieldValue FraudCategory
FraudCategoryInfo FraudReport FraudReportDetails FraudReportLookup FraudReportReceipt FullAutoDecision
FullAutoDocument FullAutoEvent FullAutoPerson Gender IneBiometricValidation IneCurpEvent IneCurpResult IneEvent
IneRecord IneResult Insight InsightCategory InsightResult LegalStatus Listing Listings LookupStatus MatchStatus Media
MediaContext MediaFile MediaList MediaReference MediaSource MonitorStatus Monitoring Network NfcData ParsedAddress
PepAlias PepAsset PepAssociate PepEntity PepField PepHit PepMedia PepSanctionMatch Person PersonRecord ProofOfAddress
REASONS Reason ReasonFamily RegistryValidation ReportStatus RiskCategory RiskLabel RiskLevel SearchTerm SessionEvent
SourceDocument Specimen Status Timestamp TimestampHash TransportationResult UnknownEvent UploadProgress UploadedMedia
UserDefinedStatus UserStatusEvent ValidationResult WatchlistEvent WatchlistHit WatchlistScreening WebhookEvent YesNo
"""
PINNED_SANDBOX = """
AttemptView Clock Delivery Fault ImportedFace RealClock ReceivedRequest
Sandbox SandboxOptions SessionView StoredMedia VirtualClock
WebhookKind
"""
PINNED_INBOX = """
IgnoredReason Inbox MemoryInbox RecordResult RedisInbox Retention SessionState SqliteInbox apply_event dump_event
dump_state load_event load_state
"""
PINNED_BATCH = """
BatchProgress FileFingerprint InvalidRow Job JobFailure JobRecord JobResult JobState Journal ManifestRow MediaRecord
MemoryJournal OnUnknown RateLimits RedisJournal SqliteJournal collect_many dump_record load_record read_manifest
resolve_unknown submit_many verify_many verify_one
"""
PINNED_WEBHOOKS = """
AsgiWebhooks ReceiverStatistics SignatureCause SignatureExplanation WebhookReceiver WebhookResponse WebhookVerification
aiohttp_app aiohttp_handler asgi_app
"""


def test_names_are_pinned() -> None:
    """A name is added or taken away by changing this list too."""
    assert PINNED.split() == list(names_of(veriff_async))
    assert PINNED_MODELS.split() == list(names_of(models))
    assert PINNED_SANDBOX.split() == list(names_of(sandbox))
    assert PINNED_INBOX.split() == list(names_of(inbox))
    assert PINNED_WEBHOOKS.split() == list(names_of(webhooks))
    assert PINNED_BATCH.split() == list(names_of(batch))


def test_names_are_there() -> None:
    """Every public name can be imported, is listed by dir(), and no other is made up."""
    for name in names_of(veriff_async):
        assert getattr(veriff_async, name) is not None
    assert sorted(names_of(veriff_async)) == dir(veriff_async)
    with pytest.raises(AttributeError, match="no attribute 'Veriff'"):
        veriff_async.Veriff  # type: ignore[attr-defined]  # noqa: B018


def test_help_fits_on_a_few_screens() -> None:
    """`help(veriff_async)` is an overview of names that exist, not every method of every class."""
    text = pydoc.plain(pydoc.render_doc(veriff_async))

    assert len(text.splitlines()) < 120
    assert "wait_for_decision" in text
    names = re.findall(r"\b[A-Z][a-z]+[A-Z]\w+|\b\w+_\w+(?= {2,})", text[: text.index("PACKAGE CONTENTS")])
    unknown = {name for name in names if name not in names_of(veriff_async) and not hasattr(veriff_async, name)}
    assert set() == unknown - set(names_of(models)) - {"VERIFF_API_KEY", "VERIFF_SHARED_SECRET"}
    assert sorted(names_of(veriff_async)) == dir(veriff_async)


@pytest.mark.parametrize(("room", "name"), NAMES)
def test_names_are_documented(room: str, name: str) -> None:
    """Every public class and function, and every public method of a class, has a docstring."""
    thing = getattr(ROOMS[room], name)
    # What is a value or the name of a type is documented where it is assigned, which no program can read.
    assert inspect.getdoc(thing) or not (inspect.isclass(thing) or inspect.isroutine(thing))
    if inspect.isclass(thing) and not issubclass(thing, Exception):
        for member, value in vars(thing).items():
            if not member.startswith("_") and (inspect.isroutine(value) or isinstance(value, property)):
                assert inspect.getdoc(value), f"{name}.{member}"


@pytest.mark.parametrize(
    "call",
    [
        veriff_async.VeriffClient.create_session,
        veriff_async.VeriffClient.verify,
        veriff_async.VerificationSession.upload,
        veriff_async.VerificationSession.submit,
        veriff_async.VerificationSession.decision,
        veriff_async.VerificationSession.wait_for_decision,
        veriff_async.VerificationSession.delete,
        veriff_async.VerificationSession.download_all,
        veriff_async.VerificationSession.send_collected_data,
        veriff_async.VerificationSession.upload_nfc,
        veriff_async.VeriffClient.download_media,
        veriff_async.VeriffClient.report_fraud,
        veriff_async.VeriffClient.validate_registry,
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
def test_calls_say_what_they_raise(call: object) -> None:
    """Every call of the API names its errors with their conditions."""
    words = inspect.getdoc(call) or ""

    assert "Raises:" in words
