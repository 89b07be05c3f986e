"""The part of the contract of inboxes that is about subscriptions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from veriff_async.errors import InboxError
from veriff_async.models.enums import Status
from veriff_async.testing._harness import (
    ContractCase,
    InboxHandles,
    check_equal,
    get_state,
    rule,
    subscribe,
    wait_for_change,
)
from veriff_async.testing.factories import decision_event, session_event

if TYPE_CHECKING:
    from veriff_async.inbox._protocol import Inbox

__all__ = ("SubscriptionContract",)


class SubscriptionContract(ContractCase):
    """Rules of subscriptions: no subscriber misses a change."""

    @rule
    async def test_subscription_reports_changes_of_every_handle(self, store: InboxHandles) -> None:
        """A subscription yields ``None`` first, then each session that changes, in any handle."""
        mine, other = await store.open_two()
        async with subscribe(mine) as near, subscribe(other) as far:
            for number in range(3):
                session_id = f"s-{number}"
                await mine.record(session_event(session_id, "started"))
                for changes in (near, far):
                    await wait_for_change(changes, session_id)
                check_equal((await get_state(other, session_id)).status, Status.STARTED, "the state that was heard of")

    @rule
    async def test_subscribing_before_looking_misses_nothing(self, store: InboxHandles) -> None:
        """A caller that subscribes and then looks up states sees what was recorded before and after."""
        mine, other = await store.open_two()
        await mine.record(decision_event("early", "approved"))

        async with subscribe(other) as changes:
            check_equal((await get_state(other, "early")).status, Status.APPROVED, "what came before the feed")
            await mine.record(decision_event("late", "declined"))
            await wait_for_change(changes, "late")

    @rule
    async def test_change_after_the_first_item_is_reported(self, store: InboxHandles) -> None:
        """A change that another handle records right after the first ``None`` is reported."""
        mine, other = await store.open_two()
        await mine.record(session_event("first", "started"))
        for number in range(20):
            async with subscribe(mine) as changes:
                await other.record(session_event(f"s-{number}", "started"))
                await wait_for_change(changes, f"s-{number}")

    @rule
    async def test_record_wakes_every_subscriber(self, store: InboxHandles) -> None:
        """A record in any handle wakes many subscribers of each of three handles."""
        handles = [await store.open() for _ in range(3)]
        ready = asyncio.Semaphore(0)

        async def follow(inbox: Inbox) -> Status:
            async with subscribe(inbox) as changes:
                ready.release()
                await wait_for_change(changes, "s")
                return (await get_state(inbox)).status

        followers = [asyncio.create_task(follow(inbox)) for inbox in handles * 10]
        for _ in followers:
            await ready.acquire()
        await handles[0].record(decision_event("s", "approved"))
        check_equal(set(await asyncio.gather(*followers)), {Status.APPROVED}, "what the followers see")

    @rule
    async def test_slow_subscriber_misses_no_change(self, store: InboxHandles) -> None:
        """A slow subscriber gets every one of many changes at the same time."""
        mine, other = await store.open_two()
        sessions = {f"s-{number}" for number in range(50)}
        async with subscribe(other) as changes:
            await asyncio.gather(*(mine.record(decision_event(session_id, "approved")) for session_id in sessions))
            heard: set[str] = set()
            while heard != sessions:
                changed = await anext(changes)
                heard |= set(await other.get_states(sessions)) if changed is None else {changed}

    @rule
    async def test_closed_subscription_leaves_nothing(self, store: InboxHandles) -> None:
        """A subscription that was closed, or whose task was cancelled, leaves nothing, and another one can start."""
        mine, other = await store.open_two()
        for number in range(5):
            async with subscribe(other):
                pass
            async with subscribe(other) as changes:
                sleeper = asyncio.create_task(wait_for_change(changes, "never"))
                await asyncio.sleep(0)
                sleeper.cancel()
                await asyncio.wait([sleeper])
            async with subscribe(other) as changes:
                await mine.record(session_event(f"s-{number}", "started"))
                await wait_for_change(changes, f"s-{number}")

    @rule
    async def test_closing_the_inbox_ends_its_subscriptions(self, store: InboxHandles) -> None:
        """A subscription of a closed inbox raises an `InboxError` rather than sleeping forever."""
        inbox = await store.open()
        async with subscribe(inbox) as changes:
            sleeper = asyncio.create_task(wait_for_change(changes, "never"))
            await asyncio.sleep(0)
            await inbox.aclose()
            await asyncio.wait([sleeper])
            check_equal(type(sleeper.exception()), InboxError, "what a feed of a closed inbox ends with")
