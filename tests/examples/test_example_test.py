"""The example of a test for the application of a user."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.examples.conftest import EXAMPLES


def test_example_test_runs_under_pytest(without_coverage: None) -> None:
    """The example of a test runs under plain pytest, with the fixtures of the library."""
    options = ["-q", "-p", "no:cacheprovider", "-W", "error", "-c", os.devnull]
    options += ["-o", "asyncio_default_fixture_loop_scope=function"]
    done = subprocess.run(  # noqa: S603  our own example
        [sys.executable, "-m", "pytest", *options, "test_my_app.py"],
        check=False,
        capture_output=True,
        text=True,
        cwd=EXAMPLES,
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr
