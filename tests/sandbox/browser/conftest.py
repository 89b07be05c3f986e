"""A Chromium for the tests of the sandbox's pages; `VERIFF_SCREENSHOTS` names a folder for pictures of failures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser import CHROMIUM, NO_CHROMIUM, Tabs, open_chromium

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from playwright.sync_api import Browser

_FAILED = pytest.StashKey[bool]()


@pytest.fixture(autouse=True)
def blockbuster() -> None:
    """Let the loop block: playwright has a loop of its own, and blocks it."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Run the browser of this machine, or skip the test."""
    if CHROMIUM is None:
        pytest.skip(NO_CHROMIUM)
    # For a module rather than the run: the loop of playwright must not stay open under tests with loops of their own.
    with open_chromium() as browser:
        yield browser


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember a failure, so that the fixture can keep pictures of its pages."""
    report = yield
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    return report


@pytest.fixture
def tabs(browser: Browser, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tabs]:
    """Open pages; keep pictures of them if the test fails."""
    tabs = Tabs(browser)
    yield tabs
    folder = Path(os.environ.get("VERIFF_SCREENSHOTS") or tmp_path)
    tabs.close(folder if request.node.stash.get(_FAILED, False) else None, request.node.name)
