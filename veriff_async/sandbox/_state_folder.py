"""A folder in which a sandbox keeps its state, so that it survives a restart and a kill.

==================  ============================================================================================
name                content
==================  ============================================================================================
``state.db``        SQLite file: one row of JSON for each session, webhook and event of the future, and a few more
``media/``          the uploaded files, unless the sandbox has a `media_folder`
``tls/``            the certificate authority, with `tls`
``control-token``   the random token of the control API
==================  ============================================================================================

Order of writing
    A response is sent, and a webhook is posted, after everything that has changed until then was committed
    (`StateKeeper.flush`). So a client never knows of a change that a kill can undo. Requests that end at the same time
    share a commit. Changes by methods of Python have no response: a task commits them within `_PAUSE` seconds.

Kill and power cut
    A commit is in the cache of the system, which a killed process does not take with it. SQLite repairs the file when
    it is opened again. After a power cut, the last commits may be missing (``synchronous = NORMAL``), never a part of
    one. A file of an upload is complete before its session names it. A file without a session, or of another size than
    its session says, is left from an upload that was interrupted, and is removed or forgotten at the start. Only files
    of a sandbox are removed, because people keep other files in a folder ``media``, too.

Deleted while it is used
    SQLite writes on to a file that no longer has a name, so each commit checks that ``state.db`` is still the file
    that was opened.

One process
    The folder is locked while it is used, by a lock that the system releases however the process ends.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sqlite3
import weakref
from threading import Lock
from typing import TYPE_CHECKING, Final, Self, TypeVar

from anyio import to_thread
from attrs import evolve, frozen

from veriff_async._event_loop import forget_error
from veriff_async._storage.sqlite_file import Database, Schema
from veriff_async._storage.sqlite_guard import FileReplacedError
from veriff_async.credentials import Credentials
from veriff_async.errors import ConfigurationError, DecodeError, InvalidArgumentError
from veriff_async.sandbox._media_store import delete_files
from veriff_async.sandbox._records import Session
from veriff_async.sandbox._scenario import Due
from veriff_async.sandbox._specimens import SPECIMEN_FILES
from veriff_async.sandbox._state import ALL_KINDS, State, check_state, find_media, with_media
from veriff_async.sandbox._state_codec import dump_record, load_record
from veriff_async.sandbox._temp_folder import lock_folder
from veriff_async.sandbox._webhook_records import WebhookRecord

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from attrs import AttrsInstance

    from veriff_async.sandbox._records import StoredMedia
    from veriff_async.sandbox._service import SandboxService
    from veriff_async.sandbox._state import ChangeSet

__all__ = ("StateFolder", "StateKeeper", "open_state_folder")

_T = TypeVar("_T", bound="AttrsInstance")

_log: Final = logging.getLogger(__name__)

_MEDIA: Final = "media"
# Names of uploaded files, and of bodies that are being received.
_OWN_FILE: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|body-.*", re.DOTALL)
# Seconds between commits of changes that no response waits for.
_PAUSE: Final = 0.25

_SCHEMA: Final = Schema(
    owner="state",
    application_id=0x76_73_62_78,  # "vsbx"
    version=1,
    script="CREATE TABLE record (kind TEXT NOT NULL, id TEXT NOT NULL, json BLOB NOT NULL, UNIQUE (kind, id));\n",
)


@frozen(kw_only=True)
class _SavedCredentials:
    """The credentials of a sandbox, which its clients must still have after a restart."""

    api_key: str
    secrets: tuple[str, ...]
    integration_id: str | None


async def open_state_folder(path: Path, media_folder: Path | None = None) -> StateFolder:
    """Open a folder in a thread; see `StateFolder`."""
    opening = asyncio.create_task(to_thread.run_sync(StateFolder, path, media_folder))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        # A thread cannot be cancelled, and the folder that it opens must not stay locked.
        await asyncio.wait([opening])
        if opening.exception() is None:
            await to_thread.run_sync(opening.result().close)
        raise


class StateFolder:
    """The folder, locked and open. All methods block, and can be called in any thread."""

    def __init__(self, path: Path, media_folder: Path | None = None) -> None:
        """Create the folder for its owner alone, or open it.

        Args:
            path: The folder.
            media_folder: Folder for uploaded files; ``None`` for one in the folder.

        Raises:
            ConfigurationError: Another sandbox uses it, it is of a newer version, or it cannot be opened.
        """
        self._own_media = path / _MEDIA
        self.media_folder = media_folder or self._own_media
        # A cancelled caller leaves its thread running; two threads must not use one connection at the same time.
        self._lock = Lock()
        # Those in the file.
        self._credentials: Credentials | None = None
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Also called if the folder is never closed, because the start of the sandbox was cancelled.
            self._unlock = weakref.finalize(self, lock_folder(path))
        except BlockingIOError:
            problem = None
        except OSError as error:
            problem = _describe(error)
        else:
            try:
                self._database = _open(path)
            except BaseException:
                self._unlock()
                raise
            return
        if problem is None:
            msg = "The state folder is in use by another sandbox: stop it first, or pass another folder."
        else:
            msg = f"The state folder cannot be opened ({problem}): pass a folder that can be written to."
        raise ConfigurationError(msg)

    def load(self) -> tuple[State | None, Credentials | None]:
        """Return the state and the credentials; ``None`` in a new folder. Files of interrupted uploads are removed."""
        try:
            with self._lock:
                rows = self._database.read()
            state = _load_state(rows)
            self._credentials = _load_credentials(rows)
        except (DecodeError, sqlite3.Error):
            pass
        else:
            if state is not None:
                specimens = {specimen.sha256: specimen.path for specimen in SPECIMEN_FILES}
                # A sandbox may have had another media folder before.
                own = {path.name: path for path in self._list_files()}

                def find(media: StoredMedia) -> StoredMedia:
                    name = media.path.name
                    path = own.get(name, self.media_folder / name)
                    # Pictures of seeded sessions are those of the library.
                    is_stored = name in own or media.sha256 not in specimens or path.exists()
                    return evolve(media, path=path if is_stored else specimens[media.sha256])

                state = with_media(state, find)
                known = {media.path for media in find_media(state)}
                left = [path for path in own.values() if path not in known and _OWN_FILE.fullmatch(path.name)]
                delete_files(self._own_media, left)
            return state, self._credentials
        msg = "The state folder has records that this version did not write: move it away, or pass another folder."
        raise ConfigurationError(msg)

    def save(self, changes: ChangeSet, credentials: Credentials) -> None:
        """Commit changes.

        Raises:
            ConfigurationError: They cannot be written; the folder has the state of the last commit.
        """
        rows = {key: None if record is None else dump_record(record) for key, record in changes.records.items()}
        if credentials != self._credentials:
            saved = _SavedCredentials(
                api_key=credentials.api_key, secrets=credentials.secrets, integration_id=credentials.integration_id
            )
            rows["part", "credentials"] = dump_record(saved)
        try:
            with self._lock:
                self._database.write(rows, changes.replaced)
        except FileReplacedError:
            msg = "The state folder was deleted or replaced while a sandbox uses it: start the sandbox again."
        except sqlite3.Error as error:
            problem = _describe(error)
            msg = f"The state folder cannot be written ({problem}): make room on its disk, or check its permissions."
        else:
            self._credentials = credentials
            return
        raise ConfigurationError(msg)

    def close(self) -> None:
        """Close the file, and unlock the folder."""
        with self._lock:
            try:
                self._database.detach()
                self._database.close()
            finally:
                self._unlock()

    def _list_files(self) -> list[Path]:
        try:
            return list(self._own_media.iterdir())
        except OSError:
            return []


class _StateDatabase(Database):
    """The SQLite file."""

    def prepare(self) -> None:
        # A power cut may take the last commits, and so no request waits for the disk. A kill takes none (see above).
        self._db.execute("PRAGMA synchronous = NORMAL")

    def read(self) -> list[tuple[str, str, bytes]]:
        # The rowid is the order of creation, which an update keeps.
        return list(self._db.execute("SELECT kind, id, CAST(json AS BLOB) FROM record ORDER BY rowid"))

    def write(self, rows: dict[tuple[str, str], bytes | None], replaced: frozenset[str]) -> None:
        self.begin(writes=True)
        try:
            self._db.executemany("DELETE FROM record WHERE kind = ?", [(kind,) for kind in replaced])
            self._db.executemany(
                "DELETE FROM record WHERE kind = ? AND id = ?", [key for key, text in rows.items() if text is None]
            )
            self._db.executemany(
                "INSERT INTO record VALUES (?, ?, ?) ON CONFLICT (kind, id) DO UPDATE SET json = excluded.json",
                [(*key, text) for key, text in rows.items() if text is not None],
            )
            self.commit()
        except BaseException:
            self.rollback()
            raise


def _open(path: Path) -> _StateDatabase:
    try:
        database = _StateDatabase(path / "state.db", _SCHEMA, timeout=0)
        database.prepare()
    except (sqlite3.Error, OSError) as error:
        problem = _describe(error)
    else:
        return database
    msg = f"The state folder cannot be opened ({problem}): pass another one, or restore its state.db."
    raise ConfigurationError(msg)


def _describe(error: Exception) -> str:
    """Return the reason of an error without paths."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error)


