"""The downloader: streamed, verified, safely named, and either complete or absent."""

from __future__ import annotations

import asyncio
import gzip
import os
import stat
import tracemalloc
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Unpack

import anyio
import pytest
from aiohttp import web
from anyio import to_thread
from attrs import evolve

from tests.conditions import SECONDS, needs_posix, time_limit
from tests.loops import every_loop
from veriff_async import (
    ConfigurationError,
    Credentials,
    DownloadedMedia,
    InvalidArgumentError,
    Media,
    MediaExistsError,
    MediaNotSavedError,
    NfcData,
    NotFoundError,
    RequestTimeoutError,
    ResponseError,
    RetryPolicy,
    Timeouts,
    TransportError,
    VeriffClient,
)
from veriff_async.models import MediaFile
from veriff_async.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from veriff_async import DownloadProgress, VerificationSession
    from veriff_async.client import ClientOptions

pytestmark = pytest.mark.anyio

PICTURE = b"\xff\xd8\xff\xda" + os.urandom(3_000_000)  # pixels follow at once, so no size is read from them
SMALL = b"\x89PNG\r\n\x1a\n" + bytes(500)
CHIP = NfcData(com=b"1", sod=b"2", dg1=b"3", dg2=b"4")
MEDIA_ID = "8f0d1ab6-0000-4000-8000-000000000001"
IMPATIENT: ClientOptions = {"retry": RetryPolicy(max_attempts=1), "timeouts": Timeouts(connect=2, idle=0.3)}
CREDENTIALS = Credentials("5b0d1ab6-0000-4000-8000-000000000001", "secret")


@pytest.fixture
def client_options() -> ClientOptions:
    """Retry immediately, with short time limits."""
    return {"retry": RetryPolicy(initial_backoff=0.0), "timeouts": Timeouts(idle=5)}


@pytest.fixture
async def session(veriff: VeriffClient) -> VerificationSession:
    """Return a session with two pictures and the data of a chip."""
    opened = await veriff.create_session()
    await opened.upload(Media(PICTURE, "document-front"), Media(SMALL, "face"))
    await opened.upload_nfc(CHIP)
    return opened


@pytest.fixture
async def front(session: VerificationSession) -> MediaFile:
    """Return the large picture."""
    media = await session.media()
    return next(file for file in media.images if file.context == "document-front")


async def file_names(folder: Path) -> list[str]:
    """Return the names in a folder, hidden files included."""
    return sorted(await to_thread.run_sync(os.listdir, folder))


async def read_file(path: Path) -> bytes:
    """Read a file."""
    return await to_thread.run_sync(path.read_bytes)


async def read_stream(veriff: VeriffClient, file: MediaFile, pieces: list[bytes] | None = None) -> None:
    """Read a stream to its end, and keep the pieces that arrived before an error."""
    async with veriff.stream_media(file) as stream:
        async for piece in stream:
            if pieces is not None:
                pieces.append(piece)


@asynccontextmanager
async def serving(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    *,
    prepare: Callable[[web.Request, web.StreamResponse], Awaitable[None]] | None = None,
    **options: Unpack[ClientOptions],
) -> AsyncIterator[VeriffClient]:
    """Run a server other than the sandbox, with a client of it."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    if prepare is not None:
        app.on_response_prepare.append(prepare)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        options.setdefault("retry", RetryPolicy(max_attempts=1))
        options.setdefault("timeouts", Timeouts(idle=5))
        async with VeriffClient(CREDENTIALS, base_url=f"http://{host}:{port}", **options) as client:
            yield client
    finally:
        await runner.cleanup()


def serving_jpeg(
    body: bytes, *, announced: bool = True, encoding: str | None = None
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return a handler that serves one JPEG, with or without its size."""

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={} if encoding is None else {"Content-Encoding": encoding})
        response.content_type = "image/jpeg"
        if announced:
            response.content_length = len(body)
        await response.prepare(request)
        with suppress(ConnectionError):  # the client refuses the rest
            await response.write(body)
        return response

    return handle


