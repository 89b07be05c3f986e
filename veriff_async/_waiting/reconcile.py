"""Polls the decisions that no webhook reported, after an outage or now and then.

Failures are of two kinds. A failure of one session, such as a bad id, an error of Veriff or a damaged record of the
inbox, goes into the result, and the other sessions continue. A failure of the whole inbox ends the call. To distinguish
them, a failed call to the inbox is followed by a lookup of an id that does not exist: if that fails too, the inbox is
down.
"""

from __future__ import annotations

from collections.abc import AsyncIterable
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from anyio import Semaphore, create_task_group
from attrs import Factory, define, frozen

from veriff_async._event_loop import require_asyncio
from veriff_async._protocol.arguments import check_concurrency, check_function
from veriff_async._protocol.status_transitions import is_same
from veriff_async._protocol.validation import check_id
from veriff_async._protocol.webhook import event_from_decision
from veriff_async._waiting.inbox_calls import PROBE_ID, get_states, with_deadline
from veriff_async.errors import InboxError, InvalidArgumentError, VeriffError
from veriff_async.models.decision_source import DecisionSource

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

    from veriff_async.client import VeriffClient
    from veriff_async.inbox._protocol import Inbox
    from veriff_async.models.decision import Decision
    from veriff_async.models.state import SessionState

__all__ = ("ReconcileResult", "reconcile")

# Seconds for one record.
_RECORD_TIMEOUT: Final = 60.0


@define(kw_only=True)
class ReconcileResult:
    """The result of `reconcile`.

    Attributes:
        known: Sessions whose final decision was in the inbox already. They are not polled.
        recorded: Sessions with a decision that was missing in the inbox and has been recorded now, each listed once.
        unchanged: Sessions whose decision the inbox had already.
        undecided: Sessions that Veriff has not decided yet.
        failed: Errors by session: of the id, of Veriff, or of the inbox's record of the session. They do not affect the
            other sessions.
    """

    known: int = 0
    recorded: list[str] = Factory(list[str])
    unchanged: int = 0
    undecided: int = 0
    failed: dict[str, VeriffError] = Factory(dict[str, VeriffError])

    @property
    def done(self) -> int:
        """How many sessions have been processed."""
        return self.known + len(self.recorded) + self.unchanged + self.undecided + len(self.failed)


async def reconcile(
    client: VeriffClient,
    inbox: Inbox,
    session_ids: Iterable[str] | AsyncIterable[str],
    *,
    concurrency: int = 8,
    progress: Callable[[ReconcileResult], None] | None = None,
) -> ReconcileResult:
    """Poll the decisions that are missing in the inbox, and record them, which ends the waits for them.

    Use it after your webhook endpoint was unreachable for a long time, or regularly for all open sessions. Calling it
    again is safe.

    Args:
        client: The client that polls. Its retries, and its cooldown after a 429, apply.
        inbox: The inbox to read, and to record decisions in.
        session_ids: The sessions. There can be any number: an iterator is read as the work proceeds.
        concurrency: Maximum number of sessions that are polled at the same time.
        progress: Called on the event loop after each session with the result so far. It must not block.

    Returns:
        The result, which includes the failures of single sessions.

    Raises:
        InvalidArgumentError: `concurrency` is below 1, or `session_ids` is a single string.
        InboxError: The whole inbox cannot be read or written. Decisions that were recorded before stay.

    Example:
        >>> result = await reconcile(veriff, inbox, open_session_ids)
        >>> print(len(result.recorded), "webhooks were missed,", len(result.failed), "sessions failed")

    See https://devdocs.veriff.com/apidocs/v1sessionsiddecision-1.
    """
    require_asyncio()
    check_concurrency(concurrency)
    check_function("progress", progress, takes=("a ReconcileResult",), error=InvalidArgumentError)
    run = _Reconciliation(client, inbox, ReconcileResult(), progress)
    ids = _iterate(session_ids)
    # One task per session instead of a fixed number of workers, so that there are never more tasks than sessions.
    permits, failures = Semaphore(concurrency, fast_acquire=True), list[Exception]()

    async def work(session_id: object, cancel: Callable[[], None]) -> None:
        try:
            await run.process(session_id)
        except _BrokenInboxError as broken:
            failures.append(broken.error)
            cancel()
        except Exception as error:  # noqa: BLE001  raised below as it is, not in an exception group
            failures.append(error)
            cancel()
        finally:
            permits.release()

    async with create_task_group() as group:
        try:
            async with aclosing(ids):
                async for session_id in ids:
                    await permits.acquire()
                    group.start_soon(work, session_id, group.cancel_scope.cancel)
        except Exception as error:  # noqa: BLE001  an error of the iterable, likewise
            failures.append(error)
            group.cancel_scope.cancel()
    if failures:
        raise failures[0]
    return run.result


