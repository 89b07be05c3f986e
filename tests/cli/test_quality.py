"""``--check-quality`` and ``media inspect``: pictures that are refused before anything is sent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from PIL import ImageFilter

from tests.pictures import draw_card, encode_jpeg
from veriff_async import InspectionThresholds, PictureThresholds
from veriff_async.cli._runtime import stderr_output
from veriff_async.cli.batch.saved_options import load_options

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    from veriff_async.sandbox import Sandbox

    Invoke = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory of the commands, with a sharp picture, a blurred one, and a manifest of both."""
    (tmp_path / "sharp.jpg").write_bytes(encode_jpeg(draw_card()))
    (tmp_path / "blurred.jpg").write_bytes(encode_jpeg(draw_card().filter(ImageFilter.GaussianBlur(9))))
    (tmp_path / "jobs.csv").write_text("id,document-front\na,sharp.jpg\nb,blurred.jpg\n")
    lenient = InspectionThresholds(document_front=PictureThresholds())
    (tmp_path / "lenient.json").write_text(lenient.to_json())
    monkeypatch.chdir(tmp_path)
    return tmp_path


BATCH = ("batch", "run", "jobs.csv", "--journal", "a.db", "--out", "r.jsonl")


def test_blurred_picture_makes_its_row_invalid(invoke: Invoke, auto_sandbox: Sandbox, folder: Path) -> None:
    """A batch with a picture that fails a check sends nothing, and names the row, the picture and the check."""
    refused = invoke(*BATCH, "--check-quality", **auto_sandbox.environ)

    assert 2 == refused.exit_code
    assert "Line 3 (job b): The picture for document-front fails the check sharpness." in refused.stderr
    assert not auto_sandbox.requests
    assert not (folder / "a.db").exists()


def test_skipped_row_is_not_sent(invoke: Invoke, auto_sandbox: Sandbox, folder: Path) -> None:
    """With --skip-bad the other rows are sent; ``batch resume`` makes the same checks with the same limits."""
    ran = invoke(*BATCH, "--check-quality", "--skip-bad", **auto_sandbox.environ)
    resumed = invoke("batch", "resume", "--journal", "a.db", "--json", **auto_sandbox.environ)

    assert (0, 0) == (ran.exit_code, resumed.exit_code), ran.output + resumed.output
    assert ["a"] == [session.vendor_data for session in auto_sandbox.sessions]
    assert [3] == [row["line"] for row in json.loads(resumed.stdout)["invalid_rows"]]
    options = load_options(folder / "a.db")
    assert options is not None
    assert (True, None) == (options.check_quality, options.thresholds)


def test_thresholds_of_a_file_replace_the_defaults(invoke: Invoke, auto_sandbox: Sandbox, folder: Path) -> None:
    """``--thresholds`` names the limits of a batch, of ``verify`` and of ``media inspect``."""
    limits = ("--thresholds", "lenient.json")
    ran = invoke(*BATCH, "--check-quality", *limits, **auto_sandbox.environ)
    verified = invoke("verify", "--front", "blurred.jpg", "--check-quality", *limits, **auto_sandbox.environ)
    inspected = invoke("media", "inspect", "document-front", "blurred.jpg", *limits)

    assert (0, 0, 0) == (ran.exit_code, verified.exit_code, inspected.exit_code), ran.output + verified.output
    assert 3 == len(auto_sandbox.sessions)
    options = load_options(folder / "a.db")
    assert options is not None
    assert folder / "lenient.json" == options.thresholds


def test_check_alone_reports_every_failing_picture(invoke: Invoke, folder: Path) -> None:
    """``--dry-run --check-quality`` needs no credentials, and reports damaged pictures too."""
    (folder / "damaged.jpg").write_bytes((folder / "sharp.jpg").read_bytes()[:8000])
    (folder / "jobs.csv").write_text("id,document-front\na,sharp.jpg\nb,blurred.jpg\nc,damaged.jpg\n")

    checked = invoke("batch", "run", "jobs.csv", "--dry-run", "--check-quality", "--json")

    assert 2 == checked.exit_code
    reasons = {row["job_id"]: row["reason"] for row in json.loads(checked.stdout)["invalid_rows"]}
    assert {"b", "c"} == set(reasons)
    assert "sharpness" in reasons["b"]
    assert reasons["c"].startswith("document-front: The picture cannot be decoded")


