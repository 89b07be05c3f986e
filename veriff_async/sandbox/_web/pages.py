"""Responses with HTML: rendered from templates that escape every value, with headers that limit what a page can do."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from aiohttp import web
from anyio import to_thread
from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jinja2 import Environment

__all__ = (
    "PACKAGES",
    "STATIC_PATH",
    "is_cross_site",
    "load_files",
    "read_form",
    "redirect",
    "refuse",
    "respond",
    "serve_file",
)

_MISSING: Final = 'The pages of the sandbox need jinja2: install it with pip install "veriff-async[sandbox]".\n'

# https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/Content-Security-Policy
_POLICY: Final = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' blob:",
    "connect-src 'self'",
    "form-action 'self'",
    "base-uri 'none'",
)
_HEADERS: Final = {
    "Cache-Control": "no-store",
    # Addresses of pages contain tokens. "no-referrer" would also remove the Origin of forms, which is checked.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


async def respond(
    template: str,
    values: Mapping[str, object],
    *,
    status: int = 200,
    may_be_framed: bool = False,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """Respond with a page or a part of one.

    Returns:
        The page, or a response with status 501 that names the extra if jinja2 is not installed.
    """
    environment = await _load()
    if environment is None:
        return refuse(501, _MISSING)
    # JSON can hold half of a surrogate pair, which UTF-8 lacks: such a name must not make its page fail.
    body = environment.get_template(template).render(values).encode("utf-8", "replace")
    policy = _POLICY if may_be_framed else (*_POLICY, "frame-ancestors 'none'")
    return web.Response(
        body=body,
        status=status,
        content_type="text/html",
        charset="utf-8",
        headers={**_HEADERS, "Content-Security-Policy": "; ".join(policy), **(headers or {})},
    )


def refuse(status: int, message: str) -> web.Response:
    """Respond with one sentence of plain text."""
    return web.Response(status=status, text=message, headers=_HEADERS)


def redirect(path: str) -> web.Response:
    """Let the browser get another page of the sandbox."""
    # 303: a reload repeats the GET, not the form. https://www.rfc-editor.org/rfc/rfc9110#name-303-see-other
    return web.Response(status=303, headers={**_HEADERS, "Location": path})


def is_cross_site(request: web.Request) -> bool:
    """Return whether a page of another origin sends this request.

    Browsers say so in ``Sec-Fetch-Site``, and older ones in ``Origin``. Programs send neither, and are let through.
    """
    sites = request.headers.getall("Sec-Fetch-Site", [])
    if sites:
        return not {"same-origin", "none"}.issuperset(sites)
    host = request.headers.get("Host")
    # All of them: a proxy may add a header, but must not hide one.
    return any(origin.partition("://")[2] != host for origin in request.headers.getall("Origin", []))


async def _load() -> Environment | None:
    # In a thread: the first call imports jinja2 and reads the files. Later calls return what it has loaded.
    return await to_thread.run_sync(_environment)


@cache
def _environment() -> Environment | None:
    try:
        from jinja2 import Environment, PackageLoader, PrefixLoader, StrictUndefined  # noqa: PLC0415  an extra
    except ImportError:
        return None
    loaders = {
        package: PackageLoader("veriff_async.sandbox", f"_{package}/templates")
        for package in PACKAGES
        if files("veriff_async.sandbox").joinpath(f"_{package}", "templates").is_dir()
    }
    environment = Environment(
        loader=PrefixLoader(loaders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Templates are files of the package, which do not change while it runs; a check would read the disk.
        auto_reload=False,
        cache_size=-1,
    )
    # Read and compiled now, in this thread, so that no page reads a file in the event loop.
    load_files()
    for name in environment.list_templates():
        environment.get_template(name, globals={"static": _path_of})
    return environment


def _path_of(name: str) -> str:
    return load_files()[name].path


_FORM: Final = "application/x-www-form-urlencoded"
_MAX_FIELDS: Final = 1000


async def read_form(request: web.Request) -> Mapping[str, str] | web.Response:
    """Return the fields of a form, the last value of each, or the response to a body that is not a form.

    ``Request.post`` of aiohttp raises many kinds of errors for such a body. A browser sends a form in UTF-8
    (https://url.spec.whatwg.org/#application/x-www-form-urlencoded), so no other charset is read. A request without a
    body has no fields.
    """
    try:
        body = await request.read()
    except web.RequestPayloadError:
        response = refuse(400, "The body is not what its Content-Encoding says: send it again.\n")
        # The end of the body is unknown, so the connection cannot carry another request.
        response.force_close()
        return response
    if body and request.content_type != _FORM:
        return refuse(415, f"The body is not a form: send {_FORM}.\n")
    try:
        text = body.decode("utf-8", "replace")
        return dict(parse_qsl(text, keep_blank_values=True, errors="replace", max_num_fields=_MAX_FIELDS))
    except ValueError:
        return refuse(400, f"The form has more than {_MAX_FIELDS} fields: send fewer.\n")


PACKAGES: Final = ("web", "hosted", "console")
"""The packages with pages, without their underscore."""

_FOLDERS: Final = {
    **{package: (f"_{package}", "static") for package in PACKAGES},
    # The pictures of an invented person, which the command line shares.
    "specimens": ("_specimens",),
}

# Below the path of the hosted page, which needs no token of the control API.
STATIC_PATH: Final = "/v/static/{digest}/{package}/{name}"
"""The route of `serve_file`."""

_TYPES: Final = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".webp": "image/webp",
}
_FILE_HEADERS: Final = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}


@frozen
class StaticFile:
    """A file that pages load."""

    path: str
    body: bytes
    media_type: str


@cache
def load_files() -> Mapping[str, StaticFile]:
    """Read the static files of all packages, by names like ``web/base.css``. Blocking."""
    found: dict[str, StaticFile] = {}
    for package, parts in _FOLDERS.items():
        folder = files("veriff_async.sandbox").joinpath(*parts)
        if not folder.is_dir():
            continue
        for file in folder.iterdir():
            suffix = file.name[file.name.rfind(".") :]
            if file.is_file() and suffix in _TYPES:
                body = file.read_bytes()
                digest = hashlib.sha256(body).hexdigest()[:16]
                path = STATIC_PATH.format(digest=digest, package=package, name=file.name)
                found[f"{package}/{file.name}"] = StaticFile(path, body, _TYPES[suffix])
    return found


async def serve_file(request: web.Request) -> web.Response:
    """Respond with a static file."""
    found = (await to_thread.run_sync(load_files)).get(f"{request.match_info['package']}/{request.match_info['name']}")
    # Another digest names another version: a browser must not keep this one under it.
    if found is None or found.path != request.path:
        return web.Response(status=404, text="The sandbox has no such file.")
    return web.Response(body=found.body, content_type=found.media_type, charset="utf-8", headers=_FILE_HEADERS)
