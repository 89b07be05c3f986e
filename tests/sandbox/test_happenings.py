"""What happens at Veriff's side, told by the kind of webhook that the documents have for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest

from veriff_async import (
    AddressEvent,
    CurpEvent,
    DecisionEvent,
    FullAutoEvent,
    IneCurpEvent,
    IneEvent,
    InvalidArgumentError,
    Person,
    SessionEvent,
    Status,
    UserStatusEvent,
    WatchlistEvent,
    parse_webhook,
)
from veriff_async.models import (
    AdditionalVerifiedData,
    CurpResult,
    IneCurpResult,
    IneResult,
    RiskLabel,
    TransportationResult,
    UserDefinedStatus,
)
from veriff_async.sandbox import Sandbox, SandboxOptions, VirtualClock, WebhookKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.sandbox.conftest import Caller, Receiver, StartSandbox
    from veriff_async import WebhookEvent

pytestmark = pytest.mark.anyio

PERSON: Final = {"firstName": "Ada", "lastName": "Byron"}
HOLD: Final = 300
HAPPENINGS: Final[dict[type[WebhookEvent], Callable[[Sandbox, str], object]]] = {
    SessionEvent: Sandbox.start_attempt,
    DecisionEvent: lambda sandbox, session_id: sandbox.decide(session_id, "approved"),
    WatchlistEvent: Sandbox.complete_watchlist_screening,
    UserStatusEvent: lambda sandbox, session_id: sandbox.set_user_status(
        session_id, UserDefinedStatus(status="Look again")
    ),
    IneEvent: lambda sandbox, session_id: sandbox.complete_registry_check(session_id, IneResult(active=True)),
    CurpEvent: lambda sandbox, session_id: sandbox.complete_registry_check(
        session_id, CurpResult(curp="BXAA900101HDFRRS09")
    ),
    IneCurpEvent: lambda sandbox, session_id: sandbox.complete_registry_check(session_id, IneCurpResult()),
    AddressEvent: Sandbox.submit_address,
}


@pytest.fixture
async def told(start_sandbox: StartSandbox, receiver: Receiver) -> AsyncIterator[Caller]:
    """Give a sandbox that posts every kind of webhook to the receiver, and whose clock stands still."""
    urls = dict.fromkeys(WebhookKind, receiver.url)
    async with start_sandbox(clock=VirtualClock(), webhook_urls=urls) as started:
        yield started


async def next_event(receiver: Receiver, sandbox: Sandbox) -> WebhookEvent:
    """Wait for the next webhook, verified as the library does."""
    arrival = await receiver.next()
    return parse_webhook(arrival.headers, arrival.body, sandbox.credentials)


@pytest.mark.parametrize(("kind", "happen"), HAPPENINGS.items(), ids=[kind.kind for kind in HAPPENINGS])
async def test_each_happening_is_told_as_its_kind(
    told: Caller, receiver: Receiver, kind: type[WebhookEvent], happen: Callable[[Sandbox, str], object]
) -> None:
    """Whatever happens to a session is told once, signed, as the kind that is documented for it, with its ids."""
    session_id = await told.create(person=PERSON, vendorData="user-42")
    happen(told.sandbox, session_id)

    event = await next_event(receiver, told.sandbox)

    assert kind is type(event)
    assert session_id == event.session_id
    assert event.raw.get("vendorData", "user-42") == "user-42"
    await told.sandbox.wait_idle()
    assert 1 == len(told.sandbox.deliveries)


async def test_kinds_have_addresses_of_their_own(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """A kind without an address is told to nobody; each other goes to its own."""
    async with start_sandbox(clock=VirtualClock(), webhook_urls={"watchlist": receiver.url}) as caller:
        session_id = await caller.create()
        for happen in HAPPENINGS.values():
            happen(caller.sandbox, session_id)
        await caller.sandbox.wait_idle()

        assert isinstance(await next_event(receiver, caller.sandbox), WatchlistEvent)
        assert 1 == len(caller.sandbox.deliveries)
        assert caller.sandbox.webhook_url is None
        assert dict(caller.sandbox.webhook_urls) == {WebhookKind.WATCHLIST: receiver.url}


@pytest.mark.parametrize("urls", [{"watch": "http://127.0.0.1/"}, {"decision": "not an address"}])
def test_addresses_are_checked(urls: dict[str, str]) -> None:
    """A kind that nothing is, and an address that is none, are refused."""
    with pytest.raises(InvalidArgumentError, match="webhook_url"):
        Sandbox(webhook_urls=urls)


async def test_an_integration_without_humans_tells_in_its_own_form(
    start_sandbox: StartSandbox, receiver: Receiver
) -> None:
    """With the Essential plan the decision has its own form, and no started or submitted attempt is told."""
    urls = dict.fromkeys(WebhookKind, receiver.url)
    async with start_sandbox(clock=VirtualClock(), options=SandboxOptions(full_auto=True), webhook_urls=urls) as caller:
        session_id = await caller.create(person=PERSON)
        await caller.submit(session_id)
        caller.sandbox.decide(session_id, "declined")

        event = await next_event(receiver, caller.sandbox)

        assert isinstance(event, FullAutoEvent)
        assert (Status.DECLINED, "Ada") == (event.decision.status, event.decision.person.first_name.value)
        await caller.sandbox.wait_idle()
        assert 1 == len(caller.sandbox.deliveries)


async def test_an_attempt_is_told_step_by_step(told: Caller, receiver: Receiver) -> None:
    """An end-user who works on Veriff's page starts and submits each attempt, and both are told."""
    session_id = await told.create()
    told.sandbox.start_attempt(session_id)
    told.sandbox.submit_attempt(session_id)
    told.sandbox.decide(session_id, "approved")

    codes = [
        event.code for _ in range(2) if isinstance(event := await next_event(receiver, told.sandbox), SessionEvent)
    ]

    assert [7001, 7002] == codes
    assert isinstance(await next_event(receiver, told.sandbox), DecisionEvent)
    for late in (told.sandbox.start_attempt, told.sandbox.submit_attempt):
        with pytest.raises(InvalidArgumentError, match="approved"):
            late(session_id)


