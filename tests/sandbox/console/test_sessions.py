"""The console over HTTP: the list of sessions, the page of one, and the forms that decide it."""

from __future__ import annotations

import re
from base64 import b64encode
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from anyio import to_thread

from tests.sandbox.console.pages import LIST, page_of, send_form, show
from veriff_async.models.attempt import UserDefinedStatus
from veriff_async.models.enums import Status
from veriff_async.models.record import PepSanctionMatch
from veriff_async.models.registry import IneResult
from veriff_async.sandbox._console.sessions import PICTURE_TYPES

if TYPE_CHECKING:
    from tests.sandbox.conftest import Caller

pytestmark = pytest.mark.anyio

JPEG = b64encode(b"\xff\xd8\xff" + bytes(200)).decode()


def names(page: str) -> list[str]:
    """Return the names in the list."""
    return re.findall(r"<a href=\"/_sandbox/sessions/[^\"]+\"><bdi>([^<]+)</bdi>", page)


async def test_empty_list_shows_a_command_that_creates_a_session(caller: Caller) -> None:
    """A person who opens the console first learns how to create a session."""
    page = await show(caller, LIST)
    assert "No sessions yet" in page
    assert f"{caller.sandbox.base_url}/v1/sessions" in page
    assert caller.sandbox.credentials.api_key in page
    assert caller.sandbox.credentials.shared_secret not in page


async def test_list_is_filtered_searched_and_paged(caller: Caller) -> None:
    """Links lead to each status and to older sessions; a search keeps the filter."""
    ids = [await caller.create(person={"firstName": f"Ada {number}"}, vendorData="a b") for number in range(53)]
    caller.sandbox.decide(ids[7], "approved")
    first = await show(caller, LIST)
    assert [f"Ada {number}" for number in range(52, 2, -1)] == names(first)
    (older,) = re.findall(r'href="(/_sandbox/\?after=[^"]+)" rel="next"', first)
    assert ["Ada 2", "Ada 1", "Ada 0"] == names(await show(caller, older))
    approved = await show(caller, LIST + "?status=approved&search=a")
    assert ["Ada 7"] == names(approved)
    assert 'href="/_sandbox/?status=created&amp;search=a"' in approved
    assert [] == names(await show(caller, LIST + "?search=nothing"))
    for query in ("?status=unknown", "?after=" + str(uuid4()), "?after=x"):
        assert 50 == len(names(await show(caller, LIST + query, 422)))


async def test_every_decision_of_a_session_is_a_button(caller: Caller) -> None:
    """The page offers the decisions that can follow, and a form that carries one out leads back to the page."""
    session_id = await caller.create()
    for status, other in (("review", {}), ("declined", {"reason-declined": "106"}), ("approved", {"reason": ""})):
        assert f'name="status" value="{status}"' in await show(caller, page_of(session_id))
        reply = await send_form(caller, page_of(session_id) + "/decide", status=status, **other)
        assert (303, page_of(session_id) + "?done=decided") == (reply.status, reply.headers["Location"])
        assert status == caller.sandbox.session(session_id).status
        assert "The session is decided." in await show(caller, reply.headers["Location"])
    refused = await send_form(caller, page_of(session_id) + "/decide", status="review")
    assert 422 == refused.status
    assert b"review cannot follow" in refused.body


@pytest.mark.parametrize(("status", "never"), [("created", "abandoned"), ("started", "expired")])
async def test_session_that_nobody_started_expires(caller: Caller, status: str, never: str) -> None:
    """One that was started is abandoned instead."""
    session_id = await caller.create()
    if status == "started":
        reply = await send_form(caller, page_of(session_id) + "/start")
        assert 303 == reply.status
    page = await show(caller, page_of(session_id))
    assert f'value="{never}"' not in page
    other = {"abandoned": "expired", "expired": "abandoned"}[never]
    await send_form(caller, page_of(session_id) + "/decide", status=other)
    assert Status(other) == caller.sandbox.session(session_id).status


