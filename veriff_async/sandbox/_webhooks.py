"""Webhooks on their way: signed, posted, and tried again for as long as Veriff would.

Documented: POST of JSON, only 200 counts, about one try an hour for seven days, each delivery on its own. Seen: compact
JSON, ``x-auth-client`` and ``x-hmac-signature``. Guesses: the ``vrf-`` headers beside them, and that a redirect is not
followed.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import aiohttp
from attrs import frozen

from veriff_async._protocol.json.encode import dump_json
from veriff_async.sandbox._auth import signed_headers
from veriff_async.sandbox._records import Delivery

if TYPE_CHECKING:
    from veriff_async.credentials import Credentials
    from veriff_async.models.json import JsonObject
    from veriff_async.sandbox._options import SandboxOptions

__all__ = ("Courier", "Parcel", "delivered", "packed")

_OK: Final = 200


@frozen(kw_only=True)
class Parcel:
    """A webhook that is to be delivered.

    Attributes:
        url: Where to.
        body: The raw body, the same at every try.
        headers: The headers.
        until: When it is given up.
    """

    url: str
    body: bytes
    headers: dict[str, str]
    until: datetime


def packed(url: str, body: JsonObject, *, credentials: Credentials, options: SandboxOptions, now: datetime) -> Parcel:
    """Write and sign a webhook; the signing secret stands for the one promoted to master in the Customer Portal.

    Raises:
        InvalidArgumentError: Something in the body has no JSON.
    """
    raw = dump_json(body)
    headers = {"content-type": "application/json", **signed_headers(credentials, credentials.sign(raw))}
    return Parcel(url=url, body=raw, headers=headers, until=now + timedelta(days=options.webhook_retry_days))


class Courier:
    """Posts webhooks."""

    def __init__(self, options: SandboxOptions) -> None:
        """Open the connections; needs a running loop."""
        timeout = aiohttp.ClientTimeout(total=options.webhook_timeout_seconds)
        self._http = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())

    async def post(self, parcel: Parcel, *, now: datetime) -> Delivery:
        """Try once to deliver."""
        status: int | None = None
        try:
            async with self._http.post(
                parcel.url, data=parcel.body, headers=parcel.headers, allow_redirects=False
            ) as answer:
                status = answer.status
        except (aiohttp.ClientError, OSError, ValueError):
            status = None
        return Delivery(url=parcel.url, body=parcel.body, headers=parcel.headers, status=status, sent_at=now)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.close()


def delivered(delivery: Delivery) -> bool:
    """Tell whether the receiver has taken it: only 200 counts."""
    return delivery.status == _OK
