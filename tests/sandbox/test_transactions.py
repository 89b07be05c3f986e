"""Changes happen completely or not at all, and arguments are checked when they are passed."""

from __future__ import annotations

import asyncio
import json
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import pytest

from veriff_async import ConfigurationError, Credentials, InvalidArgumentError, Person, Status
from veriff_async.models import (
    BiometricAuthentication,
    InsightResult,
    MatchStatus,
    RiskLabel,
    UserDefinedStatus,
    WatchlistScreening,
)
from veriff_async.models.insight import Insight
from veriff_async.models.record import PepHit, PepSanctionMatch
from veriff_async.models.registry import IneResult, TransportationResult
from veriff_async.sandbox import Fault, Sandbox, SandboxOptions, VirtualClock
from veriff_async.sandbox._faults import FaultKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox.conftest import Caller, Receiver, StartSandbox

UNREADABLE: dict[str, object] = {"newer": {1, 2}}
DETAILS: list[dict[str, Any]] = [
    {"risk_score": math.nan},
    {"risk_score": math.inf},
    {"risk_score": "high"},
    {"risk_score": True},
    {"reason_code": 101.5},
    {"reason_code": "101"},
    {"reason_code": 10**400},
    {"reason_code": 10**5000},
    {"reason_code": 2**60},
    {"reason": b"bytes"},
    {"person": {"newer": math.nan}},
    {"person": {"newer": object()}},
    {"person": Person(first_name=5)},  # type: ignore[arg-type]
    {"person": 5},
    {"document": ["number"]},
    {"document": {"newer": {"deep": [math.inf]}}},
    {"additional_verified_data": None},
    {"additional_verified_data": {"estimatedAge": 3}},
    {"biometric_authentication": "yes"},
    {"biometric_authentication": BiometricAuthentication(raw=UNREADABLE)},
    {"risk_labels": 5},
    {"risk_labels": ("label",)},
    {"risk_labels": [RiskLabel(label="x", raw=UNREADABLE)]},
    {"insights": [Insight(label="x", result=InsightResult.YES, raw=UNREADABLE)]},
]


@pytest.mark.anyio
@pytest.mark.parametrize("details", DETAILS, ids=range(len(DETAILS)))
@pytest.mark.parametrize("with_address", [True, False])
async def test_decision_without_json_changes_nothing(
    caller: Caller,
    details: dict[str, Any],
    with_address: bool,  # noqa: FBT001
) -> None:
    """A value without JSON raises an error of the library; session, decision and deliveries are unchanged."""
    session_id = await caller.create()
    if with_address:
        caller.sandbox.webhook_url = caller.sandbox.base_url + "/no-receiver"

    with pytest.raises(InvalidArgumentError):
        caller.sandbox.decide(session_id, "declined", **details)
    await caller.sandbox.wait_idle()

    assert Status.CREATED == caller.sandbox.session(session_id).status
    assert () == caller.sandbox.deliveries
    reply = await caller.decision(session_id)
    assert (200, None) == (reply.status, reply.json["verification"])
    caller.sandbox.decide(session_id, "declined")
    assert 200 == (await caller.decision(session_id)).status


@pytest.mark.anyio
async def test_unknown_option_of_decide_is_refused(caller: Caller) -> None:
    """A misspelt option raises TypeError with a suggestion, and decides nothing."""
    session_id = await caller.create()
    with pytest.raises(TypeError, match="did you mean 'risk_score'"):
        caller.sandbox.decide(session_id, "approved", riskscore=1.0)  # type: ignore[call-arg]
    assert Status.CREATED == caller.sandbox.session(session_id).status


HAPPENINGS: list[Callable[[Sandbox, Any], object]] = [
    lambda sandbox, session: sandbox.decide(session, 5),  # type: ignore[arg-type]
    lambda sandbox, session: sandbox.decide([session], "approved"),  # type: ignore[arg-type]
    lambda sandbox, session: sandbox.decide(session, "created"),
    lambda sandbox, session: sandbox.complete_watchlist_screening(
        session, WatchlistScreening(match_status=MatchStatus.NO_MATCH, raw=UNREADABLE)
    ),
    lambda sandbox, session: sandbox.complete_watchlist_screening(session, "match"),  # type: ignore[arg-type]
    lambda sandbox, session: sandbox.set_pep_matches(session, PepSanctionMatch(hits=(PepHit(score=math.nan),))),
    lambda sandbox, session: sandbox.set_pep_matches(session, 5),  # type: ignore[arg-type]
    lambda sandbox, session: sandbox.set_user_status(session, UserDefinedStatus(raw=UNREADABLE)),
    lambda sandbox, session: sandbox.set_user_status(session, "good"),  # type: ignore[arg-type]
    lambda sandbox, session: sandbox.complete_registry_check(session, IneResult(raw=UNREADABLE)),
    lambda sandbox, session: sandbox.complete_registry_check(session, TransportationResult(raw=UNREADABLE)),
    lambda sandbox, session: sandbox.complete_registry_check(session, None),  # type: ignore[arg-type]
    lambda sandbox, session: sandbox.resend(session, 5),  # type: ignore[arg-type]
]


