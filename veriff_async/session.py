"""One verification session: upload media, submit, and wait for the decision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn, Self

from attrs import define

from veriff_async._client.options import check_call_options
from veriff_async._protocol import endpoints
from veriff_async._protocol.arguments import check_condition, check_optional, check_text, describe_value
from veriff_async._protocol.limits import MAX_DOWNLOAD_BYTES
from veriff_async._protocol.status_transitions import can_follow
from veriff_async._protocol.validation import check_id
from veriff_async._views import view_of
from veriff_async.config import PollPolicy
from veriff_async.errors import InvalidArgumentError
from veriff_async.models.enums import Status

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from typing import Unpack

    from veriff_async._client.runtime import Runtime
    from veriff_async._media.downloader import CertificateFile, IfExists, MediaStream
    from veriff_async._waiting.watch import SessionWatch
    from veriff_async.config import CallOptions
    from veriff_async.models.attempt import Attempt
    from veriff_async.models.certificate import Certificate, SourceDocument
    from veriff_async.models.collected import CollectedData, CollectedReceipt
    from veriff_async.models.decision import Decision
    from veriff_async.models.fullauto import FullAutoDecision
    from veriff_async.models.media import (
        DownloadedMedia,
        DownloadProgress,
        Media,
        MediaList,
        NfcData,
        Timestamp,
        UploadedMedia,
        UploadProgress,
    )
    from veriff_async.models.record import PersonRecord
    from veriff_async.models.registry import CurpResult, IneCurpResult, IneResult, TransportationResult
    from veriff_async.models.session import SessionInfo
    from veriff_async.models.state import SessionState
    from veriff_async.models.watchlist import Monitoring, WatchlistScreening

__all__ = ("VerificationSession", "seconds_of")


@define
class _Known:
    """The latest that a session object, and its views, know of the session."""

    status: Status | None
    decision: Decision | None = None


class VerificationSession:
    """A session at Veriff, attached to a client.

    `VeriffClient.create_session` and `VeriffClient.session` return it; do not create it yourself.

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

    id: str
    url: str | None
    vendor_data: str | None

    def __init__(self, info: SessionInfo, *, runtime: Runtime) -> None:
        """Attach to a session; use the client's methods instead."""
        self.id = info.id
        self.url = info.url
        self.vendor_data = info.vendor_data
        self._runtime = runtime
        self._known = _Known(info.status)

    @property
    def status(self) -> Status | None:
        """The last status that this object knows of, or ``None``."""
        return self._known.status

    def with_options(self, **options: Unpack[CallOptions]) -> Self:
        """Return a view of this object that makes calls with other options; see `VeriffClient.with_options`.

        The view and this object share what they know of the session, for example `status`.

        Raises:
            ConfigurationError: A value is invalid; the message names the option.
            TypeError: An option is unknown, or belongs to the client and cannot differ for a view.

        Example:
            >>> await session.with_options(timeouts=Timeouts(idle=120)).upload(Media("video.mp4", "document-front"))
        """
        checked = check_call_options("VerificationSession.with_options()", options)
        return view_of(self, _runtime=self._runtime.with_options(checked))

    def __repr__(self) -> str:
        """Show id and status, but not `url`, which holds a token."""
        return f"<VerificationSession {self.id} {self.status or 'of unknown status'}>"

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled: connections belong to one event loop."""
        msg = "A VerificationSession cannot be copied or pickled: pass its id on, and attach with client.session(id)."
        raise TypeError(msg)

    async def upload(
        self,
        *media: Media,
        concurrency: int | None = None,
        progress: Callable[[UploadProgress], None] | None = None,
        on_uploaded: Callable[[int, UploadedMedia], Awaitable[None]] | None = None,
    ) -> list[UploadedMedia]:
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
            on_uploaded: Awaited after each upload with the index of the media and its receipt, while other uploads
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
            >>> await session.upload(Media("front.jpg", "document-front"), Media("selfie.heic", "face"))

        See https://devdocs.veriff.com/apidocs/v1sessionsidmedia-3.
        """
        return await self._runtime.uploads.upload(
            self.id, media, concurrency=concurrency, progress=progress, on_uploaded=on_uploaded
        )

    async def submit(self) -> None:
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
        waiters = self._runtime.waiters
        with waiters.span("veriff.submit", self.id):
            answered = await waiters.submissions.find_request(self.id, self._known.decision, self._runtime.get_decision)
            # From before the request is sent: a waiter must not take the old decision for the answer to this one.
            async with waiters.submissions.track(self.id, answered):
                info = await self._runtime.transport.send(endpoints.submit_session(self.id))
        # Without a description, an earlier attempt or this one has submitted the session.
        self._update_status(Status.SUBMITTED if info is None or info.status is None else info.status)
        self._runtime.waiters.add_status(self.id, Status.SUBMITTED)

    async def download_all(  # noqa: PLR0913  options, each with a default
        self,
        folder: str | os.PathLike[str],
        *,
        concurrency: int | None = None,
        if_exists: IfExists = "error",
        max_bytes: int = MAX_DOWNLOAD_BYTES,
        all_attempts: bool = False,
        progress: Callable[[DownloadProgress], None] | None = None,
    ) -> list[DownloadedMedia]:
        """Download the session's media concurrently; see `VeriffClient.download_media` for each.

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
            >>> files = await session.download_all("documents")

        See https://devdocs.veriff.com/apidocs/v1sessionsidmedia-2.
        """
        from veriff_async._media.downloader import SaveOptions

        return await self._runtime.downloads.save_all(
            self.id,
            folder,
            SaveOptions(if_exists=if_exists, max_bytes=max_bytes, progress=progress),
            concurrency=concurrency,
            all_attempts=all_attempts,
        )

    async def download_certificate_document(  # noqa: PLR0913  arguments, most with a default
        self,
        certificate: Certificate | str,
        document: SourceDocument | str,
        target: str | os.PathLike[str],
        *,
        if_exists: IfExists = "error",
        max_bytes: int = MAX_DOWNLOAD_BYTES,
        progress: Callable[[DownloadProgress], None] | None = None,
    ) -> DownloadedMedia:
        """Save a document that a certificate covers, streamed and verified as `VeriffClient.download_media` does.

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
            >>> for certificate in await session.certificates():
            ...     for document in certificate.source_documents:
            ...         await session.download_certificate_document(certificate, document, "certificates/")

        See https://devdocs.veriff.com/apidocs/download-certificate-source-document.
        """
        from veriff_async._media.downloader import SaveOptions

        media = _document_of(self.id, certificate, document)
        options = SaveOptions(if_exists=if_exists, max_bytes=max_bytes, progress=progress)
        return await self._runtime.downloads.save(media, target, options)

    def stream_certificate_document(
        self,
        certificate: Certificate | str,
        document: SourceDocument | str,
        *,
        max_bytes: int = MAX_DOWNLOAD_BYTES,
    ) -> AbstractAsyncContextManager[MediaStream]:
        """Stream a document that a certificate covers piece by piece; see `VeriffClient.stream_media`.

        Args:
            certificate: The certificate or its id, see `certificates`.
            document: One of its `source_documents`, or its id.
            max_bytes: Largest size of the document in bytes; 1 GiB by default.

        Returns:
            A context manager that returns a `MediaStream`; entering it raises `NotFoundError` if this integration has
            no such session, certificate or document.

        See https://devdocs.veriff.com/apidocs/download-certificate-source-document.
        """
        return self._runtime.downloads.stream(_document_of(self.id, certificate, document), max_bytes=max_bytes)

    async def upload_nfc(self, nfc: NfcData) -> UploadedMedia:
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
        return await self._runtime.transport.send(endpoints.upload_nfc(self.id, nfc))

    async def send_collected_data(self, data: CollectedData) -> CollectedReceipt:
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
            >>> await session.send_collected_data(CollectedData(provider_name="us", device=device, network=network))

        See https://devdocs.veriff.com/apidocs/v1sessionsidcollected-data-1.
        """
        return await self._runtime.transport.send(endpoints.send_collected_data(self.id, data))

    async def media(self) -> MediaList:
        """Return the media that Veriff stores of the newest attempt; see `VeriffClient.attempt_media` for older ones.

        Returns:
            Pictures and videos, best first, and data of chips.

        See https://devdocs.veriff.com/apidocs/v1sessionsidmedia-2.
        """
        return await self._runtime.transport.send(endpoints.session_media(self.id))

    async def attempts(self) -> tuple[Attempt, ...]:
        """Return the attempts of the end-user.

        Returns:
            The attempts, newest first.

        See https://devdocs.veriff.com/apidocs/v1sessionsidattempts-1.
        """
        return await self._runtime.transport.send(endpoints.attempts(self.id))

    async def person(self) -> PersonRecord:
        """Return the person, with matches in lists of politically exposed persons and sanctions.

        Returns:
            The person; the data were read from the document or given at creation.

        See https://devdocs.veriff.com/apidocs/v1sessionsidperson-1.
        """
        return await self._runtime.transport.send(endpoints.person(self.id))

    async def watchlist_screening(self) -> WatchlistScreening:
        """Return the result of the watchlist screening, for integrations with that product.

        Returns:
            The newest result.

        See https://devdocs.veriff.com/apidocs/v1sessionsidwatchlist-screening-1.
        """
        return await self._runtime.transport.send(endpoints.watchlist_screening(self.id))

    async def certificates(self) -> tuple[Certificate, ...]:
        """Return the certificates that prove which data Veriff stored, for integrations with that product.

        Returns:
            The certificates; `download_certificate_document` saves the documents that they cover.

        See https://devdocs.veriff.com/apidocs/list-session-certificates.
        """
        return await self._runtime.transport.send(endpoints.certificates(self.id))

    async def stop_monitoring(self) -> Monitoring:
        """Stop monitoring watchlists for the person. The API cannot start it again.

        Returns:
            The state of the monitoring, ``disabled``.

        Raises:
            BadRequestError: The monitoring was stopped before.

        See https://devdocs.veriff.com/apidocs/v1sessionsidwatchlist-screening.
        """
        return await self._runtime.transport.send(endpoints.stop_monitoring(self.id))

    async def full_auto_decision(self) -> FullAutoDecision | None:
        """Return a decision that was made without a human, for integrations of the Essential plan.

        The call was seen in other clients; Veriff does not document it any more.

        Returns:
            The decision, or ``None`` while there is none, and also for a session that does not exist.

        See https://devdocs.veriff.com/docs/essential-plan-full-auto.
        """
        return await self._runtime.transport.send(endpoints.full_auto_decision(self.id))

    async def ine_registry(self) -> IneResult:
        """Return the result of Mexico's INE registry, for integrations with the older product.

        See https://devdocs.veriff.com/apidocs/v1sessionsiddecisionine-registry-1.
        """
        return await self._runtime.transport.send(endpoints.ine_registry(self.id))

    async def curp_registry(self) -> CurpResult:
        """Return the result of Mexico's CURP registry, for integrations with the older product.

        See https://devdocs.veriff.com/apidocs/v1sessionsiddecisioncurp-registry-1.
        """
        return await self._runtime.transport.send(endpoints.curp_registry(self.id))

    async def ine_curp_registry(self) -> IneCurpResult:
        """Return the results of both of Mexico's registries, for integrations with the older product.

        See https://devdocs.veriff.com/apidocs/v1sessionsiddecisioncombined-ine-curp-registry-1.
        """
        return await self._runtime.transport.send(endpoints.ine_curp_registry(self.id))

    async def timestamps(self) -> tuple[Timestamp, ...]:
        """Return trusted timestamps of the media; a guess, seen in an older client only."""
        return await self._runtime.transport.send(endpoints.timestamps(self.id))

    async def transportation_registry(self) -> TransportationResult:
        """Return the result of a registry of driving licences; a guess, of an older product."""
        return await self._runtime.transport.send(endpoints.transportation_registry(self.id))

    async def delete(self) -> None:
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
        await self._runtime.transport.send(endpoints.delete_session(self.id))

    async def decision(self) -> Decision | None:
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
        # Read before the request: a decision that arrives during it is newer than the response.
        asked_at = self._runtime.waiters.sequence
        decision = await self._runtime.transport.send(endpoints.decision(self.id))
        if decision is not None and await self._runtime.waiters.publish(decision, asked_at):
            self._on_decision(decision)
        return decision

    async def wait_for_decision(
        self,
        *,
        timeout: float | None = 900.0,  # noqa: ASYNC109  the error of a timeout names the session
        until: Callable[[Decision], bool] | None = None,
        poll: PollPolicy | None = None,
    ) -> Decision:
        """Wait until Veriff has decided. A webhook or a poll, depending on which is first, ends the wait.

        With an inbox (see `VeriffClient`), a webhook that any process of the application has recorded ends the wait,
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
        if until is not None:
            check_condition("until", until)
        decision = await self._runtime.waiters.wait(
            self.id,
            until=until or _is_conclusive,
            timeout=seconds_of(timeout),
            poll=_check_poll(poll) or self._runtime.poll,
            get_decision=self._runtime.get_decision,
            last=self._known.decision,
            last_status=self.status,
        )
        self._on_decision(decision)
        return decision

    def watch(
        self, *, timeout: float | None = None, poll: PollPolicy | None = None, status: Status | str | None = None
    ) -> SessionWatch:
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
            An async iterator of `SessionState`. The decision is its ``effective_decision``, which each final state has.

        Raises:
            InvalidArgumentError: An argument is invalid. The other errors are raised by a step of the iteration, after
                the latest state was returned.
            DecisionTimeoutError: No final state came in time; watching again is safe.
            ClientClosedError: The client was closed.
            NotFoundError: This integration has no such session; see `wait_for_decision`.
            ApiError: Veriff refuses to answer, and no inbox works; see `wait_for_decision`.
            ResponseError: Three responses in a row could not be parsed or verified, and no inbox works.

        Example:
            >>> async for state in session.watch():
            ...     await websocket.send_json({"status": state.status})
        """
        from veriff_async._waiting.watch import SessionWatch

        given = None if status is None else Status(check_text("status", status, error=InvalidArgumentError))
        return SessionWatch(
            self._runtime.waiters,
            self.id,
            timeout=seconds_of(timeout),
            poll=_check_poll(poll) or self._runtime.poll,
            get_known=lambda: (self._later_status(given), self._known.decision),
            on_state=self._on_state,
        )

    def _later_status(self, stored: Status | None) -> Status | None:
        known = self.status
        if known is None or stored is None:
            return known or stored
        # After a decision, the stored status may be that of the attempt before.
        return stored if self._known.decision is None and can_follow(known, stored) else known

    def _on_state(self, state: SessionState) -> None:
        if (decision := state.effective_decision) is None:
            self._update_status(state.status)
        else:
            self._on_decision(decision)

    def _on_decision(self, decision: Decision) -> None:
        self._known.decision = decision
        self._update_status(decision.status)

    def _update_status(self, status: Status) -> None:
        # Responses may arrive out of order; an older one must not reset the status.
        if self._known.status is None or can_follow(self._known.status, status):
            self._known.status = status


def _document_of(session_id: str, certificate: Certificate | str, document: SourceDocument | str) -> CertificateFile:
    from veriff_async._media.downloader import CertificateFile
    from veriff_async.models.certificate import Certificate, SourceDocument

    return CertificateFile(
        id=check_id("document", document.id if isinstance(document, SourceDocument) else document),
        session_id=session_id,
        certificate_id=check_id("certificate", certificate.id if isinstance(certificate, Certificate) else certificate),
    )


# Seconds above which a timeout means no limit: uvloop does not accept infinity.
_NO_LIMIT: Final = 1e9


def seconds_of(timeout: float | None) -> float | None:
    """Return the seconds of a timeout, or ``None`` for no limit.

    Raises:
        InvalidArgumentError: It is not a number of seconds, or below zero.
    """
    # As `object`: by its annotation, type checkers would consider the check unreachable.
    value: object = timeout
    if value is None:
        return None
    # Written as `not value >= 0` so that NaN is refused too.
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        msg = f"timeout must be a number of seconds, zero or more, or None for no limit, got {describe_value(value)}."
        raise InvalidArgumentError(msg)
    return None if value > _NO_LIMIT else float(value)


def _check_poll(poll: PollPolicy | None) -> PollPolicy | None:
    remedy = "pass PollPolicy(...), or None for the client's own"
    return check_optional("poll", poll, PollPolicy, remedy=remedy, error=InvalidArgumentError)


def _is_conclusive(decision: Decision) -> bool:
    # Another decision follows a review.
    return decision.status != Status.REVIEW
