"""A webhook endpoint of the standard library. The first part of the path names its fault; /none has none.

GET /effects/<fault>/<session> returns the effects of a session; GET /fail and /recover switch the work off and on.
The server prints its port.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import sys
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

API_KEY = os.environ["VERIFF_API_KEY"]
SECRETS = os.environ["VERIFF_SHARED_SECRET"].split(",")
MAX_BODY = 1_048_576
STATUSES = ("approved", "declined", "resubmission_requested", "review", "expired", "abandoned")
LOCK = threading.Lock()
LOOKS = threading.Condition()
# By fault and session: the keys of events that had an effect, the number of effects, status, and decision time.
SESSIONS: dict[tuple[str, str], dict[str, Any]] = {}
FAILING = threading.Event()


def sign(secret: str, body: bytes) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def is_signed(fault: str, headers: Any, body: bytes) -> bool:
    signature = (headers.get("x-hmac-signature") or headers.get("vrf-hmac-signature") or "").lower()
    if fault == "unsigned" and not signature:
        return True
    if fault == "never-checks":
        return True
    if fault == "only-checks-presence":
        return bool(signature)
    if {headers.get(name, signature).lower() for name in ("x-hmac-signature", "vrf-hmac-signature")} != {signature}:
        return False
    key = headers.get("x-auth-client") or headers.get("vrf-auth-client")
    if fault != "ignores-api-key" and (key or "").lower() != API_KEY.lower():
        return False
    if fault == "writes-json-again":
        body = json.dumps(json.loads(body), separators=(",", ":"), ensure_ascii=False).encode()
    secrets = [*SECRETS, ""] if fault == "empty-secret" else SECRETS[:1] if fault == "one-secret" else SECRETS
    if fault == "accepts-prefix":
        return any(sign(secret, body).startswith(signature) for secret in secrets)
    return any(hmac.compare_digest(sign(secret, body).encode(), signature.encode()) for secret in secrets)


def work(fault: str, event: dict[str, Any]) -> None:
    """Apply a decision; called under the lock, except for a race."""
    decision = event["verification"]
    if not isinstance(decision, dict) or not isinstance(decision.get("id"), str):
        return
    session = SESSIONS.setdefault((fault, decision["id"]), {"keys": [], "count": 0, "status": None, "time": ""})
    key = [decision.get("attemptId"), decision.get("status"), decision.get("decisionTime")]
    if fault == "key-is-session":
        key = [decision["id"]]
    if fault == "key-is-body":
        key = [event["hash"]]
    if key in session["keys"] and fault != "no-deduplication":
        return
    if fault == "race":
        # The work, between the look and the mark, lasts until another delivery has looked, too.
        with LOOKS:
            session["looks"] = session.get("looks", 0) + 1
            LOOKS.notify_all()
            LOOKS.wait_for(lambda: session["looks"] > 1, 30)
    session["keys"].append(key)
    session["count"] += 1
    moment = decision.get("decisionTime") or ""
    if moment >= session["time"] or fault == "last-one-wins":
        session.update(status=decision.get("status"), time=moment)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.answer(405)

    do_DELETE = do_HEAD

    def do_PUT(self) -> None:
        self.close_connection = True
        self.answer(405, Connection="close")

    def do_GET(self) -> None:
        _, name, *rest = self.path.split("/")
        if name == "effects":
            session = SESSIONS.get((rest[0], rest[1]), {"count": 0, "status": None})
            self.answer(200, json.dumps({"count": session["count"], "status": session["status"]}).encode())
        elif name in {"fail", "recover"}:
            FAILING.set() if name == "fail" else FAILING.clear()
            self.answer(200)
        else:
            self.answer(405)

    def do_POST(self) -> None:
        fault = self.path.strip("/")
        try:
            self.receive(fault)
        except Exception:
            text = traceback.format_exc().encode() if fault == "debug-page" else b""
            self.close_connection = True
            self.answer(500, text, Connection="close")

    def receive(self, fault: str) -> None:
        length = int(self.headers.get("content-length", 0))
        if length > MAX_BODY or self.headers.get("content-encoding") or self.headers.get("transfer-encoding"):
            self.close_connection = True
            self.answer(413 if length else 411, Connection="close")
            return
        body = self.rfile.read(length)
        if fault == "redirect":
            self.answer(301, Location=f"/{fault}/")
            return
        if not is_signed(fault, self.headers, body):
            secret = SECRETS[0]
            self.answer(401, f"expected {sign(secret, body)}".encode() if fault == "shows-signature" else b"")
            return
        try:
            event = json.loads(body)
            readable = isinstance(event, dict)
        except (ValueError, RecursionError):
            readable = fault == "debug-page" and json.loads(body)
        if not readable:
            self.answer(400)
            return
        event["hash"] = hashlib.sha256(body).hexdigest()
        if fault == "strict-kinds" and "verification" not in event:
            event["action"]
        if fault == "strict-statuses" and event.get("verification", {}).get("status") not in STATUSES:
            event["action"]
        status = 204 if fault == "answers-204" else 200
        if fault == "last-one-wins" and "action" in event:
            SESSIONS.setdefault((fault, event["id"]), {"keys": [], "count": 0, "status": None, "time": ""})[
                "status"
            ] = event["action"]
        if event.get("verification"):
            if FAILING.is_set():
                # One answers 500, so that the webhook is sent again; the other 200, and the decision is lost.
                self.answer(status if fault == "loses-events" else 500)
                return
            if fault == "race":
                work(fault, event)
            else:
                with LOCK:
                    work(fault, event)
        self.answer(status)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


server = Server(("127.0.0.1", 0), Handler)
sys.stdout.write(f"{server.server_address[1]}\n")
sys.stdout.flush()
server.serve_forever()
