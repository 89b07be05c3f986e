"""Remedies: one sentence for each code and status, and none that ends in the dark."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veriff_async.protocol.remedies import remedy


@pytest.mark.parametrize(
    ("status", "code", "part"),
    [
        (400, "1302", "https"),
        (400, "1402", "MediaContext"),
        (400, None, "refused"),
        (401, "1803", "VERIFF_API_KEY"),
        (401, "1819", "VERIFF_SHARED_SECRET"),
        (401, None, "VERIFF_API_KEY"),
        (403, None, "enable"),
        (404, None, "check the id"),
        (409, None, "submitted"),
        (413, None, "smaller"),
        (415, None, "type of body"),
        (418, None, "refused"),
        (429, "RATE_LIMIT_EXCEEDED", "slow down"),
        (307, None, "base_url"),
        (500, "INTERNAL_SERVER_ERROR", "later"),
        (503, None, "later"),
    ],
)
def test_the_remedy_names_what_to_mend(status: int, code: str | None, part: str) -> None:
    """A known code counts before the status, and each says what to look at."""
    assert part in remedy(status, code)


@given(st.integers(300, 999), st.none() | st.text())
def test_every_answer_has_a_remedy(status: int, code: str | None) -> None:
    """Any status and code give part of a sentence: not empty, no full stop, no line break, not the code itself."""
    said = remedy(status, code)

    assert said
    assert said.isprintable()
    assert not said.endswith(".")
