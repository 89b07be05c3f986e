"""Sessions in responses to creation and submission, and consents in requests."""

from __future__ import annotations

from attrs import field, frozen

from veriff_async.models.base import Model
from veriff_async.models.enums import OpenEnum, Status
from veriff_async.models.json import JsonObject

__all__ = ("Consent", "ConsentType", "SessionInfo")


class ConsentType(OpenEnum):
    """The subject of a consent."""

    INE = "ine"
    BIPA = "bipa"  # Biometric Information Privacy Act of Illinois
    AADHAAR = "aadhaar"


@frozen
class Consent(Model):
    """A consent of the end-user, for products that require one.

    Args:
        type: The subject of the consent.
        approved: Whether the end-user agreed. Veriff creates no INE session without consent.

    See https://devdocs.veriff.com/apidocs/v1sessions.
    """

    type: ConsentType = field(converter=ConsentType)
    approved: bool


@frozen(kw_only=True)
class SessionInfo(Model):
    """The ``verification`` object of ``POST`` and ``PATCH /v1/sessions`` (https://devdocs.veriff.com/apidocs/v1sessions).

    Attributes:
        id: Id of the session.
        url: Page for the end-user. It contains a token, with which anyone can act as the end-user.
        host: The host of that page; older responses call it ``baseUrl``.
        session_token: The token of that page, which some SDKs accept.
        status: ``created`` or ``submitted``; older responses omit it.
        vendor_data: The value passed at creation.
        end_user_id: The value passed at creation, where Veriff repeats it.
    """

    id: str
    # With the token in it, anyone can act as the end-user, so neither of the two is in the repr.
    url: str | None = field(default=None, repr=False)
    host: str | None = None
    session_token: str | None = field(default=None, repr=False)
    status: Status | None = None
    vendor_data: str | None = None
    end_user_id: str | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)
