"""Webhooks that a test holds, delivers, delays, repeats, reorders and drops, as a real receiver sees them."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest
from aiohttp import ClientSession

from tests.conditions import run_loop, until
from tests.loops import every_loop
from tests.sandbox.conftest import Caller
from veriff_async import InvalidArgumentError
from veriff_async.sandbox import RealClock, Sandbox, SandboxOptions, VirtualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    from tests.sandbox.conftest import Receiver, StartSandbox

pytestmark = pytest.mark.anyio

HOUR: Final = 3600
STATUSES: Final = ("review", "declined", "approved")


@pytest.fixture
async def held(start_sandbox: StartSandbox, receiver: Receiver) -> AsyncIterator[Caller]:
    """Return a caller of a sandbox that holds three decisions about one session."""
    async with start_sandbox(clock=VirtualClock(), webhook_url=receiver.url) as caller:
        caller.sandbox.hold_webhooks()
        await decide(caller)
        yield caller


async def decide(caller: Caller, statuses: tuple[str, ...] = STATUSES) -> str:
    """Create a session with decisions."""
    session_id = await caller.create()
    for status in statuses:
        caller.sandbox.decide(session_id, status)
    return session_id


async def arrived(caller: Caller, receiver: Receiver) -> list[str]:
    """Return the decisions that have come since the last call."""
    await caller.sandbox.wait_idle()
    arrivals = [receiver.arrived.get_nowait() for _ in range(receiver.arrived.qsize())]
    return [arrival.json["verification"]["status"] for arrival in arrivals]


def states(sandbox: Sandbox) -> list[str]:
    """Return the states of all webhooks, oldest first."""
    return [str(webhook.state) for webhook in sandbox.webhooks]


def ids(sandbox: Sandbox) -> list[str]:
    """Return the ids of all webhooks, oldest first."""
    return [webhook.id for webhook in sandbox.webhooks]


async def test_held_webhooks_wait_for_their_release(held: Caller, receiver: Receiver) -> None:
    """`wait_idle` does not wait for them, the clock does not post them, and the release posts them once."""
    assert [] == await arrived(held, receiver)
    held.sandbox.advance(HOUR)
    assert [] == await arrived(held, receiver)
    assert ["held"] * 3 == states(held.sandbox)

    assert 3 == held.sandbox.release_webhooks()

    assert sorted(STATUSES) == sorted(await arrived(held, receiver))
    assert ["delivered"] * 3 == states(held.sandbox)
    assert 0 == held.sandbox.release_webhooks()
    await decide(held, ("approved",))
    assert ["approved"] == await arrived(held, receiver)


async def test_hold_is_for_a_session_a_kind_or_both(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """A later call has priority over an earlier one, for the webhooks that it selects."""
    urls = {"decision": receiver.url, "event": receiver.url}
    async with start_sandbox(clock=VirtualClock(), webhook_urls=urls) as caller:
        first, second = await caller.create(), await caller.create()
        assert 0 == caller.sandbox.hold_webhooks(kind="event")
        assert 0 == caller.sandbox.hold_webhooks(session_id=first)
        assert 0 == caller.sandbox.release_webhooks(session_id=first, kind="event")
        for session_id in (first, second):
            await caller.submit(session_id)
            caller.sandbox.decide(session_id, "approved")
        await caller.sandbox.wait_idle()

        assert ["delivered", "held", "held", "delivered"] == states(caller.sandbox)
        assert 1 == caller.sandbox.release_webhooks(kind="event")
        assert 1 == caller.sandbox.release_webhooks()


async def test_attempt_after_a_hold_is_held(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """A hold does not stop the attempt that is in flight; its repetition is held, and keeps its time."""
    receiver.holds, receiver.answers = asyncio.Event(), [500]
    async with start_sandbox(clock=VirtualClock(), webhook_url=receiver.url) as caller:
        await decide(caller, ("approved",))
        await receiver.next()
        assert 0 == caller.sandbox.hold_webhooks()
        assert ["delivering"] == states(caller.sandbox)
        receiver.holds.set()
        await caller.sandbox.wait_idle()
        assert ["held"] == states(caller.sandbox)

        assert 1 == caller.sandbox.release_webhooks()
        assert [] == await arrived(caller, receiver)
        caller.sandbox.advance(HOUR)
        assert ["approved"] == await arrived(caller, receiver)


async def test_one_webhook_is_delivered_before_others(held: Caller, receiver: Receiver) -> None:
    """`deliver_webhook` posts a held webhook, and the others stay held."""
    held.sandbox.deliver_webhook(ids(held.sandbox)[1])

    assert ["declined"] == await arrived(held, receiver)
    assert ["held", "delivered", "held"] == states(held.sandbox)


async def test_dropped_webhook_is_never_posted_unless_asked(held: Caller, receiver: Receiver) -> None:
    """Neither the release nor the clock posts it; `deliver_webhook` does."""
    first = ids(held.sandbox)[0]
    held.sandbox.drop_webhook(first)
    held.sandbox.release_webhooks()
    held.sandbox.advance(HOUR)
    assert sorted(STATUSES[1:]) == sorted(await arrived(held, receiver))
    assert ["dropped", "delivered", "delivered"] == states(held.sandbox)

    held.sandbox.deliver_webhook(first)

    assert ["review"] == await arrived(held, receiver)


async def test_webhook_that_has_failed_can_be_delivered(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """One more attempt, after which it has failed again or is delivered."""
    receiver.answers = [500, 500]
    options = SandboxOptions(webhook_retry_days=0)
    async with start_sandbox(clock=VirtualClock(), webhook_url=receiver.url, options=options) as caller:
        await decide(caller, ("approved",))
        await caller.sandbox.wait_idle()
        assert ["failed"] == states(caller.sandbox)

        for state in ("failed", "delivered"):
            caller.sandbox.deliver_webhook(*ids(caller.sandbox))
            await caller.sandbox.wait_idle()
            assert [state] == states(caller.sandbox)
        assert [500, 500, 200] == [each.status for each in caller.sandbox.webhooks[0].attempts]


async def test_webhook_without_a_url_is_delivered_once_there_is_one(caller: Caller, receiver: Receiver) -> None:
    """It is posted to the present URL, with a valid signature; before, the error names the setting."""
    await decide(caller, ("approved",))
    (webhook_id,) = ids(caller.sandbox)
    with pytest.raises(InvalidArgumentError, match=r"kind decision have no URL: set one in Sandbox\.webhook_urls"):
        caller.sandbox.deliver_webhook(webhook_id)
    assert ["no_url"] == states(caller.sandbox)

    caller.sandbox.webhook_url = receiver.url
    assert 0 == caller.sandbox.release_webhooks()
    caller.sandbox.deliver_webhook(webhook_id)
    await caller.sandbox.wait_idle()

    arrival = await receiver.next()
    assert caller.signature(arrival.body).hexdigest() == arrival.headers["x-hmac-signature"]
    assert ("delivered", receiver.url) == (caller.sandbox.webhooks[0].state, caller.sandbox.webhooks[0].url)


async def test_delayed_webhook_comes_at_its_new_time(held: Caller, receiver: Receiver) -> None:
    """`delay_webhook` counts from now, and takes the webhook out of the hold."""
    held.sandbox.delay_webhook(ids(held.sandbox)[2], 60)
    held.sandbox.advance(59)
    assert [] == await arrived(held, receiver)
    held.sandbox.advance(1)

    assert ["approved"] == await arrived(held, receiver)
    assert ["held", "held", "delivered"] == states(held.sandbox)


async def test_duplicate_has_the_same_bytes_and_an_id_of_its_own(held: Caller, receiver: Receiver) -> None:
    """It is held like the original, names it, and can be made of a delivered webhook as well."""
    original = held.sandbox.webhooks[0]
    copy_id = held.sandbox.duplicate_webhook(original.id)
    copy = held.sandbox.webhooks[-1]
    assert (copy_id, original.id, "held", original.body) == (copy.id, copy.copy_of, copy.state, copy.body)

    held.sandbox.release_webhooks()
    await held.sandbox.wait_idle()
    held.sandbox.duplicate_webhook(original.id)

    assert ["review"] * 3 == [status for status in await arrived(held, receiver) if status == "review"]


async def test_reordered_webhooks_come_in_this_order(held: Caller, receiver: Receiver) -> None:
    """Each starts after the response to the one before it, even if that one was refused."""
    review, declined, approved = ids(held.sandbox)
    receiver.answers = [500]
    held.sandbox.reorder_webhooks([declined, approved, review])
    assert [approved, None, declined] == [webhook.after for webhook in held.sandbox.webhooks]
    assert [] == await arrived(held, receiver)

    held.sandbox.release_webhooks()

    assert ["declined", "approved", "review"] == await arrived(held, receiver)
    assert ["delivered", "pending", "delivered"] == states(held.sandbox)


async def test_reordered_webhooks_are_not_posted_side_by_side(held: Caller, receiver: Receiver) -> None:
    """While the receiver has not responded to the first one, the second one is not posted."""
    receiver.holds = asyncio.Event()
    held.sandbox.reorder_webhooks(ids(held.sandbox)[::-1])
    held.sandbox.release_webhooks()
    await receiver.next()
    await run_loop(200)
    assert ["pending", "pending", "delivering"] == states(held.sandbox)
    assert receiver.arrived.empty()

    receiver.holds.set()

    assert ["declined", "review"] == await arrived(held, receiver)


async def test_reordered_webhook_waits_for_one_that_is_held(held: Caller, receiver: Receiver) -> None:
    """A drop of the one before it, or its delivery, lets the next one go."""
    first, second, third = ids(held.sandbox)
    held.sandbox.reorder_webhooks([first, second, third])
    held.sandbox.delay_webhook(second, 0)
    held.sandbox.delay_webhook(third, 0)
    assert [] == await arrived(held, receiver)
    assert ["held", "pending", "pending"] == states(held.sandbox)

    held.sandbox.drop_webhook(first)

    assert ["declined", "approved"] == await arrived(held, receiver)


async def test_later_order_replaces_an_earlier_one(held: Caller, receiver: Receiver) -> None:
    """No order makes two webhooks wait for each other."""
    first, second, third = ids(held.sandbox)
    held.sandbox.reorder_webhooks([first, second, third])
    held.sandbox.reorder_webhooks([third, first])
    held.sandbox.reorder_webhooks([second, third])
    held.sandbox.release_webhooks()

    assert ["declined", "approved", "review"] == await arrived(held, receiver)


async def test_resend_returns_the_id_of_a_new_webhook(held: Caller, receiver: Receiver) -> None:
    """The last body of the kind is posted again, as another webhook."""
    session_id = held.sandbox.sessions[0].id
    held.sandbox.release_webhooks()
    await held.sandbox.wait_idle()

    webhook_id = held.sandbox.resend(session_id)
    await held.sandbox.wait_idle()

    newest = held.sandbox.webhooks[-1]
    assert (webhook_id, None, "delivered", newest.body) == (
        newest.id,
        newest.copy_of,
        newest.state,
        held.sandbox.webhooks[2].body,
    )


async def test_list_over_http_has_no_bodies(held: Caller) -> None:
    """A page of webhooks has their states and last results; body and attempts come with the webhook itself."""
    held.sandbox.deliver_webhook(ids(held.sandbox)[0])
    await held.sandbox.wait_idle()

    async with held.http.get(f"{held.sandbox.control_url}/webhooks") as response:
        page = await response.json()
    async with held.http.get(f"{held.sandbox.control_url}/webhooks/{page['webhooks'][-1]['id']}") as response:
        first = await response.json()

    assert [(0, None), (0, None), (1, 200)] == [
        (each["attempt_count"], each["last_status"]) for each in page["webhooks"]
    ]
    assert not {"body", "headers", "attempts"} & page["webhooks"][0].keys()
    assert held.sandbox.webhooks[0].body.decode() == first["body"] == first["attempts"][0]["body"]


CHANGES: dict[str, Callable[[Sandbox, str], object]] = {
    "deliver": lambda sandbox, webhook_id: sandbox.deliver_webhook(webhook_id),
    "delay": lambda sandbox, webhook_id: sandbox.delay_webhook(webhook_id, 1),
    "drop": lambda sandbox, webhook_id: sandbox.drop_webhook(webhook_id),
    "reorder": lambda sandbox, webhook_id: sandbox.reorder_webhooks([webhook_id]),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_delivered_webhook_does_not_change(held: Caller, receiver: Receiver, change: str) -> None:
    """Each change of a delivered webhook raises an error that names the state."""
    held.sandbox.release_webhooks()
    await held.sandbox.wait_idle()
    before = held.sandbox.webhooks

    with pytest.raises(InvalidArgumentError, match="delivered"):
        CHANGES[change](held.sandbox, before[0].id)

    assert before == held.sandbox.webhooks
    assert 3 == receiver.arrived.qsize()


@pytest.mark.parametrize("change", ["deliver", "delay", "reorder"])
async def test_webhook_in_flight_is_not_planned_again(held: Caller, receiver: Receiver, change: str) -> None:
    """The error says to wait for the end of the attempt, and the receiver gets one post."""
    receiver.holds = asyncio.Event()
    (webhook_id, *_) = ids(held.sandbox)
    held.sandbox.deliver_webhook(webhook_id)
    await receiver.next()

    with pytest.raises(InvalidArgumentError, match=r"being posted: wait for the end"):
        CHANGES[change](held.sandbox, webhook_id)
    receiver.holds.set()

    assert [] == await arrived(held, receiver)
    assert ["delivered", "held", "held"] == states(held.sandbox)


@pytest.mark.parametrize(("status", "state"), [(200, "delivered"), (500, "dropped")])
async def test_webhook_dropped_in_flight_is_not_repeated(
    held: Caller, receiver: Receiver, status: int, state: str
) -> None:
    """The attempt may still succeed; if it does not, none follows."""
    receiver.holds, receiver.answers = asyncio.Event(), [status]
    (webhook_id, *_) = ids(held.sandbox)
    held.sandbox.deliver_webhook(webhook_id)
    await receiver.next()
    held.sandbox.drop_webhook(webhook_id)
    receiver.holds.set()
    await held.sandbox.wait_idle()
    held.sandbox.advance(2 * HOUR)

    assert [] == await arrived(held, receiver)
    assert [state, "held", "held"] == states(held.sandbox)


WRONG: dict[str, Callable[[Sandbox], object]] = {
    "unknown id to deliver": lambda sandbox: sandbox.deliver_webhook("unknown"),
    "unknown id to delay": lambda sandbox: sandbox.delay_webhook("unknown", 1),
    "unknown id to drop": lambda sandbox: sandbox.drop_webhook("unknown"),
    "unknown id to duplicate": lambda sandbox: sandbox.duplicate_webhook("unknown"),
    "unknown id to reorder": lambda sandbox: sandbox.reorder_webhooks([ids(sandbox)[0], "unknown"]),
    "number as id": lambda sandbox: sandbox.deliver_webhook(5),  # type: ignore[arg-type]
    "negative delay": lambda sandbox: sandbox.delay_webhook(ids(sandbox)[0], -1),
    "infinite delay": lambda sandbox: sandbox.delay_webhook(ids(sandbox)[0], float("inf")),
    "text as ids": lambda sandbox: sandbox.reorder_webhooks(ids(sandbox)[0]),
    "set as ids": lambda sandbox: sandbox.reorder_webhooks({*ids(sandbox)}),  # type: ignore[arg-type]
    "id twice": lambda sandbox: sandbox.reorder_webhooks([ids(sandbox)[0]] * 2),
    "unknown session to hold": lambda sandbox: sandbox.hold_webhooks(session_id="unknown"),
    "unknown kind to release": lambda sandbox: sandbox.release_webhooks(kind="decisions"),
    "no webhook to resend": lambda sandbox: sandbox.resend(sandbox.sessions[0].id, "event"),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_wrong_arguments_change_nothing(held: Caller, wrong: str) -> None:
    """An unknown id, a wrong type and an impossible number raise an error of the library."""
    before = held.sandbox.webhooks

    with pytest.raises(InvalidArgumentError):
        WRONG[wrong](held.sandbox)
    await held.sandbox.wait_idle()

    assert before == held.sandbox.webhooks


async def test_reset_forgets_an_attempt_in_flight(held: Caller, receiver: Receiver) -> None:
    """A refusal that comes after the webhooks were removed brings none of them back."""
    receiver.holds, receiver.answers = asyncio.Event(), [500] * 3
    held.sandbox.release_webhooks()
    for _ in range(3):
        await receiver.next()
    held.sandbox._service._queue.clear()
    receiver.holds.set()
    await held.sandbox.wait_idle()
    held.sandbox.advance(2 * HOUR)

    assert [] == await arrived(held, receiver)
    assert ((), ()) == (held.sandbox.webhooks, held.sandbox.deliveries)


async def test_stop_and_start_keep_every_webhook(receiver: Receiver) -> None:
    """A held webhook stays held, one in flight is posted again, and one that waits for it comes after it."""
    receiver.holds = asyncio.Event()
    sandbox = Sandbox(clock=VirtualClock(), webhook_url=receiver.url)
    async with ClientSession() as http, sandbox:
        sandbox.hold_webhooks()
        await decide(Caller(http, sandbox))
        first, second, _ = ids(sandbox)
        sandbox.reorder_webhooks([second, first])
        sandbox.delay_webhook(first, 0)
        sandbox.deliver_webhook(second)
        await receiver.next()
    assert ["pending", "pending", "held"] == states(sandbox)
    receiver.holds.set()
    async with sandbox:
        await sandbox.wait_idle()
        assert ["delivered", "delivered", "held"] == states(sandbox)
        assert ["declined", "review"] == [(await receiver.next()).json["verification"]["status"] for _ in range(2)]


class CountingClock(RealClock):
    """The real time, and how often it was read."""

    def __init__(self) -> None:
        """Start at zero."""
        self.readings = 0

    def now(self) -> datetime:
        """Count, and return the time."""
        self.readings += 1
        return super().now()


@every_loop
async def test_held_and_waiting_webhooks_do_not_wake_the_scheduler(
    start_sandbox: StartSandbox, receiver: Receiver
) -> None:
    """On the real clock too, the scheduler sleeps until something changes."""
    clock = CountingClock()
    async with start_sandbox(clock=clock, webhook_url=receiver.url) as caller:
        caller.sandbox.hold_webhooks()
        await decide(caller)
        first, second, third = ids(caller.sandbox)
        caller.sandbox.reorder_webhooks([first, second, third])
        caller.sandbox.delay_webhook(second, 0)
        await caller.sandbox.wait_idle()
        await run_loop()
        before = clock.readings

        await run_loop(500)

        assert before == clock.readings
        caller.sandbox.release_webhooks()
        assert list(STATUSES) == await arrived(caller, receiver)


@every_loop
async def test_three_hundred_webhooks_are_released_without_a_failure(
    start_sandbox: StartSandbox, receiver: Receiver
) -> None:
    """At most a hundred are posted at the same time; the others wait, can be held again, and lose no time for it."""
    receiver.holds = asyncio.Event()
    async with start_sandbox(webhook_url=receiver.url, options=SandboxOptions(webhook_timeout_seconds=60)) as caller:
        caller.sandbox.hold_webhooks()
        session_id = await decide(caller, ("approved",))
        for _ in range(299):
            caller.sandbox.resend(session_id)
        caller.sandbox.release_webhooks()
        await until(lambda: receiver.arrived.qsize() == 100)
        await run_loop(100)
        assert {"delivering": 100, "pending": 200} == Counter(states(caller.sandbox))
        assert 200 == caller.sandbox.hold_webhooks()
        caller.sandbox.release_webhooks()
        receiver.holds.set()
        await caller.sandbox.wait_idle()

        assert {"delivered": 300} == Counter(states(caller.sandbox))
        assert 300 == receiver.arrived.qsize() == len(caller.sandbox.deliveries)


@every_loop
async def test_calls_from_other_threads_lose_and_repeat_nothing(
    start_sandbox: StartSandbox, receiver: Receiver
) -> None:
    """Threads hold, release and deliver at the same time: each webhook comes exactly once."""
    async with start_sandbox(webhook_url=receiver.url) as caller:
        caller.sandbox.hold_webhooks()
        session_ids = [await decide(caller, ("approved",)) for _ in range(20)]

        def disturb(number: int) -> None:
            for webhook_id in ids(caller.sandbox)[number::4]:
                caller.sandbox.release_webhooks(session_id=session_ids[number])
                with suppress(InvalidArgumentError):
                    caller.sandbox.deliver_webhook(webhook_id)
                caller.sandbox.hold_webhooks()

        await asyncio.gather(*(asyncio.to_thread(disturb, number) for number in range(4)))
        caller.sandbox.release_webhooks()
        await caller.sandbox.wait_idle()

        came = [receiver.arrived.get_nowait().json["verification"]["id"] for _ in range(receiver.arrived.qsize())]
        assert sorted(session_ids) == sorted(came)
