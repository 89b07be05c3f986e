"""How the documentation is built; no step of it needs a network."""

import os
import sys
from pathlib import Path
from urllib.parse import urlparse

from veriff_async.version import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "veriff-async"
author = "The veriff-async authors"
copyright = "2026, The veriff-async authors"  # noqa: A001  Sphinx's own name
release = __version__

extensions = [
    "myst_parser",
    "notfound.extension",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "accessible",  # docs/_ext
    "api_entries",
    "external_names",
    "llms",
    "name_links",
]
exclude_patterns = ["_build"]
default_role = "code"
nitpicky = True  # each type of a signature is a link, or in the lists of docs/_ext

myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
# One parameter per line, as soon as a signature does not fit on a telephone.
maximum_signature_line_length = 40
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_preprocess_types = True
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

copybutton_prompt_text = "$ "
copybutton_exclude = ".linenos, .gp, .go"
# The page for a missing address may be shown at any depth, so its links start at the root of the site.
notfound_urls_prefix = urlparse(os.environ.get("READTHEDOCS_CANONICAL_URL", "/")).path

html_theme = "furo"
html_title = "veriff-async"
html_favicon = "_static/logo.svg"
html_static_path = ["_static"]
html_css_files = ["custom.css", "reference.css"]
html_js_files = ["accessible.js"]
html_search_scorer = str(Path(__file__).parent / "_ext" / "scorer.js")
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
# Both styles have a contrast above 7 for every kind of token (WCAG AAA), and their blocks a tint of the page.
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "github-dark-high-contrast"
html_theme_options = {
    "light_logo": "logo.svg",
    "dark_logo": "logo.svg",
    "top_of_page_buttons": [],
    "footer_icons": [],
    "light_css_variables": {
        "color-brand-primary": "#0a5f63",
        "color-brand-content": "#0a5f63",
        "color-brand-visited": "#6b3fa0",
        "color-code-background": "#f6f8f8",
        "color-foreground-muted": "#55595e",
        "color-api-name": "#0a5f63",
        "color-api-pre-name": "#55595e",
    },
    "dark_css_variables": {
        "color-brand-primary": "#5cc9c4",
        "color-brand-content": "#5cc9c4",
        "color-brand-visited": "#c3a5ee",
        "color-code-background": "#1b1e21",
        "color-foreground-muted": "#a4a9ae",
        "color-api-name": "#5cc9c4",
        "color-api-pre-name": "#a4a9ae",
    },
}
