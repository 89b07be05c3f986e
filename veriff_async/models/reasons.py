"""The documented reason codes of declines and resubmissions, with advice for the end-user.

Veriff documents three lists: declines, resubmissions, and granular codes, which an integration receives when Veriff has
enabled them (https://devdocs.veriff.com/docs/verification-session-decision-codes-table,
https://devdocs.veriff.com/docs/granular-reason-codes). Our copies of the lists are cut off (from 540 and 643 on, and
211 to 217), so a code without an entry is possible. Meanings and hints are our own words; descriptions are Veriff's.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from attrs import frozen

from veriff_async.models.base import Model

__all__ = ("REASONS", "Reason", "ReasonFamily")


class ReasonFamily(Enum):
    """The list that contains a reason."""

    DECLINE = "decline"
    RESUBMISSION = "resubmission"
    GRANULAR_DECLINE = "granular decline"
    GRANULAR_RESUBMISSION = "granular resubmission"


@frozen
class Reason(Model):
    """One known reason.

    Attributes:
        code: The code.
        family: The list that contains it.
        meaning: Its meaning, for your logs and staff.
        hint: Advice that can be shown to the end-user. It never mentions a suspicion.
        description: The text that Veriff sends as `Decision.reason`; ``None`` where our copy of the lists is cut.
    """

    code: int
    family: ReasonFamily
    meaning: str
    hint: str
    description: str | None = None


_NOTHING: Final = "There is nothing to send again; please contact support."
_ORIGINAL: Final = "Photograph the original document itself, not a screen, copy or printout."
_VALID: Final = "Use another document that is valid today."
_SUPPORTED: Final = "Use a passport, identity card, driving licence or residence permit."
_WHOLE: Final = "Photograph the document again with all four corners in the picture."
_CLEAR: Final = "Photograph the document again: sharp, in good light, without glare."
_FACE: Final = "Take the picture of your face again: alone, looking ahead, in good light, nothing covering the face."
_ADD_FACE: Final = "Add a picture of your face."
_ADD_DOCUMENT: Final = "Add pictures of the front and the back of the document."
_OWN: Final = "Use your own document, and take the picture of your face yourself."
_NAME: Final = "Check that the name you gave is written as on the document."
_AGE: Final = "This service is for older persons only."
_ADDRESS: Final = "Send another proof of address that shows your name, the address and a recent date."

_DECLINE: Final = {
    101: ("not a physical document", _ORIGINAL),
    102: ("the document was probably tampered with", _NOTHING),
    103: ("the face is not the one on the document", _OWN),
    104: ("the given name is not the one on the document", _NAME),
    105: ("suspicious behaviour", _NOTHING),
    106: ("known fraud", _NOTHING),
    # No hint to try again: a further session costs money, and is declined for the same reason.
    107: ("velocity or abuse, generic", _NOTHING),
    108: ("velocity or abuse: duplicated end-user", _NOTHING),
    109: ("velocity or abuse: duplicated device", _NOTHING),
    110: ("velocity or abuse: duplicated identity document", _NOTHING),
    111: ("the session was accessed fraudulently", _NOTHING),
    112: ("the location of the network is not allowed", "Try again without a VPN, from a country that is served."),
    113: ("looks like farming of identities", _NOTHING),
    120: ("the face is not the one on the reference picture", _OWN),
    121: ("the end-user's id is missing", _NOTHING),
    122: ("no reference was found to compare with", _NOTHING),
    123: ("the checks in registries failed", "Check that your data are written as in the registry."),
    124: ("the face is known already", "Use the account that you have."),
    126: ("may be a politically exposed person", _NOTHING),
    127: ("the face is on the blocklist", _NOTHING),
    128: ("the end-user's id is another", _NOTHING),
    129: ("the workflow is not valid", _NOTHING),
}
_RESUBMISSION: Final = {
    201: ("video or photos are missing", "Add the pictures that are missing."),
    202: ("the face is not clear", _FACE),
    203: ("the whole document cannot be seen", _WHOLE),
    204: ("the pictures are too poor", _CLEAR),
    205: ("the document is damaged", _VALID),
    206: ("the type of document is not supported", _SUPPORTED),
    207: ("the document has expired", _VALID),
    208: ("the picture of the face is missing", _ADD_FACE),
    209: ("the picture of the document is missing", _ADD_DOCUMENT),
    210: ("something about the picture of the front", "Photograph the front of the document again."),
}
_GRANULAR_DECLINE: Final = {
    501: ("very likely fraud", _NOTHING),
    502: ("several persons take part", _OWN),
    503: ("an attempt to deceive", _NOTHING),
    504: ("an attempt to deceive with a screen", _ORIGINAL),
    505: ("an attempt to deceive with a printout", _ORIGINAL),
    506: ("the document was tampered with", _NOTHING),
    507: ("tampered with: its data contradict each other", _NOTHING),
    508: ("tampered with: it differs from its specimen", _NOTHING),
    509: ("the person is not the one on the document", _OWN),
    510: ("the type of document is not supported", _SUPPORTED),
    511: ("the document has expired", _VALID),
    515: ("an attempt to deceive with a screen before the camera", _FACE),
    526: ("an attempt to deceive with streamed pictures", _FACE),
    527: ("the data of the proof of address could not be read", _ADDRESS),
    528: ("the proof of address is too old", _ADDRESS),
    530: ("younger than 13", _AGE),
    531: ("younger than 14", _AGE),
    532: ("younger than 16", _AGE),
    533: ("younger than 18", _AGE),
    534: ("younger than 20", _AGE),
    535: ("younger than 21", _AGE),
    536: ("younger than 25", _AGE),
    537: ("the portrait could not be cut from the document", _CLEAR),
    539: ("the limit of nine resubmissions was exceeded", "Start a new verification with better pictures."),
}
_GRANULAR_RESUBMISSION: Final = {
    602: ("the type of document is not supported", _SUPPORTED),
    603: ("the video is missing", "Add the pictures that are missing."),
    605: ("the picture of the face is missing", _ADD_FACE),
    606: ("the face is not clear", _FACE),
    608: ("the front of the document is missing", "Add a picture of the front of the document."),
    609: ("the back of the document is missing", "Add a picture of the back of the document."),
    614: ("the front is not wholly in the picture", _WHOLE),
    615: ("the back is not wholly in the picture", _WHOLE),
    619: ("the data of the document cannot be seen", _CLEAR),
    620: ("the document has expired", _VALID),
    621: ("the document is annulled or damaged", _VALID),
    625: ("the surname cannot be read", _CLEAR),
    626: ("the first names cannot be read", _CLEAR),
    627: ("the date of birth cannot be read", _CLEAR),
    628: ("the date of issue cannot be read", _CLEAR),
    629: ("the date of expiry cannot be read", _CLEAR),
    630: ("the gender cannot be read", _CLEAR),
    631: ("the number of the document cannot be read", _CLEAR),
    632: ("the personal number cannot be read", _CLEAR),
    633: ("the nationality cannot be read", _CLEAR),
    634: ("the address cannot be read", _CLEAR),
    635: ("the pictures of document and face are missing", "Add pictures of the document and of your face."),
    641: ("several faces in the picture", _FACE),
    642: ("several documents in the picture", "Photograph one document alone."),
}

_DESCRIPTIONS: Final = {
    101: "Physical document not used",
    102: "Suspected document tampering",
    103: "Person showing the document does not appear to match document photo",
    104: "Name entered does not match name on document",
    105: "Suspicious behaviour",
    106: "Known fraud",
    107: "Velocity/abuse",
    108: "Velocity/abuse duplicated end-user",
    109: "Velocity/abuse duplicated device",
    110: "Velocity/abuse duplicated ID",
    111: "Session fraudulently accessed",
    112: "Restricted IP location",
    113: "Suspicious behaviour - Identity Farming",
    120: "Person on the portrait does not appear to match reference photo",
    121: "User ID missing",
    122: "No reference found",
    123: "Unable to pass registry checks",
    124: "Face already exists in the face collection",
    126: "Potential PEP match",
    127: "Face match with blocklist",
    128: "End User ID mismatch",
    129: "Invalid workflow",
    # Seen in a real payload.
    203: "Full document not visible",
    501: "High probability of fraudulent attempt",
    502: "Multiple parties present in session",
    503: "Attempted deceit",
    504: "Attempted deceit, device screen used",
    505: "Attempted deceit, printout used",
    506: "Presented document tampered",
    539: "Resubmission limit exceeded",
}

REASONS: Final[Mapping[int, Reason]] = MappingProxyType(
    {
        code: Reason(code, family, meaning, hint, _DESCRIPTIONS.get(code))
        for family, reasons in (
            (ReasonFamily.DECLINE, _DECLINE),
            (ReasonFamily.RESUBMISSION, _RESUBMISSION),
            (ReasonFamily.GRANULAR_DECLINE, _GRANULAR_DECLINE),
            (ReasonFamily.GRANULAR_RESUBMISSION, _GRANULAR_RESUBMISSION),
        )
        for code, (meaning, hint) in reasons.items()
    }
)
"""Every documented reason by its code."""
