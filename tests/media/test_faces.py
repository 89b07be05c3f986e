"""Faces that are imported for comparison: requests, receipts, and refusals before sending."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given, strategies as st

from veriff_async import (
    BadRequestError,
    FaceImage,
    InvalidArgumentError,
    OutcomeUnknownError,
    VeriffClient,
)
from veriff_async._protocol import endpoints
from veriff_async._protocol.json.decode import load_object
from veriff_async.credentials import Credentials
from veriff_async.sandbox import Fault, Sandbox, SandboxOptions, VirtualClock
from veriff_async.sandbox._errors import HTTPError
from veriff_async.sandbox._face_import import FaceCollection

if TYPE_CHECKING:
    from veriff_async.models.json import JsonObject

pytestmark = pytest.mark.anyio

PICTURE: Final = b"\xff\xd8\xff\xe0 Canary-7f3a"
ID: Final = "8f0d1ab6-0000-4000-8000-000000000001"
CREDENTIALS: Final = Credentials("key", "secret")


def faces(count: int) -> list[FaceImage]:
    """Return so many pictures, each with its own name."""
    return [FaceImage(f"face-{number}", PICTURE) for number in range(count)]


async def test_pictures_and_sessions_are_imported() -> None:
    """The receipt has the remaining quota, and the pictures arrive unchanged."""
    async with (
        Sandbox(options=SandboxOptions(face_quota=20)) as sandbox,
        VeriffClient.from_env(sandbox.environ) as veriff,
    ):
        receipt = await veriff.import_faces(images=faces(2), session_ids=[ID])

        assert receipt.available_quota == 17
        assert [face.name for face in sandbox.imported_faces] == ["face-0", "face-1", None]
        assert sandbox.imported_faces[0].sha256 == hashlib.sha256(PICTURE).hexdigest()
        assert sandbox.imported_faces[2].session_id == ID


async def test_large_pictures_are_imported(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """Pictures that are larger together than any other body are accepted."""
    await veriff.import_faces(images=[FaceImage("large", PICTURE + bytes(3_000_000))])

    assert sandbox.imported_faces[0].is_processed


async def test_same_name_is_processed_once_in_five_minutes() -> None:
    """A name that is repeated within five minutes is accepted and not processed; later it is."""
    async with Sandbox(clock=VirtualClock()) as sandbox, VeriffClient.from_env(sandbox.environ) as veriff:
        for seconds in (0, 299, 2):
            sandbox.advance(seconds)
            await veriff.import_faces(images=faces(1))

        assert [face.is_processed for face in sandbox.imported_faces] == [True, False, True]


async def test_spent_quota_is_refused() -> None:
    """More faces than the quota allows are refused, and none is imported."""
    async with (
        Sandbox(options=SandboxOptions(face_quota=1)) as sandbox,
        VeriffClient.from_env(sandbox.environ) as veriff,
    ):
        with pytest.raises(BadRequestError):
            await veriff.import_faces(images=faces(2))

        assert sandbox.imported_faces == ()


async def test_lost_response_is_an_unknown_outcome(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """An import whose response is lost is sent once, and its outcome is unknown."""
    sandbox.inject(Fault.lose_response(), path="/v1/faces/import")

    with pytest.raises(OutcomeUnknownError):
        await veriff.import_faces(images=faces(1))

    assert len(sandbox.imported_faces) == 1


@pytest.mark.parametrize(
    ("images", "session_ids", "words"),
    [
        ([], [], "0 were passed"),
        (faces(11), [], "11 were passed"),
        (faces(6), [ID] * 5, "11 were passed"),
        ([*faces(1), *faces(1)], [], "a name of its own"),
        ([FaceImage("", PICTURE)], [], "name"),
        ([FaceImage("a\nb", PICTURE)], [], "name"),
        ([FaceImage("pdf", b"%PDF-1.7")], [], "picture"),
        ([FaceImage("text", b"hello")], [], "picture"),
        ([FaceImage("empty", b"")], [], "picture"),
        ([FaceImage("path", "face.jpg")], [], "picture"),  # type: ignore[arg-type]
        ([PICTURE], [], "FaceImage"),
        (FaceImage("alone", PICTURE), [], "FaceImage"),
        ([], ID, "list of texts"),
        ([], ["../x"], "session_ids"),
    ],
)
async def test_faces_are_checked_before_anything_is_sent(
    sandbox: Sandbox, veriff: VeriffClient, images: list[FaceImage], session_ids: list[str], words: str
) -> None:
    """Invalid faces are refused with a message that has neither name nor picture, and nothing is sent."""
    with pytest.raises(InvalidArgumentError, match=words) as caught:
        await veriff.import_faces(images=images, session_ids=session_ids)

    assert "Canary" not in str(caught.value)
    assert not sandbox.requests


def test_picture_is_not_in_a_repr() -> None:
    """The repr shows neither the picture nor its name."""
    assert repr(FaceImage("Ada", PICTURE)) == "FaceImage()"
    assert "Canary" not in repr(endpoints.import_faces(faces(1), (), {}))


def test_extra_members_override_the_guessed_ones() -> None:
    """A caller who knows the members can name them."""
    request = endpoints.import_faces(faces(1), (), {"images": [], "faces": [1]})

    assert load_object(request.body or b"") == {"images": [], "faces": [1]}


_JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=12) | st.dictionaries(st.sampled_from(["name", "content"]), inner),
    max_leaves=12,
)


@given(body=st.dictionaries(st.sampled_from(["images", "sessionIds", "other"]), _JSON))
def test_any_body_is_accepted_or_refused(body: JsonObject) -> None:
    """The sandbox imports the faces of any JSON or refuses it with a status, and counts the quota correctly."""
    service = FaceCollection(20)
    clock = VirtualClock()
    try:
        left = service.import_faces(body, now=clock.now())["availableQuota"]
    except HTTPError:
        left = 20
    assert left == 20 - len(service.faces)
