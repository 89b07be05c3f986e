"""Veriff's public browser SDKs, unchanged from npm, complete a flow against the sandbox from another origin."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING, Final

import pytest

from tests.sandbox.browser.sites import create_session, serve
from veriff_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Frame, Page

    from tests.browser import Tabs

pytestmark = pytest.mark.timeout(180)

JS_SDK: Final = ("@veriff/js-sdk", "2.0.0", "lib/veriff.js")
INCONTEXT_SDK: Final = ("@veriff/incontext-sdk", "2.5.0", "dist/index.umd.js")
SECONDS: Final = 60

INCONTEXT_PAGE: Final = """<!doctype html><title>Shop</title><h1>Shop</h1><script src="/sdk.js"></script><script>
window.events = [];
const onEvent = (event) => events.push(event);
window.frameOf = (url, options) => window.veriffSDK.createVeriffFrame({url, onEvent, ...options});
</script>"""
JS_PAGE: Final = """<!doctype html><title>Shop</title><div id="veriff-root"></div>
<script>window.module = {exports: {}};</script><script src="/sdk.js"></script><script>
window.begin = (host, apiKey) => {
    const veriff = module.exports.Veriff({host, apiKey, parentId: "veriff-root", onSession: (error, response) => {
        if (error) document.title = JSON.stringify(error); else location.href = response.verification.url;
    }});
    veriff.setParams({vendorData: "user-42"});
    veriff.mount();
};
</script>"""


def fetch_script(package: tuple[str, str, str], cache: Path) -> str:
    """Return a script of an npm package; the archive stays in a cache folder, never in the repository."""
    name, version, member = package
    archive = cache / f"{name.strip('@').replace('/', '-')}-{version}.tgz"
    if not archive.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("npm, which fetches Veriff's SDKs, is not installed")
        partial = cache / str(os.getpid())
        partial.mkdir(exist_ok=True)
        command = [npm, "pack", f"{name}@{version}", "--silent", "--pack-destination", str(partial)]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)  # noqa: S603  a fixed command
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            pytest.skip(f"npm cannot fetch {name} ({type(error).__name__})")
        # Moved when complete: another worker may look for it now.
        (partial / archive.name).replace(archive)
        shutil.rmtree(partial)
    with tarfile.open(archive) as files:
        script = files.extractfile(f"package/{member}")
        assert script is not None
        return script.read().decode()


@pytest.fixture
def cache(pytestconfig: pytest.Config) -> Path:
    """Return the folder for packages, which pytest keeps between runs."""
    return pytestconfig.cache.mkdir("npm")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Run a sandbox in a thread."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def incontext_shop(cache: Path) -> Iterator[str]:
    """Serve a page that uses the in-context SDK."""
    pages = {"/": ("text/html", INCONTEXT_PAGE), "/sdk.js": ("text/javascript", fetch_script(INCONTEXT_SDK, cache))}
    with serve(pages) as address:
        yield address


def wait_for_event(page: Page, event: str) -> None:
    """Wait until the SDK has reported an event."""
    page.wait_for_function("event => events.includes(event)", arg=event)


def submit_specimens(frame: Frame | Page) -> None:
    """Go through the page up to the choice of the result."""
    frame.get_by_role("button", name="Start verification").click()
    frame.get_by_role("button", name="Use specimen pictures").click()
    frame.locator("[data-submit]:focus").click()
    frame.get_by_role("heading", name="submitted").wait_for()


def open_frame(page: Page, url: str, options: str = "{}") -> Frame:
    """Let the SDK open its frame."""
    page.evaluate(f"url => {{ frameOf(url, {options}); }}", url)
    element = page.wait_for_selector("#veriffFrame")
    assert element is not None
    frame = element.content_frame()
    assert frame is not None
    return frame


def test_incontext_sdk_reports_all_steps_and_closes_its_frame(
    incontext_shop: str, sandbox: Sandbox, tabs: Tabs
) -> None:
    """STARTED, SUBMITTED and FINISHED arrive once each, and the frame is removed at the end."""
    page = tabs.open(incontext_shop)
    frame = open_frame(page, create_session(sandbox, callback="https://shop.example/done")["url"], '{lang: "et"}')
    submit_specimens(frame)
    wait_for_event(page, "SUBMITTED")
    frame.get_by_role("button", name="Finish").click()
    wait_for_event(page, "FINISHED")
    page.wait_for_selector("#veriffFrame", state="detached")
    assert ["STARTED", "SUBMITTED", "FINISHED"] == page.evaluate("events")
    assert ["approved"] == [str(session.status) for session in sandbox.sessions]
    assert incontext_shop + "/" == page.url
    assert [] == tabs.errors


def test_incontext_sdk_learns_of_a_cancelled_flow(incontext_shop: str, sandbox: Sandbox, tabs: Tabs) -> None:
    """The button that closes the page is there inside of a frame, and the SDK removes the frame."""
    page = tabs.open(incontext_shop)
    frame = open_frame(page, create_session(sandbox)["url"])
    frame.get_by_role("button", name="Close").click()
    wait_for_event(page, "CANCELED")
    page.wait_for_selector("#veriffFrame", state="detached")
    assert ["CANCELED"] == page.evaluate("events")


def test_incontext_sdk_asks_its_page_to_reload(incontext_shop: str, sandbox: Sandbox, tabs: Tabs) -> None:
    """A page that handles reloads gets the request; the handshake says that it does."""
    page = tabs.open(incontext_shop)
    frame = open_frame(page, create_session(sandbox)["url"], "{onReload: () => { window.reloads = 1; }}")
    frame.get_by_text("About this session").click()
    frame.get_by_role("button", name="reload").click()
    wait_for_event(page, "RELOAD")
    assert 1 == page.evaluate("window.reloads")


def test_js_sdk_creates_a_session_and_its_page_completes_it(cache: Path, sandbox: Sandbox, tabs: Tabs) -> None:
    """The SDK's own form creates a session from another origin, unsigned, and leads to the page."""
    pages = {"/": ("text/html", JS_PAGE), "/sdk.js": ("text/javascript", fetch_script(JS_SDK, cache))}
    with serve(pages) as address:
        page = tabs.open(address)
        # The SDK loads a font from another host.
        page.context.route("https://fonts.googleapis.com/**", lambda route: route.fulfill(content_type="text/css"))
        page.evaluate("([host, key]) => begin(host, key)", [sandbox.base_url, sandbox.credentials.api_key])
        page.get_by_placeholder("Given name").fill("Ada")
        page.get_by_placeholder("Last name").fill("Byron")
        page.get_by_role("button", name="Start Verification").click()
        page.get_by_role("heading", name="Hello Ada").wait_for()
        submit_specimens(page)
        page.get_by_role("button", name="Finish").click()
        page.get_by_role("heading", name="You are verified").wait_for()
        (session,) = sandbox.sessions
        assert ("approved", "user-42") == (session.status, session.vendor_data)
        assert [] == tabs.errors
