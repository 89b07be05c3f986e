"""Writes the specimen pictures, or checks the stored ones: `python -m tools.draw_specimens [--check] [FOLDER]`.

Needs Pillow, from the extra `[images]`. Drawing takes some seconds, so the check is a stage of `.ci/run`, not a test.
"""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path
from typing import Final

from PIL import Image, ImageChops, ImageStat

from tools.draw_specimens.draw import PICTURES, encode

FOLDER: Final = Path(__file__).parents[2] / "veriff_async" / "sandbox" / "_specimens"
MAX_DIFFERENCE: Final = 2.0  # mean of each colour channel, of 255: versions of Pillow round differently


def write(folder: Path) -> None:
    """Write all pictures into a folder."""
    for name, draw in PICTURES.items():
        (folder / name).write_bytes(encode(draw(), Path(name).suffix))


def differences(folder: Path) -> list[str]:
    """Return the names of pictures in a folder that do not look like freshly drawn ones."""
    names: list[str] = []
    for name, draw in PICTURES.items():
        with Image.open(folder / name) as stored, Image.open(BytesIO(encode(draw(), Path(name).suffix))) as drawn:
            is_same = stored.size == drawn.size and (
                max(ImageStat.Stat(ImageChops.difference(stored.convert("RGB"), drawn.convert("RGB"))).mean)
                < MAX_DIFFERENCE
            )
            if not is_same:
                names.append(name)
    return names


def main(arguments: list[str]) -> None:
    """Write or check."""
    check = "--check" in arguments
    folder = next((Path(word) for word in arguments if not word.startswith("-")), FOLDER)
    if not check:
        write(folder)
    elif names := differences(folder):
        sys.exit(f"Drawn differently by this version: {', '.join(names)}. Run python -m tools.draw_specimens.")


if __name__ == "__main__":
    main(sys.argv[1:])
