"""Keys by which stores find sessions of a person, so that the values themselves are stored in the events alone."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

from veriff_async.models.events import DecisionEvent, UnknownEvent, WatchlistEvent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from veriff_async.models.events import WebhookEvent

__all__ = ("ERASED", "event_search_keys", "event_search_values", "search_key")

ERASED: Final = "erased"
"""The field of keys by which an inbox recognises sessions that it has erased."""

# 128 bits: two values of one inbox have the same key with a chance below 1 in 10^18 even among 10^10 values.
_KEY_BYTES: Final = 16


def search_key(field: str, value: str, *, secret: bytes = b"") -> bytes:
    """Return the key of a value: 16 bytes, from which the value cannot be computed if the secret is not known.

    Args:
        field: ``vendor_data``, ``end_user_id``, or `ERASED` for the id of a session.
        value: The value.
        secret: The secret of an encrypted store, else nothing.
    """
    message = b"\0".join((field.encode(), value.encode("utf-8", "surrogatepass")))
    return hmac.digest(secret, message, "sha256")[:_KEY_BYTES]


def event_search_keys(event: WebhookEvent, *, secret: bytes = b"") -> Iterator[tuple[str, bytes]]:
    """Yield the field and the key of each value by which the session of an event can be found."""
    for field, value in event_search_values(event):
        yield field, search_key(field, value, secret=secret)


def event_search_values(event: WebhookEvent) -> Iterator[tuple[str, str]]:
    """Yield the field and the value of each value by which the session of an event can be found."""
    for field, member in (("vendor_data", "vendorData"), ("end_user_id", "endUserId")):
        value: object
        if isinstance(event, DecisionEvent):
            value = getattr(event.decision, field)
        elif isinstance(event, WatchlistEvent):
            value = getattr(event.screening, field)
        elif isinstance(event, UnknownEvent):
            value = event.raw.get(member)  # newer kinds have them where most kinds do
        else:
            value = getattr(event, field, None)
        if isinstance(value, str) and value:
            yield field, value
