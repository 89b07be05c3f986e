"""Policies: defaults that suit production, and invalid values refused by name."""

from __future__ import annotations

import pytest
from attrs import fields

from veriff_async import ConfigurationError, PollPolicy, RetryPolicy, Timeouts
from veriff_async.config import SAFETY_NET
from veriff_async.inbox import Retention

Policy = RetryPolicy | PollPolicy | Retention | Timeouts
KINDS: tuple[type[Policy], ...] = (RetryPolicy, PollPolicy, Retention, Timeouts)
ZERO_IS_FINE = {
    "RetryPolicy.max_elapsed",
    "RetryPolicy.initial_backoff",
    "RetryPolicy.max_backoff",
    "RetryPolicy.max_retry_after",
    "PollPolicy.initial_delay",
}
every_field = pytest.mark.parametrize(
    ("kind", "name"), [(kind, attribute.name) for kind in KINDS for attribute in fields(kind)]
)


@every_field
@pytest.mark.parametrize("value", [-1, -0.001, float("-inf"), float("nan"), None, "4"])
def test_invalid_value_is_refused_by_name(kind: type[Policy], name: str, value: object) -> None:
    """A value that is negative, NaN or not a number is refused, and the error names the class and the field."""
    with pytest.raises(ConfigurationError, match=rf"^{kind.__name__}\.{name} is .*: give .*\.$"):
        kind(**{name: value})  # type: ignore[arg-type]


@every_field
def test_zero_turns_optional_limits_off(kind: type[Policy], name: str) -> None:
    """Zero is taken where it turns something off, and refused where nothing could happen any more."""
    if f"{kind.__name__}.{name}" in ZERO_IS_FINE:
        assert 0 == getattr(kind(**{name: 0}), name)
    else:
        with pytest.raises(ConfigurationError, match=name):
            kind(**{name: 0})


def test_backoff_factor_below_one_is_refused() -> None:
    """A factor below one would make pauses shorter; one is accepted."""
    with pytest.raises(ConfigurationError, match=r"PollPolicy\.backoff_factor is 0\.99: give 1 or more"):
        PollPolicy(backoff_factor=0.99)

    assert 1 == PollPolicy(backoff_factor=1).backoff_factor


@pytest.mark.parametrize("kind", KINDS)
def test_defaults_are_valid_and_equal(kind: type[Policy]) -> None:
    """A policy needs no arguments, and equal policies have equal hashes."""
    assert {kind()} == {kind(), kind()}


def test_retention_is_longer_than_veriff_repeats_webhooks() -> None:
    """The default retention is thirty days, and Veriff repeats a webhook for seven days."""
    assert 30 * 24 * 3600 == Retention().max_age
    assert 7 * 24 * 3600 < Retention().max_age


def test_polling_with_an_inbox_is_later_and_slower() -> None:
    """Without an inbox the first poll is immediate; with one it is delayed, and each pause is longer."""
    alone, with_inbox = PollPolicy(), SAFETY_NET

    assert 0 == alone.initial_delay < with_inbox.initial_delay
    assert alone.interval < with_inbox.interval
    assert alone.max_interval < with_inbox.max_interval
