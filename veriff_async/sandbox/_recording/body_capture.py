"""Reads a body that passes by, in constant memory.

JSON is kept, except for strings that are pictures, or long: those are decoded and hashed while they pass, and the JSON
gets a `Blob` in their place. So a picture of any size costs the memory of one chunk. A body that is not JSON becomes a
`Blob` as a whole.

The scanner follows strings only, and knows neither objects nor lists: to find the end of a string it needs no more, and
the JSON parser sees the rest. A string that has become long is cut out of the text, and a mark that no one can guess
stands for it until the text is parsed.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, cast

from attrs import field, frozen
from pybase64 import b64decode

from veriff_async._protocol.image_header import HEAD_SIZE, detect_type
from veriff_async._protocol.json.parse import parse_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ("MAX_DEPTH", "Blob", "BodyCapture", "CapturedBody", "is_too_deep")

# Strings of more bytes are hashed rather than kept; a token of Veriff's has some hundred bytes.
_LONG: Final = 16 * 1024
# JSON without its long strings. Veriff's largest responses have some ten thousand bytes.
_MAX_JSON: Final = 1024 * 1024
MAX_DEPTH: Final = 100
"""Objects and lists in each other. Veriff's have some ten, and recursive functions read and write them."""
# A small body may unpack to any size; the work for it must have an end.
_MAX_UNPACKED: Final = 512 * 1024 * 1024
_UNPACK_BYTES: Final = 64 * 1024
_GZIP_OR_ZLIB: Final = 47  # https://docs.python.org/3/library/zlib.html#zlib.decompress, wbits
_ESCAPE: Final = re.compile(rb"\\(?:u[0-9a-fA-F]{4}|[^u])", re.DOTALL)
_HALF_ESCAPE: Final = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_DATA_URI: Final = re.compile(rb"\s*data:[^,]{0,200},", re.IGNORECASE)
_URI_HEAD: Final = 256
# The shortest text that is tried as a picture: a PNG of one pixel has 67 bytes.
_SHORTEST_PICTURE: Final = 40
_BASE64: Final = re.compile(r"[A-Za-z0-9+/=_\r\n-]+", re.ASCII)
_FROM_URL_SAFE: Final = str.maketrans("-_", "+/")
# Base64 of more characters is data of a person also if its type is unknown, as that of a chip.
_LONG_BASE64: Final = 1024


@frozen
class Blob:
    """Bytes that a cassette does not contain.

    Attributes:
        size: Their number. For a string that could not be decoded, the number of its bytes.
        media_type: The type, if they are a picture or a PDF.
        sha256: The digest in hex, of pictures and PDFs only: of a short text it would give the text away.
    """

    size: int
    media_type: str | None = None
    sha256: str | None = None


@frozen(kw_only=True)
class CapturedBody:
    """A body that has passed by.

    Attributes:
        size: Bytes as sent, with their compression.
        is_json: Whether `content` is JSON.
        content: The JSON, with a `Blob` for each picture and long string; otherwise the `Blob` of the whole body.
    """

    size: int
    is_json: bool = False
    content: object = field(default=None, repr=False)


