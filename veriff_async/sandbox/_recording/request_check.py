"""Checks the API key and the signature of a request whose body passes in chunks. Pure.

A replay checks as the sandbox does (see `_auth`): a program with wrong credentials must not pass its tests.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final

from veriff_async.sandbox import _auth
from veriff_async.sandbox._routes import ROUTES, Signed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from veriff_async.credentials import Credentials
    from veriff_async.sandbox._errors import ErrorForm

__all__ = ("RequestCheck",)

_OPTIONAL: Final = frozenset({Signed.BODY_OR_NOTHING, Signed.BODY_AND_API_KEY})


class RequestCheck:
    """The check of one request."""

    def __init__(self, method: str, path: str, headers: Mapping[str, str], credentials: Credentials) -> None:
        """Start."""
        self._headers = headers
        self._credentials = credentials
        self._verifier = credentials.verifier()
        self._signed, form, signed_id = _find(method, path)
        self.form: ErrorForm = form
        self._has_body = self._signed is not Signed.ID and method not in {"GET", "DELETE"}
        if self._signed is Signed.ID:
            self._verifier.update(signed_id.encode())
        elif self._signed is Signed.FEEDBACK:
            self._verifier.update(path.encode() + (b"\n" if self._has_body else b""))

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk of the body."""
        if self._signed is not Signed.ID:
            self._verifier.update(chunk)

    def finish(self) -> str:
        """Return the secret that signed the request; the first one if the request needs no signature."""
        if self._signed is Signed.FEEDBACK:
            _auth.check_feedback_client(self._headers, self._credentials)
        else:
            _auth.check_client(self._headers, self._credentials)
        if self._signed is Signed.BODY_AND_API_KEY:
            _auth.check_api_key(self._headers, self._credentials)
        signature = _auth.signature_of(self._headers)
        if signature is None and self._signed in _OPTIONAL:
            return self._credentials.shared_secret
        index = _auth.check_signature(self._verifier, signature, of_body=self._has_body)
        return self._credentials.secrets[index]


def _find(method: str, path: str) -> tuple[Signed, ErrorForm, str]:
    """Return how a request is signed, the form of its errors, and the id in its path."""
    for known, form, signed, errors in _patterns():
        if known == method and (match := form.fullmatch(path)) is not None:
            return signed, errors, match.groupdict().get("id", "")
    # A new endpoint of Veriff: a body is signed, and otherwise the first id, as everywhere else.
    parts = [part for part in path.split("/") if part]
    return (Signed.BODY, "usual", "") if method not in {"GET", "DELETE"} else (Signed.ID, "usual", "".join(parts[2:3]))


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str], Signed, ErrorForm], ...]:
    return tuple(
        (route.method, re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(route.path)) + "/?"), route.signed,
         route.errors)
        for route in ROUTES
    )  # fmt: skip
