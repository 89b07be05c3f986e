"""A wrong argument is the caller's mistake: the error names the argument, and no store is blamed for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import pytest

from veriff_async import InvalidArgumentError
from veriff_async._protocol.webhook import dump_event, load_event
from veriff_async.inbox import MemoryInbox, RedisInbox, SqliteInbox, apply_event, dump_state, load_state
from veriff_async.testing import decision_event

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from veriff_async.inbox import SubmissionInbox

EVENT: Final = decision_event("s", "approved")
MAKERS: Final[dict[str, Callable[[Path], SubmissionInbox]]] = {
    "memory": lambda _: MemoryInbox(),
    "sqlite": lambda folder: SqliteInbox(folder / "inbox.db"),
    "redis": lambda _: RedisInbox("redis://127.0.0.1:1"),
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