class BodyCapture:
    """Reads one body chunk by chunk."""

    def __init__(self, content_encoding: str = "") -> None:
        """Start.

        Args:
            content_encoding: The header. Only ``gzip`` and ``deflate`` are unpacked; other bodies are a `Blob`.
        """
        self.size: int = 0
        encoding = content_encoding.strip().lower()
        self._unpacker = zlib.decompressobj(_GZIP_OR_ZLIB) if encoding in {"gzip", "x-gzip", "deflate"} else None
        self._is_readable = self._unpacker is not None or encoding in {"", "identity"}
        self._unpacked = 0
        self._hash = _Hash()
        self._scanner: _Scanner | None = _Scanner()

    def feed(self, chunk: bytes) -> None:
        """Read the next chunk."""
        self.size += len(chunk)
        for piece in self._unpack(chunk):
            self._hash.feed(piece)
            if self._scanner is not None and not self._scanner.feed(piece):
                self._scanner = None

    def finish(self) -> CapturedBody:
        """Return what has passed; the body may have broken off."""
        if self._is_readable and self._scanner is not None and self.size:
            found, content = self._scanner.finish()
            if found:
                return CapturedBody(size=self.size, is_json=True, content=content)
        # The type of compressed bytes that could not be unpacked is unknown.
        content = self._hash.finish() if self._is_readable else Blob(self.size)
        return CapturedBody(size=self.size, content=content)

    def _unpack(self, chunk: bytes) -> Iterator[bytes]:
        if self._unpacker is None:
            yield chunk
            return
        while chunk and self._is_readable:
            try:
                piece = self._unpacker.decompress(chunk, _UNPACK_BYTES)
            except zlib.error:
                self._is_readable = False
                return
            self._unpacked += len(piece)
            self._is_readable = self._unpacked <= _MAX_UNPACKED
            yield piece
            chunk = self._unpacker.unconsumed_tail


class _Hash:
    """Size, type and digest of bytes."""

    def __init__(self) -> None:
        self._size = 0
        self._head = b""
        self._sha256 = hashlib.sha256()

    def feed(self, piece: bytes) -> None:
        self._size += len(piece)
        if len(self._head) < HEAD_SIZE:
            self._head += piece[: HEAD_SIZE - len(self._head)]
        self._sha256.update(piece)

    def finish(self) -> Blob:
        media_type = detect_type(self._head)
        return Blob(self._size, media_type, self._sha256.hexdigest() if media_type else None)


class _LongString:
    """A JSON string in pieces, decoded as base64 while it passes; a data URI may precede the base64."""

    def __init__(self) -> None:
        self._size = 0
        self._is_base64 = True
        self._escape = b""
        self._head: bytes | None = b""
        self._carry = b""
        self._hash = _Hash()

    def feed(self, piece: bytes) -> None:
        """Take raw bytes between the quotes, with their escapes."""
        self._size += len(piece)
        if not self._is_base64:
            return
        piece = self._escape + piece
        self._escape = b""
        if b"\\" in piece:
            if (half := _HALF_ESCAPE.search(piece)) is not None:
                piece, self._escape = piece[: half.start()], piece[half.start() :]
            piece = _ESCAPE.sub(_unescape, piece)
        if self._head is not None:
            self._head += piece
            if len(self._head) < _URI_HEAD:
                return
            piece = self._without_uri()
        self._decode(piece)

    def finish(self) -> Blob:
        if self._head is not None:
            self._decode(self._without_uri())
        if self._carry:
            self._decode(b"=" * (-len(self._carry) % 4))
        found = self._hash.finish()
        return found if self._is_base64 and found.media_type else Blob(self._size)

    def _without_uri(self) -> bytes:
        text, self._head = self._head or b"", None
        uri = _DATA_URI.match(text)
        return text if uri is None else text[uri.end() :]

    def _decode(self, text: bytes) -> None:
        data = self._carry + text.translate(None, b" \t\r\n")
        whole = len(data) // 4 * 4
        self._carry = data[whole:]
        try:
            self._hash.feed(b64decode(data[:whole], validate=True))
        except ValueError:
            self._is_base64 = False


