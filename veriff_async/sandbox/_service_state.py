"""The state of the sandbox as a whole: its rules, and how it is filled, forgotten, copied and replaced."""

from __future__ import annotations

import heapq
from functools import partial
from itertools import islice
from random import Random
from typing import TYPE_CHECKING, Final, Unpack

from attrs import evolve

from veriff_async.sandbox._chaos.engine import ChaosEngine
from veriff_async.sandbox._clock import EARLIEST, VirtualClock
from veriff_async.sandbox._errors import ImpossibleChangeError
from veriff_async.sandbox._face_import import FaceCollection, FaceState
from veriff_async.sandbox._faults import TokenBucket
from veriff_async.sandbox._rules import RuleFields, change_rules
from veriff_async.sandbox._seed import SEED_STATUSES, build_seeded, check_seed, check_statuses
from veriff_async.sandbox._service_core import ServiceCore
from veriff_async.sandbox._state import ALL_KINDS, ChangeSet, State, media_of
from veriff_async.sandbox._timeline_entries import SettingEntry

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from attrs import AttrsInstance

    from veriff_async.models.enums import Status
    from veriff_async.sandbox._records import (
        Session,
    )
    from veriff_async.sandbox._scenario import Due

__all__ = ("ServiceState",)

# Sessions that are added while the lock is held, which takes some 2 ms.
_SEED_BATCH: Final = 100


