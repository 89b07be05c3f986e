"""What public registries say: Mexico's INE and CURP in their older form, and driving licences."""

from __future__ import annotations

from attrs import field, frozen

from veriff_async.models.enums import OpenEnum
from veriff_async.models.json import JsonObject

__all__ = ("CurpResult", "CurpStatus", "IneCurpResult", "IneRecord", "IneResult", "TransportationResult")


class CurpStatus(OpenEnum):
    """State of a CURP, in the registry's own letters; the documented list is cut, so it is not whole."""

    AN = "AN"
    AH = "AH"
    CRA = "CRA"
    RCN = "RCN"
    RCC = "RCC"
    BD = "BD"
    BDA = "BDA"
    BCC = "BCC"
    BCN = "BCN"

    @property
    def is_active(self) -> bool:
        """Tell whether the letters belong to the group of active states."""
        return self in {CurpStatus.AN, CurpStatus.AH, CurpStatus.CRA, CurpStatus.RCN, CurpStatus.RCC}


@frozen(kw_only=True)
class IneResult:
    """What the INE registry says of a document; `document_state` is a Spanish text.

    See https://devdocs.veriff.com/apidocs/v1sessionsiddecisionine-registry-1.
    """

    active: bool | None = None
    document_state: str | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class CurpResult:
    """What the CURP registry says of a person (https://devdocs.veriff.com/apidocs/v1sessionsiddecisioncurp-registry-1).

    Attributes:
        status_curp: State of the CURP.
        curp: The CURP, 18 characters.
        description: The registry's words.
    """

    status_curp: CurpStatus | None = None
    curp: str | None = field(default=None, repr=False)
    description: str | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class IneRecord:
    """What the INE registry says, in the answer that joins both registries; one of the two identifiers is there."""

    active: bool | None = None
    status: str | None = None
    information: str | None = None
    ine_identifier: str | None = field(default=None, repr=False)
    ife_identifier: str | None = field(default=None, repr=False)
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class IneCurpResult:
    """What both registries say.

    See https://devdocs.veriff.com/apidocs/v1sessionsiddecisioncombined-ine-curp-registry-1.
    """

    ine: IneRecord = IneRecord()
    curp: CurpResult = CurpResult()
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class TransportationResult:
    """What a registry of driving licences says: a guess, since only its four words are known.

    Attributes:
        status: ``valid``, ``invalid``, ``not supported`` or ``inconclusive``.
    """

    status: str | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)
