"""The rate limit of the sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from veriff_async import RateLimitedError, RetryPolicy, VeriffClient
from veriff_async.sandbox import Sandbox, SandboxOptions, VirtualClock
from veriff_async.sandbox._faults import TokenBucket

if TYPE_CHECKING:
    from veriff_async.sandbox._faults import Fault


@given(st.floats(1, 100), st.lists(st.floats(0, 2), max_size=200))
def test_rate_is_not_exceeded(rate: float, steps: list[float]) -> None:
    """In any period at most rate times seconds requests pass, plus one second's requests."""
    bucket, now, passed = TokenBucket(rate), 0.0, list[float]()
    for step in steps:
        now += step
        if bucket.take(now) is None:
            passed.append(now)

    for first, began in enumerate(passed):
        for last, ended in enumerate(passed[first:], start=first):
            assert last - first + 1 <= (ended - began) * rate + rate + 1e-6


def test_no_limit_by_default() -> None:
    """Without a rate every request passes, because Veriff documents no limit."""
    refused: list[Fault | None] = [TokenBucket(None).take(0.0) for _ in range(10)]
    assert [None] * 10 == refused


@pytest.mark.anyio
async def test_excess_request_gets_429() -> None:
    """An excess request gets a 429 with ``Retry-After``, and the next second is free again."""
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
