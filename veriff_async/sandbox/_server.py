"""The sandbox as a whole: a server, a clock, and the methods that tests use."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self, cast
from uuid import uuid4

from aiohttp import web
from anyio import to_thread
from anyio.from_thread import start_blocking_portal

from veriff_async._event_loop import require_asyncio
from veriff_async._protocol.arguments import check_function, check_instance
from veriff_async._protocol.base_url import LOCAL_SYNC
from veriff_async._protocol.option_names import closest, explain_options
from veriff_async._protocol.request_arguments import check_credentials
from veriff_async.credentials import (
    API_KEY_VARIABLE,
    INTEGRATION_VARIABLE,
    SECRET_VARIABLE,
    Credentials,
)
from veriff_async.errors import ConfigurationError, InvalidArgumentError
from veriff_async.sandbox._app import build_app
from veriff_async.sandbox._arguments import (
    check_mapping,
    check_number,
    check_text,
    check_url,
)
from veriff_async.sandbox._clock import RealClock, VirtualClock
from veriff_async.sandbox._controls import Stage
from veriff_async.sandbox._options import SandboxOptions
from veriff_async.sandbox._records import WebhookKind
from veriff_async.sandbox._scenario import Scenario
from veriff_async.sandbox._scheduler import Driver
from veriff_async.sandbox._service import Desk
from veriff_async.sandbox._store import Store
from veriff_async.sandbox._webhooks import Courier

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from veriff_async.sandbox._clock import Clock
    from veriff_async.sandbox._face_import import ImportedFace
    from veriff_async.sandbox._faults import Fault
    from veriff_async.sandbox._records import Delivery, ReceivedRequest, SessionView, StoredMedia

__all__ = ("Sandbox",)

BASE_URL_VARIABLE: Final = "VERIFF_BASE_URL"
FEEDBACK_URL_VARIABLE: Final = "VERIFF_FEEDBACK_URL"
SYNC_URL_VARIABLE: Final = "VERIFF_SYNC_URL"
_SHUTDOWN: Final = 1.0
"""Seconds that requests under way have to end when the sandbox stops."""

_LAST_PORT: Final = 65_535


class Sandbox(Stage):
    """A local Veriff over real HTTP, with sessions, pictures, decisions and webhooks.

    ``async with Sandbox() as sandbox:`` serves from the running loop; ``with Sandbox() as sandbox:`` serves from a
    thread with a loop of its own, for synchronous tests and for tests whose loop must not be shared. Its methods may be
    called from any thread and any loop, in both forms.

    A sandbox that is entered again knows its sessions, and posts the webhooks whose delivery the stop interrupted.
    The pictures of a temporary folder are gone then, so it lists them no more. ``GET /healthz`` answers 200 while it
    serves, and pages of any origin can send requests (CORS).

    Decisions come by `decide`; by the first name given at creation (``Approve``, ``Decline``, ``Resubmit``), once
    submitted; or by themselves, after `decide_after` seconds.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        credentials: What clients must use; fresh fakes when left out.
        webhook_url: Where decisions are posted to; ``None`` posts nothing.
        webhook_urls: Where other kinds are posted to, each its own address as in the Customer Portal.
        decide_after: Seconds from submission to an approval; ``None`` leaves it to `decide`.
        clock: The time; `VirtualClock` for tests in which days pass.
        options: What is done where the documents are silent or at odds.
        media_folder: Where pictures are kept; a temporary folder by default. It is removed when the sandbox stops or
            the process ends, or, after a kill, when the next sandbox starts. Only their owner can read the pictures.
        on_request: Called in the server's loop after each request.
        on_delivery: Called in the server's loop after each try to deliver a webhook.

    Raises:
        ConfigurationError: An option is of the wrong type, not finite or out of range, or the address cannot be
            listened on.
        InvalidArgumentError: An address or kind of webhooks cannot be used.

    Example:
        >>> async with Sandbox() as sandbox, VeriffClient(sandbox.credentials, base_url=sandbox.base_url) as veriff:
        ...     session = await veriff.create_session(vendor_data="user-42")
        ...     sandbox.decide(session.id, "approved")
    """

    @explain_options("Sandbox", "Pass options by name, for example Sandbox(decide_after=0).")
    def __init__(  # noqa: PLR0913  options are what a sandbox is made of, and all have a default
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        credentials: Credentials | None = None,
        webhook_url: str | None = None,
        webhook_urls: Mapping[WebhookKind, str] | Mapping[str, str] | None = None,
        decide_after: float | None = None,
        clock: Clock | None = None,
        options: SandboxOptions | None = None,
        media_folder: Path | None = None,
        on_request: Callable[[ReceivedRequest], None] | None = None,
        on_delivery: Callable[[Delivery], None] | None = None,
    ) -> None:
        """Check the options; nothing listens yet."""
        if decide_after is not None:
            check_number("decide_after", decide_after, error=ConfigurationError)
        check_number("port", port, highest=_LAST_PORT, whole=True, error=ConfigurationError)
        for name, function in (("on_request", on_request), ("on_delivery", on_delivery)):
            check_function(name, function)
        if clock is not None and not callable(getattr(clock, "now", None)):
            check_instance("clock", clock, RealClock, remedy="pass a VirtualClock or a RealClock")
        self._host = check_text("host", host, error=ConfigurationError)
        self._port = port
        self._media_folder = None if media_folder is None else _folder(media_folder)
        options = (
            SandboxOptions()
            if options is None
            else check_instance("options", options, SandboxOptions, remedy="pass SandboxOptions(...)")
        )
        if credentials is not None:
            check_credentials(credentials)
        self._desk = Desk(
            options=options,
            credentials=credentials or Credentials(str(uuid4()), str(uuid4()), integration_id=str(uuid4())),
            clock=clock or RealClock(),
            scenario=Scenario(options, new_id=lambda: str(uuid4()), decide_after=decide_after),
            nudge=self._nudge,
        )
        self._desk.on_request = on_request
        self._desk.on_delivery = on_delivery
        self.webhook_urls = {} if webhook_urls is None else webhook_urls
        if webhook_url is not None:
            self.webhook_url = webhook_url
        self._driven: tuple[asyncio.AbstractEventLoop, Driver] | None = None
        self._open_parts = AsyncExitStack()
        self._thread = ExitStack()

    def __repr__(self) -> str:
        """Show where it listens."""
        return f"<Sandbox {self._desk.host or 'not running'}>"

    async def __aenter__(self) -> Self:
        """Listen, in the running loop."""
        require_asyncio()
        await self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop, and leave nothing behind."""
        await self._stop()

    def __enter__(self) -> Self:
        """Listen, in a thread with a loop of its own."""
        self._refuse_second_start()
        with ExitStack() as thread:
            portal = thread.enter_context(start_blocking_portal("asyncio"))
            portal.call(self._start)
            thread.callback(portal.call, self._stop)
            self._thread = thread.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop, end the thread, and leave nothing behind."""
        self._thread.close()

    @property
    def base_url(self) -> str:
        """Where it listens, for clients.

        Raises:
            ConfigurationError: It is not running.
        """
        if not self._desk.host:
            msg = "The sandbox is not running: use it in a with or async with block."
            raise ConfigurationError(msg)
        return self._desk.host

    @property
    def feedback_url(self) -> str:
        """Where the feedback API is, for clients: the same port."""
        return self.base_url

    @property
    def sync_url(self) -> str:
        """Where the synchronous check of registries is, for clients: the same port, another path."""
        return self.base_url + LOCAL_SYNC

    @property
    def credentials(self) -> Credentials:
        """What clients must use from now on; set it to add and delete secrets."""
        return self._desk.credentials

    @credentials.setter
    def credentials(self, credentials: Credentials) -> None:
        # As in the Customer Portal: secrets come and go while the integration runs.
        self._desk.credentials = check_credentials(credentials)

    @property
    def environ(self) -> dict[str, str]:
        """The variables that `VeriffClient.from_env` reads."""
        found = {
            API_KEY_VARIABLE: self.credentials.api_key,
            SECRET_VARIABLE: ",".join(self.credentials.secrets),
            BASE_URL_VARIABLE: self.base_url,
            FEEDBACK_URL_VARIABLE: self.feedback_url,
            SYNC_URL_VARIABLE: self.sync_url,
        }
        if self.credentials.integration_id is not None:
            found[INTEGRATION_VARIABLE] = self.credentials.integration_id
        return found

    @property
    def webhook_url(self) -> str | None:
        """Where decisions are posted to from now on; ``None`` posts nothing."""
        return self._desk.webhook_urls.get(WebhookKind.DECISION)

    @webhook_url.setter
    def webhook_url(self, url: str | None) -> None:
        urls = dict(self._desk.webhook_urls)
        urls.pop(WebhookKind.DECISION, None)
        if url is not None:
            urls[WebhookKind.DECISION] = url
        self.webhook_urls = urls

    @property
    def webhook_urls(self) -> Mapping[WebhookKind, str]:
        """Where each kind of webhook is posted to from now on; kinds that are not named are not posted.

        To send all of them to one address, as a Customer Portal allows, set ``dict.fromkeys(WebhookKind, url)``.
        """
        return MappingProxyType(self._desk.webhook_urls)

    @webhook_urls.setter
    def webhook_urls(self, urls: Mapping[WebhookKind, str] | Mapping[str, str]) -> None:
        mapping = check_mapping("webhook_urls", urls, remedy="pass kinds and their addresses")
        known = {
            WebhookKind(check_text("a kind of webhook_urls", kind)): check_url("webhook_url", url)
            for kind, url in mapping.items()
        }
        for kind in known:
            if not kind.known:
                best = closest(kind, WebhookKind)
                remedy = f"give some of {', '.join(WebhookKind)}." if best is None else f"did you mean {str(best)!r}?"
                msg = f"webhook_urls has a kind that nothing is: {remedy}"
                raise InvalidArgumentError(msg)
        self._desk.webhook_urls = known

    def session(self, session_id: str) -> SessionView:
        """Show a session as it stands.

        Raises:
            InvalidArgumentError: There is no such session.
        """
        return self._desk.view(session_id)

    @property
    def sessions(self) -> tuple[SessionView, ...]:
        """All sessions as they stand, oldest first."""
        return self._desk.views()

    @property
    def imported_faces(self) -> tuple[ImportedFace, ...]:
        """The faces that were imported, oldest first."""
        return self._desk.imported_faces

    @property
    def requests(self) -> tuple[ReceivedRequest, ...]:
        """The requests that were answered, oldest first; the last ten thousand of them."""
        return self._desk.requests

    @property
    def deliveries(self) -> tuple[Delivery, ...]:
        """The tries to deliver webhooks, oldest first; the last ten thousand of them."""
        return self._desk.deliveries

    def inject(self, fault: Fault, *, method: str | None = None, path: str | None = None, times: int = 1) -> None:
        """Let the next requests go wrong.

        Args:
            fault: How.
            method: Only requests with this method.
            path: Only requests whose path matches, with ``*`` for any text: ``"/v1/sessions/*/media"``.
            times: How many of them.

        Raises:
            InvalidArgumentError: `times` is below 1.
        """
        self._desk.arm(fault, method=method, path=path, times=times)

    def advance(self, seconds: float) -> None:
        """Move a `VirtualClock`, and let happen what falls due.

        Raises:
            ConfigurationError: The clock is not virtual.
        """
        clock = self._desk.clock
        if not isinstance(clock, VirtualClock):
            msg = "This sandbox runs on real time: make it with clock=VirtualClock() to move its time."
            raise ConfigurationError(msg)
        clock.advance(seconds)
        self._desk.catch_up()

    async def wait_idle(self) -> None:
        """Return when nothing is due and no webhook is under way; from any loop.

        Raises:
            ConfigurationError: It is not running.
        """
        require_asyncio()
        loop, driver = self._running()
        if loop is asyncio.get_running_loop():
            await driver.until_quiet()
        else:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(driver.until_quiet(), loop))

    def wait_idle_sync(self, timeout: float = 10.0) -> None:
        """Wait for the same in a synchronous test.

        Raises:
            ConfigurationError: It is not running, or runs in the loop that would have to wait.
            TimeoutError: It took longer than `timeout` seconds.
        """
        check_number("timeout", timeout)
        loop, driver = self._running()
        if _is_running_here(loop):
            msg = "wait_idle_sync() would block the loop that the sandbox runs in: await wait_idle() there."
            raise ConfigurationError(msg)
        asyncio.run_coroutine_threadsafe(driver.until_quiet(), loop).result(timeout)

    def _running(self) -> tuple[asyncio.AbstractEventLoop, Driver]:
        if self._driven is None:
            msg = "The sandbox is not running: use it in a with or async with block."
            raise ConfigurationError(msg)
        return self._driven

    def _refuse_second_start(self) -> None:
        if self._driven is not None:
            msg = "The sandbox is running already: make another one to run two side by side."
            raise ConfigurationError(msg)

    def _nudge(self) -> None:
        if self._driven is not None:
            loop, driver = self._driven
            loop.call_soon_threadsafe(driver.nudge)

    async def _start(self) -> None:
        self._refuse_second_start()
        async with AsyncExitStack() as parts:
            store = await to_thread.run_sync(Store, self._media_folder)
            parts.push_async_callback(to_thread.run_sync, store.close)
            await to_thread.run_sync(self._desk.resume, _is_there)
            courier = Courier(self._desk.options)
            parts.push_async_callback(courier.aclose)
            closing = asyncio.Event()
            app = build_app(self._desk, store, closing)
            runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=_SHUTDOWN, access_log=None)
            await runner.setup()
            parts.push_async_callback(runner.cleanup)
            parts.callback(closing.set)
            self._desk.host = await self._listen(runner)
            loop, driver = asyncio.get_running_loop(), Driver(self._desk, courier)
            self._driven = loop, driver
            parts.push_async_callback(_end, loop.create_task(driver.run(), name="veriff sandbox"))
            self._open_parts = parts.pop_all()

    async def _listen(self, runner: web.AppRunner) -> str:
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError as error:
            problem = error.strerror or type(error).__name__
        else:
            port = runner.addresses[0][1]
            # Who listens on every address is reached on this machine's own.
            host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104
            return f"http://{f'[{host}]' if ':' in host else host}:{port}"
        msg = f"The sandbox cannot listen on {self._host} port {self._port} ({problem}): give another host or port."
        raise ConfigurationError(msg)

    async def _stop(self) -> None:
        self._driven = None
        self._desk.host = ""
        await self._open_parts.aclose()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _is_running_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _is_there(media: StoredMedia) -> bool:
    return media.path.exists()


def _folder(folder: object) -> Path:
    try:
        return Path(cast("Path", folder))
    except (TypeError, ValueError):
        pass
    msg = f"media_folder must be a path, not {type(folder).__name__}: pass a folder, or None for a temporary one."
    raise ConfigurationError(msg)
