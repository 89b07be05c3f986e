"""`veriff-async media calibrate`: thresholds from two folders of pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image, ImageDraw, ImageFilter

from tests.conditions import needs_posix
from veriff_async import InspectionThresholds

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    Invoke = Callable[..., Result]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, str]:
    """Give a folder of sharp and one of blurred pictures, with a file that is no picture in each."""
    for name, blur in (("approved", 0), ("resubmitted", 6)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("text")
        for number in range(2):
            picture = Image.new("RGB", (640, 420), (90, 120, 160))
            pen = ImageDraw.Draw(picture)
            for row in range(8):
                pen.text((40, 30 + 45 * row), f"SPECIMEN {number}", fill=(240, 240, 230), font_size=30)
            picture.filter(ImageFilter.GaussianBlur(blur)).save(tmp_path / name / f"{number}.jpg")
    return str(tmp_path / "approved"), str(tmp_path / "resubmitted")


def test_thresholds_are_written(invoke: Invoke, folders: tuple[str, str], tmp_path: Path) -> None:
    """The file has the chosen thresholds of the context, and keeps those of others; the table shows the shares."""
    out = tmp_path / "thresholds.json"

    first = invoke("media", "calibrate", *folders, "--out", str(out))
    second = invoke("media", "calibrate", *folders, "--context", "face", "--out", str(out), "--json")

    assert (first.exit_code, second.exit_code) == (0, 0)
    assert "sharpness" in first.stdout
    assert "100.0% of 2 resubmitted pictures found" in first.stdout
    assert "are not pictures that Veriff accepts: 2." in first.stdout
    assert "from 2 approved pictures" in " ".join(first.stderr.split())
    document = json.loads(second.stdout)
    assert (document["context"], document["recall"], document["skipped"]) == ("face", 1.0, 2)
    thresholds = InspectionThresholds.from_json(out.read_text())
    assert thresholds.face.sharpness == thresholds.document_front.sharpness
    assert thresholds.face.face_size == InspectionThresholds().face.face_size  # without a detector nothing was measured
    assert thresholds.page == InspectionThresholds().page


def test_mistakes(invoke: Invoke, folders: tuple[str, str], tmp_path: Path) -> None:
    """An empty folder, and an existing file with something else, are named."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.json").write_text("[]")

    empty = invoke("media", "calibrate", folders[0], str(tmp_path / "empty"), "--out", str(tmp_path / "new.json"))
    other = invoke("media", "calibrate", *folders, "--out", str(tmp_path / "other.json"))
    unwritable = invoke("media", "calibrate", *folders, "--out", str(tmp_path / "missing" / "new.json"))

    assert (empty.exit_code, other.exit_code, unwritable.exit_code) == (1, 1, 1)
    assert "contains no files" in " ".join(empty.stderr.split())
    assert "does not contain thresholds" in " ".join(other.stderr.split())
    assert "cannot be written" in " ".join(unwritable.stderr.split())
    assert "Measuring" not in unwritable.stderr
    assert (tmp_path / "other.json").read_text() == "[]"


@needs_posix
@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such device")
def test_file_without_end_is_no_thresholds(invoke: Invoke, folders: tuple[str, str]) -> None:
    """No more of a file is read than thresholds can take."""
    written = invoke("media", "calibrate", *folders, "--out", "/dev/zero")
    read = invoke("media", "inspect", "face", "/dev/zero", "--thresholds", "/dev/zero")

    assert (written.exit_code, read.exit_code) == (1, 1)
    assert "does not contain thresholds" in " ".join(written.stderr.split())
    assert "--thresholds cannot be used" in " ".join(read.stderr.split())
