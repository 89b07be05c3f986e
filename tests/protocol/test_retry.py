"""The decision whether to repeat a request, and the delay until the next try."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given, strategies as st

from veriff_async import BadRequestError, InvalidArgumentError, RetryPolicy, ServerError, Timeouts
from veriff_async._protocol.retry import (
    RetryDecision,
    SendFailure,
    asks_to_slow_down,
    decide,
    leaves_unsubmitted,
    may_have_acted,
    next_delay,
    parse_retry_after,
    progress_deadline,
)

FINAL, RETRY, UNKNOWN = RetryDecision.FINAL, RetryDecision.RETRY, RetryDecision.UNKNOWN
statuses = st.integers(100, 999)

# Outcome: when a repetition is harmless, when it is not, and whether the server may have acted.
OUTCOMES: dict[int | SendFailure, tuple[RetryDecision, RetryDecision, bool]] = {
    SendFailure.NOT_SENT: (RETRY, RETRY, False),
    SendFailure.LOST: (RETRY, UNKNOWN, True),
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
def test_decisions_follow_the_table(
    outcome: int | SendFailure, expected: tuple[RetryDecision, RetryDecision, bool]
) -> None:
    """Each outcome is repeated, final or unknown as the table states."""
    assert expected == (
        decide(outcome, repeatable=True),
        decide(outcome, repeatable=False),
        may_have_acted(outcome),
    )


@given(statuses, st.booleans(), st.booleans())
def test_nothing_is_done_twice(status: int, signed: bool, quota: bool) -> None:  # noqa: FBT001
    """A request that must not be repeated is repeated only after a 429, or a 503 that Veriff signed."""
    decision = decide(status, repeatable=False, signed=signed, quota=quota)

    assert (decision is RETRY) == (status == 429 and not quota) or (status == 503 and signed)


@given(st.integers(500, 999), st.booleans())
def test_no_server_error_proves_that_nothing_was_done(status: int, signed: bool) -> None:  # noqa: FBT001
    """Each 5xx to a request that must not be repeated leaves its outcome open, except a 503 that Veriff signed."""
    expected = RETRY if status == 503 and signed else UNKNOWN

    assert expected is decide(status, repeatable=False, signed=signed)


@given(statuses)
def test_repeatable_request_is_never_unknown(status: int) -> None:
    """A request that may be repeated never has an unknown outcome."""
    assert UNKNOWN is not decide(status, repeatable=True)


def test_a_quota_is_not_waited_for() -> None:
    """A 429 that means a quota of hours is final for every request."""
    assert FINAL is decide(429, repeatable=True, quota=True)
    assert FINAL is decide(429, repeatable=False, quota=True)


def test_429_and_503_slow_the_client_down() -> None:
    """Only 429 and 503 ask the whole client to slow down."""
    assert {429, 503} == {status for status in range(100, 600) if asks_to_slow_down(status)}
    assert not asks_to_slow_down(SendFailure.LOST)


NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
POLICY = RetryPolicy(max_attempts=4, max_elapsed=90, initial_backoff=0.5, max_backoff=8, max_retry_after=60)
chances = st.floats(0, 1)
amounts = st.floats(0, 1e6)
tries = st.integers(1, 10**6)


@given(made=tries, elapsed=amounts, asked=st.none() | amounts, chance=chances)
def test_a_pause_stays_in_the_budget(made: int, elapsed: float, asked: float | None, chance: float) -> None:
    """A pause is granted only while tries and seconds last, is never negative, and ends within the seconds."""
    found = next_delay(POLICY, attempts=made, elapsed=elapsed, retry_after=asked, random_value=chance)

    if found is None:
        assert made >= 4 or elapsed + (8 if asked is None else max(asked, 4)) > 90 or (asked or 0) > 60
    else:
        assert made < 4
        assert found >= 0
        assert elapsed + found <= 90


@pytest.mark.parametrize(("made", "ceiling"), [(1, 0.5), (2, 1), (3, 2), (4, 4), (5, 8), (6, 8), (5000, 8)])
def test_pauses_double_up_to_the_longest(made: int, ceiling: float) -> None:
    """The pause is a random share of a ceiling that doubles with every attempt, up to the longest."""
    patient = RetryPolicy(max_attempts=10_000, max_elapsed=90, initial_backoff=0.5, max_backoff=8)

    found = [
        next_delay(patient, attempts=made, elapsed=0, retry_after=None, random_value=chance) for chance in (0, 0.5, 1)
    ]

    assert [0, ceiling / 2, ceiling] == found


def test_retry_after_is_obeyed_up_to_the_maximum() -> None:
    """No wait is shorter than was asked for, and one that is longer than the cap ends the tries."""
    assert 60 == next_delay(POLICY, attempts=1, elapsed=0, retry_after=60, random_value=0)
    assert 66 == next_delay(POLICY, attempts=1, elapsed=0, retry_after=60, random_value=1)
    assert 60 == next_delay(
        POLICY, attempts=1, elapsed=30, retry_after=60, random_value=1
    )  # jitter never costs an attempt
    assert None is next_delay(POLICY, attempts=1, elapsed=0, retry_after=60.001, random_value=0)
    assert None is next_delay(POLICY, attempts=1, elapsed=30.5, retry_after=60, random_value=0)


@given(tries, chances, st.floats(0, 60))
def test_retry_after_has_a_minimum_and_jitter(made: int, chance: float, requested: float) -> None:
    """However little was asked for, a wait is at least half the bound of its try, and chance adds to it."""
    patient = RetryPolicy(max_attempts=10**7, max_elapsed=1e9)
    bound = min(8, 0.5 * 2 ** min(made - 1, 60))
    found = next_delay(patient, attempts=made, elapsed=0, retry_after=requested, random_value=chance)

    assert found is not None
    assert max(requested, bound / 2) <= found <= max(requested, bound / 2) + max(requested / 10, bound / 2)
    if chance > 0.01:
        assert found > max(requested, bound / 2)


@given(chances)
def test_one_attempt_turns_retries_off(chance: float) -> None:
    """A budget of one try grants no pause."""
    assert None is next_delay(RetryPolicy(max_attempts=1), attempts=1, elapsed=0, retry_after=None, random_value=chance)


@given(st.integers(0, 10**9), st.sampled_from(["", " ", "\t"]))
def test_retry_after_is_read_as_seconds(seconds: int, space: str) -> None:
    """Digits are seconds, with or without space around them."""
    assert float(seconds) == parse_retry_after(f"{space}{seconds}{space}", None, NOW)


seconds = st.integers(-(10**8), 10**8)


@given(seconds)
def test_retry_after_is_read_as_a_date(ahead: int) -> None:
    """Without a date of the answer, an HTTP date is the time until then, and a past one means zero."""
    header = format_datetime(NOW + timedelta(seconds=ahead), usegmt=True)

    assert max(0, ahead) == parse_retry_after(header, None, NOW)
    assert max(0, ahead) == parse_retry_after(header, "yesterday", NOW)


@given(seconds, seconds)
def test_dates_are_read_by_the_clock_of_the_server(ahead: int, skew: int) -> None:
    """A date is read against the date of the same answer, however wrong the clock here is."""
    there = NOW + timedelta(seconds=skew)
    header = format_datetime(there + timedelta(seconds=ahead), usegmt=True)

    assert max(0, ahead) == parse_retry_after(header, format_datetime(there, usegmt=True), NOW)


@given(
    st.text()
    | st.from_regex(r"[A-Za-z]{0,3},? ?\d{0,30} [A-Za-z]{0,9} \d{0,30} [\d:.]{0,12} ?[A-Z+\-\d]{0,6}", fullmatch=True),
    st.none() | st.text() | st.datetimes().map(format_datetime),
)
def test_any_header_is_a_wait_or_nothing(header: str, date: str | None) -> None:
    """Any two texts give seconds that are not negative, or None, and raise nothing."""
    found = parse_retry_after(header, date, NOW)

    assert found is None or found >= 0


@pytest.mark.parametrize("header", [None, "", "soon", "-5", "1.5", "1e3", "\u0665", "Thu, 01 Jan 2026 12:00:00 -0000"])
def test_unreadable_headers_ask_for_nothing(header: str | None) -> None:
    """A missing or malformed header, one with a fraction, or a date without a zone asks for nothing."""
    assert None is parse_retry_after(header, None, NOW)


@pytest.mark.parametrize(
    ("now", "moved", "deadline"),
    [
        (0, 0, 30),  # nothing moved yet: one stall
        (1, 1_000_000, 31),  # fast: a stall after the last piece
        (29, 1024, 31),  # a drip: one more second for 1024 bytes
        (59, 30 * 1024, 60),  # exactly the rate
    ],
)
def test_a_body_must_keep_moving(now: float, moved: int, deadline: float) -> None:
    """The next piece must move within a stall, and all pieces together must keep up the rate."""
    limits = Timeouts(idle=30, min_bytes_per_second=1024)

    assert 100 + deadline == progress_deadline(limits, started=100, now=100 + now, moved=moved)


def test_rejected_submission_was_not_carried_out() -> None:
    """A plain rejection leaves a session unsubmitted; a conflict, a repeated call or a lost response may not."""
    assert leaves_unsubmitted(BadRequestError("wrong", status=400))
    assert leaves_unsubmitted(InvalidArgumentError("wrong"))
    assert not leaves_unsubmitted(BadRequestError("wrong", status=409))
    assert not leaves_unsubmitted(ServerError("wrong", status=500))
    repeated = BadRequestError("wrong", status=400)
    repeated.repeated = True
    assert not leaves_unsubmitted(repeated)
