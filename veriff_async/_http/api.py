"""One coroutine for each call of the API: build the request, exchange it, read the answer."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from veriff_async._http.payload import CallbackError
from veriff_async._protocol import requests, responses
from veriff_async._protocol.response import is_refusal, refusal
from veriff_async._protocol.validation import EndUserIdWarning, warning_of_end_user_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from veriff_async._http.payload import PayloadFactory
    from veriff_async._http.transport import Exchange, Opened, Sink
    from veriff_async._protocol.request import Request
    from veriff_async._protocol.session_request import CreateOptions, RegistryOptions
    from veriff_async.credentials import Credentials
    from veriff_async.models.attempt import Attempt
    from veriff_async.models.certificate import Certificate, CertificateFile
    from veriff_async.models.collected import CollectedData, CollectedReceipt
    from veriff_async.models.decision import Decision
    from veriff_async.models.faces import FaceImage, FaceImportReceipt
    from veriff_async.models.feedback import FraudCategoryInfo, FraudReport, FraudReportLookup, FraudReportReceipt
    from veriff_async.models.fullauto import FullAutoDecision
    from veriff_async.models.media import MediaList, NfcData, Timestamp, UploadedMedia
    from veriff_async.models.person import Person
    from veriff_async.models.record import PersonRecord
    from veriff_async.models.registry import CurpResult, IneCurpResult, IneResult, TransportationResult
    from veriff_async.models.session import SessionInfo
    from veriff_async.models.watchlist import Monitoring, WatchlistScreening

__all__ = ("Api",)


class Api:
    """The calls of one client, without any memory of sessions; each is named as its request and its answer."""

    def __init__(self, credentials: Credentials, exchange: Exchange) -> None:
        """Take who calls, and over what."""
        self.credentials = credentials
        self._exchange = exchange

    def guard(self) -> AbstractAsyncContextManager[None]:
        """Return a context manager that ends its block with `ClientClosedError` when the client is closed."""
        return self._exchange.guard()

    async def create_session(self, options: CreateOptions) -> SessionInfo:
        """Call ``POST /v1/sessions``."""
        request = requests.create_session(self.credentials, options)
        _warn_about_end_user_id(options)
        return responses.create_session(await self._exchange.call(request))

    async def submit_session(self, session_id: str) -> SessionInfo | None:
        """Call ``PATCH /v1/sessions/{id}``; ``None`` when an earlier try of this call already did it."""
        request = requests.submit_session(self.credentials, session_id)
        return responses.submit_session(await self._exchange.call(request))

    async def delete_session(self, session_id: str) -> None:
        """Call ``DELETE /v1/sessions/{id}``."""
        request = requests.delete_session(self.credentials, session_id)
        responses.delete_session(await self._exchange.call(request))

    async def upload_media(
        self, session_id: str, credentials: Credentials, signature: str, body: PayloadFactory
    ) -> UploadedMedia:
        """Call ``POST /v1/sessions/{id}/media`` with a body that `credentials` have signed."""
        request = requests.upload_media(credentials, session_id, signature)
        return responses.upload_media(await self._exchange.call(request, body))

    async def upload_nfc(self, session_id: str, nfc: NfcData) -> UploadedMedia:
        """Call ``POST /v1/sessions/{id}/media`` with what was read from a chip."""
        request = requests.upload_nfc(self.credentials, session_id, nfc)
        return responses.upload_nfc(await self._exchange.call(request))

    async def session_media(self, session_id: str) -> MediaList:
        """Call ``GET /v1/sessions/{id}/media``."""
        request = requests.session_media(self.credentials, session_id)
        return responses.session_media(await self._exchange.call(request))

    async def attempt_media(self, attempt_id: str) -> MediaList:
        """Call ``GET /v1/attempts/{id}/media``."""
        request = requests.attempt_media(self.credentials, attempt_id)
        return responses.attempt_media(await self._exchange.call(request))

    async def download_media(self, media: str | CertificateFile, into: Sink) -> None:
        """Call ``GET /v1/media/{id}`` or `requests.download_certificate_file`.

        `into` takes the file, which is verified when this returns.
        """
        try:
            answer = await self._exchange.call(self._download(media), into=into)
        except CallbackError as raised:
            error = raised.error
        else:
            if is_refusal(answer):
                raise refusal(answer)
            return
        raise error

    async def open_media(self, media: str | CertificateFile) -> Opened:
        """Call the same, and leave the file to the caller, who closes the response."""
        return await self._exchange.open(self._download(media))

    def _download(self, media: str | CertificateFile) -> Request:
        if isinstance(media, str):
            return requests.download_media(self.credentials, media)
        return requests.download_certificate_file(self.credentials, media.session_id, media.certificate_id, media.id)

    async def certificates(self, session_id: str) -> tuple[Certificate, ...]:
        """Call ``GET /v1/sessions/{id}/certificates``."""
        request = requests.certificates(self.credentials, session_id)
        return responses.certificates(await self._exchange.call(request))

    async def import_faces(
        self, images: Sequence[FaceImage], session_ids: Sequence[str], extra: Mapping[str, object]
    ) -> FaceImportReceipt:
        """Call ``POST /v1/faces/import``."""
        request = requests.import_faces(self.credentials, images, session_ids, extra)
        return responses.import_faces(await self._exchange.call(request))

    async def next_piece(self, opened: Opened) -> bytes:
        """Read on in a file that was opened; ``b""`` at its end."""
        return await self._exchange.next_piece(opened)

    async def send_collected_data(self, session_id: str, data: CollectedData) -> CollectedReceipt:
        """Call ``POST /v1/sessions/{id}/collected-data``."""
        request = requests.send_collected_data(self.credentials, session_id, data)
        return responses.send_collected_data(await self._exchange.call(request))

    async def attempts(self, session_id: str) -> tuple[Attempt, ...]:
        """Call ``GET /v1/sessions/{id}/attempts``."""
        request = requests.attempts(self.credentials, session_id)
        return responses.attempts(await self._exchange.call(request))

    async def decision(self, session_id: str) -> Decision | None:
        """Call ``GET /v1/sessions/{id}/decision``; ``None`` while undecided."""
        request = requests.decision(self.credentials, session_id)
        return responses.decision(await self._exchange.call(request))

    async def full_auto_decision(self, session_id: str) -> FullAutoDecision | None:
        """Call ``GET /v1/sessions/{id}/decision/fullauto``; ``None`` while undecided."""
        request = requests.full_auto_decision(self.credentials, session_id)
        return responses.full_auto_decision(await self._exchange.call(request))

    async def ine_registry(self, session_id: str) -> IneResult:
        """Call ``GET /v1/sessions/{id}/decision/ine-registry``."""
        request = requests.ine_registry(self.credentials, session_id)
        return responses.ine_registry(await self._exchange.call(request))

    async def curp_registry(self, session_id: str) -> CurpResult:
        """Call ``GET /v1/sessions/{id}/decision/curp-registry``."""
        request = requests.curp_registry(self.credentials, session_id)
        return responses.curp_registry(await self._exchange.call(request))

    async def ine_curp_registry(self, session_id: str) -> IneCurpResult:
        """Call ``GET /v1/sessions/{id}/decision/combined-ine-curp-registry``."""
        request = requests.ine_curp_registry(self.credentials, session_id)
        return responses.ine_curp_registry(await self._exchange.call(request))

    async def person(self, session_id: str) -> PersonRecord:
        """Call ``GET /v1/sessions/{id}/person``."""
        request = requests.person(self.credentials, session_id)
        return responses.person(await self._exchange.call(request))

    async def watchlist_screening(self, session_id: str) -> WatchlistScreening:
        """Call ``GET /v1/sessions/{id}/watchlist-screening``."""
        request = requests.watchlist_screening(self.credentials, session_id)
        return responses.watchlist_screening(await self._exchange.call(request))

    async def stop_monitoring(self, session_id: str) -> Monitoring:
        """Call ``PATCH /v1/sessions/{id}/watchlist-screening``."""
        request = requests.stop_monitoring(self.credentials, session_id)
        return responses.stop_monitoring(await self._exchange.call(request))

    async def validate_registry(self, person: Person | Mapping[str, object], options: RegistryOptions) -> SessionInfo:
        """Call ``POST /v1/validate-registry``."""
        request = requests.validate_registry(self.credentials, person, options)
        _warn_about_end_user_id(options)
        return responses.validate_registry(await self._exchange.call(request))

    async def validate_registry_sync(self, person: Person | Mapping[str, object], options: RegistryOptions) -> Decision:
        """Call ``POST /v1/validate-registry`` of the synchronous host."""
        request = requests.validate_registry_sync(self.credentials, person, options)
        _warn_about_end_user_id(options)
        return responses.validate_registry_sync(await self._exchange.call(request))

    async def fraud_categories(self) -> tuple[FraudCategoryInfo, ...]:
        """Call ``GET /v1/feedback/fraud-categories``."""
        request = requests.fraud_categories(self.credentials)
        return responses.fraud_categories(await self._exchange.call(request))

    async def report_fraud(self, reports: Sequence[FraudReport]) -> tuple[FraudReportReceipt, ...]:
        """Call ``POST /v1/feedback/fraud-reports``."""
        request = requests.report_fraud(self.credentials, reports)
        return responses.report_fraud(await self._exchange.call(request))

    async def fraud_reports(self, session_ids: Sequence[str]) -> tuple[FraudReportLookup, ...]:
        """Call ``POST /v1/feedback/fraud-reports/retrieve``."""
        request = requests.fraud_reports(self.credentials, session_ids)
        return responses.fraud_reports(await self._exchange.call(request))

    async def timestamps(self, session_id: str) -> tuple[Timestamp, ...]:
        """Call ``GET /v1/sessions/{id}/timestamps``."""
        request = requests.timestamps(self.credentials, session_id)
        return responses.timestamps(await self._exchange.call(request))

    async def transportation_registry(self, session_id: str) -> TransportationResult:
        """Call ``GET /v1/transportation-registry/{id}``."""
        request = requests.transportation_registry(self.credentials, session_id)
        return responses.transportation_registry(await self._exchange.call(request))

    async def address(self, address_id: str) -> Decision | None:
        """Call ``GET /v1/address/{id}``; ``None`` while undecided."""
        request = requests.address(self.credentials, address_id)
        return responses.address(await self._exchange.call(request))

    async def address_media(self, address_id: str) -> MediaList:
        """Call ``GET /v1/address/{id}/media``."""
        request = requests.address_media(self.credentials, address_id)
        return responses.address_media(await self._exchange.call(request))


def _warn_about_end_user_id(options: CreateOptions | RegistryOptions) -> None:
    """Warn at the caller of the client's method."""
    words = warning_of_end_user_id(options.get("end_user_id"))
    if words is not None:
        warnings.warn(words, EndUserIdWarning, stacklevel=4)
