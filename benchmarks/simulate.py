"""Simulate many waits: ``python -m benchmarks.simulate``; ``--help`` names its options.

The results are counts and simulated seconds, so they do not depend on the machine. Only "CPU cores" does: it multiplies
the rates by the costs in ``costs.json``, which names the benchmark that measured each.
"""

from __future__ import annotations

import json
import math
import sys
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

from attrs import evolve, frozen

from benchmarks import plot
from benchmarks.measure import Spread
from benchmarks.polling_model import Cases, Webhooks, open_waits, run_alone, simulate, start_waits
from benchmarks.table import Row, Table
from veriff_async import PollPolicy
from veriff_async.config import SAFETY_NET

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.polling_model import Outcome, Wait

__all__ = ("main",)

# Veriff documents that a decision "usually" takes seconds to minutes after the submission, and that it ends a session
# without a decision after seven days. The medians, spreads and shares are guesses.
CASES: Final = (
    Cases(name="automated", median=8.0, spread=0.8),
    Cases(name="assisted", median=240.0, spread=1.3),
    Cases(name="hosted flow", median=300.0, spread=1.3, unfinished=0.15),
)
_ASSISTED: Final = CASES[1]
LOSSES: Final = (0.0, 0.001, 0.01, 0.1, 1.0)
_OPEN: Final = 1_000_000

# A guess: seconds from the start of a poll to its response.
_LATENCY: Final = 0.2

# No simulated client reaches this rate.
_UNLIMITED: Final = 1e300

_ALONE: Final = "without inbox"
_WITH_INBOX: Final = "with inbox"
POLICIES: Final = {_ALONE: PollPolicy(), _WITH_INBOX: SAFETY_NET}
_FACTORS: Final = tuple(2.0**power for power in range(-4, 5))
_CROWDS: Final = (100, 300, 1_000, 3_000, 10_000, 100_000)
_COLUMNS: Final = ("polls/decision", "delay p50 s", "delay p99 s", "requests/s", "CPU cores")


@frozen
class Costs:
    """Processor time in milliseconds, as measured.

    Attributes:
        poll: A poll of a session that is not decided.
        webhook: A webhook that is received over HTTP, verified, recorded by a `SqliteInbox`, and wakes its waiter.
    """

    poll: float
    webhook: float

    @classmethod
    def load(cls) -> Costs:
        """Read the measured costs."""
        found = json.loads(Path(__file__).with_name("costs.json").read_text())
        return cls(poll=found["poll"]["cpu_ms"], webhook=found["webhook"]["cpu_ms"])


@frozen
class Steady:
    """A system that has run for long, without a limit of its rate.

    Attributes:
        outcome: Of the sessions that were drawn.
        duration: How long a session is open, in seconds on average.
        webhooks: Share of the sessions whose webhook is recorded during the wait.
    """

    outcome: Outcome
    duration: float
    webhooks: float

    @property
    def polls(self) -> float:
        """Polls for a decision."""
        return self.outcome.requests / len(self.outcome.woken)

    def requests(self, number: int) -> float:
        """Return the requests per second for a number of open sessions.

        Sessions do not influence each other without a limit, so this is exact for any number: the average number of
        polls of a session, divided by its average duration (renewal-reward theorem).
        """
        return number * self.polls / self.duration

    def cores(self, number: int, costs: Costs) -> float:
        """Return how many cores polls and webhooks of a number of open sessions occupy."""
        decisions = number / self.duration
        return (self.requests(number) * costs.poll + decisions * self.webhooks * costs.webhook) / 1000


