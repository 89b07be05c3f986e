"""A row of a manifest, made into a job. Pure: no file is looked at.

A row of CSV is first brought into the form that a line of JSON has, so that both follow the same rules.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar, cast

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

__all__ = ("Columns", "InvalidRow", "ManifestRow", "RefusedError", "columns_of", "is_text", "job_of")

_T = TypeVar("_T")

_PERSON: Final = tuple(
    one.name for one in fields(Person) if one.name not in {"addresses", "is_deceased", "pep_sanction_match", "raw"}
)
_DOCUMENT: Final = ("number", "type", "country", "id_card_type", "first_issue")
_PARSED: Final = tuple(one.name for one in fields(ParsedAddress) if one.name != "raw")
_CONTEXTS: Final = tuple(str(context) for context in MediaContext if "video" not in context)
_TEXTS: Final = ("vendor_data", "end_user_id", "callback")
_MEMBERS: Final = (
    *("id", "media", "person", "document", "address", *_TEXTS),
    *("consents", "proof_of_address_types", "extra", "timeout", "max_side"),
)
_COLUMNS: Final = (
    *("id", *_CONTEXTS, *_TEXTS, "timeout", "max_side", "proof_of_address_types", "full_address", *_PERSON),
    *(f"document_{name}" for name in _DOCUMENT),
)
_LONGEST_WAIT: Final = 1e9  # seconds; no clock of a loop is sure to count further
_DEEPEST: Final = 64
"""Levels of ``extra``: what is deeper could not be written again."""


@frozen
class ManifestRow:
    """A row that a job was made of.

    Attributes:
        line: The line of the file on which it begins, counted from 1.
        job: The job.
    """

    line: int
    job: Job


@frozen
class InvalidRow:
    """A row that no job can be made of.

    Attributes:
        line: The line of the file on which it begins, counted from 1.
        reason: What is wrong and what to do, with the column or member but without what stood there.
        job_id: The job, when its id could be read.
    """

    line: int
    reason: str
    job_id: str | None = None


class RefusedError(Exception):
    """No job can be made of it; the text is the reason."""


@define
class Columns:
    """The columns of a CSV file, in their order.

    Attributes:
        names: Their names, all known.
    """

    names: tuple[str, ...] = field()

    def members(self, cells: Sequence[str]) -> dict[str, object]:
        """Bring cells into the form of a line of JSON; what is empty is left out.

        Raises:
            RefusedError: They are not as many as the columns, or a number is none.
        """
        if len(cells) != len(self.names):
            msg = (
                f"The row has {len(cells)} cells and the header {len(self.names)}: give one for each column, in quotes "
                "where a comma belongs to it."
            )
            raise RefusedError(msg)
        filled = {name: text for name, cell in zip(self.names, cells, strict=True) if (text := cell.strip())}
        found: dict[str, object] = {name: filled[name] for name in ("id", *_TEXTS) if name in filled}
        found |= {name: _number(name, filled[name]) for name in ("timeout", "max_side") if name in filled}
        found["person"] = {name: filled[name] for name in _PERSON if name in filled}
        found["document"] = {name: filled[word] for name in _DOCUMENT if (word := f"document_{name}") in filled}
        if "full_address" in filled:
            found["address"] = {"full_address": filled["full_address"]}
        if "proof_of_address_types" in filled:
            found["proof_of_address_types"] = _parted(filled["proof_of_address_types"])
        found["media"] = [
            {"path": path, "context": name}
            for name in self.names
            if name in _CONTEXTS
            for path in _parted(filled.get(name, ""))
        ]
        return {name: value for name, value in found.items() if value != {}}


def columns_of(cells: Sequence[str]) -> Columns:
    """Read the header of a CSV file.

    Raises:
        RefusedError: A column is unknown or there twice, or one that is needed is missing.
    """
    names = tuple(cell.strip() for cell in cells)
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        msg = "The header has one column only: part columns by commas, not by semicolons or tabs."
        raise RefusedError(msg)
    for number, name in enumerate(names, 1):
        if name not in _COLUMNS:
            # What stands there may be somebody's name, when the header was forgotten.
            raise RefusedError(_unknown(f"Column {number} of the header", name, _COLUMNS))
        if name in names[: number - 1]:
            msg = f"The header has {name} twice: leave one out, and part several paths of one cell by semicolons."
            raise RefusedError(msg)
    if "id" not in names:
        msg = "The header has no id: add a column with an id of your own for each job."
        raise RefusedError(msg)
    if not any(name in _CONTEXTS for name in names):
        msg = "The header has no media: add a column for each kind, for example document-front and face."
        raise RefusedError(msg)
    return Columns(names)


def job_of(found: Mapping[str, object], folder: Path, timeout: float | None) -> Job:
    """Make a job of what a row says, checked by the rules that the client has for a session.

    Args:
        found: The members, named as the arguments of `Job` and `create_session` are.
        folder: What paths are relative to.
        timeout: Seconds to wait for the decision when the row says nothing of it.

    Raises:
        RefusedError: Something is missing, unknown or wrong.
    """
    found = _members(found, _MEMBERS, "The row")
    if "id" not in found:
        msg = "There is no id: give each row one of your own."
        raise RefusedError(msg)
    options = _options(found)
    try:
        job = Job(
            _text("id", found["id"]),
            _media(found, folder),
            timeout=_seconds(found["timeout"]) if "timeout" in found else timeout,
            **options,
        )
        create_body(session_options(job))
    except InvalidArgumentError as error:
        reason = str(error)
    else:
        return job
    raise RefusedError(reason)


def _options(found: Mapping[str, object]) -> CreateOptions:
    readers: dict[str, Callable[[object], object]] = {
        "person": partial(_filled, Person, "person", _PERSON),
        "document": partial(_filled, Document, "document", _DOCUMENT),
        "address": _address,
        "consents": _consents,
        "proof_of_address_types": _types,
        "extra": _extra,
        **{name: partial(_text, name) for name in _TEXTS},
    }
    return cast("CreateOptions", {name: read(found[name]) for name, read in readers.items() if name in found})


def _media(found: Mapping[str, object], folder: Path) -> list[Media]:
    several = as_list(found.get("media"))
    if not several:
        msg = "There are no media: give the path of one picture or more, for example of a document-front and a face."
        raise RefusedError(msg)
    max_side = _pixels("max_side", found["max_side"]) if "max_side" in found else None
    return [_one(f"media {number}", one, folder, max_side) for number, one in enumerate(several, 1)]


def _one(where: str, value: object, folder: Path, max_side: int | None) -> Media:
    said = _members(_object(where, value), ("path", "context", "mimetype", "timestamp", "max_side"), f"The {where}")
    for name in ("path", "context"):
        if name not in said:
            msg = f'{where} has no {name}: give one such as {{"path": "front.jpg", "context": "document-front"}}.'
            raise RefusedError(msg)
    context = MediaContext(_text(f"{where}: context", said["context"]))
    if context not in _CONTEXTS:
        raise RefusedError(_unknown(f"The context of {where}", context, _CONTEXTS))
    path = _text(f"{where}: path", said["path"])
    return Media(
        str(folder / path),
        context,
        mimetype=_text(f"{where}: mimetype", said["mimetype"]) if "mimetype" in said else None,
        timestamp=_moment(where, said["timestamp"]) if "timestamp" in said else None,
        max_side=_pixels(f"{where}: max_side", said["max_side"]) if "max_side" in said else max_side,
    )


def _members(found: Mapping[str, object], names: Iterable[str], where: str) -> dict[str, object]:
    """Return the members that say something, all of them known."""
    known = tuple(names)
    for number, name in enumerate(found, 1):
        if name not in known:
            raise RefusedError(_unknown(f"Member {number} of {where[0].lower()}{where[1:]}", name, known))
    return {name: value for name, value in found.items() if value is not None}


def _unknown(what: str, name: str, known: Sequence[str]) -> str:
    if (best := closest(name, known)) is not None:
        return f"{what} is unknown: did you mean {best}?"
    words = ", ".join(known if len(known) <= len(_CONTEXTS) else ("id", "document-front", "face", "first_name"))
    return f"{what} is unknown: leave it out, or take one such as {words}."


def _object(where: str, value: object) -> Mapping[str, object]:
    found = as_object(value)
    if found is None:
        msg = f"{where} is no object: put its members into braces."
        raise RefusedError(msg)
    return found


def _text(where: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        msg = f"{where} is no text: put it in quotes, or leave it out."
        raise RefusedError(msg)
    if not is_text(value):
        msg = f"{where} has characters that cannot be written as UTF-8: write it again."
        raise RefusedError(msg)
    return value


def is_text(value: str) -> bool:
    """Tell whether a text can be written as UTF-8."""
    try:
        return value.isascii() or bool(value.encode())
    except UnicodeEncodeError:
        return False


def _filled(model: Callable[..., _T], where: str, names: Sequence[str], value: object) -> _T:
    said = _members(_object(where, value), names, where)
    words: dict[str, Callable[[str], str]] = {"gender": Gender, "type": DocumentType}
    texts = {name: _text(f"{where}.{name}", text) for name, text in said.items()}
    return model(**{name: words.get(name, str)(text) for name, text in texts.items()})


def _address(value: object) -> Address:
    said = _members(_object("address", value), ("full_address", "parsed_address"), "address")
    parts = said.get("parsed_address")
    return Address(
        full_address=_text("address.full_address", said["full_address"]) if "full_address" in said else None,
        parsed_address=None if parts is None else _filled(ParsedAddress, "address.parsed_address", _PARSED, parts),
    )


def _consents(value: object) -> list[Consent]:
    found: list[Consent] = []
    for one in _list("consents", value):
        said = _members(_object("consents", one), ("type", "approved"), "consents")
        if not isinstance(said.get("approved"), bool):
            msg = "A consent does not say whether it is approved: give true or false."
            raise RefusedError(msg)
        found.append(Consent(_text("consents.type", said.get("type")), approved=said["approved"] is True))
    return found


def _types(value: object) -> list[str]:
    return [_text("proof_of_address_types", one) for one in _list("proof_of_address_types", value)]


def _list(where: str, value: object) -> list[object]:
    if not isinstance(value, list):
        msg = f"{where} is no list: put what belongs to it into square brackets."
        raise RefusedError(msg)
    return as_list(cast("object", value))


def _extra(value: object) -> Mapping[str, object]:
    found = _object("extra", value)
    level: list[object] = [found]
    for _ in range(_DEEPEST):
        level = [deeper for one in level for deeper in _inside(one)]
    if level:
        msg = f"extra has more than {_DEEPEST} levels: make it flatter."
        raise RefusedError(msg)
    return found


def _inside(value: object) -> Iterable[object]:
    members = as_object(value)
    return as_list(value) if members is None else members.values()


def _number(name: str, text: str) -> float | int:
    try:
        return int(text) if text.isascii() and text.isdigit() else float(text)
    except ValueError:
        pass
    msg = f"{name} is no number: give digits, with a point before a fraction."
    raise RefusedError(msg)


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _LONGEST_WAIT:
        msg = "timeout cannot be right: give seconds above 0 as a number, or leave it out."
        raise RefusedError(msg)
    return float(value)


def _pixels(where: str, value: object) -> int:
    if type(value) is not int or not 0 < value < _LONGEST_WAIT:
        msg = f"{where} cannot be right: give the most pixels of the longer side as a whole number, for example 1920."
        raise RefusedError(msg)
    return value


def _moment(where: str, value: object) -> datetime:
    try:
        moment = datetime.fromisoformat(_text(f"{where}: timestamp", value))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        msg = f"The timestamp of {where} cannot be right: give one like 2024-05-31T12:00:00Z, with its time zone."
        raise RefusedError(msg)
    return moment


def _parted(cell: str) -> list[str]:
    return [part for text in cell.split(";") if (part := text.strip())]
