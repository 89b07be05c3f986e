"""The worker threads of uploads: cancellation waits for a thread, and closing ends it."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest
from anyio import CancelScope

from tests.conditions import SECONDS, needs_posix, without_slow_steps
from veriff_async._media import worker_threads
from veriff_async._media.blocking_source import run_abandonable
from veriff_async._media.worker_threads import WorkerThreads, _Queue, _ThreadCall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.anyio


@pytest.fixture
def workers() -> Iterator[WorkerThreads]:
    """Return worker threads that end with the test."""
    workers = WorkerThreads(2)
    yield workers
    workers.close()


async def test_result_and_error_are_those_of_the_function(workers: WorkerThreads) -> None:
    """A call returns or raises as the function does, and runs it in another thread."""
    assert await workers.run(threading.current_thread) is not threading.current_thread()
    with pytest.raises(ZeroDivisionError):
        await workers.run(lambda: 1 // 0)


async def test_call_after_the_end_leaves_no_thread(workers: WorkerThreads) -> None:
    """A call that continues when its client is closed may start a thread, which ends although the client is kept."""
    for _ in range(2):
        workers.close()
        thread = await workers.run(threading.current_thread)
        while thread.is_alive():  # noqa: ASYNC110  it ends by itself
            await asyncio.sleep(0)


async def test_cancelled_call_ends_after_its_function(workers: WorkerThreads) -> None:
    """However often a task is cancelled, it ends as cancelled when its function has ended."""
    began, release = threading.Event(), threading.Event()
    ended: list[bool] = []

    def work() -> None:
        began.set()
        release.wait(30)
        ended.append(True)

    task = asyncio.create_task(workers.run(work))
    while not began.is_set():  # noqa: ASYNC110  it is set in a thread
        await asyncio.sleep(0)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert ended == [True]


async def test_cancelled_scope_does_not_wake_the_call_that_waits_for_its_thread(workers: WorkerThreads) -> None:
    """A cancel scope of anyio cancels a call once, and not in each turn of the loop until the thread ends."""
    began, release = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        release.wait(30)

    async def call(scope: CancelScope) -> None:
        with scope:
            await workers.run(work)

    scope = CancelScope()
    task = asyncio.create_task(call(scope))
    while not began.is_set():  # noqa: ASYNC110  it is set in a thread
        await asyncio.sleep(0)
    scope.cancel()
    for _ in range(20):
        await asyncio.sleep(0)
    cancellations = task.cancelling()
    release.set()
    await task

    assert cancellations == 1


async def test_cancelled_call_that_has_not_begun_never_begins() -> None:
    """A call that waits for a free thread ends at once when it is cancelled."""
    workers, release = WorkerThreads(1), threading.Event()
    first = asyncio.create_task(workers.run(lambda: release.wait(30)))
    calls: list[int] = []
    second = asyncio.create_task(workers.run(lambda: calls.append(1)))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    release.set()
    await first
    workers.close()

    assert calls == []


async def test_blocked_call_delays_neither_results_before_it_nor_calls_after_it(workers: WorkerThreads) -> None:
    """One thread takes all calls of a moment; when one of them blocks, the loop gets the others' results anyway."""
    release = threading.Event()
    before = workers.start(threading.get_ident)
    blocked = workers.start(lambda: (threading.get_ident(), release.wait(30)))
    after = [workers.start(threading.get_ident) for _ in range(10)]

    done = await asyncio.gather(before, *after)
    was_blocked = not blocked.done()
    release.set()
    thread, _ = await blocked

    assert was_blocked
    assert thread not in done[1:]


