"""The client: one pool of connections, and everything that is shared over it."""

from __future__ import annotations

import logging
import warnings
from contextlib import asynccontextmanager, contextmanager
from os import environ as process_environment
from typing import TYPE_CHECKING, Final, Self, TypedDict, Unpack, cast

from anyio import CapacityLimiter
from attrs import field, frozen

from veriff_async._event_loop import require_asyncio
from veriff_async._http.pool import Pool, check_limits, check_proxies
from veriff_async._http.transport import Transport
from veriff_async._media.downloader import Downloader, SaveOptions
from veriff_async._media.uploader import Uploader
from veriff_async._protocol import endpoints
from veriff_async._protocol.arguments import check_flag, check_function, check_optional, type_name
from veriff_async._protocol.base_url import (
    BASE_URL_VARIABLE,
    DeprecatedHostWarning,
    base_url_from,
    deprecation,
    hosts_of,
    insecure_host,
    insecure_hosts,
    insecure_hosts_from,
)
from veriff_async._protocol.json.decode import warm_up
from veriff_async._protocol.limits import MAX_DOWNLOAD_BYTES
from veriff_async._protocol.option_names import check_names, explain_options, options_of
from veriff_async._protocol.request_arguments import check_credentials
from veriff_async._protocol.session_request import CREATE_OPTIONS, CreateOptions
from veriff_async._protocol.validation import EndUserIdWarning, check_id, warning_of_end_user_id
from veriff_async._waiting.decision_memory import DecisionMemory
from veriff_async._waiting.waiters import DecisionWaiters
from veriff_async.config import PollPolicy, RetryPolicy, Timeouts
from veriff_async.credentials import Credentials, environment_of
from veriff_async.errors import ConfigurationError, InvalidArgumentError, VeriffError
from veriff_async.models.decision import Decision
from veriff_async.models.media import UploadedMedia
from veriff_async.models.session import SessionInfo
from veriff_async.session import VerificationSession, seconds_of

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, Callable, Collection, Generator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from aiohttp import ClientSession

    from veriff_async._media.downloader import IfExists, MediaStream
    from veriff_async._protocol.base_url import Host
    from veriff_async._protocol.session_request import RegistryOptions
    from veriff_async.inbox._protocol import Inbox
    from veriff_async.models.faces import FaceImage, FaceImportReceipt
    from veriff_async.models.feedback import FraudCategoryInfo, FraudReport, FraudReportLookup, FraudReportReceipt
    from veriff_async.models.media import DownloadedMedia, DownloadProgress, Media, MediaFile, MediaList, UploadProgress
    from veriff_async.models.person import Person

__all__ = (
    "BASE_URL_VARIABLE",
    "FEEDBACK_URL_VARIABLE",
    "SYNC_URL_VARIABLE",
    "ClientOptions",
    "ClientStatistics",
    "VeriffClient",
    "open_session",
)

_log: Final = logging.getLogger(__name__)

_HOW_TO_CREATE: Final = (
    'Call VeriffClient(Credentials(api_key, shared_secret), base_url="https://..."), or VeriffClient.from_env().'
)

FEEDBACK_URL_VARIABLE: Final = "VERIFF_FEEDBACK_URL"
SYNC_URL_VARIABLE: Final = "VERIFF_SYNC_URL"


class ClientOptions(TypedDict, total=False):
    """The options of `VeriffClient`; every one has a default that is good for production."""

    feedback_url: str | None
    sync_url: str | None
    inbox: Inbox | None
    retry: RetryPolicy | None
    poll: PollPolicy | None
    timeouts: Timeouts | None
    max_connections: int
    max_uploads: int
    max_downloads: int
    http_session: ClientSession | None
    trust_env: bool
    allow_insecure_hosts: Collection[str]
    verify_responses: bool


class SessionOptions(ClientOptions, CreateOptions, total=False):
    """What `open_session` takes: the options of the client and of the session."""


