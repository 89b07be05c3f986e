"""Open enums: the documented words of the API are members, and every other word becomes a usable value too.

Veriff adds values without notice (https://devdocs.veriff.com/docs/backwards-compatible-changes), so an unknown word
must never break a program that does not use it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from veriff_async._lazy import load_name

__all__ = ("DocumentType", "Gender", "MediaContext", "OpenEnum", "Status", "YesNo")


class OpenEnum(StrEnum):
    """A string enum whose constructor accepts any string.

    An unknown value gives an instance that equals, hashes, prints and pickles as its string, and whose `known` is
    False. The class does not store it, so hostile input cannot make the class grow.
    """

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        # Created without Enum's machinery, which would add the member to the class for good.
        member = str.__new__(cls, value)
        member._name_ = value
        member._value_ = value
        return member

    @property
    def known(self) -> bool:
        """Return whether this version of the library has a member for the value."""
        return self._value_ in type(self)._value2member_map_

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> object:
        return load_name("_protocol.pydantic_schema", "enum_schema")(cls)

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: object, _handler: object) -> object:
        return load_name("_protocol.pydantic_schema", "enum_json_schema")(cls)

    def __deepcopy__(self, _memo: object) -> Self:
        """Return the value itself, which is immutable."""
        return self


class Status(OpenEnum):
    """Status of a session, an attempt or a decision (https://devdocs.veriff.com/apidocs/v1sessionsiddecision-1).

    `REVIEW` (code 9121) is a documented status: a human looks at the session, and another decision follows
    (https://devdocs.veriff.com/docs/verification-session-status-codes-table). `INFLOW_COMPLETED` is documented only in
    passing, on the page of ``DELETE /v1/sessions/{id}``.
    """

    # The numbers are Veriff's codes for these words, in webhooks and in decisions.
    CREATED = "created"
    STARTED = "started"  # 7001
    SUBMITTED = "submitted"  # 7002
    INFLOW_COMPLETED = "inflow_completed"
    REVIEW = "review"  # 9121
    APPROVED = "approved"  # 9001
    DECLINED = "declined"  # 9102
    RESUBMISSION_REQUESTED = "resubmission_requested"  # 9103
    EXPIRED = "expired"  # 9104
    ABANDONED = "abandoned"  # 9104, but 9121 on the page of GET /decision

    @property
    def is_final(self) -> bool:
        """Return whether only a correction by Veriff can follow. An unknown status is never final."""
        # Not `RESUBMISSION_REQUESTED` and `REVIEW`, which another decision follows.
        return self in {Status.APPROVED, Status.DECLINED, Status.EXPIRED, Status.ABANDONED}


class YesNo(OpenEnum):
    """The answer to a check, as Veriff writes it in some members (seen in a decision of 2026)."""

    YES = "Yes"
    NO = "No"


class MediaContext(OpenEnum):
    """The subject of a picture or video (https://devdocs.veriff.com/docs/context-types-image-video-1).

    Documented for upload are `FACE`, `FACE_REFERENCE`, `DOCUMENT_FRONT`, `DOCUMENT_BACK`, `ADDRESS_FRONT` and
    `GENERIC_DOCUMENT_FRONT`; the ``-pre`` forms are earlier shots of the same scene. Videos occur only
    in lists of media; their contexts were seen in other clients and are not documented.
    """

    FACE = "face"
    FACE_PRE = "face-pre"
    FACE_REFERENCE = "face-reference"
    FACE_NFC = "face-nfc"
    FACE_CROPPED = "face-cropped"
    REGISTRY_FACE = "registry-face"
    DOCUMENT_FRONT = "document-front"
    DOCUMENT_FRONT_PRE = "document-front-pre"
    DOCUMENT_FRONT_QRCODE = "document-front-qrcode"
    DOCUMENT_FRONT_QRCODE_PRE = "document-front-qrcode-pre"
    DOCUMENT_FRONT_WITH_SIGNATURE = "document-front-with-signature"
    DOCUMENT_FRONT_WITH_SIGNATURE_PRE = "document-front-with-signature-pre"
    DOCUMENT_FRONT_FACE_CROPPED = "document-front-face-cropped"
    DOCUMENT_BACK = "document-back"
    DOCUMENT_BACK_PRE = "document-back-pre"
    DOCUMENT_BACK_BARCODE = "document-back-barcode"
    DOCUMENT_BACK_BARCODE_PRE = "document-back-barcode-pre"
    DOCUMENT_BACK_QRCODE = "document-back-qrcode"
    DOCUMENT_BACK_QRCODE_PRE = "document-back-qrcode-pre"
    DOCUMENT_AND_FACE = "document-and-face"
    DOCUMENT_AND_FACE_PRE = "document-and-face-pre"
    ADDRESS_FRONT = "address-front"
    GENERIC_DOCUMENT_FRONT = "generic-document-front"
    SELFID_VIDEO = "selfid_video"
    FACE_PRE_VIDEO = "face-pre-video"
    DOCUMENT_FRONT_PRE_VIDEO = "document-front-pre-video"
    DOCUMENT_BACK_PRE_VIDEO = "document-back-pre-video"
    DOCUMENT_BACK_BARCODE_PRE_VIDEO = "document-back-barcode-pre-video"
    DOCUMENT_AND_FACE_PRE_VIDEO = "document-and-face-pre-video"


class DocumentType(OpenEnum):
    """Kind of identity document (https://devdocs.veriff.com/docs/supported-document-types).

    `OTHER` occurs in responses only.
    """

    PASSPORT = "PASSPORT"
    ID_CARD = "ID_CARD"
    DRIVERS_LICENSE = "DRIVERS_LICENSE"
    RESIDENCE_PERMIT = "RESIDENCE_PERMIT"
    VISA = "VISA"
    OTHER = "OTHER"


class Gender(OpenEnum):
    """Gender of a person as Veriff writes it; requests also take the long forms."""

    MALE = "M"
    FEMALE = "F"
    MALE_LONG = "MALE"
    FEMALE_LONG = "FEMALE"
