"""The console in a real Chromium: accessible, by keyboard, without scripts, and live."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import pytest

from tests.browser import DESKTOP, PHONE, Tabs, check_page
from tests.sandbox.browser.sites import create_session, serve
from veriff_async.sandbox import Fault, Sandbox, WebhookKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

pytestmark = pytest.mark.timeout(120)

FORMS: Final = ("webhooks/order", "faults", "settings")
HOSTILE: Final = "<script>alert(1)</script>"
# Chromium reports each response with an error status. CPython 3.13 names this one as RFC 9110 does.
REASON: Final = HTTPStatus(422).phrase
REFUSED: Final = f"Failed to load resource: the server responded with a status of 422 ({REASON})"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Run a sandbox with webhooks, a fault and a chaos profile."""
    with serve({}) as receiver, Sandbox(chaos="perfect") as sandbox:
        sandbox.webhook_urls = {WebhookKind.DECISION: receiver}
        sandbox.inject(Fault.status(503), path="/other")
        yield sandbox


def fill(sandbox: Sandbox) -> str:
    """Add sessions, one of which has everything that a page can show; return its id."""
    create_session(sandbox, person={"firstName": "Grace"}, vendorData="user-1")
    create_session(sandbox)
    person = {"firstName": HOSTILE, "lastName": "Lovelace"}
    session_id: str = create_session(sandbox, person=person, vendorData=HOSTILE)["id"]
    sandbox.start_attempt(session_id)
    sandbox.decide(session_id, "resubmission_requested", reason_code=203)
    sandbox.decide(session_id, "declined", reason=HOSTILE)
    sandbox.wait_idle_sync()
    return session_id


def press(page: Page, name: str) -> None:
    """Reach a button or link by the Tab key, and press Enter."""
    for _ in range(80):
        page.keyboard.press("Tab")
        # The name of a link includes its hidden text.
        if page.evaluate("document.activeElement.textContent.trim()").startswith(name):
            page.keyboard.press("Enter")
            return
    pytest.fail(f"the Tab key does not reach {name}")


