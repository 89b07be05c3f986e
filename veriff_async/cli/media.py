"""The media commands: list and download the media of a session."""

from __future__ import annotations

import shlex
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, get_args

import click
from attrs import frozen

from veriff_async import ConfigurationError, MediaExistsError
from veriff_async._media.downloader import IfExists
from veriff_async.cli._env_file import create_client
from veriff_async.cli._options import env_file_option, json_option, proxy_option
from veriff_async.cli._output import megabytes
from veriff_async.cli._runtime import command_line, current_command, print_json, run, stderr_output, stdout_output
from veriff_async.cli.media_calibrate import calibrate
from veriff_async.cli.media_inspect import inspect

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from veriff_async import DownloadedMedia, DownloadProgress, VeriffClient
    from veriff_async.cli._output import Output
    from veriff_async.cli._runtime import CommandState
    from veriff_async.models import MediaFile, MediaList

__all__ = (
    "DownloadRequest",
    "ListedMedia",
    "explain_existing",
    "list_session_media",
    "media",
    "print_files",
    "run_download",
    "target_options",
)

_F = TypeVar("_F", bound="Callable[..., Any]")

_ALL_ATTEMPTS: Final = click.option(
    "--all-attempts", is_flag=True, help="Include earlier attempts, not only the newest."
)


def target_options(command: _F) -> _F:
    """Add ``--to`` and ``--if-exists``, as the arguments `folder` and `if_exists`."""
    command = click.option(
        "--if-exists",
        type=click.Choice(get_args(IfExists)),
        default="error",
        show_default=True,
        help="Handling of existing files.",
    )(command)
    return click.option(
        "--to",
        "folder",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="FOLDER",
        help="Folder for the files; created if missing.  [default: folder named after the session]",
    )(command)


@frozen(kw_only=True)
class ListedMedia:
    """A file stored at Veriff."""

    file: MediaFile
    kind: str
    attempt_id: str | None


@frozen(kw_only=True)
class DownloadRequest:
    """The selection and target of a download.

    Attributes:
        session_id: The session.
        folder: Target folder.
        media_ids: Ids of the files; all files if empty.
        if_exists: The rule for existing files.
        all_attempts: Whether to include earlier attempts.
        resume_hint: How to continue after an interruption.
    """

    session_id: str
    folder: Path
    media_ids: Sequence[str]
    if_exists: IfExists
    all_attempts: bool
    resume_hint: str


@click.group()
def media() -> None:
    """List or download the media of a session, or inspect pictures before they are sent."""


media.add_command(inspect)
media.add_command(calibrate)


@media.command("list")
@click.argument("session_id", metavar="ID")
@_ALL_ATTEMPTS
@proxy_option
@env_file_option
@json_option
def list_media(*, session_id: str, all_attempts: bool, env_file: Path | None, for_program: bool) -> None:
    """List the media of session ID: those of the newest attempt, or of all with --all-attempts."""
    veriff = create_client(env_file)
    stored = run(_list_media(veriff, session_id, all_attempts=all_attempts))
    if for_program:
        print_json({"session_id": session_id, "media": [_media_document(item) for item in stored]})
        return
    output = stdout_output()
    if not stored:
        output.print(f"Session {session_id} has no media.")
        return
    # The columns that fit next to an id of 36 characters; --json has the others.
    names = ("id", "context", "mimetype", "size", *(("attempt_id",) if all_attempts else ()))
    rows = [[str(_media_document(item)[name] or "") for name in names] for item in stored]
    output.print_table([name.replace("_", " ") for name in names], rows)


@media.command()
@click.argument("session_id", metavar="ID")
@target_options
@click.option(
    "--media-id",
    "media_ids",
    multiple=True,
    metavar="ID",
    help="Only the media with this id, as in `media list`; may be repeated.",
)
@_ALL_ATTEMPTS
@proxy_option
@env_file_option
@json_option
def download(  # noqa: PLR0913  the options of the command
    *,
    session_id: str,
    folder: Path | None,
    if_exists: str,
    media_ids: Sequence[str],
    all_attempts: bool,
    env_file: Path | None,
    for_program: bool,  # noqa: ARG001  see CommandState
) -> None:
    """Download the media of session ID. Files appear only when complete and verified, and only you can read them."""
    veriff = create_client(env_file)
    request = DownloadRequest(
        session_id=session_id,
        folder=folder or Path(session_id),
        media_ids=media_ids,
        if_exists=cast("IfExists", if_exists),
        all_attempts=all_attempts,
        resume_hint="Downloaded files stay. To continue: "
        + command_line(_resume_command(session_id, folder, media_ids, all_attempts), env_file),
    )
    print_files(session_id, run(run_download(veriff, request, stderr_output(), current_command())))


