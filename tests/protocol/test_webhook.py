"""Webhooks are verified first and read second, and their shape determines their kind."""

from __future__ import annotations

import json
import traceback
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given, strategies as st

from veriff_async import Credentials, Decision, SignatureError, Status, WebhookPayloadError, errors
from veriff_async._protocol.webhook import dump_event, event_from_decision, load_event, parse_webhook
from veriff_async.errors import DecodeError
from veriff_async.models.events import (
    AddressEvent,
    CurpEvent,
    DecisionEvent,
    FullAutoEvent,
    IneCurpEvent,
    IneEvent,
    SessionEvent,
    UnknownEvent,
    UserStatusEvent,
    WatchlistEvent,
)
from veriff_async.testing import strategy_for, webhook_events

if TYPE_CHECKING:
    from veriff_async.models.events import WebhookEvent

CANARY: Final = "Canary-7f3a"
ID: Final = "f04bdb47-d3be-4b28-b028-a652feb060b5"
ATTEMPT: Final = "e30122d1-740b-4764-853f-470374a7abf4"
CREDENTIALS: Final = Credentials("8E4D7F4E-key", "new", previous_secrets=["old"])
OLD: Final = Credentials("8e4d7f4e-KEY", "old")
SUBMITTED: Final[dict[str, object]] = {
    "id": ID,
    "attemptId": ATTEMPT,
    "feature": "selfid",
    "code": 7002,
    "action": "submitted",
    "vendorData": "user-42",
    "endUserId": None,
}
DECIDED: Final[dict[str, object]] = {
    "status": "success",
    "verification": {"id": ID, "code": 9001, "status": "approved", "person": {"firstName": CANARY}},
    "technicalData": {"ip": CANARY},
}
_NAMES: Final = {"sessionId": ID, "attemptId": ATTEMPT, "vendorData": "user-42", "endUserId": None}
# The documented shape of every kind, with a person's data where they stand.
KINDS: Final[dict[type[WebhookEvent], dict[str, object]]] = {
    DecisionEvent: DECIDED,
    SessionEvent: SUBMITTED,
    FullAutoEvent: {
        "status": "success",
        "eventType": "fullauto",
        **_NAMES,
        "data": {
            "verification": {
                "decision": "approved",
                "decisionScore": 1,
                "person": {
                    "firstName": {"confidenceCategory": "high", "value": CANARY, "sources": ["VIZ"]},
                    "employer": None,
                },
                "document": {"number": {"confidenceCategory": None, "value": CANARY, "sources": []}},
                "insights": [{"label": "faceLiveness", "result": "yes", "category": "biometric"}],
            }
        },
    },
    WatchlistEvent: {
        "checkType": "initial_result",
        "matchStatus": "possible_match",
        **_NAMES,
        "searchTerm": {"name": CANARY, "year": "1990", "exactMatch": "true", "matchThreshold": "80"},
        "totalHits": "1",
        "createdAt": "2025-01-01T10:00:00.000Z",
        "hits": [
            {
                "matchedName": CANARY,
                "aka": [CANARY],
                "listingsRelatedToMatch": {
                    "warnings": [{"sourceName": "a", "sourceUrl": CANARY}],
                    "pep": [{"source_name": "b", "source_url": CANARY}],
                },
            }
        ],
    },
    UserStatusEvent: {
        "eventType": "user-status.created",
        **_NAMES,
        "time": "2025-01-01T10:00:00.000Z",
        "data": {"verification": {"id": ID, "userDefinedData": {"status": "Label", "statusCode": "label"}}},
    },
    IneEvent: {
        "eventType": "ine_registry",
        **_NAMES,
        "data": {"status": "x", "code": 200, "details": {"active": True, "documentState": "x"}},
    },
    CurpEvent: {
        "type": "curp_registry",
        "id": ID,
        "data": {
            "attemptId": ATTEMPT,
            "status": "found",
            "code": 200,
            "details": {"statusCurp": "RCN", "curp": CANARY},
        },
    },
    IneCurpEvent: {
        "eventType": "combined-ine-curp-registry",
        **_NAMES,
        "data": {"details": {"ine": {"ifeIdentifier": CANARY}, "curp": {"curp": CANARY}}},
    },
    AddressEvent: {"id": ID, "addressId": ATTEMPT, "action": "submitted", "code": 7005, "vendorData": None},
}
UNKNOWN: Final[dict[str, dict[str, object]]] = {
    "newer": {"eventType": "face-match.created", "sessionId": ID, "data": {"name": CANARY}},
    "other": {"type": "another"},
    "empty": {},
}


