"""Changes reach their subscribers, from any thread to any loop; a slow subscriber uses bounded memory."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from threading import Event, Thread

import pytest

from veriff_async import InboxError
from veriff_async.inbox._pubsub import Broadcaster

pytestmark = pytest.mark.anyio


async def test_subscriber_gets_later_changes_in_order() -> None:
    """A subscription begins with ``None``, and yields every later change in order."""
    broadcaster = Broadcaster()
    broadcaster.publish(["before"])
    async with aclosing(broadcaster.subscribe()) as changes:
        assert await anext(changes) is None
        broadcaster.publish(["a", "b"])
        broadcaster.publish([None])
        assert ["a", "b", None] == [await anext(changes) for _ in range(3)]


async def test_changes_during_work_of_the_subscriber_are_kept() -> None:
    """Changes that are published between two reads of a subscriber are neither lost nor merged."""
    broadcaster = Broadcaster()
    received = []
    async with aclosing(broadcaster.subscribe()) as changes:
        await anext(changes)
        broadcaster.publish(["0"])
        async for session_id in changes:
            received.append(session_id)
            if len(received) == 100:
                break
            broadcaster.publish([str(len(received))])
            await asyncio.sleep(0)
    assert [str(number) for number in range(100)] == received


async def test_long_backlog_becomes_one_none() -> None:
    """A subscriber that is ten thousand changes behind gets one ``None`` for them, and then later changes."""
    broadcaster = Broadcaster()
    async with aclosing(broadcaster.subscribe()) as changes:
        await anext(changes)
        broadcaster.publish(str(number) for number in range(10_000))
        broadcaster.publish(["one more"])
        broadcaster.publish(["last"])
        assert [None, "last"] == [await anext(changes), await anext(changes)]


async def test_error_follows_earlier_changes() -> None:
    """A subscription whose source fails yields earlier changes, and then raises the error; a new one works."""
    broadcaster = Broadcaster()
    async with aclosing(broadcaster.subscribe()) as changes:
        await anext(changes)
        broadcaster.publish(["a"])
        broadcaster.end(InboxError("It is gone: begin again."))
        assert "a" == await anext(changes)
        with pytest.raises(InboxError, match="gone"):
            await anext(changes)
    async with aclosing(broadcaster.subscribe()) as changes:
        assert await anext(changes) is None


async def test_closed_subscription_is_removed() -> None:
    """A subscriber that was cancelled is not counted any more."""
    broadcaster = Broadcaster()

    async def read() -> None:
        async with aclosing(broadcaster.subscribe()) as changes:
            async for _ in changes:
                started.set()

    started = asyncio.Event()
    subscriber = asyncio.create_task(read())
    await started.wait()
    assert 1 == broadcaster.count
    subscriber.cancel()
    await asyncio.wait([subscriber])
    assert 0 == broadcaster.count


def test_subscribers_may_be_in_any_loop() -> None:
    """A change that one thread publishes wakes subscribers in the loops of others; closed loops are ignored."""
    broadcaster = Broadcaster()
    events = [Event() for _ in range(4)]
    received: list[str | None] = []

    def run_loop(ready: Event) -> None:
        async def read() -> None:
            async with aclosing(broadcaster.subscribe()) as changes:
                await anext(changes)
                ready.set()
                received.append(await anext(changes))

        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(read())

    threads = [Thread(target=run_loop, args=(event,)) for event in events]
    for thread in threads:
        thread.start()
    for event in events:
        event.wait()
    broadcaster.publish(["s"])
    for thread in threads:
        thread.join()
    broadcaster.publish(["no subscriber"])

    assert (["s"] * 4, 0) == (received, broadcaster.count)


def test_closed_loop_of_a_subscriber_is_ignored() -> None:
    """A subscriber whose loop was closed does not keep the others from their changes."""
    broadcaster = Broadcaster()
    dead = asyncio.new_event_loop()
    changes = broadcaster.subscribe()
    dead.run_until_complete(anext(changes))
    dead.close()

    async def read() -> str | None:
        async with aclosing(broadcaster.subscribe()) as other:
            await anext(other)
            broadcaster.publish(["s"])
            return await anext(other)

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        assert "s" == runner.run(read())
        runner.run(changes.aclose())
    assert 0 == broadcaster.count
