"""Errors of the control API: a status, a code that programs compare, a message for people, and the name of the field.

Every error under ``/_sandbox/api`` has this form, including those that aiohttp finds before a handler runs.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from veriff_async.errors import ConfigurationError, InvalidArgumentError
from veriff_async.sandbox._errors import ImpossibleChangeError, UnknownRecordError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from veriff_async.models.json import JsonObject

__all__ = ("CODES", "ControlError", "answer_with_json", "dump_response", "error_response", "json_response")

_log: Final = logging.getLogger(__name__)

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

CODES: Final = {
    400: "malformed",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "too_large",
    415: "unsupported_media_type",
    417: "expectation_failed",
    422: "invalid",
    500: "internal",
    501: "not_available",
    503: "stopping",
    507: "no_space",
}
"""The code of each status."""

_MESSAGES: Final = {413: "The body is larger than 1 MiB: send less at once."}
_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class ControlError(Exception):
    """A request that is refused."""

    def __init__(
        self, status: int, message: str, *, field: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        """Refuse a request.

        Args:
            status: HTTP status; it determines the code.
            message: One sentence that names the subject and the remedy.
            field: The field of the input that is wrong.
            headers: More headers of the response.
        """
        super().__init__(message)
        self.status = status
        self.message = message
        self.field = field
        self.headers = headers or {}


def json_response(body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Respond with JSON."""
    return web.Response(
        body=body,
        status=status,
        content_type="application/json",
        headers={**_HEADERS, **(headers or {})},
    )


def dump_response(value: JsonObject) -> bytes:
    """Encode the body of a response, five times as fast as a body in the form of Veriff."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        # A text of a client may have half of a surrogate pair, which only an escape can represent.
        return json.dumps(value, separators=(",", ":")).encode()


def error_response(error: ControlError) -> web.Response:
    """Respond with an error."""
    body = {"code": CODES.get(error.status, "refused"), "message": error.message, "field": error.field}
    return json_response(dump_response({"error": body}), status=error.status, headers=error.headers)


async def answer_with_json(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Return the response of a handler, and turn each error into JSON."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        # aiohttp's own errors, for example of a method that the path does not have.
        kept = {name: value for name, value in error.headers.items() if name in {"Allow", "Location"}}
        message = _MESSAGES.get(error.status, f"{error.reason}.")
        return error_response(ControlError(error.status, message, headers=kept))
    except (web.RequestPayloadError, HttpProcessingError):
        response = error_response(ControlError(400, "The body is not what its headers announce: send it again."))
        # The end of the body is unknown, so the connection cannot carry another request.
        response.force_close()
        return response
    except Exception as error:  # noqa: BLE001  a client gets JSON for an error of ours too
        return error_response(to_control_error(error))


def to_control_error(error: Exception) -> ControlError:
    """Return what a client learns of an error."""
    if isinstance(error, ControlError):
        return error
    if isinstance(error, UnknownRecordError):
        return ControlError(404, str(error))
    # A clock that is real or a server that has stopped are states, which another request may change.
    if isinstance(error, ImpossibleChangeError | ConfigurationError):
        return ControlError(409, str(error))
    if isinstance(error, InvalidArgumentError):
        return ControlError(422, str(error))
    _log.error("An operation of the sandbox's control API has failed.", exc_info=error)
    return ControlError(500, "The sandbox has failed to carry this out: its log has the error.")
