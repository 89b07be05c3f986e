"""One pure function for each endpoint: arguments in, a signed request out.

Which text is signed differs: the raw body where there is one, else the id in the path; a query is never signed
(https://devdocs.veriff.com/docs/hmac-authentication-and-endpoint-security).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal, TypedDict, cast

from attrs import field, frozen

from veriff_async.errors import ConfigurationError
from veriff_async.models.document import Document
from veriff_async.models.person import Person
from veriff_async.protocol import checks, headers
from veriff_async.protocol.codec import dump, render

if TYPE_CHECKING:
    from uuid import UUID

    from veriff_async.protocol.credentials import Credentials

__all__ = ("CreateOptions", "Request", "create_session", "get_decision", "submit_session", "upload_media")

Method = Literal["GET", "POST", "PATCH", "DELETE"]


class CreateOptions(TypedDict, total=False):
    """What ``POST /v1/sessions`` takes, all of it optional (https://devdocs.veriff.com/apidocs/v1sessions)."""

    person: Person
    document: Document
    vendor_data: str
    end_user_id: str | UUID
    callback: str
    extra: Mapping[str, object]


@frozen(kw_only=True)
class Request:
    """One signed request, apart from a body that is streamed.

    Attributes:
        method: HTTP method.
        path: Path below the base URL, ``/v1`` included.
        headers: Veriff's headers.
        body: The body, or ``None`` when there is none or it is streamed.
        repeatable: Whether sending it twice does no harm.
    """

    method: Method
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    repeatable: bool = True


_JSON: Final = {"Content-Type": "application/json"}


def create_session(credentials: Credentials, options: CreateOptions) -> Request:
    """Build ``POST /v1/sessions``; its signature is optional for Veriff, and always given.

    Raises:
        ConfigurationError: A value would be refused; the message names the field.
    """
    described: dict[str, object] = dict(options.get("extra") or {})
    if (callback := options.get("callback")) is not None:
        described["callback"] = checks.check_callback(callback)
    if (person := options.get("person")) is not None:
        described["person"] = render(checks.check_person(person))
    if (document := options.get("document")) is not None:
        described["document"] = render(checks.check_document(document))
    if (vendor_data := options.get("vendor_data")) is not None:
        described["vendorData"] = checks.check_vendor_data(vendor_data)
    if (end_user_id := options.get("end_user_id")) is not None:
        described["endUserId"] = checks.check_end_user_id(end_user_id)
    body = dump({"verification": _without_nulls(described)})
    return _with_body(credentials, "POST", "/v1/sessions", body, repeatable=False)


def submit_session(credentials: Credentials, session_id: str) -> Request:
    """Build ``PATCH /v1/sessions/{id}`` (https://devdocs.veriff.com/apidocs/v1sessionsid-2)."""
    body = dump({"verification": {"status": "submitted"}})
    return _with_body(credentials, "PATCH", _session_path(session_id), body)


def upload_media(credentials: Credentials, session_id: str, signature: str) -> Request:
    """Build ``POST /v1/sessions/{id}/media`` (https://devdocs.veriff.com/apidocs/v1sessionsidmedia-3).

    Args:
        credentials: Who uploads.
        session_id: The session.
        signature: Signature of the body, which is streamed.
    """
    return Request(
        method="POST",
        path=f"{_session_path(session_id)}/media",
        headers={**_signed(credentials, signature), **_JSON},
    )


def get_decision(credentials: Credentials, session_id: str) -> Request:
    """Build ``GET /v1/sessions/{id}/decision`` (https://devdocs.veriff.com/apidocs/v1sessionsiddecision-1)."""
    path = f"{_session_path(session_id)}/decision"
    return Request(method="GET", path=path, headers=_signed(credentials, credentials.sign(session_id.encode())))


def _session_path(session_id: str) -> str:
    return f"/v1/sessions/{checks.check_id('session_id', session_id)}"


def _signed(credentials: Credentials, signature: str) -> dict[str, str]:
    signed = {headers.AUTH_CLIENT: credentials.api_key, headers.HMAC_SIGNATURE: signature}
    if credentials.integration_id is not None:
        signed[headers.INTEGRATION_ID] = credentials.integration_id
    return signed


def _with_body(credentials: Credentials, method: Method, path: str, body: bytes, *, repeatable: bool = True) -> Request:
    signed = {**_signed(credentials, credentials.sign(body)), **_JSON}
    return Request(method=method, path=path, headers=signed, body=body, repeatable=repeatable)


def _without_nulls(value: object) -> object:
    """Drop null members: the API was seen to treat a null property unlike an absent one."""
    if isinstance(value, Mapping):
        members = cast("Mapping[object, object]", value).items()
        return {_key(key): _without_nulls(item) for key, item in members if item is not None}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_without_nulls(item) for item in cast("Sequence[object]", value)]
    if value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    msg = "extra cannot be sent: give what JSON can hold, texts, finite numbers, lists and mappings."
    raise ConfigurationError(msg)


def _key(key: object) -> str:
    if isinstance(key, str):
        return key
    msg = "extra cannot be sent: every key must be a text."
    raise ConfigurationError(msg)
