"""Media before anything is sent: every check that needs no server, made once for each call.

    media ──► arguments ──► look ──────────────► scale ──► ready
                             │ read only once       ▲
                             └──► spool ──► look ───┘

`look` reads the beginning and size of what can be read again. What can be read only once must be spooled before it can
be checked: `VeriffClient.verify` and `submit` do that before they create a session, which cannot be taken back.
`VerificationSession.upload` does it while other media are being sent, since a slow stream must not hold them up.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, cast

from anyio import CapacityLimiter, to_thread
from attrs import define, evolve

from veriff_async._event_loop import require_asyncio
from veriff_async._media.blocking_source import run_abandonable
from veriff_async._media.concurrency import gather_bounded
from veriff_async._media.resize import fitted, require
from veriff_async._media.source import SMALL, BytesSource, reusable_source
from veriff_async._media.source_kinds import may_block, seeks_async
from veriff_async._media.spool import spool, spool_bytes
from veriff_async._media.stream_body import Draft, draft
from veriff_async._protocol.image_size import ImageSizeWarning
from veriff_async._protocol.media_rules import reference_to
from veriff_async.config import Timeouts
from veriff_async.errors import InvalidArgumentError, MediaSourceError, VeriffError
from veriff_async.models.media import Media

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from types import TracebackType

    from veriff_async._media.source import Source
    from veriff_async._media.stream_signing import StreamSigner

__all__ = ("PreparedMedia", "Preparing", "check_arguments", "check_media", "look_at", "naming")

_HELD: Final = 16 * SMALL
"""Bytes of small files that one call holds while they wait for their turn."""


class _AsyncFile(Protocol):
    async def seek(self, offset: int, /) -> object: ...
    async def tell(self) -> int: ...


@define
class PreparedMedia:
    """One media of a call, and how far it is prepared.

    Attributes:
        index: Its index among the media of the call.
        media: The media as it was given.
        draft: What is sent, or ``None`` for a stream that is still to be spooled.
        early: The signature that was made while it was spooled.
    """

    index: int
    media: Media
    draft: Draft | None = None
    early: StreamSigner | None = None

    def close(self) -> None:
        """Drop the temporary file, if there is one."""
        if self.draft is not None:
            self.draft.source.close()


async def check_media(*media: Media) -> None:
    """Check whether media can be uploaded, without sending anything.

    `VeriffClient.verify`, `VeriffClient.submit` and `VerificationSession.upload` make the same checks first. Call it
    yourself to answer a user before you begin, or for media that are uploaded later. Open files are read from where
    they stand and put back there. With ``max_side`` a picture is decoded. A stream that can be read only once is not
    read, so only its arguments are checked.

    Args:
        media: What to check.

    Raises:
        MediaError: A media is missing, empty, too large, cannot be decoded, or is of a type that Veriff does not
            accept; the error's ``media`` says which.
        InvalidArgumentError: There is no media, or an argument of one cannot be right.

    Warns:
        ImageSizeWarning: A picture is larger than Veriff advises.

    Example:
        >>> await check_media(Media("front.jpg", "document-front"), Media("selfie.heic", "face"))

    See https://devdocs.veriff.com/apidocs/v1sessionsidmedia-3.
    """
    require_asyncio()
    preparing = Preparing(threads=CapacityLimiter(4), stall=Timeouts().idle)
    prepared = await preparing.prepare(media, stacklevel=3)
    for item in prepared:
        item.close()


class Preparing:
    """Prepares the media of one client: which threads that uses, and how long a source may stall."""

    def __init__(self, *, threads: CapacityLimiter, stall: float) -> None:
        """Share worker threads.

        Args:
            threads: Bounds the threads that read files.
            stall: Most seconds that a stream may take for its next piece.
        """
        self._threads = threads
        self._stall = stall
        # Hashing and scaling keep a processor busy: more threads than processors would only take turns, and memory.
        self.hashing: CapacityLimiter = CapacityLimiter(max(2, os.cpu_count() or 2))

    async def prepare(
        self, media: Iterable[Media], *, stacklevel: int, early: Callable[[Media], StreamSigner] | None = None
    ) -> list[PreparedMedia]:
        """Check all media, before a byte of anything leaves.

        Args:
            media: The media of one call.
            stacklevel: Frames from here to the caller whom a warning is about.
            early: Begins to sign a media. Given, streams are spooled and checked too; left out, only those are that can
                go back to where they stood.

        Returns:
            The media, to be closed by the caller.

        Raises:
            MediaError: One cannot be uploaded.
            InvalidArgumentError: An argument cannot be right.
        """
        prepared = await self._look_at(check_arguments(media))
        try:
            await self._spool_and_scale(prepared, early)
        except BaseException:
            for item in prepared:
                item.close()
            raise
        for item in prepared:
            if item.draft is not None and item.draft.oversize is not None:
                warnings.warn(item.draft.oversize, ImageSizeWarning, stacklevel=stacklevel)
        return prepared

    async def spool(self, item: PreparedMedia, early: StreamSigner | None) -> Draft:
        """Read what can be read only once, and check it; return what is sent."""
        with naming(item.index, item.media):
            source = await spool(item.media, threads=self._threads, stall=self._stall, early=early)
            try:
                item.draft = await to_thread.run_sync(draft, item.media, source, limiter=self._threads)
            except BaseException:
                source.close()
                raise
        item.early = early
        return await self._scale(item, item.draft)

    async def _look_at(self, media: Sequence[Media]) -> list[PreparedMedia]:
        if all(isinstance(item.source, bytes) and item.max_side is None for item in media):
            return look_at(media)
        if not any(may_block(item.source) for item in media):
            return await to_thread.run_sync(look_at, media, limiter=self._threads)
        done: list[PreparedMedia] = []
        try:
            return await run_abandonable(partial(look_at, media, done), stall=self._stall)
        except MediaSourceError:
            # The thread names its own errors; if it hangs, that is at the first media that is not done.
            with naming(len(done), media[len(done)]):
                raise

    async def _spool_and_scale(
        self, prepared: Sequence[PreparedMedia], early: Callable[[Media], StreamSigner] | None
    ) -> None:
        jobs: list[Callable[[], Awaitable[object]]] = [
            partial(self._scale, item, item.draft)
            for item in prepared
            if item.draft is not None and item.media.max_side is not None
        ]
        for item in prepared:
            rewinds = seeks_async(item.media.source)
            if item.draft is None and (rewinds or early is not None):
                spool = self._spool_and_rewind if rewinds else self.spool
                jobs.append(partial(spool, item, None if early is None else early(item.media)))
        if jobs:
            _, failure = await gather_bounded(jobs, concurrency=len(jobs))
            if failure is not None:
                raise failure

    async def _spool_and_rewind(self, item: PreparedMedia, early: StreamSigner | None) -> Draft:
        """Spool what has an async ``seek``, and put it back to where it stood."""
        source = cast("_AsyncFile", item.media.source)
        start = await source.tell() if hasattr(source, "tell") else 0
        try:
            return await self.spool(item, early)
        finally:
            with suppress(Exception):
                await source.seek(start)

    async def _scale(self, item: PreparedMedia, before: Draft) -> Draft:
        if item.media.max_side is None:
            return before
        with naming(item.index, item.media):
            scale = partial(fitted, before)
            if before.source.may_block:
                after = await run_abandonable(scale, stall=self._stall)
            else:
                after = await to_thread.run_sync(scale, limiter=self.hashing)
            if after is before:
                return before
            source: Source = after.source
            if isinstance(source, BytesSource) and source.size > SMALL:
                source = await spool_bytes(bytes(source.view), self._threads)
        item.draft, item.early = evolve(after, source=source), None
        before.source.close()
        return item.draft


def look_at(media: Sequence[Media], done: list[PreparedMedia] | None = None) -> list[PreparedMedia]:
    """Look at the beginning and size of all media. Blocking.

    Small files are read on this occasion, so that no further thread is asked for them.

    Args:
        media: The media of one call.
        done: Takes each media when it is done; a new list is used and returned when it is left out.
    """
    if any(item.max_side is not None for item in media):
        require()
    prepared = [] if done is None else done
    room = _HELD
    for index, item in enumerate(media):
        with naming(index, item):
            source = reusable_source(item.source, hold=min(SMALL, room))
            if isinstance(source, BytesSource) and source.constant and not isinstance(item.source, bytes):
                room -= source.size
            prepared.append(PreparedMedia(index, item, None if source is None else draft(item, source)))
    return prepared


class naming:  # noqa: N801  used as a function; a generator would take five times as long, for each upload
    """Make every error of ours that leaves the block say which media it is about."""

    __slots__ = ("_index", "_media")

    def __init__(self, index: int, media: Media) -> None:
        """Name a media by its index among those of the call."""
        self._index = index
        self._media = media

    def __enter__(self) -> None:
        """Do nothing yet."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Add the media to the error, unless it has one."""
        if isinstance(error, VeriffError) and error.media is None:
            error.media = reference_to(self._index, self._media)


