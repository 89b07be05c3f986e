"""A local Veriff until Ctrl-C."""

from __future__ import annotations

import shlex
import socket
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
from veriff_async.cli._output import Screen
from veriff_async.cli._runtime import run
from veriff_async.cli._streams import print_result, progress_console
from veriff_async.cli.listen.server import stopping
from veriff_async.client import BASE_URL_VARIABLE, FEEDBACK_URL_VARIABLE, SYNC_URL_VARIABLE
from veriff_async.sandbox import Sandbox, WebhookKind
from veriff_async.sandbox._app import HEALTH_PATH

if TYPE_CHECKING:
    from collections.abc import Mapping

    from veriff_async.sandbox import Delivery, ReceivedRequest

__all__ = ("own_credentials", "run_sandbox", "sandbox")


_URLS: Final = frozenset({BASE_URL_VARIABLE, FEEDBACK_URL_VARIABLE, SYNC_URL_VARIABLE})
"""The variables that hold no secret."""


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8800, show_default=True, help="Port; 0 takes a free one."
)
@click.option("--webhook-url", metavar="URL", help="Where to post decisions, signed as Veriff signs them.")
@click.option("--every-webhook", is_flag=True, help="Post every kind of webhook there, not decisions alone.")
@click.option(
    "--decide-after",
    type=Seconds(min=0),
    metavar="SECONDS",
    default=3.0,
    show_default=True,
    help="Decide this long after the submission.",
)
def sandbox(*, host: str, port: int, webhook_url: str | None, every_webhook: bool, decide_after: float) -> None:
    """Run a local Veriff until Ctrl-C.

    Standard output gets the environment variables for clients, standard error a line for each request.
    VERIFF_API_KEY and VERIFF_SHARED_SECRET are taken from the environment when they are set, and invented otherwise.
    """
    if every_webhook and webhook_url is None:
        msg = "--every-webhook needs an address: give --webhook-url too."
        raise click.UsageError(msg)
    screen = Screen(progress_console())
    kinds = tuple(WebhookKind) if every_webhook else (WebhookKind.DECISION,)
    urls = {} if webhook_url is None else dict.fromkeys(kinds, webhook_url)
    run(run_sandbox(screen, host=host, port=port, webhook_urls=urls, decide_after=decide_after))


def own_credentials() -> Credentials | None:
    """Read the credentials of the environment, or `None` when it holds none.

    Raises:
        ConfigurationError: Only half of them is there.
    """
    if "VERIFF_API_KEY" in environ or "VERIFF_SHARED_SECRET" in environ:
        return Credentials.from_env()
    return None


async def run_sandbox(
    screen: Screen, *, host: str, port: int, webhook_urls: Mapping[WebhookKind, str], decide_after: float | None
) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP.

    Standard output gets the variables that a client needs, as lines for a shell; `screen` gets one line for each
    request and webhook. Secrets that came from the environment are not printed again.
    """
    credentials = own_credentials()
    with stopping() as stopped:
        async with Sandbox(
            host=host,
            port=port,
            credentials=credentials,
            webhook_urls=webhook_urls,
            decide_after=decide_after,
            on_request=lambda seen: screen.say(_request_line(seen)),
            on_delivery=lambda delivery: screen.say(_delivery_line(delivery)),
        ) as sandbox:
            # An IPv6 address for all interfaces takes IPv4 only on some systems, so nothing is promised for it.
            addresses = await to_thread.run_sync(_addresses) if host in {"", "0.0.0.0"} else []  # noqa: S104
            _announce(sandbox, screen, addresses, with_secret=credentials is None)
            await stopped.wait()
    screen.say("Stopped.")


def _addresses() -> list[str]:
    """Return the IPv4 addresses of this machine under which other ones may reach it. Blocking."""
    found: list[str] = []
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing: it selects the interface that leads to other networks
        found.append(probe.getsockname()[0])
    with suppress(OSError):
        found += socket.gethostbyname_ex(socket.gethostname())[2]
    return list(dict.fromkeys(address for address in found if not address.startswith("127.")))


def _announce(sandbox: Sandbox, screen: Screen, addresses: list[str], *, with_secret: bool) -> None:
    for name, value in sandbox.environ.items():
        if with_secret or name in _URLS:
            print_result(f"export {name}={shlex.quote(value)}")
    screen.say(f"A local Veriff listens at {sandbox.base_url}; give clients the variables above. Ctrl-C stops it.")
    port = urlsplit(sandbox.base_url).port
    for address in addresses:
        screen.say(
            f"Other machines and containers reach it at http://{address}:{port}, for example GET {HEALTH_PATH}. "
            f"A client there needs {INSECURE_HOSTS_VARIABLE}={address}, since http is not encrypted."
        )


def _request_line(seen: ReceivedRequest) -> str:
    return f"{datetime.now().astimezone():%H:%M:%S}  {seen.status or '---'}  {seen.method:<6} {seen.path}"


def _delivery_line(delivery: Delivery) -> str:
    return f"{datetime.now().astimezone():%H:%M:%S}  {delivery.status or '---'}  webhook to {delivery.url}"
