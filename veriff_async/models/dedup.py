"""The key by which stores recognise duplicate webhooks.

Veriff sends a webhook again about every hour, for up to seven days, until it is answered with 200, and people can send
it again by hand (both documented). No member of a message is documented to identify it, so the key consists of kind,
session, attempt, status, time, and a digest of the JSON.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Protocol

from veriff_async.models.json import digest

if TYPE_CHECKING:
    from veriff_async.models.json import JsonObject

__all__ = ("dedup_fields", "dedup_key")


class _SupportsDedup(Protocol):
    kind: ClassVar[str]

    @property
    def raw(self) -> JsonObject: ...

    def _dedup_fields(self) -> tuple[object, object, object, object]: ...


def dedup_key(event: _SupportsDedup) -> str:
    """Return the same text for every delivery of one message."""
    parts = [part.isoformat() if isinstance(part, datetime) else str(part or "") for part in dedup_fields(event)]
    return ":".join((*parts, digest(event.raw) if event.raw else ""))


def dedup_fields(event: _SupportsDedup) -> tuple[object, ...]:
    """Return what the dedup key consists of, except for its digest.

    It is cheap, differs for most pairs of messages, and is the same for every delivery of one message.
    """
    return event.kind, *event._dedup_fields()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  not part of the API
