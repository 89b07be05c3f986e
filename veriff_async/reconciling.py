"""Ask for what webhooks did not tell: after an outage, or now and then."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import TYPE_CHECKING

from anyio import create_memory_object_stream
from attrs import Factory, define

from veriff_async.errors import ConfigurationError, VeriffError
from veriff_async.models.decision import DecisionSource
from veriff_async.protocol.events import decision_event
from veriff_async.protocol.lifecycle import identity
from veriff_async.together import together

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from veriff_async.client import VeriffClient
    from veriff_async.inbox.inbox import Inbox
    from veriff_async.models.decision import Decision
    from veriff_async.models.state import SessionState

__all__ = ("Reconciled", "reconcile")


@define(kw_only=True)
class Reconciled:
    """What a reconciliation found.

    Attributes:
        known: Sessions whose final decision was in the inbox already; Veriff was not asked for them.
        recorded: Sessions with a decision that the inbox did not know, and knows now; a repeated session counts once.
        unchanged: Sessions whose decision said nothing new.
        undecided: Sessions that Veriff has not decided yet.
        failed: Why Veriff did not tell, by session; the others are asked all the same.
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
    progress: Callable[[Reconciled], None] | None = None,
) -> Reconciled:
    """Ask Veriff for the decisions that the inbox misses, and record them, so that whoever waits for them wakes.

    Use it after the address of the webhooks could not be reached for long, or now and then for the sessions that are
    open. Calling it again is safe.

    Args:
        client: Whom to ask with; its retries, and its slow-down after a 429, hold here too.
        inbox: What is looked at, and where decisions are recorded.
        session_ids: The sessions, any number of them; an iterator is taken as it comes.
        concurrency: Most questions at once.
        progress: Called on the loop after each session with what was found so far; it must not block.

    Returns:
        What was found, with the failures of single sessions.

    Raises:
        ConfigurationError: `concurrency` is below 1.
        InboxError: The inbox cannot be read or written; what was recorded until then stays.

    Example:
        >>> found = await reconcile(veriff, inbox, open_session_ids)
        >>> print(len(found.recorded), "webhooks were missed;", len(found.failed), "sessions could not be asked for")

    See https://devdocs.veriff.com/apidocs/v1sessionsiddecision-1.
    """
    if concurrency < 1:
        msg = f"concurrency is {concurrency!r}: give 1 or more."
        raise ConfigurationError(msg)
    found = Reconciled()
    send, receive = create_memory_object_stream[str](0)

    async def hand_out() -> None:
        async with send:
            async for session_id in _each(session_ids):
                await send.send(session_id)

    async def work() -> None:
        async with receive.clone() as ids:
            async for session_id in ids:
                await _settle(client, inbox, session_id, found)
                if progress is not None:
                    progress(found)

    with receive:
        _, failure = await together([hand_out, *(work for _ in range(concurrency))], concurrency=concurrency + 1)
    if failure is not None:
        raise failure
    return found


async def _settle(client: VeriffClient, inbox: Inbox, session_id: str, found: Reconciled) -> None:
    before = (await inbox.look([session_id])).get(session_id)
    if before is not None and before.current is not None and before.current.is_final:
        found.known += 1
        return
    try:
        decision = await client.session(session_id).decision()
    except VeriffError as error:
        found.failed[session_id] = error
        return
    if decision is None:
        found.undecided += 1
        return
    after = (await inbox.record(decision_event(decision), source=DecisionSource.POLL)).state
    # The client may have recorded it too, so what became of this record does not tell whether it was news.
    if _tells(after, decision) and not _tells(before, decision):
        found.recorded.append(session_id)
    else:
        found.unchanged += 1


def _tells(state: SessionState | None, decision: Decision) -> bool:
    return state is not None and state.decision is not None and identity(state.decision) == identity(decision)


async def _each(session_ids: Iterable[str] | AsyncIterable[str]) -> AsyncIterator[str]:
    if isinstance(session_ids, AsyncIterable):
        async for session_id in session_ids:
            yield session_id
    else:
        for session_id in session_ids:
            yield session_id
