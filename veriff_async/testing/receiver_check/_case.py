"""The parts of a case: the request, the expected response, the reason, and the finding."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from veriff_async.testing.receiver_check._context import CheckContext
    from veriff_async.testing.receiver_check._fixes import Fix

__all__ = ("CaseGroup", "CaseOutcome", "CaseSeverity", "Finding", "ReceiverCase", "RunnableCase")


class CaseSeverity(Enum):
    """How bad it is when a case fails."""

    ERROR = "error"
    """Webhooks are lost, or forged ones are accepted. The endpoint must be fixed."""
    WARNING = "warning"
    """The endpoint works today, and may fail in a situation that is likely."""
    NOTE = "note"
    """Unusual, and harmless as far as is known."""


class CaseOutcome(Enum):
    """The outcome of a case."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_CHECKED = "not_checked"
    """The case needs an option that was not given, or the time was over; the message says which."""


class CaseGroup(Enum):
    """The subject of a group of cases."""

    EVENTS = "events"
    """Each kind of webhook is accepted."""
    SIGNATURES = "signatures"
    """Webhooks of strangers are refused."""
    BODIES = "bodies"
    """The signature is checked over the bytes as received."""
    HTTP = "http"
    """Speed, connections and other parts of HTTP."""
    EFFECTS = "effects"
    """Each event takes effect once; needs a view into your system."""


@frozen
class Finding:
    """The finding of a case.

    Attributes:
        outcome: The outcome.
        message: The finding, as a sentence; for a case that was not checked, how to enable it.
        severity: The severity if it is lower than that of the case.
    """

    outcome: CaseOutcome
    message: str
    severity: CaseSeverity | None = None

    @classmethod
    def passed(cls, message: str) -> Finding:
        """Return that the endpoint did what was expected."""
        return cls(CaseOutcome.PASSED, message)

    @classmethod
    def failed(cls, message: str, severity: CaseSeverity | None = None) -> Finding:
        """Return that the endpoint did something else."""
        return cls(CaseOutcome.FAILED, message, severity)

    @classmethod
    def not_checked(cls, message: str) -> Finding:
        """Return that the case could not be checked."""
        return cls(CaseOutcome.NOT_CHECKED, message)


@frozen(kw_only=True)
class ReceiverCase:
    """One case.

    Attributes:
        name: Its name, for ``only`` and ``skip``.
        group: Its group.
        severity: How bad it is when it fails.
        sends: The request.
        expects: How the endpoint must answer.
        why: Why this matters.
        source: The public page that documents it, or why it is only a guess.
        fix: How to fix the endpoint.
    """

    name: str
    group: CaseGroup
    severity: CaseSeverity
    sends: str
    expects: str
    why: str
    source: str
    fix: Fix

    @property
    def needs_acceptance(self) -> bool:
        """Whether the case says nothing about an endpoint that does not even accept an ordinary decision."""
        return self.expects.startswith("accept") and self.group is not CaseGroup.EVENTS

    @property
    def is_documented(self) -> bool:
        """Whether a public page documents the rule."""
        return self.source.startswith("https://")


@frozen(kw_only=True)
class RunnableCase(ReceiverCase):
    """A case with the function that sends and judges.

    Attributes:
        run: Sends the request, and judges the responses.
    """

    run: Callable[[CheckContext], Awaitable[Finding]] = field(repr=False, eq=False)
