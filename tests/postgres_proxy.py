"""A proxy in front of PostgreSQL that loses responses, or that passes no notifications on as a pooler does."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.postgres_server import PostgresDatabase

__all__ = ("PostgresProxy", "proxy_of")


class PostgresProxy:
    """Passes connections on.

    Attributes:
        cut: Bytes of a request, such as ``b"COMMIT"``, whose response is lost together with its connection.
        cuts: How many times.
        has_notifications: Whether notifications reach the client.
    """

    def __init__(self, database: PostgresDatabase) -> None:
        """Take the server."""
        self.cut: bytes | None = None
        self.cuts = 1
        self.has_notifications = True
        self.port = 0
        self._database = database

    @property
    def url(self) -> str:
        """The address for a store."""
        server = self._database.server
        return self._database.url.replace(f":{server.port}/", f":{self.port}/") + "&sslmode=disable"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on."""
        is_cut = False
        try:
            upstream, server = await asyncio.open_connection("127.0.0.1", self._database.server.port)
        except OSError:
            writer.transport.abort()
            return

        async def pass_up() -> None:
            nonlocal is_cut
            while data := await reader.read(65536):
                if self.cut is not None and self.cut in data and self.cuts > 0:
                    is_cut = True
                    self.cuts -= 1
                server.write(data)
            server.close()

        async def pass_down() -> None:
            # https://www.postgresql.org/docs/current/protocol-message-formats.html: a kind, and the length of the rest.
            while head := await upstream.readexactly(5):
                body = await upstream.readexactly(int.from_bytes(head[1:]) - 4)
                if is_cut:  # the server has done it, and its response is lost
                    break
                if head[:1] != b"A" or self.has_notifications:
                    writer.write(head + body)

        with suppress(OSError, asyncio.IncompleteReadError):
            up = asyncio.ensure_future(pass_up())
            try:
                await pass_down()
            finally:
                up.cancel()
                await asyncio.wait([up])
        writer.transport.abort()
        server.transport.abort()


@asynccontextmanager
async def proxy_of(database: PostgresDatabase) -> AsyncGenerator[PostgresProxy]:
    """Yield a proxy in front of a server."""
    proxy = PostgresProxy(database)
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as listening:
        proxy.port = listening.sockets[0].getsockname()[1]
        yield proxy
