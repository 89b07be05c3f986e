"""Synchronous code calls the methods of the asynchronous client: same arguments, results and errors."""

from __future__ import annotations

import asyncio
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from io import BytesIO
from typing import TYPE_CHECKING

import pytest

from tests.conditions import until_in_thread
from veriff_async import (
    ConfigurationError,
    InvalidArgumentError,
    Media,
    MediaEmptyError,
    NotFoundError,
    RetryPolicy,
    ServerError,
    Status,
    Timeouts,
    TransportError,
    UploadedMedia,
    UploadProgress,
    WebhookReceiver,
    blocking,
    dump_json,
    reconcile,
)
from veriff_async.batch import Job, MemoryJournal, verify_many
from veriff_async.blocking import BlockingClient, BlockingMediaStream, BlockingSession
from veriff_async.inbox import MemoryInbox
from veriff_async.sandbox import Fault
from veriff_async.telemetry import Telemetry
from veriff_async.testing import decision_event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from veriff_async import Decision
    from veriff_async.sandbox import Sandbox

JPEG = b"\xff\xd8\xff\xe0" + bytes(1000)
UNKNOWN = "11111111-1111-4111-8111-111111111111"


def test_a_verification_needs_no_await(sandbox: Sandbox, veriff: BlockingClient, tmp_path: Path) -> None:
    """A session is created, gets files, bytes and streams, is submitted and decided, without await."""
    path = tmp_path / "front.jpg"
    path.write_bytes(JPEG)

    session = veriff.create_session(vendor_data="user-42")
    assert isinstance(session, BlockingSession)
    assert ("user-42", Status.CREATED) == (session.vendor_data, session.status)
    assert session.url is not None
    with path.open("rb") as file:
        receipts = session.upload(
            Media(path, "document-front"), Media(JPEG, "face"), Media(file, "face"), Media(BytesIO(JPEG), "face")
        )
    assert [len(JPEG)] * 4 == [receipt.size for receipt in receipts]
    session.submit()
    sandbox.decide(session.id, "approved")

    assert Status.APPROVED == session.wait_for_decision(timeout=30).status == session.status
    assert 4 == len(session.download_all(tmp_path / "documents"))


def test_every_session_is_for_synchronous_code(veriff: BlockingClient) -> None:
    """Each method that returns a session returns one for synchronous code."""
    session = veriff.submit(media=[Media(JPEG, "face")])

    assert isinstance(session, BlockingSession)
    assert isinstance(veriff.session(session.id), BlockingSession)
    assert session.id in repr(session)
    assert repr(veriff).startswith("<BlockingClient http://127.0.0.1")


def test_open_session_creates_one_session(sandbox: Sandbox) -> None:
    """`open_session` creates one session with its own client."""
    with blocking.open_session(sandbox.credentials, base_url=sandbox.base_url, vendor_data="user-42") as session:
        session.upload(Media(JPEG, "face"))

    assert ["user-42"] == [each.vendor_data for each in sandbox.sessions]


