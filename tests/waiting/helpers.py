"""Values and functions that several tests of waiting need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from veriff_async import Decision, PollPolicy, RetryPolicy, Status, VeriffClient
from veriff_async._protocol.webhook import event_from_decision

if TYPE_CHECKING:
    from veriff_async import WebhookEvent
    from veriff_async.inbox import Inbox
    from veriff_async.sandbox import Sandbox

__all__ = ("JPEG", "NEVER", "OFTEN", "count_polls", "decision_webhook", "make_client")

JPEG: Final = b"\xff\xd8\xff\xe0"
NEVER: Final = PollPolicy(initial_delay=1e6)
OFTEN: Final = PollPolicy(interval=0.001, max_interval=0.001, backoff_factor=1, max_rate=100_000)


def count_polls(sandbox: Sandbox) -> int:
    """Return how many requests for a decision the sandbox has received."""
    return sum(request.path.endswith("/decision") for request in sandbox.requests)


def decision_webhook(session_id: str, status: Status = Status.APPROVED, attempt_id: str | None = None) -> WebhookEvent:
    """Return the webhook of a decision."""
    return event_from_decision(Decision(session_id=session_id, status=status, attempt_id=attempt_id))


def make_client(sandbox: Sandbox, inbox: Inbox | None = None, poll: PollPolicy = NEVER) -> VeriffClient:
    """Return another client of the sandbox, as another process would create it, without retries."""
    return VeriffClient.from_env(sandbox.environ, poll=poll, retry=RetryPolicy(max_attempts=1), inbox=inbox)
