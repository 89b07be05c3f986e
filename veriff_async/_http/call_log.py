"""Logs the calls of clients: one line for each attempt, and one for each retry and pause."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from veriff_async._http.observers import CallObserver
from veriff_async._logging import log_fields

if TYPE_CHECKING:
    from veriff_async._http.observers import AttemptReport
    from veriff_async._protocol.request import Request

__all__ = ("CallLog",)

_LOG: Final = logging.getLogger("veriff_async.http")

is_logged: Final = partial(_LOG.isEnabledFor, logging.INFO)
"""Returns whether calls are logged."""


class CallLog:
    """Observes the calls of a client if the log shows them."""

    def start_call(self, request: Request, root: str) -> CallObserver | None:
        """Return the observer of a call, or ``None`` if the level of the logger is above INFO."""
        del root
        # One look for the whole call: it is the only cost of a log that is off.
        return _LoggedCall(request) if _LOG.isEnabledFor(logging.INFO) else None


class _LoggedCall(CallObserver):
    def __init__(self, request: Request) -> None:
        self._method = request.method
        self._path_template = request.path_template
        self._operation = request.operation
        self._session_id = request.session_id
        self._attempt = 0
        self._status: int | None = None

    def on_attempt_end(self, report: AttemptReport) -> None:
        """Log an attempt."""
        self._attempt, self._status = report.number, report.status
        if not _LOG.isEnabledFor(logging.DEBUG):
            return
        # The class only: the text of an exception may name an id or a file.
        cause = report.cause or (None if report.error is None else type(report.error).__name__)
        status = None if report.status is None else f"HTTP {report.status}"
        _LOG.debug(
            "%s %s: %s in %.3f s (attempt %d; %d bytes sent, %d received; request id %s)",
            self._method,
            self._path_template,
            ", ".join(part for part in (status, cause) if part is not None),
            report.duration,
            report.number,
            report.bytes_sent,
            report.bytes_received,
            report.request_id or "unknown",
            extra=log_fields(
                operation=self._operation,
                method=self._method,
                path_template=self._path_template,
                session_id=self._session_id,
                attempt=report.number,
                status=report.status,
                cause=cause,
                duration=report.duration,
                bytes_sent=report.bytes_sent,
                bytes_received=report.bytes_received,
                request_id=report.request_id,
            ),
        )

    def on_slow_down(self, seconds: float) -> None:
        """Log a pause of the client."""
        _LOG.info(
            "Veriff asked to slow down (HTTP %s), so all calls of the client pause for %.3f s.",
            self._status,
            seconds,
            extra=log_fields(operation=self._operation, status=self._status, pause=seconds),
        )

    def on_retry(self, delay: float, reason: str) -> None:
        """Log a retry."""
        _LOG.info(
            "%s %s is tried again in %.3f s, because attempt %d failed: %s.",
            self._method,
            self._path_template,
            delay,
            self._attempt,
            reason,
            extra=log_fields(
                operation=self._operation,
                method=self._method,
                path_template=self._path_template,
                session_id=self._session_id,
                attempt=self._attempt,
                status=self._status,
                cause=reason,
                delay=delay,
            ),
        )
