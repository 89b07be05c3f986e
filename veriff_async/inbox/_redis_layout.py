"""The names and formats of the data that `RedisInbox` keeps on its server.

Everything about a session is in one hash, so that one ``WATCH`` guards it and one ``UNLINK`` deletes it. The events
that name no session share one hash. Its fields:

    touched         when the last message was recorded
    state           the state, as `dump_state` encodes it
    submission      see `SubmissionInbox.save_submission`
    first, after    the numbers of its oldest event and of its next one; events are numbered in the order of recording
    gone            the count of numbers in between whose events were deleted before older ones
    event:<number>  ``dedup_key``, kind and body, separated by newlines; an encrypted body is in base64
    key:<dedup_key> the token of the call that stored the event, its number, when it was recorded, why it was ignored
    delivery:<number>  how far the handlers are; only for events that were queued (see `DeliveryEntry`)
    open            the numbers of the events that are queued or leased, the first to handle first; for events without a
                    session only their count, as they do not wait for each other
    dead            the numbers of the events that are dead
    search          the search keys of its events and of its status, `SEARCH_KEY_SIZE` bytes each; it exists as soon as
                    the session is in the index of search keys and in the counts

Hashes of earlier versions have the first five kinds of fields alone, and their ``key:`` fields hold only a token.

The other keys index the hashes. Their members name a session, or in the queue one event without a session:

    touched   sessions by the time of their last message
    open      what has queued or leased events, by the time at which its first event was queued
    ready     the part of `open` that can be leased now, with the same scores
    waiting   the rest of `open`, by the time at which its delay or its lease ends
    latest    the same members by the earliest time at which the present delay is plausible, see `_redis_deliveries`
    requeued  queued or leased events that were recorded before they were queued, by the time of their recording
    dead      dead events, by the time at which they were queued
    search    search keys, each followed by its session; all scores are 0, so that the order is that of the bytes
    changes   a stream of the sessions that have changed
    counts    a hash: the sessions and events by the hour of the last message of the session, and the events that are
              open and leased. Redis may delete a session by itself when it is too old, so that only younger hours count
    indexed   exists when all sessions have a field ``search``
    erased:<digest>  exists for some time after a session was erased
"""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from veriff_async._protocol.delivery import load_names
from veriff_async._protocol.search_keys import ERASED, search_key
from veriff_async.models.delivery import DeliveryStatus
from veriff_async.models.state import IgnoredReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from veriff_async.config import Retention

__all__ = (
    "BATCH_SIZE",
    "NO_SESSION",
    "SEARCH_KEY_SIZE",
    "SECONDS_PER_HOUR",
    "STATUS_LETTERS",
    "STREAM_LENGTH",
    "DeliveryEntry",
    "EventMark",
    "RedisLayout",
    "dump_outcome",
    "hour_of",
    "member_of",
    "new_token",
    "session_of",
    "split_entry",
    "split_search",
)

# Sessions that are read or deleted in one round trip.
BATCH_SIZE: Final = 100

# Changes, at least, that the stream keeps; a subscriber that is further behind reads all states again.
STREAM_LENGTH: Final = 10_000

NO_SESSION: Final = "none"

# A letter for the field, and the key of the value.
SEARCH_KEY_SIZE: Final = 17

SECONDS_PER_HOUR: Final = 3600

STATUS_LETTERS: Final = {status.value[0]: status for status in DeliveryStatus}


def member_of(session_id: str | None) -> str:
    """Return the name of a session, or of all events without one, in keys and indexes."""
    return NO_SESSION if session_id is None else f"session:{session_id}"


def session_of(member: bytes) -> str | None:
    """Return the session that a member of an index names."""
    kind, _, session_id = str(member, "utf-8", "surrogatepass").partition(":")
    return session_id if kind == "session" else None


def new_token() -> str:
    """Return a random text that no other call returns."""
    return secrets.token_hex(8)


