"""The examples in the README and the documentation run as they are written."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from veriff_async.cli.specimens import specimen
from veriff_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parent.parent
README: Final = ROOT / "README.md"
BLOCK: Final = re.compile(r"(<!-- not (?:run|checked for warnings): [^\n]+ -->\n)?```python\n(.*?)```", re.DOTALL)


def find_examples() -> Iterator[tuple[str, tuple[str, bool]]]:
    """Yield every example to run and whether it may warn, with a name."""
    for page in (README, *sorted(ROOT.joinpath("docs").rglob("*.md"))):
        blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
        for number, (note, code) in enumerate(blocks, start=1):
            if not note.startswith("<!-- not run"):
                yield f"{page.relative_to(ROOT).with_suffix('').as_posix()}-{number}", (code, bool(note))


EXAMPLES: Final = dict(find_examples())


@pytest.mark.usefixtures("without_coverage")
@pytest.mark.parametrize(("code", "may_warn"), EXAMPLES.values(), ids=EXAMPLES)
def test_every_example_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, may_warn: bool) -> None:
    """An example runs as a program without a warning, with two pictures in its folder and a local sandbox."""
    for name, picture in (("front.jpg", "document-front.jpg"), ("selfie.jpg", "face.jpg")):
        with specimen(picture) as path:
            tmp_path.joinpath(name).write_bytes(path.read_bytes())
    script = tmp_path / "example.py"
    script.write_text(code, encoding="utf-8")
    with Sandbox(decide_after=0) as sandbox:
        for name, value in sandbox.environ.items():
            monkeypatch.setenv(name, value)
        result = subprocess.run(  # noqa: S603  our own example
            [sys.executable, "-W", "ignore" if may_warn else "error", str(script)],
            check=False,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=50,
        )

    assert (0, "") == (result.returncode, result.stderr)


def test_examples_are_found() -> None:
    """The search finds known examples of several pages."""
    assert {"README-1", "docs/start/first-verification-1", "docs/how-to/upload-media-1"} <= set(EXAMPLES)


def test_every_guarantee_names_a_test_that_exists() -> None:
    """Each row of the table of guarantees names existing tests."""
    page = ROOT.joinpath("docs", "concepts", "guarantees.md").read_text(encoding="utf-8")
    header, _, *rows = [line for line in page.splitlines() if line.startswith("|")]

    assert header == "| Guarantee | Test |"
    assert len(rows) > 20
    for row in rows:
        named = re.findall(r"`([a-z_/]+\.py)::(test_[a-z_0-9]+)`", row)
        assert named, row
        for path, test in named:
            spec = importlib.util.spec_from_file_location("named_by_a_guarantee", ROOT / "tests" / path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            assert hasattr(module, test), f"{path}::{test}"


def test_links_of_the_readme_lead_to_files() -> None:
    """Registries show the README alone, so its links are absolute; each leads to a page or file of this repository."""
    text = README.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", text)
    files = [
        link.replace("https://veriff-async.readthedocs.io/en/latest/", "docs/").replace(".html", ".md")
        if "readthedocs" in link
        else re.sub(r"https://(raw\.githubusercontent|github)\.com/veriff-async/veriff-async/(blob/)?main/", "", link)
        for link in links
        if link not in {"https://www.veriff.com", "https://veriff-async.readthedocs.io"}
    ]

    assert len(files) >= 7
    assert [] == [file for file in files if not ROOT.joinpath(file).is_file()]


def test_picture_of_the_terminal_requests_nothing() -> None:
    """The picture contains no address besides the name of its own format, so it loads no fonts."""
    picture = ROOT.joinpath("docs", "_static", "demo.svg").read_text(encoding="utf-8")

    assert re.findall(r"https?://[^\"\s]+|url\((?!#)", picture) == ["http://www.w3.org/2000/svg"]


def test_readme_fits_on_one_screen() -> None:
    """The README has at most 70 lines of source, which are about 50 when rendered."""
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 70


@pytest.mark.parametrize("command", ['pip install ".[cli]" && veriff-async demo', 'pip install -e ".[dev]" && pytest'])
def test_readme_has_one_command_to_see_and_one_to_test(command: str) -> None:
    """One command runs the demo, and one runs the tests."""
    assert f"```sh\n{command}\n```" in README.read_text(encoding="utf-8")


def test_ci_uses_the_command_of_the_readme() -> None:
    """The CI script reads the test command from the README, so the two cannot differ."""
    script = ROOT.joinpath(".ci", "run").read_text(encoding="utf-8")

    assert "README.md" in script
    assert "pip install -e" not in script.replace('pip install -e ".*"', "")
