"""Names of Veriff's own HTTP headers (https://devdocs.veriff.com/apidocs/veriff-public-api-guides)."""

from __future__ import annotations

from typing import Final

AUTH_CLIENT: Final = "X-AUTH-CLIENT"
HMAC_SIGNATURE: Final = "X-HMAC-SIGNATURE"
# The newer family: used by the feedback API, and beside the older one in answers and webhooks.
VRF_AUTH_CLIENT: Final = "VRF-AUTH-CLIENT"
VRF_HMAC_SIGNATURE: Final = "VRF-HMAC-SIGNATURE"
INTEGRATION_ID: Final = "VRF-INTEGRATION-ID"
# The synchronous check of registries alone wants the API key here too.
API_KEY: Final = "X-API-Key"
# Older than HMAC, and seen beside it in a webhook of 2023: hex(SHA-256(body + secret)).
LEGACY_SIGNATURE: Final = "X-SIGNATURE"
