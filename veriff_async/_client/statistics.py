"""Collects the counters of the parts of a client."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from veriff_async.statistics import ClientStatistics

if TYPE_CHECKING:
    from veriff_async._client.runtime import Runtime

__all__ = ("collect_statistics",)


def collect_statistics(runtime: Runtime) -> ClientStatistics:
    """Return the counters as they are now; those of a view are those of its client."""
    transport, waiters = runtime.transport, runtime.waiters
    requests, waits, failures = transport.counters, waiters.counters, waiters.inbox_failures
    return ClientStatistics(
        calls=dict(requests.calls),
        failures=dict(requests.failures),
        last_success_at=_time(requests.last_success),
        requests=requests.requests,
        active_requests=requests.active_requests,
        retries=requests.retries,
        retries_by_reason=dict(requests.retry_reasons),
        rate_limited=requests.rate_limited,
        cooldown_seconds=transport.cooldown.seconds,
        cooldown_remaining=transport.cooldown.remaining,
        waiting_requests=transport.cooldown.waiting,
        bytes_sent=requests.bytes_sent,
        bytes_received=requests.bytes_received,
        uploads=requests.uploads,
        downloads=requests.downloads,
        active_uploads=runtime.uploads.active,
        active_downloads=runtime.downloads.active,
        waits=waits.waits,
        wait_timeouts=waits.timeouts,
        decisions_by_source={str(source): count for source, count in waits.decisions.copy().items()},
        waiters=waiters.count,
        max_wait_age=waiters.max_age,
        polls=waits.polls,
        poll_failures=waits.poll_failures,
        inbox_state=waiters.inbox_state,
        inbox_backlog=waiters.inbox_backlog,
        inbox_failures=failures.count,
        last_inbox_error=failures.last_error,
        last_inbox_failure_at=_time(failures.last_time),
    )


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
