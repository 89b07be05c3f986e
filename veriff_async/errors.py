"""Every exception of the library, in one tree.

The class shows what the caller can do; numbers and texts are attributes::

    VeriffError
    ├─ ConfigurationError (ValueError)      fix an option, a credential or the environment
    ├─ InvalidArgumentError (ValueError)    fix an argument of this call
    ├─ ClientClosedError (RuntimeError)     open a new client
    ├─ TransportError                       no usable response arrived
    │   ├─ ConnectError                     nothing was sent: try again
    │   ├─ RequestTimeoutError (TimeoutError)
    │   │   └─ ConnectTimeoutError          both: no connection in time, so nothing was sent
    │   └─ OutcomeUnknownError              Veriff may have acted: check before trying again
    ├─ ApiError                             Veriff refused
    │   ├─ BadRequestError          400     ├─ ConflictError         409
    │   ├─ AuthenticationError      401     ├─ PayloadTooLargeError  413
    │   ├─ PermissionDeniedError    403     ├─ RateLimitedError      429
    │   └─ NotFoundError            404     └─ ServerError           5xx
    ├─ ResponseError                        a success with a wrong signature or form
    ├─ MediaError                           the file, not the service
    │   ├─ MediaTooLargeError               ├─ MediaEmptyError
    │   ├─ MediaUnsupportedError            ├─ MediaChangedError
    │   ├─ MediaQualityError                a blurred or dark picture, for example: take a new one
    │   ├─ MediaSourceError                 the source failed or stalled: try again
    │   └─ MediaNotSavedError               a download cannot be written
    │       └─ MediaExistsError             the file already exists
    ├─ WebhookError                         a request that is not a webhook: answer with .status_hint
    │   ├─ SignatureError                   └─ WebhookPayloadError
    ├─ DecodeError                          from_json: not the JSON of the model
    ├─ InboxError ── LeaseLostError         another attempt handles the event
    ├─ ErasureError                         a queue of erasures, or files to erase: try again
    ├─ BatchError                           a job or its journal
    │   ├─ JobChangedError                  pass the old input, or a new id
    │   ├─ JobFailedError                   failed in an earlier run: retry_failed=True tries it again
    │   └─ JournalError ── JobClaimedError  another run has the job
    └─ DecisionTimeoutError (TimeoutError)  wait again, or later

No message, repr or attribute that is shown holds a secret, a body or a person's data.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from veriff_async.models.inspection import MediaInspection
    from veriff_async.models.media import DownloadedMedia, MediaReference, UploadedMedia

__all__ = (
    "ApiError",
    "AuthenticationError",
    "BadRequestError",
    "BatchError",
    "ClientClosedError",
    "ConfigurationError",
    "ConflictError",
    "ConnectError",
    "ConnectTimeoutError",
    "DecisionTimeoutError",
    "DecodeError",
    "ErasureError",
    "InboxError",
    "InvalidArgumentError",
    "JobChangedError",
    "JobClaimedError",
    "JobFailedError",
    "JournalError",
    "LeaseLostError",
    "MediaChangedError",
    "MediaEmptyError",
    "MediaError",
    "MediaExistsError",
    "MediaNotSavedError",
    "MediaQualityError",
    "MediaSourceError",
    "MediaTooLargeError",
    "MediaUnsupportedError",
    "NotFoundError",
    "OutcomeUnknownError",
    "PayloadTooLargeError",
    "PermissionDeniedError",
    "RateLimitedError",
    "RequestTimeoutError",
    "ResponseError",
    "ServerError",
    "SessionLimitError",
    "SignatureError",
    "TransportError",
    "VeriffError",
    "WebhookError",
    "WebhookPayloadError",
)

_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})

SignatureFault = Literal["missing", "malformed", "mismatch", "foreign_client", "foreign_integration"]


class VeriffError(Exception):
    """The base class of all errors of this library.

    Attributes:
        uploaded: The receipts of the uploads that were complete when the error stopped ``VerificationSession.upload``,
            in the order of its arguments; empty for every other call. It is an attribute of this class because such an
            error may be of almost any subclass.
        downloaded: The downloads that were complete when the error stopped ``VerificationSession.download_all``; empty
            for every other call.
        media: The media that the error concerns (context and index among those of the call), or ``None``. The message
            of a `MediaError` or `InvalidArgumentError` begins with it.
        session_id: The session that exists although the call failed: set by ``VeriffClient.verify`` and
            ``VeriffClient.submit`` after the creation, and by errors that concern one session.
        repeated: Whether an earlier attempt of the same call may have reached Veriff, so that this error, of the last
            attempt, does not prove that nothing was done.
        attempts: Number of attempts that the failed call has made, zero if none could start; ``None`` if the error is
            not that of one call to Veriff.
        elapsed: Seconds that the call took, pauses included, or ``None`` likewise.
        request_id: The id that a header of the last response gives to the request, or ``None``. That Veriff sends one
            is a guess; usual names such as ``X-Request-Id`` are read.
    """

    # Defaults of the class: subclasses need no `__init__` for them, and pickles hold only the values that were set.
    uploaded: tuple[UploadedMedia, ...] = ()
    downloaded: tuple[DownloadedMedia, ...] = ()
    media: MediaReference | None = None
    session_id: str | None = None
    repeated: bool = False
    attempts: int | None = None
    elapsed: float | None = None
    request_id: str | None = None

    def __reduce__(self) -> tuple[object, tuple[type[VeriffError], tuple[object, ...], dict[str, object]]]:
        """Pickle by class, message and attributes, so that keyword-only fields survive."""
        # Task queues pickle exceptions, and the default `__reduce__` would lose keyword-only arguments.
        return _rebuild, (type(self), self.args, dict(self.__dict__))


_E = TypeVar("_E", bound=VeriffError)


def _rebuild(kind: type[_E], args: tuple[object, ...], state: dict[str, object]) -> _E:
    # Without `__init__`, whose keyword-only arguments are in `state`.
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def _with_media(media: MediaReference | None, sentence: str) -> str:
    return sentence if media is None else f"{media}: {sentence}"


class ConfigurationError(VeriffError, ValueError):
    """An option of a long-lived object, a credential or an environment variable cannot work; the message names it.

    Raised by constructors such as ``VeriffClient(...)`` and ``SqliteInbox(...)``, and when an extra is not installed.
    It is a mistake of the deployment: every call would meet it. For an argument of one call, see
    `InvalidArgumentError`.
    """


class InvalidArgumentError(VeriffError, ValueError):
    """An argument of this call cannot work, or Veriff would refuse it; the message names it.

    Raised before anything is sent. It concerns this call only, so it may be the mistake of an end-user whose data the
    program passes on: a web application answers it with a 4xx status, and a `ConfigurationError` with 500.

    Attributes:
        field: The name of a value of the request that is wrong, such as ``"person.first_name"``; ``None`` for others.
    """

    field: str | None = None

    def __str__(self) -> str:
        """Return the media that the error concerns, followed by the message."""
        return _with_media(self.media, super().__str__())


class ClientClosedError(VeriffError, RuntimeError):
    """The client was closed (or its ``async with`` block left) before this call."""


class TransportError(VeriffError):
    """No usable response arrived. The subclass shows what is known about the request.

    Attributes:
        method: HTTP method of the request, for example ``"GET"``.
        path: Path of the request below the base URL; it may hold a session id, never a person's data.
    """

    def __init__(self, message: str, *, method: str, path: str) -> None:
        """Store method and path of the request. `message` is the sentence to show."""
        super().__init__(message)
        self.method = method
        self.path = path


class ConnectError(TransportError):
    """The connection was never established, or a proxy refused it, so nothing was sent."""


class RequestTimeoutError(TransportError, TimeoutError):
    """The call exceeded a limit of ``Timeouts``, for example because no more bytes arrived."""


class ConnectTimeoutError(ConnectError, RequestTimeoutError):
    """The connection was not established in time (``Timeouts.connect`` or ``total``), so nothing was sent."""


class OutcomeUnknownError(TransportError):
    """The request was sent, nothing proves whether it was carried out, and a repetition could do it twice.

    Veriff has no idempotency key. Only calls raise this whose repetition Veriff does not recognise: those that create a
    session, report fraud, import faces or send collected data. After a creation, look for the session (by
    ``vendor_data`` in your own records or a webhook) before you create another.

    Attributes:
        session_id: Id of the session, if it could be read from a response that is otherwise unusable, else ``None``.
            The response may be incomplete or carry a wrong signature, so ask Veriff for the session before you rely
            on it.
    """

    def __init__(self, message: str, *, method: str, path: str, session_id: str | None = None) -> None:
        """Store the request and the id of the session. `message` is the sentence to show."""
        super().__init__(message, method=method, path=path)
        self.session_id = session_id


class ApiError(VeriffError):
    """Veriff answered with an HTTP status that is not a success.

    Attributes:
        status: HTTP status of the response.
        code: Veriff's own code as text (``"1302"``, ``"RATE_LIMIT_EXCEEDED"``), or ``None``; see
            https://devdocs.veriff.com/docs/some-troubleshooting-codes-table.
        reason: Veriff's own message, unchanged. It may repeat data of the request, so it is not part of ``str()``.
        retry_after: Seconds that Veriff asked to wait, or ``None``.
        headers: Headers of the response that hold no credentials, cookies or unknown data, by name in lower case.
    """

    # Defaults for subclasses of a program that do not call `__init__`.
    code: str | None = None
    reason: str | None = None
    retry_after: float | None = None
    headers: Mapping[str, str] = _NO_HEADERS

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str | None = None,
        reason: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        """Store the parts of the response. `message` is the sentence to show."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.reason = reason
        self.retry_after = retry_after


