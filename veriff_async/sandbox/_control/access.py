"""Who may use the console, the control API and the hosted page.

A sandbox holds invented people and signs with its own secrets, but a page of another origin that drives it can falsify
a test, and a sandbox that other machines reach may hold pictures of real documents.

Rules, for everything under ``/_sandbox`` except the certificate of the authority:
  * With a token, every request needs it: ``Authorization: Bearer <token>``, or the cookie that ``/_sandbox/?token=...``
    sets. A sandbox that listens on another address than loopback, or has a public name, always has one.
  * Without a token, the header ``Host`` must be a name of this machine. A page that points a name of its own at
    127.0.0.1 (DNS rebinding) has the same origin as the sandbox, and only ``Host`` reveals it.
  * Pages of other origins are refused, unless they have the token itself. A cookie is not enough: cookies and
    ``SameSite`` ignore ports, so a page of another program on this machine would send it. Following a link from another
    page to the console is allowed: the other page cannot read the response.

The hosted page has a token of its own in its address and works in frames of any origin, so only ``Host`` is checked.
"""

from __future__ import annotations

import hmac
import html
import os
import re
import secrets
from enum import Enum, auto
from hashlib import sha256
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from aiohttp import web

from veriff_async.errors import ConfigurationError
from veriff_async.sandbox._control.errors import ControlError
from veriff_async.sandbox._tls import CA_PATH
from veriff_async.sandbox._web import is_cross_site

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

__all__ = ("API_PREFIX", "CONSOLE_PATH", "TOKEN_VARIABLE", "Access", "Area", "area_of", "check_token")

TOKEN_VARIABLE: Final = "VERIFF_SANDBOX_TOKEN"  # noqa: S105  a name
CONSOLE_PATH: Final = "/_sandbox/"
API_PREFIX: Final = "/_sandbox/api"

# https://www.rfc-editor.org/rfc/rfc6750#section-2.1, which is also safe in a cookie; shorter ones can be guessed.
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]{8,}=*")
# https://www.rfc-editor.org/rfc/rfc9110#section-7.2, without the characters that names of hosts do not have.
_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]*)?", re.IGNORECASE | re.ASCII)
_LEADING_ON: Final = (
    '<!doctype html><html lang="en"><meta http-equiv="refresh" content="0;url={0}"><title>Veriff sandbox</title>'
    '<p><a href="{0}">Open the console</a></p></html>'
)
_BEARER: Final = re.compile(r"bearer +(\S+)", re.IGNORECASE)


class Area(Enum):
    """A part of the sandbox that is not the API of Veriff."""

    API = auto()
    CONSOLE = auto()
    HOSTED = auto()
    PUBLIC = auto()


def area_of(request: web.Request) -> Area | None:
    """Return the part of the sandbox that a request is for; ``None`` for the API of Veriff."""
    resource = request.match_info.route.resource
    # The route counts as well as the path, so that no spelling of a path reaches a handler past its rules.
    paths = (request.path, "" if resource is None else resource.canonical)
    if any(path == API_PREFIX or path.startswith(API_PREFIX + "/") for path in paths):
        return Area.API
    if request.path == CA_PATH:
        return Area.PUBLIC
    if any(path == "/_sandbox" or path.startswith(CONSOLE_PATH) for path in paths):
        return Area.CONSOLE
    if any(path.startswith("/v/") for path in paths):
        # Styles and scripts of the pages are the same in every sandbox.
        return Area.PUBLIC if request.path.startswith("/v/static/") else Area.HOSTED
    return None


def check_token(name: str, token: object) -> str:
    """Check a token that a user has chosen.

    Raises:
        ConfigurationError: It is short, or has a character that a header or cookie cannot carry.
    """
    if isinstance(token, str) and _TOKEN.fullmatch(token):
        return token
    msg = f"{name} must be 8 or more letters, digits or characters of -._~+/, for example of secrets.token_urlsafe()."
    raise ConfigurationError(msg)


