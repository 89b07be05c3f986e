"""Names of a package that are loaded when they are first used, so that importing it costs next to nothing (PEP 562)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ("late",)


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
