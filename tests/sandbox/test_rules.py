"""The rules of a sandbox, changed while it runs."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import pytest
from attrs import fields

from veriff_async import InvalidArgumentError, Status
from veriff_async.sandbox import Sandbox, SandboxOptions, SandboxRules, VirtualClock, WebhookKind
from veriff_async.sandbox._rules import RuleFields

if TYPE_CHECKING:
    from tests.sandbox.conftest import Caller, Receiver, StartSandbox

pytestmark = pytest.mark.anyio

URL = "http://127.0.0.1:1/hook"


def test_every_option_is_a_rule() -> None:
    """Each option of `SandboxOptions` can be changed by its name, and each rule is documented."""
    options = {attribute.name for attribute in fields(SandboxOptions)}
    assert options == set(RuleFields.__annotations__) - {"decide_after", "webhook_url", "webhook_urls", "options"}


def test_rules_are_those_of_the_constructor() -> None:
    """The view shows what was passed; URLs, which may contain a secret, are not in its repr."""
    options = SandboxOptions(full_auto=True)
    sandbox = Sandbox(decide_after=5, webhook_url=URL + "?key=secret", options=options)
    rules = sandbox.rules
    assert (5, options) == (rules.decide_after, rules.options)
    assert {WebhookKind.DECISION: URL + "?key=secret"} == rules.webhook_urls
    assert "secret" not in repr(rules)
    assert SandboxRules() == Sandbox().rules


def test_single_values_replace_those_of_a_whole() -> None:
    """`options` and `webhook_urls` apply first, then each value that is named."""
    sandbox = Sandbox(webhook_urls={"event": URL, "decision": URL})
    sandbox.change_rules(
        time_digits=3, options=SandboxOptions(time_digits=6, full_auto=True), webhook_url=URL, webhook_urls={"ine": URL}
    )
    assert SandboxOptions(time_digits=3, full_auto=True) == sandbox.rules.options
    assert {WebhookKind.INE: URL, WebhookKind.DECISION: URL} == sandbox.webhook_urls
    sandbox.change_rules(webhook_url=None)
    assert {WebhookKind.INE: URL} == sandbox.webhook_urls


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decide_after": -1}, "decide_after"),
        ({"decide_after": "5"}, "decide_after"),
        ({"decide_after": math.nan}, "decide_after"),
        ({"options": {"full_auto": True}}, "options"),
        ({"time_digits": 4}, "time_digits"),
        ({"full_auto": "yes"}, "full_auto"),
        ({"face_quota": 1.5}, "face_quota"),
        ({"requests_per_second": 0}, "requests_per_second"),
        ({"webhook_timeout_seconds": None}, "webhook_timeout_seconds"),
        ({"webhook_url": "ftp://example.com"}, "webhook_url"),
        ({"webhook_urls": {"evnt": URL}}, "did you mean 'event'"),
        ({"webhook_urls": URL}, "webhook_urls"),
    ],
    ids=str,
)
def test_wrong_value_changes_no_rule(changes: dict[str, Any], message: str) -> None:
    """The error names the option, and the right values next to it are not applied either."""
    sandbox = Sandbox(decide_after=9, webhook_url=URL)
    before = sandbox.rules
    right: dict[str, Any] = {"allow_deletion": False, "decide_after": 3}
    with pytest.raises(InvalidArgumentError, match=message):
        sandbox.change_rules(**right | changes)
    assert before == sandbox.rules


def test_unknown_rule_is_refused_with_a_suggestion() -> None:
    """A misspelt name raises TypeError, and changes no rule."""
    sandbox = Sandbox()
    with pytest.raises(TypeError, match="did you mean 'decide_after'"):
        sandbox.change_rules(decide_afte=1, full_auto=True)  # type: ignore[call-arg]
    assert SandboxRules() == sandbox.rules


async def test_rules_apply_from_the_next_request_on(caller: Caller) -> None:
    """Sessions that were submitted before keep the time of their decision; later ones follow the new rule."""
    first, second = await caller.create(), await caller.create()
    caller.sandbox.change_rules(decide_after=60)
    await caller.submit(first)
    caller.sandbox.change_rules(decide_after=10, allow_deletion=False, code_is_null=True)
    await caller.submit(second)

    caller.sandbox.advance(10)

    assert [Status.SUBMITTED, Status.APPROVED] == [caller.sandbox.session(id_).status for id_ in (first, second)]
    assert (await caller.decision(second)).json["verification"]["code"] is None
    reply = await caller.send("DELETE", f"/v1/sessions/{second}", headers=caller.signed(second.encode()))
    assert 403 == reply.status
    caller.sandbox.advance(50)
    assert Status.APPROVED == caller.sandbox.session(first).status


async def test_what_is_due_happens_by_the_rules_before(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """A decision that is due when the rules change is made, and posted, as the rules were until then."""
    clock = VirtualClock()
    async with start_sandbox(clock=clock, decide_after=5, webhook_url=receiver.url) as caller:
        session_id = await caller.create()
        await caller.submit(session_id)
        clock.advance(5)
        caller.sandbox.change_rules(webhook_url=None, reason_code_as_text=True)
        await caller.sandbox.wait_idle()
        assert session_id == (await receiver.next()).json["verification"]["id"]


async def test_rate_and_quota_change_at_once(caller: Caller) -> None:
    """A new limit counts from a full second; faces that were imported before count towards the new quota."""
    caller.sandbox.change_rules(requests_per_second=1)
    assert [201, 429] == [(await caller.post("/v1/sessions", {"verification": {}})).status for _ in range(2)]
    caller.sandbox.change_rules(requests_per_second=None, face_quota=1)
    await caller.create()
    image = {"images": [{"name": "a", "content": "/9j/4AAQ"}]}
    replies = [await caller.post("/v1/faces/import", image) for _ in range(2)]
    caller.sandbox.change_rules(face_quota=3)
    replies.append(await caller.post("/v1/faces/import", image))
    assert [202, 400, 202] == [reply.status for reply in replies]
    assert 1 == replies[-1].json["availableQuota"]


async def test_timeout_of_webhooks_changes_without_a_restart(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """The next attempt has the new timeout."""
    receiver.holds = asyncio.Event()
    async with start_sandbox(webhook_url=receiver.url, options=SandboxOptions(webhook_timeout_seconds=3600)) as caller:
        caller.sandbox.change_rules(webhook_timeout_seconds=0.01)
        caller.sandbox.decide(await caller.create(), "approved")
        await caller.sandbox.wait_idle()
        (delivery,) = caller.sandbox.deliveries
        assert (None, "no response within 0.01 seconds") == (delivery.status, delivery.error)


async def test_webhook_that_waits_keeps_its_url(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """The next attempt of a webhook that failed goes to the URL that it had; later webhooks go to the new one."""
    receiver.answers = [500]
    async with start_sandbox(clock=VirtualClock(), webhook_url=receiver.url) as caller:
        session_id = await caller.create()
        caller.sandbox.decide(session_id, "approved")
        await caller.sandbox.wait_idle()
        caller.sandbox.change_rules(webhook_url=URL, webhook_retry_seconds=1)
        caller.sandbox.advance(3600)
        await caller.sandbox.wait_idle()
        caller.sandbox.resend(session_id)
        await caller.sandbox.wait_idle()
        urls = [(delivery.url, delivery.status) for delivery in caller.sandbox.deliveries]
        assert [(receiver.url, 500), (receiver.url, 200), (URL, None)] == urls


async def test_changes_are_in_the_timeline_without_values(caller: Caller) -> None:
    """An entry names the rules; URLs, which may contain a secret, are not shown, and an equal value is no change."""
    caller.sandbox.change_rules(webhook_url=URL + "?key=secret", decide_after=1)
    caller.sandbox.change_rules(decide_after=1)
    (entry,) = caller.sandbox.timeline.entries(kind="setting")
    assert "rules: decide_after, webhook_url" == entry.summary


@pytest.mark.parametrize(
    ("image", "code"),
    [({"name": "a"}, "1400"), ({"name": "a", "content": ""}, "1400"), ({"name": "a", "content": "no base64!"}, "1401")],
)
async def test_face_that_cannot_be_read_costs_nothing(caller: Caller, image: dict[str, object], code: str) -> None:
    """One wrong image refuses the request, and the quota is as before."""
    caller.sandbox.change_rules(face_quota=1)
    good = {"name": "b", "content": "/9j/4AAQ"}
    assert (400, code) == (await caller.post("/v1/faces/import", {"images": [image]})).refusal
    assert 202 == (await caller.post("/v1/faces/import", {"images": [good]})).status


async def test_monitoring_ends_only_for_a_screened_session(caller: Caller) -> None:
    """The only status to set is disabled, and a session without a screening has nothing to stop."""
    path = f"/v1/sessions/{await caller.create()}/watchlist-screening"
    wrong = await caller.post(path, {"monitorStatus": "enabled"}, method="PATCH")
    assert (400, "1104") == wrong.refusal
    assert 404 == (await caller.post(path, {"monitorStatus": "disabled"}, method="PATCH")).status
