"""The body of a request, read within its limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing, nullcontext
from io import BytesIO
from typing import TYPE_CHECKING, cast

from veriff_async._protocol.request_arguments import as_bytes
from veriff_async.errors import InvalidArgumentError
from veriff_async.webhooks import _http

if TYPE_CHECKING:
    from veriff_async.webhooks._http import WebhookResponse

__all__ = ("BodyRefusedError", "read_body")


class BodyRefusedError(Exception):
    """A body that is not read to its end."""

    def __init__(self, response: WebhookResponse) -> None:
        """Store the response to the request."""
        super().__init__(response.status)
        self.response = response


async def read_body(body: bytes | AsyncIterable[bytes], max_bytes: int, seconds: float) -> bytes:
    """Return a body, holding no more than the limit; a generator is closed if it is not read to its end.

    Raises:
        BodyRefusedError: It is too large or too slow, or ends too early.
        InvalidArgumentError: It is of a wrong type.
    """
    if not isinstance(body, AsyncIterable):
        body = as_bytes(body)
        if len(body) > max_bytes:
            raise BodyRefusedError(_http.TOO_LARGE)
        return body
    # The announced length was checked before, but chunked bodies announce none.
    buffer = BytesIO()
    limit = asyncio.timeout(seconds)
    is_generator = isinstance(body, AsyncGenerator)
    source = aclosing(cast("AsyncGenerator[bytes]", body)) if is_generator else nullcontext()
    try:
        async with limit, source:
            async for chunk in body:
                data = as_bytes(chunk, "a chunk of the body")
                if buffer.tell() + len(data) > max_bytes:
                    raise BodyRefusedError(_http.TOO_LARGE)  # noqa: TRY301  the generator is closed on the way
                buffer.write(data)
    except (BodyRefusedError, InvalidArgumentError):
        raise
    except Exception:  # noqa: BLE001  each server has its own error for a connection that is gone
        raise BodyRefusedError(_http.TOO_SLOW if limit.expired() else _http.INCOMPLETE) from None
    return buffer.getvalue()
