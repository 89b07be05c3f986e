"""The body of an upload and its signature, as code without this library makes them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Final

import pybase64

from benchmarks.work import HEADERS, SECRET

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ("read_and_sign", "signed", "wrapped")

_CONTEXT: Final = "document-front"
_BEFORE: Final = b'{"image":{"context":"document-front","content":"data:image/jpeg;base64,'


def wrapped(picture: bytes) -> bytes:
    """Return the body around a picture, with the standard library alone."""
    content = base64.b64encode(picture).decode()
    return json.dumps({"image": {"context": _CONTEXT, "content": f"data:image/jpeg;base64,{content}"}}).encode()


def signed(content: bytes) -> dict[str, str]:
    """Return the headers of a body."""
    return {**HEADERS, "X-HMAC-SIGNATURE": hmac.new(SECRET.encode(), content, hashlib.sha256).hexdigest()}


def read_and_sign(path: Path) -> tuple[bytes, dict[str, str]]:
    """Return the body of a file and its headers, with the least work that makes them."""
    body = b"".join((_BEFORE, pybase64.b64encode(path.read_bytes()), b'"}}'))
    return body, signed(body)