async def test_file_is_downloaded(veriff: VeriffClient, front: MediaFile, tmp_path: Path) -> None:
    """The bytes are those that were uploaded, with size and type, in a file that only its owner can read."""
    downloaded = await veriff.download_media(front, tmp_path)

    assert downloaded == DownloadedMedia(
        media_id=front.id,
        path=tmp_path / f"document-front-{front.id}.jpg",
        size=len(PICTURE),
        mimetype="image/jpeg",
    )
    assert PICTURE == await read_file(downloaded.path)
    assert stat.S_IMODE((await to_thread.run_sync(downloaded.path.stat)).st_mode) == 0o600
    assert await file_names(tmp_path) == [downloaded.path.name]


async def test_target_is_a_folder_or_a_file(veriff: VeriffClient, front: MediaFile, tmp_path: Path) -> None:
    """A folder that ends with a slash is created, a path is the file's own, and an id names a file as well."""
    made = await veriff.download_media(front, f"{tmp_path}/a/b/")
    named = await veriff.download_media(front, tmp_path / "mine.jpeg")
    plain = await veriff.download_media(front.id, tmp_path)

    assert made.path.parent == tmp_path / "a" / "b"
    assert named.path == tmp_path / "mine.jpeg"
    assert plain.path == tmp_path / f"{front.id}.jpg"


@pytest.mark.parametrize("target", ["folder", "file"])
async def test_existing_file_is_refused_skipped_or_replaced(
    sandbox: Sandbox, veriff: VeriffClient, front: MediaFile, tmp_path: Path, target: str
) -> None:
    """An existing file is refused before any request, kept, or replaced, as the caller says."""
    path = tmp_path if target == "folder" else tmp_path / "mine.jpg"
    first = await veriff.download_media(front, path)
    mine = bytes(len(PICTURE))
    await to_thread.run_sync(first.path.write_bytes, mine)
    requests_before = len(sandbox.requests)

    with pytest.raises(MediaExistsError):
        await veriff.download_media(front, path)
    skipped = await veriff.download_media(front, path, if_exists="skip")

    assert (skipped.skipped, skipped.size, skipped.path) == (True, len(PICTURE), first.path)
    assert requests_before == len(sandbox.requests)
    assert await read_file(first.path) == mine
    replaced = await veriff.download_media(front, path, if_exists="replace")
    assert await read_file(first.path) == PICTURE
    assert not replaced.skipped
    assert await file_names(tmp_path) == [first.path.name]


async def test_existing_file_is_kept_if_the_response_names_it(
    veriff: VeriffClient, front: MediaFile, tmp_path: Path
) -> None:
    """If the response states the type, and so the name, an existing file is still not touched."""
    path, mine = tmp_path / f"{front.id}.jpg", bytes(len(PICTURE))
    await to_thread.run_sync(path.write_bytes, mine)

    with pytest.raises(MediaExistsError):
        await veriff.download_media(front.id, tmp_path)
    skipped = await veriff.download_media(front.id, tmp_path, if_exists="skip")

    assert (skipped.skipped, skipped.size) == (True, len(PICTURE))
    assert await read_file(path) == mine
    assert await file_names(tmp_path) == [path.name]


async def test_existing_file_is_named(veriff: VeriffClient, front: MediaFile, tmp_path: Path) -> None:
    """The error for a file that exists has its path, and names the file unless its name is the caller's own."""
    known, mine = tmp_path / f"document-front-{front.id}.jpg", tmp_path / "ada-lovelace.jpg"
    for path in (known, mine):
        await to_thread.run_sync(path.write_bytes, b"other")

    for if_exists in ("error", "skip"):
        with pytest.raises(MediaExistsError, match=f"^{known.name}: The (file|path) already exists") as named:
            await veriff.download_media(front, tmp_path, if_exists=if_exists)
        with pytest.raises(MediaExistsError, match=r"^The (file|path) already exists") as unnamed:
            await veriff.download_media(front, mine, if_exists=if_exists)
        assert (named.value.path, unnamed.value.path) == (known, mine)


async def test_skipped_file_has_its_type(veriff: VeriffClient, front: MediaFile, tmp_path: Path) -> None:
    """A file that was skipped is described like one that was downloaded, its type included."""
    downloaded = await veriff.download_media(front, tmp_path, if_exists="skip")

    for media in (front, evolve(front, size=None)):
        assert evolve(downloaded, skipped=True) == await veriff.download_media(media, tmp_path, if_exists="skip")