def _load_state(rows: Iterable[tuple[str, str, bytes]]) -> State | None:
    by_kind: dict[str, list[bytes]] = {}
    parts: dict[str, bytes] = {}
    for kind, record_id, text in rows:
        if kind == "part":
            parts[record_id] = text
        else:
            by_kind.setdefault(kind, []).append(text)
    if "rest" not in parts and not by_kind:
        return None
    rest, frauds = load_record(State, parts.get("rest", b"")), load_record(State, parts.get("frauds", b""))

    def load(kind: type[_T], name: str) -> tuple[_T, ...]:
        return tuple(load_record(kind, text) for text in by_kind.get(name, ()))

    state = evolve(
        rest,
        faces=frauds.faces,
        frauds=frauds.frauds,
        sessions=load(Session, "session"),
        webhooks=load(WebhookRecord, "webhook"),
        agenda=tuple(sorted(load(Due, "due"), key=lambda due: due.at)),
    )
    check_state(state)
    return state


def _load_credentials(rows: Iterable[tuple[str, str, bytes]]) -> Credentials | None:
    for kind, record_id, text in rows:
        if (kind, record_id) == ("part", "credentials"):
            saved = load_record(_SavedCredentials, text)
            if not saved.secrets:
                msg = "The credentials have no secret."
                raise DecodeError(msg)
            secret, *previous = saved.secrets
            return Credentials(
                saved.api_key, secret, previous_secrets=tuple(previous), integration_id=saved.integration_id
            )
    return None


