"""Counts in texts for people."""

from __future__ import annotations

import pytest

from veriff_async._protocol.counts import format_count


@pytest.mark.parametrize(
    ("count", "words", "expected"),
    [
        (0, ("event",), "0 events"),
        (1, ("event",), "1 event"),
        (2, ("dead event",), "2 dead events"),
        (1, ("address", "addresses"), "1 address"),
        (3, ("address", "addresses"), "3 addresses"),
    ],
)
def test_noun_agrees_with_its_number(count: int, words: tuple[str, ...], expected: str) -> None:
    """One thing is singular, and none or several are plural."""
    assert expected == format_count(count, *words)