def _body(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _sign_headers(body: bytes, signer: Credentials = CREDENTIALS) -> dict[str, str]:
    return {"X-AUTH-CLIENT": signer.api_key, "X-HMAC-SIGNATURE": signer.sign(body)}


def _receive(value: object) -> WebhookEvent:
    body = _body(value)
    return parse_webhook(_sign_headers(body), body, CREDENTIALS)


def _assert_silent(error: errors.VeriffError) -> None:
    assert (None, None) == (error.__cause__, error.__context__)
    assert [] == [text for text in (repr(error), *traceback.format_exception(error)) if CANARY in text]


def test_decision_is_a_decision_event() -> None:
    """A payload with a verification and technical data is a decision, which keeps the whole payload."""
    event = _receive(DECIDED)

    assert isinstance(event, DecisionEvent)
    assert (ID, Status.APPROVED, CANARY) == (event.decision.session_id, event.decision.status, event.decision.ip)
    assert DECIDED == event.decision.raw
    assert isinstance(event.decision, Decision)


def test_progress_is_a_session_event() -> None:
    """A payload with an action and a code is a session event."""
    event = _receive(SUBMITTED)

    assert (
        SessionEvent(
            session_id=ID,
            action=Status.SUBMITTED,
            code=7002,
            attempt_id=ATTEMPT,
            feature="selfid",
            vendor_data="user-42",
        )
        == event
    )
    assert SUBMITTED == event.raw


@pytest.mark.parametrize(("kind", "value"), KINDS.items(), ids=lambda each: getattr(each, "kind", ""))
def test_every_kind_has_its_class(kind: type[WebhookEvent], value: dict[str, object]) -> None:
    """A webhook of every documented kind is an event of its own class, names its session and keeps its JSON."""
    event = _receive(value)

    assert kind is type(event)
    assert ID == event.session_id
    assert value == event.raw


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
@given(data=st.data())
def test_optional_member_does_not_identify_the_kind(kind: type[WebhookEvent], data: st.DataObject) -> None:
    """A message that lacks members its model can be without, or has null for them, is of the same kind."""
    members = sorted(KINDS[kind].keys() - {"eventType", "type"})  # the names that newer kinds give themselves
    root = dict(KINDS[kind])
    for member in data.draw(st.sets(st.sampled_from(members))):
        if data.draw(st.booleans()):
            root[member] = None
        else:
            del root[member]
    try:
        load_event(kind.kind, _body(root))
    except DecodeError:
        return  # it lacks what the kind cannot be without
    assert kind is type(_receive(root))


def test_decision_without_technical_data_is_a_decision() -> None:
    """A decision needs no technical data, and no member besides session and status."""
    event = _receive({"verification": {"id": ID, "status": "declined"}})

    assert isinstance(event, DecisionEvent)
    assert (ID, Status.DECLINED) == (event.decision.session_id, event.decision.status)


@pytest.mark.parametrize("member", ["eventType", "type"])
@pytest.mark.parametrize("name", [["fullauto"], {"fullauto": 1}, 7, None, True, "", "newer"])
def test_event_type_that_is_not_a_text_is_ignored(member: str, name: object) -> None:
    """A member that names kinds, but holds anything else than a known name, leaves the kind to the other members."""
    assert isinstance(_receive({**DECIDED, member: name}), DecisionEvent)
    assert isinstance(_receive({"sessionId": ID, member: name}), UnknownEvent)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_depth_of_a_message_is_limited(opening: str) -> None:
    """JSON of 250 levels is read and written, and one level more is refused, however deep the caller's own stack is."""
    closing = {"[": "]"}.get(opening, "}")

    def nest(levels: int) -> bytes:
        return b'{"eventType":"newer","n":' + (opening * levels + "1" + closing * levels).encode() + b"}"

    def call(frames: int, body: bytes) -> WebhookEvent:
        return parse_webhook(_sign_headers(body), body, CREDENTIALS) if frames == 0 else call(frames - 1, body)

    for frames in (0, 300):
        event = call(frames, nest(249))
        assert event.dedup_key
        assert event.dedup_key == load_event("unknown", dump_event(event)).dedup_key
        with pytest.raises(WebhookPayloadError, match="less depth"):
            call(frames, nest(250))


def test_match_distinguishes_kinds() -> None:
    """A match over the union has every part of an event at hand."""
    match _receive(KINDS[WatchlistEvent]):
        case WatchlistEvent(screening=screening):
            assert ("80", "1") == (str(int(screening.search_term.match_threshold or 0)), str(screening.total_hits))
            assert ["a", "b"] == [
                listing.source_name
                for listings in (screening.hits[0].listings.warnings, screening.hits[0].listings.pep)
                for listing in listings
            ]
        case event:
            pytest.fail(f"received as {event.kind}")


@pytest.mark.parametrize("value", KINDS.values(), ids=[kind.kind for kind in KINDS])
def test_dedup_key_identifies_one_message(value: dict[str, object]) -> None:
    """The key of an event is the same for each delivery of one message, and another for any other message."""
    again = _receive(dict(reversed(value.items())))
    other = _receive({**value, "vendorData": "another user"})

    assert _receive(value).dedup_key == again.dedup_key
    assert again.dedup_key != other.dedup_key
    assert CANARY not in again.dedup_key


def test_the_oldest_events_have_fewer_fields() -> None:
    """An event without attempt and end-user is read all the same."""
    assert SessionEvent(session_id=ID, action=Status.STARTED, code=7001, feature="selfid") == _receive(
        {"id": ID, "code": "7001", "action": "started", "feature": "selfid"}
    )


@pytest.mark.parametrize("value", UNKNOWN.values(), ids=UNKNOWN)
def test_other_kinds_are_unknown_events(value: dict[str, object]) -> None:
    """A signed webhook of any other kind is an event with its JSON, not an error."""
    assert UnknownEvent(raw=value) == _receive(value)


@pytest.mark.parametrize(
    "names",
    [
        ("X-AUTH-CLIENT", "X-HMAC-SIGNATURE"),
        ("x-auth-client", "x-hmac-signature"),
        ("VRF-AUTH-CLIENT", "VRF-HMAC-SIGNATURE"),
        ("Vrf-Auth-Client", "X-Hmac-Signature"),
    ],
)
@pytest.mark.parametrize("signer", [CREDENTIALS, OLD])
def test_either_family_of_headers_is_sufficient(names: tuple[str, str], signer: Credentials) -> None:
    """Either family of headers in any case serves, signed with any live secret in any case of hex."""
    body = _body(SUBMITTED)
    headers = dict(zip(names, (signer.api_key, f" {signer.sign(body).upper()} "), strict=True))

    assert isinstance(parse_webhook(headers, body, CREDENTIALS), SessionEvent)


def test_families_that_agree_are_accepted() -> None:
    """Both families of headers in one request are accepted if they agree, in any letter case."""
    body = _body(SUBMITTED)
    both = _sign_headers(body) | {
        "vrf-auth-client": OLD.api_key,
        "vrf-hmac-signature": CREDENTIALS.sign(body).upper(),
    }

    assert isinstance(parse_webhook(both, body, CREDENTIALS), SessionEvent)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"X-AUTH-CLIENT": None}, "missing"),
        ({"X-HMAC-SIGNATURE": None}, "missing"),
        ({"X-AUTH-CLIENT": CANARY}, "foreign_client"),
        ({"X-AUTH-CLIENT": ""}, "foreign_client"),
        ({"X-HMAC-SIGNATURE": CANARY}, "malformed"),
        ({"X-HMAC-SIGNATURE": ""}, "malformed"),
        ({"VRF-AUTH-CLIENT": CANARY}, "malformed"),
        ({"VRF-HMAC-SIGNATURE": "0" * 64}, "malformed"),
        ({"X-HMAC-SIGNATURE": "0" * 64}, "mismatch"),
    ],
)
def test_invalid_headers_raise_signature_error(changes: dict[str, str | None], why: str) -> None:
    """Each fault of the proof is named, hinted to be answered 401, and shows nothing of what came."""
    body = _body(DECIDED)
    headers = {name: value for name, value in (_sign_headers(body) | changes).items() if value is not None}

    with pytest.raises(SignatureError) as caught:
        parse_webhook(headers, body, CREDENTIALS)

    assert (why, 401) == (caught.value.reason, caught.value.status_hint)
    _assert_silent(caught.value)


