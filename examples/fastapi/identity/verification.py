"""The states of a verification as the user sees them, and the words for each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

from veriff_async import (
    ApiError,
    ClientClosedError,
    Decision,
    NotFoundError,
    ProblemDetails,
    VeriffError,
    VerificationSession,
    problem_details,
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
    async with aclosing(session.watch(status="submitted")) as states:
        while view.is_pending:
            try:
                async with asyncio.timeout(_KEEP_ALIVE):
                    state = await anext(states)
            except TimeoutError:
                yield ": keep-alive\n\n"
            except NotFoundError:
                yield "data: lost\n\n"
                return
            except ClientClosedError:  # the server stops; the browser asks the next one
                return
            else:
                shown, view = view.status, view_of(state.effective_decision, is_submitted=True)
                if view.status != shown:
                    yield f"data: {view.status}\n\n"


def explain(error: VeriffError) -> ProblemDetails:
    """Return the response to an error, with a sentence for the user."""
    return problem_details(error, texts=_PROBLEM_TEXTS)


# For the forms of this application; the other sentences of the library suit it.
_PROBLEM_TEXTS = {
    "invalid-value": "Check your names.",
    "file-type-not-accepted": "This file cannot be used: take a picture in JPEG, PNG or WebP format.",
    "verification-changed": ALREADY_SENT,
}


def is_submitted_before(error: ApiError) -> bool:
    """Return whether Veriff refused a submission because an earlier one, whose response was lost, had arrived."""
    return error.code == "1304"