class _Scanner:
    """JSON in chunks, without its long strings."""

    def __init__(self) -> None:
        self._text = bytearray()
        self._mark = secrets.token_hex(16)
        self._blobs: list[Blob] = []
        self._started = False
        # Where the present string begins in the text; -1 between strings.
        self._string = -1
        self._long: _LongString | None = None
        self._is_escaped = False

    def feed(self, data: bytes) -> bool:
        """Take the next chunk; false if the body is not JSON that can be kept."""
        if not self._started:
            head = data.lstrip()
            if not head:
                return True
            self._started = True
            if head[:1] not in b"{[":
                return False
        position = 0
        while position < len(data):
            if self._string < 0:
                quote = data.find(b'"', position)
                if quote < 0:
                    self._text += data[position:]
                    break
                self._text += data[position : quote + 1]
                self._string, position = len(self._text), quote + 1
            else:
                position = self._read_string(data, position)
        return len(self._text) <= _MAX_JSON

    def finish(self) -> tuple[bool, object]:
        """Return whether it was JSON, and the value."""
        try:
            value = parse_json(bytes(self._text))
            return (False, None) if is_too_deep(value) else (True, self._restore(value))
        except (ValueError, RecursionError):
            return False, None

    def _read_string(self, data: bytes, position: int) -> int:
        """Read to the end of the string or of the chunk, and return the position after it."""
        end = start = position
        while True:
            if self._is_escaped:
                # The byte after a backslash at the end of the last piece.
                self._is_escaped = False
                end += 1
            quote = data.find(b'"', end)
            stop = len(data) if quote < 0 else quote
            backslashes = stop - end - len(data[end:stop].rstrip(b"\\"))
            if quote < 0:
                self._is_escaped = backslashes % 2 == 1
                self._take(data[start:])
                return len(data)
            if backslashes % 2 == 0:
                self._take(data[start:quote])
                self._end_string()
                return quote + 1
            end = quote + 1

    def _take(self, piece: bytes) -> None:
        if self._long is None:
            self._text += piece
            if len(self._text) - self._string > _LONG:
                self._long = _LongString()
                self._long.feed(bytes(self._text[self._string :]))
                del self._text[self._string :]
        else:
            self._long.feed(piece)

    def _end_string(self) -> None:
        if self._long is not None:
            self._text += f"{self._mark}{len(self._blobs)}".encode()
            self._blobs.append(self._long.finish())
            self._long = None
        self._text += b'"'
        self._string = -1

    def _restore(self, value: object) -> object:
        if isinstance(value, str):
            if value.startswith(self._mark):
                return self._blobs[int(value.removeprefix(self._mark))]
            return _find_picture(value) or value
        if isinstance(value, list):
            return [self._restore(item) for item in cast("list[object]", value)]
        if isinstance(value, Mapping):
            members = cast("Mapping[str, object]", value)
            # A name may be long, too.
            return {str(self._name(name)): self._restore(member) for name, member in members.items()}
        return value

    def _name(self, name: str) -> str:
        return "long" if name.startswith(self._mark) else name


def is_too_deep(value: object, limit: int = MAX_DEPTH) -> bool:
    """Return whether JSON has more than `limit` objects and lists in each other."""
    level = [value]
    for _ in range(limit):
        level = [item for each in level for item in _items(each)]
    return any(isinstance(each, Mapping | list) for each in level)


def _items(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return cast("Mapping[str, object]", value).values()
    return cast("list[object]", value) if isinstance(value, list) else ()


def _find_picture(value: str) -> Blob | None:
    """Return the blob of a text that is a picture or long data in base64."""
    text = value.strip()
    if len(text) < _SHORTEST_PICTURE:
        return None
    is_uri = text[:5].lower() == "data:"
    text = text[text.find(",") + 1 :] if is_uri else text
    if not _BASE64.fullmatch(text):
        return None
    found = _LongString()
    found.feed(text.translate(_FROM_URL_SAFE).encode())
    blob = found.finish()
    if blob.media_type:
        return blob
    return Blob(len(value)) if is_uri or len(text) > _LONG_BASE64 else None


def _unescape(escape: re.Match[bytes]) -> bytes:
    text = escape[0]
    if text[1:2] == b"u":
        return chr(int(text[2:], 16)).encode(errors="replace")  # noqa: FURB166  not a literal of Python
    # Of the other escapes only the slash occurs in base64, and line ends are removed; the rest is not base64 anyway.
    return {b"n": b"\n", b"r": b"\r", b"t": b"\t"}.get(text[1:], text[1:])
