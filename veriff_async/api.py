"""One coroutine for each call of the API: build the request, exchange it, read the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from veriff_async.protocol import requests, responses

if TYPE_CHECKING:
    from collections.abc import Callable

    from veriff_async.models.decision import Decision
    from veriff_async.models.media import UploadedMedia
    from veriff_async.models.session import SessionInfo
    from veriff_async.protocol.credentials import Credentials
    from veriff_async.protocol.requests import CreateOptions
    from veriff_async.transport.bodies import SignedBody
    from veriff_async.transport.exchange import Exchange

__all__ = ("Api",)


class Api:
    """The calls of one client, without any memory of sessions."""

    def __init__(self, credentials: Credentials, exchange: Exchange) -> None:
        """Take who calls, and over what."""
        self.credentials = credentials
        self._exchange = exchange

    async def create_session(self, options: CreateOptions) -> SessionInfo:
        """Call ``POST /v1/sessions``."""
        request = requests.create_session(self.credentials, options)
        return responses.read_session(await self._exchange.call(request))

    async def submit_session(self, session_id: str) -> SessionInfo | None:
        """Call ``PATCH /v1/sessions/{id}``; ``None`` when an earlier try of this call already did it."""
        request = requests.submit_session(self.credentials, session_id)
        return responses.read_submission(await self._exchange.call(request))

    async def upload_media(self, session_id: str, body: SignedBody, moved: Callable[[int], None]) -> UploadedMedia:
        """Call ``POST /v1/sessions/{id}/media``; `moved` is told the bytes that went out in the current try."""
        request = requests.upload_media(self.credentials, session_id, body.signature)
        return responses.read_upload(await self._exchange.call(request, body, progress=moved))

    async def get_decision(self, session_id: str) -> Decision | None:
        """Call ``GET /v1/sessions/{id}/decision``; ``None`` while undecided."""
        request = requests.get_decision(self.credentials, session_id)
        return responses.read_decision(await self._exchange.call(request))
