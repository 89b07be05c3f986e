"""The headers of a message that is signed as Veriff signs it, by the sandbox and by replays. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from veriff_async._protocol import headers

if TYPE_CHECKING:
    from veriff_async.credentials import Credentials

__all__ = ("signature_headers", "webhook_headers")


def signature_headers(credentials: Credentials, signature: str) -> dict[str, str]:
    """Return the headers of a signed response or webhook, of both families."""
    values = {
        headers.AUTH_CLIENT: credentials.api_key,
        headers.HMAC_SIGNATURE: signature,
        headers.VRF_AUTH_CLIENT: credentials.api_key,
        headers.VRF_HMAC_SIGNATURE: signature,
    }
    if credentials.integration_id is not None:
        values[headers.INTEGRATION_ID] = credentials.integration_id
    # Seen: real webhooks have names in lower case.
    return {name.lower(): value for name, value in values.items()}


def webhook_headers(credentials: Credentials, body: bytes) -> dict[str, str]:
    """Return the headers of a webhook.

    It is signed with the first secret; in the sandbox, that stands for the one promoted in the Customer Portal.
    """
    return {"content-type": "application/json", **signature_headers(credentials, credentials.sign(body))}