def make_dangling_link(path: Path) -> None:
    """Create a link to a file that does not exist."""
    path.symlink_to(path.with_name("missing"))


def make_link_to_a_short_file(path: Path) -> None:
    """Create a link to a file that is too short."""
    path.with_name("short").write_bytes(b"short")
    path.symlink_to(path.with_name("short"))


THUMBNAIL: Final = MediaFile(id=MEDIA_ID, mimetype="image/jpeg", size=len(SMALL))
UNFINISHED: Final = {
    "shorter": lambda path: path.write_bytes(SMALL[:-1]),
    "longer": lambda path: path.write_bytes(SMALL + b"1"),
    "a dangling link": make_dangling_link,
    "a link to a short file": make_link_to_a_short_file,
    "a pipe": os.mkfifo,
}


@needs_posix
@pytest.mark.parametrize("known", ["size known", "size announced", "size unknown"])
@pytest.mark.parametrize("make", list(UNFINISHED.values()), ids=list(UNFINISHED))
async def test_skip_refuses_a_file_of_another_size(tmp_path: Path, make: Callable[[Path], object], known: str) -> None:
    """With ``if_exists="skip"``, an entry without the announced size is an error, and stays as it is."""
    path = tmp_path / "target"
    await to_thread.run_sync(make, path)
    before = await file_names(tmp_path)

    async with serving(serving_jpeg(SMALL, announced=known != "size unknown")) as veriff:
        with pytest.raises(MediaExistsError, match="not the complete download"):
            await veriff.download_media(THUMBNAIL if known == "size known" else MEDIA_ID, path, if_exists="skip")

    assert await file_names(tmp_path) == before


async def test_skip_refuses_a_folder(sandbox: Sandbox, veriff: VeriffClient, front: MediaFile, tmp_path: Path) -> None:
    """A folder with the name of the file is an error, also when its own size is that of the file."""
    folder = tmp_path / f"document-front-{front.id}.jpg"
    await to_thread.run_sync(folder.mkdir)
    size = (await to_thread.run_sync(folder.stat)).st_size

    for media in (front, evolve(front, size=size)):
        with pytest.raises(MediaExistsError, match="not the complete download"):
            await veriff.download_media(media, tmp_path, if_exists="skip")

    assert await file_names(tmp_path) == [folder.name]


@pytest.mark.parametrize("known", ["size known", "size announced", "size unknown"])
async def test_skip_fills_an_empty_file(tmp_path: Path, known: str) -> None:
    """An empty file has nothing to lose: with ``if_exists="skip"`` the download replaces it."""
    path = tmp_path / "target"
    await to_thread.run_sync(path.touch)

    async with serving(serving_jpeg(SMALL, announced=known != "size unknown")) as veriff:
        media = THUMBNAIL if known == "size known" else MEDIA_ID
        downloaded = await veriff.download_media(media, path, if_exists="skip")
        again = await veriff.download_media(media, path, if_exists="skip")

    assert (downloaded.skipped, again.skipped) == (False, True)
    assert await read_file(path) == SMALL
    assert await file_names(tmp_path) == ["target"]


