"""The steps to a server, one after the other: its name, a connection, TLS. Each within some seconds."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from anyio import to_thread

from veriff_async.cli._http import certificate_problem, network_problem
from veriff_async.cli.doctor.checks import Finding, Outcome

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ("reach",)

_SECONDS: Final = 5.0
_PORTS: Final = {"http": 80, "https": 443}


async def reach(root: str) -> AsyncGenerator[Finding]:
    """Yield ``name``, ``connection`` and ``tls``; what cannot be tried because an earlier step failed is skipped.

    Args:
        root: The address, which was checked.
    """
    parts = urlsplit(root)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    name = await _name(host, port)
    yield name
    if name.outcome is Outcome.FAILED:
        yield Finding.skipped("connection", "the host name is not known")
        yield Finding.skipped("tls", "there is no connection")
        return
    connection = await _connection(host, port)
    yield connection
    if connection.outcome is Outcome.FAILED:
        yield Finding.skipped("tls", "there is no connection")
    elif parts.scheme == "http":
        yield Finding.skipped("tls", "the address is plain http, which is allowed for this machine only")
    else:
        yield await _tls(host, port)


async def _name(host: str, port: int) -> Finding:
    try:
        async with asyncio.timeout(_SECONDS):
            # In a thread that is left alone when the resolver hangs, and does not hold up the end.
            found = await to_thread.run_sync(
                lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), abandon_on_cancel=True
            )
    except TimeoutError:
        says = f"{host} was not resolved in {_SECONDS:g} seconds: look at the DNS servers of this machine."
        return Finding("name", Outcome.FAILED, says)
    except (OSError, UnicodeError):
        says = f"{host} is not known: compare the base URL, and look at the DNS servers of this machine."
        return Finding("name", Outcome.FAILED, says)
    count = len({entry[4][0] for entry in found})
    return Finding("name", Outcome.OK, f"{host} has {'one address' if count == 1 else f'{count} addresses'}.")


async def _connection(host: str, port: int) -> Finding:
    where = f"{host} port {port}"
    try:
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection(host, port, happy_eyeballs_delay=0.25)
    except TimeoutError:
        says = f"{where} did not answer in {_SECONDS:g} seconds: look for a firewall, or a proxy that must be used."
        return Finding("connection", Outcome.FAILED, says)
    except OSError as error:
        problem = network_problem(error)
        says = f"{where} takes no connection ({problem}): compare the base URL, and look for a firewall or proxy."
        return Finding("connection", Outcome.FAILED, says)
    await _close(writer)
    return Finding("connection", Outcome.OK, f"{where} takes connections.")


async def _tls(host: str, port: int) -> Finding:
    try:
        async with asyncio.timeout(_SECONDS):
            context = await to_thread.run_sync(ssl.create_default_context)
            _, writer = await asyncio.open_connection(host, port, ssl=context, happy_eyeballs_delay=0.25)
    except TimeoutError:
        problem = f"TLS was not agreed on in {_SECONDS:g} seconds: look for a firewall that inspects it"
    except ssl.SSLCertVerificationError as error:
        problem = (
            f"{certificate_problem(error)}: compare the base URL, and where a firewall inspects TLS, "
            "name its authority with SSL_CERT_FILE"
        )
    except ssl.SSLError:
        problem = "TLS cannot be agreed on: look whether this port is for https, and what stands between"
    except OSError:
        problem = "the connection was closed during the handshake: look for what inspects TLS on the way"
    else:
        session: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
        version = session and session.version()
        await _close(writer)
        return Finding("tls", Outcome.OK, f"{version or 'TLS'} with a trusted certificate ({ssl.OPENSSL_VERSION}).")
    return Finding("tls", Outcome.FAILED, f"{host}: {problem}.")


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(1):
            await writer.wait_closed()
