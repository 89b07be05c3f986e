"""A session as Veriff describes it when it is created or submitted."""

from __future__ import annotations

from attrs import field, frozen

from veriff_async.models.enums import OpenEnum, Status
from veriff_async.models.json import JsonObject

__all__ = ("Consent", "ConsentType", "SessionInfo")


class ConsentType(OpenEnum):
    """What an end-user may have to agree to."""

    INE = "ine"
    BIPA = "bipa"
    AADHAAR = "aadhaar"


@frozen
class Consent:
    """The end-user's answer to a question for consent, for products that need one.

    Args:
        type: What was asked.
        approved: Whether the end-user agreed; without it, a session for INE is not created.

    See https://devdocs.veriff.com/apidocs/v1sessions.
    """

    type: ConsentType = field(converter=ConsentType)
    approved: bool


@frozen(kw_only=True)
class SessionInfo:
    """The ``verification`` object of ``POST`` and ``PATCH /v1/sessions`` (https://devdocs.veriff.com/apidocs/v1sessions).

    Attributes:
        id: Id of the session.
        url: Page for the end-user, with a token in it: whoever holds it can act as the end-user.
        host: Where that page lives; older answers call it ``baseUrl``.
        session_token: The token of that page, which some SDKs take.
        status: ``created`` or ``submitted``; older answers have none.
        vendor_data: What was given at creation.
        end_user_id: What was given at creation, where Veriff repeats it.
    """

    id: str
    url: str | None = field(default=None, repr=False)
    host: str | None = None
    session_token: str | None = field(default=None, repr=False)
    status: Status | None = None
    vendor_data: str | None = None
    end_user_id: str | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)
