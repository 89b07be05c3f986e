"""Workers of several processes on one queue of Redis or Valkey, some of which are killed.

``VERIFF_KILLS=200`` kills as often as that; without it a few times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.conditions import needs_posix
from tests.inbox.test_redis import client_of
from tests.inbox.test_survival import DYING, KILLS, moments, run, start_process
from veriff_async._protocol.webhook import event_from
from veriff_async.inbox import RedisInbox

if TYPE_CHECKING:
    from tests.servers import RedisServer

pytestmark = pytest.mark.usefixtures("without_coverage")  # a killed process writes no coverage data

SESSIONS: Final = ("a", "b", "c", "d")
EVENTS: Final = 5
"""Events of each session in each round."""

WORKING: Final = (
    DYING
    + """
from redis.asyncio import Redis
from veriff_async.inbox import DeliveryOutcome, DeliveryStatus, RedisInbox


async def main():
    begin()
    outcome = DeliveryOutcome(status=DeliveryStatus.HANDLED)
    async with RedisInbox(place) as inbox, Redis.from_url(place) as effects:
        while True:
            for delivery in await inbox.lease(3, seconds=0.25):
                await effects.rpush("effects", f"{delivery.event.session_id} {delivery.event.raw['number']} {name}")
                await inbox.settle(delivery, outcome)
                await effects.rpush("settled", 1)


asyncio.run(main())
"""
)


async def record_round(server: RedisServer, number: int) -> None:
    """Record events of some sessions."""
    async with RedisInbox(server.url) as inbox:
        for index in range(EVENTS):
            for session_id in SESSIONS:
                event = event_from({"sessionId": session_id, "number": number * EVENTS + index})
                await inbox.record(event, deliver=True)


async def wait_until_handled(server: RedisServer) -> list[list[str]]:
    """Wait until no event is queued or leased, and return session, number and worker of each effect."""
    async with RedisInbox(server.url) as inbox, client_of(server) as admin:
        while await admin.exists("{veriff}:open"):
            await admin.blpop(["settled"], timeout=1)
        found = await inbox.statistics()
        assert (0, 0, 0) == (found.queued, found.leased, found.dead)
        return [line.split() for line in await admin.lrange("effects", 0, -1)]  # type: ignore[misc]


@needs_posix
@pytest.mark.timeout(120 + 5 * KILLS)
def test_every_event_is_handled_in_order_though_workers_are_killed(single_redis_server: RedisServer) -> None:
    """Each event takes effect at least once, after all earlier ones of its session; only kills repeat an effect."""
    single_redis_server.flush()
    effects: list[list[str]] = []
    kills = list(moments("workers", 2_000))
    with start_process(WORKING, single_redis_server.url, "survivor", "0") as (_, output):
        output.readline()
        for number, (name, step, lines, spins) in enumerate(kills):
            with start_process(WORKING, single_redis_server.url, name, str(step)) as (process, killed_output):
                killed_output.readline()
                run(lambda: record_round(single_redis_server, number))  # noqa: B023  called within this turn
                if not step:
                    for _ in range(spins * (lines % 5)):
                        pass
                    process.kill()
                process.wait()
            result = run(lambda: wait_until_handled(single_redis_server))
            assert isinstance(result, list)
            effects = result

    for session_id in SESSIONS:
        firsts = list(dict.fromkeys(int(number) for session, number, _ in effects if session == session_id))
        assert list(range(EVENTS * len(kills))) == firsts


@needs_posix
def test_processes_share_a_queue_without_repetition(single_redis_server: RedisServer) -> None:
    """While no worker dies and no lease ends, two processes handle each event exactly once."""
    single_redis_server.flush()
    working = WORKING.replace("seconds=0.25", "seconds=600")
    with (
        start_process(working, single_redis_server.url, "one", "0") as (_, first),
        start_process(working, single_redis_server.url, "two", "0") as (_, second),
    ):
        first.readline()
        second.readline()
        run(lambda: record_round(single_redis_server, 0))
        effects = run(lambda: wait_until_handled(single_redis_server))

    assert isinstance(effects, list)
    expected = [(session_id, str(number)) for session_id in SESSIONS for number in range(EVENTS)]
    assert expected == sorted((session, number) for session, number, _ in effects)
