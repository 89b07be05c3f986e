"""Creating and submitting sessions with a client that does not use the package."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid4

import pytest

if TYPE_CHECKING:
    from tests.sandbox.conftest import Caller

pytestmark = pytest.mark.anyio

PICTURE: Final = base64.b64encode(b"\xff\xd8\xff\xe0" + bytes(500)).decode()


async def test_empty_verification_creates_a_session(caller: Caller) -> None:
    """``{"verification":{}}`` is enough; the response is 201 with all documented members."""
    reply = await caller.post("/v1/sessions", {"verification": {}})

    assert 201 == reply.status
    assert "application/json" == reply.headers["Content-Type"].partition(";")[0]
    assert "success" == reply.json["status"]
    verification = reply.json["verification"]
    assert 4 == UUID(verification["id"]).version
    assert verification["url"] == f"{verification['host']}/v/{verification['sessionToken']}"
    assert (None, "created") == (verification["vendorData"], verification["status"])


async def test_session_token_names_its_session(caller: Caller) -> None:
    """The token is a JWT with the claims of real ones, and expires seven days after the creation."""
    verification = (await caller.post("/v1/sessions", {"verification": {}})).json["verification"]

    head, payload, signature = verification["sessionToken"].split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    assert {"session_id", "iat", "iid", "vid", "cid", "exp"} == claims.keys()
    assert claims["iat"] + 7 * 86_400 == claims["exp"]
    assert verification["id"] == claims["session_id"]
    assert "HS256" == json.loads(base64.urlsafe_b64decode(head + "=="))["alg"]
    assert signature


@pytest.mark.parametrize(
    "verification",
    [
        {"vendorData": "v" * 1000},
        {"vendorData": "", "endUserId": str(uuid4())},
        {"endUserId": "user-42"},
        {"callback": ""},
        {"callback": "https://shop.example/done?x=1"},
        {"person": {"firstName": "Ada", "lastName": None, "dateOfBirth": "1815-12-10", "gender": "FEMALE"}},
        {"person": None, "document": None, "vendorData": None, "callback": None, "endUserId": None},
        {"document": {"type": "PASSPORT", "country": "EE", "number": "AB123", "firstIssue": "2020-02-29"}},
        {"document": {"type": "VISA"}},
        {"timestamp": "2016-05-19T08:30:25.597Z", "lang": "en", "features": ["selfid"]},
        {"address": {"fullAddress": "1 Main Street"}, "consents": [{"type": "bipa", "approved": True}]},
        {"proofOfAddress": {"acceptableTypes": [{"name": "BANK_STATEMENT"}]}},
        {"somethingNew": {"deep": [1, 2.5, None, True]}, "person": {"favouriteColour": "mauve"}},
    ],
)
async def test_undocumented_members_are_accepted(caller: Caller, verification: dict[str, object]) -> None:
    """Documented, legacy, null and unknown members are accepted, and vendor data comes back unchanged."""
    reply = await caller.post("/v1/sessions", {"verification": verification, "extra": 1})

    assert 201 == reply.status
    assert verification.get("vendorData") == reply.json["verification"]["vendorData"]


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        (b"", {"1102", "1104"}),
        (b"not json", {"1104"}),
        (b"\xff\xfe", {"1104"}),
        (b"[]", {"1104"}),
        (b"NaN", {"1104"}),
        (b"[" * 50_000, {"1104"}),
        (b"{}", {"1102"}),
        (b'{"verification":null}', {"1102", "1104"}),
        (b'{"verification":[]}', {"1102", "1104"}),
    ],
    ids=range(9),
)
async def test_body_without_verification_is_refused(caller: Caller, body: bytes, codes: set[str]) -> None:
    """A body that is not an object with a ``verification`` is refused with a code."""
    status, code = (await caller.post("/v1/sessions", body)).refusal

    assert 400 == status
    assert code in codes


@pytest.mark.parametrize(
    ("verification", "code"),
    [
        ({"callback": "http://shop.example"}, "1302"),
        ({"callback": "shop://done"}, "1302"),
        ({"vendorData": "v" * 1001}, "1500"),
        ({"vendorData": 42}, "1501"),
        ({"person": {"dateOfBirth": "10.12.1815"}}, "1203"),
        ({"document": {"firstIssue": "2020/01/01"}}, "1203"),
        ({"person": {"dateOfBirth": "1815-02-30"}}, "2003"),
        ({"person": {"gender": "X"}}, "1104"),
        ({"person": {"gender": ["F"]}}, "1104"),
        ({"document": {"type": ["PASSPORT"]}}, "1104"),
        ({"endUserId": {}}, "1104"),
        ({"callback": 1}, "1302"),
        ({"callback": "https://[::1"}, "1302"),
        ({"person": "Ada"}, "1104"),
        ({"document": {"number": "AB 123"}}, "2102"),
        ({"document": {"type": "LIBRARY_CARD"}}, "2103"),
        ({"document": {"country": "Estonia"}}, "2104"),
    ],
    ids=str,
)
async def test_each_wrong_value_has_its_code(caller: Caller, verification: object, code: str) -> None:
    """A value that breaks a documented rule is refused with the code of that rule."""
    reply = await caller.post("/v1/sessions", {"verification": verification})

    assert (400, code) == reply.refusal


async def test_trailing_slash_is_accepted(caller: Caller) -> None:
    """Veriff's own samples post to ``/v1/sessions/``."""
    assert 201 == (await caller.post("/v1/sessions/", {"verification": {}})).status


