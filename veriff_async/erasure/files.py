"""Files with data of sessions, as stores of an erasure: folders of downloads, and the results of a batch."""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
import time
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from secrets import token_hex
from threading import Lock
from typing import TYPE_CHECKING, Final

from anyio import to_thread

from veriff_async._protocol.arguments import type_name
from veriff_async._protocol.inbox_arguments import check_session_ids
from veriff_async._protocol.json.decode import load_object
from veriff_async._protocol.validation import is_id
from veriff_async._storage.file_lock import try_lock
from veriff_async.errors import ConfigurationError, DecodeError, ErasureError

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator
    from typing import BinaryIO

__all__ = ("ResultsFile", "SessionFiles")

_PLACEHOLDER: Final = "{session_id}"

# The form of Veriff's ids. Where more of a name follows, only this shows where the id ends.
_VERIFF_ID: Final = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"

# Tries to delete a folder from which another process deletes too.
_MAX_TRIES: Final = 100

# Seconds to wait for another process that rewrites the results; a batch keeps its lock for longer.
_LOCK_TIMEOUT: Final = 5.0
_LOCK_PAUSE: Final = 0.05


class SessionFiles:
    """Files or folders of one session each, for example its downloads.

    A folder is erased with all that is in it, temporary files of interrupted downloads included. The bytes stay on the
    disk until the system uses their place again, so encrypt the disk.

    Args:
        pattern: A path with ``{session_id}``, which may stand in several places, and with ``*`` for any part of a name:
            ``"downloads/{session_id}"``, ``"photos/*/{session_id}-*.jpg"``. In a name with a star, only ids in the form
            of Veriff's are found: another one could be the beginning of a different session's id.

    Raises:
        ConfigurationError: The pattern is not a path with ``{session_id}``.

    Example:
        >>> stores = {"downloads": SessionFiles("downloads/{session_id}")}
    """

    def __init__(self, pattern: str | os.PathLike[str]) -> None:
        """Check the pattern."""
        text = _to_text(pattern)
        if _PLACEHOLDER not in text or set("{}") & set(text.replace(_PLACEHOLDER, "")) or "**" in text:
            msg = (
                "The pattern of files needs {session_id}, and no other braces: pass for example downloads/{session_id}."
            )
            raise ConfigurationError(msg)
        self.pattern: str = os.path.normpath(text)
        self._is_ambiguous = any(_PLACEHOLDER in part and "*" in part for part in Path(self.pattern).parts)

    def __repr__(self) -> str:
        """Show nothing of the path, which may hold a name."""
        return "<SessionFiles>"

    async def erase(self, session_ids: Collection[str]) -> int:
        """Delete the files and folders of sessions, and return how many paths there were.

        Raises:
            ErasureError: One of them cannot be deleted; call it again.
            InvalidArgumentError: An argument is of a wrong type.
        """
        wanted = check_session_ids(session_ids)
        return await to_thread.run_sync(lambda: sum(map(self._erase, wanted)))

    def find(self, session_id: str) -> Iterator[Path]:
        """Yield the paths of a session. Blocking."""
        # An id with a slash or a star could name the files of others; Veriff issues none.
        if is_id(session_id) and (not self._is_ambiguous or re.fullmatch(_VERIFF_ID, session_id)):
            yield from _glob(self.pattern.replace(_PLACEHOLDER, session_id))

    def find_all(self) -> Iterator[tuple[str, Path]]:
        """Yield the sessions that have files, each with one of its paths. Blocking."""
        first, *others = self.pattern.split(_PLACEHOLDER)
        expression = _to_expression(first) + "".join(
            f"{'(?P=id)' if index else f'(?P<id>{_id_before(rest)})'}{_to_expression(rest)}"
            for index, rest in enumerate(others)
        )
        for path in _glob(self.pattern.replace(_PLACEHOLDER, "*")):
            match = re.fullmatch(expression, str(path))
            if match is not None:
                yield match["id"], path

    def _erase(self, session_id: str) -> int:
        erased = 0
        for path in list(self.find(session_id)):
            try:
                erased += _delete(path)
            except OSError as error:
                problem = error.strerror or type(error).__name__
            else:
                continue
            msg = (
                f"Files of a session cannot be deleted ({problem}): check their owner and their folder, and try again."
            )
            raise ErasureError(msg)
        return erased


def _delete(path: Path) -> bool:
    """Delete a file or a folder, and return whether this call did it.

    Raises:
        OSError: It cannot be deleted.
    """
    for left in reversed(range(_MAX_TRIES)):
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except FileNotFoundError:
            # Another process deletes the same folder. `rmtree` ends at the first file that is gone, and others stay.
            if not os.path.lexists(path):
                return False
            if not left:
                raise
        else:
            return True
    return False


def _to_text(path: object) -> str:
    if isinstance(path, str | Path) and str(path):
        return str(path)
    msg = f"A path of files to erase must be a text or a Path, not {type_name(path)}: pass for example results.jsonl."
    raise ConfigurationError(msg)


