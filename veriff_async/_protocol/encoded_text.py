"""Decodes pictures that arrive as text: base64 (RFC 4648) and data URLs (RFC 2397).

Browsers and mobile apps often send pictures in JSON. The rules are strict, because a text that was cut or changed on
its way must not become a damaged picture. Errors never repeat a part of the text.
"""

from __future__ import annotations

import binascii
import re
from typing import Final
from urllib.parse import unquote_to_bytes

from pybase64 import b64decode

from veriff_async.errors import InvalidArgumentError, MediaTooLargeError, MediaUnsupportedError

__all__ = ("decode_base64", "decode_data_url")

# Largest file that is decoded: the largest that is converted.
_MAX_BYTES: Final = 64 * 1024 * 1024

_GROUP: Final = 4  # characters for three bytes
# Texts wrapped in lines are common: RFC 2045 wraps them at 76 characters, and so does the command base64.
_WHITESPACE: Final = b" \t\r\n"
_STANDARD: Final = re.compile(rb"[A-Za-z0-9+/]*")
_URL_SAFE: Final = re.compile(rb"[A-Za-z0-9_-]*")

# RFC 2397, 2: dataurl := "data:" [ mediatype ] [ ";base64" ] "," data. The head is short: a longer one is a mistake.
_MAX_HEAD: Final = 1024
_HEAD: Final = re.compile(rb"data:(?:[\w.+-]+/[\w.+-]+)?(?:;[^;,\s]+)*", re.IGNORECASE | re.ASCII)
_BASE64_MARK: Final = b";base64"
# The characters of base64, and the whitespace in it, that URLs may have escaped.
_ESCAPES: Final = {b"%2b": b"+", b"%2f": b"/", b"%3d": b"=", b"%0a": b"", b"%0d": b"", b"%09": b"", b"%20": b""}
# Each escape is an object while it is decoded, so this bounds memory. The RFC itself means short values only.
_MAX_ESCAPED: Final = 1024 * 1024
_ESCAPED: Final = re.compile(rb"(?:[!-$&-~]|%[0-9A-Fa-f]{2})*")


def decode_base64(text: object) -> bytes:
    """Return the bytes of a base64 text.

    Whitespace is ignored. The alphabet is the standard one with padding, or the one for URLs, with padding or without.

    Args:
        text: The text, as str or ASCII bytes.

    Raises:
        InvalidArgumentError: It is neither str nor bytes.
        MediaTooLargeError: It is longer than that of any accepted file.
        MediaUnsupportedError: It is not base64.
    """
    return _decode(_to_ascii(text))


def decode_data_url(text: object) -> bytes:
    """Return the bytes of a data URL, in base64 or escaped with percent signs.

    Args:
        text: The URL, as str or ASCII bytes.

    Raises:
        InvalidArgumentError: It is neither str nor bytes.
        MediaTooLargeError: It is longer than that of any accepted file.
        MediaUnsupportedError: It is not a data URL, or its data are invalid.
    """
    raw = _to_ascii(text).strip(_WHITESPACE)
    head, comma, data = raw[:_MAX_HEAD].partition(b",")
    if not comma or _HEAD.fullmatch(head) is None:
        msg = "The text is not a data URL, which begins like data:image/jpeg;base64, with a comma before the data."
        raise MediaUnsupportedError(msg)
    data = raw[len(head) + 1 :]
    if not head.lower().endswith(_BASE64_MARK):
        return _unescape(data)
    if b"%" in data:
        for escape, character in _ESCAPES.items():
            data = data.replace(escape, character).replace(escape.upper(), character)
    return _decode(data)


def _to_ascii(text: object) -> bytes:
    if not isinstance(text, str | bytes):
        msg = f"The text of the media must be str or bytes, not {type(text).__name__}: pass the text that you received."
        raise InvalidArgumentError(msg)
    # A quarter for line ends, escapes and the head of a URL.
    if len(text) > _MAX_BYTES // 3 * _GROUP * 5 // 4:
        msg = f"The text of the media has {len(text)} characters, more than any accepted file: send a smaller picture."
        raise MediaTooLargeError(msg)
    if isinstance(text, bytes):
        return text
    try:
        return text.encode("ascii")
    except UnicodeEncodeError:
        pass
    msg = "The text of the media has characters that are not ASCII: pass it as it was sent, in base64."
    raise MediaUnsupportedError(msg)


def _decode(text: bytes) -> bytes:
    compact = text.translate(None, _WHITESPACE)
    content = compact.rstrip(b"=")
    padding = len(compact) - len(content)
    url_safe = _STANDARD.fullmatch(content) is None
    if url_safe and _URL_SAFE.fullmatch(content) is None:
        msg = "The base64 text has characters of neither alphabet: pass only the base64, without quotes or a prefix."
        raise MediaUnsupportedError(msg)
    # RFC 4648, 3.2: padding is required unless the specification that refers to it says otherwise.
    missing = -len(content) % _GROUP
    if missing == _GROUP - 1 or (padding != missing and not (url_safe and padding == 0)):
        msg = "The base64 text has wrong padding, so it was probably cut: pass it whole, with the = signs at its end."
        raise MediaUnsupportedError(msg)
    try:
        return b64decode(content + b"=" * missing, altchars=b"-_" if url_safe else None, validate=True)
    except (binascii.Error, ValueError):
        pass
    msg = "The text of the media is not base64: pass it as it was sent."
    raise MediaUnsupportedError(msg)


def _unescape(data: bytes) -> bytes:
    if len(data) > _MAX_ESCAPED:
        msg = f"The data URL has {len(data)} characters without base64: send it with ;base64 before the comma."
        raise MediaTooLargeError(msg)
    if _ESCAPED.fullmatch(data) is None:
        msg = "The data URL has characters that must be escaped with a percent sign: create it again, with ;base64."
        raise MediaUnsupportedError(msg)
    return unquote_to_bytes(data)
