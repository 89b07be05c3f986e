"""The interface of observers, to which the progress of calls is reported: logs and traces have one source.

    start_call ─► on_attempt_start ─► on_attempt_end ─► on_end
                         ▲                  ├─► on_slow_down   a 429 or 503 pauses all calls of the client
                         └──── on_retry ◄───┘

An observer never changes a call: its exceptions are logged and dropped. All methods of one call run in the task of its
caller; the end of a stream may run in another task. No report holds a real path, a body or a secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from attrs import frozen

if TYPE_CHECKING:
    from veriff_async._protocol.request import Request

__all__ = ("AttemptReport", "CallObserver", "CallReport", "Observer")


@frozen(kw_only=True)
class AttemptReport:
    """One finished attempt.

    Attributes:
        number: 1 for the first attempt of the call.
        status: HTTP status, or ``None`` if no head of a response arrived.
        cause: Why no complete response arrived, in a few words, or ``None``.
        error: The exception that ended the attempt, or ``None``; a cancellation, for example.
        duration: Seconds from the start of the attempt to the end of the response's body.
        bytes_sent: Bytes of the request's body that were handed to the connection.
        bytes_received: Bytes of the response's body.
        request_id: See `find_request_id`.
    """

    number: int
    status: int | None
    cause: str | None
    error: BaseException | None
    duration: float
    bytes_sent: int
    bytes_received: int
    request_id: str | None


@frozen(kw_only=True)
class CallReport:
    """One finished call.

    Attributes:
        status: HTTP status of the last attempt, or ``None`` if no head of a response arrived.
        error: The exception that the caller gets, or ``None``.
        attempts: Number of attempts; zero if none could start.
        elapsed: Seconds since the call began, pauses included.
        bytes_sent: Bytes of the bodies of all attempts.
        bytes_received: Bytes of the bodies of all responses.
        request_id: That of the last attempt; see `find_request_id`.
        session_id: The session in the path, or the one that the call has created, if there is one.
    """

    status: int | None
    error: BaseException | None
    attempts: int
    elapsed: float
    bytes_sent: int
    bytes_received: int
    request_id: str | None
    session_id: str | None


class CallObserver:
    """Observes one call. Override the methods that you need."""

    def on_attempt_start(self, number: int) -> None:
        """Note the start of an attempt; the first has the number 1."""

    def on_stream_start(self) -> None:
        """Note that the caller reads the body of the response, in any task, after the call has returned."""

    def on_attempt_end(self, report: AttemptReport) -> None:
        """Note the end of an attempt."""

    def on_slow_down(self, seconds: float) -> None:
        """Note that a 429 or 503 to this call pauses all calls of the client."""

    def on_retry(self, delay: float, reason: str) -> None:
        """Note that the call waits for `delay` seconds and then tries again; `reason` is a status or a cause."""

    def on_end(self, report: CallReport) -> None:
        """Note the end of the call."""


class Observer(Protocol):
    """Observes the calls of a client."""

    def start_call(self, request: Request, root: str) -> CallObserver | None:
        """Return the observer of a call that begins, or ``None`` if it need not be observed.

        Args:
            request: The request; never report its `path`, `headers` or `body`.
            root: The address of the host, for example ``"https://stationapi.veriff.com"``.
        """
        ...
