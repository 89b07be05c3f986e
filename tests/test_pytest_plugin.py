"""The fixtures, in inner runs of pytest under each runner of asynchronous tests; warnings are errors there too."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from veriff_async.sandbox import Sandbox

if TYPE_CHECKING:
    from pathlib import Path

HEAD: Final = """
import asyncio
import threading
import urllib.request

import pytest

from veriff_async import Media, Person

PICTURE = b"\\xff\\xd8\\xff\\xe0\\x00\\x10JFIF" + bytes(1000) + b"\\xff\\xd9"


async def flow(client):
    session = await client.create_session(vendor_data="user-42")
    await session.upload(Media(PICTURE, "face"))
    await session.submit()
    decision = await session.wait_for_decision(timeout=20)
    assert decision.is_approved
    return session.id
"""

TESTS: Final = """
@pytest.mark.veriff_sandbox(decide_after=0)
@pytest.mark.parametrize("time", ["first", "second"])
{mark}
async def test_{name}(veriff_client, veriff_sandbox, time):
    session_id = await flow(veriff_client)
    assert [seen.id for seen in veriff_sandbox.sessions] == [session_id]
"""

BACKEND: Final = """
@pytest.fixture(scope="{scope}")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="{scope}", autouse=True)
async def keep_the_loop(anyio_backend):
    yield
"""

SCOPES: Final = ("function", "class", "module", "session")


@pytest.fixture
def without_other_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load only the named plugins in the processes of a test: the others take seconds to import, in each process."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def run_pytest(
    pytester: pytest.Pytester, source: str, *, mode: str = "strict", leaves: bool = False, options: tuple[str, ...] = ()
) -> pytest.RunResult:
    """Run a module of tests in this process, which finds its leaks, or in others if it must leak or has options."""
    pytester.makeini(
        f"""
        [pytest]
        asyncio_mode = {mode}
        asyncio_default_fixture_loop_scope = function
        filterwarnings = {"ignore" if leaves else "error"}
        addopts = --strict-markers -p no:cacheprovider -p no:hypothesispytest
        """
    )
    pytester.makepyfile(HEAD + source)
    if leaves or options:
        plugins = ("-p", "veriff_async.testing.pytest_plugin", "-p", "pytest_asyncio.plugin")
        return pytester.runpytest_subprocess(*plugins, *options, timeout=60)
    return pytester.runpytest_inprocess()


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_client_works_under_pytest_asyncio(pytester: pytest.Pytester, mode: str) -> None:
    """Every test has its own client, for every scope of the loop, without a warning."""
    source = "".join(TESTS.format(name=scope, mark=f'@pytest.mark.asyncio(loop_scope="{scope}")') for scope in SCOPES)
    if mode == "auto":
        source += TESTS.format(name="unmarked", mark="")

    run_pytest(pytester, source, mode=mode).assert_outcomes(passed=source.count("async def test_") * 2)


@pytest.mark.parametrize("scope", ["function", "module", "session"])
def test_client_works_under_anyio(pytester: pytest.Pytester, scope: str) -> None:
    """The same under anyio's plugin, where a fixture of a wider scope keeps the loop open between tests."""
    source = BACKEND.format(scope=scope) + TESTS.format(name="anyio", mark="@pytest.mark.anyio")

    run_pytest(pytester, source).assert_outcomes(passed=2)


def test_client_works_in_a_synchronous_test(pytester: pytest.Pytester) -> None:
    """A test that calls asyncio.run() itself may use the client in it."""
    source = """
    @pytest.mark.veriff_sandbox(decide_after=0)
    def test_it(veriff_client):
        asyncio.run(flow(veriff_client))
    """

    run_pytest(pytester, _flat(source)).assert_outcomes(passed=1)


def test_client_works_on_a_loop_in_a_thread(pytester: pytest.Pytester) -> None:
    """A program with a loop in a thread gets its client closed there, while the loop keeps running."""
    source = """
    @pytest.fixture
    def loop():
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        yield loop
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


    @pytest.mark.veriff_sandbox(decide_after=0)
    def test_it(loop, veriff_client):
        asyncio.run_coroutine_threadsafe(flow(veriff_client), loop).result(20)
    """

    run_pytest(pytester, _flat(source)).assert_outcomes(passed=1)


