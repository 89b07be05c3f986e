"""Options of inboxes: invalid ones are refused when the inbox is made, not with the first webhook."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from veriff_async import ConfigurationError
from veriff_async.batch import PostgresJournal, RedisJournal
from veriff_async.inbox import MemoryInbox, PostgresInbox, RedisInbox, SqliteInbox

if TYPE_CHECKING:
    from collections.abc import Callable

URL = "redis://localhost"
POSTGRES_URL = "postgresql://localhost"


@pytest.mark.parametrize(
    "make",
    [
        MemoryInbox,
        lambda **options: SqliteInbox("a.db", **options),
        lambda **options: RedisInbox(URL, **options),
        lambda **options: PostgresInbox(POSTGRES_URL, **options),
    ],
)
@pytest.mark.parametrize("options", [{"retention": 86_400}, {"retention": "30 days"}, {"now": 5}])
def test_every_inbox_checks_its_options(make: Callable[..., object], options: dict[str, object]) -> None:
    """A retention that is a number, and a clock that cannot be called, are named in the error."""
    with pytest.raises(ConfigurationError, match=rf"^{next(iter(options))} must be a"):
        make(**options)


@pytest.mark.parametrize("given", ["1", None, True, 0, -1.0, float("nan")])
def test_seconds_must_be_above_zero(given: object) -> None:
    """Invalid seconds raise an error of this library."""
    makes: dict[str, list[Callable[[], object]]] = {
        "watch": [lambda: SqliteInbox("a.db", watch=given)],  # type: ignore[arg-type]
        "timeout": [
            lambda: RedisInbox(URL, timeout=given),  # type: ignore[arg-type]
            lambda: RedisJournal(URL, timeout=given),  # type: ignore[arg-type]
            lambda: PostgresInbox(POSTGRES_URL, timeout=given),  # type: ignore[arg-type]
            lambda: PostgresJournal(POSTGRES_URL, timeout=given),  # type: ignore[arg-type]
        ],
        "lease": [
            lambda: RedisJournal(URL, lease=given),  # type: ignore[arg-type]
            lambda: PostgresJournal(POSTGRES_URL, lease=given),  # type: ignore[arg-type]
        ],
    }
    for name, each in makes.items():
        for make in each:
            with pytest.raises(ConfigurationError, match=rf"^{name} is .*: give seconds above zero"):
                make()


@pytest.mark.parametrize("make", [RedisInbox, RedisJournal])
@pytest.mark.parametrize("given", [None, 5, b"redis://localhost", object()])
def test_server_must_be_a_url_or_a_client(make: Callable[[object], object], given: object) -> None:
    """An unset environment variable, for example, is named as the mistake."""
    with pytest.raises(ConfigurationError, match=r"needs a url, or a client of redis.asyncio, not"):
        make(given)
