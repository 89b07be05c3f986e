"""Values of Veriff's API: frozen classes and open enums, named as Veriff names them."""

from typing import TYPE_CHECKING

from veriff_async._lazy import attach

if TYPE_CHECKING:
    from veriff_async.models.attempt import Attempt as Attempt, UserDefinedStatus as UserDefinedStatus
    from veriff_async.models.base import Model as Model
    from veriff_async.models.certificate import Certificate as Certificate, SourceDocument as SourceDocument
    from veriff_async.models.collected import (
        Browser as Browser,
        CollectedData as CollectedData,
        CollectedReceipt as CollectedReceipt,
        Device as Device,
        Network as Network,
    )
    from veriff_async.models.decision import (
        Decision as Decision,
        RiskCategory as RiskCategory,
        RiskLabel as RiskLabel,
    )
    from veriff_async.models.decision_source import DecisionSource as DecisionSource
    from veriff_async.models.document import Document as Document, LegalStatus as LegalStatus, Specimen as Specimen
    from veriff_async.models.enums import (
        DocumentType as DocumentType,
        Gender as Gender,
        MediaContext as MediaContext,
        Status as Status,
        YesNo as YesNo,
    )
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
    from veriff_async.models.faces import FaceImage as FaceImage, FaceImportReceipt as FaceImportReceipt
    from veriff_async.models.feedback import (
        FraudCategory as FraudCategory,
        FraudCategoryInfo as FraudCategoryInfo,
        FraudReport as FraudReport,
        FraudReportDetails as FraudReportDetails,
        FraudReportLookup as FraudReportLookup,
        FraudReportReceipt as FraudReportReceipt,
        LookupStatus as LookupStatus,
        ReportStatus as ReportStatus,
    )
    from veriff_async.models.fullauto import (
        AddressFieldObject as AddressFieldObject,
        Confidence as Confidence,
        FieldObject as FieldObject,
        FieldSource as FieldSource,
        FieldValue as FieldValue,
        FullAutoDecision as FullAutoDecision,
        FullAutoDocument as FullAutoDocument,
        FullAutoPerson as FullAutoPerson,
    )
    from veriff_async.models.insight import (
        Insight as Insight,
        InsightCategory as InsightCategory,
        InsightResult as InsightResult,
    )
    from veriff_async.models.inspection import (
        CheckName as CheckName,
        CheckVerdict as CheckVerdict,
        FaceBox as FaceBox,
        FaceDetector as FaceDetector,
        FacePicture as FacePicture,
        MediaInspection as MediaInspection,
        PictureCheck as PictureCheck,
    )
    from veriff_async.models.media import (
        DownloadedMedia as DownloadedMedia,
        DownloadProgress as DownloadProgress,
        Media as Media,
        MediaFile as MediaFile,
        MediaList as MediaList,
        MediaReference as MediaReference,
        MediaSource as MediaSource,
        NfcData as NfcData,
        Timestamp as Timestamp,
        TimestampHash as TimestampHash,
        UploadedMedia as UploadedMedia,
        UploadProgress as UploadProgress,
    )
    from veriff_async.models.person import Address as Address, ParsedAddress as ParsedAddress, Person as Person
    from veriff_async.models.reasons import REASONS as REASONS, Reason as Reason, ReasonFamily as ReasonFamily
    from veriff_async.models.record import (
        PepAlias as PepAlias,
        PepAsset as PepAsset,
        PepAssociate as PepAssociate,
        PepEntity as PepEntity,
        PepField as PepField,
        PepHit as PepHit,
        PepMedia as PepMedia,
        PepSanctionMatch as PepSanctionMatch,
        PersonRecord as PersonRecord,
    )
    from veriff_async.models.registry import (
        CurpResult as CurpResult,
        CurpStatus as CurpStatus,
        IneCurpResult as IneCurpResult,
        IneRecord as IneRecord,
        IneResult as IneResult,
        TransportationResult as TransportationResult,
    )
    from veriff_async.models.session import Consent as Consent, ConsentType as ConsentType
    from veriff_async.models.verified import (
        AdditionalVerifiedData as AdditionalVerifiedData,
        AddressFraud as AddressFraud,
        BiometricAuthentication as BiometricAuthentication,
        BiometricDetails as BiometricDetails,
        CpfValidation as CpfValidation,
        IneBiometricValidation as IneBiometricValidation,
        ProofOfAddress as ProofOfAddress,
        RegistryValidation as RegistryValidation,
        RiskLevel as RiskLevel,
        ValidationResult as ValidationResult,
    )
    from veriff_async.models.watchlist import (
        CheckType as CheckType,
        Listing as Listing,
        Listings as Listings,
        MatchStatus as MatchStatus,
        Monitoring as Monitoring,
        MonitorStatus as MonitorStatus,
        SearchTerm as SearchTerm,
        WatchlistHit as WatchlistHit,
        WatchlistScreening as WatchlistScreening,
    )
else:
    __getattr__, __dir__, __all__ = attach(
        __name__,
        {
            "models.attempt": "Attempt UserDefinedStatus",
            "models.base": "Model",
            "models.certificate": "Certificate SourceDocument",
            "models.collected": "Browser CollectedData CollectedReceipt Device Network",
            "models.decision": "Decision RiskCategory RiskLabel",
            "models.decision_source": "DecisionSource",
            "models.document": "Document LegalStatus Specimen",
            "models.enums": "DocumentType Gender MediaContext Status YesNo",
            "models.events": (
                "AddressEvent CurpEvent DecisionEvent FullAutoEvent IneCurpEvent IneEvent SessionEvent "
                "UnknownEvent UserStatusEvent WatchlistEvent WebhookEvent"
            ),
            "models.faces": "FaceImage FaceImportReceipt",
            "models.feedback": (
                "FraudCategory FraudCategoryInfo FraudReport FraudReportDetails FraudReportLookup "
                "FraudReportReceipt LookupStatus ReportStatus"
            ),
            "models.fullauto": (
                "AddressFieldObject Confidence FieldObject FieldSource FieldValue FullAutoDecision "
                "FullAutoDocument FullAutoPerson"
            ),
            "models.insight": "Insight InsightCategory InsightResult",
            "models.inspection": (
                "CheckName CheckVerdict FaceBox FaceDetector FacePicture MediaInspection PictureCheck"
            ),
            "models.media": (
                "DownloadProgress DownloadedMedia Media MediaFile MediaList MediaReference MediaSource NfcData "
                "Timestamp TimestampHash UploadProgress UploadedMedia"
            ),
            "models.person": "Address ParsedAddress Person",
            "models.reasons": "REASONS Reason ReasonFamily",
            "models.record": (
                "PepAlias PepAsset PepAssociate PepEntity PepField PepHit PepMedia PepSanctionMatch PersonRecord"
            ),
            "models.registry": "CurpResult CurpStatus IneCurpResult IneRecord IneResult TransportationResult",
            "models.session": "Consent ConsentType",
            "models.verified": (
                "AdditionalVerifiedData AddressFraud BiometricAuthentication BiometricDetails CpfValidation "
                "IneBiometricValidation ProofOfAddress RegistryValidation RiskLevel ValidationResult"
            ),
            "models.watchlist": (
                "CheckType Listing Listings MatchStatus MonitorStatus Monitoring SearchTerm WatchlistHit "
                "WatchlistScreening"
            ),
        },
    )
