"""The pass that signs: one read gives the signature and a digest, and credentials that were replaced sign again."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
from typing import TYPE_CHECKING

import pytest
from anyio import to_thread

from veriff_async import Credentials, Media, MediaChangedError, UploadProgress, VeriffClient
from veriff_async._media import source as source_module
from veriff_async._media.memory_budget import MemoryBudget
from veriff_async._media.prepare import PendingUpload, inspect
from veriff_async._media.source import SMALL, TINY, BytesSource, PathSource, SourceOpener, reusable_source
from veriff_async._media.stream_body import sign
from veriff_async.client import runtime_of
from veriff_async.sandbox import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from veriff_async.sandbox import Sandbox

pytestmark = pytest.mark.anyio

CREDENTIALS = Credentials("6f1c0f43-9a35-4d1e-8a46-0d5a3f7b9c21", "a-secret")
JPEG = b"\xff\xd8\xff\xda"


@pytest.mark.parametrize("size", [100, TINY, TINY + 1, SMALL + 1, 3 * SMALL])
@pytest.mark.parametrize("hold", [0, SMALL])
def test_one_pass_signs_and_digests(tmp_path: Path, size: int, hold: int) -> None:
    """The digest is that of the file, and the signature that of the whole document, in memory or not."""
    content = JPEG + os.urandom(size - len(JPEG))
    path = tmp_path / "face.jpg"
    path.write_bytes(content)
    media = Media(path, "face")
    source = reusable_source(path, budget=MemoryBudget(hold, largest=hold))
    assert source is not None
    digest = hashlib.sha256()

    prepared = inspect(media, source)
    signed = sign(prepared, CREDENTIALS, digest=digest)

    body = b"".join(prepared.template.wrap([content]))
    assert digest.hexdigest() == hashlib.sha256(content).hexdigest()
    assert signed.signature == CREDENTIALS.sign(body)
    assert len(body) == prepared.length
    assert signed.whole in {None, body}


async def test_upload_is_signed_again_if_the_credentials_were_replaced(
    sandbox: Sandbox, veriff: VeriffClient, tmp_path: Path
) -> None:
    """A body that was signed with a secret that is no longer valid is signed again before it is sent."""
    path = tmp_path / "face.jpg"
    await to_thread.run_sync(path.write_bytes, JPEG + os.urandom(SMALL))
    session = await veriff.create_session()
    uploader = runtime_of(veriff).uploads
    media = Media(path, "face")
    source = reusable_source(path)
    assert source is not None
    prepared = await to_thread.run_sync(inspect, media, source)
    signed = await to_thread.run_sync(sign, prepared, uploader.credentials)
    replaced = sandbox.credentials.with_rotated_secret("a-new-secret").without_secret(1)
    sandbox.credentials = veriff.credentials = replaced

    (receipt,) = await uploader.send(session.id, [PendingUpload(0, media, prepared, signed)])

    assert receipt.size == SMALL + len(JPEG)


def test_files_in_memory_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the files in memory reach the limit of the client, a further file is streamed; a dropped one makes room."""
    monkeypatch.setattr(source_module, "_MAX_HELD", 2 * SMALL)
    path = tmp_path / "face.jpg"
    path.write_bytes(JPEG + bytes(SMALL - len(JPEG)))
    opener = SourceOpener()
    held = [opener.open(path), opener.open(path)]
    assert isinstance(opener.open(path), PathSource)
    # The caller's own bytes are in memory anyway.
    assert isinstance(opener.open(path.read_bytes()), BytesSource)

    assert isinstance(held.pop(), BytesSource)

    assert isinstance(opener.open(path), BytesSource)


def test_memory_is_reserved_before_a_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are read at the same time share the limit, also when none of them is complete yet."""
    monkeypatch.setattr(source_module, "_MAX_HELD", SMALL)
    path = tmp_path / "face.jpg"
    path.write_bytes(JPEG + bytes(SMALL - len(JPEG)))
    opener, others = SourceOpener(), []

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            others.append(opener.open(path))
            return super().read(size)

    held = opener.open(Slow(path.read_bytes()))

    assert isinstance(held, BytesSource)
    assert {type(other) for other in others} == {PathSource}


@pytest.mark.parametrize("stated", [999, 1001])
def test_file_that_is_longer_or_shorter_than_it_was_is_refused(stated: int) -> None:
    """A file whose length changes while it is read into memory is not sent with a part of its bytes."""

    class Changing(io.BytesIO):
        def tell(self) -> int:
            return super().tell() and stated

    with pytest.raises(MediaChangedError):
        SourceOpener().open(Changing(JPEG + bytes(1000 - len(JPEG))))


@pytest.mark.parametrize("fault", ["status", "callback", "cancellation", "another media"])
async def test_failed_upload_frees_its_memory(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """The memory of a failed upload is free for the next one, although its error still refers to it."""
    path = tmp_path / "face.jpg"
    await to_thread.run_sync(path.write_bytes, JPEG + os.urandom(SMALL - len(JPEG)))
    monkeypatch.setattr(source_module, "_MAX_HELD", SMALL)
    if fault == "status":
        sandbox.inject(Fault.status(400), path="/v1/sessions/*/media")

    async with VeriffClient.from_env(sandbox.environ) as veriff:
        session = await veriff.create_session()
        media = [Media(path, "face"), *([Media(b"no picture", "face")] if fault == "another media" else [])]
        failures: list[BaseException] = []

        def fail(_: UploadProgress) -> None:
            if fault == "callback":
                raise ZeroDivisionError
            if fault == "cancellation":
                task.cancel()

        async def upload() -> None:
            try:
                await session.upload(*media, progress=fail)
            except BaseException as error:
                failures.append(error)
                raise

        task = asyncio.create_task(upload())
        await asyncio.wait([task])
        next_source = await to_thread.run_sync(runtime_of(veriff).uploads.opener.open, path)

    assert len(failures) == 1
    assert isinstance(next_source, BytesSource)


async def test_buffer_of_a_failed_upload_can_be_resized(veriff: VeriffClient) -> None:
    """A buffer of the caller is free after a failed upload, although the error still refers to it."""
    content = bytearray(JPEG + os.urandom(2 * SMALL))
    session = await veriff.create_session()

    def change(progress: UploadProgress) -> None:
        content[-1] = progress.bytes_sent % 251 ^ content[-1] ^ 1

    with pytest.raises(MediaChangedError) as caught:
        await session.upload(Media(content, "face"), progress=change)
    content.append(0)

    assert caught.value.media is not None
