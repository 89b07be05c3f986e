"""The body of the requests that create a session: from the caller's values to Veriff's JSON."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeVar, cast

from attrs import evolve, fields

from veriff_async._protocol import validation
from veriff_async._protocol.json.encode import to_request_json
from veriff_async._protocol.option_names import check_names
from veriff_async._protocol.request import without_nulls
from veriff_async.errors import InvalidArgumentError
from veriff_async.models.document import Document
from veriff_async.models.person import Address, ParsedAddress, Person
from veriff_async.models.session import Consent

if TYPE_CHECKING:
    from uuid import UUID

    from attrs import AttrsInstance

__all__ = ("CREATE_OPTIONS", "CreateOptions", "RegistryOptions", "as_model", "create_body", "registry_body")

_Model = TypeVar("_Model", bound="AttrsInstance")


class CreateOptions(TypedDict, total=False):
    """The options of ``POST /v1/sessions``, all of them optional (https://devdocs.veriff.com/apidocs/v1sessions)."""

    person: Person | Mapping[str, object]
    document: Document | Mapping[str, object]
    address: Address | Mapping[str, object]
    vendor_data: str
    end_user_id: str | UUID
    callback: str
    consents: Sequence[Consent]
    proof_of_address_types: Sequence[str]
    extra: Mapping[str, object]


CREATE_OPTIONS: Final = tuple(CreateOptions.__annotations__)
"""The names of the options of a new session."""


class RegistryOptions(TypedDict, total=False):
    """The options of ``POST /v1/validate-registry``, in addition to the person.

    See https://devdocs.veriff.com/apidocs/v1validate-registry.
    """

    address: Address | Mapping[str, object]
    vendor_data: str
    end_user_id: str | UUID
    callback: str
    extra: Mapping[str, object]


def create_body(options: CreateOptions) -> dict[str, object]:
    """Return the body of the request for a new session.

    Raises:
        TypeError: An option is unknown; the message suggests the right name.
        InvalidArgumentError: Veriff would refuse a value; the message names the field.
    """
    check_names("create_session()", options, CREATE_OPTIONS)
    members = _common_members(cast("RegistryOptions", options))
    if (person := options.get("person")) is not None:
        members["person"] = to_request_json(validation.check_person(as_model("person", Person, person)))
    if (document := options.get("document")) is not None:
        members["document"] = to_request_json(validation.check_document(as_model("document", Document, document)))
    if consents := options.get("consents"):
        members["consents"] = [to_request_json(consent) for consent in validation.check_consents(consents)]
    if types := options.get("proof_of_address_types"):
        names = validation.check_texts("proof_of_address_types", types)
        members["proofOfAddress"] = {"acceptableTypes": [{"name": name} for name in names]}
    return {"verification": without_nulls(members)}


def registry_body(person: Person | Mapping[str, object], options: RegistryOptions) -> dict[str, object]:
    """Return the body of the request that looks a person up in registries.

    Raises:
        TypeError: An option is unknown; the message suggests the right name.
        InvalidArgumentError: A value that registries need is missing, or Veriff would refuse one.
    """
    check_names("validate_registry()", options, ("person", *RegistryOptions.__annotations__))
    model, address = as_model("person", Person, person), options.get("address")
    validation.check_registry_person(model, address=None if address is None else as_model("address", Address, address))
    members = _common_members(options) | {"person": to_request_json(validation.check_person(model))}
    return {"verification": without_nulls(members)}


def _common_members(options: RegistryOptions) -> dict[str, object]:
    # `extra` comes first, so that named options win: an option that is silently replaced would be lost.
    members: dict[str, object] = dict(validation.check_mapping("extra", options.get("extra") or {}))
    if callback := options.get("callback"):  # integrators pass an empty text for none
        members["callback"] = validation.check_callback(callback)
    if (address := options.get("address")) is not None:
        members["address"] = _address(as_model("address", Address, address))
    if (vendor_data := options.get("vendor_data")) is not None:
        members["vendorData"] = validation.check_vendor_data(vendor_data)
    if (end_user_id := options.get("end_user_id")) is not None:
        members["endUserId"] = validation.check_end_user_id(end_user_id)
    return members


def as_model(name: str, model: type[_Model], value: object) -> _Model:
    """Return a model; a mapping is converted to one.

    Raises:
        TypeError: The mapping has an unknown name; the message suggests the right one.
        InvalidArgumentError: It is neither, or a field holds a value that cannot be sent.
    """
    if isinstance(value, Mapping):
        given = cast("Mapping[str, object]", value)
        # `raw` holds the JSON of a response, and is never part of a request.
        names = tuple(each.name for each in fields(model) if each.name != "raw")
        check_names(name, given, names, is_shown=False)
        value = model(**{key: _convert_member(f"{name}.{key}", key, member) for key, member in given.items()})
    if not isinstance(value, model):
        kind = type(value).__name__
        msg = f"{name} must be a {model.__name__} or a mapping of its fields, not {kind}: pass {model.__name__}(...)."
        raise InvalidArgumentError(msg)
    result = _format_dates(value)
    validation.check_fields(name, result)
    return result


def _format_dates(model: _Model) -> _Model:
    """Return a model with its dates as Veriff writes them.

    A `datetime.datetime` stays as it is, and is refused later: its date depends on the time zone.
    """
    dates: dict[str, Any] = {
        each.name: value.isoformat()
        for each in fields(type(model))
        if isinstance(value := cast("object", getattr(model, each.name)), date) and not isinstance(value, datetime)
    }
    return cast("_Model", evolve(cast("Any", model), **dates)) if dates else model


def _convert_member(name: str, field: str, value: object) -> object:
    if value is None:
        return None
    if field == "parsed_address":
        return as_model(name, ParsedAddress, value)
    if field == "addresses":
        if not validation.is_collection(value):
            msg = f"{name} cannot be sent: pass a list of addresses."
            raise InvalidArgumentError(msg)
        return tuple(as_model(name, Address, each) for each in cast("Collection[object]", value))
    return value


def _address(address: Address) -> dict[str, object]:
    """Return an address in the form of requests: the full text and the parts are members of one object."""
    parts = {} if address.parsed_address is None else to_request_json(address.parsed_address)
    whole = {} if address.full_address is None else {"fullAddress": address.full_address}
    return whole | parts
