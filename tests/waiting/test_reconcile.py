"""Reconciling records the decisions that webhooks did not report, and ends the waits for them."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.conditions import until
from tests.loops import every_loop
from tests.waiting.helpers import count_polls
from veriff_async import (
    DecisionSource,
    InboxError,
    InvalidArgumentError,
    Media,
    NotFoundError,
    ReconcileResult,
    RetryPolicy,
    Status,
    VeriffClient,
    reconcile,
)
from veriff_async.inbox import MemoryInbox
from veriff_async.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterator, Mapping
    from pathlib import Path

    from veriff_async import WebhookEvent
    from veriff_async.client import ClientOptions
    from veriff_async.inbox import RecordResult, SessionState
    from veriff_async.sandbox import Sandbox

pytestmark = [pytest.mark.anyio, every_loop]


class FullInbox(MemoryInbox):
    """An inbox that rejects every record."""

    async def record(
        self, event: WebhookEvent, *, source: DecisionSource = DecisionSource.WEBHOOK, deliver: bool = False
    ) -> RecordResult:
        """Reject."""
        msg = "it is full"
        raise InboxError(msg)


@pytest.fixture
def client_options() -> ClientOptions:
    """Disable retries."""
    return {"retry": RetryPolicy(max_attempts=1)}


@pytest.fixture
async def ids(sandbox: Sandbox, veriff: VeriffClient) -> list[str]:
    """Return an approved session, one in review, one without a decision, and an unknown one."""
    sessions = [await veriff.create_session() for _ in range(3)]
    for session in sessions:
        await session.submit()
    sandbox.decide(sessions[0].id, "approved")
    sandbox.decide(sessions[1].id, "review")
    return [*(session.id for session in sessions), str(uuid.uuid4())]


async def test_missing_decisions_are_recorded(sandbox: Sandbox, veriff: VeriffClient, ids: list[str]) -> None:
    """Missing decisions are recorded, and a failure of one session does not stop the others."""
    inbox = MemoryInbox()
    result = await reconcile(veriff, inbox, ids)

    assert (0, set(ids[:2]), 0, 1, {ids[3]}) == (
        result.known,
        set(result.recorded),
        result.unchanged,
        result.undecided,
        set(result.failed),
    )
    assert isinstance(result.failed[ids[3]], NotFoundError)
    states = await inbox.get_states(ids)
    assert {ids[0]: Status.APPROVED, ids[1]: Status.REVIEW} == {
        session_id: state.status for session_id, state in states.items()
    }
    assert {DecisionSource.POLL} == {state.source for state in states.values()}


@pytest.mark.parametrize("same", [True, False])
async def test_second_run_finds_nothing_new(
    sandbox: Sandbox,
    veriff: VeriffClient,
    ids: list[str],
    same: bool,  # noqa: FBT001  a case
) -> None:
    """Known final decisions are not polled again, whether or not the client uses the same inbox."""
    inbox = MemoryInbox()
    async with VeriffClient.from_env(sandbox.environ, inbox=inbox if same else None) as client:
        first = await reconcile(client, inbox, ids[:3])
        before = count_polls(sandbox)
        second = await reconcile(client, inbox, ids[:3])

    assert (2, 3) == (len(first.recorded), first.done)
    assert (1, [], 1, 1) == (second.known, second.recorded, second.unchanged, second.undecided)
    assert before + 2 == count_polls(sandbox)


async def test_reconciling_ends_waits(sandbox: Sandbox, ids: list[str]) -> None:
    """A wait ends with a decision that another program reconciled."""
    inbox = MemoryInbox()
    async with (
        VeriffClient.from_env(sandbox.environ, inbox=inbox) as app,
        VeriffClient.from_env(sandbox.environ) as job,
    ):
        waiting = asyncio.create_task(app.session(ids[0]).wait_for_decision(timeout=900))
        await asyncio.sleep(0)
        await reconcile(job, inbox, ids)

        assert (await waiting).is_approved


async def test_ids_may_come_from_any_kind_of_iterator(veriff: VeriffClient, ids: list[str]) -> None:
    """Ids may come from a list, an iterator, or an asynchronous iterator such as the rows of a database."""

    async def rows() -> AsyncIterator[str]:
        for session_id in ids[:2]:
            await asyncio.sleep(0)
            yield session_id

    assert 2 == len((await reconcile(veriff, MemoryInbox(), rows())).recorded)
    assert 2 == len((await reconcile(veriff, MemoryInbox(), iter(ids[:2]))).recorded)
    assert 0 == (await reconcile(veriff, MemoryInbox(), [])).done


async def test_progress_is_reported_after_each_session(veriff: VeriffClient, ids: list[str]) -> None:
    """Progress is reported after each session."""
    seen: list[int] = []
    await reconcile(veriff, MemoryInbox(), ids, concurrency=1, progress=lambda result: seen.append(result.done))

    assert [1, 2, 3, 4] == seen


async def test_error_of_veriff_fails_its_session(sandbox: Sandbox, veriff: VeriffClient, ids: list[str]) -> None:
    """An error of Veriff is reported for its session."""
    sandbox.inject(Fault.status(500), path="/v1/sessions/*/decision")
    result = await reconcile(veriff, MemoryInbox(), ids[:2], concurrency=1)

    assert ([ids[1]], [ids[0]]) == (result.recorded, list(result.failed))


async def test_error_of_the_inbox_ends_the_call(veriff: VeriffClient, ids: list[str]) -> None:
    """An inbox that rejects every record ends the call with its own error, not with a group."""
    with pytest.raises(InboxError, match="it is full"):
        await reconcile(veriff, FullInbox(), ids)


async def test_error_of_the_iterable_ends_the_call(veriff: VeriffClient, ids: list[str]) -> None:
    """Errors of the iterable and of `progress` are raised unchanged."""

    def rows() -> Iterator[str]:
        yield ids[0]
        msg = "mine"
        raise LookupError(msg)

    def broken(_: ReconcileResult) -> None:
        msg = "mine"
        raise LookupError(msg)

    with pytest.raises(LookupError, match="mine"):
        await reconcile(veriff, MemoryInbox(), rows())
    with pytest.raises(LookupError, match="mine"):
        await reconcile(veriff, MemoryInbox(), ids, progress=broken)


async def test_reconciling_can_be_cancelled(sandbox: Sandbox, veriff: VeriffClient, ids: list[str]) -> None:
    """Cancelling leaves nothing behind."""
    sandbox.inject(Fault.hang(), path="/v1/sessions/*/decision", times=4)
    running = asyncio.create_task(reconcile(veriff, MemoryInbox(), ids))
    await until(lambda: veriff.statistics().requests >= 10)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_repeated_session_is_recorded_once(veriff: VeriffClient, ids: list[str]) -> None:
    """A session that is given several times, also concurrently, counts as recorded once."""
    result = await reconcile(veriff, MemoryInbox(), ids[:1] * 20)

    assert (ids[:1], 20) == (result.recorded, result.done)


@pytest.mark.parametrize("concurrency", [0, -1, 1.5, "8", True, None])
async def test_concurrency_must_be_a_positive_integer(veriff: VeriffClient, tmp_path: Path, concurrency: int) -> None:
    """Every call with a `concurrency` rejects an invalid number before it starts."""
    session = veriff.session("8f0d1ab6")
    with pytest.raises(InvalidArgumentError, match="concurrency must be 1 or more"):
        await reconcile(veriff, MemoryInbox(), [], concurrency=concurrency)
    if concurrency is not None:  # the default of a view
        with pytest.raises(InvalidArgumentError, match="concurrency must be 1 or more"):
            await session.download_all(tmp_path, concurrency=concurrency)
        with pytest.raises(InvalidArgumentError, match="concurrency must be 1 or more"):
            await session.upload(Media(b"\xff\xd8\xff\xe0", "face"), concurrency=concurrency)


async def test_concurrency_must_be_positive(veriff: VeriffClient) -> None:
    """A concurrency below one is rejected."""
    with pytest.raises(InvalidArgumentError, match="1 or more"):
        await reconcile(veriff, MemoryInbox(), [], concurrency=0)


@pytest.mark.parametrize("ids", ["8f0d1ab6", b"8f0d1ab6", bytearray(b"8f0d1ab6"), 5, None])
async def test_single_id_is_rejected(veriff: VeriffClient, ids: object) -> None:
    """A single string, or a value that is not iterable, is rejected before anything is polled."""
    with pytest.raises(InvalidArgumentError, match="session_ids must be"):
        await reconcile(veriff, MemoryInbox(), ids)  # type: ignore[arg-type]


async def test_ids_may_come_from_any_iterable(veriff: VeriffClient, ids: list[str]) -> None:
    """Ids may come from a set, a mapping, a generator, or a class with items."""

    class Rows:
        def __getitem__(self, index: int) -> str:
            return ids[:2][index]

    several = (
        set(ids[:2]),
        dict.fromkeys(ids[:2]),
        (session_id for session_id in ids[:2]),
        {1: ids[0], 2: ids[1]}.values(),
        Rows(),
    )
    for rows in several:
        result = await reconcile(veriff, MemoryInbox(), rows)  # type: ignore[arg-type]
        assert set(ids[:2]) == set(result.recorded)


@pytest.mark.parametrize("concurrency", [1, 3, 1_000_000])
async def test_there_are_never_more_tasks_than_sessions(veriff: VeriffClient, ids: list[str], concurrency: int) -> None:
    """There is at most one task for each session, and never more than `concurrency`."""
    before, most = len(asyncio.all_tasks()), 0

    class Counting(MemoryInbox):
        async def get_states(self, session_ids: Collection[str]) -> Mapping[str, SessionState]:
            nonlocal most
            most = max(most, sum("reconcil" in repr(task) for task in asyncio.all_tasks()) - 1)
            await asyncio.sleep(0)
            return await super().get_states(session_ids)

    result = await reconcile(veriff, Counting(), ids, concurrency=concurrency)

    assert len(ids) == result.done
    assert most <= min(concurrency, len(ids))
    assert before <= len(asyncio.all_tasks())


@pytest.mark.parametrize("bad", ["", "not/an id", None, 5, ["x"], "\ud83d"])
async def test_invalid_id_fails_alone(veriff: VeriffClient, ids: list[str], bad: object) -> None:
    """An invalid id is reported as a failure, and all others are reconciled."""
    result = await reconcile(veriff, MemoryInbox(), [bad, *ids[:2], bad])  # type: ignore[list-item]

    assert set(ids[:2]) == set(result.recorded)
    assert ["InvalidArgumentError"] == [type(error).__name__ for error in result.failed.values()]


@pytest.mark.parametrize("error", [InboxError("damaged"), OSError(5, "mine"), asyncio.CancelledError()])
@pytest.mark.parametrize("call", ["get_states", "record"])
async def test_unreadable_record_fails_its_session(
    veriff: VeriffClient, ids: list[str], error: BaseException, call: str
) -> None:
    """A record of one session that cannot be read, or cannot be written, fails only that session."""

    class Damaged(MemoryInbox):
        reads = 0

        async def get_states(self, session_ids: Collection[str]) -> Mapping[str, SessionState]:
            if ids[0] in session_ids:
                self.reads += 1
                if call == "get_states" or self.reads > 1:
                    raise error
            return await super().get_states(session_ids)

        async def record(
            self, event: WebhookEvent, *, source: DecisionSource = DecisionSource.WEBHOOK, deliver: bool = False
        ) -> RecordResult:
            if event.session_id == ids[0]:
                raise error
            return await super().record(event, source=source, deliver=deliver)

    result = await reconcile(veriff, Damaged(), ids[:3])

    assert ([ids[1]], 1, [ids[0]]) == (result.recorded, result.undecided, list(result.failed))
    assert isinstance(result.failed[ids[0]], InboxError)


async def test_inbox_that_is_down_ends_the_call(veriff: VeriffClient, ids: list[str]) -> None:
    """An inbox that fails for every session ends the call with its own error."""

    class Broken(MemoryInbox):
        async def get_states(self, session_ids: Collection[str]) -> Mapping[str, SessionState]:
            raise OSError(5, "mine")

    with pytest.raises(OSError, match="mine"):
        await reconcile(veriff, Broken(), ids)
