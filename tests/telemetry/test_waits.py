"""Waits and webhooks link to the trace of the submission, in any process, and by a webhook or a poll."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode

from tests.conditions import until
from tests.loops import every_loop
from veriff_async import DecisionTimeoutError, Media, PollPolicy, Status, VeriffClient, WebhookReceiver
from veriff_async._waiting import submissions
from veriff_async.inbox import MemoryInbox, RedisInbox, SqliteInbox
from veriff_async.webhooks import asgi_app

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.servers import RedisServer
    from tests.telemetry.conftest import Exported
    from veriff_async import DecisionSource, WebhookEvent
    from veriff_async.inbox import Inbox, RecordResult, SessionState
    from veriff_async.sandbox import Sandbox

pytestmark = [pytest.mark.anyio, every_loop]

JPEG: Final = b"\xff\xd8\xff\xe0" + bytes(2000)
NEVER: Final = PollPolicy(initial_delay=1e6)
OFTEN: Final = PollPolicy(initial_delay=0.001, interval=0.001)
WAIT: Final = "veriff.wait_for_decision"
DECISION: Final = "GET /v1/sessions/{session_id}/decision"


def make_client(sandbox: Sandbox, exported: Exported, inbox: Inbox | None, poll: PollPolicy = NEVER) -> VeriffClient:
    """Return a client, as each process of an application makes one."""
    return VeriffClient.from_env(sandbox.environ, inbox=inbox, poll=poll, telemetry=exported.telemetry)


async def submit(sandbox: Sandbox, exported: Exported, inbox: Inbox | None) -> str:
    """Submit a session from a request in a process that ends then, and return its id."""
    async with make_client(sandbox, exported, inbox) as veriff:
        with exported.tracer.start_as_current_span("submitting request"):
            session = await veriff.submit(media=[Media(JPEG, "face")])
    return session.id


def is_watched(veriff: VeriffClient, session_id: str) -> bool:
    """Return whether a webhook would wake the wait for a session, because the inbox was read for it."""
    session = veriff._runtime.waiters.sessions.get(session_id)
    return session is not None and not any(waiter.is_new for waiter in session.waiters)


@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis"])
async def test_webhook_and_wait_link_to_the_submission(
    kind: str, sandbox: Sandbox, exported: Exported, tmp_path: Path, single_redis_server: RedisServer
) -> None:
    """After a restart, the span of the webhook and that of the wait link to the trace of the submitting request."""
    inbox: Any = MemoryInbox()
    if kind != "memory":
        inbox = SqliteInbox(tmp_path / "inbox.db") if kind == "sqlite" else RedisInbox(single_redis_server.url)
    async with inbox:
        session_id = await submit(sandbox, exported, inbox)
        async with (
            make_client(sandbox, exported, inbox) as veriff,
            WebhookReceiver(sandbox.credentials, inbox, telemetry=exported.telemetry) as receiver,
        ):
            sandbox.set_webhook_app(asgi_app(receiver))
            with exported.tracer.start_as_current_span("waiting request"):
                waiting = asyncio.create_task(veriff.session(session_id).wait_for_decision())
                await until(lambda: is_watched(veriff, session_id))
                sandbox.decide(session_id, "approved")
                assert "webhook" == (await waiting).source
            await sandbox.wait_idle()

    submitted, wait, webhook = (
        exported.one("veriff.submit"),
        exported.one(WAIT),
        exported.one("process veriff.webhooks"),
    )
    assert "submitting request" == exported.parent_of(submitted)
    assert ("waiting request", ["veriff.submit"]) == (exported.parent_of(wait), exported.links_of(wait))
    assert (None, ["veriff.submit"]) == (exported.parent_of(webhook), exported.links_of(webhook))
    assert submitted.context.trace_id == wait.links[0].context.trace_id != wait.context.trace_id
    decided = {"veriff.decision.status": "approved", "veriff.decision.source": "webhook"}
    for metric in ("veriff.decision.duration", "veriff.wait.duration"):
        assert 1 == exported.value(metric, decided)
    assert 1 == exported.value("veriff.wait.wake_up.duration", {"veriff.decision.source": "webhook"})
    assert 1 == exported.value("veriff.webhook.age", {"veriff.event.kind": "decision"})
    assert not exported.value("veriff.webhooks.missed")


async def test_poll_finds_what_the_webhook_lost(sandbox: Sandbox, exported: Exported, tmp_path: Path) -> None:
    """When the webhook is lost and the process was restarted, the poll is a part of the wait, which has the link."""
    async with SqliteInbox(tmp_path / "inbox.db") as inbox:
        session_id = await submit(sandbox, exported, inbox)
        sandbox.decide(session_id, "declined")
        async with make_client(sandbox, exported, inbox, OFTEN) as veriff:
            with exported.tracer.start_as_current_span("waiting request"):
                assert "declined" == (await veriff.session(session_id).wait_for_decision()).status

    assert ["veriff.submit"] == exported.links_of(exported.one(WAIT))
    assert {WAIT} == {exported.parent_of(span) for span in exported.named(DECISION)}
    declined = {"veriff.decision.status": "declined"}
    assert 1 == exported.value("veriff.webhooks.missed", declined)
    assert 1 == exported.value("veriff.decision.duration", {**declined, "veriff.decision.source": "poll"})
    assert 1 == exported.value("veriff.polls", {"veriff.poll.result": "decision"})


class OwnInbox:
    """An inbox of a user's own, which keeps no submissions."""

    def __init__(self) -> None:
        """Keep events in memory."""
        inbox = self._inbox = MemoryInbox()
        self.get_states, self.get_events, self.subscribe = inbox.get_states, inbox.get_events, inbox.subscribe
        self.aclose = inbox.aclose

    async def record(self, event: WebhookEvent, *, source: DecisionSource) -> RecordResult:
        """Record an event."""
        return await self._inbox.record(event, source=source)


