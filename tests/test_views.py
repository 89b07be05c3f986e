"""Views of clients and sessions: calls with other options over the same connections."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import weakref
from inspect import signature
from typing import TYPE_CHECKING, Any

import pytest

from tests.conditions import until
from tests.loops import VirtualTimeLoop, every_loop
from veriff_async import (
    CallNext,
    CallOptions,
    CallRequest,
    CallResponse,
    ClientClosedError,
    ClientOptions,
    ConfigurationError,
    Credentials,
    DecisionTimeoutError,
    InspectionThresholds,
    Media,
    MediaQualityError,
    Middleware,
    PictureThresholds,
    PollPolicy,
    RateLimitedError,
    RequestTimeoutError,
    RetryPolicy,
    ServerError,
    Status,
    Timeouts,
    TransportError,
    VeriffClient,
)
from veriff_async.inbox import MemoryInbox
from veriff_async.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from veriff_async import MediaInspection

pytestmark = pytest.mark.anyio

PICTURE = b"\xff\xd8\xff\xe0" + bytes(60)
ONCE = RetryPolicy(max_attempts=1)
IMPATIENT = Timeouts(idle=0.05)
DECISION = "*/decision"
SESSION_ID = "8f0d1ab6-0000-4000-8000-000000000001"


@pytest.fixture
def client_options() -> ClientOptions:
    """Repeat quickly."""
    return {"retry": RetryPolicy(initial_backoff=0.01, max_backoff=0.01)}


@pytest.fixture
def closed() -> VeriffClient:
    """Return a client that has not connected to anything."""
    return VeriffClient(Credentials("key", "secret"), base_url="https://veriff.example")


def count_polls(sandbox: Sandbox) -> int:
    """Return how many requests for decisions the sandbox has received."""
    return sum(seen.path.endswith("/decision") for seen in sandbox.requests)


@every_loop
async def test_timeouts_of_a_view_end_its_calls_only(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """A view gives up after its own time, and calls of the client keep theirs."""
    session = await veriff.create_session()
    sandbox.inject(Fault.hang(), path=DECISION)
    view = veriff.with_options(timeouts=IMPATIENT, retry=ONCE)

    with pytest.raises(RequestTimeoutError):
        await view.session(session.id).decision()
    assert await session.decision() is None


async def test_retries_of_a_view_are_its_own(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """A view that tries once raises the first error; the client tries again."""
    session = await veriff.create_session()
    sandbox.inject(Fault.status(500), path=DECISION)
    with pytest.raises(ServerError):
        await session.with_options(retry=ONCE).decision()
    sandbox.inject(Fault.status(500), path=DECISION)

    assert await session.decision() is None
    assert 1 == veriff.statistics().retries


async def test_view_of_a_view_keeps_the_options_of_both(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """Options add up, the last of a name counts, and ``None`` keeps the value of the first view."""
    session = await veriff.create_session()
    first = veriff.with_options(timeouts=IMPATIENT, retry=RetryPolicy())
    second = first.with_options(retry=ONCE).with_options(timeouts=None)
    sandbox.inject(Fault.hang(), path=DECISION, times=2)

    with pytest.raises(RequestTimeoutError):
        await second.session(session.id).decision()
    with pytest.raises(RequestTimeoutError):
        await session.with_options(timeouts=IMPATIENT).with_options(retry=ONCE).decision()


async def test_views_share_statistics_and_connections(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """Calls of views use the connection of the client and count with its calls."""
    session = await veriff.create_session()
    await session.decision()
    view = veriff.with_options(timeouts=Timeouts(total=5))
    before = veriff.statistics()
    await view.session(session.id).upload(Media(PICTURE, "face"))
    await session.with_options(retry=ONCE).decision()

    assert veriff.statistics() == view.statistics()
    assert before.requests + 2 == veriff.statistics().requests
    assert 1 == veriff.statistics().uploads
    assert before.bytes_sent < veriff.statistics().bytes_sent
    assert veriff._runtime.pool is view._runtime.pool


async def test_pause_of_a_view_holds_all_calls_back(
    sandbox: Sandbox, veriff: VeriffClient, advance_time: Callable[[float], None]
) -> None:
    """A 429 to a view pauses the client by the client's policy, however patient the view is."""
    session = await veriff.create_session()
    view = veriff.with_options(retry=RetryPolicy(max_retry_after=0, max_elapsed=1)).session(session.id)
    sandbox.inject(Fault.status(429, retry_after=30), path=DECISION)
    with pytest.raises(RateLimitedError):
        await view.decision()

    assert 29 < veriff.statistics().cooldown_remaining <= 30
    with pytest.raises(RateLimitedError, match="was not sent"):
        await view.decision()
    waiting = asyncio.create_task(session.decision())
    await asyncio.sleep(0)
    advance_time(31)
    assert await waiting is None


