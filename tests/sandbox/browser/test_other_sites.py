"""Pages of other sites can follow a link to the console of a sandbox, and no more: in a real Chromium."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.sandbox.browser.sites import create_session, serve
from veriff_async.sandbox import Sandbox

if TYPE_CHECKING:
    from tests.browser import Tabs

TOKEN: Final = "a-token-for-tests"
# Each way in which a page can send a request, with the cookies that the browser has.
ATTACK: Final = """async ([api, id]) => {
  const seen = [];
  const note = (promise) => promise.then((response) => seen.push(response.type), () => seen.push("refused"));
  const decide = api + "/sessions/" + id + "/decide", body = '{"status": "approved"}';
  const sent = { credentials: "include", method: "POST", body };
  await note(fetch(decide, { ...sent, headers: { "Content-Type": "application/json" } }));
  await note(fetch(decide, { ...sent, mode: "no-cors" }));
  await note(fetch(api + "/credentials", { credentials: "include" }));
  navigator.sendBeacon(decide, new Blob([body], { type: "application/json" }));
  await new Promise((done) => { const source = new EventSource(api + "/events", { withCredentials: true });
    source.onopen = () => { seen.push("events"); done(); }; source.onerror = () => { source.close(); done(); }; });
  await new Promise((done) => { const form = document.createElement("form"), frame = document.createElement("iframe");
    frame.name = "target"; frame.onload = done; document.body.append(frame, form);
    form.action = decide; form.method = "post"; form.enctype = "text/plain"; form.target = "target"; form.submit(); });
  return seen;
}"""


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize("token", [None, TOKEN])
def test_other_origins_cannot_control_the_sandbox(tabs: Tabs, name: str, token: str | None) -> None:
    """Pages of another site, and of another port of the same site, change and read nothing, even with the cookie."""
    with Sandbox(control_token=token) as sandbox, serve({"/": ("text/html", "<!doctype html>")}) as site:
        session_id = create_session(sandbox)["id"]
        page = tabs.open(sandbox.console_url)
        page.goto(site.replace("localhost", name))
        seen = page.evaluate(ATTACK, [sandbox.control_url, session_id])

        # An opaque response has neither a status nor a body.
        assert ["refused", "opaque", "refused"] == seen
        assert "created" == sandbox.session(session_id).status


def test_a_link_on_another_site_opens_the_console(tabs: Tabs) -> None:
    """The link that the sandbox prints works from a chat or a build log as well."""
    with Sandbox(control_token=TOKEN) as sandbox:
        link = f'<!doctype html><a href="{sandbox.console_url}">Console</a>'
        with serve({"/": ("text/html", link)}) as site:
            page = tabs.open(site)
            page.click("a")
            page.wait_for_url(sandbox.base_url + "/_sandbox/")
            assert 200 == page.evaluate("() => fetch('/_sandbox/api/clock').then((response) => response.status)")
    assert [] == tabs.errors
