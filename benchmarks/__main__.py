"""Run the benchmarks: ``python -m benchmarks``; ``--help`` names its options."""

from __future__ import annotations

import json
import os
import platform
import sys
import traceback
from argparse import ArgumentParser, ArgumentTypeError
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks import (
    batch,
    decoding,
    downloads,
    flow,
    imports,
    plot,
    relay,
    sandboxes,
    storage,
    synchronous,
    telemetry,
    threshold,
    uploads,
    waiting,
    webhooks,
)
from benchmarks.measure import Plan

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterable, Sequence

    from benchmarks.table import Table

_SUBJECTS: Final[dict[str, Callable[[Plan], Iterable[Table]]]] = {
    "uploads": uploads.run,
    "relay": relay.run,
    "downloads": downloads.run,
    "flow": flow.run,
    "batch": batch.run,
    "decoding": decoding.run,
    "webhooks": webhooks.run,
    "imports": imports.run,
    "threshold": threshold.run,
    "waiting": waiting.run,
    "storage": storage.run,
    "sandboxes": sandboxes.run,
    "synchronous": synchronous.run,
    "telemetry": telemetry.run,
}
_ROUNDS: Final = 7


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the subjects that were asked for and print their tables."""
    options = _options(arguments)
    rounds = options.rounds or (1 if options.smoke else _ROUNDS)
    plan = Plan(rounds=rounds, smoke=options.smoke, full=options.full)
    tables: list[Table] = []
    failed: list[str] = []
    for name in options.only or _SUBJECTS:
        print(f"{name}, rounds: {rounds} ...", file=sys.stderr)
        try:
            for table in _SUBJECTS[name](plan):
                tables.append(table)
                print(*table.lines(), "", sep="\n", flush=True)
                if options.json is not None:
                    _write(options.json, _report(plan, tables))
        except Exception:  # noqa: BLE001  a run of an hour goes on with what comes next
            traceback.print_exc()
            failed.append(name)
    if options.plot is not None:
        print(*plot.draw(tables, options.plot), sep="\n", file=sys.stderr)
    if failed:
        sys.exit(f"failed, see above: {', '.join(failed)}")


def _options(arguments: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(prog="python -m benchmarks", description="Tables of ratios measured in one run.")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: show that it runs; the figures mean nothing")
    parser.add_argument("--full", action="store_true", help="all sizes of uploads, at 1, 8 and 64 at once")
    parser.add_argument("--only", action="append", choices=tuple(_SUBJECTS), help="one subject; may be repeated")
    parser.add_argument("--rounds", type=_positive, metavar="N", help=f"rounds of each contender (default {_ROUNDS})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file too")
    parser.add_argument("--plot", type=Path, metavar="FOLDER", help="draw the ratios too, as PNG and SVG")
    options = parser.parse_args(arguments)
    if options.plot is not None and not plot.possible():
        parser.error(plot.MISSING)
    return options


def _write(path: Path, report: dict[str, object]) -> None:
    """Write what is known so far in one step, so that a run that is broken off leaves all that it found."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(json.dumps(report, indent=2) + "\n")
    unfinished.replace(path)


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        msg = "give a whole number from 1 on"
        raise ArgumentTypeError(msg)
    return int(text)


def _report(plan: Plan, tables: Sequence[Table]) -> dict[str, object]:
    machine = {
        "python": platform.python_version(),
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "aiohttp": version("aiohttp"),
    }
    return {
        "machine": machine,
        "rounds": plan.rounds,
        "smoke": plan.smoke,
        "tables": [table.as_json() for table in tables],
    }


if __name__ == "__main__":
    main()
