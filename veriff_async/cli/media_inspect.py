"""The command ``media inspect``: the quality checks of pictures, without sending anything."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click
from attrs import asdict

from veriff_async import CheckName, Media, MediaError, inspect_media
from veriff_async._media.concurrency import gather_bounded
from veriff_async.cli._options import CONTEXT, FILE, json_option, load_thresholds, thresholds_option
from veriff_async.cli._output import printable
from veriff_async.cli._runtime import ExitCode, current_command, print_json, run, stdout_output

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from veriff_async import InspectionThresholds, MediaInspection, PictureCheck

__all__ = ("inspect",)

# From this value on, a number is shown without decimals; `g` would write 1000 as 1e+03.
_WHOLE = 100


@click.command()
@click.argument("context", type=CONTEXT, metavar="CONTEXT")
@click.argument("files", type=FILE, nargs=-1, required=True, metavar="FILE...")
@thresholds_option
@json_option
def inspect(*, context: str, files: Sequence[Path], thresholds: Path | None, for_program: bool) -> None:
    """Check the quality of pictures; nothing is sent.

    CONTEXT is their subject, for example document-front or face. The checks are those of verify --check-quality. The
    exit code is 0 if all pictures pass, and 1 if one fails.
    """
    limits = load_thresholds(thresholds)
    inspections = run(_inspect([Media(file, context) for file in files], limits))
    passed = all(inspection.passed for inspection in inspections)
    if for_program:
        print_json({"passed": passed, "pictures": [_inspection_document(item) for item in inspections]})
    else:
        for file, inspection in zip(files, inspections, strict=True):
            _print_inspection(file, inspection)
    raise SystemExit(ExitCode.DONE if passed else ExitCode.REFUSED)


async def _inspect(pictures: Sequence[Media], limits: InspectionThresholds) -> list[MediaInspection]:
    work = [
        partial(_inspect_one, picture, limits, f"file {number} of {len(pictures)}")
        for number, picture in enumerate(pictures, 1)
    ]
    inspections, failure = await gather_bounded(work, concurrency=len(work))
    if failure is not None:
        raise failure
    return inspections


async def _inspect_one(picture: Media, limits: InspectionThresholds, position: str) -> MediaInspection:
    try:
        return await inspect_media(picture, thresholds=limits)
    except MediaError:
        # The error counts from the single media of its call.
        current_command().set_resume_hint(f"This is {position}: correct it, or leave it out to inspect the others.")
        raise


def _print_inspection(file: Path, inspection: MediaInspection) -> None:
    output = stdout_output()
    rows = [
        (check.name.value, check.verdict.value.replace("_", " "), _number(check.value), _limit(check))
        for check in inspection.checks
        if check.value is not None or check.threshold is not None
    ]
    if not rows or not output.is_live:
        output.print(printable(f"{file.name}:"))
    if rows:
        output.print_table(("check", "verdict", "value", "limit"), rows, title=file.name)
    for sentence in (*inspection.hints, *filter(None, [inspection.note])):
        output.print(sentence, indent=0)


def _limit(check: PictureCheck) -> str:
    if check.threshold is None:
        return ""
    if check.name is CheckName.FACE_COUNT:
        return f"exactly {_number(check.threshold)}"
    return f"{'at least' if check.name.is_minimum else 'at most'} {_number(check.threshold)}"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= _WHOLE else f"{value:.3g}"


def _inspection_document(inspection: MediaInspection) -> dict[str, object]:
    return {
        "context": inspection.context,
        "passed": inspection.passed,
        "mimetype": inspection.mimetype,
        "size": inspection.size,
        "width": inspection.width,
        "height": inspection.height,
        "orientation": inspection.orientation,
        "note": inspection.note,
        "checks": [asdict(check) for check in inspection.checks],
    }
