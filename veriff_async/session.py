"""One verification session: pictures in, decision out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from veriff_async._media.downloader import SaveOptions
from veriff_async._protocol import endpoints
from veriff_async._protocol.arguments import check_condition, check_optional, shown
from veriff_async._protocol.decision_order import can_follow
from veriff_async._protocol.limits import MAX_DOWNLOAD_BYTES
from veriff_async._protocol.validation import check_id
from veriff_async.config import PollPolicy
from veriff_async.errors import InvalidArgumentError
from veriff_async.models.certificate import Certificate, CertificateFile, SourceDocument
from veriff_async.models.enums import Status

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from veriff_async._http.transport import Transport
    from veriff_async._media.downloader import Downloader, IfExists, MediaStream
    from veriff_async._media.uploader import Uploader
    from veriff_async._waiting.waiters import DecisionWaiters
    from veriff_async.models.attempt import Attempt
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
    from veriff_async.models.watchlist import Monitoring, WatchlistScreening

__all__ = ("VerificationSession", "seconds_of")


class VerificationSession:
    """A session on Veriff's side, reached through the client that made it.

    Made by `VeriffClient.create_session` and `VeriffClient.session`, not by hand.

    Attributes:
        id: Id of the session.
        url: Page for the end-user, when Veriff told it to this object; whoever holds it can act as the end-user.
        status: The last status that this object knows of, or ``None``.
        vendor_data: What was given at creation, when Veriff told it to this object.
    """

    def __init__(
        self,
        info: SessionInfo,
        *,
        transport: Transport,
        uploads: Uploader,
        downloads: Downloader,
        waiters: DecisionWaiters,
    ) -> None:
        """Attach to a session; use the client's methods instead."""
        self.id: str = info.id
        self.url: str | None = info.url
        self.status = info.status
        self.vendor_data: str | None = info.vendor_data
        self._transport = transport
        self._uploads = uploads
        self._downloads = downloads
        self._waiters = waiters
        self._last: Decision | None = None

    def __repr__(self) -> str:
        """Show id and status, not the page's token."""
        return f"<VerificationSession {self.id} {self.status or 'of unknown status'}>"

    async def upload(
        self,
        *media: Media,
        concurrency: int | None = None,
        progress: Callable[[UploadProgress], None] | None = None,
        on_uploaded: Callable[[int, UploadedMedia], Awaitable[None]] | None = None,
    ) -> list[UploadedMedia]:
        """Upload pictures or PDFs, side by side, streamed and signed.

        Everything that can be read twice is checked before the first byte leaves, as `check_media` does. A stream is
        checked while it is read, when others may be up already: it must not hold them up. The first failure cancels the
        other uploads; its ``media`` says which media failed, and its ``uploaded`` which were already up. A try that
        broke off is repeated, which may leave a picture twice with Veriff (`UploadedMedia.repeated`). Memory stays
        below 1.5 MiB for each running upload.

        Args:
            media: What to upload; the same context may come several times.
            concurrency: Most uploads of this call at once; never more than the client's ``max_uploads``.
            progress: Called on the loop after each piece with an `UploadProgress`; it must not block.
            on_uploaded: Awaited as soon as a media is up, with its place in `media` and its receipt, while others go
                on: for what must not be forgotten when the process dies. What it raises ends the call.

        Returns:
            The receipts, in the order of `media`.

        Raises:
            MediaError: A file is missing, empty, too large, of a type that Veriff does not take, or changed meanwhile.
            InvalidArgumentError: A context, timestamp or source cannot be right.
            ConflictError: The session was already submitted.
            NotFoundError: This integration knows no such session.
            ApiError: Veriff refused for another reason.
            TransportError: No answer came, and the retries are spent.

        Example:
            >>> await session.upload(Media("front.jpg", "document-front"), Media("selfie.heic", "face"))

        See https://devdocs.veriff.com/apidocs/v1sessionsidmedia-3.
        """
        return await self._uploads.upload(
            self.id, media, concurrency=concurrency, progress=progress, on_uploaded=on_uploaded
        )

    async def submit(self) -> None:
        """Hand the session over for the decision; everything must be uploaded before.

        A retry that finds the session submitted by an earlier try of this very call is a success. When the submission
        answers a request for resubmission, later waits expect a newer decision: those of this client through any
        session object and, with an inbox, those of every process. This holds from before the submission is sent, also
        if its answer is lost or the process is killed, until Veriff certainly refuses it; so after such an end, submit
        again (code 1304 then says that the first one arrived). If neither this client nor the inbox knows whether
        there was such a request, Veriff is asked for the decision first; not for the first submission of a session that
        this client created.

        Raises:
            BadRequestError: The session cannot be submitted from where it is (code 1304), for example twice.
            NotFoundError: This integration knows no such session.
            ApiError: Veriff refused for another reason.
            TransportError: No answer came, and the retries are spent.

        See https://devdocs.veriff.com/apidocs/v1sessionsid-2.
        """
        answered = await self._waiters.submissions.find_request(self.id, self._last)
        async with self._waiters.submissions.track(self.id, answered):
            info = await self._transport.send(endpoints.submit_session(self.id))
        self._note(Status.SUBMITTED if info is None or info.status is None else info.status)

    async def download_all(  # noqa: PLR0913  options, each with a default
        self,
        folder: str | os.PathLike[str],
        *,
        concurrency: int = 4,
        if_exists: IfExists = "error",
        max_bytes: int = MAX_DOWNLOAD_BYTES,
        all_attempts: bool = False,
        progress: Callable[[DownloadProgress], None] | None = None,
    ) -> list[DownloadedMedia]:
        """Bring the session's media down, side by side; see `VeriffClient.download_media` for each.

        The first failure cancels the others; its ``downloaded`` says which are down already, and a further call with
        ``if_exists="skip"`` goes on from there.

        Args:
            folder: Where to; it is made when it is missing.
            concurrency: Most downloads of this call at once; never more than the client's ``max_downloads``.
            if_exists: What to do with files that exist: ``"error"``, ``"replace"`` or ``"skip"``, which keeps files of
                the announced size.
            max_bytes: Largest size of each file in bytes; 1 GiB by default.
            all_attempts: Whether earlier attempts are asked for too, not the newest alone.
            progress: Called on the loop after each piece with a `DownloadProgress`; it must not block.

        Returns:
            Where the files are, pictures first, then videos and readings of a chip.

        Raises:
            InvalidArgumentError: `concurrency` or `if_exists` cannot be right.
            MediaExistsError: A file is there already.
            MediaNotSavedError: The folder or a file cannot be written.
            NotFoundError: This integration knows no such session.
            ResponseError: What came is not what was signed; nothing of it is kept.

        Example:
            >>> files = await session.download_all("documents")

        See https://devdocs.veriff.com/apidocs/v1sessionsidmedia-2.
        """
        return await self._downloads.save_all(
            self.id,
            folder,
            SaveOptions(if_exists=if_exists, max_bytes=max_bytes, progress=progress),
            concurrency=concurrency,
            all_attempts=all_attempts,
        )

    async def download_certificate_document(  # noqa: PLR0913  what a call says
        self,
        certificate: Certificate | str,
        document: SourceDocument | str,
        target: str | os.PathLike[str],
        *,
        if_exists: IfExists = "error",
        max_bytes: int = MAX_DOWNLOAD_BYTES,
        progress: Callable[[DownloadProgress], None] | None = None,
    ) -> DownloadedMedia:
        """Save a document that a certificate is about, streamed and verified as `VeriffClient.download_media` does.

        Args:
            certificate: The certificate or its id, see `certificates`.
            document: One of its `source_documents`, or its id.
            target: A folder (one that exists, or ends with a slash and is created), or the file's own path.
            if_exists: What to do with a file that exists: ``"error"``, ``"replace"`` or ``"skip"``.
            max_bytes: Largest size of the file in bytes; 1 GiB by default.
            progress: Called on the loop after each piece with a `DownloadProgress`; it must not block.

        Returns:
            Where the file is, its size and type.

        Raises:
            MediaExistsError: The file exists.
            MediaNotSavedError: The file cannot be written.
            NotFoundError: This integration knows no such session, certificate or document.
            ResponseError: The bytes are not those that were signed; nothing is kept.

        Example:
            >>> for certificate in await session.certificates():
            ...     for document in certificate.source_documents:
            ...         await session.download_certificate_document(certificate, document, "certificates/")

        See https://devdocs.veriff.com/apidocs/download-certificate-source-document.
        """
        media = _document_of(self.id, certificate, document)
        options = SaveOptions(if_exists=if_exists, max_bytes=max_bytes, progress=progress)
        return await self._downloads.save(media, target, options)

    def stream_certificate_document(
        self,
        certificate: Certificate | str,
        document: SourceDocument | str,
        *,
        max_bytes: int = MAX_DOWNLOAD_BYTES,
    ) -> AbstractAsyncContextManager[MediaStream]:
        """Read a document that a certificate is about piece by piece; see `VeriffClient.stream_media`.

        Args:
            certificate: The certificate or its id, see `certificates`.
            document: One of its `source_documents`, or its id.
            max_bytes: Largest size of the document in bytes; 1 GiB by default.

        Returns:
            A context manager that gives a `MediaStream`; entering it raises `NotFoundError` when this integration knows
            no such session, certificate or document.

        See https://devdocs.veriff.com/apidocs/download-certificate-source-document.
        """
        return self._downloads.stream(_document_of(self.id, certificate, document), max_bytes=max_bytes)

    async def upload_nfc(self, nfc: NfcData) -> UploadedMedia:
        """Upload what was read from the chip of an e-passport.

        The member that its four files are sent in, and the answer's, are guesses.

        Args:
            nfc: The four files, as raw bytes.

        Returns:
            The receipt.

        Raises:
            InvalidArgumentError: One of the four is missing.
            ConflictError: The session was already submitted.

        See https://devdocs.veriff.com/apidocs/v1sessionsidmedia-3.
        """
        return await self._transport.send(endpoints.upload_nfc(self.id, nfc))

    async def send_collected_data(self, data: CollectedData) -> CollectedReceipt:
        """Tell what you know of the end-user's device and network; before the submission.

        Args:
            data: What you know; leave out what you do not.

        Returns:
            Which attempt it was taken for.

        Raises:
            InvalidArgumentError: A required value is missing, or one would be refused.
            OutcomeUnknownError: Nothing proves whether the data arrived. Whether Veriff takes them twice is not
                documented.

        Example:
            >>> device, network = Device(fingerprint="f1"), Network(address_v4="192.0.2.1")
            >>> await session.send_collected_data(CollectedData(provider_name="us", device=device, network=network))

        See https://devdocs.veriff.com/apidocs/v1sessionsidcollected-data-1.
        """
        return await self._transport.send(endpoints.send_collected_data(self.id, data))

    async def media(self) -> MediaList:
        """Ask which media Veriff holds of the newest attempt; for an older one, see `VeriffClient.attempt_media`.

        Returns:
            Pictures and videos, best first, and readings of a chip.

        See https://devdocs.veriff.com/apidocs/v1sessionsidmedia-2.
        """
        return await self._transport.send(endpoints.session_media(self.id))

    async def attempts(self) -> tuple[Attempt, ...]:
        """Ask for the attempts of the end-user.

        Returns:
            The attempts, newest first.

        See https://devdocs.veriff.com/apidocs/v1sessionsidattempts-1.
        """
        return await self._transport.send(endpoints.attempts(self.id))

    async def person(self) -> PersonRecord:
        """Ask for the person, with matches in lists of politically exposed persons and sanctions.

        Returns:
            The person; the data were read from the document or given at creation.

        See https://devdocs.veriff.com/apidocs/v1sessionsidperson-1.
        """
        return await self._transport.send(endpoints.person(self.id))

    async def watchlist_screening(self) -> WatchlistScreening:
        """Ask for the result of the screening against lists, for integrations with that product.

        Returns:
            The newest result.

        See https://devdocs.veriff.com/apidocs/v1sessionsidwatchlist-screening-1.
        """
        return await self._transport.send(endpoints.watchlist_screening(self.id))

    async def certificates(self) -> tuple[Certificate, ...]:
        """Ask for the certificates that prove what Veriff held of the session, for integrations with that product.

        Returns:
            The certificates; `VerificationSession.download_certificate_document` saves the documents they are about.

        See https://devdocs.veriff.com/apidocs/list-session-certificates.
        """
        return await self._transport.send(endpoints.certificates(self.id))

    async def stop_monitoring(self) -> Monitoring:
        """Stop watching the lists for the person; it cannot be switched on again by API.

        Returns:
            The state of the watch, ``disabled``.

        Raises:
            BadRequestError: It was stopped before.

        See https://devdocs.veriff.com/apidocs/v1sessionsidwatchlist-screening.
        """
        return await self._transport.send(endpoints.stop_monitoring(self.id))

    async def full_auto_decision(self) -> FullAutoDecision | None:
        """Ask once for a decision made without a human, for integrations of the Essential plan.

        The call was seen in other clients; the documents do not list it any more.

        Returns:
            The decision, or ``None`` while there is none. A session that is not known gives ``None`` too.

        See https://devdocs.veriff.com/docs/essential-plan-full-auto.
        """
        return await self._transport.send(endpoints.full_auto_decision(self.id))

    async def ine_registry(self) -> IneResult:
        """Ask what Mexico's INE registry says, for integrations with the older product.

        See https://devdocs.veriff.com/apidocs/v1sessionsiddecisionine-registry-1.
        """
        return await self._transport.send(endpoints.ine_registry(self.id))

    async def curp_registry(self) -> CurpResult:
        """Ask what Mexico's CURP registry says, for integrations with the older product.

        See https://devdocs.veriff.com/apidocs/v1sessionsiddecisioncurp-registry-1.
        """
        return await self._transport.send(endpoints.curp_registry(self.id))

    async def ine_curp_registry(self) -> IneCurpResult:
        """Ask what both of Mexico's registries say, for integrations with the older product.

        See https://devdocs.veriff.com/apidocs/v1sessionsiddecisioncombined-ine-curp-registry-1.
        """
        return await self._transport.send(endpoints.ine_curp_registry(self.id))

    async def timestamps(self) -> tuple[Timestamp, ...]:
        """Ask for trusted timestamps of the media; a guess, seen in an older client only."""
        return await self._transport.send(endpoints.timestamps(self.id))

    async def transportation_registry(self) -> TransportationResult:
        """Ask what a registry of driving licences says; a guess, of an older product."""
        return await self._transport.send(endpoints.transportation_registry(self.id))

    async def delete(self) -> None:
        """Delete the session with all its data, for integrations that may.

        It is gone at once, and its data within twelve hours; a session that had no decision yet ends with one, which
        is told by webhook. Veriff allows five deletions an hour and ten a day.

        Raises:
            BadRequestError: The session is submitted or in review (code 1305): delete it when it is decided.
            PermissionDeniedError: Deletion is not enabled for the integration, as by default.
            NotFoundError: This integration knows no such session.
            RateLimitedError: Too many deletions.
            ApiError: Veriff refused for another reason.
            TransportError: No answer came, and the retries are spent.

        See https://devdocs.veriff.com/apidocs/v1sessionsid-3.
        """
        await self._transport.send(endpoints.delete_session(self.id))

    async def decision(self) -> Decision | None:
        """Ask once for the decision.

        Returns:
            The decision, or ``None`` while there is none. During a resubmission it is the one that asked for it.

        Raises:
            NotFoundError: This integration knows no such session.
            ApiError: Veriff refused for another reason.
            ResponseError: The answer is not signed with a known secret, or cannot be read.
            TransportError: No answer came, and the retries are spent.

        See https://devdocs.veriff.com/apidocs/v1sessionsiddecision-1.
        """
        asked_at = self._waiters.sequence
        decision = await self._transport.send(endpoints.decision(self.id))
        if decision is not None and await self._waiters.publish(decision, asked_at):
            self._learn(decision)
        return decision

    async def wait_for_decision(
        self,
        *,
        timeout: float | None = 900.0,  # noqa: ASYNC109  a deadline of the whole wait, which names the session
        until: Callable[[Decision], bool] | None = None,
        poll: PollPolicy | None = None,
    ) -> Decision:
        """Wait until Veriff has decided, and a webhook or a question tells so, whichever comes first.

        With an inbox (see `VeriffClient`) a webhook that any process of the application recorded ends the wait, also
        one that came before it began, or before a restart; polling is then a safety net for webhooks that get lost,
        and takes over while the inbox fails. Any number of waits share the client's one poller and one feed. After a
        decision that asked for a resubmission, and that this object returned or `submit` answered, a further wait
        waits for a newer one. Cancelling a wait leaves nothing behind.

        Args:
            timeout: Seconds to wait; ``None`` for as long as it takes (a decision can take days). Zero asks once: it
                returns a decision that the inbox knows or that Veriff shows now.
            until: Which decision to wait for; by default every one but ``review``, which announces another.
            poll: How often to ask for this session on behalf of this wait, instead of the client's own pace.

        Returns:
            The decision; look at its ``status``. Its ``source`` tells how it was learned of.

        Raises:
            InvalidArgumentError: The timeout is not a number of seconds, or is below zero; or `until` is not a plain
                function.
            DecisionTimeoutError: No such decision came in time; waiting again is safe.
            ClientClosedError: The client was closed meanwhile.
            NotFoundError: This integration knows no such session. With an inbox that serves, only for a session that
                neither the inbox nor this client has heard of.
            ApiError: Veriff refuses to tell (401, 403 or another 4xx), and no inbox serves. While an inbox serves, and
                for 429 and 5xx, the wait goes on.
            ResponseError: Three answers in a row could not be read or trusted, and no inbox serves.
            TransportError: With ``timeout=0`` only: no answer came, and the retries are spent.

        See https://devdocs.veriff.com/apidocs/v1sessionsiddecision-1.
        """
        if until is not None:
            check_condition("until", until)
        check_optional(
            "poll",
            poll,
            PollPolicy,
            remedy="pass PollPolicy(...), or None for the client's own",
            error=InvalidArgumentError,
        )
        decision = await self._waiters.wait(
            self.id,
            until=until or _is_conclusive,
            timeout=seconds_of(timeout),
            poll=poll,
            last=self._last,
            last_status=self.status,
        )
        self._learn(decision)
        return decision

    def _learn(self, decision: Decision) -> None:
        self._last = decision
        self._note(decision.status)

    def _note(self, status: Status) -> None:
        if self.status is None or can_follow(self.status, status):
            self.status = status


def _document_of(session_id: str, certificate: Certificate | str, document: SourceDocument | str) -> CertificateFile:
    return CertificateFile(
        id=check_id("document", document.id if isinstance(document, SourceDocument) else document),
        session_id=session_id,
        certificate_id=check_id("certificate", certificate.id if isinstance(certificate, Certificate) else certificate),
    )


_FOR_EVER: Final = 1e9
"""Seconds above which a timeout is none: uvloop cannot count as far as infinity."""


def seconds_of(timeout: float | None) -> float | None:
    """Return the seconds of a timeout, or ``None`` for no limit.

    Raises:
        InvalidArgumentError: It is not a number of seconds, or below zero.
    """
    value: object = timeout
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        msg = f"timeout must be seconds from zero on, or None to wait for as long as it takes, got {shown(value)}."
        raise InvalidArgumentError(msg)
    return None if value > _FOR_EVER else float(value)


def _is_conclusive(decision: Decision) -> bool:
    return decision.status != Status.REVIEW
