"""The table of all operations, and how a request finds its operation."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from veriff_async.sandbox._control.rule_operations import RULE_OPERATIONS
from veriff_async.sandbox._control.sandbox_operations import SANDBOX_OPERATIONS
from veriff_async.sandbox._control.session_operations import SESSION_OPERATIONS
from veriff_async.sandbox._control.webhook_operations import WEBHOOK_OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from veriff_async.sandbox._control.operation import Operation

__all__ = ("OPERATIONS", "find_operations", "read_ids")

OPERATIONS: Final[tuple[Operation, ...]] = (
    *SESSION_OPERATIONS,
    *WEBHOOK_OPERATIONS,
    *RULE_OPERATIONS,
    *SANDBOX_OPERATIONS,
)
"""All operations; append to the table of a topic."""


def _by_length() -> Mapping[int, Sequence[Operation]]:
    found: defaultdict[int, list[Operation]] = defaultdict(list)
    # Words come before braces, so that /sessions/counts is not the session "counts".
    for operation in sorted(OPERATIONS, key=lambda each: [part.startswith("{") for part in each.segments]):
        found[len(operation.segments)].append(operation)
    return found


_BY_LENGTH: Final = _by_length()


def find_operations(segments: Sequence[str]) -> dict[str, Operation]:
    """Return the operations of a path by their methods. The first path that fits counts."""
    candidates = [each for each in _BY_LENGTH.get(len(segments), ()) if _fits(each, segments)]
    return {each.method: each for each in candidates if each.path == candidates[0].path}


def read_ids(operation: Operation, segments: Sequence[str]) -> dict[str, str]:
    """Return the texts of the path's fields by their names."""
    pairs = zip(operation.segments, segments, strict=True)
    return {part[1:-1]: segment for part, segment in pairs if part.startswith("{")}


def _fits(operation: Operation, segments: Sequence[str]) -> bool:
    pairs = zip(operation.segments, segments, strict=True)
    return all(part == segment or (part.startswith("{") and segment) for part, segment in pairs)
