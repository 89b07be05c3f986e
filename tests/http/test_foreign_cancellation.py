"""A CancelledError that comes from the caller's own code is a failure of that code, never a silent success."""

from __future__ import annotations

import asyncio
import io
import os
from typing import TYPE_CHECKING, BinaryIO, cast

import pytest
from anyio import to_thread

from tests.loops import every_loop
from veriff_async import Media, MediaSourceError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from veriff_async import VeriffClient, VerificationSession
    from veriff_async.models.media import MediaSource
    from veriff_async.sandbox import Sandbox

pytestmark = pytest.mark.anyio

SMALL = b"\xff\xd8\xff\xda" + bytes(3000)
LARGE = b"\xff\xd8\xff\xda" + bytes(700_000)


@pytest.fixture
async def session(veriff: VeriffClient) -> VerificationSession:
    """Open a session."""
    return await veriff.create_session()


async def broken_stream() -> AsyncIterator[bytes]:
    """Await a task that other code has cancelled."""
    yield SMALL
    task = asyncio.create_task(asyncio.Event().wait())
    await asyncio.sleep(0)
    task.cancel()
    await task


class BrokenReader:
    """An async reader whose first reading fails."""

    async def read(self, _: int) -> bytes:
        """Fail."""
        raise asyncio.CancelledError


class BrokenFile(io.BytesIO):
    """A file that fails when it is read."""

    def read(self, _: int | None = -1) -> bytes:
        """Fail."""
        raise asyncio.CancelledError


class BrokenPipe(BrokenFile):
    """Another that cannot seek."""

    def seekable(self) -> bool:
        """Return that it cannot seek."""
        return False


SOURCES: dict[str, Callable[[], object]] = {
    "stream": broken_stream,
    "reader": BrokenReader,
    "file": lambda: BrokenFile(LARGE),
    "pipe": BrokenPipe,
}


@every_loop
@pytest.mark.parametrize("source", list(SOURCES.values()), ids=list(SOURCES))
async def test_cancelled_source_fails_the_upload(
    sandbox: Sandbox, session: VerificationSession, source: Callable[[], object]
) -> None:
    """A source that raises CancelledError fails its upload, alone or among others, and the error names the media."""
    for media in ([], [Media(SMALL, "document-front")]):
        with pytest.raises(MediaSourceError, match="CancelledError") as caught:
            await session.upload(*media, Media(cast("MediaSource", source()), "face"))
        assert caught.value.media is not None
        assert caught.value.media.context == "face"

    assert all(stored.context == "document-front" for stored in sandbox.session(session.id).media)


@pytest.mark.parametrize("source", list(SOURCES.values()), ids=list(SOURCES))
async def test_cancelled_source_creates_no_session(
    sandbox: Sandbox, veriff: VeriffClient, source: Callable[[], object]
) -> None:
    """`submit` never submits a session without a picture whose source raised CancelledError."""
    before = len(sandbox.sessions)
    with pytest.raises(MediaSourceError):
        await veriff.submit(media=[Media(SMALL, "document-front"), Media(cast("BinaryIO", source()), "face")])

    assert before == len(sandbox.sessions)


@every_loop
@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
async def test_cancelled_callback_ends_the_call(
    veriff: VeriffClient, session: VerificationSession, tmp_path: Path, content: bytes
) -> None:
    """A CancelledError of a callback comes out of the call as it is, and no call returns without its results."""

    def progress(_: object) -> None:
        raise asyncio.CancelledError

    async def uploaded(*_: object) -> None:
        raise asyncio.CancelledError

    await session.upload(Media(content, "face"))
    for media in ([Media(content, "face")], [Media(content, "face"), Media(SMALL, "document-front")]):
        with pytest.raises(asyncio.CancelledError):
            await session.upload(*media, progress=progress)
        with pytest.raises(asyncio.CancelledError):
            await session.upload(*media, on_uploaded=uploaded)
    with pytest.raises(asyncio.CancelledError):
        await session.download_all(tmp_path, progress=progress)

    assert await to_thread.run_sync(os.listdir, tmp_path) == []
    assert (veriff.statistics().active_uploads, veriff.statistics().active_downloads) == (0, 0)
