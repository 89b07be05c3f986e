"""Draws the picture of the terminal in the README: `python -m tools.draw_demo [--check]`.

Runs the real `veriff-async demo` in a terminal, and writes its last screen as SVG. Values that differ from run to run,
like the session id and the duration, are replaced by fixed ones, so that equal output gives an equal picture. The check
compares the text and is a stage of `.ci/run`: the demo takes some seconds. Needs a POSIX system, and the extra `[cli]`.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from html import unescape
from io import StringIO
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

__all__ = ("draw", "read_screen", "visible_text")

PICTURE: Final = Path(__file__).parents[1] / "docs" / "_static" / "demo.svg"
COMMAND: Final = "veriff-async demo"
COLUMNS: Final = 68
ROWS: Final = 50

# The explanations between the uploads and the decision would make the picture higher than a screen of the README.
EXPLANATIONS: Final = "What just happened"
DECISION: Final = "Decision"

FIXED_VALUES: Final = (
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "7a6d9c1e-2f4b-4b7e-9d3a-5c8e1f0b6a24"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}", "2026-12-09T09:30:00.000000"),
    (r"\d+(\.\d)? ([kM]?B|bytes)/s", "1.2 MB/s"),
)

# rich's own template loads a web font, which a README must not request. Names of fonts that systems have replace it.
TEMPLATE: Final = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img" aria-label="Output of veriff-async demo">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: system-ui, sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""  # noqa: E501  lines of a picture


def run_demo() -> str:
    """Return all that the demo writes to a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "veriff_async", "demo"],
        stdout=theirs,
        stderr=theirs,
        stdin=subprocess.DEVNULL,
        env={
            **{name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS", "LINES"}},
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
        },
    )
    os.close(theirs)
    written = b""
    try:
        while block := os.read(ours, 65536):
            written += block
    except OSError:  # Linux raises EIO after the last writer closes the terminal
        pass
    finally:
        os.close(ours)
    if process.wait():
        sys.exit(f"The demo failed with exit code {process.returncode}.")
    return written.decode()


def read_screen(written: str) -> list[str]:
    """Return the lines that a terminal shows after this output; colours stay in them as escape sequences.

    Understands only the movements that rich uses to redraw: to the start of the line, up, and erasing a line.
    """
    lines, row = [""], 0
    for part in re.split(r"(\r\n|\r|\x1b\[1A|\x1b\[2K|\x1b\[\?25[hl])", written):
        if part == "\r\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif part == "\x1b[1A":
            row -= 1
        elif part == "\x1b[2K":
            lines[row] = ""
        elif part != "\r" and not part.startswith("\x1b[?25"):
            lines[row] += part
    return lines


def draw(screen: list[str]) -> str:
    """Return the picture of a screen without the explanations."""
    words = [Text.from_ansi(line).plain.strip() for line in screen]
    shown = screen[: words.index(EXPLANATIONS)] + screen[words.index(DECISION) :]
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.assemble(("$ ", "bold green"), (COMMAND, "bold")))
    for line in shown:
        for pattern, value in FIXED_VALUES:
            line = re.sub(pattern, value, line)  # noqa: PLW2901  one line through all patterns
        console.print(Text.from_ansi(line))
    svg = console.export_svg(title="", code_format=TEMPLATE, unique_id="demo")
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def visible_text(svg: str) -> str:
    """Return the words of a picture, which do not depend on the version of rich that drew it."""
    return "\n".join(" ".join(unescape(words).split()) for words in re.findall(r"<text[^>]*>([^<]*)</text>", svg))


def main(arguments: list[str]) -> None:
    """Write or check."""
    svg = draw(read_screen(run_demo()))
    if "--check" not in arguments:
        PICTURE.write_text(svg, encoding="utf-8")
    elif visible_text(svg) != visible_text(PICTURE.read_text(encoding="utf-8")):
        sys.exit(f"The demo shows other text than {PICTURE.name}. Run python -m tools.draw_demo.")


if __name__ == "__main__":
    main(sys.argv[1:])
