"""An asyncio client for Veriff's identity verification; every public name is imported from here.

    async with VeriffClient.from_env() as veriff:
        session = await veriff.create_session(vendor_data="user-42")
        await session.upload(Media("front.jpg", "document-front"), Media("selfie.jpg", "face"))
        await session.submit()
        decision = await session.wait_for_decision()

Calls
    VeriffClient            one for each application: sessions, uploads, decisions, media, fraud reports
    VerificationSession     one verification: upload, submit, wait, download, delete
    open_session            a session with a client of its own, for scripts
    reconcile               find decisions whose webhooks were lost

What they take
    Credentials             API key and secrets; from_env reads VERIFF_API_KEY and VERIFF_SHARED_SECRET
    Media, MediaContext     a picture and what it shows
    Person, Document, Address, Consent and others: what you know of the end user
    RetryPolicy, PollPolicy, Timeouts: how often, how long

What they return
    Decision, Status        the decision of Veriff
    UploadedMedia, DownloadedMedia, MediaList, Attempt, WatchlistScreening and others

Webhooks
    WebhookReceiver         verifies and records what Veriff posts; veriff_async.webhooks has ASGI and aiohttp apps
    parse_webhook, verify_webhook, explain_signature

Errors
    VeriffError             the base of all; veriff_async.errors has the tree
    OutcomeUnknownError     a session may have been created: look before you create another

Modules
    veriff_async.batch      many verifications at once, with a journal
    veriff_async.inbox      where webhooks are recorded: memory, SQLite, Redis
    veriff_async.webhooks   receivers for web frameworks
    veriff_async.sandbox    a local Veriff for tests
    veriff_async.testing    contracts and events for tests of your own code
    veriff_async.cli        the command line: python -m veriff_async

help(veriff_async.VeriffClient) explains a name, and dir(veriff_async) lists all names. They are loaded when they are
first used, so that importing the package, as its pytest plugin does in every test run, costs next to nothing.
"""

from typing import TYPE_CHECKING

from veriff_async.late import late, listed
from veriff_async.version import __version__

if TYPE_CHECKING:
    from veriff_async.client import Statistics, VeriffClient, open_session
    from veriff_async.downloading import MediaStream
    from veriff_async.errors import (
        ApiError,
        AuthenticationError,
        BadRequestError,
        BatchError,
        ClientClosedError,
        ConfigurationError,
        ConflictError,
        ConnectError,
        ConnectTimeoutError,
        DecisionTimeoutError,
        InboxError,
        JobChangedError,
        JobFailedError,
        JobTakenError,
        JournalError,
        MediaChangedError,
        MediaEmptyError,
        MediaError,
        MediaExistsError,
        MediaNotSavedError,
        MediaSourceError,
        MediaTooLargeError,
        MediaUnsupportedError,
        NotFoundError,
        OutcomeUnknownError,
        PayloadError,
        PayloadTooLargeError,
        PermissionDeniedError,
        RateLimitedError,
        RequestTimeoutError,
        ResponseError,
        ServerError,
        SignatureError,
        TransportError,
        VeriffError,
        WebhookError,
    )
    from veriff_async.models.attempt import Attempt, UserDefinedStatus
    from veriff_async.models.certificate import Certificate, SourceDocument
    from veriff_async.models.collected import Browser, CollectedData, CollectedReceipt, Device, Network
    from veriff_async.models.decision import Decision, DecisionSource, RiskCategory, RiskLabel
    from veriff_async.models.document import Document, LegalStatus, Specimen
    from veriff_async.models.enums import DocumentType, Gender, MediaContext, Status, YesNo
    from veriff_async.models.events import (
        AddressEvent,
        CurpEvent,
        DecisionEvent,
        FullAutoEvent,
        IneCurpEvent,
        IneEvent,
        SessionEvent,
        UnknownEvent,
        UserStatusEvent,
        WatchlistEvent,
        WebhookEvent,
    )
    from veriff_async.models.faces import FaceImage, FaceImportReceipt
    from veriff_async.models.feedback import (
        FraudCategory,
        FraudCategoryInfo,
        FraudReport,
        FraudReportDetails,
        FraudReportLookup,
        FraudReportReceipt,
        LookupStatus,
        ReportStatus,
    )
    from veriff_async.models.fullauto import (
        AddressFieldObject,
        Confidence,
        FieldObject,
        FieldSource,
        FieldValue,
        FullAutoDecision,
        FullAutoDocument,
        FullAutoPerson,
    )
    from veriff_async.models.insight import Insight, InsightCategory, InsightResult
    from veriff_async.models.media import (
        DownloadedMedia,
        DownloadProgress,
        Media,
        MediaFile,
        MediaList,
        MediaReference,
        MediaSource,
        NfcData,
        Timestamp,
        TimestampHash,
        UploadedMedia,
        UploadProgress,
    )
    from veriff_async.models.person import Address, ParsedAddress, Person
    from veriff_async.models.reasons import REASONS, Reason, ReasonFamily
    from veriff_async.models.record import (
        PepAlias,
        PepAsset,
        PepAssociate,
        PepEntity,
        PepField,
        PepHit,
        PepMedia,
        PepSanctionMatch,
        PersonRecord,
    )
    from veriff_async.models.registry import (
        CurpResult,
        CurpStatus,
        IneCurpResult,
        IneRecord,
        IneResult,
        TransportationResult,
    )
    from veriff_async.models.session import Consent, ConsentType
    from veriff_async.models.verified import (
        AdditionalVerifiedData,
        AddressFraud,
        BiometricAuthentication,
        BiometricDetails,
        CpfValidation,
        IneBiometricValidation,
        ProofOfAddress,
        RegistryValidation,
        RiskLevel,
        ValidationResult,
    )
    from veriff_async.models.watchlist import (
        CheckType,
        Listing,
        Listings,
        MatchStatus,
        Monitoring,
        MonitorStatus,
        SearchTerm,
        WatchlistHit,
        WatchlistScreening,
    )
    from veriff_async.preparing import check_media
    from veriff_async.protocol.checks import EndUserIdWarning
    from veriff_async.protocol.codec import from_json
    from veriff_async.protocol.credentials import Credentials
    from veriff_async.protocol.dimensions import ImageSizeWarning
    from veriff_async.protocol.events import parse_webhook
    from veriff_async.protocol.explain import SignatureCause, SignatureExplanation, explain_signature
    from veriff_async.protocol.hosts import DeprecatedHostWarning
    from veriff_async.protocol.origin import Origin, verify_webhook
    from veriff_async.protocol.policies import PollPolicy, RetryPolicy, Timeouts
    from veriff_async.protocol.writing import dump_json, to_json
    from veriff_async.reconciling import Reconciled, reconcile
    from veriff_async.session import VerificationSession
    from veriff_async.signals import end_waits_on_signals
    from veriff_async.webhooks.receiver import WebhookReceiver

