"""`veriff-async completion`, and the queries that shells then send to the command."""

from __future__ import annotations

import subprocess
from shutil import which
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from tests.conditions import needs_posix
from veriff_async.cli._commands import cli
from veriff_async.cli.completion import SHELLS

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., subprocess.CompletedProcess[str]]


@needs_posix
@pytest.mark.parametrize(
    ("shell", "words", "expected"),
    [
        ("bash", ("veriff-async", "ver"), "verify"),
        ("zsh", ("veriff-async", "media", "download", "--if"), "--if-exists"),
        ("fish", ("veriff-async", "decision", "--show-"), "--show-person"),
        ("bash", ("veriff-async", "fraud", "report", "--category", "inj"), "injected_media"),
    ],
)
def test_completion_offers_commands_and_options_to_each_shell(
    run: Run, shell: str, words: tuple[str, ...], expected: str
) -> None:
    """The command answers the query of each shell's script, in its protocol, with commands and options."""
    script = CliRunner().invoke(cli, ["completion", shell])
    query = f"{shell}_complete"
    typed, position = ("\n".join(words), words[-1]) if shell == "fish" else (" ".join(words), str(len(words) - 1))

    offered = run(_VERIFF_ASYNC_COMPLETE=query, COMP_WORDS=typed, COMP_CWORD=position)

    assert script.exit_code == 0
    assert f"_VERIFF_ASYNC_COMPLETE={query}" in script.output
    assert expected in offered.stdout
    assert offered.stderr == ""


@needs_posix
@pytest.mark.skipif(which("bash") is None, reason="bash is not installed")
def test_bash_evaluates_the_script(run: Run) -> None:
    """After bash evaluates the script, it completes the command."""
    program = 'eval "$1" && complete -p veriff-async'

    result = subprocess.run(  # noqa: S603  our own script
        [which("bash") or "bash", "-c", program, "-", run("completion", "bash").stdout],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (result.returncode, result.stderr) == (0, "")
    assert "veriff" in result.stdout


def test_an_unknown_shell_is_wrong_usage() -> None:
    """An unknown shell is exit code 2, and the message lists the supported shells."""
    result = CliRunner().invoke(cli, ["completion", "csh"])

    assert result.exit_code == 2
    assert all(shell in result.output for shell in SHELLS)
