"""`veriff-async verify`, in terminals and for programs, against a sandbox."""

from __future__ import annotations

import json
import re
import signal
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import pytest
from click.testing import CliRunner
from PIL import Image

from tests.cli.conftest import strip_escapes
from tests.conditions import needs_posix
from veriff_async import ConfigurationError, Person, Status
from veriff_async.cli._commands import cli
from veriff_async.cli.verify import read_person
from veriff_async.sandbox import Fault

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    from veriff_async.sandbox import Sandbox

    Invoke = Callable[..., Result]
    Start = Callable[..., subprocess.Popen[str]]
    StartInTerminal = Callable[..., tuple[subprocess.Popen[bytes], int]]
    RunInTerminal = Callable[..., tuple[int, str]]
    ReadUntil = Callable[[int, str | None], str]

ESCAPE: Final = "\x1b"
SECONDS: Final = 60.0


def read_error(result: Result) -> dict[str, Any]:
    """Return the only error that a run with --json wrote."""
    (line,) = result.stderr.splitlines()
    error: dict[str, Any] = json.loads(line)["error"]
    assert result.stdout == ""
    assert error["exit_code"] == result.exit_code
    return error


def test_verify_in_a_terminal_shows_bars_and_a_table_without_names(
    run_in_terminal: RunInTerminal, auto_sandbox: Sandbox, picture: str, tmp_path: Path
) -> None:
    """Each file has a bar under its context, the table has the status, and no name of a file or person is shown."""
    person = tmp_path / "person.json"
    person.write_text('{"first_name": "Grace", "last_name": "Hopper"}')

    code, written = run_in_terminal(
        "verify", "--front", picture, "--face", picture, "--person", str(person), **auto_sandbox.environ
    )

    text, session = strip_escapes(written), auto_sandbox.sessions[-1]
    assert code == 0, text
    assert re.search(r"document-front +━+ *100%", text)
    assert re.search(r"│ status +│ approved +│", text)
    assert session.id in text
    assert {media.context for media in session.media} == {"document-front", "face"}
    assert session.person["firstName"] == "Grace"
    assert not {"ada-lovelace", "Grace", "Hopper"} & set(re.findall(r"[\w-]+", text))
    assert written.count(f"{ESCAPE}[?25l") == written.count(f"{ESCAPE}[?25h") >= 1


def test_json_is_one_document_without_the_person(invoke: Invoke, auto_sandbox: Sandbox, picture: str) -> None:
    """--json writes only one document; a decision other than an approval is exit code 3."""
    result = invoke(
        "verify",
        *("--back", picture, "--media", f"address-front={picture}", "--vendor-data", "user-42"),
        *("--person", "-", "--json"),
        stdin='{"first_name": "Decline", "last_name": "Hopper"}',
        **auto_sandbox.environ,
    )

    document, session = json.loads(result.stdout), auto_sandbox.sessions[-1]
    assert (result.exit_code, result.stderr) == (3, "")
    assert document["session_id"] == document["decision"]["session_id"] == session.id
    assert document["decision"]["status"] == "declined"
    assert document["decision"]["reason_code"] is not None
    assert [upload["context"] for upload in document["uploaded"]] == ["document-back", "address-front"]
    assert session.vendor_data == "user-42"
    assert set(document) == {"session_id", "decision", "uploaded"}
    assert "Hopper" not in result.stdout


def test_show_person_adds_the_person_and_the_raw_response(
    invoke: Invoke, auto_sandbox: Sandbox, picture: str, tmp_path: Path
) -> None:
    """The credentials may come from the lines that the sandbox command prints."""
    env_file = tmp_path / "veriff.env"
    env_file.touch(0o600)
    env_file.write_text("".join(f"export {name}={value}\n" for name, value in auto_sandbox.environ.items()))

    result = invoke(
        *("verify", "--face", picture, "--person", "-", "--json", "--show-person", "--env-file", str(env_file)),
        stdin='{"first_name": "Grace"}',
        VERIFF_BASE_URL="http://127.0.0.1:9",
    )

    document = json.loads(result.stdout)
    assert (result.exit_code, result.stderr) == (0, "")
    assert document["person"]["first_name"] == "Grace"
    assert document["raw"]["verification"]["person"]["firstName"] == "Grace"


def test_no_wait_ends_after_the_submission(invoke: Invoke, manual_sandbox: Sandbox, picture: str) -> None:
    """--no-wait prints the session's id and the command to continue; the exit code is 0."""
    result = invoke("verify", "--face", picture, "--no-wait", **manual_sandbox.environ)

    (session,) = manual_sandbox.sessions
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"  session id: {session.id}\n"
    assert f"veriff-async decision {session.id} --wait" in result.stderr
    assert session.status == Status.SUBMITTED


def test_refused_creation_differs_from_one_without_a_response(
    invoke: Invoke, manual_sandbox: Sandbox, picture: str
) -> None:
    """After a refusal there is no session to look for; without a response there may be one, so the advice names it."""
    wrong = {**manual_sandbox.environ, "VERIFF_API_KEY": "00000000-0000-4000-8000-000000000000"}

    refused = read_error(invoke("verify", "--face", picture, "--json", **wrong))
    manual_sandbox.inject(Fault.lose_response(), method="POST", path="/v1/sessions")
    unknown = read_error(
        invoke("verify", "--face", picture, "--vendor-data", "order-7", "--json", **manual_sandbox.environ)
    )

    assert ("AuthenticationError", None) == (refused["type"], refused.get("advice"))
    assert "OutcomeUnknownError" == unknown["type"]
    assert "by its vendor_data order-7" in unknown["advice"]


