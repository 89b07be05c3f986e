"""The public names are what they are on purpose, and each is documented."""

from __future__ import annotations

import inspect
import pydoc
import re

import pytest

import veriff_async
from veriff_async import batch, inbox, sandbox, webhooks

ROOMS = {"veriff_async": veriff_async, "sandbox": sandbox, "inbox": inbox, "webhooks": webhooks, "batch": batch}
NAMES = [(room, name) for room, module in ROOMS.items() for name in module.__all__ if name != "__version__"]
PINNED = """
REASONS AdditionalVerifiedData Address AddressEvent AddressFieldObject AddressFraud ApiError Attempt
AuthenticationError BadRequestError BatchError BiometricAuthentication BiometricDetails Browser Certificate
CheckType ClientClosedError CollectedData CollectedReceipt Confidence ConfigurationError ConflictError ConnectError
ConnectTimeoutError Consent ConsentType CpfValidation Credentials CurpEvent CurpResult CurpStatus Decision
DecisionEvent DecisionSource DecisionTimeoutError DeprecatedHostWarning Device Document DocumentType
DownloadProgress DownloadedMedia EndUserIdWarning FaceImage FaceImportReceipt FieldObject FieldSource FieldValue
FraudCategory FraudCategoryInfo FraudReport FraudReportDetails FraudReportLookup FraudReportReceipt FullAutoDecision
FullAutoDocument FullAutoEvent FullAutoPerson Gender ImageSizeWarning InboxError IneBiometricValidation IneCurpEvent
IneCurpResult IneEvent IneRecord IneResult Insight InsightCategory InsightResult JobChangedError JobFailedError
JobTakenError JournalError LegalStatus Listing Listings LookupStatus MatchStatus Media MediaChangedError
MediaContext MediaEmptyError MediaError MediaExistsError MediaFile MediaList MediaNotSavedError MediaReference
MediaSource MediaSourceError MediaStream MediaTooLargeError MediaUnsupportedError MonitorStatus Monitoring Network
NfcData NotFoundError Origin OutcomeUnknownError ParsedAddress PayloadError PayloadTooLargeError PepAlias PepAsset
PepAssociate PepEntity PepField PepHit PepMedia PepSanctionMatch PermissionDeniedError Person PersonRecord
PollPolicy ProofOfAddress RateLimitedError Reason ReasonFamily Reconciled RegistryValidation ReportStatus
RequestTimeoutError ResponseError RetryPolicy RiskCategory RiskLabel RiskLevel SearchTerm ServerError SessionEvent
SignatureCause SignatureError SignatureExplanation SourceDocument Specimen Statistics Status Timeouts Timestamp
TimestampHash TransportError TransportationResult UnknownEvent UploadProgress UploadedMedia UserDefinedStatus
UserStatusEvent ValidationResult VeriffClient VeriffError VerificationSession WatchlistEvent WatchlistHit
WatchlistScreening WebhookError WebhookEvent WebhookReceiver YesNo __version__ check_media dump_json
end_waits_on_signals explain_signature from_json open_session parse_webhook reconcile to_json verify_webhook
"""
PINNED_SANDBOX = """
AttemptView Clock Delivery Fault ImportedFace RealClock Rules Sandbox SeenRequest SessionView StoredMedia
VirtualClock WebhookKind
"""
PINNED_INBOX = "Ignored Inbox MemoryInbox Recorded RedisInbox Retention SessionState SqliteInbox"
PINNED_BATCH = """
BadRow Failure Job JobRecord JobResult Journal MediaRecord MemoryJournal OnUnknown Pace Progress RedisJournal Row
SqliteJournal Stamp Step collect_many read_manifest settle submit_many verify_many verify_one
"""
PINNED_WEBHOOKS = "AsgiWebhooks ReceiverStatistics Reply WebhookReceiver aiohttp_app aiohttp_handler asgi_app"


def test_names_are_pinned() -> None:
    """A name is added or taken away by changing this list too."""
    assert PINNED.split() == list(veriff_async.__all__)
    assert PINNED_SANDBOX.split() == list(sandbox.__all__)
    assert PINNED_INBOX.split() == list(inbox.__all__)
    assert PINNED_WEBHOOKS.split() == list(webhooks.__all__)
    assert PINNED_BATCH.split() == list(batch.__all__)


def test_names_are_there() -> None:
    """Every public name can be imported, is listed by dir(), and no other is made up."""
    for name in veriff_async.__all__:
        assert getattr(veriff_async, name) is not None
    assert sorted(veriff_async.__all__) == dir(veriff_async)
    with pytest.raises(AttributeError, match="no attribute 'Veriff'"):
        veriff_async.Veriff  # type: ignore[attr-defined]  # noqa: B018


def test_help_fits_on_a_few_screens() -> None:
    """`help(veriff_async)` is an overview of names that exist, not every method of every class."""
    text = pydoc.plain(pydoc.render_doc(veriff_async))

    assert len(text.splitlines()) < 120
    assert "wait_for_decision" in text
    names = re.findall(r"\b[A-Z][a-z]+[A-Z]\w+|\b\w+_\w+(?= {2,})", text[: text.index("PACKAGE CONTENTS")])
    unknown = {name for name in names if name not in veriff_async.__all__ and not hasattr(veriff_async, name)}
    assert set() == unknown - {"VERIFF_API_KEY", "VERIFF_SHARED_SECRET"}
    assert sorted(veriff_async.__all__) == dir(veriff_async)


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
        inbox.Inbox.look,
        inbox.Inbox.changes,
        inbox.Inbox.history,
        batch.verify_many,
        batch.submit_many,
        batch.collect_many,
        batch.verify_one,
        batch.read_manifest,
        batch.settle,
    ],
)
def test_calls_say_what_they_raise(call: object) -> None:
    """Every call of the API names its errors with their conditions."""
    words = inspect.getdoc(call) or ""

    assert "Raises:" in words