def _glob(pattern: str) -> Iterator[Path]:
    """Yield the paths that match a pattern in which only stars are special."""
    path = Path(re.sub(r"[\[?]", r"[\g<0>]", pattern))
    return Path(path.anchor).glob(str(path.relative_to(path.anchor)))


def _to_expression(pattern: str) -> str:
    return "[^/]*".join(map(re.escape, pattern.split("*")))


def _id_before(rest: str) -> str:
    """Return the expression of an id. Where more of the name follows, only the form that Veriff uses shows its end."""
    return "[A-Za-z0-9_-]+" if rest[:1] in {"", "/", os.sep} else _VERIFF_ID


class ResultsFile:
    """The results of a batch (``--out``): JSON lines, of which those of a session are removed.

    The file is replaced as a whole, so a crash leaves either the old or the new one. End the batch first: while
    ``veriff-async batch`` writes to the file, it is not erased. An incomplete line is removed if it contains the id.
    Another hard link to the file, for example in a backup, keeps the old one.

    Args:
        path: The file; a missing one has no lines.

    Example:
        >>> stores = {"results": ResultsFile("results.jsonl")}
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Check the path."""
        self._path = Path(_to_text(path))

    def __repr__(self) -> str:
        """Show nothing of the path, which may hold a name."""
        return "<ResultsFile>"

    async def erase(self, session_ids: Collection[str]) -> int:
        """Remove the lines of sessions, and return how many there were.

        Raises:
            ErasureError: The file cannot be read or replaced, or a batch writes to it; call it again.
            InvalidArgumentError: An argument is of a wrong type.
        """
        wanted = frozenset(check_session_ids(session_ids))
        return await to_thread.run_sync(self._erase, wanted)

    def _erase(self, wanted: frozenset[str]) -> int:
        try:
            # The file itself: a symbolic link to it stays.
            path = self._path.resolve(strict=True)
            if path.is_file():
                with rewriting_locks.setdefault(path, Lock()), _open_locked(path) as lines:
                    return _rewrite(path, lines, wanted)
            problem = "they are not a file"  # for example a pipe, which is open only when another program writes to it
        except FileNotFoundError:
            return 0
        except BlockingIOError:
            problem = "another program writes to them"
        except OSError as error:
            problem = error.strerror or type(error).__name__
        msg = f"The results cannot be rewritten ({problem}): check the folder, its owner and the disk, and try again."
        raise ErasureError(msg)


# Threads of this process would read the same file, and the last one would bring back the lines of the others. A thread
# that waits for the drive of one file must not keep others from being erased.
rewriting_locks: Final = dict[Path, Lock]()


@contextmanager
def _open_locked(path: Path) -> Generator[BinaryIO]:
    """Open a file for reading, with a lock against other processes that rewrite it.

    Raises:
        BlockingIOError: Another process keeps its lock for longer than the timeout.
    """
    deadline = time.monotonic() + _LOCK_TIMEOUT
    while True:
        with path.open("rb") as file:
            try:
                try_lock(file.fileno())
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
            except OSError:  # some file systems do not support locks
                yield file
                return
            else:
                # Another process may have replaced it before the lock was taken.
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    yield file
                    return
        time.sleep(_LOCK_PAUSE)


def _rewrite(path: Path, lines: BinaryIO, wanted: frozenset[str]) -> int:
    """Replace a file by one without the lines of sessions; return how many there were."""
    _delete_temporary_files(path)
    before = os.fstat(lines.fileno())
    erased = sum(_belongs_to(line, wanted) for line in lines)
    if not erased:
        return 0
    lines.seek(0)
    # In the folder of the file, since only within one file system is a rename atomic.
    temporary = path.with_name(f".{path.name}.{token_hex(4)}.part")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        with os.fdopen(descriptor, "wb") as kept:
            kept.writelines(line for line in lines if not _belongs_to(line, wanted))
            kept.flush()
            _copy_permissions(before, descriptor)
            os.fsync(descriptor)
        if os.fstat(lines.fileno()).st_size != before.st_size:
            raise BlockingIOError  # noqa: TRY301  cleaned up below, like after any other error
        if sys.platform == "win32":  # replaces no open file
            lines.close()
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    return erased


def _copy_permissions(status: os.stat_result, descriptor: int) -> None:
    if sys.platform != "win32":
        with suppress(PermissionError):  # only root may give a file away
            os.fchown(descriptor, status.st_uid, status.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(status.st_mode))


def _delete_temporary_files(path: Path) -> None:
    """Delete what a call left that was killed."""
    for left in path.parent.glob(f".{escape(path.name)}.*.part"):
        left.unlink(missing_ok=True)


def _belongs_to(line: bytes, wanted: frozenset[str]) -> bool:
    try:
        session_id = load_object(line).get("session_id")
    except DecodeError:  # a batch that was killed has left half a line
        return any(session_id.encode("utf-8", "surrogatepass") in line for session_id in wanted if session_id)
    return isinstance(session_id, str) and session_id in wanted
