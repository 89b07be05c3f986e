"""Starting, using and stopping a sandbox, in a loop or in a thread."""

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
    """Send a request with the standard library only."""
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
    """Create a session with the standard library only."""
    status, answer = call(sandbox, "POST", "/v1/sessions", {"verification": {"vendorData": "user-42"}})
    assert 201 == status
    assert isinstance(answer, dict)
    return str(answer["verification"]["id"])


def test_with_block_serves_without_a_loop() -> None:
    """In a ``with`` block the sandbox serves any program, decides by call, and shows its records."""
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


def test_with_block_ends_its_thread() -> None:
    """After the ``with`` block its threads have ended, and its port is closed."""
    before = set(threading.enumerate())
    with Sandbox() as sandbox:
        create(sandbox)
        port = int(sandbox.base_url.rpartition(":")[2])

    for thread in set(threading.enumerate()) - before:
        thread.join(SECONDS)
        assert not thread.is_alive()
    with socket.socket() as late:
        assert 0 != late.connect_ex(("127.0.0.1", port))


def test_advance_takes_effect_immediately() -> None:
    """A synchronous test advances the clock and sees the result without waiting."""
    with Sandbox(clock=VirtualClock()) as sandbox:
        session_id = create(sandbox)

        sandbox.advance(7 * DAY)

        assert Status.EXPIRED == sandbox.session(session_id).status


def test_wait_idle_sync_waits_for_webhooks() -> None:
    """`wait_idle_sync` returns when every webhook was posted."""
    with Sandbox(clock=VirtualClock()) as sandbox:
        sandbox.webhook_url = sandbox.base_url + "/no-receiver"
        sandbox.decide(create(sandbox), "approved")

        sandbox.wait_idle_sync()

        assert [404] == [delivery.status for delivery in sandbox.deliveries]


def test_restarted_sandbox_keeps_its_sessions() -> None:
    """A sandbox that is entered again still has its sessions."""
    sandbox = Sandbox(clock=VirtualClock())
    with sandbox:
        session_id = create(sandbox)
    with sandbox:
        sandbox.webhook_url = sandbox.base_url + "/no-receiver"
        sandbox.decide(session_id, "approved")
        sandbox.wait_idle_sync()

    assert 1 == len(sandbox.deliveries)


