"""The decisions of chaos profiles: as often as the weights say, and the same ones in each run."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given, strategies as st

from veriff_async.sandbox import ChaosProfile, Delay, Fault, Outage, RequestChaos, WebhookChaos
from veriff_async.sandbox._chaos.engine import ChaosEngine, RequestPlan, draw, draws_of

if TYPE_CHECKING:
    from random import Random

START: Final = datetime(2026, 1, 1, tzinfo=UTC)
MEDIA: Final = "/v1/sessions/*/media"
DRAWS: Final = 4000


def plan_many(engine: ChaosEngine, method: str, path: str, count: int) -> list[RequestPlan]:
    """Plan requests to one endpoint."""
    return [engine.plan_request(method, path, f"{method} {path}", now=START) for _ in range(count)]


def test_faults_are_as_frequent_as_their_weights() -> None:
    """In many requests each fault has its share, and the remainder succeeds."""
    weights = {Fault.drop(): 0.3, Fault.status(503): 0.15, Fault.forge_signature(): 0.05}
    engine = ChaosEngine(ChaosProfile(requests=[RequestChaos(faults=weights)]), now=START)

    counts = Counter(plan.fault for plan in plan_many(engine, "GET", "/v1/x", DRAWS))

    # Four standard deviations of a share of one half are 0.032. The seed is fixed, so the result is always the same.
    shares: list[tuple[Fault | None, float]] = [*weights.items(), (None, 0.5)]
    for fault, weight in shares:
        assert counts[fault] / DRAWS == pytest.approx(weight, abs=0.032)


def test_weights_of_one_and_zero_are_exact() -> None:
    """A fault of weight 1 happens each time, one of weight 0 never."""
    weights = {Fault.drop(): 0.0, Fault.hang(): 1.0}
    engine = ChaosEngine(ChaosProfile(requests=[RequestChaos(faults=weights)]), now=START)

    assert {Fault.hang()} == {plan.fault for plan in plan_many(engine, "GET", "/", 200)}


@given(st.integers(0, 10**9), st.lists(st.sampled_from(["GET", "POST", "PATCH"]), max_size=40), st.randoms())
def test_other_endpoints_change_nothing(seed: int, methods: list[str], order: Random) -> None:
    """The nth request to an endpoint has the same fault and latency, however requests to endpoints are mixed."""
    weights = {Fault.drop(): 0.3, Fault.hang(): 0.3}
    profile = ChaosProfile(seed=seed, requests=[RequestChaos(faults=weights, latency=Delay.lognormal(1, 1))])
    shuffled = [*methods]
    order.shuffle(shuffled)

    def run(sequence: list[str]) -> dict[str, list[RequestPlan]]:
        engine, plans = ChaosEngine(profile, now=START), dict[str, list[RequestPlan]]()
        for method in sequence:
            plans.setdefault(method, []).append(engine.plan_request(method, "/v1/x", f"{method} /v1/x", now=START))
        return plans

    assert run(methods) == run(shuffled)


def test_restart_repeats_the_same_faults() -> None:
    """After a restart the first request of an endpoint is its first again; another seed gives other faults."""
    rule = RequestChaos(faults={Fault.drop(): 0.5}, latency=Delay.uniform(0, 1))
    engine = ChaosEngine(ChaosProfile(seed=1, requests=[rule]), now=START)
    first = plan_many(engine, "GET", "/", 50)
    following = plan_many(engine, "GET", "/", 50)
    engine.restart(START)

    assert first == plan_many(engine, "GET", "/", 50)
    assert first != following
    assert first != plan_many(ChaosEngine(ChaosProfile(seed=2, requests=[rule]), now=START), "GET", "/", 50)


def test_draws_are_the_same_on_every_machine() -> None:
    """The numbers are pinned: another derivation would change the faults in the tests of every user."""
    assert 0.27222119374873244 == draw(7, "POST /v1/sessions", 1, "fault")


def test_first_rule_that_matches_applies() -> None:
    """Special rules stand above general ones; a request without a rule is normal."""
    profile = ChaosProfile(
        requests=[
            RequestChaos(method="post", path=MEDIA, faults={Fault.drop(): 1}),
            RequestChaos(method="POST", faults={Fault.hang(): 1}),
        ]
    )
    engine = ChaosEngine(profile, now=START)

    (upload,) = plan_many(engine, "POST", "/v1/sessions/1/media", 1)
    (creation,) = plan_many(engine, "POST", "/v1/sessions", 1)
    (question,) = plan_many(engine, "GET", "/v1/sessions/1/media", 1)
    assert (Fault.drop(), Fault.hang(), None) == (upload.fault, creation.fault, question.fault)
    assert ("chaos profile: requests[0]", "chaos profile: requests[1]", "") == (
        upload.cause,
        creation.cause,
        question.cause,
    )


@pytest.mark.parametrize(
    ("delay", "mean", "lowest", "highest"),
    [
        (Delay.constant(0.5), 0.5, 0.5, 0.5),
        (Delay.uniform(1, 3), 2.0, 1.0, 3.0),
        (Delay.normal(2, 0.5), 2.0, 0.0, 60.0),
        # The mean of a lognormal distribution is median * exp(sigma^2 / 2).
        (Delay.lognormal(1, 0.5), 1.1331, 0.0, 60.0),
        (Delay.normal(2, 5, lowest=1.5, highest=2.5), 2.0, 1.5, 2.5),
        (Delay.lognormal(1, 10, lowest=0, highest=0.25), 0.14, 0.0, 0.25),
    ],
)
def test_delay_has_its_distribution(delay: Delay, mean: float, lowest: float, highest: float) -> None:
    """Many draws have the mean of the distribution, and none is out of bounds."""
    values = [delay.seconds(draws_of(5, index)) for index in range(DRAWS)]

    assert sum(values) / DRAWS == pytest.approx(mean, rel=0.06)
    assert lowest <= min(values) <= max(values) <= highest


def test_outage_follows_the_clock() -> None:
    """Requests fail within the windows and only there; the end of a window is not part of it."""
    outage = Outage(start=30, duration=10, every=60, method="POST", fault=Fault.status(502))
    engine = ChaosEngine(ChaosProfile(name="n", outages=[outage]), now=START)

    def status(seconds: float, method: str = "POST") -> int | None:
        now = START + timedelta(seconds=seconds)
        fault = engine.plan_request(method, "/v1/sessions", "x", now=now).fault
        return None if fault is None else fault.http_status

    times = (0, 29.9, 30, 39.9, 40, 89.9, 90, 99.9, 100)
    assert [None, None, 502, 502, None, None, 502, 502, None] == [status(each) for each in times]
    assert status(30, "GET") is None
    assert (
        "chaos profile n: outages[0]" == engine.plan_request("POST", "/", "x", now=START + timedelta(seconds=31)).cause
    )


def test_single_outage_does_not_repeat() -> None:
    """Without `every` there is one window."""
    outage = Outage(start=1, duration=2)

    assert [None, 2, 1, None, None] == [outage.seconds_left(each) for each in (0, 1, 2, 3, 1000)]


def test_webhooks_have_the_shares_of_their_rule() -> None:
    """Loss, copies and reordering are as frequent as the rule says; delays are drawn for each copy."""
    rule = WebhookChaos(
        kind="decision",
        loss=0.2,
        duplication=0.5,
        copies=2,
        reordering=0.3,
        reorder_seconds=10,
        delay=Delay.uniform(0, 1),
    )
    engine = ChaosEngine(ChaosProfile(webhooks=[rule, WebhookChaos(kind="event", loss=1)]), now=START)

    plans = [engine.plan_webhook("decision", now=START) for _ in range(DRAWS)]
    posted = [plan for plan in plans if plan.delays]

    assert 1 - len(posted) / DRAWS == pytest.approx(0.2, abs=0.03)
    assert sum(len(plan.delays) == 3 for plan in posted) / len(posted) == pytest.approx(0.5, abs=0.03)
    assert {1, 3} == {len(plan.delays) for plan in posted}
    assert sum(plan.delays[0] >= 10 for plan in posted) / len(posted) == pytest.approx(0.3, abs=0.03)
    assert all(len(set(plan.delays)) == len(plan.delays) for plan in posted)
    assert () == engine.plan_webhook("event", now=START).delays
    assert "chaos profile: webhooks[1] loses it" == engine.plan_webhook("event", now=START).cause
    assert (0.0,) == engine.plan_webhook("ine", now=START).delays


def test_outage_holds_webhooks_until_its_end() -> None:
    """A webhook whose post would be within the window waits for its end; another outage leaves webhooks alone."""
    profile = ChaosProfile(
        webhooks=[WebhookChaos(kind="decision", delay=Delay.constant(5))],
        outages=[Outage(start=2, duration=10, webhooks=True), Outage(duration=1000)],
    )
    engine = ChaosEngine(profile, now=START)

    assert (12.0,) == engine.plan_webhook("decision", now=START).delays
    assert (0.0,) == engine.plan_webhook("event", now=START).delays
    held = engine.plan_webhook("event", now=START + timedelta(seconds=4))
    assert ((8.0,), "chaos profile: outages[0] holds it") == (held.delays, held.cause)


def test_rate_limit_of_a_rule_follows_the_clock() -> None:
    """Requests above the rate get a 429 with the rule's ``Retry-After`` until time has passed."""
    profile = ChaosProfile(requests=[RequestChaos(path="/v1/sessions", requests_per_second=2, retry_after=3)])
    engine = ChaosEngine(profile, now=START)

    plans = plan_many(engine, "POST", "/v1/sessions", 3)
    assert [None, None, 429] == [plan.fault and plan.fault.http_status for plan in plans]
    assert plans[2].fault is not None
    assert {"Retry-After": "3"} == plans[2].fault.headers
    later = engine.plan_request("POST", "/v1/sessions", "x", now=START + timedelta(seconds=1))
    assert later.fault is None
