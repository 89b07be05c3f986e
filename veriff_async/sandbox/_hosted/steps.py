"""The steps of the hosted page. Pure.

Documented by Veriff:
  * a resubmission opens the page of the same session again, with a new attempt
  * the page of a session with a final decision has nothing to do
  * ``callback`` is the address to which the end-user is sent at the end
Guesses:
  * Veriff sends the end-user to ``callback`` unchanged, without parameters
  * inside of a frame, the event ``VERIFF_FINISHED`` replaces the redirect
  * the front of the document and the face are necessary, the back is not
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from attrs import frozen

from veriff_async._protocol.status_transitions import OPEN_FOR_MEDIA, can_follow
from veriff_async.models.enums import MediaContext, Status
from veriff_async.models.reasons import REASONS, ReasonFamily

if TYPE_CHECKING:
    from collections.abc import Collection

    from veriff_async.sandbox._records import Session

__all__ = ("OUTCOMES", "PICTURES", "SPECIMENS", "Step", "find_missing", "outcomes", "read_reason", "reasons", "step_of")


class Step(Enum):
    """The step that a session is at; the value names the template."""

    START = "start"
    RETRY = "retry"
    PICTURES = "pictures"
    OUTCOME = "outcome"
    FINISHED = "finished"


@frozen
class Picture:
    """A picture that the page asks for."""

    context: str
    title: str
    hint: str
    camera: str
    required: bool = True


PICTURES: Final = (
    Picture(MediaContext.DOCUMENT_FRONT, "Front of the document", "All four corners, sharp, readable", "environment"),
    Picture(
        MediaContext.DOCUMENT_BACK,
        "Back of the document",
        "Optional: a passport has none",
        "environment",
        required=False,
    ),
    Picture(MediaContext.FACE, "Your face", "Look straight into the camera", "user"),
)

SPECIMENS: Final = {
    MediaContext.DOCUMENT_FRONT: "document-front.webp",
    MediaContext.DOCUMENT_BACK: "document-back.webp",
    MediaContext.FACE: "face.webp",
}

OUTCOMES: Final = {
    Status.APPROVED: ("Approve", "The person is verified"),
    Status.DECLINED: ("Decline", "The person is not verified"),
    Status.RESUBMISSION_REQUESTED: ("Ask for new pictures", "This page opens again with a new attempt"),
    Status.REVIEW: ("Send to review", "A person at Veriff looks again; any decision can follow"),
    Status.EXPIRED: ("Let it expire", "As if seven days passed and the person never started"),
    Status.ABANDONED: ("Let it expire", "As if seven days passed without a decision"),
}
"""The decisions that the page offers: title and explanation."""

_FAMILIES: Final = {
    Status.DECLINED: (ReasonFamily.DECLINE, ReasonFamily.GRANULAR_DECLINE),
    Status.RESUBMISSION_REQUESTED: (ReasonFamily.RESUBMISSION, ReasonFamily.GRANULAR_RESUBMISSION),
}


def step_of(session: Session) -> Step:
    """Return the step that a session is at."""
    if session.status.is_final:
        return Step.FINISHED
    if session.status not in OPEN_FOR_MEDIA:
        return Step.OUTCOME
    if session.attempt.status != Status.CREATED:
        return Step.PICTURES
    return Step.RETRY if session.status == Status.RESUBMISSION_REQUESTED else Step.START


def outcomes(session: Session) -> tuple[Status, ...]:
    """Return the decisions that the page offers for a session."""
    # Documented: an end-user who never started lets a session expire; afterwards it is abandoned.
    never = Status.ABANDONED if session.status == Status.CREATED else Status.EXPIRED
    return tuple(status for status in OUTCOMES if status != never and can_follow(session.status, status))


def reasons(status: Status) -> tuple[tuple[int, str], ...]:
    """Return the codes that a decision can have, with their meanings."""
    families = _FAMILIES.get(status, ())
    return tuple((code, reason.meaning) for code, reason in REASONS.items() if reason.family in families)


def read_reason(status: Status, text: object) -> int | None:
    """Return the code that a form names; ``None``, the default of the sandbox, for any other text."""
    return next((code for code, _ in reasons(status) if str(code) == text), None)


def find_missing(session: Session, sent: Collection[str]) -> tuple[Picture, ...]:
    """Return the necessary pictures that neither the form nor the API has sent for the attempt."""
    present = {*sent, *(media.context for media in session.attempt.media)}
    return tuple(picture for picture in PICTURES if picture.required and picture.context not in present)
