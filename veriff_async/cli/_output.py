"""What the commands show: bars and tables on a terminal, plain lines anywhere else."""

from __future__ import annotations

from contextlib import contextmanager
from textwrap import fill
from typing import TYPE_CHECKING, Final

from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from veriff_async import Decision, DownloadProgress, Media, Status, UploadProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from rich.console import Console
    from rich.progress import TaskID

__all__ = ("Screen", "decision_facts", "megabytes", "personal_facts")

_WIDEST: Final = 100  # columns of text; longer lines are hard to read

_NARROWEST: Final = 20  # columns of text beside an indentation

_SHORT: Final = 8  # figures of an id that tell files apart


def megabytes(count: int) -> str:
    """Write a number of bytes as megabytes."""
    return f"{count / 1_000_000:.2f} MB"


class Screen:
    """Where a command writes to.

    Args:
        console: The rich console; it knows about `NO_COLOR`, `TERM` and the width.
    """

    def __init__(self, console: Console) -> None:
        """Take the console, and see whether somebody watches it."""
        self._console = console
        # FORCE_COLOR makes a pipe look like a terminal to rich, but nobody watches a bar move in a file.
        self.is_live = console.is_interactive and console.file.isatty()

    def say(self, words: str, *, style: str | None = None, indent: int | None = None) -> None:
        """Write a line, with no markup and no colours of its own.

        Args:
            words: The line. Anything but a terminal gets it as it is, so that programs find it in one line.
            style: A style of rich.
            indent: Where the further lines of a sentence begin on a terminal, which is wrapped between words; without
                it the terminal wraps the line, and what is copied from there, such as a command, is one line.
        """
        if indent is not None and self.is_live:
            width = max(self._console.width, indent + _NARROWEST)
            words = fill(words, width, subsequent_indent=" " * indent, break_on_hyphens=False)
        self._console.print(words, style=style, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def uploads(self, media: Sequence[Media]) -> Generator[Callable[[UploadProgress], None]]:
        """Show one bar for each file, moved by what really went out."""
        if not self.is_live:
            yield _Lines(self).update
            return
        with self._bars() as progress:
            tasks = {id(one): progress.add_task(_name(one), total=None) for one in media}

            def update(event: UploadProgress) -> None:
                progress.update(tasks[id(event.media)], completed=event.bytes_sent, total=event.total_bytes)

            yield update

    @contextmanager
    def downloads(self) -> Generator[Callable[[DownloadProgress], None]]:
        """Show one bar for each file as it begins to come, by the first figures of its id."""
        if not self.is_live:
            yield _Lines(self).received
            return
        with self._bars() as progress:
            tasks: dict[str, TaskID] = {}

            def update(event: DownloadProgress) -> None:
                if event.media_id not in tasks:
                    tasks[event.media_id] = progress.add_task(_short(event), total=None)
                progress.update(tasks[event.media_id], completed=event.bytes_received, total=event.total_bytes)

            yield update

    def _bars(self) -> Progress:
        return Progress(
            TextColumn("  {task.description}", markup=False),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=self._console,
        )

    @contextmanager
    def waiting(self, words: str) -> Generator[None]:
        """Show that something is waited for."""
        if self.is_live:
            with self._console.status(words):
                yield
        else:
            self.say(words)
            yield

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None) -> None:
        """Show rows of text; where nobody watches, each is a line with tabs between its cells, without a head."""
        if not self.is_live:
            for row in rows:
                self._line("\t".join(map(_printable, row)))
            self._console.file.flush()
            return
        table = Table(*columns, title=title, title_justify="left")
        for row in rows:
            table.add_row(*(escape(_printable(cell)) for cell in row))
        self._console.print(table)

    def _line(self, cells: str) -> None:
        """Write a line as it is: rich would make spaces of its tabs."""
        if not self._console.quiet:
            self._console.file.write(f"{cells}\n")

    def decision(self, decision: Decision, *, show_person: bool) -> None:
        """Show a decision, with the person's data only when that was asked for."""
        shown = decision_facts(decision) | (personal_facts(decision) if show_person else {})
        rows = [(name.replace("_", " "), _printable(str(value))) for name, value in shown.items() if value is not None]
        if not self.is_live:
            for name, value in rows:
                self.say(f"  {name}: {value}")
            return
        table = Table("field", "value", title="Decision", title_justify="left")
        for name, value in rows:
            table.add_row(name, escape(value), style="bold green" if value == Status.APPROVED else None)
        self._console.print(table)

    def numbered(self, title: str, items: Sequence[str]) -> None:
        """Write a title and a numbered list, wrapped between words."""
        self.say(f"\n{title}", style="bold")
        for number, item in enumerate(items, 1):
            head = f"  {number}. "
            self.say(fill(item, min(self._console.width, _WIDEST), initial_indent=head, subsequent_indent="     "))


class _Lines:
    """Progress for people who read a file later: one line when a picture is through."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def update(self, event: UploadProgress) -> None:
        if event.bytes_sent == event.total_bytes:
            self._screen.say(f"  {_name(event.media)}: {megabytes(event.total_bytes)} sent")

    def received(self, event: DownloadProgress) -> None:
        if event.bytes_received == event.total_bytes:
            self._screen.say(f"  {_short(event)}: {megabytes(event.bytes_received)} received")


def _short(event: DownloadProgress) -> str:
    return event.media_id[:_SHORT]


def _name(media: Media) -> str:
    return media.filename or str(media.context)


def _printable(text: str) -> str:
    """Return a text that moves no cursor: what a server says, or somebody printed on a document, is only shown."""
    return "".join(character if character.isprintable() else "?" for character in text)


def decision_facts(decision: Decision) -> dict[str, str | int | None]:
    """Return what is no personal data of a decision."""
    moment = decision.decision_time
    return {
        "session_id": decision.session_id,
        "status": str(decision.status),
        "code": decision.code,
        "reason": decision.reason,
        "reason_code": decision.reason_code,
        "decision_time": moment.isoformat() if moment else None,
    }


def personal_facts(decision: Decision) -> dict[str, str | int | None]:
    """Return the person's data of a decision, for those who asked for it."""
    person, document = decision.person, decision.document
    return {
        "first_name": person.first_name,
        "last_name": person.last_name,
        "date_of_birth": person.date_of_birth,
        "document_type": document.type and str(document.type),
        "document_country": document.country,
        "document_number": document.number,
    }
