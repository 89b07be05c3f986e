"""Building and posting webhooks.

Documented: a POST of JSON, of which only a response 200 counts, one attempt about every hour for seven days, each
webhook by itself. Seen: compact JSON, ``x-auth-client`` and ``x-hmac-signature``. Guesses: the ``vrf-`` headers besides
them, and that redirects are not followed.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import aiohttp
from attrs import frozen

from veriff_async._protocol.json.encode import dump_json
from veriff_async.sandbox._auth import signature_headers
from veriff_async.sandbox._records import Delivery

if TYPE_CHECKING:
    from veriff_async.credentials import Credentials
    from veriff_async.models.json import JsonObject
    from veriff_async.sandbox._options import SandboxOptions

__all__ = ("PendingWebhook", "WebhookSender", "build_webhook", "is_delivered")

_OK: Final = 200


@frozen(kw_only=True)
class PendingWebhook:
    """A webhook that is to be delivered.

    Attributes:
        url: The URL to post to.
        body: The raw body. Each attempt sends the same bytes, so the signature stays valid.
        headers: The headers.
        expires_at: No attempt is made after this time.
    """

    url: str
    body: bytes
    headers: dict[str, str]
    expires_at: datetime


def build_webhook(
    url: str, body: JsonObject, *, credentials: Credentials, options: SandboxOptions, now: datetime
) -> PendingWebhook:
    """Serialise and sign a webhook.

    It is signed with the first secret, which stands for the one promoted to master in the Customer Portal.

    Raises:
        InvalidArgumentError: A value in the body has no JSON.
    """
    raw = dump_json(body)
    headers = {"content-type": "application/json", **signature_headers(credentials, credentials.sign(raw))}
    expires_at = now + timedelta(days=options.webhook_retry_days)
    return PendingWebhook(url=url, body=raw, headers=headers, expires_at=expires_at)


class WebhookSender:
    """Posts webhooks."""

    def __init__(self, options: SandboxOptions) -> None:
        """Open a connection pool; needs a running loop."""
        # No cookies: a receiver must not influence what the next one gets.
        timeout = aiohttp.ClientTimeout(total=options.webhook_timeout_seconds)
        self._http = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())

    async def post(self, webhook: PendingWebhook, *, now: datetime) -> Delivery:
        """Make one attempt to deliver, and return its result; failures are results, too."""
        status: int | None = None
        try:
            async with self._http.post(
                webhook.url, data=webhook.body, headers=webhook.headers, allow_redirects=False
            ) as response:
                status = response.status
        except (aiohttp.ClientError, OSError, ValueError):  # aiohttp raises ValueError for some hosts
            status = None
        return Delivery(url=webhook.url, body=webhook.body, headers=webhook.headers, status=status, sent_at=now)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.close()


def is_delivered(delivery: Delivery) -> bool:
    """Return whether the receiver has accepted the webhook: only 200 counts (documented)."""
    return delivery.status == _OK
