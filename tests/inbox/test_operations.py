"""Work on a whole inbox: reading, exporting, replaying to a URL and to handlers, and retrying dead events."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, cast

import pytest
from aiohttp import web

from veriff_async import ConfigurationError, Credentials, DecisionEvent, WebhookReceiver
from veriff_async.inbox import (
    Delivery,
    DeliveryOutcome,
    DeliveryStatus,
    MemoryInbox,
    SearchableInbox,
    SessionSearch,
    _operations,
    _replay,
    export_events,
    iter_events,
    iter_sessions,
    load_event,
    replay_events,
    requeue_events,
    retry_dead,
)
from veriff_async.testing import decision_event, session_event, watchlist_event
from veriff_async.testing.factories import resubmitted_event
from veriff_async.webhooks import UnrecoverableError, aiohttp_app

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence

    from aiohttp.typedefs import Handler

    from veriff_async import WebhookEvent
    from veriff_async.inbox import ReplayedEvent

pytestmark = pytest.mark.anyio

CREDENTIALS: Final = Credentials("3f2504e0-4f89-11d3-9a0c-0305e82c3301", "secret", integration_id="integration")


async def fill(inbox: MemoryInbox, count: int = 3, *, deliver: bool = False) -> list[str]:
    """Record a submission and a decision of some sessions, and return their ids, the latest first."""
    ids = [f"session-{number}" for number in range(count)]
    for session_id in ids:
        await inbox.record(session_event(session_id, "submitted"), deliver=deliver)
        await inbox.record(decision_event(session_id, "approved"), deliver=deliver)
    return ids[::-1]


async def kill(inbox: MemoryInbox, *errors: str) -> None:
    """Let the first attempts of some events be their last."""
    for error in errors:
        (delivery,) = await inbox.lease(1, seconds=60)
        await inbox.settle(delivery, DeliveryOutcome(status=DeliveryStatus.DEAD, error=error))


async def collect(items: AsyncGenerator[Any]) -> list[Any]:
    """Return all items."""
    async with aclosing(items):
        return [item async for item in items]


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read two sessions at once."""
    monkeypatch.setattr(_operations, "PAGE_SIZE", 2)


@pytest.mark.usefixtures("small_pages")
async def test_all_sessions_and_events_are_read() -> None:
    """Every session comes once, over all pages, and its events come in the order of recording."""
    inbox = MemoryInbox()
    ids = await fill(inbox, 5)
    await inbox.record(watchlist_event(None))

    assert [None, *ids] == [session.session_id for session in await collect(iter_sessions(inbox))]
    events = await collect(iter_events(inbox))
    assert [(None, "watchlist")] + [(id_, kind) for id_ in ids for kind in ("event", "decision")] == [
        (stored.event.session_id, stored.event.kind) for stored in events
    ]
    assert ["session-1"] == [
        session.session_id for session in await collect(iter_sessions(inbox, SessionSearch(session_id="session-1")))
    ]


@pytest.mark.parametrize("count", [_operations._CONCURRENCY, _operations._CONCURRENCY + 1])
async def test_events_of_many_sessions_are_read_once_and_in_order(count: int) -> None:
    """More sessions than are read at once, or just as many, come complete and the latest first."""
    inbox = MemoryInbox()
    ids = await fill(inbox, count)

    events = await collect(iter_events(inbox))

    assert [session_id for session_id in ids for _ in range(2)] == [stored.event.session_id for stored in events]


async def test_an_export_is_json_that_can_be_read_back() -> None:
    """A line has the whole webhook and how far the handlers are, and its event is the one that was recorded."""
    inbox = MemoryInbox()
    await inbox.record(decision_event("s", "approved"), deliver=True)
    await kill(inbox, "ValueError at app.py:7")

    (line,) = await collect(export_events(inbox))

    document = json.loads(line)
    (event,) = await inbox.get_events("s")
    assert event == load_event(document["kind"], json.dumps(document["event"]).encode())
    assert event.dedup_key == document["dedup_key"]
    assert ("s", "dead", 1, "ValueError at app.py:7") == tuple(
        document[name] for name in ("session_id", "delivery", "attempts", "error")
    )
    assert "\n" not in line
    assert document["recorded_at"].endswith("+00:00")


async def test_dead_events_are_retried() -> None:
    """All dead events, those of a session, or those with an error are queued again, and other events are not."""
    inbox = MemoryInbox()
    await fill(inbox, 3, deliver=True)
    await kill(inbox, "ValueError", "KeyError", "ValueError")
    counts: list[int] = []

    assert 0 == await retry_dead(inbox, session_id="session-9")
    assert 0 == await retry_dead(inbox, session_id="session-1", error="KeyError")
    assert 2 == await retry_dead(inbox, error="ValueError", on_progress=counts.append)
    assert [2] == counts
    (dead,) = await inbox.get_deliveries(status=DeliveryStatus.DEAD)
    assert "KeyError" == dead.error
    assert 1 == await retry_dead(inbox)
    assert 0 == await retry_dead(inbox)


