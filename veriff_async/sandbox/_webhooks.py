"""Posting webhooks.

Documented: a POST of JSON, of which only a response 200 counts, one attempt about every hour for seven days, each
webhook by itself. Seen: compact JSON, ``x-auth-client`` and ``x-hmac-signature``. Guesses: the ``vrf-`` headers besides
them, and that redirects are not followed.
"""

from __future__ import annotations

import os
import re
from time import perf_counter
from typing import TYPE_CHECKING, Final

import aiohttp

from veriff_async.sandbox._records import Delivery
from veriff_async.sandbox._webhook_app import AppRequest, AppResponse

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from veriff_async.sandbox._webhook_app import WebhookApp
    from veriff_async.sandbox._webhook_records import PendingWebhook

__all__ = ("WebhookSender",)

# A page of error of a framework fits, and ten thousand deliveries that are kept stay below 100 MB.
_MAX_BODY: Final = 4096
_MAX_HEADERS: Final = 40
_MAX_HEADER: Final = 1024
# Headers that carry credentials, of servers, proxies and gateways: a list of deliveries is shown, copied and stored.
_SECRET: Final = re.compile(r"cookie|auth|token|secret|api-?key|password|credential|session", re.IGNORECASE)


class WebhookSender:
    """Posts webhooks, over the network or to an application in this process."""

    def __init__(self, app: WebhookApp) -> None:
        """Open a connection pool; needs a running loop."""
        self._app = app
        # No cookies: a receiver must not influence what the next one gets.
        self._http = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())

    async def post(self, webhook: PendingWebhook, *, now: datetime, timeout: float) -> Delivery:  # noqa: ASYNC109
        """Make one attempt to deliver, and return its result; failures are results, too.

        Args:
            webhook: The webhook.
            now: The time by the clock of the sandbox.
            timeout: Seconds in which the receiver must respond.
        """
        started = perf_counter()
        if self._app.is_set:
            request = AppRequest(url=webhook.url, headers=webhook.headers, body=webhook.body)
            response = await self._app.post(request, timeout=timeout)
        else:
            response = await self._post(webhook, timeout)
        return Delivery(
            url=webhook.url,
            body=webhook.body,
            headers=webhook.headers,
            status=response.status,
            sent_at=now,
            webhook_id=webhook.id,
            session_id=webhook.session_id,
            kind=webhook.kind,
            duration=perf_counter() - started,
            error=response.error,
            response_headers=_keep_headers(response.headers),
            response_body=response.body[:_MAX_BODY],
            is_cut=len(response.body) > _MAX_BODY,
        )

    async def _post(self, webhook: PendingWebhook, timeout: float) -> AppResponse:  # noqa: ASYNC109
        status, headers, body, error = None, tuple[tuple[str, str], ...](), bytearray(), ""
        try:
            async with self._http.post(
                webhook.url,
                data=webhook.body,
                headers=webhook.headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout),
            ) as response:
                # The status counts, also if the body breaks off.
                status, headers = response.status, tuple(response.headers.items())
                # One byte more than is kept shows that there is more.
                while len(body) <= _MAX_BODY and (part := await response.content.read(_MAX_BODY + 1 - len(body))):
                    body += part
        except (aiohttp.ClientError, OSError, ValueError) as failure:  # aiohttp raises ValueError for some hosts
            error = _describe(failure, timeout, has_begun=status is not None)
        return AppResponse(status=status, headers=headers, body=bytes(body), error=error)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.close()


def _describe(failure: Exception, timeout: float, *, has_begun: bool) -> str:
    # The text of an error may contain the URL, and the URL a secret.
    if isinstance(failure, TimeoutError):
        return f"no {'complete ' if has_begun else ''}response within {timeout:g} seconds"
    if has_begun:
        return "the response breaks off"
    if isinstance(failure, aiohttp.ClientResponseError):
        return "the response is not valid HTTP"
    if isinstance(failure, aiohttp.ServerDisconnectedError):
        return "the connection was closed without a response"
    if isinstance(failure, OSError) and failure.errno is not None:
        # aiohttp's text names the address. A negative number is from the resolver, which has its own texts.
        reason = os.strerror(failure.errno) if failure.errno > 0 else failure.strerror
        return f"no connection ({reason})"
    return f"no connection ({type(failure).__name__})"


def _keep_headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    kept = {name.lower(): _to_text(value) for name, value in headers if _SECRET.search(name) is None}
    return dict(list(kept.items())[:_MAX_HEADERS])


def _to_text(value: str) -> str:
    # aiohttp keeps bytes that are not UTF-8 as surrogates, which no page, file or JSON can hold.
    return value[:_MAX_HEADER].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
