"""The contract of inboxes: tests for any implementation of `veriff_async.inbox.Inbox`."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from attrs import evolve

from veriff_async._protocol.webhook import event_from, event_from_decision
from veriff_async.config import Retention
from veriff_async.errors import InboxError
from veriff_async.models.decision_source import DecisionSource
from veriff_async.models.enums import Status
from veriff_async.models.events import DecisionEvent
from veriff_async.models.state import IgnoredReason
from veriff_async.testing._delivery_rules import DeliveryContract
from veriff_async.testing._erasure_rules import ErasureContract
from veriff_async.testing._harness import (
    InboxHandles,
    check_equal,
    get_keys,
    get_state,
    rule,
    subscribe,
    wait_for_change,
)
from veriff_async.testing._requirements import require_durable
from veriff_async.testing._search_rules import SearchContract
from veriff_async.testing._settlement_rules import SettlementContract
from veriff_async.testing._submission_rules import SubmissionContract
from veriff_async.testing._subscription_rules import SubscriptionContract
from veriff_async.testing.factories import (
    decision_event,
    decision_of,
    full_auto_event,
    resubmitted_event,
    session_event,
    watchlist_event,
)

if TYPE_CHECKING:
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.json import JsonObject

__all__ = ("InboxContract",)

_DAY: Final = 86_400.0
# The first of January 2026, from which `decision_event` counts its minutes.
_START: Final = 1_767_225_600.0
_ODD: Final = (" ", "ÜŁ日本🛂", 'it\'s "quoted"; DROP TABLE events;--', "a:b:*?[c]{d}%_\\", "n" * 4_000)


class InboxContract(
    SubscriptionContract,
    SubmissionContract,
    DeliveryContract,
    SettlementContract,
    SearchContract,
    ErasureContract,
):
    """The rules of `veriff_async.inbox.Inbox`, one test each, for inboxes that you write.

    Create a subclass in a module of your tests, with a method `make` that returns your inbox. The tests are synchronous
    methods, for pytest and, together with ``unittest.TestCase``, for unittest; each runs its own event loop. The store
    must be empty at the start of each test: create one in an autouse fixture, or in ``setUp``.

    Attributes:
        durable: Whether recorded events survive the closing of all handles; otherwise rules about that are skipped.

    Example:
        >>> class TestMyInbox(InboxContract):
        ...     @pytest.fixture(autouse=True)
        ...     def fresh(self, tmp_path: Path) -> None:
        ...         self.path = tmp_path / "inbox.db"
        ...
        ...     async def make(self, retention: Retention, now: Callable[[], float]) -> Inbox:
        ...         return MyInbox(self.path, retention=retention, now=now)
    """

    @rule
    async def test_recorded_state_is_visible_in_every_handle(self, store: InboxHandles) -> None:
        """`record` returns the state that `get_states` returns, in the same handle and in another."""
        mine, other = await store.open_two()
        event = session_event("s", "started")

        recorded = await mine.record(event)

        check_equal((recorded.event.dedup_key, recorded.ignored), (event.dedup_key, None), "a first event")
        check_equal(recorded.state, await get_state(mine), "the state that was recorded")
        check_equal(recorded.state, await get_state(other), "the state in another handle")
        check_equal((await get_state(other)).status, Status.STARTED, "the state after the first event")

    @rule
    async def test_duplicate_event_is_stored_once(self, store: InboxHandles) -> None:
        """An event with the same key is stored once, also when another handle records it again."""
        mine, other = await store.open_two()
        await mine.record(session_event("s", "started"))
        before = await mine.record(decision_event("s", "approved", minute=1))

        for inbox in (mine, other, mine):
            again = await inbox.record(decision_event("s", "approved", minute=1))
            check_equal((again.is_duplicate, again.state), (True, before.state), "an event that was recorded again")
        check_equal(len(await get_keys(other)), 2, "stored events")

    @rule
    async def test_concurrent_duplicates_count_once(self, store: InboxHandles) -> None:
        """Of many deliveries of one event at the same time, exactly one is not a duplicate."""
        # Two handles, as in two workers that receive the same delivery because the first responded too late.
        handles = await store.open_two()
        deliveries = (inbox.record(decision_event("s", "approved")) for inbox in handles * 20)

        recorded = await asyncio.gather(*deliveries)

        check_equal(sum(not item.is_duplicate for item in recorded), 1, "deliveries that are not duplicates")
        check_equal(
            {item.state and item.state.status for item in recorded}, {Status.APPROVED}, "states that were returned"
        )
        check_equal(len(await get_keys(handles[1])), 1, "stored events")

    @rule
    async def test_state_follows_the_transition_table(self, store: InboxHandles) -> None:
        """A session goes from start to end by a review and a second attempt, its events spread over two handles."""
        handles = await store.open_two()
        steps = (
            (session_event("s", "started"), "started"),
            (session_event("s", "submitted"), "submitted"),
            (decision_event("s", "review", minute=1), "review"),
            (decision_event("s", "resubmission_requested", minute=2), "resubmission_requested"),
            (session_event("s", "started", attempt_id="second"), "started"),
            (session_event("s", "submitted", attempt_id="second"), "submitted"),
            (decision_event("s", "approved", attempt_id="second", minute=3), "approved"),
        )

        for index, (event, status) in enumerate(steps):
            recorded = await handles[index % 2].record(event)
            check_equal((recorded.state and recorded.state.status, recorded.ignored), (status, None), "each step")
        current = await get_state(handles[0])
        check_equal(current.attempts, ("first", "second"), "attempts")
        check_equal(
            current.effective_decision and current.effective_decision.attempt_id, "second", "the effective decision"
        )
        check_equal(current.source, DecisionSource.WEBHOOK, "the source of the decision")

    @rule
    async def test_ignored_event_has_a_reason(self, store: InboxHandles) -> None:
        """Late, repeated and unrelated events change no state and have a reason; all but duplicates are stored."""
        mine, other = await store.open_two()
        second = session_event("s", "submitted", attempt_id="second")
        for event in (
            decision_event("s", "resubmission_requested", minute=9),
            session_event("s", "started", attempt_id="second"),
            second,
        ):
            await mine.record(event)
        before = await get_state(mine)
        steps = (
            (session_event("s", "submitted"), IgnoredReason.STALE),
            (decision_event("s", "review", minute=1), IgnoredReason.STALE),
            (session_event("s", "started", attempt_id="second"), IgnoredReason.DUPLICATE),
            (decision_event("s", "resubmission_requested", minute=9, ip="::1"), IgnoredReason.UNCHANGED),
            (watchlist_event("s"), IgnoredReason.IRRELEVANT),
        )

        for event, reason in steps:
            recorded = await other.record(event)
            check_equal((recorded.state, recorded.ignored), (before, reason), "an event that changes nothing")
        check_equal(await get_state(mine), before, "the state afterwards")
        check_equal(len(await get_keys(mine)), 7, "stored events")

    @rule
    async def test_final_state_is_not_reverted(self, store: InboxHandles) -> None:
        """Only a correction that was decided later changes a final state."""
        mine, other = await store.open_two()
        before = (await mine.record(decision_event("s", "approved", minute=5))).state
        late = (
            session_event("s", "started"),
            session_event("s", "submitted", attempt_id="third"),
            decision_event("s", "review", minute=9),
            decision_event("s", "resubmission_requested", minute=9),
            decision_event("s", "declined", minute=4),
            decision_event("s", "declined"),
            decision_event("s", "expired", minute=9),
            full_auto_event("s", "declined"),
        )

        for event in late:
            recorded = await other.record(event)
            check_equal(
                (recorded.state, recorded.ignored), (before, IgnoredReason.FINAL), "an event after a final decision"
            )
        check_equal(await get_state(mine), before, "the state afterwards")

    @rule
    async def test_later_correction_replaces_a_final_decision(self, store: InboxHandles) -> None:
        """Veriff's correction replaces a final decision; a repetition of the first decision is ignored then."""
        mine, other = await store.open_two()
        await mine.record(decision_event("s", "declined", minute=1))

        # Both decisions have a time, so the later one is a correction and not a late message.
        corrected = await other.record(decision_event("s", "approved", minute=2))
        late = await mine.record(decision_event("s", "declined", minute=1, ip="::1"))

        check_equal((corrected.state and corrected.state.status, corrected.ignored), ("approved", None), "a correction")
        check_equal(
            (late.state, late.ignored), (corrected.state, IgnoredReason.FINAL), "the decision that was corrected"
        )

    @rule
    async def test_first_webhook_of_a_polled_decision_counts(self, store: InboxHandles) -> None:
        """The first webhook about a decision that polling reported counts, as the same event or with more members."""
        mine, other = await store.open_two()
        for session_id, ip in (("s", None), ("fuller", "::1")):
            event = decision_event(session_id, "approved", minute=1)
            polled = event_from_decision(event.decision) if isinstance(event, DecisionEvent) else event
            posted = decision_event(session_id, "approved", minute=1, ip=ip)

            before = await mine.record(polled, source=DecisionSource.POLL)
            results = [(await other.record(posted)).ignored, (await mine.record(posted)).ignored]

            check_equal(results, [None, IgnoredReason.DUPLICATE], "webhooks about a decision that polling reported")
            check_equal(
                (await other.record(decision_event(session_id, "approved", minute=1, ip="::2"))).ignored,
                IgnoredReason.UNCHANGED,
                "more",
            )
            current = await get_state(mine, session_id)
            check_equal((current.source, before.state and before.state.source), ("webhook", "poll"), "the source")
            check_equal(
                current.effective_decision, before.state and before.state.effective_decision, "the effective decision"
            )
            check_equal(
                (await mine.record(polled, source=DecisionSource.POLL)).ignored,
                IgnoredReason.DUPLICATE,
                "polling again",
            )
        check_equal(len(await get_keys(mine)), 2, "stored events: the same one once")

    @rule
    async def test_change_of_source_wakes_subscribers(self, store: InboxHandles) -> None:
        """The first webhook about a polled decision is reported to subscribers, although no event is added."""
        mine, other = await store.open_two()
        event = decision_event("s", "approved", minute=1)
        await mine.record(event, source=DecisionSource.POLL)
        async with subscribe(other) as changes:
            await mine.record(event)
            await wait_for_change(changes, "s")

    @rule
    async def test_decision_of_an_earlier_attempt_is_stale(self, store: InboxHandles) -> None:
        """Events of an earlier attempt that are repeated after an outage leave the newer attempt unchanged."""
        mine, other = await store.open_two()
        await mine.record(session_event("s", "submitted", attempt_id="second"))
        repeated = (
            decision_event("s", "resubmission_requested", minute=1),
            session_event("s", "submitted"),
            session_event("s", "started"),
        )

        for event in repeated:
            check_equal((await other.record(event)).ignored, IgnoredReason.STALE, "an event of the earlier attempt")
            current = await get_state(mine)
            check_equal(
                (current.status, current.attempt_id, current.effective_decision),
                ("submitted", "second", None),
                "the state",
            )

    @rule
    async def test_decision_time_orders_attempts(self, store: InboxHandles) -> None:
        """A decision made before another attempt was first recorded is about an earlier one, in any order."""
        store.time = _START + 3600
        mine, other = await store.open_two()
        await mine.record(session_event("s", "submitted", attempt_id="second"))
        store.time += 3600
        await other.record(session_event("s", "submitted"))
        late = await mine.record(decision_event("s", "resubmission_requested", minute=30))
        current = await get_state(other)
        check_equal(
            (late.ignored, current.status, current.attempt_id),
            (IgnoredReason.STALE, "submitted", "second"),
            "an earlier attempt",
        )

        # Veriff never sends the request for the first attempt if the end-user submits again within five minutes.
        await mine.record(session_event("held back", "submitted"))
        store.time += 600
        newer = decision_event("held back", "resubmission_requested", attempt_id="second", minute=125)
        check_equal((await other.record(newer)).ignored, None, "a decision made after the first attempt was recorded")

    @rule
    async def test_failed_record_changes_nothing(self, store: InboxHandles) -> None:
        """An error during `record` leaves neither the event nor its state, and the event can be recorded again."""
        mine, other = await store.open_two()
        event = decision_event("s", "approved", minute=1)
        if not isinstance(event, DecisionEvent):
            raise TypeError(event)
        # The event can be written, and the state after it cannot.
        unwritable: JsonObject = {"verification": object()}
        broken = evolve(event, decision=evolve(event.decision, raw=unwritable))

        failed, fine = await asyncio.gather(
            mine.record(broken), mine.record(decision_event("another", "approved")), return_exceptions=True
        )

        outcomes = [isinstance(result, Exception) for result in (failed, fine)]
        check_equal(outcomes, [True, False], "which of two records at the same time fail")
        check_equal(await get_keys(other), [], "its stored events")
        check_equal(dict(await other.get_states(["s"])), {}, "its stored states")
        check_equal((await other.record(event)).ignored, None, "the event, recorded again")

    @rule
    async def test_decision_is_the_same_in_any_time_precision(self, store: InboxHandles) -> None:
        """A decision in milliseconds and in microseconds, or with and without its attempt, is one decision."""
        mine, other = await store.open_two()
        posted = decision_event("s", "resubmission_requested", minute=1)
        before = (await mine.record(posted)).state
        decision = decision_of(posted)
        decided_at = decision.decision_time
        # Polling and webhooks may report the same time with a different number of digits.
        finer = evolve(decision, decision_time=decided_at and decided_at + timedelta(microseconds=678), raw={})

        for again in (finer, evolve(finer, attempt_id=None)):
            recorded = await other.record(event_from_decision(again), source=DecisionSource.POLL)
            check_equal(
                (recorded.state, recorded.ignored),
                (before, IgnoredReason.UNCHANGED),
                "a decision with another precision",
            )

    @rule
    async def test_resubmission_supersedes_its_request(self, store: InboxHandles) -> None:
        """After this application has submitted again, no handle shows the request as the effective decision.

        Neither its repetition nor older events of its attempt restore it; the next decision becomes effective.
        """
        for name, is_recorded in (("known", True), ("unknown", False)):
            mine, other = await store.open_two()
            request = decision_event(name, "resubmission_requested", minute=2)
            if is_recorded:
                await mine.record(session_event(name, "submitted"))
                await other.record(request)
            recorded = await mine.record(resubmitted_event(name, minute=2), source=DecisionSource.POLL)

            check_equal(recorded.ignored, None, "a submission after a request for another attempt")
            late = (
                request,
                decision_event(name, "resubmission_requested", minute=2, ip="::1"),
                session_event(name, "submitted"),
            )
            for event in (*late, resubmitted_event(name, minute=2)):
                await other.record(event)
                current = await get_state(other, name)
                check_equal(
                    (current.status, current.effective_decision),
                    (Status.SUBMITTED, None),
                    "the state after a late event",
                )
            await mine.record(decision_event(name, "resubmission_requested", attempt_id="second", minute=3))
            current = await get_state(other, name)
            check_equal(
                current.effective_decision and current.effective_decision.attempt_id,
                "second",
                "the decision on the new attempt",
            )

    @rule
    async def test_late_resubmission_keeps_a_newer_decision(self, store: InboxHandles) -> None:
        """A submission that is recorded after the decision on it leaves that decision effective."""
        mine, other = await store.open_two()
        await mine.record(decision_event("s", "resubmission_requested", minute=2))
        for status, minute in (("resubmission_requested", 3), ("approved", 4)):
            before = (await mine.record(decision_event("s", status, attempt_id="second", minute=minute))).state
            recorded = await other.record(resubmitted_event("s", minute=2), source=DecisionSource.POLL)

            check_equal(recorded.state, before, "the state after a submission that was recorded late")

    @rule
    async def test_refused_resubmission_restores_its_request(self, store: InboxHandles) -> None:
        """A submission that Veriff refused makes its request effective again, each time."""
        mine, other = await store.open_two()
        for name, is_recorded in (("known", True), ("unknown", False)):
            if is_recorded:
                await mine.record(decision_event(name, "resubmission_requested", minute=2))
            for _ in range(2):
                for refused, status in ((False, Status.SUBMITTED), (True, Status.RESUBMISSION_REQUESTED)):
                    await mine.record(resubmitted_event(name, minute=2, refused=refused), source=DecisionSource.POLL)
                    current = await get_state(other, name)
                    check_equal(
                        (current.status, current.effective_decision is not None),
                        (status, refused),
                        "the state of the request",
                    )
        await mine.record(session_event("known", "submitted", attempt_id="second"))
        before = await get_state(mine, "known")
        await mine.record(resubmitted_event("known", minute=2, refused=True), source=DecisionSource.POLL)
        check_equal(await get_state(other, "known"), before, "the state of an attempt that was submitted since")

    @rule
    async def test_events_without_a_state_are_stored(self, store: InboxHandles) -> None:
        """Events of other and of unknown kinds are stored; a session that only they name has no state."""
        mine, other = await store.open_two()
        # An inbox must store kinds that Veriff adds after its release.
        unknown = event_from({"eventType": "newer.kind", "sessionId": "s", "data": {"a": [1, None, "é"]}})

        for event in (watchlist_event("s"), unknown):
            recorded = await mine.record(event)
            check_equal(
                (recorded.state, recorded.ignored), (None, IgnoredReason.IRRELEVANT), "an event without a state"
            )
        check_equal(dict(await other.get_states(["s"])), {}, "states of a session without one")
        check_equal(await get_keys(other), [watchlist_event("s").dedup_key, unknown.dedup_key], "stored events")

    @rule
    async def test_events_without_a_session_are_stored(self, store: InboxHandles) -> None:
        """Events that name no session are stored together, once each, and belong to no session."""
        mine, other = await store.open_two()
        events = (event_from({"type": "newer"}), watchlist_event(None))

        for event in (*events, *events):
            check_equal((await mine.record(event)).state, None, "the state of no session")
        await mine.record(session_event("None", "started"))
        check_equal(await get_keys(other, None), [event.dedup_key for event in events], "stored events")

    @rule
    async def test_get_events_returns_all_events_in_order(self, store: InboxHandles) -> None:
        """The events of a session come back as recorded: kind, order, key and JSON, none of them twice."""
        mine, other = await store.open_two()
        unknown = event_from({"sessionId": "s", "n": 1.5, "deep": [{"é": None}], "": "\u0000"})
        events = [
            session_event("s", "started"),
            unknown,
            watchlist_event("s"),
            full_auto_event("s", "approved"),
            decision_event("s", "approved"),
        ]
        for index, event in enumerate((*events, *reversed(events))):
            await (mine, other)[index % 2].record(event)

        events_after = list(await other.get_events("s"))

        check_equal(events_after, events, "events")
        check_equal([dict(event.raw) for event in events_after], [dict(event.raw) for event in events], "their JSON")
        check_equal([event.dedup_key for event in events_after], [event.dedup_key for event in events], "their keys")
        check_equal(list(await mine.get_events("another")), [], "events of an unknown session")

    @rule
    async def test_records_survive_closing(self, store: InboxHandles) -> None:
        """A new handle has the states and events after every handle was closed."""
        require_durable(self)
        mine = await store.open()
        await mine.record(session_event("s", "started"))
        before = await mine.record(decision_event("s", "approved", minute=1))
        await store.close()

        after = await store.open()
        check_equal(await get_state(after), before.state, "the state after closing")
        check_equal(len(await get_keys(after)), 2, "events after closing")
        check_equal(
            (await after.record(session_event("s", "started"))).ignored,
            IgnoredReason.DUPLICATE,
            "an event from before the closing",
        )

    @rule
    async def test_old_sessions_are_deleted(self, store: InboxHandles) -> None:
        """A session is deleted as a whole when its last event is too old; a session with newer events stays."""
        # The first event of "s" is 40 days old at the end, its second one 20 days.
        store.retention = Retention(max_age=30 * _DAY)
        mine, other = await store.open_two()
        await mine.record(decision_event("old", "approved"))
        await mine.record(session_event("s", "started"))
        store.time += 20 * _DAY
        await other.record(session_event("s", "submitted"))
        store.time += 20 * _DAY
        await mine.record(session_event("new", "started"))

        check_equal(set(await other.get_states(["old", "s", "new"])), {"s", "new"}, "stored sessions")
        check_equal(len(await get_keys(mine, "old") + await get_keys(mine)), 2, "stored events")
        check_equal(
            (await other.record(decision_event("old", "approved"))).ignored, None, "an event of a deleted session"
        )

    @rule
    async def test_number_of_sessions_is_limited(self, store: InboxHandles) -> None:
        """With more sessions than the limit, those without events for longest are deleted."""
        store.retention = Retention(max_sessions=3)
        inbox = await store.open()
        for session_id in ("a", "b", "c", "a", "d"):
            store.time += 1
            await inbox.record(session_event(session_id, "started"))

        check_equal(set(await inbox.get_states(tuple("abcd"))), {"a", "c", "d"}, "stored sessions")
        check_equal(
            (await inbox.record(session_event("c", "started"))).ignored,
            IgnoredReason.DUPLICATE,
            "an event of a stored session",
        )
        check_equal(
            await get_keys(inbox, "b") + await get_keys(inbox, "d"),
            [session_event("d", "started").dedup_key],
            "stored events",
        )

    @rule
    async def test_number_of_events_is_limited(self, store: InboxHandles) -> None:
        """The newest events of a session are kept, and its state stays."""
        store.retention = Retention(max_events_per_session=3)
        inbox = await store.open()
        events = [event_from({"sessionId": "s", "number": number}) for number in range(5)]
        for event in (decision_event("s", "approved"), *events):
            await inbox.record(event)

        check_equal(await get_keys(inbox), [event.dedup_key for event in events[-3:]], "stored events")
        check_equal(
            (await inbox.record(events[-1])).ignored, IgnoredReason.DUPLICATE, "the newest event, recorded again"
        )
        check_equal((await get_state(inbox)).status, Status.APPROVED, "the state, whose event was deleted")

    @rule
    async def test_get_states_takes_thousands_of_ids(self, store: InboxHandles) -> None:
        """Thousands of ids are looked up in one call; unknown ones are not in the result."""
        inbox = await store.open()
        await asyncio.gather(*(inbox.record(session_event(f"s-{number}", "started")) for number in range(50)))

        states = await inbox.get_states({f"s-{number}" for number in range(5_000)})
        check_equal(set(states), {f"s-{number}" for number in range(50)}, "sessions with a state")
        check_equal([state.session_id for state in states.values()], list(states), "the sessions of the states")
        check_equal(
            {**await inbox.get_states([]), **await inbox.get_states(["?"])},
            {},
            "states of no and of an unknown session",
        )

    @rule
    async def test_ids_may_be_any_text(self, store: InboxHandles) -> None:
        """Ids that are empty, long, or made of characters with a special meaning elsewhere are ordinary ids."""
        mine, other = await store.open_two()
        async with subscribe(other) as changes:
            for odd in _ODD:
                await mine.record(decision_event(odd, "approved", attempt_id=odd))
                await wait_for_change(changes, odd)
        states = await other.get_states(_ODD)
        check_equal(set(states), set(_ODD), "sessions with odd ids")
        for odd in states:
            check_equal(
                (states[odd].session_id, len(await get_keys(other, odd)) > 0), (odd, True), "a session with an odd id"
            )

    @rule
    async def test_unstorable_ids_raise_inbox_error(self, store: InboxHandles) -> None:
        """Characters that many stores cannot hold are stored or raise an `InboxError`, never another error."""
        inbox = await store.open()
        # PostgreSQL refuses NUL in text, and UTF-8 cannot encode half a surrogate pair.
        for odd in ("nul\x00inside", "half \ud83d a sign"):
            try:
                await inbox.record(decision_event(odd, "approved"))
                check_equal((await get_state(inbox, odd)).session_id, odd, "an id that was stored")
            except InboxError:
                continue
        await inbox.record(session_event("s", "started"))

    @rule
    async def test_concurrent_sessions_end_correctly(self, store: InboxHandles) -> None:
        """Fifty sessions whose events arrive at the same time, in any order and handle, get the right final state."""
        handles = await store.open_two()
        ids = [f"s-{number}" for number in range(50)]
        events: list[WebhookEvent] = []
        for session_id in ids:
            events += [
                decision_event(session_id, "approved", attempt_id="second", minute=2),
                session_event(session_id, "started"),
            ]
            events += [
                decision_event(session_id, "resubmission_requested", minute=1),
                session_event(session_id, "submitted"),
            ]

        # An irregular distribution, so that no session's events are all in one handle.
        await asyncio.gather(*(handles[index % 3 % 2].record(event) for index, event in enumerate(events)))

        states = await handles[0].get_states(ids)
        check_equal({state.status for state in states.values()}, {Status.APPROVED}, "states")
        check_equal({len(await get_keys(handles[1], session_id)) for session_id in ids}, {4}, "events of each session")

    @rule
    async def test_new_store_can_be_opened_concurrently(self, store: InboxHandles) -> None:
        """All workers of a server may start at the same moment, on a store that none has used before."""
        # Creating the schema is the step that collides when processes start together.
        handles = [await store.open() for _ in range(6)]

        await asyncio.gather(
            *(inbox.record(session_event(f"s-{index}", "started")) for index, inbox in enumerate(handles))
        )

        check_equal(len(await handles[0].get_states([f"s-{index}" for index in range(6)])), 6, "sessions with a state")

    @rule
    async def test_cancelled_record_is_whole_or_absent(self, store: InboxHandles) -> None:
        """Whenever `record` is cancelled, the event is stored completely or not at all, and can be recorded again."""
        inbox = await store.open()
        # One iteration of the loop more each time cancels `record` at another one of its awaits.
        for iterations in range(6):
            recording = asyncio.create_task(inbox.record(decision_event(f"s-{iterations}", "approved")))
            for _ in range(iterations):
                await asyncio.sleep(0)
            recording.cancel()
            await asyncio.wait([recording])
        for iterations in range(6):
            await inbox.record(decision_event(f"s-{iterations}", "approved"))
            check_equal((await get_state(inbox, f"s-{iterations}")).status, Status.APPROVED, "the state afterwards")
            check_equal(len(await get_keys(inbox, f"s-{iterations}")), 1, "stored events")

    @rule
    async def test_closing_twice_is_allowed(self, store: InboxHandles) -> None:
        """A handle may be closed twice, used or not, and leaves no task."""
        used, unused = await store.open_two()
        await used.record(session_event("s", "started"))
        for inbox in (used, used, unused, unused):
            await inbox.aclose()
