"""The spans and the metrics of batches."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from tests.conditions import until
from veriff_async import Media, PollPolicy, VeriffClient
from veriff_async.batch import Job, MemoryJournal, collect_many, submit_many, verify_many

if TYPE_CHECKING:
    from tests.telemetry.conftest import Exported
    from veriff_async.client import ClientOptions
    from veriff_async.sandbox import Sandbox

pytestmark = pytest.mark.anyio

JPEG: Final = b"\xff\xd8\xff\xe0" + bytes(2000)


@pytest.fixture
def client_options(exported: Exported) -> ClientOptions:
    """Poll without delay."""
    return {"telemetry": exported.telemetry, "poll": PollPolicy(initial_delay=0.001, interval=0.001)}


async def test_each_job_is_a_trace_linked_to_its_run(
    veriff: VeriffClient, sandbox: Sandbox, exported: Exported
) -> None:
    """A job begins a trace with all its calls, which links to the run; jobs are counted by their last state."""
    jobs = [Job(f"user-{number}", [Media(JPEG, "face")]) for number in range(3)]
    jobs.append(Job("user-broken", [Media(b"", "face")]))
    journal = MemoryJournal()
    await submit_many(veriff, jobs, journal=journal)
    for session in sandbox.sessions:
        sandbox.decide(session.id, "approved")
    during = [exported.value("veriff.batch.rate") async for _ in collect_many(veriff, journal=journal)]

    first, second = exported.named("veriff.batch")
    submitted, collected = (
        [span for span in exported.named("veriff.batch.job") if span.links[0].context.span_id == run.context.span_id]
        for run in (first, second)
    )
    assert ["failed", "submitted", "submitted", "submitted"] == sorted(
        str((span.attributes or {})["veriff.batch.job.state"]) for span in submitted
    )
    assert {"decided"} == {(span.attributes or {})["veriff.batch.job.state"] for span in collected}
    assert {None} == {span.parent for span in (*submitted, *collected)}
    assert {"veriff.batch.job"} == {exported.parent_of(span) for span in exported.named("POST /v1/sessions")}
    assert "user-" not in "".join(span.to_json() for span in exported.spans)
    for state, count in (("submitted", 3), ("failed", 1), ("decided", 3)):
        assert count == exported.value("veriff.batch.job.duration", {"veriff.batch.job.state": state})
    for state in ("running", "waiting"):
        assert 0 == exported.value("veriff.batch.jobs", {"veriff.batch.job.state": state})
    assert all(during)
    assert None is exported.value("veriff.batch.rate")


async def test_closed_batch_ends_its_spans(veriff: VeriffClient, exported: Exported) -> None:
    """A batch that its caller leaves ends the spans of its jobs, which stopped, and counts none of them any more."""
    jobs = [Job(f"user-{number}", [Media(JPEG, "face")], timeout=None) for number in range(3)]
    waiting: list[int] = []

    async def verify() -> None:
        async for _ in verify_many(
            veriff, jobs, journal=MemoryJournal(), progress=lambda progress: waiting.append(progress.waiting)
        ):
            pass

    run = asyncio.create_task(verify())
    await until(lambda: 3 in waiting)
    run.cancel()
    await asyncio.wait([run])

    states = [(span.attributes or {})["veriff.batch.job.state"] for span in exported.named("veriff.batch.job")]
    assert ["stopped"] * 3 == states
    assert 1 == len(exported.named("veriff.batch"))
    for state in ("running", "waiting"):
        assert 0 == exported.value("veriff.batch.jobs", {"veriff.batch.job.state": state})
