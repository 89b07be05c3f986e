"""Single HTTP requests for diagnosis: no retry, no redirect, a bounded response, and a description of each failure.

`VeriffClient` retries, honours rate limits and raises. To find a mistake, users need to see each attempt as it was.
"""

from __future__ import annotations

import ssl
from time import perf_counter
from typing import TYPE_CHECKING, Final, Self

import aiohttp
from attrs import field, frozen

from veriff_async._http.network_problem import network_problem
from veriff_async.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

__all__ = ("HttpProbe", "ProbeResult", "certificate_problem", "describe_error")

# Bytes of a response that are read.
_MAX_BODY: Final = 65_536

# By OpenSSL's numbers (X509_V_ERR_*).
_CERTIFICATE_PROBLEMS: Final = {
    9: "its certificate is not valid yet: check the clock of this machine",
    10: "its certificate has expired: have it renewed, or check the clock of this machine",
    18: "its certificate is self-signed and therefore not trusted",
    19: "its certificate comes from an authority that this machine does not trust",
    20: "its certificate comes from an authority that this machine does not trust, or the server sends no chain",
    21: "its certificate comes from an authority that this machine does not trust, or the server sends no chain",
    62: "its certificate is for another host name",
    64: "its certificate is for another address",
}


@frozen(kw_only=True)
class ProbeResult:
    """The outcome of one request.

    Attributes:
        status: HTTP status of the response, or `None` if there is none.
        problem: Why there is none, without a full stop; otherwise empty.
        seconds: How long it took.
        headers: Headers of the response, names in any case.
        body: The first bytes of its body.
    """

    status: int | None
    problem: str = ""
    seconds: float
    headers: Mapping[str, str] = field(factory=dict[str, str], repr=False)
    body: bytes = field(default=b"", repr=False)

    @property
    def is_accepted(self) -> bool:
        """Whether a webhook was accepted: for Veriff only 200 counts."""
        return self.status == 200  # noqa: PLR2004  HTTP OK

    def describe(self) -> str:
        """Return the status or the problem."""
        return self.problem if self.status is None else f"HTTP {self.status}"


class HttpProbe:
    """Sends each request once and on its own connection; use it with ``async with``.

    Connections are not reused: a server may close an idle one at the moment when the next request leaves, and that
    request would fail although the server is healthy. (aiohttp still repeats a GET by itself if the connection breaks
    before a response starts.)

    Args:
        seconds: Time limit of one request, from the connection to the end of the response.
        trust_env: Whether to use the proxies of the environment.
        tls: How to check certificates; `None` trusts the authorities of the system.
    """

    def __init__(self, seconds: float, *, trust_env: bool = False, tls: ssl.SSLContext | None = None) -> None:
        """Take the options; nothing is opened yet."""
        self._tls = tls
        self._seconds = seconds
        self._trust_env = trust_env
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Create the HTTP session."""
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True, ssl=True if self._tls is None else self._tls),
            timeout=aiohttp.ClientTimeout(total=self._seconds),
            # Requests share no state, so that each shows the behaviour of the server alone.
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

    async def post(self, url: str, headers: Mapping[str, str] | Sequence[tuple[str, str]], body: bytes) -> ProbeResult:
        """Send a POST; redirects are not followed."""
        return await self._request("POST", url, headers, body)

    async def get(self, url: str, headers: Mapping[str, str]) -> ProbeResult:
        """Send a GET; redirects are not followed."""
        return await self._request("GET", url, headers, None)

    async def _request(
        self, method: str, url: str, headers: Mapping[str, str] | Sequence[tuple[str, str]], body: bytes | None
    ) -> ProbeResult:
        assert self._http is not None, "use it with async with"  # noqa: S101
        began = perf_counter()
        try:
            async with self._http.request(method, url, headers=headers, data=body, allow_redirects=False) as response:
                head = await _read_head(response.content)
                return ProbeResult(
                    status=response.status, seconds=perf_counter() - began, headers=response.headers, body=head
                )
        # TimeoutError is an OSError, and aiohttp's InvalidURL is a ValueError.
        except (aiohttp.ClientError, OSError, ValueError) as error:
            problem = describe_error(error, self._seconds)
        return ProbeResult(status=None, problem=problem, seconds=perf_counter() - began)


def describe_error(error: Exception, seconds: float) -> str:
    """Describe why a request got no response, without the exception's own text, which may contain what was sent."""
    description = "the connection closed before a response arrived"
    # Subclasses come before their base classes: each kind of ClientConnectorError has a description of its own.
    if isinstance(error, TimeoutError):
        description = f"no response within {seconds:g} seconds"
    elif isinstance(error, aiohttp.ClientConnectorCertificateError):
        description = certificate_problem(error.certificate_error)
    elif isinstance(error, aiohttp.ClientSSLError):
        description = "the TLS handshake failed: is this a port for plain http?"
    elif isinstance(error, aiohttp.ClientConnectorDNSError):
        description = "the host name is not known"
    elif isinstance(error, aiohttp.ClientConnectorError):
        description = f"no connection ({network_problem(error.os_error)})"
    elif isinstance(error, aiohttp.ClientResponseError):
        description = "the response is not HTTP"
    elif isinstance(error, ValueError):
        description = "the address cannot be used"
    return description


def certificate_problem(error: Exception) -> str:
    """Describe why a certificate was refused."""
    number = error.verify_code if isinstance(error, ssl.SSLCertVerificationError) else 0
    return _CERTIFICATE_PROBLEMS.get(number, f"its certificate is not trusted (OpenSSL reason {number})")


async def _read_head(stream: aiohttp.StreamReader) -> bytes:
    """Read the first bytes of a response, so that an endless one does not block the command."""
    text = bytearray()
    while len(text) < _MAX_BODY and (chunk := await stream.read(_MAX_BODY - len(text))):
        text += chunk
    return bytes(text)
