"""The command `media calibrate`: thresholds of `inspect_media` from folders of one's own pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from attrs import evolve, frozen

from veriff_async import ConfigurationError, InspectionThresholds, InvalidArgumentError, MediaContext
from veriff_async._media.calibration import list_pictures, measure_pictures
from veriff_async._protocol.counts import format_count
from veriff_async._protocol.threshold_calibration import calibrate_thresholds
from veriff_async.cli._options import json_option, read_thresholds
from veriff_async.cli._runtime import print_json, run, stderr_output, stdout_output, warn

if TYPE_CHECKING:
    from veriff_async._protocol.threshold_calibration import Calibration

__all__ = ("calibrate",)

_CONTEXTS = {
    "document_front": MediaContext.DOCUMENT_FRONT,
    "document_back": MediaContext.DOCUMENT_BACK,
    "page": MediaContext.GENERIC_DOCUMENT_FRONT,
    "face": MediaContext.FACE,
}
# With fewer approved pictures, 1 % of them is less than one picture.
_USEFUL: Final = 100
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@frozen
class _Result:
    calibration: Calibration
    skipped: int


@click.command()
@click.argument("approved", metavar="APPROVED_DIR", type=_FOLDER)
@click.argument("resubmitted", metavar="RESUBMITTED_DIR", type=_FOLDER)
@click.option(
    "--context",
    "kind",
    type=click.Choice([name.replace("_", "-") for name in _CONTEXTS]),
    default="document-front",
    show_default=True,
    help="Subject of the pictures in both folders.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE",
    help="JSON file for the thresholds; other contexts in an existing file are kept.",
)
@click.option(
    "--max-false-positives",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.01,
    show_default=True,
    help="Largest share of approved pictures that any one check may fail.",
)
@json_option
def calibrate(  # noqa: PLR0913  the options of the command
    *, approved: Path, resubmitted: Path, kind: str, out: Path, max_false_positives: float, for_program: bool
) -> None:
    """Choose thresholds of inspect from your pictures.

    One folder has pictures that Veriff approved, the other those for which it requested others. The pictures stay on
    this machine. Load the file with InspectionThresholds.from_json.
    """
    name = kind.replace("-", "_")
    thresholds = _read(out)
    result = run(_calibrate(approved, resubmitted, _CONTEXTS[name], max_false_positives))
    calibration = result.calibration
    try:
        out.write_text(evolve(thresholds, **{name: calibration.thresholds}).to_json(), encoding="utf-8")
    except OSError as error:
        msg = f"--out: the file cannot be written ({type(error).__name__}): check its folder and permissions."
        raise ConfigurationError(msg) from None
    if for_program:
        print_json(_document(kind, result))
        return
    output = stdout_output()
    rows = [
        [check.name, f"{check.threshold:.4g}", f"{check.recall:.1%}", f"{check.false_positives:.1%}"]
        for check in calibration.checks
    ]
    output.print_table(("check", "threshold", "resubmitted found", "approved refused"), rows)
    bad_pictures = format_count(calibration.resubmitted, "resubmitted picture")
    good_pictures = format_count(calibration.approved, "approved picture")
    output.print(
        f"All checks together: {calibration.recall:.1%} of {bad_pictures} found, "
        f"{calibration.false_positives:.1%} of {good_pictures} refused."
    )
    if result.skipped:
        output.print(f"Files skipped because they are not pictures that Veriff accepts: {result.skipped}.")
    if calibration.approved < _USEFUL:
        warn(
            f"Thresholds from {good_pictures} are those of the worst of them: "
            f"use {_USEFUL} or more, better twice as many."
        )


async def _calibrate(approved: Path, resubmitted: Path, context: MediaContext, max_false_positives: float) -> _Result:
    good_files, bad_files = await list_pictures(approved), await list_pictures(resubmitted)
    total, done = len(good_files) + len(bad_files), 0
    with stderr_output().status(
        f"Measuring {len(good_files)} approved and {format_count(len(bad_files), 'resubmitted picture')}"
    ) as show:

        def count() -> None:
            nonlocal done
            done += 1
            show(f"Measuring pictures: {done} of {total}")

        good = await measure_pictures(good_files, context, progress=count)
        bad = await measure_pictures(bad_files, context, progress=count)
    calibration = calibrate_thresholds(
        good.values,
        bad.values,
        defaults=InspectionThresholds().for_context(context),
        max_false_positives=max_false_positives,
    )
    return _Result(calibration, good.skipped + bad.skipped)


def _read(path: Path) -> InspectionThresholds:
    try:
        return read_thresholds(path)
    except FileNotFoundError:
        # Before hours of measuring, and not after them.
        if path.parent.is_dir():
            return InspectionThresholds()
        msg = "--out: the file cannot be written, because its folder does not exist: create it, or pass another one."
        raise ConfigurationError(msg) from None
    except (OSError, InvalidArgumentError):
        msg = "--out: the file exists and does not contain thresholds: remove it, or pass another name."
        raise ConfigurationError(msg) from None


def _document(kind: str, result: _Result) -> dict[str, object]:
    calibration = result.calibration
    return {
        "context": kind,
        "approved": calibration.approved,
        "resubmitted": calibration.resubmitted,
        "skipped": result.skipped,
        "recall": calibration.recall,
        "false_positives": calibration.false_positives,
        "checks": [
            {
                "name": check.name,
                "threshold": check.threshold,
                "recall": check.recall,
                "false_positives": check.false_positives,
            }
            for check in calibration.checks
        ],
    }
