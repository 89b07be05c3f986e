"""Many verifications at once over webhooks and polling, with faults, resubmissions, and processes that are killed.

``VERIFF_LOAD=2000`` runs as many, as CI does; without it a few.
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
    """The state of one run: which sessions exist, which decisions were given, and which were received."""

    def __init__(self, total: int, rng: random.Random, *, webhook_url: str) -> None:
        """Start without a session."""
        self.sandbox = Sandbox(
            options=SandboxOptions(webhook_retry_seconds=0.3),
            webhook_urls={"decision": webhook_url, "event": webhook_url},
            on_request=self.on_request,
        )
        self.sessions: dict[int, str] = {}
        self.unknown: Counter[int] = Counter()
        self.received: dict[int, set[str]] = defaultdict(set)
        self.left = set(range(total))
        self.finished = asyncio.Event()
        self.submissions: asyncio.Queue[str] = asyncio.Queue()
        self.kills = 0
        self.requests = 0
        self.rng = rng

    def on_request(self, request: ReceivedRequest) -> None:
        """Note each submission that the sandbox accepted, and let a later request fail, a creation or any other."""
        self.requests += 1
        if self.requests % REQUESTS_PER_FAULT == 0:
            self.sandbox.inject(self.rng.choice(FAULTS), path=self.rng.choice(PATHS))
        if request.method == "PATCH":
            self.submissions.put_nowait(request.path.split("/")[3])

    async def decide(self) -> None:
        """Decide about each submission: every fifth verification must be submitted once more."""
        asked: set[str] = set()
        while True:
            session_id = await self.submissions.get()
            session = self.sandbox.session(session_id)
            # A lost answer hides the submission from the client, which then submits once more.
            if session.status != Status.SUBMITTED:
                continue
            number = int(session.vendor_data or "")
            status = final_status(number)
            if number % 5 == 0 and session_id not in asked:
                asked.add(session_id)
                status = Status.RESUBMISSION_REQUESTED
            self.sandbox.decide(session_id, status)

    async def run_worker(
        self, database: str, port: int, numbers: Iterable[int], *, lifetimes: Sequence[float] = ()
    ) -> None:
        """Run a worker until everything is finished, killing it after each of the given seconds."""
        mine = set(numbers)
        for lifetime in (*lifetimes, None):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.load.worker", database, str(port)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=os.environ | dict(self.sandbox.environ),
            )
            assert process.stdin is not None
            jobs = [(number, self.sessions.get(number)) for number in sorted(mine & self.left)]
            process.stdin.write(json.dumps(jobs).encode())
            process.stdin.close()
            reading = asyncio.create_task(self.read(process))
            finished = asyncio.create_task(self.finished.wait())
            try:
                await asyncio.wait([reading, finished], timeout=lifetime, return_when=asyncio.FIRST_COMPLETED)
                assert not reading.done(), f"a worker ended by itself, with {await process.wait()}"
            finally:
                finished.cancel()
                with suppress(ProcessLookupError):
                    process.kill()
                # Lines that were printed before the kill are true all the same.
                await reading
                await process.wait()
            self.kills += 1

    async def read(self, process: asyncio.subprocess.Process) -> None:
        """Note what a worker prints, to its end."""
        assert process.stdout is not None
        async for line in process.stdout:
            self.note(json.loads(line))

    def note(self, fact: dict[str, object]) -> None:
        """Note one line of a worker."""
        number = fact.get("number")
        if not isinstance(number, int):
            return
        if "session" in fact:
            self.sessions[number] = str(fact["session"])
        if "unknown" in fact:
            self.unknown[number] += 1
        if "status" in fact:
            self.received[number].add(str(fact["status"]))
            self.left.discard(number)
            if not self.left:
                self.finished.set()


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run without debug mode: the checks of each callback would take longer than the load itself."""
    return "asyncio", {}


async def test_every_wait_ends_with_the_right_decision(tmp_path: Path, blockbuster: BlockBuster) -> None:
    """Over webhooks, polling, resubmissions, faults and killed processes, every wait gets its session's decision."""
    blockbuster.deactivate()  # other tests check each call; here it would double the load
    rng = random.Random(LOAD)  # noqa: S311  the same faults in each run
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as reserved:
        port = reserved.getsockname()[1]
    load = Load(LOAD, rng, webhook_url=f"http://127.0.0.1:{port}/")
    async with load.sandbox as sandbox:
        numbers = list(range(LOAD))
        database = str(tmp_path / "inbox.db")
        lives = [rng.uniform(1, 2 + LOAD / 250) for _ in range(4)]
        async with asyncio.TaskGroup() as tasks:
            deciding = tasks.create_task(load.decide())
            workers = [
                tasks.create_task(load.run_worker(database, port, numbers[0::5] + numbers[1::5], lifetimes=lives[:2])),
                tasks.create_task(load.run_worker(database, port, numbers[2::5] + numbers[3::5], lifetimes=lives[2:])),
                tasks.create_task(load.run_worker("-", 0, numbers[4::5])),
            ]
            await asyncio.wait(workers)
            deciding.cancel()

        wrong = {
            number: statuses for number, statuses in load.received.items() if statuses != {final_status(number).value}
        }
        assert wrong == {}
        assert set(load.received) == set(numbers)
        created = Counter(int(session.vendor_data or "") for session in sandbox.sessions)
        # A kill can come between a creation and the line that reports it.
        assert all(created[number] <= 1 + load.unknown[number] + load.kills for number in numbers)