def split_entry(entry: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the ``dedup_key``, the kind and the body of a stored event; the body contains no newline."""
    dedup_key, kind, body = entry.rsplit(b"\n", 2)  # a dedup key may contain newlines
    return dedup_key, kind, body


def split_search(text: bytes) -> set[bytes]:
    """Return the search keys of a session, each after its letter."""
    return {text[start : start + SEARCH_KEY_SIZE] for start in range(0, len(text), SEARCH_KEY_SIZE)}


def hour_of(touched: float) -> int:
    """Return the hour by which a session is counted."""
    return int(touched // SECONDS_PER_HOUR)


@frozen
class EventMark:
    """The facts that are stored about an event under its ``dedup_key``.

    Attributes:
        token: The token of the call that stored the event.
        number: The number of the event; ``None`` if an earlier version stored it.
        recorded_at: When it was recorded, likewise.
        ignored: Why it did not count.
    """

    token: str
    number: int | None = None
    recorded_at: float | None = None
    ignored: IgnoredReason | None = None

    @classmethod
    def load(cls, text: bytes) -> EventMark:
        """Decode a mark."""
        token, number, recorded_at, ignored = (*text.decode().split(" "), "", "", "")[:4]
        return cls(
            token,
            int(number) if number else None,
            float(recorded_at) if recorded_at else None,
            IgnoredReason(ignored) if ignored else None,
        )

    def dump(self) -> bytes:
        """Encode the mark."""
        recorded_at = "" if self.recorded_at is None else f"{self.recorded_at:.6f}"
        number = "" if self.number is None else self.number
        return f"{self.token} {number} {recorded_at} {self.ignored or ''}".rstrip().encode()


@frozen(kw_only=True)
class DeliveryEntry:
    """How far the handlers are with an event, as stored: nine texts, separated by tabs, which the scripts change.

    Attributes:
        status: How far they are.
        attempts: The attempts that counted.
        position: When it was queued, with which the order of the queue is made.
        due_at: When its delay or its lease ends.
        span: The delay or the lease in seconds from which `due_at` was computed.
        lease: The token of the present attempt, or of the call that queued the event again.
        settled: The token of the last attempt that was settled.
        handled_by: The handlers that have finished.
        error: Why the last attempt failed.
    """

    status: DeliveryStatus = DeliveryStatus.QUEUED
    attempts: int = 0
    position: float
    due_at: float
    span: float = 0.0
    lease: str = ""
    settled: str = ""
    handled_by: frozenset[str] = field(default=frozenset())
    error: str | None = None

    @classmethod
    def load(cls, text: bytes) -> DeliveryEntry:
        """Decode an entry."""
        status, attempts, position, due_at, span, lease, settled, handled_by, error = text.decode().split("\t")
        return cls(
            status=STATUS_LETTERS[status],
            attempts=int(attempts),
            position=float(position),
            due_at=float(due_at),
            span=float(span),
            lease=lease,
            settled=settled,
            handled_by=load_names(handled_by),
            error=json.loads(error) if error else None,
        )

    def dump(self) -> bytes:
        """Encode the entry."""
        handled_by, error = dump_outcome(self.handled_by, self.error)
        times = f"{self.position:.6f}\t{self.due_at:.6f}\t{self.span:.6f}"
        parts = (self.status.value[0], str(self.attempts), times, self.lease, self.settled, handled_by, error)
        return "\t".join(parts).encode()


def dump_outcome(handled_by: Iterable[str], error: str | None) -> tuple[str, str]:
    """Encode handlers and an error as ASCII texts without tabs."""
    names = sorted(handled_by)
    return json.dumps(names) if names else "", "" if error is None else json.dumps(error)


class RedisLayout:
    """The names of all keys of an inbox, and the rules by which its data expires.

    Attributes:
        retention: How much is kept.
        expiry: Milliseconds after which Redis itself deletes what was not used.
        now: The time in seconds since 1970, if it is not that of the server.
    """

    def __init__(
        self,
        prefix: str,
        retention: Retention,
        now: Callable[[], float] | None,
        search_secrets: Sequence[bytes] = (b"",),
    ) -> None:
        """Take the beginning of all names, the limits, the clock of tests, and the secrets of digests."""
        self._search_secrets = search_secrets
        self._prefix = prefix
        self.retention = retention
        self.now = now
        # A minute more than by the clock of the inbox, which is the one that counts.
        self.expiry = int(min((retention.max_age + 60) * 1000, 2**53))
        self.changes = f"{prefix}:changes"
        self.touched = f"{prefix}:touched"
        self.open = f"{prefix}:open"
        self.ready = f"{prefix}:ready"
        self.waiting = f"{prefix}:waiting"
        self.latest = f"{prefix}:latest"
        self.requeued = f"{prefix}:requeued"
        self.dead = f"{prefix}:dead"
        self.search = f"{prefix}:search"
        self.counts = f"{prefix}:counts"
        self.indexed = f"{prefix}:indexed"

    @property
    def given_time(self) -> str:
        """The time of a test, for a script; nothing for that of the server."""
        return "" if self.now is None else f"{self.now():.6f}"

    def hash_of(self, member: str) -> str:
        """Return the key of the hash of a session, or of the events without one."""
        return f"{self._prefix}:{NO_SESSION if member.startswith(NO_SESSION) else member}"

    def erased_keys(self, session_id: str | None) -> list[str]:
        """Return the keys of which one exists for some time after a session was erased; the first one is for new ones.

        Events without a session are not erased.
        """
        if session_id is None:
            return []
        digests = [search_key(ERASED, session_id, secret=secret).hex() for secret in self._search_secrets]
        return [f"{self._prefix}:erased:{digest}" for digest in digests]

    def time(self, seconds: bytes | int, microseconds: bytes | int) -> float:
        """Return the time: that of the server, which is given, or that of a test."""
        return int(seconds) + int(microseconds) / 1e6 if self.now is None else self.now()

    def is_expired(self, touched: bytes | None, open_events: bytes | None, now: float) -> bool:
        """Return whether a session is too old, unless its events still wait for handlers."""
        return touched is not None and not open_events and float(touched) <= now - self.retention.max_age
