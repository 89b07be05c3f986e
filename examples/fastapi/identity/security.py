"""Protection against other sites, large bodies, and markup of strangers."""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import HTTPException, Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_PICTURE = 18_000_000
"""Bytes of the largest picture; Veriff's own limit is about the same."""

MAX_FORM = 3 * MAX_PICTURE + 100_000
"""Bytes of a form with three pictures."""

# https://developer.mozilla.org/docs/Web/HTTP/Guides/CSP. Previews of pictures are blob: URLs.
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",  # a file input needs no permission
    # With "no-referrer", browsers send forms with "Origin: null".
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def check_request(request: Request) -> None:
    """Refuse a request that changes something if it comes from another site, or has a body of unknown or large size.

    Browsers say in headers where a request comes from, and no script can set them, so forms need no token:
    https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html

    Raises:
        HTTPException: 403, 411 or 413.
    """
    if request.method in {"GET", "HEAD"}:
        return
    site = request.headers.get("Sec-Fetch-Site")
    origin = urlsplit(request.headers.get("Origin", ""))
    # Without HTTPS, browsers send no Sec-Fetch-Site, but all of them send Origin.
    if site != "same-origin" and (site is not None or origin.netloc != request.headers.get("Host")):
        raise HTTPException(403, "This request came from another website.")
    # The server reads no more than Content-Length, so checking it is enough, and nothing has to be read.
    length = request.headers.get("Content-Length", "")
    if not length.isdecimal():
        raise HTTPException(411, "The length of the request is missing.")
    if int(length) > (MAX_PICTURE if request.method == "PUT" else MAX_FORM):
        raise HTTPException(413, "The picture is too large: use one with less than 18 MB.")


class SecurityHeaders:
    """Adds headers to every response; plain ASGI, so that streams are passed on piece by piece."""

    def __init__(self, app: ASGIApp, *, is_secure: bool) -> None:
        """Wrap an application."""
        self._app = app
        self._headers = dict(_HEADERS)
        if is_secure:
            self._headers["Strict-Transport-Security"] = "max-age=31536000"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(self._headers)
                # Pages show the state of one person's verification. Static files have validators of their own.
                if "ETag" not in headers:
                    headers["Cache-Control"] = "no-store"
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)