async def test_the_dead_events_of_a_session_keep_their_order() -> None:
    """Events that died one after the other are queued in that order."""
    inbox = MemoryInbox()
    await fill(inbox, 1, deliver=True)
    await kill(inbox, "one", "two")

    assert 2 == await retry_dead(inbox)

    (first,) = await inbox.lease(9, seconds=60)
    assert "event" == first.event.kind


async def test_retried_events_reach_the_handlers_of_the_application() -> None:
    """A handler that gave up is called again after the cause is repaired, and then the event is handled."""
    inbox, repaired, handled = MemoryInbox(), False, list[str | None]()
    receiver = WebhookReceiver(CREDENTIALS, inbox)

    @receiver.on(DecisionEvent)
    async def charge(delivery: Delivery[DecisionEvent]) -> None:
        if not repaired:
            raise UnrecoverableError
        handled.append(delivery.event.session_id)

    await inbox.record(decision_event("s", "approved"), deliver=True)
    await receiver.handle_pending()
    assert 1 == (await inbox.statistics()).dead

    repaired = True
    assert 1 == await retry_dead(inbox)
    await receiver.handle_pending()
    assert 1 == await requeue_events(inbox, SessionSearch(session_id="s"))
    await receiver.handle_pending()

    assert ["s", "s"] == handled
    assert [DeliveryStatus.HANDLED] == [each.status for each in await inbox.get_deliveries()]
    await receiver.aclose()


class FailingInbox(MemoryInbox):
    """An inbox with a mistake, which one session shows while the calls for others wait."""

    def __init__(self) -> None:
        """Start with nothing."""
        super().__init__()
        self.cancelled = 0

    async def get_events(self, session_id: str | None) -> Sequence[WebhookEvent]:
        """Fail, or wait without an end."""
        if session_id == "session-1":
            raise NotImplementedError
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return ()


async def test_no_call_runs_after_an_error() -> None:
    """If the code of an inbox fails, the calls for other sessions are cancelled before the error is raised."""
    inbox = FailingInbox()
    await fill(inbox, 4)

    with pytest.raises(NotImplementedError):
        await collect(iter_events(inbox))

    assert 3 == inbox.cancelled


async def test_events_are_queued_for_the_handlers_again() -> None:
    """Handled events, and those recorded without handlers, are queued; queued and leased ones stay."""
    inbox = MemoryInbox()
    await fill(inbox, 2)
    await inbox.record(decision_event("session-1", "resubmission_requested", attempt_id="second"))
    await inbox.record(resubmitted_event("session-1", attempt_id="second"))  # a client's own: Veriff never sent it
    await inbox.record(session_event("session-2", "submitted"), deliver=True)
    counts: list[int] = []

    assert 5 == await requeue_events(inbox, on_progress=counts.append)

    assert 5 == counts[-1]
    assert 6 == (await inbox.statistics()).queued
    assert 0 == await requeue_events(inbox)


class Endpoint:
    """A real receiver on a port of this machine, before which a test may put its own answers."""

    def __init__(self) -> None:
        """Receive into an empty inbox."""
        self.inbox = MemoryInbox()
        self.receiver = WebhookReceiver(CREDENTIALS, self.inbox)
        self.answers: list[int] = []
        self.requests: list[dict[str, str]] = []
        self.url = ""

    async def serve(self) -> AsyncIterator[Endpoint]:
        """Listen, and yield this object."""

        @web.middleware
        async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
            self.requests.append({name.lower(): value for name, value in request.headers.items()})
            if self.answers:
                return web.Response(status=self.answers.pop(0))
            return await handler(request)

        app = web.Application(middlewares=[answer])
        app.add_subapp("/hook", aiohttp_app(self.receiver))
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
            yield self
        finally:
            await runner.cleanup()


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    """Run an endpoint."""
    async for endpoint in Endpoint().serve():
        yield endpoint


def replay(inbox: SearchableInbox, endpoint: Endpoint, **options: Any) -> AsyncGenerator[ReplayedEvent]:  # noqa: ANN401
    """Replay quickly."""
    return replay_events(inbox, endpoint.url, CREDENTIALS, rate=10_000, **options)


async def test_a_real_receiver_accepts_a_replay(endpoint: Endpoint) -> None:
    """The receiver records the same events, and recognises them when they are replayed once more."""
    inbox = MemoryInbox()
    ids = await fill(inbox)
    await inbox.record(watchlist_event(None))

    events = await collect(replay(inbox, endpoint))

    assert 7 == len(events)
    assert all(event.is_accepted and event.status == 200 for event in events)
    assert [True] + [False, True] * 3 == [event.is_last for event in events]
    for session_id in (*ids, None):
        assert list(await inbox.get_events(session_id)) == list(await endpoint.inbox.get_events(session_id))
    assert "integration" == endpoint.requests[0]["vrf-integration-id"]

    await collect(replay(inbox, endpoint, search=SessionSearch(session_id=ids[0])))
    statistics = endpoint.receiver.statistics()
    assert (9, 2) == (statistics.recorded, statistics.duplicates)


