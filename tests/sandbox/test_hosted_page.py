"""The page behind `session.url` over HTTP: who may open and change it, and what it accepts."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from importlib.resources import files
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from aiohttp import FormData
from anyio import to_thread

from veriff_async.sandbox import Fault, VirtualClock, WebhookKind
from veriff_async.sandbox._payloads import session_id_of
from veriff_async.sandbox._web import pages

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.conftest import Caller, Receiver, Reply, StartSandbox

pytestmark = pytest.mark.anyio

JPEG = b"\xff\xd8\xff" + bytes(range(256)) * 8


async def open_session(caller: Caller, **verification: object) -> tuple[str, str]:
    """Create a session, and return its id and the path of its page."""
    reply = await caller.post("/v1/sessions", {"verification": verification})
    members: Any = reply.json["verification"]
    return members["id"], urlsplit(members["url"]).path


async def show(caller: Caller, path: str) -> Reply:
    """Open a page."""
    return await caller.send("GET", path)


async def submit(caller: Caller, path: str, **pictures: bytes) -> Reply:
    """Send the form with pictures; names have underscores for hyphens."""
    form = FormData(default_to_multipart=True)
    form.add_field("unknown", "ignored")
    for name, content in pictures.items():
        form.add_field(name.replace("_", "-"), BytesIO(content), filename="image.jpg", content_type="image/jpeg")
    return await caller.send("POST", path + "/submit", data=form())


async def choose(caller: Caller, path: str, **fields: str) -> Reply:
    """Choose the outcome."""
    return await caller.send("POST", path + "/outcome", data=FormData(fields))


async def test_only_the_whole_token_opens_the_page(caller: Caller) -> None:
    """Changed, foreign and malformed tokens, and those of deleted sessions, lead to the same page with status 404."""
    session_id, path = await open_session(caller)
    assert 200 == (await show(caller, path)).status
    head, claims, _ = path.split(".")
    wrong = [path[:-1], path + "x", f"{head}.{claims}.", f"{head}.{claims}", "/v/x", "/v/a.b.c", "/v/..."]
    replies = [await show(caller, other) for other in wrong]
    assert [404] * len(wrong) == [reply.status for reply in replies]
    assert 404 == (await caller.send("POST", path[:-1] + "/start")).status
    await caller.send("DELETE", f"/v1/sessions/{session_id}", headers=caller.signed(session_id.encode()))
    deleted = await show(caller, path)
    assert (404, {reply.body for reply in replies}) == (deleted.status, {deleted.body})


@pytest.mark.parametrize(
    "token", ["", ".", "a.b", "a.!.c", "a.bnVsbA.c", "a.e30.c", "a.eyJzZXNzaW9uX2lkIjogMX0.c", "a.é.c"]
)
def test_token_without_a_session_names_none(token: str) -> None:
    """A text that is not a token of the sandbox names no session, and raises nothing."""
    assert session_id_of(token) is None


async def test_forms_of_other_sites_are_refused(caller: Caller) -> None:
    """The headers of browsers decide; the page's own forms and programs pass."""
    session_id, path = await open_session(caller)
    for headers in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ):
        reply = await caller.send("POST", path + "/start", headers=headers)
        assert (403, "created") == (reply.status, caller.sandbox.session(session_id).status)
    own = {"Origin": caller.sandbox.base_url, "Sec-Fetch-Site": "same-origin"}
    assert 303 == (await caller.send("POST", path + "/start", headers=own)).status
    assert "started" == caller.sandbox.session(session_id).status


async def test_page_loads_nothing_from_elsewhere(caller: Caller) -> None:
    """The policy allows files of the sandbox alone; values are escaped; other origins cannot read the page."""
    _, path = await open_session(caller, person={"firstName": "<script>alert(1)</script>"}, vendorData='"><img src=x>')
    reply = await caller.send("GET", path, headers={"Origin": "https://shop.example"})
    page = reply.body.decode()
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in reply.headers["Content-Security-Policy"]
    assert "unsafe" not in reply.headers["Content-Security-Policy"]
    assert "Access-Control-Allow-Origin" not in reply.headers
    assert "&lt;script&gt;alert" in page
    assert "<img src=x>" not in page
    assert not re.search(r"""\s(on\w+|style)=|<style|<script>|javascript:|(src|href)=["']?(https?:)?//""", page)
    for address in re.findall(r'(?:src|href)="(/v/static/[^"]+)"', page):
        file = await show(caller, address)
        assert (200, "public, max-age=31536000, immutable") == (file.status, file.headers["Cache-Control"])
        assert 404 == (await show(caller, re.sub("static/.", "static/x", address))).status


