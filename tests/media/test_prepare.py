"""Media are checked before anything is sent, and every error names its media."""

from __future__ import annotations

import asyncio
import io
import os
import tempfile
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import anyio
import pytest
from PIL import Image
from starlette.datastructures import UploadFile

from veriff_async import (
    ApiError,
    BadRequestError,
    DecisionTimeoutError,
    ImageSizeWarning,
    InvalidArgumentError,
    Media,
    MediaContext,
    MediaEmptyError,
    MediaError,
    MediaTooLargeError,
    MediaUnsupportedError,
    NotFoundError,
    RetryPolicy,
    Status,
    TransportError,
    VeriffClient,
    VeriffError,
    check_media,
)
from veriff_async.batch import Job, MemoryJournal, verify_one
from veriff_async.models import MediaReference
from veriff_async.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from veriff_async import VerificationSession
    from veriff_async.client import ClientOptions
    from veriff_async.models.media import MediaSource

pytestmark = pytest.mark.anyio

JPEG = b"\xff\xd8\xff\xda"  # pixels follow at once, so random bytes are not taken for a size
SMALL = JPEG + bytes(range(256)) * 7
LARGE = JPEG + os.urandom(700_001)
GIF = b"GIF89a" + bytes(3000)


@pytest.fixture
def client_options() -> ClientOptions:
    """Give up quickly."""
    return {"retry": RetryPolicy(max_attempts=1)}


@pytest.fixture
async def session(veriff: VeriffClient) -> VerificationSession:
    """Return a session to upload to."""
    return await veriff.create_session()


