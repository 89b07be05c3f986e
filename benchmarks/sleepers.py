"""The processes of `waiting`: who waits, who receives, who posts, and who answers that nothing is decided.

Each is started with its work as JSON, says a line when it is ready, and prints what it found when its input ends.
Moments are those of the system's monotonic clock, which all processes of a machine share on Linux.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web

from benchmarks.generator import post_steadily, request
from veriff_async import Credentials, PollPolicy, VeriffClient, WebhookReceiver
from veriff_async._protocol.json.decode import dump
from veriff_async._protocol.webhook import event_from_decision
from veriff_async.inbox import MemoryInbox, RedisInbox, SqliteInbox
from veriff_async.models.decision import Decision
from veriff_async.models.enums import Status
from veriff_async.webhooks import aiohttp_handler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from veriff_async.inbox import Inbox

CREDENTIALS: Final = Credentials("benchmark", "benchmark-secret")
_NEVER: Final = PollPolicy(initial_delay=86_400.0)
_NOWHERE: Final = "http://127.0.0.1:9"


def _inbox(kind: str, where: str) -> MemoryInbox | SqliteInbox | RedisInbox:
    if kind == "redis":
        url, _, prefix = where.partition("#")
        return RedisInbox(url, prefix=prefix)
    return SqliteInbox(where) if kind == "sqlite" else MemoryInbox()


async def _told() -> None:
    """Return when the parent closes our input."""
    loop = asyncio.get_running_loop()
    closed = asyncio.Event()
    loop.add_reader(sys.stdin, closed.set)
    await closed.wait()
    loop.remove_reader(sys.stdin)


def _say(**words: object) -> None:
    print(json.dumps(words), flush=True)


@asynccontextmanager
async def _serving(handler: Callable[[web.Request], object]) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handler)  # type: ignore[arg-type]
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def _settled(veriff: VeriffClient, count: int) -> None:
    """Return when everybody waits and was looked for in the inbox."""
    while veriff.statistics().waiters < count:  # noqa: ASYNC110  there is no event for it
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.5 + count / 50_000)


async def wait(work: dict[str, object]) -> None:
    """Wait for many sessions; with ``serves``, receive the webhooks in the same process too."""
    count, woken = int(str(work["count"])), dict[str, int]()
    async with AsyncExitStack() as parts:
        inbox: Inbox = await parts.enter_async_context(_inbox(str(work["inbox"]), str(work["where"])))
        veriff = await parts.enter_async_context(VeriffClient(CREDENTIALS, base_url=_NOWHERE, inbox=inbox, poll=_NEVER))

        async def sleep(session_id: str) -> None:
            await veriff.session(session_id).wait_for_decision(timeout=900)
            woken[session_id] = time.monotonic_ns()

        sleepers = [asyncio.create_task(sleep(f"s{number}")) for number in range(count)]
        await _settled(veriff, count)
        port = 0
        if work["serves"]:
            receiver = WebhookReceiver(CREDENTIALS, inbox)
            port = await parts.enter_async_context(_serving(aiohttp_handler(receiver)))
        began = time.process_time()
        _say(port=port)
        await asyncio.wait(sleepers)
        _say(woken=woken, seconds=time.process_time() - began)
        await _told()


async def receive(work: dict[str, object]) -> None:
    """Receive webhooks, and return the processor time of each."""
    async with (
        _inbox(str(work["inbox"]), str(work["where"])) as inbox,
        WebhookReceiver(CREDENTIALS, inbox) as receiver,
        _serving(aiohttp_handler(receiver)) as port,
    ):
        _say(port=port)
        began = time.process_time()
        await _told()
        _say(seconds=time.process_time() - began)


async def post(work: dict[str, object]) -> None:
    """Post at a steady rate, whether or not answers come, and say when the first one was due."""
    count, rate, url = int(str(work["count"])), float(str(work["rate"])), str(work["url"])
    requests = [request(url, *_parcel(f"s{number}")) for number in range(count)]
    began, reached, statuses = await asyncio.to_thread(post_steadily, url, requests, rate)
    assert statuses == {200: count}, statuses
    _say(began=began, reached=reached)


def _parcel(session_id: str) -> tuple[dict[str, str], bytes]:
    body = dump(event_from_decision(_decision(session_id)).raw)
    signature = CREDENTIALS.sign(body)
    headers = {"x-auth-client": CREDENTIALS.api_key, "x-hmac-signature": signature, "content-type": "application/json"}
    return headers, body


def _decision(session_id: str) -> Decision:
    return Decision(session_id=session_id, attempt_id=f"attempt-of-{session_id}", status=Status.APPROVED, code=9001)


async def crowd(work: dict[str, object]) -> None:
    """Wait for very many sessions; return the cost of a wait, of idle waits, and of waking all."""
    count = int(str(work["count"]))
    async with (
        _inbox(str(work["inbox"]), str(work["where"])) as inbox,
        VeriffClient(CREDENTIALS, base_url=_NOWHERE, inbox=inbox, poll=_NEVER) as veriff,
    ):
        first = [asyncio.create_task(veriff.session(f"w{number}").wait_for_decision()) for number in range(100)]
        await _settled(veriff, len(first))
        before = _resident()
        waits = [
            asyncio.create_task(veriff.session(f"s{number}").wait_for_decision(timeout=900)) for number in range(count)
        ]
        await _settled(veriff, count + len(first))
        grown = _resident() - before
        began, used = time.monotonic(), time.process_time()
        await asyncio.sleep(float(str(work["idle"])))
        idle = (time.process_time() - used) / (time.monotonic() - began)
        events = [event_from_decision(_decision(f"s{number}")) for number in range(count)]
        began = time.monotonic()
        for start in range(0, count, 1000):
            await asyncio.gather(*(inbox.record(event) for event in events[start : start + 1000]))
        recorded = time.monotonic()
        await asyncio.wait(waits)
        _say(bytes=grown / count, idle=idle, recorded=recorded - began, woken=time.monotonic() - began)
        for task in first:
            task.cancel()
        await asyncio.gather(*first, return_exceptions=True)


def _resident() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


async def undecided(_work: dict[str, object]) -> None:
    """Answer that nothing is decided yet, and count how often each session was asked for."""
    asked: dict[str, int] = {}
    body = dump({"status": "success", "verification": None, "technicalData": {"ip": None}})
    headers = {"content-type": "application/json"}

    async def answer(request: web.Request) -> web.Response:
        asked[request.path] = asked.get(request.path, 0) + 1
        return web.Response(body=body, headers=headers)

    async with _serving(answer) as port:
        _say(port=port)
        await _told()
        _say(asked=sorted(asked.values()), sessions=len(asked))


async def poll(work: dict[str, object]) -> None:
    """Wait for many sessions without webhooks, for some seconds."""
    count = int(str(work["count"]))
    pace = PollPolicy(max_rate=float(str(work["rate"])), max_interval=float(str(work["longest"])))
    async with VeriffClient(CREDENTIALS, base_url=str(work["url"]), poll=pace, verify_responses=False) as veriff:
        waits = [asyncio.create_task(veriff.session(f"s{number}").wait_for_decision()) for number in range(count)]
        await asyncio.sleep(0)  # the waits start
        used, before = time.process_time(), veriff.statistics().requests
        await asyncio.sleep(float(str(work["seconds"])))
        requests = veriff.statistics().requests
        _say(requests=requests, cpu=(time.process_time() - used) / max(1, requests - before))
        for task in waits:
            task.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


_ROLES: Final = {
    "wait": wait,
    "receive": receive,
    "post": post,
    "crowd": crowd,
    "undecided": undecided,
    "poll": poll,
}

if __name__ == "__main__":
    _work = json.loads(sys.argv[1])
    asyncio.run(_ROLES[_work["role"]](_work))
