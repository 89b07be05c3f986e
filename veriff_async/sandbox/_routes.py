"""All endpoints of the sandbox: method, path, how the request is signed, and the method that answers it.

The page of each endpoint in Veriff's documents, or the source that it is known from, is in
``docs/reference/endpoints.md``.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from attrs import frozen

from veriff_async._protocol.base_url import LOCAL_SYNC
from veriff_async.sandbox._endpoints import Endpoints

if TYPE_CHECKING:
    from collections.abc import Callable

    from veriff_async.models.json import JsonObject
    from veriff_async.sandbox._endpoints import ApiRequest
    from veriff_async.sandbox._errors import ErrorForm
    from veriff_async.sandbox._records import StoredMedia

__all__ = ("ROUTES", "Route", "Signed")


class Signed(Enum):
    """The part of a request that its signature covers."""

    ID = auto()
    """The id in the path (documented for requests without a body)."""

    BODY = auto()
    """The body."""

    BODY_OR_NOTHING = auto()
    """The body, if the request has a signature: documented as optional for creations."""

    BODY_AND_API_KEY = auto()
    """Like `BODY_OR_NOTHING`; the host of synchronous checks wants the API key in a second header (documented)."""

    FACES = auto()
    """The body, which holds ten pictures and may be larger than other bodies."""

    UPLOAD = auto()
    """The body, which is parsed and stored while it arrives."""

    FEEDBACK = auto()
    """The path, followed by the body of a POST; the feedback API has headers of its own (documented)."""


@frozen
class Route:
    """One endpoint."""

    method: str
    path: str
    signed: Signed
    handler: Callable[[Endpoints, ApiRequest], JsonObject | StoredMedia]
    status: int = 200
    errors: ErrorForm = "usual"


_CERTIFICATE_FILE: Final = "/v1/sessions/{id}/certificates/{certificate_id}/files/{file_id}"
_COMBINED: Final = "/v1/sessions/{id}/decision/combined-ine-curp-registry"

ROUTES: Final = (
    Route("POST", "/v1/sessions", Signed.BODY_OR_NOTHING, Endpoints.create_session, 201),
    Route("PATCH", "/v1/sessions/{id}", Signed.BODY, Endpoints.submit_session),
    Route("DELETE", "/v1/sessions/{id}", Signed.ID, Endpoints.delete_session, errors="deletion"),
    Route("POST", "/v1/sessions/{id}/media", Signed.UPLOAD, Endpoints.upload_media),
    Route("GET", "/v1/sessions/{id}/media", Signed.ID, Endpoints.session_media),
    Route("GET", "/v1/sessions/{id}/certificates", Signed.ID, Endpoints.certificates),
    Route("GET", _CERTIFICATE_FILE, Signed.ID, Endpoints.download_certificate_file),
    Route("POST", "/v1/faces/import", Signed.FACES, Endpoints.import_faces, 202),
    # The id of the attempt is signed, as documented.
    Route("GET", "/v1/attempts/{id}/media", Signed.ID, Endpoints.attempt_media),
    Route("GET", "/v1/media/{id}", Signed.ID, Endpoints.download_media),
    # Seen: two public clients call this path for the media of an address. Veriff has no page about it.
    Route("GET", "/v1/address-media/{id}", Signed.ID, Endpoints.download_media),
    Route("POST", "/v1/sessions/{id}/collected-data", Signed.BODY, Endpoints.send_collected_data),
    Route("GET", "/v1/sessions/{id}/attempts", Signed.ID, Endpoints.attempts),
    Route("GET", "/v1/sessions/{id}/decision", Signed.ID, Endpoints.decision),
    Route("GET", "/v1/sessions/{id}/decision/fullauto", Signed.ID, Endpoints.full_auto_decision),
    Route("GET", "/v1/sessions/{id}/decision/ine-registry", Signed.ID, Endpoints.ine_registry),
    Route("GET", "/v1/sessions/{id}/decision/curp-registry", Signed.ID, Endpoints.curp_registry),
    Route("GET", _COMBINED, Signed.ID, Endpoints.ine_curp_registry),
    Route("GET", "/v1/sessions/{id}/person", Signed.ID, Endpoints.person),
    Route("GET", "/v1/sessions/{id}/watchlist-screening", Signed.ID, Endpoints.watchlist_screening),
    Route("PATCH", "/v1/sessions/{id}/watchlist-screening", Signed.BODY, Endpoints.stop_monitoring),
    Route("GET", "/v1/sessions/{id}/timestamps", Signed.ID, Endpoints.timestamps),
    Route("GET", "/v1/transportation-registry/{id}", Signed.ID, Endpoints.transportation_registry),
    Route("GET", "/v1/address/{id}", Signed.ID, Endpoints.address),
    Route("GET", "/v1/address/{id}/media", Signed.ID, Endpoints.address_media),
    Route("POST", "/v1/validate-registry", Signed.BODY_OR_NOTHING, Endpoints.validate_registry, 201),
    # The index of Veriff's reference has this path, the page of the endpoint has the one above.
    Route("POST", "/v1/sessions/validate-registry", Signed.BODY_OR_NOTHING, Endpoints.validate_registry, 201),
    # Another host at Veriff; the sandbox serves all hosts on one port, and distinguishes them by the path.
    Route("POST", LOCAL_SYNC + "/v1/validate-registry", Signed.BODY_AND_API_KEY, Endpoints.validate_registry_sync),
    Route("GET", "/v1/feedback/fraud-categories", Signed.FEEDBACK, Endpoints.fraud_categories, errors="feedback"),
    Route("POST", "/v1/feedback/fraud-reports", Signed.FEEDBACK, Endpoints.report_fraud, errors="feedback"),
    Route("POST", "/v1/feedback/fraud-reports/retrieve", Signed.FEEDBACK, Endpoints.fraud_reports, errors="feedback"),
)
