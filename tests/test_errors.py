"""The hierarchy of errors, their attributes, and the data that they never show."""

from __future__ import annotations

import copy
import pickle
import traceback
from typing import TYPE_CHECKING

import pytest

import veriff_async
from veriff_async import errors
from veriff_async.models.media import UploadedMedia

if TYPE_CHECKING:
    from collections.abc import Callable

CANARY = "Canary-7f3a"
BASES: dict[str, tuple[type[BaseException], ...]] = {
    "VeriffError": (Exception,),
    "ConfigurationError": (errors.VeriffError, ValueError),
    "InvalidArgumentError": (errors.VeriffError, ValueError),
    "ClientClosedError": (errors.VeriffError, RuntimeError),
    "TransportError": (errors.VeriffError,),
    "ConnectError": (errors.TransportError,),
    "ConnectTimeoutError": (errors.ConnectError, errors.RequestTimeoutError),
    "RequestTimeoutError": (errors.TransportError, TimeoutError),
    "OutcomeUnknownError": (errors.TransportError,),
    "ApiError": (errors.VeriffError,),
    "BadRequestError": (errors.ApiError,),
    "AuthenticationError": (errors.ApiError,),
    "PermissionDeniedError": (errors.ApiError,),
    "NotFoundError": (errors.ApiError,),
    "ConflictError": (errors.ApiError,),
    "PayloadTooLargeError": (errors.ApiError,),
    "RateLimitedError": (errors.ApiError,),
    "ServerError": (errors.ApiError,),
    "ResponseError": (errors.VeriffError,),
    "MediaError": (errors.VeriffError,),
    "MediaTooLargeError": (errors.MediaError,),
    "MediaUnsupportedError": (errors.MediaError,),
    "MediaEmptyError": (errors.MediaError,),
    "MediaQualityError": (errors.MediaError,),
    "MediaChangedError": (errors.MediaError,),
    "MediaSourceError": (errors.MediaError,),
    "MediaNotSavedError": (errors.MediaError,),
    "MediaExistsError": (errors.MediaNotSavedError,),
    "WebhookError": (errors.VeriffError,),
    "SignatureError": (errors.WebhookError,),
    "WebhookPayloadError": (errors.WebhookError,),
    "DecodeError": (errors.VeriffError,),
    "InboxError": (errors.VeriffError,),
    "LeaseLostError": (errors.InboxError,),
    "ErasureError": (errors.VeriffError,),
    "BatchError": (errors.VeriffError,),
    "JobChangedError": (errors.BatchError,),
    "JobFailedError": (errors.BatchError,),
    "SessionLimitError": (errors.BatchError,),
    "JournalError": (errors.BatchError,),
    "JobClaimedError": (errors.JournalError,),
    "DecisionTimeoutError": (errors.VeriffError, TimeoutError),
}
TRANSPORT = (
    errors.TransportError,
    errors.ConnectError,
    errors.ConnectTimeoutError,
    errors.RequestTimeoutError,
    errors.OutcomeUnknownError,
)
API = tuple(kind for kind in (getattr(errors, name) for name in BASES) if issubclass(kind, errors.ApiError))
SAMPLES: tuple[errors.VeriffError, ...] = (
    *(getattr(errors, name)("Sentence.") for name in BASES if getattr(errors, name).__init__ is Exception.__init__),
    errors.ConfigurationError("Sentence."),
    errors.InvalidArgumentError("Sentence."),
    errors.ClientClosedError("Sentence."),
    *(kind("Sentence.", method="GET", path="/v1/sessions/id/decision") for kind in TRANSPORT),
    *(kind("Sentence.", status=429, code="1302", reason=CANARY, retry_after=2.5) for kind in API),
    errors.ResponseError("Sentence.", problems=["expected an object @ $.verification"]),
    errors.WebhookPayloadError("Sentence.", problems=["expected an object @ $.verification"]),
    errors.DecodeError("Sentence.", problems=["expected an object @ $.person"]),
    errors.SignatureError("Sentence.", reason="mismatch"),
    errors.JobFailedError("Sentence.", error_type="MediaEmptyError"),
    errors.SessionLimitError("Sentence.", retry_after=60.0),
    errors.DecisionTimeoutError("Sentence.", session_id="id", last_status="submitted"),
)
samples = pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)


def unpickle(error: errors.VeriffError) -> errors.VeriffError:
    """Return a copy of an error from its pickle."""
    restored: object = pickle.loads(pickle.dumps(error))  # noqa: S301  our own bytes
    assert isinstance(restored, errors.VeriffError)
    return restored


def test_error_tree_matches_its_docstring() -> None:
    """Every error has the parents that the drawing gives it, and the standard library's class of its kind."""
    assert BASES == {name: getattr(errors, name).__bases__ for name in errors.__all__}


def test_every_error_is_exported_by_the_package() -> None:
    """Every error is a public name of the package."""
    assert {getattr(veriff_async, name) for name in BASES} == {getattr(errors, name) for name in BASES}


def test_samples_have_every_error() -> None:
    """`SAMPLES` has an instance of every class."""
    assert set(BASES) == {type(error).__name__ for error in SAMPLES}


@samples
@pytest.mark.parametrize("duplicate", [unpickle, copy.copy, copy.deepcopy], ids=["pickle", "copy", "deepcopy"])
def test_errors_survive_pickling_and_copying(
    error: errors.VeriffError, duplicate: Callable[[errors.VeriffError], errors.VeriffError]
) -> None:
    """A pickled or copied error keeps its class, its message and every attribute."""
    copied = duplicate(error)

    assert type(error) is type(copied)
    assert (str(error), error.args, vars(error)) == (str(copied), copied.args, vars(copied))


def test_error_keeps_uploaded_media() -> None:
    """An upload's error carries the receipts of what is already up, and keeps them when it is pickled."""
    error = errors.MediaEmptyError("Sentence.")
    assert () == error.uploaded

    error.uploaded = (UploadedMedia(id="1"), UploadedMedia(id="2"))

    assert error.uploaded == unpickle(error).uploaded


@samples
def test_errors_show_only_their_message(error: errors.VeriffError) -> None:
    """Text, repr and traceback do not contain Veriff's own message, which may repeat a person's data."""
    assert "Sentence." == str(error)
    assert f"{type(error).__name__}('Sentence.')" == repr(error)
    assert CANARY not in "".join(traceback.format_exception(error))


def test_attributes_hold_known_values() -> None:
    """Numbers and texts of an answer are attributes, each absent as None."""
    error = errors.ApiError("Sentence.", status=418)

    assert (418, None, None, None) == (error.status, error.code, error.reason, error.retry_after)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.WebhookError("Sentence."), 400),
        (errors.SignatureError("Sentence.", reason="missing"), 401),
        (errors.WebhookPayloadError("Sentence."), 400),
    ],
)
def test_webhook_errors_have_the_status_of_the_response(error: errors.WebhookError, status: int) -> None:
    """A webhook error has the HTTP status of the response to send."""
    assert status == error.status_hint


def test_problems_are_stored_as_a_tuple() -> None:
    """Problems become a tuple, so that they cannot be changed."""
    assert ("a", "b") == errors.ResponseError("Sentence.", problems=["a", "b"]).problems
    assert () == errors.ResponseError("Sentence.").problems
    assert () == errors.WebhookPayloadError("Sentence.").problems
    assert ("a",) == errors.DecodeError("Sentence.", problems=["a"]).problems
