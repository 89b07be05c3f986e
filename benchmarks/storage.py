"""How much inboxes and journals store for one session, on disk and in Redis."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from redis.asyncio import Redis

from benchmarks.bodies import ORDINARY, RICH, as_body, unlike
from benchmarks.measure import Spread
from benchmarks.servers import redis_running
from benchmarks.sink import running_sink
from benchmarks.table import Row, Table
from benchmarks.uploads import write
from benchmarks.work import KEY, SECRET
from veriff_async import Credentials, Media, VeriffClient, WebhookReceiver
from veriff_async.batch import Job, RateLimits, RedisJournal, SqliteJournal, verify_many
from veriff_async.inbox import RedisInbox, SqliteInbox
from veriff_async.testing.factories import session_event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.measure import Plan
    from veriff_async.batch import Journal
    from veriff_async.inbox import Inbox

__all__ = ("run",)

_CREDENTIALS: Final = Credentials(KEY, SECRET)
_ACTIONS: Final = ("started", "submitted")
_SHOWS: Final = ("document-front", "document-back", "face")
_COLUMN: Final = "KiB/session"
_KIB: Final = 1024
_MANY, _SMOKE_MANY = 300, 20
_DECISIONS: Final = {"ordinary": ORDINARY, "rich": RICH}


def run(plan: Plan) -> Iterator[Table]:
    """Measure inboxes and journals; Redis is left out where no server is found."""
    count = _SMOKE_MANY if plan.smoke else _MANY
    with redis_running() as url, TemporaryDirectory() as folder:
        notes = () if url else ("left out: Redis (no redis-server or valkey-server was found)",)
        yield Table(
            subject="storage",
            title=f"inbox: two session events and a decision for each of {count:,} sessions",
            columns=(_COLUMN,),
            rows=tuple(_inboxes(Path(folder), url, count)),
            notes=notes,
        )
        yield Table(
            subject="storage",
            title=f"journal: {count:,} jobs of three pictures, decided",
            columns=(_COLUMN,),
            rows=tuple(_journals(Path(folder), url, count)),
            notes=notes,
        )


def _inboxes(folder: Path, url: str | None, count: int) -> Iterator[Row]:
    for name, decision in _DECISIONS.items():
        bodies = [as_body(unlike(decision, number)) for number in range(count)]
        label = f"{name} decision, {len(bodies[0])} bytes"
        path = folder / f"{name}.db"
        asyncio.run(_record(SqliteInbox(path), bodies))
        yield _row(f"SqliteInbox, {label}", path.stat().st_size / count)
        if url is not None:
            before = asyncio.run(_used(url))
            asyncio.run(_record(RedisInbox(url, prefix=name), bodies))
            yield _row(f"RedisInbox, {label}", (asyncio.run(_used(url)) - before) / count)


async def _record(inbox: SqliteInbox | RedisInbox, bodies: list[bytes]) -> None:
    """Receive the webhooks of sessions that were started, submitted and decided."""
    async with inbox, WebhookReceiver(_CREDENTIALS, inbox) as receiver:
        for body in bodies:
            signature = _CREDENTIALS.sign(body)
            result = await receiver.receive({"x-auth-client": KEY, "x-hmac-signature": signature}, body)
            await _record_actions(inbox, result.event.session_id or "")


async def _record_actions(inbox: Inbox, session_id: str) -> None:
    for action in _ACTIONS:
        await inbox.record(session_event(session_id, action))


def _journals(folder: Path, url: str | None, count: int) -> Iterator[Row]:
    picture = write(folder / "front.jpg", 20_000)
    with running_sink() as port:
        path = folder / "journal.db"
        asyncio.run(_verify(SqliteJournal(path), picture, port, count))
        yield _row("SqliteJournal", path.stat().st_size / count)
        if url is not None:
            before = asyncio.run(_used(url))
            asyncio.run(_verify(RedisJournal(url, prefix="journal"), picture, port, count))
            yield _row("RedisJournal", (asyncio.run(_used(url)) - before) / count)


async def _verify(journal: SqliteJournal | RedisJournal, picture: Path, port: int, count: int) -> None:
    jobs = (Job(f"user-{number}", [Media(picture, shows) for shows in _SHOWS]) for number in range(count))
    fast = RateLimits(initial=10_000.0, maximum=10_000.0)
    base_url = f"http://127.0.0.1:{port}"
    async with journal, VeriffClient(_CREDENTIALS, base_url=base_url) as veriff:
        opened: Journal = journal
        async for result in verify_many(veriff, jobs, journal=opened, concurrency=32, rate_limits=fast):
            assert result.decision is not None, result.error


async def _used(url: str) -> int:
    """Return the bytes that the server's data takes."""
    async with Redis.from_url(url) as redis:
        found: dict[str, int] = await redis.info("memory")
        return found["used_memory_dataset"]


def _row(label: str, size: float) -> Row:
    kib = size / _KIB
    return Row(label, {_COLUMN: Spread(kib, kib, kib)})
