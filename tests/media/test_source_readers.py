"""Readers of sources that can be read again: the same bytes in each pass, for every kind of source."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Final

import pytest

from veriff_async._media.source import reusable_source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONTENT: Final = os.urandom(100_000)


class Opaque(io.BytesIO):
    """A file without a descriptor that returns less than it is asked for."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return at most a thousand bytes."""
        return super().read(1000 if size is None or size < 0 else min(size, 1000))


KINDS: Final[dict[str, Callable[[Path], object]]] = {
    "bytes": lambda _: CONTENT,
    "bytearray": lambda _: bytearray(CONTENT),
    "path": lambda path: path,
    "file": lambda path: path.open("rb"),
    "file in memory": lambda _: Opaque(CONTENT),
}


@pytest.mark.parametrize("make", list(KINDS.values()), ids=list(KINDS))
def test_reader_reads_skips_and_restarts(tmp_path: Path, make: Callable[[Path], object]) -> None:
    """A reader returns the same bytes after `restart`, skips on demand, and ends where the source ends."""
    path = tmp_path / "media.bin"
    path.write_bytes(CONTENT)
    given = make(path)
    source = reusable_source(given)  # type: ignore[arg-type]  # each kind is one of `MediaSource`
    assert source is not None
    assert source.size == len(CONTENT)
    reader, buffer = source.open(), memoryview(bytearray(40_000))
    try:
        for _ in range(2):
            assert reader.fill(buffer) == 40_000
            assert bytes(buffer) == CONTENT[:40_000]
            reader.skip(10_000)
            assert reader.fill(buffer) == 40_000
            assert bytes(buffer) == CONTENT[50_000:90_000]
            assert reader.fill(buffer) == 10_000
            assert not reader.fill_now(buffer)
            reader.restart()
        if reader.fill_now(buffer):
            assert bytes(buffer) == CONTENT[:40_000]
        assert reader.stamp() == reader.stamp()
        assert reader.is_settled() in {True, False}
    finally:
        reader.close()
        source.close()
        if isinstance(given, io.IOBase):
            given.close()
