"""Results of public registries: Mexico's INE and CURP in their older form, and driving licences."""

from __future__ import annotations

from attrs import field, frozen

from veriff_async.models.base import Model
from veriff_async.models.enums import OpenEnum
from veriff_async.models.json import JsonObject

__all__ = ("CurpResult", "CurpStatus", "IneCurpResult", "IneRecord", "IneResult", "TransportationResult")


class CurpStatus(OpenEnum):
    """State of a CURP, as an abbreviation of the registry. Our copy of the documented list is incomplete."""

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
        """Return whether the abbreviation belongs to the group of active states."""
        return self in {CurpStatus.AN, CurpStatus.AH, CurpStatus.CRA, CurpStatus.RCN, CurpStatus.RCC}


@frozen(kw_only=True)
class IneResult(Model):
    """The result of the INE registry for a document; `document_state` is a Spanish text.

    See https://devdocs.veriff.com/apidocs/v1sessionsiddecisionine-registry-1.
    """

    active: bool | None = None
    document_state: str | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class CurpResult(Model):
    """The CURP registry's result for a person (https://devdocs.veriff.com/apidocs/v1sessionsiddecisioncurp-registry-1).

    Attributes:
        status_curp: State of the CURP.
        curp: The CURP, 18 characters.
        description: The text of the registry.
    """

    status_curp: CurpStatus | None = None
    curp: str | None = field(default=None, repr=False)
    description: str | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class IneRecord(Model):
    """The result of INE in a response of both registries. It contains one of the two identifiers."""

    active: bool | None = None
    status: str | None = None
    information: str | None = None
    ine_identifier: str | None = field(default=None, repr=False)
    ife_identifier: str | None = field(default=None, repr=False)
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class IneCurpResult(Model):
    """The results of both registries.

    See https://devdocs.veriff.com/apidocs/v1sessionsiddecisioncombined-ine-curp-registry-1.
    """

    ine: IneRecord = IneRecord()
    curp: CurpResult = CurpResult()
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class TransportationResult(Model):
    """The result of a registry of driving licences. Its form is a guess, since only the four words are documented.

    Attributes:
        status: ``valid``, ``invalid``, ``not supported`` or ``inconclusive``.
    """

    status: str | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)
