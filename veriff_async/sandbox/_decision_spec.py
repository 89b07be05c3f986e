"""The content of a decision that a test makes, checked when it is passed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, TypedDict, TypeVar, cast

from attrs import frozen

from veriff_async._protocol.arguments import LARGEST
from veriff_async._protocol.json.encode import to_request_json
from veriff_async._protocol.session_request import as_model
from veriff_async.errors import InvalidArgumentError
from veriff_async.models.decision import RiskLabel
from veriff_async.models.document import Document
from veriff_async.models.insight import Insight
from veriff_async.models.json import EMPTY, JsonObject
from veriff_async.models.person import Person
from veriff_async.models.verified import AdditionalVerifiedData, BiometricAuthentication
from veriff_async.sandbox._arguments import check_members, check_model, check_number, check_text

if TYPE_CHECKING:
    from attrs import AttrsInstance

    from veriff_async.models.enums import Status

__all__ = ("DecisionFields", "DecisionSpec", "build_decision_spec")

_Model = TypeVar("_Model", bound="AttrsInstance")

_NO_VERIFIED_DATA: Final = AdditionalVerifiedData()


class DecisionFields(TypedDict, total=False):
    """The optional content of a decision; the keyword arguments of `Sandbox.decide`."""

    reason: str | None
    reason_code: int | None
    person: Person | Mapping[str, object] | None
    document: Document | Mapping[str, object] | None
    additional_verified_data: AdditionalVerifiedData
    biometric_authentication: BiometricAuthentication | None
    risk_score: float | None
    risk_labels: tuple[RiskLabel, ...]
    insights: tuple[Insight, ...]


@frozen(kw_only=True)
class DecisionSpec:
    """The content of a decision; person and document as JSON members, since a test may pass members without a model."""

    status: Status
    reason: str | None = None
    reason_code: int | None = None
    person: JsonObject = EMPTY
    document: JsonObject = EMPTY
    additional_verified_data: AdditionalVerifiedData = _NO_VERIFIED_DATA
    biometric_authentication: BiometricAuthentication | None = None
    risk_score: float | None = None
    risk_labels: tuple[RiskLabel, ...] = ()
    insights: tuple[Insight, ...] = ()


def build_decision_spec(status: Status, fields: DecisionFields) -> DecisionSpec:
    """Check the content of a decision."""
    for name in ("reason", "reason_code", "risk_score", "biometric_authentication"):
        value = fields.get(name)
        if value is None:
            continue
        if name == "reason":
            check_text(name, value)
        elif name == "biometric_authentication":
            check_model(name, value, BiometricAuthentication)
        else:
            check_number(name, value, lowest=-LARGEST, highest=LARGEST, whole=name == "reason_code")
    additional = fields.get("additional_verified_data", _NO_VERIFIED_DATA)
    return DecisionSpec(
        status=status,
        reason=fields.get("reason"),
        reason_code=fields.get("reason_code"),
        person=_to_members("person", Person, fields.get("person")),
        document=_to_members("document", Document, fields.get("document")),
        additional_verified_data=check_model("additional_verified_data", additional, AdditionalVerifiedData),
        biometric_authentication=fields.get("biometric_authentication"),
        risk_score=fields.get("risk_score"),
        risk_labels=_check_models("risk_labels", fields.get("risk_labels", ()), RiskLabel),
        insights=_check_models("insights", fields.get("insights", ()), Insight),
    )


def _check_models(name: str, values: object, kind: type[_Model]) -> tuple[_Model, ...]:
    if isinstance(values, Iterable):
        return tuple(check_model(name, item, kind) for item in cast("Iterable[object]", values))
    msg = f"{name} must be a sequence of {kind.__name__}, not {type(values).__name__}."
    raise InvalidArgumentError(msg)


def _to_members(
    name: str, kind: type[Person | Document], value: Person | Document | Mapping[str, object] | None
) -> Mapping[str, object]:
    if value is None:
        return EMPTY
    return check_members(name, value if isinstance(value, Mapping) else to_request_json(as_model(name, kind, value)))
