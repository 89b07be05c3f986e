"""The person of a session from ``GET /v1/sessions/{id}/person``, with matches from providers of lists."""

from __future__ import annotations

from attrs import field, frozen

from veriff_async.models.base import Model
from veriff_async.models.enums import Gender
from veriff_async.models.json import JsonObject

__all__ = (
    "PepAlias",
    "PepAsset",
    "PepAssociate",
    "PepEntity",
    "PepField",
    "PepHit",
    "PepMedia",
    "PepSanctionMatch",
    "PersonRecord",
)


@frozen(kw_only=True)
class PepField(Model):
    """One fact about a listed person, and the list that states it."""

    name: str | None = None
    source: str | None = None
    value: str | None = field(default=None, repr=False)
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class PepAlias(Model):
    """Another name of a listed person."""

    name: str | None = field(default=None, repr=False)
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class PepAssociate(Model):
    """An associate of a listed person, and the kind of association."""

    association: str | None = None
    name: str | None = field(default=None, repr=False)
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class PepMedia(Model):
    """An article about a listed person."""

    date: str | None = None
    title: str | None = field(default=None, repr=False)
    snippet: str | None = field(default=None, repr=False)
    url: str | None = field(default=None, repr=False)
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class PepAsset(Model):
    """A document or picture of a listed person."""

    public_url: str | None = field(default=None, repr=False)
    source: str | None = None
    type: str | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class PepEntity(Model):
    """A listed person, as the provider of the lists describes them."""

    id: str | None = None
    name: str | None = field(default=None, repr=False)
    entity_type: str | None = None
    types: tuple[str, ...] = ()
    created_utc: str | None = None
    last_updated_utc: str | None = None
    fields: tuple[PepField, ...] = field(default=(), repr=False)
    aka: tuple[PepAlias, ...] = field(default=(), repr=False)
    associates: tuple[PepAssociate, ...] = field(default=(), repr=False)
    sources: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    media: tuple[PepMedia, ...] = field(default=(), repr=False)
    assets: tuple[PepAsset, ...] = field(default=(), repr=False)
    source_notes: JsonObject = field(factory=dict[str, object], repr=False, hash=False)
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class PepHit(Model):
    """A listed person who may be the one; `match_types` says how, for example ``name_exact``, ``aka_fuzzy``."""

    doc: PepEntity | None = None
    match_types: tuple[str, ...] = ()
    match_types_details: JsonObject = field(factory=dict[str, object], repr=False, hash=False)
    match_status: str | None = None
    is_whitelisted: bool | None = None
    score: float | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class PepSanctionMatch(Model):
    """The result of one search in the provider's lists; its undocumented ``matches`` are in `raw`."""

    provider: str | None = None
    number_of_matches: int | None = None
    date: str | None = None
    hits: tuple[PepHit, ...] = ()
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class PersonRecord(Model):
    """The person of a session (https://devdocs.veriff.com/apidocs/v1sessionsidperson-1).

    Its data were read from the document, or are those that were given at creation.

    Attributes:
        id_code: The number that decisions call ``id_number``.
        citizenships: A list here, unlike in a decision.
        pep_sanction_matches: Searches in lists of politically exposed persons and sanctions.
    """

    id: str | None = None
    first_name: str | None = field(default=None, repr=False)
    last_name: str | None = field(default=None, repr=False)
    id_code: str | None = field(default=None, repr=False)
    date_of_birth: str | None = field(default=None, repr=False)
    gender: Gender | None = field(default=None, repr=False)
    nationality: str | None = field(default=None, repr=False)
    place_of_birth: str | None = field(default=None, repr=False)
    citizenships: tuple[str, ...] = field(default=(), repr=False)
    pep_sanction_matches: tuple[PepSanctionMatch, ...] = ()
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)
