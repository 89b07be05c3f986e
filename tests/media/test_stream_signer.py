"""A stream that is signed while it arrives gets the signature of the whole media."""

from __future__ import annotations

import asyncio
import os
import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from anyio import CapacityLimiter
from attrs import evolve

from veriff_async import Credentials, Media
from veriff_async._media.prepare import inspect
from veriff_async._media.source import SMALL, BytesSource
from veriff_async._media.spool import spool
from veriff_async._media.stream_body import StreamSigner, sign
from veriff_async._media.worker_threads import WorkerThreads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

from veriff_async._media.source import Source

pytestmark = pytest.mark.anyio

CREDENTIALS = Credentials("6f1c0f43-9a35-4d1e-8a46-0d5a3f7b9c21", "early-secret")
CONTENT = b"\xff\xd8\xff\xda" + os.urandom(3 * SMALL + 1)


def split_randomly(content: bytes, lengths: range) -> Iterator[bytes]:
    """Split bytes into pieces of changing lengths."""
    rng, offset = random.Random(7), 0  # noqa: S311  the same lengths in each run
    while offset < len(content):
        count = rng.choice(lengths)
        yield content[offset : offset + count]
        offset += count


async def spool_pieces(media: Media, content: bytes, lengths: range) -> tuple[Source, StreamSigner]:
    """Spool a stream of such pieces."""

    async def pieces() -> AsyncIterator[bytes]:
        for piece in split_randomly(content, lengths):
            yield piece

    signer = StreamSigner(media, CREDENTIALS)
    streamed = evolve(media, source=pieces())
    return await spool_alone(streamed, signer), signer


async def spool_alone(media: Media, signer: StreamSigner) -> Source:
    """Spool a media without inspecting it."""

    def return_source(_: Media, source: Source) -> Source:
        return source

    threads, writers = CapacityLimiter(4), WorkerThreads(2)
    return await spool(media, inspect=return_source, threads=threads, writers=writers, idle=30, signer=signer)


@pytest.mark.parametrize("lengths", [range(1, 300), range(1, 4), range(16_000, 70_000), range(300_000, 900_000)])
async def test_pieces_of_any_length_give_the_signature_of_the_whole(lengths: range) -> None:
    """A stream is signed as a file with the same bytes would be, and copied byte for byte, however it is split."""
    media = Media(b"", "face", timestamp=datetime(2026, 1, 2, tzinfo=UTC))
    content = CONTENT if lengths.stop > 4 else CONTENT[: SMALL + 5000]
    source, signer = await spool_pieces(media, content, lengths)
    try:
        prepared = await asyncio.to_thread(inspect, media, source)
        whole = await asyncio.to_thread(sign, prepared, CREDENTIALS)
        signed = signer.finish(prepared)
    finally:
        source.close()

    assert signed is not None
    assert whole.signature == signed.signature
    assert whole.proof == signed.proof
    assert len(content) == source.size


@pytest.mark.parametrize(
    ("media", "content"),
    [
        (Media(b"", "face", max_side=1920), CONTENT),
        (Media(b"", "no-context-of-veriff"), CONTENT),
        (Media(b"", "face"), CONTENT[:1000]),
    ],
    ids=["scaled", "unknown context", "held in memory"],
)
async def test_media_that_cannot_be_signed_early_is_left_to_sign(media: Media, content: bytes) -> None:
    """A media that is resized, refused or held in memory is not signed early, and raises no error there."""
    source, signer = await spool_pieces(media, content, range(1000, 90_000))
    try:
        known = Media(CONTENT, "face")
        prepared = await asyncio.to_thread(inspect, known, source if content.startswith(CONTENT[:4]) else _source())
        assert signer.finish(prepared) is None
    finally:
        source.close()


def _source() -> Source:
    return BytesSource(memoryview(CONTENT), constant=True)


async def test_first_bytes_are_written_before_the_last_arrive() -> None:
    """A stream that pauses is not held in memory: its first bytes are in the file already."""
    written = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Seen(StreamSigner):
        def update(self, piece: bytes | bytearray | memoryview) -> None:
            super().update(piece)
            loop.call_soon_threadsafe(written.set)

    async def pausing() -> AsyncIterator[bytes]:
        yield CONTENT
        yield CONTENT
        await written.wait()
        yield CONTENT

    media = Media(pausing(), "face")
    source = await spool_alone(media, Seen(media, CREDENTIALS))
    source.close()

    assert 3 * len(CONTENT) == source.size


async def test_single_bytes_give_the_signature_of_the_whole() -> None:
    """Pieces that are shorter than a group of base64 are gathered until they fill one."""
    media = Media(b"", "face", timestamp=datetime(2026, 1, 2, tzinfo=UTC))
    signer = StreamSigner(media, CREDENTIALS)
    signer.begin(CONTENT[:5000])
    for number in range(5000):
        signer.update(CONTENT[number : number + 1])
    signer.update(CONTENT[5000:])
    prepared = await asyncio.to_thread(inspect, media, _source())

    signed = signer.finish(prepared)

    whole = await asyncio.to_thread(sign, prepared, CREDENTIALS)
    assert signed is not None
    assert whole.signature == signed.signature
