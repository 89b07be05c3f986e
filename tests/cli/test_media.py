"""`veriff-async media`, in terminals and for programs, against a sandbox."""

from __future__ import annotations

import json
import re
import signal
from typing import TYPE_CHECKING, Final

import anyio

from tests.cli.conftest import strip_escapes
from tests.conditions import needs_posix
from veriff_async import Media, VeriffClient
from veriff_async.sandbox import Fault

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    from veriff_async.sandbox import Sandbox

    Invoke = Callable[..., Result]
    StartInTerminal = Callable[..., tuple[subprocess.Popen[bytes], int]]
    RunInTerminal = Callable[..., tuple[int, str]]
    ReadUntil = Callable[[int, str | None], str]

SECONDS: Final = 60.0
UNKNOWN: Final = "8f0d1ab6-1b47-47fc-a4fc-f72b6d3584a7"
HEAD: Final = b"\xff\xd8\xff\xe0\x00\x10JFIF"
FRONT: Final = HEAD + bytes(200_000) + b"\xff\xd9"
FACE: Final = HEAD + bytes(300_000) + b"\xff\xd9"
AGAIN: Final = HEAD + bytes(1000) + b"\xff\xd9"


def submit_two_attempts(sandbox: Sandbox) -> str:
    """Submit two pictures, and a third one in a second attempt; return the session's id."""

    async def work() -> str:
        async with VeriffClient.from_env(sandbox.environ) as veriff:
            session = await veriff.create_session()
            await session.upload(Media(FRONT, "document-front"), Media(FACE, "face"))
            await session.submit()
            sandbox.decide(session.id, "resubmission_requested")
            await session.upload(Media(AGAIN, "document-front"))
            await session.submit()
            return session.id

    return anyio.run(work)


def test_list_is_a_table_for_people_and_objects_for_programs(
    run_in_terminal: RunInTerminal, invoke: Invoke, manual_sandbox: Sandbox
) -> None:
    """The list has the media of the newest attempt; --all-attempts adds those of earlier attempts."""
    session_id = submit_two_attempts(manual_sandbox)
    (newest,) = manual_sandbox.session(session_id).attempts[-1].media

    code, written = run_in_terminal("media", "list", session_id, **manual_sandbox.environ)
    every = invoke("media", "list", session_id, "--all-attempts", "--json", **manual_sandbox.environ)

    media_rows = json.loads(every.stdout)["media"]
    assert code == 0
    assert re.search(rf"│ {newest.id} +│ document-front +│ image/jpeg +│ {len(AGAIN)} +│", strip_escapes(written))
    assert strip_escapes(written).count("image/jpeg") == 1
    assert (every.exit_code, every.stderr) == (0, "")
    assert {row["id"] for row in media_rows} == {media.id for media in manual_sandbox.session(session_id).media}
    assert sorted(row["size"] for row in media_rows) == [len(AGAIN), len(FRONT), len(FACE)]
    assert len({row["attempt_id"] for row in media_rows}) == 2
    assert {row["kind"] for row in media_rows} == {"picture"}


def test_download_shows_bars_and_keeps_existing_files(
    run_in_terminal: RunInTerminal, invoke: Invoke, manual_sandbox: Sandbox, tmp_path: Path
) -> None:
    """The first download writes whole files; a second one is refused with the option that skips existing files."""
    session_id, folder = submit_two_attempts(manual_sandbox), tmp_path / "files"
    command = ("media", "download", session_id, "--to", str(folder), "--all-attempts")

    code, written = run_in_terminal(*command, **manual_sandbox.environ)
    refused = invoke(*command, **manual_sandbox.environ)
    skipped = invoke(*command, "--if-exists", "skip", "--json", **manual_sandbox.environ)

    assert code == 0, written
    for media in manual_sandbox.session(session_id).media:
        assert re.search(rf"{media.id[:8]} +━+ *100%", strip_escapes(written))
    assert sorted(path.read_bytes() for path in folder.iterdir()) == sorted([AGAIN, FRONT, FACE])
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert refused.exit_code == 1
    assert "--if-exists skip" in refused.stderr
    assert (skipped.exit_code, skipped.stderr) == (0, "")
    media_rows = json.loads(skipped.stdout)["downloaded"]
    assert {row["path"] for row in media_rows} == {str(path) for path in folder.iterdir()}
    assert all(row["skipped"] for row in media_rows)


def test_media_id_downloads_only_that_file(invoke: Invoke, manual_sandbox: Sandbox, tmp_path: Path) -> None:
    """An id that the session does not have is refused before any download."""
    session_id, folder = submit_two_attempts(manual_sandbox), tmp_path / "files"
    # The uploads of a call may arrive in any order.
    (face,) = (media for media in manual_sandbox.session(session_id).media if media.context == "face")
    command = ("media", "download", session_id, "--to", str(folder), "--all-attempts")

    unknown = invoke(*command, "--media-id", UNKNOWN, **manual_sandbox.environ)
    existed_before = folder.exists()
    result = invoke(*command, "--media-id", face.id, **manual_sandbox.environ)

    assert unknown.exit_code == 1
    assert UNKNOWN in unknown.stderr
    assert not existed_before
    assert result.exit_code == 0, result.stderr
    assert f"{face.id[:8]}: 0.30 MB received" in result.stderr
    (path,) = folder.iterdir()
    assert path.read_bytes() == FACE
    assert result.stdout == f"{path}\t0.30 MB\tnew\n"


@needs_posix
def test_ctrl_c_removes_the_partial_file_and_prints_the_command_to_continue(
    start_in_terminal: StartInTerminal, read_until: ReadUntil, manual_sandbox: Sandbox, tmp_path: Path
) -> None:
    """The command to continue skips files that are complete."""
    session_id, folder = submit_two_attempts(manual_sandbox), tmp_path / "my files"
    (media,) = manual_sandbox.session(session_id).attempts[-1].media
    manual_sandbox.inject(Fault.stall_response(after=500), method="GET", path="/v1/media/*")
    process, terminal = start_in_terminal(
        "media", "download", session_id, "--to", str(folder), **manual_sandbox.environ
    )
    written = read_until(terminal, media.id[:8])

    process.send_signal(signal.SIGINT)
    written += read_until(terminal, None)

    assert process.wait(SECONDS) == 130
    assert f"veriff-async media download {session_id} --to '{folder}' --if-exists skip\r\n" in written
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") >= 1
    assert [] == list(folder.iterdir())


def test_unknown_session_creates_no_folder_and_gives_no_advice(
    invoke: Invoke, auto_sandbox: Sandbox, tmp_path: Path
) -> None:
    """The error has the HTTP status, and nothing is written."""
    result = invoke("media", "download", UNKNOWN, "--to", str(tmp_path / "files"), "--json", **auto_sandbox.environ)

    error = json.loads(result.stderr)["error"]
    assert (result.exit_code, result.stdout) == (1, "")
    assert (error["type"], error["status"]) == ("NotFoundError", 404)
    assert "advice" not in error
    assert not (tmp_path / "files").exists()


def test_session_without_media_is_exit_code_0(invoke: Invoke, auto_sandbox: Sandbox) -> None:
    """The output is a sentence that names the session."""

    async def work() -> str:
        async with VeriffClient.from_env(auto_sandbox.environ) as veriff:
            return (await veriff.create_session()).id

    session_id = anyio.run(work)
    result = invoke("media", "list", session_id, **auto_sandbox.environ)

    assert (result.exit_code, result.stdout) == (0, f"Session {session_id} has no media.\n")
