"""The connections of one client: made when first needed, closed with it, or borrowed and left alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import aiohttp
from yarl import URL

from veriff_async.errors import ClientClosedError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import ClientSession

    from veriff_async.protocol.signed import Host

__all__ = ("LOCAL_SYNC", "Pool", "hosts_of", "root_of")

LOCAL_SYNC: Final = "/sync"
"""Path below which a local Veriff has the synchronous host, whose own paths are those of the API."""

# Documented, unlike the base URL, which every integration has of its own.
_FEEDBACK_URL: Final = "https://feedback.api.veriff.com"
_SYNC_URL: Final = "https://sync-api.veriff.me"

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def root_of(base_url: str) -> str:
    """Return a base URL without version and trailing slash.

    Raises:
        ConfigurationError: It is no absolute https address, or a plain http one of another machine, over which API key
            and pictures would travel readable.
    """
    try:
        url = URL(base_url)
    except (ValueError, TypeError):
        url = URL()
    if url.host is None or url.scheme not in {"http", "https"} or url.query_string or url.fragment or url.user:
        msg = "base_url is no address: give the integration's base URL from its API Keys page, https://..."
        raise ConfigurationError(msg)
    if url.scheme == "http" and url.host not in _LOOPBACK:
        msg = "base_url is not https: plain http is allowed for this machine only, for example the sandbox."
        raise ConfigurationError(msg)
    return base_url.rstrip("/").removesuffix("/v1").rstrip("/")


def hosts_of(base_url: str, *, feedback_url: str | None, sync_url: str | None) -> dict[Host, str]:
    """Return where Veriff's three hosts are.

    With a base URL of this machine the other two are there too: what a test does must never reach Veriff itself.

    Raises:
        ConfigurationError: One of them is no address that can be used.
    """
    root = root_of(base_url)
    local = URL(root).host in _LOOPBACK
    return {
        "api": root,
        "feedback": root_of(feedback_url or (root if local else _FEEDBACK_URL)),
        "sync": root_of(sync_url or (root + LOCAL_SYNC if local else _SYNC_URL)),
    }


class Pool:
    """An aiohttp session that belongs to one event loop."""

    def __init__(self, borrowed: ClientSession | None, *, max_connections: int) -> None:
        """Take a session to borrow, or how many connections an own one may have."""
        self._borrowed = borrowed
        self._session = borrowed
        self._max_connections = max_connections
        self._loop: asyncio.AbstractEventLoop | None = None
        self.closed: bool = False
        self.on_open: Callable[[], None] | None = None
        """Called on the loop just before an own session is made."""

    @property
    def open(self) -> bool:
        """Whether connections of our own may be open."""
        return self._session is not None and self._borrowed is None

    def session(self) -> ClientSession:
        """Return the session, made on the first call.

        Raises:
            ClientClosedError: The client or the borrowed session is closed.
            ConfigurationError: The pool belongs to another event loop.
        """
        if self.closed or (self._session is not None and self._session.closed):
            msg = "The client is closed: make a new VeriffClient, and call it inside its async with block."
            raise ClientClosedError(msg)
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            msg = "The client belongs to another event loop: make one VeriffClient for each loop."
            raise ConfigurationError(msg)
        if self._session is None:
            if self.on_open is not None:
                self.on_open()
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._max_connections),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def aclose(self) -> None:
        """Close what is our own; a second call does nothing."""
        self.closed = True
        session, self._session = self._session, None
        if session is not None and self._borrowed is None:
            await session.close()
