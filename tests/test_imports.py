"""Imports point downwards, and importing the package costs next to nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import veriff_async

PACKAGE = Path(veriff_async.__file__).parent


def test_layers() -> None:
    """The contracts of pyproject.toml hold: layers, pure rules, and few importers for each heavy dependency."""
    # In a process of its own: import-linter configures logging, which disables the loggers that later tests read.
    completed = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        check=False,
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
    )
    assert completed.returncode == 0, completed.stdout


def test_importing_a_module_does_not_warn() -> None:
    """Every module can be imported first, without a warning."""
    names = [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name != "__main__.py"
    ]
    run_python("; ".join(f"import {name}" for name in reversed(names)))


def test_importing_the_package_imports_nothing_else() -> None:
    """The package loads no dependency, and its client neither the packages above it nor the extras."""
    run_python(
        "import sys, veriff_async\n"
        "assert not {'aiohttp', 'anyio', 'attrs', 'cattrs'} & set(sys.modules)\n"
        "from veriff_async import VeriffClient\n"
        "packages = {f'veriff_async.{name}' for name in ('sandbox', 'inbox', 'webhooks', 'batch', 'cli', 'testing')}\n"
        "extras = {'click', 'rich', 'redis', 'taskiq', 'PIL', 'pydantic', 'pytest'}\n"
        "assert not (packages | extras) & set(sys.modules)\n"
        "from veriff_async import *\n"
        "packages -= {'veriff_async.webhooks', 'veriff_async.inbox'}\n"
        "assert not (packages | extras) & set(sys.modules)\n"
    )


def test_commands_import_no_extra_of_a_store() -> None:
    """The help of all commands works with the extra ``cli`` alone."""
    run_python(
        "import sys\n"
        "from veriff_async.cli._commands import COMMANDS, cli\n"
        "assert all(cli.get_command(None, name) for name in COMMANDS)\n"
        "assert not {'redis', 'psycopg'} & set(sys.modules)\n"
    )


def run_python(code: str) -> None:
    """Run code in a new interpreter, with warnings as errors."""
    completed = subprocess.run(  # noqa: S603  our own code
        [sys.executable, "-W", "error", "-c", code], check=False, capture_output=True, text=True
    )
    assert (0, "") == (completed.returncode, completed.stderr)
