"""Compares a request with a recorded one. Pure.

A cassette has a fake where the recorded program sent a value, and the program that is replayed sends its own values:
the same ones, or a new ``vendorData`` in each run. So a fake is a variable. It stands for the first value that is
compared with it, and that is its binding; responses and webhooks then get the value instead of the fake.

Values that Veriff chose, such as the id of a session, are not variables: the replay sends the recorded ones, and the
program sends them back.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias, cast
from urllib.parse import parse_qsl, unquote

from attrs import define, field, frozen

from veriff_async.models.json import as_list, as_object
from veriff_async.sandbox._recording.allow_list import Kept, is_member, kept_as, parent_below, path_words
from veriff_async.sandbox._recording.body_capture import Blob
from veriff_async.sandbox._recording.redaction import API, BLOB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from veriff_async.sandbox._recording.cassette import Message

__all__ = (
    "PATH_DIFFERS",
    "Bindings",
    "Comparison",
    "Request",
    "Value",
    "blob_of",
    "compare",
    "replace",
    "split_path",
    "values_in",
)

PATH_DIFFERS: Final = "the path differs"

Value: TypeAlias = "str | float"
Bindings: TypeAlias = "dict[Value, Value]"


@frozen(kw_only=True)
class Request:
    """A request to a replay.

    Attributes:
        method: HTTP method.
        path: Path with its query, as sent.
        size: Bytes of the body.
        has_json: Whether `content` is JSON.
        content: The JSON, with a `Blob` for each picture.
    """

    method: str
    path: str
    size: int = 0
    has_json: bool = False
    content: object = field(default=None, repr=False)


@define
class Comparison:
    """The result of a comparison that ends at the first difference.

    Attributes:
        bindings: Values by their fakes, from this comparison alone.
        equal: Number of values that are as recorded.
        conflicts: Number of fakes that stand for another value already.
        difference: Where the request differs, in words; empty if it does not.
    """

    bindings: Bindings = field(factory=dict["Value", "Value"])
    equal: int = 0
    conflicts: int = 0
    difference: str = ""

    def bind(self, fake: Value, value: Value, known: Mapping[Value, Value]) -> None:
        """Let a fake stand for a value."""
        if fake == value:
            self.equal += 1
        bound = self.bindings.get(fake, known.get(fake))
        if bound is not None and bound != value:
            self.conflicts += 1
        self.bindings[fake] = value


def compare(recorded: Message, request: Request, known: Mapping[Value, Value], chosen: frozenset[Value]) -> Comparison:
    """Compare a request with a recorded one of the same method."""
    found = Comparison()
    if not _match_path(recorded.path, request.path, found, known, chosen):
        found.difference = PATH_DIFFERS
    elif bool(recorded.size) != bool(request.size):
        found.difference = "one of the two has no body"
    elif recorded.has_json != request.has_json:
        found.difference = "one of the two bodies is not JSON"
    elif recorded.has_json:
        _Unifier(found, known).unify(recorded.content, request.content, "", "", "")
    return found


@lru_cache(maxsize=10_000)
def split_path(path: str) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Return the decoded parts of a path, and the parameters of its query."""
    path, _, query = path.partition("?")
    return tuple(map(unquote, path.rstrip("/").split("/"))), tuple(parse_qsl(query, keep_blank_values=True))


def values_in(value: object, *, parent: str = "", name: str = "") -> Iterator[Value]:
    """Return the texts and numbers of recorded JSON that may be fakes."""
    if isinstance(value, Mapping):
        members = cast("Mapping[str, object]", value)
        if blob_of(members) is None:
            below = parent_below(parent, name)
            for key, item in members.items():
                yield from values_in(item, parent=below, name=key)
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            yield from values_in(item, parent=parent, name=name)
    elif isinstance(value, str | int | float) and not isinstance(value, bool) and not kept_as(parent, name, value):
        yield value
        if isinstance(value, str) and value.startswith(API):
            yield from (part for part in split_path(value)[0] if part not in path_words())


def replace(
    value: object, bindings: Mapping[Value, Value], base_url: str, *, parent: str = "", name: str = ""
) -> object:
    """Return recorded JSON with the values that its fakes stand for, and URLs of this replay."""
    if isinstance(value, Mapping):
        members = cast("Mapping[str, object]", value)
        if blob_of(members) is not None:
            # The recorded text is not known, and no client reads more of it than that it is a text.
            return ""
        below = parent_below(parent, name)
        return {key: replace(item, bindings, base_url, parent=below, name=key) for key, item in members.items()}
    if isinstance(value, list):
        items = cast("list[object]", value)
        return [replace(item, bindings, base_url, parent=parent, name=name) for item in items]
    if isinstance(value, bool) or not isinstance(value, str | int | float) or kept_as(parent, name, value):
        return value
    if isinstance(value, str) and value.startswith(API):
        parts = value.removeprefix(API).split("/")
        return base_url + "/".join(str(bindings.get(part, part)) for part in parts)
    return bindings.get(value, value)