async def test_folder_without_hard_links_never_has_an_incomplete_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the file system has no links, a kill at any moment leaves the name free or the complete file."""
    seen: list[int | None] = []
    replace = type(tmp_path).replace

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    def record_replace(source: Path, target: Path) -> Path:
        seen.append(target.stat().st_size if target.exists() else None)
        return replace(source, target)

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(type(tmp_path), "replace", record_replace)
    async with serving(serving_jpeg(SMALL)) as veriff:
        await veriff.download_media(THUMBNAIL, tmp_path / "target")
        with pytest.raises(MediaExistsError):
            await veriff.download_media(MEDIA_ID, tmp_path / "target")

    assert seen == [None]
    assert await read_file(tmp_path / "target") == SMALL


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "GZIP"])
async def test_compressed_download_is_refused(tmp_path: Path, encoding: str) -> None:
    """A download is never decompressed: a few bytes could fill the disk, and the signature covers the file itself."""
    bomb = gzip.compress(bytes(1_000_000))
    async with serving(serving_jpeg(bomb, encoding=encoding)) as veriff:
        with pytest.raises(ResponseError, match="compressed"):
            await veriff.download_media(MEDIA_ID, tmp_path)
        with pytest.raises(ResponseError, match="compressed"):
            async with veriff.stream_media(MEDIA_ID):
                pass

    assert await file_names(tmp_path) == []


@pytest.mark.parametrize("status", [201, 202, 203, 204, 205, 206, 226, 299])
async def test_only_200_is_a_whole_file(tmp_path: Path, status: int) -> None:
    """A success without the file or with a part of it is an error, and nothing is kept of it."""

    async def handle(_: web.Request) -> web.Response:
        return web.Response(status=status, body=None if status in {204, 205} else SMALL)

    async with serving(handle) as veriff:
        with pytest.raises(ResponseError, match=str(status)):
            await veriff.download_media(MEDIA_ID, tmp_path)
        with pytest.raises(ResponseError, match=str(status)):
            async with veriff.stream_media(MEDIA_ID):
                pass

    assert await file_names(tmp_path) == []


@pytest.mark.parametrize("announced", [True, False])
async def test_download_above_its_limit_is_refused(tmp_path: Path, announced: bool) -> None:  # noqa: FBT001
    """A download that is larger than `max_bytes`, announced or not, is an error, and leaves no file."""
    async with serving(serving_jpeg(PICTURE, announced=announced)) as veriff:
        for limit in (1, len(PICTURE) - 1):
            with pytest.raises(ResponseError, match="max_bytes"):
                await veriff.download_media(MEDIA_ID, tmp_path, max_bytes=limit)
            with pytest.raises(ResponseError, match="max_bytes"):
                async with veriff.stream_media(MEDIA_ID, max_bytes=limit) as stream:
                    [piece async for piece in stream]
        assert await file_names(tmp_path) == []
        await veriff.download_media(MEDIA_ID, tmp_path, max_bytes=len(PICTURE))


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, None, "1"])
async def test_limit_of_a_download_is_a_whole_number(veriff: VeriffClient, tmp_path: Path, limit: Any) -> None:  # noqa: ANN401
    """A limit that is not a whole number of bytes is refused before any request."""
    with pytest.raises(InvalidArgumentError, match="max_bytes"):
        await veriff.download_media(MEDIA_ID, tmp_path, max_bytes=limit)
    with pytest.raises(InvalidArgumentError, match="max_bytes"):
        async with veriff.stream_media(MEDIA_ID, max_bytes=limit):
            pass


@pytest.mark.parametrize(
    "limits",
    [Timeouts(idle=1, min_bytes_per_second=1000, total=600), Timeouts(idle=600, min_bytes_per_second=0.001, total=2)],
    ids=["minimum rate", "total"],
)
async def test_stream_has_the_time_limits_of_a_download(
    tmp_path: Path, advance_time: Callable[[float], None], limits: Timeouts
) -> None:
    """A file that arrives slowly ends a stream and a download with `RequestTimeoutError`, by minimum rate or total."""
    pieces = 0

    async def drip(request: web.Request) -> web.StreamResponse:
        nonlocal pieces
        response = web.StreamResponse(headers={"Content-Length": "100000"})
        await response.prepare(request)
        for pieces in range(100):  # noqa: B007  the test reads how far it came
            await response.write(b"x")
            await anyio.wait_all_tasks_blocked()
            advance_time(0.3)
        return response

    async with serving(drip, retry=RetryPolicy(max_attempts=1), timeouts=limits) as veriff:
        with pytest.raises(RequestTimeoutError):
            await veriff.download_media(MEDIA_ID, tmp_path)
        assert pieces < 60
        with pytest.raises(RequestTimeoutError):
            async with veriff.stream_media(MEDIA_ID) as stream:
                [piece async for piece in stream]
        assert pieces < 60


async def test_time_between_pieces_does_not_count(advance_time: Callable[[float], None]) -> None:
    """A caller that takes hours for each piece of a stream still gets the complete file."""
    async with serving(serving_jpeg(PICTURE), timeouts=Timeouts(idle=1, min_bytes_per_second=1000, total=2)) as veriff:
        received = 0
        async with veriff.stream_media(MEDIA_ID) as stream:
            async for piece in stream:
                received += len(piece)
                await anyio.wait_all_tasks_blocked()
                advance_time(3600)

    assert received == len(PICTURE)


async def test_file_created_during_the_download_is_kept(veriff: VeriffClient, front: MediaFile, tmp_path: Path) -> None:
    """Of two downloads to one target, one succeeds; the other fails and leaves nothing."""
    outcomes: list[object] = []

    async def download() -> None:
        try:
            outcomes.append(await veriff.download_media(front, tmp_path / "one.jpg"))
        except MediaExistsError as error:
            outcomes.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(download)

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["DownloadedMedia", "MediaExistsError"]
    assert await read_file(tmp_path / "one.jpg") == PICTURE
    assert await file_names(tmp_path) == ["one.jpg"]


async def test_unwritable_target_is_reported(veriff: VeriffClient, front: MediaFile, tmp_path: Path) -> None:
    """A missing folder, and a file instead of a folder, give an error without their path."""
    await to_thread.run_sync((tmp_path / "file").write_bytes, b"")
    for target in (tmp_path / "missing" / "one.jpg", f"{tmp_path}/file/", f"{tmp_path}/file/one.jpg"):
        with pytest.raises(MediaNotSavedError) as caught:
            await veriff.download_media(front, target)
        assert str(tmp_path) not in str(caught.value)
    assert await file_names(tmp_path) == ["file"]


@pytest.mark.parametrize("if_exists", ["overwrite", None, 1])
async def test_if_exists_has_three_values(veriff: VeriffClient, tmp_path: Path, if_exists: Any) -> None:  # noqa: ANN401
    """Another value is refused before any request."""
    with pytest.raises(InvalidArgumentError, match="error, replace, skip"):
        await veriff.download_media(MEDIA_ID, tmp_path, if_exists=if_exists)


@pytest.mark.parametrize("media_id", ["../up", "a/b", "", "a\0b", "a" * 65])
async def test_ids_cannot_leave_the_path(veriff: VeriffClient, tmp_path: Path, media_id: str) -> None:
    """An id that could leave the folder or the path is refused before any request."""
    with pytest.raises(InvalidArgumentError, match="media_id"):
        await veriff.download_media(media_id, tmp_path)
    with pytest.raises(InvalidArgumentError, match="media_id"):
        async with veriff.stream_media(media_id):
            pass


async def test_names_of_the_server_are_never_used(tmp_path: Path) -> None:
    """A file stays in its folder under a name made of its id, independent of the names that the server sends."""

    async def hostile(request: web.Request) -> web.Response:
        if request.path.endswith("/media"):
            odd = {"id": MEDIA_ID, "context": "../../up", "name": "/etc/passwd", "url": "file:///etc/passwd"}
            return web.json_response({"status": "success", "images": [odd]})
        return web.Response(
            body=SMALL,
            content_type="text/../../html",
            headers={"Content-Disposition": 'attachment; filename="../../up.sh"'},
        )

    async with serving(hostile) as veriff:
        (downloaded,) = await veriff.session(MEDIA_ID).download_all(tmp_path)

    assert downloaded.path == tmp_path / f"{MEDIA_ID}.bin"
    assert await file_names(tmp_path) == [downloaded.path.name]


async def test_broken_download_starts_again(
    sandbox: Sandbox, veriff: VeriffClient, front: MediaFile, tmp_path: Path
) -> None:
    """After a broken connection, passing errors and a 429, the file is complete, and its progress started again."""
    events: list[DownloadProgress] = []
    for fault in (Fault.truncate_response(after=1_500_000), Fault.status(502), Fault.status(429, retry_after=0)):
        sandbox.inject(fault, path="/v1/media/*")

    downloaded = await veriff.download_media(front, tmp_path, progress=events.append)

    assert await read_file(downloaded.path) == PICTURE
    received = [progress.bytes_received for progress in events]
    assert received != sorted(received)
    assert (received[-1], events[-1].total_bytes, events[-1].media_id) == (len(PICTURE), len(PICTURE), front.id)
    assert await file_names(tmp_path) == [downloaded.path.name]


@pytest.mark.parametrize(
    ("fault", "times", "error"),
    [
        (Fault.corrupt_response(offset=1000), 1, ResponseError),
        (Fault.forge_signature(), 1, ResponseError),
        (Fault.truncate_response(after=1000), 9, TransportError),
        (Fault.status(404), 1, NotFoundError),
    ],
)
async def test_unverified_download_is_not_kept(  # noqa: PLR0913, PLR0917
    sandbox: Sandbox, veriff: VeriffClient, front: MediaFile, tmp_path: Path, fault: Fault, times: int, error: type
) -> None:
    """A body with a wrong signature, or an incomplete one, leaves nothing in the folder."""
    sandbox.inject(fault, path="/v1/media/*", times=times)

    with pytest.raises(error):
        await veriff.download_media(front, tmp_path)

    assert await file_names(tmp_path) == []


async def test_stalled_download_times_out(sandbox: Sandbox, front: MediaFile, tmp_path: Path) -> None:
    """A response that stops in the middle runs out of time, and leaves nothing."""
    sandbox.inject(Fault.stall_response(after=100_000), path="/v1/media/*")

    async with VeriffClient(sandbox.credentials, base_url=sandbox.base_url, **IMPATIENT) as veriff:
        with pytest.raises(RequestTimeoutError):
            await veriff.download_media(front, tmp_path)

    assert await file_names(tmp_path) == []


async def test_cancelled_download_leaves_no_file(veriff: VeriffClient, front: MediaFile, tmp_path: Path) -> None:
    """A download that is cancelled in the middle leaves no file and releases its permit."""
    with anyio.CancelScope() as scope:
        await veriff.download_media(front, tmp_path, progress=lambda _: scope.cancel())

    assert scope.cancelled_caught
    assert await file_names(tmp_path) == []
    assert veriff.statistics().active_downloads == 0


@every_loop
@pytest.mark.parametrize("times", [1, 2, 3])
async def test_cancelling_twice_leaves_no_file(tmp_path: Path, times: int) -> None:
    """A download that is cancelled at any moment, also during its cleanup, leaves no file with a person's document."""
    async with serving(serving_jpeg(PICTURE[:600_000])) as veriff:
        for turns in range(0, 80, 2):
            downloading = asyncio.create_task(veriff.download_media(MEDIA_ID, tmp_path, if_exists="replace"))
            for _ in range(turns):
                await asyncio.sleep(0)
            for _ in range(times):
                downloading.cancel()
                await asyncio.sleep(0)
            await asyncio.wait([downloading])
        assert veriff.statistics().active_downloads == 0
    async with time_limit(SECONDS):
        while any(name.endswith(".part") for name in await file_names(tmp_path)):
            pass  # a thread removes them


