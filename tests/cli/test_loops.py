"""A receiver that forwards recognises its own address, in any spelling and behind any relay."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest
from anyio import to_thread

from tests.cli.test_listen import BODY, VARIABLES, post
from veriff_async.cli._http import HttpProbe
from veriff_async.cli.listen.loop_detection import ForwardMark, is_own_address

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    Start = Callable[..., subprocess.Popen[str]]

PATH: Final = "/webhooks/veriff"
LOOPBACK: Final = (
    "127.0.0.1",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "127.1",
    "0x7f.1",
    "2130706433",
    "127.0.0.1.",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "0.0.0.0",  # noqa: S104
    "0",
    "[::]",
    "%6cocalhost",
    "127.0.0.%31",
)


@pytest.mark.parametrize("name", LOOPBACK)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])  # noqa: S104
def test_own_address_is_recognised_in_any_spelling(name: str, host: str) -> None:
    """Names, short and numeric forms, IPv4 as IPv6, trailing dots and percent signs reach the receiver."""
    for path in (PATH, f"{PATH}/", "/webhooks/%76eriff", "/x/../webhooks/veriff", f"{PATH}?a=1"):
        assert is_own_address(f"http://{name}:8080{path}", host=host, port=8080, path=PATH), path


def test_name_of_this_machine_is_an_own_address() -> None:
    """A receiver on every interface is also reached by the machine's own name."""
    own = socket.gethostname()
    with suppress(OSError):
        socket.getaddrinfo(own, None)
        assert is_own_address(f"http://{own}:8080{PATH}", host="0.0.0.0", port=8080, path=PATH)  # noqa: S104


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8081/webhooks/veriff",
        "http://127.0.0.1:8080/other",
        "http://127.0.0.1/webhooks/veriff",
        "http://192.0.2.1:8080/webhooks/veriff",
        "http://nowhere.invalid:8080/webhooks/veriff",
        "http://[::1:8080/webhooks/veriff",
    ],
)
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104
def test_other_address_is_not_an_own_address(url: str, host: str) -> None:
    """Webhooks are forwarded to another port, path or machine."""
    assert not is_own_address(url, host=host, port=8080, path=PATH)


def test_each_receiver_finds_its_own_mark() -> None:
    """In a chain of receivers that leads back to its start, the first one recognises its mark."""
    first, second = ForwardMark(), ForwardMark()
    headers = second.add_to(first.add_to([("content-type", "application/json")]))

    assert first.is_present(dict(headers))
    assert second.is_present({name.upper(): value for name, value in headers})
    assert not ForwardMark().is_present(dict(headers))
    assert 2 == len(headers)


@pytest.mark.anyio
async def test_webhook_forwarded_back_through_a_relay_is_refused(start: Start) -> None:
    """A webhook that returns through a relay is refused and not recorded again."""
    target = 0

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target_reader, target_writer = await asyncio.open_connection("127.0.0.1", target)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
            sink.close()

        await asyncio.gather(pump(reader, target_writer), pump(target_reader, writer), return_exceptions=True)

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as tunnel:
        relay_url = f"http://127.0.0.1:{tunnel.sockets[0].getsockname()[1]}{PATH}"
        process = await to_thread.run_sync(
            lambda: start("listen", "--port", "0", "--json", "--forward-to", relay_url, **VARIABLES)
        )
        assert process.stdout is not None
        url = json.loads(await to_thread.run_sync(process.stdout.readline))["url"]
        target = int(url.split(":")[2].split("/")[0])
        assert 200 == await to_thread.run_sync(post, url, BODY)
        lines = [json.loads(await to_thread.run_sync(process.stdout.readline)) for _ in range(3)]

    assert ["forward", "refused", "webhook"] == sorted(line["type"] for line in lines)
    refused = next(line for line in lines if line["type"] == "refused")
    assert (508, "forwarded to itself") == (refused["http_status"], refused["cause"])


@pytest.mark.anyio
async def test_connection_closed_by_the_application_loses_no_webhook() -> None:
    """An application that closes its connection after each webhook receives each one once."""
    bodies: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        bodies.append(await reader.readexactly(4))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n")
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readexactly(1)  # a second request on this connection would be lost
        writer.transport.abort()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as application, HttpProbe(10.0) as probe:
        url = f"http://127.0.0.1:{application.sockets[0].getsockname()[1]}/"
        responses = [await probe.post(url, {}, body) for body in (b"one ", b"two ", b"last")]

    assert [200, 200, 200] == [response.status for response in responses]
    assert [b"one ", b"two ", b"last"] == bodies
