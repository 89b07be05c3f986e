"""PostgresJournal passes the contract of journals, and keeps its leases and limits exact on a server that fails."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest
from anyio import to_thread

from tests.postgres_proxy import proxy_of
from veriff_async import ConfigurationError, JobClaimedError, JournalError
from veriff_async.batch import JobRecord, JobState, MediaRecord, PostgresJournal, SessionLimits
from veriff_async.testing import JournalContract

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.postgres_server import PostgresDatabase
    from veriff_async.batch import Journal

SECONDS: Final = 30.0
"""The time limit of requests, for a busy machine."""


class TestPostgresJournal(JournalContract):
    """Every handle has its own connections to the server, as another machine has."""

    url: str

    @pytest.fixture(autouse=True)
    def fresh(self, postgres: PostgresDatabase) -> None:
        """Use an empty schema for each test."""
        self.url = postgres.url

    async def make(self) -> Journal:
        """Return another journal on the server."""
        return PostgresJournal(self.url)


def record_of(job_id: str, state: JobState = JobState.NEW) -> JobRecord:
    """Return a record."""
    return JobRecord(job_id=job_id, state=state, options_digest="ab", media=(MediaRecord(context="face"),))


async def ask(database: PostgresDatabase, sql: str) -> list[tuple[Any, ...]]:
    """Run a statement on a connection of its own, and return its rows."""
    return await to_thread.run_sync(database.execute, sql)


async def seconds_left(database: PostgresDatabase) -> float:
    """Return for how long the oldest lease lasts."""
    ((left,),) = await ask(
        database, "SELECT extract(epoch FROM min(expires_at) - clock_timestamp())::float8 FROM veriff_journal_claims"
    )
    return float(left)


EXPIRE: Final = "UPDATE veriff_journal_claims SET expires_at = clock_timestamp() - interval '1 second'"


@pytest.mark.anyio
class TestLeases:
    """A claim is a lease that the process renews, and each write needs it."""

    async def test_one_task_renews_all_leases(
        self, postgres: PostgresDatabase, advance_time: Callable[[float], None]
    ) -> None:
        """One task renews all leases before they expire, and ends with the last claim."""
        before = asyncio.all_tasks()
        async with PostgresJournal(postgres.url, lease=1000, timeout=SECONDS) as journal:
            for number in range(150):
                await journal.claim(str(number))
            (renewal,) = asyncio.all_tasks() - before
            await ask(postgres, "UPDATE veriff_journal_claims SET expires_at = clock_timestamp() + interval '100 s'")
            advance_time(251)
            while await seconds_left(postgres) <= 100:
                pass
            assert renewal in asyncio.all_tasks()
            for number in range(150):
                await journal.release(str(number))
            await asyncio.wait([renewal])
            await journal.claim("a")

        assert [] == await ask(postgres, "SELECT job_id FROM veriff_journal_claims")

    async def test_lost_lease_refuses_the_write(self, postgres: PostgresDatabase) -> None:
        """A journal whose job another one has claimed gets JobClaimedError at its next write, and writes nothing."""
        async with (
            PostgresJournal(postgres.url, timeout=SECONDS) as mine,
            PostgresJournal(postgres.url, timeout=SECONDS) as other,
        ):
            await mine.claim("a")
            await mine.write(record_of("a"))
            await ask(postgres, EXPIRE)  # as when the machine stood still for longer
            assert record_of("a") == await other.claim("a")
            for record in (record_of("a", JobState.CREATING), record_of("a").with_creation()):
                with pytest.raises(JobClaimedError, match=r"ran out|claimed by an active run"):
                    await mine.write(record)
            await mine.release("a")
            await other.write(record_of("a", JobState.SUBMITTED))
            assert record_of("a", JobState.SUBMITTED) == await mine.read("a")

    async def test_renewal_drops_lost_claims(
        self, postgres: PostgresDatabase, advance_time: Callable[[float], None]
    ) -> None:
        """A renewal drops the claims that another journal has now."""
        before = asyncio.all_tasks()
        async with PostgresJournal(postgres.url, lease=1000, timeout=SECONDS) as journal:
            await journal.claim("a")
            (renewal,) = asyncio.all_tasks() - before
            await ask(postgres, "UPDATE veriff_journal_claims SET token = 'another'")
            advance_time(251)
            await asyncio.wait([renewal])  # it has nothing to renew any more
            with pytest.raises(JobClaimedError, match="is claimed by an active run"):
                await journal.write(record_of("a"))

        assert [(b"another",)] == await ask(postgres, "SELECT token FROM veriff_journal_claims")

    async def test_lease_of_a_dead_process_expires(self, postgres: PostgresDatabase) -> None:
        """The lease of a process that was killed expires, and the job continues with its last record."""
        async with PostgresJournal(postgres.url, lease=0.5, timeout=SECONDS) as journal:
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", HOLDING, postgres.url, stdout=asyncio.subprocess.PIPE
            )
            assert child.stdout is not None
            assert b"held\n" == await child.stdout.readline()
            with pytest.raises(JobClaimedError, match="wait until that run ends"):
                await journal.claim("a")
            child.kill()
            await child.wait()
            while (left := await seconds_left(postgres)) > 0:  # noqa: ASYNC110  in the server
                await asyncio.sleep(left)
            assert record_of("a") == await journal.claim("a")

    async def test_cancelled_claim_is_released(self, postgres: PostgresDatabase) -> None:
        """A claim that is cancelled at any moment is released."""
        async with PostgresJournal(postgres.url, timeout=SECONDS) as journal:
            await journal.read("a")
            for turns in range(0, 40, 3):
                claim = asyncio.ensure_future(journal.claim("a"))
                for _ in range(turns):
                    await asyncio.sleep(0)
                claim.cancel()
                await asyncio.wait([claim])
                if not claim.cancelled():
                    await journal.release("a")
                assert [] == await ask(postgres, "SELECT job_id FROM veriff_journal_claims")

    async def test_closing_ends_pending_requests(self, postgres: PostgresDatabase) -> None:
        """Claims that are pending when the journal is closed succeed or raise, and no lease remains."""
        journal = PostgresJournal(postgres.url, timeout=SECONDS)
        await journal.read("a")
        claims = [asyncio.ensure_future(journal.claim(str(number))) for number in range(40)]
        await asyncio.wait(claims, return_when=asyncio.FIRST_COMPLETED)
        await journal.aclose()
        await journal.aclose()
        found = await asyncio.gather(*claims, return_exceptions=True)

        assert {type(None), JournalError} >= {type(each) for each in found}
        assert [] == await ask(postgres, "SELECT job_id FROM veriff_journal_claims")
        assert repr(journal).endswith("/postgres default closed>")


HOLDING: Final = """
import asyncio, sys
from veriff_async.batch import JobRecord, MediaRecord, PostgresJournal

