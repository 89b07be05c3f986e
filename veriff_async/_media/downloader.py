"""Media on their way down: streamed, verified while they stream, and never named by the server."""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeAlias, get_args

from anyio import CapacityLimiter, Semaphore, to_thread
from attrs import evolve, frozen

from veriff_async._event_loop import require_asyncio
from veriff_async._media.concurrency import gather_bounded
from veriff_async._media.file_writer import (
    AtomicFileWriter,
    IfExists,
    already_there,
    check_download_size,
    incomplete_file,
    is_complete,
)
from veriff_async._protocol.arguments import check_choice, check_concurrency, check_function, check_path
from veriff_async._protocol.response import check_origin
from veriff_async._protocol.validation import check_id
from veriff_async.errors import InvalidArgumentError, MediaExistsError, MediaNotSavedError, VeriffError
from veriff_async.models.certificate import CertificateFile
from veriff_async.models.media import DownloadedMedia, DownloadProgress, MediaFile

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from veriff_async._http.api import Api
    from veriff_async._http.transport import Opened

    Downloadable: TypeAlias = MediaFile | CertificateFile | str

__all__ = ("Downloader", "IfExists", "MediaStream", "SaveOptions")

# The ending is not told by Veriff, and is never taken from a name that it sends.
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
_WORD: Final = re.compile(r"[a-z0-9_-]{1,64}", re.ASCII)


@frozen(kw_only=True)
class SaveOptions:
    """How one call saves files.

    Raises:
        InvalidArgumentError: A value cannot be right.
    """

    if_exists: IfExists
    max_bytes: int
    progress: Callable[[DownloadProgress], None] | None

    def __attrs_post_init__(self) -> None:
        """Check the values before anything is sent."""
        check_choice("if_exists", self.if_exists, get_args(IfExists), error=InvalidArgumentError)
        check_function("progress", self.progress, error=InvalidArgumentError)
        _check_max_bytes(self.max_bytes)


class MediaStream:
    """A media file on its way: iterate over its pieces.

    Pieces are handed on as they come, before the signature over all of them can be checked: what you have made of them
    counts only when the iteration has ended without an error.

    Attributes:
        media_id: Which one.
        mimetype: MIME type as Veriff wrote it.
        size: Size in bytes, when Veriff told it.
    """

    def __init__(self, media_id: str, opened: Opened, api: Api, *, verify: bool, max_bytes: int) -> None:
        """Take over a file that was opened; use `VeriffClient.stream_media` instead."""
        self.media_id = media_id
        # aiohttp would name a type where the response has none.
        self.mimetype: str | None = opened.response.content_type if "Content-Type" in opened.headers else None
        self.size: int | None = opened.response.content_length
        self._opened = opened
        self._api = api
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
            ResponseError: All pieces are here, and they are not what was signed; or more than `max_bytes` arrived.
            RequestTimeoutError: The file stalled, came too slowly, or took longer than `Timeouts.total`; time between
                two pieces that your own code takes does not count.
            TransportError: The connection broke.
            ClientClosedError: The client was closed.
        """
        piece = b"" if self._ended else await self._api.next_piece(self._opened)
        if piece:
            self._received += len(piece)
            check_download_size(self._received, self._max_bytes)
            self._verifier.update(piece)
            return piece
        if not self._ended and self._verify:
            check_origin(evolve(self._opened, seen=self._verifier))
        self._ended = True
        raise StopAsyncIteration


class _Slots:
    """How many downloads may run at once.

    A stream keeps its slot for as long as its block runs. Another download in the same task takes no slot meanwhile: if
    it waited for one, and all were held by streams around it, the task would wait for itself.
    """

    def __init__(self, count: int) -> None:
        self._free = Semaphore(count, max_value=count, fast_acquire=True)
        self._streaming: Counter[asyncio.Task[object] | None] = Counter()
        self.taken = 0

    @asynccontextmanager
    async def take(self, *, keep: bool = False) -> AsyncGenerator[None]:
        """Hold a slot during a block; with `keep`, for a stream whose block runs the caller's own code."""
        # The task is looked up once: a block may be left by another task than the one that entered it.
        task = asyncio.current_task()
        async with nullcontext() if self._streaming[task] else self._free:
            self._streaming[task] += keep
            self.taken += 1
            try:
                yield
            finally:
                self.taken -= 1
                self._streaming[task] -= keep
                if not self._streaming[task]:
                    del self._streaming[task]


