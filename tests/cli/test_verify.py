"""`veriff-async verify`, as a process of its own, against a sandbox."""

from __future__ import annotations

import json
import re
import signal
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import pytest
from click.testing import CliRunner
from PIL import Image

from veriff_async import ConfigurationError, Person, Status
from veriff_async.cli._commands import cli
from veriff_async.cli.verify import read_person
from veriff_async.sandbox import Fault

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from veriff_async.sandbox import Sandbox

    Run = Callable[..., subprocess.CompletedProcess[str]]
    Start = Callable[..., subprocess.Popen[str]]
    StartInTerminal = Callable[..., tuple[subprocess.Popen[bytes], int]]
    RunInTerminal = Callable[..., tuple[int, str]]
    ReadUntil = Callable[[int, str | None], str]

ESCAPE: Final = "\x1b"
SECONDS: Final = 60.0


def plain(written: str) -> str:
    """Return what a terminal shows, without what moves its cursor and colours."""
    return re.sub(rf"{ESCAPE}\[[0-9;?]*[A-Za-z]", "", written)


def told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the one error that a run with --json told."""
    (line,) = done.stderr.splitlines()
    error: dict[str, Any] = json.loads(line)["error"]
    assert done.stdout == ""
    assert error["exit_code"] == done.returncode
    return error


def test_in_a_terminal_it_shows_bars_and_a_table_and_no_name(
    run_in_terminal: RunInTerminal, served: Sandbox, picture: str, tmp_path: Path
) -> None:
    """Each file has a bar under its context, the table says the status, and no file's nor person's name is shown."""
    person = tmp_path / "person.json"
    person.write_text('{"first_name": "Grace", "last_name": "Hopper"}')

    code, written = run_in_terminal(
        "verify", "--front", picture, "--face", picture, "--person", str(person), **served.environ
    )

    text, session = plain(written), served.sessions[-1]
    assert code == 0, text
    assert re.search(r"document-front +━+ *100%", text)
    assert re.search(r"│ status +│ approved +│", text)
    assert session.id in text
    assert {one.context for one in session.media} == {"document-front", "face"}
    assert session.person["firstName"] == "Grace"
    assert not {"ada-lovelace", "Grace", "Hopper"} & set(re.findall(r"[\w-]+", text))
    assert written.count(f"{ESCAPE}[?25l") == written.count(f"{ESCAPE}[?25h") >= 1


def test_programs_get_one_document_without_the_person(run: Run, served: Sandbox, picture: str) -> None:
    """--json writes one document and nothing else; the exit code of a decision that is no approval is 3."""
    done = run(
        "verify",
        *("--back", picture, "--media", f"address-front={picture}", "--vendor-data", "user-42"),
        *("--person", "-", "--json"),
        given='{"first_name": "Decline", "last_name": "Hopper"}',
        **served.environ,
    )

    document, session = json.loads(done.stdout), served.sessions[-1]
    assert (done.returncode, done.stderr) == (3, "")
    assert document["session_id"] == document["decision"]["session_id"] == session.id
    assert document["decision"]["status"] == "declined"
    assert document["decision"]["reason_code"] is not None
    assert [one["context"] for one in document["uploaded"]] == ["document-back", "address-front"]
    assert session.vendor_data == "user-42"
    assert set(document) == {"session_id", "decision", "uploaded"}
    assert "Hopper" not in done.stdout


def test_who_asks_gets_the_person_and_the_whole_answer(run: Run, served: Sandbox, picture: str, tmp_path: Path) -> None:
    """--show-person adds both; the credentials may come from the lines that the sandbox command prints."""
    env_file = tmp_path / "veriff.env"
    env_file.touch(0o600)
    env_file.write_text("".join(f"export {name}={value}\n" for name, value in served.environ.items()))

    done = run(
        *("verify", "--face", picture, "--person", "-", "--json", "--show-person", "--env-file", str(env_file)),
        given='{"first_name": "Grace"}',
        VERIFF_BASE_URL="http://127.0.0.1:9",
    )

    document = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert document["person"]["first_name"] == "Grace"
    assert document["raw"]["verification"]["person"]["firstName"] == "Grace"


def test_without_waiting_it_ends_with_the_submission(run: Run, patient: Sandbox, picture: str) -> None:
    """--no-wait writes the id, says how to go on, and is done: exit code 0."""
    done = run("verify", "--face", picture, "--no-wait", **patient.environ)

    (session,) = patient.sessions
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"  session id: {session.id}\n"
    assert f"veriff-async decision {session.id} --wait" in done.stderr
    assert session.status == Status.SUBMITTED


def test_no_decision_in_time_says_how_to_go_on(run: Run, patient: Sandbox, picture: str) -> None:
    """Exit code 4, and the error has the session and the command that waits on."""
    error = told(run("verify", "--face", picture, "--timeout", "0.01", "--json", **patient.environ))

    (session,) = patient.sessions
    assert error["type"] == "DecisionTimeoutError"
    assert error["exit_code"] == 4
    assert error["session_id"] == session.id
    assert error["advice"].endswith(f"veriff-async decision {session.id} --wait")


def test_ctrl_c_while_waiting_gives_the_terminal_back_and_says_how_to_go_on(
    start_in_terminal: StartInTerminal, read_until: ReadUntil, patient: Sandbox, picture: str, tmp_path: Path
) -> None:
    """Exit code 130, the session goes on, and the advice speaks as the same integration."""
    env_file = tmp_path / "my env"
    env_file.touch(0o600)
    env_file.write_text("".join(f"{name}={value}\n" for name, value in patient.environ.items()))
    process, terminal = start_in_terminal("verify", "--face", picture, "--env-file", str(env_file))
    written = read_until(terminal, "Waiting for the decision")

    process.send_signal(signal.SIGINT)
    written += read_until(terminal, None)

    (session,) = patient.sessions
    assert process.wait(SECONDS) == 130
    assert f"Interrupted.\r\nTo continue waiting: veriff-async decision {session.id} --wait --env-file '" in written
    assert written.count(f"{ESCAPE}[?25l") == written.count(f"{ESCAPE}[?25h") >= 1
    assert "Traceback" not in written


def test_ctrl_c_while_uploading_says_that_nothing_was_submitted(start: Start, patient: Sandbox, picture: str) -> None:
    """There is no command that goes on with it, so the advice is to begin again."""
    patient.inject(Fault.hang(), method="POST", path="/v1/sessions/*/media", times=9)
    process = start("verify", "--face", picture, **patient.environ)
    assert process.stderr is not None
    while "Uploading" not in (line := process.stderr.readline()):
        assert line

    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=SECONDS)

    (session,) = patient.sessions
    assert process.returncode == 130
    assert (
        errors == f"Interrupted.\nSession {session.id} was not submitted; running the same command creates a new one.\n"
    )


def test_a_file_that_veriff_does_not_take_makes_no_session(run: Run, patient: Sandbox, tmp_path: Path) -> None:
    """Files are looked at before anything is sent; the refusal is one sentence, without the file's name."""
    text = tmp_path / "ada-lovelace.jpg"
    text.write_text("I am no picture.")

    done = run("verify", "--face", str(text), **patient.environ)

    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert "ada-lovelace" not in done.stderr
    assert patient.requests == ()