class BadRequestError(ApiError):
    """The request was refused as wrong (HTTP 400, and any other 4xx without its own class)."""


class AuthenticationError(ApiError):
    """The API key or the signature was refused (HTTP 401)."""


class PermissionDeniedError(ApiError):
    """The integration may not do this (HTTP 403)."""


class NotFoundError(ApiError):
    """The session, attempt or media is unknown to this integration (HTTP 404)."""


class ConflictError(ApiError):
    """The status of the session does not allow the call, for example an upload after the submission (HTTP 409)."""


class PayloadTooLargeError(ApiError):
    """The server does not accept a body of this size (HTTP 413)."""


class RateLimitedError(ApiError):
    """Too many requests, and the retry budget is used up (HTTP 429)."""


class ServerError(ApiError):
    """Veriff failed, and the retry budget is used up or a retry is not safe (HTTP 5xx)."""


class ResponseError(VeriffError):
    """A success that cannot be trusted or parsed: its signature or form is wrong, or it is too large.

    Attributes:
        problems: The problems and their JSON paths (``"expected an object @ $.verification"``), never the values.
        headers: See `ApiError`; empty if the head of the response did not arrive.
    """

    headers: Mapping[str, str] = _NO_HEADERS

    def __init__(self, message: str, *, problems: Sequence[str] = ()) -> None:
        """Store the problems. `message` is the sentence to show."""
        super().__init__(message)
        self.problems: tuple[str, ...] = tuple(problems)


