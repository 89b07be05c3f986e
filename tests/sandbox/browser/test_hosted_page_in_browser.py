"""The page behind `session.url` in a real Chromium, as an end-user sees it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest

from tests.browser import DESKTOP, Tabs, check_page
from tests.sandbox.browser.sites import create_session, serve
from veriff_async.sandbox import Sandbox, WebhookKind
from veriff_async.sandbox._specimens import SPECIMENS, specimen
from veriff_async.sandbox._web.pages import load_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

pytestmark = pytest.mark.timeout(120)

CALLBACK: Final = "https://shop.example/done?order=7"
FILES: Final = {"document-front": "document-front.webp", "document-back": "document-back.webp", "face": "face.webp"}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Run a sandbox that posts decisions and events to a server."""
    with serve({}) as receiver, Sandbox() as sandbox:
        sandbox.webhook_urls = {WebhookKind.DECISION: receiver, WebhookKind.EVENT: receiver}
        yield sandbox


def posted(sandbox: Sandbox) -> list[str]:
    """Return what the webhooks report, oldest first."""
    sandbox.wait_idle_sync()
    bodies = [json.loads(delivery.body) for delivery in sandbox.deliveries]
    return [body.get("action") or body["verification"]["status"] for body in bodies]


def use_specimens(page: Page) -> None:
    """Submit the specimens instead of pictures of a camera."""
    page.get_by_role("button", name="Use specimen pictures").click()
    page.locator("img:visible").nth(len(SPECIMENS) - 1).wait_for()
    press(page, "Submit", "Your pictures were submitted")


def press(page: Page, name: str, heading: str) -> None:
    """Press a button, wait for the next page, and check that it is accessible and fits."""
    page.get_by_role("button", name=name).click()
    page.get_by_role("heading", name=heading).wait_for()
    check_page(page)


def test_person_sends_pictures_from_files_and_is_sent_to_the_callback(sandbox: Sandbox, tabs: Tabs) -> None:
    """Files are previewed and stored, both events and the decision are posted, and the callback ends the flow."""
    session = create_session(sandbox, callback=CALLBACK, person={"firstName": "<script>alert(1)</script>"})
    page = tabs.open(session["url"] + "?lang=et")
    page.get_by_role("heading", name="Hello <script>alert(1)</script>").wait_for()
    check_page(page)
    press(page, "Start verification", "Your pictures")
    page.get_by_role("button", name="Submit").click()
    assert 2 == page.get_by_text("This picture is missing.").count()
    check_page(page)
    for context, name in FILES.items():
        with specimen(name) as path:
            page.locator(f"#{context}-file").set_input_files(path)
        page.locator(f"fieldset:has(#{context}-file) img").wait_for(state="visible")
    press(page, "Submit", "Your pictures were submitted")
    page.context.route("https://shop.example/**", lambda route: route.fulfill(body="<title>Shop</title>"))
    page.get_by_role("button", name="Finish").click()
    page.wait_for_url(CALLBACK)

    assert ["started", "submitted", "approved"] == posted(sandbox)
    (view,) = sandbox.sessions
    assert list(FILES) == [media.context for media in view.media]
    expected = [
        load_files()[f"specimens/{name}"].body for name in ("document-front.webp", "document-back.webp", "face.webp")
    ]
    assert expected == [media.path.read_bytes() for media in view.media]
    assert [] == tabs.errors


def test_person_without_camera_sends_specimens_twice(sandbox: Sandbox, tabs: Tabs) -> None:
    """A resubmission opens the page of the session again with its reason, and the held webhook is dropped."""
    session = create_session(sandbox, vendorData="user-42")
    page = tabs.open(session["url"], **DESKTOP)
    check_page(page)
    press(page, "Start verification", "Your pictures")
    use_specimens(page)
    page.get_by_label("Ask for new pictures").check()
    page.locator("select:visible").select_option("203")
    check_page(page)
    press(page, "Finish", "Please send new pictures")
    assert page.get_by_text("Full document not visible").is_visible()
    press(page, "Try again", "Your pictures")
    use_specimens(page)
    page.get_by_label("Decline").check()
    page.locator("select:visible").select_option("106")
    press(page, "Finish", "You could not be verified")
    assert page.get_by_text("Known fraud").is_visible()
    page.goto(session["url"])
    page.get_by_text("there is nothing left to do here").wait_for()

    assert ["started", "submitted", "started", "submitted", "declined"] == posted(sandbox)
    assert [3, 3] == [len(attempt.media) for attempt in sandbox.sessions[0].attempts]
    assert [] == tabs.errors


def test_page_works_without_scripts(sandbox: Sandbox, tabs: Tabs) -> None:
    """Forms alone lead from the start to the callback."""
    session = create_session(sandbox, callback=CALLBACK)
    page = tabs.open(session["url"], java_script_enabled=False)
    page.context.route("https://shop.example/**", lambda route: route.fulfill(body="<title>Shop</title>"))
    page.get_by_role("button", name="Start verification").click()
    page.get_by_role("button", name="Use specimen pictures").click()
    page.get_by_label("Send to review").check()
    page.get_by_role("button", name="Finish").click()
    page.wait_for_url(CALLBACK)
    assert ["started", "submitted", "review"] == posted(sandbox)


def test_keyboard_alone_completes_the_flow(sandbox: Sandbox, tabs: Tabs) -> None:
    """Every control is reached and used with Tab, Enter, Space and the arrow keys."""
    page = tabs.open(create_session(sandbox)["url"], **DESKTOP)

    def move_to(name: str) -> None:
        for _ in range(20):
            page.keyboard.press("Tab")
            if name in page.evaluate("document.activeElement.innerText || document.activeElement.value || ''"):
                return
        pytest.fail(f"{name} cannot be reached with the keyboard")

    move_to("Skip to content")
    move_to("Start verification")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Your pictures").wait_for()
    move_to("Use specimen pictures")
    page.keyboard.press("Enter")
    page.locator("[data-submit]:focus").wait_for()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="submitted").wait_for()
    move_to("approved")
    page.keyboard.press("ArrowDown")
    move_to("Finish")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="You could not be verified").wait_for()
    assert ["started", "submitted", "declined"] == posted(sandbox)
