"""The FastAPI application in a real Chromium at the width of a phone: the user's way from the form to the decision."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest
from anyio import to_thread

from tests.browser import CHROMIUM, NO_CHROMIUM, PHONE, check_page, open_chromium
from tests.examples.test_fastapi import DARK, PICTURES, app, load, sandbox, start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blockbuster import BlockBuster
    from playwright.sync_api import BrowserContext, Page

    from veriff_async.sandbox import Sandbox

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

__all__ = ("app", "load", "sandbox", "start")  # fixtures

LABELS: Final = {
    "document-front": "Front of your document",
    "document-back": "Back of your document",
    "face": "Your face",
}


class Phone:
    """A page in a browser of the width of a phone; it collects what must not happen."""

    def __init__(self, page: Page, url: str) -> None:
        """Open the application."""
        self.page = page
        self.errors: list[str] = []
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self._check(request.url, url))
        page.goto(url)

    def _check(self, requested: str, own: str) -> None:
        if not requested.startswith((own, "blob:" + own)):
            self.errors.append(f"a request to another host: {requested}")

    def choose(self, context: str, picture: bytes) -> None:
        """Choose a file, as the camera of a phone does."""
        name = {"name": "image.jpg", "mimeType": "image/jpeg", "buffer": picture}
        self.page.get_by_role("button", name=LABELS[context]).set_input_files(name)  # type: ignore[arg-type]

    def fill(self, **pictures: bytes) -> None:
        """Fill the form, with the specimens by default."""
        if self.page.get_by_label("First name").count():
            self.page.get_by_label("First name").fill("Ada")
            self.page.get_by_label("Last name").fill("Byron")
        for context, picture in {**PICTURES, **pictures}.items():
            self.choose(context, picture)

    def send(self) -> None:
        """Press the button."""
        self.page.get_by_role("button", name="Send pictures").click()

    def sees(self, title: str) -> None:
        """Wait for a heading, and check that the page is accessible and fits."""
        self.page.get_by_role("heading", name=title).wait_for()
        self.check()

    def check(self) -> None:
        """Fail for violations of axe-core and for content that is wider than the screen."""
        check_page(self.page)


@contextmanager
def chromium() -> Iterator[Callable[..., BrowserContext]]:
    """Run the browser of this machine, and return a function that opens a new profile with the width of a phone."""
    with open_chromium() as browser:
        yield lambda **options: browser.new_context(**PHONE, **options)  # type: ignore[arg-type]


def use_phone(url: str, sandbox: Sandbox) -> None:
    """Go through the verification of one person, with a bad picture, and see what another person sees."""
    with chromium() as open_profile:
        phone = Phone(open_profile().new_page(), url)
        phone.sees("Verify your identity")

        # Progress, as the page shows it: the texts of the state next to the picture.
        phone.page.evaluate(
            """() => {
                window.seen = [];
                const state = document.getElementById("document-front-state");
                new MutationObserver(() => seen.push(state.textContent)).observe(state, {childList: true});
            }"""
        )
        phone.fill(face=DARK)
        phone.send()
        phone.page.locator("#face-state", has_text="The picture is too dark").wait_for()
        assert ["Sending", "Checking", "Sent"] == [text for text in phone.page.evaluate("seen") if text]
        assert phone.page.get_by_role("checkbox", name="Send this picture anyway").is_visible()
        phone.check()
        phone.choose("face", PICTURES["face"])
        phone.send()
        phone.sees("We are checking your pictures")

        (session,) = sandbox.sessions
        # The pictures that were good were not sent again.
        assert sorted(LABELS) == sorted(media.context for media in session.media)
        phone.page.reload()
        phone.sees("We are checking your pictures")
        sandbox.decide(session.id, "resubmission_requested", reason_code=203)
        phone.sees("Please send better pictures")
        assert phone.page.get_by_text("all four corners in the picture").is_visible()
        phone.fill()
        phone.send()
        phone.sees("We are checking your pictures")

        other = Phone(open_profile(color_scheme="dark").new_page(), url)
        other.sees("Verify your identity")
        other.fill()
        other.send()
        other.sees("We are checking your pictures")
        sandbox.decide(sandbox.sessions[1].id, "declined")
        other.sees("We could not verify you")

        sandbox.decide(session.id, "approved")
        phone.sees("You are verified")
        other.page.get_by_role("button", name="Start again").click()
        other.sees("Verify your identity")
        other.page.go_back()
        other.page.go_forward()

        # Chromium logs each response with an error, and the dark picture is one.
        expected = "Failed to load resource: the server responded with a status of 422"
        assert [] == [error for error in phone.errors + other.errors if not error.startswith(expected)]

        plain = open_profile(java_script_enabled=False).new_page()
        plain.goto(url)
        plain.get_by_label("First name").fill("Ada")
        plain.get_by_label("Last name").fill("Byron")
        for context in ("document-front", "face"):
            file = {"name": "image.jpg", "mimeType": "image/jpeg", "buffer": PICTURES[context]}
            plain.get_by_role("button", name=LABELS[context]).set_input_files(file)  # type: ignore[arg-type]
        plain.get_by_role("button", name="Send pictures").click()
        plain.get_by_role("heading", name="We are checking your pictures").wait_for()
        sandbox.decide(sandbox.sessions[2].id, "expired")
        plain.get_by_role("heading", name="This verification has expired").wait_for()  # the page refreshes itself


@pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM)
async def test_person_is_verified_with_a_phone(app: str, sandbox: Sandbox, blockbuster: BlockBuster) -> None:
    """Form, progress, hints, live status, another round, and the decision work in a browser, accessibly."""
    blockbuster.deactivate()  # playwright has a loop of its own, and blocks it
    await to_thread.run_sync(use_phone, app, sandbox)