def test_timeout_names_the_session_and_the_command_to_continue(
    invoke: Invoke, manual_sandbox: Sandbox, picture: str
) -> None:
    """A timeout is exit code 4."""
    error = read_error(invoke("verify", "--face", picture, "--timeout", "0.01", "--json", **manual_sandbox.environ))

    (session,) = manual_sandbox.sessions
    assert error["type"] == "DecisionTimeoutError"
    assert error["exit_code"] == 4
    assert error["session_id"] == session.id
    assert error["advice"].endswith(f"veriff-async decision {session.id} --wait")


@needs_posix
def test_ctrl_c_while_waiting_restores_the_terminal_and_prints_the_command_to_continue(
    start_in_terminal: StartInTerminal, read_until: ReadUntil, manual_sandbox: Sandbox, picture: str, tmp_path: Path
) -> None:
    """The exit code is 130, and the printed command uses the same credentials."""
    env_file = tmp_path / "my env"
    env_file.touch(0o600)
    env_file.write_text("".join(f"{name}={value}\n" for name, value in manual_sandbox.environ.items()))
    process, terminal = start_in_terminal("verify", "--face", picture, "--env-file", str(env_file))
    written = read_until(terminal, "Waiting for the decision")

    process.send_signal(signal.SIGINT)
    written += read_until(terminal, None)

    (session,) = manual_sandbox.sessions
    assert process.wait(SECONDS) == 130
    assert f"Interrupted.\r\nTo continue waiting: veriff-async decision {session.id} --wait --env-file '" in written
    assert written.count(f"{ESCAPE}[?25l") == written.count(f"{ESCAPE}[?25h") >= 1
    assert "Traceback" not in written


@needs_posix
def test_ctrl_c_while_uploading_reports_that_nothing_was_submitted(
    start: Start, manual_sandbox: Sandbox, picture: str
) -> None:
    """No command can continue an upload, so the advice is to run the same command again."""
    manual_sandbox.inject(Fault.hang(), method="POST", path="/v1/sessions/*/media", times=9)
    process = start("verify", "--face", picture, **manual_sandbox.environ)
    assert process.stderr is not None
    while "Uploading" not in (line := process.stderr.readline()):
        assert line

    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=SECONDS)

    (session,) = manual_sandbox.sessions
    assert process.returncode == 130
    assert (
        errors == f"Interrupted.\nSession {session.id} was not submitted; running the same command creates a new one.\n"
    )


def test_unsupported_file_creates_no_session(invoke: Invoke, manual_sandbox: Sandbox, tmp_path: Path) -> None:
    """Files are inspected before the first request; the error is one sentence without the file's name."""
    text = tmp_path / "ada-lovelace.jpg"
    text.write_text("This file is not a picture.")

    result = invoke("verify", "--face", str(text), **manual_sandbox.environ)

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert "ada-lovelace" not in result.stderr
    assert manual_sandbox.requests == ()


@pytest.mark.parametrize(
    "arguments",
    [(), ("--media", "face"), ("--media", "face=/no/such/file"), ("--front", "/no/such/file"), ("--first-name", "Ada")],
)
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    """No media, no file, no context, or a name as an argument: exit code 2."""
    assert CliRunner().invoke(cli, ["verify", *arguments]).exit_code == 2


def test_large_picture_gives_a_warning_and_max_side_scales_it(
    invoke: Invoke, auto_sandbox: Sandbox, tmp_path: Path
) -> None:
    """A picture above Veriff's recommended size gives one warning that names --max-side."""
    large = tmp_path / "large.jpg"
    Image.new("RGB", (2000, 40)).save(large)

    warned = invoke("verify", "--face", str(large), "--json", **auto_sandbox.environ)
    original_size = auto_sandbox.sessions[-1].media[0].size
    scaled = invoke("verify", "--face", str(large), "--json", "--max-side", "200", **auto_sandbox.environ)

    assert (warned.exit_code, scaled.exit_code, scaled.stderr) == (0, 0, "")
    warning = json.loads(warned.stderr)["warning"]
    assert warning.endswith("the longer side: --max-side 1920 scales it down.")
    assert original_size == large.stat().st_size > auto_sandbox.sessions[-1].media[0].size


def test_pictures_of_other_types_are_converted(invoke: Invoke, auto_sandbox: Sandbox, tmp_path: Path) -> None:
    """--convert and --max-bytes make a JPEG of a type that Veriff does not accept."""
    scan = tmp_path / "scan.tif"
    Image.effect_noise((500, 400), 90).save(scan)

    refused = invoke("verify", "--face", str(scan), **auto_sandbox.environ)
    done = invoke("verify", "--face", str(scan), "--convert", "jpeg", "--max-bytes", "60000", **auto_sandbox.environ)

    assert (refused.exit_code, done.exit_code) == (1, 0)
    assert 'pass convert="jpeg"' in refused.stderr
    (stored,) = auto_sandbox.sessions[-1].media
    assert ("image/jpeg", True) == (stored.mimetype, stored.size <= 60_000)


def test_person_file_uses_the_field_names_of_the_model() -> None:
    """The session is created with the fields in the file."""
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
def test_invalid_person_file_is_not_quoted(text: bytes, words: str) -> None:
    """The error names the position of the mistake and shows no content."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        read_person(BytesIO(text))

    assert "Lovelace" not in str(caught.value)
    assert caught.value.__context__ is None
