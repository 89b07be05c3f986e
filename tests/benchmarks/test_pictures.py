"""The evaluation of picture checks: tables and curves from measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from benchmarks.picture_scenes import FACE_FAULTS, FAULTS
from benchmarks.pictures import Row, draw_svg, print_tables
from veriff_async import CheckName

if TYPE_CHECKING:
    import pytest


def test_tables_and_curves(capsys: pytest.CaptureFixture[str]) -> None:
    """Recall is the share of spoiled pictures that fail their check, and sharp ones are false positives."""
    rows: list[Row] = []
    for scene in range(20):
        for kind, faults in (("document", FAULTS), ("face", FACE_FAULTS)):
            good: dict[str, float | None] = {name.value: 1e6 if name.is_minimum else 0.0 for name in CheckName}
            rows.append(Row(str(scene), kind, "sharp", 0, good))
            for fault in faults:
                bad = 0.0 if CheckName(fault.check).is_minimum else 1e6
                for strength in fault.strengths:
                    found = strength == fault.matters
                    rows.append(
                        Row(str(scene), kind, fault.name, strength, good | ({fault.check: bad} if found else {}))
                    )

    curves = print_tables(rows)

    assert "false positives of all checks together: 0.0%" in capsys.readouterr().out
    for fault, points in curves["document"]:
        assert dict(points) == {strength: float(strength == fault.matters) for strength in fault.strengths}
    root = ET.fromstring(draw_svg(curves["document"]))  # noqa: S314  our own
    assert len(root.findall("{*}polyline")) == len(FAULTS)