async def main():
    async with PostgresJournal(sys.argv[1], lease=0.5) as journal:
        await journal.claim("a")
        await journal.write(JobRecord(job_id="a", options_digest="ab", media=(MediaRecord(context="face"),)))
        print("held", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.anyio
class TestServer:
    """A server that fails loses no record, and no response that is lost counts twice."""

    async def test_lost_responses_change_nothing(self, postgres: PostgresDatabase) -> None:
        """A claim, a write and a creation whose response is lost are done again, and count once."""
        limits = SessionLimits(max_sessions=1)
        async with proxy_of(postgres) as proxy, PostgresJournal(proxy.url, timeout=SECONDS) as journal:
            await journal.read("a")
            proxy.cut, proxy.cuts = b"INSERT INTO veriff_journal_claims", 1
            assert await journal.claim("a") is None
            proxy.cut, proxy.cuts = b"INSERT INTO veriff_journal_records", 1
            await journal.write(record_of("a"))
            proxy.cut, proxy.cuts = b"COMMIT\0", 1
            usage = await journal.reserve(record_of("a").with_creation(), limits)
            assert (0, 0) == (proxy.cuts, usage.retry_after)
            assert 1 == (await journal.session_usage(limits)).total
            assert record_of("a").with_creation() == await journal.read("a")

    async def test_commits_survive_a_crash_of_the_server(self, durable_postgres: PostgresDatabase) -> None:
        """Each record that was written before the server was killed is there when it is back; so are the claims."""
        async with PostgresJournal(durable_postgres.url, timeout=SECONDS) as journal:
            for number in range(2):
                await journal.claim(str(number))
                await journal.write(record_of(str(number), JobState.SUBMITTED))
            await to_thread.run_sync(durable_postgres.server.restart)
            await journal.write(record_of("0", JobState.DECIDED))
            assert {JobState.DECIDED: 1, JobState.SUBMITTED: 1} == await journal.count_by_state()

    async def test_batches_do_not_see_each_other(self, postgres: PostgresDatabase) -> None:
        """Batches in the same tables have jobs, claims and limits of their own."""
        limits = SessionLimits(max_sessions=1)
        for batch in ("spring", "summer", "n" * 5_000):
            async with PostgresJournal(postgres.url, batch=batch, timeout=SECONDS) as journal:
                assert await journal.claim("a") is None
                assert 0 == (await journal.reserve(record_of("a").with_creation(), limits)).retry_after
        assert 3 == len(await ask(postgres, "SELECT batch FROM veriff_journal_records"))

    async def test_clock_that_was_set_back_blocks_no_creation_for_long(self, postgres: PostgresDatabase) -> None:
        """A creation of the future counts from now on, so its hour ends in an hour at most."""
        limits = SessionLimits(max_per_hour=1)
        async with PostgresJournal(postgres.url, timeout=SECONDS) as journal:
            await journal.claim("a")
            await journal.reserve(record_of("a").with_creation(), limits)
            await ask(
                postgres, "UPDATE veriff_journal_creations SET created_at = clock_timestamp() + interval '9 days'"
            )
            assert 3590 < (await journal.session_usage(limits)).retry_after <= 3600

    async def test_foreign_data_raises_journal_error(self, postgres: PostgresDatabase) -> None:
        """A record that cannot be read raises JournalError, and the job stays free."""
        async with PostgresJournal(postgres.url, timeout=SECONDS) as journal:
            await journal.claim("a")
            await journal.write(record_of("a"))
            await journal.release("a")
            await ask(postgres, "UPDATE veriff_journal_records SET record = 'theirs'")
            for _ in range(2):
                for asked in (journal.claim("a"), journal.read("a")):
                    with pytest.raises(JournalError, match="newer"):
                        await asked

    @pytest.mark.parametrize("options", [{"lease": float("inf")}, {"lease": float("nan")}, {"batch": ""}])
    def test_invalid_options_are_refused(self, options: dict[str, Any]) -> None:
        """The constructor refuses a lease or a batch that cannot work."""
        with pytest.raises(ConfigurationError, match=r"PostgresJournal needs|give seconds above zero"):
            PostgresJournal("postgresql://localhost", **options)
