"""The pages of faults and settings: the configuration becomes the values of templates. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import fields, frozen

from veriff_async.sandbox._chaos.profile import ChaosProfile
from veriff_async.sandbox._chaos.reader import FAULT_KEYS, KINDS
from veriff_async.sandbox._control.rule_operations import RULE_TEXTS
from veriff_async.sandbox._faults import FaultKind
from veriff_async.sandbox._records import WebhookKind
from veriff_async.sandbox._rules import SandboxOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from veriff_async.sandbox._faults import WaitingFault
    from veriff_async.sandbox._rules import SandboxRules

__all__ = ("CHOICES", "FAULTS", "METHODS", "UNITS", "describe_faults", "describe_settings", "url_field")

METHODS: Final = ("GET", "POST", "PATCH", "DELETE")

FAULTS: Final = {
    FaultKind.STATUS: "Respond with a status",
    FaultKind.DROP: "Close the connection during the request",
    FaultKind.HANG: "Stop reading, never respond",
    FaultKind.LOSE_RESPONSE: "Carry it out, lose the response",
    FaultKind.TRUNCATE_RESPONSE: "Carry it out, cut the response",
    FaultKind.STALL_RESPONSE: "Carry it out, stop in the response",
    FaultKind.CORRUPT_RESPONSE: "Carry it out, change a byte",
    FaultKind.FORGE_SIGNATURE: "Carry it out, sign with another secret",
}
"""The kinds of faults, in words."""

# Sessions expire after days and webhooks are repeated after hours, so seconds alone would need a calculator.
UNITS: Final = {"seconds": 1, "minutes": 60, "hours": 3_600, "days": 86_400}
"""Units in which a person advances the clock, in seconds."""

CHOICES: Final = {"time_digits": (3, 6), "abandoned_code": (9104, 9121)}
"""Rules with a few possible values."""

_DECIDE_AFTER: Final = "From the submission of a session. Empty: nothing is approved by itself, you decide."


@frozen
class FaultRow:
    """A fault that has not happened as often as asked."""

    id: int
    title: str
    where: str
    times: int


@frozen
class Rule:
    """A rule and its control: ``flag``, ``choice`` or ``number``."""

    name: str
    label: str
    control: str
    value: str
    hint: str
    choices: tuple[str, ...] = ()
    is_changed: bool = False


@frozen
class WebhookUrl:
    """The URL of a kind of webhook."""

    field: str
    kind: str
    url: str


def describe_faults(waiting: Sequence[WaitingFault], profile: ChaosProfile | None) -> dict[str, object]:
    """Return the values of the page of faults."""
    return {
        "waiting": tuple(map(_fault, waiting)),
        "kinds": tuple((name, FAULTS[kind]) for name, kind in KINDS.items()),
        "methods": METHODS,
        "profiles": ChaosProfile.shipped(),
        # A profile that a person has written may have no name.
        "profile": None if profile is None else profile.name or "own",
        "toml": "" if profile is None else profile.to_toml(),
    }


def _fault(waiting: WaitingFault) -> FaultRow:
    fault = waiting.fault
    details = [str(fault.http_status)] if fault.kind is FaultKind.STATUS else []
    if "after" in FAULT_KEYS[fault.kind].values() and fault.after:
        details.append(f"byte {fault.after:,}")
    title = FAULTS[fault.kind] + (f": {', '.join(details)}" if details else "")
    return FaultRow(waiting.id, title, f"{waiting.method or 'any method'} {waiting.path or 'any path'}", waiting.times)


def describe_settings(rules: SandboxRules) -> dict[str, object]:
    """Return the values of the page of settings."""
    decide_after = "" if rules.decide_after is None else f"{rules.decide_after:g}"
    options = [_rule(each.name, getattr(rules.options, each.name), each.default) for each in fields(SandboxOptions)]
    return {
        "rules": (Rule("decide_after", "Approve after, in seconds", "number", decide_after, _DECIDE_AFTER), *options),
        "urls": tuple(WebhookUrl(url_field(kind), kind, rules.webhook_urls.get(kind, "")) for kind in WebhookKind),
        "units": tuple(UNITS),
    }


def _rule(name: str, value: object, default: object) -> Rule:
    words = name.replace("_", " ").capitalize()
    hint = RULE_TEXTS[name].replace("null for", "empty for")
    if isinstance(value, bool):
        return Rule(name, words, "flag", "on" if value else "", hint, is_changed=value != default)
    choices = tuple(map(str, CHOICES.get(name, ())))
    text = "" if value is None else f"{value:.15g}" if isinstance(value, float) else str(value)
    return Rule(name, words, "choice" if choices else "number", text, hint, choices, value != default)


def url_field(kind: str) -> str:
    """Return the name of the form's field for the URL of a kind."""
    return f"url-{kind}"