async def test_patient_view_pauses_others_no_longer_than_the_client_allows(
    sandbox: Sandbox, veriff: VeriffClient, advance_time: Callable[[float], None]
) -> None:
    """A view that obeys a long ``Retry-After`` waits alone; the other calls resume after the client's limit."""
    session = await veriff.create_session()
    patient = session.with_options(retry=RetryPolicy(max_retry_after=600, max_elapsed=900))
    sandbox.inject(Fault.status(503, retry_after=500), path=DECISION)
    waiting = asyncio.create_task(patient.decision())
    await until(lambda: veriff.statistics().cooldown_remaining)

    assert veriff.statistics().cooldown_remaining <= 60
    advance_time(61)
    assert await session.decision() is None
    assert not waiting.done()
    advance_time(500)
    assert await waiting is None


async def test_waits_of_a_view_poll_by_its_policy(
    sandbox: Sandbox, veriff: VeriffClient, advance_time: Callable[[float], None]
) -> None:
    """One poller serves the waits of views and client, each by its own policy."""
    session, other = await veriff.create_session(), await veriff.create_session()
    rare = PollPolicy(initial_delay=500, interval=500, max_interval=500)
    waits = [
        asyncio.create_task(session.with_options(poll=rare).wait_for_decision(timeout=None)),
        asyncio.create_task(veriff.with_options(poll=rare).session(other.id).wait_for_decision(timeout=None)),
    ]
    await until(lambda: veriff.statistics().waiters == 2)
    advance_time(400)
    assert await veriff.session(other.id).decision() is None
    assert 1 == count_polls(sandbox)
    for each in (session, other):
        sandbox.decide(each.id, "approved")
    advance_time(101)

    assert all(decision.is_approved for decision in await asyncio.gather(*waits))
    assert session.status == Status.APPROVED


