"""`VeriffClient.check`: results instead of errors, bounded in time, and one request for many probes."""

from __future__ import annotations

import asyncio
import json
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given, strategies as st
from pydantic import TypeAdapter

from tests.conditions import until
from veriff_async import (
    CheckOutcome,
    CheckReport,
    ClientClosedError,
    Credentials,
    InvalidArgumentError,
    RetryPolicy,
    VeriffClient,
)
from veriff_async._protocol import endpoints
from veriff_async._protocol.health import measure_clock_skew, report_response
from veriff_async._protocol.response import Response
from veriff_async.sandbox import Fault, Sandbox, SandboxOptions

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio

NAMES: Final = ["response", "clock", "credentials", "response signature"]
OTHER: Final = "11111111-2222-4333-8444-555555555555"


def outcomes(report: CheckReport) -> dict[str, str]:
    """Return the outcomes by name; no message holds a secret."""
    assert [result.name for result in report.results] == NAMES
    assert all(result.message.endswith(".") for result in report.results)
    return {result.name: str(result.outcome) for result in report.results}


async def test_working_client_passes_every_check(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """One request shows response, clock, credentials and signature; no session is created."""
    report = await veriff.check()

    assert dict.fromkeys(NAMES, "ok") == outcomes(report)
    assert report.ok
    assert report.latency is not None
    assert 0 == report.clock_skew
    assert (1, ()) == (len(sandbox.requests), sandbox.sessions)
    assert {"check": 1} == veriff.statistics().calls
    assert {} == veriff.statistics().failures
    assert json.loads(json.dumps(report.to_dict()))["results"][0]["name"] == "response"


@pytest.mark.parametrize(
    ("fault", "failed"),
    [
        (Fault.status(401), "credentials"),
        (Fault.status(500), "credentials"),
        (Fault.status(503), "credentials"),
        (Fault.status(302), "credentials"),
        (Fault.forge_signature(), "response signature"),
        (Fault.drop(), "response"),
    ],
    ids=["401", "500", "503", "302", "forged", "drop"],
)
async def test_each_trouble_is_a_result(sandbox: Sandbox, veriff: VeriffClient, fault: Fault, failed: str) -> None:
    """A check never raises for a fault of the server, and makes exactly one attempt."""
    sandbox.inject(fault)

    report = await veriff.check()

    assert [failed] == [name for name, outcome in outcomes(report).items() if outcome == "failed"]
    assert not report.ok
    assert 1 == veriff.statistics().requests


async def test_wrong_secret_is_a_failure_of_the_credentials(sandbox: Sandbox) -> None:
    """The message names the remedy, and neither it nor the report shows the secret."""
    wrong = Credentials(sandbox.credentials.api_key, OTHER)
    async with VeriffClient(wrong, base_url=sandbox.base_url) as veriff:
        report = await veriff.check()

    assert "failed" == outcomes(report)["credentials"]
    assert "code 1818" in report.results[2].message
    assert OTHER not in repr(report) + json.dumps(report.to_dict())


async def test_unsigned_refusal_is_accepted() -> None:
    """Whether Veriff signs a 404 is not documented, so a missing signature does not fail the check."""
    sandbox = Sandbox(options=SandboxOptions(sign_errors=False))
    async with sandbox, VeriffClient.from_env(sandbox.environ) as veriff:
        report = await veriff.check()

    assert report.ok
    assert "skipped" == outcomes(report)["response signature"]


async def test_unreachable_server_is_a_result() -> None:
    """A refused connection is reported with its reason, and the other checks are skipped."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    async with VeriffClient(Credentials(OTHER, "secret"), base_url=f"http://127.0.0.1:{port}") as veriff:
        report = await veriff.check()

    assert ["failed", "skipped", "skipped", "skipped"] == list(outcomes(report).values())
    assert "could not be sent (Connection refused)" in report.results[0].message
    assert (None, None) == (report.latency, report.clock_skew)


async def test_hanging_server_ends_after_the_timeout(
    sandbox: Sandbox, veriff: VeriffClient, advance_time: Callable[[float], None]
) -> None:
    """The check ends in time, and a caller that allows more time asks again instead of getting that report."""
    sandbox.inject(Fault.hang())
    check = asyncio.ensure_future(veriff.check(timeout=2))
    await until(lambda: not sandbox.faults)
    advance_time(2)
    report = await check

    assert "failed" == outcomes(report)["response"]
    assert "within 2 s" in report.results[0].message
    assert (await veriff.check(timeout=1)) is report
    assert (await veriff.check(timeout=3)).ok
    assert 0 == veriff.statistics().active_requests


async def test_report_is_returned_again_while_it_is_fresh(
    sandbox: Sandbox, veriff: VeriffClient, advance_time: Callable[[float], None]
) -> None:
    """Within `max_age` no request is sent, for a view neither; with zero each check sends one."""
    report = await veriff.check()
    advance_time(9)
    assert report is await veriff.with_options(retry=RetryPolicy(max_attempts=1)).check()
    advance_time(2)
    assert report is not await veriff.check()
    await veriff.check(max_age=0)

    assert 3 == len(sandbox.requests)


async def test_simultaneous_probes_share_one_request(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """Probes that arrive during a request get its report; if its caller is cancelled, the next one asks."""
    sandbox.inject(Fault.hang())
    first = asyncio.ensure_future(veriff.check(max_age=0))
    await until(lambda: not sandbox.faults)
    others = [asyncio.ensure_future(veriff.check(max_age=0)) for _ in range(50)]
    await asyncio.sleep(0)
    first.cancel()
    reports = await asyncio.gather(*others)

    assert first.cancelled()
    assert 1 == len({id(report) for report in reports})
    assert 2 == veriff.statistics().requests


async def test_impatient_probe_does_not_replace_a_report(
    sandbox: Sandbox, veriff: VeriffClient, advance_time: Callable[[float], None]
) -> None:
    """A probe that waits for the request of another, and has less time, fails for itself only."""
    sandbox.inject(Fault.hang())
    patient = asyncio.ensure_future(veriff.check(timeout=60))
    await until(lambda: not sandbox.faults)
    impatient = asyncio.ensure_future(veriff.check(timeout=1))
    await asyncio.sleep(0)
    advance_time(1)
    assert not (await impatient).ok
    advance_time(59)

    assert "within 60 s" in (await patient).results[0].message
    assert (await patient) is await veriff.check(timeout=1)


async def test_nothing_is_sent_during_a_pause(
    sandbox: Sandbox, veriff: VeriffClient, advance_time: Callable[[float], None]
) -> None:
    """A 429 pauses probes too: without an report there is a warning, and a failure stays until the pause ends."""
    sandbox.inject(Fault.status(429, retry_after=30))
    call = asyncio.ensure_future(veriff.create_session())
    await until(lambda: veriff.statistics().rate_limited)
    report = await veriff.check()
    assert (CheckOutcome.WARNING, True) == (report.results[0].outcome, report.ok)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    advance_time(60)
    sandbox.inject(Fault.status(503, retry_after=30))
    failed = await veriff.check()
    advance_time(20)
    assert failed is await veriff.check()
    advance_time(20)

    assert not failed.ok
    assert (await veriff.check()).ok
    assert 3 == len(sandbox.requests)


async def test_schema_of_a_report_has_every_member(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """The OpenAPI of a probe names all that its response contains."""
    report = await veriff.check()

    # In a thread, because pydantic is imported now.
    schema = await asyncio.to_thread(lambda: TypeAdapter(CheckReport).json_schema(mode="serialization"))
    assert schema["properties"].keys() == report.to_dict().keys()


async def test_closed_client_raises(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """Closing ends a check that is under way, and a fresh report does not hide that the client is closed."""
    await veriff.check()
    sandbox.inject(Fault.hang())
    check = asyncio.ensure_future(veriff.check(max_age=0))
    await until(lambda: not sandbox.faults)
    await veriff.aclose()

    for call in (check, veriff.check()):
        with pytest.raises(ClientClosedError):
            await call


@pytest.mark.parametrize("arguments", [{"timeout": 0}, {"timeout": "5"}, {"max_age": -1}, {"max_age": None}])
async def test_wrong_arguments_are_refused(veriff: VeriffClient, arguments: dict[str, Any]) -> None:
    """The error names the argument."""
    with pytest.raises(InvalidArgumentError, match=next(iter(arguments))):
        await veriff.check(**arguments)


async def test_wrong_clock_is_a_warning_only() -> None:
    """A clock that is an hour wrong does not make the application unready: Veriff accepts its requests."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    response = Response(
        request=endpoints.decision(OTHER).sign(Credentials(OTHER, "secret")),
        status=404,
        headers={"Date": format_datetime(now - timedelta(hours=1), usegmt=True)},
        body=b'{"status": "fail"}',
    )

    report = report_response(response, now=now, seconds=0.5)

    assert {"clock": "warning", "response signature": "skipped"} == {
        name: outcome for name, outcome in outcomes(report).items() if outcome != "ok"
    }
    assert (True, 3598.5) == (report.ok, report.clock_skew)


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d{1,9} [A-Z][a-z]{2} \d{1,20} \d\d:\d\d:\d\d [+-]\d{1,12}"))
def test_any_date_header_is_a_skew_or_none(date: str) -> None:
    """A date that a proxy has garbled counts as missing, and never raises."""
    skew = measure_clock_skew(date, now=datetime(2026, 1, 1, tzinfo=UTC), seconds=1)

    assert skew is None or abs(skew) >= 0
