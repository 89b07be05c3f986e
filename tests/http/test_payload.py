"""Bodies of requests: each shows whether a part of its request may have been sent."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_writer import StreamWriter

from veriff_async._http.payload import BytesBody

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("body", [b"", b"{}"])
async def test_body_is_not_sent_on_a_closed_connection(body: bytes) -> None:
    """A connection that is closed before the body is written raises an error, and the request counts as not sent."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    async with server:
        protocol = BaseProtocol(loop)
        transport, _ = await loop.create_connection(lambda: protocol, *server.sockets[0].getsockname())
        transport.close()
        started: list[bool] = []
        payload = BytesBody(body, on_start=lambda: started.append(True), on_bytes_sent=lambda _: None)

        with pytest.raises(ConnectionResetError):
            await payload.write(StreamWriter(protocol, loop))

        while protocol.connected:  # noqa: ASYNC110  the loop closes it
            await asyncio.sleep(0)

    assert not payload.started
    assert started == []
