"""Every exception of the library, in one tree.

The class says what the caller can do; numbers and texts are attributes::

    VeriffError
    ├─ ConfigurationError (ValueError)      fix an option, a credential or the environment
    ├─ InvalidArgumentError (ValueError)    fix an argument of this call
    ├─ ClientClosedError (RuntimeError)     open a new client
    ├─ TransportError                       no usable answer came
    │   ├─ ConnectError                     nothing was sent: try again
    │   ├─ RequestTimeoutError (TimeoutError)
    │   │   └─ ConnectTimeoutError          both: no connection in time, so nothing was sent
    │   └─ OutcomeUnknownError              it may have been done: look before trying again
    ├─ ApiError                             Veriff answered, and refused
    │   ├─ BadRequestError          400     ├─ ConflictError         409
    │   ├─ AuthenticationError      401     ├─ PayloadTooLargeError  413
    │   ├─ PermissionDeniedError    403     ├─ RateLimitedError      429
    │   └─ NotFoundError            404     └─ ServerError           5xx
    ├─ ResponseError                        a success that breaks the contract or its signature
    ├─ MediaError                           the file, not the service
    │   ├─ MediaTooLargeError               ├─ MediaEmptyError
    │   ├─ MediaUnsupportedError            ├─ MediaChangedError
    │   ├─ MediaSourceError                 its source failed or stalled: try again
    │   └─ MediaNotSavedError               a download cannot be written
    │       └─ MediaExistsError             there is a file already
    ├─ WebhookError                         whoever posted it; answer with .status_hint
    │   ├─ SignatureError                   └─ WebhookPayloadError
    ├─ DecodeError                          from_json: not the JSON of the model
    ├─ InboxError
    ├─ BatchError                           of a job or its journal
    │   ├─ JobChangedError                  give the old input, or a new id
    │   ├─ JobFailedError                   it failed in an earlier run: retry_failed=True tries it again
    │   └─ JournalError ── JobClaimedError    another run has the job
    └─ DecisionTimeoutError (TimeoutError)  wait again, or later

No message, repr or attribute that is shown holds a secret, a body or a person's data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

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
    "InboxError",
    "InvalidArgumentError",
    "JobChangedError",
    "JobClaimedError",
    "JobFailedError",
    "JournalError",
    "MediaChangedError",
    "MediaEmptyError",
    "MediaError",
    "MediaExistsError",
    "MediaNotSavedError",
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
    "SignatureError",
    "TransportError",
    "VeriffError",
    "WebhookError",
    "WebhookPayloadError",
)

SignatureFault = Literal["missing", "malformed", "mismatch", "foreign_client", "foreign_integration"]


class VeriffError(Exception):
    """Catch everything that this library raises on purpose.

    Attributes:
        uploaded: What ``VerificationSession.upload`` had already put up when the error stopped it, in the
            order of its arguments; empty for every other call.
        downloaded: What ``VerificationSession.download_all`` had already brought down; empty for every other call.
        media: Which media the error is about (context and index among those of the call), or ``None`` when it is about
            none of them. The message of a `MediaError` or `InvalidArgumentError` begins with it.
        session_id: The session that exists although the call failed: set by ``VeriffClient.verify`` and
            ``VeriffClient.submit`` once they have created it, and by errors that are about one session.
        repeated: Whether an earlier try of the same call may have reached Veriff, so that this error, of the last try,
            does not prove that nothing was done.
    """

    uploaded: tuple[UploadedMedia, ...] = ()
    downloaded: tuple[DownloadedMedia, ...] = ()
    media: MediaReference | None = None
    session_id: str | None = None
    repeated: bool = False

    def __reduce__(self) -> tuple[object, tuple[type[VeriffError], tuple[object, ...], dict[str, object]]]:
        """Pickle by class, message and attributes, so that keyword-only fields survive."""
        return _revive, (type(self), self.args, dict(self.__dict__))


_E = TypeVar("_E", bound=VeriffError)


def _revive(kind: type[_E], args: tuple[object, ...], state: dict[str, object]) -> _E:
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
    """

    def __str__(self) -> str:
        """Return the sentence, after the media that it is about."""
        return _with_media(self.media, super().__str__())


class ClientClosedError(VeriffError, RuntimeError):
    """The client was closed (or its ``async with`` block left) before this call."""


class TransportError(VeriffError):
    """No usable answer came; the subclass says what is known about the request.

    Attributes:
        method: HTTP method of the request, for example ``"GET"``.
        path: Path of the request below the base URL; it may hold a session id, never a person's data.
    """

    def __init__(self, message: str, *, method: str, path: str) -> None:
        """Take the sentence to show and the request it is about."""
        super().__init__(message)
        self.method = method
        self.path = path


class ConnectError(TransportError):
    """The connection was never established, or a proxy refused it, so nothing of the request was sent."""


class RequestTimeoutError(TransportError, TimeoutError):
    """The call ran out of its time, or bytes stopped moving (see ``Timeouts``)."""


class ConnectTimeoutError(ConnectError, RequestTimeoutError):
    """The connection was not established in time (``Timeouts.connect`` or ``total``), so nothing was sent."""


