"""Sites of another origin, and sessions without a client, for the tests in a browser."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from veriff_async.sandbox import Sandbox

__all__ = ("create_session", "serve")


def create_session(sandbox: Sandbox, **verification: object) -> Any:  # noqa: ANN401  JSON
    """Create a session with an unsigned request, and return its members."""
    headers = {"X-AUTH-CLIENT": sandbox.credentials.api_key, "Content-Type": "application/json"}
    body = json.dumps({"verification": verification}).encode()
    with urlopen(Request(sandbox.base_url + "/v1/sessions", body, headers)) as response:  # noqa: S310  the sandbox
        return json.load(response)["verification"]


@contextmanager
def serve(pages: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    """Serve pages (media type and text, by path) and accept every POST; yield the address, whose name is localhost."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, text = pages.get(self.path, ("text/plain", ""))
            self._respond(kind, text.encode())

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._respond("text/plain", b"")

        def _respond(self, kind: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Write nothing to stderr."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            # Another name than the sandbox's 127.0.0.1 is another site for the browser.
            yield f"http://localhost:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
