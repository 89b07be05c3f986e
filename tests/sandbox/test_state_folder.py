"""A sandbox whose state survives restarts and kills, in a folder."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import pytest
from aiohttp import ClientSession
from anyio import to_thread

from tests.loops import every_loop
from veriff_async import ConfigurationError, Credentials, Media, OutcomeUnknownError, VeriffClient
from veriff_async.sandbox import Fault, Sandbox, VirtualClock, WebhookKind
from veriff_async.sandbox._state_folder import StateFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.anyio

JPEG: Final = b"\xff\xd8\xff\xe0 a picture"
ENOUGH: Final = 10
NOWHERE: Final = "http://127.0.0.1:9/hook"

SERVER: Final = """
import asyncio, sys
from pathlib import Path
from veriff_async.sandbox import Sandbox
async def main():
    async with Sandbox(state_folder=Path(sys.argv[1])) as sandbox:
        import json
        print(json.dumps(sandbox.environ), flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


async def read(folder: Path) -> dict[str, Any]:
    """Return the rows of a folder that no sandbox uses."""

    def query() -> dict[str, Any]:
        with sqlite3.connect(folder / "state.db") as db:
            rows = db.execute("SELECT kind, id, json FROM record ORDER BY rowid").fetchall()
        db.close()
        return {f"{kind} {record_id}": json.loads(text) for kind, record_id, text in rows}

    return await to_thread.run_sync(query)


async def test_everything_that_happened_survives_a_restart(tmp_path: Path) -> None:
    """Sessions, files, decisions, webhooks that wait, holds, faults and credentials are there after a restart."""
    async with Sandbox(state_folder=tmp_path, webhook_url=NOWHERE) as first:
        async with VeriffClient.from_env(first.environ) as veriff:
            session = await veriff.create_session(vendor_data="user-42")
            await session.upload(Media(JPEG, "document-front"))
            await session.submit()
            decided = await veriff.create_session()
        first.hold_webhooks()
        first.decide(decided.id, "declined", reason_code=106)
        first.inject(Fault.status(503), path="/nowhere", times=2)
        views, environ = first.sessions, first.environ
        webhooks, faults = first.webhooks, first.faults

    async with Sandbox(state_folder=tmp_path, webhook_url=NOWHERE) as second:
        assert views == second.sessions
        assert webhooks == second.webhooks
        assert faults == second.faults
        assert [WebhookKind.DECISION] == [webhook.kind for webhook in second.webhooks if webhook.url]
        assert environ["VERIFF_API_KEY"] == second.environ["VERIFF_API_KEY"]
        async with VeriffClient.from_env(second.environ) as veriff:
            decision = await veriff.session(decided.id).decision()
            assert decision is not None
            assert 106 == decision.reason_code
            (media,) = second.sessions[0].media
            file = await veriff.download_media(media.id, tmp_path / "copy")
        assert JPEG == await to_thread.run_sync(Path(file.path).read_bytes)
        released = second.release_webhooks()
        assert 1 == released


async def test_a_request_writes_what_it_changed_and_nothing_else(tmp_path: Path) -> None:
    """A creation adds one session and its expiry; a request that reads changes nothing."""
    async with Sandbox(state_folder=tmp_path) as sandbox, VeriffClient.from_env(sandbox.environ) as veriff:
        session = await veriff.create_session()
        await sandbox.wait_idle()
        written: list[set[tuple[str, str]]] = []
        take = sandbox._service.take_changes

        def record() -> Any:  # noqa: ANN401  passed on
            changes = take()
            written.append(set(changes.records))
            return changes

        sandbox._service.take_changes = record  # type: ignore[method-assign]
        other = await veriff.create_session()
        assert {("session", other.id), ("due", "1")} == set().union(*written)
        written.clear()
        await session.person()
        assert set() == set().union(*written)


async def test_reset_and_restore_replace_what_is_written(tmp_path: Path) -> None:
    """After a reset nothing comes back; after a restore the restored state does."""
    async with Sandbox(state_folder=tmp_path, clock=VirtualClock()) as sandbox:
        async with VeriffClient.from_env(sandbox.environ) as veriff:
            session = await veriff.create_session()
            await session.upload(Media(JPEG, "document-front"))
        snapshot = await sandbox.snapshot()
        sandbox.reset()
    async with Sandbox(state_folder=tmp_path, clock=VirtualClock()) as sandbox:
        assert () == sandbox.sessions
        await sandbox.restore(snapshot)
        sandbox.advance(3600)
    async with Sandbox(state_folder=tmp_path, clock=VirtualClock()) as sandbox:
        assert [session.id] == [each.id for each in sandbox.sessions]
        assert 1 == len(sandbox.sessions[0].media)
        sandbox.advance(7 * 24 * 3600 - 3600)
        assert "abandoned" == sandbox.session(session.id).status


async def test_seeded_sessions_keep_their_pictures(tmp_path: Path) -> None:
    """Pictures of the library are found again, and a snapshot has each of them once."""
    async with Sandbox(state_folder=tmp_path) as sandbox:
        sandbox.seed(20)
        views = sandbox.sessions
    async with Sandbox(state_folder=tmp_path) as sandbox:
        assert views == sandbox.sessions
        assert any(session.media for session in sandbox.sessions)
        snapshot = await sandbox.snapshot()
    assert len(snapshot) < 250_000


async def test_only_one_sandbox_can_use_a_folder(tmp_path: Path) -> None:
    """A second sandbox gets an error that names the remedy, and the first one is not disturbed."""
    async with Sandbox(state_folder=tmp_path) as first:
        with pytest.raises(ConfigurationError, match="in use by another sandbox"):
            await Sandbox(state_folder=tmp_path).__aenter__()
        async with VeriffClient.from_env(first.environ) as veriff:
            await veriff.create_session()
    async with Sandbox(state_folder=tmp_path) as second:
        assert 1 == len(second.sessions)


async def test_a_sandbox_that_starts_again_keeps_its_own_state(tmp_path: Path) -> None:
    """Changes that are made while it does not run are written at its next start."""
    sandbox = Sandbox(state_folder=tmp_path)
    async with sandbox, VeriffClient.from_env(sandbox.environ) as veriff:
        session = await veriff.create_session()
    sandbox.decide(session.id, "approved")
    async with sandbox:
        pass
    async with Sandbox(state_folder=tmp_path) as other:
        assert "approved" == other.session(session.id).status


async def test_chosen_credentials_replace_those_of_the_folder(tmp_path: Path) -> None:
    """Credentials that are passed are used and kept."""
    chosen = Credentials("key", "secret", previous_secrets=("old",))
    async with Sandbox(state_folder=tmp_path):
        pass
    async with Sandbox(state_folder=tmp_path, credentials=chosen) as sandbox:
        assert chosen == sandbox.credentials
        async with VeriffClient.from_env(sandbox.environ) as veriff:
            await veriff.create_session()
    async with Sandbox(state_folder=tmp_path) as sandbox:
        assert chosen == sandbox.credentials


async def test_the_kind_of_clock_must_be_the_same(tmp_path: Path) -> None:
    """A folder with a virtual time needs a virtual clock."""
    async with Sandbox(state_folder=tmp_path, clock=VirtualClock()):
        pass
    with pytest.raises(ConfigurationError, match="clock=VirtualClock"):
        await Sandbox(state_folder=tmp_path).__aenter__()
    async with Sandbox(state_folder=tmp_path, clock=VirtualClock()):
        pass


async def test_files_of_interrupted_uploads_are_removed_or_forgotten(tmp_path: Path) -> None:
    """A file that no session names is removed, one that is incomplete is not listed, and those of others stay."""
    async with Sandbox(state_folder=tmp_path) as sandbox, VeriffClient.from_env(sandbox.environ) as veriff:
        session = await veriff.create_session()
        await session.upload(Media(JPEG, "document-front"))
        (media,) = sandbox.sessions[0].media

    def damage() -> None:
        (tmp_path / "media" / str(UUID(int=1))).write_bytes(b"x")
        (tmp_path / "media" / "holiday.jpg").write_bytes(b"x")
        media.path.write_bytes(b"x")

    await to_thread.run_sync(damage)
    async with Sandbox(state_folder=tmp_path) as sandbox:
        assert () == sandbox.sessions[0].media
        left = await to_thread.run_sync(os.listdir, tmp_path / "media")
        assert sorted([media.id, "holiday.jpg"]) == sorted(left)


async def test_pictures_in_a_media_folder_survive_a_restart(tmp_path: Path) -> None:
    """The files of a chosen media folder, and those from before it was chosen, are listed after a restart."""
    folder = tmp_path / "state"
    media: list[Path] = []
    for media_folder in (None, tmp_path / "media"):
        sandbox = Sandbox(state_folder=folder, media_folder=media_folder)
        async with sandbox, VeriffClient.from_env(sandbox.environ) as veriff:
            session = await veriff.create_session()
            await session.upload(Media(JPEG, "document-front"))
            media += [each.path for each in sandbox.session(session.id).media]
    assert [folder / "media", tmp_path / "media"] == [path.parent for path in media]
    async with Sandbox(state_folder=folder, media_folder=tmp_path / "media") as sandbox:
        assert media == [each.path for session in sandbox.sessions for each in session.media]
        assert all(await to_thread.run_sync(lambda: [path.exists() for path in media]))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not remove a file that is open")
async def test_a_folder_that_was_deleted_is_an_error(tmp_path: Path) -> None:
    """A response says that its change is lost when the folder was deleted or replaced, and so does the stop."""

    async def run() -> None:
        async with Sandbox(state_folder=tmp_path / "state") as sandbox, ClientSession() as http:
            await to_thread.run_sync(shutil.rmtree, tmp_path / "state")
            for _ in range(2):
                async with http.post(f"{sandbox.control_url}/seed", json={"sessions": 1}) as response:
                    assert 507 == response.status, await response.text()

    with pytest.raises(ConfigurationError, match="deleted or replaced"):
        await run()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE record SET json = '{}' WHERE kind = 'session'",
        "UPDATE record SET json = 'x' WHERE kind = 'part'",
        "DELETE FROM record WHERE kind = 'session'",
        "DELETE FROM record WHERE id = 'frauds'",
        'UPDATE record SET json = \'{"api_key":"a","secrets":[],"integration_id":null}\' WHERE id = \'credentials\'',
        "PRAGMA user_version = 2",
        "PRAGMA application_id = 5",
    ],
)
async def test_other_content_is_refused(tmp_path: Path, damage: str) -> None:
    """A folder of a newer version, or with damaged records, is refused instead of being overwritten."""
    async with Sandbox(state_folder=tmp_path) as sandbox, VeriffClient.from_env(sandbox.environ) as veriff:
        await veriff.create_session()

    def change() -> None:
        with sqlite3.connect(tmp_path / "state.db") as db:
            db.execute(damage)
        db.close()

    await to_thread.run_sync(change)
    with pytest.raises(ConfigurationError, match="another"):
        await Sandbox(state_folder=tmp_path).__aenter__()


