"""The calls of a client that are about no session of its own: attempts, registries, frauds found later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from veriff_async._media.downloader import SaveOptions
from veriff_async._protocol.limits import MAX_DOWNLOAD_BYTES

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from veriff_async._http.api import Api
    from veriff_async._media.downloader import Downloader, IfExists, MediaStream
    from veriff_async._protocol.session_request import RegistryOptions
    from veriff_async.models.decision import Decision
    from veriff_async.models.faces import FaceImage, FaceImportReceipt
    from veriff_async.models.feedback import FraudCategoryInfo, FraudReport, FraudReportLookup, FraudReportReceipt
    from veriff_async.models.media import DownloadedMedia, DownloadProgress, MediaFile, MediaList
    from veriff_async.models.person import Person

__all__ = ("Services",)


class Services:
    """The calls that need no session object.

    Every one of them raises `ApiError` when Veriff refuses, `ResponseError` when the answer is not signed with a known
    secret or cannot be read, and `TransportError` when no answer came and the retries are spent.
    """

    _api: Api
    _downloads: Downloader

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
        return await self._api.attempt_media(attempt_id)

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
        return await self._api.validate_registry_sync(person, options)

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
        return await self._api.import_faces(images, session_ids, extra or {})

    async def fraud_categories(self) -> tuple[FraudCategoryInfo, ...]:
        """Ask which kinds of fraud can be reported.

        Returns:
            The kinds, each with Veriff's explanation.

        See https://devdocs.veriff.com/apidocs/get-fraud-categories.
        """
        return await self._api.fraud_categories()

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
        return await self._api.report_fraud(reports)

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
        return await self._api.fraud_reports(session_ids)

    async def address(self, address_id: str) -> Decision | None:
        """Ask for an older proof of address, by the id of its `AddressEvent`; path and form are guesses.

        Returns:
            The decision, or ``None`` while there is none.

        Raises:
            NotFoundError: This integration knows no such address.
        """
        return await self._api.address(address_id)

    async def address_media(self, address_id: str) -> MediaList:
        """Ask which media Veriff holds of an older proof of address; path and form are guesses.

        Raises:
            NotFoundError: This integration knows no such address.
        """
        return await self._api.address_media(address_id)
