"""The ways to upload that are compared. Run as a process, it lets one of them do one work once, and prints a sample.

Each run is a fresh process: what one contender left in memory helps or harms no other.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import hmac
import json
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from aiohttp import ClientSession
from attrs import frozen

from benchmarks.measure import Lag, Memory
from benchmarks.sink import SESSION_ID
from veriff_async import Credentials, Media, VeriffClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

__all__ = ("CONTENDERS", "Sample", "Work")

_KEY: Final = "6f1c0f43-9a35-4d1e-8a46-0d5a3f7b9c21"
_SECRET: Final = "benchmark-secret"  # noqa: S105  a made-up one, for the sink, which looks at no signature
_CONTEXT: Final = "document-front"
_HEADERS: Final = {"X-AUTH-CLIENT": _KEY, "Content-Type": "application/json"}


@frozen(kw_only=True)
class Work:
    """What every contender does.

    Attributes:
        port: Where the sink listens.
        files: What is uploaded.
        at_once: How many uploads run side by side; files are used again when there are fewer.
        repeat: How often this is done in a row, so that small works last long enough to be timed.
        warm: A small file that is uploaded first, as often, so that connections and code are ready.
    """

    port: int
    files: Sequence[str]
    at_once: int
    repeat: int
    warm: str

    @property
    def batch(self) -> list[Path]:
        """The files of one repetition."""
        return [Path(self.files[number % len(self.files)]) for number in range(self.at_once)]

    @property
    def base_url(self) -> str:
        """Where the sink is."""
        return f"http://127.0.0.1:{self.port}"


@frozen(kw_only=True)
class Sample:
    """What one run cost.

    Attributes:
        seconds: From the first upload's start to the last one's end.
        cpu: Processor seconds of the client process.
        growth: Bytes that the process grew at its peak.
        lag: Longest delay of the loop, in seconds.
    """

    seconds: float
    cpu: float
    growth: int
    lag: float


Upload: TypeAlias = "Callable[[Path], Awaitable[None]]"
UploadAll: TypeAlias = "Callable[[Sequence[Path]], Awaitable[None]]"
Contender: TypeAlias = "Callable[[Work], AbstractAsyncContextManager[UploadAll]]"


@asynccontextmanager
async def library(work: Work) -> AsyncIterator[UploadAll]:
    """Upload with this library, by its public names."""
    credentials = Credentials(_KEY, _SECRET)
    async with VeriffClient(credentials, base_url=work.base_url, max_uploads=work.at_once) as veriff:
        session = await veriff.create_session()

        async def upload(paths: Sequence[Path]) -> None:
            await session.upload(*(Media(path, _CONTEXT) for path in paths))

        yield upload


@asynccontextmanager
async def obvious(work: Work) -> AsyncIterator[UploadAll]:
    """Upload as one would write it in ten lines: read, base64, json, hmac, post."""
    async with ClientSession(work.base_url) as http:

        async def upload(path: Path) -> None:
            content = base64.b64encode(path.read_bytes()).decode()  # noqa: ASYNC240  that is what is obvious
            body = json.dumps({"image": {"context": _CONTEXT, "content": f"data:image/jpeg;base64,{content}"}}).encode()
            await _post(http, body, _sign(body))

        yield _side_by_side(upload)


@asynccontextmanager
async def ready_made(work: Work) -> AsyncIterator[UploadAll]:
    """Post bytes that were made beforehand, unsigned: what aiohttp does with one `bytes`."""
    bodies = _bodies(work)
    async with ClientSession(work.base_url) as http:

        async def upload(path: Path) -> None:
            await _post(http, bodies[path], None)

        yield _side_by_side(upload)


@asynccontextmanager
async def ready_made_signed(work: Work) -> AsyncIterator[UploadAll]:
    """Post bytes that were made beforehand, signed afresh in a thread for each request."""
    bodies = _bodies(work)
    async with ClientSession(work.base_url) as http:

        async def upload(path: Path) -> None:
            signature = await asyncio.to_thread(_sign, bodies[path])
            await _post(http, bodies[path], signature)

        yield _side_by_side(upload)


CONTENDERS: Final[dict[str, Contender]] = {
    "veriff-async": library,
    "obvious code": obvious,
    "ready-made, unsigned": ready_made,
    "ready-made, signed": ready_made_signed,
}


def _side_by_side(upload: Upload) -> UploadAll:
    async def upload_all(paths: Sequence[Path]) -> None:
        await asyncio.gather(*map(upload, paths))

    return upload_all


async def _post(http: ClientSession, body: bytes, signature: str | None) -> None:
    headers = _HEADERS if signature is None else {**_HEADERS, "X-HMAC-SIGNATURE": signature}
    async with http.post(f"/v1/sessions/{SESSION_ID}/media", data=body, headers=headers) as answer:
        answer.raise_for_status()
        await answer.json()


def _sign(body: bytes) -> str:
    return hmac.new(_SECRET.encode(), body, hashlib.sha256).hexdigest()


def _bodies(work: Work) -> dict[Path, bytes]:
    prefix = b'{"image":{"context":"document-front","content":"data:image/jpeg;base64,'
    paths = {*map(Path, work.files), Path(work.warm)}
    return {path: b"".join((prefix, base64.b64encode(path.read_bytes()), b'"}}')) for path in paths}


async def sample(contender: Contender, work: Work) -> Sample:
    """Let a contender do the work, once it is warm."""
    batch = work.batch
    async with contender(work) as upload_all:
        await upload_all([Path(work.warm)] * work.at_once)
        gc.collect()
        with Memory() as memory:
            async with Lag() as lag:
                cpu, began = time.process_time(), time.perf_counter()
                for _ in range(work.repeat):
                    await upload_all(batch)
                seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return Sample(seconds=seconds, cpu=cpu, growth=memory.growth, lag=lag.worst)


def main(argument: str) -> None:
    """Do what the JSON says, and print the sample as JSON."""
    asked = json.loads(argument)
    found = asyncio.run(sample(CONTENDERS[asked["contender"]], Work(**asked["work"])))
    figures = {"seconds": found.seconds, "cpu": found.cpu, "growth": found.growth, "lag": found.lag}
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1])
