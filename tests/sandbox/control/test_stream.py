"""Server-sent events of the control API: the timeline as it grows."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import urllib.request
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, cast

import pytest
from attrs import frozen

from veriff_async.sandbox import Sandbox, VirtualClock
from veriff_async.sandbox._control import stream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from aiohttp import ClientResponse

    from tests.sandbox.conftest import Caller, StartSandbox
    from tests.sandbox.control.conftest import Control

pytestmark = pytest.mark.anyio

EVENTS: Final = "/_sandbox/api/events"
SECONDS: Final = 20.0


@frozen
class Reader:
    """Reads events, as a browser does."""

    response: ClientResponse

    async def next(self) -> dict[str, Any]:
        """Return the next event: its id, and the entry."""
        while True:
            fields = await self._block()
            if "data" in fields:
                return {"id": fields["id"], **json.loads(fields["data"])}

    async def rest(self) -> list[dict[str, Any]]:
        """Return all events until the stream ends."""
        events: list[dict[str, Any]] = []
        while not self.response.content.at_eof():
            fields = await self._block()
            if "data" in fields:
                events.append({"id": fields["id"], **json.loads(fields["data"])})
        return events

    async def _block(self) -> dict[str, str]:
        fields: dict[str, str] = {}
        async with asyncio.timeout(SECONDS):
            while line := (await self.response.content.readline()).decode().rstrip("\r\n"):
                name, _, value = line.partition(": ")
                fields[name] = value
        return fields


@asynccontextmanager
async def read(caller: Caller, query: str = "", **headers: str) -> AsyncGenerator[Reader]:
    """Open the stream."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with caller.http.get(caller.sandbox.base_url + EVENTS + query, headers=names) as response:
        assert 200 == response.status
        assert "text/event-stream" == response.content_type
        assert "no-cache" == response.headers["Cache-Control"]
        reader = Reader(response)
        # The subscription exists before the response begins.
        yield reader


async def test_events_are_entries_as_they_are_added(caller: Caller) -> None:
    """A reader gets what happens from now on, as the operation get_timeline shows it."""
    await caller.create()
    async with read(caller) as reader:
        session_id = await caller.create()
        created, request = await reader.next(), await reader.next()

    assert ("session", "created", session_id) == (created["kind"], created["change"], created["session_id"])
    assert ("request", 201, "valid") == (request["kind"], request["status"], request["signature"]["result"])
    assert re.fullmatch(rf"[0-9a-f]{{8}}-{request['number']}", request["id"])


async def test_reader_continues_after_the_last_event(caller: Caller, control: Control) -> None:
    """A browser that reconnects sends the id of its last event, and misses nothing."""
    async with read(caller) as reader:
        caller.sandbox.advance(1)
        first = await reader.next()
    caller.sandbox.advance(2)
    async with read(caller, "?after=0", Last_Event_ID=first["id"]) as reader:
        second = await reader.next()
    async with read(caller, "?after=0") as reader:
        again = await reader.next()

    assert ["advanced by 1 s", "advanced by 2 s"] == [first["change"], second["change"]]
    assert first == again
    entries = (await control.do("GET", "/timeline"))["entries"]
    assert entries == [{name: value for name, value in each.items() if name != "id"} for each in (first, second)]


async def test_id_of_another_run_gets_all_entries(caller: Caller) -> None:
    """After a restart numbers mean other entries, so a browser gets all of them."""
    caller.sandbox.advance(1)
    caller.sandbox.advance(2)
    async with read(caller, Last_Event_ID="00000000-2") as reader:
        assert 1 == (await reader.next())["number"]
    async with read(caller, Last_Event_ID="1") as reader:
        assert 2 == (await reader.next())["number"]


async def test_events_can_be_filtered(caller: Caller) -> None:
    """The page of a session needs only its events."""
    wanted, other = await caller.create(), await caller.create()
    async with (
        read(caller, f"?session_id={wanted}&kind=session") as of_session,
        read(caller, "?kind=setting") as settings,
    ):
        for session_id in (other, wanted):
            caller.sandbox.decide(session_id, "approved")
        caller.sandbox.advance(1)

        assert wanted == (await of_session.next())["session_id"]
        assert "clock" == (await settings.next())["setting"]


@pytest.mark.parametrize("wrong", ["?after=-1", "?after=x", "?kind=requests", "?session=1", "?after=1&after=2"])
async def test_wrong_query_is_refused_as_json(control: Control, wrong: str) -> None:
    """A wrong field is an error before the stream begins."""
    status, _, __ = await control.refused("GET", f"/events{wrong}")

    assert 422 == status


