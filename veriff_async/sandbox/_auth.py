"""Authentication of requests, and the headers of signed responses and webhooks. Pure.

Documented (https://devdocs.veriff.com/apidocs/veriff-public-api-guides): a request with a body signs the raw body, a
request without one signs the id in the path; the signature of a creation is optional; a response is signed with the
secret that signed the request. Guesses: a wrong optional signature is refused, the response to an unsigned creation is
signed with the newest secret, and all responses carry both families of headers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

from veriff_async._protocol import headers
from veriff_async._protocol.signed_headers import signature_headers, webhook_headers
from veriff_async._protocol.signing import is_signature
from veriff_async.sandbox._errors import HTTPError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from veriff_async._protocol.signing import Verifier
    from veriff_async.credentials import Credentials

__all__ = (
    "KEY_MISSING",
    "check_api_key",
    "check_client",
    "check_feedback_client",
    "check_signature",
    "signature_headers",
    "signature_of",
    "webhook_headers",
)

KEY_MISSING: Final = "1801"
"""Code of a request without an API key."""


def check_client(request_headers: Mapping[str, str], credentials: Credentials) -> None:
    """Check the API key (codes 1801 to 1803)."""
    _check_key(
        _read_header(request_headers, headers.AUTH_CLIENT, headers.VRF_AUTH_CLIENT), headers.AUTH_CLIENT, credentials
    )


def check_feedback_client(request_headers: Mapping[str, str], credentials: Credentials) -> None:
    """Check the API key of the feedback API, which has a header of its own."""
    _check_key(request_headers.get(headers.VRF_AUTH_CLIENT), headers.VRF_AUTH_CLIENT, credentials)


def check_api_key(request_headers: Mapping[str, str], credentials: Credentials) -> None:
    """Check the second header with the API key, which the synchronous host requires."""
    _check_key(request_headers.get(headers.API_KEY), headers.API_KEY, credentials)


def _check_key(client: str | None, name: str, credentials: Credentials) -> None:
    if client is None:
        raise HTTPError(401, KEY_MISSING, f"Mandatory {name} header is missing")
    # Compared first: a test may choose a key that is not a UUID. UUIDs are case-insensitive.
    if client.strip().lower() == credentials.api_key.lower():
        return
    if not _is_uuid(client):
        raise HTTPError(401, "1802", "API key must be a UUID")
    raise HTTPError(401, "1803", "No integration has this API key")


def signature_of(request_headers: Mapping[str, str]) -> str | None:
    """Return the signature of a request, or ``None`` (code 1812 if it is malformed)."""
    signature = _read_header(request_headers, headers.HMAC_SIGNATURE, headers.VRF_HMAC_SIGNATURE)
    if signature is not None and not is_signature(signature):
        raise HTTPError(401, "1812", "Signature must be a SHA-256 in hex")
    return signature


def check_signature(verifier: Verifier, signature: str | None, *, of_body: bool) -> int:
    """Check a signature (codes 1812, 1818 and 1819)."""
    if signature is None:
        raise HTTPError(401, "1812", "Mandatory X-HMAC-SIGNATURE header is missing")
    matched = verifier.match(signature)
    if matched is None:
        raise HTTPError(401, "1819" if of_body else "1818", "HMAC signature does not match")
    return matched


def _read_header(request_headers: Mapping[str, str], name: str, newer: str) -> str | None:
    """Return the value of a header of either family. Refusing a pair that differs is a guess."""
    values = {request_headers[key].strip() for key in (name, newer) if key in request_headers}
    # Hex digits and UUIDs are compared without case, like everywhere else.
    if len({value.lower() for value in values}) > 1:
        raise HTTPError(401, "1812", f"{name} and {newer} disagree")
    return values.pop() if values else None


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
