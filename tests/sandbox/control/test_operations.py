"""The operations of the control API do the same as the methods of `Sandbox`."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final

import pytest
from anyio import to_thread

from tests.conditions import until
from tests.sandbox.control.conftest import Control
from veriff_async import ConfigurationError, Credentials, InvalidArgumentError, Status
from veriff_async.models import RiskLabel
from veriff_async.sandbox import Fault, Sandbox, VirtualClock, WebhookKind
from veriff_async.sandbox._control.errors import ControlError, to_control_error
from veriff_async.sandbox._control.fields import Json, Text, Time
from veriff_async.sandbox._control.models import Model
from veriff_async.sandbox._control.operations import OPERATIONS
from veriff_async.sandbox._rules import RuleFields

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.conftest import Caller, Receiver, StartSandbox

pytestmark = pytest.mark.anyio

JPEG: Final = b"\xff\xd8\xff" + bytes(range(256)) * 8
PDF: Final = b"%PDF-1.7\n" + bytes(range(256))
WRONG_DECISIONS: Final[list[tuple[dict[str, object], str, str | None]]] = [
    ({}, "status is missing: add it.", "status"),
    ({"status": "approve"}, "status is 'approve': did you mean 'approved'?", "status"),
    ({"status": "created"}, "status is 'created': pass one of abandoned, approved", "status"),
    ({"status": "approved", "reasonCode": 1}, "The input has an unknown field 'reasonCode': did you mean", None),
    ({"status": "declined", "reason_code": "106"}, "reason_code must be a whole number, not a text.", None),
    ({"status": "declined", "reason_code": 1.5}, "reason_code must be a whole number from", None),
    ({"status": "declined", "reason_code": True}, "reason_code must be a whole number, not true or false.", None),
    ({"status": "declined", "reason_code": 10**400}, "reason_code must be a whole number from", None),
    ({"status": "approved", "person": []}, "person must be an object, not a list.", None),
    ({"status": "approved", "person": "Ada"}, "person must be an object, not a text.", None),
    ({"status": "approved", "risk_labels": {}}, "risk_labels must be a list, not an object.", None),
    ({"status": "approved", "risk_labels": [{}]}, "risk_labels[0].label is missing: add it.", None),
    ({"status": "approved", "risk_labels": [{"labels": "x"}]}, "risk_labels[0] has an unknown field 'labels'", None),
    (
        {"status": "approved", "risk_labels": [{"label": "x", "sessionIds": [7]}]},
        "risk_labels[0].sessionIds[0] must be a text, not a number.",
        None,
    ),
    ({"status": "approved", "reason": "x" * 100_001}, "reason must have", None),
    (
        {"status": "approved", "additional_verified_data": {"estimatedAge": "31"}},
        "additional_verified_data.estimatedAge must be a number, not a text.",
        None,
    ),
]
UNKNOWN: Final = "00000000-0000-4000-8000-000000000000"


async def upload(caller: Caller, session_id: str, content: bytes) -> str:
    """Upload a file, and return its id."""
    reply = await caller.upload(session_id, b64encode(content).decode())
    media_id = reply.json["image"]["id"]
    assert isinstance(media_id, str)
    return media_id


async def test_decision_can_have_every_content(control: Control) -> None:
    """A decision takes everything that `Sandbox.decide` takes, and clients read it from Veriff's API."""
    session_id = await control.caller.create(person={"firstName": "Ada"})
    session = await control.do(
        "POST",
        f"/sessions/{session_id}/decide",
        {
            "status": "declined",
            "reason": "Physical document not used",
            "reason_code": 106,
            "person": {"firstName": "Grace", "lastName": "Hopper", "anyMember": [1, None]},
            "document": {"number": "A1", "type": "PASSPORT"},
            "risk_score": 0.9,
            "risk_labels": [{"label": "document_forged", "category": "document", "sessionIds": [UNKNOWN]}],
            "insights": [{"label": "livenessCheck", "result": "no", "category": "biometric"}],
            "additional_verified_data": {"estimatedAge": 31, "validationResults": []},
            "biometric_authentication": {"matchedSessionId": UNKNOWN, "details": {"faceLiveness": "yes"}},
        },
    )
    assert "declined" == session["status"]
    verification = (await control.caller.decision(session_id)).json["verification"]
    assert session["decision"]["verification"] == verification
    assert 106 == verification["reasonCode"]
    assert "Grace" == verification["person"]["firstName"]
    assert [1, None] == verification["person"]["anyMember"]
    assert {"score": 0.9} == verification["riskScore"]
    assert "document_forged" == verification["riskLabels"][0]["label"]
    assert 31 == verification["additionalVerifiedData"]["estimatedAge"]


