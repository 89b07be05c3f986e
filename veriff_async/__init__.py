"""An asyncio client for Veriff's identity verification; every public name is imported from here.

Names are loaded when they are first used, so that importing the package, as its pytest plugin does in every test run,
costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from veriff_async.version import __version__

if TYPE_CHECKING:
    from veriff_async.client import Statistics, VeriffClient, open_session
    from veriff_async.errors import (
        ApiError,
        AuthenticationError,
        BadRequestError,
        ClientClosedError,
        ConfigurationError,
        ConflictError,
        ConnectError,
        DecisionTimeoutError,
        InboxError,
        MediaChangedError,
        MediaEmptyError,
        MediaError,
        MediaTooLargeError,
        MediaUnsupportedError,
        NotFoundError,
        OutcomeUnknownError,
        PayloadError,
        PayloadTooLargeError,
        PermissionDeniedError,
        RateLimitedError,
        RequestTimeoutError,
        ResponseError,
        ServerError,
        SignatureError,
        TransportError,
        VeriffError,
        WebhookError,
    )
    from veriff_async.models.decision import Decision, RiskLabel
    from veriff_async.models.document import Document
    from veriff_async.models.enums import DocumentType, Gender, MediaContext, Status
    from veriff_async.models.media import Media, UploadedMedia, UploadProgress
    from veriff_async.models.person import Address, ParsedAddress, Person
    from veriff_async.protocol.credentials import Credentials
    from veriff_async.protocol.policies import PollPolicy, RetryPolicy, Timeouts
    from veriff_async.session import VerificationSession

__all__ = (
    "Address",
    "ApiError",
    "AuthenticationError",
    "BadRequestError",
    "ClientClosedError",
    "ConfigurationError",
    "ConflictError",
    "ConnectError",
    "Credentials",
    "Decision",
    "DecisionTimeoutError",
    "Document",
    "DocumentType",
    "Gender",
    "InboxError",
    "Media",
    "MediaChangedError",
    "MediaContext",
    "MediaEmptyError",
    "MediaError",
    "MediaTooLargeError",
    "MediaUnsupportedError",
    "NotFoundError",
    "OutcomeUnknownError",
    "ParsedAddress",
    "PayloadError",
    "PayloadTooLargeError",
    "PermissionDeniedError",
    "Person",
    "PollPolicy",
    "RateLimitedError",
    "RequestTimeoutError",
    "ResponseError",
    "RetryPolicy",
    "RiskLabel",
    "ServerError",
    "SignatureError",
    "Statistics",
    "Status",
    "Timeouts",
    "TransportError",
    "UploadProgress",
    "UploadedMedia",
    "VeriffClient",
    "VeriffError",
    "VerificationSession",
    "WebhookError",
    "__version__",
    "open_session",
)

_ERRORS = "veriff_async.errors"
_HOMES = {
    "Address": "veriff_async.models.person",
    "Credentials": "veriff_async.protocol.credentials",
    "Decision": "veriff_async.models.decision",
    "Document": "veriff_async.models.document",
    "DocumentType": "veriff_async.models.enums",
    "Gender": "veriff_async.models.enums",
    "Media": "veriff_async.models.media",
    "MediaContext": "veriff_async.models.enums",
    "ParsedAddress": "veriff_async.models.person",
    "Person": "veriff_async.models.person",
    "PollPolicy": "veriff_async.protocol.policies",
    "RetryPolicy": "veriff_async.protocol.policies",
    "RiskLabel": "veriff_async.models.decision",
    "Statistics": "veriff_async.client",
    "Status": "veriff_async.models.enums",
    "Timeouts": "veriff_async.protocol.policies",
    "UploadProgress": "veriff_async.models.media",
    "UploadedMedia": "veriff_async.models.media",
    "VerificationSession": "veriff_async.session",
    "VeriffClient": "veriff_async.client",
    "open_session": "veriff_async.client",
}


if not TYPE_CHECKING:  # a type checker would take any misspelt name for one of ours

    def __getattr__(name: str) -> object:
        if name not in __all__:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        value: object = getattr(import_module(_HOMES.get(name, _ERRORS)), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
