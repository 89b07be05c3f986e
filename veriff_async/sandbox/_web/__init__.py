"""HTML pages of the sandbox: templates, styles and scripts that the hosted page and the console share.

`respond` renders a template, `serve_file` serves the files that pages load. Each of the packages `_web`, `_hosted` and
`_console` has a folder ``templates`` and a folder ``static``; the first part of a name is the package without its
underscore: ``hosted/start.html`` is ``_hosted/templates/start.html``.

A page may load files of the sandbox only, and runs no script or style that is written into it
(https://www.w3.org/TR/CSP3/). jinja2, an optional dependency, is imported for the first page, so that a sandbox without
a browser starts as fast as before.
"""

from veriff_async.sandbox._web.pages import STATIC_PATH, is_cross_site, read_form, redirect, refuse, respond, serve_file

__all__ = ("STATIC_PATH", "is_cross_site", "read_form", "redirect", "refuse", "respond", "serve_file")
