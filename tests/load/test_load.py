"""Many concurrent verifications over webhooks and polling, with faults, resubmissions and killed processes.

``VERIFF_LOAD=2000`` sets their number, as CI does; the default is small.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import sys
from collections import Counter, defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest

from veriff_async import Status
from veriff_async.sandbox import Fault, Sandbox, SandboxOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from blockbuster import BlockBuster

    from veriff_async.sandbox import ReceivedRequest

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("without_coverage"), pytest.mark.timeout(600)]

LOAD: Final = int(os.environ.get("VERIFF_LOAD", "60"))
STATUSES: Final = (Status.APPROVED, Status.DECLINED, Status.APPROVED)
FAULTS: Final = (
    Fault.status(502),
    Fault.status(503, retry_after=0),
    Fault.status(500),
    Fault.drop(),
    Fault.lose_response(),
    Fault.truncate_response(after=10),
)
PATHS: Final = ("/v1/sessions/*/media", "/v1/sessions/*/decision", "/v1/sessions/*", "/v1/sessions")
REQUESTS_PER_FAULT: Final = 20


def final_status(number: int) -> Status:
    """Return the decision that a verification must end with."""
    return STATUSES[number % len(STATUSES)]


class Load:
    """The state of one run: the sessions that exist, the decisions that were made, and those that workers received."""

    def __init__(self, total: int, rng: random.Random, *, webhook_url: str) -> None:
        """Start without sessions."""
        self.sandbox = Sandbox(
            options=SandboxOptions(webhook_retry_seconds=0.3),
            webhook_urls={"decision": webhook_url, "event": webhook_url},
            on_request=self.on_request,
        )
        self.sessions: dict[int, str] = {}
        self.unknown: Counter[int] = Counter()
        self.received: dict[int, set[str]] = defaultdict(set)
        self.pending = set(range(total))
        self.finished = asyncio.Event()
        self.submissions: asyncio.Queue[str] = asyncio.Queue()
        self.kills = 0
        self.requests = 0
        self.rng = rng

    def on_request(self, request: ReceivedRequest) -> None:
        """Record each submission that the sandbox accepted, and inject a fault into every twentieth request."""
        self.requests += 1
        if self.requests % REQUESTS_PER_FAULT == 0:
            self.sandbox.inject(self.rng.choice(FAULTS), path=self.rng.choice(PATHS))
        if request.method == "PATCH":
            self.submissions.put_nowait(request.path.split("/")[3])

    async def decide(self) -> None:
        """Decide on each submission; every fifth verification must be submitted a second time first."""
        resubmitted: set[str] = set()
        while True:
            session_id = await self.submissions.get()
            session = self.sandbox.session(session_id)
            # If a response was lost, the client submits the session a second time.
            if session.status != Status.SUBMITTED:
                continue
            number = int(session.vendor_data or "")
            status = final_status(number)
            if number % 5 == 0 and session_id not in resubmitted:
                resubmitted.add(session_id)
                status = Status.RESUBMISSION_REQUESTED
            self.sandbox.decide(session_id, status)

    async def run_worker(
        self, database: str, port: int, numbers: Iterable[int], *, lifetimes: Sequence[float] = ()
    ) -> None:
        """Run a worker until all decisions are received, and kill it after each of the given lifetimes."""
        assigned = set(numbers)
        for lifetime in (*lifetimes, None):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.load.worker", database, str(port)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=os.environ | dict(self.sandbox.environ),
            )
            assert process.stdin is not None
            jobs = [(number, self.sessions.get(number)) for number in sorted(assigned & self.pending)]
            process.stdin.write(json.dumps(jobs).encode())
            process.stdin.close()
            reader = asyncio.create_task(self.read_output(process))
            finished = asyncio.create_task(self.finished.wait())
            try:
                await asyncio.wait([reader, finished], timeout=lifetime, return_when=asyncio.FIRST_COMPLETED)
                assert not reader.done(), f"a worker exited with code {await process.wait()}"
            finally:
                finished.cancel()
                with suppress(ProcessLookupError):
                    process.kill()
                # Lines that the worker printed before the kill are still valid.
                await reader
                await process.wait()
            self.kills += 1

    async def read_output(self, process: asyncio.subprocess.Process) -> None:
        """Record each line that a worker prints, until its output ends."""
        assert process.stdout is not None
        async for line in process.stdout:
            self.record(json.loads(line))

    def record(self, fact: dict[str, object]) -> None:
        """Record one line of a worker."""
        number = fact.get("number")
        if not isinstance(number, int):
            return
        if "session" in fact:
            self.sessions[number] = str(fact["session"])
        if "unknown" in fact:
            self.unknown[number] += 1
        if "status" in fact:
            self.received[number].add(str(fact["status"]))
            self.pending.discard(number)
            if not self.pending:
                self.finished.set()


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run without debug mode, whose checks of each callback take longer than the load itself."""
    return "asyncio", {}


async def test_every_wait_ends_with_the_right_decision(tmp_path: Path, blockbuster: BlockBuster) -> None:
    """Despite faults, resubmissions and killed processes, every wait returns the decision of its session."""
    blockbuster.deactivate()  # its checks of each call would double the load; other tests run them
    rng = random.Random(LOAD)  # noqa: S311  the same faults in each run
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as reserved:
        port = reserved.getsockname()[1]
    load = Load(LOAD, rng, webhook_url=f"http://127.0.0.1:{port}/")
    async with load.sandbox as sandbox:
        numbers = list(range(LOAD))
        database = str(tmp_path / "inbox.db")
        lifetimes = [rng.uniform(1, 2 + LOAD / 250) for _ in range(4)]
        async with asyncio.TaskGroup() as tasks:
            decider = tasks.create_task(load.decide())
            workers = [
                tasks.create_task(
                    load.run_worker(database, port, numbers[0::5] + numbers[1::5], lifetimes=lifetimes[:2])
                ),
                tasks.create_task(
                    load.run_worker(database, port, numbers[2::5] + numbers[3::5], lifetimes=lifetimes[2:])
                ),
                tasks.create_task(load.run_worker("-", 0, numbers[4::5])),
            ]
            await asyncio.wait(workers)
            decider.cancel()

        wrong = {
            number: statuses for number, statuses in load.received.items() if statuses != {final_status(number).value}
        }
        assert wrong == {}
        assert set(load.received) == set(numbers)
        created = Counter(int(session.vendor_data or "") for session in sandbox.sessions)
        # A kill between a creation and the line that reports it causes a second creation.
        assert all(created[number] <= 1 + load.unknown[number] + load.kills for number in numbers)
