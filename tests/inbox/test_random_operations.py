"""Events, polls, repetitions, restarts, days, subscribers and waits in any order: no lost wake-up, no reverted state.

``VERIFF_EXAMPLES=500`` runs as many examples with each inbox; by default a few.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections import defaultdict
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

from attrs import define, field
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from veriff_async import Credentials, PollPolicy, VeriffClient
from veriff_async._protocol.session_state import apply_event
from veriff_async._protocol.status_transitions import identity, is_final
from veriff_async._protocol.webhook import event_from_decision
from veriff_async.inbox import IgnoredReason, MemoryInbox, PostgresInbox, RedisInbox, Retention, SqliteInbox
from veriff_async.models.decision_source import DecisionSource
from veriff_async.models.events import DecisionEvent
from veriff_async.testing import decision_event, session_event, watchlist_event

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tests.postgres_server import PostgresDatabase
    from tests.servers import RedisServer
    from veriff_async import Decision, WebhookEvent
    from veriff_async.inbox import Inbox, SessionState

_T = TypeVar("_T")

EXAMPLES: Final = os.environ.get("VERIFF_EXAMPLES")
PATIENCE: Final = 20.0
"""Seconds after which a wake-up counts as lost."""
DAY: Final = 86_400.0
KEPT: Final = 30 * DAY
# No wait asks Veriff by itself: that would hide a wake-up that was lost.
NEVER: Final = PollPolicy(initial_delay=10**9)

ids = st.sampled_from(["one", "two", "three"])
places = st.sampled_from([0, 1])
attempts = st.sampled_from(["first", "second"])
minutes = st.none() | st.integers(0, 4)
steps = st.builds(session_event, ids, st.sampled_from(["started", "submitted"]), attempt_id=attempts)
decisions = st.builds(
    decision_event,
    ids,
    st.sampled_from(["review", "resubmission_requested", "approved", "declined", "expired"]),
    attempt_id=attempts,
    minute=minutes,
)
messages = steps | decisions | st.builds(watchlist_event, ids)


@define
class SessionModel:
    """The recorded events of one session, and the expected state."""

    events: list[WebhookEvent] = field(factory=list["WebhookEvent"])
    state: SessionState | None = None
    touched: float = 0.0


class Subscriber:
    """A subscriber that remembers the changes it got."""

    def __init__(self, inbox: Inbox) -> None:
        """Start a subscription."""
        self.heard: set[str | None] = set()
        self._inbox = inbox
        self._woken = asyncio.Event()
        self.task = asyncio.create_task(self._follow())

    async def hears(self, session_id: str | None) -> None:
        """Return when it got a change, and reset it."""
        while not self.heard & {session_id, None}:
            self._woken.clear()
            await self._woken.wait()
        self.heard.discard(session_id)

    async def _follow(self) -> None:
        async with aclosing(self._inbox.subscribe()) as feed:
            async for changed in feed:
                self.heard.add(changed)
                self._woken.set()


class Machine(RuleBasedStateMachine):
    """Two processes of an application on one inbox, each with a client, subscribers and waits."""

    survives: ClassVar[bool] = True

    def __init__(self) -> None:
        """Begin with an empty inbox."""
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self.time = 1_800_000_000.0
        self.stories: dict[str, SessionModel] = defaultdict(SessionModel)
        self.decisions: dict[str, list[Decision]] = defaultdict(list)
        self.followers: list[tuple[int, Subscriber]] = []
        self.waits: list[tuple[int, str, asyncio.Task[Decision]]] = []
        self.inboxes: list[Inbox] = []
        self.clients: list[VeriffClient] = []

    def new_inbox(self) -> Inbox:
        """Return another handle on the store of this example."""
        raise NotImplementedError

    def do(self, work: Coroutine[object, object, _T]) -> _T:
        """Run something in the loop, and settle what must follow from it."""

        async def run_bounded() -> _T:
            async with asyncio.timeout(PATIENCE):
                result = await work
                await self.settle()
                return result

        return self.runner.run(run_bounded())

    async def settle(self) -> None:
        """See that states are what they must be in both processes, and end every wait that has its decision."""
        for session_id, story in list(self.stories.items()):
            if story.touched <= self.time - KEPT:
                del self.stories[session_id]
        expected = {session_id: story.state for session_id, story in self.stories.items() if story.state}
        for inbox in self.inboxes:
            assert expected == await inbox.get_states(["one", "two", "three"])
        for place, session_id, task in list(self.waits):
            state = expected.get(session_id)
            if task.done() or (state and state.effective_decision and state.effective_decision.status != "review"):
                self.waits.remove((place, session_id, task))
                found = await task
                assert found.status != "review"
                assert identity(found) in [identity(decision) for decision in self.decisions[session_id]]

    def expect(self, session_id: str, event: WebhookEvent, source: DecisionSource) -> IgnoredReason | None:
        """Return why an event is to be ignored, and keep it."""
        story = self.stories[session_id]
        story.touched = self.time
        if isinstance(event, DecisionEvent):
            self.decisions[session_id].append(event.decision)
        is_kept = event.dedup_key in [kept.dedup_key for kept in story.events]
        if not is_kept:
            story.events.append(event)
        before = story.state
        story.state, ignored = apply_event(before, event, source, is_duplicate=is_kept, recorded_at=self.time)
        if before and is_final(before.status):
            assert story.state
            assert is_final(story.state.status)
        if isinstance(event, DecisionEvent) and event.decision.is_final and not (before and is_final(before.status)):
            assert story.state
            assert event.decision == story.state.effective_decision
        return ignored

    async def notify(self, session_ids: set[str]) -> None:
        """Check that every subscriber got the change."""
        for session_id in session_ids:
            for _, follower in self.followers:
                await follower.hears(session_id)

    @initialize()
    def open(self) -> None:
        """Open an inbox and a client in both processes."""

        async def begin() -> None:
            for _ in range(2):
                self.inboxes.append(self.new_inbox())
                self.clients.append(self.new_client(self.inboxes[-1]))

        self.do(begin())

    def new_client(self, inbox: Inbox) -> VeriffClient:
        """Return a client that never polls."""
        return VeriffClient(credentials(), base_url="http://127.0.0.1:9", inbox=inbox, poll=NEVER)

    @rule(place=places, event=messages, is_polled=st.booleans())
    def deliver(self, place: int, event: WebhookEvent, is_polled: bool) -> None:  # noqa: FBT001  drawn
        """Record a message, of which a decision may have been asked for, in one of the processes."""
        source = DecisionSource.WEBHOOK
        if is_polled and isinstance(event, DecisionEvent):
            event, source = event_from_decision(event.decision), DecisionSource.POLL
        session_id = event.session_id or ""

        async def record() -> None:
            recorded = await self.inboxes[place].record(event, source=source)
            ignored = self.expect(session_id, event, source)
            assert (self.stories[session_id].state, ignored) == (recorded.state, recorded.ignored)
            await self.notify(set() if ignored else {session_id})
            history = await self.inboxes[1 - place].get_events(session_id)
            assert [kept.dedup_key for kept in self.stories[session_id].events] == [kept.dedup_key for kept in history]

        self.do(record())

    @rule(batch=st.lists(st.tuples(places, messages), min_size=2, max_size=8))
    def deliver_at_once(self, batch: list[tuple[int, WebhookEvent]]) -> None:
        """Record many messages at the same time, in both processes; they count in the order of the history."""

        async def record() -> None:
            await self.settle()
            # When the first webhook about a polled decision counts among others, the history does not show.
            kept = {event.dedup_key for story in self.stories.values() for event in story.events}
            fresh = [(place, event) for place, event in batch if event.dedup_key not in kept]
            recorded = await asyncio.gather(*(self.inboxes[place].record(event) for place, event in fresh))
            changed = {each.event.session_id for each in recorded if each.ignored is None}
            for session_id in {event.session_id or "" for _, event in fresh}:
                known = len(self.stories[session_id].events)
                history = await self.inboxes[0].get_events(session_id)
                for event in history[known:]:
                    self.expect(session_id, event, DecisionSource.WEBHOOK)
                self.stories[session_id].touched = self.time
                assert [event.dedup_key for event in history] == [
                    event.dedup_key for event in self.stories[session_id].events
                ]
                assert {event.dedup_key for _, event in batch if event.session_id == session_id} <= {
                    event.dedup_key for event in history
                }
            await self.notify({session_id for session_id in changed if session_id})

        self.do(record())

    @rule(place=places)
    def follow(self, place: int) -> None:
        """Subscribe to one of the inboxes; a started subscription misses nothing."""

        async def begin() -> None:
            follower = Subscriber(self.inboxes[place])
            await follower.hears(None)
            follower.heard.clear()
            self.followers.append((place, follower))

        self.do(begin())

    @precondition(lambda self: self.followers)
    @rule(number=st.integers(0, 9))
    def unfollow(self, number: int) -> None:
        """Stop a subscription."""
        _, follower = self.followers.pop(number % len(self.followers))
        self.do(cancel([follower.task]))

    @rule(place=places, session_id=ids)
    def wait(self, place: int, session_id: str) -> None:
        """Begin to wait for a decision in one of the processes; a turn later it sleeps or has it."""

        async def begin() -> None:
            waiting = self.clients[place].session(session_id).wait_for_decision(timeout=None)
            self.waits.append((place, session_id, asyncio.create_task(waiting)))

        self.do(begin())

    @precondition(lambda self: self.waits)
    @rule(number=st.integers(0, 9))
    def give_up(self, number: int) -> None:
        """Cancel a wait."""
        _, _, task = self.waits.pop(number % len(self.waits))
        self.do(cancel([task]))

    @rule(place=places)
    def restart(self, place: int) -> None:
        """Stop one of the processes, and start it again with new waits."""

        async def again() -> None:
            again = [session_id for here, session_id, _ in self.waits if here == place]
            await cancel([task for here, _, task in self.waits if here == place])
            await cancel([follower.task for here, follower in self.followers if here == place])
            self.waits = [each for each in self.waits if each[0] != place]
            self.followers = [each for each in self.followers if each[0] != place]
            await self.clients[place].aclose()
            if self.survives:
                await self.inboxes[place].aclose()
                self.inboxes[place] = self.new_inbox()
            self.clients[place] = self.new_client(self.inboxes[place])
            for session_id in again:
                waiting = self.clients[place].session(session_id).wait_for_decision(timeout=None)
                self.waits.append((place, session_id, asyncio.create_task(waiting)))

        self.do(again())

    @rule(days=st.sampled_from([1, 9, 31]))
    def pass_time(self, days: int) -> None:
        """Advance the time by days, after which sessions without events are deleted.

        Something else is recorded in between and a day after: a file doubts a clock that has gone ahead of all records
        until it has advanced by a day.
        """

        async def tick() -> None:
            for passed in (days * DAY / 2 + 1, days * DAY / 2 + 1, DAY):
                self.time += passed
                await self.inboxes[0].record(session_event("something else", "started"))
            for _, follower in self.followers:
                follower.heard.clear()

        self.do(tick())

    def teardown(self) -> None:
        """Close everything; then nothing is left."""

        async def end() -> None:
            await cancel([task for _, _, task in self.waits])
            await cancel([follower.task for _, follower in self.followers])
            for client in self.clients:
                await client.aclose()
            for inbox in self.inboxes:
                await inbox.aclose()
            for _ in range(50):
                await asyncio.sleep(0)
            assert {asyncio.current_task()} == asyncio.all_tasks()

        try:
            self.runner.run(end())
        finally:
            self.runner.close()


def credentials() -> Credentials:
    """Return made-up credentials."""
    return Credentials("f9ae4cbd-9a3f-4a3b-b07b-7f1a2f4f9d10", "a fake secret")


async def cancel(tasks: list[asyncio.Task[_T]]) -> None:
    """Cancel tasks, and return when they have ended."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def run_examples(machine: type[Machine], few: int) -> None:
    """Run the state machine."""
    examples = int(EXAMPLES) if EXAMPLES else few
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
    options = settings(max_examples=examples, stateful_step_count=25, deadline=None, suppress_health_check=slow)
    run_state_machine_as_test(machine, settings=options)


