"""Sources that are slow, silent, closed or broken: each gives an error of its own, and delays no other upload."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import mmap
import os
import shutil
import socket
import tempfile
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import httpx
import pytest
from aiohttp import ClientSession, TCPConnector

from tests.conditions import needs_posix, run_loop
from veriff_async import (
    ConnectError,
    InvalidArgumentError,
    Media,
    MediaChangedError,
    MediaError,
    MediaSourceError,
    MediaUnsupportedError,
    RetryPolicy,
    Timeouts,
    VeriffClient,
)
from veriff_async._media import source as source_module
from veriff_async._media.source import may_block

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from blockbuster import BlockBuster

    from veriff_async import UploadProgress, VerificationSession
    from veriff_async.client import ClientOptions
    from veriff_async.models.media import MediaSource
    from veriff_async.sandbox import Sandbox

pytestmark = pytest.mark.anyio

JPEG = b"\xff\xd8\xff\xda"  # pixels follow at once, so random bytes are not taken for a size
SMALL = JPEG + bytes(range(256)) * 7
LARGE = JPEG + os.urandom(900_001)
STALL = 30.0


@pytest.fixture
def client_options() -> ClientOptions:
    """Retry immediately, with few threads, so that a source that blocks one is noticed."""
    return {
        "retry": RetryPolicy(initial_backoff=0.001, max_backoff=0.002),
        "timeouts": Timeouts(idle=STALL),
        "max_uploads": 2,
        "max_downloads": 1,
    }


@pytest.fixture
async def session(veriff: VeriffClient) -> VerificationSession:
    """Return a session to upload to."""
    return await veriff.create_session()


def stored_digests(sandbox: Sandbox) -> list[str]:
    """Return the digests of the pictures that the sandbox has."""
    return [media.sha256 for seen in sandbox.sessions for media in seen.media]


def digest(content: bytes) -> str:
    """Return the digest of a picture."""
    return hashlib.sha256(content).hexdigest()


def pipe(*, blocking: bool = True, buffering: int = -1) -> tuple[BinaryIO, BinaryIO]:
    """Return both ends of a pipe as files."""
    reading, writing = os.pipe()
    os.set_blocking(reading, blocking)
    return os.fdopen(reading, "rb", buffering=buffering), cast("BinaryIO", os.fdopen(writing, "wb", buffering=0))


def socket_file() -> tuple[BinaryIO, BinaryIO]:
    """Return both sides of a connection as files."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        return cast("BinaryIO", ours.makefile("rb")), cast("BinaryIO", theirs.makefile("wb", buffering=0))


PIPES: dict[str, Callable[[], tuple[BinaryIO, BinaryIO]]] = {
    "pipe": pipe,
    "unbuffered pipe": lambda: pipe(buffering=0),
    "non-blocking pipe": lambda: pipe(blocking=False),
    "unbuffered non-blocking pipe": lambda: pipe(blocking=False, buffering=0),
    "socket": socket_file,
}


