"""Uploads: every source arrives whole, every fault is told before a byte leaves, and nothing is left behind."""

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
    """Be quick to try again."""
    return {"retry": RetryPolicy(initial_backoff=0.001, max_backoff=0.002), "max_uploads": 4}


@pytest.fixture
async def session(veriff: VeriffClient) -> VerificationSession:
    """Give a session to upload to."""
    return await veriff.create_session()


class Reader:
    """Something with an async read(n), as web frameworks hand it out."""

    def __init__(self, content: bytes) -> None:
        """Take what is read."""
        self._file = io.BytesIO(content)

    async def read(self, n: int, /) -> bytes:
        """Return up to `n` bytes, in small pieces as a network gives them."""
        await asyncio.sleep(0)
        return self._file.read(min(n, 40_000))


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    """Give content in pieces of an odd size."""
    for at in range(0, len(content), 10_007):
        await asyncio.sleep(0)
        yield content[at : at + 10_007]


class Wrapped:
    """A file whose read is not async and gives something to await, as some wrappers do."""

    def __init__(self, content: bytes) -> None:
        """Take what is read."""
        self._reader = Reader(content)

    def read(self, n: int) -> object:
        """Return something to await."""
        return self._reader.read(n)


def pipe(content: bytes) -> BinaryIO:
    """Return a pipe that holds content, as far as the system lets it."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as writer:
        writer.write(content[:60_000])
    return os.fdopen(reading, "rb")


def behind_a_header(content: bytes, folder: Path, *, buffering: int = -1) -> BinaryIO:
    """Return an open file that stands behind its first bytes."""
    path = folder / "behind"
    path.write_bytes(b"header" + content)
    file = path.open("rb", buffering=buffering)
    file.seek(6)
    return file


def zipped(content: bytes, folder: Path) -> BinaryIO:
    """Return an open gzip file, whose descriptor is that of something else."""
    path = folder / "picture.gz"
    with gzip.open(path, "wb") as file:
        file.write(content)
    return cast("BinaryIO", gzip.open(path, "rb"))


def temporary(content: bytes) -> BinaryIO:
    """Return a file that lives in memory while it is small."""
    file = tempfile.SpooledTemporaryFile(max_size=10_000_000)  # noqa: SIM115  closed by the test
    file.write(content)
    file.seek(0)
    return cast("BinaryIO", file)


def path_to(content: bytes, folder: Path) -> Path:
    """Return the path of a file."""
    path = folder / "picture.jpg"
    path.write_bytes(content)
    return path


SOURCES: dict[str, Callable[[bytes, Path], MediaSource]] = {
    "path": path_to,
    "text": lambda content, folder: str(path_to(content, folder)),
    "bytes": lambda content, _: content,
    "bytearray": lambda content, _: bytearray(content),
    "memoryview": lambda content, _: memoryview(content),
    "file": behind_a_header,
    "raw file": lambda content, folder: behind_a_header(content, folder, buffering=0),
    "BytesIO": lambda content, _: io.BytesIO(content),
    "gzip file": zipped,
    "temporary file": lambda content, _: temporary(content),
    "async iterator": lambda content, _: pieces(content),
    "async reader": lambda content, _: Reader(content),
    "wrapper": lambda content, _: cast("BinaryIO", Wrapped(content)),
}


@pytest.fixture(params=[SMALL, LARGE], ids=["small", "large"])
def content(request: pytest.FixtureRequest) -> bytes:
    """Give a small and a large picture."""
    return cast("bytes", request.param)


@pytest.fixture(params=list(SOURCES.values()), ids=list(SOURCES))
def source(request: pytest.FixtureRequest, content: bytes, tmp_path: Path) -> Iterator[MediaSource]:
    """Give each kind of source of it; what is a file is still open afterwards."""
    source = cast("MediaSource", request.param(content, tmp_path))
    yield source
    if isinstance(source, io.IOBase | tempfile.SpooledTemporaryFile):
        assert not source.closed
        source.close()


def kept(sandbox: Sandbox) -> list[str]:
    """Return the digests of the pictures that the sandbox keeps."""
    return [media.sha256 for seen in sandbox.sessions for media in seen.media]


def digest(content: bytes) -> str:
    """Return the digest of a picture."""
    return hashlib.sha256(content).hexdigest()


def uploads(sandbox: Sandbox) -> int:
    """Return how many uploads the sandbox has seen."""
    return sum(seen.path.endswith("/media") for seen in sandbox.requests)


async def test_every_source_arrives_whole(
    sandbox: Sandbox, session: VerificationSession, source: MediaSource, content: bytes
) -> None:
    """Whatever holds the bytes, the same bytes arrive, with their type and size."""
    (uploaded,) = await session.upload(Media(source, "face"))

    assert [digest(content)] == kept(sandbox)
    assert (len(content), "image/jpeg", "face") == (uploaded.size, uploaded.mimetype, uploaded.context)
    assert not uploaded.repeated


async def test_every_source_survives_a_broken_connection(
    sandbox: Sandbox, session: VerificationSession, source: MediaSource, content: bytes
) -> None:
    """A second try sends the whole again, also of what could be read only once."""
    sandbox.inject(Fault.drop(after=len(content) // 2), path=MEDIA)
    (uploaded,) = await session.upload(Media(source, "face"))

    assert [digest(content)] == kept(sandbox)
    assert uploaded.repeated


async def test_a_pipe_is_read_once_and_sent_whole(sandbox: Sandbox, session: VerificationSession) -> None:
    """A file that cannot seek is kept while it is signed and sent."""
    with await asyncio.to_thread(pipe, LARGE) as source:
        await session.upload(Media(source, "face"))

    assert [digest(LARGE[:60_000])] == kept(sandbox)


async def test_an_anyio_file_is_read(sandbox: Sandbox, session: VerificationSession, tmp_path: Path) -> None:
    """Files of anyio have an async read."""
    path = anyio.Path(tmp_path / "picture.jpg")
    await path.write_bytes(LARGE)
    async with await anyio.open_file(path, "rb") as file:
        await session.upload(Media(cast("MediaSource", file), "face"))

    assert [digest(LARGE)] == kept(sandbox)


async def test_a_request_body_is_handed_on(sandbox: Sandbox, session: VerificationSession) -> None:
    """A web application relays what a browser sends, without reading it whole."""

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

    assert [digest(LARGE)] == kept(sandbox)


async def test_without_the_page_cache_threads_read(
    sandbox: Sandbox, session: VerificationSession, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system cannot say what takes no waiting, the same bytes arrive."""
    monkeypatch.setattr(source_module, "_NOWAIT", 0)
    path = await asyncio.to_thread(path_to, content, tmp_path)
    await session.upload(Media(path, "face"))

    assert [digest(content)] == kept(sandbox)


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
async def test_every_type_is_told_by_its_first_bytes(session: VerificationSession, head: bytes, mimetype: str) -> None:
    """The type is found, and sent in the data URI."""
    (uploaded,) = await session.upload(Media(head + bytes(100), "face"))

    assert mimetype == uploaded.mimetype


