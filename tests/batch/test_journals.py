"""Every journal of the library passes the contract of journals, and tests of its own."""

from __future__ import annotations

import asyncio
import sys
import unittest
from inspect import signature
from typing import TYPE_CHECKING, Any, Final

import pytest
from anyio import to_thread
from attrs import evolve
from redis.asyncio import Redis

from tests.conditions import needs_posix
from veriff_async import ConfigurationError, JobClaimedError, JournalError
from veriff_async.batch import JobRecord, JobState, MediaRecord, MemoryJournal, RedisJournal, SqliteJournal
from veriff_async.testing import JournalContract
from veriff_async.testing._journal_erasure_rules import JournalErasureContract

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection
    from pathlib import Path

    from tests.servers import RedisServer
    from veriff_async.batch import Journal


class TestMemoryJournal(JournalContract):
    """Every handle is the same journal in memory."""

    durable = False
    shared = False
    journal: MemoryJournal | None = None

    async def make(self) -> Journal:
        """Return the one journal of the test."""
        self.journal = self.journal or MemoryJournal()
        return self.journal


class TestSqliteJournal(JournalContract):
    """Every handle has its own connections to the file, as another process has; one of them runs jobs."""

    shared = False
    path: Path

    @pytest.fixture(autouse=True)
    def fresh(self, tmp_path: Path) -> None:
        """Choose a new file for each test."""
        self.path = tmp_path / "journal.db"

    async def make(self) -> Journal:
        """Return another journal on the file."""
        return SqliteJournal(self.path)


class TestRedisJournal(JournalContract):
    """Every handle has its own connections to the server, as another machine has."""

    url: str

    @pytest.fixture(autouse=True)
    def fresh(self, redis_server: RedisServer) -> None:
        """Use an empty server for each test."""
        self.url = redis_server.url

    async def make(self) -> Journal:
        """Return another journal on the server."""
        return RedisJournal(self.url)


def record_of(job_id: str, state: JobState = JobState.NEW) -> JobRecord:
    """Return a record."""
    return JobRecord(job_id=job_id, state=state, options_digest="ab", media=(MediaRecord(context="face"),))


