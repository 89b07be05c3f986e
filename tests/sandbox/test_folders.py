"""Pictures that a sandbox keeps are their owner's alone, and do not outlive its process."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from base64 import b64decode
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import pytest

from veriff_async import Media, VeriffClient
from veriff_async.sandbox import Sandbox, VirtualClock
from veriff_async.sandbox._media_store import MediaStore
from veriff_async.sandbox._temp_folder import LockedTempFolder

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
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let temporary folders be made in a folder of the test's own, also by its processes."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def other() -> subprocess.Popen[str]:
    """Start a process that holds a folder."""
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603  our own


def folder_of(process: subprocess.Popen[str]) -> Path:
    """Return the folder that a process holds."""
    assert process.stdout is not None
    return Path(process.stdout.readline().strip())


def end(process: subprocess.Popen[str], number: int | None = None) -> None:
    """End a process, regularly or with a signal."""
    if number is not None:
        process.send_signal(number)
    process.communicate(timeout=30)


def mode_of(path: Path) -> int:
    """Return the permissions of a path."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("given", [True, False])
def test_pictures_are_readable_by_their_owner_only(tmp_path: Path, given: bool) -> None:  # noqa: FBT001
    """A picture has mode 0600 in a folder of mode 0700, and in a folder of the user's own that others can read."""
    folder = tmp_path / "mine"
    folder.mkdir(mode=0o755)
    before = os.umask(0)
    try:
        with Sandbox(media_folder=folder if given else None) as sandbox:
            path = anyio.run(_uploaded, sandbox)
            assert 0o600 == mode_of(path)
            assert (0o755 if given else 0o700) == mode_of(path.parent)
    finally:
        os.umask(before)


async def _uploaded(sandbox: Sandbox) -> Path:
    async with VeriffClient.from_env(sandbox.environ) as veriff:
        session = await veriff.create_session()
        await session.upload(Media(b64decode(PICTURE), "face"))
        return sandbox.session(session.id).media[0].path


def test_a_new_folder_of_the_users_own_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    """A given folder that did not exist is made for its owner only."""
    MediaStore(tmp_path / "new")
    assert 0o700 == mode_of(tmp_path / "new")


def test_a_folder_goes_with_its_process(other: subprocess.Popen[str]) -> None:
    """A process that ends without stopping its sandbox removes the folder."""
    path = folder_of(other)
    assert path.exists()
    end(other)
    assert not path.exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_next_start_removes_what_a_killed_process_left(other: subprocess.Popen[str], number: int) -> None:
    """The pictures of a process that was killed are removed when the next sandbox starts."""
    path = folder_of(other)
    end(other, number)
    assert (path / "picture").exists()

    folder = LockedTempFolder()

    assert not path.exists()
    assert folder.path.exists()


def test_a_sandbox_that_runs_keeps_its_folder(other: subprocess.Popen[str]) -> None:
    """Sandboxes that start and stop never remove the folder of another one, in another process or in the same."""
    path, own = folder_of(other), LockedTempFolder()
    for _ in range(3):
        LockedTempFolder().remove()

    assert (path / "picture").exists()
    assert own.path.exists()
    end(other)


def test_a_forked_child_takes_nothing_away(tmp_path: Path) -> None:
    """A child that ends like any program leaves the folder to its parent."""
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


def test_other_things_of_that_name_stay(tmp_path: Path) -> None:
    """A file or a link that has such a name is not a sandbox's, and stays with what it leads to."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "veriff_async_sandbox_file").write_text("x")
    (tmp_path / "veriff_async_sandbox_link").symlink_to(tmp_path / "kept")

    LockedTempFolder().remove()

    assert {"kept", "veriff_async_sandbox_file", "veriff_async_sandbox_link"} == {
        one.name for one in tmp_path.iterdir()
    }


def test_a_folder_that_is_removed_while_it_is_made_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may lock and remove a folder before its maker locks it: the maker makes another one."""
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


@pytest.mark.anyio
async def test_what_is_listed_can_be_served(start_sandbox: StartSandbox, tmp_path: Path) -> None:
    """A sandbox that is entered again lists the pictures that it has: those of a given folder, no lost ones."""
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
async def test_a_picture_that_its_owner_has_removed_is_not_found(start_sandbox: StartSandbox, tmp_path: Path) -> None:
    """A file that is gone from the user's folder is answered with 404."""
    async with start_sandbox(clock=VirtualClock(), media_folder=tmp_path) as caller:
        session_id = await caller.create()
        await caller.upload(session_id, PICTURE)
        (media,) = caller.sandbox.session(session_id).media
        await anyio.Path(media.path).unlink()

        assert 404 == (await caller.get(f"/v1/media/{media.id}", media.id)).status


def test_a_sandbox_in_a_thread_leaves_nothing(tmp_path: Path) -> None:
    """A sandbox of a synchronous test removes its folder, too."""
    with Sandbox():
        assert 1 == len(list(tmp_path.iterdir()))
    assert [] == list(tmp_path.iterdir())
