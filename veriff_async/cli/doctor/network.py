"""Network checks of the doctor: DNS, TCP and TLS, each with a time limit."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from anyio import to_thread

from veriff_async._http.ca_bundle import CA_BUNDLE_VARIABLE
from veriff_async._http.network_problem import network_problem
from veriff_async._protocol.counts import format_count
from veriff_async.cli._http import certificate_problem
from veriff_async.health import CheckOutcome, CheckResult

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ("reach",)

_SECONDS: Final = 5.0
_PORTS: Final = {"http": 80, "https": 443}


async def reach(root: str, tls: ssl.SSLContext) -> AsyncGenerator[CheckResult]:
    """Yield ``name``, ``connection`` and ``tls``. After a failure the following steps are skipped."""
    parts = urlsplit(root)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    name = await _name(host, port)
    yield name
    if name.outcome is CheckOutcome.FAILED:
        yield CheckResult.skip("connection", "the host name is not known")
        yield CheckResult.skip("tls", "the connection failed")
        return
    connection = await _connection(host, port)
    yield connection
    if connection.outcome is CheckOutcome.FAILED:
        yield CheckResult.skip("tls", "the connection failed")
    elif parts.scheme == "http":
        yield CheckResult.skip("tls", "the base URL is plain http, which is allowed for this machine only")
    else:
        yield await _tls(host, port, tls)


async def _name(host: str, port: int) -> CheckResult:
    try:
        async with asyncio.timeout(_SECONDS):
            # A hanging resolver cannot be stopped; its thread is abandoned, so that it does not delay the exit.
            addresses = await to_thread.run_sync(
                lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), abandon_on_cancel=True
            )
    except TimeoutError:
        message = f"{host} was not resolved in {_SECONDS:g} seconds: check the DNS servers of this machine."
        return CheckResult("name", CheckOutcome.FAILED, message)
    # A label that is too long raises UnicodeError, from the codec idna.
    except (OSError, UnicodeError):
        message = f"{host} is not known: compare the base URL, and check the DNS servers of this machine."
        return CheckResult("name", CheckOutcome.FAILED, message)
    count = format_count(len({entry[4][0] for entry in addresses}), "address", "addresses")
    return CheckResult("name", CheckOutcome.OK, f"{host} has {count}.")


async def _connect(host: str, port: int, context: ssl.SSLContext | None) -> asyncio.StreamWriter:
    if isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop):
        # RFC 8305 recommends this delay, after which a machine with broken IPv6 tries IPv4.
        _, writer = await asyncio.open_connection(host, port, ssl=context, happy_eyeballs_delay=0.25)
    else:  # uvloop has no such option
        _, writer = await asyncio.open_connection(host, port, ssl=context)
    return writer


async def _connection(host: str, port: int) -> CheckResult:
    where = f"{host} port {port}"
    try:
        async with asyncio.timeout(_SECONDS):
            writer = await _connect(host, port, None)
    except TimeoutError:
        message = f"{where} did not answer in {_SECONDS:g} seconds: check for a firewall or a required proxy."
        return CheckResult("connection", CheckOutcome.FAILED, message)
    except OSError as error:
        problem = network_problem(error)
        message = f"{where} refuses connections ({problem}): compare the base URL, and check for a firewall or proxy."
        return CheckResult("connection", CheckOutcome.FAILED, message)
    await _close(writer)
    return CheckResult("connection", CheckOutcome.OK, f"{where} accepts connections.")


async def _tls(host: str, port: int, context: ssl.SSLContext) -> CheckResult:
    try:
        async with asyncio.timeout(_SECONDS):
            writer = await _connect(host, port, context)
    except TimeoutError:
        problem = f"the TLS handshake took more than {_SECONDS:g} seconds: check for a firewall that inspects TLS"
    except ssl.SSLCertVerificationError as error:
        problem = (
            f"{certificate_problem(error)}: compare the base URL, and if a firewall inspects TLS, "
            f"set {CA_BUNDLE_VARIABLE} to a file with its certificate authority"
        )
    except ssl.SSLError:
        problem = "the TLS handshake failed: check whether this port is for https, and for a proxy on the way"
    except OSError:
        problem = "the connection was closed during the TLS handshake: check for a firewall that inspects TLS"
    else:
        session: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
        version = session and session.version()
        await _close(writer)
        return CheckResult(
            "tls", CheckOutcome.OK, f"{version or 'TLS'} with a trusted certificate ({ssl.OPENSSL_VERSION})."
        )
    return CheckResult("tls", CheckOutcome.FAILED, f"{host}: {problem}.")


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    # The result of the check is known: a peer that does not close its side must not delay the command.
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(1):
            await writer.wait_closed()