async def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """A file of 64 MiB needs a small part of that while it is downloaded."""
    piece = os.urandom(256 * 1024)

    async def large(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        answer.content_length = 256 * len(piece)
        await answer.prepare(request)
        for _ in range(256):
            await answer.write(piece)
        return answer

    async with serving(large) as veriff:
        await veriff.download_media(MEDIA_ID, tmp_path / "warm")
        tracemalloc.start()
        downloaded = await veriff.download_media(MEDIA_ID, tmp_path / "large")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert downloaded.size == 64 * 2**20
    assert peak < 8 * 2**20


async def test_stream_yields_the_file(veriff: VeriffClient, front: MediaFile) -> None:
    """The pieces are the file, size and type are known before the first, and a further read ends again."""
    async with veriff.stream_media(front) as stream:
        assert (stream.media_id, stream.size, stream.mimetype) == (front.id, len(PICTURE), "image/jpeg")
        assert veriff.statistics().active_downloads == 1
        pieces = [piece async for piece in stream]
        assert [piece async for piece in stream] == []

    assert b"".join(pieces) == PICTURE
    assert len(pieces) > 3


async def test_missing_content_type_is_none(tmp_path: Path) -> None:
    """A file without a content type has no MIME type, in a download and a stream."""

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        return response

    async def strip(_: web.Request, response: web.StreamResponse) -> None:
        del response.headers["Content-Type"]

    async with serving(handle, prepare=strip) as veriff:
        assert (await veriff.download_media(MEDIA_ID, tmp_path)).mimetype is None
        async with veriff.stream_media(MEDIA_ID) as stream:
            assert stream.mimetype is None


async def test_stream_can_be_left_early(veriff: VeriffClient, front: MediaFile) -> None:
    """Leaving early closes the connection, and the client still works."""
    async with veriff.stream_media(front) as stream:
        async for _ in stream:
            break

    assert veriff.statistics().active_downloads == 0
    async with veriff.stream_media(front) as stream:
        assert len(b"".join([piece async for piece in stream])) == len(PICTURE)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.corrupt_response(offset=2_000_000), ResponseError),
        (Fault.forge_signature(), ResponseError),
        (Fault.truncate_response(after=1_000_000), TransportError),
    ],
)
async def test_stream_is_verified_at_its_end(
    sandbox: Sandbox, veriff: VeriffClient, front: MediaFile, fault: Fault, error: type[Exception]
) -> None:
    """Pieces arrive before they can be checked; the end is an error if they are incomplete or wrongly signed."""
    sandbox.inject(fault, path="/v1/media/*")
    pieces: list[bytes] = []

    with pytest.raises(error):
        await read_stream(veriff, front, pieces)

    assert pieces


