"""Uploads from disk: throughput, processor time, memory and the loop's lag, against other ways to do the same."""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from attrs import asdict, frozen

from benchmarks.contenders import CONTENDERS, Sample, Work
from benchmarks.measure import Spread, in_turn, ratios, run_module
from benchmarks.sink import running_sink
from benchmarks.table import Goal, Row, Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.measure import Plan

__all__ = ("run",)

_MIB: Final = 1 << 20
_JPEG: Final = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
_LIBRARY: Final = "veriff-async"
_OBVIOUS: Final = "x obvious code"
_UNSIGNED: Final = "x ready-made, unsigned"
_SIGNED: Final = "x ready-made, signed"
_THROUGHPUT: Final = {
    _OBVIOUS: "obvious code",
    _UNSIGNED: "ready-made, unsigned",
    _SIGNED: "ready-made, signed",
}
_CPU: Final = "CPU x obvious code"
_MEMORY: Final = "MiB/upload"
_ALL_MEMORY: Final = "MiB in all"
_LAG: Final = "worst lag ms"


@frozen(kw_only=True)
class _Load:
    """One table: so many files of such a size at once.

    Attributes:
        title: What it is.
        size: Bytes of each file.
        at_once: Uploads side by side.
        files: Different files; they are used again when there are fewer than uploads.
        repeat: Repetitions within one timing.
        together: Whether the server reads nothing before all have begun, so that all are under way at once. Only the
            library runs then: the others would need gigabytes, and throughput means nothing.
        goals: What is hoped for.
    """

    title: str
    size: int
    at_once: int
    files: int
    repeat: int = 1
    together: bool = False
    goals: tuple[Goal, ...] = ()

    @property
    def contenders(self) -> tuple[str, ...]:
        return (_LIBRARY,) if self.together else tuple(CONTENDERS)


_LOADS: Final = (
    _Load(
        title="8 x 17 MiB at once",
        size=17 * _MIB,
        at_once=8,
        files=8,
        goals=(
            Goal(row=_LIBRARY, column=_OBVIOUS, at_least=6),
            Goal(row=_LIBRARY, column=_UNSIGNED, at_least=0.75),
            Goal(row=_LIBRARY, column=_MEMORY, at_most=1.5, of="worst round"),
            Goal(row=_LIBRARY, column=_LAG, at_most=25, of="worst round"),
        ),
    ),
    _Load(title="16 x 250 KB at once", size=250_000, at_once=16, files=16, repeat=4),
    _Load(title="16 x 20 KB at once", size=20_000, at_once=16, files=16, repeat=20),
    _Load(
        title="64 x 17 MiB, all under way before the server reads",
        size=17 * _MIB,
        at_once=64,
        files=8,
        together=True,
        goals=(Goal(row=_LIBRARY, column=_MEMORY, at_most=1.5, of="worst round"),),
    ),
)
_SMOKE: Final = (
    _Load(title="2 x 400 KB at once", size=400_000, at_once=2, files=2),
    _Load(title="4 x 400 KB, all under way before the server reads", size=400_000, at_once=4, files=2, together=True),
)


def run(plan: Plan) -> list[Table]:
    """Upload all loads with all contenders."""
    with TemporaryDirectory() as folder:
        warm = _write(Path(folder, "warm.jpg"), 1000)
        return [_table(load, plan, warm) for load in (_SMOKE if plan.smoke else _LOADS)]


def _table(load: _Load, plan: Plan, warm: Path) -> Table:
    paths = [warm.with_name(f"{load.size}-{number}.jpg") for number in range(load.files)]
    files = [str(path if path.exists() else _write(path, load.size)) for path in paths]
    with running_sink(together=load.at_once if load.together else 1) as port:
        work = Work(port=port, files=files, at_once=load.at_once, repeat=load.repeat, warm=str(warm))
        samples = _samples(load, plan, work)
    rows = tuple(Row(contender, _cells(contender, samples, load.at_once)) for contender in load.contenders)
    columns = (_MEMORY, _ALL_MEMORY, _LAG) if load.together else (*_THROUGHPUT, _CPU, _MEMORY, _LAG)
    return Table(subject="uploads", title=load.title, columns=columns, rows=rows, goals=load.goals)


def _samples(load: _Load, plan: Plan, work: Work) -> dict[str, list[Sample]]:
    def once(contender: str) -> Sample:
        argument = json.dumps({"contender": contender, "work": asdict(work)})
        return Sample(**json.loads(run_module("benchmarks.contenders", argument)))

    return in_turn(load.contenders, plan.rounds, once)


def _cells(contender: str, samples: Mapping[str, Sequence[Sample]], at_once: int) -> dict[str, Spread]:
    mine = samples[contender]
    cells = {
        _MEMORY: Spread.of(sample.growth / _MIB / at_once for sample in mine),
        _ALL_MEMORY: Spread.of(sample.growth / _MIB for sample in mine),
        _LAG: Spread.of(sample.lag * 1000 for sample in mine),
    }
    for column, other in _THROUGHPUT.items():
        if other in samples:
            cells[column] = ratios((sample.seconds for sample in samples[other]), (sample.seconds for sample in mine))
    if (base := samples.get(_THROUGHPUT[_OBVIOUS])) is not None:
        cells[_CPU] = ratios((sample.cpu for sample in mine), (sample.cpu for sample in base))
    return cells


def _write(path: Path, size: int) -> Path:
    """Write a file that begins as a JPEG does; the rest cannot be compressed, like one."""
    path.write_bytes(_JPEG + os.urandom(size - len(_JPEG)))
    return path
