"""The file of a download: complete or absent, also when the folder or the disk changes during the download."""

from __future__ import annotations

import shutil
import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest
from anyio import to_thread

from tests.conditions import needs_posix
from veriff_async import Credentials, MediaExistsError, MediaNotSavedError
from veriff_async._media.file_writer import AtomicFileWriter
from veriff_async._media.worker_threads import WorkerThreads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from veriff_async._media.file_writer import IfExists

pytestmark = pytest.mark.anyio

CREDENTIALS = Credentials("5b0d1ab6-0000-4000-8000-000000000001", "secret")


@pytest.fixture
def workers() -> Iterator[WorkerThreads]:
    """Return worker threads that end with the test."""
    with closing(WorkerThreads(2)) as workers:
        yield workers


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder that a test may delete."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    return folder


def make_writer(folder: Path, workers: WorkerThreads, if_exists: IfExists = "error") -> AtomicFileWriter:
    """Return a writer of one file in a folder."""
    return AtomicFileWriter(
        lambda _mimetype: folder / "face.jpg",
        if_exists=if_exists,
        max_bytes=1_000_000,
        threads=workers,
        on_bytes_received=lambda _received, _total: None,
    )


async def begin(writer: AtomicFileWriter) -> None:
    """Start an attempt."""
    await writer.begin({"Content-Type": "image/jpeg"}, CREDENTIALS.verifier())


async def call(function: Callable[[], object]) -> None:
    """Call a function of files in a thread."""
    await to_thread.run_sync(function)


def names(folder: Path) -> list[str]:
    """Return the names in a folder, hidden files included."""
    return sorted(path.name for path in folder.iterdir())


async def test_closed_writer_touches_no_file(folder: Path, workers: WorkerThreads) -> None:
    """A thread that opens, writes or renames after the end of a download leaves no file, and does not fail."""
    writer = make_writer(folder, workers)
    await begin(writer)
    await writer.take(b"picture")
    await writer.aclose()

    await writer.end()
    await writer.commit()
    await begin(writer)
    await writer.aclose()

    assert [] == await to_thread.run_sync(names, folder)


async def test_writer_without_a_response_has_no_file(folder: Path, workers: WorkerThreads) -> None:
    """A writer that no attempt has begun opens no file, so there is nothing to write, rename or delete."""
    writer = make_writer(folder, workers)
    await writer.take(b"picture")
    await writer.end()
    await writer.commit()
    await writer.aclose()

    assert [] == await to_thread.run_sync(names, folder)


@needs_posix
@pytest.mark.parametrize("if_exists", ["error", "skip", "replace"])
async def test_folder_deleted_during_the_download_is_reported(
    folder: Path, workers: WorkerThreads, if_exists: IfExists
) -> None:
    """A download whose folder is gone at its end fails with the reason and the remedy, and closing does not fail."""
    writer = make_writer(folder, workers, if_exists)
    await begin(writer)
    await writer.take(b"picture")
    await writer.end()
    await call(lambda: shutil.rmtree(folder))

    with pytest.raises(MediaNotSavedError, match=r"No such file or directory.*folder that exists"):
        await writer.commit()
    await writer.aclose()

    assert not await to_thread.run_sync(folder.exists)


@needs_posix
async def test_file_of_another_program_is_kept_when_links_fail(folder: Path, workers: WorkerThreads) -> None:
    """A file that another program created during the download is not replaced, even if no link can be made."""
    writer = make_writer(folder, workers)
    await begin(writer)
    await writer.take(b"picture")
    await writer.end()

    def interfere() -> None:
        for path in folder.iterdir():
            path.unlink()
        (folder / "face.jpg").write_bytes(b"theirs")

    await call(interfere)

    with pytest.raises(MediaExistsError) as raised:
        await writer.commit()
    await writer.aclose()

    assert folder / "face.jpg" == raised.value.path
    assert b"theirs" == await to_thread.run_sync((folder / "face.jpg").read_bytes)
    assert ["face.jpg"] == await to_thread.run_sync(names, folder)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size."""
    import resource  # noqa: PLC0415  Windows has none

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of a file's size")
async def test_full_disk_is_reported_and_leaves_no_file(folder: Path, workers: WorkerThreads) -> None:
    """A file that cannot be written to its end is an error with the system's reason, and is deleted."""
    writer = make_writer(folder, workers)
    await begin(writer)
    await writer.take(bytes(100_000))
    with file_size_limit(50_000), pytest.raises(MediaNotSavedError, match=r"too large.*free space"):
        await writer.end()
    await writer.aclose()

    assert [] == await to_thread.run_sync(names, folder)
