"""How much slower a sandbox with ten thousand sessions is than one with ten, and how much memory it needs."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Final

import aiohttp
from attrs import frozen

from benchmarks.measure import Memory, Spread, ratios
from benchmarks.table import Goal, Row, Table
from veriff_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from benchmarks.measure import Plan

__all__ = ("run",)

_FEW, _MANY, _SMOKE_MANY = 10, 10_000, 200
_CALLS: Final = 20
_KIB: Final = 1024
_GOAL: Final = 10
# Each but the search has a goal, because its cost must not grow with the number of sessions.
_OPERATIONS: Final[dict[str, Callable[[Sandbox, str], object]]] = {
    "a page of 10 sessions": lambda sandbox, _: sandbox.find_sessions(limit=10),
    "a page of one status": lambda sandbox, _: sandbox.find_sessions(status="approved", limit=10),
    "a search": lambda sandbox, _: sandbox.find_sessions(search="specimen", limit=10),
    "one session": lambda sandbox, session_id: sandbox.session(session_id),
    "a decision": lambda sandbox, session_id: sandbox.decide(session_id, "approved"),
}
_PAGES: Final = {
    "over HTTP, a page of 10 sessions as JSON": "/_sandbox/api/sessions?limit=10",
    "over HTTP, the list in the console": "/_sandbox/",
}


@frozen
class _Figures:
    """Milliseconds of each operation, and KiB for each session."""

    milliseconds: dict[str, float]
    memory: float


def run(plan: Plan) -> Iterator[Table]:
    """Measure both sandboxes in each round, so that a slow minute affects both."""
    many = _SMOKE_MANY if plan.smoke else _MANY
    rounds = [(asyncio.run(_measure(_FEW)), asyncio.run(_measure(many))) for _ in range(plan.rounds)]
    columns = (f"ms, {_FEW} sessions", f"ms, {many:,} sessions", f"x {_FEW} sessions")
    rows: list[Row] = []
    for name in rounds[0][0].milliseconds:
        pairs = [(few.milliseconds[name], lots.milliseconds[name]) for few, lots in rounds]
        few, lots = zip(*pairs, strict=True)
        cells = (Spread.of(few), Spread.of(lots), ratios(lots, few))
        rows.append(Row(name, dict(zip(columns, cells, strict=True))))
    yield Table(
        subject="sandboxes",
        title=f"processor time of an operation with {_FEW} and with {many:,} sessions",
        columns=columns,
        rows=tuple(rows),
        goals=tuple(Goal(row=row.label, column=columns[2], at_most=_GOAL) for row in rows if row.label != "a search"),
    )
    yield Table(
        subject="sandboxes",
        title=f"seed() of {many:,} sessions",
        columns=("KiB/session",),
        rows=(Row("all statuses, three pictures each", {"KiB/session": Spread.of(lots.memory for _, lots in rounds)}),),
    )


async def _measure(count: int) -> _Figures:
    with Memory() as memory:
        sandbox = Sandbox()
        sandbox.seed(count)
    ids = sandbox.seed(_CALLS, statuses=["submitted"], seed=1)
    found = {name: _time(partial(call, sandbox), ids) for name, call in _OPERATIONS.items()}
    async with sandbox, aiohttp.ClientSession() as http:
        for name, path in _PAGES.items():
            found[name] = await _time_requests(partial(_get, http, sandbox.base_url + path))
    return _Figures(found, memory.growth / count / _KIB)


def _time(call: Callable[[str], object], ids: tuple[str, ...]) -> float:
    began = time.process_time()
    for session_id in ids:
        call(session_id)
    return (time.process_time() - began) / len(ids) * 1000


async def _time_requests(send: Callable[[], Awaitable[None]]) -> float:
    # The first request loads templates and opens the connection.
    await send()
    began = time.process_time()
    for _ in range(_CALLS):
        await send()
    return (time.process_time() - began) / _CALLS * 1000


async def _get(http: aiohttp.ClientSession, url: str) -> None:
    async with http.get(url) as response:
        response.raise_for_status()
        await response.read()
