"""Many verifications: a batch with its journal, against a loop without one; run as a process, see `work`.

The bare loop is the least code of this library that verifies as many people: as many tasks as the batch has seats, each
calling `VeriffClient.verify` for the next person. It saves nothing, so a crash loses every session that it paid for.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from benchmarks.measure import Spread, ratios
from benchmarks.sink import running_sink
from benchmarks.table import Goal, Row, Table
from benchmarks.uploads import write
from benchmarks.work import KEY, MIB, SECRET, Work, answer_asked, samples
from veriff_async import Credentials, Media, PollPolicy, VeriffClient
from veriff_async.batch import Job, MemoryJournal, RateLimits, SqliteJournal, verify_many

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from benchmarks.measure import Plan
    from benchmarks.work import Contender, Once, Sample

__all__ = ("run",)

_SHOWS: Final = ("document-front", "document-back", "face")
_WINDOW: Final = 32
_LOOP: Final = "a bare loop"
_SQLITE: Final = "verify_many, SQLite"
_MEMORY: Final = "verify_many, memory"
_RATE, _CPU_RATE = f"x {_LOOP}", f"per CPU second x {_LOOP}"
_COLUMNS: Final = (_RATE, _CPU_RATE, "CPU ms/session", "sessions/s", "MiB in all", "worst lag ms")
_GOALS: Final = {_SQLITE: 0.75, _MEMORY: 0.85}
_FEW, _MANY, _SMOKE = 500, 5000, 40
_GOAL_SIZE: Final = 250_000
_LOADS: Final = ((_FEW, _GOAL_SIZE), (_FEW, 20_000), (_MANY, 20_000))
"""Jobs, and bytes of each picture."""


def _client(work: Work) -> VeriffClient:
    poll = PollPolicy(interval=0.01, max_interval=0.05, backoff_factor=1.5, max_rate=1000)
    return VeriffClient(Credentials(KEY, SECRET), base_url=work.base_url, poll=poll)


def _media(path: Path) -> list[Media]:
    return [Media(path, shows) for shows in _SHOWS]


@asynccontextmanager
async def _batch(work: Work, *, jobs: int, on_disk: bool) -> AsyncIterator[Once]:
    with TemporaryDirectory() as folder:

        async def once(paths: Sequence[Path]) -> None:
            count = len(paths) if paths[0] == Path(work.warm) else jobs
            name = f"{count}.db"

            def given() -> Iterator[Job]:
                for number in range(count):
                    yield Job(f"user-{number}", _media(paths[number % len(paths)]))

            async with (
                _client(work) as veriff,
                SqliteJournal(Path(folder, name)) if on_disk else MemoryJournal() as journal,
            ):
                # The sink has no rate limit, and the slow start of a batch is not compared here.
                pace = RateLimits(initial=10_000.0, maximum=10_000.0)
                async for result in verify_many(
                    veriff, given(), journal=journal, concurrency=_WINDOW, rate_limits=pace
                ):
                    assert result.decision is not None, result.error

        yield once


@asynccontextmanager
async def _loop(work: Work, *, jobs: int) -> AsyncIterator[Once]:
    async def once(paths: Sequence[Path]) -> None:
        numbers = iter(range(len(paths) if paths[0] == Path(work.warm) else jobs))
        async with _client(work) as veriff:

            async def work_on() -> None:
                for number in numbers:
                    decision = await veriff.verify(
                        media=_media(paths[number % len(paths)]), vendor_data=f"user-{number}"
                    )
                    assert decision.is_approved

            await asyncio.gather(*(work_on() for _ in range(_WINDOW)))

    yield once


def _contenders(jobs: int) -> dict[str, Contender]:
    return {
        f"{_SQLITE}, {jobs}": partial(_batch, jobs=jobs, on_disk=True),
        f"{_MEMORY}, {jobs}": partial(_batch, jobs=jobs, on_disk=False),
        f"{_LOOP}, {jobs}": partial(_loop, jobs=jobs),
    }


_ALL: Final[dict[str, Contender]] = _contenders(_SMOKE) | _contenders(_FEW) | _contenders(_MANY)


def run(plan: Plan) -> Iterator[Table]:
    """Verify many people, few and ten times as many: what a job costs, and that memory does not grow with them."""
    for jobs, size in ((_SMOKE, 20_000),) if plan.smoke else _LOADS:
        yield _table(jobs, size, plan)


def _table(jobs: int, size: int, plan: Plan) -> Table:
    names = tuple(_contenders(jobs))
    with TemporaryDirectory() as folder, running_sink() as port:
        files = [str(write(Path(folder, f"{number}.jpg"), size)) for number in range(8)]
        warm = str(write(Path(folder, "warm.jpg"), size))
        found = samples("benchmarks.batch", names, plan, Work(port=port, files=files, at_once=8, repeat=1, warm=warm))
    return Table(
        subject="batch",
        title=f"{jobs} jobs of 3 x {size // 1000} KB, {_WINDOW} at once, HTTP",
        columns=_COLUMNS,
        rows=tuple(Row(name, _cells(found[name], found[names[-1]], jobs)) for name in names),
        goals=tuple(
            Goal(row=f"{name}, {jobs}", column=column, at_least=rate)
            for name, rate in _GOALS.items()
            for column in (_RATE, _CPU_RATE)
            if size == _GOAL_SIZE
        ),
    )


def _cells(mine: Sequence[Sample], loop: Sequence[Sample], jobs: int) -> Mapping[str, Spread]:
    return {
        _RATE: ratios((sample.seconds for sample in loop), (sample.seconds for sample in mine)),
        _CPU_RATE: ratios((sample.cpu for sample in loop), (sample.cpu for sample in mine)),
        "CPU ms/session": Spread.of(sample.cpu * 1000 / jobs for sample in mine),
        "sessions/s": Spread.of(jobs / sample.seconds for sample in mine),
        "MiB in all": Spread.of(sample.growth / MIB for sample in mine),
        "worst lag ms": Spread.of(sample.lag * 1000 for sample in mine),
    }


if __name__ == "__main__":
    answer_asked(sys.argv[1], _ALL)