async def test_wait_that_asks_once_uses_the_options_of_its_view(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """With a timeout of zero the view asks itself, rather than the poller of the client."""
    session = await veriff.create_session()
    sandbox.inject(Fault.drop(), path=DECISION)

    with pytest.raises(TransportError):
        await session.with_options(retry=ONCE).wait_for_decision(timeout=0)
    with pytest.raises(DecisionTimeoutError):
        await session.wait_for_decision(timeout=0)


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_concurrency_of_a_view_bounds_its_calls(veriff: VeriffClient, concurrency: int) -> None:
    """Uploads of one call run in turn with a concurrency of 1, also those of `submit`."""
    active: set[int] = set()
    view = veriff.with_options(concurrency=concurrency)
    media = [Media(PICTURE + bytes(300_000), "face") for _ in range(3)]
    session = await view.create_session()
    await session.upload(*media, progress=lambda _: active.add(veriff.statistics().active_uploads))
    await view.submit(media=media, progress=lambda _: active.add(veriff.statistics().active_uploads))

    assert concurrency == max(active)


async def test_concurrency_of_a_view_bounds_downloads(veriff: VeriffClient, tmp_path: Path) -> None:
    """Downloads of one call of a view run in turn with a concurrency of 1."""
    active: set[int] = set()
    session = await veriff.submit(media=[Media(PICTURE + bytes(100_000), "face") for _ in range(4)])
    await session.with_options(concurrency=1).download_all(
        tmp_path, progress=lambda _: active.add(veriff.statistics().active_downloads)
    )

    assert {1} == active


async def test_view_checks_pictures_with_its_own_thresholds(veriff: VeriffClient) -> None:
    """A view can be stricter than its client, and find faces in its own way."""
    from tests.pictures import draw_card, encode_jpeg  # noqa: PLC0415  needs Pillow

    pytest.importorskip("PIL")
    card = encode_jpeg(draw_card())
    inspected: list[MediaInspection] = []
    strict = InspectionThresholds(document_front=PictureThresholds(resolution=5000))
    session = await veriff.create_session()
    await session.upload(Media(card, "document-front", quality="refuse"))
    with pytest.raises(MediaQualityError) as refused:
        await session.with_options(thresholds=strict).upload(Media(card, "document-front", quality="refuse"))
    assert refused.value.inspection is not None
    inspected.append(refused.value.inspection)

    assert ["resolution"] == [check.name for check in inspected[0].failed]


async def test_middleware_of_views_runs_inside_that_of_the_client(sandbox: Sandbox) -> None:
    """Views add middleware to their calls, each inside that of the client or view that it was made from."""
    seen: list[str] = []

    def note(name: str) -> Middleware:
        async def middleware(request: CallRequest, call_next: CallNext) -> CallResponse:
            seen.append(f"{name} {request.operation}")
            return await call_next(request)

        return middleware

    async with VeriffClient.from_env(sandbox.environ, middleware=[note("client")]) as veriff:
        view = veriff.with_options(middleware=[note("first")]).with_options(middleware=[note("second")], retry=ONCE)
        session = await view.create_session()
        await session.with_options(middleware=[note("third")]).with_options(retry=ONCE).decision()
        await veriff.session(session.id).decision()

    names = ["client", "first", "second"]
    assert [f"{name} create_session" for name in names] == seen[:3]
    assert [f"{name} decision" for name in (*names, "third", "client")] == seen[3:]


async def test_credentials_are_those_of_the_client(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """A rotation reaches every view, also one that was made before, and can be made through a view."""
    view = veriff.with_options(retry=ONCE)
    session = (await view.create_session()).with_options(timeouts=Timeouts(total=9))
    both = sandbox.credentials.with_rotated_secret("a-new-secret")
    sandbox.credentials = both
    view.credentials = both
    sandbox.credentials = both.without_secret(1)

    assert veriff.credentials is view.credentials
    assert await session.decision() is None


async def test_session_and_its_views_know_the_same(
    sandbox: Sandbox, veriff: VeriffClient, advance_time: Callable[[float], None]
) -> None:
    """A submission through a view updates the status, and a wait through it makes the next one expect news."""
    session = await veriff.create_session()
    view = session.with_options(timeouts=Timeouts(total=9))
    await view.submit()
    statuses = [session.status]
    sandbox.decide(session.id, "resubmission_requested")
    assert (await view.wait_for_decision(timeout=60)).needs_resubmission
    statuses.append(session.status)
    waiting = asyncio.create_task(session.wait_for_decision(timeout=60))
    await until(lambda: count_polls(sandbox) > 1)
    await session.with_options(retry=ONCE).submit()
    sandbox.decide(session.id, "approved")
    advance_time(30)

    assert (await waiting).is_approved
    assert [Status.SUBMITTED, Status.RESUBMISSION_REQUESTED] == statuses
    assert (view.id, view.url, view.vendor_data) == (session.id, session.url, session.vendor_data)


async def test_closed_client_closes_its_views_and_an_open_one_opens_them(sandbox: Sandbox) -> None:
    """The calls of a view fail while its client is closed, and work again when it is open again."""
    veriff = VeriffClient.from_env(sandbox.environ)
    view = veriff.with_options(retry=ONCE)
    async with veriff:
        session = await view.create_session()
        attached = session.with_options(timeouts=Timeouts(total=9))
    for call in (view.create_session, session.decision, attached.decision, view.session(session.id).wait_for_decision):
        with pytest.raises(ClientClosedError):
            await call()

    async with veriff:
        assert await view.session(session.id).decision() is None
        assert "closed" not in repr(view)
        # Sessions stay closed, as those of the client do.
        with pytest.raises(ClientClosedError):
            await attached.decision()


def test_view_works_in_the_loop_in_which_its_client_is_open() -> None:
    """A client that is opened in another loop takes its views with it."""
    with Sandbox() as sandbox:
        veriff = VeriffClient.from_env(sandbox.environ)
        view = veriff.with_options(timeouts=Timeouts(total=9))

        async def create() -> str:
            async with veriff:
                return (await view.create_session()).id

        for _ in range(2):
            with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
                assert runner.run(create())


async def test_session_may_be_replaced_by_its_view_again_and_again(veriff: VeriffClient) -> None:
    """A view does not refer to the views before it, so a long chain of them costs nothing and works."""
    session = await veriff.create_session()
    first = weakref.ref(view := session.with_options(concurrency=1))
    for _ in range(2_000):
        view = view.with_options(retry=ONCE)
    gc.collect()

    assert first() is None
    assert await view.upload(Media(PICTURE, "face"))
    assert 1 == view._runtime.uploads._concurrency


async def test_calls_and_waits_belong_to_one_loop(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """A call, wait or watch in another loop is refused at once, and does not break those of the client's own loop."""
    session = await veriff.create_session()
    view = veriff.with_options(retry=ONCE).session(session.id)

    def use(call: Callable[[], Coroutine[Any, Any, object]]) -> None:
        with pytest.raises(ConfigurationError, match="another event loop"):
            asyncio.run(call())

    for call in (view.decision, view.submit, view.wait_for_decision, lambda: anext(view.watch())):
        await asyncio.to_thread(use, call)

    wait = asyncio.create_task(session.with_options(poll=PollPolicy(initial_delay=0.01)).wait_for_decision())
    await until(lambda: count_polls(sandbox) > 0)
    sandbox.decide(session.id, "approved")
    await session.decision()
    assert (await wait).is_approved


async def test_closing_a_view_closes_nothing(veriff: VeriffClient) -> None:
    """A view is neither opened nor closed; its client is."""
    view = veriff.with_options(retry=ONCE)
    await view.aclose()
    with pytest.raises(ConfigurationError, match="async with on the client"):
        async with view:
            pytest.fail("unreachable")

    assert (await view.create_session()).id
    assert (await veriff.create_session()).id


async def test_end_of_the_waits_ends_those_of_views(veriff: VeriffClient) -> None:
    """`end_waits` ends the waits of the client and all its views, through any of them."""
    session = await veriff.create_session()
    waits = [
        asyncio.create_task(each.wait_for_decision(timeout=None))
        for each in (session, session.with_options(poll=PollPolicy(interval=9)))
    ]
    await until(lambda: veriff.statistics().waiters == 2)
    veriff.with_options(retry=ONCE).end_waits()

    for waiting in waits:
        with pytest.raises(ClientClosedError):
            await waiting


def test_client_of_a_view_ends_with_it() -> None:
    """A view keeps its client alive, and neither is part of a cycle, so both end with their last reference."""
    client = VeriffClient(Credentials("key", "secret"), base_url="https://veriff.example")
    view = client.with_options(retry=ONCE).with_options(poll=PollPolicy())
    session = view.session(SESSION_ID).with_options(concurrency=1)
    assert view._runtime.uploads is not client._runtime.uploads
    values = [weakref.ref(each) for each in (client, client._runtime, view, view._runtime, session._runtime)]
    gc.disable()
    try:
        del client, session
        assert None not in [value() for value in values[:4]]
        del view
        assert [None] * 5 == [value() for value in values]
    finally:
        gc.enable()


async def test_unclosed_client_of_a_view_warns_once(sandbox: Sandbox) -> None:
    """The warning about an unclosed client comes when the last view has gone."""
    view = VeriffClient.from_env(sandbox.environ).with_options(retry=ONCE)
    await view.create_session()
    pool = view._runtime.pool
    views = [view]
    del view
    with pytest.warns(ResourceWarning, match="unclosed <VeriffClient http://127") as caught:
        views.clear()

    assert 1 == len(caught)
    await pool.aclose()


def test_view_is_of_the_class_of_its_client() -> None:
    """A view of a subclass has its methods and attributes."""

    class OwnClient(VeriffClient):
        def __init__(self, tenant: str) -> None:
            super().__init__(Credentials("key", "secret"), base_url="https://veriff.example")
            self.tenant = tenant

    view = OwnClient("acme").with_options(retry=ONCE)

    assert (OwnClient, "acme") == (type(view), view.tenant)


@pytest.mark.parametrize("name", [*ClientOptions.__annotations__, "credentials", "base_url"])
def test_option_of_the_client_is_refused(closed: VeriffClient, name: str) -> None:
    """An option that all views share is a `TypeError` that says so."""
    if name in CallOptions.__annotations__:
        closed.with_options(**{name: None})
        return
    options: Any = {name: None}
    with pytest.raises(TypeError, match=rf"cannot change {name}, which all views of a client share"):
        closed.with_options(**options)
    with pytest.raises(TypeError, match=r"VerificationSession\.with_options\(\) cannot change"):
        closed.session(SESSION_ID).with_options(**options)


@pytest.mark.parametrize(("name", "suggested"), [("timeout", "timeouts"), ("concurrence", "concurrency")])
def test_unknown_option_is_refused_with_a_suggestion(closed: VeriffClient, name: str, suggested: str) -> None:
    """A misspelt option is a `TypeError` that suggests the right name."""
    options: Any = {name: 1}
    with pytest.raises(TypeError, match=rf"did you mean '{suggested}'"):
        closed.with_options(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"timeouts": 5},
        {"retry": 3},
        {"poll": PollPolicy},
        {"concurrency": 0},
        {"concurrency": True},
        {"concurrency": 1.5},
        {"middleware": 5},
        {"middleware": [RetryPolicy]},
        {"thresholds": {}},
        {"face_detector": 1},
    ],
)
def test_invalid_value_is_refused(closed: VeriffClient, options: dict[str, Any]) -> None:
    """A value that the constructor refuses is refused with the same class of error, which names the option."""
    (name,) = options
    with pytest.raises(ConfigurationError, match=name):
        closed.with_options(**options)
    with pytest.raises(ConfigurationError, match=name):
        closed.session(SESSION_ID).with_options(**options)


def test_options_have_the_types_of_the_constructor() -> None:
    """An option of both the client and its views accepts the same types."""
    of_client = {name: each.annotation for name, each in signature(VeriffClient.__init__).parameters.items()}
    of_views = {name: str(getattr(kind, "__forward_arg__", kind)) for name, kind in CallOptions.__annotations__.items()}

    assert of_views.pop("concurrency") == "int | None"
    assert of_views.pop("middleware") == f"{of_client['middleware']} | None"
    assert of_views == {name: of_client[name] for name in of_views}


def test_view_shows_its_options(closed: VeriffClient) -> None:
    """The representation names the options of a view, and no value."""
    view = closed.with_options(timeouts=Timeouts(total=9)).with_options(retry=ONCE, poll=None)

    assert "<VeriffClient https://veriff.example with timeouts, retry>" == repr(view)
    assert "<VeriffClient https://veriff.example>" == repr(closed)


def test_clients_and_sessions_are_not_copied(closed: VeriffClient) -> None:
    """A copy in this process or another would use connections that it does not own, so the error names the remedy."""
    session = closed.session(SESSION_ID)
    for value, remedy in ((closed, "with_options"), (closed.with_options(), "with_options"), (session, "its id")):
        for make_copy in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match=remedy):
                make_copy(value)


async def test_view_of_a_client_with_an_inbox_shares_it(sandbox: Sandbox) -> None:
    """A decision that one call learns ends the waits of all views."""
    async with VeriffClient.from_env(sandbox.environ, inbox=MemoryInbox()) as veriff:
        session = await veriff.create_session()
        waits = [
            asyncio.create_task(each.wait_for_decision(timeout=900))
            for each in (session, session.with_options(poll=PollPolicy(initial_delay=800)))
        ]
        await until(lambda: veriff.statistics().waiters == 2)
        sandbox.decide(session.id, "approved")
        await veriff.with_options(retry=ONCE).session(session.id).decision()

        assert all(decision.is_approved for decision in await asyncio.gather(*waits))
