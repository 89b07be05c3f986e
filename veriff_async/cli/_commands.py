"""The group of all commands. Each is in the module or folder of the same name, or in one that `_MODULES` names."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

from veriff_async.cli._runtime import CommandLine
from veriff_async.version import __version__

__all__ = ("COMMANDS", "cli")

COMMANDS: Final = (
    "verify",
    "batch",
    "decision",
    "attempts",
    "media",
    "person",
    "watchlist",
    "fraud",
    "certificates",
    "delete",
    "forget",
    "retention",
    "listen",
    "inbox",
    "postgres",
    "trigger",
    "check-receiver",
    "doctor",
    "sandbox",
    "record",
    "replay",
    "demo",
    "completion",
)

# Modules of commands that are not in the module of their own name.
_MODULES: Final = {
    **{name: f"{name}.command" for name in ("batch", "doctor", "inbox", "listen", "sandbox")},
    **{name: f"erasure.{name}" for name in ("forget", "retention")},
    "check-receiver": "check_receiver.command",
    **dict.fromkeys(("attempts", "person", "watchlist", "delete"), "session_data"),
}


class _Commands(CommandLine):
    """Imports a command when it is needed: completing a word in a shell must not import all of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's own signature
        """Return the names of commands, the most used first."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return a command, or `None` if no command has that name."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"veriff_async.cli.{_MODULES.get(cmd_name, cmd_name)}")
        command: object = getattr(module, cmd_name.replace("-", "_"))
        return command if isinstance(command, click.Command) else None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="veriff-async %(version)s")
def cli() -> None:
    """Verify identities with Veriff: one or many at once, against Veriff or a local sandbox.

    Credentials come from VERIFF_API_KEY, VERIFF_SHARED_SECRET and VERIFF_BASE_URL, or from a file given with
    --env-file; never from arguments, which every user of the machine can read.
    """