__all__ = (
    "REASONS",
    "AdditionalVerifiedData",
    "Address",
    "AddressEvent",
    "AddressFieldObject",
    "AddressFraud",
    "ApiError",
    "Attempt",
    "AuthenticationError",
    "BadRequestError",
    "BatchError",
    "BiometricAuthentication",
    "BiometricDetails",
    "Browser",
    "Certificate",
    "CheckType",
    "ClientClosedError",
    "CollectedData",
    "CollectedReceipt",
    "Confidence",
    "ConfigurationError",
    "ConflictError",
    "ConnectError",
    "ConnectTimeoutError",
    "Consent",
    "ConsentType",
    "CpfValidation",
    "Credentials",
    "CurpEvent",
    "CurpResult",
    "CurpStatus",
    "Decision",
    "DecisionEvent",
    "DecisionSource",
    "DecisionTimeoutError",
    "DeprecatedHostWarning",
    "Device",
    "Document",
    "DocumentType",
    "DownloadProgress",
    "DownloadedMedia",
    "EndUserIdWarning",
    "FaceImage",
    "FaceImportReceipt",
    "FieldObject",
    "FieldSource",
    "FieldValue",
    "FraudCategory",
    "FraudCategoryInfo",
    "FraudReport",
    "FraudReportDetails",
    "FraudReportLookup",
    "FraudReportReceipt",
    "FullAutoDecision",
    "FullAutoDocument",
    "FullAutoEvent",
    "FullAutoPerson",
    "Gender",
    "ImageSizeWarning",
    "InboxError",
    "IneBiometricValidation",
    "IneCurpEvent",
    "IneCurpResult",
    "IneEvent",
    "IneRecord",
    "IneResult",
    "Insight",
    "InsightCategory",
    "InsightResult",
    "JobChangedError",
    "JobFailedError",
    "JobTakenError",
    "JournalError",
    "LegalStatus",
    "Listing",
    "Listings",
    "LookupStatus",
    "MatchStatus",
    "Media",
    "MediaChangedError",
    "MediaContext",
    "MediaEmptyError",
    "MediaError",
    "MediaExistsError",
    "MediaFile",
    "MediaList",
    "MediaNotSavedError",
    "MediaReference",
    "MediaSource",
    "MediaSourceError",
    "MediaStream",
    "MediaTooLargeError",
    "MediaUnsupportedError",
    "MonitorStatus",
    "Monitoring",
    "Network",
    "NfcData",
    "NotFoundError",
    "Origin",
    "OutcomeUnknownError",
    "ParsedAddress",
    "PayloadError",
    "PayloadTooLargeError",
    "PepAlias",
    "PepAsset",
    "PepAssociate",
    "PepEntity",
    "PepField",
    "PepHit",
    "PepMedia",
    "PepSanctionMatch",
    "PermissionDeniedError",
    "Person",
    "PersonRecord",
    "PollPolicy",
    "ProofOfAddress",
    "RateLimitedError",
    "Reason",
    "ReasonFamily",
    "Reconciled",
    "RegistryValidation",
    "ReportStatus",
    "RequestTimeoutError",
    "ResponseError",
    "RetryPolicy",
    "RiskCategory",
    "RiskLabel",
    "RiskLevel",
    "SearchTerm",
    "ServerError",
    "SessionEvent",
    "SignatureCause",
    "SignatureError",
    "SignatureExplanation",
    "SourceDocument",
    "Specimen",
    "Statistics",
    "Status",
    "Timeouts",
    "Timestamp",
    "TimestampHash",
    "TransportError",
    "TransportationResult",
    "UnknownEvent",
    "UploadProgress",
    "UploadedMedia",
    "UserDefinedStatus",
    "UserStatusEvent",
    "ValidationResult",
    "VeriffClient",
    "VeriffError",
    "VerificationSession",
    "WatchlistEvent",
    "WatchlistHit",
    "WatchlistScreening",
    "WebhookError",
    "WebhookEvent",
    "WebhookReceiver",
    "YesNo",
    "__version__",
    "check_media",
    "dump_json",
    "end_waits_on_signals",
    "explain_signature",
    "from_json",
    "open_session",
    "parse_webhook",
    "reconcile",
    "to_json",
    "verify_webhook",
)

