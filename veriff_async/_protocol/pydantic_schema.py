"""Core and JSON schemas with which pydantic 2 reads and writes models. The only module that imports pydantic.

The methods of `models.base` call it, and pydantic calls them, so it is never imported in a program without pydantic.

Validation is that of `from_json`, which is lenient as Veriff's messages need it; pydantic's own validators would refuse
a number as text. Only the JSON schema is made by pydantic, from the annotations of the fields, so that
nested models become references (``#/$defs/Person``).

An error of pydantic contains its input, and FastAPI sends it to the client. The input of ours is a placeholder, because
the JSON may contain personal data.
"""

from __future__ import annotations

import json
import re
from functools import cache
from inspect import getdoc
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn, cast, get_args

from attrs import NOTHING, fields, resolve_types
from pydantic import TypeAdapter, WithJsonSchema
from pydantic.errors import PydanticSchemaGenerationError
from pydantic_core import InitErrorDetails, PydanticCustomError, SchemaSerializer, ValidationError, core_schema

from veriff_async._protocol.json.decode import check_model, from_json, is_json_model
from veriff_async._protocol.json.paths import field_paths
from veriff_async._protocol.webhook import kind_of
from veriff_async.errors import DecodeError
from veriff_async.models.base import Model
from veriff_async.models.events import WebhookEvent
from veriff_async.models.json import as_object

if TYPE_CHECKING:
    from collections.abc import Callable

    from attrs import AttrsInstance
    from pydantic_core import CoreSchema

    from veriff_async.models.enums import OpenEnum

__all__ = ("enum_json_schema", "enum_schema", "model_json_schema", "model_schema", "refuse_field")

_HIDDEN: Final = "(not shown)"
_SELECTOR: Final = SchemaSerializer(core_schema.any_schema())
_EVENTS: Final = get_args(WebhookEvent)
_BASE64: Final[Any] = Annotated[str, WithJsonSchema({"type": "string", "contentEncoding": "base64"})]
# An entry of a section "Attributes" or "Args" of a docstring.
_ENTRY: Final = re.compile(r"^    (\w+): (.+(?:\n {8}.+)*)", re.MULTILINE)
_REMEDIES: Final = {
    "Credentials": "declare API key and secret as pydantic.SecretStr",
    "Media": "declare its source as bytes, a path or fastapi.UploadFile",
    "UploadProgress": "declare its numbers",
}


def model_schema(model: type[Model]) -> CoreSchema:
    """Return the core schema of a model: an instance, or an object as Veriff sends it."""
    check_model(model)

    def validate(value: object) -> Model:
        return _validate(model, value)

    validate.__name__ = model.__name__  # the title of an error of a `TypeAdapter` has it
    return core_schema.no_info_plain_validator_function(
        validate,
        ref=_reference(model),
        serialization=core_schema.plain_serializer_function_ser_schema(_to_dict, info_arg=True),
    )


def _reference(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}:{id(kind)}"  # as pydantic names its own


def _validate(model: type[Model], value: object) -> Model:
    if isinstance(value, model) and is_json_model(cast("object", type(value))):  # a derived class could not be written
        return value
    members = as_object(value)
    problems: tuple[str, ...] = ("expected an object @ $",)
    if members is not None:
        # Some kinds of webhooks require few members, so an event of another kind could be read as one of them.
        if model in _EVENTS and kind_of(members) is not model:
            problems = (f"expected a webhook of the kind {model.__name__} @ $",)
        else:
            try:
                return from_json(model, members)
            except DecodeError as error:
                problems = error.problems
    # Outside of the handler, so that no error is chained.
    raise ValidationError.from_exception_data(model.__name__, [_error_details(problem) for problem in problems])


def _error_details(problem: str) -> InitErrorDetails:
    text, _, path = problem.partition(" @ ")
    kind = (
        "missing" if text == "required field missing" else PydanticCustomError("veriff_json", "{text}", {"text": text})
    )
    return InitErrorDetails(type=kind, loc=tuple(path.split(".")[1:]), input=_HIDDEN)