@pytest.fixture(params=list(PIPES.values()), ids=list(PIPES))
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Return both ends of each kind of pipe."""
    file, writing = request.param()
    yield file, writing
    file.close()
    writing.close()


async def test_pause_of_a_pipe_is_not_its_end(
    sandbox: Sandbox, session: VerificationSession, ends: tuple[BinaryIO, BinaryIO]
) -> None:
    """A pipe that is empty for a while is read until its writer closes it."""
    file, writing = ends
    uploading = asyncio.create_task(session.upload(Media(file, "face")))
    for start in range(0, 50_000, 10_000):
        await run_loop(30)
        await asyncio.to_thread(writing.write, LARGE[start : start + 10_000])
    await run_loop(30)
    assert not uploading.done()
    writing.close()
    await uploading

    assert [digest(LARGE[:50_000])] == stored_digests(sandbox)


async def test_silent_pipe_times_out(
    session: VerificationSession, ends: tuple[BinaryIO, BinaryIO], advance_time: Callable[[float], None]
) -> None:
    """A source that returns nothing for `Timeouts.idle` gives an error that does not blame the network."""
    uploading = asyncio.create_task(session.upload(Media(ends[0], "face")))
    while not uploading.done():
        advance_time(STALL / 4)
        await run_loop(30)
    with pytest.raises(MediaSourceError, match=r"media\[0\] \(face\): The media's source returned nothing for 30 s"):
        await uploading


@needs_posix
async def test_silent_pipes_delay_no_upload(sandbox: Sandbox, session: VerificationSession, tmp_path: Path) -> None:
    """More silent pipes than the client has threads delay neither other uploads nor their own cancellation."""
    pipes = [pipe() for _ in range(20)]
    waiting = [asyncio.create_task(session.upload(Media(file, "face"))) for file, _ in pipes]
    await run_loop(30)
    path = tmp_path / "picture.jpg"
    await asyncio.to_thread(path.write_bytes, LARGE)
    await session.upload(Media(path, "face"), Media(stream(), "document-front"))
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)

    assert [digest(LARGE)] * 2 == stored_digests(sandbox)
    assert all(task.cancelled() for task in waiting)
    for file, writing in pipes:
        file.close()
        writing.close()


async def stream() -> AsyncIterator[bytes]:
    """Yield a picture in pieces."""
    for start in range(0, len(LARGE), 100_000):
        await asyncio.sleep(0)
        yield LARGE[start : start + 100_000]


class Blocking(io.RawIOBase):
    """An object whose reading blocks from some offset on, until it is released."""

    def __init__(self, *, seekable: bool, after: int = 0, passes: int = 0) -> None:
        """Say whether it can seek, and at which place of which pass it blocks."""
        self.released = threading.Event()
        self.reached = threading.Event()
        self._seekable = seekable
        self._after = after
        self._passes = passes
        self._at = 0

    def readable(self) -> bool:
        """Return true."""
        return True

    def seekable(self) -> bool:
        """Return whether the file claims to be seekable."""
        return self._seekable

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """Change the position."""
        self._at = offset if whence == 0 else len(LARGE)
        return self._at

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  a buffer
        """Read on, or block."""
        if self._at == 0:
            self._passes -= 1
        if self._passes < 0 and self._at >= self._after:
            self.reached.set()
            self.released.wait()
            raise OSError
        piece = LARGE[self._at : self._at + len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


@contextmanager
def blocking(**options: Any) -> Iterator[Blocking]:  # noqa: ANN401  those of the class
    """Return an object that blocks, and release it afterwards."""
    source = Blocking(**options)
    try:
        yield source
    finally:
        source.released.set()


BLOCKING: dict[str, dict[str, Any]] = {
    "at once": {"seekable": False},
    "after a while": {"seekable": False, "after": 600_000},
    "while it is checked": {"seekable": True},
    "while it is signed": {"seekable": True, "passes": 1},
    "while it is sent": {"seekable": True, "passes": 2, "after": 600_000},
}


@pytest.mark.parametrize("options", list(BLOCKING.values()), ids=list(BLOCKING))
async def test_blocking_object_is_cancelled_immediately(
    sandbox: Sandbox, session: VerificationSession, options: dict[str, Any], tmp_path: Path
) -> None:
    """Cancellation does not wait for an object that blocks, at any point of its upload, and other uploads continue."""
    path = tmp_path / "picture.jpg"
    await asyncio.to_thread(path.write_bytes, LARGE)
    with blocking(**options) as source:
        uploading = asyncio.create_task(session.upload(Media(cast("BinaryIO", source), "face")))
        await asyncio.to_thread(source.reached.wait)
        await session.upload(Media(path, "document-front"))
        uploading.cancel()
        await asyncio.wait([uploading])

    assert uploading.cancelled()
    assert [digest(LARGE)] == stored_digests(sandbox)


async def test_object_that_blocks_during_sending_is_blamed(
    sandbox: Sandbox, session: VerificationSession, advance_time: Callable[[float], None]
) -> None:
    """A source that blocks while it is sent is blamed instead of the network, and is not retried."""
    with blocking(seekable=True, passes=2, after=600_000) as source:
        uploading = asyncio.create_task(session.upload(Media(cast("BinaryIO", source), "face")))
        await asyncio.to_thread(source.reached.wait)
        while not uploading.done():
            advance_time(STALL)
            await run_loop(30)
        with pytest.raises(MediaSourceError, match="returned nothing for 30 s"):
            await uploading

    assert [] == stored_digests(sandbox)


@pytest.mark.parametrize("method", ["seekable", "tell", "seek", "read"])
@pytest.mark.parametrize("max_side", [None, 100])
async def test_blocking_object_times_out(
    sandbox: Sandbox, session: VerificationSession, method: str, max_side: int | None
) -> None:
    """A file object that blocks in any of its methods before it is sent fails after `Timeouts.idle`."""
    released = threading.Event()

    class Hanging(io.BytesIO):
        """Hangs in one method."""

        def seekable(self) -> bool:
            return self._reach("seekable") or super().seekable()

        def tell(self) -> int:
            return self._reach("tell") or super().tell()

        def seek(self, offset: int, whence: int = 0, /) -> int:
            return self._reach("seek") or super().seek(offset, whence)

        def read(self, size: int | None = -1, /) -> bytes:
            self._reach("read")
            return super().read(size)

        def _reach(self, name: str) -> bool:
            return name == method and not released.wait()

    timeouts = Timeouts(idle=0.05)
    try:
        async with VeriffClient(sandbox.credentials, base_url=sandbox.base_url, timeouts=timeouts) as veriff:
            # The session exists already: a busy machine may take longer to create it.
            uploading = veriff.session(session.id)
            with pytest.raises(MediaSourceError, match="returned nothing") as caught:
                await uploading.upload(Media(SMALL, "document-front"), Media(Hanging(LARGE), "face", max_side=max_side))
    finally:
        released.set()

    assert caught.value.media is not None
    assert caught.value.media.index == 1
    assert [] == stored_digests(sandbox)


async def test_slow_object_does_not_time_out(sandbox: Sandbox, session: VerificationSession) -> None:
    """Only the wait for one piece counts, not that for the whole file."""

    class Slow(io.BytesIO):
        """Takes its time for each piece."""

        def read(self, size: int | None = -1) -> bytes:
            threading.Event().wait(0.02)
            return super().read(size)

    # Of the upload alone: the creation of the session may take longer on a busy machine.
    await session.with_options(timeouts=Timeouts(idle=0.3)).upload(Media(Slow(LARGE), "face"))

    assert [digest(LARGE)] == stored_digests(sandbox)


async def test_empty_pieces_are_not_progress(
    session: VerificationSession, advance_time: Callable[[float], None]
) -> None:
    """A stream that yields empty pieces forever fails after `Timeouts.idle`, while the loop runs other tasks."""

    async def empty_pieces() -> AsyncIterator[bytes]:
        while True:
            yield b""

    uploading = asyncio.create_task(session.upload(Media(empty_pieces(), "face")))
    await run_loop(30)
    while not uploading.done():
        advance_time(STALL)
        await run_loop(30)
    with pytest.raises(MediaSourceError, match="returned nothing"):
        await uploading


async def test_http_response_as_source_names_its_body(sandbox: Sandbox, session: VerificationSession) -> None:
    """A response instead of its body is an error that names the body; the body itself is accepted."""
    url = f"{sandbox.base_url}/healthz"
    async with (
        httpx.AsyncClient() as other,
        ClientSession() as browser,
        other.stream("GET", url) as streamed,
        browser.get(url) as response,
    ):
        for source in (streamed, response):
            with pytest.raises(InvalidArgumentError, match="response of an HTTP client"):
                await session.upload(Media(cast("MediaSource", source), "face"))
        for body in (streamed.aiter_bytes(), response.content):
            with pytest.raises(MediaUnsupportedError):  # the body is JSON
                await session.upload(Media(body, "face"))


@pytest.mark.parametrize("path", [5, LookupError("Ada")])
async def test_failing_path_object_is_reported(session: VerificationSession, path: object) -> None:
    """A path object that returns no path, or raises, gives an error of this library without its text."""

    class Odd:
        """Looks like a path."""

        def __fspath__(self) -> str:
            if isinstance(path, Exception):
                raise path
            return cast("str", path)

    with pytest.raises(MediaSourceError) as caught:
        await session.upload(Media(Odd(), "face"))
    assert "Ada" not in repr(caught.value) + repr(caught.value.__context__)


async def test_impossible_path_is_reported(session: VerificationSession) -> None:
    """A path with characters that no path can have gives an error of this library."""
    for path in ("\ud800", "a\0b", "\udcff" * 2000):
        with pytest.raises(MediaError):
            await session.upload(Media(path, "face"))


async def test_silent_stream_times_out(session: VerificationSession, advance_time: Callable[[float], None]) -> None:
    """The limit applies to each piece of an async stream, and restarts with each piece."""
    more, requested = asyncio.Event(), asyncio.Semaphore(0)

    async def pausing() -> AsyncIterator[bytes]:
        yield LARGE[:5000]
        requested.release()
        await more.wait()
        yield LARGE[5000:]
        requested.release()
        await asyncio.Event().wait()

    uploading = asyncio.create_task(session.upload(Media(pausing(), "face")))
    await requested.acquire()
    advance_time(STALL - 1)
    await run_loop(30)
    more.set()
    await requested.acquire()
    advance_time(STALL - 1)
    await run_loop(30)
    assert not uploading.done()
    advance_time(2)
    with pytest.raises(MediaSourceError, match="returned nothing for 30 s"):
        await uploading


class NothingYet:
    """An async reader that has no bytes every other time, and says so in one of the ways of `io`."""

    def __init__(self, *, raises: bool) -> None:
        """Store the way in which the file reports that it has no data."""
        self._file = io.BytesIO(LARGE)
        self._raises = raises
        self._count = 0

    async def read(self, n: int) -> bytes | None:
        """Return some bytes, or nothing yet."""
        self._count += 1
        if self._count % 2:
            if self._raises:
                raise BlockingIOError(errno.EAGAIN, "nothing yet")
            return None
        return self._file.read(min(n, 300_000))


class NothingYetInThread(NothingYet):
    """The same, without async."""

    def read(self, n: int) -> bytes | None:  # type: ignore[override]
        """Return some bytes, or nothing yet."""
        self._count += 1
        if self._count % 2 and self._raises:
            raise BlockingIOError(errno.EAGAIN, "nothing yet")
        return None if self._count % 2 else self._file.read(min(n, 300_000))


@pytest.mark.parametrize("kind", [NothingYet, NothingYetInThread])
@pytest.mark.parametrize("raises", [False, True])
async def test_none_and_blocking_error_are_not_the_end(
    sandbox: Sandbox, session: VerificationSession, kind: type[NothingYet], *, raises: bool
) -> None:
    """None and BlockingIOError mean that no bytes are available yet; only empty bytes are the end."""
    await session.upload(Media(cast("MediaSource", kind(raises=raises)), "face"))

    assert [digest(LARGE)] == stored_digests(sandbox)


async def test_exception_of_a_source_is_reported_by_class(sandbox: Sandbox, session: VerificationSession) -> None:
    """An exception of a source becomes an error of this library, with its class and without its text."""

    async def failing(error: Exception) -> AsyncIterator[bytes]:
        yield LARGE[:5000]
        raise error

    for error in (OSError(errno.EIO, "Ada"), TimeoutError("Ada"), ConnectionResetError("Ada"), LookupError("Ada")):
        with pytest.raises(MediaSourceError, match=type(error).__name__) as caught:
            await session.upload(Media(failing(error), "face"))
        assert "Ada" not in repr(caught.value) + repr(caught.value.__context__)

    assert [] == stored_digests(sandbox)


@pytest.mark.parametrize("piece", ["text", 5, None])
async def test_stream_of_other_types_is_refused(session: VerificationSession, piece: object) -> None:
    """A stream that yields an object other than bytes is an error that names its type."""

    async def odd() -> AsyncIterator[bytes]:
        yield cast("bytes", piece)

    with pytest.raises(InvalidArgumentError, match=type(piece).__name__):
        await session.upload(Media(odd(), "face"))


@pytest.mark.parametrize("buffering", [-1, 0])
async def test_closed_file_is_not_a_network_error(
    veriff: VeriffClient, session: VerificationSession, tmp_path: Path, buffering: int
) -> None:
    """A file that its owner closes before or during the upload is blamed, and the upload is not retried."""
    path = tmp_path / "picture.jpg"
    await asyncio.to_thread(path.write_bytes, LARGE)
    file = cast("BinaryIO", await asyncio.to_thread(open, path, "rb", buffering))
    before = veriff.statistics().retries
    for _ in ("during", "before"):
        with pytest.raises(MediaError, match="closed"):
            await session.upload(Media(file, "face"), progress=lambda _: file.close())

    assert before == veriff.statistics().retries


async def test_detached_file_counts_as_closed(session: VerificationSession, tmp_path: Path) -> None:
    """A buffered file that was detached from its raw file counts as closed."""
    path = tmp_path / "picture.jpg"
    await asyncio.to_thread(path.write_bytes, LARGE)
    file = cast("io.BufferedReader", await asyncio.to_thread(path.open, "rb"))
    with file.detach(), pytest.raises(MediaError, match="closed"):
        await session.upload(Media(file, "face"))


@pytest.mark.parametrize("error", [BrokenPipeError, TimeoutError, ConnectionResetError, OSError])
async def test_exception_of_progress_is_raised_unchanged(
    veriff: VeriffClient, session: VerificationSession, tmp_path: Path, error: type[OSError]
) -> None:
    """An exception of the progress function is raised unchanged, once, also when it looks like a network error."""
    calls = 0

    def broken(_: object) -> None:
        nonlocal calls
        calls += 1
        raise error

    (receipt,) = await session.upload(Media(LARGE, "face"))
    before = veriff.statistics().retries
    with pytest.raises(error):
        await session.upload(Media(LARGE, "face"), progress=broken)
    with pytest.raises(error):
        await veriff.download_media(receipt.id, f"{tmp_path}/", progress=broken)

    assert (2, before) == (calls, veriff.statistics().retries)
    assert [] == await asyncio.to_thread(os.listdir, tmp_path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.EROFS])
async def test_failing_temporary_file_is_reported(
    sandbox: Sandbox, session: VerificationSession, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """If no temporary file can be created, the error has the reason and the remedy."""

    def refuse(**_: object) -> BinaryIO:
        raise OSError(number, "Ada")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(MediaSourceError, match=os.strerror(number)) as caught:
        await session.upload(Media(stream(), "face"))

    assert "TMPDIR" in str(caught.value)
    assert "Ada" not in str(caught.value)
    assert [] == stored_digests(sandbox)


async def test_missing_temporary_folder_names_tmpdir(
    session: VerificationSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A temporary folder that is gone is reported with the name of its variable."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(MediaSourceError, match="TMPDIR"):
        await session.upload(Media(stream(), "face"))


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
async def test_too_many_open_files_name_the_limit(
    session: VerificationSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int
) -> None:
    """A process without a free descriptor gets an error that names the limit."""

    def refuse(*_: object, **__: object) -> BinaryIO:
        raise OSError(number, "too many")

    monkeypatch.setattr(source_module, "open", refuse, raising=False)
    with pytest.raises(MediaSourceError, match="ulimit -n"):
        await session.upload(Media(tmp_path / "picture.jpg", "face"))


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
async def test_connection_without_descriptor_is_not_retried(sandbox: Sandbox, number: int) -> None:
    """A connection for which this machine has no descriptor is reported with the limit, after one try."""

    def refuse(_: object) -> socket.socket:
        raise OSError(number, "too many")

    async with (
        ClientSession(connector=TCPConnector(socket_factory=refuse)) as http,
        VeriffClient(sandbox.credentials, base_url=sandbox.base_url, http_session=http) as veriff,
    ):
        with pytest.raises(ConnectError, match="ulimit -n"):
            await veriff.session("8f0d1ab6-0000-4000-8000-000000000001").decision()
        statistics = veriff.statistics()

    assert (statistics.requests, statistics.retries) == (1, 0)


def replace_by_copy(path: Path) -> None:
    """Rename a file, and put a copy in its place."""
    other = path.with_suffix(".other")
    shutil.copy(path, other)
    other.replace(path)


def rewrite_same_bytes(path: Path) -> None:
    """Write the same bytes again."""
    with path.open("r+b") as file:
        file.write(LARGE)


SAME: dict[str, Callable[[Path], object]] = {
    "chmod": lambda path: path.chmod(0o600),
    "touch": os.utime,
    "touch with an old time": lambda path: os.utime(path, (1, 1)),
    "link": lambda path: os.link(path, path.with_suffix(".link")),
    "rename": lambda path: path.rename(path.with_suffix(".renamed")),
    "remove": lambda path: path.unlink(),
    "replace by a copy": replace_by_copy,
    "write the same": rewrite_same_bytes,
}


def write_other_bytes(path: Path) -> None:
    """Write other bytes, and restore the file's times."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(880_000)
        file.write(b"changed")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture(params=[False, True], ids=["fresh", "settled"])
