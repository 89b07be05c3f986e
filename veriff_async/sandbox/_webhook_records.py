"""Webhooks as records: each has an id, a state, its attempts, and the reason why chaos changed it.

A record is one post. A webhook that chaos or a test posts twice is two records, the second of which names the first. A
webhook that chaos loses and a webhook whose kind has no URL are records as well, so that a list of them is complete.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Final

from attrs import Factory, define, evolve, field, frozen

from veriff_async.models.enums import OpenEnum

if TYPE_CHECKING:
    from collections.abc import Callable

    from veriff_async.sandbox._chaos.engine import WebhookPlan
    from veriff_async.sandbox._records import Delivery, WebhookKind

__all__ = (
    "FINISHED",
    "MAX_ATTEMPTS",
    "HoldRule",
    "Holds",
    "PendingWebhook",
    "Selection",
    "WebhookPage",
    "WebhookRecord",
    "WebhookState",
    "WebhookView",
    "spread",
    "view_webhook",
)

# A webhook that is refused for a week has 169 attempts, whose responses may have 4 KiB each.
MAX_ATTEMPTS: Final = 10


class WebhookState(OpenEnum):
    """The state of a webhook."""

    PENDING = "pending"
    """It is posted at its time; also while it waits for its next attempt."""
    HELD = "held"
    """It waits for `Sandbox.release_webhooks`."""
    DELIVERING = "delivering"
    """It is being posted."""
    DELIVERED = "delivered"
    """The receiver has responded with 200."""
    FAILED = "failed"
    """The receiver has not accepted it, and no attempt follows."""
    DROPPED = "dropped"
    """Chaos or `Sandbox.drop_webhook` prevents further attempts."""
    NO_URL = "no_url"
    """Its kind had no URL when it was created."""


FINISHED: Final = frozenset({WebhookState.DELIVERED, WebhookState.FAILED, WebhookState.DROPPED, WebhookState.NO_URL})
"""The states of webhooks that are not posted any more unless a test asks for it."""


def _no_attempts() -> deque[Delivery]:
    return deque(maxlen=MAX_ATTEMPTS)


@define(eq=False, kw_only=True)
class WebhookRecord:
    """A webhook, changed in place by the queue.

    Attributes:
        id: Its id.
        session_id: The session that it is about.
        kind: Its kind.
        body: The raw body. Each attempt sends the same bytes, so the signature stays valid.
        url: The URL to post to, or ``None``.
        headers: The headers of the request.
        created_at: The time of the event.
        expires_at: No attempt is repeated after this time.
        due_at: The time of the next attempt.
        state: Its state.
        cause: The rule of the chaos profile that changed it; empty for an unchanged one.
        copy_of: The id of the webhook that it repeats.
        after: The id of the webhook that must be posted before.
        is_blocked: Whether it is due, and waits for the one before it.
        is_given_up: Whether it was dropped while it was being posted.
        ticket: The number of its present place in the queue. An entry or a report with another number is outdated.
        number: Its place in the order of creation.
        attempts: The last attempts.
        attempt_count: The number of all attempts.
    """

    id: str
    session_id: str
    kind: WebhookKind
    body: bytes
    url: str | None
    headers: dict[str, str]
    created_at: datetime
    expires_at: datetime
    due_at: datetime
    state: WebhookState = WebhookState.PENDING
    cause: str = ""
    copy_of: str | None = None
    after: str | None = None
    is_blocked: bool = False
    is_given_up: bool = False
    ticket: int = 0
    number: int = 0
    attempts: deque[Delivery] = Factory(_no_attempts)
    attempt_count: int = 0


@frozen(kw_only=True)
class PendingWebhook:
    """An attempt that is to be made now; `ticket` is that of the record, so that a late report is recognised."""

    id: str
    session_id: str
    kind: WebhookKind
    ticket: int
    url: str
    body: bytes
    headers: dict[str, str]


@frozen(kw_only=True)
class WebhookView:
    """The state of a webhook at one time.

    Attributes:
        id: Its id.
        session_id: The session that it is about.
        kind: Its kind.
        state: Its state.
        created_at: The time of the event, by the sandbox's clock.
        due_at: The time of the next attempt; ``None`` if none is planned. A held webhook is not posted before it.
        url: The URL that it is posted to; ``None`` if its kind had none.
        body: The raw body.
        headers: The headers of the request.
        attempts: The last ten attempts, oldest first.
        attempt_count: The number of all attempts.
        cause: How a chaos profile changed it, for example ``"chaos profile mobile: webhooks[0] loses it"``; empty for
            an unchanged one.
        copy_of: The id of the webhook that it repeats, or ``None``.
        after: The id of the webhook that must be posted before it, or ``None``.
    """

    id: str
    session_id: str
    kind: WebhookKind
    state: WebhookState
    created_at: datetime
    due_at: datetime | None
    url: str | None
    body: bytes = field(repr=False)
    headers: dict[str, str] = field(repr=False, hash=False)
    attempts: tuple[Delivery, ...] = field(default=(), repr=False)
    attempt_count: int = 0
    cause: str = ""
    copy_of: str | None = None
    after: str | None = None


@frozen(kw_only=True)
class WebhookPage:
    """A part of a list of webhooks.

    Attributes:
        webhooks: The webhooks, newest first.
        next: The id to pass as `after` for the next page; ``None`` on the last one.
        total: The number of webhooks on all pages.
    """

    webhooks: tuple[WebhookView, ...]
    next: str | None
    total: int


def view_webhook(record: WebhookRecord) -> WebhookView:
    """Return the present state of a webhook."""
    is_planned = record.state in {WebhookState.PENDING, WebhookState.HELD}
    return WebhookView(
        id=record.id,
        session_id=record.session_id,
        kind=record.kind,
        state=record.state,
        created_at=record.created_at,
        due_at=record.due_at if is_planned else None,
        url=record.url,
        body=record.body,
        headers=record.headers,
        attempts=tuple(record.attempts),
        attempt_count=record.attempt_count,
        cause=record.cause,
        copy_of=record.copy_of,
        after=record.after,
    )


def spread(record: WebhookRecord, plan: WebhookPlan, *, new_id: Callable[[], str]) -> list[WebhookRecord]:
    """Return what a chaos profile makes of a new webhook: the original, lost or late, and its copies."""
    record.cause = plan.cause
    if not plan.delays:
        record.state = WebhookState.DROPPED
        return [record]
    times = [record.created_at + timedelta(seconds=delay) for delay in plan.delays]
    record.due_at = times[0]
    copies = (
        evolve(record, id=new_id(), copy_of=record.id, due_at=due_at, attempts=_no_attempts()) for due_at in times[1:]
    )
    return [record, *copies]


@frozen
class Selection:
    """Some webhooks: those of a session, of a kind, or of both; all by default."""

    session_id: str | None = None
    kind: WebhookKind | None = None

    def includes(self, record: WebhookRecord) -> bool:
        """Return whether a webhook belongs to it."""
        return self.session_id in {None, record.session_id} and self.kind in {None, record.kind}

    def covers(self, other: Selection) -> bool:
        """Return whether every webhook of another selection belongs to this one."""
        return self.session_id in {None, other.session_id} and self.kind in {None, other.kind}


@frozen
class HoldRule:
    """A rule that holds or releases some webhooks."""

    selection: Selection
    is_held: bool


class Holds:
    """Rules that hold or release webhooks; a later rule has priority over an earlier one."""

    def __init__(self) -> None:
        """Hold nothing."""
        # Looked up by key: a test may hold the webhooks of thousands of sessions one by one.
        self._rules: dict[Selection, tuple[int, bool]] = {}
        self._order = count()

    def set(self, selection: Selection, *, is_held: bool) -> None:
        """Hold or release some webhooks from now on."""
        if selection.session_id is None:
            # Earlier rules about a part of them have no effect any more.
            self._rules = {key: rule for key, rule in self._rules.items() if not selection.covers(key)}
        if not is_held and not self._rules:
            return
        self._rules[selection] = (next(self._order), is_held)

    def match(self, record: WebhookRecord) -> bool:
        """Return whether a webhook is to be held."""
        if not self._rules:
            return False
        keys = (Selection(session_id, kind) for session_id in (None, record.session_id) for kind in (None, record.kind))
        found = [self._rules[key] for key in keys if key in self._rules]
        return max(found)[1] if found else False

    @property
    def rules(self) -> tuple[HoldRule, ...]:
        """The rules, in the order in which they were made."""
        rules = sorted(self._rules.items(), key=lambda rule: rule[1])
        return tuple(HoldRule(selection, is_held) for selection, (_, is_held) in rules)

    def clear(self) -> None:
        """Hold nothing."""
        self._rules.clear()
