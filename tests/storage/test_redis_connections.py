"""The connections of the stores on Redis: none stays open after a call or the store has ended."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from veriff_async.errors import InboxError
from veriff_async.inbox import RedisInbox
from veriff_async.testing import session_event

if TYPE_CHECKING:
    from tests.servers import RedisServer

pytestmark = pytest.mark.anyio

STEPS = (0, 1, 3, 5, 9, 10, 12, 20)
"""Iterations of the loop after which something happens: while connecting, logging in, sending or waiting."""


async def follow(inbox: RedisInbox) -> None:
    """Subscribe until the subscription ends."""
    async with aclosing(inbox.subscribe()) as feed:
        async for _ in feed:
            pass


async def record(inbox: RedisInbox) -> None:
    """Record an event."""
    await inbox.record(session_event("s", "started"))


async def pass_iterations(count: int) -> None:
    """Let the loop run."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("steps", STEPS)
async def test_closing_ends_calls_in_progress(redis_server: RedisServer, steps: int) -> None:
    """Closing ends a subscription and a record, also those that are opening their connection."""
    inbox = RedisInbox(redis_server.url)
    subscription, recording = asyncio.create_task(follow(inbox)), asyncio.create_task(record(inbox))
    await pass_iterations(steps)

    await inbox.aclose()

    await asyncio.wait([subscription, recording])
    with pytest.raises(InboxError, match="closed"):
        subscription.result()
    assert recording.exception() is None or "closed" in str(recording.exception())
    await pass_iterations(10)


async def test_subscription_does_not_outlive_the_closing(redis_server: RedisServer) -> None:
    """A subscription whose consumer was busy while the inbox was closed ends, also if the inbox is open again."""
    inbox = RedisInbox(redis_server.url)
    async with aclosing(inbox.subscribe()) as feed:
        assert await anext(feed) is None
        await inbox.aclose()
        async with inbox:
            await record(inbox)
            with pytest.raises(InboxError, match="closed"):
                await anext(feed)


@pytest.mark.parametrize("steps", STEPS)
async def test_cancelled_calls_leave_no_connection(redis_server: RedisServer, steps: int) -> None:
    """A call or a closing that is cancelled once or again and again closes its connections all the same."""
    inbox = RedisInbox(redis_server.url)
    calls = [asyncio.create_task(call(inbox)) for call in (follow, record, record)]
    await pass_iterations(steps)
    for _ in range(3):
        for task in calls:
            task.cancel()
        await pass_iterations(1)
    await asyncio.wait(calls)
    await asyncio.gather(*(record(inbox) for _ in range(4)))  # opens more connections

    closing = asyncio.create_task(inbox.aclose())
    await pass_iterations(1 + steps % 4)
    for _ in range(3):
        closing.cancel()
        await pass_iterations(1)
    await asyncio.wait([closing])
    await pass_iterations(10)
