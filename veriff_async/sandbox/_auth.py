"""Who may come in, and what goes out: signatures of requests checked, of answers made. Pure.

https://devdocs.veriff.com/apidocs/veriff-public-api-guides. Documented: the raw body is signed where
there is one, else the id in the path; the signature of a creation is optional; an answer is signed with the secret that
signed the request. Guesses: that a wrong optional signature is refused, that an unsigned creation is answered with the
newest secret, and that all answers carry both families of headers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from veriff_async._protocol import headers
from veriff_async._protocol.signing import is_signature
from veriff_async.sandbox._errors import HTTPError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from veriff_async._protocol.signing import Verifier
    from veriff_async.credentials import Credentials

__all__ = (
    "check_api_key",
    "check_client",
    "check_feedback_client",
    "check_signature",
    "signature_of",
    "signed_headers",
)


def check_client(found: Mapping[str, str], credentials: Credentials) -> None:
    """Check the API key (codes 1801 to 1803)."""
    _check_key(_agreed(found, headers.AUTH_CLIENT, headers.VRF_AUTH_CLIENT), headers.AUTH_CLIENT, credentials)


def check_feedback_client(found: Mapping[str, str], credentials: Credentials) -> None:
    """Check the API key of the feedback API, which has a header of its own."""
    _check_key(found.get(headers.VRF_AUTH_CLIENT), headers.VRF_AUTH_CLIENT, credentials)


def check_api_key(found: Mapping[str, str], credentials: Credentials) -> None:
    """Check the second header that the synchronous host wants the API key in."""
    _check_key(found.get(headers.API_KEY), headers.API_KEY, credentials)


def _check_key(client: str | None, name: str, credentials: Credentials) -> None:
    if client is None:
        raise HTTPError(401, "1801", f"Mandatory {name} header is missing")
    if client.strip().lower() == credentials.api_key.lower():
        return
    if not _is_uuid(client):
        raise HTTPError(401, "1802", "API key must be a UUID")
    raise HTTPError(401, "1803", "No integration has this API key")


def signature_of(found: Mapping[str, str]) -> str | None:
    """Return the signature of a request, if it has one (code 1812 when it is none)."""
    signature = _agreed(found, headers.HMAC_SIGNATURE, headers.VRF_HMAC_SIGNATURE)
    if signature is not None and not is_signature(signature):
        raise HTTPError(401, "1812", "Signature must be a SHA-256 in hex")
    return signature


def check_signature(verifier: Verifier, signature: str | None, *, of_body: bool) -> int:
    """Check a signature (codes 1812, 1818 and 1819).

    Returns:
        The place of the secret that made it.
    """
    if signature is None:
        raise HTTPError(401, "1812", "Mandatory X-HMAC-SIGNATURE header is missing")
    matched = verifier.match(signature)
    if matched is None:
        raise HTTPError(401, "1819" if of_body else "1818", "HMAC signature does not match")
    return matched


def signed_headers(credentials: Credentials, signature: str) -> dict[str, str]:
    """Return the headers of a signed answer or webhook, of both families."""
    signed = {
        headers.AUTH_CLIENT: credentials.api_key,
        headers.HMAC_SIGNATURE: signature,
        headers.VRF_AUTH_CLIENT: credentials.api_key,
        headers.VRF_HMAC_SIGNATURE: signature,
    }
    if credentials.integration_id is not None:
        signed[headers.INTEGRATION_ID] = credentials.integration_id
    return {name.lower(): value for name, value in signed.items()}


def _agreed(found: Mapping[str, str], name: str, newer: str) -> str | None:
    """Return the value of a header of either family; that a disagreeing pair is refused is a guess."""
    values = {found[each].strip() for each in (name, newer) if each in found}
    if len({value.lower() for value in values}) > 1:
        raise HTTPError(401, "1812", f"{name} and {newer} disagree")
    return values.pop() if values else None


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