@pytest.mark.anyio
async def test_stopped_sandbox_leaves_no_task(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """No task is left after the stop, although a webhook waits for its next attempt."""
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
async def test_stop_does_not_wait_for_a_slow_receiver(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """A receiver that does not respond cannot delay the stop."""
    receiver.holds = asyncio.Event()
    async with asyncio.timeout(SECONDS):
        async with start_sandbox(
            webhook_url=receiver.url, options=SandboxOptions(webhook_timeout_seconds=3600)
        ) as caller:
            caller.sandbox.decide(await caller.create(), "approved")
            await receiver.next()
    receiver.holds.set()


@pytest.mark.anyio
async def test_stop_ends_wait_idle(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """`wait_idle` returns when the sandbox stops."""
    receiver.holds = asyncio.Event()
    async with start_sandbox(webhook_url=receiver.url, options=SandboxOptions(webhook_timeout_seconds=3600)) as caller:
        caller.sandbox.decide(await caller.create(), "approved")
        await receiver.next()
        waiting = asyncio.create_task(caller.sandbox.wait_idle())
        await asyncio.sleep(0)
    receiver.holds.set()

    await asyncio.wait_for(waiting, SECONDS)


@pytest.mark.anyio
async def test_methods_work_from_other_threads(caller: Caller) -> None:
    """The methods work in a thread while the loop serves."""
    session_id = await caller.create()

    def decide() -> None:
        caller.sandbox.decide(session_id, "declined")
        caller.sandbox.wait_idle_sync(SECONDS)

    await anyio.to_thread.run_sync(decide)

    assert Status.DECLINED == caller.sandbox.session(session_id).status


@pytest.mark.anyio
async def test_decide_after_works_with_the_real_clock(start_sandbox: StartSandbox, receiver: Receiver) -> None:
    """On the real clock a session is decided after the given seconds."""
    async with start_sandbox(webhook_url=receiver.url, decide_after=0.01) as caller:
        session_id = await caller.create()
        await caller.submit(session_id)

        verification = (await receiver.next()).json["verification"]

    assert (session_id, "approved") == (verification["id"], verification["status"])


@pytest.mark.anyio
async def test_failing_on_delivery_is_logged(
    start_sandbox: StartSandbox, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """An error in `on_delivery` is logged, and the next webhook is posted."""

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
async def test_sandboxes_are_independent(start_sandbox: StartSandbox) -> None:
    """Each sandbox has its own address, credentials and sessions."""
    async with start_sandbox() as first, start_sandbox() as second:
        session_id = await first.create()

        assert first.sandbox.base_url != second.sandbox.base_url
        assert first.sandbox.credentials != second.sandbox.credentials
        assert 404 == (await second.decision(session_id)).status


@pytest.mark.anyio
async def test_environ_configures_a_client(start_sandbox: StartSandbox) -> None:
    """The variables contain the credentials, newest secret first, and the address."""
    credentials = Credentials("6c9c9b2e-0f0e-4a6d-9f65-0d2f3a0c5b11", "new", previous_secrets=("old",))
    async with start_sandbox(credentials=credentials) as caller:
        assert credentials == Credentials.from_env(caller.sandbox.environ)
        assert caller.sandbox.base_url == caller.sandbox.environ["VERIFF_BASE_URL"]
    async with start_sandbox() as caller:
        assert caller.sandbox.credentials == Credentials.from_env(caller.sandbox.environ)
        assert caller.sandbox.credentials.integration_id is not None


@pytest.mark.anyio
async def test_public_url_begins_the_addresses_in_responses(start_sandbox: StartSandbox) -> None:
    """Behind a proxy, the addresses in responses are the public ones; `base_url` stays that of the sandbox."""
    async with start_sandbox(public_url="https://veriff.example.com/") as caller:
        first = await caller.post("/v1/sessions", {"verification": {}})
        caller.sandbox.public_url = "http://localhost:32768"
        second = await caller.post("/v1/sessions", {"verification": {}})

        assert first.json["verification"]["url"].startswith("https://veriff.example.com/v/")
        assert second.json["verification"]["url"].startswith("http://localhost:32768/v/")
        assert caller.sandbox.base_url.startswith("http://127.0.0.1:")


@pytest.mark.anyio
async def test_decide_accepts_models_and_json(caller: Caller) -> None:
    """`decide` accepts the library's person and document as well as JSON members."""
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
    ids=["unknown", "unseen", "undecided", "word", "clock", "scheme", "address", "wait in the loop", "start twice"],
)
async def test_misuse_raises_an_error_with_a_remedy(
    start_sandbox: StartSandbox, misuse: Callable[[Sandbox, str], object]
) -> None:
    """A mistake of the test's author raises an error that says how to fix it."""
    async with start_sandbox() as caller:
        session_id = await caller.create()

        with pytest.raises((ConfigurationError, InvalidArgumentError)) as caught:
            misuse(caller.sandbox, session_id)

        assert str(caught.value).endswith(".")
        assert 1 == len(str(caught.value).splitlines())
        assert 200 == (await caller.decision(session_id)).status


@pytest.mark.anyio
async def test_second_start_is_refused(start_sandbox: StartSandbox) -> None:
    """A running sandbox refuses a second start, and keeps running."""
    async with start_sandbox() as caller:
        with pytest.raises(ConfigurationError, match="running"):
            await caller.sandbox.__aenter__()

        assert await caller.create()


@pytest.mark.anyio
async def test_decision_after_expiry_is_refused(caller: Caller) -> None:
    """An expired session stays expired."""
    session_id = await caller.create()
    caller.sandbox.decide(session_id, "expired")

    with pytest.raises(InvalidArgumentError, match="cannot follow"):
        caller.sandbox.decide(session_id, "approved")


@pytest.mark.parametrize(
    "use", [lambda sandbox: sandbox.base_url, lambda sandbox: sandbox.environ, lambda sandbox: sandbox.wait_idle_sync()]
)
def test_stopped_sandbox_refuses_calls(use: Callable[[Sandbox], object]) -> None:
    """Calls that need a running sandbox say so."""
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
        {"host": "\udcff"},
        {"host": "a" * 64 + ".ü"},
        {"host": "\x1b[2J"},
        {"public_url": "veriff.example.com"},
        {"public_url": "https://veriff.example.com/sandbox"},
        {"public_url": "http://[::1"},
        {"media_folder": Path(__file__)},
    ],
    ids=str,
)
def test_invalid_options_are_refused(options: dict[str, object]) -> None:
    """The error is raised immediately or at the start, and is one of the library."""
    with pytest.raises((ConfigurationError, InvalidArgumentError)), Sandbox(**options):  # type: ignore[arg-type]
        pass


def test_port_in_use_is_reported() -> None:
    """The error names the port, and no part keeps running."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(ConfigurationError, match=str(port)), Sandbox(port=port):
            pass


@pytest.mark.anyio
async def test_stop_closes_the_port(start_sandbox: StartSandbox) -> None:
    """The port is closed after the stop."""
    async with start_sandbox() as caller:
        url = caller.sandbox.base_url

    with pytest.raises(ClientError):
        await caller.http.get(url)


def test_virtual_clock_cannot_go_back() -> None:
    """A negative duration and a start without a time zone are refused."""
    from datetime import datetime  # noqa: PLC0415

    for seconds in (-1, float("nan"), float("inf"), 1e30):
        with pytest.raises(InvalidArgumentError):
            VirtualClock().advance(seconds)
    with pytest.raises(ConfigurationError):
        VirtualClock(datetime(2025, 1, 1))  # noqa: DTZ001


def test_repr_shows_the_address_only() -> None:
    """`repr` contains the address and no secret."""
    with Sandbox() as sandbox:
        assert f"<Sandbox {sandbox.base_url}>" == repr(sandbox)
