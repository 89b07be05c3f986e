"""The fields of log records, and the variable ``VERIFF_LOG``, which shows them without a configuration of logging.

The library logs with Python's `logging`. Each value of a message is a field of its record too, so that structlog or a
JSON formatter can index it. The prefix keeps the names apart from those of `logging.LogRecord`.
"""

from __future__ import annotations

import logging
import os
import sys
from traceback import walk_tb
from typing import TYPE_CHECKING, Final, TypedDict, Unpack

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = (
    "LOG_VARIABLE",
    "PREFIX",
    "LogFields",
    "fields_of",
    "first_failure",
    "log_fields",
    "log_level_from",
    "show_log",
)

LOG_VARIABLE: Final = "VERIFF_LOG"
PREFIX: Final = "veriff_"
_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_LOG: Final = logging.getLogger("veriff_async")
_failures: Final = set[tuple[str, str, str]]()


class LogFields(TypedDict, total=False):
    """The values of a log record, without their prefix. A record has those that it knows.

    Attributes:
        operation: Name of the call, for example ``upload_media``.
        method: HTTP method.
        path_template: Path of the request, with names instead of its ids.
        session_id: The session that the record is about.
        attempt: Number of the attempt; the first is 1.
        status: HTTP status of a response: of Veriff's, or of the receiver's to a webhook.
        duration: Seconds that an attempt took.
        bytes_sent: Bytes of the body that were sent.
        bytes_received: Bytes of the body that were received.
        request_id: The id that a header of the response gives to the request.
        cause: The cause of a failure or an action, in a few words.
        error: Name of the class of an error.
        delay: Seconds until the next attempt.
        pause: Seconds for which all calls of a client pause.
        failing_for: Seconds since the first of several failures.
        event: Name of the class of an event.
        handler: Name of a handler of events.
        is_duplicate: Whether an event was recorded before.
        count: Number of the things that the message is about.
        task: Name of a background task.
        job_id: Your id of a job.
        job_state: State of a job.
        host: A host name.
        integration: Name of the integration that the address or the API key of a refused request has selected. The
            request may be forged.
        days: Days between the clock and the last record of an inbox; negative if the clock is behind.
    """

    operation: str
    method: str
    path_template: str
    session_id: str | None
    attempt: int
    status: int | None
    duration: float
    bytes_sent: int
    bytes_received: int
    request_id: str | None
    cause: str | None
    error: str
    delay: float
    pause: float
    failing_for: float
    event: str
    handler: str
    is_duplicate: bool
    count: int
    task: str
    job_id: str
    job_state: str
    host: str
    integration: str | None
    days: float


def log_fields(**values: Unpack[LogFields]) -> dict[str, object]:
    """Return the `extra` of a log record."""
    return {f"{PREFIX}{name}": value for name, value in values.items() if value is not None}


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """Return the fields of a record, with their prefix."""
    return {name: value for name, value in vars(record).items() if name.startswith(PREFIX)}


def _raised_at(error: BaseException) -> str:
    """Return file and line where an exception was raised: the text of one of other code may hold data of a person."""
    *_, (frame, line) = walk_tb(error.__traceback__)
    return f"{frame.f_code.co_filename}:{line}"


def first_failure(logger: logging.Logger, error: Exception) -> tuple[str, str] | None:
    """Return the class and the place of an error, or ``None`` for one that was logged: each call may fail."""
    failure = type(error).__name__, _raised_at(error)
    if (logger.name, *failure) in _failures:
        return None
    _failures.add((logger.name, *failure))
    return failure


def log_level_from(environ: Mapping[str, str]) -> int | None:
    """Return the level that ``VERIFF_LOG`` names, or ``None`` if it names none."""
    return _LEVELS.get(environ.get(LOG_VARIABLE, "").strip().lower())


def show_log() -> None:
    """Write the log to stderr if ``VERIFF_LOG`` is set; called when a client or a receiver is created.

    Each value takes effect once in a process, so that a program can change the level later. Handlers that the program
    installs, before or later, replace this one.
    """
    value = os.environ.get(LOG_VARIABLE, "").strip()
    if value == _Applied.value:
        return
    _Applied.value = value
    level = log_level_from(os.environ)
    if level is None:
        if value:
            # Not an error: a variable for debugging must not stop a program. The value may be a secret.
            _LOG.warning("%s has no effect: set it to debug, info, warning or error.", LOG_VARIABLE)
        return
    _LOG.setLevel(level)
    if not any(isinstance(handler, _StderrHandler) for handler in _LOG.handlers):
        _LOG.addHandler(_StderrHandler())


class _Applied:
    """The value that took effect last."""

    value: str = ""


class _StderrHandler(logging.Handler):
    """Writes to stderr what no other handler shows."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, unless a handler of the program takes it."""
        # All handlers that get the record, as `logging.Logger.callHandlers` finds them.
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None:
            for handler in logger.handlers:
                # A NullHandler shows nothing; libraries add it.
                is_other = handler is not self and not isinstance(handler, logging.NullHandler)
                if is_other and record.levelno >= handler.level:
                    return
            logger = logger.parent if logger.propagate else None
        try:
            # Looked up now, because programs and tests replace it.
            sys.stderr.write(self.format(record) + "\n")
        except Exception:  # noqa: BLE001  as `logging.StreamHandler` does
            self.handleError(record)


class _Formatter(logging.Formatter):
    """Adds the session and the integration to the message, in which no other field is missing."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        for title, name in (("session", "session_id"), ("integration", "integration")):
            value: object = getattr(record, f"{PREFIX}{name}", None)
            if value is not None and str(value) not in text:
                text += f" {title}={value}"
        return text
