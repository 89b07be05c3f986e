"""Output of the commands: bars and tables on a terminal, plain lines everywhere else."""

from __future__ import annotations

from contextlib import contextmanager
from textwrap import fill
from time import monotonic
from typing import TYPE_CHECKING, Final

from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TaskProgressColumn, TextColumn, TransferSpeedColumn
from rich.table import Column, Table

from veriff_async import DownloadProgress, Media, Status, UploadProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from rich.console import Console
    from rich.progress import ProgressColumn, TaskID

__all__ = ("LINE_SECONDS", "Output", "megabytes", "printable")

LINE_SECONDS: Final = 10.0
"""Seconds between two lines of progress where no terminal is."""

# Columns of running text: longer lines are hard to read.
_MAX_TEXT_WIDTH: Final = 100

# Columns that an indented sentence keeps on a narrow terminal.
_MIN_TEXT_WIDTH: Final = 20

# Characters that each column of a table keeps on a narrow terminal.
_MIN_CELL_WIDTH: Final = 5

# Characters of a media id that are enough to distinguish files.
_SHORT_ID: Final = 8

# Columns from which bars show the transfer speed. On narrower terminals it would push names onto a second line.
_SPEED_FITS: Final = 80


def megabytes(count: int) -> str:
    """Format a number of bytes as megabytes."""
    return f"{count / 1_000_000:.2f} MB"


def printable(text: str) -> str:
    """Replace control characters, so that text from a server or a document cannot move the cursor."""
    return "".join(character if character.isprintable() else "?" for character in text)


