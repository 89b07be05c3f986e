"""The timeline as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

Each event is an entry of the timeline as JSON, without a name, so that a browser needs one ``onmessage`` only. Its id
has two parts: the run of the sandbox, and the number of the entry. A client that reconnects sends the id of its last
event (``Last-Event-ID``) and continues after it. If the sandbox was started again, the client gets all entries of the
new run instead, whose numbers mean other entries.

A client that reads slowly costs no memory: its subscription reads from the timeline, and skips what the timeline has
forgotten. A client that accepts nothing for two minutes is disconnected.
"""

from __future__ import annotations

import re
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Final

from anyio import create_task_group, sleep, to_thread
from attrs import frozen

from veriff_async._protocol.json.encode import dump_json
from veriff_async.sandbox._control.errors import ControlError
from veriff_async.sandbox._timeline_entries import TimelineKind

if TYPE_CHECKING:
    import asyncio

    from aiohttp import web
    from aiohttp_sse import EventSourceResponse

    from veriff_async.sandbox._timeline import Timeline
    from veriff_async.sandbox._timeline_entries import TimelineEntry

__all__ = ("EventStream", "send_events")

# A browser waits so long before it connects again.
_RETRY: Final = b"retry: 1000\r\n\r\n"
# Time that clients have to read the last entries when the sandbox stops.
_LAST_SECONDS: Final = 0.2
_EVENT_ID: Final = re.compile(r"(?:([0-9a-f]{8})-)?([0-9]{1,9})", re.ASCII)


@frozen(kw_only=True)
class EventStream:
    """The result of an operation that responds with events.

    Attributes:
        timeline: The entries.
        after: The number of the last entry that the client knows; ``None`` for the newest one.
        session_id: Only entries about this session; ``None`` for all.
        kind: Only entries of this kind; ``None`` for all.
    """

    timeline: Timeline
    after: int | None = None
    session_id: str | None = None
    kind: TimelineKind | None = None

    def start_after(self, last_event_id: str | None) -> int | None:
        """Return the number of the last entry that a client knows, which its header names with priority."""
        if not last_event_id:
            return self.after
        match = _EVENT_ID.fullmatch(last_event_id)
        if match is None:
            msg = "Last-Event-ID is not the id of an event: send the id of the last event that arrived, or no header."
            raise ControlError(422, msg)
        return int(match[2]) if match[1] in {None, self.timeline.run} else 0

    def includes(self, entry: TimelineEntry) -> bool:
        """Return whether a client gets an entry. A gap may have hidden any entry."""
        if entry.kind == TimelineKind.GAP:
            return True
        return self.session_id in {None, entry.session_id} and self.kind in {None, entry.kind}


async def send_events(request: web.Request, stream: EventStream, closing: asyncio.Event) -> web.StreamResponse:
    """Respond with entries until the client disconnects or the sandbox stops.

    Raises:
        ControlError: The package of server-sent events is not installed, or ``Last-Event-ID`` is malformed.
    """
    response_class = await to_thread.run_sync(_load)
    entries = stream.timeline.subscribe(stream.start_after(request.headers.get("Last-Event-ID")))
    response = response_class(headers={"X-Content-Type-Options": "nosniff"})
    async with create_task_group() as tasks:
        tasks.start_soon(_disconnect_after, closing, request)
        # From here on an error cannot become JSON any more, and both of these mean that the client has gone.
        with suppress(ConnectionResetError, TimeoutError):
            await response.prepare(request)
            async with response:
                await response.write(_RETRY)
                async for entry in entries:
                    if stream.includes(entry):
                        data = dump_json(entry.to_dict()).decode()
                        await response.send(data, id=f"{stream.timeline.run}-{entry.number}")
        tasks.cancel_scope.cancel()
    return response


async def _disconnect_after(closing: asyncio.Event, request: web.Request) -> None:
    """Disconnect a client that does not accept the last entries, or has too many to read, when the sandbox stops."""
    await closing.wait()
    await sleep(_LAST_SECONDS)
    if request.transport is not None:
        request.transport.abort()


@cache
def _load() -> type[EventSourceResponse]:
    # In a thread: an import reads files.
    try:
        from aiohttp_sse import EventSourceResponse  # noqa: PLC0415  an extra
    except ImportError:
        msg = "Events need the extra sandbox: install veriff-async[sandbox]."
        raise ControlError(501, msg) from None
    return EventSourceResponse
