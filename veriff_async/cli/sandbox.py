"""The sandbox command: a local Veriff until Ctrl-C."""

from __future__ import annotations

import shlex
import socket
import sys
from contextlib import suppress
from datetime import datetime
from os import environ
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import click
from anyio import to_thread

from veriff_async import Credentials
from veriff_async._protocol.base_url import INSECURE_HOSTS_VARIABLE
from veriff_async.cli._options import Seconds
from veriff_async.cli._runtime import run, stderr_output
from veriff_async.cli._stdio import print_stdout
from veriff_async.cli.listen.server import stop_on_signals
from veriff_async.client import BASE_URL_VARIABLE, FEEDBACK_URL_VARIABLE, SYNC_URL_VARIABLE
from veriff_async.sandbox import Sandbox, WebhookKind
from veriff_async.sandbox._app import HEALTH_PATH

if TYPE_CHECKING:
    from collections.abc import Mapping

    from veriff_async.cli._output import Output
    from veriff_async.sandbox import Delivery, ReceivedRequest

__all__ = ("assignment", "own_credentials", "run_sandbox", "sandbox")


_URLS: Final = frozenset({BASE_URL_VARIABLE, FEEDBACK_URL_VARIABLE, SYNC_URL_VARIABLE})
"""Variables without secrets."""


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8800, show_default=True, help="Port; 0 selects a free one."
)
@click.option("--webhook-url", metavar="URL", help="Post signed decision webhooks to this address.")
@click.option("--every-webhook", is_flag=True, help="Post every kind of webhook there, not only decisions.")
@click.option(
    "--decide-after",
    type=Seconds(min=0),
    metavar="SECONDS",
    default=3.0,
    show_default=True,
    help="Time from submission to decision.",
)
def sandbox(*, host: str, port: int, webhook_url: str | None, every_webhook: bool, decide_after: float) -> None:
    """Run a local Veriff until Ctrl-C.

    Standard output gets the environment variables for clients, standard error a line for each request.
    VERIFF_API_KEY and VERIFF_SHARED_SECRET come from the environment if set there; otherwise they are random.
    """
    if every_webhook and webhook_url is None:
        msg = "--every-webhook needs an address: give --webhook-url too."
        raise click.UsageError(msg)
    output = stderr_output()
    kinds = tuple(WebhookKind) if every_webhook else (WebhookKind.DECISION,)
    urls = {} if webhook_url is None else dict.fromkeys(kinds, webhook_url)
    run(run_sandbox(output, host=host, port=port, webhook_urls=urls, decide_after=decide_after))


def own_credentials() -> Credentials | None:
    """Return the credentials of the environment, or `None` if it has none.

    Raises:
        ConfigurationError: Only the key or only the secret is set.
    """
    if "VERIFF_API_KEY" in environ or "VERIFF_SHARED_SECRET" in environ:
        return Credentials.from_env()
    return None


async def run_sandbox(
    output: Output, *, host: str, port: int, webhook_urls: Mapping[WebhookKind, str], decide_after: float | None
) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP.

    Standard output gets the variables for clients as shell commands, `output` a line for each request and webhook.
    Secrets from the environment are not printed.
    """
    credentials = own_credentials()
    # Around the sandbox, so that a signal during its start or its end is not lost.
    with stop_on_signals() as stopped:
        async with Sandbox(
            host=host,
            port=port,
            credentials=credentials,
            webhook_urls=webhook_urls,
            decide_after=decide_after,
            on_request=lambda request: output.print(_request_line(request)),
            on_delivery=lambda delivery: output.print(_delivery_line(delivery)),
        ) as sandbox:
            # Not for "::": only some systems accept IPv4 connections there.
            addresses = await to_thread.run_sync(_addresses) if host in {"", "0.0.0.0"} else []  # noqa: S104
            _announce(sandbox, output, addresses, with_secret=credentials is None)
            await stopped.wait()
    output.print("Stopped.")


def _addresses() -> list[str]:
    """Return the IPv4 addresses by which other machines may reach this one. Blocking."""
    addresses: list[str] = []
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing: the system selects the interface for other networks
        addresses.append(probe.getsockname()[0])
    with suppress(OSError):
        addresses += socket.gethostbyname_ex(socket.gethostname())[2]
    # Debian resolves its own host name to 127.0.1.1, which other machines cannot use.
    return list(dict.fromkeys(address for address in addresses if not address.startswith("127.")))


def _announce(sandbox: Sandbox, output: Output, addresses: list[str], *, with_secret: bool) -> None:
    for name, value in sandbox.environ.items():
        if with_secret or name in _URLS:
            print_stdout(assignment(name, value, sys.platform))
    output.print(f"The sandbox listens at {sandbox.base_url}; set the variables above for clients. Ctrl-C stops it.")
    port = urlsplit(sandbox.base_url).port
    for address in addresses:
        output.print(
            f"Other machines and containers reach it at http://{address}:{port}, for example GET {HEALTH_PATH}. "
            f"Clients there need {INSECURE_HOSTS_VARIABLE}={address} because http is not encrypted."
        )


def assignment(name: str, value: str, platform: str) -> str:
    """Return the command that sets a variable in the shell of a system: PowerShell on Windows.

    Args:
        name: The variable.
        value: Its value.
        platform: ``sys.platform``.
    """
    if platform == "win32":
        quoted = value.replace("'", "''")
        return f"$env:{name} = '{quoted}'"
    return f"export {name}={shlex.quote(value)}"


def _request_line(request: ReceivedRequest) -> str:
    return f"{datetime.now().astimezone():%H:%M:%S}  {request.status or '---'}  {request.method:<6} {request.path}"


def _delivery_line(delivery: Delivery) -> str:
    return f"{datetime.now().astimezone():%H:%M:%S}  {delivery.status or '---'}  webhook to {delivery.url}"
