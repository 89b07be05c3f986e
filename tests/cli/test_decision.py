"""`veriff-async decision`, as a process of its own, against a sandbox."""

from __future__ import annotations

import json
import re
import signal
from threading import Event
from typing import TYPE_CHECKING, Final

import anyio
import pytest

from veriff_async import Media, Person, VeriffClient
from veriff_async.sandbox import Sandbox

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    Run = Callable[..., subprocess.CompletedProcess[str]]
    Start = Callable[..., subprocess.Popen[str]]
    StartInTerminal = Callable[..., tuple[subprocess.Popen[bytes], int]]
    RunInTerminal = Callable[..., tuple[int, str]]
    ReadUntil = Callable[[int, str | None], str]

SECONDS: Final = 60.0
UNKNOWN: Final = "8f0d1ab6-1b47-47fc-a4fc-f72b6d3584a7"
PICTURE: Final = b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(1000) + b"\xff\xd9"


def submitted(sandbox: Sandbox) -> str:
    """Submit a session, and return its id."""

    async def work() -> str:
        async with VeriffClient.from_env(sandbox.environ) as veriff:
            session = await veriff.create_session(person=Person(first_name="Grace"))
            await session.upload(Media(PICTURE, "face"))
            await session.submit()
            return session.id

    return anyio.run(work)


def test_what_is_not_decided_is_no_error(run_in_terminal: RunInTerminal, run: Run, patient: Sandbox) -> None:
    """Exit code 4, and a sentence, or null for a program; a review announces a decision, and is none yet."""
    session_id = submitted(patient)
    code, written = run_in_terminal("decision", session_id, **patient.environ)
    patient.decide(session_id, "review")
    reviewed = run("decision", session_id, "--json", **patient.environ)

    assert (code, written) == (4, f"Session {session_id} has no decision yet.\r\n")
    assert (reviewed.returncode, reviewed.stderr) == (4, "")
    assert json.loads(reviewed.stdout)["decision"]["status"] == "review"


def test_an_approval_is_success_and_shows_no_person(run: Run, patient: Sandbox) -> None:
    """Exit code 0; the person is in the output of whoever asks for it, without what moves a cursor."""
    session_id = submitted(patient)
    undecided = run("decision", session_id, "--json", **patient.environ)
    patient.decide(session_id, "approved", person=Person(first_name="Grace\x1b[2J", last_name="Hopper"))

    shown = run("decision", session_id, **patient.environ)
    asked = run("decision", session_id, "--show-person", **patient.environ)

    assert json.loads(undecided.stdout) == {"session_id": session_id, "decision": None}
    assert (shown.returncode, asked.returncode) == (0, 0)
    assert "status: approved" in shown.stdout
    assert "Grace" not in shown.stdout
    assert "first name: Grace?[2J\n" in asked.stdout


def test_waiting_in_a_terminal_ends_with_the_table(
    start_in_terminal: StartInTerminal, read_until: ReadUntil, patient: Sandbox
) -> None:
    """--wait goes on until there is a decision; a decline is exit code 3."""
    session_id = submitted(patient)
    process, terminal = start_in_terminal("decision", session_id, "--wait", **patient.environ)
    read_until(terminal, "Waiting for the decision")

    patient.decide(session_id, "declined")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", read_until(terminal, None))

    assert process.wait(SECONDS) == 3
    assert re.search(r"│ status +│ declined +│", text)
    assert re.search(r"│ reason code +│ \d+ +│", text)


def test_a_session_that_is_unknown_has_nothing_to_go_on_with(run: Run, served: Sandbox) -> None:
    """Exit code 1 and one sentence, or one object with the status of HTTP, and no advice to wait on."""
    done = run("decision", UNKNOWN, "--wait", **served.environ)
    error = json.loads(run("decision", UNKNOWN, "--json", **served.environ).stderr)["error"]

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Waiting for the decision")
    assert done.stderr.count("\n") == 2
    assert (error["type"], error["status"], error["session_id"]) == ("NotFoundError", 404, UNKNOWN)
    assert "advice" not in error


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_ctrl_c_while_waiting_says_how_to_go_on(start: Start, form: tuple[str, ...]) -> None:
    """Exit code 130 with the command to give; a program reads session and advice."""
    asked = Event()
    with Sandbox(on_request=lambda seen: asked.set() if seen.path.endswith("/decision") else None) as sandbox:
        session_id = submitted(sandbox)
        process = start("decision", session_id, "--wait", *form, **sandbox.environ)
        assert asked.wait(SECONDS)

        process.send_signal(signal.SIGINT)
        written, errors = process.communicate(timeout=SECONDS)

    advice = f"To continue waiting: veriff-async decision {session_id} --wait"
    assert (process.returncode, written) == (130, "")
    if not form:
        assert errors.endswith(f"\nInterrupted.\n{advice}\n")
        return
    assert json.loads(errors)["error"] == {
        "type": "Interrupted",
        "message": "Interrupted.",
        "exit_code": 130,
        "session_id": session_id,
        "advice": advice,
    }


def test_no_decision_in_time_is_an_exit_code_of_its_own(run: Run, patient: Sandbox) -> None:
    """Exit code 4, a sentence, and how to go on."""
    session_id = submitted(patient)

    done = run("decision", session_id, "--wait", "--timeout", "0.01", **patient.environ)

    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.splitlines()[-1] == f"To continue waiting: veriff-async decision {session_id} --wait"
    assert "Error: No decision" in done.stderr
