"""Relaying: what comes in goes on to Veriff without ever being held whole, against the least relay that signs.

Three processes: one that sends, the one that is measured, and the sink.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import subprocess
import sys
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import TYPE_CHECKING, Final

from aiohttp import ClientSession, ClientTimeout, web
from attrs import frozen
from pybase64 import b64encode

from benchmarks import contenders, rivals
from benchmarks.sender import MORE
from benchmarks.sink import MEDIA_PATH, SESSION_ID, running_sink
from benchmarks.table import Goal, Row, Table
from benchmarks.uploads import LIBRARY, write
from benchmarks.work import HEADERS, KEY, MIB, SECRET, Work, answer_asked, cost_cells, cpu, samples, speed
from veriff_async import Credentials, Media, VeriffClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from benchmarks.measure import Plan
    from benchmarks.work import Contender, Once

__all__ = ("run",)

_LEAST: Final = "least relay"
_ON_LOOP: Final = "least, on the loop"
_FILES: Final = "veriff-async, from disk"
_OBVIOUS: Final = "obvious relay"
_CPU: Final = {f"CPU x {name}": name for name in (_LEAST, _ON_LOOP)}
_RATIOS: Final = {f"x {name}": name for name in (_LEAST, _FILES, _OBVIOUS)}
_COSTS: Final = ("CPU ms/MiB", "MiB/s", "MiB/each", "worst lag ms")
_PIECE: Final = 96 * 1024  # a multiple of three, whose base64 the allocator can reuse


@frozen
class _Load:
    size: int
    at_once: int
    repeat: int


_LOADS: Final = (_Load(17 * MIB, 1, 4), _Load(17 * MIB, 8, 1), _Load(1_000_000, 16, 4), _Load(250_000, 16, 6))
_SMOKE: Final = (_Load(400_000, 2, 1),)


@asynccontextmanager
async def _library(work: Work) -> AsyncIterator[Once]:
    async with VeriffClient(Credentials(KEY, SECRET), base_url=work.base_url, max_uploads=work.at_once) as veriff:
        session = veriff.session(SESSION_ID)

        async def relay(request: web.Request) -> None:
            await session.upload(Media(request.content, "document-front"))

        async with _receiving(relay, work) as once:
            yield once


@asynccontextmanager
async def _obvious(work: Work) -> AsyncIterator[Once]:
    """Hold what comes in, and post it as one would."""
    async with ClientSession(work.base_url, timeout=ClientTimeout(None)) as http:

        async def relay(request: web.Request) -> None:
            body = rivals.wrapped(await request.read())
            async with http.post(MEDIA_PATH, data=body, headers=rivals.signed(body)) as answer:
                answer.raise_for_status()
                await answer.json()

        async with _receiving(relay, work) as once:
            yield once


@asynccontextmanager
async def _least(work: Work, *, in_thread: bool) -> AsyncIterator[Once]:
    """Write what comes in to a temporary file and sign it, then post the file: no checks, no retries, no limits.

    Args:
        work: What is relayed.
        in_thread: Whether each piece takes a hop to a thread; if not, writing to the disk blocks the loop.
    """
    before, after = rivals.wrapped(b"")[:-3], b'"}}'
    async with ClientSession(work.base_url, timeout=ClientTimeout(None)) as http:

        async def relay(request: web.Request) -> None:
            mac, rest, size = hmac.new(SECRET.encode(), before, hashlib.sha256), b"", 0

            def keep(piece: bytes) -> None:
                nonlocal rest, size
                file.write(piece)
                size += len(piece)
                piece = rest + piece if rest else piece
                whole = len(piece) - len(piece) % 3
                for start in range(0, whole, _PIECE):
                    mac.update(b64encode(memoryview(piece)[start : min(start + _PIECE, whole)]))
                rest = piece[whole:]

            async def body() -> AsyncIterator[bytes]:
                yield before
                file.seek(0)
                while piece := file.read(_PIECE):
                    yield b64encode(piece)
                yield after

            with TemporaryFile(buffering=0) as file:
                async for piece in request.content.iter_any():
                    if in_thread:
                        await asyncio.to_thread(keep, piece)
                    else:
                        keep(piece)
                mac.update(b64encode(rest) + after)
                length = len(before) + -(-size // 3) * 4 + len(after)
                headers = {**HEADERS, "X-HMAC-SIGNATURE": mac.hexdigest(), "Content-Length": str(length)}
                async with http.post(MEDIA_PATH, data=body(), headers=headers) as answer:
                    answer.raise_for_status()
                    await answer.json()

        async with _receiving(relay, work) as once:
            yield once


_CONTENDERS: Final[dict[str, Contender]] = {
    LIBRARY: _library,
    _LEAST: partial(_least, in_thread=True),
    _ON_LOOP: partial(_least, in_thread=False),
    _FILES: contenders.library,
    _OBVIOUS: _obvious,
}


@asynccontextmanager
async def _receiving(relay: Callable[[web.Request], Awaitable[None]], work: Work) -> AsyncIterator[Once]:
    """Serve, and let another process send what is to be relayed."""

    async def handle(request: web.Request) -> web.Response:
        await relay(request)
        return web.Response()

    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sender = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.sender", str(runner.addresses[0][1]), str(work.at_once)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    stdin, stdout = sender.stdin, sender.stdout
    assert stdin is not None
    assert stdout is not None

    async def send(paths: Sequence[Path]) -> None:
        stdin.write((MORE.join(map(str, paths)) + "\n").encode())
        assert await stdout.readline() == b"done\n"

    try:
        yield send
    finally:
        stdin.close()
        await sender.wait()
        await runner.cleanup()


def run(plan: Plan) -> Iterator[Table]:
    """Relay files of several sizes."""
    yield from (_table(load, plan) for load in (_SMOKE if plan.smoke else _LOADS))


def _table(load: _Load, plan: Plan) -> Table:
    with TemporaryDirectory() as name, running_sink() as port:
        folder = Path(name)
        files = [str(write(folder / f"{number}.jpg", load.size)) for number in range(load.at_once)]
        warm = str(write(folder / "warm.jpg", 1000))
        work = Work(port=port, files=files, at_once=load.at_once, repeat=load.repeat, warm=warm)
        found = samples("benchmarks.relay", tuple(_CONTENDERS), plan, work)
    moved = load.size * load.at_once * load.repeat
    rows = tuple(
        Row(
            name,
            {column: cpu(found[name], found[other]) for column, other in _CPU.items()}
            | {column: speed(found[name], found[other]) for column, other in _RATIOS.items()}
            | cost_cells(found[name], moved=moved, at_once=load.at_once),
        )
        for name in _CONTENDERS
    )
    goals = (
        *(Goal(row=LIBRARY, column=column, at_most=1.25) for column in _CPU),
        Goal(row=LIBRARY, column="MiB/each", at_most=1),
    )
    size = f"{load.size // MIB} MiB" if load.size > MIB else f"{load.size // 1000} KB"
    return Table(
        subject="relay",
        title=f"{size} x {load.at_once}, in and out over HTTP",
        columns=(*_CPU, *_RATIOS, *_COSTS),
        rows=rows,
        goals=() if plan.smoke else goals,
    )


if __name__ == "__main__":
    answer_asked(sys.argv[1], _CONTENDERS)
