"""The client of this library completes a batch of verifications under each shipped chaos profile."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import pytest
from aiohttp import web
from attrs import evolve

from veriff_async import Media, Person, PollPolicy, RetryPolicy, VeriffClient, WebhookReceiver
from veriff_async.batch import Job, MemoryJournal, RateLimits, verify_many
from veriff_async.inbox import MemoryInbox
from veriff_async.sandbox import ChaosProfile, Fault, Sandbox, VirtualClock, WebhookKind
from veriff_async.webhooks import aiohttp_app

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio

PICTURE: Final = b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(30_000) + b"\xff\xd9"
JOBS: Final = 12
EFFECTS: Final[dict[str, Callable[[Sandbox], bool]]] = {
    "perfect": lambda sandbox: {200, 201} == {each.status for each in sandbox.requests},
    "mobile": lambda sandbox: None in {each.status for each in sandbox.requests},
    "outage": lambda sandbox: 503 in {each.status for each in sandbox.requests},
    "rate-limited": lambda sandbox: 429 in {each.status for each in sandbox.requests},
    "hostile-webhooks": lambda sandbox: len({each.body for each in sandbox.deliveries}) < len(sandbox.deliveries),
}
"""The evidence that each profile had an effect."""
# Seconds of the sandbox's clock for each request: an outage lasts for a few requests, and a rate is exceeded.
STEPS: Final = {"outage": 5.0, "rate-limited": 0.15}


def without_pauses(profile: ChaosProfile) -> ChaosProfile:
    """Return the profile without the ``Retry-After`` that a test would have to wait for, and with lower rates.

    At the rates of the profile, a batch as small as that of the test would fit into the first second.
    """
    requests = [
        evolve(rule, retry_after=0, requests_per_second=rule.requests_per_second and 0.4 * rule.requests_per_second)
        for rule in profile.requests
    ]
    outages = [evolve(each, fault=Fault.status(503)) for each in profile.outages]
    return evolve(profile, requests=requests, outages=outages)


@pytest.mark.parametrize("name", ChaosProfile.shipped())
async def test_client_completes_a_batch(name: str) -> None:
    """Each verification has its decision and its one session, and the profile had an effect."""
    # Each request moves the clock, so outages begin and end, and webhooks are delivered, without waiting.
    profile, inbox = without_pauses(ChaosProfile.load(name)), MemoryInbox()
    step = STEPS.get(name, 0.1)
    sandbox = Sandbox(chaos=profile, clock=VirtualClock(), on_request=lambda _: sandbox.advance(step))
    jobs = [Job(f"user-{n}", [Media(PICTURE, "face")], person=Person(first_name="Approve")) for n in range(JOBS)]
    async with AsyncExitStack() as stack:
        for each in (inbox, sandbox):
            await stack.enter_async_context(each)
        receiver = await stack.enter_async_context(WebhookReceiver(sandbox.credentials, inbox))
        url = await serve(stack, aiohttp_app(receiver, "/veriff"))
        sandbox.webhook_urls = dict.fromkeys((WebhookKind.DECISION, WebhookKind.EVENT), f"{url}/veriff")
        veriff = await stack.enter_async_context(
            VeriffClient.from_env(
                sandbox.environ,
                inbox=inbox,
                retry=RetryPolicy(initial_backoff=0.01, max_backoff=0.02, max_attempts=10),
                poll=PollPolicy(initial_delay=0.02, interval=0.02, max_interval=0.05),
            )
        )
        batch = verify_many(veriff, jobs, journal=MemoryJournal(), rate_limits=RateLimits(initial=1000), concurrency=4)
        results = [result async for result in batch]

    assert JOBS == len(sandbox.sessions) == len({result.session_id for result in results})
    assert all(result.decision is not None and result.decision.is_approved for result in results), results
    assert EFFECTS[name](sandbox), [(each.method, each.status, each.cause) for each in sandbox.requests]


async def serve(stack: AsyncExitStack, app: web.Application) -> str:
    """Serve an application on a free port until the stack is closed."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    return f"http://{host}:{port}"