@pytest.mark.parametrize(
    ("name", "message"),
    [("file/state", "Not a directory"), ("taken", "names a folder"), ("locked", "in use by another sandbox")],
)
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other words for it")
async def test_a_folder_that_cannot_be_opened_is_a_clear_error(tmp_path: Path, name: str, message: str) -> None:
    """The error names the problem and the remedy without the path, and the folder is not left locked."""

    def check() -> None:
        (tmp_path / "file").write_bytes(b"")
        (tmp_path / "taken" / "state.db").mkdir(parents=True)
        holder = StateFolder(tmp_path / "locked")
        try:
            for _ in range(2):
                with pytest.raises(ConfigurationError, match=message) as caught:
                    StateFolder(tmp_path / name)
                assert str(tmp_path) not in str(caught.value)
        finally:
            holder.close()
        StateFolder(tmp_path / "locked").close()

    await to_thread.run_sync(check)


async def test_a_folder_without_its_pictures_is_a_folder_without_files(tmp_path: Path) -> None:
    """The folder of the pictures may be missing at a start."""
    async with Sandbox(state_folder=tmp_path) as sandbox, VeriffClient.from_env(sandbox.environ) as veriff:
        await veriff.create_session()

    def load() -> None:
        shutil.rmtree(tmp_path / "media")
        folder = StateFolder(tmp_path)
        try:
            state, _ = folder.load()
            assert state is not None
            assert 1 == len(state.sessions)
        finally:
            folder.close()

    await to_thread.run_sync(load)
    assert not await to_thread.run_sync((tmp_path / "media").exists)


