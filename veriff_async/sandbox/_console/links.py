"""The addresses of the console's pages. Pure."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, urlencode

from veriff_async.sandbox._control.access import API_PREFIX, CONSOLE_PATH

__all__ = (
    "EVENTS_PATH",
    "FAULTS_PATH",
    "ORDER_PATH",
    "PAGES",
    "SESSIONS_PATH",
    "SETTINGS_PATH",
    "TIMELINE_PATH",
    "WEBHOOKS_PATH",
    "link",
    "media_path",
    "session_path",
    "webhook_path",
)

SESSIONS_PATH: Final = CONSOLE_PATH
TIMELINE_PATH: Final = CONSOLE_PATH + "timeline"
WEBHOOKS_PATH: Final = CONSOLE_PATH + "webhooks"
ORDER_PATH: Final = CONSOLE_PATH + "webhooks/order"
EVENTS_PATH: Final = API_PREFIX + "/events"

FAULTS_PATH: Final = CONSOLE_PATH + "faults"
SETTINGS_PATH: Final = CONSOLE_PATH + "settings"

# In the order in which a person looks for a problem: the session, its requests, its webhooks.
PAGES: Final = (
    (SESSIONS_PATH, "Sessions"),
    (TIMELINE_PATH, "Timeline"),
    (WEBHOOKS_PATH, "Webhooks"),
    (FAULTS_PATH, "Faults"),
    (SETTINGS_PATH, "Settings"),
)
"""The pages of the navigation: path and name."""


def link(path: str, **query: str | None) -> str:
    """Return a path with the parameters that have a value."""
    # Without empty ones, so that each page has one address, which a browser marks as visited.
    given = {name: value for name, value in query.items() if value}
    # Addresses that a person has typed may hold surrogates, which UTF-8 lacks.
    return f"{path}?{urlencode(given, errors='replace')}" if given else path


def session_path(session_id: str) -> str:
    """Return the path of the page of a session."""
    return f"{CONSOLE_PATH}sessions/{_segment(session_id)}"


def webhook_path(webhook_id: str) -> str:
    """Return the path of the page of a webhook."""
    return f"{WEBHOOKS_PATH}/{_segment(webhook_id)}"


def media_path(media_id: str) -> str:
    """Return the path of a file."""
    return f"{CONSOLE_PATH}media/{_segment(media_id)}"


def _segment(text: str) -> str:
    # Braces name a part of a route.
    return quote(text, safe="{}", errors="replace")