async def test_the_first_upload_may_start_an_attempt(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """Whether a picture that comes by API starts the attempt is not known: a rule decides."""
    async with start_sandbox(
        options=SandboxOptions(upload_starts_attempt=True), webhook_urls={"event": receiver.url}
    ) as caller:
        session_id = await caller.create()
        for _ in range(2):
            assert 200 == (await caller.upload(session_id, "/9j/4AAQSkZJRg==")).status

        assert Status.STARTED == caller.sandbox.session(session_id).status
        event = await next_event(receiver, caller.sandbox)
        assert isinstance(event, SessionEvent)
        assert 7001 == event.code
        await caller.sandbox.wait_idle()
        assert 1 == len(caller.sandbox.deliveries)


async def test_a_request_for_resubmission_is_held_back(told: Caller, receiver: Receiver) -> None:
    """While the end-user can answer on Veriff's page, the request is held back; it goes out after five minutes."""
    told.sandbox.webhook_urls = {WebhookKind.DECISION: receiver.url}
    session_id = await told.create()
    told.sandbox.start_attempt(session_id)
    told.sandbox.submit_attempt(session_id)
    told.sandbox.decide(session_id, "resubmission_requested")

    told.sandbox.advance(HOLD - 1)
    await told.sandbox.wait_idle()
    assert () == told.sandbox.deliveries
    told.sandbox.advance(1)

    event = await next_event(receiver, told.sandbox)
    assert isinstance(event, DecisionEvent)
    assert event.decision.needs_resubmission


async def test_an_answered_request_is_not_told(told: Caller, receiver: Receiver) -> None:
    """When the end-user submits again within the five minutes, the request for it is never told."""
    told.sandbox.webhook_urls = {WebhookKind.DECISION: receiver.url}
    session_id = await told.create()
    for _ in range(2):
        told.sandbox.start_attempt(session_id)
        told.sandbox.submit_attempt(session_id)
        if told.sandbox.session(session_id).attempts[1:] == ():
            told.sandbox.decide(session_id, "resubmission_requested")
    told.sandbox.advance(HOLD)
    told.sandbox.decide(session_id, "approved")

    event = await next_event(receiver, told.sandbox)

    assert isinstance(event, DecisionEvent)
    assert event.decision.is_approved
    await told.sandbox.wait_idle()
    assert 1 == len(told.sandbox.deliveries)


async def test_a_webhook_can_be_sent_again(told: Caller, receiver: Receiver) -> None:
    """The Customer Portal sends a webhook again with the same body; what was never sent cannot be."""
    session_id = await told.create()
    with pytest.raises(InvalidArgumentError, match="decision"):
        told.sandbox.resend(session_id)
    told.sandbox.decide(session_id, "approved")

    first = await receiver.next()
    told.sandbox.resend(session_id)
    second = await receiver.next()

    assert first.body == second.body


async def test_a_deletion_ends_an_undecided_session(told: Caller, receiver: Receiver) -> None:
    """A session that is deleted before its decision ends with one, and nothing happens to it later."""
    session_id = await told.create()
    reply = await told.send("DELETE", f"/v1/sessions/{session_id}", headers=told.signed(session_id.encode()))

    event = await next_event(receiver, told.sandbox)

    assert {"status": "success", "verification": {"id": session_id}} == reply.json
    assert isinstance(event, DecisionEvent)
    assert Status.EXPIRED == event.decision.status
    told.sandbox.advance(8 * 86_400)
    await told.sandbox.wait_idle()
    assert 1 == len(told.sandbox.deliveries)


async def test_errors_of_a_deletion_have_a_form_of_their_own(told: Caller) -> None:
    """The status in such an error is a number, as documented."""
    session_id = await told.create()
    await told.submit(session_id)

    reply = await told.send("DELETE", f"/v1/sessions/{session_id}", headers=told.signed(session_id.encode()))

    assert (400, 400, "1305") == (reply.status, reply.json["status"], reply.json["code"])


async def test_feedback_signs_path_and_body(told: Caller) -> None:
    """A report is signed over the path, a newline and the body, under headers of its own; its errors have no status."""
    path, body = "/v1/feedback/fraud-reports/retrieve", b'{"sessionIds":["x"]}'
    right = await told.send("POST", path, data=body, headers=told.signed(path.encode() + b"\n" + body, family="VRF"))
    older = await told.send("POST", path, data=body, headers=told.signed(path.encode(), family="VRF"))
    usual = await told.send("POST", path, data=body, headers=told.signed(path.encode() + b"\n" + body))

    assert 200 == right.status
    assert (401, {"code": "1819"}) == (older.status, {key: older.json[key] for key in older.json if key != "message"})
    assert (401, "1801") == (usual.status, usual.json["code"])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/feedback/fraud-reports", {}),
        ("/v1/feedback/fraud-reports", {"reports": []}),
        ("/v1/feedback/fraud-reports", {"reports": ["x"]}),
        ("/v1/feedback/fraud-reports", {"reports": [{"sessionId": "x", "categories": ["a"], "comment": "x" * 501}]}),
        ("/v1/feedback/fraud-reports/retrieve", {"sessionIds": []}),
        ("/v1/feedback/fraud-reports/retrieve", {"sessionIds": ["x"] * 11}),
        ("/v1/feedback/fraud-reports/retrieve", ["x"]),
    ],
)
async def test_feedback_is_checked(told: Caller, path: str, body: object) -> None:
    """What feedback must have is asked for, in the form of errors that this API has."""
    raw = json.dumps(body).encode()

    reply = await told.send("POST", path, data=raw, headers=told.signed(path.encode() + b"\n" + raw, family="VRF"))

    assert (400, {"code", "message"}) == (reply.status, set(reply.json))


