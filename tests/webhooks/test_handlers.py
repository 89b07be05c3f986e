"""Handlers delay no response, get every event at least once, and are called even if the request is cancelled."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import threading
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.webhooks.conftest import CREDENTIALS, OwnInbox, in_aiohttp, message, sign_headers, under_aiohttp
from veriff_async import ConfigurationError, DecisionEvent, DecisionSource, DeliveryPolicy, InboxError, SessionEvent
from veriff_async._protocol.webhook import dump_event
from veriff_async.models.delivery import Delivery, DeliveryStatus
from veriff_async.testing import decision_event, session_event
from veriff_async.webhooks import WebhookReceiver, _tasks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from typing import TypeAlias

    from veriff_async.inbox import MemoryInbox
    from veriff_async.models.events import WebhookEvent

    AnyDelivery: TypeAlias = Delivery[WebhookEvent]

pytestmark = pytest.mark.anyio

BODY: Final = message()
ONCE: Final = DeliveryPolicy(max_attempts=1)


async def take(receiver: WebhookReceiver, body: bytes = BODY) -> int:
    """Handle a webhook, and return the status of the response."""
    return (await receiver.handle("POST", sign_headers(body), body)).status


class Slow:
    """A coroutine function that waits until it may end."""

    def __init__(self) -> None:
        """Start without results."""
        self.results: list[AnyDelivery] = []
        self.began = asyncio.Event()
        self.may_end = asyncio.Event()
        self.ended = 0
        self.cancelled = 0

    async def __call__(self, result: AnyDelivery) -> None:
        """Note a result."""
        self.results.append(result)
        self.began.set()
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.ended += 1


async def test_on_event_gets_the_record_result(inbox: MemoryInbox) -> None:
    """It gets the event, the state and the reason if it was ignored, and is not called for a repetition."""
    results: list[AnyDelivery] = []
    async with WebhookReceiver(CREDENTIALS, inbox, on_event=results.append) as receiver:
        assert [200, 200] == [await take(receiver), await take(receiver)]

    assert 1 == len(results)
    assert isinstance(results[0].event, SessionEvent)
    assert results[0].state is not None
    assert results[0].ignored is None


async def test_response_does_not_wait_for_on_event(inbox: MemoryInbox) -> None:
    """The response is sent before it ends; closing the receiver waits for it."""
    slow = Slow()
    async with WebhookReceiver(CREDENTIALS, inbox, on_event=slow) as receiver:
        assert 200 == await take(receiver)
        await slow.began.wait()
        assert 1 == receiver.statistics().active_events
        slow.may_end.set()

    assert (1, 0) == (slow.ended, receiver.statistics().active_events)


async def test_plain_function_is_called_in_a_thread(inbox: MemoryInbox) -> None:
    """It may block without blocking the loop."""
    threads: list[int] = []
    may_end = threading.Event()

    def block(_delivery: AnyDelivery) -> None:
        threads.append(threading.get_ident())
        may_end.wait()

    async with WebhookReceiver(CREDENTIALS, inbox, on_event=block) as receiver:
        assert 200 == await take(receiver)
        while not threads:  # noqa: ASYNC110  the thread has no event of the loop's
            await asyncio.sleep(0)
        assert 200 == await take(receiver, message("submitted"))
        may_end.set()

    assert 2 == len(threads)
    assert threading.get_ident() not in threads


async def test_function_may_return_a_coroutine(inbox: MemoryInbox) -> None:
    """Partials and functions around a coroutine function are awaited on the loop."""
    threads: list[int] = []

    async def note(_word: str, _delivery: AnyDelivery) -> None:
        await asyncio.sleep(0)
        threads.append(threading.get_ident())

    def around(result: AnyDelivery) -> object:
        return note("", result)

    for function in (partial(note, ""), around):
        async with WebhookReceiver(CREDENTIALS, inbox, on_event=function) as receiver:
            assert 200 == await take(receiver, message(session_id=str(len(threads))))
    assert [threading.get_ident()] * 2 == threads


async def test_failed_on_event_loses_no_event(inbox: MemoryInbox, caplog: pytest.LogCaptureFixture) -> None:
    """The event is recorded and answered 200, and the log has type, file and line of the error, not its text."""

    async def fail(result: AnyDelivery) -> None:
        await asyncio.sleep(0)
        raise ValueError(result, "ada@example.com")

    async def await_what_was_cancelled(_delivery: AnyDelivery) -> None:
        gone = asyncio.get_running_loop().create_future()
        gone.cancel()
        await gone

    functions: list[Callable[[AnyDelivery], object]] = [fail, await_what_was_cancelled, lambda _: 1 // 0]
    for number, function in enumerate(functions):
        async with WebhookReceiver(CREDENTIALS, inbox, on_event=function, delivery=ONCE) as receiver:
            assert 200 == await take(receiver, message("started", f"{number}"))
            assert 200 == await take(receiver, message("submitted", f"{number}"))
        assert (2, 2, 2) == (
            len(await inbox.get_events(f"{number}")),
            receiver.statistics().attempts_failed,
            receiver.statistics().dead_letters,
        )

    assert all(word in caplog.text for word in ("ValueError", "CancelledError", "ZeroDivisionError"))
    # A failure is logged once, and once more with the dead letter.
    assert 12 == caplog.text.count(f" at {__file__}:")
    assert not any(word in caplog.text for word in ("ada@example.com", "Traceback", "8f0d1ab6"))


async def test_failure_is_logged_with_file_and_line(inbox: MemoryInbox, caplog: pytest.LogCaptureFixture) -> None:
    """The log names file and line where an error was raised and of the user's function, in a thread and on the loop."""

    def raise_deep(_delivery: AnyDelivery) -> None:
        json.loads("ada@example.com")

    async def raise_later(result: AnyDelivery) -> None:
        await asyncio.sleep(0)
        raise_deep(result)

    class OddError(BaseException):
        """An exception that is not a subclass of Exception, as some libraries have."""

    async def raise_odd(_delivery: AnyDelivery) -> None:
        raise OddError

    functions: list[Callable[[AnyDelivery], object]] = [raise_deep, raise_later, raise_odd, partial(raise_later)]
    for number, function in enumerate(functions):
        async with WebhookReceiver(CREDENTIALS, inbox, on_event=function, delivery=ONCE) as receiver:
            assert 200 == await take(receiver, message(session_id=f"{number}"))
        assert 1 == receiver.statistics().attempts_failed

    first, later = raise_deep.__code__.co_firstlineno + 1, raise_later.__code__.co_firstlineno + 2
    deep = rf"\S+ failed with JSONDecodeError at \S+decoder.py:\d+, called from {re.escape(__file__)}:"
    lines = [line.removeprefix("Handler ") for record in caplog.records if " failed" in (line := record.getMessage())]
    assert re.match(f"{deep}{first} in attempt 1", lines[0])
    assert re.match(f"{deep}{later} in attempt 1", lines[1])
    assert f".raise_odd failed with OddError at {__file__}:" in lines[2]
    assert re.match(f"{deep}{later} in attempt 1", lines[3])
    assert not any(word in caplog.text for word in ("ada@example.com", "Traceback", "8f0d1ab6"))


