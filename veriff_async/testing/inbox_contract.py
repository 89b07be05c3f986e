"""The rules that every inbox keeps, as tests that a user runs for an inbox over a database of their own."""

from __future__ import annotations

import asyncio
import unittest
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from attrs import evolve

from veriff_async._protocol.webhook import event_from, event_from_decision
from veriff_async.config import Retention
from veriff_async.errors import InboxError
from veriff_async.models.decision import DecisionSource
from veriff_async.models.enums import Status
from veriff_async.models.events import DecisionEvent
from veriff_async.models.state import IgnoredReason
from veriff_async.testing._harness import Store, following, hear, keys, rule, same, state
from veriff_async.testing._subscription_rules import FollowersContract
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
_START: Final = 1_767_225_600.0
"""The first of January 2026, from which `decided` counts its minutes."""
_ODD: Final = (" ", "ÜŁ日本🛂", 'it\'s "quoted"; DROP TABLE events;--', "a:b:*?[c]{d}%_\\", "n" * 4_000)


class InboxContract(FollowersContract):
    """Every rule that an inbox must keep, one test each; `veriff_async.inbox.Inbox` says them in words.

    Make a subclass in a module of your tests, and say in `make` how your inbox is made. The tests are plain synchronous
    methods, for pytest and, beside ``unittest.TestCase``, for unittest; each runs a loop of its own. The store must be
    fresh for each test: make one in an autouse fixture, or in ``setUp``.

    Attributes:
        durable: Whether what was recorded is there after all handles were closed, or rules about that are skipped.

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
    async def test_what_is_recorded_is_known(self, store: Store) -> None:
        """What `record` returns is what `get_states` finds, from the same handle and from another."""
        mine, other = await store.two()
        event = session_event("s", "started")

        recorded = await mine.record(event)

        same((recorded.event.dedup_key, recorded.ignored), (event.dedup_key, None), "a first message")
        same(recorded.state, await state(mine), "the state that was recorded")
        same(recorded.state, await state(other), "the state in another handle")
        same((await state(other)).status, Status.STARTED, "the state after the first message")

    @rule
    async def test_an_event_is_kept_once(self, store: Store) -> None:
        """The same event, by its key, is kept once, whichever handle it comes to."""
        mine, other = await store.two()
        await mine.record(session_event("s", "started"))
        before = await mine.record(decision_event("s", "approved", minute=1))

        for inbox in (mine, other, mine):
            again = await inbox.record(decision_event("s", "approved", minute=1))
            same((again.is_duplicate, again.state), (True, before.state), "a message that came again")
        same(len(await keys(other)), 2, "messages that are kept")

    @rule
    async def test_one_of_many_at_once_counts(self, store: Store) -> None:
        """Of many deliveries of one message at the same time, exactly one is not called repeated."""
        handles = await store.two()
        deliveries = (inbox.record(decision_event("s", "approved")) for inbox in handles * 20)

        recorded = await asyncio.gather(*deliveries)

        same(sum(not each.is_duplicate for each in recorded), 1, "deliveries that counted")
        same({each.state and each.state.status for each in recorded}, {Status.APPROVED}, "states that were returned")
        same(len(await keys(handles[1])), 1, "messages that are kept")

    @rule
    async def test_the_latest_state_goes_by_the_table(self, store: Store) -> None:
        """A session goes from start to end by way of a review and a second attempt, each handle hearing its part."""
        handles = await store.two()
        steps = (
            (session_event("s", "started"), "started"),
            (session_event("s", "submitted"), "submitted"),
            (decision_event("s", "review", minute=1), "review"),
            (decision_event("s", "resubmission_requested", minute=2), "resubmission_requested"),
            (session_event("s", "started", attempt_id="second"), "started"),
            (session_event("s", "submitted", attempt_id="second"), "submitted"),
            (decision_event("s", "approved", attempt_id="second", minute=3), "approved"),
        )

        for place, (event, status) in enumerate(steps):
            recorded = await handles[place % 2].record(event)
            same((recorded.state and recorded.state.status, recorded.ignored), (status, None), "each step")
        found = await state(handles[0])
        same(found.attempts, ("first", "second"), "attempts")
        same(found.effective_decision and found.effective_decision.attempt_id, "second", "the decision that stands")
        same(found.source, DecisionSource.WEBHOOK, "who told the decision")

    @rule
    async def test_what_is_late_says_why(self, store: Store) -> None:
        """Late, repeated and unrelated messages leave a state as it is, and say why; all but repeated ones are kept."""
        mine, other = await store.two()
        second = session_event("s", "submitted", attempt_id="second")
        for event in (
            decision_event("s", "resubmission_requested", minute=9),
            session_event("s", "started", attempt_id="second"),
            second,
        ):
            await mine.record(event)
        before = await state(mine)
        steps = (
            (session_event("s", "submitted"), IgnoredReason.STALE),
            (decision_event("s", "review", minute=1), IgnoredReason.STALE),
            (session_event("s", "started", attempt_id="second"), IgnoredReason.DUPLICATE),
            (decision_event("s", "resubmission_requested", minute=9, ip="::1"), IgnoredReason.UNCHANGED),
            (watchlist_event("s"), IgnoredReason.IRRELEVANT),
        )

        for event, why in steps:
            recorded = await other.record(event)
            same((recorded.state, recorded.ignored), (before, why), "a message that changes nothing")
        same(await state(mine), before, "the state afterwards")
        same(len(await keys(mine)), 7, "messages that are kept")

    @rule
    async def test_a_final_state_is_never_lowered(self, store: Store) -> None:
        """Nothing but a correction that proves to be later changes a final state."""
        mine, other = await store.two()
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
            same((recorded.state, recorded.ignored), (before, IgnoredReason.FINAL), "a message after the end")
        same(await state(mine), before, "the state afterwards")

    @rule
    async def test_a_later_correction_counts(self, store: Store) -> None:
        """Veriff's correction of a final decision replaces it, and the first one is late from then on."""
        mine, other = await store.two()
        await mine.record(decision_event("s", "declined", minute=1))

        corrected = await other.record(decision_event("s", "approved", minute=2))
        late = await mine.record(decision_event("s", "declined", minute=1, ip="::1"))

        same((corrected.state and corrected.state.status, corrected.ignored), ("approved", None), "a correction")
        same((late.state, late.ignored), (corrected.state, IgnoredReason.FINAL), "the decision that was corrected")

    @rule
    async def test_first_webhook_of_a_polled_decision_counts(self, store: Store) -> None:
        """The first webhook about a decision that polling reported counts, as the same message or a fuller one."""
        mine, other = await store.two()
        for session_id, ip in (("s", None), ("fuller", "::1")):
            event = decision_event(session_id, "approved", minute=1)
            polled = event_from_decision(event.decision) if isinstance(event, DecisionEvent) else event
            posted = decision_event(session_id, "approved", minute=1, ip=ip)

            before = await mine.record(polled, source=DecisionSource.POLL)
            results = [(await other.record(posted)).ignored, (await mine.record(posted)).ignored]

            same(results, [None, IgnoredReason.DUPLICATE], "webhooks about a decision that polling reported")
            same(
                (await other.record(decision_event(session_id, "approved", minute=1, ip="::2"))).ignored,
                IgnoredReason.UNCHANGED,
                "more",
            )
            found = await state(mine, session_id)
            same((found.source, before.state and before.state.source), ("webhook", "poll"), "who reported it")
            same(found.effective_decision, before.state and before.state.effective_decision, "the decision that stands")
            same(
                (await mine.record(polled, source=DecisionSource.POLL)).ignored,
                IgnoredReason.DUPLICATE,
                "polling again",
            )
        same(len(await keys(mine)), 2, "messages that are kept: the same one once")

    @rule
    async def test_a_change_of_who_reported_wakes_followers(self, store: Store) -> None:
        """Followers hear of the first webhook about a decision that polling reported, though no event is added."""
        mine, other = await store.two()
        event = decision_event("s", "approved", minute=1)
        await mine.record(event, source=DecisionSource.POLL)
        async with following(other) as feed:
            await mine.record(event)
            await hear(feed, "s")

    @rule
    async def test_decision_of_an_earlier_attempt_reverts_nothing(self, store: Store) -> None:
        """After an outage, what is repeated of an earlier attempt leaves the attempt that has begun since."""
        mine, other = await store.two()
        await mine.record(session_event("s", "submitted", attempt_id="second"))
        repeated = (
            decision_event("s", "resubmission_requested", minute=1),
            session_event("s", "submitted"),
            session_event("s", "started"),
        )

        for event in repeated:
            same((await other.record(event)).ignored, IgnoredReason.STALE, "a message of the earlier attempt")
            found = await state(mine)
            same((found.status, found.attempt_id, found.effective_decision), ("submitted", "second", None), "the state")

    @rule
    async def test_order_goes_by_decision_times(self, store: Store) -> None:
        """A decision that was made before another attempt was first heard of is about an earlier one, in any order."""
        store.time = _START + 3600
        mine, other = await store.two()
        await mine.record(session_event("s", "submitted", attempt_id="second"))
        store.time += 3600
        await other.record(session_event("s", "submitted"))
        late = await mine.record(decision_event("s", "resubmission_requested", minute=30))
        found = await state(other)
        same(
            (late.ignored, found.status, found.attempt_id),
            (IgnoredReason.STALE, "submitted", "second"),
            "an earlier attempt",
        )

        # The request for the first attempt is never sent when the end-user submits again within five minutes.
        await mine.record(session_event("held back", "submitted"))
        store.time += 600
        newer = decision_event("held back", "resubmission_requested", attempt_id="second", minute=125)
        same((await other.record(newer)).ignored, None, "a decision made after the first attempt was heard of")

    @rule
    async def test_a_record_that_fails_leaves_nothing(self, store: Store) -> None:
        """An error while an event is recorded leaves neither the event nor its state, and it can be recorded again."""
        mine, other = await store.two()
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
        same(outcomes, [True, False], "which of two records at the same time fail")
        same(await keys(other), [], "which events are kept of it")
        same(dict(await other.get_states(["s"])), {}, "which states are kept of it")
        same((await other.record(event)).ignored, None, "the event, recorded again")

    @rule
    async def test_times_of_any_precision_are_one_decision(self, store: Store) -> None:
        """A decision in milliseconds and in microseconds, or with and without its attempt, is one decision."""
        mine, other = await store.two()
        posted = decision_event("s", "resubmission_requested", minute=1)
        before = (await mine.record(posted)).state
        decision = decision_of(posted)
        moment = decision.decision_time
        finer = evolve(decision, decision_time=moment and moment + timedelta(microseconds=678), raw={})

        for again in (finer, evolve(finer, attempt_id=None)):
            recorded = await other.record(event_from_decision(again), source=DecisionSource.POLL)
            same(
                (recorded.state, recorded.ignored),
                (before, IgnoredReason.UNCHANGED),
                "a decision with another precision",
            )

    @rule
    async def test_a_submission_puts_its_request_behind(self, store: Store) -> None:
        """After this application has submitted again, the request that it answered does not stand in any handle.

        Neither its repetition nor the older messages of its attempt bring it back; the next decision stands.
        """
        for name, known in (("known", True), ("unknown", False)):
            mine, other = await store.two()
            asked = decision_event(name, "resubmission_requested", minute=2)
            if known:
                await mine.record(session_event(name, "submitted"))
                await other.record(asked)
            recorded = await mine.record(resubmitted_event(name, minute=2), source=DecisionSource.POLL)

            same(recorded.ignored, None, "a submission after a request for another attempt")
            late = (
                asked,
                decision_event(name, "resubmission_requested", minute=2, ip="::1"),
                session_event(name, "submitted"),
            )
            for event in (*late, resubmitted_event(name, minute=2)):
                await other.record(event)
                found = await state(other, name)
                same(
                    (found.status, found.effective_decision), (Status.SUBMITTED, None), "the state after a late message"
                )
            await mine.record(decision_event(name, "resubmission_requested", attempt_id="second", minute=3))
            found = await state(other, name)
            same(
                found.effective_decision and found.effective_decision.attempt_id,
                "second",
                "the decision on the new attempt",
            )

    @rule
    async def test_a_submission_puts_no_newer_decision_behind(self, store: Store) -> None:
        """A submission that is recorded after the decision on it leaves that decision standing."""
        mine, other = await store.two()
        await mine.record(decision_event("s", "resubmission_requested", minute=2))
        for status, minute in (("resubmission_requested", 3), ("approved", 4)):
            before = (await mine.record(decision_event("s", status, attempt_id="second", minute=minute))).state
            recorded = await other.record(resubmitted_event("s", minute=2), source=DecisionSource.POLL)

            same(recorded.state, before, "the state after a submission that was recorded late")

    @rule
    async def test_a_request_stands_again_when_its_answer_was_refused(self, store: Store) -> None:
        """A submission that Veriff refused lets its request stand again, as often as that happens."""
        mine, other = await store.two()
        for name, known in (("known", True), ("unknown", False)):
            if known:
                await mine.record(decision_event(name, "resubmission_requested", minute=2))
            for _ in range(2):
                for refused, status in ((False, Status.SUBMITTED), (True, Status.RESUBMISSION_REQUESTED)):
                    await mine.record(resubmitted_event(name, minute=2, refused=refused), source=DecisionSource.POLL)
                    found = await state(other, name)
                    same(
                        (found.status, found.effective_decision is not None),
                        (status, refused),
                        "the state of the request",
                    )
        await mine.record(session_event("known", "submitted", attempt_id="second"))
        before = await state(mine, "known")
        await mine.record(resubmitted_event("known", minute=2, refused=True), source=DecisionSource.POLL)
        same(await state(other, "known"), before, "the state of an attempt that was submitted meanwhile")

    @rule
    async def test_kinds_without_a_state_are_kept(self, store: Store) -> None:
        """Messages of other and of unknown kinds are kept, and a session that only they name has no state."""
        mine, other = await store.two()
        unknown = event_from({"eventType": "newer.kind", "sessionId": "s", "data": {"a": [1, None, "é"]}})

        for event in (watchlist_event("s"), unknown):
            recorded = await mine.record(event)
            same((recorded.state, recorded.ignored), (None, IgnoredReason.IRRELEVANT), "a message without a state")
        same(dict(await other.get_states(["s"])), {}, "states of a session without one")
        same(await keys(other), [watchlist_event("s").dedup_key, unknown.dedup_key], "messages that are kept")

    @rule
    async def test_events_without_a_session_are_kept(self, store: Store) -> None:
        """Messages that name no session are kept together, once each, and belong to no session."""
        mine, other = await store.two()
        events = (event_from({"type": "newer"}), watchlist_event(None))

        for event in (*events, *events):
            same((await mine.record(event)).state, None, "the state of no session")
        await mine.record(session_event("None", "started"))
        same(await keys(other, None), [event.dedup_key for event in events], "messages that are kept")

    @rule
    async def test_history_is_whole_and_in_order(self, store: Store) -> None:
        """The events of a session come back as they were recorded: kind, order, key and JSON, and none twice."""
        mine, other = await store.two()
        unknown = event_from({"sessionId": "s", "n": 1.5, "deep": [{"é": None}], "": "\u0000"})
        events = [
            session_event("s", "started"),
            unknown,
            watchlist_event("s"),
            full_auto_event("s", "approved"),
            decision_event("s", "approved"),
        ]
        for place, event in enumerate((*events, *reversed(events))):
            await (mine, other)[place % 2].record(event)

        found = list(await other.get_events("s"))

        same(found, events, "events")
        same([dict(event.raw) for event in found], [dict(event.raw) for event in events], "their JSON")
        same([event.dedup_key for event in found], [event.dedup_key for event in events], "their keys")
        same(list(await mine.get_events("another")), [], "events of an unknown session")

    @rule
    async def test_what_was_recorded_survives(self, store: Store) -> None:
        """States and events are there after every handle was closed, in a new one."""
        if not self.durable:
            msg = "this inbox is not durable"
            raise unittest.SkipTest(msg)
        mine = await store.open()
        await mine.record(session_event("s", "started"))
        before = await mine.record(decision_event("s", "approved", minute=1))
        await store.close()

        after = await store.open()
        same(await state(after), before.state, "the state after closing")
        same(len(await keys(after)), 2, "messages after closing")
        same(
            (await after.record(session_event("s", "started"))).ignored,
            IgnoredReason.DUPLICATE,
            "a message from before the closing",
        )

    @rule
    async def test_old_sessions_go(self, store: Store) -> None:
        """A session goes as a whole when its last message is too old; one that is still spoken of stays."""
        store.retention = Retention(max_age=30 * _DAY)
        mine, other = await store.two()
        await mine.record(decision_event("old", "approved"))
        await mine.record(session_event("s", "started"))
        store.time += 20 * _DAY
        await other.record(session_event("s", "submitted"))
        store.time += 20 * _DAY
        await mine.record(session_event("new", "started"))

        same(set(await other.get_states(["old", "s", "new"])), {"s", "new"}, "sessions that are kept")
        same(len(await keys(mine, "old") + await keys(mine)), 2, "messages that are kept")
        same(
            (await other.record(decision_event("old", "approved"))).ignored, None, "a message of a session that is gone"
        )

    @rule
    async def test_sessions_are_bounded(self, store: Store) -> None:
        """With more sessions than are to be kept, those go of which nothing was heard for longest."""
        store.retention = Retention(max_sessions=3)
        inbox = await store.open()
        for session_id in ("a", "b", "c", "a", "d"):
            store.time += 1
            await inbox.record(session_event(session_id, "started"))

        same(set(await inbox.get_states("abcd")), {"a", "c", "d"}, "sessions that are kept")
        same(
            (await inbox.record(session_event("c", "started"))).ignored,
            IgnoredReason.DUPLICATE,
            "a message of one that is kept",
        )
        same(
            await keys(inbox, "b") + await keys(inbox, "d"),
            [session_event("d", "started").dedup_key],
            "messages that are kept",
        )

    @rule
    async def test_events_are_bounded(self, store: Store) -> None:
        """Of one session the newest messages are kept, and its state stays."""
        store.retention = Retention(max_events_per_session=3)
        inbox = await store.open()
        events = [event_from({"sessionId": "s", "number": number}) for number in range(5)]
        for event in (decision_event("s", "approved"), *events):
            await inbox.record(event)

        same(await keys(inbox), [event.dedup_key for event in events[-3:]], "messages that are kept")
        same((await inbox.record(events[-1])).ignored, IgnoredReason.DUPLICATE, "the newest message, come again")
        same((await state(inbox)).status, Status.APPROVED, "the state, whose message is gone")

    @rule
    async def test_many_are_looked_up_at_once(self, store: Store) -> None:
        """Thousands of ids are looked up in one call, and those that are unknown are left out."""
        inbox = await store.open()
        await asyncio.gather(*(inbox.record(session_event(f"s-{number}", "started")) for number in range(50)))

        found = await inbox.get_states({f"s-{number}" for number in range(5_000)})
        same(set(found), {f"s-{number}" for number in range(50)}, "sessions that are known")
        same([known.session_id for known in found.values()], list(found), "whose states they are")
        same(
            {**await inbox.get_states([]), **await inbox.get_states(["?"])},
            {},
            "states of no and of an unknown session",
        )

    @rule
    async def test_ids_are_any_text(self, store: Store) -> None:
        """Ids that are empty, long, or made of signs that mean something elsewhere are ids like any other."""
        mine, other = await store.two()
        async with following(other) as feed:
            for odd in _ODD:
                await mine.record(decision_event(odd, "approved", attempt_id=odd))
                await hear(feed, odd)
        found = await other.get_states(_ODD)
        same(set(found), set(_ODD), "sessions with odd ids")
        for odd in found:
            same((found[odd].session_id, len(await keys(other, odd)) > 0), (odd, True), "a session with an odd id")

    @rule
    async def test_ids_that_no_text_holds_do_not_break(self, store: Store) -> None:
        """Signs that many stores cannot hold are kept, or refused as an `InboxError`, and never as another error."""
        inbox = await store.open()
        for odd in ("nul\x00inside", "half \ud83d a sign"):
            try:
                await inbox.record(decision_event(odd, "approved"))
                same((await state(inbox, odd)).session_id, odd, "an id that was kept")
            except InboxError:
                continue
        await inbox.record(session_event("s", "started"))

    @rule
    async def test_many_sessions_at_once(self, store: Store) -> None:
        """Fifty sessions whose messages come at the same time, in any order and to any handle, end as they must."""
        handles = await store.two()
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

        await asyncio.gather(*(handles[place % 3 % 2].record(event) for place, event in enumerate(events)))

        found = await handles[0].get_states(ids)
        same({state.status for state in found.values()}, {Status.APPROVED}, "states")
        same({len(await keys(handles[1], session_id)) for session_id in ids}, {4}, "messages of each session")

    @rule
    async def test_a_new_store_is_opened_by_many_at_once(self, store: Store) -> None:
        """All workers of a server may begin at the same moment, on a store that none has used before."""
        handles = [await store.open() for _ in range(6)]

        await asyncio.gather(
            *(inbox.record(session_event(f"s-{place}", "started")) for place, inbox in enumerate(handles))
        )

        same(len(await handles[0].get_states([f"s-{place}" for place in range(6)])), 6, "sessions that are known")

    @rule
    async def test_a_cancelled_record_breaks_nothing(self, store: Store) -> None:
        """Whenever a record is cancelled, the message is whole there or not at all, and can be recorded again."""
        inbox = await store.open()
        for turns in range(6):
            recording = asyncio.create_task(inbox.record(decision_event(f"s-{turns}", "approved")))
            for _ in range(turns):
                await asyncio.sleep(0)
            recording.cancel()
            await asyncio.wait([recording])
        for turns in range(6):
            await inbox.record(decision_event(f"s-{turns}", "approved"))
            same((await state(inbox, f"s-{turns}")).status, Status.APPROVED, "the state afterwards")
            same(len(await keys(inbox, f"s-{turns}")), 1, "messages that are kept")

    @rule
    async def test_closing_twice_is_closing(self, store: Store) -> None:
        """A handle may be closed twice, used or not, and leaves no task behind."""
        used, unused = await store.two()
        await used.record(session_event("s", "started"))
        for inbox in (used, used, unused, unused):
            await inbox.aclose()
