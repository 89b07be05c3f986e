"""One response of Veriff's: check its signature, turn a refusal into its error, and parse a success from JSON."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeVar, cast

from attrs import field

from veriff_async import errors
from veriff_async._protocol.authenticity import parse_auth_headers
from veriff_async._protocol.error_codes import class_of, remedy
from veriff_async._protocol.json.decode import decode_model, load_object
from veriff_async._records import record
from veriff_async.errors import DecodeError
from veriff_async.models.json import EMPTY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from veriff_async._protocol.request import Request
    from veriff_async._protocol.signing import Verifier
    from veriff_async.models.json import JsonObject

__all__ = (
    "Response",
    "api_error",
    "check_authenticity",
    "invalid_response",
    "is_refusal",
    "is_signed",
    "name_session",
    "parse_model",
    "parse_models",
    "session_id_in",
    "success_json",
    "unknown_outcome",
    "unreadable_response",
)

_Model = TypeVar("_Model")

_REDIRECT: Final = 300
_UNAUTHORIZED: Final = 401
# A session's id in a body that may be cut off: where Veriff puts it, or else the first id that is a UUID, as all are.
# Compiled at its first use, because few programs ever need it.
_SESSION_ID: Final = (
    rb'"verification"\s*:\s*\{[^{}]{0,4096}?"id"\s*:\s*"([A-Za-z0-9_-]{1,64})"'
    rb'|"id"\s*:\s*"([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})"'
)
_CODE: Final = re.compile(r"\d{1,10}|[A-Z][A-Z0-9_]{0,39}", re.ASCII)


@record(kw_only=True)
class Response:
    """One response of the server, read completely.

    Attributes:
        request: The request that it answers.
        status: HTTP status.
        headers: Its headers; names in any case.
        body: Its body; empty if the body was streamed to a file or to the caller.
        seen: The verifier that has seen a streamed body.
        repeated: Whether an earlier attempt of the same request may have reached Veriff.
        retry_after: Seconds that it asks to wait, or ``None``.
    """

    request: Request
    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    seen: Verifier | None = field(default=None, repr=False, eq=False)
    repeated: bool = False
    retry_after: float | None = None


def check_authenticity(response: Response) -> None:
    """Check the signature of a response, when it has one, with the credentials of its request.

    Veriff documents for some endpoints only that it signs their responses, so a missing signature is not an error. A
    response that refuses key or signature (401) cannot be signed with the secret that it refuses; it passes here, and
    becomes an `AuthenticationError`.

    Raises:
        ResponseError: The response names another API key or integration, or its signature matches no secret.
        OutcomeUnknownError: Likewise, and the request must not be repeated.
    """
    # The secret that would verify the signature is the one that Veriff has just refused.
    if response.status == _UNAUTHORIZED:
        return
    auth, credentials = parse_auth_headers(response.headers), response.request.credentials
    # Veriff sends both families of headers, so one of two that contradict each other is not Veriff's.
    if auth.disagrees:
        fault, remedy = "contradicts itself in its headers", "check for a proxy between this machine and Veriff"
        raise invalid_response(response, fault, remedy, ("two families disagree @ header",))
    if auth.names_other_key(credentials):
        fault, remedy = "names another API key", "check base_url, and for a proxy between this machine and Veriff"
        raise invalid_response(response, fault, remedy, ("another API key @ header",))
    if auth.names_other_integration(credentials):
        fault, remedy = (
            "names another integration",
            "check integration_id, and for a proxy between this machine and Veriff",
        )
        raise invalid_response(response, fault, remedy, ("another integration @ header",))
    if auth.signature is not None and not _is_signature_valid(response, auth.signature):
        fault, remedy = "is not signed with a known secret", "pass every valid secret, and check for a proxy"
        raise invalid_response(response, fault, remedy, ("signature does not match @ header",))


def is_signed(response: Response) -> bool:
    """Return whether a response carries a valid signature of Veriff for this integration."""
    auth, credentials = parse_auth_headers(response.headers), response.request.credentials
    if auth.signature is None or auth.disagrees:
        return False
    if auth.names_other_key(credentials) or auth.names_other_integration(credentials):
        return False
    return _is_signature_valid(response, auth.signature)


def _is_signature_valid(response: Response, signature: str) -> bool:
    # A streamed body is not in memory: the verifier has seen each piece as it came.
    if response.seen is not None:
        return response.seen.match(signature) is not None
    return response.request.credentials.verify(response.body, signature) is not None


def invalid_response(response: Response, fault: str, remedy: str, problems: tuple[str, ...]) -> errors.VeriffError:
    """Return the error for a response that the client cannot use.

    Returns:
        A `ResponseError`; after a request that must not be repeated, an `OutcomeUnknownError`: most likely Veriff
        has carried it out, and a caller that takes the error for a failure would do it again.
    """
    request = response.request
    # The request was answered, so it was most likely carried out.
    if not request.repeatable:
        return unknown_outcome(request, f"the response {fault}; {remedy}", session_id_in(request, response.body))
    return errors.ResponseError(
        f"The response to {request.method} {request.path} {fault}: {remedy}.", problems=problems
    )


def unknown_outcome(request: Request, cause: str, session_id: str | None = None) -> errors.OutcomeUnknownError:
    """Return the error for a request that may or may not have been carried out."""
    where = f"{request.method} {request.path}"
    if session_id is not None:
        rest = f"session {session_id} probably exists: ask for it before you create another"
    elif request.creates_session:
        rest = (
            "a session may or may not exist: look for its vendor_data in the Customer Portal or your webhooks before "
            "you create another"
        )
    else:
        rest = "it may or may not have been carried out: check that before you send it again"
    msg = f"{where} was sent, but its outcome is unknown ({cause}), so {rest}."
    return errors.OutcomeUnknownError(msg, method=request.method, path=request.path, session_id=session_id)


def session_id_in(request: Request, body: bytes) -> str | None:
    """Return the id of the session that a request created, from a body that is perhaps unreadable or cut off."""
    if not request.creates_session:
        return None
    match = re.search(_SESSION_ID, body)
    return None if match is None else (match[1] or match[2]).decode()


def name_session(error: BaseException, session_id: str) -> None:
    """Add the id of a created session to an error: a caller without it would create a second one."""
    if isinstance(error, errors.VeriffError):
        error.session_id = session_id
    else:
        error.add_note(f"Session {session_id} was created before.")


def is_refusal(response: Response) -> bool:
    """Return whether a response is not a success. Redirects are not followed, so they are refusals too."""
    return response.status >= _REDIRECT


def success_json(response: Response) -> JsonObject:
    """Return the JSON object of a success.

    Raises:
        ApiError: It is a refusal.
        ResponseError: The body is not a JSON object.
        OutcomeUnknownError: Likewise, and the request must not be repeated.
    """
    if response.status >= _REDIRECT:
        raise api_error(response)
    try:
        return load_object(response.body)
    except DecodeError as error:
        problems = error.problems
    raise unreadable_response(response, problems)


def parse_model(response: Response, model: type[_Model], value: object, path: str = "$") -> _Model:
    """Parse a model from a part of a successful response.

    Raises:
        ResponseError: The part does not match the model.
    """
    try:
        return decode_model(model, value, path=path)
    except DecodeError as error:
        problems = error.problems
    raise unreadable_response(response, problems)


def parse_models(response: Response, model: type[_Model], value: object, member: str) -> tuple[_Model, ...]:
    """Parse a list of models from a part of a successful response; errors call it `member`.

    Raises:
        ResponseError: The part is not a list, or an item does not match the model.
    """
    if not isinstance(value, list):
        raise unreadable_response(response, (f"expected a list @ $.{member}",))
    items = cast("list[object]", value)
    return tuple(parse_model(response, model, item, f"$.{member}[{index}]") for index, item in enumerate(items))


def unreadable_response(response: Response, problems: tuple[str, ...]) -> errors.VeriffError:
    """Return the error for a success that cannot be parsed; `problems` are shown, so they must not hold values."""
    remedy = "check that base_url is Veriff's, then look for a newer version of veriff-async"
    return invalid_response(response, f"cannot be read ({'; '.join(problems)})", remedy, problems)


def api_error(response: Response) -> errors.ApiError:
    """Return the error for a refusal, with its code and a remedy."""
    try:
        body = load_object(response.body)
    except DecodeError:
        body = EMPTY
    code, reason = body.get("code"), body.get("message")
    # The code is documented as a text and was seen as a number; the feedback API has words. Any other value could hold
    # personal data, and the message would show it.
    text = str(code) if isinstance(code, str | int) and _CODE.fullmatch(str(code)) else None
    numbers = f"HTTP {response.status}" + (f", code {text}" if text else "")
    call = f"{response.request.method} {response.request.path}"
    msg = f"Veriff refused {call} ({numbers}): {remedy(response.status, text)}."
    error = class_of(response.status, text)(
        msg,
        status=response.status,
        code=text,
        reason=reason if isinstance(reason, str) else None,
        retry_after=response.retry_after,
    )
    error.repeated = response.repeated
    return error
