"""Other systems, encodings and locales, as far as a process on Linux can resemble them."""

from __future__ import annotations

import errno
import io
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from veriff_async._http.network_problem import network_problem
from veriff_async._protocol.source_mistakes import missing_file_remedy
from veriff_async.cli._stdio import is_broken_pipe, replace_unencodable
from veriff_async.cli.batch.results import _wait_writable
from veriff_async.cli.sandbox.server import assignment
from veriff_async.sandbox import Sandbox

pytestmark = pytest.mark.anyio

ROOT: Final = Path(__file__).parent.parent
SECONDS: Final = 100.0

VERIFICATION: Final = """
import asyncio, os, threading
from pathlib import Path
from veriff_async import Media, PollPolicy, VeriffClient, end_waits_on_signals
from veriff_async.inbox import SqliteInbox
from veriff_async.sandbox import Sandbox

JPEG = b"\\xff\\xd8\\xff\\xe0\\x00\\x10JFIF" + bytes(600_000) + b"\\xff\\xd9"


def feed(descriptor):
    with os.fdopen(descriptor, "wb") as pipe:
        pipe.write(JPEG)


async def pieces():
    for start in range(0, len(JPEG), 65536):
        yield JPEG[start : start + 65536]


async def main():
    front = Path("front.jpg")
    front.write_bytes(JPEG)
    read, write = os.pipe()
    async with Sandbox(decide_after=0) as sandbox, SqliteInbox("inbox.db") as inbox:
        poll = PollPolicy(initial_delay=0.1, interval=0.1)
        async with VeriffClient(sandbox.credentials, base_url=sandbox.base_url, inbox=inbox, poll=poll) as veriff:
            with end_waits_on_signals(veriff), front.open("rb") as file, os.fdopen(read, "rb") as pipe:
                session = await veriff.create_session()
                threading.Thread(target=feed, args=(write,)).start()
                await session.upload(
                    Media(front, "document-front"), Media(file, "face"),
                    Media(pieces(), "document-back"), Media(pipe, "address-front"),
                )
                await session.submit()
                decision = await session.wait_for_decision(timeout=30)
                files = await session.download_all("downloads")
                print("=", decision.status, sorted({file.path.read_bytes() == JPEG for file in files}), len(files))


asyncio.run(main())
"""

BATCH: Final = """
import contextlib, io, sys
from pathlib import Path
from veriff_async.cli._commands import cli

Path("front.jpg").write_bytes(b"\\xff\\xd8\\xff\\xe0\\x00\\x10JFIF" + bytes(2000) + b"\\xff\\xd9")
Path("jobs.csv").write_bytes(b"id,face\\r\\none,front.jpg\\r\\ntwo,front.jpg\\r\\n")
run = ["batch", "run", "jobs.csv", "--journal", "jobs.db", "--out", "results.jsonl"]
results = Path("results.jsonl")


def call(*arguments):
    with contextlib.suppress(SystemExit):
        cli.main(list(arguments), prog_name="veriff-async")


call(*run)
print("=", [line.endswith(b'}') for line in results.read_bytes().split(b"\\n")])
before = results.read_bytes()
results.write_bytes(before[:-20])
call("batch", "resume", "--journal", "jobs.db")
print("=", results.read_bytes() == before)
from veriff_async.cli.batch.results import open_results
with open_results(results, show_person=False):
    call("batch", "run", "jobs.csv", "--journal", "other.db", "--out", "results.jsonl")
print("=", sorted(opened_as_text))
"""


@pytest.mark.timeout(120)
def test_the_package_works_without_posix(tmp_path: Path, without_coverage: None) -> None:
    """Every module can be imported, and uploads, inbox, downloads and batches need nothing that Windows lacks."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "NO_COLOR": "1"}
    with Sandbox(decide_after=0) as sandbox:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "tests.windows_process"],
            input=VERIFICATION + BATCH,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
            cwd=tmp_path,
            env={**environment, **sandbox.environ},
        )
    assert [
        "approved [True] 4",
        # Lines end in one byte, an incomplete one is written again, and the file is locked.
        "[True, True, False]",
        "True",
        # The first creates an empty file, the second an empty lock.
        str(["veriff_async._storage.sqlite_file", "veriff_async.sandbox._temp_folder"]),
    ] == [line[2:] for line in done.stdout.splitlines() if line.startswith("= ")]
    assert "Another run writes results to this file" in done.stderr
    assert "Traceback" not in done.stderr


NAMES: Final = """
import asyncio, sys
from pathlib import Path
from veriff_async import Media, VeriffClient, VeriffError
from veriff_async.batch import SqliteJournal, read_manifest
from veriff_async.inbox import SqliteInbox


