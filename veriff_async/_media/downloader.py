"""The downloads of a client: streamed, verified while they arrive, and saved under names that the server cannot choose.

save ────► _save ──► AtomicFileWriter ◄── pieces ── Transport     the file appears when its signature is right
stream ──► MediaStream ◄── pieces ── Transport                    the caller gets pieces before that is known
"""

from __future__ import annotations

import os
import re
from collections import Counter
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self, TypeAlias, get_args

from anyio import Semaphore, to_thread
from attrs import evolve, frozen

from veriff_async._event_loop import current_caller, require_asyncio
from veriff_async._media.concurrency import gather_bounded
from veriff_async._media.file_writer import (
    AtomicFileWriter,
    IfExists,
    check_download_size,
    file_exists,
    incomplete_file,
    is_complete,
)
from veriff_async._protocol import endpoints
from veriff_async._protocol.arguments import check_choice, check_concurrency, check_function, check_path
from veriff_async._protocol.response import check_authenticity
from veriff_async._protocol.validation import check_id
from veriff_async._views import view_of
from veriff_async.errors import InvalidArgumentError, MediaExistsError, MediaNotSavedError, VeriffError
from veriff_async.models.media import DownloadedMedia, DownloadProgress, MediaFile

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from anyio import CapacityLimiter

    from veriff_async._http.attempt import OpenResponse
    from veriff_async._http.transport import Transport
    from veriff_async._media.worker_threads import WorkerThreads
    from veriff_async._protocol.call import Call
    from veriff_async.config import CallOptions

__all__ = ("CertificateFile", "Downloader", "IfExists", "MediaStream", "SaveOptions")

# The extension comes from the MIME type. A name that a server sends could hold a path, or end in .exe.
_EXTENSIONS: Final = {
    "image/jpeg": ".jpg",
    "image/jpg": ".jpg",
    "image/png": ".png",
    "image/webp": ".webp",
    "image/heic": ".heic",
    "image/heif": ".heif",
    "application/pdf": ".pdf",
    "application/json": ".json",
    "video/webm": ".webm",
    "video/mp4": ".mp4",
}
# Downloads of one call at once: a session has few files, and other sessions need permits too.
_CONCURRENCY: Final = 4

_WORD: Final = re.compile(r"[a-z0-9_-]{1,64}", re.ASCII)

# Names that lead to a device on Windows, with any extension
# (https://learn.microsoft.com/windows/win32/fileio/naming-a-file).
_DEVICE: Final = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9])", re.ASCII | re.IGNORECASE)


class CertificateFile(NamedTuple):
    """The three ids in the path of a certificate's document."""

    id: str
    session_id: str
    certificate_id: str


Downloadable: TypeAlias = MediaFile | CertificateFile | str


@frozen(kw_only=True)
class SaveOptions:
    """How one call saves files.

    Raises:
        InvalidArgumentError: A value is invalid.
    """

    if_exists: IfExists
    max_bytes: int
    progress: Callable[[DownloadProgress], None] | None

    def __attrs_post_init__(self) -> None:
        """Check the values before anything is sent."""
        check_choice("if_exists", self.if_exists, get_args(IfExists), error=InvalidArgumentError)
        check_function("progress", self.progress, takes=("a DownloadProgress",), error=InvalidArgumentError)
        _check_max_bytes(self.max_bytes)


