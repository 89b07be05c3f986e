"""Addresses of servers: a password that is not encoded is refused, rather than shown as a part of the address."""

from __future__ import annotations

import pytest

from veriff_async import ConfigurationError
from veriff_async.batch import PostgresJournal, RedisJournal
from veriff_async.inbox import PostgresInbox, RedisInbox


@pytest.mark.parametrize(
    "password", ["first/second@third", "first@second", "first/second", "12/34@56", "12@34", "12/34", "12/"]
)
@pytest.mark.parametrize("store", [PostgresInbox, PostgresJournal])
def test_password_is_no_part_of_the_address_of_postgresql(
    store: type[PostgresInbox | PostgresJournal], password: str
) -> None:
    """The rest of such a password would be, for libpq, a host, a port or a database, which errors and logs show."""
    with pytest.raises(ConfigurationError, match="special characters of the password") as caught:
        store(f"postgresql://user:{password}@localhost/data")

    assert password not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize("password", ["12?34", "12#34", "first?second", "first#second", "first/second"])
@pytest.mark.parametrize("store", [RedisInbox, RedisJournal])
def test_password_is_no_part_of_the_address_of_redis(store: type[RedisInbox | RedisJournal], password: str) -> None:
    """The same with Redis: its URL ends at such a character, and the password would be the host or port."""
    with pytest.raises(ConfigurationError, match="url of Redis") as caught:
        store(f"redis://user:{password}@localhost:6379/0")

    assert password not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("host", ["%40socket", "%2Frun%2Fpostgresql", "first,second", "[::1]", ""])
def test_other_addresses_of_postgresql_are_accepted(host: str) -> None:
    """A socket, several hosts, IPv6 and an encoded password are read."""
    assert "word" not in repr(PostgresInbox(f"postgresql://user:pass%40%2Fword@{host}/data?application_name=a@b"))