@pytest.mark.parametrize(("body", "message", "field"), WRONG_DECISIONS)
async def test_wrong_input_names_its_field(
    control: Control, body: dict[str, object], message: str, field: str | None
) -> None:
    """A wrong value is refused with 422, a sentence and the path of its field; the session is unchanged."""
    session_id = await control.caller.create()
    status, text, named = await control.refused("POST", f"/sessions/{session_id}/decide", body)
    assert (422, True) == (status, text.startswith(message)), text
    assert named is not None
    assert named.split(".")[0].split("[")[0] in {*body, field}
    assert Status.CREATED == control.caller.sandbox.session(session_id).status


async def test_unknown_and_impossible_differ(control: Control) -> None:
    """An unknown session, webhook, fault or picture is 404; a change that its state does not allow is 409."""
    session_id = await control.caller.create()
    for method, path, body in (
        ("GET", f"/sessions/{UNKNOWN}", None),
        ("GET", "/sessions/%00", None),
        ("POST", f"/sessions/{UNKNOWN}/decide", {"status": "approved"}),
        ("POST", f"/sessions/{UNKNOWN}/wait-until-waiting", {}),
        ("GET", f"/media/{UNKNOWN}", None),
        ("GET", "/media/1", None),
        ("GET", f"/webhooks/{UNKNOWN}", None),
        ("POST", f"/webhooks/{UNKNOWN}/deliver", {}),
        ("POST", "/webhooks/hold", {"session_id": UNKNOWN}),
        ("DELETE", "/faults/7", None),
    ):
        assert 404 == (await control.refused(method, path, body))[0], path
    await control.do("POST", f"/sessions/{session_id}/decide", {"status": "approved"})
    for path, body in (
        ("decide", {"status": "review"}),
        ("start", None),
        ("submit", None),
        ("open-attempt", None),
        ("certificates", None),
        ("resend", {"kind": "watchlist"}),
        ("wait-until-waiting", None),
    ):
        assert 409 == (await control.refused("POST", f"/sessions/{session_id}/{path}", body))[0], path


async def test_life_of_a_session(control: Control) -> None:
    """An end-user's steps, and results of checks, happen by request; each returns the session."""
    session_id = await control.caller.create(person={"firstName": "Ada", "lastName": "Lovelace"})
    path = f"/sessions/{session_id}"
    assert "started" == (await control.do("POST", f"{path}/start"))["status"]
    await upload(control.caller, session_id, PDF)
    assert "submitted" == (await control.do("POST", f"{path}/submit", {}))["status"]
    certificate = await control.do("POST", f"{path}/certificates")
    address = await control.do("POST", f"{path}/address")
    await control.do("POST", f"{path}/user-status", {"status": {"status": "vip", "reasonCode": "7"}})
    await control.do("POST", f"{path}/watchlist-screening")
    screening = {"matchStatus": "possible_match", "hits": [{"matchedName": "Ada"}]}
    session = await control.do("POST", f"{path}/watchlist-screening", {"screening": screening})
    assert "possible_match" == session["screening"]["matchStatus"]
    assert {"firstName", "lastName"} == set(session["person"])
    await control.do("PUT", f"{path}/pep-matches", {"matches": [{"numberOfMatches": 1}]})
    await control.do("POST", f"{path}/registry-check", {"ine": {"active": True}})
    await control.do("POST", f"{path}/registry-check", {"ine_curp": {"data": {"curp": {"curp": "X"}}}})
    session = await control.do("POST", f"{path}/registry-check", {"transportation": {}})
    assert 3 == len(session["registries"])
    assert [certificate["certificate_id"]] == session["certificate_ids"]
    assert address["address_id"] == session["address_id"]
    assert "vip" == session["attempts"][0]["user_statuses"][0]["status"]
    assert 1 == session["pep_matches"][0]["numberOfMatches"]
    assert session == await control.do("GET", path)
    await control.do("POST", f"{path}/decide", {"status": "resubmission_requested"})
    attempt = await control.do("POST", f"{path}/open-attempt")
    assert attempt["attempt_id"] == (await control.do("GET", path))["attempts"][-1]["id"]
    wrong: list[dict[str, object]] = [{}, {"ine": {}, "curp": {}}]
    for body in wrong:
        assert 422 == (await control.refused("POST", f"{path}/registry-check", body))[0]


