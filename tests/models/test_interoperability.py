"""Every model in the libraries of others: `json`, pydantic 2 and cattrs, each with Veriff's names."""

from __future__ import annotations

import importlib
import json
import pickle
import pkgutil
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast, get_args

import attrs
import cattrs
import pydantic
import pytest
from attrs import evolve, has
from hypothesis import given, settings, strategies as st
from pydantic import BaseModel, InstanceOf, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from veriff_async import (
    Credentials,
    Decision,
    DecisionEvent,
    DecodeError,
    InvalidArgumentError,
    Media,
    Person,
    SessionEvent,
    Status,
    UnknownEvent,
    UploadProgress,
    WebhookEvent,
    converter,
    from_json,
    models,
)
from veriff_async.health import CheckReport
from veriff_async.models import DownloadedMedia, MediaInspection, Model, RiskLabel, UploadedMedia
from veriff_async.models.session import SessionInfo
from veriff_async.testing import strategy_for, webhook_events

if TYPE_CHECKING:
    from pathlib import Path

    from hypothesis.strategies import DataObject

MODELS: Final = sorted(
    {
        thing
        for module in (
            *(f"models.{found.name}" for found in pkgutil.iter_modules(models.__path__)),
            "health",
            "statistics",
            "batch._runner",
        )
        for thing in vars(importlib.import_module(f"veriff_async.{module}")).values()
        if isinstance(thing, type) and issubclass(thing, Model) and has(thing) and not thing.__name__.startswith("_")
    },
    key=lambda model: model.__name__,
)
each_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
SECRET: Final = "Canary-7f3a"
UNKNOWN: Final = {"aMemberThatIsNewer": {"with": ["a", 1, None]}}
DECISION: Final = Decision(
    session_id="8f0d1ab6", status=Status.APPROVED, person=Person(first_name="Ada"), risk_labels=(RiskLabel(label="x"),)
)
T = TypeVar("T")


class Order(BaseModel):
    """A model of pydantic with fields of each sort."""

    decision: Decision | None = None
    status: Status = Status.CREATED
    earlier: list[Decision] = []
    by_status: dict[Status, int] = {}
    event: WebhookEvent | None = None


class Page(BaseModel, Generic[T]):
    """A generic model."""

    items: tuple[T, ...]


@attrs.frozen
class Row:
    """A class of attrs with fields of each sort."""

    number: int
    decision: Decision | None = None
    status: Status = Status.CREATED
    labels: tuple[RiskLabel, ...] = ()
    event: WebhookEvent | None = None


def test_no_model_is_missing() -> None:
    """Every class of attrs among the public models has a dict, except files and their pixels."""
    names = [name for name in vars(models)["__all__"] if has(getattr(models, name))]

    assert {"Media", "UploadProgress"} == {name for name in names if getattr(models, name) not in MODELS}


@each_model
@settings(max_examples=3)
@given(data=st.data())
def test_models_survive_json_pydantic_and_cattrs(model: type[Any], data: DataObject) -> None:
    """A model is equal after each of the conversions, and its dict has the form that the JSON schema says."""
    made = data.draw(strategy_for(model))
    members = made.to_dict()
    text = json.dumps(members)

    assert made == model.from_dict(members) == from_json(model, text)
    if model in get_args(WebhookEvent):
        assert type(made) in {UnknownEvent, type(TypeAdapter(WebhookEvent).validate_python(members))}
    if model is not UnknownEvent:
        from jsonschema import Draft202012Validator  # noqa: PLC0415  takes seconds, in each worker

        adapter = TypeAdapter(model)
        assert made == adapter.validate_python(members) == adapter.validate_json(adapter.dump_json(made))
        assert members == adapter.dump_python(made) == adapter.dump_python(made, mode="json")
        assert made == converter().loads(converter().dumps(made), model)
        Draft202012Validator(adapter.json_schema()).validate(members)


