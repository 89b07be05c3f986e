"""Waits continue after any failure: of one session, a background task, the inbox, or a response of Veriff."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, cast

import pytest

from tests.conditions import until
from tests.loops import every_loop
from tests.waiting.helpers import OFTEN, count_polls, decision_webhook, make_client
from veriff_async import (
    AuthenticationError,
    DecisionSource,
    DecisionTimeoutError,
    InboxError,
    NotFoundError,
    PermissionDeniedError,
    ResponseError,
    RetryPolicy,
    ServerError,
    Status,
    VeriffClient,
)
from veriff_async._waiting.inbox_calls import BestEffortInbox
from veriff_async._waiting.waiters import DecisionWaiters
from veriff_async.inbox import MemoryInbox, SqliteInbox
from veriff_async.models.decision import Decision
from veriff_async.sandbox import Fault
from veriff_async.testing import decision_event

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Mapping
    from pathlib import Path

    from veriff_async import WebhookEvent
    from veriff_async.inbox import RecordResult, SessionState
    from veriff_async.sandbox import Sandbox

pytestmark = [pytest.mark.anyio, every_loop]

DECISION = "/v1/sessions/*/decision"


class OddError(BaseException):
    """An exception that is not an `Exception`."""


ERRORS = [InboxError("down"), OSError(5, "mine"), asyncio.CancelledError(), TimeoutError(), OddError()]


class FlakyInbox(MemoryInbox):
    """An inbox of a user whose calls raise the errors in its lists."""

    def __init__(self) -> None:
        """Start without errors."""
        super().__init__()
        self.errors: dict[str, list[BaseException]] = {"get_states": [], "record": [], "subscribe": [], "next": []}
        self.unreadable: set[str] = set()

    def raise_next(self, call: str) -> None:
        """Raise the next error of a call, if there is one."""
        if self.errors[call]:
            raise self.errors[call].pop(0)

    async def record(
        self, event: WebhookEvent, *, source: DecisionSource = DecisionSource.WEBHOOK, deliver: bool = False
    ) -> RecordResult:
        """Record, or fail."""
        self.raise_next("record")
        return await super().record(event, source=source, deliver=deliver)

    async def get_states(self, session_ids: Collection[str]) -> Mapping[str, SessionState]:
        """Look up, or fail."""
        self.raise_next("get_states")
        if self.unreadable & set(session_ids):
            raise InboxError
        return await super().get_states(session_ids)

    async def subscribe(self) -> AsyncGenerator[str | None]:
        """Subscribe, or fail at the start or after the first change."""
        self.raise_next("subscribe")
        async for session_id in super().subscribe():
            yield session_id
            self.raise_next("next")


def log_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the library logged; a loop in debug mode logs slow callbacks of a busy machine, too."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("veriff_async")]


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restart background tasks immediately."""
    for module in ("task", "inbox_watcher"):
        monkeypatch.setattr(f"veriff_async._waiting.{module}._INITIAL_BACKOFF", 0.001)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("call", ["get_states", "subscribe", "next"])
