"""Errors as problem details for the users of a web application (RFC 9457).

One table has, for each class of error, the HTTP status of the response and the problem that its user meets. Several
errors are one problem for a user: a wrong API key and a missing option are both a fault of the service. The texts
never contain data of an error, only the hints for a picture, which are constants too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Final, Literal, TypeAlias, cast

from attrs import frozen

from veriff_async import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("ProblemAction", "ProblemDetails", "problem_details")

ProblemAction: TypeAlias = Literal["correct", "retry", "reload", "restart", "contact"]
"""The next step of a user.

``correct`` a value or a file, ``retry`` the same later, ``reload`` the page, which is out of date, ``restart`` with a
new verification, or ``contact`` the operators of the service: only they can remove the problem.
"""

DEFAULT_TYPES: Final = "https://veriff-async.readthedocs.io/en/latest/reference/problems.html#"

_UNAVAILABLE: Final = 503

# Seconds after which a request is sent again if Veriff asked for no pause.
_PAUSE: Final = 5.0

# Seconds; a larger value, even by mistake, would stop a browser for days.
_MAX_PAUSE: Final = 86_400.0

# By code, in the order of the page that documents them.
PROBLEMS: Final[dict[str, tuple[ProblemAction, str]]] = {
    "invalid-value": ("correct", "A value is not accepted: correct it."),
    "file-empty": ("correct", "The file is empty: choose another one."),
    "file-too-large": ("correct", "The file is too large: use one with less than 18 MB."),
    "file-type-not-accepted": ("correct", "This type of file is not accepted: use JPEG, PNG, WebP, HEIC or PDF."),
    "file-not-accepted": ("correct", "This file cannot be used: choose another one."),
    "picture-quality": ("correct", "The picture is not good enough: take a sharp one in good light."),
    "file-incomplete": ("retry", "The file did not arrive completely: send it again."),
    "file-changed": ("retry", "The file changed while it was sent: send it again."),
    "decision-pending": ("retry", "The decision is still pending: ask again later."),
    "service-busy": ("retry", "The service is busy: try again soon."),
    "service-restarting": ("retry", "The service is restarting: try again in a few seconds."),
    "service-unreachable": ("retry", "The verification service cannot be reached: try again later."),
    "service-failed": ("retry", "The verification service has a problem: try again later."),
    "request-in-progress": ("retry", "This is in progress already: try again later."),
    "verification-changed": ("reload", "The verification has changed, or was sent already: reload the page."),
    "verification-not-found": ("restart", "This verification does not exist any more: start again."),
    "outcome-unknown": ("contact", "It is not known whether your request arrived: contact us before you repeat it."),
    "request-conflict": ("contact", "This was sent before, with another result: contact us."),
    "invalid-request": ("contact", "This request is not accepted: contact us."),
    "webhook-refused": ("contact", "This request is not a valid webhook."),
    "internal-error": ("contact", "Something went wrong on our side: try again later, or contact us."),
}

CLASSES: Final[dict[type[BaseException], tuple[int, str]]] = {
    BaseException: (500, "internal-error"),
    errors.VeriffError: (500, "internal-error"),
    errors.ConfigurationError: (500, "internal-error"),
    errors.InvalidArgumentError: (422, "invalid-value"),
    errors.ClientClosedError: (503, "service-restarting"),
    errors.DecodeError: (500, "internal-error"),
    errors.TransportError: (502, "service-unreachable"),
    errors.ConnectError: (502, "service-unreachable"),
    errors.ConnectTimeoutError: (504, "service-unreachable"),
    errors.RequestTimeoutError: (504, "service-unreachable"),
    errors.OutcomeUnknownError: (502, "outcome-unknown"),
    errors.ResponseError: (502, "service-failed"),
    errors.ApiError: (502, "service-failed"),
    errors.BadRequestError: (422, "invalid-value"),
    errors.AuthenticationError: (500, "internal-error"),
    errors.PermissionDeniedError: (500, "internal-error"),
    errors.NotFoundError: (404, "verification-not-found"),
    errors.ConflictError: (409, "verification-changed"),
    errors.PayloadTooLargeError: (413, "file-too-large"),
    errors.RateLimitedError: (503, "service-busy"),
    errors.ServerError: (502, "service-failed"),
    errors.DecisionTimeoutError: (504, "decision-pending"),
    errors.MediaError: (422, "file-not-accepted"),
    errors.MediaEmptyError: (422, "file-empty"),
    errors.MediaTooLargeError: (413, "file-too-large"),
    errors.MediaUnsupportedError: (415, "file-type-not-accepted"),
    errors.MediaQualityError: (422, "picture-quality"),
    errors.MediaChangedError: (409, "file-changed"),
    errors.MediaSourceError: (400, "file-incomplete"),
    errors.MediaNotSavedError: (500, "internal-error"),
    errors.MediaExistsError: (409, "request-conflict"),
    errors.WebhookError: (400, "webhook-refused"),
    errors.SignatureError: (401, "webhook-refused"),
    errors.WebhookPayloadError: (400, "webhook-refused"),
    errors.InboxError: (503, "service-busy"),
    errors.LeaseLostError: (503, "service-busy"),
    errors.ErasureError: (500, "internal-error"),
    errors.BatchError: (500, "internal-error"),
    errors.JobChangedError: (409, "request-conflict"),
    errors.JobFailedError: (409, "request-conflict"),
    errors.SessionLimitError: (503, "service-busy"),
    errors.JournalError: (500, "internal-error"),
    errors.JobClaimedError: (409, "request-in-progress"),
}

# The values that a user types, and the codes of Veriff that name one of them, by `_protocol.error_codes`.
_TYPED: Final = ("person.", "document.", "address.")
FIELDS: Final = {
    "1308": "person.id_number",
    "1309": "person.first_name",
    "1310": "person.date_of_birth",
    "2003": "person.date_of_birth",
    "2101": "document.number",
    "2102": "document.number",
    "2103": "document.type",
    "2104": "document.country",
}
# Codes about ids, forms and options, which come from the program and not from its user.
PROGRAM_CODES: Final = frozenset(
    {"1001", "1002", "1003", "1201", "1202", "1301", "1302", "1303", "1400", "1401", "1402", "1403", "1500", "1501"}
)
# Of a session that is past the step, for which Veriff uses 400 where others use 409.
STATUS_CODES: Final = frozenset({"1304", "1305", "1306"})


@frozen(kw_only=True)
class ProblemDetails:
    """The description of an error that a web application sends to its users.

    Attributes:
        status: The HTTP status of the response.
        code: The stable name of the problem, for example ``"file-too-large"``: translate by it.
        type: The URI of the page that explains the problem.
        title: The problem in a few words.
        detail: A sentence to show to the user. It has no ids, secrets or personal data.
        action: The next step of the user.
        field: The value or file to correct: the context of the media (``"document-front"``) or the name of an argument
            (``"person.first_name"``); ``None`` if the error does not name one.
        retry_after: Seconds after which the request may be repeated, or ``None``.
    """

    media_type: ClassVar[str] = "application/problem+json"
    """The ``Content-Type`` of the response."""

    status: int
    code: str
    type: str
    title: str
    detail: str
    action: ProblemAction
    field: str | None = None
    retry_after: float | None = None

    @property
    def needs_operator(self) -> bool:
        """Whether only the operators of the application can remove the problem, so that it belongs in their log."""
        return self.action == "contact"

    @property
    def headers(self) -> dict[str, str]:
        """Headers to add to the response, which are ``Retry-After`` in whole seconds if there is a time to wait."""
        return {} if self.retry_after is None else {"Retry-After": str(math.ceil(self.retry_after))}

    def to_dict(self) -> dict[str, object]:
        """Return the members of the JSON object: those of RFC 9457, ``code``, ``action``, and the known others."""
        members = {"type": self.type, "title": self.title, "status": self.status, "detail": self.detail}
        others = {"code": self.code, "action": self.action, "field": self.field, "retry_after": self.retry_after}
        return {name: value for name, value in (members | others).items() if value is not None}


def problem_details(
    error: BaseException, *, types: str = DEFAULT_TYPES, texts: Mapping[str, str] | None = None
) -> ProblemDetails:
    """Return the description of an error for the users of a web application (RFC 9457).

    Args:
        error: An error of this library, or an exception group of one such error, as a task group raises it. Any other
            exception is a fault of the application: status 500.
        types: The address of your own pages about problems. The ``type`` is this text followed by the code. By default,
            it is a page of this documentation.
        texts: Texts to show instead, by code, for example in another language. A code that is missing keeps its text.

    Returns:
        The description.

    Raises:
        TypeError: `error` is not an exception.

    Example:
        >>> try:
        ...     await session.upload(Media(request.stream(), "face"))
        ... except VeriffError as error:
        ...     problem = problem_details(error)
        ...     return JSONResponse(problem.to_dict(), problem.status, problem.headers, problem.media_type)

    See https://www.rfc-editor.org/rfc/rfc9457.
    """
    given: object = error  # callers without a type checker may pass anything
    if not isinstance(given, BaseException):
        msg = f"error must be an exception, not {type(given).__name__}: pass the one that was caught."
        raise TypeError(msg)
    error = _only_error(error)
    status, code = _classify(error)
    action, text = PROBLEMS[code]
    return ProblemDetails(
        status=status,
        code=code,
        type=types + code,
        title=code.replace("-", " ").capitalize(),
        detail=(texts or {}).get(code) or _hints(error) or text,
        action=action,
        field=_field(error),
        retry_after=_pause(error, status) if action == "retry" else None,
    )


def _only_error(error: BaseException) -> BaseException:
    """Return the error of a group of one, as a task group raises it, and any other error unchanged."""
    given: object = error
    inner = cast("BaseExceptionGroup", given).exceptions if isinstance(given, BaseExceptionGroup) else ()
    return _only_error(inner[0]) if len(inner) == 1 else error


def _classify(error: BaseException) -> tuple[int, str]:
    # A subclass of a program is the problem of its nearest base class.
    status, code = next(CLASSES[kind] for kind in type(error).__mro__ if kind in CLASSES)
    if isinstance(error, errors.WebhookError):
        return error.status_hint, code
    if isinstance(error, errors.BadRequestError) and error.code in STATUS_CODES:
        return CLASSES[errors.ConflictError]
    if isinstance(error, errors.BadRequestError):
        is_typed = error.code not in PROGRAM_CODES
    elif isinstance(error, errors.InvalidArgumentError):
        is_typed = error.media is not None or (error.field or "").startswith(_TYPED)
    else:
        return status, code
    return status, code if is_typed else "invalid-request"


def _hints(error: BaseException) -> str:
    """Return the sentences for the person who took a picture that failed its checks."""
    if not isinstance(error, errors.MediaQualityError) or error.inspection is None:
        return ""
    return " ".join(error.inspection.hints)


def _field(error: BaseException) -> str | None:
    if not isinstance(error, errors.VeriffError):
        return None
    if error.media is not None:
        return str(error.media.context or f"media[{error.media.index}]")
    if isinstance(error, errors.InvalidArgumentError):
        return error.field
    return FIELDS.get(error.code or "") if isinstance(error, errors.BadRequestError) else None


def _pause(error: BaseException, status: int) -> float | None:
    asked = error.retry_after if isinstance(error, errors.ApiError | errors.SessionLimitError) else None
    if asked is None or not asked >= 0:  # not NaN either
        return _PAUSE if status == _UNAVAILABLE else None
    return min(asked, _MAX_PAUSE)