async def test_sessions_are_listed_by_pages(control: Control) -> None:
    """A list has filters, counts and a cursor; parameters of the query are checked."""
    first = await control.caller.create(person={"firstName": "Ada"})
    second = await control.caller.create(vendorData="user-42")
    page = await control.do("GET", "/sessions?limit=1")
    assert ([second], second, 2) == ([each["id"] for each in page["sessions"]], page["next"], page["total"])
    page = await control.do("GET", f"/sessions?limit=1&after={page['next']}")
    assert ([first], None) == ([each["id"] for each in page["sessions"]], page["next"])
    assert [second] == [each["id"] for each in (await control.do("GET", "/sessions?search=user-42"))["sessions"]]
    assert 2 == (await control.do("GET", "/sessions?status=created"))["total"]
    assert 2 == (await control.do("GET", "/sessions/counts"))["counts"]["created"]
    for query in (
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=1&limit=2",
        "limits=1",
        "status=creating",
        "limit=",
    ):
        assert 422 == (await control.refused("GET", f"/sessions?{query}"))[0], query


async def test_pictures_can_be_downloaded(control: Control) -> None:
    """A picture is shown by a browser; any other file, which may contain a script, is downloaded."""
    session_id = await control.caller.create()
    picture, document = [await upload(control.caller, session_id, content) for content in (JPEG, PDF)]
    media = (await control.do("GET", f"/sessions/{session_id}"))["attempts"][0]["media"]
    assert {picture: "image/jpeg", document: "application/pdf"} == {each["id"]: each["mimetype"] for each in media}
    assert all("path" not in each for each in media)
    for media_id, content, disposition in ((picture, JPEG, "inline"), (document, PDF, "attachment")):
        reply = await control.send("GET", f"/media/{media_id}")
        assert (200, content) == (reply.status, reply.body)
        assert reply.headers["Content-Disposition"].startswith(disposition)
        assert "nosniff" == reply.headers["X-Content-Type-Options"]
        assert "sandbox" in reply.headers["Content-Security-Policy"]
    large = await upload(control.caller, session_id, JPEG + bytes(2**20))
    assert JPEG + bytes(2**20) == (await control.send("GET", f"/media/{large}")).body
    for stored in control.caller.sandbox.session(session_id).media:
        await to_thread.run_sync(stored.path.unlink)
    for media_id in (picture, large):
        assert 404 == (await control.refused("GET", f"/media/{media_id}"))[0]


async def test_webhooks_are_controlled(control: Control, receiver: Receiver) -> None:
    """Webhooks are held, listed, reordered, delayed, repeated, dropped, delivered and sent again."""
    urls = {"decision": receiver.url, "watchlist": receiver.url}
    assert {"urls": urls} == await control.do("PUT", "/webhook-urls", {"urls": urls})
    assert {WebhookKind.DECISION, WebhookKind.WATCHLIST} == set(control.caller.sandbox.webhook_urls)
    await control.do("POST", "/webhooks/hold", {"kind": "watchlist"})
    assert {"count": 0} == await control.do("POST", "/webhooks/hold")
    session_id = await control.caller.create()
    await control.do("POST", f"/sessions/{session_id}/watchlist-screening")
    await control.do("POST", f"/sessions/{session_id}/decide", {"status": "approved"})
    page = await control.do("GET", f"/webhooks?session_id={session_id}&state=held")
    decision, screening = [webhook["id"] for webhook in page["webhooks"]]
    assert {} == await control.do("POST", "/webhooks/reorder", {"webhook_ids": [decision, screening]})
    assert session_id in (await control.do("GET", f"/webhooks/{decision}"))["body"]
    await control.do("POST", f"/webhooks/{screening}/delay", {"seconds": 60})
    assert "dropped" == (await control.do("POST", f"/webhooks/{screening}/drop"))["state"]
    await control.do("POST", "/webhooks/release")
    assert {"is_idle": True} == await control.do("POST", "/wait-idle", {"timeout": 20})
    copy = (await control.do("POST", f"/webhooks/{decision}/duplicate"))["webhook_id"]
    assert {"is_idle": True} == await control.do("POST", "/wait-idle")
    assert decision == (await control.do("GET", f"/webhooks/{copy}"))["copy_of"]
    await control.do("POST", f"/webhooks/{screening}/deliver")
    again = (await control.do("POST", f"/sessions/{session_id}/resend"))["webhook_id"]
    await control.do("POST", "/wait-idle")
    assert "delivered" == (await control.do("GET", f"/webhooks/{again}"))["state"]
    deliveries = (await control.do("GET", "/deliveries?limit=2"))["deliveries"]
    assert [200, 200] == [delivery["status"] for delivery in deliveries]
    assert 4 == len(control.caller.sandbox.deliveries)
    assert 422 == (await control.refused("PUT", "/webhook-urls", {"urls": {"decision": "ftp://x"}}))[0]
    assert 422 == (await control.refused("PUT", "/webhook-urls", {"urls": {"decisions": receiver.url}}))[0]
    assert {"urls": {}} == await control.do("PUT", "/webhook-urls", {"urls": {}})


