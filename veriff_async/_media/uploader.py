"""Many uploads at once: all checked before the first byte leaves, side by side, in order, all or an error."""

from __future__ import annotations

from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING

from anyio import Semaphore, to_thread

from veriff_async._event_loop import require_asyncio
from veriff_async._media.blocking_source import run_abandonable
from veriff_async._media.concurrency import gather_bounded
from veriff_async._media.prepare import Preparing, naming
from veriff_async._media.stream_signing import StreamSigner
from veriff_async._protocol.arguments import check_concurrency, check_function, type_name
from veriff_async.errors import InvalidArgumentError, VeriffError
from veriff_async.models.media import UploadProgress

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from anyio import CapacityLimiter

    from veriff_async._http.api import Api
    from veriff_async._media.prepare import PreparedMedia
    from veriff_async._media.stream_body import Draft, SignedBody
    from veriff_async.credentials import Credentials
    from veriff_async.models.media import Media, UploadedMedia

__all__ = ("Uploader",)


class Uploader:
    """The uploads of one client: how many may run at once, and the worker threads they use."""

    def __init__(self, api: Api, *, max_uploads: int, threads: CapacityLimiter, stall: float) -> None:
        """Share what all uploads of a client use.

        Args:
            api: The calls of the client.
            max_uploads: Most uploads at once.
            threads: Bounds the threads that read files.
            stall: Most seconds that a stream may take for its next piece.
        """
        self._api = api
        self._semaphore = Semaphore(max_uploads, max_value=max_uploads, fast_acquire=True)
        self._max_uploads = max_uploads
        self._threads = threads
        self._stall = stall
        self._preparing = Preparing(threads=threads, stall=stall)

    @property
    def running(self) -> int:
        """How many uploads hold a permit."""
        return self._max_uploads - self._semaphore.value

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
        require_asyncio()
        if concurrency is not None:
            check_concurrency(concurrency)
        check_function("progress", progress, error=InvalidArgumentError)
        check_function("on_uploaded", on_uploaded, may_be_async=True, error=InvalidArgumentError)
        async with self._api.guard():
            # Counted from there to the caller of `VerificationSession.upload`.
            prepared = await self._preparing.prepare(media, stacklevel=4)
            return await self._send_all(session_id, prepared, concurrency, progress, on_uploaded)

    async def prepare(self, media: Sequence[Media], *, stacklevel: int) -> list[PreparedMedia]:
        """Check all media and spool streams, for a session that does not exist yet; see `Preparing.prepare`."""
        require_asyncio()
        async with self._api.guard():
            return await self._preparing.prepare(media, stacklevel=stacklevel, early=self._sign_early)

    async def send(
        self,
        session_id: str,
        prepared: Sequence[PreparedMedia],
        progress: Callable[[UploadProgress], None] | None,
    ) -> list[UploadedMedia]:
        """Upload media that are prepared, and close them."""
        async with self._api.guard():
            return await self._send_all(session_id, prepared, None, progress, None)

    async def _send_all(
        self,
        session_id: str,
        prepared: Sequence[PreparedMedia],
        concurrency: int | None,
        progress: Callable[[UploadProgress], None] | None,
        on_uploaded: Callable[[int, UploadedMedia], Awaitable[None]] | None,
    ) -> list[UploadedMedia]:
        async def upload(item: PreparedMedia) -> UploadedMedia:
            receipt = await self._upload(session_id, item, progress)
            if on_uploaded is not None:
                await _awaitable(on_uploaded(item.index, receipt))
            return receipt

        jobs = [partial(upload, item) for item in prepared]
        # Small media are signed and sent without a thread.
        threads = not all(item.draft is not None and item.draft.inline for item in prepared)
        try:
            uploaded, failure = await gather_bounded(jobs, concurrency=concurrency or len(prepared), threads=threads)
        finally:
            for item in prepared:
                item.close()
        if isinstance(failure, VeriffError):
            failure.uploaded = tuple(uploaded)
        if failure is not None:
            raise failure
        return uploaded

    async def _upload(
        self, session_id: str, item: PreparedMedia, progress: Callable[[UploadProgress], None] | None
    ) -> UploadedMedia:
        # Before a permit is taken: a stream that comes slowly, from a browser perhaps, must not hold up other uploads.
        ready = item.draft or await self._preparing.spool(item, self._sign_early(item.media))
        with naming(item.index, item.media):
            try:
                async with self._semaphore:
                    return await self._send(session_id, ready, item, progress)
            finally:
                item.close()

    async def _send(
        self,
        session_id: str,
        ready: Draft,
        item: PreparedMedia,
        progress: Callable[[UploadProgress], None] | None,
    ) -> UploadedMedia:
        def moved(sent: int) -> None:
            if progress is not None:
                progress(UploadProgress(media=item.media, bytes_sent=sent, total_bytes=ready.length))

        early, credentials = item.early, self._api.credentials
        body = None if early is None else early.body(ready)
        if early is not None and body is not None:
            credentials = early.credentials
        else:
            body = await self._sign(ready, credentials)
        return await self._api.upload_media(credentials, session_id, body, moved)

    async def _sign(self, ready: Draft, credentials: Credentials) -> SignedBody:
        if ready.inline:
            return ready.sign(credentials)
        if ready.source.may_block:
            return await run_abandonable(partial(ready.sign, credentials), stall=self._stall)
        return await to_thread.run_sync(ready.sign, credentials, limiter=self._preparing.hashing)

    def _sign_early(self, media: Media) -> StreamSigner:
        return StreamSigner(media, self._api.credentials)


def _awaitable(result: object) -> Awaitable[object]:
    if isawaitable(result):
        return result
    msg = f"on_uploaded must be an async function, but it returned {type_name(result)}: define it with async def."
    raise InvalidArgumentError(msg)
