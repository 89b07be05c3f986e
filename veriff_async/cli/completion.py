"""The completion command: prints click's completion script for a shell."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

from veriff_async.cli._stdio import print_stdout

__all__ = ("SHELLS", "VARIABLE", "completion")

SHELLS: Final = ("bash", "zsh", "fish")

VARIABLE: Final = "_VERIFF_ASYNC_COMPLETE"
"""The environment variable by which click recognises a request for completion."""


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(*, shell: str) -> None:
    """Print the script that completes commands, options and files in SHELL.

    bash: eval "$(veriff-async completion bash)" in ~/.bashrc; zsh: the same in ~/.zshrc; fish:
    veriff-async completion fish > ~/.config/fish/completions/veriff-async.fish
    """
    root = click.get_current_context().find_root()
    kind = get_completion_class(shell)
    if kind is not None:  # click knows all three
        print_stdout(kind(root.command, {}, "veriff-async", VARIABLE).source().rstrip("\n"))
