"""The queue of webhooks under any sequence of operations."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Final

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from veriff_async import InvalidArgumentError
from veriff_async.sandbox import Delivery, WebhookKind, WebhookState
from veriff_async.sandbox._webhook_queue import WebhookQueue
from veriff_async.sandbox._webhook_records import PendingWebhook, Selection, WebhookRecord

START: Final = datetime(2025, 1, 1, tzinfo=UTC)
SESSIONS: Final = ("s1", "s2")
KINDS: Final = (WebhookKind.DECISION, WebhookKind.EVENT)
SELECTIONS: Final = st.builds(Selection, st.sampled_from([None, *SESSIONS]), st.sampled_from([None, *KINDS]))
SECONDS: Final = st.integers(0, 3)
RETRY: Final = 2
FINISHED: Final = {WebhookState.DELIVERED, WebhookState.FAILED, WebhookState.DROPPED, WebhookState.NO_URL}


def new_record(number: int, now: datetime, session_id: str = "s1", kind: WebhookKind = KINDS[0]) -> WebhookRecord:
    """Return a webhook that is due now."""
    return WebhookRecord(
        id=f"w{number}",
        session_id=session_id,
        kind=kind,
        body=b"{}",
        url="http://receiver.example/",
        headers={},
        created_at=now,
        expires_at=now + timedelta(seconds=5),
        due_at=now,
    )


def result_of(attempt: PendingWebhook, status: int | None, now: datetime) -> Delivery:
    """Return the result of an attempt."""
    return Delivery(url=attempt.url, body=attempt.body, headers={}, status=status, sent_at=now)


class Operations(RuleBasedStateMachine):
    """Any operations in any order; the machine counts what was asked for, and which attempts were made."""

    ids = Bundle("ids")

    def __init__(self) -> None:
        """Start with an empty queue."""
        super().__init__()
        self.queue = WebhookQueue(max_finished=1000)
        self.now = START
        self.numbers = count()
        self.all: dict[str, WebhookRecord] = {}
        self.in_flight: list[PendingWebhook] = []
        self.asked: Counter[str] = Counter()
        self.made: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.interrupted: Counter[str] = Counter()
        self.accepted: Counter[str] = Counter()

    @rule(target=ids, session_id=st.sampled_from(SESSIONS), kind=st.sampled_from(KINDS), delay=SECONDS)
    def add(self, session_id: str, kind: WebhookKind, delay: int) -> str:
        """Something happens to a session, or a webhook is duplicated."""
        record = new_record(next(self.numbers), self.now, session_id, kind)
        record.due_at += timedelta(seconds=delay)
        self.queue.add(record)
        self.all[record.id] = record
        self.asked[record.id] += 1
        return record.id

    @rule(seconds=SECONDS)
    def advance(self, seconds: int) -> None:
        """Time passes, and the scheduler takes what is due."""
        self.now += timedelta(seconds=seconds)
        for attempt in self.queue.take(self.now, limit=100):
            assert WebhookState.DELIVERING == self.all[attempt.id].state
            self.made[attempt.id] += 1
            self.in_flight.append(attempt)

    @rule(index=st.integers(0, 100), status=st.sampled_from([200, 200, 500, None]))
    def respond(self, index: int, status: int | None) -> None:
        """A receiver responds to one of the attempts in flight."""
        if self.in_flight:
            self.finish(self.in_flight.pop(index % len(self.in_flight)), status)

    def finish(self, attempt: PendingWebhook, status: int | None) -> None:
        """Report a result."""
        retry_at = self.now + timedelta(seconds=RETRY)
        if self.queue.finish(attempt, result_of(attempt, status, self.now), retry_at=retry_at):
            (self.accepted if status == 200 else self.refused)[attempt.id] += 1

    @rule()
    def restart(self) -> None:
        """The sandbox stops, which interrupts the attempts in flight, and starts again."""
        late = self.interrupt()
        self.queue.resume()
        self.report_late(late)

    @rule()
    def restore(self) -> None:
        """A snapshot of the sandbox is restored, here or in another process."""
        late = self.interrupt()
        copies, holds = self.queue.copies(), self.queue.holds
        self.queue.restore(copies, holds)
        self.all = {record.id: record for record in self.queue.records()}
        self.report_late(late)

    @rule(sure=st.integers(0, 4))
    def reset(self, sure: int) -> None:
        """Everything is forgotten."""
        if sure == 0:
            late = self.interrupt()
            self.queue.clear()
            self.all.clear()
            self.report_late(late)
            assert not self.queue.records()

    def interrupt(self) -> list[PendingWebhook]:
        """Return the attempts whose results come too late."""
        late, self.in_flight = self.in_flight, []
        self.interrupted.update(attempt.id for attempt in late)
        return late

    def report_late(self, late: list[PendingWebhook]) -> None:
        """Report results of attempts that the queue does not know any more."""
        for attempt in late:
            assert not self.queue.finish(attempt, result_of(attempt, 200, self.now), retry_at=self.now)

    def find(self, webhook_id: str) -> WebhookRecord | None:
        """Return a webhook, unless a reset has removed it."""
        if webhook_id in self.all:
            assert self.all[webhook_id] is self.queue.get(webhook_id)
            return self.all[webhook_id]
        with pytest.raises(InvalidArgumentError, match="no such webhook"):
            self.queue.get(webhook_id)
        return None

    @rule(selection=SELECTIONS)
    def hold(self, selection: Selection) -> None:
        """Hold some."""
        self.queue.hold(selection)
        assert not [r for r in self.all.values() if r.state == WebhookState.PENDING and selection.includes(r)]

    @rule(selection=SELECTIONS)
    def release(self, selection: Selection) -> None:
        """Release some."""
        self.queue.release(selection)
        assert not [r for r in self.all.values() if r.state == WebhookState.HELD and selection.includes(r)]

    @rule(webhook_id=ids)
    def deliver(self, webhook_id: str) -> None:
        """Ask for a delivery."""
        record = self.find(webhook_id)
        if record is None:
            return
        try:
            self.queue.deliver(record, now=self.now, url=record.url, headers={})
        except InvalidArgumentError:
            assert record.state in {WebhookState.DELIVERED, WebhookState.DELIVERING}
        else:
            self.asked[record.id] += 1

    @rule(webhook_id=ids, seconds=SECONDS)
    def delay(self, webhook_id: str, seconds: int) -> None:
        """Delay one."""
        record = self.find(webhook_id)
        if record is None:
            return
        try:
            self.queue.delay(record, self.now + timedelta(seconds=seconds))
        except InvalidArgumentError:
            assert record.state not in {WebhookState.PENDING, WebhookState.HELD}

    @rule(webhook_id=ids)
    def drop(self, webhook_id: str) -> None:
        """Drop one."""
        record = self.find(webhook_id)
        if record is None:
            return
        try:
            self.queue.drop(record)
        except InvalidArgumentError:
            assert record.state in FINISHED

    @rule(webhook_ids=st.lists(ids, max_size=4, unique=True))
    def reorder(self, webhook_ids: list[str]) -> None:
        """Reorder some."""
        chosen = [record for record in map(self.find, webhook_ids) if record is not None]
        try:
            self.queue.reorder(chosen)
        except InvalidArgumentError:
            assert {record.state for record in chosen} - {WebhookState.PENDING, WebhookState.HELD}

    @invariant()
    def is_never_posted_more_often_than_asked(self) -> None:
        """Every attempt was asked for, or repeats one that was refused or interrupted; one is accepted at most once."""
        for webhook_id in self.all:
            assert self.made[webhook_id] <= sum(
                counter[webhook_id] for counter in (self.asked, self.refused, self.interrupted)
            )
            assert self.accepted[webhook_id] <= 1

    @invariant()
    def never_spins(self) -> None:
        """After the scheduler has taken what is due, the next time is in the future."""
        self.advance(0)
        due_at = self.queue.next_due()
        assert due_at is None or due_at > self.now

    @invariant()
    def heap_stays_small(self) -> None:
        """Outdated entries do not pile up."""
        waiting = sum(record.state == WebhookState.PENDING for record in self.all.values())
        assert len(self.queue._heap) <= 2 * waiting + 66

    def teardown(self) -> None:
        """Nothing is lost: after a release, every webhook reaches an end, and none waits for ever."""
        self.queue.release(Selection())
        for _ in range(100):
            while self.in_flight:
                self.finish(self.in_flight.pop(), 200)
            due_at = self.queue.next_due()
            if due_at is None:
                break
            self.now = max(self.now, due_at)
            self.advance(0)
        assert {record.state for record in self.all.values()} <= FINISHED
        assert list(self.all.values()) == list(self.queue.records())


TestOperations = Operations.TestCase
TestOperations.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_outdated_entries_are_removed() -> None:
    """Ten thousand delays of one webhook leave a small heap."""
    queue, record = WebhookQueue(), new_record(0, START)
    queue.add(record)
    for seconds in range(10_000):
        queue.delay(record, START + timedelta(seconds=10 + seconds))

    assert len(queue._heap) <= 70
    assert START + timedelta(seconds=10_009) == queue.next_due()


def test_repeated_orders_take_no_memory() -> None:
    """Reordering the same webhooks again and again keeps one order."""
    queue, records = WebhookQueue(), [new_record(number, START) for number in range(3)]
    for record in records:
        queue.add(record)
    for _ in range(1000):
        queue.reorder(records)
        queue.reorder(records[::-1])

    assert 3 >= sum(map(len, queue._followers.values()))
    assert ["w2"] == [attempt.id for attempt in queue.take(START, limit=100)]


def test_order_of_events_is_kept() -> None:
    """Webhooks that are due at the same time start in the order of their events, also after a hold."""
    queue = WebhookQueue()
    for number in range(20):
        queue.add(new_record(number, START))
    queue.hold(Selection())
    queue.add(new_record(20, START))
    queue.release(Selection())

    assert [f"w{number}" for number in range(21)] == [attempt.id for attempt in queue.take(START, limit=100)]


def test_restart_drops_what_was_dropped_during_its_attempt() -> None:
    """A stop interrupts attempts: those of dropped webhooks are not repeated, the others are."""
    queue = WebhookQueue()
    for number in range(2):
        queue.add(new_record(number, START))
    queue.take(START, limit=100)
    queue.drop(queue.get("w0"))
    queue.resume()

    assert [WebhookState.DROPPED, WebhookState.PENDING] == [queue.get(f"w{number}").state for number in range(2)]
    assert ["w1"] == [attempt.id for attempt in queue.take(START, limit=100)]


def test_restored_webhooks_keep_their_order() -> None:
    """A webhook that follows another one still waits for it, and one whose predecessor is gone waits for none."""
    queue, restored = WebhookQueue(), WebhookQueue()
    for number in range(4):
        queue.add(new_record(number, START))
    queue.hold(Selection())
    queue.reorder([queue.get(f"w{number}") for number in (2, 1, 0)])
    queue.release(Selection())
    records = list(queue.records())
    records[3].after = "unknown"
    restored.restore(records, queue.holds)

    order = []
    while taken := restored.take(START, limit=100):
        for attempt in taken:
            order.append(attempt.id)
            restored.finish(attempt, result_of(attempt, 200, START), retry_at=START)
    assert ["w2", "w1", "w0"] == [webhook for webhook in order if webhook != "w3"]
    assert "w3" in order


def test_sessions_without_webhooks_are_forgotten() -> None:
    """The oldest finished webhooks are removed, and with the last one of a session the session."""
    queue = WebhookQueue(max_finished=1)
    for number, session_id in enumerate(SESSIONS):
        queue.add(new_record(number, START, session_id))
    for attempt in queue.take(START, limit=100):
        queue.finish(attempt, result_of(attempt, 200, START), retry_at=START)

    assert [0, 1] == [len(queue.records(session_id)) for session_id in SESSIONS]
    with pytest.raises(InvalidArgumentError):
        queue.get("w0")


@pytest.mark.parametrize("count", [10_000])
def test_ten_thousand_held_webhooks_leave_in_order(count: int) -> None:
    """Hold, reorder and release cost no search for each webhook."""
    queue = WebhookQueue(max_finished=100)
    for number in range(count):
        queue.add(new_record(number, START))
    assert count == queue.hold(Selection())
    queue.reorder(queue.records()[::-1])
    assert count == queue.release(Selection())

    seen: list[str] = []
    while attempts := queue.take(START, limit=100):
        (attempt,) = attempts
        seen.append(attempt.id)
        queue.finish(attempt, result_of(attempt, 200, START), retry_at=START)
    assert [f"w{number}" for number in reversed(range(count))] == seen
    assert 100 == len(queue.records())
    assert {} == queue._followers
