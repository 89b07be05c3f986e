"""The rules of inboxes that keep submissions (`veriff_async.inbox.SubmissionInbox`), a part of their contract."""

from __future__ import annotations

from typing import Final

from veriff_async.config import Retention
from veriff_async.testing._harness import (
    ContractCase,
    InboxHandles,
    check_equal,
    get_keys,
    get_state,
    rule,
    subscribe,
)
from veriff_async.testing._requirements import require_submissions
from veriff_async.testing.factories import decision_event, session_event

__all__ = ("SubmissionContract",)

_TEXT: Final = '{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","submitted_at":1767225600.0}'


class SubmissionContract(ContractCase):
    """The rules of submissions. An inbox without `save_submission` skips them."""

    @rule
    async def test_submission_is_returned_with_the_state(self, store: InboxHandles) -> None:
        """A submission that was saved before the first event is part of each later state, in every handle."""
        mine, other = require_submissions(await store.open()), require_submissions(await store.open())
        await mine.save_submission("s", "earlier")
        await other.save_submission("s", _TEXT)
        await mine.save_submission("another", "another's")

        recorded = [
            await other.record(session_event("s", "submitted")),
            await mine.record(decision_event("s", "resubmission_requested", minute=1)),
            await mine.record(session_event("s", "started", attempt_id="second")),
        ]

        check_equal([each.state and each.state.submission for each in recorded], [_TEXT] * 3, "submissions of results")
        check_equal((await get_state(mine)).submission, _TEXT, "the submission in the same handle")
        await mine.save_submission("s", "later")
        check_equal((await get_state(other)).submission, "later", "the submission that replaced it, in another handle")

    @rule
    async def test_submission_changes_nothing_else(self, store: InboxHandles) -> None:
        """A submission is neither an event nor a state, and wakes no subscriber."""
        mine, other = require_submissions(await store.open()), await store.open()
        await mine.record(session_event("known", "started"))
        before = await get_state(other, "known")
        async with subscribe(other) as changes:
            for session_id in ("new", "known"):
                await mine.save_submission(session_id, _TEXT)
            await mine.record(session_event("woken", "started"))
            check_equal(await anext(changes) or "woken", "woken", "the first change")

        check_equal(await other.get_states(["new"]), {}, "states of a session without events")
        counts = [len(await get_keys(other, session_id)) for session_id in ("new", "known")]
        check_equal(counts, [0, 1], "stored events")
        check_equal(await get_state(other, "known"), before, "the state of a session that was submitted")
        recorded = await mine.record(session_event("new", "started"))
        check_equal((recorded.ignored, recorded.state and recorded.state.status), (None, "started"), "the first event")

    @rule
    async def test_submission_expires_with_its_session(self, store: InboxHandles) -> None:
        """A submission is deleted with its session, and a new one shows no state of a session that has expired."""
        store.retention = Retention(max_age=60.0)
        mine = require_submissions(await store.open())
        await mine.save_submission("s", _TEXT)
        await mine.record(decision_event("s", "approved"))
        for session_id in ("s", "other"):
            await mine.save_submission(session_id, _TEXT)
        store.time += 61

        await mine.save_submission("s", "later")
        check_equal(await mine.get_states(["s", "other"]), {}, "states of sessions that have expired")
        check_equal(await get_keys(mine), [], "events of a session that has expired")
        states = [(await mine.record(session_event(each, "started"))).state for each in ("s", "other")]
        check_equal([state and state.submission for state in states], ["later", None], "submissions")

    @rule
    async def test_submission_survives_closing(self, store: InboxHandles) -> None:
        """A submission is there after all handles were closed, as after a restart."""
        if not self.durable:
            return
        await require_submissions(await store.open()).save_submission("s", _TEXT)
        await store.close()

        recorded = await (await store.open()).record(session_event("s", "started"))
        check_equal(recorded.state and recorded.state.submission, _TEXT, "the submission")
