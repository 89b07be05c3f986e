"""A Veriff of raw bytes, and a client of raw bytes, so that tests see what really passes through."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
import pytest

from tests.conditions import SECONDS, time_limit

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from pathlib import Path

    Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    """Return the path of a cassette that does not exist yet."""
    return tmp_path / "flow.jsonl"


async def read(tape: Path) -> bytes:
    """Return the bytes of a cassette."""
    return await anyio.Path(tape).read_bytes()


async def read_lines(tape: Path) -> list[Any]:
    """Return the entries of a cassette in the order in which they began, without its first line."""
    entries = [json.loads(line) for line in (await read(tape)).splitlines()[1:]]
    return sorted(entries, key=lambda entry: entry["number"])


@asynccontextmanager
async def raw_server(script: Script) -> AsyncGenerator[str]:
    """Run a server that lets a function talk to each client; gives its address."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@asynccontextmanager
async def raw_client(url: str) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a connection to a server."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        async with time_limit(SECONDS):
            yield reader, writer
    finally:
        writer.transport.abort()


async def read_head(reader: asyncio.StreamReader) -> bytes:
    """Read a start line and headers."""
    return await reader.readuntil(b"\r\n\r\n")


async def until_closed(reader: asyncio.StreamReader) -> None:
    """Wait until the other side has closed the connection, in order or with a reset."""
    with suppress(ConnectionResetError):
        assert not await reader.read()
