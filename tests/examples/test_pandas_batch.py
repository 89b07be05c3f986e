"""The example for pandas: a table of people becomes a table of decisions, also after a crash."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import pandas as pd
import pytest
from anyio import to_thread

from tests.conditions import needs_posix, until
from tests.examples.conftest import EXAMPLES, SECONDS
from tests.examples.web import JPEG
from veriff_async.sandbox import Sandbox

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(150), pytest.mark.usefixtures("without_coverage")]

PEOPLE: Final = pd.DataFrame(
    {
        "id": ["007", "008", "009", "010"],
        "first_name": ["Approve", "Decline", None, "Approve"],  # the sandbox decides by it
        "front": ["front.jpg", "front.jpg", "front.jpg", "missing.jpg"],
        "face": ["face.jpg"] * 4,
    }
)


@pytest.fixture(scope="module")
def example() -> ModuleType:
    """Import the example."""
    spec = importlib.util.spec_from_file_location("pandas_batch", EXAMPLES / "pandas_batch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with pictures."""
    for name in ("front.jpg", "face.jpg"):
        (tmp_path / name).write_bytes(JPEG)
    PEOPLE[:2].drop(columns=["first_name"]).to_csv(tmp_path / "two.csv", index=False)
    return tmp_path


@pytest.mark.parametrize("ending", ["csv", "xlsx", "parquet"])
def test_table_becomes_results(
    example: ModuleType, folder: Path, ending: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each row has a result with the same columns and types, and a second run changes nothing."""
    if ending == "parquet" and find_spec("pyarrow") is None:
        pytest.skip("pyarrow is not installed")
    source, target = folder / f"people.{ending}", folder / f"results.{ending}"
    writers = {"csv": PEOPLE.to_csv, "xlsx": PEOPLE.to_excel, "parquet": PEOPLE.to_parquet}
    writers[ending](source, index=False)
    with Sandbox(decide_after=0) as sandbox:
        for variable, value in sandbox.environ.items():
            monkeypatch.setenv(variable, value)
        example.main(source, target)
        first = target.read_bytes()
        assert 3 == len(sandbox.sessions)
        example.main(source, target)
        assert 3 == len(sandbox.sessions)
    if ending == "csv":  # other formats hold the time of their creation
        assert first == target.read_bytes()

    readers = {"csv": pd.read_csv, "xlsx": pd.read_excel, "parquet": pd.read_parquet}
    results = readers[ending](target, **({} if ending == "parquet" else {"dtype": {"id": str}}))
    assert list(example.COLUMNS) == list(results.columns)
    assert ["007", "008", "009", "010"] == list(results["id"])
    assert ["approved", "declined", "approved"] == list(results["status"][:3])
    assert results["decision_time"][:3].notna().all()
    assert pd.isna(results["status"][3])
    assert str(results["error"][3]).startswith("MediaError: media[0] (document-front)")
    shown = capsys.readouterr()
    assert "3 of 4 decided, 1 failed" in shown.err
    assert "without a decision" in shown.out
    assert str(folder) not in results.to_string() + shown.out + shown.err  # names of files may hold those of people


def test_no_result_has_all_columns(example: ModuleType) -> None:
    """The results have the same columns and types without any row, and without any decision."""
    for ids in ([], ["007"]):
        results = example.to_table([], pd.Series(ids, dtype="string"))
        assert example.COLUMNS == {name: str(kind) for name, kind in results.dtypes.items()}
        assert len(ids) == len(results)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [(PEOPLE.drop(columns=["face"]), "has no column face"), (PEOPLE.assign(id="1"), "an id of its own")],
)
def test_wrong_table_is_explained(example: ModuleType, tmp_path: Path, table: pd.DataFrame, sentence: str) -> None:
    """A table that cannot be used ends the program before anything is sent, with a sentence."""
    source = tmp_path / "people.csv"
    table.to_csv(source)
    with pytest.raises(SystemExit, match=sentence):
        example.read_table(source)


def test_results_never_replace_the_table(example: ModuleType, folder: Path) -> None:
    """The program refuses to write its results into the file of the table."""
    with pytest.raises(SystemExit, match="file of their own"):
        example.main(folder / "two.csv", folder / "two.csv")


@needs_posix
async def test_killed_run_resumes(sandbox: Sandbox, folder: Path) -> None:
    """A run that is killed while it waits for decisions leaves a journal, from which the next one takes them."""
    command = [sys.executable, "pandas_batch.py", str(folder / "two.csv"), str(folder / "results.csv")]
    environ = {**os.environ, **sandbox.environ, "PYTHONDONTWRITEBYTECODE": ""}

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, cwd=EXAMPLES, env=environ)  # noqa: S603  our own example

    process = await to_thread.run_sync(start)
    try:
        await until(lambda: _all_submitted(sandbox) or process.poll() is not None, SECONDS)
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        await to_thread.run_sync(process.wait)
        for session in sandbox.sessions:
            sandbox.decide(session.id, "approved")
        process = await to_thread.run_sync(start)
        assert 0 == await to_thread.run_sync(process.wait, SECONDS)
    finally:
        process.kill()
        process.wait()
    assert 2 == len(sandbox.sessions)
    assert [2, 2] == [len(session.media) for session in sandbox.sessions]
    results = await to_thread.run_sync(pd.read_csv, folder / "results.csv")
    assert ["approved", "approved"] == list(results["status"])


def _all_submitted(sandbox: Sandbox) -> bool:
    return ["submitted"] * 2 == [str(session.status) for session in sandbox.sessions]
