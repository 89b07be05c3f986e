"""Writes `llms.txt` to the root of the site: all pages with their first sentence, for programs that read them.

The format is that of https://llmstxt.org: a heading, a summary, and a list of links for each section.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from docutils import nodes
from sphinx import addnodes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

SITE: Final = "https://veriff-async.readthedocs.io/en/latest/"
SUMMARY: Final = (
    "An asyncio client for Veriff (identity verification), for Python 3.11 and newer: streamed signed uploads, one "
    "awaited decision from webhooks or polling, resumable batches, and a local Veriff (the sandbox) for tests."
)
SENTENCE: Final = re.compile(r"[A-Z].+?\.(?=\s|$)", re.DOTALL)


def pages_below(env: BuildEnvironment, page: str) -> Iterator[str]:
    """Yield a page and all pages of its toctrees, in their order."""
    yield page
    for child in env.toctree_includes.get(page, ()):
        yield from pages_below(env, child)


def describe(env: BuildEnvironment, page: str) -> str:
    """Return the first sentence of a page, or nothing if the page begins otherwise."""
    paragraph = next(env.get_doctree(page).findall(nodes.paragraph), None)
    text = "" if paragraph is None else " ".join(paragraph.astext().split())
    match = SENTENCE.match(text)
    return f": {match[0]}" if match and len(match[0]) < 200 else ""  # noqa: PLR2004  a line for a list


def write_list(app: Sphinx, exception: Exception | None) -> None:
    """Write the file after an HTML build."""
    if exception is not None or app.builder.format != "html":
        return
    env = app.env
    lines = ["# veriff-async", "", f"> {SUMMARY}"]
    for toctree in env.get_doctree("index").findall(addnodes.toctree):
        lines += ["", f"## {toctree.get('caption') or 'Pages'}", ""]
        for _, entry in toctree["entries"]:
            for page in pages_below(env, entry):
                title = env.titles[page].astext()
                lines.append(f"- [{title}]({SITE}{page}.html){describe(env, page)}")
    Path(app.outdir, "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("build-finished", write_list)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
