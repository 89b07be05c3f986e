"""Processes with wrong clocks, and deletion by age."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import pytest

from veriff_async.inbox import IgnoredReason, MemoryInbox, RedisInbox, Retention, SqliteInbox
from veriff_async.testing import decision_event, session_event

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.servers import RedisServer
    from veriff_async.inbox import Inbox

pytestmark = pytest.mark.anyio

DAY: Final = 86_400.0
SESSIONS: Final = [f"s-{number}" for number in range(5)]


def clock(days: float) -> Callable[[], float]:
    """Return a clock that is some days off."""
    return lambda: time.time() + days * DAY


async def fill(inbox: Inbox) -> None:
    """Record a decision on each session."""
    await asyncio.gather(*(inbox.record(decision_event(session_id, "approved")) for session_id in SESSIONS))


@pytest.mark.parametrize("days", [31, 29, 400, 100_000])
async def test_clock_that_is_ahead_deletes_nothing(tmp_path: Path, days: int) -> None:
    """It neither deletes nor hides records of other processes, and recognizes repetitions."""
    path = tmp_path / "inbox.db"
    async with SqliteInbox(path) as right, SqliteInbox(path, now=clock(days)) as wrong:
        await fill(right)
        for number in range(3):
            await wrong.record(session_event(f"new-{number}", "started"))
            assert (await wrong.record(decision_event(SESSIONS[number], "approved"))).ignored is IgnoredReason.DUPLICATE
            assert set(SESSIONS) == set(await wrong.get_states(SESSIONS))
            assert 1 == len(await wrong.get_events(SESSIONS[number]))
            await right.record(session_event(f"other-{number}", "started"))
        assert set(SESSIONS) == set(await right.get_states(SESSIONS))


@pytest.mark.parametrize("days", [31, 400])
async def test_records_of_a_clock_that_is_behind_are_kept(tmp_path: Path, days: int) -> None:
    """Its records do not look expired to other processes, which do not delete them either."""
    path = tmp_path / "inbox.db"
    async with SqliteInbox(path) as right, SqliteInbox(path, now=clock(-days)) as wrong:
        await right.record(session_event("first", "started"))
        await fill(wrong)
        await right.record(session_event("next", "started"))
        assert {*SESSIONS, "first"} == set(await right.get_states([*SESSIONS, "first"]))


async def test_doubted_clock_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log says that this clock deletes nothing, and has the remedy."""
    path = tmp_path / "inbox.db"
    async with SqliteInbox(path) as right, SqliteInbox(path, now=clock(31)) as wrong:
        await fill(right)
        for number in range(3):
            await wrong.record(session_event(f"new-{number}", "started"))
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert 1 == len(warnings)
    assert "31 days after the last record" in warnings[0]


async def test_clock_is_trusted_after_a_day(tmp_path: Path) -> None:
    """Sessions that expired during a silence are deleted a day after the next record."""
    now = [1_800_000_000.0]
    async with SqliteInbox(tmp_path / "inbox.db", now=lambda: now[0]) as inbox:
        await fill(inbox)
        for days in (60.0, 0.5, 0.5):
            now[0] += days * DAY
            await inbox.record(session_event("new", "started"))
        assert {} == dict(await inbox.get_states(SESSIONS))
        assert {"new"} == set(await inbox.get_states(["new"]))


async def test_redis_uses_the_time_of_its_server(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clocks of processes are not used, so a wrong one neither deletes nor hides anything."""
    async with RedisInbox(redis_server.url) as inbox:
        await fill(inbox)
        with monkeypatch.context() as patched:
            patched.setattr(time, "time", partial(next, count(time.time() + 400 * DAY)))
            await inbox.record(session_event("new", "started"))
            await inbox.record(decision_event(SESSIONS[0], "approved"))
            assert set(SESSIONS) == set(await inbox.get_states(SESSIONS))
            assert 1 == len(await inbox.get_events(SESSIONS[1]))


async def test_redis_deletes_by_the_time_of_its_server(redis_server: RedisServer) -> None:
    """Sessions that are expired by the server's time are hidden and deleted."""
    async with RedisInbox(redis_server.url, retention=Retention(max_age=1e-6)) as inbox:
        await fill(inbox)
        assert {} == dict(await inbox.get_states(SESSIONS))
        assert () == await inbox.get_events(SESSIONS[0])


async def test_changed_system_clock_does_not_empty_memory_inbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """In memory, age is measured by a monotonic clock."""
    async with MemoryInbox() as inbox:
        await fill(inbox)
        ahead: Any = clock(400)
        monkeypatch.setattr(time, "time", partial(next, count(ahead())))
        await inbox.record(session_event("new", "started"))
        assert set(SESSIONS) == set(await inbox.get_states(SESSIONS))
