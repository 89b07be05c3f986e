"""The one table of errors: transient, the job's own fault, fatal for the run, or unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from veriff_async import errors
from veriff_async._protocol.error_classifier import ErrorKind, classify_error, classify_status, is_outage
from veriff_async._protocol.error_codes import class_of
from veriff_async._protocol.retry import RetryDecision, decide

if TYPE_CHECKING:
    from veriff_async.errors import VeriffError

TRANSIENT, JOB, FATAL, UNKNOWN = ErrorKind
CALL = {"method": "POST", "path": "/v1/sessions"}

# error: what it means for a call on a session, and for a creation
TABLE: dict[VeriffError, tuple[ErrorKind, ErrorKind]] = {
    errors.ConnectError("", **CALL): (TRANSIENT, TRANSIENT),
    errors.RequestTimeoutError("", **CALL): (TRANSIENT, TRANSIENT),
    errors.TransportError("", **CALL): (TRANSIENT, UNKNOWN),
    errors.OutcomeUnknownError("", **CALL): (UNKNOWN, UNKNOWN),
    errors.ResponseError(""): (TRANSIENT, UNKNOWN),
    errors.ConfigurationError(""): (JOB, JOB),
    errors.InvalidArgumentError(""): (JOB, JOB),
    errors.MediaError(""): (JOB, JOB),
    errors.MediaEmptyError(""): (JOB, JOB),
    errors.MediaChangedError(""): (JOB, JOB),
    errors.JobChangedError(""): (JOB, JOB),
    errors.JobFailedError("", error_type="MediaError"): (JOB, JOB),
    errors.JobClaimedError(""): (TRANSIENT, TRANSIENT),
    errors.BatchError(""): (TRANSIENT, TRANSIENT),
    errors.DecisionTimeoutError("", session_id="", last_status=None): (TRANSIENT, TRANSIENT),
    errors.InboxError(""): (TRANSIENT, TRANSIENT),
    errors.LeaseLostError(""): (TRANSIENT, TRANSIENT),
    errors.JournalError(""): (FATAL, FATAL),
    errors.ClientClosedError(""): (FATAL, FATAL),
}
# status: what it means for a call on a session, and for a creation
STATUSES: dict[int, tuple[ErrorKind, ErrorKind]] = {
    302: (TRANSIENT, TRANSIENT),
    400: (JOB, JOB),
    401: (FATAL, FATAL),
    403: (TRANSIENT, FATAL),
    404: (JOB, FATAL),
    407: (FATAL, FATAL),
    408: (TRANSIENT, TRANSIENT),
    409: (JOB, JOB),
    413: (JOB, JOB),
    418: (TRANSIENT, TRANSIENT),
    422: (JOB, JOB),
    423: (TRANSIENT, TRANSIENT),
    425: (TRANSIENT, TRANSIENT),
    429: (TRANSIENT, TRANSIENT),
    500: (TRANSIENT, UNKNOWN),
    502: (TRANSIENT, UNKNOWN),
    504: (TRANSIENT, UNKNOWN),
    520: (TRANSIENT, UNKNOWN),
}


def refusal(status: int, code: str | None = None) -> errors.ApiError:
    """Return the error of a refusal."""
    return class_of(status, code)("", status=status, code=code)


@pytest.mark.parametrize(("error", "kinds"), TABLE.items(), ids=lambda value: type(value).__name__)
def test_each_error_has_one_meaning(error: VeriffError, kinds: tuple[ErrorKind, ErrorKind]) -> None:
    """An error means the same for every part of the library, and a creation without proof is unknown."""
    assert kinds == (classify_error(error), classify_error(error, creates=True))


@pytest.mark.parametrize(("status", "kinds"), STATUSES.items())
def test_each_status_has_one_meaning(status: int, kinds: tuple[ErrorKind, ErrorKind]) -> None:
    """A status that says nothing about the request's content never fails a job for good."""
    assert kinds == (classify_error(refusal(status)), classify_error(refusal(status), creates=True))


@given(st.integers(300, 599), st.sampled_from([None, "1104"]))
def test_retry_and_batch_agree(status: int, code: str | None) -> None:
    """A status that a call repeats never fails a job, and a job's own fault is never repeated."""
    kind = classify_status(status, code=code)

    assert not (decide(status, repeatable=True) is RetryDecision.RETRY and kind is not TRANSIENT)
    assert is_outage(refusal(status, code)) is (kind is TRANSIENT)


@pytest.mark.parametrize("code", ["1104", "1304", "9999"])
def test_a_code_of_veriff_makes_an_unusual_status_the_fault_of_the_job(code: str) -> None:
    """A refusal that RFC 9110 does not assign counts as the job's only if Veriff wrote the body."""
    assert (JOB, TRANSIENT) == (classify_status(403, code=code), classify_status(403))
    assert (JOB, TRANSIENT) == (classify_status(451, code=code), classify_status(451))
