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

import logging
import os
import signal
from types import FrameType
from typing import IO, cast

from flask import Flask, Response, abort, jsonify, make_response, request, session as login
from werkzeug.wsgi import LimitedStream

from veriff_async import DecisionTimeoutError, Media, VeriffError, blocking, problem_details
from veriff_async.blocking import BlockingClient
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


def answer_error(error: VeriffError) -> Response:
    """Turn an error of the library into a response."""
    problem = problem_details(error)
    if problem.status >= 500 or problem.needs_operator:
        # The library's messages contain neither secrets nor personal data, so they may be logged.
        LOG.error("%s: %s", type(error).__name__, error)
    return make_response(problem.to_dict(), problem.status, {**problem.headers, "Content-Type": problem.media_type})


def user_id() -> str:
    """Return the id of the user who sends the request."""
    if "user" not in login:
        abort(make_response({"detail": "Log in first."}, 401))
    return str(login["user"])


def verification_id() -> str:
    """Return the id of the user's verification, which never comes from the request: it could be that of another."""
    user, saved = user_id(), login.get("verification")
    if saved is None or saved["user"] != user:  # not of another user, who has logged out of this browser
        abort(make_response({"detail": "Start a verification first."}, 409))
    return str(saved["id"])


def end_waits_on_sigterm(veriff: BlockingClient) -> None:
    """End requests that wait for a decision when the server stops, which completes open requests before."""
    previous = signal.getsignal(signal.SIGTERM)

    def handle(number: int, frame: FrameType | None) -> None:
        veriff.end_waits()
        if callable(previous):
            previous(number, frame)

    signal.signal(signal.SIGTERM, handle)


def create_app() -> Flask:  # noqa: C901  its routes
    """Create the application of one worker process."""
    secret = read_secret()  # before anything is opened
    # A webhook may arrive in any process, so all of them share the inbox: one file, or RedisInbox for many machines.
    inbox = SqliteInbox(os.environ.get("VERIFF_INBOX", "veriff-inbox.db"))
    veriff = blocking.open_client(inbox=inbox)  # the end of the process closes it
    receiver = veriff.enter(WebhookReceiver(veriff.credentials, veriff.enter(inbox)))
    end_waits_on_sigterm(veriff)
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
            # Your own id, and not a name: Veriff returns it with each decision, and shows it in the Customer Portal.
            login["verification"] = {"user": user, "id": veriff.create_session(vendor_data=user).id}
        return "", 204

    @app.put("/verification/media/<context>")
    def upload(context: str) -> tuple[str, int]:
        # Relayed as it arrives: a picture is never in memory as a whole. If the connection breaks, gunicorn ends the
        # body as if it were complete, and Veriff would get half a picture. `LimitedStream` raises then.
        length = request.content_length
        picture = request.stream if length is None else cast("IO[bytes]", LimitedStream(request.stream, length))
        veriff.session(verification_id()).upload(Media(picture, context))
        return "", 204

    @app.post("/verification/submit")
    def submit() -> tuple[str, int]:
        veriff.session(verification_id()).submit()
        return "", 204

    @app.get("/verification")
    def decide() -> tuple[Response, int]:
        # A thread that waits serves no other request, so wait shortly, and let the page ask again.
        try:
            decision = veriff.session(verification_id()).wait_for_decision(timeout=5)
        except DecisionTimeoutError:
            return jsonify(status=None), 202
        return jsonify(status=decision.status, new_pictures=decision.needs_resubmission), 200

    @app.route("/webhooks/veriff", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    def receive_webhook() -> Response:
        request.max_content_length = 1_048_576  # a larger body is Flask's own 413
        headers = dict(request.headers.items())
        response = veriff.run(receiver.handle, request.method, headers, request.get_data(cache=False))
        return Response(response.body, status=response.status, headers=dict(response.headers))

    @app.get("/health")
    def health() -> dict[str, int]:
        # For a load balancer: this process runs, and so many requests wait for a decision.
        return {"waiting": veriff.statistics().waiters}

    if demo:

        @app.post("/login")
        def log_in() -> tuple[str, int]:
            login["user"] = request.args["user"]
            return "", 204

    return app