def settled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make files new, or old enough that their stamp is trusted."""
    if request.param:
        monkeypatch.setattr(source_module, "_SETTLED", -1e9)
        monkeypatch.setattr(os, "major", lambda _: 8)


@needs_posix
@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("when", ["before it is sent", "while it is sent"])
@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("change", [*SAME.values(), write_other_bytes], ids=[*SAME, "write"])
async def test_file_is_refused_only_if_its_bytes_changed(  # noqa: PLR0913  what is combined
    sandbox: Sandbox,
    session: VerificationSession,
    tmp_path: Path,
    change: Callable[[Path], object],
    when: str,
    *,
    opened: bool,
    blockbuster: BlockBuster,
) -> None:
    """A file is refused exactly if its bytes changed during the upload."""
    path = tmp_path / "picture.jpg"
    await asyncio.to_thread(path.write_bytes, LARGE)
    source: Any = await asyncio.to_thread(path.open, "rb") if opened else path
    blockbuster.deactivate()  # the file is disturbed at an exact moment
    offset = 0 if when.startswith("before") else 300_000
    left = [change]

    def disturb(event: UploadProgress) -> None:
        # The first piece is the beginning of the JSON: nothing of the file was read for sending then.
        if left and event.bytes_sent > offset:
            left.pop()(path)

    upload = session.upload(Media(source, "face"), progress=disturb)
    if change is write_other_bytes:
        with pytest.raises(MediaChangedError):
            await upload
    else:
        await upload
    if opened:
        source.close()

    assert [] == left
    assert ([] if change is write_other_bytes else [digest(LARGE)]) == stored_digests(sandbox)


async def test_write_through_a_memory_map_is_detected(
    sandbox: Sandbox, session: VerificationSession, tmp_path: Path
) -> None:
    """A write to a page that is dirty already does not change the file's time, and is detected all the same."""
    path = tmp_path / "picture.jpg"
    await asyncio.to_thread(path.write_bytes, LARGE)
    with await asyncio.to_thread(path.open, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[880_000] = 1
        await asyncio.to_thread(os.utime, path, (1_000_000_000, 1_000_000_000))

        def disturb(_: UploadProgress) -> None:
            mapped[880_000] = 2

        with pytest.raises(MediaChangedError):
            await session.upload(Media(path, "face"), progress=disturb)

    assert [] == stored_digests(sandbox)


def test_end_of_an_attempt_does_not_move_the_file_of_the_next() -> None:
    """An attempt that failed may still read and close a file that the next one reads; each gets its own bytes."""
    content = bytes(range(30))
    file = io.BytesIO(b"before" + content)
    file.seek(6)
    source = source_module.reusable_source(file)
    assert source is not None

    def read(reader: source_module.Reader) -> bytes:
        buffer = bytearray(10)
        return bytes(buffer[: reader.fill(memoryview(buffer))])

    failed, following = source.open(), source.open()
    pieces = [read(failed), read(following), read(failed)]
    following.skip(5)
    failed.close()
    pieces += [read(following), read(failed)]
    failed.close()
    assert [content[:10], content[:10], content[10:20], content[15:25], content[20:]] == pieces
    following.restart()
    assert content[:10] == read(following)
    following.close()
    assert 6 == file.tell()


async def test_only_unknown_objects_may_block(tmp_path: Path) -> None:
    """Paths, files and memory are read in shared threads, pipes by the loop, unknown objects in their own thread."""
    path = tmp_path / "picture.jpg"
    await asyncio.to_thread(path.write_bytes, SMALL)
    with await asyncio.to_thread(path.open, "rb") as file:
        assert not any(map(may_block, [path, str(path), SMALL, bytearray(SMALL), io.BytesIO(SMALL), file, stream()]))
        assert may_block(socket.SocketIO)
    assert may_block(Blocking(seekable=True))
