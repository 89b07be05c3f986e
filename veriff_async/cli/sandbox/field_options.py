"""Fields of the control API's operations as arguments and options of commands."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from veriff_async import ConfigurationError
from veriff_async._protocol.arguments import LARGEST
from veriff_async._protocol.json.decode import load_object
from veriff_async.cli._options import WordOrOther
from veriff_async.errors import DecodeError
from veriff_async.models.json import EMPTY
from veriff_async.sandbox._arguments import LONGEST
from veriff_async.sandbox._control.fields import Flag, ListOf, Number, Text, Time, Word
from veriff_async.sandbox._control.models import OpenWord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from veriff_async.models.json import JsonObject
    from veriff_async.sandbox._control.fields import Field, Kind

__all__ = (
    "NO_VALUE",
    "NULL",
    "data_option",
    "field_argument",
    "field_option",
    "read_data",
)

NO_VALUE: Final = "none"
"""The word on a command line for null in JSON."""

NULL: Final = object()
"""The value of that word: `None` is the value of an option that was not given."""

# Options whose name differs from that of their field, because other commands have them too.
_OPTION_NAMES: Final = {"session_id": "session", "statuses": "status"}


def _refuse_infinite(_ctx: click.Context, _parameter: click.Parameter, value: object) -> object:
    """Refuse a number that JSON does not have; NaN passes every check of a range."""
    if isinstance(value, float) and not math.isfinite(value):
        msg = "this is not a finite number."
        raise click.BadParameter(msg)
    return value


class _OrNone(click.ParamType[Any]):
    """A value of a type, or the word none."""

    def __init__(self, kind: click.ParamType[Any]) -> None:
        """Take the type."""
        self._kind = kind
        self.name = kind.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401  click's
        """Return `NULL` for the word."""
        return NULL if value in (NO_VALUE, NULL) else self._kind.convert(value, param, ctx)


def field_argument(field: Field, *, takes_none: bool = False) -> click.Argument:
    """Return the positional argument for a field; see `field_option`."""
    kind = _type_of(_item_of(field.kind))
    return click.Argument(
        [field.name],
        callback=_refuse_infinite,
        type=_OrNone(kind) if takes_none and kind is not None else kind,
        required=field.is_required,
        nargs=-1 if isinstance(field.kind, ListOf) else 1,
        metavar=_metavar(field, takes_none=takes_none),
    )


def field_option(field: Field, *, takes_none: bool = False) -> click.Option | None:
    """Return the option for a field, or `None` if its value does not fit on a command line.

    Without the option the value is `None`, and the field is not sent.
    """
    name = _OPTION_NAMES.get(field.name, field.name).replace("_", "-")
    if isinstance(field.kind, Flag):
        return click.Option([f"--{name}/--no-{name}", field.name], default=None, help=field.text)
    kind = _type_of(_item_of(field.kind))
    if kind is None:
        return None
    return click.Option(
        [f"--{name}", field.name],
        callback=_refuse_infinite,
        type=_OrNone(kind) if takes_none else kind,
        required=field.is_required,
        multiple=isinstance(field.kind, ListOf),
        metavar=_metavar(field, takes_none=takes_none),
        help=re.sub(r"\bnull\b", NO_VALUE, field.text) if takes_none else field.text,
    )


def _item_of(kind: Kind) -> Kind:
    """Return the type of the items of a list, and any other type unchanged."""
    return kind.kind if isinstance(kind, ListOf) else kind


def _metavar(field: Field, *, takes_none: bool) -> str | None:
    """Return the word for a value in the help. A long list of words would hide the other options."""
    if takes_none:
        return f"{'NUMBER' if isinstance(field.kind, Number) else 'URL'}|{NO_VALUE}"
    if isinstance(_item_of(field.kind), Word | OpenWord):
        return _OPTION_NAMES.get(field.name, field.name).upper()
    return None


def _type_of(kind: Kind) -> click.ParamType[Any] | None:
    if isinstance(kind, Text | Time):
        return click.STRING
    if isinstance(kind, Word):
        return click.Choice(list(map(str, kind.known)))
    if isinstance(kind, OpenWord):
        return WordOrOther(tuple(word.value for word in kind.known))
    return _type_of_number(kind) if isinstance(kind, Number) else None


def _type_of_number(kind: Number) -> click.ParamType[Any]:
    # Limits that protect the sandbox only would be noise in the help.
    lowest = kind.lowest if kind.lowest > -LARGEST else None
    highest = kind.highest if kind.highest < min(LARGEST, LONGEST) else None
    if lowest is None and highest is None:
        return click.INT if kind.whole else click.FLOAT
    if kind.whole:
        return click.IntRange(None if lowest is None else int(lowest), None if highest is None else int(highest))
    return click.FloatRange(lowest, highest)


_MAX_BYTES: Final = 64 * 1024 * 1024
_STDIN: Final = Path("-")


def data_option(names: Sequence[str]) -> click.Option:
    """Return the option, as the argument `data`: a path for `read_data`, or `None`."""
    return click.Option(
        ["--data"],
        type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
        metavar="FILE",
        help=f"File with a JSON object, or - for standard input; its members: {', '.join(names)}.",
    )


def read_data(path: Path | None) -> JsonObject:
    """Return the JSON object in a file or in standard input; an empty one for `None`. Blocking.

    Raises:
        ConfigurationError: It cannot be read, or is not a JSON object.
    """
    if path is None:
        return EMPTY
    try:
        data = _read_stdin() if path == _STDIN else _read_file(path)
        if len(data) <= _MAX_BYTES:
            return load_object(data)
        problem = "is too large"
    except OSError as error:
        problem = f"cannot be read ({error.strerror or type(error).__name__})"
    except DecodeError:
        problem = "is not a JSON object"
    # Without its name: a user may give the data instead, which can be personal.
    name = "Standard input" if path == _STDIN else "The file of --data"
    msg = f"{name} {problem}: write an object with fields of this command to a file, or to standard input (-)."
    raise ConfigurationError(msg)


def _read_file(path: Path) -> bytes:
    # One byte beyond the limit shows that the file is too large, without reading all of it.
    with path.open("rb") as file:
        return file.read(_MAX_BYTES + 1)


def _read_stdin() -> bytes:
    # None if the descriptor was closed when Python started.
    return b"" if sys.stdin is None else sys.stdin.buffer.read(_MAX_BYTES + 1)
