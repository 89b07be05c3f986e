"""Thresholds of `inspect_media` for each context, and their JSON form."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from attrs import asdict, frozen

from veriff_async._protocol.arguments import LARGEST, check_function, check_instance, check_optional
from veriff_async.errors import InvalidArgumentError
from veriff_async.models.enums import MediaContext

if TYPE_CHECKING:
    from collections.abc import Mapping

    from veriff_async._protocol.arguments import ArgumentError
    from veriff_async.models.inspection import CheckName

__all__ = ("InspectionThresholds", "PictureThresholds", "check_inspection_options")


def _check_threshold(name: str, value: object) -> float | None:
    if value is None:
        return None
    # An int may be larger than any float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST:
        msg = f"The threshold of {name} must be a number, or None (null in JSON) to switch the check off."
        raise InvalidArgumentError(msg)
    return value


@frozen(kw_only=True)
class PictureThresholds:
    """Thresholds for the pictures of one context; ``None`` switches a check off.

    `CheckName` documents the units. The threshold of `CheckName.is_minimum` checks is the smallest accepted value, that
    of the others the largest. A threshold that is left out is ``None``: change single ones of the defaults with
    `attrs.evolve`.

    Raises:
        InvalidArgumentError: A threshold is not a finite number.
    """

    sharpness: float | None = None
    glare: float | None = None
    brightness: float | None = None
    overexposure: float | None = None
    contrast: float | None = None
    skew: float | None = None
    document_edges: float | None = None
    resolution: float | None = None
    moire: float | None = None
    colour: float | None = None
    face_count: float | None = None
    face_size: float | None = None
    face_margin: float | None = None

    def __attrs_post_init__(self) -> None:
        """Refuse values that cannot be compared with a measurement."""
        for name, value in cast("dict[str, object]", asdict(self)).items():
            _check_threshold(name, value)

    def limit(self, check: CheckName) -> float | None:
        """Return the threshold of a check, or ``None`` if it is switched off."""
        return cast("float | None", getattr(self, check.value))


_DOCUMENT = PictureThresholds(
    sharpness=240.0,
    glare=0.004,
    brightness=0.25,
    overexposure=0.15,
    contrast=0.2,
    skew=20.0,
    document_edges=0.0,
    resolution=500.0,
    colour=0.04,
)


@frozen(kw_only=True)
class InspectionThresholds:
    """Thresholds of `inspect_media` by context. The defaults are calibrated on synthetic pictures.

    Attributes:
        document_front: For pictures of the front of a document, or of document and face.
        document_back: For pictures of the back of a document.
        page: For whole pages: proof of address and generic documents. A scan of a page has no visible edges, and much
            white.
        face: For pictures of a face.

    Example:
        >>> strict = InspectionThresholds(face=attrs.evolve(InspectionThresholds().face, resolution=900))
    """

    document_front: PictureThresholds = _DOCUMENT
    document_back: PictureThresholds = _DOCUMENT
    page: PictureThresholds = PictureThresholds(
        sharpness=240.0, brightness=0.25, contrast=0.2, skew=20.0, resolution=900.0
    )
    face: PictureThresholds = PictureThresholds(
        sharpness=180.0,
        brightness=0.19,
        overexposure=0.1,
        contrast=0.2,
        resolution=480.0,
        face_count=1.0,
        face_size=0.2,
        face_margin=0.0,
    )

    def __attrs_post_init__(self) -> None:
        """Refuse other types of thresholds."""
        for name, value in cast("dict[str, object]", asdict(self, recurse=False)).items():
            check_instance(
                name, value, PictureThresholds, remedy="pass PictureThresholds(...)", error=InvalidArgumentError
            )

    def for_context(self, context: MediaContext) -> PictureThresholds:
        """Return the thresholds for the pictures of a context."""
        if context in {MediaContext.ADDRESS_FRONT, MediaContext.GENERIC_DOCUMENT_FRONT}:
            return self.page
        if context.startswith("document-back"):
            return self.document_back
        return self.document_front if context.startswith("document-") else self.face

    def to_json(self) -> str:
        """Return the thresholds as JSON, for `from_json`."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> InspectionThresholds:
        """Read thresholds that `to_json` or ``veriff-async media calibrate`` wrote.

        A missing context or check keeps its default, and ``null`` switches a check off.

        Args:
            text: The JSON.

        Raises:
            InvalidArgumentError: It is not JSON, or contains an unknown name or a value that is not a number.

        Example:
            >>> thresholds = InspectionThresholds.from_json(Path("thresholds.json").read_text())
        """
        try:
            document: object = json.loads(text)
        except (ValueError, TypeError, RecursionError):
            document = None
        default = cls()
        contexts = _members(document, list(asdict(default, recurse=False)))
        return cls(**{name: _read(getattr(default, name), members) for name, members in contexts.items()})


def check_inspection_options(thresholds: object, face_detector: object, *, error: ArgumentError) -> None:
    """Check the options of inspections.

    Raises:
        VeriffError: Of the class `error`: one of them is of another type.
    """
    remedy = "pass InspectionThresholds(...), or None for the defaults"
    check_optional("thresholds", thresholds, InspectionThresholds, remedy=remedy, error=error)
    check_function("face_detector", face_detector, may_be_async=True, error=error)


def _read(default: PictureThresholds, document: object) -> PictureThresholds:
    limits = cast("dict[str, float | None]", asdict(default))
    for name, value in _members(document, list(limits)).items():
        limits[name] = _check_threshold(name, value)
    return PictureThresholds(**limits)


def _members(document: object, names: list[str]) -> Mapping[str, object]:
    if not isinstance(document, dict):
        msg = (
            "Thresholds must be a JSON object of contexts, each an object of checks: see InspectionThresholds.to_json."
        )
        raise InvalidArgumentError(msg)
    members = cast("dict[str, object]", document)
    if set(members) - set(names):
        msg = f"The thresholds contain an unknown name: allowed here are {', '.join(names)}."
        raise InvalidArgumentError(msg)
    return members
