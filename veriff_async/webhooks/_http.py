"""The HTTP rules of webhooks: which requests are read, and the responses. Pure: nothing here waits or reads.

https://help.veriff.com, article 3250261: a webhook is a POST of JSON, only 200 counts, and everything else is sent
again, about every hour for seven days. So a request that Veriff cannot improve by sending it again, such as one of an
unknown kind, is answered 200 too.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

from attrs import frozen

from veriff_async._protocol.arguments import check_text
from veriff_async._protocol.request_arguments import header_items, header_text
from veriff_async.errors import ConfigurationError, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Mapping

__all__ = (
    "FOREIGN",
    "INCOMPLETE",
    "NOT_ALLOWED",
    "NOT_FOUND",
    "NOT_JSON",
    "NOT_POST",
    "NOT_RECORDED",
    "REASONS",
    "RECORDED",
    "STATUSES",
    "TOO_LARGE",
    "TOO_SLOW",
    "UNREADABLE",
    "Receiver",
    "WebhookResponse",
    "check_path",
    "check_receiver",
    "header_value",
    "is_longer",
    "refuse_head",
)

_TEXT: Final = MappingProxyType({"content-type": "text/plain; charset=utf-8"})


@frozen
class WebhookResponse:
    """The response to a request.

    Attributes:
        status: The HTTP status.
        body: One short sentence for people; Veriff reads the status alone.
        headers: The headers, names in lower case; the server adds the length.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = _TEXT


class Receiver(Protocol):
    """An object to which `asgi_app`, `aiohttp_app` and `aiohttp_handler` pass requests.

    `WebhookReceiver` and `IntegrationReceiver` have these methods.
    """

    async def handle(
        self,
        method: str,
        headers: Mapping[str, str],
        body: bytes | AsyncIterable[bytes],
        *,
        remote: str | None = None,
    ) -> WebhookResponse:
        """Receive one request, and return the response to it."""
        ...

    def open(self) -> None:
        """Receive on the running event loop, also after `aclose`."""
        ...

    async def aclose(self) -> None:
        """Refuse further webhooks, and wait for the running ones."""
        ...


RECORDED: Final = WebhookResponse(200, b"The webhook is recorded.")
INCOMPLETE: Final = WebhookResponse(400, b"The connection ended before the body was complete.")
UNREADABLE: Final = WebhookResponse(400, b"The body is signed, but cannot be read.")
# It does not say which check failed: an attacker who guesses keys and signatures learns nothing; the log has the cause.
FOREIGN: Final = WebhookResponse(401, b"This is not a webhook of Veriff for this integration.")
NOT_ALLOWED: Final = WebhookResponse(403, b"Webhooks are not accepted from this address.")
NOT_FOUND: Final = WebhookResponse(404, b"Webhooks are received at another path.")
NOT_POST: Final = WebhookResponse(405, b"A webhook is a POST.", MappingProxyType({**_TEXT, "allow": "POST"}))
TOO_SLOW: Final = WebhookResponse(408, b"The body came too slowly.")
TOO_LARGE: Final = WebhookResponse(413, b"The body is larger than a webhook.")
NOT_JSON: Final = WebhookResponse(415, b"A webhook is JSON, neither compressed nor otherwise encoded.")
NOT_RECORDED: Final = WebhookResponse(503, b"The webhook could not be recorded: send it again.")

STATUSES: Final = frozenset({200, 400, 401, 403, 405, 408, 413, 415, 503})
"""Every status that a receiver responds with; the 404 is the adapters'."""

REASONS: Final = {
    400: "incomplete",
    403: "not_allowed",
    405: "not_post",
    408: "too_slow",
    413: "too_large",
    415: "not_json",
}
"""Why a request was refused before its signature was checked, by the status of the response."""


# Characters that need no care when they are read as a number.
_LONG: Final = 16
_BODY_HEADERS: Final = frozenset({"content-type", "content-encoding", "content-length"})


def check_receiver(receiver: object) -> None:
    """Check the receiver that an adapter is given.

    Raises:
        ConfigurationError: It is not a receiver.
    """
    methods = (callable(getattr(receiver, name, None)) for name in ("handle", "open", "aclose"))
    if isinstance(receiver, type) or not all(methods):
        msg = (
            f"receiver must be a WebhookReceiver, not {type(receiver).__name__}: pass WebhookReceiver(credentials, "
            "inbox)."
        )
        raise ConfigurationError(msg)


def check_path(path: object) -> str:
    """Check the path that an adapter receives at.

    Raises:
        ConfigurationError: It is not a str, does not begin with a slash, or is a pattern, a URL or a query: no request
            would ever match it.
    """
    text = check_text("path", path)
    if (text and not text.startswith("/")) or {"?", "#", "{", "}"} & set(text):
        msg = 'path must begin with a slash and have none of ? # { }: pass for example "/webhooks/veriff".'
        raise ConfigurationError(msg)
    return text


def refuse_head(method: object, headers: Mapping[str, str], max_body: int) -> WebhookResponse | None:
    """Return the refusal of a request before its body is read, or ``None`` if it may be a webhook.

    Raises:
        InvalidArgumentError: The method is not a str, or the headers are not a mapping of str to str.
    """
    if not isinstance(method, str):
        check_text("method", method, error=InvalidArgumentError)
    if method != "POST":
        return NOT_POST
    content_type = encoding = length = ""
    for name, value in header_items(headers, _BODY_HEADERS):
        # A header that comes twice has both values, so that it matches neither.
        if name == "content-type":
            content_type += (content_type and ", ") + header_text(name, value)
        elif name == "content-encoding":
            encoding += (encoding and ", ") + header_text(name, value)
        else:
            length += (length and ", ") + header_text(name, value)
    # A request without a content type may be JSON. The signature covers the bytes as they were sent, and a small
    # compressed body may unpack to a huge one.
    media_type = content_type.partition(";")[0].strip().lower()
    is_json = media_type in {"", "application/json"} or (
        media_type.startswith("application/") and media_type.endswith("+json")
    )
    if not is_json or encoding.strip().lower() not in {"", "identity"}:
        return NOT_JSON
    return TOO_LARGE if is_longer(length, max_body) else None


def header_value(headers: Mapping[str, str], name: str) -> str | None:
    """Return the value of a header, its name in any case; a header that comes twice has both values."""
    values = [header_text(name, value) for _, value in header_items(headers, (name,))]
    return ", ".join(values) if values else None


def is_longer(content_length: str | None, limit: int) -> bool:
    """Return whether a body is announced to be longer than a limit; an announcement that is not a number is ignored."""
    text = (content_length or "").strip()
    if not (text.isascii() and text.isdigit()):
        return False
    if len(text) < _LONG:
        return int(text) > limit
    digits, limit_digits = text.lstrip("0"), str(limit)
    # Compared as str: converting a number of a million digits would take seconds.
    return (len(digits), digits) > (len(limit_digits), limit_digits)
