"""The inbox on PostgreSQL passes the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.inbox.encrypted_rules import ENCRYPTED_RULES
from tests.postgres_server import PostgresDatabase, PostgresServer
from veriff_async.encryption import KeyRing
from veriff_async.inbox import PostgresInbox
from veriff_async.testing import InboxContract

if TYPE_CHECKING:
    from collections.abc import Callable

    from veriff_async.inbox import Inbox, Retention


@pytest.fixture(scope="session")
def shared_postgres(running_postgres: PostgresServer) -> PostgresDatabase:
    """Return a schema for all rules: the tables take longer to create than most rules."""
    running_postgres.execute("CREATE SCHEMA contract")
    return PostgresDatabase(running_postgres, "contract")


@pytest.fixture
def emptied_postgres(shared_postgres: PostgresDatabase) -> PostgresDatabase:
    """Empty the tables, if a rule has created them."""
    shared_postgres.execute(
        "DO $$ BEGIN IF to_regclass('veriff_inbox_session') IS NOT NULL THEN"
        " DELETE FROM veriff_inbox_session; DELETE FROM veriff_inbox_erased; END IF; END $$"
    )
    return shared_postgres


KEY = KeyRing.generate_key()


class TestPostgresInbox(InboxContract):
    """Every handle has its own connections to one server, like another machine."""

    url: str

    @pytest.fixture(autouse=True)
    def fresh(self, emptied_postgres: PostgresDatabase) -> None:
        """Give each test empty tables."""
        self.url = emptied_postgres.socket_url

    async def make(self, retention: Retention, now: Callable[[], float]) -> Inbox:
        """Return another inbox on the server."""
        return PostgresInbox(self.url, retention=retention, now=now)


class EncryptedInboxCase(InboxContract):
    """An inbox with encrypted texts, for the rules below."""

    url: str

    async def make(self, retention: Retention, now: Callable[[], float]) -> Inbox:
        """Return another inbox on the server."""
        return PostgresInbox(self.url, retention=retention, now=now, encryption=KeyRing([KEY]))


@pytest.mark.parametrize("rule", ENCRYPTED_RULES)
def test_encrypted_inbox_passes_the_contract(emptied_postgres: PostgresDatabase, rule: str) -> None:
    """Some rules that read everything an inbox stores hold with encryption too."""
    case = EncryptedInboxCase()
    case.url = emptied_postgres.socket_url
    getattr(case, rule)()
