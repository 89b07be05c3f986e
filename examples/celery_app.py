"""Verify people with Celery: a task submits their pictures, and another one saves each decision, once.

Install: pip install "veriff-async[redis]" "celery[redis]" starlette uvicorn
Run it:  celery -A celery_app worker --concurrency 4
         celery -A celery_app beat                        asks for decisions whose webhooks were lost
         uvicorn --factory celery_app:create_webhooks     receives webhooks, and sends a task for each decision
         python celery_app.py user-42 user-43             sends tasks: the pictures are in the folders of these names
Settings: the variables of VeriffClient.from_env(), and
    REDIS_URL  the broker, the journal, the inbox and the decisions (redis://localhost:6379/0)
    PICTURES   a folder that all workers share (pictures)
In the Customer Portal, set the webhook addresses to https://your.host/webhooks/veriff.

Tasks of Celery are functions, so they use the client for synchronous code. Each worker process has one, with a journal
and an inbox. They are opened after the fork, which connections and the client's event loop do not survive.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn

import redis
from celery import Celery, Task
from celery.signals import worker_process_init, worker_process_shutdown
from starlette.applications import Starlette
from starlette.routing import Route

from veriff_async import (
    AuthenticationError,
    Credentials,
    Decision,
    DecisionEvent,
    DecisionTimeoutError,
    Delivery,
    JournalError,
    Media,
    OutcomeUnknownError,
    PermissionDeniedError,
    RateLimitedError,
    ResponseError,
    ServerError,
    TransportError,
    VeriffError,
    blocking,
)
from veriff_async.batch import Job, RedisJournal, collect_many, verify_one
from veriff_async.inbox import RedisInbox
from veriff_async.webhooks import WebhookReceiver, asgi_app

LOG = logging.getLogger("verification")
REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379/0")

# Errors that may be over when the same task runs again. JournalError: also a job that another worker has.
MAY_PASS = (
    AuthenticationError,
    JournalError,
    PermissionDeniedError,
    RateLimitedError,
    ResponseError,
    ServerError,
    TransportError,
)

app = Celery("verification", broker=REDIS_URL)
app.conf.update(
    # A message is acknowledged after its task, so that a worker that dies loses none. It may then run twice, which the
    # journal makes harmless.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,  # results are below, and no broker needs them
    worker_prefetch_multiplier=1,
    # Redis delivers a message again that was not acknowledged in this time, so it is longer than a task takes, retries
    # in its client included, and than the longest countdown below.
    broker_transport_options={"visibility_timeout": 3600},
    broker_connection_retry_on_startup=True,
    beat_schedule={"collect": {"task": "celery_app.collect", "schedule": 600.0}},
)


class Worker:
    """The client, inbox and journal that are open in a worker process."""

    def __init__(self) -> None:
        """Open the client, and in its event loop the inbox and the journal."""
        inbox = RedisInbox(REDIS_URL)
        self.veriff = blocking.open_client(inbox=inbox)
        self.veriff.enter(inbox)
        self.journal = self.veriff.enter(RedisJournal(REDIS_URL))
        self.decisions = redis.Redis.from_url(REDIS_URL)

    def close(self) -> None:
        """Close everything."""
        self.veriff.close()
        self.decisions.close()

    def save(self, decision: Decision) -> bool:
        """Save a decision, and return whether it is new; a session has one for each attempt.

        Your database does the same with a unique key. What follows a decision, such as a mail, belongs into the
        transaction that inserts it, or is done if this returns True.
        """
        key = f"{decision.session_id}/{decision.attempt_id}"
        return bool(self.decisions.hsetnx("decisions", key, decision.status))


worker: Worker


@worker_process_init.connect
def open_worker(**_signal: object) -> None:
    """Open the worker of a process, after the fork."""
    global worker  # noqa: PLW0603  one for each process
    worker = Worker()


@worker_process_shutdown.connect
def close_worker(**_signal: object) -> None:
    """Close it, when the last task of the process has ended."""
    worker.close()


def load_job(job_id: str) -> Job:
    """Return a job by its id, the same each time: messages contain ids only, and no personal data."""
    folder = Path(os.environ.get("PICTURES", "pictures"), job_id)
    return Job(job_id, [Media(folder / "front.jpg", "document-front"), Media(folder / "face.jpg", "face")])


def retry_later(task: Task, error: VeriffError) -> NoReturn:
    """Send a task again, with pauses from 2 seconds to 10 minutes, for as long as it takes."""
    LOG.warning("%s is tried again after a %s.", task.request.task, type(error).__name__)
    raise task.retry(countdown=min(600, 2 ** (task.request.retries + 1)), max_retries=None) from None


@app.task(bind=True, name="celery_app.verify")
def verify(self: Task, job_id: str) -> None:
    """Create a session, upload the pictures and submit them. Running it again continues, or does nothing."""
    try:
        veriff, journal = worker.veriff, worker.journal
        result = veriff.run(verify_one, veriff.async_client, load_job(job_id), journal=journal, wait=False)
    except MAY_PASS as error:  # of the journal, or of the credentials: every job meets it
        retry_later(self, error)
    problem = result.error
    if problem is None:
        LOG.info("Job %s is %s.", job_id, result.state)
    elif isinstance(problem, OutcomeUnknownError):
        # Not repeated: Veriff may have created the session, and a repetition would create a second one. The journal
        # holds the job until a person has looked, and called `resolve_unknown`.
        LOG.error("Job %s may have a session: look for it in the Customer Portal.", job_id)
    elif isinstance(problem, MAY_PASS):
        retry_later(self, problem)
    else:  # a picture that is missing or unsuitable, for example
        LOG.error("Job %s ends: %s: %s", job_id, type(problem).__name__, problem)


@app.task(bind=True, name="celery_app.read_decision")
def read_decision(self: Task, session_id: str) -> None:
    """Save the decision on a session, of which a webhook has informed."""
    try:
        decision = worker.veriff.session(session_id).wait_for_decision(timeout=0)  # the inbox has it
    except DecisionTimeoutError:
        return  # a newer attempt has begun
    except MAY_PASS as error:
        retry_later(self, error)
    handle(decision)


@app.task(bind=True, name="celery_app.collect")
def collect(self: Task) -> None:
    """Ask for the decisions on all submitted jobs: some webhooks are lost."""
    veriff = worker.veriff
    try:
        for result in veriff.iterate(collect_many, veriff.async_client, journal=worker.journal, timeout=0):
            if result.decision is not None:
                handle(result.decision)
    except MAY_PASS as error:
        retry_later(self, error)


def handle(decision: Decision) -> None:
    """Do what follows a decision, once."""
    if worker.save(decision):
        LOG.info("Session %s is %s.", decision.session_id, decision.status)


def send_task(delivery: Delivery[DecisionEvent]) -> None:
    """Give a decision to a worker, again if the broker is down.

    A plain function, because the broker blocks: the receiver calls it in a thread.
    """
    if delivery.ignored is None:
        read_decision.delay(delivery.event.session_id)


def create_webhooks() -> Starlette:
    """Create the application that receives webhooks; any number of processes may run it."""
    inbox = RedisInbox(REDIS_URL)  # shared with the workers, which may run on other machines
    receiver = WebhookReceiver(Credentials.from_env(), inbox)
    receiver.on(DecisionEvent)(send_task)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with inbox, receiver:  # the receiver ends first, with its calls of `send_task`
            yield

    return Starlette(routes=[Route("/webhooks/veriff", asgi_app(receiver))], lifespan=lifespan)


if __name__ == "__main__":
    for job_id in sys.argv[1:]:
        app.send_task("celery_app.verify", [job_id])
