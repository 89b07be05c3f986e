"""Chaos profiles in a running sandbox, seen by clients at the socket."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final

import pytest
from aiohttp import ClientError

from veriff_async.sandbox import (
    ChaosProfile,
    Delay,
    Fault,
    Outage,
    RequestChaos,
    VirtualClock,
    WebhookChaos,
    WebhookKind,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox.conftest import Caller, Receiver, StartSandbox

pytestmark = pytest.mark.anyio

SLOW: Final = ChaosProfile(requests=[RequestChaos(latency=Delay.constant(100))])


async def wait_for_session(caller: Caller) -> None:
    """Return when a creation has taken effect; its response is still delayed."""
    while not caller.sandbox.sessions:  # noqa: ASYNC110  the sandbox has no event for it
        await asyncio.sleep(0)


async def test_profile_applies_from_the_time_it_is_set(caller: Caller) -> None:
    """A profile can be set and removed while the sandbox runs; injected faults have priority over it."""
    assert caller.sandbox.chaos is None
    caller.sandbox.chaos = ChaosProfile(name="broken", requests=[RequestChaos(faults={Fault.status(500): 1})])
    caller.sandbox.inject(Fault.status(418))

    statuses = [(await caller.post("/v1/sessions", {"verification": {}})).status for _ in range(2)]
    assert [418, 500] == statuses
    assert ["injected fault", "chaos profile broken: requests[0]"] == [each.cause for each in caller.sandbox.requests]

    caller.sandbox.chaos = None
    await caller.create()
    assert "" == caller.sandbox.requests[-1].cause


async def test_profile_is_set_by_name(caller: Caller) -> None:
    """Names load shipped profiles, also in the loop of a server, and an error leaves the profile as it was."""
    caller.sandbox.chaos = "mobile"
    assert ChaosProfile.load("mobile") == caller.sandbox.chaos

    with pytest.raises(ValueError, match="did you mean 'mobile'"):
        caller.sandbox.chaos = "mobil"
    assert ChaosProfile.load("mobile") == caller.sandbox.chaos


async def test_same_order_of_requests_has_the_same_faults(start_sandbox: StartSandbox) -> None:
    """Two sandboxes with one profile fail the same requests, although their sessions have other ids."""
    profile = ChaosProfile(seed=3, requests=[RequestChaos(method="GET", faults={Fault.status(503): 0.5})])

    async def run() -> list[int]:
        async with start_sandbox(chaos=profile) as caller:
            sessions = [await caller.create() for _ in range(3)]
            return [(await caller.decision(session)).status for _ in range(5) for session in sessions]

    first, second = await run(), await run()
    assert first == second
    assert {200, 503} == set(first)


async def test_every_kind_of_fault_happens(start_sandbox: StartSandbox) -> None:
    """Each kind that a profile can name has its effect; kinds that close the connection give no response."""
    effects: dict[Fault, int | None] = {
        Fault.status(503): 503,
        Fault.drop(): None,
        Fault.lose_response(): None,
        Fault.truncate_response(after=3): None,
        Fault.corrupt_response(): 200,
        Fault.forge_signature(): 200,
    }
    async with start_sandbox() as caller:
        session_id = await caller.create()
        for fault, expected in effects.items():
            caller.sandbox.chaos = ChaosProfile(requests=[RequestChaos(faults={fault: 1})])
            try:
                status: int | None = (await caller.decision(session_id)).status
            except (ClientError, json.JSONDecodeError):
                status = None
            assert (fault, expected) == (fault, status)


async def test_latency_delays_the_response(start_sandbox: StartSandbox, advance_time: Callable[[float], None]) -> None:
    """The work of a request is done at once, and the response arrives when the time has passed."""
    async with start_sandbox(chaos=SLOW) as caller:
        creation = asyncio.create_task(caller.create())
        await wait_for_session(caller)
        assert not creation.done()

        while not creation.done():
            advance_time(10)
            await asyncio.sleep(0)
        assert caller.sandbox.sessions[0].id == await creation


async def test_client_may_give_up_during_the_latency(start_sandbox: StartSandbox) -> None:
    """The request has taken effect; a cancelled one leaves no task behind."""
    async with start_sandbox(chaos=SLOW) as caller:
        creation = asyncio.create_task(caller.create())
        await wait_for_session(caller)
        creation.cancel()
        with pytest.raises(asyncio.CancelledError):
            await creation

        caller.sandbox.chaos = None
        assert 200 == (await caller.decision(caller.sandbox.sessions[0].id)).status


async def test_stop_of_the_sandbox_ends_the_latency(start_sandbox: StartSandbox) -> None:
    """A sandbox with slow requests stops at once."""
    async with start_sandbox(chaos=SLOW) as caller:
        creation = asyncio.create_task(caller.create())
        await wait_for_session(caller)
    results = await asyncio.gather(creation, return_exceptions=True)
    assert isinstance(results[0], str | ClientError)


async def test_latency_takes_no_time_under_a_virtual_clock(start_sandbox: StartSandbox) -> None:
    """A request does not wait for `advance`, which would block the test; the record still names the rule."""
    async with start_sandbox(chaos=SLOW, clock=VirtualClock()) as caller:
        await caller.create()

        assert "chaos profile: requests[0]" == caller.sandbox.requests[0].cause


async def test_outage_counts_from_the_start_of_the_sandbox(start_sandbox: StartSandbox) -> None:
    """The first window of a sandbox that was created earlier begins after its start; `advance` enters and leaves it."""
    clock = VirtualClock()
    profile = ChaosProfile(outages=[Outage(start=30, duration=10, webhooks=True)])
    starting = start_sandbox(chaos=profile, clock=clock)
    async with starting as caller:
        session_id = await caller.create()
        caller.sandbox.advance(30)
        assert 503 == (await caller.decision(session_id)).status
        caller.sandbox.advance(10)
        assert 200 == (await caller.decision(session_id)).status


async def test_webhooks_are_doubled_and_overtaken(caller: Caller, receiver: Receiver) -> None:
    """Posts follow the rules of their kind, by the clock of the sandbox."""
    sandbox = caller.sandbox
    sandbox.webhook_urls = dict.fromkeys((WebhookKind.EVENT, WebhookKind.DECISION), receiver.url)
    late_event = WebhookChaos(kind="event", reordering=1, reorder_seconds=60)
    two_decisions = WebhookChaos(kind="decision", duplication=1, delay=Delay.constant(5))
    sandbox.chaos = ChaosProfile(webhooks=[late_event, two_decisions])
    session_id = await caller.create()
    sandbox.submit_attempt(session_id)
    sandbox.decide(session_id, "approved")

    posts = list[int]()
    for _ in range(3):
        await sandbox.wait_idle()
        posts.append(len(sandbox.deliveries))
        sandbox.advance(30)
    await sandbox.wait_idle()
    posts.append(len(sandbox.deliveries))
    kinds = ["decision" if b"verification" in each.body else "event" for each in sandbox.deliveries]

    assert [0, 2, 3, 3] == posts
    assert ["decision", "decision", "event"] == kinds
    assert sandbox.deliveries[0].body == sandbox.deliveries[1].body


async def test_lost_webhook_is_never_posted(caller: Caller, receiver: Receiver) -> None:
    """A program that missed it finds the decision in the API, and `resend` posts it once the profile is removed."""
    sandbox = caller.sandbox
    sandbox.webhook_url = receiver.url
    sandbox.chaos = ChaosProfile(webhooks=[WebhookChaos(loss=1)])
    session_id = await caller.create()
    sandbox.decide(session_id, "approved")
    sandbox.advance(7 * 86_400)
    await sandbox.wait_idle()
    assert not sandbox.deliveries

    sandbox.chaos = None
    sandbox.resend(session_id)
    await sandbox.wait_idle()
    assert 200 == sandbox.deliveries[-1].status
