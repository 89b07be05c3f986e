"""Written by tests/blocking/test_signatures.py from the asynchronous classes; do not edit."""

from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Self
from typing import Unpack
from veriff_async._media.file_writer import IfExists
from veriff_async._protocol.limits import MAX_DOWNLOAD_BYTES
from veriff_async._protocol.session_request import CreateOptions
from veriff_async._protocol.session_request import RegistryOptions
from veriff_async.blocking._client import ClientBase
from veriff_async.config import CallOptions
from veriff_async.config import PollPolicy
from veriff_async.credentials import Credentials
from veriff_async.health import CheckReport
from veriff_async.models.attempt import Attempt
from veriff_async.models.certificate import Certificate
from veriff_async.models.certificate import SourceDocument
from veriff_async.models.collected import CollectedData
from veriff_async.models.collected import CollectedReceipt
from veriff_async.models.decision import Decision
from veriff_async.models.enums import Status
from veriff_async.models.faces import FaceImage
from veriff_async.models.faces import FaceImportReceipt
from veriff_async.models.feedback import FraudCategoryInfo
from veriff_async.models.feedback import FraudReport
from veriff_async.models.feedback import FraudReportLookup
from veriff_async.models.feedback import FraudReportReceipt
from veriff_async.models.fullauto import FullAutoDecision
from veriff_async.models.media import DownloadProgress
from veriff_async.models.media import DownloadedMedia
from veriff_async.models.media import Media
from veriff_async.models.media import MediaFile
from veriff_async.models.media import MediaList
from veriff_async.models.media import NfcData
from veriff_async.models.media import Timestamp
from veriff_async.models.media import UploadProgress
from veriff_async.models.media import UploadedMedia
from veriff_async.models.person import Person
from veriff_async.models.record import PersonRecord
from veriff_async.models.registry import CurpResult
from veriff_async.models.registry import IneCurpResult
from veriff_async.models.registry import IneResult
from veriff_async.models.registry import TransportationResult
from veriff_async.models.state import SessionState
from veriff_async.models.watchlist import Monitoring
from veriff_async.models.watchlist import WatchlistScreening
from veriff_async.statistics import ClientStatistics
import os

class BlockingMediaStream:
    """An open download: iterate over its pieces.

    You get each piece as it arrives, before the signature of the whole file can be checked. Use the result only when
    the iteration has ended without an error.

    Attributes:
        media_id: Id of the media file.
        mimetype: MIME type as Veriff wrote it.
        size: Size in bytes, or ``None`` when Veriff does not state it.
    """

    @property
    def media_id(self) -> str: ...

    @property
    def mimetype(self) -> str | None: ...

    @property
    def size(self) -> int | None: ...

    def __iter__(self) -> Self: ...

    def __next__(self) -> bytes: ...

