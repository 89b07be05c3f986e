"""The console over HTTP: the timeline of requests with the verdict on their signature."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.sandbox.console.pages import page_of, show
from veriff_async.sandbox import Fault, GapEntry
from veriff_async.sandbox._console.display import describe_body
from veriff_async.sandbox._console.timeline import describe_entries

if TYPE_CHECKING:
    from tests.sandbox.conftest import Caller

pytestmark = pytest.mark.anyio

TIMELINE = "/_sandbox/timeline"


async def test_request_with_a_wrong_signature_has_cause_and_advice(caller: Caller) -> None:
    """The timeline and the page of the session say what to change."""
    session_id = await caller.create()
    headers = caller.signed(session_id.encode()) | {"X-HMAC-SIGNATURE": "0" * 64}
    await caller.send("GET", f"/v1/sessions/{session_id}/decision", headers=headers)
    for path in (TIMELINE, page_of(session_id)):
        page = await show(caller, path)
        assert "Signature wrong" in page
        assert 'class="advice"' in page


async def test_entries_are_filtered_and_paged(caller: Caller) -> None:
    """Links lead to each kind and to earlier entries; wrong words in the address are ignored."""
    assert "Nothing has happened yet" in await show(caller, TIMELINE)
    caller.sandbox.inject(Fault.status(503), path="/v1/sessions/*")
    for _ in range(105):
        await caller.get(f"/v1/sessions/{uuid4()}/decision", "x")
    page = await show(caller, TIMELINE)
    numbers = [int(number) for number in re.findall(r'<li id="e-(\d+)"', page)]
    assert list(range(106, 6, -1)) == numbers
    (earlier,) = re.findall(r'href="(/_sandbox/timeline\?before=7)"', page)
    assert 'id="e-1"' in await show(caller, earlier)
    assert 1 == (await show(caller, TIMELINE + "?kind=fault")).count('<li id="e-')
    assert "No entry matches" in await show(caller, TIMELINE + "?kind=setting")
    for query in ("kind=unknown", "before=x", "before=-1", "before=²", "before=" + "9" * 30):
        assert 100 == (await show(caller, f"{TIMELINE}?{query}")).count('<li id="e-')


def test_missing_entries_are_a_row() -> None:
    """A gap is shown as a warning with the number of entries that are missing."""
    now = datetime(2025, 1, 1, tzinfo=UTC)
    (row,) = describe_entries([GapEntry(number=7, time=now, missing=3)], now)
    assert "3 entries are missing" in repr(row)
    assert "warn" in repr(row)


@pytest.mark.parametrize(
    ("body", "text", "size"),
    [
        (b"\xff\xfe", "\ufffd\ufffd", "2 bytes"),
        (b"[" * 60_000, "[", "60.0 kB"),
        (b"", "", "0 bytes"),
        (b" " * 3_000_000, " ", "3.0 MB"),
    ],
)
def test_body_that_is_not_json_is_shown_as_text(body: bytes, text: str, size: str) -> None:
    """Bytes that are no text have a sign in their place, and a long body is cut."""
    shown = describe_body(body)
    assert size in repr(shown)
    assert "".join(token.text for token in shown.tokens).startswith(text)
