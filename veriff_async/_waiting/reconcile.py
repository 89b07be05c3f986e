"""Ask for the decisions that webhooks did not report: after an outage, or now and then."""

from __future__ import annotations

from collections.abc import AsyncIterable
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from anyio import Semaphore, create_task_group
from attrs import Factory, define, frozen

from veriff_async._event_loop import require_asyncio
from veriff_async._protocol.arguments import check_concurrency, check_function
from veriff_async._protocol.decision_order import is_same
from veriff_async._protocol.validation import check_id
from veriff_async._protocol.webhook import event_from_decision
from veriff_async._waiting.inbox_watcher import PROBE, answer_of, in_time
from veriff_async.errors import InboxError, InvalidArgumentError, VeriffError
from veriff_async.models.decision import DecisionSource

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator

    from veriff_async.client import VeriffClient
    from veriff_async.inbox._protocol import Inbox
    from veriff_async.models.decision import Decision
    from veriff_async.models.state import SessionState

__all__ = ("ReconcileResult", "reconcile")

_PATIENCE: Final = 60.0
"""Seconds for one record."""


@define(kw_only=True)
class ReconcileResult:
    """What a reconciliation found.

    Attributes:
        known: Sessions whose final decision was in the inbox already; Veriff was not asked for them.
        recorded: Sessions with a decision that the inbox did not know, and knows now; a repeated session counts once.
        unchanged: Sessions whose decision said nothing new.
        undecided: Sessions that Veriff has not decided yet.
        failed: Errors by session, of Veriff's answer, of the id, or of the inbox's record of it; the others are asked
            all the same.
    """

    known: int = 0
    recorded: list[str] = Factory(list[str])
    unchanged: int = 0
    undecided: int = 0
    failed: dict[str, VeriffError] = Factory(dict[str, VeriffError])

    @property
    def done(self) -> int:
        """How many sessions are dealt with."""
        return self.known + len(self.recorded) + self.unchanged + self.undecided + len(self.failed)


async def reconcile(
    client: VeriffClient,
    inbox: Inbox,
    session_ids: Iterable[str] | AsyncIterable[str],
    *,
    concurrency: int = 8,
    progress: Callable[[ReconcileResult], None] | None = None,
) -> ReconcileResult:
    """Ask Veriff for the decisions that the inbox misses, and record them, so that whoever waits for them wakes.

    Use it after the address of the webhooks could not be reached for long, or now and then for the sessions that are
    open. Calling it again is safe.

    Args:
        client: Whom to ask with; its retries, and its slow-down after a 429, hold here too.
        inbox: What is looked at, and where decisions are recorded.
        session_ids: The sessions, any number of them; an iterator is read as it goes on.
        concurrency: Most questions at once.
        progress: Called on the loop after each session with what was found so far; it must not block.

    Returns:
        What was found, with the failures of single sessions.

    Raises:
        InvalidArgumentError: `concurrency` is below 1, or `session_ids` is a single text.
        InboxError: The inbox cannot be read or written at all; what was recorded until then stays.

    Example:
        >>> found = await reconcile(veriff, inbox, open_session_ids)
        >>> print(len(found.recorded), "webhooks were missed;", len(found.failed), "sessions could not be asked for")

    See https://devdocs.veriff.com/apidocs/v1sessionsiddecision-1.
    """
    require_asyncio()
    check_concurrency(concurrency)
    check_function("progress", progress, error=InvalidArgumentError)
    run = _Run(client, inbox, ReconcileResult(), progress)
    ids = _each(session_ids)
    # A worker for each session rather than a crew, so that there are never more than sessions.
    seats, failures = Semaphore(concurrency, fast_acquire=True), list[Exception]()

    async def work(session_id: object, cancel: Callable[[], None]) -> None:
        try:
            await run.settle(session_id)
        except _BrokenInboxError as broken:
            failures.append(broken.error)
            cancel()
        except Exception as error:  # noqa: BLE001  raised to the caller below, alone and not in a group
            failures.append(error)
            cancel()
        finally:
            seats.release()

    async with create_task_group() as group:
        try:
            async with aclosing(ids):
                async for session_id in ids:
                    await seats.acquire()
                    group.start_soon(work, session_id, group.cancel_scope.cancel)
        except Exception as error:  # noqa: BLE001  of the iterable; likewise
            failures.append(error)
            group.cancel_scope.cancel()
    if failures:
        raise failures[0]
    return run.found