async def test_page_is_no_request_to_veriff(caller: Caller) -> None:
    """Pages are neither recorded, nor signed, nor changed by faults."""
    _, path = await open_session(caller)
    caller.sandbox.inject(Fault.status(503))
    before = caller.sandbox.requests
    reply = await show(caller, path)
    assert (200, before) == (reply.status, caller.sandbox.requests)
    assert "X-HMAC-SIGNATURE" not in reply.headers
    assert 405 > (await caller.send("HEAD", path)).status


async def test_pictures_that_veriff_refuses_are_explained(caller: Caller) -> None:
    """A file of another type, an empty, a large and a missing one each have a sentence; nothing is stored."""
    session_id, path = await open_session(caller)
    await caller.send("POST", path + "/start")
    for pictures, text in (
        ({"document_front": b"GIF89a", "face": JPEG}, "not a picture that Veriff accepts"),
        ({"document_front": b"%PDF-1.7", "face": JPEG}, "not a picture that Veriff accepts"),
        ({"document_front": b"", "face": JPEG}, "This file is empty"),
        ({"document_front": JPEG + bytes(18_000_000), "face": JPEG}, "larger than 18 MB"),
        ({"document_front": JPEG}, "This picture is missing"),
        ({}, "This picture is missing"),
    ):
        reply = await submit(caller, path, **pictures)
        assert 422 == reply.status
        assert text in reply.body.decode()
    assert ("started", ()) == (caller.sandbox.session(session_id).status, caller.sandbox.session(session_id).media)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain", b"x"),
        ("application/x-www-form-urlencoded", b"specimens=1"),
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", b"no boundary"),
        ("multipart/form-data; boundary=b", b"--b\r\nbroken header\r\n\r\nx\r\n--b--"),
        ("multipart/form-data; boundary=b", b"--b\r\nA: " + b"x" * 100_000 + b"\r\n\r\nx\r\n--b--"),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c--\r\n--b--"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="face"; filename="x"\r\n\r\nx',
        ),
        ("multipart/form-data; boundary=" + "b" * 80, b"x"),
    ],
)
async def test_broken_forms_are_refused(caller: Caller, content_type: str, body: bytes) -> None:
    """A body that is not a complete form gets a response that says so, and changes nothing."""
    session_id, path = await open_session(caller)
    await caller.send("POST", path + "/start")
    reply = await caller.send("POST", path + "/submit", data=body, headers={"Content-Type": content_type})
    assert reply.status in {400, 422}
    reply = await caller.send("POST", path + "/outcome", data=b"{}", headers={"Content-Type": "application/json"})
    assert reply.status in {400, 415, 422}
    assert ("started", ()) == (caller.sandbox.session(session_id).status, caller.sandbox.session(session_id).media)


async def test_refused_pictures_leave_no_file(start_sandbox: StartSandbox, tmp_path: Path) -> None:
    """Files of a form that is refused are removed; those of a submission stay."""
    stored = tmp_path.iterdir
    async with start_sandbox(media_folder=tmp_path) as caller:
        _, path = await open_session(caller)
        await caller.send("POST", path + "/start")
        await submit(caller, path, document_front=JPEG)
        assert [] == await to_thread.run_sync(lambda: list(stored()))
        assert 303 == (await submit(caller, path, document_front=JPEG, face=JPEG)).status
        assert 303 == (await submit(caller, path, document_front=JPEG, face=JPEG)).status
        assert [JPEG, JPEG] == await to_thread.run_sync(lambda: [file.read_bytes() for file in stored()])


async def test_pictures_of_the_api_count(caller: Caller) -> None:
    """The page does not ask again for pictures that the program has uploaded."""
    session_id, path = await open_session(caller)
    await caller.send("POST", path + "/start")
    await caller.upload(session_id, "/9j/2Q==", "document-front")
    assert "Sent over the API: document-front." in (await show(caller, path)).body.decode()
    assert 303 == (await submit(caller, path, face=JPEG)).status


