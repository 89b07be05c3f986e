"""The public pages that document the rules, and the words for rules that no page documents."""

from __future__ import annotations

from typing import Final

__all__ = ("CHANGES_PAGE", "CONVENTION", "HMAC_PAGE", "INTEGRATORS", "RETRIES_PAGE", "SEEN", "UNKNOWN", "WEBHOOKS_PAGE")

HMAC_PAGE: Final = "https://devdocs.veriff.com/apidocs/veriff-public-api-guides"
WEBHOOKS_PAGE: Final = "https://devdocs.veriff.com/docs/webhooks-guide"
CHANGES_PAGE: Final = "https://devdocs.veriff.com/docs/backwards-compatible-changes"
RETRIES_PAGE: Final = "https://help.veriff.com, article 3250261"
SEEN: Final = "seen in payloads, not documented"
INTEGRATORS: Final = "notes of integrators, not documented by Veriff"
CONVENTION: Final = "a guess: common practice of webhooks"
UNKNOWN: Final = "a guess: whether Veriff does it is unknown"
