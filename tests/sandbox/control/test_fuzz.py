"""No request to the control API gets another response than success or an error in JSON, and never status 500."""

from __future__ import annotations

import http.client
import json
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from veriff_async.sandbox import Sandbox, VirtualClock
from veriff_async.sandbox._control.operation import EVENTS
from veriff_async.sandbox._control.operations import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from veriff_async.sandbox._control.operation import Operation

# Each example is a request over a real socket.
QUICK: Final = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)
METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE")

JSON: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["approved", "declined", "2025-01-01T00:00:00Z", "decision", "\ud800", "\0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


class Peer:
    """A sandbox in a thread, and one connection to it."""

    def __init__(self, sandbox: Sandbox) -> None:
        """Connect."""
        parts = urlsplit(sandbox.base_url)
        self.sandbox = sandbox
        self.connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=20)

    def create_session(self) -> None:
        """Create a session, as a client does."""
        headers = {"X-Auth-Client": self.sandbox.credentials.api_key, "Content-Type": "application/json"}
        self.connection.request("POST", "/v1/sessions", b'{"verification": {}}', headers)
        self.connection.getresponse().read()

    def send(
        self, method: str, path: str, body: bytes | None = None, content_type: str = "application/json"
    ) -> tuple[int, bytes]:
        """Send a request to the control API, and check the form of its response."""
        self.connection.request(method, f"/_sandbox/api{path}", body=body, headers={"Content-Type": content_type})
        response = self.connection.getresponse()
        content = response.read()
        if method != "HEAD" and response.headers.get_content_type() == "application/json":
            value: Any = json.loads(content)
            assert isinstance(value, dict)
            if response.status >= 400:
                assert {"code", "message", "field"} == set(value["error"]), content
        elif method != "HEAD":
            assert 200 == response.status, (response.status, content)
        assert response.status < 500, content
        return response.status, content


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    """Run a sandbox whose state all examples share."""
    with Sandbox(clock=VirtualClock()) as sandbox:
        started = Peer(sandbox)
        yield started
        started.connection.close()


@QUICK
@given(
    method=st.sampled_from(METHODS),
    path=st.binary(max_size=30).map(lambda path: quote(path, safe="/?&=;%#+.~!$'()*,:@[]|")),
    body=st.none() | st.binary(max_size=50),
)
@example(method="GET", path="", body=None)
@example(method="GET", path="/", body=None)
@example(method="GET", path="/sessions/%ff", body=None)
@example(method="GET", path="/sessions?limit=%ff&%zz=%", body=None)
@example(method="GET", path="/sessions/%2f..%2f", body=None)
@example(method="GET", path="/../../v1/sessions", body=None)
@example(method="POST", path="//", body=b"\xff")
def test_any_bytes_and_any_path(peer: Peer, method: str, path: str, body: bytes | None) -> None:
    """Any bytes as path, query and body get a response of the control API."""
    path = path if path.startswith(("/", "?")) or not path else f"/{path}"
    if not path.startswith("/../"):
        peer.send(method, path, body)


def values_of(operation: Operation) -> st.SearchStrategy[dict[str, object]]:
    """Return JSON objects that have some of the fields of an operation, with any values."""
    names = [field.name for field in operation.body] or ["x"]
    likely = {
        "status": st.sampled_from(["approved", "declined", "resubmission_requested", "expired"]),
        "seconds": st.floats(0, 1e6),
        "sessions": st.just(1),
        "timeout": st.just(0),
        "kind": st.sampled_from(["decision", "event", "watchlist"]),
        "fault": st.fixed_dictionaries({"kind": st.sampled_from(["drop", "status", "hang"])}),
        "urls": st.dictionaries(st.sampled_from(["decision", "event"]), st.just("http://127.0.0.1:9/")),
    }
    fields = {name: likely.get(name, JSON) | JSON for name in names if name != "timeout"}
    fixed = {"timeout": st.just(0)} if "timeout" in names else {}
    return st.fixed_dictionaries(fixed, optional=fields)


@QUICK
@given(data=st.data(), operation=st.sampled_from([each for each in OPERATIONS if each.result != EVENTS]))
def test_any_json_for_every_operation(peer: Peer, data: st.DataObject, operation: Operation) -> None:
    """Any JSON for any operation succeeds or is refused; the sandbox keeps working."""
    # Drawn as a number: what can be drawn must not depend on the state.
    number = data.draw(st.integers(0, 7), "id")
    sessions = [session.id for session in peer.sandbox.sessions[:4]]
    ids = [*sessions, *(webhook.id for webhook in peer.sandbox.webhooks[:3]), "1", "x"]
    path = re.sub(r"\{\w+\}", ids[number % len(ids)], operation.path)
    body = data.draw(values_of(operation), "body")
    if operation.name == "set_public_url":
        # A public name would need a token from then on.
        body = {"public_url": 1}
    peer.send(operation.method, path, json.dumps(body).encode())
    if not sessions:
        peer.create_session()


@pytest.mark.parametrize(
    ("status", "body", "content_type"),
    [
        (400, b"{", "application/json"),
        (400, b"[]", "application/json"),
        (400, b'{"status": NaN}', "application/json"),
        (400, b"\xff\xfe", "application/json"),
        (400, b"[" * 100_000, "application/json"),
        (413, b" " * (1024 * 1024 + 1), "application/json"),
        (415, b"{}", "text/plain"),
        (415, b"status=approved", "application/x-www-form-urlencoded"),
        (415, b"{}", "application/jsonp"),
        (422, b"{}", "application/json; charset=utf-8"),
        (422, b"{}", "application/merge-patch+json"),
        (422, b" \n", "text/plain"),
        (422, None, "text/plain"),
    ],
)
def test_wrong_bodies(peer: Peer, status: int, body: bytes | None, content_type: str) -> None:
    """A body that is too large, malformed or of another type is refused with its own status."""
    session_id = "00000000-0000-4000-8000-000000000000"
    assert status == peer.send("POST", f"/sessions/{session_id}/decide", body, content_type)[0]
