"""The OpenAPI document of the control API agrees with the operations, and responses agree with the document."""

from __future__ import annotations

import inspect
import json
import re
from typing import TYPE_CHECKING, Any, Final, cast

import pytest

from tests.sandbox.control.conftest import Control
from veriff_async._protocol.json.encode import dump_json
from veriff_async.sandbox import Sandbox
from veriff_async.sandbox._control.openapi import build_document
from veriff_async.sandbox._control.operations import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.conftest import Caller, Receiver, Reply

pytestmark = pytest.mark.anyio

DOCUMENT: Final[dict[str, Any]] = json.loads(dump_json(build_document()))

# Members of `Sandbox` that a request cannot use, and why.
IN_PYTHON_ONLY: Final = {
    "ca_file": "a path of this machine; GET /_sandbox/ca.pem responds with the certificate",
    "set_webhook_app": "the application is an object of this process",
    "replay": "makes a sandbox",
}


def test_the_document_is_valid() -> None:
    """The document is OpenAPI 3.1, and each name of an operation is unique."""
    from openapi_spec_validator import OpenAPIV31SpecValidator  # noqa: PLC0415  takes seconds, in each worker

    OpenAPIV31SpecValidator(DOCUMENT).validate()
    names = [operation.name for operation in OPERATIONS]
    assert len(set(names)) == len(names)


def test_every_member_of_the_sandbox_is_reachable() -> None:
    """Each public method and attribute of `Sandbox` has an operation, or a reason why it has none."""
    members = {name for name, _ in inspect.getmembers_static(Sandbox) if not name.startswith("_")}
    reachable = {name for operation in OPERATIONS for name in operation.python}
    assert members - reachable == set(IN_PYTHON_ONLY)
    assert not reachable - members
    # Changes of an attribute are operations of their own.
    setters = {
        name
        for name, member in inspect.getmembers_static(Sandbox)
        if isinstance(member, property) and member.fset is not None and not name.startswith("_")
    }
    changes = {name for operation in OPERATIONS if operation.method in {"PUT", "PATCH"} for name in operation.python}
    assert setters <= changes


def test_every_operation_is_in_the_document() -> None:
    """The document has the methods and paths of the table, and no others."""
    described = {
        (method.upper(), path): item["operationId"]
        for path, methods in DOCUMENT["paths"].items()
        for method, item in methods.items()
    }
    assert {(each.method, each.path): each.name for each in OPERATIONS} == described


async def test_every_path_of_the_document_is_served(control: Control) -> None:
    """Each method of each path has a handler; other methods are refused with those that exist."""
    for path, methods in DOCUMENT["paths"].items():
        served = re.sub(r"\{\w+\}", "1", path)
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            if method.lower() in methods:
                continue
            reply = await control.send(method, served, {})
            assert 405 == reply.status, path
            assert set(methods) <= set(reply.headers["Allow"].lower().split(", "))
    assert DOCUMENT == await control.do("GET", "/openapi.json")
    assert 405 == (await control.refused("POST", "/openapi.json", {}))[0]


class Checked(Control):
    """Checks each request and each response against the document."""

    async def send(self, method: str, path: str, body: object = None) -> Reply:
        """Send a request."""
        reply = await super().send(method, path, body)
        operation = self.find(method, path)
        self.caller.sandbox.environ  # noqa: B018  the sandbox still runs
        described = operation["responses"][str(reply.status)]["content"]["application/json"]["schema"]
        validate(described, reply.json)
        if body is not None and reply.status < 400:
            schema = operation.get("requestBody", {"content": {"application/json": {"schema": {"maxProperties": 0}}}})
            validate(schema["content"]["application/json"]["schema"], body)
        SEEN.add((operation["operationId"], reply.status))
        return reply

    def find(self, method: str, path: str) -> dict[str, Any]:
        """Return the operation of a request."""
        bare = path.partition("?")[0]
        for template, methods in sorted(DOCUMENT["paths"].items(), key=lambda item: item[0].count("{")):
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), bare) and method.lower() in methods:
                found: dict[str, Any] = methods[method.lower()]
                return found
        msg = f"the document has no {method} {path}"
        raise AssertionError(msg)


SEEN: Final[set[tuple[str, int]]] = set()


def validate(schema: dict[str, Any], value: object) -> None:
    """Check a value against a schema of the document."""
    from jsonschema import Draft202012Validator  # noqa: PLC0415  takes seconds, in each worker

    Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(value)


