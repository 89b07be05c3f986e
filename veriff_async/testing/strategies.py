"""Hypothesis strategies for models, derived from their fields: every value that Veriff could send, known or not."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Final, Literal, TypeVar, cast, get_args, get_origin

from attrs import NOTHING, fields, has, resolve_types

from veriff_async._protocol.headers import AUTH_CLIENT, HMAC_SIGNATURE
from veriff_async._protocol.json.encode import dump_json
from veriff_async._protocol.json.paths import FILLED_BY_LIBRARY
from veriff_async._protocol.json.schema import IN_MILLISECONDS
from veriff_async._protocol.signing import sign
from veriff_async._protocol.webhook import event_from
from veriff_async.errors import ConfigurationError
from veriff_async.models import events
from veriff_async.models.enums import OpenEnum

try:
    from hypothesis import strategies as st
except ImportError:
    msg = 'The strategies need hypothesis, an extra of this package: pip install "veriff-async[testing]".'
    raise ConfigurationError(msg) from None

if TYPE_CHECKING:
    from attrs import AttrsInstance
    from hypothesis.strategies import DrawFn, SearchStrategy

    from veriff_async.credentials import Credentials
    from veriff_async.models.events import WebhookEvent

__all__ = ("signed_webhooks", "strategy_for", "webhook_events")

_Model = TypeVar("_Model", bound="AttrsInstance")

# Fields that decoding fills in, so a strategy must not.
_FROM_JSON: Final = frozenset({"raw", "repeated"})

# Optional fields that one model has at most: drawing all those of a decision takes a tenth of a second.
_MAX_OPTIONAL: Final = 6

# Many JSON parsers hold no larger integers exactly.
_INTEGERS: Final = st.integers(-(2**53), 2**53)
_TEXTS: Final = st.text(min_size=1, max_size=20)
_JSON: Final[SearchStrategy[object]] = st.recursive(
    st.none() | st.booleans() | _INTEGERS | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_LEAVES: Final[dict[object, SearchStrategy[object]]] = {
    str: _TEXTS,
    int: _INTEGERS,
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    object: _JSON,
    bytes: st.binary(min_size=1, max_size=40),
    Path: _TEXTS.map(Path),
}
_KINDS: Final = tuple(kind for kind in get_args(events.WebhookEvent) if kind is not events.UnknownEvent)


def strategy_for(model: type[_Model]) -> SearchStrategy[_Model]:
    """Return a strategy for any model of this library, for example ``strategy_for(Decision)``.

    A field can have every value of its type: known and unknown words, missing parts, empty and full lists. One model
    has some of its optional fields only. A model equals the one that is decoded from its `to_json`.

    Args:
        model: A model, for example `Decision`, `WatchlistScreening` or an event.

    Example:
        >>> @given(decision=strategy_for(Decision))
        ... def test_every_decision_has_a_page(decision: Decision) -> None:
        ...     assert render_page(decision)
    """
    return cast("SearchStrategy[_Model]", _strategy(model))


def webhook_events() -> SearchStrategy[WebhookEvent]:
    """Return a strategy for webhooks of every kind, unknown ones included."""
    known = [strategy_for(kind) for kind in _KINDS]
    unknown = st.dictionaries(st.text(max_size=8), _JSON, max_size=4).map(event_from)
    return st.one_of(*known, unknown.filter(lambda event: isinstance(event, events.UnknownEvent)))


@st.composite
def signed_webhooks(draw: DrawFn, credentials: Credentials) -> tuple[dict[str, str], bytes]:
    """Return a strategy for signed webhooks: headers and raw body, signed with any of the secrets.

    Args:
        draw: Passed by hypothesis.
        credentials: The credentials that sign the webhooks.
    """
    body = dump_json(draw(webhook_events()))
    secret = draw(st.sampled_from(credentials.secrets))
    return {AUTH_CLIENT: credentials.api_key, HMAC_SIGNATURE: sign(secret, body)}, body


@cache
def _strategy(model: type[AttrsInstance]) -> SearchStrategy[AttrsInstance]:
    # The annotations of models are strings until here.
    resolve_types(model)
    required: dict[str, SearchStrategy[object]] = {}
    optional: dict[str, SearchStrategy[object]] = {}
    for attribute in fields(model):
        if attribute.default is NOTHING:
            required[attribute.alias] = _values(attribute.type)
        elif attribute.name not in _FROM_JSON and (model.__name__, attribute.name) not in FILLED_BY_LIBRARY:
            digits = 3 if _is_short(model, attribute.name) else 6
            optional[attribute.alias] = _values(attribute.type, digits=digits)
    return _instances(model, required, optional)


@st.composite
def _instances(
    draw: DrawFn,
    model: type[AttrsInstance],
    required: Mapping[str, SearchStrategy[object]],
    optional: Mapping[str, SearchStrategy[object]],
) -> AttrsInstance:
    # Sorted, so that a failing example is the same in every process.
    filled = draw(st.lists(st.sampled_from(sorted(optional)), unique=True, max_size=_MAX_OPTIONAL)) if optional else []
    strategies = {**required, **{name: optional[name] for name in filled}}
    return model(**{name: draw(strategy) for name, strategy in strategies.items()})


def _is_short(model: type[object], name: str) -> bool:
    return name in IN_MILLISECONDS or (model.__name__, name) in IN_MILLISECONDS


def _values(kind: object, *, digits: int = 6) -> SearchStrategy[object]:
    if kind in _LEAVES:
        return _LEAVES[kind]
    if kind is datetime:
        return st.datetimes(timezones=st.just(UTC)).map(lambda time: _truncate(time, digits))
    origin, parts = get_origin(kind), get_args(kind)
    # Optional fields are unions with None, which is drawn like any other value.
    if origin is UnionType:
        return st.one_of(*(st.none() if part is type(None) else _values(part, digits=digits) for part in parts))
    if origin in {tuple, frozenset}:
        return st.lists(_values(parts[0], digits=digits), max_size=2).map(tuple if origin is tuple else frozenset)
    if origin is Mapping:
        return st.dictionaries(_TEXTS, _values(parts[1]), max_size=2)
    return st.sampled_from(parts) if origin is Literal else _enum_or_model(cast("type[object]", kind))


def _enum_or_model(kind: type[object]) -> SearchStrategy[object]:
    if issubclass(kind, OpenEnum):
        # Open enums accept words that are newer than this version.
        return st.sampled_from(list(kind)) | _TEXTS.map(kind)
    if issubclass(kind, Enum):
        return st.sampled_from(list(kind))
    if has(kind):
        return _strategy(kind)
    msg = f"Cannot build a strategy for {kind.__name__}: pass a model of veriff_async."
    raise ConfigurationError(msg)


def _truncate(time: datetime, digits: int) -> datetime:
    return time.replace(microsecond=time.microsecond // 1000 * 1000) if digits == 3 else time  # noqa: PLR2004
