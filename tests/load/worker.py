"""A worker process of the load test: ``python -m tests.load.worker DATABASE PORT``, jobs as JSON on standard input.

With a database it receives webhooks on the port, which several workers share, and waits through the inbox; without one
(``-``) it polls. It prints one JSON line for each created session and for each decision.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from contextlib import AsyncExitStack
from typing import Final

from aiohttp import web

from veriff_async import (
    ApiError,
    Credentials,
    Media,
    OutcomeUnknownError,
    PollPolicy,
    RetryPolicy,
    ServerError,
    Status,
    TransportError,
    VeriffClient,
    VerificationSession,
    WebhookReceiver,
)
from veriff_async.inbox import SqliteInbox
from veriff_async.webhooks import aiohttp_app

PICTURE: Final = b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(5_000)
CONCURRENCY: Final = 100


def report(**facts: object) -> None:
    """Print one fact as a whole line with a single write, so that a kill leaves no partial line."""
    os.write(1, (json.dumps(facts) + "\n").encode())


async def create(veriff: VeriffClient, number: int) -> VerificationSession:
    """Create a session; if the outcome is unknown, report that and create another one."""
    while True:
        try:
            session = await veriff.create_session(vendor_data=str(number))
        except OutcomeUnknownError:
            report(number=number, unknown=True)
        else:
            report(number=number, session=session.id)
            return session


async def send(session: VerificationSession) -> None:
    """Upload and submit, unless an earlier run of this program has done that."""
    while True:
        try:
            await session.upload(Media(PICTURE, "document-front"), Media(PICTURE, "face"))
            await session.submit()
        except (TransportError, ServerError):
            continue  # the client has no retries left, but this program tries again
        except ApiError:
            pass  # this program submitted the session before it was killed
        return


async def verify(veriff: VeriffClient, number: int, session_id: str | None) -> None:
    """Complete one verification, with another session object at each step, as web requests do."""
    session = await create(veriff, number) if session_id is None else veriff.session(session_id)
    await send(session)
    while True:
        decision = await veriff.session(session.id).wait_for_decision(timeout=120)
        if decision.status != Status.RESUBMISSION_REQUESTED:
            report(number=number, status=decision.status)
            return
        report(number=number, resubmission=True)
        await send(veriff.session(session.id))


async def main(database: str, port: int) -> None:
    """Run all jobs, with a limit on those that run concurrently."""
    jobs: list[tuple[int, str | None]] = json.loads(await asyncio.to_thread(sys.stdin.read))
    poll = PollPolicy(interval=0.2, backoff_factor=1.2, max_interval=1.0, max_rate=300)
    retry = RetryPolicy(max_attempts=8, initial_backoff=0.02, max_backoff=0.2)
    async with AsyncExitStack() as stack:
        inbox = None
        if database != "-":
            inbox = SqliteInbox(database)
            runner = web.AppRunner(aiohttp_app(WebhookReceiver(Credentials.from_env(), inbox)), access_log=None)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", port, reuse_port=True).start()
        # Waits poll rarely with an inbox, so nearly all decisions must arrive by webhook.
        policy = poll if inbox is None else PollPolicy(initial_delay=5, interval=5, max_interval=5, max_rate=100)
        veriff = await stack.enter_async_context(VeriffClient.from_env(inbox=inbox, poll=policy, retry=retry))
        report(ready=True)
        random.shuffle(jobs)
        queue = iter(jobs)

        async def work() -> None:
            for number, session_id in queue:
                await verify(veriff, number, session_id)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(CONCURRENCY):
                tasks.create_task(work())
        report(done=True)
        # The other workers may still wait for webhooks that arrive at this process.
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
