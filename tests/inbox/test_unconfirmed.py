"""Records whose responses were lost are remembered until their webhooks come again, or their sessions are erased."""

from __future__ import annotations

from contextlib import suppress

from attrs import define

from veriff_async import InboxError
from veriff_async.inbox import RecordResult
from veriff_async.inbox._unconfirmed import UnconfirmedCalls
from veriff_async.testing import session_event


@define(eq=False)
class Call:
    """A call of `record`."""

    sent: RecordResult | None = None
    is_left: bool = False


def fail(calls: UnconfirmedCalls[Call], session_id: str, *, is_sent: bool = True) -> Call:
    """Return a call for an event of a session that has failed, by default after it was sent."""
    event = session_event(session_id, "started")
    made = Call()
    with suppress(InboxError), calls.track(event, lambda: made) as call:
        call.sent = RecordResult(event=event) if is_sent else None
        raise InboxError
    return made


def test_call_that_was_sent_is_continued_once() -> None:
    """The next record of the event continues the call, and the one after it is a new call."""
    calls = UnconfirmedCalls[Call]()
    failed = fail(calls, "s")
    event = session_event("s", "started")

    with calls.track(event, Call) as second:
        assert second is failed
    with calls.track(event, Call) as third:
        assert third is not failed


def test_call_that_was_not_sent_is_forgotten() -> None:
    """An event that was certainly not stored is recorded by a new call."""
    calls = UnconfirmedCalls[Call]()
    failed = fail(calls, "s", is_sent=False)

    with calls.track(session_event("s", "started"), Call) as second:
        assert second is not failed


def test_call_that_was_left_is_continued() -> None:
    """A call whose transaction may still be sent is continued, also by a call that fails itself."""
    calls, event = UnconfirmedCalls[Call](), session_event("s", "started")
    for _ in range(2):
        with suppress(InboxError), calls.track(event, Call) as call:
            call.is_left = True
            raise InboxError
        with suppress(InboxError), calls.track(event, Call) as second:
            assert second is call
            raise InboxError


def test_erasure_forgets_the_calls_of_a_session() -> None:
    """Calls for events of erased sessions, which hold these events, are removed; others stay."""
    calls = UnconfirmedCalls[Call]()
    erased, kept = fail(calls, "erased"), fail(calls, "kept")

    calls.erase(["erased"])

    with calls.track(session_event("erased", "started"), Call) as call:
        assert call is not erased
    with calls.track(session_event("kept", "started"), Call) as call:
        assert call is kept
