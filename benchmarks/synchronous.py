"""The way of a synchronous thread to the event loop and back, with `await` and with a portal of anyio."""

from __future__ import annotations

import asyncio
import time
from statistics import median
from typing import TYPE_CHECKING, Final

import uvloop
from anyio.from_thread import start_blocking_portal

from benchmarks.measure import Spread, in_turn
from benchmarks.sink import running_sink
from benchmarks.table import Row, Table
from benchmarks.work import KEY, SECRET
from veriff_async import Credentials, VeriffClient, blocking

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from benchmarks.measure import Plan

__all__ = ("run",)

_CREDENTIALS: Final = Credentials(KEY, SECRET)
_SESSION: Final = "11111111-1111-4111-8111-111111111111"
_LOOPS: Final[dict[str, Callable[[], asyncio.AbstractEventLoop]]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
_EMPTY: Final = "empty call"
_CALL: Final = "session.decision()"
_MICRO: Final = 1e6


def run(plan: Plan) -> Iterator[Table]:
    """Measure an empty coroutine function, which shows the way alone, and a request."""
    counts = {_EMPTY: 20, _CALL: 5} if plan.smoke else {_EMPTY: 2000, _CALL: 300}
    with running_sink() as port:
        for name, factory in _LOOPS.items():
            yield Table(
                subject="synchronous",
                title=f"microseconds of a call from synchronous code, {name}",
                columns=(_EMPTY, _CALL),
                rows=tuple(_rows(f"http://127.0.0.1:{port}", factory, plan, counts)),
            )


def _rows(
    url: str, factory: Callable[[], asyncio.AbstractEventLoop], plan: Plan, counts: dict[str, int]
) -> Iterator[Row]:
    runner = asyncio.Runner(loop_factory=factory)
    opened = blocking.open_client(_CREDENTIALS, base_url=url, loop_factory=factory)
    with runner, opened as veriff, start_blocking_portal(backend_options={"loop_factory": factory}) as portal:
        clients = [VeriffClient(_CREDENTIALS, base_url=url) for _ in range(2)]
        own, of_portal = (client.session(_SESSION) for client in clients)
        session = veriff.session(_SESSION)
        ways: dict[str, dict[str, Callable[[int], float]]] = {
            "await": {
                _EMPTY: lambda count: runner.run(_awaited(_do_nothing, count)),
                _CALL: lambda count: runner.run(_awaited(own.decision, count)),
            },
            "blocking.open_client": {
                _EMPTY: lambda count: _called(lambda: veriff.run(_do_nothing), count),
                _CALL: lambda count: _called(session.decision, count),
            },
            "anyio's portal": {
                _EMPTY: lambda count: _called(lambda: portal.call(_do_nothing), count),
                _CALL: lambda count: _called(lambda: portal.call(of_portal.decision), count),
            },
        }
        cells: dict[str, dict[str, Spread]] = {way: {} for way in ways}
        for column, count in counts.items():
            found = in_turn(tuple(ways), plan.rounds, lambda way, c=column, n=count: ways[way][c](n))  # type: ignore[misc]
            for way, values in found.items():
                cells[way][column] = Spread.of(values)
        runner.run(clients[0].aclose())
        portal.call(clients[1].aclose)
    yield from (Row(way, cells[way]) for way in ways)


async def _do_nothing() -> None:
    """Return at once."""


async def _awaited(function: Callable[[], Awaitable[object]], count: int) -> float:
    """Return the median of the microseconds that awaiting a function takes."""
    times = list[float]()
    for _ in range(count):
        began = time.perf_counter()
        await function()
        times.append(time.perf_counter() - began)
    return median(times) * _MICRO


def _called(function: Callable[[], object], count: int) -> float:
    """Return the median of the microseconds that a function takes."""
    times = list[float]()
    for _ in range(count):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return median(times) * _MICRO