class Downloader:
    """The downloads of one client: how many may run at once, and the worker threads they use."""

    def __init__(self, api: Api, *, max_downloads: int, threads: CapacityLimiter, verify: bool) -> None:
        """Take the calls to use, and how many downloads the client may run at once."""
        self._api = api
        self._slots = _Slots(max_downloads)
        self._threads = threads
        # Checking keeps a processor busy: more threads than processors would only take turns.
        self._checking = CapacityLimiter(max(2, os.cpu_count() or 2))
        self._verify = verify

    @property
    def active(self) -> int:
        """How many downloads hold a permit."""
        return self._slots.taken

    @asynccontextmanager
    async def stream(self, media: Downloadable, *, max_bytes: int) -> AsyncGenerator[MediaStream]:
        """Hand a file on piece by piece; see `VeriffClient.stream_media`."""
        require_asyncio()
        media_id = _id_of(media)
        _check_max_bytes(max_bytes)
        async with self._slots.take(keep=True):
            opened = await self._api.open_media(_remote(media))
            try:
                yield MediaStream(media_id, opened, self._api, verify=self._verify, max_bytes=max_bytes)
            finally:
                opened.response.close()

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
        folder, name = await to_thread.run_sync(_place, Path(path), _is_folder(path), limiter=self._threads)
        return await self._save(media, folder, name, options)

    async def save_all(
        self,
        session_id: str,
        folder: str | os.PathLike[str],
        options: SaveOptions,
        *,
        concurrency: int,
        all_attempts: bool,
    ) -> list[DownloadedMedia]:
        """Download the media of a session; see `VerificationSession.download_all`."""
        require_asyncio()
        check_concurrency(concurrency)
        path = Path(check_path("folder", folder, error=InvalidArgumentError))
        files = await self._files(session_id, all_attempts=all_attempts)
        place, _ = await to_thread.run_sync(_place, path, True, limiter=self._threads)  # noqa: FBT003
        jobs = [partial(self._save, file, place, None, options) for file in files]
        downloaded, failure = await gather_bounded(jobs, concurrency=concurrency)
        if isinstance(failure, VeriffError):
            failure.downloaded = tuple(downloaded)
        if failure is not None:
            raise failure
        return downloaded

    async def _files(self, session_id: str, *, all_attempts: bool) -> list[MediaFile]:
        lists = [await self._api.session_media(session_id)]
        if all_attempts:
            lists += [await self._api.attempt_media(attempt.id) for attempt in await self._api.attempts(session_id)]
        return list({file.id: file for found in lists for file in found.all}.values())

    async def _save(self, media: Downloadable, folder: Path, name: str | None, options: SaveOptions) -> DownloadedMedia:
        try:
            return await self._fetch(media, folder, name, options)
        except MediaExistsError as error:
            if name is None and error.path is not None:
                error.args = (f"{error.path.name}: {error}",)
            raise

    async def _fetch(
        self, media: Downloadable, folder: Path, name: str | None, options: SaveOptions
    ) -> DownloadedMedia:
        media_id, if_exists = _id_of(media), options.if_exists

        def moved(received: int, total: int | None) -> None:
            if options.progress is not None:
                options.progress(DownloadProgress(media_id=media_id, bytes_received=received, total_bytes=total))

        known = name or (_name_of(media, media.mimetype) if isinstance(media, MediaFile) and media.mimetype else None)
        announced = media.size if isinstance(media, MediaFile) else None
        if known is not None:
            path = folder / known
            if if_exists == "error" and await to_thread.run_sync(os.path.lexists, path, limiter=self._threads):
                raise already_there(path)
            # The list of media names the size, so a finished file needs no request.
            if if_exists == "skip" and announced is not None and await self._is_complete(path, announced):
                mimetype = media.mimetype if isinstance(media, MediaFile) else None
                return DownloadedMedia(media_id=media_id, path=path, size=announced, mimetype=mimetype, skipped=True)
        sink = AtomicFileWriter(
            lambda mimetype: folder / (name or _name_of(media, mimetype)),
            if_exists=if_exists,
            max_bytes=options.max_bytes,
            threads=self._checking,
            moved=moved,
        )
        async with self._api.guard(), self._slots.take():
            try:
                await self._api.download_media(_remote(media), sink)
                await sink.keep()
            except MediaExistsError:
                path, size = sink.path or folder, sink.size if sink.total is None else sink.total
                if if_exists != "skip":
                    raise
                if not await self._is_complete(path, size):
                    raise incomplete_file(path) from None
                return DownloadedMedia(media_id=media_id, path=path, size=size, mimetype=sink.mimetype, skipped=True)
            finally:
                await sink.aclose()
        path = sink.path or folder
        return DownloadedMedia(media_id=media_id, path=path, size=sink.size, mimetype=sink.mimetype)

    async def _is_complete(self, path: Path, size: int) -> bool:
        return await to_thread.run_sync(is_complete, path, size, limiter=self._threads)


def _check_max_bytes(max_bytes: int) -> None:
    if type(max_bytes) is not int or max_bytes < 1:
        msg = "max_bytes must be a number of bytes, 1 or more."
        raise InvalidArgumentError(msg)


def _id_of(media: Downloadable) -> str:
    return check_id("media_id", media.id if isinstance(media, MediaFile | CertificateFile) else media)


def _remote(media: Downloadable) -> str | CertificateFile:
    """Return what the API names a file by: the id of a media file, or a document with its certificate."""
    return media.id if isinstance(media, MediaFile) else media


def _name_of(media: Downloadable, mimetype: str | None) -> str:
    """Return a name that Veriff has no say in: what it shows, if that is a plain word, its id, its type's ending."""
    context = media.context if isinstance(media, MediaFile) else None
    shows = f"{context}-" if context is not None and _WORD.fullmatch(context) else ""
    return f"{shows}{_id_of(media)}{_EXTENSIONS.get(mimetype or '', '.bin')}"


def _is_folder(target: str) -> bool:
    return target.endswith(("/", os.sep))


def _place(target: Path, is_folder: bool) -> tuple[Path, str | None]:  # noqa: FBT001
    """Return folder and name of a target; a folder that is named as such is made."""
    try:
        if is_folder:
            target.mkdir(mode=0o700, parents=True, exist_ok=True)
        if target.is_dir():
            return target, None
    except OSError as error:
        problem = error.strerror or type(error).__name__
    else:
        return target.parent, target.name
    msg = f"The folder cannot be made ({problem}): give one that can be written to."
    raise MediaNotSavedError(msg)