def test_the_environment_completes_the_settings(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without arguments, credentials and URL come from the environment."""
    for name, value in sandbox.environ.items():
        monkeypatch.setenv(name, value)

    with blocking.open_client() as veriff:
        assert sandbox.credentials == veriff.credentials
        veriff.credentials = veriff.credentials.with_rotated_secret("another-secret-of-the-integration")
        assert "another-secret-of-the-integration" == veriff.async_client.credentials.shared_secret


def test_wrong_options_are_refused(sandbox: Sandbox) -> None:
    """A wrong option is refused with the right name, and a session of aiohttp, which belongs to another loop."""

    async def open_http() -> None:
        import aiohttp  # noqa: PLC0415

        async with aiohttp.ClientSession() as http:
            with pytest.raises(ConfigurationError, match="http_session belongs to the event loop"):
                blocking.open_client(sandbox.credentials, base_url=sandbox.base_url, http_session=http)

    def fail() -> asyncio.AbstractEventLoop:
        raise ZeroDivisionError

    asyncio.run(open_http())
    with pytest.raises(ConfigurationError, match="loop_factory must be a function"):
        blocking.open_client(sandbox.credentials, base_url=sandbox.base_url, loop_factory=3)  # type: ignore[arg-type]
    with (
        blocking.open_client(sandbox.credentials, base_url=sandbox.base_url, loop_factory=fail) as veriff,
        pytest.raises(ConfigurationError, match="loop_factory raised ZeroDivisionError"),
    ):
        veriff.create_session()
    with pytest.raises(TypeError, match="did you mean 'max_uploads'"):
        blocking.open_client(sandbox.credentials, base_url=sandbox.base_url, max_upload=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="did you mean 'vendor_data'"), blocking.open_session(vendorData="user-42"):  # type: ignore[call-arg]
        pass


def test_a_file_is_streamed_in_a_block(veriff: BlockingClient) -> None:
    """A media file is streamed by an iterator in a with block."""
    session = veriff.submit(media=[Media(JPEG, "face")])
    (file,) = session.media().images

    with veriff.stream_media(file) as stream:
        assert isinstance(stream, BlockingMediaStream)
        assert (file.id, "image/jpeg", len(JPEG)) == (stream.media_id, stream.mimetype, stream.size)
        assert JPEG == b"".join(stream)
    with pytest.raises(ZeroDivisionError), veriff.stream_media(file):
        raise ZeroDivisionError
    with pytest.raises(NotFoundError), veriff.stream_media(UNKNOWN):
        pass
    assert 0 == veriff.statistics().active_downloads


def test_a_stream_ends_with_its_block(veriff: BlockingClient) -> None:
    """A stream that is used after its block raises an error, and a block cannot be entered twice."""
    session = veriff.submit(media=[Media(JPEG + bytes(3_000_000), "face")])
    block = veriff.stream_media(session.media().images[0])
    with block as stream:
        pass

    with pytest.raises(TransportError):
        list(stream)
    with pytest.raises(AttributeError, match="args"), block:
        pass


def test_errors_are_those_of_the_client(sandbox: Sandbox, veriff: BlockingClient) -> None:
    """An error keeps its class and attributes, and its traceback shows the caller and the asynchronous method."""
    session = veriff.create_session()
    with pytest.raises(MediaEmptyError) as caught:
        session.upload(Media(b"", "face"))
    assert caught.value.media is not None
    with pytest.raises(NotFoundError) as missing:
        veriff.session(UNKNOWN).decision()
    assert 404 == missing.value.status
    assert missing.value.__context__ is None
    functions = [frame.name for frame in traceback.extract_tb(missing.value.__traceback__)]
    assert "test_errors_are_those_of_the_client" == functions[0]
    assert "decision" in functions
    with pytest.raises(TypeError, match="takes 1 positional argument"):
        session.submit(1)  # type: ignore[call-arg]
    with pytest.raises(InvalidArgumentError, match="session_id"):
        veriff.session("not an id")


def test_options_reach_the_client(sandbox: Sandbox) -> None:
    """Options of `VeriffClient` apply."""
    with blocking.open_client(
        sandbox.credentials, base_url=sandbox.base_url, retry=RetryPolicy(initial_backoff=0, max_backoff=0)
    ) as veriff:
        session = veriff.create_session()
        sandbox.inject(Fault.status(503), times=2)
        assert session.decision() is None

        assert 2 == veriff.statistics().retries


def test_threads_share_one_client(sandbox: Sandbox, veriff: BlockingClient) -> None:
    """Any number of threads call at the same time, in one event loop and one pool."""
    sandbox.change_rules(decide_after=0)

    def verify(number: int) -> Status:
        return veriff.verify(media=[Media(JPEG, "face")], vendor_data=f"user-{number}", timeout=30).status

    with ThreadPoolExecutor(8) as threads:
        assert {Status.APPROVED} == set(threads.map(verify, range(8)))
        loops = {thread.name for thread in threading.enumerate() if thread.name == "veriff-async loop"}

    assert 1 == len(loops)
    assert 8 == len({session.vendor_data for session in sandbox.sessions})


def test_callbacks_run_in_the_loop(veriff: BlockingClient) -> None:
    """A progress callback runs in the thread of the loop; there a call is refused, and an exception ends the upload."""
    session = veriff.create_session()
    threads = set[str]()
    refused = list[Exception]()

    def progress(_progress: UploadProgress) -> None:
        threads.add(threading.current_thread().name)
        try:
            session.decision()
        except ConfigurationError as error:
            refused.append(error)

    def fail(_progress: UploadProgress) -> None:
        raise ZeroDivisionError

    session.upload(Media(JPEG, "face"), progress=progress)
    with pytest.raises(ZeroDivisionError):
        session.upload(Media(JPEG, "face"), progress=fail)

    assert {"veriff-async loop"} == threads
    assert "must not call the client" in str(refused[0])


def test_awaited_callbacks_run_in_a_thread(veriff: BlockingClient) -> None:
    """A callback that the asynchronous client awaits is a plain function that may block and use the client."""
    session = veriff.create_session()
    stored = list[tuple[int, str, int]]()

    def store(index: int, receipt: UploadedMedia) -> None:
        stored.append((index, receipt.id, len(session.media().images)))

    def fail(_index: int, _receipt: UploadedMedia) -> None:
        raise ZeroDivisionError

    (receipt,) = session.upload(Media(JPEG, "face"), on_uploaded=store)
    with pytest.raises(ZeroDivisionError):
        session.upload(Media(JPEG, "face"), on_uploaded=fail)

    assert [(0, receipt.id, 1)] == stored


def test_callbacks_nest(veriff: BlockingClient) -> None:
    """A callback may make a call with a callback; neither a limit of threads nor one of downloads stops the inner."""
    session = veriff.create_session()

    def upload(depth: int) -> None:
        session.upload(Media(JPEG, "face"), on_uploaded=lambda _index, _receipt: upload(depth - 1) if depth else None)

    upload(41)  # one more than anyio's default limit

    assert 42 == veriff.statistics().uploads


def test_a_result_of_a_callback_is_awaited(veriff: BlockingClient) -> None:
    """An object or a lambda that returns a coroutine is a callback too."""
    stored = list[int]()

    async def store(index: int) -> None:
        stored.append(index)

    veriff.create_session().upload(Media(JPEG, "face"), on_uploaded=lambda index, _receipt: store(index))  # type: ignore[arg-type]

    assert [0] == stored


def test_downloads_in_the_block_of_a_stream(sandbox: Sandbox, tmp_path: Path) -> None:
    """A thread in the block of a stream can download more, however few downloads may run at once."""
    with blocking.open_client(sandbox.credentials, base_url=sandbox.base_url, max_downloads=1) as veriff:
        session = veriff.submit(media=[Media(JPEG, "face")])
        (file,) = session.media().images
        with veriff.stream_media(file) as stream, veriff.stream_media(file) as inner:
            assert JPEG == b"".join(inner)
            assert len(JPEG) == veriff.download_media(file, tmp_path / "one").size
            assert 1 == len(session.download_all(tmp_path / "all"))
            assert JPEG == b"".join(stream)

        assert 0 == veriff.statistics().active_downloads


def test_resubmission_is_answered_in_a_thread(sandbox: Sandbox, veriff: BlockingClient) -> None:
    """The function that `verify` asks for better pictures is a plain one that may block and use the session."""
    stored = list[int]()

    def take(_decision: Decision, session: BlockingSession) -> list[Media]:
        stored.append(len(session.media().images))
        return [Media(JPEG, "face")]

    statuses = ["resubmission_requested", "approved"]
    with ThreadPoolExecutor(1) as threads:
        verifying = threads.submit(veriff.verify, media=[Media(JPEG, "face")], on_resubmission=take)
        for number, status in enumerate(statuses, start=1):
            until_in_thread(lambda number=number: count_submissions(sandbox) == number)  # type: ignore[misc]
            sandbox.decide(sandbox.sessions[0].id, status)
        assert verifying.result().is_approved

    assert [1] == stored


def count_submissions(sandbox: Sandbox) -> int:
    """Return how often sessions were submitted."""
    return sum(request.method == "PATCH" for request in sandbox.requests)


def test_context_reaches_the_call(veriff: BlockingClient) -> None:
    """The context variables of the calling thread apply in the call, so that traces continue; not the other way."""
    variable = ContextVar("variable", default="none")
    seen = list[str]()

    async def read() -> str:
        value = variable.get()
        variable.set("changed")
        return value

    async def generate() -> AsyncIterator[str]:
        yield variable.get()

    variable.set("of the caller")
    veriff.create_session().upload(
        Media(JPEG, "face"),
        progress=lambda _: seen.append(variable.get()),
        on_uploaded=lambda _index, _receipt: seen.append(variable.get()),
    )

    assert {"of the caller"} == {*seen, veriff.run(read), variable.get(), *veriff.iterate(generate)}
    with ThreadPoolExecutor(1) as threads:
        assert "none" == threads.submit(veriff.run, read).result()


def test_a_thread_with_an_event_loop_is_refused(veriff: BlockingClient) -> None:
    """A call that would block an event loop names the asynchronous client instead."""

    async def call() -> None:
        with pytest.raises(ConfigurationError, match="await the method of VeriffClient"):
            veriff.create_session()

    asyncio.run(call())


def test_inbox_and_receiver_run_in_the_loop(sandbox: Sandbox) -> None:
    """An inbox and a receiver run in the loop of the client: webhooks end waits, and reconcile finds lost ones."""
    inbox = MemoryInbox()
    with blocking.open_client(sandbox.credentials, base_url=sandbox.base_url, inbox=inbox) as veriff:
        receiver = veriff.enter(WebhookReceiver(veriff.credentials, veriff.enter(inbox)))
        session = veriff.submit(media=[Media(JPEG, "face")])
        lost = veriff.submit(media=[Media(JPEG, "face")])
        body = dump_json(decision_event(session.id, "approved"))
        headers = {"x-auth-client": veriff.credentials.api_key, "x-hmac-signature": veriff.credentials.sign(body)}
        sandbox.decide(lost.id, "declined")

        response = veriff.run(receiver.handle, "POST", headers, body)
        result = veriff.run(reconcile, veriff.async_client, inbox, [session.id, lost.id])

        assert (200, [lost.id], 1) == (response.status, result.recorded, result.known)
        assert Status.APPROVED == session.wait_for_decision(timeout=0).status
        assert Status.DECLINED == lost.wait_for_decision(timeout=0).status


def test_a_batch_is_iterated_over(sandbox: Sandbox, veriff: BlockingClient) -> None:
    """A batch is iterated over by synchronous code, and leaving the loop early closes it."""
    sandbox.change_rules(decide_after=0)
    jobs = [Job(f"job-{number}", [Media(JPEG, "face")]) for number in range(3)]

    results = list(veriff.iterate(verify_many, veriff.async_client, jobs, journal=MemoryJournal()))
    for _result in veriff.iterate(verify_many, veriff.async_client, jobs, journal=MemoryJournal()):
        break

    assert ["job-0", "job-1", "job-2"] == sorted(result.job_id for result in results)


def test_one_task_continues_an_iterator(veriff: BlockingClient) -> None:
    """One task runs an async generator from its start to its end, also if the loop is left early."""
    tasks = list[asyncio.Task[object] | None]()
    ended = threading.Event()

    async def generate() -> AsyncIterator[int]:
        try:
            async with asyncio.timeout(60):
                for number in range(3):
                    tasks.append(asyncio.current_task())
                    yield number
        finally:
            tasks.append(asyncio.current_task())
            ended.set()

    assert [0, 1, 2] == list(veriff.iterate(generate))
    for _number in veriff.iterate(generate):
        break
    assert ended.wait(30)

    assert 2 == len(set(tasks))


def test_views_share_the_client(sandbox: Sandbox, veriff: BlockingClient) -> None:
    """A view makes calls with other options; the client closes it, and it cannot be opened."""
    view = veriff.with_options(retry=RetryPolicy(max_attempts=1))
    session = view.create_session()
    sandbox.inject(Fault.status(503))
    with pytest.raises(ServerError):
        session.decision()
    view.close()
    with pytest.raises(ConfigurationError, match="view"), view:
        pass

    assert session.with_options(timeouts=Timeouts(idle=5)).decision() is None
    assert veriff.statistics().requests == view.statistics().requests


def test_states_are_iterated_over(sandbox: Sandbox, veriff: BlockingClient) -> None:
    """The states of a session are iterated over, up to the final one; a watch that is left ends."""
    session = veriff.submit(media=[Media(JPEG, "face")])
    watch = session.watch()
    seen = [next(watch).status]
    assert 1 == veriff.statistics().waiters
    watch.close()
    until_in_thread(lambda: veriff.statistics().waiters == 0)
    sandbox.decide(session.id, "approved")

    assert [Status.SUBMITTED, Status.APPROVED] == seen + [state.status for state in session.watch(timeout=30)][-1:]


def test_spans_continue(sandbox: Sandbox) -> None:
    """The span of the calling thread is the parent of the spans of its calls."""
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    exporters = pytest.importorskip("opentelemetry.sdk.trace.export")
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter").InMemorySpanExporter()
    provider = sdk.TracerProvider()
    provider.add_span_processor(exporters.SimpleSpanProcessor(memory))
    telemetry = Telemetry(tracer_provider=provider)
    with (
        blocking.open_client(sandbox.credentials, base_url=sandbox.base_url, telemetry=telemetry) as veriff,
        provider.get_tracer("tests").start_as_current_span("request") as request,
    ):
        veriff.create_session()

    (span,) = [span for span in memory.get_finished_spans() if span.name == "POST /v1/sessions"]
    assert request.get_span_context().span_id == span.parent.span_id


def test_wrong_functions_are_refused(veriff: BlockingClient) -> None:
    """`run`, `iterate` and `enter` say what they take."""

    async def generate() -> AsyncIterator[int]:
        yield 1

    with pytest.raises(InvalidArgumentError, match=r"returned async_generator: call iterate\(\)\?"):
        veriff.run(generate)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match=r"not coroutine: call run\(\)\?"):
        veriff.iterate(veriff.async_client.check)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="not int"):
        veriff.enter(3)  # type: ignore[arg-type]


def test_functions_that_return_no_iterator_are_named(veriff: BlockingClient) -> None:
    """`iterate` names the type that a function returned if it is neither an iterator nor a coroutine."""
    with pytest.raises(InvalidArgumentError, match="not list"):
        list(veriff.iterate(list))  # type: ignore[arg-type]


def test_awaited_callbacks_may_be_coroutine_functions(veriff: BlockingClient) -> None:
    """A callback that is a coroutine function runs in the loop as it is, and one that is no function is an error."""
    stored: list[int] = []

    async def store(index: int, _receipt: UploadedMedia) -> None:
        await asyncio.sleep(0)
        stored.append(index)

    session = veriff.create_session()
    session.upload(Media(JPEG, "face"), on_uploaded=store)  # type: ignore[arg-type]
    assert [0] == stored
    with pytest.raises(InvalidArgumentError, match="on_uploaded"):
        session.upload(Media(JPEG, "face"), on_uploaded=3)  # type: ignore[arg-type]
