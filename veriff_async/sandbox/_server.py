"""The public class `Sandbox`: a server, a clock, and the methods that tests call.

How the parts work together
    Sandbox          options, and everything that a test does
      SandboxServer    start and stop
      SandboxService   all state behind one lock (see `_service_core` for the lock's rules)
      Endpoints        the responses to requests, one method for each endpoint
        Scenario         the life of the sessions; pure, time and ids are arguments, webhooks are returned
      application      aiohttp routes and middlewares, in the server's event loop
      Scheduler        one task in the same loop: it runs due events and posts webhooks
      MediaStore       uploaded files on disk

Which thread may do what
    Methods that read or change sessions go to the service directly and are safe in every thread and every loop. Only
    `wait_idle` and `wait_idle_sync` need the server's loop: they send a coroutine there and wait for it.
    `wait_idle_sync` refuses to run in that loop, because it would wait for itself. A change calls `SandboxServer.wake`
    while the service's lock is held; it only queues a callback in the server's loop, so it never blocks.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, Unpack, cast
from urllib.parse import urlsplit
from uuid import uuid4

from anyio import to_thread

from veriff_async._event_loop import require_asyncio
from veriff_async._http.ca_bundle import CA_BUNDLE_VARIABLE
from veriff_async._protocol.arguments import check_function, check_instance
from veriff_async._protocol.base_url import LOCAL_SYNC
from veriff_async._protocol.option_names import check_names, explain_options
from veriff_async._protocol.request_arguments import check_credentials
from veriff_async.credentials import (
    Credentials,
)
from veriff_async.errors import ConfigurationError
from veriff_async.sandbox._address import build_environ
from veriff_async.sandbox._arguments import (
    check_host,
    check_number,
    check_origin,
)
from veriff_async.sandbox._changes import SessionChanges
from veriff_async.sandbox._chaos.profile import to_profile
from veriff_async.sandbox._clock import RealClock
from veriff_async.sandbox._control.access import API_PREFIX, TOKEN_VARIABLE, Access, check_token
from veriff_async.sandbox._decision_polls import wait_for_poll, wait_for_poll_sync
from veriff_async.sandbox._media_store import delete_files
from veriff_async.sandbox._records import WebhookKind
from veriff_async.sandbox._rules import SandboxOptions, SandboxRules, change_rules
from veriff_async.sandbox._scenario import Scenario
from veriff_async.sandbox._seed import SEED_STATUSES
from veriff_async.sandbox._service import SandboxService
from veriff_async.sandbox._serving import SandboxServer, ServerOptions
from veriff_async.sandbox._snapshot import restore_snapshot, take_snapshot
from veriff_async.sandbox._tls import TLSFiles, check_tls, check_tls_names
from veriff_async.sandbox._webhook_app import WebhookApp

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from os import PathLike
    from types import TracebackType

    from veriff_async.models.attempt import UserDefinedStatus
    from veriff_async.models.enums import Status
    from veriff_async.models.record import PepSanctionMatch
    from veriff_async.models.watchlist import WatchlistScreening
    from veriff_async.sandbox._chaos.profile import ChaosProfile
    from veriff_async.sandbox._clock import Clock
    from veriff_async.sandbox._decision_spec import DecisionFields
    from veriff_async.sandbox._face_import import ImportedFace
    from veriff_async.sandbox._faults import Fault, WaitingFault
    from veriff_async.sandbox._recording.replay import Replay, ReplayOptions
    from veriff_async.sandbox._records import (
        Delivery,
        ReceivedRequest,
        RegistryResult,
        SessionPage,
        SessionView,
    )
    from veriff_async.sandbox._rules import RuleFields
    from veriff_async.sandbox._timeline import Timeline
    from veriff_async.sandbox._webhook_app import AsgiApp
    from veriff_async.sandbox._webhook_records import WebhookView

__all__ = ("Sandbox",)

_LAST_PORT: Final = 65_535
# URL of webhooks for an application that does not route them by their paths.
_ANY_APP: Final = "http://webhook-app/"


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
        webhook_app: ASGI application to which webhooks are delivered directly; ``None`` uses the network. See
            `set_webhook_app`.
        decide_after: Seconds from the submission of a session to its approval; ``None`` leaves the decision to
            `decide`.
        clock: The time, by default the real one; a `VirtualClock` for tests in which days pass.
        options: Behaviour that Veriff does not document, or documents in two ways; by default ``SandboxOptions()``.
        chaos: Which requests fail, how slow responses are, and which webhooks get lost: a `ChaosProfile`, the name of
            one that the library includes, for example ``"mobile"``, or the path of a TOML file; ``None`` has no chaos.
        media_folder: Folder for uploaded files; a temporary folder by default. That one is removed when the sandbox
            stops or the process ends, or, after a kill, when the next sandbox starts. Only the owner can read the
            files.
        state_folder: Folder in which sessions, files, webhooks, generated credentials and tokens, and the authority of
            `tls` survive restarts and kills of the process; ``None`` keeps them in memory. Only one sandbox at a time
            can use it, and only its owner can read it. Rules, URLs and chaos are not kept in it: they are chosen at
            each start.
        tls: Whether to serve https only: True makes a certificate authority for this sandbox and a certificate for its
            address, ``localhost``, ``127.0.0.1`` and ``::1`` (needs the extra ``[sandbox]``), or the `TLSFiles` to use.
            Clients must trust the authority: `ca_file` is its certificate, and `environ` names it.
        tls_names: More host names and addresses under which clients reach the sandbox, for example the name of its
            container; for ``tls=True``.
        control_token: Token that the control API and the console need, at least 8 letters and digits; by default the
            value of the variable ``VERIFF_SANDBOX_TOKEN``, or else none on a loopback address, and a random one on
            other addresses or with a public URL.
        public_url: URL under which browsers and clients reach the sandbox, for example that of a reverse proxy or of a
            container's port; it begins the addresses in responses, such as ``session.url``. `base_url` by default.
        on_request: Called in the server's loop after each request.
        on_delivery: Called in the server's loop after each attempt to deliver a webhook.

    Raises:
        ConfigurationError: An option has the wrong type, is not finite or is out of range, the chaos profile cannot be
            loaded, or the sandbox cannot listen on the address.
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
        webhook_app: AsgiApp | None = None,
        decide_after: float | None = None,
        clock: Clock | None = None,
        options: SandboxOptions | None = None,
        chaos: ChaosProfile | str | Path | None = None,
        media_folder: Path | None = None,
        state_folder: Path | None = None,
        tls: bool | TLSFiles = False,
        tls_names: Collection[str] = (),
        control_token: str | None = None,
        public_url: str | None = None,
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
        check_host(host)
        self._media_folder = None if media_folder is None else _to_path("media_folder", media_folder)
        server = ServerOptions(
            host=host,
            port=port,
            media_folder=self._media_folder,
            state_folder=None if state_folder is None else _to_path("state_folder", state_folder),
            tls=check_tls(tls),
            tls_names=check_tls_names(tls_names),
            takes_credentials=credentials is None,
        )
        token = os.environ.get(TOKEN_VARIABLE) or None
        if control_token is not None:
            token = check_token("control_token", control_token)
        elif token is not None:
            check_token(TOKEN_VARIABLE, token)
        self._access = Access(token, (host, *server.tls_names))
        if options is None:
            options = SandboxOptions()
        check_instance("options", options, SandboxOptions, remedy="pass SandboxOptions(...)")
        if credentials is not None:
            check_credentials(credentials)
        rules = SandboxRules(decide_after=decide_after, options=options)
        urls: RuleFields = {"webhook_urls": {} if webhook_urls is None else webhook_urls}
        if webhook_url is not None:
            urls["webhook_url"] = webhook_url
        self._service = SandboxService(
            credentials=credentials or Credentials(str(uuid4()), str(uuid4()), integration_id=str(uuid4())),
            clock=clock or RealClock(),
            scenario=Scenario(change_rules(rules, urls), new_id=lambda: str(uuid4())),
            wake=self._wake,
        )
        self._changes = SessionChanges(self._service)
        self._service.chaos = to_profile(chaos)
        self._service.on_request = on_request
        self._service.on_delivery = on_delivery
        self._webhook_app = WebhookApp()
        self._server = SandboxServer(
            server,
            service=self._service,
            access=self._access,
            webhook_app=self._webhook_app,
            set_public_url=self._set_public_url,
        )
        self.public_url = public_url
        self.set_webhook_app(webhook_app)

    def __repr__(self) -> str:
        """Show where it listens."""
        return f"<Sandbox {self._service.host or 'not running'}>"

    async def __aenter__(self) -> Self:
        """Listen, in the running loop."""
        require_asyncio()
        await self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop, and leave nothing behind."""
        await self._server.stop()

    def __enter__(self) -> Self:
        """Listen, in a thread with a loop of its own."""
        self._server.start_in_thread()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop, end the thread, and leave nothing behind."""
        self._server.stop_thread()

    @staticmethod
    def replay(cassette: str | PathLike[str], **options: Unpack[ReplayOptions]) -> Replay:
        """Serve a cassette as Veriff, instead of sessions of a sandbox.

        ``async with Sandbox.replay("flow.jsonl") as replay:`` responds to each request as Veriff did when the cassette
        was recorded, with signatures made with `Replay.credentials`, and posts the recorded webhooks. A program can
        send other names, ids and pictures than it did then: responses and webhooks contain its own. The order of the
        requests of a session is the recorded one; reads (GET) may be repeated.

        Args:
            cassette: The file that `Recorder` or ``veriff-async record`` has written.
            **options: ``timing`` (``"none"`` responds immediately, ``"original"`` takes the recorded times, and a
                number is a factor of them), ``strict`` (whether the end of the block raises an error if a request was
                not recorded or a recording was not replayed), ``credentials`` (those that clients must use; random ones
                by default), ``webhook_url`` (where recorded webhooks are posted; none by default), ``host``, ``port``
                and ``on_request``, as for `Sandbox`.

        Returns:
            The replay, an async context manager.

        Raises:
            ConfigurationError: An option cannot work; at the start of the block also if the file is not a cassette of
                this version or a line of it is damaged, which the message names.
            InvalidArgumentError: `webhook_url` is not a URL.
            TypeError: An option is unknown; the message suggests the right name.

        Example:
            >>> async with Sandbox.replay("flow.jsonl") as replay, VeriffClient.from_env(replay.environ) as veriff:
            ...     session = await veriff.create_session(vendor_data="user-42")
        """
        from veriff_async.sandbox._recording.replay import Replay, ReplayOptions  # noqa: PLC0415  most never need it

        check_names("replay()", options, ("cassette", *ReplayOptions.__annotations__))
        return Replay(cassette, **options)

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
    def public_url(self) -> str | None:
        """The URL that begins the addresses in responses from now on; ``None`` for `base_url`.

        Set it when the port of a container becomes known only after its start.
        """
        return self._service.public_url

    @public_url.setter
    def public_url(self, url: str | None) -> None:
        self._set_public_url(url)

    @property
    def feedback_url(self) -> str:
        """The URL of the feedback API, for clients; the same port."""
        return self.base_url

    @property
    def sync_url(self) -> str:
        """The URL of the synchronous check of registries, for clients; the same port, another path."""
        return self.base_url + LOCAL_SYNC

    @property
    def control_url(self) -> str:
        """The URL of the control API, with which programs in any language do what this object does."""
        return self.base_url + API_PREFIX

    @property
    def control_token(self) -> str | None:
        """The token that requests to `control_url` need as ``Authorization: Bearer``; ``None`` if they need none."""
        self._server.check_running()
        return self._access.token

    @property
    def console_url(self) -> str:
        """The URL of the console for a browser. It contains the token, if there is one."""
        return self._access.console_url(self.base_url)

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
        variables = build_environ(self.base_url, self.credentials)
        if self.ca_file is not None:
            variables[CA_BUNDLE_VARIABLE] = str(self.ca_file)
        return variables

    @property
    def ca_file(self) -> Path | None:
        """PEM file with the certificate authority that clients must trust, while the sandbox runs with `tls`.

        Pass it as ``ca_bundle`` to `VeriffClient`, ``NODE_EXTRA_CA_CERTS`` to Node.js, ``--cacert`` to curl, or
        ``verify`` to requests. ``GET /_sandbox/ca.pem`` responds with the same certificate. ``None`` without `tls`, and
        if the authority of `TLSFiles` was not given.
        """
        return None if self._server.tls is None else self._server.tls.ca_file

    @property
    def webhook_url(self) -> str | None:
        """The URL to which decisions are posted from now on; ``None`` posts none."""
        return self._service.webhook_urls.get(WebhookKind.DECISION)

    @webhook_url.setter
    def webhook_url(self, url: str | None) -> None:
        self._service.change_rules(webhook_url=url)

    @property
    def webhook_urls(self) -> Mapping[WebhookKind, str]:
        """The URL to which each kind of webhook is posted from now on; kinds without a URL are not posted.

        To send all of them to one URL, as a Customer Portal allows, set ``dict.fromkeys(WebhookKind, url)``.
        """
        return self._service.webhook_urls

    @webhook_urls.setter
    def webhook_urls(self, urls: Mapping[WebhookKind, str] | Mapping[str, str]) -> None:
        self._service.change_rules(webhook_urls=urls)

    @property
    def rules(self) -> SandboxRules:
        """The present rules, which are `decide_after`, the URLs of webhooks, and the options."""
        return self._service.rules

    def change_rules(self, **changes: Unpack[RuleFields]) -> None:
        """Change rules while the sandbox runs, all of them at once.

        The checks are those of `Sandbox` and `SandboxOptions`. After an error every rule is as before. New rules apply
        to everything that happens from now on. Events that were planned before keep their time: the end of a session
        that was created, the decision of one that was submitted, the next attempt of a webhook that failed, which keeps
        its URL, too. A decision that was made keeps its form.

        Args:
            **changes: ``decide_after``, ``webhook_url``, ``webhook_urls``, each option of `SandboxOptions` by its name,
                or all of them as ``options``.

        Raises:
            InvalidArgumentError: A value has the wrong type, is unknown or is out of range; the message names it.
            TypeError: An option is unknown; the message suggests the right name.

        Example:
            >>> sandbox.change_rules(decide_after=0, requests_per_second=5)
            >>> sandbox.rules.options.requests_per_second
            5
        """
        self._service.change_rules(**changes)

    def seed(
        self, sessions: int = 20, *, statuses: Iterable[Status | str] = SEED_STATUSES, seed: int = 0
    ) -> tuple[str, ...]:
        """Add sessions in some states, for a look at the console, for demonstrations and for tests of paging.

        They have obviously invented people, pictures marked SPECIMEN, and times within the last days. Undecided ones
        stay so until their end. Their webhooks are not posted; `resend` posts them. They are created by the present
        rules, and no decision comes by itself. Ten thousand sessions take a few seconds: in the loop of the sandbox,
        ``await asyncio.to_thread(sandbox.seed, 10_000)`` lets it answer requests at the same time.

        Args:
            sessions: Number of sessions, from 1 to 100,000.
            statuses: The statuses that they have, each equally often; by default all that a session can stay in.
            seed: Decides everything else. The same seed gives the same sessions, also with the same ids, in a sandbox
                that is new or was reset, at the same time of the clock.

        Returns:
            The ids of the sessions, oldest first.

        Raises:
            InvalidArgumentError: An argument has the wrong type, is unknown or is out of range.

        Example:
            >>> ids = sandbox.seed(1000, statuses=["approved", "declined"])
            >>> sandbox.find_sessions(status="declined").total
            500
        """
        return self._service.seed(sessions, statuses=statuses, seed=seed)

    def reset(self) -> None:
        """Forget everything that has happened, as if the sandbox was new.

        Sessions with their media, webhooks, also those that are being posted, planned events, faults, reports of fraud,
        faces, `requests` and `deliveries` are gone, limits count from zero, and outages of the chaos profile begin
        again. A request that arrives during the reset is answered as if its session had never existed. Credentials,
        rules, URLs, chaos profile and clock stay.

        A sandbox that runs removes the files in the background; `wait_idle` waits until they are gone. One that does
        not run removes those of a `media_folder` in this call.
        """
        self._service.reset()
        if not self._server.is_running and self._media_folder is not None:
            delete_files(self._media_folder, self._service.take_discarded())

    @property
    def chaos(self) -> ChaosProfile | None:
        """The chaos profile, or ``None``.

        Set it while the sandbox runs, to a profile, a name or a path; it applies to all later requests and webhooks,
        and its outages count from now. Set it to ``None`` to return to normal.
        """
        return self._service.chaos

    @chaos.setter
    def chaos(self, profile: ChaosProfile | str | Path | None) -> None:
        self._service.chaos = to_profile(profile)

    def set_webhook_app(self, app: AsgiApp | None) -> None:
        """Deliver webhooks directly to an ASGI application from now on; ``None`` posts them over the network.

        The application receives each webhook at the path of its URL in `webhook_urls`, whose host can be any name;
        kinds without a URL are not delivered. If no kind has a URL, every kind is delivered to the path ``/``.

        The application is called in the event loop in which this method, or ``Sandbox(webhook_app=app)``, is called.
        Outside of a loop, it is called in the loop of the sandbox. Call the method in the loop that has started the
        application, for example ``TestClient.portal.call(sandbox.set_webhook_app, app)``. The sandbox does not run the
        lifespan of the application, which a test runs itself once the sandbox has an address.

        An exception of the application counts as a response with status 500, and is logged with its traceback. A
        response after the option `webhook_timeout_seconds` comes too late, and the application is not interrupted.

        Raises:
            ConfigurationError: The application cannot be called.

        Example:
            >>> async with receiver, Sandbox(webhook_app=asgi_app(receiver)) as sandbox:
            ...     sandbox.decide(session_id, "approved")
            ...     await sandbox.wait_idle()
        """
        self._webhook_app.set(app)
        urls = dict.fromkeys(WebhookKind, _ANY_APP)
        if app is not None and not self._service.webhook_urls:
            self.webhook_urls = urls
        elif app is None and self._service.webhook_urls == urls:
            # No host has this name.
            self.webhook_urls = {}

    def session(self, session_id: str) -> SessionView:
        """Show the present state of a session.

        Raises:
            InvalidArgumentError: The session does not exist.
        """
        return self._service.session(session_id)

    @property
    def sessions(self) -> tuple[SessionView, ...]:
        """The present state of all sessions, oldest first."""
        return self._service.sessions()

    def find_sessions(
        self,
        *,
        status: Status | str | None = None,
        search: str = "",
        after: str | None = None,
        limit: int = 50,
    ) -> SessionPage:
        """Show one page of sessions, newest first; fast with ten thousand of them.

        Args:
            status: Only sessions in this status.
            search: Only sessions that have each of these words in a name, in the vendor data or in the id of the
                end-user, in any case. Of the ids of a session and its attempts, a word matches the beginning.
            after: The `next` of the page before; ``None`` for the first page.
            limit: Most sessions on the page, from 1 to 1000.

        Raises:
            InvalidArgumentError: An argument has the wrong type, is unknown or is out of range.

        Example:
            >>> page = sandbox.find_sessions(status="submitted", search="ada", limit=20)
            >>> page.total, [session.vendor_data for session in page.sessions]
            (1, ['user-42'])
        """
        return self._service.find_sessions(status=status, search=search, after=after, limit=limit)

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

    @property
    def timeline(self) -> Timeline:
        """The record of requests with the verdict on their signature, of sessions, webhooks, faults and settings.

        A failed test shows why with ``print(sandbox.timeline.text(limit=20))``.
        """
        return self._service.timeline

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
        self._changes.decide(session_id, status, fields)

    def start_attempt(self, session_id: str) -> None:
        """Start the attempt, as an end-user does by opening Veriff's page (event 7001).

        Raises:
            InvalidArgumentError: The session does not exist, or its attempt has started before.
        """
        self._changes.start_attempt(session_id)

    def open_attempt(self, session_id: str) -> str:
        """Start another attempt, as an end-user does who opens Veriff's page again (event 7001).

        After a request for resubmission this starts the attempt that the request has opened. While a submission is
        checked or reviewed it opens another one, which counts as a resubmission; that Veriff's page allows this is a
        guess. A decision that was to come by itself for the attempt before is dropped.

        Returns:
            The id of the attempt.

        Raises:
            InvalidArgumentError: The session does not exist, its first attempt has not started, it has a final
                decision, or it has had nine resubmissions.
        """
        return self._service.open_attempt(session_id)

    def submit_attempt(self, session_id: str) -> None:
        """Submit the attempt, as an end-user does on Veriff's page (event 7002).

        Raises:
            InvalidArgumentError: The session does not exist, or it has no open attempt.
        """
        self._changes.submit_attempt(session_id)

    def complete_watchlist_screening(self, session_id: str, screening: WatchlistScreening | None = None) -> None:
        """Complete the watchlist screening of a session, and post its webhook.

        Args:
            session_id: The session.
            screening: The result; no match by default. The sandbox fills in session, person and time.

        Raises:
            InvalidArgumentError: The session does not exist.
        """
        self._changes.complete_watchlist_screening(session_id, screening)

    def set_pep_matches(self, session_id: str, *matches: PepSanctionMatch) -> None:
        """Set the matches in lists of politically exposed persons and sanctions; ``GET .../person`` returns them.

        Raises:
            InvalidArgumentError: The session does not exist.
        """
        self._changes.set_pep_matches(session_id, matches)

    def set_user_status(self, session_id: str, status: UserDefinedStatus) -> None:
        """Give the attempt a status, as a user of the Customer Portal can, and post its webhook.

        Raises:
            InvalidArgumentError: The session does not exist.
        """
        self._changes.set_user_status(session_id, status)

    def complete_registry_check(self, session_id: str, result: RegistryResult) -> None:
        """Set the result of a registry, and post its webhook.

        Raises:
            InvalidArgumentError: The session does not exist.
        """
        self._changes.complete_registry_check(session_id, result)

    def issue_certificate(self, session_id: str) -> str:
        """Issue a preservation certificate for the PDFs of a session (NOM-151).

        Returns:
            The id of the certificate.

        Raises:
            InvalidArgumentError: The session does not exist, or it has no PDF.
        """
        return self._changes.issue_certificate(session_id)

    def submit_address(self, session_id: str) -> str:
        """Submit an older proof of address, as an end-user does, and post its webhook.

        Returns:
            The id of the address.

        Raises:
            InvalidArgumentError: The session does not exist, or it has a proof of address already.
        """
        return self._changes.submit_address(session_id)

    @property
    def webhooks(self) -> tuple[WebhookView, ...]:
        """All webhooks with their states and attempts, oldest first; of finished ones the last five thousand."""
        return self._service.webhooks.views()

    def hold_webhooks(self, *, session_id: str | None = None, kind: WebhookKind | str | None = None) -> int:
        """Hold webhooks that wait to be posted, and those that come later.

        `wait_idle` does not wait for held webhooks. A webhook that is being posted is not stopped, but its next attempt
        is held. Calls with a session or a kind can be combined; a later call has priority.

        Args:
            session_id: Only webhooks of this session.
            kind: Only webhooks of this kind.

        Returns:
            The number of webhooks that are held from now on.

        Raises:
            InvalidArgumentError: The session does not exist, or the kind is unknown.

        Example:
            >>> sandbox.hold_webhooks()
            0
            >>> sandbox.decide(session_id, "approved")
            >>> sandbox.release_webhooks()
            1
        """
        return self._service.webhooks.hold(session_id=session_id, kind=kind)

    def release_webhooks(self, *, session_id: str | None = None, kind: WebhookKind | str | None = None) -> int:
        """Post the webhooks that `hold_webhooks` has held, in the order of their events, and hold no later ones.

        Args:
            session_id: Only webhooks of this session.
            kind: Only webhooks of this kind.

        Returns:
            The number of webhooks that were held.

        Raises:
            InvalidArgumentError: The session does not exist, or the kind is unknown.
        """
        return self._service.webhooks.release(session_id=session_id, kind=kind)

    def deliver_webhook(self, webhook_id: str) -> None:
        """Post a webhook now, also one that is held, was dropped, has failed, or whose kind had no URL.

        It is posted to the present URL of its kind, and signed with the present credentials.

        Raises:
            InvalidArgumentError: The webhook does not exist, was delivered or is being posted, or its kind has no URL.
        """
        self._service.webhooks.deliver(webhook_id)

    def delay_webhook(self, webhook_id: str, seconds: float) -> None:
        """Post a webhook that waits or is held `seconds` from now, by the clock of the sandbox.

        A hold does not apply to it any more, unless you call `hold_webhooks` again.

        Raises:
            InvalidArgumentError: The webhook does not exist or does not wait, or `seconds` is not a number from 0 on.
        """
        self._service.webhooks.delay(webhook_id, seconds)

    def duplicate_webhook(self, webhook_id: str) -> str:
        """Post the same bytes once more, to the present URL of the kind, in any state of the webhook.

        Returns:
            The id of the new webhook.

        Raises:
            InvalidArgumentError: The webhook does not exist.
        """
        return self._service.webhooks.duplicate(webhook_id)

    def reorder_webhooks(self, webhook_ids: Sequence[str]) -> None:
        """Post webhooks that wait or are held one after another, in this order.

        Each one starts after the response to the one before it, whether the receiver has accepted that one or not. Held
        webhooks stay held until `release_webhooks`.

        Args:
            webhook_ids: The ids, first to last.

        Raises:
            InvalidArgumentError: A webhook does not exist, does not wait, or is named twice.
        """
        self._service.webhooks.reorder(webhook_ids)

    def drop_webhook(self, webhook_id: str) -> None:
        """Make no further attempt to deliver a webhook, as if it was lost on its way.

        An attempt that is in flight can still succeed.

        Raises:
            InvalidArgumentError: The webhook does not exist, or was delivered, dropped or given up before.
        """
        self._service.webhooks.drop(webhook_id)

    def resend(self, session_id: str, kind: WebhookKind | str = "decision") -> str:
        """Post the last webhook of a kind again, as a user of the Customer Portal can.

        Returns:
            The id of the new webhook.

        Raises:
            InvalidArgumentError: The session does not exist, or it has had no webhook of this kind.
        """
        return self._changes.resend(session_id, kind)

    def inject(self, fault: Fault, *, method: str | None = None, path: str | None = None, times: int = 1) -> int:
        """Let the next requests fail.

        Args:
            fault: How they fail.
            method: Only requests with this method.
            path: Only requests whose path matches, with ``*`` for any text: ``"/v1/sessions/*/media"``.
            times: Number of requests that fail.

        Returns:
            The id of the fault, for `remove_fault`.

        Raises:
            InvalidArgumentError: `times` is below 1.
        """
        return self._service.inject(fault, method=method, path=path, times=times)

    @property
    def faults(self) -> tuple[WaitingFault, ...]:
        """The injected faults that have not happened yet, in the order of their injection."""
        return self._service.faults

    def remove_fault(self, fault_id: int) -> None:
        """Remove an injected fault that has not happened yet.

        Raises:
            InvalidArgumentError: No such fault waits: it has happened already, or was removed.
        """
        self._service.remove_fault(fault_id)

    def clear_faults(self) -> None:
        """Remove the injected faults that have not happened yet."""
        self._service.clear_faults()

    def advance(self, seconds: float) -> None:
        """Move a `VirtualClock` forward, and run everything that becomes due.

        Raises:
            ConfigurationError: The clock is not virtual.
        """
        self._service.advance(seconds)

    async def snapshot(self) -> bytes:
        """Return the whole state as one ZIP archive, for `restore`.

        It has sessions, files, decisions, webhooks that wait with their holds and records, faults, the chaos profile
        with its counts, imported faces, reports of fraud, and the time. Requests and the timeline are not part of it;
        neither is where the sandbox runs: its address, credentials, certificates and `webhook_urls`.

        The archive contains the pictures and data of people, as the sandbox does.

        Raises:
            ConfigurationError: A file of the sandbox cannot be read.

        Example:
            >>> start = await sandbox.snapshot()
            >>> sandbox.decide(session_id, "declined")
            >>> await sandbox.restore(start)  # undecided again
        """
        require_asyncio()
        return await to_thread.run_sync(self.snapshot_sync)

    def snapshot_sync(self) -> bytes:
        """Like `snapshot`, for synchronous tests; it reads the files in the calling thread.

        Raises:
            ConfigurationError: A file of the sandbox cannot be read.
        """
        return take_snapshot(self._service)

    async def restore(self, snapshot: bytes | Path) -> None:
        """Replace the whole state by that of a snapshot, of this sandbox or another one.

        The sandbox then behaves as the other one did when the snapshot was made. A `VirtualClock` is moved to the time
        of the snapshot. A real clock is not: everything that has become due since then happens immediately, as after a
        stop of that length. Webhooks that wait are signed again, and are posted to `webhook_urls` of this sandbox, or
        to their previous URL if their kind has none.

        Args:
            snapshot: The archive, or the path of a file with it.

        Raises:
            InvalidArgumentError: It is not a snapshot of this version, is damaged, or has a virtual time while the
                clock is real. Nothing is changed then.
            ConfigurationError: The sandbox is not running, or a file cannot be read or written.
        """
        require_asyncio()
        await to_thread.run_sync(self.restore_sync, snapshot)

    def restore_sync(self, snapshot: bytes | Path) -> None:
        """Like `restore`, for synchronous tests; it reads and writes the files in the calling thread.

        Raises:
            InvalidArgumentError: It is not a snapshot of this version, is damaged, or has a virtual time while the
                clock is real. Nothing is changed then.
            ConfigurationError: The sandbox is not running, or a file cannot be read or written.
        """
        restore_snapshot(self._service, snapshot)

    async def wait_until_waiting(self, session_id: str, timeout: float = 10.0) -> None:  # noqa: ASYNC109  as in the twin
        """Wait until a client waits for the decision of a session; from any loop. It replaces sleeps in tests.

        It returns once the sandbox has answered a request ``GET /v1/sessions/{id}/decision`` or ``.../fullauto`` for
        the session in its present attempt and status, with a response that leaves the client waiting: the session had
        no decision, or one under review. This proves that a client asks repeatedly, or expects a webhook, from a moment
        *after* the last submission: a decision from now on reaches it. It does not prove that the client is still
        there. A client with an inbox expects webhooks and asks for the first time after 30 seconds; pass
        ``poll=PollPolicy(interval=0.1)`` to it in tests.

        Args:
            session_id: The session.
            timeout: Seconds of real time.

        Raises:
            InvalidArgumentError: The session does not exist, or is decided, so that no client can wait.
            TimeoutError: No client has asked within `timeout` seconds.

        Example:
            >>> waiting = asyncio.create_task(session.wait_for_decision())
            >>> await sandbox.wait_until_waiting(session.id)
            >>> sandbox.decide(session.id, "approved")
        """
        require_asyncio()
        check_number("timeout", timeout)
        await wait_for_poll(self._service.expect_poll(session_id), timeout)

    def wait_until_waiting_sync(self, session_id: str, timeout: float = 10.0) -> None:
        """Like `wait_until_waiting`, for synchronous tests.

        Raises:
            ConfigurationError: The sandbox runs in the loop that would have to wait.
            InvalidArgumentError: The session does not exist, or is decided, so that no client can wait.
            TimeoutError: No client has asked within `timeout` seconds.
        """
        check_number("timeout", timeout)
        poll = self._service.expect_poll(session_id)
        if not poll.done():
            self._server.refuse_to_block("wait_until_waiting")
        wait_for_poll_sync(poll, timeout)

    async def wait_idle(self) -> None:
        """Wait until nothing is due and no webhook is being posted; from any loop.

        Raises:
            ConfigurationError: The sandbox is not running.
        """
        require_asyncio()
        await self._server.wait_idle()

    def wait_idle_sync(self, timeout: float = 10.0) -> None:
        """Like `wait_idle`, for synchronous tests.

        Raises:
            ConfigurationError: The sandbox is not running, or runs in the loop that would have to wait.
            TimeoutError: It took longer than `timeout` seconds.
        """
        check_number("timeout", timeout)
        self._server.wait_idle_sync(timeout)

    def _wake(self) -> None:
        self._server.wake()

    def _set_public_url(self, url: str | None) -> None:
        self._service.public_url = None if url is None else check_origin("public_url", url)
        self._access.publish(None if url is None else urlsplit(url).hostname)


def _to_path(name: str, folder: object) -> Path:
    try:
        return Path(cast("Path", folder))
    except (TypeError, ValueError):
        pass
    msg = f"{name} must be a path, not {type(folder).__name__}: pass a folder, or None for a temporary one."
    raise ConfigurationError(msg)
