"""The event loop of a client for synchronous code: when it starts and ends, and that nothing waits for it in vain."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest

from tests.conditions import needs_posix, until_in_thread, without_slow_steps
from veriff_async import ClientClosedError, Media, blocking

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator
    from types import FrameType

    from veriff_async.blocking import BlockingClient, BlockingSession
    from veriff_async.sandbox import Sandbox

JPEG: Final = b"\xff\xd8\xff\xe0" + bytes(1000)


class Waiter(threading.Thread):
    """A thread that waits for a decision."""

    def __init__(self, session: BlockingSession) -> None:
        """Start to wait."""
        super().__init__()
        self.error: BaseException | None = None
        self.session = session
        self.start()

    def run(self) -> None:
        """Wait."""
        try:
            self.session.wait_for_decision(timeout=None)
        except BaseException as error:  # noqa: BLE001
            self.error = error


@pytest.fixture
def session(veriff: BlockingClient) -> BlockingSession:
    """Return a submitted session."""
    return veriff.submit(media=[Media(JPEG, "face")])


def loop_threads() -> list[threading.Thread]:
    """Return the threads of event loops."""
    return [thread for thread in threading.enumerate() if thread.name == "veriff-async loop"]


def test_the_first_call_starts_the_loop(sandbox: Sandbox) -> None:
    """Opening a client starts no thread; closing it ends the thread, and does nothing the second time."""
    veriff = blocking.open_client(sandbox.credentials, base_url=sandbox.base_url)
    session = veriff.session("11111111-1111-4111-8111-111111111111")
    assert 0 == veriff.statistics().requests
    assert [] == loop_threads()
    veriff.create_session()
    assert 1 == len(loop_threads())
    veriff.close()
    veriff.close()
    assert [] == loop_threads()

    assert 1 == veriff.statistics().requests
    assert repr(veriff).endswith(" closed>")
    with pytest.raises(ClientClosedError, match="blocking client is closed"), veriff:
        pass
    for call in (session.decision, veriff.create_session, veriff.end_waits):
        with pytest.raises(ClientClosedError, match="blocking client is closed"):
            call()


def test_closing_ends_the_waits_of_other_threads(veriff: BlockingClient, session: BlockingSession) -> None:
    """A wait in another thread ends with `ClientClosedError`, and so do streams and iterators of the client."""
    (file,) = session.media().images
    with veriff.stream_media(file) as stream:
        waiter = Waiter(session)
        until_in_thread(lambda: veriff.statistics().waiters == 1)
        veriff.close()
        with pytest.raises(ClientClosedError):
            next(stream)
    waiter.join()

    assert isinstance(waiter.error, ClientClosedError)


def test_end_waits_ends_waits_only(veriff: BlockingClient, session: BlockingSession) -> None:
    """`end_waits` ends the waits of all threads, and other calls continue."""
    waiter = Waiter(session)
    until_in_thread(lambda: veriff.statistics().waiters == 1)
    veriff.end_waits()
    waiter.join()

    assert isinstance(waiter.error, ClientClosedError)
    assert session.decision() is None


@pytest.fixture
def run_python(sandbox: Sandbox) -> Callable[..., str]:
    """Return a function that runs a program with the settings of the sandbox, and returns its output."""

    def run(program: str) -> str:
        completed = subprocess.run(  # noqa: S603  our own program
            [sys.executable, "-c", program],
            check=False,
            capture_output=True,
            text=True,
            timeout=50,
            env={**os.environ, **sandbox.environ},
        )
        assert (0, "") == (completed.returncode, without_slow_steps(completed.stderr))
        return completed.stdout

    return run


class Interruption(BaseException):
    """Raised by a signal handler, as `KeyboardInterrupt` is."""


@pytest.fixture
def interrupt() -> Iterator[Callable[[Callable[[], bool]], threading.Thread]]:
    """Return a function that interrupts the main thread when a condition is true."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        raise Interruption

    def start(condition: Callable[[], bool]) -> threading.Thread:
        def run() -> None:
            until_in_thread(condition)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    previous = signal.signal(signal.SIGUSR1, handle)
    yield start
    signal.signal(signal.SIGUSR1, previous)