class MediaError(VeriffError):
    """A file or stream cannot be uploaded as it is; Veriff has received nothing of it.

    Its ``media`` names the media: context, and index among the arguments of the call.
    """

    def __str__(self) -> str:
        """Return the media that the error concerns, followed by the message."""
        return _with_media(self.media, super().__str__())


class MediaTooLargeError(MediaError):
    """The media is larger than Veriff accepts: images below 24 MB as base64, PDF below 20 MB."""


class MediaUnsupportedError(MediaError):
    """The media has no type that Veriff accepts (JPEG, PNG, WebP, HEIC, HEIF, PDF), or not the stated type."""


class MediaEmptyError(MediaError):
    """The file or stream holds no bytes."""


class MediaQualityError(MediaError):
    """A picture with ``Media(..., quality="refuse")`` fails a check of `inspect_media`.

    Attributes:
        inspection: All checks of the picture. Show its ``hints`` to the person who took the picture.
    """

    inspection: MediaInspection | None = None


class MediaChangedError(MediaError):
    """The file changed between signing and sending; the request was aborted before its last piece."""


class MediaSourceError(MediaError):
    """The source could not be read, or its bytes could not be stored until they were sent; trying again may help.

    The source raised an exception, stalled, or was closed too early; or the system has no more file descriptors, or no
    more space for a temporary file. The message names the remedy.
    """


