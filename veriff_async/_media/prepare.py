"""Media before anything is sent: every check that needs no server, made once for each call.

    Media ──► check_arguments ──► inspect ────────────► convert ──► PreparedMedia
                                     │ read only once        ▲
                                     └──► spool ──► inspect ─┘

`inspect` reads the size and the first bytes of a source that can be read again. A stream that can be read only once
must be spooled before it can be checked. `VeriffClient.verify` and `submit` do so before they create a session, because
a session cannot be undone. `VerificationSession.upload` spools while other media are being sent, because a slow stream
must not delay them.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from contextlib import closing, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, cast

from anyio import CapacityLimiter
from attrs import define, evolve, field

from veriff_async._media.blocking_source import run_abandonable
from veriff_async._media.concurrency import gather_bounded
from veriff_async._media.convert import convert
from veriff_async._media.decode import import_pillow
from veriff_async._media.decoder_threads import run_decoder
from veriff_async._media.prepared_media import PreparedMedia
from veriff_async._media.source import PIECE, SMALL, BytesSource, SourceOpener, is_async, may_block, seeks_async
from veriff_async._media.spool import spool, spool_bytes
from veriff_async._media.stream_body import sign
from veriff_async._protocol.image_header import HEAD_SIZE, ImageSizeWarning, read_dimensions
from veriff_async._protocol.media_rules import (
    check_conversion,
    check_size,
    check_stated,
    context_of,
    is_sent_as_it_is,
    may_convert,
    reference_to,
    type_of,
)
from veriff_async._protocol.upload_body import image_body_template
from veriff_async._views import view_of
from veriff_async.errors import InvalidArgumentError, MediaQualityError, MediaSourceError, VeriffError
from veriff_async.models.media import Media

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from types import TracebackType

    from veriff_async._media.source import Reader, Source
    from veriff_async._media.stream_body import SignedBody, StreamSigner
    from veriff_async._media.worker_threads import WorkerThreads
    from veriff_async._protocol.picture_thresholds import InspectionThresholds
    from veriff_async.config import CallOptions
    from veriff_async.credentials import Credentials
    from veriff_async.models.inspection import FaceDetector, MediaInspection

__all__ = (
    "PendingUpload",
    "Preparer",
    "check_arguments",
    "error_context",
    "inspect",
    "issue_warnings",
    "open_and_inspect",
)

# Bytes that one call signs before it sends the first: they take a few milliseconds.
_MAX_SIGNED: Final = 4 * 1024 * 1024


class _AsyncFile(Protocol):
    async def seek(self, offset: int, /) -> object: ...
    async def tell(self) -> int: ...


@define
class PendingUpload:
    """One media of a call, and how far its upload has come: given, prepared, signed.

    Attributes:
        index: Its index among the media of the call, for errors and callbacks.
        media: The media as the caller gave it.
        prepared: The checked media, or ``None`` for a stream that is still to be spooled.
        signed: The signed body, if it was made while the bytes were read for another reason.
        inspection: The checks of the picture, if `Media.quality` asks for them.
    """

    index: int
    media: Media
    prepared: PreparedMedia | None = None
    signed: SignedBody | None = field(default=None, repr=False)
    inspection: MediaInspection | None = field(default=None, repr=False)

    def close(self) -> None:
        """Delete the temporary file, or free the memory that holds the bytes."""
        if self.prepared is not None:
            self.prepared.source.close()


class Preparer:
    """Prepares the media of one client.

    Attributes:
        workers: The threads that read, inspect and sign files.
        hashing: Bounds the threads that sign large files. Signing keeps a processor busy, so more threads than
            processors would only compete for it.
        opener: Opens all sources of the client.
    """

    def __init__(  # noqa: PLR0913  keyword-only
        self,
        *,
        threads: CapacityLimiter,
        workers: WorkerThreads,
        writers: WorkerThreads | None = None,
        idle: float,
        thresholds: InspectionThresholds | None = None,
        face_detector: FaceDetector | None = None,
    ) -> None:
        """Share worker threads.

        Args:
            threads: Bounds the threads of anyio that spool streams.
            workers: The threads that read, inspect and sign files. The owner closes them.
            writers: The threads that write temporary files, by default `workers`. The owner closes them.
            idle: Most seconds that a stream may take for its next piece.
            thresholds: See `inspect_media`; for media with `Media.quality`.
            face_detector: See `inspect_media`.
        """
        self._threads = threads
        self.workers: WorkerThreads = workers
        self.opener: SourceOpener = SourceOpener()
        self._writers = writers or workers
        self._idle = idle
        self._thresholds = thresholds
        self._face_detector = face_detector
        self.hashing: CapacityLimiter = CapacityLimiter(max(2, os.cpu_count() or 2))

    def with_options(self, options: CallOptions) -> Preparer:
        """Return a preparer for a view, which shares threads and memory."""
        timeouts = options.get("timeouts")
        return view_of(
            self,
            _idle=self._idle if timeouts is None else timeouts.idle,
            _thresholds=options.get("thresholds") or self._thresholds,
            _face_detector=options.get("face_detector") or self._face_detector,
        )

    async def prepare(
        self,
        media: Iterable[Media],
        *,
        stacklevel: int,
        credentials: Credentials | None = None,
        signer_for: Callable[[Media], StreamSigner] | None = None,
    ) -> list[PendingUpload]:
        """Check all media, before a byte of any is sent.

        Args:
            media: The media of one call.
            stacklevel: Frames from here to the caller whom a warning is about.
            credentials: Sign small files, which are read anyway, or ``None`` if nothing will be sent.
            signer_for: Makes the signer of a stream. With it, streams are spooled and checked too. Without it, only
                those that can seek back are.

        Returns:
            One upload for each media; the caller closes them.

        Raises:
            MediaError: A media cannot be uploaded.
            InvalidArgumentError: An argument is invalid.
        """
        uploads = await self._inspect(check_arguments(media), credentials)
        # One more frame than here, because `complete` issues the warnings.
        await self.complete(uploads, stacklevel=stacklevel + 1, signer_for=signer_for)
        return uploads

    async def open(self, media: Media) -> PendingUpload:
        """Check one media as it is, without resizing it.

        Args:
            media: The media. A source with an async ``seek`` is copied, and its position restored.

        Returns:
            The upload; the caller closes it. It is not prepared if the source can be read only once.

        Raises:
            MediaError: The media cannot be uploaded.
            InvalidArgumentError: An argument is invalid.
        """
        (upload,) = await self._inspect([media], None)
        if upload.prepared is None and seeks_async(media.source):
            upload = PendingUpload(0, evolve(media, convert=None, max_bytes=None, max_side=None, quality=None))
            await self._spool_and_rewind(upload, None)
        return upload

    async def complete(
        self,
        uploads: Sequence[PendingUpload],
        *,
        stacklevel: int,
        signer_for: Callable[[Media], StreamSigner] | None = None,
    ) -> None:
        """Spool and convert the media that were only inspected; close all of them if that fails.

        Args:
            uploads: The uploads of one call.
            stacklevel: See `prepare`.
            signer_for: See `prepare`.

        Raises:
            MediaError: A media cannot be uploaded.
        """
        try:
            await self._spool_and_convert(uploads, signer_for)
        except BaseException:
            # Temporary files of media that were complete before another one failed.
            _close_all(uploads)
            raise
        issue_warnings(uploads, stacklevel=stacklevel + 1)

    async def spool(self, upload: PendingUpload, signer: StreamSigner | None) -> PreparedMedia:
        """Read a stream that can be read only once, and check it."""
        with error_context(upload.index, upload.media):
            prepared = await spool(
                upload.media,
                inspect=inspect,
                threads=self._threads,
                writers=self._writers,
                idle=self._idle,
                signer=signer,
            )
        upload.prepared = prepared
        upload.signed = None if signer is None else signer.finish(prepared)
        return await self._check_and_convert(upload, prepared)

    async def _inspect(self, media: Sequence[Media], credentials: Credentials | None) -> list[PendingUpload]:
        # Bytes and async streams need no thread, and files use one of the shared threads. An object of an unknown class
        # may block forever, so the whole call gets a thread that can be abandoned. One thread for all: the first wrong
        # media is the one that is reported.
        needs_thread = needs_own_thread = False
        for item in media:
            if not (isinstance(item.source, bytes) or is_async(item.source)) or needs_decoding(item):
                needs_thread = True
                needs_own_thread = needs_own_thread or may_block(item.source)
        done: list[PendingUpload] = []
        inspect_all = partial(_inspect_all, media, self.opener, credentials if needs_thread else None, done)
        if not needs_thread:
            inspect_all()
            return done
        try:
            await (run_abandonable(inspect_all, idle=self._idle) if needs_own_thread else self.workers.run(inspect_all))
        except BaseException as error:
            _close_all(done)
            if not isinstance(error, MediaSourceError):
                raise
            # The thread adds the media to its own errors. If it hangs, it does so at the first media that is not done.
            with error_context(len(done), media[len(done)]):
                raise
        return done

    async def _spool_and_convert(
        self, uploads: Sequence[PendingUpload], signer_for: Callable[[Media], StreamSigner] | None
    ) -> None:
        jobs: list[Callable[[], Awaitable[object]]] = []
        for upload in uploads:
            if upload.prepared is not None:
                if needs_decoding(upload.media):
                    jobs.append(partial(self._check_and_convert, upload, upload.prepared))
                continue
            rewinds = seeks_async(upload.media.source)
            if rewinds or signer_for is not None:
                spool = self._spool_and_rewind if rewinds else self.spool
                jobs.append(partial(spool, upload, None if signer_for is None else signer_for(upload.media)))
        if jobs:
            _, failure = await gather_bounded(jobs, concurrency=len(jobs))
            if failure is not None:
                raise failure

    async def _spool_and_rewind(self, upload: PendingUpload, signer: StreamSigner | None) -> PreparedMedia:
        """Spool a source with an async ``seek``, and restore its position."""
        source = cast("_AsyncFile", upload.media.source)
        start = await source.tell() if hasattr(source, "tell") else 0
        try:
            return await self.spool(upload, signer)
        finally:
            with suppress(Exception):
                await source.seek(start)

    async def _check_and_convert(self, upload: PendingUpload, prepared: PreparedMedia) -> PreparedMedia:
        if upload.media.quality is not None:
            with error_context(upload.index, upload.media):
                upload.inspection = await self._inspect_quality(prepared)
        if is_sent_as_it_is(upload.media, prepared.mimetype, prepared.source.size, prepared.dimensions):
            return prepared
        with error_context(upload.index, upload.media):
            converted = await run_decoder(_convert, prepared, idle=self._idle)
            if converted is None:
                return prepared
            # Like a stream: a small picture stays in memory, a larger one goes to a temporary file.
            source: Source = converted.source
            if isinstance(source, BytesSource) and source.size > SMALL:
                source = await spool_bytes(bytes(source.view), self._writers)
        upload.prepared, upload.signed = evolve(converted, source=source), None
        prepared.source.close()
        return upload.prepared

    async def _inspect_quality(self, prepared: PreparedMedia) -> MediaInspection:
        # Imported here, so that programs that inspect nothing do not load it.
        from veriff_async._media.inspection import inspect_prepared
        from veriff_async._protocol.picture_verdicts import describe_failures

        inspection = await inspect_prepared(prepared, self._thresholds, self._face_detector, idle=self._idle)
        if prepared.media.quality == "refuse" and inspection.failed:
            msg = f"{describe_failures(inspection)}: show the hints of the error's inspection, and take a new picture."
            error = MediaQualityError(msg)
            error.inspection = inspection
            raise error
        return inspection


def needs_decoding(media: Media) -> bool:
    """Return whether a picture must be decoded before it is sent, to convert it or to check its quality."""
    return media.quality is not None or may_convert(media)


def issue_warnings(uploads: Iterable[PendingUpload], *, stacklevel: int) -> None:
    """Issue the warnings about media that are uploaded all the same."""
    for upload in uploads:
        if upload.prepared is not None and upload.prepared.size_warning is not None:
            warnings.warn(upload.prepared.size_warning, ImageSizeWarning, stacklevel=stacklevel)
        if upload.inspection is not None and upload.inspection.failed:
            from veriff_async._protocol.picture_verdicts import MediaQualityWarning, describe_failures

            msg = f"{describe_failures(upload.inspection)}, and is uploaded all the same: see inspect_media for hints."
            warnings.warn(msg, MediaQualityWarning, stacklevel=stacklevel)


def _close_all(uploads: Iterable[PendingUpload]) -> None:
    for upload in uploads:
        upload.close()


def _inspect_all(
    media: Sequence[Media], opener: SourceOpener, credentials: Credentials | None, done: list[PendingUpload]
) -> None:
    """Inspect all media of a call, and sign those that were read into memory. Blocking.

    They are signed here because this thread runs anyway: their upload then needs no other thread.

    Args:
        media: The media of one call.
        opener: Opens their sources.
        credentials: The credentials to sign with, or ``None`` to sign nothing.
        done: Receives each upload when it is done.
    """
    # Before any file is read, so that a missing extra is reported even if a file is wrong too.
    for name in ("convert", "max_bytes", "max_side", "quality"):
        if any(getattr(item, name) is not None for item in media):
            import_pillow(name)
    left = _MAX_SIGNED
    for index, item in enumerate(media):
        with error_context(index, item):
            upload = PendingUpload(index, item)
            if (prepared := open_and_inspect(item, opener)) is not None:
                upload.prepared, size = prepared, prepared.source.size
                if credentials is not None and prepared.is_held and size <= left and not may_convert(item):
                    upload.signed = sign(prepared, credentials)
                    left -= size
        done.append(upload)


def open_and_inspect(media: Media, opener: SourceOpener) -> PreparedMedia | None:
    """Open the source of a media and inspect it, or return ``None`` for a stream that must be spooled. Blocking.

    Raises:
        MediaError: The media cannot be uploaded.
        InvalidArgumentError: An argument is invalid.
    """
    if (source := opener.open(media.source)) is None:
        return None
    try:
        return inspect(media, source)
    except BaseException:
        source.close()
        raise


def inspect(media: Media, source: Source, *, is_converted: bool = False) -> PreparedMedia:
    """Read the size and the first bytes of a media, and check every rule that needs no more. Blocking.

    Args:
        media: The media.
        source: Its bytes.
        is_converted: Whether these are the bytes of the converted picture, whose type may differ from the stated one.

    Raises:
        MediaUnsupportedError: Veriff does not accept its type, or it is not the type that was stated.
        MediaTooLargeError: It is larger than Veriff accepts.
        InvalidArgumentError: Its context or timestamp is invalid.
        MediaError: It cannot be read.
    """
    context = context_of(media)
    converts = not is_converted and may_convert(media)
    with closing(source.open()) as reader:
        read_at = partial(_slice, source.view) if isinstance(source, BytesSource) else _ForwardReader(reader).read_at
        mimetype = type_of(read_at(0, HEAD_SIZE), converts=media.convert is not None)
        check_size(mimetype, source.size, converted=converts)
        pixels = read_dimensions(mimetype, read_at)
    if not is_converted:
        check_stated(media, mimetype)
    if converts and is_sent_as_it_is(media, mimetype, source.size, pixels):
        check_size(mimetype, source.size)
    return PreparedMedia(media, source, image_body_template(context, mimetype, media.timestamp), mimetype, pixels)


def _convert(prepared: PreparedMedia) -> PreparedMedia | None:
    content = convert(prepared.source, prepared.mimetype, prepared.dimensions, prepared.media)
    if content is None:
        return None
    return inspect(prepared.media, BytesSource(memoryview(content), constant=True), is_converted=True)


def _slice(view: memoryview, offset: int, count: int) -> bytes:
    return bytes(view[offset : offset + count])


class _ForwardReader:
    """Reads at rising offsets from a reader that cannot go back."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._window = b""
        self._start = 0

    def read_at(self, offset: int, count: int) -> bytes:
        """Return the bytes at an offset; those before it cannot be read any more."""
        skip = min(offset - self._start, len(self._window))
        self._window, self._start = self._window[max(0, skip) :], self._start + max(0, skip)
        if offset > self._start and not self._window:
            self._reader.skip(offset - self._start)
            self._start = offset
        while offset == self._start and len(self._window) < count:
            piece = self._read(min(max(HEAD_SIZE, count - len(self._window)), PIECE))
            self._window += piece
            if not piece:
                break
        return self._window[:count] if offset == self._start else b""

    def _read(self, count: int) -> bytes:
        buffer = memoryview(bytearray(count))
        return bytes(buffer[: self._reader.fill(buffer)])