@frozen
class _Run:
    """One reconciliation."""

    client: VeriffClient
    inbox: Inbox
    found: ReconcileResult
    progress: Callable[[ReconcileResult], None] | None
    news: set[str] = Factory(set[str])

    async def settle(self, session_id: object) -> None:
        """Record the decision on a session, unless it is known; what is wrong with one session is its own failure."""
        try:
            await self._settle(check_id("session_id", session_id))
        except VeriffError as error:
            self.found.failed[session_id if isinstance(session_id, str) else repr(session_id)] = error
        if self.progress is not None:
            self.progress(self.found)

    async def _settle(self, session_id: str) -> None:
        before = await self._state(session_id)
        if before is not None and before.effective_decision is not None and before.effective_decision.is_final:
            self.found.known += 1
            return
        decision = await self.client.session(session_id).decision()
        if decision is None:
            self.found.undecided += 1
            return
        after = await self._recorded(decision)
        # The client may have recorded it too, so what became of this record does not tell whether it was news.
        if _has(after, decision) and not _has(before, decision) and session_id not in self.news:
            self.news.add(session_id)  # it may be in work more than once at a time
            self.found.recorded.append(session_id)
        else:
            self.found.unchanged += 1

    async def _state(self, session_id: str) -> SessionState | None:
        try:
            return (await answer_of(self.inbox, [session_id])).get(session_id)
        except Exception as error:  # noqa: BLE001  an inbox of the user's own may raise anything
            await self._ask_health()
            raise _of_one_session(error) from None

    async def _recorded(self, decision: Decision) -> SessionState | None:
        try:
            event = event_from_decision(decision)
            return (await in_time(self.inbox.record(event, source=DecisionSource.POLL), _PATIENCE)).state
        except Exception as error:  # noqa: BLE001  an inbox of the user's own may raise anything
            try:
                await answer_of(self.inbox, [decision.session_id])
            except Exception:  # noqa: BLE001  then it may be this session's record alone that is damaged
                await self._ask_health()
                raise _of_one_session(error) from None
            raise _BrokenInboxError(error) from None

    async def _ask_health(self) -> None:
        """Raise the error of the inbox if it fails for every session."""
        try:
            await answer_of(self.inbox, [PROBE])
        except Exception as error:  # noqa: BLE001  an inbox of the user's own may raise anything
            raise _BrokenInboxError(error) from None


class _BrokenInboxError(Exception):
    """The inbox fails for every session; it holds the error to raise."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


def _of_one_session(error: Exception) -> VeriffError:
    if isinstance(error, VeriffError):
        return error
    return InboxError(f"The inbox failed with {type(error).__name__} for this session: look at its record.")


def _has(state: SessionState | None, decision: Decision) -> bool:
    return state is not None and state.decision is not None and is_same(state.decision, decision)


def _each(session_ids: Iterable[object] | AsyncIterable[object]) -> AsyncGenerator[object]:
    """Return the ids one by one, from any iterable.

    Raises:
        InvalidArgumentError: It is a single text, whose characters would be taken for ids, or nothing that has items.
    """
    given: object = session_ids
    if isinstance(given, str | bytes | bytearray | memoryview):
        msg = "session_ids must be several ids, got a single text: put it into a list."
        raise InvalidArgumentError(msg)
    if isinstance(session_ids, AsyncIterable):
        return _from_async(session_ids)
    try:
        return _from_sync(iter(session_ids))
    except TypeError:
        msg = f"session_ids must be an iterable of ids, got {type(given).__name__}."
        raise InvalidArgumentError(msg) from None


async def _from_async(session_ids: AsyncIterable[object]) -> AsyncGenerator[object]:
    async for session_id in session_ids:
        yield session_id


async def _from_sync(session_ids: Iterator[object]) -> AsyncGenerator[object]:
    for session_id in session_ids:
        yield session_id
