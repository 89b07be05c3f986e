"""A search that cannot find everything, because a process lacks keys of an encrypted inbox, is an error."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

import pytest

from tests.inbox.test_redis import client_of
from tests.inbox.test_redis_deliveries import event_of
from tests.inbox.test_sqlite_upgrade import of_customer, write_version_3
from veriff_async.credentials import Credentials
from veriff_async.encryption import KeyRing
from veriff_async.erasure import ErasureQueue, forget
from veriff_async.errors import InboxError
from veriff_async.inbox import (
    MemoryInbox,
    PostgresInbox,
    RedisInbox,
    Retention,
    SessionSearch,
    SqliteInbox,
    iter_sessions,
    replay_events,
    requeue_events,
)
from veriff_async.models.enums import Status
from veriff_async.testing import decision_event

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.postgres_server import PostgresDatabase
    from tests.servers import RedisServer

    AnyInbox: TypeAlias = MemoryInbox | SqliteInbox | RedisInbox | PostgresInbox
    MakeInbox: TypeAlias = Callable[[KeyRing | None], AnyInbox]

pytestmark = pytest.mark.anyio

OLD: Final = KeyRing.generate_key()
NEW: Final = KeyRing.generate_key()
RINGS: Final = ((), (OLD,), (NEW,), (OLD, NEW))

PERSON: Final = SessionSearch(vendor_data="ada")
FEW: Final = Retention(max_events_per_session=2)

SEARCHES: Final = (PERSON, SessionSearch(end_user_id="user"), SessionSearch(status=Status.STARTED))

# The rings of the processes that record one session each; whether the last one then writes everything again; and the
# keys without which a search would be incomplete.
HISTORIES: Final[dict[str, tuple[list[tuple[str, ...]], bool, tuple[str, ...]]]] = {
    "plain": ([()], False, ()),
    "mixed": ([(), (OLD,)], False, (OLD,)),
    "rotated": ([(OLD,), (OLD, NEW), (NEW, OLD)], False, (OLD, NEW)),
    "reencrypted": ([(), (OLD,), (NEW, OLD)], True, (NEW,)),
}


def ring_of(keys: tuple[str, ...]) -> KeyRing | None:
    """Return a ring of keys, or none."""
    return KeyRing(keys) if keys else None


@pytest.fixture(params=["sqlite", "redis", "postgres"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> MakeInbox:
    """Return what makes inboxes of one store, which was empty."""
    if request.param == "sqlite":
        return lambda ring: SqliteInbox(tmp_path / "inbox.db", encryption=ring, retention=FEW)
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("single_redis_server")
        server.flush()
        return lambda ring: RedisInbox(server.url, encryption=ring, retention=FEW)
    database: PostgresDatabase = request.getfixturevalue("postgres")
    return lambda ring: PostgresInbox(database.socket_url, encryption=ring, retention=FEW)


async def find_ids(inbox: AnyInbox, search: SessionSearch) -> list[str | None]:
    """Return the sessions that a search finds."""
    async with aclosing(iter_sessions(inbox, search)) as sessions:
        return [session.session_id async for session in sessions]


async def find_ids_or_fail(inbox: AnyInbox, search: SessionSearch) -> list[str | None] | str:
    """Return the sessions that a search finds; some stores can read a status without a key."""
    try:
        return await find_ids(inbox, search)
    except InboxError as error:
        return "cannot be decrypted" if "cannot be decrypted" in str(error) else str(error)


async def find_page(inbox: AnyInbox) -> None:
    """Find the first session of a person, which a process may be able to find although it misses others."""
    await inbox.find_sessions(PERSON, limit=1)


async def erase_person(inbox: AnyInbox, queue: ErasureQueue) -> None:
    """Erase a person, as a user or the command line would."""
    await forget(vendor_data="ada", queue=queue, stores=[inbox])


async def replay(inbox: AnyInbox) -> None:
    """Send the events of a person again, to an address to which nothing must be sent."""
    async with aclosing(
        replay_events(inbox, "http://127.0.0.1:1", Credentials("key", "secret"), search=PERSON)
    ) as events:
        async for event in events:
            pytest.fail(f"The event of {event.session_id} was sent.")


@pytest.mark.parametrize("history", HISTORIES)
async def test_incomplete_search_is_an_error(make: MakeInbox, history: str, tmp_path: Path) -> None:
    """A search finds everything if the process has the keys of all sessions, and else fails, on each page."""
    steps, is_reencrypted, needed = HISTORIES[history]
    ids = [f"s{number}" for number, _ in enumerate(steps)]
    for session_id, keys in zip(ids, steps, strict=True):
        async with make(ring_of(keys)) as inbox:
            await inbox.record(event_of(session_id, vendorData="ada", endUserId="user"), deliver=True)
            if is_reencrypted and session_id == ids[-1] and not isinstance(inbox, MemoryInbox):
                await inbox.reencrypt()

    for keys in RINGS:
        async with make(ring_of(keys)) as inbox, ErasureQueue(tmp_path / "erasures.db") as queue:
            if set(needed) <= set(keys):
                for search in SEARCHES:
                    assert ids == (await find_ids(inbox, search))[::-1]
                continue
            calls = (find_page, partial(find_ids, search=PERSON), replay, requeue_events_of_person)
            for call in (*calls, partial(erase_person, queue=queue)):
                with pytest.raises(InboxError, match="cannot be decrypted: pass encryption="):
                    await call(inbox)
            for search in SEARCHES[1:]:
                assert await find_ids_or_fail(inbox, search) in (ids[::-1], "cannot be decrypted")
            assert [] == await queue.get_receipts()  # nothing was begun


async def requeue_events_of_person(inbox: AnyInbox) -> None:
    """Call the handlers for the events of a person again."""
    await requeue_events(inbox, PERSON)


async def test_memory_inbox_finds_everything() -> None:
    """An inbox in memory encrypts nothing."""
    async with MemoryInbox() as inbox:
        await inbox.record(event_of("s0", vendorData="ada", endUserId="user"))
        for search in SEARCHES:
            assert ["s0"] == await find_ids(inbox, search)


async def test_search_is_complete_when_the_encrypted_sessions_are_erased(make: MakeInbox) -> None:
    """A key is needed for as long as a session that was encrypted with it is stored."""
    for session_id, keys in (("plain", ()), ("encrypted", (OLD,))):
        async with make(ring_of(keys)) as inbox:
            await inbox.record(event_of(session_id, vendorData="ada"))
    async with make(None) as inbox:
        with pytest.raises(InboxError, match="cannot be decrypted"):
            await find_ids(inbox, PERSON)
        await inbox.erase(["encrypted"])
        assert ["plain"] == await find_ids(inbox, PERSON)


async def test_key_is_not_needed_for_events_that_were_deleted(make: MakeInbox) -> None:
    """A session whose events with the old key were too many can be searched with the new key, once written again."""
    events = [event_of("s", vendorData="ada", number=number) for number in range(2)]
    for event, keys in zip([*events, decision_event("s", "approved")], ((OLD,), (NEW, OLD), (NEW, OLD)), strict=True):
        async with make(ring_of(keys)) as inbox:
            await inbox.record(event)
    async with make(ring_of((NEW, OLD))) as inbox:
        assert not isinstance(inbox, MemoryInbox)
        await inbox.reencrypt()
    async with make(ring_of((NEW,))) as inbox:
        assert [events[1]] == list(await inbox.get_events("s"))[:1]
        assert ["s"] == await find_ids(inbox, PERSON)


async def test_session_that_redis_deleted_needs_no_key(single_redis_server: RedisServer) -> None:
    """Redis deletes expired sessions, and their entries in the index stay for a while."""
    await asyncio.to_thread(single_redis_server.flush)
    async with RedisInbox(single_redis_server.url, encryption=KeyRing([OLD])) as inbox:
        await inbox.record(event_of("old", vendorData="ada"))
    async with client_of(single_redis_server) as admin:
        await admin.delete("{veriff}:session:old")
        await admin.zrem("{veriff}:touched", "session:old")
    async with RedisInbox(single_redis_server.url) as inbox:
        await inbox.record(event_of("new", vendorData="ada"))
        assert ["new"] == await find_ids(inbox, PERSON)


async def test_file_of_an_earlier_version_is_encrypted_before_its_first_search(tmp_path: Path) -> None:
    """A process without the keys fails, and leaves the index of earlier events to those that can read them."""
    path = tmp_path / "inbox.db"
    await asyncio.to_thread(write_version_3, path, [of_customer("s", "ada")])
    async with SqliteInbox(path, encryption=KeyRing([OLD]), now=lambda: 1_800_000_060.0) as inbox:
        await inbox.reencrypt()
    for _ in range(2):
        async with SqliteInbox(path, now=lambda: 1_800_000_060.0) as inbox:
            with pytest.raises(InboxError, match="cannot be decrypted"):
                await find_ids(inbox, PERSON)
            assert ["s"] == await find_ids(inbox, SessionSearch(status=Status.APPROVED))
    async with SqliteInbox(path, encryption=KeyRing([OLD]), now=lambda: 1_800_000_060.0) as inbox:
        assert ["s"] == await find_ids(inbox, PERSON)
