"""Report the progress of an observed call to its observers; see observers.py for the order of events."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from veriff_async._http.attempt import FailedAttempt, OpenResponse
from veriff_async._http.observers import AttemptReport, CallReport
from veriff_async._logging import first_failure, log_fields

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from veriff_async._http.exchange import Exchange
    from veriff_async._http.observers import CallObserver, Observer
    from veriff_async._protocol.response import Response

__all__ = ("end_attempt", "end_call", "report_retry", "report_slow_down", "run_attempt", "start_call")

_LOG: Final = logging.getLogger("veriff_async.http")


def start_call(exchange: Exchange, observers: Iterable[Observer], root: str) -> None:
    """Store the observers that want to observe a call."""
    for observer in observers:
        try:
            call = observer.start_call(exchange.request, root)
        except Exception as error:  # noqa: BLE001  see `_notify`
            _log_failure(error)
        else:
            if call is not None:
                exchange.observers = (*exchange.observers, call)


async def run_attempt(
    exchange: Exchange, attempt: Callable[[], Awaitable[Response | FailedAttempt]]
) -> Response | FailedAttempt:
    """Run an attempt and report it. The attempt of an open response ends with `end_attempt`."""
    number = exchange.attempts
    exchange.attempt_started = exchange.clock()
    _notify(exchange, lambda observer: observer.on_attempt_start(number))
    try:
        outcome = await attempt()
    except BaseException as error:
        end_attempt(exchange, error=error)
        raise
    if isinstance(outcome, OpenResponse):
        _notify(exchange, lambda observer: observer.on_stream_start())
    else:
        end_attempt(exchange, cause=outcome.cause if isinstance(outcome, FailedAttempt) else None)
    return outcome


def end_attempt(exchange: Exchange, *, cause: str | None = None, error: BaseException | None = None) -> None:
    """Report the end of the running attempt."""
    progress = exchange.progress
    report = AttemptReport(
        number=exchange.attempts,
        status=exchange.status,
        cause=cause,
        error=error,
        duration=exchange.clock() - exchange.attempt_started,
        bytes_sent=0 if progress is None else progress.bytes_sent,
        bytes_received=0 if progress is None else progress.bytes_received,
        request_id=exchange.request_id,
    )
    _notify(exchange, lambda observer: observer.on_attempt_end(report))


def report_slow_down(exchange: Exchange, seconds: float) -> None:
    """Report that the response pauses all calls of the client."""
    _notify(exchange, lambda observer: observer.on_slow_down(seconds))


def report_retry(exchange: Exchange, delay: float, outcome: Response | FailedAttempt) -> None:
    """Report that the attempt will be repeated."""
    reason = outcome.cause if isinstance(outcome, FailedAttempt) else f"HTTP {outcome.status}"
    _notify(exchange, lambda observer: observer.on_retry(delay, reason))


def end_call(exchange: Exchange, *, error: BaseException | None = None, session_id: str | None = None) -> None:
    """Report the end of the call."""
    report = CallReport(
        status=exchange.status,
        error=error,
        attempts=exchange.attempts,
        elapsed=exchange.elapsed,
        bytes_sent=exchange.bytes_sent,
        bytes_received=exchange.bytes_received,
        request_id=exchange.request_id,
        session_id=session_id or getattr(error, "session_id", None) or exchange.request.session_id,
    )
    _notify(exchange, lambda observer: observer.on_end(report))


def _notify(exchange: Exchange, event: Callable[[CallObserver], None]) -> None:
    for observer in exchange.observers:
        try:
            event(observer)
        except Exception as error:  # noqa: BLE001  for example of a filter of the application's log
            _log_failure(error)


def _log_failure(error: Exception) -> None:
    """Log where an observer has failed, once."""
    if (failure := first_failure(_LOG, error)) is None:
        return
    name, place = failure
    fields = log_fields(error=name, cause=place)
    # The log itself may have failed, and a log must not break a call.
    with suppress(Exception):
        _LOG.error("An observer of calls has failed with %s at %s; calls are not affected.", name, place, extra=fields)
