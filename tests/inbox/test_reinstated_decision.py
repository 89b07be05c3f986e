"""A decision that seemed to be superseded, and is reinstated."""

from __future__ import annotations

import asyncio

import pytest

from veriff_async import Credentials, PollPolicy, VeriffClient
from veriff_async.inbox import MemoryInbox
from veriff_async.testing import decision_event, session_event

pytestmark = pytest.mark.anyio


async def test_reinstated_decision_ends_waits() -> None:
    """A wait that began while an older attempt seemed to be the newest returns the reinstated decision."""
    newest = decision_event("s", "resubmission_requested", attempt_id="second", minute=1)
    credentials = Credentials("f9ae4cbd-9a3f-4a3b-b07b-7f1a2f4f9d10", "a fake secret")
    never = PollPolicy(initial_delay=10**9)
    async with (
        MemoryInbox() as inbox,
        VeriffClient(credentials, base_url="http://127.0.0.1:9", inbox=inbox, poll=never) as veriff,
    ):
        await inbox.record(newest)
        await inbox.record(session_event("s", "started"))
        waiting = asyncio.create_task(veriff.session("s").wait_for_decision(timeout=None))
        for _ in range(20):
            await asyncio.sleep(0)
        await inbox.record(decision_event("s", "resubmission_requested", minute=0))

        assert "second" == (await waiting).attempt_id
