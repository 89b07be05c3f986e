"""Public names that are loaded on first use (PEP 562), so that importing a package costs next to nothing."""

from __future__ import annotations

import sys
from importlib import import_module
from inspect import currentframe
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ("attach", "load_name")

# Frames between pydoc and `dir`; ``inspect.getmembers`` adds one or two.
_MAX_FRAMES: Final = 6


def attach(
    package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], object], Callable[[], list[str]], tuple[str, ...]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` of a package whose names are loaded on first use.

    A package also imports the names under ``TYPE_CHECKING``, because type checkers read no dictionary. With a visible
    ``__getattr__`` they would accept any misspelt name, so the call belongs in the ``else`` branch.

    Args:
        package: The ``__name__`` of the package.
        modules: Names separated by spaces, by the module below ``veriff_async`` that defines them.
    """
    module_of = {name: module for module, names in modules.items() for name in names.split()}
    namespace = vars(sys.modules[package])
    names = {*module_of, *(name for name in ("__version__",) if name in namespace)}

    def load(name: str) -> object:
        if name not in module_of:
            msg = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(msg)
        namespace[name] = value = load_name(module_of[name], name)
        return value

    def list_names() -> list[str]:
        return [] if _is_called_by_pydoc() else sorted(names)

    return load, list_names, tuple(sorted(names))


def load_name(module: str, name: str) -> Any:  # noqa: ANN401  each caller knows the type
    """Return a name of a module below ``veriff_async``, imported now; also from a package that may not import it."""
    return getattr(import_module(f"veriff_async.{module}"), name)


def _is_called_by_pydoc() -> bool:
    """Return whether `help` calls, which would otherwise print every member of every class after the overview."""
    frame = currentframe()  # pydoc offers no other way to detect it
    for _ in range(_MAX_FRAMES):
        frame = None if frame is None else frame.f_back
        if frame is not None and frame.f_globals.get("__name__") == "pydoc":
            return True
    return False
