"""HTTP of the control API: from a request to an operation and back.

Imported with the first request to the API: the table of operations needs classes that few sandboxes use.
"""

from __future__ import annotations

import os
import re
from contextlib import asynccontextmanager
from functools import cache
from inspect import isawaitable
from io import BytesIO
from pathlib import Path
from tempfile import mkstemp
from typing import TYPE_CHECKING, Final, cast

from aiohttp import web
from anyio import CancelScope, create_task_group, to_thread

from veriff_async._protocol.json.decode import load_object
from veriff_async.errors import DecodeError, InvalidArgumentError
from veriff_async.sandbox._control.access import API_PREFIX
from veriff_async.sandbox._control.errors import ControlError, dump_response, json_response
from veriff_async.sandbox._control.fields import Field, Flag, Number, read_object
from veriff_async.sandbox._control.openapi import OPENAPI_PATH, build_document
from veriff_async.sandbox._control.operation import Download
from veriff_async.sandbox._control.operations import find_operations, read_ids
from veriff_async.sandbox._control.shapes import to_plain
from veriff_async.sandbox._control.stream import EventStream, send_events
from veriff_async.sandbox._records import StoredMedia

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Awaitable, Iterable, Mapping

    from veriff_async.models.json import JsonObject
    from veriff_async.sandbox._control.operation import Context, Operation

__all__ = ("handle",)

_LONG_PAGE: Final = 100
_SMALL_FILE_BYTES: Final = 1024 * 1024
# Types that browsers show without running anything.
_SHOWN: Final = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif"})
_NUMBER: Final = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?", re.ASCII)
_JSON_TYPE: Final = re.compile(r"application/([a-z0-9.+-]+\+)?json", re.IGNORECASE)


async def handle(request: web.Request, context: Context) -> web.StreamResponse:
    """Carry out the operation that a request names."""
    path = request.match_info.get("path", "")
    if f"/{path}" == OPENAPI_PATH:
        if request.method != "GET":
            raise _wrong_method("GET")
        return json_response(await to_thread.run_sync(_dump_document))
    # A slash at the end is accepted, as by the endpoints of Veriff.
    segments = path.removesuffix("/").split("/")
    operation = _choose(find_operations(segments), request.method)
    values = _read_texts(operation.ids, read_ids(operation, segments))
    values |= _read_query(operation, request)
    if operation.upload is not None:
        return await _handle_upload(request, context, operation, values)
    if operation.takes_body:
        values |= read_object(operation.body, await _read_body(request))
    return await _respond(request, context, operation, values)


async def _handle_upload(
    request: web.Request, context: Context, operation: Operation, values: dict[str, object]
) -> web.StreamResponse:
    if request.content_type != operation.upload:
        raise ControlError(415, f"The body must be a file of another type: send Content-Type: {operation.upload}.")
    folder = context.service.media_folder
    if folder is None:
        raise ControlError(409, "The sandbox is stopping: send the request to one that runs.")
    async with _store_body(request, folder) as file:
        return await _respond(request, context, operation, {**values, "file": file})


async def _respond(
    request: web.Request, context: Context, operation: Operation, values: Mapping[str, object]
) -> web.StreamResponse:
    """Carry out an operation, and respond with its result."""
    try:
        result = operation.call(context, values)
        if isawaitable(result):
            result = await _wait_for(result, context.closing)
    except InvalidArgumentError as error:
        raise _name_field(error, values) from None
    if isinstance(result, StoredMedia):
        return await _file_response(result)
    if isinstance(result, Download):
        headers = {"Content-Disposition": f'attachment; filename="{result.name}"', "Cache-Control": "no-store"}
        # As a file, of which aiohttp writes a part at a time.
        return web.Response(body=BytesIO(result.body), content_type=result.media_type, headers=headers)
    if isinstance(result, EventStream):
        return await send_events(request, result, context.closing)
    # A page of a thousand sessions takes tens of milliseconds, in which other requests are answered.
    if cast("int", values.get("limit", 0)) > _LONG_PAGE:
        return json_response(await to_thread.run_sync(_dump_result, result))
    return json_response(_dump_result(result))


def _choose(operations: Mapping[str, Operation], method: str) -> Operation:
    if not operations:
        raise ControlError(404, f"The control API has no such path: {API_PREFIX}{OPENAPI_PATH} lists them.")
    if method not in operations:
        raise _wrong_method(", ".join(operations))
    return operations[method]


def _wrong_method(allowed: str) -> ControlError:
    return ControlError(405, f"This path does not have this method: send {allowed}.", headers={"Allow": allowed})


def _read_texts(fields: Iterable[Field], texts: Mapping[str, str]) -> dict[str, object]:
    """Read fields of a path; those without a type are texts."""
    values: dict[str, object] = dict(texts)
    for field in fields:
        values[field.name] = field.read(_from_text(field, texts[field.name]), field.name)
    return values


