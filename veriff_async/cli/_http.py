"""Requests that are not the client's: one try, no redirect, a bounded answer, and words for what went wrong.

The client tries again, follows the pace of Veriff and raises; who looks for a mistake wants to see each try as it was.
"""

from __future__ import annotations

import os
import socket
import ssl
from time import perf_counter
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

import aiohttp
import click
from attrs import field, frozen

from veriff_async.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

__all__ = ("Answered", "Poster", "certificate_problem", "check_url", "network_problem")

_MOST: Final = 65_536
"""Bytes of an answer that are looked at; what follows says nothing that is needed here."""

_CERTIFICATE_PROBLEMS: Final = {
    9: "its certificate is not valid yet: check the clock of this machine",
    10: "its certificate has expired: have it renewed, or check the clock of this machine",
    18: "its certificate is signed by itself, which nobody trusts",
    19: "its certificate comes from an authority that this machine does not trust",
    20: "its certificate comes from an authority that this machine does not trust, or the server sends no chain",
    21: "its certificate comes from an authority that this machine does not trust, or the server sends no chain",
    62: "its certificate is for another host name",
    64: "its certificate is for another address",
}
"""By OpenSSL's numbers (X509_V_ERR_*)."""


def check_url(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Refuse an option that is no address, or holds a password, which every user of the machine could read.

    Raises:
        click.BadParameter: It cannot be posted to.
    """
    if value is None:
        return None
    try:
        parts = urlsplit(value)
        is_good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and value.isprintable()
    except ValueError:
        is_good, parts = False, urlsplit("")
    if not is_good:
        msg = "this is no address: give http://... or https://..."
        raise click.BadParameter(msg)
    if parts.username is not None or parts.password is not None:
        msg = "it holds a name or password, and arguments can be read by every user of the machine: leave it out."
        raise click.BadParameter(msg)
    return value


@frozen(kw_only=True)
class Answered:
    """What came of one request.

    Attributes:
        status: HTTP status of the answer, or `None` when none came.
        problem: Why none came, in words without a full stop; empty when one came.
        seconds: How long it took.
        headers: Headers of the answer, names in any case.
        body: The first bytes of its body.
    """

    status: int | None
    problem: str = ""
    seconds: float
    headers: Mapping[str, str] = field(factory=dict[str, str], repr=False)
    body: bytes = field(default=b"", repr=False)

    @property
    def is_taken(self) -> bool:
        """Whether a webhook was taken: only 200 counts for Veriff."""
        return self.status == 200  # noqa: PLR2004  the number is its own name

    def words(self) -> str:
        """Return the status or the problem."""
        return self.problem if self.status is None else f"HTTP {self.status}"


class Poster:
    """Sends requests, each once and on a connection of its own; use it with ``async with``.

    A connection that is kept may be closed by the server at the moment when the next request leaves, which would then
    be lost without the server's fault, and could not be told from one that it has taken.

    But for a GET whose connection breaks before anything is answered: aiohttp sends that a second time by itself.

    Args:
        seconds: How long one may take, from the connection to the end of the answer.
    """

    def __init__(self, seconds: float, *, trust_env: bool = False) -> None:
        """Take the time, and whether proxies of the environment are used; nothing is opened."""
        self._seconds = seconds
        self._trust_env = trust_env
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Make the pool of connections."""
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True),
            timeout=aiohttp.ClientTimeout(total=self._seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=self._trust_env,
            headers={"User-Agent": f"veriff-async/{__version__}", "Accept-Encoding": "identity"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close all connections."""
        http, self._http = self._http, None
        if http is not None:
            await http.close()

    async def post(self, url: str, headers: Mapping[str, str] | Sequence[tuple[str, str]], body: bytes) -> Answered:
        """Post a body; a redirect is an answer, and not followed."""
        return await self._ask("POST", url, headers, body)

    async def get(self, url: str, headers: Mapping[str, str]) -> Answered:
        """Get something; a redirect is an answer, and not followed."""
        return await self._ask("GET", url, headers, None)

    async def _ask(
        self, method: str, url: str, headers: Mapping[str, str] | Sequence[tuple[str, str]], body: bytes | None
    ) -> Answered:
        assert self._http is not None, "used inside of its block"  # noqa: S101
        began = perf_counter()
        try:
            async with self._http.request(method, url, headers=headers, data=body, allow_redirects=False) as answer:
                text = await _beginning(answer.content)
                return Answered(status=answer.status, seconds=perf_counter() - began, headers=answer.headers, body=text)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            problem = self._problem(error)
        return Answered(status=None, problem=problem, seconds=perf_counter() - began)

    def _problem(self, error: Exception) -> str:
        """Say what went wrong without the exception's own text, which may hold what was sent."""
        words = "the connection broke off before an answer came"
        if isinstance(error, TimeoutError):
            words = f"no answer came in {self._seconds:g} seconds"
        elif isinstance(error, aiohttp.ClientConnectorCertificateError):
            words = certificate_problem(error.certificate_error)
        elif isinstance(error, aiohttp.ClientSSLError):
            words = "TLS cannot be agreed on: is this a port for plain http?"
        elif isinstance(error, aiohttp.ClientConnectorDNSError):
            words = "the host name is not known"
        elif isinstance(error, aiohttp.ClientConnectorError):
            words = f"no connection ({network_problem(error.os_error)})"
        elif isinstance(error, aiohttp.ClientResponseError):
            words = "what was answered is not HTTP"
        elif isinstance(error, ValueError):
            words = "the address cannot be used"
        return words


def certificate_problem(error: Exception) -> str:
    """Say why a certificate was refused."""
    number = error.verify_code if isinstance(error, ssl.SSLCertVerificationError) else 0
    return _CERTIFICATE_PROBLEMS.get(number, f"its certificate is not trusted (OpenSSL's reason {number})")


def network_problem(error: OSError) -> str:
    """Say what the system said, and not what asyncio makes of it: that has the address in it, and its words change."""
    if isinstance(error, socket.gaierror):
        return "the host name is not known"
    return os.strerror(error.errno) if error.errno else type(error).__name__


async def _beginning(stream: aiohttp.StreamReader) -> bytes:
    """Read the beginning of an answer, so that an endless one ends."""
    text = bytearray()
    while len(text) < _MOST and (piece := await stream.read(_MOST - len(text))):
        text += piece
    return bytes(text)
