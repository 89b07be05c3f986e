"""Decisions of Full Auto integrations, in which no human takes part: values with their source and confidence."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from veriff_async.models.base import Model
from veriff_async.models.enums import OpenEnum, Status
from veriff_async.models.insight import Insight
from veriff_async.models.json import JsonObject
from veriff_async.models.outcome import Outcome

__all__ = (
    "AddressFieldObject",
    "Confidence",
    "FieldObject",
    "FieldSource",
    "FieldValue",
    "FullAutoDecision",
    "FullAutoDocument",
    "FullAutoPerson",
)


class Confidence(OpenEnum):
    """The confidence in a value."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class FieldSource(OpenEnum):
    """The part of the document from which a value was read."""

    VIZ = "VIZ"  # visual inspection zone: the printed text (ICAO Doc 9303)
    MRZ = "MRZ"  # machine readable zone
    NFC = "NFC"  # the chip
    BARCODE = "BARCODE"


@frozen(kw_only=True)
class FieldValue(Model):
    """One value; ``None`` when nothing was read."""

    value: str | None = field(default=None, repr=False)
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class FieldObject(FieldValue):
    """One value with its confidence and its sources; all three are empty when nothing was read."""

    confidence_category: Confidence | None = None
    sources: tuple[FieldSource, ...] = ()


@frozen(kw_only=True)
class AddressFieldObject(FieldObject):
    """An address, whole as `value` and in parts."""

    # Not hashed: a mapping is not hashable.
    components: Mapping[str, str | None] = field(factory=dict[str, str | None], repr=False, hash=False)


@frozen(kw_only=True)
class FullAutoPerson(Model):
    """The person, as read from the media."""

    first_name: FieldObject = FieldObject()
    last_name: FieldObject = FieldObject()
    date_of_birth: FieldObject = FieldObject()
    gender: FieldObject = FieldObject()
    id_number: FieldObject = FieldObject()
    nationality: FieldObject = FieldObject()
    address: AddressFieldObject = AddressFieldObject()
    place_of_birth: FieldObject = FieldObject()
    foreigner_status: FieldObject = FieldObject()
    occupation: FieldObject = FieldObject()
    employer: FieldObject = FieldObject()
    extra_names: FieldObject = FieldObject()
    year_of_birth: FieldObject = FieldObject()
    citizenship: FieldObject = FieldObject()
    estimated_age: FieldObject = FieldObject()
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class FullAutoDocument(Model):
    """The document, as read from the media. Its type is in lower case here (``id_card``)."""

    number: FieldObject = FieldObject()
    type: FieldValue = FieldValue()
    country: FieldValue = FieldValue()
    state: FieldObject = FieldObject()
    valid_from: FieldObject = FieldObject()
    valid_until: FieldObject = FieldObject()
    first_issue: FieldObject = FieldObject()
    place_of_issue: FieldObject = FieldObject()
    issued_by: FieldObject = FieldObject()
    process_number: FieldObject = FieldObject()
    residence_permit_type: FieldObject = FieldObject()
    license_number: FieldObject = FieldObject()
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class FullAutoDecision(Outcome):
    """An automatic decision (https://devdocs.veriff.com/docs/essential-plan-full-auto).

    Attributes:
        status: ``approved``, ``declined``, ``resubmission_requested``, ``expired`` or ``abandoned``; Veriff calls
            the member ``decision``.
        decision_score: Probability that the session is genuine, from 0 to 1.
        person: The person.
        document: The document.
        insights: Questions and answers behind the decision.
    """

    status: Status
    decision_score: float | None = None
    person: FullAutoPerson = FullAutoPerson()
    document: FullAutoDocument = FullAutoDocument()
    insights: tuple[Insight, ...] = ()
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)