_HOMES = {
    "client": "Statistics VeriffClient open_session",
    "downloading": "MediaStream",
    "errors": (
        "ApiError AuthenticationError BadRequestError BatchError ClientClosedError ConfigurationError "
        "ConflictError ConnectError ConnectTimeoutError DecisionTimeoutError InboxError JobChangedError "
        "JobFailedError JobTakenError JournalError MediaChangedError MediaEmptyError MediaError "
        "MediaExistsError MediaNotSavedError MediaSourceError MediaTooLargeError MediaUnsupportedError "
        "NotFoundError "
        "OutcomeUnknownError PayloadError PayloadTooLargeError PermissionDeniedError RateLimitedError "
        "RequestTimeoutError ResponseError ServerError SignatureError TransportError VeriffError WebhookError"
    ),
    "models.attempt": "Attempt UserDefinedStatus",
    "models.certificate": "Certificate SourceDocument",
    "models.collected": "Browser CollectedData CollectedReceipt Device Network",
    "models.decision": "Decision DecisionSource RiskCategory RiskLabel",
    "models.document": "Document LegalStatus Specimen",
    "models.enums": "DocumentType Gender MediaContext Status YesNo",
    "models.events": (
        "AddressEvent CurpEvent DecisionEvent FullAutoEvent IneCurpEvent IneEvent SessionEvent UnknownEvent "
        "UserStatusEvent WatchlistEvent WebhookEvent"
    ),
    "models.faces": "FaceImage FaceImportReceipt",
    "models.feedback": (
        "FraudCategory FraudCategoryInfo FraudReport FraudReportDetails FraudReportLookup FraudReportReceipt "
        "LookupStatus ReportStatus"
    ),
    "models.fullauto": (
        "AddressFieldObject Confidence FieldObject FieldSource FieldValue FullAutoDecision FullAutoDocument "
        "FullAutoPerson"
    ),
    "models.insight": "Insight InsightCategory InsightResult",
    "models.media": (
        "DownloadProgress DownloadedMedia Media MediaFile MediaList MediaReference MediaSource NfcData Timestamp "
        "TimestampHash "
        "UploadProgress UploadedMedia"
    ),
    "models.person": "Address ParsedAddress Person",
    "models.reasons": "REASONS Reason ReasonFamily",
    "models.record": "PepAlias PepAsset PepAssociate PepEntity PepField PepHit PepMedia PepSanctionMatch PersonRecord",
    "models.registry": "CurpResult CurpStatus IneCurpResult IneRecord IneResult TransportationResult",
    "models.session": "Consent ConsentType",
    "models.verified": (
        "AdditionalVerifiedData AddressFraud BiometricAuthentication BiometricDetails CpfValidation "
        "IneBiometricValidation ProofOfAddress RegistryValidation RiskLevel ValidationResult"
    ),
    "models.watchlist": (
        "CheckType Listing Listings MatchStatus MonitorStatus Monitoring SearchTerm WatchlistHit WatchlistScreening"
    ),
    "protocol.checks": "EndUserIdWarning",
    "protocol.codec": "from_json",
    "protocol.credentials": "Credentials",
    "protocol.dimensions": "ImageSizeWarning",
    "protocol.events": "parse_webhook",
    "protocol.explain": "SignatureCause SignatureExplanation explain_signature",
    "protocol.hosts": "DeprecatedHostWarning",
    "protocol.origin": "Origin verify_webhook",
    "protocol.policies": "PollPolicy RetryPolicy Timeouts",
    "preparing": "check_media",
    "protocol.writing": "dump_json to_json",
    "reconciling": "Reconciled reconcile",
    "session": "VerificationSession",
    "signals": "end_waits_on_signals",
    "webhooks.receiver": "WebhookReceiver",
}
"""Where names live."""

if not TYPE_CHECKING:  # a type checker would take any misspelt name for one of ours
    __getattr__ = late(__name__, globals(), _HOMES)


def __dir__() -> list[str]:
    return listed(__all__)
