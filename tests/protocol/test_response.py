"""Responses: any body gives a value or the right error, and no error holds personal data."""

from __future__ import annotations

import json
import traceback
from itertools import permutations
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given, settings, strategies as st
from multidict import CIMultiDict

from tests.endpoint_samples import sample_call
from veriff_async import Credentials, FraudReport, errors
from veriff_async._protocol import endpoints
from veriff_async._protocol.response import Response, check_authenticity

if TYPE_CHECKING:
    from collections.abc import Callable

    from veriff_async._protocol.request import Request

CANARY: Final = "Canary-7f3a"
ID: Final = "aea9ba6d-1b47-47fc-a4fc-f72b6d3584a7"
ATTEMPT: Final = "e30122d1-740b-4764-853f-470374a7abf4"
CREDENTIALS: Final = Credentials("8E4D7F4E-key", "new", previous_secrets=["old"])

SESSION: dict[str, object] = {
    "status": "success",
    "verification": {
        "id": ID,
        "url": f"https://alchemy.veriff.com/v/{CANARY}",
        "vendorData": None,
        "host": "https://alchemy.veriff.com",
        "status": "created",
        "sessionToken": CANARY,
    },
}
UPLOAD: dict[str, object] = {
    "status": "success",
    "image": {
        "id": ATTEMPT,
        "name": "document-front",
        "context": "document-front",
        "timestamp": None,
        "size": 12345,
        "mimetype": "image/jpeg",
        "url": f"https://stationapi.veriff.com/v1/media/{ATTEMPT}",
        "sessionId": ID,
    },
}
# A payload in which everything that could be a person's is the canary, to be broken in many ways.
_PERSON = (
    "firstName lastName fullName gender idNumber citizenship dateOfBirth yearOfBirth placeOfBirth nationality email "
    "phoneNumber pepSanctionMatch weight"
)
PERSONAL: dict[str, object] = {
    "status": "success",
    "verification": {
        "id": ID,
        "status": "approved",
        "person": dict.fromkeys(_PERSON.split(" "), CANARY)
        | {"addresses": [{"fullAddress": CANARY, "parsedAddress": {"city": CANARY}}]},
        "document": dict.fromkeys(("number", "validFrom", "validUntil", "remarks", "issuedBy"), CANARY),
        "additionalVerifiedData": {"driversLicenseNumber": CANARY},
    },
    "technicalData": {"ip": CANARY},
}
PARSERS: dict[str, Callable[[Response], Any]] = {
    name: sample_call(name).parse for name in endpoints.__all__ if not name.startswith("download")
}
READERS: dict[str, tuple[Callable[[Response], object], Request, dict[str, object]]] = {
    "session": (PARSERS["create_session"], endpoints.create_session({}).sign(CREDENTIALS), SESSION),
    "submission": (PARSERS["submit_session"], endpoints.submit_session(ID).sign(CREDENTIALS), SESSION),
    "upload": (
        PARSERS["upload_media"],
        endpoints.upload_media(ID).sign(CREDENTIALS, signature="0" * 64),
        UPLOAD,
    ),
    "decision": (PARSERS["decision"], endpoints.decision(ID).sign(CREDENTIALS), PERSONAL),
}
NOTHING_READ: Final = "required field missing @ $.verification.id; required field missing @ $.verification.status"
readers = pytest.mark.parametrize("reader", READERS)
MEMBERS: Final = (
    "verification",
    "verifications",
    "image",
    "nfcDocument",
    "status",
    "data",
    "person",
    "reports",
    "images",
)
PARTS: Final = (
    st.text()
    | st.lists(st.dictionaries(st.just("id"), st.text()))
    | st.dictionaries(st.sampled_from(MEMBERS), st.text())
)
REQUEST = endpoints.decision(ID).sign(CREDENTIALS)


def _unreadable(request: Request) -> type[errors.VeriffError]:
    """Return the error for a success that cannot be read."""
    return errors.ResponseError if request.repeatable else errors.OutcomeUnknownError


def _answer(body: object, *, status: int = 200, request: Request = REQUEST, repeated: bool = False) -> Response:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(request=request, status=status, headers={}, body=raw, repeated=repeated)