@given(event=webhook_events())
def test_an_event_is_read_as_its_own_kind(event: WebhookEvent) -> None:
    """A union of events has one reader for each message, in pydantic and in cattrs; other kinds are refused."""
    members, kind = event.to_dict(), type(event)

    found = TypeAdapter[WebhookEvent](WebhookEvent).validate_python(members)
    assert (event, kind) == (found, type(found))
    assert Row(1, event=event) == converter().structure({"number": 1, "event": members}, Row)
    if kind is not SessionEvent:
        with pytest.raises(ValidationError, match="expected a webhook of the kind SessionEvent"):
            TypeAdapter(SessionEvent).validate_python(members)


def test_unknown_members_and_words_are_kept() -> None:
    """The dict has the members and the words that this version does not know, and shares nothing with the model."""
    sent = {"status": "success", "verification": {"id": "1", "status": "paused", **UNKNOWN}, **UNKNOWN}
    found = Decision.from_dict(sent)

    members: Any = found.to_dict()
    members["aMemberThatIsNewer"]["with"].append(SECRET)

    again: Any = found.to_dict()
    assert (UNKNOWN["aMemberThatIsNewer"],) * 2 == tuple(
        at["aMemberThatIsNewer"] for at in (again, again["verification"])
    )
    assert "paused" == again["verification"]["status"]
    assert again == TypeAdapter(Decision).dump_python(TypeAdapter(Decision).validate_python(sent))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Decimal(1), {1}, b"x", object(), {(1, 2): 1}])
def test_dict_is_always_json(value: object) -> None:
    """A value that `json.dumps` refuses, or writes as text that is not JSON, is an error that does not show it."""
    with pytest.raises(InvalidArgumentError, match="This Person cannot be written"):
        Person(raw={"newer": [value]}).to_dict()


@pytest.mark.parametrize("value", [Decimal(1), DECISION.person, b"x", object(), {1: 2}, {None: 2}, [{(): 1}]])
def test_mapping_with_a_value_that_is_not_json_is_refused(value: object) -> None:
    """A lenient decoder would drop such a value without a word."""
    with pytest.raises(DecodeError, match=r"expected JSON @ \$"):
        Decision.from_dict({"verification": {"id": "1", "status": "approved", "person": value}})


def test_number_that_is_not_finite_becomes_null() -> None:
    """Pydantic reads NaN in a text, which is not JSON; JavaScript writes it as null."""
    found = TypeAdapter(Person).validate_json('{"height": NaN, "newer": [1e999]}')

    assert [None] == found.to_dict()["newer"]


def test_classes_derived_from_models_are_refused() -> None:
    """The names of members belong to the library's own classes."""

    @attrs.frozen(kw_only=True)
    class MyPerson(Person):
        shoe_size: int = 0

    for kind in (MyPerson, Model):
        with pytest.raises(InvalidArgumentError, match=f"not {kind.__name__}: pass for example Decision"):
            TypeAdapter(kind)
    with pytest.raises(InvalidArgumentError, match="not MyPerson"):
        converter().unstructure(MyPerson())
    with pytest.raises(ValidationError, match="expected an object"):
        TypeAdapter(Person).validate_python(MyPerson())
    own = converter()
    own.register_unstructure_hook(MyPerson, lambda person: person.shoe_size)
    assert own.unstructure(MyPerson(shoe_size=7)) == 7


def test_the_url_of_a_session_is_in_its_dict_only() -> None:
    """A web application gives the address to the end-user, so the dict has it; the repr does not."""
    session = SessionInfo(id="1", url=f"https://alchemy.veriff.com/v/{SECRET}", session_token=SECRET)

    assert (session.url, SECRET) == (session.to_dict()["url"], session.to_dict()["sessionToken"])
    assert SECRET not in repr(session)


def test_fields_that_only_this_library_fills_are_not_in_the_dict() -> None:
    """The source of a decision and the mark of a repeated upload are no members of Veriff's."""
    repeated = UploadedMedia(id="1", repeated=True)

    assert repeated.to_dict() == UploadedMedia(id="1").to_dict()


def test_results_of_this_library_have_a_dict_too(tmp_path: Any) -> None:  # noqa: ANN401
    """An inspection, which Veriff does not send, has names of the same form, and survives the round trip."""
    inspection = MediaInspection(context=models.MediaContext.FACE, mimetype="image/jpeg", size=1)
    download = models.DownloadedMedia(media_id="1", path=tmp_path, size=1)

    assert {"context": "face", "width": None, "orientation": 1, "checks": []}.items() <= inspection.to_dict().items()
    assert str(tmp_path) == download.to_dict()["path"]
    with pytest.raises(DecodeError, match=r"expected one of passed, failed, not_applicable @ \$.verdict"):
        from_json(models.PictureCheck, {"name": "glare", "value": 1, "threshold": None, "verdict": "other"})


