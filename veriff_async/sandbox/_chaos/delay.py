"""Random durations: constant, uniform, normal and lognormal. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Self

from attrs import field, frozen

from veriff_async.errors import InvalidArgumentError
from veriff_async.sandbox._arguments import check_number, check_word

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from attrs import Attribute

__all__ = ("DISTRIBUTIONS", "Delay")

DISTRIBUTIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "constant": {"seconds": "center"},
    "uniform": {"lowest": "lowest", "highest": "highest"},
    "normal": {"mean": "center", "deviation": "spread", "lowest": "lowest", "highest": "highest"},
    "lognormal": {"median": "center", "sigma": "spread", "lowest": "lowest", "highest": "highest"},
}
"""The parameters of each distribution in a file, and the fields of `Delay` that hold them."""

# Seconds. A normal distribution has no largest value, and a test must end.
_HIGHEST: Final = 60.0

# A day in seconds.
_LONGEST: Final = 86_400.0

# exp(10 * 9) is a finite number; a normal draw from 53 bits is below 9.
_LARGEST_SIGMA: Final = 10.0


def _check_distribution(_delay: object, _attribute: object, value: object) -> None:
    check_word("Delay.distribution", value, DISTRIBUTIONS)


def _check_seconds(delay: Delay, attribute: Attribute[float], value: object) -> None:
    check_number(f"Delay.{_parameter(delay, attribute.name)}", value, highest=_LONGEST)


def _check_spread(delay: Delay, attribute: Attribute[float], value: object) -> None:
    highest = _LARGEST_SIGMA if delay.distribution == "lognormal" else _LONGEST
    check_number(f"Delay.{_parameter(delay, attribute.name)}", value, highest=highest)


def _parameter(delay: Delay, name: str) -> str:
    """Return the name that a field has in files and arguments."""
    return next((key for key, own in DISTRIBUTIONS[delay.distribution].items() if own == name), name)


@frozen(kw_only=True)
class Delay:
    """A random number of seconds; made by the class methods.

    Raises:
        InvalidArgumentError: A value is negative, longer than a day or not finite, or `lowest` is above `highest`.
    """

    distribution: str = field(default="constant", validator=_check_distribution)
    center: float = field(default=0.0, validator=_check_seconds)
    spread: float = field(default=0.0, validator=_check_spread)
    lowest: float = field(default=0.0, validator=_check_seconds)
    highest: float = field(default=_HIGHEST, validator=_check_seconds)

    def __attrs_post_init__(self) -> None:
        """Check the bounds against each other."""
        if self.lowest > self.highest:
            msg = f"Delay.lowest is {self.lowest}: pass a number that is not above highest."
            raise InvalidArgumentError(msg)

    @classmethod
    def constant(cls, seconds: float) -> Self:
        """Return the same number of seconds each time."""
        return cls(distribution="constant", center=seconds)

    @classmethod
    def uniform(cls, lowest: float, highest: float) -> Self:
        """Return any number of seconds from `lowest` to `highest`."""
        return cls(distribution="uniform", lowest=lowest, highest=highest)

    @classmethod
    def normal(cls, mean: float, deviation: float, *, lowest: float = 0.0, highest: float = _HIGHEST) -> Self:
        """Return seconds around a mean; values outside of the bounds become the nearer bound.

        Args:
            mean: Mean in seconds, before the bounds apply.
            deviation: Standard deviation in seconds.
            lowest: Lower bound in seconds.
            highest: Upper bound in seconds.
        """
        return cls(distribution="normal", center=mean, spread=deviation, lowest=lowest, highest=highest)

    @classmethod
    def lognormal(cls, median: float, sigma: float, *, lowest: float = 0.0, highest: float = _HIGHEST) -> Self:
        """Return seconds with a long tail, as latencies of networks have.

        Args:
            median: Median in seconds, before the bounds apply.
            sigma: Standard deviation of the logarithm; 0.5 means that one value in 40 is above 2.7 times the median.
            lowest: Lower bound in seconds; a lower value becomes it.
            highest: Upper bound in seconds; a higher value becomes it.
        """
        return cls(distribution="lognormal", center=median, spread=sigma, lowest=lowest, highest=highest)

    def seconds(self, draw: Callable[[str], float]) -> float:
        """Return the duration for one set of random numbers.

        Args:
            draw: Returns a number from 0 to below 1 for each purpose.
        """
        if self.distribution == "constant":
            return self.center
        if self.distribution == "uniform":
            return self.lowest + (self.highest - self.lowest) * draw("length")
        deviation = self.spread * _normal(draw)
        value = self.center + deviation if self.distribution == "normal" else self.center * math.exp(deviation)
        return min(max(value, self.lowest), self.highest)


def _normal(draw: Callable[[str], float]) -> float:
    """Return a number of the standard normal distribution, by the transform of Box and Muller.

    See https://en.wikipedia.org/wiki/Box-Muller_transform.
    """
    # 1 - u is above 0, so the logarithm is finite.
    radius = math.sqrt(-2.0 * math.log(1.0 - draw("radius")))
    return radius * math.cos(math.tau * draw("angle"))
