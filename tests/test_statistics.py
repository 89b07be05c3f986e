"""The counters of a client: uploads, pauses, waits, polls, and the state of the inbox."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import uuid4

import attrs
import pytest

from tests.conditions import until
from tests.waiting.helpers import JPEG, NEVER, OFTEN, decision_webhook, make_client
from veriff_async import DecisionTimeoutError, Media, NotFoundError, RetryPolicy
from veriff_async.inbox import MemoryInbox
from veriff_async.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, Mapping
    from pathlib import Path

    from veriff_async import VeriffClient
    from veriff_async.inbox import SessionState
    from veriff_async.sandbox import Sandbox

pytestmark = pytest.mark.anyio


class BrokenInbox(MemoryInbox):
    """An inbox that fails while `is_broken`."""

    is_broken = False

    async def get_states(self, session_ids: Collection[str]) -> Mapping[str, SessionState]:
        """Look sessions up, or fail with a text that holds personal data."""
        if self.is_broken:
            msg = "Ada"
            raise LookupError(msg)
        return await super().get_states(session_ids)

    async def subscribe(self) -> AsyncGenerator[str | None]:
        """Subscribe, or fail."""
        if self.is_broken:
            raise ConnectionResetError
        async for session_id in super().subscribe():
            yield session_id
            if self.is_broken:
                raise ConnectionResetError


async def test_new_client_has_counted_nothing(veriff: VeriffClient) -> None:
    """Every number starts at zero, and every other value says that there is nothing yet."""
    statistics = attrs.asdict(veriff.statistics())

    assert "none" == statistics.pop("inbox_state")
    assert [] == [name for name, value in statistics.items() if value]


async def test_uploads_count_accepted_media(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """A refused picture and a retry are requests, but no uploads."""
    session = await veriff.create_session()
    sandbox.inject(Fault.status(503), path="/v1/sessions/*/media")
    await session.upload(Media(JPEG, "face"), Media(JPEG, "document-front"))
    sandbox.inject(Fault.status(400), path="/v1/sessions/*/media")
    with pytest.raises(Exception, match="HTTP 400"):
        await session.upload(Media(JPEG, "document-back"))
    statistics = veriff.statistics()

    assert (2, 5, 1) == (statistics.uploads, statistics.requests, statistics.retries)


async def test_calls_and_failures_are_counted_by_name(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """A call counts once, with all its attempts; the failure of an attempt is a reason, that of a call an error."""
    session = await veriff.create_session()
    sandbox.inject(Fault.status(503), path="/v1/sessions/*/decision")
    sandbox.inject(Fault.drop(), path="/v1/sessions/*/decision")
    assert await session.decision() is None
    with pytest.raises(NotFoundError):
        await veriff.session(str(uuid4())).decision()
    call = asyncio.ensure_future(session.decision())
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    statistics = veriff.statistics()

    assert {"create_session": 1, "decision": 3} == statistics.calls
    assert {"NotFoundError": 1} == statistics.failures
    assert {"503": 1, "lost": 1} == statistics.retries_by_reason
    assert (2, 0) == (statistics.retries, statistics.active_requests)
    assert statistics.last_success_at is not None


async def test_bytes_count_in_both_directions(sandbox: Sandbox, veriff: VeriffClient, tmp_path: Path) -> None:
    """Sent bytes include the JSON of creations; received ones include files, also those that the caller streams."""
    session = await veriff.create_session(vendor_data="x" * 500)
    assert veriff.statistics().bytes_sent > 500
    uploaded = (await session.upload(Media(JPEG + bytes(5000), "face")))[0]
    before = veriff.statistics()
    await veriff.download_media(uploaded.id, f"{tmp_path}/")
    async with veriff.stream_media(uploaded.id) as stream:
        size = sum([len(piece) async for piece in stream])
    after = veriff.statistics()

    assert size > 5000
    assert (2, 2 * size) == (after.downloads, after.bytes_received - before.bytes_received)
    assert after.bytes_sent == before.bytes_sent


async def test_attempts_in_flight_are_active_requests(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """The number falls to zero when the attempts end, also when their calls are cancelled; views share all numbers."""
    sandbox.inject(Fault.hang(), times=3)
    calls = [asyncio.ensure_future(veriff.session(str(uuid4())).decision()) for _ in range(3)]
    await until(lambda: not sandbox.faults)
    view = veriff.with_options(retry=RetryPolicy(max_attempts=1))
    assert 3 == view.statistics().active_requests
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)

    assert 0 == view.statistics().active_requests
    assert view.statistics() == veriff.statistics()


async def test_pauses_are_added_up_and_their_overlap_counts_once(
    sandbox: Sandbox, veriff: VeriffClient, advance_time: Callable[[float], None]
) -> None:
    """Two refusals during one pause extend it; the total grows with the time that passes, and later calls wait."""
    session = await veriff.create_session()
    sandbox.inject(Fault.status(429, retry_after=10), times=2)
    calls = [asyncio.ensure_future(session.decision()) for _ in range(2)]
    await until(lambda: veriff.statistics().rate_limited == 2)
    assert veriff.statistics().cooldown_seconds < 1 < veriff.statistics().cooldown_remaining
    calls.append(asyncio.ensure_future(session.decision()))
    await until(lambda: veriff.statistics().waiting_requests == 1)
    advance_time(5)
    assert 5 <= veriff.statistics().cooldown_seconds < 7
    while not all(call.done() for call in calls):
        advance_time(0.5)
        await asyncio.sleep(0)

    assert 10 <= veriff.statistics().cooldown_seconds < 12
    assert 0 == veriff.statistics().cooldown_remaining == veriff.statistics().waiting_requests


async def test_waits_are_counted_by_their_end(sandbox: Sandbox, advance_time: Callable[[float], None]) -> None:
    """A wait ends with a decision of some source, or without one in time; those that run have an age."""
    inbox = MemoryInbox()
    async with make_client(sandbox, inbox) as veriff:
        first, second = (veriff.session(name) for name in ("first", "second"))
        waits = [asyncio.ensure_future(first.wait_for_decision(timeout=900))]
        await until(lambda: veriff.statistics().waiters == 1)
        advance_time(60)
        waits += [asyncio.ensure_future(session.wait_for_decision(timeout=30)) for session in (first, second)]
        await until(lambda: veriff.statistics().inbox_backlog == 0 and veriff.statistics().waiters == 3)
        assert 60 <= veriff.statistics().max_wait_age < 70
        await inbox.record(decision_webhook("first"))
        await asyncio.gather(*waits[:2])
        assert veriff.statistics().max_wait_age < 10
        advance_time(30)
        with pytest.raises(DecisionTimeoutError):
            await waits[2]
        assert (await first.wait_for_decision()).is_approved
        statistics = veriff.statistics()

    assert (4, 1, {"webhook": 2, "known": 1}) == (
        statistics.waits,
        statistics.wait_timeouts,
        statistics.decisions_by_source,
    )
    assert (0, 0, 0) == (statistics.waiters, statistics.max_wait_age, statistics.polls)


async def test_watches_are_counted_by_the_source_of_their_end(sandbox: Sandbox) -> None:
    """An application that only watches learns from the sources too whether webhooks arrive."""
    inbox = MemoryInbox()
    async with make_client(sandbox, inbox) as veriff:
        lost = await veriff.create_session()
        await lost.submit()
        sandbox.decide(lost.id, "approved")
        _ = [state async for state in lost.watch(poll=OFTEN)]
        watch = veriff.session("first").watch(status="submitted")
        assert "submitted" == (await anext(watch)).status
        await inbox.record(decision_webhook("first"))
        assert "approved" == (await anext(watch)).status
        _ = [state async for state in veriff.session("first").watch()]

    assert {"poll": 1, "webhook": 1, "known": 1} == veriff.statistics().decisions_by_source


async def test_polls_and_their_failures_are_counted(sandbox: Sandbox) -> None:
    """A failed poll is a poll too, and the decision that a later one brings counts under its source."""
    async with make_client(sandbox, poll=OFTEN) as veriff:
        session = await veriff.create_session()
        sandbox.inject(Fault.status(500), path="/v1/sessions/*/decision", times=2)
        waiting = asyncio.ensure_future(session.wait_for_decision(timeout=900))
        await until(lambda: veriff.statistics().poll_failures == 2)
        sandbox.decide(session.id, "approved")
        await waiting
        statistics = veriff.statistics()

    assert {"poll": 1} == statistics.decisions_by_source
    assert statistics.polls == statistics.requests - 1 > 2
    assert "none" == statistics.inbox_state


async def test_state_of_the_inbox_shows_trouble_and_recovery(
    sandbox: Sandbox, advance_time: Callable[[float], None]
) -> None:
    """The inbox is idle without waiters; the class of its last error stays when it works again, and no text of it."""
    inbox = BrokenInbox()
    async with make_client(sandbox, inbox, NEVER) as veriff:
        assert "idle" == veriff.statistics().inbox_state
        waiting = asyncio.ensure_future(veriff.session("s").wait_for_decision(timeout=1e5))
        await until(lambda: veriff.statistics().inbox_state == "watching" and not veriff.statistics().inbox_backlog)
        inbox.is_broken = True
        await inbox.record(decision_webhook("another"))
        await until(lambda: veriff.statistics().inbox_state == "failing")
        failing = veriff.statistics()
        inbox.is_broken = False
        advance_time(1)
        await until(lambda: veriff.statistics().inbox_state == "watching")
        await inbox.record(decision_webhook("s"))
        await waiting
        after = veriff.statistics()

    assert failing.inbox_failures == after.inbox_failures == 1
    assert after.last_inbox_error in {"LookupError", "ConnectionResetError"}
    assert after.last_inbox_failure_at is not None
    assert "idle" == after.inbox_state