@pytest.mark.parametrize("kind", ["async", "async that returns at once", "plain"])
async def test_queued_calls_do_not_block_the_loop(inbox: MemoryInbox, kind: str) -> None:
    """The loop starts one call in each iteration, with other work in between."""
    turn, calls_in = 0, Counter[int]()
    may_end = asyncio.Event()

    async def wait_first(_delivery: AnyDelivery) -> None:
        await may_end.wait()
        calls_in[turn] += 1

    async def return_at_once(_delivery: AnyDelivery) -> None:
        calls_in[turn] += 1

    def plain(_delivery: AnyDelivery) -> None:
        calls_in[turn] += 1

    function = {"async": wait_first, "async that returns at once": return_at_once, "plain": plain}[kind]
    async with WebhookReceiver(CREDENTIALS, inbox, on_event=function, max_running=4) as receiver:
        for number in range(300):
            await inbox.record(session_event(f"s-{number}", "started"), deliver=True)
        await receiver.receive(sign_headers(BODY), BODY)
        may_end.set()
        while receiver.statistics().events_handled < 301:
            turn += 1
            await asyncio.sleep(0)

    assert 301 == calls_in.total()
    assert 4 >= max(calls_in.values())


async def test_cancelled_tasks_do_not_stop_later_calls(inbox: MemoryInbox) -> None:
    """If a program cancels every task of the loop, the attempts are given back and begin again with the next event."""
    slow, results = Slow(), list["AnyDelivery"]()

    async def call(result: AnyDelivery) -> None:
        await slow(result)
        results.append(result)

    async with WebhookReceiver(CREDENTIALS, inbox, on_event=call, max_running=1) as receiver:
        assert [200, 200] == [await take(receiver), await take(receiver, message("submitted"))]
        await slow.began.wait()
        ours = [task for task in asyncio.all_tasks() if task.get_name().startswith("veriff handler")]
        assert 2 == len(ours)
        for task in ours:
            task.cancel()
        await asyncio.gather(*ours, return_exceptions=True)
        slow.may_end.set()
        assert 200 == await take(receiver, message(session_id="another"))

    assert [1, 1, 1] == [delivery.attempt for delivery in results]


