"""Verify the logged-in users of a Flask application; the same works in any WSGI application.

Install: pip install veriff-async flask gunicorn
Run it:  gunicorn --workers 2 --threads 16 "flask_app:create_app()"
Settings: the variables of VeriffClient.from_env(), and
    SESSION_SECRET  signs the cookies of your users: 32 characters or more; the same value in each process
    VERIFF_INBOX    a file that all processes of this machine share (veriff-inbox.db)
    DEMO_LOGIN=1    adds POST /login?user=..., which stands in for the login that your site has
In the Customer Portal, set the webhook addresses to https://your.host/webhooks/veriff.

The threads of a worker process share one client, which runs in an event loop of its own, in one more thread. Threads do
not survive a fork, so `create_app` must run in each worker: without --preload.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
from contextlib import ExitStack
from types import FrameType
from typing import IO, cast

from anyio.from_thread import BlockingPortal, start_blocking_portal
from flask import Flask, Response, abort, jsonify, make_response, request, session as login
from werkzeug.wsgi import LimitedStream

from veriff_async import (
    BadRequestError,
    ClientClosedError,
    ConflictError,
    Decision,
    DecisionTimeoutError,
    InvalidArgumentError,
    Media,
    MediaError,
    MediaSourceError,
    NotFoundError,
    PayloadTooLargeError,
    RateLimitedError,
    ServerError,
    TransportError,
    VeriffClient,
    VeriffError,
)
from veriff_async.inbox import SqliteInbox
from veriff_async.webhooks import WebhookReceiver

LOG = logging.getLogger("verification")


def read_secret() -> str:
    """Return SESSION_SECRET. With one that is empty or can be guessed, anyone could log in as any user."""
    secret = os.environ.get("SESSION_SECRET", "")
    if len(secret) < 32:
        msg = "SESSION_SECRET needs 32 characters or more, for example those of secrets.token_hex()."
        raise ValueError(msg)
    return secret


def explain(error: VeriffError) -> tuple[int, str]:
    """Return the status of the response, and a sentence on which the user can act."""
    match error:
        case MediaSourceError() | ClientClosedError() | TransportError() | RateLimitedError() | ServerError():
            # ClientClosedError: this process stops, and the next request reaches another one.
            return 503, "The verification service cannot be reached: try again in a few seconds."
        case InvalidArgumentError() | MediaError():
            return 400, str(error)  # an unknown context, an empty file, a file that is not a picture
        case PayloadTooLargeError():
            return 413, "The picture is too large: send a smaller one."
        case NotFoundError():
            return 404, "This verification no longer exists: start a new one."
        case ConflictError() | BadRequestError():
            return 409, "The pictures are already submitted, or one is missing: ask for the decision."
        case _:
            return 502, "The verification service does not accept our requests: try again tomorrow."


def answer_error(error: VeriffError) -> Response:
    """Turn an error of the library into a response."""
    status, sentence = explain(error)
    if status >= 500:
        # The library's messages contain neither secrets nor personal data, so they may be logged.
        LOG.error("%s: %s", type(error).__name__, error)
    response = make_response({"error": sentence}, status)
    if status == 503:
        response.headers["Retry-After"] = "1"
    return response


def user_id() -> str:
    """Return the id of the user who sends the request."""
    if "user" not in login:
        abort(make_response({"error": "Log in first."}, 401))
    return str(login["user"])


def verification_id() -> str:
    """Return the id of the user's verification, which never comes from the request: it could be that of another."""
    user, saved = user_id(), login.get("verification")
    if saved is None or saved["user"] != user:  # not of another user, who has logged out of this browser
        abort(make_response({"error": "Start a verification first."}, 409))
    return str(saved["id"])


