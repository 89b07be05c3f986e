"""Pictures to try the whole flow with: an invented card and a drawn face, all marked SPECIMEN."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

__all__ = ("SPECIMENS", "specimen")

SPECIMENS: Final = ("document-front.jpg", "document-back.jpg", "face.jpg")


def specimen(name: str) -> AbstractContextManager[Path]:
    """Give one picture as a real file, even where the package itself is not unpacked."""
    return as_file(files(__name__) / name)
