"""One answer of the server: its origin checked, a refusal turned into the right error, a success read as JSON."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeVar, cast

from attrs import field, frozen

from veriff_async import errors
from veriff_async.models.json import EMPTY
from veriff_async.protocol.codec import UnreadableError, load_object, read
from veriff_async.protocol.origin import claim_of
from veriff_async.protocol.remedies import class_of, remedy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from veriff_async.models.json import JsonObject
    from veriff_async.protocol.signed import Request
    from veriff_async.protocol.signing import Verifier

__all__ = ("Answer", "check_origin", "is_refusal", "model_in", "models_from", "models_in", "refusal", "success")

_Model = TypeVar("_Model")

_REDIRECT: Final = 300
_UNAUTHORIZED: Final = 401
_CODE: Final = re.compile(r"\d{1,10}|[A-Z][A-Z0-9_]{0,39}", re.ASCII)


@frozen(kw_only=True)
class Answer:
    """One answer of the server, read to its end.

    Attributes:
        request: What it answers.
        status: HTTP status.
        headers: Its headers; names in any case.
        body: Its body, empty when it was handed on piece by piece.
        seen: What has seen a body that was handed on, for its signature.
        repeated: Whether an earlier try of the same request may have reached Veriff.
        retry_after: Seconds that it asked to wait, if it did.
    """

    request: Request
    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    seen: Verifier | None = field(default=None, repr=False, eq=False)
    repeated: bool = False
    retry_after: float | None = None


def check_origin(answer: Answer) -> None:
    """Check the signature of an answer, when it has one, with the credentials of its request.

    Which answers Veriff signs is documented for some endpoints only, so a missing signature is no fault. An answer that
    refuses key or signature (401) cannot be signed with what it refuses, and is told as the refusal that it is.

    Raises:
        ResponseError: The answer names another API key or integration, or its signature matches no secret.
    """
    if answer.status == _UNAUTHORIZED:
        return
    claim, credentials = claim_of(answer.headers), answer.request.credentials
    where = f"The answer to {answer.request.method} {answer.request.path}"
    if claim.disagrees:
        msg = f"{where} contradicts itself in its headers: check who stands between you and Veriff."
        raise errors.ResponseError(msg, problems=("two families disagree @ header",))
    if claim.is_foreign(credentials):
        msg = f"{where} names another API key: check base_url, and who may stand between you and Veriff."
        raise errors.ResponseError(msg, problems=("another API key @ header",))
    if claim.is_of_other_integration(credentials):
        msg = f"{where} names another integration: check integration_id, and who may stand between you and Veriff."
        raise errors.ResponseError(msg, problems=("another integration @ header",))
    if claim.signature is None:
        return
    seen = answer.seen
    if seen is None:
        seen = credentials.verifier()
        seen.update(answer.body)
    if seen.match(claim.signature) is None:
        msg = f"{where} is not signed with a known secret: give every live secret, and check who stands between."
        raise errors.ResponseError(msg, problems=("signature does not match @ header",))


def is_refusal(answer: Answer) -> bool:
    """Tell whether an answer is no success; a redirect is none, since it is not followed."""
    return answer.status >= _REDIRECT


def success(answer: Answer) -> JsonObject:
    """Return the JSON object of a success.

    Raises:
        ApiError: It is a refusal.
        ResponseError: It is no JSON object.
    """
    if is_refusal(answer):
        raise refusal(answer)
    try:
        return load_object(answer.body)
    except UnreadableError as error:
        problems = error.problems
    raise _unreadable(answer, problems)


def model_in(answer: Answer, model: type[_Model], value: object, path: str = "$") -> _Model:
    """Read a model from a part of a successful answer.

    Args:
        answer: The answer, for the error.
        model: What to read.
        value: The part.
        path: Where it stands.

    Raises:
        ResponseError: It cannot be read.
    """
    try:
        return read(model, value, path=path)
    except UnreadableError as error:
        problems = error.problems
    raise _unreadable(answer, problems)


def models_in(answer: Answer, model: type[_Model], member: str) -> tuple[_Model, ...]:
    """Read a list of models from a member of a successful answer.

    Raises:
        ResponseError: It is no list, or an item cannot be read.
    """
    return models_from(answer, model, success(answer).get(member), member)


def models_from(answer: Answer, model: type[_Model], found: object, member: str) -> tuple[_Model, ...]:
    """Read a list of models from a part of a successful answer, which `member` names in errors.

    Raises:
        ResponseError: It is no list, or an item cannot be read.
    """
    if not isinstance(found, list):
        raise _unreadable(answer, (f"expected a list @ $.{member}",))
    items = cast("list[object]", found)
    return tuple(model_in(answer, model, item, f"$.{member}[{place}]") for place, item in enumerate(items))


def _unreadable(answer: Answer, problems: tuple[str, ...]) -> errors.ResponseError:
    msg = (
        f"The answer to {answer.request.method} {answer.request.path} cannot be read ({'; '.join(problems)}): "
        "check that base_url is Veriff's, then look for a newer version of veriff-async."
    )
    return errors.ResponseError(msg, problems=problems)


def refusal(answer: Answer) -> errors.ApiError:
    """Return the error that says what Veriff refused, why, and what to do."""
    try:
        body = load_object(answer.body)
    except UnreadableError:
        body = EMPTY
    code, reason = body.get("code"), body.get("message")
    # The code is documented as a text and was seen as a number; the feedback API has words. What looks like neither
    # could be anything, and would be shown.
    text = str(code) if isinstance(code, str | int) and _CODE.fullmatch(str(code)) else None
    numbers = f"HTTP {answer.status}" + (f", code {text}" if text else "")
    msg = f"Veriff refused {answer.request.method} {answer.request.path} ({numbers}): {remedy(answer.status, text)}."
    return class_of(answer.status, text)(
        msg,
        status=answer.status,
        code=text,
        reason=reason if isinstance(reason, str) else None,
        retry_after=answer.retry_after,
    )
