"""The benchmarks as a command: that they run and what they print, never how fast anything was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from subprocess import CompletedProcess

ROOT = Path(__file__).parents[2]
SUBJECTS = {"uploads", "relay", "downloads", "flow", "batch", "decoding", "webhooks", "imports", "threshold", "waiting"}


def benchmarks(*arguments: str) -> CompletedProcess[str]:
    """Run the command from the root of the repository, and do not measure what is covered by what measures time."""
    command = [sys.executable, "-m", "benchmarks", *arguments]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    return subprocess.run(  # noqa: S603  our own command
        command, capture_output=True, text=True, cwd=ROOT, env=plain, check=False, timeout=50
    )


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the smoke run writes its figures."""
    return tmp_path_factory.mktemp("benchmarks") / "figures.json"


@pytest.fixture(scope="module")
def smoke(figures: Path) -> CompletedProcess[str]:
    """One smoke run of all subjects."""
    return benchmarks("--smoke", "--json", str(figures))


@pytest.fixture
def report(smoke: CompletedProcess[str], figures: Path) -> dict[str, Any]:
    """What the smoke run wrote."""
    assert smoke.returncode == 0, smoke.stderr
    report: dict[str, Any] = json.loads(figures.read_text())
    return report


def test_smoke_prints_a_table_of_every_subject(smoke: CompletedProcess[str]) -> None:
    """A smoke run ends well and prints at least one table of every subject."""
    assert smoke.returncode == 0, smoke.stderr
    titles = {line.partition(": ")[0] for line in smoke.stdout.splitlines() if ": " in line and line[0] != " "}
    assert titles == SUBJECTS


def test_file_holds_the_same_tables(smoke: CompletedProcess[str], report: dict[str, Any]) -> None:
    """The JSON file names every table that was printed, with a figure in every column of our own row."""
    assert {table["subject"] for table in report["tables"]} == SUBJECTS
    for table in report["tables"]:
        assert f"{table['subject']}: {table['title']}" in smoke.stdout
        for row in table["rows"]:
            # Who works in a process of its own, as curl does, has no memory or loop that could be looked at.
            whole = not row["label"].startswith("curl")
            assert not whole or set(table["columns"]) <= set(row["figures"])


def test_figures_are_a_median_within_its_spread(report: dict[str, Any]) -> None:
    """Every figure is a median between the lowest and the highest round, and none is negative."""
    found = [figure for table in report["tables"] for row in table["rows"] for figure in row["figures"].values()]
    assert found
    assert all(0 <= figure["low"] <= figure["median"] <= figure["high"] for figure in found)


def test_contender_is_one_times_itself(report: dict[str, Any]) -> None:
    """A ratio of a contender to itself is exactly one, as both come from the same round."""
    (base,) = (row for table in report["tables"] for row in table["rows"] if row["label"] == "import aiohttp")
    assert base["figures"]["x import aiohttp"] == {"median": 1.0, "low": 1.0, "high": 1.0}


def test_file_says_what_it_was_measured_on(report: dict[str, Any]) -> None:
    """The JSON file tells a smoke run from a real one, and names what the figures depend on."""
    assert report["smoke"] is True
    assert report["rounds"] == 1
    assert {"python", "aiohttp", "cores"} <= set(report["machine"])


@pytest.mark.parametrize("arguments", [("--only", "nothing"), ("--rounds", "0"), ("--rounds", "many")])
def test_wrong_option_is_refused_before_anything_runs(arguments: tuple[str, ...]) -> None:
    """An unknown subject or a number of rounds below one is refused, with the option named."""
    refused = benchmarks(*arguments)
    assert refused.returncode == 2
    assert arguments[0] in refused.stderr
    assert refused.stdout == ""