def test_converter_writes_the_dict_of_a_model() -> None:
    """A report has a member in its dict that is not a field, and the converter writes it too."""
    report = CheckReport(results=(), checked_at=datetime.now(UTC))

    assert converter().unstructure(report) == report.to_dict()
    assert converter().structure(report.to_dict(), CheckReport) == report


def test_any_json_library_takes_the_method() -> None:
    """`Model.to_dict` is the function for what `json` and orjson do not know; other types stay an error."""
    assert '{"person": {"firstName": "Ada"' in json.dumps({"person": DECISION.person}, default=Model.to_dict)
    with pytest.raises(InvalidArgumentError):
        json.dumps({"other": object()}, default=Model.to_dict)


def test_fields_of_a_pydantic_model() -> None:
    """Fields take instances, which stay the same object, and JSON; they are written with Veriff's names."""
    event = DecisionEvent(decision=DECISION)
    order = Order(decision=DECISION, earlier=[DECISION.to_dict()], by_status={"newer": 1}, event=event)  # type: ignore[list-item,dict-item]

    assert order.decision is DECISION
    assert [DECISION] == order.earlier
    assert isinstance(next(iter(order.by_status)), Status)
    assert order == Order.model_validate_json(order.model_dump_json()) == Order.model_validate(order.model_dump())
    assert "approved" == order.model_dump()["decision"]["verification"]["status"]
    assert order == order.model_copy(deep=True) == pickle.loads(pickle.dumps(order))  # noqa: S301  our own bytes
    assert [DECISION] == list(Page[Decision].model_validate({"items": [DECISION.to_dict()]}).items)


def test_members_are_selected_in_pydantic() -> None:
    """`include` and `exclude` reach into a model: a program may keep personal data out of its responses by them."""
    order = Order(decision=DECISION, earlier=[DECISION])
    hidden: Any = {"verification": {"person": {"firstName"}}}

    for mode in ("python", "json"):
        written = order.model_dump(mode=mode, exclude={"decision": hidden, "earlier": {"__all__": hidden}})
        assert "Ada" not in str(written)
        assert written["decision"]["verification"]["status"] == "approved"
    assert "Ada" not in order.model_dump_json(exclude={"decision": hidden, "earlier": True})
    assert order.model_dump(include={"decision": {"status"}}) == {"decision": {"status": "success"}}


def test_half_characters_are_replaced_in_pydantic() -> None:
    """JavaScript may cut a text within a character, for which UTF-8 has no form; a response with it is no error."""
    order = Order(decision=evolve(DECISION, vendor_data="user \ud83d"))

    assert "user \ufffd" in order.model_dump_json()
    json.dumps(order.model_dump(mode="json"), ensure_ascii=False).encode()
    assert order.model_dump()["decision"]["verification"]["vendorData"] == "user \ud83d"


def test_path_of_another_type_is_refused(tmp_path: Path) -> None:
    """A wrong type at the path of a download is a problem with a path of its own, as everywhere."""
    members = DownloadedMedia(media_id="1", path=tmp_path / "a", size=1).to_dict()

    for value in cast("tuple[object, ...]", (True, None, [], {})):
        with pytest.raises(DecodeError, match=r"expected a text @ \$\.path"):
            DownloadedMedia.from_dict({**members, "path": value})
        with pytest.raises(ValidationError):
            TypeAdapter(DownloadedMedia).validate_python({**members, "path": value})


def test_pydantic_dataclass() -> None:
    """A dataclass of pydantic takes them as well."""

    @pydantic.dataclasses.dataclass
    class Case:
        decision: Decision
        status: Status | None = None

    case = Case(decision=DECISION.to_dict(), status="newer")  # type: ignore[arg-type]

    assert (DECISION, Status("newer")) == (case.decision, case.status)
    assert "newer" == TypeAdapter(Case).dump_python(case, mode="json")["status"]


