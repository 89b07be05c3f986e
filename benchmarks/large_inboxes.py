"""Measure inboxes with very many sessions: ``python -m benchmarks.large_inboxes``; ``--help`` names its options.

A session is recorded through the inbox, and then copied in its store, since recording five million events would take
hours. What is measured goes through the inbox alone: its start, records, look-ups, searches, and the longest pause of a
record while retention deletes. Four processes then record webhooks at a fixed rate, and a fifth counts the wake-ups.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import sys
import time
from argparse import ArgumentParser
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from attrs import evolve, frozen

from benchmarks.bodies import ORDINARY, as_body, unlike
from benchmarks.fill_inboxes import FILLERS, stored_bytes
from benchmarks.servers import postgres_running, redis_running
from benchmarks.work import KEY, SECRET
from veriff_async import Credentials, InboxError, parse_webhook
from veriff_async.inbox import PostgresInbox, RedisInbox, Retention, SessionSearch, SqliteInbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from veriff_async import WebhookEvent

__all__ = ("Place", "event_of", "fill", "main", "measure", "measure_rate", "open_place")

_CREDENTIALS: Final = Credentials(KEY, SECRET)
_STORES: Final = ("sqlite", "redis", "postgres")
_SAMPLES: Final = 2_000


@frozen(kw_only=True)
class Place:
    """Where an inbox is.

    Attributes:
        store: One of `_STORES`.
        address: A path or a URL.
    """

    store: str
    address: str

    def open(self, retention: Retention | None = None) -> Any:  # noqa: ANN401  one of three classes
        """Return the inbox."""
        if self.store == "sqlite":
            return SqliteInbox(self.address, retention=retention)
        if self.store == "redis":
            return RedisInbox(self.address, retention=retention, timeout=30)
        return PostgresInbox(self.address, retention=retention, timeout=30)


@contextmanager
def open_place(store: str, folder: Path) -> Iterator[Place | None]:
    """Run the server of a store, and give the place of an empty inbox; ``None`` without a server."""
    if store == "sqlite":
        yield Place(store=store, address=str(folder / "inbox.db"))
        return
    with redis_running() if store == "redis" else postgres_running() as address:
        yield None if address is None else Place(store=store, address=address)


def event_of(number: int) -> WebhookEvent:
    """Return a new event of a new session."""
    body = as_body(unlike(ORDINARY, number))
    return parse_webhook({"x-auth-client": KEY, "x-hmac-signature": _CREDENTIALS.sign(body)}, body, _CREDENTIALS)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the stores that were asked for, and print a JSON object with the figures of each."""
    parser = ArgumentParser(prog="python -m benchmarks.large_inboxes", description=__doc__)
    parser.add_argument("--store", choices=_STORES, action="append", help="default: all")
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=5, help="events of a session")
    parser.add_argument("--rate", type=int, default=2_000, help="webhooks a second through all processes")
    parser.add_argument("--seconds", type=float, default=300.0, help="how long to record at that rate; 0 leaves it out")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--samples", type=int, default=_SAMPLES)
    options = parser.parse_args(arguments)
    for store in options.store or _STORES:
        with TemporaryDirectory() as folder, open_place(store, Path(folder)) as place:
            if place is None:
                print(json.dumps({"store": store, "left out": "no server was found"}))
                continue
            figures: dict[str, object] = {"store": store, "sessions": options.sessions, "events": options.events}
            figures |= asyncio.run(fill(place, options.sessions, options.events))
            figures |= asyncio.run(measure(place, options.sessions, options.samples))
            if options.seconds:
                figures |= measure_rate(place, options.rate, options.seconds, options.processes)
            print(json.dumps(figures), flush=True)


async def fill(place: Place, sessions: int, events: int) -> dict[str, object]:
    """Record a session and copy it, and return the duration and the size."""
    started = time.perf_counter()
    template = event_of(0)
    async with place.open() as inbox:
        for number in range(events):
            raw = {**template.raw, "number": number}
            await inbox.record(evolve(template, raw=raw), deliver=False)
    session_id = template.session_id or ""
    await FILLERS[place.store](place.address, session_id, sessions - 1)
    figures: dict[str, object] = {"filled_s": round(time.perf_counter() - started, 1)}
    figures["stored_mb"] = round(await stored_bytes(place.store, place.address) / 1e6)
    return figures


