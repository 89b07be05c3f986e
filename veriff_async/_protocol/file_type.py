"""The type of a media file from its first bytes: the closed set that Veriff takes.

https://devdocs.veriff.com/apidocs/v1sessionsidmedia-3 lists jpg, jpeg, png, heif, heic, webp and pdf.
"""

from __future__ import annotations

from typing import Final

__all__ = ("HEAD", "MIMETYPES", "PDF", "sniff")

PDF: Final = "application/pdf"
_PDF_MARK: Final = b"%PDF-"
_PDF_WITHIN: Final = 1024
"""Bytes in which a PDF's header may start: some writers put other bytes before it, and readers accept that (Adobe's PDF
Reference 1.7, appendix H.3, note 13)."""

HEAD: Final = _PDF_WITHIN + len(_PDF_MARK) - 1
"""Bytes of a file's beginning that `sniff` needs."""

MIMETYPES: Final = ("image/jpeg", "image/png", "image/webp", "image/heic", "image/heif", PDF)

# ISO base media brands (https://www.iana.org/assignments/media-types/image/heic and /image/heif): the HEVC ones say
# HEIC, the structural ones alone say HEIF. AVIF shares the structural brands and is not taken by Veriff.
_HEIC: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_HEIF: Final = frozenset({b"mif1", b"msf1", b"mif2"})
_AVIF: Final = frozenset({b"avif", b"avis"})


def sniff(head: bytes) -> str | None:
    """Return the MIME type that the first bytes show, or ``None`` when Veriff takes nothing like it.

    Args:
        head: At least the first `HEAD` bytes, or the whole file when it is shorter.
    """
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp":
        return _sniff_brands(head)
    return PDF if _PDF_MARK in head[:HEAD] else None


def _sniff_brands(head: bytes) -> str | None:
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))}
    if brands & _AVIF:
        return None
    if brands & _HEIC:
        return "image/heic"
    return "image/heif" if brands & _HEIF else None