@frozen
class _Reconciliation:
    """One call of `reconcile`."""

    client: VeriffClient
    inbox: Inbox
    result: ReconcileResult
    progress: Callable[[ReconcileResult], None] | None
    recorded: set[str] = Factory(set[str])

    async def process(self, session_id: object) -> None:
        """Record the decision on a session unless the inbox has it, and count the outcome."""
        try:
            await self._process(check_id("session_id", session_id))
        except VeriffError as error:
            self.result.failed[session_id if isinstance(session_id, str) else repr(session_id)] = error
        if self.progress is not None:
            self.progress(self.result)

    async def _process(self, session_id: str) -> None:
        before = await self._get_state(session_id)
        if before is not None and before.effective_decision is not None and before.effective_decision.is_final:
            self.result.known += 1
            return
        decision = await self.client.session(session_id).decision()
        if decision is None:
            self.result.undecided += 1
            return
        after = await self._record(decision)
        # The states decide, not the result of this record: a client with the same inbox has recorded it already. The
        # same session may also be processed several times concurrently, and counts once.
        if _has(after, decision) and not _has(before, decision) and session_id not in self.recorded:
            self.recorded.add(session_id)
            self.result.recorded.append(session_id)
        else:
            self.result.unchanged += 1

    async def _get_state(self, session_id: str) -> SessionState | None:
        try:
            return (await get_states(self.inbox, [session_id])).get(session_id)
        except Exception as error:  # noqa: BLE001  a user's inbox may raise anything
            await self._check_health()
            raise _as_session_error(error) from None

    async def _record(self, decision: Decision) -> SessionState | None:
        try:
            event = event_from_decision(decision)
            call = self.inbox.record(event, source=DecisionSource.POLL)
            return (await with_deadline(call, _RECORD_TIMEOUT)).state
        except Exception as error:  # noqa: BLE001  a user's inbox may raise anything
            try:
                await get_states(self.inbox, [decision.session_id])
            except Exception:  # noqa: BLE001  the record of this session may be damaged, or the inbox is down
                await self._check_health()
                raise _as_session_error(error) from None
            raise _BrokenInboxError(error) from None

    async def _check_health(self) -> None:
        """Raise the error of the inbox if it fails for every session."""
        try:
            await get_states(self.inbox, [PROBE_ID])
        except Exception as error:  # noqa: BLE001  a user's inbox may raise anything
            raise _BrokenInboxError(error) from None


class _BrokenInboxError(Exception):
    """The inbox fails for every session."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


def _as_session_error(error: Exception) -> VeriffError:
    if isinstance(error, VeriffError):
        return error
    return InboxError(f"The inbox failed with {type(error).__name__} for this session: check its record.")


def _has(state: SessionState | None, decision: Decision) -> bool:
    return state is not None and state.decision is not None and is_same(state.decision, decision)


async def _iterate(session_ids: Iterable[object] | AsyncIterable[object]) -> AsyncGenerator[object]:
    """Iterate over ids from any iterable.

    Raises:
        InvalidArgumentError: It is not iterable, or a single string, whose characters would count as ids.
    """
    given: object = session_ids  # callers without a type checker may pass anything
    if isinstance(given, str | bytes | bytearray | memoryview):
        msg = "session_ids must be an iterable of ids, not a single string: put the id into a list."
        raise InvalidArgumentError(msg)
    if isinstance(session_ids, AsyncIterable):
        async for session_id in session_ids:
            yield session_id
        return
    try:
        iterator = iter(session_ids)
    except TypeError:
        msg = f"session_ids must be an iterable of ids, not {type(given).__name__}: pass for example a list."
        raise InvalidArgumentError(msg) from None
    for session_id in iterator:
        yield session_id
