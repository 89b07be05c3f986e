"""Changes of sessions and webhooks in the timeline."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

import pytest

from veriff_async.errors import InvalidArgumentError
from veriff_async.models import IneResult, UserDefinedStatus
from veriff_async.sandbox import ChaosProfile, RequestEntry, Sandbox, SandboxOptions, VirtualClock, WebhookKind

if TYPE_CHECKING:
    from tests.sandbox.conftest import Caller, Receiver, StartSandbox

pytestmark = pytest.mark.anyio

PICTURE: Final = base64.b64encode(b"\xff\xd8\xff\xe0" + bytes(500)).decode()


def changes(sandbox: Sandbox, session_id: str | None = None) -> list[str]:
    """Return the summaries of all entries but requests, without the id of the session."""
    entries = sandbox.timeline.entries(session_id=session_id, limit=1000)
    return [
        entry.summary.replace(f"session {entry.session_id}", "session").removesuffix("  session")
        for entry in entries
        if not isinstance(entry, RequestEntry)
    ]


async def test_life_of_a_session_is_recorded(caller: Caller) -> None:
    """Each change of a session is an entry, made by requests, by tests or by time."""
    sandbox = caller.sandbox
    session_id = await caller.create()
    sandbox.start_attempt(session_id)
    await caller.upload(session_id, PICTURE)
    await caller.submit(session_id)
    sandbox.decide(session_id, "resubmission_requested")
    await caller.submit(session_id)
    sandbox.decide(session_id, "review")
    sandbox.decide(session_id, "declined")
    sandbox.set_user_status(session_id, UserDefinedStatus(status="known"))
    sandbox.complete_watchlist_screening(session_id)
    sandbox.complete_registry_check(session_id, IneResult(active=True))
    sandbox.submit_address(session_id)

    assert [
        "session created",
        "session started",
        "session media uploaded",
        "session submitted",
        "session resubmission_requested",
        "session new attempt, attempt 2",
        "session submitted, attempt 2",
        "session review, attempt 2",
        "session declined, attempt 2",
        "session user-defined status set, attempt 2",
        "session watchlist screening completed, attempt 2",
        "session registry check completed, attempt 2",
        "session address submitted, attempt 2",
    ] == [change for change in changes(sandbox, session_id) if change.startswith("session")]


async def test_changes_of_time_have_the_time_at_which_they_were_due(caller: Caller) -> None:
    """An entry has the time of its event, not the time at which the clock was advanced to."""
    session_id = await caller.create()
    created_at = caller.sandbox.session(session_id).created_at
    caller.sandbox.advance(30 * 86400)

    expired = caller.sandbox.timeline.entries(session_id=session_id, kind="session")[-1]
    assert "expired" in str(expired)
    assert 7 == (expired.time - created_at).days


async def test_failed_change_and_a_read_are_no_entries(caller: Caller) -> None:
    """Nothing is recorded that has not happened."""
    session_id = await caller.create()
    caller.sandbox.decide(session_id, "approved")
    before = changes(caller.sandbox)
    with pytest.raises(InvalidArgumentError):
        caller.sandbox.start_attempt(session_id)
    await caller.decision(session_id)
    await caller.submit(session_id)

    assert before == changes(caller.sandbox)


async def test_session_that_is_decided_immediately_has_all_its_steps(caller: Caller) -> None:
    """A request that creates and submits a session has an entry for each."""
    person = {"idNumber": "1", "fullName": "Ada Byron", "dateOfBirth": "1990-01-01"}
    await caller.post("/v1/validate-registry", {"verification": {"person": person}})

    assert ["session created", "session submitted"] == changes(caller.sandbox)[:2]


async def test_webhooks_are_recorded_with_each_attempt(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """A developer sees what the receiver has responded, and how often the sandbox has tried."""
    receiver.answers = [500]
    async with start_sandbox(clock=VirtualClock(), webhook_url=receiver.url) as caller:
        session_id = await caller.create()
        caller.sandbox.decide(session_id, "approved")
        await caller.sandbox.wait_idle()
        caller.sandbox.advance(3600)
        await caller.sandbox.wait_idle()

        entries = caller.sandbox.timeline.entries(kind="webhook")
        shown = [entry.summary.split(" ms")[0].rsplit(",", 1)[0] for entry in entries]
        assert [
            f"webhook decision queued  session {session_id}",
            "webhook decision refused  500, attempt 1",
            "webhook decision delivered  200, attempt 2",
        ] == shown
        assert {session_id} == {entry.session_id for entry in entries}
        assert ["session approved", "webhook decision queued"] == changes(caller.sandbox)[1:3]


async def test_webhooks_that_are_held_lost_and_without_url_say_so(start_sandbox: StartSandbox) -> None:
    """A webhook that does not arrive has an entry with the reason."""
    async with start_sandbox(clock=VirtualClock()) as caller:
        sandbox = caller.sandbox
        session_id = await caller.create()
        sandbox.start_attempt(session_id)
        sandbox.webhook_urls = dict.fromkeys(WebhookKind, "http://127.0.0.1:1/hook?token=secret")
        sandbox.hold_webhooks()
        sandbox.submit_attempt(session_id)
        (held,) = [webhook for webhook in sandbox.webhooks if webhook.state == "held"]
        sandbox.delay_webhook(held.id, 60)
        sandbox.drop_webhook(held.id)
        sandbox.release_webhooks()
        sandbox.chaos = ChaosProfile.from_dict({"name": "lossy", "webhooks": [{"loss": 1.0}]})
        sandbox.decide(session_id, "approved")

        shown = [change for change in changes(sandbox) if change.startswith("webhook")]
        assert "webhook event not posted: its kind has no URL" == shown[0]
        assert ["webhook event held", "webhook event delayed", "webhook event dropped"] == shown[1:4]
        assert shown[4].startswith("webhook decision dropped  [chaos profile lossy: webhooks[0]")
        assert "secret" not in sandbox.timeline.text()


async def test_attempt_without_a_response_says_why(start_sandbox: StartSandbox) -> None:
    """A receiver that does not run is named as the cause."""
    async with start_sandbox(clock=VirtualClock(), webhook_url="http://127.0.0.1:9/hook?token=secret") as caller:
        caller.sandbox.decide(await caller.create(), "approved")
        await caller.sandbox.wait_idle()

        last = caller.sandbox.timeline.entries(kind="webhook")[-1]
        assert "refused  ---, attempt 1" in last.summary
        assert "no connection" in last.summary
        assert "secret" not in str(last)


async def test_integration_without_humans_is_recorded_as_well(start_sandbox: StartSandbox) -> None:
    """Automatic decisions are entries, too."""
    async with start_sandbox(clock=VirtualClock(), options=SandboxOptions(full_auto=True), decide_after=5) as caller:
        session_id = await caller.create()
        await caller.submit(session_id)
        caller.sandbox.advance(5)

        assert "session approved" in changes(caller.sandbox, session_id)