def steady(policy: PollPolicy, cases: Cases, webhooks: Webhooks, *, sessions: int, seed: int) -> Steady:
    """Return the steady state for a policy, from a number of sessions."""
    # The same seed for all policies: they meet the same sessions, so that only the policy differs.
    waits = start_waits(cases, webhooks, policy, (0.0 for _ in range(sessions)), Random(seed))  # noqa: S311  no secret
    outcome = run_alone(waits, policy, latency=_LATENCY)
    duration = sum(wait.woken_at for wait in waits) / sessions
    recorded = sum(wait.webhook_at <= wait.woken_at for wait in waits) / sessions
    return Steady(outcome, duration, recorded)


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate, and print the tables."""
    options = _options(arguments)
    tables: list[Table] = []
    for table in _tables(options):
        tables.append(table)
        print(*table.lines(), "", sep="\n", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps([table.as_json() for table in tables], indent=2) + "\n")
    if options.plot is not None:
        print(draw(options.plot, sessions=options.sessions, seed=options.seed), file=sys.stderr)


def _tables(options: Namespace) -> Iterator[Table]:
    costs = Costs.load()
    policies = dict(options.policy) if options.policy else POLICIES
    for name, policy in policies.items():
        yield _losses(name, policy, costs, options)
    for name, policy in policies.items():
        yield _intervals(name, policy, costs, options)
    yield _limited(policies, options)
    if not options.quick:
        yield _million(policies, options)


def _losses(name: str, policy: PollPolicy, costs: Costs, options: Namespace) -> Table:
    """Show a policy for each kind of decision and each loss of webhooks."""
    rows = []
    for cases in CASES:
        for loss in options.loss or LOSSES:
            found = steady(policy, cases, Webhooks(loss=loss), sessions=options.sessions, seed=options.seed)
            rows.append(Row(f"{cases.name}, {loss:.1%} of webhooks lost", _figures(found, costs)))
    return Table(
        subject="simulate",
        title=f"{name}: {_described(policy)}; requests and cores for {_OPEN:,} open sessions",
        columns=_COLUMNS,
        rows=tuple(rows),
        notes=(f"each row: {options.sessions:,} sessions, no limit of the rate",),
    )


def _intervals(name: str, policy: PollPolicy, costs: Costs, options: Namespace) -> Table:
    """Show what longer and shorter intervals cost and gain."""
    rows = []
    for cases in CASES[:2]:
        for factor, requests, lost in trade_off(name, policy, cases, sessions=options.sessions, seed=options.seed):
            figures = _figures(lost, costs) | {"requests/s": _one(requests)}
            rows.append(Row(f"{cases.name}, intervals x {factor:g}", figures))
    return Table(
        subject="simulate",
        title=f"{name}: all intervals longer or shorter; delays without any webhook, requests/s {_requests_of(name)}",
        columns=_COLUMNS[1:4],
        rows=tuple(rows),
    )


def trade_off(
    name: str, policy: PollPolicy, cases: Cases, *, sessions: int, seed: int
) -> Iterator[tuple[float, float, Steady]]:
    """Yield each factor of the intervals, its requests per second, and the outcome when no webhook arrives.

    With an inbox, the requests are those in normal operation: the polls that a working webhook makes superfluous.
    """
    for factor in _FACTORS:
        scaled = evolve(
            policy,
            initial_delay=policy.initial_delay * factor,
            interval=policy.interval * factor,
            max_interval=policy.max_interval * factor,
        )
        lost = steady(scaled, cases, Webhooks(loss=1.0), sessions=sessions, seed=seed)
        usual = steady(scaled, cases, Webhooks(loss=_usual_loss(name)), sessions=sessions, seed=seed)
        yield factor, usual.requests(_OPEN), lost


def _usual_loss(name: str) -> float:
    return 1.0 if name == _ALONE else 0.0


def _requests_of(name: str) -> str:
    return "without webhooks" if name == _ALONE else "while webhooks work"


def _limited(policies: Mapping[str, PollPolicy], options: Namespace) -> Table:
    """Show one client whose rate is the limit: the queue is simulated."""
    rows = [
        _crowd(name, evolve(policy, max_rate=rate), number, options.seed)
        for name, policy in policies.items()
        for rate in options.rate or (policy.max_rate,)
        for number in (_CROWDS[:1] if options.quick else _CROWDS)
    ]
    return Table(
        subject="simulate",
        title="one client, assisted decisions, no webhook arrives: the rate of the client is the limit",
        columns=("max_rate", "requests/s", "delay p50 s", "delay p99 s"),
        rows=tuple(rows),
    )


def _crowd(name: str, policy: PollPolicy, number: int, seed: int) -> Row:
    chance, webhooks = Random(seed), Webhooks(loss=1.0)  # noqa: S311  no secret
    # Long enough for three turns of all sessions, of which the first two only fill the queue.
    turn = max(1_800.0, number / policy.max_rate)

    def replace(at: float) -> Wait:
        return start_waits(_ASSISTED, webhooks, policy, (at,), chance)[0]

    waits = open_waits(_ASSISTED, webhooks, policy, number, chance, latency=_LATENCY)
    outcome = simulate(waits, policy, latency=_LATENCY, end=3 * turn, replace=replace)
    requests = outcome.requests / (3 * turn)
    outcome.woken = [wait for wait in outcome.woken if wait.woken_at > 2 * turn]
    cells = {"max_rate": policy.max_rate, "requests/s": requests}
    cells |= {"delay p50 s": outcome.delay(0.5), "delay p99 s": outcome.delay(0.99)}
    return Row(f"{name}, {number:,} open sessions", {column: _one(value) for column, value in cells.items()})


def _million(policies: Mapping[str, PollPolicy], options: Namespace) -> Table:
    """Simulate a million open sessions, and compare the requests with the formula."""
    rows = []
    for name, policy in policies.items():
        webhooks = Webhooks(loss=_usual_loss(name))
        unlimited = evolve(policy, max_rate=_UNLIMITED)
        chance = Random(options.seed)  # noqa: S311  no secret
        waits = open_waits(_ASSISTED, webhooks, unlimited, _OPEN, chance, latency=0.0)

        def replace(at: float, webhooks: Webhooks = webhooks, policy: PollPolicy = policy) -> Wait:
            return start_waits(_ASSISTED, webhooks, policy, (at,), chance)[0]  # noqa: B023  used in this iteration

        seconds = 60.0
        outcome = simulate(waits, unlimited, end=seconds, replace=replace)
        found = run_alone(
            start_waits(_ASSISTED, webhooks, policy, (0.0 for _ in range(options.sessions)), chance),
            policy,
        )
        expected = _OPEN * found.requests / sum(wait.woken_at for wait in found.woken)
        cells = {
            "requests/s": outcome.requests / seconds,
            "by formula": expected,
            "decisions/s": len(outcome.woken) / seconds,
            "delay p50 s": outcome.delay(0.5),
            "delay p99 s": outcome.delay(0.99),
        }
        rows.append(Row(name, {column: _one(value) for column, value in cells.items()}))
    return Table(
        subject="simulate",
        title=f"{_OPEN:,} open sessions, assisted, simulated one by one for a minute without a limit of the rate",
        columns=("requests/s", "by formula", "decisions/s", "delay p50 s", "delay p99 s"),
        rows=tuple(rows),
    )


def _figures(found: Steady, costs: Costs) -> dict[str, Spread]:
    values = (
        found.polls,
        found.outcome.delay(0.5),
        found.outcome.delay(0.99),
        found.requests(_OPEN),
        found.cores(_OPEN, costs),
    )
    return {column: _one(value) for column, value in zip(_COLUMNS, values, strict=True)}


def _one(value: float) -> Spread:
    return Spread(value, value, value)


def _described(policy: PollPolicy) -> str:
    return (
        f"first poll after {policy.initial_delay:g} s, then {policy.interval:g} s x {policy.backoff_factor:g}, "
        f"up to {policy.max_interval:g} s"
    )


def draw(folder: Path, *, sessions: int, seed: int) -> Path:
    """Draw what longer intervals save, and how much later a decision is learned; return the file."""
    import matplotlib as mpl  # noqa: PLC0415  of the extra

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  after the choice of a backend

    # Text as text keeps the file small. Without a background, one medium grey is readable on white and on black.
    style: dict[Any, object] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "veriff-async",
        "font.family": "sans-serif",
        "font.size": 10,
    }
    style |= dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _GREY)
    with plt.rc_context(style):
        figure, panels = plt.subplots(1, 2, figsize=(9.2, 3.9), layout="constrained")
        for axes, (name, policy) in zip(panels, POLICIES.items(), strict=True):
            for cases, colour in zip(CASES[:2], ("#2f81f7", "#d9730d"), strict=True):
                found = trade_off(name, policy, cases, sessions=sessions, seed=seed)
                points = {factor: (requests, lost.outcome.delay(0.99)) for factor, requests, lost in found if requests}
                axes.plot(*zip(*points.values(), strict=True), "o-", color=colour, markersize=3.5, linewidth=1.3)
                axes.plot(*points[1.0], "o", color=colour, markersize=9, label=cases.name)
            axes.set(xscale="log", yscale="log", title=name, xlabel=f"requests/s {_requests_of(name)}, 1,000,000 open")
            axes.grid(visible=True, which="major", color=_GREY, alpha=0.35, linewidth=0.5)
        panels[0].set_ylabel("p99 delay without a webhook, s")
        panels[0].legend(frameon=False)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "poll-intervals.svg"
        figure.savefig(path, transparent=True, metadata={"Date": None})
        plt.close(figure)
    return path


_GREY: Final = "#808080"


def _options(arguments: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(prog="python -m benchmarks.simulate", description="Polling of very many waits, simulated.")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="seed of the sessions (default 1)")
    parser.add_argument("--sessions", type=_count, default=100_000, metavar="N", help="sessions of a row (100000)")
    parser.add_argument("--loss", type=_share, action="append", metavar="SHARE", help="lost webhooks, 0 to 1")
    parser.add_argument(
        "--policy",
        type=_policy,
        action="append",
        metavar="INITIAL,INTERVAL,FACTOR,MAX",
        help="a policy instead of the defaults; repeatable",
    )
    parser.add_argument("--rate", type=_rate, action="append", metavar="N", help="max_rate of a client; repeatable")
    parser.add_argument("--quick", action="store_true", help="leave out the largest simulations")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the tables to a file too")
    parser.add_argument("--plot", type=Path, metavar="FOLDER", help="draw the trade-off as SVG, with matplotlib")
    options = parser.parse_args(arguments)
    if options.plot is not None and not plot.possible():
        parser.error(plot.MISSING)
    return options


def _policy(text: str) -> tuple[str, PollPolicy]:
    try:
        initial, interval, factor, longest = map(float, text.split(","))
        return text, PollPolicy(initial_delay=initial, interval=interval, backoff_factor=factor, max_interval=longest)
    except ValueError as error:
        msg = f"pass four numbers, such as 0,2,1.5,30: {error}"
        raise ArgumentTypeError(msg) from error


def _count(text: str) -> int:
    return int(_number(text, 1, math.inf))


def _share(text: str) -> float:
    return _number(text, 0, 1)


def _rate(text: str) -> float:
    return _number(text, 1e-6, math.inf)


def _number(text: str, least: float, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        msg = f"pass a number from {least:g} to {most:g}"
        raise ArgumentTypeError(msg)
    return value


if __name__ == "__main__":
    main()
