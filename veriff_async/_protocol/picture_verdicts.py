"""Compares the measurements of a picture with the thresholds of its context. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from veriff_async.models.inspection import CheckName, CheckVerdict, PictureCheck

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from veriff_async._protocol.picture_thresholds import PictureThresholds
    from veriff_async.models.inspection import FaceBox, MediaInspection

__all__ = ("MediaQualityWarning", "describe_failures", "judge_picture", "measure_faces")

_HINTS: Final = {
    CheckName.SHARPNESS: "The picture is blurred: hold the camera still, wait until it has focused, and try again.",
    CheckName.GLARE: "A light is reflected: tilt the document or move away from the lamp, and try again.",
    CheckName.BRIGHTNESS: "The picture is too dark: switch on a light or go to a window, and try again.",
    CheckName.OVEREXPOSURE: "The picture is too bright: turn off the flash or leave direct sunlight, and try again.",
    CheckName.CONTRAST: "The picture is pale: clean the lens, avoid light from behind, and try again.",
    CheckName.SKEW: "The document is tilted: align it with the sides of the picture, and try again.",
    CheckName.DOCUMENT_EDGES: "A part of the document is missing: show all four corners with some space around them.",
    CheckName.RESOLUTION: "The document is too small: go nearer, and send the original photo.",
    CheckName.MOIRE: "This looks like a photo of a screen: take a photo of the document itself.",
    CheckName.COLOUR: "This looks like a black-and-white copy: take a colour photo of the document itself.",
    CheckName.FACE_COUNT: "Exactly one face must be visible: no one else may be in the picture.",
    CheckName.FACE_SIZE: "The face is too small: hold the camera nearer to your face.",
    CheckName.FACE_MARGIN: "A part of the face is missing: show the whole face in the middle of the picture.",
}


class MediaQualityWarning(UserWarning):
    """A picture with ``Media(..., quality="warn")`` fails a check of `inspect_media`, and is uploaded all the same."""


def describe_failures(inspection: MediaInspection) -> str:
    """Return which checks a picture fails, as the beginning of a sentence."""
    names = [check.name.value for check in inspection.failed]
    return f"The picture for {inspection.context} fails the check{'s' * (len(names) > 1)} {', '.join(names)}"


def judge_picture(values: Mapping[CheckName, float | None], thresholds: PictureThresholds) -> tuple[PictureCheck, ...]:
    """Return all checks of a picture.

    Args:
        values: The measurements; a check that is missing was not measured.
        thresholds: The thresholds of its context.
    """
    return tuple(_judge(name, values.get(name), thresholds.limit(name)) for name in CheckName)


def measure_faces(faces: Sequence[FaceBox], width: int, height: int) -> dict[CheckName, float | None]:
    """Return the measurements of the faces that a detector found.

    Args:
        faces: The faces.
        width: Width of the picture that the detector received, in pixels.
        height: Its height.
    """
    values: dict[CheckName, float | None] = {CheckName.FACE_COUNT: len(faces)}
    if not faces:
        return values
    face = max(faces, key=lambda box: box.width * box.height)
    side = max(face.width, face.height)
    values[CheckName.FACE_SIZE] = side / min(width, height)
    margin = min(face.left, face.top, width - face.left - face.width, height - face.top - face.height)
    values[CheckName.FACE_MARGIN] = margin / side
    return values


def _judge(name: CheckName, value: float | None, threshold: float | None) -> PictureCheck:
    if value is None or threshold is None:
        return PictureCheck(name=name, value=value, threshold=threshold, verdict=CheckVerdict.NOT_APPLICABLE)
    if name is CheckName.FACE_COUNT:
        passed = value == threshold
    else:
        passed = value >= threshold if name.is_minimum else value <= threshold
    verdict = CheckVerdict.PASSED if passed else CheckVerdict.FAILED
    return PictureCheck(
        name=name, value=value, threshold=threshold, verdict=verdict, hint=None if passed else _HINTS[name]
    )
