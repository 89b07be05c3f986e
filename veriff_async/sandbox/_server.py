"""The public class `Sandbox`: a server, a clock, and the methods that tests call.

How the parts work together
    Sandbox          options, start and stop, and everything that a test does
      SandboxService   all state behind one lock, and one method for each endpoint (see its module for the lock's rules)
        Scenario         the life of the sessions; pure, time and ids are arguments, webhooks are returned
      application      aiohttp routes and middlewares, in the server's event loop
      Scheduler        one task in the same loop: it runs due events and posts webhooks
      MediaStore       uploaded files on disk

Two ways to run
    ``async with`` serves in the running loop. ``with`` starts a thread that runs its own loop (anyio's blocking portal)
    and serves there. Both call `_start` and `_stop` in the loop of the server.

Which thread may do what
    Methods that read or change sessions go to the service directly and are safe in every thread and every loop. Only
    `wait_idle` and `wait_idle_sync` need the server's loop: they send a coroutine there and wait for it.
    `wait_idle_sync` refuses to run in that loop, because it would wait for itself. A change calls `_wake_scheduler`
    while the service's lock is held; it only queues a callback in the server's loop, so it never blocks.

Order of start and stop
    Files, connection pool, HTTP server, scheduler; each is registered in an exit stack, so a failed start closes what
    was opened, and a stop closes in reverse order: no webhook is posted after the server stopped. Requests that a fault
    lets hang are ended by the event `closing`; others have a second to finish.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self, Unpack, cast
from uuid import uuid4

from aiohttp import web
from anyio import to_thread
from anyio.from_thread import start_blocking_portal

from veriff_async._event_loop import require_asyncio
from veriff_async._protocol.arguments import check_function, check_instance
from veriff_async._protocol.base_url import LOCAL_SYNC
from veriff_async._protocol.option_names import check_names, closest, explain_options
from veriff_async._protocol.request_arguments import check_credentials
from veriff_async.credentials import (
    API_KEY_VARIABLE,
    INTEGRATION_VARIABLE,
    SECRET_VARIABLE,
    Credentials,
)
from veriff_async.errors import ConfigurationError, InvalidArgumentError
from veriff_async.models.attempt import UserDefinedStatus
from veriff_async.models.enums import Status
from veriff_async.models.record import PepSanctionMatch
from veriff_async.models.registry import CurpResult, IneCurpResult, IneResult, TransportationResult
from veriff_async.models.watchlist import CheckType, MatchStatus, MonitorStatus, WatchlistScreening
from veriff_async.sandbox import _session_data
from veriff_async.sandbox._app import build_app
from veriff_async.sandbox._arguments import check_mapping, check_model, check_number, check_text, check_url
from veriff_async.sandbox._clock import RealClock, VirtualClock
from veriff_async.sandbox._decision_spec import DecisionFields, build_decision_spec
from veriff_async.sandbox._media_store import MediaStore
from veriff_async.sandbox._options import SandboxOptions
from veriff_async.sandbox._records import WebhookKind
from veriff_async.sandbox._scenario import Scenario
from veriff_async.sandbox._scheduler import Scheduler
from veriff_async.sandbox._service import SandboxService
from veriff_async.sandbox._webhooks import WebhookSender

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from veriff_async.sandbox._clock import Clock
    from veriff_async.sandbox._face_import import ImportedFace
    from veriff_async.sandbox._faults import Fault
    from veriff_async.sandbox._records import Delivery, ReceivedRequest, RegistryResult, SessionView, StoredMedia

__all__ = ("Sandbox",)

BASE_URL_VARIABLE: Final = "VERIFF_BASE_URL"
FEEDBACK_URL_VARIABLE: Final = "VERIFF_FEEDBACK_URL"
SYNC_URL_VARIABLE: Final = "VERIFF_SYNC_URL"
# Time that running requests have to finish when the sandbox stops.
_SHUTDOWN_SECONDS: Final = 1.0

_LAST_PORT: Final = 65_535


class Sandbox:
    """A local Veriff over real HTTP, with sessions, media, decisions and webhooks.

    ``async with Sandbox() as sandbox:`` serves from the running loop; ``with Sandbox() as sandbox:`` serves from a
    thread with a loop of its own, for synchronous tests and for tests whose loop must not be shared. Its methods may be
    called from any thread and any loop, in both forms.

    A sandbox that is entered again still has its sessions, and posts the webhooks whose delivery the stop interrupted.
    The media of a temporary folder are deleted then, so they are not listed any more. ``GET /healthz`` responds with
    200 while it serves, and pages of any origin can send requests (CORS).

    A session is decided in one of three ways: by `decide`; by the first name given at creation (``Approve``,
    ``Decline``, ``Resubmit``), once it is submitted; or by itself, `decide_after` seconds after its submission.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 selects a free one.
        credentials: The credentials that clients must use; random ones by default.
        webhook_url: URL to which decisions are posted; ``None`` posts none.
        webhook_urls: URLs to which other kinds of webhooks are posted, one for each kind as in the Customer Portal;
            ``None`` posts none.
        decide_after: Seconds from the submission of a session to its approval; ``None`` leaves the decision to
            `decide`.
        clock: The time, by default the real one; a `VirtualClock` for tests in which days pass.
        options: Behaviour that Veriff does not document, or documents in two ways; by default ``SandboxOptions()``.
        media_folder: Folder for uploaded files; a temporary folder by default. That one is removed when the sandbox
            stops or the process ends, or, after a kill, when the next sandbox starts. Only the owner can read the
            files.
        on_request: Called in the server's loop after each request.
        on_delivery: Called in the server's loop after each attempt to deliver a webhook.

    Raises:
        ConfigurationError: An option has the wrong type, is not finite or is out of range, or the sandbox cannot listen
            on the address.
        InvalidArgumentError: A URL or kind of webhooks cannot be used.

    Example:
        >>> async with Sandbox() as sandbox, VeriffClient(sandbox.credentials, base_url=sandbox.base_url) as veriff:
        ...     session = await veriff.create_session(vendor_data="user-42")
        ...     sandbox.decide(session.id, "approved")
    """

    @explain_options("Sandbox", "Pass options by name, for example Sandbox(decide_after=0).")
    def __init__(  # noqa: PLR0913  every option has a default
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
        self._media_folder = None if media_folder is None else _to_path(media_folder)
        if options is None:
            options = SandboxOptions()
        check_instance("options", options, SandboxOptions, remedy="pass SandboxOptions(...)")
        if credentials is not None:
            check_credentials(credentials)
        self._service = SandboxService(
            options=options,
            credentials=credentials or Credentials(str(uuid4()), str(uuid4()), integration_id=str(uuid4())),
            clock=clock or RealClock(),
            scenario=Scenario(options, new_id=lambda: str(uuid4()), decide_after=decide_after),
            wake=self._wake_scheduler,
        )
        self._service.on_request = on_request
        self._service.on_delivery = on_delivery
        self.webhook_urls = {} if webhook_urls is None else webhook_urls
        if webhook_url is not None:
            self.webhook_url = webhook_url
        # Set while it runs: the server's loop, and the scheduler in it.
        self._running: tuple[asyncio.AbstractEventLoop, Scheduler] | None = None
        self._open_parts = AsyncExitStack()
        self._thread = ExitStack()

    def __repr__(self) -> str:
        """Show where it listens."""
        return f"<Sandbox {self._service.host or 'not running'}>"

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
            # Until here an error stops the thread; from here on `__exit__` does.
            self._thread = thread.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop, end the thread, and leave nothing behind."""
        self._thread.close()

    @property
    def base_url(self) -> str:
        """The URL of the API, for clients.

        Raises:
            ConfigurationError: The sandbox is not running.
        """
        if not self._service.host:
            msg = "The sandbox is not running: use it in a with or async with block."
            raise ConfigurationError(msg)
        return self._service.host

    @property
    def feedback_url(self) -> str:
        """The URL of the feedback API, for clients; the same port."""
        return self.base_url

    @property
    def sync_url(self) -> str:
        """The URL of the synchronous check of registries, for clients; the same port, another path."""
        return self.base_url + LOCAL_SYNC

    @property
    def credentials(self) -> Credentials:
        """The credentials that clients must use; set it to rotate secrets while the sandbox runs."""
        return self._service.credentials

    @credentials.setter
    def credentials(self, credentials: Credentials) -> None:
        # As in the Customer Portal, where secrets are added and deleted while the integration runs.
        self._service.credentials = check_credentials(credentials)

    @property
    def environ(self) -> dict[str, str]:
        """The environment variables that `VeriffClient.from_env` reads."""
        variables = {
            API_KEY_VARIABLE: self.credentials.api_key,
            SECRET_VARIABLE: ",".join(self.credentials.secrets),
            BASE_URL_VARIABLE: self.base_url,
            FEEDBACK_URL_VARIABLE: self.feedback_url,
            SYNC_URL_VARIABLE: self.sync_url,
        }
        if self.credentials.integration_id is not None:
            variables[INTEGRATION_VARIABLE] = self.credentials.integration_id
        return variables

    @property
    def webhook_url(self) -> str | None:
        """The URL to which decisions are posted from now on; ``None`` posts none."""
        return self._service.webhook_urls.get(WebhookKind.DECISION)

    @webhook_url.setter
    def webhook_url(self, url: str | None) -> None:
        urls = dict(self._service.webhook_urls)
        urls.pop(WebhookKind.DECISION, None)
        if url is not None:
            urls[WebhookKind.DECISION] = url
        self.webhook_urls = urls

    @property
    def webhook_urls(self) -> Mapping[WebhookKind, str]:
        """The URL to which each kind of webhook is posted from now on; kinds without a URL are not posted.

        To send all of them to one URL, as a Customer Portal allows, set ``dict.fromkeys(WebhookKind, url)``.
        """
        return MappingProxyType(self._service.webhook_urls)

    @webhook_urls.setter
    def webhook_urls(self, urls: Mapping[WebhookKind, str] | Mapping[str, str]) -> None:
        mapping = check_mapping("webhook_urls", urls, remedy="pass kinds and their addresses")
        checked = {
            WebhookKind(check_text("a kind of webhook_urls", kind)): check_url("webhook_url", url)
            for kind, url in mapping.items()
        }
        # A URL for an unknown kind would never be used, so a typing error would go unnoticed.
        for kind in checked:
            if not kind.known:
                best = closest(kind, WebhookKind)
                remedy = f"pass some of {', '.join(WebhookKind)}." if best is None else f"did you mean {str(best)!r}?"
                msg = f"webhook_urls has an unknown kind of webhook: {remedy}"
                raise InvalidArgumentError(msg)
        self._service.webhook_urls = checked

    def session(self, session_id: str) -> SessionView:
        """Show the present state of a session.

        Raises:
            InvalidArgumentError: The session does not exist.
        """
        return self._service.view(session_id)

    @property
    def sessions(self) -> tuple[SessionView, ...]:
        """The present state of all sessions, oldest first."""
        return self._service.views()

    @property
    def imported_faces(self) -> tuple[ImportedFace, ...]:
        """The imported faces, oldest first."""
        return self._service.imported_faces

    @property
    def requests(self) -> tuple[ReceivedRequest, ...]:
        """The last ten thousand requests, oldest first."""
        return self._service.requests

    @property
    def deliveries(self) -> tuple[Delivery, ...]:
        """The last ten thousand attempts to deliver webhooks, oldest first."""
        return self._service.deliveries

    def decide(self, session_id: str, status: Status | str, **fields: Unpack[DecisionFields]) -> None:
        """Decide a session, submitted or not, and post the webhook.

        Args:
            session_id: The session.
            status: ``approved``, ``declined``, ``resubmission_requested``, ``review``, ``expired`` or ``abandoned``.
            **fields: ``reason`` and ``reason_code`` (a decline and a resubmission have one by default), ``person``
                and ``document`` (the data read from the document, which replace those given at creation; models, or
                members as in Veriff's JSON), ``additional_verified_data``, ``biometric_authentication``,
                ``risk_score``, ``risk_labels`` and ``insights``.

        Raises:
            InvalidArgumentError: The session does not exist, this decision cannot follow its status, or a value has no
                JSON; the session is unchanged.
            TypeError: An option is unknown; the message suggests the right name.
        """
        check_names("decide()", fields, ("session_id", "status", *DecisionFields.__annotations__))
        spec = build_decision_spec(Status(check_text("status", status)), fields)
        self._service.change(session_id, lambda scenario, session, now: scenario.decide(session, spec, now=now))

    def start_attempt(self, session_id: str) -> None:
        """Start the attempt, as an end-user does by opening Veriff's page (event 7001).

        Raises:
            InvalidArgumentError: The session does not exist, or its attempt has started before.
        """
        self._service.change(session_id, lambda scenario, session, _: scenario.start(session))

    def submit_attempt(self, session_id: str) -> None:
        """Submit the attempt, as an end-user does on Veriff's page (event 7002).

        Raises:
            InvalidArgumentError: The session does not exist, or it has no open attempt.
        """
        self._service.change(session_id, lambda scenario, session, now: scenario.submit_attempt(session, now=now))

    def complete_watchlist_screening(self, session_id: str, screening: WatchlistScreening | None = None) -> None:
        """Complete the watchlist screening of a session, and post its webhook.

        Args:
            session_id: The session.
            screening: The result; no match by default. The sandbox fills in session, person and time.

        Raises:
            InvalidArgumentError: The session does not exist.
        """
        if screening is None:
            screening = WatchlistScreening(
                match_status=MatchStatus.NO_MATCH,
                check_type=CheckType.INITIAL_RESULT,
                monitor_status=MonitorStatus.ENABLED,
            )
        result = check_model("screening", screening, WatchlistScreening)
        self._service.change(
            session_id,
            lambda _, session, now: _session_data.complete_watchlist_screening(session, result, now=now),
        )

    def set_pep_matches(self, session_id: str, *matches: PepSanctionMatch) -> None:
        """Set the matches in lists of politically exposed persons and sanctions; ``GET .../person`` returns them.

        Raises:
            InvalidArgumentError: The session does not exist.
        """
        for match in matches:
            check_model("match", match, PepSanctionMatch)
        self._service.change(session_id, lambda _, session, __: _session_data.set_pep_matches(session, matches))

    def set_user_status(self, session_id: str, status: UserDefinedStatus) -> None:
        """Give the attempt a status, as a user of the Customer Portal can, and post its webhook.

        Raises:
            InvalidArgumentError: The session does not exist.
        """
        check_model("status", status, UserDefinedStatus)
        self._service.change(
            session_id, lambda _, session, now: _session_data.set_user_status(session, status, now=now)
        )

    def complete_registry_check(self, session_id: str, result: RegistryResult) -> None:
        """Set the result of a registry, and post its webhook.

        Raises:
            InvalidArgumentError: The session does not exist.
        """
        for kind in (CurpResult, IneCurpResult, TransportationResult):
            if isinstance(result, kind):
                check_model("result", result, kind)
                break
        else:
            check_model("result", result, IneResult)
        self._service.change(
            session_id, lambda _, session, now: _session_data.complete_registry_check(session, result, now=now)
        )

    def issue_certificate(self, session_id: str) -> str:
        """Issue a preservation certificate for the PDFs of a session (NOM-151).

        Returns:
            The id of the certificate.

        Raises:
            InvalidArgumentError: The session does not exist, or it has no PDF.
        """
        certificate_id = str(uuid4())
        document_ids = iter(lambda: str(uuid4()), None)
        self._service.change(
            session_id,
            lambda _, session, now: _session_data.issue_certificate(session, certificate_id, document_ids, now=now),
        )
        return certificate_id

    def submit_address(self, session_id: str) -> str:
        """Submit an older proof of address, as an end-user does, and post its webhook.

        Returns:
            The id of the address.

        Raises:
            InvalidArgumentError: The session does not exist, or it has a proof of address already.
        """
        address_id = str(uuid4())
        self._service.change(session_id, lambda _, session, __: _session_data.submit_address(session, address_id))
        return address_id

    def resend(self, session_id: str, kind: WebhookKind | str = "decision") -> None:
        """Post the last webhook of a kind again, as a user of the Customer Portal can.

        Raises:
            InvalidArgumentError: The session does not exist, or it has had no webhook of this kind.
        """
        self._service.resend(session_id, WebhookKind(check_text("kind", kind)))

    def inject(self, fault: Fault, *, method: str | None = None, path: str | None = None, times: int = 1) -> None:
        """Let the next requests fail.

        Args:
            fault: How they fail.
            method: Only requests with this method.
            path: Only requests whose path matches, with ``*`` for any text: ``"/v1/sessions/*/media"``.
            times: Number of requests that fail.

        Raises:
            InvalidArgumentError: `times` is below 1.
        """
        self._service.inject(fault, method=method, path=path, times=times)

    def clear_faults(self) -> None:
        """Remove the injected faults that have not happened yet."""
        self._service.clear_faults()

    def advance(self, seconds: float) -> None:
        """Move a `VirtualClock` forward, and run everything that becomes due.

        Raises:
            ConfigurationError: The clock is not virtual.
        """
        clock = self._service.clock
        if not isinstance(clock, VirtualClock):
            msg = "The clock of this sandbox is real: create the sandbox with clock=VirtualClock() to advance it."
            raise ConfigurationError(msg)
        # The service must run what is due before this method returns, or a test would have to wait.
        clock.advance(seconds)
        self._service.catch_up()

    async def wait_idle(self) -> None:
        """Wait until nothing is due and no webhook is being posted; from any loop.

        Raises:
            ConfigurationError: The sandbox is not running.
        """
        require_asyncio()
        loop, scheduler = self._require_running()
        if loop is asyncio.get_running_loop():
            await scheduler.join()
        else:
            # Another loop: run there, and await the result here; cancelling this future cancels the coroutine there.
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(scheduler.join(), loop))

    def wait_idle_sync(self, timeout: float = 10.0) -> None:
        """Like `wait_idle`, for synchronous tests.

        Raises:
            ConfigurationError: The sandbox is not running, or runs in the loop that would have to wait.
            TimeoutError: It took longer than `timeout` seconds.
        """
        check_number("timeout", timeout)
        loop, scheduler = self._require_running()
        if _is_current_loop(loop):
            msg = "wait_idle_sync() would block the loop that the sandbox runs in: await wait_idle() there."
            raise ConfigurationError(msg)
        asyncio.run_coroutine_threadsafe(scheduler.join(), loop).result(timeout)

    def _require_running(self) -> tuple[asyncio.AbstractEventLoop, Scheduler]:
        if self._running is None:
            msg = "The sandbox is not running: use it in a with or async with block."
            raise ConfigurationError(msg)
        return self._running

    def _refuse_second_start(self) -> None:
        if self._running is not None:
            msg = "The sandbox is running already: create another Sandbox to run two at the same time."
            raise ConfigurationError(msg)

    def _wake_scheduler(self) -> None:
        if self._running is not None:
            loop, scheduler = self._running
            loop.call_soon_threadsafe(scheduler.wake)

    async def _start(self) -> None:
        self._refuse_second_start()
        async with AsyncExitStack() as parts:
            store = await to_thread.run_sync(MediaStore, self._media_folder)
            parts.push_async_callback(to_thread.run_sync, store.close)
            # Files of a temporary folder were deleted at the last stop, and must not be listed.
            await to_thread.run_sync(self._service.resume, _file_exists)
            sender = WebhookSender(self._service.options)
            parts.push_async_callback(sender.aclose)
            closing = asyncio.Event()
            app = build_app(self._service, store, closing)
            runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_SECONDS, access_log=None)
            await runner.setup()
            parts.push_async_callback(runner.cleanup)
            # Registered after the cleanup of the runner, so it is called before: hanging requests must end first.
            parts.callback(closing.set)
            self._service.host = await self._listen(runner)
            loop, scheduler = asyncio.get_running_loop(), Scheduler(self._service, sender)
            self._running = loop, scheduler
            parts.push_async_callback(_cancel_and_wait, loop.create_task(scheduler.run(), name="veriff sandbox"))
            self._open_parts = parts.pop_all()

    async def _listen(self, runner: web.AppRunner) -> str:
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError as error:
            problem = error.strerror or type(error).__name__
        else:
            port = runner.addresses[0][1]
            # A server on every address is reached by loopback; clients cannot connect to 0.0.0.0 on every platform.
            host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104
            return f"http://{f'[{host}]' if ':' in host else host}:{port}"
        msg = f"The sandbox cannot listen on {self._host} port {self._port} ({problem}): pass another host or port."
        raise ConfigurationError(msg)

    async def _stop(self) -> None:
        # First, so that no other thread sends work to a loop that is stopping.
        self._running = None
        self._service.host = ""
        await self._open_parts.aclose()


async def _cancel_and_wait(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _is_current_loop(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _file_exists(media: StoredMedia) -> bool:
    return media.path.exists()


def _to_path(folder: object) -> Path:
    try:
        return Path(cast("Path", folder))
    except (TypeError, ValueError):
        pass
    msg = f"media_folder must be a path, not {type(folder).__name__}: pass a folder, or None for a temporary one."
    raise ConfigurationError(msg)
