"""Pictures of a form (multipart/form-data, RFC 7578), stored while they arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import uuid4

from aiohttp import BodyPartReader, web
from anyio import to_thread

from veriff_async._protocol.image_header import HEAD_SIZE, PDF, detect_type
from veriff_async._protocol.limits import MAX_IMAGE_BASE64
from veriff_async.sandbox._hosted.steps import PICTURES, SPECIMENS
from veriff_async.sandbox._specimens import specimen

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from veriff_async.sandbox._media_store import IncomingFile, MediaStore
    from veriff_async.sandbox._records import StoredMedia

__all__ = ("PictureForm",)

_CHUNK_BYTES: Final = 256 * 1024
# The API takes so many characters of base64, and four of them are three bytes.
_MAX_BYTES: Final = MAX_IMAGE_BASE64 // 4 * 3
_CONTEXTS: Final = frozenset(picture.context for picture in PICTURES)


class PictureForm:
    """The pictures of one form. Their files are removed at the end of the exit stack unless `keep` was called."""

    def __init__(self, store: MediaStore, files: AsyncExitStack) -> None:
        """Receive no picture yet."""
        self.pictures: dict[str, StoredMedia] = {}
        self.problems: dict[str, str] = {}
        self.wants_specimens = False
        self._store = store
        self._files = files
        self._incoming: list[IncomingFile] = []

    async def read(self, request: web.Request) -> None:
        """Read the form."""
        if request.content_type != "multipart/form-data":
            msg = "not a form with files"
            raise ValueError(msg)
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader):
                # A form inside of a form: https://www.rfc-editor.org/rfc/rfc7578#section-4.3 deprecates it.
                msg = "a nested form"
                raise ValueError(msg)  # noqa: TRY004  the body is wrong, not a type
            if part.name in _CONTEXTS and part.filename:
                await self._receive(part, part.name)
            else:
                self.wants_specimens |= part.name == "specimens"
                await part.release()

    async def add_specimens(self) -> None:
        """Add a specimen for each picture that the form lacks."""
        for context, name in SPECIMENS.items():
            if context not in self.pictures:
                incoming = await self._open()
                body = await to_thread.run_sync(_read_specimen, name)
                await incoming.write(body)
                await self._finish(incoming, context, body[:HEAD_SIZE])

    def keep(self) -> None:
        """Keep the files."""
        for incoming in self._incoming:
            incoming.keep()

    async def _receive(self, part: BodyPartReader, context: str) -> None:
        incoming, head, size = await self._open(), b"", 0
        while chunk := await part.read_chunk(_CHUNK_BYTES):
            size += len(chunk)
            head = (head + chunk)[:HEAD_SIZE] if len(head) < HEAD_SIZE else head
            # The rest of a file that is too large is read, so that the browser can show the response.
            if size <= _MAX_BYTES:
                await incoming.write(chunk)
        if not size:
            self.problems[context] = "This file is empty. Choose another one."
        elif size > _MAX_BYTES:
            self.problems[context] = "This file is larger than 18 MB. Choose a smaller one."
        elif detect_type(head) in {None, PDF}:
            self.problems[context] = "This file is not a picture that Veriff accepts: JPEG, PNG, WebP or HEIC."
        else:
            self.problems.pop(context, None)
            await self._finish(incoming, context, head)

    async def _open(self) -> IncomingFile:
        return await self._files.enter_async_context(self._store.incoming(str(uuid4())))

    async def _finish(self, incoming: IncomingFile, context: str, head: bytes) -> None:
        mimetype = detect_type(head) or "application/octet-stream"
        self.pictures[context] = await incoming.finish(context=context, mimetype=mimetype)
        self._incoming.append(incoming)


def _read_specimen(name: str) -> bytes:
    with specimen(name) as path:
        return path.read_bytes()
