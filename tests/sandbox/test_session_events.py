"""Events on Veriff's side, and the kind of webhook that each of them posts."""

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
async def posting_caller(start_sandbox: StartSandbox, receiver: Receiver) -> AsyncIterator[Caller]:
    """Return a caller of a sandbox with a virtual clock that posts every kind of webhook to the receiver."""
    urls = dict.fromkeys(WebhookKind, receiver.url)
    async with start_sandbox(clock=VirtualClock(), webhook_urls=urls) as started:
        yield started


async def next_event(receiver: Receiver, sandbox: Sandbox) -> WebhookEvent:
    """Wait for the next webhook, verified by the library."""
    arrival = await receiver.next()
    return parse_webhook(arrival.headers, arrival.body, sandbox.credentials)


@pytest.mark.parametrize(("kind", "happen"), HAPPENINGS.items(), ids=[kind.kind for kind in HAPPENINGS])
async def test_each_event_posts_its_kind_of_webhook(
    posting_caller: Caller, receiver: Receiver, kind: type[WebhookEvent], happen: Callable[[Sandbox, str], object]
) -> None:
    """Each event posts one signed webhook of the documented kind, with the ids of the session."""
    session_id = await posting_caller.create(person=PERSON, vendorData="user-42")
    happen(posting_caller.sandbox, session_id)

    event = await next_event(receiver, posting_caller.sandbox)

    assert kind is type(event)
    assert session_id == event.session_id
    assert event.raw.get("vendorData", "user-42") == "user-42"
    await posting_caller.sandbox.wait_idle()
    assert 1 == len(posting_caller.sandbox.deliveries)


