"""The body of an upload: JSON around a base64 text. Its length is known before the file is read.

https://devdocs.veriff.com/apidocs/v1sessionsidmedia-3 documents the form and a data URI. Veriff's own demo sends bare
base64, so that is accepted too, but this library sends the documented form.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from pybase64 import b64encode

from veriff_async._protocol.json.decode import dump
from veriff_async._records import record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from typing_extensions import Buffer

    from veriff_async.models.enums import MediaContext

__all__ = ("BodyTemplate", "base64_length", "encode", "image_body_template")

_BYTES_PER_GROUP: Final = 3  # base64 writes three bytes as four characters


@record
class BodyTemplate:
    """The body of one upload without its base64 text: the JSON before and after it."""

    prefix: bytes
    suffix: bytes

    def length(self, size: int) -> int:
        """Return the exact length of the body for a file of `size` bytes."""
        return len(self.prefix) + base64_length(size) + len(self.suffix)

    def wrap(self, pieces: Iterable[Buffer]) -> Iterator[bytes]:
        """Yield the body piece by piece; every piece but the last must be a multiple of three bytes long."""
        yield self.prefix
        yield from map(encode, pieces)
        yield self.suffix


def base64_length(size: int) -> int:
    """Return the length of the base64 text of `size` bytes."""
    return -(-size // _BYTES_PER_GROUP) * 4


def encode(piece: Buffer) -> bytes:
    """Return a piece as base64; pieces can be joined when all but the last are a multiple of three bytes long."""
    return b64encode(piece)


def image_body_template(context: MediaContext, mimetype: str, timestamp: datetime | None = None) -> BodyTemplate:
    """Return the JSON around an image or PDF.

    Args:
        context: Its subject.
        mimetype: Its type, for the data URI.
        timestamp: When it was taken, if known; must be aware.
    """
    # Nearly all uploads share a few templates, and encoding one takes as long as reading a small file.
    make = _make_template if timestamp is None else _make_template.__wrapped__
    return make(str(context), mimetype, timestamp)


@lru_cache(maxsize=256)
def _make_template(context: str, mimetype: str, timestamp: datetime | None) -> BodyTemplate:
    members = {"context": context}
    if timestamp is not None:
        members["timestamp"] = timestamp.isoformat()
    # The whole object is encoded and then cut before the closing quote, so that every member is escaped correctly.
    head = dump({"image": {**members, "content": f"data:{mimetype};base64,"}})
    suffix = b'"}}'
    return BodyTemplate(prefix=head.removesuffix(suffix), suffix=suffix)
