"""Which outcome may be repeated, and which one leaves open whether the request was carried out."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from veriff_async._protocol.retry import Failure, Verdict, asks_to_slow_down, judge, may_have_acted

FINAL, RETRY, UNKNOWN = Verdict.FINAL, Verdict.RETRY, Verdict.UNKNOWN
statuses = st.integers(100, 999)

# Outcome: when a repetition is harmless, when it is not, and whether the server may have acted.
OUTCOMES: dict[int | Failure, tuple[Verdict, Verdict, bool]] = {
    Failure.NOT_SENT: (RETRY, RETRY, False),
    Failure.LOST: (RETRY, UNKNOWN, True),
    200: (FINAL, FINAL, False),
    302: (FINAL, FINAL, False),
    303: (FINAL, UNKNOWN, True),
    400: (FINAL, FINAL, False),
    401: (FINAL, FINAL, False),
    404: (FINAL, FINAL, False),
    407: (FINAL, FINAL, False),
    408: (RETRY, UNKNOWN, True),
    409: (FINAL, FINAL, False),
    413: (FINAL, FINAL, False),
    425: (RETRY, UNKNOWN, True),
    429: (RETRY, RETRY, False),
    460: (FINAL, UNKNOWN, True),
    499: (FINAL, UNKNOWN, True),
    500: (RETRY, UNKNOWN, True),
    501: (FINAL, UNKNOWN, True),
    502: (RETRY, UNKNOWN, True),
    503: (RETRY, UNKNOWN, True),
    504: (RETRY, UNKNOWN, True),
    520: (RETRY, UNKNOWN, True),
    530: (RETRY, UNKNOWN, True),
    598: (RETRY, UNKNOWN, True),
}


@pytest.mark.parametrize(("outcome", "expected"), OUTCOMES.items(), ids=str)
def test_outcomes_are_judged_by_the_table(outcome: int | Failure, expected: tuple[Verdict, Verdict, bool]) -> None:
    """Each outcome is repeated, final or unknown as the table states."""
    assert expected == (
        judge(outcome, repeatable=True),
        judge(outcome, repeatable=False),
        may_have_acted(outcome),
    )


@given(statuses, st.booleans(), st.booleans())
def test_nothing_is_done_twice(status: int, signed: bool, quota: bool) -> None:  # noqa: FBT001
    """A request that must not be repeated is repeated only after a 429, or a 503 that Veriff signed."""
    verdict = judge(status, repeatable=False, signed=signed, quota=quota)

    assert (verdict is RETRY) == (status == 429 and not quota) or (status == 503 and signed)


@given(st.integers(500, 999), st.booleans())
def test_no_server_error_proves_that_nothing_was_done(status: int, signed: bool) -> None:  # noqa: FBT001
    """Each 5xx to a request that must not be repeated leaves its outcome open, but for a 503 that Veriff signed."""
    expected = RETRY if status == 503 and signed else UNKNOWN

    assert expected is judge(status, repeatable=False, signed=signed)


@given(statuses)
def test_only_what_must_not_be_repeated_is_unknown(status: int) -> None:
    """A request that may be repeated never has an unknown outcome."""
    assert UNKNOWN is not judge(status, repeatable=True)


def test_a_quota_is_not_waited_for() -> None:
    """A 429 that means a quota of hours is final, whatever the request."""
    assert FINAL is judge(429, repeatable=True, quota=True)
    assert FINAL is judge(429, repeatable=False, quota=True)


def test_two_answers_slow_the_client_down() -> None:
    """Only 429 and 503 ask the whole client to slow down."""
    assert {429, 503} == {status for status in range(100, 600) if asks_to_slow_down(status)}
    assert not asks_to_slow_down(Failure.LOST)
