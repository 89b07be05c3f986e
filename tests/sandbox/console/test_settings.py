"""The console over HTTP: faults, chaos profiles, clock, URLs, rules and reset."""

from __future__ import annotations

import re
from io import BytesIO
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tests.sandbox.console.pages import LIST, send_form, show
from veriff_async.sandbox import Fault, SandboxOptions, WebhookKind

if TYPE_CHECKING:
    from tests.sandbox.conftest import Caller, StartSandbox

pytestmark = pytest.mark.anyio

FAULTS = "/_sandbox/faults"
SETTINGS = "/_sandbox/settings"


def fields_of(page: str, action: str) -> dict[str, str]:
    """Return what a browser sends for an unchanged form."""
    (form,) = re.findall(rf'<form method="post" action="{action}".*?</form>', page, re.DOTALL)
    fields = dict(re.findall(r'<input (?!type="checkbox")[^>]*name="([^"]+)"[^>]*? value="([^"]*)"', form))
    fields |= dict.fromkeys(re.findall(r'<input type="checkbox"[^>]* name="([^"]+)" checked>', form), "on")
    for name, options in re.findall(r'<select[^>]* name="([^"]+)">(.*?)</select>', form, re.DOTALL):
        chosen = re.search(r"<option[^>]* selected>([^<]*)", options)
        fields[name] = chosen[1] if chosen else ""
    return fields


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"kind": "status", "status": "429", "retry_after": "2.5"}, Fault.status(429, retry_after=2.5)),
        ({"kind": "status", "status": "503", "after": "9"}, Fault.status(503)),
        ({"kind": "drop", "status": "503", "after": "9"}, Fault.drop(after=9)),
        ({"kind": "corrupt_response", "after": "3"}, Fault.corrupt_response(offset=3)),
        ({"kind": "forge_signature"}, Fault.forge_signature()),
    ],
)
async def test_form_injects_a_fault(caller: Caller, fields: dict[str, str], fault: Fault) -> None:
    """Fields that the kind of fault does not have are ignored; the fault is listed, and can be removed."""
    reply = await send_form(caller, FAULTS, **fields, method="GET", path="/v1/*", times="2")
    assert (303, FAULTS + "?done=injected") == (reply.status, reply.headers["Location"])
    (waiting,) = caller.sandbox.faults
    assert (fault, "GET", "/v1/*", 2) == (waiting.fault, waiting.method, waiting.path, waiting.times)
    page = await show(caller, FAULTS)
    assert "GET /v1/*" in page
    assert 303 == (await send_form(caller, FAULTS + "/remove", id=str(waiting.id))).status
    assert () == caller.sandbox.faults
    assert 422 == (await send_form(caller, FAULTS + "/remove", id=str(waiting.id))).status


@pytest.mark.parametrize(
    ("field", "value"),
    [("status", "99"), ("status", ""), ("retry_after", "x"), ("times", "0"), ("times", ""), ("after", "1.5")],
)
async def test_wrong_fault_is_shown_again(caller: Caller, field: str, value: str) -> None:
    """The values stay in the form, and no fault is injected."""
    fields = {"kind": "status", "status": "503", "times": "7", "path": "/<b>", field: value}
    reply = await send_form(caller, FAULTS, **fields)
    page = reply.body.decode()
    assert 422 == reply.status
    assert f'id="{field}-error"' in page
    assert 'value="/&lt;b&gt;"' in page
    assert () == caller.sandbox.faults
    assert 422 == (await send_form(caller, FAULTS, kind="unknown", times="1")).status


async def test_all_faults_are_removed_at_once(caller: Caller) -> None:
    """One button clears the list."""
    for _ in range(3):
        caller.sandbox.inject(Fault.drop())
    assert 303 == (await send_form(caller, FAULTS + "/clear")).status
    assert "No fault waits" in await show(caller, FAULTS)


async def test_wrong_number_removes_no_fault(caller: Caller) -> None:
    """A form that names no fault leaves all of them."""
    caller.sandbox.inject(Fault.drop())
    for wrong in ("x", "", "-1", "1.5"):
        await send_form(caller, FAULTS + "/remove", id=wrong)
    assert 1 == len(caller.sandbox.faults)


async def test_chaos_profile_is_chosen_or_written(caller: Caller) -> None:
    """A name, a text or none; a path never reads a file, and an invalid text stays in the form."""
    for name in ("mobile", ""):
        assert 303 == (await send_form(caller, FAULTS + "/chaos", profile=name)).status
        profile = caller.sandbox.chaos
        assert name == ("" if profile is None else profile.name)
    await send_form(caller, FAULTS + "/chaos", profile="own", toml='name = "mine"\nseed = 3\n')
    assert caller.sandbox.chaos is not None
    assert ("mine", 3) == (caller.sandbox.chaos.name, caller.sandbox.chaos.seed)
    assert "seed = 3" in await show(caller, FAULTS)
    reply = await send_form(caller, FAULTS + "/chaos", profile="own", toml="<b>")
    assert 422 == reply.status
    assert b"\n&lt;b&gt;</textarea>" in reply.body
    await send_form(caller, FAULTS + "/chaos", profile="/etc/hosts")
    assert caller.sandbox.chaos is None


