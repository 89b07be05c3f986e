"""Calls the face detector of the caller, which may be slow, wrong or broken."""

from __future__ import annotations

from asyncio import CancelledError
from inspect import isawaitable, iscoroutinefunction
from math import isfinite, nan
from numbers import Real
from typing import TYPE_CHECKING

from anyio import to_thread

from veriff_async._event_loop import is_being_cancelled
from veriff_async.errors import InvalidArgumentError
from veriff_async.models.inspection import FaceBox

if TYPE_CHECKING:
    from anyio import CapacityLimiter

    from veriff_async.models.inspection import FaceDetector, FacePicture

__all__ = ("FaceDetectorFailedError", "detect_faces")


class FaceDetectorFailedError(Exception):
    """The detector raised an exception, or did not return faces. The message holds the type of the exception only."""


async def detect_faces(detector: FaceDetector, picture: FacePicture, threads: CapacityLimiter) -> tuple[FaceBox, ...]:
    """Call a detector: a plain function in a worker thread, an async one here.

    Raises:
        FaceDetectorFailedError: The detector failed.
    """
    try:
        is_async = iscoroutinefunction(detector) or iscoroutinefunction(getattr(detector, "__call__", None))  # noqa: B004  an object with an async __call__
        found = detector(picture) if is_async else await to_thread.run_sync(detector, picture, limiter=threads)
        faces = tuple(map(_with_plain_numbers, await found if isawaitable(found) else found))
    except (Exception, CancelledError) as error:
        # A detector may end with a cancellation of its own, which must not look like that of the caller.
        if isinstance(error, CancelledError) and is_being_cancelled():
            raise
        failure = FaceDetectorFailedError(type(error).__name__)
    else:
        return faces
    raise failure


def _with_plain_numbers(face: object) -> FaceBox:
    """Return a face whose sides are floats: detectors return numbers of numpy, which are not of Python's types.

    Raises:
        InvalidArgumentError: It is not a face.
        OverflowError: A number is larger than any float.
    """
    if isinstance(face, FaceBox):
        sides: tuple[object, ...] = (face.left, face.top, face.width, face.height)
        left, top, width, height = (float(side) if isinstance(side, Real) else nan for side in sides)
        if all(map(isfinite, (left, top, width, height))) and width > 0 and height > 0:
            return FaceBox(left=left, top=top, width=width, height=height)
    msg = "not a FaceBox with numbers"
    raise InvalidArgumentError(msg)
