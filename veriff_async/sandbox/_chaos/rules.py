"""The parts of a chaos profile: rules for requests and webhooks, and outages. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar

from attrs import field, frozen

from veriff_async._protocol.arguments import check_flag, check_instance, check_optional, describe_value
from veriff_async.errors import InvalidArgumentError
from veriff_async.sandbox._arguments import check_mapping, check_number, check_word, number
from veriff_async.sandbox._chaos.delay import Delay
from veriff_async.sandbox._faults import Fault
from veriff_async.sandbox._records import WebhookKind

if TYPE_CHECKING:
    from attrs import Attribute

__all__ = ("Outage", "RequestChaos", "WebhookChaos")

_T = TypeVar("_T")

_METHODS: Final = ("GET", "POST", "PATCH", "DELETE")

# Decimal fractions have no exact float: 0.1 + 0.2 + 0.7 is above 1.
_ROUNDING: Final = 1e-9


def _name(rule: object, attribute: Attribute[_T]) -> str:
    return f"{type(rule).__name__}.{attribute.name}"


def _check_method(rule: object, attribute: Attribute[str | None], value: object) -> None:
    # A wrong method would match no request, and the rule would silently do nothing.
    if value is not None:
        check_word(_name(rule, attribute), value, _METHODS)


def _check_path(rule: object, attribute: Attribute[str | None], value: object) -> None:
    if value is not None and not (isinstance(value, str) and value.startswith(("/", "*"))):
        shown = "no path" if isinstance(value, str) else describe_value(value)
        msg = f"{_name(rule, attribute)} is {shown}: pass a pattern such as '/v1/sessions/*/media'."
        raise InvalidArgumentError(msg)


def _check_kind(rule: object, attribute: Attribute[str | None], value: object) -> None:
    if value is not None:
        check_word(_name(rule, attribute), value, WebhookKind)


def _check_delay(rule: object, attribute: Attribute[Delay | None], value: object) -> None:
    remedy = "call a method of Delay, for example Delay.constant(0.2)"
    check_optional(_name(rule, attribute), value, Delay, remedy=remedy, error=InvalidArgumentError)


def _check_fault(rule: object, attribute: Attribute[_T], value: object) -> None:
    remedy = "call a method of Fault, for example Fault.status(503)"
    check_instance(_name(rule, attribute), value, Fault, remedy=remedy, error=InvalidArgumentError)


def _check_own_flag(rule: object, attribute: Attribute[_T], value: object) -> None:
    check_flag(_name(rule, attribute), value, error=InvalidArgumentError)


def _check_faults(rule: object, attribute: Attribute[_T], value: object) -> None:
    name = _name(rule, attribute)
    total = 0.0
    for fault, weight in check_mapping(name, value, remedy="pass faults and their weights").items():
        _check_fault(rule, attribute, fault)
        total += check_number(f"A weight of {name}", weight, highest=1)
    if total > 1 + _ROUNDING:
        msg = f"{name} has weights with a sum of {total:.6g}: pass weights with a sum of at most 1."
        raise InvalidArgumentError(msg)


def _freeze(faults: Mapping[Fault, float]) -> Mapping[Fault, float]:
    value: object = faults
    return MappingProxyType(dict(faults)) if isinstance(value, Mapping) else faults


def _upper(method: str | None) -> str | None:
    value: object = method
    return value.upper() if isinstance(value, str) else method


def _check_rate(rule: object, attribute: Attribute[float | None], value: object) -> None:
    if value is not None:
        check_number(_name(rule, attribute), value, above=True)


def _check_duration(rule: object, attribute: Attribute[float], value: object) -> None:
    check_number(_name(rule, attribute), value, above=True)


@frozen(kw_only=True)
class RequestChaos:
    """How requests to some endpoints fail, and how slow their responses are.

    Args:
        method: Only requests with this method.
        path: Only requests whose path matches, with ``*`` for any text: ``"/v1/sessions/*/media"``.
        faults: Faults with their weights. A weight is the share of the requests that fail in this way, from 0 to 1;
            the sum of all weights is at most 1, and the remaining requests succeed.
        latency: Time in seconds from the end of a request's work to its response.
        requests_per_second: Rate above which requests get a 429; ``None`` sets no limit.
        retry_after: Seconds in the ``Retry-After`` of such a 429.

    Raises:
        InvalidArgumentError: A value has the wrong type or is out of range; the message names it.
    """

    method: str | None = field(default=None, converter=_upper, validator=_check_method)
    path: str | None = field(default=None, validator=_check_path)
    faults: Mapping[Fault, float] = field(
        factory=dict[Fault, float], converter=_freeze, validator=_check_faults, hash=False
    )
    latency: Delay | None = field(default=None, validator=_check_delay)
    requests_per_second: float | None = field(default=None, validator=_check_rate)
    retry_after: float = field(default=1, validator=number())

    def matches(self, method: str, path: str) -> bool:
        """Return whether the rule is for a request."""
        return _matches(self, method, path)


@frozen(kw_only=True)
class WebhookChaos:
    """How webhooks get lost, come twice, late or in another order.

    Args:
        kind: Only webhooks of this kind.
        loss: Share of the webhooks that are never posted, from 0 to 1.
        duplication: Share of the webhooks that are posted more than once.
        copies: Number of additional posts of such a webhook.
        delay: Seconds from the event to the post; drawn for each copy, so a copy may come first.
        reordering: Share of the webhooks that wait `reorder_seconds` longer, so that later ones overtake them.
        reorder_seconds: The seconds that such a webhook waits.

    Raises:
        InvalidArgumentError: A value has the wrong type or is out of range; the message names it.
    """

    kind: str | None = field(default=None, validator=_check_kind)
    loss: float = field(default=0, validator=number(highest=1))
    duplication: float = field(default=0, validator=number(highest=1))
    copies: int = field(default=1, validator=number(lowest=1, highest=100, whole=True))
    delay: Delay | None = field(default=None, validator=_check_delay)
    reordering: float = field(default=0, validator=number(highest=1))
    reorder_seconds: float = field(default=2, validator=number())

    def matches(self, kind: str) -> bool:
        """Return whether the rule is for webhooks of a kind."""
        return self.kind in {None, kind}


@frozen(kw_only=True)
class Outage:
    """A window of time in which requests fail.

    Args:
        duration: Length of a window in seconds.
        start: Seconds from the start of the profile to the first window, by the sandbox's clock.
        every: Seconds from the start of one window to the start of the next; ``None`` has one window only.
        method: Only requests with this method fail.
        path: Only requests whose path matches fail, with ``*`` for any text.
        fault: How they fail; a 503 by default.
        webhooks: Whether webhooks wait until the end of the window.

    Raises:
        InvalidArgumentError: A value has the wrong type or is out of range, or a window is longer than `every`.
    """

    duration: float = field(validator=_check_duration)
    start: float = field(default=0, validator=number())
    every: float | None = field(default=None, validator=_check_rate)
    method: str | None = field(default=None, converter=_upper, validator=_check_method)
    path: str | None = field(default=None, validator=_check_path)
    fault: Fault = field(factory=lambda: Fault.status(503, message="Scheduled outage"), validator=_check_fault)
    webhooks: bool = field(default=False, validator=_check_own_flag)

    def __attrs_post_init__(self) -> None:
        """Check that windows do not overlap."""
        if self.every is not None and self.every <= self.duration:
            msg = f"Outage.every is {self.every}: pass more seconds than duration, or the outage never ends."
            raise InvalidArgumentError(msg)

    def matches(self, method: str, path: str) -> bool:
        """Return whether the outage is for a request."""
        return _matches(self, method, path)

    def seconds_left(self, elapsed: float) -> float | None:
        """Return the seconds to the end of the window at a time; ``None`` outside of all windows."""
        since = elapsed - self.start
        if since < 0:
            return None
        if self.every is not None:
            since %= self.every
        return self.duration - since if since < self.duration else None


def _matches(rule: RequestChaos | Outage, method: str, path: str) -> bool:
    return rule.method in {None, method} and (rule.path is None or fnmatchcase(path, rule.path))