async def test_stream_retries_before_its_first_piece(sandbox: Sandbox, veriff: VeriffClient, front: MediaFile) -> None:
    """A passing error before the first piece is retried, and a lasting one is raised."""
    sandbox.inject(Fault.status(503, retry_after=0), path="/v1/media/*")
    sandbox.inject(Fault.drop(), path="/v1/media/*")
    async with veriff.stream_media(front) as stream:
        assert stream.size == len(PICTURE)
    with pytest.raises(NotFoundError):
        async with veriff.stream_media(MEDIA_ID):
            pass


async def test_stalled_stream_times_out(sandbox: Sandbox, front: MediaFile) -> None:
    """A stream without bytes for too long is an error."""
    sandbox.inject(Fault.stall_response(after=100_000), path="/v1/media/*")

    async with VeriffClient(sandbox.credentials, base_url=sandbox.base_url, **IMPATIENT) as veriff:
        with pytest.raises(RequestTimeoutError):
            await read_stream(veriff, front)


async def test_signatures_are_not_checked_on_demand(sandbox: Sandbox, front: MediaFile, tmp_path: Path) -> None:
    """A client with verify_responses=False accepts any body, as stream and file."""
    sandbox.inject(Fault.forge_signature(), path="/v1/media/*", times=2)
    async with VeriffClient(sandbox.credentials, base_url=sandbox.base_url, verify_responses=False) as veriff:
        assert (await veriff.download_media(front, tmp_path)).size == len(PICTURE)
        async with veriff.stream_media(front) as stream:
            assert len([piece async for piece in stream]) > 1


