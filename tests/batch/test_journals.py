"""Every journal of the library keeps every rule of a journal, and its own."""

from __future__ import annotations

import asyncio
import sys
from inspect import signature
from typing import TYPE_CHECKING, Any, Final

import pytest
from anyio import to_thread
from redis.asyncio import Redis

from veriff_async import ConfigurationError, JobClaimedError, JournalError
from veriff_async.batch import JobRecord, JobState, MediaRecord, MemoryJournal, RedisJournal, SqliteJournal
from veriff_async.testing import JournalContract

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from tests.servers import RedisServer
    from veriff_async.batch import Journal


class TestMemoryJournal(JournalContract):
    """In one process every handle is the one journal."""

    durable = False
    shared = False
    journal: MemoryJournal | None = None

    async def make(self) -> Journal:
        """Return the one journal of the test."""
        self.journal = self.journal or MemoryJournal()
        return self.journal


class TestSqliteJournal(JournalContract):
    """Every handle has connections of its own to one file, as another process has; one of them runs jobs."""

    shared = False
    path: Path

    @pytest.fixture(autouse=True)
    def fresh(self, tmp_path: Path) -> None:
        """Give each test a file of its own."""
        self.path = tmp_path / "journal.db"

    async def make(self) -> Journal:
        """Return another journal on the file."""
        return SqliteJournal(self.path)


class TestRedisJournal(JournalContract):
    """Every handle has connections of its own to one server, as another machine has."""

    url: str

    @pytest.fixture(autouse=True)
    def fresh(self, redis_server: RedisServer) -> None:
        """Give each test an empty server."""
        self.url = redis_server.url

    async def make(self) -> Journal:
        """Return another journal on the server."""
        return RedisJournal(self.url)


def record_of(job_id: str, state: JobState = JobState.NEW) -> JobRecord:
    """Return a record."""
    return JobRecord(job_id=job_id, state=state, options_digest="ab", media=(MediaRecord(context="face"),))


@pytest.fixture
async def admin(redis_server: RedisServer) -> AsyncGenerator[Redis]:
    """Give a client of the server that sees everything."""
    # Newer versions of redis-py would read what they tell the server of themselves from the disk.
    options: dict[str, Any] = {"driver_info": None} if "driver_info" in signature(Redis).parameters else {}
    async with Redis.from_url(redis_server.url, decode_responses=True, **options) as admin:
        yield admin


async def others(admin: Redis) -> int:
    """Count the connections that are not the administrator's."""
    mine = await admin.client_id()
    return sum(int(client["id"]) != mine for client in await admin.client_list())


LEASE: Final = "{veriff-batch}:claim:a"