def _to_dict(value: object, info: core_schema.SerializationInfo) -> object:
    # A model that was constructed without validation may have another value in the field.
    if not isinstance(value, Model):
        return value
    members: object = value.to_dict()
    if info.mode == "json":
        members = _to_unicode(members)
    # pydantic leaves both to the function; ignoring them would write data that the caller excludes.
    if info.include is not None or info.exclude is not None:
        include, exclude = cast("Any", info.include), cast("Any", info.exclude)  # two types for the same thing
        members = _SELECTOR.to_python(members, include=include, exclude=exclude)
    return members


def _to_unicode(members: object) -> object:
    """Replace lone surrogates: JavaScript sends them where it cuts a text, and pydantic refuses to write them."""
    text = json.dumps(members, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    return members


def model_json_schema(
    model: type[AttrsInstance], handler: Callable[[CoreSchema], dict[str, object]]
) -> dict[str, object]:
    """Return the JSON schema of a model: the members that Veriff sends, of which few are required."""
    resolve_types(model)
    attributes = {attribute.name: attribute for attribute in fields(model)}
    paths = field_paths(model)
    # pydantic makes one schema for each path; below, they move into the objects on the way.
    members = {path.path: core_schema.typed_dict_field(_field_schema(attributes[path.field].type)) for path in paths}
    schemas = cast(
        "dict[str, dict[str, object]]", handler(core_schema.typed_dict_schema(members)).get("properties", {})
    )
    descriptions = {name: _describe(text) for name, text in _ENTRY.findall(getdoc(model) or "")}
    root: dict[str, object] = {"title": model.__name__, "description": _describe(getdoc(model)), "type": "object"}
    root["properties"] = {}
    for path in paths:
        schema = {name: value for name, value in schemas[path.path].items() if name != "title"}
        if not path.path:
            root = {**root, "allOf": [schema]}
            continue
        if path.field in descriptions:
            schema["description"] = descriptions[path.field]
        is_required = attributes[path.field].default is NOTHING
        holder = root
        for name in (*path.parents, path.member):
            required = cast("list[str]", holder.setdefault("required", []) if is_required else [])
            if name not in required:
                required.append(name)
            holder = _property(holder, name)
        holder.clear()
        holder |= schema
    return root


def _describe(text: str | None) -> str:
    """Return the first paragraph of a docstring, with JSON's name of ``None``."""
    return " ".join((text or "").split("\n\n")[0].split()).replace("``None``", "``null``")


def _property(holder: dict[str, object], name: str) -> dict[str, object]:
    properties = cast("dict[str, dict[str, object]]", holder["properties"])
    return properties.setdefault(name, {"type": "object", "properties": {}})


@cache
def _field_schema(kind: Any) -> CoreSchema:  # noqa: ANN401  any annotation
    return TypeAdapter[object](_BASE64 if kind is bytes else kind).core_schema


def enum_schema(kind: type[OpenEnum]) -> CoreSchema:
    """Return the core schema of an open enum, which accepts any text."""
    return core_schema.no_info_after_validator_function(
        kind,
        core_schema.str_schema(),
        ref=_reference(kind),
        serialization=core_schema.to_string_ser_schema(when_used="json"),
    )


def enum_json_schema(kind: type[OpenEnum]) -> dict[str, object]:
    """Return the JSON schema of an open enum: the known words for documents and editors, and any other text."""
    words = {"type": "string", "enum": [member.value for member in kind]}
    return {"title": kind.__name__, "description": _describe(getdoc(kind)), "anyOf": [words, {"type": "string"}]}


def refuse_field(kind: type) -> NoReturn:
    """Refuse a type that holds secrets or files, when a class with such a field is defined."""
    name = kind.__name__
    msg = (
        f"{name} has no JSON form, so it cannot be a field of pydantic: {_REMEDIES[name]}, or annotate the field with "
        f"pydantic.InstanceOf[{name}]."
    )
    raise PydanticSchemaGenerationError(msg)
