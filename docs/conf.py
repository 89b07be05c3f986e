"""How the documentation is built; no step of it needs a network."""

import sys
from pathlib import Path

from veriff_async.version import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "veriff-async"
author = "The veriff-async authors"
copyright = "2026, The veriff-async authors"  # noqa: A001  Sphinx's own name
release = __version__

extensions = [
    "api_entries",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
html_theme = "furo"
exclude_patterns = ["_build"]

default_role = "code"
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
copybutton_prompt_text = "$ "
toc_object_entries_show_parents = "hide"
autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