class StateKeeper:
    """Writes the changes of a sandbox to its folder, in the loop of the server."""

    @classmethod
    def open(cls, service: SandboxService, folder: StateFolder, *, is_new: bool, takes_credentials: bool) -> Self:
        """Continue with the state of a folder. Blocking.

        Args:
            service: The sandbox.
            folder: The folder.
            is_new: Whether the sandbox has no state of its own yet. One that starts again replaces that of the folder.
            takes_credentials: Whether to take the credentials of the folder, too.

        Raises:
            ConfigurationError: The folder has records that this version did not write, or a virtual time.
        """
        state, credentials = folder.load()
        # First, because a restore signs webhooks again.
        if takes_credentials and credentials is not None:
            service.credentials = credentials
        replaced = ALL_KINDS
        if is_new and state is not None:
            # Rules and chaos are chosen at each start, so those of the sandbox stay.
            rules = service.rules
            try:
                service.restore(evolve(state, options=rules.options, decide_after=rules.decide_after), keeps_chaos=True)
            except InvalidArgumentError:
                msg = "The state folder has a virtual time: start with clock=VirtualClock() or --virtual-clock."
                raise ConfigurationError(msg) from None
            # Events get new numbers; the other records are as they were written.
            replaced = frozenset({"due"})
        service.track_changes(replaced)
        return cls(service, folder)

    def __init__(self, service: SandboxService, folder: StateFolder) -> None:
        """Prepare; `flush` writes."""
        self._service = service
        self._folder = folder
        self._writing = asyncio.Lock()
        # The commit that has not begun yet.
        self._next: asyncio.Task[None] | None = None

    @property
    def media_folder(self) -> Path:
        """Folder for uploaded files."""
        return self._folder.media_folder

    async def flush(self) -> None:
        """Return when everything that has changed until now is committed.

        Raises:
            ConfigurationError: It cannot be written; it is tried again with the next flush.
        """
        # All who come before the next commit begins share it.
        if self._next is None:
            self._next = asyncio.create_task(self._flush(), name="veriff sandbox commit")
            self._next.add_done_callback(forget_error)  # the next commit reports it
        # A thread cannot be cancelled, and two threads must not use one connection at the same time. So a client that
        # disconnects, which cancels its request, does not end a commit, and the next one waits for it.
        await asyncio.shield(self._next)

    async def _flush(self) -> None:
        # Before anything else, also where tasks start eagerly: the caller must have stored this task.
        await asyncio.sleep(0)
        async with self._writing:
            self._next = None
            changes = self._service.take_changes()
            if not changes.records and not changes.replaced:
                return
            try:
                await to_thread.run_sync(self._folder.save, changes, self._service.credentials)
            except BaseException:
                self._service.return_changes(changes)
                raise

    async def run(self) -> None:
        """Write changes that no response waits for, until cancelled."""
        is_failing = False
        while True:
            await asyncio.sleep(_PAUSE)
            try:
                await self.flush()
            except ConfigurationError as error:
                if not is_failing:
                    _log.error("The sandbox keeps changes in memory: %s", error)
                is_failing = True
            else:
                is_failing = False