async def test_inbox_watcher_survives_any_error(
    sandbox: Sandbox, call: str, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """After any error of the inbox, including `CancelledError`, the watcher restarts and logs one line."""
    inbox = FlakyInbox()
    inbox.errors[call].append(error)
    async with make_client(sandbox, inbox) as veriff:
        waits = [asyncio.create_task(veriff.session(f"s{number}").wait_for_decision(timeout=20)) for number in range(3)]
        await until(lambda: not inbox.errors[call] and veriff.statistics().waiters == 3)
        for number in range(3):
            await inbox.record(decision_webhook(f"s{number}"))
        assert [True] * 3 == [(await wait).is_approved for wait in waits]

    assert len(log_lines(caplog)) <= 1


@pytest.mark.parametrize("name", ["inbox watcher", "inbox subscription", "inbox lookup", "poller", "poll"])
async def test_cancelled_background_task_is_restarted(
    sandbox: Sandbox, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A framework that cancels a background task ends no wait: the task is restarted, with one line in the log."""
    inbox = MemoryInbox()
    async with make_client(sandbox, inbox, OFTEN) as veriff:
        session = await veriff.create_session()
        waiting = asyncio.create_task(session.wait_for_decision(timeout=20))
        await until(lambda: count_polls(sandbox) > 0)
        tasks = [task for task in asyncio.all_tasks() if task.get_name() == f"veriff-async {name}"]
        await until(lambda: name != "poll" or bool(poll_tasks()))
        for task in poll_tasks() if name == "poll" else tasks:
            task.cancel()
        before = count_polls(sandbox)
        await until(lambda: count_polls(sandbox) > before + 1)
        await inbox.record(decision_webhook(session.id, Status.DECLINED))
        assert (await waiting).status == Status.DECLINED

    assert len(log_lines(caplog)) <= 1


def poll_tasks() -> list[asyncio.Task[object]]:
    """Return the polls in flight."""
    return [task for task in asyncio.all_tasks() if task.get_name() == "veriff-async poll"]


@pytest.mark.parametrize("error", [asyncio.CancelledError(), OddError()], ids=lambda error: type(error).__name__)
async def test_poller_survives_odd_errors(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """A poll that raises `CancelledError`, or any other exception, is repeated."""
    errors = [error]

    async def ask(session_id: str) -> Decision:
        if errors:
            raise errors.pop()
        return Decision(session_id=session_id, status=Status.APPROVED)

    caplog.set_level(logging.INFO, "veriff_async.waiting")
    waits = DecisionWaiters(ask, poll=OFTEN)
    decision = await waits.wait("s", until=lambda _: True, timeout=20)
    await waits.aclose()

    assert decision.is_approved
    failed, *others = log_lines(caplog)
    assert f"A poll failed with {type(error).__name__}; it is retried." == failed
    assert all(line.startswith("Polls succeed again after ") for line in others)


async def test_cancelled_wait_stays_cancelled(sandbox: Sandbox) -> None:
    """A cancellation of the caller takes effect immediately, however the inbox behaves."""
    inbox = FlakyInbox()
    inbox.errors["get_states"] = [asyncio.CancelledError() for _ in range(3)]
    async with make_client(sandbox, inbox) as veriff:
        waiting = asyncio.create_task(veriff.session("s").wait_for_decision(timeout=20))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert 0 == veriff.statistics().waiters


@pytest.mark.parametrize("bad", [{"s0"}, {"s7"}, {"s0", "s3", "s9"}, {f"s{number}" for number in range(9)}])
async def test_unreadable_record_affects_only_its_session(
    sandbox: Sandbox, bad: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Sessions with readable records are served, the others are polled, and each of these is named once in the log."""
    inbox = FlakyInbox()
    inbox.unreadable = set(bad)
    ids = [f"s{number}" for number in range(10)]
    async with make_client(sandbox, inbox) as veriff:
        waits = {
            session_id: asyncio.create_task(veriff.session(session_id).wait_for_decision(timeout=20))
            for session_id in ids
        }
        await until(lambda: len(log_lines(caplog)) == len(bad))
        for session_id in ids:
            await inbox.record(decision_webhook(session_id))
        await asyncio.wait({wait for session_id, wait in waits.items() if session_id not in bad})
        assert not any(waits[session_id].done() for session_id in bad)
        inbox.unreadable.clear()
        for session_id in bad:
            # The state does not change, so the inbox sends no notification.
            await inbox.record(decision_webhook(session_id, Status.DECLINED))
            inbox._broadcaster.publish([session_id])
        assert [True] * 10 == [(await waits[session_id]).is_approved for session_id in ids]

    assert bad == {line.split("session ")[1].split(";")[0] for line in log_lines(caplog)}


async def test_session_with_unreadable_record_is_polled_soon(sandbox: Sandbox) -> None:
    """A session whose record cannot be read is polled as without an inbox, while the others keep the safety net."""
    inbox = FlakyInbox()
    async with VeriffClient.from_env(sandbox.environ, inbox=inbox, retry=RetryPolicy(max_attempts=1)) as veriff:
        session, other = [await veriff.create_session() for _ in range(2)]
        sandbox.decide(session.id, "approved")
        sandbox.decide(other.id, "approved")
        inbox.unreadable = {session.id}
        waiting = asyncio.create_task(other.wait_for_decision(timeout=20))
        assert (DecisionSource.POLL, True) == ((await session.wait_for_decision(timeout=20)).source, not waiting.done())
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


def damage(path: Path) -> None:
    """Overwrite the row of the session ``bad``."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("UPDATE session SET state = X'00' WHERE id = X'626164'")


async def test_damaged_sqlite_row_affects_only_its_session(sandbox: Sandbox, tmp_path: Path) -> None:
    """A row that another program damaged does not stop the waits for other sessions."""
    path = tmp_path / "inbox.db"
    async with SqliteInbox(path) as inbox, make_client(sandbox, inbox) as veriff:
        await inbox.record(decision_webhook("bad"))
        await inbox.record(decision_webhook("good"))
        await asyncio.to_thread(damage, path)
        waits = [
            asyncio.create_task(veriff.session(session_id).wait_for_decision(timeout=20))
            for session_id in ("bad", "good")
        ]
        assert (await waits[1]).is_approved
        assert not waits[0].done()
        waits[0].cancel()
        await asyncio.gather(*waits, return_exceptions=True)


@pytest.mark.parametrize(
    "fault",
    [
        Fault.status(401),
        Fault.status(403),
        Fault.status(400),
        Fault.status(500),
        Fault.corrupt_response(),
        Fault.forge_signature(),
    ],
    ids=["401", "403", "400", "500", "corrupt", "forged"],
)
async def test_failed_polls_do_not_end_a_wait_while_the_inbox_works(
    sandbox: Sandbox, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    """While the inbox works, rejected, malformed and forged responses are retried, with one line in the log."""
    inbox = MemoryInbox()
    async with make_client(sandbox, inbox, OFTEN) as veriff:
        session = await veriff.create_session()
        sandbox.inject(fault, path=DECISION, times=1_000)
        waiting = asyncio.create_task(session.wait_for_decision(timeout=20))
        with caplog.at_level(logging.INFO, logger="veriff_async.waiting"):
            await until(lambda: count_polls(sandbox) > 4)
            await inbox.record(decision_webhook(session.id))
            assert (DecisionSource.WEBHOOK, True) == ((await waiting).source, True)
        assert 1 == len(log_lines(caplog))


async def test_unknown_session_ends_its_wait(sandbox: Sandbox) -> None:
    """A session that Veriff, the inbox and the client do not know ends its wait, and no other."""
    inbox = MemoryInbox()
    async with make_client(sandbox, inbox, OFTEN) as veriff:
        session = await veriff.create_session()
        waiting = asyncio.create_task(session.wait_for_decision(timeout=20))
        with pytest.raises(NotFoundError):
            await veriff.session("11111111-2222-3333-4444-555555555555").wait_for_decision(timeout=20)
        assert not waiting.done()
        sandbox.decide(session.id, "approved")
        assert (await waiting).is_approved


@pytest.mark.parametrize(
    ("fault", "error_type", "times"),
    [
        (Fault.status(401), AuthenticationError, 1),
        (Fault.status(403), PermissionDeniedError, 1),
        (Fault.corrupt_response(), ResponseError, 3),
        (Fault.forge_signature(), ResponseError, 3),
    ],
    ids=["401", "403", "corrupt", "forged"],
)
async def test_rejection_ends_a_wait_without_an_inbox(
    sandbox: Sandbox, fault: Fault, error_type: type[Exception], times: int
) -> None:
    """Without an inbox, a rejection ends the waits for its session, and so do three unreadable responses in a row."""
    async with make_client(sandbox, None, OFTEN) as veriff:
        session, other = [await veriff.create_session() for _ in range(2)]
        sandbox.inject(fault, path=f"/v1/sessions/{session.id}/decision", times=1_000)
        waiting = asyncio.create_task(other.wait_for_decision(timeout=20))
        before = sum(session.id in seen.path for seen in sandbox.requests)
        with pytest.raises(error_type):
            await session.wait_for_decision(timeout=20)
        assert times == sum(session.id in seen.path for seen in sandbox.requests) - before
        assert not waiting.done()
        sandbox.decide(other.id, "approved")
        assert (await waiting).is_approved


async def test_two_unreadable_responses_do_not_end_a_wait(sandbox: Sandbox) -> None:
    """Without an inbox, one or two responses that cannot be read do not end a wait."""
    async with make_client(sandbox, None, OFTEN) as veriff:
        session = await veriff.create_session()
        sandbox.inject(Fault.corrupt_response(), path=DECISION, times=2)
        sandbox.decide(session.id, "approved")
        assert (await session.wait_for_decision(timeout=20)).is_approved


async def test_timeout_names_the_error_of_the_last_poll(sandbox: Sandbox) -> None:
    """A wait that ends without a decision names the error of the last poll."""
    async with make_client(sandbox, MemoryInbox(), OFTEN) as veriff:
        session = await veriff.create_session()
        sandbox.inject(Fault.status(401), path=DECISION, times=1_000)
        with pytest.raises(DecisionTimeoutError, match="last status: created, polling failed with AuthenticationError"):
            await session.wait_for_decision(timeout=0.2)


@pytest.mark.parametrize("error", ERRORS[:-1], ids=lambda error: type(error).__name__)
async def test_decision_that_cannot_be_recorded_is_returned(sandbox: Sandbox, error: BaseException) -> None:
    """An inbox that rejects a polled decision does not keep it from the waits."""
    inbox = FlakyInbox()
    async with make_client(sandbox, inbox, OFTEN) as veriff:
        session = await veriff.create_session()
        inbox.errors["record"] = [error]
        sandbox.decide(session.id, "approved")
        decision = await session.wait_for_decision(timeout=20)

    assert (True, DecisionSource.POLL) == (decision.is_approved, decision.source)


@pytest.mark.parametrize("returned", [None, "states", {"id": None}, [1]], ids=repr)
async def test_inbox_may_return_anything(sandbox: Sandbox, returned: object) -> None:
    """An inbox that returns something else than the protocol says counts as failing: calls and waits go on without."""

    class OddInbox(MemoryInbox):
        async def record(
            self, event: WebhookEvent, *, source: DecisionSource = DecisionSource.WEBHOOK, deliver: bool = False
        ) -> RecordResult:
            return cast("RecordResult", returned)

        async def get_states(self, session_ids: Collection[str]) -> Mapping[str, SessionState]:
            return cast("Mapping[str, SessionState]", returned)

    async with make_client(sandbox, OddInbox(), OFTEN) as veriff:
        session = veriff.session((await veriff.create_session()).id)
        await session.submit()
        sandbox.decide(session.id, "approved")
        states = [state async for state in session.watch()]

        assert (await veriff.session(session.id).wait_for_decision(timeout=0)).is_approved
        assert states[-1].status is Status.APPROVED
        assert "InboxError" == veriff.statistics().last_inbox_error


async def test_timeout_zero_polls_once(sandbox: Sandbox) -> None:
    """Zero returns a decision of the inbox, or else that of one poll."""
    inbox = MemoryInbox()
    async with make_client(sandbox, inbox) as veriff:
        session = await veriff.create_session()
        with pytest.raises(DecisionTimeoutError, match="within 0 s"):
            await session.wait_for_decision(timeout=0)
        assert 1 == count_polls(sandbox)
        sandbox.decide(session.id, "review")
        with pytest.raises(DecisionTimeoutError, match="last status: review"):
            await session.wait_for_decision(timeout=0)
        sandbox.decide(session.id, "approved")
        assert DecisionSource.POLL == (await session.wait_for_decision(timeout=0.0)).source
        assert DecisionSource.KNOWN == (await session.wait_for_decision(timeout=0)).source
        assert 3 == count_polls(sandbox)
        sandbox.inject(Fault.status(500), path=DECISION)
        with pytest.raises(ServerError):
            await (await veriff.create_session()).wait_for_decision(timeout=0)


@pytest.mark.parametrize("seconds", [float("inf"), 1e300])
async def test_very_long_timeout_is_unlimited(sandbox: Sandbox, seconds: float) -> None:
    """A timeout that no loop can count waits for as long as it takes."""
    async with make_client(sandbox, None, OFTEN) as veriff:
        session = await veriff.create_session()
        sandbox.decide(session.id, "approved")
        assert (await session.wait_for_decision(timeout=seconds)).is_approved


async def test_inbox_that_cannot_save_a_submission_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    """An error of the inbox costs the trace of a submission only: the log names its type, and nothing of its text."""
    caplog.set_level(logging.INFO)

    class FullInbox(MemoryInbox):
        """An inbox that saves no submissions."""

        async def save_submission(self, session_id: str, submission: str) -> None:
            """Raise an error with the data of the session."""
            raise ValueError(session_id + submission)

    inbox = BestEffortInbox(FullInbox())
    await inbox.save_submission("session", "trace")
    assert (inbox.failures.count, inbox.failures.last_error) == (1, "ValueError")
    assert any("the trace of a submission is not saved" in line for line in log_lines(caplog))
    assert not any("session" in line.split() for line in log_lines(caplog))


async def test_calls_without_an_inbox_do_nothing() -> None:
    """A client without an inbox has no recorded state, saves nothing, and records nothing."""
    inbox = BestEffortInbox(None)
    await inbox.save_submission("session", "trace")
    assert await inbox.get_state("session") is None
    assert await inbox.record(decision_event("session", "approved"), consequence="nothing is recorded") is None
    assert inbox.failures.count == 0
