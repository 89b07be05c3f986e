"""`veriff-async media`, as a process of its own, against a sandbox."""

from __future__ import annotations

import json
import re
import signal
from typing import TYPE_CHECKING, Final

import anyio

from veriff_async import Media, VeriffClient
from veriff_async.sandbox import Fault

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from veriff_async.sandbox import Sandbox

    Run = Callable[..., subprocess.CompletedProcess[str]]
    StartInTerminal = Callable[..., tuple[subprocess.Popen[bytes], int]]
    RunInTerminal = Callable[..., tuple[int, str]]
    ReadUntil = Callable[[int, str | None], str]

SECONDS: Final = 60.0
UNKNOWN: Final = "8f0d1ab6-1b47-47fc-a4fc-f72b6d3584a7"
HEAD: Final = b"\xff\xd8\xff\xe0\x00\x10JFIF"
FRONT: Final = HEAD + bytes(200_000) + b"\xff\xd9"
FACE: Final = HEAD + bytes(300_000) + b"\xff\xd9"
AGAIN: Final = HEAD + bytes(1000) + b"\xff\xd9"


def plain(written: str) -> str:
    """Return what a terminal shows, without what moves its cursor and colours."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)


def with_media(sandbox: Sandbox) -> str:
    """Submit a session with two pictures, and one more in its second attempt; return its id."""

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


def test_the_list_is_a_table_for_people_and_objects_for_programs(
    run_in_terminal: RunInTerminal, run: Run, patient: Sandbox
) -> None:
    """The newest attempt's media stand there, or with --all-attempts each file once, with its attempt."""
    session_id = with_media(patient)
    (newest,) = patient.session(session_id).attempts[-1].media

    code, written = run_in_terminal("media", "list", session_id, **patient.environ)
    every = run("media", "list", session_id, "--all-attempts", "--json", **patient.environ)

    found = json.loads(every.stdout)["media"]
    assert code == 0
    assert re.search(rf"│ {newest.id} +│ document-front +│ image/jpeg +│ {len(AGAIN)} +│", plain(written))
    assert plain(written).count("image/jpeg") == 1
    assert (every.returncode, every.stderr) == (0, "")
    assert {one["id"] for one in found} == {one.id for one in patient.session(session_id).media}
    assert sorted(one["size"] for one in found) == [len(AGAIN), len(FRONT), len(FACE)]
    assert len({one["attempt_id"] for one in found}) == 2
    assert {one["kind"] for one in found} == {"picture"}


def test_downloads_show_bars_and_leave_what_is_there(
    run_in_terminal: RunInTerminal, run: Run, patient: Sandbox, tmp_path: Path
) -> None:
    """Each file comes down whole; a second time is refused with its remedy, and skips on demand."""
    session_id, folder = with_media(patient), tmp_path / "files"
    order = ("media", "download", session_id, "--to", str(folder), "--all-attempts")

    code, written = run_in_terminal(*order, **patient.environ)
    refused = run(*order, **patient.environ)
    skipped = run(*order, "--if-exists", "skip", "--json", **patient.environ)

    assert code == 0, written
    for media in patient.session(session_id).media:
        assert re.search(rf"{media.id[:8]} +━+ *100%", plain(written))
    assert sorted(path.read_bytes() for path in folder.iterdir()) == sorted([AGAIN, FRONT, FACE])
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert refused.returncode == 1
    assert "--if-exists skip" in refused.stderr
    assert (skipped.returncode, skipped.stderr) == (0, "")
    found = json.loads(skipped.stdout)["downloaded"]
    assert {one["path"] for one in found} == {str(path) for path in folder.iterdir()}
    assert all(one["skipped"] for one in found)


def test_single_files_are_brought_by_their_ids(run: Run, patient: Sandbox, tmp_path: Path) -> None:
    """--media-id takes those alone; an id that the session does not have is refused before anything comes."""
    session_id, folder = with_media(patient), tmp_path / "files"
    face = patient.session(session_id).media[1]
    order = ("media", "download", session_id, "--to", str(folder), "--all-attempts")

    unknown = run(*order, "--media-id", UNKNOWN, **patient.environ)
    there_before = folder.exists()
    done = run(*order, "--media-id", face.id, **patient.environ)

    assert unknown.returncode == 1
    assert UNKNOWN in unknown.stderr
    assert not there_before
    assert done.returncode == 0, done.stderr
    assert f"{face.id[:8]}: 0.30 MB received" in done.stderr
    (path,) = folder.iterdir()
    assert path.read_bytes() == FACE
    assert done.stdout == f"{path}\t0.30 MB\tnew\n"


def test_ctrl_c_leaves_no_half_file_and_says_how_to_go_on(
    start_in_terminal: StartInTerminal, read_until: ReadUntil, patient: Sandbox, tmp_path: Path
) -> None:
    """A file that stalls half way is gone after Ctrl-C; the advice is the command that skips what is down."""
    session_id, folder = with_media(patient), tmp_path / "my files"
    (media,) = patient.session(session_id).attempts[-1].media
    patient.inject(Fault.stall_response(after=500), method="GET", path="/v1/media/*")
    process, terminal = start_in_terminal("media", "download", session_id, "--to", str(folder), **patient.environ)
    written = read_until(terminal, media.id[:8])

    process.send_signal(signal.SIGINT)
    written += read_until(terminal, None)

    assert process.wait(SECONDS) == 130
    assert f"veriff-async media download {session_id} --to '{folder}' --if-exists skip\r\n" in written
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") >= 1
    assert [] == list(folder.iterdir())


def test_an_unknown_session_is_one_sentence(run: Run, served: Sandbox, tmp_path: Path) -> None:
    """Nothing is made on the disk, and nothing is said of going on."""
    done = run("media", "download", UNKNOWN, "--to", str(tmp_path / "files"), "--json", **served.environ)

    error = json.loads(done.stderr)["error"]
    assert (done.returncode, done.stdout) == (1, "")
    assert (error["type"], error["status"]) == ("NotFoundError", 404)
    assert "advice" not in error
    assert not (tmp_path / "files").exists()


def test_no_media_is_no_error(run: Run, served: Sandbox) -> None:
    """A session without files says so."""

    async def work() -> str:
        async with VeriffClient.from_env(served.environ) as veriff:
            return (await veriff.create_session()).id

    session_id = anyio.run(work)
    done = run("media", "list", session_id, **served.environ)

    assert (done.returncode, done.stdout) == (0, f"Session {session_id} has no media.\n")