@pytest.mark.anyio
@pytest.mark.parametrize("happen", HAPPENINGS)
async def test_event_without_json_changes_nothing(caller: Caller, happen: Callable[[Sandbox, Any], object]) -> None:
    """Arguments of every event are checked first, and requests about the session are answered as before."""
    session_id = await caller.create()
    paths = [f"/v1/sessions/{session_id}{end}" for end in ("/person", "/attempts", "/watchlist-screening", "/decision")]
    before = [(reply.status, reply.body) for reply in [await caller.get(path, session_id) for path in paths]]

    with pytest.raises(InvalidArgumentError):
        happen(caller.sandbox, session_id)

    assert before == [(reply.status, reply.body) for reply in [await caller.get(path, session_id) for path in paths]]


@pytest.mark.anyio
async def test_invalid_fraud_report_refuses_the_whole_request(caller: Caller) -> None:
    """A request with one invalid report files none of its reports."""
    session_id = await caller.create()
    caller.sandbox.decide(session_id, "approved")
    reports: list[object] = [{"sessionId": session_id, "categories": ["injected_media"]}]

    async def report(*more: object) -> tuple[int, object]:
        path = "/v1/feedback/fraud-reports"
        body = json.dumps({"reports": [*reports, *more]}).encode()
        signed = path.encode() + b"\n" + body
        reply = await caller.send("POST", path, data=body, headers=caller.signed(signed, family="VRF"))
        return reply.status, reply.json

    assert 400 == (await report({"sessionId": 5}))[0]
    status, answer = await report()
    assert isinstance(answer, dict)
    assert (200, "reported") == (status, answer["reports"][0]["status"])


@pytest.mark.parametrize(
    "name",
    [
        "resubmission_hold_seconds",
        "session_lifetime_days",
        "webhook_retry_seconds",
        "webhook_retry_days",
        "webhook_timeout_seconds",
    ],
)
@pytest.mark.parametrize("value", [math.nan, math.inf, -1, "5", None, True, 1e300])
def test_numbers_of_options_are_checked(name: str, value: object) -> None:
    """A number that is not finite, negative, too large or of another type is refused."""
    with pytest.raises(InvalidArgumentError, match=f"SandboxOptions.{name}"):
        SandboxOptions(**cast("dict[str, Any]", {name: value}))


@pytest.mark.parametrize(
    "rule",
    [
        {"time_digits": 4},
        {"time_digits": True},
        {"abandoned_code": 9104.0},
        {"oversize_status": 200},
        {"oversize_status": 413.0},
        {"sign_errors": 1},
        {"full_auto": "yes"},
        {"requests_per_second": 0},
        {"requests_per_second": math.nan},
        {"face_quota": -1},
        {"face_quota": 1.5},
    ],
    ids=str,
)
def test_flags_and_choices_of_options_are_checked(rule: dict[str, Any]) -> None:
    """Flags, statuses and choices are checked, too."""
    with pytest.raises(InvalidArgumentError, match="SandboxOptions"):
        SandboxOptions(**rule)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Fault.status(99),
        lambda: Fault.status(600),
        lambda: Fault.status(200.5),  # type: ignore[arg-type]
        lambda: Fault.status(status=True),
        lambda: Fault.status(429, retry_after=math.nan),
        lambda: Fault.status(429, retry_after=math.inf),
        lambda: Fault.status(429, retry_after="1\r\nX-Other: 1"),
        lambda: Fault.status(400, message=b"bytes"),  # type: ignore[arg-type]
        lambda: Fault.status(400, code=1104),  # type: ignore[arg-type]
        lambda: Fault.status(400, before_body="yes"),  # type: ignore[arg-type]
        lambda: Fault.drop(after=-1),
        lambda: Fault.hang(after=1.5),  # type: ignore[arg-type]
        lambda: Fault.corrupt_response(offset=math.inf),  # type: ignore[arg-type]
        lambda: Fault(kind="drop"),  # type: ignore[arg-type]
        lambda: Fault(kind=FaultKind.STATUS, headers={"X-A": "1\n"}),
        lambda: Fault(kind=FaultKind.STATUS, headers={"X A": "1"}),
        lambda: Fault(kind=FaultKind.STATUS, headers={"X-A": 5}),  # type: ignore[dict-item]
        lambda: Fault(kind=FaultKind.STATUS, headers="X-A: 1"),  # type: ignore[arg-type]
        lambda: Sandbox().inject("drop"),  # type: ignore[arg-type]
        lambda: Sandbox().inject(Fault.drop(), times=0),
        lambda: Sandbox().inject(Fault.drop(), times=math.inf),  # type: ignore[arg-type]
        lambda: Sandbox().inject(Fault.drop(), method=5),  # type: ignore[arg-type]
        lambda: Sandbox().inject(Fault.drop(), path=b"/v1"),  # type: ignore[arg-type]
    ],
)
def test_faults_are_checked(make: Callable[[], object]) -> None:
    """An impossible fault is refused when it is created or injected."""
    with pytest.raises(InvalidArgumentError):
        make()


