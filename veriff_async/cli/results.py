"""The file that a batch writes results to: one JSON object in a line for each job, and what a crash tore is mended."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO, Final

from veriff_async import ConfigurationError, JobFailedError
from veriff_async.batch import Step
from veriff_async.batch.seen import Seen
from veriff_async.cli.show import decision_facts, personal_facts
from veriff_async.models.json import EMPTY
from veriff_async.protocol.codec import UnreadableError, dump, load_object

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from veriff_async.batch import JobResult
    from veriff_async.models.json import JsonObject

__all__ = ("Results", "kind_of", "results_in")

_SETTLED: Final = frozenset({Step.DECIDED, Step.FAILED})
_FACTS: Final = ("status", "code", "reason", "reason_code", "decision_time")
_BEGINNING: Final = b'{"job_id":'
_LONGEST: Final = 1024 * 1024
"""Bytes of a line; what has longer ones is another file."""


def kind_of(result: JobResult) -> str | None:
    """Return the name of the error that ended a job, also when that was in an earlier run."""
    error = result.error
    if error is None:
        return None
    return error.kind if isinstance(error, JobFailedError) else type(error).__name__


@contextmanager
def results_in(path: Path, *, show_person: bool) -> Generator[Results]:
    """Open a file of results, see what it holds, and mend its end. Blocking.

    Raises:
        ConfigurationError: It cannot be used, or holds something else than results.
    """
    with Seen() as seen, _opened(path) as file:
        _read(file, seen)
        yield Results(file, seen, show_person=show_person)


class Results:
    """Appends a line for each job that is settled, unless the file has it.

    A job that failed and is tried again gets another line when its outcome is another one; the last counts.
    """

    def __init__(self, file: BinaryIO, seen: Seen, *, show_person: bool) -> None:
        """Take a file that stands at its end, and what it holds."""
        self._file = file
        self._seen = seen
        self._show_person = show_person

    def add(self, result: JobResult) -> None:
        """Append what came of a job, in one piece; what is not settled goes on another time.

        Raises:
            ConfigurationError: The disk is full, or the like.
        """
        kind = kind_of(result)
        if result.step in _SETTLED and self._seen.note(_mark(result.job_id, result.step, kind), 0) is None:
            with _translated():
                self._file.write(dump(self._document(result, kind)) + b"\n")

    def _document(self, result: JobResult, kind: str | None) -> dict[str, object]:
        decision = result.decision
        facts = dict.fromkeys(_FACTS) if decision is None else decision_facts(decision)
        document: dict[str, object] = {
            "job_id": result.job_id,
            "session_id": result.session_id,
            "step": result.step,
            **{name: facts[name] for name in _FACTS},
            "error": kind,
            "message": None if result.error is None else str(result.error),
        }
        if self._show_person and decision is not None:
            document["person"] = personal_facts(decision)
        return document


def _mark(job_id: str, step: object, kind: object) -> str:
    return f"{job_id}\0{step}\0{kind or ''}"


@contextmanager
def _opened(path: Path) -> Generator[BinaryIO]:
    with _translated():
        # For its owner alone, since it may hold a person's data; unbuffered, so that each line is there at once.
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+b", buffering=0)
    with file:
        yield file


@contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except OSError as error:
        problem = error.strerror or type(error).__name__
    else:
        return
    msg = f"The results cannot be written ({problem}): look at the folder, its owner and the disk."
    raise ConfigurationError(msg)


def _read(file: BinaryIO, seen: Seen) -> None:
    """Note what the file holds; a last line without its end was torn by a crash, and is told anew."""
    with _translated(), os.fdopen(file.fileno(), "rb", closefd=False) as reader:
        number, whole = 0, 0
        while line := reader.readline(_LONGEST):
            number += 1
            if not line.endswith(b"\n") and (line.startswith(_BEGINNING) or _BEGINNING.startswith(line)):
                file.truncate(whole)
                return
            seen.note(_line_mark(line, number), 0)
            whole += len(line)


def _line_mark(line: bytes, number: int) -> str:
    found: JsonObject = EMPTY
    with suppress(UnreadableError):
        found = load_object(line)
    job_id, step = found.get("job_id"), found.get("step")
    if not isinstance(job_id, str) or not isinstance(step, str):
        msg = f"Line {number} of the file for results is no result: give a file of its own, which need not be there."
        raise ConfigurationError(msg)
    return _mark(job_id, step, found.get("error"))