async def test_each_report_is_judged_alone(told: Caller) -> None:
    """Unknown categories, an unknown session and an undecided one are refused one by one."""
    session_id = await told.create()
    path = "/v1/feedback/fraud-reports"
    reports = [
        {"sessionId": session_id, "categories": ["no such thing"]},
        {"sessionId": "unknown", "categories": ["injected_media"]},
        {"sessionId": session_id, "categories": ["injected_media"]},
    ]
    raw = json.dumps({"reports": reports}).encode()

    reply = await told.send("POST", path, data=raw, headers=told.signed(path.encode() + b"\n" + raw, family="VRF"))

    assert ["error"] * 3 == [receipt["status"] for receipt in reply.json["reports"]]
    assert 3 == len({receipt["details"] for receipt in reply.json["reports"]})


@pytest.mark.parametrize(
    ("person", "code"),
    [
        ({"firstName": "Ada", "lastName": "Byron", "dateOfBirth": "1990-01-01"}, "1308"),
        ({"idNumber": "1", "dateOfBirth": "1990-01-01"}, "1309"),
        ({"idNumber": "1", "fullName": "Ada Byron"}, "1310"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/validate-registry", "/v1/sessions/validate-registry"])
async def test_registries_refuse_with_their_codes(told: Caller, person: dict[str, str], code: str, path: str) -> None:
    """What a check of registries lacks has its documented code, at the path of the page and of the index."""
    assert (400, code) == (await told.post(path, {"verification": {"person": person}})).refusal


async def test_the_synchronous_host_wants_the_key_twice(told: Caller) -> None:
    """The synchronous check is refused without its second header for the key."""
    person = {"idNumber": "1", "fullName": "Ada Byron", "dateOfBirth": "1990-01-01"}

    reply = await told.post("/sync/v1/validate-registry", {"verification": {"person": person}})

    assert (401, "1801") == reply.refusal


@pytest.mark.parametrize("query", ["", "?version=1.0.0"])
async def test_older_registries_want_a_version(told: Caller, query: str) -> None:
    """The older calls of Mexico's registries need a version, which is not signed."""
    session_id = await told.create()
    told.sandbox.complete_registry_check(session_id, IneResult(active=False))

    reply = await told.get(f"/v1/sessions/{session_id}/decision/ine-registry{query}", session_id)

    assert (200 if query else 400) == reply.status


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"providerName": "us", "device": {}, "network": {}},
        {"providerName": "us", "device": {"fingerprint": "f" * 256}, "network": {"ip": {"addressV4": "192.0.2.1"}}},
        {"providerName": "us", "device": {"fingerprint": "f"}, "network": {"ip": {}}},
    ],
)
async def test_collected_data_are_checked(told: Caller, body: dict[str, object]) -> None:
    """Data without what is required are refused."""
    session_id = await told.create()

    assert 400 == (await told.post(f"/v1/sessions/{session_id}/collected-data", body)).status


