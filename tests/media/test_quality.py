"""`Media(quality=...)`: the checks of `inspect_media` as a part of an upload, before anything is paid."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal, cast

import pytest
from attrs import evolve
from PIL import ImageFilter

from tests.pictures import draw_card, encode_jpeg
from veriff_async import (
    CheckName,
    ConfigurationError,
    FaceBox,
    InspectionThresholds,
    InvalidArgumentError,
    Media,
    MediaQualityError,
    MediaQualityWarning,
    PictureThresholds,
    VeriffClient,
    check_media,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from veriff_async.models import FaceDetector, FacePicture
    from veriff_async.sandbox import Sandbox

pytestmark = pytest.mark.anyio


SHARP = encode_jpeg(draw_card())
BLURRED = encode_jpeg(draw_card().filter(ImageFilter.GaussianBlur(9)))


async def stream(content: bytes) -> AsyncIterator[bytes]:
    """Yield bytes that can be read once."""
    yield content


@pytest.mark.parametrize("source", [bytes, stream])
@pytest.mark.parametrize("method", ["verify", "submit"])
async def test_refused_picture_creates_no_session(
    veriff: VeriffClient, sandbox: Sandbox, method: str, source: Callable[[bytes], bytes | AsyncIterator[bytes]]
) -> None:
    """A picture that fails a check is refused before a session exists; the error has the hints and the media."""
    blurred = Media(source(BLURRED), "document-front", quality="refuse")
    media = [Media(SHARP, "document-back", quality="refuse"), blurred]

    with pytest.raises(MediaQualityError, match=r"^media\[1\] \(document-front\): .* sharpness") as caught:
        await getattr(veriff, method)(media=media)

    assert caught.value.inspection is not None
    assert [CheckName.SHARPNESS] == [check.name for check in caught.value.inspection.failed]
    assert any("blurred" in hint for hint in caught.value.inspection.hints)
    assert not sandbox.sessions


async def test_refused_stream_ends_an_upload(veriff: VeriffClient, sandbox: Sandbox) -> None:
    """A stream that is read during the call is inspected too, and never sent when it is refused."""
    session = await veriff.create_session()

    with pytest.raises(MediaQualityError):
        await session.upload(Media(stream(BLURRED), "document-front", quality="refuse"))

    assert not sandbox.session(session.id).media


@pytest.mark.parametrize("source", [bytes, stream])
async def test_warning_picture_is_uploaded(
    veriff: VeriffClient, sandbox: Sandbox, source: Callable[[bytes], bytes | AsyncIterator[bytes]]
) -> None:
    """A picture that fails a check with "warn" causes one warning that names the check, and is uploaded."""
    session = await veriff.create_session()

    with pytest.warns(MediaQualityWarning, match="document-front fails the check sharpness") as caught:
        await session.upload(Media(source(BLURRED), "document-front", quality="warn"))

    assert 1 == len(caught)
    assert source is stream or __file__ == caught[0].filename
    assert 1 == len(sandbox.session(session.id).media)


@pytest.mark.parametrize("quality", ["warn", "refuse"])
async def test_sharp_picture_passes_silently(veriff: VeriffClient, quality: Literal["warn", "refuse"]) -> None:
    """A picture that passes all checks is uploaded without a warning."""
    session = await veriff.create_session()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await session.upload(Media(SHARP, "document-front", quality=quality))


async def test_quality_is_checked_before_conversion(veriff: VeriffClient, sandbox: Sandbox) -> None:
    """The picture of the user is inspected, not the smaller one that is sent."""
    session = await veriff.create_session()
    media = Media(SHARP, "document-front", quality="refuse", max_side=200)

    await session.upload(media)

    assert 1 == len(sandbox.session(session.id).media)


async def test_limits_and_face_detector_are_those_of_the_client(sandbox: Sandbox) -> None:
    """The client's thresholds replace the defaults, and its face detector is called for pictures of a face."""
    sizes: list[tuple[int, int]] = []

    def detect(picture: FacePicture) -> list[FaceBox]:
        sizes.append((picture.width, picture.height))
        return []

    lenient = InspectionThresholds(document_front=PictureThresholds(), face=PictureThresholds(face_count=1))
    async with VeriffClient(
        sandbox.credentials, base_url=sandbox.base_url, thresholds=lenient, face_detector=detect
    ) as veriff:
        session = await veriff.create_session()
        await session.upload(Media(BLURRED, "document-front", quality="refuse"))
        with pytest.raises(MediaQualityError, match="face_count"):
            await session.upload(Media(SHARP, "face", quality="refuse"))
    assert 1 == len(sizes)


async def test_check_media_refuses_like_an_upload() -> None:
    """`check_media` raises the same error, with the limits that it is given."""
    media = Media(BLURRED, "document-front", quality="refuse")
    with pytest.raises(MediaQualityError):
        await check_media(media)
    default = InspectionThresholds()
    await check_media(media, thresholds=evolve(default, document_front=PictureThresholds()))


@pytest.mark.parametrize("quality", ["WARN", "", True, ["refuse"]])
async def test_unknown_quality_is_refused(quality: object) -> None:
    """A value that is neither "warn" nor "refuse" is an error that names both."""
    media = Media(SHARP, "face", quality=cast("Literal['warn']", quality))
    with pytest.raises(InvalidArgumentError, match='quality must be "warn" or "refuse"'):
        await check_media(media)


@pytest.mark.parametrize(
    ("options", "name"), [({"thresholds": {"face": {}}}, "thresholds"), ({"face_detector": 5}, "face_detector")]
)
async def test_wrong_options_are_refused(sandbox: Sandbox, options: dict[str, object], name: str) -> None:
    """Limits and a face detector of a wrong type are refused by the client and by `check_media`, before any work."""
    with pytest.raises(ConfigurationError, match=f"^{name} must be"):
        VeriffClient(
            sandbox.credentials,
            base_url=sandbox.base_url,
            thresholds=cast("InspectionThresholds | None", options.get("thresholds")),
            face_detector=cast("FaceDetector | None", options.get("face_detector")),
        )
    with pytest.raises(InvalidArgumentError, match=f"^{name} must be"):
        await check_media(
            Media(SHARP, "face"),
            thresholds=cast("InspectionThresholds | None", options.get("thresholds")),
            face_detector=cast("FaceDetector | None", options.get("face_detector")),
        )