@needs_posix
def test_an_interrupt_cancels_the_call(
    veriff: BlockingClient, session: BlockingSession, interrupt: Callable[[Callable[[], bool]], threading.Thread]
) -> None:
    """An exception of a signal handler, such as `KeyboardInterrupt`, ends the call in the loop and is raised."""
    thread = interrupt(lambda: veriff.statistics().waiters == 1)
    with pytest.raises(Interruption):
        session.wait_for_decision(timeout=None)
    thread.join()

    assert 0 == veriff.statistics().waiters
    assert session.decision() is None


def test_an_unclosed_client_warns(sandbox: Sandbox) -> None:
    """A session keeps its client; when both are gone, the loop ends with a warning."""
    veriff = blocking.open_client(sandbox.credentials, base_url=sandbox.base_url)
    session = veriff.create_session()
    del veriff
    gc.collect()
    assert session.decision() is None
    with pytest.warns(ResourceWarning, match="unclosed blocking client"):
        del session
    until_in_thread(lambda: not loop_threads())


def test_an_exit_ends_only_its_call(veriff: BlockingClient) -> None:
    """`SystemExit` is raised in the thread that called, and the loop continues."""

    async def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        veriff.run(leave)

    assert veriff.create_session().decision() is None


def test_a_loop_that_dies_ends_all_calls(
    veriff: BlockingClient, session: BlockingSession, caplog: pytest.LogCaptureFixture
) -> None:
    """If a callback ends the loop, waiting threads get `ClientClosedError`, and so does each later call."""
    waiter = Waiter(session)
    until_in_thread(lambda: veriff.statistics().waiters == 1)

    async def kill() -> None:
        asyncio.get_running_loop().call_soon(sys.exit, 3)
        await asyncio.Event().wait()

    with pytest.raises(ClientClosedError):
        veriff.run(kill)
    waiter.join()

    assert isinstance(waiter.error, ClientClosedError)
    with pytest.raises(ClientClosedError):
        session.decision()
    until_in_thread(lambda: "ended with SystemExit" in caplog.text)


@needs_posix
def test_the_client_runs_on_uvloop(sandbox: Sandbox) -> None:
    """The client runs on another event loop."""
    import uvloop  # noqa: PLC0415

    with blocking.open_client(
        sandbox.credentials, base_url=sandbox.base_url, loop_factory=uvloop.new_event_loop
    ) as veriff:
        session = veriff.submit(media=[Media(JPEG, "face")])
        sandbox.decide(session.id, "approved")
        with veriff.stream_media(session.media().images[0]) as stream:
            assert JPEG == b"".join(stream)
        assert session.wait_for_decision(timeout=30).status == "approved"


FORK: Final = """\
import os, sys, warnings
from veriff_async import ConfigurationError, blocking

warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of a fork in a process with threads

def in_child(function):
    child = os.fork()
    if child == 0:
        try:
            function()
        finally:
            sys.stdout.flush()
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0

def refuse():
    for call in (session.decision, veriff.create_session):
        try:
            call()
        except ConfigurationError as error:
            print(error)
    veriff.close()

def use_another():
    with blocking.open_client() as other:
        print(other.session(session.id).decision())

veriff = blocking.open_client()
in_child(lambda: print(veriff.create_session().status))
session = veriff.create_session()
in_child(refuse)
in_child(use_another)
in_child(lambda: None)
print(session.decision())
"""


@needs_posix
def test_a_client_may_be_opened_before_a_fork(sandbox: Sandbox, run_python: Callable[..., str]) -> None:
    """A client may be opened before a fork. After a call, the child gets an error, and the parent is not disturbed."""
    lines = run_python(FORK).splitlines()

    assert ["created", "None", "None"] == [lines[0], *lines[3:]]
    assert all("call open_client() in each worker process" in line for line in lines[1:3])


