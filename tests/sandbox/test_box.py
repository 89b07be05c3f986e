"""The sandbox as a thing to start, ask, and stop, in a loop or in a thread."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.error import HTTPError

import anyio
import pytest
from aiohttp import ClientError

from veriff_async import ConfigurationError, Credentials, Document, InvalidArgumentError, Person, Status
from veriff_async.sandbox import Delivery, Sandbox, SandboxOptions, VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox.conftest import Caller, Receiver, StartSandbox

DAY: Final = 86_400
SECONDS: Final = 20.0


def call(sandbox: Sandbox, method: str, path: str, value: object = None, *, signed: str = "") -> tuple[int, object]:
    """Call a sandbox with the standard library alone."""
    body = None if value is None else json.dumps(value).encode()
    headers = {
        "X-Auth-Client": sandbox.credentials.api_key,
        "X-Hmac-Signature": sandbox.credentials.sign(body or signed.encode()),
    }
    request = urllib.request.Request(sandbox.base_url + path, data=body, headers=headers, method=method)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
            return answer.status, json.load(answer)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


def create(sandbox: Sandbox) -> str:
    """Open a session with the standard library alone."""
    status, answer = call(sandbox, "POST", "/v1/sessions", {"verification": {"vendorData": "user-42"}})
    assert 201 == status
    assert isinstance(answer, dict)
    return str(answer["verification"]["id"])


def test_a_synchronous_test_needs_no_loop() -> None:
    """In a ``with`` block it serves any program, decides by call, and shows what happened."""
    with Sandbox() as sandbox:
        session_id = create(sandbox)
        path = f"/v1/sessions/{session_id}"
        assert 200 == call(sandbox, "PATCH", path, {"verification": {"status": "submitted"}})[0]
        assert Status.SUBMITTED == sandbox.session(session_id).status

        sandbox.decide(session_id, Status.APPROVED)

        _, answer = call(sandbox, "GET", f"{path}/decision", signed=session_id)
        assert isinstance(answer, dict)
        assert "approved" == answer["verification"]["status"]
        assert ("user-42", session_id) == (sandbox.session(session_id).vendor_data, sandbox.sessions[0].id)
        assert [201, 200, 200] == [seen.status for seen in sandbox.requests]


def test_a_thread_of_its_own_ends_with_it() -> None:
    """After the ``with`` block there are no more threads than before, and nobody listens any more."""
    before = set(threading.enumerate())
    with Sandbox() as sandbox:
        create(sandbox)
        port = int(sandbox.base_url.rpartition(":")[2])

    for thread in set(threading.enumerate()) - before:
        thread.join(SECONDS)
        assert not thread.is_alive()
    with socket.socket() as late:
        assert 0 != late.connect_ex(("127.0.0.1", port))


def test_what_the_clock_brings_is_there_at_once() -> None:
    """A synchronous test moves the clock and looks, without a wait between."""
    with Sandbox(clock=VirtualClock()) as sandbox:
        session_id = create(sandbox)

        sandbox.advance(7 * DAY)

        assert Status.EXPIRED == sandbox.session(session_id).status


def test_it_can_be_waited_for_without_a_loop() -> None:
    """`settle` returns when every webhook was tried."""
    with Sandbox(clock=VirtualClock()) as sandbox:
        sandbox.webhook_url = sandbox.base_url + "/no-receiver"
        sandbox.decide(create(sandbox), "approved")

        sandbox.wait_idle_sync()

        assert [404] == [delivery.status for delivery in sandbox.deliveries]


def test_it_can_be_started_again() -> None:
    """A sandbox that has stopped may be started again and knows what it knew."""
    sandbox = Sandbox(clock=VirtualClock())
    with sandbox:
        session_id = create(sandbox)
    with sandbox:
        sandbox.webhook_url = sandbox.base_url + "/no-receiver"
        sandbox.decide(session_id, "approved")
        sandbox.wait_idle_sync()

    assert 1 == len(sandbox.deliveries)


@pytest.mark.anyio
async def test_nothing_is_left_in_the_loop(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """When it has stopped there is no task that was not there before, though a webhook waits for its next try."""
    receiver.answers = [500]
    before = asyncio.all_tasks()
    async with start_sandbox(webhook_url=receiver.url) as caller:
        session_id = await caller.create()
        caller.sandbox.decide(session_id, "approved")
        await receiver.next()
        await caller.sandbox.wait_idle()

    # The receiver keeps its half of a connection until it sees the end.
    left = {task for task in asyncio.all_tasks() - before if "RequestHandler" not in repr(task)}
    assert set() == left


@pytest.mark.anyio
async def test_it_stops_while_a_webhook_is_under_way(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """A receiver that does not answer cannot hold the sandbox back."""
    receiver.holds = asyncio.Event()
    async with asyncio.timeout(SECONDS):
        async with start_sandbox(
            webhook_url=receiver.url, options=SandboxOptions(webhook_timeout_seconds=3600)
        ) as caller:
            caller.sandbox.decide(await caller.create(), "approved")
            await receiver.next()
    receiver.holds.set()


@pytest.mark.anyio
async def test_who_waits_for_it_is_told_that_it_stopped(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """A wait for the webhooks does not outlive the sandbox."""
    receiver.holds = asyncio.Event()
    async with start_sandbox(webhook_url=receiver.url, options=SandboxOptions(webhook_timeout_seconds=3600)) as caller:
        caller.sandbox.decide(await caller.create(), "approved")
        await receiver.next()
        waiting = asyncio.create_task(caller.sandbox.wait_idle())
        await asyncio.sleep(0)
    receiver.holds.set()

    await asyncio.wait_for(waiting, SECONDS)


@pytest.mark.anyio
async def test_other_threads_may_use_it(caller: Caller) -> None:
    """The methods work from a thread while the loop serves."""
    session_id = await caller.create()

    def decide() -> None:
        caller.sandbox.decide(session_id, "declined")
        caller.sandbox.wait_idle_sync(SECONDS)

    await anyio.to_thread.run_sync(decide)

    assert Status.DECLINED == caller.sandbox.session(session_id).status


@pytest.mark.anyio
async def test_real_time_decides_too(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """On the real clock a session is decided after the given seconds, by itself."""
    async with start_sandbox(webhook_url=receiver.url, decide_after=0.01) as caller:
        session_id = await caller.create()
        await caller.submit(session_id)

        verification = (await receiver.next()).json["verification"]

    assert (session_id, "approved") == (verification["id"], verification["status"])


@pytest.mark.anyio
async def test_a_follower_that_fails_does_not_stop_it(
    start_sandbox: StartSandbox, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """An error in `on_delivery` is logged, and the next webhook goes out all the same."""

    def fail(_delivery: Delivery) -> None:
        msg = "A mistake of the test's own"
        raise RuntimeError(msg)

    async with start_sandbox(webhook_url=receiver.url, on_delivery=fail) as caller:
        caller.sandbox.decide(await caller.create(), "approved")
        await receiver.next()
        await caller.sandbox.wait_idle()
        caller.sandbox.decide(await caller.create(), "approved")
        await receiver.next()
        await caller.sandbox.wait_idle()

        assert [200, 200] == [delivery.status for delivery in caller.sandbox.deliveries]
    assert "A mistake of the test's own" in caplog.text


@pytest.mark.anyio
async def test_sandboxes_stand_side_by_side(start_sandbox: StartSandbox) -> None:
    """Each has its own address, credentials and sessions."""
    async with start_sandbox() as first, start_sandbox() as second:
        session_id = await first.create()

        assert first.sandbox.base_url != second.sandbox.base_url
        assert first.sandbox.credentials != second.sandbox.credentials
        assert 404 == (await second.decision(session_id)).status


@pytest.mark.anyio
async def test_the_environment_is_all_that_a_program_needs(start_sandbox: StartSandbox) -> None:
    """The variables give back the credentials, secrets newest first, and the address."""
    credentials = Credentials("6c9c9b2e-0f0e-4a6d-9f65-0d2f3a0c5b11", "new", previous_secrets=("old",))
    async with start_sandbox(credentials=credentials) as caller:
        assert credentials == Credentials.from_env(caller.sandbox.environ)
        assert caller.sandbox.base_url == caller.sandbox.environ["VERIFF_BASE_URL"]
    async with start_sandbox() as caller:
        assert caller.sandbox.credentials == Credentials.from_env(caller.sandbox.environ)
        assert caller.sandbox.credentials.integration_id is not None


@pytest.mark.anyio
async def test_models_may_say_what_is_decided(caller: Caller) -> None:
    """`decide` takes the library's own person and document as well as Veriff's words."""
    session_id = await caller.create()

    caller.sandbox.decide(session_id, "approved", person=Person(first_name="Ada"), document=Document(number="AB123"))

    verification = (await caller.decision(session_id)).json["verification"]
    assert ("Ada", "AB123") == (verification["person"]["firstName"], verification["document"]["number"])


@pytest.mark.anyio
@pytest.mark.parametrize(
    "misuse",
    [
        lambda sandbox, _: sandbox.decide("b4a1a1f5-3a3c-4a55-9a6c-0b0a5f2f1c11", "approved"),
        lambda sandbox, _: sandbox.session("unknown"),
        lambda sandbox, session_id: sandbox.decide(session_id, "submitted"),
        lambda sandbox, session_id: sandbox.decide(session_id, "excellent"),
        lambda sandbox, _: sandbox.advance(1),
        lambda sandbox, _: setattr(sandbox, "webhook_url", "ftp://example.com"),
        lambda sandbox, _: setattr(sandbox, "webhook_url", "example.com/hook"),
        lambda sandbox, _: sandbox.wait_idle_sync(),
        lambda sandbox, _: sandbox.__enter__(),
    ],
    ids=["unknown", "unseen", "undecided", "word", "clock", "scheme", "address", "settle in the loop", "start twice"],
)
async def test_each_misuse_is_told_in_one_sentence(
    start_sandbox: StartSandbox, misuse: Callable[[Sandbox, str], object]
) -> None:
    """A mistake of the test's author gives an error that says what to do instead."""
    async with start_sandbox() as caller:
        session_id = await caller.create()

        with pytest.raises((ConfigurationError, InvalidArgumentError)) as caught:
            misuse(caller.sandbox, session_id)

        assert str(caught.value).endswith(".")
        assert 1 == len(str(caught.value).splitlines())
        assert 200 == (await caller.decision(session_id)).status


