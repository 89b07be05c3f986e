"""Inspects pictures before they are uploaded, and before anything is paid.

    Media ──► open, check the type ──► decode at a reduced size ──► measure ──► compare with thresholds
              └─────────────────────── one hop to a thread ──────────────┘      _protocol/picture_verdicts.py

A picture is decoded once, to at most 1024 pixels on its longer side. All calls of one event loop share as many threads
as there are processors, because decoding keeps a processor busy and needs memory.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from anyio.lowlevel import RunVar
from attrs import evolve, field, frozen

from veriff_async._logging import log_fields
from veriff_async._media.decode import decode, open_picture, read_all, run_pillow
from veriff_async._media.decoder_threads import run_decoder, shared_limiter
from veriff_async._media.face_detection import FaceDetectorFailedError, detect_faces
from veriff_async._protocol.image_header import PDF
from veriff_async._protocol.media_rules import context_of
from veriff_async._protocol.picture_thresholds import InspectionThresholds
from veriff_async._protocol.picture_verdicts import judge_picture, measure_faces
from veriff_async.models.inspection import CheckName, FacePicture, MediaInspection

if TYPE_CHECKING:
    import io

    from anyio import CapacityLimiter
    from PIL import Image

    from veriff_async._media.prepared_media import PreparedMedia
    from veriff_async._protocol.picture_thresholds import PictureThresholds
    from veriff_async.models.inspection import FaceDetector

__all__ = ("inspect_prepared", "inspection_threads")

_LOGGER: Final = logging.getLogger("veriff_async")
_THREADS: Final[RunVar[CapacityLimiter]] = RunVar("veriff_async_inspection_threads")
_ORIENTATION: Final = 0x0112


@frozen
class _Measured:
    """The part of an inspection that a worker thread makes."""

    inspection: MediaInspection
    values: dict[CheckName, float | None] = field(factory=dict[CheckName, "float | None"])
    face: FacePicture | None = None


async def inspect_prepared(
    prepared: PreparedMedia,
    thresholds: InspectionThresholds | None,
    face_detector: FaceDetector | None,
    *,
    idle: float,
) -> MediaInspection:
    """Inspect a media that was opened already.

    Args:
        prepared: The media.
        thresholds: See `inspect_media`.
        face_detector: See `inspect_media`.
        idle: Most seconds that a blocking source may take for its next piece.
    """
    context = context_of(prepared.media)
    limits = (thresholds or InspectionThresholds()).for_context(context)
    threads = inspection_threads()
    if prepared.mimetype == PDF:
        unchecked = "A PDF is not decoded, so nothing was checked but its type and size."
        return MediaInspection(context=context, mimetype=PDF, size=prepared.source.size, note=unchecked)
    work = partial(_measure, limits=limits, with_face=face_detector is not None and context.startswith("face"))
    measured = await run_decoder(work, prepared, idle=idle)
    note = None
    if face_detector is not None and measured.face is not None:
        try:
            faces = await detect_faces(face_detector, measured.face, threads)
            measured.values.update(measure_faces(faces, measured.face.width, measured.face.height))
        except FaceDetectorFailedError as error:
            note = f"The face detector failed ({error}), so the face was not checked."
            _LOGGER.warning(
                "The face detector failed (%s), so a face was not checked.", error, extra=log_fields(error=str(error))
            )
    return evolve(measured.inspection, checks=judge_picture(measured.values, limits), note=note)


def inspection_threads() -> CapacityLimiter:
    """Return the bound of the threads that all inspections of the running loop share."""
    # Not those that decode: a face detector that hangs must not keep other calls from decoding.
    return shared_limiter(_THREADS)


def _measure(prepared: PreparedMedia, *, limits: PictureThresholds, with_face: bool) -> _Measured:
    """Decode and measure. Blocking, for a worker thread."""
    inspection = MediaInspection(
        context=context_of(prepared.media), mimetype=prepared.mimetype, size=prepared.source.size
    )
    # Imported here, so that programs that inspect nothing do not load it.
    from veriff_async._media.picture_measures import WORK_SIDE, measure_picture

    content = read_all(prepared.source)
    decoded = decode(content, prepared.mimetype, max_side=WORK_SIDE)
    decoded.image.info.clear()  # Pillow warns of transparency that the picture no longer has
    width, height = decoded.full_size
    inspection = evolve(inspection, width=width, height=height, orientation=_orientation(content, prepared.mimetype))
    values = run_pillow(lambda: measure_picture(decoded.image, decoded.full_size, limits))
    return _Measured(inspection, values, _face_picture(decoded.image) if with_face else None)


def _orientation(content: io.BytesIO, mimetype: str) -> int:
    try:
        stated: object = open_picture(content, mimetype).getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001  viewers show a picture with damaged EXIF data as it is stored
        return 1
    return stated if isinstance(stated, int) and 1 <= stated <= 8 else 1  # noqa: PLR2004  EXIF 2.32, 4.6.4


def _face_picture(image: Image.Image) -> FacePicture:
    return FacePicture(width=image.width, height=image.height, rgb=image.convert("RGB").tobytes())
