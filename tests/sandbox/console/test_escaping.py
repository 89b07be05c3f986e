"""The console shows any text as text, wherever it comes from."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Final
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

import pytest
from hypothesis import example, given, settings, strategies as st

from veriff_async.sandbox import Sandbox, VirtualClock

if TYPE_CHECKING:
    from collections.abc import Iterator

HOSTILE: Final = """</script></textarea></title>--><svg/onload=alert(1)>"' autofocus onfocus=alert(1) x='{{7*7}}"""


class Parts(HTMLParser):
    """The elements, attributes and texts of a page."""

    def __init__(self, page: str) -> None:
        """Parse a page."""
        super().__init__()
        self.names: set[tuple[str, str]] = set()
        self.text = ""
        self.values: set[str | None] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect an element."""
        self.names |= {(tag, ""), *((tag, name) for name, _ in attrs)}
        self.values |= {value for _, value in attrs}

    def handle_data(self, data: str) -> None:
        """Collect text."""
        self.text += data


class Browser:
    """Sends requests to a sandbox as a program without scripts does."""

    def __init__(self, sandbox: Sandbox) -> None:
        """Use a sandbox."""
        self.sandbox = sandbox

    def create(self, text: str) -> str:
        """Create a session in which every text is the same one; return its id."""
        person = {"firstName": text, "lastName": text}
        verification = {"person": person, "vendorData": text, "endUserId": text}
        headers = {"X-AUTH-CLIENT": self.sandbox.credentials.api_key, "Content-Type": "application/json"}
        body = json.dumps({"verification": verification}).encode()
        with urlopen(Request(self.sandbox.base_url + "/v1/sessions", body, headers)) as response:  # noqa: S310
            session_id: str = json.load(response)["verification"]["id"]
        return session_id

    def open(self, path: str, /, **form: str) -> Parts:
        """Open a page, or send a form."""
        data = urlencode(form, errors="surrogatepass").encode() if form else None
        try:
            with urlopen(Request(f"{self.sandbox.base_url}/_sandbox/{path}", data)) as response:  # noqa: S310
                return Parts(response.read().decode())
        except HTTPError as error:
            with error:
                if error.code not in {404, 422}:
                    raise
                return Parts(error.read().decode())

    def open_all(self, text: str) -> list[Parts]:
        """Open the pages that show a text, and send it in each form."""
        session_id = self.create(text)
        self.sandbox.decide(session_id, "declined", reason=text)
        webhook_id = self.sandbox.webhooks[-1].id
        in_query = quote(text, errors="replace")
        return [
            self.open(f"sessions/{session_id}"),
            self.open(f"webhooks/{webhook_id}"),
            self.open(f"?search={in_query}"),
            self.open(f"?status={in_query}&after={in_query}"),
            self.open(f"webhooks?state={in_query}&session={in_query}"),
            self.open(f"timeline?kind={in_query}&before={in_query}"),
            self.open(f"sessions/{in_query.replace('/', '%2F')}"),
            self.open(f"sessions/{session_id}/decide", status=text, reason=text, code=text),
            self.open("faults", kind="status", status=text, path=text, times=text),
            self.open("faults/chaos", profile="own", toml=text + "="),
            self.open("settings/urls", **{"url-decision": text + " "}),
            self.open("settings/rules", form="rules", face_quota=text + "x", time_digits=text),
        ]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Run a sandbox."""
    with Sandbox(clock=VirtualClock()) as sandbox:
        yield Browser(sandbox)


@pytest.fixture(scope="module")
def known(browser: Browser) -> set[tuple[str, str]]:
    """Return the elements and attributes that pages have for harmless texts."""
    return {name for text in ("Ada", " ", "x" * 40) for parts in browser.open_all(text) for name in parts.names}


@settings(max_examples=10)
@given(text=st.text(st.characters(), max_size=40) | st.text("<>&\"'/={}%", max_size=12))
@example(text=HOSTILE)
@example(text="\ud800")
@example(text="\x00\u202e\u2028")
def test_no_text_becomes_markup(browser: Browser, known: set[tuple[str, str]], text: str) -> None:
    """No page gets an element or attribute from a text, and none fails."""
    for parts in browser.open_all(text):
        assert set() == parts.names - known


def test_texts_are_shown_unchanged(browser: Browser) -> None:
    """A person sees each character, in texts and in forms."""
    for parts in browser.open_all(HOSTILE)[:2]:
        assert HOSTILE.split("'", maxsplit=1)[0] in parts.text.replace('\\"', '"')
    assert HOSTILE in browser.open(f"?search={quote(HOSTILE)}").values
    assert HOSTILE in browser.open("faults", kind="status", status="x", path=HOSTILE, times="1").values
