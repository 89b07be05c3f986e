"""Requests: which text is signed, what stands in the body, and what is left out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from veriff_async import Address, Credentials, Document, DocumentType, InvalidArgumentError, Person
from veriff_async._protocol.endpoints import create_session, decision, submit_session, upload_media
from veriff_async._protocol.signing import sign
from veriff_async.models import ParsedAddress
from veriff_async.models.enums import Gender

if TYPE_CHECKING:
    from collections.abc import Callable

    from veriff_async._protocol.call import Call
    from veriff_async._protocol.request import Request
    from veriff_async._protocol.session_request import CreateOptions

CANARY = "Canary-7f3a"
SECRET = "abcdef12-abcd-abcd-abcd-abcdef012345"
ID = "aea9ba6d-1b47-47fc-a4fc-f72b6d3584a7"
CREDENTIALS = Credentials("8e4d7f4e-key", SECRET, previous_secrets=["older"])
SHARED_KEY = Credentials("8e4d7f4e-key", SECRET, integration_id="integration")

REQUESTS: dict[str, Callable[[Credentials], Request]] = {
    "create": lambda credentials: create_session({"vendor_data": "user-42"}).sign(credentials),
    "submit": lambda credentials: submit_session(ID).sign(credentials),
    "upload": lambda credentials: upload_media(ID).sign(credentials, signature="0" * 64),
    "decision": lambda credentials: decision(ID).sign(credentials),
}
# endpoint -> method, path, signed text (None: given by the caller), may be repeated
ENDPOINTS: dict[str, tuple[str, str, bytes | None, bool]] = {
    "create": ("POST", "/v1/sessions", b'{"verification":{"vendorData":"user-42"}}', False),
    "submit": ("PATCH", f"/v1/sessions/{ID}", b'{"verification":{"status":"submitted"}}', True),
    "upload": ("POST", f"/v1/sessions/{ID}/media", None, True),
    "decision": ("GET", f"/v1/sessions/{ID}/decision", ID.encode(), True),
}
endpoints = pytest.mark.parametrize("endpoint", ENDPOINTS)
words = st.text(max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=20,
)


def _session_body(options: CreateOptions) -> dict[str, object]:
    body = create_session(options).body
    assert body is not None
    described: dict[str, object] = json.loads(body)["verification"]
    return described


@endpoints
def test_each_endpoint_has_its_method_path_and_signed_text(endpoint: str) -> None:
    """The raw body is signed where there is one, else the id in the path, always with the newest secret."""
    method, path, signed, repeatable = ENDPOINTS[endpoint]
    request = REQUESTS[endpoint](CREDENTIALS)

    assert (method, path, repeatable) == (request.method, request.path, request.repeatable)
    assert (signed if method in {"POST", "PATCH"} else None) == request.body
    expected = {
        "X-AUTH-CLIENT": "8e4d7f4e-key",
        "X-HMAC-SIGNATURE": "0" * 64 if signed is None else sign(SECRET, signed),
    } | ({} if method == "GET" else {"Content-Type": "application/json"})
    assert expected == request.headers


@endpoints
def test_the_integration_is_named_when_it_is_known(endpoint: str) -> None:
    """An API key that several integrations share is sent with the integration's id."""
    request = REQUESTS[endpoint](SHARED_KEY)

    assert REQUESTS[endpoint](CREDENTIALS).headers | {"VRF-INTEGRATION-ID": "integration"} == request.headers  # type: ignore[operator]


@pytest.mark.parametrize("session_id", ["", "../sessions", "a/b", "id\r\nX-Evil: 1", "id?x=1", CANARY + "\u00e9"])
@pytest.mark.parametrize(
    "build",
    [submit_session, decision, upload_media],
)
def test_only_an_id_stands_in_the_path(build: Callable[[str], Call[object]], session_id: str) -> None:
    """A value that is not an id cannot reach another path or header, and is not shown."""
    with pytest.raises(InvalidArgumentError, match=r"^session_id cannot be sent") as caught:
        build(session_id)

    assert CANARY not in str(caught.value)


def test_a_session_needs_nothing() -> None:
    """Without options the body is the documented minimum."""
    assert b'{"verification":{}}' == create_session({}).body


