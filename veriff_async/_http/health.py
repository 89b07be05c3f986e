"""Checks whether Veriff accepts the requests of a client, with one request for any number of probes.

    check ──► fresh report? ──────────────────────────────► return it
                └─► lock ──► fresh by now? ───────────────► return it
                               └─► `Transport.probe` ──► rules of `_protocol/health.py`

A report is fresh for `max_age` seconds. Probes that arrive while a request is under way wait for its report.
"""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

from attrs import evolve, frozen

from veriff_async._event_loop import require_asyncio
from veriff_async._protocol import endpoints
from veriff_async._protocol.arguments import check_number
from veriff_async._protocol.health import report_failure, report_response
from veriff_async.errors import InvalidArgumentError, ResponseError, TransportError
from veriff_async.health import CheckOutcome

if TYPE_CHECKING:
    from veriff_async._http.transport import Transport
    from veriff_async.health import CheckReport

__all__ = ("HealthMonitor",)


@frozen
class _Remembered:
    """A report, and when it was made on the loop's clock.

    Attributes:
        limit: The time limit that ended the request; a caller that allows more time makes another.
    """

    report: CheckReport
    time: float
    limit: float = math.inf


class HealthMonitor:
    """The last report of a client and its views."""

    def __init__(self, transport: Transport) -> None:
        """Start without a report."""
        self._transport = transport
        self._lock = asyncio.Lock()
        self._last: _Remembered | None = None

    async def check(self, *, timeout: float, max_age: float) -> CheckReport:  # noqa: ASYNC109  the report names it
        """Return a report that is at most `max_age` seconds old; see `VeriffClient.check`."""
        remedy = "give seconds above zero"
        check_number("timeout", timeout, above=True, remedy=remedy, error=InvalidArgumentError)
        check_number("max_age", max_age, remedy="give seconds, or zero", error=InvalidArgumentError)
        loop = require_asyncio().get_loop()
        before, is_asking = self._last, False
        with self._transport.guard():
            try:
                async with asyncio.timeout(timeout), self._lock:
                    last = self._last
                    # A report that was made during this call is fresh for it, even with a `max_age` of zero.
                    is_fresh = last is not None and (last is not before or last.time > loop.time() - max_age)
                    if last is not None and is_fresh and timeout <= last.limit:
                        return last.report
                    if (pause := self._transport.cooldown.remaining) > 0:
                        return _report_pause(pause) if last is None else last.report
                    is_asking = True
                    last = _Remembered(await self._ask(), loop.time())
            except TimeoutError:
                problem = f"Veriff did not respond within {timeout:g} s: check base_url, the network and any proxy."
                last = _Remembered(report_failure(problem, now=datetime.now(UTC)), loop.time(), timeout)
            # One that only waited for the request of another caller knows less than that caller.
            if is_asking:
                self._last = last
            return last.report

    async def _ask(self) -> CheckReport:
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            # A random id: such a session does not exist, so the request reads and changes nothing.
            response = await self._transport.probe(evolve(endpoints.decision(str(uuid4())), operation="check"))
        except (TransportError, ResponseError) as error:
            return report_failure(str(error), now=datetime.now(UTC))
        return report_response(response, now=datetime.now(UTC), seconds=loop.time() - started)


def _report_pause(seconds: float) -> CheckReport:
    # Veriff has asked for fewer requests, and a probe must not be the one that ignores it.
    problem = f"Not checked: a 429 or 503 pauses this client for {seconds:.0f} s more."
    return report_failure(problem, now=datetime.now(UTC), outcome=CheckOutcome.WARNING)
