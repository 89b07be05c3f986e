"""A wrong argument is the caller's mistake: the error names the argument, and no store is blamed for it."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final, cast

import pytest
from attrs import evolve

from veriff_async import InvalidArgumentError
from veriff_async._protocol.webhook import dump_event, load_event
from veriff_async.inbox import (
    Delivery,
    DeliveryOutcome,
    DeliveryStatus,
    MemoryInbox,
    PostgresInbox,
    RedisInbox,
    SearchableInbox,
    SessionSearch,
    SqliteInbox,
    apply_event,
    dump_state,
    load_state,
)
from veriff_async.testing import decision_event

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from veriff_async.inbox import SubmissionInbox

EVENT: Final = decision_event("s", "approved")
MAKERS: Final[dict[str, Callable[[Path], SubmissionInbox]]] = {
    "memory": lambda _: MemoryInbox(),
    "sqlite": lambda folder: SqliteInbox(folder / "inbox.db"),
    "redis": lambda _: RedisInbox("redis://127.0.0.1:1"),
    "postgres": lambda _: PostgresInbox("postgresql://127.0.0.1:1/veriff"),
}
WRONG: Final = pytest.mark.parametrize("wrong", [5, None, "abc", b"abc", object, {"status": "approved"}], ids=ascii)


@WRONG
@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.asyncio
async def test_every_inbox_names_the_wrong_argument(name: str, wrong: object, tmp_path: Path) -> None:
    """Also an inbox that is not open yet: the argument is checked first."""
    inbox, value = MAKERS[name](tmp_path), cast("Any", wrong)
    with pytest.raises(InvalidArgumentError, match="event must be a webhook event, not"):
        await inbox.record(value)
    with pytest.raises(InvalidArgumentError, match="source must be"):
        await inbox.record(EVENT, source=value)
    if not isinstance(wrong, dict):  # a mapping is a collection of its keys
        with pytest.raises(InvalidArgumentError, match="session_ids must be a collection of ids, not"):
            await inbox.get_states(value)
    if not isinstance(wrong, str):
        with pytest.raises(InvalidArgumentError, match="session_ids must contain texts, but one is of type"):
            await inbox.get_states(["s", value])
    if not isinstance(wrong, str | None):
        with pytest.raises(InvalidArgumentError, match="session_id must be"):
            await inbox.get_events(value)
    if not isinstance(wrong, str):
        with pytest.raises(InvalidArgumentError, match="session_id must be"):
            await inbox.save_submission(value, "text")
        with pytest.raises(InvalidArgumentError, match="submission must be"):
            await inbox.save_submission("s", value)


DELIVERY: Final = Delivery(event=EVENT, attempt=1, recorded_at=0.0, lease="token")
OUTCOME: Final = DeliveryOutcome(status=DeliveryStatus.HANDLED)
DELIVERIES: Final[list[tuple[str, Callable[[Any], Awaitable[object]]]]] = [
    ("deliver is 5: pass True or False", lambda inbox: inbox.record(EVENT, deliver=5)),
    ("limit is 0: give a whole number above zero", lambda inbox: inbox.lease(0, seconds=60)),
    ("limit is -1: give a whole number above zero", lambda inbox: inbox.lease(-1, seconds=60)),
    ("limit is 1.5: give a whole number above zero", lambda inbox: inbox.lease(1.5, seconds=60)),
    ("limit is True: give a whole number above zero", lambda inbox: inbox.lease(True, seconds=60)),  # noqa: FBT003
    ("seconds is 0: give a number of seconds above zero", lambda inbox: inbox.lease(1, seconds=0)),
    ("seconds is inf: give a number of seconds above zero, ten years at most", lambda x: x.lease(1, seconds=math.inf)),
    ("seconds is nan: give a number of seconds above zero", lambda inbox: inbox.lease(1, seconds=math.nan)),
    ("seconds is -1: give a number of seconds", lambda inbox: inbox.extend_leases([DELIVERY], seconds=-1)),
    ("deliveries must be a collection, not str", lambda inbox: inbox.extend_leases("abc", seconds=60)),
    ("an item of deliveries must be a Delivery, not str", lambda inbox: inbox.extend_leases(["abc"], seconds=60)),
    ("delivery must be a Delivery, not None: pass what lease", lambda inbox: inbox.settle(None, OUTCOME)),
    ("outcome must be a DeliveryOutcome, not str", lambda inbox: inbox.settle(DELIVERY, "handled")),
    ("outcome.status must be", lambda inbox: inbox.settle(DELIVERY, DeliveryOutcome(status=cast("Any", "handled")))),
    ("outcome.delay is -1: give a number of seconds", lambda inbox: inbox.settle(DELIVERY, evolve(OUTCOME, delay=-1))),
    (
        "outcome.error must be",
        lambda inbox: inbox.settle(DELIVERY, evolve(OUTCOME, error=cast("Any", ValueError("secret")))),
    ),
    (
        "outcome.counts is None: pass True",
        lambda inbox: inbox.settle(DELIVERY, evolve(OUTCOME, counts=cast("Any", None))),
    ),
    (
        "outcome.handled_by must be a frozenset",
        lambda inbox: inbox.settle(DELIVERY, evolve(OUTCOME, handled_by=cast("Any", {"a"}))),
    ),
    (
        "outcome.handled_by must be a frozenset",
        lambda x: x.settle(DELIVERY, evolve(OUTCOME, handled_by=cast("Any", frozenset({1})))),
    ),
    ("session_id must be", lambda inbox: inbox.get_deliveries(session_id=5)),
    ("status must be a DeliveryStatus, not str: pass for example", lambda inbox: inbox.get_deliveries(status="dead")),
    ("limit is 0: give a whole number above zero", lambda inbox: inbox.get_deliveries(limit=0)),
    ("session_id must be", lambda inbox: inbox.requeue(5, "key")),
    ("dedup_key must be", lambda inbox: inbox.requeue("s", None)),
    ("search must be a SessionSearch, not None", lambda inbox: inbox.find_sessions(None)),
    ("search.vendor_data must be", lambda inbox: inbox.find_sessions(SessionSearch(vendor_data=cast("Any", 5)))),
    ("search.status must be", lambda inbox: inbox.find_sessions(SessionSearch(status=cast("Any", "approved")))),
    ("search.delivery must be", lambda inbox: inbox.find_sessions(SessionSearch(delivery=cast("Any", "dead")))),
    ("search.since is nan: give seconds since 1970", lambda inbox: inbox.find_sessions(SessionSearch(since=math.nan))),
    ("search.until is inf: give seconds since 1970", lambda inbox: inbox.find_sessions(SessionSearch(until=math.inf))),
    ("limit is 0: give a whole number above zero", lambda inbox: inbox.find_sessions(SessionSearch(), limit=0)),
    ("page must be", lambda inbox: inbox.find_sessions(SessionSearch(), page=5)),
    ("session_ids must be a collection of ids, not str", lambda inbox: inbox.erase("session")),
    ("session_ids must contain texts, but one is of type None", lambda inbox: inbox.erase(["s", None])),
    ("session_ids contains an empty id", lambda inbox: inbox.erase(["s", ""])),
    ("refuse_for is -1: give a number of seconds", lambda inbox: inbox.erase(["s"], refuse_for=-1)),
]


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.asyncio
async def test_every_inbox_names_the_wrong_argument_of_deliveries(name: str, tmp_path: Path) -> None:
    """Arguments of leases, outcomes, searches and erasure are checked first; the message has the remedy, no value."""
    inbox = MAKERS[name](tmp_path)
    for message, call in DELIVERIES:
        with pytest.raises(InvalidArgumentError, match=re.escape(message)) as caught:
            await call(inbox)
        assert "secret" not in str(caught.value)


# A web page may pass the text of its own URL on, so it may be anything.
PAGES = ["", "abc", "1 ", "-1", "é", "9" * 5_000, "\ud800", "nan,1", '[NaN, "a"]', "[1.0, 2]"]
PAGES += ["t\ud800,1", "tff,1", "bx,1", f'[1{"0" * 400}, "a"]', "[" * 5_000]


@pytest.mark.parametrize("page", PAGES, ids=ascii)
@pytest.mark.parametrize("name", ["memory", "sqlite", "redis"])
@pytest.mark.asyncio
async def test_page_of_another_search_is_refused(name: str, page: str, tmp_path: Path) -> None:
    """A page that the inbox did not return is refused, without its text."""
    inbox = MAKERS[name](tmp_path)
    assert isinstance(inbox, SearchableInbox)
    try:
        with pytest.raises(InvalidArgumentError, match=r"^page is not from this inbox: pass the next_page"):
            await inbox.find_sessions(SessionSearch(), page=page)
    finally:
        await inbox.aclose()


@WRONG
def test_functions_for_inboxes_of_ones_own_name_the_wrong_argument(wrong: object) -> None:
    """An author of an inbox makes such mistakes while writing it."""
    value = cast("Any", wrong)
    for call in (dump_event, lambda event: apply_event(None, event)):
        with pytest.raises(InvalidArgumentError, match="event must be a webhook event, not"):
            call(value)
    with pytest.raises(InvalidArgumentError, match="state must be"):
        dump_state(value)
    if wrong is not None:
        with pytest.raises(InvalidArgumentError, match="state must be"):
            apply_event(value, EVENT)
    if not isinstance(wrong, bytes):
        with pytest.raises(InvalidArgumentError, match="text must be bytes"):
            load_state(value)
        with pytest.raises(InvalidArgumentError, match="body must be bytes"):
            load_event("decision", value)
    if not isinstance(wrong, str):
        with pytest.raises(InvalidArgumentError, match="kind must be"):
            load_event(value, b"{}")
