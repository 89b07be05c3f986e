"""A check ends in spite of what an endpoint does: endless, broken and missing responses are results."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

import pytest

from tests.receiver_check.conftest import CREDENTIALS
from veriff_async.testing import CaseOutcome, CaseSeverity, check_receiver

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.anyio

OK: Final = b"HTTP/1.1 200 OK\r\n"


@asynccontextmanager
async def serve(first: bytes, then: bytes = b"") -> AsyncGenerator[str]:
    """Answer each connection with some bytes, then others without an end, and return the URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(first)
            while then:
                writer.write(then)
                await writer.drain()
            if first:
                await writer.drain()
            else:
                await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


@pytest.mark.parametrize(
    ("first", "then", "found"),
    [
        (OK + b"Content-Length: 9\r\n\r\nhalf", b"", "HTTP 200, but the response broke off"),
        (OK + b"\r\n", b"x" * 65536, "HTTP 200, but the response is larger than 4 MiB"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n", "larger than 4 MiB"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n", b"", "HTTP 200, but the response is not HTTP"),
        (OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", b"", "HTTP 200, but its length is not usable"),
        (OK, b"x-header: " + b"x" * 1000 + b"\r\n", "the response has more than 64 KiB of headers"),
        (OK, b"x" * 1000, "the response has a line longer than 64 KiB"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", "sent 20 responses 1xx and no other"),
        (b"", b"", "no response within 0.2 seconds"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", b"", "the response is not HTTP"),
        (OK[:7], b"", "the response is not HTTP"),
    ],
)
async def test_broken_response_is_a_failure(first: bytes, then: bytes, found: str) -> None:
    """The webhook does not count as accepted, and the message says why."""
    async with serve(first, then) as url:
        report = await check_receiver(
            url, CREDENTIALS, only=["decision-approved"], deadline=0.2 if "no response" in found else 30.0
        )

    (result,) = report.results
    assert CaseOutcome.FAILED is result.outcome
    assert found in result.message


async def test_endpoint_that_is_not_reachable_is_a_problem() -> None:
    """Nothing is checked then, and the report says why."""
    async with serve(OK) as url:
        pass

    report = await check_receiver(url, CREDENTIALS)

    assert (False, ()) == (report.is_ok, report.results)
    assert report.problem.startswith("no connection (")


async def test_time_limit_of_the_check_leaves_cases_unchecked() -> None:
    """When the time is over, each remaining case says so."""
    async with serve(b"") as url:
        report = await check_receiver(url, CREDENTIALS, only=["events"], timeout=0.1)

    assert {"The time for the whole check was over."} == {result.message for result in report.results}
    assert {CaseOutcome.NOT_CHECKED} == {result.outcome for result in report.results}


async def test_refused_decision_leaves_dependent_cases_unchecked() -> None:
    """One cause gives one error: cases that need an accepted decision say what to fix first."""
    async with serve(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n") as url:
        report = await check_receiver(url, CREDENTIALS, skip=["events", "body-huge", "stalled-body"])
        alone = await check_receiver(url, CREDENTIALS, only=["decision-approved", "body-numbers", "signature-missing"])

    assert "body-numbers" in [result.case.name for result in report.failed]
    assert [CaseOutcome.FAILED, CaseOutcome.PASSED, CaseOutcome.NOT_CHECKED] == [
        result.outcome for result in alone.results
    ]
    assert "An ordinary decision is not accepted: fix decision-approved first." == alone.results[2].message


async def test_missing_response_is_judged_by_the_purpose_of_the_request() -> None:
    """Without a response a forged webhook was not accepted, which is a warning; a harmless request must be answered."""
    async with serve(b"SSH-2.0-OpenSSH_9.2\r\n") as url:
        report = await check_receiver(url, CREDENTIALS, only=["signature-missing", "method-get"], deadline=30.0)

    assert {"signature-missing": CaseSeverity.WARNING, "method-get": CaseSeverity.WARNING} == {
        result.case.name: result.severity for result in report.results
    }
    assert all("got no response: the response is not HTTP." in result.message for result in report.results)


async def test_response_may_end_with_its_connection() -> None:
    """HTTP allows a response without a length, which ends when the connection ends; headers must be whole."""
    async with serve(OK + b"\r\nok") as url:
        whole = await check_receiver(url, CREDENTIALS, only=["decision-approved"], deadline=30.0)
    async with serve(OK + b"X-Trace: 1\r\n") as url:
        cut = await check_receiver(url, CREDENTIALS, only=["decision-approved"], deadline=30.0)

    assert (CaseOutcome.PASSED, CaseOutcome.FAILED) == (whole.results[0].outcome, cut.results[0].outcome)
    assert "the connection was closed without a response" in cut.results[0].message


async def test_endpoint_without_tls_is_a_problem_of_a_report() -> None:
    """With https in its URL, an endpoint that speaks HTTP is not checked; the file of JUnit has an error then."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await reader.read(1)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await reader.read()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        report = await check_receiver(url, CREDENTIALS, deadline=30.0)

    assert ("the TLS handshake failed", ()) == (report.problem, report.results)
    suite = ET.fromstring(report.to_junit())[0]  # noqa: S314  our own document
    assert ("1", "1") == (suite.get("tests"), suite.get("errors"))
    assert ["the TLS handshake failed"] == [error.get("message") for error in suite.iter("error")]


async def test_host_that_cannot_exist_is_a_problem() -> None:
    """A label of a host name has at most 63 characters (RFC 1035, section 2.3.4)."""
    report = await check_receiver(f"http://{'a' * 64}.localhost/", CREDENTIALS)

    assert (False, ()) == (report.is_ok, report.results)
    assert report.problem == "the address cannot be used"