class OutcomeUnknownError(TransportError):
    """The request was sent, nothing proves whether it was carried out, and a repetition could do it twice.

    Raised only by calls whose repetition Veriff does not recognise, since it has no idempotency key: those that create
    a session, report fraud or send collected data. After a creation, look for the session (by ``vendor_data`` in your
    own records or a webhook) before you create another.

    Attributes:
        session_id: Id of the session, if it could be read from a response that is otherwise unusable, else ``None``.
            The response may be incomplete or carry a wrong signature, so ask Veriff for the session before you rely
            on it.
    """

    def __init__(self, message: str, *, method: str, path: str, session_id: str | None = None) -> None:
        """Take the sentence to show, the request it is about, and the id."""
        super().__init__(message, method=method, path=path)
        self.session_id = session_id


class ApiError(VeriffError):
    """Veriff answered with an HTTP status that is not a success.

    Attributes:
        status: HTTP status of the answer.
        code: Veriff's own code as text (``"1302"``, ``"RATE_LIMIT_EXCEEDED"``), or ``None``; see
            https://devdocs.veriff.com/docs/some-troubleshooting-codes-table.
        reason: Veriff's message as it came. It may repeat what was sent, so it is not part of ``str()``.
        retry_after: Seconds that Veriff asked to wait, or ``None``.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str | None = None,
        reason: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        """Take the sentence to show and what the answer said."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.reason = reason
        self.retry_after = retry_after


class BadRequestError(ApiError):
    """The request was refused as wrong (HTTP 400, and any other 4xx without a class of its own)."""


class AuthenticationError(ApiError):
    """The API key or the signature was refused (HTTP 401)."""


class PermissionDeniedError(ApiError):
    """The integration may not do this (HTTP 403)."""


class NotFoundError(ApiError):
    """The session, attempt or media is unknown to this integration (HTTP 404)."""


class ConflictError(ApiError):
    """The session is past this step, for example an upload after submission (HTTP 409)."""


class PayloadTooLargeError(ApiError):
    """The server takes no body of this size (HTTP 413)."""


class RateLimitedError(ApiError):
    """Too many requests, and the retry budget is spent (HTTP 429)."""


class ServerError(ApiError):
    """Veriff failed, and the retry budget is spent or a retry is not safe (HTTP 5xx)."""


class ResponseError(VeriffError):
    """A success that cannot be trusted or read: wrong signature, wrong shape, or too large.

    Attributes:
        problems: What was wrong and where (``"expected an object @ $.verification"``), never the values.
    """

    def __init__(self, message: str, *, problems: Sequence[str] = ()) -> None:
        """Take the sentence to show and the list of problems."""
        super().__init__(message)
        self.problems: tuple[str, ...] = tuple(problems)


class MediaError(VeriffError):
    """The file or stream cannot be uploaded as it is; Veriff has nothing of it.

    Its ``media`` says which one: context, and index among the arguments of the call.
    """

    def __str__(self) -> str:
        """Return the sentence, after the media that it is about."""
        return _with_media(self.media, super().__str__())


class MediaTooLargeError(MediaError):
    """Larger than Veriff takes: images below 24 MB as base64, PDF below 20 MB."""


class MediaUnsupportedError(MediaError):
    """Not a type that Veriff takes (JPEG, PNG, WebP, HEIC, HEIF, PDF), or not the type that was stated."""


class MediaEmptyError(MediaError):
    """The file or stream holds no bytes."""


class MediaChangedError(MediaError):
    """The file changed between signing and sending; the request was broken off before its last piece."""


class MediaSourceError(MediaError):
    """The bytes could not be read from their source, or not be kept until they were sent; trying again may help.

    The source raised an exception, stalled, or was closed too early; or the system has no file descriptors or no room
    for a temporary file left. The message names the remedy.
    """


class MediaNotSavedError(MediaError):
    """A download cannot be written where it should be: the folder is missing, or takes no file.

    Nothing is left behind but what was there before.
    """


class MediaExistsError(MediaNotSavedError):
    """A file is there already; it is replaced only on demand.

    Attributes:
        path: The file. The message names it only where this library chose its name, since a name of yours may hold
            personal data.
    """

    path: Path | None = None


class WebhookError(VeriffError):
    """An incoming request is not a webhook to act on.

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
        """Take the sentence to show and the kind of fault."""
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


class BatchError(VeriffError):
    """A job of a batch cannot go on, or its journal cannot be used; see ``veriff_async.batch``."""


class JobChangedError(BatchError):
    """A job was given again under the same id with other input; nothing was done about it."""


class JobFailedError(BatchError):
    """A job failed for good in an earlier run, as its journal has it.

    Attributes:
        error_type: Name of the class of the error that ended it, for example ``"MediaEmptyError"``.
    """

    def __init__(self, message: str, *, error_type: str) -> None:
        """Take the sentence to show and the kind of error."""
        super().__init__(message)
        self.error_type = error_type


class JournalError(BatchError):
    """The journal cannot be read or written, so nothing more may be done that it should remember."""


class JobClaimedError(JournalError):
    """Another run, or this one, has the job already."""


class DecisionTimeoutError(VeriffError, TimeoutError):
    """No decision came in time; the session goes on, so waiting again is safe.

    Attributes:
        session_id: The session that was waited for.
        last_status: The last status that was seen, or ``None`` when nothing was known.
    """

    def __init__(self, message: str, *, session_id: str, last_status: str | None) -> None:
        """Take the sentence to show and what was known."""
        super().__init__(message)
        self.session_id: str = session_id  # pyright: ignore[reportIncompatibleVariableOverride]  it is always given here
        self.last_status = last_status
