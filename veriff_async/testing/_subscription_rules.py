"""The rules that whoever follows the changes of an inbox can rely on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from veriff_async.errors import InboxError
from veriff_async.models.enums import Status
from veriff_async.testing._harness import Store, Trial, following, hear, rule, same, state
from veriff_async.testing.factories import decision_event, session_event

if TYPE_CHECKING:
    from veriff_async.inbox._protocol import Inbox

__all__ = ("FollowersContract",)


class FollowersContract(Trial):
    """Nobody who follows the changes of an inbox misses one."""

    @rule
    async def test_a_follower_hears_of_a_change(self, store: Store) -> None:
        """A feed yields ``None`` first, and each session that changes from then on, whichever handle recorded it."""
        mine, other = await store.two()
        async with following(mine) as near, following(other) as far:
            for number in range(3):
                session_id = f"s-{number}"
                await mine.record(session_event(session_id, "started"))
                for feed in (near, far):
                    await hear(feed, session_id)
                same((await state(other, session_id)).status, Status.STARTED, "the state that was heard of")

    @rule
    async def test_who_comes_late_sees_what_came_early(self, store: Store) -> None:
        """To begin a feed and then to look misses nothing, whether it was recorded before or after."""
        mine, other = await store.two()
        await mine.record(decision_event("early", "approved"))

        async with following(other) as feed:
            same((await state(other, "early")).status, Status.APPROVED, "what came before the feed")
            await mine.record(decision_event("late", "declined"))
            await hear(feed, "late")

    @rule
    async def test_nothing_is_missed_after_the_first_word(self, store: Store) -> None:
        """A change that another handle records right after the first ``None`` of a feed is heard."""
        mine, other = await store.two()
        await mine.record(session_event("first", "started"))
        for number in range(20):
            async with following(mine) as feed:
                await other.record(session_event(f"s-{number}", "started"))
                await hear(feed, f"s-{number}")

    @rule
    async def test_every_follower_wakes(self, store: Store) -> None:
        """All who sleep wake: many followers of each of three handles, by a record in any of them."""
        handles = [await store.open() for _ in range(3)]
        ready = asyncio.Semaphore(0)

        async def follow(inbox: Inbox) -> Status:
            async with following(inbox) as feed:
                ready.release()
                await hear(feed, "s")
                return (await state(inbox)).status

        followers = [asyncio.create_task(follow(inbox)) for inbox in handles * 10]
        for _ in followers:
            await ready.acquire()
        await handles[0].record(decision_event("s", "approved"))
        same(set(await asyncio.gather(*followers)), {Status.APPROVED}, "what the followers see")

    @rule
    async def test_every_change_is_heard(self, store: Store) -> None:
        """Of many changes at once none is missed by a follower that takes its time."""
        mine, other = await store.two()
        sessions = {f"s-{number}" for number in range(50)}
        async with following(other) as feed:
            await asyncio.gather(*(mine.record(decision_event(session_id, "approved")) for session_id in sessions))
            heard: set[str] = set()
            while heard != sessions:
                changed = await anext(feed)
                heard |= set(await other.get_states(sessions)) if changed is None else {changed}

    @rule
    async def test_a_closed_feed_leaves_nothing(self, store: Store) -> None:
        """A feed that was closed, or whose follower was cancelled, leaves nothing, and a new one can be begun."""
        mine, other = await store.two()
        for number in range(5):
            async with following(other):
                pass
            async with following(other) as feed:
                sleeper = asyncio.create_task(hear(feed, "never"))
                await asyncio.sleep(0)
                sleeper.cancel()
                await asyncio.wait([sleeper])
            async with following(other) as feed:
                await mine.record(session_event(f"s-{number}", "started"))
                await hear(feed, f"s-{number}")

    @rule
    async def test_a_closed_inbox_ends_its_feeds(self, store: Store) -> None:
        """Whoever follows an inbox that is closed is told so by an `InboxError`, rather than left asleep."""
        inbox = await store.open()
        async with following(inbox) as feed:
            sleeper = asyncio.create_task(hear(feed, "never"))
            await asyncio.sleep(0)
            await inbox.aclose()
            await asyncio.wait([sleeper])
            same(type(sleeper.exception()), InboxError, "what a feed of a closed inbox ends with")
