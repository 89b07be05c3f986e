"""Stable fakes for values: equal values get equal fakes, and no one can compute them without the key. Pure.

A fake has the form of its value, so that clients accept it: a UUID, a date, digits, an address. It is made from an HMAC
of the value with a key that is random for each cassette and is not written. Without a key, a name or a date of birth
could be found by trying all of them.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from base64 import b32encode
from datetime import date, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = (
    "Fakes",
    "fill",
)

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_FIRST_DAY: Final = date(1930, 1, 1)
_DAYS: Final = 70 * 365
_FLOAT_DIGITS: Final = 17
# A fake that equals its value by chance, as one of ten digits does, is made again with another salt.
_ATTEMPTS: Final = 20


class Fakes:
    """Makes fakes with one key."""

    def __init__(self, key: bytes) -> None:
        """Take the key."""
        self._key = key

    def text(self, value: str) -> str:
        """Return the fake of a text. An empty text stays."""
        if not value:
            return value
        fakes = (self._text(value, attempt) for attempt in range(_ATTEMPTS))
        return next((fake for fake in fakes if fake != value), "fake")

    def number(self, value: float) -> float:
        """Return the fake of a number, with as many digits before the point; a whole number stays whole."""
        whole = abs(int(value))
        # A float has no more digits than this, and an integer of as many digits is beyond the largest float.
        digits = str(whole) if isinstance(value, int) else str(whole)[:_FLOAT_DIGITS]
        # Digits of a text and the same number get the same fake, because Veriff writes some numbers as text.
        fakes = (int(_digits(self._digest(digits, attempt), len(digits))) for attempt in range(_ATTEMPTS))
        fake = next((each for each in fakes if each != whole), 0)
        if isinstance(value, int):
            return fake
        return fake + int.from_bytes(self._digest(repr(value), 0)[:2]) % 100 / 100

    def _text(self, value: str, attempt: int) -> str:
        # UUIDs are compared without case everywhere, so both spellings are one value.
        digest = self._digest(value.lower() if _UUID.fullmatch(value) else value, attempt)
        for form, make in _FORMS:
            if (match := form.fullmatch(value)) is not None:
                return make(digest, match)
        return _address(value, digest) or _word(digest)

    def _digest(self, value: str, attempt: int) -> bytes:
        # Lone surrogates are valid in JSON.
        text = f"{attempt}\0{value}".encode(errors="surrogatepass")
        return hmac.digest(self._key, text, hashlib.sha256)


def _word(digest: bytes) -> str:
    return f"fake-{b32encode(digest[:10]).decode().lower()}"


def _uuid(digest: bytes, _: re.Match[str]) -> str:
    return str(UUID(bytes=digest[:16], version=4))


def _date(digest: bytes, _: re.Match[str]) -> str:
    return str(_FIRST_DAY + timedelta(days=int.from_bytes(digest[:4]) % _DAYS))


def _time(digest: bytes, match: re.Match[str]) -> str:
    separator, seconds, fraction, zone = match.groups(default="")
    zeros = "." + "0" * (len(fraction) - 1) if fraction else ""
    return f"{_date(digest, match)}{separator}00:00{seconds and ':00'}{zeros}{zone and 'Z'}"


def _number_text(digest: bytes, match: re.Match[str]) -> str:
    return match[1] + _digits(digest, len(match[2]))


def _digits(digest: bytes, size: int) -> str:
    text = str(int.from_bytes(hashlib.shake_256(digest).digest(size)) % 10**size).zfill(size)
    # No zero in front, which would be lost in a number.
    return text if size == 1 or text[0] != "0" else f"1{text[1:]}"


def _url(digest: bytes, _: re.Match[str]) -> str:
    return f"https://redacted.example/{_word(digest)}"


def _email(digest: bytes, _: re.Match[str]) -> str:
    return f"{_word(digest)}@redacted.example"


def _address(value: str, digest: bytes) -> str | None:
    try:
        version = ipaddress.ip_address(value).version
    except ValueError:
        return None
    # Networks for tests and for documents: https://www.iana.org/assignments/iana-ipv4-special-registry.
    if version == 4:  # noqa: PLR2004
        return str(ipaddress.IPv4Address("198.18.0.0") + int.from_bytes(digest[:4]) % 2**17)
    return str(ipaddress.IPv6Address("2001:db8::") + int.from_bytes(digest[:8]))


_FORMS: Final = (
    (_UUID, _uuid),
    (re.compile(r"\d{4}-\d\d-\d\d", re.ASCII), _date),
    (re.compile(r"\d{4}-\d\d-\d\d([T ])\d\d:\d\d(:\d\d)?(\.\d{1,9})?(Z|[+-]\d\d:?\d\d)?", re.ASCII), _time),
    (re.compile(r"(\+?)(\d{4,40})", re.ASCII), _number_text),
    (re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://\S*", re.ASCII), _url),
    (re.compile(r"[^@\s]+@[^@\s]+"), _email),
)


_CHUNK_BYTES: Final = 64 * 1024
# Clients and this library recognise a type by its first bytes (see `_protocol.image_header`).
_BEGINNINGS: Final = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/webp": b"RIFF\0\0\0\0WEBPVP8 ",
    "image/heic": b"\0\0\0\x18ftypheic\0\0\0\0heicmif1",
    "image/heif": b"\0\0\0\x18ftypmif1\0\0\0\0mif1heif",
    "application/pdf": b"%PDF-1.7\n",
}


def fill(media_type: object, size: int, picture: bytes) -> Iterator[bytes]:
    """Return the bytes in chunks.

    Args:
        media_type: The recorded type.
        size: The recorded size.
        picture: A JPEG file. It is the beginning of a filler that is large enough, so that programs can show it:
            decoders ignore bytes after its end.
    """
    beginning = _BEGINNINGS.get(str(media_type), b"")
    if media_type == "image/jpeg":
        beginning = picture if size >= len(picture) else b"\xff\xd8\xff\xe0"
    yield beginning[:size]
    left = size - len(beginning)
    while left > 0:
        yield bytes(min(left, _CHUNK_BYTES))
        left -= _CHUNK_BYTES
