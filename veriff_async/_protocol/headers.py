"""Names of Veriff's own HTTP headers (https://devdocs.veriff.com/apidocs/veriff-public-api-guides)."""

from __future__ import annotations

from typing import Final

AUTH_CLIENT: Final = "X-AUTH-CLIENT"
HMAC_SIGNATURE: Final = "X-HMAC-SIGNATURE"
# The newer family: used by the feedback API, and together with the older one in responses and webhooks.
VRF_AUTH_CLIENT: Final = "VRF-AUTH-CLIENT"
VRF_HMAC_SIGNATURE: Final = "VRF-HMAC-SIGNATURE"
INTEGRATION_ID: Final = "VRF-INTEGRATION-ID"
# Only the synchronous check of registries requires the API key here too.
API_KEY: Final = "X-API-Key"
# Older than HMAC, and seen together with it in a webhook of 2023: hex(SHA-256(body + secret)).
LEGACY_SIGNATURE: Final = "X-SIGNATURE"