@pytest.mark.parametrize("screen", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_every_page_is_accessible_and_fits(sandbox: Sandbox, tabs: Tabs, screen: dict[str, object]) -> None:
    """axe-core finds nothing, no page is wider than the screen, and none asks another host or runs a name."""
    session_id = fill(sandbox)
    sandbox.hold_webhooks()
    sandbox.decide(session_id, "approved")
    webhook_id = sandbox.webhooks[0].id
    console = sandbox.base_url + "/_sandbox/"
    page = tabs.open(console, **screen)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    session, webhook = f"sessions/{session_id}", f"webhooks/{webhook_id}"
    # axe-core takes most of the time, so it checks most pages in one of the two.
    checked = {True: ("", session, "timeline", "webhooks"), False: (session, webhook, *FORMS)}
    for path in ("", session, "timeline", "webhooks", webhook, *FORMS):
        page.goto(console + path)
        page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
        if path in checked[bool(screen.get("is_mobile"))]:
            check_page(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    assert all(url.startswith(sandbox.base_url) for url in asked)
    assert [] == tabs.errors


def test_long_words_fit_a_small_phone(sandbox: Sandbox, tabs: Tabs) -> None:
    """No name, reason or id makes a page wider than a phone of 320 pixels."""
    created = create_session(sandbox, person={"firstName": "A" * 300}, vendorData="v" * 1000)
    sandbox.start_attempt(created["id"])
    page = tabs.open(created["url"], viewport={"width": 320, "height": 640})
    console = sandbox.base_url + "/_sandbox/"
    urls = (created["url"], console, f"{console}sessions/{created['id']}")
    for status in ("started", "declined"):
        if status == "declined":
            sandbox.decide(created["id"], "declined", reason="r" * 500)
        for url in urls:
            page.goto(url)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (status, url)
    assert [] == tabs.errors


def test_double_click_sends_a_form_once(sandbox: Sandbox, tabs: Tabs) -> None:
    """A second click neither repeats the form nor replaces its result by a refusal."""
    session_id = create_session(sandbox)["id"]
    page = tabs.open(f"{sandbox.base_url}/_sandbox/sessions/{session_id}", **DESKTOP)
    page.get_by_role("button", name="Approve").dblclick()
    page.get_by_text("The session is decided.").wait_for()
    assert [] == tabs.errors


def test_refused_form_keeps_its_problem_while_the_page_follows(sandbox: Sandbox, tabs: Tabs) -> None:
    """The first wrong field has the focus, and a change of the session leaves values and problems as they are."""
    session_id = create_session(sandbox)["id"]
    page = tabs.open(f"{sandbox.base_url}/_sandbox/sessions/{session_id}", **DESKTOP)
    page.get_by_text("Other code, text and score").click()
    page.get_by_label("Risk score").fill("2")
    page.get_by_role("button", name="Decline").click()
    page.get_by_text("The risk score must be a number from 0 to 1.").wait_for()
    assert page.get_by_label("Risk score").evaluate("field => field === document.activeElement")
    page.get_by_text("Live", exact=True).wait_for()
    page.evaluate("document.activeElement.blur()")
    sandbox.start_attempt(session_id)
    page.locator("h1").get_by_text("started").wait_for()
    assert "2" == page.get_by_label("Risk score").input_value()
    assert page.title().startswith("Problem: ")
    # A reload gets the page, and does not send the form again.
    page.reload()
    assert "" == page.get_by_label("Risk score").input_value()
    assert [REFUSED] == tabs.errors


def test_session_is_found_and_decided_by_keyboard(sandbox: Sandbox, tabs: Tabs) -> None:
    """The list follows the search while a person types; Tab and Enter reach everything."""
    fill(sandbox)
    page = tabs.open(sandbox.base_url + "/_sandbox/", **DESKTOP)
    page.get_by_label("Search sessions").focus()
    page.keyboard.type("grace")
    page.get_by_role("status").get_by_text("1 of 1 session").wait_for()
    assert page.url.endswith("?search=grace")
    press(page, "Grace")
    page.get_by_role("heading", name="Grace").wait_for()
    press(page, "Decline")
    page.get_by_role("status").get_by_text("The session is decided.").wait_for()
    assert "done" not in page.url
    assert ["declined"] == [view.status for view in sandbox.sessions if view.vendor_data == "user-1"]
    assert [] == tabs.errors


def test_console_works_without_scripts(sandbox: Sandbox, tabs: Tabs) -> None:
    """Links and forms alone search, decide, and show what is wrong in a form."""
    fill(sandbox)
    page = tabs.open(sandbox.base_url + "/_sandbox/", java_script_enabled=False)
    page.get_by_label("Search sessions").fill("grace")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="Grace").click()
    page.get_by_text("Other code, text and score").click()
    page.get_by_label("Risk score").fill("2")
    page.get_by_label("Reason text").fill("kept")
    page.get_by_role("button", name="Decline").click()
    page.get_by_text("The risk score must be a number from 0 to 1.").wait_for()
    assert "kept" == page.get_by_label("Reason text").input_value()
    page.get_by_label("Risk score").fill("0.5")
    page.get_by_role("button", name="Decline").click()
    page.get_by_text("The session is decided.").wait_for()
    assert [REFUSED] == tabs.errors


def test_colours_follow_the_system(sandbox: Sandbox, tabs: Tabs) -> None:
    """The dark scheme is dark, and the light one light."""
    background = "getComputedStyle(document.body).backgroundColor"
    console = sandbox.base_url + "/_sandbox/"
    found = [tabs.open(console, color_scheme=scheme).evaluate(background) for scheme in ("light", "dark")]
    assert ["rgb(246, 247, 249)", "rgb(15, 20, 26)"] == found


def test_pages_follow_the_sandbox(sandbox: Sandbox, tabs: Tabs) -> None:
    """Lists get new rows; a page of a session gets its status, and keeps a form in use, focus and opened details."""
    page = tabs.open(sandbox.base_url + "/_sandbox/", **DESKTOP)
    page.get_by_text("Live", exact=True).wait_for()
    session_id = create_session(sandbox, person={"firstName": "Ada"})["id"]
    page.get_by_role("link", name="Ada").click()
    page.get_by_text("Live", exact=True).wait_for()
    page.get_by_text("Person and document").click()
    page.get_by_text("Other code, text and score").click()
    page.get_by_label("Reason text").fill("typed")
    sandbox.decide(session_id, "review")
    page.get_by_role("heading", name="Ada review").wait_for()
    assert "typed" == page.get_by_label("Reason text").input_value()
    assert page.get_by_label("Reason text").evaluate("field => field === document.activeElement")
    assert page.locator("#part-1").get_by_text('"firstName"').is_visible()
    page.get_by_role("button", name="Decline").click()
    page.get_by_text("The session is decided.").wait_for()
    assert ["declined"] == [view.status for view in sandbox.sessions]
    assert [] == tabs.errors
    page.get_by_text("Live", exact=True).wait_for()
    sandbox.reset()
    page.get_by_role("heading", name="This page does not exist").wait_for()


ATTEMPTS: Final = """async (base) => {
  const attempt = async (action) => { try { return await action(); } catch { return "refused"; } };
  const element = (name, more) => new Promise((resolve) => {
    const made = Object.assign(document.createElement(name), more);
    made.onload = () => resolve("loaded");
    made.onerror = () => resolve("refused");
    document.head.append(made);
  });
  const post = (options) => fetch(base + "/_sandbox/api/reset", { method: "POST", body: "{}", ...options });
  const form = Object.assign(document.createElement("form"), { method: "POST", action: base + "/_sandbox/settings" });
  const frame = Object.assign(document.createElement("iframe"), { name: "frame", src: base + "/_sandbox/" });
  document.body.append(form, frame);
  form.target = "frame";
  form.submit();
  return [
    await attempt(async () => (await fetch(base + "/_sandbox/api/timeline")).status),
    await attempt(async () => (await post({ headers: { "Content-Type": "application/json" } })).status),
    await attempt(async () => (await post({ mode: "no-cors" })).type),
    await element("script", { src: base + "/_sandbox/api/timeline" }),
    await element("link", { rel: "stylesheet", href: base + "/_sandbox/api/timeline" }),
    await new Promise((resolve) => {
      const source = new EventSource(base + "/_sandbox/api/events");
      source.onopen = () => resolve("opened");
      source.onerror = () => { source.close(); resolve("refused"); };
    }),
  ];
}"""


def test_page_of_another_site_reads_and_changes_nothing(sandbox: Sandbox, tabs: Tabs) -> None:
    """A page that a developer visits can neither read nor drive the sandbox of this machine."""
    create_session(sandbox)
    before = sandbox.timeline.last_number
    with serve({"/": ("text/html", "<title>Other</title>")}) as other:
        # A response without CORS is opaque: it was refused, and the page does not learn that.
        assert ["refused", "refused", "opaque", "refused", "refused", "refused"] == tabs.open(other).evaluate(
            ATTEMPTS, sandbox.base_url
        )

    assert (1, before) == (len(sandbox.sessions), sandbox.timeline.last_number)