def test_signature_is_valid_for_its_bytes_only() -> None:
    """With one byte changed at any place the body is refused before it is read."""
    body = _body(DECIDED)
    headers = _sign_headers(body)

    for at in range(len(body)):
        with pytest.raises(SignatureError) as caught:
            parse_webhook(headers, body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :], CREDENTIALS)
        assert "mismatch" == caught.value.reason


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "expected JSON @ $"),
        (CANARY.encode(), "expected JSON @ $"),
        (b"\xff", "expected UTF-8 @ $"),
        (_body([CANARY]), "expected a JSON object @ $"),
        (_body(DECIDED | {"verification": {"id": ID, "status": [CANARY]}}), "expected a text @ $.verification.status"),
        (_body(DECIDED | {"verification": {"id": ID}}), "required field missing @ $.verification.status"),
        (_body(SUBMITTED | {"id": [CANARY]}), "expected a text @ $.id"),
    ],
)
def test_undecodable_webhook_is_reported_by_path(body: bytes, problem: str) -> None:
    """A signed body that cannot be read says where, without its values."""
    with pytest.raises(WebhookPayloadError) as caught:
        parse_webhook(_sign_headers(body), body, CREDENTIALS)

    assert ((problem,), 400) == (caught.value.problems, caught.value.status_hint)
    _assert_silent(caught.value)