def _assert_silent(error: errors.VeriffError) -> None:
    assert (None, None) == (error.__cause__, error.__context__)
    shown = [str(error), repr(error), *traceback.format_exception(error), *getattr(error, "problems", ())]
    assert [] == [text for text in shown if CANARY in text]


@pytest.mark.parametrize("body", [{"status": "success", "verification": None, "technicalData": {"ip": None}}, {}])
def test_no_verification_is_no_decision_yet(body: object) -> None:
    """While nothing is decided the answer is None, not an error."""
    assert None is PARSERS["decision"](_answer(body))


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"verification": CANARY}, NOTHING_READ),
        ({"verification": [CANARY]}, NOTHING_READ),
        ({"verification": {"id": ID}}, "required field missing @ $.verification.status"),
        ({"verification": {"status": "approved"}}, "required field missing @ $.verification.id"),
        (PERSONAL | {"verification": {"id": [CANARY], "status": CANARY}}, "expected a text @ $.verification.id"),
        ([PERSONAL], "expected a JSON object @ $"),
        (f'{{"verification": {CANARY}}}'.encode(), "expected JSON @ $"),
        (CANARY.encode("utf-16"), "expected UTF-8 @ $"),
    ],
)
def test_a_broken_decision_is_named_by_path(body: object, problem: str) -> None:
    """A success that cannot be read is a ResponseError with request and path, and without personal data."""
    with pytest.raises(errors.ResponseError) as caught:
        PARSERS["decision"](_answer(body))

    assert problem == "; ".join(caught.value.problems)
    assert f"The response to GET /v1/sessions/{ID}/decision cannot be read ({problem})" in str(caught.value)
    _assert_silent(caught.value)


@pytest.mark.parametrize("reader", PARSERS)
@settings(max_examples=8)
@given(body=st.binary() | st.dictionaries(st.sampled_from(MEMBERS), PARTS).map(json.dumps))
def test_any_bytes_are_a_value_or_our_error(reader: str, body: bytes | str) -> None:
    """For any endpoint, any body of a success gives a value or a ResponseError without a context."""
    try:
        PARSERS[reader](_answer(body.encode() if isinstance(body, str) else body))
    except errors.ResponseError as error:
        _assert_silent(error)


@readers
@given(status=st.integers(300, 999), body=st.binary() | st.just(json.dumps(PERSONAL).encode()))
def test_any_refusal_is_an_api_error(reader: str, status: int, body: bytes) -> None:
    """Any status that is not a success gives an ApiError with that status, for any body."""
    read, request, _ = READERS[reader]
    with pytest.raises(errors.ApiError) as caught:
        read(_answer(body, status=status, request=request))

    assert status == caught.value.status
    _assert_silent(caught.value)


@readers
def test_truncated_body_is_rejected_without_showing_it(reader: str) -> None:
    """Cut at every place, a body is an error that repeats none of it; whole, it is read."""
    read, request, payload = READERS[reader]
    body = json.dumps(payload).encode()

    assert read(_answer(body, request=request))
    for end in range(len(body)):
        with pytest.raises(_unreadable(request)) as caught:
            read(_answer(body[:end], request=request))
        _assert_silent(caught.value)


@readers
@pytest.mark.parametrize("stray", [b"\xff", b"\0", b"]"])
def test_a_body_spoilt_anywhere_is_a_value_or_refused_silently(reader: str, stray: bytes) -> None:
    """With a stray byte at any place a body is still a value, or an error that repeats none of it."""
    read, request, payload = READERS[reader]
    body = json.dumps(payload).encode()

    for at in range(len(body)):
        try:
            read(_answer(body[:at] + stray + body[at + 1 :], request=request))
        except _unreadable(request) as error:
            _assert_silent(error)