class Verification:
    """The client of one worker process, for threads: each method blocks until its call in the event loop has ended."""

    def __init__(self) -> None:
        """Start the event loop, and open the client in it."""
        # A webhook may arrive in any process, so all of them share the inbox: one file, or RedisInbox for many
        # machines.
        inbox = SqliteInbox(os.environ.get("VERIFF_INBOX", "veriff-inbox.db"))
        self.veriff = VeriffClient.from_env(inbox=inbox)
        self.receiver = WebhookReceiver(self.veriff.credentials, inbox)
        with ExitStack() as stack:
            self.portal: BlockingPortal = stack.enter_context(start_blocking_portal())
            for resource in (inbox, self.veriff, self.receiver):  # closed in reverse order
                stack.enter_context(self.portal.wrap_async_context_manager(resource))
            self.close = stack.pop_all().close

    def create(self, user: str) -> str:
        """Create a session, and return its id."""
        # Your own id, and not a name: Veriff returns it with each decision, and shows it in the Customer Portal.
        return self.portal.call(lambda: self.veriff.create_session(vendor_data=user)).id

    def upload(self, session_id: str, media: Media) -> None:
        """Upload a picture."""
        self.portal.call(self.veriff.session(session_id).upload, media)

    def submit(self, session_id: str) -> None:
        """Submit the pictures for a decision."""
        self.portal.call(self.veriff.session(session_id).submit)

    def wait(self, session_id: str, timeout: float) -> Decision:
        """Return the decision."""
        return self.portal.call(lambda: self.veriff.session(session_id).wait_for_decision(timeout=timeout))

    def end_waits_on_sigterm(self) -> None:
        """End requests that wait for a decision when the server stops, which completes open requests before."""
        previous = signal.getsignal(signal.SIGTERM)

        def handle(number: int, frame: FrameType | None) -> None:
            self.portal.start_task_soon(self.veriff.end_waits)
            if callable(previous):
                previous(number, frame)

        signal.signal(signal.SIGTERM, handle)


def create_app() -> Flask:  # noqa: C901  its routes
    """Create the application of one worker process."""
    secret = read_secret()  # before anything is opened
    verification = Verification()
    atexit.register(verification.close)
    verification.end_waits_on_sigterm()
    demo = os.environ.get("DEMO_LOGIN") == "1"

    app = Flask(__name__)
    app.secret_key = secret
    # SameSite keeps other sites from sending requests in the name of a user. Plain http is for a demonstration only.
    app.config.update(SESSION_COOKIE_SAMESITE="Lax", SESSION_COOKIE_SECURE=not demo)
    app.register_error_handler(VeriffError, answer_error)

    @app.post("/verification")
    def start() -> tuple[str, int]:
        user = user_id()
        if login.get("verification", {}).get("user") != user or "again" in request.args:
            login["verification"] = {"user": user, "id": verification.create(user)}
        return "", 204

    @app.put("/verification/media/<context>")
    def upload(context: str) -> tuple[str, int]:
        # Relayed as it arrives: a picture is never in memory as a whole. If the connection breaks, gunicorn ends the
        # body as if it were complete, and Veriff would get half a picture. `LimitedStream` raises then.
        length = request.content_length
        picture = request.stream if length is None else cast("IO[bytes]", LimitedStream(request.stream, length))
        verification.upload(verification_id(), Media(picture, context))
        return "", 204

    @app.post("/verification/submit")
    def submit() -> tuple[str, int]:
        verification.submit(verification_id())
        return "", 204

    @app.get("/verification")
    def decide() -> tuple[Response, int]:
        # A thread that waits serves no other request, so wait shortly, and let the page ask again.
        try:
            decision = verification.wait(verification_id(), timeout=5)
        except DecisionTimeoutError:
            return jsonify(status=None), 202
        return jsonify(status=decision.status, new_pictures=decision.needs_resubmission), 200

    @app.route("/webhooks/veriff", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    def receive_webhook() -> Response:
        request.max_content_length = 1_048_576  # a larger body is Flask's own 413
        response = verification.portal.call(
            verification.receiver.handle, request.method, dict(request.headers.items()), request.get_data(cache=False)
        )
        return Response(response.body, status=response.status, headers=dict(response.headers))

    @app.get("/health")
    def health() -> dict[str, int]:
        # For a load balancer: this process runs, and so many requests wait for a decision.
        return {"waiting": verification.veriff.statistics().waiters}

    if demo:

        @app.post("/login")
        def log_in() -> tuple[str, int]:
            login["user"] = request.args["user"]
            return "", 204

    return app
