"""Checks of what a program passes to an inbox, or to the functions with which it writes an inbox of its own.

A wrong type is a mistake in the caller's code. Without these checks the store would be blamed for it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final, cast, get_args

from veriff_async._protocol.arguments import (
    LARGEST,
    check_flag,
    check_instance,
    check_number,
    check_optional,
    check_text,
    type_name,
)
from veriff_async.errors import InvalidArgumentError
from veriff_async.models.decision_source import DecisionSource
from veriff_async.models.delivery import Delivery, DeliveryOutcome, DeliveryStatus
from veriff_async.models.enums import Status
from veriff_async.models.events import WebhookEvent
from veriff_async.models.inbox_search import SessionSearch
from veriff_async.models.state import SessionState

if TYPE_CHECKING:
    from typing import TypeAlias

    _Delivery: TypeAlias = Delivery[WebhookEvent]

__all__ = (
    "check_delivery_query",
    "check_erasure",
    "check_event",
    "check_extension",
    "check_lease",
    "check_record",
    "check_requeue",
    "check_search",
    "check_session_id",
    "check_session_ids",
    "check_settlement",
    "check_state",
    "check_submission",
    "unknown_page_error",
)

_EVENTS: Final[tuple[type, ...]] = get_args(WebhookEvent)

# Ten years. Stores add durations to times of their own, and not every store can hold every sum.
_LONGEST: Final = 3650 * 86_400.0


def check_event(event: object) -> None:
    """Check an event.

    Raises:
        InvalidArgumentError: It is of another type.
    """
    if not isinstance(event, _EVENTS):
        msg = f"event must be a webhook event, not {type_name(event)}: pass what parse_webhook returns."
        raise InvalidArgumentError(msg)


def check_record(event: object, source: object, deliver: object = False) -> None:  # noqa: FBT002  the first two are not keywords either
    """Check the arguments of `Inbox.record` and `DeliveryInbox.record`.

    Raises:
        InvalidArgumentError: One of them is of another type.
    """
    # Read for every webhook: nearly always both have exactly these classes.
    if event.__class__ in _EVENTS and source.__class__ is DecisionSource and deliver.__class__ is bool:
        return
    check_event(event)
    check_flag("deliver", deliver, error=InvalidArgumentError)
    remedy = "pass DecisionSource.WEBHOOK or DecisionSource.POLL"
    check_instance("source", source, DecisionSource, remedy=remedy, error=InvalidArgumentError)


def check_state(state: object) -> None:
    """Check the state of a session.

    Raises:
        InvalidArgumentError: It is of another type.
    """
    remedy = "pass what apply_event or load_state returns"
    check_instance("state", state, SessionState, remedy=remedy, error=InvalidArgumentError)


def check_session_id(session_id: object) -> None:
    """Check the id of a session, or ``None`` for events without one.

    Raises:
        InvalidArgumentError: It is of another type.
    """
    if session_id is not None:
        check_instance("session_id", session_id, str, remedy="pass the id as text", error=InvalidArgumentError)


def check_session_ids(session_ids: object) -> tuple[str, ...]:
    """Return the ids of sessions, which the caller may change afterwards.

    Raises:
        InvalidArgumentError: They are a single text, not a collection, or not all texts.
    """
    ids = _as_tuple(session_ids)
    if ids is None:
        msg = f"session_ids must be a collection of ids, not {type_name(session_ids)}: pass for example [session_id]."
        raise InvalidArgumentError(msg)
    wrong = [session_id for session_id in ids if not isinstance(session_id, str)]
    if wrong:
        msg = f"session_ids must contain texts, but one is of type {type_name(wrong[0])}: pass the ids as text."
        raise InvalidArgumentError(msg)
    return cast("tuple[str, ...]", ids)


def check_submission(session_id: object, submission: object) -> None:
    """Check the arguments of `SubmissionInbox.save_submission`.

    Raises:
        InvalidArgumentError: One of them is not a text.
    """
    check_instance("session_id", session_id, str, remedy="pass the id as text", error=InvalidArgumentError)
    check_instance("submission", submission, str, remedy="pass a text", error=InvalidArgumentError)


def check_lease(limit: object, seconds: object) -> None:
    """Check the arguments of `DeliveryInbox.lease`.

    Raises:
        InvalidArgumentError: One of them is not a number above zero.
    """
    _check_limit(limit)
    _check_seconds("seconds", seconds, above=True)


def check_extension(deliveries: object, seconds: object) -> tuple[_Delivery, ...]:
    """Check the arguments of `DeliveryInbox.extend_leases`, and return the deliveries.

    Raises:
        InvalidArgumentError: One of them has a wrong type, or the seconds are not above zero.
    """
    _check_seconds("seconds", seconds, above=True)
    items = _as_tuple(deliveries)
    if items is None:
        msg = f"deliveries must be a collection, not {type_name(deliveries)}: pass for example [delivery]."
        raise InvalidArgumentError(msg)
    for item in items:
        _check_delivery("an item of deliveries", item)
    return cast("tuple[_Delivery, ...]", items)


def check_settlement(delivery: object, outcome: object) -> None:
    """Check the arguments of `DeliveryInbox.settle`.

    Raises:
        InvalidArgumentError: One of them, or a field of the outcome, has a wrong type or value.
    """
    error = InvalidArgumentError
    _check_delivery("delivery", delivery)
    remedy = "pass for example DeliveryOutcome(status=DeliveryStatus.HANDLED)"
    found = check_instance("outcome", outcome, DeliveryOutcome, remedy=remedy, error=error)
    remedy = "pass for example DeliveryStatus.HANDLED"
    check_instance("outcome.status", found.status, DeliveryStatus, remedy=remedy, error=error)
    _check_seconds("outcome.delay", found.delay)
    check_optional("outcome.error", found.error, str, remedy="pass it as text", error=error)
    check_flag("outcome.counts", found.counts, error=error)
    names: object = found.handled_by
    if not isinstance(names, frozenset) or not all(isinstance(name, str) for name in cast("frozenset[object]", names)):
        msg = "outcome.handled_by must be a frozenset of texts: pass for example frozenset({'name of a handler'})."
        raise error(msg)


def check_delivery_query(session_id: object, status: object, limit: object) -> None:
    """Check the arguments of `DeliveryInbox.get_deliveries`.

    Raises:
        InvalidArgumentError: One of them has a wrong type, or the limit is not above zero.
    """
    check_session_id(session_id)
    remedy = "pass for example DeliveryStatus.DEAD"
    check_optional("status", status, DeliveryStatus, remedy=remedy, error=InvalidArgumentError)
    _check_limit(limit)


def check_requeue(session_id: object, dedup_key: object) -> None:
    """Check the arguments of `DeliveryInbox.requeue`.

    Raises:
        InvalidArgumentError: One of them is not a text.
    """
    check_session_id(session_id)
    remedy = "pass the dedup_key of the event"
    check_instance("dedup_key", dedup_key, str, remedy=remedy, error=InvalidArgumentError)


def check_search(search: object, limit: object, page: object) -> None:
    """Check the arguments of `SearchableInbox.find_sessions`.

    Raises:
        InvalidArgumentError: One of them, or a condition of the search, has a wrong type, or the limit is not above
            zero. The message contains no condition, which may be the name of a person.
    """
    error = InvalidArgumentError
    found = check_instance("search", search, SessionSearch, remedy="pass SessionSearch(...)", error=error)
    for name in ("session_id", "vendor_data", "end_user_id"):
        check_optional(f"search.{name}", getattr(found, name), str, remedy="pass it as text", error=error)
    check_optional("search.status", found.status, Status, remedy="pass for example Status.APPROVED", error=error)
    remedy = "pass for example DeliveryStatus.DEAD"
    check_optional("search.delivery", found.delivery, DeliveryStatus, remedy=remedy, error=error)
    for name, time in (("since", found.since), ("until", found.until)):
        if time is not None:
            remedy = "give seconds since 1970, for example datetime.timestamp()"
            check_number(f"search.{name}", time, lowest=-LARGEST, highest=LARGEST, remedy=remedy, error=error)
    _check_limit(limit)
    check_optional("page", page, str, remedy="pass the next_page of the previous part", error=error)


def unknown_page_error() -> InvalidArgumentError:
    """Return the error for a page that is not from the same store and search; it may contain anything."""
    return InvalidArgumentError("page is not from this inbox: pass the next_page of the previous part, unchanged.")


def check_erasure(session_ids: object, refuse_for: object) -> tuple[str, ...]:
    """Check the arguments of `ErasableInbox.erase`, and return the ids, each once.

    Raises:
        InvalidArgumentError: They have wrong types, an id is empty, or the seconds are negative.
    """
    _check_seconds("refuse_for", refuse_for)
    ids = tuple(dict.fromkeys(check_session_ids(session_ids)))
    if "" in ids:
        msg = "session_ids contains an empty id, and events without a session cannot be erased: leave it out."
        raise InvalidArgumentError(msg)
    return ids


def _check_limit(value: object) -> None:
    remedy = "give a whole number above zero"
    check_number("limit", value, lowest=1, highest=LARGEST, whole=True, remedy=remedy, error=InvalidArgumentError)


def _check_seconds(name: str, value: object, *, above: bool = False) -> None:
    remedy = f"give a number of seconds {'above zero' if above else 'that is not negative'}, ten years at most"
    check_number(name, value, highest=_LONGEST, above=above, remedy=remedy, error=InvalidArgumentError)


def _check_delivery(name: str, value: object) -> None:
    check_instance(name, value, Delivery, remedy="pass what lease() returned", error=InvalidArgumentError)
    check_text(f"the lease of {name}", cast("_Delivery", value).lease, error=InvalidArgumentError)


def _as_tuple(value: object) -> tuple[object, ...] | None:
    # A text is a collection of texts too, each with one character.
    if isinstance(value, str | bytes | bytearray | memoryview) or not isinstance(value, Collection):
        return None
    return tuple(cast("Collection[object]", value))
