"""Every link leads to a page and an anchor that exist; an external one is a valid https address of a known host."""

from __future__ import annotations

import html
import os.path
import posixpath
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from tests.docs.pages import ROOT, find_pages

if TYPE_CHECKING:
    from pathlib import Path

SITE: Final = "https://veriff-async.readthedocs.io/en/latest/"
REPOSITORY: Final = re.compile(
    r"https://(?:raw\.githubusercontent|github)\.com/veriff-async/veriff-async/(?:(?:blob|tree)/)?main/"
)
LINK: Final = re.compile(r"""<[a-z][^>]*?\s(?:href|src)="([^"]*)\"""")
ANCHOR: Final = re.compile(r"""<[a-z][^>]*?\s(?:id|name)="([^"]*)\"""")
LOCAL_HOSTS: Final = frozenset({"127.0.0.1", "localhost"})
HOSTS: Final = frozenset(
    {
        "asgi.readthedocs.io",
        "csrc.nist.gov",
        "devdocs.veriff.com",
        "docs.aiohttp.org",
        "docs.python.org",
        "github.com",
        "help.veriff.com",
        "hypothesis.readthedocs.io",
        "keepachangelog.com",
        "mangum.fastapiexpert.com",
        "opentelemetry-python.readthedocs.io",
        "pypi.org",
        "redis.io",
        "redis.readthedocs.io",
        "semver.org",
        "sqlite.org",
        "taskiq-python.github.io",
        "testcontainers.com",
        "veriff-async.readthedocs.io",
        "www.attrs.org",
        "www.postgresql.org",
        "www.rfc-editor.org",
        "www.veriff.com",
    }
)
"""The hosts that pages link to: a typing error in an address is most often one in its host."""


def find_links(site: Path) -> dict[str, set[str]]:
    """Return the addresses in each page of the site but the rendered source code."""
    return {
        page.relative_to(site).as_posix(): {
            html.unescape(link) for link in LINK.findall(page.read_text(encoding="utf-8"))
        }
        for page in sorted(site.rglob("*.html"))
        if not page.is_relative_to(site / "_modules") and not page.is_relative_to(site / "_static")
    }


def find_anchors(site: Path) -> dict[str, set[str]]:
    """Return the anchors of all pages."""
    return {
        page.relative_to(site).as_posix(): {
            html.unescape(name) for name in ANCHOR.findall(page.read_text(encoding="utf-8"))
        }
        for page in site.rglob("*.html")
    }


def test_every_link_of_the_site_leads_to_an_anchor(site: Path) -> None:
    """Links of built pages, with their fragments and pictures, lead to files and anchors of the site."""
    anchors = find_anchors(site)
    links = find_links(site)

    assert links
    broken = {
        f"{page} links to {link}"
        for page, found in links.items()
        for link in found
        if not urlsplit(link).scheme and not leads_somewhere(page, link, site, anchors)
    }
    assert set() == broken


def leads_somewhere(page: str, link: str, site: Path, anchors: dict[str, set[str]]) -> bool:
    """Return whether the file of a link exists, and its anchor too if the file is a page."""
    path, _, fragment = link.partition("#")
    path = unquote(path.partition("?")[0])
    if path.startswith("/"):  # the page for missing pages has absolute addresses
        page, path = "", path.removeprefix("/")
    file = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
    if not site.joinpath(file).is_file():
        return False
    return not fragment or file not in anchors or unquote(fragment) in anchors[file]


def test_every_external_link_is_https_of_a_known_host(site: Path) -> None:
    """An external address of a built page is valid, uses https unless it is local, and names a host of the list."""
    found = {link for links in find_links(site).values() for link in links if urlsplit(link).scheme}
    wrong = {link for link in found if not is_valid(link)}

    assert set() == wrong
    assert {urlsplit(link).hostname for link in found} <= HOSTS | LOCAL_HOSTS


def is_valid(link: str) -> bool:
    """Return whether an address has no spaces, and an https scheme unless its host is local."""
    parts = urlsplit(link)
    if parts.scheme in {"data", "mailto"}:
        return True
    secure = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOCAL_HOSTS)
    return secure and re.fullmatch(r"[^\s<>\"{}|\\^`]+", link) is not None


def test_links_of_the_site_in_other_files_lead_to_anchors(site: Path) -> None:
    """Absolute addresses of the documentation, in files that other sites show, lead to pages and anchors."""
    anchors = find_anchors(site)
    found = {
        link
        for page in find_pages()
        for link in re.findall(rf"{re.escape(SITE)}[^\s)>\"`]*", page.read_text(encoding="utf-8"))
    }

    assert found
    assert set() == {link for link in found if not leads_somewhere("", link.removeprefix(SITE), site, anchors)}


def test_every_link_between_files_leads_to_a_file() -> None:
    """Relative links of pages that are read in the repository, and absolute ones to it, lead to files and headings."""
    broken = []
    for page in find_pages():
        text = re.sub(r"^\s*(```+).*?^\s*\1$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)", text):
            path, _, fragment = REPOSITORY.sub(f"{ROOT}/", link).partition("#")
            if urlsplit(path).scheme:
                continue
            file = page if not path else page.parent.joinpath(path)
            if not file.exists() or (fragment and file.suffix == ".md" and fragment not in find_headings(file)):
                broken.append(f"{os.path.relpath(page, ROOT)} links to {link}")

    assert [] == broken


def find_headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MyST make them, and of its explicit targets."""
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r"^\(([\w-]+)\)=$", text, re.MULTILINE))
