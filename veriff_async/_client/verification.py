"""The part of `VeriffClient.verify` after the creation: the id of the session in errors, and the wait for decisions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import contextmanager
from inspect import isawaitable
from typing import TYPE_CHECKING, TypeAlias

from attrs import frozen

from veriff_async._protocol.arguments import check_function, check_number, type_name
from veriff_async._protocol.response import name_session
from veriff_async.errors import DecisionTimeoutError, InvalidArgumentError
from veriff_async.models.media import Media

if TYPE_CHECKING:
    from collections.abc import Generator

    from veriff_async.models.decision import Decision
    from veriff_async.models.media import UploadProgress
    from veriff_async.session import VerificationSession

__all__ = ("DecisionWait", "with_session_id")

_OnResubmission: TypeAlias = (
    "Callable[[Decision, VerificationSession], Awaitable[Sequence[Media] | None] | Sequence[Media] | None]"
)


@frozen
class DecisionWait:
    """How one call waits for its decision; the fields are the arguments of `VeriffClient.verify`.

    Raises:
        InvalidArgumentError: A value is invalid.
    """

    timeout: float | None
    progress: Callable[[UploadProgress], None] | None
    on_resubmission: _OnResubmission | None
    max_resubmissions: int

    def __attrs_post_init__(self) -> None:
        """Check the values before anything is sent."""
        takes = ("a Decision", "a VerificationSession")
        check_function(
            "on_resubmission", self.on_resubmission, may_be_async=True, takes=takes, error=InvalidArgumentError
        )
        remedy = "give a whole number, zero or more"
        check_number("max_resubmissions", self.max_resubmissions, whole=True, remedy=remedy, error=InvalidArgumentError)

    async def run(self, session: VerificationSession) -> Decision:
        """Wait for the decision on a submitted session."""
        loop = asyncio.get_running_loop()
        end = None if self.timeout is None else loop.time() + self.timeout
        decision = await session.wait_for_decision(timeout=self.timeout)
        if self.on_resubmission is None:
            return decision
        for _ in range(self.max_resubmissions):
            if not decision.needs_resubmission:
                break
            media = await _get_media(self.on_resubmission, decision, session, end)
            if media is None:
                break
            # Neither ends at the deadline: an interrupted submission would leave open whether Veriff has it.
            await session.upload(*media, progress=self.progress)
            await session.submit()
            # With no time left, this asks once.
            decision = await session.wait_for_decision(timeout=None if end is None else max(0.0, end - loop.time()))
        return decision


async def _get_media(
    on_resubmission: _OnResubmission, decision: Decision, session: VerificationSession, end: float | None
) -> list[Media] | None:
    """Return the media that the caller's function returns before the loop's time `end`."""
    timer = asyncio.timeout_at(end)
    try:
        async with timer:
            result = on_resubmission(decision, session)
            media = await result if isawaitable(result) else result
    except TimeoutError:
        if not timer.expired():  # it is the caller's own
            raise
        msg = (
            f"on_resubmission returned no media for session {session.id} within the timeout of the call: continue "
            "with client.session(id) when there are better pictures."
        )
        raise DecisionTimeoutError(msg, session_id=session.id, last_status=decision.status) from None
    # As `object`: the function is the caller's, and may return anything.
    returned: object = media
    if media is None:
        return None
    if isinstance(returned, Media | str | bytes) or not isinstance(returned, Iterable):
        msg = f"on_resubmission must return a list of Media, or None to stop, not {type_name(returned)}."
        raise InvalidArgumentError(msg)
    return list(media)


@contextmanager
def with_session_id(session_id: str) -> Generator[None]:
    """Add the id of the session to every exception, because the session exists and cannot be undone."""
    try:
        yield
    except BaseException as error:
        name_session(error, session_id)
        raise
