"""Results of `inspect_media`: measurements of a picture before it is uploaded, and the input of a face detector."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Final, TypeAlias

from attrs import field, frozen

from veriff_async.models.base import Model
from veriff_async.models.enums import MediaContext

__all__ = (
    "CheckName",
    "CheckVerdict",
    "FaceBox",
    "FaceDetector",
    "FacePicture",
    "MediaInspection",
    "PictureCheck",
)


class CheckName(StrEnum):
    """A check of a picture, with the unit of its value.

    A value of `is_minimum` checks must reach the threshold, a value of the others must not exceed it.
    """

    SHARPNESS = "sharpness"
    """Edge widths that fit along the longer side of the picture, at its sharpest places. A picture of 1024 pixels with
    edges of two pixels has 512."""
    GLARE = "glare"
    """Share of the picture (0 to 1) in bright spots without any detail, surrounded by a bright halo."""
    BRIGHTNESS = "brightness"
    """Luminance (0 to 1) that a quarter of the pixels in the middle of the picture exceed."""
    OVEREXPOSURE = "overexposure"
    """Share (0 to 1) of pixels in the middle of the picture that are pure white."""
    CONTRAST = "contrast"
    """Difference of luminance (0 to 1) between the lightest and darkest twentieth of the middle of the picture."""
    SKEW = "skew"
    """Angle between the dominant edges and the sides of the picture, in degrees from 0 to 45."""
    DOCUMENT_EDGES = "document_edges"
    """Sides of the picture (0 to 4) at which the document seems to be cut off."""
    RESOLUTION = "resolution"
    """Pixels along the longer side of the document; of the picture, where the document was not found."""
    MOIRE = "moire"
    """Strength (0 to 1) of a fine pattern that repeats in the whole picture, as in photos of a screen."""
    COLOUR = "colour"
    """Range of colours (0 to 1) in the middle of the picture; about 0 for a black-and-white copy."""
    FACE_COUNT = "face_count"
    """Faces that the face detector found; exactly the threshold is accepted."""
    FACE_SIZE = "face_size"
    """Longer side of the face, as a share of the shorter side of the picture."""
    FACE_MARGIN = "face_margin"
    """Smallest distance of the face from a side of the picture, as a share of the longer side of the face; negative
    where the face is cut off."""

    @property
    def is_minimum(self) -> bool:
        """Whether the threshold is the smallest accepted value, not the largest."""
        return self in _MINIMUM


_MINIMUM: Final = frozenset(
    {
        CheckName.SHARPNESS,
        CheckName.BRIGHTNESS,
        CheckName.CONTRAST,
        CheckName.RESOLUTION,
        CheckName.COLOUR,
        CheckName.FACE_SIZE,
        CheckName.FACE_MARGIN,
    }
)


class CheckVerdict(StrEnum):
    """The result of one check."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_APPLICABLE = "not_applicable"
    """The check is switched off for the context, or nothing in the picture allows the measurement."""


@frozen(kw_only=True)
class PictureCheck(Model):
    """One check of a picture.

    Attributes:
        name: The check; its documentation states the unit of `value` and `threshold`.
        value: The measured value, or ``None`` if nothing in the picture allows the measurement.
        threshold: The limit of the context, or ``None`` if the check is switched off.
        verdict: The result.
        hint: A sentence to show to the person who took the picture, or ``None`` unless the check failed. Translate it
            by `name`.
    """

    name: CheckName
    value: float | None
    threshold: float | None
    verdict: CheckVerdict
    hint: str | None = None


@frozen(kw_only=True)
class MediaInspection(Model):
    """The inspection of one media, by `inspect_media`.

    Attributes:
        context: The subject of the media.
        mimetype: Its type, from its first bytes.
        size: Size of the file in bytes.
        width: Pixels from left to right of the upright picture; ``None`` for a PDF.
        height: Pixels from top to bottom of the upright picture; ``None`` for a PDF.
        orientation: The EXIF orientation (1 to 8) that makes the picture upright; 1 if the file states none.
        checks: Every check; empty for a PDF.
        note: Why there are no checks, or ``None``.
    """

    context: MediaContext
    mimetype: str
    size: int
    width: int | None = None
    height: int | None = None
    orientation: int = 1
    checks: tuple[PictureCheck, ...] = ()
    note: str | None = None

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not self.failed

    @property
    def failed(self) -> tuple[PictureCheck, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.verdict is CheckVerdict.FAILED)

    @property
    def hints(self) -> tuple[str, ...]:
        """Sentences to show to the person who took the picture, one for each failed check."""
        return tuple(check.hint for check in self.failed if check.hint is not None)


@frozen(kw_only=True)
class FacePicture(Model):
    """The decoded picture that a face detector receives: upright, reduced to at most 1024 pixels on its longer side.

    Attributes:
        width: Pixels from left to right.
        height: Pixels from top to bottom.
        rgb: The pixels, row by row from the top: one byte each for red, green and blue (sRGB), without padding.

    Example:
        >>> pixels = numpy.frombuffer(picture.rgb, numpy.uint8).reshape(picture.height, picture.width, 3)
    """

    width: int
    height: int
    rgb: bytes = field(repr=False)


@frozen(kw_only=True)
class FaceBox(Model):
    """A face that a face detector found, in pixels of its `FacePicture`. A box may extend beyond the picture.

    Attributes:
        left: Distance of its left side from the left side of the picture.
        top: Distance of its upper side from the top of the picture.
        width: Width.
        height: Height.
    """

    left: float
    top: float
    width: float
    height: float


FaceDetector: TypeAlias = Callable[[FacePicture], Sequence[FaceBox] | Awaitable[Sequence[FaceBox]]]
"""Finds the faces in a picture.

A plain function is called in a worker thread, and an async one on the event loop.
"""
