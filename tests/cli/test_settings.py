"""Credentials from the environment or a file, and the form in which every command reports errors."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from tests.conditions import needs_posix
from veriff_async import ConfigurationError
from veriff_async.cli._commands import cli
from veriff_async.cli._env_file import create_client, load_settings

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[str]]

SECRET = "0f0e0d0c-0b0a-4908-8706-050403020100"
SESSION = "8f0d1ab6-1b47-47fc-a4fc-f72b6d3584a7"


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    """Return a file that only its owner can read."""
    path = tmp_path / "veriff.env"
    path.touch(0o600)
    return path


@pytest.fixture(autouse=True)
def command_context() -> Iterator[None]:
    """Enter a click context, in which warnings know their form."""
    with click.Context(click.Command("test")).scope():
        yield


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"KEY=a-b", "a-b"),
        (b"export KEY=a-b", "a-b"),
        (b"  export   KEY='a b'  # theirs", "a b"),
        (b'KEY="a b"\r', "a b"),
        (b"KEY='it'\"'\"'s'", "it's"),
        (b"KEY=a#b", "a#b"),
        (b"KEY=a=b", "a=b"),
        (b"KEY=$HOME", "$HOME"),
        (b"KEY=", ""),
        (b"KEY=first\nKEY=last", "last"),
        (b"\xef\xbb\xbfKEY=a", "a"),
        (b"# don't\n\n\nKEY=a\n", "a"),
    ],
)
def test_env_file_follows_the_syntax_of_a_shell(env_file: Path, line: bytes, value: str) -> None:
    """Quotes, export, comments and empty lines are accepted; nothing is expanded, and # within a word stays."""
    env_file.write_bytes(line)

    assert load_settings(env_file) == {"KEY": value}


@pytest.mark.parametrize(
    "line",
    [
        SECRET.encode(),
        f"KEY = {SECRET}".encode(),
        f"KEY={SECRET} {SECRET}".encode(),
        f"{SECRET}={SECRET}".encode(),
        f"KEY='{SECRET}".encode(),
        f"KEY={SECRET}".encode() + b"\xff",
        f"KEY={SECRET}".encode() + b"\0",
        f"={SECRET}".encode(),
    ],
)
def test_invalid_line_is_named_by_number_only(env_file: Path, line: bytes) -> None:
    """The error does not quote the line, because it may contain a secret."""
    env_file.write_bytes(b"# mine\nA=b\n" + line + b"\n")

    with pytest.raises(ConfigurationError, match=r"^Line 3 of veriff\.env ") as caught:
        load_settings(env_file)

    assert SECRET[:8] not in str(caught.value)


def test_file_that_is_too_large_or_unreadable_is_refused(env_file: Path, tmp_path: Path) -> None:
    """The error for a large file names the limit; a folder cannot be read."""
    env_file.write_bytes(b"#" * 70_000)

    with pytest.raises(ConfigurationError, match="65536 bytes"):
        load_settings(env_file)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_settings(tmp_path)


@needs_posix
def test_env_file_readable_by_others_gives_a_warning(env_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The settings are loaded, and standard error gives the remedy."""
    env_file.write_text("KEY=a")
    env_file.chmod(0o640)

    assert load_settings(env_file) == {"KEY": "a"}
    assert "chmod 600" in capsys.readouterr().err


def test_settings_without_a_file_are_the_environment() -> None:
    """The variables are those of the process."""
    assert load_settings(None) is os.environ


@needs_posix
def test_env_file_replaces_the_environment(run: Run, env_file: Path) -> None:
    """A variable that the file lacks is missing even if the environment has it; with --json the error is an object."""
    env_file.write_text(f"VERIFF_SHARED_SECRET={SECRET}\n")
    env_file.chmod(0o644)

    result = run(
        "decision", SESSION, "--json", "--env-file", str(env_file), VERIFF_API_KEY="6f1b1b52", VERIFF_BASE_URL="x"
    )

    warning, error = map(json.loads, result.stderr.splitlines())
    assert (result.returncode, result.stdout) == (1, "")
    assert "chmod 600" in warning["warning"]
    assert error["error"]["type"] == "ConfigurationError"
    assert error["error"]["message"].startswith("VERIFF_API_KEY is not set")
    assert error["error"]["exit_code"] == 1


def test_missing_credentials_are_one_sentence() -> None:
    """The sentence names the missing variable and where to find its value."""
    environ = dict.fromkeys(name for name in os.environ if name.startswith("VERIFF_"))
    result = CliRunner().invoke(cli, ["media", "list", SESSION], env=environ)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: VERIFF_API_KEY is not set")
    assert result.stderr.count("\n") == 1


@needs_posix
def test_old_api_host_gives_a_warning_in_the_form_of_the_command(
    env_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command with an old API host prints one line, not a Python warning."""
    env_file.write_text(
        "VERIFF_API_KEY=key\nVERIFF_SHARED_SECRET=secret\nVERIFF_BASE_URL=https://stationapi.veriff.com\n"
    )
    env_file.chmod(0o600)

    create_client(env_file)

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Warning: ")
    assert "9 December 2026" in line
