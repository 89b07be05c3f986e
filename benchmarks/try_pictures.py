"""Tries the conversion of pictures on a folder of real ones, damaged copies included, and prints a table of results.

    python -m benchmarks.try_pictures FOLDER [copies]

The tables in docs/project/picture-evaluation.md were made with the pictures in the source distributions of Pillow,
pillow-heif, exif and piexif, and in scikit-image. Each picture is converted as it is, and then so many damaged copies:
cut at a random place, or with random bytes changed. Anything but a JPEG or an error of this library ends the program
with a traceback.
"""

from __future__ import annotations

import io
import random
import resource
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Final

from PIL import Image

from veriff_async._media.convert import convert
from veriff_async._media.source import BytesSource
from veriff_async._protocol.image_header import HEAD_SIZE, PDF
from veriff_async._protocol.media_rules import check_size, type_of
from veriff_async.errors import MediaError
from veriff_async.models.media import Media

_MAX_BYTES: Final = 300_000


def try_file(content: bytes) -> tuple[str, str]:
    """Return the type of a file and the result of its conversion; raise anything but an error of the library."""
    try:
        mimetype = type_of(content[:HEAD_SIZE], converts=True)
        check_size(mimetype, len(content), converted=True)
    except MediaError as error:
        return "other", f"refused: {type(error).__name__}"
    if mimetype == PDF:
        return mimetype, "as it is"
    media = Media(content, "face", convert="jpeg", max_bytes=_MAX_BYTES)
    source = BytesSource(memoryview(content), constant=True)
    try:
        result = convert(source, mimetype, None, media)
    except MediaError as error:
        return mimetype, f"refused: {str(error).partition(',')[0].partition(':')[0]}"
    if result is None:
        return mimetype, "as it is"
    assert len(result) <= _MAX_BYTES, "it is larger than max_bytes"
    with Image.open(io.BytesIO(result)) as image:
        image.load()
        assert image.format == "JPEG", image.format
        assert image.mode in {"L", "RGB"}, image.mode
        assert not {"exif", "icc_profile", "xmp", "comment"} & set(image.info), list(image.info)
    is_shorter = mimetype == "image/jpeg" and result[-64:] in content
    return mimetype, "metadata removed" if is_shorter else "converted"


def damage(content: bytes, chance: random.Random) -> bytes:
    """Return a copy that is cut, or has other bytes in up to 20 places."""
    if chance.random() < 0.4:  # noqa: PLR2004  most readers get further with changed bytes
        return content[: chance.randrange(len(content))]
    copy = bytearray(content)
    for _ in range(chance.randint(1, 20)):
        # Half of the places are in the header, where sizes and offsets are.
        copy[chance.randrange(min(len(copy), chance.choice((512, len(copy)))))] = chance.choice(
            (0, 255, chance.randrange(256))
        )
    return bytes(copy)


def main(folder: Path, copies: int) -> None:
    """Try all files of a folder."""
    warnings.simplefilter("ignore")
    chance = random.Random(13)  # noqa: S311  the same copies in each run
    whole, damaged = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    slowest = (0.0, "")
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.stat().st_size == 0:
            continue
        content = path.read_bytes()
        for number in range(copies + 1):
            start = time.process_time()
            try:
                kind, result = try_file(content if number == 0 else damage(content, chance))
            except Exception:
                print(path, number, file=sys.stderr)
                raise
            slowest = max(slowest, (time.process_time() - start, f"{path.name} {number}"))
            (whole if number == 0 else damaged)[kind, result] += 1
            if kind == "other" and number == 0:
                break
            if number == 0 and result.startswith("refused"):
                print(f"{path.name}: {kind} {result}")
    for title, counts in ("whole files", whole), ("damaged copies", damaged):
        print(f"\n{title}: {sum(counts.values())}")
        for (kind, result), count in sorted(counts.items()):
            print(f"{count:6} {kind:11} {result}")
    print(f"\nslowest: {slowest[0]:.1f} s ({slowest[1]})")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)  # noqa: PLR2004
