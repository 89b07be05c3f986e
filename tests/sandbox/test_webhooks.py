"""Webhooks, received by a server that does not use the package: signed, retried for a week, each independent."""

from __future__ import annotations

import asyncio
import re
import socket
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import pytest

from veriff_async import Credentials
from veriff_async.sandbox import SandboxOptions, VirtualClock

if TYPE_CHECKING:
    from tests.sandbox.conftest import Caller, Receiver, StartSandbox

pytestmark = pytest.mark.anyio

HOUR: Final = 3600
DAY: Final = 24 * HOUR


async def create_submitted(caller: Caller, **verification: object) -> str:
    """Create and submit a session."""
    session_id = await caller.create(**verification)
    await caller.submit(session_id)
    return session_id


async def test_webhook_equals_the_decision_response(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """The webhook has the same bytes as ``GET /decision``: compact JSON, without escapes."""
    async with start_sandbox(clock=VirtualClock(), webhook_url=receiver.url) as caller:
        session_id = await create_submitted(caller, vendorData="José✓")
        caller.sandbox.decide(session_id, "approved")

        arrival = await receiver.next()

        assert (await caller.decision(session_id)).body == arrival.body
        assert "José✓" in arrival.body.decode()
        assert not re.search(rb"\s", arrival.body)
        assert session_id == arrival.json["verification"]["id"]


async def test_webhook_is_signed_with_the_newest_secret(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """Both families of headers carry key and signature of the raw bytes, and the integration id."""
    credentials = Credentials(str(uuid4()), "new", previous_secrets=("old",), integration_id=str(uuid4()))
    async with start_sandbox(clock=VirtualClock(), webhook_url=receiver.url, credentials=credentials) as caller:
        caller.sandbox.decide(await create_submitted(caller), "approved")
        arrival = await receiver.next()

        signature = caller.signature(arrival.body, secret="new").hexdigest()
    assert {
        "x-auth-client": credentials.api_key,
        "vrf-auth-client": credentials.api_key,
        "x-hmac-signature": signature,
        "vrf-hmac-signature": signature,
        "vrf-integration-id": credentials.integration_id,
        "content-type": "application/json",
    }.items() <= {name.lower(): value for name, value in arrival.headers.items()}.items()


async def test_no_webhook_without_a_url(caller: Caller) -> None:
    """A sandbox without a webhook URL still decides."""
    caller.sandbox.decide(await create_submitted(caller), "approved")
    await caller.sandbox.wait_idle()

    assert () == caller.sandbox.deliveries


async def test_webhook_url_can_be_set_later(caller: Caller, receiver: Receiver) -> None:
    """Decisions made after the URL was set are posted to it."""
    caller.sandbox.webhook_url = receiver.url
    session_id = await create_submitted(caller)

    caller.sandbox.decide(session_id, "declined", reason_code=101)

    verification = (await receiver.next()).json["verification"]
    assert (session_id, 101) == (verification["id"], verification["reasonCode"])
    assert receiver.url == caller.sandbox.webhook_url


@pytest.mark.parametrize("status", [201, 204, 302, 307, 400, 500, 503])
async def test_other_status_than_200_is_retried(start_sandbox: StartSandbox, receiver: Receiver, status: int) -> None:
    """Every other response, redirects included, causes another attempt with the same bytes after an hour."""
    receiver.answers = [status]
    async with start_sandbox(clock=VirtualClock(), webhook_url=receiver.url) as caller:
        caller.sandbox.decide(await create_submitted(caller), "approved")
        await caller.sandbox.wait_idle()
        first = await receiver.next()
        caller.sandbox.advance(HOUR - 1)
        await caller.sandbox.wait_idle()
        assert receiver.arrived.empty()

        caller.sandbox.advance(1)
        await caller.sandbox.wait_idle()

        assert first.body == (await receiver.next()).body
        assert [status, 200] == [delivery.status for delivery in caller.sandbox.deliveries]
        caller.sandbox.advance(DAY)
        await caller.sandbox.wait_idle()
        assert receiver.arrived.empty()


async def test_delivery_is_given_up_after_a_week(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """One attempt an hour for seven days, and none later."""
    receiver.answers = [500] * 500
    async with start_sandbox(clock=VirtualClock(), webhook_url=receiver.url) as caller:
        caller.sandbox.decide(await create_submitted(caller), "approved")
        await caller.sandbox.wait_idle()
        for _ in range(10 * 24):
            caller.sandbox.advance(HOUR)
            await caller.sandbox.wait_idle()

        deliveries = caller.sandbox.deliveries
        assert 168 <= len(deliveries) <= 169
        assert timedelta(days=7) >= deliveries[-1].sent_at - deliveries[0].sent_at > timedelta(days=6, hours=22)


async def test_delivery_continues_after_a_large_advance(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """When the clock advances over several attempts, the next one is made at the present time."""
    receiver.answers = [500]
    async with start_sandbox(clock=VirtualClock(), webhook_url=receiver.url) as caller:
        caller.sandbox.decide(await create_submitted(caller), "approved")
        await caller.sandbox.wait_idle()

        caller.sandbox.advance(6 * DAY)
        await caller.sandbox.wait_idle()

        assert [500, 200] == [delivery.status for delivery in caller.sandbox.deliveries]


async def test_deliveries_are_independent(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """A delivery that fails delays no other."""
    receiver.answers = [500]
    async with start_sandbox(clock=VirtualClock(), webhook_url=receiver.url) as caller:
        first, second = await create_submitted(caller), await create_submitted(caller)
        caller.sandbox.decide(first, "approved")
        await caller.sandbox.wait_idle()
        caller.sandbox.decide(second, "approved")
        await caller.sandbox.wait_idle()

        arrived = [(await receiver.next()).json["verification"]["id"] for _ in range(2)]
        assert [first, second] == arrived


async def test_refused_connection_is_retried(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """A refused connection is a failed attempt without a status."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/hook"
        async with start_sandbox(clock=VirtualClock(), webhook_url=url) as caller:
            caller.sandbox.decide(await create_submitted(caller), "approved")
            await caller.sandbox.wait_idle()
            caller.sandbox.advance(HOUR)
            await caller.sandbox.wait_idle()

            assert [(url, None), (url, None)] == [(each.url, each.status) for each in caller.sandbox.deliveries]


async def test_slow_receiver_is_retried(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """A receiver has some seconds to respond; then the attempt has failed and is repeated."""
    receiver.holds = asyncio.Event()
    async with start_sandbox(
        clock=VirtualClock(), options=SandboxOptions(webhook_timeout_seconds=0.1), webhook_url=receiver.url
    ) as caller:
        caller.sandbox.decide(await create_submitted(caller), "approved")
        await caller.sandbox.wait_idle()
        receiver.holds.set()
        caller.sandbox.advance(HOUR)
        await caller.sandbox.wait_idle()

        assert [None, 200] == [delivery.status for delivery in caller.sandbox.deliveries]


async def test_each_decision_of_a_session_is_posted(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """A resubmission after uploads by API is posted immediately, and so are later decisions."""
    async with start_sandbox(clock=VirtualClock(), webhook_url=receiver.url) as caller:
        session_id = await create_submitted(caller)
        caller.sandbox.decide(session_id, "review")
        caller.sandbox.decide(session_id, "resubmission_requested")
        await caller.submit(session_id)
        caller.sandbox.decide(session_id, "approved")
        await caller.sandbox.wait_idle()

        decisions = [(await receiver.next()).json["verification"] for _ in range(3)]
        statuses = {decision["status"] for decision in decisions}
        assert {"review", "resubmission_requested", "approved"} == statuses
        assert 2 == len({decision["attemptId"] for decision in decisions})


async def test_expiry_is_posted(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """An expired session has a decision webhook."""
    async with start_sandbox(clock=VirtualClock(), webhook_url=receiver.url) as caller:
        await caller.create()

        caller.sandbox.advance(7 * DAY)

        verification = (await receiver.next()).json["verification"]
        assert ("expired", None) == (verification["status"], verification["decisionTime"])


async def test_delivery_records_the_request(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """URL, bytes, headers, the receiver's status and the time on the sandbox's clock."""
    clock = VirtualClock()
    async with start_sandbox(clock=clock, webhook_url=receiver.url) as caller:
        caller.sandbox.decide(await create_submitted(caller), "approved")
        await caller.sandbox.wait_idle()
        arrival = await receiver.next()

        (delivery,) = caller.sandbox.deliveries
        assert (receiver.url, arrival.body, 200, clock.now()) == (
            delivery.url,
            delivery.body,
            delivery.status,
            delivery.sent_at,
        )
        assert arrival.headers["x-hmac-signature"] == delivery.headers["x-hmac-signature"]


async def test_on_delivery_gets_every_attempt(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """`on_delivery` gets every attempt, failed or not."""
    receiver.answers = [500]
    statuses: list[int | None] = []
    async with start_sandbox(
        clock=VirtualClock(), webhook_url=receiver.url, on_delivery=lambda delivery: statuses.append(delivery.status)
    ) as caller:
        caller.sandbox.decide(await create_submitted(caller), "approved")
        await caller.sandbox.wait_idle()
        caller.sandbox.advance(HOUR)
        await caller.sandbox.wait_idle()

    assert [500, 200] == statuses