def test_verify_refuses_a_blurred_picture_with_hints(invoke: Invoke, auto_sandbox: Sandbox, folder: Path) -> None:
    """``verify --check-quality`` shows what the person should do, and creates no session."""
    refused = invoke("verify", "--front", "blurred.jpg", "--check-quality", **auto_sandbox.environ)
    accepted = invoke("verify", "--front", "sharp.jpg", "--check-quality", **auto_sandbox.environ)

    assert (1, 0) == (refused.exit_code, accepted.exit_code), refused.output + accepted.output
    assert "hold the camera still" in refused.stderr
    assert 1 == len(auto_sandbox.sessions)


def test_json_error_has_the_hints(invoke: Invoke, auto_sandbox: Sandbox, folder: Path) -> None:
    """With ``--json`` the hints are a member of the error, and nothing else is written."""
    refused = invoke("verify", "--front", "blurred.jpg", "--check-quality", "--json", **auto_sandbox.environ)

    (line,) = refused.stderr.splitlines()
    (hint,) = json.loads(line)["error"]["hints"]
    assert "hold the camera still" in hint


def test_inspect_names_the_file_that_cannot_be_read(invoke: Invoke, folder: Path) -> None:
    """An error says which of the files it is about."""
    result = invoke("media", "inspect", "document-front", "sharp.jpg", "jobs.csv")

    assert 1 == result.exit_code
    assert "This is file 2 of 2" in result.stderr


def test_inspect_lists_values_and_limits(invoke: Invoke, folder: Path) -> None:
    """``media inspect`` prints a table for each picture, or one JSON document, and its exit code says the result."""
    table = invoke("media", "inspect", "document-front", "sharp.jpg", "blurred.jpg")
    document = invoke("media", "inspect", "document-front", "sharp.jpg", "--json")

    assert (1, 0) == (table.exit_code, document.exit_code), table.output
    assert "blurred.jpg:\nsharpness\tfailed" in table.stdout
    assert "at least" in table.stdout
    assert "hold the camera still" in table.stdout
    (picture,) = json.loads(document.stdout)["pictures"]
    assert picture["passed"]
    assert (1200, 900) == (picture["width"], picture["height"])
    assert {"name", "value", "threshold", "verdict", "hint"} == set(picture["checks"][0])


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("verify", "--front", "sharp.jpg", "--thresholds", "lenient.json"), 2, "needs --check-quality"),
        (("media", "inspect", "document-front", "sharp.jpg", "--thresholds", "jobs.csv"), 1, "media calibrate"),
        (("media", "inspect", "passport", "sharp.jpg"), 2, "not a context"),
        (("media", "inspect", "document-front", "jobs.csv"), 1, "JPEG"),
        (("media", "inspect", "document-front"), 2, "FILE"),
    ],
)
def test_wrong_arguments_are_explained(
    invoke: Invoke, folder: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    """A wrong context, file or limit gives one sentence with the remedy, and no traceback."""
    result = invoke(*arguments)

    assert code == result.exit_code, result.output
    assert words in result.stderr
    assert "Traceback" not in result.output


def test_progress_without_a_terminal_is_a_line_at_intervals(capsys: pytest.CaptureFixture[str]) -> None:
    """Long checks print their progress where no terminal is, and not for every page of rows."""
    with stderr_output().status("Checking", line_seconds=0) as show:
        show("Checking: 32 rows")
    with stderr_output().status("Checking", line_seconds=3600) as show:
        show("Checking: 64 rows")

    assert ["Checking", "Checking: 32 rows", "Checking"] == capsys.readouterr().err.splitlines()
