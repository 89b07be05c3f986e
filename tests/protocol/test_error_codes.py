"""Remedies: one sentence for each code and status, and none that ends in the dark."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from veriff_async import errors
from veriff_async._protocol.error_codes import class_of, remedy

# Every code that is known, from https://devdocs.veriff.com/docs/some-troubleshooting-codes-table and other pages.
BAD_REQUESTS = """
1001 1002 1003 1101 1102 1104 1201 1202 1203 1301 1302 1303 1304 1305 1306 1308 1309 1310 1400 1401 1402 1403 1500 1501
2003 2101 2102 2103 2104
"""
REFUSED_KEYS = "1801 1802 1803 1804 1812 1813 1814 1818 1819"
KNOWN = {
    **dict.fromkeys(BAD_REQUESTS.split(), errors.BadRequestError),
    **dict.fromkeys(REFUSED_KEYS.split(), errors.AuthenticationError),
    "RATE_LIMIT_EXCEEDED": errors.RateLimitedError,
    "INTERNAL_SERVER_ERROR": errors.ServerError,
}


@pytest.mark.parametrize(("code", "kind"), KNOWN.items())
def test_every_known_code_has_its_class_and_remedy(code: str, kind: type[errors.ApiError]) -> None:
    """A code says more than a plain 400: its class is what the caller can do, and its remedy is its own."""
    assert kind is class_of(400, code)
    assert remedy(400, code) != remedy(400, "9999")


@pytest.mark.parametrize(
    ("status", "kind"), [(400, errors.BadRequestError), (404, errors.NotFoundError), (599, errors.ServerError)]
)
def test_any_other_code_has_the_class_of_its_status(status: int, kind: type[errors.ApiError]) -> None:
    """An unknown code, and a status that says more than 400, leave it to the status."""
    assert kind is class_of(status, "9999")
    assert kind is class_of(status, None)


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
def test_remedy_names_the_cause(status: int, code: str | None, part: str) -> None:
    """A known code counts before the status, and each says what to look at."""
    assert part in remedy(status, code)


@given(st.integers(300, 999), st.none() | st.text())
def test_every_answer_has_a_remedy(status: int, code: str | None) -> None:
    """Any status and code give part of a sentence: not empty, no full stop, no line break, not the code itself."""
    text = remedy(status, code)

    assert text
    assert text.isprintable()
    assert not text.endswith(".")
