"""The media of a session: what there is, and bringing it down."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast, get_args

import click
from attrs import frozen

from veriff_async import ConfigurationError, MediaExistsError
from veriff_async._media.downloader import IfExists
from veriff_async.cli._options import env_file_option, json_option, proxy_option
from veriff_async.cli._output import megabytes
from veriff_async.cli._runtime import course, print_json, progress_screen, result_screen, run
from veriff_async.cli._settings import client_from_settings
from veriff_async.cli.decision_output import again

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from veriff_async import DownloadedMedia, DownloadProgress, VeriffClient
    from veriff_async.cli._output import Screen
    from veriff_async.cli._runtime import Course
    from veriff_async.models import MediaFile, MediaList

__all__ = ("Held", "Parcel", "media", "media_of", "run_download")

_ALL_ATTEMPTS: Final = click.option(
    "--all-attempts", is_flag=True, help="Take earlier attempts too, not the newest alone."
)


@frozen(kw_only=True)
class Held:
    """A file that Veriff holds.

    Attributes:
        file: The file.
        kind: ``picture``, ``video`` or ``chip``.
        attempt_id: The attempt that it belongs to, where attempts were asked for.
    """

    file: MediaFile
    kind: str
    attempt_id: str | None


@frozen(kw_only=True)
class Parcel:
    """What is to be brought down.

    Attributes:
        session_id: The session.
        folder: Where to.
        media_ids: Which files; all when there is none.
        if_exists: What becomes of files that are there already.
        all_attempts: Whether earlier attempts are asked for too.
        advice: How to go on when it breaks off.
    """

    session_id: str
    folder: Path
    media_ids: Sequence[str]
    if_exists: IfExists
    all_attempts: bool
    advice: str


@click.group()
def media() -> None:
    """List or download what Veriff holds of a session."""


@media.command("list")
@click.argument("session_id", metavar="ID")
@_ALL_ATTEMPTS
@proxy_option
@env_file_option
@json_option
def list_media(*, session_id: str, all_attempts: bool, env_file: Path | None, for_program: bool) -> None:
    """List the media of session ID, the newest attempt's alone if not said otherwise."""
    veriff = client_from_settings(env_file)
    found = run(_listed(veriff, session_id, all_attempts=all_attempts))
    if for_program:
        print_json({"session_id": session_id, "media": [_facts(one) for one in found]})
        return
    screen = result_screen()
    if not found:
        screen.say(f"Session {session_id} has no media.")
        return
    # What stands in a table must fit beside an id of 36 characters; the rest is for programs.
    names = ("id", "context", "mimetype", "size", *(("attempt_id",) if all_attempts else ()))
    rows = [[str(_facts(one)[name] or "") for name in names] for one in found]
    screen.table([name.replace("_", " ") for name in names], rows)


@media.command()
@click.argument("session_id", metavar="ID")
@click.option(
    "--to",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Folder for the files; it is made when it is missing.  [default: one named after the session]",
)
@click.option(
    "--if-exists",
    type=click.Choice(get_args(IfExists)),
    default="error",
    show_default=True,
    help="What becomes of files that are there already.",
)
@click.option(
    "--media-id", "media_ids", multiple=True, metavar="ID", help="Only this one, as in the list; may be repeated."
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
    for_program: bool,
) -> None:
    """Bring the media of session ID down, each whole and verified, readable by you alone."""
    veriff = client_from_settings(env_file)
    parcel = Parcel(
        session_id=session_id,
        folder=folder or Path(session_id),
        media_ids=media_ids,
        if_exists=cast("IfExists", if_exists),
        all_attempts=all_attempts,
        advice="What is down stays. To go on: " + again(_same(session_id, folder, media_ids, all_attempts), env_file),
    )
    files = run(run_download(veriff, parcel, progress_screen(), course()))
    if for_program:
        print_json({"session_id": session_id, "downloaded": [_receipt(one) for one in files]})
        return
    rows = [[str(one.path), megabytes(one.size), "was there" if one.skipped else "new"] for one in files]
    result_screen().table(("file", "size", ""), rows)