class BlockingSession:
    """A session at Veriff, attached to a client.

    `BlockingClient.create_session` and `BlockingClient.session` return it; do not create it yourself.

    Each call raises `NotFoundError` if this integration has no such session, or if the product that the call needs is
    not enabled; `ApiError` if Veriff refuses for another reason; `ResponseError` if the response is not signed with a
    known secret or cannot be parsed; `TransportError` if no response arrived and the retries are used up; and
    `ClientClosedError` if the client is closed. Methods name the errors that need attention besides these.

    Attributes:
        id: Id of the session.
        url: Page for the end-user, or ``None`` for a session that was not created through this object. Anyone who has
            it can act as the end-user.
        vendor_data: The ``vendor_data`` of the creation, or ``None`` for a session that was not created through this
            object.
    """

    @property
    def id(self) -> str: ...

    @property
    def url(self) -> str | None: ...

    @property
    def vendor_data(self) -> str | None: ...

    @property
    def status(self) -> Status | None:
        """The last status that this object knows of, or ``None``."""

    def with_options(self, **options: Unpack[CallOptions]) -> Self:
        """Return a view of this object that makes calls with other options; see `BlockingClient.with_options`.

        The view and this object share what they know of the session, for example `status`.

        Raises:
            ConfigurationError: A value is invalid; the message names the option.
            TypeError: An option is unknown, or belongs to the client and cannot differ for a view.

        Example:
            >>> session.with_options(timeouts=Timeouts(idle=120)).upload(Media("video.mp4", "document-front"))
        """

    def upload(self, *media: Media, concurrency: int | None=None, progress: Callable[[UploadProgress], None] | None=None, on_uploaded: Callable[[int, UploadedMedia], None] | None=None) -> list[UploadedMedia]:
        """Upload pictures or PDFs concurrently, streamed and signed.

        Media that can be read twice are checked before the first byte is sent, as `check_media` does. A stream is
        checked while it is read, when other uploads may already be complete, so that it does not delay them. The first
        failure cancels the other uploads; its ``media`` names the media that failed, and its ``uploaded`` has the
        receipts of the complete uploads. An attempt that broke off is repeated, so Veriff may store a picture twice
        (`UploadedMedia.repeated`). Memory stays below 2 MiB for each running upload of
        a file, and below 3 MiB for a stream that can be read only once.

        Args:
            media: The media to upload; several may have the same context.
            concurrency: Largest number of concurrent uploads of this call; by default, and at most, the client's
                ``max_uploads``.
            progress: Called in the event loop after each piece with an `UploadProgress`; it must not block.
            on_uploaded: Called in a thread after each upload with the index of the media and its receipt, while other uploads
                continue. Use it to persist receipts. An exception of it ends the call.

        Returns:
            The receipts, in the order of `media`.

        Raises:
            MediaError: A file is missing, empty, too large, of a type that Veriff does not accept, or changed during
                the upload.
            InvalidArgumentError: A context, timestamp or source is invalid.
            ConflictError: The session was already submitted.
            NotFoundError: This integration has no such session.
            ApiError: Veriff refused for another reason.
            TransportError: No response arrived, and the retries are used up.

        Example:
            >>> session.upload(Media("front.jpg", "document-front"), Media("selfie.heic", "face"))

        See https://devdocs.veriff.com/apidocs/v1sessionsidmedia-3.
        """

    def submit(self) -> None:
        """Submit the session for a decision. Upload all media before.

        If a retry finds that an earlier attempt of this call has submitted the session, the call succeeds. If the
        submission answers a request for resubmission, later waits expect a newer decision: those of this client through
        any session object and, with an inbox, those of every process. That applies from before the submission is sent,
        also if its response is lost or the process is killed, until Veriff certainly refuses it. After such a failure,
        submit again; code 1304 then means that the first submission arrived. If neither this client nor the inbox knows
        whether there was such a request, this call asks Veriff for the decision first, except for the first submission
        of a session that this client created.

        Raises:
            BadRequestError: The session cannot be submitted from where it is (code 1304), for example twice.
            NotFoundError: This integration has no such session.
            ApiError: Veriff refused for another reason.
            TransportError: No response arrived, and the retries are used up.

        See https://devdocs.veriff.com/apidocs/v1sessionsid-2.
        """

    def download_all(self, folder: str | os.PathLike[str], *, concurrency: int | None=None, if_exists: IfExists='error', max_bytes: int=MAX_DOWNLOAD_BYTES, all_attempts: bool=False, progress: Callable[[DownloadProgress], None] | None=None) -> list[DownloadedMedia]:
        """Download the session's media concurrently; see `BlockingClient.download_media` for each.

        The first failure cancels the others; its ``downloaded`` has the complete downloads, and another call with
        ``if_exists="skip"`` downloads the rest.

        Args:
            folder: The folder for the files; it is created if it is missing.
            concurrency: Largest number of concurrent downloads of this call, 4 by default; never more than the client's
                ``max_downloads``.
            if_exists: The action for files that exist: ``"error"``, ``"replace"`` or ``"skip"``, which keeps files of
                the announced size.
            max_bytes: Largest size of each file in bytes; 1 GiB by default.
            all_attempts: Whether to download the media of all attempts, not only of the newest.
            progress: Called in the event loop after each piece with a `DownloadProgress`; it must not block.

        Returns:
            The downloaded files; pictures first, then videos and data of chips.

        Raises:
            InvalidArgumentError: `concurrency` or `if_exists` is invalid.
            MediaExistsError: A file already exists.
            MediaNotSavedError: The folder or a file cannot be written.
            NotFoundError: This integration has no such session.
            ResponseError: A signature does not match; the file is not kept.

        Example:
            >>> files = session.download_all("documents")

        See https://devdocs.veriff.com/apidocs/v1sessionsidmedia-2.
        """

    def download_certificate_document(self, certificate: Certificate | str, document: SourceDocument | str, target: str | os.PathLike[str], *, if_exists: IfExists='error', max_bytes: int=MAX_DOWNLOAD_BYTES, progress: Callable[[DownloadProgress], None] | None=None) -> DownloadedMedia:
        """Save a document that a certificate covers, streamed and verified as `BlockingClient.download_media` does.

        Args:
            certificate: The certificate or its id, see `certificates`.
            document: One of its `source_documents`, or its id.
            target: A folder (one that exists, or ends with a slash and is created), or the file's own path.
            if_exists: The action if the file exists: ``"error"``, ``"replace"`` or ``"skip"``.
            max_bytes: Largest size of the file in bytes; 1 GiB by default.
            progress: Called in the event loop after each piece with a `DownloadProgress`; it must not block.

        Returns:
            The path, size and type of the file.

        Raises:
            MediaExistsError: The file exists.
            MediaNotSavedError: The file cannot be written.
            NotFoundError: This integration has no such session, certificate or document.
            ResponseError: The signature does not match; nothing is kept.

        Example:
            >>> for certificate in session.certificates():
            ...     for document in certificate.source_documents:
            ...         session.download_certificate_document(certificate, document, "certificates/")

        See https://devdocs.veriff.com/apidocs/download-certificate-source-document.
        """

    def stream_certificate_document(self, certificate: Certificate | str, document: SourceDocument | str, *, max_bytes: int=MAX_DOWNLOAD_BYTES) -> AbstractContextManager[BlockingMediaStream]:
        """Stream a document that a certificate covers piece by piece; see `BlockingClient.stream_media`.

        Args:
            certificate: The certificate or its id, see `certificates`.
            document: One of its `source_documents`, or its id.
            max_bytes: Largest size of the document in bytes; 1 GiB by default.

        Returns:
            A context manager that returns a `BlockingMediaStream`; entering it raises `NotFoundError` if this integration has
            no such session, certificate or document.

        See https://devdocs.veriff.com/apidocs/download-certificate-source-document.
        """

    def upload_nfc(self, nfc: NfcData) -> UploadedMedia:
        """Upload the data of the chip of an e-passport.

        The JSON members of request and response are guesses.

        Args:
            nfc: The four files, as raw bytes.

        Returns:
            The receipt.

        Raises:
            InvalidArgumentError: One of the four is missing.
            ConflictError: The session was already submitted.

        See https://devdocs.veriff.com/apidocs/v1sessionsidmedia-3.
        """

    def send_collected_data(self, data: CollectedData) -> CollectedReceipt:
        """Send data about the end-user's device and network, before the submission.

        Args:
            data: The data that you have; omit the rest.

        Returns:
            The attempt that Veriff assigned the data to.

        Raises:
            InvalidArgumentError: A required value is missing, or Veriff would refuse one.
            OutcomeUnknownError: Nothing proves whether the data arrived. Whether Veriff stores them twice is not
                documented.

        Example:
            >>> device, network = Device(fingerprint="f1"), Network(address_v4="192.0.2.1")
            >>> session.send_collected_data(CollectedData(provider_name="us", device=device, network=network))

        See https://devdocs.veriff.com/apidocs/v1sessionsidcollected-data-1.
        """

    def media(self) -> MediaList:
        """Return the media that Veriff stores of the newest attempt; see `BlockingClient.attempt_media` for older ones.

        Returns:
            Pictures and videos, best first, and data of chips.

        See https://devdocs.veriff.com/apidocs/v1sessionsidmedia-2.
        """

    def attempts(self) -> tuple[Attempt, ...]:
        """Return the attempts of the end-user.

        Returns:
            The attempts, newest first.

        See https://devdocs.veriff.com/apidocs/v1sessionsidattempts-1.
        """

    def person(self) -> PersonRecord:
        """Return the person, with matches in lists of politically exposed persons and sanctions.

        Returns:
            The person; the data were read from the document or given at creation.

        See https://devdocs.veriff.com/apidocs/v1sessionsidperson-1.
        """

    def watchlist_screening(self) -> WatchlistScreening:
        """Return the result of the watchlist screening, for integrations with that product.

        Returns:
            The newest result.

        See https://devdocs.veriff.com/apidocs/v1sessionsidwatchlist-screening-1.
        """

    def certificates(self) -> tuple[Certificate, ...]:
        """Return the certificates that prove which data Veriff stored, for integrations with that product.

        Returns:
            The certificates; `download_certificate_document` saves the documents that they cover.

        See https://devdocs.veriff.com/apidocs/list-session-certificates.
        """

    def stop_monitoring(self) -> Monitoring:
        """Stop monitoring watchlists for the person. The API cannot start it again.

        Returns:
            The state of the monitoring, ``disabled``.

        Raises:
            BadRequestError: The monitoring was stopped before.

        See https://devdocs.veriff.com/apidocs/v1sessionsidwatchlist-screening.
        """

    def full_auto_decision(self) -> FullAutoDecision | None:
        """Return a decision that was made without a human, for integrations of the Essential plan.

        The call was seen in other clients; Veriff does not document it any more.

        Returns:
            The decision, or ``None`` while there is none, and also for a session that does not exist.

        See https://devdocs.veriff.com/docs/essential-plan-full-auto.
        """

    def ine_registry(self) -> IneResult:
        """Return the result of Mexico's INE registry, for integrations with the older product.

        See https://devdocs.veriff.com/apidocs/v1sessionsiddecisionine-registry-1.
        """

    def curp_registry(self) -> CurpResult:
        """Return the result of Mexico's CURP registry, for integrations with the older product.

        See https://devdocs.veriff.com/apidocs/v1sessionsiddecisioncurp-registry-1.
        """

    def ine_curp_registry(self) -> IneCurpResult:
        """Return the results of both of Mexico's registries, for integrations with the older product.

        See https://devdocs.veriff.com/apidocs/v1sessionsiddecisioncombined-ine-curp-registry-1.
        """

    def timestamps(self) -> tuple[Timestamp, ...]:
        """Return trusted timestamps of the media; a guess, seen in an older client only."""

    def transportation_registry(self) -> TransportationResult:
        """Return the result of a registry of driving licences; a guess, of an older product."""

    def delete(self) -> None:
        """Delete the session with all its data, if the integration is allowed to.

        Veriff deletes the session immediately, and its data within twelve hours. A session without a decision ends with
        one, which Veriff reports by webhook. Veriff allows five deletions an hour and ten a day.

        Raises:
            BadRequestError: The session is submitted or in review (code 1305): delete it when it is decided.
            PermissionDeniedError: Deletion is not enabled for the integration, as by default.
            NotFoundError: This integration has no such session.
            RateLimitedError: Too many deletions.
            ApiError: Veriff refused for another reason.
            TransportError: No response arrived, and the retries are used up.

        See https://devdocs.veriff.com/apidocs/v1sessionsid-3.
        """

    def decision(self) -> Decision | None:
        """Return the decision, or ``None`` while there is none. This asks Veriff once.

        Returns:
            The decision, or ``None``. During a resubmission it is the decision that asked for the resubmission.

        Raises:
            NotFoundError: This integration has no such session.
            ApiError: Veriff refused for another reason.
            ResponseError: The response is not signed with a known secret, or cannot be parsed.
            TransportError: No response arrived, and the retries are used up.

        See https://devdocs.veriff.com/apidocs/v1sessionsiddecision-1.
        """

    def wait_for_decision(self, *, timeout: float | None=900.0, until: Callable[[Decision], bool] | None=None, poll: PollPolicy | None=None) -> Decision:
        """Wait until Veriff has decided. A webhook or a poll, depending on which is first, ends the wait.

        With an inbox (see `BlockingClient`), a webhook that any process of the application has recorded ends the wait,
        also if it arrived before the wait began or before a restart. Polling is then a fallback for lost webhooks, and
        for the time in which the inbox fails. All waits of a client share one poller and one subscription. If this
        object returned a decision that asks for a resubmission, or `submit` answered it, the next wait expects a newer
        decision. A cancelled wait leaves nothing behind.

        Args:
            timeout: Seconds to wait, or ``None`` for no limit (a decision can take days). Zero asks once: it returns a
                decision that the inbox has, or that Veriff returns now.
            until: Returns whether a decision ends the wait. By default each one does except ``review``, which another
                decision follows.
            poll: How often to poll for this wait, also while an inbox works; by default, the client's policy decides.
                Its ``max_rate`` has no effect: one poller serves all waits of the client.

        Returns:
            The decision; check its ``status``. Its ``source`` is how this client received it.

        Raises:
            InvalidArgumentError: The timeout is not a number of seconds, or is below zero; or `until` is not a plain
                function.
            DecisionTimeoutError: No such decision arrived in time; waiting again is safe.
            ClientClosedError: The client was closed during the wait.
            NotFoundError: This integration has no such session. While the inbox works, only for a session that is
                unknown to both the inbox and this client.
            ApiError: Veriff refuses to answer (401, 403 or another 4xx), and no inbox works. While an
                inbox works, and for 429 and 5xx, the wait continues.
            ResponseError: Three responses in a row could not be parsed or verified, and no inbox works.
            TransportError: With ``timeout=0`` only: no response arrived, and the retries are used up.

        See https://devdocs.veriff.com/apidocs/v1sessionsiddecision-1.
        """

    def watch(self, *, timeout: float | None=None, poll: PollPolicy | None=None, status: Status | str | None=None) -> Generator[SessionState]:
        """Watch the states of the session, for example to show them live on a page.

        The first state is the present one, and the last one is final: ``approved``, ``declined``, ``expired`` or
        ``abandoned``. A request for a resubmission does not end the watch, since the session continues. States come
        from webhooks that any process has recorded, from polls, and from `submit` of this client; ``started``, and a
        ``submitted`` of another process, from webhooks only. Any number of watches and waits for the same session cost
        one poll and one lookup in the inbox. No state comes twice, and none that is older than the one before. A
        consumer that is slow gets the latest state only.

        Nothing remains of a watch that has ended, was closed (``aclose``), or was left by ``break``, an exception or a
        cancellation, as soon as no variable or stored traceback refers to it. A cancelled step does not end it.

        Args:
            timeout: Seconds in which a final state must come, from the first step on, or ``None`` for no limit.
            poll: How often to poll for this watch, also while an inbox works; by default, the client's policy decides.
            status: The status that your program has stored, for example ``"submitted"``. By default, Veriff is asked
                about a session that neither this object nor the inbox knows: for its decision, and for its attempts.

        Returns:
            An iterator of `SessionState`. The decision is its ``effective_decision``, which each final state has.

        Raises:
            InvalidArgumentError: An argument is invalid. The other errors are raised by a step of the iteration, after
                the latest state was returned.
            DecisionTimeoutError: No final state came in time; watching again is safe.
            ClientClosedError: The client was closed.
            NotFoundError: This integration has no such session; see `wait_for_decision`.
            ApiError: Veriff refuses to answer, and no inbox works; see `wait_for_decision`.
            ResponseError: Three responses in a row could not be parsed or verified, and no inbox works.

        Example:
            >>> for state in session.watch():
            ...     websocket.send_json({"status": state.status})
        """

