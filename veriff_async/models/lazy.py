"""Models whose parts are decoded when they are first read.

Most webhooks are recorded and never read in full: their receiver needs the session, the attempt, the status and the
time. A part is left to its first reader only if no JSON whatsoever can make it an error, so a message that cannot be
decoded is still refused at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("PART_DECODERS", "HasLazyParts")

PART_DECODERS: Final[dict[tuple[type, str], Callable[[object], None]]] = {}
"""A function for each class and field, which decodes the field from ``raw`` and stores it, alone or with others."""


class HasLazyParts:
    """Base class of models with fields that may have no value yet.

    Everything that reads a field (comparison, repr, pickle, `attrs.evolve`) finds its value, because Python calls
    ``__getattr__`` for a slot that is empty. Two threads may decode a part at the same time, to equal values.
    """

    __slots__ = ()

    if not TYPE_CHECKING:  # a type checker would accept any name

        def __getattr__(self, name: str) -> object:
            decode = PART_DECODERS.get((type(self), name))
            if decode is None:
                msg = f"{type(self).__name__!r} object has no attribute {name!r}"
                raise AttributeError(msg, name=name, obj=self)
            decode(self)
            return object.__getattribute__(self, name)
