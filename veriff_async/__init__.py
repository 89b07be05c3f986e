"""An asyncio client for Veriff's identity verification.

    async with VeriffClient.from_env() as veriff:
        session = await veriff.create_session(vendor_data="user-42")
        await session.upload(Media("front.jpg", "document-front"), Media("selfie.jpg", "face"))
        await session.submit()
        decision = await session.wait_for_decision()

Calls
    VeriffClient            one for each application: sessions, uploads, decisions, media, fraud reports
    VerificationSession     one verification: upload, submit, wait, download, delete
    open_session            a session with its own client, for scripts
    Integrations            several integrations: one receiver, clients by name
    reconcile               find decisions whose webhooks were lost

Inputs
    Credentials             API key and secrets; from_env reads VERIFF_API_KEY and VERIFF_SHARED_SECRET
    Media, MediaContext     a picture and its subject
    Person, Document, Address, Consent and others: your data about the end-user
    RetryPolicy, PollPolicy, Timeouts: number, intervals and duration of attempts

Results
    Decision, Status        the decision of Veriff
    MediaInspection         the checks of a picture before its upload, by inspect_media
    UploadedMedia, DownloadedMedia, and the responses of veriff_async.models

Webhooks
    WebhookReceiver         verifies and records webhooks; veriff_async.webhooks has ASGI and aiohttp apps
    parse_webhook           verifies and decodes one webhook; verify_webhook, explain_signature
    from_json, to_json      models from and to JSON, for your own storage and tests; model.to_dict()
    converter               cattrs for your classes that contain models; fields of pydantic need nothing

Errors
    VeriffError             the base class; veriff_async.errors has the tree
    OutcomeUnknownError     a session may have been created: check before you create another
    problem_details         an error for the users of a web application (RFC 9457)

Modules
    veriff_async.models     the responses of Veriff's API
    veriff_async.batch      many verifications at once, with a journal
    veriff_async.blocking   the client for synchronous code: scripts, Flask, Celery
    veriff_async.inbox      stores for webhooks: memory, SQLite, Redis
    veriff_async.webhooks   receivers for web frameworks
    veriff_async.sandbox    a local Veriff for tests
    veriff_async.testing    contracts and event factories for your tests
    veriff_async.cli        the command line: python -m veriff_async

help(veriff_async.VeriffClient) explains a name, and dir(veriff_async) lists all names. Names are loaded on first use,
so importing the package, as its pytest plugin does in every test run, costs almost nothing.
"""

from typing import TYPE_CHECKING

from veriff_async._lazy import attach
from veriff_async.version import __version__ as __version__

