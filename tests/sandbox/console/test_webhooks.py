"""The console over HTTP: webhooks, their attempts, and the forms that hold, deliver, repeat, reorder and drop them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.sandbox.console.pages import page_of, send_form, show
from veriff_async.sandbox import WebhookKind, WebhookState

if TYPE_CHECKING:
    from tests.sandbox.conftest import Caller, Receiver

pytestmark = pytest.mark.anyio

WEBHOOKS = "/_sandbox/webhooks"


@pytest.fixture
async def session_id(caller: Caller, receiver: Receiver) -> str:
    """Create a session whose decisions and events are posted."""
    caller.sandbox.webhook_urls = dict.fromkeys((WebhookKind.DECISION, WebhookKind.EVENT), receiver.url)
    return await caller.create(vendorData="<b>user</b>")


def ids(page: str) -> list[str]:
    """Return the webhooks of a list."""
    return re.findall(r'<(?:tr role="row"|input class="compact") id="[wp]-([0-9a-f-]{36})"', page)


async def test_list_shows_each_webhook_and_its_response(caller: Caller, receiver: Receiver, session_id: str) -> None:
    """Newest first, filtered by state and session; a kind without an address is listed as well."""
    receiver.answers = [500]
    caller.sandbox.decide(session_id, "approved")
    await caller.sandbox.wait_idle()
    caller.sandbox.webhook_urls = {}
    other = await caller.create()
    caller.sandbox.start_attempt(other)
    page = await show(caller, WEBHOOKS)
    assert [webhook.id for webhook in reversed(caller.sandbox.webhooks)] == ids(page)
    for words in (">500", "no URL", "next <time"):
        assert words in page
    assert 1 == len(ids(await show(caller, f"{WEBHOOKS}?state=no_url")))
    assert 1 == len(ids(await show(caller, f"{WEBHOOKS}?session={session_id}")))
    assert "No webhook matches" in await show(caller, f"{WEBHOOKS}?state=held")
    for query in ("state=unknown", f"session={uuid4()}", "after=x"):
        assert 2 == len(ids(await show(caller, f"{WEBHOOKS}?{query}", 422)))


async def test_page_shows_body_attempts_and_responses(caller: Caller, session_id: str) -> None:
    """The body is escaped, and each attempt has its response."""
    caller.sandbox.decide(session_id, "declined", reason_code=106)
    await caller.sandbox.wait_idle()
    (webhook_id,) = ids(await show(caller, page_of(session_id)))
    page = await show(caller, f"{WEBHOOKS}/{webhook_id}")
    for words in ("Attempt 1</h3>", "delivered", "x-hmac-signature", "&lt;b&gt;user&lt;/b&gt;", "reasonCode"):
        assert words in page
    assert "<b>user" not in page
    await show(caller, f"{WEBHOOKS}/{uuid4()}", 404)


async def test_held_webhooks_get_an_order(caller: Caller, receiver: Receiver, session_id: str) -> None:
    """They are posted by their places; a place twice or a wrong one is shown again with its problem."""
    assert 303 == (await send_form(caller, f"{WEBHOOKS}/hold")).status
    caller.sandbox.start_attempt(session_id)
    caller.sandbox.submit_attempt(session_id)
    caller.sandbox.decide(session_id, "approved")
    first, second, third = ids(await show(caller, f"{WEBHOOKS}/order"))
    for wrong in ({first: "1", second: "1"}, {first: "x"}, {first: "0"}, {str(uuid4()): "1"}):
        reply = await send_form(caller, f"{WEBHOOKS}/order", **wrong)
        assert 422 == reply.status
    assert b"has place 1 already" in (await send_form(caller, f"{WEBHOOKS}/order", **{first: "1", second: "1"})).body
    reply = await send_form(caller, f"{WEBHOOKS}/order", **{third: "1", first: "2", second: ""})
    assert (303, f"{WEBHOOKS}?done=reorder") == (reply.status, reply.headers["Location"])
    bodies = [(await receiver.next()).json for _ in range(2)]
    assert "approved" == bodies[0]["verification"]["status"]
    assert "started" == bodies[1]["action"]
    assert [WebhookState.HELD] == [each.state for each in caller.sandbox.webhooks if each.id == second]
    await send_form(caller, f"{WEBHOOKS}/release")
    assert "submitted" == (await receiver.next()).json["action"]


async def test_webhook_is_delayed_dropped_delivered_and_repeated(
    caller: Caller, receiver: Receiver, session_id: str
) -> None:
    """Each form leads to the page of the webhook, or of its copy; impossible ones say why."""
    await send_form(caller, f"{WEBHOOKS}/hold")
    caller.sandbox.decide(session_id, "approved")
    (webhook_id,) = ids(await show(caller, f"{WEBHOOKS}?state=held"))
    path = f"{WEBHOOKS}/{webhook_id}"
    for seconds in ("", "x", "-1", "1e99", "nan"):
        reply = await send_form(caller, path + "/delay", seconds=seconds)
        assert 422 == reply.status
        assert b'id="seconds-error"' in reply.body
    for action, fields, state in (
        ("delay", {"seconds": "60"}, WebhookState.PENDING),
        ("drop", {}, WebhookState.DROPPED),
        ("deliver", {}, WebhookState.DELIVERED),
    ):
        reply = await send_form(caller, f"{path}/{action}", **fields)
        assert (303, f"{path}?done={action}") == (reply.status, reply.headers["Location"])
        await caller.sandbox.wait_idle()
        assert [state] == [each.state for each in caller.sandbox.webhooks]
    for action in ("drop", "deliver", "delay"):
        assert 422 == (await send_form(caller, f"{path}/{action}", seconds="5")).status
    await send_form(caller, f"{WEBHOOKS}/release")
    reply = await send_form(caller, path + "/duplicate")
    assert "The webhook is posted again" in await show(caller, reply.headers["Location"])
    assert (await receiver.next()).body == (await receiver.next()).body
    for action in ("drop", "deliver", "duplicate"):
        assert 404 == (await send_form(caller, f"{WEBHOOKS}/{uuid4()}/{action}")).status
