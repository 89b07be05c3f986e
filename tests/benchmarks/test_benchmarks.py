"""The benchmarks as a command: their options and output, never a speed."""

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
SUBJECTS = {
    "sandboxes",
    "uploads",
    "relay",
    "downloads",
    "flow",
    "batch",
    "decoding",
    "webhooks",
    "imports",
    "threshold",
    "waiting",
    "storage",
    "synchronous",
    "telemetry",
}


def run_benchmarks(*arguments: str) -> CompletedProcess[str]:
    """Run the command in the root of the repository, without measuring coverage, which would slow it down."""
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(  # noqa: S603  our own command
        command, capture_output=True, text=True, cwd=ROOT, env=environment_without_coverage(), check=False, timeout=280
    )


def environment_without_coverage() -> dict[str, str]:
    """Return the environment without the variables that start coverage in a process."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


@pytest.mark.skipif("VERIFF_BENCHMARKS" not in os.environ, reason="a stage of .ci/run, which sets VERIFF_BENCHMARKS")
@pytest.mark.timeout(300)  # a busy machine takes long to start some fifty processes
def test_smoke_run_writes_every_subject(tmp_path: Path) -> None:
    """A smoke run of all subjects exits with 0, and prints and writes the same tables.

    This test checks several rules, because the run takes much longer than the checks.
    """
    figures = tmp_path / "figures.json"
    smoke = run_benchmarks("--smoke", "--json", str(figures))

    assert smoke.returncode == 0, smoke.stderr
    titles = {line.partition(": ")[0] for line in smoke.stdout.splitlines() if ": " in line and line[0] != " "}
    assert titles == SUBJECTS
    report = json.loads(figures.read_text())
    assert {table["subject"] for table in report["tables"]} == SUBJECTS
    check_tables_match_output(report, smoke.stdout)
    check_medians_within_their_spread(report)
    check_ratio_to_itself(report)
    check_machine(report)


def check_tables_match_output(report: dict[str, Any], printed: str) -> None:
    """Check that the file has every printed table, with a figure in every column of our own rows."""
    for table in report["tables"]:
        assert f"{table['subject']}: {table['title']}" in printed
        for row in table["rows"]:
            assert set(table["columns"]) <= set(row["figures"])


def check_medians_within_their_spread(report: dict[str, Any]) -> None:
    """Check that every figure is a median between the lowest and the highest round, and not negative."""
    figures = [figure for table in report["tables"] for row in table["rows"] for figure in row["figures"].values()]
    assert figures
    assert all(0 <= figure["low"] <= figure["median"] <= figure["high"] for figure in figures)


def check_ratio_to_itself(report: dict[str, Any]) -> None:
    """Check that the ratio of a contender to itself is 1, since both come from the same round."""
    (base,) = (row for table in report["tables"] for row in table["rows"] if row["label"] == "import aiohttp")
    assert base["figures"]["x import aiohttp"] == {"median": 1.0, "low": 1.0, "high": 1.0}


def check_machine(report: dict[str, Any]) -> None:
    """Check that the file marks a smoke run, and names what the figures depend on."""
    assert report["smoke"] is True
    assert report["rounds"] == 1
    assert {"python", "aiohttp", "cores"} <= set(report["machine"])


def test_interrupted_run_keeps_its_tables(tmp_path: Path) -> None:
    """Each table is printed and written as soon as it is complete, so a long run that fails loses only the last one."""
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks", "--smoke", "--only", "webhooks", "--rounds", "3", "--json"]
    environ = environment_without_coverage()
    with subprocess.Popen([*command, str(figures)], stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environ) as run:  # noqa: S603  our own command
        assert run.stdout is not None
        titles = [next(line.rstrip() for line in run.stdout if line.startswith("webhooks: ")) for _ in range(2)]
        run.kill()

    written = [f"webhooks: {table['title']}" for table in json.loads(figures.read_text())["tables"]]
    assert written
    assert written == titles[: len(written)]


@pytest.mark.parametrize("arguments", [("--only", "nothing"), ("--rounds", "0"), ("--rounds", "many")])
def test_invalid_option_is_refused_before_the_first_run(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown subject or a number of rounds below one is refused, with the option named."""
    from benchmarks.__main__ import main  # noqa: PLC0415  takes long to import, in each worker

    with pytest.raises(SystemExit) as ended:
        main(arguments)
    written, errors = capsys.readouterr()
    assert 2 == ended.value.code
    assert arguments[0] in errors
    assert "" == written


@pytest.mark.skipif("VERIFF_BENCHMARKS" not in os.environ, reason="a stage of .ci/run, which sets VERIFF_BENCHMARKS")
@pytest.mark.timeout(300)
def test_large_inboxes_lose_no_wake_up() -> None:
    """Each store is filled, measured and used by four processes, and every recorded session wakes the fifth."""
    options = ("--sessions", "300", "--samples", "20", "--rate", "100", "--seconds", "2")
    command = [sys.executable, "-m", "benchmarks.large_inboxes", *options]
    run = subprocess.run(  # noqa: S603  our own command
        command, capture_output=True, text=True, cwd=ROOT, env=environment_without_coverage(), check=False, timeout=280
    )

    assert run.returncode == 0, run.stderr
    stores = [json.loads(line) for line in run.stdout.splitlines()]
    assert [each["store"] for each in stores] == ["sqlite", "redis", "postgres"]
    assert [each["rate"]["lost_wake_ups"] for each in stores] == [0, 0, 0]
    assert all(each["rate"]["webhooks"] > 50 for each in stores)