if TYPE_CHECKING:
    from veriff_async._client.open_session import open_session as open_session
    from veriff_async._client.options import ClientOptions as ClientOptions
    from veriff_async._media.checks import check_media as check_media, inspect_media as inspect_media
    from veriff_async._media.downloader import MediaStream as MediaStream
    from veriff_async._protocol.authenticity import verify_webhook as verify_webhook
    from veriff_async._protocol.base_url import DeprecatedHostWarning as DeprecatedHostWarning
    from veriff_async._protocol.converter import converter as converter
    from veriff_async._protocol.image_header import ImageSizeWarning as ImageSizeWarning
    from veriff_async._protocol.json.decode import from_json as from_json
    from veriff_async._protocol.json.encode import dump_json as dump_json, to_json as to_json
    from veriff_async._protocol.picture_thresholds import (
        InspectionThresholds as InspectionThresholds,
        PictureThresholds as PictureThresholds,
    )
    from veriff_async._protocol.picture_verdicts import MediaQualityWarning as MediaQualityWarning
    from veriff_async._protocol.signature_diagnosis import explain_signature as explain_signature
    from veriff_async._protocol.validation import EndUserIdWarning as EndUserIdWarning
    from veriff_async._protocol.webhook import parse_webhook as parse_webhook
    from veriff_async._waiting.reconcile import ReconcileResult as ReconcileResult, reconcile as reconcile
    from veriff_async._waiting.signals import end_waits_on_signals as end_waits_on_signals
    from veriff_async._waiting.watch import SessionWatch as SessionWatch
    from veriff_async.client import VeriffClient as VeriffClient
    from veriff_async.config import (
        CallOptions as CallOptions,
        DeliveryPolicy as DeliveryPolicy,
        PollPolicy as PollPolicy,
        RetryPolicy as RetryPolicy,
        Timeouts as Timeouts,
    )
    from veriff_async.credentials import Credentials as Credentials
    from veriff_async.encryption import KeyRing as KeyRing
    from veriff_async.errors import (
        ApiError as ApiError,
        AuthenticationError as AuthenticationError,
        BadRequestError as BadRequestError,
        BatchError as BatchError,
        ClientClosedError as ClientClosedError,
        ConfigurationError as ConfigurationError,
        ConflictError as ConflictError,
        ConnectError as ConnectError,
        ConnectTimeoutError as ConnectTimeoutError,
        DecisionTimeoutError as DecisionTimeoutError,
        DecodeError as DecodeError,
        ErasureError as ErasureError,
        InboxError as InboxError,
        InvalidArgumentError as InvalidArgumentError,
        JobChangedError as JobChangedError,
        JobClaimedError as JobClaimedError,
        JobFailedError as JobFailedError,
        JournalError as JournalError,
        LeaseLostError as LeaseLostError,
        MediaChangedError as MediaChangedError,
        MediaEmptyError as MediaEmptyError,
        MediaError as MediaError,
        MediaExistsError as MediaExistsError,
        MediaNotSavedError as MediaNotSavedError,
        MediaQualityError as MediaQualityError,
        MediaSourceError as MediaSourceError,
        MediaTooLargeError as MediaTooLargeError,
        MediaUnsupportedError as MediaUnsupportedError,
        NotFoundError as NotFoundError,
        OutcomeUnknownError as OutcomeUnknownError,
        PayloadTooLargeError as PayloadTooLargeError,
        PermissionDeniedError as PermissionDeniedError,
        RateLimitedError as RateLimitedError,
        RequestTimeoutError as RequestTimeoutError,
        ResponseError as ResponseError,
        ServerError as ServerError,
        SessionLimitError as SessionLimitError,
        SignatureError as SignatureError,
        TransportError as TransportError,
        VeriffError as VeriffError,
        WebhookError as WebhookError,
        WebhookPayloadError as WebhookPayloadError,
    )
    from veriff_async.health import (
        CheckOutcome as CheckOutcome,
        CheckReport as CheckReport,
        CheckResult as CheckResult,
    )
    from veriff_async.integrations import Integration as Integration, Integrations as Integrations
    from veriff_async.middleware import (
        CallNext as CallNext,
        CallRequest as CallRequest,
        CallResponse as CallResponse,
        Middleware as Middleware,
    )
    from veriff_async.models.collected import (
        Browser as Browser,
        CollectedData as CollectedData,
        Device as Device,
        Network as Network,
    )
    from veriff_async.models.decision import Decision as Decision
    from veriff_async.models.decision_source import DecisionSource as DecisionSource
    from veriff_async.models.delivery import Delivery as Delivery
    from veriff_async.models.document import Document as Document
    from veriff_async.models.enums import DocumentType as DocumentType, MediaContext as MediaContext, Status as Status
    from veriff_async.models.events import (
        AddressEvent as AddressEvent,
        CurpEvent as CurpEvent,
        DecisionEvent as DecisionEvent,
        FullAutoEvent as FullAutoEvent,
        IneCurpEvent as IneCurpEvent,
        IneEvent as IneEvent,
        SessionEvent as SessionEvent,
        UnknownEvent as UnknownEvent,
        UserStatusEvent as UserStatusEvent,
        WatchlistEvent as WatchlistEvent,
        WebhookEvent as WebhookEvent,
    )
    from veriff_async.models.faces import FaceImage as FaceImage
    from veriff_async.models.feedback import FraudReport as FraudReport
    from veriff_async.models.inspection import (
        CheckName as CheckName,
        FaceBox as FaceBox,
        MediaInspection as MediaInspection,
        PictureCheck as PictureCheck,
    )
    from veriff_async.models.media import (
        DownloadedMedia as DownloadedMedia,
        DownloadProgress as DownloadProgress,
        Media as Media,
        NfcData as NfcData,
        UploadedMedia as UploadedMedia,
        UploadProgress as UploadProgress,
    )
    from veriff_async.models.person import Address as Address, Person as Person
    from veriff_async.models.session import Consent as Consent, ConsentType as ConsentType
    from veriff_async.models.verified import ProofOfAddress as ProofOfAddress
    from veriff_async.problems import ProblemDetails as ProblemDetails, problem_details as problem_details
    from veriff_async.session import VerificationSession as VerificationSession
    from veriff_async.statistics import ClientStatistics as ClientStatistics
    from veriff_async.webhooks.receiver import WebhookReceiver as WebhookReceiver
