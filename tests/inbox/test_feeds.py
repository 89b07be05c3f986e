"""Changes reach whoever follows them, from any thread to any loop, and a slow follower costs no memory without end."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from threading import Event, Thread

import pytest

from veriff_async import InboxError
from veriff_async.inbox._pubsub import Feeds

pytestmark = pytest.mark.anyio


async def test_a_follower_hears_what_is_told_from_then_on() -> None:
    """A feed begins with ``None``, and yields every change after it in order."""
    feeds = Feeds()
    feeds.tell(["before"])
    async with aclosing(feeds.follow()) as feed:
        assert await anext(feed) is None
        feeds.tell(["a", "b"])
        feeds.tell([None])
        assert ["a", "b", None] == [await anext(feed) for _ in range(3)]


async def test_what_is_told_while_a_follower_works_is_heard() -> None:
    """Changes that come between two looks of a follower are neither lost nor merged."""
    feeds = Feeds()
    heard = []
    async with aclosing(feeds.follow()) as feed:
        await anext(feed)
        feeds.tell(["0"])
        async for session_id in feed:
            heard.append(session_id)
            if len(heard) == 100:
                break
            feeds.tell([str(len(heard))])
            await asyncio.sleep(0)
    assert [str(number) for number in range(100)] == heard


async def test_who_is_too_far_behind_is_told_to_look_at_everything() -> None:
    """A follower that is ten thousand changes behind gets one ``None`` for them, and what came after it."""
    feeds = Feeds()
    async with aclosing(feeds.follow()) as feed:
        await anext(feed)
        feeds.tell(str(number) for number in range(10_000))
        feeds.tell(["one more"])
        feeds.tell(["last"])
        assert [None, "last"] == [await anext(feed), await anext(feed)]


async def test_an_end_comes_after_what_was_told() -> None:
    """When its source breaks off, a feed yields what was told before, and then raises the error; others begin anew."""
    feeds = Feeds()
    async with aclosing(feeds.follow()) as feed:
        await anext(feed)
        feeds.tell(["a"])
        feeds.end(InboxError("It is gone: begin again."))
        assert "a" == await anext(feed)
        with pytest.raises(InboxError, match="gone"):
            await anext(feed)
    async with aclosing(feeds.follow()) as feed:
        assert await anext(feed) is None


async def test_who_has_gone_is_forgotten() -> None:
    """A follower that closed its feed, or was cancelled in it, is not counted any more."""
    feeds = Feeds()

    async def follow() -> None:
        async with aclosing(feeds.follow()) as feed:
            async for _ in feed:
                started.set()

    started = asyncio.Event()
    follower = asyncio.create_task(follow())
    await started.wait()
    assert 1 == feeds.count
    follower.cancel()
    await asyncio.wait([follower])
    assert 0 == feeds.count


def test_followers_may_be_in_any_loop() -> None:
    """What one thread tells wakes followers in the loops of others, and nobody's loop that has been closed."""
    feeds = Feeds()
    ready = [Event() for _ in range(4)]
    heard: list[str | None] = []

    def live(begun: Event) -> None:
        async def follow() -> None:
            async with aclosing(feeds.follow()) as feed:
                await anext(feed)
                begun.set()
                heard.append(await anext(feed))

        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(follow())

    threads = [Thread(target=live, args=(begun,)) for begun in ready]
    for thread in threads:
        thread.start()
    for begun in ready:
        begun.wait()
    feeds.tell(["s"])
    for thread in threads:
        thread.join()
    feeds.tell(["nobody is there"])

    assert (["s"] * 4, 0) == (heard, feeds.count)


def test_a_loop_that_died_disturbs_nobody() -> None:
    """A follower whose loop was closed under it does not keep the others from hearing."""
    feeds = Feeds()
    dead = asyncio.new_event_loop()
    feed = feeds.follow()
    dead.run_until_complete(anext(feed))
    dead.close()

    async def follow() -> str | None:
        async with aclosing(feeds.follow()) as other:
            await anext(other)
            feeds.tell(["s"])
            return await anext(other)

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        assert "s" == runner.run(follow())
        runner.run(feed.aclose())
    assert 0 == feeds.count