async def test_decision_takes_another_code_text_and_score(caller: Caller) -> None:
    """The fields of the form end in the decision that the API shows."""
    session_id = await caller.create()
    fields = {"status": "declined", "reason-declined": "106", "code": "543", "reason": "<b>", "risk_score": "0.25"}
    await send_form(caller, page_of(session_id) + "/decide", **fields)
    verification = (await caller.decision(session_id)).json["verification"]
    assert (543, "<b>") == (verification["reasonCode"], verification["reason"])
    page = await show(caller, page_of(session_id))
    assert "&lt;b&gt;" in page
    assert "0.25" in page


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("code", "x"),
        ("code", "1.5"),
        ("code", "9" * 5000),
        ("risk_score", "nan"),
        ("risk_score", "1_0"),
        ("code", "-1"),
    ],
)
async def test_wrong_field_is_shown_again_with_its_problem(caller: Caller, field: str, value: str) -> None:
    """Status 422, the values stay in the form, and the session is unchanged."""
    session_id = await caller.create()
    fields = {"status": "declined", "reason-declined": "106", "reason": "kept", field: value}
    reply = await send_form(caller, page_of(session_id) + "/decide", **fields)
    page = reply.body.decode()
    assert (422, "created") == (reply.status, caller.sandbox.session(session_id).status)
    assert f'value="{value}" aria-invalid="true" aria-describedby="{field}-error"' in page
    assert f'id="{field}-error"' in page
    assert 'value="kept"' in page
    assert '<option value="106" selected>' in page


async def test_end_user_starts_and_submits(caller: Caller) -> None:
    """The buttons act as the end-user, as long as the session takes it."""
    session_id = await caller.create()
    for action in ("start", "submit", "open", "submit"):
        assert f'/{action}"' in await show(caller, page_of(session_id))
        assert 303 == (await send_form(caller, f"{page_of(session_id)}/{action}")).status
    assert "submitted" == caller.sandbox.session(session_id).status
    assert 422 == (await send_form(caller, f"{page_of(session_id)}/start")).status
    assert 422 == (await send_form(caller, f"{page_of(session_id)}/submit")).status


async def test_pictures_are_shown_and_other_files_are_downloads(caller: Caller) -> None:
    """A file that a client has sent never runs as a page of the sandbox."""
    session_id = await caller.create()
    await caller.upload(session_id, JPEG)
    (media,) = caller.sandbox.session(session_id).media
    assert media.mimetype in PICTURE_TYPES
    assert f'<img src="/_sandbox/media/{media.id}"' in await show(caller, page_of(session_id))
    reply = await caller.send("GET", f"/_sandbox/media/{media.id}")
    assert await to_thread.run_sync(media.path.read_bytes) == reply.body
    assert ("image/jpeg", "nosniff") == (reply.headers["Content-Type"], reply.headers["X-Content-Type-Options"])
    assert "default-src 'none'; sandbox" == reply.headers["Content-Security-Policy"]
    for unknown in (str(uuid4()), "x", "..%2f..%2fetc%2fpasswd"):
        assert 404 == (await caller.send("GET", f"/_sandbox/media/{unknown}")).status


async def test_results_of_other_checks_are_shown(caller: Caller) -> None:
    """A watchlist screening, matches, registries and user-defined statuses are on the page as JSON."""
    session_id = await caller.create()
    caller.sandbox.complete_watchlist_screening(session_id)
    caller.sandbox.set_pep_matches(session_id, PepSanctionMatch(provider="<b>"))
    caller.sandbox.complete_registry_check(session_id, IneResult(active=True))
    caller.sandbox.set_user_status(session_id, UserDefinedStatus(status="Checked"))
    page = await show(caller, page_of(session_id))
    for words in ("no_match", "&lt;b&gt;", "Result of a registry: Ine<", "Checked"):
        assert words in page


async def test_unknown_pages_lead_back_to_the_list(caller: Caller) -> None:
    """Paths and sessions that do not exist are 404 with a link; wrong methods are no error of the sandbox."""
    for path in (page_of(str(uuid4())), page_of("x"), LIST + "nothing", LIST + "sessions/"):
        assert 'href="/_sandbox/"' in await show(caller, path, 404)
    assert 404 == (await send_form(caller, page_of("x") + "/decide", status="approved")).status


async def test_deleted_session_is_shown_without_buttons(caller: Caller) -> None:
    """It stays visible, and nothing can be done with it."""
    session_id = await caller.create()
    caller.sandbox.decide(session_id, "declined")
    await caller.send("DELETE", f"/v1/sessions/{session_id}", headers=caller.signed(session_id.encode()))
    page = await show(caller, page_of(session_id))
    assert ">deleted<" in page
    assert "/v/" not in re.sub(r"/v/static/\S+", "", page)
    assert "<form" not in page


async def test_pages_forbid_other_hosts_and_inline_scripts(caller: Caller) -> None:
    """The policy names the sandbox only, and no page has a script or style of its own."""
    session_id = await caller.create(callback="https://shop.example/")
    for path in (LIST, page_of(session_id)):
        reply = await caller.send("GET", path)
        assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
        assert "unsafe" not in reply.headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in reply.headers["Content-Security-Policy"]
        page = reply.body.decode()
        assert not re.search(r"<script(?![^>]*src=)|<style| style=| on\w+=", page)
        assert all(source.startswith("/v/static/") for source in re.findall(r'<(?:script|img)[^>]*src="([^"]+)"', page))
