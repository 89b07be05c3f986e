"""What came before, however much it was, in little memory."""

from __future__ import annotations

import hashlib
import sqlite3
from typing import TYPE_CHECKING, Self

from veriff_async.errors import ConfigurationError

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ("Seen",)


class Seen:
    """Remembers texts with a number each, by their digests.

    A set of a million ids takes a hundred megabytes and more, so they are in a file of SQLite's own that has no name
    and ends with this; as long as they are few it is never written. Blocking; it may be used from one thread after
    the other.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._db.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE seen (mark BLOB PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID; BEGIN"
        )

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Forget everything."""
        self._db.close()

    def note(self, text: str, number: int) -> int | None:
        """Remember a text, unless it came before; return the number that it came with then.

        Raises:
            ConfigurationError: The folder for temporary files is full, or cannot be written to.
        """
        mark = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()
        try:
            if self._db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (mark, number)).rowcount:
                return None
            found = self._db.execute("SELECT number FROM seen WHERE mark = ?", (mark,)).fetchone()
        except sqlite3.Error as error:
            problem = error.sqlite_errorname
        else:
            return int(found[0])
        msg = f"What was read cannot be remembered ({problem}): look at the folder for temporary files, see TMPDIR."
        raise ConfigurationError(msg)