@pytest.mark.anyio
class TestLeases:
    """A claim in Redis lasts as long as its process, and a write needs it."""

    async def test_leases_are_renewed_while_they_are_held(
        self, redis_server: RedisServer, admin: Redis, advance_time: Callable[[float], None]
    ) -> None:
        """One task renews all claims before they run out, and ends with the last of them."""
        before = asyncio.all_tasks()
        async with RedisJournal(redis_server.url, lease=1000) as journal:
            for number in range(250):
                await journal.claim(str(number))
            await journal.claim("a")
            (keeper,) = asyncio.all_tasks() - before
            for _ in range(2):
                await admin.pexpire(LEASE, 100_000)
                await asyncio.sleep(0)
                advance_time(251)
                while await admin.pttl(LEASE) <= 100_000:
                    pass
            assert keeper in asyncio.all_tasks()
            for job_id in (*map(str, range(250)), "a"):
                await journal.release(job_id)
            await asyncio.wait([keeper])
            assert not await admin.keys("*:claim:*")
            await journal.claim("a")

        assert not await admin.keys("*:claim:*")
        while await others(admin):
            pass

    async def test_a_lease_that_ran_out_writes_nothing(self, redis_server: RedisServer, admin: Redis) -> None:
        """Whoever has lost a claim is told so at the next write, whether another has the job by then, or nobody."""
        async with RedisJournal(redis_server.url) as mine, RedisJournal(redis_server.url) as other:
            await mine.claim("a")
            await mine.write(record_of("a"))
            await admin.delete(LEASE)  # as when the machine stood still for longer
            with pytest.raises(JobClaimedError, match="ran out"):
                await mine.write(record_of("a", JobState.CREATING))
            assert record_of("a") == await mine.claim("a")

            await admin.delete(LEASE)
            assert record_of("a") == await other.claim("a")
            with pytest.raises(JobClaimedError, match="ran out"):
                await mine.write(record_of("a", JobState.CREATING))
            await mine.release("a")
            await other.write(record_of("a", JobState.SUBMITTED))
            assert record_of("a", JobState.SUBMITTED) == await mine.read("a")

    async def test_a_renewal_that_others_end_is_started_again(
        self,
        redis_server: RedisServer,
        admin: Redis,
        advance_time: Callable[[float], None],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Who cancels the task that renews claims does not end them: it is started again, and the log says so."""
        before = asyncio.all_tasks()
        async with RedisJournal(redis_server.url, lease=1000) as journal:
            await journal.claim("a")
            (keeper,) = asyncio.all_tasks() - before
            keeper.cancel()
            await asyncio.wait([keeper])
            await asyncio.sleep(0)
            advance_time(63)
            while not (again := asyncio.all_tasks() - before):
                await admin.pttl(LEASE)
            await admin.pexpire(LEASE, 100_000)
            await asyncio.sleep(0)
            advance_time(251)
            while await admin.pttl(LEASE) <= 100_000:
                pass
            await journal.write(record_of("a"))
            await journal.release("a")
            await asyncio.wait(again)
        logged = [record.getMessage() for record in caplog.records if record.name.startswith("veriff_async")]
        assert ["the renewal of claims ended with CancelledError; it is started again"] == logged

    async def test_renewing_finds_what_was_lost(
        self, redis_server: RedisServer, admin: Redis, advance_time: Callable[[float], None]
    ) -> None:
        """A claim that another has by now is not renewed, nor is what was lost taken back; others are."""
        before = asyncio.all_tasks()
        async with RedisJournal(redis_server.url, lease=1000) as journal:
            await journal.claim("a")
            (keeper,) = asyncio.all_tasks() - before
            await admin.set(LEASE, "another's")
            await asyncio.sleep(0)
            advance_time(251)
            await asyncio.wait([keeper])  # it has nothing to renew any more
            with pytest.raises(JobClaimedError, match="is claimed by an active run"):
                await journal.write(record_of("a"))
            await journal.release("a")

        assert "another's" == await admin.get(LEASE)

    async def test_leases_outlive_a_server_that_is_away(
        self, redis_server: RedisServer, admin: Redis, advance_time: Callable[[float], None]
    ) -> None:
        """While the server does not answer, writes fail; when it does again the claims that it knows are renewed."""
        async with RedisJournal(redis_server.url, lease=1000, timeout=0.2) as journal:
            await journal.claim("a")
            await admin.pexpire(LEASE, 100_000)
            redis_server.freeze()
            advance_time(251)
            with pytest.raises(JournalError, match="did not answer in time"):
                await journal.write(record_of("a"))
            await journal.release("b")
            redis_server.thaw()
            while await admin.pttl(LEASE) <= 100_000:
                advance_time(70)
                await asyncio.sleep(0)
            await journal.write(record_of("a", JobState.CREATING))
            assert record_of("a", JobState.CREATING) == await journal.read("a")

    async def test_a_process_that_dies_frees_its_jobs(self, redis_server: RedisServer, admin: Redis) -> None:
        """A lease ends by itself, at most its own time after the last renewal."""
        async with RedisJournal(redis_server.url, lease=0.5) as journal:
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", HOLDING, redis_server.url, stdout=asyncio.subprocess.PIPE
            )
            assert child.stdout is not None
            assert b"held\n" == await child.stdout.readline()
            with pytest.raises(JobClaimedError, match="wait until that run ends"):
                await journal.claim("a")
            child.kill()
            await child.wait()
            assert 500 >= await admin.pttl(LEASE)
            while await admin.exists(LEASE):
                pass
            assert record_of("a") == await journal.claim("a")

    async def test_cancelling_leaves_no_claim(self, redis_server: RedisServer, admin: Redis) -> None:
        """A claim that is cancelled at whatever moment is given back, and keeps no connection."""
        async with RedisJournal(redis_server.url) as journal:
            for turns in range(40):
                claim = asyncio.ensure_future(journal.claim("a"))
                for _ in range(turns):
                    await asyncio.sleep(0)
                claim.cancel()
                await asyncio.wait([claim])
                if not claim.cancelled():
                    await journal.release("a")
                assert not await admin.exists(LEASE)
        while await others(admin):
            pass

    async def test_closing_ends_what_is_under_way(self, redis_server: RedisServer, admin: Redis) -> None:
        """Claims and writes that are under way when it is closed end well or with an error, and leave nothing."""
        journal = RedisJournal(redis_server.url)
        claims = [asyncio.ensure_future(journal.claim(str(number))) for number in range(40)]
        await asyncio.wait(claims, return_when=asyncio.FIRST_COMPLETED)
        await journal.aclose()
        await journal.aclose()
        found = await asyncio.gather(*claims, return_exceptions=True)

        assert {type(None), JournalError} >= {type(each) for each in found}
        assert not await admin.keys("*")
        while await others(admin):
            pass
        assert repr(journal).endswith("/0 {veriff-batch} closed>")


HOLDING: Final = """
import asyncio, sys
from veriff_async.batch import JobRecord, MediaRecord, RedisJournal

async def main():
    async with RedisJournal(sys.argv[1], lease=0.5) as journal:
        await journal.claim("a")
        await journal.write(JobRecord(job_id="a", options_digest="ab", media=(MediaRecord(context="face"),)))
        print("held", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.anyio
class TestRedis:
    """The journal tells in its own words what the server refuses."""

    async def test_what_it_keeps_is_a_dozen_of_keys(self, redis_server: RedisServer, admin: Redis) -> None:
        """All keys share a hash tag and a prefix, and there are no more of them than steps, and four."""
        async with RedisJournal(redis_server.url, prefix="{spring}") as journal:
            for number, state in enumerate((*JobState, *JobState)):
                await journal.claim(str(number))
                await journal.write(record_of(str(number), state))
                await journal.release(str(number))
            keys = await admin.keys("*")

        assert len(JobState) + 3 == len(keys)
        assert {"{spring}"} == {str(key).partition(":")[0] for key in keys}

    async def test_what_cannot_be_read_is_told(self, redis_server: RedisServer, admin: Redis) -> None:
        """What others wrote under the names of the journal is an error, not a crash, and its job stays free."""
        async with RedisJournal(redis_server.url) as journal:
            await admin.hset("{veriff-batch}:records", "a", "theirs")
            for _ in range(2):
                for asked in (journal.claim("a"), journal.read("a")):
                    with pytest.raises(JournalError, match="look for a newer"):
                        await asked
            await admin.set("{veriff-batch}:order", "theirs")
            await journal.claim("b")
            with pytest.raises(JournalError, match="refuses a command"):
                await journal.write(record_of("b"))

    async def test_a_full_server_is_told(self, redis_server: RedisServer, admin: Redis) -> None:
        """A server without memory says so, whichever part of a claim or a write it refuses; nothing is half written."""
        async with RedisJournal(redis_server.url) as journal:
            await journal.claim("a")
            await journal.write(record_of("a"))
            await journal.claim("b")
            await admin.config_set("maxmemory", "1kb")
            try:
                for asked in (
                    journal.claim("c"),
                    journal.write(record_of("a", JobState.CREATING)),
                    journal.write(record_of("b")),
                ):
                    with pytest.raises(JournalError, match="memory is full"):
                        await asked
            finally:
                await admin.config_set("maxmemory", "0")
            assert [record_of("a")] == [record async for record in journal.iter_records()]
            assert {JobState.NEW: 1} == {
                state: count for state, count in (await journal.count_by_state()).items() if count
            }

    async def test_a_replica_is_told(self, redis_server: RedisServer, redis_replica: RedisServer) -> None:
        """A claim at a replica says what to do, and what was written can be read there."""
        async with RedisJournal(redis_replica.url) as journal:
            with pytest.raises(JournalError, match="it is a replica"):
                await journal.claim("a")

    def test_one_loop_at_a_time(self, redis_server: RedisServer) -> None:
        """While the loop that uses a journal lives no other may; after its end another begins anew, without claims."""
        journal = RedisJournal(redis_server.url, timeout=0.5)

        async def first() -> None:
            await journal.claim("a")
            await journal.write(record_of("a"))
            with pytest.raises(ConfigurationError, match="make one for each"):
                await to_thread.run_sync(asyncio.run, journal.read("a"))
            await journal.release("a")
            await to_thread.run_sync(redis_server.freeze)
            with pytest.raises(JournalError, match="did not answer in time"):  # and nothing is left open
                await journal.read("a")
            redis_server.thaw()

        async def second() -> None:
            assert record_of("a") == await journal.claim("a")
            await journal.aclose()

        asyncio.run(first())
        asyncio.run(second())

    @pytest.mark.parametrize(
        "options", [{"timeout": 0.0}, {"lease": 0.0}, {"lease": float("nan")}, {"lease": float("inf")}, {"prefix": ""}]
    )
    def test_options_that_cannot_work_are_refused(self, options: dict[str, object]) -> None:
        """Options are checked when they are given."""
        with pytest.raises(ConfigurationError, match=r"(RedisJournal needs|give seconds above zero)"):
            RedisJournal("redis://localhost", **options)  # type: ignore[arg-type]

    def test_a_url_that_cannot_work_is_refused(self) -> None:
        """A url is checked when it is given, and never shown."""
        with pytest.raises(ConfigurationError, match="url of RedisJournal cannot be read"):
            RedisJournal("http://:sesame@localhost")
        assert "sesame" not in repr(RedisJournal("redis://:sesame@localhost"))