async def test_call_gets_a_thread_at_once_if_all_others_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that has been at one call for long takes no further one soon, so the next call starts another thread."""
    started: list[Callable[[], None]] = []
    monkeypatch.setattr(worker_threads, "_CHECK_INTERVAL", 60)  # the first call is young, however busy the machine is
    queue = _Queue(asyncio.get_running_loop(), 3, started.append)
    calls = [_ThreadCall(threading.get_ident, asyncio.get_running_loop().create_future()) for _ in range(6)]
    queue.put(calls[0])
    queue.put(calls[1])
    assert len(started) == 1

    monkeypatch.setattr(worker_threads, "_CHECK_INTERVAL", 0)
    for call in calls[2:]:
        queue.put(call)
    assert len(started) == 3
    for run_calls in started:
        run_calls()
    await asyncio.gather(*(call.future for call in calls))


async def test_call_without_a_thread_of_the_system_is_refused_or_waits(workers: WorkerThreads) -> None:
    """If the system starts no thread, a call waits for those that run, or else raises and never begins."""
    began, release = threading.Event(), threading.Event()
    calls: list[int] = []

    def work() -> None:
        began.set()
        release.wait(30)

    first = workers.start(work)
    while not began.is_set():  # noqa: ASYNC110  it is set in a thread
        await asyncio.sleep(0)
    size = threading.stack_size(1 << 62)  # more than any memory
    try:
        second = workers.start(lambda: calls.append(2))
        others = WorkerThreads(1)
        with pytest.raises(RuntimeError):
            others.start(lambda: calls.append(3))
    finally:
        threading.stack_size(size)
    release.set()
    await asyncio.gather(first, second, others.start(lambda: calls.append(4)))
    others.close()

    assert sorted(calls) == [2, 4]


async def test_failed_call_is_freed_with_its_error(workers: WorkerThreads) -> None:
    """The buffers and files of a call that failed do not wait for the garbage collector."""

    class Buffer:
        pass

    async def fail() -> weakref.ref[Buffer]:
        buffer = Buffer()

        def work() -> None:
            raise OSError(str(buffer))

        with pytest.raises(OSError, match="Buffer"):
            await workers.run(work)
        return weakref.ref(buffer)

    gc.collect()
    gc.disable()
    try:
        buffer = await fail()
        await workers.run(threading.get_ident)  # the thread has left the call that failed
        assert buffer() is None
    finally:
        gc.enable()


async def test_no_more_threads_than_the_limit() -> None:
    """Calls that block use as many threads as are allowed, and the others wait for them."""
    workers, barrier = WorkerThreads(3), threading.Barrier(3)
    calls = [workers.start(lambda: (barrier.wait(30), threading.get_ident())) for _ in range(9)]
    threads = {thread for _, thread in await asyncio.gather(*calls)}
    workers.close()

    assert len(threads) == 3


def test_client_that_moves_to_another_loop_gets_its_results_there(workers: WorkerThreads) -> None:
    """A call that still runs when its loop is closed delivers nothing, and calls of the next loop are not affected."""
    began, release = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        release.wait(30)

    async def leave() -> None:
        workers.start(work)
        while not began.is_set():  # noqa: ASYNC110  it is set in a thread
            await asyncio.sleep(0)

    asyncio.run(leave())
    results = asyncio.run(_run_ten(workers))
    release.set()

    assert results == list(range(10))


async def _run_ten(workers: WorkerThreads) -> list[int]:
    return list(await asyncio.gather(*(workers.run(partial(int, number)) for number in range(10))))


async def test_call_after_close_starts_a_thread_again(workers: WorkerThreads) -> None:
    """A call that is still running when the client is closed can still use a thread."""
    await workers.run(threading.current_thread)
    workers.close()
    assert await workers.run(lambda: 1) == 1


FORK: Final = """
import asyncio, os
from veriff_async._media.worker_threads import WorkerThreads

workers = WorkerThreads(2)
asyncio.run(workers.run(os.getpid))
child = os.fork()
if child == 0:
    os._exit(0 if asyncio.run(asyncio.wait_for(workers.run(os.getpid), 30)) == os.getpid() else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@needs_posix
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.usefixtures("without_coverage")
def test_forked_process_starts_threads_of_its_own() -> None:
    """A child process, which inherits no thread, runs its calls in new ones."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK]
    completed = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603  our own code

    assert (completed.returncode, without_slow_steps(completed.stderr)) == (0, "")


async def test_stop_iteration_of_a_thread_is_a_runtime_error(workers: WorkerThreads) -> None:
    """A function that raises StopIteration, which no future accepts, is an error for its caller."""

    def stop() -> None:
        raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration"):
        await workers.run(stop)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await run_abandonable(stop, idle=SECONDS)