def picture(side: int) -> bytes:
    """Return a picture that can be decoded."""
    out = io.BytesIO()
    Image.new("RGB", (side, side // 2), "teal").save(out, "JPEG")
    return out.getvalue()


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    """Yield content in pieces."""
    for start in range(0, len(content), 50_000):
        await asyncio.sleep(0)
        yield content[start : start + 50_000]


def uploaded_file(content: bytes, *, rolled: bool = False) -> UploadFile:
    """Return the object that Starlette and FastAPI pass to a handler, in memory or on disk."""
    file = tempfile.SpooledTemporaryFile(max_size=1 if rolled else 10_000_000)  # noqa: SIM115  closed by the test
    file.write(content)
    file.seek(0)
    return UploadFile(cast("BinaryIO", file), filename="front.jpg")


class AsyncFile:
    """A file of another library, with an async read and seek."""

    def __init__(self, content: bytes) -> None:
        """Hold the content."""
        self.file = None
        self._file = io.BytesIO(content)

    async def read(self, n: int = -1) -> bytes:
        """Return bytes."""
        return self._file.read(n)

    async def seek(self, offset: int) -> int:
        """Go elsewhere."""
        return self._file.seek(offset)


WRONG: dict[str, tuple[Callable[[Path], Any], dict[str, Any], type[VeriffError]]] = {
    "missing": (lambda folder: folder / "no.jpg", {}, MediaError),
    "of another type": (lambda _: GIF, {}, MediaUnsupportedError),
    "empty": (lambda _: b"", {}, MediaEmptyError),
    "too large": (lambda _: JPEG + bytes(18_000_000), {}, MediaTooLargeError),
    "not decodable": (lambda _: LARGE, {"max_side": 100}, MediaUnsupportedError),
    "an address": (lambda _: "https://storage.example/front.jpg", {}, MediaUnsupportedError),
    "a closed file": (lambda _: closed_file(), {}, MediaError),
    "not to be read": (lambda _: cast("bytes", 5), {}, InvalidArgumentError),
    "of a stated type": (lambda _: SMALL, {"mimetype": "image/png"}, MediaUnsupportedError),
    "an UploadFile": (lambda _: cast("MediaSource", uploaded_file(GIF)), {}, MediaUnsupportedError),
    "an UploadFile on disk": (
        lambda _: cast("MediaSource", uploaded_file(GIF, rolled=True)),
        {},
        MediaUnsupportedError,
    ),
    "an async file": (lambda _: cast("MediaSource", AsyncFile(GIF)), {}, MediaUnsupportedError),
}


def closed_file() -> BinaryIO:
    """Return a closed file."""
    file = io.BytesIO(SMALL)
    file.close()
    return file


@pytest.fixture(params=list(WRONG.values()), ids=list(WRONG))
def wrong(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Media, type[VeriffError]]]:
    """Return a media that cannot be uploaded, and its error."""
    make, options, kind = request.param
    source = make(tmp_path)
    yield Media(source, "document-back", **options), kind
    if isinstance(source, UploadFile):
        source.file.close()


async def test_verify_creates_no_session_for_a_wrong_media(
    sandbox: Sandbox, veriff: VeriffClient, wrong: tuple[Media, type[VeriffError]]
) -> None:
    """A media that cannot be uploaded is refused before a session exists, and the error names it."""
    media, kind = wrong
    for call in (veriff.verify, veriff.submit):
        with pytest.raises(kind) as caught:
            await call(media=[Media(SMALL, "document-front"), media])
        assert MediaReference(index=1, context=MediaContext.DOCUMENT_BACK) == caught.value.media
        assert str(caught.value).startswith("media[1] (document-back): ")
        assert caught.value.session_id is None

    assert () == tuple(sandbox.requests)


async def test_upload_sends_nothing_if_one_media_is_wrong(
    sandbox: Sandbox, session: VerificationSession, wrong: tuple[Media, type[VeriffError]]
) -> None:
    """A media that cannot be uploaded is refused before any other is sent, wherever it is in the list."""
    media, kind = wrong
    with pytest.raises(kind) as caught:
        await session.upload(media, Media(SMALL, "document-front"), Media(pieces(SMALL), "face"))

    assert MediaReference(index=0, context=MediaContext.DOCUMENT_BACK) == caught.value.media
    assert 1 == len(sandbox.requests)


async def test_check_media_raises_the_error_of_upload(wrong: tuple[Media, type[VeriffError]]) -> None:
    """`check_media` refuses the media that the uploading calls would refuse."""
    media, kind = wrong
    with pytest.raises(kind) as caught:
        await check_media(Media(SMALL, "face"), media)
    assert caught.value.media is not None
    assert 1 == caught.value.media.index


async def test_batch_creates_no_session_for_a_wrong_media(
    sandbox: Sandbox, veriff: VeriffClient, wrong: tuple[Media, type[VeriffError]]
) -> None:
    """A job whose media cannot be uploaded creates no session."""
    media, kind = wrong
    result = await verify_one(veriff, Job("user-42", [Media(SMALL, "document-front"), media]), journal=MemoryJournal())

    assert isinstance(result.error, kind)
    assert result.error.media is not None
    assert 1 == result.error.media.index
    assert () == tuple(sandbox.requests)


@pytest.mark.parametrize("content", [GIF, b"", JPEG + bytes(18_500_000)], ids=["type", "empty", "size"])
async def test_verify_checks_streams_before_it_creates_a_session(
    sandbox: Sandbox, veriff: VeriffClient, content: bytes
) -> None:
    """A stream is read and checked before the session is created, because a session cannot be undone."""
    with pytest.raises(MediaError) as caught:
        await veriff.verify(media=[Media(SMALL, "document-front"), Media(pieces(content), "face")])

    assert MediaReference(index=1, context=MediaContext.FACE) == caught.value.media
    assert () == tuple(sandbox.requests)


@pytest.mark.parametrize(
    ("media", "words"),
    [
        ([], "nothing to upload"),
        (iter(()), "nothing to upload"),
        (None, "must be a list"),
        ("front.jpg", "must be a list"),
        (Media(SMALL, "face"), "must be a list"),
        (["front.jpg"], "takes Media"),
        ([Media(SMALL, "face", max_side=0)], "max_side must be"),
    ],
)
async def test_call_without_media_creates_no_session(
    sandbox: Sandbox, veriff: VeriffClient, media: object, words: str
) -> None:
    """An empty or wrong list of media is refused before anything is created."""
    for call in (veriff.verify, veriff.submit):
        with pytest.raises(InvalidArgumentError, match=words):
            await call(media=cast("list[Media]", media))

    assert () == tuple(sandbox.requests)


@pytest.mark.parametrize("seconds", [-1, float("nan"), "900"])
async def test_wrong_timeout_creates_no_session(sandbox: Sandbox, veriff: VeriffClient, seconds: object) -> None:
    """The timeout of `verify` is checked first too."""
    with pytest.raises(InvalidArgumentError, match="timeout"):
        await veriff.verify(media=[Media(SMALL, "face")], timeout=cast("float", seconds))

    assert () == tuple(sandbox.requests)


async def test_submit_uploads_and_submits(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """`submit` uploads all media, streams and scaled pictures included, and submits the session."""
    media = [
        Media(LARGE, "document-front"),
        Media(pieces(LARGE), "document-back"),
        Media(pieces(picture(900)), "face", max_side=300),
    ]
    session = await veriff.submit(media=media, vendor_data="user-42")

    assert Status.SUBMITTED == session.status
    assert ["document-back", "document-front", "face"] == sorted(
        one.context for one in sandbox.session(session.id).media
    )


@pytest.mark.parametrize(
    ("path", "fault", "kind"),
    [
        ("/v1/sessions/*/media", Fault.status(400), BadRequestError),
        ("/v1/sessions/*/media", Fault.drop(), TransportError),
        ("/v1/sessions/*", Fault.status(500), ApiError),
    ],
)
async def test_error_of_verify_names_the_session(
    sandbox: Sandbox, veriff: VeriffClient, path: str, fault: Fault, kind: type[VeriffError]
) -> None:
    """An error after the creation has the id of the session."""
    sandbox.inject(fault, method="PATCH" if path.endswith("*") else "POST", path=path)
    with pytest.raises(kind) as caught:
        await veriff.verify(media=[Media(SMALL, "face")])

    assert [caught.value.session_id] == [seen.id for seen in sandbox.sessions]


async def test_foreign_exception_of_verify_has_a_note_with_the_session(veriff: VeriffClient, sandbox: Sandbox) -> None:
    """Exceptions of other libraries, and cancellation, are raised unchanged with a note that names the session."""

    def broken(_: object) -> None:
        raise LookupError

    with pytest.raises(LookupError) as caught:
        await veriff.verify(media=[Media(SMALL, "face")], progress=broken)
    assert [f"Session {sandbox.sessions[0].id} was created before."] == caught.value.__notes__
    with pytest.raises(DecisionTimeoutError) as late:
        await veriff.verify(media=[Media(SMALL, "face")], timeout=0.001)
    assert late.value.session_id == sandbox.sessions[1].id


async def test_refusal_by_veriff_names_the_media(sandbox: Sandbox, session: VerificationSession) -> None:
    """A refusal by Veriff names the picture too."""
    sandbox.inject(Fault.status(400), path="/v1/sessions/*/media", times=1)
    with pytest.raises(BadRequestError) as caught:
        await session.upload(*(Media(SMALL, context) for context in ("face", "document-front")), concurrency=1)

    assert MediaReference(index=0, context=MediaContext.FACE) == caught.value.media


@pytest.mark.parametrize("rolled", [False, True])
async def test_upload_file_is_read_like_a_file(sandbox: Sandbox, session: VerificationSession, *, rolled: bool) -> None:
    """Starlette's UploadFile can be checked and sent several times, and keeps its position."""
    file = await asyncio.to_thread(uploaded_file, LARGE, rolled=rolled)
    media = Media(cast("MediaSource", file), "face")
    await check_media(media)
    await session.upload(media)
    await session.upload(media)

    assert [len(LARGE)] * 2 == [one.size for one in sandbox.session(session.id).media]
    assert 0 == file.file.tell()
    await file.close()


async def test_files_keep_their_position(session: VerificationSession, tmp_path: Path) -> None:
    """A file that was checked or uploaded can be passed again, with or without a descriptor."""
    path = anyio.Path(tmp_path / "front.jpg")
    await path.write_bytes(b"head" + LARGE)
    async with await anyio.open_file(path, "rb") as opened:
        for file in (
            io.BytesIO(b"head" + LARGE),
            io.BytesIO(b"head" + SMALL),
            opened.wrapped,
            opened,
            AsyncFile(LARGE),
        ):
            if not isinstance(file, AsyncFile):
                cast("Any", opened.wrapped if file is opened else file).seek(4)
            for _ in range(2):
                await check_media(Media(cast("MediaSource", file), "face"))
                (receipt,) = await session.upload(Media(cast("MediaSource", file), "face"))
                assert receipt.size in {len(LARGE), len(SMALL)}


async def test_check_media_reads_no_stream() -> None:
    """A stream that can be read only once is left for the upload."""
    stream = pieces(GIF)
    await check_media(Media(stream, "face"))

    assert GIF == b"".join([piece async for piece in stream])


async def test_check_media_warns_of_large_pictures() -> None:
    """A picture above Veriff's advice gives a warning at the caller's line, as for an upload."""
    with pytest.warns(ImageSizeWarning, match="2000 x 1000") as caught:
        await check_media(Media(picture(2000), "face"))
    assert __file__ == caught[0].filename


async def test_warnings_point_at_the_caller(veriff: VeriffClient) -> None:
    """The warning of each call is attributed to the line of the call."""
    session = await veriff.create_session()
    for call in (
        session.upload,
        lambda media: veriff.submit(media=[media]),
        lambda media: veriff.verify(media=[media], timeout=0),
    ):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            await asyncio.create_task(_call(call, Media(picture(2000), "face")))
        assert [__file__] == [warning.filename for warning in caught]


async def _call(call: Callable[[Media], Any], media: Media) -> None:
    with suppress(DecisionTimeoutError):
        await call(media)


async def test_submit_without_a_session_uploads_nothing(veriff: VeriffClient, sandbox: Sandbox) -> None:
    """If no session can be created, `submit` closes the copies of its streams and raises the error of the session."""
    with pytest.raises(InvalidArgumentError, match="vendor_data"):
        await veriff.submit(media=[Media(pieces(picture(100)), "face")], vendor_data=cast("str", 3))

    assert not sandbox.sessions


async def test_error_of_the_library_in_a_stream_is_raised_unchanged(veriff: VeriffClient) -> None:
    """A stream that reads with this library keeps its error, whose remedy is more precise."""
    failure = NotFoundError("The picture is gone.", status=404)

    class Failing:
        """An async iterable that is no generator."""

        def __aiter__(self) -> Failing:
            return self

        async def __anext__(self) -> bytes:
            raise failure

    session = await veriff.create_session()
    with pytest.raises(NotFoundError) as raised:
        await session.upload(Media(Failing(), "face"))
    assert failure is raised.value


async def test_media_scaled_to_an_advised_side_gives_no_advice(veriff: VeriffClient) -> None:
    """A picture above the advised side gives a warning unless `max_side` scales it down to that side."""
    session = await veriff.create_session()
    with pytest.warns(ImageSizeWarning, match="1930 x 965") as caught:
        await session.upload(Media(picture(1930), "face"))
    assert 1 == len(caught)
    await check_media(Media(picture(1930), "face", max_side=1920))