class MediaNotSavedError(MediaError):
    """A download cannot be written to its target: the folder is missing, or does not accept a file.

    No part of the download remains.
    """


class MediaExistsError(MediaNotSavedError):
    """The file already exists; a download replaces it only with ``if_exists="replace"``.

    Attributes:
        path: The file. The message names it only if this library chose the name, since your own name may hold personal
            data.
    """

    path: Path | None = None


class WebhookError(VeriffError):
    """An incoming request is not a valid webhook.

    Attributes:
        status_hint: HTTP status to answer with.
    """

    status_hint: int = 400


class SignatureError(WebhookError):
    """The request does not prove that it comes from Veriff.

    Attributes:
        reason: ``"missing"``, ``"malformed"``, ``"mismatch"``, ``"foreign_client"`` or ``"foreign_integration"``.
    """

    status_hint = 401

    def __init__(self, message: str, *, reason: SignatureFault) -> None:
        """Store the reason. `message` is the sentence to show."""
        super().__init__(message)
        self.reason: SignatureFault = reason


class WebhookPayloadError(WebhookError):
    """The signature of the webhook is valid, but its body cannot be decoded.

    Attributes:
        problems: The problems and their JSON paths, never the values.
    """

    def __init__(self, message: str, *, problems: Sequence[str] = ()) -> None:
        """Store the problems. `message` is the sentence to show."""
        super().__init__(message)
        self.problems: tuple[str, ...] = tuple(problems)


class DecodeError(VeriffError):
    """`from_json` was given JSON that is not the JSON of the model.

    Attributes:
        problems: The problems and their JSON paths, never the values.
    """

    def __init__(self, message: str, *, problems: Sequence[str] = ()) -> None:
        """Store the problems. `message` is the sentence to show."""
        super().__init__(message)
        self.problems: tuple[str, ...] = tuple(problems)


class InboxError(VeriffError):
    """The inbox could not record or read; an event that was not recorded must not be acknowledged."""


class LeaseLostError(InboxError):
    """The lease of a delivery was lost, so its transaction was rolled back; another attempt handles the event.

    See `veriff_async.inbox.TransactionalInbox`.
    """


class ErasureError(VeriffError):
    """Files or the queue of an erasure cannot be used; every step of an erasure may be repeated."""


class BatchError(VeriffError):
    """A job of a batch cannot continue, or its journal cannot be used; see ``veriff_async.batch``."""


class JobChangedError(BatchError):
    """A job was passed again with the same id and different input; nothing was done."""


class JobFailedError(BatchError):
    """A job failed permanently in an earlier run, according to its journal.

    Attributes:
        error_type: Name of the class of the error that ended it, for example ``"MediaEmptyError"``.
    """

    def __init__(self, message: str, *, error_type: str) -> None:
        """Store the class name of the error. `message` is the sentence to show."""
        super().__init__(message)
        self.error_type = error_type


class SessionLimitError(BatchError):
    """A job was left without a session, because its batch may create no more of them now.

    Attributes:
        retry_after: Seconds until the hourly limit permits another session, or ``None`` if the limit of the whole batch
            is reached.
    """

    def __init__(self, message: str, *, retry_after: float | None) -> None:
        """Take the sentence to show and the pause."""
        super().__init__(message)
        self.retry_after = retry_after


class JournalError(BatchError):
    """The journal cannot be read or written, so a run must stop before it does anything that must be recorded."""


class JobClaimedError(JournalError):
    """Another run, or this one, has already claimed the job."""


class DecisionTimeoutError(VeriffError, TimeoutError):
    """No decision arrived in time. The session is not affected, so waiting again is safe.

    Attributes:
        session_id: The session that was waited for.
        last_status: The last known status, or ``None``.
    """

    def __init__(self, message: str, *, session_id: str, last_status: str | None) -> None:
        """Take the sentence to show and what was known."""
        super().__init__(message)
        self.session_id: str = session_id  # pyright: ignore[reportIncompatibleVariableOverride]  it is always given here
        self.last_status = last_status
