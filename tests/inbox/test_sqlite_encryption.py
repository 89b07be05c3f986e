"""An inbox in a SQLite file with encrypted texts: nothing is readable, keys can be replaced, and texts cannot move."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final

import pytest

from tests.inbox.encrypted_rules import ENCRYPTED_RULES
from tests.inbox.test_sqlite_erasure import events_of, fill, find, name_of, names
from veriff_async import InboxError
from veriff_async.encryption import KeyRing
from veriff_async.inbox import IgnoredReason, SessionSearch, SqliteInbox
from veriff_async.testing import InboxContract, session_event

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from veriff_async.inbox import Inbox, Retention

OLD: Final = KeyRing.generate_key()
NEW: Final = KeyRing.generate_key()
SESSIONS: Final = names("session", 30)
PERSONS: Final = [name_of(session_id) for session_id in SESSIONS]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the inbox."""
    return tmp_path / "inbox.db"


async def check_content(inbox: SqliteInbox) -> None:
    """Check that the inbox returns what was recorded, and finds a session by its person."""
    assert set(SESSIONS) == set(states := await inbox.get_states(SESSIONS))
    assert "submitted session-00003" == states["session-00003"].submission
    assert events_of("session-00003")[0] == (await inbox.get_events("session-00003"))[0]
    page = await inbox.find_sessions(SessionSearch(vendor_data=PERSONS[3]))
    assert [SESSIONS[3]] == [session.session_id for session in page.sessions]


async def record_all(inbox: SqliteInbox) -> None:
    """Record the events of all sessions in their order, and the submission of each."""
    for session_id in SESSIONS:
        await inbox.save_submission(session_id, f"submitted {session_id}")
        for event in events_of(session_id, size=50):
            await inbox.record(event, deliver=True)


@pytest.mark.anyio
async def test_no_person_is_in_an_encrypted_file(path: Path, tmp_path: Path) -> None:
    """The bodies, states, submissions and keys of the search show no value; a lease returns the event."""
    async with SqliteInbox(path, encryption=KeyRing([OLD])) as inbox:
        await record_all(inbox)
        await check_content(inbox)
        delivery = (await inbox.lease(1, seconds=60))[0]
        assert events_of(SESSIONS[0])[0] == delivery.event
        assert [] == await asyncio.to_thread(find, tmp_path, [*PERSONS, "submitted ", "firstName"])
        await inbox.erase([SESSIONS[5]])
        assert IgnoredReason.ERASED is (await inbox.record(session_event(SESSIONS[5], "started"))).ignored


@pytest.mark.anyio
async def test_keys_are_replaced_while_the_inbox_is_used(path: Path, tmp_path: Path) -> None:
    """Texts without encryption, and those of an old key, are written again with the first key, and are the same."""
    async with SqliteInbox(path) as inbox:
        await record_all(inbox)
        await inbox.erase(["erased"])
    async with SqliteInbox(path, encryption=KeyRing([OLD])) as inbox:
        await check_content(inbox)
        assert IgnoredReason.ERASED is (await inbox.record(session_event("erased", "started"))).ignored
        assert 30 * 3 + 30 * 2 == await inbox.reencrypt()
        assert 0 == await inbox.reencrypt()
        assert [] == await asyncio.to_thread(find, tmp_path, PERSONS)
        await check_content(inbox)
    async with SqliteInbox(path, encryption=KeyRing([NEW, OLD])) as inbox:
        await inbox.record(events_of(SESSIONS[0])[0])
        await check_content(inbox)
        assert await inbox.reencrypt()
    async with SqliteInbox(path, encryption=KeyRing([NEW])) as inbox:
        await check_content(inbox)


@pytest.mark.anyio
@pytest.mark.parametrize("ring", [None, KeyRing([NEW])])
async def test_text_of_an_unknown_key_is_an_error(path: Path, ring: KeyRing | None) -> None:
    """Without its key, a text is an error, and no event of it is lost or becomes another state."""
    async with SqliteInbox(path, encryption=KeyRing([OLD])) as inbox:
        await inbox.record(session_event("s", "started"))
    async with SqliteInbox(path, encryption=ring) as inbox:
        for call in (inbox.get_states(["s"]), inbox.get_events("s"), inbox.record(session_event("s", "submitted"))):
            with pytest.raises(InboxError, match="cannot be decrypted"):
                await call
        with pytest.raises(InboxError, match="cannot be decrypted"):
            await inbox.reencrypt()
        with pytest.raises(InboxError, match="cannot be decrypted"):  # the erasure of a person would find nothing
            await inbox.find_sessions(SessionSearch(vendor_data="user-42"))


@pytest.mark.anyio
@pytest.mark.parametrize("ring", [None, KeyRing([NEW])])
async def test_process_without_the_key_leaves_deliveries_to_others(path: Path, ring: KeyRing | None) -> None:
    """A process that was started with the wrong ring moves no event to the dead letters, and uses up no attempt."""
    async with SqliteInbox(path, encryption=KeyRing([OLD])) as inbox:
        await inbox.record(session_event("s", "started"), deliver=True)
    async with SqliteInbox(path, encryption=ring) as inbox:
        for _ in range(3):
            with pytest.raises(InboxError, match="cannot be decrypted"):
                await inbox.lease(10, seconds=3600)
    async with SqliteInbox(path, encryption=KeyRing([OLD])) as inbox:
        (delivery,) = await inbox.lease(10, seconds=3600)

    assert 1 == delivery.attempt


@pytest.mark.anyio
async def test_text_of_another_session_is_refused(path: Path) -> None:
    """A text that another program has moved to another session does not become an event of that session."""
    async with SqliteInbox(path, encryption=KeyRing([OLD])) as inbox:
        await fill(inbox, ["mine", "yours"])

        def move() -> None:
            with closing(sqlite3.connect(path)) as db, db:
                body = "SELECT body FROM event WHERE session = x'6d696e65' ORDER BY number LIMIT 1"
                db.execute(f"UPDATE event SET body = ({body}) WHERE session = x'796f757273'")  # noqa: S608  fixed texts

        await asyncio.to_thread(move)
        with pytest.raises(InboxError, match="cannot be decrypted"):
            await inbox.get_events("yours")
        assert 3 == len(await inbox.get_events("mine"))


class EncryptedInboxCase(InboxContract):
    """An inbox with encrypted texts, for the rules below."""

    path: Path

    async def make(self, retention: Retention, now: Callable[[], float]) -> Inbox:
        """Return another inbox on the file."""
        return SqliteInbox(self.path, retention=retention, now=now, encryption=KeyRing([OLD]))


@pytest.mark.parametrize("rule", ENCRYPTED_RULES)
def test_encrypted_inbox_passes_the_contract(path: Path, rule: str) -> None:
    """Some rules that read everything an inbox stores hold with encryption too."""
    case = EncryptedInboxCase()
    case.path = path
    getattr(case, rule)()
