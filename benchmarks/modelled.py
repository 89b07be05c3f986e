"""The models of a decision again, for pydantic: the same members, as one would write them for it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import GenericAlias, UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin

from attrs import NOTHING, fields_dict, has, resolve_types
from pydantic import BaseModel, ConfigDict, Field, create_model

from veriff_async import Decision
from veriff_async._protocol.json.paths import field_paths
from veriff_async.models.enums import OpenEnum

if TYPE_CHECKING:
    from attrs import AttrsInstance

__all__ = ("answer",)


class _Kept(BaseModel):
    """Base of all of them: they are frozen, and keep what they do not know."""

    model_config = ConfigDict(extra="allow", frozen=True)


@cache
def answer() -> type[BaseModel]:
    """Return the model of a whole answer."""
    verification = _modelled(Decision)
    return create_model("Answer", __base__=_Kept, verification=(verification, ...), technicalData=(dict[str, Any], ...))


@cache
def _modelled(model: type[AttrsInstance]) -> type[BaseModel]:
    resolve_types(model)
    ours = fields_dict(model)
    members: dict[str, Any] = {}
    for place in field_paths(model):
        # A member that is not next to the others is read as it comes, which costs pydantic the least.
        if place.parents not in {(), ("verification",)}:
            continue
        attribute = ours[place.field]
        default = ... if attribute.default is NOTHING else None
        kind = _kind(attribute.type)
        members[place.field] = (kind if default is ... else kind | None, Field(default, alias=place.member))
    return create_model(model.__name__, __base__=_Kept, **members)


def _kind(kind: Any) -> Any:  # noqa: ANN401  an annotation in, an annotation out
    """Return what pydantic reads where ours read `kind`."""
    inner = get_args(kind)
    if isinstance(kind, UnionType):
        return _kind(next(part for part in inner if part is not type(None)))
    if get_origin(kind) is tuple:
        return GenericAlias(tuple, (_kind(inner[0]), ...))
    if get_origin(kind) is Mapping:
        return dict[str, Any]
    if has(kind):
        return _modelled(kind)
    return str if issubclass(kind, OpenEnum) else kind