@pytest.mark.anyio
async def test_it_cannot_be_started_twice(start_sandbox: StartSandbox) -> None:
    """A running sandbox refuses a second start and goes on."""
    async with start_sandbox() as caller:
        with pytest.raises(ConfigurationError, match="running"):
            await caller.sandbox.__aenter__()

        assert await caller.create()


@pytest.mark.anyio
async def test_a_decision_that_cannot_follow_is_refused(caller: Caller) -> None:
    """An expired session stays so."""
    session_id = await caller.create()
    caller.sandbox.decide(session_id, "expired")

    with pytest.raises(InvalidArgumentError, match="cannot follow"):
        caller.sandbox.decide(session_id, "approved")


@pytest.mark.parametrize(
    "use", [lambda sandbox: sandbox.base_url, lambda sandbox: sandbox.environ, lambda sandbox: sandbox.wait_idle_sync()]
)
def test_before_it_runs_and_after_it_cannot_be_called(use: Callable[[Sandbox], object]) -> None:
    """Whatever needs a running sandbox says so."""
    sandbox = Sandbox()
    with pytest.raises(ConfigurationError, match="not running"):
        use(sandbox)
    with sandbox:
        pass
    with pytest.raises(ConfigurationError, match="not running"):
        use(sandbox)


@pytest.mark.parametrize(
    "options",
    [
        {"decide_after": -1},
        {"decide_after": float("nan")},
        {"decide_after": float("inf")},
        {"webhook_url": "nowhere"},
        {"port": 70_000},
        {"port": -1},
        {"host": "not a host"},
        {"media_folder": Path(__file__)},
    ],
    ids=str,
)
def test_options_that_cannot_work_are_refused(options: dict[str, object]) -> None:
    """The error comes at once or at the start, and is the library's own."""
    with pytest.raises((ConfigurationError, InvalidArgumentError)), Sandbox(**options):  # type: ignore[arg-type]
        pass


def test_a_port_in_use_is_told() -> None:
    """The error names the port, and nothing is left running."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(ConfigurationError, match=str(port)), Sandbox(port=port):
            pass


@pytest.mark.anyio
async def test_after_it_stopped_nobody_answers(start_sandbox: StartSandbox) -> None:
    """Its port is closed."""
    async with start_sandbox() as caller:
        url = caller.sandbox.base_url

    with pytest.raises(ClientError):
        await caller.http.get(url)


def test_a_virtual_clock_goes_forward_only() -> None:
    """Time that is moved back, or that has no zone, is refused."""
    from datetime import datetime  # noqa: PLC0415

    for seconds in (-1, float("nan"), float("inf"), 1e30):
        with pytest.raises(InvalidArgumentError):
            VirtualClock().advance(seconds)
    with pytest.raises(ConfigurationError):
        VirtualClock(datetime(2025, 1, 1))  # noqa: DTZ001


def test_its_repr_shows_nothing_secret() -> None:
    """It says where it listens."""
    with Sandbox() as sandbox:
        assert f"<Sandbox {sandbox.base_url}>" == repr(sandbox)
