"""A streaming parser for the JSON body of an upload. Pure; memory is bounded, and chunks may end at any byte.

A body is up to 18 MB of base64 inside of JSON, so it is not parsed as a whole. The parser follows the structure only
(strings, objects, lists) to find the string at ``image.content``. It decodes this string and returns the bytes chunk by
chunk. Everything else is kept as the "skeleton", the same JSON with an empty content, of at most `SKELETON_LIMIT`
bytes. `finish` parses the skeleton with the ordinary JSON parser, which also finds all syntax errors; it does not
matter which structure this parser follows in an invalid document.

    feed            reads tokens until the chunk ends; an incomplete escape is kept in `_rest` for the next chunk
    _step           reads one token: structure up to the next sign, or a string up to a quote or an escape
    _on_structure   tracks the path (the key at each depth): it decides whether a string is a key, the content, or other
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from attrs import frozen
from pybase64 import b64decode

from veriff_async._protocol.image_header import HEAD_SIZE, PDF, detect_type
from veriff_async._protocol.json.decode import dump, load_object
from veriff_async._protocol.limits import MAX_IMAGE_BASE64, MAX_PDF_BYTES
from veriff_async.errors import DecodeError
from veriff_async.models.json import as_object
from veriff_async.sandbox import _validation
from veriff_async.sandbox._errors import HTTPError

if TYPE_CHECKING:
    from veriff_async.models.json import JsonObject

__all__ = ("SKELETON_LIMIT", "UploadDescription", "UploadParser")

# Enough for the data of a chip, whose portrait has some ten kilobytes.
SKELETON_LIMIT: Final = 1024 * 1024

_STRUCTURE: Final = re.compile(rb'["{}\[\]:,]')
_STRING: Final = re.compile(rb'["\\]')
_DATA_URI: Final = re.compile(rb"data:([\w.+-]+/[\w.+-]+)?(?:;[\w=.+-]+)*;base64", re.IGNORECASE)
_ESCAPES: Final = {
    b'"': b'"',
    b"\\": b"\\",
    b"/": b"/",
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
}
_HEX: Final = re.compile(rb"[0-9a-fA-F]{4}")
# Bytes in which a data URI must have its comma. Real prefixes have some thirty.
_PREFIX_LIMIT: Final = 256
_UNICODE_ESCAPE: Final = 6
_CONTENT: Final = ["image", "content"]


@frozen
class UploadDescription:
    """The description of an upload, after its end.

    Attributes:
        image: The ``image`` object without its content; ``None`` for data of a chip.
        mimetype: The type, from the first bytes.
    """

    image: JsonObject | None
    mimetype: str


class UploadParser:
    """Parses one upload body."""

    def __init__(self, *, oversize_status: int) -> None:
        """Start a body."""
        self._oversize_status = oversize_status
        self._rest = b""
        self._skeleton = bytearray()
        # For each depth of nesting: the last key, and whether it is an object.
        self._path: list[str | None] = []
        self._in_object: list[bool] = []
        self._expects_key = False
        self._in_string = False
        self._key: bytearray | None = None
        self._in_content = False
        self._content: _Content | None = None

    def feed(self, chunk: bytes) -> bytes:
        """Parse the next chunk of the body.

        Raises:
            HTTPError: The file is too large or not base64, or the rest of the body is too large.
        """
        data = self._rest + chunk
        start = 0
        decoded: list[bytes] = []
        while start < len(data) and (end := self._step(data, start, decoded)) > start:
            start = end
        self._rest = data[start:]
        if len(self._skeleton) > SKELETON_LIMIT:
            raise HTTPError(self._oversize_status, None, "Request body too large")
        return b"".join(decoded)

    def finish(self) -> tuple[bytes, UploadDescription]:
        """End the body."""
        self._skeleton += self._rest
        try:
            root = load_object(bytes(self._skeleton))
        except DecodeError:
            raise HTTPError(400, "1104", "Request body is not a JSON object") from None
        # Both names of the member are guesses; the first one is the name that the client sends.
        chip = as_object(root.get("nfcDocument", root.get("nfc")))
        if chip is not None:
            _validation.check_nfc(chip)
            return dump(chip), UploadDescription(None, "application/json")
        image = as_object(root.get("image"))
        if image is None:
            raise HTTPError(400, "1403", "Property image is missing")
        if self._content is None:
            raise HTTPError(400, "1400", "Image data is missing")
        last = self._content.end()
        mimetype = self._content.mimetype
        if mimetype is None:
            raise HTTPError(400, "1401", "Image is of no supported type")
        return last, UploadDescription({key: value for key, value in image.items() if key != "content"}, mimetype)

    def _step(self, data: bytes, start: int, decoded: list[bytes]) -> int:
        """Read one token and return its end; return `start` if the chunk ends inside of it."""
        if self._in_string:
            return self._read_string(data, start, decoded)
        sign = _STRUCTURE.search(data, start)
        end = sign.end() if sign else len(data)
        self._skeleton += data[start:end]
        if sign:
            self._on_structure(sign[0])
        return end

    def _on_structure(self, sign: bytes) -> None:
        if sign == b'"':
            self._in_string = True
            self._key = bytearray() if self._expects_key else None
            self._in_content = not self._expects_key and self._path == _CONTENT
            if self._in_content:
                # JSON allows duplicate keys, but the first content is already decoded and stored.
                if self._content is not None:
                    raise HTTPError(400, "1104", "Image data is given twice")
                self._content = _Content(self._oversize_status)
        elif sign in b"{[":
            # Lists have no keys; None matches no path.
            self._path.append(None)
            self._in_object.append(sign == b"{")
            self._expects_key = sign == b"{"
        elif sign in b"}]":
            # Slices instead of pop: an invalid document may close more than it has opened.
            del self._path[-1:], self._in_object[-1:]
            self._expects_key = False
        else:
            self._expects_key = sign == b"," and self._in_object[-1:] == [True]

    def _read_string(self, data: bytes, start: int, decoded: list[bytes]) -> int:
        if self._in_content and (end := self._read_common_escapes(data, start, decoded)) > start:
            return end
        special = _STRING.search(data, start)
        end = special.start() if special else len(data)
        self._take(data[start:end], data[start:end], decoded)
        if special is None:
            return end
        if special[0] == b'"':
            self._end_string()
            return special.end()
        width = _UNICODE_ESCAPE if data[end + 1 : end + 2] == b"u" else 2
        escape = data[end : end + width]
        if len(escape) < width:
            return end
        self._take(escape, _decode_escape(escape), decoded)
        return end + width

    def _read_common_escapes(self, data: bytes, start: int, decoded: list[bytes]) -> int:
        r"""Read the content up to its end if its only escapes are ``\/``, ``\r`` and ``\n``; else return `start`.

        Some languages write every slash of base64 as ``\/``. Stopping at each of them takes ten times as long.
        """
        end = data.find(b'"', start)
        end = len(data) if end < 0 else end
        # The last byte of a chunk may be the first half of an escape.
        if end == len(data) and data.endswith(b"\\"):
            end -= 1
        text = data[start:end]
        if b"\\" in text:
            text = text.replace(rb"\/", b"/").replace(rb"\r", b"\r").replace(rb"\n", b"\n")
            # One of two backslashes in a row is left, so an escaped backslash is not mistaken for another escape.
            if b"\\" in text:
                return start
        self._take(text, text, decoded)
        return end

    def _take(self, raw: bytes, text: bytes, decoded: list[bytes]) -> None:
        if self._in_content and self._content is not None:
            decoded.append(self._content.feed(text))
            return
        self._skeleton += raw
        if self._key is not None:
            self._key += text

    def _end_string(self) -> None:
        self._skeleton += b'"'
        if self._key is not None and self._path:
            self._path[-1] = self._key.decode(errors="replace")
        self._in_string = self._in_content = False


class _Content:
    """Decodes base64 in chunks, with or without a data URI before it."""

    def __init__(self, oversize_status: int) -> None:
        self._oversize_status = oversize_status
        self._head: bytes | None = b""
        self._carry = b""
        self._length = 0
        self._padded = False
        self._beginning = b""
        self._size = 0

    @property
    def mimetype(self) -> str | None:
        """The type, from the first bytes."""
        return detect_type(self._beginning)

    def feed(self, text: bytes) -> bytes:
        """Decode all complete groups of four characters."""
        if self._head is not None:
            text = self._without_prefix(self._head + text)
        # Line ends are common in base64 that was made for mail, and no document forbids them.
        data = self._carry + text.translate(None, b"\r\n")
        whole = len(data) // 4 * 4
        self._carry = data[whole:]
        return self._decode(data[:whole])

    def end(self) -> bytes:
        """Decode the rest; missing padding is accepted."""
        if head := self._head:
            self._head = None
            return self.feed(head) + self.end()
        carry, self._carry = self._carry, b""
        return self._decode(carry + b"=" * (-len(carry) % 4))

    def _without_prefix(self, text: bytes) -> bytes:
        """Remove a data URI. The text is kept back until it is clear whether it begins with one."""
        if not text[:5].lower().startswith(b"data:"[: len(text)]):
            self._head = None
            return text
        prefix, comma, rest = text.partition(b",")
        if not comma:
            if len(text) > _PREFIX_LIMIT:
                raise _not_base64()
            self._head = text
            return b""
        if _DATA_URI.fullmatch(prefix) is None:
            raise _not_base64()
        self._head = None
        return rest

    def _decode(self, data: bytes) -> bytes:
        if not data:
            return b""
        # Padding ends base64. The decoder sees one chunk at a time, so it cannot notice data after it.
        if self._padded:
            raise _not_base64()
        self._padded = data.endswith(b"=")
        try:
            decoded = b64decode(data, validate=True)
        except ValueError:
            raise _not_base64() from None
        self._length += len(data)
        self._size += len(decoded)
        self._beginning = (self._beginning + decoded[:HEAD_SIZE])[:HEAD_SIZE]
        self._check_size()
        return decoded

    def _check_size(self) -> None:
        # Documented: the limit of images counts base64 characters, that of PDFs decoded bytes.
        pdf = self.mimetype == PDF
        if self._size >= MAX_PDF_BYTES if pdf else self._length >= MAX_IMAGE_BASE64:
            raise HTTPError(self._oversize_status, None, "File too large")


def _decode_escape(escape: bytes) -> bytes:
    if len(escape) == _UNICODE_ESCAPE:
        digits = escape[2:]
        return chr(int(digits, 16)).encode(errors="replace") if _HEX.fullmatch(digits) else b"?"
    return _ESCAPES.get(escape[1:], b"?")


def _not_base64() -> HTTPError:
    return HTTPError(400, "1401", "Image is not valid base64")
