"""The form of a cassette, and its reader. Pure.

A cassette is a text file with one JSON object in each line. The first line names the version. Every other line is an
exchange: a request, and the response if there was one. Lines are in the order in which exchanges ended; their
``number`` is the order in which they began.

People may edit a cassette, so every member is checked, and an error names the line. The last line may be incomplete,
because the recorder was killed while it wrote it.
"""

from __future__ import annotations

import os
import re
from codecs import BOM_UTF8
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast, get_args

from attrs import field, frozen

from veriff_async._protocol.json.decode import dump
from veriff_async._protocol.json.parse import parse_json
from veriff_async._protocol.option_names import suggest
from veriff_async.errors import ConfigurationError
from veriff_async.models.json import as_object
from veriff_async.sandbox._recording.body_capture import MAX_DEPTH, is_too_deep

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from veriff_async.models.json import JsonObject

__all__ = (
    "VERSION",
    "Cassette",
    "CassetteFile",
    "Ending",
    "Entry",
    "EntryKind",
    "Message",
    "head_line",
    "read_cassette",
    "write_entry",
)

VERSION: Final = 1

EntryKind: TypeAlias = Literal["exchange", "webhook"]
"""An exchange is a request of the client to Veriff, a webhook one of Veriff to the receiver."""

Ending: TypeAlias = Literal["complete", "client", "server", "recorder"]
"""How an exchange ended: after the whole response, or early, by the client, the server or a stop of the recorder."""

_MEMBERS: Final = {
    "cassette": ("version", "redacted", "recorder", "recorded_at"),
    "entry": ("kind", "number", "at", "seconds", "ending", "request", "response"),
    "request": ("method", "path", "headers", "body"),
    "response": ("status", "headers", "body"),
    "body": ("size", "json", "type", "sha256"),
}
_LARGEST: Final = 10**12
# A response with a lower one is not the last of its request, and the recorder does not write it.
_STATUSES: Final = range(200, 1000)
# A replay makes up as many bytes as a body had, and signs them.
_LARGEST_RESPONSE: Final = 1024**3
# https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2 and the section after it.
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_CONTROL: Final = re.compile(r"[\0-\x08\x0a-\x1f\x7f]")


@frozen(kw_only=True)
class Message:
    """A request or a response in a cassette.

    Attributes:
        headers: Recorded headers, names in lower case.
        size: Bytes of the body as sent.
        has_json: Whether `content` is the JSON of the body; otherwise it has the members of a blob.
        content: See `has_json`.
        status: HTTP status of a response.
        method: Method of a request.
        path: Path of a request, with its query.
    """

    headers: Mapping[str, str]
    size: int = 0
    has_json: bool = False
    content: object = field(default=None, repr=False)
    status: int = 0
    method: str = ""
    path: str = ""


@frozen(kw_only=True)
class Entry:
    """One line of a cassette.

    Attributes:
        line: Number of the line, from 1.
        kind: Whether it is a request to Veriff or a webhook.
        number: Its place in the order in which exchanges began.
        at: Seconds from the start of the recorder to the beginning.
        seconds: Seconds from the beginning to the end of the response.
        ending: Who ended it.
        request: The request.
        response: The response, or ``None`` if the exchange ended before there was one.
    """

    line: int
    kind: EntryKind
    number: int
    at: float
    seconds: float
    ending: Ending
    request: Message
    response: Message | None


@frozen(kw_only=True)
class Cassette:
    """A cassette."""

    is_redacted: bool
    entries: tuple[Entry, ...]
    is_truncated: bool = False


def head_line(*, recorder: str, recorded_at: str, is_redacted: bool) -> bytes:
    """Return the first line of a cassette."""
    head = {"version": VERSION, "redacted": is_redacted, "recorder": recorder, "recorded_at": recorded_at}
    return dump({"cassette": head}) + b"\n"


def write_entry(entry: Mapping[str, object]) -> bytes:
    """Return an entry as a line."""
    return dump(entry) + b"\n"


def read_cassette(data: bytes) -> Cassette:
    """Read a cassette.

    Raises:
        ConfigurationError: It is not a cassette, has another version, or a line is damaged; the message names the line.
    """
    # Some editors begin a file with this mark.
    *lines, rest = data.removeprefix(BOM_UTF8).split(b"\n")
    if not lines:
        raise _damaged(1, "is not the first line of a cassette")
    is_redacted = _read_head(lines[0])
    entries: list[Entry] = []
    numbers: dict[int, int] = {}
    for line, text in enumerate(lines[1:], 2):
        if text.strip():
            entry = _read_entry(line, text)
            if numbers.setdefault(entry.number, line) != line:
                raise _damaged(line, f"has the number {entry.number}, which line {numbers[entry.number]} has too")
            entries.append(entry)
    is_truncated = False
    if rest.strip():
        # A whole line without its end: an editor may leave out the last line end.
        try:
            entries.append(_read_entry(len(lines) + 1, rest))
        except ConfigurationError:
            is_truncated = True
    entries.sort(key=lambda entry: entry.number)
    return Cassette(is_redacted=is_redacted, entries=tuple(entries), is_truncated=is_truncated)


def _read_head(text: bytes) -> bool:
    head = as_object(_parse(1, text).get("cassette"))
    if head is None:
        raise _damaged(1, "is not the first line of a cassette")
    version = head.get("version")
    if version != VERSION or isinstance(version, bool):
        shown = version if isinstance(version, int) else "unknown"
        msg = f"The cassette has version {shown}, and this veriff-async reads version {VERSION}: record it again."
        raise ConfigurationError(msg)
    _check_names(1, "cassette", head)
    return _Reader(1, "cassette", head).flag("redacted")