def check_arguments(media: Iterable[Media]) -> tuple[Media, ...]:
    """Check whether media can be uploaded together, as far as their arguments say.

    Returns:
        The media.

    Raises:
        InvalidArgumentError: There is none, or one cannot be right.
    """
    given: object = media
    if isinstance(given, Media | str | bytes) or not isinstance(given, Iterable):
        msg = 'media must be a list, for example [Media("front.jpg", "document-front")].'
        raise InvalidArgumentError(msg)
    items = tuple(media)
    if not items:
        msg = "There is nothing to upload: give at least one Media."
        raise InvalidArgumentError(msg)
    if not all(isinstance(item, Media) for item in items):
        msg = 'upload takes Media, for example Media("front.jpg", "document-front").'
        raise InvalidArgumentError(msg)
    if not all(item.max_side is None or (type(item.max_side) is int and item.max_side > 0) for item in items):
        msg = "max_side must be a number of pixels above zero, for example 1920."
        raise InvalidArgumentError(msg)
    streams = [id(item.source) for item in items if hasattr(item.source, "read") or hasattr(item.source, "__aiter__")]
    if len(set(streams)) < len(streams):
        msg = "The same open file or stream is given twice, and can only be read by one upload: open it twice."
        raise InvalidArgumentError(msg)
    return items
