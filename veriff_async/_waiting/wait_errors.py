"""The errors that end waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from veriff_async.errors import (
    ClientClosedError,
    DecisionTimeoutError,
    NotFoundError,
    RateLimitedError,
    ResponseError,
    ServerError,
    TransportError,
)

if TYPE_CHECKING:
    from veriff_async._waiting.registry import SessionWaiters

__all__ = ("client_closed_error", "ends_waits", "timeout_error")

# Errors of a poll that never end a wait.
_TRANSIENT: Final = (TransportError, ServerError, RateLimitedError)

# Responses in a row that cannot be read or trusted, after which waiters fail: a proxy may garble one or two.
_MAX_BAD_RESPONSES: Final = 3


def ends_waits(error: Exception, session: SessionWaiters, *, is_watched: bool) -> bool:
    """Return whether a failed poll ends the waits for its session.

    Transport errors, 429 and 5xx never do. While the inbox works, a webhook can still end the waits, so only "no such
    session" does, for a session that neither the inbox nor this client has heard of. Otherwise a rejection does (401,
    403, 404 and other 4xx), because it would be repeated, and so do three responses in a row that cannot be read or
    trusted.

    Args:
        error: The error of the poll.
        session: The session, with the errors of the polls before.
        is_watched: Whether a webhook for the session would end its waits.
    """
    if isinstance(error, _TRANSIENT):
        return False
    if isinstance(error, ClientClosedError):
        return True
    if is_watched:
        return isinstance(error, NotFoundError) and session.last_status is None
    if isinstance(error, ResponseError):
        error_type, times = session.poll_failures or ("", 0)
        return error_type == type(error).__name__ and times >= _MAX_BAD_RESPONSES - 1
    return True


def timeout_error(session: SessionWaiters, timeout: float) -> DecisionTimeoutError:
    """Return the error of a wait that took too long."""
    failure = "" if session.poll_failures is None else f", polling failed with {session.poll_failures[0]}"
    msg = (
        f"No decision on session {session.session_id} came within {round(timeout, 3):g} s "
        f"(last status: {session.last_status or 'unknown'}{failure}): wait again now or later, the session continues."
    )
    return DecisionTimeoutError(msg, session_id=session.session_id, last_status=session.last_status)


def client_closed_error() -> ClientClosedError:
    """Return the error of a wait that ends with its client."""
    return ClientClosedError("The client was closed, or its waits were ended: wait again with a client that is open.")