class Sources:
    """Sources that cannot be uploaded, made when the test runs."""

    def __init__(self, folder: Path) -> None:
        """Make the files that are needed."""
        self.folder = folder
        self.closed = io.BytesIO(JPEG)
        self.closed.close()
        self.text = path_to(JPEG, folder).open(encoding="latin-1")
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
    "unknown type": (lambda _: Media(b"GIF89a" + bytes(100), "face"), MediaUnsupportedError, "give a JPEG, PNG"),
    "unknown type of a stream": (lambda _: Media(pieces(b"GIF89a"), "face"), MediaUnsupportedError, "give a JPEG"),
    "another type": (
        lambda _: Media(JPEG, "face", mimetype="image/png"),
        MediaUnsupportedError,
        "is image/jpeg, not the stated type",
    ),
    "large image": (lambda s: Media(s.image, "face"), MediaTooLargeError, "send a smaller picture"),
    "large PDF": (lambda s: Media(s.pdf, "face"), MediaTooLargeError, "Veriff takes fewer than 20000000"),
    "unknown context": (lambda _: Media(JPEG, "selfie"), InvalidArgumentError, "context that Veriff does not document"),
    "naive time": (
        lambda _: Media(JPEG, "face", timestamp=datetime(2025, 1, 1)),  # noqa: DTZ001  what is refused
        InvalidArgumentError,
        "no time zone",
    ),
    "text file": (lambda s: Media(cast("BinaryIO", s.text), "face"), InvalidArgumentError, 'mode "rb"'),
    "closed file": (lambda s: Media(s.closed, "face"), MediaError, "closed or cannot be read"),
    "no source": (lambda _: Media(cast("bytes", 42), "face"), InvalidArgumentError, "cannot be read"),
    "stream of text": (
        lambda _: Media(cast("AsyncIterator[bytes]", texts()), "face"),
        InvalidArgumentError,
        "must return bytes",
    ),
}