@given(st.binary())
def test_any_signed_bytes_give_an_event_or_payload_error(body: bytes) -> None:
    """Any signed bytes give an event or a WebhookPayloadError with nothing behind it."""
    try:
        parse_webhook(_sign_headers(body), body, CREDENTIALS)
    except WebhookPayloadError as error:
        _assert_silent(error)


@given(
    st.dictionaries(st.sampled_from(["X-AUTH-CLIENT", "vrf-auth-client", "X-HMAC-SIGNATURE"]) | st.text(), st.text())
)
def test_arbitrary_headers_raise_signature_error(headers: dict[str, str]) -> None:
    """Any headers without a signature that holds give a SignatureError, and nothing else."""
    with pytest.raises(SignatureError):
        parse_webhook(headers, b"{}", CREDENTIALS)


@pytest.mark.parametrize("value", [DECIDED, SUBMITTED], ids=["decision", "event"])
def test_truncated_body_is_rejected_without_showing_it(value: dict[str, object]) -> None:
    """Cut at every place and signed so, a body is a WebhookPayloadError that repeats none of it."""
    body = _body(value)

    for end in range(len(body)):
        with pytest.raises(WebhookPayloadError) as caught:
            parse_webhook(_sign_headers(body[:end]), body[:end], CREDENTIALS)
        _assert_silent(caught.value)


@pytest.mark.parametrize("value", [*KINDS.values(), *UNKNOWN.values()])
def test_repr_of_events_shows_no_personal_data(value: dict[str, object]) -> None:
    """The repr of an event shows no personal field."""
    assert CANARY not in repr(_receive(value | {"newer": CANARY}))


@given(webhook_events())
def test_event_survives_storage(event: WebhookEvent) -> None:
    """An event that was written is read again as it was: its kind, its key and its JSON."""
    sent = _receive(json.loads(dump_event(event)))

    found = load_event(sent.kind, dump_event(sent))

    assert (type(sent), sent.dedup_key, sent.raw) == (type(found), found.dedup_key, found.raw)
    assert event == sent == found


def test_stored_event_keeps_its_kind() -> None:
    """A stored event of an unknown or newer kind stays unknown, even if this version knows its payload."""
    for kind in ("unknown", "newer"):
        assert UnknownEvent(raw=SUBMITTED) == load_event(kind, dump_event(_receive(SUBMITTED)))


@given(st.binary(max_size=40), st.sampled_from([*(kind.kind for kind in KINDS), "unknown", "newer"]))
def test_invalid_stored_event_raises_decode_error(body: bytes, kind: str) -> None:
    """Bytes that no event was written as are an event of an unknown kind or an error of ours."""
    try:
        found = load_event(kind, body)
    except DecodeError:
        return
    assert json.loads(body) == found.raw


@pytest.mark.parametrize("text", ['{"id": 1e999}', "{" + '"deep":' + "[" * 990 + "]" * 990 + "}"])
def test_json_that_cannot_be_encoded_again_is_rejected(text: str) -> None:
    """A signed message that could not be kept, being too deep or its numbers too large, is refused when it comes."""
    body = text.encode()
    try:
        event = parse_webhook(_sign_headers(body), body, CREDENTIALS)
    except WebhookPayloadError as error:
        _assert_silent(error)
    else:
        assert json.loads(text) == json.loads(dump_event(event))


@given(strategy_for(Decision))
def test_polled_decision_is_an_event(decision: Decision) -> None:
    """The answer to a question and the webhook of the same content have the same key."""
    event = event_from_decision(decision)

    assert (decision, decision.session_id) == (event.decision, event.session_id)
    assert event.dedup_key == load_event("decision", dump_event(event)).dedup_key


def test_polled_and_posted_decision_have_one_dedup_key() -> None:
    """A decision from a webhook and one from a later request are the same message, in any order of members."""
    posted = _receive(DECIDED)
    polled = _receive(dict(reversed(DECIDED.items())))
    assert isinstance(polled, DecisionEvent)

    assert posted.dedup_key == event_from_decision(polled.decision).dedup_key
