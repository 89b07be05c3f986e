"""Base class of all models: their form as a dict for `json.dumps`, and as a field of pydantic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, cast

from veriff_async._lazy import load_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from veriff_async.models.json import JsonObject

__all__ = ("Model", "WithoutJson")


class Model:
    """Base class of all models.

    The members of its dict have Veriff's names (``firstName``), in Veriff's order and nesting. A type that Veriff does
    not send, for example a `MediaInspection`, follows the same rules. The dict is for `json.dumps`: it consists of
    dicts, lists, texts, numbers, booleans and ``None``, and the model keeps no reference to it.

    pydantic 2 accepts every model as the type of a field. It reads instances and the dicts of `to_dict`, and writes
    the dict in both of its modes.
    """

    __slots__ = ()

    def to_dict(self) -> dict[str, object]:
        """Return the JSON of the model as `to_json` does, members included that this version does not know.

        The dict contains personal data. That of a session contains the address of the end-user's page with its token.

        Raises:
            InvalidArgumentError: A field or ``raw`` holds a value that JSON cannot express.

        Example:
            >>> json.dumps(decision.to_dict())
            >>> json.dumps({"page": 1, "decisions": decisions}, default=Model.to_dict)
        """
        # The codec is built on the models, so they cannot import it.
        return cast("dict[str, object]", load_name("_protocol.json.encode", "to_json")(self))

    @classmethod
    def from_dict(cls, value: JsonObject) -> Self:
        """Decode the dict of `to_dict`, or the parsed JSON that Veriff sends, as `from_json` does.

        Raises:
            DecodeError: It is not a mapping, or a required member is missing; ``.problems`` has the paths.

        Example:
            >>> Decision.from_dict(decision.to_dict()) == decision
            True
        """
        return cast("Self", load_name("_protocol.json.decode", "from_json")(cls, value))

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> object:
        return load_name("_protocol.pydantic_schema", "model_schema")(cls)

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: object, handler: Callable[[object], dict[str, object]]) -> object:
        return load_name("_protocol.pydantic_schema", "model_json_schema")(cls, handler)


class WithoutJson:
    """Base class of values that hold secrets or files, so that pydantic must not read or write them."""

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> object:
        return load_name("_protocol.pydantic_schema", "refuse_field")(cls)