@pytest.fixture
async def admin(redis_server: RedisServer) -> AsyncGenerator[Redis]:
    """Connect a client that sees all keys and connections."""
    # Newer versions of redis-py would read their own version, which they send to the server, from the disk.
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
    """A claim in Redis is a lease that the process renews, and each write needs it."""

    async def test_one_task_renews_all_leases(
        self, redis_server: RedisServer, admin: Redis, advance_time: Callable[[float], None]
    ) -> None:
        """One task renews all leases before they expire, and ends with the last claim."""
        before = asyncio.all_tasks()
        async with RedisJournal(redis_server.url, lease=1000) as journal:
            for number in range(250):
                await journal.claim(str(number))
            await journal.claim("a")
            (renewal,) = asyncio.all_tasks() - before
            for _ in range(2):
                await admin.pexpire(LEASE, 100_000)
                await asyncio.sleep(0)
                advance_time(251)
                while await admin.pttl(LEASE) <= 100_000:
                    pass
            assert renewal in asyncio.all_tasks()
            for job_id in (*map(str, range(250)), "a"):
                await journal.release(job_id)
            await asyncio.wait([renewal])
            assert not await admin.keys("*:claim:*")
            await journal.claim("a")

        assert not await admin.keys("*:claim:*")
        while await others(admin):
            pass

    async def test_expired_lease_refuses_the_write(self, redis_server: RedisServer, admin: Redis) -> None:
        """A journal that has lost a claim gets JobClaimedError at its next write, also if the job is free."""
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

    async def test_cancelled_renewal_is_restarted(
        self,
        redis_server: RedisServer,
        admin: Redis,
        advance_time: Callable[[float], None],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """The journal restarts a renewal task that other code cancels, and logs that."""
        before = asyncio.all_tasks()
        async with RedisJournal(redis_server.url, lease=1000) as journal:
            await journal.claim("a")
            (renewal,) = asyncio.all_tasks() - before
            renewal.cancel()
            await asyncio.wait([renewal])
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
        assert ["The renewal of claims ended with CancelledError; it is started again."] == logged

    async def test_renewal_drops_lost_claims(
        self, redis_server: RedisServer, admin: Redis, advance_time: Callable[[float], None]
    ) -> None:
        """A renewal drops expired claims, also those that another journal has now, and renews the others."""
        before = asyncio.all_tasks()
        async with RedisJournal(redis_server.url, lease=1000) as journal:
            await journal.claim("a")
            (renewal,) = asyncio.all_tasks() - before
            await admin.set(LEASE, "another's")
            await asyncio.sleep(0)
            advance_time(251)
            await asyncio.wait([renewal])  # it has nothing to renew any more
            with pytest.raises(JobClaimedError, match="is claimed by an active run"):
                await journal.write(record_of("a"))
            await journal.release("a")

        assert "another's" == await admin.get(LEASE)

    @needs_posix
    async def test_leases_are_renewed_after_a_server_outage(
        self, redis_server: RedisServer, admin: Redis, advance_time: Callable[[float], None]
    ) -> None:
        """Writes fail while the server does not respond; then the claims that it still has are renewed."""
        async with RedisJournal(redis_server.url, lease=1000, timeout=1) as journal:
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

    async def test_lease_of_a_dead_process_expires(self, redis_server: RedisServer, admin: Redis) -> None:
        """The lease of a dead process expires at most `lease` seconds after the last renewal."""
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
            while (left := await admin.pttl(LEASE)) >= 0:  # noqa: ASYNC110  in the server
                await asyncio.sleep(left / 1000)
            assert record_of("a") == await journal.claim("a")

    async def test_cancelled_claim_is_released(self, redis_server: RedisServer, admin: Redis) -> None:
        """A claim that is cancelled at any moment is released, and keeps no connection."""
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

    async def test_closing_ends_pending_requests(self, redis_server: RedisServer, admin: Redis) -> None:
        """Claims that are pending when the journal is closed succeed or raise, and no lease remains."""
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
    """Errors of the server become JournalError, with a remedy."""

    async def test_number_of_keys_is_constant(self, redis_server: RedisServer, admin: Redis) -> None:
        """All keys have the same hash tag, and their number does not depend on the number of jobs."""
        async with RedisJournal(redis_server.url, prefix="{spring}") as journal:
            for number, state in enumerate((*JobState, *JobState)):
                await journal.claim(str(number))
                await journal.write(record_of(str(number), state))
                await journal.release(str(number))
            keys = await admin.keys("*")

        assert len(JobState) + 3 == len(keys)
        assert {"{spring}"} == {str(key).partition(":")[0] for key in keys}

    async def test_record_that_got_another_session_is_kept(self, redis_server: RedisServer) -> None:
        """An erasure that comes late leaves a record alone that has another session by now, or is deleted."""
        async with RedisJournal(redis_server.url) as journal:
            await journal.claim("a")
            await journal.write(evolve(record_of("a"), session_id="old"))
            stale = await journal.read("a")
            await journal.write(evolve(record_of("a"), session_id="new"))
            await journal.release("a")
            assert not await journal._erase(journal._get_client(), stale, {"old"})
            assert 0 == await journal.erase(["old"])
            assert 1 == await journal.erase(["new"])

    async def test_index_of_a_state_may_be_behind(self, redis_server: RedisServer, admin: Redis) -> None:
        """A record that is no longer in a state is not returned, and a large journal is read in parts."""
        async with RedisJournal(redis_server.url) as journal:
            await journal.claim("a")
            await journal.write(record_of("a"))
            await admin.zadd(journal._states[JobState.FAILED], {"a": 1})
            assert [] == [record async for record in journal.iter_records(JobState.FAILED)]
            text = await admin.hget("{veriff-batch}:records", "a")
            await admin.hset("{veriff-batch}:records", mapping={f"a{number}": str(text) for number in range(700)})
            assert 0 == await journal.reencrypt()

    async def test_foreign_data_raises_journal_error(self, redis_server: RedisServer, admin: Redis) -> None:
        """Data of another program under the keys of the journal raises JournalError, and the job stays free."""
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

    async def test_full_server_refuses_whole_writes(self, redis_server: RedisServer, admin: Redis) -> None:
        """A server without memory refuses a claim or a write as a whole, with a clear error."""
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

    async def test_replica_refuses_claims(self, redis_server: RedisServer, redis_replica: RedisServer) -> None:
        """A claim at a replica raises an error with a remedy."""
        async with RedisJournal(redis_replica.url) as journal:
            with pytest.raises(JournalError, match="it is a replica"):
                await journal.claim("a")

    def test_second_event_loop_is_refused(self, redis_server: RedisServer) -> None:
        """Only one event loop may use a journal at a time; after its end another starts without claims."""
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
    def test_invalid_options_are_refused(self, options: dict[str, object]) -> None:
        """The constructor refuses a timeout, lease or prefix that cannot work."""
        with pytest.raises(ConfigurationError, match=r"(RedisJournal needs|give seconds above zero)"):
            RedisJournal("redis://localhost", **options)  # type: ignore[arg-type]

    def test_invalid_url_is_refused_and_not_shown(self) -> None:
        """The constructor refuses an invalid URL, and the error does not show it."""
        with pytest.raises(ConfigurationError, match="url of RedisJournal cannot be read"):
            RedisJournal("http://:sesame@localhost")
        assert "sesame" not in repr(RedisJournal("redis://:sesame@localhost"))


class _Blank(MemoryJournal):
    async def read(self, job_id: str) -> JobRecord | None:
        return None


class _Careless(MemoryJournal):
    async def erase(self, session_ids: Collection[str]) -> int:
        return 0


class _Keeping(MemoryJournal):
    """A journal without the optional method."""

    erase = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("kind", "rule", "error", "words"),
    [
        (_Blank, "test_erased_job_can_be_claimed_as_new", AssertionError, "does not return a record that was written"),
        (_Careless, "test_erase_refuses_a_single_text", AssertionError, "expected 'InvalidArgumentError'"),
        (_Keeping, "test_erase_refuses_a_single_text", unittest.SkipTest, "no method erase, which is optional"),
    ],
)
def test_contract_detects_a_journal_that_breaks_a_rule(
    kind: type[MemoryJournal], rule: str, error: type[Exception], words: str
) -> None:
    """The contract fails for a journal that breaks a rule, and skips the rules of a method that it does not have."""

    class BrokenCase(JournalContract):
        async def make(self) -> Journal:
            return kind()

    with pytest.raises(error, match=words):
        getattr(BrokenCase(), rule)()


@pytest.mark.parametrize("kind", [JournalContract, JournalErasureContract])
def test_contract_needs_a_way_to_make_the_journal(kind: type[JournalErasureContract]) -> None:
    """A contract without `make` fails each test."""
    with pytest.raises(NotImplementedError):
        kind().test_erase_refuses_a_single_text()
