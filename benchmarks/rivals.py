"""Ways to upload without aiohttp: the obvious code on other clients, and the bounds of the machine."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from benchmarks.sink import MEDIA_PATH
from benchmarks.work import HEADERS, SECRET

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from benchmarks.work import Once, Work

__all__ = ("bodies", "body", "curl", "hmac_alone", "on_httpx", "on_requests", "signed", "wrapped")

_CONTEXT: Final = "document-front"


def bodies(work: Work) -> dict[Path, bytes]:
    """Make the bodies of all files beforehand."""
    return {path: body(path) for path in {*map(Path, work.files), Path(work.warm)}}


def body(path: Path) -> bytes:
    """Read, base64, json: as one would write it."""
    return wrapped(path.read_bytes())


def wrapped(picture: bytes) -> bytes:
    """Return the body around a picture."""
    content = base64.b64encode(picture).decode()
    return json.dumps({"image": {"context": _CONTEXT, "content": f"data:image/jpeg;base64,{content}"}}).encode()


def signed(content: bytes) -> dict[str, str]:
    """Return the headers of a body."""
    return {**HEADERS, "X-HMAC-SIGNATURE": hmac.new(SECRET.encode(), content, hashlib.sha256).hexdigest()}


@asynccontextmanager
async def on_httpx(work: Work) -> AsyncIterator[Once]:
    """The obvious code, on httpx."""
    import httpx  # noqa: PLC0415  no other contender is to pay for it, and it may be missing

    async with httpx.AsyncClient(base_url=work.base_url, timeout=None) as http:  # noqa: S113  a slow machine is no fault

        async def upload(path: Path) -> None:
            content = body(path)
            answer = await http.post(MEDIA_PATH, content=content, headers=signed(content))
            answer.raise_for_status().json()

        async def upload_all(paths: Sequence[Path]) -> None:
            await asyncio.gather(*map(upload, paths))

        yield upload_all


@asynccontextmanager
async def on_requests(work: Work) -> AsyncIterator[Once]:
    """The obvious code, on requests, with a thread for each upload that runs at once."""
    import requests  # noqa: PLC0415  no other contender is to pay for it, and it may be missing
    from requests.adapters import HTTPAdapter  # noqa: PLC0415

    loop = asyncio.get_running_loop()
    with requests.Session() as http, ThreadPoolExecutor(work.at_once) as threads:
        http.mount(work.base_url, HTTPAdapter(pool_connections=1, pool_maxsize=work.at_once))

        def upload(path: Path) -> None:
            content = body(path)
            answer = http.post(work.base_url + MEDIA_PATH, data=content, headers=signed(content))
            answer.raise_for_status()
            answer.json()

        async def upload_all(paths: Sequence[Path]) -> None:
            await asyncio.gather(*(loop.run_in_executor(threads, upload, path) for path in paths))

        yield upload_all


@asynccontextmanager
async def curl(work: Work) -> AsyncIterator[Once]:
    """Let one curl post files that were made beforehand, unsigned: what the machine can do, its own start included."""
    with TemporaryDirectory() as folder:
        made = {path: Path(folder, f"{number}.json") for number, path in enumerate({*work.batch, Path(work.warm)})}
        for path, file in made.items():
            file.write_bytes(body(path))

        async def upload_all(paths: Sequence[Path]) -> None:
            head = [f'header = "{name}: {value}"' for name, value in {**HEADERS, "Expect": ""}.items()]
            head += ["silent", "show-error", "fail", "http1.1", 'request = "POST"', "parallel", "parallel-immediate"]
            head.append(f"parallel-max = {work.at_once}")
            for path in paths:
                head += [
                    f'url = "{work.base_url}{MEDIA_PATH}"',
                    f'upload-file = "{made[path]}"',
                    'output = "/dev/null"',
                ]
            process = await asyncio.create_subprocess_exec("curl", "--config", "-", stdin=asyncio.subprocess.PIPE)
            await process.communicate("\n".join(head).encode())
            assert process.returncode == 0

        yield upload_all


@asynccontextmanager
async def hmac_alone(work: Work) -> AsyncIterator[Once]:
    """Send nothing: sign the same bytes in threads, as many at once as there are processors."""
    made = bodies(work)

    async def sign_all(paths: Sequence[Path]) -> None:
        await asyncio.gather(*(asyncio.to_thread(signed, made[path]) for path in paths))

    yield sign_all