else:
    __getattr__, __dir__, __all__ = attach(
        __name__,
        {
            "_media.checks": "check_media inspect_media",
            "_media.downloader": "MediaStream",
            "_client.open_session": "open_session",
            "_protocol.authenticity": "verify_webhook",
            "_protocol.base_url": "DeprecatedHostWarning",
            "_protocol.converter": "converter",
            "_protocol.image_header": "ImageSizeWarning",
            "_protocol.json.decode": "from_json",
            "_protocol.json.encode": "dump_json to_json",
            "_protocol.picture_thresholds": "InspectionThresholds PictureThresholds",
            "_protocol.picture_verdicts": "MediaQualityWarning",
            "_protocol.signature_diagnosis": "explain_signature",
            "_protocol.validation": "EndUserIdWarning",
            "_protocol.webhook": "parse_webhook",
            "_waiting.reconcile": "ReconcileResult reconcile",
            "_waiting.signals": "end_waits_on_signals",
            "_waiting.watch": "SessionWatch",
            "_client.options": "ClientOptions",
            "client": "VeriffClient",
            "middleware": "CallNext CallRequest CallResponse Middleware",
            "config": "CallOptions DeliveryPolicy PollPolicy RetryPolicy Timeouts",
            "credentials": "Credentials",
            "errors": (
                "ApiError AuthenticationError BadRequestError BatchError ClientClosedError ConfigurationError "
                "ConflictError ConnectError ConnectTimeoutError DecisionTimeoutError DecodeError ErasureError "
                "InboxError InvalidArgumentError JobChangedError JobClaimedError JobFailedError JournalError "
                "LeaseLostError MediaChangedError MediaEmptyError MediaError MediaExistsError MediaNotSavedError "
                "MediaQualityError MediaSourceError MediaTooLargeError MediaUnsupportedError NotFoundError "
                "OutcomeUnknownError PayloadTooLargeError PermissionDeniedError RateLimitedError RequestTimeoutError "
                "ResponseError ServerError SessionLimitError SignatureError TransportError VeriffError WebhookError "
                "WebhookPayloadError"
            ),
            "encryption": "KeyRing",
            "health": "CheckOutcome CheckReport CheckResult",
            "integrations": "Integration Integrations",
            "models.collected": "Browser CollectedData Device Network",
            "models.decision": "Decision",
            "models.decision_source": "DecisionSource",
            "models.delivery": "Delivery",
            "models.document": "Document",
            "models.enums": "DocumentType MediaContext Status",
            "models.events": (
                "AddressEvent CurpEvent DecisionEvent FullAutoEvent IneCurpEvent IneEvent SessionEvent "
                "UnknownEvent UserStatusEvent WatchlistEvent WebhookEvent"
            ),
            "models.faces": "FaceImage",
            "models.feedback": "FraudReport",
            "models.inspection": "CheckName FaceBox MediaInspection PictureCheck",
            "models.media": "DownloadProgress DownloadedMedia Media NfcData UploadProgress UploadedMedia",
            "models.person": "Address Person",
            "models.session": "Consent ConsentType",
            "models.verified": "ProofOfAddress",
            "problems": "ProblemDetails problem_details",
            "session": "VerificationSession",
            "statistics": "ClientStatistics",
            "webhooks.receiver": "WebhookReceiver",
        },
    )