async def test_each_outcome_decides_the_session(caller: Caller) -> None:
    """Every choice of the page is a decision with its reason; undecided and unknown ones leave the session."""
    for fields, status, reason in (
        ({"outcome": "approved"}, "approved", None),
        ({"outcome": "declined", "reason-declined": "106"}, "declined", 106),
        ({"outcome": "declined", "reason-declined": "203"}, "declined", 101),
        ({"outcome": "resubmission_requested", "reason-resubmission_requested": "204"}, "resubmission_requested", 204),
        ({"outcome": "review"}, "review", None),
        ({"outcome": "abandoned"}, "abandoned", None),
        ({"outcome": "undecided"}, "submitted", None),
        ({"outcome": "started"}, "submitted", None),
        ({}, "submitted", None),
    ):
        session_id, path = await open_session(caller)
        await caller.send("POST", path + "/start")
        await submit(caller, path, document_front=JPEG, face=JPEG)
        assert 303 == (await choose(caller, path, **fields)).status
        decision = (await caller.decision(session_id)).json["verification"] or {}
        assert (status, reason) == (caller.sandbox.session(session_id).status, decision.get("reasonCode"))


async def test_session_expires_on_request(caller: Caller) -> None:
    """Before the start, the page offers to let the session expire, and its page then says so."""
    session_id, path = await open_session(caller)
    await choose(caller, path, outcome="expired")
    assert "expired" == caller.sandbox.session(session_id).status
    assert "This verification has expired" in (await show(caller, path)).body.decode()


async def test_forms_of_a_finished_session_change_nothing(caller: Caller) -> None:
    """A form that comes too late leads back to the page, which shows the present state."""
    session_id, path = await open_session(caller)
    caller.sandbox.decide(session_id, "declined")
    for reply in (
        await caller.send("POST", path + "/start"),
        await submit(caller, path, document_front=JPEG, face=JPEG),
        await choose(caller, path, outcome="review"),
        await choose(caller, path, outcome="approved"),  # Veriff can correct a decline, an end-user cannot
    ):
        assert (303, path) == (reply.status, reply.headers["Location"])
    assert ("declined", ()) == (caller.sandbox.session(session_id).status, caller.sandbox.session(session_id).media)


async def test_request_for_new_pictures_is_held_back(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """After pictures of the page, the webhook of a resubmission waits five minutes, as documented."""
    clock = VirtualClock()
    async with start_sandbox(clock=clock, webhook_urls={WebhookKind.DECISION: receiver.url}) as caller:
        _, path = await open_session(caller)
        await caller.send("POST", path + "/start")
        await submit(caller, path, document_front=JPEG, face=JPEG)
        await choose(caller, path, outcome="resubmission_requested")
        await caller.sandbox.wait_idle()
        assert () == caller.sandbox.deliveries
        caller.sandbox.advance(300)
        assert "resubmission_requested" == (await receiver.next()).json["verification"]["status"]


async def test_page_says_when_the_sandbox_decides(caller: Caller) -> None:
    """With `decide_after`, the choice has a time limit, and the page names it."""
    caller.sandbox.change_rules(decide_after=90)
    _, path = await open_session(caller)
    await caller.send("POST", path + "/start")
    await submit(caller, path, document_front=JPEG, face=JPEG)
    assert "approves the session by itself 90 seconds after" in (await show(caller, path)).body.decode()
    caller.sandbox.change_rules(decide_after=None)
    assert "by itself" not in (await show(caller, path)).body.decode()


async def test_decision_by_first_name_skips_the_choice(caller: Caller) -> None:
    """A session that is decided by its first name shows its result after the submission."""
    _, path = await open_session(caller, person={"firstName": "Decline"})
    await caller.send("POST", path + "/start")
    await submit(caller, path, document_front=JPEG, face=JPEG)
    assert "You could not be verified" in (await show(caller, path)).body.decode()


async def test_sandbox_without_jinja2_names_the_extra(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that cannot be rendered responds with one sentence; the API works."""
    _, path = await open_session(caller)
    pages._environment.cache_clear()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    try:
        reply = await show(caller, path)
    finally:
        pages._environment.cache_clear()
    assert 501 == reply.status
    assert b'pip install "veriff-async[sandbox]"' in reply.body
    assert json.loads((await caller.send("GET", "/healthz")).body)


def test_vendored_files_are_those_that_their_list_names() -> None:
    """Each file of another project has its version, license and digest in the list, and is unchanged."""
    folder = files("veriff_async.sandbox").joinpath("_web", "static")
    listed = folder.joinpath("VENDORED.txt").read_text(encoding="utf-8")
    for name in ("idiomorph.js",):
        digest = hashlib.sha256(folder.joinpath(name).read_bytes()).hexdigest()
        assert re.search(
            rf"^{name}\n    .* \d+\.\d+\.\d+, .*\n    SHA-256 {digest}\n    License: 0BSD$", listed, re.MULTILINE
        )