async def test_waits_end_at_their_timeout(control: Control, receiver: Receiver, start_sandbox: StartSandbox) -> None:
    """A wait that does not succeed says so; it is no error, because a client cannot know how long it takes."""
    session_id = await control.caller.create()
    waited = await control.do("POST", f"/sessions/{session_id}/wait-until-waiting", {"timeout": 0})
    assert {"is_waiting": False} == waited
    await control.caller.decision(session_id)
    assert {"is_waiting": True} == await control.do("POST", f"/sessions/{session_id}/wait-until-waiting")
    async with start_sandbox(webhook_url=receiver.url) as caller:
        slow = Control(caller)
        session_id = await caller.create()
        receiver.holds = asyncio.Event()
        await slow.do("POST", f"/sessions/{session_id}/decide", {"status": "approved"})
        assert {"is_idle": False} == await slow.do("POST", "/wait-idle", {"timeout": 0.01})
        receiver.holds.set()
        assert {"is_idle": True} == await slow.do("POST", "/wait-idle", {"timeout": 20})


async def test_waits_end_when_the_sandbox_stops(start_sandbox: StartSandbox) -> None:
    """A request that waits ends before the others get their second to finish, with an error that says why."""
    async with start_sandbox() as caller:
        session_id = await caller.create()
        path = f"/sessions/{session_id}/wait-until-waiting"
        waiting = asyncio.create_task(Control(caller).refused("POST", path, {"timeout": 600}))
        await until(lambda: bool(caller.sandbox._service._polls._expected))
        await caller.sandbox.__aexit__(None, None, None)
        assert (503, "The sandbox is stopping: send the request to one that runs.", None) == await waiting
        await caller.sandbox.__aenter__()


async def test_clock(control: Control, start_sandbox: StartSandbox) -> None:
    """A virtual clock is advanced, and runs what becomes due; a real one cannot be."""
    session_id = await control.caller.create()
    assert {"now": "2025-01-01T00:00:00Z", "is_virtual": True} == await control.do("GET", "/clock")
    await control.do("POST", "/clock/advance", {"seconds": 8 * 86_400})
    assert "expired" == (await control.do("GET", f"/sessions/{session_id}"))["status"]
    for seconds in (-1, 1e10, "1", None):
        assert (422, "seconds") == (await control.refused("POST", "/clock/advance", {"seconds": seconds}))[::2]
    for _ in range(3):
        await control.send("POST", "/clock/advance", {"seconds": 10**9})
    async with start_sandbox() as caller:
        real = Control(caller)
        assert (await real.do("GET", "/clock"))["is_virtual"] is False
        assert 409 == (await real.refused("POST", "/clock/advance", {"seconds": 1}))[0]


