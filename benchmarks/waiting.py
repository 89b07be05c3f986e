"""From a webhook to the coroutine that waits for it: how soon, how many, and what it takes while nothing happens."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, Self

from attrs import evolve, frozen

from benchmarks.measure import Spread, in_turn
from benchmarks.servers import redis_running
from benchmarks.table import Goal, Row, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.measure import Plan

__all__ = ("run",)

_ROOT: Final = Path(__file__).parents[1]
_RATE: Final = 500.0
_ACROSS: Final = ("memory, one process", "SQLite, across processes", "Redis, across processes")
_KINDS: Final = {"memory": _ACROSS[0], "sqlite": _ACROSS[1], "redis": _ACROSS[2]}
_LATENCY: Final = ("p50 ms", "p99 ms", "worst ms", "webhooks/s", "CPU ms/webhook")
_CROWD: Final = ("KiB/wait", "idle CPU %", "s to record all", "s from then until all woke")
_POLLS: Final = ("polls/min", "of the rate", "asked most", "asked least", "apart", "CPU ms/poll")
_NS: Final = 1e6
_KIB: Final = 1024


@frozen
class _Sizes:
    """How much of everything."""

    webhooks: int
    crowd: int
    idle: float
    polled: tuple[tuple[int, float, float], ...]


_REAL: Final = _Sizes(4000, 100_000, 5.0, ((10_000, 50.0, 20.0), (10_000, 200.0, 20.0), (500, 200.0, 20.0)))
_SMOKE: Final = _Sizes(50, 200, 0.2, ((50, 50.0, 0.5),))


def run(plan: Plan) -> Iterator[Table]:
    """Measure latency, crowd and polling; stores that cannot be had here are left out, and said so."""
    sizes = _SMOKE if plan.smoke else _REAL
    with ExitStack() as parts:
        redis = parts.enter_context(redis_running())
        kinds = ["sqlite"] if plan.smoke else [kind for kind in _KINDS if kind != "redis" or redis is not None]
        url = redis or ""
        notes = () if redis else ("left out: Redis (no redis-server or valkey-server was found)",)
        for measure in (_latencies, _crowds):
            table = measure(plan, sizes, kinds, url)
            yield evolve(table, notes=(*table.notes, *notes))
        yield _polls(plan, sizes)


class _Child:
    """One of the processes."""

    def __init__(self, role: str, **work: object) -> None:
        """Start it."""
        command = [sys.executable, "-m", "benchmarks.sleepers", json.dumps({"role": role, **work})]
        self._process = subprocess.Popen(  # noqa: S603  our own module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT
        )

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        """Kill it, unless it has ended: when one has failed, the others would wait forever."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def hear(self) -> dict[str, float]:
        """Return what it says next."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            msg = "a process of the benchmark has failed, see above"
            raise RuntimeError(msg)
        found: dict[str, float] = json.loads(line)
        return found

    def close(self) -> dict[str, float]:
        """End its input, and return what it says to that, if anything."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        rest = self._process.stdout.read().splitlines()
        self._process.stdout.close()
        self._process.wait()
        return json.loads(rest[-1]) if rest else {}


@contextmanager
def _store(kind: str, url: str) -> Iterator[str]:
    """Give where an inbox of a kind is, fresh."""
    with TemporaryDirectory() as folder:
        yield f"{folder}/inbox.db" if kind == "sqlite" else f"{url}#{Path(folder).name}"


def _latencies(plan: Plan, sizes: _Sizes, kinds: list[str], url: str) -> Table:
    found = in_turn(kinds, plan.rounds, lambda kind: _latency(kind, sizes, url))
    rows = [Row(_KINDS[kind], _spreads(found[kind])) for kind in kinds]
    goals = [Goal(row=row.label, column="p99 ms", at_most=5.0 if row.label == _ACROSS[0] else 25.0) for row in rows]
    return Table(
        subject="waiting",
        title=f"webhook to awakened coroutine, signature verified, over HTTP, {_RATE:g} webhooks/s",
        columns=_LATENCY,
        rows=tuple(rows),
        goals=tuple(goals),
        notes=("CPU is of the process that receives; in one process the waits are part of it",),
    )