async def measure(place: Place, sessions: int, samples: int) -> dict[str, object]:
    """Measure an inbox with many sessions."""
    figures: dict[str, object] = {}
    session_id = event_of(0).session_id or ""
    started = time.perf_counter()
    async with place.open(Retention(max_sessions=2 * sessions)) as inbox:  # deletes nothing
        await inbox.get_states([session_id])
        figures["start_ms"] = round((time.perf_counter() - started) * 1e3, 1)
        numbers = iter(range(1, sys.maxsize))
        figures |= await _time("record", samples, lambda: inbox.record(event_of(next(numbers))))
        figures |= await _time("record_deliver", samples, lambda: inbox.record(event_of(next(numbers)), deliver=True))
        figures |= await _time("get_states", samples, lambda: inbox.get_states([session_id]))
        figures |= await _time("get_events", samples, lambda: inbox.get_events(session_id))
        search = SessionSearch(session_id=session_id)
        figures |= await _time("find_session", samples, lambda: inbox.find_sessions(search, limit=1))
        newest = SessionSearch()
        figures |= await _time("find_newest", samples // 10, lambda: inbox.find_sessions(newest, limit=100))
        started = time.perf_counter()
        await inbox.statistics()
        figures["statistics_ms"] = round((time.perf_counter() - started) * 1e3)
    # A tenth of the sessions is too many, so each record deletes some.
    async with place.open(Retention(max_sessions=max(1, sessions - sessions // 10))) as inbox:
        figures |= await _time("record_while_deleting", samples, lambda: inbox.record(event_of(next(numbers))))
    return figures


async def _time(name: str, samples: int, call: Callable[[], Awaitable[object]]) -> dict[str, object]:
    """Call one after the other, and return milliseconds: median, 99th percentile and maximum."""
    times: list[float] = []
    for _ in range(samples):
        started = time.perf_counter()
        await call()
        times.append((time.perf_counter() - started) * 1e3)
    cuts = quantiles(times, n=100)
    return {f"{name}_ms": {"p50": round(cuts[49], 2), "p99": round(cuts[98], 2), "max": round(max(times), 1)}}


def measure_rate(place: Place, rate: int, seconds: float, processes: int) -> dict[str, object]:
    """Record at a rate in several processes, and count the sessions of which another process was woken."""
    context = multiprocessing.get_context("spawn")
    ready, ended = context.Event(), context.Event()
    results = context.SimpleQueue()
    counter = context.Process(target=_count_wakes, args=(place, ready, ended, results))
    counter.start()
    ready.wait(60)
    recorders = [
        context.Process(target=_record, args=(place, index, rate / processes, seconds, results))
        for index in range(processes)
    ]
    for recorder in recorders:
        recorder.start()
    recorded = [results.get() for _ in recorders]
    for recorder in recorders:
        recorder.join()
    ended.set()
    woken = results.get()
    counter.join()
    sessions = {session for each in recorded for session in each["sessions"]}
    return {
        "rate": {
            "asked_per_s": rate,
            "reached_per_s": round(sum(each["rate"] for each in recorded)),
            "webhooks": len(sessions),
            "failed": sum(each["failed"] for each in recorded),
            "lost_wake_ups": len(sessions - set(woken["sessions"])),
            "full_looks": woken["full_looks"],
            "cpu_s": round(sum(each["cpu"] for each in recorded) + woken["cpu"], 1),
            "record_p99_ms": round(max(each["p99"] for each in recorded), 1),
            "record_max_ms": round(max(each["max"] for each in recorded), 1),
        }
    }


def _record(place: Place, index: int, rate: float, seconds: float, results: Any) -> None:  # noqa: ANN401  a queue
    """Record events of new sessions at a rate, in a process of its own."""
    asyncio.run(_record_at_rate(place, index, rate, seconds, results))


async def _record_at_rate(place: Place, index: int, rate: float, seconds: float, results: Any) -> None:  # noqa: ANN401
    sessions: list[str] = []
    times: list[float] = []
    running = set[asyncio.Task[None]]()
    failed = 0

    async def record(number: int) -> None:
        nonlocal failed
        event = event_of(number)
        started = time.perf_counter()
        try:
            await inbox.record(event)
        except InboxError:  # Veriff would send the webhook again
            failed += 1
            return
        times.append((time.perf_counter() - started) * 1e3)
        sessions.append(event.session_id or "")

    async with place.open(Retention(max_sessions=10**8)) as inbox:  # deletes nothing
        await inbox.get_states(["unknown"])
        begin, number = time.perf_counter(), 0
        first = (index + 1) * 10**11 + int(time.time()) % 10**5 * 10**6  # other sessions than in an earlier run
        while (passed := time.perf_counter() - begin) < seconds:
            for _ in range(min(int(passed * rate) - number, 500 - len(running))):
                task = asyncio.create_task(record(first + number))
                running.add(task)
                task.add_done_callback(running.discard)
                number += 1
            await asyncio.sleep(0.002)
        if running:
            await asyncio.wait(running)
        taken = time.perf_counter() - begin
    usage = os.times()
    results.put(
        {
            "sessions": sessions,
            "failed": failed,
            "rate": len(sessions) / taken,
            "cpu": usage.user + usage.system,
            "p99": quantiles(times, n=100)[98],
            "max": max(times),
        }
    )


def _count_wakes(place: Place, ready: Any, ended: Any, results: Any) -> None:  # noqa: ANN401  events and a queue
    """Count the sessions that a subscription names, in a process of its own."""
    asyncio.run(_subscribe(place, ready, ended, results))


async def _subscribe(place: Place, ready: Any, ended: Any, results: Any) -> None:  # noqa: ANN401
    woken = set[str]()
    full_looks = 0

    async def subscribe() -> None:
        nonlocal full_looks
        async for session_id in inbox.subscribe():
            if session_id is None:
                full_looks += 1
                ready.set()
            else:
                woken.add(session_id)

    async with place.open() as inbox:
        task = asyncio.create_task(subscribe())
        await asyncio.to_thread(ended.wait)
        before = -1
        while before != len(woken):  # until no more arrive
            before = len(woken)
            await asyncio.sleep(2)
        task.cancel()
        await asyncio.wait({task})
    usage = os.times()
    results.put({"sessions": woken, "full_looks": full_looks - 1, "cpu": usage.user + usage.system})


if __name__ == "__main__":
    main()
