"""The stores of an erasure, as options of the commands."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from attrs import frozen

from veriff_async.batch import SqliteJournal
from veriff_async.cli._store_keys import read_store_keys
from veriff_async.cli.inbox.opening import INBOX_VARIABLE, InboxAddress, open_inbox
from veriff_async.erasure import ResultsFile, SessionFiles

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from veriff_async.erasure import ErasableStore

__all__ = ("StoreOptions", "store_options")

_F = TypeVar("_F", bound="Callable[..., Any]")

_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


@frozen(kw_only=True)
class StoreOptions:
    """The stores that the options of a command name.

    Attributes:
        inbox: The inbox.
        journal: The file of a journal.
        files: Patterns of files.
        results: Files of results.
    """

    inbox: InboxAddress | None
    journal: Path | None
    files: tuple[str, ...]
    results: tuple[Path, ...]

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[dict[str, ErasableStore]]:
        """Open the stores; their names are the same in each run with the same options."""
        stores: dict[str, ErasableStore] = {}
        async with AsyncExitStack() as stack:
            if self.inbox is not None:
                stores["inbox"] = await stack.enter_async_context(open_inbox(self.inbox))
            if self.journal is not None:
                stores["journal"] = await stack.enter_async_context(
                    SqliteJournal(self.journal, encryption=read_store_keys())
                )
            stores |= {_number("files", index): SessionFiles(pattern) for index, pattern in enumerate(self.files)}
            stores |= {_number("results", index): ResultsFile(path) for index, path in enumerate(self.results)}
            yield stores


def _number(name: str, index: int) -> str:
    return f"{name} {index + 1}" if index else name


def store_options(command: _F) -> _F:
    """Add the options that name stores, as the argument `stores`."""

    def with_stores(
        *args: Any,  # noqa: ANN401  of any command
        inbox: str | None,
        prefix: str | None,
        journal: Path | None,
        files: tuple[str, ...],
        results: tuple[Path, ...],
        **kwargs: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        address = InboxAddress.find(inbox, prefix) if inbox or prefix else None
        stores = StoreOptions(inbox=address, journal=journal, files=files, results=results)
        return command(*args, stores=stores, **kwargs)

    with_stores.__doc__ = command.__doc__
    with_stores.__name__ = command.__name__
    with_stores.__dict__.update(command.__dict__)
    options = (
        click.option(
            "--inbox",
            envvar=INBOX_VARIABLE,
            metavar="FILE|URL",
            help=f"An inbox: a SQLite file, or redis:// or postgresql://.  [default: {INBOX_VARIABLE}]",
        ),
        click.option("--prefix", metavar="TEXT", help="Prefix of the inbox's keys in Redis.  [default: {veriff}]"),
        click.option("--journal", type=_FILE, metavar="FILE", help="The journal of a batch."),
        click.option(
            "--files",
            multiple=True,
            metavar="PATTERN",
            help="Files or folders of one session each, such as downloads/{session_id}; may be repeated.",
        ),
        click.option(
            "--results", type=_FILE, multiple=True, metavar="FILE", help="Results of a batch (--out); may be repeated."
        ),
    )
    wrapped: Any = with_stores
    for option in reversed(options):
        wrapped = option(wrapped)
    result: _F = wrapped
    return result