async def test_faults(control: Control) -> None:
    """Faults are injected, listed and removed; the keys are those of chaos profiles."""
    fault = {"kind": "status", "status": 503, "retry_after": 2, "code": "1000"}
    added = await control.do("POST", "/faults", {"fault": fault, "method": "get", "path": "/v1/*", "times": 2})
    (waiting,) = (await control.do("GET", "/faults"))["faults"]
    assert (added["fault_id"], "GET", "/v1/*", 2) == tuple(waiting[name] for name in ("id", "method", "path", "times"))
    assert {"Retry-After": "2"} == waiting["fault"]["headers"]
    (own,) = control.caller.sandbox.faults
    assert Fault.status(503, retry_after=2, code="1000") == own.fault
    assert 503 == (await control.caller.decision(UNKNOWN)).status
    assert {} == await control.do("DELETE", f"/faults/{added['fault_id']}")
    await control.do("POST", "/faults", {"fault": {"kind": "drop", "after": 5}})
    assert {} == await control.do("DELETE", "/faults")
    assert () == control.caller.sandbox.faults
    for wrong, field in (
        ({"fault": {"kind": "dropped"}}, "fault.kind"),
        ({"fault": {"kind": "status"}}, "fault"),
        ({"fault": {"kind": "drop", "status": 500}}, "fault"),
        ({"fault": {"kind": "status", "status": 100}}, "fault.status"),
        ({"fault": {"kind": "status", "status": 500, "headers": {"a b": "c"}}}, "fault"),
        ({"fault": {"kind": "drop"}, "times": 0}, "times"),
        ({"fault": "drop"}, "fault"),
    ):
        assert (422, field) == (await control.refused("POST", "/faults", wrong))[::2], wrong


async def test_chaos(control: Control) -> None:
    """A chaos profile is set by its name or its members, and removed; a name opens no file."""
    assert "mobile" == (await control.do("PUT", "/chaos", {"name": "mobile"}))["profile"]["name"]
    profile = {"name": "mine", "seed": 3, "requests": [{"path": "*", "latency": 0.1}]}
    shown = (await control.do("PUT", "/chaos", {"profile": profile}))["profile"]
    own = control.caller.sandbox.chaos
    assert own is not None
    assert own.to_dict() == shown
    for wrong in (
        {},
        {"name": "mobile", "profile": profile},
        {"name": "./x.toml"},
        {"profile": {"requests": [{"a": 1}]}},
    ):
        assert 422 == (await control.refused("PUT", "/chaos", wrong))[0], wrong
    assert (await control.do("DELETE", "/chaos"))["profile"] is None
    assert control.caller.sandbox.chaos is None


async def test_rules_change_and_the_state_is_reset(control: Control) -> None:
    """Rules change all at once or not at all; a reset forgets sessions and keeps the rules."""
    rules = await control.do("PATCH", "/rules", {"decide_after": 0, "full_auto": True, "requests_per_second": None})
    assert rules == await control.do("GET", "/rules")
    assert (0, True) == (rules["decide_after"], rules["options"]["full_auto"])
    wrong: list[tuple[dict[str, object], str]] = [
        ({"decide_after": None, "oversize_status": 200}, "oversize_status"),
        ({"time_digits": 4}, "time_digits"),
        ({"full_auto": 1}, "full_auto"),
        ({"full_auto": None}, "full_auto"),
        ({"webhook_urls": {"decision": "x"}}, "webhook_urls"),
        ({"options": {}}, "options"),
    ]
    for body, field in wrong:
        status, message, named = await control.refused("PATCH", "/rules", body)
        assert (422, True) == (status, named == field or message.startswith("webhook_url")), message
    assert rules == await control.do("GET", "/rules")
    await control.caller.create()
    assert {} == await control.do("POST", "/reset")
    assert 0 == (await control.do("GET", "/sessions"))["total"]
    assert rules == await control.do("GET", "/rules")


