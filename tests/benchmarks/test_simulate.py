"""The model of polling: its counts equal those of the real poller, and it obeys the laws of such a system."""

# ruff: noqa: S311  random sessions, no secrets

from __future__ import annotations

import asyncio
import json
import math
from random import Random
from typing import TYPE_CHECKING, Final

import pytest
from attrs import evolve
from hypothesis import given, strategies as st

from benchmarks import plot
from benchmarks.polling_model import (
    Cases,
    Wait,
    Webhooks,
    open_waits,
    run_alone,
    simulate,
    start_waits,
)
from benchmarks.simulate import draw, main
from tests.conditions import run_loop, until
from tests.loops import VirtualTimeLoop
from tests.waiting.helpers import decision_webhook
from veriff_async import DecisionSource, PollPolicy, RetryPolicy, VeriffClient
from veriff_async.inbox import MemoryInbox

if TYPE_CHECKING:
    from pathlib import Path

    from veriff_async.sandbox import Sandbox

CASES: Final = Cases(name="minutes", median=100.0, spread=1.0)
POLICY: Final = PollPolicy(initial_delay=1.0, interval=2.0, backoff_factor=1.5, max_interval=30.0, max_rate=1e300)
LOSSES: Final = (0.0, 0.1, 0.5, 1.0)

STEP: Final = 0.5
"""Seconds of a step; with the numbers below, every time is a multiple of it and exact as a float."""


class StoppedLoop(VirtualTimeLoop):
    """A loop whose time advances only when the test says so."""

    def time(self) -> float:
        """Return the time that the test has set."""
        return self.offset


def draw_waits(loss: float, policy: PollPolicy = POLICY, number: int = 500, seed: int = 1) -> list[Wait]:
    """Return waits that start at 0; the same sessions for every policy."""
    return start_waits(CASES, Webhooks(loss=loss), policy, [0.0] * number, Random(seed))


# The model and the real poller.


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", [("asyncio", {"loop_factory": StoppedLoop})])
@pytest.mark.parametrize("max_rate", [1.0, 2.0, 1e300])
@pytest.mark.parametrize("has_inbox", [False, True])
async def test_model_counts_the_polls_of_the_real_poller(sandbox: Sandbox, *, max_rate: float, has_inbox: bool) -> None:
    """Each session is polled as often as in the model, and the same waits end by a poll, at any rate."""
    policy = PollPolicy(initial_delay=1.0, interval=1.0, backoff_factor=2.0, max_interval=8.0, max_rate=max_rate)
    chance, inbox = Random(3), MemoryInbox()
    waits = []
    for number in range(8):
        decided_at = chance.randrange(2, 40) * STEP
        recorded_at = decided_at + 4 * STEP if has_inbox and number % 2 else math.inf
        waits.append(Wait(decided_at, recorded_at, due=1.0))
    expected = simulate(waits, policy)

    loop = asyncio.get_running_loop()
    assert isinstance(loop, StoppedLoop)
    options = {"poll": policy, "retry": RetryPolicy(max_attempts=1), "inbox": inbox if has_inbox else None}
    async with VeriffClient.from_env(sandbox.environ, **options) as veriff:  # type: ignore[arg-type]
        sessions = [await veriff.create_session() for _ in waits]
        tasks = [asyncio.create_task(session.wait_for_decision(timeout=None)) for session in sessions]
        await run_loop(100)
        start = loop.time()
        while not all(task.done() for task in tasks):
            now = loop.time() - start + STEP
            for wait, session in zip(waits, sessions, strict=True):
                if wait.decided_at == now:
                    sandbox.decide(session.id, "approved")
                if wait.webhook_at == now and session.id in veriff._runtime.waiters.sessions:
                    await inbox.record(decision_webhook(session.id))
                    await until(lambda session=session: session.id not in veriff._runtime.waiters.sessions)  # type: ignore[misc]
            loop.advance_time(STEP)
            await until(lambda: is_settled(veriff))
    paths = [request.path for request in sandbox.requests]
    polls = [paths.count(f"/v1/sessions/{session.id}/decision") for session in sessions]
    assert [wait.polls for wait in waits] == polls
    assert expected.requests == sum(polls)
    by_poll = sum(task.result().source == DecisionSource.POLL for task in tasks)
    assert expected.by_poll == by_poll
    assert (by_poll == len(tasks)) is not has_inbox


def is_settled(veriff: VeriffClient) -> bool:
    """Return whether no poll is running, and the next one is due later than now."""
    due = [session.due for session in veriff._runtime.waiters.sessions.values()]
    now, slot = asyncio.get_running_loop().time(), veriff._runtime.waiters._poller._next_slot
    return math.inf not in due and (not due or max(min(due), slot) > now)


# The laws of the model.


@given(
    seed=st.integers(0, 1000),
    loss=st.sampled_from(LOSSES),
    max_rate=st.sampled_from([0.5, 5.0, 1e300]),
    latency=st.sampled_from([0.0, 0.2, 5.0]),
)
def test_each_decision_is_delivered_once_and_never_early(
    seed: int, loss: float, max_rate: float, latency: float
) -> None:
    """Every wait ends exactly once, after its decision, by its webhook or by a poll; each poll is counted."""
    policy = evolve(POLICY, max_rate=max_rate)
    waits = draw_waits(loss, policy, number=40, seed=seed)

    outcome = simulate(waits, policy, latency=latency)

    assert sorted(map(id, waits)) == sorted(map(id, outcome.woken))
    assert all(wait.decided_at <= wait.woken_at <= wait.webhook_at for wait in waits)
    assert outcome.by_poll == sum(wait.woken_at < wait.webhook_at for wait in waits)
    assert outcome.requests == sum(wait.polls for wait in waits)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("latency", [0.0, 0.2])
