"""Authentication of requests, and signatures of responses."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import pytest

from veriff_async import Credentials
from veriff_async._protocol.signing import sign
from veriff_async.sandbox import VirtualClock

if TYPE_CHECKING:
    from tests.sandbox.conftest import Caller, Reply, StartSandbox

pytestmark = pytest.mark.anyio

BODY: Final = b'{"verification":{}}'
PICTURE: Final = base64.b64encode(b"\xff\xd8\xff\xe0" + bytes(500)).decode()
WRONG: Final = "0" * 64
ALIASES: Final = [("x-auth-client", "vrf-auth-client"), ("x-hmac-signature", "vrf-hmac-signature")]


async def get_refusal(caller: Caller, headers: dict[str, str], *, method: str = "GET") -> tuple[int, object]:
    """Return the status and code that refuse a request for a decision, or a submission."""
    path = f"/v1/sessions/{await caller.create()}"
    if method == "GET":
        return (await caller.send("GET", f"{path}/decision", headers=headers)).refusal
    return (await caller.send(method, path, data=BODY, headers=headers)).refusal


async def test_missing_api_key_is_refused(caller: Caller) -> None:
    """Every request without an API key is refused with the code for a missing one."""
    assert (401, "1801") == await get_refusal(caller, {})
    assert (401, "1801") == (await caller.send("POST", "/v1/sessions", data=BODY)).refusal


@pytest.mark.parametrize(
    ("key", "code"), [("not-a-uuid", "1802"), ("6ad63adf-21a8-4748-9257-f15f01e2a930", "1803"), ("é", "1802")]
)
async def test_malformed_and_unknown_api_keys_have_different_codes(caller: Caller, key: str, code: str) -> None:
    """A key that is not a UUID and a key without an integration have different codes."""
    headers = {"X-AUTH-CLIENT": key, "X-HMAC-SIGNATURE": WRONG}

    assert (401, code) == await get_refusal(caller, headers)
    assert (401, code) == (await caller.send("POST", "/v1/sessions", data=BODY, headers=headers)).refusal


@pytest.mark.parametrize("signature", ["", "abc", WRONG[:-1], "g" * 64, "é" * 32])
async def test_malformed_signature_is_refused(caller: Caller, signature: str) -> None:
    """A signature that is not 64 hex digits is refused with its own code."""
    headers = {"X-AUTH-CLIENT": caller.sandbox.credentials.api_key, "X-HMAC-SIGNATURE": signature}

    assert (401, "1812") == await get_refusal(caller, headers)
    assert (401, "1812") == await get_refusal(caller, headers, method="PATCH")


async def test_only_creation_may_be_unsigned(caller: Caller) -> None:
    """A missing signature is refused at every endpoint except the creation of a session."""
    headers = {"X-AUTH-CLIENT": caller.sandbox.credentials.api_key}
    session_id = await caller.create()

    assert 201 == (await caller.send("POST", "/v1/sessions", data=BODY, headers=headers)).status
    assert 401 == (await get_refusal(caller, headers))[0]
    assert 401 == (await get_refusal(caller, headers, method="PATCH"))[0]
    upload = await caller.send("POST", f"/v1/sessions/{session_id}/media", data=BODY, headers=headers)
    assert 401 == upload.refusal[0]


async def test_wrong_signature_of_id_and_body_have_different_codes(caller: Caller) -> None:
    """The code depends on the signed part, id or body; the signature of a creation is checked if there is one."""
    headers = {"X-AUTH-CLIENT": caller.sandbox.credentials.api_key, "X-HMAC-SIGNATURE": WRONG}
    session_id = await caller.create()

    assert (401, "1818") == await get_refusal(caller, headers)
    assert (401, "1819") == await get_refusal(caller, headers, method="PATCH")
    assert (401, "1819") == (await caller.send("POST", "/v1/sessions", data=BODY, headers=headers)).refusal
    body = json.dumps({"image": {"context": "face", "content": PICTURE}}).encode()
    upload = await caller.send("POST", f"/v1/sessions/{session_id}/media", data=body, headers=headers)
    assert (401, "1819") == upload.refusal
    assert () == caller.sandbox.session(session_id).media


async def test_signature_covers_the_raw_bytes(caller: Caller) -> None:
    """An equivalent body in other bytes does not match the signature."""
    headers = caller.signed(BODY)

    assert (401, "1819") == (
        await caller.send("POST", "/v1/sessions", data=b'{"verification": {}}', headers=headers)
    ).refusal


async def test_get_request_signs_the_id_only(caller: Caller) -> None:
    """Path and query are not part of the signed text."""
    session_id = await caller.create()

    path = f"/v1/sessions/{session_id}/decision"
    assert 200 == (await caller.get(f"{path}?version=1.0.0", session_id)).status
    assert (401, "1818") == (await caller.get(path, path)).refusal


@pytest.mark.parametrize("family", ["X", "VRF", "x", "vRf"])
async def test_both_header_families_are_accepted(caller: Caller, family: str) -> None:
    """``X-`` and ``VRF-`` headers are equivalent, in any case."""
    session_id = await caller.create()

    headers = caller.signed(session_id.encode(), family=family)
    assert 200 == (await caller.send("GET", f"/v1/sessions/{session_id}/decision", headers=headers)).status


async def test_equal_header_families_are_accepted_together(caller: Caller) -> None:
    """A request may carry both families if they agree."""
    session_id = await caller.create()

    headers = caller.signed(session_id.encode()) | caller.signed(session_id.encode(), family="VRF")
    assert 200 == (await caller.send("GET", f"/v1/sessions/{session_id}/decision", headers=headers)).status


@pytest.mark.parametrize("name", ["VRF-AUTH-CLIENT", "VRF-HMAC-SIGNATURE", "X-AUTH-CLIENT", "X-HMAC-SIGNATURE"])
async def test_different_header_families_are_refused(caller: Caller, name: str) -> None:
    """A request whose two families differ is refused, even if one of them is right."""
    session_id = await caller.create()
    headers = caller.signed(session_id.encode()) | caller.signed(session_id.encode(), family="VRF")
    headers[name] = str(uuid4()) if "CLIENT" in name else WRONG

    reply = await caller.send("GET", f"/v1/sessions/{session_id}/decision", headers=headers)

    assert 401 == reply.refusal[0]


async def test_upper_case_signature_is_accepted(caller: Caller) -> None:
    """Hex digits of a signature may be upper case."""
    session_id = await caller.create()
    headers = caller.signed(session_id.encode())
    headers["X-HMAC-SIGNATURE"] = headers["X-HMAC-SIGNATURE"].upper()

    assert 200 == (await caller.send("GET", f"/v1/sessions/{session_id}/decision", headers=headers)).status


def check_signed(reply: Reply, caller: Caller, secret: str) -> None:
    """Check that a response is signed with a secret, in both families."""
    for older, newer in ALIASES:
        assert reply.headers[older] == reply.headers[newer]
    assert caller.sandbox.credentials.api_key == reply.headers["x-auth-client"]
    assert sign(secret, reply.body) == reply.headers["x-hmac-signature"]
    assert reply.headers["vrf-integration-id"]


async def test_every_response_is_signed(caller: Caller) -> None:
    """Responses of each endpoint, errors included, carry the signature of their bytes in both families."""
    secret = caller.sandbox.credentials.shared_secret
    created = await caller.post("/v1/sessions", {"verification": {}})
    session_id = created.json["verification"]["id"]
    headers = {"X-AUTH-CLIENT": caller.sandbox.credentials.api_key}

    for reply in (
        created,
        await caller.send("POST", "/v1/sessions", data=BODY, headers=headers),
        await caller.upload(session_id, PICTURE),
        await caller.submit(session_id),
        await caller.submit(session_id),
        await caller.upload(session_id, PICTURE),
        await caller.decision(session_id),
        await caller.decision(str(uuid4())),
    ):
        check_signed(reply, caller, secret)


async def test_response_is_signed_with_the_secret_of_the_request(start_sandbox: StartSandbox) -> None:
    """During a rotation each caller can verify its response; an unsigned creation gets the newest secret."""
    credentials = Credentials(str(uuid4()), "new", previous_secrets=("old", "older"), integration_id=str(uuid4()))
    async with start_sandbox(clock=VirtualClock(), credentials=credentials) as caller:
        for secret in credentials.secrets:
            headers = caller.signed(BODY, secret=secret)
            reply = await caller.send("POST", "/v1/sessions", data=BODY, headers=headers)
            check_signed(reply, caller, secret)
            assert credentials.integration_id == reply.headers["vrf-integration-id"]
        unsigned = {"X-AUTH-CLIENT": credentials.api_key}
        check_signed(await caller.send("POST", "/v1/sessions", data=BODY, headers=unsigned), caller, "new")