async def test_virtual_clock_is_advanced(caller: Caller, start_sandbox: StartSandbox) -> None:
    """Everything due happens; a real clock has no form, and refuses it."""
    session_id = await caller.create()
    assert 303 == (await send_form(caller, SETTINGS + "/clock", amount="7.5", unit="days")).status
    assert "expired" == caller.sandbox.session(session_id).status
    for amount in ("", "x", "-1", "1e9", "inf"):
        reply = await send_form(caller, SETTINGS + "/clock", amount=amount, unit="days")
        assert 422 == reply.status
        assert b'id="amount-error"' in reply.body
    async with start_sandbox() as real:
        assert "/clock" not in await show(real, SETTINGS)
        reply = await send_form(real, SETTINGS + "/clock", amount="1", unit="days")
        assert 422 == reply.status
        assert b"The clock is real" in reply.body


async def test_urls_of_webhooks_are_changed(caller: Caller) -> None:
    """Each kind has its own, an empty one removes it, and one field sets all."""
    url = "http://127.0.0.1:9/a?b=<c>"
    await send_form(caller, SETTINGS + "/urls", **{"url-decision": url})
    assert {WebhookKind.DECISION: url} == dict(caller.sandbox.webhook_urls)
    assert "b=&lt;c&gt;" in await show(caller, SETTINGS)
    for field in ("url-event", "url-all"):
        reply = await send_form(caller, SETTINGS + "/urls", **{"url-decision": url, field: "javascript:1"})
        assert 422 == reply.status
        assert f'id="{field}-error"'.encode() in reply.body
    await send_form(caller, SETTINGS + "/urls", **{"url-all": url})
    assert dict.fromkeys(WebhookKind, url) == dict(caller.sandbox.webhook_urls)
    await send_form(caller, SETTINGS + "/urls")
    assert {} == dict(caller.sandbox.webhook_urls)


async def test_rules_are_changed(caller: Caller) -> None:
    """An unchanged form changes nothing; flags, choices, numbers and absent numbers are read."""
    before = caller.sandbox.rules
    form: Any = fields_of(await show(caller, SETTINGS), SETTINGS + "/rules")
    assert 303 == (await send_form(caller, SETTINGS + "/rules", **form)).status
    assert before == caller.sandbox.rules
    form |= {"time_digits": "3", "full_auto": "on", "decide_after": "2.5", "requests_per_second": "10"}
    form.pop("sign_errors")
    await send_form(caller, SETTINGS + "/rules", **form)
    rules = caller.sandbox.rules
    options = rules.options
    assert (2.5, 3, True, False, 10) == (
        rules.decide_after,
        options.time_digits,
        options.full_auto,
        options.sign_errors,
        options.requests_per_second,
    )
    assert form == fields_of(await show(caller, SETTINGS), SETTINGS + "/rules")
    for wrong in ({"face_quota": ""}, {"face_quota": "1.5"}, {"oversize_status": "200"}, {"time_digits": "4"}):
        reply = await send_form(caller, SETTINGS + "/rules", **{**form, **wrong})
        assert 422 == reply.status
        assert rules == caller.sandbox.rules


async def test_reset_empties_the_sandbox(caller: Caller) -> None:
    """Sessions are gone, and addresses of their pages lead to the list."""
    session_id = await caller.create()
    reply = await send_form(caller, SETTINGS + "/reset")
    assert (303, LIST + "?done=reset") == (reply.status, reply.headers["Location"])
    assert "No sessions yet" in await show(caller, reply.headers["Location"])
    await show(caller, f"{LIST}sessions/{session_id}", 404)
    await show(caller, f"{LIST}?after={session_id}", 422)


async def test_sample_sessions_are_added(caller: Caller) -> None:
    """The button of an empty list and the form of the settings add sessions; wrong numbers are shown again."""
    assert "Add 20 sample sessions" in await show(caller, LIST)
    reply = await send_form(caller, SETTINGS + "/seed", sessions="3")
    assert (303, LIST + "?done=seeded") == (reply.status, reply.headers["Location"])
    assert 3 == len(caller.sandbox.sessions)
    for fields in ({"sessions": "0"}, {"sessions": "10001"}, {"sessions": ""}, {"sessions": "1", "seed": "x"}):
        assert 422 == (await send_form(caller, SETTINGS + "/seed", **fields)).status


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"x", {"Content-Type": "multipart/form-data"}, 415),
        (b"{}", {"Content-Type": "application/json"}, 415),
        (b"garbage", {"Content-Encoding": "gzip"}, 400),
        (b"&".join([b"a=b"] * 1001), {}, 400),
        (b"x" * 2**21, {}, 413),
        (b"profile=\xff&%ff=%fe", {}, 303),
        (b"profile=perfect", {"Content-Type": "application/x-www-form-urlencoded; charset=unknown"}, 303),
        (b"", {}, 303),
    ],
)
async def test_body_that_is_not_a_form_is_refused(
    caller: Caller, body: bytes, headers: dict[str, str], status: int
) -> None:
    """A status and one sentence, never an error of the server."""
    data = BytesIO(body)
    headers = {"Content-Type": "application/x-www-form-urlencoded", **headers}
    assert status == (await caller.send("POST", FAULTS + "/chaos", data=data, headers=headers)).status
    session_id = await caller.create()
    reply = await caller.send("POST", f"{LIST}sessions/{session_id}/start", data=BytesIO(body), headers=headers)
    assert status == reply.status


async def test_each_rule_is_explained(caller: Caller) -> None:
    """A sentence about each rule stands next to its control, which refers to it."""
    page = (await show(caller, SETTINGS)).partition('action="/_sandbox/settings/rules"')[2]
    named = re.findall(r'aria-describedby="(\w+)-hint', page)
    explained = re.findall(r'id="(\w+)-hint">[A-Z][^<]+\.</p>', page)
    assert ["decide_after", *(each.name for each in attrs.fields(SandboxOptions))] == named == explained
