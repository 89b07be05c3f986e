"""Measures folders of pictures, to calibrate the thresholds of `inspect_media` with them."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Final

from anyio import to_thread
from attrs import asdict, frozen

from veriff_async._media.checks import inspect_media
from veriff_async._media.concurrency import gather_bounded
from veriff_async._protocol.picture_thresholds import InspectionThresholds, PictureThresholds
from veriff_async.errors import InvalidArgumentError, MediaError
from veriff_async.models.media import Media

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from veriff_async.models.enums import MediaContext
    from veriff_async.models.inspection import CheckName

__all__ = ("MeasuredFolder", "list_pictures", "measure_pictures")

# Switches all checks on, so that everything is measured.
_ALL: Final = PictureThresholds(**dict.fromkeys(asdict(PictureThresholds()), 0.0))
_EVERYWHERE: Final = InspectionThresholds(document_front=_ALL, document_back=_ALL, page=_ALL, face=_ALL)


@frozen(kw_only=True)
class MeasuredFolder:
    """The measurements of the pictures of a folder."""

    values: tuple[Mapping[CheckName, float | None], ...]
    skipped: int


async def list_pictures(folder: Path) -> list[Path]:
    """Return the files of a folder, sorted, without hidden files and folders.

    Raises:
        InvalidArgumentError: The folder is empty.
    """

    def read() -> list[Path]:
        return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))

    files = await to_thread.run_sync(read)
    if not files:
        msg = "A folder for calibration contains no files: pass one folder of approved and one of resubmitted pictures."
        raise InvalidArgumentError(msg)
    return files


async def measure_pictures(
    files: Sequence[Path], context: MediaContext, *, progress: Callable[[], None] | None = None
) -> MeasuredFolder:
    """Measure pictures of one context, as many at once as there are processors."""
    jobs = [partial(_measure, path, context, progress) for path in files]
    found, failure = await gather_bounded(jobs, concurrency=max(2, os.cpu_count() or 2))
    if failure is not None:
        raise failure
    values = tuple(item for item in found if item is not None)
    return MeasuredFolder(values=values, skipped=len(found) - len(values))


async def _measure(
    path: Path, context: MediaContext, progress: Callable[[], None] | None
) -> Mapping[CheckName, float | None] | None:
    try:
        inspection = await inspect_media(Media(path, context), thresholds=_EVERYWHERE)
    except MediaError:
        return None
    finally:
        if progress is not None:
            progress()
    return {check.name: check.value for check in inspection.checks} or None