@pytest.mark.parametrize(
    ("body", "session_id"),
    [
        (b'{"status":"success","verification":{"url":"x","id":"f04bdb47-d3be-4b28-b028-a652feb060b5","vend', True),
        (b'{"id":"f04bdb47-d3be-4b28-b028-a652feb060b5","status":', True),
        (b'{"verification" : { "id" : "f04bdb47-d3be-4b28-b028-a652feb060b5"}}}', True),
        (b'{"verification":{"id":"f04bdb47-d3be-4b28', False),
        (b'{"verification":{"id":"Canary ","personId":"f04bdb47-d3be-4b28-b028-a652feb060b5"', False),
        (b"<html>", False),
        (b"", False),
    ],
)
def test_an_unreadable_creation_is_unknown(body: bytes, session_id: bool) -> None:  # noqa: FBT001
    """A creation whose answer cannot be read may have been carried out, and the error has the id if it is readable."""
    request = endpoints.create_session({}).sign(CREDENTIALS)
    with pytest.raises(errors.OutcomeUnknownError) as caught:
        PARSERS["create_session"](_answer(body, request=request))

    assert ("f04bdb47-d3be-4b28-b028-a652feb060b5" if session_id else None) == caught.value.session_id
    assert ("ask for it" if session_id else "look for its vendor_data") in str(caught.value)


@pytest.mark.parametrize("session_id", ["", "../../evil?x=1#", "a\\r\\nX: 1", "a/b", "\\ud800", "a" * 65, "é"])
def test_an_id_that_cannot_stand_in_a_path_is_unreadable(session_id: str) -> None:
    """An id that is not one never becomes a part of a later request, a log line or a file name."""
    body = f'{{"status":"success","verification":{{"id":"{session_id}","status":"created"}}}}'.encode()
    with pytest.raises(errors.OutcomeUnknownError):
        PARSERS["create_session"](_answer(body, request=endpoints.create_session({}).sign(CREDENTIALS)))
    with pytest.raises(errors.ResponseError, match="id"):
        PARSERS["submit_session"](_answer(body))


def test_only_creations_name_a_session() -> None:
    """The id in the answer to another request that must not be repeated is not taken for a session's."""
    request = endpoints.report_fraud([FraudReport(session_id="a" * 36, categories=["injected_media"])]).sign(
        CREDENTIALS
    )
    body = b'{"reports":[{"id":"f04bdb47-d3be-4b28-b028-a652feb060b5"'
    with pytest.raises(errors.OutcomeUnknownError, match="may or may not have been carried out") as caught:
        PARSERS["report_fraud"](_answer(body, request=request))

    assert None is caught.value.session_id


def test_repr_of_a_decision_shows_no_personal_data() -> None:
    """The repr of a decision and of its answer shows no personal field."""
    decision = PARSERS["decision"](_answer(PERSONAL))

    assert decision is not None
    assert CANARY == decision.person.first_name
    assert CANARY not in repr(decision) + repr(_answer(PERSONAL))


def test_a_session_is_read() -> None:
    """The answer to a creation gives id, page and status, and keeps the rest."""
    session = PARSERS["create_session"](_answer(SESSION, status=201))

    assert (ID, f"https://alchemy.veriff.com/v/{CANARY}", "created") == (session.id, session.url, session.status)
    assert SESSION["verification"] == session.raw
    assert CANARY not in repr(session)


def test_an_older_session_is_read() -> None:
    """Older answers have another host key and no status."""
    older = {"verification": {"id": ID, "url": "https://magic.veriff.me/v/x", "baseUrl": "https://magic.veriff.me"}}

    assert None is PARSERS["create_session"](_answer(older, status=201)).status


@pytest.mark.parametrize("size", [12345, "12345", 12345.0])
@pytest.mark.parametrize("repeated", [True, False])
def test_a_receipt_is_read(size: object, repeated: bool) -> None:  # noqa: FBT001
    """The response to an upload gives the receipt, which says whether an earlier attempt may have arrived too."""
    body = {"image": {**UPLOAD["image"], "size": size}}  # type: ignore[dict-item]

    receipt = PARSERS["upload_media"](_answer(body, repeated=repeated))

    assert (ATTEMPT, "document-front", 12345, repeated) == (receipt.id, receipt.context, receipt.size, receipt.repeated)
    assert body["image"] == receipt.raw


