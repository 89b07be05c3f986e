"""The commands, their options and their exit codes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.console import Console

from veriff_async import VeriffError
from veriff_async.cli.demo import run_demo
from veriff_async.cli.sandbox import run_sandbox
from veriff_async.cli.show import Screen, as_json
from veriff_async.sandbox import WebhookKind
from veriff_async.version import __version__

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ("cli",)

_T = TypeVar("_T")
_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def _run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end; errors of the library become one sentence, Ctrl-C its exit code."""
    try:
        return asyncio.run(work)
    except VeriffError as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        raise SystemExit(_INTERRUPTED) from None


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="veriff-async %(version)s")
def cli() -> None:
    """Verify identities with Veriff from asyncio: try it here, without credentials."""


@cli.command()
@click.option("--front", type=_FILE, help="Front of a document instead of the specimen.")
@click.option("--back", type=_FILE, help="Back of a document instead of the specimen.")
@click.option("--face", type=_FILE, help="Picture of a face instead of the specimen.")
@click.option("--json", "for_program", is_flag=True, help="Print the outcome as JSON and nothing else.")
@click.option("--show-person", is_flag=True, help="Show the person's data of the decision too.")
def demo(*, front: Path | None, back: Path | None, face: Path | None, for_program: bool, show_person: bool) -> None:
    """Run the whole flow, from files to decision, against a local Veriff.

    Nothing leaves this machine. Pictures that you do not give are specimens of the package.
    """
    screen = Screen(Console(stderr=for_program, quiet=for_program))
    outcome = _run(run_demo({"document-front": front, "document-back": back, "face": face}, screen))
    if for_program:
        click.echo(as_json(outcome, show_person=show_person))
        return
    screen.decision(outcome.decision, show_person=show_person)
    screen.story(outcome)


@cli.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8800, show_default=True, help="Port; 0 takes a free one."
)
@click.option("--webhook-url", metavar="URL", help="Where to post decisions, signed as Veriff signs them.")
@click.option("--every-webhook", is_flag=True, help="Post every kind of webhook there, not decisions alone.")
@click.option(
    "--decide-after",
    type=click.FloatRange(min=0),
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
    screen = Screen(Console(stderr=True))
    kinds = tuple(WebhookKind) if every_webhook else (WebhookKind.DECISION,)
    urls = {} if webhook_url is None else dict.fromkeys(kinds, webhook_url)
    _run(run_sandbox(screen, host=host, port=port, webhook_urls=urls, decide_after=decide_after))
