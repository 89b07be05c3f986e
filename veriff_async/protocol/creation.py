"""What a new session is described with, from the caller's values to Veriff's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict, cast

from veriff_async.models.document import Document
from veriff_async.models.person import Address, Person
from veriff_async.models.session import Consent
from veriff_async.protocol import checks
from veriff_async.protocol.signed import without_nulls
from veriff_async.protocol.writing import render

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ("CreateOptions", "RegistryOptions", "create_body", "registry_body")


class CreateOptions(TypedDict, total=False):
    """What ``POST /v1/sessions`` takes, all of it optional (https://devdocs.veriff.com/apidocs/v1sessions)."""

    person: Person
    document: Document
    address: Address
    vendor_data: str
    end_user_id: str | UUID
    callback: str
    consents: Sequence[Consent]
    proof_of_address_types: Sequence[str]
    extra: Mapping[str, object]


class RegistryOptions(TypedDict, total=False):
    """What ``POST /v1/validate-registry`` takes beside the person.

    See https://devdocs.veriff.com/apidocs/v1validate-registry.
    """

    address: Address
    vendor_data: str
    end_user_id: str | UUID
    callback: str
    extra: Mapping[str, object]


def create_body(options: CreateOptions) -> dict[str, object]:
    """Describe a new session.

    Raises:
        ConfigurationError: A value would be refused; the message names the field.
    """
    described = _described(cast("RegistryOptions", options))
    if (person := options.get("person")) is not None:
        described["person"] = render(checks.check_person(person))
    if (document := options.get("document")) is not None:
        described["document"] = render(checks.check_document(document))
    if consents := options.get("consents"):
        described["consents"] = [render(consent) for consent in checks.check_consents(consents)]
    if types := options.get("proof_of_address_types"):
        names = checks.check_texts("proof_of_address_types", types)
        described["proofOfAddress"] = {"acceptableTypes": [{"name": name} for name in names]}
    return {"verification": without_nulls(described)}


def registry_body(person: Person, options: RegistryOptions) -> dict[str, object]:
    """Describe a person who is to be looked up in registries.

    Raises:
        ConfigurationError: What the registries need is missing, or a value would be refused.
    """
    checks.check_registry_person(person, address=options.get("address"))
    described = _described(options) | {"person": render(checks.check_person(person))}
    return {"verification": without_nulls(described)}


def _described(options: RegistryOptions) -> dict[str, object]:
    described: dict[str, object] = dict(options.get("extra") or {})
    if callback := options.get("callback"):  # an empty one means none, as integrators write it
        described["callback"] = checks.check_callback(callback)
    if (address := options.get("address")) is not None:
        described["address"] = _address(address)
    if (vendor_data := options.get("vendor_data")) is not None:
        described["vendorData"] = checks.check_vendor_data(vendor_data)
    if (end_user_id := options.get("end_user_id")) is not None:
        described["endUserId"] = checks.check_end_user_id(end_user_id)
    return described


def _address(address: Address) -> dict[str, object]:
    """Return an address as requests have it: whole, or in parts beside each other."""
    parts = {} if address.parsed_address is None else render(address.parsed_address)
    whole = {} if address.full_address is None else {"fullAddress": address.full_address}
    return whole | parts
