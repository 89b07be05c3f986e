"""How `RedisInbox` passes events to handlers: scripts that lease, extend and settle, each one step for the server.

A lease takes two steps. The first moves sessions from ``ready`` to ``waiting``, in O(log n) for each, so that no two
processes work on the same ones. The second begins an attempt of the first event of each session. If a process dies in
between, its sessions become ready again when the leases would have ended, and no attempt is counted. A single script
would have to compute the names of the hashes, which clusters do not allow: every key of a script must be declared
(https://redis.io/docs/latest/develop/programmability/eval-intro/).

Each step can be repeated when its response was lost: the hash remembers the token of the call that began the attempt,
and that of the call that settled the last one. A settlement that failed for its caller keeps its token for the next
call with the same lease, which then returns whether one of them was applied.

A lease whose caller was cancelled, or which fails after the first step, is given back: the attempts that have begun are
taken back, and the other sessions become ready.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from attrs import evolve

from veriff_async._protocol.delivery_schedule import MISSING_KEY, UNREADABLE
from veriff_async._protocol.json.decode import decode_error
from veriff_async.errors import DecodeError, InboxError
from veriff_async.inbox._redis_delivery_scripts import (
    CLAIM_SCRIPT,
    EXTEND_SCRIPT,
    GIVE_BACK_SCRIPT,
    LEASE_SCRIPT,
    REQUEUE_SCRIPT,
    SETTLE_SCRIPT,
)
from veriff_async.inbox._redis_layout import (
    BATCH_SIZE,
    NO_SESSION,
    DeliveryEntry,
    EventMark,
    dump_outcome,
    member_of,
    new_token,
    session_of,
    split_entry,
)
from veriff_async.models.delivery import Delivery, DeliveryOutcome, DeliveryStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection, Sequence

    from redis.asyncio import Redis

    from veriff_async.inbox._redis_codec import RedisCodec
    from veriff_async.inbox._redis_layout import RedisLayout
    from veriff_async.models.events import WebhookEvent

__all__ = ("Attempt", "RedisDeliveries")

# The member of the queue, the number of its event, or nothing for the first event of a session, and a token.
Attempt: TypeAlias = "tuple[str, str, str]"

# Waiting members that a lease makes ready at most; more are made ready by the next one.
_MOVED: Final = 500

# Settlements without a response whose tokens are remembered.
_MAX_FAILED_SETTLEMENTS: Final = 1_000


class RedisDeliveries:
    """The queue of one inbox."""

    def __init__(self, layout: RedisLayout, codec: RedisCodec) -> None:
        """Take the names of the keys, and what decodes texts."""
        self._layout = layout
        self._codec = codec
        self._failed_settlements: OrderedDict[str, str] = OrderedDict()

    async def lease(
        self, client: Redis, limit: int, seconds: float, attempts: list[Attempt]
    ) -> Sequence[Delivery[WebhookEvent]]:
        """Lease the first events of sessions that are due.

        Args:
            client: The client.
            limit: How many to lease.
            seconds: Seconds until the leases end.
            attempts: Gets each attempt before it begins, for `give_back` after a cancellation or an error.

        Raises:
            InboxError: This process lacks the keys of all events that are due; other processes can lease them.
        """
        layout, found = self._layout, list[Delivery["WebhookEvent"]]()
        while len(found) < limit:
            wanted = min(limit - len(found), BATCH_SIZE)
            keys = (layout.ready, layout.waiting, layout.latest, layout.open)
            moved = max(wanted, _MOVED)
            response = client.eval(
                CLAIM_SCRIPT, len(keys), *keys, self._layout.given_time, str(wanted), str(seconds), str(moved)
            )
            members = await cast("Awaitable[list[bytes]]", response)
            if not members:
                break
            names = [member.decode("utf-8", "surrogatepass") for member in members]
            begun = [
                (name, name.partition(":")[2] if name.startswith(NO_SESSION) else "", new_token()) for name in names
            ]
            attempts += begun
            problem = await self._begin(client, begun, seconds, found)
            if problem is not None and not found:
                raise problem
            if problem is not None:  # the events that were given back would be leased again
                break
        return found

    async def give_back(self, client: Redis, attempts: Sequence[Attempt], error: str | None = None) -> None:
        """End attempts as if they had not begun, some of which may not have."""
        layout = self._layout
        queue = (layout.ready, layout.waiting, layout.latest, layout.open, layout.counts)
        for start in range(0, len(attempts), BATCH_SIZE):
            part = attempts[start : start + BATCH_SIZE]
            keys = [*queue, *(layout.hash_of(name) for name, _, _ in part)]
            arguments = [layout.given_time, dump_outcome((), error)[1], *(text for each in part for text in each)]
            await cast("Awaitable[int]", client.eval(GIVE_BACK_SCRIPT, len(keys), *keys, *arguments))

    async def extend(
        self, client: Redis, deliveries: Collection[Delivery[WebhookEvent]], seconds: float
    ) -> frozenset[str]:
        """Let leases end later; return those that are held."""
        layout, held, ordered = self._layout, set[str](), list(deliveries)
        for start in range(0, len(ordered), BATCH_SIZE):
            part = ordered[start : start + BATCH_SIZE]
            names = [_names_of(delivery) for delivery in part]
            hashes = [layout.hash_of(member) for member, _, _ in names]
            keys = [layout.ready, layout.waiting, layout.latest, *hashes]
            arguments = [self._layout.given_time, str(seconds), *(text for each in names for text in each)]
            response = client.eval(EXTEND_SCRIPT, len(keys), *keys, *arguments)
            held |= {part[index].lease for index in await cast("Awaitable[list[int]]", response)}
        return frozenset(held)

    async def settle(self, client: Redis, delivery: Delivery[WebhookEvent], outcome: DeliveryOutcome) -> bool:
        """Store an outcome; return whether the lease was held."""
        session, names = member_of(delivery.event.session_id), _names_of(delivery)
        call = self._failed_settlements.pop(delivery.lease, None) or new_token()
        try:
            return await self._settle(client, session, names, outcome, call)
        except BaseException:
            # Only an attempt can end: after the outcome `leased`, a repetition must store the next outcome.
            if outcome.status is not DeliveryStatus.LEASED:
                self._failed_settlements[delivery.lease] = call
                if len(self._failed_settlements) > _MAX_FAILED_SETTLEMENTS:
                    self._failed_settlements.popitem(last=False)
            raise

    async def requeue(self, client: Redis, session_id: str | None, dedup_key: str) -> bool:
        """Queue a stored event again."""
        layout, session = self._layout, member_of(session_id)
        key, name = layout.hash_of(session), dedup_key.encode("utf-8", "surrogatepass")
        async with client.pipeline(transaction=False) as pipe:
            pipe.time()  # pyright: ignore[reportUnknownMemberType]  as redis-py has it
            pipe.hmget(key, [b"key:" + name, "touched", "open", "first", "after"])
            clock, values = await pipe.execute()
        mark, touched, open_events, first, after = cast("list[bytes | None]", values)
        if mark is None or layout.is_expired(touched, open_events, layout.time(*cast("tuple[int, int]", clock))):
            return False
        number = EventMark.load(mark).number
        if number is None:  # an earlier version stored it
            numbers = range(int(first or 0), int(after or 0))
            bodies = await client.hmget(key, [f"event:{number}" for number in numbers]) if numbers else []  # pyright: ignore[reportUnknownMemberType]  as it has it
            for candidate, body in zip(numbers, cast("list[bytes | None]", bodies), strict=True):
                if body is not None and split_entry(body)[0] == name:
                    number = candidate
        if number is None:
            return False
        queue = (layout.ready, layout.waiting, layout.latest, layout.open, layout.dead)
        keys = (*queue, key, layout.counts, layout.requeued)
        member = f"{session}:{number}" if session_id is None else session
        arguments = (self._layout.given_time, member, str(number), new_token(), session, name)
        response = client.eval(REQUEUE_SCRIPT, len(keys), *keys, *arguments)
        return bool(await cast("Awaitable[int]", response))

    async def _begin(
        self, client: Redis, attempts: Sequence[Attempt], seconds: float, found: list[Delivery[WebhookEvent]]
    ) -> InboxError | None:
        """Begin attempts, and add their deliveries to the others; return an error if this process lacks a key."""
        layout, problem, missing = self._layout, None, list[Attempt]()
        queue = (layout.ready, layout.waiting, layout.latest, layout.open, layout.counts)
        keys = [*queue, *(layout.hash_of(name) for name, _, _ in attempts)]
        arguments = [layout.given_time, str(seconds), *(text for each in attempts for text in each)]
        response = client.eval(LEASE_SCRIPT, len(keys), *keys, *arguments)
        for index, number, *row in await cast("Awaitable[list[list[bytes]]]", response):
            name, _, token = attempt = attempts[int(index)]
            try:
                found.append(self._load(name.encode("utf-8", "surrogatepass"), f"{number.decode()}:{token}", row))
            except (DecodeError, InboxError, ValueError, KeyError) as error:
                if isinstance(error, InboxError) and self._codec.lacks_key(row[1], row[4], row[5]):
                    # Another process, or this one with the right ring, can handle it.
                    problem = error
                    missing.append(attempt)
                    continue
                # It can never be handled, and an error here would keep the other events from being handled too.
                session_name = NO_SESSION if name.startswith(NO_SESSION) else name
                await self._settle(client, session_name, (name, number.decode(), token), UNREADABLE, token)
        if missing:
            await self.give_back(client, missing, MISSING_KEY)
        return problem

    def _load(self, member: bytes, lease: str, row: Sequence[bytes | None]) -> Delivery[WebhookEvent]:
        """Return what a script has leased.

        Raises:
            DecodeError: The event or the state cannot be read.
            InboxError: The key of one of them is missing.
        """
        text, body, mark, touched, state, submission = row
        if text is None or body is None or touched is None:
            problem = "expected an event @ $"
            raise decode_error(problem)
        session_id, entry = session_of(member), DeliveryEntry.load(text)
        stored = EventMark("") if mark is None else EventMark.load(mark)
        shown = None
        if state is not None and session_id is not None:
            saved = self._codec.decode_submission(submission, session_id)
            shown = evolve(self._codec.load_state(state, session_id), submission=saved, recorded_at=float(touched))
        return Delivery(
            event=self._codec.load_entry(body, session_id),
            attempt=entry.attempts,
            state=shown,
            ignored=stored.ignored,
            recorded_at=float(touched) if stored.recorded_at is None else stored.recorded_at,
            handled_by=entry.handled_by,
            lease=lease,
        )

    async def _settle(
        self, client: Redis, session: str, names: tuple[str, str, str], outcome: DeliveryOutcome, call: str
    ) -> bool:
        layout = self._layout
        queue = (layout.ready, layout.waiting, layout.latest, layout.open, layout.dead)
        keys = (*queue, layout.hash_of(session), layout.counts, layout.requeued)
        results = (*dump_outcome(outcome.handled_by, outcome.error), str(outcome.delay), str(int(outcome.counts)))
        arguments = (
            self._layout.given_time,
            *names,
            outcome.status.value[0],
            *results,
            session,
            str(layout.expiry),
            call,
        )
        response = client.eval(SETTLE_SCRIPT, len(keys), *keys, *arguments)
        return bool(await cast("Awaitable[int]", response))


def _names_of(delivery: Delivery[WebhookEvent]) -> tuple[str, str, str]:
    """Return the member of the queue, the number of the event and the token of an attempt."""
    number, _, token = delivery.lease.partition(":")
    session_id = delivery.event.session_id
    return (f"{NO_SESSION}:{number}" if session_id is None else member_of(session_id)), number, token
