"""Makes a job from a row of a manifest. Pure: no file is read.

A row of CSV is first converted to the members that a line of JSON has, so that both follow the same rules. The rules
are written by hand because every violation needs a sentence for the person who wrote the file, without the value, which
may be personal data.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypedDict, TypeVar, cast

from attrs import define, field, fields, frozen

from veriff_async._protocol.option_names import closest
from veriff_async._protocol.session_request import CreateOptions, create_body
from veriff_async.batch._prepared_job import session_options
from veriff_async.batch.job import Job
from veriff_async.errors import InvalidArgumentError
from veriff_async.models.document import Document
from veriff_async.models.enums import DocumentType, Gender, MediaContext
from veriff_async.models.json import as_list, as_object
from veriff_async.models.media import Media
from veriff_async.models.person import Address, ParsedAddress, Person
from veriff_async.models.session import Consent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

__all__ = ("Columns", "InvalidRow", "ManifestRow", "RowError", "is_utf8", "job_from_members", "parse_header")

_T = TypeVar("_T")

# The fields of a request: the address is an option of its own, and the other fields are results.
_PERSON: Final = tuple(
    each.name for each in fields(Person) if each.name not in {"addresses", "is_deceased", "pep_sanction_match", "raw"}
)
_DOCUMENT: Final = ("number", "type", "country", "id_card_type", "first_issue")
_PARSED_ADDRESS: Final = tuple(each.name for each in fields(ParsedAddress) if each.name != "raw")
# Videos cannot be uploaded; Veriff only returns them.
_CONTEXTS: Final = tuple(str(context) for context in MediaContext if "video" not in context)
_TEXTS: Final = ("vendor_data", "end_user_id", "callback")
_CONVERSION: Final = ("max_side", "max_bytes", "convert")
_NUMBERS: Final = ("timeout", "max_side", "max_bytes")
_MEMBERS: Final = (
    *("id", "media", "person", "document", "address", *_TEXTS),
    *("consents", "proof_of_address_types", "extra", "timeout", *_CONVERSION),
)
_COLUMNS: Final = (
    *("id", *_CONTEXTS, *_TEXTS, "timeout", *_CONVERSION, "proof_of_address_types", "full_address", *_PERSON),
    *(f"document_{name}" for name in _DOCUMENT),
)
# Upper bound of seconds and pixels; the clock of an event loop may not count further.
_MAX_NUMBER: Final = 1e9

# Levels of ``extra``. Writing JSON that is nested too deeply fails, and then only in the middle of a batch.
_MAX_DEPTH: Final = 64


class _Conversion(TypedDict, total=False):
    max_side: int
    max_bytes: int
    convert: Literal["jpeg"]


@frozen
class ManifestRow:
    """A valid row.

    Attributes:
        line: The first line of the row in the file, counted from 1.
        job: The job.
    """

    line: int
    job: Job


@frozen
class InvalidRow:
    """A row that cannot become a job.

    Attributes:
        line: The first line of the row in the file, counted from 1.
        reason: The problem and its remedy, with the column or member but without its value.
        job_id: The job, if its id could be read.
    """

    line: int
    reason: str
    job_id: str | None = None


class RowError(Exception):
    """A row or a header is invalid; the text is the reason."""


@define
class Columns:
    """The columns of a CSV file.

    Attributes:
        names: Their names, in order; all are valid.
    """

    names: tuple[str, ...] = field()

    def to_members(self, cells: Sequence[str]) -> dict[str, object]:
        """Convert cells to the members of a line of JSON; empty cells are left out.

        Raises:
            RowError: There are fewer or more cells than columns, or a number is invalid.
        """
        if len(cells) != len(self.names):
            msg = (
                f"The row has {len(cells)} cells and the header {len(self.names)}: write one for each column, in "
                "quotes if it contains a comma."
            )
            raise RowError(msg)
        filled = {name: text for name, cell in zip(self.names, cells, strict=True) if (text := cell.strip())}
        members: dict[str, object] = {name: filled[name] for name in ("id", *_TEXTS, "convert") if name in filled}
        members |= {name: _to_number(name, filled[name]) for name in _NUMBERS if name in filled}
        members["person"] = {name: filled[name] for name in _PERSON if name in filled}
        members["document"] = {name: filled[word] for name in _DOCUMENT if (word := f"document_{name}") in filled}
        if "full_address" in filled:
            members["address"] = {"full_address": filled["full_address"]}
        if "proof_of_address_types" in filled:
            members["proof_of_address_types"] = _split_cell(filled["proof_of_address_types"])
        members["media"] = [
            {"path": path, "context": name}
            for name in self.names
            if name in _CONTEXTS
            for path in _split_cell(filled.get(name, ""))
        ]
        # An object without a value in any of its columns is not sent.
        return {name: value for name, value in members.items() if value != {}}


def parse_header(cells: Sequence[str]) -> Columns:
    """Parse the header of a CSV file.

    Raises:
        RowError: A column is unknown, occurs twice, or is missing although it is required.
    """
    names = tuple(cell.strip() for cell in cells)
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        msg = "The header has only one column: separate columns by commas, not by semicolons or tabs."
        raise RowError(msg)
    for number, name in enumerate(names, 1):
        if name not in _COLUMNS:
            # The name is not shown: if the header was forgotten, it is a person's data.
            raise RowError(_unknown(f"Column {number} of the header", name, _COLUMNS))
        if name in names[: number - 1]:
            msg = f"The header has {name} twice: remove one, and separate several paths in one cell by semicolons."
            raise RowError(msg)
    if "id" not in names:
        msg = "The header has no id: add a column with your own id of each job."
        raise RowError(msg)
    if not any(name in _CONTEXTS for name in names):
        msg = "The header has no media: add a column for each kind, for example document-front and face."
        raise RowError(msg)
    return Columns(names)


def job_from_members(members: Mapping[str, object], folder: Path, timeout: float | None) -> Job:
    """Make a job from the members of a row, and check it by the rules of `create_session`.

    Args:
        members: The members, named like the arguments of `Job` and `create_session`.
        folder: The folder that paths are relative to.
        timeout: Seconds to wait for the decision if the row has no ``timeout``.

    Raises:
        RowError: A member is missing, unknown or invalid.
    """
    members = _known_members(members, _MEMBERS, "The row")
    if "id" not in members:
        msg = "The row has no id: give each row its own."
        raise RowError(msg)
    options = _session_options(members)
    try:
        job = Job(
            _to_text("id", members["id"]),
            _to_media(members, folder),
            timeout=_to_seconds(members["timeout"]) if "timeout" in members else timeout,
            **options,
        )
        # The body is not used: making it applies the rules of `create_session` to the options.
        create_body(session_options(job))
    except InvalidArgumentError as error:
        reason = str(error)
    else:
        return job
    raise RowError(reason)


def is_utf8(value: str) -> bool:
    """Return whether a text can be written as UTF-8: it has no lone surrogates."""
    try:
        return value.isascii() or bool(value.encode())
    except UnicodeEncodeError:
        return False


def _session_options(members: Mapping[str, object]) -> CreateOptions:
    readers: dict[str, Callable[[object], object]] = {
        "person": partial(_to_model, Person, "person", _PERSON),
        "document": partial(_to_model, Document, "document", _DOCUMENT),
        "address": _to_address,
        "consents": _to_consents,
        "proof_of_address_types": _to_types,
        "extra": _to_extra,
        **{name: partial(_to_text, name) for name in _TEXTS},
    }
    return cast("CreateOptions", {name: read(members[name]) for name, read in readers.items() if name in members})


def _to_media(members: Mapping[str, object], folder: Path) -> list[Media]:
    items = as_list(members.get("media"))
    if not items:
        msg = "The row has no media: give the path of one picture or more, for example of a document-front and a face."
        raise RowError(msg)
    defaults = _to_conversion("", members)
    return [_to_one_media(f"media {number}", item, folder, defaults) for number, item in enumerate(items, 1)]


def _to_one_media(where: str, value: object, folder: Path, defaults: _Conversion) -> Media:
    names = ("path", "context", "mimetype", "timestamp", *_CONVERSION)
    members = _known_members(_to_object(where, value), names, f"The {where}")
    for name in ("path", "context"):
        if name not in members:
            msg = f'{where} has no {name}: give one such as {{"path": "front.jpg", "context": "document-front"}}.'
            raise RowError(msg)
    context = MediaContext(_to_text(f"{where}: context", members["context"]))
    if context not in _CONTEXTS:
        raise RowError(_unknown(f"The context of {where}", context, _CONTEXTS))
    path = _to_text(f"{where}: path", members["path"])
    conversion: _Conversion = {**defaults, **_to_conversion(f"{where}: ", members)}
    return Media(
        str(folder / path),
        context,
        mimetype=_to_text(f"{where}: mimetype", members["mimetype"]) if "mimetype" in members else None,
        timestamp=_to_datetime(where, members["timestamp"]) if "timestamp" in members else None,
        **conversion,
    )


def _to_conversion(prefix: str, members: Mapping[str, object]) -> _Conversion:
    """Return the arguments of `Media` that ask for a smaller or converted picture."""
    result: _Conversion = {}
    if "max_side" in members:
        result["max_side"] = _to_maximum(f"{prefix}max_side", members["max_side"], "pixels of the longer side", 1920)
    if "max_bytes" in members:
        result["max_bytes"] = _to_maximum(f"{prefix}max_bytes", members["max_bytes"], "bytes", 4_000_000)
    if "convert" in members:
        if members["convert"] != "jpeg":
            msg = f'{prefix}convert must be "jpeg", the only type that pictures are converted to.'
            raise RowError(msg)
        result["convert"] = "jpeg"
    return result


def _known_members(members: Mapping[str, object], names: Iterable[str], where: str) -> dict[str, object]:
    """Return the members that are not null, all of which must be known."""
    known = tuple(names)
    for number, name in enumerate(members, 1):
        if name not in known:
            # The number instead of the name, which may be personal data in the wrong place.
            raise RowError(_unknown(f"Member {number} of {where[0].lower()}{where[1:]}", name, known))
    return {name: value for name, value in members.items() if value is not None}


def _unknown(subject: str, name: str, known: Sequence[str]) -> str:
    if (best := closest(name, known)) is not None:
        return f"{subject} is unknown: did you mean {best}?"
    words = ", ".join(known if len(known) <= len(_CONTEXTS) else ("id", "document-front", "face", "first_name"))
    return f"{subject} is unknown: leave it out, or use one such as {words}."


def _to_object(where: str, value: object) -> Mapping[str, object]:
    members = as_object(value)
    if members is None:
        msg = f"{where} must be an object: put its members into braces."
        raise RowError(msg)
    return members


def _to_text(where: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        msg = f"{where} must be a text: put it in quotes, or leave it out."
        raise RowError(msg)
    if not is_utf8(value):
        msg = f"{where} has characters that cannot be written as UTF-8: write it again."
        raise RowError(msg)
    return value


def _to_model(model: Callable[..., _T], where: str, names: Sequence[str], value: object) -> _T:
    members = _known_members(_to_object(where, value), names, where)
    enums: dict[str, Callable[[str], str]] = {"gender": Gender, "type": DocumentType}
    texts = {name: _to_text(f"{where}.{name}", text) for name, text in members.items()}
    return model(**{name: enums.get(name, str)(text) for name, text in texts.items()})


def _to_address(value: object) -> Address:
    members = _known_members(_to_object("address", value), ("full_address", "parsed_address"), "address")
    full, parsed = members.get("full_address"), members.get("parsed_address")
    where = "address.parsed_address"
    return Address(
        full_address=None if full is None else _to_text("address.full_address", full),
        parsed_address=None if parsed is None else _to_model(ParsedAddress, where, _PARSED_ADDRESS, parsed),
    )


def _to_consents(value: object) -> list[Consent]:
    consents: list[Consent] = []
    for item in _to_list("consents", value):
        members = _known_members(_to_object("consents", item), ("type", "approved"), "consents")
        approved = members.get("approved")
        if not isinstance(approved, bool):
            msg = "A consent must say whether it is approved: set approved to true or false."
            raise RowError(msg)
        consents.append(Consent(_to_text("consents.type", members.get("type")), approved=approved))
    return consents


def _to_types(value: object) -> list[str]:
    return [_to_text("proof_of_address_types", item) for item in _to_list("proof_of_address_types", value)]


def _to_list(where: str, value: object) -> list[object]:
    if not isinstance(value, list):
        msg = f"{where} must be a list: put its items into square brackets."
        raise RowError(msg)
    return as_list(cast("object", value))


def _to_extra(value: object) -> Mapping[str, object]:
    members = _to_object("extra", value)
    level: list[object] = [members]
    for _ in range(_MAX_DEPTH):
        level = [child for item in level for child in _children(item)]
    if level:
        msg = f"extra has more than {_MAX_DEPTH} levels: make it flatter."
        raise RowError(msg)
    return members


def _children(value: object) -> Iterable[object]:
    members = as_object(value)
    return as_list(value) if members is None else members.values()


def _to_number(name: str, text: str) -> float | int:
    try:
        # isdigit() is also true for superscripts, which int() refuses.
        return int(text) if text.isascii() and text.isdigit() else float(text)
    except ValueError:
        pass
    msg = f"{name} must be a number: use digits, with a point before a fraction."
    raise RowError(msg)


def _to_seconds(value: object) -> float:
    # In Python a bool is an int, so JSON's ``true`` would count as one second.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _MAX_NUMBER:
        msg = "timeout must be a number of seconds above 0: correct it, or leave it out."
        raise RowError(msg)
    return float(value)


def _to_maximum(where: str, value: object, unit: str, example: int) -> int:
    # The exact type, for the same reason.
    if type(value) is not int or not 0 < value < _MAX_NUMBER:
        msg = f"{where} must be the maximum of {unit}, as a whole number: for example {example}."
        raise RowError(msg)
    return value


def _to_datetime(where: str, value: object) -> datetime:
    try:
        moment = datetime.fromisoformat(_to_text(f"{where}: timestamp", value))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        msg = f"The timestamp of {where} must be like 2024-05-31T12:00:00Z, with its time zone."
        raise RowError(msg)
    return moment


def _split_cell(cell: str) -> list[str]:
    return [text for part in cell.split(";") if (text := part.strip())]
