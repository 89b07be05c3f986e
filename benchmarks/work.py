"""One work that several contenders do, each in a fresh process, and what it cost them.

A module with contenders is run as a process: it lets one of them do one work once, and prints a sample. What one
contender left in memory helps or harms no other.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import time
from contextlib import asynccontextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Final, TypeAlias

from attrs import asdict, frozen

from benchmarks.measure import Lag, Memory, Spread, in_turn, ratios, run_module

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from benchmarks.measure import Plan

__all__ = (
    "HEADERS",
    "KEY",
    "MIB",
    "SECRET",
    "Contender",
    "Needs",
    "Once",
    "Sample",
    "Work",
    "answer_asked",
    "cost_cells",
    "cpu",
    "measuring",
    "samples",
    "speed",
)

KEY: Final = "6f1c0f43-9a35-4d1e-8a46-0d5a3f7b9c21"
SECRET: Final = "benchmark-secret"  # noqa: S105  a made-up one, which the sink knows too
HEADERS: Final = {"X-AUTH-CLIENT": KEY, "Content-Type": "application/json"}
MIB: Final = 1 << 20

Once: TypeAlias = "Callable[[Sequence[Path]], Awaitable[None]]"
"""Does one repetition of a work, with the files it is given."""

Contender: TypeAlias = "Callable[[Work], AbstractAsyncContextManager[Once]]"


@frozen(kw_only=True)
class Work:
    """The work of every contender.

    Attributes:
        port: Where the sink listens.
        files: What is uploaded, or where downloads go.
        at_once: How many run side by side; files are used again when there are fewer.
        repeat: How often this is done in a row, so that small works last long enough to be timed.
        warm: A small file that goes first, as often, so that connections and code are ready.
        authority: The file with the authority that signed the sink's certificate, or nothing for plain HTTP.
        uvloop: Whether the event loop is uvloop's.
    """

    port: int
    files: Sequence[str]
    at_once: int
    repeat: int
    warm: str
    authority: str = ""
    uvloop: bool = False

    @property
    def batch(self) -> list[Path]:
        """The files of one repetition."""
        return [Path(self.files[number % len(self.files)]) for number in range(self.at_once)]

    @property
    def base_url(self) -> str:
        """Where the sink is."""
        return f"{'https' if self.authority else 'http'}://127.0.0.1:{self.port}"


@frozen(kw_only=True)
class Sample:
    """The cost of one run.

    Attributes:
        seconds: From the first start to the last end.
        cpu: Processor seconds of the client process, and of what it started.
        growth: Bytes that the process grew at its peak.
        lag: Longest delay of the loop, in seconds.
    """

    seconds: float
    cpu: float
    growth: int
    lag: float


@frozen
class Needs:
    """Modules and commands that a contender needs on this machine."""

    modules: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()

    @property
    def missing(self) -> str | None:
        """Say what is not here, and how it comes here."""
        if lacking := [name for name in self.modules if not _is_installed(name)]:
            return f"{', '.join(lacking)} not installed, see the group bench"
        if lacking := [name for name in self.commands if which(name) is None]:
            return f"no {', '.join(lacking)} on this machine"
        return None


def _is_installed(module: str) -> bool:
    with suppress(ModuleNotFoundError):  # a package above it
        return find_spec(module) is not None
    return False


@asynccontextmanager
async def measuring(found: list[Sample]) -> AsyncIterator[None]:
    """Measure what is done inside the block, and add the sample."""
    gc.collect()
    with Memory() as memory:
        async with Lag() as lag:
            cpu, began = _cpu(), time.perf_counter()
            yield
            seconds, cpu = time.perf_counter() - began, _cpu() - cpu
    found.append(Sample(seconds=seconds, cpu=cpu, growth=memory.growth, lag=lag.worst))


def _cpu() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


async def _sample(contender: Contender, work: Work) -> Sample:
    """Let a contender do the work, once it is warm."""
    batch, found = work.batch, list[Sample]()
    async with contender(work) as once:
        await once([Path(work.warm)] * work.at_once)
        async with measuring(found):
            for _ in range(work.repeat):
                await once(batch)
    return found[0]


def answer_asked(argument: str, contenders: Mapping[str, Contender]) -> None:
    """Do what the JSON says, and print the samples as JSON: the other side of `samples`."""
    asked = json.loads(argument)
    work = Work(**asked["work"])
    print(json.dumps([asdict(_run(_sample(contenders[name], work), work)) for name in asked["contenders"]]))


def _run(sample: Coroutine[object, object, Sample], work: Work) -> Sample:
    if not work.uvloop:
        return asyncio.run(sample)
    import uvloop  # noqa: PLC0415  of the extra

    return uvloop.run(sample)


def samples(module: str, contenders: Sequence[str], plan: Plan, work: Work) -> dict[str, list[Sample]]:
    """Let contenders of a module take turns with the work, each time in a fresh process.

    A smoke run has one process for all of them: starting them takes the longest, and its figures mean nothing.
    """

    def run(names: Sequence[str]) -> list[Sample]:
        argument = json.dumps({"contenders": names, "work": asdict(work)})
        return [Sample(**found) for found in json.loads(run_module(module, argument, authority=work.authority))]

    if plan.smoke:
        return {name: [found] for name, found in zip(contenders, run(contenders), strict=True)}
    return in_turn(contenders, plan.rounds, lambda name: run([name])[0])


def speed(mine: Sequence[Sample], others: Sequence[Sample]) -> Spread:
    """How many times as much was done in the same time."""
    return ratios((sample.seconds for sample in others), (sample.seconds for sample in mine))


def cpu(mine: Sequence[Sample], others: Sequence[Sample]) -> Spread:
    """How many times as much processor time was used; less is better."""
    return ratios((sample.cpu for sample in mine), (sample.cpu for sample in others))


def cost_cells(mine: Sequence[Sample], *, moved: int, at_once: int) -> dict[str, Spread]:
    """Return what a work cost, for the columns that all tables of work share.

    Args:
        mine: The samples of one contender.
        moved: Bytes of files that went over the wire in one run.
        at_once: How many ran side by side.
    """
    return {
        "MiB/s": Spread.of(moved / MIB / sample.seconds for sample in mine),
        "CPU ms/MiB": Spread.of(sample.cpu * 1000 / (moved / MIB) for sample in mine),
        "MiB/each": Spread.of(sample.growth / MIB / at_once for sample in mine),
        "worst lag ms": Spread.of(sample.lag * 1000 for sample in mine),
    }