def blob_of(value: object) -> Mapping[str, object] | None:
    """Return the members of a blob, if recorded JSON stands for one."""
    if isinstance(value, Mapping) and len(cast("Mapping[str, object]", value)) == 1:
        blob = cast("Mapping[str, object]", value).get(BLOB)
        if isinstance(blob, Mapping):
            return cast("Mapping[str, object]", blob)
    return None


def _match_path(
    recorded: str, path: str, found: Comparison, known: Mapping[Value, Value], chosen: frozenset[Value]
) -> bool:
    (parts, query), (sent_parts, sent_query) = split_path(recorded), split_path(path)
    if len(parts) != len(sent_parts) or len(query) != len(sent_query):
        return False
    words = path_words()
    for part, sent in zip(parts, sent_parts, strict=True):
        if part == sent or part.lower() == sent.lower():
            found.equal += 1
        elif part in words or sent in words or part in chosen or known.get(part, sent) != sent:
            return False
        else:
            found.bind(part, sent, known)
    return True


@define
class _Unifier:
    """Compares two JSON values, and stops at the first difference."""

    found: Comparison
    known: Mapping[Value, Value]

    def unify(self, recorded: object, sent: object, path: str, parent: str, name: str) -> bool:
        """Return whether the values match. `parent` and `name` are those of `kept_as`."""
        blob = blob_of(recorded)
        if blob is not None or isinstance(sent, Blob):
            return self._unify_blob(blob, recorded, sent, path)
        members, sent_members = as_object(recorded), as_object(sent)
        if members is not None and sent_members is not None:
            return self._unify_members(members, sent_members, path, parent_below(parent, name))
        if isinstance(recorded, list) and isinstance(sent, list):
            items, sent_items = as_list(cast("object", recorded)), as_list(cast("object", sent))
            if len(items) != len(sent_items):
                return self._differs(path, "has another number of items")
            pairs = enumerate(zip(items, sent_items, strict=True))
            return all(self.unify(item, other, f"{path}[{index}]", parent, name) for index, (item, other) in pairs)
        return self._unify_leaf(recorded, sent, path, parent, name)  # pyright: ignore[reportUnknownArgumentType]

    def _unify_members(self, recorded: Mapping[str, object], sent: Mapping[str, object], path: str, below: str) -> bool:
        known, sent_known = set(filter(is_member, recorded)), set(filter(is_member, sent))
        if missing := known ^ sent_known:
            first = min(missing)
            problem = "is recorded and was not sent" if first in known else "was sent and is not recorded"
            return self._differs(_join(path, first), problem)
        # Names that may be data have fakes of their own, so only their number can be compared.
        if len(recorded) != len(sent):
            return self._differs(path, "has another number of members")
        return all(
            self.unify(recorded[key], sent[key], _join(path, key), below, key) for key in recorded if key in known
        )

    def _unify_blob(self, blob: Mapping[str, object] | None, recorded: object, sent: object, path: str) -> bool:
        if not isinstance(sent, Blob | str) or (blob is None and not isinstance(recorded, str)):
            return self._differs(path, "is a picture or a long text in only one of the two")
        if blob is not None and isinstance(sent, Blob) and blob.get("sha256") == sent.sha256:
            self.found.equal += 1
        return True

    def _unify_leaf(self, recorded: object, sent: object, path: str, parent: str, name: str) -> bool:
        if recorded is None or isinstance(recorded, bool) or isinstance(sent, bool):
            return recorded is sent or self._differs(path, "differs")
        is_text = isinstance(recorded, str) and isinstance(sent, str)
        if not is_text and not (isinstance(recorded, int | float) and isinstance(sent, int | float)):
            return self._differs(path, "has another type")
        kept = kept_as(parent, name, recorded)
        if kept is Kept.WORD and recorded != sent:
            return self._differs(path, "differs")
        if kept is None:
            self.found.bind(cast("Value", recorded), cast("Value", sent), self.known)
        return True

    def _differs(self, path: str, problem: str) -> bool:
        self.found.difference = f"{path or 'the body'} {problem}"
        return False


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