class ServiceState(ServiceCore):
    """Changes all of the state at once."""

    def change_rules(self, **changes: Unpack[RuleFields]) -> None:
        """Change rules, all at once or none; see `Sandbox.change_rules`."""
        # Due events happen first, by the rules before.
        with self._at_present():
            before = self._scenario.rules
            self._scenario.rules = rules = change_rules(before, changes)
            self._faces.quota = rules.options.face_quota
            self._bucket.rate = rules.options.requests_per_second
            if rules != before:
                # Without values: a URL may contain a secret.
                self.record(partial(SettingEntry, setting="rules", change=", ".join(sorted(changes))))

    def seed(
        self, sessions: int = 20, *, statuses: Iterable[Status | str] = SEED_STATUSES, seed: int = 0
    ) -> tuple[str, ...]:
        """Add sessions, and return their ids; see `Sandbox.seed`.

        Raises:
            InvalidArgumentError: An argument has the wrong type, is unknown or is out of range.
            ImpossibleChangeError: The sandbox was reset or restored before all sessions were added.
        """
        check_seed(sessions, seed)
        chosen = check_statuses(statuses)
        with self._lock:
            now, rules, epoch = self.clock.now(), self._scenario.rules, self._epoch
            # With the number of sessions, so that a second call adds others; it makes the same ones after a reset.
            chance = Random(f"{seed} {len(self._scenario.sessions)} {self._seeds_running}")  # noqa: S311  not a secret
            self._seeds_running += 1
        ids: list[str] = []
        try:
            seeded = build_seeded(rules, chance, sessions, chosen, now=now)
            # Built without the lock, and added in parts, so that requests are answered at the same time. A lock that
            # is held nearly all the time would stay with its thread, since Python's locks are not fair.
            while part := list(islice(seeded, _SEED_BATCH)):
                self._add_sessions(part, epoch)
                ids += [session.id for session, _ in part]
        finally:
            with self._lock:
                self._seeds_running -= 1
        self.record(
            partial(SettingEntry, setting="state", change=f"{sessions} session{'s' if sessions != 1 else ''} seeded")
        )
        return tuple(ids)

    def _add_sessions(self, sessions: Sequence[tuple[Session, Due]], epoch: int) -> None:
        with self._lock, self._scenario.sessions.transaction():
            if self._epoch != epoch:
                msg = "The sandbox was reset or restored before all sessions were added: call seed() again."
                raise ImpossibleChangeError(msg)
            for session, end in sessions:
                self._scenario.sessions.add(session)
                self._changes.add_session(session.id)
                if not session.status.is_final:
                    self._plan(end)
            self._wake_scheduler()

    def reset(self) -> None:
        """Forget everything that has happened, and keep the configuration; see `Sandbox.reset`."""
        with self._lock:
            sessions = self._scenario.sessions
            self._epoch += 1
            self._discarded |= {media.path for session in sessions for media in session.all_media}
            sessions.clear()
            self._changes.replaced = ALL_KINDS
            # Cleared in the same step as the sessions: a due item without its session would be an error.
            self._agenda.clear()
            self._queue.clear()
            self._polls.clear()
            self._faults.clear()
            self._requests.clear()
            self._deliveries.clear()
            self._frauds.clear()
            self._faces = FaceCollection(self.options.face_quota)
            self._bucket = TokenBucket(self.options.requests_per_second)
            self._restart_chaos()
            self.timeline.restart(self.clock.now(), partial(SettingEntry, setting="state", change="reset"))
            self._wake_scheduler()

    def capture(self) -> State:
        """Return the whole state, which later changes do not change."""
        with self._at_present() as now:
            return State(
                now=now,
                is_virtual=isinstance(self.clock, VirtualClock),
                options=self.options,
                decide_after=self._scenario.rules.decide_after,
                sessions=tuple(session.copy() for session in self._scenario.sessions),
                deletions=self._scenario.sessions.deletions,
                agenda=tuple(due for _, _, due in sorted(self._agenda, key=lambda entry: entry[:2])),
                webhooks=self._queue.copies(),
                holds=self._queue.holds,
                faults=self._faults.waiting,
                chaos=None if self._chaos is None else self._chaos.state,
                bucket=evolve(self._bucket),
                faces=self._faces.state,
                frauds=self._frauds.reports,
                feedback_requests=self._frauds.requests,
            )

    def restore(self, state: State, *, keeps_chaos: bool = False) -> None:
        """Replace the whole state.

        Raises:
            ImpossibleChangeError: The state has a virtual time, and the clock is real.
        """
        if state.is_virtual and not isinstance(self.clock, VirtualClock):
            msg = (
                "The snapshot has a virtual time: restore it in a sandbox with clock=VirtualClock() or --virtual-clock."
            )
            raise ImpossibleChangeError(msg)
        with self._lock:
            sessions = self._scenario.sessions
            self._epoch += 1
            self._discarded |= {media.path for session in sessions for media in media_of(session)}
            if isinstance(self.clock, VirtualClock):
                self.clock.move_to(state.now)
            self._scenario.rules = evolve(self._scenario.rules, options=state.options, decide_after=state.decide_after)
            self._changes.replaced = ALL_KINDS
            # A seed that runs must not add to another state.
            self._epoch += 1
            # No client that asked another sandbox asks this one.
            sessions.restore((evolve(session, asked_at=None) for session in state.sessions), state.deletions)
            self._agenda = [(due.at, next(self._order), due) for due in state.agenda]
            heapq.heapify(self._agenda)
            self._queue.restore([self._readdress(record) for record in state.webhooks], state.holds)
            self._polls.clear()
            self._faults.restore(state.faults)
            if not keeps_chaos:
                self._chaos = None if state.chaos is None else ChaosEngine.from_state(state.chaos)
                self._bucket = evolve(state.bucket)
            self._faces.state = state.faces
            self._frauds.restore(state.frauds, state.feedback_requests)
            self._wake_scheduler()
        self.record(partial(SettingEntry, setting="state", change="restored"))

    def track_changes(self, replaced: frozenset[str]) -> None:
        """Remember what changes from now on, for `take_changes`."""
        with self._lock:
            self._changes.is_tracked = True
            self._changes.forget()
            self._changes.replaced = replaced

    def take_changes(self) -> ChangeSet:
        """Return copies of the records that have changed since the last call."""
        with self._lock:
            changes, sessions = self._changes, self._scenario.sessions
            records: dict[tuple[str, str], AttrsInstance | None] = {}
            ids = [session.id for session in sessions] if "session" in changes.replaced else changes.sessions
            records |= {("session", session_id): sessions.copy(session_id) for session_id in ids}
            if "webhook" in changes.replaced:
                records |= {("webhook", webhook.id): webhook for webhook in self._queue.copies()}
            else:
                records |= {("webhook", webhook_id): self._queue.copy(webhook_id) for webhook_id in changes.webhooks}
            dues = {number: due for _, number, due in self._agenda} if "due" in changes.replaced else changes.dues
            records |= {("due", str(number)): due for number, due in dues.items()}
            # Compared instead of tracked: they are few, or shared with the state before.
            parts = self._rest()
            names = ("rest", "frauds")
            records |= {
                ("part", name): part
                for name, part, written in zip(names, parts, self._written or (None, None), strict=True)
                if part != written
            }
            self._written = parts
            change_set = ChangeSet(replaced=changes.replaced, records=records)
            changes.forget()
            return change_set

    def return_changes(self, changes: ChangeSet) -> None:
        """Take changes back that could not be written."""
        with self._lock:
            self._changes.restore(changes)
            self._written = ()

    def _rest(self) -> tuple[State, State]:
        """Return what is neither a session, a webhook nor an event: what changes often, and what grows."""
        is_virtual = isinstance(self.clock, VirtualClock)
        rules = self._scenario.rules
        rest = State(
            now=self.clock.now() if is_virtual else EARLIEST,
            is_virtual=is_virtual,
            options=rules.options,
            decide_after=rules.decide_after,
            deletions=self._scenario.sessions.deletions,
            holds=self._queue.holds,
            faults=self._faults.waiting,
            bucket=TokenBucket(None),
            faces=FaceState(named={}, faces=()),
            frauds={},
        )
        return rest, evolve(
            rest, deletions=(), holds=(), faults=(), faces=self._faces.state, frauds=self._frauds.reports, now=EARLIEST
        )
