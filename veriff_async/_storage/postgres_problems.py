"""The causes of psycopg's errors, in words that contain no data.

PostgreSQL quotes values in its messages, such as ``Key (session_id)=(…) already exists``, so no message of psycopg
leaves the library. The SQLSTATE is safe to show: it names the kind of an error only
(https://www.postgresql.org/docs/current/errcodes-appendix.html).
"""

from __future__ import annotations

from typing import Final

__all__ = ("describe_problem", "is_connection_problem", "is_repeatable")

_UNREACHABLE: Final = "it cannot be reached; check its address and whether it runs"
_LOGIN: Final = "it refuses the login; correct the user and password"
_READ_ONLY: Final = "it is a replica, or its transactions are read-only; give the address of the primary"
_DATABASE: Final = "it does not have the database; correct its name, or create it"
_FULL: Final = "it has too many connections; raise max_connections, or let the applications keep fewer"

# By the whole SQLSTATE, or by its class, which is the first two characters.
_REMEDIES: Final = {
    "08": _UNREACHABLE,
    "25006": _READ_ONLY,
    "25P02": "a statement of the transaction had failed, and its error did not leave the handler; let it pass",
    "2D000": "the handler ended the transaction itself; leave COMMIT and ROLLBACK to the inbox",
    "28": _LOGIN,
    "3D": _DATABASE,
    "3F": "the schema of its search_path does not exist; create it, or correct the search_path",
    "40": "other transactions changed the same rows again and again; try again later",
    "42501": "its user may not do this; grant it the tables of veriff-async, or run veriff-async postgres migrate as "
    "their owner",
    "42703": "its tables are of another version; run veriff-async postgres migrate",
    "42883": "its functions are missing or of another version; run veriff-async postgres migrate",
    "42P01": "its tables are missing; run veriff-async postgres migrate",
    "53100": "its disk is full; free or add space",
    "53200": "its memory is full; see work_mem and max_connections",
    "53300": _FULL,
    "53": "it lacks resources; see its log",
    "55P03": "another transaction holds a lock for too long; see pg_locks",
    "57014": "it ended a statement that took too long; check its load, and which transaction holds a lock",
    "57": "it is starting or stopping; try again later",
    "58": "it has an error of its disk or system; see its log",
    "XX": "its data is damaged; see its log",
}

# A connection that fails before the login is complete has no SQLSTATE. These words are in messages of the server and of
# libpq in English; in another language, the error says that the server cannot be reached.
_WORDS: Final = {
    "authentication failed": _LOGIN,
    "no password supplied": _LOGIN,
    "no pg_hba.conf entry": _LOGIN,
    "read-only": _READ_ONLY,
    "too many clients": _FULL,
    "remaining connection slots": _FULL,
    "does not exist": _DATABASE,
    "certificate": "its TLS certificate cannot be verified; check sslmode, sslrootcert and the host name",
}


def describe_problem(error: BaseException) -> str:
    """Return the cause of an error and the remedy."""
    if isinstance(error, TimeoutError):
        return "it did not answer in time; check whether it is stopped, overloaded or far away"
    sqlstate: object = getattr(error, "sqlstate", None)
    kind = type(error).__name__
    if isinstance(sqlstate, str):
        default = "it refuses a statement; check that it is PostgreSQL 14 or newer, and see its log"
        return f"{_REMEDIES.get(sqlstate, _REMEDIES.get(sqlstate[:2], default))} (SQLSTATE {sqlstate})"
    if kind in {"DecodeError", "ValueError", "KeyError", "TypeError"}:
        return "its data cannot be read; look for a newer veriff-async"
    if kind == "PoolTimeout":
        return "the pool gave no connection in time; check whether the server runs, and raise max_size of the pool"
    if kind == "PoolClosed":
        return "the pool is not open; open it before the first use, and close it last"
    text = str(error).casefold()
    return next((remedy for words, remedy in _WORDS.items() if words in text), _UNREACHABLE)


def is_repeatable(error: BaseException) -> bool:
    """Return whether the server rolled a transaction back that succeeds if it is done again."""
    # serialization_failure and deadlock_detected.
    return getattr(error, "sqlstate", None) in {"40001", "40P01"}


def is_connection_problem(error: BaseException) -> bool:
    """Return whether the connection, and perhaps all others to this server, cannot be used any more.

    This includes a server that has become a replica, which keeps its connections.
    """
    sqlstate: object = getattr(error, "sqlstate", None)
    return not isinstance(sqlstate, str) or sqlstate == "25006" or sqlstate[:2] in {"08", "57", "58", "XX"}
