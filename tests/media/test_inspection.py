"""`inspect_media`: pictures before they are uploaded, from every source that can be read again."""

from __future__ import annotations

import asyncio
import io
import math
import os
import threading
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np
import pytest
from PIL import Image, ImageFilter

from tests.pictures import draw_card
from veriff_async import (
    CheckName,
    FaceBox,
    InspectionThresholds,
    InvalidArgumentError,
    Media,
    MediaContext,
    MediaEmptyError,
    MediaError,
    MediaUnsupportedError,
    PictureThresholds,
    check_media,
    inspect_media,
)
from veriff_async._media.calibration import measure_pictures
from veriff_async.models import CheckVerdict
from veriff_async.sandbox._specimens import specimen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path

    from veriff_async.models import FacePicture, MediaInspection


def read_specimen(name: str) -> bytes:
    """Return a picture of the demo."""
    with specimen(name) as path:
        return path.read_bytes()


SPECIMENS: Final = {name: read_specimen(name) for name in ("document-front.webp", "document-back.webp", "face.webp")}

pytestmark = pytest.mark.asyncio


def encode(picture: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    """Return a picture as a file."""
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def verdict(inspection: MediaInspection, name: CheckName) -> CheckVerdict:
    """Return the verdict of one check."""
    return next(check.verdict for check in inspection.checks if check.name is name)


async def test_a_sharp_card_passes() -> None:
    """A sharp, bright picture passes, and the result states its type, size and orientation."""
    content = encode(draw_card(), quality=90)

    inspection = await inspect_media(Media(content, "document-front"))

    assert inspection.passed
    assert inspection.failed == ()
    assert inspection.hints == ()
    assert (inspection.mimetype, inspection.size) == ("image/jpeg", len(content))
    assert (inspection.width, inspection.height, inspection.orientation) == (1200, 900, 1)
    assert [check.name for check in inspection.checks] == list(CheckName)


@pytest.mark.parametrize(
    ("name", "context"),
    [("document-front.webp", "document-front"), ("document-back.webp", "document-back"), ("face.webp", "face")],
)
async def test_the_specimens_pass(name: str, context: str) -> None:
    """The pictures of the demo pass all checks, and with the blur of a moving hand they do not."""
    content = SPECIMENS[name]
    moved = Image.open(io.BytesIO(content)).filter(ImageFilter.GaussianBlur(6))

    assert (await inspect_media(Media(content, context))).passed
    assert not (await inspect_media(Media(encode(moved), context))).passed


async def test_a_blurred_card_fails_with_a_hint() -> None:
    """A failed check has a sentence for the end-user; the others have none."""
    content = encode(draw_card().filter(ImageFilter.GaussianBlur(7)))

    inspection = await inspect_media(Media(content, "document-front"))

    assert not inspection.passed
    assert [check.name for check in inspection.failed] == [CheckName.SHARPNESS]
    (hint,) = inspection.hints
    assert "blurred" in hint
    assert all((check.hint is None) == (check.verdict is not CheckVerdict.FAILED) for check in inspection.checks)


async def test_a_dark_card_fails() -> None:
    """A picture without light fails the check of brightness."""
    dark = draw_card().point([level // 8 for level in range(256)] * 3)

    inspection = await inspect_media(Media(encode(dark), "document-back"))

    assert verdict(inspection, CheckName.BRIGHTNESS) is CheckVerdict.FAILED


async def test_a_rotated_picture_is_measured_upright() -> None:
    """Width and height are those of the upright picture, and the orientation is the stated one."""
    exif = Image.Exif()
    exif[0x0112] = 6

    inspection = await inspect_media(Media(encode(draw_card(), exif=exif), "document-front"))

    assert (inspection.width, inspection.height, inspection.orientation) == (900, 1200, 6)


async def test_a_pdf_passes_with_a_note() -> None:
    """Nothing is checked in a PDF but its type and size, and the result says so."""
    inspection = await inspect_media(Media(b"%PDF-1.7\n%...", "document-front"))

    assert inspection.passed
    assert inspection.checks == ()
    assert inspection.width is None
    assert inspection.note is not None


@pytest.fixture
def open_card(tmp_path: Path) -> Iterator[BinaryIO]:
    """Give an open file with a picture after four other bytes, and the picture alone at its path."""
    content = encode(draw_card())
    (tmp_path / "later.jpg").write_bytes(b"1234" + content)
    (tmp_path / "front.jpg").write_bytes(content)
    with (tmp_path / "later.jpg").open("rb") as file:
        file.seek(4)
        yield file


async def test_every_source_that_can_be_read_again(open_card: BinaryIO, tmp_path: Path) -> None:
    """A path, an open file at a position, memory and a file-like object give the same result, and stay usable."""
    content = encode(draw_card())
    path = tmp_path / "front.jpg"
    expected = await inspect_media(Media(content, "document-front"))
    memory = io.BytesIO(content)

    for source in (path, str(path), open_card, bytearray(content), memoryview(content), memory):
        assert await inspect_media(Media(source, "document-front")) == expected

    assert (open_card.tell(), memory.tell()) == (4, 0)


async def test_a_source_with_an_async_seek_is_rewound() -> None:
    """A source with async ``read`` and ``seek`` is copied, and its position restored."""
    memory = io.BytesIO(encode(draw_card()))

    class Remote:
        async def read(self, size: int) -> bytes:
            return memory.read(size)

        async def seek(self, offset: int) -> int:
            return memory.seek(offset)

        async def tell(self) -> int:
            return memory.tell()

    inspection = await inspect_media(Media(Remote(), "document-front", max_side=500))

    assert (inspection.width, memory.tell()) == (1200, 0)


async def test_a_stream_that_can_be_read_once_is_refused() -> None:
    """Inspecting such a stream would leave nothing to upload; it is not read."""
    read = False

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal read
        read = True
        yield b""

    with pytest.raises(InvalidArgumentError, match="read only once"):
        await inspect_media(Media(pieces(), "face"))
    assert not read


async def test_errors_name_the_media() -> None:
    """Errors are those of an upload, and name the media."""
    with pytest.raises(MediaEmptyError, match=r"media\[0\] \(face\)"):
        await inspect_media(Media(b"", "face"))
    with pytest.raises(MediaUnsupportedError, match=r"media\[0\] \(face\)"):
        await inspect_media(Media(b"GIF89a" + bytes(40), "face"))
    with pytest.raises(MediaUnsupportedError, match="cannot be decoded"):
        await inspect_media(Media(encode(draw_card())[:9000], "document-front"))
    with pytest.raises(MediaError, match="does not exist"):
        await inspect_media(Media("missing.jpg", "document-front"))
    with pytest.raises(InvalidArgumentError, match="context"):
        await inspect_media(Media(encode(draw_card()), "passport"))


async def test_a_silent_source_can_be_cancelled() -> None:
    """An object that blocks in ``read`` delays neither the loop nor the cancellation."""
    release, reading = threading.Event(), threading.Event()

    class Silent(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            reading.set()
            release.wait()
            return super().read(size)

    task = asyncio.create_task(inspect_media(Media(Silent(encode(draw_card())), "document-front")))
    await asyncio.to_thread(reading.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()


async def test_thresholds_of_the_caller() -> None:
    """Own thresholds replace the defaults of a context, and None switches a check off."""
    content = encode(draw_card())
    thresholds = InspectionThresholds(document_front=PictureThresholds(resolution=5000))

    front = await inspect_media(Media(content, "document-front"), thresholds=thresholds)
    back = await inspect_media(Media(content, "document-back"), thresholds=thresholds)

    assert [(check.name, check.threshold) for check in front.failed] == [(CheckName.RESOLUTION, 5000)]
    assert verdict(front, CheckName.SHARPNESS) is CheckVerdict.NOT_APPLICABLE
    assert back.passed


async def test_a_face_detector_in_a_thread_or_on_the_loop() -> None:
    """The detector receives the pixels of the reduced upright picture; a plain function runs outside of the loop."""
    content = encode(draw_card((600, 1600)))
    seen: list[tuple[int, int, int, bool]] = []
    loop_thread = threading.get_ident()

    def find(picture: FacePicture) -> Sequence[FaceBox]:
        seen.append((picture.width, picture.height, len(picture.rgb), threading.get_ident() == loop_thread))
        return [FaceBox(left=100, top=200, width=180, height=240)]

    async def find_async(picture: FacePicture) -> Sequence[FaceBox]:
        return find(picture)

    for detector in (find, find_async):
        inspection = await inspect_media(Media(content, "face"), face_detector=detector)
        assert verdict(inspection, CheckName.FACE_COUNT) is CheckVerdict.PASSED
        assert verdict(inspection, CheckName.FACE_SIZE) is CheckVerdict.PASSED
        assert verdict(inspection, CheckName.FACE_MARGIN) is CheckVerdict.PASSED
    assert seen == [(384, 1024, 384 * 1024 * 3, False), (384, 1024, 384 * 1024 * 3, True)]
    await inspect_media(Media(content, "document-front"), face_detector=find)
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("faces", "failed"),
    [
        ([], {CheckName.FACE_COUNT}),
        ([FaceBox(left=50, top=50, width=200, height=250)] * 2, {CheckName.FACE_COUNT}),
        ([FaceBox(left=200, top=200, width=30, height=40)], {CheckName.FACE_SIZE}),
        ([FaceBox(left=-20, top=200, width=200, height=240)], {CheckName.FACE_MARGIN}),
    ],
)
async def test_faces(faces: list[FaceBox], failed: set[CheckName]) -> None:
    """Exactly one face, large enough and not cut off, is asked for."""
    inspection = await inspect_media(Media(encode(draw_card()), "face"), face_detector=lambda _: faces)

    assert {check.name for check in inspection.failed} == failed


async def test_a_broken_face_detector_is_reported() -> None:
    """A detector that raises, cancels itself or returns something else makes its checks not applicable, with a note."""

    def broken(_: FacePicture) -> Sequence[FaceBox]:
        message = "secret"
        raise LookupError(message)

    async def cancelled(_: FacePicture) -> Sequence[FaceBox]:
        raise asyncio.CancelledError

    def wrong(_: FacePicture) -> Sequence[FaceBox]:
        return [(1, 2, 3, 4)]  # type: ignore[list-item]

    for detector, reason in ((broken, "LookupError"), (cancelled, "CancelledError"), (wrong, "InvalidArgumentError")):
        inspection = await inspect_media(Media(encode(draw_card()), "face"), face_detector=detector)
        assert inspection.note is not None
        assert reason in inspection.note
        assert "secret" not in inspection.note
        assert verdict(inspection, CheckName.FACE_COUNT) is CheckVerdict.NOT_APPLICABLE


@pytest.mark.parametrize("number", [np.int32, np.float32])
async def test_numbers_of_numpy_are_faces(number: Callable[[int], float]) -> None:
    """Detectors may return the numbers of numpy, which become those of Python."""
    face = FaceBox(left=number(300), top=number(200), width=number(300), height=number(400))

    inspection = await inspect_media(Media(encode(draw_card()), "face"), face_detector=lambda _: [face])

    assert inspection.note is None
    size = next(check for check in inspection.checks if check.name is CheckName.FACE_SIZE)
    assert type(size.value) is float


@pytest.mark.parametrize("number", [math.nan, math.inf, 10**400, "300"])
async def test_face_without_numbers_is_reported(number: float) -> None:
    """A face whose sides cannot be compared is a failure of the detector."""
    face = FaceBox(left=number, top=200, width=300, height=400)

    inspection = await inspect_media(Media(encode(draw_card()), "face"), face_detector=lambda _: [face])

    assert inspection.note is not None


async def test_limit_of_pillow_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the program allows Pillow too few pixels, the error names that limit, and is one of the library."""
    content = encode(draw_card())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)

    with pytest.raises(MediaUnsupportedError, match="MAX_IMAGE_PIXELS"):
        await inspect_media(Media(content, "face"))


async def test_transparent_palette_is_inspected() -> None:
    """Pillow's warnings about transparency, which the decoded picture no longer has, do not reach the program."""
    out = io.BytesIO()
    draw_card().convert("P").save(out, "PNG", transparency=bytes(range(200)))

    assert (await inspect_media(Media(out.getvalue(), "face"))).mimetype == "image/png"


class OwnFile(io.BytesIO):
    """A file of an unknown class, which may block."""


async def test_all_calls_share_the_threads_that_decode() -> None:
    """The memory of decoding is bounded for all calls together, with sources of any kind."""

    def workers() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name.startswith("AnyIO")}

    content, before = encode(draw_card()), workers()
    sources: list[Any] = [content, *(OwnFile(content) for _ in range(12)), *[content] * 11]

    await asyncio.gather(
        *(check_media(Media(source, "face", max_side=300)) for source in sources),
        *(inspect_media(Media(content, "face")) for _ in range(8)),
    )

    assert 1 <= len(workers() - before) <= max(2, os.cpu_count() or 2)
    assert not [thread for thread in threading.enumerate() if thread.name == "veriff-async source"]


async def test_results_do_not_show_pictures() -> None:
    """Neither pixels nor paths are in representations."""
    seen: list[str] = []

    def find(picture: FacePicture) -> Sequence[FaceBox]:
        seen.append(repr(picture))
        return []

    await inspect_media(Media(encode(draw_card()), "face"), face_detector=find)

    assert "rgb" not in seen[0]


async def test_concurrent_inspections_share_threads() -> None:
    """No more pictures are decoded at once than there are processors, so that memory stays bounded."""
    content = encode(draw_card())
    running = most = 0
    lock = threading.Lock()

    def count(_: FacePicture) -> Sequence[FaceBox]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        with lock:
            running -= 1
        return []

    await asyncio.gather(*(inspect_media(Media(content, "face"), face_detector=count) for _ in range(8)))

    assert most <= max(2, os.cpu_count() or 2)


async def test_file_of_an_unknown_class_is_read_first() -> None:
    """An object that may block is read in a thread of its own, and gives the same result as its bytes."""

    class Own(io.BytesIO):
        """A file whose class says nothing about the time that it takes."""

    content = encode(Image.new("RGB", (64, 48)))
    assert await inspect_media(Media(content, "face")) == await inspect_media(Media(Own(content), "face"))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # of Pillow
@pytest.mark.parametrize("exif", [b"not EXIF at all", b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\0\xff"])
async def test_damaged_exif_data_leaves_the_picture_as_it_is(exif: bytes) -> None:
    """EXIF data that cannot be read, as after a faulty editor, is no reason to refuse a picture."""
    content = encode(Image.new("RGB", (64, 48)), exif=exif)

    assert 1 == (await inspect_media(Media(content, "document-front"))).orientation


async def test_cancelling_ends_an_async_face_detector() -> None:
    """A caller that is cancelled while its detector runs is cancelled, and gets no note about a failed detector."""
    began, ended = asyncio.Event(), asyncio.Event()

    async def wait(_: FacePicture) -> Sequence[FaceBox]:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return []

    task = asyncio.create_task(inspect_media(Media(encode(Image.new("RGB", (64, 48))), "face"), face_detector=wait))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


@pytest.fixture
def picture_files(tmp_path: Path) -> list[Path]:
    """Return a picture and another file."""
    (tmp_path / "card.jpg").write_bytes(encode(Image.new("RGB", (64, 48))))
    (tmp_path / "notes.txt").write_bytes(b"no picture")
    return sorted(tmp_path.iterdir())


async def test_files_that_are_no_pictures_are_skipped(picture_files: list[Path]) -> None:
    """A calibration counts other files as skipped, and refuses a wrong context instead of skipping all files."""
    measured = await measure_pictures(picture_files, MediaContext.DOCUMENT_FRONT)

    assert (1, 1) == (len(measured.values), measured.skipped)
    with pytest.raises(InvalidArgumentError, match="context"):
        await measure_pictures(picture_files, "passport")  # type: ignore[arg-type]
