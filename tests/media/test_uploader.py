"""The uploader: sources are sent completely, faults are reported before sending, and nothing is left behind."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import io
import itertools
import os
import tempfile
import tracemalloc
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import anyio
import pytest
from aiohttp import ClientSession, web

from veriff_async import (
    BadRequestError,
    CallNext,
    CallRequest,
    CallResponse,
    ClientClosedError,
    ConflictError,
    Credentials,
    InvalidArgumentError,
    Media,
    MediaChangedError,
    MediaContext,
    MediaEmptyError,
    MediaError,
    MediaTooLargeError,
    MediaUnsupportedError,
    RetryPolicy,
    VeriffClient,
    VeriffError,
)
from veriff_async._media import source as source_module
from veriff_async.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from veriff_async import UploadedMedia, UploadProgress, VerificationSession
    from veriff_async.client import ClientOptions
    from veriff_async.models.media import MediaSource

pytestmark = pytest.mark.anyio

JPEG = b"\xff\xd8\xff\xda"  # pixels follow at once, so random bytes are not taken for a size
SMALL = JPEG + bytes(range(256)) * 7
LARGE = JPEG + os.urandom(1_000_003)
MEDIA = "/v1/sessions/*/media"


@pytest.fixture
def client_options() -> ClientOptions:
    """Retry quickly."""
    return {"retry": RetryPolicy(initial_backoff=0.001, max_backoff=0.002), "max_uploads": 4}


@pytest.fixture
async def session(veriff: VeriffClient) -> VerificationSession:
    """Return a session to upload to."""
    return await veriff.create_session()


class Reader:
    """An object with an async read(n), as web frameworks provide it."""

    def __init__(self, content: bytes) -> None:
        """Take what is read."""
        self._file = io.BytesIO(content)

    async def read(self, n: int, /) -> bytes:
        """Return up to `n` bytes, in small pieces as a network gives them."""
        await asyncio.sleep(0)
        return self._file.read(min(n, 40_000))


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    """Yield content in pieces of an odd size."""
    for at in range(0, len(content), 10_007):
        await asyncio.sleep(0)
        yield content[at : at + 10_007]


class Wrapped:
    """A file whose read is not async and returns an awaitable, as some wrappers do."""

    def __init__(self, content: bytes) -> None:
        """Take what is read."""
        self._reader = Reader(content)

    def read(self, n: int) -> object:
        """Return something to await."""
        return self._reader.read(n)


def pipe(content: bytes) -> BinaryIO:
    """Return a pipe that holds content, as far as the system allows."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as writer:
        writer.write(content[:60_000])
    return os.fdopen(reading, "rb")


def file_behind_header(content: bytes, folder: Path, *, buffering: int = -1) -> BinaryIO:
    """Return an open file whose position is behind its first bytes."""
    path = folder / "behind"
    path.write_bytes(b"header" + content)
    file = path.open("rb", buffering=buffering)
    file.seek(6)
    return file


def gzip_file(content: bytes, folder: Path) -> BinaryIO:
    """Return an open gzip file, whose descriptor leads to other bytes."""
    path = folder / "picture.gz"
    with gzip.open(path, "wb") as file:
        file.write(content)
    return cast("BinaryIO", gzip.open(path, "rb"))


def spooled_file(content: bytes) -> BinaryIO:
    """Return a file that is in memory while it is small."""
    file = tempfile.SpooledTemporaryFile(max_size=10_000_000)  # noqa: SIM115  closed by the test
    file.write(content)
    file.seek(0)
    return cast("BinaryIO", file)


def write_file(content: bytes, folder: Path) -> Path:
    """Write a file and return its path."""
    path = folder / "picture.jpg"
    path.write_bytes(content)
    return path


