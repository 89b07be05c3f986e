"""Uploads from disk: throughput, processor time, memory and the loop's lag, against other ways to do the same."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from attrs import frozen

from benchmarks.contenders import CONTENDERS, NEEDS
from benchmarks.measure import Spread, ratios
from benchmarks.sink import running_sink
from benchmarks.table import Goal, Row, Table
from benchmarks.work import MIB, Needs, Work, cost_cells, samples, speed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.measure import Plan
    from benchmarks.work import Sample

__all__ = ("LIBRARY", "authority", "run", "write")

LIBRARY: Final = "veriff-async"
_MODULE: Final = "benchmarks.contenders"
_JPEG: Final = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
_OBVIOUS: Final = "x obvious code"
_SIGNED: Final = "x ready-made, signed"
_UNSIGNED: Final = "x ready-made, unsigned"
_THROUGHPUT: Final = {
    _OBVIOUS: "obvious code",
    _SIGNED: "ready-made, signed",
    _UNSIGNED: "ready-made, unsigned",
}
_CPU: Final = "CPU x obvious code"
_COSTS: Final = ("MiB/s", "CPU ms/MiB", "MiB/each", "worst lag ms")
_OUTSIDE: Final = frozenset({"MiB/each"})
"""Figures that say nothing about curl, which works in a process of its own: this loop only waits."""

_LARGE: Final = 17 * MIB
_SIZES: Final = {"17 MiB": _LARGE, "2 MiB": 2 * MIB, "250 KB": 250_000, "20 KB": 20_000}
_AT_ONCE: Final = (1, 8, 64)
_ENOUGH: Final = 24 * MIB
"""Bytes that are at least uploaded in one timing, so that it lasts some milliseconds."""


@frozen(kw_only=True)
class _Load:
    """One table: so many files of such a size at once.

    Attributes:
        title: What it is.
        size: Bytes of each file.
        at_once: Uploads side by side.
        repeat: Repetitions within one timing.
        tls: Whether it goes over TLS.
        together: Whether the server reads nothing before all have begun, so that all are under way at once. Only the
            library runs then: the others would need gigabytes, and throughput means nothing.
        goals: What is hoped for.
    """

    title: str
    size: int
    at_once: int
    repeat: int = 1
    tls: bool = False
    together: bool = False
    goals: tuple[Goal, ...] = ()

    @property
    def contenders(self) -> tuple[str, ...]:
        return (LIBRARY,) if self.together else tuple(CONTENDERS)

    @property
    def files(self) -> int:
        """Different files; they are used again when there are fewer than uploads."""
        return min(self.at_once, 8 if self.size >= MIB else 16)


def _at_least(column: str, figure: float) -> Goal:
    return Goal(row=LIBRARY, column=column, at_least=figure)


def _worst(column: str, figure: float) -> Goal:
    return Goal(row=LIBRARY, column=column, at_most=figure, of="worst round")


_LOADS: Final = (
    _Load(
        title="17 MiB x 8, HTTP",
        size=_LARGE,
        at_once=8,
        goals=(
            _at_least(_OBVIOUS, 6),
            _at_least(_SIGNED, 1.1),
            _at_least(_UNSIGNED, 0.8),
            _worst("MiB/each", 1),
            _worst("worst lag ms", 10),
        ),
    ),
    _Load(
        title="17 MiB x 8, TLS",
        size=_LARGE,
        at_once=8,
        tls=True,
        goals=(
            _at_least(_OBVIOUS, 5),
            _at_least(_SIGNED, 1.1),
            _at_least(_UNSIGNED, 0.93),
            _worst("MiB/each", 1),
            _worst("worst lag ms", 10),
        ),
    ),
    _Load(
        title="250 KB x 16, HTTP",
        size=250_000,
        at_once=16,
        repeat=6,
        goals=(_at_least(_OBVIOUS, 2), _at_least(_UNSIGNED, 0.75), _worst("MiB/each", 1)),
    ),
    _Load(title="20 KB x 16, HTTP", size=20_000, at_once=16, repeat=40, goals=(_at_least(_OBVIOUS, 1),)),
    _Load(
        title="17 MiB x 64, all under way before the server reads",
        size=_LARGE,
        at_once=64,
        together=True,
        goals=(_worst("MiB in all", 80), _worst("MiB/each", 1)),
    ),
)
_FULL: Final = tuple(
    _Load(
        title=f"{name} x {at_once}, {'TLS' if tls else 'HTTP'}",
        size=size,
        at_once=at_once,
        tls=tls,
        repeat=max(1, _ENOUGH // (size * at_once)),
    )
    for name, size in _SIZES.items()
    for at_once in _AT_ONCE
    for tls in (False, True)
    if (size, at_once) != (_LARGE, 8)  # a goal's row already
)
_SMOKE: Final = (
    _Load(title="400 KB x 2, HTTP", size=400_000, at_once=2),
    _Load(title="400 KB x 2, TLS", size=400_000, at_once=2, tls=True),
    _Load(title="400 KB x 4, all under way before the server reads", size=400_000, at_once=4, together=True),
)


def run(plan: Plan) -> Iterator[Table]:
    """Upload all loads with all contenders."""
    loads = _SMOKE if plan.smoke else _LOADS + _FULL if plan.full else _LOADS
    with TemporaryDirectory() as name:
        folder = Path(name)
        warm = write(folder / "warm.jpg", 1000)
        yield from (_table(load, plan, warm) for load in loads)


def _table(load: _Load, plan: Plan, warm: Path) -> Table:
    why_not = {name: why for name in load.contenders if (why := NEEDS.get(name, Needs()).missing) is not None}
    contenders = tuple(name for name in load.contenders if name not in why_not)
    notes = tuple(f"left out: {name} ({why})" for name, why in why_not.items())
    if load.tls and (why := Needs(modules=("trustme",)).missing) is not None:
        return Table(subject="uploads", title=load.title, columns=(), rows=(), notes=(f"left out: {why}",))
    paths = [warm.with_name(f"{load.size}-{number}.jpg") for number in range(load.files)]
    files = [str(path if path.exists() else write(path, load.size)) for path in paths]
    with (
        authority(warm.parent, tls=load.tls) as (certificate, trusted),
        running_sink(together=load.at_once if load.together else 1, certificate=certificate) as port,
    ):
        work = Work(port=port, files=files, at_once=load.at_once, repeat=load.repeat, warm=str(warm), authority=trusted)
        found = samples(_MODULE, contenders, plan, work)
    rows = tuple(Row(contender, _cells(contender, found, load)) for contender in contenders)
    columns = ("MiB/each", "MiB in all", "worst lag ms") if load.together else (*_THROUGHPUT, _CPU, *_COSTS)
    return Table(subject="uploads", title=load.title, columns=columns, rows=rows, goals=load.goals, notes=notes)


def _cells(contender: str, found: Mapping[str, Sequence[Sample]], load: _Load) -> dict[str, Spread]:
    mine = found[contender]
    cells = cost_cells(mine, moved=load.size * load.at_once * load.repeat, at_once=load.at_once)
    if load.together:
        cells["MiB in all"] = Spread.of(sample.growth / MIB for sample in mine)
    if contender.startswith("curl"):
        cells = {column: figure for column, figure in cells.items() if column not in _OUTSIDE}
    cells |= {column: speed(mine, found[other]) for column, other in _THROUGHPUT.items() if other in found}
    if (base := found.get(_THROUGHPUT[_OBVIOUS])) is not None:
        cells[_CPU] = ratios((sample.cpu for sample in mine), (sample.cpu for sample in base))
    return cells


@contextmanager
def authority(folder: Path, *, tls: bool) -> Iterator[tuple[str, str]]:
    """Make an authority for a minute: a file with a server's key and certificate, and one to trust it by.

    Both names are empty without TLS.
    """
    if not tls:
        yield "", ""
        return
    import trustme  # noqa: PLC0415  of the extra

    made, certificate, trusted = trustme.CA(), folder / "server.pem", folder / "authority.pem"
    made.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    made.cert_pem.write_to_path(str(trusted))
    yield str(certificate), str(trusted)


def write(path: Path, size: int) -> Path:
    """Write a file that begins as a JPEG does; the rest cannot be compressed, like one."""
    path.write_bytes(_JPEG + os.urandom(size - len(_JPEG)))
    return path
