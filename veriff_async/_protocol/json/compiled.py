"""Generates a decoder function for each model: source text that `exec` compiles once per class.

Why generate code
    Decoding is most of the work of a busy webhook receiver. A loop over the fields of a decision takes 2.8 to 3.5 times
    as long as ``json.loads`` alone, the generated decoder less than 2.5 times, both including ``json.loads``
    (``python -m benchmarks --only decoding``). dataclasses, attrs and cattrs generate their methods in the same way.

How it works
    cattrs provides a hook for every type, which decodes any value of it leniently. The generated function first tests
    inline for the value that is most common (a string, a known word of an enum, null), and calls the hook only for the
    rest. For three fields of `Attempt` it generates::

        def decode(value, raw):
         model = new(Mutable)
         model.raw = raw
         holder = value
         get = holder.get
         if 'id' in holder:
          member = holder['id']
          model.id = member if member.__class__ is str and member else hook_id(member, type_id)
         else:
          raise KeyError('id')
         if 'status' in holder:
          member = holder['status']
          model.status = words_status[member] if member.__class__ is str and member in words_status else hook_...
         else:
          raise KeyError('status')
         member = get('createdTime')
         model.created_time = None if member is None else hook_created_time(member, type_created_time)
         model.__class__ = Frozen
         return model

Two tricks save most of the time
    * The model is created as an instance of ``Mutable``, a subclass with ordinary attribute assignment and the same
      memory layout, and becomes frozen when its class is replaced. Each field of a frozen class otherwise costs a call
      of ``object.__setattr__``.
    * ``__init__`` is not called. So models have no validators, and converters only for what callers pass.

Lazy parts
    Most fields of a `Decision` are decoded when they are first read (`models.lazy`): each model by a function of its
    own, and all plain values by another. Their lines are also in ``decode``, for a model that is not decoded from its
    ``raw``.

Security
    The text consists of names from this package's classes and tables. Nothing that is decoded becomes part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from functools import partial
from math import isfinite
from types import UnionType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeGuard, cast, get_args, get_origin

from attrs import NOTHING, fields, frozen, has, resolve_types

from veriff_async._protocol.json.paths import collect_extra, field_paths, group_by_parents
from veriff_async._protocol.json.schema import READ_AT_ONCE
from veriff_async.models.enums import OpenEnum
from veriff_async.models.json import EMPTY, JsonObject, as_object
from veriff_async.models.lazy import PART_DECODERS, HasLazyParts

if TYPE_CHECKING:
    from attrs import Attribute, AttrsInstance

    from veriff_async._protocol.json.paths import FieldPath

__all__ = ("Decoder", "Hook", "compile_decoder")

Hook: TypeAlias = Callable[[object, object], object]
"""Decodes a value of a type, with the signature of cattrs' structure hooks."""

Decoder: TypeAlias = Callable[[JsonObject, JsonObject], object]
"""Makes a model from an object, and from the object that it keeps as its ``raw``."""

# Conditional expressions for the most common values of each type. Each ends where "else hook(...)" can follow. They
# compare classes by identity, which is faster than `isinstance` and leaves a bool, which is an int, to the hook.
_INLINE: Final[dict[object, str]] = {
    str: "member if member.__class__ is str and member",
    str | None: "member or None if member.__class__ is str else None if member is None",
    bool | None: "member if member.__class__ is bool else None if member is None",
    int | None: "member if member.__class__ is int else None if member is None",
    float | None: "member if member.__class__ is float and isfinite(member) else None if member is None",
    datetime | None: "None if member is None",
}
_INLINE_WORD: Final = "words_{field}[member] if member.__class__ is str and member in words_{field}"
_INLINE_MODEL: Final = "decode_{field}(member, member) if member.__class__ is dict and member"
_INLINE_NULL: Final = "None if member is None"


def compile_decoder(
    model: type[AttrsInstance], hook_of: Callable[[Any], Hook], decoder_of: Callable[[type[AttrsInstance]], Decoder]
) -> Decoder:
    """Generate and compile the decoder of a model.

    The decoder raises `KeyError` for a required member that is missing, and every error of the hooks.
    """
    resolve_types(model)
    namespace: dict[str, object] = {"new": object.__new__, "Mutable": _make_mutable(model), "Frozen": model}
    namespace |= {"EMPTY": EMPTY, "as_object": as_object, "isfinite": isfinite, "extra": partial(collect_extra, model)}
    namespace |= {"assign": object.__setattr__, "parts": PART_DECODERS}
    attributes = {attribute.name: attribute for attribute in fields(model)}
    lines = ["def decode(value, raw):", " model = new(Mutable)"]
    decoding: dict[str, list[str]] = {}
    for _, paths in group_by_parents(model):
        for path in paths:
            field = _FieldCompiler(attributes[path.field], namespace)
            decoding[path.field] = field.decoding_lines(path, hook_of, decoder_of)
    # Models of requests have no raw. One of them has a field for the members that no other field decodes.
    filled = {name: line for name, line in (("raw", "raw"), ("extra", "extra(value)")) if name in attributes}
    lines += [f" model.{name} = {expression}" for name, expression in filled.items()]
    parts = _lazy_parts(model)
    lazy = {name for part in parts for name in part}
    lines += _part_lines(model, decoding, decoding.keys() - lazy)
    remaining = [attribute for name, attribute in attributes.items() if name not in decoding and name not in filled]
    lines += [f" {_FieldCompiler(attribute, namespace).default_line()}" for attribute in remaining]
    if lazy:
        lines += [" if raw is not value:", *(f" {line}" for line in _part_lines(model, decoding, lazy))]
    lines += [" model.__class__ = Frozen", " return model"]
    for part in parts:
        # Decoded in a model of its own, since the one that the user reads is frozen.
        lines += ["def decode_part(whole):", " model, value = new(Mutable), whole.raw"]
        lines += _part_lines(model, decoding, part)
        lines += [f" assign(whole, {name!r}, model.{name})" for name in part]
        lines += [f"parts[Frozen, {name!r}] = decode_part" for name in part]
    exec("\n".join(lines), namespace)  # noqa: S102  see "Security" above
    return cast("Decoder", namespace["decode"])


