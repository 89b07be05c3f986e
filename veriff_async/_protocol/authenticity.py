"""Who a message comes from, by its headers: API key, integration, signature. Answers and webhooks carry the same.

https://devdocs.veriff.com/apidocs/veriff-public-api-guides. Two families of headers say the same; either
serves, and a pair that disagrees is nobody's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

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

__all__ = ("Claim", "WebhookVerification", "claim_of", "verify_webhook")


_CLIENT: Final = "client"
_SIGNATURE: Final = "signature"
_INTEGRATION: Final = "integration"
_LEGACY: Final = "legacy"
_ROLES: Final = {
    AUTH_CLIENT.lower(): _CLIENT,
    VRF_AUTH_CLIENT.lower(): _CLIENT,
    HMAC_SIGNATURE.lower(): _SIGNATURE,
    VRF_HMAC_SIGNATURE.lower(): _SIGNATURE,
    INTEGRATION_ID.lower(): _INTEGRATION,
    LEGACY_SIGNATURE.lower(): _LEGACY,
}
"""The meaning of each header, by its name in lower case."""


@frozen
class Claim:
    """What the headers of a message say; ``None`` for what they do not.

    Attributes:
        client: The API key.
        signature: The signature.
        integration: The integration.
        disagrees: Whether the two families contradict each other.
        legacy: The older X-SIGNATURE, a hash without HMAC, which proves nothing here.
    """

    client: str | None
    signature: str | None
    integration: str | None
    disagrees: bool
    legacy: str | None = None

    def is_foreign(self, credentials: Credentials) -> bool:
        """Tell whether it names another API key."""
        return self.client is not None and self.client.lower() != credentials.api_key.lower()

    def is_of_other_integration(self, credentials: Credentials) -> bool:
        """Tell whether it names another integration than the credentials do; either side may name none."""
        known = credentials.integration_id
        return self.integration is not None and known is not None and self.integration.lower() != known.lower()


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


def claim_of(headers: Mapping[str, str]) -> Claim:
    """Read the headers of a message; names in any case.

    Raises:
        InvalidArgumentError: They are no mapping of str to str.
    """
    # A header may come twice, and some mappings give both. The first one counts, and all must be equal.
    values: dict[str, str] = {}
    disagrees = False
    for name, value in header_items(headers):
        role = _ROLES.get(name)
        if role is not None:
            text = header_text(name, value).strip()
            is_equal = values.setdefault(role, text).lower() == text.lower()
            disagrees |= not is_equal and role in {_CLIENT, _SIGNATURE}
    return Claim(
        values.get(_CLIENT), values.get(_SIGNATURE), values.get(_INTEGRATION) or None, disagrees, values.get(_LEGACY)
    )


def verify_webhook(headers: Mapping[str, str], body: bytes, credentials: Credentials) -> WebhookVerification:
    """Check that a message comes from Veriff, for this integration.

    `parse_webhook` does this first; alone it tells which secret is in use, for example to see when an older one can be
    deleted.

    Args:
        headers: The request's headers, names in any case.
        body: The raw body, exactly as it came.
        credentials: Whose message it should be; any live secret of the ring may have signed it.

    Returns:
        Which secret signed it.

    Raises:
        SignatureError: The API key or integration is missing or another, or the signature is missing, malformed or
            wrong; ``.reason`` says which.
        InvalidArgumentError: An argument is of a wrong type; the message names the likely mistake.

    See https://devdocs.veriff.com/apidocs/veriff-public-api-guides.
    """
    body, credentials = as_bytes(body), check_credentials(credentials)
    claim = claim_of(headers)
    for name, value in ((AUTH_CLIENT, claim.client), (HMAC_SIGNATURE, claim.signature)):
        if value is None:
            legacy = ", only the older X-SIGNATURE, which is not checked" if claim.legacy else ""
            msg = f"The webhook has no {name} header{legacy}: check that the proxy in front of you passes it on."
            raise SignatureError(msg, reason="missing")
    if claim.disagrees:
        msg = "The webhook's two families of headers disagree: answer 401, it is not Veriff's."
        raise SignatureError(msg, reason="malformed")
    if claim.is_foreign(credentials):
        msg = "The webhook names another API key: check which integration sends to this address."
        raise SignatureError(msg, reason="foreign_client")
    if claim.is_of_other_integration(credentials):
        msg = "The webhook names another integration: check which integration sends to this address."
        raise SignatureError(msg, reason="foreign_integration")
    if not is_signature(claim.signature or ""):
        msg = "The webhook's signature is not 64 hex digits: answer 401, it is not Veriff's."
        raise SignatureError(msg, reason="malformed")
    secret_index = credentials.verify(body, claim.signature or "")
    if secret_index is None:
        msg = (
            "The webhook's signature matches no live secret: verify the raw bytes as they came, give every secret that "
            "the API Keys page lists, and see what explain_signature says."
        )
        raise SignatureError(msg, reason="mismatch")
    return WebhookVerification(secret_index, claim.integration)
