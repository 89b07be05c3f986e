"""Corrects HTML of Sphinx and of the theme that screen readers cannot interpret; axe-core reports it otherwise."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sphinx.application import Sphinx

# Sphinx writes a signature of several lines as a list of descriptions without terms, which is no list.
PARAMETERS: Final = re.compile(r'(<span class="sig-paren">[(\[]</span>\s*)<dl>(.*?)</dl>', re.DOTALL)
# A heading needs a level: https://www.w3.org/TR/wai-aria-1.2/#heading
CAPTION: Final = '<p class="caption" role="heading">'


def correct(_app: Sphinx, _page: str, _template: str, context: dict[str, Any], _doctree: object) -> None:
    """Correct a page after the theme has added its navigation."""
    if "body" in context:
        context["body"] = PARAMETERS.sub(_replace_list, context["body"])
    for name in ("toctree", "furo_navigation_tree"):
        if isinstance(context.get(name), str):
            context[name] = context[name].replace(CAPTION, CAPTION.replace(">", ' aria-level="2">'))


def _replace_list(match: re.Match[str]) -> str:
    """Return the parameters as indented lines."""
    opening, lines = match.groups()
    lines = lines.replace("<dd>", "<div>").replace("</dd>", "</div>")
    return f'{opening}<div class="sig-lines">{lines}</div>'


def setup(app: Sphinx) -> dict[str, Any]:
    """Run after the theme."""
    app.connect("html-page-context", correct, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
