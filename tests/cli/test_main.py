"""The entry of the command line."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest

from veriff_async import __version__
from veriff_async.cli._commands import COMMANDS, cli

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., subprocess.CompletedProcess[str]]


def python(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program of one line."""
    return subprocess.run(  # noqa: S603  our own program
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_a_missing_extra_is_named_with_its_remedy(missing: str) -> None:
    """Without click or rich the command says in one sentence what to install, with exit code 2."""
    program = f"import sys; sys.modules[{missing!r}] = None; from veriff_async.cli import main; main()"

    done = python(program)

    assert done.returncode == 2
    assert done.stderr == 'The command line needs click and rich: pip install "veriff-async[cli]"\n'
    assert done.stdout == ""


def test_a_broken_installation_is_not_mistaken_for_a_missing_extra() -> None:
    """Another module that is missing is a defect, and keeps its traceback."""
    program = "import sys; sys.modules['aiohttp'] = None; from veriff_async.cli import main; main()"

    done = python(program)

    assert done.returncode == 1
    assert "aiohttp" in done.stderr


def test_it_tells_its_version(run: Run) -> None:
    """--version prints the version of the package."""
    assert run("--version").stdout == f"veriff-async {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_explained(run: Run, command: str) -> None:
    """-h lists the commands, and each explains itself and every option in words."""
    found = cli.get_command(click.Context(cli), command)

    assert re.search(rf"^  {command} +\w", run("-h").stdout, re.MULTILINE)
    assert found is not None
    assert found.help
    assert all(option.help for option in found.params if isinstance(option, click.Option))


def test_a_command_loads_no_other() -> None:
    """A shell that completes a word waits for nothing that the word does not need."""
    done = python(
        "import sys; from veriff_async.cli import main; sys.argv = ['veriff-async', 'completion', 'fish']\n"
        "try: main()\n"
        "finally: assert not {'aiohttp', 'veriff_async.cli.demo', 'veriff_async.sandbox'} & set(sys.modules)"
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_command_is_wrong_usage(run: Run) -> None:
    """Exit code 2, as for every wrong use."""
    assert run("verfiy").returncode == 2