def test_errors_have_locations_and_no_values() -> None:
    """An error names each missing member by its path, and no part of the input, which may be personal."""
    sent = {"decision": {"verification": {"person": {"firstName": SECRET}}}, "event": {"matchStatus": SECRET}}

    with pytest.raises(ValidationError) as caught:
        Order.model_validate(sent)

    errors = caught.value.errors()
    assert ("decision", "verification", "id") == errors[0]["loc"]
    assert "missing" == errors[0]["type"]
    assert SECRET not in repr(errors) + str(caught.value) + repr(caught.value.__cause__) + repr(
        caught.value.__context__
    )


@pytest.mark.parametrize("value", [SECRET, 5, None, [SECRET], SECRET.encode()])
def test_other_values_are_refused_without_showing_them(value: object) -> None:
    """Only an instance and an object of JSON are read; a text with JSON in it is not."""
    with pytest.raises(ValidationError, match="expected an object") as caught:
        TypeAdapter(Person).validate_python(value)
    assert SECRET not in str(caught.value)


def test_json_schema_has_names_types_and_words() -> None:
    """The schema names every member by its path, with type, description and required ones; models are references."""
    schema = Order.model_json_schema()
    definitions = schema["$defs"]
    decision = definitions["Decision"]
    verification = decision["properties"]["verification"]

    assert {"$ref": "#/$defs/Decision"} in schema["properties"]["decision"]["anyOf"]
    assert ["verification"] == decision["required"]
    assert ["id", "status"] == verification["required"]
    assert "#/$defs/Person" == verification["properties"]["person"]["$ref"]
    assert "When it was decided; ``null``" in verification["properties"]["decisionTime"]["description"]
    assert "approved" in definitions["Status"]["anyOf"][0]["enum"]
    assert {"type": "string"} == definitions["Status"]["anyOf"][1]
    assert definitions == Order.model_json_schema(mode="serialization")["$defs"]


@pytest.mark.parametrize("kind", [Credentials, Media, UploadProgress])
def test_secrets_and_files_are_refused(kind: type[object]) -> None:
    """A field of a value with secrets or files is refused with the remedy, in which an instance is accepted."""
    with pytest.raises(PydanticSchemaGenerationError, match=f"{kind.__name__} has no JSON form.*InstanceOf"):
        TypeAdapter(kind)
    with pytest.raises(InvalidArgumentError, match=f"{kind.__name__} holds secrets or files"):
        converter().structure({}, kind)

    held: Any = InstanceOf
    with pytest.raises(ValidationError, match="instance of"):
        TypeAdapter(held[kind]).validate_python({})


def test_cattrs_never_writes_credentials() -> None:
    """Cattrs would write all fields of a class of attrs."""

    @attrs.frozen
    class Settings:
        credentials: Credentials

    with pytest.raises(InvalidArgumentError):
        converter().unstructure(Settings(Credentials("key", SECRET)))


def test_classes_of_attrs_with_models() -> None:
    """A class of a program is read and written with its models, and a converter is the caller's own."""
    row = Row(1, evolve(DECISION, status=Status("newer")), Status("newer"), (RiskLabel(label="x"),))
    first, second = converter(), converter()

    assert row == first.loads(first.dumps(row), Row)
    first.register_unstructure_hook(Row, lambda _: "mine")
    assert ("mine", 1) == (first.unstructure(row), second.unstructure(row)["number"])
    with pytest.raises(cattrs.ClassValidationError) as caught:
        second.loads('{"number": 1, "decision": {"verification": {}}, "status": 5, "event": 5}', Row)
    assert ["$.decision", "$.status", "$.event"] == [
        text.rpartition(" @ ")[2] for text in cattrs.transform_error(caught.value)
    ]


def test_pydantic_is_not_imported() -> None:
    """Neither the package nor reading, writing or a converter imports pydantic."""
    code = (
        "import sys; sys.modules['pydantic'] = sys.modules['pydantic_core'] = None\n"
        "from veriff_async import *\n"
        "decision = Decision(session_id='1', status=Status.APPROVED)\n"
        "assert converter().structure(decision.to_dict(), Decision) == decision\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603  our own code