class BlockingClient(ClientBase):
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
            >>> decision = veriff.with_options(timeouts=Timeouts(total=5)).session(session_id).decision()
        """

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

    @credentials.setter
    def credentials(self, credentials: Credentials) -> None:
        ...

    def end_waits(self) -> None:
        """End all waits for decisions with `ClientClosedError`, and each later one as soon as it begins.

        Other calls continue. Call it when a server begins to stop: most servers wait for open requests first, and
        notify the application of the shutdown only afterwards; see `end_waits_on_signals`.
        """

    def create_session(self, **options: Unpack[CreateOptions]) -> BlockingSession:
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
            >>> session = veriff.create_session(person=Person(first_name="Ada"), vendor_data="user-42")

        See https://devdocs.veriff.com/apidocs/v1sessions.
        """

    def validate_registry(self, person: Person | Mapping[str, object], **options: Unpack[RegistryOptions]) -> BlockingSession:
        """Look a person up in registries, without pictures. The result is the decision of a new session.

        This call creates and submits the session; call `BlockingSession.wait_for_decision` next. Veriff requires a
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
            >>> session = veriff.validate_registry(person, vendor_data="user-42")

        See https://devdocs.veriff.com/apidocs/v1validate-registry.
        """

    def session(self, session_id: str) -> BlockingSession:
        """Attach to an existing session without a request to Veriff, for example after a restart or in another process.

        Raises:
            InvalidArgumentError: The id is not a possible id of Veriff's.
        """

    def submit(self, *, media: Sequence[Media], progress: Callable[[UploadProgress], None] | None=None, **options: Unpack[CreateOptions]) -> BlockingSession:
        """Create a session, upload, and submit. Call `BlockingSession.wait_for_decision` next.

        All checks that are possible come before the session is created. For that, streams are read to their end: in
        memory while small, then into an unnamed temporary file.

        Args:
            media: The media to upload.
            progress: See `BlockingSession.upload`.
            **options: See `create_session`.

        Returns:
            The session, submitted.

        Raises:
            MediaError: A media cannot be uploaded; its ``media`` says which. Without a ``session_id`` nothing was sent.
            InvalidArgumentError: `media` is empty, or an argument is invalid.
            VeriffError: Any error of `create_session`, `BlockingSession.upload` or `BlockingSession.submit`.
                Its ``session_id`` is set if the session was created.

        Example:
            >>> session = veriff.submit(media=[Media("front.jpg", "document-front")], vendor_data="user-42")
        """

    def verify(self, *, media: Sequence[Media], timeout: float | None=900.0, progress: Callable[[UploadProgress], None] | None=None, on_resubmission: Callable[[Decision, BlockingSession], Sequence[Media] | None] | None=None, max_resubmissions: int=3, **options: Unpack[CreateOptions]) -> Decision:
        """Create a session, upload, submit, and wait for the decision.

        All checks that are possible come before the session is created; see `submit`. With `on_resubmission`, the call
        answers requests for resubmission: it uploads better media to the same session, submits again, and waits for the
        next decision.

        Args:
            media: The media to upload.
            timeout: Seconds from the submission to the decision. With `on_resubmission` it is for all waits and the
                function together. Later uploads and submissions count, but are not interrupted.
            progress: See `BlockingSession.upload`.
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
            >>> decision = veriff.verify(media=[Media("front.jpg", "document-front")], vendor_data="user-42")
        """

    def attempt_media(self, attempt_id: str) -> MediaList:
        """Return the media that Veriff stores of one attempt.

        Args:
            attempt_id: The attempt, see `BlockingSession.attempts`.

        Returns:
            Pictures and videos, best first.

        Raises:
            NotFoundError: This integration has no such attempt.

        See https://devdocs.veriff.com/apidocs/v1attemptsidmedia-1.
        """

    def download_media(self, media: MediaFile | str, target: str | os.PathLike[str], *, if_exists: IfExists='error', max_bytes: int=MAX_DOWNLOAD_BYTES, progress: Callable[[DownloadProgress], None] | None=None) -> DownloadedMedia:
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
            >>> for file in (session.media()).images:
            ...     veriff.download_media(file, "documents/")

        See https://devdocs.veriff.com/apidocs/v1mediaid-1.
        """

    def stream_media(self, media: MediaFile | str, *, max_bytes: int=MAX_DOWNLOAD_BYTES) -> AbstractContextManager[BlockingMediaStream]:
        """Stream a media file piece by piece, for example to your own storage.

        Leaving the block early closes the connection. Pieces arrive before their signature can be checked: they are
        authentic only if the iteration ends without an error. Nothing is repeated after the first piece.

        Args:
            media: The media file: an item of a list of media, or its id.
            max_bytes: Largest size of the file in bytes; 1 GiB by default.

        Returns:
            A context manager that returns a `BlockingMediaStream`; entering it raises `NotFoundError` if this integration has
            no such media.

        Example:
            >>> with veriff.stream_media(media_id) as stream:
            ...     for piece in stream:
            ...         store.append(piece)

        See https://devdocs.veriff.com/apidocs/v1mediaid-1.
        """

    def validate_registry_sync(self, person: Person | Mapping[str, object], **options: Unpack[RegistryOptions]) -> Decision:
        """Look a person up in registries, and return the result directly.

        A separate host answers this call (`sync_url`), which Veriff enables on request. That the response has the form
        of a decision is a guess.

        Args:
            person: The person to look up, with ``id_number`` and a name.
            **options: See `BlockingClient.validate_registry`.

        Returns:
            The decision; ``additional_verified_data.validation_results`` has the result of each registry.

        Raises:
            InvalidArgumentError: A value that registries need is missing, or Veriff would refuse one.
            OutcomeUnknownError: Nothing proves whether a session was created; see `BlockingClient.create_session`.

        See https://devdocs.veriff.com/apidocs/validate-registry-3.
        """

    def import_faces(self, *, images: Sequence[FaceImage]=(), session_ids: Sequence[str]=(), extra: Mapping[str, object] | None=None) -> FaceImportReceipt:
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
            >>> veriff.import_faces(images=[FaceImage("customer-42-2026-11-28", picture)])

        See https://devdocs.veriff.com/apidocs/bulk-import-face-images.
        """

    def fraud_categories(self) -> tuple[FraudCategoryInfo, ...]:
        """Return the categories of fraud that can be reported.

        Returns:
            The categories, each with Veriff's explanation.

        See https://devdocs.veriff.com/apidocs/get-fraud-categories.
        """

    def report_fraud(self, *reports: FraudReport) -> tuple[FraudReportReceipt, ...]:
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
            >>> veriff.report_fraud(FraudReport(session_id, FraudCategory.INJECTED_MEDIA))

        See https://devdocs.veriff.com/apidocs/report-fraud.
        """

    def fraud_reports(self, session_ids: Sequence[str]) -> tuple[FraudReportLookup, ...]:
        """Return the status of earlier fraud reports.

        Args:
            session_ids: The sessions that were reported, 1 to 10 of them.

        Returns:
            One lookup for each session.

        Raises:
            InvalidArgumentError: There are none, or more than ten.

        See https://devdocs.veriff.com/apidocs/retrieve-fraud-reports.
        """

    def address(self, address_id: str) -> Decision | None:
        """Return an older proof of address by the id of its `AddressEvent`; path and form are guesses.

        Returns:
            The decision, or ``None`` while there is none.

        Raises:
            NotFoundError: This integration has no such address.
        """

    def address_media(self, address_id: str) -> MediaList:
        """Return the media that Veriff stores of an older proof of address; path and form are guesses.

        Raises:
            NotFoundError: This integration has no such address.
        """

    def statistics(self) -> ClientStatistics:
        """Return the totals and the present load of the client; cheap enough to call every second.

        Example:
            >>> if veriff.statistics().inbox_state == "failing":
            ...     logger.warning("webhooks do not wake the waits of this process")
        """

    def check(self, *, timeout: float=5.0, max_age: float=10.0) -> CheckReport:
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
            >>> report = veriff.check()
            >>> return JSONResponse(report.to_dict(), 200 if report.ok else 503)
        """
