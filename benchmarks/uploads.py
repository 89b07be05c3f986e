"""Uploads from disk: processor time, throughput, memory and the loop's lag, against the least code that signs."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from attrs import frozen

from benchmarks.contenders import CONTENDERS
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
_JPEG: Final = bytes.fromhex(
    "ffd8 ffe0 0010 4a46494600 0101 00 0001 0001 0000"  # JFIF
    "ffc0 0011 08 0438 0780 03 012200 021101 031101"  # 1920 x 1080 pixels in colour
    "ffda 000c 03 0100 0211 0311 003f00"  # the coded pixels follow
)
_LEAST: Final = "least code"
_ONE_CALL: Final = "one call"
_CPU: Final = f"CPU x {_LEAST}"
_CPU_ONE_CALL: Final = f"{_ONE_CALL}: {_CPU}"
_COSTS: Final = ("CPU ms/each", "MiB/s", "MiB/each", "worst lag ms")
_LARGE: Final = 17 * MIB


@frozen(kw_only=True)
class _Load:
    """One row: so many files of such a size at once.

    Attributes:
        title: Its name.
        size: Bytes of each file.
        at_once: Uploads side by side.
        repeat: Repetitions within one timing, so that it lasts a tenth of a second at least.
        cpu: Goal for the processor time against the least code.
    """

    title: str
    size: int
    at_once: int
    repeat: int = 1
    cpu: float | None = None

    @property
    def files(self) -> int:
        """Different files; they are used again when there are fewer than uploads."""
        return min(self.at_once, 8 if self.size >= MIB else 16)

    @property
    def goals(self) -> tuple[Goal, ...]:
        """The goals of a table with this load."""
        if self.cpu is None:
            return ()
        cpu = tuple([Goal(row=self.title, column=column, at_most=self.cpu) for column in (_CPU, _CPU_ONE_CALL)])
        if self.size < _LARGE:
            return cpu
        memory = Goal(row=self.title, column="MiB/each", at_most=1, of="worst round")
        return (*cpu, memory, Goal(row=self.title, column="worst lag ms", at_most=5))


@frozen(kw_only=True)
class _Way:
    """One table: how files go to the server.

    Attributes:
        title: Its name.
        tls: Whether it is TLS.
        uvloop: Whether the event loop is uvloop's.
    """

    title: str
    tls: bool = False
    uvloop: bool = False

    @property
    def missing(self) -> str | None:
        """Say what is not installed."""
        return Needs(modules=("trustme",) * self.tls + ("uvloop",) * self.uvloop).missing


_LOADS: Final = (
    _Load(title="20 KB x 16", size=20_000, at_once=16, repeat=40, cpu=1.25),
    _Load(title="250 KB x 16", size=250_000, at_once=16, repeat=12, cpu=1.2),
    _Load(title="1 MB x 16", size=1_000_000, at_once=16, repeat=4, cpu=1.15),
    _Load(title="3 MB x 8", size=3_000_000, at_once=8, repeat=4, cpu=1.15),
    _Load(title="17 MiB x 8", size=_LARGE, at_once=8, cpu=0.85),
)
_SMOKE: Final = (_Load(title="400 KB x 2", size=400_000, at_once=2),)
_HELD_BACK: Final = _Load(title="17 MiB x 64", size=_LARGE, at_once=64)
_HELD_BACK_SMOKE: Final = _Load(title="400 KB x 4", size=400_000, at_once=4)
_WAYS: Final = (_Way(title="HTTP"), _Way(title="TLS", tls=True), _Way(title="HTTP, uvloop", uvloop=True))


def run(plan: Plan) -> Iterator[Table]:
    """Upload all loads in all ways, with all contenders if `plan` is full."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        for way in _WAYS:
            yield _table(way, _SMOKE if plan.smoke else _LOADS, plan, folder)
        yield _held_back(_HELD_BACK_SMOKE if plan.smoke else _HELD_BACK, plan, folder)


def _table(way: _Way, loads: Sequence[_Load], plan: Plan, folder: Path) -> Table:
    if (why := way.missing) is not None:
        return Table(subject="uploads", title=way.title, columns=(), rows=(), notes=(f"left out: {why}",))
    contenders = tuple(CONTENDERS) if plan.full or plan.smoke else (LIBRARY, _ONE_CALL, _LEAST)
    rows: list[Row] = []
    with authority(folder, tls=way.tls) as (certificate, trusted), running_sink(certificate=certificate) as port:
        for load in loads:
            work = _work(load, folder, port, authority=trusted, uvloop=way.uvloop)
            rows.append(Row(load.title, _cells(samples(_MODULE, contenders, plan, work), load)))
    columns = [_CPU, _CPU_ONE_CALL, f"speed x {_LEAST}"]
    columns += [f"CPU x {other}" for other in contenders if other not in {LIBRARY, _ONE_CALL, _LEAST}]
    return Table(
        subject="uploads",
        title=way.title,
        columns=(*columns, *_COSTS),
        rows=tuple(rows),
        goals=tuple(goal for load in loads for goal in load.goals),
    )


def _held_back(load: _Load, plan: Plan, folder: Path) -> Table:
    """Measure the memory of uploads that are all under way before the server reads, as on a slow network.

    Only the library runs: the others would need gigabytes.
    """
    with running_sink(together=load.at_once) as port:
        found = samples(_MODULE, (LIBRARY,), plan, _work(load, folder, port))[LIBRARY]
    cells = cost_cells(found, moved=load.size * load.at_once, at_once=load.at_once)
    cells["MiB in all"] = Spread.of(sample.growth / MIB for sample in found)
    goals = (Goal(row=load.title, column="MiB in all", at_most=80, of="worst round"),)
    return Table(
        subject="uploads",
        title="all under way before the server reads",
        columns=("MiB in all", "MiB/each", "worst lag ms"),
        rows=(Row(load.title, cells),),
        goals=() if plan.smoke else goals,
    )


def _work(load: _Load, folder: Path, port: int, *, authority: str = "", uvloop: bool = False) -> Work:
    paths = [folder / f"{load.size}-{number}.jpg" for number in range(load.files)]
    return Work(
        port=port,
        files=[str(path if path.exists() else write(path, load.size)) for path in paths],
        at_once=load.at_once,
        repeat=load.repeat,
        warm=str(write(folder / "warm.jpg", 1000)),
        authority=authority,
        uvloop=uvloop,
    )


def _cells(found: Mapping[str, Sequence[Sample]], load: _Load) -> dict[str, Spread]:
    mine, uploads = found[LIBRARY], load.at_once * load.repeat
    cells = cost_cells(mine, moved=load.size * uploads, at_once=load.at_once)
    cells["CPU ms/each"] = Spread.of(sample.cpu * 1000 / uploads for sample in mine)
    cells[f"speed x {_LEAST}"] = speed(mine, found[_LEAST])
    cells[_CPU_ONE_CALL] = _cpu(found[_ONE_CALL], found[_LEAST])
    return cells | {f"CPU x {other}": _cpu(mine, theirs) for other, theirs in found.items()}


def _cpu(mine: Sequence[Sample], others: Sequence[Sample]) -> Spread:
    return ratios((sample.cpu for sample in mine), (sample.cpu for sample in others))


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
