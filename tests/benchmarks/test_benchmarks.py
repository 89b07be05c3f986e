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
    return subprocess.run(  # noqa: S603  our own command
        command, capture_output=True, text=True, cwd=ROOT, env=plain(), check=False, timeout=50
    )


def plain() -> dict[str, str]:
    """Return the environment without what would measure coverage."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


@pytest.mark.skipif("VERIFF_BENCHMARKS" not in os.environ, reason="a stage of .ci/run, which sets VERIFF_BENCHMARKS")
def test_smoke_run_measures_every_subject(tmp_path: Path) -> None:
    """A smoke run of all subjects ends well, and prints and writes the same sound tables.

    One test for several rules, since the run takes longer than all that is asked of it.
    """
    figures = tmp_path / "figures.json"
    smoke = benchmarks("--smoke", "--json", str(figures))

    assert smoke.returncode == 0, smoke.stderr
    titles = {line.partition(": ")[0] for line in smoke.stdout.splitlines() if ": " in line and line[0] != " "}
    assert titles == SUBJECTS
    report = json.loads(figures.read_text())
    assert {table["subject"] for table in report["tables"]} == SUBJECTS
    holds_what_was_printed(report, smoke.stdout)
    has_medians_within_their_spread(report)
    compares_a_contender_with_itself(report)
    says_what_it_was_measured_on(report)


def holds_what_was_printed(report: dict[str, Any], printed: str) -> None:
    """The file names every table that was printed, with a figure in every column of our own row."""
    for table in report["tables"]:
        assert f"{table['subject']}: {table['title']}" in printed
        for row in table["rows"]:
            # Who works in a process of its own, as curl does, has no memory or loop that could be looked at.
            whole = not row["label"].startswith("curl")
            assert not whole or set(table["columns"]) <= set(row["figures"])


def has_medians_within_their_spread(report: dict[str, Any]) -> None:
    """Every figure is a median between the lowest and the highest round, and none is negative."""
    found = [figure for table in report["tables"] for row in table["rows"] for figure in row["figures"].values()]
    assert found
    assert all(0 <= figure["low"] <= figure["median"] <= figure["high"] for figure in found)


def compares_a_contender_with_itself(report: dict[str, Any]) -> None:
    """A ratio of a contender to itself is exactly one, as both come from the same round."""
    (base,) = (row for table in report["tables"] for row in table["rows"] if row["label"] == "import aiohttp")
    assert base["figures"]["x import aiohttp"] == {"median": 1.0, "low": 1.0, "high": 1.0}


def says_what_it_was_measured_on(report: dict[str, Any]) -> None:
    """The file tells a smoke run from a real one, and names what the figures depend on."""
    assert report["smoke"] is True
    assert report["rounds"] == 1
    assert {"python", "aiohttp", "cores"} <= set(report["machine"])


def test_run_that_is_broken_off_keeps_its_tables(tmp_path: Path) -> None:
    """Tables are printed and written as they are found, so that a run of an hour is not lost in its last minute."""
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks", "--smoke", "--only", "webhooks", "--rounds", "3", "--json"]
    with subprocess.Popen([*command, str(figures)], stdout=subprocess.PIPE, text=True, cwd=ROOT, env=plain()) as run:  # noqa: S603  our own command
        assert run.stdout is not None
        titles = [next(line.rstrip() for line in run.stdout if line.startswith("webhooks: ")) for _ in range(2)]
        run.kill()

    kept = [f"webhooks: {table['title']}" for table in json.loads(figures.read_text())["tables"]]
    assert kept
    assert kept == titles[: len(kept)]


@pytest.mark.parametrize("arguments", [("--only", "nothing"), ("--rounds", "0"), ("--rounds", "many")])
def test_wrong_option_is_refused_before_anything_runs(arguments: tuple[str, ...]) -> None:
    """An unknown subject or a number of rounds below one is refused, with the option named."""
    refused = benchmarks(*arguments)
    assert refused.returncode == 2
    assert arguments[0] in refused.stderr
    assert refused.stdout == ""
