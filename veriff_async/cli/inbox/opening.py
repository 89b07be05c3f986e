"""Opens the inbox of a command: an existing one only, and without deleting anything from it."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, Self
from urllib.parse import parse_qs, urlsplit

import click
from attrs import field, frozen

from veriff_async.cli._store_keys import read_store_keys
from veriff_async.config import Retention
from veriff_async.inbox import DeliveryInbox, ErasableInbox, SearchableInbox, SqliteInbox

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from veriff_async.inbox import PostgresInbox, RedisInbox

__all__ = ("INBOX_VARIABLE", "InboxAddress", "StoredInbox", "open_inbox")

INBOX_VARIABLE: Final = "VERIFF_INBOX"

_REDIS: Final = ("redis://", "rediss://", "unix://")
_POSTGRES: Final = ("postgresql://", "postgres://")

# A command must not delete what the application, which may have another retention, still keeps.
_KEEP_ALL: Final = Retention(max_age=1e10, max_sessions=2_000_000_000, max_events_per_session=2_000_000_000)


class StoredInbox(SearchableInbox, DeliveryInbox, ErasableInbox, Protocol):
    """An inbox that other processes use too."""


@frozen
class InboxAddress:
    """Where the inbox of a command is.

    Attributes:
        address: The path of a SQLite file, or a URL, which may contain a password.
        prefix: The prefix of the keys in Redis.
    """

    address: str = field(repr=False)
    prefix: str | None = None

    @classmethod
    def find(cls, address: str | None, prefix: str | None) -> Self:
        """Check the options, before an event loop runs: the inbox must exist.

        Raises:
            click.UsageError: No inbox is given, no file has this path, or an option is of no use.
        """
        variable = os.environ.get(INBOX_VARIABLE, "").strip()
        found = address or variable
        if not found:
            msg = (
                f"Give the inbox with --inbox, or set {INBOX_VARIABLE}: a SQLite file, or a URL of Redis or PostgreSQL."
            )
            raise click.UsageError(msg)
        # Options of some commands have the variable as their default.
        if found != variable and found.startswith((*_REDIS, *_POSTGRES)) and _has_password(found):
            msg = f"--inbox has a password, which every user of the machine can read: set {INBOX_VARIABLE} instead."
            raise click.UsageError(msg)
        if prefix is not None and not found.startswith(_REDIS):
            msg = "--prefix is for Redis only: leave it out."
            raise click.UsageError(msg)
        if not found.startswith((*_REDIS, *_POSTGRES)) and not _is_filled(Path(found)):
            msg = "The inbox does not exist: give --inbox the SQLite file in which your application records webhooks."
            raise click.UsageError(msg)
        return cls(found, prefix)


def _has_password(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:  # unmatched brackets, which the store refuses
        return False
    return parts.password is not None or "password" in parse_qs(parts.query)


def _is_filled(path: Path) -> bool:
    """Return whether a file exists. A new one would hide a typing error, and SQLite would make one of an empty file."""
    try:
        return path.is_file() and path.stat().st_size > 0
    except (OSError, ValueError):  # a name that is too long, or one with a null character
        return False


@asynccontextmanager
async def open_inbox(store: InboxAddress) -> AsyncGenerator[StoredInbox]:
    """Open the inbox of a command."""
    async with _make_inbox(store) as inbox:
        yield inbox


def _make_inbox(store: InboxAddress) -> SqliteInbox | RedisInbox | PostgresInbox:
    if store.address.startswith(_REDIS):
        from veriff_async.inbox import RedisInbox

        return RedisInbox(
            store.address, prefix=store.prefix or "{veriff}", retention=_KEEP_ALL, encryption=read_store_keys()
        )
    if store.address.startswith(_POSTGRES):
        from veriff_async.inbox import PostgresInbox

        # A wrong database must not get tables.
        return PostgresInbox(store.address, retention=_KEEP_ALL, migrate=False, encryption=read_store_keys())
    return SqliteInbox(store.address, retention=_KEEP_ALL, encryption=read_store_keys())
