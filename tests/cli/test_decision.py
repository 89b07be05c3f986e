"""`veriff-async decision`, in terminals and for programs, against a sandbox."""

from __future__ import annotations

import json
import re
import signal
from threading import Event
from typing import TYPE_CHECKING, Final

import anyio
import pytest

from tests.conditions import needs_posix
from veriff_async import Media, Person, VeriffClient
from veriff_async.sandbox import Sandbox

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from click.testing import Result

    Invoke = Callable[..., Result]
    Start = Callable[..., subprocess.Popen[str]]
    StartInTerminal = Callable[..., tuple[subprocess.Popen[bytes], int]]
    RunInTerminal = Callable[..., tuple[int, str]]
    ReadUntil = Callable[[int, str | None], str]

SECONDS: Final = 60.0
UNKNOWN: Final = "8f0d1ab6-1b47-47fc-a4fc-f72b6d3584a7"
PICTURE: Final = b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(1000) + b"\xff\xd9"


def submit_session(sandbox: Sandbox, *media: Media) -> str:
    """Submit a session, and return its id."""

    async def work() -> str:
        async with VeriffClient.from_env(sandbox.environ) as veriff:
            session = await veriff.create_session(person=Person(first_name="Grace"))
            await session.upload(*(media or (Media(PICTURE, "face"),)))
            await session.submit()
            return session.id

    return anyio.run(work)


def test_missing_decision_is_exit_code_4_without_an_error(
    run_in_terminal: RunInTerminal, invoke: Invoke, manual_sandbox: Sandbox
) -> None:
    """People read a sentence and programs null; a review is an intermediate status, so it is exit code 4 too."""
    session_id = submit_session(manual_sandbox)
    code, written = run_in_terminal("decision", session_id, **manual_sandbox.environ)
    manual_sandbox.decide(session_id, "review")
    reviewed = invoke("decision", session_id, "--json", **manual_sandbox.environ)

    assert (code, written) == (4, f"Session {session_id} has no decision yet.\r\n")
    assert (reviewed.exit_code, reviewed.stderr) == (4, "")
    assert json.loads(reviewed.stdout)["decision"]["status"] == "review"


def test_approval_is_exit_code_0_and_hides_the_person(invoke: Invoke, manual_sandbox: Sandbox) -> None:
    """--show-person adds the person, without control characters."""
    session_id = submit_session(manual_sandbox)
    undecided = invoke("decision", session_id, "--json", **manual_sandbox.environ)
    manual_sandbox.decide(session_id, "approved", person=Person(first_name="Grace\x1b[2J", last_name="Hopper"))

    shown = invoke("decision", session_id, **manual_sandbox.environ)
    with_person = invoke("decision", session_id, "--show-person", **manual_sandbox.environ)

    assert json.loads(undecided.stdout) == {"session_id": session_id, "decision": None}
    assert (shown.exit_code, with_person.exit_code) == (0, 0)
    assert "status: approved" in shown.stdout
    assert "Grace" not in shown.stdout
    assert "first name: Grace?[2J\n" in with_person.stdout


def test_wait_in_a_terminal_ends_with_a_table(
    start_in_terminal: StartInTerminal, read_until: ReadUntil, manual_sandbox: Sandbox
) -> None:
    """--wait waits for a decision and prints its table; a decline is exit code 3."""
    session_id = submit_session(manual_sandbox)
    process, terminal = start_in_terminal("decision", session_id, "--wait", **manual_sandbox.environ)
    read_until(terminal, "Waiting for the decision")

    manual_sandbox.decide(session_id, "declined")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", read_until(terminal, None))

    assert process.wait(SECONDS) == 3
    assert re.search(r"│ status +│ declined +│", text)
    assert re.search(r"│ reason code +│ \d+ +│", text)


def test_unknown_session_is_an_error_without_advice_to_wait(invoke: Invoke, auto_sandbox: Sandbox) -> None:
    """People read one sentence and programs an object with the HTTP status; the exit code is 1."""
    result = invoke("decision", UNKNOWN, "--wait", **auto_sandbox.environ)
    error = json.loads(invoke("decision", UNKNOWN, "--json", **auto_sandbox.environ).stderr)["error"]

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Waiting for the decision")
    assert result.stderr.count("\n") == 2
    assert (error["type"], error["status"], error["session_id"]) == ("NotFoundError", 404, UNKNOWN)
    assert "advice" not in error


@needs_posix
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_ctrl_c_while_waiting_prints_the_command_to_continue(start: Start, form: tuple[str, ...]) -> None:
    """The exit code is 130; programs read the session and the command as JSON."""
    is_polled = Event()
    with Sandbox(on_request=lambda request: is_polled.set() if request.path.endswith("/decision") else None) as sandbox:
        session_id = submit_session(sandbox)
        process = start("decision", session_id, "--wait", *form, **sandbox.environ)
        assert is_polled.wait(SECONDS)

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


def test_timeout_is_exit_code_4_with_the_command_to_continue(invoke: Invoke, manual_sandbox: Sandbox) -> None:
    """A timeout prints one sentence and the command that waits again."""
    session_id = submit_session(manual_sandbox)

    result = invoke("decision", session_id, "--wait", "--timeout", "0.01", **manual_sandbox.environ)

    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr.splitlines()[-1] == f"To continue waiting: veriff-async decision {session_id} --wait"
    assert "Error: No decision" in result.stderr
