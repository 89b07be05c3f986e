"""Results that optional products add to a decision. Each part is present only with its product."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from veriff_async.models.base import Model
from veriff_async.models.enums import OpenEnum, YesNo
from veriff_async.models.json import JsonObject

__all__ = (
    "AdditionalVerifiedData",
    "AddressFraud",
    "BiometricAuthentication",
    "BiometricDetails",
    "CpfValidation",
    "IneBiometricValidation",
    "ProofOfAddress",
    "RegistryValidation",
    "RiskLevel",
    "ValidationResult",
)


class RiskLevel(OpenEnum):
    """The probability that a proof of address is forged."""

    LOW = "LOW_RISK"
    MEDIUM = "MEDIUM_RISK"
    HIGH = "HIGH_RISK"


@frozen(kw_only=True)
class AddressFraud(Model):
    """Signs that a proof of address is forged.

    Attributes:
        risk_level: The probability of forgery.
        reason: Veriff's identifier, for example ``DIGITAL_PRINT``, ``NOT_ORIGINAL_IMAGE``, ``PDF_PROCESSED_BY_EDITOR``.
        reason_description: The reason as text.
        indicators: Further identifiers.
    """

    risk_level: RiskLevel | None = None
    reason: str | None = None
    reason_description: str | None = None
    indicators: tuple[str, ...] = ()
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class ProofOfAddress(Model):
    """A proof of address; its person has the whole name in ``first_name`` and the address in ``addresses``.

    Attributes:
        name_match: Whether the name matches that of the person.
        name_match_percentage: How well it matches, 0 to 100.
        document_type: Kind of paper, for example ``UTILITY_BILL``; the list is long and open.
        fraud: Signs of forgery.

    See https://devdocs.veriff.com/apidocs/v1sessionsiddecision-1.
    """

    name_match: bool | None = None
    name_match_percentage: float | None = None
    document_type: str | None = None
    fraud: AddressFraud | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class CpfValidation(Model):
    """The result of Brazil's registry for a CPF number."""

    status: str | None = None
    cpf_number: str | None = field(default=None, repr=False)
    name: str | None = field(default=None, repr=False)
    date_of_birth: str | None = field(default=None, repr=False)
    year_of_death: str | None = field(default=None, repr=False)
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class IneBiometricValidation(Model):
    """Whether the face is the one in Mexico's INE registry.

    Attributes:
        face_match: The result of the registry.
        face_match_percentage: 0 to 100; 85 and more is a match.
        response_status: ``success`` or ``failure``.
    """

    face_match: bool | None = None
    face_match_percentage: float | None = None
    response_status: str | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class RegistryValidation(Model):
    """The result of Colombia's registry for a person."""

    country_registry: str | None = None
    registry_name: str | None = None
    full_name_similarity: str | None = None
    document_valid: bool | None = None
    person_is_alive: bool | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class ValidationResult(Model):
    """The result of one database for a person: for each member a word of Veriff's that says how well it matches.

    See https://devdocs.veriff.com/docs/us-database-verification.
    """

    registry_name: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    date_of_birth: str | None = None
    address: str | None = None
    city: str | None = None
    state: str | None = None
    zip: str | None = None
    id_number: str | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class AdditionalVerifiedData(Model):
    """Results of optional products (https://devdocs.veriff.com/apidocs/v1sessionsiddecision-1).

    Attributes:
        drivers_license_number: Number of the licence.
        drivers_license_category: For each category, whether it is held.
        drivers_license_category_from: For each category, since when (``YYYY-MM-DD``).
        drivers_license_category_until: For each category, until when (``YYYY-MM-DD``).
        drivers_license_categories: The categories as a list; the form of its items is a guess.
        estimated_age: Age in years, estimated from the face.
        estimated_gender: From 0 (male) to 1 (female), estimated from the face.
        selfie_quality: Whether the picture of the face is good enough, with biometric authentication (seen in 2026).
        process_number: Number of the process in which the document was issued.
        uktf_check_result: Checks of the United Kingdom's trust framework, as received.
        cpf_validation: Brazil.
        ine_biometric_registry_validation: Mexico.
        registry_validation: Colombia.
        validation_results: United States.
        proof_of_address: Proof of address.
    """

    drivers_license_number: str | None = field(default=None, repr=False)
    # Mappings and lists of objects are not hashable, so they take no part in the hash.
    drivers_license_category: Mapping[str, bool | None] = field(factory=dict[str, bool | None], hash=False)
    drivers_license_category_from: Mapping[str, str | None] = field(
        factory=dict[str, str | None], repr=False, hash=False
    )
    drivers_license_category_until: Mapping[str, str | None] = field(
        factory=dict[str, str | None], repr=False, hash=False
    )
    drivers_license_categories: tuple[str, ...] = ()
    estimated_age: float | None = field(default=None, repr=False)
    estimated_gender: float | None = field(default=None, repr=False)
    selfie_quality: YesNo | None = None
    process_number: str | None = field(default=None, repr=False)
    uktf_check_result: tuple[JsonObject, ...] = field(default=(), repr=False, hash=False)
    cpf_validation: CpfValidation | None = None
    ine_biometric_registry_validation: IneBiometricValidation | None = None
    registry_validation: RegistryValidation | None = None
    validation_results: tuple[ValidationResult, ...] = ()
    proof_of_address: ProofOfAddress | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class BiometricDetails(Model):
    """The individual checks of biometric authentication; seen in a decision of 2026, not documented.

    Attributes:
        face_liveness: Whether the face belongs to a living person in front of the camera.
        media_not_injected: Whether the pictures come from the camera.
        face_image_quality_sufficient: Whether the picture is good enough to compare.
        behavioral_risk: Whether the end-user's behaviour is risky.
    """

    face_liveness: YesNo | None = None
    media_not_injected: YesNo | None = None
    face_image_quality_sufficient: YesNo | None = None
    behavioral_risk: YesNo | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class BiometricAuthentication(Model):
    """The earlier session whose face this one shows (https://devdocs.veriff.com/apidocs/v1sessionsiddecision-1).

    Attributes:
        matched_session_id: The earlier session.
        matched_session_vendor_data: The value passed at its creation.
        matched_session_end_user_id: The value passed at its creation.
        details: The individual checks; its ``raw`` has all members.
    """

    matched_session_id: str | None = None
    matched_session_vendor_data: str | None = None
    matched_session_end_user_id: str | None = None
    details: BiometricDetails = field(default=BiometricDetails(), repr=False)
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)
