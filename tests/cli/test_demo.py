"""`veriff-async demo`, as a process of its own."""

from __future__ import annotations

import json
import re
import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[str]]
    RunInTerminal = Callable[..., tuple[int, str]]
    Start = Callable[..., subprocess.Popen[str]]

ESCAPE = "\x1b"
SECONDS = 60.0


def test_the_demo_runs_the_whole_flow_without_being_given_anything(run: Run) -> None:
    """With no arguments it verifies the specimens, and tells what happened and what comes next."""
    done = run("demo")

    assert done.returncode == 0, done.stderr
    assert "status: approved" in done.stdout
    assert "What just happened" in done.stdout
    assert all(name in done.stdout for name in ("VERIFF_API_KEY", "VERIFF_SHARED_SECRET", "VERIFF_BASE_URL"))
    assert "Customer Portal" in done.stdout
    assert done.stderr == ""


def test_without_a_terminal_the_demo_writes_plain_lines(run: Run) -> None:
    """No escape sequence, no carriage return, and one line for each file with the bytes that went out."""
    done = run("demo")

    assert ESCAPE not in done.stdout
    assert "\r" not in done.stdout
    for name in ("document-front.jpg", "document-back.jpg", "face.jpg"):
        assert len(re.findall(rf"^  {name}: 0\.\d\d MB sent$", done.stdout, re.MULTILINE)) == 1


def test_colour_that_is_forced_into_a_pipe_does_not_bring_moving_bars(run: Run) -> None:
    """FORCE_COLOR colours the text but nothing is drawn over, because a file keeps every frame."""
    done = run("demo", FORCE_COLOR="1")

    assert done.returncode == 0
    assert f"{ESCAPE}[1A" not in done.stdout
    assert f"{ESCAPE}[?25l" not in done.stdout


def test_in_a_terminal_the_demo_shows_a_bar_for_each_file_and_a_table(
    run_in_terminal: RunInTerminal,
) -> None:
    """Each file has a bar that ends at 100 % of the real bytes, and the cursor comes back."""
    code, written = run_in_terminal("demo")
    text = re.sub(rf"{ESCAPE}\[[0-9;?]*[A-Za-z]", "", written)

    assert code == 0
    for name in ("document-front.jpg", "document-back.jpg", "face.jpg"):
        assert re.search(rf"{name} +━+ *100% (\d+\.?\d*)/\1 kB", text)
    assert "Decision" in text
    assert re.search(r"│ status +│ approved +│", text)
    assert written.count(f"{ESCAPE}[?25l") == written.count(f"{ESCAPE}[?25h") >= 1


def test_no_color_is_honoured(run_in_terminal: RunInTerminal) -> None:
    """With NO_COLOR set, a terminal gets bars without any colour."""
    code, written = run_in_terminal("demo", NO_COLOR="1")

    assert code == 0
    assert not re.search(rf"{ESCAPE}\[[0-9;]*(3[0-7]|9[0-7]|38;|48;)[0-9;]*m", written)


def test_a_dumb_terminal_gets_plain_lines(run_in_terminal: RunInTerminal) -> None:
    """TERM=dumb is a terminal that cannot move its cursor."""
    code, written = run_in_terminal("demo", TERM="dumb")

    assert code == 0
    assert "document-front.jpg: 0." in written
    assert ESCAPE not in written


def test_the_demo_speaks_to_programs_as_json(run: Run) -> None:
    """With --json standard output is one JSON document and nothing else."""
    done = run("demo", "--json")
    outcome = json.loads(done.stdout)

    assert done.stderr == ""
    assert outcome["decision"]["status"] == "approved"
    assert [one["context"] for one in outcome["uploaded"]] == ["document-front", "document-back", "face"]
    assert outcome["bytes"]["files"] == sum(one["size"] for one in outcome["uploaded"]) > 1_000_000
    assert outcome["bytes"]["sent"] > outcome["bytes"]["files"] * 4 / 3
    assert "person" not in outcome


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_personal_data_is_shown_only_when_asked_for(run: Run, form: tuple[str, ...]) -> None:
    """The person's name stays out of the output without --show-person, and is there with it."""
    assert "Ada" not in run("demo", *form).stdout
    assert "Ada" in run("demo", *form, "--show-person").stdout


def test_own_pictures_take_the_place_of_specimens(run: Run, tmp_path: Path) -> None:
    """A file that is given is the one that is uploaded, to its last byte."""
    mine = tmp_path / "mine.jpg"
    mine.write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(70_000) + b"\xff\xd9")

    outcome = json.loads(run("demo", "--json", "--face", str(mine)).stdout)

    assert outcome["uploaded"][2] | {"id": None} == {
        "context": "face",
        "id": None,
        "size": mine.stat().st_size,
    }


def test_a_file_that_is_missing_is_wrong_usage(run: Run, tmp_path: Path) -> None:
    """The path is checked before anything starts, with exit code 2."""
    done = run("demo", "--front", str(tmp_path / "nothing.jpg"))

    assert done.returncode == 2
    assert "does not exist" in done.stderr


def test_an_error_of_the_library_is_one_sentence(run: Run, tmp_path: Path) -> None:
    """A file that is no picture ends the demo with exit code 1, and without a traceback."""
    text = tmp_path / "text.jpg"
    text.write_text("I am no picture.")

    done = run("demo", "--back", str(text))

    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1


def test_ctrl_c_ends_the_demo_at_once(start: Start) -> None:
    """SIGINT while it works gives exit code 130 and one word, not a traceback."""
    process = start("demo")
    assert process.stdout is not None
    assert process.stdout.readline()

    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=SECONDS)

    assert process.returncode == 130
    assert errors == "Interrupted.\n"
