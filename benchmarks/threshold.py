"""From which size on a body is better signed in a worker thread than on the loop.

Encoding and signing a small body takes less time than asking a thread for it. The library keeps a body of up to this
size inline; the table shows where that ends, for one body on an idle loop and for sixteen at once.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Final

from anyio import to_thread

from benchmarks.measure import in_turn, ratios
from benchmarks.table import Row, Table
from veriff_async._protocol.signing import sign
from veriff_async._protocol.upload_body import image_body_template
from veriff_async.models.enums import MediaContext

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from benchmarks.measure import Plan, Spread

__all__ = ("run",)

_KIB: Final = 1024
_SIZES: Final = (4, 16, 32, 64, 128, 256, 512, 1024)
_SMOKE_SIZES: Final = (4, 64)
_AT_ONCE: Final = 16
_ALONE: Final = "x inline, one"
_MANY: Final = f"x inline, {_AT_ONCE} at once"
_ENOUGH: Final = 8 * _KIB * _KIB
"""Bytes that are signed in one timing, so that it lasts some milliseconds."""


def run(plan: Plan) -> list[Table]:
    """Sign bodies of several sizes on the loop and in a thread."""
    sizes = _SMOKE_SIZES if plan.smoke else _SIZES
    rows = tuple(_row(size * _KIB, plan) for size in sizes)
    title = "time to encode and sign a body in a worker thread (below 1: a thread is better)"
    return [Table(subject="threshold", title=title, columns=(_ALONE, _MANY), rows=rows)]


def _row(size: int, plan: Plan) -> Row:
    raw = os.urandom(size // 4 * 3)
    template = image_body_template(MediaContext.DOCUMENT_FRONT, "image/jpeg")

    def work() -> None:
        sign("benchmark-secret", b"".join(template.wrap([raw])))

    async def inline() -> None:
        work()

    async def in_thread() -> None:
        await to_thread.run_sync(work)

    ways = {"inline": inline, "thread": in_thread}
    enough = _ENOUGH // 16 if plan.smoke else _ENOUGH
    cells: dict[str, Spread] = {}
    for column, at_once in ((_ALONE, 1), (_MANY, _AT_ONCE)):
        repeat = max(1, min(400, enough // size) // at_once)

        def once(way: str, at_once: int = at_once, repeat: int = repeat) -> float:
            return asyncio.run(_seconds(ways[way], at_once, repeat))

        found = in_turn(tuple(ways), plan.rounds, once)
        cells[column] = ratios(found["thread"], found["inline"])
    return Row(f"{size // _KIB} KiB", cells)


async def _seconds(work: Callable[[], Awaitable[None]], at_once: int, repeat: int) -> float:
    await asyncio.gather(*(work() for _ in range(at_once)))  # threads are started here
    began = time.perf_counter()
    for _ in range(repeat):
        await asyncio.gather(*(work() for _ in range(at_once)))
    return time.perf_counter() - began