EXIT: Final = """\
import asyncio, atexit, threading

@atexit.register
def call_late():
    thread.join()
    try:
        session.decision()
    except ClientClosedError:
        print("refused")

from veriff_async import ClientClosedError, blocking

def wait():
    try:
        session.wait_for_decision(timeout=None)
    except ClientClosedError:
        print("ended")

veriff = blocking.open_client()
veriff.run(asyncio.to_thread, print)  # asyncio resolves names in such a thread
session = veriff.create_session()
watch = session.watch()
next(watch)
thread = threading.Thread(target=wait, daemon=True)
thread.start()
while veriff.statistics().waiters < 2:
    pass
"""


def test_the_end_of_the_process_closes_a_client(sandbox: Sandbox, run_python: Callable[..., str]) -> None:
    """A client that is left open is closed at the end of the process: waits end, and later calls are refused."""
    assert ["ended", "refused"] == run_python(EXIT).split()


def test_an_iterator_that_is_left_while_the_client_closes(
    veriff: BlockingClient, session: BlockingSession, caplog: pytest.LogCaptureFixture
) -> None:
    """The end of the loop ends its task: a garbage collection reports no task that was destroyed."""
    closing, leave = threading.Event(), threading.Event()

    @asynccontextmanager
    async def resource() -> AsyncGenerator[None]:
        yield
        closing.set()
        await asyncio.to_thread(leave.wait)

    veriff.enter(resource())
    watch = session.watch()
    next(watch)
    thread = threading.Thread(target=veriff.close)
    thread.start()
    assert closing.wait(30)
    del watch
    gc.collect()
    leave.set()
    thread.join()

    assert "" == caplog.text


LATE: Final = """\
import atexit
from veriff_async import ConfigurationError, blocking

veriff = blocking.open_client()

@atexit.register
def call_first():
    try:
        print(veriff.create_session().status)
    except ConfigurationError as error:
        print(error)
"""


def test_a_first_call_at_the_end_of_the_process(sandbox: Sandbox, run_python: Callable[..., str]) -> None:
    """It is a call like others, or an error of the library where Python starts no thread any more."""
    # Releases of 3.12 differ: https://github.com/python/cpython/issues/113964.
    written = run_python(LATE)

    assert "created" == written.strip() or "cannot start its thread" in written


class Resource:
    """An async context manager that notes what happens to it."""

    def __init__(self, name: str, notes: list[str], *, error: Exception | None = None, seconds: float = 0) -> None:
        """Note nothing yet."""
        self.name, self.notes, self.error, self.seconds = name, notes, error, seconds

    async def __aenter__(self) -> str:
        """Enter, after some seconds."""
        self.notes.append(f"enter {self.name}")
        self.task = asyncio.current_task()
        await asyncio.sleep(self.seconds)
        return self.name

    async def __aexit__(self, *_error: object) -> None:
        """Leave, in the task that has entered."""
        assert self.task is asyncio.current_task()
        self.notes.append(f"leave {self.name}")
        if self.error is not None:
            raise self.error


def test_resources_are_left_when_the_client_is_closed(veriff: BlockingClient) -> None:
    """Resources are left in reverse order, by the task that entered each; `close` raises the error of one."""
    notes = list[str]()
    assert "first" == veriff.enter(Resource("first", notes))
    veriff.enter(Resource("second", notes, error=ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        veriff.close()
    veriff.close()

    assert ["enter first", "enter second", "leave second", "leave first"] == notes


@needs_posix
def test_an_interrupted_enter_leaves_nothing(
    veriff: BlockingClient, interrupt: Callable[[Callable[[], bool]], threading.Thread]
) -> None:
    """A resource whose entering was interrupted is not left, since it was never entered."""
    notes = list[str]()
    thread = interrupt(lambda: bool(notes))
    with pytest.raises(Interruption):
        veriff.enter(Resource("slow", notes, seconds=60))
    thread.join()
    veriff.close()

    assert ["enter slow"] == notes
