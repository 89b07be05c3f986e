"""A person from a file: names in arguments are seen by every user of the machine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import click
from attrs import fields

from veriff_async import ConfigurationError, Person
from veriff_async._protocol.json.decode import load_object
from veriff_async._protocol.option_names import closest
from veriff_async.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO, TypeVar

    _F = TypeVar("_F", bound=Callable[..., Any])

__all__ = ("person_from", "person_option")

_MOST: Final = 65_536  # bytes
_FIELDS: Final = tuple(
    attribute.name
    for attribute in fields(Person)
    if attribute.name not in {"addresses", "is_deceased", "pep_sanction_match", "raw"}
)


class _Input(click.File):
    """A file, or standard input, which may be closed: click raises RuntimeError then."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401  click's
        """Open it."""
        if value == "-" and sys.stdin is None:
            self.fail("standard input is closed: give a file.", param, ctx)
        return super().convert(value, param, ctx)


def person_option(command: _F) -> _F:
    """Add ``--person``, as the argument `person_file`: an open file or `None`, for `person_from`."""
    words = 'Whom you expect: JSON such as {"first_name": "...", "date_of_birth": "1990-01-31"}; - for standard input.'
    return click.option("--person", "person_file", type=_Input("rb", lazy=False), metavar="FILE", help=words)(command)


def person_from(file: BinaryIO) -> Person:
    """Read a person, in the names that the fields of `Person` have.

    Raises:
        ConfigurationError: It is no JSON object, or a member of it is no field or no text; neither the value nor a
            name that is no field is shown.
    """
    data = file.read(_MOST + 1)
    found = None
    if len(data) <= _MOST:
        try:
            found = load_object(data)
        except DecodeError:
            found = None  # said below: a parser's own words may quote the person
    if found is None:
        msg = (
            f'What --person gave is no JSON object of at most {_MOST} bytes: give one such as {{"first_name": "..."}}.'
        )
        raise ConfigurationError(msg)
    for number, (name, value) in enumerate(found.items(), 1):
        if name not in _FIELDS:
            best = closest(name, _FIELDS)
            remedy = f"take of {', '.join(_FIELDS)}." if best is None else f"did you mean {best}?"
            msg = f"Member {number} of what --person gave is no field of a person: {remedy}"
            raise ConfigurationError(msg)
        if not isinstance(value, str):
            msg = f"The {name} of what --person gave is no text: put it in quotes, or leave it out."
            raise ConfigurationError(msg)
    return Person(**found)  # type: ignore[arg-type]