@pytest.mark.parametrize(
    ("chip", "code"),
    [
        ({"com": "AA==", "sod": "AA==", "dg1": "AA=="}, "1102"),
        ({"com": "AA==", "sod": "AA==", "dg1": "AA==", "dg2": "not base64"}, "1401"),
    ],
)
@pytest.mark.parametrize("wrapper", ["nfcDocument", "nfc"])
async def test_a_reading_of_a_chip_is_checked(told: Caller, chip: dict[str, str], code: str, wrapper: str) -> None:
    """A reading needs its four files in base64, whichever guess at the member around them is sent."""
    session_id = await told.create()

    assert (400, code) == (await told.post(f"/v1/sessions/{session_id}/media", {wrapper: chip})).refusal


async def test_a_decision_can_say_all_that_one_can(told: Caller, receiver: Receiver) -> None:
    """Scores, labels and the data of products are told as they are given."""
    session_id = await told.create(person=PERSON)
    data = AdditionalVerifiedData(estimated_age=30)
    label = RiskLabel(label="session_crosslinked_with_velocity_abuse", session_ids=("another",))
    told.sandbox.decide(
        session_id,
        "declined",
        reason_code=106,
        reason="Known fraud",
        person=Person(last_name="Lovelace"),
        additional_verified_data=data,
        risk_score=0.9,
        risk_labels=(label,),
    )

    event = await next_event(receiver, told.sandbox)

    assert isinstance(event, DecisionEvent)
    found = event.decision
    assert (0.9, (label,), data) == (found.risk_score, found.risk_labels, found.additional_verified_data)
    assert ("Ada", "Lovelace") == (found.person.first_name, found.person.last_name)
    assert found.known_reason is not None
    assert "known fraud" == found.known_reason.meaning


async def test_a_registry_of_licences_tells_nobody(told: Caller) -> None:
    """The form of its webhook is not known, so there is none."""
    session_id = await told.create()
    told.sandbox.complete_registry_check(session_id, TransportationResult(status="valid"))
    await told.sandbox.wait_idle()

    assert () == told.sandbox.deliveries
