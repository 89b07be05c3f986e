"""RedisInbox with a ring of keys: nothing that a server stores can be read without them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests.inbox.test_redis import client_of
from tests.inbox.test_redis_deliveries import DEAD, HANDLED, dump, event_of, lease_one, members_of
from veriff_async.encryption import KeyRing
from veriff_async.errors import InboxError
from veriff_async.inbox import IgnoredReason, RedisInbox, Retention, SessionSearch
from veriff_async.models.enums import Status
from veriff_async.testing import decision_event, watchlist_event
from veriff_async.testing._erasure_rules import ErasureContract
from veriff_async.testing._search_rules import SearchContract

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from tests.servers import RedisServer
    from veriff_async.inbox import Inbox

OLD, NEW = KeyRing.generate_key(), KeyRing.generate_key()


class TestEncryptedRedisInbox(SearchContract, ErasureContract):
    """The rules about what can be read hold when everything is encrypted."""

    url: str

    @pytest.fixture(autouse=True)
    def fresh(self, single_redis_server: RedisServer) -> None:
        """Give each test an empty server."""
        single_redis_server.flush()
        self.url = single_redis_server.url

    async def make(self, retention: Retention, now: Callable[[], float]) -> Inbox:
        """Return another inbox on the server."""
        return RedisInbox(self.url, retention=retention, now=now, encryption=KeyRing([OLD]))


@pytest.fixture
def server(single_redis_server: RedisServer) -> RedisServer:
    """Return an empty server."""
    single_redis_server.flush()
    return single_redis_server


@asynccontextmanager
async def opened(server: RedisServer, *keys: str) -> AsyncGenerator[RedisInbox]:
    """Open an inbox with a ring of keys, or without one."""
    async with RedisInbox(server.url, encryption=KeyRing(keys) if keys else None) as inbox:
        yield inbox


@pytest.mark.anyio
async def test_nothing_readable_is_on_the_server(server: RedisServer) -> None:
    """Neither a value of an event, nor a state, nor a submission can be read in any key."""
    async with opened(server, OLD) as inbox:
        await inbox.save_submission("s", "canary-submission")
        await inbox.record(event_of("s", vendorData="canary-data", endUserId="canary-user"), deliver=True)
        await inbox.record(decision_event("s", "approved"))
        await inbox.settle(await lease_one(inbox), DEAD)

        stored = await dump(server)
        for text in ("canary", 'approved"', "verification", "vendorData"):
            assert text not in stored
        state = (await inbox.get_states(["s"]))["s"]
        assert ("approved", "canary-submission") == (state.status, state.submission)


@pytest.mark.anyio
async def test_keys_can_be_rotated(server: RedisServer) -> None:
    """Data stored without keys or with an old one is read, found and written again with the new one."""
    person = SessionSearch(vendor_data="ada", status=Status.STARTED)
    event = event_of("plain", vendorData="ada")
    async with opened(server) as inbox:
        await inbox.record(event, deliver=True)
        await inbox.save_submission("plain", "text")
        await inbox.record(watchlist_event(None))
    async with opened(server, OLD) as inbox:
        await inbox.record(event_of("old", vendorData="ada"))
        await inbox.record(event_of("erased", vendorData="ada"))
        await inbox.erase(["erased"])
    async with opened(server, NEW, OLD) as inbox:
        assert ["old", "plain"] == [each.session_id for each in (await inbox.find_sessions(person)).sessions]
        assert IgnoredReason.ERASED is (await inbox.record(event_of("erased"))).ignored
        # The event without a session, and the event and the state of two, and a submission.
        assert [6, 0] == [await inbox.reencrypt() for _ in range(2)]
    async with opened(server, NEW) as inbox:
        assert ["old", "plain"] == [each.session_id for each in (await inbox.find_sessions(person)).sessions]
        # The value, the status and the new secret, for each of two sessions.
        assert 6 == len(await members_of(server, "search"))
        assert "text" == (await inbox.get_states(["plain"]))["plain"].submission
        assert [watchlist_event(None)] == list(await inbox.get_events(None))
        assert (await inbox.record(event)).is_duplicate
        assert await inbox.settle(await lease_one(inbox), HANDLED)


@pytest.mark.anyio
@pytest.mark.parametrize("keys", [(), (NEW,)])
async def test_missing_key_is_reported(server: RedisServer, keys: tuple[str, ...]) -> None:
    """Without the key every call that reads fails, and no event is lost or dead."""
    async with opened(server, OLD) as inbox:
        await inbox.record(event_of("s"), deliver=True)
    async with opened(server, *keys) as inbox:
        with pytest.raises(InboxError, match="cannot be decrypted"):
            await inbox.get_states(["s"])
        with pytest.raises(InboxError, match="cannot be decrypted"):
            await inbox.get_events("s")
        with pytest.raises(InboxError, match="cannot be decrypted"):  # the erasure of a person would find nothing
            await inbox.find_sessions(SessionSearch(vendor_data="user-42"))
        with pytest.raises(InboxError, match="cannot be decrypted"):
            await inbox.lease(1, seconds=3600)
        with pytest.raises(InboxError, match="cannot be decrypted"):
            await inbox.record(decision_event("s", "approved"))
    async with opened(server, OLD) as inbox:
        assert 1 == (await lease_one(inbox)).attempt


@pytest.mark.anyio
async def test_moved_text_is_refused(server: RedisServer) -> None:
    """An encrypted state or event that was copied to another session cannot be read there."""
    async with opened(server, OLD) as inbox:
        for session_id in ("s", "t"):
            await inbox.record(event_of(session_id))
        async with client_of(server, decode_responses=False) as admin:
            for field in ("state", "event:0"):
                value = await admin.hget("{veriff}:session:s", field)
                assert value is not None
                await admin.hset("{veriff}:session:t", field, value)
        with pytest.raises(InboxError, match="cannot be decrypted"):
            await inbox.get_states(["t"])
        with pytest.raises(InboxError, match="cannot be decrypted"):
            await inbox.get_events("t")