def test_unused_client_opens_no_connection(pytester: pytest.Pytester) -> None:
    """Requesting the fixture without using it causes no warning."""
    run_pytest(pytester, "def test_it(veriff_client):\n    pass\n").assert_outcomes(passed=1)


def test_client_may_be_closed_by_the_test(pytester: pytest.Pytester) -> None:
    """Closing twice is allowed."""
    source = """
    async def use(client):
        async with client:
            await client.create_session()


    def test_it(veriff_client):
        asyncio.run(use(veriff_client))
    """

    run_pytest(pytester, _flat(source)).assert_outcomes(passed=1)


def test_an_asynchronous_fixture_may_use_the_client(pytester: pytest.Pytester) -> None:
    """A fixture may use the client before and after the test."""
    source = """
    import pytest_asyncio


    @pytest_asyncio.fixture
    async def session(veriff_client):
        session = await veriff_client.create_session()
        yield session
        await session.decision()


    @pytest.mark.asyncio
    async def test_it(session):
        await session.upload(Media(PICTURE, "face"))
    """

    run_pytest(pytester, _flat(source)).assert_outcomes(passed=1)


def test_failing_test_shows_its_own_error(pytester: pytest.Pytester) -> None:
    """A wait that is running when the test fails ends without another error or warning."""
    source = """
    @pytest.mark.asyncio
    async def test_it(veriff_client):
        session = await veriff_client.create_session()
        waiting = asyncio.create_task(session.wait_for_decision(timeout=60))
        await asyncio.sleep(0)
        assert session.status == "declined"
    """
    result = run_pytest(pytester, _flat(source))

    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("*Warning*")


def test_failing_test_shows_the_timeline_of_each_sandbox(pytester: pytest.Pytester) -> None:
    """The report of a failed test has the last entries of its sandboxes; that of a passed test does not."""
    source = """
    from veriff_async.sandbox import Fault, Sandbox


    @pytest.fixture
    def own_sandbox():
        with Sandbox() as sandbox:
            yield sandbox


    def test_passes(veriff_sandbox):
        veriff_sandbox.inject(Fault.hang())


    def test_fails(veriff_sandbox, own_sandbox):
        own_sandbox.inject(Fault.drop())
        with pytest.raises(OSError, match="401") as caught:
            urllib.request.urlopen(veriff_sandbox.base_url + "/v1/sessions", data=b"{}")
        caught.value.close()
        assert False
    """

    result = run_pytest(pytester, _flat(source))

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*- Last entries of veriff_sandbox.timeline -*",
            "*401  POST   /v1/sessions *signature missing*",
            "*- Last entries of own_sandbox.timeline -*",
            "*fault injected: drop, 1 time*",
        ]
    )
    result.stdout.no_fnmatch_line("*fault injected: hang*")


def test_client_on_two_loops_is_refused(pytester: pytest.Pytester) -> None:
    """A client ends with its loop, so the error in a second asyncio.run() says to create another client."""
    source = """
    def test_it(veriff_client):
        asyncio.run(veriff_client.create_session())
        asyncio.run(veriff_client.create_session())
    """
    result = run_pytest(pytester, _flat(source))

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines("*ClientClosedError: The client is closed*")


def test_loop_closed_without_shutdown_is_reported(
    pytester: pytest.Pytester, without_coverage: None, without_other_plugins: None
) -> None:
    """If a loop ended without shutdown_asyncgens(), the connections are lost, and the message says why."""
    source = """
    def test_it(veriff_client):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(veriff_client.create_session())
        loop.close()
    """
    result = run_pytest(pytester, _flat(source), leaves=True)

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines("*without loop.shutdown_asyncgens()*")