def test_random_operations_in_memory() -> None:
    """In one process no order of operations loses a wake-up or reverts a state."""

    class InMemory(Machine):
        survives = False

        def new_inbox(self) -> Inbox:
            if not self.inboxes:
                return MemoryInbox(retention=Retention(max_age=KEPT), now=lambda: self.time)
            return self.inboxes[0]

    run_examples(InMemory, 30)


def test_random_operations_in_sqlite(tmp_path: Path) -> None:
    """The same on one machine, with a file that two processes share and reopen."""

    class InSqlite(Machine):
        def __init__(self) -> None:
            super().__init__()
            self.folder = Path(tempfile.mkdtemp(dir=tmp_path))

        def new_inbox(self) -> Inbox:
            return SqliteInbox(self.folder / "inbox.db", retention=Retention(max_age=KEPT), now=lambda: self.time)

        def teardown(self) -> None:
            super().teardown()
            shutil.rmtree(self.folder)

    run_examples(InSqlite, 15)


def test_random_operations_in_redis(redis_server: RedisServer) -> None:
    """The same on many machines, with a server that they share."""

    class InRedis(Machine):
        def __init__(self) -> None:
            super().__init__()
            redis_server.flush()

        def new_inbox(self) -> Inbox:
            return RedisInbox(redis_server.url, retention=Retention(max_age=KEPT), now=lambda: self.time)

    run_examples(InRedis, 6)


def test_random_operations_in_postgresql(postgres: PostgresDatabase) -> None:
    """The same on many machines, with a database that they share."""

    class InPostgres(Machine):
        def __init__(self) -> None:
            super().__init__()
            postgres.execute(f"DROP SCHEMA {postgres.schema} CASCADE; CREATE SCHEMA {postgres.schema}")

        def new_inbox(self) -> Inbox:
            return PostgresInbox(postgres.url, retention=Retention(max_age=KEPT), now=lambda: self.time)

    run_examples(InPostgres, 3)