SOURCES: dict[str, Callable[[bytes, Path], MediaSource]] = {
    "path": write_file,
    "text": lambda content, folder: str(write_file(content, folder)),
    "bytes": lambda content, _: content,
    "bytearray": lambda content, _: bytearray(content),
    "memoryview": lambda content, _: memoryview(content),
    "file": file_behind_header,
    "raw file": lambda content, folder: file_behind_header(content, folder, buffering=0),
    "BytesIO": lambda content, _: io.BytesIO(content),
    "gzip file": gzip_file,
    "temporary file": lambda content, _: spooled_file(content),
    "async iterator": lambda content, _: pieces(content),
    "async reader": lambda content, _: Reader(content),
    "wrapper": lambda content, _: cast("BinaryIO", Wrapped(content)),
}


@pytest.fixture(params=[SMALL, LARGE], ids=["small", "large"])
def content(request: pytest.FixtureRequest) -> bytes:
    """Return a small and a large picture."""
    return cast("bytes", request.param)


@pytest.fixture(params=list(SOURCES.values()), ids=list(SOURCES))
def source(request: pytest.FixtureRequest, content: bytes, tmp_path: Path) -> Iterator[MediaSource]:
    """Return each kind of source; a file must still be open afterwards."""
    source = cast("MediaSource", request.param(content, tmp_path))
    yield source
    if isinstance(source, io.IOBase | tempfile.SpooledTemporaryFile):
        assert not source.closed
        source.close()


def stored_digests(sandbox: Sandbox) -> list[str]:
    """Return the digests of the pictures that the sandbox has."""
    return [media.sha256 for seen in sandbox.sessions for media in seen.media]


def digest(content: bytes) -> str:
    """Return the digest of a picture."""
    return hashlib.sha256(content).hexdigest()


def count_uploads(sandbox: Sandbox) -> int:
    """Return how many uploads the sandbox has received."""
    return sum(seen.path.endswith("/media") for seen in sandbox.requests)


async def test_every_source_is_sent_completely(
    sandbox: Sandbox, session: VerificationSession, source: MediaSource, content: bytes
) -> None:
    """Every kind of source sends the same bytes, type and size."""
    (uploaded,) = await session.upload(Media(source, "face"))

    assert [digest(content)] == stored_digests(sandbox)
    assert (len(content), "image/jpeg", "face") == (uploaded.size, uploaded.mimetype, uploaded.context)
    assert not uploaded.repeated


