"""A receiver that forwards recognises itself, under any spelling of its address and behind anything in between."""

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
def test_any_spelling_of_its_address_is_its_own(name: str, host: str) -> None:
    """Names, short and numeric forms, IPv4 as IPv6, trailing dots and percent signs lead back to the receiver."""
    for path in (PATH, f"{PATH}/", "/webhooks/%76eriff", "/x/../webhooks/veriff", f"{PATH}?a=1"):
        assert is_own_address(f"http://{name}:8080{path}", host=host, port=8080, path=PATH), path


def test_names_of_this_machine_are_its_own() -> None:
    """A receiver on every address is reached by the machine's own name and addresses too."""
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
def test_an_application_is_not_mistaken_for_it(url: str, host: str) -> None:
    """Another port, path or machine is forwarded to."""
    assert not is_own_address(url, host=host, port=8080, path=PATH)


def test_marks_of_several_receivers_stand_side_by_side() -> None:
    """A chain of receivers that ends where it began is recognised by the first of them."""
    first, second = ForwardMark(), ForwardMark()
    headers = second.add_to(first.add_to([("content-type", "application/json")]))

    assert first.is_present(dict(headers))
    assert second.is_present({name.upper(): value for name, value in headers})
    assert not ForwardMark().is_present(dict(headers))
    assert 2 == len(headers)


@pytest.mark.anyio
async def test_a_tunnel_back_to_itself_ends_at_once(start: Start) -> None:
    """What comes back through something that hides the address is refused, and not recorded a second time."""
    target = 0

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", target)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
            sink.close()

        await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer), return_exceptions=True)

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as tunnel:
        there = f"http://127.0.0.1:{tunnel.sockets[0].getsockname()[1]}{PATH}"
        process = await to_thread.run_sync(
            lambda: start("listen", "--port", "0", "--json", "--forward-to", there, **VARIABLES)
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
async def test_a_connection_that_the_application_closed_loses_nothing() -> None:
    """An application that closes connections between two webhooks gets each of them, once."""
    taken: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        taken.append(await reader.readexactly(4))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n")
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readexactly(1)  # whatever comes second on this connection is lost
        writer.transport.abort()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as application, HttpProbe(10.0) as probe:
        url = f"http://127.0.0.1:{application.sockets[0].getsockname()[1]}/"
        answers = [await probe.post(url, {}, body) for body in (b"one ", b"two ", b"last")]

    assert [200, 200, 200] == [answer.status for answer in answers]
    assert [b"one ", b"two ", b"last"] == taken
