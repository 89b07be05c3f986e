"""The group of all commands; each is defined in a module of its own, and added here."""

from __future__ import annotations

import click

from veriff_async.cli.batch import batch
from veriff_async.cli.completion import completion
from veriff_async.cli.decision import decision
from veriff_async.cli.demo import demo
from veriff_async.cli.doctor import doctor
from veriff_async.cli.listen import listen
from veriff_async.cli.media import media
from veriff_async.cli.running import CommandLine
from veriff_async.cli.sandbox import sandbox
from veriff_async.cli.trigger import trigger
from veriff_async.cli.verify import verify
from veriff_async.version import __version__

__all__ = ("cli",)


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="veriff-async %(version)s")
def cli() -> None:
    """Verify identities with Veriff: one or many at once, against Veriff or a Veriff of your own machine.

    Credentials come from VERIFF_API_KEY, VERIFF_SHARED_SECRET and VERIFF_BASE_URL, or from a file given with
    --env-file; never from arguments, which every user of the machine can read.
    """


cli.add_command(verify)
cli.add_command(batch)
cli.add_command(decision)
cli.add_command(media)
cli.add_command(completion)
cli.add_command(demo)
cli.add_command(sandbox)
cli.add_command(listen)
cli.add_command(trigger)
cli.add_command(doctor)