async def test_the_state_moves_to_another_sandbox(control: Control, start_sandbox: StartSandbox) -> None:
    """A snapshot is downloaded as an archive, and restored from the same bytes; any other body changes nothing."""
    session_id = await control.caller.create()
    await upload(control.caller, session_id, JPEG + bytes(2**20))
    reply = await control.send("GET", "/snapshot")
    assert (200, "application/zip") == (reply.status, reply.headers["Content-Type"])
    path, kind = "/_sandbox/api/snapshot", {"Content-Type": "application/zip"}
    async with start_sandbox(clock=VirtualClock()) as caller:
        other = Control(caller)
        (seeded,) = (await other.do("POST", "/seed", {"sessions": 1, "statuses": ["declined"]}))["session_ids"]
        assert 415 == (await other.refused("PUT", "/snapshot", {}))[0]
        for body in (b"", b"PK", reply.body[:-10], reply.body[10:]):
            refused = await caller.send("PUT", path, data=body, headers=kind)
            assert (422, "invalid") == (refused.status, refused.json["error"]["code"])
        assert "declined" == (await other.do("GET", f"/sessions/{seeded}"))["status"]
        assert 200 == (await caller.send("PUT", path, data=reply.body, headers=kind)).status
        assert 404 == (await other.refused("GET", f"/sessions/{seeded}"))[0]
        (media,) = caller.sandbox.session(session_id).media
        assert JPEG + bytes(2**20) == (await other.send("GET", f"/media/{media.id}")).body
        large = await other.do("GET", "/sessions?limit=1000")
        assert [session_id] == [session["id"] for session in large["sessions"]]
        # The uploaded archives are gone.
        folder = media.path.parent
        assert [media.path] == await to_thread.run_sync(lambda: [file for file in folder.iterdir() if file.is_file()])


async def test_sessions_are_seeded(control: Control) -> None:
    """Sessions in some states are added while other requests are answered; wrong input adds none."""
    seeded = await control.do("POST", "/seed", {"sessions": 4, "statuses": ["approved", "review"], "seed": 3})
    found = await control.do("GET", "/sessions?status=approved")
    assert 2 == found["total"]
    assert {session["id"] for session in found["sessions"]} < set(seeded["session_ids"])
    assert 20 == len((await control.do("POST", "/seed"))["session_ids"])
    for wrong, field in (({"sessions": 0}, "sessions"), ({"statuses": ["x"]}, "statuses"), ({"seed": 1.5}, "seed")):
        status, message, _ = await control.refused("POST", "/seed", wrong)
        assert (422, True) == (status, field in message), message
    assert 422 == (await control.refused("POST", "/seed", {"statuses": []}))[0]
    assert 24 == (await control.do("GET", "/sessions"))["total"]


def test_every_rule_can_be_changed() -> None:
    """The fields of the operation are the arguments of `Sandbox.change_rules`; options are given one by one."""
    (operation,) = (each for each in OPERATIONS if each.name == "change_rules")
    assert set(RuleFields.__annotations__) - {"options"} == {field.name for field in operation.body}


async def test_addresses_and_credentials(control: Control) -> None:
    """A client in any language finds addresses and credentials, and changes both while the sandbox runs."""
    sandbox = control.caller.sandbox
    assert sandbox.environ == (await control.do("GET", "/environ"))["environ"]
    addresses = await control.do("GET", "/addresses")
    for name in ("base_url", "sync_url", "control_url", "console_url", "control_token"):
        assert getattr(sandbox, name) == addresses[name]
    new = {"api_key": "key", "secrets": ["new", "old"], "integration_id": None}
    assert new == await control.do("PUT", "/credentials", new)
    assert Credentials("key", "new", previous_secrets=("old",)) == sandbox.credentials
    for key, secrets in (("", ["a"]), ("a", [""]), ("a", "a"), ("a", ["a"] * 6)):
        wrong = {"api_key": key, "secrets": secrets}
        assert 422 == (await control.refused("PUT", "/credentials", wrong))[0]
    assert 422 == (await control.refused("PUT", "/public-url", {"public_url": "veriff"}))[0]
    addresses = await control.do("PUT", "/public-url", {"public_url": "https://veriff.example"})
    assert "https://veriff.example" == sandbox.public_url == addresses["base_url"]
    # Under a public name the sandbox needs a token, which only the response to this change contains.
    assert 401 == (await control.refused("GET", "/addresses"))[0]
    token = {"Authorization": f"Bearer {addresses['control_token']}"}
    assert 200 == (await control.caller.send("GET", "/_sandbox/api/addresses", headers=token)).status


async def test_records(control: Control) -> None:
    """Requests, faces and the timeline are listed."""
    await control.caller.create()
    (request,) = (await control.do("GET", "/requests"))["requests"]
    assert {"method": "POST", "path": "/v1/sessions", "status": 201, "cause": ""} == request
    assert {"faces": []} == await control.do("GET", "/imported-faces")
    timeline = await control.do("GET", "/timeline?kind=request&limit=5")
    assert ["/v1/sessions"] == [entry["path"] for entry in timeline["entries"]]
    assert timeline["last_number"] == control.caller.sandbox.timeline.last_number


