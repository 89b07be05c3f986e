"""The built site in a real Chromium: nothing overflows, is clipped, unreachable or missing, and the search finds.

`VERIFF_CHROMIUM` names the browser unless it is on PATH; `VERIFF_SCREENSHOTS` names a folder for pictures of failures.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import mimetypes
import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from aiohttp import web

from tests.browser import CHROMIUM, NO_CHROMIUM

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from playwright.async_api import Browser, ConsoleMessage, Page, Request

async_api = pytest.importorskip("playwright.async_api", reason="playwright drives the browser")

HERE: Final = Path(__file__).parent
LAYOUT: Final = HERE.joinpath("layout.js").read_text(encoding="utf-8")
ACCESSIBILITY: Final = HERE.joinpath("accessibility.js").read_text(encoding="utf-8")
WIDTHS: Final = (390, 1280, 1920)
SCHEMES: Final = {390: "light", 1280: "dark"}
HEIGHT: Final = 900
TABS: Final = 2
SECONDS: Final = 100
"""A busy machine may take long for a page."""
FIRST: Final = 5
"""A reader looks at so many results of a search."""

# A script of the page makes wide blocks reachable by the keyboard when the browser has drawn the page at its new size.
# It observes sizes, and observers run after the callbacks of a frame, so the next frame comes after them.
# https://drafts.csswg.org/resize-observer/#html-event-loop
NEXT_FRAME: Final = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"

# axe takes minutes for the thousands of links that Sphinx writes into these.
GENERATED: Final = ("genindex.html", "py-modindex.html", "search.html")

SEARCHES: Final = {
    "upload": ("how-to/upload-media.html",),
    "HEIC": ("how-to/convert-pictures.html", "how-to/upload-media.html"),
    "webhook": ("how-to/receive-webhooks.html", "how-to/parse-webhooks.html"),
    "resubmission": ("how-to/resubmission.html",),
    "timeout": ("how-to/wait-for-decisions.html", "reference/"),
    "proxy": ("how-to/proxies-and-ca-bundles.html",),
    "Lambda": ("how-to/webhooks-in-lambda.html", "examples/lambda.html"),
    "GDPR": ("how-to/delete-personal-data.html",),
    "SQLite": ("how-to/choose-an-inbox.html", "how-to/run-batches.html"),
    "Redis": ("how-to/choose-an-inbox.html", "how-to/run-batches.html", "how-to/task-queues.html"),
    "retry": ("how-to/upload-media.html", "concepts/", "reference/"),
    "signature": ("how-to/rotate-secrets.html", "how-to/check-your-setup.html"),
    "secret": ("how-to/rotate-secrets.html",),
    "batch": ("how-to/run-batches.html",),
    "pytest": ("how-to/test-your-program.html",),
    "sandbox": ("how-to/run-the-sandbox-anywhere.html",),
    "face detector": ("how-to/check-pictures.html",),
    "progress": ("how-to/upload-media.html",),
    "cancel": ("how-to/", "concepts/", "reference/"),
    "performance": ("project/performance.html",),
    "DecisionTimeoutError": ("reference/errors.html",),
    "create_session()": ("reference/client.html",),
    "max_uploads": ("reference/options.html",),
}
"""The words that a reader types, and the pages or folders of which one must be among the first results."""


@pytest.fixture(autouse=True)
def blockbuster() -> None:
    """Let the loop block: playwright reads files when it starts, and none of our code runs here."""


@pytest.fixture
def chromium() -> str:
    """Return the path of the browser, or skip the test."""
    if CHROMIUM is None:
        pytest.skip(NO_CHROMIUM)
    return CHROMIUM


@pytest.fixture
def axe() -> str:
    """Return the script of axe-core, which a Python package contains."""
    spec = importlib.util.find_spec("axe_core_python")
    if spec is None or spec.origin is None:
        pytest.skip("axe-core-python contains the checks of accessibility")
    return Path(spec.origin).with_name("axe.min.js").read_text(encoding="utf-8")


@pytest.fixture
def files(site: Path) -> dict[str, bytes]:
    """Return the content of all files of the site by their paths."""
    found = {path.relative_to(site).as_posix(): path.read_bytes() for path in site.rglob("*") if path.is_file()}
    assert "index.html" in found, f"{site} contains no site"
    return found


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    """Return the folder for pictures of failures."""
    folder = Path(os.environ.get("VERIFF_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@asynccontextmanager
async def serve(files: dict[str, bytes]) -> AsyncIterator[str]:
    """Serve files from memory on a free local port."""

    async def respond(request: web.Request) -> web.Response:
        name = request.path.removeprefix("/")
        if name not in files:
            raise web.HTTPNotFound
        kind, _ = mimetypes.guess_type(name)
        return web.Response(body=files[name], content_type=kind or "application/octet-stream")

    app = web.Application()
    app.router.add_get("/{name:.*}", respond)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        yield f"http://127.0.0.1:{port}/"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def open_browser(chromium: str) -> AsyncIterator[Browser]:
    """Run the browser without a window."""
    async with async_api.async_playwright() as playwright:
        browser: Browser = await playwright.chromium.launch(executable_path=chromium)
        try:
            yield browser
        finally:
            await browser.close()


def find_pages(files: Iterable[str]) -> list[str]:
    """Return the pages to visit: all but the source code that Sphinx renders."""
    return sorted(name for name in files if name.endswith(".html") and not name.startswith(("_modules/", "_static/")))


@asynccontextmanager
async def open_tab(browser: Browser, address: str, problems: list[str]) -> AsyncIterator[Page]:
    """Open a tab that reports errors of the console, and requests to other hosts."""
    context = await browser.new_context(viewport={"width": WIDTHS[0], "height": HEIGHT}, reduced_motion="reduce")
    context.set_default_timeout(SECONDS * 1000)
    page = await context.new_page()

    def check_message(message: ConsoleMessage) -> None:
        if message.type == "error":
            problems.append(f"{page.url} logs {message.text}")

    def check_request(request: Request) -> None:
        if not request.url.startswith((address, "data:")):
            problems.append(f"{page.url} requests {request.url}")

    page.on("console", check_message)
    page.on("request", check_request)
    page.on("pageerror", lambda error: problems.append(f"{page.url} raises {error}"))
    try:
        yield page
    finally:
        await context.close()


@pytest.mark.asyncio
@pytest.mark.timeout(1800)
async def test_every_page_can_be_read_at_every_width(
    files: dict[str, bytes], chromium: str, axe: str, screenshots: Path
) -> None:
    """A page on a phone, a laptop and a desktop hides nothing, logs no error, asks no other host, and suits axe."""
    names = find_pages(files)
    problems: list[str] = []
    waiting = iter(names)

    async def visit(browser: Browser, address: str) -> None:
        async with open_tab(browser, address, problems) as page:
            for name in waiting:
                await page.goto(address + name)
                await page.evaluate(axe)
                for width in WIDTHS:
                    await page.set_viewport_size({"width": width, "height": HEIGHT})
                    await page.evaluate(NEXT_FRAME)
                    found = list(await page.evaluate(LAYOUT))
                    if width in SCHEMES and name not in GENERATED:
                        found += await find_barriers(page, name, width)
                    if found:
                        picture = screenshots / f"{name.removesuffix('.html').replace('/', '-')}-{width}.png"
                        await page.screenshot(path=picture, full_page=not any("scheme" in problem for problem in found))
                        problems.extend(f"{name} at {width} px: {problem} (see {picture})" for problem in found)

    async with serve(files) as address, open_browser(chromium) as browser, asyncio.TaskGroup() as tabs:
        for _ in range(TABS):
            tabs.create_task(visit(browser, address))

    assert names
    assert not problems, "\n" + "\n".join(sorted(problems))


async def find_barriers(page: Page, name: str, width: int) -> list[str]:
    """Return what axe-core reports of a page: every rule on a phone, the colours of the dark scheme on a laptop.

    The frame is the same on every page, so the landing page stands for all.
    """
    scheme = SCHEMES[width]
    await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
    options = {"within": "html" if name == "index.html" else "article", "rules": width == WIDTHS[0]}
    found: list[str] = await page.evaluate(ACCESSIBILITY, options)
    return [f"in the {scheme} scheme, {problem}" for problem in found]


@pytest.mark.asyncio
@pytest.mark.timeout(300)
async def test_the_search_finds_the_page_that_answers(files: dict[str, bytes], chromium: str) -> None:
    """A page that answers is among the first results for each word that a reader types."""
    problems: list[str] = []
    waiting = iter(SEARCHES.items())

    async def search(browser: Browser, address: str) -> None:
        async with open_tab(browser, address, problems) as page:
            for words, expected in waiting:
                await page.goto(f"{address}search.html?q={words.replace(' ', '+')}")
                await page.wait_for_function(
                    f"""document.querySelectorAll("ul.search > li").length >= {FIRST}
                        || document.querySelector(".search-summary")?.innerText"""
                )
                results = await page.eval_on_selector_all(
                    "ul.search > li > a",
                    f"links => links.slice(0, {FIRST}).map(link => link.pathname.slice(1))",
                )
                if not any(result.startswith(expected) for result in results):
                    problems.append(f"{words} finds {json.dumps(results)}, but not {' or '.join(expected)}")

    async with serve(files) as address, open_browser(chromium) as browser, asyncio.TaskGroup() as tabs:
        for _ in range(TABS):
            tabs.create_task(search(browser, address))

    assert not problems, "\n" + "\n".join(sorted(problems))
