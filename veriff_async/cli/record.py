"""The record command: a proxy that writes the traffic with Veriff to a cassette, until Ctrl-C."""

from __future__ import annotations

from datetime import datetime
from os import environ
from pathlib import Path
from typing import TYPE_CHECKING

import click

from veriff_async._http.ca_bundle import ca_bundle_from
from veriff_async._protocol.base_url import insecure_hosts_from
from veriff_async.cli._http import check_url
from veriff_async.cli._options import FILE
from veriff_async.cli._runtime import run, stderr_output
from veriff_async.cli.listen.server import stop_on_signals
from veriff_async.cli.sandbox.server import print_variables
from veriff_async.sandbox import Recorder

if TYPE_CHECKING:
    from veriff_async.cli._output import Output
    from veriff_async.sandbox import ReceivedRequest

__all__ = ("record", "request_line", "run_recorder")


@click.command()
@click.option("--to", "upstream", required=True, callback=check_url, metavar="URL", help="Veriff's API, or a sandbox.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8810, show_default=True, help="Port; 0 selects a free one."
)
@click.option(
    "--output",
    "-o",
    "cassette",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="File to write; it must not exist. By default cassette-<time>.jsonl.",
)
@click.option("--webhooks-to", callback=check_url, metavar="URL", help="Record webhooks, and pass them on to this URL.")
@click.option("--no-redact", is_flag=True, help="Keep personal data; keys, signatures and pictures are never written.")
@click.option("--ca-bundle", type=FILE, metavar="FILE", help="PEM file with certificate authorities to trust, too.")
def record(  # noqa: PLR0913  one for each option
    *,
    upstream: str,
    host: str,
    port: int,
    cassette: Path | None,
    webhooks_to: str | None,
    no_redact: bool,
    ca_bundle: Path | None,
) -> None:
    """Record what any client and Veriff send each other, until Ctrl-C.

    Standard output gets the environment variables with which clients reach Veriff through the recorder, standard error
    a line for each request. Clients keep their credentials. The cassette is redacted; veriff-async replay serves it.
    """
    path = cassette or Path(f"cassette-{datetime.now().astimezone():%Y%m%d-%H%M%S}.jsonl")
    output = stderr_output()
    recorder = Recorder(
        upstream,
        path,
        host=host,
        port=port,
        webhooks_to=webhooks_to,
        redact=not no_redact,
        ca_bundle=ca_bundle or ca_bundle_from(environ),
        allow_insecure_hosts=insecure_hosts_from(environ),
        on_request=lambda request: output.print(request_line(request)),
    )
    run(run_recorder(recorder, output, with_webhooks=webhooks_to is not None))


async def run_recorder(recorder: Recorder, output: Output, *, with_webhooks: bool) -> None:
    """Record until SIGINT, SIGTERM or SIGHUP."""
    # Around the recorder, so that a signal during its start or its end is not lost.
    with stop_on_signals() as stopped:
        async with recorder:
            print_variables(recorder.environ)
            output.print(f"Recording to {recorder.cassette}; set the variables above for clients. Ctrl-C stops it.")
            if with_webhooks:
                output.print(f"Let webhooks be posted to {recorder.webhook_url}")
            await stopped.wait()
    output.print(f"Wrote {recorder.cassette}")


def request_line(request: ReceivedRequest) -> str:
    """Return the line for a request."""
    cause = f"  {request.cause}" if request.cause else ""
    now = datetime.now().astimezone()
    return f"{now:%H:%M:%S}  {request.status or '---'}  {request.method:<6} {request.path}{cause}"
