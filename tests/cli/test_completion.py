"""`veriff-async completion`, and what shells then ask the command for."""

from __future__ import annotations

import subprocess
from shutil import which
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from veriff_async.cli._commands import cli
from veriff_async.cli.completion import SHELLS

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize(
    ("shell", "words", "expected"),
    [
        ("bash", ("veriff-async", "ver"), "verify"),
        ("zsh", ("veriff-async", "media", "download", "--if"), "--if-exists"),
        ("fish", ("veriff-async", "decision", "--show-"), "--show-person"),
    ],
)
def test_a_shell_is_told_what_can_stand_there(run: Run, shell: str, words: tuple[str, ...], expected: str) -> None:
    """What the script of a shell asks for, in its protocol, is answered with commands and options."""
    script = CliRunner().invoke(cli, ["completion", shell])
    question = f"{shell}_complete"
    typed, place = ("\n".join(words), words[-1]) if shell == "fish" else (" ".join(words), str(len(words) - 1))

    offered = run(_VERIFF_ASYNC_COMPLETE=question, COMP_WORDS=typed, COMP_CWORD=place)

    assert script.exit_code == 0
    assert f"_VERIFF_ASYNC_COMPLETE={question}" in script.output
    assert expected in offered.stdout
    assert offered.stderr == ""


@pytest.mark.skipif(which("bash") is None, reason="there is no bash")
def test_bash_takes_the_script(run: Run) -> None:
    """A shell that evaluates it knows how to complete the command."""
    program = 'eval "$1" && complete -p veriff-async'

    done = subprocess.run(  # noqa: S603  our own script
        [which("bash") or "bash", "-c", program, "-", run("completion", "bash").stdout],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "veriff" in done.stdout


def test_an_unknown_shell_is_wrong_usage() -> None:
    """Exit code 2, with the shells that there are."""
    done = CliRunner().invoke(cli, ["completion", "csh"])

    assert done.exit_code == 2
    assert all(shell in done.output for shell in SHELLS)
