"""Classify every error: worth another attempt, the fault of one job, fatal for a whole run, or unknown.

Retries of one call, batches and task queues use this one table, so that they agree. A wrong answer is expensive in both
directions: a transient error that fails a job loses a verification, and a creation repeated without proof makes two.

    transient   the same call may succeed later: the network, a timeout, 5xx, 429, 408, a body that a proxy replaced
    job         the input of one call: repeating it gives the same refusal
    fatal       the credentials, the base URL or the store: every other job of the run would meet the same error
    unknown     a creation that may have been carried out although no usable response arrived

Which status is which follows RFC 9110 (section 15) and https://devdocs.veriff.com/docs/common-http-status-codes. Veriff
documents 400, 401, 404, 409, 429 and 500 only, so another 4xx counts as the job's fault only if RFC 9110 says that the
request itself is wrong, or if the body has an error code of Veriff's. Otherwise a proxy or firewall may have sent it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from veriff_async.errors import (
    ApiError,
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    DecisionTimeoutError,
    InboxError,
    InvalidArgumentError,
    JobChangedError,
    JobClaimedError,
    JobFailedError,
    JournalError,
    MediaError,
    MediaSourceError,
    OutcomeUnknownError,
    RequestTimeoutError,
    ResponseError,
    TransportError,
    VeriffError,
)

__all__ = ("ErrorKind", "classify_error", "classify_status", "is_outage", "is_repeated")


class ErrorKind(StrEnum):
    """The meaning of an error for the call, the job and the run."""

    TRANSIENT = "transient"
    JOB = "job"
    FATAL = "fatal"
    UNKNOWN = "unknown"


# 4xx that say nothing about the request's content, only about the moment or the connection (RFC 9110, 6585, 8470).
_TRANSIENT: Final = frozenset({408, 421, 423, 425, 429})

# 4xx that say that this request is wrong, so that repeating it is useless.
_JOB: Final = frozenset({400, 404, 405, 406, 409, 410, 411, 413, 414, 415, 422})

# Credentials of the integration, the proxy or the network, or a server that is not Veriff's: each request fails.
_FATAL: Final = frozenset({401, 407, 501, 505, 511})

# A creation names no session, so these refuse every creation: the integration or the base URL is wrong.
_FATAL_WHEN_CREATING: Final = frozenset({403, 404, 405, 410})

_CLIENT_ERRORS: Final = range(400, 500)
_UNAVAILABLE: Final = 503


def classify_status(status: int, *, code: str | None = None, creates: bool = False) -> ErrorKind:
    """Classify the HTTP status of a refusal.

    Args:
        status: HTTP status, 300 or above. Redirects are not followed, so they are refusals.
        code: Veriff's own error code, if the body has one.
        creates: Whether the request creates a session.
    """
    if status in _FATAL or (creates and status in _FATAL_WHEN_CREATING):
        return ErrorKind.FATAL
    if status in _TRANSIENT:
        return ErrorKind.TRANSIENT
    if status in _JOB or (status in _CLIENT_ERRORS and code is not None):
        return ErrorKind.JOB
    return ErrorKind.TRANSIENT


def is_repeated(status: int) -> bool:
    """Return whether one call repeats a request after this status, if repeating is harmless.

    A call cannot wait for long, so it repeats only what is expected to pass in seconds; a batch is more patient.
    """
    return status in _TRANSIENT or (status >= _CLIENT_ERRORS.stop and status not in _FATAL)


def classify_error(error: VeriffError, *, creates: bool = False) -> ErrorKind:
    """Classify any error of this library."""
    if isinstance(error, OutcomeUnknownError):
        return ErrorKind.UNKNOWN
    # Before the status: 500 is transient for other calls, but a repeated creation may make a second session.
    if creates and _may_have_created(error):
        return ErrorKind.UNKNOWN
    if isinstance(error, ApiError) and not isinstance(error, AuthenticationError):
        return classify_status(error.status, code=error.code, creates=creates)
    for kind, classes in _CLASSES.items():
        if isinstance(error, classes):
            return kind
    return ErrorKind.TRANSIENT


def is_outage(error: VeriffError) -> bool:
    """Return whether an error suggests that Veriff or the network is down, so that other jobs would meet it too."""
    if isinstance(error, ApiError):
        return classify_status(error.status, code=error.code) is ErrorKind.TRANSIENT
    return isinstance(error, TransportError | ResponseError)


# The first class that matches counts, so a subclass stands above its base. JobClaimedError, other BatchErrors and
# timeouts are transient: the job is unharmed, and the same call may succeed later.
_CLASSES: Final[dict[ErrorKind, tuple[type[VeriffError], ...]]] = {
    ErrorKind.TRANSIENT: (
        JobClaimedError,
        DecisionTimeoutError,
        InboxError,
        MediaSourceError,
        ResponseError,
        TransportError,
    ),
    ErrorKind.FATAL: (AuthenticationError, ClientClosedError, JournalError),
    ErrorKind.JOB: (MediaError, InvalidArgumentError, ConfigurationError, JobChangedError, JobFailedError),
}


def _may_have_created(error: VeriffError) -> bool:
    """Return whether Veriff may have created a session although the creation failed with this error.

    The client raises `OutcomeUnknownError` itself where it knows. A timeout of another class is one of connecting.
    """
    if isinstance(error, ApiError):
        return error.status >= _CLIENT_ERRORS.stop and error.status != _UNAVAILABLE
    if isinstance(error, TransportError):
        return not isinstance(error, ConnectError | RequestTimeoutError)
    return isinstance(error, ResponseError)
