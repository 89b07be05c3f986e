"""Rows as parameters of a statement: arrays for many rows, and plain values for one.

psycopg takes about 10 microseconds for each array, and the server plans and runs a statement with values faster, so one
row must not pay for the arrays. An array is passed as text, in the syntax of
https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Value: TypeAlias = bytes | str | int | bool | None

__all__ = ("RowParameters",)


@frozen
class RowParameters:
    """The form of the rows that a statement takes.

    Attributes:
        name: The name of the rows in the statement.
        columns: The types of the columns by their names.
    """

    name: str
    columns: Mapping[str, str]

    def sql(self, *, is_one: bool) -> str:
        """Return what follows ``FROM``, for one row or for several."""
        if is_one:
            values = (f"%({self.name}_{column})s::{kind} AS {column}" for column, kind in self.columns.items())
            return f"(SELECT {', '.join(values)}) AS {self.name}"
        arrays = (f"%({self.name}_{column})s::{kind}[]" for column, kind in self.columns.items())
        return f"unnest({', '.join(arrays)}) AS {self.name} ({', '.join(self.columns)})"

    def values(self, rows: Sequence[Sequence[Value]]) -> dict[str, object]:
        """Return the parameters for some rows, at least one."""
        names = (f"{self.name}_{column}" for column in self.columns)
        values: Iterable[object] = rows[0] if len(rows) == 1 else map(_array, zip(*rows, strict=True))
        return dict(zip(names, values, strict=True))


def _array(values: Iterable[Value]) -> str:
    return f"{{{','.join(map(_item, values))}}}"


def _item(value: Value) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f'"\\\\x{value.hex()}"'
    if isinstance(value, str):
        return '"{}"'.format(value.replace("\\", "\\\\").replace('"', '\\"'))
    return str(value)  # true and false may begin with a capital letter