def test_a_repeated_submission_may_have_succeeded() -> None:
    """That the session cannot be submitted is good news, when an earlier attempt of the same call may be why."""
    refused = {"status": "fail", "code": "1304", "message": CANARY}

    assert None is PARSERS["submit_session"](_answer(refused, status=400, repeated=True))
    with pytest.raises(errors.BadRequestError, match="code 1304"):
        PARSERS["submit_session"](_answer(refused, status=400))
    with pytest.raises(errors.BadRequestError, match="code 1303"):
        PARSERS["submit_session"](_answer({**refused, "code": "1303"}, status=400, repeated=True))


def test_a_repeated_submission_that_succeeds_is_a_success() -> None:
    """A success is parsed as one after any number of tries and with any other members."""
    session = PARSERS["submit_session"](_answer({**SESSION, "code": "1304"}, repeated=True))

    assert session is not None
    assert ID == session.id


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, errors.BadRequestError),
        (400, errors.BadRequestError),
        (401, errors.AuthenticationError),
        (403, errors.PermissionDeniedError),
        (404, errors.NotFoundError),
        (409, errors.ConflictError),
        (413, errors.PayloadTooLargeError),
        (418, errors.BadRequestError),
        (429, errors.RateLimitedError),
        (500, errors.ServerError),
        (503, errors.ServerError),
    ],
)
def test_each_status_has_its_class(status: int, kind: type[errors.ApiError]) -> None:
    """The class of a refusal is that of its status, with or without a readable body."""
    for body in ({"status": "fail", "code": "1104", "message": "text"}, b"<html>"):
        with pytest.raises(errors.ApiError) as caught:
            PARSERS["decision"](_answer(body, status=status))
        assert kind is type(caught.value)


@pytest.mark.parametrize(
    ("body", "code", "reason"),
    [
        ({"status": "fail", "code": "1104", "message": CANARY}, "1104", CANARY),
        ({"status": 400, "code": 1305, "message": CANARY}, "1305", CANARY),
        ({"code": "RATE_LIMIT_EXCEEDED", "message": ""}, "RATE_LIMIT_EXCEEDED", ""),
        ({"code": CANARY, "message": [CANARY]}, None, None),
        ({"code": f"1104\n{CANARY}"}, None, None),
        ({"code": ""}, None, None),
        ({"code": True}, None, None),
        ({"code": {CANARY: 1}}, None, None),
        ({"code": 10**50}, None, None),
        ([CANARY], None, None),
    ],
)
def test_the_code_is_shown_and_the_words_are_not(body: object, code: str | None, reason: str | None) -> None:
    """A code is read as text or number and shown when it looks like one; the message is an attribute only."""
    with pytest.raises(errors.ApiError) as caught:
        PARSERS["decision"](_answer(body, status=400))

    assert (code, reason) == (caught.value.code, caught.value.reason)
    assert (f"code {code}" if code else "(HTTP 400)") in str(caught.value)
    _assert_silent(caught.value)


def test_a_refusal_is_one_sentence_with_its_remedy() -> None:
    """The text of a refusal says what was asked, what came, and what to do."""
    answer = Response(request=REQUEST, status=429, headers={}, body=b"", retry_after=7.5)
    with pytest.raises(errors.RateLimitedError) as caught:
        PARSERS["decision"](answer)

    assert 7.5 == caught.value.retry_after
    assert f"Veriff refused GET /v1/sessions/{ID}/decision (HTTP 429): too many requests: slow down." == str(
        caught.value
    )


