"""Serves a sandbox until a signal, and prints its variables, addresses and timeline."""

from __future__ import annotations

import asyncio
import shlex
import socket
import sys
from contextlib import suppress
from os import environ
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from anyio import to_thread
from attrs import frozen

from veriff_async import Credentials
from veriff_async._http.ca_bundle import CA_BUNDLE_VARIABLE
from veriff_async._protocol.base_url import INSECURE_HOSTS_VARIABLE
from veriff_async.cli._stdio import print_stdout
from veriff_async.cli.listen.server import stop_on_signals
from veriff_async.cli.sandbox.control_client import URL_VARIABLE
from veriff_async.client import BASE_URL_VARIABLE, FEEDBACK_URL_VARIABLE, SYNC_URL_VARIABLE
from veriff_async.sandbox._app import HEALTH_PATH
from veriff_async.sandbox._control.access import TOKEN_VARIABLE
from veriff_async.sandbox._tls import CA_PATH

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from veriff_async.cli._output import Output
    from veriff_async.sandbox import Sandbox

__all__ = (
    "Announcement",
    "assignment",
    "find_addresses",
    "is_every_address",
    "own_credentials",
    "print_variables",
    "run_sandbox",
)


# Variables without secrets.
_PUBLIC: Final = frozenset({BASE_URL_VARIABLE, FEEDBACK_URL_VARIABLE, SYNC_URL_VARIABLE, CA_BUNDLE_VARIABLE})


def own_credentials() -> Credentials | None:
    """Return the credentials of the environment, or `None` if it has none.

    Raises:
        ConfigurationError: Only the key or only the secret is set.
    """
    if "VERIFF_API_KEY" in environ or "VERIFF_SHARED_SECRET" in environ:
        return Credentials.from_env()
    return None


def is_every_address(host: str) -> bool:
    """Return whether a server on this host listens on every IPv4 address."""
    # Not "::": only some systems accept IPv4 connections there.
    return host in {"", "0.0.0.0"}  # noqa: S104


@frozen(kw_only=True)
class Announcement:
    """Options of the announcement of a sandbox that has started.

    Attributes:
        addresses: Addresses by which other machines reach it.
        with_secret: Whether to print the key and secret; not if they come from the environment.
        with_token: Whether to print the token of the control API; not if the user has chosen it.
        open_console: Whether to open the console in a browser.
    """

    addresses: Sequence[str] = ()
    with_secret: bool
    with_token: bool
    open_console: bool = False


async def run_sandbox(sandbox: Sandbox, output: Output, announcement: Announcement) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP."""
    # Around the sandbox, so that a signal during its start or its end is not lost.
    with stop_on_signals() as stopped:
        async with sandbox:
            printing = asyncio.create_task(_print_timeline(sandbox, output))
            _print_variables(sandbox, announcement)
            _print_addresses(sandbox, output, announcement)
            if announcement.open_console and not await to_thread.run_sync(_open_in_browser, sandbox.console_url):
                output.print("No browser was found: open the console's address yourself.")
            await stopped.wait()
        # It ends with the sandbox, after the last entry.
        await printing
    output.print("Stopped.")


async def _print_timeline(sandbox: Sandbox, output: Output) -> None:
    """Print a line for each entry of the timeline, in local time."""
    # The sandbox serves also if the terminal has gone.
    with suppress(OSError):
        async for entry in sandbox.timeline.subscribe():
            output.print(f"{entry.time.astimezone():%H:%M:%S}  {entry.summary}")


def _open_in_browser(url: str) -> bool:
    """Open a page in the browser of the system, and return whether there is one. Blocking."""
    import webbrowser  # noqa: PLC0415  few starts need it, and its import takes a tenth of their time

    return webbrowser.open(url)


def find_addresses() -> list[str]:
    """Return the IPv4 addresses by which other machines may reach this one. Blocking."""
    addresses: list[str] = []
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing: the system selects the interface for other networks
        addresses.append(probe.getsockname()[0])
    with suppress(OSError):
        addresses += socket.gethostbyname_ex(socket.gethostname())[2]
    # Debian resolves its own host name to 127.0.1.1, which other machines cannot use.
    return list(dict.fromkeys(address for address in addresses if not address.startswith("127.")))


def _print_variables(sandbox: Sandbox, announcement: Announcement) -> None:
    """Write the commands that set the variables of clients to standard output."""
    variables = sandbox.environ
    if not announcement.with_secret:
        variables = {name: value for name, value in variables.items() if name in _PUBLIC}
    variables[URL_VARIABLE] = sandbox.base_url
    if announcement.with_token and sandbox.control_token is not None:
        variables[TOKEN_VARIABLE] = sandbox.control_token
    print_variables(variables)


def print_variables(variables: Mapping[str, str]) -> None:
    """Write the commands that set variables to standard output."""
    for name, value in variables.items():
        print_stdout(assignment(name, value, sys.platform))


def _print_addresses(sandbox: Sandbox, output: Output, announcement: Announcement) -> None:
    """Show where the sandbox, its console and its certificate authority are."""
    output.print(f"The sandbox listens at {sandbox.base_url}; set the variables above for clients. Ctrl-C stops it.")
    url = urlsplit(sandbox.base_url)
    for address in announcement.addresses:
        root = f"{url.scheme}://{address}:{url.port}"
        line = f"Other machines and containers reach it at {root}, for example GET {HEALTH_PATH}."
        if url.scheme == "http":
            line += f" Clients there need {INSECURE_HOSTS_VARIABLE}={address} because http is not encrypted."
        output.print(line)
    console, _, token = sandbox.console_url.partition("?")
    if not token:
        output.print(f"Console: {console}")
    elif announcement.with_token:
        output.print(f"Console: {console}?{token}")
    else:
        output.print(f"Console: {console}?token= and your token")
    if sandbox.ca_file is not None:
        output.print(
            f"Clients must trust the certificate authority {sandbox.ca_file}; GET {sandbox.base_url}{CA_PATH} responds "
            "with it."
        )
    # A person at the console has only this long to decide.
    if (seconds := sandbox.rules.decide_after) is not None:
        output.print(
            f"A submitted session is approved after {seconds:g} s; --decide-after none leaves the decision to you."
        )


def assignment(name: str, value: str, platform: str) -> str:
    """Return the command that sets a variable in the shell of a system: PowerShell on Windows."""
    if platform == "win32":
        quoted = value.replace("'", "''")
        return f"$env:{name} = '{quoted}'"
    return f"export {name}={shlex.quote(value)}"
