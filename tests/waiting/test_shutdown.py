"""Clients stop and start again with their application, and waits end when a server begins to stop."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conditions import until
from tests.waiting.helpers import OFTEN
from veriff_async import ClientClosedError, VeriffClient, end_waits_on_signals
from veriff_async.inbox import MemoryInbox

if TYPE_CHECKING:
    from veriff_async.sandbox import Sandbox

pytestmark = pytest.mark.anyio


async def is_decided(sandbox: Sandbox, veriff: VeriffClient) -> bool:
    """Create and decide a session, and return whether the client receives the approval."""
    session = await veriff.create_session()
    await session.submit()
    sandbox.decide(session.id, "approved")
    return (await session.wait_for_decision(timeout=30, poll=OFTEN)).is_approved


async def start_wait(veriff: VeriffClient) -> asyncio.Task[object]:
    """Start a wait that nothing ends, and return it once it is registered."""
    session = await veriff.create_session()
    wait = asyncio.create_task(session.wait_for_decision(timeout=3600))
    await until(lambda: veriff.statistics().waiters > 0)
    return wait


async def test_client_reopens_in_any_loop(sandbox: Sandbox) -> None:
    """A client that `async with` enters again works like a new one, in the same event loop and in another."""
    veriff = VeriffClient.from_env(sandbox.environ, inbox=MemoryInbox())

    async def start_twice() -> None:
        for _ in range(2):
            async with veriff:
                assert (await veriff.create_session()).id
                wait = await start_wait(veriff)
            with pytest.raises(ClientClosedError):
                await wait
            with pytest.raises(ClientClosedError):
                await veriff.create_session()

    await start_twice()
    await asyncio.to_thread(asyncio.run, start_twice())
    async with veriff:
        assert await is_decided(sandbox, veriff)


async def test_end_waits_ends_only_waits(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """All waits of a client end, later ones too, and its other calls continue."""
    wait = await start_wait(veriff)
    veriff.end_waits()

    with pytest.raises(ClientClosedError, match="waits were ended"):
        await wait
    session = await veriff.create_session()
    await session.submit()
    with pytest.raises(ClientClosedError):
        await session.wait_for_decision()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("kind", ["process handler", "loop handler"])
async def test_signal_ends_waits_and_reaches_the_server(
    veriff: VeriffClient, number: signal.Signals, kind: str
) -> None:
    """A signal ends the waits, then the previous handler is called, and it is restored afterwards."""
    calls: list[str] = []
    original = signal.getsignal(number)
    loop = asyncio.get_running_loop()
    if kind == "loop handler":
        loop.add_signal_handler(number, calls.append, "server")
    else:
        signal.signal(number, lambda *_: calls.append("server"))
    installed = signal.getsignal(number)
    try:
        with end_waits_on_signals(veriff):
            wait = await start_wait(veriff)
            signal.raise_signal(number)
            with pytest.raises(ClientClosedError):
                await wait
            await until(lambda: bool(calls))
        assert installed is signal.getsignal(number)
    finally:
        if kind == "loop handler":
            loop.remove_signal_handler(number)
        signal.signal(number, original)
    assert ["server"] == calls


async def test_ignored_signal_stays_ignored(veriff: VeriffClient) -> None:
    """A signal that the program ignores does not end a wait."""
    original = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with end_waits_on_signals(veriff):
            wait = await start_wait(veriff)
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(0)
            assert not wait.done()
            wait.cancel()
            await asyncio.wait({wait})
    finally:
        signal.signal(signal.SIGINT, original)


async def test_signals_are_not_handled_in_other_threads(sandbox: Sandbox) -> None:
    """In a thread, where test clients run applications, the context manager does nothing."""
    original = signal.getsignal(signal.SIGTERM)

    async def serve() -> None:
        async with VeriffClient.from_env(sandbox.environ) as veriff:
            with end_waits_on_signals(veriff):
                assert original is signal.getsignal(signal.SIGTERM)
                assert (await veriff.create_session()).id

    await asyncio.to_thread(asyncio.run, serve())


PROGRAM = """
import asyncio, signal
from veriff_async import Credentials, VeriffClient, end_waits_on_signals

async def main():
    async with VeriffClient(Credentials("key", "secret"), base_url="http://127.0.0.1:9") as veriff:
        with end_waits_on_signals(veriff):
            signal.raise_signal(signal.SIGTERM)
            await asyncio.Event().wait()

asyncio.run(main())
"""


def test_signal_without_a_handler_ends_the_process(without_coverage: None) -> None:
    """If no server handles the signal, it has its default effect."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=False, timeout=50)  # noqa: S603  our own code
    assert -signal.SIGTERM == done.returncode