def test_every_option_has_its_documented_name() -> None:
    """Each option stands under Veriff's name for it, and the fields of person and document under theirs."""
    described = _session_body(
        {
            "callback": "https://example.com/done",
            "person": Person(
                first_name="Ada",
                last_name="Lovelace",
                id_number="38501010002",
                phone_number="+372 5555 5555",
                email="ada@example.com",
                gender=Gender.FEMALE,
                date_of_birth="1985-01-01",
                marital_status="single",
                is_deceased=False,
                addresses=(Address(full_address="1 Street", parsed_address=ParsedAddress(house_number="1")),),
            ),
            "document": Document(
                number="AB1234567",
                type=DocumentType.ID_CARD,
                country="CO",
                id_card_type="CC",
                first_issue="2020-02-29",
            ),
            "vendor_data": "user-42",
            "end_user_id": UUID(ID),
            "extra": {"consents": ({"type": "ine", "approved": True},)},
        }
    )

    assert {
        "callback": "https://example.com/done",
        "person": {
            "firstName": "Ada",
            "lastName": "Lovelace",
            "idNumber": "38501010002",
            "phoneNumber": "+372 5555 5555",
            "email": "ada@example.com",
            "gender": "F",
            "dateOfBirth": "1985-01-01",
            "maritalStatus": "single",
            "isDeceased": False,
            "addresses": [{"fullAddress": "1 Street", "parsedAddress": {"houseNumber": "1"}}],
        },
        "document": {
            "number": "AB1234567",
            "type": "ID_CARD",
            "country": "CO",
            "idCardType": "CC",
            "firstIssue": "2020-02-29",
        },
        "vendorData": "user-42",
        "endUserId": ID,
        "consents": [{"type": "ine", "approved": True}],
    } == described


def test_plain_words_serve_for_members() -> None:
    """A gender or document type given as text is sent like the member of that word."""
    options: CreateOptions = {
        "person": Person(gender=cast("Gender", "FEMALE")),
        "document": Document(type=cast("DocumentType", "VISA")),
    }

    assert {"person": {"gender": "FEMALE"}, "document": {"type": "VISA"}} == _session_body(options)


def test_absent_options_are_left_out() -> None:
    """An option that is None is left out, as is every absent field of a person or document; nothing is null."""
    absent = dict.fromkeys(("person", "document", "vendor_data", "end_user_id", "callback", "extra"))
    assert {} == _session_body(cast("CreateOptions", absent))

    assert {"person": {"firstName": "Ada"}, "document": {}} == _session_body(
        {"person": Person(first_name="Ada", raw={"lastName": CANARY}), "document": Document()}
    )


@given(st.dictionaries(words, json_values))
def test_extra_is_sent_without_nulls(extra: dict[str, object]) -> None:
    """Any JSON passed as extra is in the body, except for null members at any depth."""
    assert _bare(extra) == _session_body({"extra": extra})


def _bare(value: object) -> object:
    if isinstance(value, dict):
        return {key: _bare(item) for key, item in value.items() if item is not None}
    return [_bare(item) for item in value] if isinstance(value, list) else value


def test_named_options_count_before_extra() -> None:
    """Extra cannot contradict an option that has a name of its own."""
    assert {"vendorData": "named"} == _session_body({"vendor_data": "named", "extra": {"vendorData": "extra"}})


@pytest.mark.parametrize(
    "extra",
    [
        {CANARY: b"bytes"},
        {CANARY: object()},
        {CANARY: {1, 2}},
        {CANARY: [float("nan")]},
        {CANARY: {"deep": float("inf")}},
        {1: CANARY},
        {"deep": [{None: CANARY}]},
    ],
)
def test_extra_that_json_cannot_hold_is_refused(extra: dict[str, object]) -> None:
    """A value or key that JSON has no form for is refused, naming extra and showing nothing of it."""
    with pytest.raises(InvalidArgumentError, match=r"^extra cannot be sent: .*\.$") as caught:
        create_session({"extra": extra})

    assert CANARY not in repr(caught.value)
    assert (None, None) == (caught.value.__cause__, caught.value.__context__)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"callback": "http://example.com"}, "callback"),
        ({"person": Person(date_of_birth="1.1.1990")}, "person.date_of_birth"),
        ({"document": Document(country="EST")}, "document.country"),
        ({"vendor_data": "x" * 1001}, "vendor_data"),
        ({"end_user_id": 42}, "end_user_id"),
        ({"end_user_id": ""}, "end_user_id"),
    ],
)
def test_refused_options_are_named(options: CreateOptions, name: str) -> None:
    """An option that Veriff would refuse is refused before anything is sent."""
    with pytest.raises(InvalidArgumentError, match=f"^{name} cannot be sent"):
        create_session(options)


@given(st.text(max_size=1000))
def test_any_text_is_signed_as_it_is_sent(vendor_data: str) -> None:
    """For any text, the signature is that of the exact bytes of the body, which decode to the text."""
    request = create_session({"vendor_data": vendor_data}).sign(CREDENTIALS)

    assert request.body is not None
    assert sign(SECRET, request.body) == request.headers["X-HMAC-SIGNATURE"]
    assert vendor_data == json.loads(request.body)["verification"]["vendorData"]


@endpoints
def test_the_repr_shows_neither_headers_nor_body(endpoint: str) -> None:
    """The repr of a request shows what is asked, not who asks or about whom."""
    shown = repr(REQUESTS[endpoint](SHARED_KEY))

    assert [] == [secret for secret in ("8e4d7f4e", SECRET, "HMAC", "user-42", "verification") if secret in shown]