def test_a_sandbox_in_a_thread_has_the_same_api() -> None:
    """A sandbox of a synchronous test is controlled by HTTP as well."""
    with Sandbox(clock=VirtualClock()) as sandbox, urllib.request.urlopen(sandbox.control_url + "/clock") as response:  # noqa: S310
        assert b"is_virtual" in response.read()


async def test_upload_that_cannot_be_stored_is_refused(start_sandbox: StartSandbox, tmp_path: Path) -> None:
    """Without its folder the sandbox answers 507 with the remedy, and its state stays."""
    folder = tmp_path / "media"
    async with start_sandbox(media_folder=folder) as caller:
        session_id = await caller.create()
        archive = (await caller.send("GET", "/_sandbox/api/snapshot")).body
        await to_thread.run_sync(folder.rmdir)
        path, kind = "/_sandbox/api/snapshot", {"Content-Type": "application/zip"}
        reply = await caller.send("PUT", path, data=archive, headers=kind)
        assert (507, "no_space") == (reply.status, reply.json["error"]["code"])
        assert "check the media folder" in reply.json["error"]["message"]
        assert [session_id] == [session.id for session in caller.sandbox.sessions]


async def test_upload_has_a_largest_size(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    """A larger one is refused with 413 as soon as it is larger."""
    await control.do("GET", "/rules")
    monkeypatch.setattr("veriff_async.sandbox._control.api._MAX_BYTES", 10)
    path, kind = "/_sandbox/api/snapshot", {"Content-Type": "application/zip"}
    reply = await control.caller.send("PUT", path, data=b"x" * 11, headers=kind)
    assert (413, "too_large") == (reply.status, reply.json["error"]["code"])


async def test_text_that_is_no_unicode_is_returned_as_an_escape(control: Control) -> None:
    """Half of a surrogate pair has no bytes in UTF-8, and JSON can escape it."""
    body = b'{"verification":{"vendorData":"\\ud800"}}'
    session_id = (await control.caller.post("/v1/sessions", body)).json["verification"]["id"]
    reply = await control.send("GET", f"/sessions/{session_id}")
    assert 200 == reply.status
    assert b"\\ud800" in reply.body
    assert "\ud800" == reply.json["vendor_data"]


async def test_client_may_ask_before_it_sends_a_body(control: Control) -> None:
    """A client that announces a body with Expect may continue (RFC 9110, section 10.1.1)."""
    url = f"{control.caller.sandbox.base_url}/_sandbox/api/seed"
    async with control.caller.http.post(url, json={"sessions": 1}, expect100=True) as response:
        assert 200 == response.status
    async with control.caller.http.post(url, json={"sessions": 1}, headers={"Expect": "other"}) as response:
        assert 200 == response.status


def test_errors_of_any_class_have_a_status(caplog: pytest.LogCaptureFixture) -> None:
    """An unknown error is 500, and its text is in the log only; wrong input and wrong states have their own status."""
    status = {error.status: error.message for error in map(to_control_error, ERRORS)}
    assert [500, 422, 409] == list(status)
    assert "secret" not in status[500]
    assert ["An operation of the sandbox's control API has failed."] == [each.message for each in caplog.records]


ERRORS: Final = (RuntimeError("secret"), InvalidArgumentError("wrong"), ConfigurationError("stopped"))


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (Json(), {"a": float("nan")}, "must have finite numbers"),
        (Json(), json.loads('{"a":' * 200 + "1" + "}" * 200), "levels"),
        (Time(), "2025-01-01T12:00:00", "must be a time with an offset"),
        (Time(), "noon", "must be a time with an offset"),
        (Text(max_length=3), "abcd", "must have 0 to 3 characters, not 4"),
        (Model(RiskLabel), {"label": "x", "sessionIds": [5]}, "sessionIds"),
    ],
)
def test_each_type_of_input_explains_itself(kind: Any, value: object, message: str) -> None:  # noqa: ANN401  any kind
    """The sentence names the field and what it takes."""
    with pytest.raises(ControlError, match=f"^field.*{message}"):
        kind.read(value, "field")
