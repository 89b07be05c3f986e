"""The uploads of a client: the media of a call are checked first, then sent concurrently; one failure cancels the rest.

    upload ──► Preparer.prepare ──► _send_all ──► one task for each media:
                                                  spool (streams only) ──► permit ──► sign ──► Transport

`VeriffClient.verify` and batches call `prepare` and `send` themselves, because they create the session between the two.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Final

from anyio import Semaphore

from veriff_async._event_loop import require_asyncio
from veriff_async._http.payload import StreamedBody
from veriff_async._media.blocking_source import run_abandonable
from veriff_async._media.concurrency import gather_bounded
from veriff_async._media.prepare import error_context, issue_warnings
from veriff_async._media.stream_body import SignedBody, StreamedPayload, StreamSigner, sign
from veriff_async._protocol import endpoints
from veriff_async._protocol.arguments import check_concurrency, check_function, type_name
from veriff_async._views import view_of
from veriff_async.errors import InvalidArgumentError, VeriffError
from veriff_async.models.media import UploadProgress

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AbstractContextManager

    from veriff_async._http.transport import Transport
    from veriff_async._media.prepare import PendingUpload, Preparer
    from veriff_async._media.prepared_media import PreparedMedia
    from veriff_async._media.source import SourceOpener
    from veriff_async._media.worker_threads import WorkerThreads
    from veriff_async._telemetry.instrumentation import Instrumentation
    from veriff_async.config import CallOptions
    from veriff_async.credentials import Credentials
    from veriff_async.models.media import Media, UploadedMedia

__all__ = ("Uploader",)

_NO_SPAN: Final = nullcontext()


class Uploader:
    """The uploads of one client: how many may run at once, and the worker threads they use."""

    def __init__(
        self,
        transport: Transport,
        preparer: Preparer,
        *,
        max_uploads: int,
        idle: float,
        instrumentation: Instrumentation | None = None,
    ) -> None:
        """Share what all uploads of a client use.

        Args:
            transport: Sends the calls of the client.
            preparer: Checks the media.
            max_uploads: Most uploads at once.
            idle: Most seconds that a stream may take for its next piece.
            instrumentation: Exports a span for each call, if spans are exported.
        """
        self._instrumentation = instrumentation
        self._transport = transport
        self._semaphore = Semaphore(max_uploads, max_value=max_uploads, fast_acquire=True)
        self._max_uploads = max_uploads
        self._workers = preparer.workers
        self._idle = idle
        self._preparer = preparer
        self._concurrency: int | None = None

    def with_options(self, transport: Transport, options: CallOptions) -> Uploader:
        """Return an uploader for a view, which shares threads and limits."""
        timeouts = options.get("timeouts")
        return view_of(
            self,
            _transport=transport,
            _concurrency=options.get("concurrency") or self._concurrency,
            _idle=self._idle if timeouts is None else timeouts.idle,
            _preparer=self._preparer.with_options(options),
        )

    def close(self) -> None:
        """End the worker threads."""
        self._workers.close()

    @property
    def active(self) -> int:
        """How many uploads are being signed or sent."""
        return self._max_uploads - self._semaphore.value

    @property
    def opener(self) -> SourceOpener:
        """Opens the sources of all uploads of the client, and bounds the files in memory."""
        return self._preparer.opener

    @property
    def workers(self) -> WorkerThreads:
        """The threads in which the media of the client are read and signed."""
        return self._preparer.workers

    @property
    def credentials(self) -> Credentials:
        """The credentials of the next upload, for a caller of `sign` before `send`."""
        return self._transport.credentials

    async def upload(
        self,
        session_id: str,
        media: Sequence[Media],
        *,
        concurrency: int | None,
        progress: Callable[[UploadProgress], None] | None,
        on_uploaded: Callable[[int, UploadedMedia], Awaitable[None]] | None = None,
    ) -> list[UploadedMedia]:
        """Upload all media to a session; see `VerificationSession.upload`."""
        if concurrency is not None:
            check_concurrency(concurrency)
        check_function("progress", progress, takes=("an UploadProgress",), error=InvalidArgumentError)
        takes = ("an index", "an UploadedMedia")
        check_function("on_uploaded", on_uploaded, may_be_async=True, takes=takes, error=InvalidArgumentError)
        with self._transport.guard(), self._span(session_id, len(media)):
            # Counted from there to the caller of `VerificationSession.upload`.
            uploads = await self._preparer.prepare(media, stacklevel=4, credentials=self.credentials)
            return await self._send_all(session_id, uploads, concurrency, progress, on_uploaded)

    async def prepare(self, media: Sequence[Media], *, stacklevel: int) -> list[PendingUpload]:
        """Check all media and spool streams, for a session that does not exist yet; see `Preparer.prepare`."""
        require_asyncio()
        with self._transport.guard():
            return await self._preparer.prepare(
                media, stacklevel=stacklevel, credentials=self.credentials, signer_for=self._signer_for
            )

    async def complete(self, uploads: Sequence[PendingUpload], *, stacklevel: int) -> None:
        """Spool and convert the media that were only inspected; see `Preparer.complete`."""
        require_asyncio()
        with self._transport.guard():
            await self._preparer.complete(uploads, stacklevel=stacklevel, signer_for=self._signer_for)

    async def send(
        self,
        session_id: str,
        uploads: Sequence[PendingUpload],
        *,
        progress: Callable[[UploadProgress], None] | None = None,
        on_uploaded: Callable[[int, UploadedMedia], Awaitable[None]] | None = None,
    ) -> list[UploadedMedia]:
        """Send media that are prepared, and close them.

        Args:
            session_id: The session.
            uploads: The media. One without `PendingUpload.prepared` is spooled; one without `PendingUpload.signed` is
                signed.
            progress: See `VerificationSession.upload`.
            on_uploaded: See `VerificationSession.upload`; its first argument is `PendingUpload.index`.
        """
        try:
            with self._transport.guard(), self._span(session_id, len(uploads)):
                return await self._send_all(session_id, uploads, None, progress, on_uploaded)
        finally:  # also if the client has been closed since they were prepared
            for upload in uploads:
                upload.close()

    def _span(self, session_id: str, count: int) -> AbstractContextManager[object]:
        """Run a block in the span of an upload, which has the calls of all its media."""
        instrumentation = self._instrumentation
        # Not `if_live`: a function more would be noticeable in each upload.
        if instrumentation is None or not instrumentation.is_live:
            return _NO_SPAN
        return instrumentation.span("veriff.upload", {"veriff.session.id": session_id, "veriff.media.count": count})

    async def _send_all(
        self,
        session_id: str,
        uploads: Sequence[PendingUpload],
        concurrency: int | None,
        progress: Callable[[UploadProgress], None] | None,
        on_uploaded: Callable[[int, UploadedMedia], Awaitable[None]] | None,
    ) -> list[UploadedMedia]:
        async def run(upload: PendingUpload) -> UploadedMedia:
            receipt = await self._upload(session_id, upload, progress)
            if on_uploaded is not None:
                await _awaitable(on_uploaded(upload.index, receipt))
            return receipt

        jobs = [partial(run, upload) for upload in uploads]
        threads = any(upload.prepared is None for upload in uploads)  # streams, which are spooled with anyio
        try:
            bound = concurrency or self._concurrency or len(uploads)
            uploaded, failure = await gather_bounded(jobs, concurrency=bound, threads=threads)
        finally:
            for upload in uploads:
                upload.close()
        # The error itself, not an ExceptionGroup: callers catch `MediaError` or `ConflictError`.
        if isinstance(failure, VeriffError):
            failure.uploaded = tuple(uploaded)
        if failure is not None:
            raise failure
        return uploaded

    async def _upload(
        self, session_id: str, upload: PendingUpload, progress: Callable[[UploadProgress], None] | None
    ) -> UploadedMedia:
        # Before a permit is taken: a slow stream, from a browser perhaps, must not delay other uploads.
        prepared = upload.prepared
        if prepared is None:
            prepared = await self._preparer.spool(upload, self._signer_for(upload.media))
            issue_warnings([upload], stacklevel=1)  # the caller's frame is not on the stack of this task
        with error_context(upload.index, upload.media):
            try:
                async with self._semaphore:
                    signed = upload.signed
                    # The credentials may have been replaced since, and Veriff may refuse the older ones by now.
                    if signed is None or signed.credentials is not self._transport.credentials:
                        signed = await self._sign(prepared, self._transport.credentials)
                    return await self._send(session_id, signed, progress)
            finally:
                # As soon as this media is sent, rather than when the call ends: each may hold a temporary file.
                upload.close()

    async def _send(
        self, session_id: str, signed: SignedBody, progress: Callable[[UploadProgress], None] | None
    ) -> UploadedMedia:
        # The transport calls this once for each attempt.
        payload = partial(
            StreamedPayload,
            signed,
            on_progress=None if progress is None else partial(_report, progress, signed.prepared),
            threads=self._workers,
            idle=self._idle,
        )
        body = StreamedBody(signed.credentials, signed.signature, payload, signed.prepared)
        uploaded = await self._transport.send(endpoints.upload_media(session_id), body)
        self._transport.counters.uploads += 1
        return uploaded

    async def _sign(self, prepared: PreparedMedia, credentials: Credentials) -> SignedBody:
        if prepared.is_small:
            return sign(prepared, credentials)
        work = partial(_keep_and_sign, prepared, credentials)
        if prepared.source.may_block:
            return await run_abandonable(work, idle=self._idle)
        async with self._preparer.hashing:
            return await self._workers.run(work)

    def _signer_for(self, media: Media) -> StreamSigner:
        return StreamSigner(media, self._transport.credentials)


def _keep_and_sign(prepared: PreparedMedia, credentials: Credentials) -> SignedBody:
    # The file may be renamed or deleted before it is sent, so it stays open until then.
    prepared.source.keep()
    return sign(prepared, credentials)


def _report(progress: Callable[[UploadProgress], None], prepared: PreparedMedia, sent: int) -> None:
    progress(UploadProgress(media=prepared.media, bytes_sent=sent, total_bytes=prepared.length))


def _awaitable(result: object) -> Awaitable[object]:
    if isawaitable(result):
        return result
    msg = f"on_uploaded must be an async function, but it returned {type_name(result)}: define it with async def."
    raise InvalidArgumentError(msg)
