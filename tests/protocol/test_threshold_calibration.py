"""The choice of thresholds from one's own pictures."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from veriff_async import CheckName, InvalidArgumentError, PictureThresholds
from veriff_async._protocol.threshold_calibration import calibrate_thresholds

SHARP = CheckName.SHARPNESS
GLARE = CheckName.GLARE


def test_the_strictest_threshold_that_few_approved_pictures_fail() -> None:
    """At 1 %, one of 100 approved pictures may fail a check."""
    approved = [{SHARP: float(value), GLARE: 0.0} for value in range(100, 200)]
    resubmitted = [{SHARP: 20.0, GLARE: 0.1}, {SHARP: 100.5, GLARE: 0.0}]

    calibration = calibrate_thresholds(approved, resubmitted)

    assert (calibration.thresholds.sharpness, calibration.thresholds.glare) == (101.0, 0.0)
    sharpness = next(check for check in calibration.checks if check.name is SHARP)
    assert (sharpness.recall, sharpness.false_positives) == (1.0, 0.01)
    assert (calibration.recall, calibration.false_positives) == (1.0, 0.01)
    assert (calibration.approved, calibration.resubmitted) == (100, 2)


def test_a_check_that_finds_nothing_costs_nothing() -> None:
    """If no resubmitted picture fails a check, it keeps its default, or becomes so loose that no approved one fails."""
    approved = [{SHARP: float(value), GLARE: 0.0} for value in range(100, 300)]
    resubmitted = [{SHARP: 250.0, GLARE: 0.0}]

    loosened = calibrate_thresholds(approved, resubmitted, defaults=PictureThresholds(sharpness=150.0))
    kept = calibrate_thresholds(approved, resubmitted, defaults=PictureThresholds(sharpness=50.0, glare=0.004))

    assert (loosened.thresholds.sharpness, loosened.thresholds.glare) == (100.0, None)
    assert (kept.thresholds.sharpness, kept.thresholds.glare) == (50.0, 0.004)
    assert (loosened.false_positives, kept.false_positives) == (0, 0)


def test_a_check_that_measured_nothing_keeps_its_default() -> None:
    """Without a value of an approved picture nothing is known, for example of faces without a detector."""
    defaults = PictureThresholds(sharpness=5.0)

    calibration = calibrate_thresholds([{SHARP: None}, {}], [{SHARP: 3.0}], defaults=defaults)

    assert calibration.thresholds == defaults
    assert calibration.checks == ()


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_arguments(share: float) -> None:
    """Without approved pictures, or with an impossible share, calibration is refused."""
    with pytest.raises(InvalidArgumentError, match="max_false_positives"):
        calibrate_thresholds([{SHARP: 1.0}], [], max_false_positives=share)
    with pytest.raises(InvalidArgumentError, match="approved"):
        calibrate_thresholds([], [])


@given(
    approved=st.lists(st.floats(0, 1000), min_size=1, max_size=50),
    resubmitted=st.lists(st.floats(0, 1000), max_size=50),
    share=st.floats(0, 0.5),
    name=st.sampled_from([SHARP, GLARE]),
)
def test_the_limit_is_kept(approved: list[float], resubmitted: list[float], share: float, name: CheckName) -> None:
    """No more approved pictures fail than the limit allows, for checks of both directions."""
    calibration = calibrate_thresholds(
        [{name: value} for value in approved], [{name: value} for value in resubmitted], max_false_positives=share
    )

    assert calibration.false_positives <= share
