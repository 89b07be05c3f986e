"""Values of forms, and sentences about those that are wrong. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

from attrs import fields

from veriff_async.errors import InvalidArgumentError
from veriff_async.models.enums import Status
from veriff_async.sandbox._arguments import LONGEST, check_url
from veriff_async.sandbox._chaos.profile import ChaosProfile
from veriff_async.sandbox._chaos.reader import FAULT_KEYS, KINDS, read_fault
from veriff_async.sandbox._console.settings import UNITS, url_field
from veriff_async.sandbox._hosted.steps import read_reason
from veriff_async.sandbox._records import WebhookKind
from veriff_async.sandbox._rules import SandboxOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from veriff_async.sandbox._decision_spec import DecisionFields
    from veriff_async.sandbox._faults import Fault
    from veriff_async.sandbox._rules import RuleFields

__all__ = (
    "Form",
    "read_chaos",
    "read_decision",
    "read_fault_form",
    "read_order",
    "read_rules",
    "read_seconds",
    "read_seed",
    "read_urls",
)


class Form:
    """The fields of a form, read one after the other."""

    def __init__(self, values: Mapping[str, str]) -> None:
        """Read no field yet."""
        self.values = values
        self.problems: dict[str, str] = {}

    def text(self, name: str) -> str:
        """Return a text without white space around it; empty if it is absent."""
        return self.values.get(name, "").strip()

    def number(  # noqa: PLR0913  a range, and what may be absent
        self, name: str, title: str, *, lowest: float, highest: float, whole: bool = False, required: bool = False
    ) -> float | None:
        """Return a number; ``None`` if it is absent or wrong."""
        text = self.text(name)
        if not text and not required:
            return None
        try:
            # int() and float() also take underscores, which no form means.
            number = None if "_" in text else int(text) if whole else float(text)
        # int() refuses texts of thousands of digits as well.
        except ValueError:
            number = None
        if number is not None and math.isfinite(number) and lowest <= number <= highest:
            return number
        kind = "a whole number" if whole else "a number"
        self.problems[name] = f"{title} must be {kind} from {lowest:g} to {highest:g}."
        return None


def read_decision(form: Form) -> tuple[Status, DecisionFields]:
    """Read the form with which a session is decided."""
    status = Status(form.text("status"))
    fields: DecisionFields = {"reason_code": read_reason(status, form.text(f"reason-{status}"))}
    # A typed code has priority over the list, which lacks the codes that our copy of Veriff's lists lacks.
    code = form.number("code", "The reason code", lowest=0, highest=99_999, whole=True)
    if code is not None:
        fields["reason_code"] = int(code)
    if form.text("reason"):
        fields["reason"] = form.text("reason")
    score = form.number("risk_score", "The risk score", lowest=0, highest=1)
    if score is not None:
        fields["risk_score"] = score
    return status, fields


def read_order(form: Form, *, highest: int) -> list[str]:
    """Read the form that gives webhooks a place in an order; return their ids, the first one first."""
    places: dict[float, str] = {}
    # The names of the fields are the ids, which `WebhookControl.reorder` checks.
    for name in form.values:
        place = form.number(name, "The place", lowest=1, highest=highest, whole=True)
        if place is None:
            continue
        if place in places:
            form.problems[name] = f"Another webhook has place {place:g} already."
        places[place] = name
    return [places[place] for place in sorted(places)]


def read_fault_form(form: Form) -> tuple[Fault, int] | None:
    """Read the form that injects a fault; return the fault and how often it happens, or ``None`` if a field is wrong.

    Raises:
        ConfigurationError: The kind of fault is unknown, or its text cannot be part of a response.
    """
    kind = KINDS.get(form.text("kind"))
    keys = () if kind is None else FAULT_KEYS[kind]
    members: dict[str, object] = {"kind": form.text("kind")}
    if "status" in keys:
        status = form.number("status", "The status", lowest=200, highest=599, whole=True, required=True)
        members["status"] = None if status is None else int(status)
        retry_after = form.number("retry_after", "Retry-After", lowest=0, highest=LONGEST)
        if retry_after is not None:
            members["retry_after"] = retry_after
    after = form.number("after", "The number of bytes", lowest=0, highest=LONGEST, whole=True)
    for key in ("after", "offset"):
        if key in keys and after is not None:
            members[key] = int(after)
    times = form.number("times", "The number of requests", lowest=1, highest=LONGEST, whole=True, required=True)
    if form.problems or times is None:
        return None
    return read_fault(members, "the fault"), int(times)


def read_chaos(form: Form) -> ChaosProfile | None:
    """Read the form that chooses a chaos profile."""
    name = form.text("profile")
    if name == "own":
        return ChaosProfile.parse(form.values.get("toml", ""))
    # Only names: a path would let a page read files of this machine.
    return ChaosProfile.load(name) if name in ChaosProfile.shipped() else None


def read_seconds(form: Form) -> float | None:
    """Read the form that advances the clock; ``None`` if the number is wrong."""
    unit = UNITS.get(form.text("unit"), 1)
    amount = form.number("amount", "The time", lowest=0, highest=LONGEST / unit, required=True)
    return None if amount is None else amount * unit


def read_seed(form: Form) -> tuple[int, int] | None:
    """Read the form that adds sessions; return their number and the seed, or ``None`` if a field is wrong."""
    sessions = form.number("sessions", "The number of sessions", lowest=1, highest=10_000, whole=True, required=True)
    seed = form.number("seed", "The seed", lowest=0, highest=LONGEST, whole=True) or 0
    return None if sessions is None or form.problems else (int(sessions), int(seed))


def read_urls(form: Form) -> dict[WebhookKind, str]:
    """Read the form with the URLs of webhooks; an empty one removes it."""
    urls: dict[WebhookKind, str] = {}
    for kind in WebhookKind:
        name = url_field(kind)
        url = form.text("url-all") or form.text(name)
        if not url:
            continue
        try:
            urls[kind] = check_url("The URL", url)
        except InvalidArgumentError:
            form.problems["url-all" if form.text("url-all") else name] = (
                "Write an absolute URL, http://... or https://..."
            )
    return urls


def read_rules(form: Form) -> RuleFields:
    """Read the form with the rules; a number that may be absent is absent if its field is empty."""
    changes: dict[str, object] = {}
    defaults = {each.name: each.default for each in fields(SandboxOptions)}
    for name, default in {"decide_after": None, **defaults}.items():
        # A browser sends nothing for a flag that is off.
        if isinstance(default, bool):
            changes[name] = name in form.values
            continue
        is_whole = isinstance(default, int)
        title = name.replace("_", " ").capitalize()
        number = form.number(name, title, lowest=0, highest=LONGEST, whole=is_whole, required=default is not None)
        changes[name] = int(number) if is_whole and number is not None else number
    # The service checks the values again.
    return cast("RuleFields", changes)
