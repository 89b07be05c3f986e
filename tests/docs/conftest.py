"""The documentation as a built site; `VERIFF_DOCS` names its folder, or is 1 to build it here."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Path]:
    """Return the folder of the built site; workers of one run share it."""
    given = os.environ.get("VERIFF_DOCS", "")
    if not given:
        pytest.skip("building the site takes longer than all other tests of docs: VERIFF_DOCS=1 builds it")
    if given != "1":
        yield Path(given).resolve()
        return
    folder = tmp_path_factory.getbasetemp()
    shared = folder if worker_id == "master" else folder.parent  # each worker has its own folder below that of the run
    html = shared / "html"
    with shared.joinpath("html.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not html.joinpath("objects.inv").exists():  # Sphinx writes it last
            build(html)
    yield html


def build(folder: Path) -> None:
    """Build the site as `.ci/run` does: a warning is an error."""
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)  # noqa: S603  our own
    assert (0, "") == (result.returncode, result.stderr)
