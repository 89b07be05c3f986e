"""A proxy between an inbox and PostgreSQL that drops responses or notifications, and can change its server."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from attrs import define, field

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.postgres_server import PostgresDatabase

__all__ = ("PostgresProxy", "proxy_to")

_NOTIFICATION: Final = ord("A")
_READY: Final = ord("Z")


@define(eq=False)
class PostgresProxy:
    """One proxy.

    Attributes:
        target: The port of the server; new connections go there.
        url: The address for the inbox.
        cut: Text of a statement; the connection that sends it is closed when the server has answered.
        within: Text of an earlier statement of the same transaction; others are not cut.
        cuts: How often that happens.
        is_cut: Set when a response was dropped.
        refuses: Whether new connections are closed at once.
        drops_notifications: Whether notifications are dropped, as by PgBouncer in transaction mode.
    """

    target: int
    url: str = ""
    cut: bytes | None = None
    within: bytes = b""
    cuts: int = 0
    is_cut: asyncio.Event = field(factory=asyncio.Event)
    refuses: bool = False
    drops_notifications: bool = False
    _writers: set[asyncio.StreamWriter] = field(factory=set["asyncio.StreamWriter"])

    def disconnect(self) -> None:
        """Close all connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on."""
        try:
            if self.refuses:
                return
            with suppress(OSError, asyncio.IncompleteReadError):
                upstream, server = await asyncio.open_connection("127.0.0.1", self.target)
                self._writers |= {writer, server}
                try:
                    is_cut = asyncio.Event()
                    tasks = (self._pass_up(reader, server, is_cut), self._pass_down(upstream, writer, is_cut))
                    await asyncio.gather(*tasks)
                finally:
                    self._writers -= {writer, server}
                    server.transport.abort()
        finally:
            writer.transport.abort()

    async def _pass_up(self, reader: asyncio.StreamReader, server: asyncio.StreamWriter, is_cut: asyncio.Event) -> None:
        is_within = False
        while data := await reader.read(65536):
            is_within = self.within in data or (is_within and b"BEGIN" not in data)
            if self.cut is not None and is_within and self.cut in data:
                is_cut.set()
                self.cuts -= 1
                if not self.cuts:
                    self.cut = None
            server.write(data)
        server.close()

    async def _pass_down(
        self, upstream: asyncio.StreamReader, writer: asyncio.StreamWriter, is_cut: asyncio.Event
    ) -> None:
        """Pass the messages of the server on: a letter, the length of the rest, and the rest."""
        # https://www.postgresql.org/docs/current/protocol-message-formats.html
        while kind := await upstream.read(1):
            length = await upstream.readexactly(4)
            content = await upstream.readexactly(int.from_bytes(length, "big") - 4)
            if is_cut.is_set():
                if kind[0] == _READY:  # the server has done it, and its response is lost
                    self.is_cut.set()
                    writer.transport.abort()
                    return
                continue
            if not (self.drops_notifications and kind[0] == _NOTIFICATION):
                writer.write(kind + length + content)
        writer.close()


@asynccontextmanager
async def proxy_to(database: PostgresDatabase) -> AsyncGenerator[PostgresProxy]:
    """Yield a proxy in front of a server."""
    proxy = PostgresProxy(database.server.port)
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        proxy.url = (
            database.url.replace(f":{urlsplit(database.url).port}/", f":{port}/")
            + "&sslmode=disable&gssencmode=disable"
        )
        yield proxy
        proxy.disconnect()
