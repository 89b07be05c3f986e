"""The person of a session, as stated by the caller at creation or as read by Veriff from the document."""

from __future__ import annotations

from attrs import field, frozen

from veriff_async.models.base import Model
from veriff_async.models.enums import Gender
from veriff_async.models.json import JsonObject

__all__ = ("Address", "ParsedAddress", "Person")


@frozen(kw_only=True)
class ParsedAddress(Model):
    """An address in parts; real responses have US parts in lower case (https://devdocs.veriff.com/apidocs)."""

    street: str | None = field(default=None, repr=False)
    house_number: str | None = field(default=None, repr=False)
    unit: str | None = field(default=None, repr=False)
    city: str | None = field(default=None, repr=False)
    state: str | None = field(default=None, repr=False)
    postcode: str | None = field(default=None, repr=False)
    country: str | None = field(default=None, repr=False)
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class Address(Model):
    """One address of a person, as printed and in parts."""

    full_address: str | None = field(default=None, repr=False)
    parsed_address: ParsedAddress | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class Person(Model):
    """A person, in requests and in decisions; every field may be missing.

    Pass to ``create_session`` the fields that you know. In a decision, the fields are those that Veriff read. Dates are
    ``YYYY-MM-DD`` texts, as Veriff writes them; in requests, a `datetime.date` is accepted too. Members that only some
    integrations receive are in `raw`.

    In a test integration, a decision is triggered in the Customer Portal. Older pages say that the first name chooses
    it (``Approve``, ``Decline``, ``Resubmit``), and the sandbox does so.

    https://devdocs.veriff.com/apidocs/v1sessions, https://devdocs.veriff.com/apidocs/v1sessionsiddecision-1
    """

    # The repr may reach a log, so it shows none of these values.
    first_name: str | None = field(default=None, repr=False)
    last_name: str | None = field(default=None, repr=False)
    full_name: str | None = field(default=None, repr=False)
    date_of_birth: str | None = field(default=None, repr=False)
    year_of_birth: str | None = field(default=None, repr=False)
    place_of_birth: str | None = field(default=None, repr=False)
    gender: Gender | None = field(default=None, repr=False)
    id_number: str | None = field(default=None, repr=False)
    nationality: str | None = field(default=None, repr=False)
    citizenship: str | None = field(default=None, repr=False)
    phone_number: str | None = field(default=None, repr=False)
    email: str | None = field(default=None, repr=False)
    marital_status: str | None = field(default=None, repr=False)
    is_deceased: bool | None = field(default=None, repr=False)
    occupation: str | None = field(default=None, repr=False)
    employer: str | None = field(default=None, repr=False)
    foreigner_status: str | None = field(default=None, repr=False)
    title: str | None = field(default=None, repr=False)
    extra_names: str | None = field(default=None, repr=False)
    first_name_only: str | None = field(default=None, repr=False)
    first_name_suffix: str | None = field(default=None, repr=False)
    middle_name: str | None = field(default=None, repr=False)
    elector_number: str | None = field(default=None, repr=False)
    ife_identifier: str | None = field(default=None, repr=False)
    ine_identifier: str | None = field(default=None, repr=False)
    eye_color: str | None = field(default=None, repr=False)
    hair_color: str | None = field(default=None, repr=False)
    height: str | None = field(default=None, repr=False)
    weight: str | None = field(default=None, repr=False)
    addresses: tuple[Address, ...] = field(default=(), repr=False)
    pep_sanction_match: str | None = field(default=None, repr=False)
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)
