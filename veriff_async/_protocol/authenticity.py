"""Authenticity of webhooks and responses, from their headers: API key, integration and signature.

https://devdocs.veriff.com/apidocs/veriff-public-api-guides. Two families of headers have the same content:
X-AUTH-CLIENT with X-HMAC-SIGNATURE, and VRF-AUTH-CLIENT with VRF-HMAC-SIGNATURE. One family is enough. If both are
present and differ, the message is not authentic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from attrs import frozen

from veriff_async._protocol.headers import (
    AUTH_CLIENT,
    HMAC_SIGNATURE,
    INTEGRATION_ID,
    LEGACY_SIGNATURE,
    VRF_AUTH_CLIENT,
    VRF_HMAC_SIGNATURE,
)
from veriff_async._protocol.request_arguments import as_bytes, check_credentials, header_items, header_text
from veriff_async._protocol.signing import is_signature
from veriff_async.errors import SignatureError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from veriff_async.credentials import Credentials

__all__ = ("AuthHeaders", "WebhookVerification", "match_secret", "parse_auth_headers", "verify_webhook")


_CLIENT: Final = "client"
_SIGNATURE: Final = "signature"
_INTEGRATION: Final = "integration"
_LEGACY: Final = "legacy"
# The meaning of each header, by its name in lower case.
_ROLES: Final = {
    AUTH_CLIENT.lower(): _CLIENT,
    VRF_AUTH_CLIENT.lower(): _CLIENT,
    HMAC_SIGNATURE.lower(): _SIGNATURE,
    VRF_HMAC_SIGNATURE.lower(): _SIGNATURE,
    INTEGRATION_ID.lower(): _INTEGRATION,
    LEGACY_SIGNATURE.lower(): _LEGACY,
}


class AuthHeaders(NamedTuple):
    """The authentication headers of a message, ``None`` for those that are missing.

    Attributes:
        api_key: The API key.
        signature: The signature.
        integration_id: The integration.
        disagrees: Whether the two families contradict each other.
        legacy: The older X-SIGNATURE, a hash without HMAC, which this library does not accept.
    """

    api_key: str | None
    signature: str | None
    integration_id: str | None
    disagrees: bool
    legacy: str | None = None

    def names_other_key(self, credentials: Credentials) -> bool:
        """Return whether the headers name another API key."""
        return self.api_key is not None and self.api_key.lower() != credentials.api_key.lower()

    def names_other_integration(self, credentials: Credentials) -> bool:
        """Return whether the headers and the credentials name different integrations; either may name none."""
        expected = credentials.integration_id
        if self.integration_id is None or expected is None:
            return False
        return self.integration_id.lower() != expected.lower()


@frozen
class WebhookVerification:
    """The result of a successful verification.

    Attributes:
        secret_index: The index in `Credentials.secrets` of the secret that signed the message. An index above 0 means
            that an older secret is still in use.
        integration_id: The integration that the message names.
    """

    secret_index: int
    integration_id: str | None = None


def parse_auth_headers(headers: Mapping[str, str]) -> AuthHeaders:
    """Return the authentication headers of a message. Header names may be in any case.

    Raises:
        InvalidArgumentError: The headers are not a mapping of str to str.
    """
    # A header may come twice, and some mappings give both. The first one counts, and all must be equal.
    values: dict[str, str] = {}
    disagrees = False
    for name, value in header_items(headers, _ROLES):
        role = _ROLES[name]
        text = (value if isinstance(value, str) else header_text(name, value)).strip()
        first = values.setdefault(role, text)
        if first is not text and first.lower() != text.lower() and role in {_CLIENT, _SIGNATURE}:
            disagrees = True
    return AuthHeaders(
        values.get(_CLIENT), values.get(_SIGNATURE), values.get(_INTEGRATION) or None, disagrees, values.get(_LEGACY)
    )


def verify_webhook(headers: Mapping[str, str], body: bytes, credentials: Credentials) -> WebhookVerification:
    """Check that a message comes from Veriff, for this integration.

    `parse_webhook` does this first. Called alone, it shows which secret is in use, for example to find out when an
    older secret can be deleted.

    Args:
        headers: The request's headers, names in any case.
        body: The raw body, exactly as received.
        credentials: The credentials of the expected sender. Any of their secrets may have signed the message.

    Returns:
        The index of the secret that signed the message, and the integration.

    Raises:
        SignatureError: The API key or integration is missing or another, or the signature is missing, malformed or
            wrong; see ``.reason``.
        InvalidArgumentError: An argument is of a wrong type; the message names the likely mistake.

    See https://devdocs.veriff.com/apidocs/veriff-public-api-guides.
    """
    return WebhookVerification(*match_secret(headers, as_bytes(body), credentials))


def match_secret(headers: Mapping[str, str], body: bytes, credentials: Credentials) -> tuple[int, str | None]:
    """Return the index of the secret that signed a message and the integration; see `verify_webhook`."""
    credentials = check_credentials(credentials)
    auth = parse_auth_headers(headers)
    signature = auth.signature
    if auth.api_key is None or signature is None:
        name = AUTH_CLIENT if auth.api_key is None else HMAC_SIGNATURE
        legacy = ", only the older X-SIGNATURE, which is not checked" if auth.legacy else ""
        msg = f"The webhook has no {name} header{legacy}: check that the proxy in front of you passes it on."
        raise SignatureError(msg, reason="missing")
    if auth.disagrees:
        msg = "The webhook's two families of headers disagree: answer 401, it is not Veriff's."
        raise SignatureError(msg, reason="malformed")
    if auth.names_other_key(credentials):
        msg = "The webhook names another API key: check which integration sends to this address."
        raise SignatureError(msg, reason="foreign_client")
    if auth.names_other_integration(credentials):
        msg = "The webhook names another integration: check which integration sends to this address."
        raise SignatureError(msg, reason="foreign_integration")
    secret_index = credentials.verify(body, signature)
    if secret_index is not None:
        return secret_index, auth.integration_id
    if not is_signature(signature):
        msg = "The webhook's signature is not 64 hex digits: answer 401, it is not Veriff's."
        raise SignatureError(msg, reason="malformed")
    msg = (
        "The webhook's signature matches no live secret: verify the raw bytes as received, pass every secret that the "
        "API Keys page lists, and call explain_signature."
    )
    raise SignatureError(msg, reason="mismatch")
