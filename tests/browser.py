"""The Chromium of the machine: where it is, and how tests of pages open it. `VERIFF_BROWSER` runs these tests."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, BrowserContext, Page

__all__ = ("CHROMIUM", "DESKTOP", "NO_CHROMIUM", "PHONE", "Tabs", "check_page", "open_chromium")

_IS_WANTED: Final = bool(os.environ.get("VERIFF_BROWSER") or os.environ.get("VERIFF_DOCS"))

_FOUND: Final = os.environ.get("VERIFF_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

CHROMIUM: Final = _FOUND if _IS_WANTED else None
"""The path of the browser, or ``None`` if this machine has none or the tests that need it are not wanted."""

NO_CHROMIUM: Final = (
    "no Chromium is on PATH: set VERIFF_CHROMIUM to its path"
    if _IS_WANTED
    else "a browser takes as long as all other tests of the pages: VERIFF_BROWSER=1 opens them in Chromium"
)
"""Why a test that needs the browser is skipped."""

# The keys are those of playwright's `Browser.new_context`.
PHONE: Final = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
DESKTOP: Final = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"}


@contextmanager
def open_chromium() -> Iterator[Browser]:
    """Run the browser without a window."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  only where a browser is

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@frozen
class Tabs:
    """Opens pages for one test, and collects what must not happen in them.

    Attributes:
        browser: The browser.
        errors: Errors of the console and of scripts.
    """

    browser: Browser
    errors: list[str] = field(factory=list)
    _contexts: list[BrowserContext] = field(factory=list)

    def open(self, url: str, **options: object) -> Page:
        """Open a page in a new profile, with the width of a phone by default."""
        context = self.browser.new_context(**{**PHONE, **options})  # type: ignore[arg-type]
        self._contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(url)
        return page

    def close(self, pictures: Path | None, name: str) -> None:
        """Close the profiles; with a folder, keep a picture of each page first."""
        for context in self._contexts:
            for number, page in enumerate(context.pages):
                if pictures is not None:
                    pictures.mkdir(parents=True, exist_ok=True)
                    path = pictures / f"{re.sub(r'[^a-z0-9]+', '-', name.lower())}-{number}.png"
                    page.screenshot(path=path, full_page=True)
            context.close()


def check_page(page: Page) -> None:
    """Fail for violations of axe-core, and for content that is wider than the screen."""
    from axe_core_python.sync_playwright import Axe  # type: ignore[import-untyped]  # noqa: PLC0415

    assert [] == [violation["id"] for violation in Axe().run(page)["violations"]]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