async def texts() -> AsyncIterator[str]:
    """Give what is no bytes."""
    yield "text"


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[Sources]:
    """Give sources that cannot be uploaded."""
    made = Sources(tmp_path)
    yield made
    made.text.close()


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_every_fault_is_told_before_a_byte_leaves(
    sandbox: Sandbox,
    session: VerificationSession,
    faulty: Sources,
    fault: tuple[Callable[[Sources], Media], type[VeriffError], str],
) -> None:
    """One clear error for each fault, without the path, and no request."""
    make, kind, words = fault
    with pytest.raises(kind, match=words) as caught:
        await session.upload(make(faulty))

    assert kind is type(caught.value)
    assert str(faulty.folder) not in str(caught.value)
    assert 0 == uploads(sandbox)


async def test_what_is_looked_at_first_holds_all_back(sandbox: Sandbox, session: VerificationSession) -> None:
    """One bad file among good ones, and none is sent."""
    with pytest.raises(MediaUnsupportedError):
        await session.upload(Media(SMALL, "document-front"), Media(b"GIF89a", "face"))

    assert 0 == uploads(sandbox)


async def test_a_file_that_may_not_be_read_is_told(
    session: VerificationSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system refuses to open a file, the error says so (as root it never does, so it is told to)."""

    def refuse(*_: object, **__: object) -> BinaryIO:
        raise PermissionError

    monkeypatch.setattr(source_module, "open", refuse, raising=False)
    with pytest.raises(MediaError, match="check its permissions"):
        await session.upload(Media(tmp_path, "face"))


@pytest.mark.parametrize(
    ("media", "options", "words"),
    [
        ([], {}, "nothing to upload"),
        (["front.jpg"], {}, "upload takes Media"),
        ([Media(JPEG, "face")], {"concurrency": 0}, "concurrency must be 1 or more"),
        ([Media(same := io.BytesIO(JPEG), "face"), Media(same, "face")], {}, "is passed twice"),
    ],
)
async def test_a_call_that_cannot_be_meant_is_refused(
    session: VerificationSession, media: list[Media], options: dict[str, int], words: str
) -> None:
    """Mistakes in the call itself are configuration errors."""
    with pytest.raises(InvalidArgumentError, match=words):
        await session.upload(*media, **options)  # type: ignore[arg-type]


async def test_common_slips_are_forgiven(session: VerificationSession) -> None:
    """image/jpg means JPEG, the two HEIF names mean one family, and a newer context can be named on purpose."""
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
    uploaded = await session.upload(
        Media(JPEG, "face", mimetype="image/jpg"), Media(heic, "face", mimetype="image/heif; charset=binary")
    )

    assert ["image/jpeg", "image/heic"] == [one.mimetype for one in uploaded]
    with pytest.raises(VeriffError, match="does not know this context"):
        await session.upload(Media(JPEG, MediaContext("face-of-tomorrow")))


async def test_a_stream_that_is_too_long_is_not_read_on(sandbox: Sandbox, session: VerificationSession) -> None:
    """A stream is left as soon as it has more bytes than Veriff takes of anything."""
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1_000_000
            yield JPEG + bytes(999_996)

    with pytest.raises(MediaTooLargeError, match="send a smaller picture"):
        await session.upload(Media(endless(), "face"))

    assert 21_000_000 >= taken
    assert 0 == uploads(sandbox)


def rested(path: Path) -> Path:
    """Let a file look as if nobody had written to it for long."""
    os.utime(path, (1_000_000_000, 1_000_000_000))
    return path


@pytest.mark.parametrize(
    "case", list(itertools.product(["rested", "fresh"], ["written to", "grown", "cut", "replaced"])), ids=" and ".join
)
async def test_a_file_that_changes_is_never_sent_whole(
    sandbox: Sandbox, veriff: VeriffClient, tmp_path: Path, case: tuple[str, str], advance_time: Callable[[float], None]
) -> None:
    """Between signing and sending a file may change: then the last piece does not leave."""
    path = await asyncio.to_thread(path_to, LARGE, tmp_path)
    rest, change = case
    if rest == "rested":
        rested(path)
    sandbox.inject(Fault.status(503, retry_after=30), path=MEDIA)
    session = await veriff.create_session()
    uploading = asyncio.create_task(session.upload(Media(path, "face")))
    while uploads(sandbox) == 0:  # noqa: ASYNC110  what is waited for is on the other side of a socket
        await asyncio.sleep(0)
    await asyncio.to_thread(CHANGES[change], path)
    while not uploading.done():
        advance_time(1.2 * veriff.statistics().cooldown_remaining)  # those who wait are spread over a tenth more
        await asyncio.sleep(0)
    with pytest.raises(MediaChangedError, match="changed while it was uploaded"):
        await uploading

    assert [] == kept(sandbox)


def write_into(path: Path) -> None:
    """Change bytes in the middle of a file."""
    with path.open("r+b") as file:
        file.seek(700_000)
        file.write(b"changed")


def replace(path: Path) -> None:
    """Put another file of the same length in the place of a file."""
    other = path.with_suffix(".new")
    other.write_bytes(LARGE[:-1] + b"!")
    other.replace(path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "written to": write_into,
    "grown": lambda path: os.truncate(path, len(LARGE) + 1),
    "cut": lambda path: os.truncate(path, len(LARGE) - 1),
    "replaced": replace,
}


async def test_bytes_that_change_are_never_sent_whole(sandbox: Sandbox, session: VerificationSession) -> None:
    """A bytearray that is written to meanwhile is a changed media, too."""
    source = bytearray(LARGE)

    def spoil(_: UploadProgress) -> None:
        source[-1] ^= 1

    with pytest.raises(MediaChangedError):
        await session.upload(Media(source, "face"), progress=spoil)

    assert [] == kept(sandbox)


async def test_a_file_that_is_closed_meanwhile_is_told(sandbox: Sandbox, session: VerificationSession) -> None:
    """A file that its owner closes during the upload cannot be read to its end."""
    source = io.BytesIO(LARGE)
    with pytest.raises(MediaError, match=r"keep the file open"):
        await session.upload(Media(source, "face"), progress=lambda _: source.close())

    assert [] == kept(sandbox)


async def test_results_keep_the_order(session: VerificationSession) -> None:
    """However long each takes, the receipts come in the order of the arguments."""
    media = [Media(LARGE if place % 2 else SMALL, context) for place, context in enumerate(CONTEXTS)]
    uploaded = await session.upload(*media)

    assert CONTEXTS == [one.context for one in uploaded]


CONTEXTS = ["document-front", "document-back", "face", "address-front", "face-pre"]


async def test_each_receipt_is_told_when_it_comes(sandbox: Sandbox, session: VerificationSession) -> None:
    """What is up is told at once with its place, also when another fails, and what is raised about it ends the call."""
    told: dict[int, str] = {}

    async def note(place: int, receipt: UploadedMedia) -> None:
        told[place] = receipt.id

    sandbox.inject(Fault.status(400), path="/v1/sessions/*/media", times=1)
    with pytest.raises(BadRequestError):
        await session.upload(*(Media(SMALL, context) for context in CONTEXTS), concurrency=1, on_uploaded=note)
    assert {} == told
    uploaded = await session.upload(*(Media(SMALL, context) for context in CONTEXTS), on_uploaded=note)
    assert told == {place: receipt.id for place, receipt in enumerate(uploaded)}

    async def refuse(place: int, receipt: UploadedMedia) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await session.upload(Media(SMALL, "face"), on_uploaded=refuse)


async def test_progress_tells_every_step(session: VerificationSession) -> None:
    """Progress grows to the whole length of the body, for small and large, and names its media."""
    small, large = Media(SMALL, "face"), Media(LARGE, "document-front")
    seen: list[UploadProgress] = []
    await session.upload(small, large, progress=seen.append)

    for media in (small, large):
        sent = [event.bytes_sent for event in seen if event.media is media]
        assert sorted(sent) == sent
        assert {sent[-1]} == {event.total_bytes for event in seen if event.media is media}
    assert 10 < sum(event.media is large for event in seen)


async def test_progress_begins_again_with_a_second_try(sandbox: Sandbox, session: VerificationSession) -> None:
    """A try that is repeated starts from nothing."""
    seen: list[int] = []
    sandbox.inject(Fault.drop(after=600_000), path=MEDIA)
    await session.upload(Media(LARGE, "face"), progress=lambda event: seen.append(event.bytes_sent))

    assert any(later < earlier for earlier, later in itertools.pairwise(seen))
    assert max(seen) == seen[-1]


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
async def test_an_error_of_progress_ends_the_upload(session: VerificationSession, content: bytes) -> None:
    """An exception of the caller's own function comes out as it is."""

    def broken(_: UploadProgress) -> None:
        msg = "mine"
        raise LookupError(msg)

    with pytest.raises(LookupError, match="mine"):
        await session.upload(Media(content, "face"), progress=broken)


async def test_the_first_failure_cancels_the_others(sandbox: Sandbox, session: VerificationSession) -> None:
    """The error is the first one, alone, and says which pictures were already up."""
    order: list[str] = []

    async def slow() -> AsyncIterator[bytes]:
        yield JPEG
        order.append("begun")
        await asyncio.Event().wait()

    async def failing() -> AsyncIterator[bytes]:
        while len(kept(sandbox)) < 1:  # noqa: ASYNC110  what is waited for is on the other side of a socket
            await asyncio.sleep(0)
        yield b"GIF89a"

    with pytest.raises(MediaUnsupportedError) as caught:
        await session.upload(Media(slow(), "face"), Media(SMALL, "document-front"), Media(failing(), "face"))

    assert ["document-front"] == [up.context for up in caught.value.uploaded]
    assert ["begun"] == order


async def test_a_submitted_session_takes_no_pictures(session: VerificationSession) -> None:
    """After submission it is too late."""
    await session.submit()
    with pytest.raises(ConflictError, match="already submitted"):
        await session.upload(Media(SMALL, "face"))


@pytest.mark.parametrize(("concurrency", "most"), [(None, 4), (2, 2), (1, 1), (100, 4)])
async def test_only_so_many_run_at_once(
    veriff: VeriffClient, session: VerificationSession, concurrency: int | None, most: int
) -> None:
    """Neither the call's nor the client's limit is passed."""
    running: list[int] = []
    media = [Media(LARGE, "face") for _ in range(8)]
    await session.upload(
        *media, concurrency=concurrency, progress=lambda _: running.append(veriff.statistics().active_uploads)
    )

    assert most == max(running)


def files_open(folder: Path) -> list[str]:
    """Return the pictures and unnamed files that this process holds open."""
    found = [fd.readlink() for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
    return [str(path) for path in found if folder in path.parents or "(deleted)" in path.name]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux to see what is open")
@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("turns", [0, 1, 5, 20, 80, 200])
async def test_cancelling_leaves_nothing(
    session: VerificationSession, tmp_path: Path, turns: int, *, small: bool
) -> None:
    """An upload that is cancelled at any moment closes what it opened."""
    path = await asyncio.to_thread(path_to, LARGE, tmp_path)
    before = await asyncio.to_thread(files_open, tmp_path)
    media = [Media(SMALL, "document-front")] * 3 if small else [Media(path, "face"), Media(pieces(LARGE), "face")]
    uploading = asyncio.create_task(session.upload(*media, Media(SMALL, "document-front")))
    for _ in range(turns):
        await asyncio.sleep(0)
    uploading.cancel()
    await asyncio.gather(uploading, return_exceptions=True)
    await session.decision()

    assert before == await asyncio.to_thread(files_open, tmp_path)


async def test_memory_does_not_grow_with_the_files(session: VerificationSession, faulty: Sources) -> None:
    """Four uploads of 17 MB at once take less than one of them would, the sandbox in the same process included."""
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


async def test_the_content_is_a_data_uri() -> None:
    """What goes over the wire is the reference's own form: one JSON object whose content is a data URI."""
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
