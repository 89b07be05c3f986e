"""The replay command: a cassette that is served as Veriff until Ctrl-C."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import click

from veriff_async.cli._http import check_url
from veriff_async.cli._options import FILE
from veriff_async.cli._runtime import run, stderr_output
from veriff_async.cli.listen.server import stop_on_signals
from veriff_async.cli.record import request_line
from veriff_async.cli.sandbox.server import own_credentials, print_variables
from veriff_async.credentials import API_KEY_VARIABLE, SECRET_VARIABLE
from veriff_async.sandbox import Sandbox

if TYPE_CHECKING:
    from pathlib import Path

    from veriff_async.cli._output import Output
    from veriff_async.sandbox import Replay

__all__ = ("replay", "run_replay")


class _Timing(click.types.StringParamType):
    """A word, or a factor."""

    name = "timing"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401  click's
        """Refuse other words; the replay checks numbers."""
        if value in {"none", "original"}:
            return value
        try:
            return float(value)
        except ValueError:
            self.fail("give none, original, or a factor such as 0.5.", param, ctx)


@click.command()
@click.argument("cassette", type=FILE)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8811, show_default=True, help="Port; 0 selects a free one."
)
@click.option(
    "--timing",
    type=_Timing(),
    default="none",
    show_default=True,
    metavar="none|original|FACTOR",
    help="Respond immediately, after the recorded times, or after a multiple of them.",
)
@click.option("--webhook-url", callback=check_url, metavar="URL", help="Post the recorded webhooks to this address.")
@click.option("--strict", is_flag=True, help="Fail at the end if a request or a recording had no counterpart.")
def replay(  # noqa: PLR0913  one for each option
    *,
    cassette: Path,
    host: str,
    port: int,
    timing: Literal["none", "original"] | float,
    webhook_url: str | None,
    strict: bool,
) -> None:
    """Serve a CASSETTE of veriff-async record as Veriff, until Ctrl-C.

    Standard output gets the environment variables for clients, standard error a line for each request.
    VERIFF_API_KEY and VERIFF_SHARED_SECRET come from the environment if set there; otherwise they are random.
    """
    output = stderr_output()
    credentials = own_credentials()
    server = Sandbox.replay(
        cassette,
        host=host,
        port=port,
        timing=timing,
        strict=strict,
        webhook_url=webhook_url,
        credentials=credentials,
        on_request=lambda request: output.print(request_line(request)),
    )
    run(run_replay(server, output, with_secret=credentials is None))


async def run_replay(server: Replay, output: Output, *, with_secret: bool) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP, and list the recordings that were not replayed."""
    with stop_on_signals() as stopped:
        async with server:
            secret = set[str]() if with_secret else {API_KEY_VARIABLE, SECRET_VARIABLE}
            print_variables({name: value for name, value in server.environ.items() if name not in secret})
            output.print(f"The replay listens at {server.base_url}; set the variables above for clients.")
            await stopped.wait()
            for each in server.unused:
                output.print(f"Not replayed: {each}")
    output.print("Stopped.")
