"""Explains common mistakes in the source of a media: text in place of the bytes of a picture."""

from __future__ import annotations

import binascii
import codecs
import re
from typing import Final

from veriff_async._protocol.image_header import HEAD_SIZE, detect_type

__all__ = ("explain_path", "explain_text", "missing_file_remedy")

# At least two letters, because one is a Windows drive. One slash, because `pathlib` removes the second.
_SCHEME: Final = re.compile(rb"([a-z][a-z0-9+.-]+):/", re.IGNORECASE)

_WEB: Final = frozenset({b"http", b"https", b"ftp"})
_OBJECT_STORES: Final = frozenset(
    {b"s3", b"s3a", b"gs", b"gcs", b"az", b"abfs", b"abfss", b"wasb", b"wasbs", b"r2", b"minio"}
)
# At least 16 characters, because shorter ones are ordinary file names.
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_-]{16,}={0,2}")
_HEX: Final = re.compile(rb"[0-9A-Fa-f]{16,}")
# Control characters that text does not contain: all except tab, line ends and escape.
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
# First bytes of picture types that are not accepted, and that could pass for text.
_READABLE_MARKS: Final = (b"GIF8", b"BM", b"II*", b"MM*")

_MAX_PATH: Final = 1000


def explain_path(path: str) -> str | None:
    """Return the mistake behind a path that cannot be opened, or ``None`` when it looks like a path."""
    head = path.encode("utf-8", "surrogatepass")[: 4 * HEAD_SIZE].strip()
    if (mistake := _explain_reference(head) or _explain_encoding(head)) is not None:
        return mistake
    if len(path) > _MAX_PATH or "\n" in path or head[:1] in {b"<", b"{"}:
        return "is a text and not a path: give a path, or the bytes of the picture"
    return None


def missing_file_remedy(path: str, separator: str) -> str:
    """Return how to find a file that does not exist.

    Args:
        path: Its path.
        separator: What this system writes between folders: ``os.sep``.
    """
    # A manifest from Windows, for one; elsewhere a backslash is part of a name.
    if separator == "/" and "\\" in path:
        return "write its path with / between folders"
    return "check its path"


def explain_text(head: bytes) -> str | None:
    """Return the mistake behind content that is not a picture, or ``None`` when it is not text.

    Args:
        head: The first bytes. They never become part of the result.
    """
    start = head[:HEAD_SIZE].strip()
    if (mistake := _explain_reference(start) or _explain_encoding(start)) is not None:
        return mistake
    if not _is_text(start):
        return None
    if start[:1] in {b"<", b"{"}:
        return "is a web page or JSON, perhaps an error message: check where it comes from"
    return "is text: give a JPEG, PNG, WebP, HEIC, HEIF or PDF, as its bytes or by its path as str or Path"


def _is_text(start: bytes) -> bool:
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return True
    if not start or start.startswith(_READABLE_MARKS) or _CONTROL.search(start) is not None:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)  # incremental, since the last character may be cut
    except UnicodeDecodeError:
        return False
    return True


def _explain_reference(head: bytes) -> str | None:
    """Explain a URL in place of the file itself."""
    if head[:5].lower() == b"data:":
        return "is a data URL: pass Media.from_data_url(text, context)"
    if (match := _SCHEME.match(head)) is None:
        return None
    scheme = match[1].lower()
    if scheme in _WEB:
        return f"is a URL ({scheme.decode()}://): download it, and give its bytes or an async iterator of them"
    if scheme in _OBJECT_STORES:
        return (
            f"is the address of an object in a cloud storage ({scheme.decode()}://): read the object with the "
            "client of that storage, and give its bytes"
        )
    if scheme == b"file":
        return "is a file:// URL: give the path alone"
    return "is a URL: read what it points to, and give the bytes"


def _explain_encoding(head: bytes) -> str | None:
    """Explain a picture that is still encoded as base64 or hexadecimal text."""
    text = b"".join(head.split())
    if _BASE64.fullmatch(text) is None:
        return None
    whole = text.rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    if detect_type(binascii.a2b_base64(whole[: len(whole) // 4 * 4])) is not None:
        return "is base64 text: pass Media.from_base64(text, context)"
    if _HEX.fullmatch(text) is not None and detect_type(bytes.fromhex(text[: len(text) // 2 * 2].decode())) is not None:
        return "is hexadecimal text: decode it with bytes.fromhex, and give the bytes"
    return None
