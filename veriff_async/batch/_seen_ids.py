"""Recognizes ids that occurred before, among any number of them and in little memory."""

from __future__ import annotations

import hashlib
import sqlite3
from typing import TYPE_CHECKING, Self

from veriff_async.errors import ConfigurationError

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ("SeenIds",)


class SeenIds:
    """A set of texts, each with the number it was added with. Blocking; threads may use it one after the other.

    A Python set of a million ids takes more than a hundred megabytes, so the digests are in a temporary SQLite database
    without a name. SQLite writes it to disk only when it outgrows the page cache, and deletes it when it is closed.
    """

    def __init__(self) -> None:
        """Create an empty set."""
        # Threads of a pool use the connection, one after the other.
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        # Nothing reads this database after a crash, so it needs neither a journal nor syncs, and its one transaction is
        # never committed.
        self._db.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE seen (digest BLOB PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID; BEGIN"
        )

    def __enter__(self) -> Self:
        """Return the set."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Delete the database."""
        self._db.close()

    def add(self, text: str, number: int) -> int | None:
        """Add a text, or return the number of its first occurrence if it was added before.

        Raises:
            ConfigurationError: The folder for temporary files is full, or cannot be written to.
        """
        # 128 bits: among a billion ids, two share a digest with a probability below 1e-20. JSON may contain lone
        # surrogates, which strict UTF-8 refuses.
        digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()
        try:
            if self._db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (digest, number)).rowcount:
                return None
            row = self._db.execute("SELECT number FROM seen WHERE digest = ?", (digest,)).fetchone()
        except sqlite3.Error as error:
            problem = error.sqlite_errorname
        else:
            return int(row[0])
        msg = f"SeenIds cannot write its temporary file ({problem}): check the folder for temporary files, see TMPDIR."
        raise ConfigurationError(msg)
