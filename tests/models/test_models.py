"""The models: frozen, comparable, portable, and silent about people."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import UTC, datetime

import pytest
from attrs import evolve, fields
from attrs.exceptions import FrozenInstanceError

from veriff_async import Address, Decision, Document, Media, Person, Status, UploadedMedia
from veriff_async.models import AdditionalVerifiedData, ParsedAddress, RiskLabel
from veriff_async.models.events import DecisionEvent, SessionEvent, UnknownEvent
from veriff_async.models.media import AsyncReader, UploadProgress
from veriff_async.models.session import SessionInfo

CANARY = "Canary-7f3a"
# Words about the document and the account, which are no person's data; everything else is a canary.
SHOWN = {
    Document: {
        "type",
        "country",
        "state",
        "id_card_type",
        "nfc_validated",
        "portrait_is_visible",
        "signature_is_visible",
        "specimen",
    },
    Person: {"raw", "addresses"},
    Address: {"parsed_address"},
    ParsedAddress: set[str](),
}


def _personal(kind: type[Person | Document | Address | ParsedAddress]) -> dict[str, str]:
    return {attribute.name: CANARY for attribute in fields(kind) if attribute.name not in SHOWN[kind]}


PARSED = ParsedAddress(**_personal(ParsedAddress))  # type: ignore[arg-type]
ADDRESS = evolve(Address(**_personal(Address)), parsed_address=PARSED)  # type: ignore[arg-type]
PERSON = evolve(Person(**_personal(Person)), addresses=(ADDRESS,))  # type: ignore[arg-type]
DOCUMENT = Document(**_personal(Document))  # type: ignore[arg-type]
DECISION = Decision(
    session_id="session",
    status=Status.APPROVED,
    person=PERSON,
    document=DOCUMENT,
    ip=CANARY,
    additional_verified_data=AdditionalVerifiedData(drivers_license_number=CANARY),
    risk_labels=(RiskLabel(label="label", raw={CANARY: CANARY}),),
    raw={CANARY: CANARY},
)
MODELS = (
    PARSED,
    ADDRESS,
    PERSON,
    DOCUMENT,
    DECISION,
    DecisionEvent(decision=DECISION),
    SessionEvent(session_id="session", action=Status.STARTED, raw={CANARY: CANARY}),
    UnknownEvent(raw={CANARY: CANARY}),
    SessionInfo(id="session", url=f"https://alchemy.veriff.com/v/{CANARY}", raw={CANARY: CANARY}),
    UploadedMedia(id="media", url=f"https://veriff.com/{CANARY}", raw={CANARY: CANARY}),
    Media(f"/home/{CANARY}/front.jpg", "face", filename=CANARY, timestamp=datetime(2026, 1, 1, tzinfo=UTC)),
    Media(CANARY.encode(), "face"),
    UploadProgress(media=Media(CANARY.encode(), "face"), bytes_sent=1, total_bytes=2),
)
PLAIN = (
    Person(),
    Document(),
    Address(),
    ParsedAddress(),
    Decision(session_id="1", status=Status.APPROVED),
    RiskLabel(label="label"),
    SessionInfo(id="1"),
    SessionEvent(session_id="1", action=Status.STARTED),
    UploadedMedia(id="1"),
)
models = pytest.mark.parametrize("model", MODELS + PLAIN, ids=lambda model: type(model).__name__)


@models
def test_repr_shows_no_personal_data(model: object) -> None:
    """The repr of a model, however deep, shows no personal value, token, file or raw answer."""
    assert CANARY not in repr(model)


@models
def test_models_can_be_pickled(model: object) -> None:
    """A pickled or deeply copied model equals the original, with any of its fields present or missing."""
    revived: object = pickle.loads(pickle.dumps(model))  # noqa: S301  our own bytes

    assert (model, model) == (revived, copy.deepcopy(model))


@models
def test_models_are_frozen_and_slotted(model: object) -> None:
    """No attribute can be changed or added."""
    with pytest.raises(FrozenInstanceError):
        model.raw = {}  # type: ignore[attr-defined]
    assert not hasattr(model, "__dict__")


@pytest.mark.parametrize("model", PLAIN, ids=lambda model: type(model).__name__)
def test_absent_json_is_an_empty_object(model: Person) -> None:
    """A model without an answer has an empty object in `raw`, which can be written as JSON."""
    assert "{}" == json.dumps(model.raw)


def test_empty_objects_are_not_shared() -> None:
    """Two models never share the empty object that stands for an absent one."""
    assert Person().raw is not Person().raw


def test_raw_does_not_affect_equality() -> None:
    """Two decisions that say the same are equal, however Veriff wrote them."""
    assert DECISION == evolve(DECISION, raw={})


@pytest.mark.parametrize("status", [*Status, Status("newer")])
def test_properties_of_decisions(status: Status) -> None:
    """A decision is approved, or asks for a resubmission, when its status says so and else never."""
    decision = Decision(session_id="1", status=status)

    assert (status == "approved") is decision.is_approved
    assert (status == "resubmission_requested") is decision.needs_resubmission


def test_object_with_async_read_is_a_reader() -> None:
    """A class is a reader by its ``read`` alone."""

    class Upload:
        async def read(self, n: int, /) -> bytes:
            return bytes(n)

    assert isinstance(Upload(), AsyncReader)
    assert not isinstance(b"", AsyncReader)
