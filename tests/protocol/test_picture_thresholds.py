"""Thresholds of checks by context, and their JSON form."""

from __future__ import annotations

from typing import cast

import attrs
import pytest

from veriff_async import CheckName, InspectionThresholds, InvalidArgumentError, MediaContext, PictureThresholds


def test_contexts_have_thresholds() -> None:
    """Fronts, backs, pages and faces have thresholds of their own."""
    thresholds = InspectionThresholds()
    assert thresholds.for_context(MediaContext.DOCUMENT_FRONT_PRE) is thresholds.document_front
    assert thresholds.for_context(MediaContext.DOCUMENT_BACK_BARCODE) is thresholds.document_back
    assert thresholds.for_context(MediaContext.ADDRESS_FRONT) is thresholds.page
    assert thresholds.for_context(MediaContext.FACE_REFERENCE) is thresholds.face
    assert attrs.evolve(thresholds.face, sharpness=1).limit(CheckName.SHARPNESS) == 1


def test_thresholds_survive_json() -> None:
    """Thresholds are equal after a round trip; missing members keep their defaults, and null switches a check off."""
    thresholds = attrs.evolve(
        InspectionThresholds(), face=attrs.evolve(InspectionThresholds().face, sharpness=7.5, contrast=None)
    )

    assert InspectionThresholds.from_json(thresholds.to_json()) == thresholds
    read = InspectionThresholds.from_json(b'{"face": {"sharpness": 7.5, "contrast": null}}')
    assert read == thresholds


@pytest.mark.parametrize(
    "text",
    ["", "[]", "[" * 100_000, '{"face": 3}', '{"passport": {}}', '{"face": {"beauty": 1}}']
    + [f'{{"face": {{"sharpness": {value}}}}}' for value in ("true", '"1"', "NaN", "1e999", "1" * 400)],
)
def test_thresholds_that_cannot_be_read(text: str) -> None:
    """Unknown names and values that are not numbers are errors that say what is allowed."""
    with pytest.raises(InvalidArgumentError, match=r"must be|allowed here"):
        InspectionThresholds.from_json(text)
    with pytest.raises(InvalidArgumentError, match="must be a JSON object"):
        InspectionThresholds.from_json(cast("str", None))


@pytest.mark.parametrize("value", ["240", True, float("nan"), [1], 10**400])
def test_thresholds_must_be_numbers(value: object) -> None:
    """A value that no measurement can be compared with is refused when it is passed."""
    with pytest.raises(InvalidArgumentError, match="The threshold of sharpness must be a number"):
        PictureThresholds(sharpness=cast("float", value))
    with pytest.raises(InvalidArgumentError, match="face must be a PictureThresholds"):
        InspectionThresholds(face=cast("PictureThresholds", value))