async def test_requests_and_responses_agree_with_the_document(caller: Caller, receiver: Receiver) -> None:
    """A success of every operation, with content wherever there can be some, has the form that the document says."""
    control = Checked(caller)
    await control.do("PATCH", "/rules", {"webhook_urls": {"decision": receiver.url, "watchlist": receiver.url}})
    await control.do("PUT", "/chaos", {"profile": {"webhooks": [{"kind": "decision", "delay": 1}]}})
    await control.do("PUT", "/chaos", {"name": "mobile"})
    await control.do("GET", "/chaos")
    await control.do("DELETE", "/chaos")
    session_id = await caller.create(person={"firstName": "Ada"}, document={"type": "PASSPORT"}, vendorData="user-42")
    path = f"/sessions/{session_id}"
    await caller.upload(session_id, "JVBERi0xLjcK")
    await caller.upload(session_id, "/9j/2wBDAAoHBwgHBg==")
    await control.do("POST", f"{path}/start")
    await control.do("POST", f"{path}/wait-until-waiting", {"timeout": 0})
    await control.do("POST", f"{path}/submit")
    await control.do("POST", f"{path}/open-attempt")
    await control.do("POST", f"{path}/certificates", {})
    await control.do("POST", f"{path}/address")
    await control.do("POST", f"{path}/user-status", {"status": {"status": "vip", "createdAt": "2025-01-01T00:00:00Z"}})
    await control.do("PUT", f"{path}/pep-matches", {"matches": [{"numberOfMatches": 0, "hits": []}]})
    await control.do("POST", f"{path}/registry-check", {"curp": {"statusCurp": "AN"}})
    await control.do("POST", "/webhooks/hold", {"session_id": session_id})
    await control.do("POST", f"{path}/watchlist-screening", {"screening": {"matchStatus": "no_match", "totalHits": 0}})
    await control.do("POST", f"{path}/decide", {"status": "review", "risk_labels": [{"label": "x"}]})
    second, first = [each["id"] for each in (await control.do("GET", "/webhooks?limit=2"))["webhooks"]]
    await control.do("POST", "/webhooks/reorder", {"webhook_ids": [first, second]})
    await control.do("POST", f"/webhooks/{first}/delay", {"seconds": 5})
    await control.do("POST", f"/webhooks/{first}/duplicate")
    await control.do("POST", f"/webhooks/{first}/drop")
    await control.do("POST", f"/webhooks/{first}/deliver")
    await control.do("POST", "/webhooks/release", {"kind": "decision"})
    await control.do("POST", "/wait-idle", {"timeout": 20})
    await control.do("GET", f"/webhooks/{first}")
    await control.do("GET", "/deliveries")
    await control.do("POST", f"{path}/resend", {"kind": "watchlist"})
    added = await control.do("POST", "/faults", {"fault": {"kind": "hang", "after": 3}, "method": None})
    await control.do("GET", "/faults")
    await control.do("DELETE", f"/faults/{added['fault_id']}")
    await control.do("DELETE", "/faults")
    await control.do("PUT", "/webhook-urls", {"urls": {}})
    await control.do("POST", "/clock/advance", {"seconds": 1.5})
    await control.do("PUT", "/credentials", {"api_key": "a", "secrets": ["b"]})
    await control.do("PUT", "/public-url", {"public_url": "http://localhost:1"})
    for listed in (
        "/addresses /clock /credentials /environ /imported-faces /requests /rules /sessions /sessions/counts /timeline "
        f"/webhook-urls {path}"
    ).split():
        await control.do("GET", listed)
    for method, wrong, body in (
        ("GET", "/sessions?limit=0", None),
        ("GET", "/sessions/1", None),
        ("POST", f"{path}/start", None),
        ("POST", f"{path}/decide", {"status": 1}),
    ):
        await control.refused(method, wrong, body)
    await control.do("POST", "/reset")
    await control.do("POST", "/seed", {"sessions": 2, "statuses": ["approved"], "seed": 1})
    succeeded = {name for name, status in SEEN if status == 200}
    assert {each.name for each in OPERATIONS} - succeeded == {"download_media", "snapshot", "restore", "stream_events"}


def test_objects_are_described_or_open() -> None:
    """An object has members or may have any; otherwise generators of clients make an empty type of it."""

    def find_empty(schema: object) -> Iterator[object]:
        if isinstance(schema, dict):
            members = cast("dict[str, object]", schema)
            if members.get("type") == "object" and not members.keys() & {"properties", "additionalProperties"}:
                yield members
            schema = list(members.values())
        if isinstance(schema, list):
            for each in cast("list[object]", schema):
                yield from find_empty(each)

    assert [] == list(find_empty(DOCUMENT))