@frozen(kw_only=True)
class _Parts:
    """What a client is made of, checked; kept to make it again when it is opened again."""

    hosts: dict[Host, str]
    inbox: Inbox | None
    retry: RetryPolicy
    poll: PollPolicy | None
    timeouts: Timeouts
    max_connections: int
    max_uploads: int
    max_downloads: int
    http_session: ClientSession | None
    trust_env: bool
    verify_responses: bool
    memory: DecisionMemory = field(factory=DecisionMemory)


@frozen(kw_only=True)
class ClientStatistics:
    """What a client has done, and does now.

    Attributes:
        requests: Tries of requests so far, retries included.
        retries: Tries that repeated an earlier one.
        rate_limited: Answers that asked the client to slow down (429 and 503).
        cooldown_remaining: Seconds until it goes on after the last of them; zero when it does.
        bytes_sent: Bytes of streamed bodies that were handed to connections.
        active_uploads: Uploads that run now.
        active_downloads: Downloads that run now.
        waiters: Coroutines that wait for a decision now.
    """

    requests: int
    retries: int
    rate_limited: int
    cooldown_remaining: float
    bytes_sent: int
    active_uploads: int
    active_downloads: int
    waiters: int


class VeriffClient:
    """A client for one integration; one for each event loop, used by any number of coroutines.

    Use it as ``async with VeriffClient(...) as veriff:``, or call `aclose` at the end. Connections are opened when
    first needed. ``async with`` opens a closed client again, in the same event loop or in another.

    Args:
        credentials: API key and secrets.
        base_url: The integration's own base URL, from its API Keys page in the Customer Portal; with or without
            ``/v1``. Plain http is allowed for this machine only, see `allow_insecure_hosts`. Veriff changes its API
            hosts on 9 December 2026: an old one gives a `DeprecatedHostWarning`.
        feedback_url: Host of the feedback API, for reports of fraud; Veriff's documented one when left out, or the
            sandbox's when `base_url` is of this machine.
        sync_url: Host of the synchronous check of registries, likewise. Veriff's default may change with the hosts of
            9 December 2026.
        inbox: Where a `WebhookReceiver` of this application records what Veriff posts, in this process or another;
            see `veriff_async.inbox`. It is not closed here.
        retry: How often and how long a call is tried.
        poll: How often decisions are asked for while somebody waits; with an `inbox` that is late and seldom when left
            out, and as often as without one while the inbox fails.
        timeouts: How long one try may take.
        max_connections: Connections of the pool.
        max_uploads: Uploads at once over the whole client; fewer than `max_connections`, so that other calls never
            queue behind pictures.
        max_downloads: Downloads at once over the whole client, likewise.
        http_session: An ``aiohttp.ClientSession`` to use instead of an own one, for a proxy or TLS of your own; it is
            never closed here. The ``limit`` and ``limit_per_host`` of its connector count in place of
            `max_connections`. Creations and other requests that must not be repeated have connections of their own,
            for which aiohttp counts ``limit_per_host`` separately.
        trust_env: Whether proxies (``HTTPS_PROXY``, ``NO_PROXY``) and ``~/.netrc`` are read from the environment, as
            aiohttp does; set it on your own session instead when you pass `http_session`.
        allow_insecure_hosts: Names of other machines that may be reached over plain http, for example the service name
            of a sandbox in Docker Compose. The API key and the pictures travel unencrypted to them; a warning is
            logged for each client. Hosts of Veriff are refused.
        verify_responses: Whether the signatures of answers are checked, where Veriff signs them.

    Raises:
        ConfigurationError: An option cannot work; the message names it.
        TypeError: An option is unknown; the message suggests the right name.

    Example:
        >>> async with VeriffClient.from_env() as veriff:
        ...     session = await veriff.create_session(vendor_data="user-42")

    See https://devdocs.veriff.com/docs/how-to-generate-sessions-manually.
    """

    @explain_options("VeriffClient", _HOW_TO_CREATE)
    def __init__(  # noqa: PLR0913  options are what a client is made of, and all but one have a default
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
        allow_insecure_hosts: Collection[str] = (),
        verify_responses: bool = True,
    ) -> None:
        """Check the options; nothing is opened yet."""
        check_credentials(credentials)
        for name, flag in (("trust_env", trust_env), ("verify_responses", verify_responses)):
            check_flag(name, flag)
        _check_parts(inbox=inbox, retry=retry, poll=poll, timeouts=timeouts)
        check_limits(max_connections, max_uploads, max_downloads, http_session)
        hosts = hosts_of(
            base_url,
            feedback_url=feedback_url,
            sync_url=sync_url,
            allow_insecure=insecure_hosts(allow_insecure_hosts),
        )
        check_proxies(http_session, trust_env=trust_env)
        warm_up(SessionInfo, UploadedMedia, Decision)
        self._root = hosts["api"]
        _warn_about_hosts(hosts)
        self._parts = _Parts(
            hosts=hosts,
            inbox=inbox,
            retry=retry or RetryPolicy(),
            poll=poll,
            timeouts=timeouts or Timeouts(),
            max_connections=max_connections,
            max_uploads=max_uploads,
            max_downloads=max_downloads,
            http_session=http_session,
            trust_env=trust_env,
            verify_responses=verify_responses,
        )
        self._connect(credentials)

    def _connect(self, credentials: Credentials) -> None:
        """Make everything that belongs to one event loop and ends with `aclose`."""
        parts = self._parts
        self._pool = Pool(parts.http_session, max_connections=parts.max_connections, trust_env=parts.trust_env)
        # One thread for each upload and download that is running, and a few for files that are inspected or spooled.
        threads = CapacityLimiter(parts.max_uploads + parts.max_downloads + 4)
        transport = self._transport = Transport(
            credentials=credentials,
            roots=parts.hosts,
            pool=self._pool,
            retry=parts.retry,
            timeouts=parts.timeouts,
            verify_responses=parts.verify_responses,
        )
        self._uploads = Uploader(transport, max_uploads=parts.max_uploads, threads=threads, idle=parts.timeouts.idle)
        self._downloads = Downloader(
            transport, max_downloads=parts.max_downloads, threads=threads, verify=parts.verify_responses
        )
        # A function of the transport, not of the client: an unclosed client must be collected, which makes it warn.
        self._waiters = DecisionWaiters(
            lambda session_id: transport.send(endpoints.decision(session_id)),
            poll=parts.poll,
            inbox=parts.inbox,
            memory=parts.memory,
        )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **options: Unpack[ClientOptions]) -> Self:
        """Make a client from ``VERIFF_BASE_URL`` and the variables of `Credentials.from_env`.

        ``VERIFF_FEEDBACK_URL`` and ``VERIFF_SYNC_URL`` are read too, and have documented defaults;
        ``VERIFF_ALLOW_INSECURE_HOSTS`` is a comma-separated list for `allow_insecure_hosts`.

        Args:
            environ: Where to look, instead of the environment of the process.
            **options: The options of the class.

        Raises:
            ConfigurationError: A variable is missing or cannot be right; the message names it.
            TypeError: An option is unknown; the message suggests the right name.
        """
        # A subclass may have options of its own, and pass the others on.
        both = dict.fromkeys((*options_of(VeriffClient), *options_of(cls)))
        known = [name for name in both if name not in {"credentials", "base_url"}]
        check_names(f"{cls.__name__}.from_env()", options, known)
        environment = environment_of(environ)
        credentials = Credentials.from_env(environment)
        return cls(credentials, base_url=base_url_from(environment), **(_other_hosts(environment) | options))

    @property
    def credentials(self) -> Credentials:
        """Who the client speaks as; set it to swap secrets while calls run.

        What begins afterwards is signed with the new ones. A call under way ends with those it was signed with, and its
        answer is checked with them; an upload whose secret was deleted meanwhile is an `AuthenticationError`, and can
        be made again.

        Raises:
            ConfigurationError: It is set to something that is no `Credentials`.

        Example:
            >>> veriff.credentials = veriff.credentials.with_rotated_secret(new_secret)
        """
        return self._transport.credentials

    @credentials.setter
    def credentials(self, credentials: Credentials) -> None:
        self._transport.credentials = check_credentials(credentials)

    def __repr__(self) -> str:
        """Show where it speaks to, nothing secret."""
        return f"<VeriffClient {self._root}{' closed' if self._pool.closed else ''}>"

    def __del__(self) -> None:
        """Warn when connections were left open."""
        pool = getattr(self, "_pool", None)
        if pool is not None and pool.open:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)

    async def __aenter__(self) -> Self:
        """Return the client, open again if it was closed: a framework may start and stop its application many times.

        It may be entered in another event loop than before. Sessions that were attached to it before stay closed.
        """
        require_asyncio()
        if self._pool.closed:
            self._connect(self.credentials)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the client."""
        await self.aclose()

    def end_waits(self) -> None:
        """End all waits for decisions at once with `ClientClosedError`, and every later one as soon as it begins.

        Other calls go on. It is for the moment when a server begins to stop: most servers wait for open requests first,
        and tell the application of the shutdown only afterwards; see `end_waits_on_signals`.
        """
        self._waiters.end()

    async def aclose(self) -> None:
        """End all waits and calls with `ClientClosedError`, and close the connections; a second call does nothing.

        Closing does not wait for the network: connections whose other side stopped reading are aborted.
        """
        require_asyncio()
        try:
            await self._waiters.aclose()
        finally:
            await self._pool.aclose()

    async def create_session(self, **options: Unpack[CreateOptions]) -> VerificationSession:
        """Create a session.

        What is left out is left out of the request too. Creating is not idempotent, so it is repeated only if
        the first try certainly created nothing.

        Args:
            **options: ``person`` (what you know of the end-user: a `Person` or a mapping of its fields),
                ``document`` (what you know of the document, likewise),
                ``address`` (their address, likewise), ``vendor_data`` (your own id of the end-user, up to 1000
                characters, no personal data), ``end_user_id`` (a UUID of your own; another text gives an
                `EndUserIdWarning`), ``callback`` (https address to send the end-user to afterwards), ``consents``
                (what the end-user agreed to, for products that need it),
                ``proof_of_address_types`` (kinds of paper to accept, for proof of address), ``extra`` (further members
                of ``verification``, in Veriff's own words).

        Returns:
            The session, in status ``created``.

        Raises:
            TypeError: An option is unknown; the message suggests the right name. Nothing was sent.
            InvalidArgumentError: A value would be refused; the message names the field. Nothing was sent.
            OutcomeUnknownError: Nothing proves whether a session was created: the connection broke after the request
                was sent, or the answer is a 5xx or unusable. ``.session_id`` is its id if that could be read.
            AuthenticationError: The API key is not right.
            ApiError: Veriff refused for another reason.

        Example:
            >>> session = await veriff.create_session(person=Person(first_name="Ada"), vendor_data="user-42")

        See https://devdocs.veriff.com/apidocs/v1sessions.
        """
        call = endpoints.create_session(options)
        _warn_about_end_user_id(options)
        info = await self._transport.send(call)
        self._parts.memory.add_creation(info.id)
        return self._attach(info)

    async def validate_registry(
        self, person: Person | Mapping[str, object], **options: Unpack[RegistryOptions]
    ) -> VerificationSession:
        """Have a person looked up in registries, without pictures; the result comes as the session's decision.

        The session is made and submitted by this call, so that `VerificationSession.wait_for_decision` is all that
        is left to do. It needs an integration of its own.

        Args:
            person: Whom to look up: ``id_number`` and a name are needed.
            **options: ``address`` (needed when the person has no date of birth), ``vendor_data``, ``end_user_id``,
                ``callback``, ``extra``; see `create_session`.

        Returns:
            The session.

        Raises:
            InvalidArgumentError: What the registries need is missing, or a value would be refused.
            OutcomeUnknownError: Nothing proves whether a session was created: the connection broke after the request
                was sent, or the answer is a 5xx or unusable. ``.session_id`` is its id if that could be read.
            ApiError: Veriff refused, for example for a missing number (codes 1308 to 1310).

        Example:
            >>> person = Person(first_name="Ada", last_name="Byron", id_number="123456789", date_of_birth="1990-01-01")
            >>> session = await veriff.validate_registry(person, vendor_data="user-42")

        See https://devdocs.veriff.com/apidocs/v1validate-registry.
        """
        call = endpoints.validate_registry(person, options)
        _warn_about_end_user_id(options)
        return self._attach(await self._transport.send(call))

    def session(self, session_id: str) -> VerificationSession:
        """Attach to a session that exists, without asking Veriff: in another process, or after a restart.

        Raises:
            InvalidArgumentError: The id cannot be one of Veriff's.
        """
        return self._attach(SessionInfo(id=check_id("session_id", session_id)))

    async def submit(
        self,
        *,
        media: Sequence[Media],
        progress: Callable[[UploadProgress], None] | None = None,
        **options: Unpack[CreateOptions],
    ) -> VerificationSession:
        """Create a session, upload, and submit; `VerificationSession.wait_for_decision` is left to do.

        Everything that can be checked is checked before the session is created. Streams are read to their end for that,
        in memory while small, then into an unnamed temporary file.

        Args:
            media: What to upload.
            progress: See `VerificationSession.upload`.
            **options: See `create_session`.

        Returns:
            The session, submitted.

        Raises:
            MediaError: A media cannot be uploaded; its ``media`` says which. Without a ``session_id`` nothing was sent.
            InvalidArgumentError: There is no media, or an argument cannot be right.
            VeriffError: What `create_session`, `VerificationSession.upload` and `VerificationSession.submit` raise. Its
                ``session_id`` names the session if it was created.

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
        **options: Unpack[CreateOptions],
    ) -> Decision:
        """Create a session, upload, submit, and wait for the decision.

        Everything that can be checked is checked before the session is created; see `submit`.

        Args:
            media: What to upload.
            timeout: Seconds to wait for the decision, once submitted.
            progress: See `VerificationSession.upload`.
            **options: See `create_session`.

        Returns:
            The decision.

        Raises:
            VeriffError: What the four steps raise. Its ``session_id`` names the session if it was created; then the
                session goes on, and `session` attaches to it. Another exception, cancellation included, has a note
                with the id.

        Example:
            >>> decision = await veriff.verify(media=[Media("front.jpg", "document-front")], vendor_data="user-42")
        """
        check_names("verify()", options, ("media", "timeout", "progress", *CREATE_OPTIONS))
        seconds_of(timeout)  # a wrong one must not be found out after the session was created
        session = await self._submit(media, progress, options)
        with _naming_session(session.id):
            return await session.wait_for_decision(timeout=timeout)

    async def _submit(
        self, media: Sequence[Media], progress: Callable[[UploadProgress], None] | None, options: CreateOptions
    ) -> VerificationSession:
        check_function("progress", progress, error=InvalidArgumentError)
        # Counted from there to the caller of `submit` or `verify`.
        prepared = await self._uploads.prepare(media, stacklevel=5)
        try:
            session = await self.create_session(**options)
        except BaseException:
            for item in prepared:
                item.close()
            raise
        with _naming_session(session.id):
            await self._uploads.send(session.id, prepared, progress=progress)
            await session.submit()
        return session

    async def attempt_media(self, attempt_id: str) -> MediaList:
        """Ask which media Veriff holds of one attempt.

        Args:
            attempt_id: The attempt, see `VerificationSession.attempts`.

        Returns:
            Pictures and videos, best first.

        Raises:
            NotFoundError: This integration knows no such attempt.

        See https://devdocs.veriff.com/apidocs/v1attemptsidmedia-1.
        """
        return await self._transport.send(endpoints.attempt_media(attempt_id))

    async def download_media(
        self,
        media: MediaFile | str,
        target: str | os.PathLike[str],
        *,
        if_exists: IfExists = "error",
        max_bytes: int = MAX_DOWNLOAD_BYTES,
        progress: Callable[[DownloadProgress], None] | None = None,
    ) -> DownloadedMedia:
        """Bring one media file down, streamed and verified, into a file for its owner alone.

        It is written beside its goal under another name, and renamed when it is whole and its signature holds. A try
        that broke off is repeated from the beginning. Memory stays below 2 MiB for each running download.

        Args:
            media: Which one: an item of a list of media, or its id.
            target: A folder (one that exists, or ends with a slash and is made), or the file's own path. In a folder
                the name is made of what the file shows, its id and its type, and never taken from Veriff.
            if_exists: What to do if the file exists: ``"error"`` raises, ``"replace"`` replaces it, and ``"skip"``
                keeps a file of the announced size as the finished download. ``"skip"`` fills an empty file, and raises
                for anything else of that name.
            max_bytes: Largest size of the file in bytes; 1 GiB by default.
            progress: Called on the loop after each piece with a `DownloadProgress`; it must not block.

        Returns:
            Where it is, its size and type.

        Raises:
            MediaExistsError: The file exists, or with ``"skip"`` something exists that is not the finished download.
            MediaNotSavedError: The file cannot be written.
            NotFoundError: This integration knows no such media.
            ResponseError: What came is not what was signed, is compressed, or is larger than `max_bytes`; nothing is
                kept.
            ClientClosedError: The client was closed.

        Example:
            >>> for file in (await session.media()).images:
            ...     await veriff.download_media(file, "documents/")

        See https://devdocs.veriff.com/apidocs/v1mediaid-1.
        """
        return await self._downloads.save(
            media, target, SaveOptions(if_exists=if_exists, max_bytes=max_bytes, progress=progress)
        )

    def stream_media(
        self, media: MediaFile | str, *, max_bytes: int = MAX_DOWNLOAD_BYTES
    ) -> AbstractAsyncContextManager[MediaStream]:
        """Hand a media file on piece by piece, for example to a store of your own.

        Leaving the block early closes the connection. Pieces come before their signature can be checked: only when the
        iteration ends without an error are they what Veriff signed. Nothing is repeated once pieces were handed on.

        Args:
            media: Which one: an item of a list of media, or its id.
            max_bytes: Largest size of the file in bytes; 1 GiB by default.

        Returns:
            A context manager that gives a `MediaStream`; entering it raises `NotFoundError` when this integration knows
            no such media.

        Example:
            >>> async with veriff.stream_media(media_id) as stream:
            ...     async for piece in stream:
            ...         await store.append(piece)

        See https://devdocs.veriff.com/apidocs/v1mediaid-1.
        """
        return self._downloads.stream(media, max_bytes=max_bytes)

    async def validate_registry_sync(
        self, person: Person | Mapping[str, object], **options: Unpack[RegistryOptions]
    ) -> Decision:
        """Look a person up in registries, and wait for the result in the answer.

        It is made by a host of its own (`sync_url`), which Veriff enables on request. That the answer has the form of
        a decision is a guess.

        Args:
            person: Whom to look up: ``id_number`` and a name are needed.
            **options: See `VeriffClient.validate_registry`.

        Returns:
            The result; what each registry says is in ``additional_verified_data.validation_results``.

        Raises:
            InvalidArgumentError: What the registries need is missing, or a value would be refused.
            OutcomeUnknownError: Nothing proves whether a session was created; see `VeriffClient.create_session`.

        See https://devdocs.veriff.com/apidocs/validate-registry-3.
        """
        call = endpoints.validate_registry_sync(person, options)
        _warn_about_end_user_id(options)
        return await self._transport.send(call)

    async def import_faces(
        self,
        *,
        images: Sequence[FaceImage] = (),
        session_ids: Sequence[str] = (),
        extra: Mapping[str, object] | None = None,
    ) -> FaceImportReceipt:
        """Import faces to compare later sessions with; Veriff goes on with it in the background.

        Pictures and references to sessions are documented; the names of the members they are sent in are partly a
        guess, which `extra` can correct. Each picture counts toward the quota of your plan. The whole request is held
        in memory.

        Args:
            images: Pictures, each with a name of your own that is not used again within five minutes.
            session_ids: Sessions whose faces to import; pictures and sessions are 1 to 10 together.
            extra: Further members of the body, in Veriff's own words; they go before those of this library.

        Returns:
            The quota that is left.

        Raises:
            InvalidArgumentError: There are none or more than ten, or one would be refused. Nothing was sent.
            OutcomeUnknownError: Nothing proves whether the faces were imported.

        Example:
            >>> await veriff.import_faces(images=[FaceImage("customer-42-2026-11-28", picture)])

        See https://devdocs.veriff.com/apidocs/bulk-import-face-images.
        """
        return await self._transport.send(endpoints.import_faces(images, session_ids, extra or {}))

    async def fraud_categories(self) -> tuple[FraudCategoryInfo, ...]:
        """Ask which kinds of fraud can be reported.

        Returns:
            The kinds, each with Veriff's explanation.

        See https://devdocs.veriff.com/apidocs/get-fraud-categories.
        """
        return await self._transport.send(endpoints.fraud_categories())

    async def report_fraud(self, *reports: FraudReport) -> tuple[FraudReportReceipt, ...]:
        """Report frauds that were found after the decision.

        A report is taken or refused on its own.

        Args:
            *reports: What to report; one or more.

        Returns:
            One receipt for each report: look at its ``is_reported``.

        Raises:
            InvalidArgumentError: A report would be refused; the message says why.
            OutcomeUnknownError: Nothing proves whether the reports arrived. If you send them again, Veriff refuses
                those that it already has.

        Example:
            >>> await veriff.report_fraud(FraudReport(session_id, FraudCategory.INJECTED_MEDIA))

        See https://devdocs.veriff.com/apidocs/report-fraud.
        """
        return await self._transport.send(endpoints.report_fraud(reports))

    async def fraud_reports(self, session_ids: Sequence[str]) -> tuple[FraudReportLookup, ...]:
        """Ask how reports stand.

        Args:
            session_ids: The sessions that were reported, 1 to 10 of them.

        Returns:
            One lookup for each session.

        Raises:
            InvalidArgumentError: There are none, or more than ten.

        See https://devdocs.veriff.com/apidocs/retrieve-fraud-reports.
        """
        return await self._transport.send(endpoints.fraud_reports(session_ids))

    async def address(self, address_id: str) -> Decision | None:
        """Ask for an older proof of address, by the id of its `AddressEvent`; path and form are guesses.

        Returns:
            The decision, or ``None`` while there is none.

        Raises:
            NotFoundError: This integration knows no such address.
        """
        return await self._transport.send(endpoints.address(address_id))

    async def address_media(self, address_id: str) -> MediaList:
        """Ask which media Veriff holds of an older proof of address; path and form are guesses.

        Raises:
            NotFoundError: This integration knows no such address.
        """
        return await self._transport.send(endpoints.address_media(address_id))

    def statistics(self) -> ClientStatistics:
        """Return what the client has done so far, and does now."""
        counters = self._transport.counters
        return ClientStatistics(
            requests=counters.requests,
            retries=counters.retries,
            rate_limited=counters.rate_limited,
            cooldown_remaining=self._transport.cooldown.remaining,
            bytes_sent=self._transport.bytes_sent,
            active_uploads=self._uploads.active,
            active_downloads=self._downloads.active,
            waiters=self._waiters.count,
        )

    def _attach(self, info: SessionInfo) -> VerificationSession:
        return VerificationSession(
            info, transport=self._transport, uploads=self._uploads, downloads=self._downloads, waiters=self._waiters
        )


