"""Models are decoded, encoded and decoded again without loss; any bytes give a value or an error of the library."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from contextlib import suppress
from copy import deepcopy
from typing import TYPE_CHECKING, Literal

import pytest
from attrs import evolve, fields, frozen, has
from hypothesis import given, settings, strategies as st

from veriff_async import (
    ConfigurationError,
    Credentials,
    Decision,
    DecodeError,
    VeriffError,
    from_json,
    models,
    parse_webhook,
    to_json,
)
from veriff_async._protocol.json.decode import dump, load_object
from veriff_async.models.events import UnknownEvent
from veriff_async.testing import decision_event, session_event, signed_webhooks, strategy_for, webhook_events
from veriff_async.testing.factories import decision_of

if TYPE_CHECKING:
    from attrs import AttrsInstance
    from hypothesis.strategies import DataObject

    from veriff_async import WebhookEvent

CREDENTIALS = Credentials("f9ae4cbd-9a3f-4a3b-b07b-7f1a2f4f9d10", "newest", previous_secrets=["older", "oldest"])
MODULES = [
    importlib.import_module(f"{models.__name__}.{found.name}") for found in pkgutil.iter_modules(models.__path__)
]
READ = [
    thing
    for module in MODULES
    for name in getattr(module, "__all__", ())
    if has(thing := getattr(module, name)) and "raw" in {attribute.name for attribute in fields(thing)}
]
"""Every model that is read from JSON; the others are only ever sent."""

each_model = pytest.mark.parametrize("model", READ, ids=lambda model: model.__name__)


def sign_body(body: bytes) -> dict[str, str]:
    """Return the headers of a webhook with this body."""
    return {"x-auth-client": CREDENTIALS.api_key, "x-hmac-signature": CREDENTIALS.sign(body)}


UNKNOWN = {"aMemberThatIsNewer": {"with": ["a", 1, None]}}


@each_model
@settings(max_examples=8)
@given(data=st.data())
def test_models_survive_a_round_trip(model: type[AttrsInstance], data: DataObject) -> None:
    """A model that is encoded and decoded again is equal."""
    made = data.draw(strategy_for(model))

    written = dump(to_json(made))

    assert made == from_json(model, written)
    assert load_object(written) == to_json(from_json(model, written))


@each_model
@settings(max_examples=8)
@given(data=st.data())
def test_unknown_members_survive(model: type[AttrsInstance], data: DataObject) -> None:
    """An unknown member changes no field, stays in raw, and is encoded again."""
    made = data.draw(strategy_for(model))
    sent = {**to_json(made), **UNKNOWN}

    found = from_json(model, sent)

    if model is not UnknownEvent:
        assert made == found
    assert sent == to_json(found)


@each_model
@settings(max_examples=8)
@given(data=st.data())
def test_any_members_are_decoded_or_refused(model: type[AttrsInstance], data: DataObject) -> None:
    """Members of any type give a model, or a DecodeError that names the path and not the value."""
    made = to_json(data.draw(strategy_for(model)))
    path = data.draw(st.sampled_from(sorted(made))) if made else "nothing"
    value = data.draw(st.none() | st.integers() | st.floats() | st.text() | st.lists(st.text()) | st.booleans())

    with suppress(DecodeError):
        assert isinstance(from_json(model, {**made, path: value}), model)


FORMS: st.SearchStrategy[object] = st.sampled_from(
    ["", [], {}, None, "0.5", "text", [""], [None, {}], {"": ""}, "2026-01-02T12:00:00.123Z"]
).map(deepcopy)
"""Forms of a member that were seen, or that no field can be read from."""


def paths_of(value: object, *path: str) -> list[tuple[str, ...]]:
    """Return the paths of all members of an object."""
    found: list[tuple[str, ...]] = []
    for name, member in value.items() if isinstance(value, dict) else ():
        found += [(*path, name), *paths_of(member, *path, name)]
    return found


def find_changed_paths(sent: object, written: object, path: str = "$") -> list[str]:
    """Return the paths whose value differs after encoding; additional members do not count."""
    if isinstance(sent, dict) and isinstance(written, dict):
        return [at for name in sent for at in find_changed_paths(sent[name], written.get(name, ...), f"{path}.{name}")]
    if isinstance(sent, list) and isinstance(written, list) and len(sent) == len(written):
        return [
            at for one, other in zip(sent, written, strict=True) for at in find_changed_paths(one, other, f"{path}[]")
        ]
    return [] if sent == written else [path]


@each_model
@settings(max_examples=8)
@given(data=st.data())
def test_members_keep_their_received_form(model: type[AttrsInstance], data: DataObject) -> None:
    """In any form (`""`, `[]`, null, a number as text), a member is encoded as it was received."""
    sent = load_object(dump(to_json(data.draw(strategy_for(model)))))
    for _ in range(data.draw(st.integers(0, 4))):
        *parents, name = data.draw(st.sampled_from(paths_of(sent) or [("nothing",)]))
        at: object = sent
        for parent in parents:
            at = at[parent]  # type: ignore[index]
        at[name] = data.draw(FORMS)  # type: ignore[index]

    try:
        found = from_json(model, sent)
    except DecodeError:
        return
    assert find_changed_paths(sent, to_json(found)) == []


def test_changed_field_is_encoded_as_changed() -> None:
    """The received form applies to the received value only."""
    sent = {"verification": {"id": "1", "status": "declined", "reason": "", "riskLabels": [], "vendorData": "a"}}
    decision = from_json(Decision, sent)

    changed = to_json(evolve(decision, reason="other", vendor_data=None))["verification"]

    assert isinstance(changed, dict)
    assert ("other", None, []) == (changed["reason"], changed["vendorData"], changed["riskLabels"])


@pytest.mark.parametrize(
    ("digits", "text"),
    [(None, "2026-01-02T12:00:00.12Z"), (3, "2026-01-02T12:00:00.120Z"), (6, "2026-01-02T12:00:00.120000Z")],
)
def test_times_keep_their_digits_by_default(digits: Literal[3, 6] | None, text: str) -> None:
    """A decoded time is encoded as it was received by default, and with 3 or 6 digits on request."""
    sent = {"verification": {"id": "1", "status": "approved", "decisionTime": "2026-01-02T12:00:00.12Z"}}

    written = to_json(from_json(Decision, sent), time_digits=digits)["verification"]

    assert isinstance(written, dict)
    assert text == written["decisionTime"]


@given(event=webhook_events())
def test_every_kind_of_webhook_is_recognised(event: WebhookEvent) -> None:
    """A webhook is verified, decoded as its kind, and has one key for any order of members."""
    body = to_json(event)
    shuffled = dict(reversed(body.items()))

    found = [parse_webhook(sign_body(raw), raw, CREDENTIALS) for raw in (dump(body), dump(shuffled))]

    assert type(event) is type(found[0])
    assert event == found[0]
    assert found[0].dedup_key == found[1].dedup_key
    assert found[0].dedup_key.startswith(f"{event.kind}:")


@given(data=st.data(), webhook=signed_webhooks(CREDENTIALS))
def test_damaged_webhook_is_refused(data: DataObject, webhook: tuple[dict[str, str], bytes]) -> None:
    """A webhook with a lost or changed byte is refused, for every byte."""
    headers, body = webhook
    place = data.draw(st.integers(0, len(body) - 1))
    flipped = body[:place] + bytes([body[place] ^ data.draw(st.integers(1, 255))]) + body[place + 1 :]

    assert parse_webhook(headers, body, CREDENTIALS).dedup_key
    for broken in (body[:place], flipped):
        with pytest.raises(VeriffError):
            parse_webhook(headers, broken, CREDENTIALS)


@given(data=st.data(), webhook=signed_webhooks(CREDENTIALS), junk=st.binary(max_size=80))
def test_any_signed_bytes_give_an_event_or_a_veriff_error(
    data: DataObject, webhook: tuple[dict[str, str], bytes], junk: bytes
) -> None:
    """Signed bytes, whole, cut or spliced, give an event or a VeriffError, never another error."""
    _, body = webhook
    place = data.draw(st.integers(0, len(body)))

    for raw in (junk, body[:place], body[:place] + junk + body[place:]):
        with suppress(VeriffError):
            assert parse_webhook(sign_body(raw), raw, CREDENTIALS).dedup_key


@pytest.mark.parametrize("name", ["strategy_for", "signed_webhooks"])
def test_missing_hypothesis_is_reported(name: str) -> None:
    """Without hypothesis, one sentence says which package to install, and the contracts work."""
    code = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "from veriff_async.testing import InboxContract, JournalContract\n"
        f"from veriff_async.testing import {name}"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)  # noqa: S603  our own

    assert done.stderr.splitlines()[-1] == (
        "veriff_async.errors.ConfigurationError: The strategies need hypothesis, an extra of this package: "
        'pip install "veriff-async[testing]".'
    )


def test_unknown_type_has_no_strategy() -> None:
    """A class that is not a model is a mistake, and the error says what to pass."""

    @frozen
    class Order:
        total: complex

    with pytest.raises(ConfigurationError, match="Cannot build a strategy for complex: pass a model of veriff_async"):
        strategy_for(Order).example()


def test_only_decisions_have_a_decision() -> None:
    """`decision_of` refuses an event of another kind by its name."""
    assert "approved" == decision_of(decision_event("s", "approved")).status
    with pytest.raises(TypeError, match="A SessionEvent has no decision"):
        decision_of(session_event("s", "started"))
