"""The counters of a client and of a receiver, as they were at one moment.

Both follow the same rules. A plain name is a total since the object was created, or a client was opened again. A name
with ``active_`` or ``waiting_`` is the present number. ``_at`` is a time with a zone, and every duration is in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, TypeAlias

from attrs import frozen

from veriff_async.models.base import Model

__all__ = ("ClientStatistics", "InboxState", "ReceiverStatistics")

InboxState: TypeAlias = Literal["none", "idle", "watching", "failing"]
"""The state of a client's inbox; see `ClientStatistics.inbox_state`."""


@frozen(kw_only=True)
class ClientStatistics(Model):
    """Totals of a client and its views since it was opened, and its present load.

    Attributes:
        calls: Number of calls that began, by the name of their operation, for example ``create_session``,
            ``upload_media`` or ``decision``. Polls and checks are calls too.
        failures: Number of calls that ended with an error after all retries, by its class, for example
            ``RateLimitedError``. Cancelled calls and those that `RetryPolicy` repeated with success are not among them.
        last_success_at: When the last call succeeded, by the clock of this machine; ``None`` before the first.
        requests: Number of attempts, including retries.
        active_requests: Number of attempts that run now. Each uses one connection; near `max_connections`, others wait.
        retries: Number of attempts that repeated an earlier one, or wait to do so. One counts when it is decided, also
            if its call is cancelled in the pause before it.
        retries_by_reason: The same by the failure of the earlier one: its HTTP status, ``timeout``, ``not_sent`` if the
            connection could not be made, or ``lost`` if it broke later.
        rate_limited: Number of responses that asked the client to slow down (429 and 503).
        cooldown_seconds: Seconds for which such responses have held requests back.
        cooldown_remaining: Seconds until requests start again, or zero.
        waiting_requests: Number of requests that wait for the end of such a pause, or for their turn at the lower rate
            after it: it starts at 20 per second, and many such responses lower it to one.
        bytes_sent: Bytes of bodies that were written to connections; base64 makes a picture a third larger.
        bytes_received: Bytes of the bodies that the ended calls have received.
        uploads: Number of media that Veriff has accepted.
        downloads: Number of media that were received completely, with a valid signature if they are signed.
        active_uploads: Number of uploads that run now.
        active_downloads: Number of downloads that run now.
        waits: Number of waits for a decision that began; one with ``timeout=0`` is a poll only.
        wait_timeouts: Of these, those that ended without a decision in time.
        decisions_by_source: Number of waits and watches that ended with a decision, by `Decision.source`. Many by
            ``poll`` with an inbox mean that webhooks are lost.
        waiters: Number of coroutines that wait for a decision now, and of open watches.
        max_wait_age: Seconds for which the oldest session with waiters has had them; zero without waiters. Sessions
            with a watch do not count: a watch lasts as long as a page is open.
        polls: Number of requests for a decision on behalf of waits.
        poll_failures: Of these, those that failed and were repeated later.
        inbox_state: ``none`` without an inbox, ``idle`` while no coroutine waits, ``watching`` while a webhook would
            wake the waiters, and ``failing`` while the inbox does not work, so that the client polls as without one.
        inbox_backlog: Number of sessions with waiters that are new or have changed, and that the client has not yet
            looked up in the inbox.
        inbox_failures: Number of failures of the inbox that waits have noticed.
        last_inbox_error: Class of the last such error, or ``None``.
        last_inbox_failure_at: When it happened, by the clock of this machine, or ``None``.
    """

    calls: Mapping[str, int]
    failures: Mapping[str, int]
    last_success_at: datetime | None
    requests: int
    active_requests: int
    retries: int
    retries_by_reason: Mapping[str, int]
    rate_limited: int
    cooldown_seconds: float
    cooldown_remaining: float
    waiting_requests: int
    bytes_sent: int
    bytes_received: int
    uploads: int
    downloads: int
    active_uploads: int
    active_downloads: int
    waits: int
    wait_timeouts: int
    decisions_by_source: Mapping[str, int]
    waiters: int
    max_wait_age: float
    polls: int
    poll_failures: int
    inbox_state: InboxState
    inbox_backlog: int
    inbox_failures: int
    last_inbox_error: str | None
    last_inbox_failure_at: datetime | None


@frozen(kw_only=True)
class ReceiverStatistics(Model):
    """Totals of a receiver since it was created, over all event loops, and its present load.

    Attributes:
        recorded: Number of webhooks that were recorded, duplicates included.
        duplicates: Of these, those that had been recorded before.
        ignored: Of these, those that were new but did not change the state of their session, for example because a
            newer one had arrived first; see `IgnoredReason`.
        refused: Number of requests that were not webhooks of Veriff for this integration, or too large, too slow or
            unreadable.
        refused_by_reason: The same by reason: one of `SignatureError.reason`, ``unreadable``, or for a request that is
            not a webhook ``not_post``, ``not_json``, ``too_large``, ``too_slow``, ``incomplete`` or ``not_allowed``.
        record_failures: Number of webhooks that were answered 503, so that Veriff sends them again.
        bytes_received: Bytes of the bodies of verified webhooks.
        active_records: Number of webhooks that the inbox is recording now; always zero with a `MemoryInbox`.
        events_queued: Number of new events that were recorded for the handlers. Those that wait now are counted by the
            inbox, which all processes share: see `SearchableInbox.statistics`.
        events_handled: Number of events whose handlers have all finished in this process.
        attempts_failed: Number of attempts in this process in which a handler failed.
        dead_letters: Number of events whose last attempt failed in this process.
        active_events: Number of events whose handlers run now.
        last_recorded_at: When the last webhook was recorded, by the clock of this machine; ``None`` before the first.
        last_webhook_age: Age in seconds of the last new webhook that states a time, when it was recorded: from that
            time, by Veriff's clock, to its record. Above some minutes, webhooks arrive late or by repetition. ``None``
            before the first.
    """

    recorded: int
    duplicates: int
    ignored: int
    refused: int
    refused_by_reason: Mapping[str, int]
    record_failures: int
    bytes_received: int
    active_records: int
    events_queued: int
    events_handled: int
    attempts_failed: int
    dead_letters: int
    active_events: int
    last_recorded_at: datetime | None
    last_webhook_age: float | None
