"""The client: calls that need no session, and what its sessions share, such as connections, limits and waiters."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Final, Literal, NoReturn, Self, Unpack

from veriff_async._client.options import (
    FEEDBACK_URL_VARIABLE,
    SYNC_URL_VARIABLE,
    ClientOptions,
    add_options,
    check_call_options,
    check_options,
    optional_variables,
    warn_about_hosts,
)
from veriff_async._client.statistics import collect_statistics
from veriff_async._client.verification import DecisionWait, with_session_id
from veriff_async._event_loop import require_asyncio
from veriff_async._protocol import endpoints
from veriff_async._protocol.arguments import check_function
from veriff_async._protocol.base_url import (
    BASE_URL_VARIABLE,
    base_url_from,
)
from veriff_async._protocol.json.decode import warm_up
from veriff_async._protocol.limits import MAX_DOWNLOAD_BYTES
from veriff_async._protocol.option_names import check_names, explain_options, options_of
from veriff_async._protocol.request_arguments import check_credentials
from veriff_async._protocol.session_request import CREATE_OPTIONS, CreateOptions
from veriff_async._protocol.validation import EndUserIdWarning, check_id, warning_of_end_user_id
from veriff_async._views import view_of
from veriff_async.credentials import Credentials, environment_of
from veriff_async.errors import ConfigurationError, InvalidArgumentError
from veriff_async.models.media import UploadedMedia
from veriff_async.models.session import SessionInfo
from veriff_async.session import VerificationSession, seconds_of

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from os import PathLike
    from types import TracebackType

    from aiohttp import ClientSession

    from veriff_async._client.runtime import Runtime
    from veriff_async._media.downloader import IfExists, MediaStream
    from veriff_async._protocol.picture_thresholds import InspectionThresholds
    from veriff_async._protocol.session_request import RegistryOptions
    from veriff_async.config import CallOptions, PollPolicy, RetryPolicy, Timeouts
    from veriff_async.health import CheckReport
    from veriff_async.inbox._protocol import Inbox
    from veriff_async.middleware import Middleware
    from veriff_async.models.decision import Decision
    from veriff_async.models.faces import FaceImage, FaceImportReceipt
    from veriff_async.models.feedback import FraudCategoryInfo, FraudReport, FraudReportLookup, FraudReportReceipt
    from veriff_async.models.inspection import FaceDetector
    from veriff_async.models.media import DownloadedMedia, DownloadProgress, Media, MediaFile, MediaList, UploadProgress
    from veriff_async.models.person import Person
    from veriff_async.statistics import ClientStatistics
    from veriff_async.telemetry import Telemetry

__all__ = (
    "BASE_URL_VARIABLE",
    "FEEDBACK_URL_VARIABLE",
    "SYNC_URL_VARIABLE",
    "ClientOptions",
    "VeriffClient",
)

_HOW_TO_CREATE: Final = (
    'Call VeriffClient(Credentials(api_key, shared_secret), base_url="https://..."), or VeriffClient.from_env().'
)


class VeriffClient:
    """A client for one integration. Create one for each event loop; any number of coroutines can use it.

    Use it as ``async with VeriffClient(...) as veriff:``, or call `aclose` at the end. Connections are opened when they
    are first needed. ``async with`` opens a closed client again, in the same event loop or in another.

    Each call to Veriff raises `ApiError` if Veriff refuses, `ResponseError` if the response is not signed with a known
    secret or cannot be parsed, `TransportError` if no response arrived and the retries are used up, and
    `ClientClosedError` if the client is closed. Methods name the errors that need attention besides these.

    Args:
        credentials: API key and secrets.
        base_url: The integration's own base URL, from its API Keys page in the Customer Portal; with or without
            ``/v1``. Plain http is allowed for this machine only, see `allow_insecure_hosts`. Veriff changes its API
            hosts on 9 December 2026: an old one gives a `DeprecatedHostWarning`.
        feedback_url: Host of the feedback API, for reports of fraud. The default is Veriff's documented host, or
            `base_url` if that is on this machine.
        sync_url: Host of the synchronous check of registries. The default is Veriff's documented host, or `base_url`
            if that is on this machine. Whether Veriff's host changes on 9 December 2026 is unknown.
        inbox: The inbox in which a `WebhookReceiver` of this application records webhooks, in this process or another;
            see `veriff_async.inbox`. By default, the client only polls. It does not close the inbox.
        retry: How often and how long a call is tried. By default ``RetryPolicy()``.
        poll: How often the client polls for decisions while coroutines wait. By default ``PollPolicy()``; with an
            `inbox`, the first poll is after 30 seconds and the interval grows from 60 to 300, while the inbox works.
        timeouts: How long one attempt may take. By default ``Timeouts()``.
        max_connections: Largest number of connections in the pool.
        max_uploads: Largest number of concurrent uploads of the whole client; fewer than `max_connections`, so that
            other calls never queue behind pictures.
        max_downloads: Largest number of concurrent downloads of the whole client; fewer than `max_connections`, too.
        http_session: An ``aiohttp.ClientSession`` to use, for your own proxy or TLS settings; the client never closes
            it. By default the client opens and closes one of its own. The ``limit`` and ``limit_per_host`` of the
            connector replace `max_connections`. Creations and other requests that must not be repeated use their own
            connections, for which aiohttp counts ``limit_per_host`` separately.
        trust_env: Whether proxies (``HTTPS_PROXY``, ``NO_PROXY``) and ``~/.netrc`` are read from the environment, as
            aiohttp does; if you pass `http_session`, set it on that session instead.
        ca_bundle: A PEM file with certificate authorities to trust in addition to those of the system, for example that
            of a proxy that inspects TLS, or of a sandbox with ``tls=True``. It is read when the client is created. By
            default only those of the system are trusted; if you pass `http_session`, set its ``ssl`` instead.
        allow_insecure_hosts: Names of other machines that may be reached over plain http, for example the service name
            of a sandbox in Docker Compose. The API key and the pictures are sent to them unencrypted; each client
            logs a warning. Hosts of Veriff are refused.
        verify_responses: Whether to check the signatures of the responses that Veriff signs.
        thresholds: The limits for pictures with ``Media(..., quality=...)``; by default those of
            `InspectionThresholds`.
        face_detector: Finds the faces in pictures with ``Media(..., quality=...)``, see `inspect_media`. By default
            faces are neither counted nor measured.
        telemetry: Where traces and metrics go. By default, to the global providers of OpenTelemetry, if that is
            installed and an SDK is configured; `Telemetry` names others, and ``False`` exports nothing.
        middleware: Async functions around each call, the first being the outermost: ``async def measure(request,
            call_next)`` receives a `CallRequest`, may add headers to it, and returns what ``await call_next(request)``
            returns, a `CallResponse`.

    Raises:
        ConfigurationError: An option is invalid; the message names it.
        TypeError: An option is unknown; the message suggests the right name.

    Example:
        >>> async with VeriffClient.from_env() as veriff:
        ...     session = await veriff.create_session(vendor_data="user-42")

    See https://devdocs.veriff.com/docs/how-to-generate-sessions-manually.
    """

    @explain_options("VeriffClient", _HOW_TO_CREATE)
    def __init__(  # noqa: PLR0913  all options but one have a default
        self,
        credentials: Credentials,
        *,
        base_url: str,
        feedback_url: str | None = None,
        sync_url: str | None = None,
        inbox: Inbox | None = None,
        retry: RetryPolicy | None = None,
        poll: PollPolicy | None = None,
        timeouts: Timeouts | None = None,
        max_connections: int = 100,
        max_uploads: int = 8,
        max_downloads: int = 8,
        http_session: ClientSession | None = None,
        trust_env: bool = False,
        ca_bundle: str | PathLike[str] | None = None,
        allow_insecure_hosts: Collection[str] = (),
        verify_responses: bool = True,
        thresholds: InspectionThresholds | None = None,
        face_detector: FaceDetector | None = None,
        telemetry: Telemetry | Literal[False] | None = None,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        """Check the options. Nothing is opened yet."""
        check_credentials(credentials)
        settings = self._settings = check_options(
            base_url=base_url,
            feedback_url=feedback_url,
            sync_url=sync_url,
            inbox=inbox,
            retry=retry,
            poll=poll,
            timeouts=timeouts,
            max_connections=max_connections,
            max_uploads=max_uploads,
            max_downloads=max_downloads,
            http_session=http_session,
            trust_env=trust_env,
            ca_bundle=ca_bundle,
            allow_insecure_hosts=allow_insecure_hosts,
            verify_responses=verify_responses,
            thresholds=thresholds,
            face_detector=face_detector,
            telemetry=telemetry,
            middleware=middleware,
        )
        _warm_up()
        self._root = settings.hosts["api"]
        warn_about_hosts(settings.hosts)
        # The client that this is a view of, and the options of the view.
        self._client: Self | None = None
        self._options: CallOptions = {}
        self._base: Runtime | None = None
        self._connect(credentials)

    def _connect(self, credentials: Credentials) -> None:
        """Create the objects that belong to one event loop and end with `aclose`."""
        # anyio and the modules that move files take a quarter of the time to import aiohttp. They are imported here and
        # not by the first upload, which would then delay the event loop.
        from veriff_async._client.runtime import Runtime

        self._opened = Runtime(self._settings, credentials)

    @property
    def _runtime(self) -> Runtime:
        """The runtime of the next call; that of a view follows when its client is opened again."""
        if self._client is not None:
            base = self._client._opened  # noqa: SLF001  of the same class
            if base is not self._base:
                self._base, self._opened = base, base.with_options(self._options)
        return self._opened

    def with_options(self, **options: Unpack[CallOptions]) -> Self:
        """Return a view of the client that makes calls with other options, for example for a single call.

        A view shares everything that bounds, counts or remembers: connections, limits, the pause after a 429 or 503,
        credentials, statistics, the poller and the waits. It has all methods of the client, and costs microseconds.
        Closing it does nothing; when its client is closed its calls raise `ClientClosedError`, and when its client is
        opened again they work again.

        Args:
            **options: ``timeouts``, ``retry``, ``poll`` (all waits through the view, also while an inbox works; its
                ``max_rate`` has no effect, because one poller serves all waits of the client), ``concurrency`` (largest
                number of concurrent uploads or downloads of one call), ``middleware`` (more of it, inside that of the
                client), ``thresholds``, ``face_detector``. An option that you omit or that is ``None`` keeps its value.

        Returns:
            The view, of the same class.

        Raises:
            ConfigurationError: A value is invalid; the message names the option.
            TypeError: An option is unknown, or belongs to the client and cannot differ for a view.

        Example:
            >>> decision = await veriff.with_options(timeouts=Timeouts(total=5)).session(session_id).decision()
        """
        checked = check_call_options("VeriffClient.with_options()", options)
        # Without a base, the first call makes the runtime.
        return view_of(self, _client=self._client or self, _options=add_options(self._options, checked), _base=None)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **options: Unpack[ClientOptions]) -> Self:
        """Create a client from ``VERIFF_BASE_URL`` and the variables of `Credentials.from_env`.

        ``VERIFF_FEEDBACK_URL`` and ``VERIFF_SYNC_URL`` are read too, and have documented defaults;
        ``VERIFF_ALLOW_INSECURE_HOSTS`` is a comma-separated list for `allow_insecure_hosts`, and ``VERIFF_CA_BUNDLE``
        the path for `ca_bundle`.

        Args:
            environ: Variables to use instead of the environment of the process.
            **options: The options of the class.

        Raises:
            ConfigurationError: A variable is missing or invalid; the message names it.
            TypeError: An option is unknown; the message suggests the right name.
        """
        # A subclass may have its own options, and pass the others on.
        names = dict.fromkeys((*options_of(VeriffClient), *options_of(cls)))
        allowed = [name for name in names if name not in {"credentials", "base_url"}]
        check_names(f"{cls.__name__}.from_env()", options, allowed)
        environment = environment_of(environ)
        credentials = Credentials.from_env(environment)
        # Options of the caller take precedence over the environment.
        return cls(credentials, base_url=base_url_from(environment), **(optional_variables(environment) | options))

    @property
    def credentials(self) -> Credentials:
        """The credentials that sign the next call; set them to rotate secrets while calls run.

        A call that has begun keeps the credentials that signed it, and its response is checked with them. If their
        secret is deleted during an upload, the upload fails with `AuthenticationError`; it can be repeated.

        Raises:
            ConfigurationError: The new value is not a `Credentials` instance.

        Example:
            >>> veriff.credentials = veriff.credentials.with_rotated_secret(new_secret)
        """
        return self._runtime.transport.credentials

    @credentials.setter
    def credentials(self, credentials: Credentials) -> None:
        self._runtime.transport.credentials = check_credentials(credentials)

    def __repr__(self) -> str:
        """Show the base URL and which options a view has, and nothing secret."""
        options = f" with {', '.join(self._options)}" if self._options else ""
        return f"<{type(self).__name__} {self._root}{options}{' closed' if self._runtime.pool.closed else ''}>"

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled: connections belong to one event loop."""
        msg = "A VeriffClient cannot be copied or pickled: create one in each process, or call with_options()."
        raise TypeError(msg)

    def __del__(self) -> None:
        """Warn if connections were left open."""
        # The attribute is missing if `__init__` has raised. A view keeps its client alive, which warns.
        opened = getattr(self, "_opened", None)
        if opened is not None and self._client is None and opened.pool.open:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)

    async def __aenter__(self) -> Self:
        """Return the client, and open it again if it was closed: a framework may restart its application.

        The event loop may be another one than before. Sessions that were attached before stay closed.

        Raises:
            ConfigurationError: This is a view, which its client opens and closes.
        """
        require_asyncio()
        if self._client is not None:
            msg = "A view of a client cannot be opened: use async with on the client, and with_options() in the block."
            raise ConfigurationError(msg)
        if self._opened.pool.closed:
            self._connect(self.credentials)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the client."""
        await self.aclose()

    def end_waits(self) -> None:
        """End all waits for decisions with `ClientClosedError`, and each later one as soon as it begins.

        Other calls continue. Call it when a server begins to stop: most servers wait for open requests first, and
        notify the application of the shutdown only afterwards; see `end_waits_on_signals`.
        """
        self._runtime.waiters.end()

    async def aclose(self) -> None:
        """End all waits and calls with `ClientClosedError`, and close the connections. A second call does nothing.

        Closing does not wait for the network: a connection is aborted if the server has stopped reading from it.
        Closing a view does nothing; see `with_options`.
        """
        require_asyncio()
        if self._client is None:
            await self._opened.aclose()

    async def create_session(self, **options: Unpack[CreateOptions]) -> VerificationSession:
        """Create a session.

        An option that you omit is not part of the request. Creating is not idempotent, so it is repeated only if the
        first attempt certainly created nothing.

        Args:
            **options: ``person`` (the data that you have about the end-user: a `Person` or a mapping of its fields),
                ``document`` (the data that you have about the document, likewise), ``address`` (their address,
                likewise), ``vendor_data`` (your own id of the end-user, up to 1000 characters, no personal data),
                ``end_user_id`` (a UUID that you generated; another text causes an `EndUserIdWarning`), ``callback``
                (https address to send the end-user to afterwards), ``consents`` (the consents that the end-user gave,
                for products that need them), ``proof_of_address_types`` (types of documents to accept as proof of
                address), ``extra`` (further members of ``verification``, in Veriff's own names).

        Returns:
            The session, in status ``created``.

        Raises:
            TypeError: An option is unknown; the message suggests the right name. Nothing was sent.
            InvalidArgumentError: Veriff would refuse a value; the message names the field. Nothing was sent.
            OutcomeUnknownError: Nothing proves whether a session was created: the connection broke after the request
                was sent, or the response is a 5xx or unusable. ``.session_id`` is its id if that could be read.
            AuthenticationError: Veriff does not accept the API key or the signature.
            ApiError: Veriff refused for another reason.

        Example:
            >>> session = await veriff.create_session(person=Person(first_name="Ada"), vendor_data="user-42")

        See https://devdocs.veriff.com/apidocs/v1sessions.
        """
        call = endpoints.create_session(options)
        _warn_about_end_user_id(options)
        info = await self._runtime.transport.send(call)
        # The first submission of this session cannot answer a request for resubmission, so it asks Veriff for nothing.
        self._settings.memory.add_creation(info.id)
        # The end-user may submit the session on Veriff's page, and its webhook then belongs to the trace of this call.
        self._runtime.waiters.submissions.start_saving(info.id, is_submitted=False)
        return self._attach(info)

    async def validate_registry(
        self, person: Person | Mapping[str, object], **options: Unpack[RegistryOptions]
    ) -> VerificationSession:
        """Look a person up in registries, without pictures. The result is the decision of a new session.

        This call creates and submits the session; call `VerificationSession.wait_for_decision` next. Veriff requires a
        separate integration for it.

        Args:
            person: The person to look up, with ``id_number`` and a name.
            **options: ``address`` (required if the person has no date of birth), ``vendor_data``, ``end_user_id``,
                ``callback``, ``extra``; see `create_session`.

        Returns:
            The session.

        Raises:
            InvalidArgumentError: A value that registries need is missing, or Veriff would refuse one.
            OutcomeUnknownError: Nothing proves whether a session was created: the connection broke after the request
                was sent, or the response is a 5xx or unusable. ``.session_id`` is its id if that could be read.
            ApiError: Veriff refused, for example for a missing number (codes 1308 to 1310).

        Example:
            >>> person = Person(first_name="Ada", last_name="Byron", id_number="123456789", date_of_birth="1990-01-01")
            >>> session = await veriff.validate_registry(person, vendor_data="user-42")

        See https://devdocs.veriff.com/apidocs/v1validate-registry.
        """
        call = endpoints.validate_registry(person, options)
        _warn_about_end_user_id(options)
        info = await self._runtime.transport.send(call)
        await self._runtime.waiters.submissions.save(info.id)
        return self._attach(info)

    def session(self, session_id: str) -> VerificationSession:
        """Attach to an existing session without a request to Veriff, for example after a restart or in another process.

        Raises:
            InvalidArgumentError: The id is not a possible id of Veriff's.
        """
        return self._attach(SessionInfo(id=check_id("session_id", session_id)))

    async def submit(
        self,
        *,
        media: Sequence[Media],
        progress: Callable[[UploadProgress], None] | None = None,
        **options: Unpack[CreateOptions],
    ) -> VerificationSession:
        """Create a session, upload, and submit. Call `VerificationSession.wait_for_decision` next.

        All checks that are possible come before the session is created. For that, streams are read to their end: in
        memory while small, then into an unnamed temporary file.

        Args:
            media: The media to upload.
            progress: See `VerificationSession.upload`.
            **options: See `create_session`.

        Returns:
            The session, submitted.

        Raises:
            MediaError: A media cannot be uploaded; its ``media`` says which. Without a ``session_id`` nothing was sent.
            InvalidArgumentError: `media` is empty, or an argument is invalid.
            VeriffError: Any error of `create_session`, `VerificationSession.upload` or `VerificationSession.submit`.
                Its ``session_id`` is set if the session was created.

        Example:
            >>> session = await veriff.submit(media=[Media("front.jpg", "document-front")], vendor_data="user-42")
        """
        check_names("submit()", options, ("media", "progress", *CREATE_OPTIONS))
        return await self._submit(media, progress, options)

    async def verify(
        self,
        *,
        media: Sequence[Media],
        timeout: float | None = 900.0,  # noqa: ASYNC109  the timeout of the wait, see wait_for_decision
        progress: Callable[[UploadProgress], None] | None = None,
        on_resubmission: Callable[
            [Decision, VerificationSession], Awaitable[Sequence[Media] | None] | Sequence[Media] | None
        ]
        | None = None,
        max_resubmissions: int = 3,
        **options: Unpack[CreateOptions],
    ) -> Decision:
        """Create a session, upload, submit, and wait for the decision.

        All checks that are possible come before the session is created; see `submit`. With `on_resubmission`, the call
        answers requests for resubmission: it uploads better media to the same session, submits again, and waits for the
        next decision.

        Args:
            media: The media to upload.
            timeout: Seconds from the submission to the decision. With `on_resubmission` it is for all waits and the
                function together. Later uploads and submissions count, but are not interrupted.
            progress: See `VerificationSession.upload`.
            on_resubmission: A function, plain or async, of a decision that requests a resubmission and of the session.
                It returns the complete media of a new attempt, or ``None`` to stop with that decision. A plain function
                must not block. The decision's ``known_reason`` has a hint for the end-user.
            max_resubmissions: How many resubmissions this call makes; each is a new attempt, which is paid. When they
                are used up, another request for resubmission is returned as the decision.
            **options: See `create_session`.

        Returns:
            The decision.

        Raises:
            VeriffError: Any error of the steps, also of a later upload or submission. Its ``session_id`` is set if the
                session was created; the session then still exists, and `session` attaches to it. Any other exception,
                including a cancellation, has a note with the id.

        Example:
            >>> decision = await veriff.verify(media=[Media("front.jpg", "document-front")], vendor_data="user-42")
        """
        names = ("media", "timeout", "progress", "on_resubmission", "max_resubmissions", *CREATE_OPTIONS)
        check_names("verify()", options, names)
        # Before the session is created, since wrong arguments would be noticed only afterwards.
        wait = DecisionWait(seconds_of(timeout), progress, on_resubmission, max_resubmissions)
        session = await self._submit(media, progress, options)
        with with_session_id(session.id):
            return await wait.run(session)

    async def _submit(
        self, media: Sequence[Media], progress: Callable[[UploadProgress], None] | None, options: CreateOptions
    ) -> VerificationSession:
        check_function("progress", progress, takes=("an UploadProgress",), error=InvalidArgumentError)
        # The stack level of the caller of `submit` or `verify`, seen from there.
        prepared = await self._runtime.uploads.prepare(media, stacklevel=5)
        try:
            session = await self.create_session(**options)
        except BaseException:
            # A prepared stream holds a temporary file until it is closed.
            for item in prepared:
                item.close()
            raise
        with with_session_id(session.id):
            await self._runtime.uploads.send(session.id, prepared, progress=progress)
            await session.submit()
        return session

    async def attempt_media(self, attempt_id: str) -> MediaList:
        """Return the media that Veriff stores of one attempt.

        Args:
            attempt_id: The attempt, see `VerificationSession.attempts`.

        Returns:
            Pictures and videos, best first.

        Raises:
            NotFoundError: This integration has no such attempt.

        See https://devdocs.veriff.com/apidocs/v1attemptsidmedia-1.
        """
        return await self._runtime.transport.send(endpoints.attempt_media(attempt_id))

    async def download_media(
        self,
        media: MediaFile | str,
        target: str | os.PathLike[str],
        *,
        if_exists: IfExists = "error",
        max_bytes: int = MAX_DOWNLOAD_BYTES,
        progress: Callable[[DownloadProgress], None] | None = None,
    ) -> DownloadedMedia:
        """Download one media file, streamed and verified, into a file that only its owner can read.

        The file is written under a temporary name in the same folder, and renamed when it is complete and its signature
        is valid. An attempt that broke off is repeated from the beginning. Memory stays below 4 MiB for each running
        download.

        Args:
            media: The media file: an item of a list of media, or its id.
            target: A folder (one that exists, or ends with a slash and is made), or the file's own path. In a folder
                the name consists of the context of the file, its id and its type; names from Veriff are never used.
            if_exists: The action if the file exists: ``"error"`` raises, ``"replace"`` replaces it, and ``"skip"``
                keeps a file of the announced size as the finished download. ``"skip"`` fills an empty file, and raises
                for anything else of that name.
            max_bytes: Largest size of the file in bytes; 1 GiB by default.
            progress: Called in the event loop after each piece with a `DownloadProgress`; it must not block.

        Returns:
            The path, size and type of the file.

        Raises:
            MediaExistsError: The file exists, or with ``"skip"`` something exists that is not the finished download.
            MediaNotSavedError: The file cannot be written.
            NotFoundError: This integration has no such media.
            ResponseError: The signature does not match, or the body is compressed or larger than `max_bytes`; nothing
                is kept.
            ClientClosedError: The client was closed.

        Example:
            >>> for file in (await session.media()).images:
            ...     await veriff.download_media(file, "documents/")

        See https://devdocs.veriff.com/apidocs/v1mediaid-1.
        """
        from veriff_async._media.downloader import SaveOptions

        return await self._runtime.downloads.save(
            media, target, SaveOptions(if_exists=if_exists, max_bytes=max_bytes, progress=progress)
        )

    def stream_media(
        self, media: MediaFile | str, *, max_bytes: int = MAX_DOWNLOAD_BYTES
    ) -> AbstractAsyncContextManager[MediaStream]:
        """Stream a media file piece by piece, for example to your own storage.

        Leaving the block early closes the connection. Pieces arrive before their signature can be checked: they are
        authentic only if the iteration ends without an error. Nothing is repeated after the first piece.

        Args:
            media: The media file: an item of a list of media, or its id.
            max_bytes: Largest size of the file in bytes; 1 GiB by default.

        Returns:
            A context manager that returns a `MediaStream`; entering it raises `NotFoundError` if this integration has
            no such media.

        Example:
            >>> async with veriff.stream_media(media_id) as stream:
            ...     async for piece in stream:
            ...         await store.append(piece)

        See https://devdocs.veriff.com/apidocs/v1mediaid-1.
        """
        return self._runtime.downloads.stream(media, max_bytes=max_bytes)

    async def validate_registry_sync(
        self, person: Person | Mapping[str, object], **options: Unpack[RegistryOptions]
    ) -> Decision:
        """Look a person up in registries, and return the result directly.

        A separate host answers this call (`sync_url`), which Veriff enables on request. That the response has the form
        of a decision is a guess.

        Args:
            person: The person to look up, with ``id_number`` and a name.
            **options: See `VeriffClient.validate_registry`.

        Returns:
            The decision; ``additional_verified_data.validation_results`` has the result of each registry.

        Raises:
            InvalidArgumentError: A value that registries need is missing, or Veriff would refuse one.
            OutcomeUnknownError: Nothing proves whether a session was created; see `VeriffClient.create_session`.

        See https://devdocs.veriff.com/apidocs/validate-registry-3.
        """
        call = endpoints.validate_registry_sync(person, options)
        _warn_about_end_user_id(options)
        return await self._runtime.transport.send(call)

    async def import_faces(
        self,
        *,
        images: Sequence[FaceImage] = (),
        session_ids: Sequence[str] = (),
        extra: Mapping[str, object] | None = None,
    ) -> FaceImportReceipt:
        """Import faces to compare later sessions with. Veriff processes them in the background.

        Pictures and references to sessions are documented; the names of their JSON members are partly a guess, which
        `extra` can correct. Each picture counts toward the quota of your plan. The whole request is held in memory.

        Args:
            images: Pictures, each with your own name for it, which must not occur again within five minutes.
            session_ids: Sessions whose faces to import; 1 to 10 pictures and sessions in total.
            extra: Further members of the body, in Veriff's own names; they replace those of this library.

        Returns:
            The remaining quota.

        Raises:
            InvalidArgumentError: There are none or more than ten, or Veriff would refuse one. Nothing was sent.
            OutcomeUnknownError: Nothing proves whether the faces were imported.

        Example:
            >>> await veriff.import_faces(images=[FaceImage("customer-42-2026-11-28", picture)])

        See https://devdocs.veriff.com/apidocs/bulk-import-face-images.
        """
        return await self._runtime.transport.send(endpoints.import_faces(images, session_ids, extra or {}))

    async def fraud_categories(self) -> tuple[FraudCategoryInfo, ...]:
        """Return the categories of fraud that can be reported.

        Returns:
            The categories, each with Veriff's explanation.

        See https://devdocs.veriff.com/apidocs/get-fraud-categories.
        """
        return await self._runtime.transport.send(endpoints.fraud_categories())

    async def report_fraud(self, *reports: FraudReport) -> tuple[FraudReportReceipt, ...]:
        """Report frauds that were found after the decision.

        Veriff accepts or refuses each report separately.

        Args:
            *reports: One or more reports.

        Returns:
            One receipt for each report; ``is_reported`` says whether Veriff accepted it.

        Raises:
            InvalidArgumentError: Veriff would refuse a report; the message says why.
            OutcomeUnknownError: Nothing proves whether the reports arrived. If you send them again, Veriff refuses
                those that it already has.

        Example:
            >>> await veriff.report_fraud(FraudReport(session_id, FraudCategory.INJECTED_MEDIA))

        See https://devdocs.veriff.com/apidocs/report-fraud.
        """
        return await self._runtime.transport.send(endpoints.report_fraud(reports))

    async def fraud_reports(self, session_ids: Sequence[str]) -> tuple[FraudReportLookup, ...]:
        """Return the status of earlier fraud reports.

        Args:
            session_ids: The sessions that were reported, 1 to 10 of them.

        Returns:
            One lookup for each session.

        Raises:
            InvalidArgumentError: There are none, or more than ten.

        See https://devdocs.veriff.com/apidocs/retrieve-fraud-reports.
        """
        return await self._runtime.transport.send(endpoints.fraud_reports(session_ids))

    async def address(self, address_id: str) -> Decision | None:
        """Return an older proof of address by the id of its `AddressEvent`; path and form are guesses.

        Returns:
            The decision, or ``None`` while there is none.

        Raises:
            NotFoundError: This integration has no such address.
        """
        return await self._runtime.transport.send(endpoints.address(address_id))

    async def address_media(self, address_id: str) -> MediaList:
        """Return the media that Veriff stores of an older proof of address; path and form are guesses.

        Raises:
            NotFoundError: This integration has no such address.
        """
        return await self._runtime.transport.send(endpoints.address_media(address_id))

    def statistics(self) -> ClientStatistics:
        """Return the totals and the present load of the client; cheap enough to call every second.

        Example:
            >>> if veriff.statistics().inbox_state == "failing":
            ...     logger.warning("webhooks do not wake the waits of this process")
        """
        return collect_statistics(self._runtime)

    async def check(self, *, timeout: float = 5.0, max_age: float = 10.0) -> CheckReport:  # noqa: ASYNC109
        """Check whether Veriff accepts the requests of this client, for a readiness probe. Nothing is created.

        One request asks for the decision of a session that does not exist, with a connection of its own and without a
        retry. It checks that a response arrives, the clock, the credentials, and the signature of the response if
        Veriff signs it. Probes that arrive together share one request. While a 429 or 503 pauses the client nothing is
        sent: the last report stays, or there is a warning. The command ``veriff-async doctor`` checks more.

        Args:
            timeout: Seconds after which the check ends with the result that Veriff did not respond.
            max_age: Seconds for which a report is returned again instead of another request, also one with failures.
                With zero, each check that is not simultaneous with another sends a request.

        Returns:
            The report. An unreachable Veriff, refused credentials and a wrong signature are results in it, not errors.

        Raises:
            ClientClosedError: The client is closed.
            InvalidArgumentError: An argument is not a number of seconds.

        Example:
            >>> report = await veriff.check()
            >>> return JSONResponse(report.to_dict(), 200 if report.ok else 503)
        """
        return await self._runtime.health.check(timeout=timeout, max_age=max_age)

    def _attach(self, info: SessionInfo) -> VerificationSession:
        return VerificationSession(info, runtime=self._runtime)


def runtime_of(client: VeriffClient) -> Runtime:
    """Return the runtime of a client, for batches: they prepare media early, pace requests, and report by its means."""
    return client._runtime  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def _warm_up() -> None:
    """Create the classes and decoders of the most frequent responses now, so that the first response is not delayed."""
    from veriff_async.models.decision import Decision

    warm_up(SessionInfo, UploadedMedia, Decision)


def _warn_about_end_user_id(options: CreateOptions | RegistryOptions) -> None:
    """Warn at the caller of the client's method."""
    warning = warning_of_end_user_id(options.get("end_user_id"))
    if warning is not None:
        warnings.warn(warning, EndUserIdWarning, stacklevel=3)