def uploader_of(client: VeriffClient) -> Uploader:
    """Return the uploader of a client, for batches: they prepare media long before they send them."""
    return client._uploads  # noqa: SLF001


@contextmanager
def _naming_session(session_id: str) -> Generator[None]:
    """Make every exception say which session exists already, since it cannot be taken back."""
    try:
        yield
    except VeriffError as error:
        error.session_id = session_id
        raise
    except BaseException as error:
        error.add_note(f"Session {session_id} was created before.")
        raise


@asynccontextmanager
async def open_session(
    credentials: Credentials | None = None, *, base_url: str | None = None, **options: Unpack[SessionOptions]
) -> AsyncGenerator[VerificationSession]:
    """Create one session with a client of its own, which is closed with the block.

    Args:
        credentials: API key and secrets; from the environment when left out.
        base_url: The integration's base URL; ``VERIFF_BASE_URL`` when left out.
        **options: The options of `VeriffClient` and of `VeriffClient.create_session`.

    Example:
        >>> async with open_session(vendor_data="user-42") as session:
        ...     await session.upload(Media("front.jpg", "document-front"))
    """
    require_asyncio()
    known_names = ("credentials", "base_url", *ClientOptions.__annotations__, *CREATE_OPTIONS)
    check_names("open_session()", options, known_names)
    client_options, create_options = _parted(options)
    known = credentials or Credentials.from_env()
    hosts = _other_hosts(process_environment) | client_options
    async with VeriffClient(known, base_url=base_url or base_url_from(process_environment), **hosts) as client:
        yield await client.create_session(**create_options)


