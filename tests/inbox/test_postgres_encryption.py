"""PostgresInbox with a ring of keys: nothing that the tables hold of a person can be read without them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from tests.inbox.test_postgres import find_tables
from tests.inbox.test_redis_deliveries import event_of
from veriff_async import InboxError
from veriff_async.encryption import KeyRing
from veriff_async.inbox import DeliveryOutcome, DeliveryStatus, IgnoredReason, PostgresInbox, SessionSearch
from veriff_async.testing import decision_event, watchlist_event

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.postgres_server import PostgresDatabase

OLD: Final = KeyRing.generate_key()
NEW: Final = KeyRing.generate_key()
HANDLED: Final = DeliveryOutcome(status=DeliveryStatus.HANDLED)
PERSON: Final = SessionSearch(vendor_data="ada")


async def find_ids(inbox: PostgresInbox) -> Sequence[str | None]:
    """Return the sessions of a person."""
    return [session.session_id for session in (await inbox.find_sessions(PERSON)).sessions]


async def handle_one(inbox: PostgresInbox) -> str | None:
    """Handle the only event that is due, in a transaction; return its session."""
    (delivery,) = await inbox.lease(10, seconds=60)
    async with inbox.handle_in_transaction(delivery, HANDLED) as connection:
        await connection.execute("SELECT 1")
    return delivery.event.session_id


@pytest.mark.anyio
async def test_no_person_is_in_encrypted_tables(postgres: PostgresDatabase) -> None:
    """Neither a value of an event, nor a state, nor a submission is in a file of a table."""
    async with PostgresInbox(postgres.url, encryption=KeyRing([OLD])) as inbox:
        await inbox.save_submission("s", "canary-submission")
        await inbox.record(event_of("s", vendorData="canary-data", endUserId="canary-user"), deliver=True)
        assert "s" == await handle_one(inbox)
        result = await inbox.record(decision_event("s", "approved"))
        assert result.state is not None
        assert "canary-submission" == result.state.submission
        assert result.state == (await inbox.get_states(["s"]))["s"]
        for text in (b"canary", b'approved"', b"verification", b"vendorData"):
            assert [] == await asyncio.to_thread(find_tables, postgres, text)


@pytest.mark.anyio
async def test_keys_are_replaced_while_the_inbox_is_used(postgres: PostgresDatabase) -> None:
    """Data stored without keys or with an old one is read, found and written again with the new one."""
    event = event_of("plain", vendorData="ada", note="canary")
    async with PostgresInbox(postgres.url) as inbox:
        await inbox.record(event, deliver=True)
        await inbox.save_submission("plain", "text")
        await inbox.record(watchlist_event(None))
        await inbox.erase(["erased-before"])
        assert await asyncio.to_thread(find_tables, postgres, b"canary")
    async with PostgresInbox(postgres.url, encryption=KeyRing([OLD])) as inbox:
        await inbox.record(event_of("old", vendorData="ada"))
        await inbox.record(event_of("erased", vendorData="ada"))
        assert 1 == await inbox.erase(["erased"])
    async with PostgresInbox(postgres.url, encryption=KeyRing([NEW, OLD])) as inbox:
        assert ["old", "plain"] == await find_ids(inbox)
        for session_id in ("erased", "erased-before"):
            assert IgnoredReason.ERASED is (await inbox.record(event_of(session_id))).ignored
            await inbox.save_submission(session_id, "refused")
        # The event without a session, and the event and the state of two, and a submission.
        assert [6, 0] == [await inbox.reencrypt() for _ in range(2)]
    assert [] == await asyncio.to_thread(find_tables, postgres, b"canary")
    counts = "SELECT field, count(*) FROM veriff_inbox_search_key GROUP BY field ORDER BY field"
    # A key of the new secret for each session, and for the events without one.
    assert [("secret", 3), ("vendor_data", 2)] == await asyncio.to_thread(postgres.execute, counts)
    async with PostgresInbox(postgres.url, encryption=KeyRing([NEW])) as inbox:
        assert ["old", "plain"] == await find_ids(inbox)
        assert "text" == (await inbox.get_states(["plain"]))["plain"].submission
        assert [watchlist_event(None)] == list(await inbox.get_events(None))
        assert (await inbox.record(event)).is_duplicate
        assert "plain" == await handle_one(inbox)


@pytest.mark.anyio
async def test_text_of_an_unknown_key_is_an_error(postgres: PostgresDatabase) -> None:
    """Without the key every call that reads fails, nothing is written, and no attempt of a handler is lost."""
    async with PostgresInbox(postgres.url, encryption=KeyRing([OLD])) as inbox:
        await inbox.record(event_of("s"), deliver=True)
    for ring in (None, KeyRing([NEW])):
        async with PostgresInbox(postgres.url, encryption=ring) as inbox:
            for call in (
                inbox.get_states(["s"]),
                inbox.get_events("s"),
                inbox.lease(1, seconds=60),
                inbox.record(decision_event("s", "approved")),
                inbox.reencrypt(),
                inbox.find_sessions(PERSON),  # the erasure of a person would find nothing
            ):
                with pytest.raises(InboxError, match="cannot be decrypted"):
                    await call
    async with PostgresInbox(postgres.url, encryption=KeyRing([OLD])) as inbox:
        (delivery,) = await inbox.lease(10, seconds=60)
        assert (1, event_of("s")) == (delivery.attempt, delivery.event)


@pytest.mark.anyio
async def test_text_of_another_session_is_refused(postgres: PostgresDatabase) -> None:
    """A text that another program has moved to another session cannot be read there."""
    async with PostgresInbox(postgres.url, encryption=KeyRing([OLD])) as inbox:
        for session_id in ("mine", "yours"):
            await inbox.record(event_of(session_id))
        move = (
            "UPDATE veriff_inbox_session SET state = (SELECT state FROM veriff_inbox_session WHERE id = 'mine');"
            " UPDATE veriff_inbox_event SET body = (SELECT body FROM veriff_inbox_event WHERE session ="
            " (SELECT number FROM veriff_inbox_session WHERE id = 'mine'))"
        )
        await asyncio.to_thread(postgres.execute, move)
        for call in (inbox.get_states(["yours"]), inbox.get_events("yours")):
            with pytest.raises(InboxError, match="cannot be decrypted"):
                await call
        assert [event_of("mine")] == list(await inbox.get_events("mine"))


@pytest.mark.anyio
@pytest.mark.parametrize("ring", [None, KeyRing([OLD])])
async def test_unreadable_event_becomes_dead(postgres: PostgresDatabase, ring: KeyRing | None) -> None:
    """An event that another program has damaged keeps neither its session nor other sessions waiting."""
    async with PostgresInbox(postgres.url, encryption=ring) as inbox:
        for session_id in ("damaged", "damaged", "good"):
            await inbox.record(event_of(session_id, note=len(await inbox.get_events(session_id))), deliver=True)
        damage = (
            "UPDATE veriff_inbox_event SET body = set_byte(body, length(body) - 1, "
            "255 - get_byte(body, length(body) - 1)) "
            "WHERE number = (SELECT min(number) FROM veriff_inbox_event)"
        )
        await asyncio.to_thread(postgres.execute, damage)

        assert ["good"] == [delivery.event.session_id for delivery in await inbox.lease(10, seconds=60)]
        assert ["damaged"] == [delivery.event.session_id for delivery in await inbox.lease(10, seconds=60)]
        (dead,) = await inbox.get_deliveries(status=DeliveryStatus.DEAD)
        assert ("damaged", "The stored event cannot be read.") == (dead.session_id, dead.error)