async def test_calls_are_limited_and_ordered(inbox: MemoryInbox) -> None:
    """Further calls wait, and with one at a time they keep the order of recording."""
    slow = Slow()
    async with WebhookReceiver(CREDENTIALS, inbox, on_event=slow, max_running=1) as receiver:
        for number in range(5):
            assert 200 == await take(receiver, message(session_id=f"{number}"))
        await slow.began.wait()
        assert (1, 5) == (receiver.statistics().active_events, receiver.statistics().events_queued)
        slow.may_end.set()

    assert [f"{number}" for number in range(5)] == [recorded.event.session_id for recorded in slow.results]


async def test_cancelled_request_is_recorded_and_calls_on_event() -> None:
    """A server that cancels the request, because Veriff hung up, stops neither the record nor the call."""
    inbox, results = OwnInbox(waits=True), list[object]()
    async with (
        WebhookReceiver(CREDENTIALS, inbox, on_event=results.append) as receiver,
        under_aiohttp(in_aiohttp(receiver)) as server,
    ):
        request = asyncio.create_task(server.post(BODY, sign_headers(BODY)))
        await inbox.kept.wait()
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
        inbox.may_end.set()

    assert (1, 1) == (len(results), receiver.statistics().recorded)


async def test_cancelled_receive_is_recorded_and_calls_on_event() -> None:
    """The same for a framework that cancels its coroutine at any of its steps."""
    inbox, results = OwnInbox(waits=True), list[object]()
    async with WebhookReceiver(CREDENTIALS, inbox, on_event=results.append) as receiver:
        call = asyncio.create_task(receiver.receive(sign_headers(BODY), BODY))
        await inbox.kept.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        inbox.may_end.set()
    assert 1 == len(results)


async def test_late_record_calls_on_event_once(advance_time: Callable[[float], None]) -> None:
    """A late record is answered 503; it calls on_event when it ends, its repetition does not."""
    inbox, results = OwnInbox(waits=True), list[object]()
    async with WebhookReceiver(CREDENTIALS, inbox, on_event=results.append) as receiver:
        late = asyncio.create_task(take(receiver))
        await inbox.kept.wait()
        advance_time(4.1)
        assert 503 == await late
        inbox.may_end.set()
        assert 200 == await take(receiver)

    assert (1, 1, 1) == (len(results), receiver.statistics().record_failures, receiver.statistics().duplicates)


async def test_hanging_inbox_accepts_limited_events(advance_time: Callable[[float], None]) -> None:
    """With a thousand waiting records, further webhooks are answered 503 immediately."""
    inbox = OwnInbox(waits=True)
    async with WebhookReceiver(CREDENTIALS, inbox) as receiver:
        waiting = [asyncio.create_task(take(receiver, message(session_id=f"{number}"))) for number in range(1000)]
        await inbox.kept.wait()  # the first to be asked for; the others began with it
        assert 503 == await take(receiver)
        advance_time(4.1)
        assert {503} == set(await asyncio.gather(*waiting))
        inbox.may_end.set()


