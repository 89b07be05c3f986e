"""The browser tests of the documentation, in the Chromium of this machine."""

from __future__ import annotations

import os
import re

import pytest

from tests.browser import CHROMIUM, NO_CHROMIUM
from tests.docs.pages import ROOT, read_blocks

PAGE = "docs/how-to/test-with-playwright.md"


@pytest.fixture(autouse=True)
def blockbuster() -> None:
    """Check nothing: the tests run in processes of their own."""


@pytest.mark.timeout(120)
@pytest.mark.skipif(not os.environ.get("VERIFF_DOCS"), reason="VERIFF_DOCS=1 runs the programs of all pages")
@pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM)
def test_the_recipe_passes(pytester: pytest.Pytester, without_coverage: None) -> None:
    """The files of the page, copied as they are, are a suite that passes."""
    files = {}
    for block in read_blocks(PAGE, (ROOT / PAGE).read_text(encoding="utf-8")):
        if name := re.match(r"# (\w+)\.py\n", block.code):
            files[name[1]] = block.code
    assert {"shop", "conftest", "test_shop"} == files.keys()
    # A container runs as root, where Chromium needs this option.
    launch = f'launch(executable_path={CHROMIUM!r}, args=["--no-sandbox"])'
    files["conftest"] = files["conftest"].replace('launch(executable_path=shutil.which("chromium"))', launch)
    assert "--no-sandbox" in files["conftest"]
    pytester.makepyfile(**files)

    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", timeout=100)

    result.assert_outcomes(passed=3)