class Output:
    """Writes to one console.

    Args:
        console: The rich console, which applies ``NO_COLOR``, ``TERM`` and the width of the terminal.

    Attributes:
        is_live: Whether the console is a terminal that can redraw lines. ``FORCE_COLOR`` makes rich treat a pipe as a
            terminal, but a file would keep every frame of a bar, so the file itself is asked too.
    """

    def __init__(self, console: Console) -> None:
        """Take the console."""
        self.console = console
        self.is_live: bool = console.is_interactive and console.file.isatty()

    def print(self, text: str, *, style: str | None = None, indent: int | None = None) -> None:
        """Write a line, without markup or automatic colours.

        Args:
            text: The line. Pipes and files get it unwrapped, so that programs find it in one line.
            style: A style of rich.
            indent: Indentation of continuation lines on a terminal, where the text is wrapped between words. Without it
                the terminal wraps the line itself, so that a command copied from there stays one line.
        """
        if indent is not None and self.is_live:
            width = max(self.console.width, indent + _MIN_TEXT_WIDTH)
            # Ids and options contain hyphens, and must stay whole to be copied.
            text = fill(text, width, subsequent_indent=" " * indent, break_on_hyphens=False)
        self.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    def print_numbered(self, title: str, items: Sequence[str]) -> None:
        """Write a title and a numbered list, wrapped between words."""
        self.print(f"\n{title}", style="bold")
        for number, item in enumerate(items, 1):
            head, width = f"  {number}. ", min(self.console.width, _MAX_TEXT_WIDTH)
            self.print(fill(item, width, initial_indent=head, subsequent_indent="     "))

    def print_table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        title: str | None = None,
        whole: Sequence[str] = (),
    ) -> None:
        """Write a table. Pipes and files get one line per row, with tabs between cells and without a header.

        Args:
            columns: Names of the columns.
            rows: The cells.
            title: Title on a terminal.
            whole: Columns that keep their width on a narrow terminal, so that their values can be copied. A terminal
                that is too narrow for the others next to them gets lines without a frame.
        """
        if self.is_live and self.console.width < _least_width(columns, rows, whole):
            # rich would leave nothing of the other columns.
            if title:
                self.print(title, style="italic")
            for row in rows:
                # Without the header, only the name of its column says what a number counts.
                cells = (
                    f"{name} {cell}" if cell.isdecimal() else cell
                    for name, cell in zip(columns, map(printable, row), strict=True)
                )
                self.print("  ".join(filter(None, cells)), indent=2)
        elif self.is_live:
            heads = [Column(name, no_wrap=name in whole, overflow="fold") for name in columns]
            table = Table(*heads, title=title, title_justify="left")
            for row in rows:
                # rich would take square brackets in a value for markup.
                table.add_row(*(escape(printable(cell)) for cell in row))
            self.console.print(table)
        elif not self.console.quiet:
            # Not through rich, which would turn the tabs into spaces.
            for row in rows:
                self.console.file.write("\t".join(map(printable, row)) + "\n")
            self.console.file.flush()

    def print_fields(self, title: str, fields: dict[str, str | int | None]) -> None:
        """Write names and values, as a table on a terminal; fields without a value are left out."""
        rows = [(name.replace("_", " "), printable(str(value))) for name, value in fields.items() if value is not None]
        if not self.is_live:
            for name, value in rows:
                self.print(f"  {name}: {value}")
            return
        # Folded, not cut: an id must stay whole on a narrow terminal.
        table = Table("field", Column("value", overflow="fold"), title=title, title_justify="left")
        for name, value in rows:
            table.add_row(name, escape(value), style="bold green" if value == Status.APPROVED else None)
        self.console.print(table)

    @property
    def _spinner(self) -> str:
        """The name of a spinner whose characters the terminal has."""
        is_plain = self.console.options.ascii_only or self.console.legacy_windows
        return "line" if is_plain else "dots"

    @contextmanager
    def status(self, text: str, *, line_seconds: float = LINE_SECONDS) -> Generator[Callable[[str], None]]:
        """Show a spinner during the block, or print `text` where no terminal is.

        Yields:
            A function that shows the progress of long work: next to the spinner, or in a line.
        """
        if self.is_live:
            with self.console.status(text, spinner=self._spinner) as status:
                yield status.update
        else:
            printed_at = monotonic()

            def print_progress(progress: str) -> None:
                nonlocal printed_at
                if monotonic() - printed_at >= line_seconds:
                    printed_at = monotonic()
                    self.print(progress)

            self.print(text)
            yield print_progress

    @contextmanager
    def upload_bars(self, media: Sequence[Media]) -> Generator[Callable[[UploadProgress], None]]:
        """Show a bar for each file; yields the callback that moves them."""
        if not self.is_live:
            yield self._print_uploaded
            return
        with self._transfer_bars() as bars:
            # By identity: the same file may be given twice, and equal media would share one bar.
            tasks = {id(item): bars.add_task(_label(item), total=None) for item in media}

            def update(event: UploadProgress) -> None:
                bars.update(tasks[id(event.media)], completed=event.bytes_sent, total=event.total_bytes)

            yield update

    @contextmanager
    def download_bars(self) -> Generator[Callable[[DownloadProgress], None]]:
        """Show a bar for each file once its download starts; yields the callback that moves them."""
        if not self.is_live:
            yield self._print_downloaded
            return
        with self._transfer_bars() as bars:
            tasks: dict[str, TaskID] = {}

            def update(event: DownloadProgress) -> None:
                if event.media_id not in tasks:
                    tasks[event.media_id] = bars.add_task(event.media_id[:_SHORT_ID], total=None)
                bars.update(tasks[event.media_id], completed=event.bytes_received, total=event.total_bytes)

            yield update

    def _transfer_bars(self) -> Progress:
        def single_line_column() -> Column:
            return Column(no_wrap=True)

        columns: list[ProgressColumn] = [
            TextColumn("  {task.description}", markup=False, table_column=single_line_column()),
            BarColumn(bar_width=None, table_column=Column(ratio=1, max_width=24)),
            TaskProgressColumn(table_column=single_line_column()),
            DownloadColumn(table_column=single_line_column()),
        ]
        if self.console.width >= _SPEED_FITS:
            columns.append(TransferSpeedColumn(table_column=single_line_column()))
        return Progress(*columns, console=self.console)

    def _print_uploaded(self, event: UploadProgress) -> None:
        if event.bytes_sent == event.total_bytes:
            self.print(f"  {_label(event.media)}: {megabytes(event.total_bytes)} sent")

    def _print_downloaded(self, event: DownloadProgress) -> None:
        if event.bytes_received == event.total_bytes:
            self.print(f"  {event.media_id[:_SHORT_ID]}: {megabytes(event.bytes_received)} received")


def _least_width(columns: Sequence[str], rows: Sequence[Sequence[str]], whole: Sequence[str]) -> int:
    """Return the width of a table whose `whole` columns are not folded and whose others keep a few characters."""
    longest = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    kept = [size if name in whole else min(size, _MIN_CELL_WIDTH) for name, size in zip(columns, longest, strict=True)]
    # Each column has a space on both sides and a border.
    return sum(size + 3 for size in kept) + 1


def _label(media: Media) -> str:
    return media.filename or str(media.context)