def _response(body: bytes = b"body", **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(request=REQUEST, status=200, headers=named, body=body)


OLD: Final = Credentials("8e4d7f4e-KEY", "old")


@pytest.mark.parametrize(
    "answer",
    [
        _response(),
        _response(X_AUTH_CLIENT="8e4d7f4e-KEY"),
        _response(X_HMAC_SIGNATURE=CREDENTIALS.sign(b"body")),
        _response(x_hmac_signature=OLD.sign(b"body").upper()),
        _response(
            X_HMAC_SIGNATURE=f" {CREDENTIALS.sign(b'body')} ", VRF_HMAC_SIGNATURE=CREDENTIALS.sign(b"body").upper()
        ),
        _response(VRF_AUTH_CLIENT=CREDENTIALS.api_key, VRF_HMAC_SIGNATURE=CREDENTIALS.sign(b"body")),
    ],
)
def test_answers_of_our_integration_pass(answer: Response) -> None:
    """An answer passes unsigned, or signed with any live secret, in either family of headers and any case."""
    check_authenticity(answer)


@pytest.mark.parametrize(
    "answer",
    [
        _response(X_HMAC_SIGNATURE=Credentials("key", "foreign").sign(b"body")),
        _response(x_hmac_signature="0" * 64),
        _response(b"other", VRF_HMAC_SIGNATURE=CREDENTIALS.sign(b"body")),
        _response(X_HMAC_SIGNATURE=""),
    ],
)
def test_answers_with_a_wrong_signature_are_refused(answer: Response) -> None:
    """An answer is refused when the signature that it has does not hold."""
    with pytest.raises(errors.ResponseError, match="is not signed with a known secret") as caught:
        check_authenticity(answer)

    assert ("signature does not match @ header",) == caught.value.problems
    _assert_silent(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        _response(X_HMAC_SIGNATURE=CREDENTIALS.sign(b"body"), VRF_HMAC_SIGNATURE="0" * 64),
        _response(X_HMAC_SIGNATURE=CREDENTIALS.sign(b"body"), VRF_HMAC_SIGNATURE=OLD.sign(b"body")),
        *(
            Response(request=REQUEST, status=200, headers=CIMultiDict(pair), body=b"body")
            for pair in permutations([("X-HMAC-SIGNATURE", CREDENTIALS.sign(b"body")), ("x-hmac-signature", "0" * 64)])
        ),
    ],
)
def test_answers_that_contradict_themselves_are_refused(answer: Response) -> None:
    """A response whose headers contradict each other is refused, even if one of them is right."""
    with pytest.raises(errors.ResponseError, match="contradicts itself") as caught:
        check_authenticity(answer)

    _assert_silent(caught.value)


def test_answers_of_a_sibling_are_refused() -> None:
    """An answer that names another integration of the same key is refused, when ours is known."""
    ours = Credentials(CREDENTIALS.api_key, CREDENTIALS.shared_secret, integration_id="ours")
    for named, held in (("OURS", True), ("theirs", False)):
        request = endpoints.decision(ID).sign(ours)
        answer = Response(request=request, status=200, headers={"vrf-integration-id": named}, body=b"body")
        if held:
            check_authenticity(answer)
        else:
            with pytest.raises(errors.ResponseError, match="another integration"):
                check_authenticity(answer)


@pytest.mark.parametrize("answer", [_response(X_AUTH_CLIENT=CANARY), _response(vrf_auth_client="")])
def test_answers_of_another_integration_are_refused(answer: Response) -> None:
    """An answer that names another API key is refused without showing it."""
    with pytest.raises(errors.ResponseError, match="names another API key") as caught:
        check_authenticity(answer)

    assert ("another API key @ header",) == caught.value.problems
    _assert_silent(caught.value)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
@pytest.mark.parametrize(
    "body",
    [
        {"status": "success"},
        {"status": "success", "verification": None},
        {"status": "success", "verification": {}},
        {"verification": {"status": "submitted"}},
        {"status": "success", "data": {"anything": 1}},
    ],
)
def test_any_success_of_a_submission_is_one(status: int, body: dict[str, object]) -> None:
    """A submission succeeded with every 2xx whose body reports success, whether or not it describes the session."""
    assert PARSERS["submit_session"](_answer(body, status=status)) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>OK</html>",
        b"[]",
        b"{}",
        b'{"status":"fail"}',
        b'{"status":1}',
        b'{"verification":{"status":"created"}}',
        b'{"status":["success"]}',
    ],
)
def test_success_that_reports_none_is_an_error(body: bytes) -> None:
    """A 2xx that does not report success, as a proxy sends it, is not a submission."""
    with pytest.raises(errors.ResponseError):
        PARSERS["submit_session"](_answer(body))
