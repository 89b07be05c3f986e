"""Inboxes that are closed and opened again, because a framework starts and stops its application many times."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from veriff_async import InboxError
from veriff_async.inbox import MemoryInbox, RedisInbox, SqliteInbox
from veriff_async.testing.factories import decision_event

if TYPE_CHECKING:
    from pathlib import Path

    from veriff_async.inbox import Inbox

KINDS = ("memory", "sqlite", "redis")
AnyInbox = MemoryInbox | SqliteInbox | RedisInbox


@pytest.fixture(params=KINDS)
def inbox(request: pytest.FixtureRequest, tmp_path: Path) -> AnyInbox:
    """Return an inbox of each kind, not open yet."""
    if request.param == "memory":
        return MemoryInbox()
    if request.param == "sqlite":
        return SqliteInbox(tmp_path / "inbox.db")
    return RedisInbox(request.getfixturevalue("single_redis_server").url)


async def works(inbox: Inbox, session_id: str) -> bool:
    """Record a decision, and return whether a subscription reports it and a lookup finds it."""
    async with aclosing(inbox.subscribe()) as feed:
        assert await anext(feed) is None
        await inbox.record(decision_event(session_id, "approved"))
        changed = await anext(feed)
    return changed == session_id and session_id in await inbox.get_states([session_id])


def test_inbox_opens_again_in_each_loop(inbox: AnyInbox) -> None:
    """An inbox that `async with` enters again works as a new one does, in the same event loop and in another."""

    async def start_twice(name: str) -> None:
        for number in range(2):
            async with inbox:
                assert await works(inbox, f"{name}-{number}")

    for name in ("first", "second"):
        asyncio.run(start_twice(name))


def test_inbox_stays_open_while_a_block_uses_it(inbox: AnyInbox) -> None:
    """The end of an inner `async with` block does not close the inbox under the outer one; `aclose` closes it."""

    async def nest() -> None:
        async with inbox:
            async with inbox:
                assert await works(inbox, "inner")
            assert await works(inbox, "outer")
            assert "inner" in await inbox.get_states(["inner"])
            await inbox.aclose()
            if not isinstance(inbox, MemoryInbox):  # which has nothing to open
                with pytest.raises(InboxError, match="closed"):
                    await inbox.get_states(["inner"])

    asyncio.run(nest())


@pytest.mark.parametrize("inbox", ["memory", "sqlite"], indirect=True)
def test_applications_in_two_loops_share_an_inbox(inbox: AnyInbox) -> None:
    """If two applications in two loops share an inbox, it stays open until both have stopped."""

    async def outer() -> None:
        async with inbox:
            await asyncio.to_thread(asyncio.run, inner())
            assert await works(inbox, "outer")

    async def inner() -> None:
        async with inbox:
            assert await works(inbox, "inner")

    asyncio.run(outer())
