"""What Veriff tells of a session, and what it can be told beside pictures: one awaited call each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from veriff_async._http.api import Api
    from veriff_async.models.attempt import Attempt
    from veriff_async.models.certificate import Certificate
    from veriff_async.models.collected import CollectedData, CollectedReceipt
    from veriff_async.models.fullauto import FullAutoDecision
    from veriff_async.models.media import MediaList, NfcData, Timestamp, UploadedMedia
    from veriff_async.models.record import PersonRecord
    from veriff_async.models.registry import CurpResult, IneCurpResult, IneResult, TransportationResult
    from veriff_async.models.watchlist import Monitoring, WatchlistScreening

__all__ = ("SessionReadings",)


class SessionReadings:
    """The calls about a session that change neither its status nor this object.

    Every one of them raises `NotFoundError` when this integration knows no such session, or when Veriff has nothing to
    tell because the product is not switched on; `ApiError` when Veriff refuses for another reason; `ResponseError`
    when the answer is not signed with a known secret, or cannot be read; `TransportError` when no answer came and the
    retries are spent.
    """

    id: str
    _api: Api

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
        return await self._api.upload_nfc(self.id, nfc)

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
        return await self._api.send_collected_data(self.id, data)

    async def media(self) -> MediaList:
        """Ask which media Veriff holds of the newest attempt; for an older one, see `VeriffClient.attempt_media`.

        Returns:
            Pictures and videos, best first, and readings of a chip.

        See https://devdocs.veriff.com/apidocs/v1sessionsidmedia-2.
        """
        return await self._api.session_media(self.id)

    async def attempts(self) -> tuple[Attempt, ...]:
        """Ask for the attempts of the end-user.

        Returns:
            The attempts, newest first.

        See https://devdocs.veriff.com/apidocs/v1sessionsidattempts-1.
        """
        return await self._api.attempts(self.id)

    async def person(self) -> PersonRecord:
        """Ask for the person, with matches in lists of politically exposed persons and sanctions.

        Returns:
            The person; the data were read from the document or given at creation.

        See https://devdocs.veriff.com/apidocs/v1sessionsidperson-1.
        """
        return await self._api.person(self.id)

    async def watchlist_screening(self) -> WatchlistScreening:
        """Ask for the result of the screening against lists, for integrations with that product.

        Returns:
            The newest result.

        See https://devdocs.veriff.com/apidocs/v1sessionsidwatchlist-screening-1.
        """
        return await self._api.watchlist_screening(self.id)

    async def certificates(self) -> tuple[Certificate, ...]:
        """Ask for the certificates that prove what Veriff held of the session, for integrations with that product.

        Returns:
            The certificates; `VerificationSession.download_certificate_document` saves the documents they are about.

        See https://devdocs.veriff.com/apidocs/list-session-certificates.
        """
        return await self._api.certificates(self.id)

    async def stop_monitoring(self) -> Monitoring:
        """Stop watching the lists for the person; it cannot be switched on again by API.

        Returns:
            The state of the watch, ``disabled``.

        Raises:
            BadRequestError: It was stopped before.

        See https://devdocs.veriff.com/apidocs/v1sessionsidwatchlist-screening.
        """
        return await self._api.stop_monitoring(self.id)

    async def full_auto_decision(self) -> FullAutoDecision | None:
        """Ask once for a decision made without a human, for integrations of the Essential plan.

        The call was seen in other clients; the documents do not list it any more.

        Returns:
            The decision, or ``None`` while there is none. A session that is not known gives ``None`` too.

        See https://devdocs.veriff.com/docs/essential-plan-full-auto.
        """
        return await self._api.full_auto_decision(self.id)

    async def ine_registry(self) -> IneResult:
        """Ask what Mexico's INE registry says, for integrations with the older product.

        See https://devdocs.veriff.com/apidocs/v1sessionsiddecisionine-registry-1.
        """
        return await self._api.ine_registry(self.id)

    async def curp_registry(self) -> CurpResult:
        """Ask what Mexico's CURP registry says, for integrations with the older product.

        See https://devdocs.veriff.com/apidocs/v1sessionsiddecisioncurp-registry-1.
        """
        return await self._api.curp_registry(self.id)

    async def ine_curp_registry(self) -> IneCurpResult:
        """Ask what both of Mexico's registries say, for integrations with the older product.

        See https://devdocs.veriff.com/apidocs/v1sessionsiddecisioncombined-ine-curp-registry-1.
        """
        return await self._api.ine_curp_registry(self.id)

    async def timestamps(self) -> tuple[Timestamp, ...]:
        """Ask for trusted timestamps of the media; a guess, seen in an older client only."""
        return await self._api.timestamps(self.id)

    async def transportation_registry(self) -> TransportationResult:
        """Ask what a registry of driving licences says; a guess, of an older product."""
        return await self._api.transportation_registry(self.id)
