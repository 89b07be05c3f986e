"""Readers of sources that can be read again: the same bytes in each pass, for every kind of source."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Final

import pytest

from tests.conditions import needs_posix
from veriff_async import InvalidArgumentError, MediaError, MediaSourceError
from veriff_async._media.source import PathSource, reusable_source

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


class Answering(io.BytesIO):
    """A file in memory whose `read` returns the same object every time."""

    def __init__(self, answer: object) -> None:
        """Store what `read` returns."""
        super().__init__(CONTENT)
        self.answer = answer

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the object."""
        return self.answer  # type: ignore[return-value]  # the wrong type is what is tested


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (None, MediaSourceError, "non-blocking mode"),
        ("text", InvalidArgumentError, "must return bytes, not str"),
    ],
)
def test_file_that_returns_no_bytes_names_the_remedy(answer: object, error: type[Exception], words: str) -> None:
    """A file that has no data yet, or returns text, is an error that says how to open it."""
    source = reusable_source(Answering(answer))
    assert source is not None
    reader = source.open()

    with pytest.raises(error, match=words):
        reader.fill(memoryview(bytearray(100)))
    reader.close()


def test_kept_path_is_read_after_its_file_was_deleted(tmp_path: Path) -> None:
    """A path that was kept stays readable under no name at all, and one that was not kept is an error."""
    path = tmp_path / "media.bin"
    path.write_bytes(CONTENT)
    source = PathSource(str(path), len(CONTENT))
    source.keep()
    source.keep()
    if os.name == "posix":
        path.unlink()
    reader, buffer = source.open(), memoryview(bytearray(len(CONTENT)))
    assert len(CONTENT) == reader.fill(buffer)
    assert CONTENT == bytes(buffer)
    reader.close()
    source.close()
    source.close()

    path.unlink(missing_ok=True)
    with pytest.raises(MediaError):
        source.open()


@needs_posix
def test_stamp_of_a_closed_file_is_an_error(tmp_path: Path) -> None:
    """A file that its owner closed has no stamp, and the error says to keep it open."""
    path = tmp_path / "media.bin"
    path.write_bytes(CONTENT)
    with path.open("rb") as file:
        source = reusable_source(file)
        assert source is not None
        reader = source.open()
    for ask in (reader.stamp, reader.is_settled):
        with pytest.raises(MediaSourceError, match="keep the file open"):
            ask()

    descriptor = os.open(path, os.O_RDONLY)
    with open(descriptor, "rb", closefd=False) as borrowed:
        source = reusable_source(borrowed)
        assert source is not None
        reader = source.open()
        os.close(descriptor)
        with pytest.raises(MediaSourceError, match="Bad file descriptor"):
            reader.stamp()


def test_reader_that_lost_the_position_does_not_restore_it() -> None:
    """A reader that ends while another one reads the same file leaves the position to that one."""
    file = Opaque(CONTENT)
    source = reusable_source(file)
    assert source is not None
    first, second, buffer = source.open(), source.open(), memoryview(bytearray(1000))
    assert 1000 == first.fill(buffer) == second.fill(buffer)

    first.close()
    assert 1000 == file.tell()
    assert 1000 == second.fill(buffer)
    assert CONTENT[1000:2000] == bytes(buffer)
    second.close()
    assert 0 == file.tell()


def test_memoryviews_of_all_kinds_are_bytes() -> None:
    """A view with gaps or larger items counts bytes, and one that was released is an error."""
    gaps = reusable_source(memoryview(CONTENT)[::2])
    items = reusable_source(memoryview(CONTENT).cast("I"))
    assert gaps is not None
    assert items is not None
    assert len(CONTENT) // 2 == gaps.size
    assert len(CONTENT) == items.size
    buffer = memoryview(bytearray(gaps.size))
    assert gaps.size == gaps.open().fill(buffer)
    assert CONTENT[::2] == bytes(buffer)

    released = memoryview(CONTENT)
    released.release()
    with pytest.raises(InvalidArgumentError, match="memoryview that was released"):
        reusable_source(released)


def test_file_without_a_position_is_reported_without_its_text() -> None:
    """An open file that cannot say where it stands is an error with the class of its exception only."""

    class Lost(io.BytesIO):
        def tell(self) -> int:
            msg = "secret"
            raise LookupError(msg)

    with pytest.raises(MediaSourceError, match="LookupError") as raised:
        reusable_source(Lost(CONTENT))
    assert "secret" not in str(raised.value)
