"""The two programs of the page about the migration do the same."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.conditions import without_slow_steps
from veriff_async.sandbox import Sandbox
from veriff_async.sandbox._specimens import specimen

FOLDER: Final = Path(__file__).parents[2] / "examples" / "migration"


@pytest.mark.usefixtures("without_coverage")
@pytest.mark.parametrize("program", ["with_requests.py", "with_veriff_async.py"])
def test_both_programs_verify_one_person(program: str) -> None:
    """Each creates one session, uploads both pictures unchanged, submits, and prints the decision."""
    with (
        Sandbox(decide_after=0) as sandbox,
        specimen("document-front.webp") as front,
        specimen("face.webp") as selfie,
    ):
        result = subprocess.run(  # noqa: S603  our own example
            [sys.executable, "-W", "error", str(FOLDER / program), str(front), str(selfie)],
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, **sandbox.environ},
            timeout=50,
        )

        assert ("", "approved\n", 0) == (without_slow_steps(result.stderr), result.stdout, result.returncode)
        (session,) = sandbox.sessions
        assert session.vendor_data == "user-42"
        uploaded = {media.context: hashlib.sha256(media.path.read_bytes()).digest() for media in session.media}
        assert uploaded == {
            "document-front": hashlib.sha256(front.read_bytes()).digest(),
            "face": hashlib.sha256(selfie.read_bytes()).digest(),
        }
