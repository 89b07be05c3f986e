"""A whole verification: create, three pictures, submit, decision; run as a process, see `work`."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import sys
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import pybase64
from aiohttp import ClientSession, TCPConnector
from attrs import frozen

from benchmarks.measure import Spread, ratios
from benchmarks.sink import running_sink
from benchmarks.table import Goal, Row, Table
from benchmarks.uploads import LIBRARY, write
from benchmarks.work import HEADERS, KEY, MIB, SECRET, Work, answer_asked, samples
from veriff_async import Credentials, Media, Person, VeriffClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence

    from benchmarks.measure import Plan
    from benchmarks.work import Contender, Once, Sample

__all__ = ("run",)

_SHOWS: Final = ("document-front", "document-back", "face")
_BARE: Final = "bare aiohttp"
_QUICK: Final = "bare aiohttp, pybase64"
_NEW_CONNECTION: Final = "bare, pybase64, new connection for creation"
_RATIOS: Final = {f"x {other}": other for other in (_QUICK, _NEW_CONNECTION, _BARE)}
"""Sessions for each second of processor time, so a ratio of processor time. The second is the bound: like the library,
it creates a session on a connection that was never used, because a creation that was lost cannot be repeated."""
_COLUMNS: Final = (*_RATIOS, "sessions/s/core", "MiB in all", "worst lag ms")


@frozen
class _Load:
    size: int
    at_once: int
    repeat: int
    goal: bool = False


_LOADS: Final = (_Load(20_000, 16, 12, goal=True), _Load(250_000, 16, 6), _Load(1_000_000, 8, 3))
_SMOKE: Final = (_Load(20_000, 2, 1),)


@asynccontextmanager
async def _library(work: Work) -> AsyncIterator[Once]:
    async with VeriffClient(Credentials(KEY, SECRET), base_url=work.base_url, max_uploads=64) as veriff:

        async def verify(path: Path) -> None:
            session = await veriff.create_session(person=Person(first_name="Ada", last_name="Lovelace"))
            await session.upload(*(Media(path, shows) for shows in _SHOWS))
            await session.submit()
            decision = await session.decision()
            assert decision is not None
            assert decision.status == "approved"

        yield partial(_side_by_side, verify)


@asynccontextmanager
async def _bare(
    work: Work, encode: Callable[[bytes], bytes] = base64.b64encode, *, new_connection: bool = False
) -> AsyncIterator[Once]:
    """Make the same calls with aiohttp: no retries, no models, no checks."""
    async with (
        ClientSession(work.base_url) as pooled,
        ClientSession(work.base_url, connector=TCPConnector(force_close=new_connection)) as creating,
    ):

        async def call(
            method: str, path: str, content: object, signed: bytes | None = None, http: ClientSession = pooled
        ) -> dict[str, dict[str, str]]:
            body = None if content is None else json.dumps(content).encode()
            signature = hmac.new(SECRET.encode(), signed or body or b"", hashlib.sha256).hexdigest()
            async with http.request(
                method, path, data=body, headers={**HEADERS, "X-HMAC-SIGNATURE": signature}
            ) as answer:
                answer.raise_for_status()
                found: dict[str, dict[str, str]] = await answer.json()
                return found

        async def upload(session_id: str, path: Path, shows: str) -> None:
            content = f"data:image/jpeg;base64,{encode(path.read_bytes()).decode()}"  # noqa: ASYNC240  bare
            await call("POST", f"/v1/sessions/{session_id}/media", {"image": {"context": shows, "content": content}})

        async def verify(path: Path) -> None:
            person = {"firstName": "Ada", "lastName": "Lovelace"}
            content = {"verification": {"person": person}}
            session = await call("POST", "/v1/sessions", content, http=creating if new_connection else pooled)
            session_id = session["verification"]["id"]
            await asyncio.gather(*(upload(session_id, path, shows) for shows in _SHOWS))
            await call("PATCH", f"/v1/sessions/{session_id}", {"verification": {"status": "submitted"}})
            decision = await call("GET", f"/v1/sessions/{session_id}/decision", None, session_id.encode())
            assert decision["verification"]["status"] == "approved"

        yield partial(_side_by_side, verify)


_CONTENDERS: Final[dict[str, Contender]] = {
    LIBRARY: _library,
    _BARE: _bare,
    _QUICK: partial(_bare, encode=pybase64.b64encode),
    _NEW_CONNECTION: partial(_bare, encode=pybase64.b64encode, new_connection=True),
}


async def _side_by_side(verify: Callable[[Path], Awaitable[None]], paths: Sequence[Path]) -> None:
    await asyncio.gather(*map(verify, paths))


def run(plan: Plan) -> Iterator[Table]:
    """Verify a person, with as many concurrent runs as each load has."""
    yield from (_table(load, plan) for load in (_SMOKE if plan.smoke else _LOADS))


def _table(load: _Load, plan: Plan) -> Table:
    with TemporaryDirectory() as folder, running_sink() as port:
        file = str(write(Path(folder, "front.jpg"), load.size))
        work = Work(port=port, files=[file], at_once=load.at_once, repeat=load.repeat, warm=file)
        found = samples("benchmarks.flow", tuple(_CONTENDERS), plan, work)
    return Table(
        subject="flow",
        title=f"sessions with 3 x {load.size // 1000} KB, {load.at_once} at once, HTTP (ratios of sessions per core)",
        columns=_COLUMNS,
        rows=tuple(Row(name, _cells(found[name], found, load)) for name in _CONTENDERS),
        goals=(Goal(row=LIBRARY, column=f"x {_QUICK}", at_least=0.85),) if load.goal else (),
    )


def _cells(mine: Sequence[Sample], found: Mapping[str, Sequence[Sample]], load: _Load) -> dict[str, Spread]:
    sessions = load.at_once * load.repeat
    cells = {
        column: ratios((sample.cpu for sample in found[other]), (sample.cpu for sample in mine))
        for column, other in _RATIOS.items()
    }
    return cells | {
        "sessions/s/core": Spread.of(sessions / sample.cpu for sample in mine),
        "MiB in all": Spread.of(sample.growth / MIB for sample in mine),
        "worst lag ms": Spread.of(sample.lag * 1000 for sample in mine),
    }


if __name__ == "__main__":
    answer_asked(sys.argv[1], _CONTENDERS)
