"""Uploaded files are readable by their owner only, and do not outlive the process of their sandbox."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from base64 import b64decode
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import pytest

from tests.conditions import needs_posix
from veriff_async import Media, VeriffClient
from veriff_async.sandbox import Sandbox, VirtualClock
from veriff_async.sandbox._media_store import MediaStore
from veriff_async.sandbox._temp_folder import LockedTempFolder, lock_folder

if TYPE_CHECKING:
    from tests.sandbox.conftest import StartSandbox

PICTURE: Final = "/9j/4AAQSkZJRg=="
PROGRAM: Final = """
import sys
from veriff_async.sandbox._temp_folder import LockedTempFolder
folder = LockedTempFolder()
(folder.path / "picture").write_bytes(b"x")
print(folder.path, flush=True)
sys.stdin.read()
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions and signals")


@pytest.fixture(autouse=True)
def temp_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create temporary folders in the test's folder, also in its processes."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def holder() -> subprocess.Popen[str]:
    """Start a process that holds a folder."""
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603  our own


def read_folder(process: subprocess.Popen[str]) -> Path:
    """Return the folder that a process holds."""
    assert process.stdout is not None
    return Path(process.stdout.readline().strip())


def end_process(process: subprocess.Popen[str], number: int | None = None) -> None:
    """End a process, regularly or with a signal."""
    if number is not None:
        process.send_signal(number)
    process.communicate(timeout=30)


def mode_of(path: Path) -> int:
    """Return the permissions of a path."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("given", [True, False])
def test_files_are_readable_by_their_owner_only(tmp_path: Path, given: bool) -> None:  # noqa: FBT001
    """A file has mode 0600, in a folder of mode 0700 and in a user's folder that others can read."""
    folder = tmp_path / "mine"
    folder.mkdir(mode=0o755)
    before = os.umask(0)
    try:
        with Sandbox(media_folder=folder if given else None) as sandbox:
            path = anyio.run(_upload, sandbox)
            assert 0o600 == mode_of(path)
            assert (0o755 if given else 0o700) == mode_of(path.parent)
    finally:
        os.umask(before)


async def _upload(sandbox: Sandbox) -> Path:
    async with VeriffClient.from_env(sandbox.environ) as veriff:
        session = await veriff.create_session()
        await session.upload(Media(b64decode(PICTURE), "face"))
        return sandbox.session(session.id).media[0].path


def test_new_media_folder_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    """A given folder that did not exist is created for its owner only."""
    MediaStore(tmp_path / "new")
    assert 0o700 == mode_of(tmp_path / "new")


@needs_posix
def test_process_removes_its_folder_at_exit(holder: subprocess.Popen[str]) -> None:
    """A process that ends without stopping its sandbox removes the folder."""
    path = read_folder(holder)
    assert path.exists()
    end_process(holder)
    assert not path.exists()


@needs_posix
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_next_start_removes_the_folder_of_a_killed_process(holder: subprocess.Popen[str], number: int) -> None:
    """The files of a killed process are removed when the next sandbox starts."""
    path = read_folder(holder)
    end_process(holder, number)
    assert (path / "picture").exists()

    folder = LockedTempFolder()

    assert not path.exists()
    assert folder.path.exists()


@needs_posix
def test_running_sandbox_keeps_its_folder(holder: subprocess.Popen[str]) -> None:
    """Sandboxes that start and stop never remove the folder of another one, in any process."""
    path, own = read_folder(holder), LockedTempFolder()
    for _ in range(3):
        LockedTempFolder().remove()

    assert (path / "picture").exists()
    assert own.path.exists()
    end_process(holder)


