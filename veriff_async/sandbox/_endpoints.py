"""The endpoints: one method for each, which `ROUTES` lists with its method and path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen

from veriff_async.models.json import EMPTY, JsonObject
from veriff_async.models.registry import CurpResult, IneCurpResult, IneResult, TransportationResult
from veriff_async.sandbox import _session_data

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from veriff_async.sandbox._records import RegistryResult, Session, StoredMedia
    from veriff_async.sandbox._scenario import Scenario
    from veriff_async.sandbox._service import SandboxService

__all__ = ("ApiRequest", "Endpoints")


@frozen(kw_only=True)
class ApiRequest:
    """A request whose API key and signature are valid.

    Attributes:
        ids: The ids in the path, by the names in the pattern of the route.
        query: The query parameters.
        body: The body; empty for requests without one.
        media: The file of an upload, already on disk.
    """

    ids: Mapping[str, str] = field(factory=dict[str, str])
    query: Mapping[str, str] = field(factory=dict[str, str])
    body: JsonObject = EMPTY
    media: tuple[StoredMedia, ...] = ()

    @property
    def id(self) -> str:
        """The id that the path names first, which is the signed one."""
        return self.ids["id"]


class Endpoints:
    """Answers requests to Veriff whose signatures were checked."""

    def __init__(self, service: SandboxService) -> None:
        """Answer from the state of a service."""
        self._service = service

    @property
    def _host(self) -> str:
        return self._service.public_url or self._service.host

    def create_session(self, request: ApiRequest) -> JsonObject:
        """Create a session."""
        return self._service.apply(lambda scenario, now: scenario.create(request.body, now=now, host=self._host))

    def submit_session(self, request: ApiRequest) -> JsonObject:
        """Submit the attempt of a session."""
        return self._service.apply(
            lambda scenario, now: scenario.submit(request.id, request.body, now=now, host=self._host)
        )

    def delete_session(self, request: ApiRequest) -> JsonObject:
        """Delete a session."""
        return self._service.apply(lambda scenario, now: scenario.delete(request.id, now=now))

    def upload_media(self, request: ApiRequest) -> JsonObject:
        """Add an uploaded file to the attempt of a session."""
        (stored,) = request.media
        return self._service.apply(
            lambda scenario, now: scenario.add_media(request.id, stored, now=now, host=self._host)
        )

    def validate_registry(self, request: ApiRequest) -> JsonObject:
        """Create a session that is submitted immediately; its decision comes by webhook."""
        return self._service.apply(
            lambda scenario, now: scenario.validate_registry(request.body, now=now, host=self._host)
        )

    def validate_registry_sync(self, request: ApiRequest) -> JsonObject:
        """Create a session and respond with its decision."""
        return self._service.apply(lambda scenario, now: (scenario.validate_registry_sync(request.body, now=now), ()))

    def decision(self, request: ApiRequest) -> JsonObject:
        """Return the decision of a session."""
        self._service.record_poll(request.id)
        return self._service.read(lambda scenario: scenario.decision(request.id))

    def full_auto_decision(self, request: ApiRequest) -> JsonObject:
        """Return the decision of an integration that decides without a human."""
        self._service.record_poll(request.id)
        return self._service.read(lambda scenario: scenario.full_auto_decision(request.id))

    def session_media(self, request: ApiRequest) -> JsonObject:
        """List the media of the newest attempt that has any."""
        return self._service.read_session(
            request.id, lambda session: _session_data.media(session.shown, session, self._host, with_chips=True)
        )

    def attempt_media(self, request: ApiRequest) -> JsonObject:
        """List the media of an attempt."""

        def answer(scenario: Scenario) -> JsonObject:
            session, attempt = scenario.sessions.find_attempt(request.id)
            return _session_data.media(attempt, session, self._host, with_chips=False)

        return self._service.read(answer)

    def download_media(self, request: ApiRequest) -> StoredMedia:
        """Find a file by the id of its media."""
        return self._service.read(lambda scenario: scenario.sessions.find_media(request.id))

    def certificates(self, request: ApiRequest) -> JsonObject:
        """List the certificates of a session."""
        return self._service.read_session(request.id, lambda session: _session_data.certificates(session, self._host))

    def download_certificate_file(self, request: ApiRequest) -> StoredMedia:
        """Find a file that a certificate is about."""
        certificate_id, file_id = request.ids["certificate_id"], request.ids["file_id"]
        return self._service.read_session(
            request.id, lambda session: _session_data.certificate_file(session, certificate_id, file_id)
        )

    def attempts(self, request: ApiRequest) -> JsonObject:
        """List the attempts of a session."""
        return self._service.read_session(request.id, _session_data.attempts)

    def person(self, request: ApiRequest) -> JsonObject:
        """Return the person of a session."""
        return self._service.read_session(request.id, _session_data.person)

    def timestamps(self, request: ApiRequest) -> JsonObject:
        """Return the timestamps of a session's media."""
        return self._service.read_session(request.id, _session_data.timestamps)

    def watchlist_screening(self, request: ApiRequest) -> JsonObject:
        """Return the watchlist screening of a session."""
        return self._service.read_session(request.id, _session_data.watchlist_screening)

    def stop_monitoring(self, request: ApiRequest) -> JsonObject:
        """Stop the monitoring of a person."""
        return self._service.change_session(
            request.id, lambda session: _session_data.stop_monitoring(session, request.body)
        )

    def send_collected_data(self, request: ApiRequest) -> JsonObject:
        """Store data of the end-user's device."""
        return self._service.change_session(request.id, lambda session: _session_data.collect(session, request.body))

    def ine_registry(self, request: ApiRequest) -> JsonObject:
        """Return the result of the INE registry."""
        return self._read_registry(request, IneResult)

    def curp_registry(self, request: ApiRequest) -> JsonObject:
        """Return the result of the CURP registry."""
        return self._read_registry(request, CurpResult)

    def ine_curp_registry(self, request: ApiRequest) -> JsonObject:
        """Return the combined result of both registries."""
        return self._read_registry(request, IneCurpResult)

    def transportation_registry(self, request: ApiRequest) -> JsonObject:
        """Return the result of the registry of driving licences."""
        return self._read_registry(request, TransportationResult)

    def address(self, request: ApiRequest) -> JsonObject:
        """Return an older proof of address."""
        return self._read_address(request, _session_data.address)

    def address_media(self, request: ApiRequest) -> JsonObject:
        """List the media of an older proof of address."""
        return self._read_address(
            request, lambda session: _session_data.media(session.shown, session, self._host, with_chips=False)
        )

    def import_faces(self, request: ApiRequest) -> JsonObject:
        """Import faces for comparison."""
        return self._service.import_faces(request.body)

    def fraud_categories(self, _: ApiRequest) -> JsonObject:
        """List the categories of fraud."""
        return self._service.answer_feedback(lambda frauds, _: frauds.categories())

    def report_fraud(self, request: ApiRequest) -> JsonObject:
        """Report sessions as fraud."""
        return self._service.answer_feedback(lambda frauds, now: frauds.report(request.body, now=now))

    def fraud_reports(self, request: ApiRequest) -> JsonObject:
        """Return earlier reports of fraud."""
        return self._service.answer_feedback(lambda frauds, _: frauds.retrieve(request.body))

    def _read_registry(self, request: ApiRequest, kind: type[RegistryResult]) -> JsonObject:
        version = request.query.get("version")
        return self._service.read_session(request.id, lambda session: _session_data.registry(session, kind, version))

    def _read_address(self, request: ApiRequest, question: Callable[[Session], JsonObject]) -> JsonObject:
        return self._service.read(lambda scenario: question(scenario.sessions.find_by_address(request.id)))
