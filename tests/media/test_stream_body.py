"""The pass that signs: one read gives the signature and a digest, and credentials that were replaced sign again."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest
from anyio import to_thread

from veriff_async import Credentials, Media
from veriff_async._media import source as source_module
from veriff_async._media.prepare import PendingUpload, inspect
from veriff_async._media.source import SMALL, TINY, BytesSource, PathSource, SourceOpener, reusable_source
from veriff_async._media.stream_body import sign
from veriff_async.client import uploader_of

if TYPE_CHECKING:
    from pathlib import Path

    from veriff_async import VeriffClient
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
    source = reusable_source(path, hold=hold)
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
    uploader = uploader_of(veriff)
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