async def test_download_all_saves_pictures_and_chip_data(
    veriff: VeriffClient, session: VerificationSession, tmp_path: Path
) -> None:
    """Pictures and chip data are saved in a new folder that only its owner can read."""
    folder = tmp_path / "new" / "folder"
    files = await session.download_all(folder, concurrency=2)

    assert [media.mimetype for media in files] == [
        *(file.mimetype for file in (await session.media()).images),
        "application/json",
    ]
    assert await file_names(folder) == sorted(media.path.name for media in files)
    assert stat.S_IMODE((await to_thread.run_sync(folder.stat)).st_mode) == 0o700
    again = await session.download_all(folder, if_exists="skip")
    assert [media.skipped for media in again] == [True] * 3


async def test_download_all_includes_earlier_attempts_on_demand(
    sandbox: Sandbox, session: VerificationSession, tmp_path: Path
) -> None:
    """The media are those of the newest attempt, or of all attempts, each once."""
    await session.submit()
    sandbox.decide(session.id, "resubmission_requested")
    (late,) = await session.upload(Media(SMALL, "document-back"))

    newest = await session.download_all(tmp_path / "newest")
    everything = await session.download_all(tmp_path / "all", all_attempts=True)

    assert [media.media_id for media in newest] == [late.id]
    # Readings of a chip are listed for the newest attempt only.
    assert len(everything) == 3
    assert len({media.media_id for media in everything}) == 3


async def test_first_failure_cancels_the_others(sandbox: Sandbox, session: VerificationSession, tmp_path: Path) -> None:
    """The error has the completed downloads; incomplete files are gone, and a further call completes the rest."""
    sandbox.inject(Fault.status(404), path="/v1/media/*")

    with pytest.raises(NotFoundError) as caught:
        await session.download_all(tmp_path, concurrency=1)

    assert caught.value.downloaded == ()
    assert await file_names(tmp_path) == []
    first = (await session.download_all(tmp_path))[0]
    await to_thread.run_sync(first.path.unlink)
    rest = await session.download_all(tmp_path, if_exists="skip")
    assert [media.skipped for media in rest] == [False, True, True]