@pytest.mark.parametrize(
    "arguments",
    [(), ("--media", "face"), ("--media", "face=/no/such/file"), ("--front", "/no/such/file"), ("--first-name", "Ada")],
)
def test_wrong_use_is_said_before_anything_is_done(arguments: tuple[str, ...]) -> None:
    """Nothing to verify, no file, no context, or a name as an argument: exit code 2."""
    assert CliRunner().invoke(cli, ["verify", *arguments]).exit_code == 2


def test_large_pictures_are_said_once_and_scaled_on_demand(run: Run, served: Sandbox, tmp_path: Path) -> None:
    """A picture above Veriff's advice is a warning that names --max-side, an object with --json."""
    large = tmp_path / "large.jpg"
    Image.new("RGB", (2000, 40)).save(large)

    warned = run("verify", "--face", str(large), "--json", **served.environ)
    sent_whole = served.sessions[-1].media[0].size
    fitted = run("verify", "--face", str(large), "--json", "--max-side", "200", **served.environ)

    assert (warned.returncode, fitted.returncode, fitted.stderr) == (0, 0, "")
    assert "--max-side 1920" in json.loads(warned.stderr)["warning"]
    assert sent_whole == large.stat().st_size > served.sessions[-1].media[0].size


def test_a_person_is_read_in_the_names_of_the_model() -> None:
    """What the file says is what the session is created with."""
    person = read_person(BytesIO(b'{"first_name": "Ada", "gender": "F", "date_of_birth": "1815-12-10"}'))

    assert person == Person(first_name="Ada", gender=person.gender, date_of_birth="1815-12-10")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"Lovelace", "must be a JSON object"),
        (b'["Lovelace"]', "must be a JSON object"),
        (b'{"first_name": "Lovelace"', "must be a JSON object"),
        (b'{"first_name": "' + bytes(70_000) + b'"}', "must be a JSON object"),
        (b"\xff", "must be a JSON object"),
        (b'{"first_name": "Ada", "Lovelace": "x"}', "Member 2"),
        (b'{"raw": "Lovelace"}', "Member 1"),
        (b'{"first_name": ["Lovelace"]}', "first_name"),
    ],
)
def test_a_person_that_cannot_be_read_is_not_quoted(text: bytes, words: str) -> None:
    """The error says where it is wrong, and shows nothing of what stands there."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        read_person(BytesIO(text))

    assert "Lovelace" not in str(caught.value)
    assert caught.value.__context__ is None