async def main():
    calls = {
        "inbox": lambda: SqliteInbox(NAME),
        "journal": lambda: SqliteJournal(NAME),
        "manifest": lambda: read_manifest(NAME),
        "row": lambda: print(next(iter(read_manifest("jobs.csv"))).reason),
    }
    async with VeriffClient.from_env() as veriff:
        session = await veriff.create_session()
        await session.upload(Media(PICTURE, "face"))
        [picture] = (await session.media()).images
        calls["upload"] = lambda: session.upload(Media(NAME, "face"))
        calls["file"] = lambda: veriff.download_media(picture, NAME)
        calls["folder"] = lambda: veriff.download_media(picture, NAME + "/")
        for name, call in calls.items():
            try:
                if asyncio.iscoroutine(result := call()):
                    await result
            except VeriffError as error:
                print(name, type(error).__name__)


NAME, PICTURE = "\\u0141.jpg", b"\\xff\\xd8\\xff\\xe0" + bytes(2000)
Path("jobs.csv").write_text(f"id,face\\na,{NAME}\\n", encoding="utf-8")
print(sys.getfilesystemencoding())
asyncio.run(main())
"""


def test_names_that_the_locale_cannot_encode(tmp_path: Path, without_coverage: None) -> None:
    """A path with characters that the encoding of the system lacks raises an error of the library, at once."""
    with Sandbox() as sandbox:
        locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        done = subprocess.run(  # noqa: S603  our own program
            [sys.executable, "-c", NAMES],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), **locale, **sandbox.environ},
        )
    assert [
        "ascii",
        *("inbox ConfigurationError", "journal ConfigurationError", "manifest InvalidArgumentError"),
        "face: The media file cannot be opened: check its path and the disk.",
        *("upload MediaError", "file InvalidArgumentError", "folder InvalidArgumentError"),
    ] == done.stdout.splitlines(), done.stderr


@pytest.mark.parametrize(
    ("encoding", "errors", "written"),
    [
        ("cp1252", "strict", b"\\u0141\xe9"),
        ("ascii", "surrogateescape", b"\\u0141\\xe9"),  # the C locale without UTF-8 mode
        ("utf-8", "strict", "\u0141\xe9".encode()),
    ],
)
def test_characters_that_a_stream_cannot_encode(
    monkeypatch: pytest.MonkeyPatch, encoding: str, errors: str, written: bytes
) -> None:
    """They are written as escapes, so that no result is lost."""
    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, encoding, errors)
    monkeypatch.setattr(sys, "stdout", stream)
    replace_unencodable()
    stream.write("\u0141\xe9")
    stream.flush()
    assert written == buffer.getvalue()


def test_bytes_of_file_names_pass_through_the_c_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is not UTF-8 is written as it is where Python allows it, so that it can be copied."""
    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, "utf-8", "surrogateescape")
    monkeypatch.setattr(sys, "stdout", stream)
    replace_unencodable()
    stream.write(os.fsdecode(b"\xff.jpg"))
    stream.flush()
    assert b"\xff.jpg" == buffer.getvalue()


@pytest.mark.parametrize(
    ("error", "platform", "is_broken"),
    [
        (BrokenPipeError(errno.EPIPE, ""), "linux", True),
        (OSError(errno.EINVAL, ""), "win32", True),
        (OSError(errno.EINVAL, ""), "darwin", False),
        (OSError(errno.ENOSPC, ""), "win32", False),
    ],
)
def test_end_of_a_reader(error: OSError, platform: str, is_broken: bool) -> None:  # noqa: FBT001
    """Windows reports a pipe without reader as an invalid argument."""
    assert is_broken is is_broken_pipe(error, platform)


@pytest.mark.parametrize(
    ("platform", "command"),
    [("linux", "export NAME='a b'"), ("darwin", "export NAME='a b'"), ("win32", "$env:NAME = 'a b'")],
)
def test_variables_are_set_as_the_shell_of_the_system_does(platform: str, command: str) -> None:
    """The sandbox prints commands for PowerShell on Windows, and for a POSIX shell elsewhere."""
    assert command == assignment("NAME", "a b", platform)


@pytest.mark.parametrize(
    ("path", "separator", "remedy"),
    [
        ("scans\\front.jpg", "/", "write its path with / between folders"),
        ("scans\\front.jpg", "\\", "check its path"),
        ("scans/front.jpg", "/", "check its path"),
    ],
)
def test_path_of_another_system(path: str, separator: str, remedy: str) -> None:
    """A path from Windows that is missing elsewhere is recognised by its backslash."""
    assert remedy == missing_file_remedy(path, separator)


def test_system_errors_without_words() -> None:
    """The numbers of Windows' sockets have no text in its C library, so the message has their name or class."""
    assert "Connection refused" == network_problem(OSError(errno.ECONNREFUSED, "words with an address"))
    assert "ConnectionRefusedError" == network_problem(ConnectionRefusedError(99_999, "words with an address"))
    assert "OSError" == network_problem(OSError("words with an address"))


async def test_selector_without_events_for_a_file(tmp_path: Path) -> None:
    """A file that the selector refuses is tried again later: epoll refuses files, and kqueue terminals and devices."""
    with (tmp_path / "file").open("wb") as file:
        await _wait_writable(file.fileno())


def test_unknown_host_has_words_of_its_own() -> None:
    """The number of a failed look-up is not one of `errno`, so its description is fixed."""
    assert network_problem(socket.gaierror(socket.EAI_NONAME, "words with a name")) == "the host name is not known"
