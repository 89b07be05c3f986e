"""Files with data of sessions, as stores of an erasure: folders of downloads, and the results of a batch."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Final

from anyio import to_thread

from veriff_async._protocol.arguments import type_name
from veriff_async._protocol.inbox_arguments import check_session_ids
from veriff_async._protocol.json.decode import load_object
from veriff_async._protocol.validation import is_id
from veriff_async.errors import ConfigurationError, DecodeError, ErasureError

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterator

__all__ = ("ResultsFile", "SessionFiles")

_PLACEHOLDER: Final = "{session_id}"


class SessionFiles:
    """Files or folders of one session each, for example its downloads.

    A folder is erased with all that is in it, temporary files of interrupted downloads included. The bytes stay on the
    disk until the system uses their place again, so encrypt the disk.

    Args:
        pattern: A path with ``{session_id}``, which may stand in several places, and with ``*`` for any part of a name:
            ``"downloads/{session_id}"``, ``"photos/*/{session_id}-*.jpg"``.

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
        if is_id(session_id):
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
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
            except FileNotFoundError:
                continue
            except OSError as error:
                problem = error.strerror or type(error).__name__
            else:
                erased += 1
                continue
            msg = (
                f"Files of a session cannot be deleted ({problem}): check their owner and their folder, and try again."
            )
            raise ErasureError(msg)
        return erased


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
    return "[A-Za-z0-9-]+" if rest[:1] in {"", "/", os.sep} else "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"


class ResultsFile:
    """The results of a batch (``--out``): JSON lines, of which those of a session are removed.

    The file is replaced as a whole, so a crash leaves either the old or the new one. End the batch first.

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
            ErasureError: The file cannot be read or replaced; call it again.
            InvalidArgumentError: An argument is of a wrong type.
        """
        wanted = frozenset(check_session_ids(session_ids))
        return await to_thread.run_sync(self._erase, wanted)

    def _erase(self, wanted: Container[object]) -> int:
        # In the folder of the file, since only within one file system is a rename atomic.
        temporary = self._path.with_name(f".{self._path.name}.{token_hex(4)}.part")
        try:
            self._delete_temporary_files()
            with self._path.open("rb") as lines:
                erased = sum(_session_of(line) in wanted for line in lines)
                if not erased:
                    return 0
                lines.seek(0)
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "wb") as kept:
                    kept.writelines(line for line in lines if _session_of(line) not in wanted)
                    kept.flush()
                    os.fsync(kept.fileno())
            temporary.replace(self._path)
        except FileNotFoundError:
            return 0
        except OSError as error:
            problem = error.strerror or type(error).__name__
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        else:
            return erased
        msg = f"The results cannot be rewritten ({problem}): check the folder, its owner and the disk, and try again."
        raise ErasureError(msg)

    def _delete_temporary_files(self) -> None:
        """Delete what a call left that was killed."""
        for path in self._path.parent.glob(f".{self._path.name}.*.part"):
            path.unlink(missing_ok=True)


def _session_of(line: bytes) -> object:
    with suppress(DecodeError):
        return load_object(line).get("session_id")
    return None
