"""Who a message comes from, by its headers: API key, integration, signature. Answers and webhooks carry the same.

https://devdocs.veriff.com/apidocs/veriff-public-api-guides. Two families of headers say the same; either
serves, and a pair that disagrees is nobody's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import frozen

from veriff_async.errors import SignatureError
from veriff_async.protocol.headers import (
    AUTH_CLIENT,
    HMAC_SIGNATURE,
    INTEGRATION_ID,
    VRF_AUTH_CLIENT,
    VRF_HMAC_SIGNATURE,
)
from veriff_async.protocol.signing import is_signature

if TYPE_CHECKING:
    from collections.abc import Mapping

    from veriff_async.protocol.credentials import Credentials

__all__ = ("Claim", "Origin", "claim_of", "verify_webhook")


_CLIENT: Final = "client"
_SIGNATURE: Final = "signature"
_INTEGRATION: Final = "integration"
_SAYS: Final = {
    AUTH_CLIENT.lower(): _CLIENT,
    VRF_AUTH_CLIENT.lower(): _CLIENT,
    HMAC_SIGNATURE.lower(): _SIGNATURE,
    VRF_HMAC_SIGNATURE.lower(): _SIGNATURE,
    INTEGRATION_ID.lower(): _INTEGRATION,
}
"""What the headers say, by their names in lower case."""


@frozen
class Claim:
    """What the headers of a message say; ``None`` for what they do not.

    Attributes:
        client: The API key.
        signature: The signature.
        integration: The integration.
        disagrees: Whether the two families contradict each other.
    """

    client: str | None
    signature: str | None
    integration: str | None
    disagrees: bool

    def is_foreign(self, credentials: Credentials) -> bool:
        """Tell whether it names another API key."""
        return self.client is not None and self.client.lower() != credentials.api_key.lower()

    def is_of_other_integration(self, credentials: Credentials) -> bool:
        """Tell whether it names another integration than the credentials do; either side may name none."""
        known = credentials.integration_id
        return self.integration is not None and known is not None and self.integration.lower() != known.lower()


@frozen
class Origin:
    """Who a message was proven to come from.

    Attributes:
        place: The place of the secret that signed it, in `Credentials.secrets`; above 0, an older one is still in use.
        integration_id: The integration that it names.
    """

    place: int
    integration_id: str | None = None


def claim_of(headers: Mapping[str, str]) -> Claim:
    """Read the headers of a message; names in any case."""
    # A header may come twice, and some mappings give both; each mapping is gone through once.
    said: dict[str, list[str]] = {_CLIENT: [], _SIGNATURE: [], _INTEGRATION: []}
    for name, value in headers.items():
        what = _SAYS.get(name.lower())
        if what is not None:
            said[what].append(value.strip())
    client, clients_agree = _agreed(said[_CLIENT])
    signature, signatures_agree = _agreed(said[_SIGNATURE])
    integration, _ = _agreed(said[_INTEGRATION])
    return Claim(client, signature, integration or None, not (clients_agree and signatures_agree))


def verify_webhook(headers: Mapping[str, str], body: bytes, credentials: Credentials) -> Origin:
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
            wrong; ``.why`` says which.

    See https://devdocs.veriff.com/apidocs/veriff-public-api-guides.
    """
    claim = claim_of(headers)
    for name, value in ((AUTH_CLIENT, claim.client), (HMAC_SIGNATURE, claim.signature)):
        if value is None:
            msg = f"The webhook has no {name} header: check that the proxy in front of you passes it on."
            raise SignatureError(msg, why="missing")
    if claim.disagrees:
        msg = "The webhook's two families of headers disagree: answer 401, it is not Veriff's."
        raise SignatureError(msg, why="malformed")
    if claim.is_foreign(credentials):
        msg = "The webhook names another API key: check which integration sends to this address."
        raise SignatureError(msg, why="foreign_client")
    if claim.is_of_other_integration(credentials):
        msg = "The webhook names another integration: check which integration sends to this address."
        raise SignatureError(msg, why="foreign_integration")
    if not is_signature(claim.signature or ""):
        msg = "The webhook's signature is not 64 hex digits: answer 401, it is not Veriff's."
        raise SignatureError(msg, why="malformed")
    place = credentials.verify(body, claim.signature or "")
    if place is None:
        msg = (
            "The webhook's signature matches no live secret: verify the raw bytes as they came, give every secret that "
            "the API Keys page lists, and see what explain_signature says."
        )
        raise SignatureError(msg, why="mismatch")
    return Origin(place, claim.integration)


def _agreed(values: list[str]) -> tuple[str | None, bool]:
    """Return the first of some values, and whether all of them say the same."""
    if len(values) <= 1:
        return (values[0] if values else None), True
    return values[0], len({value.lower() for value in values}) == 1
