"""Keys by which stores find sessions of a person, so that the values themselves are stored in the events alone."""

from __future__ import annotations

import hmac
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from veriff_async.models.events import DecisionEvent, UnknownEvent, WatchlistEvent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from veriff_async.models.events import WebhookEvent

__all__ = (
    "ERASED",
    "SECRET",
    "event_search_keys",
    "event_search_values",
    "other_secret_ranges",
    "search_key",
    "secret_key",
)

ERASED: Final = "erased"
"""The field of keys by which an inbox recognises sessions that it has erased."""

SECRET: Final = "secret"  # noqa: S105  a name
"""The field of keys by which an inbox recognises with which secrets it has made the keys of a session."""

# 128 bits: two values of one inbox have the same key with a chance below 1 in 10^18 even among 10^10 values.
_KEY_BYTES: Final = 16

# All keys of secrets are between these. Another key is there with a chance of 1 in 2^64.
_FIRST_SECRET_KEY: Final = bytes(_KEY_BYTES // 2)
_AFTER_SECRET_KEYS: Final = bytes(_KEY_BYTES // 2 - 1) + b"\x01"


def search_key(field: str, value: str, *, secret: bytes = b"") -> bytes:
    """Return the key of a value: 16 bytes, from which the value cannot be computed if the secret is not known.

    Args:
        field: ``vendor_data``, ``end_user_id``, or `ERASED` for the id of a session.
        value: The value.
        secret: The secret of an encrypted store, else nothing.
    """
    message = b"\0".join((field.encode(), value.encode("utf-8", "surrogatepass")))
    return hmac.digest(secret, message, "sha256")[:_KEY_BYTES]


def secret_key(secret: bytes) -> bytes | None:
    """Return the key that a session gets with keys made with a secret; ``None`` without a secret.

    The values of such a session cannot be found by a process that lacks the secret, but this key can: keys of secrets
    follow each other in an index.
    """
    return _FIRST_SECRET_KEY + search_key(SECRET, "", secret=secret)[: _KEY_BYTES // 2] if secret else None


def other_secret_ranges(secrets: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield ranges, without their ends, that have all keys of secrets other than these.

    If an index has a key in one of them, a search with these secrets would be incomplete.
    """
    known = sorted(filter(None, map(secret_key, secrets)))
    yield from pairwise((_FIRST_SECRET_KEY, *known, _AFTER_SECRET_KEYS))


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
