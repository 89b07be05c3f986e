"""The workflows run stages of `.ci/run` and nothing else, with pinned actions and the least permissions."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Final

import pytest
import yaml  # type: ignore[import-untyped]

ROOT: Final = Path(__file__).parents[2]
SCRIPT: Final = ROOT.joinpath(".ci", "run").read_text(encoding="utf-8")
STAGES: Final = frozenset(re.findall(r"^stage_(\w+)\(\)", SCRIPT, re.MULTILINE))
WORKFLOWS: Final = {
    path.stem: path.read_text(encoding="utf-8") for path in ROOT.joinpath(".github/workflows").glob("*.yml")
}


def read_jobs(name: str) -> dict[str, dict[str, object]]:
    """Return the jobs of a workflow."""
    jobs: dict[str, dict[str, object]] = yaml.safe_load(WORKFLOWS[name])["jobs"]
    return jobs


def test_script_lists_every_stage() -> None:
    """Each function `stage_…` of the script is one that it runs by default, or one for the night."""
    lists = re.findall(r'^(?:all|nightly)="(.*)"$', SCRIPT, re.MULTILINE)

    assert len(lists) == 2
    assert sorted(" ".join(lists).split()) == sorted(STAGES)


def test_workflows_together_run_every_stage() -> None:
    """Each stage is in a workflow, and each stage that a workflow names exists."""
    text = "\n".join(WORKFLOWS.values())
    lists = re.findall(r"bash \.ci/run ([a-z_ ]+)$", text, re.MULTILINE) + re.findall(r"stages: \[(.*)\]", text)

    assert {stage for names in lists for stage in re.split(r",? ", names)} == STAGES


@pytest.mark.parametrize("name", WORKFLOWS)
def test_actions_are_pinned(name: str) -> None:
    """Each action is named by a full commit and its version: a tag can be moved to other code."""
    uses = re.findall(r"uses: (.*)", WORKFLOWS[name])

    assert uses
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action) for action in uses)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_permissions_are_the_least(name: str) -> None:
    """A workflow has no permission, each job names its own, and only the release writes; no checkout keeps a token."""
    text = WORKFLOWS[name]
    writes = {job for job, content in read_jobs(name).items() if "write" in str(content["permissions"])}

    assert yaml.safe_load(text)["permissions"] == {}
    assert writes == ({"publish", "release"} if name == "release" else set())
    assert text.count("actions/checkout@") == text.count("persist-credentials: false")


def test_classifiers_are_the_versions_that_the_workflow_tests() -> None:
    """The package claims the versions of CPython that CI runs, and the script tries the same ones."""
    project = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text(encoding="utf-8"))["project"]
    claimed = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    matrix = re.search(r"python: \[(.*)\]", WORKFLOWS["ci"])
    tried = re.search(r"PYTHONS:-([\d. ]+)\}", SCRIPT)

    assert matrix is not None
    assert tried is not None
    assert claimed == re.findall(r"3\.\d+", matrix[1]) == tried[1].split()
