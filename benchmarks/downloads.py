"""Downloads: files checked and kept, against the least code on aiohttp that does so; run as a process, see `work`."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import sys
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from aiohttp import ClientSession, ClientTimeout
from attrs import frozen

from benchmarks.sink import MEDIA_ID, running_sink
from benchmarks.table import Goal, Row, Table
from benchmarks.work import HEADERS, KEY, MIB, SECRET, Work, answer_asked, cost_cells, cpu, samples, speed
from veriff_async import Credentials, VeriffClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence

    from benchmarks.measure import Plan, Spread
    from benchmarks.work import Contender, Once, Sample

__all__ = ("run",)

_PATH: Final = f"/v1/media/{MEDIA_ID}"
_SAVES: Final = "veriff-async, to disk"
_STREAMS: Final = "veriff-async, stream"
_FORGETS: Final = "aiohttp, forgetting"
_CHECKS: Final = "aiohttp, checking"
_LEAST: Final = "least code, to disk"
_OBVIOUS: Final = "obvious code, to disk"
_CPU: Final = {f"CPU x {name}": name for name in (_CHECKS, _LEAST)}
_RATIOS: Final = {f"x {name}": name for name in (_CHECKS, _LEAST, _FORGETS, _OBVIOUS)}
_COSTS: Final = ("CPU ms/MiB", "MiB/s", "MiB/each", "worst lag ms")
_SMOKE_SIZE: Final = 400_000


@frozen
class _Load:
    size: int
    at_once: int
    repeat: int


_LOADS: Final = (_Load(17 * MIB, 1, 8), _Load(17 * MIB, 16, 1), _Load(1_000_000, 16, 8))
_SMOKE: Final = (_Load(_SMOKE_SIZE, 2, 1),)


@asynccontextmanager
async def _saving(work: Work) -> AsyncIterator[Once]:
    async with VeriffClient(Credentials(KEY, SECRET), base_url=work.base_url, max_downloads=work.at_once) as veriff:

        async def save(path: Path) -> None:
            await veriff.download_media(MEDIA_ID, path, if_exists="replace")

        yield partial(_side_by_side, save)


@asynccontextmanager
async def _streaming(work: Work) -> AsyncIterator[Once]:
    async with VeriffClient(Credentials(KEY, SECRET), base_url=work.base_url, max_downloads=work.at_once) as veriff:

        async def stream(path: Path) -> None:
            del path
            async with veriff.stream_media(MEDIA_ID) as pieces:
                async for _ in pieces:
                    pass

        yield partial(_side_by_side, stream)


@asynccontextmanager
async def _forgetting(work: Work) -> AsyncIterator[Once]:
    """Read all pieces and forget them: what aiohttp costs by itself."""
    async with ClientSession(work.base_url, timeout=ClientTimeout(None)) as http:

        async def fetch(path: Path) -> None:
            del path
            async with http.get(_PATH, headers=HEADERS) as answer:
                async for _ in answer.content.iter_any():
                    pass

        yield partial(_side_by_side, fetch)


@asynccontextmanager
async def _checking(work: Work) -> AsyncIterator[Once]:
    """Read all pieces and hash each as it comes, which any client has to that trusts the signature only."""
    async with ClientSession(work.base_url, timeout=ClientTimeout(None)) as http:

        async def fetch(path: Path) -> None:
            del path
            async with http.get(_PATH, headers=HEADERS) as answer:
                mac = hmac.new(SECRET.encode(), digestmod=hashlib.sha256)
                async for piece in answer.content.iter_any():
                    mac.update(piece)
                assert hmac.compare_digest(mac.hexdigest(), answer.headers["X-HMAC-SIGNATURE"])

        yield partial(_side_by_side, fetch)


@asynccontextmanager
async def _least(work: Work) -> AsyncIterator[Once]:
    """Read all pieces, hash each as it comes, and write it in a thread: no checks before, no name that appears last."""
    async with ClientSession(work.base_url, timeout=ClientTimeout(None)) as http:

        async def fetch(path: Path) -> None:
            async with http.get(_PATH, headers=HEADERS) as answer:
                mac = hmac.new(SECRET.encode(), digestmod=hashlib.sha256)
                with path.open("wb", buffering=0) as file:
                    async for piece in answer.content.iter_any():
                        mac.update(piece)
                        await asyncio.to_thread(file.write, piece)
                assert hmac.compare_digest(mac.hexdigest(), answer.headers["X-HMAC-SIGNATURE"])

        yield partial(_side_by_side, fetch)


@asynccontextmanager
async def _obvious(work: Work) -> AsyncIterator[Once]:
    """Read the whole, check it, write it."""
    async with ClientSession(work.base_url, timeout=ClientTimeout(None)) as http:

        async def fetch(path: Path) -> None:
            async with http.get(_PATH, headers=HEADERS) as answer:
                content = await answer.read()
            mac = hmac.new(SECRET.encode(), content, hashlib.sha256)
            assert hmac.compare_digest(mac.hexdigest(), answer.headers["X-HMAC-SIGNATURE"])
            path.write_bytes(content)  # noqa: ASYNC240  that is what is obvious

        yield partial(_side_by_side, fetch)


_CONTENDERS: Final[dict[str, Contender]] = {
    _SAVES: _saving,
    _STREAMS: _streaming,
    _LEAST: _least,
    _OBVIOUS: _obvious,
    _CHECKS: _checking,
    _FORGETS: _forgetting,
}


async def _side_by_side(once: Callable[[Path], Awaitable[None]], paths: Sequence[Path]) -> None:
    await asyncio.gather(*map(once, paths))


def run(plan: Plan) -> Iterator[Table]:
    """Bring one media down, as often at once as the loads say."""
    yield from (_table(load, plan) for load in (_SMOKE if plan.smoke else _LOADS))


def _table(load: _Load, plan: Plan) -> Table:
    with TemporaryDirectory() as folder, running_sink(media=load.size) as port:
        files = [str(Path(folder, f"{number}.jpg")) for number in range(load.at_once)]
        work = Work(
            port=port, files=files, at_once=load.at_once, repeat=load.repeat, warm=str(Path(folder, "warm.jpg"))
        )
        found = samples("benchmarks.downloads", tuple(_CONTENDERS), plan, work)
    goals = (
        Goal(row=_STREAMS, column=f"x {_CHECKS}", at_least=0.95),
        Goal(row=_SAVES, column=f"x {_LEAST}", at_least=0.85),
        *(Goal(row=name, column="MiB/each", at_most=2, of="worst round") for name in (_SAVES, _STREAMS)),
    )
    return Table(
        subject="downloads",
        title=f"{_named(load.size)} x {load.at_once}, HTTP",
        columns=(*_CPU, *_RATIOS, *_COSTS),
        rows=tuple(Row(name, _cells(name, found, load)) for name in _CONTENDERS),
        goals=() if plan.smoke else goals,
    )


def _cells(name: str, found: Mapping[str, Sequence[Sample]], load: _Load) -> dict[str, Spread]:
    costs = cost_cells(found[name], moved=load.size * load.at_once * load.repeat, at_once=load.at_once)
    used = {column: cpu(found[name], found[other]) for column, other in _CPU.items()}
    return {**used, **{column: speed(found[name], found[other]) for column, other in _RATIOS.items()}, **costs}


def _named(size: int) -> str:
    return f"{size // MIB} MiB" if size > MIB else f"{size // 1000} KB"


if __name__ == "__main__":
    answer_asked(sys.argv[1], _CONTENDERS)
