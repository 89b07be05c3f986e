"""Evaluates one request for the decision of a session that does not exist, which creates and changes nothing.

Documented: an unknown session gets 404, a refused key or signature 401. That Veriff checks key and signature before it
looks up the session is a guess. So a 404 alone proves less than a 404 together with a 401 to the same request with a
wrong signature, which `check_signature_required` compares.
"""

from __future__ import annotations

import math
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

from veriff_async._protocol import error_codes
from veriff_async._protocol.authenticity import parse_auth_headers
from veriff_async._protocol.base_url import BASE_URL_VARIABLE
from veriff_async._protocol.json.decode import load_object
from veriff_async._protocol.response import api_error, check_authenticity
from veriff_async.credentials import SECRET_VARIABLE
from veriff_async.errors import DecodeError, VeriffError
from veriff_async.health import CheckOutcome, CheckReport, CheckResult

if TYPE_CHECKING:
    from datetime import datetime

    from veriff_async._protocol.response import Response

__all__ = (
    "CHECKS",
    "MAX_SKEW",
    "PORTAL",
    "check_clock",
    "check_credentials",
    "check_signature_required",
    "measure_clock_skew",
    "report_failure",
    "report_response",
)

PORTAL: Final = "the integration's API Keys page in the Customer Portal"

CHECKS: Final = ("response", "clock", "credentials", "response signature")
"""The checks of one response, in order."""

MAX_SKEW: Final = 180.0
"""Seconds by which the clock of a machine may be wrong before its setup counts as faulty."""

# A clock that NTP sets is right to milliseconds, and one that differs by more than this is not set.
_UNUSUAL_SKEW: Final = 30.0


def report_failure(problem: str, *, now: datetime, outcome: CheckOutcome = CheckOutcome.FAILED) -> CheckReport:
    """Return the report without a response; `problem` is a sentence."""
    skipped = (CheckResult.skip(name, "Veriff did not respond") for name in CHECKS[1:])
    return CheckReport(results=(CheckResult(CHECKS[0], outcome, problem), *skipped), checked_at=now)


def report_response(response: Response, *, now: datetime, seconds: float, max_skew: float = math.inf) -> CheckReport:
    """Return the report on a response.

    Args:
        response: The response.
        now: When it arrived; aware.
        seconds: Duration of the request.
        max_skew: A clock that is wrong by more seconds is a failure. By default it is only a warning: Veriff accepts
            the requests of such a machine, and if a proxy writes a wrong ``Date``, the readiness probes of all machines
            would fail at once, although the application works.
    """
    skew = measure_clock_skew(response.headers.get("Date"), now=now, seconds=seconds)
    accepted = check_credentials(response)
    results = (
        CheckResult(CHECKS[0], CheckOutcome.OK, f"HTTP {response.status} in {seconds * 1000:.0f} ms."),
        check_clock(skew, max_skew),
        accepted,
        _check_response_signature(response, accepted),
    )
    return CheckReport(results=results, checked_at=now, latency=seconds, clock_skew=skew)


def measure_clock_skew(date: str | None, *, now: datetime, seconds: float) -> float | None:
    """Return by how many seconds the local clock is ahead of the server's; ``None`` without a readable date.

    Args:
        date: The ``Date`` header, exact to a second.
        now: Local time of the response; aware.
        seconds: Duration of the request, by which the header may be older.
    """
    try:
        skew = (now - parsedate_to_datetime(date or "")).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return None
    # The server wrote the header at some time during the request, and its fraction of a second is cut off.
    return max(0.0, skew - seconds - 1) if skew > 0 else min(0.0, skew + 1)


