"""The file of an export: readable by its owner alone, and complete as soon as it has its name."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from veriff_async import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import TextIO

__all__ = ("ExportFile",)


class ExportFile:
    """Writes lines to a file with another name, which it deletes or renames at the end. Blocking.

    Raises:
        ConfigurationError: From all methods: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        """Take the final path; nothing is opened yet."""
        self._path = path
        self._partial = path.with_name(f"{path.name}.part")
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        """Create the file."""
        if self._path.exists() and not self._path.is_file():
            # A rename would replace the pipe or device itself.
            msg = "FILE is a pipe or a device: leave FILE out, and redirect standard output there."
            raise ConfigurationError(msg)
        try:
            self._partial.unlink(missing_ok=True)  # an export that was killed has left it behind
            descriptor = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            problem = _file_error(error)
        else:
            self._file = open(descriptor, "w", encoding="utf-8", newline="\n")  # noqa: PTH123  `__exit__` closes it
            return self
        raise problem

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the file, and delete it unless it was finished."""
        if self._file is not None:
            is_own = not self._file.closed and self._is_own()
            with suppress(OSError):  # a full disk, which `write_lines` has reported
                self._file.close()
            if is_own:
                self._partial.unlink(missing_ok=True)

    def write_lines(self, lines: Sequence[str]) -> None:
        """Write some lines."""
        assert self._file is not None  # noqa: S101  used in the block
        try:
            self._file.writelines(f"{line}\n" for line in lines)
            self._file.flush()
        except OSError as error:
            problem = _file_error(error)
        else:
            return
        raise problem

    def finish(self) -> None:
        """Give the complete file its name."""
        assert self._file is not None  # noqa: S101  used in the block
        try:
            os.fsync(self._file.fileno())
            if self._is_own():
                self._file.close()
                self._rename()
                return
            problem = ConfigurationError("Another export to FILE has started since: wait for it, or give another path.")
        except OSError as error:
            problem = _file_error(error)
        raise problem

    def _rename(self) -> None:
        try:
            self._partial.replace(self._path)
        except OSError:
            self._partial.unlink(missing_ok=True)
            raise

    def _is_own(self) -> bool:
        """Return whether the other name still belongs to this file, and not to that of a second export."""
        assert self._file is not None  # noqa: S101  used in the block
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self._partial.stat())
        except OSError:
            return False


def _file_error(error: OSError) -> ConfigurationError:
    reason = error.strerror or type(error).__name__
    return ConfigurationError(f"FILE cannot be written ({reason}): give another path, or make space.")