def _part_lines(model: type[AttrsInstance], decoding: Mapping[str, list[str]], names: Collection[str]) -> list[str]:
    """Return the lines that decode some fields from ``value``, each parent object looked up once."""
    lines: list[str] = []
    for parents, paths in group_by_parents(model):
        wanted = [path.field for path in paths if path.field in names]
        if wanted:
            lines += _holder_lines(parents)
        for name in wanted:
            lines += decoding[name]
    return lines


def _holder_lines(parents: tuple[str, ...]) -> list[str]:
    """Return the lines that find the object with the members of a group of fields."""
    lines = [" holder = value"]
    for parent in parents:
        lines.append(f" holder = holder.get({parent!r})")
        # Most objects that are not a dict are missing, and to look for another kind of mapping takes ten times as long.
        otherwise = "EMPTY if holder is None else as_object(holder) or EMPTY"
        lines.append(f" if holder.__class__ is not dict: holder = {otherwise}")
    lines.append(" get = holder.get")
    return lines


def _lazy_parts(model: type[AttrsInstance]) -> list[tuple[str, ...]]:
    """Return the fields that are decoded when they are first read: those that cannot be an error.

    Each model is a part of its own, and all plain values are one.
    """
    kinds: dict[str, object] = {attribute.name: attribute.type for attribute in fields(model)}
    at_once = {name for owner, name in READ_AT_ONCE if owner == model.__name__}
    names = [path.field for path in field_paths(model) if path.field not in at_once]
    if not issubclass(model, HasLazyParts):
        return []
    lazy = [name for name in names if _never_fails(kinds[name])]
    large = [name for name in lazy if any(_is_model(kind) for kind in (kinds[name], *get_args(kinds[name])))]
    return [*((name,) for name in large), tuple(name for name in lazy if name not in large)]


def _is_model(kind: object) -> TypeGuard[type[AttrsInstance]]:
    return isinstance(kind, type) and has(kind)


def _never_fails(kind: object) -> bool:
    """Return whether the hook of a type returns a value for any JSON."""
    if isinstance(kind, UnionType) or get_origin(kind) is tuple:  # None for another type, and without wrong items
        return True
    if get_origin(kind) is Mapping:
        return get_args(kind)[1] is object or _never_fails(get_args(kind)[1])
    if not _is_model(kind):
        return False
    resolve_types(kind)
    return all(attribute.default is not NOTHING and _never_fails(attribute.type) for attribute in fields(kind))


def _make_mutable(model: type[AttrsInstance]) -> type:
    """Return a subclass whose fields can be assigned, with the memory layout of the class."""
    members = {"__slots__": (), "__setattr__": object.__setattr__, "__delattr__": object.__delattr__}
    return type(model.__name__, (model,), members)


@frozen
class _FieldCompiler:
    """Generates the source lines of one field."""

    attribute: Attribute[Any]
    namespace: dict[str, object]

    def decoding_lines(
        self, path: FieldPath, hook_of: Callable[[Any], Hook], decoder_of: Callable[[type[AttrsInstance]], Decoder]
    ) -> list[str]:
        """Return the lines that decode the field from ``holder``."""
        name, kind = self.attribute.name, self.attribute.type
        self.namespace.update({f"hook_{name}": hook_of(kind), f"type_{name}": kind})
        inline = self._inline_expression(kind, decoder_of)
        assignment = f"model.{name} = {f'{inline} else ' if inline else ''}hook_{name}(member, type_{name})"
        if not path.path:
            return [" member = value", f" {assignment}"]
        if path.other is None and inline and self.attribute.default is None:
            # Null and a missing member are both None.
            return [f" member = get({path.member!r})", f" {assignment}"]
        lines: list[str] = []
        for member in (path.member, path.other):
            if member is not None:
                condition = f"{'elif' if lines else 'if'} {member!r} in holder:"
                lines += [f" {condition}", f"  member = holder[{member!r}]", f"  {assignment}"]
        return [*lines, " else:", f"  {self.default_line(path.member)}"]

    def default_line(self, member: str = "") -> str:
        """Return the line for a field whose member is missing."""
        name, default = self.attribute.name, cast("object", self.attribute.default)
        if default is NOTHING:
            return f"raise KeyError({member!r})"
        factory: object = getattr(default, "factory", None)
        self.namespace[f"default_{name}"] = default if factory is None else factory
        return f"model.{name} = default_{name}{'' if factory is None else '()'}"

    def _inline_expression(self, kind: object, decoder_of: Callable[[type[AttrsInstance]], Decoder]) -> str | None:
        """Return the start of a conditional expression for the most common values, if the type has one."""
        if kind in _INLINE:
            return _INLINE[kind]
        name, is_optional = self.attribute.name, isinstance(kind, UnionType)
        inner = next((part for part in get_args(kind) if part is not type(None)), kind) if is_optional else kind
        if isinstance(inner, type) and issubclass(inner, OpenEnum):
            self.namespace[f"words_{name}"] = {str(word): word for word in inner}
            return _INLINE_WORD.format(field=name) + (f" else {_INLINE_NULL}" if is_optional else "")
        if is_optional:
            return _INLINE_NULL
        if _is_model(kind):
            self.namespace[f"decode_{name}"] = decoder_of(kind)
            return _INLINE_MODEL.format(field=name)
        return None
