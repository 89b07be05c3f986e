"""The sandbox's turnstile: no more requests a second than its rules let through."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from veriff_async import RateLimitedError, RetryPolicy, VeriffClient
from veriff_async.sandbox import Sandbox, SandboxOptions, VirtualClock
from veriff_async.sandbox._rate_limit import TokenBucket

if TYPE_CHECKING:
    from veriff_async.sandbox._faults import Fault


@given(st.floats(1, 100), st.lists(st.floats(0, 2), max_size=200))
def test_no_more_than_the_rate_passes(rate: float, steps: list[float]) -> None:
    """In any stretch of time no more pass than its seconds times the rate, and one second's more."""
    bucket, now, passed = TokenBucket(rate), 0.0, list[float]()
    for step in steps:
        now += step
        if bucket.take(now) is None:
            passed.append(now)

    for first, began in enumerate(passed):
        for last, ended in enumerate(passed[first:], start=first):
            assert last - first + 1 <= (ended - began) * rate + rate + 1e-6


def test_without_a_rate_everything_passes() -> None:
    """Veriff documents no limit, so there is none unless it is asked for."""
    refused: list[Fault | None] = [TokenBucket(None).take(0.0) for _ in range(10)]
    assert [None] * 10 == refused


@pytest.mark.anyio
async def test_a_client_that_is_too_quick_is_told() -> None:
    """The request that is one too many is a 429 with a pause, and the next second is free again."""
    async with (
        Sandbox(options=SandboxOptions(requests_per_second=2), clock=VirtualClock()) as sandbox,
        VeriffClient.from_env(sandbox.environ, retry=RetryPolicy(max_attempts=1)) as veriff,
    ):
        for _ in range(2):
            await veriff.create_session()
        with pytest.raises(RateLimitedError) as refused:
            await veriff.create_session()
        assert 1.0 == refused.value.retry_after
        sandbox.advance(1)

        async with VeriffClient.from_env(sandbox.environ) as another:
            await another.create_session()
        assert 3 == len(sandbox.sessions)
