"""The ways to upload that are compared, with this library and on aiohttp; run as a process, see `work`."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from aiohttp import ClientSession

from benchmarks import rivals
from benchmarks.sink import MEDIA_PATH
from benchmarks.work import HEADERS, KEY, SECRET, answer_asked
from veriff_async import Credentials, Media, VeriffClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from benchmarks.work import Contender, Once, Work
    from veriff_async import VerificationSession

__all__ = ("CONTENDERS", "library")

_CONTEXT: Final = "document-front"

Upload: TypeAlias = "Callable[[Path], Awaitable[None]]"


@asynccontextmanager
async def library(work: Work) -> AsyncIterator[Once]:
    """Upload with this library, by its public names, each file with a call of its own."""
    async with _session(work) as session:

        async def upload(path: Path) -> None:
            await session.upload(Media(path, _CONTEXT))

        yield _side_by_side(upload)


@asynccontextmanager
async def library_at_once(work: Work) -> AsyncIterator[Once]:
    """Upload with this library, all files with one call."""
    async with _session(work) as session:

        async def upload(paths: Sequence[Path]) -> None:
            await session.upload(*(Media(path, _CONTEXT) for path in paths))

        yield upload


@asynccontextmanager
async def _session(work: Work) -> AsyncIterator[VerificationSession]:
    credentials = Credentials(KEY, SECRET)
    async with VeriffClient(credentials, base_url=work.base_url, max_uploads=work.at_once) as veriff:
        yield await veriff.create_session()


@asynccontextmanager
async def obvious(work: Work) -> AsyncIterator[Once]:
    """Upload as one would write it in ten lines: read, base64, json, hmac, post."""
    async with ClientSession(work.base_url) as http:

        async def upload(path: Path) -> None:
            body = rivals.wrapped(path.read_bytes())  # noqa: ASYNC240  on the loop, as the obvious code does
            await _post(http, body, rivals.signed(body))

        yield _side_by_side(upload)


@asynccontextmanager
async def least(work: Work) -> AsyncIterator[Once]:
    """Upload with the least code that signs: read, encode and sign in one hop to a thread, then post; no checks."""
    async with ClientSession(work.base_url) as http:

        async def upload(path: Path) -> None:
            body, headers = await asyncio.to_thread(rivals.read_and_sign, path)
            await _post(http, body, headers)

        yield _side_by_side(upload)


@asynccontextmanager
async def unsigned(work: Work) -> AsyncIterator[Once]:
    """Post bytes that were made beforehand, unsigned: what aiohttp does with one `bytes`."""
    bodies = {path: rivals.read_and_sign(path)[0] for path in {*map(Path, work.files), Path(work.warm)}}
    async with ClientSession(work.base_url) as http:

        async def upload(path: Path) -> None:
            await _post(http, bodies[path], HEADERS)

        yield _side_by_side(upload)


CONTENDERS: Final[dict[str, Contender]] = {
    "veriff-async": library,
    "one call": library_at_once,
    "least code": least,
    "obvious code": obvious,
    "unsigned": unsigned,
}


def _side_by_side(upload: Upload) -> Once:
    async def upload_all(paths: Sequence[Path]) -> None:
        await asyncio.gather(*map(upload, paths))

    return upload_all


async def _post(http: ClientSession, body: bytes, headers: dict[str, str]) -> None:
    async with http.post(MEDIA_PATH, data=body, headers=headers) as answer:
        answer.raise_for_status()
        await answer.json()


if __name__ == "__main__":
    answer_asked(sys.argv[1], CONTENDERS)
