"""Screening against lists of politically exposed persons, sanctions and adverse media."""

from __future__ import annotations

from datetime import datetime

from attrs import field, frozen

from veriff_async.models.base import Model
from veriff_async.models.enums import OpenEnum
from veriff_async.models.json import JsonObject

__all__ = (
    "CheckType",
    "Listing",
    "Listings",
    "MatchStatus",
    "MonitorStatus",
    "Monitoring",
    "SearchTerm",
    "WatchlistHit",
    "WatchlistScreening",
)


class CheckType(OpenEnum):
    """Whether a screening is the first, or was repeated because a list has changed."""

    INITIAL_RESULT = "initial_result"
    UPDATED_RESULT = "updated_result"


class MatchStatus(OpenEnum):
    """Whether a list may name the person."""

    POSSIBLE_MATCH = "possible_match"
    NO_MATCH = "no_match"


class MonitorStatus(OpenEnum):
    """Whether Veriff monitors the lists for the person."""

    ENABLED = "enabled"
    DISABLED = "disabled"


@frozen(kw_only=True)
class Listing(Model):
    """One entry of a list; `snippet` is an excerpt of an article."""

    source_name: str | None = None
    source_url: str | None = field(default=None, repr=False)
    date: str | None = None
    snippet: str | None = field(default=None, repr=False)
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class Listings(Model):
    """The entries behind a hit, by kind of list."""

    warnings: tuple[Listing, ...] = ()
    sanctions: tuple[Listing, ...] = ()
    fitness_probity: tuple[Listing, ...] = ()
    pep: tuple[Listing, ...] = ()  # politically exposed persons
    adverse_media: tuple[Listing, ...] = ()
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class WatchlistHit(Model):
    """An entry of a list that may refer to the person.

    Attributes:
        matched_name: The name on the list.
        countries: Countries of the listed person.
        date_of_birth: Often only a year.
        date_of_death: ``None`` for the living.
        match_types: How it matches, for example ``name_fuzzy``, ``year_of_birth``.
        aka: Other names.
        associates: Names of associates.
        listings: The entries, by kind of list.
    """

    matched_name: str | None = field(default=None, repr=False)
    countries: tuple[str, ...] = ()
    date_of_birth: str | None = field(default=None, repr=False)
    date_of_death: str | None = field(default=None, repr=False)
    match_types: tuple[str, ...] = ()
    aka: tuple[str, ...] = field(default=(), repr=False)
    associates: tuple[str, ...] = field(default=(), repr=False)
    listings: Listings = Listings()
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class SearchTerm(Model):
    """The terms of the search; the later members occur only with enhanced screening."""

    name: str | None = field(default=None, repr=False)
    year: str | None = field(default=None, repr=False)
    lists: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()
    exact_match: bool | None = None
    match_threshold: float | None = None
    exclude_deceased: bool | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class WatchlistScreening(Model):
    """The result of a screening (https://devdocs.veriff.com/apidocs/v1sessionsidwatchlist-screening-1).

    Attributes:
        match_status: Whether a list may name the person.
        check_type: Whether it is the first or a repeated screening.
        attempt_id: The attempt.
        session_id: The session; older payloads contain only the attempt.
        vendor_data: The value passed at creation.
        end_user_id: The value passed at creation.
        monitor_status: Whether Veriff monitors the lists.
        search_term: The terms of the search.
        total_hits: The number of hits.
        created_at: When it was created.
        hits: The entries that were found.
    """

    match_status: MatchStatus
    check_type: CheckType | None = None
    attempt_id: str | None = None
    session_id: str | None = None
    vendor_data: str | None = None
    end_user_id: str | None = None
    monitor_status: MonitorStatus | None = None
    search_term: SearchTerm = SearchTerm()
    total_hits: int | None = None
    created_at: datetime | None = None
    hits: tuple[WatchlistHit, ...] = ()
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)

    @property
    def may_be_listed(self) -> bool:
        """Return whether a list may name the person."""
        return self.match_status == MatchStatus.POSSIBLE_MATCH


@frozen(kw_only=True)
class Monitoring(Model):
    """The response to a request that ends the monitoring of lists.

    See https://devdocs.veriff.com/apidocs/v1sessionsidwatchlist-screening.
    """

    monitor_status: MonitorStatus
    attempt_id: str | None = None
    session_id: str | None = None
    vendor_data: str | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)