def print_files(session_id: str, files: Sequence[DownloadedMedia]) -> None:
    """Show the files that were saved."""
    if current_command().for_program:
        print_json({"session_id": session_id, "downloaded": [_file_document(item) for item in files]})
        return
    rows = [[str(item.path), megabytes(item.size), "existing" if item.skipped else "new"] for item in files]
    stdout_output().print_table(("file", "size", ""), rows)


def _resume_command(session_id: str, folder: Path | None, media_ids: Sequence[str], all_attempts: bool) -> str:  # noqa: FBT001
    """Return the command that continues the download without downloading files again."""
    words = ["media", "download", session_id, *(("--to", str(folder)) if folder else ())]
    words += [word for media_id in media_ids for word in ("--media-id", media_id)]
    return shlex.join([*words, *(["--all-attempts"] if all_attempts else []), "--if-exists", "skip"])


async def list_session_media(veriff: VeriffClient, session_id: str, *, all_attempts: bool) -> list[ListedMedia]:
    """Return the media of a session, each file once, the newest attempt first."""
    session = veriff.session(session_id)
    stored = {item.file.id: item for item in _flatten(await session.media(), None)}
    if all_attempts:
        for attempt in await session.attempts():
            # A file of the newest attempt occurs again: it keeps its position, and now its attempt is known.
            stored |= {item.file.id: item for item in _flatten(await veriff.attempt_media(attempt.id), attempt.id)}
    return list(stored.values())


async def _list_media(veriff: VeriffClient, session_id: str, *, all_attempts: bool) -> list[ListedMedia]:
    async with veriff:
        return await list_session_media(veriff, session_id, all_attempts=all_attempts)


def _flatten(stored: MediaList, attempt_id: str | None) -> Iterable[ListedMedia]:
    kinds = {"picture": stored.images, "video": stored.videos, "chip": stored.nfc_documents}
    return [ListedMedia(file=file, kind=kind, attempt_id=attempt_id) for kind, files in kinds.items() for file in files]


async def run_download(
    veriff: VeriffClient, request: DownloadRequest, output: Output, state: CommandState
) -> list[DownloadedMedia]:
    """Download files. The client is closed at the end.

    Raises:
        ConfigurationError: An id is not among the media of the session.
    """
    async with veriff:
        session = veriff.session(request.session_id)
        state.facts["session_id"] = session.id
        output.print(f"Downloading the media of session {session.id}")
        with output.download_bars() as show:

            def update(event: DownloadProgress) -> None:
                state.set_resume_hint(request.resume_hint)
                show(event)

            with explain_existing(request.if_exists):
                if request.media_ids:
                    return await _download_selected(veriff, request, update)
                return await session.download_all(
                    request.folder, if_exists=request.if_exists, all_attempts=request.all_attempts, progress=update
                )


@contextmanager
def explain_existing(if_exists: IfExists) -> Generator[None]:
    """Name the options of the command in the error for a file that exists."""
    try:
        yield
    except MediaExistsError as error:
        name = "" if error.path is None else f"{error.path.name}: "
        msg = name + (
            "A file of another size, a folder or a link has the name of a file to download: remove it, give "
            "--if-exists replace, or give another folder with --to."
            if if_exists == "skip"
            else "A file is there already: give --if-exists skip or replace, or another folder with --to."
        )
        exists = MediaExistsError(msg)
        exists.path = error.path
        raise exists from None


async def _download_selected(
    veriff: VeriffClient, request: DownloadRequest, update: Callable[[DownloadProgress], None]
) -> list[DownloadedMedia]:
    stored = await list_session_media(veriff, request.session_id, all_attempts=request.all_attempts)
    files = {item.file.id: item.file for item in stored}
    # All ids are checked before the first download, so that a mistyped one leaves no partial result.
    for media_id in request.media_ids:
        if media_id not in files:
            msg = f"Session {request.session_id} has no media {media_id!r}: see the list, perhaps with --all-attempts."
            raise ConfigurationError(msg)
    folder = f"{request.folder}/"  # with the slash it means a folder, created if missing
    return [
        await veriff.download_media(files[media_id], folder, if_exists=request.if_exists, progress=update)
        for media_id in dict.fromkeys(request.media_ids)
    ]


def _media_document(stored: ListedMedia) -> dict[str, object]:
    file = stored.file
    facts: dict[str, object] = {
        "id": file.id,
        "context": file.context,
        "kind": stored.kind,
        "mimetype": file.mimetype,
        "size": file.size,
        "duration": file.duration,
        "attempt_id": stored.attempt_id,
    }
    return facts


def _file_document(file: DownloadedMedia) -> dict[str, object]:
    return {
        "media_id": file.media_id,
        "path": str(file.path),
        "size": file.size,
        "mimetype": file.mimetype,
        "skipped": file.skipped,
    }