def test_a_full_disk_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request whose change cannot be written gets 507 with the reason, and is written once there is room."""
    folders: list[StateFolder] = []
    monkeypatch.setattr(StateFolder, "load", _remember(folders, StateFolder.load))

    async def create_until_full() -> tuple[int, str]:
        async with VeriffClient.from_env(sandbox.environ) as veriff:
            with pytest.raises(OutcomeUnknownError, match="507"):  # noqa: PT012  the number of sessions is unknown
                for _ in range(1000):
                    await veriff.create_session(vendor_data="x" * 400)
        async with ClientSession() as http, http.get(f"{sandbox.control_url}/sessions") as response:
            return response.status, (await response.json())["error"]["message"]

    with Sandbox(state_folder=tmp_path) as sandbox:
        limit_pages(folders[0], 12)
        status, message = asyncio.run(create_until_full())
        assert 507 == status
        assert "disk is full" in message
        limit_pages(folders[0], 1_000_000)
        sandbox.decide(sandbox.sessions[0].id, "approved")
        views = sandbox.sessions
    with Sandbox(state_folder=tmp_path) as sandbox:
        assert views == sandbox.sessions


def limit_pages(folder: StateFolder, pages: int) -> None:
    """Let SQLite report a full disk as soon as its file has this many pages."""
    folder._database._db.execute(f"PRAGMA max_page_count = {pages}")


def _remember(folders: list[StateFolder], load: Callable[[StateFolder], Any]) -> Callable[[StateFolder], Any]:
    def remember(folder: StateFolder) -> Any:  # noqa: ANN401  passed on
        folders.append(folder)
        return load(folder)

    return remember


@every_loop
async def test_cancelled_requests_and_stops_share_one_connection(tmp_path: Path) -> None:
    """Requests that are cancelled while they commit, and a stop at the same time, damage nothing and lose nothing."""
    async with Sandbox(state_folder=tmp_path) as sandbox:
        sandbox.seed(300)
        created: list[str] = []

        async def create(veriff: VeriffClient) -> None:
            created.append((await veriff.create_session()).id)

        async with VeriffClient.from_env(sandbox.environ) as veriff:
            await create(veriff)
            await sandbox.restore(await sandbox.snapshot())
            tasks = [asyncio.create_task(create(veriff)) for _ in range(20)]
            while len(created) < 5:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                tasks = [task for task in tasks if not task.done()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await sandbox.restore(await sandbox.snapshot())
        views = sandbox.sessions
    async with Sandbox(state_folder=tmp_path) as sandbox:
        assert views == sandbox.sessions
        assert set(created) <= {session.id for session in views}


async def test_a_cancelled_start_unlocks_the_folder(tmp_path: Path) -> None:
    """A sandbox whose start was cancelled at any step does not keep the folder."""
    for steps in range(0, 30, 3):
        start = asyncio.create_task(Sandbox(state_folder=tmp_path).__aenter__())
        for _ in range(steps):
            await asyncio.sleep(0)
        start.cancel()
        with suppress(asyncio.CancelledError):
            await (await start).__aexit__(None, None, None)
    async with Sandbox(state_folder=tmp_path) as sandbox:
        assert () == sandbox.sessions


@pytest.fixture
def server(tmp_path: Path, without_coverage: None) -> Iterator[list[subprocess.Popen[str]]]:
    """Return the processes of a test, which are killed at its end."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def start_server(processes: list[subprocess.Popen[str]], folder: Path) -> dict[str, str]:
    """Start a sandbox in a process of its own, and return its variables."""
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(folder)], stdout=subprocess.PIPE, text=True)  # noqa: S603  our own
    processes.append(process)
    assert process.stdout is not None
    environ: dict[str, str] = json.loads(process.stdout.readline())
    return environ


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
async def test_a_kill_loses_nothing_that_was_answered(tmp_path: Path, server: list[subprocess.Popen[str]]) -> None:
    """A process that is killed while many clients create, upload and submit has kept every answered request."""
    environ = await to_thread.run_sync(start_server, server, tmp_path)
    created: set[str] = set()
    uploaded: set[str] = set()
    submitted: set[str] = set()
    enough = asyncio.Event()

    async def work(veriff: VeriffClient) -> None:
        while True:
            session = await veriff.create_session()
            created.add(session.id)
            (media,) = await session.upload(Media(JPEG, "document-front"))
            uploaded.add(media.id)
            await session.submit()
            submitted.add(session.id)
            if len(submitted) == ENOUGH:
                enough.set()

    async with VeriffClient.from_env(environ) as veriff:
        workers = [asyncio.create_task(work(veriff)) for _ in range(4)]
        await enough.wait()
        server[0].send_signal(signal.SIGKILL)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    await to_thread.run_sync(server[0].wait)

    async with Sandbox(state_folder=tmp_path) as sandbox:
        assert environ["VERIFF_API_KEY"] == sandbox.credentials.api_key
        sessions = {session.id: session for session in sandbox.sessions}
        assert created <= sessions.keys()
        assert uploaded <= {media.id for session in sessions.values() for media in session.media}
        assert {"submitted"} == {str(sessions[session_id].status) for session_id in submitted}
