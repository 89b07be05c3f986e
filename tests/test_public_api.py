"""The public names are what they are on purpose, and each is documented."""

from __future__ import annotations

import inspect

import pytest

import veriff_async
from veriff_async import sandbox

ROOMS = {"veriff_async": veriff_async, "sandbox": sandbox}
NAMES = [(room, name) for room, module in ROOMS.items() for name in module.__all__ if name != "__version__"]
PINNED = """
Address ApiError AuthenticationError BadRequestError ClientClosedError ConfigurationError ConflictError ConnectError
Credentials Decision DecisionTimeoutError Document DocumentType Gender InboxError Media MediaChangedError MediaContext
MediaEmptyError MediaError MediaTooLargeError MediaUnsupportedError NotFoundError OutcomeUnknownError ParsedAddress
PayloadError PayloadTooLargeError PermissionDeniedError Person PollPolicy RateLimitedError RequestTimeoutError
ResponseError RetryPolicy RiskLabel ServerError SignatureError Statistics Status Timeouts TransportError UploadProgress
UploadedMedia VeriffClient VeriffError VerificationSession WebhookError __version__ open_session
"""
PINNED_SANDBOX = """
AttemptView Clock Delivery Fault RealClock Rules Sandbox SeenRequest SessionView StoredMedia VirtualClock
"""


def test_names_are_pinned() -> None:
    """A name is added or taken away by changing this list too."""
    assert PINNED.split() == list(veriff_async.__all__)
    assert PINNED_SANDBOX.split() == list(sandbox.__all__)


def test_names_are_there() -> None:
    """Every public name can be imported, is listed by dir(), and no other is made up."""
    for name in veriff_async.__all__:
        assert getattr(veriff_async, name) is not None
    assert sorted(veriff_async.__all__) == dir(veriff_async)
    with pytest.raises(AttributeError, match="no attribute 'Veriff'"):
        veriff_async.Veriff  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize(("room", "name"), NAMES)
def test_names_are_documented(room: str, name: str) -> None:
    """Every public name, and every public method of a class that is used and not only read, has a docstring."""
    thing = getattr(ROOMS[room], name)
    assert inspect.getdoc(thing)
    if inspect.isclass(thing) and not issubclass(thing, Exception):
        for member, value in vars(thing).items():
            if not member.startswith("_") and (inspect.isroutine(value) or isinstance(value, property)):
                assert inspect.getdoc(value), f"{name}.{member}"


@pytest.mark.parametrize(
    "call",
    [
        veriff_async.VeriffClient.create_session,
        veriff_async.VeriffClient.verify,
        veriff_async.VerificationSession.upload,
        veriff_async.VerificationSession.submit,
        veriff_async.VerificationSession.decision,
        veriff_async.VerificationSession.wait_for_decision,
    ],
)
def test_calls_say_what_they_raise(call: object) -> None:
    """Every call of the API names its errors with their conditions."""
    words = inspect.getdoc(call) or ""

    assert "Raises:" in words