@pytest.mark.parametrize("wrong", ["x", "-1", "1.5", "1" * 500, "00000000-", "0000000g-1", "é"])
async def test_malformed_last_event_id_is_refused(caller: Caller, wrong: str) -> None:
    """An id that no event has is an error that names the header."""
    reply = await caller.send("GET", EVENTS, headers={"Last-Event-ID": wrong})

    assert 422 == reply.status
    assert reply.json["error"]["message"].startswith("Last-Event-ID ")


async def test_stop_ends_streams_without_waiting_for_readers(start_sandbox: StartSandbox) -> None:
    """A stop sends what has happened, and ends each stream."""
    async with start_sandbox(clock=VirtualClock()) as caller:
        async with caller.http.get(caller.sandbox.base_url + EVENTS) as response:
            caller.sandbox.advance(1)
            rest = asyncio.create_task(Reader(response).rest())
            await caller.sandbox.__aexit__(None, None, None)
            assert ["advanced by 1 s"] == [event["change"] for event in await rest]
        await caller.sandbox.__aenter__()


async def test_stop_disconnects_a_reader_that_accepts_nothing() -> None:
    """A stalled browser does not keep the sandbox from stopping; a task that it left behind would fail this test."""
    async with Sandbox(clock=VirtualClock()) as sandbox:
        host, _, port = sandbox.base_url.removeprefix("http://").partition(":")
        _, writer = await asyncio.open_connection(host, int(port), limit=1)
        cast("asyncio.Transport", writer.transport).pause_reading()
        writer.write(f"GET {EVENTS} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        for _ in range(10_000):
            sandbox.advance(1)
        await sandbox.wait_idle()
    writer.transport.abort()

    assert 10_000 == sandbox.timeline.last_number


async def test_reader_that_disconnects_leaves_nothing(caller: Caller) -> None:
    """A closed tab ends its subscription, also if nothing happens any more."""
    async with read(caller):
        waiting: dict[Any, Any] = vars(caller.sandbox.timeline)["_waiting"]
        while not waiting:  # noqa: ASYNC110  the timeline has no event for its subscribers
            await asyncio.sleep(0)
    while waiting:  # noqa: ASYNC110  as above
        await asyncio.sleep(0)


async def test_slow_reader_does_not_stop_others(start_sandbox: StartSandbox) -> None:
    """A reader that accepts nothing delays neither the sandbox nor another reader."""
    async with start_sandbox(clock=VirtualClock()) as caller:
        host, _, port = caller.sandbox.base_url.removeprefix("http://").partition(":")
        _, writer = await asyncio.open_connection(host, int(port), limit=1)
        writer.write(f"GET {EVENTS} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        async with read(caller) as reader:
            for _ in range(2000):
                caller.sandbox.advance(1)
            numbers = [(await reader.next())["number"] for _ in range(2000)]
        writer.transport.abort()

    assert list(range(1, 2001)) == numbers


async def test_many_readers_get_the_same_events(caller: Caller) -> None:
    """A team may have many tabs open."""

    async def read_two() -> list[int]:
        async with read(caller) as reader:
            ready.release()
            return [(await reader.next())["number"] for _ in range(2)]

    ready = asyncio.Semaphore(0)
    readers = [asyncio.create_task(read_two()) for _ in range(50)]
    for _ in readers:
        await ready.acquire()
    caller.sandbox.advance(1)
    caller.sandbox.advance(1)

    assert [[1, 2]] * 50 == await asyncio.gather(*readers)


async def test_events_without_the_extra_say_how_to_install_it(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything else works without the package of server-sent events."""
    monkeypatch.setitem(sys.modules, "aiohttp_sse", None)
    vars(stream)["_load"].cache_clear()
    status, message, _ = await control.refused("GET", "/events")

    assert (501, "Events need the extra sandbox: install veriff-async[sandbox].") == (status, message)


async def test_reset_is_an_event_and_readers_continue(caller: Caller) -> None:
    """A reset forgets the entries, but a reader sees it and what follows."""
    async with read(caller) as reader:
        caller.sandbox.advance(1)
        caller.sandbox.reset()
        caller.sandbox.advance(2)
        kinds = [(event["kind"], event["number"]) for event in [await reader.next() for _ in range(3)]]

    assert [("gap", 1), ("setting", 2), ("setting", 3)] == kinds or [
        ("setting", number) for number in (1, 2, 3)
    ] == kinds


async def test_stream_in_a_sandbox_with_a_loop_of_its_own() -> None:
    """The stream works for `with Sandbox()` as well."""

    def run() -> bytes:
        with Sandbox(clock=VirtualClock()) as sandbox:
            sandbox.advance(1)
            with urllib.request.urlopen(f"{sandbox.base_url}{EVENTS}?after=0", timeout=SECONDS) as response:  # noqa: S310  http
                lines = [response.readline() for _ in range(4)]
        return b"".join(lines)

    assert b"advanced by 1 s" in await asyncio.to_thread(run)
