"""Imports an ASGI application by its name, as servers do."""

from __future__ import annotations

import sys
from importlib import import_module
from inspect import iscoroutine
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from veriff_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ("is_app_name", "load_app")


def is_app_name(text: str) -> bool:
    """Return whether a text is ``module:app`` or ``module:create_app()`` rather than a URL."""
    module, colon, name = text.partition(":")
    parts = (*module.split("."), *name.removesuffix("()").split("."))
    return bool(colon) and all(part.isidentifier() for part in parts)


def load_app(text: str) -> Callable[..., Awaitable[object]]:
    """Return the application that a text names; with ``()`` at its end, call it first.

    Raises:
        ConfigurationError: It cannot be imported, or is not an application.
    """
    module_name, _, name = text.partition(":")
    # As `python -m` does: the application is in the folder where the command runs.
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    # The process may outlive the command, for example in tests.
    click.get_current_context().call_on_close(lambda: sys.path.remove(folder))
    try:
        found: object = import_module(module_name)
        for part in name.removesuffix("()").split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        msg = f"The module {error.name} is not found: run the command in the folder of your application."
        raise ConfigurationError(msg) from None
    except SystemExit:
        msg = f"{module_name} ends the process when it is imported: start its server only if __name__ is __main__."
        raise ConfigurationError(msg) from None
    except AttributeError:
        msg = f"{module_name} has no {name}: give module:app, or module:create_app()."
        raise ConfigurationError(msg) from None
    if name.endswith("()") and callable(found):
        found = found()
    if iscoroutine(found):
        found.close()
    if not callable(found):
        msg = f"{text} is a {type(found).__name__}, not an ASGI application."
        raise ConfigurationError(msg)
    return cast("Callable[..., Awaitable[object]]", found)
