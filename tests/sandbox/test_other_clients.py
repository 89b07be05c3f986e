"""Features for browsers, containers and clients in other languages."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest

from veriff_async.sandbox import Fault, SandboxOptions

if TYPE_CHECKING:
    from tests.sandbox.conftest import Caller, Receiver, StartSandbox

pytestmark = pytest.mark.anyio

ORIGIN = "https://shop.example"
PREFLIGHT = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type,x-auth-client",
}


@pytest.mark.parametrize("path", ["/v1/sessions", "/v1/sessions/", "/v1/sessions/some/media", "/elsewhere"])
async def test_preflight_allows_every_method(caller: Caller, path: str) -> None:
    """A preflight of any path allows the origin, every method and the requested headers."""
    reply = await caller.send("OPTIONS", path, headers=PREFLIGHT)

    assert 204 == reply.status
    assert ORIGIN == reply.headers["Access-Control-Allow-Origin"]
    assert {"GET", "POST", "PATCH", "DELETE"} == set(reply.headers["Access-Control-Allow-Methods"].split(", "))
    assert PREFLIGHT["Access-Control-Request-Headers"] == reply.headers["Access-Control-Allow-Headers"]
    assert "Origin" in reply.headers["Vary"]


async def test_preflight_allows_private_network_access(caller: Caller) -> None:
    """A page from the internet may call the sandbox on the same machine, if the browser asks for that."""
    reply = await caller.send(
        "OPTIONS", "/v1/sessions", headers={**PREFLIGHT, "Access-Control-Request-Private-Network": "true"}
    )

    assert "true" == reply.headers["Access-Control-Allow-Private-Network"]


async def test_preflight_and_health_check_are_not_recorded(caller: Caller) -> None:
    """Faults and limits do not apply to a preflight or health check, and they are not listed."""
    caller.sandbox.inject(Fault.status(500))

    assert 204 == (await caller.send("OPTIONS", "/v1/sessions", headers=PREFLIGHT)).status
    assert (200, {"status": "ok"}) == ((health := await caller.send("GET", "/healthz")).status, health.json)
    assert () == caller.sandbox.requests
    assert 500 == (await caller.send("GET", "/elsewhere")).status


async def test_page_can_create_a_session(caller: Caller) -> None:
    """A page of another origin creates a session with the API key only, and may read the response and its headers."""
    body = json.dumps(
        {
            "verification": {
                "callback": "",
                "person": {"firstName": "Ada", "lastName": "Lovelace", "nickname": "x"},
                "endUserId": "user-42",
                "lang": "en",
                "features": ["selfid"],
                "timestamp": "2026-01-02T12:00:00.123Z",
            },
            "newer": 1,
        }
    ).encode()
    headers = {
        "Origin": ORIGIN,
        "x-auth-client": caller.sandbox.credentials.api_key,
        "content-type": "application/json",
    }

    reply = await caller.send("POST", "/v1/sessions", data=body, headers=headers)

    assert 201 == reply.status
    assert ORIGIN == reply.headers["Access-Control-Allow-Origin"]
    assert "X-HMAC-SIGNATURE" in reply.headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize("fault", [Fault.status(503), Fault.truncate_response(after=3), Fault.corrupt_response()])
async def test_errors_have_cors_headers(caller: Caller, fault: Fault) -> None:
    """Errors and injected faults have the headers that a page needs to read them."""
    caller.sandbox.inject(fault)
    async with caller.http.post(caller.sandbox.base_url + "/v1/sessions", headers={"Origin": ORIGIN}) as answer:
        assert ORIGIN == answer.headers["Access-Control-Allow-Origin"]


@pytest.mark.parametrize(
    "path", ["/v1/sessions", "/v1/feedback/fraud-reports", "/v1/faces/import", "/v1/sessions/{id}/media"]
)
async def test_wrong_content_encoding_is_a_bad_request(caller: Caller, path: str) -> None:
    """A body that does not match its Content-Encoding is refused with 400, and changes nothing."""
    session_id = await caller.create()
    body = b'{"verification":{}}'
    path = path.format(id=session_id)
    headers = {**caller.signed(body), "VRF-AUTH-CLIENT": caller.sandbox.credentials.api_key, "Content-Encoding": "gzip"}

    assert 400 == (await caller.send("POST", path, data=body, headers=headers)).status
    assert 1 == len(caller.sandbox.sessions)


async def test_gzip_body_is_accepted(caller: Caller) -> None:
    """A compressed body is decompressed; its signature covers the JSON."""
    body = b'{"verification":{"vendorData":"user-42"}}'
    headers = {**caller.signed(body), "Content-Encoding": "gzip"}

    assert 201 == (await caller.send("POST", "/v1/sessions", data=gzip.compress(body), headers=headers)).status
    assert "user-42" == caller.sandbox.sessions[0].vendor_data


async def test_fault_works_with_wrong_content_encoding(caller: Caller) -> None:
    """A fault that reads the body first works with an invalid body."""
    caller.sandbox.inject(Fault.status(503))
    reply = await caller.send("POST", "/v1/sessions", data=b"{}", headers={"Content-Encoding": "gzip"})

    assert 503 == reply.status


async def test_webhook_numbers_are_written_like_javascript(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """A receiver that serialises a webhook again in JavaScript gets the body that was signed."""
    async with start_sandbox(webhook_url=receiver.url, options=SandboxOptions(time_digits=3)) as caller:
        session_id = await caller.create()
        caller.sandbox.decide(
            session_id, "approved", risk_score=1e-05, person={"firstName": "Ada", "newer": [32.0, 1e21]}
        )
        posted = (await receiver.next()).body
        answered = (await caller.decision(session_id)).body

    assert b'"riskScore":{"score":0.00001}' in posted
    assert b'"newer":[32,1e+21]' in posted
    assert posted == answered
