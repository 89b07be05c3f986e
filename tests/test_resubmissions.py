"""`verify(on_resubmission=...)`: better media from the caller for the same session, a bounded number of times."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from tests.conditions import run_loop, until
from tests.loops import every_loop
from tests.waiting.helpers import make_client
from veriff_async import (
    DecisionTimeoutError,
    InvalidArgumentError,
    Media,
    MediaEmptyError,
    NotFoundError,
    PollPolicy,
    Status,
    VeriffClient,
    WebhookReceiver,
)
from veriff_async.inbox import MemoryInbox
from veriff_async.sandbox import Fault, Sandbox
from veriff_async.webhooks import asgi_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from veriff_async import ClientOptions, Decision, VerificationSession
    from veriff_async.sandbox import ReceivedRequest

pytestmark = pytest.mark.anyio

FIRST = Media(b"\xff\xd8\xff\xe0" + bytes(60), "face")
BETTER = Media(b"\xff\xd8\xff\xe0" + bytes(90), "face")
REQUEST, APPROVED = "resubmission_requested", "approved"


class Reviewer:
    """Decides each submission as a test has asked, in turn."""

    def __init__(self) -> None:
        """Start without decisions."""
        self.statuses: list[str] = []
        self.sandbox = Sandbox(on_request=self.decide)

    def decide(self, request: ReceivedRequest) -> None:
        """Decide the session that a request has submitted."""
        if request.method == "PATCH" and request.status == 200 and self.statuses:
            self.sandbox.decide(request.path.rsplit("/", 1)[-1], self.statuses.pop(0), reason_code=204)


@pytest.fixture
def client_options() -> ClientOptions:
    """Poll often."""
    return {"poll": PollPolicy(interval=0.01, max_interval=0.01)}


@pytest.fixture
def reviewer() -> Reviewer:
    """Return the one who decides."""
    return Reviewer()


@pytest.fixture
async def sandbox(reviewer: Reviewer) -> AsyncIterator[Sandbox]:
    """Run the sandbox of the reviewer."""
    async with reviewer.sandbox as sandbox:
        yield sandbox


class Camera:
    """Takes better pictures, and remembers for which decisions."""

    def __init__(self, *results: Sequence[Media] | None) -> None:
        """Store what the calls return, in turn."""
        self.results = list(results)
        self.calls: list[tuple[Decision, VerificationSession]] = []

    def take(self, decision: Decision, session: VerificationSession) -> Sequence[Media] | None:
        """Return the next pictures."""
        self.calls.append((decision, session))
        return self.results.pop(0)

    async def take_slowly(self, decision: Decision, session: VerificationSession) -> Sequence[Media] | None:
        """Return the next pictures when other tasks have run."""
        await asyncio.sleep(0)
        return self.take(decision, session)


@every_loop
@pytest.mark.parametrize("is_async", [False, True])
async def test_better_media_continue_the_same_session(
    sandbox: Sandbox, veriff: VeriffClient, reviewer: Reviewer, *, is_async: bool
) -> None:
    """The function gets the request and the session, and its media are the next attempt of that session."""
    reviewer.statuses = [REQUEST, APPROVED]
    camera, progress = Camera([BETTER, BETTER]), set[int | None]()

    decision = await veriff.verify(
        media=[FIRST],
        on_resubmission=camera.take_slowly if is_async else camera.take,
        progress=lambda each: progress.add(each.total_bytes),
        vendor_data="user-42",
    )

    assert decision.is_approved
    ((request, session),) = camera.calls
    assert (request.needs_resubmission, request.reason_code) == (True, 204)
    assert session.id == request.session_id == decision.session_id
    (view,) = sandbox.sessions
    assert (3, 2) == (len(view.media), len(view.attempts))
    assert 2 == len(progress)
    assert session.status == Status.APPROVED


@pytest.mark.parametrize(("most", "submissions"), [(0, 1), (1, 2), (2, 3)])
async def test_number_of_resubmissions_is_bounded(
    sandbox: Sandbox, veriff: VeriffClient, reviewer: Reviewer, most: int, submissions: int
) -> None:
    """When the resubmissions are used up, the next request for one is the decision."""
    reviewer.statuses = [REQUEST] * 3
    camera = Camera(*[[BETTER]] * 3)

    decision = await veriff.verify(media=[FIRST], on_resubmission=camera.take, max_resubmissions=most)

    assert decision.needs_resubmission
    assert most == len(camera.calls)
    assert submissions == sum(seen.method == "PATCH" for seen in sandbox.requests)


async def test_none_stops_with_the_request(sandbox: Sandbox, veriff: VeriffClient, reviewer: Reviewer) -> None:
    """A function without better media returns None, and the call returns the request as its decision."""
    reviewer.statuses = [REQUEST]
    decision = await veriff.verify(media=[FIRST], on_resubmission=Camera(None).take)

    assert decision.needs_resubmission
    assert 1 == len(sandbox.sessions[0].media)


async def test_function_is_not_called_for_another_decision(veriff: VeriffClient, reviewer: Reviewer) -> None:
    """A decline ends the call as without the function."""
    reviewer.statuses = ["declined"]

    assert Status.DECLINED == (await veriff.verify(media=[FIRST], on_resubmission=Camera().take)).status


async def test_timeout_counts_for_all_waits_and_the_function(
    veriff: VeriffClient, reviewer: Reviewer, advance_time: Callable[[float], None]
) -> None:
    """The function is cancelled when the rest of the timeout has passed; the error has the id of the session."""
    reviewer.statuses = [REQUEST]
    started, ended = anyio.Event(), anyio.Event()

    async def wait_for_ever(decision: Decision, session: VerificationSession) -> None:
        del decision, session
        started.set()
        try:
            await asyncio.sleep(1e6)
        finally:
            ended.set()

    call = asyncio.create_task(veriff.verify(media=[FIRST], timeout=900, on_resubmission=wait_for_ever))
    await started.wait()
    advance_time(800)
    await run_loop()
    assert not call.done()
    advance_time(100)
    with pytest.raises(DecisionTimeoutError, match="on_resubmission returned no media") as raised:
        await call

    assert ended.is_set()
    assert Status.RESUBMISSION_REQUESTED == raised.value.last_status
    session = veriff.session(raised.value.session_id)
    await session.upload(BETTER)
    await session.submit()


async def test_submission_after_the_timeout_asks_once(
    veriff: VeriffClient, reviewer: Reviewer, advance_time: Callable[[float], None]
) -> None:
    """Media that come with no time left are still sent completely; then the client asks once for the decision."""
    statuses = [[REQUEST, APPROVED], [REQUEST]]
    for reviewer.statuses in statuses:
        is_decided = len(reviewer.statuses) > 1

        def take(decision: Decision, session: VerificationSession) -> list[Media]:
            del decision, session
            advance_time(1000)
            return [BETTER]

        call = veriff.verify(media=[FIRST], timeout=900, on_resubmission=take)
        if is_decided:
            assert (await call).is_approved
            continue
        with pytest.raises(DecisionTimeoutError) as raised:
            await call
        assert (await veriff.session(raised.value.session_id).attempts())[0].id


@pytest.mark.parametrize("error", [ValueError("no camera"), TimeoutError("of the camera")])
async def test_exception_of_the_function_ends_the_call(
    veriff: VeriffClient, reviewer: Reviewer, error: Exception
) -> None:
    """An exception of the function passes unchanged, with a note that has the id of the session."""
    reviewer.statuses = [REQUEST]

    async def fail(decision: Decision, session: VerificationSession) -> None:
        del decision
        await asyncio.sleep(0)
        error.args = (session.id,)
        raise error

    with pytest.raises(type(error)) as raised:
        await veriff.verify(media=[FIRST], on_resubmission=fail)

    assert raised.value is error
    assert [f"Session {error.args[0]} was created before."] == error.__notes__


@pytest.mark.parametrize("result", [[], BETTER, "front.jpg", 5, [5]])
async def test_wrong_media_are_refused(veriff: VeriffClient, reviewer: Reviewer, result: object) -> None:
    """A function that returns something else than media gets an error that names the session."""
    reviewer.statuses = [REQUEST]
    take: Any = lambda *_: result  # noqa: E731  any function
    with pytest.raises(InvalidArgumentError) as raised:
        await veriff.verify(media=[FIRST], on_resubmission=take)

    assert raised.value.session_id is not None


async def test_media_that_veriff_refuses_end_the_call(veriff: VeriffClient, reviewer: Reviewer) -> None:
    """An error of a later upload has the id of the session, which still waits for better media."""
    reviewer.statuses = [REQUEST]
    with pytest.raises(MediaEmptyError) as raised:
        await veriff.verify(media=[FIRST], on_resubmission=Camera([Media(b"", "face")]).take)

    assert raised.value.session_id is not None
    assert (await veriff.session(raised.value.session_id).wait_for_decision(timeout=0)).needs_resubmission


async def test_error_of_the_submission_has_the_id_of_the_session(
    sandbox: Sandbox, veriff: VeriffClient, reviewer: Reviewer
) -> None:
    """An error of the second submission names the session, as one of the first does."""
    reviewer.statuses = [REQUEST]

    def take(decision: Decision, session: VerificationSession) -> list[Media]:
        del decision
        sandbox.inject(Fault.status(404), method="PATCH", path=f"*/{session.id}")
        return [BETTER]

    with pytest.raises(NotFoundError) as raised:
        await veriff.verify(media=[FIRST], on_resubmission=take)

    assert sandbox.sessions[0].id == raised.value.session_id


@pytest.mark.parametrize(
    ("name", "value"),
    [("on_resubmission", 5), ("max_resubmissions", -1), ("max_resubmissions", 1.5), ("max_resubmissions", True)],
)
async def test_wrong_arguments_are_refused_before_the_session_exists(
    sandbox: Sandbox, veriff: VeriffClient, name: str, value: object
) -> None:
    """A wrong argument is noticed before anything is created."""
    options: dict[str, Any] = {name: value}
    with pytest.raises(InvalidArgumentError, match=name):
        await veriff.verify(media=[FIRST], **options)

    assert not sandbox.requests


@every_loop
@pytest.mark.parametrize("step", ["wait", "function", "upload", "submission", "second wait"])
async def test_cancellation_leaves_nothing_behind(
    sandbox: Sandbox, veriff: VeriffClient, reviewer: Reviewer, step: str
) -> None:
    """A cancelled call ends its wait, function, upload or submission, and its error has the id of the session."""
    reviewer.statuses = [] if step == "wait" else [REQUEST]
    is_asked = False

    async def take(decision: Decision, session: VerificationSession) -> list[Media]:
        nonlocal is_asked
        del decision, session
        is_asked = True
        if step == "function":
            await asyncio.Event().wait()
        if step in {"upload", "submission"}:
            sandbox.inject(Fault.hang(), method="POST" if step == "upload" else "PATCH")
        return [BETTER]

    call = asyncio.create_task(veriff.verify(media=[FIRST], on_resubmission=take))
    submissions = 2 if step == "second wait" else 1
    if step in {"wait", "second wait"}:
        await until(lambda: sum(seen.method == "PATCH" for seen in sandbox.requests) == submissions)
        await until(lambda: veriff.statistics().waiters)
    else:
        await until(lambda: is_asked and not sandbox.faults)
    call.cancel()
    with pytest.raises(asyncio.CancelledError) as raised:
        await call

    assert [f"Session {sandbox.sessions[0].id} was created before."] == raised.value.__notes__
    assert (0, 0) == (veriff.statistics().waiters, veriff.statistics().active_uploads)


async def test_view_answers_requests_with_its_own_options(veriff: VeriffClient, reviewer: Reviewer) -> None:
    """`verify` of a view polls and uploads by the options of the view in all attempts."""
    reviewer.statuses = [REQUEST, APPROVED]
    active: set[int] = set()
    view = veriff.with_options(concurrency=1, poll=PollPolicy(interval=0.02))
    pictures = [Media(b"\xff\xd8\xff\xe0" + bytes(300_000), "face") for _ in range(3)]

    decision = await view.verify(
        media=[FIRST],
        on_resubmission=Camera(pictures).take,
        progress=lambda _: active.add(veriff.statistics().active_uploads),
    )

    assert decision.is_approved
    assert {1} == active


async def test_webhooks_end_all_waits(sandbox: Sandbox, reviewer: Reviewer) -> None:
    """With an inbox, each wait of the call ends by its own webhook, and not by the one before."""
    reviewer.statuses = [REQUEST, REQUEST, APPROVED]
    camera = Camera([BETTER], [BETTER])
    async with (
        MemoryInbox() as inbox,
        WebhookReceiver(sandbox.credentials, inbox) as receiver,
        make_client(sandbox, inbox) as veriff,
    ):
        sandbox.set_webhook_app(asgi_app(receiver))
        decision = await veriff.verify(media=[FIRST], on_resubmission=camera.take)
        await sandbox.wait_idle()

    assert (True, "webhook") == (decision.is_approved, decision.source)
    assert ["webhook"] * 2 == [request.source for request, _ in camera.calls]


async def test_function_may_be_any_awaitable_of_media(veriff: VeriffClient, reviewer: Reviewer) -> None:
    """A plain function may return a future, for example of a request to a browser."""
    reviewer.statuses = [REQUEST, APPROVED]
    future: asyncio.Future[list[Media]] = asyncio.get_running_loop().create_future()

    def ask(decision: Decision, session: VerificationSession) -> Awaitable[list[Media]]:
        del decision, session
        future.set_result([BETTER])
        return future

    assert (await veriff.verify(media=[FIRST], on_resubmission=ask)).is_approved
