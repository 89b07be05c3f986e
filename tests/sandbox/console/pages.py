"""Opens pages of the console and sends their forms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import FormData

if TYPE_CHECKING:
    from tests.sandbox.conftest import Caller, Reply

__all__ = ("LIST", "page_of", "send_form", "show")

LIST: Final = "/_sandbox/"


def page_of(session_id: str) -> str:
    """Return the path of the page of a session."""
    return f"{LIST}sessions/{session_id}"


async def show(caller: Caller, path: str, status: int = 200) -> str:
    """Open a page."""
    reply = await caller.send("GET", path)
    assert status == reply.status
    return reply.body.decode()


async def send_form(caller: Caller, path: str, /, **fields: str) -> Reply:
    """Send a form."""
    return await caller.send("POST", path, data=FormData(fields, default_to_multipart=False))
