"""`Sandbox.wait_until_waiting`, which replaces sleeps before a decision."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest
from anyio import from_thread, to_thread

from tests.loops import every_loop
from veriff_async import InvalidArgumentError, PollPolicy, VeriffClient
from veriff_async.errors import ConfigurationError
from veriff_async.sandbox import Sandbox, SandboxOptions

if TYPE_CHECKING:
    from veriff_async import VerificationSession
    from veriff_async.client import ClientOptions

pytestmark = pytest.mark.anyio

SECONDS: Final = 20.0
UNKNOWN: Final = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def client_options() -> ClientOptions:
    """Poll quickly."""
    return {"poll": PollPolicy(interval=0.01, max_interval=0.05, max_rate=1000)}


@pytest.fixture
async def session(veriff: VeriffClient) -> VerificationSession:
    """Create a session."""
    return await veriff.create_session(vendor_data="user-42")


@every_loop
async def test_it_returns_when_a_client_waits(sandbox: Sandbox, session: VerificationSession) -> None:
    """It returns after the first request for the decision, and the client gets a decision that is made then."""
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
        observed = tasks.create_task(sandbox.wait_until_waiting(session.id))
        waiting = tasks.create_task(session.wait_for_decision())
        await observed
        assert not waiting.done()
        sandbox.decide(session.id, "approved")
    assert waiting.result().is_approved


async def test_it_returns_at_once_if_a_client_has_asked_before(sandbox: Sandbox, session: VerificationSession) -> None:
    """A client that has asked in the present state waits already."""
    assert await session.decision() is None
    await sandbox.wait_until_waiting(session.id, timeout=0)


async def test_a_request_before_a_change_proves_nothing(sandbox: Sandbox, session: VerificationSession) -> None:
    """A request before the submission does not count after it."""
    assert await session.decision() is None
    sandbox.submit_attempt(session.id)
    with pytest.raises(TimeoutError, match="No client has asked for the decision"):
        await sandbox.wait_until_waiting(session.id, timeout=0)
    assert await session.decision() is None
    await sandbox.wait_until_waiting(session.id, timeout=0)


async def test_a_review_leaves_the_client_waiting(sandbox: Sandbox, session: VerificationSession) -> None:
    """A decision under review is not final, so a client waits on."""
    sandbox.submit_attempt(session.id)
    sandbox.decide(session.id, "review")
    await session.decision()
    await sandbox.wait_until_waiting(session.id, timeout=0)


async def test_decisions_without_a_human_count_as_well(client_options: ClientOptions) -> None:
    """The 404 that an integration without humans responds with leaves a client waiting, too."""
    async with (
        Sandbox(options=SandboxOptions(full_auto=True)) as sandbox,
        VeriffClient.from_env(sandbox.environ, **client_options) as veriff,
    ):
        session = await veriff.create_session()
        assert await session.full_auto_decision() is None
        await sandbox.wait_until_waiting(session.id, timeout=0)


@pytest.mark.parametrize("status", ["approved", "declined", "resubmission_requested"])
async def test_a_decided_session_is_refused(sandbox: Sandbox, session: VerificationSession, status: str) -> None:
    """No client waits for a session that is decided, unknown or deleted, so the error comes immediately."""
    sandbox.decide(session.id, status)
    with pytest.raises(InvalidArgumentError, match="call this before the decision"):
        await sandbox.wait_until_waiting(session.id)
    await session.delete()
    with pytest.raises(InvalidArgumentError, match="deleted"):
        await sandbox.wait_until_waiting(session.id)
    with pytest.raises(InvalidArgumentError, match="no such session"):
        await sandbox.wait_until_waiting(UNKNOWN)


@every_loop
async def test_a_cancelled_wait_leaves_nothing(sandbox: Sandbox, session: VerificationSession) -> None:
    """A cancelled wait ends with `CancelledError`, and a later one works."""
    observed = asyncio.create_task(sandbox.wait_until_waiting(session.id))
    await asyncio.sleep(0)
    observed.cancel()
    with pytest.raises(asyncio.CancelledError):
        await observed
    later = asyncio.create_task(sandbox.wait_until_waiting(session.id))
    await session.decision()
    async with asyncio.timeout(SECONDS):
        await later
    assert {} == sandbox._service._polls._expected


async def test_the_synchronous_twin(sandbox: Sandbox, session: VerificationSession) -> None:
    """A thread can wait, too; the loop of the sandbox cannot, unless a client has asked already."""
    with pytest.raises(ConfigurationError, match="await wait_until_waiting"):
        sandbox.wait_until_waiting_sync(session.id)
    with pytest.raises(TimeoutError, match="No client has asked"):
        await to_thread.run_sync(sandbox.wait_until_waiting_sync, session.id, 0)

    def wait_in_thread() -> None:
        from_thread.run(session.decision)
        sandbox.wait_until_waiting_sync(session.id)

    await to_thread.run_sync(wait_in_thread)
    sandbox.wait_until_waiting_sync(session.id)


async def test_two_waits_end_with_the_same_request(sandbox: Sandbox, session: VerificationSession) -> None:
    """Every wait for a session ends with its next request."""
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
        for _ in range(2):
            tasks.create_task(sandbox.wait_until_waiting(session.id))
        await asyncio.sleep(0)
        await session.decision()
