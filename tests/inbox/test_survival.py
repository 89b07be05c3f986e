"""An event that was acknowledged survives the death of the process, at every moment of a kill.

``VERIFF_KILLS=200`` kills as often as that; without it a few times.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
from collections import defaultdict
from contextlib import closing, contextmanager, suppress
from typing import IO, TYPE_CHECKING, Final

import pytest
from aiohttp import ClientError, ClientSession

from tests.conditions import needs_posix
from tests.fork_server import start_python
from veriff_async import Credentials
from veriff_async._protocol.session_state import apply_event
from veriff_async._protocol.webhook import dump_event
from veriff_async.inbox import RedisInbox, SqliteInbox
from veriff_async.testing import decision_event, session_event

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from tests.servers import RedisServer
    from veriff_async import WebhookEvent
    from veriff_async.inbox import Inbox

pytestmark = pytest.mark.usefixtures("without_coverage")  # a killed process writes no coverage data

KILLS: Final = int(os.environ.get("VERIFF_KILLS", "2"))
CREDENTIALS: Final = Credentials("f9ae4cbd-9a3f-4a3b-b07b-7f1a2f4f9d10", "a fake secret")
DYING: Final = """
import asyncio, itertools, os, signal, sys, threading

place, name, last = sys.argv[1], sys.argv[2], int(sys.argv[3])
steps = itertools.count(1)


def step(frame, what, thing):
    # Calls and returns of the library's functions, and of those in C that they call, in any thread.
    if "veriff_async" in frame.f_code.co_filename and next(steps) == last:
        os.kill(os.getpid(), 9)


def begin():
    os.write(1, b"ready\\n")
    if last:
        threading.setprofile(step)
        sys.setprofile(step)
"""
RECORDING: Final = (
    DYING
    + """
from veriff_async.inbox import RedisInbox, SqliteInbox
from veriff_async.testing import decision_event, session_event


async def live(inbox, session):
    for event in (
        session_event(session, "started"),
        session_event(session, "submitted"),
        decision_event(session, "resubmission_requested", minute=1),
        session_event(session, "submitted", attempt_id="second"),
        decision_event(session, "approved", attempt_id="second", minute=2),
    ):
        await inbox.record(event)
        os.write(1, f"{session} {event.dedup_key}\\n".encode())


async def main():
    begin()
    inbox = RedisInbox(place) if place.startswith("redis:") else SqliteInbox(place)
    for number in itertools.count():
        await asyncio.gather(*(live(inbox, f"{name}-{number}-{part}") for part in range(4)))


asyncio.run(main())
"""
)
SERVING: Final = (
    DYING
    + """
from aiohttp import web
from veriff_async import Credentials, WebhookReceiver
from veriff_async.inbox import SqliteInbox
from veriff_async.webhooks import aiohttp_app


async def main():
    inbox = SqliteInbox(place)
    receiver = WebhookReceiver(Credentials(sys.argv[4], sys.argv[5]), inbox)
    runner = web.AppRunner(aiohttp_app(receiver, "/hooks"))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    os.write(1, b"%d\\n" % site._server.sockets[0].getsockname()[1])
    begin()
    await asyncio.Event().wait()