def _read_entry(line: int, text: bytes) -> Entry:
    members = _parse(line, text)
    _check_names(line, "entry", members)
    reader = _Reader(line, "", members)
    response = None if members.get("response") is None else reader.object("response")
    return Entry(
        line=line,
        kind=cast("EntryKind", reader.word("kind", get_args(EntryKind))),
        number=int(reader.number("number", whole=True)),
        at=reader.number("at"),
        seconds=reader.number("seconds"),
        ending=cast("Ending", reader.word("ending", get_args(Ending))),
        request=_read_message(line, "request", reader.object("request")),
        response=None if response is None else _read_message(line, "response", response),
    )


def _read_message(line: int, name: Literal["request", "response"], members: JsonObject) -> Message:
    _check_names(line, name, members)
    reader = _Reader(line, name, members)
    headers = reader.object("headers")
    if not all(isinstance(value, str) for value in headers.values()):
        raise _damaged(line, f"needs texts in {name}.headers")
    if not all(_HEADER_NAME.fullmatch(key) and not _CONTROL.search(str(value)) for key, value in headers.items()):
        raise _damaged(line, f"needs names and values of HTTP headers in {name}.headers")
    status, method, path = 0, "", ""
    if name == "response":
        status = int(reader.number("status", whole=True))
        if status not in _STATUSES:
            raise _damaged(line, "needs an HTTP status in response.status")
    else:
        method, path = reader.text("method").upper(), reader.text("path")
    size, has_json, content = 0, False, None
    if members.get("body") is not None:
        body = reader.object("body")
        _check_names(line, "body", body)
        has_json = "json" in body
        size = int(_Reader(line, f"{name}.body", body).number("size", whole=True))
        content = body["json"] if has_json else body
        # The recorder writes two more where it has left out a text.
        if is_too_deep(content, MAX_DEPTH + 2):
            raise _damaged(line, f"has more than {MAX_DEPTH} objects in each other in {name}.body")
        if name == "response" and not has_json and size > _LARGEST_RESPONSE:
            raise _damaged(line, f"needs at most {_LARGEST_RESPONSE} in response.body.size")
    return Message(
        headers={key.lower(): str(value) for key, value in headers.items()},
        size=size,
        has_json=has_json,
        content=content,
        status=status,
        method=method,
        path=path,
    )


@frozen
class _Reader:
    """Reads the members of one object of a line."""

    line: int
    owner: str
    members: JsonObject

    def object(self, name: str) -> JsonObject:
        found = as_object(self.members.get(name))
        if found is None:
            raise self._wrong(name, "an object")
        return found

    def text(self, name: str) -> str:
        value = self.members.get(name)
        if not isinstance(value, str) or not value:
            raise self._wrong(name, "a text")
        return value

    def word(self, name: str, known: tuple[str, ...]) -> str:
        value = self.members.get(name)
        if not isinstance(value, str) or value not in known:
            raise self._wrong(name, f"one of {', '.join(known)}")
        return value

    def flag(self, name: str) -> bool:
        value = self.members.get(name)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def number(self, name: str, *, whole: bool = False) -> float:
        value = self.members.get(name)
        kinds = int if whole else int | float
        if isinstance(value, bool) or not isinstance(value, kinds) or not 0 <= value < _LARGEST:
            raise self._wrong(name, "a whole number" if whole else "a number")
        return value

    def _wrong(self, name: str, expected: str) -> ConfigurationError:
        return _damaged(self.line, f"needs {expected} in {f'{self.owner}.' * bool(self.owner)}{name}")


def _parse(line: int, text: bytes) -> JsonObject:
    try:
        members = as_object(parse_json(text))
    except (ValueError, RecursionError):
        members = None
    if members is None:
        raise _damaged(line, "is not a JSON object")
    return members


def _check_names(line: int, kind: str, members: JsonObject) -> None:
    for name in members:
        if name not in _MEMBERS[kind]:
            shown = repr(name) if name.isidentifier() else "an unknown name"
            raise _damaged(line, f"has {shown} in its {kind}; {suggest(name, _MEMBERS[kind]).rstrip('.?')}")


def _damaged(line: int, problem: str) -> ConfigurationError:
    return ConfigurationError(f"Line {line} of the cassette {problem}: correct the line, or record the cassette again.")


_OWNER_ONLY: Final = 0o600


class CassetteFile:
    """Appends lines to a new file that only its owner can read."""

    def __init__(self, path: Path) -> None:
        """Create the file."""
        problem = ""
        try:
            self._file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), _OWNER_ONLY)
        except FileExistsError:
            problem = "exists already: delete it, or give another name"
        except OSError as error:
            problem = f"cannot be created ({error.strerror or type(error).__name__}): give a path in a folder of yours"
        except ValueError:
            problem = "has a name that no file can have: give another name"
        if problem:
            msg = f"The file of the cassette {problem}."
            raise ConfigurationError(msg)
        self._path = path
        self._size = 0

    def append(self, line: bytes) -> None:
        """Write a line. The system has all of it when this returns, so a killed process loses nothing.

        Raises:
            OSError: It cannot be written, for example because the disk is full. The file ends with the line before.
        """
        rest = memoryview(line)
        try:
            while rest:
                # A nearly full disk takes a part of a line.
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            os.ftruncate(self._file, self._size)
            os.lseek(self._file, self._size, os.SEEK_SET)
            raise
        self._size += len(line)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def discard(self) -> None:
        """Close the file, and remove it."""
        self.close()
        with suppress(OSError):
            self._path.unlink()