async def test_retry_sends_every_source_completely(
    sandbox: Sandbox, session: VerificationSession, source: MediaSource, content: bytes
) -> None:
    """A second try sends all bytes again, also of a source that can be read only once."""
    sandbox.inject(Fault.drop(after=len(content) // 2), path=MEDIA)
    (uploaded,) = await session.upload(Media(source, "face"))

    assert [digest(content)] == stored_digests(sandbox)
    assert uploaded.repeated


async def test_pipe_is_spooled(sandbox: Sandbox, session: VerificationSession) -> None:
    """A file that cannot seek is copied, signed and sent."""
    with await asyncio.to_thread(pipe, LARGE) as source:
        await session.upload(Media(source, "face"))

    assert [digest(LARGE[:60_000])] == stored_digests(sandbox)


async def test_anyio_file_is_read(sandbox: Sandbox, session: VerificationSession, tmp_path: Path) -> None:
    """A file of anyio has an async read."""
    path = anyio.Path(tmp_path / "picture.jpg")
    await path.write_bytes(LARGE)
    async with await anyio.open_file(path, "rb") as file:
        await session.upload(Media(cast("MediaSource", file), "face"))

    assert [digest(LARGE)] == stored_digests(sandbox)


async def test_request_body_is_relayed(sandbox: Sandbox, session: VerificationSession) -> None:
    """A web application relays the file of a browser without reading it completely."""

    async def relay(request: web.Request) -> web.Response:
        await session.upload(Media(request.content, "face"))
        return web.Response()

    app = web.Application()
    app.router.add_post("/", relay)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    async with ClientSession() as browser, browser.post(url, data=pieces(LARGE)) as answer:
        assert 200 == answer.status
    await runner.cleanup()

    assert [digest(LARGE)] == stored_digests(sandbox)


async def test_threads_read_without_nonblocking_preadv(
    sandbox: Sandbox, session: VerificationSession, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system cannot read without blocking, threads read the same bytes."""
    monkeypatch.setattr(source_module, "_NOWAIT", 0)
    path = await asyncio.to_thread(write_file, content, tmp_path)
    await session.upload(Media(path, "face"))

    assert [digest(content)] == stored_digests(sandbox)


@pytest.mark.parametrize(
    ("head", "mimetype"),
    [
        (JPEG, "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"RIFF\0\0\0\0WEBP", "image/webp"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "image/heic"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1miaf", "image/heif"),
        (b"%PDF-1.7", "application/pdf"),
    ],
)
async def test_type_follows_from_first_bytes(session: VerificationSession, head: bytes, mimetype: str) -> None:
    """The type is recognised, and sent in the data URI."""
    (uploaded,) = await session.upload(Media(head + bytes(100), "face"))

    assert mimetype == uploaded.mimetype


class Sources:
    """Sources that cannot be uploaded, created when the test runs."""

    def __init__(self, folder: Path) -> None:
        """Make the files that are needed."""
        self.folder = folder
        self.closed = io.BytesIO(JPEG)
        self.closed.close()
        self.text = write_file(JPEG, folder).open(encoding="latin-1")
        self.empty = folder / "empty.jpg"
        self.empty.touch()
        self.fifo = folder / "fifo"
        os.mkfifo(self.fifo)
        self.image = self.sparse("image.jpg", JPEG, 18_000_000)
        self.pdf = self.sparse("paper.pdf", b"%PDF-1.7", 20_000_000)

    def sparse(self, name: str, head: bytes, size: int) -> Path:
        """Make a large file that takes no room."""
        path = self.folder / name
        with path.open("wb") as file:
            file.write(head)
            file.truncate(size)
        return path


FAULTS: dict[str, tuple[Callable[[Sources], Media], type[VeriffError], str]] = {
    "missing": (lambda s: Media(s.folder / "no.jpg", "face"), MediaError, "does not exist: check its path"),
    "folder": (lambda s: Media(s.folder, "face"), MediaError, "is a directory"),
    "not a path": (lambda _: Media("a\0b", "face"), MediaError, "cannot be opened"),
    "fifo": (lambda s: Media(s.fifo, "face"), MediaError, "not a regular file"),
    "empty file": (lambda s: Media(s.empty, "face"), MediaEmptyError, "media is empty"),
    "empty bytes": (lambda _: Media(b"", "face"), MediaEmptyError, "media is empty"),
    "empty stream": (lambda _: Media(pieces(b""), "face"), MediaEmptyError, "media is empty"),
    "file at its end": (lambda _: Media(io.BytesIO(), "face"), MediaEmptyError, "media is empty"),
    "unknown type": (lambda _: Media(b"GIF89a" + bytes(100), "face"), MediaUnsupportedError, "give a JPEG"),
    "unknown type of a stream": (lambda _: Media(pieces(b"GIF89a"), "face"), MediaUnsupportedError, "give a JPEG"),
    "another type": (
        lambda _: Media(JPEG, "face", mimetype="image/png"),
        MediaUnsupportedError,
        "is image/jpeg, not the stated type",
    ),
    "large image": (lambda s: Media(s.image, "face"), MediaTooLargeError, "send a smaller picture"),
    "large PDF": (lambda s: Media(s.pdf, "face"), MediaTooLargeError, "Veriff takes fewer than 20000000"),
    "unknown context": (lambda _: Media(JPEG, "selfie"), InvalidArgumentError, "not one that Veriff documents"),
    "naive time": (
        lambda _: Media(JPEG, "face", timestamp=datetime(2025, 1, 1)),  # noqa: DTZ001  what is refused
        InvalidArgumentError,
        "no time zone",
    ),
    "text file": (lambda s: Media(cast("BinaryIO", s.text), "face"), InvalidArgumentError, 'mode "rb"'),
    "closed file": (lambda s: Media(s.closed, "face"), MediaError, "closed or cannot be read"),
    "no source": (lambda _: Media(cast("bytes", 42), "face"), InvalidArgumentError, "cannot be read"),
    "stream of text": (
        lambda _: Media(cast("AsyncIterator[bytes]", text_pieces()), "face"),
        InvalidArgumentError,
        "must return bytes",
    ),
}


async def text_pieces() -> AsyncIterator[str]:
    """Yield text instead of bytes."""
    yield "text"


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[Sources]:
    """Return sources that cannot be uploaded."""
    made = Sources(tmp_path)
    yield made
    made.text.close()


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_fault_is_reported_before_any_request(
    sandbox: Sandbox,
    session: VerificationSession,
    faulty: Sources,
    fault: tuple[Callable[[Sources], Media], type[VeriffError], str],
) -> None:
    """Each fault gives one clear error without the path, and no request is sent."""
    make, kind, words = fault
    with pytest.raises(kind, match=words) as caught:
        await session.upload(make(faulty))

    assert kind is type(caught.value)
    assert str(faulty.folder) not in str(caught.value)
    assert 0 == count_uploads(sandbox)


async def test_one_bad_file_prevents_all_uploads(sandbox: Sandbox, session: VerificationSession) -> None:
    """If one file is bad, no other is sent."""
    with pytest.raises(MediaUnsupportedError):
        await session.upload(Media(SMALL, "document-front"), Media(b"GIF89a", "face"))

    assert 0 == count_uploads(sandbox)


async def test_permission_error_names_the_remedy(
    session: VerificationSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the system refuses to open a file, the error says so (simulated, because root may open every file)."""

    def refuse(*_: object, **__: object) -> BinaryIO:
        raise PermissionError

    picture = tmp_path / "face.jpg"
    await asyncio.to_thread(picture.write_bytes, SMALL)
    monkeypatch.setattr(source_module, "open", refuse, raising=False)
    with pytest.raises(MediaError, match="check its permissions"):
        await session.upload(Media(picture, "face"))


@pytest.mark.parametrize(
    ("media", "options", "words"),
    [
        ([], {}, "nothing to upload"),
        (["front.jpg"], {}, "upload takes Media"),
        ([Media(JPEG, "face")], {"concurrency": 0}, "concurrency must be 1 or more"),
        ([Media(same := io.BytesIO(JPEG), "face"), Media(same, "face")], {}, "is passed twice"),
    ],
)
async def test_wrong_arguments_are_refused(
    session: VerificationSession, media: list[Media], options: dict[str, int], words: str
) -> None:
    """A mistake in the call itself is an InvalidArgumentError."""
    with pytest.raises(InvalidArgumentError, match=words):
        await session.upload(*media, **options)  # type: ignore[arg-type]


async def test_common_variants_of_types_are_accepted(session: VerificationSession) -> None:
    """image/jpg means JPEG, the two names of HEIF mean one family, and a newer context can be passed on purpose."""
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
    uploaded = await session.upload(
        Media(JPEG, "face", mimetype="image/jpg"), Media(heic, "face", mimetype="image/heif; charset=binary")
    )

    assert ["image/jpeg", "image/heic"] == [one.mimetype for one in uploaded]
    with pytest.raises(VeriffError, match="does not know this context"):
        await session.upload(Media(JPEG, MediaContext("face-of-tomorrow")))


async def test_reading_stops_at_the_size_limit(sandbox: Sandbox, session: VerificationSession) -> None:
    """A stream is no longer read once it has more bytes than Veriff accepts of any type."""
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1_000_000
            yield JPEG + bytes(999_996)

    with pytest.raises(MediaTooLargeError, match="send a smaller picture"):
        await session.upload(Media(endless(), "face"))

    assert 21_000_000 >= taken
    assert 0 == count_uploads(sandbox)


def age_file(path: Path) -> Path:
    """Set the times of a file so that it seems unchanged for long."""
    os.utime(path, (1_000_000_000, 1_000_000_000))
    return path


@pytest.mark.parametrize(
    "case", list(itertools.product(["rested", "fresh"], ["written to", "grown", "cut", "replaced"])), ids=" and ".join
)
async def test_file_that_changes_is_never_sent_completely(
    sandbox: Sandbox, veriff: VeriffClient, tmp_path: Path, case: tuple[str, str], advance_time: Callable[[float], None]
) -> None:
    """If a file changes between signing and sending, the last piece is not sent."""
    path = await asyncio.to_thread(write_file, LARGE, tmp_path)
    rest, change = case
    if rest == "rested":
        age_file(path)
    sandbox.inject(Fault.status(503, retry_after=30), path=MEDIA)
    session = await veriff.create_session()
    uploading = asyncio.create_task(session.upload(Media(path, "face")))
    while count_uploads(sandbox) == 0:  # noqa: ASYNC110  what is waited for is on the other side of a socket
        await asyncio.sleep(0)
    await asyncio.to_thread(CHANGES[change], path)
    while not uploading.done():
        advance_time(1.2 * veriff.statistics().cooldown_remaining)  # those who wait are spread over a tenth more
        await asyncio.sleep(0)
    with pytest.raises(MediaChangedError, match="changed while it was uploaded"):
        await uploading

    assert [] == stored_digests(sandbox)


def write_into(path: Path) -> None:
    """Change bytes in the middle of a file."""
    with path.open("r+b") as file:
        file.seek(700_000)
        file.write(b"changed")


def replace(path: Path) -> None:
    """Replace a file by another one of the same length."""
    other = path.with_suffix(".new")
    other.write_bytes(LARGE[:-1] + b"!")
    other.replace(path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "written to": write_into,
    "grown": lambda path: os.truncate(path, len(LARGE) + 1),
    "cut": lambda path: os.truncate(path, len(LARGE) - 1),
    "replaced": replace,
}


async def test_file_in_memory_is_sent_as_it_was_signed(
    sandbox: Sandbox, veriff: VeriffClient, session: VerificationSession, tmp_path: Path, max_held_file: int
) -> None:
    """A file that was small enough to be read whole may change or vanish while it is sent, also between attempts."""
    content = LARGE[:max_held_file]
    path = await asyncio.to_thread(write_file, content, tmp_path)
    sandbox.inject(Fault.status(503), path=MEDIA)
    uploading = asyncio.create_task(session.upload(Media(path, "face")))
    while count_uploads(sandbox) == 0:  # noqa: ASYNC110  what is waited for is on the other side of a socket
        await asyncio.sleep(0)
    await asyncio.to_thread(path.unlink)
    (receipt,) = await uploading

    assert [digest(content)] == stored_digests(sandbox)
    assert receipt.size == max_held_file
    assert veriff.statistics().retries == 1


async def test_bytearray_that_changes_is_never_sent_completely(sandbox: Sandbox, session: VerificationSession) -> None:
    """A bytearray that is written to during the upload is a changed media too."""
    source = bytearray(LARGE)

    def spoil(_: UploadProgress) -> None:
        source[-1] ^= 1

    with pytest.raises(MediaChangedError):
        await session.upload(Media(source, "face"), progress=spoil)

    assert [] == stored_digests(sandbox)


async def test_file_closed_during_upload_is_reported(sandbox: Sandbox, session: VerificationSession) -> None:
    """A file that its owner closes during the upload cannot be read to its end."""
    source = io.BytesIO(LARGE)
    with pytest.raises(MediaError, match=r"keep the file open"):
        await session.upload(Media(source, "face"), progress=lambda _: source.close())

    assert [] == stored_digests(sandbox)


async def test_receipts_are_in_order(session: VerificationSession) -> None:
    """The receipts are in the order of the arguments, however long each upload takes."""
    media = [Media(LARGE if index % 2 else SMALL, context) for index, context in enumerate(CONTEXTS)]
    uploaded = await session.upload(*media)

    assert CONTEXTS == [one.context for one in uploaded]


CONTEXTS = ["document-front", "document-back", "face", "address-front", "face-pre"]


async def test_on_uploaded_runs_after_each_upload(sandbox: Sandbox, session: VerificationSession) -> None:
    """on_uploaded gets each receipt immediately, also when another upload fails; its exception ends the call."""
    receipts: dict[int, str] = {}

    async def note(index: int, receipt: UploadedMedia) -> None:
        receipts[index] = receipt.id

    sandbox.inject(Fault.status(400), path="/v1/sessions/*/media", times=1)
    with pytest.raises(BadRequestError):
        await session.upload(*(Media(SMALL, context) for context in CONTEXTS), concurrency=1, on_uploaded=note)
    assert {} == receipts
    uploaded = await session.upload(*(Media(SMALL, context) for context in CONTEXTS), on_uploaded=note)
    assert receipts == {index: receipt.id for index, receipt in enumerate(uploaded)}

    async def refuse(index: int, receipt: UploadedMedia) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await session.upload(Media(SMALL, "face"), on_uploaded=refuse)


async def test_progress_reaches_the_total(session: VerificationSession) -> None:
    """Progress grows to the length of the body, for small and large files, and has its media."""
    small, large = Media(SMALL, "face"), Media(LARGE, "document-front")
    seen: list[UploadProgress] = []
    await session.upload(small, large, progress=seen.append)

    for media in (small, large):
        sent = [event.bytes_sent for event in seen if event.media is media]
        assert sorted(sent) == sent
        assert {sent[-1]} == {event.total_bytes for event in seen if event.media is media}
    assert 10 < sum(event.media is large for event in seen)


async def test_progress_restarts_with_each_try(sandbox: Sandbox, session: VerificationSession) -> None:
    """A retry starts at zero."""
    seen: list[int] = []
    sandbox.inject(Fault.drop(after=600_000), path=MEDIA)
    await session.upload(Media(LARGE, "face"), progress=lambda event: seen.append(event.bytes_sent))

    assert any(later < earlier for earlier, later in itertools.pairwise(seen))
    assert max(seen) == seen[-1]


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
async def test_exception_of_progress_ends_the_upload(session: VerificationSession, content: bytes) -> None:
    """An exception of the user's function is raised unchanged."""

    def broken(_: UploadProgress) -> None:
        msg = "mine"
        raise LookupError(msg)

    with pytest.raises(LookupError, match="mine"):
        await session.upload(Media(content, "face"), progress=broken)


async def test_first_failure_cancels_the_others(session: VerificationSession) -> None:
    """The error is the first one, not a group, and has the receipts of the other uploads."""
    order: list[str] = []
    uploaded = asyncio.Event()

    async def set_uploaded(index: int, receipt: UploadedMedia) -> None:
        del index, receipt
        uploaded.set()

    async def slow() -> AsyncIterator[bytes]:
        yield JPEG
        order.append("begun")
        await asyncio.Event().wait()

    async def failing() -> AsyncIterator[bytes]:
        await uploaded.wait()
        yield b"GIF89a"

    with pytest.raises(MediaUnsupportedError) as caught:
        await session.upload(
            Media(slow(), "face"),
            Media(SMALL, "document-front"),
            Media(failing(), "face"),
            on_uploaded=set_uploaded,
        )

    assert ["document-front"] == [up.context for up in caught.value.uploaded]
    assert ["begun"] == order


async def test_submitted_session_refuses_uploads(session: VerificationSession) -> None:
    """An upload after the submission is a conflict."""
    await session.submit()
    with pytest.raises(ConflictError, match="already submitted"):
        await session.upload(Media(SMALL, "face"))


@pytest.mark.parametrize(("concurrency", "most"), [(None, 4), (2, 2), (1, 1), (100, 4)])
async def test_concurrency_is_limited(
    veriff: VeriffClient, session: VerificationSession, concurrency: int | None, most: int
) -> None:
    """Neither the limit of the call nor that of the client is exceeded."""
    running: list[int] = []
    media = [Media(LARGE, "face") for _ in range(8)]
    await session.upload(
        *media, concurrency=concurrency, progress=lambda _: running.append(veriff.statistics().active_uploads)
    )

    assert most == max(running)


def open_files(folder: Path) -> list[str]:
    """Return the pictures and unnamed files that this process has open."""
    paths = [fd.readlink() for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
    return [str(path) for path in paths if folder in path.parents or "(deleted)" in path.name]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux to see what is open")
@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("turns", [0, 1, 5, 20, 80, 200])
async def test_cancelled_upload_closes_its_files(
    session: VerificationSession, tmp_path: Path, turns: int, *, small: bool
) -> None:
    """An upload that is cancelled at any moment closes the files that it opened."""
    path = await asyncio.to_thread(write_file, LARGE, tmp_path)
    before = await asyncio.to_thread(open_files, tmp_path)
    media = [Media(SMALL, "document-front")] * 3 if small else [Media(path, "face"), Media(pieces(LARGE), "face")]
    uploading = asyncio.create_task(session.upload(*media, Media(SMALL, "document-front")))
    for _ in range(turns):
        await asyncio.sleep(0)
    uploading.cancel()
    await asyncio.gather(uploading, return_exceptions=True)
    await session.decision()

    assert before == await asyncio.to_thread(open_files, tmp_path)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux to see what is open")
async def test_client_that_is_closed_after_the_creation_keeps_no_file(veriff: VeriffClient, tmp_path: Path) -> None:
    """The temporary file of a stream ends with the call, also if middleware of the creation closes the client."""

    async def close_after(request: CallRequest, call_next: CallNext) -> CallResponse:
        response = await call_next(request)
        await veriff.aclose()
        return response

    before = await asyncio.to_thread(open_files, tmp_path)
    with pytest.raises(ClientClosedError) as raised:
        await veriff.with_options(middleware=[close_after]).submit(media=[Media(pieces(LARGE), "face")])

    assert raised.value.session_id is not None
    assert before == await asyncio.to_thread(open_files, tmp_path)


async def test_memory_does_not_grow_with_the_files(session: VerificationSession, faulty: Sources) -> None:
    """Four concurrent uploads of 17 MB need less memory than one file has, including the sandbox in this process."""
    path = await asyncio.to_thread(faulty.sparse, "fits.jpg", JPEG, 17_000_000)
    media = [Media(path, "face") for _ in range(4)]
    await session.upload(Media(SMALL, "face"))
    tracemalloc.start()
    try:
        await session.upload(*media)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert 16_000_000 > peak


async def test_content_is_a_data_uri() -> None:
    """The request body has the documented form: one JSON object whose content is a data URI."""
    seen: list[dict[str, dict[str, str]]] = []

    async def take(request: web.Request) -> web.Response:
        seen.append(await request.json())
        return web.json_response({"status": "success", "image": {"id": "1"}})

    app = web.Application()
    app.router.add_post("/{path:.*}", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        root = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with VeriffClient(Credentials("key", "secret"), base_url=root) as veriff:
            await veriff.session("a" * 36).upload(Media(SMALL, "document-front"))
    finally:
        await runner.cleanup()

    (body,) = seen
    assert body["image"]["context"] == "document-front"
    prefix, _, content = body["image"]["content"].partition(",")
    assert prefix == "data:image/jpeg;base64"
    assert base64.b64decode(content) == SMALL