def _check_parts(*, inbox: object, retry: object, poll: object, timeouts: object) -> None:
    """Refuse what would fail at the first use only."""
    check_optional("retry", retry, RetryPolicy, remedy="pass RetryPolicy(...), or None for the default")
    check_optional("poll", poll, PollPolicy, remedy="pass PollPolicy(...), or None for the default")
    check_optional("timeouts", timeouts, Timeouts, remedy="pass Timeouts(...), or None for the defaults")
    methods = (callable(getattr(inbox, name, None)) for name in ("record", "get_states", "subscribe"))
    if inbox is not None and (isinstance(inbox, type) or not all(methods)):
        msg = f"inbox must be an Inbox, not {type_name(inbox)}: pass for example MemoryInbox(), or leave it out."
        raise ConfigurationError(msg)


def _other_hosts(environ: Mapping[str, str]) -> ClientOptions:
    found: ClientOptions = {}
    if feedback_url := environ.get(FEEDBACK_URL_VARIABLE, "").strip():
        found["feedback_url"] = feedback_url
    if sync_url := environ.get(SYNC_URL_VARIABLE, "").strip():
        found["sync_url"] = sync_url
    if allowed := insecure_hosts_from(environ):
        found["allow_insecure_hosts"] = allowed
    return found


def _warn_about_hosts(hosts: Mapping[Host, str]) -> None:
    """Warn once for each client, at the caller of `VeriffClient`."""
    if (old := deprecation(hosts["api"])) is not None:
        warnings.warn(old, DeprecatedHostWarning, stacklevel=4)
    for host in sorted({host for root in hosts.values() if (host := insecure_host(root)) is not None}):
        _log.warning("Requests to %s are not encrypted: allow_insecure_hosts permits plain http to it.", host)


def _warn_about_end_user_id(options: CreateOptions | RegistryOptions) -> None:
    """Warn at the caller of the client's method."""
    warning = warning_of_end_user_id(options.get("end_user_id"))
    if warning is not None:
        warnings.warn(warning, EndUserIdWarning, stacklevel=3)


def _parted(options: SessionOptions) -> tuple[ClientOptions, CreateOptions]:
    own = {name: value for name, value in options.items() if name in ClientOptions.__annotations__}
    create = {name: value for name, value in options.items() if name not in own}
    return cast("ClientOptions", own), cast("CreateOptions", create)
