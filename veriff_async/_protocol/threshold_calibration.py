"""Chooses thresholds from measurements of one's own approved and resubmitted pictures. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import evolve, frozen

from veriff_async._protocol.picture_thresholds import PictureThresholds
from veriff_async.errors import InvalidArgumentError
from veriff_async.models.inspection import CheckName

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ("Calibration", "CheckCalibration", "calibrate_thresholds")

# Checks whose threshold is not a matter of measurements.
_FIXED: Final = frozenset({CheckName.FACE_COUNT})


@frozen(kw_only=True)
class CheckCalibration:
    """The calibration of one check.

    Attributes:
        name: The check.
        threshold: The chosen threshold, or ``None`` if no approved picture could be measured, or the check finds no
            resubmitted picture and is switched off by default.
        recall: Share of the resubmitted pictures that fail the check.
        false_positives: Share of the approved pictures that fail the check.
    """

    name: CheckName
    threshold: float | None
    recall: float
    false_positives: float


@frozen(kw_only=True)
class Calibration:
    """Thresholds for one context, and how well they separate the pictures that they were chosen from.

    On other pictures they do slightly worse.
    """

    thresholds: PictureThresholds
    checks: tuple[CheckCalibration, ...]
    recall: float
    false_positives: float
    approved: int
    resubmitted: int


def calibrate_thresholds(
    approved: Sequence[Mapping[CheckName, float | None]],
    resubmitted: Sequence[Mapping[CheckName, float | None]],
    *,
    defaults: PictureThresholds = PictureThresholds(),  # noqa: B008  frozen
    max_false_positives: float = 0.01,
) -> Calibration:
    """Choose the strictest thresholds that few approved pictures fail.

    A check that would find no resubmitted picture keeps its default, or becomes as loose as the worst approved picture
    if that would fail it: nothing shows that a stricter threshold is of use.

    Args:
        approved: The values of each approved picture, by check.
        resubmitted: The values of each picture that had to be taken again.
        defaults: The thresholds of checks that were not measured or find nothing, for example those of faces without
            a face detector.
        max_false_positives: Largest share of the approved pictures that may fail any one check, from 0 to below 1.

    Raises:
        InvalidArgumentError: No picture is approved, or `max_false_positives` is out of range.
    """
    if not approved:
        msg = "Calibration needs at least one approved picture: 200 or more give useful thresholds."
        raise InvalidArgumentError(msg)
    if not 0 <= max_false_positives < 1:
        msg = "max_false_positives must be a share from 0 to below 1, for example 0.01."
        raise InvalidArgumentError(msg)
    checks = tuple(
        _calibrate(
            name,
            [values.get(name) for values in approved],
            [values.get(name) for values in resubmitted],
            default=defaults.limit(name),
            allowed=int(max_false_positives * len(approved)),
        )
        for name in CheckName
        if name not in _FIXED
    )
    limits = {check.name: check.threshold for check in checks if check.threshold is not None}
    thresholds = evolve(defaults, **{name.value: limit for name, limit in limits.items()})
    return Calibration(
        thresholds=thresholds,
        checks=tuple(check for check in checks if check.threshold is not None),
        recall=_share(
            [any(_fails(name, values.get(name), limit) for name, limit in limits.items()) for values in resubmitted]
        ),
        false_positives=_share(
            [any(_fails(name, values.get(name), limit) for name, limit in limits.items()) for values in approved]
        ),
        approved=len(approved),
        resubmitted=len(resubmitted),
    )


def _calibrate(
    name: CheckName,
    approved: Sequence[float | None],
    resubmitted: Sequence[float | None],
    *,
    default: float | None,
    allowed: int,
) -> CheckCalibration:
    # From the worst value to the best.
    measured = sorted((value for value in approved if value is not None), reverse=not name.is_minimum)
    if not measured:
        return CheckCalibration(name=name, threshold=None, recall=0.0, false_positives=0.0)
    strict, loose = measured[min(allowed, len(measured) - 1)], measured[0]

    def share(values: Sequence[float | None], limit: float) -> float:
        return _share([_fails(name, value, limit) for value in values])

    threshold: float | None
    if share(resubmitted, strict) > share(resubmitted, loose):
        threshold = strict
    elif share(resubmitted, loose):
        threshold = loose
    elif default is None:
        threshold = None
    else:
        threshold = min(default, loose) if name.is_minimum else max(default, loose)
    if threshold is None:
        return CheckCalibration(name=name, threshold=None, recall=0.0, false_positives=0.0)
    return CheckCalibration(
        name=name,
        threshold=threshold,
        recall=share(resubmitted, threshold),
        false_positives=share(approved, threshold),
    )


def _fails(name: CheckName, value: float | None, limit: float) -> bool:
    return value is not None and (value < limit if name.is_minimum else value > limit)


def _share(fails: Sequence[bool]) -> float:
    return sum(fails) / len(fails) if fails else 0.0
