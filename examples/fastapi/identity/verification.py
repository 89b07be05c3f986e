"""The states of a verification as the user sees them, and the words for each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from veriff_async import (
    ApiError,
    ClientClosedError,
    ConflictError,
    Decision,
    DecisionTimeoutError,
    InboxError,
    InvalidArgumentError,
    MediaError,
    MediaQualityError,
    MediaSourceError,
    MediaTooLargeError,
    NotFoundError,
    RateLimitedError,
    TransportError,
    VeriffError,
    VerificationSession,
)

_KEEP_ALIVE = 15.0
"""Seconds after which an idle stream sends a comment: proxies close connections that are silent, many after 60 s."""

ALREADY_SENT = "Your pictures have been sent already."

_TEXTS = {
    "new": ("Verify your identity", "Take three pictures with your phone. It takes about two minutes."),
    "submitted": (
        "We are checking your pictures",
        "This usually takes a minute. You can leave this page and come back.",
    ),
    "review": (
        "A person is looking at your pictures",
        "This can take some hours. You can leave this page and come back.",
    ),
    "approved": ("You are verified", "Thank you. There is nothing more to do."),
    "resubmission_requested": ("Please send better pictures", "Take all pictures again: sharp, and in good light."),
    "declined": ("We could not verify you", "Please contact our support."),
    "expired": ("This verification has expired", "Pictures were not sent in time. You can start again."),
    "abandoned": ("This verification has expired", "Pictures were not sent in time. You can start again."),
}


@dataclass(frozen=True)
class View:
    """A verification as the user sees it.

    Attributes:
        status: A word of Veriff, or ``new``.
        title: The status in a few words.
        text: The next step.
    """

    status: str
    title: str
    text: str

    @property
    def is_new(self) -> bool:
        """Whether no picture was submitted yet."""
        return self.status == "new"

    @property
    def needs_pictures(self) -> bool:
        """Whether the user has to send pictures."""
        return self.status in {"new", "resubmission_requested"}

    @property
    def is_pending(self) -> bool:
        """Whether a decision will follow without the user."""
        return self.status in {"submitted", "review"}

    @property
    def can_start_again(self) -> bool:
        """Whether the user may begin another verification."""
        return self.status in {"declined", "expired", "abandoned"}


def view_of(decision: Decision | None, *, is_submitted: bool) -> View:
    """Return the view of a verification by its last decision."""
    status = "submitted" if is_submitted else "new"
    if decision is not None and decision.status in _TEXTS:  # otherwise a word that is newer than this application
        status = decision.status.value
    title, text = _TEXTS[status]
    # The hint is written for the end-user. Veriff's own reason is not: it may name a suspicion.
    if decision is not None and decision.known_reason is not None:
        text = decision.known_reason.hint
    return View(status, title, text)


async def follow(session: VerificationSession, view: View) -> AsyncIterator[str]:
    """Yield server-sent events with the status, until the user has to act or the server stops.

    A browser that loses its connection opens another one, and gets the present status first.
    """
    yield f"retry: 2000\ndata: {view.status}\n\n"
    while view.is_pending:
        try:
            decision = await _next_decision(session, view.status)
        except DecisionTimeoutError:
            yield ": keep-alive\n\n"
        except NotFoundError:
            yield "data: lost\n\n"
            return
        except ClientClosedError:  # the server stops; the browser asks the next one
            return
        else:
            view = view_of(decision, is_submitted=True)
            yield f"data: {view.status}\n\n"


async def _next_decision(session: VerificationSession, shown: str) -> Decision:
    return await session.wait_for_decision(timeout=_KEEP_ALIVE, until=lambda decision: decision.status != shown)


# The first match counts, so subclasses come before their base classes.
_ANSWERS: tuple[tuple[tuple[type[VeriffError], ...], int, str], ...] = (
    ((MediaTooLargeError,), 413, "The picture is too large: use one with less than 18 MB."),
    ((MediaSourceError,), 503, "The picture did not arrive completely: send it again."),
    ((MediaError,), 415, "This file cannot be used: take a picture in JPEG, PNG or WebP format."),
    ((InvalidArgumentError,), 400, "Check your names."),
    ((ConflictError,), 409, ALREADY_SENT),
    ((NotFoundError,), 410, "This verification does not exist any more: start again."),
    ((ClientClosedError, TransportError, RateLimitedError, InboxError), 503, "The service is busy: try again soon."),
    ((VeriffError,), 502, "The service has a problem: try again later."),
)


def explain(error: VeriffError) -> tuple[int, str]:
    """Return the HTTP status for an error, and a sentence for the user."""
    if isinstance(error, MediaQualityError) and error.inspection is not None:
        return 422, " ".join(error.inspection.hints)
    return next((status, text) for kinds, status, text in _ANSWERS if isinstance(error, kinds))


def is_submitted_before(error: ApiError) -> bool:
    """Return whether Veriff refused a submission because an earlier one, whose response was lost, had arrived."""
    return error.code == "1304"
