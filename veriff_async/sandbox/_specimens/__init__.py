"""Pictures to try the whole flow with: an invented card and a drawn face, all marked SPECIMEN."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import frozen

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

__all__ = ("SPECIMENS", "SPECIMEN_FILES", "SpecimenFile", "specimen")

SPECIMENS: Final = ("document-front.webp", "document-back.webp", "face.webp")


@frozen
class SpecimenFile:
    """The file of a picture, described without reading it: a sandbox is filled in an event loop.

    Attributes:
        context: The context of the picture.
        size: Its size in bytes.
        sha256: Hex digest of its bytes.
        path: The file; it does not exist where the package is not unpacked.
    """

    context: str
    size: int
    sha256: str
    path: Path


def _describe(context: str, size: int, sha256: str) -> SpecimenFile:
    return SpecimenFile(context, size, sha256, Path(__file__).with_name(f"{context}.webp"))


SPECIMEN_FILES: Final = (
    _describe("document-front", 7268, "054548641dc0c1bac57c13ac12c802e3b6c28075782a084a0e05e1bb1c7b5da3"),
    _describe("document-back", 7798, "eb694e52bc8ffc1804f259bd839d4d3255ed9fb0da0aaca9410d46a06ec02a78"),
    _describe("face", 5186, "a6c6da67fcf71e8954ba0172d320c8edb48fd61117b97e7e9de4a73dc4798a23"),
)


def specimen(name: str) -> AbstractContextManager[Path]:
    """Give one picture as a real file, even where the package itself is not unpacked."""
    return as_file(files(__name__) / name)