@pytest.mark.parametrize("inbox", [None, OwnInbox()], ids=["without inbox", "inbox of one's own"])
async def test_client_remembers_its_submissions(sandbox: Sandbox, exported: Exported, inbox: Any) -> None:  # noqa: ANN401  lacks types
    """Without an inbox that keeps submissions, the wait links to a submission of its own process, once per decision."""
    async with make_client(sandbox, exported, inbox, OFTEN) as veriff:
        session = await veriff.submit(media=[Media(JPEG, "face")])
        sandbox.decide(session.id, "approved")
        await session.wait_for_decision()
        await session.decision()
        await session.wait_for_decision(timeout=0)

    assert [["veriff.submit"]] * 2 == [exported.links_of(span) for span in exported.named(WAIT)]
    assert 1 == exported.value("veriff.decision.duration")


async def test_creation_is_linked_until_the_submission(sandbox: Sandbox, exported: Exported) -> None:
    """A session that the end-user submits on Veriff's page links to the request that created it, without duration."""
    inbox = MemoryInbox()
    async with make_client(sandbox, exported, inbox, OFTEN) as veriff:
        with exported.tracer.start_as_current_span("creating request"):
            session = await veriff.create_session()
        sandbox.start_attempt(session.id)
        sandbox.submit_attempt(session.id)
        sandbox.decide(session.id, "approved")
        await session.wait_for_decision()

    assert ["creating request"] == exported.links_of(exported.one(WAIT))
    assert not exported.value("veriff.decision.duration")


async def test_failed_wait_has_its_error(sandbox: Sandbox, exported: Exported) -> None:
    """A wait that runs out of time or is cancelled ends its span, and is measured with the class of its error."""
    async with make_client(sandbox, exported, MemoryInbox()) as veriff:
        session = await veriff.create_session()
        with pytest.raises(DecisionTimeoutError):
            await session.wait_for_decision(timeout=0.001)
        waiting = asyncio.create_task(session.wait_for_decision())
        await until(lambda: veriff.statistics().waiters)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    first, second = exported.named(WAIT)
    assert (StatusCode.ERROR, StatusCode.UNSET) == (first.status.status_code, second.status.status_code)
    for error in ("DecisionTimeoutError", "CancelledError"):
        assert 1 == exported.value("veriff.wait.duration", {"error.type": error})


async def test_background_tasks_belong_to_no_request(sandbox: Sandbox, exported: Exported) -> None:
    """The inbox is read for all waits, outside of the span of the first one; each poll is a part of its wait."""
    seen: list[bool] = []

    class Watched(MemoryInbox):
        async def get_states(self, session_ids: Any) -> Mapping[str, SessionState]:  # noqa: ANN401  as of the base
            seen.append(trace.get_current_span().get_span_context().is_valid)
            return await super().get_states(session_ids)

    async with make_client(sandbox, exported, Watched(), OFTEN) as veriff:
        sessions = [await veriff.create_session() for _ in range(2)]
        seen.clear()
        for session in sessions:
            sandbox.start_attempt(session.id)
            sandbox.submit_attempt(session.id)
            sandbox.decide(session.id, "approved")
        with exported.tracer.start_as_current_span("request"):
            await asyncio.gather(*(session.wait_for_decision() for session in sessions))

    assert {False} == set(seen)
    polls = exported.named(DECISION)
    waits = {(span.attributes or {})["veriff.session.id"]: span.context.span_id for span in exported.named(WAIT)}
    assert 2 == len(waits)
    for poll in polls:
        assert poll.parent is not None
        assert waits[(poll.attributes or {})["veriff.session.id"]] == poll.parent.span_id


async def test_slow_inbox_does_not_delay_a_submission(
    sandbox: Sandbox, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A submission succeeds while its trace is not saved, and closing the client leaves no task."""
    monkeypatch.setattr(submissions, "_SAVE_SECONDS", 0.01)

    class Hanging(MemoryInbox):
        async def save_submission(self, session_id: str, submission: str) -> None:
            await asyncio.Event().wait()

    async with make_client(sandbox, exported, Hanging()) as veriff:
        session = await veriff.submit(media=[Media(JPEG, "face")])
        assert Status.SUBMITTED == session.status
    assert 1 == len(exported.named("veriff.submit"))
