"""Models as commands show them: names and values for people, a document for programs.

The repr of a model leaves out personal data, since it may reach a log. Commands hide the same fields without
``--show-person``, and also the hits of searches in lists of persons.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, cast

from attrs import fields, has

from veriff_async.cli._runtime import current_command, print_json, stdout_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attrs import AttrsInstance

    from veriff_async.cli._output import Output

__all__ = ("show_models",)


def show_models(
    name: str,
    result: AttrsInstance | tuple[AttrsInstance, ...],
    *,
    show_person: bool,
    columns: Sequence[str] = (),
    **facts: object,
) -> None:
    """Show a model, or several.

    Args:
        name: Its name in the document of ``--json``.
        result: The model, or several.
        show_person: Whether to show personal data.
        columns: The columns of the table; ``--json`` has all fields. Without them each model is a table of its own.
        **facts: Other members of the document.
    """
    is_one = not isinstance(result, tuple)
    models = cast("Sequence[AttrsInstance]", (result,) if is_one else result)
    documents = [_to_document(model, show_person=show_person) for model in models]
    output = stdout_output()
    if current_command().for_program:
        raw = {"raw": getattr(result, "raw", None)} if show_person and is_one else {}
        print_json({**facts, name: documents[0] if is_one else documents, **raw})
    elif is_one:
        _print_document(output, name.capitalize(), documents[0])
    elif not documents:
        output.print(f"There are no {name}.")
    elif not columns:
        for number, document in enumerate(documents, 1):
            _print_document(output, f"{name.capitalize()} {number}", document)
    else:
        rows = [["" if document[each] is None else str(document[each]) for each in columns] for document in documents]
        output.print_table([each.replace("_", " ") for each in columns], rows)


def _to_document(model: AttrsInstance, *, show_person: bool) -> dict[str, object]:
    """Return the JSON document of a model, with personal data only if `show_person`."""
    return {
        each.name: _to_json(getattr(model, each.name), show_person=show_person)
        for each in fields(type(model))
        if each.name != "raw" and (show_person or (each.repr and each.name != "hits"))
    }


def _to_json(value: object, *, show_person: bool) -> object:
    if has(type(value)):
        return _to_document(cast("AttrsInstance", value), show_person=show_person)
    if isinstance(value, tuple):
        return [_to_json(item, show_person=show_person) for item in cast("tuple[object, ...]", value)]
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Enum) else value


def _print_document(output: Output, title: str, document: dict[str, object]) -> None:
    """Show a document to people: its values, then each object of its lists with its number."""
    values: dict[str, str | int | None] = {}
    lists: list[tuple[str, list[object]]] = []
    _collect("", document, values, lists)
    output.print_fields(title, values)
    for name, items in lists:
        for number, item in enumerate(items, 1):
            _print_document(output, f"{name} {number}", cast("dict[str, object]", item))


def _collect(
    prefix: str,
    document: dict[str, object],
    values: dict[str, str | int | None],
    lists: list[tuple[str, list[object]]],
) -> None:
    for name, value in document.items():
        path = f"{prefix}{name.replace('_', ' ')}"
        if isinstance(value, dict):
            _collect(f"{path}: ", cast("dict[str, object]", value), values, lists)
        elif isinstance(value, list):
            items = cast("list[object]", value)
            if any(isinstance(item, dict) for item in items):
                lists.append((path, items))
            elif items:
                values[path] = ", ".join(map(str, items))
        elif value is not None:
            values[path] = str(value)
