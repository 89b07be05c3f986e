"""`veriff-async demo`, as a separate process."""

from __future__ import annotations

import json
import re
import signal
from functools import partial
from typing import TYPE_CHECKING

import pyte
import pytest
from click.testing import CliRunner

from tests.conditions import needs_posix
from veriff_async.cli._commands import cli

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from blockbuster import BlockBuster
    from click.testing import Result

    Run = Callable[..., subprocess.CompletedProcess[str]]
    RunInTerminal = Callable[..., tuple[int, str]]
    InvokeDemo = Callable[..., Result]
    Start = Callable[..., subprocess.Popen[str]]

ESCAPE = "\x1b"
SECONDS = 60.0


@pytest.fixture
def invoke_demo(
    invoke: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, blockbuster: BlockBuster
) -> Callable[..., Result]:
    """Return a function that runs the demo in this process, against a sandbox that decides immediately."""
    blockbuster.deactivate()  # the demo has the loop to itself, so it may block it
    monkeypatch.setattr("veriff_async.cli.demo._DECIDE_AFTER", 0.0)
    return partial(invoke, "demo")


def test_demo_runs_the_whole_flow_without_arguments(run: Run) -> None:
    """The demo verifies the specimens, explains each step, and says how to continue with Veriff."""
    result = run("demo")

    assert result.returncode == 0, result.stderr
    assert "status: approved" in result.stdout
    assert "What just happened" in result.stdout
    assert all(name in result.stdout for name in ("VERIFF_API_KEY", "VERIFF_SHARED_SECRET", "VERIFF_BASE_URL"))
    assert "Customer Portal" in result.stdout
    assert result.stderr == ""


def test_demo_without_a_terminal_writes_plain_lines(run: Run) -> None:
    """Output has no escape sequence or carriage return, and one line per file with the bytes sent."""
    result = run("demo")

    assert ESCAPE not in result.stdout
    assert "\r" not in result.stdout
    for name in ("document-front.webp", "document-back.webp", "face.webp"):
        assert len(re.findall(rf"^  {name}: 0\.\d\d MB sent$", result.stdout, re.MULTILINE)) == 1


def test_force_color_in_a_pipe_adds_no_progress_bars(invoke_demo: InvokeDemo) -> None:
    """FORCE_COLOR colours the text; a bar would leave each of its frames in the file."""
    result = invoke_demo(FORCE_COLOR="1")

    assert result.exit_code == 0
    assert ESCAPE in result.stdout
    assert f"{ESCAPE}[1A" not in result.stdout
    assert f"{ESCAPE}[?25l" not in result.stdout


def test_demo_in_a_terminal_shows_a_bar_per_file_and_a_table(
    run_in_terminal: RunInTerminal,
) -> None:
    """Each bar ends at 100 % of the file's bytes, and the cursor is shown again."""
    code, written = run_in_terminal("demo")
    text = re.sub(rf"{ESCAPE}\[[0-9;?]*[A-Za-z]", "", written)

    assert code == 0
    for name in ("document-front.webp", "document-back.webp", "face.webp"):
        assert re.search(rf"{name} +━+ *100% (\d+\.?\d*)/\1 kB", text)
    assert "Decision" in text
    assert re.search(r"│ status +│ approved +│", text)
    assert written.count(f"{ESCAPE}[?25l") == written.count(f"{ESCAPE}[?25h") >= 1


def test_no_color_removes_colours(run_in_terminal: RunInTerminal) -> None:
    """With NO_COLOR, a terminal shows bars without colours."""
    code, written = run_in_terminal("demo", NO_COLOR="1")

    assert code == 0
    assert not re.search(rf"{ESCAPE}\[[0-9;]*(3[0-7]|9[0-7]|38;|48;)[0-9;]*m", written)


def test_dumb_terminal_gets_plain_lines(run_in_terminal: RunInTerminal) -> None:
    """TERM=dumb is a terminal that cannot move its cursor."""
    code, written = run_in_terminal("demo", TERM="dumb")

    assert code == 0
    assert "document-front.webp: 0." in written
    assert ESCAPE not in written


@pytest.mark.parametrize(("lines", "columns"), [(24, 80), (15, 40)])
def test_decision_is_on_the_screen_at_the_end(run_in_terminal: RunInTerminal, lines: int, columns: int) -> None:
    """A small terminal shows the whole table of the decision, above the next prompt."""
    code, written = run_in_terminal("demo", size=(lines, columns))
    screen = pyte.Screen(columns, lines)
    pyte.Stream(screen).feed(written)  # pyright: ignore[reportUnknownMemberType]  pyte has no types

    shown = "\n".join(screen.display)

    assert code == 0
    assert re.search(r"Decision\s+┏.*status +│ approved", shown, re.DOTALL), shown
    assert "…" not in shown


def test_demo_with_json_writes_one_document(run: Run) -> None:
    """With --json standard output is one JSON document and nothing else."""
    result = run("demo", "--json")
    outcome = json.loads(result.stdout)

    assert result.stderr == ""
    assert outcome["decision"]["status"] == "approved"
    assert [upload["context"] for upload in outcome["uploaded"]] == ["document-front", "document-back", "face"]
    assert outcome["bytes"]["files"] == sum(upload["size"] for upload in outcome["uploaded"]) > 1_000_000
    assert outcome["bytes"]["sent"] > outcome["bytes"]["files"] * 4 / 3
    assert "person" not in outcome


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_demo_shows_the_person_only_with_show_person(invoke_demo: InvokeDemo, form: tuple[str, ...]) -> None:
    """The output contains the person's name only with --show-person."""
    without, shown = invoke_demo(*form), invoke_demo(*form, "--show-person")

    assert (without.exit_code, shown.exit_code) == (0, 0)
    assert "Ada" not in without.output
    assert "Ada" in shown.stdout


def test_files_of_the_user_replace_specimens(invoke_demo: InvokeDemo, tmp_path: Path) -> None:
    """The demo uploads every byte of the file that the user names."""
    file = tmp_path / "file.jpg"
    file.write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(70_000) + b"\xff\xd9")

    outcome = json.loads(invoke_demo("--json", "--face", str(file)).stdout)

    assert outcome["uploaded"][2] | {"id": None} == {
        "context": "face",
        "id": None,
        "size": file.stat().st_size,
    }


def test_missing_file_is_wrong_usage(tmp_path: Path) -> None:
    """A path that does not exist is exit code 2 before the demo starts."""
    result = CliRunner().invoke(cli, ["demo", "--front", str(tmp_path / "nothing.jpg")])

    assert result.exit_code == 2
    assert "does not exist" in result.stderr


def test_library_error_is_one_sentence_without_traceback(run: Run, tmp_path: Path) -> None:
    """A file that is not a picture ends the demo with exit code 1."""
    text = tmp_path / "text.jpg"
    text.write_text("This file is not a picture.")

    result = run("demo", "--back", str(text))

    assert result.returncode == 1
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


@needs_posix
def test_ctrl_c_stops_the_demo_without_traceback(start: Start) -> None:
    """SIGINT gives exit code 130 and one word."""
    process = start("demo")
    assert process.stdout is not None
    assert process.stdout.readline()

    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=SECONDS)

    assert process.returncode == 130
    assert errors == "Interrupted.\n"