async def test_a_limited_rate_drops_no_event(endpoint: Endpoint) -> None:
    """Events wait for their turn, and all are sent in their order."""
    inbox = MemoryInbox()
    await fill(inbox, 1)
    await inbox.record(watchlist_event(None))

    events = await collect(replay_events(inbox, endpoint.url, CREDENTIALS, rate=50))

    assert [True] * 3 == [event.is_accepted for event in events]
    assert ["watchlist", "event", "decision"] == [event.kind for event in events]


async def test_a_replay_continues_where_it_ended(endpoint: Endpoint) -> None:
    """Sessions that are done are not sent again."""
    inbox = MemoryInbox()
    ids = await fill(inbox)

    events = await collect(replay(inbox, endpoint, done={ids[0], ids[2]}))

    assert {ids[1]} == {event.session_id for event in events}


async def test_events_that_a_client_recorded_are_not_sent(endpoint: Endpoint) -> None:
    """The note of a client that it submitted again is no webhook."""
    inbox = MemoryInbox()
    await inbox.record(decision_event("s", "resubmission_requested"))
    await inbox.record(resubmitted_event("s"))
    assert 2 == len(await inbox.get_events("s"))

    (event,) = await collect(replay(inbox, endpoint))

    assert ("decision", True) == (event.kind, event.is_last)


@pytest.mark.parametrize(("answers", "accepted"), [((503, 429), True), ((500, 503, 502), False)])
async def test_temporary_failures_are_repeated(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, answers: tuple[int, ...], *, accepted: bool
) -> None:
    """An answer of 429 or 5xx is repeated, twice at most."""
    monkeypatch.setattr(_replay, "_PAUSES", (0.0, 0.0))
    inbox = MemoryInbox()
    await inbox.record(session_event("s", "submitted"))
    endpoint.answers = list(answers)

    (event,) = await collect(replay(inbox, endpoint))

    assert (accepted, 3) == (event.is_accepted, len(endpoint.requests))


async def test_an_endpoint_that_does_not_listen_is_named(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a response the event says why."""
    monkeypatch.setattr(_replay, "_PAUSES", ())
    inbox = MemoryInbox()
    await inbox.record(session_event("s", "submitted"))

    (event,) = await collect(replay_events(inbox, "http://127.0.0.1:9/hook", CREDENTIALS))

    assert (False, None) == (event.is_accepted, event.status)
    assert event.problem.startswith("no connection")


async def test_later_events_of_a_session_wait_for_refused_ones(endpoint: Endpoint) -> None:
    """If an event is not accepted, its session ends there, so that the order stays, and the next session follows."""
    inbox = MemoryInbox()
    ids = await fill(inbox, 2)
    endpoint.answers = [401]

    events = await collect(replay(inbox, endpoint))

    assert [(ids[0], 401, False), (ids[1], 200, False), (ids[1], 200, True)] == [
        (event.session_id, event.status, event.is_last) for event in events
    ]


class OwnInbox:
    """An inbox of a user's own with the required methods only."""

    def __init__(self) -> None:
        """Keep events in memory."""
        inbox = MemoryInbox()
        for name in ("record", "get_states", "subscribe", "get_events", "aclose"):
            setattr(self, name, getattr(inbox, name))


WRONG: Final[list[tuple[Callable[[Any], Awaitable[object]], str]]] = [
    (lambda inbox: collect(iter_sessions(inbox)), "must be a SearchableInbox, and OwnInbox lacks methods"),
    (lambda inbox: collect(export_events(inbox)), "must be a SearchableInbox"),
    (requeue_events, "must be a DeliveryInbox"),
    (retry_dead, "must be a DeliveryInbox"),
    (lambda _inbox: collect(iter_sessions(MemoryInbox(), cast("SessionSearch", "s"))), "search must be a Sess"),
    (lambda _inbox: collect(replay_events(MemoryInbox(), "hook", CREDENTIALS)), "url must be an absolute"),
    (lambda _inbox: collect(replay_events(MemoryInbox(), "http://[", CREDENTIALS)), "url must be an absolute"),
    (lambda _inbox: collect(replay_events(MemoryInbox(), "http://a", CREDENTIALS, rate=0)), "rate is 0"),
]


@pytest.mark.parametrize(("call", "words"), WRONG)
async def test_wrong_arguments_are_named(call: Callable[[Any], Awaitable[object]], words: str) -> None:
    """An inbox without the methods, or a wrong value, is an error that says what to pass."""
    with pytest.raises(ConfigurationError, match=words):
        await call(OwnInbox())
