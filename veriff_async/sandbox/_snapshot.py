"""Snapshots: the whole state of a sandbox in one ZIP archive.

==================  ============================================================================================
member              content
==================  ============================================================================================
``snapshot.json``   ``{"format": "veriff-async sandbox", "version": 1, "state": {...}}``; may be compressed
``media/<sha256>``  each file, not compressed: pictures are compressed already
==================  ============================================================================================

An archive can come from anywhere, so nothing in it is trusted
    * Names of members are compared with the expected ones, and are never used as paths.
    * Files are not compressed, so all of them together are at most as large as the archive. The JSON has a limit, and
      is read up to it only, and parsed only if its values fit into memory.
    * Size and SHA-256 of each file are compared with those in the JSON while the file is copied.
    * `structure_record` refuses every value of another type, and `check_state` every state that a sandbox cannot have.
    * Nothing is replaced before everything was read and checked.

Another version of the format is refused: a state that is read in part would behave in another way.
"""

from __future__ import annotations

import hashlib
from io import BytesIO
from os import SEEK_END
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, cast
from uuid import uuid4
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from attrs import evolve

from veriff_async._protocol.arguments import check_path
from veriff_async._protocol.json.decode import load_object
from veriff_async.errors import ConfigurationError, DecodeError, InvalidArgumentError
from veriff_async.sandbox._media_store import delete_files, open_private_file
from veriff_async.sandbox._state import State, check_state, find_media, with_media
from veriff_async.sandbox._state_codec import dump_record, structure_record

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from veriff_async.sandbox._records import StoredMedia
    from veriff_async.sandbox._service import SandboxService

__all__ = ("restore_snapshot", "take_snapshot")

_FORMAT: Final = "veriff-async sandbox"
_VERSION: Final = 1
_JSON: Final = "snapshot.json"
_MEDIA: Final = "media/"
# Ten thousand decided sessions take about 60 MiB.
_MAX_JSON: Final = 256 * 1024 * 1024
# A value in JSON may have three bytes, and takes some sixty in memory. Ten thousand sessions have a million.
_MAX_VALUES: Final = 16_000_000
_BLOCK: Final = 1024 * 1024
# The first time that a ZIP archive can name, so that equal states give equal archives.
_TIME: Final = (1980, 1, 1, 0, 0, 0)
_OWNER_ONLY: Final = 0o600 << 16


def take_snapshot(service: SandboxService) -> bytes:
    """Return the whole state as an archive. Blocking."""
    archive = BytesIO()
    _write(service.capture(), archive)
    return archive.getvalue()


def restore_snapshot(service: SandboxService, snapshot: bytes | Path) -> None:
    """Replace the whole state by that of an archive. Blocking.

    Args:
        service: The sandbox; it is unchanged after an error.
        snapshot: The archive, or the path of a file with it.

    Raises:
        InvalidArgumentError: The archive cannot be used, or the clock is of another kind.
        ConfigurationError: The sandbox is not running, or a file cannot be read or written.
    """
    folder = service.media_folder
    if folder is None:
        msg = "The sandbox is not running: restore snapshots in a with or async with block."
        raise ConfigurationError(msg)
    try:
        with _open_source(snapshot) as file:
            state = read_snapshot(file, folder)
    except OSError as error:
        problem = error.strerror or type(error).__name__
    else:
        try:
            service.restore(state)
        except BaseException:
            delete_files(folder, [media.path for media in find_media(state)])
            raise
        return
    msg = f"The snapshot cannot be restored ({problem}): check the file, the media folder and the space on its disk."
    raise ConfigurationError(msg)


def _write(state: State, file: IO[bytes]) -> None:
    """Write an archive. Blocking."""
    with ZipFile(file, "w") as archive:
        header = f'{{"format":"{_FORMAT}","version":{_VERSION},"state":'.encode()
        # Equal files are one member: seeded sessions have the same three pictures.
        named = with_media(state, lambda media: evolve(media, path=Path(media.sha256)))
        archive.writestr(_member(_JSON, ZIP_DEFLATED), header + dump_record(named) + b"}")
        for media in _by_digest(state).values():
            _write_media(archive, media)


def _write_media(archive: ZipFile, media: StoredMedia) -> None:
    member = _member(_MEDIA + media.sha256, ZIP_STORED)
    member.file_size = media.size
    try:
        with media.path.open("rb") as source, archive.open(member, "w") as target:
            while block := source.read(_BLOCK):
                target.write(block)
    except OSError as error:
        problem = error.strerror or type(error).__name__
    else:
        return
    msg = f"A file of the sandbox cannot be read ({problem}): restore it in the media folder, or reset the sandbox."
    raise ConfigurationError(msg)


def _member(name: str, compression: int) -> ZipInfo:
    member = ZipInfo(name, _TIME)
    member.compress_type = compression
    member.external_attr = _OWNER_ONLY
    return member


