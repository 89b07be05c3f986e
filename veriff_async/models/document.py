"""The identity document of a session."""

from __future__ import annotations

from attrs import field, frozen

from veriff_async.models.base import Model
from veriff_async.models.enums import DocumentType, OpenEnum
from veriff_async.models.json import JsonObject

__all__ = ("Document", "LegalStatus", "Specimen")


class LegalStatus(OpenEnum):
    """The rank of a kind of document as proof of identity in the issuing country."""

    PRIMARY = "primary"
    SECONDARY = "secondary"
    TERTIARY = "tertiary"


@frozen(kw_only=True)
class Specimen(Model):
    """Properties of the kind of document, as opposed to the document that was shown.

    https://devdocs.veriff.com/apidocs/v1sessionsiddecision-1
    """

    contains_contactless_chip: bool | None = None
    first_issued_date: str | None = None
    last_issued_date: str | None = None
    nist_version: str | None = None
    digital_document: bool | None = None
    non_standard_driving_license: bool | None = None
    military_document: bool | None = None
    temporary_emergency_document: bool | None = None
    asylum_refugee_document: bool | None = None
    icao_standardized_document: bool | None = None
    not_national_id_card: bool | None = None
    legal_status: LegalStatus | None = None
    has_security_risk: bool | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class Document(Model):
    """An identity document, in requests and in decisions; every field may be missing.

    `country` is ISO 3166-1 alpha-2 (real answers once wrote ``UK``); dates are ``YYYY-MM-DD`` texts; where a
    document is sent, a `datetime.date` is written as one. Requests take `number`, `type`, `country`, `id_card_type` and
    `first_issue`.

    https://devdocs.veriff.com/apidocs/v1sessions, https://devdocs.veriff.com/apidocs/v1sessionsiddecision-1
    """

    type: DocumentType | None = None
    country: str | None = None
    state: str | None = None
    # The repr may reach a log, so it shows nothing that identifies a person.
    number: str | None = field(default=None, repr=False)
    id_card_type: str | None = None
    valid_from: str | None = field(default=None, repr=False)
    valid_until: str | None = field(default=None, repr=False)
    first_issue: str | None = field(default=None, repr=False)
    place_of_issue: str | None = field(default=None, repr=False)
    issue_number: str | None = field(default=None, repr=False)
    issued_by: str | None = field(default=None, repr=False)
    residence_permit_type: str | None = field(default=None, repr=False)
    remarks: str | None = field(default=None, repr=False)
    ine_identifier: str | None = field(default=None, repr=False)
    nfc_validated: bool | None = None
    portrait_is_visible: bool | None = None
    signature_is_visible: bool | None = None
    specimen: Specimen | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)