asyncio.run(main())
"""
)


def moments(kind: str, most_steps: int) -> Iterator[tuple[str, int, int, int]]:
    """Yield names and moments of deaths: by its own hand at a step, or from outside after some lines and a while."""
    rng = random.Random(kind)  # noqa: S311  the same moments in every run
    for number in range(KILLS):
        if number % 2:
            yield f"{kind}-{number}", rng.randrange(1, most_steps), 0, 0
        else:
            yield f"{kind}-{number}", 0, rng.randrange(40), rng.randrange(60_000)


@contextmanager
def start_process(script: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """Give a process that is going to be killed, and what it prints."""
    with start_python("-c", script, *arguments, environ=os.environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout
        finally:
            process.kill()


def record_until_killed(place: str, name: str, step: int, lines: int, spins: int) -> dict[str, list[str]]:
    """Let a process record until it is dead, and return what it acknowledged of each session."""
    found: dict[str, list[str]] = defaultdict(list)
    with start_process(RECORDING, place, name, str(step)) as (process, output):
        text = "".join(output.readline() for _ in range(lines + 1)) if not step else ""
        if not step:
            for _ in range(spins):
                pass
            process.kill()
        text += output.read()
    assert -signal.SIGKILL == process.returncode
    for line in text.splitlines(keepends=True)[1:]:
        session, _, key = line.partition(" ")
        if key.endswith("\n"):
            found[session].append(key.strip())
    return found


async def lost(inbox: Inbox, expected: dict[str, list[str]]) -> list[str]:
    """Return what is missing of what was acknowledged; every state must be what its events make it."""
    missing: list[str] = []
    states = await inbox.get_states(expected)
    for session, keys in expected.items():
        events = await inbox.get_events(session)
        kept = [event.dedup_key for event in events]
        assert len(kept) == len(set(kept))
        missing += [key for key in keys if key not in kept]
        state = None
        for event in events:
            state, _ = apply_event(state, event)
        assert state == states.get(session)
    return missing


def run(rule: Callable[[], Awaitable[object]]) -> object:
    """Run a coroutine in a loop of its own."""

    async def inner() -> object:
        return await rule()

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(inner())


def check(place: str, expected: dict[str, list[str]]) -> None:
    """Open the store as any process does, and find everything in it."""

    async def look() -> list[str]:
        async with RedisInbox(place) if place.startswith("redis:") else SqliteInbox(place) as inbox:
            await inbox.record(session_event("after the death", "started"))
            return await lost(inbox, expected)

    assert [] == run(look)


@needs_posix
@pytest.mark.timeout(60 + 5 * KILLS)
def test_acknowledged_events_survive_in_sqlite(tmp_path: Path) -> None:
    """Whenever a process is killed, every event that it acknowledged is in the file, which needs no repair."""
    path = tmp_path / "inbox.db"
    everything: dict[str, list[str]] = {}
    for name, step, lines, spins in moments("sqlite", 3_000):
        everything |= record_until_killed(str(path), name, step, lines, spins)
        check(str(path), everything)
        with closing(sqlite3.connect(path)) as raw:
            assert [("ok",)] == raw.execute("PRAGMA integrity_check").fetchall()
    assert everything


@needs_posix
@pytest.mark.timeout(60 + 5 * KILLS)
def test_sqlite_survives_a_kill_during_creation(tmp_path: Path) -> None:
    """Whenever a process is killed that makes the file, the next one can make or use it."""
    for name, step, _, spins in moments("making", 400):
        path = tmp_path / f"{name}.db"
        check(str(path), record_until_killed(str(path), name, step, 0, spins))


@needs_posix
@pytest.mark.timeout(60 + 5 * KILLS)
def test_acknowledged_events_survive_in_redis(redis_server: RedisServer) -> None:
    """Whenever a process is killed, every event that it acknowledged is on the server, and no half of another."""
    everything: dict[str, list[str]] = {}
    for name, step, lines, spins in moments("redis", 3_000):
        everything |= record_until_killed(redis_server.url, name, step, lines, spins)
        check(redis_server.url, everything)
    assert everything


def webhooks(name: str) -> list[tuple[str, WebhookEvent]]:
    """Return the webhooks of some sessions, in a random order."""
    sessions = [f"{name}-{number}" for number in range(12)]
    found = [(session, decision_event(session, "approved", minute=1)) for session in sessions]
    found += [(session, session_event(session, "submitted")) for session in sessions]
    random.Random(name).shuffle(found)  # noqa: S311  the same order in every run
    return found


async def post(
    port: int, some: list[tuple[str, WebhookEvent]], report_count: Callable[[int], None]
) -> dict[str, list[str]]:
    """Post webhooks, six at once, and return those that were answered 200."""
    found: dict[str, list[str]] = defaultdict(list)
    waiting = iter(some)

    async def work(http: ClientSession) -> None:
        for session, event in waiting:
            body = dump_event(event)
            headers = {"x-auth-client": CREDENTIALS.api_key, "x-hmac-signature": CREDENTIALS.sign(body)}
            with suppress(ClientError):
                async with http.post(f"http://127.0.0.1:{port}/hooks", data=body, headers=headers) as answer:
                    if answer.status == 200:
                        found[session].append(event.dedup_key)
                        report_count(sum(map(len, found.values())))

    async with ClientSession(headers={"content-type": "application/json"}) as http:
        await asyncio.gather(*(work(http) for _ in range(6)))
    return found


@pytest.mark.timeout(60 + 5 * KILLS)
def test_webhooks_answered_200_survive(tmp_path: Path) -> None:
    """Whenever a server is killed, what it answered 200 is kept, and with what is sent again nothing is missing."""
    place = str(tmp_path / "inbox.db")
    for name, step, lines, spins in moments("serving", 2_500):
        sent = webhooks(name)
        with start_process(SERVING, place, name, str(step), CREDENTIALS.api_key, "a fake secret") as (process, output):
            port = int(output.readline())
            output.readline()

            def kill(answered: int, process: subprocess.Popen[str] = process) -> None:
                if not step and answered > lines % 20:  # noqa: B023  called within this turn
                    for _ in range(spins):  # noqa: B023  the same
                        pass
                    process.kill()

            answered = run(lambda: post(port, sent, kill))  # noqa: B023  the same
        assert isinstance(answered, dict)
        check(place, answered)
        with start_process(SERVING, place, name, "0", CREDENTIALS.api_key, "a fake secret") as (_, output):
            port = int(output.readline())
            run(lambda: post(port, sent, lambda _: None))  # noqa: B023  the same
        check(place, {session: [event.dedup_key for other, event in sent if other == session] for session, _ in sent})