async def test_each_kind_has_its_own_url(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """A kind without a URL is not posted; each other kind goes to its URL."""
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
def test_webhook_urls_are_checked(urls: dict[str, str]) -> None:
    """An unknown kind and an invalid URL are refused."""
    with pytest.raises(InvalidArgumentError, match="webhook_url"):
        Sandbox(webhook_urls=urls)


async def test_full_auto_integration_posts_its_own_form(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """With the Essential plan the decision has its own form, and no started or submitted attempt is posted."""
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


async def test_person_starts_again_while_the_submission_is_checked(posting_caller: Caller, receiver: Receiver) -> None:
    """Another attempt starts, is posted with its own id, takes pictures, and is the one that is decided."""
    sandbox = posting_caller.sandbox
    session_id = await posting_caller.create()
    sandbox.submit_attempt(session_id)
    await next_event(receiver, sandbox)

    attempt_id = sandbox.open_attempt(session_id)

    started = await next_event(receiver, sandbox)
    assert isinstance(started, SessionEvent)
    assert (7001, attempt_id) == (started.code, started.attempt_id)
    assert 200 == (await posting_caller.upload(session_id, "/9j/4AAQ")).status
    sandbox.submit_attempt(session_id)
    sandbox.decide(session_id, "approved")
    first, second = sandbox.session(session_id).attempts
    assert [Status.SUBMITTED, Status.APPROVED] == [first.status, second.status]
    assert (attempt_id, 1) == (second.id, len(second.media))


async def test_attempt_after_a_resubmission_is_the_one_that_it_opened(caller: Caller) -> None:
    """A request for resubmission has opened the attempt already; starting it makes no other."""
    session_id = await caller.create()
    caller.sandbox.decide(session_id, "resubmission_requested")
    opened = caller.sandbox.session(session_id).attempts[-1].id

    assert opened == caller.sandbox.open_attempt(session_id)

    seen = caller.sandbox.session(session_id)
    assert (Status.STARTED, 2) == (seen.status, len(seen.attempts))


async def test_decision_that_was_to_come_by_itself_is_dropped_by_another_attempt(start_sandbox: StartSandbox) -> None:
    """The attempt before is not decided any more; the new one is, once it is submitted."""
    async with start_sandbox(clock=VirtualClock(), decide_after=60) as caller:
        session_id = await caller.create()
        await caller.submit(session_id)
        caller.sandbox.open_attempt(session_id)
        caller.sandbox.advance(60)
        assert Status.STARTED == caller.sandbox.session(session_id).status

        await caller.submit(session_id)
        caller.sandbox.advance(60)

        assert Status.APPROVED == caller.sandbox.session(session_id).status


async def test_attempts_are_limited_like_resubmissions(caller: Caller) -> None:
    """After nine more attempts another one is refused, and a tenth request for resubmission is a decline."""
    session_id = await caller.create()
    caller.sandbox.submit_attempt(session_id)
    for _ in range(9):
        caller.sandbox.open_attempt(session_id)
    before = caller.sandbox.session(session_id)

    with pytest.raises(InvalidArgumentError, match="9 resubmissions"):
        caller.sandbox.open_attempt(session_id)

    assert before == caller.sandbox.session(session_id)
    caller.sandbox.decide(session_id, "resubmission_requested")
    assert Status.DECLINED == caller.sandbox.session(session_id).status


@pytest.mark.parametrize("status", [None, "approved", "declined", "expired", "abandoned"])
async def test_attempt_cannot_be_opened_before_the_first_and_after_the_end(caller: Caller, status: str | None) -> None:
    """A session that has not started, or has a final decision, is unchanged."""
    session_id = await caller.create()
    if status is not None:
        caller.sandbox.decide(session_id, status)
    before = caller.sandbox.session(session_id)

    with pytest.raises(InvalidArgumentError, match=status or "not started"):
        caller.sandbox.open_attempt(session_id)

    assert before == caller.sandbox.session(session_id)


async def test_attempt_posts_started_and_submitted(posting_caller: Caller, receiver: Receiver) -> None:
    """An end-user who works on Veriff's page starts and submits each attempt, and both are posted."""
    session_id = await posting_caller.create()
    posting_caller.sandbox.start_attempt(session_id)
    posting_caller.sandbox.submit_attempt(session_id)
    posting_caller.sandbox.decide(session_id, "approved")

    codes = [
        event.code
        for _ in range(2)
        if isinstance(event := await next_event(receiver, posting_caller.sandbox), SessionEvent)
    ]

    assert [7001, 7002] == codes
    assert isinstance(await next_event(receiver, posting_caller.sandbox), DecisionEvent)
    for late in (posting_caller.sandbox.start_attempt, posting_caller.sandbox.submit_attempt):
        with pytest.raises(InvalidArgumentError, match="approved"):
            late(session_id)


async def test_upload_starts_attempt_with_the_option(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """Whether an upload by API starts the attempt is unknown: an option decides."""
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


async def test_resubmission_request_is_held_back(posting_caller: Caller, receiver: Receiver) -> None:
    """While the end-user can respond on Veriff's page, the request is held back for five minutes."""
    posting_caller.sandbox.webhook_urls = {WebhookKind.DECISION: receiver.url}
    session_id = await posting_caller.create()
    posting_caller.sandbox.start_attempt(session_id)
    posting_caller.sandbox.submit_attempt(session_id)
    posting_caller.sandbox.decide(session_id, "resubmission_requested")

    posting_caller.sandbox.advance(HOLD - 1)
    await posting_caller.sandbox.wait_idle()
    assert () == posting_caller.sandbox.deliveries
    posting_caller.sandbox.advance(1)

    event = await next_event(receiver, posting_caller.sandbox)
    assert isinstance(event, DecisionEvent)
    assert event.decision.needs_resubmission


async def test_answered_resubmission_request_is_not_posted(posting_caller: Caller, receiver: Receiver) -> None:
    """If the end-user submits again within five minutes, the request is never posted."""
    posting_caller.sandbox.webhook_urls = {WebhookKind.DECISION: receiver.url}
    session_id = await posting_caller.create()
    for _ in range(2):
        posting_caller.sandbox.start_attempt(session_id)
        posting_caller.sandbox.submit_attempt(session_id)
        if posting_caller.sandbox.session(session_id).attempts[1:] == ():
            posting_caller.sandbox.decide(session_id, "resubmission_requested")
    posting_caller.sandbox.advance(HOLD)
    posting_caller.sandbox.decide(session_id, "approved")

    event = await next_event(receiver, posting_caller.sandbox)

    assert isinstance(event, DecisionEvent)
    assert event.decision.is_approved
    await posting_caller.sandbox.wait_idle()
    assert 1 == len(posting_caller.sandbox.deliveries)


async def test_resend_posts_the_same_body(posting_caller: Caller, receiver: Receiver) -> None:
    """The Customer Portal sends a webhook again with the same body; without an earlier one, `resend` fails."""
    session_id = await posting_caller.create()
    with pytest.raises(InvalidArgumentError, match="decision"):
        posting_caller.sandbox.resend(session_id)
    posting_caller.sandbox.decide(session_id, "approved")

    first = await receiver.next()
    posting_caller.sandbox.resend(session_id)
    second = await receiver.next()

    assert first.body == second.body


async def test_deletion_decides_an_undecided_session(posting_caller: Caller, receiver: Receiver) -> None:
    """A session that is deleted before its decision ends with one, and no later event changes it."""
    session_id = await posting_caller.create()
    reply = await posting_caller.send(
        "DELETE", f"/v1/sessions/{session_id}", headers=posting_caller.signed(session_id.encode())
    )

    event = await next_event(receiver, posting_caller.sandbox)

    assert {"status": "success", "verification": {"id": session_id}} == reply.json
    assert isinstance(event, DecisionEvent)
    assert Status.EXPIRED == event.decision.status
    posting_caller.sandbox.advance(8 * 86_400)
    await posting_caller.sandbox.wait_idle()
    assert 1 == len(posting_caller.sandbox.deliveries)


async def test_deletion_errors_have_their_own_form(posting_caller: Caller) -> None:
    """The status in such an error is a number, as documented."""
    session_id = await posting_caller.create()
    await posting_caller.submit(session_id)

    reply = await posting_caller.send(
        "DELETE", f"/v1/sessions/{session_id}", headers=posting_caller.signed(session_id.encode())
    )

    assert (400, 400, "1305") == (reply.status, reply.json["status"], reply.json["code"])


async def test_feedback_signature_covers_path_and_body(posting_caller: Caller) -> None:
    """A report is signed over path, newline and body, with its own headers; its errors have no status."""
    path, body = "/v1/feedback/fraud-reports/retrieve", b'{"sessionIds":["x"]}'
    right = await posting_caller.send(
        "POST", path, data=body, headers=posting_caller.signed(path.encode() + b"\n" + body, family="VRF")
    )
    older = await posting_caller.send(
        "POST", path, data=body, headers=posting_caller.signed(path.encode(), family="VRF")
    )
    usual = await posting_caller.send(
        "POST", path, data=body, headers=posting_caller.signed(path.encode() + b"\n" + body)
    )

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
async def test_feedback_members_are_checked(posting_caller: Caller, path: str, body: object) -> None:
    """Missing members of feedback are refused in the form of its API."""
    raw = json.dumps(body).encode()

    reply = await posting_caller.send(
        "POST", path, data=raw, headers=posting_caller.signed(path.encode() + b"\n" + raw, family="VRF")
    )

    assert (400, {"code", "message"}) == (reply.status, set(reply.json))


async def test_each_fraud_report_is_judged_separately(posting_caller: Caller) -> None:
    """Unknown categories, an unknown session and an undecided one are refused one by one."""
    session_id = await posting_caller.create()
    path = "/v1/feedback/fraud-reports"
    reports = [
        {"sessionId": session_id, "categories": ["no such thing"]},
        {"sessionId": "unknown", "categories": ["injected_media"]},
        {"sessionId": session_id, "categories": ["injected_media"]},
    ]
    raw = json.dumps({"reports": reports}).encode()

    reply = await posting_caller.send(
        "POST", path, data=raw, headers=posting_caller.signed(path.encode() + b"\n" + raw, family="VRF")
    )

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
async def test_registries_refuse_with_their_codes(
    posting_caller: Caller, person: dict[str, str], code: str, path: str
) -> None:
    """Each missing member of a registry check has its documented code, at both documented paths."""
    assert (400, code) == (await posting_caller.post(path, {"verification": {"person": person}})).refusal


async def test_synchronous_host_requires_a_second_key_header(posting_caller: Caller) -> None:
    """The synchronous check is refused without its second header for the key."""
    person = {"idNumber": "1", "fullName": "Ada Byron", "dateOfBirth": "1990-01-01"}

    reply = await posting_caller.post("/sync/v1/validate-registry", {"verification": {"person": person}})

    assert (401, "1801") == reply.refusal


@pytest.mark.parametrize("query", ["", "?version=1.0.0"])
async def test_older_registries_require_a_version(posting_caller: Caller, query: str) -> None:
    """The older calls of Mexico's registries need a version, which is not signed."""
    session_id = await posting_caller.create()
    posting_caller.sandbox.complete_registry_check(session_id, IneResult(active=False))

    reply = await posting_caller.get(f"/v1/sessions/{session_id}/decision/ine-registry{query}", session_id)

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
async def test_collected_data_is_checked(posting_caller: Caller, body: dict[str, object]) -> None:
    """Data without a required member is refused."""
    session_id = await posting_caller.create()

    assert 400 == (await posting_caller.post(f"/v1/sessions/{session_id}/collected-data", body)).status


@pytest.mark.parametrize(
    ("chip", "code"),
    [
        ({"com": "AA==", "sod": "AA==", "dg1": "AA=="}, "1102"),
        ({"com": "AA==", "sod": "AA==", "dg1": "AA==", "dg2": "not base64"}, "1401"),
    ],
)
@pytest.mark.parametrize("wrapper", ["nfcDocument", "nfc"])
async def test_chip_data_is_checked(posting_caller: Caller, chip: dict[str, str], code: str, wrapper: str) -> None:
    """The data of a chip needs its four files in base64, under either name of the member."""
    session_id = await posting_caller.create()

    assert (400, code) == (await posting_caller.post(f"/v1/sessions/{session_id}/media", {wrapper: chip})).refusal


async def test_decide_accepts_every_field(posting_caller: Caller, receiver: Receiver) -> None:
    """Scores, labels and the data of products are sent as passed."""
    session_id = await posting_caller.create(person=PERSON)
    data = AdditionalVerifiedData(estimated_age=30)
    label = RiskLabel(label="session_crosslinked_with_velocity_abuse", session_ids=("another",))
    posting_caller.sandbox.decide(
        session_id,
        "declined",
        reason_code=106,
        reason="Known fraud",
        person=Person(last_name="Lovelace"),
        additional_verified_data=data,
        risk_score=0.9,
        risk_labels=(label,),
    )

    event = await next_event(receiver, posting_caller.sandbox)

    assert isinstance(event, DecisionEvent)
    found = event.decision
    assert (0.9, (label,), data) == (found.risk_score, found.risk_labels, found.additional_verified_data)
    assert ("Ada", "Lovelace") == (found.person.first_name, found.person.last_name)
    assert found.known_reason is not None
    assert "known fraud" == found.known_reason.meaning


async def test_driving_licence_registry_posts_no_webhook(posting_caller: Caller) -> None:
    """The form of its webhook is unknown, so none is posted."""
    session_id = await posting_caller.create()
    posting_caller.sandbox.complete_registry_check(session_id, TransportationResult(status="valid"))
    await posting_caller.sandbox.wait_idle()

    assert () == posting_caller.sandbox.deliveries
