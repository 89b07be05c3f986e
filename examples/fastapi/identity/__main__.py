"""Starts the server: python -m identity, or python -m identity --sandbox for a local Veriff without an account."""

from __future__ import annotations

import os
import secrets
import signal
import sys

import uvicorn

from veriff_async.sandbox import Sandbox


def serve(host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM; WEB_CONCURRENCY is the number of worker processes."""
    # The access log would hold the addresses of users. A stuck upload may delay the stop for ten seconds.
    uvicorn.run(
        "identity.app:create_app", factory=True, host=host, port=port, access_log=False, timeout_graceful_shutdown=10
    )


def main() -> None:
    """Read HOST and PORT, and serve."""
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000"))
    if "--sandbox" not in sys.argv[1:]:
        serve(host, port)
        return
    # uvicorn raises the signal again once it has stopped. SIGTERM would then end the process before the sandbox stops.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Sandbox(webhook_url=f"http://127.0.0.1:{port}/webhooks/veriff", decide_after=8) as sandbox:
        os.environ.update(sandbox.environ)  # the worker processes inherit it
        os.environ.setdefault("SECRET_KEY", secrets.token_hex())
        os.environ.setdefault("PUBLIC_URL", f"http://localhost:{port}")
        print(f"Open http://localhost:{port}. The first name Decline or Resubmit chooses the decision.")
        serve(host, port)


if __name__ == "__main__":
    main()
