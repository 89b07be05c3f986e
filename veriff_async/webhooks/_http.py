"""What a request must be to be read as a webhook, and what is answered. Pure: nothing here waits or reads.

https://help.veriff.com, article 3250261: a webhook is a POST of JSON, only 200 counts, and everything else is sent
again, about every hour for seven days. So an answer that Veriff can do nothing about is 200 too.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from attrs import frozen

from veriff_async._protocol.arguments import check_text
from veriff_async._protocol.request_arguments import header_items, header_text
from veriff_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = (
    "BROKEN_OFF",
    "FOREIGN",
    "NOT_ALLOWED",
    "NOT_HERE",
    "NOT_JSON",
    "NOT_POSTED",
    "NOT_RECORDED",
    "RECORDED",
    "STATUSES",
    "TOO_LARGE",
    "TOO_SLOW",
    "UNREADABLE",
    "WebhookResponse",
    "check_path",
    "check_receiver",
    "is_json",
    "is_longer",
    "is_plain",
    "refusal",
    "value_of",
)

_TEXT: Final = MappingProxyType({"content-type": "text/plain; charset=utf-8"})


@frozen
class WebhookResponse:
    """What to answer a request with.

    Attributes:
        status: The HTTP status.
        body: One short sentence for people; Veriff reads the status alone.
        headers: The headers, names in lower case; the length is left to the server.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = _TEXT


RECORDED: Final = WebhookResponse(200, b"The webhook is recorded.")
BROKEN_OFF: Final = WebhookResponse(400, b"The body broke off.")
UNREADABLE: Final = WebhookResponse(400, b"The body is signed, but cannot be read.")
# It does not say what is wrong: whoever guesses keys and signatures learns nothing, and the log tells the owner.
FOREIGN: Final = WebhookResponse(401, b"This is no webhook of Veriff's for this integration.")
NOT_ALLOWED: Final = WebhookResponse(403, b"Webhooks are not taken from this address.")
NOT_HERE: Final = WebhookResponse(404, b"Webhooks are received at another path.")
NOT_POSTED: Final = WebhookResponse(405, b"A webhook is posted.", MappingProxyType({**_TEXT, "allow": "POST"}))
TOO_SLOW: Final = WebhookResponse(408, b"The body came too slowly.")
TOO_LARGE: Final = WebhookResponse(413, b"The body is larger than a webhook.")
NOT_JSON: Final = WebhookResponse(415, b"A webhook is JSON, neither compressed nor encoded otherwise.")
NOT_RECORDED: Final = WebhookResponse(503, b"The webhook could not be recorded: send it again.")

STATUSES: Final = frozenset({200, 400, 401, 403, 405, 408, 413, 415, 503})
"""All that a receiver answers with."""


def check_receiver(receiver: object) -> None:
    """Check what an adapter is given.

    Raises:
        ConfigurationError: It is no receiver.
    """
    if isinstance(receiver, type) or not callable(getattr(receiver, "handle", None)):
        msg = f"receiver must be a WebhookReceiver, got {type(receiver).__name__}: make one of credentials and inbox."
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


def refusal(method: str, headers: Mapping[str, str], max_body: int) -> WebhookResponse | None:
    """Return what a request is refused with before its body is read; ``None`` when it may be a webhook.

    Raises:
        InvalidArgumentError: The headers are no mapping of str to str.
    """
    if method != "POST":
        return NOT_POSTED
    if not is_json(value_of(headers, "content-type")) or not is_plain(value_of(headers, "content-encoding")):
        return NOT_JSON
    if is_longer(value_of(headers, "content-length"), max_body):
        return TOO_LARGE
    return None


def value_of(headers: Mapping[str, str], name: str) -> str | None:
    """Return what a header says, its name in any case; one that comes twice says both."""
    values = [header_text(name, value) for key, value in header_items(headers) if key == name]
    return ", ".join(values) if values else None


def is_json(content_type: str | None) -> bool:
    """Tell whether a content type is one of JSON; a request that names none is looked at."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    return kind in {"", "application/json"} or (kind.startswith("application/") and kind.endswith("+json"))


def is_plain(encoding: str | None) -> bool:
    """Tell whether a body comes as it is: what is signed are its bytes, and a small body may unpack to a huge one."""
    return (encoding or "").strip().lower() in {"", "identity"}


def is_longer(content_length: str | None, limit: int) -> bool:
    """Tell whether a body is announced to be longer than a limit; an announcement that is no number says nothing."""
    text = (content_length or "").strip()
    if not (text.isascii() and text.isdigit()):
        return False
    digits, most = text.lstrip("0"), str(limit)
    # Compared as texts: a number of a million digits would take seconds to read.
    return (len(digits), digits) > (len(most), most)
