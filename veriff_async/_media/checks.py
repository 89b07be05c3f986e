"""Checks of media that need no client, for users who want to answer a person before anything is uploaded."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from anyio import CapacityLimiter

from veriff_async._event_loop import require_asyncio
from veriff_async._media.decode import import_pillow
from veriff_async._media.inspection import inspect_prepared, inspection_threads
from veriff_async._media.prepare import Preparer, check_arguments, error_context
from veriff_async._media.worker_threads import WorkerThreads
from veriff_async._protocol.media_rules import context_of
from veriff_async._protocol.picture_thresholds import check_inspection_options
from veriff_async.config import Timeouts
from veriff_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from veriff_async._protocol.picture_thresholds import InspectionThresholds
    from veriff_async.models.inspection import FaceDetector, MediaInspection
    from veriff_async.models.media import Media

__all__ = ("check_media", "inspect_media")


async def check_media(
    *media: Media, thresholds: InspectionThresholds | None = None, face_detector: FaceDetector | None = None
) -> None:
    """Check whether media can be uploaded, without sending anything.

    `VeriffClient.verify`, `VeriffClient.submit` and `VerificationSession.upload` make the same checks first. Call it
    yourself to answer a user before you begin, or for media that are uploaded later. Open files are read from their
    current position, which is restored. With ``quality``, ``max_side``, ``max_bytes`` or ``convert`` a picture is
    decoded. A stream that can be read only once is not read, so only its arguments are checked.

    Args:
        media: The media to check.
        thresholds: The limits for media with ``quality``, like those of the client.
        face_detector: Finds faces in media with ``quality``, like that of the client.

    Raises:
        MediaError: A media is missing, empty, too large, cannot be decoded, or is of a type that Veriff does not
            accept; the error's ``media`` says which.
        MediaQualityError: A picture with ``quality="refuse"`` fails a check of `inspect_media`.
        InvalidArgumentError: No media was passed, or an argument of one is invalid.

    Warns:
        ImageSizeWarning: A picture is larger than Veriff advises.
        MediaQualityWarning: A picture with ``quality="warn"`` fails a check of `inspect_media`.

    Example:
        >>> await check_media(Media("front.jpg", "document-front"), Media("selfie.heic", "face"))

    See https://devdocs.veriff.com/apidocs/v1sessionsidmedia-3.
    """
    require_asyncio()
    check_inspection_options(thresholds, face_detector, error=InvalidArgumentError)
    with closing(WorkerThreads(1)) as workers:
        preparer = Preparer(
            threads=CapacityLimiter(4),
            workers=workers,
            idle=Timeouts().idle,
            thresholds=thresholds,
            face_detector=face_detector,
        )
        for upload in await preparer.prepare(media, stacklevel=3):
            upload.close()


async def inspect_media(
    media: Media, *, thresholds: InspectionThresholds | None = None, face_detector: FaceDetector | None = None
) -> MediaInspection:
    """Inspect a picture before it is uploaded: sharpness, glare, light, cut-off edges and more.

    Needs the extra ``veriff-async[images]``, for HEIC and HEIF ``[heic]``. The picture is decoded once, at a reduced
    size, in a worker thread. Open files are read from their current position, which is restored. A PDF passes without
    checks.

    Args:
        media: The picture. A stream that can be read only once is refused, because the upload needs it.
        thresholds: The limits of all checks; calibrate them with your own pictures.
        face_detector: Finds faces in pictures of a face, for `CheckName.FACE_COUNT`, ``FACE_SIZE`` and
            ``FACE_MARGIN``. Without it these checks are not applicable. They are not applicable either if it fails,
            and `MediaInspection.note` says so.

    Returns:
        The checks, with a hint for the end-user for each that failed.

    Raises:
        MediaError: The media is missing, empty, too large, cannot be decoded, or is of a type that Veriff does not
            accept.
        InvalidArgumentError: An argument is invalid, or the media is a stream that can be read only once.
        ConfigurationError: The extra is not installed.

    Example:
        >>> inspection = await inspect_media(Media("front.jpg", "document-front"))
        >>> if not inspection.passed:
        ...     print(*inspection.hints)
    """
    require_asyncio()
    (item,) = check_arguments([media])
    check_inspection_options(thresholds, face_detector, error=InvalidArgumentError)
    import_pillow("inspect_media")
    idle = Timeouts().idle
    with error_context(0, item), closing(WorkerThreads(1)) as workers:
        context_of(item)
        upload = await Preparer(threads=inspection_threads(), workers=workers, idle=idle).open(item)
        if upload.prepared is None:
            msg = (
                "The media is a stream that can be read only once, and its upload needs it: read it into bytes or a "
                "file first, and pass that to both."
            )
            raise InvalidArgumentError(msg)
        try:
            return await inspect_prepared(upload.prepared, thresholds, face_detector, idle=idle)
        finally:
            upload.close()