def _read_query(operation: Operation, request: web.Request) -> dict[str, object]:
    query = request.query
    for name in query:
        if len(query.getall(name)) > 1:
            raise ControlError(422, "The query has a field twice: send each field once.")
    known = {field.name: field for field in operation.query}
    given = {name: _from_text(known[name], text) if name in known else text for name, text in query.items()}
    return read_object(operation.query, given)


def _from_text(field: Field, text: str) -> object:
    """Return the value that a text of a URL stands for, if it is one of its field's type."""
    if isinstance(field.kind, Flag) and text in {"true", "false"}:
        return text == "true"
    if isinstance(field.kind, Number) and _NUMBER.fullmatch(text):
        return float(text) if "." in text else int(text)
    return text


async def _read_body(request: web.Request) -> JsonObject:
    body = await request.read()
    if not body.strip():
        return {}
    if not _JSON_TYPE.fullmatch(request.content_type):
        raise ControlError(415, "The body is not announced as JSON: send Content-Type: application/json.")
    try:
        return load_object(body)
    except DecodeError:
        pass
    raise ControlError(400, "The body is not a JSON object in UTF-8: correct it.")


async def _wait_for(result: Awaitable[object], closing: asyncio.Event) -> object:
    """Return the result, unless the sandbox stops before."""
    error: Exception = ControlError(503, "The sandbox is stopping: send the request to one that runs.")
    async with create_task_group() as tasks:
        tasks.start_soon(_cancel_at, closing, tasks.cancel_scope)
        try:
            return await result
        # Raised below: a task group would raise a group of errors.
        except Exception as raised:  # noqa: BLE001  of any operation
            error = raised
        finally:
            tasks.cancel_scope.cancel()
    raise error


async def _cancel_at(event: asyncio.Event, scope: CancelScope) -> None:
    await event.wait()
    scope.cancel()


def _name_field(error: InvalidArgumentError, values: Mapping[str, object]) -> Exception:
    """Return an error of an argument with the field that its message begins with."""
    if type(error) is not InvalidArgumentError:
        return error
    name = re.split(r"[ .\[]", str(error).removeprefix("SandboxOptions."), maxsplit=1)[0]
    return ControlError(422, str(error), field=name if name in values else None)


async def _file_response(stored: StoredMedia) -> web.StreamResponse:
    """Respond with a file of a session, which a stranger may have made."""
    disposition = "inline" if stored.mimetype in _SHOWN else "attachment"
    headers = {
        "Content-Type": stored.mimetype,
        "Content-Disposition": f'{disposition}; filename="{stored.id}"',
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, max-age=3600",
    }
    try:
        # A client that disconnects cancels this handler; `web.FileResponse` may then leave its file open.
        if stored.size <= _SMALL_FILE_BYTES:
            return web.Response(body=await to_thread.run_sync(stored.path.read_bytes), headers=headers)
        await to_thread.run_sync(stored.path.stat)
    except OSError:
        raise ControlError(404, "The file of this picture was removed from its folder: upload it again.") from None
    return web.FileResponse(stored.path, headers=headers)


@cache
def _dump_document() -> bytes:
    return dump_response(build_document())


def _dump_result(result: object) -> bytes:
    return dump_response(cast("JsonObject", to_plain(result)))


_CHUNK_BYTES: Final = 256 * 1024
# A snapshot of ten thousand sessions with three pictures of 60 kB each.
_MAX_BYTES: Final = 2 * 1024**3


@asynccontextmanager
async def _store_body(request: web.Request, folder: Path) -> AsyncGenerator[Path]:
    """Store the body in a file, while it arrives, so that memory does not grow with it; only the owner can read it.

    The file exists as long as the block runs.

    Raises:
        ControlError: The body is too large (413), or the disk does not take it (507).
    """
    try:
        # mkstemp makes files that only their owner can read.
        descriptor, name = await to_thread.run_sync(lambda: mkstemp(prefix="body-", dir=folder))
    except OSError:
        raise _full() from None
    try:
        try:
            size = 0
            async for chunk in request.content.iter_chunked(_CHUNK_BYTES):
                size += len(chunk)
                if size > _MAX_BYTES:
                    raise ControlError(413, "The body is larger than 2 GiB: send a smaller snapshot.")
                try:
                    await to_thread.run_sync(_write_all, descriptor, chunk)
                except OSError:
                    raise _full() from None
        finally:
            with CancelScope(shield=True):
                await to_thread.run_sync(os.close, descriptor)
        yield Path(name)
    finally:
        with CancelScope(shield=True):
            await to_thread.run_sync(lambda: Path(name).unlink(missing_ok=True))


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _full() -> ControlError:
    return ControlError(507, "The sandbox cannot store the body: check the media folder and the space on its disk.")
