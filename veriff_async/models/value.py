"""What all values have in common: they are equal when their fields are, and show them.

attrs would write the same three methods for each class anew, and compile them in every process: for the classes that a
client needs that took a tenth of the time to import it.
"""

from __future__ import annotations

from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, cast

from attrs import NOTHING, fields

if TYPE_CHECKING:
    from collections.abc import Callable

    from attrs import AttrsInstance

__all__ = ("Value",)


class Value:
    """A value: equal to another of its class when all fields that count are; attrs is told ``eq=False, repr=False``."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        """Compare with another value of the very same class."""
        kind = cast("type[AttrsInstance]", self.__class__)
        if other.__class__ is not kind:
            return NotImplemented
        look = _compared(kind)
        return look(self) == look(other)

    def __hash__(self) -> int:
        """Return the same for equal values."""
        kind = cast("type[AttrsInstance]", self.__class__)
        return hash((kind, _compared(kind)(self)))

    def __repr__(self) -> str:
        """Show the fields, apart from those that are too long, or nobody's business."""
        kind = cast("type[AttrsInstance]", self.__class__)
        shown = (f"{name}={getattr(self, name, NOTHING)!r}" for name in _shown(kind))
        return f"{kind.__qualname__.rpartition('>.')[2]}({', '.join(shown)})"


@cache
def _compared(kind: type[AttrsInstance]) -> Callable[[object], object]:
    names = [attribute.name for attribute in fields(kind) if attribute.eq]
    return attrgetter(*names) if names else lambda _: ()


@cache
def _shown(kind: type[AttrsInstance]) -> tuple[str, ...]:
    return tuple(attribute.name for attribute in fields(kind) if attribute.repr)
