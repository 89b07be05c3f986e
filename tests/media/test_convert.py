"""Pictures that are scaled down or converted: upright, without metadata, and only if requested and needed."""

from __future__ import annotations

import base64
import hashlib
import io
import random
import struct
import subprocess
import sys
import warnings
import zlib
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pillow_heif
import pytest
from anyio import CapacityLimiter, to_thread
from PIL import Image, ImageChops, ImageCms, ImageFile, ImageStat

from tests.conditions import needs_posix
from veriff_async import (
    ImageSizeWarning,
    InvalidArgumentError,
    Media,
    MediaError,
    MediaTooLargeError,
    MediaUnsupportedError,
    check_media,
)
from veriff_async._media import decode
from veriff_async._media.prepare import Preparer
from veriff_async._media.worker_threads import WorkerThreads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from veriff_async import VeriffClient
    from veriff_async.sandbox import Sandbox

pytestmark = pytest.mark.anyio

pillow_heif.register_heif_opener()

ORIENTATION, GPS = 0x0112, 0x8825
LYING = 6
"""The orientation of a picture that was taken upright with a camera that lay on its side."""


def picture(size: tuple[int, int], form: str = "JPEG", mode: str = "RGB", **options: Any) -> bytes:  # noqa: ANN401
    """Return a picture whose left half has another colour."""
    image = Image.new(mode, size, 255)
    image.paste(0, (0, 0, size[0] // 2, size[1]))
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def exif_data() -> bytes:
    """Return EXIF data with rotation and place."""
    exif = Image.Exif()
    exif[ORIENTATION] = LYING
    exif.get_ifd(GPS)[1] = "N"
    return exif.tobytes()


async def upload(sandbox: Sandbox, veriff: VeriffClient, media: Media) -> bytes:
    """Upload a media and return the bytes that the sandbox received."""
    session = await veriff.create_session()
    await session.upload(media)
    (stored,) = sandbox.session(session.id).media
    content = await to_thread.run_sync(stored.path.read_bytes)
    assert hashlib.sha256(content).hexdigest() == stored.sha256
    return content


@pytest.mark.parametrize(
    ("form", "mode", "arrives"),
    [
        ("JPEG", "RGB", "JPEG"),
        ("JPEG", "L", "JPEG"),
        ("JPEG", "CMYK", "JPEG"),
        ("PNG", "RGB", "PNG"),
        ("PNG", "RGBA", "PNG"),
        ("PNG", "P", "PNG"),
        ("WEBP", "RGB", "WEBP"),
        ("WEBP", "RGBA", "WEBP"),
        ("HEIF", "RGB", "JPEG"),
    ],
)
async def test_large_picture_is_scaled_down(
    sandbox: Sandbox, veriff: VeriffClient, form: str, mode: str, arrives: str
) -> None:
    """The longer side fits, the ratio stays, and the type is the documented one."""
    content = await upload(sandbox, veriff, Media(picture((1000, 500), form, mode), "face", max_side=200))

    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.size) == (arrives, (200, 100))


async def test_scaled_picture_is_upright_and_has_no_metadata(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """The rotation is applied, and the metadata is removed, place included; the colour profile stays."""
    profile = b"a profile of colours" * 10
    rotated = picture((1000, 500), exif=exif_data(), icc_profile=profile)

    content = await upload(sandbox, veriff, Media(rotated, "face", max_side=200))

    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (100, 200)
        assert dict(image.getexif()) == {}
        assert image.info["icc_profile"] == profile


@pytest.mark.parametrize("max_side", [1000, 1920])
async def test_small_picture_is_sent_unchanged(sandbox: Sandbox, veriff: VeriffClient, max_side: int) -> None:
    """A picture that is small enough is sent byte for byte, with its metadata, and so is a PDF."""
    small = picture((1000, 500), exif=exif_data())
    page = b"%PDF-1.7\n" + bytes(100)

    assert small == await upload(sandbox, veriff, Media(small, "face", max_side=max_side))
    assert page == await upload(sandbox, veriff, Media(page, "address-front", max_side=max_side))


async def test_any_source_can_be_scaled(sandbox: Sandbox, veriff: VeriffClient, tmp_path: Path) -> None:
    """A path, an open file and a stream are scaled like bytes."""
    content = picture((1000, 500))
    path = tmp_path / "front.jpg"
    await to_thread.run_sync(path.write_bytes, content)

    async def stream() -> AsyncIterator[bytes]:
        yield content

    for source in (path, io.BytesIO(content), stream()):
        arrived = await upload(sandbox, veriff, Media(source, "face", max_side=200))
        with Image.open(io.BytesIO(arrived)) as image:
            assert image.size == (200, 100)


async def test_file_above_the_size_limit_can_be_scaled(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """A file above Veriff's limit is refused, and accepted with max_side."""
    out = io.BytesIO()
    Image.new("L", (4300, 4300)).save(out, "PNG", compress_level=0)
    assert len(out.getvalue()) > 18_000_000

    with pytest.raises(MediaTooLargeError):
        await upload(sandbox, veriff, Media(out.getvalue(), "face"))
    with Image.open(io.BytesIO(await upload(sandbox, veriff, Media(out.getvalue(), "face", max_side=300)))) as image:
        assert image.size == (300, 300)


async def test_broken_picture_is_refused_with_max_side(veriff: VeriffClient) -> None:
    """A header without its picture is an error if max_side needs the picture."""
    session = await veriff.create_session()
    with pytest.raises(MediaUnsupportedError, match="cannot be decoded"):
        await session.upload(Media(picture((1000, 500))[:800], "face", max_side=200))


def grey_jpeg(width: int, height: int) -> bytes:
    """Return a grey JPEG of any size: every block is the same six bits, so nothing is encoded."""
    out = io.BytesIO()
    Image.new("L", (8, 8), 128).save(out, "JPEG")
    small = out.getvalue()
    frame, scan = small.index(b"\xff\xc0") + 5, small.index(b"\xff\xda") + 2
    start = scan + int.from_bytes(small[scan : scan + 2], "big")
    fours = -(-(-(-width // 8) * -(-height // 8)) // 4)
    head = small[:frame] + struct.pack(">HH", height, width) + small[frame + 4 : start]
    return head + b"\x28\xa2\x8a" * fours + b"\xff\xd9"


@pytest.mark.parametrize("size", [(12_000, 9_000), (12_240, 16_320), (20_000, 700)])
async def test_very_large_jpeg_is_scaled(sandbox: Sandbox, veriff: VeriffClient, size: tuple[int, int]) -> None:
    """A JPEG of 108 or 200 megapixels, or a long one, is decoded at a fraction of its size."""
    content = await upload(sandbox, veriff, Media(grey_jpeg(*size), "face", max_side=1920))

    with Image.open(io.BytesIO(content)) as image:
        assert max(image.size) == 1920
        assert abs(image.size[0] / image.size[1] - size[0] / size[1]) < 0.05 * size[0] / size[1]


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize(
    "notes",
    [
        b"Exif\0\0" + bytes(range(100)),
        b"Exif\0\0",
        b"Exif\0\0MM\0*\0\0\0\x08\0\xff",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\xff\xff\xff\x06\0\0\0",
    ],
    ids=["noise", "empty", "short", "endless"],
)
async def test_picture_with_damaged_exif_is_scaled(sandbox: Sandbox, veriff: VeriffClient, notes: bytes) -> None:
    """Damaged EXIF data does not prevent scaling, because viewers show such a picture too."""
    whole = picture((1000, 500))
    damaged = whole[:2] + b"\xff\xe1" + struct.pack(">H", len(notes) + 2) + notes + whole[2:]

    with Image.open(io.BytesIO(await upload(sandbox, veriff, Media(damaged, "face", max_side=200)))) as image:
        assert image.size == (200, 100)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("end", [b"", b"\xff", b"\x00\x00"])
async def test_jpeg_without_end_marker_is_scaled(
    sandbox: Sandbox, veriff: VeriffClient, end: bytes, *, progressive: bool
) -> None:
    """A JPEG that lacks only its end marker gives the same picture as the complete one."""
    whole = picture((1000, 500), progressive=progressive)
    assert whole.endswith(b"\xff\xd9")

    expected = await upload(sandbox, veriff, Media(whole, "face", max_side=200))
    assert expected == await upload(sandbox, veriff, Media(whole[:-2] + end, "face", max_side=200))


@pytest.mark.parametrize("missing", [10, 100, 600])
async def test_truncated_jpeg_is_refused(veriff: VeriffClient, missing: int) -> None:
    """A JPEG that ends before its picture does is refused, however little is missing."""
    out = io.BytesIO()
    # The same noise in every run: of a random picture, a few missing bytes may hold nothing but the end of a block.
    noise = random.Random(1).randbytes(1000 * 500)  # noqa: S311  not a secret
    Image.frombytes("L", (1000, 500), noise).save(out, "JPEG")
    session = await veriff.create_session()
    with pytest.raises(MediaUnsupportedError, match="cannot be decoded"):
        await session.upload(Media(out.getvalue()[:-missing], "face", max_side=200))


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "L", "RGB", "CMYK"])
@pytest.mark.parametrize("max_side", [150, 400, 900])
async def test_scaled_picture_equals_a_plain_reduction(
    sandbox: Sandbox, veriff: VeriffClient, mode: str, max_side: int
) -> None:
    """The picture is that of a plain reduction, also when it is made strip by strip or from a fraction."""
    ramp = Image.radial_gradient("L").resize((1001, 703))
    original = Image.merge("RGBA", (ramp, ramp.rotate(90), ramp, ramp)).convert(mode)
    out = io.BytesIO()
    original.save(out, "JPEG" if mode == "CMYK" else "PNG")

    content = await upload(sandbox, veriff, Media(out.getvalue(), "face", max_side=max_side))

    with Image.open(io.BytesIO(content)) as image:
        expected = original.convert("RGBA").convert("RGB").resize(image.size, Image.Resampling.LANCZOS)
        difference = ImageChops.difference(image.convert("RGBA").convert("RGB"), expected)
    assert max(ImageStat.Stat(difference).mean) < 4


MEMORY = """
import io, resource, struct, zlib
from veriff_async._media import convert, decode

def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

def png(side, colours, channels):
    packer, row = zlib.compressobj(1), bytes(1 + side * channels)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, colours, 0, 0, 0))
    return b"\\x89PNG\\r\\n\\x1a\\n" + head + chunk(b"PLTE", bytes(768)) + chunk(b"IDAT", data) + chunk(b"IEND", b"")

decode.import_pillow("max_side")
convert._scale(io.BytesIO(png(64, 3, 1)), "image/png", 32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for colours, channels in (3, 1), (6, 4):
    side = int((30_000_000 / min(4, channels)) ** 0.5)
    assert convert._scale(io.BytesIO(png(side, colours, channels)), "image/png", 600)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@needs_posix
def test_scaling_needs_the_memory_of_decoding(without_coverage: None) -> None:
    """A picture of 30 MB when decoded, with a palette or transparent, needs little more than that to be scaled."""
    done = subprocess.run(  # noqa: S603  our own code
        [sys.executable, "-c", MEMORY], check=True, capture_output=True, text=True, timeout=50
    )
    assert int(done.stdout) < 60


async def test_progressive_jpeg_counts_its_coefficients(veriff: VeriffClient) -> None:
    """A progressive JPEG, whose decoder holds all coefficients, is refused where the baseline one is scaled."""
    out = io.BytesIO()
    Image.new("L", (64, 64), 128).save(out, "JPEG", progressive=True)
    frame = out.getvalue().index(b"\xff\xc2") + 5
    bomb = out.getvalue()[:frame] + struct.pack(">HH", 16_320, 16_320) + out.getvalue()[frame + 4 :]
    session = await veriff.create_session()

    with pytest.raises(MediaUnsupportedError, match="16320 x 16320 pixels"):
        await session.upload(Media(bomb, "face", max_side=1920))


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def gray_jpeg_of_many_scans(scans: int) -> bytes:
    """Return a progressive JPEG of 8 megapixels with empty scans, each of which passes over the whole picture."""
    width, height = 4000, 2000
    blocks = width // 8 * height // 8

    def table(kind: int, symbol: int) -> bytes:  # one symbol, with a code of one bit
        return b"\xff\xc4" + struct.pack(">HB", 20, kind << 4) + bytes([1, *[0] * 15, symbol])

    def scan(first: int, last: int, data: bytes) -> bytes:
        return b"\xff\xda" + struct.pack(">HB", 8, 1) + bytes([1, 0, first, last, 0]) + data

    start = b"\xff\xd8\xff\xdb" + struct.pack(">HB", 67, 0) + b"\1" * 64
    start += b"\xff\xc2" + struct.pack(">HBHHB", 11, 8, height, width, 1) + bytes([1, 0x11, 0])
    end_of_band = f"0{16383:014b}" * (blocks // 32767 + 1)
    empty = int(end_of_band.ljust(-(-len(end_of_band) // 8) * 8, "1"), 2).to_bytes(-(-len(end_of_band) // 8), "big")
    return (
        start
        + table(0, 0)
        + scan(0, 0, bytes(blocks // 8 + 1))
        + table(1, 0xE0)
        + scan(1, 63, empty.replace(b"\xff", b"\xff\0")) * scans
        + b"\xff\xd9"
    )


def tiff_of_strips(strips: int) -> bytes:
    """Return a TIFF that is one pixel wide, with a strip for each pixel."""
    tags = [(256, 1), (257, strips), (258, 8), (259, 1), (262, 1), (273, 200), (277, 1), (278, 1), (279, 200)]
    entries = [(tag, 3 if tag in {273, 279} else 4, strips if tag in {273, 279} else 1, value) for tag, value in tags]
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return (b"II*\0\x08\0\0\0" + table).ljust(200, b"\0") + b"\1\0" * (strips + 2)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("scans", gray_jpeg_of_many_scans(1000)),
        ("strips", tiff_of_strips(300_000)),
        ("parts", picture((90, 60))[:2] + b"\xff\xfe\0\2" * 80_000 + picture((90, 60))[2:]),
        ("parts", picture((90, 60), "PNG")[:33] + png_chunk(b"abCd", b"") * 120_000 + picture((90, 60), "PNG")[33:]),
    ],
)
async def test_file_that_states_endless_work_is_refused(name: str, content: bytes) -> None:
    """A small file cannot make a decoder work for minutes, or hold gigabytes, with very many empty parts."""
    with pytest.raises(MediaUnsupportedError, match=f"too many {name}"):
        await check_media(Media(content, "document-front", convert="jpeg"))


async def test_picture_of_several_parts_is_converted() -> None:
    """A progressive picture with some scans more than usual, and a TIFF with narrow strips, are decoded."""
    narrow = picture((1, 2000), "TIFF", "L", strip_size=1)
    for content in (gray_jpeg_of_many_scans(30), narrow):
        await check_media(Media(content, "document-front", convert="jpeg", max_side=1920))


async def test_jpeg_whose_components_follow_each_other_counts_its_coefficients() -> None:
    """A baseline JPEG whose first scan lacks components needs as much memory as a progressive one."""
    small = picture((64, 64))
    huge = small.replace(struct.pack(">HH", 64, 64), struct.pack(">HH", 12_000, 12_000))
    header = huge.index(b"\xff\xda\0\x0c\x03")
    one_component = huge[:header] + b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" + huge[header + 14 :]

    with pytest.raises(MediaUnsupportedError, match="12000 x 12000 pixels"):
        await check_media(Media(one_component, "document-front", max_side=100))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "TIFF"])
async def test_truncated_picture_is_refused_whatever_pillow_allows(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that lets Pillow load truncated pictures still sends complete ones only."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    out = io.BytesIO()
    Image.effect_noise((200, 150), 90).convert("P" if form == "GIF" else "RGB").save(out, form)
    content = out.getvalue()

    await check_media(Media(content, "face", convert="jpeg", max_side=100))
    with pytest.raises(MediaUnsupportedError):
        await check_media(Media(content[: len(content) * 6 // 10], "face", convert="jpeg", max_side=100))


async def test_decompression_bomb_is_refused(veriff: VeriffClient) -> None:
    """A header with too many pixels is refused before anything is decoded."""
    bomb = bytearray(picture((64, 64), "PNG"))
    bomb[16:24] = (40_000).to_bytes(4, "big") * 2
    session = await veriff.create_session()

    with pytest.raises(MediaUnsupportedError, match="40000 x 40000"):
        await session.upload(Media(bytes(bomb), "face", max_side=200))


async def test_ambiguous_header_is_refused(veriff: VeriffClient) -> None:
    """A picture that is small to a reader of headers and huge to a decoder cannot be decoded."""
    small = picture((300, 200))
    at = small.index(b"\xff\xc0")
    length = 2 + int.from_bytes(small[at + 2 : at + 4], "big")
    huge = bytearray(small[at : at + length])
    huge[5:9] = b"\xfd\xe8" * 2
    session = await veriff.create_session()

    with pytest.raises(MediaUnsupportedError):
        await session.upload(Media(small[: at + length] + bytes(huge) + small[at + length :], "face", max_side=100))


async def test_file_to_be_scaled_has_a_size_limit(veriff: VeriffClient) -> None:
    """A file is held in memory to be decoded, so a very large one is refused before it is read."""
    session = await veriff.create_session()
    with pytest.raises(MediaTooLargeError, match="converted here"):
        await session.upload(Media(picture((300, 200)) + bytes(65 * 2**20), "face", max_side=100))


# ---- convert and max_bytes ------------------------------------------------------------------------------------------

RED, GREEN = (200, 30, 60), (20, 180, 90)


def two_colours(mode: str = "RGB") -> Image.Image:
    """Return a picture whose left half is red, or transparent if the mode can be, and whose right half is green."""
    image = Image.new("RGB", (64, 48), RED)
    image.paste(GREEN, (32, 0, 64, 48))
    if mode == "I;16":
        return image.convert("L").convert("I").point(lambda value: value * 257).convert("I;16")
    image = image.convert(mode)
    if mode in {"RGBA", "LA"}:
        image.putalpha(Image.linear_gradient("L").rotate(90).resize((64, 48)).point(lambda value: 255 * (value > 127)))
    return image


def saved(image: Image.Image, form: str, **options: Any) -> bytes:  # noqa: ANN401
    """Return a picture as a file."""
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def close_to(expected: tuple[int, ...], pixel: object) -> bool:
    """Return whether a pixel has almost a colour."""
    return all(abs(a - b) < 12 for a, b in zip(expected, pixel, strict=True))  # type: ignore[call-overload]


GREYS = (84, 84, 84), (122, 122, 122)


@pytest.mark.parametrize(
    ("form", "mode"),
    [
        *(("JPEG", mode) for mode in ("RGB", "L", "CMYK")),
        *(("PNG", mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "I;16")),
        *(("TIFF", mode) for mode in ("RGB", "RGBA", "L", "CMYK", "LAB", "I;16")),
        *(("WEBP", mode) for mode in ("RGB", "RGBA")),
        *(("AVIF", mode) for mode in ("RGB", "RGBA")),
        *(("HEIF", mode) for mode in ("RGB", "RGBA")),
        *(("BMP", mode) for mode in ("RGB", "L", "P")),
        *(("GIF", mode) for mode in ("P",)),
    ],
)
async def test_every_type_becomes_a_jpeg(form: str, mode: str) -> None:
    """Each type and colour mode becomes a grey or RGB JPEG with the same colours; transparent parts are white."""
    original = two_colours(mode)
    if mode == "P":
        original = two_colours().quantize(4)
    content = saved(original, form, **({"lossless": True} if form == "WEBP" else {}))

    image = Image.open(io.BytesIO(await converted(content)))

    left, right = GREYS if mode in {"L", "LA", "I;16"} else (RED, GREEN)
    left = (255, 255, 255) if mode in {"RGBA", "LA"} else left
    assert image.format == "JPEG"
    assert image.mode == ("L" if mode in {"L", "LA", "I;16"} else "RGB")
    assert close_to(left, image.convert("RGB").getpixel((8, 24)))
    assert close_to(right, image.convert("RGB").getpixel((56, 24)))


async def converted(content: bytes, **options: Any) -> bytes:  # noqa: ANN401
    """Return the bytes that would be sent for a picture, with ``convert="jpeg"`` unless stated otherwise."""
    media = Media(content, "face", **{"convert": "jpeg", **options})
    with closing(WorkerThreads(1)) as workers:
        preparer = Preparer(threads=CapacityLimiter(1), workers=workers, idle=10)
        (prepared,) = await preparer.prepare([media], stacklevel=1)
    assert prepared.prepared is not None
    with closing(prepared), closing(prepared.prepared.source.open()) as reader:
        assert prepared.prepared.mimetype == ("application/pdf" if content[:4] == b"%PDF" else "image/jpeg")
        piece = memoryview(bytearray(prepared.prepared.source.size))
        assert reader.fill(piece) == len(piece)
    return bytes(piece)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIF"])
@pytest.mark.parametrize("options", [{}, {"max_side": 40}], ids=["whole", "scaled"])
async def test_every_orientation_becomes_upright(form: str, options: dict[str, int]) -> None:
    """All eight orientations of each type that has them are applied, and none is left in the file."""
    upright = Image.new("RGB", (80, 48), "white")
    upright.paste((255, 0, 0), (0, 0, 40, 24))
    upright.paste((0, 0, 255), (0, 24, 40, 48))
    turns = Image.Transpose
    undone = {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_90,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_270,
    }
    for orientation in range(1, 9):
        stored = upright.transpose(undone[orientation]) if orientation in undone else upright
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        content = await converted(saved(stored, form, exif=exif.tobytes(), quality=95), **options)

        image = Image.open(io.BytesIO(content))
        assert image.size == ((40, 24) if options else (80, 48))
        assert dict(image.getexif()) == {}
        width, height = image.size
        assert close_to((255, 0, 0), image.getpixel((6, 6)))
        assert close_to((0, 0, 255), image.getpixel((6, height - 7)))
        assert close_to((255, 255, 255), image.getpixel((width - 7, 6)))


def profile_with(swap: dict[bytes, bytes]) -> bytes:
    """Return an RGB profile in which tags have changed their names."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(profile[128:132], "big")
    for at in range(132, 132 + 12 * count, 12):
        profile[at : at + 4] = swap.get(bytes(profile[at : at + 4]), bytes(profile[at : at + 4]))
    return bytes(profile)


SWAPPED = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ"}
"""Red is blue, and blue is red: a profile whose effect is certain."""


async def test_colour_profile_is_applied_and_removed() -> None:
    """The colours are those of the profile in sRGB; a profile of sRGB, and a damaged one, change nothing."""
    for name, profile, expected in (
        ("swapped", profile_with(SWAPPED), (RED[2], RED[1], RED[0])),
        ("sRGB", profile_with({}), RED),
        ("damaged", b"a profile of colours" * 10, RED),
        ("damaged behind its header", profile_with({})[:128] + b"\xff" * 200, RED),
        ("of other colours", profile_with({})[:16] + b"GRAY" + profile_with({})[20:], RED),
    ):
        for form in ("JPEG", "PNG", "TIFF"):
            image = Image.open(io.BytesIO(await converted(saved(two_colours(), form, icc_profile=profile))))
            assert "icc_profile" not in image.info, name
            assert close_to(expected, image.getpixel((8, 24))), (name, form)


async def test_jpeg_that_needs_nothing_is_sent_as_it_is() -> None:
    """A JPEG that is upright, in sRGB and without metadata is sent byte for byte; metadata alone is cut out."""
    plain = saved(two_colours(), "JPEG")
    noted = saved(two_colours(), "JPEG", comment=b"note", icc_profile=profile_with({}))

    assert plain == await converted(plain)
    assert plain == await converted(plain, max_bytes=len(plain), max_side=64)
    assert plain == await converted(noted)
    assert plain == await converted(plain + b"the video of a moving picture")


async def test_pdf_is_never_converted() -> None:
    """A PDF is sent as it is with any arguments."""
    page = b"%PDF-1.7\n" + bytes(5000)
    assert page == await converted(page, max_bytes=100, max_side=10)


async def test_first_picture_of_an_animation_is_sent() -> None:
    """The first frame of an animation, and the first page of a TIFF, becomes the picture."""
    for form in ("GIF", "WEBP", "PNG", "TIFF", "AVIF"):
        first, second = Image.new("RGB", (64, 48), RED), Image.new("RGB", (64, 48), GREEN)
        content = saved(first, form, save_all=True, append_images=[second])
        image = Image.open(io.BytesIO(await converted(content)))
        assert close_to(RED, image.convert("RGB").getpixel((32, 24))), form


def noise(side: int, form: str = "PNG") -> bytes:
    """Return a picture that compresses badly."""
    return saved(Image.effect_noise((side, side), 90).convert("RGB"), form)


async def test_file_fits_into_max_bytes_in_the_best_quality() -> None:
    """The quality is the best that fits; if the lowest does not fit, the picture is smaller."""
    image = Image.effect_noise((500, 500), 90).convert("RGB")
    content = saved(image, "PNG")
    best, middle, lowest = (len(saved(image, "JPEG", quality=quality)) for quality in (95, 80, 60))
    assert saved(image, "JPEG", quality=95) == await converted(content, max_bytes=best, convert=None)
    assert saved(image, "JPEG", quality=80) == await converted(content, max_bytes=middle + 10, convert=None)
    small = await converted(content, max_bytes=lowest * 3 // 4, convert=None)
    assert lowest // 2 < len(small) <= lowest * 3 // 4
    assert 320 <= Image.open(io.BytesIO(small)).size[0] < 500


async def test_max_bytes_that_is_too_small_is_an_error(veriff: VeriffClient) -> None:
    """A picture that would become illegible is refused, with the limit."""
    session = await veriff.create_session()
    with pytest.raises(MediaTooLargeError, match="does not fit into 900 bytes"):
        await session.upload(Media(noise(400), "face", max_bytes=900))


async def test_max_bytes_alone_leaves_smaller_files(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """A file that is small enough is sent unchanged, of any type; a type that Veriff does not accept is refused."""
    content = saved(two_colours(), "PNG", pnginfo=None)
    assert content == await upload(sandbox, veriff, Media(content, "face", max_bytes=len(content)))
    session = await veriff.create_session()
    with pytest.raises(MediaUnsupportedError, match='image/gif, which Veriff does not take: pass convert="jpeg"'):
        await session.upload(Media(saved(two_colours(), "GIF"), "face", max_bytes=10))


async def test_any_source_can_be_converted(sandbox: Sandbox, veriff: VeriffClient, tmp_path: Path) -> None:
    """A path, a stream, base64 and a data URL are converted like bytes."""
    content = saved(two_colours(), "TIFF")
    expected = await converted(content)
    path = tmp_path / "front.tif"
    await to_thread.run_sync(path.write_bytes, content)
    text = base64.b64encode(content).decode()

    async def stream() -> AsyncIterator[bytes]:
        yield content[:1000]
        yield content[1000:]

    for media in (
        Media(path, "face", convert="jpeg", mimetype="image/tiff"),
        Media(stream(), "face", convert="jpeg"),
        Media.from_base64(text, "face", convert="jpeg"),
        Media.from_data_url(f"data:image/tiff;base64,{text}", "face", convert="jpeg"),
    ):
        assert expected == await upload(sandbox, veriff, media)


async def test_text_is_checked_with_its_media(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """A mistake in a text, or a wrong type in a data URL, is an error of its media before anything is sent."""
    good = Media.from_base64(base64.b64encode(picture((64, 64))), "document-front")
    text = base64.b64encode(picture((64, 64))).decode()
    for wrong, words in (
        (Media.from_base64(text[:-2], "face"), "padding|cut"),
        (Media.from_data_url(text, "face"), "not a data URL"),
        (Media.from_data_url(f"data:image/png;base64,{text}", "face"), "not the stated type"),
        (Media.from_base64("", "face"), "empty"),
    ):
        with pytest.raises(MediaError, match=words) as caught:
            await veriff.submit(media=[good, wrong])
        assert str(caught.value.media) == "media[1] (face)"
        assert text not in repr(wrong)
    assert not sandbox.sessions
    assert good == Media.from_base64(base64.b64encode(picture((64, 64))), "document-front")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIF", "GIF", "BMP"])
async def test_damaged_picture_is_converted_or_refused(form: str) -> None:
    """Of any damaged file, the result is a JPEG or an error of media."""
    content = noise(48, form)
    chance = random.Random(7)  # noqa: S311  the same files in every run
    for number in range(25):
        damaged = bytearray(content)
        if number % 2:
            del damaged[chance.randrange(len(damaged)) :]
        for _ in range(chance.randint(1, 8)):
            if damaged:
                damaged[chance.randrange(min(len(damaged), 400))] = chance.choice((0, 255, chance.randrange(256)))
        with suppress(MediaError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.open(io.BytesIO(await converted(bytes(damaged)))).load()


@pytest.mark.parametrize("mode", ["I", "F"])
async def test_picture_of_numbers_is_refused(mode: str) -> None:
    """A picture whose pixels are numbers without a range has no colours, and the error says what to do."""
    with pytest.raises(MediaUnsupportedError, match="convert it to grey or RGB"):
        await converted(picture((30, 30), "TIFF", mode))


async def test_types_outside_the_list_are_refused() -> None:
    """Pillow's other decoders never see a file, even if they know its type."""
    for form in ("EPS", "PCX", "PPM", "TGA", "ICO", "JPEG2000", "DDS", "SGI"):
        with pytest.raises(MediaUnsupportedError):
            await converted(saved(two_colours(), form))


async def test_preview_of_a_raw_file_is_refused() -> None:
    """A TIFF whose first picture is a reduced copy of another one, as in raw files of cameras, is refused."""
    with pytest.raises(MediaUnsupportedError, match="is a preview"):
        await converted(saved(two_colours(), "TIFF", tiffinfo={254: 1}))


async def test_tile_larger_than_its_picture_is_counted() -> None:
    """A TIFF that states a strip or tile of more memory than the bound is refused before it is decoded."""
    tags = {256: 64, 257: 48, 258: 8, 259: 5, 262: 1, 277: 1, 322: 65_536, 323: 65_536, 324: 8, 325: 100}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    content = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(200)
    with pytest.raises(MediaUnsupportedError, match="64 x 48 pixels, too many"):
        await converted(content)


async def test_jpeg_beyond_the_memory_bound_is_converted_at_a_fraction(monkeypatch: pytest.MonkeyPatch) -> None:
    """A JPEG beyond the memory bound is decoded at the largest fraction that fits; other types are refused."""
    monkeypatch.setattr(decode, "_MAX_MEMORY", 8 * 200 * 152)
    stored = Image.new("RGB", (799, 605), RED)

    image = Image.open(io.BytesIO(await converted(saved(stored, "JPEG", comment=b"note")[:-2])))

    assert image.size == (200, 152)
    with pytest.raises(MediaUnsupportedError, match="799 x 605 pixels, too many"):
        await converted(saved(stored, "PNG"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_bytes": 0}, "max_bytes must be"),
        ({"max_bytes": True}, "max_bytes must be"),
        ({"max_bytes": "4MB"}, "max_bytes must be"),
        ({"convert": "png"}, 'convert must be "jpeg"'),
        ({"convert": True}, 'convert must be "jpeg"'),
    ],
)
async def test_wrong_arguments_of_conversion_are_refused(options: dict[str, Any], words: str) -> None:
    """Any other value is refused with the remedy."""
    with pytest.raises(InvalidArgumentError, match=words):
        await check_media(Media(b"", "face", **options))


@pytest.mark.parametrize("max_side", [0, -1, True, 1.5, "1920"])
async def test_max_side_is_a_number_of_pixels(veriff: VeriffClient, max_side: Any) -> None:  # noqa: ANN401
    """Any other value is refused before any request."""
    session = await veriff.create_session()
    with pytest.raises(InvalidArgumentError, match="max_side must be"):
        await session.upload(Media(picture((64, 64)), "face", max_side=max_side))


async def test_large_picture_gives_a_warning(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """A longer side above 1920 pixels gives a warning with the size and the remedy, at the line that uploads."""
    session = await veriff.create_session()
    with pytest.warns(ImageSizeWarning, match=r"face has 1921 x 16 pixels.*max_side=1920") as caught:
        await session.upload(Media(picture((1921, 16)), "face"))

    assert [__file__] == [warning.filename for warning in caught]
    assert len(sandbox.session(session.id).media) == 1


@pytest.mark.parametrize(
    ("size", "max_side"), [((1920, 16), None), ((16, 1920), None), ((1921, 16), 1920), ((1921, 16), 100)]
)
async def test_small_or_scaled_picture_gives_no_warning(
    veriff: VeriffClient, size: tuple[int, int], max_side: int | None
) -> None:
    """A picture that is small enough, or is scaled down, gives no warning."""
    session = await veriff.create_session()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await session.upload(Media(picture(size), "face", max_side=max_side))


def test_heic_without_its_extra_names_the_extra(tmp_path: Path) -> None:
    """Without pillow-heif, a JPEG is scaled and a HEIC gives an error that names the extra, before any request."""
    program = """
import asyncio, io, sys
sys.modules["pillow_heif"] = None
from PIL import Image
from veriff_async import ConfigurationError, Media, VeriffClient
from veriff_async.sandbox import Sandbox

async def main():
    jpeg = io.BytesIO()
    Image.new("RGB", (300, 200)).save(jpeg, "JPEG")
    heic = b"\\0\\0\\0\\x18ftypheic\\0\\0\\0\\0heicmif1" + bytes(60)
    async with Sandbox() as sandbox, VeriffClient.from_env(sandbox.environ) as veriff:
        session = await veriff.create_session()
        await session.upload(Media(jpeg.getvalue(), "face", max_side=100))
        try:
            await session.upload(Media(heic, "face", max_side=100))
        except ConfigurationError as error:
            print(error, len(sandbox.requests))

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=50)  # noqa: S603

    assert 'pip install "veriff-async[heic]"' in done.stdout
    assert done.stdout.endswith(" 2\n")


def test_max_side_without_its_extra_names_the_extra(tmp_path: Path) -> None:
    """Without Pillow, max_side is refused before any request; everything else works."""
    program = """
import asyncio, sys
sys.modules["PIL"] = sys.modules["PIL.Image"] = None
from veriff_async import ConfigurationError, Media, VeriffClient
from veriff_async.sandbox import Sandbox

async def main():
    async with Sandbox() as sandbox, VeriffClient.from_env(sandbox.environ) as veriff:
        session = await veriff.create_session()
        picture = b"\\xff\\xd8\\xff\\xe0" + bytes(60)
        await session.upload(Media(picture, "face"))
        try:
            await session.upload(Media(picture, "face", max_side=1920))
        except ConfigurationError as error:
            print(error, len(sandbox.requests))

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=50)  # noqa: S603

    assert 'pip install "veriff-async[images]"' in done.stdout
    assert done.stdout.endswith(" 2\n")