async def test_later_failure_has_the_completed_downloads(
    sandbox: Sandbox, session: VerificationSession, tmp_path: Path
) -> None:
    """The files that were completed before the failure stay, and the error has them."""
    kept = (await session.media()).all[0]
    sandbox.inject(Fault.status(404), path=f"/v1/media/{(await session.media()).all[1].id}")

    with pytest.raises(NotFoundError) as caught:
        await session.download_all(tmp_path, concurrency=1)

    assert [media.media_id for media in caught.value.downloaded] == [kept.id]


async def test_session_without_media_is_no_failure(veriff: VeriffClient, tmp_path: Path) -> None:
    """A session without media gives an empty list."""
    session = await veriff.create_session()

    assert await session.download_all(tmp_path) == []
    with pytest.raises(InvalidArgumentError, match="concurrency"):
        await session.download_all(tmp_path, concurrency=0)


@pytest.mark.parametrize("max_downloads", [0, 100])
def test_downloads_leave_connections_for_others(max_downloads: int) -> None:
    """There are fewer concurrent downloads than connections."""
    with pytest.raises(ConfigurationError, match="max_downloads"):
        VeriffClient(CREDENTIALS, base_url="https://stationapi.veriff.com", max_downloads=max_downloads)


async def test_streams_nest_in_one_task(sandbox: Sandbox, front: MediaFile, tmp_path: Path) -> None:
    """Any public call works inside a stream's block in the same task, however few downloads may run at once."""
    async with (
        VeriffClient(sandbox.credentials, base_url=sandbox.base_url, max_downloads=1) as veriff,
        veriff.stream_media(front) as outer,
        veriff.stream_media(front) as inner,
    ):
        assert 2 == veriff.statistics().active_downloads
        pieces = [await anext(outer), await anext(inner)]
        session = await veriff.create_session()
        await session.upload(Media(PICTURE, "document-front"), Media(PICTURE, "face"))
        downloaded = await veriff.download_media(front, tmp_path)
        assert 2 == len(await session.download_all(tmp_path / "all"))
        await session.submit()
        sandbox.decide(session.id, "approved")
        assert (await session.wait_for_decision(timeout=900)).is_approved
        rest = [[piece async for piece in stream] for stream in (outer, inner)]

        assert [PICTURE, PICTURE] == [b"".join([piece, *more]) for piece, more in zip(pieces, rest, strict=True)]
        assert downloaded.size == len(PICTURE)


async def test_streams_interleave_in_one_task(sandbox: Sandbox, front: MediaFile) -> None:
    """Streams of one task may end in any order, and all permits are free afterwards."""
    async with VeriffClient(sandbox.credentials, base_url=sandbox.base_url, max_downloads=2) as veriff:
        streams = [veriff.stream_media(front) for _ in range(5)]
        opened = [await stream.__aenter__() for stream in streams]
        assert 5 == veriff.statistics().active_downloads
        for stream, pieces in zip(streams, opened, strict=True):
            assert PICTURE == b"".join([piece async for piece in pieces])
            await stream.__aexit__(None, None, None)
        assert 0 == veriff.statistics().active_downloads


async def test_streams_of_other_tasks_wait_for_a_permit(sandbox: Sandbox, front: MediaFile) -> None:
    """More tasks than `max_downloads` wait for each other; a block that another task leaves releases its permit."""
    async with VeriffClient(sandbox.credentials, base_url=sandbox.base_url, max_downloads=1) as veriff:
        stream, second = veriff.stream_media(front), veriff.stream_media(front)
        await asyncio.create_task(stream.__aenter__())
        entering = asyncio.create_task(second.__aenter__())
        await anyio.wait_all_tasks_blocked()
        assert not entering.done()
        await asyncio.create_task(stream.__aexit__(None, None, None))
        pieces = await entering

        assert PICTURE == b"".join([piece async for piece in pieces])
        assert 1 == veriff.statistics().active_downloads
        await second.__aexit__(None, None, None)