ADDRESSES = [
    "no address",
    "ftp://example.com",
    "http://",
    "https:///path",
    "http://example.com:99999/",
    "http://example.com:port/",
    "http://[::1/",
    "http://example.com/\r\nX: 1",
    "http://exa mple.com/",
    "",
    5,
    b"http://example.com",
]


@pytest.mark.parametrize("url", ADDRESSES)
def test_webhook_urls_are_checked(url: Any) -> None:  # noqa: ANN401  what callers without types pass
    """An invalid URL is refused everywhere, and the previous URL stays."""
    before = {"decision": "http://127.0.0.1:1/hook"}
    sandbox = Sandbox(webhook_urls=before)
    with pytest.raises(InvalidArgumentError, match="webhook_url"):
        Sandbox(webhook_url=url)
    with pytest.raises(InvalidArgumentError, match="webhook_url"):
        Sandbox(webhook_urls={"event": url})
    with pytest.raises(InvalidArgumentError, match="webhook_url"):
        sandbox.webhook_url = url
    with pytest.raises(InvalidArgumentError, match="webhook_url"):
        sandbox.webhook_urls = {"event": url}

    assert before == sandbox.webhook_urls


@pytest.mark.parametrize(
    "options",
    [
        {"host": 5},
        {"port": "80"},
        {"port": 1.5},
        {"port": True},
        {"port": math.nan},
        {"decide_after": math.nan},
        {"decide_after": math.inf},
        {"decide_after": "3"},
        {"credentials": "key"},
        {"clock": 5},
        {"options": {"full_auto": True}},
        {"options": 0},
        {"media_folder": 5},
        {"on_request": "print"},
        {"on_delivery": 5},
        {"webhook_urls": "http://127.0.0.1"},
        {"webhook_urls": {5: "http://127.0.0.1"}},
        {"webhook_urls": {"nothing": "http://127.0.0.1"}},
    ],
    ids=str,
)
def test_arguments_of_the_sandbox_are_checked(options: dict[str, Any]) -> None:
    """Every argument of another type, not finite or out of range raises an error of the library."""
    with pytest.raises((ConfigurationError, InvalidArgumentError)):
        Sandbox(**options)


def test_credentials_are_checked_when_they_are_set() -> None:
    """Another object is refused, and the previous credentials stay."""
    credentials = Credentials("f9ae4cbd-9a3f-4a3b-b07b-7f1a2f4f9d10", "secret")
    sandbox = Sandbox(credentials=credentials)
    with pytest.raises(ConfigurationError):
        sandbox.credentials = "secret"  # type: ignore[assignment]
    assert credentials is sandbox.credentials


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -1, "5", None, 1e12])
def test_duration_of_advance_is_checked(seconds: Any) -> None:  # noqa: ANN401  what callers without types pass
    """The clock advances by a finite number of seconds, and stays in the calendar."""
    clock = VirtualClock()
    before = clock.now()
    with pytest.raises(InvalidArgumentError):
        clock.advance(seconds)
    assert before == clock.now()


@pytest.mark.parametrize("start", [datetime(2026, 1, 1), datetime.max.replace(tzinfo=UTC), 5])  # noqa: DTZ001
def test_start_of_the_virtual_clock_is_checked(start: Any) -> None:  # noqa: ANN401  what callers without types pass
    """A clock starts at an aware time that leaves room for scheduled events."""
    with pytest.raises(ConfigurationError):
        VirtualClock(start)


def test_virtual_clock_stays_in_the_calendar() -> None:
    """However often the clock is advanced, it stops before the last date with an error of the library."""
    clock = VirtualClock(datetime(8999, 1, 1, tzinfo=UTC))
    with pytest.raises(InvalidArgumentError, match="year 9000"):
        clock.advance(1e9)


@pytest.mark.anyio
async def test_interrupted_delivery_is_repeated_at_the_next_start(
    start_sandbox: StartSandbox, receiver: Receiver
) -> None:
    """A webhook that was being posted when the sandbox stopped is posted when it is entered again."""
    receiver.holds = asyncio.Event()
    async with start_sandbox(webhook_url=receiver.url, options=SandboxOptions(webhook_timeout_seconds=3600)) as caller:
        caller.sandbox.decide(await caller.create(), "approved")
        first = await receiver.next()
        sandbox = caller.sandbox
    receiver.holds.set()

    async with sandbox:
        again = await receiver.next()
        await sandbox.wait_idle()

    assert first.body == again.body
    assert [200] == [delivery.status for delivery in sandbox.deliveries]