def _open_source(snapshot: object) -> IO[bytes]:
    if isinstance(snapshot, (bytes, bytearray, memoryview)):
        return BytesIO(cast("bytes", snapshot))
    return Path(check_path("snapshot", snapshot, error=InvalidArgumentError)).open("rb")


def read_snapshot(file: IO[bytes], folder: Path) -> State:
    """Read an archive, and copy its files into a folder under new names. Blocking.

    Raises:
        InvalidArgumentError: It is not a snapshot, is damaged, or has another version; no file is left in the folder.
        OSError: A file cannot be written.
    """
    copied: list[Path] = []
    try:
        return _read(file, folder, copied)
    except BaseException:
        delete_files(folder, copied)
        raise


def _read(file: IO[bytes], folder: Path, copied: list[Path]) -> State:
    length = file.seek(0, SEEK_END)
    with _open(file) as archive:
        state = _read_state(archive)
        files = _by_digest(state)
        _check_members(archive, files.values(), length)
        paths = {digest: folder / str(uuid4()) for digest in files}
        for digest, media in files.items():
            copied.append(paths[digest])
            _copy(archive, media, paths[digest])
    return with_media(state, lambda media: evolve(media, path=paths[media.sha256]))


def _by_digest(state: State) -> dict[str, StoredMedia]:
    return {media.sha256: media for media in find_media(state)}


def _open(file: IO[bytes]) -> ZipFile:
    try:
        return ZipFile(file)
    except Exception:  # noqa: BLE001  zipfile raises many classes for damaged archives
        problem = "is not a ZIP archive"
    raise _invalid(problem)


def _read_state(archive: ZipFile) -> State:
    try:
        members = load_object(_read_json(archive))
        problem = f"has another format than version {_VERSION} of a sandbox's snapshot"
        if (members.get("format"), members.get("version")) == (_FORMAT, _VERSION):
            problem = f"has a {_JSON} that this version did not write"
            state = structure_record(State, members.get("state"))
            check_state(state)
            sizes = {media.sha256: media.size for media in find_media(state)}
            if all(
                media.path.name == media.sha256 and media.size == sizes[media.sha256] for media in find_media(state)
            ):
                return state
    except DecodeError:
        problem = f"has no {_JSON} that can be read"
    raise _invalid(problem)


def _read_json(archive: ZipFile) -> bytes:
    try:
        # The size that the archive declares may be wrong, so the bytes are counted.
        with archive.open(_JSON) as member:
            text = member.read(_MAX_JSON + 1)
    except Exception:  # noqa: BLE001  zipfile and zlib raise many classes for damaged archives
        problem = f"has no {_JSON} that can be read"
    else:
        problem = f"has a {_JSON} of more than {_MAX_JSON // 2**20} MiB"
        if len(text) <= _MAX_JSON:
            problem = f"has a {_JSON} of more than {_MAX_VALUES // 10**6} million values"
            if sum(map(text.count, (b",", b"[", b"{"))) <= _MAX_VALUES:
                return text
    raise _invalid(problem)


def _check_members(archive: ZipFile, files: Iterable[StoredMedia], length: int) -> None:
    expected = {_MEDIA + media.sha256: media.size for media in files}
    members = [member for member in archive.infolist() if member.filename != _JSON]
    found = {member.filename: member.file_size for member in members}
    # Two members of one name, or a second snapshot.json, would let two readers see two contents.
    if found != expected or len(archive.infolist()) != len(expected) + 1:
        raise _invalid("has other files than its JSON names")
    if any(member.compress_type != ZIP_STORED for member in members):
        raise _invalid("has compressed pictures: use the archive as the sandbox wrote it")
    # Members that share their bytes make a small archive large.
    if sum(expected.values()) > length:
        raise _invalid("names more bytes than it has")


def _copy(archive: ZipFile, media: StoredMedia, path: Path) -> None:
    digest = hashlib.sha256()
    with open_private_file(path) as target:
        for block in _blocks(archive, _MEDIA + media.sha256):
            digest.update(block)
            target.write(block)
    if digest.hexdigest() != media.sha256:
        raise _invalid("has a file with another SHA-256 than its JSON names")


def _blocks(archive: ZipFile, name: str) -> Generator[bytes]:
    """Read a member. Errors of the caller, which writes the blocks, are none of the archive."""
    try:
        with archive.open(name) as member:
            while block := member.read(_BLOCK):
                yield block
    except GeneratorExit:
        raise
    except Exception:  # noqa: BLE001  zipfile raises many classes for damaged archives
        problem = "has a file that cannot be read"
    else:
        return
    raise _invalid(problem)


def _invalid(problem: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"The snapshot {problem}: pass what Sandbox.snapshot() of this version has returned.")
