"""Names of a package that are loaded when they are first used, so that importing it costs next to nothing (PEP 562)."""

from __future__ import annotations

from importlib import import_module
from inspect import currentframe
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ("late", "listed")


def listed(names: Iterable[str]) -> list[str]:
    """Return the names that ``dir()`` lists for a package: all of them, but none to ``help()``.

    pydoc prints every member of every class that ``dir()`` lists, 20,000 lines for this package. The docstring of the
    package is the overview instead, and ``help()`` of a name explains it.
    """
    frame = currentframe()  # pydoc leaves no other way to know who asks
    for _ in range(_DEEPEST):
        frame = None if frame is None else frame.f_back
        if frame is not None and frame.f_globals.get("__name__") == "pydoc":
            return []
    return sorted(names)


_DEEPEST = 6
"""Frames between pydoc and the package: ``inspect.getmembers`` has one or two."""


def late(package: str, names: dict[str, object], homes: Mapping[str, str]) -> Callable[[str], object]:
    """Return the ``__getattr__`` of a package.

    Args:
        package: Its name.
        names: Its ``globals()``, where what was loaded is kept.
        homes: Names, parted by spaces, by the module below ``veriff_async`` in which they live.
    """
    home_of = {name: home for home, found in homes.items() for name in found.split()}

    def load(name: str) -> object:
        if name not in home_of:
            msg = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(msg)
        names[name] = value = getattr(import_module(f"veriff_async.{home_of[name]}"), name)
        return value

    return load
