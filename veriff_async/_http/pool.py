"""The connections of one client: an aiohttp session that the client creates and closes, or one that the caller owns."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.request import getproxies

import aiohttp
from yarl import URL

from veriff_async._http.active_calls import GRACE, ActiveCalls, client_closed
from veriff_async._protocol.arguments import check_number, check_optional
from veriff_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from ssl import SSLContext

    from aiohttp import ClientSession

__all__ = ("Pool", "check_limits", "check_proxies", "check_session_options")

_PROXIES: Final = ("http", "https", "all")


def check_limits(
    max_connections: int, max_uploads: int, max_downloads: int, http_session: ClientSession | None
) -> None:
    """Check that uploads and downloads leave connections for other calls.

    Raises:
        ConfigurationError: They do not.
    """
    remedy = "pass one that you have created, or leave it out"
    check_optional("http_session", http_session, aiohttp.ClientSession, remedy=remedy)
    limits = {"max_connections": max_connections, "max_uploads": max_uploads, "max_downloads": max_downloads}
    for name, value in limits.items():
        check_number(name, value, lowest=1, whole=True, remedy="give a whole number above zero")
    connector = None if http_session is None else http_session.connector
    limit: float = max_connections
    if connector is not None:
        # To aiohttp, a limit of zero means no limit. Nearly all calls go to one host, so the limit per host counts too.
        limit = min(filter(None, (connector.limit, connector.limit_per_host)), default=math.inf)
    for name, value in (("max_uploads", max_uploads), ("max_downloads", max_downloads)):
        if not 1 <= value < limit:
            bound = f", and fewer than the {limit} connections of the pool" if limit < math.inf else ""
            msg = f"{name} is {value}: give 1 or more{bound}, so that other calls never wait for uploads and downloads."
            raise ConfigurationError(msg)


def check_session_options(http_session: ClientSession | None, *, trust_env: bool, ca_bundle: object) -> None:
    """Refuse options that have no effect, because the caller has created the session already.

    Raises:
        ConfigurationError: `http_session` was passed with one of them.
    """
    if http_session is None:
        return
    if trust_env:
        msg = "trust_env has no effect on http_session: create that one with aiohttp.ClientSession(trust_env=True)."
        raise ConfigurationError(msg)
    if ca_bundle is not None:
        msg = (
            "ca_bundle (VERIFF_CA_BUNDLE) has no effect on http_session: create that one with "
            "aiohttp.TCPConnector(ssl=context)."
        )
        raise ConfigurationError(msg)


def check_proxies(*, trust_env: bool) -> None:
    """Refuse an unusable proxy of the environment, because the error of aiohttp would show its value.

    Raises:
        ConfigurationError: One is not an http(s) URL; the message names the variable, never its value.
    """
    if not trust_env:
        return
    proxies = getproxies()
    for scheme in _PROXIES:
        address = proxies.get(scheme)
        try:
            usable = address is None or (URL(address).scheme in {"http", "https"} and URL(address).host is not None)
        except ValueError:
            usable = False
        if not usable:
            msg = f"{scheme.upper()}_PROXY is not a proxy that can be used: set http://host:port, or trust_env=False."
            raise ConfigurationError(msg)


class Pool:
    """An aiohttp session that belongs to one event loop."""

    def __init__(
        self,
        borrowed: ClientSession | None,
        *,
        max_connections: int,
        trust_env: bool = False,
        tls: SSLContext | None = None,
    ) -> None:
        """Create a pool without connections.

        Args:
            borrowed: The caller's session, which stays open, or ``None`` to create one.
            max_connections: Largest number of connections of a created session.
            trust_env: Whether a created session uses the proxies of the environment, as aiohttp does.
            tls: How a created session checks certificates; ``None`` trusts the authorities of the system.
        """
        self._borrowed = borrowed
        self._session = borrowed
        self._max_connections = max_connections
        self._trust_env = trust_env
        self._tls = tls
        self.calls: ActiveCalls = ActiveCalls()
        self.on_open: Callable[[], None] | None = None
        """Called in the event loop just before a session is created."""

    @property
    def closed(self) -> bool:
        """Whether the client was closed."""
        return self.calls.closed

    @property
    def open(self) -> bool:
        """Whether a session that this pool created is open."""
        return self._session is not None and self._borrowed is None

    def session(self) -> ClientSession:
        """Return the session; the first call creates it.

        Raises:
            ClientClosedError: The client or the borrowed session is closed.
            ConfigurationError: The pool belongs to another event loop.
        """
        if self.closed or (self._session is not None and self._session.closed):
            raise client_closed()
        self.calls.check_loop()
        if self._session is None:
            if self.on_open is not None:
                self.on_open()
            # True is aiohttp's default: the context that it has made from the authorities of the system.
            tls = True if self._tls is None else self._tls
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._max_connections, ssl=tls),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=self._trust_env,
            )
        return self._session

    async def aclose(self) -> None:
        """End the running calls, and close the connections of a created session. A second call does nothing."""
        try:
            await self.calls.aclose()
        finally:
            session, self._session = self._session, None
            if session is not None and self._borrowed is None:
                # Ended calls have aborted their connections, so only a call that hangs in its own code can delay this.
                with suppress(TimeoutError):
                    async with asyncio.timeout(GRACE):
                        await session.close()
