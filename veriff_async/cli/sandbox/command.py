"""The sandbox command: a local Veriff until Ctrl-C, and subcommands that control one that runs."""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.core import ParameterSource

from veriff_async.cli._options import FILE, SecondsOrNone
from veriff_async.cli._runtime import run, stderr_output
from veriff_async.cli.sandbox.connection import token_file_option
from veriff_async.cli.sandbox.controls import OrderedGroup, build_commands
from veriff_async.cli.sandbox.server import (
    Announcement,
    find_addresses,
    is_every_address,
    own_credentials,
    run_sandbox,
)
from veriff_async.cli.sandbox.subcommands import CHAOS, chaos, environ, events, restore, snapshot
from veriff_async.sandbox import ChaosProfile, Sandbox, TLSFiles, VirtualClock, WebhookKind
from veriff_async.sandbox._control.access import TOKEN_VARIABLE

__all__ = ("sandbox",)


@click.group(cls=OrderedGroup, invoke_without_command=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8800, show_default=True, help="Port; 0 selects a free one."
)
@click.option("--webhook-url", metavar="URL", help="Post signed decision webhooks to this address.")
@click.option("--every-webhook", is_flag=True, help="Post every kind of webhook there, not only decisions.")
@click.option(
    "--decide-after",
    type=SecondsOrNone(min=0),
    metavar="SECONDS|none",
    default=3.0,
    show_default=True,
    help="Time from submission to approval; with none, you decide: in the console, on the hosted page or by command.",
)
@click.option(
    "--chaos",
    type=CHAOS,
    metavar="NAME|FILE",
    help=f"Faults, latency and lost webhooks: {', '.join(ChaosProfile.shipped())}, or a TOML file.",
)
@click.option(
    "--state",
    "state_folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep sessions, pictures, webhooks and generated credentials in this folder across restarts.",
)
@click.option("--tls", is_flag=True, help="Serve https, with a certificate authority of its own (extra [sandbox]).")
@click.option(
    "--tls-name", "tls_names", multiple=True, metavar="HOST", help="Another name or address in the certificate."
)
@click.option("--tls-cert", type=FILE, metavar="FILE", help="Serve https with this certificate, with --tls-key.")
@click.option("--tls-key", type=FILE, metavar="FILE", help="Private key of --tls-cert, without a password.")
@click.option("--tls-ca", type=FILE, metavar="FILE", help="Authority of --tls-cert, for clients that do not trust it.")
@click.option("--public-url", metavar="URL", help="Address in responses, such as that of a reverse proxy.")
@token_file_option("File with the token that console and control API need, instead of VERIFF_SANDBOX_TOKEN.")
@click.option("--open", "open_console", is_flag=True, help="Open the console in a browser.")
@click.option("--virtual-clock", is_flag=True, help="Let time stand still until it is advanced.")
@click.pass_context
def sandbox(  # noqa: PLR0913  one for each option
    ctx: click.Context,
    *,
    host: str,
    port: int,
    webhook_url: str | None,
    every_webhook: bool,
    decide_after: float | None,
    chaos: str | None,
    state_folder: Path | None,
    tls: bool,
    tls_names: tuple[str, ...],
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_ca: Path | None,
    public_url: str | None,
    control_token: str | None,
    open_console: bool,
    virtual_clock: bool,
) -> None:
    """Run a local Veriff until Ctrl-C, or control one that runs.

    Without a subcommand it runs. Standard output gets the environment variables for clients, standard error a line for
    each request, change and webhook. VERIFF_API_KEY and VERIFF_SHARED_SECRET come from the environment if set there;
    otherwise they are random.
    """
    if ctx.invoked_subcommand is not None:
        _refuse_options(ctx)
        return
    if every_webhook and webhook_url is None:
        msg = "--every-webhook needs an address: give --webhook-url too."
        raise click.UsageError(msg)
    kinds = tuple(WebhookKind) if every_webhook else (WebhookKind.DECISION,)
    files = _tls_files(tls_cert, tls_key, tls_ca)
    if tls_names and (files is not None or not tls):
        msg = "--tls-name adds to the certificate that --tls makes: give both, without --tls-cert."
        raise click.UsageError(msg)
    credentials = own_credentials()
    output = stderr_output()
    addresses = find_addresses() if is_every_address(host) else []
    server = Sandbox(
        host=host,
        port=port,
        credentials=credentials,
        webhook_urls={} if webhook_url is None else dict.fromkeys(kinds, webhook_url),
        decide_after=decide_after,
        clock=VirtualClock() if virtual_clock else None,
        chaos=chaos,
        state_folder=state_folder,
        tls=files or tls,
        # Other machines connect by these, and would refuse a certificate that does not have them.
        tls_names=[*addresses, *tls_names],
        public_url=public_url,
        control_token=control_token,
    )
    announcement = Announcement(
        addresses=addresses,
        with_secret=credentials is None,
        with_token=control_token is None and not os.environ.get(TOKEN_VARIABLE),
        open_console=open_console,
    )
    run(run_sandbox(server, output, announcement))


for _command in (*build_commands(), chaos, events, environ, snapshot, restore):
    sandbox.add_command(_command)


def _refuse_options(ctx: click.Context) -> None:
    """Refuse options of the start before a subcommand, which would ignore them."""
    for parameter in ctx.command.params:
        if ctx.get_parameter_source(parameter.name or "") is not ParameterSource.DEFAULT:
            msg = f"{parameter.opts[0]} starts a sandbox, and {ctx.invoked_subcommand} controls one: give one of them."
            raise click.UsageError(msg)


def _tls_files(certificate: Path | None, private_key: Path | None, authority: Path | None) -> TLSFiles | None:
    """Return the files of the user's certificate, or `None`."""
    if certificate is not None and private_key is not None:
        return TLSFiles(certificate=certificate, private_key=private_key, authority=authority)
    if certificate is None and private_key is None and authority is None:
        return None
    msg = "A certificate needs its private key: give --tls-cert and --tls-key."
    raise click.UsageError(msg)