class Access:
    """The token of a sandbox, and the names under which it is reached.

    Attributes:
        token: The token that requests need; ``None`` if they need none.
    """

    def __init__(self, token: str | None, names: Collection[str]) -> None:
        """Choose the rules.

        Args:
            token: The token that the user has chosen; ``None`` for a random one where one is needed.
            names: Names and addresses of the sandbox, besides those of loopback.
        """
        self._chosen = token
        self._random = ""
        self._names = {name.lower() for name in names}
        self._addresses: tuple[str, ...] = ()
        self._public_name: str | None = None
        # Until the address is known, requests need a token that no client has.
        self.token: str | None = self._new_token()
        self._checks_host = True

    def keep_token(self, path: Path) -> None:
        """Keep the random token in a file, so that it is the same after a restart. Blocking."""
        try:
            text = path.read_text(encoding="ascii", errors="replace") if path.exists() else ""
            # A file that a kill has left empty is written again.
            if _TOKEN.fullmatch(text):
                self._random = text
                return
            path.unlink(missing_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
                file.write(self._new_token())
        except OSError as error:
            problem = error.strerror or type(error).__name__
        else:
            return
        msg = f"The token of the control API cannot be kept in {path.name} ({problem}): pass control_token."
        raise ConfigurationError(msg)

    def publish(self, name: str | None) -> None:
        """Choose the rules again for the public name of the sandbox, such as that of a proxy in front of it."""
        self._public_name = name
        if self._addresses:
            self.open(self._addresses)

    def open(self, addresses: Collection[str]) -> None:
        """Choose the rules for the addresses that the sandbox listens on."""
        self._addresses = tuple(addresses)
        # Requests through a proxy come from this machine, but their senders are elsewhere.
        public = () if self._public_name is None else (self._public_name,)
        is_local = all(_is_loopback(name) for name in (*addresses, *public))
        self.token = self._chosen if self._chosen is not None or is_local else self._new_token()
        # The names by which other machines know this one are unknown; they need the token.
        self._checks_host = is_local

    def console_url(self, base_url: str) -> str:
        """Return the URL of the console for a browser, with the token if there is one."""
        return base_url + CONSOLE_PATH + ("" if self.token is None else f"?token={self.token}")

    def check(self, request: web.Request, area: Area) -> web.Response | None:
        """Check a request.

        Returns:
            The response to a request that exchanges the token for a cookie; otherwise ``None``.
        """
        if area is Area.HOSTED:
            self._check_host(request)
        if area not in {Area.API, Area.CONSOLE}:
            return None
        if self.token is None:
            self._check_host(request)
        elif (bearer := _BEARER.fullmatch(request.headers.get("Authorization", "").strip())) is not None:
            self._check_equal(bearer[1], self.token)
            return None
        elif request.method == "GET" and request.path.rstrip("/") == "/_sandbox" and "token" in request.query:
            self._check_equal(request.query["token"], self.token)
            return self._give_cookie(request, self.token)
        else:
            self._check_equal(request.cookies.get(_cookie_name(self.token), ""), _cookie_value(self.token))
        if is_cross_site(request) and (area is Area.API or not _is_navigation(request)):
            msg = "The sandbox takes no requests from pages of other origins: send its token, or use its own console."
            raise ControlError(403, msg)
        return None

    def _new_token(self) -> str:
        # The same one after a restart, so that clients and bookmarks stay valid.
        self._random = self._random or secrets.token_urlsafe(24)
        return self._random

    def _check_host(self, request: web.Request) -> None:
        # Programs may send none (HTTP/1.0); browsers always do.
        host = request.headers.get("Host")
        if host is None or not self._checks_host:
            return
        name = _host_name(host)
        if _is_loopback(name) or name in self._names:
            return
        msg = (
            "The sandbox does not know the name in the header Host: use localhost, pass it in tls_names, or choose a "
            "control_token and send it."
        )
        raise ControlError(403, msg)

    def _check_equal(self, given: str, wanted: str) -> None:
        # Headers may hold bytes that are not UTF-8, which aiohttp escapes.
        if hmac.compare_digest(given.encode("utf-8", "surrogatepass"), wanted.encode()):
            return
        msg = (
            "This needs the token of the sandbox: send Authorization: Bearer <token>, or open the address of the "
            "console that the sandbox prints."
        )
        raise ControlError(401, msg, headers={"WWW-Authenticate": 'Bearer realm="sandbox"'})

    def _give_cookie(self, request: web.Request, token: str) -> web.Response:
        rest = [(name, value) for name, value in request.query.items() if name != "token"]
        target = CONSOLE_PATH + (f"?{urlencode(rest)}" if rest else "")
        headers = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
        if is_cross_site(request):
            # After a link on a page of another site, browsers do not send a strict cookie along a redirect. A page of
            # our own that leads on is the same site.
            page = _LEADING_ON.format(html.escape(target))
            headers["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'"
            response = web.Response(text=page, content_type="text/html", headers=headers)
        else:
            response = web.Response(status=303, headers={**headers, "Location": target})
        response.set_cookie(
            _cookie_name(token),
            _cookie_value(token),
            path="/_sandbox",
            httponly=True,
            samesite="Strict",
            secure=request.secure,
        )
        return response


def _cookie_name(token: str) -> str:
    # Cookies ignore ports: two sandboxes on one machine would overwrite a cookie with one name.
    return f"veriff_sandbox_{sha256(token.encode()).hexdigest()[:8]}"


def _cookie_value(token: str) -> str:
    # Servers on other ports of this machine get the cookie too, and must not learn the token from it.
    return hmac.new(token.encode(), b"console", sha256).hexdigest()


def _is_navigation(request: web.Request) -> bool:
    """Return whether a user follows a link, which the page with the link cannot observe."""
    headers = request.headers
    return (
        request.method in {"GET", "HEAD"}
        and headers.get("Sec-Fetch-Mode") == "navigate"
        and headers.get("Sec-Fetch-Dest") == "document"
    )


def _host_name(host: str) -> str:
    """Return the name in a header ``Host``; empty if it is malformed, which browsers never send."""
    match = _HOST.fullmatch(host)
    return "" if match is None else match[1].strip("[]").removesuffix(".").lower()


def _is_loopback(name: str) -> bool:
    # Systems and browsers resolve these names to loopback: https://www.rfc-editor.org/rfc/rfc6761#section-6.3
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
