"""The README fits on one screen, and its links, commands and guarantees are real."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from typing import Final

import pytest

from tests.docs.pages import ROOT

README: Final = ROOT / "README.md"


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


def test_table_of_extras_is_complete() -> None:
    """The page about the installation names every extra that a user can install."""
    project = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = ROOT.joinpath("docs", "start", "install.md").read_text(encoding="utf-8")

    listed = set(re.findall(r"^\| `([a-z]+)` \|", page, re.MULTILINE))

    assert listed == project["optional-dependencies"].keys() - {"dev"}