def _latency(kind: str, sizes: _Sizes, url: str) -> dict[str, float]:
    count = sizes.webhooks
    with ExitStack() as parts:
        where = parts.enter_context(_store(kind, url))
        work = {"inbox": kind, "where": where}
        waiter = parts.enter_context(_Child("wait", count=count, serves=kind == "memory", **work))
        port = waiter.hear()["port"]
        receiver = None if kind == "memory" else parts.enter_context(_Child("receive", **work))
        if receiver is not None:
            port = receiver.hear()["port"]
        sender = parts.enter_context(_Child("post", count=count, rate=_RATE, url=f"http://127.0.0.1:{port}/"))
        posted = sender.hear()
        waited = waiter.hear()
        woken: Mapping[str, int] = waited["woken"]  # type: ignore[assignment]
        took = waited["seconds"] if receiver is None else receiver.close()["seconds"]
        sender.close()
        waiter.close()
    step = 1e9 / _RATE
    late = sorted((woken[f"s{number}"] - posted["began"] - number * step) / _NS for number in range(count))
    return {
        "p50 ms": statistics.median(late),
        "p99 ms": late[int(0.99 * (count - 1))],
        "worst ms": late[-1],
        "webhooks/s": posted["reached"],
        "CPU ms/webhook": took * 1000 / count,
    }


def _crowds(plan: Plan, sizes: _Sizes, kinds: list[str], url: str) -> Table:
    crowds = kinds[:1] if plan.smoke else kinds
    # One round: a hundred thousand records, each a commit or two round trips, take minutes.
    found = in_turn(crowds, 1, lambda kind: _crowd(kind, sizes, url))
    rows = [Row(_KINDS[kind].partition(",")[0], _spreads(found[kind])) for kind in crowds]
    goals = [
        Goal(row=row.label, column=column, at_most=bound)
        for row in rows
        for column, bound in (("KiB/wait", 3.0), ("idle CPU %", 1.0))
    ]
    return Table(
        subject="waiting",
        title=f"{sizes.crowd:,} coroutines that wait in one process, each with its task and session object",
        columns=_CROWD,
        rows=tuple(rows),
        goals=tuple(goals),
    )


def _crowd(kind: str, sizes: _Sizes, url: str) -> dict[str, float]:
    with (
        _store(kind, url) as where,
        _Child("crowd", inbox=kind, where=where, count=sizes.crowd, idle=sizes.idle) as child,
    ):
        found = child.hear()
        child.close()
    values = (found["bytes"] / _KIB, found["idle"] * 100, found["recorded"], found["woken"] - found["recorded"])
    return dict(zip(_CROWD, values, strict=True))


def _polls(plan: Plan, sizes: _Sizes) -> Table:
    names = {f"{count:,} waits, {rate:g}/s": (count, rate, seconds) for count, rate, seconds in sizes.polled}
    found = in_turn(list(names), min(plan.rounds, 3), lambda name: _polled(*names[name]))
    rows = tuple(Row(name, _spreads(found[name])) for name in names)
    title = (
        "waits without webhooks: polls a minute against the configured rate, and how often each session was asked for"
    )
    goals = tuple(
        Goal(row=row.label, column=column, at_most=bound, of="worst round")
        for row in rows
        for column, bound in (("of the rate", 1.01), ("apart", 1.0))
    )
    return Table(subject="waiting", title=title, columns=_POLLS, rows=rows, goals=goals)


def _polled(count: int, rate: float, seconds: float) -> dict[str, float]:
    # As short a pause as makes every session wait for its turn, so that the rate is the bound.
    longest = max(0.01, 0.5 * count / rate)
    with _Child("undecided") as server:
        url = f"http://127.0.0.1:{server.hear()['port']}"
        with _Child("poll", count=count, rate=rate, seconds=seconds, longest=longest, url=url) as asker:
            heard = asker.hear()
            asker.close()
        asked: list[int] = server.close()["asked"]  # type: ignore[assignment]
    least = asked[0] if len(asked) == count else 0
    minute = heard["requests"] / seconds * 60
    counts = (float(asked[-1]), float(least), float(asked[-1] - least))
    figures = (minute, minute / (rate * 60), *counts, heard["cpu"] * 1000)
    return dict(zip(_POLLS, figures, strict=True))


def _spreads(rounds: list[dict[str, float]]) -> dict[str, Spread]:
    return {column: Spread.of(figures[column] for figures in rounds) for column in rounds[0]}