async def test_hanging_records_leave_their_slots(
    advance_time: Callable[[float], None], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that hangs has no slot once its request is answered; the oldest are cancelled, with one log line."""
    monkeypatch.setattr(_tasks, "_MAX_RECORDS", 50)  # as many as there are would take seconds
    inbox = OwnInbox(waits=True)
    async with WebhookReceiver(CREDENTIALS, inbox) as receiver:
        for part in range(2):
            inbox.kept.clear()
            bodies = [message(session_id=f"{part}-{number}") for number in range(50)]
            waiting = [asyncio.create_task(take(receiver, body)) for body in bodies]
            await inbox.kept.wait()
            assert 503 == await take(receiver)
            advance_time(4.1)
            assert {503} == set(await asyncio.gather(*waiting))
        inbox.may_end.set()
        assert 200 == await take(receiver)

    assert 1 == caplog.text.count("The inbox does not finish its records")
    assert 51 == receiver.statistics().recorded  # the newer fifty were recorded after all


async def test_closing_waits_and_then_cancels(inbox: MemoryInbox, advance_time: Callable[[float], None]) -> None:
    """Running calls are cancelled; their events and those that wait stay queued, with no attempt counted."""
    slow = Slow()
    receiver = WebhookReceiver(CREDENTIALS, inbox, on_event=slow, max_running=1)
    assert [200, 200] == [await take(receiver), await take(receiver, message("submitted"))]
    await slow.began.wait()
    closing = asyncio.create_task(receiver.aclose())
    await asyncio.sleep(0)
    advance_time(10.1)
    await closing

    assert (1, 0, 0) == (slow.cancelled, slow.ended, receiver.statistics().attempts_failed)
    waiting = await inbox.get_deliveries(status=DeliveryStatus.QUEUED)
    assert [0, 0] == [record.attempts for record in waiting]


async def test_blocked_thread_does_not_delay_closing(inbox: MemoryInbox, advance_time: Callable[[float], None]) -> None:
    """A function in a thread cannot be cancelled: it is left behind to end by itself."""
    may_end = threading.Event()
    began = threading.Event()

    def block(_delivery: AnyDelivery) -> None:
        began.set()
        may_end.wait()

    receiver = WebhookReceiver(CREDENTIALS, inbox, on_event=block)
    await take(receiver)
    while not began.is_set():  # noqa: ASYNC110  the thread has no event of the loop's
        await asyncio.sleep(0)
    closing = asyncio.create_task(receiver.aclose())
    await asyncio.sleep(0)
    advance_time(10.1)
    await closing
    may_end.set()


async def test_closed_receiver_answers_503(inbox: MemoryInbox) -> None:
    """After closing nothing is recorded, so that Veriff sends it again; closing twice has no effect."""
    async with WebhookReceiver(CREDENTIALS, inbox) as receiver:
        await receiver.aclose()
    assert 503 == await take(receiver)
    assert 401 == (await receiver.handle("POST", sign_headers(BODY, x_hmac_signature="0" * 64), BODY)).status
    with pytest.raises(InboxError, match="closed"):
        await receiver.receive(sign_headers(BODY), BODY)
    assert () == await inbox.get_events("8f0d1ab6")


async def test_closing_cancels_a_hanging_record(advance_time: Callable[[float], None]) -> None:
    """A hanging record is cancelled in the end, and its request answered 503."""
    inbox = OwnInbox(waits=True)
    receiver = WebhookReceiver(CREDENTIALS, inbox, record_timeout=60)
    late = asyncio.create_task(take(receiver))
    await inbox.kept.wait()
    closing = asyncio.create_task(receiver.aclose())
    await asyncio.sleep(0)
    advance_time(10.1)
    await closing
    assert 503 == await late


@pytest.mark.parametrize("ip", [None, "::1"])
async def test_polled_decision_still_calls_on_event(inbox: MemoryInbox, ip: str | None) -> None:
    """Its first webhook calls the function as news, with the same JSON or a fuller one; the next ones do not."""
    decisions: list[str] = []

    async def report(result: AnyDelivery) -> None:  # as in docs/how-to/receive-webhooks.md
        if result.ignored is None and isinstance(result.event, DecisionEvent):
            decisions.append(result.event.decision.status)

    await inbox.record(decision_event("s", "approved", minute=1), source=DecisionSource.POLL)
    async with WebhookReceiver(CREDENTIALS, inbox, on_event=report) as receiver:
        for body in (dump_event(decision_event("s", "approved", minute=1, ip=each)) for each in (ip, ip, "::2")):
            assert 200 == await take(receiver, body)

    assert ["approved"] == decisions


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
async def test_exit_in_a_thread_ends_only_the_call(
    inbox: MemoryInbox, caplog: pytest.LogCaptureFixture, kind: type[BaseException]
) -> None:
    """An exit in its thread is a failure of the call: the server and later calls continue."""
    results: list[AnyDelivery] = []

    def leave(result: AnyDelivery) -> None:
        results.append(result)
        raise kind

    async with WebhookReceiver(CREDENTIALS, inbox, on_event=leave, delivery=ONCE) as receiver:
        assert [200, 200] == [await take(receiver), await take(receiver, message("submitted"))]

    assert (2, 2) == (len(results), receiver.statistics().attempts_failed)
    assert f".leave failed with {kind.__name__} at {__file__}" in caplog.text


@pytest.mark.parametrize("in_task", [False, True])
async def test_on_event_may_close_the_receiver(inbox: MemoryInbox, *, in_task: bool) -> None:
    """A function that closes the receiver, also in a task of its own, does not wait for itself."""
    closed: list[AnyDelivery] = []

    async def close(result: AnyDelivery) -> None:
        await (asyncio.create_task(receiver.aclose()) if in_task else receiver.aclose())
        closed.append(result)

    receiver = WebhookReceiver(CREDENTIALS, inbox, on_event=close, close_timeout=1000)
    async with receiver:
        assert 200 == await take(receiver)

    assert 1 == len(closed)
    assert 0 == receiver.statistics().attempts_failed


def test_hanging_call_does_not_keep_the_process_alive() -> None:
    """A plain function that never returns ends with the process, once the receiver is closed."""
    program = """
import asyncio, threading
from tests.webhooks.conftest import CREDENTIALS, message, sign_headers
from veriff_async.inbox import MemoryInbox
from veriff_async.webhooks import WebhookReceiver

began = asyncio.Event()

async def main():
    loop = asyncio.get_running_loop()

    def hang(recorded):
        loop.call_soon_threadsafe(began.set)
        threading.Event().wait()

    async with WebhookReceiver(CREDENTIALS, MemoryInbox(), on_event=hang, close_timeout=0.01) as receiver:
        await receiver.receive(sign_headers(message()), message())
        await began.wait()

asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", program], timeout=30, check=False, capture_output=True)  # noqa: S603  our own

    assert (0, b"") == (ended.returncode, ended.stdout)


async def never_run(_delivery: AnyDelivery) -> AsyncGenerator[None]:
    """Be a generator function by mistake."""
    yield


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda: None, "one argument"),
        (lambda _one, _two: None, "one argument"),
        (lambda *, recorded: recorded, "one argument"),
        (never_run, "generator function"),
        (partial(never_run), "generator function"),
        (lambda recorded: (yield recorded), "generator function"),
        ("print", "must be a function"),
    ],
)
def test_function_that_cannot_be_called_is_refused(inbox: MemoryInbox, function: Any, words: str) -> None:  # noqa: ANN401
    """A mistake in the function is reported when the receiver is made, not at the first webhook in production."""
    with pytest.raises(ConfigurationError, match=words):
        WebhookReceiver(CREDENTIALS, inbox, on_event=function)
