"""The entry point of the command line."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from veriff_async import __version__
from veriff_async.cli import main
from veriff_async.cli._commands import COMMANDS, cli

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., subprocess.CompletedProcess[str]]


def run_python(program: str) -> subprocess.CompletedProcess[str]:
    """Run a short Python program."""
    return subprocess.run(  # noqa: S603  our own program
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_missing_extra_names_the_command_to_install_it(missing: str) -> None:
    """Without click or rich the command prints one sentence with the remedy; the exit code is 2."""
    program = f"import sys; sys.modules[{missing!r}] = None; from veriff_async.cli import main; main()"

    result = run_python(program)

    assert result.returncode == 2
    assert result.stderr == 'The command line needs click and rich: pip install "veriff-async[cli]"\n'
    assert result.stdout == ""


def test_another_missing_module_keeps_its_traceback() -> None:
    """A required module that cannot be imported is a broken installation, not a missing extra."""
    program = "import sys; sys.modules['aiohttp'] = None; from veriff_async.cli import main; main()"

    result = run_python(program)

    assert result.returncode == 1
    assert "aiohttp" in result.stderr


def test_broken_installation_is_not_taken_for_a_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing module of the library itself raises its own error."""
    monkeypatch.setitem(sys.modules, "veriff_async.cli._commands", None)

    with pytest.raises(ModuleNotFoundError, match="_commands"):
        main()


def test_ctrl_c_during_the_imports_ends_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code is 130, as for Ctrl-C at any later time."""

    class Interrupt:
        @staticmethod
        def find_spec(_name: str, _path: object = None, _target: object = None) -> None:
            raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "veriff_async.cli._commands")
    monkeypatch.setattr(sys, "meta_path", [Interrupt])

    with pytest.raises(SystemExit) as ended:
        main()

    assert 130 == ended.value.code


def test_version_option_prints_the_version(run: Run) -> None:
    """--version prints the version of the package."""
    assert run("--version").stdout == f"veriff-async {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_and_option_has_help(command: str) -> None:
    """-h lists each command; each command and option has a help text."""
    definition = cli.get_command(click.Context(cli), command)

    assert re.search(rf"^  {command} +\w", CliRunner().invoke(cli, ["-h"]).output, re.MULTILINE)
    assert definition is not None
    assert definition.help
    assert all(option.help for option in definition.params if isinstance(option, click.Option))


def test_command_imports_only_its_own_modules() -> None:
    """Shell completion stays fast because it does not import the modules of other commands."""
    result = run_python(
        "import sys; from veriff_async.cli import main; sys.argv = ['veriff-async', 'completion', 'fish']\n"
        "try: main()\n"
        "finally: assert not {'aiohttp', 'veriff_async.cli.demo', 'veriff_async.sandbox'} & set(sys.modules)"
    )

    assert (result.returncode, result.stderr) == (0, "")


def test_command_ends_although_a_thread_does_not() -> None:
    """A thread that waits for a network drive, which no time limit can end, does not keep the process."""
    result = run_python(
        "import sys, threading; from veriff_async import cli; sys.argv = ['veriff-async', '--verfiy']\n"
        "threading.Thread(target=threading.Event().wait).start(); cli._THREAD_SECONDS = 0.01; cli.main()"
    )

    assert 2 == result.returncode
    assert "No such option" in result.stderr


def test_unknown_command_is_wrong_usage() -> None:
    """An unknown command is exit code 2, like every wrong usage."""
    assert CliRunner().invoke(cli, ["verfiy"]).exit_code == 2
