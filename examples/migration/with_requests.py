"""One verification with `requests`, as many integrations do it by hand.

Run it:   python with_requests.py front.jpg selfie.jpg
Settings: VERIFF_API_KEY, VERIFF_SHARED_SECRET, VERIFF_BASE_URL.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import requests

BASE_URL = os.environ["VERIFF_BASE_URL"].rstrip("/")
API_KEY = os.environ["VERIFF_API_KEY"]
SECRET = os.environ["VERIFF_SHARED_SECRET"].encode()


def sign(payload: bytes) -> str:
    """Return the signature of a body, or of a session id for a request without one."""
    return hmac.new(SECRET, payload, hashlib.sha256).hexdigest()


def send(method: str, path: str, payload: dict[str, object]) -> dict[str, Any]:
    """Send a signed JSON body and return the response."""
    body = json.dumps(payload).encode()
    headers = {
        "Content-Type": "application/json",
        "X-AUTH-CLIENT": API_KEY,
        "X-HMAC-SIGNATURE": sign(body),
    }
    response = requests.request(method, f"{BASE_URL}/v1{path}", data=body, headers=headers, timeout=60)
    response.raise_for_status()
    return dict(response.json())


def upload(session_id: str, path: str, context: str) -> None:
    """Upload a picture, which is in memory three times: as bytes, as base64 and as JSON."""
    content = base64.b64encode(Path(path).read_bytes()).decode()
    send("POST", f"/sessions/{session_id}/media", {"image": {"context": context, "content": content}})


def wait_for_decision(session_id: str, timeout: float) -> dict[str, Any] | None:
    """Poll for the decision every few seconds."""
    headers = {"X-AUTH-CLIENT": API_KEY, "X-HMAC-SIGNATURE": sign(session_id.encode())}
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        response = requests.get(f"{BASE_URL}/v1/sessions/{session_id}/decision", headers=headers, timeout=30)
        response.raise_for_status()
        if decision := response.json().get("verification"):
            return dict(decision)
        time.sleep(3)
    return None


def main(front: str, selfie: str) -> None:
    """Verify one person."""
    created = send("POST", "/sessions", {"verification": {"vendorData": "user-42"}})
    session_id = created["verification"]["id"]
    upload(session_id, front, "document-front")
    upload(session_id, selfie, "face")
    send("PATCH", f"/sessions/{session_id}", {"verification": {"status": "submitted"}})
    decision = wait_for_decision(session_id, timeout=900)
    print(decision["status"] if decision else "no decision yet")


if __name__ == "__main__":
    main(*sys.argv[1:])
