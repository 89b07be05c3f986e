"""Replaces personal data and secrets in what a cassette gets. Pure.

`allow_list` says which fields stay; `Fakes` makes the replacements. Without redaction the same functions write the
values themselves, except for headers with keys and signatures, which are replaced in every cassette.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import parse_qsl, quote, unquote, urlencode

from veriff_async.sandbox._recording.allow_list import (
    HEADERS,
    MEDIA_TYPES,
    QUERY,
    is_member,
    kept_as,
    parent_below,
    path_words,
)
from veriff_async.sandbox._recording.body_capture import Blob

if TYPE_CHECKING:
    from collections.abc import Iterable

    from veriff_async.sandbox._recording.body_capture import CapturedBody
    from veriff_async.sandbox._recording.fakes import Fakes

__all__ = ("API", "BLOB", "Redactor")

_SECONDS: Final = re.compile(r"\d{1,5}", re.ASCII)

API: Final = "{api}"
"""Stands for the address of the API at the beginning of a URL; a replay writes its own address."""

BLOB: Final = "$blob"
"""The only member of the object that stands for a string which the cassette does not contain."""

# Never written, not even without redaction.
_SECRET_HEADERS: Final = frozenset(
    [
        "authorization",
        "cookie",
        "proxy-authorization",
        "set-cookie",
        "vrf-auth-client",
        "vrf-hmac-signature",
        "vrf-integration-id",
        "x-api-key",
        "x-auth-client",
        "x-hmac-signature",
        "x-signature",
    ]
)


class Redactor:
    """Turns what has passed by into the JSON of a cassette."""

    def __init__(self, fakes: Fakes, *, roots: Iterable[str] = (), is_on: bool = True) -> None:
        """Take the settings."""
        self._fakes = fakes
        # The longest first: one may begin with another.
        self._roots = sorted(roots, key=len, reverse=True)
        self._is_on = is_on

    def body(self, body: CapturedBody) -> dict[str, object] | None:
        """Return the entry of a body; ``None`` for an empty one."""
        if not body.size:
            return None
        if isinstance(body.content, Blob) and not body.is_json:
            return {"size": body.size, **_digest_members(body.content)}
        return {"size": body.size, "json": self.json(body.content)}

    def json(self, value: object, *, parent: str = "", name: str = "") -> object:
        """Return JSON with replaced values."""
        if isinstance(value, Blob):
            return {BLOB: {"size": value.size, **_digest_members(value)}}
        if isinstance(value, Mapping):
            below = parent_below(parent, name)
            return {
                self._member(key): self.json(item, parent=below, name=key)
                for key, item in cast("Mapping[str, object]", value).items()
            }
        if isinstance(value, list):
            # Items have the name of their list, and objects in it are below that name.
            return [self.json(item, parent=parent, name=name) for item in cast("list[object]", value)]
        if isinstance(value, str):
            return self._text(value, parent=parent, name=name)
        # True and False are ints.
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and self._is_on and kept_as(parent, name, value) is None:
            return self._fakes.number(cast("float", value))
        return value

    def headers(self, headers: Iterable[tuple[str, str]]) -> dict[str, str]:
        """Return headers by their names in lower case. With redaction, only known ones are written."""
        found: dict[str, str] = {}
        for name, value in headers:
            lower = name.lower()
            if lower in _SECRET_HEADERS:
                found[lower] = self._fakes.text(value)
            elif not self._is_on:
                found[lower] = value
            elif lower in HEADERS:
                found[lower] = self._header(lower, value)
        return found

    def path(self, path: str) -> str:
        """Return a path with its query: ids are replaced."""
        if not self._is_on:
            return path
        path, question, query = path.partition("?")
        parts = [self._part(unquote(part, errors="surrogateescape")) for part in path.split("/")]
        if not question:
            return "/".join(parts)
        pairs = parse_qsl(query, keep_blank_values=True, errors="surrogateescape")
        return "/".join(parts) + "?" + urlencode([self._parameter(name, value) for name, value in pairs])

    def _header(self, name: str, value: str) -> str:
        if name in {"content-type", "accept"}:
            types = [part.partition(";")[0].strip().lower() for part in value.split(",")]
            return ", ".join(each if each in MEDIA_TYPES else self._fakes.text(each) for each in types)
        known = {"gzip", "deflate", "br", "zstd", "identity", "chunked", "100-continue"}
        words = [part.strip().lower() for part in value.split(",")]
        is_number = name == "retry-after" and _SECONDS.fullmatch(value.strip()) is not None
        return value.strip() if is_number else ", ".join(w if w in known else self._fakes.text(w) for w in words)

    def _part(self, part: str) -> str:
        return part if not part or part in path_words() else quote(self._fakes.text(part), safe="")

    def _parameter(self, name: str, value: str) -> tuple[str, str]:
        form = QUERY.get(name)
        if form is not None and form.fullmatch(value):
            return name, value
        return name if form is not None else self._fakes.text(name), self._fakes.text(value)

    def _member(self, name: str) -> str:
        if not self._is_on or is_member(name):
            return name
        return self._fakes.text(name)

    def _text(self, value: str, *, parent: str, name: str) -> str:
        for root in self._roots:
            if value == root or value.startswith((f"{root}/", f"{root}?")):
                return API + self.path(value[len(root) :])
        return value if not self._is_on or kept_as(parent, name, value) is not None else self._fakes.text(value)


def _digest_members(blob: Blob) -> dict[str, object]:
    members = {"type": blob.media_type, "sha256": blob.sha256}
    return {name: value for name, value in members.items() if value is not None}