def _same(session_id: str, folder: Path | None, media_ids: Sequence[str], all_attempts: bool) -> str:  # noqa: FBT001
    """Return the command that leaves alone what is down already."""
    words = ["media", "download", session_id, *(("--to", str(folder)) if folder else ())]
    words += [word for media_id in media_ids for word in ("--media-id", media_id)]
    return shlex.join([*words, *(["--all-attempts"] if all_attempts else []), "--if-exists", "skip"])


async def media_of(veriff: VeriffClient, session_id: str, *, all_attempts: bool) -> list[Held]:
    """Return what Veriff holds of a session, each file once: the newest attempt first."""
    session = veriff.session(session_id)
    found = {one.file.id: one for one in _held(await session.media(), None)}
    if all_attempts:
        for attempt in await session.attempts():
            found |= {one.file.id: one for one in _held(await veriff.attempt_media(attempt.id), attempt.id)}
    return list(found.values())


async def _listed(veriff: VeriffClient, session_id: str, *, all_attempts: bool) -> list[Held]:
    async with veriff:
        return await media_of(veriff, session_id, all_attempts=all_attempts)


def _held(found: MediaList, attempt_id: str | None) -> Iterable[Held]:
    kinds = {"picture": found.images, "video": found.videos, "chip": found.nfc_documents}
    return [Held(file=file, kind=kind, attempt_id=attempt_id) for kind, files in kinds.items() for file in files]


async def run_download(veriff: VeriffClient, parcel: Parcel, screen: Screen, course: Course) -> list[DownloadedMedia]:
    """Bring files down with a client, which is closed at the end.

    Args:
        veriff: The client.
        parcel: Which files, and where to.
        screen: Where to show progress.
        course: Told how to go on, as soon as there is something to go on with.

    Raises:
        ConfigurationError: The session has no media of an id that was given.
    """
    async with veriff:
        session = veriff.session(parcel.session_id)
        course.facts["session_id"] = session.id
        screen.say(f"Downloading the media of session {session.id}")
        with screen.downloads() as shown:

            def moved(event: DownloadProgress) -> None:
                course.reached(parcel.advice)
                shown(event)

            try:
                if parcel.media_ids:
                    return await _chosen(veriff, parcel, moved)
                return await session.download_all(
                    parcel.folder, if_exists=parcel.if_exists, all_attempts=parcel.all_attempts, progress=moved
                )
            except MediaExistsError as error:
                name = "" if error.path is None else f"{error.path.name}: "
                msg = name + (
                    "A file of another size, a folder or a link has the name of a file to download: remove it, give "
                    "--if-exists replace, or give another folder with --to."
                    if parcel.if_exists == "skip"
                    else "A file is there already: give --if-exists skip or replace, or another folder with --to."
                )
                exists = MediaExistsError(msg)
                exists.path = error.path
                raise exists from None


async def _chosen(
    veriff: VeriffClient, parcel: Parcel, moved: Callable[[DownloadProgress], None]
) -> list[DownloadedMedia]:
    held = await media_of(veriff, parcel.session_id, all_attempts=parcel.all_attempts)
    files = {one.file.id: one.file for one in held}
    for media_id in parcel.media_ids:
        if media_id not in files:
            msg = f"Session {parcel.session_id} has no media {media_id!r}: see the list, perhaps with --all-attempts."
            raise ConfigurationError(msg)
    folder = f"{parcel.folder}/"  # the slash says that it is a folder, to be made if it is missing
    return [
        await veriff.download_media(files[media_id], folder, if_exists=parcel.if_exists, progress=moved)
        for media_id in dict.fromkeys(parcel.media_ids)
    ]


def _facts(held: Held) -> dict[str, object]:
    file = held.file
    facts: dict[str, object] = {
        "id": file.id,
        "context": file.context,
        "kind": held.kind,
        "mimetype": file.mimetype,
        "size": file.size,
        "duration": file.duration,
        "attempt_id": held.attempt_id,
    }
    return facts


def _receipt(file: DownloadedMedia) -> dict[str, object]:
    return {
        "media_id": file.media_id,
        "path": str(file.path),
        "size": file.size,
        "mimetype": file.mimetype,
        "skipped": file.skipped,
    }
