"""How the documentation is built; no step of it needs a network."""

from veriff_async.version import __version__

project = "veriff-async"
author = "The veriff-async authors"
copyright = "2026, The veriff-async authors"  # noqa: A001  Sphinx's own name
release = __version__

extensions = [
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
autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
