"""The directive ``entries``: a table of public names with their summaries, then the entry of each name."""

from __future__ import annotations

import enum
import importlib
import inspect
from typing import TYPE_CHECKING, Final

from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

PACKAGE: Final = "veriff_async"


def find_object(name: str) -> object:
    """Return the object that a dotted name below the package means, for example ``models.Reason``."""
    module, _, attribute = f"{PACKAGE}.{name}".rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def choose_directive(value: object) -> tuple[str, tuple[str, ...]]:
    """Return autodoc's directive for an object, and the options that show all that is public in it, and no more."""
    if not inspect.isclass(value):
        return ("autofunction", ()) if inspect.isroutine(value) else ("autodata", ("no-value:",))
    if issubclass(value, enum.Enum):
        return "autoclass", ("members:", "undoc-members:")
    if issubclass(value, Exception):
        return "autoexception", ("members:", "show-inheritance:")
    return "autoclass", ("members:", "inherited-members: dict")


class Entries(SphinxDirective):
    """Write the table and the entries of the names in its content, one name in each line."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the nodes of autodoc for these names."""
        names = [line.strip() for line in self.content if line.strip()]
        lines = [".. autosummary::", "   :nosignatures:", ""]
        lines += [f"   ~{PACKAGE}.{name}" for name in names]
        for name in names:
            directive, options = choose_directive(find_object(name))
            lines += ["", f".. {directive}:: {PACKAGE}.{name}", *(f"   :{option}" for option in options)]
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.setup_extension("sphinx.ext.autosummary")
    app.add_directive("entries", Entries)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
