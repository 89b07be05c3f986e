"""Fixtures for tests of programs that use Veriff; pytest finds them by itself once the library is installed.

=============================  =====================================================================================
fixture                        value
=============================  =====================================================================================
``veriff_sandbox``             a `veriff_async.sandbox.Sandbox` that runs for one test, in a thread of its own
``veriff_client``              a `veriff_async.VeriffClient` for it
``veriff_sandbox_options``     override it: a mapping of options for the sandbox, for a module or a suite
``veriff_client_options``      override it: a mapping of options for the client
=============================  =====================================================================================

The mark ``veriff_sandbox`` sets options of the sandbox for a test, a class or a module. They override those of the
fixture, and those of a closer mark override those of another one. An option is one of `Sandbox`, for example
``webhook_app``, ``chaos``, ``clock``, ``control_token`` or ``tls``, or one of these:

=============================  =====================================================================================
option                         effect
=============================  =====================================================================================
``snapshot``                   the state to start with: bytes of `Sandbox.snapshot`, or the path of a file with them
``hold_webhooks``              True holds all webhooks until the test calls `Sandbox.release_webhooks`
=============================  =====================================================================================

Each test has a sandbox of its own on a free port, so tests can run side by side, for example under pytest-xdist. Both
fixtures are synchronous, so they work in synchronous tests, under pytest-asyncio (strict or auto, any loop scope) and
under anyio's plugin with the asyncio backend::

    @pytest.mark.asyncio  # not needed with asyncio_mode = "auto"
    @pytest.mark.veriff_sandbox(decide_after=0)
    async def test_a_new_customer_is_verified(veriff_client):
        session = await veriff_client.create_session(vendor_data="user-42")
        await session.upload(Media("tests/front.jpg", "document-front"))
        await session.submit()
        assert (await session.wait_for_decision(timeout=5)).is_approved


    def test_my_service_shows_a_decline(veriff_sandbox, monkeypatch):
        for name, value in veriff_sandbox.environ.items():
            monkeypatch.setenv(name, value)
        session_id = my_service.start_verification()
        veriff_sandbox.decide(session_id, "declined")
        assert my_service.status() == "declined"


    @pytest.mark.veriff_sandbox(chaos="hostile-webhooks", webhook_app=my_asgi_app, snapshot="tests/customers.zip")
    def test_my_service_accepts_repeated_webhooks(veriff_sandbox):
        veriff_sandbox.decide(veriff_sandbox.sessions[0].id, "approved")
        veriff_sandbox.wait_idle_sync()

A client belongs to one event loop: the one of the first ``await`` on it. It is closed at the end of that loop or of the
test, the earlier of the two. It polls and retries quickly, because the sandbox is local.

A failed test shows the last lines of the sandbox's timeline: requests with the reason of a refusal, changes of
sessions, and webhooks. This works for sandboxes of your own fixtures, too.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

import pytest

# Every run of pytest of every user loads this module, so it imports nothing until a fixture is used.
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import AsyncGenerator, Generator, Iterator

    from veriff_async import VeriffClient
    from veriff_async._http.pool import Pool
    from veriff_async.sandbox import Sandbox

__all__ = ("veriff_client", "veriff_client_options", "veriff_sandbox", "veriff_sandbox_options")

_CLOSE_TIMEOUT = 10.0  # seconds
_SHOWN_ENTRIES = 30


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark, so that ``--strict-markers`` knows it."""
    config.addinivalue_line(
        "markers", "veriff_sandbox(**options): options of the Sandbox behind veriff_sandbox, for this test."
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the timeline of each sandbox to the report of a failed test."""
    report = yield
    sandboxes = sys.modules.get("veriff_async.sandbox")
    # A test without a sandbox has not imported it.
    if report.failed and sandboxes is not None:
        for name, value in getattr(item, "funcargs", {}).items():
            if isinstance(value, sandboxes.Sandbox) and (text := value.timeline.text(limit=_SHOWN_ENTRIES)):
                report.sections.append((f"Last entries of {name}.timeline", text))
    return report


@pytest.fixture
def veriff_sandbox_options() -> Mapping[str, object]:
    """Return the options for `Sandbox`; override this fixture to set them for a module or a suite.

    Example:
        >>> @pytest.fixture
        ... def veriff_sandbox_options():
        ...     return {"clock": VirtualClock(), "decide_after": 60}
    """
    return {}


@pytest.fixture
def veriff_sandbox(request: pytest.FixtureRequest, veriff_sandbox_options: Mapping[str, object]) -> Iterator[Sandbox]:
    """Run a local Veriff for one test, in a thread of its own.

    Its methods are synchronous and may be called from the test, in a coroutine or not.
    """
    from veriff_async.sandbox import Sandbox  # noqa: PLC0415  see above

    options = _to_options("veriff_sandbox_options", veriff_sandbox_options)
    # From the module to the test, so that the closest mark has the last word.
    for mark in reversed(list(request.node.iter_markers("veriff_sandbox"))):
        if mark.args:
            pytest.fail(
                "The mark veriff_sandbox takes options by name: veriff_sandbox(decide_after=0).",
                pytrace=False,
            )
        options |= mark.kwargs
    snapshot, holds_webhooks = options.pop("snapshot", None), options.pop("hold_webhooks", False)
    if not isinstance(holds_webhooks, bool):
        pytest.fail("The option hold_webhooks of veriff_sandbox must be True or False.", pytrace=False)
    with ExitStack() as stack:
        with _report_errors("veriff_sandbox"):
            sandbox = stack.enter_context(Sandbox(**options))
            if snapshot is not None:
                sandbox.restore_sync(snapshot)
        if holds_webhooks:
            sandbox.hold_webhooks()
        yield sandbox


@pytest.fixture
def veriff_client_options() -> Mapping[str, object]:
    """Return the options for `VeriffClient`; override this fixture to set them for a module or a suite."""
    return {}


@pytest.fixture
def veriff_client(
    request: pytest.FixtureRequest, veriff_sandbox: Sandbox, veriff_client_options: Mapping[str, object]
) -> Iterator[VeriffClient]:
    """Return a client of the test's sandbox; it closes itself without ``async with``."""
    from veriff_async import PollPolicy, RetryPolicy, VeriffClient  # noqa: PLC0415  see above

    _refuse_other_backends(request)
    options: dict[str, Any] = {
        "credentials": veriff_sandbox.credentials,
        "base_url": veriff_sandbox.base_url,
        "poll": PollPolicy(interval=0.02, backoff_factor=1.5, max_interval=0.25, max_rate=100.0),
        "retry": RetryPolicy(initial_backoff=0.02, max_backoff=0.1),
        **_to_options("veriff_client_options", veriff_client_options),
    }
    with _report_errors("veriff_client"):
        client = VeriffClient(**options)
    # The client has no public hook for its first connection, and needs none except for this fixture.
    pool = client._runtime.pool  # noqa: SLF001  no user needs it  # pyright: ignore[reportPrivateUsage]
    ending = _ClientCloser(client, pool)
    pool.on_open = ending.begin
    yield client
    ending.finish()


class _ClientCloser:
    """Closes a client in its own event loop, under any test runner.

    A synchronous fixture may end before or after the loop of its test: pytest-asyncio keeps loops of a wider scope,
    anyio's plugin and ``asyncio.run`` close theirs with the test. Connections can only be closed in a loop that is
    open. Therefore the client is closed by an asynchronous generator: a loop registers it at its first step, and all
    runners close it with ``loop.shutdown_asyncgens()``, as the documentation of asyncio requires.
    """

    def __init__(self, client: VeriffClient, pool: Pool) -> None:
        self._client = client
        self._pool = pool
        self._loop: AbstractEventLoop | None = None
        self._life: AsyncGenerator[None, None] | None = None

    def begin(self) -> None:
        """Register the generator with the running loop; called when the client first opens connections."""
        from asyncio import get_running_loop  # noqa: PLC0415  see above

        self._loop = get_running_loop()
        self._life = self._live()
        with suppress(StopIteration):  # a step that reaches a yield without awaiting ends like this
            self._life.asend(None).send(None)

    async def _live(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self._client.aclose()

    def finish(self) -> None:
        """Close the client, unless its loop has closed it or it never opened connections."""
        if self._loop is None or self._life is None or self._pool.closed:
            return
        if self._loop.is_closed():
            pytest.fail(
                "The loop of veriff_client was closed without loop.shutdown_asyncgens(), so its connections are lost: "
                "run the coroutine with asyncio.run(), or await veriff_client.aclose() in it.",
                pytrace=False,
            )
        if self._loop.is_running():
            from asyncio import run_coroutine_threadsafe  # noqa: PLC0415  see above

            run_coroutine_threadsafe(self._client.aclose(), self._loop).result(_CLOSE_TIMEOUT)
        else:
            self._loop.run_until_complete(self._life.aclose())


def _to_options(fixture: str, options: object) -> dict[str, Any]:
    if isinstance(options, Mapping):
        return dict(cast("Mapping[str, Any]", options))
    pytest.fail(f"The fixture {fixture} must return a mapping of options, not {type(options).__name__}.", pytrace=False)


@contextmanager
def _report_errors(fixture: str) -> Generator[None]:
    """Fail with the sentence of an error, because its traceback has only code of the library."""
    try:
        yield
    except (TypeError, ValueError) as error:
        msg = f"The options of {fixture} do not work: {error}"
        # pytest would show the cause above it, which is the same sentence.
        raise pytest.fail.Exception(msg, pytrace=False) from None


def _refuse_other_backends(request: pytest.FixtureRequest) -> None:
    if "anyio_backend" not in request.fixturenames:
        return
    backend = request.getfixturevalue("anyio_backend")
    name = backend if isinstance(backend, str) else backend[0]
    if name != "asyncio":
        pytest.fail(
            f'veriff_client runs on asyncio, not on {name}: define a fixture anyio_backend that returns "asyncio".',
            pytrace=False,
        )