async def test_submission_returns_the_session(caller: Caller) -> None:
    """The response to a submission is the session with its new status."""
    created = (await caller.post("/v1/sessions", {"verification": {"vendorData": "user-42"}})).json["verification"]

    reply = await caller.submit(created["id"])

    assert 200 == reply.status
    assert {"status": "success", "verification": {**created, "status": "submitted"}} == reply.json


async def test_members_of_veriffs_demo_are_accepted(caller: Caller) -> None:
    """``frontState`` and ``timestamp`` next to the status are ignored."""
    session_id = await caller.create()
    body = {"verification": {"frontState": "done", "status": "submitted", "timestamp": "2024-01-01T00:00:00.000Z"}}

    assert 200 == (await caller.post(f"/v1/sessions/{session_id}", body, method="PATCH")).status


async def test_second_submission_is_refused(caller: Caller) -> None:
    """A second submission is refused as an impossible transition."""
    session_id = await caller.create()
    await caller.submit(session_id)

    assert (400, "1304") == (await caller.submit(session_id)).refusal


@pytest.mark.parametrize("status", ["approved", "SUBMITTED", "", None, 1])
async def test_other_status_than_submitted_is_refused(caller: Caller, status: object) -> None:
    """Every other status is refused, and the session is unchanged."""
    session_id = await caller.create()

    refused, code = (await caller.submit(session_id, status)).refusal

    assert 400 == refused
    assert code == "1303" or (status is None and code == "1102")
    assert 200 == (await caller.submit(session_id)).status


async def test_unknown_session_is_not_found(caller: Caller) -> None:
    """Submission, upload and decision of an unknown session respond with 404."""
    unknown = str(uuid4())

    assert 404 == (await caller.submit(unknown)).refusal[0]
    assert 404 == (await caller.upload(unknown, PICTURE)).refusal[0]
    assert 404 == (await caller.decision(unknown)).refusal[0]


@pytest.mark.parametrize(
    ("session_id", "code"),
    [("short", "1001"), ("x" * 41, "1001"), ("x" * 36, "1002")],
)
async def test_malformed_ids_have_different_codes(caller: Caller, session_id: str, code: str) -> None:
    """An id of a wrong length and one that is not a UUID have different codes."""
    assert (400, code) == (await caller.decision(session_id)).refusal
    assert (400, code) == (await caller.submit(session_id)).refusal
    assert (400, code) == (await caller.upload(session_id, PICTURE)).refusal


async def test_oversized_creation_is_refused(caller: Caller) -> None:
    """The size of a creation is limited, and the error has the usual form."""
    reply = await caller.post("/v1/sessions", {"verification": {}, "padding": "x" * 2_000_000})

    assert 413 == reply.refusal[0]


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/v1/nothing"), ("DELETE", "/v1/sessions")])
async def test_unknown_route_responds_in_json(caller: Caller, method: str, path: str) -> None:
    """A 404 of an unknown path is JSON, too."""
    reply = await caller.send(method, path, headers=caller.signed(b""))

    assert reply.refusal[0] in {404, 405}