@needs_posix
def test_forked_child_leaves_the_folder(tmp_path: Path) -> None:
    """A child process that exits leaves the folder to its parent."""
    program = (
        "import os, sys\n"
        "from veriff_async.sandbox._temp_folder import LockedTempFolder\n"
        "folder = LockedTempFolder()\n"
        "if os.fork() == 0:\n"
        "    sys.exit(0)\n"
        "os.wait()\n"
        "print(folder.path.exists())\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)  # noqa: S603

    assert "True" == run.stdout.strip()
    assert [] == list(tmp_path.iterdir())


@needs_posix
def test_other_files_with_the_prefix_stay(tmp_path: Path) -> None:
    """A file or link with such a name does not belong to a sandbox, and stays."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "veriff_async_sandbox_file").write_text("x")
    (tmp_path / "veriff_async_sandbox_link").symlink_to(tmp_path / "kept")

    LockedTempFolder().remove()

    assert {"kept", "veriff_async_sandbox_file", "veriff_async_sandbox_link"} == {
        one.name for one in tmp_path.iterdir()
    }


def test_folder_removed_before_its_lock_is_created_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may lock and remove a folder before its creator locks it; the creator creates another one."""
    made: list[str] = []
    make = tempfile.mkdtemp

    def lose(*, prefix: str) -> str:
        path = make(prefix=prefix)
        made.append(path)
        if len(made) == 1:
            Path(path).rmdir()
        return path

    monkeypatch.setattr(tempfile, "mkdtemp", lose)

    folder = LockedTempFolder()

    assert made[1] == str(folder.path)
    assert folder.path.exists()


def test_a_forked_child_does_not_keep_a_folder_locked(tmp_path: Path) -> None:
    """The process that locked a folder unlocks it, although a child that lives on has the same descriptor."""
    unlock = lock_folder(tmp_path)
    assert isinstance(unlock, partial)
    # As a child has it after a fork.
    inherited = os.dup(unlock.args[0])
    try:
        with pytest.raises(BlockingIOError):
            lock_folder(tmp_path)
        unlock()
        lock_folder(tmp_path)()
    finally:
        os.close(inherited)


@pytest.mark.anyio
async def test_restarted_sandbox_lists_existing_files_only(start_sandbox: StartSandbox, tmp_path: Path) -> None:
    """A sandbox that is entered again lists the files of a given folder, and no deleted ones."""
    for folder, count in ((None, 0), (tmp_path / "mine", 1)):
        async with start_sandbox(clock=VirtualClock(), media_folder=folder) as caller:
            session_id = await caller.create()
            await caller.upload(session_id, PICTURE)
            sandbox = caller.sandbox
        assert 1 == len(sandbox.session(session_id).media)

        async with sandbox:
            path = f"/v1/sessions/{session_id}/media"
            images = (await caller.get(path, session_id)).json["images"]
            assert count == len(images) == len(sandbox.session(session_id).media)
            for image in images:
                assert 200 == (await caller.get(f"/v1/media/{image['id']}", image["id"])).status


@pytest.mark.anyio
async def test_deleted_file_is_not_found(start_sandbox: StartSandbox, tmp_path: Path) -> None:
    """A file that is gone from the user's folder gives a 404."""
    async with start_sandbox(clock=VirtualClock(), media_folder=tmp_path) as caller:
        session_id = await caller.create()
        await caller.upload(session_id, PICTURE)
        (media,) = caller.sandbox.session(session_id).media
        await anyio.Path(media.path).unlink()

        assert 404 == (await caller.get(f"/v1/media/{media.id}", media.id)).status


def test_with_block_removes_the_folder(tmp_path: Path) -> None:
    """A sandbox of a synchronous test removes its folder."""
    with Sandbox():
        assert 1 == len(list(tmp_path.iterdir()))
    assert [] == list(tmp_path.iterdir())


def test_folder_that_another_one_replaces_is_not_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock on a folder that has lost its name to a new one is useless, and counts as one of another process."""
    import fcntl  # noqa: PLC0415  Windows has no such module

    path = tmp_path / "state"
    path.mkdir()
    lock = fcntl.flock

    def replace(descriptor: int, operation: int) -> None:
        lock(descriptor, operation)
        if not (tmp_path / "old").exists():
            path.rename(tmp_path / "old")
            path.mkdir()

    monkeypatch.setattr(fcntl, "flock", replace)
    with pytest.raises(BlockingIOError):
        lock_folder(path)
    lock_folder(path)()


def test_only_the_process_that_locked_a_folder_unlocks_it(tmp_path: Path) -> None:
    """A forked child that ends closes its descriptor only, and the folder stays locked."""
    unlock = lock_folder(tmp_path)
    assert isinstance(unlock, partial)
    unlock.func(os.dup(unlock.args[0]), os.getpid() + 1)
    with pytest.raises(BlockingIOError):
        lock_folder(tmp_path)
    unlock()
    lock_folder(tmp_path)()


def test_folder_that_does_not_exist_cannot_be_locked(tmp_path: Path) -> None:
    """The lock is on the folder itself, and creates none."""
    with pytest.raises(FileNotFoundError):
        lock_folder(tmp_path / "missing")
    assert [] == list(tmp_path.iterdir())