class error_context:  # noqa: N801  used as a function; a generator would take five times as long, for each upload
    """Add the media to every `VeriffError` that leaves the block."""

    __slots__ = ("_index", "_media")

    def __init__(self, index: int, media: Media) -> None:
        """Take a media and its index in the call."""
        self._index = index
        self._media = media

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Add the media to the error, unless it has one."""
        if isinstance(error, VeriffError) and error.media is None:
            error.media = reference_to(self._index, self._media)


def check_arguments(media: Iterable[Media]) -> tuple[Media, ...]:
    """Check the arguments of the media of one call, without reading any.

    Raises:
        InvalidArgumentError: No media was passed, or an argument of one is invalid.
    """
    given: object = media
    if isinstance(given, Media | str | bytes) or not isinstance(given, Iterable):
        msg = 'media must be a list, for example [Media("front.jpg", "document-front")].'
        raise InvalidArgumentError(msg)
    items = tuple(media)
    if not items:
        msg = "There is nothing to upload: pass at least one Media."
        raise InvalidArgumentError(msg)
    for item in cast("tuple[object, ...]", items):
        if not isinstance(item, Media):
            msg = 'upload takes Media, for example Media("front.jpg", "document-front").'
            raise InvalidArgumentError(msg)
    # Compared by identity: sources may define equality as they like. Paths and bytes may come twice.
    streams: set[int] = set()
    for item in items:
        check_conversion(item)
        if item.quality not in (None, "warn", "refuse"):
            msg = 'quality must be "warn" or "refuse", or None to check nothing.'
            raise InvalidArgumentError(msg)
        if not hasattr(item.source, "read") and not hasattr(item.source, "__aiter__"):
            continue
        if id(item.source) in streams:
            msg = "The same open file or stream is passed twice, but only one upload can read it: open it twice."
            raise InvalidArgumentError(msg)
        streams.add(id(item.source))
    return items
