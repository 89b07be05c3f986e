"""Judges responses by what a case expects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from veriff_async.testing.receiver_check._case import CaseOutcome, CaseSeverity, Finding

if TYPE_CHECKING:
    from collections.abc import Iterable

    from veriff_async.testing.receiver_check._http_client import Reply

__all__ = ("is_accepted", "judge_accepted", "judge_answered", "judge_refused", "worst")

_OK: Final = 200


def is_accepted(reply: Reply) -> bool:
    """Return whether a response accepts a webhook: with 200, or as the endpoint accepts every webhook."""
    return (reply.status == _OK or reply.is_known_success) and not reply.problem


def judge_accepted(reply: Reply, subject: str = "The webhook") -> Finding:
    """Judge the response to a webhook that must be accepted."""
    status = reply.status
    if is_accepted(reply):
        return Finding.passed(f"HTTP {status}.")
    if status is None or reply.problem:
        return Finding.failed(f"{subject}: {reply.describe()}.")
    if status // 100 == 2:  # noqa: PLR2004  successes
        return Finding.failed(
            f"{subject} got HTTP {status}. Veriff documents 200; whether it accepts other successes is unknown.",
            CaseSeverity.WARNING,
        )
    if status // 100 == 3:  # noqa: PLR2004  redirects
        return Finding.failed(f"{subject} got the redirect HTTP {status}.")
    return Finding.failed(f"{subject} got HTTP {status}.")


def judge_refused(reply: Reply, subject: str = "It") -> Finding:
    """Judge the response to a request that must be refused."""
    status = reply.status
    if status is None:
        return Finding.failed(f"{subject} got no response: {reply.problem}.", CaseSeverity.WARNING)
    if status // 100 == 4:  # noqa: PLR2004  refusals
        return Finding.passed(f"HTTP {status}.")
    if status // 100 == 2:  # noqa: PLR2004  successes
        return Finding.failed(f"{subject} was accepted with HTTP {status}.")
    if status // 100 == 3:  # noqa: PLR2004  redirects
        return Finding.failed(f"{subject} got the redirect HTTP {status}, not a refusal.", CaseSeverity.WARNING)
    return Finding.failed(
        f"{subject} made the endpoint fail with HTTP {status}, where 4xx is expected.", CaseSeverity.WARNING
    )


def judge_answered(reply: Reply, subject: str = "It") -> Finding:
    """Judge the response to a request that may be accepted or refused, but must not break the endpoint."""
    status = reply.status
    if status is None:
        return Finding.failed(f"{subject} got no response: {reply.problem}.")
    if status // 100 == 5:  # noqa: PLR2004  failures
        return Finding.failed(f"{subject} made the endpoint fail with HTTP {status}.")
    return Finding.passed(f"HTTP {status}.")


_ORDER: Final = (CaseSeverity.NOTE, CaseSeverity.WARNING, CaseSeverity.ERROR)


def worst(findings: Iterable[Finding]) -> Finding:
    """Return the worst of some findings: the first failure with the highest severity, or else the first one."""
    found = list(findings)
    failed = [each for each in found if each.outcome is CaseOutcome.FAILED]
    if not failed:
        return found[0]
    return max(failed, key=lambda each: 2 if each.severity is None else _ORDER.index(each.severity))