def test_trio_is_refused(pytester: pytest.Pytester) -> None:
    """The client needs asyncio, and the error says how to select it in anyio's plugin."""
    source = """
    @pytest.fixture
    def anyio_backend():
        return "trio"


    @pytest.mark.anyio
    async def test_it(veriff_client):
        pass
    """
    result = run_pytest(pytester, _flat(source))

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines("*veriff_client runs on asyncio, not on trio*")


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        (
            "decide_afterwards=1",
            "*of veriff_sandbox do not work*decide_afterwards*did you mean 'decide_after'*",
        ),
        ('chaos="mobil"', "*of veriff_sandbox do not work*did you mean 'mobile'*"),
        ("0", "*takes options by name*"),
        ('host="no.invalid"', "*of veriff_sandbox do not work*cannot listen on no.invalid*"),
        ('snapshot="missing.zip"', "*of veriff_sandbox do not work*cannot be restored*"),
        ('hold_webhooks="no"', "*hold_webhooks of veriff_sandbox must be True or False*"),
    ],
)
def test_wrong_mark_is_reported(pytester: pytest.Pytester, mark: str, message: str) -> None:
    """A mistake in the mark is one sentence at the test, not a traceback of the library."""
    result = run_pytest(pytester, f"@pytest.mark.veriff_sandbox({mark})\ndef test_it(veriff_sandbox):\n    pass\n")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(message)
    result.stdout.no_fnmatch_line("*pytest_plugin.py*")
    result.stdout.no_fnmatch_line("*another exception*")


def test_fixture_without_a_mapping_is_reported(pytester: pytest.Pytester) -> None:
    """An overridden fixture that forgets its ``return`` is named in one sentence."""
    source = """
    @pytest.fixture
    def veriff_sandbox_options():
        {"decide_after": 0}


    def test_it(veriff_sandbox):
        pass
    """
    result = run_pytest(pytester, _flat(source))

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines("*veriff_sandbox_options must return a mapping of options, not NoneType*")


def test_marks_of_module_class_and_test_are_combined(pytester: pytest.Pytester) -> None:
    """A test has the options of every mark around it, and the closest mark has the last word."""
    source = """
    pytestmark = pytest.mark.veriff_sandbox(decide_after=1, control_token="of-the-module")


    @pytest.mark.veriff_sandbox(decide_after=2, chaos="mobile")
    class TestFlow:
        @pytest.mark.veriff_sandbox(decide_after=3)
        def test_it(self, veriff_sandbox):
            assert veriff_sandbox.rules.decide_after == 3
            assert veriff_sandbox.chaos.name == "mobile"
            assert veriff_sandbox.control_token == "of-the-module"
    """
    run_pytest(pytester, _flat(source)).assert_outcomes(passed=1)


def test_mark_sets_the_chaos_profile(pytester: pytest.Pytester) -> None:
    """A test runs under the profile that its mark names; the next test has none."""
    source = """
    @pytest.mark.veriff_sandbox(chaos="mobile")
    def test_on_a_train(veriff_sandbox):
        assert veriff_sandbox.chaos.name == "mobile"


    def test_at_home(veriff_sandbox):
        assert veriff_sandbox.chaos is None
    """

    run_pytest(pytester, _flat(source)).assert_outcomes(passed=2)


def test_options_can_be_set_for_a_module(pytester: pytest.Pytester) -> None:
    """Overridden fixtures give the options of sandbox and client; the mark of a test overrides them."""
    source = """
    from veriff_async import Credentials, RateLimitedError, RetryPolicy
    from veriff_async.sandbox import Fault


    @pytest.fixture
    def veriff_sandbox_options():
        return {"credentials": Credentials("11111111-1111-4111-8111-111111111111", "one")}


    @pytest.fixture
    def veriff_client_options():
        return {"retry": RetryPolicy(max_attempts=1)}


    async def fail(client):
        with pytest.raises(RateLimitedError):
            await client.create_session()


    def test_module(veriff_sandbox, veriff_client):
        assert veriff_sandbox.credentials.api_key.startswith("11111111")
        veriff_sandbox.inject(Fault.status(429), times=1)
        asyncio.run(fail(veriff_client))


    @pytest.mark.veriff_sandbox(credentials=Credentials("22222222-2222-4222-8222-222222222222", "two"))
    def test_mark(veriff_sandbox):
        assert veriff_sandbox.credentials.api_key.startswith("22222222")
    """

    run_pytest(pytester, _flat(source)).assert_outcomes(passed=2)


