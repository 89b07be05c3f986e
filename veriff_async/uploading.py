"""Many uploads at once: all looked at before the first byte leaves, side by side, in order, all or an error."""

from __future__ import annotations

import os
import warnings
from functools import partial
from typing import TYPE_CHECKING, Final

from anyio import CapacityLimiter, Semaphore, to_thread

from veriff_async.errors import ConfigurationError, VeriffError
from veriff_async.models.media import Media, UploadProgress
from veriff_async.protocol.dimensions import ImageSizeWarning
from veriff_async.protocol.limits import MAX_PDF_BYTES
from veriff_async.together import together
from veriff_async.transport.bodies import Draft, draft
from veriff_async.transport.early import EarlySignature
from veriff_async.transport.scaling import fitted, require
from veriff_async.transport.sources import SMALL, BytesSource, reusable_source
from veriff_async.transport.spooling import spool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from veriff_async.api import Api
    from veriff_async.models.media import UploadedMedia

__all__ = ("Uploads", "check_media")

_HELD: Final = 16 * SMALL
"""Bytes of small files that one call holds while they wait for their turn."""


class Uploads:
    """The uploads of one client: how many may run at once, and the worker threads they use."""

    def __init__(self, api: Api, *, seats: int, threads: CapacityLimiter) -> None:
        """Take the calls to use, and how many uploads the client may run at once."""
        self._api = api
        self._seats = Semaphore(seats, max_value=seats, fast_acquire=True)
        self._all_seats = seats
        self._threads = threads
        # Hashing keeps a processor busy: more threads than processors would only take turns, and memory.
        self._hashing = CapacityLimiter(max(2, os.cpu_count() or 2))

    @property
    def running(self) -> int:
        """How many uploads hold a seat."""
        return self._all_seats - self._seats.value

    async def run(
        self,
        session_id: str,
        media: Sequence[Media],
        *,
        concurrency: int | None,
        progress: Callable[[UploadProgress], None] | None,
        on_uploaded: Callable[[int, UploadedMedia], Awaitable[None]] | None = None,
    ) -> list[UploadedMedia]:
        """Upload all media to a session; see `VerificationSession.upload`."""
        check_media(media)
        if concurrency is not None and concurrency < 1:
            msg = "concurrency must be 1 or more."
            raise ConfigurationError(msg)
        async with self._api.guard():
            return await self._run(session_id, media, concurrency, progress, on_uploaded)

    async def _run(
        self,
        session_id: str,
        media: Sequence[Media],
        concurrency: int | None,
        progress: Callable[[UploadProgress], None] | None,
        on_uploaded: Callable[[int, UploadedMedia], Awaitable[None]] | None,
    ) -> list[UploadedMedia]:
        drafts = await self._look_at(media)
        for looked_at in drafts:
            # Counted from here to whoever awaits `VerificationSession.upload`.
            _tell(looked_at, stacklevel=5)

        async def upload(place: int) -> UploadedMedia:
            receipt = await self.upload(session_id, media[place], drafts[place], progress)
            if on_uploaded is not None:
                await on_uploaded(place, receipt)
            return receipt

        jobs = [partial(upload, place) for place in range(len(media))]
        # Small media are signed and sent without a thread.
        threads = not all(
            looked_at is not None and looked_at.inline and not looked_at.media.fit for looked_at in drafts
        )
        uploaded, failure = await together(jobs, concurrency=concurrency or len(media), threads=threads)
        if isinstance(failure, VeriffError):
            failure.uploaded = tuple(uploaded)
        if failure is not None:
            raise failure
        return uploaded

    async def _look_at(self, media: Sequence[Media]) -> list[Draft | None]:
        """Draft whatever can be read twice, before a byte of anything leaves; ``None`` for what must be spooled."""
        if all(isinstance(one.source, bytes) and one.fit is None for one in media):
            return _drafts(media)
        return await to_thread.run_sync(_drafts, media, limiter=self._threads)

    async def upload(
        self, session_id: str, media: Media, looked_at: Draft | None, progress: Callable[[UploadProgress], None] | None
    ) -> UploadedMedia:
        """Upload one media, spooling it first when it can be read only once."""
        if looked_at is not None:
            return await self._send(session_id, looked_at, progress)
        early = EarlySignature(media, self._api.credentials)
        # Before a seat is taken: whoever streams to us, a browser perhaps, must not wait for other uploads.
        source = await spool(media.source, limit=MAX_PDF_BYTES, threads=self._threads, early=early)
        try:
            spooled = await to_thread.run_sync(draft, media, source, limiter=self._threads)
            _tell(spooled, stacklevel=2)
            return await self._send(session_id, spooled, progress, early)
        finally:
            source.close()

    async def _send(
        self,
        session_id: str,
        looked_at: Draft,
        progress: Callable[[UploadProgress], None] | None,
        early: EarlySignature | None = None,
    ) -> UploadedMedia:
        async with self._seats:
            ready = looked_at
            if looked_at.media.fit is not None:
                ready = await to_thread.run_sync(fitted, looked_at, limiter=self._hashing)

            def moved(sent: int) -> None:
                if progress is not None:
                    progress(UploadProgress(media=ready.media, sent=sent, total=ready.length))

            sign, credentials = ready.sign, self._api.credentials
            signed = None if early is None else early.body(ready)
            if early is not None and signed is not None:
                body, credentials = signed, early.credentials
            elif ready.inline:
                body = sign(credentials)
            else:
                body = await to_thread.run_sync(sign, credentials, limiter=self._hashing)
            return await self._api.upload_media(credentials, session_id, body, moved)


def _drafts(media: Sequence[Media]) -> list[Draft | None]:
    """Look at all media; small files are read on this occasion, so that no further thread is asked for them."""
    if any(one.fit is not None for one in media):
        require()
    drafts: list[Draft | None] = []
    room = _HELD
    for one in media:
        source = reusable_source(one.source, hold=min(SMALL, room))
        if isinstance(source, BytesSource) and source.constant and not isinstance(one.source, bytes):
            room -= source.size
        drafts.append(None if source is None else draft(one, source))
    return drafts


def _tell(looked_at: Draft | None, *, stacklevel: int) -> None:
    if looked_at is not None and looked_at.oversize is not None:
        warnings.warn(looked_at.oversize, ImageSizeWarning, stacklevel=stacklevel)


def check_media(media: Sequence[Media]) -> None:
    """Look whether media can be uploaded together, as far as that can be told without reading them.

    Raises:
        ConfigurationError: There is none, or one cannot be right.
    """
    if not media:
        msg = "There is nothing to upload: give at least one Media."
        raise ConfigurationError(msg)
    if not all(isinstance(one, Media) for one in media):
        msg = 'upload takes Media, for example Media("front.jpg", "document-front").'
        raise ConfigurationError(msg)
    if not all(one.fit is None or (type(one.fit) is int and one.fit > 0) for one in media):
        msg = "fit must be a number of pixels above zero, for example 1920."
        raise ConfigurationError(msg)
    streams = [id(one.source) for one in media if hasattr(one.source, "read") or hasattr(one.source, "__aiter__")]
    if len(set(streams)) < len(streams):
        msg = "The same open file or stream is given twice, and can only be read by one upload: open it twice."
        raise ConfigurationError(msg)
