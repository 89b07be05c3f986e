"""Webhooks in Flask, or any WSGI application: one event loop in a thread of its own, shared by all requests.

Run it:  python flask_app.py
Settings: the variables of Credentials.from_env(), VERIFF_INBOX (a file that all workers share), PORT.
A server that forks calls `create_app` in each worker, after the fork: threads do not survive one.
"""

from __future__ import annotations

import atexit
import os
from contextlib import ExitStack

from anyio.from_thread import start_blocking_portal
from flask import Flask, Response, request

from veriff_async import Credentials
from veriff_async.inbox import SqliteInbox
from veriff_async.webhooks import WebhookReceiver


def create_app() -> Flask:
    """Make the application of one worker process."""
    app = Flask(__name__)
    inbox = SqliteInbox(os.environ.get("VERIFF_INBOX", "veriff-inbox.db"))
    receiver = WebhookReceiver(Credentials.from_env(), inbox)
    life = ExitStack()
    portal = life.enter_context(start_blocking_portal())
    life.enter_context(portal.wrap_async_context_manager(inbox))
    life.enter_context(portal.wrap_async_context_manager(receiver))
    atexit.register(life.close)

    @app.route("/webhooks/veriff", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    def receive_webhook() -> Response:
        request.max_content_length = 1_048_576  # a larger body is Flask's own 413
        response = portal.call(
            receiver.handle, request.method, dict(request.headers.items()), request.get_data(cache=False)
        )
        return Response(response.body, status=response.status, headers=dict(response.headers))

    return app


if __name__ == "__main__":
    import signal
    from threading import Thread
    from wsgiref.simple_server import make_server

    with make_server("127.0.0.1", int(os.environ.get("PORT", "8080")), create_app()) as server:
        # As servers for production do: the request under way is answered first. wsgiref would swallow an exit in it.
        signal.signal(signal.SIGTERM, lambda *_: Thread(target=server.shutdown).start())
        server.serve_forever()
