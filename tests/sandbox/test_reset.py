"""`Sandbox.reset`: as if the sandbox was new, also if much else happens at the same time."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientError, FormData
from anyio import to_thread

from veriff_async import InvalidArgumentError, Status
from veriff_async.sandbox import Fault, RequestChaos, Sandbox, SandboxOptions, VirtualClock, WebhookKind
from veriff_async.sandbox._chaos.profile import ChaosProfile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.sandbox.conftest import Caller, Receiver, StartSandbox

pytestmark = pytest.mark.anyio

PICTURE = "/9j/4AAQ" + "A" * 400


async def test_everything_that_happened_is_gone(
    start_sandbox: StartSandbox, receiver: Receiver, tmp_path: Path
) -> None:
    """Sessions, files, webhooks, faults, faces, reports, records and the timeline are those of a new sandbox."""
    urls = dict.fromkeys(WebhookKind, receiver.url)
    async with start_sandbox(clock=VirtualClock(), webhook_urls=urls, media_folder=tmp_path) as caller:
        sandbox = caller.sandbox
        session_id = await caller.create(vendorData="user-42")
        media_id = (await caller.upload(session_id, PICTURE)).json["image"]["id"]
        attempt_id = sandbox.session(session_id).attempts[0].id
        address_id = sandbox.submit_address(session_id)
        sandbox.decide(session_id, "approved")
        await caller.post("/v1/faces/import", {"images": [{"name": "a", "content": PICTURE}]})
        await report_fraud(caller, session_id)
        sandbox.inject(Fault.drop(), path="/v1/none")
        await sandbox.wait_idle()
        sandbox.hold_webhooks()
        before = sandbox.rules, sandbox.credentials, dict(sandbox.webhook_urls), sandbox.chaos

        sandbox.reset()
        await sandbox.wait_idle()

        shown = (sandbox.sessions, sandbox.webhooks, sandbox.requests, sandbox.deliveries, sandbox.faults)
        assert ((),) * 5 == shown
        assert () == sandbox.imported_faces
        assert [] == await list_files(tmp_path)
        assert ["state: reset"] == [entry.summary for entry in sandbox.timeline.entries()]
        assert 0 == sandbox.find_sessions(search="user-42").total
        assert before == (sandbox.rules, sandbox.credentials, dict(sandbox.webhook_urls), sandbox.chaos)
        paths = [f"/v1/sessions/{session_id}/decision", f"/v1/attempts/{attempt_id}/media", f"/v1/media/{media_id}"]
        paths.append(f"/v1/address/{address_id}")
        assert [404] * 4 == [(await caller.get(path, path.split("/")[3])).status for path in paths]
        assert "Session not found" == await report_fraud(caller, session_id)
        # Holds are gone, too: a new webhook is posted.
        sandbox.decide(await caller.create(), "declined")
        await sandbox.wait_idle()
        assert [200] == [delivery.status for delivery in sandbox.deliveries]


async def list_files(folder: Path) -> list[Path]:
    """Return the files in a folder."""
    return await to_thread.run_sync(lambda: list(folder.iterdir()))


async def report_fraud(caller: Caller, session_id: str) -> object:
    """Report a session, and return the problem."""
    path = "/v1/feedback/fraud-reports"
    body = json.dumps({"reports": [{"sessionId": session_id, "categories": ["injected_media"]}]}).encode()
    reply = await caller.send(
        "POST", path, data=body, headers=caller.signed(path.encode() + b"\n" + body, family="VRF")
    )
    return reply.json["reports"][0].get("details")


async def test_planned_events_are_gone(start_sandbox: StartSandbox) -> None:
    """Neither a decision nor the end of a session that is gone is looked up later."""
    async with start_sandbox(clock=VirtualClock(), decide_after=60) as caller:
        session_id = await caller.create()
        await caller.submit(session_id)
        caller.sandbox.reset()
        caller.sandbox.advance(30 * 86_400)
        other = await caller.create()
        assert [other] == [session.id for session in caller.sandbox.sessions]


async def test_limits_count_from_zero(start_sandbox: StartSandbox) -> None:
    """Rate, quota of faces and the number of deletions are those of a new sandbox."""
    options = SandboxOptions(requests_per_second=20, face_quota=1)
    async with start_sandbox(clock=VirtualClock(), options=options) as caller:
        for _ in range(2):
            for _ in range(5):
                session_id = await caller.create()
                reply = await caller.send(
                    "DELETE", f"/v1/sessions/{session_id}", headers=caller.signed(session_id.encode())
                )
                assert 200 == reply.status
            image = {"images": [{"name": "a", "content": PICTURE}]}
            assert 202 == (await caller.post("/v1/faces/import", image)).status
            caller.sandbox.reset()


async def test_chaos_begins_again(start_sandbox: StartSandbox) -> None:
    """The profile stays, and its counts and draws are those of a new sandbox."""
    profile = ChaosProfile(requests=(RequestChaos(faults={Fault.status(503): 0.5}),), seed=7)
    async with start_sandbox(chaos=profile) as caller:
        runs: list[list[int]] = []
        for _ in range(2):
            runs.append([(await caller.post("/v1/sessions", {"verification": {}})).status for _ in range(12)])
            caller.sandbox.reset()
        assert runs[0] == runs[1]
        assert {201, 503} == set(runs[0])
        assert profile == caller.sandbox.chaos


async def test_webhook_in_flight_leaves_nothing(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """An attempt that ends after the reset is not recorded, and is not repeated."""
    receiver.holds, receiver.answers = asyncio.Event(), [500]
    async with start_sandbox(clock=VirtualClock(), webhook_url=receiver.url) as caller:
        caller.sandbox.decide(await caller.create(), "approved")
        await receiver.next()

        caller.sandbox.reset()
        receiver.holds.set()
        await caller.sandbox.wait_idle()
        caller.sandbox.advance(86_400)
        await caller.sandbox.wait_idle()

        assert ((), ()) == (caller.sandbox.deliveries, caller.sandbox.webhooks)
        assert receiver.arrived.empty()


async def test_upload_in_flight_gets_404_and_leaves_no_file(start_sandbox: StartSandbox, tmp_path: Path) -> None:
    """The file of an upload that ends after the reset is removed, as that of an unknown session."""
    async with start_sandbox(media_folder=tmp_path) as caller:
        session_id = await caller.create()
        # Larger than a block, so that a file exists before the body ends.
        picture = "/9j/4AAQ" + "A" * 4_000_000
        body = json.dumps({"image": {"context": "face", "content": picture}}).encode()

        async def send_body() -> AsyncIterator[bytes]:
            yield body[:3_000_000]
            while not await list_files(tmp_path):  # noqa: ASYNC110  the server's thread creates it
                await asyncio.sleep(0)
            caller.sandbox.reset()
            yield body[3_000_000:]

        reply = await caller.send(
            "POST", f"/v1/sessions/{session_id}/media", data=send_body(), headers=caller.signed(body)
        )
        await caller.sandbox.wait_idle()
        assert (404, []) == (reply.status, await list_files(tmp_path))


async def test_form_in_flight_gets_404_and_leaves_no_file(start_sandbox: StartSandbox, tmp_path: Path) -> None:
    """The hosted page of a session that is gone shows so, also if the form was sent before."""
    async with start_sandbox(media_folder=tmp_path) as caller:
        url = (await caller.post("/v1/sessions", {"verification": {}})).json["verification"]["url"]
        form = FormData(default_to_multipart=True)
        form.add_field("face", b"\xff\xd8\xff\xe0" + b"0" * 100, filename="face.jpg", content_type="image/jpeg")

        async def send_body() -> AsyncIterator[bytes]:
            caller.sandbox.reset()
            yield await form().as_bytes()

        path = url.removeprefix(caller.sandbox.base_url) + "/submit"
        reply = await caller.send(
            "POST", path, data=send_body(), headers={"Content-Type": form().headers["Content-Type"]}
        )
        assert (404, []) == (reply.status, await list_files(tmp_path))


async def test_wait_for_a_session_that_is_reset_ends(caller: Caller) -> None:
    """A test that waits for a client of a session that is gone gets an error at once."""
    session_id = await caller.create()
    waiting = asyncio.create_task(caller.sandbox.wait_until_waiting(session_id, timeout=3600))
    await asyncio.sleep(0)
    caller.sandbox.reset()
    with pytest.raises(InvalidArgumentError, match="reset"):
        await waiting


async def test_reset_during_traffic_leaves_a_consistent_sandbox(
    start_sandbox: StartSandbox, receiver: Receiver
) -> None:
    """Each request is answered, and afterwards the sandbox works."""
    urls = dict.fromkeys(WebhookKind, receiver.url)
    async with start_sandbox(webhook_urls=urls, decide_after=0) as caller:
        statuses: set[int] = set()

        async def flow() -> None:
            for _ in range(5):
                session_id = await caller.create()
                statuses.add((await caller.upload(session_id, PICTURE)).status)
                statuses.add((await caller.submit(session_id)).status)
                statuses.add((await caller.decision(session_id)).status)
                with suppress(InvalidArgumentError):
                    caller.sandbox.decide(session_id, "declined")

        async def reset() -> None:
            for _ in range(30):
                caller.sandbox.reset()
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as tasks:
            for work in (*[flow] * 4, reset):
                tasks.create_task(work())
        await caller.sandbox.wait_idle()
        assert statuses <= {200, 404}
        caller.sandbox.reset()
        await caller.sandbox.wait_idle()
        session_id = await caller.create()
        await caller.submit(session_id)
        await caller.sandbox.wait_idle()
        assert Status.APPROVED == caller.sandbox.session(session_id).status


def test_stop_removes_the_files_of_a_reset(tmp_path: Path) -> None:
    """A sandbox that stops right after a reset leaves no file in a folder of the user's own."""
    with Sandbox(media_folder=tmp_path) as sandbox:
        path = tmp_path / "file"
        path.touch()
        # The scheduler is not woken, as if the stop came first.
        sandbox._service._discarded.add(path)
    assert not path.exists()


def test_reset_of_a_stopped_sandbox_removes_its_files(tmp_path: Path) -> None:
    """Without a server the call removes them itself; files elsewhere stay."""
    sandbox, other = Sandbox(media_folder=tmp_path / "media"), tmp_path / "other"
    (tmp_path / "media").mkdir()
    path = tmp_path / "media" / "file"
    for file in (path, other):
        file.touch()
    sandbox._service._discarded |= {path, other}

    sandbox.reset()

    assert (False, True) == (path.exists(), other.exists())


def test_reset_from_another_thread() -> None:
    """A synchronous test resets a sandbox that serves in a thread of its own."""
    with Sandbox() as sandbox, suppress(ClientError):
        sandbox.reset()
        sandbox.wait_idle_sync()
        assert () == sandbox.sessions