def test_sandbox_serves_programs_by_environment_variables(pytester: pytest.Pytester) -> None:
    """A synchronous test sets the variables, runs its program, and decides by call."""
    source = """
    from veriff_async import VeriffClient


    async def program(started):
        async with VeriffClient.from_env() as veriff:
            session = await veriff.create_session()
            await session.submit()
            started(session.id)
            return await session.decision()


    def test_it(veriff_sandbox, monkeypatch):
        for name, value in veriff_sandbox.environ.items():
            monkeypatch.setenv(name, value)
        decision = asyncio.run(program(lambda session_id: veriff_sandbox.decide(session_id, "declined")))
        assert decision.status == "declined"
    """

    run_pytest(pytester, _flat(source)).assert_outcomes(passed=1)


def test_options_of_the_fixture_offer_what_the_sandbox_can_do(pytester: pytest.Pytester, tmp_path: Path) -> None:
    """The mark sets an application, a token, chaos, a snapshot to start with, and holds webhooks."""
    with Sandbox() as sandbox:
        sandbox.seed(3)
        (tmp_path / "start.zip").write_bytes(sandbox.snapshot_sync())
    source = f"""
    calls = []


    async def app(scope, receive, send):
        calls.append(scope["path"])
        await receive()
        await send({{"type": "http.response.start", "status": 200}})
        await send({{"type": "http.response.body"}})


    @pytest.mark.veriff_sandbox(webhook_app=app, snapshot={str(tmp_path / "start.zip")!r}, hold_webhooks=True)
    def test_state(veriff_sandbox):
        assert len(veriff_sandbox.sessions) == 3
        webhooks = len(calls)
        session = asyncio.run(create(veriff_sandbox))
        veriff_sandbox.decide(session, "approved")
        veriff_sandbox.wait_idle_sync()
        assert len(calls) == webhooks
        veriff_sandbox.release_webhooks()
        veriff_sandbox.wait_idle_sync()
        assert calls[-1] == "/"


    @pytest.mark.veriff_sandbox(chaos="mobile", control_token="a-long-token")
    def test_chaos(veriff_sandbox):
        assert veriff_sandbox.chaos.name == "mobile"
        assert veriff_sandbox.control_token == "a-long-token"


    @pytest.mark.veriff_sandbox(snapshot=b"not an archive")
    def test_damaged(veriff_sandbox):
        pass


    async def create(sandbox):
        from veriff_async import VeriffClient

        async with VeriffClient.from_env(sandbox.environ) as veriff:
            return (await veriff.create_session()).id
    """

    result = run_pytest(pytester, _flat(source))

    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*The options of veriff_sandbox do not work: The snapshot is not a ZIP archive*"])


def test_fixtures_work_under_xdist(
    pytester: pytest.Pytester, without_coverage: None, without_other_plugins: None
) -> None:
    """Each worker has its own sandboxes, and the report of a failed test comes with the timeline from the worker."""
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    source = """
    @pytest.mark.veriff_sandbox(decide_after=0)
    @pytest.mark.parametrize("number", range(4))
    def test_flow(veriff_client, veriff_sandbox, number):
        session_id = asyncio.run(flow(veriff_client))
        assert [seen.id for seen in veriff_sandbox.sessions] == [session_id]
        assert number
    """

    result = run_pytest(pytester, _flat(source), options=("-p", "xdist", "-n2"))

    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*Last entries of veriff_sandbox.timeline*", "*POST*/v1/sessions*"])


def test_plugin_imports_nothing_else() -> None:
    """Every run of pytest loads the plugin, so it imports neither aiohttp nor asyncio nor the client."""
    program = """
import sys, pytest
before = set(sys.modules)
import veriff_async.testing.pytest_plugin
print(*sorted(set(sys.modules) - before))
"""
    loaded = subprocess.run(  # noqa: S603  our own program
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )

    assert loaded.stdout.split() == [
        "veriff_async",
        "veriff_async._lazy",
        "veriff_async.testing",
        "veriff_async.testing.pytest_plugin",
        "veriff_async.version",
    ]


def _flat(source: str) -> str:
    return "\n".join(line[4:] for line in source.splitlines())
