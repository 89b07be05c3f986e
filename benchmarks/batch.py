"""Many verifications: a batch with its journal, against a loop without one; run as a process, see `work`."""

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
from benchmarks.table import Row, Table
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
_SIZE: Final = 20_000
_COLUMNS: Final = (f"x {_LOOP}", f"CPU x {_LOOP}", "sessions/s", "MiB in all", "worst lag ms")
_FEW, _MANY, _SMOKE = 500, 5000, 40


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
    """Do what one would write: as many tasks as the window has seats, each taking the next job."""

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
        f"verify_many, SQLite, {jobs}": partial(_batch, jobs=jobs, on_disk=True),
        f"verify_many, memory, {jobs}": partial(_batch, jobs=jobs, on_disk=False),
        f"{_LOOP}, {jobs}": partial(_loop, jobs=jobs),
    }


_ALL: Final[dict[str, Contender]] = _contenders(_SMOKE) | _contenders(_FEW) | _contenders(_MANY)


def run(plan: Plan) -> list[Table]:
    """Verify many people, few and ten times as many: what a job costs, and that memory does not grow with them."""
    return [_table(jobs, plan) for jobs in ((_SMOKE,) if plan.smoke else (_FEW, _MANY))]


def _table(jobs: int, plan: Plan) -> Table:
    names = tuple(_contenders(jobs))
    with TemporaryDirectory() as folder, running_sink() as port:
        file = str(write(Path(folder, "front.jpg"), _SIZE))
        warm = str(write(Path(folder, "warm.jpg"), _SIZE))
        found = samples("benchmarks.batch", names, plan, Work(port=port, files=[file], at_once=8, repeat=1, warm=warm))
    return Table(
        subject="batch",
        title=f"{jobs} jobs of 3 x {_SIZE // 1000} KB, {_WINDOW} at once, HTTP",
        columns=_COLUMNS,
        rows=tuple(Row(name, _cells(found[name], found[names[-1]], jobs)) for name in names),
    )


def _cells(mine: Sequence[Sample], loop: Sequence[Sample], jobs: int) -> Mapping[str, Spread]:
    return {
        f"x {_LOOP}": ratios((sample.seconds for sample in loop), (sample.seconds for sample in mine)),
        f"CPU x {_LOOP}": ratios((sample.cpu for sample in mine), (sample.cpu for sample in loop)),
        "sessions/s": Spread.of(jobs / sample.seconds for sample in mine),
        "MiB in all": Spread.of(sample.growth / MIB for sample in mine),
        "worst lag ms": Spread.of(sample.lag * 1000 for sample in mine),
    }


if __name__ == "__main__":
    answer_asked(sys.argv[1], _ALL)