def check_clock(skew: float | None, max_skew: float) -> CheckResult:
    """Compare the clock with the server's.

    Signatures contain no time, so Veriff accepts requests from a machine with a wrong clock; but certificates are
    checked against it, and timestamps of pictures and records come from it.
    """
    name = CHECKS[1]
    if skew is None:
        return CheckResult.skip(name, "the response has no readable Date header")
    if abs(skew) <= _UNUSUAL_SKEW:
        return CheckResult(name, CheckOutcome.OK, "The clock agrees with the server's.")
    message = (
        f"The clock of this machine is {abs(skew):.0f} seconds {'ahead of' if skew > 0 else 'behind'} the server's: "
        "set it by NTP, since certificates are checked against it and timestamps of pictures and records come from it."
    )
    return CheckResult(name, CheckOutcome.FAILED if abs(skew) > max_skew else CheckOutcome.WARNING, message)


def check_credentials(response: Response) -> CheckResult:
    """Evaluate whether key and signature of the request were accepted.

    The codes come from public transcriptions of Veriff's table, and the HTTP status of each is a guess, so the code
    takes precedence.
    """
    name, status, code = CHECKS[2], response.status, api_error(response).code
    numbers = _numbers(status, code)
    if _is_refused(status, code):
        return CheckResult(name, CheckOutcome.FAILED, f"Refused ({numbers}): {error_codes.remedy(401, code)}.")
    if status in {200, 404}:
        if _is_veriffs(response):
            message = (
                f"Key and signature seem to be accepted: the response says that the session is unknown ({numbers})."
            )
            return CheckResult(name, CheckOutcome.OK, message)
        message = f"The response ({numbers}) does not have Veriff's format: compare {BASE_URL_VARIABLE} with {PORTAL}."
        return CheckResult(name, CheckOutcome.FAILED, message)
    message = f"Veriff neither accepted nor refused the credentials ({numbers}): {error_codes.remedy(status, code)}."
    is_refusal = status < 500 and status // 100 != 3  # noqa: PLR2004  statuses of HTTP
    return CheckResult(name, CheckOutcome.WARNING if is_refusal else CheckOutcome.FAILED, message)


def check_signature_required(accepted: CheckResult, response: Response | None) -> CheckResult:
    """Evaluate the same request with a wrong signature: unless it is refused, acceptance of ours proves nothing."""
    if response is None:
        return accepted
    code = api_error(response).code
    numbers = _numbers(response.status, code)
    if _is_refused(response.status, code):
        message = (
            "Key and signature are accepted: the response says that the session is unknown, and the same request with "
            f"a wrong signature is refused ({numbers})."
        )
        return CheckResult(accepted.name, CheckOutcome.OK, message)
    message = (
        f"The secret could not be tested: a wrong signature got the same response ({numbers}), so Veriff did not "
        f"check the signature. Compare {SECRET_VARIABLE} with {PORTAL}."
    )
    return CheckResult(accepted.name, CheckOutcome.WARNING, message)


def _check_response_signature(response: Response, accepted: CheckResult) -> CheckResult:
    """Check the signature of the response, if there is one, with the credentials of the request."""
    name = CHECKS[3]
    if accepted.outcome is not CheckOutcome.OK:
        return CheckResult.skip(name, "the credentials are not accepted")
    if parse_auth_headers(response.headers).signature is None:
        message = "The response is not signed. That is fine: whether Veriff signs refusals is not documented."
        return CheckResult(name, CheckOutcome.SKIPPED, message)
    try:
        check_authenticity(response)
    except VeriffError as error:
        problems = "; ".join(getattr(error, "problems", ()))
        message = (
            f"The response does not come from this integration ({problems}): look for a proxy, and give all secrets."
        )
        return CheckResult(name, CheckOutcome.FAILED, message)
    return CheckResult(name, CheckOutcome.OK, "The response is signed with the secret that signed the request.")


def _numbers(status: int, code: str | None) -> str:
    return f"HTTP {status}" + (f", code {code}" if code else "")


def _is_refused(status: int, code: str | None) -> bool:
    return status == 401 or (code or "").startswith("18")  # noqa: PLR2004  HTTP Unauthorized


def _is_veriffs(response: Response) -> bool:
    """Return whether a response is Veriff's: any web server answers 404, Veriff in JSON, and it signs some of them."""
    if parse_auth_headers(response.headers).signature is not None:
        return True
    try:
        return bool(load_object(response.body))
    except DecodeError:
        return False