def test_simulation_without_a_limit_equals_the_formula(loss: float, latency: float) -> None:
    """Waits that do not compete for the rate have the polls and the end that `run_alone` computes."""
    simulated, computed = draw_waits(loss, number=200), draw_waits(loss, number=200)

    for wait in simulated:
        simulate([wait], POLICY, latency=latency)
    run_alone(computed, POLICY, latency=latency)

    assert [wait.polls for wait in simulated] == [wait.polls for wait in computed]
    assert [wait.woken_at for wait in simulated] == pytest.approx([wait.woken_at for wait in computed])


def test_more_lost_webhooks_mean_later_decisions_and_more_polls() -> None:
    """With the same sessions, neither the delays nor the number of polls falls as more webhooks are lost."""
    outcomes = [run_alone(draw_waits(loss, number=5000), POLICY) for loss in LOSSES]

    for quantile in (0.5, 0.99):
        delays = [outcome.delay(quantile) for outcome in outcomes]
        assert sorted(delays) == delays
    assert outcomes[0].requests < outcomes[-1].requests
    assert outcomes[0].by_poll < outcomes[-1].by_poll == len(outcomes[-1].woken)


def test_longer_intervals_mean_fewer_polls_and_later_decisions() -> None:
    """The trade-off has one direction: fewer requests cost delay."""
    outcomes = []
    for factor in (0.25, 1, 4):
        policy = evolve(POLICY, interval=2.0 * factor, max_interval=30.0 * factor)
        outcomes.append(run_alone(draw_waits(1.0, policy, number=5000), policy))

    assert outcomes[0].requests > outcomes[1].requests > outcomes[2].requests
    assert outcomes[0].delay(0.5) < outcomes[1].delay(0.5) < outcomes[2].delay(0.5)


@pytest.mark.parametrize("max_rate", [0.5, 4.0])
def test_rate_of_the_client_is_never_exceeded(max_rate: float) -> None:
    """In any time, the client polls at most at its rate, plus the two that may follow an idle time."""
    policy, end = evolve(POLICY, max_rate=max_rate), 200.0

    outcome = simulate(draw_waits(1.0, policy), policy, end=end)

    assert max_rate * end - 2 <= outcome.requests <= max_rate * end + 2


def test_slow_responses_limit_the_polls() -> None:
    """At most 16 polls run at the same time, so slow responses limit the rate."""
    outcome = simulate(draw_waits(1.0), POLICY, latency=4.0, end=100.0)

    assert outcome.requests <= 16 * (100 / 4.0 + 1)


def test_open_sessions_are_in_a_steady_state() -> None:
    """Sessions that are open at a random moment poll at the rate that the average session predicts."""
    chance, webhooks = Random(5), Webhooks(loss=0.1)
    alone = run_alone(draw_waits(0.1, number=20_000), POLICY)
    expected = 5_000 * alone.requests / sum(wait.woken_at for wait in alone.woken)
    waits = open_waits(CASES, webhooks, POLICY, 5_000, chance, latency=0.0)

    def replace(at: float) -> Wait:
        return start_waits(CASES, webhooks, POLICY, [at], chance)[0]

    outcome = simulate(waits, POLICY, end=100.0, replace=replace)

    assert outcome.requests / 100 == pytest.approx(expected, rel=0.05)


def test_unfinished_session_ends_after_a_week() -> None:
    """Veriff ends a session that its user leaves unfinished after seven days, with a webhook."""
    cases = evolve(CASES, unfinished=1.0)
    (wait,) = start_waits(cases, Webhooks(loss=0.0), POLICY, [0.0], Random(1))

    run_alone([wait], POLICY)

    assert wait.decided_at == 7 * 86_400
    assert wait.polls == pytest.approx(7 * 86_400 / POLICY.max_interval, rel=0.01)


# The command.


def test_command_prints_tables_and_writes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same seed gives the same tables, which are also written as JSON."""
    arguments = ["--quick", "--sessions", "50", "--loss", "0.1", "--policy", "0,2,1.5,30", "--seed", "7"]
    main([*arguments, "--json", str(tmp_path / "first.json")])
    printed = capsys.readouterr().out
    main([*arguments, "--json", str(tmp_path / "second.json")])

    assert (tmp_path / "first.json").read_text() == (tmp_path / "second.json").read_text()
    titles = [table["title"] for table in json.loads((tmp_path / "first.json").read_text())]
    assert titles
    assert all(title in printed for title in titles)


@pytest.mark.parametrize(
    ("option", "value"), [("--policy", "1,2,3"), ("--policy", "0,2,0.5,30"), ("--loss", "2"), ("--sessions", "none")]
)
def test_command_refuses_impossible_values(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A policy that the library refuses, or a share above 1, is refused with the option named."""
    with pytest.raises(SystemExit):
        main([option, value])
    assert option in capsys.readouterr().err


@pytest.mark.skipif(not plot.possible(), reason="matplotlib is not installed")
def test_plot_is_small_and_has_text(tmp_path: Path) -> None:
    """The SVG is smaller than 60 KB, has no background, and its words are text."""
    picture = draw(tmp_path, sessions=200, seed=1).read_text()

    assert len(picture) < 60_000
    assert "without inbox" in picture