class MediaStream:
    """An open download: iterate over its pieces.

    You get each piece as it arrives, before the signature of the whole file can be checked. Use the result only when
    the iteration has ended without an error.

    Attributes:
        media_id: Id of the media file.
        mimetype: MIME type as Veriff wrote it.
        size: Size in bytes, or ``None`` when Veriff does not state it.
    """

    media_id: str
    mimetype: str | None
    size: int | None

    def __init__(
        self, media_id: str, opened: OpenResponse, transport: Transport, *, verify: bool, max_bytes: int
    ) -> None:
        """Read from an open response; use `VeriffClient.stream_media` instead."""
        self.media_id = media_id
        # aiohttp returns a default type when the response has none.
        self.mimetype = opened.response.content_type if "Content-Type" in opened.headers else None
        self.size = opened.response.content_length
        self._opened = opened
        self._transport = transport
        self._verify = verify
        self._verifier = opened.request.credentials.verifier()
        self._ended = False
        self._received = 0
        self._max_bytes = max_bytes
        check_download_size(self.size, max_bytes)

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next piece.

        Raises:
            ResponseError: The signature of the whole file is wrong, or more than `max_bytes` arrived.
            RequestTimeoutError: No byte arrived for `Timeouts.idle`, the rate was too low, or the file took longer than
                `Timeouts.total`. Time that your own code takes between two pieces does not count.
            TransportError: The connection broke.
            ClientClosedError: The client was closed.
        """
        piece = b"" if self._ended else await self._transport.read_piece(self._opened)
        if piece:
            self._received += len(piece)
            check_download_size(self._received, self._max_bytes)
            self._verifier.update(piece)
            return piece
        if not self._ended:
            if self._verify:
                check_authenticity(evolve(self._opened, seen=self._verifier))
            self._transport.counters.downloads += 1
        self._ended = True
        raise StopAsyncIteration


class _Permits:
    """Limits how many downloads run at once.

    A stream keeps its permit while its block runs. Another download of the same caller takes no permit of its own: if
    it waited for one, and all were held by streams around it, the caller would wait for itself.
    """

    def __init__(self, count: int) -> None:
        self._semaphore = Semaphore(count, max_value=count, fast_acquire=True)
        self._streaming: Counter[object] = Counter()
        self.taken = 0

    @property
    def are_held(self) -> bool:
        """Whether the caller is in the block of a stream."""
        return bool(self._streaming[current_caller()])

    @asynccontextmanager
    async def take(self, *, is_stream: bool = False, is_nested: bool = False) -> AsyncGenerator[None]:
        """Hold a permit during a block.

        Args:
            is_stream: Whether the block runs the caller's own code.
            is_nested: Whether the caller of this task is in the block of a stream.
        """
        # Looked up here, because another task may leave the block than the one that entered it.
        caller = current_caller()
        async with nullcontext() if is_nested or self._streaming[caller] else self._semaphore:
            self._streaming[caller] += is_stream
            self.taken += 1
            try:
                yield
            finally:
                self.taken -= 1
                self._streaming[caller] -= is_stream
                if not self._streaming[caller]:
                    del self._streaming[caller]


class Downloader:
    """The downloads of one client: how many may run at once, and the worker threads they use."""

    def __init__(
        self,
        transport: Transport,
        *,
        max_downloads: int,
        threads: CapacityLimiter,
        writers: WorkerThreads,
        verify: bool,
    ) -> None:
        """Share what all downloads of a client use.

        Args:
            transport: Sends the calls of the client.
            max_downloads: Most downloads at once.
            threads: Bounds the threads that look at files.
            writers: The threads that write files.
            verify: Whether `MediaStream` checks signatures; the transport does so for `save`.
        """
        self._transport = transport
        self._permits = _Permits(max_downloads)
        self._threads = threads
        self._writers = writers
        self._verify = verify
        self._concurrency = _CONCURRENCY

    def with_options(self, transport: Transport, options: CallOptions) -> Downloader:
        """Return a downloader for a view, which shares threads and limits."""
        return view_of(self, _transport=transport, _concurrency=options.get("concurrency") or self._concurrency)

    @property
    def active(self) -> int:
        """How many downloads are running."""
        return self._permits.taken

    @asynccontextmanager
    async def stream(self, media: Downloadable, *, max_bytes: int) -> AsyncGenerator[MediaStream]:
        """Open a file and yield its pieces as they arrive; see `VeriffClient.stream_media`."""
        require_asyncio()
        media_id = _id_of(media)
        _check_max_bytes(max_bytes)
        async with self._permits.take(is_stream=True):
            opened = await self._transport.open(_call_of(media))
            error: BaseException | None = None
            try:
                yield MediaStream(media_id, opened, self._transport, verify=self._verify, max_bytes=max_bytes)
            except BaseException as raised:
                error = raised
                raise
            finally:
                self._transport.close(opened, error)

    async def save(
        self,
        media: Downloadable,
        target: str | os.PathLike[str],
        options: SaveOptions,
    ) -> DownloadedMedia:
        """Download one file; see `VeriffClient.download_media`."""
        require_asyncio()
        _id_of(media)
        path = check_path("target", target, error=InvalidArgumentError)
        folder, name = await to_thread.run_sync(_split_target, Path(path), _is_folder(path), limiter=self._threads)
        return await self._save(media, folder, name, options)

    async def save_all(
        self,
        session_id: str,
        folder: str | os.PathLike[str],
        options: SaveOptions,
        *,
        concurrency: int | None,
        all_attempts: bool,
    ) -> list[DownloadedMedia]:
        """Download the media of a session; see `VerificationSession.download_all`."""
        require_asyncio()
        if concurrency is not None:
            check_concurrency(concurrency)
        path = Path(check_path("folder", folder, error=InvalidArgumentError))
        files = await self._list_files(session_id, all_attempts=all_attempts)
        parent, _ = await to_thread.run_sync(_split_target, path, True, limiter=self._threads)  # noqa: FBT003
        is_nested = self._permits.are_held
        jobs = [partial(self._save, file, parent, None, options, is_nested=is_nested) for file in files]
        downloaded, failure = await gather_bounded(jobs, concurrency=concurrency or self._concurrency)
        if isinstance(failure, VeriffError):
            failure.downloaded = tuple(downloaded)
        if failure is not None:
            raise failure
        return downloaded

    async def _list_files(self, session_id: str, *, all_attempts: bool) -> list[MediaFile]:
        lists = [await self._transport.send(endpoints.session_media(session_id))]
        if all_attempts:
            lists += [
                await self._transport.send(endpoints.attempt_media(attempt.id))
                for attempt in await self._transport.send(endpoints.attempts(session_id))
            ]
        # Each file once, in the order of its first appearance: the newest attempt is in both lists.
        return list({file.id: file for media in lists for file in media.all}.values())

    async def _save(
        self, media: Downloadable, folder: Path, name: str | None, options: SaveOptions, *, is_nested: bool = False
    ) -> DownloadedMedia:
        try:
            return await self._download(media, folder, name, options, is_nested=is_nested)
        except MediaExistsError as error:
            if name is None and error.path is not None:  # the caller does not know which name this file got
                error.args = (f"{error.path.name}: {error}",)
            raise

    async def _download(
        self, media: Downloadable, folder: Path, name: str | None, options: SaveOptions, *, is_nested: bool
    ) -> DownloadedMedia:
        media_id, if_exists = _id_of(media), options.if_exists

        def on_bytes_received(received: int, total: int | None) -> None:
            if options.progress is not None:
                options.progress(DownloadProgress(media_id=media_id, bytes_received=received, total_bytes=total))

        # An entry of a media list states type and size, so an existing file can be judged without a request.
        expected_name = name
        if name is None and isinstance(media, MediaFile) and media.mimetype:
            expected_name = _file_name(media, media.mimetype)
        if expected_name is not None:
            path = folder / expected_name
            if if_exists == "error" and await to_thread.run_sync(os.path.lexists, path, limiter=self._threads):
                raise file_exists(path)
            size = media.size if isinstance(media, MediaFile) else None
            if if_exists == "skip" and size is not None and await self._is_complete(path, size):
                mimetype = media.mimetype if isinstance(media, MediaFile) else None
                return DownloadedMedia(media_id=media_id, path=path, size=size, mimetype=mimetype, skipped=True)
        writer = AtomicFileWriter(
            lambda mimetype: folder / (name or _file_name(media, mimetype)),
            if_exists=if_exists,
            max_bytes=options.max_bytes,
            threads=self._writers,
            on_bytes_received=on_bytes_received,
        )
        with self._transport.guard():
            async with self._permits.take(is_nested=is_nested):
                try:
                    await self._transport.download(_call_of(media), writer)
                    await writer.commit()
                    self._transport.counters.downloads += 1
                except MediaExistsError:
                    if if_exists != "skip":
                        raise
                    path, size = writer.path or folder, writer.size if writer.total is None else writer.total
                    if not await self._is_complete(path, size):
                        raise incomplete_file(path) from None
                    return DownloadedMedia(
                        media_id=media_id, path=path, size=size, mimetype=writer.mimetype, skipped=True
                    )
                finally:
                    await writer.aclose()
        path = writer.path or folder
        return DownloadedMedia(media_id=media_id, path=path, size=writer.size, mimetype=writer.mimetype)

    async def _is_complete(self, path: Path, size: int) -> bool:
        return await to_thread.run_sync(is_complete, path, size, limiter=self._threads)


def _check_max_bytes(max_bytes: int) -> None:
    if type(max_bytes) is not int or max_bytes < 1:
        msg = "max_bytes must be a number of bytes, 1 or more."
        raise InvalidArgumentError(msg)


def _id_of(media: Downloadable) -> str:
    return check_id("media_id", media.id if isinstance(media, MediaFile | CertificateFile) else media)


def _call_of(media: Downloadable) -> Call[None]:
    """Return the call that downloads a media file, or a document of a certificate."""
    if isinstance(media, CertificateFile):
        return endpoints.download_certificate_file(media.session_id, media.certificate_id, media.id)
    return endpoints.download_media(media.id if isinstance(media, MediaFile) else media)


def _file_name(media: Downloadable, mimetype: str | None) -> str:
    """Return the name of the saved file: its context if that is a plain word, its id, and an extension for its type."""
    context = media.context if isinstance(media, MediaFile) else None
    prefix = f"{context}-" if context is not None and _WORD.fullmatch(context) else ""
    if not prefix and _DEVICE.fullmatch(_id_of(media)):
        prefix = "media-"
    return f"{prefix}{_id_of(media)}{_EXTENSIONS.get(mimetype or '', '.bin')}"


def _is_folder(target: str) -> bool:
    return target.endswith(("/", os.sep))


def _split_target(target: Path, is_folder: bool) -> tuple[Path, str | None]:  # noqa: FBT001
    """Return folder and file name of a target; create the folder if `is_folder`. Blocking."""
    try:
        if is_folder:
            target.mkdir(mode=0o700, parents=True, exist_ok=True)
        if target.is_dir():
            return target, None
    except OSError as error:
        problem = error.strerror or type(error).__name__
    else:
        return target.parent, target.name
    msg = f"The folder cannot be created ({problem}): pass a folder that can be written to."
    raise MediaNotSavedError(msg)
