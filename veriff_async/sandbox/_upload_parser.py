"""The upload body, read as it comes in: pure, bounded, cut anywhere.

The base64 text at ``image.content`` is decoded and handed on piece by piece. Everything else is kept, up to
`SKELETON_LIMIT` bytes, as the same JSON with an empty content, and read at the end.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from attrs import frozen
from pybase64 import b64decode

from veriff_async._protocol.file_type import HEAD, PDF, sniff
from veriff_async._protocol.json.decode import dump, load_object
from veriff_async._protocol.limits import MAX_IMAGE_BASE64, MAX_PDF_BYTES
from veriff_async.errors import DecodeError
from veriff_async.models.json import as_object
from veriff_async.sandbox import _validation
from veriff_async.sandbox._errors import HTTPError

if TYPE_CHECKING:
    from veriff_async.models.json import JsonObject

__all__ = ("SKELETON_LIMIT", "Described", "UploadParser")

# Room for what was read from a chip, whose portrait has some ten kilobytes.
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
_PREFIX_LIMIT: Final = 256
_UNICODE_ESCAPE: Final = 6
_CONTENT: Final = ["image", "content"]


@frozen
class Described:
    """What an upload says of itself, once it is whole.

    Attributes:
        image: The ``image`` object without its content; ``None`` for a reading of a chip.
        mimetype: The type that the first bytes show.
    """

    image: JsonObject | None
    mimetype: str


class UploadParser:
    """Reads one upload body."""

    def __init__(self, *, oversize_status: int) -> None:
        """Begin a body; `oversize_status` is the HTTP status of the refusal of a file that is too large."""
        self._oversize_status = oversize_status
        self._rest = b""
        self._skeleton = bytearray()
        # The key that is being read at each depth, and whether the depth is an object.
        self._path: list[str | None] = []
        self._in_object: list[bool] = []
        self._expects_key = False
        self._in_string = False
        self._key: bytearray | None = None
        self._in_content = False
        self._content: _Content | None = None

    def feed(self, chunk: bytes) -> bytes:
        """Read the next chunk of the body.

        Returns:
            The bytes of the picture that it completed.

        Raises:
            Refusal: The picture is too large or no base64, or the rest of the body is too large.
        """
        data = self._rest + chunk
        at = 0
        out: list[bytes] = []
        while at < len(data) and (ahead := self._step(data, at, out)) > at:
            at = ahead
        self._rest = data[at:]
        if len(self._skeleton) > SKELETON_LIMIT:
            raise HTTPError(self._oversize_status, None, "Request body too large")
        return b"".join(out)

    def finish(self) -> tuple[bytes, Described]:
        """End the body.

        Returns:
            The last bytes of the picture, and what the body says.

        Raises:
            Refusal: The body is not JSON, or something in it is missing or wrong.
        """
        self._skeleton += self._rest
        try:
            root = load_object(bytes(self._skeleton))
        except DecodeError:
            raise HTTPError(400, "1104", "Request body is not a JSON object") from None
        # Both are guesses at the member of a chip's reading; the better one is what the client sends.
        chip = as_object(root.get("nfcDocument", root.get("nfc")))
        if chip is not None:
            _validation.check_nfc(chip)
            return dump(chip), Described(None, "application/json")
        image = as_object(root.get("image"))
        if image is None:
            raise HTTPError(400, "1403", "Property image is missing")
        if self._content is None:
            raise HTTPError(400, "1400", "Image data is missing")
        last = self._content.end()
        mimetype = self._content.mimetype
        if mimetype is None:
            raise HTTPError(400, "1401", "Image is of no supported type")
        return last, Described({key: value for key, value in image.items() if key != "content"}, mimetype)

    def _step(self, data: bytes, at: int, out: list[bytes]) -> int:
        """Read up to the next turn of the grammar; `at` itself when the chunk is cut inside it."""
        if self._in_string:
            return self._read_string(data, at, out)
        found = _STRUCTURE.search(data, at)
        end = found.end() if found else len(data)
        self._skeleton += data[at:end]
        if found:
            self._turn(found[0])
        return end

    def _turn(self, sign: bytes) -> None:
        if sign == b'"':
            self._in_string = True
            self._key = bytearray() if self._expects_key else None
            self._in_content = not self._expects_key and self._path == _CONTENT
            if self._in_content:
                if self._content is not None:
                    raise HTTPError(400, "1104", "Image data is given twice")
                self._content = _Content(self._oversize_status)
        elif sign in b"{[":
            # Inside a list there are no keys; None matches no path.
            self._path.append(None)
            self._in_object.append(sign == b"{")
            self._expects_key = sign == b"{"
        elif sign in b"}]":
            del self._path[-1:], self._in_object[-1:]
            self._expects_key = False
        else:
            self._expects_key = sign == b"," and self._in_object[-1:] == [True]

    def _read_string(self, data: bytes, at: int, out: list[bytes]) -> int:
        if self._in_content and (end := self._read_usual_escapes(data, at, out)) > at:
            return end
        found = _STRING.search(data, at)
        end = found.start() if found else len(data)
        self._take(data[at:end], data[at:end], out)
        if found is None:
            return end
        if found[0] == b'"':
            self._end_string()
            return found.end()
        width = _UNICODE_ESCAPE if data[end + 1 : end + 2] == b"u" else 2
        escape = data[end : end + width]
        if len(escape) < width:
            return end
        self._take(escape, _unescaped(escape), out)
        return end + width

    def _read_usual_escapes(self, data: bytes, at: int, out: list[bytes]) -> int:
        r"""Read the picture's text at once if it has no escapes but ``\/``, ``\r`` and ``\n``; else stay at `at`.

        Some languages write every slash of base64 as ``\/``, and to stop at each would take ten times as long.
        """
        end = data.find(b'"', at)
        end = len(data) if end < 0 else end
        # The last sign of a chunk may be the first half of an escape.
        if end == len(data) and data.endswith(b"\\"):
            end -= 1
        text = data[at:end]
        if b"\\" in text:
            text = text.replace(rb"\/", b"/").replace(rb"\r", b"\r").replace(rb"\n", b"\n")
            # Of two backslashes in a row one is left, so nothing is taken for what it is not.
            if b"\\" in text:
                return at
        self._take(text, text, out)
        return end

    def _take(self, written: bytes, meant: bytes, out: list[bytes]) -> None:
        if self._in_content and self._content is not None:
            out.append(self._content.feed(meant))
            return
        self._skeleton += written
        if self._key is not None:
            self._key += meant

    def _end_string(self) -> None:
        self._skeleton += b'"'
        if self._key is not None and self._path:
            self._path[-1] = self._key.decode(errors="replace")
        self._in_string = self._in_content = False


class _Content:
    """Decodes base64 that comes in pieces, with or without a data URI before it."""

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
        """The type that the first bytes show."""
        return sniff(self._beginning)

    def feed(self, text: bytes) -> bytes:
        """Decode what is complete."""
        if self._head is not None:
            text = self._without_prefix(self._head + text)
        # Line ends inside base64 are common where it was made for mail, and no document forbids them.
        data = self._carry + text.translate(None, b"\r\n")
        whole = len(data) // 4 * 4
        self._carry = data[whole:]
        return self._decode(data[:whole])

    def end(self) -> bytes:
        """Decode the rest; missing padding is forgiven."""
        if head := self._head:
            self._head = None
            return self.feed(head) + self.end()
        carry, self._carry = self._carry, b""
        return self._decode(carry + b"=" * (-len(carry) % 4))

    def _without_prefix(self, text: bytes) -> bytes:
        """Hold the text back until it is known whether it begins as a data URI."""
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
        if self._padded:
            raise _not_base64()
        self._padded = data.endswith(b"=")
        try:
            decoded = b64decode(data, validate=True)
        except ValueError:
            raise _not_base64() from None
        self._length += len(data)
        self._size += len(decoded)
        self._beginning = (self._beginning + decoded[:HEAD])[:HEAD]
        self._check_size()
        return decoded

    def _check_size(self) -> None:
        pdf = self.mimetype == PDF
        if self._size >= MAX_PDF_BYTES if pdf else self._length >= MAX_IMAGE_BASE64:
            raise HTTPError(self._oversize_status, None, "File too large")


def _unescaped(escape: bytes) -> bytes:
    if len(escape) == _UNICODE_ESCAPE:
        digits = escape[2:]
        return chr(int(digits, 16)).encode(errors="replace") if _HEX.fullmatch(digits) else b"?"
    return _ESCAPES.get(escape[1:], b"?")


def _not_base64() -> HTTPError:
    return HTTPError(400, "1401", "Image is not valid base64")
